//! What goes wrong, told with its place in the Dockerfile.

use std::ops::Range;

use kiln_buildkit::{SolveError, SourceRange};
use kiln_core::{Diagnostic, Failure, FailureClass, SourceId, SourceMap, Span, render};
use kiln_docker::EngineError;
use kiln_registry::Reference;

use crate::dockerfile::{Dockerfile, Instruction};

/// Lines of a step's output that a message repeats.
const LAST_LINES: usize = 10;

/// How BuildKit begins the name of the step that looks for another frontend.
const FRONTEND: &str = "resolve image config for ";
const OWN_FRONTEND: &str = "without `# syntax=` or `BUILDKIT_SYNTAX` BuildKit's own frontend reads the Dockerfile; \
     `# syntax=registry.example.org/docker/dockerfile:1` takes it from a registry of yours";

/// A mistake at a place of a Dockerfile, for a template's checks.
pub(crate) fn mistake(
    code: &'static str,
    file: &Dockerfile,
    range: Range<usize>,
    title: impl Into<String>,
) -> Diagnostic {
    Diagnostic::error(code, Span::new(SourceId::OWN, range), title).text(file.name.clone(), file.text.clone())
}

/// The same as the error of a run.
pub(crate) fn failure(diagnostic: &Diagnostic) -> Failure {
    let text = render::render(diagnostic, &SourceMap::new(), false);
    let text = text.strip_prefix("error: ").unwrap_or(&text).to_owned();
    Failure::new(FailureClass::Build, text)
}

/// What BuildKit says of a solve, with the lines it means. `images` are those that the file mentions, by the names that BuildKit
/// knows; `shown` puts the template's names in their places.
pub(crate) fn of_solve(
    error: SolveError,
    file: &Dockerfile,
    images: &[(String, &Instruction)],
    shown: &dyn Fn(String) -> String,
) -> Failure {
    let (message, range, step, output) = match error {
        SolveError::Failed { message, range, step, output } => (message, range, step, output),
        SolveError::Engine(error) => return of_engine(error),
        error @ (SolveError::Unreachable { .. } | SolveError::Address { .. }) => {
            return Failure::environment(error).hint(
                "`buildkitd` wants the address of a BuildKit daemon (unix:///run/buildkit/buildkitd.sock, tcp://host:1234); \
                 without it the Docker engine's own BuildKit is used",
            );
        }
        error @ SolveError::Connection(_) => return Failure::build(error),
    };
    let image = step.as_deref().and_then(|step| mentioned(images, step));
    let (message, step) = (words(&shown(message)), step.map(shown));
    let is_frontend = file.syntax.is_some() && step.as_deref().is_some_and(|step| step.starts_with(FRONTEND));
    let place = range
        .or_else(|| is_frontend.then(|| file.syntax_line()).flatten())
        .or_else(|| image.map(range_of))
        .or_else(|| step.as_deref().and_then(|step| instruction_of(file, step)).map(range_of))
        .or_else(|| line_in(&message))
        .filter(|range| range.first <= file.text.lines().count());
    let Some(place) = place else {
        if is_frontend {
            return Failure::build(message).hint(OWN_FRONTEND);
        }
        let is_cache = message.starts_with("unknown cache exporter");
        let failure = output_lines(Failure::build(message), &output);
        if is_cache {
            return failure.hint(
                "a Docker engine fills `type=inline` alone, one with containerd's image store and a BuildKit daemon (`buildkitd`) others, too",
            );
        }
        return match step.filter(|step| is_of_base(file, step)) {
            Some(step) => failure.hint(format!("`{step}` is an `ONBUILD` instruction of an image in `FROM`")),
            None => failure,
        };
    };
    let bytes = file.range_of_lines(place.first, place.last);
    let diagnostic = mistake("dockerfile", file, bytes, message);
    let failure = output_lines(failure(&diagnostic), &output);
    if is_frontend { failure.hint(OWN_FRONTEND) } else { failure }
}

/// An engine that has no BuildKit says so only here.
fn of_engine(error: EngineError) -> Failure {
    Failure::from(error)
}

fn output_lines(failure: Failure, output: &[String]) -> Failure {
    if output.is_empty() {
        return failure;
    }
    let last = &output[output.len().saturating_sub(LAST_LINES)..];
    let text = format!("{failure}\nlast lines of its output:\n  {}", last.join("\n  "));
    Failure { error: text.into(), ..failure }
}

/// The instruction that mentions the image of a step such as `[internal] load metadata for IMAGE` or `FROM IMAGE`: older
/// engines name no line.
fn mentioned<'a>(images: &[(String, &'a Instruction)], step: &str) -> Option<&'a Instruction> {
    let (before, image) = step.rsplit_once(' ')?;
    if !before.ends_with("load metadata for") && !before.ends_with("FROM") {
        return None;
    }
    let in_full = |name: &str| Reference::parse(name).ok().map(|reference| reference.in_full());
    let wanted = in_full(image)?;
    images.iter().find(|(name, _)| in_full(name).is_some_and(|name| name == wanted)).map(|(_, found)| *found)
}

