//! Writes archives that no honest program writes.

use std::io::Write;

/// An archive that grows entry by entry; whatever is asked for is written.
#[derive(Clone, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    pax: Vec<u8>,
    owner: (u64, u64),
    mode: u32,
    mtime: u64,
    unended: bool,
}

impl Archive {
    pub(super) fn new() -> Archive {
        Archive { mode: 0o644, mtime: 1_700_000_000, ..Archive::default() }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        if !self.unended {
            bytes.extend([0; 1024]);
        }
        bytes
    }

    pub(super) fn gzip(&self) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&self.bytes()).unwrap();
        encoder.finish().unwrap()
    }

    pub(super) fn zstd(&self) -> Vec<u8> {
        zstd::encode_all(self.bytes().as_slice(), 1).unwrap()
    }

    pub(super) fn unended(mut self) -> Archive {
        self.unended = true;
        self
    }

    /// Of all entries that follow.
    pub(super) fn owner(mut self, uid: u64, gid: u64) -> Archive {
        self.owner = (uid, gid);
        self
    }

    /// Of all entries that follow.
    pub(super) fn mode(mut self, mode: u32) -> Archive {
        self.mode = mode;
        self
    }

    /// Of all entries that follow.
    pub(super) fn mtime(mut self, mtime: u64) -> Archive {
        self.mtime = mtime;
        self
    }

    /// A record of the next entry's extended header.
    pub(super) fn pax(mut self, key: &str, value: &[u8]) -> Archive {
        let body = key.len() + value.len() + 3;
        let mut length = body + body.to_string().len();
        if length.to_string().len() != body.to_string().len() {
            length += 1;
        }
        self.pax.extend(format!("{length} {key}=").bytes().chain(value.iter().copied()).chain([b'\n']));
        self
    }

    pub(super) fn file(self, path: &str, content: &str) -> Archive {
        self.entry(b'0', path, "", content.as_bytes(), |_| {})
    }

    pub(super) fn directory(self, path: &str) -> Archive {
        let mode = self.mode;
        self.mode(0o755).entry(b'5', path, "", b"", |_| {}).mode(mode)
    }

    pub(super) fn symlink(self, path: &str, target: &str) -> Archive {
        self.entry(b'2', path, target, b"", |_| {})
    }

    pub(super) fn hard_link(self, path: &str, target: &str) -> Archive {
        self.entry(b'1', path, target, b"", |_| {})
    }

    pub(super) fn device(self, flag: u8, path: &str, major: u32, minor: u32) -> Archive {
        self.entry(flag, path, "", b"", |header| {
            header[329..337].copy_from_slice(format!("{major:07o}\0").as_bytes());
            header[337..345].copy_from_slice(format!("{minor:07o}\0").as_bytes());
        })
    }

    /// One entry; `change` may write anything into the header, the checksum is right all the same.
    pub(super) fn entry(
        mut self,
        flag: u8,
        path: &str,
        link: &str,
        data: &[u8],
        mut change: impl FnMut(&mut [u8; 512]),
    ) -> Archive {
        if !self.pax.is_empty() {
            let pax = std::mem::take(&mut self.pax);
            self.raw(b'x', b"PaxHeader", b"", &pax, &mut |_| {});
        }
        self.raw(flag, path.as_bytes(), link.as_bytes(), data, &mut change);
        self
    }

    fn raw(&mut self, flag: u8, path: &[u8], link: &[u8], data: &[u8], change: &mut dyn FnMut(&mut [u8; 512])) {
        for (flag, long) in [(b'L', path), (b'K', link)] {
            if long.len() > 100 {
                let name = [long, b"\0"].concat();
                self.raw(flag, b"././@LongLink", b"", &name, &mut |_| {});
            }
        }
        let mut header = [0u8; 512];
        header[..path.len().min(100)].copy_from_slice(&path[..path.len().min(100)]);
        header[157..157 + link.len().min(100)].copy_from_slice(&link[..link.len().min(100)]);
        header[100..108].copy_from_slice(format!("{:07o}\0", self.mode).as_bytes());
        header[108..116].copy_from_slice(format!("{:07o}\0", self.owner.0).as_bytes());
        header[116..124].copy_from_slice(format!("{:07o}\0", self.owner.1).as_bytes());
        header[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
        header[136..148].copy_from_slice(format!("{:011o}\0", self.mtime).as_bytes());
        header[156] = flag;
        header[257..265].copy_from_slice(b"ustar\x0000");
        change(&mut header);
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend(header);
        self.bytes.extend(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }
}
