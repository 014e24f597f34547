//! Where the tokens are guesswork.

use std::ops::Range;

/// Places that a mistake of the lexer makes doubtful; thousands of them are asked for thousands of times.
pub(super) struct Poisoned {
    /// Where a range starts, and how far this one or one before it reaches, in order.
    reaches: Vec<(usize, usize)>,
}

impl Poisoned {
    pub(super) fn new(mut ranges: Vec<Range<usize>>) -> Poisoned {
        ranges.sort_by_key(|range| range.start);
        let mut farthest = 0;
        let reach = |range: Range<usize>| {
            farthest = range.end.max(farthest);
            (range.start, farthest)
        };
        Poisoned { reaches: ranges.into_iter().map(reach).collect() }
    }

    /// Whether an offset lies in one of them, both ends included.
    pub(super) fn holds(&self, offset: usize) -> bool {
        let before = self.reaches.partition_point(|(start, _)| *start <= offset);
        before.checked_sub(1).is_some_and(|last| offset <= self.reaches[last].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_may_overlap_and_come_in_any_order() {
        let poisoned = Poisoned::new(vec![20..22, 2..10, 4..5, 22..22]);
        let held: Vec<usize> = (0..30).filter(|offset| poisoned.holds(*offset)).collect();
        assert_eq!(held, (2..=10).chain(20..=22).collect::<Vec<_>>());
        assert!(!Poisoned::new(Vec::new()).holds(0));
    }
}
