//! Archives that want out, or want more than there is.

use super::*;

/// Unpacks both ways into fresh roots: none may fail to keep the host safe, and both must answer alike.
fn both(archive: &Archive) -> (Host, Result<Unpacked, ImageError>) {
    let (kernel, hand) = (Host::plain(), Host::plain());
    let outcome = kernel.unpack(archive);
    let other = hand.unpack_by_hand(archive);
    assert_eq!(outcome.is_ok(), other.is_ok(), "{outcome:?} {other:?}");
    (kernel, outcome)
}

#[test]
fn names_that_lead_up_are_refused() {
    for path in ["../victim", "a/../../victim", "./../victim", "a/..", "..", "a/.."] {
        let (_, outcome) = both(&Archive::new().file(path, "x"));
        assert!(matches!(outcome, Err(ImageError::Refused { .. })), "{path}: {outcome:?}");
    }
}

#[test]
fn absolute_names_start_at_the_root() {
    let (host, outcome) = both(&Archive::new().file("/etc/name", "x").directory("//srv/./a//"));
    outcome.unwrap();
    assert_eq!(read(&host.at("etc/name")), "x");
    assert!(host.at("srv/a").is_dir());
}

#[test]
fn links_on_the_way_stay_in_the_root() {
    let archive = Archive::new()
        .directory("etc")
        .symlink("absolute", "/etc")
        .symlink("above", "../../../../etc")
        .file("absolute/one", "1")
        .file("above/two", "2");
    let (host, outcome) = both(&archive);
    outcome.unwrap();
    assert_eq!((read(&host.at("etc/one")), read(&host.at("etc/two"))), ("1".to_owned(), "2".to_owned()));
}

#[test]
fn links_to_nowhere_in_the_root_are_no_way_out() {
    for target in ["..", "/..", "../victim", "/proc/self/cwd", "/tmp"] {
        let archive = Archive::new().symlink("link", target).file("link/victim", "changed");
        let (host, _) = both(&archive);
        assert!(!host.directory.path().join("victim/victim").exists());
    }
}

#[test]
fn a_file_takes_the_place_of_a_link_and_does_not_write_through_it() {
    let archive = Archive::new().symlink("link", "../victim").file("link", "new");
    let (host, outcome) = both(&archive);
    outcome.unwrap();
    assert!(stat(&host.at("link")).is_file());
    assert_eq!(read(&host.at("link")), "new");
}

#[test]
fn a_directory_takes_the_place_of_a_link_and_does_not_change_its_target() {
    let victim = tempfile::tempdir().unwrap();
    let before = stat(victim.path()).mode();
    let target = victim.path().display().to_string();
    let archive = Archive::new().symlink("link", &target).entry(b'5', "link", "", b"", |_| {}).file("link/a", "x");
    let (host, outcome) = both(&archive);
    outcome.unwrap();
    assert!(stat(&host.at("link")).is_dir());
    assert_eq!(stat(victim.path()).mode(), before);
    assert!(!victim.path().join("a").exists());
}

#[test]
fn hard_links_lead_to_files_of_the_root_only() {
    for target in ["../victim", "/../victim", "missing", "directory", "", "."] {
        let archive = Archive::new().directory("directory").hard_link("link", target);
        let (host, outcome) = both(&archive);
        assert!(matches!(outcome, Err(ImageError::Refused { .. })), "{target}: {outcome:?}");
        assert!(!exists(&host.at("link")));
    }
    let outside = tempfile::NamedTempFile::new().unwrap();
    let archive = Archive::new().symlink("s", &outside.path().display().to_string()).hard_link("link", "s");
    let (host, outcome) = both(&archive);
    outcome.unwrap();
    assert!(stat(&host.at("link")).is_symlink(), "the link itself is linked, not what it names");
    assert_eq!(stat(outside.path()).nlink(), 1);
}

#[test]
fn a_hard_link_through_a_link_to_a_directory_stays_inside() {
    let archive = Archive::new().symlink("up", "../..").hard_link("copy", "up/victim");
    let (host, outcome) = both(&archive);
    assert!(outcome.is_err());
    assert!(!exists(&host.at("copy")));
}

