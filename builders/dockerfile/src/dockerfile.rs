//! Dockerfiles, read as far as places in them matter: which instructions there are, on which lines, with which words.
//!
//! What an instruction means is BuildKit's business alone; what is read here serves messages, and finds the names that stand
//! for images.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use kiln_buildkit::SourceRange;

use crate::heredoc::{self, Mark};

/// All instructions that there are.
pub(crate) const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// A Dockerfile.
#[derive(Debug, Clone)]
pub(crate) struct Dockerfile {
    /// What messages call it.
    pub(crate) name: String,
    pub(crate) text: Arc<str>,
    pub(crate) instructions: Vec<Instruction>,
    /// `# syntax=...`: another frontend than the built-in one reads it.
    pub(crate) syntax: Option<String>,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// In capitals.
    pub(crate) keyword: String,
    /// The bytes that it takes, without the newline at its end; with its here-documents.
    pub(crate) range: Range<usize>,
    /// Its first and last line, from 1.
    pub(crate) lines: (usize, usize),
    /// Its words after the keyword, with their bytes; a word goes to the next white space.
    pub(crate) words: Vec<Word>,
    /// It has a here-document.
    pub(crate) has_heredoc: bool,
}

/// A word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) range: Range<usize>,
}

impl Instruction {
    /// Flags in front: `--from=base`.
    pub(crate) fn flags(&self) -> impl Iterator<Item = &Word> {
        self.words.iter().take_while(|word| word.text.starts_with("--"))
    }

    /// What follows the flags.
    pub(crate) fn arguments(&self) -> &[Word] {
        &self.words[self.flags().count()..]
    }

    /// Words that stand for images or stages.
    pub(crate) fn references(&self) -> Vec<Word> {
        match self.keyword.as_str() {
            "FROM" => self.arguments().first().map(unquoted).into_iter().collect(),
            "COPY" | "ADD" => self.flag("from").into_iter().collect(),
            "RUN" => self.flags().filter_map(mount_source).collect(),
            // `ONBUILD COPY --from=` is for the children of this image.
            _ => Vec::new(),
        }
    }

    /// The value of a flag, with its bytes.
    pub(crate) fn flag(&self, name: &str) -> Option<Word> {
        let prefix = format!("--{name}=");
        self.flags().find_map(|word| {
            let text = word.text.strip_prefix(&prefix)?.to_owned();
            Some(Word { text, range: word.range.start + prefix.len()..word.range.end })
        })
    }
}

/// A word without the quotes around it.
fn unquoted(word: &Word) -> Word {
    let text = word.text.trim_matches(['"', '\'']);
    let start = word.range.start + word.text.find(text).unwrap_or(0);
    Word { text: text.to_owned(), range: start..start + text.len() }
}

/// `NAME` of `--mount=type=bind,from=NAME,...`.
fn mount_source(flag: &Word) -> Option<Word> {
    let mut at = "--mount=".len();
    for pair in flag.text.strip_prefix("--mount=")?.split(',') {
        let unquoted = pair.trim_start_matches(['"', '\'']);
        if let Some(name) = unquoted.strip_prefix("from=") {
            let name = name.trim_end_matches(['"', '\'']);
            let start = flag.range.start + at + (pair.len() - unquoted.len()) + "from=".len();
            return Some(Word { text: name.to_owned(), range: start..start + name.len() });
        }
        at += pair.len() + 1;
    }
    None
}

impl Dockerfile {
    /// Reads it for a build with these arguments, one of which may name another frontend.
    pub(crate) fn parse_for(name: &str, text: &str, given: &BTreeMap<String, String>) -> Dockerfile {
        let file = Dockerfile::parse(name, text);
        Dockerfile { syntax: given.get("BUILDKIT_SYNTAX").cloned().or(file.syntax), ..file }
    }

    pub(crate) fn parse(name: &str, text: &str) -> Dockerfile {
        let (syntax, escape) = directives(text);
        let mut reader = Reader { text, escape, at: 0, line: 1 };
        let mut instructions = Vec::new();
        while let Some(instruction) = reader.instruction() {
            instructions.push(instruction);
        }
        Dockerfile { name: name.to_owned(), text: text.into(), instructions, syntax }
    }

    /// The `FROM`s, each with the name of its stage.
    pub(crate) fn stages(&self) -> impl Iterator<Item = (&Instruction, Option<&str>)> {
        let froms = self.instructions.iter().filter(|instruction| instruction.keyword == "FROM");
        froms.map(|from| {
            let words = from.arguments();
            let is_named = words.get(1).is_some_and(|word| word.text.eq_ignore_ascii_case("as"));
            (from, words.get(2).filter(|_| is_named).map(|word| word.text.as_str()))
        })
    }

