//! Headers of tar entries: ustar, with a PAX header before it for what ustar cannot say. Equal fields give equal bytes.
//!
//! Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block"; `SCHILY.xattr.` as star and Go write it.

/// What archives are made of.
pub(crate) const BLOCK: usize = 512;

/// What a header says.
pub(crate) struct Header<'a> {
    /// Without a leading slash; a directory's ends with one.
    pub(crate) path: &'a [u8],
    /// tar's type: `b'0'`, `b'5'` ...
    pub(crate) kind: u8,
    /// Permissions.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Of the content that follows.
    pub(crate) size: u64,
    /// Seconds.
    pub(crate) mtime: i64,
    /// What a link names.
    pub(crate) link: &'a [u8],
    /// Major and minor number.
    pub(crate) device: (u32, u32),
    pub(crate) attributes: &'a [(Vec<u8>, Vec<u8>)],
}

impl Header<'_> {
    /// Appends the blocks.
    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        let split = split_path(self.path);
        let mut records = Vec::new();
        if split.is_none() {
            record(&mut records, b"path", self.path);
        }
        if self.link.len() > 100 {
            record(&mut records, b"linkpath", self.link);
        }
        for (name, value, largest) in [
            ("uid", i64::from(self.uid), MOST_SEVEN),
            ("gid", i64::from(self.gid), MOST_SEVEN),
            ("mtime", self.mtime, MOST_ELEVEN),
        ] {
            if !(0..=largest).contains(&value) {
                record(&mut records, name.as_bytes(), value.to_string().as_bytes());
            }
        }
        if self.size > MOST_ELEVEN as u64 {
            record(&mut records, b"size", self.size.to_string().as_bytes());
        }
        for (name, value) in self.attributes {
            record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
        }
        if !records.is_empty() {
            self.extended(&records, into);
        }
        self.block(split.unwrap_or((&[], &self.path[..self.path.len().min(100)])), into);
    }

    fn extended(&self, records: &[u8], into: &mut Vec<u8>) {
        let mut path = b"PaxHeaders.0/".to_vec();
        let name = self.path.strip_suffix(b"/").unwrap_or(self.path);
        let name = name.rsplit(|byte| *byte == b'/').next().unwrap_or(name);
        path.extend_from_slice(&name[..name.len().min(80)]);
        let header = Header {
            path: &path,
            kind: b'x',
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: records.len() as u64,
            mtime: 0,
            link: &[],
            device: (0, 0),
            attributes: &[],
        };
        header.block((&[], &path), into);
        into.extend_from_slice(records);
        pad(records.len() as u64, into);
    }

    fn block(&self, (prefix, name): (&[u8], &[u8]), into: &mut Vec<u8>) {
        let mut block = [0u8; BLOCK];
        block[..name.len()].copy_from_slice(name);
        octal(&mut block[100..108], i64::from(self.mode));
        octal(&mut block[108..116], i64::from(self.uid));
        octal(&mut block[116..124], i64::from(self.gid));
        octal(&mut block[124..136], self.size as i64);
        octal(&mut block[136..148], self.mtime);
        block[148..156].fill(b' ');
        block[156] = self.kind;
        let link = &self.link[..self.link.len().min(100)];
        block[157..157 + link.len()].copy_from_slice(link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        octal(&mut block[329..337], i64::from(self.device.0));
        octal(&mut block[337..345], i64::from(self.device.1));
        block[345..345 + prefix.len()].copy_from_slice(prefix);
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        into.extend_from_slice(&block);
    }
}

const MOST_SEVEN: i64 = 0o777_7777;
const MOST_ELEVEN: i64 = 0o777_7777_7777;

/// Octal digits and a NUL; what does not fit in binary, big end first, as GNU tar has it (the PAX header says it too).
fn octal(field: &mut [u8], value: i64) {
    let digits = field.len() - 1;
    if value >= 0 && (value >> (3 * digits)) == 0 {
        for (place, byte) in field[..digits].iter_mut().rev().enumerate() {
            *byte = b'0' + ((value >> (3 * place)) & 7) as u8;
        }
        return;
    }
    for (place, byte) in field.iter_mut().rev().enumerate() {
        *byte = (value >> (8 * place).min(63)) as u8;
    }
    field[0] |= 0x80;
}

/// A path as (prefix, name); `None` where it does not fit.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((&[], path));
    }
    let earliest = path.len() - 101;
    let slash = earliest + path[earliest..path.len() - 1].iter().position(|byte| *byte == b'/')?;
    (slash <= 155).then(|| (&path[..slash], &path[slash + 1..]))
}

