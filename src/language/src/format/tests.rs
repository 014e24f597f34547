//! `tests/fixtures/fmt`: texts (`input`), what `packer fmt` 1.6.6 makes of them (`packer`), what newer releases make of them
//! where that differs (`newer`), and what Packer refuses (`refused`). With `KILN_TEST_PACKER=1` the record is compared with
//! the packer of this machine.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failed test is meant to panic, a skipped one to say so"
)]

use std::path::{Path, PathBuf};

use kiln_core::{Diagnostics, SourceId};

use super::format;
use crate::syntax::parse_body;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/fmt")
}

/// The files of a folder of the fixtures: names and texts.
fn texts(folder: &Path) -> Vec<(String, String)> {
    let mut texts: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap()))
        .collect();
    texts.sort();
    texts
}

fn has_errors(text: &str) -> bool {
    let mut diagnostics = Diagnostics::new();
    parse_body(SourceId(0), text, &mut diagnostics);
    diagnostics.has_errors()
}

#[test]
fn the_result_is_that_of_packer() {
    let inputs = texts(&fixtures().join("input"));
    assert!(inputs.len() >= 75);
    for (name, text) in inputs {
        let newer = std::fs::read_to_string(fixtures().join("newer").join(&name));
        let expected = newer.or_else(|_| std::fs::read_to_string(fixtures().join("packer").join(&name))).unwrap();
        assert_eq!(format(&text), expected, "{name}");
        assert!(!has_errors(&text), "{name} is refused");
    }
}

#[test]
fn what_packer_refuses_has_mistakes() {
    for (name, text) in texts(&fixtures().join("refused")) {
        assert!(has_errors(&text), "{name}");
    }
}

#[test]
fn the_record_is_what_packer_does() {
    if std::env::var_os("KILN_TEST_PACKER").is_none_or(|value| value != "1") {
        eprintln!("SKIPPED: KILN_TEST_PACKER=1 compares the record with packer 1.6.6");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for folder in ["input", "refused"] {
        for (name, text) in texts(&fixtures().join(folder)) {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
    }
    let output = std::process::Command::new("packer")
        .arg("fmt")
        .arg(directory.path())
        .env("CHECKPOINT_DISABLE", "1")
        .env("PACKER_NO_COLOR", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    for (name, text) in texts(directory.path()) {
        let is_refused =
            said.lines().any(|line| line.starts_with("failed to parse") && line.ends_with(&format!("/{name}")));
        assert_eq!(is_refused, fixtures().join("refused").join(&name).exists(), "{name}");
        if !is_refused {
            assert_eq!(text, std::fs::read_to_string(fixtures().join("packer").join(&name)).unwrap(), "{name}");
        }
    }
}

/// Texts near those of the fixtures, many of them with mistakes: bits put in, left out, doubled.
fn variants(text: &str) -> impl Iterator<Item = String> + '_ {
    const BITS: [&str; 16] =
        [" ", "\n", "\t", "{", "}", "[", ")", "\"", "${", "# c\n", "/* d */", "=", "<<E\n", ",", "-", "\r\n"];
    let places = text.char_indices().map(|(place, character)| (place, character.len_utf8())).step_by(7);
    places.enumerate().flat_map(move |(number, (place, length))| {
        let (head, tail) = text.split_at(place);
        let line = head.rfind('\n').map_or(0, |newline| newline + 1);
        let bit = BITS[number % BITS.len()];
        [format!("{head}{bit}{tail}"), format!("{head}{}", &tail[length..]), format!("{head}{}{tail}", &head[line..])]
    })
}

#[test]
fn only_blanks_change_and_what_is_formatted_stays() {
    let blank = |character: &char| !matches!(character, ' ' | '\t');
    for (name, text) in texts(&fixtures().join("input")).into_iter().chain(texts(&fixtures().join("refused"))) {
        for variant in std::iter::once(text.clone()).chain(variants(&text)) {
            let formatted = format(&variant);
            let without = |text: &str| text.trim_start_matches('\u{feff}').chars().filter(blank).collect::<String>();
            assert_eq!(without(&formatted), without(&variant), "{name}: {variant:?}");
            assert_eq!(format(&formatted), formatted, "{name}: {variant:?}");
        }
    }
}

#[test]
fn a_text_without_tokens_comes_back() {
    for text in ["a   = \"b\n", "a = <<E\nx", "a {\n  b  = 1", "}   }", "a  = 'b'\n"] {
        assert_eq!(format(text), text);
    }
}

/// What takes a second takes hours where the time grows with the square of the size.
#[test]
fn large_texts_take_time_by_their_size() {
    let arguments: String = (0..100_000).map(|number| format!("name_{number}=\"value\" # {number}\n")).collect();
    for text in [arguments, "a {\n".repeat(100_000), format!("a = <<E\n{}E\n", "x ${y}\n".repeat(100_000))] {
        let start = std::time::Instant::now();
        format(&text);
        has_errors(&text);
        assert!(start.elapsed().as_secs() < 60, "{}", &text[..20]);
    }
}
