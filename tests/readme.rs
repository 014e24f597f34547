//! The README is true: its template builds, and its commands print what stands there.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::console::piped;
use crate::examples::{blocks, root};
use crate::support::{World, stable};

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

/// The lines behind `$ COMMAND` in a console block, up to the next command.
fn printed(command: &str) -> String {
    let text = readme();
    let block = blocks(&text, "console").into_iter().find(|block| block.contains(&format!("$ {command}\n"))).unwrap();
    let lines = block.lines().skip_while(|line| *line != format!("$ {command}")).skip(1);
    lines.take_while(|line| !line.starts_with("$ ")).map(|line| format!("{line}\n")).collect()
}

/// Puts a program in mmdebstrap's place that gives a small root file system at once: busybox, and what the README's template
/// runs. The real one has its turn in `make quickstart`.
fn bootstraps_at_once(world: &mut World) {
    let root = world.path().join(".home/root");
    let script = format!(
        "set -e; mkdir -p {root}/bin {root}/usr/sbin {root}/etc {root}/tmp; cp $(command -v busybox) {root}/bin/busybox
         for applet in sh cat echo mkdir chmod chown mv rm tar; do ln -sf busybox {root}/bin/$applet; done
         echo 'root:x:0:0:root:/root:/bin/sh' > {root}/etc/passwd
         printf '#!/bin/sh\\necho worker:x:440:440::/:/bin/sh >> /etc/passwd\\n' > {root}/usr/sbin/useradd
         chmod 755 {root}/usr/sbin/useradd",
        root = root.display()
    );
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
    let program = world.write(
        ".home/bin/mmdebstrap",
        &format!("#!/bin/sh\nexec tar -C {} --owner=0 --group=0 -cf - .\n", root.display()),
    );
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    world.env("PATH", &format!("{}:{path}", program.parent().unwrap().display()));
}

#[test]
fn the_first_template_builds_and_prints_what_the_readme_shows() {
    if !crate::cache::is_there() {
        return;
    }
    let mut world = World::new();
    bootstraps_at_once(&mut world);
    let template = blocks(&readme(), "hcl")[0].clone();
    world.write("worker.pkr.hcl", &template);
    // A plan makes no base.
    let plan = world.succeed(&["plan", "worker.pkr.hcl"]);
    assert!(plan.stdout.contains("base     bookworm by mmdebstrap, to be made\n"), "{}", plan.stdout);
    assert!(!plan.stderr.contains("bootstrapping"), "{}", plan.stderr);
    for command in ["kiln build worker.pkr.hcl", "kiln build worker.pkr.hcl  # again"] {
        let outcome = world.succeed(&["build", "worker.pkr.hcl"]);
        assert_eq!(stable(outcome.stderr.trim_end(), &world), stable(printed(command).trim_end(), &world));
    }
    let outcome = world.succeed(&["shell", "worker", "-c", "cat /etc/motd", "worker.pkr.hcl"]);
    assert_eq!(outcome.stdout, printed("kiln shell worker -c 'cat /etc/motd' worker.pkr.hcl"));
    assert!(world.path().join("images/index.json").exists());

    world.write("worker.pkr.hcl", &template.replace("by kiln", "by kiln, twice"));
    let outcome = world.succeed(&["plan", "worker.pkr.hcl"]);
    assert_eq!(stable(&outcome.stdout, &world), stable(&printed("kiln plan worker.pkr.hcl"), &world));
}

#[test]
fn the_mistake_is_shown_as_the_readme_shows_it() {
    let world = World::new();
    let template = "source \"docker\" \"worker\" {\n  image = \"debian:bookworm\"\n  comit = true\n}\nbuild {\n  sources = [\"source.docker.worker\"]\n}\n";
    world.write("wrong.pkr.hcl", template);
    let outcome = world.run(&["validate", "wrong.pkr.hcl"]);
    assert_eq!(outcome.code, 3);
    assert_eq!(
        outcome.stderr.trim_end(),
        format!("{}\n\n1 error in the template", printed("kiln validate wrong.pkr.hcl").trim_end())
    );
}

#[test]
fn the_commands_beside_build_print_what_the_readme_shows() {
    let world = World::new();
    world.write("worker.pkr.hcl", &blocks(&readme(), "hcl")[0]);
    world.write("old.json", r#"{ "builders": [{ "type": "docker", "image": "debian", "commit": true }] }"#);
    let expression = r#""${upper(var.release)} for ${host.arch}""#;
    let told = printed(&format!("echo '{expression}' | kiln console -var release=trixie worker.pkr.hcl"));
    let outcome = piped(&world, &["-var", "release=trixie", "worker.pkr.hcl"], &format!("{expression}\n"));
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    assert_eq!(outcome.stdout, told.replace("amd64", arch));
    let outcome = world.succeed(&["fmt", "-check", "worker.pkr.hcl"]);
    assert_eq!(outcome.stdout, printed("kiln fmt -check worker.pkr.hcl"));
    let outcome = world.succeed(&["upgrade", "old.json"]);
    assert_eq!(outcome.stderr, printed("kiln upgrade old.json"));
}

#[test]
fn its_links_lead_somewhere() {
    let text = readme();
    let links = regex::Regex::new(r"\]\(([^)#]+)\)").unwrap();
    let targets: Vec<&str> = links.captures_iter(&text).map(|found| found.get(1).unwrap().as_str()).collect();
    assert!(targets.len() > 10, "{targets:?}");
    for target in targets.iter().filter(|target| !target.starts_with("https://")) {
        assert!(root().join(target).exists(), "README.md links to {target}");
    }
}
