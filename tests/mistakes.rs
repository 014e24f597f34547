//! Typical mistakes, one a file of `tests/fixtures/mistakes`: what `kiln validate` says of each.
//!
//! ```text
//! # What is wrong, in a sentence.
//! run: validate worker.pkr.hcl
//! error: worker.pkr.hcl:2 => image      a finding that is expected, with the edit it offers; `-` where it has no place
//! exit: 0                               only where it is not 3
//! packer: accepts                       what Packer 1.6.6 says of it
//! differs: why                          where kiln says otherwise
//! -- worker.pkr.hcl --
//! the files, each behind its name
//! ```
//!
//! Findings are compared without their order; what a person reads is in `tests/snapshots/mistakes`.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{World, packer};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/mistakes");

/// One mistake.
struct Case {
    name: String,
    arguments: Vec<String>,
    expected: Vec<String>,
    exit: i32,
    packer_accepts: bool,
    differs: bool,
    files: Vec<(String, String)>,
}

/// What kiln says of it.
struct Answer {
    code: i32,
    findings: Vec<String>,
    shown: String,
    report: serde_json::Value,
}

impl Case {
    fn read(path: &Path) -> Case {
        let text = std::fs::read_to_string(path).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut case = Case {
            name,
            arguments: Vec::new(),
            expected: Vec::new(),
            exit: 3,
            packer_accepts: false,
            differs: false,
            files: Vec::new(),
        };
        let mut has_verdict = false;
        for line in text.split_inclusive('\n') {
            let file = line.trim_end().strip_prefix("-- ").and_then(|rest| rest.strip_suffix(" --"));
            match (file, case.files.last_mut()) {
                (Some(file), _) => case.files.push((file.to_owned(), String::new())),
                (None, Some((_, text))) => text.push_str(line),
                (None, None) => has_verdict |= case.head(line.trim_end()),
            }
        }
        assert!(has_verdict, "{}: no line `packer:`", case.name);
        case
    }

    /// Reads a line of the head; whether it is Packer's verdict.
    fn head(&mut self, line: &str) -> bool {
        match line.split_once(": ") {
            Some(("run", arguments)) => self.arguments = arguments.split_whitespace().map(str::to_owned).collect(),
            Some(("error" | "warning", _)) => self.expected.push(line.to_owned()),
            Some(("exit", code)) => self.exit = code.parse().unwrap(),
            Some(("packer", verdict)) => {
                assert!(matches!(verdict, "accepts" | "rejects"), "{}: {verdict}", self.name);
                self.packer_accepts = verdict == "accepts";
                return true;
            }
            Some(("differs", _)) => self.differs = true,
            _ => assert!(line.starts_with("# "), "{}: {line}", self.name),
        }
        false
    }

    fn world(&self) -> World {
        let world = World::new();
        for (name, text) in &self.files {
            world.write(name, text);
        }
        world
    }

    fn run(&self) -> Answer {
        let world = self.world();
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let text = world.run(&arguments);
        assert_eq!(text.stdout, "", "{}", self.name);
        let json = world.run(&[&["validate", "-json"], &arguments[1..]].concat());
        assert_eq!(json.code, text.code, "{}", self.name);
        let report: serde_json::Value = serde_json::from_str(&json.stdout)
            .unwrap_or_else(|error| panic!("{}: {error}\n{}{}", self.name, json.stdout, json.stderr));
        let shown = text.stderr.replace(&world.path().display().to_string(), "[dir]");
        let findings = report["diagnostics"].as_array().unwrap().iter().map(finding).collect();
        Answer { code: text.code, findings, shown, report }
    }

    fn check(&self, answer: &Answer) {
        let (name, shown) = (&self.name, &answer.shown);
        assert_eq!(answer.code, self.exit, "{name}\n{shown}");
        let sorted = |list: &[String]| {
            let mut list = list.to_vec();
            list.sort();
            list
        };
        assert_eq!(sorted(&answer.findings), sorted(&self.expected), "{name}\n{shown}");
        for item in answer.report["diagnostics"].as_array().unwrap() {
            let place = &item["place"];
            let Some(file) = place["file"].as_str() else { continue };
            let number = usize::try_from(place["line"].as_u64().unwrap()).unwrap();
            assert!(shown.contains(&format!("> {file}:{number}:")), "{name}: {file}:{number} is not told\n{shown}");
            let Some((_, text)) = self.files.iter().find(|(known, _)| known == file) else { continue };
            let line = text.lines().nth(number - 1).unwrap_or_default().trim();
            assert!(shown.contains(line), "{name}: the line `{line}` is not shown\n{shown}");
        }
        assert!(
            self.differs || self.packer_accepts == (self.exit == 0),
            "{name}: Packer says otherwise, and `differs:` does not say why"
        );
    }
}

