//! What shows in a Dockerfile before anything is built: instructions that there are not, stages that are missing, files that
//! `.dockerignore` keeps away from a `COPY`.

use std::path::Path;

use kiln_core::{Diagnostic, SourceId, Span, suggest};
use kiln_docker::ignore::IgnoreRules;

use crate::context::tidy;
use crate::dockerfile::{Dockerfile, INSTRUCTIONS, Instruction, Word};
use crate::fault::mistake;

/// Instructions that take back what the base says, or do nothing, where nothing follows.
const MAY_BE_EMPTY: [&str; 3] = ["CMD", "ENTRYPOINT", "RUN"];

/// Rules with the file they come from.
pub(crate) struct Ignored {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) rules: IgnoreRules,
}

impl Ignored {
    /// The rules that hold for a context: those beside the Dockerfile, else the context's; a sentence where they cannot be read.
    pub(crate) fn of(dockerfile: &str, own: Option<&str>, context: &Path) -> Result<Option<Ignored>, String> {
        let (name, text) = match own {
            Some(text) => (format!("{dockerfile}.dockerignore"), text.to_owned()),
            None => {
                let path = tidy(&context.join(".dockerignore"));
                match std::fs::read_to_string(&path) {
                    Ok(text) => (path.display().to_string(), text),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
                }
            }
        };
        Ok(Some(Ignored { name, rules: IgnoreRules::parse(&text), text }))
    }
}

/// What is wrong with it, as far as the built-in frontend is asked: another one (`# syntax`) may know more.
pub(crate) fn mistakes(file: &Dockerfile) -> Vec<Diagnostic> {
    if file.syntax.is_some() {
        return Vec::new();
    }
    let mut found = Vec::new();
    if file.instructions.is_empty() {
        found.push(mistake("dockerfile", file, 0..0, "the Dockerfile is empty"));
    } else if file.stages().next().is_none() {
        // BuildKit itself says so of most; one of `ARG`s alone ends the whole engine.
        let range = file.instructions[0].range.clone();
        found.push(mistake("dockerfile", file, range, "the Dockerfile has no `FROM`"));
    }
    for instruction in &file.instructions {
        if !INSTRUCTIONS.contains(&instruction.keyword.as_str()) {
            let start = instruction.range.start;
            let range = start..start + instruction.keyword.len();
            let title = format!("a Dockerfile has no instruction `{}`", instruction.keyword);
            let diagnostic = mistake("dockerfile", file, range, title);
            found.push(match suggest::nearest(&instruction.keyword, INSTRUCTIONS) {
                Some(nearest) => diagnostic.help(format!("did you mean `{nearest}`?")),
                None => diagnostic,
            });
        } else if instruction.words.is_empty() && !MAY_BE_EMPTY.contains(&instruction.keyword.as_str()) {
            let title = format!("`{}` says nothing", instruction.keyword);
            found.push(mistake("dockerfile", file, instruction.range.clone(), title));
        }
    }
    found
}

/// Whether the stage asked for is there; a title and a help where it is not.
pub(crate) fn missing_target(file: &Dockerfile, target: &str) -> Option<(String, String)> {
    let names: Vec<&str> = file.stages().filter_map(|(_, name)| name).collect();
    let count = file.stages().count();
    let is_there = names.iter().any(|name| name.eq_ignore_ascii_case(target))
        || target.parse::<usize>().is_ok_and(|index| index < count);
    if is_there || file.syntax.is_some() {
        return None;
    }
    let help = match suggest::nearest(target, names.iter().copied()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None if names.is_empty() => "it names no stage: `FROM image AS name` does".to_owned(),
        None => format!("its stages: {}", suggest::enumerate(names.iter().copied())),
    };
    Some((format!("{} has no stage `{target}`", file.name), help))
}

/// Sources of `COPY` and `ADD` that the rules keep out of the context, in the stages that go into the target.
pub(crate) fn ignored_sources(
    file: &Dockerfile,
    ignored: &Ignored,
    target: Option<&str>,
    given: &std::collections::BTreeMap<String, String>,
) -> Vec<Diagnostic> {
    let needed = file.needed(target, given).into_iter();
    let from_context =
        needed.filter(|found| matches!(found.keyword.as_str(), "COPY" | "ADD") && found.flag("from").is_none());
    from_context
        .flat_map(|instruction| sources(instruction).map(move |word| (instruction, word)))
        .filter_map(|(_, word)| {
            let path = word.text.trim_start_matches("./").trim_matches('/');
            let is_elsewhere = path.is_empty() || path == "." || path.contains("://") || path.starts_with("git@");
            // With wildcards, others may match; what a variable is, its stage decides.
            if is_elsewhere || path.contains(['*', '?', '[', '$', '\\']) || path.starts_with("<<") {
                return None;
            }
            let rule = ignored.rules.deciding(path).filter(|rule| !rule.is_exception)?;
            if ignored.rules.may_hold_exception(path) {
                return None;
            }
            let title = format!("`{path}` is not in the context: {}:{} leaves it out", ignored.name, rule.line);
            let line = line_range(&ignored.text, rule.line);
            let place = Span::new(SourceId(SourceId::OWN.0 + 1), line);
            Some(
                mistake("dockerignore", file, word.range.clone(), title)
                    .text(ignored.name.clone(), ignored.text.as_str())
                    .also(place, "by this pattern")
                    .help(format!("write `!{path}` below it in {}, or copy something else", ignored.name)),
            )
        })
        .collect()
}

