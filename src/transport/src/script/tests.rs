//! Sources, environment, formats, exits.

use kiln_core::{Field, Schema};
use kiln_testkit::{Arguments, context, titles};
use serde_json::json;

use super::*;

const NAMES: [&str; 3] = ["inline", "script", "scripts"];

const SCHEMA: Schema = Schema {
    kind: "shell",
    title: "a `shell` provisioner",
    doc: "",
    fields: &[
        Field::strings("inline", ""),
        Field::string("script", ""),
        Field::strings("scripts", ""),
        Field::strings("environment_vars", ""),
        Field::map("env", ""),
        Field::string("env_var_format", ""),
    ],
    example: "",
};

fn source(arguments: &Arguments) -> (Option<ScriptSource>, Diagnostics) {
    let (decoded, mut diagnostics) = arguments.decode(&SCHEMA);
    (ScriptSource::read(&decoded, &NAMES, SCHEMA.title, &mut diagnostics), diagnostics)
}

fn environment(arguments: &Arguments) -> (Environment, Diagnostics) {
    let (decoded, mut diagnostics) = arguments.decode(&SCHEMA);
    (Environment::read(&decoded, &mut diagnostics), diagnostics)
}

#[test]
fn exactly_one_source_is_taken() {
    let (none, diagnostics) = source(&Arguments::new(json!({})));
    assert!(none.is_none());
    assert_eq!(titles(&diagnostics), ["a `shell` provisioner needs exactly one of `inline`, `script` and `scripts`"]);
    let (none, diagnostics) = source(&Arguments::new(json!({ "inline": ["true"], "script": "a.sh" })));
    assert!(none.is_none());
    assert!(diagnostics.items[0].title.starts_with("`inline` and `script` are both set"));
    let (none, diagnostics) = source(&Arguments::new(json!({ "inline": [] })));
    assert!(none.is_none());
    assert_eq!(titles(&diagnostics), ["`inline` is empty"]);
    let (one, diagnostics) = source(&Arguments::new(json!({ "inline": ["true"], "script": "", "scripts": [] })));
    assert_eq!(one, Some(ScriptSource::Inline(vec!["true".into()])), "what is empty is not set");
    assert!(diagnostics.is_empty());
}

#[test]
fn a_missing_script_points_at_its_item_and_names_the_nearest_file() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("setup.sh"), "true").unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let arguments = Arguments::new(json!({ "scripts": [path("setup.sh"), path("setpu.sh"), path(".")] }));
    let (_, diagnostics) = source(&arguments);
    let [missing, is_directory] = diagnostics.items.as_slice() else { panic!("{diagnostics:?}") };
    assert_eq!(missing.title, format!("`scripts[1]`: there is no file `{}`", path("setpu.sh")));
    assert_eq!(missing.fix.as_ref().map(|fix| fix.replacement.clone()), Some(format!("{:?}", path("setup.sh"))));
    assert_eq!(arguments.text_at(missing.primary.as_ref().unwrap().span), format!("{:?}", path("setpu.sh")));
    assert!(is_directory.title.contains("is a directory"));
}

#[test]
fn what_is_not_known_yet_is_not_checked() {
    let arguments = Arguments::new(json!({ "scripts": ["nowhere-1.sh"] })).unknown("scripts[0]");
    let (found, diagnostics) = source(&arguments);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    assert!(found.is_some());
    let (found, diagnostics) = source(&Arguments::new(json!({ "script": "nowhere" })).unknown("script"));
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    assert_eq!(found, Some(ScriptSource::Files(Vec::new())));
}

#[test]
fn titles_tell_what_runs() {
    let inline = |count: usize| ScriptSource::Inline(vec!["x".into(); count]);
    let files = |files: &[&str]| ScriptSource::Files(files.iter().map(|file| (*file).to_owned()).collect());
    assert_eq!(inline(1).title("inline "), "1 inline command");
    assert_eq!(inline(3).title("inline "), "3 inline commands");
    assert_eq!(files(&["a.sh"]).title("inline "), "a.sh");
    assert_eq!(files(&["a.sh", "b.sh", "c.sh"]).title(""), "a.sh and 2 more");
}