/// `error: worker.pkr.hcl:2 => image`.
fn finding(item: &serde_json::Value) -> String {
    let place = &item["place"];
    let place = match place["file"].as_str() {
        Some(file) => format!("{file}:{}", place["line"]),
        None => "-".to_owned(),
    };
    let fix = item["fix"]["with"].as_str().map(|with| format!(" => {with}")).unwrap_or_default();
    format!("{}: {place}{fix}", item["severity"].as_str().unwrap()).trim_end().to_owned()
}

fn cases() -> Vec<Case> {
    let entries = std::fs::read_dir(FIXTURES).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries.filter(|path| path.extension().is_some_and(|ending| ending == "txt")).collect();
    paths.sort();
    paths.iter().map(|path| Case::read(path)).collect()
}

#[test]
fn each_mistake_is_told_at_its_place_and_nothing_besides() {
    let cases = cases();
    assert!(cases.len() >= 170, "{}", cases.len());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let parts = cases.chunks(cases.len().div_ceil(threads));
        let running: Vec<_> =
            parts.map(|part| scope.spawn(|| part.iter().map(Case::run).collect::<Vec<_>>())).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("snapshots/mistakes");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for (case, answer) in cases.iter().zip(&answers) {
            case.check(answer);
            insta::assert_snapshot!(case.name.as_str(), answer.shown);
        }
    });
}

/// What the cases say of Packer 1.6.6 is what it says.
#[test]
fn packers_verdicts_are_as_recorded() {
    let Some(packer) = packer() else { return };
    for case in cases() {
        let world = case.world();
        // It has no such option, and takes unknown kinds for mistakes.
        let arguments = case.arguments.iter().filter(|argument| *argument != "--allow-unknown-kinds");
        let output = Command::new(&packer)
            .args(arguments)
            .current_dir(world.path())
            .env("CHECKPOINT_DISABLE", "1")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.success(), case.packer_accepts, "{}", case.name);
    }
}

/// Files that are no text at all.
#[test]
fn what_is_no_text_is_told() {
    let world = World::new();
    for (name, bytes, told) in [
        ("a.pkr.hcl", &b"\x7fELF\0\0"[..], "it is a binary file, not a text"),
        ("a.json", &b"\x7fELF\0\0"[..], "it is a binary file, not a text"),
        ("b.json", &b"\xff\xfe{\0}\0"[..], "it is UTF-16; save it as UTF-8"),
        ("c.pkr.hcl", &b"a = \"\xff\""[..], "it is not UTF-8 text"),
    ] {
        std::fs::write(world.path().join(name), bytes).unwrap();
        let outcome = world.run(&["validate", name]);
        assert_eq!(outcome.code, 3);
        assert!(outcome.stderr.contains(&format!("cannot read `{name}`: {told}")), "{}", outcome.stderr);
    }
}

/// Thousands of mistakes are told fast, and a person is shown no more than can be read.
#[test]
fn thousands_of_mistakes_stay_fast_and_readable() {
    let world = World::new();
    let declared: String = (0..500).map(|n| format!("variable \"name_{n}\" {{\n  default = \"x\"\n}}\n")).collect();
    let used: String = (0..1500).map(|n| format!("  l{n} = var.nmae_{n}\n")).collect();
    let template = format!("{declared}locals {{\n{used}}}\n");
    world.write("names.pkr.hcl", &template);
    let broken: String = (0..10_000).map(|n| format!("  a{n} = 'x'\n")).collect();
    world.write("quotes.pkr.hcl", &format!("locals {{\n{broken}}}\n"));
    let deep = format!("{}{}", "a {\n".repeat(100_000), "}\n".repeat(100_000));
    world.write("deep.pkr.hcl", &deep);
    world.write("deep.json", &"[".repeat(100_000));
    let texts: String = (0..2000).map(|n| format!("\"{{{{user `nmae_{n}`}}}}\",")).collect();
    world.write(
        "names.json",
        &format!(
            "{{ \"variables\": {{ \"name_1\": \"x\" }}, \"builders\": [{{ \"type\": \"docker\", \"image\": \"x\", \
             \"commit\": true, \"changes\": [{texts}\"x\"] }}] }}"
        ),
    );
    for name in ["names.pkr.hcl", "quotes.pkr.hcl", "deep.pkr.hcl", "deep.json", "names.json"] {
        let start = std::time::Instant::now();
        let outcome = world.run(&["validate", name]);
        // Generous, for a debug build on a busy machine; what is not linear takes minutes.
        assert!(start.elapsed().as_secs() < 60, "{name} took {:?}", start.elapsed());
        assert_eq!(outcome.code, 3, "{name}");
        let shown = outcome.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert!((1..=100).contains(&shown), "{name}: {shown}");
    }
    let outcome = world.run(&["validate", "quotes.pkr.hcl"]);
    assert!(
        outcome
            .stderr
            .ends_with("and 9900 more errors; `kiln validate -json` lists all\n\n10000 errors in the template\n")
    );
    let json = world.run(&["validate", "-json", "names.pkr.hcl"]).stdout;
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    let offered = report["diagnostics"].as_array().unwrap().iter().filter(|item| !item["fix"].is_null()).count();
    assert_eq!(offered, 1500);
}
