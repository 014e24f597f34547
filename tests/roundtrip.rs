//! What a machine showed is what its image holds: random changes, sealed, and applied by programs that are not kiln's.
//!
//! The changes and the looks are scripts in `tests/fixtures/roundtrip`, run in machines, in containers and on unpacked trees
//! alike. `KILN_TEST_CASES=100` runs more cases, `KILN_TEST_SEED=17` one of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kiln_image::Digest;
use serde_json::{Value as Json, json};

use crate::support::docker::{self, Removed};
use crate::support::{World, available};

/// What the scripts need, and directories with something in them; small enough to be unpacked often.
const BASE_FILES: &str = "bin lib lib64 sbin usr/lib64 tmp var/tmp etc usr/share/doc/a* usr/share/doc/p* \
    var/lib/dpkg/info/[a-l]* usr/lib/*/perl-base usr/lib/*/ld-linux* usr/lib/ld-linux* usr/lib/*/libc.so* \
    usr/lib/*/libm.so* usr/lib/*/libcrypt.so* usr/lib/*/libselinux.so* usr/lib/*/libacl.so* usr/lib/*/libattr.so* \
    usr/lib/*/libpcre2-8.so* usr/bin/perl usr/bin/sha256sum usr/bin/mv usr/bin/sh usr/bin/dash usr/bin/cat usr/bin/rm \
    usr/bin/mkdir usr/bin/chmod usr/bin/chown usr/bin/uname usr/bin/env usr/bin/tar";

/// A world with a base image in a file, and the scripts beside it.
pub(crate) fn world() -> Option<World> {
    let is_root = rustix::process::geteuid().is_root();
    let programs = ["umoci", "skopeo"].iter().all(|name| Command::new(name).arg("--version").output().is_ok());
    if !docker::is_there() || !available("root, umoci and skopeo", is_root && programs) {
        return None;
    }
    let world = World::new();
    for name in ["change.pl", "look.pl"] {
        let text = std::fs::read_to_string(fixture(name)).unwrap();
        world.write(name, &text);
    }
    // Their directories too: what an archive does not name, everybody gives other times.
    let script = format!(
        "cd /; files=$(ls -d {BASE_FILES} 2>/dev/null); \
         tar -c --no-recursion . dev proc run sys usr usr/bin usr/lib usr/lib/*-linux-gnu usr/share usr/share/doc var var/lib \
         var/lib/dpkg var/lib/dpkg/info --recursion $files"
    );
    let arguments = ["run", "--rm", "--label", "kiln.test", "--network", "none", docker::BASE, "sh", "-c", &script];
    let output = program(&world, "docker", &arguments);
    std::fs::write(world.path().join("base.tar"), output.stdout).unwrap();
    Some(world)
}

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/roundtrip").join(name)
}