#[test]
fn inline_commands_get_a_shebang_unless_they_bring_one() {
    let commands = |first: &str| vec![first.to_owned(), "b".to_owned()];
    assert_eq!(inline_script(&commands("a"), None), "#!/bin/sh -e\na\nb\n");
    assert_eq!(inline_script(&commands("a"), Some("/bin/bash")), "#!/bin/bash\na\nb\n");
    assert_eq!(inline_script(&commands("#!/bin/ash"), None), "#!/bin/ash\nb\n");
    assert_eq!(inline_script(&commands("#!/bin/ash"), Some("/bin/sh")), "#!/bin/sh\n#!/bin/ash\nb\n");
}

#[test]
fn env_wins_over_environment_vars_and_both_over_the_builds_own() {
    let (found, diagnostics) = environment(&Arguments::new(json!({
        "environment_vars": ["A=1", "B=x=y", "PACKER_BUILD_NAME=mine"],
        "env": { "A": "2" },
    })));
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let context = context().fact("PackerHTTPAddr", "10.0.0.1:8080").fact("PackerHTTPIP", "ERR_HTTP_IP").build();
    let more = BTreeMap::from([("EXTRA".to_owned(), "e".to_owned())]);
    let pairs = found.complete(&context, &more).pairs();
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        pairs,
        [
            ("A", "2"),
            ("B", "x=y"),
            ("EXTRA", "e"),
            ("KILN_BUILDER_TYPE", "docker"),
            ("KILN_BUILD_NAME", "worker"),
            ("PACKER_BUILDER_TYPE", "docker"),
            ("PACKER_BUILD_NAME", "mine"),
            ("PACKER_HTTP_ADDR", "10.0.0.1:8080"),
        ]
    );
}

#[test]
fn a_step_with_secrets_is_told_where_they_are() {
    let mut context = context().build();
    context.context.secrets = Some("/dev/shm/kiln-secrets".into());
    let pairs = Environment::default().complete(&context, &BTreeMap::new()).pairs();
    assert!(pairs.contains(&("KILN_SECRETS".to_owned(), "/dev/shm/kiln-secrets".to_owned())), "{pairs:?}");
}

#[test]
fn a_wrong_entry_is_told_without_its_text() {
    let (_, diagnostics) = environment(&Arguments::new(json!({ "environment_vars": ["A=1", "hunter22"] })));
    assert_eq!(titles(&diagnostics), ["`environment_vars[1]` is not `NAME=value`"]);
}

#[test]
fn secrets_are_referred_to_and_travel_beside() {
    let arguments = Arguments::new(json!({
        "env": { "MARKED": "m", "KNOWN": "the hunter22", "PLAIN": "it's", "NO-NAME": "hunter22" },
    }))
    .sensitive("env.MARKED");
    let (found, _) = environment(&arguments);
    let redactor = Redactor::new();
    redactor.add("hunter22");
    let format = VariableFormat::parse(DEFAULT_VARIABLE_FORMAT).unwrap();
    let assignments = found.assignments(&format, &redactor);
    assert_eq!(assignments.text, "KNOWN=\"$KNOWN\" MARKED=\"$MARKED\" PLAIN='it'\"'\"'s' ");
    let beside: Vec<&str> = assignments.beside.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(beside, ["KNOWN", "MARKED", "NO-NAME"]);
    assert!(!format!("{found:?}").contains("hunter22"));
}

