//! What formatting changes, as a unified diff. Formatting neither adds nor removes lines, so the n-th line of the one text
//! is compared with the n-th of the other.

use std::fmt::Write;

/// Unchanged lines that are shown around changed ones.
const CONTEXT: usize = 3;

/// The differing lines with a few around them; empty where there are none.
pub(super) fn unified(name: &str, old: &str, new: &str) -> String {
    let old: Vec<&str> = old.split_inclusive('\n').collect();
    let new: Vec<&str> = new.split_inclusive('\n').collect();
    let mut changed = (0..old.len().max(new.len())).filter(|line| old.get(*line) != new.get(*line)).peekable();
    let mut out = format!("--- old/{name}\n+++ new/{name}\n");
    while let Some(first) = changed.next() {
        let mut last = first;
        while let Some(next) = changed.next_if(|next| *next <= last + 2 * CONTEXT + 1) {
            last = next;
        }
        let start = first.saturating_sub(CONTEXT);
        let old_end = (last + 1 + CONTEXT).min(old.len());
        let new_end = (last + 1 + CONTEXT).min(new.len());
        let _ = writeln!(out, "@@ -{} +{} @@", lines(start, old_end), lines(start, new_end));
        hunk(&mut out, &old, &new, start, old_end.max(new_end));
    }
    out
}

/// Where a hunk begins and how many lines it has, counted from 1; one line goes without saying.
fn lines(start: usize, end: usize) -> String {
    match end.saturating_sub(start) {
        0 => format!("{start},0"),
        1 => format!("{}", start + 1),
        count => format!("{},{count}", start + 1),
    }
}

fn hunk(out: &mut String, old: &[&str], new: &[&str], start: usize, end: usize) {
    let mut line = start;
    while line < end {
        let first = line;
        while line < end && old.get(line) != new.get(line) {
            line += 1;
        }
        old.iter().take(line).skip(first).for_each(|text| push(out, '-', text));
        new.iter().take(line).skip(first).for_each(|text| push(out, '+', text));
        if line < end {
            push(out, ' ', old.get(line).unwrap_or(&""));
            line += 1;
        }
    }
}

fn push(out: &mut String, mark: char, text: &str) {
    out.push(mark);
    out.push_str(text);
    if !text.ends_with('\n') {
        out.push_str("\n\\ No newline at end of file\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_far_apart_have_hunks_of_their_own() {
        let old: String = (1..=20).map(|line| format!("{line}\n")).collect();
        let new = old
            .replace("\n3\n", "\n 3\n")
            .replace("\n4\n", "\n 4\n")
            .replace("\n11\n", "\n 11\n")
            .replace("20\n", " 20");
        let expected = "--- old/a\n+++ new/a\n@@ -1,14 +1,14 @@\n 1\n 2\n-3\n-4\n+ 3\n+ 4\n 5\n 6\n 7\n 8\n 9\n 10\n-11\n+ \
                        11\n 12\n 13\n 14\n@@ -17,4 +17,4 @@\n 17\n 18\n 19\n-20\n+ 20\n\\ No newline at end of file\n";
        assert_eq!(unified("a", &old, &new), expected);
    }

    #[test]
    fn one_line_goes_without_a_count() {
        assert_eq!(unified("a", "x\n", "y\n"), "--- old/a\n+++ new/a\n@@ -1 +1 @@\n-x\n+y\n");
    }
}
