use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use tempfile::TempDir;

use super::*;

/// Layers as a mount with `userxattr` leaves them: no privilege is needed to make them.
struct Layers(TempDir);

impl Layers {
    fn new() -> Layers {
        Layers(tempfile::tempdir().unwrap())
    }

    fn path(&self, layer: &str, path: &str) -> PathBuf {
        let path = self.0.path().join(layer).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn file(&self, layer: &str, path: &str, content: &str) -> &Layers {
        fs::write(self.path(layer, path), content).unwrap();
        self
    }

    fn whiteout(&self, layer: &str, path: &str) -> &Layers {
        rustix::fs::mknodat(CWD, self.path(layer, path), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        self
    }

    fn mark(&self, layer: &str, path: &str, name: &str, value: &str) -> &Layers {
        let path = self.path(layer, path);
        if !path.exists() {
            fs::create_dir(&path).unwrap();
        }
        rustix::fs::lsetxattr(&path, name, value.as_bytes(), XattrFlags::empty()).unwrap();
        self
    }

    fn options(&self, uppers: &[&str], lowers: &[&str]) -> PackOptions {
        let paths = |names: &[&str]| names.iter().map(|name| self.0.path().join(name)).collect();
        let settings = PackSettings { user_xattr: true, ..PackSettings::default() };
        PackOptions { uppers: paths(uppers), lowers: paths(lowers), settings }
    }
}

fn packed(options: &PackOptions) -> (Packed, Vec<u8>) {
    let mut tar = Vec::new();
    (pack(options, &mut tar).unwrap(), tar)
}

/// The entries' names; a hard link's with what it names.
fn names(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let name = |entry: std::io::Result<tar::Entry<'_, _>>| {
        let entry = entry.unwrap();
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        match entry.header().entry_type() {
            tar::EntryType::Link => format!("{path} = {}", String::from_utf8_lossy(&entry.link_name_bytes().unwrap())),
            _ => path,
        }
    };
    archive.entries().unwrap().map(name).collect()
}

#[test]
fn a_whiteout_is_there_only_where_it_removes_something() {
    let layers = Layers::new();
    layers.file("base", "etc/a", "").file("base", "etc/b", "").file("old", "etc/c", "").whiteout("base2", "etc/b");
    layers.whiteout("new", "etc/a").whiteout("new", "etc/b").whiteout("new", "etc/c").whiteout("new", "etc/nothing");
    let (_, tar) = packed(&layers.options(&["new", "old"], &["base2", "base"]));
    assert_eq!(names(&tar), ["etc/", "etc/.wh.a"]);
}

#[test]
fn a_new_directory_hides_the_old_one_down_the_tree() {
    let layers = Layers::new();
    layers
        .file("base", "d/gone", "")
        .file("base", "d/sub/gone", "")
        .file("base", "d/sub/kept", "")
        .file("base", "e/kept", "");
    layers.mark("new", "d", "user.overlay.opaque", "y").file("new", "d/sub/kept", "").file("new", "d/added", "");
    let (_, tar) = packed(&layers.options(&["new"], &["base"]));
    assert_eq!(names(&tar), ["d/", "d/added", "d/.wh.gone", "d/sub/", "d/sub/.wh.gone", "d/sub/kept"]);
    // `x` marks a directory that has whiteouts of another form.
    layers.mark("new", "d", "user.overlay.opaque", "x");
    let (_, tar) = packed(&layers.options(&["new"], &["base"]));
    assert_eq!(names(&tar), ["d/", "d/added", "d/sub/", "d/sub/kept"]);
}

#[test]
fn a_directory_that_was_removed_and_made_again_hides_the_older_upper() {
    let layers = Layers::new();
    layers.file("base", "d/base", "").file("first", "d/first", "").whiteout("second", "d").file("third", "d/third", "");
    let (_, tar) = packed(&layers.options(&["third", "second", "first"], &["base"]));
    assert_eq!(names(&tar), ["d/", "d/.wh.base", "d/third"]);
    // Nothing of it is below: nothing to hide.
    let (_, tar) = packed(&layers.options(&["third", "second", "first"], &[]));
    assert_eq!(names(&tar), ["d/", "d/third"]);
}

#[test]
fn a_directory_that_says_nothing_new_stays_out() {
    let layers = Layers::new();
    layers.file("base", "etc/ssl/cert", "");
    fs::create_dir_all(layers.path("new", "etc/ssl")).unwrap();
    for path in ["etc", "etc/ssl"] {
        let time = layers.path("base", path).metadata().unwrap().modified().unwrap();
        fs::File::open(layers.path("new", path)).unwrap().set_modified(time).unwrap();
    }
    let (empty, tar) = packed(&layers.options(&["new"], &["base"]));
    assert_eq!((empty.entries, tar), (0, vec![0; 1024]));
    rustix::fs::chmodat(CWD, layers.path("new", "etc/ssl"), Mode::RWXU, rustix::fs::AtFlags::empty()).unwrap();
    let (_, tar) = packed(&layers.options(&["new"], &["base"]));
    assert_eq!(names(&tar), ["etc/", "etc/ssl/"]);
}

#[test]
fn hard_links_are_kept_across_directories() {
    let layers = Layers::new();
    layers.file("new", "a/one", "x").file("new", "b/other", "y");
    fs::hard_link(layers.path("new", "a/one"), layers.path("new", "b/two")).unwrap();
    fs::hard_link(layers.path("new", "a/one"), layers.path("new", "three")).unwrap();
    let (packed, tar) = packed(&layers.options(&["new"], &[]));
    assert_eq!(names(&tar), ["a/", "a/one", "b/", "b/other", "b/two = a/one", "three = a/one"]);
    assert_eq!((packed.entries, packed.bytes), (6, 2));
}

#[test]
fn what_is_excluded_is_in_no_layer() {
    let layers = Layers::new();
    layers.file("base", "tmp/b", "").file("new", "tmp/a/deep", "").whiteout("new", "tmp/b").file(
        "new",
        "usr/x.pyc",
        "",
    );
    layers.file("new", "usr/lib/y.pyc", "").file("new", "usr/lib/y.py", "");
    let mut options = layers.options(&["new"], &["base"]);
    options.settings.exclude = ["/tmp/*", "**/*.pyc"].map(str::to_owned).to_vec();
    let (_, tar) = packed(&options);
    assert_eq!(names(&tar), ["tmp/", "usr/", "usr/lib/", "usr/lib/y.py"]);
    options.settings.exclude = vec!["a[".to_owned()];
    let error = pack(&options, &mut std::io::sink()).unwrap_err();
    assert!(error.to_string().starts_with("the pattern `a[` is malformed"), "{error}");
}

#[test]
fn secrets_are_found_wherever_they_are() {
    let layers = Layers::new();
    let secret = "correct-horse-battery";
    let border = format!("{}{secret}{}", "x".repeat(256 * 1024 - 5), "y".repeat(300_000));
    layers.file("new", "border", &border).file("new", "clean", &border.replace("horse", "mouse"));
    layers.file("new", "start", secret).file("new", &format!("name-{secret}"), "");
    layers.mark("new", "marked", "user.token", &format!("token={secret}"));
    layers.mark("new", "named", &format!("user.{secret}"), "");
    symlink(secret, layers.path("new", "link")).unwrap();
    // What is left out of the layer lies in the kept state all the same.
    layers.file("new", ".wh.trick", &border);
    let mut options = layers.options(&["new"], &[]);
    options.settings.needles = [b"".as_slice(), b"absent", secret.as_bytes()].map(<[u8]>::to_vec).to_vec();
    let (packed, _) = packed(&options);
    let found: Vec<_> = packed.found.iter().map(|found| (found.path.as_str(), found.needle)).collect();
    let name = format!("name-{secret}");
    let places = [".wh.trick", "border", "link", "marked/", name.as_str(), "named/", "start"];
    assert_eq!(found, places.map(|place| (place, 2)));
}

#[test]
fn times_are_clamped_and_content_is_told_apart_from_times() {
    let layers = Layers::new();
    layers.file("one", "file", "same").file("two", "file", "same").file("three", "file", "else");
    let seconds = |layer: &str, seconds| {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        fs::File::open(layers.path(layer, "file")).unwrap().set_modified(time).unwrap();
    };
    seconds("one", 1000);
    seconds("two", 2000);
    seconds("three", 1000);
    let digest = |layer: &str| {
        let mut options = layers.options(&[layer], &[]);
        options.settings.content = true;
        packed(&options)
    };
    let [one, two, three] = ["one", "two", "three"].map(digest);
    assert_eq!((one.0.newest_mtime, two.0.newest_mtime), (1000, 2000));
    assert_eq!(one.0.content, two.0.content);
    assert_ne!(one.0.content, three.0.content);
    assert!(one.1 != two.1);
    let mut options = layers.options(&["two"], &[]);
    options.settings.timestamp = Some(1000);
    let clamped = packed(&options);
    assert_eq!((clamped.0.newest_mtime, clamped.0.content), (1000, None));
    assert!(clamped.1 == one.1);
}

#[test]
fn what_no_layer_can_have_is_told() {
    let layers = Layers::new();
    layers.file("base", "run/socket", "").file("new", "run/.wh.trick", "").file("new", "run/file", "");
    drop(std::os::unix::net::UnixListener::bind(layers.path("new", "run/socket")).unwrap());
    let (packed, tar) = packed(&layers.options(&["new"], &["base"]));
    assert_eq!(names(&tar), ["run/", "run/file", "run/.wh.socket"]);
    let skipped: Vec<_> =
        packed.skipped.iter().map(|skipped| format!("{}: {}", skipped.path, skipped.reason)).collect();
    assert_eq!(skipped, ["run/.wh.trick: named as if it removed a file", "run/socket: a socket"]);
}

#[test]
fn marks_that_point_elsewhere_are_refused() {
    for name in ["user.overlay.redirect", "user.overlay.metacopy"] {
        let layers = Layers::new();
        layers.mark("new", "etc", name, "/root");
        let error = pack(&layers.options(&["new"], &[]), &mut std::io::sink()).unwrap_err();
        assert_eq!(error.to_string(), "etc in a layer is malformed: it has a mark of overlayfs that points elsewhere");
    }
}

#[test]
fn marks_of_overlays_and_of_the_host_stay_out() {
    let layers = Layers::new();
    layers.file("new", "file", "").mark("new", "file", "user.overlay.origin", "x").mark(
        "new",
        "file",
        "user.mine",
        "a\nb",
    );
    let (_, tar) = packed(&layers.options(&["new"], &[]));
    let text = tar.escape_ascii().to_string();
    assert!(text.contains("30 SCHILY.xattr.user.mine=a\\nb\\n"), "{text}");
    assert!(!text.contains("overlay"), "{text}");
}

/// These digests are in images that people have: they change by a decision, with a line in the change log.
#[test]
#[allow(clippy::print_stderr, reason = "a test says why it is skipped")]
fn digests_of_a_known_tree() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var("KILN_TEST_REQUIRE").as_deref() != Ok("1"), "root is required");
        eprintln!("SKIPPED: files of root are needed");
        return;
    }
    let (layers, long) = (Layers::new(), format!("usr/{}", "long".repeat(60)));
    layers.file("base", "etc/old", "").file("new", "etc/hostname", "kiln\n").whiteout("new", "etc/old");
    layers.mark("new", "usr", "user.kind", "shared").file(
        "new",
        &format!("usr/{}", "long".repeat(60)),
        &"x".repeat(100_000),
    );
    symlink("etc/hostname", layers.path("new", "name")).unwrap();
    fs::hard_link(layers.path("new", "etc/hostname"), layers.path("new", "usr/hostname")).unwrap();
    rustix::fs::mknodat(
        CWD,
        layers.path("new", "null"),
        FileType::CharacterDevice,
        Mode::RUSR,
        rustix::fs::makedev(1, 3),
    )
    .unwrap();
    for (path, mode) in [("etc", 0o755), ("usr", 0o755), ("etc/hostname", 0o644), (long.as_str(), 0o600)] {
        rustix::fs::chmod(layers.path("new", path), Mode::from_raw_mode(mode)).unwrap();
    }
    let mut options = layers.options(&["new"], &["base"]);
    options.settings.timestamp = Some(1_000_000_000);
    options.settings.content = true;
    let (packed, tar) = packed(&options);
    let found = [packed.content.unwrap(), Digest::of(&tar)];
    assert_eq!(
        found.each_ref().map(Digest::hex),
        [
            "5ad7355c0df943a87f51e19072442120de4163fb5f4dd6491299c2fff3922052",
            "da41b08d3dd5bd6b2a3d45f0ba47d426a278de08a0f58366525527f24c200c1d"
        ]
    );
}