    /// The instructions of the stages that go into the target, or into the last one: BuildKit passes over all others.
    pub(crate) fn needed(&self, target: Option<&str>, given: &BTreeMap<String, String>) -> Vec<&Instruction> {
        let arguments = self.global_arguments(given);
        let bodies: Vec<&[Instruction]> = self
            .instructions
            .chunk_by(|_, next| next.keyword != "FROM")
            .skip_while(|body| body[0].keyword != "FROM")
            .collect();
        let names: Vec<Option<&str>> = self.stages().map(|(_, name)| name).collect();
        let find = |text: &str, before: usize| {
            let is_it = |name: &Option<&str>| name.is_some_and(|name| name.eq_ignore_ascii_case(text));
            names[..before].iter().rposition(is_it)
        };
        let numbered = |text: &str, before: usize| text.parse().ok().filter(|index: &usize| *index < before);
        let count = bodies.len();
        let wanted = target.and_then(|target| find(target, count).or_else(|| numbered(target, count)));
        let mut waiting: Vec<usize> = wanted.or(count.checked_sub(1)).into_iter().collect();
        let mut is_needed = vec![false; count];
        while let Some(index) = waiting.pop() {
            if std::mem::replace(&mut is_needed[index], true) {
                continue;
            }
            for instruction in bodies[index] {
                for word in instruction.references() {
                    let name = expand(&word.text, &arguments);
                    let number = numbered(&name, index).filter(|_| instruction.keyword != "FROM");
                    waiting.extend(find(&name, index).or(number));
                }
            }
        }
        bodies.iter().zip(is_needed).filter(|(_, is_needed)| *is_needed).flat_map(|(body, _)| *body).collect()
    }

    /// `ARG`s before the first `FROM`, with what the template gives.
    pub(crate) fn global_arguments(&self, given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut known = BTreeMap::new();
        for instruction in self.instructions.iter().take_while(|instruction| instruction.keyword != "FROM") {
            for word in instruction.words.iter().filter(|_| instruction.keyword == "ARG") {
                let (name, default) = word.text.split_once('=').unwrap_or((&word.text, ""));
                let default = expand(default.trim_matches(['"', '\'']), &known);
                known.insert(name.to_owned(), given.get(name).cloned().unwrap_or(default));
            }
        }
        known
    }

    /// The line of `# syntax=...`.
    pub(crate) fn syntax_line(&self) -> Option<SourceRange> {
        let before = self.instructions.first().map_or(self.text.len(), |first| first.range.start);
        let is_syntax = |line: &str| {
            let comment = line.trim_start_matches('\u{feff}').trim().strip_prefix('#');
            let name = comment.and_then(|comment| comment.split_once('=')).map(|(name, _)| name);
            name.is_some_and(|name| name.trim().eq_ignore_ascii_case("syntax"))
        };
        let line = self.text[..before].lines().position(is_syntax)? + 1;
        Some(SourceRange { first: line, last: line })
    }

    /// The bytes of some lines, both inclusive, from 1.
    pub(crate) fn range_of_lines(&self, first: usize, last: usize) -> Range<usize> {
        let starts: Vec<usize> =
            std::iter::once(0).chain(self.text.match_indices('\n').map(|(index, _)| index + 1)).collect();
        let start = starts.get(first.saturating_sub(1)).copied().unwrap_or(self.text.len());
        let end = starts.get(last).map_or(self.text.len(), |next| next - 1);
        let end = start + self.text[start..end.max(start)].trim_end().len();
        start..end
    }
}

/// `$NAME`, `${NAME}` and `${NAME:-default}` by what is known; others stay.
pub(crate) fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        let (name, default, length) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((inner, _)) => {
                let (name, default) = match inner.split_once(":-") {
                    Some((name, default)) => (name, Some(default)),
                    None => (inner, None),
                };
                (name, default, inner.len() + 2)
            }
            None => {
                let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
                let name = &after[..after.find(|character| !is_name(character)).unwrap_or(after.len())];
                (name, None, name.len())
            }
        };
        match known.get(name).map(String::as_str).filter(|value| !value.is_empty()).or(default) {
            Some(value) => out.push_str(value),
            None => out.push_str(&rest[dollar..=dollar + length]),
        }
        rest = &after[length..];
    }
    out.push_str(rest);
    out
}

