//! Broken and huge templates: no panic, no hang, time in proportion to the size.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_builder_docker::{DockerBuilderKind, DockerSettings};
use kiln_core::{Kinds, render};
use kiln_docker::{BollardEngine, DEFAULT_HOST, Engine};
use kiln_engine::{PrepareOptions, prepare};
use kiln_publish::{GivenEngine, PublishSettings};
use kiln_registry::CredentialSources;
use kiln_template::{ConfigType, LoadOptions};

fn kinds() -> Kinds {
    let engine: Arc<dyn Engine> = Arc::new(BollardEngine::connect(Some(DEFAULT_HOST), &BTreeMap::new()).unwrap());
    let credentials = CredentialSources::usual(BTreeMap::new(), None);
    let mut kinds = Kinds::new();
    let settings = DockerSettings { credentials: credentials.clone(), ..DockerSettings::new(Arc::clone(&engine)) };
    kinds.add_builder(Arc::new(DockerBuilderKind::new(settings)));
    kinds.add_provisioner(Arc::new(kiln_provisioner_file::FileKind));
    kinds.add_provisioner(Arc::new(kiln_provisioner_shell::ShellKind));
    kinds.add_provisioner(Arc::new(kiln_provisioner_shell_local::ShellLocalKind));
    kiln_publish::register(
        &mut kinds,
        PublishSettings {
            engine: Arc::new(GivenEngine { engine, environment: Default::default() }),
            credentials,
            store: None,
        },
    );
    kinds
}

/// Loads and prepares a text and renders all that is told; whether it is valid.
fn check(text: &str, form: ConfigType, directory: &Path, kinds: &Kinds) -> bool {
    let mut options = LoadOptions::new("-", directory);
    options.stdin = Some(text.to_owned());
    options.config_type = Some(form);
    let mut loaded = kiln_template::load(&options);
    if let Some(plan) = loaded.plan.as_ref().or(loaded.partial.as_ref()) {
        let (_, findings) = prepare(plan, kinds, &PrepareOptions::default());
        loaded.diagnostics.extend(findings);
    }
    for diagnostic in &loaded.diagnostics.items {
        render::render(diagnostic, &loaded.sources, false);
        render::to_json(diagnostic, &loaded.sources);
    }
    !loaded.diagnostics.has_errors()
}

/// Numbers that look random and are the same in each run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }

    /// A place between two characters.
    fn boundary(&mut self, text: &str) -> usize {
        let mut at = self.below(text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}

/// What tends to upset a parser.
const PIECES: [&str; 30] = [
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "\"",
    "'",
    "${",
    "%{",
    "{{",
    "}}",
    "~}",
    "<<EOF\n",
    "=",
    ",",
    "\\",
    "\\u12",
    "\n",
    "\r\n",
    "\u{feff}",
    "ü",
    "\u{1f600}",
    "null",
    "-1",
    "1e999",
    "...",
    "[*]",
    "\0",
    "for x in y : ",
];

/// One edit: cut the end off, drop a stretch, double one, or put something in.
fn mutate(text: &str, numbers: &mut Numbers) -> String {
    let (one, two) = (numbers.boundary(text), numbers.boundary(text));
    let (start, end) = (one.min(two), one.max(two));
    // Long stretches mostly leave nothing to read.
    let end =
        if end - start > 60 { (start..=start + 60).rev().find(|at| text.is_char_boundary(*at)).unwrap() } else { end };
    match numbers.below(4) {
        0 => text[..one].to_owned(),
        1 => format!("{}{}", &text[..start], &text[end..]),
        2 => format!("{}{}{}", &text[..end], &text[start..end], &text[end..]),
        _ => format!("{}{}{}", &text[..one], PIECES[numbers.below(PIECES.len())], &text[one..]),
    }
}

fn corpus() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/templates");
    let mut found: Vec<PathBuf> = ["good", "bad"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(root.join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found
}

#[test]
fn mutated_templates_neither_panic_nor_hang() {
    const BUDGET: Duration = Duration::from_secs(10);
    let (kinds, started, mut numbers) = (kinds(), Instant::now(), Numbers(1));
    let directory = tempfile::tempdir().unwrap();
    let texts: Vec<(PathBuf, String)> =
        corpus().into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect();
    let mut tried = 0;
    'all: for _ in 0..20 {
        for (path, text) in &texts {
            let mut broken = text.clone();
            for _ in 0..=numbers.below(3) {
                broken = mutate(&broken, &mut numbers);
            }
            let form = if path.to_string_lossy().contains(".hcl") { ConfigType::Hcl2 } else { ConfigType::Json };
            let one = Instant::now();
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| check(&broken, form, directory.path(), &kinds)));
            assert!(outcome.is_ok(), "{} panics as:\n{broken}", path.display());
            assert!(
                one.elapsed() < Duration::from_secs(5),
                "{} takes {:?} as:\n{broken}",
                path.display(),
                one.elapsed()
            );
            tried += 1;
            if started.elapsed() > BUDGET {
                break 'all;
            }
        }
    }
    assert!(tried > 100, "only {tried} in {BUDGET:?}");
}