/// BuildKit's words without what each of its layers puts in front.
fn words(message: &str) -> String {
    let mut text = message.trim();
    for prefix in [
        "rpc error: code = Unknown desc = ",
        "failed to solve with frontend dockerfile.v0: ",
        "failed to solve with frontend gateway.v0: ",
        "failed to solve: ",
        "failed to create LLB definition: ",
        "failed to read dockerfile: ",
    ] {
        text = text.strip_prefix(prefix).unwrap_or(text);
    }
    text.to_owned()
}

/// `dockerfile parse error line 3: ...`.
fn line_in(message: &str) -> Option<SourceRange> {
    let rest = &message[message.find("line ")? + "line ".len()..];
    let digits = &rest[..rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len())];
    let line = digits.parse().ok()?;
    Some(SourceRange { first: line, last: line })
}

/// Whether a step is surely none of a file: it has no instruction of that kind at all.
fn is_of_base(file: &Dockerfile, step: &str) -> bool {
    let text = step.split_once("] ").map_or(step, |(_, text)| text);
    let keyword = text.split_whitespace().next().unwrap_or_default();
    ["RUN", "COPY", "ADD"].contains(&keyword)
        && !file.instructions.iter().any(|instruction| instruction.keyword.eq_ignore_ascii_case(keyword))
}

/// The instruction that a step such as `[build 2/5] RUN make` is: older engines name no line. Some name the step with the
/// values of its variables.
pub(crate) fn instruction_of<'a>(file: &'a Dockerfile, step: &str) -> Option<&'a Instruction> {
    match candidates(file, step)[..] {
        // Of two that are alike nobody knows which one it is.
        [(most, instruction), (next, _), ..] if most > next => Some(instruction),
        [(_, instruction)] => Some(instruction),
        _ => None,
    }
}

/// The instructions that a step may be, with how much of it they say literally; those that say most come first.
fn candidates<'a>(file: &'a Dockerfile, step: &str) -> Vec<(usize, &'a Instruction)> {
    let text = step.strip_prefix('[').and_then(|rest| rest.split_once("] ")).map_or(step, |(_, text)| text);
    let wanted = squeezed(text);
    let literal = |instruction: &Instruction| {
        let words: Vec<&str> = instruction.words.iter().map(|word| word.text.as_str()).collect();
        let written = format!("{} {}", instruction.keyword, words.join(" "));
        let own = squeezed(&written);
        if own == wanted || (instruction.has_heredoc && wanted.starts_with(&own)) {
            return Some(wanted.len());
        }
        let pieces = around_variables(&written);
        fits(&pieces, &wanted).then(|| pieces.iter().map(String::len).sum())
    };
    let mut found: Vec<_> =
        file.instructions.iter().filter_map(|instruction| Some((literal(instruction)?, instruction))).collect();
    found.sort_by_key(|(literal, _)| std::cmp::Reverse(*literal));
    found
}

fn squeezed(text: &str) -> String {
    text.chars().filter(|character| !character.is_whitespace() && *character != '\\').collect()
}

/// What stands before, between and after the variables of an instruction, `$NAME` and `${NAME...}`.
fn around_variables(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut piece = String::new();
    while let Some(at) = rest.find('$') {
        let (before, variable) = rest.split_at(at);
        piece.push_str(before);
        let name = &variable[1..];
        let length = match name.strip_prefix('{') {
            Some(inner) => inner.find('}').map_or(0, |end| end + 2),
            None => name
                .find(|character: char| !character.is_ascii_alphanumeric() && character != '_')
                .unwrap_or(name.len()),
        };
        if length == 0 {
            piece.push('$');
        } else {
            pieces.push(squeezed(&std::mem::take(&mut piece)));
        }
        rest = &name[length..];
    }
    piece.push_str(rest);
    pieces.push(squeezed(&piece));
    pieces
}