/// A program that must succeed, in the world's directory.
#[track_caller]
pub(crate) fn program(world: &World, name: &str, arguments: &[&str]) -> Output {
    let output = Command::new(name).args(arguments).current_dir(world.path()).output().unwrap();
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn text_of(output: Output) -> String {
    String::from_utf8(output.stdout).unwrap()
}

/// What a machine of a source shows, in its last kept state or after a step.
pub(crate) fn machine_view(world: &World, target: &str, template: &str) -> String {
    let outcome = world.run(&["shell", target, template, "-c", "perl /opt/look.pl /"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    outcome.stdout
}

/// What a container of an image shows.
fn container_view(image: &str) -> String {
    docker::run_in(image, "perl /opt/look.pl /")
}

/// What umoci unpacks.
fn unpacked_view(world: &World, image: &str) -> String {
    program(world, "umoci", &["unpack", "--image", image, "unpacked"]);
    let view = text_of(program(world, "perl", &["look.pl", "unpacked/rootfs"]));
    program(world, "rm", &["-rf", "unpacked"]);
    view
}

/// Panics with the lines that differ.
#[track_caller]
pub(crate) fn same(wanted: &str, found: &str, about: &str) {
    let lines = |text: &str| -> BTreeMap<String, String> {
        text.lines().map(|line| (line.split(' ').next().unwrap_or_default().to_owned(), line.to_owned())).collect()
    };
    let (wanted, found) = (lines(wanted), lines(found));
    assert!(wanted.len() > 100, "{about}: a view of {} lines", wanted.len());
    let names = wanted.keys().chain(found.keys());
    let mut differences: Vec<String> = names
        .filter(|name| wanted.get(*name) != found.get(*name))
        .map(|name| format!("- {:.200}\n+ {:.200}", of(&wanted, name), of(&found, name)))
        .collect();
    differences.dedup();
    let count = differences.len();
    differences.truncate(10);
    assert!(differences.is_empty(), "{about}: {count} differences\n{}", differences.join("\n"));
}

fn of<'a>(lines: &'a BTreeMap<String, String>, name: &str) -> &'a str {
    lines.get(name).map_or("nothing", String::as_str)
}

/// One case: how many steps with how many changes each, and what the image is to be like.
struct Case {
    seed: u64,
    changes: Vec<u64>,
    layers: &'static str,
    compression: &'static str,
    format: &'static str,
}

impl Case {
    fn new(seed: u64) -> Case {
        let mut number = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(17);
        let mut below = move |most: u64| {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (number >> 33) % most
        };
        let changes = (0..=below(5)).map(|_| 5 + below(80)).collect();
        let compression = ["gzip", "zstd", "none", "gzip:6"][seed as usize % 4];
        let layers = ["squash", "per-step"][(seed / 4) as usize % 2];
        // Its media types have no zstd.
        let format = if compression == "zstd" { "oci" } else { ["docker", "oci"][below(2) as usize] };
        Case { seed, changes, layers, compression, format }
    }

    fn steps(&self, options: &str) -> String {
        let step = |(index, count): (usize, &u64)| {
            let seed = self.seed * 100 + index as u64;
            format!("  provisioner \"shell\" {{ inline = [\"perl /opt/change.pl {seed} {count} {options}\"] }}\n")
        };
        self.changes.iter().enumerate().map(step).collect()
    }

    fn template(&self, more: &str, options: &str) -> String {
        let Case { layers, compression, format, .. } = self;
        let source =
            format!("  layers = \"{layers}\"\n  compression = \"{compression}\"\n  format = \"{format}\"\n{more}");
        template("{ tar = \"base.tar\" }", &source, &(UPLOAD.to_owned() + &self.steps(options)))
    }

    fn about(&self) -> String {
        let Case { seed, changes, layers, compression, format } = self;
        format!("seed {seed}, {changes:?} changes, {layers}, {compression}, {format}")
    }
}

pub(crate) const UPLOAD: &str =
    "  provisioner \"file\" {\n    sources     = [\"change.pl\", \"look.pl\"]\n    destination = \"/opt/\"\n  }\n";

pub(crate) fn template(from: &str, source: &str, steps: &str) -> String {
    format!(
        "source \"oci\" \"x\" {{\n  from = {from}\n{source}}}\n\nbuild {{\n  sources = [\"source.oci.x\"]\n{steps}}}\n"
    )
}

fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("KILN_TEST_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("KILN_TEST_CASES").unwrap_or(4)).collect(),
    }
}

#[test]
fn images_are_what_machines_showed() {
    let Some(mut world) = world() else { return };
    let Ok(registry) = std::env::var("KILN_TEST_PASSWORD_REGISTRY") else {
        assert!(!available("a registry (KILN_TEST_PASSWORD_REGISTRY)", false));
        return;
    };
    let login = json!({"auths": {&registry: {"auth": "a2lsbjpodHBhc3N3ZC1wYXNzd29yZA=="}}}).to_string();
    world.write("docker-config/config.json", &login);
    let config = world.path().join("docker-config").display().to_string();
    world.env("DOCKER_CONFIG", &config);
    for case in seeds().into_iter().map(Case::new) {
        let tag = format!("kiln-test/roundtrip:{}", case.seed);
        let pushed = format!("{registry}/{tag}");
        let loaded =
            if case.compression == "zstd" { String::new() } else { "  docker_archive = \"out.tar\"\n".to_owned() };
        let more = format!("  tags = [\"{tag}\"]\n  oci_layout = \"out\"\n  push = [\"{pushed}\"]\n{loaded}");
        world.write("a.pkr.hcl", &case.template(&more, "nodes"));
        let _removed = Removed(vec![tag.clone(), pushed.clone()]);
        world.succeed(&["build", "a.pkr.hcl"]);
        let view = machine_view(&world, "oci.x", "a.pkr.hcl");
        // Engines before 23 do not know zstd.
        if case.compression != "zstd" {
            program(&world, "docker", &["--config", "docker-config", "pull", "--quiet", &pushed]);
            same(&view, &container_view(&pushed), &format!("{}: pulled", case.about()));
            program(&world, "docker", &["load", "--quiet", "--input", "out.tar"]);
            same(&view, &container_view(&tag), &format!("{}: loaded", case.about()));
        }
        // umoci knows neither zstd nor Docker's media types, skopeo does; but in a layout it looks for OCI's only.
        let from = match case.format {
            "oci" => format!("oci:out:{tag}"),
            _ => format!("docker://{pushed}"),
        };
        let login = ["--src-tls-verify=false", "--src-authfile", "docker-config/config.json"];
        program(
            &world,
            "skopeo",
            &[&["copy", "--quiet", "--dest-decompress"], &login[..], &[&from, "dir:copied"]].concat(),
        );
        let convert =
            ["copy", "--quiet", "--dest-compress-format", "gzip", "--format", "oci", "dir:copied", "oci:again:x"];
        program(&world, "skopeo", &convert);
        same(&view, &unpacked_view(&world, "again:x"), &format!("{}: unpacked", case.about()));
        program(&world, "rm", &["-rf", "out", "out.tar", "copied", "again"]);
    }
}