/// Comments at the very top that say how to read the rest.
fn directives(text: &str) -> (Option<String>, char) {
    let (mut syntax, mut escape) = (None, '\\');
    for line in text.trim_start_matches('\u{feff}').lines() {
        let Some((name, value)) = line.trim().strip_prefix('#').and_then(|comment| comment.split_once('=')) else {
            break;
        };
        match name.trim().to_ascii_lowercase().as_str() {
            "syntax" => syntax = Some(value.trim().to_owned()),
            "escape" => escape = value.trim().chars().next().unwrap_or('\\'),
            "check" => {}
            _ => break,
        }
    }
    (syntax, escape)
}

struct Reader<'a> {
    text: &'a str,
    escape: char,
    at: usize,
    line: usize,
}

impl<'a> Reader<'a> {
    /// The next line with its start, without its newline.
    fn take_line(&mut self) -> Option<(usize, &'a str)> {
        if self.at >= self.text.len() {
            return None;
        }
        let start = self.at;
        let end = self.text[start..].find('\n').map_or(self.text.len(), |newline| start + newline);
        self.at = (end + 1).min(self.text.len().max(end + 1));
        self.line += 1;
        Some((start, self.text[start..end].trim_end_matches('\r')))
    }

    fn instruction(&mut self) -> Option<Instruction> {
        let (start, first, line) = loop {
            let line = self.line;
            let (start, text) = self.take_line()?;
            let trimmed = text.trim_start_matches('\u{feff}').trim();
            if !trimmed.is_empty() && !trimmed.starts_with('#') {
                break (start, text, line);
            }
        };
        let mut words = Vec::new();
        let mut whole = String::new();
        let mut end = start + first.trim_end().len();
        let mut current = Some((start, first));
        let mut last = line;
        while let Some((start, text)) = current.take() {
            let body = text.trim_end();
            let continued = body.strip_suffix(self.escape);
            split(continued.unwrap_or(body), start, &mut words);
            whole.push_str(continued.unwrap_or(body));
            end = start + body.len();
            if continued.is_some() {
                // Comments and empty lines between are not part of it.
                current = loop {
                    last = self.line;
                    match self.take_line() {
                        Some((_, text)) if text.trim().is_empty() || text.trim_start().starts_with('#') => {}
                        next => break next,
                    }
                };
            }
        }
        if words.is_empty() {
            return self.instruction();
        }
        let keyword = words.remove(0).text.trim_start_matches('\u{feff}').to_ascii_uppercase();
        let mut instruction =
            Instruction { keyword, range: start..end, lines: (line, last.max(line)), words, has_heredoc: false };
        self.heredocs(&heredoc::marks(whole.trim_start_matches('\u{feff}'), self.escape), &mut instruction);
        Some(instruction)
    }

    /// Takes the lines up to the last mark. Where they end before it there is no document: older engines know none, and `<<`
    /// is the shell's alone there.
    fn heredocs(&mut self, marks: &[Mark], instruction: &mut Instruction) {
        let before = (self.at, self.line);
        let (mut end, mut last) = (instruction.range.end, instruction.lines.1);
        for mark in marks {
            loop {
                last = self.line;
                let Some((start, text)) = self.take_line() else {
                    (self.at, self.line) = before;
                    return;
                };
                end = start + text.len();
                if mark.is(text) {
                    break;
                }
            }
        }
        instruction.has_heredoc = !marks.is_empty();
        (instruction.range.end, instruction.lines.1) = (end, last);
    }
}

