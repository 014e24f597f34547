//! `dockerfile` sources, against a real engine's BuildKit.

use serde_json::Value as Json;

use crate::support::docker::{self, Removed};
use crate::support::without_buildkit::WithoutBuildkit;
use crate::support::{World, stable};

/// A name of images that no other test has.
fn unique(what: &str) -> String {
    format!("kiln-test-dockerfile-{what}-{}", std::process::id())
}

/// A template with a build for each source, each named `NAME/BUILD:1` at the end.
fn template(name: &str, sources: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (build, body) in sources {
        text.push_str(&format!("source \"dockerfile\" \"{build}\" {{\n{body}\n}}\n"));
        text.push_str(&format!(
            "build {{\n  sources = [\"dockerfile.{build}\"]\n  post-processor \"docker-tag\" {{\n    repository = \"{name}/{build}\"\n    tags = [\"1\"]\n  }}\n}}\n"
        ));
    }
    text
}

fn events(world: &World, arguments: &[&str]) -> Vec<Json> {
    let mut all = vec!["build", "-json"];
    all.extend(arguments);
    let outcome = world.succeed(&all);
    assert_eq!(world.leftovers(), Vec::<std::path::PathBuf>::new());
    outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn messages(events: &[Json]) -> Vec<&str> {
    events.iter().filter_map(|event| event["text"].as_str()).collect()
}

/// Names that are lent to images of this test, whose base bears the label.
fn lent_names(label: &str) -> Vec<String> {
    docker::images_with(&format!("kiln.test={label}"))
        .iter()
        .filter_map(|id| docker::image(id))
        .flat_map(|image| image["RepoTags"].as_array().cloned().unwrap_or_default())
        .filter_map(|tag| tag.as_str().map(str::to_owned))
        .filter(|tag| tag.starts_with("kiln.local/"))
        .collect()
}

#[test]
fn a_rebuild_has_the_same_id_and_sends_nothing_of_the_context() {
    if !docker::is_there() {
        return;
    }
    let (world, name) = (World::new(), unique("same"));
    world.write(
        "app/Dockerfile",
        "ARG V=0\nFROM debian:bookworm AS one\nCOPY data /data\nARG V\nRUN echo $V > /v\nFROM one\nRUN false\n",
    );
    world.write("app/data/file", "content");
    world.write("app/unneeded", &"x".repeat(1 << 20));
    let body = "  context = \"app\"\n  target = \"one\"\n  build_args = { V = \"7\" }\n  labels = { team = \"infra\" }";
    world.write("t.kiln.hcl", &template(&name, &[("app", body)]));
    let tag = format!("{name}/app:1");
    let removed = Removed(vec![tag.clone()]);
    let first = events(&world, &["t.kiln.hcl"]);
    let image = docker::image(&tag).unwrap();
    assert_eq!(image["Config"]["Labels"]["team"], "infra");
    assert_eq!(image["Config"]["Labels"]["kiln.build"], "dockerfile.app");
    assert_eq!(docker::run_in(&tag, "cat /v /data/file").trim_end(), "7\ncontent");
    let sent = messages(&first).into_iter().find(|text| text.starts_with("sent ")).unwrap().to_owned();
    assert!(sent.ends_with("of 2 files"), "{sent}");
    let again = events(&world, &["t.kiln.hcl"]);
    assert_eq!(docker::image(&tag).unwrap()["Id"], image["Id"]);
    assert!(messages(&again).iter().any(|text| text.starts_with("CACHED ") && text.contains("COPY data")));
    drop(removed);
}

#[test]
fn builds_are_built_upon_each_other_by_any_name() {
    if !docker::is_there() {
        return;
    }
    let (world, name) = (World::new(), unique("diamond"));
    let base = format!(
        "FROM debian:bookworm\nLABEL kiln.test={name}\nRUN echo base > /base\nONBUILD RUN echo fired > /onbuild\n"
    );
    world.write("base.Dockerfile", &base);
    world.write("dev.Dockerfile", "FROM my-base\nRUN echo dev > /dev-file\n");
    world.write(
        "prod.Dockerfile",
        "ARG DEV=group/dev:1\nFROM ${DEV} AS builder\nRUN cat /base /dev-file > /built\nFROM my-base\nCOPY --from=builder /built /built\nRUN --mount=from=files,target=/f cp /f/shared /shared\n",
    );
    world.write("files/shared", "shared\n");
    let sources = [
        ("base", "  dockerfile = \"base.Dockerfile\""),
        (
            "dev",
            "  dockerfile = \"dev.Dockerfile\"\n  contexts = { my-base = artifact.base.image }\n  pull = \"always\"",
        ),
        (
            "prod",
            "  dockerfile = \"prod.Dockerfile\"\n  contexts = { my-base = artifact.base.image, \"group/dev:1\" = artifact.dev.image, files = \"files\" }",
        ),
    ];
    let mut text = template(&name, &sources[1..]);
    // A parent without any name: it has to outlive being lent one.
    text.push_str(&format!(
        "source \"dockerfile\" \"base\" {{\n{}\n}}\nbuild {{ sources = [\"dockerfile.base\"] }}\n",
        sources[0].1
    ));
    world.write("t.kiln.hcl", &text);
    let mut removed = Removed(vec![format!("{name}/dev:1"), format!("{name}/prod:1")]);
    let seen = events(&world, &["t.kiln.hcl"]);
    let base = seen
        .iter()
        .find(|event| event["event"] == "build-finished" && event["build"] == "dockerfile.base")
        .and_then(|event| event["artifacts"][0]["id"].as_str().map(str::to_owned))
        .unwrap();
    removed.0.push(base.clone());
    assert!(docker::image(&base).is_some(), "the parent is gone");
    let prod = format!("{name}/prod:1");
    assert_eq!(docker::run_in(&prod, "cat /built /shared /onbuild").trim_end(), "base\ndev\nshared\nfired");
    assert_eq!(lent_names(&name), Vec::<String>::new());
    let ids: Vec<Json> =
        ["dev", "prod"].map(|build| docker::image(&format!("{name}/{build}:1")).unwrap()["Id"].clone()).into();
    let again = events(&world, &["t.kiln.hcl"]);
    let now: Vec<Json> =
        ["dev", "prod"].map(|build| docker::image(&format!("{name}/{build}:1")).unwrap()["Id"].clone()).into();
    assert_eq!(now, ids, "{:?}", messages(&again));
}

#[test]
fn steps_go_on_and_are_restored_while_the_image_is_the_same() {
    if !docker::is_there() {
        return;
    }
    let (world, name) = (World::new(), unique("steps"));
    world.write("Dockerfile", "FROM debian:bookworm\nRUN echo one > /one\nUSER nobody\n");
    let mut text = template(&name, &[("app", "  changes = [\"CMD [\\\"serve\\\"]\"]\n  exec_user = \"root\"")]);
    text = text.replace(
        "  post-processor",
        "  provisioner \"shell\" {\n    inline = [\"cat /one > /two\"]\n    checkpoint = true\n  }\n  post-processor",
    );
    world.write("t.kiln.hcl", &text);
    let tag = format!("{name}/app:1");
    let _removed = Removed(vec![tag.clone()]);
    events(&world, &["t.kiln.hcl"]);
    let image = docker::image(&tag).unwrap();
    assert_eq!(image["Config"]["Cmd"], serde_json::json!(["serve"]));
    assert_eq!(image["Config"]["User"], "nobody");
    assert_eq!(docker::run_in(&tag, "cat /two").trim_end(), "one");
    let again = events(&world, &["t.kiln.hcl"]);
    assert!(again.iter().any(|event| event["event"] == "step-cached"), "{:?}", messages(&again));
    let plan = world.succeed(&["plan", "t.kiln.hcl"]).stdout;
    assert!(plan.contains("  runs     the Dockerfile: what builds it decides what is repeated\n"), "{plan}");
    assert!(plan.ends_with("; 1 Dockerfile would be built\n"), "{plan}");
}

#[test]
fn what_was_built_is_tested_before_it_is_named() {
    if !docker::is_there() {
        return;
    }
    let (world, name) = (World::new(), unique("tested"));
    world.write("Dockerfile", "FROM debian:bookworm\nENV VERSION=2.1\nENTRYPOINT [\"/bin/echo\", \"app\"]\n");
    let text = |expected: &str| {
        let test = format!(
            "  test \"version\" {{\n    arguments = [\"2.1\"]\n    expect_output = \"{expected}\"\n  }}\n  post-processor"
        );
        template(&name, &[("app", "")]).replace("  post-processor", &test)
    };
    let tag = format!("{name}/app:1");
    let _removed = Removed(vec![tag.clone()]);
    world.write("t.kiln.hcl", &text("^app 3"));
    let failed = world.run(&["build", "t.kiln.hcl"]);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    assert!(failed.stderr.contains("t.kiln.hcl:6"), "{}", failed.stderr);
    assert!(failed.stderr.contains("app 2.1"), "its output: {}", failed.stderr);
    assert!(docker::image(&tag).is_none(), "a name was given to what failed its test");
    world.write("t.kiln.hcl", &text("^app 2"));
    events(&world, &["t.kiln.hcl"]);
    assert!(docker::image(&tag).is_some());
}

/// Both have it under one id, and the build that fails must not take it from the other.
#[test]
fn what_two_builds_made_stays_when_one_of_them_fails() {
    if !docker::is_there() {
        return;
    }
    let (world, label) = (World::new(), unique("shared"));
    world.write("Dockerfile", &format!("FROM debian:bookworm\nLABEL kiln.test={label}\nRUN echo {label} > /made\n"));
    let build = |name: &str, command: &str| {
        format!(
            "source \"dockerfile\" \"{name}\" {{\n  kiln_labels = false\n}}\nbuild {{\n  sources = [\"dockerfile.{name}\"]\n  post-processor \"shell-local\" {{\n    inline = [\"{command}\"]\n  }}\n}}\n"
        )
    };
    let waits = "until test -e built; do sleep 0.05; done; exit 1";
    world.write("t.kiln.hcl", &format!("{}{}", build("bad", waits), build("good", "touch built")));
    let outcome = world.run(&["build", "t.kiln.hcl"]);
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    let images = docker::images_with(&format!("kiln.test={label}"));
    assert_eq!(images.len(), 1, "{images:?}: {}", outcome.stderr);
    assert_eq!(world.leftovers(), Vec::<std::path::PathBuf>::new());
    // So does what an earlier run made.
    let failed = world.run(&["build", "-only", "dockerfile.bad", "t.kiln.hcl"]);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    assert_eq!(docker::images_with(&format!("kiln.test={label}")), images, "{}", failed.stderr);
    docker::remove_at(&docker::socket(), &images[0]);
    // What a build that fails made alone goes with it.
    assert_eq!(world.run(&["build", "-only", "dockerfile.bad", "t.kiln.hcl"]).code, 1);
    assert_eq!(docker::images_with(&format!("kiln.test={label}")), Vec::<String>::new());
}

#[test]
fn mistakes_name_their_lines() {
    let world = World::new();
    world.write("app/Dockerfile", "FROM debian:bookworm AS build\n\nRUM make\n");
    world.write("other/Dockerfile", "FROM debian:bookworm AS build\n");
    world.write(
        "ignoring/Dockerfile",
        "FROM debian:bookworm AS tests\nCOPY tests /\nFROM debian:bookworm\nARG DIR=tests\nCOPY src $DIR ./docs/a.md /\n",
    );
    world.write("cached/Dockerfile", "FROM debian:bookworm\n");
    world.write("ignoring/.dockerignore", "tests\n# words\ndocs\n");
    world.write(
        "t.kiln.hcl",
        &template(
            "x",
            &[
                ("ignoring", "  context = \"ignoring\""),
                ("app", "  context = \"app\""),
                ("other", "  context = \"other\"\n  target = \"biuld\""),
                ("none", "  context = \"missing\""),
                ("cached", "  context = \"cached\"\n  cache_to = [\"type=inline\", \"type=local,dest=/tmp/x\"]"),
            ],
        ),
    );
    let outcome = world.run(&["validate", "t.kiln.hcl"]);
    insta::assert_snapshot!(stable(&format!("{}\n{}", outcome.code, outcome.stderr), &world));
}

#[test]
fn failures_name_the_instruction_and_its_output() {
    if !docker::is_there() {
        return;
    }
    let (world, name) = (World::new(), unique("fails"));
    world.write("app/Dockerfile", "FROM debian:bookworm\nCOPY src /src\nRUN echo some words && \\\n    exit 7\n");
    world.write("app/src/file", "");
    world.write("t.kiln.hcl", &template(&name, &[("app", "  context = \"app\"")]));
    let outcome = world.run(&["build", "t.kiln.hcl"]);
    assert_eq!(outcome.code, 1);
    let told = outcome.stderr.split("error: ").nth(1).unwrap().split("finished").next().unwrap().to_owned();
    assert!(
        told.contains("Dockerfile:3:1") && told.contains("exit 7") && told.contains("some words"),
        "{}",
        outcome.stderr
    );
    world.write("app/.dockerignore", "# all but\n*\n!Dockerfile\n");
    let outcome = world.run(&["build", "t.kiln.hcl"]);
    assert_eq!(outcome.code, 3, "it shows before anything runs");
    assert!(outcome.stderr.contains("`src` is not in the context"), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains(".dockerignore:2") && outcome.stderr.contains("Dockerfile:2:6"),
        "{}",
        outcome.stderr
    );
    assert_eq!(world.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn secrets_are_for_their_steps_alone() {
    if !docker::is_there() {
        return;
    }
    let (world, name) = (World::new(), unique("secret"));
    world.write(
        "Dockerfile",
        "FROM debian:bookworm\nRUN --mount=type=secret,id=word sha256sum /run/secrets/word > /sum && cat /run/secrets/word\n",
    );
    world.write("word.txt", "from a file");
    let body = |secrets: &str| format!("  no_cache = true\n  {secrets}");
    world.write("t.kiln.hcl", &template(&name, &[("app", &body("secrets = { word = \"open sesame\" }"))]));
    let tag = format!("{name}/app:1");
    let _removed = Removed(vec![tag.clone()]);
    let outcome = world.succeed(&["build", "t.kiln.hcl"]);
    assert!(!outcome.stderr.contains("open sesame") && !outcome.stdout.contains("open sesame"), "{}", outcome.stderr);
    assert!(
        docker::run_in(&tag, "cat /sum")
            .starts_with("41ef4bb0b23661e66301aac36066912dac037827b4ae63a7b1165a5aa93ed4eb")
    );
    assert!(!docker::history(&tag).to_string().contains("sesame"));
    world.write("t.kiln.hcl", &template(&name, &[("app", &body("secret_files = { word = \"word.txt\" }"))]));
    let outcome = world.succeed(&["build", "t.kiln.hcl"]);
    assert!(outcome.stderr.contains("sha256sum") && !outcome.stderr.contains("from a file"), "{}", outcome.stderr);
    assert!(docker::run_in(&tag, "test -s /sum && echo there").contains("there"));
}

#[test]
fn a_checkout_is_clean() {
    if !docker::is_there() {
        return;
    }
    let (mut world, name) = (World::new(), unique("git"));
    world.write("repo/docker/Dockerfile", "FROM debian:bookworm\nCOPY file /file\n");
    world.write("repo/docker/file", "committed");
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"];
        let directory = world.path().join("repo");
        let status = std::process::Command::new("git").args(identity).args(arguments).current_dir(directory).status();
        assert!(status.unwrap().success());
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "one"]);
    git(&["tag", "v1"]);
    world.write("repo/docker/file", "dirty");
    let body = "  context = \"git::./repo//docker?ref=v1\"";
    world.write("t.kiln.hcl", &template(&name, &[("app", body)]));
    let tag = format!("{name}/app:1");
    let _removed = Removed(vec![tag.clone()]);
    events(&world, &["t.kiln.hcl"]);
    assert_eq!(docker::run_in(&tag, "cat /file"), "committed");
    let config = std::fs::read(world.path().join("repo/.git/config")).unwrap();
    // As in a hook of that repository, which is not for kiln to change.
    world.env("GIT_DIR", world.path().join("repo/.git").to_str().unwrap());
    let body = format!(
        "  context = \"git::{}\"\n  dockerfile_inline = \"FROM debian:bookworm\\nCOPY . /all\"\n",
        world.path().join("repo").display()
    );
    world.write("t.kiln.hcl", &template(&name, &[("app", &body)]));
    events(&world, &["t.kiln.hcl"]);
    assert_eq!(docker::run_in(&tag, "ls -A /all").trim_end(), "docker");
    assert_eq!(std::fs::read(world.path().join("repo/.git/config")).unwrap(), config);
    let again = events(&world, &["t.kiln.hcl"]);
    let is_cached = |event: &Json| event.to_string().contains("CACHED [2/2] COPY . /all");
    assert!(again.iter().any(is_cached), "{again:#?}");
}

#[test]
fn an_engine_without_buildkit_builds_what_it_can() {
    if !docker::is_there() {
        return;
    }
    let (mut world, name) = (World::new(), unique("classic"));
    let engine = WithoutBuildkit::start(world.path(), &docker::socket());
    world.env("DOCKER_HOST", &engine.address());
    world.write("app/Dockerfile", "FROM debian:bookworm AS one\nCOPY . /all\nRUN test ! -e /all/private && ls /all > /seen\nFROM one\nRUN exit 7\n");
    world.write("app/file", "content");
    world.write("app/private/key", "key");
    world.write("app/.dockerignore", "*\n!file\n");
    world.write("t.kiln.hcl", &template(&name, &[("app", "  context = \"app\"\n  target = \"one\"")]));
    let tag = format!("{name}/app:1");
    let _removed = Removed(vec![tag.clone()]);
    events(&world, &["t.kiln.hcl"]);
    assert_eq!(docker::run_in(&tag, "cat /seen").trim_end(), "file");
    world.write("t.kiln.hcl", &template(&name, &[("app", "  context = \"app\"")]));
    let outcome = world.run(&["build", "t.kiln.hcl"]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("Dockerfile:5:1"), "{}", outcome.stderr);
    world.write("app/Dockerfile", "FROM debian:bookworm\nRUN --mount=type=cache,target=/c true\n");
    let outcome = world.run(&["build", "t.kiln.hcl"]);
    assert!(outcome.stderr.contains("`RUN --mount` needs BuildKit"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("Dockerfile:2:5"), "{}", outcome.stderr);
    assert_eq!(world.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn ctrl_c_stops_buildkit_and_leaves_nothing() {
    if !docker::is_there() {
        return;
    }
    let (world, name) = (World::new(), unique("cancel"));
    world.write("base.Dockerfile", &format!("FROM debian:bookworm\nLABEL kiln.test={name}\nRUN echo base > /base\n"));
    world.write("Dockerfile", "FROM base\nRUN echo now-it-sleeps && sleep 300\n");
    let mut text = template(&name, &[("app", "  contexts = { base = artifact.base.image }\n  no_cache = true")]);
    text.push_str("source \"dockerfile\" \"base\" {\n  dockerfile = \"base.Dockerfile\"\n}\nbuild { sources = [\"dockerfile.base\"] }\n");
    world.write("t.kiln.hcl", &text);
    let mut running = world.start(&["build", "-json", "t.kiln.hcl"]);
    running.wait_for("the step", |event| event["line"].as_str().is_some_and(|line| line.contains("now-it-sleeps")));
    assert!(!lent_names(&name).is_empty());
    let started = std::time::Instant::now();
    running.ctrl_c();
    let (code, output) = running.end();
    assert_eq!(code, 130, "{output}");
    assert!(started.elapsed().as_secs() < 20);
    assert_eq!(lent_names(&name), Vec::<String>::new());
    assert_eq!(world.leftovers(), Vec::<std::path::PathBuf>::new());
    let _removed = Removed(docker::images_with(&format!("kiln.test={name}")));
}

#[test]
fn killed_with_a_parent_that_is_lent_a_name_cleanup_leaves_nothing() {
    if !docker::is_there() {
        return;
    }
    let (world, name) = (World::new(), unique("killed"));
    world.write("base.Dockerfile", &format!("FROM debian:bookworm\nLABEL kiln.test={name}\nRUN echo {name} > /base\n"));
    world.write("Dockerfile", "FROM base\nRUN echo now-it-sleeps && sleep 30\n");
    let mut text = template(&name, &[("app", "  contexts = { base = artifact.base.image }\n  no_cache = true")]);
    text.push_str("source \"dockerfile\" \"base\" {\n  dockerfile = \"base.Dockerfile\"\n}\nbuild { sources = [\"dockerfile.base\"] }\n");
    world.write("t.kiln.hcl", &text);
    let mut running = world.start(&["build", "-json", "t.kiln.hcl"]);
    running.wait_for("the step", |event| event["line"].as_str().is_some_and(|line| line.contains("now-it-sleeps")));
    assert!(!lent_names(&name).is_empty());
    running.signal("KILL");
    let (code, output) = running.end();
    assert_ne!(code, 0, "{output}");
    let told = world.succeed(&["cleanup"]).stderr;
    assert_eq!(lent_names(&name), Vec::<String>::new(), "{told}");
    assert_eq!(docker::image(&format!("{name}/app:1")), None, "{told}");
    assert_eq!(world.leftovers(), Vec::<std::path::PathBuf>::new(), "{told}");
    // The base was finished: it is the user's, and lost only the name that it was lent.
    let _removed = Removed(docker::images_with(&format!("kiln.test={name}")));
}