#[test]
fn formats_have_two_places() {
    let write =
        |format: &str| VariableFormat::parse(format).map(|format| (format.assign("N", "v'w"), format.refer("N")));
    let expect = |assigned: &str, referred: &str| Ok((assigned.to_owned(), referred.to_owned()));
    assert_eq!(write("export %s='%s'\n"), expect("export N='v'\"'\"'w'\n", "export N=\"$N\"\n"));
    assert_eq!(write("set %s=\"%s\" %%"), expect("set N=\"v'\"'\"'w\" %", "set N=\"$N\" %"));
    assert_eq!(write("%s=%s "), expect("N=v'\"'\"'w ", "N=\"$N\" "));
    for wrong in ["", "%s", "%s=%s%s", "%s=%q", "%s=%s%"] {
        assert_eq!(write(wrong), Err(VariableFormatError), "{wrong}");
    }
}

#[test]
fn a_wrong_exit_tells_everything_but_secrets() {
    let context = context().secret("hunter22").build();
    let mut sink = LineSink::new(context.events.clone());
    kiln_core::OutputSink::write(&mut sink, kiln_core::Stream::Stderr, b"E: no package\nlogin hunter22 failed\n");
    let check = |status, allowed: &[i64]| check_exit("script `a.sh`", status, allowed, &sink, &context.redactor);
    assert!(check(ExitStatus::Exited(3), &[0, 3]).is_ok());
    assert!(check(ExitStatus::Exited(0), &[3]).is_err());
    let failure = check(ExitStatus::Exited(3), &[0, 2]).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "script `a.sh` exited with status 3 (allowed: 0, 2); the last lines of its output:\n    E: no package\n    \
         login <sensitive> failed"
    );
    assert_eq!(failure.hints, ["if status 3 is fine here, add it to `valid_exit_codes`"]);
    let killed = check(ExitStatus::Signalled(9), &[0]).unwrap_err();
    assert!(killed.to_string().contains("was killed by signal 9"));
    assert!(killed.hints[0].contains("memory"));
}

#[test]
fn a_deferred_text_sees_its_fields_and_the_machines_values() {
    let context = context().build();
    let data = BTreeMap::from([("Path".to_owned(), Data::Text("/tmp/a b.sh".into()))]);
    let render = |text: &str| render("execute_command", text, &context, &data, "A='{{.Path}}' ");
    assert_eq!(
        render("{{.Vars}}sh '{{.Path}}' {{.ID}} {{build `Host`}} {{build_type}}").unwrap(),
        "A='{{.Path}}' sh '/tmp/a b.sh' 4f1c localhost docker"
    );
    render("sh {{.Pth}}").unwrap();
    assert_eq!(context.reporter.warnings(), ["`execute_command`: there is no `{{.Pth}}`; did you mean `{{.Path}}`?"]);
    assert!(render("{{.Path").unwrap_err().to_string().contains("cannot render `execute_command`"));
}

/// A small generator (xorshift) of texts out of the characters that quoting gets wrong.
fn wild_texts(count: usize) -> Vec<String> {
    let alphabet: Vec<char> = "ab '\"\\$`!*?~#;&|<>(){}[]\n\t%-ü=".chars().collect();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % bound as u64).unwrap()
    };
    (0..count).map(|_| (0..next(12)).map(|_| alphabet[next(alphabet.len())]).collect()).collect()
}

#[test]
fn whatever_is_quoted_arrives_in_a_real_shell() {
    let format = VariableFormat::parse(DEFAULT_VARIABLE_FORMAT).unwrap();
    let texts = wild_texts(300);
    let words: Vec<String> = texts.iter().map(|text| quote(text)).collect();
    let assigned: Vec<String> =
        texts.iter().map(|text| format!("{} printf '%s\\0' \"$X\"", prefix(&format, text))).collect();
    let expected: String = texts.iter().map(|text| format!("{text}\0")).collect();
    for script in [format!("printf '%s\\0' {}", words.join(" ")), assigned.join("\n")] {
        let output = std::process::Command::new("/bin/sh").arg("-c").arg(&script).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    }
}

/// `X='...'; ` as a statement of its own, so that `"$X"` after it sees it.
fn prefix(format: &VariableFormat, text: &str) -> String {
    format!("{};", format.assign("X", text).trim_end())
}
