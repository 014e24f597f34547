use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::*;

/// 2026-11-23T00:37:16.474163Z, a moment at which the outputs below were compared with Packer's.
fn moment() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_394_236_474_163)
}

fn text_scope() -> TextScope {
    let variables = [("a", "A b"), ("nested", "{{user `a`}}x"), ("empty", ""), ("loop", "{{user `loop`}}z")];
    TextScope {
        user_variables: Some(Arc::new(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into())),
        environment: BTreeMap::from([("RELEASE".to_owned(), "bookworm".to_owned())]).into(),
        template_dir: "templates/./x/..".into(),
        working_dir: "/work".into(),
        started: moment(),
    }
}

fn data() -> BTreeMap<String, Data> {
    BTreeMap::from([
        ("Path".to_owned(), Data::Text("/tmp/script.sh".to_owned())),
        ("Vars".to_owned(), Data::Text("A='{{user `a`}}' ".to_owned())),
        ("SourceAMITags".to_owned(), Data::Map([("Name".to_owned(), Data::Text("base".to_owned()))].into())),
    ])
}

fn report(text: &str) -> Result<Report, RenderError> {
    let scope = text_scope();
    let build = BTreeMap::from([("ID".to_owned(), "i-1".to_owned()), ("Host".to_owned(), "{{x}}".to_owned())]);
    let scope = Scope {
        text: &scope,
        build_name: Some("worker"),
        build_type: Some("docker"),
        build: Some(&build),
        allow_env: false,
    };
    render_with_report(text, &scope, &data())
}

#[track_caller]
fn gives(text: &str, expected: &str) {
    assert_eq!(report(text).map(|report| report.rendered), Ok(Rendered::Text(expected.to_owned())), "{text}");
}

/// Expects an error with a message that holds `message`, on the part of the text given as `place`.
#[track_caller]
fn fails(text: &str, message: &str, place: &str) -> RenderError {
    let error = report(text).expect_err(text);
    assert!(error.message.contains(message), "{text}: {}", error.message);
    let range = error.range.clone().unwrap_or_default();
    assert_eq!(&text[range], place, "{text}: {}", error.message);
    error
}

#[test]
fn functions_give_what_packer_gives() {
    let rows = [
        ("plain } text { %", "plain } text { %"),
        ("{{user `a`}}", "A b"),
        ("{{user \"nested\"}}", "A bx"),
        ("[{{user `empty`}}]", "[]"),
        ("{{timestamp}}", "1795394236"),
        ("{{isotime}}", "2026-11-23T00:37:16Z"),
        ("{{isotime | clean_resource_name}}", "2026-11-23T00-37-16Z"),
        ("{{clean_ami_name `a:b(c)/d$ü`}}", "a-b(c)/d--"),
        ("{{strftime \"%Y%m%d\"}}", "20261123"),
        ("{{template_dir}}", "/work/templates"),
        ("{{pwd}}", "/work"),
        ("{{packer_version}}", kiln_core::PACKER_VERSION),
        ("{{build_name}} {{build_type}}", "worker docker"),
        ("{{build `ID`}}", "i-1"),
        ("{{split `a-b-c` `-` 1}}{{split `abc` `` 2}}", "bc"),
        ("{{replace `a` `b` 1 `aaa`}} {{replace `a` `b` -1 `aaa`}}", "baa bbb"),
        ("{{replace_all `a` `b` `aaa`}}", "bbb"),
        ("{{upper `abß`}} {{lower `ABÜİ`}}", "ABß abüi"),
        ("{{isotime `2006`| upper}}", "2026"),
        ("{{len `abc`}} {{printf `%05d|%v|%q` 3 `a` `b`}} {{eq `a` `a` `b`}}", "3 00003|a|\"b\" true"),
        ("{{/* c */}}x{{- ` y` -}} z", "x yz"),
        ("{{$x := `a`}}{{$x}}", "a"),
        ("{{range $i := .L}}{{end}}ok", "ok"),
        ("{{user `a` | lower | printf `%s-%s` `x`}}", "x-a b"),
        ("{{`{{user \"a\"}}`}}", "A b"),
        ("{{if .Sudo}}sudo {{else if eq .Path `x`}}no {{else}}plain {{end}}{{.Path}}", "plain /tmp/script.sh"),
        ("{{with .SourceAMITags}}{{.Name}}{{end}} {{.SourceAMITags.Name}}", "base base"),
        ("{{define `t`}}<{{.}}>{{end}}{{template `t` `x`}}", "<x>"),
        ("{{uuid | len}}", "36"),
    ];
    for (text, expected) in rows {
        gives(text, expected);
    }
}

#[test]
fn values_of_the_run_are_never_templates() {
    gives("{{.Vars}}{{.Path}}", "A='{{user `a`}}' /tmp/script.sh");
    gives("{{build `Host`}}", "{{x}}");
}

