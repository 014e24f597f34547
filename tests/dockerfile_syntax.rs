//! What may stand in a Dockerfile, at the BuildKits of two engines: nothing that they build is refused beforehand, and what
//! they refuse is told with its line.

use crate::support::docker;
use crate::support::{Outcome, World};

/// Built by both.
const OF_BOTH: &[(&str, &str)] = &[
    ("escape", "# escape=`\nFROM debian:bookworm\nRUN echo a `\n && echo c:\\\nRUN true\n"),
    ("lone-escape", "FROM debian:bookworm\n\\\nRUN true\n"),
    ("comments", "FROM debian:bookworm\nRUN echo a \\\n# words\n   # more \\\n\n && echo b\n  # words\nUSER root\n"),
    ("byte-order", "\u{feff}FROM debian:bookworm\r\nRUN echo a \\\r\n && echo b\r\nUSER root\r\n"),
    ("shebang", "#!/usr/bin/env anything\nFROM debian:bookworm\n"),
    ("arguments", "ARG V=bookworm\nARG B=debian:${V}\nFROM ${B} AS one\nFROM ${C:-debian:bookworm}\nFROM one\n"),
    ("several", "ARG A=debian T=bookworm\nFROM \"$A:$T\"\n"),
    ("platform", "FROM --platform=$BUILDPLATFORM debian:bookworm AS B\nFROM b\nCOPY --from=B /etc/hostname /x\n"),
    ("architecture", "FROM debian:bookworm AS b-amd64\nFROM debian:bookworm AS b-arm64\nFROM b-${TARGETARCH}\n"),
    ("onbuild", "FROM debian:bookworm AS a\nONBUILD COPY file /f\nFROM a\nRUN cat /f\n"),
    ("nothing-follows", "FROM debian:bookworm\nCMD\nENTRYPOINT\nRUN\n"),
    ("list", "FROM debian:bookworm\nCOPY --chmod=755 [\"a b\", \\\n \"file\", \"/c d/\"]\n"),
    ("no-document", "FROM debian:bookworm\nRUN echo \"cat <<EOF\" $((1<<2)) && bash -c 'cat <<<EOF'\nUSER root\n"),
    ("mounts", "FROM debian:bookworm AS s\nFROM debian:bookworm\nRUN --mount=\"from=s,target=/s\" test -e /s/etc\n"),
    (
        "context",
        "FROM debian:bookworm\nRUN --mount=from=files,target=/f grep shared /f/word\nCOPY --from=files word /\n",
    ),
];

/// Built by the newer one.
const OF_THE_NEWER: &[(&str, &str)] = &[
    (
        "documents",
        "FROM debian:bookworm\nCOPY <<A <<\"B\" /d/\none\nA\nFROM b\nB\nRUN <<-EOF cat - /d/B | grep two\n\ttwo\n\tEOF\n",
    ),
    (
        "odd-marks",
        "FROM debian:bookworm\nRUN <<\"E F\" cat\nhi\nE F\nRUN cat <<EOF \\\n | grep hi\nhi\nEOF\nONBUILD RUN <<X\nhi\nX\n",
    ),
    ("link", "FROM debian:bookworm\nCOPY --link --chmod=600 file /l\nRUN --network=none true\n"),
    ("cut", "ARG A=debian:bookworm-x\nFROM ${A%-x}\n"),
];

/// Refused: the line, and words of what is said.
const REFUSED: &[(&str, usize, &str)] = &[
    ("ARG A\n# words\n", 1, "has no `FROM`"),
    ("FROM debian:bookworm\n\nRUM true\n", 3, "did you mean `RUN`?"),
    ("FROM debian:bookworm\nENV\n", 2, "`ENV` says nothing"),
    ("FROM debian:bookworm\nRUN true\nCOPY --form=x file /\n", 3, "form"),
    ("FROM debian:bookworm x y\n", 1, "FROM requires"),
    ("FROM debian:bookworm\nONBUILD FROM x\n", 2, "ONBUILD"),
    ("FROM debian:bookworm\nRUN echo \\\n# words\n && exit 7\nUSER root\n", 2, "exit code: 7"),
    ("FROM debian:bookworm\nCOPY missing /\n", 2, "missing"),
    ("FROM debian:bookworm\nFROM 127.0.0.1:1/missing:1\n", 2, "connection refused"),
    ("ARG M=127.0.0.1:1/missing\nFROM debian:bookworm\nFROM ${M}\n", 3, "connection refused"),
    ("FROM debian:bookworm\nRUN true\nCOPY --from=127.0.0.1:1/missing:1 a b\n", 3, "connection refused"),
    ("FROM debian:bookworm\nRUN --mount=from=127.0.0.1:1/missing:1,target=/m true\n", 2, "connection refused"),
];

fn engines() -> Option<[String; 2]> {
    let newer = docker::another("KILN_TEST_NEW_ENGINE")?;
    docker::is_there().then(|| [format!("unix://{}", docker::socket()), newer])
}

fn at(world: &World, engine: &str, arguments: &[&str]) -> Outcome {
    let output = world.command(arguments).env("DOCKER_HOST", engine).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A world with sources of these texts, each with a label by which its image is found.
fn world_of(cases: &[(&str, &str)], label: &str) -> World {
    let world = World::new();
    for name in ["file", "a b", "files/word"] {
        world.write(&format!("app/{name}"), "shared\n");
    }
    let mut template = String::new();
    for (name, text) in cases {
        world.write(&format!("{name}.Dockerfile"), text);
        let named = if text.contains("files") { "  contexts = { files = \"app/files\" }\n" } else { "" };
        template.push_str(&format!(
            "source \"dockerfile\" \"{name}\" {{\n  context = \"app\"\n  dockerfile = \"{name}.Dockerfile\"\n  labels = {{ \"kiln.test\" = \"{label}\" }}\n{named}}}\nbuild {{ sources = [\"dockerfile.{name}\"] }}\n"
        ));
    }
    world.write("t.kiln.hcl", &template);
    world
}

fn build_all(cases: &[(&str, &str)], engine: &str) {
    let label = format!("syntax-{}", uuid::Uuid::new_v4());
    let world = world_of(cases, &label);
    let checked = world.run(&["validate", "t.kiln.hcl"]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    let built = at(&world, engine, &["build", "t.kiln.hcl"]);
    for id in docker::images_at(engine, &format!("kiln.test={label}")) {
        docker::remove_at(engine, &id);
    }
    assert_eq!(built.code, 0, "{engine}: {}", built.stderr);
    assert!(!built.stderr.contains("kiln.local/"), "{}", built.stderr);
}

#[test]
fn what_engines_build_is_not_refused() {
    let Some([older, newer]) = engines() else { return };
    build_all(OF_BOTH, &older);
    build_all(OF_BOTH, &newer);
    build_all(OF_THE_NEWER, &newer);
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let Some(engines) = engines() else { return };
    for (text, line, words) in REFUSED {
        let world = world_of(&[("wrong", text)], "wrong");
        for engine in &engines {
            let outcome = at(&world, engine, &["build", "t.kiln.hcl"]);
            assert_ne!(outcome.code, 0, "{text}");
            let place = format!("wrong.Dockerfile:{line}:");
            let is_told = outcome.stderr.contains(&place) && outcome.stderr.contains(words);
            assert!(is_told, "{engine}: {text}\n{}", outcome.stderr);
        }
    }
}