#[test]
fn attributes_that_mean_something_to_the_host_are_left_out() {
    let archive = Archive::new()
        .pax("SCHILY.xattr.trusted.overlay.redirect", b"/etc")
        .pax("SCHILY.xattr.user.overlay.opaque", b"y")
        .pax("SCHILY.xattr.security.selinux", b"system_u:object_r:shadow_t:s0")
        .pax("SCHILY.xattr.system.posix_acl_access", b"\x02\0\0\0")
        .directory("d")
        .pax("SCHILY.xattr.trusted.overlay.metacopy", b"")
        .file("f", "x");
    let host = Host::overlay();
    let unpacked = host.unpack(&archive).unwrap();
    assert_eq!(unpacked.skipped.len(), 5, "{:?}", unpacked.skipped);
    for name in ["trusted.overlay.redirect", "user.overlay.opaque", "security.selinux", "system.posix_acl_access"] {
        assert_eq!(xattr(&host.at("d"), name), None, "{name}");
    }
    assert_eq!(xattr(&host.at("f"), "trusted.overlay.metacopy"), None);
}

#[test]
fn a_device_that_is_a_whiteout_is_refused() {
    let archive = Archive::new().device(b'3', "etc/passwd", 0, 0);
    let refusal = Host::overlay().refusal(&archive);
    insta::assert_snapshot!(refusal, @"the entry `etc/passwd` is refused: it is a device 0:0, which an overlay takes for a file that is gone");
    assert_eq!(Host::plain().refusal(&archive), refusal);
}

#[test]
fn devices_are_left_out_but_for_those_that_every_system_has() {
    let archive = Archive::new()
        .device(b'3', "dev/null", 1, 3)
        .device(b'3', "dev/mem", 1, 1)
        .device(b'4', "dev/sda", 8, 0)
        .device(b'4', "dev/block", 1, 3);
    let host = Host::plain();
    assert_eq!(host.unpack(&archive).unwrap().skipped.len(), 4);
    assert!(!exists(&host.at("dev/null")));
    if !needs_root() {
        return;
    }
    let mut host = Host::plain();
    host.options.devices = Devices::Known;
    assert_eq!(host.unpack(&archive).unwrap().skipped.len(), 3);
    assert_eq!(stat(&host.at("dev/null")).rdev(), rustix::fs::makedev(1, 3));
    // What this host packed itself.
    let mut host = Host::plain();
    host.options.devices = Devices::All;
    assert_eq!(host.unpack(&archive).unwrap().skipped.len(), 0);
    assert_eq!(stat(&host.at("dev/sda")).rdev(), rustix::fs::makedev(8, 0));
}

#[test]
fn whiteouts_without_a_name_are_refused() {
    for path in [".wh.", ".wh..", "a/.wh...", "a/.wh."] {
        for host in [Host::overlay(), Host::plain()] {
            let outcome = host.unpack(&Archive::new().directory("a").file(path, ""));
            assert!(matches!(outcome, Err(ImageError::Refused { .. })), "{path}: {outcome:?}");
        }
    }
}

#[test]
fn owners_that_are_none_are_refused() {
    let archive = Archive::new().pax("uid", b"4294967295").file("a", "x");
    assert!(Host::plain().refusal(&archive).contains("no owner"));
    let archive = Archive::new().pax("gid", b"99999999999").file("a", "x");
    assert!(Host::plain().refusal(&archive).contains("no owner"));
}

#[test]
fn names_are_as_long_as_linux_has_them() {
    let archive = Archive::new().file(&"n".repeat(255), "x");
    Host::plain().unpack(&archive).unwrap();
    assert!(Host::plain().refusal(&Archive::new().file(&"n".repeat(256), "x")).contains("255"));
    assert!(Host::plain().refusal(&Archive::new().file(&"dir/".repeat(1100), "x")).contains("4095"));
    assert!(Host::plain().refusal(&Archive::new().symlink("s", &"d/".repeat(2100))).contains("4095"));
}

#[test]
fn too_much_of_anything_is_refused() {
    let mut host = Host::plain();
    host.options.limits.entries = 2;
    assert!(host.refusal(&Archive::new().file("a", "").file("b", "").file("c", "")).contains("more than 2 entries"));
    let mut host = Host::plain();
    host.options.limits.bytes = 10;
    assert!(host.refusal(&Archive::new().file("a", "123456").file("b", "123456")).contains("more than 10 bytes"));
    let mut host = Host::plain();
    host.options.limits.header = 1000;
    let archive = Archive::new().pax("comment", &[b'x'; 2000]).file("a", "");
    assert!(host.refusal(&archive).contains("an extended header has"));
    let mut host = Host::plain();
    host.options.limits.keep_free = u64::MAX;
    assert!(host.refusal(&Archive::new().file("a", "x")).contains("are free here"));
}

