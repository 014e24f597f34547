//! Here-documents: which ones a line announces.

/// What ends a here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) text: String,
    /// Tabs before it do not count (`<<-`).
    pub(crate) strips_tabs: bool,
}

impl Mark {
    /// Whether a line is this mark.
    pub(crate) fn is(&self, line: &str) -> bool {
        (if self.strips_tabs { line.trim_start_matches('\t') } else { line }) == self.text
    }
}

/// The marks of the here-documents of an instruction, in their order; `line` is all of it, its continued lines put together.
pub(crate) fn marks(line: &str, escape: char) -> Vec<Mark> {
    let words = shell_words(line, escape);
    let mut keywords = words.iter().map(|word| word.to_ascii_uppercase());
    let takes_some = |keyword: Option<String>| keyword.is_some_and(|word| matches!(&*word, "RUN" | "COPY" | "ADD"));
    let has_some = match keywords.next() {
        Some(first) if first == "ONBUILD" => takes_some(keywords.next()),
        first => takes_some(first),
    };
    if !has_some {
        return Vec::new();
    }
    words.iter().filter_map(|word| mark(word)).collect()
}

/// The end mark of `<<EOF`, `<<-EOF`, `3<<"EOF"`.
fn mark(word: &str) -> Option<Mark> {
    let rest = word.trim_start_matches(|character: char| character.is_ascii_digit()).strip_prefix("<<")?;
    let (rest, strips_tabs) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
    let text = rest.replace(['"', '\''], "");
    (!text.is_empty() && !text.contains('<')).then_some(Mark { text, strips_tabs })
}

/// Words as a shell tells them apart: white space in quotes does not part them. Quotes stay.
fn shell_words(line: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == escape && quote != Some('\'') {
            word.push(character);
            word.extend(characters.next());
            continue;
        }
        match quote {
            None if character.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if matches!(character, '"' | '\'') => quote = Some(character),
            Some(open) if open == character => quote = None,
            _ => {}
        }
        word.push(character);
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_outside_of_quotes_announce_a_document() {
        for (line, expected) in [
            ("RUN <<EOF", vec!["EOF"]),
            ("run python3 - <<'EOF' 3<<-\"A.b\" && true", vec!["EOF", "A.b"]),
            ("COPY <<A <<B /d/", vec!["A", "B"]),
            ("ONBUILD RUN cat <<EOF | sh", vec!["EOF"]),
            ("RUN <<\"E F\"", vec!["E F"]),
            ("RUN cat <<EOF;", vec!["EOF;"]),
            ("RUN sh -c \"cat <<EOF\"", vec![]),
            ("RUN sh -c 'it'\\'' <<x'", vec![]),
            ("RUN [\"echo\", \"<<EOF\"]", vec![]),
            ("RUN cat <<<EOF $((1<<2)) $((1 << 2))", vec![]),
            ("CMD cat <<EOF", vec![]),
            ("ONBUILD CMD cat <<EOF", vec![]),
        ] {
            let found: Vec<String> = marks(line, '\\').into_iter().map(|mark| mark.text).collect();
            assert_eq!(found, expected, "{line}");
        }
        let tabs = &marks("RUN <<-X", '\\')[0];
        assert!(tabs.is("\tX") && !tabs.is(" X") && !marks("RUN <<X", '\\')[0].is("\tX"));
    }
}
