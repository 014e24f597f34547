//! What archives say in many ways, and what of it ends up in the tree.

use super::*;

#[test]
fn all_compressions_give_the_same_tree_and_digest() {
    let archive = Archive::new().directory("etc").file("etc/name", &"kiln\n".repeat(100_000)).symlink("e", "etc");
    let wanted = Digest::of(&archive.bytes());
    let half = archive.bytes().len() / 2;
    let members = [&archive.bytes()[..half], &archive.bytes()[half..]].map(|part| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, part).unwrap();
        encoder.finish().unwrap()
    });
    let frames = [&archive.bytes()[..half], &archive.bytes()[half..]].map(|part| zstd::encode_all(part, 1).unwrap());
    for bytes in [archive.bytes(), archive.gzip(), archive.zstd(), members.concat(), frames.concat()] {
        let host = Host::plain();
        let unpacked = unpack(bytes.as_slice(), &host.root(), &host.options).unwrap();
        assert_eq!(unpacked.diff_id, wanted);
        assert_eq!((unpacked.entries, unpacked.bytes), (3, 500_000));
        assert_eq!(read(&host.at("e/name")).len(), 500_000);
    }
}

#[test]
fn owners_modes_and_times_are_set() {
    if !needs_root() {
        return;
    }
    let archive = Archive::new()
        .owner(12, 34)
        .mode(0o6755)
        .file("tool", "x")
        .mode(0o2770)
        .entry(b'5', "shared", "", b"", |_| {})
        .mode(0o602)
        .owner(0, 0)
        .file("shared/in", "x")
        .owner(5, 6)
        .symlink("link", "tool")
        .entry(b'6', "pipe", "", b"", |_| {})
        .pax("mtime", b"1600000000.5")
        .pax("uid", b"3000000000")
        .file("late", "x");
    let host = Host::overlay();
    host.unpack(&archive).unwrap();
    let seen = |path: &str| {
        let stat = stat(&host.at(path));
        (stat.mode() & 0o7777, stat.uid(), stat.gid(), stat.mtime())
    };
    assert_eq!(seen("tool"), (0o6755, 12, 34, 1_700_000_000));
    assert_eq!(seen("shared"), (0o2770, 12, 34, 1_700_000_000));
    assert_eq!(seen("shared/in"), (0o602, 0, 0, 1_700_000_000), "the directory's group is not inherited");
    assert_eq!(seen("link"), (0o777, 5, 6, 1_700_000_000));
    assert_eq!(seen("pipe"), (0o602, 5, 6, 1_700_000_000));
    assert_eq!(seen("late"), (0o602, 3_000_000_000, 6, 1_600_000_000));
    assert_eq!(stat(&host.at("late")).mtime_nsec(), 500_000_000);
}

#[test]
fn without_owners_nothing_runs_as_somebody_else() {
    let mut host = Host::plain();
    host.options.owners = false;
    host.unpack(&Archive::new().owner(12, 34).mode(0o6755).file("tool", "x")).unwrap();
    let stat = stat(&host.at("tool"));
    assert_eq!((stat.uid(), stat.mode() & 0o7777), (rustix::process::geteuid().as_raw(), 0o755));
}