fn split(text: &str, start: usize, words: &mut Vec<Word>) {
    let mut rest = 0;
    while let Some(skip) = text[rest..].find(|character: char| !character.is_whitespace()) {
        let from = rest + skip;
        let to = text[from..].find(char::is_whitespace).map_or(text.len(), |length| from + length);
        words.push(Word { text: text[from..to].to_owned(), range: start + from..start + to });
        rest = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "# syntax=docker/dockerfile:1.4\n# words\nARG BASE=debian\nFROM ${BASE} AS one\n\nRUN apt-get \\\n  # why\n  update && \\\n  true\nCOPY <<EOF /etc/motd\nFROM here\nEOF\nFROM --platform=linux/amd64 one\nCOPY --from=one a b\n";

    #[test]
    fn instructions_have_lines_and_words() {
        let file = Dockerfile::parse("Dockerfile", EXAMPLE);
        let seen: Vec<(&str, (usize, usize))> =
            file.instructions.iter().map(|found| (found.keyword.as_str(), found.lines)).collect();
        let expected = [
            ("ARG", (3, 3)),
            ("FROM", (4, 4)),
            ("RUN", (6, 9)),
            ("COPY", (10, 12)),
            ("FROM", (13, 13)),
            ("COPY", (14, 14)),
        ];
        assert_eq!(seen, expected);
        assert_eq!(file.syntax.as_deref(), Some("docker/dockerfile:1.4"));
        assert!(file.instructions[3].has_heredoc);
        let stages: Vec<_> = file.stages().map(|(from, name)| (from.arguments()[0].text.as_str(), name)).collect();
        assert_eq!(stages, [("${BASE}", Some("one")), ("one", None)]);
        let from = file.instructions[5].flag("from").unwrap();
        assert_eq!((&EXAMPLE[from.range.clone()], from.text.as_str()), ("one", "one"));
        assert_eq!(&EXAMPLE[file.range_of_lines(6, 9)], &EXAMPLE[file.instructions[2].range.clone()]);
    }

    #[test]
    fn arguments_before_the_first_stage_are_known() {
        let file = Dockerfile::parse("x", "ARG A=one\nARG B=\"${A}-two\"\nARG C\nFROM $B\nARG D=no\n");
        let given = BTreeMap::from([("A".to_owned(), "given".to_owned())]);
        let known = file.global_arguments(&given);
        assert_eq!(expand("$B", &known), "given-two");
        assert_eq!(expand("${C:-c}/${D}$", &known), "c/${D}$");
    }

    #[test]
    fn stages_that_the_target_does_not_need_are_left_out() {
        let text = "ARG UP=Base\nFROM x AS base\nCOPY 0 /\nFROM y AS test\nCOPY 1 /\nFROM z\nCOPY 2 /\nFROM ${UP} AS tools\nCOPY 3 /\nFROM base AS prod\nRUN --mount=from=tools,target=/t true\nCOPY --from=2 4 /\n";
        let file = Dockerfile::parse("x", text);
        let copied = |file: &Dockerfile, target: Option<&str>| -> String {
            let needed = file.needed(target, &BTreeMap::new());
            needed
                .iter()
                .filter(|found| found.keyword == "COPY")
                .map(|found| found.arguments()[0].text.clone())
                .collect()
        };
        assert_eq!(copied(&file, None), "0234");
        assert_eq!(copied(&file, Some("TOOLS")), "03");
        assert_eq!(copied(&file, Some("1")), "1");
        assert_eq!(copied(&file, Some("missing")), "0234", "which is told elsewhere");
        assert_eq!(copied(&Dockerfile::parse("x", "ARG A\n"), None), "");
        let own = Dockerfile::parse("x", "FROM a AS a\nCOPY 0 /\nFROM a AS a\nCOPY 1 /\n");
        assert_eq!(copied(&own, Some("a")), "01", "a name means the stage before");
    }

    #[test]
    fn odd_texts_end() {
        for text in ["", "\n", "RUN \\", "RUN <<EOF", "\\\n\\\n", "FROM", "# escape=`\nRUN a `\n b\n"] {
            Dockerfile::parse("x", text);
        }
        let file = Dockerfile::parse("x", "# escape=`\nRUN a `\n b\nUSER c");
        assert_eq!(file.instructions.len(), 2);
    }

    fn keywords(text: &str) -> Vec<String> {
        Dockerfile::parse("x", text).instructions.into_iter().map(|found| found.keyword).collect()
    }

    #[test]
    fn what_looks_like_a_here_document_hides_nothing() {
        assert_eq!(keywords("FROM x\nRUN sh -c \"cat <<EOF\"\nFROM y\n"), ["FROM", "RUN", "FROM"]);
        assert_eq!(keywords("FROM x\nRUN echo $((1 <<2 ))\nFROM y\n"), ["FROM", "RUN", "FROM"]);
        assert_eq!(keywords("FROM x\nONBUILD RUN <<EOF \\\n sh\necho\nEOF\nFROM y\n"), ["FROM", "ONBUILD", "FROM"]);
    }

    #[test]
    fn quotes_are_no_part_of_names() {
        let file = Dockerfile::parse("x", "FROM \"$A\"\nRUN --mount=\"from=base,target=/b\" true\n");
        let names: Vec<String> =
            file.instructions.iter().flat_map(Instruction::references).map(|word| word.text).collect();
        assert_eq!(names, ["$A", "base"]);
        let word = &file.instructions[1].references()[0];
        assert_eq!(&file.text[word.range.clone()], "base");
    }
}
