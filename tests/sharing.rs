//! What templates share: groups of steps.

use std::path::Path;

use crate::support::{World, available, stable};

const GROUPS: &str = r#"
source "oci" "web" { from = { busybox = true } }
source "oci" "db" { from = { busybox = true } }

steps "common" {
  provisioner "shell" { inline = ["echo ${source.name} > /who"] }
  provisioner "shell" {
    only   = ["oci.web"]
    inline = ["echo web >> /who"]
  }
}

build {
  sources = ["oci.web", "oci.db"]
  steps "common" {}
  provisioner "shell" { inline = ["cat /who"] }
}
"#;

/// A world for sandboxes from busybox; `None` without it.
fn world() -> Option<World> {
    let found = ["/bin/busybox", "/usr/bin/busybox"].iter().any(|path| Path::new(path).exists());
    available("a static busybox", found).then(World::new)
}

#[test]
fn groups_of_steps_run_are_restored_and_name_their_places() {
    let Some(world) = world() else { return };
    world.write("t.kiln.hcl", GROUPS);
    insta::assert_snapshot!(stable(&world.succeed(&["plan", "t.kiln.hcl"]).stdout, &world), @r#"
    oci.web (oci, t.kiln.hcl:2)
      base     busybox ([id])
      runs     [1/3] shell: 1 inline command (t.kiln.hcl:6, by common at t.kiln.hcl:15)  never built
      runs     [2/3] shell: 1 inline command (t.kiln.hcl:7, by common at t.kiln.hcl:15)  a step before it runs
      runs     [3/3] shell: 1 inline command (t.kiln.hcl:16)                             a step before it runs
      runs     seal

    oci.db (oci, t.kiln.hcl:3)
      base     busybox ([id])
      runs     [1/2] shell: 1 inline command (t.kiln.hcl:6, by common at t.kiln.hcl:15)  never built
      runs     [2/2] shell: 1 inline command (t.kiln.hcl:16)                             a step before it runs
      runs     seal

    5 of 5 steps would run
    "#);
    world.succeed(&["build", "t.kiln.hcl"]);
    let again = world.succeed(&["plan", "t.kiln.hcl"]).stdout;
    assert!(again.ends_with("no step would run\n") || again.contains("no step would run;"), "{again}");
    // The step's own place is told, and where the group is used.
    world.write("t.kiln.hcl", &GROUPS.replace("echo web >> /who", "exit 3"));
    let failed = world.run(&["build", "-only=oci.web", "t.kiln.hcl"]);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    assert!(failed.stderr.contains("step 2 of 3, `shell` (t.kiln.hcl:7), failed"), "{}", failed.stderr);
    assert!(failed.stderr.contains("by `steps \"common\"` at t.kiln.hcl:15"), "{}", failed.stderr);
}