#[test]
fn a_directory_gets_its_mode_when_it_is_full() {
    let archive = Archive::new().mode(0o500).entry(b'5', "d", "", b"", |_| {}).mode(0o644).mtime(5).file("d/f", "x");
    let host = Host::plain();
    host.unpack(&archive).unwrap();
    assert_eq!((stat(&host.at("d")).mode() & 0o777, stat(&host.at("d")).mtime()), (0o500, 1_700_000_000));
    // So that a caller that is not root can remove it.
    std::fs::set_permissions(host.at("d"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
}

#[test]
fn hard_links_share_their_file() {
    let archive = Archive::new().file("a", "x").hard_link("b", "./a").hard_link("d/c", "/b").hard_link("a", "a");
    let host = Host::plain();
    host.unpack(&archive).unwrap();
    assert_eq!(stat(&host.at("a")).nlink(), 3);
    assert_eq!(read(&host.at("d/c")), "x");
}

#[test]
fn what_comes_last_counts() {
    let archive = Archive::new()
        .file("a", "1")
        .hard_link("b", "a")
        .file("a", "2")
        .directory("d")
        .file("d/f", "x")
        .file("d", "now a file")
        .file("e", "x")
        .directory("e")
        .file("e/f", "y");
    let host = Host::plain();
    host.unpack(&archive).unwrap();
    assert_eq!((read(&host.at("a")), read(&host.at("b"))), ("2".to_owned(), "1".to_owned()));
    assert_eq!((read(&host.at("d")), read(&host.at("e/f"))), ("now a file".to_owned(), "y".to_owned()));
}

#[test]
fn long_names_of_all_kinds() {
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(120));
    let pax = Archive::new()
        .pax("path", long.as_bytes())
        .file("short", "pax")
        .pax("linkpath", long.as_bytes())
        .symlink("s", "short");
    let gnu = Archive::new().file(&long, "gnu").symlink("s", &long);
    let prefix = Archive::new().entry(b'0', &"f".repeat(90), "", b"ustar", |header| {
        header[345..435].copy_from_slice(&[b'd'; 90]);
    });
    for (archive, content) in [(pax, "pax"), (gnu, "gnu")] {
        let host = Host::plain();
        host.unpack(&archive).unwrap();
        assert_eq!((read(&host.at(&long)), read(&host.at("s"))), (content.to_owned(), content.to_owned()));
    }
    let host = Host::plain();
    host.unpack(&prefix).unwrap();
    assert_eq!(read(&host.at(&format!("{}/{}", "d".repeat(90), "f".repeat(90)))), "ustar");
}

#[test]
fn numbers_in_base_256() {
    let archive = Archive::new().entry(b'0', "a", "", b"x", |header| {
        header[136..148].copy_from_slice(&(-5i128).to_be_bytes()[4..]);
    });
    let host = Host::plain();
    host.unpack(&archive).unwrap();
    assert_eq!(stat(&host.at("a")).mtime(), -5);
}

#[test]
fn sparse_files_of_all_formats() {
    let expected = format!("ab{}cd{}", "\0".repeat(8190), "\0".repeat(1000));
    let length = expected.len().to_string();
    let first = Archive::new()
        .pax("GNU.sparse.size", length.as_bytes())
        .pax("GNU.sparse.numblocks", b"2")
        .pax("GNU.sparse.offset", b"0")
        .pax("GNU.sparse.numbytes", b"2")
        .pax("GNU.sparse.offset", b"8192")
        .pax("GNU.sparse.numbytes", b"2")
        .file("f", "abcd");
    let mut data = b"2\n0\n2\n8192\n2\n".to_vec();
    data.resize(512, 0);
    data.extend(b"abcd");
    let newest = Archive::new()
        .pax("GNU.sparse.major", b"1")
        .pax("GNU.sparse.minor", b"0")
        .pax("GNU.sparse.name", b"f")
        .pax("GNU.sparse.realsize", length.as_bytes())
        .entry(b'0', "GNUSparseFile.1/f", "", &data, |_| {});
    let gnu = Archive::new().entry(b'S', "f", "", b"abcd", |header| {
        header[257..265].copy_from_slice(b"ustar  \0");
        let map = [0, 2, 8192, 2].map(|number: u64| format!("{number:011o}\0")).concat();
        header[386..386 + map.len()].copy_from_slice(map.as_bytes());
        header[483..495].copy_from_slice(format!("{:011o}\0", expected.len()).as_bytes());
    });
    for archive in [first, newest, gnu] {
        let host = Host::plain();
        host.unpack(&archive.file("after", "it")).unwrap();
        assert_eq!(read(&host.at("f")), expected);
        assert_eq!(read(&host.at("after")), "it");
    }
}

#[test]
fn what_other_programs_leave_out_is_no_error() {
    // No blocks of zeros at the end, a global header, an unknown kind, a directory of the old format, one that has a size.
    let archive = Archive::new()
        .entry(b'g', "pax_global_header", "", b"18 comment=abcdef\n", |_| {})
        .entry(b'V', "label", "", b"", |_| {})
        .mode(0o755)
        .entry(0, "old/", "", b"", |_| {})
        .entry(b'5', "sized", "", b"", |header| header[124..136].copy_from_slice(b"00000001000\0"))
        .file("old/f", "x")
        .unended();
    let host = Host::plain();
    let unpacked = host.unpack(&archive).unwrap();
    assert_eq!(unpacked.skipped.len(), 1);
    assert_eq!(read(&host.at("old/f")), "x");
    assert!(stat(&host.at("sized")).is_dir());
    let empty = Host::plain().unpack(&Archive::new().unended()).unwrap();
    assert_eq!(empty.diff_id, Digest::of(b""));
}

#[test]
fn attributes_of_images_are_set() {
    if !needs_root() {
        return;
    }
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let archive = Archive::new()
        .owner(7, 7)
        .pax("SCHILY.xattr.security.capability", capability)
        .pax("SCHILY.xattr.user.note", b"a\0b")
        .file("ping", "x")
        .pax("SCHILY.xattr.user.note", b"d")
        .directory("d");
    let host = Host::overlay();
    host.unpack(&archive).unwrap();
    assert_eq!(xattr(&host.at("ping"), "security.capability").as_deref(), Some(&capability[..]));
    assert_eq!(xattr(&host.at("ping"), "user.note").as_deref(), Some(&b"a\0b"[..]));
    assert_eq!(xattr(&host.at("d"), "user.note").as_deref(), Some(&b"d"[..]));
}
