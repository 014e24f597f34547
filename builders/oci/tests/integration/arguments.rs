//! Mistakes in a source's arguments.

use std::sync::Arc;

use kiln_builder_docker::{DockerBuilderKind, DockerSettings};
use kiln_core::BuilderKind;
use kiln_testkit::Arguments;
use serde_json::{Value, json};

use crate::support::{World, prepare};

/// Titles with the text at their places.
fn mistakes_of(kind: &dyn BuilderKind, arguments: Value) -> Vec<(String, String)> {
    let arguments = Arguments::new(arguments);
    let (builder, diagnostics) = prepare(kind, &arguments);
    assert!(builder.is_some() || diagnostics.has_errors());
    let place = |span| arguments.text_at(span);
    let items = diagnostics.items.iter();
    items
        .map(|item| (item.title.clone(), item.primary.as_ref().map(|label| place(label.span)).unwrap_or_default()))
        .collect()
}

fn mistakes(arguments: Value) -> Vec<(String, String)> {
    mistakes_of(&World::new().kind(), arguments)
}

fn only(arguments: Value) -> (String, String) {
    let mut found = mistakes(arguments.clone());
    assert_eq!(found.len(), 1, "{arguments}: {found:?}");
    found.remove(0)
}

#[test]
fn one_base_in_one_of_its_forms() {
    assert_eq!(only(json!({})).0, "an oci source takes one of `from`, `image`");
    assert!(only(json!({ "from": "a", "image": "b" })).0.contains("both set"));
    assert_eq!(only(json!({ "from": "Debian" })).1, "\"Debian\"");
    let (title, place) = only(json!({ "from": { "mmdebstrap": { "suit": "sid" } } }));
    assert_eq!((title.as_str(), place.as_str()), ("`mmdebstrap` has no `suit`", "\"sid\""));
    for whole in [
        json!({ "from": "scratch" }),
        json!({ "image": "debian:12" }),
        json!({ "from": { "busybox": true } }),
        json!({ "from": { "oci_layout": "/tmp", "name": "y" } }),
    ] {
        assert_eq!(mistakes(whole.clone()), [], "{whole}");
    }
}

/// A source that pushes is not to be skipped because something else is published already.
#[test]
fn a_source_pushes_also_where_its_names_are_not_known_yet() {
    let world = World::new();
    let pushes = |arguments: Value, unknown: &[&str]| {
        let arguments = unknown.iter().fold(Arguments::new(arguments), |arguments, path| arguments.unknown(path));
        let builder = prepare(&world.kind(), &arguments).0.unwrap();
        (builder.pushes(), builder.pushed_names())
    };
    assert_eq!(pushes(json!({ "from": "a" }), &[]), (false, vec![]));
    let name = "registry.example.org/a:1".to_owned();
    assert_eq!(pushes(json!({ "from": "a", "push": [name] }), &[]), (true, vec![name.clone()]));
    assert_eq!(pushes(json!({ "from": "a", "push": [name] }), &["push"]), (true, vec![]));
}

#[test]
fn what_does_not_go_together_is_told_with_both_places() {
    assert_eq!(
        only(json!({ "from": "a", "discard": true, "push": ["x/y"] })).0,
        "`discard` throws away what `push` asks for"
    );
    let seen = only(json!({ "from": "a", "format": "docker", "compression": "zstd" }));
    assert_eq!(seen.0, "images in Docker's format cannot have layers in zstd");
    assert!(only(json!({ "from": "a", "compression": "brotli" })).0.contains("`brotli` is no compression"));
    assert_eq!(only(json!({ "from": "a", "load": true })).0, "`load` without `tags`");
}

#[test]
fn mistakes_point_at_their_item() {
    assert_eq!(only(json!({ "from": "a", "push": ["ok/x", "x/Not"] })).1, "\"x/Not\"");
    assert!(
        only(json!({ "from": "a", "tags": [format!("x@sha256:{}", "0".repeat(64))] })).0.contains("names a digest")
    );
    assert_eq!(only(json!({ "from": "a", "changes": ["USER x", "RUN y"] })).1, "\"RUN y\"");
    assert_eq!(only(json!({ "from": "a", "volumes": { "cache": "/c" } })).1, "\"/c\"");
    assert_eq!(only(json!({ "from": "a", "run_command": ["-d", "--frob", "{{.Image}}"] })).1, "\"--frob\"");
    assert!(only(json!({ "from": "a", "network": "mine" })).0.contains("cannot be `mine`"));
    assert!(only(json!({ "from": "a", "login": true, "login_username": "u" })).0.contains("needs `login_password`"));
}

#[test]
fn what_is_not_there_is_told_before_the_build() {
    for (arguments, path, place) in [
        (json!({ "from": { "oci_layout": "/no/layout" } }), "/no/layout", "\"/no/layout\""),
        (json!({ "from": { "tar": "/no/root.tar" } }), "/no/root.tar", "\"/no/root.tar\""),
        (json!({ "from": "a", "volumes": { "/no/src": "/src" } }), "/no/src", "\"/src\""),
        (json!({ "from": "a", "device": ["/dev/null", "/dev/no"] }), "/dev/no", "\"/dev/no\""),
    ] {
        let (title, seen) = only(arguments);
        assert_eq!((title, seen.as_str()), (format!("there is no {path}"), place));
    }
    let seen = only(json!({ "from": "a", "cap_add": ["SYS_TIME", "cap_net_admn"] }));
    assert_eq!(seen, ("no capability is called `cap_net_admn`".to_owned(), "\"cap_net_admn\"".to_owned()));
    let words = json!(["-d", "--memory", "1g", "--pid=host", "{{.Image}}", "top"]);
    let places: Vec<String> =
        mistakes(json!({ "from": "a", "run_command": words })).into_iter().map(|(_, place)| place).collect();
    assert_eq!(places, ["\"--memory\"", "\"--pid=host\"", "\"top\""]);
}

#[test]
fn docker_sources_are_checked_by_their_own_kind_first() {
    let world = World::new();
    let docker = Arc::new(DockerBuilderKind::new(DockerSettings::new(world.engine.clone())));
    let kind = world.kind().as_docker(docker);
    let seen = |arguments: Value| mistakes_of(&*kind, arguments);
    assert_eq!(seen(json!({ "image": "a", "commit": true })), []);
    assert!(seen(json!({ "image": "a" }))[0].0.contains("a docker source takes one of `commit`"));
    let build = seen(json!({ "build": { "path": "Dockerfile" }, "commit": true }));
    assert!(build.iter().any(|(title, _)| title.contains("needs the Docker engine")), "{build:?}");
    let packers = json!({
        "image": "a", "commit": true, "runtime": "runsc", "network": "bridge", "changes": ["RUN x"],
        "run_command": ["-d", "-i", "-t", "--entrypoint=/bin/sh", "--", "{{.Image}}"],
    });
    let titles: Vec<String> = seen(packers).into_iter().map(|(title, _)| title).collect();
    assert_eq!(titles.len(), 3, "each once: {titles:?}");
    assert!(seen(json!({ "image": "a", "commit": true, "network": "mine" }))[0].0.contains("`mine`"));
}