#[test]
fn a_missing_field_prints_no_value_and_is_reported() {
    let report = report("sh {{.Pth}} {{if .Sudo}}x{{end}}{{.Vars}}").unwrap();
    assert_eq!(report.rendered, Rendered::Text("sh <no value> A='{{user `a`}}' ".to_owned()));
    let expected = MissingField { path: ".Pth".to_owned(), range: Some(3..11), suggestion: Some(".Path".to_owned()) };
    assert_eq!(report.missing_fields, [expected]);
}

#[test]
fn stray_and_missing_ends_are_errors() {
    fails("a{{end}}b", "ends nothing", "{{end}}");
    fails("a {{ else }} b", "belongs to nothing", "{{ else }}");
    fails("{{if true}}x{{else}}y{{else}}z{{end}}", "has its `{{else}}` already", "{{else}}");
    fails("x {{if true}}y", "the `if` is not closed", "{{if true}}");
    fails("{{range .L}}{{if true}}{{end}}", "the `range` is not closed", "{{range .L}}");
    fails("{{with .A}}", "the `with` is not closed", "{{with .A}}");
    gives("{{if true}}x{{end}}", "x");
    gives("{{if false}}{{else if true}}a{{else}}b{{end}}", "a");
}

#[test]
fn unclosed_actions_are_errors() {
    fails("a {{user `a`\nb", "`}}` is missing", "{{user `a`");
    fails("a {{user `a}} b", "backquotes is not closed", "{{user `a}} b");
    fails("a {{user \"a}} b", "quoted text is not closed", "{{user \"a}} b");
    fails("{{/* a }}", "comment is not closed", "{{/* a }}");
    gives("{{ \"}}\" }}", "}}");
}

#[test]
fn misspelt_names_are_placed_and_corrected() {
    let error = fails("x {{usr `a`}}", "no template function `usr`", "usr");
    assert_eq!(error.suggestion.as_deref(), Some("user"));
    let error = fails("{{if eq (upper (timestmp)) `x`}}{{end}}", "`timestmp`", "timestmp");
    assert_eq!(error.suggestion.as_deref(), Some("timestamp"));
    let error = fails("x {{user `nestd` | upper}}", "no variable `nestd`", "nestd");
    assert_eq!(error.suggestion.as_deref(), Some("nested"));
    let error = fails("x {{build `Hots`}}", "gives no value `Hots`; it gives `Host` and `ID`", "Hots");
    assert_eq!(error.suggestion.as_deref(), Some("Host"));
}

#[test]
fn wrong_calls_are_placed_at_their_action() {
    fails("x {{user}}", "`user` takes 1 argument, 0 given", "{{user}}");
    fails("{{timestamp}} {{upper `a` `b`}}", "`upper` takes 1 argument, 2 given", "{{upper `a` `b`}}");
    fails("{{isotime `a` `b`}}", "`isotime` takes at most 1 argument, 2 given", "{{isotime `a` `b`}}");
    fails("{{uuid 1}}", "`uuid` takes no arguments, 1 given", "{{uuid 1}}");
    fails("{{aws_secretsmanager}}", "takes 1 to 2 arguments", "{{aws_secretsmanager}}");
    fails("{{upper 1}}", "`upper` takes a text as argument 1, and this is a number", "{{upper 1}}");
    fails("{{split `a` `b` `c`}}", "takes a whole number as argument 3", "{{split `a` `b` `c`}}");
    fails("{{upper .Foo}}", "this is no value", "{{upper .Foo}}");
    fails("{{user 'a'}}", "takes a text as argument 1", "{{user 'a'}}");
    fails("{{split `a-b-c` `-` 7}}", "gives 3", "{{split `a-b-c` `-` 7}}");
    fails("{{split `a-b-c` `-` -1}}", "has no piece -1", "{{split `a-b-c` `-` -1}}");
    fails("{{timestamp}}{{index `a` 9}}", "", "{{index `a` 9}}");
    fails("{{timestamp}}{{.Path.X}}", "can't evaluate field X", "{{.Path.X}}");
    fails("{{timestamp}}{{$x}}", "", "{{$x}}");
}

#[test]
fn what_is_not_there_says_so() {
    fails("{{env `HOME`}}", "only allowed in the defaults of variables", "{{env `HOME`}}");
    fails("{{consul_key `a`}}", "kiln does not have `consul_key`", "{{consul_key `a`}}");
    fails("{{vault `a` `b`}}", "kiln does not have `vault`", "{{vault `a` `b`}}");
    fails("{{sed `a` `b`}}", "use `replace` or `replace_all`", "{{sed `a` `b`}}");
}

