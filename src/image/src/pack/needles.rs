//! Looks for secrets in what goes into a layer.

use aho_corasick::{AhoCorasick, MatchKind};

use crate::error::ImageError;

/// Looks for texts in streams of bytes, also where they lie across the border of two pieces.
pub(crate) struct Needles {
    automaton: AhoCorasick,
    /// Indexes of the caller's list: empty needles are not looked for.
    indexes: Vec<usize>,
    /// The longest, less one byte: what two pieces must share.
    overlap: usize,
    /// The end of what was seen of this stream.
    tail: Vec<u8>,
    /// The tail and the start of the next piece.
    border: Vec<u8>,
    /// Found in this stream.
    found: Vec<usize>,
}

impl Needles {
    /// `None` where there is nothing to look for.
    pub(crate) fn new(needles: &[Vec<u8>]) -> Result<Option<Needles>, ImageError> {
        let indexes: Vec<usize> = (0..needles.len()).filter(|index| !needles[*index].is_empty()).collect();
        let Some(longest) = indexes.iter().map(|index| needles[*index].len()).max() else { return Ok(None) };
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostFirst)
            .build(indexes.iter().map(|index| &needles[*index]))
            .map_err(|error| ImageError::Malformed {
                what: "the list of secrets".to_owned(),
                problem: error.to_string(),
            })?;
        let (tail, border, found) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Some(Needles { automaton, indexes, overlap: longest - 1, tail, border, found }))
    }

    /// The next piece of the stream.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        if !self.tail.is_empty() {
            self.border.clear();
            self.border.extend_from_slice(&self.tail);
            self.border.extend_from_slice(&piece[..piece.len().min(self.overlap)]);
            note(&self.automaton, &self.indexes, &self.border, &mut self.found);
        }
        note(&self.automaton, &self.indexes, piece, &mut self.found);
        if piece.len() >= self.overlap {
            self.tail.clear();
            self.tail.extend_from_slice(&piece[piece.len() - self.overlap..]);
        } else {
            let surplus = (self.tail.len() + piece.len()).saturating_sub(self.overlap);
            self.tail.drain(..surplus);
            self.tail.extend_from_slice(piece);
        }
    }

    /// Ends the stream: what was found in it.
    pub(crate) fn finish(&mut self) -> Vec<usize> {
        self.tail.clear();
        std::mem::take(&mut self.found)
    }
}

fn note(automaton: &AhoCorasick, indexes: &[usize], bytes: &[u8], found: &mut Vec<usize>) {
    for hit in automaton.find_iter(bytes) {
        let index = indexes[hit.pattern().as_usize()];
        if !found.contains(&index) {
            found.push(index);
        }
    }
}
