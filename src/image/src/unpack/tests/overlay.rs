//! Whiteouts, in both formats.

use super::*;

fn opaque(host: &Host, path: &str) -> bool {
    xattr(&host.at(path), "trusted.overlay.opaque").as_deref() == Some(b"y")
}

fn base() -> Archive {
    Archive::new().file("d/old", "1").file("d/sub/deep", "2").file("f", "3").symlink("link", "d")
}

#[test]
fn the_plain_format_removes_what_is_hidden() {
    for archive in [
        Archive::new().file("d/.wh.old", "").file("d/sub/.wh..wh..opq", "").file(".wh.f", "").file("d/sub/new", "4"),
        Archive::new().file("d/sub/new", "4").file("d/sub/.wh..wh..opq", "").file("link/.wh.old", "").file(".wh.f", ""),
    ] {
        let host = Host::plain();
        host.unpack(&base()).unwrap();
        host.unpack(&archive).unwrap();
        assert!(!exists(&host.at("d/old")) && !exists(&host.at("d/sub/deep")) && !exists(&host.at("f")));
        assert_eq!(read(&host.at("d/sub/new")), "4");
    }
}

#[test]
fn a_whiteout_spares_what_its_own_layer_has() {
    let host = Host::plain();
    host.unpack(&base()).unwrap();
    let archive = Archive::new().file("d/sub/own", "x").file(".wh.d", "").file("f", "new").file(".wh.f", "");
    host.unpack(&archive).unwrap();
    assert_eq!((read(&host.at("d/sub/own")), read(&host.at("f"))), ("x".to_owned(), "new".to_owned()));
    assert!(!exists(&host.at("d/old")) && !exists(&host.at("d/sub/deep")));
}

#[test]
fn whiteouts_of_what_is_not_there_do_nothing_in_the_plain_format() {
    let host = Host::plain();
    host.unpack(&Archive::new().file("none/.wh.x", "").file(".wh.y", "").symlink("up", "..").file("up/.wh.victim", ""))
        .unwrap();
    assert!(!exists(&host.at("none")));
}

#[test]
fn a_plain_whiteout_of_a_link_leaves_its_target() {
    let host = Host::plain();
    host.unpack(&base()).unwrap();
    host.unpack(&Archive::new().file(".wh.link", "")).unwrap();
    assert!(!exists(&host.at("link")) && exists(&host.at("d/old")));
}

#[test]
fn the_overlay_format_marks_what_is_hidden() {
    if !needs_root() {
        return;
    }
    let host = Host::overlay();
    host.unpack(&Archive::new().file("d/.wh.old", "").file("e/.wh..wh..opq", "").file(".wh.f", "")).unwrap();
    assert!(is_whiteout(&host.at("d/old")) && is_whiteout(&host.at("f")));
    assert!(opaque(&host, "e") && !opaque(&host, "d"));
    assert!(!exists(&host.at("e/.wh..wh..opq")) && !exists(&host.at(".wh.f")));
}

#[test]
fn the_mark_within_a_user_namespace_is_another() {
    let host = Host::new(TreeFormat::Overlay { user_xattr: true });
    host.unpack(&Archive::new().file("e/.wh..wh..opq", "")).unwrap();
    assert_eq!(xattr(&host.at("e"), "user.overlay.opaque").as_deref(), Some(&b"y"[..]));
}

#[test]
fn a_whiteout_and_an_entry_of_the_same_name_hide_only_what_is_below() {
    if !needs_root() {
        return;
    }
    for archive in [
        Archive::new()
            .file(".wh.f", "")
            .file(".wh.d", "")
            .file(".wh.i", "")
            .file("f", "x")
            .directory("d")
            .file("i/x", "x"),
        Archive::new()
            .file("f", "x")
            .directory("d")
            .file("i/x", "x")
            .file(".wh.f", "")
            .file(".wh.d", "")
            .file(".wh.i", ""),
    ] {
        let host = Host::overlay();
        host.unpack(&archive).unwrap();
        assert_eq!((read(&host.at("f")), read(&host.at("i/x"))), ("x".to_owned(), "x".to_owned()));
        assert!(opaque(&host, "d") && opaque(&host, "i"));
    }
}

#[test]
fn a_hard_link_cannot_multiply_whiteouts() {
    if !needs_root() {
        return;
    }
    let archive = Archive::new().file(".wh.a", "").hard_link("etc", "a");
    assert!(Host::overlay().refusal(&archive).contains("not there"));
}

#[test]
fn files_of_aufs_are_left_out() {
    let archive = Archive::new().file(".wh..wh.aufs", "").directory(".wh..wh.plnk").file(".wh..wh.plnk/1.2", "x");
    for host in [Host::plain(), Host::overlay()] {
        assert_eq!(host.unpack(&archive).unwrap().skipped.len(), 3);
        assert_eq!(std::fs::read_dir(host.root()).unwrap().count(), 0);
    }
}

#[test]
fn layers_below_lend_what_the_archive_does_not_have() {
    if !needs_root() {
        return;
    }
    let below = Host::overlay();
    let archive =
        Archive::new().owner(5, 6).mode(0o710).entry(b'5', "d", "", b"", |_| {}).mode(0o640).file("d/f", "below");
    below.unpack(&archive.symlink("s", "d/f").mode(0o600).file("gone/f", "x")).unwrap();
    let middle = Host::overlay();
    middle.unpack(&Archive::new().file(".wh.gone", "")).unwrap();
    let mut host = Host::overlay();
    host.options.lowers = vec![middle.root(), below.root()];
    host.unpack(&Archive::new().hard_link("d/g", "d/f").hard_link("t", "s").file("d/x", "")).unwrap();
    assert_eq!((stat(&host.at("d")).mode() & 0o7777, stat(&host.at("d")).uid()), (0o710, 5));
    let (f, g) = (stat(&host.at("d/f")), stat(&host.at("d/g")));
    assert_eq!((f.ino(), f.uid(), f.mode() & 0o7777), (g.ino(), 5, 0o640));
    assert_eq!(read(&host.at("d/g")), "below");
    assert!(stat(&host.at("t")).is_symlink());
    assert!(host.refusal(&Archive::new().hard_link("h", "gone/f")).contains("not there"));
}

#[test]
fn the_kernel_shows_the_layers_as_they_were_meant() {
    if !needs_root() {
        return;
    }
    let (below, above) = (Host::overlay(), Host::overlay());
    below.unpack(&base()).unwrap();
    above
        .unpack(
            &Archive::new()
                .file("d/.wh.old", "")
                .file("d/sub/.wh..wh..opq", "")
                .file("d/sub/new", "4")
                .file("link", "5"),
        )
        .unwrap();
    let target = tempfile::tempdir().unwrap();
    let options = format!("lowerdir={}:{}", above.root().display(), below.root().display());
    let options = std::ffi::CString::new(options).unwrap();
    let flags = rustix::mount::MountFlags::RDONLY;
    if let Err(errno) = rustix::mount::mount(c"overlay", target.path(), c"overlay", flags, options.as_c_str()) {
        assert!(std::env::var_os("KILN_TEST_REQUIRE").is_none(), "cannot mount an overlay: {errno}");
        return eprintln!("skipped: cannot mount an overlay: {errno}");
    }
    let seen = std::panic::catch_unwind(|| {
        let at = |path: &str| target.path().join(path);
        assert!(!exists(&at("d/old")) && !exists(&at("d/sub/deep")));
        assert_eq!((read(&at("d/sub/new")), read(&at("f")), read(&at("link"))), ("4".into(), "3".into(), "5".into()));
    });
    rustix::mount::unmount(target.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    seen.unwrap();
}
