//! Against `docker` and `skopeo`.

use std::process::{Command, Stdio};

use super::*;

/// Runs a program; `None` (said, or a failure with `KILN_TEST_REQUIRE=1`) if it is not there or its daemon is not.
fn run(program: &str, arguments: &[&str], input: Option<&Path>) -> Option<String> {
    let stdin = input.map_or_else(Stdio::null, |path| File::open(path).unwrap().into());
    let output = Command::new(program).args(arguments).stdin(stdin).output();
    let lacks = match &output {
        Err(error) => Some(error.to_string()),
        Ok(output) => {
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            error.contains("Cannot connect to the Docker daemon").then_some(error)
        }
    };
    if let Some(reason) = lacks {
        assert!(std::env::var_os("KILN_TEST_REQUIRE").is_none(), "this test needs {program}: {reason}");
        eprintln!("skipped: {program}: {reason}");
        return None;
    }
    let output = output.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// An image of an engine, removed at the end.
struct Loaded(String);

impl Drop for Loaded {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rmi", "--force", &self.0]).output();
    }
}

#[test]
fn docker_loads_what_was_written_and_saves_what_can_be_read() {
    let (directory, layout, digest) =
        image_of(&[LayerCompression::Zstd, LayerCompression::Gzip, LayerCompression::None]);
    let (_gzip_only, gzip_layout, gzip_digest) = image_of(&[LayerCompression::Gzip, LayerCompression::None]);
    for (layout, digest, part) in [(&layout, &digest, "converted"), (&gzip_layout, &gzip_digest, "layout")] {
        let id = &Image::open(layout, digest).unwrap().config_digest;
        let loaded = Loaded(format!("kiln-test/archive-{part}-{}:1", std::process::id()));
        let path = directory.path().join("archive.tar");
        export_docker_archive(layout, digest, std::slice::from_ref(&loaded.0), File::create(&path).unwrap()).unwrap();
        let Some(said) = run("docker", &["load"], Some(&path)) else { return };
        assert!(said.contains(&loaded.0), "{said}");
        let seen = run("docker", &["inspect", "--format", "{{.Id}}", &loaded.0], None).unwrap();
        assert_eq!(seen.trim(), id.as_str());
        let saved = directory.path().join("saved.tar");
        run("docker", &["save", "--output", &saved.display().to_string(), &loaded.0], None).unwrap();
        let (_target, target) = fresh();
        let imported = import_archive(File::open(&saved).unwrap(), &target).unwrap();
        assert_eq!(imported[0].names, std::slice::from_ref(&loaded.0));
        assert_eq!(&assert_whole(&target, &imported[0].digest).config_digest, id);
    }
}

#[test]
fn skopeo_reads_and_writes_the_same() {
    let (directory, layout, digest) = image_of(&[LayerCompression::Gzip, LayerCompression::Zstd]);
    let at = |name: &str| directory.path().join(name).display().to_string();
    export_layout(&layout, &digest, &["app:1".to_owned()], Path::new(&at("layout"))).unwrap();
    let from = format!("oci:{}:app:1", at("layout"));
    if run("skopeo", &["copy", "--quiet", &from, &format!("oci-archive:{}:app:1", at("oci.tar"))], None).is_none() {
        return;
    }
    let (_target, target) = fresh();
    let imported = import_archive(File::open(at("oci.tar")).unwrap(), &target).unwrap();
    assert_eq!((&imported[0].digest, imported[0].names.as_slice()), (&digest, &["app:1".to_owned()][..]));
    export_docker_archive(&layout, &digest, &["app:1".to_owned()], File::create(at("docker.tar")).unwrap()).unwrap();
    let from = format!("docker-archive:{}", at("docker.tar"));
    run("skopeo", &["copy", "--quiet", &from, &format!("dir:{}", at("dir"))], None).unwrap();
    run("skopeo", &["copy", "--quiet", &from, &format!("docker-archive:{}:app:2", at("again.tar"))], None).unwrap();
    let imported = import_archive(File::open(at("again.tar")).unwrap(), &target).unwrap();
    assert!(imported[0].names[0].ends_with("app:2"), "{imported:?}");
    let before = Image::open(&layout, &digest).unwrap();
    let after = assert_whole(&target, &imported[0].digest);
    assert_eq!(after.config.rootfs, before.config.rootfs);
}