#[test]
fn bombs_end_early() {
    let mut host = Host::plain();
    host.options.limits.bytes = 1 << 20;
    host.options.limits.entries = 10;
    // Zeros behind the archive's end: a thousandth of them in gzip, next to nothing in zstd.
    let zeros = || std::io::Read::take(std::io::repeat(0), 32 << 20);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut zeros(), &mut gzip).unwrap();
    for bomb in [gzip.finish().unwrap(), zstd::encode_all(zeros(), 1).unwrap()] {
        let error = unpack(bomb.as_slice(), &host.root(), &host.options).unwrap_err().to_string();
        assert!(error.contains("when decompressed"), "{error}");
    }
}

#[test]
fn a_zstd_frame_that_wants_gigabytes_of_memory_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    encoder.include_contentsize(false).unwrap();
    std::io::Write::write_all(&mut encoder, &Archive::new().file("a", "x").bytes()).unwrap();
    let frame = encoder.finish().unwrap();
    let host = Host::plain();
    let error = unpack(frame.as_slice(), &host.root(), &host.options).unwrap_err();
    assert!(error.to_string().contains("memory"), "{error}");
}

#[test]
fn sparse_bombs_take_no_space() {
    let sparse = |length: u64| {
        Archive::new()
            .pax("GNU.sparse.major", b"0")
            .pax("GNU.sparse.minor", b"1")
            .pax("GNU.sparse.name", b"big")
            .pax("GNU.sparse.size", length.to_string().as_bytes())
            .pax("GNU.sparse.map", format!("0,1,{},1", length - 1).as_bytes())
            .file("GNUSparseFile.0/big", "ab")
    };
    let host = Host::plain();
    host.unpack(&sparse(1 << 39)).unwrap();
    let stat = stat(&host.at("big"));
    assert_eq!(stat.len(), 1 << 39);
    assert!(stat.blocks() < 100, "{}", stat.blocks());
    assert!(host.refusal(&sparse(1 << 41)).contains("are allowed"));
}

#[test]
fn sparse_maps_that_lie_are_refused() {
    for map in ["0,5", "0,1,0,1", "1,1,0,1", "9,2", "0", "18446744073709551615,2"] {
        let archive =
            Archive::new().pax("GNU.sparse.size", b"10").pax("GNU.sparse.map", map.as_bytes()).file("f", "ab");
        assert!(Host::plain().unpack(&archive).is_err(), "{map}");
    }
}

#[test]
fn damaged_archives_are_errors() {
    let bytes = Archive::new().file("a", &"x".repeat(3000)).bytes();
    for length in [100, 600, 3000] {
        let host = Host::plain();
        let error = unpack(&bytes[..length], &host.root(), &host.options).unwrap_err();
        assert!(matches!(error, ImageError::Malformed { .. }), "{error}");
    }
    let mut flipped = bytes.clone();
    flipped[3] ^= 1;
    let host = Host::plain();
    let error = unpack(flipped.as_slice(), &host.root(), &host.options).unwrap_err().to_string();
    assert!(error.contains("checksum"), "{error}");
    let gzip = Archive::new().file("a", &"x".repeat(3000)).gzip();
    assert!(unpack(&gzip[..gzip.len() - 6], &host.root(), &host.options).is_err(), "its checksum is cut off");
    let late = [vec![0; 512], Archive::new().file("hidden", "x").bytes()].concat();
    assert!(unpack(late.as_slice(), &host.root(), &host.options).is_err(), "entries behind a block of zeros");
}

#[test]
fn another_layer_than_was_promised_is_an_error() {
    let mut host = Host::plain();
    let archive = Archive::new().file("a", "x");
    host.options.diff_id = Some(Digest::of(&archive.bytes()));
    host.unpack(&archive).unwrap();
    let error = host.unpack(&Archive::new().file("a", "y")).unwrap_err();
    assert!(matches!(error, ImageError::Mismatch { .. }), "{error}");
}
