//! How large a value may become. Each step of a chain may double what the one before made, so that forty short lines would
//! take all memory there is.

use crate::value::{Data, Value};

/// What a value may weigh, in bytes: its texts, and something for each value in it.
const HEAVIEST: usize = 64 * 1024 * 1024;

/// What a value without text weighs.
const NODE: usize = 64;

/// How deep values may lie in each other; evaluation, printing and dropping go down by recursion.
const DEEPEST: usize = 256;

/// In which way a value is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// It weighs too much.
    #[error("it takes more than {} MiB", HEAVIEST / 1024 / 1024)]
    Weight,
    /// Lists and maps lie too deep in each other.
    #[error("it is more than {DEEPEST} levels deep")]
    Depth,
}

/// Whether a value is too large to be worked with further. Takes time by the size of the value, and no more than by the
/// bound.
pub fn check(value: &Value) -> Result<(), Excess> {
    let mut left = HEAVIEST;
    weigh(value, &mut left, DEEPEST)
}

fn weigh(value: &Value, left: &mut usize, levels: usize) -> Result<(), Excess> {
    let levels = levels.checked_sub(1).ok_or(Excess::Depth)?;
    let text = match &value.data {
        Data::String(text) => text.len(),
        _ => 0,
    };
    *left = left.checked_sub(NODE + text).ok_or(Excess::Weight)?;
    value.children().try_for_each(|child| weigh(child, left, levels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_usual_is_fine() {
        let text = Value::string("x".repeat(16 * 1024 * 1024));
        assert_eq!(check(&Value::tuple(vec![text, Value::bool(true)])), Ok(()));
    }

    #[test]
    fn a_value_that_doubles_ends() {
        let mut value = Value::string("x");
        let mut steps = 0;
        let excess = loop {
            value = Value::tuple(vec![value.clone(), value]);
            steps += 1;
            if let Err(excess) = check(&value) {
                break excess;
            }
        };
        assert_eq!(excess, Excess::Weight);
        assert!(steps < 21, "{steps}");
    }

    #[test]
    fn depth_is_bounded() {
        let mut value = Value::bool(true);
        let mut depth = 1;
        while check(&value).is_ok() {
            value = Value::tuple(vec![value]);
            depth += 1;
        }
        assert_eq!(check(&value), Err(Excess::Depth));
        assert_eq!(depth, DEEPEST + 1);
    }
}