/// What is copied: all words but the last, of the plain form and of the list form.
fn sources(instruction: &Instruction) -> impl Iterator<Item = Word> {
    let mut words = listed(instruction).unwrap_or_else(|| instruction.arguments().to_vec());
    words.pop();
    words.into_iter()
}

/// The words of `["a b", "c"]`.
fn listed(instruction: &Instruction) -> Option<Vec<Word>> {
    let words = instruction.arguments();
    let (first, last) = (words.first()?, words.last()?);
    let text = words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
    let list: Vec<String> = serde_json::from_str(&text).ok()?;
    let place = |entry: &String| {
        let quoted = format!("\"{entry}\"");
        let found = words.iter().find_map(|word| Some(word.range.start + word.text.find(&quoted)? + 1));
        found.map_or(first.range.start..last.range.end, |start| start..start + entry.len())
    };
    Some(list.iter().map(|entry| Word { text: entry.clone(), range: place(entry) }).collect())
}

fn line_range(text: &str, line: usize) -> std::ops::Range<usize> {
    let start = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum::<usize>().min(text.len());
    let end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
    start..end
}

#[cfg(test)]
mod tests {
    use kiln_core::{SourceMap, render};

    use super::*;

    #[test]
    fn a_source_that_is_ignored_names_both_lines() {
        let file = Dockerfile::parse(
            "Dockerfile",
            "FROM x\nCOPY src/app docs/a.md /app/\nCOPY --from=x docs /d\nADD docs* /\n",
        );
        let text = "# words\ndocs\n";
        let ignored = Ignored { name: ".dockerignore".into(), text: text.into(), rules: IgnoreRules::parse(text) };
        let found = ignored_sources(&file, &ignored, None, &Default::default());
        assert_eq!(found.len(), 1);
        insta::assert_snapshot!(render::render(&found[0], &SourceMap::new(), false));
        let text = "*\n!src/**\n";
        let ignored = Ignored { name: ".dockerignore".into(), text: text.into(), rules: IgnoreRules::parse(text) };
        let titles: Vec<_> =
            ignored_sources(&file, &ignored, None, &Default::default()).iter().map(|one| one.title.clone()).collect();
        assert_eq!(titles, ["`docs/a.md` is not in the context: .dockerignore:1 leaves it out"]);
    }

    #[test]
    fn what_only_other_stages_or_variables_name_is_left_to_buildkit() {
        let text = "ARG DIR=tests\nFROM x AS test\nCOPY tests /\nFROM x AS prod\nARG DIR=src\nCOPY $DIR /\n";
        let file = Dockerfile::parse("Dockerfile", text);
        let ignored =
            Ignored { name: ".dockerignore".into(), text: "tests\n".into(), rules: IgnoreRules::parse("tests\n") };
        let found = |target| ignored_sources(&file, &ignored, target, &Default::default()).len();
        assert_eq!((found(None), found(Some("prod")), found(Some("test"))), (0, 0, 1));
    }

    #[test]
    fn instructions_and_stages_that_are_not_there() {
        let file = Dockerfile::parse("Dockerfile", "FROM x AS build\nRUM make\nCOPY\n");
        let titles: Vec<_> = mistakes(&file).iter().map(|one| one.title.clone()).collect();
        assert_eq!(titles, ["a Dockerfile has no instruction `RUM`", "`COPY` says nothing"]);
        assert!(missing_target(&file, "BUILD").is_none() && missing_target(&file, "0").is_none());
        let (title, help) = missing_target(&file, "biuld").unwrap();
        assert_eq!((title.as_str(), help.as_str()), ("Dockerfile has no stage `biuld`", "did you mean `build`?"));
        let other = Dockerfile::parse("Dockerfile", "# syntax=example/frontend\nRUM x\n");
        assert!(mistakes(&other).is_empty());
    }
}