/// Ten times the text takes about ten times as long; a quadratic way would take a hundred times.
#[test]
fn many_variables_take_time_in_proportion() {
    let hcl = |count: usize| -> String {
        let variables: String = (0..count)
            .map(|index| format!("variable \"v{index}\" {{\n  default = \"x{index}\"\n}}\nlocals {{\n  l{index} = \"${{var.v{index}}}-y\"\n}}\n"))
            .collect();
        let uses: String = (0..count).map(|index| format!("    \"echo ${{local.l{index}}}\",\n")).collect();
        format!(
            "{variables}source \"docker\" \"a\" {{\n  image  = \"debian\"\n  commit = true\n}}\nbuild {{\n  sources = [\"docker.a\"]\n  provisioner \"shell\" {{\n    inline = [\n{uses}]\n  }}\n}}\n"
        )
    };
    let json = |count: usize| -> String {
        let variables: Vec<String> = (0..count)
            .map(|index| format!("\"v{index}\": \"{{{{user `v{}`}}}}x\"", index.saturating_sub(1) / 2 * 2 + 1))
            .collect();
        let variables: Vec<String> = variables
            .into_iter()
            .enumerate()
            .map(|(index, text)| if index % 2 == 1 { format!("\"v{index}\": \"x\"") } else { text })
            .collect();
        let uses: Vec<String> = (0..count).map(|index| format!("\"echo {{{{user `v{index}`}}}}\"")).collect();
        format!(
            "{{\"variables\": {{{}, \"v{count}\": \"x\"}}, \"builders\": [{{\"type\": \"docker\", \"image\": \"debian\", \"commit\": true}}], \"provisioners\": [{{\"type\": \"shell\", \"inline\": [{}]}}]}}",
            variables.join(",\n"),
            uses.join(",\n")
        )
    };
    let kinds = kinds();
    let directory = tempfile::tempdir().unwrap();
    let time = |text: String, form: ConfigType| {
        let started = Instant::now();
        assert!(check(&text, form, directory.path(), &kinds));
        started.elapsed()
    };
    for (form, text) in [(ConfigType::Hcl2, &hcl as &dyn Fn(usize) -> String), (ConfigType::Json, &json)] {
        let small = time(text(1_000), form).max(Duration::from_millis(20));
        let large = time(text(10_000), form);
        assert!(large < small * 40, "{form:?}: 1,000 variables take {small:?}, 10,000 take {large:?}");
    }
}

/// What nests or chains without end is refused; a stack that runs over would take the process with it.
#[test]
fn endless_nesting_is_refused() {
    // As much as the command's own thread has; the threads of tests have less, and debug builds need more.
    let thread = std::thread::Builder::new().stack_size(8 << 20).spawn(refuse_endless_nesting).unwrap();
    thread.join().unwrap();
}

fn refuse_endless_nesting() {
    const DEEP: usize = 2_000;
    let kinds = kinds();
    let directory = tempfile::tempdir().unwrap();
    let around = |open: &str, inner: &str, close: &str| format!("{}{inner}{}", open.repeat(DEEP), close.repeat(DEEP));
    let hcl = [
        around("(", "1", ")"),
        around("[", "", "]"),
        around("{a=", "1", "}"),
        around("\"${", "1", "}\""),
        around("upper(", "\"x\"", ")"),
        around("!", "true", ""),
        around("true ? 1 : ", "1", ""),
        around("[for x in [1] : ", "x", "]"),
        around("1 + ", "1", ""),
        around("", "local", ".a"),
        "[".repeat(DEEP),
    ];
    for expression in hcl {
        let text = format!("locals {{\n  a = {expression}\n}}\n");
        assert!(!check(&text, ConfigType::Hcl2, directory.path(), &kinds), "{}", &text[..40]);
    }
    let locals: String = (0..DEEP).map(|index| format!("  l{index} = local.l{}\n", index + 1)).collect();
    let text = format!("locals {{\n{locals}  l{DEEP} = 1\n}}\n");
    assert!(!check(&text, ConfigType::Hcl2, directory.path(), &kinds));
    let variables: Vec<String> =
        (0..DEEP).map(|index| format!("\"v{index}\": \"{{{{user `v{}`}}}}\"", index + 1)).collect();
    let image = |text: &str| {
        let builder = format!("{{\"type\": \"docker\", \"commit\": true, \"image\": \"{text}\"}}");
        format!("{{\"variables\": {{{}, \"v{DEEP}\": \"x\"}}, \"builders\": [{builder}]}}", variables.join(","))
    };
    let actions = around("{{if true}}", "x", "{{end}}");
    let parentheses = format!("{{{{{}}}}}", around("(", "1", ")"));
    for text in [image("x"), image(&actions), image(&parentheses), around("{\"a\":", "1", "}"), "[".repeat(DEEP)] {
        assert!(!check(&text, ConfigType::Json, directory.path(), &kinds), "{}", &text[..40]);
    }
}