/// The layout with only the first layers of its image, under another name.
fn cut(world: &World, layout: &str, layers: usize) -> String {
    let blob = |digest: &str| world.path().join(layout).join("blobs").join(digest.replace(':', "/"));
    let read = |digest: &Json| -> Json {
        serde_json::from_slice(&std::fs::read(blob(digest.as_str().unwrap())).unwrap()).unwrap()
    };
    let write = |value: &Json| {
        let bytes = serde_json::to_vec(value).unwrap();
        let digest = Digest::of(&bytes).to_string();
        std::fs::write(blob(&digest), &bytes).unwrap();
        (digest, bytes.len())
    };
    let path = world.path().join(layout).join("index.json");
    let mut index: Json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let mut descriptor = index["manifests"][0].clone();
    let mut manifest = read(&descriptor["digest"]);
    let mut config = read(&manifest["config"]["digest"]);
    let cut = |list: &mut Json| list.as_array_mut().unwrap().truncate(layers);
    cut(&mut manifest["layers"]);
    cut(&mut config["rootfs"]["diff_ids"]);
    cut(&mut config["history"]);
    let (digest, size) = write(&config);
    (manifest["config"]["digest"], manifest["config"]["size"]) = (digest.into(), size.into());
    let (digest, size) = write(&manifest);
    let name = format!("cut{layers}");
    (descriptor["digest"], descriptor["size"]) = (digest.into(), size.into());
    descriptor["annotations"]["org.opencontainers.image.ref.name"] = name.clone().into();
    index["manifests"].as_array_mut().unwrap().push(descriptor);
    std::fs::write(&path, serde_json::to_vec(&index).unwrap()).unwrap();
    name
}

#[test]
fn each_layer_is_what_its_step_did() {
    let Some(world) = world() else { return };
    let case = Case { seed: 50, changes: vec![60; 5], layers: "per-step", compression: "gzip", format: "oci" };
    world.write("a.pkr.hcl", &case.template("  oci_layout = \"out\"\n", "nodes"));
    world.succeed(&["build", "a.pkr.hcl"]);
    for step in 1..=case.changes.len() + 1 {
        let view = machine_view(&world, &format!("oci.x:{step}"), "a.pkr.hcl");
        // One more: the base's.
        let name = cut(&world, "out", step + 1);
        same(&view, &unpacked_view(&world, &format!("out:{name}")), &format!("{}: step {step}", case.about()));
    }
}

/// What `-json` told of the image: its manifest's digest.
fn digest(world: &World, arguments: &[&str]) -> String {
    let outcome = world.succeed(&[&["build", "-json"], arguments].concat());
    let events = outcome.stdout.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
    let mut digests = events.filter_map(|event| match event["event"].as_str() {
        Some("artifact") => event["digest"].as_str().map(str::to_owned),
        _ => None,
    });
    digests.next().unwrap()
}

/// Other stores, directories, processes and times.
#[test]
fn digests_are_the_same_whenever_they_are_made() {
    let Some(base) = world() else { return };
    for (seed, layers, compression) in [(60, "squash", "gzip"), (61, "per-step", "zstd:3"), (62, "squash", "none")] {
        let case = Case { seed, changes: vec![40; 3], layers, compression, format: "oci" };
        let build = || {
            let mut world = World::new();
            for name in ["change.pl", "look.pl", "base.tar"] {
                std::fs::copy(base.path().join(name), world.path().join(name)).unwrap();
            }
            // As base images have them; what is newer is the steps'.
            world.env("SOURCE_DATE_EPOCH", "1500000000");
            world.write("a.pkr.hcl", &case.template("  labels = { a = \"b\" }\n", "nodes"));
            digest(&world, &["a.pkr.hcl"])
        };
        let first = build();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert_eq!(build(), first, "{}", case.about());
    }
}