/// Whether a text is these pieces in their order, with anything between them.
fn fits(pieces: &[String], text: &str) -> bool {
    let [first, middle @ .., last] = pieces else { return false };
    let Some(mut rest) = text.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str())) else {
        return false;
    };
    middle.iter().all(|piece| match rest.split_once(piece.as_str()) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

fn range_of(instruction: &Instruction) -> SourceRange {
    SourceRange { first: instruction.lines.0, last: instruction.lines.1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::named::Named;

    fn file() -> Dockerfile {
        Dockerfile::parse("docker/Dockerfile", "FROM debian\n\nRUN echo one && \\\n  exit 7\nRUN true\nRUN true\n")
    }

    #[test]
    fn a_step_without_lines_is_found_by_its_text() {
        let file = file();
        let step = "[2/3] RUN echo one &&   exit 7";
        assert_eq!(instruction_of(&file, step).unwrap().lines, (3, 4));
        assert!(instruction_of(&file, "[3/3] RUN true").is_none());
        let file =
            Dockerfile::parse("Dockerfile", "FROM a\nARG SUM\nRUN echo \"${SUM}  /x\" | check $HOME\nRUN echo $SUM\n");
        let lines = |step: &str| instruction_of(&file, step).map(|instruction| instruction.lines);
        assert_eq!(lines("[3/4] RUN echo \"4a91  /x\" | check $HOME"), Some((3, 3)));
        assert_eq!(lines("[3/4] RUN echo \"4a91  /x\" | check /root"), Some((3, 3)));
        assert_eq!(lines("[4/4] RUN echo $SUM"), Some((4, 4)));
        assert_eq!(lines("[4/4] RUN true"), None);
        assert_eq!(line_in("dockerfile parse error line 12: unknown"), Some(SourceRange { first: 12, last: 12 }));
    }

    fn told(error: SolveError, file: &Dockerfile) -> Failure {
        let named = Named::default();
        of_solve(error, file, &named.images(file, &Default::default()), &|text| named.shown(text))
    }

    #[test]
    fn an_image_that_is_missing_is_told_with_its_line() {
        let file = Dockerfile::parse("Dockerfile", "ARG B=host/b\nFROM $B\nFROM debian\nCOPY --from=host/c:1 a b\n");
        let place = |step: &str| {
            let message = "pulling failed".to_owned();
            let error = SolveError::Failed { message, range: None, step: Some(step.to_owned()), output: Vec::new() };
            let told = told(error, &file).to_string();
            told.split_once("--> ").map(|(_, rest)| rest.lines().next().unwrap_or_default().to_owned())
        };
        assert_eq!(place("[internal] load metadata for host/b:latest").unwrap(), "Dockerfile:2:1");
        assert_eq!(place("[internal] load metadata for docker.io/library/debian:latest").unwrap(), "Dockerfile:3:1");
        assert_eq!(place("FROM host/c:1").unwrap(), "Dockerfile:4:1");
        assert_eq!(place("[internal] load metadata for host/d"), None);
    }

    #[test]
    fn a_frontend_that_is_missing_is_told_with_its_line() {
        let error = || SolveError::Failed {
            message: "failed to solve with frontend gateway.v0: no such host".to_owned(),
            range: None,
            step: Some("resolve image config for docker.io/docker/dockerfile:1".to_owned()),
            output: Vec::new(),
        };
        let text = "# escape=`\n# syntax=docker/dockerfile:1\nFROM debian\n";
        let failure = told(error(), &Dockerfile::parse("Dockerfile", text));
        let shown = failure.to_string();
        assert!(shown.starts_with("no such host") && shown.contains("--> Dockerfile:2:1"), "{shown}");
        assert_eq!(failure.hints, [OWN_FRONTEND]);
        let given = [("BUILDKIT_SYNTAX".to_owned(), "host/frontend".to_owned())].into();
        let failure = told(error(), &Dockerfile::parse_for("Dockerfile", "FROM debian\n", &given));
        assert_eq!(
            (failure.to_string().as_str(), &failure.hints[..]),
            ("no such host", &[OWN_FRONTEND.to_owned()][..])
        );
    }

    #[test]
    fn a_step_of_the_base_is_told_as_such() {
        let failed = |step: &str| SolveError::Failed {
            message: "executor failed running [/bin/sh -c echo line 2]: exit code: 1".to_owned(),
            range: None,
            step: Some(step.to_owned()),
            output: Vec::new(),
        };
        // Two that are alike are not one of the base.
        assert!(told(failed("[3/3] RUN true"), &file()).hints.is_empty());
        let file = Dockerfile::parse("Dockerfile", "FROM base\n");
        let hints = told(failed("[3/1] RUN make"), &file).hints;
        assert!(told(failed("[internal] load metadata for a:b"), &file).hints.is_empty());
        assert_eq!(hints, ["`[3/1] RUN make` is an `ONBUILD` instruction of an image in `FROM`"]);
    }

    #[test]
    fn a_failed_step_is_told_with_its_lines_and_output() {
        let error = SolveError::Failed {
            message: "failed to solve: process \"/bin/sh -c x\" did not complete successfully: exit code: 7".to_owned(),
            range: Some(SourceRange { first: 3, last: 4 }),
            step: None,
            output: vec!["one".to_owned()],
        };
        let text = told(error, &file()).to_string();
        assert!(text.starts_with("process \"/bin/sh -c x\" did not complete"), "{text}");
        assert!(text.contains("--> docker/Dockerfile:3:1") && text.contains("exit 7"), "{text}");
        assert!(text.ends_with("last lines of its output:\n  one"), "{text}");
    }
}
