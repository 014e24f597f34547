//! What is packed is what was unpacked; and archives that are broken in thousands of ways.

use super::*;
use crate::pack::{PackOptions, pack};

fn pack_tree(root: &Path) -> Vec<u8> {
    let mut tar = Vec::new();
    let options = PackOptions { uppers: vec![root.to_owned()], ..PackOptions::default() };
    pack(&options, &mut tar).unwrap();
    tar
}

fn rich() -> Archive {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    Archive::new()
        .owner(3, 4)
        .mode(0o4755)
        .file("bin/tool", &"binary".repeat(50_000))
        .hard_link("bin/alias", "bin/tool")
        .symlink("sbin", "bin")
        .owner(65_534, 0)
        .mode(0o640)
        .pax("uid", b"4000000")
        .pax("path", long.as_bytes())
        .file("long", "x")
        .pax("SCHILY.xattr.user.note", b"a=b\nc")
        .file("noted", "")
        .entry(b'6', "pipe", "", b"", |_| {})
        .mode(0o1777)
        .entry(b'5', "tmp", "", b"", |_| {})
        .mtime(0)
        .file("\u{e9}\u{4e2d}", "name")
        .entry(b'0', "latin\u{1}\n", "", b"odd", |_| {})
}

#[test]
fn packing_what_was_unpacked_gives_the_same_digest() {
    if !needs_root() {
        return;
    }
    let first = Host::overlay();
    first.unpack(&rich().file("gone/.wh.file", "").file("emptied/.wh..wh..opq", "").file("emptied/new", "x")).unwrap();
    let packed = pack_tree(&first.root());
    let second = Host::overlay();
    let unpacked = unpack(packed.as_slice(), &second.root(), &second.options).unwrap();
    assert_eq!(unpacked.skipped, []);
    assert_eq!(unpacked.diff_id, Digest::of(&packed));
    assert_eq!(Digest::of(&pack_tree(&second.root())), unpacked.diff_id);
}

/// Numbers that look random and are the same each time (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

/// Sets the checksums right, so that what is broken gets as far as it can.
fn mend(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

#[test]
fn broken_archives_do_no_harm() {
    let archive = Archive::new()
        .directory("d")
        .symlink("link", "../victim")
        .symlink("up", "../..")
        .file("d/file", "content")
        .hard_link("d/hard", "d/file")
        .file("d/.wh.file", "")
        .pax("GNU.sparse.size", b"100")
        .pax("GNU.sparse.map", b"0,2,90,2")
        .file("sparse", "abcd")
        .file("link", "x")
        .file("up/victim", "x")
        .bytes();
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    let pieces: [&[u8]; 8] = [b"..", b"/", b"../victim", b".wh.", b"\0", b"\xff\xff", b"link", b"up"];
    for round in 0..300 {
        let mut bytes = archive.clone();
        for _ in 0..=numbers.below(6) {
            let at = numbers.below(bytes.len() - 16);
            match numbers.below(3) {
                0 => bytes[at] = u8::try_from(numbers.below(256)).unwrap(),
                1 => {
                    let piece = pieces[numbers.below(pieces.len())];
                    bytes[at..at + piece.len()].copy_from_slice(piece);
                }
                // A header or a block of data takes another's place.
                _ => {
                    let from = numbers.below(bytes.len() / 512) * 512;
                    let block = bytes[from..from + 512].to_vec();
                    let to = numbers.below(bytes.len() / 512) * 512;
                    bytes[to..to + 512].copy_from_slice(&block);
                }
            }
        }
        mend(&mut bytes);
        let mut host = if round % 2 == 0 { Host::plain() } else { Host::new(TreeFormat::Overlay { user_xattr: true }) };
        host.options.limits.file = 1 << 30;
        let _ = unpack(bytes.as_slice(), &host.root(), &host.options);
        host.check();
    }
}