/// What a guest can do and how it is kept differ; what comes out does not.
#[test]
fn every_isolation_gives_the_same_image() {
    let Some(mut world) = world() else { return };
    world.env("SOURCE_DATE_EPOCH", "1500000000");
    let build = |case: &Case, isolation: &str, options: &str| {
        let source = format!("  isolation = \"{isolation}\"\n");
        world.write("a.pkr.hcl", &case.template(&source, options));
        digest(&world, &["a.pkr.hcl"])
    };
    for seed in [63, 64] {
        let case = Case { seed, changes: vec![50; 3], layers: "squash", compression: "gzip", format: "oci" };
        let wanted = build(&case, "ns", "");
        assert_eq!(build(&case, "userns", ""), wanted, "userns: {}", case.about());
        assert_eq!(build(&case, "chroot", ""), wanted, "chroot: {}", case.about());
    }
    // Devices, from a kept state in the middle.
    let mut case = Case { seed: 65, changes: vec![80; 3], layers: "squash", compression: "none", format: "docker" };
    let wanted = build(&case, "ns", "nodes");
    let last = case.changes.pop();
    build(&case, "chroot", "nodes");
    case.changes.extend(last);
    assert_eq!(build(&case, "chroot", "nodes"), wanted, "chroot, resumed: {}", case.about());
}

/// A user with ranges, as the tests of the sandbox make it.
fn ordinary_user() -> Option<String> {
    // Where it is known already, this fails.
    let _ = Command::new("useradd").args(["--no-create-home", "kiln-tester"]).output();
    let id = Command::new("id").args(["-u", "kiln-tester"]).output().ok()?;
    let has_range = std::fs::read_to_string("/etc/subuid").is_ok_and(|text| text.contains("kiln-tester"));
    (id.status.success() && has_range).then(|| text_of(id).trim().to_owned())
}

/// A command of a world, with another program before it.
fn prefixed(world: &World, prefix: &[&str], arguments: &[&str]) -> String {
    let plain = world.command(arguments);
    let mut command = Command::new(prefix[0]);
    command.args(&prefix[1..]).arg(plain.get_program()).args(plain.get_args()).current_dir(world.path()).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{prefix:?}: {}", String::from_utf8_lossy(&output.stderr));
    text_of(output)
}

/// An ordinary user's ranges, and a container with default options.
#[test]
fn whoever_builds_gets_the_same_image() {
    let Some(base) = world() else { return };
    let user = ordinary_user();
    if !available("a user `kiln-tester` with ranges in /etc/subuid", user.is_some()) {
        return;
    }
    let case = Case { seed: 66, changes: vec![60; 3], layers: "squash", compression: "gzip", format: "oci" };
    let world = || {
        let mut world = World::new();
        for name in ["change.pl", "look.pl", "base.tar"] {
            std::fs::copy(base.path().join(name), world.path().join(name)).unwrap();
        }
        world.env("SOURCE_DATE_EPOCH", "1500000000");
        world.write("a.pkr.hcl", &case.template("", ""));
        world
    };
    let wanted = digest(&world(), &["a.pkr.hcl"]);
    let arguments = ["build", "-json", "a.pkr.hcl"];

    let own = world();
    let user = user.unwrap_or_default();
    let directory = own.path().display().to_string();
    own.command(&arguments);
    program(&own, "chown", &["-R", &format!("{user}:{user}"), &directory]);
    let (reuid, regid) = (format!("--reuid={user}"), format!("--regid={user}"));
    let told = prefixed(&own, &["setpriv", &reuid, &regid, "--clear-groups"], &arguments);
    assert!(told.contains(&wanted) && told.contains("isolation: userns"), "{}: as a user: {told}", case.about());
    // What is left in the store belongs to the user's ranges.
    program(&own, "chown", &["-R", "0:0", &directory]);

    let own = world();
    let directory = own.path().display().to_string();
    let kiln = env!("CARGO_BIN_EXE_kiln");
    let (volume, binary) = (format!("{directory}:{directory}"), format!("{kiln}:/usr/bin/kiln:ro"));
    let cache = format!("KILN_CACHE_DIR={directory}/cache");
    let run =
        ["run", "--rm", "--label", "kiln.test", "--network", "none", "-v", &volume, "-v", &binary, "-w", &directory];
    let rest = ["-e", &cache, "-e", "SOURCE_DATE_EPOCH=1500000000", docker::BASE, "kiln"];
    let told = text_of(program(&own, "docker", &[&run[..], &rest, &arguments].concat()));
    assert!(told.contains(&wanted) && told.contains("isolation: chroot"), "{}: in a container: {told}", case.about());
}