#[test]
fn env_works_where_it_is_allowed() {
    let text = text_scope();
    let scope = Scope { text: &text, build_name: None, build_type: None, build: None, allow_env: true };
    assert_eq!(render("{{env `RELEASE`}}", &scope, &BTreeMap::new()), Ok(Rendered::Text("bookworm".to_owned())));
    // What the process holds and was not handed in is not there.
    let absent = render("[{{env `PATH`}}]", &scope, &BTreeMap::new());
    assert_eq!(absent, Ok(Rendered::Text("[]".to_owned())));
    let error = render("{{build_name}}", &scope, &BTreeMap::new()).unwrap_err();
    assert!(error.message.contains("no build is at hand"), "{error}");
}

#[test]
fn hcl_has_no_user_function() {
    let text = TextScope { user_variables: None, ..text_scope() };
    let scope = Scope { text: &text, build_name: None, build_type: None, build: None, allow_env: false };
    let error = render("x {{user `release`}}", &scope, &BTreeMap::new()).unwrap_err();
    assert!(error.message.contains("in HCL2 write `${var.release}`"), "{error}");
    assert_eq!(error.range, Some(2..20));
}

#[test]
fn the_machine_is_unknown_before_it_runs() {
    let text = text_scope();
    let scope = Scope { text: &text, build_name: None, build_type: None, build: None, allow_env: false };
    let fields = BTreeMap::new();
    assert_eq!(render("{{build `ID` | upper}}", &scope, &fields), Ok(Rendered::Unknown));
    assert_eq!(render("{{split (build `Host`) `.` 3}}", &scope, &fields), Ok(Rendered::Unknown));
    assert!(render("{{build `ID`}}{{user `nestd`}}", &scope, &fields).is_err());
}

#[test]
fn a_variable_that_holds_itself_ends() {
    fails("x {{user `loop`}}", "does a variable hold itself?", "{{user `loop`}}");
}

#[test]
fn an_error_of_a_later_rendering_names_the_action_it_came_from() {
    let variables = BTreeMap::from([("bad".to_owned(), "{{end}}".to_owned())]);
    let scope = TextScope { user_variables: Some(Arc::new(variables)), ..text_scope() };
    let scope = Scope { text: &scope, build_name: None, build_type: None, build: None, allow_env: false };
    let error = render("x {{user `bad`}}", &scope, &BTreeMap::new()).unwrap_err();
    assert!(error.message.ends_with("(in the text that a first rendering gave)"), "{error}");
    assert_eq!(error.range, Some(2..16));
}

#[test]
fn action_ranges_cover_delimiters_and_heed_quotes() {
    assert!(action_ranges("none").is_empty());
    assert_eq!(action_ranges("a{{ `}}` }}b{{- /* }} */ -}}"), [1..11, 12..28]);
    assert_eq!(action_ranges("a{{ b}}c{{ d"), [1..7, 8..12]);
}

#[test]
fn go_layouts_give_what_go_gives() {
    let time = layout::utc(moment());
    let rows = [
        (
            "Mon Jan _2 15:04:05 2006 Monday January 1 2 06 3:04PM 05.000000 05,000 Z0700",
            "Mon Nov 23 00:37:16 2026 Monday November 11 23 26 12:37AM 16.474163 16,474 Z",
        ),
        ("MST -0700 002 __2 _2006 3PM pm .999 Januaryx Janx", "UTC +0000 327 327 _2026 12AM am .474 Novemberx Janx"),
        (
            "+07:00 -07 -07:00:00 -070000 Z07:00:00 .999999 .000 .0001 3:4:5 002 _2 pm",
            "+07:00 +00 +00:00:00 +000000 Z .474163 .474 .0011 12:37:16 327 23 am",
        ),
        ("ü 2006", "ü 2026"),
    ];
    for (layout, expected) in rows {
        assert_eq!(layout::format_go_layout(&time, layout), expected, "{layout}");
    }
    let later = layout::utc(SystemTime::UNIX_EPOCH + Duration::from_secs(1_794_060_000));
    let early = later.with().day(4).hour(15).minute(5).second(9).subsec_nanosecond(120_000_000).build().unwrap();
    let early = early.with_time_zone(jiff::tz::TimeZone::fixed(jiff::tz::offset(-5)));
    let layout = "2|_2|02|__2|15|03|3PM|.999|.000000|Z07:00|-0700|MST";
    assert_eq!(layout::format_go_layout(&early, layout), "4| 4|04|308|10|10|10AM|.12|.120000|-05:00|-0500|-05");
}

#[test]
fn strftime_copies_the_verbs_that_packer_lacks() {
    let time = layout::utc(moment());
    let format = "%Y-%m-%d %H:%M:%S %a %A %b %B|%I|%j|%p|%y|%z|%Z|%%|%L|%e %F %s %";
    let expected = "2026-11-23 00:37:16 Mon Monday Nov November|12|327|AM|26|+0000|UTC|%|.474|%e %F %s %";
    assert_eq!(layout::format_strftime(&time, format), expected);
}