/// `LENGTH NAME=VALUE\n`, where the length counts itself.
fn record(into: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let rest = name.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    into.extend_from_slice(length.to_string().as_bytes());
    into.push(b' ');
    into.extend_from_slice(name);
    into.push(b'=');
    into.extend_from_slice(value);
    into.push(b'\n');
}

/// Fills up to the next block after content of this size.
pub(crate) fn pad(size: u64, into: &mut Vec<u8>) {
    let missing = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    into.resize(into.len() + missing as usize, 0);
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    fn header<'a>(path: &'a [u8], link: &'a [u8]) -> Header<'a> {
        let (mode, uid, gid, size, mtime, device) = (0o644, 1, 2, 0, 1_700_000_000, (0, 0));
        Header { path, kind: b'2', mode, uid, gid, size, mtime, link, device, attributes: &[] }
    }

    fn encoded(header: &Header<'_>) -> Vec<u8> {
        let mut blocks = Vec::new();
        header.encode(&mut blocks);
        blocks
    }

    #[test]
    fn a_short_entry_is_one_block() {
        let block = encoded(&header(b"usr/bin/x", b"y"));
        assert_eq!(block.len(), BLOCK);
        let shown = tar::Header::from_byte_slice(&block);
        assert_eq!(shown.path_bytes().as_ref(), b"usr/bin/x");
        assert_eq!((shown.uid().unwrap(), shown.gid().unwrap(), shown.mtime().unwrap()), (1, 2, 1_700_000_000));
        let sum: u32 = (0..BLOCK).map(|at| if (148..156).contains(&at) { 32 } else { u32::from(block[at]) }).sum();
        assert_eq!(shown.cksum().unwrap(), sum);
    }

    #[test]
    fn a_record_counts_its_own_length() {
        for (size, length) in [(1, 6), (4, 9), (5, 11), (93, 99), (94, 101), (992, 999), (993, 1001)] {
            let mut text = Vec::new();
            record(&mut text, b"a", &vec![b'v'; size]);
            assert_eq!(text.len(), length);
            assert!(text.starts_with(format!("{length} a=v").as_bytes()));
        }
    }

    #[test]
    fn paths_are_split_where_they_fit() {
        let path =
            |sizes: &[usize]| sizes.iter().map(|size| "n".repeat(*size)).collect::<Vec<_>>().join("/").into_bytes();
        for (sizes, prefix, name) in
            [(&[100][..], 0, 100), (&[1, 99], 1, 99), (&[155, 100], 155, 100), (&[50, 20, 60], 50, 81)]
        {
            let path = path(sizes);
            let split = split_path(&path).unwrap();
            assert_eq!((split.0.len(), split.1.len()), (prefix, name), "{sizes:?}");
        }
        for sizes in [&[101][..], &[156, 100], &[10, 101], &[100, 0]] {
            assert_eq!(split_path(&path(sizes)), None, "{sizes:?}");
        }
    }

    #[allow(clippy::print_stderr, reason = "a test says why it is skipped")]
    /// GNU tar reads what the `tar` crate need not agree with.
    #[test]
    fn gnu_tar_reads_what_ustar_cannot_say() {
        let long = [b"d".repeat(120), b"/".to_vec(), b"\xc3\xbc".repeat(60)].concat();
        let mut archive = encoded(&Header { uid: 3_000_000, mtime: -5, ..header(&long, &long) });
        archive.extend(encoded(&Header { kind: b'3', device: (1, 3), ..header(b"null", b"") }));
        let nine_gib = 9 << 30;
        archive.extend(encoded(&Header { kind: b'0', size: nine_gib, ..header(b"large", b"") }));
        let Ok(mut tar) = Command::new("tar")
            .args(["--list", "--verbose", "--numeric-owner", "--utc", "--quoting-style=escape"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
        else {
            assert!(std::env::var("KILN_TEST_REQUIRE").as_deref() != Ok("1"), "there is no program `tar`");
            eprintln!("SKIPPED: there is no program `tar`");
            return;
        };
        tar.stdin.take().unwrap().write_all(&archive).unwrap();
        let listed = String::from_utf8(tar.wait_with_output().unwrap().stdout).unwrap();
        let shown = format!("{}/{}", "d".repeat(120), "\\303\\274".repeat(60));
        let lines: Vec<String> =
            listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[0], format!("lrw-r--r-- 3000000/2 0 1969-12-31 23:59 {shown} -> {shown}"));
        assert_eq!(lines[1], "crw-r--r-- 1/2 1,3 2023-11-14 22:13 null");
        assert_eq!(lines[2], format!("-rw-r--r-- 1/2 {nine_gib} 2023-11-14 22:13 large"));
    }
}