/// Texts that are rendered later: what is wrong whatever the data is.
#[test]
fn a_text_for_later_is_checked_without_its_data() {
    let known: &[&str] = &["Path", "Vars"];
    let missing = |text: &str| -> Vec<(String, Option<String>)> {
        let found = check(text, Some(known)).unwrap();
        found.into_iter().map(|field| (text[field.range.unwrap()].to_owned(), field.suggestion)).collect()
    };
    assert_eq!(missing("chmod +x {{ .Path }}; {{.Vars}} {{if .Sudo}}sudo {{end}}{{ .Path }}"), []);
    let nearest = |name: &str| Some(name.to_owned());
    assert_eq!(
        missing("{{ .Pth }} {{if true}}{{.Var | upper}}{{end}}"),
        [(".Pth".to_owned(), nearest(".Path")), (".Var".to_owned(), nearest(".Vars"))]
    );
    // Split may well have an element 9 once the path is known.
    assert_eq!(missing("{{split .Path \"/\" 9}}{{range $i := .Vars}}{{.X}}{{end}}"), []);
    let error = |text: &str| check(text, Some(known)).unwrap_err().message;
    assert!(error("{{ .Path }").contains("not closed"), "{}", error("{{ .Path }"));
    assert_eq!(error("{{ uper .Path }}"), "there is no template function `uper`");
    assert!(error("{{if .Path}}x").contains("`{{end}}` is missing"));
    assert_eq!(check("{{ .Anything }}", None), Ok(Vec::new()));
}

#[test]
fn a_variable_is_rendered_once_and_keeps_what_prints_data() {
    let user = Arc::new(BTreeMap::from([("sudo".to_owned(), "{{.Vars}} sudo".to_owned())]));
    let text = TextScope { user_variables: Some(user), ..TextScope::default() };
    let scope = Scope { text: &text, build_name: None, build_type: None, build: None, allow_env: true };
    let rendered = |text: &str| match render_variable(text, &scope) {
        Ok(Rendered::Text(text)) => text,
        other => panic!("{other:?}"),
    };
    for (variable, expected) in [
        ("{{ .Vars }} sh {{.Path}}", "{{ .Vars }} sh {{.Path}}"),
        ("{{user `sudo`}} sh {{ .Path }}", "{{.Vars}} sudo sh {{ .Path }}"),
        ("{{upper `a`}} {{ .Vars | upper }}", "A {{ .Vars | upper }}"),
        ("{{if .Sudo}}sudo {{else}}{{.Path}} {{end}}x", "{{.Path}} x"),
        ("{{with `x`}}<{{.}}>{{end}}", "<x>"),
        ("{{`{{timestamp}}`}}", "{{timestamp}}"),
        ("no action", "no action"),
    ] {
        assert_eq!(rendered(variable), expected, "{variable}");
    }
    let place = |text: &str| render_variable(text, &scope).unwrap_err().range.map(|range| text[range].to_owned());
    assert_eq!(place("{{.Vars}} {{uper `x`}}{{.Path}}").as_deref(), Some("uper"));
    assert_eq!(place("{{.Vars}}{{.Path}}{{upper `x`").as_deref(), Some("{{upper `x`"));
    assert_eq!(place("{{uper `x`}}{{.Path}}").as_deref(), Some("uper"));
}

#[test]
fn nesting_has_a_bound() {
    let nested =
        |open: &str, inner: &str, close: &str| format!("{}{inner}{}", open.repeat(50_000), close.repeat(50_000));
    let message = |text: &str| report(text).unwrap_err().message;
    let blocks = "the blocks of this text nest deeper than 100 levels";
    assert_eq!(message(&nested("{{if true}}", "x", "{{end}}")), blocks);
    assert_eq!(message(&format!("{{{{if true}}}}{}", nested("{{else if true}}", "{{end}}", ""))), blocks);
    let parentheses = "the action has too many parentheses inside of each other";
    assert_eq!(message(&format!("{{{{{}}}}}", nested("(", "timestamp", ")"))), parentheses);
    gives(&"{{if true}}{{(lower (upper `x`))}}{{else if true}}{{end}}".repeat(200), &"x".repeat(200));
}

#[test]
fn thousands_of_missing_fields_are_told_in_part() {
    let report = report(&"{{.Nothing}} ".repeat(20_000)).unwrap();
    assert_eq!(report.missing_fields.len(), 100);
    assert_eq!(report.missing_fields[99].range, Some(99 * 13..99 * 13 + 12));
    assert_eq!(report.rendered, Rendered::Text("<no value> ".repeat(20_000)));
}
