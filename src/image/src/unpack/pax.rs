//! PAX extended headers: records `LENGTH KEY=VALUE\n`.

use std::io;

use super::tar::malformed;

/// What a PAX header says of the entry behind it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Extension {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<(i64, u32)>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse_major: Option<u64>,
    pub(crate) sparse_length: Option<u64>,
    /// Offsets and lengths in turn.
    pub(crate) sparse_map: Vec<u64>,
    has_sparse_blocks: bool,
}

impl Extension {
    pub(crate) fn is_sparse(&self) -> bool {
        self.sparse_major == Some(1) || self.has_sparse_blocks || !self.sparse_map.is_empty()
    }
}

/// Reads one.
pub(crate) fn parse(mut bytes: &[u8]) -> io::Result<Extension> {
    let mut extension = Extension::default();
    let mut sparse_path = None;
    while !bytes.is_empty() {
        let (record, rest) = record(bytes)?;
        bytes = rest;
        let equals =
            record.iter().position(|byte| *byte == b'=').ok_or_else(|| malformed("a PAX record has no `=`"))?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"GNU.sparse.name" => sparse_path = Some(no_nul(value)?),
            _ => extension.set(key, value)?,
        }
    }
    // A program that knows no sparse files shall unpack them under another name.
    if sparse_path.is_some() {
        extension.path = sparse_path;
    }
    Ok(extension)
}

fn record(bytes: &[u8]) -> io::Result<(&[u8], &[u8])> {
    let cut_off = || malformed("a PAX record is cut off");
    let space = bytes.iter().take(20).position(|byte| *byte == b' ').ok_or_else(cut_off)?;
    let length = usize::try_from(decimal(&bytes[..space])?).map_err(|_| cut_off())?;
    if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
        return Err(cut_off());
    }
    Ok((&bytes[space + 1..length - 1], &bytes[length..]))
}

impl Extension {
    fn set(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            self.xattrs.push((no_nul(name)?, value.to_vec()));
            return Ok(());
        }
        // An empty value takes back what was said before.
        let number = || if value.is_empty() { Ok(None) } else { decimal(value).map(Some) };
        let bytes = || no_nul(value).map(|value| Some(value).filter(|value| !value.is_empty()));
        match key {
            b"path" => self.path = bytes()?,
            b"linkpath" => self.link = bytes()?,
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" => self.mtime = if value.is_empty() { None } else { Some(time(value)?) },
            b"GNU.sparse.major" => self.sparse_major = number()?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse_length = number()?,
            b"GNU.sparse.numblocks" => self.has_sparse_blocks = true,
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse_map.push(decimal(value)?),
            b"GNU.sparse.map" => {
                self.has_sparse_blocks = true;
                let numbers = value.split(|byte| *byte == b',').filter(|number| !number.is_empty());
                self.sparse_map = numbers.map(decimal).collect::<io::Result<_>>()?;
            }
            _ => {}
        }
        Ok(())
    }
}

fn no_nul(value: &[u8]) -> io::Result<Vec<u8>> {
    if value.contains(&0) {
        return Err(malformed("a PAX record holds a NUL where none may be"));
    }
    Ok(value.to_vec())
}

pub(crate) fn decimal(digits: &[u8]) -> io::Result<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let value = std::str::from_utf8(digits).ok().filter(|_| is_number).and_then(|digits| digits.parse().ok());
    value.ok_or_else(|| malformed("a PAX record holds a number that is none"))
}

/// Seconds with a fraction, before 1970 as well.
fn time(value: &[u8]) -> io::Result<(i64, u32)> {
    let (is_negative, value) = value.strip_prefix(b"-").map_or((false, value), |value| (true, value));
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let whole = decimal(parts.next().unwrap_or_default())?;
    let seconds = i64::try_from(whole).map_err(|_| malformed("a PAX record holds a time that is too late"))?;
    let mut digits = parts.next().unwrap_or_default().to_vec();
    digits.resize(9, b'0');
    let nanoseconds = u32::try_from(decimal(&digits)?).unwrap_or_default();
    Ok(match (is_negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_by_their_length() {
        let extension = parse(b"12 path=a/b\n30 mtime=1700000000.123456789\n28 SCHILY.xattr.user.a=x\n=y\n").unwrap();
        assert_eq!(extension.path.as_deref(), Some(&b"a/b"[..]));
        assert_eq!(extension.mtime, Some((1_700_000_000, 123_456_789)));
        assert_eq!(extension.xattrs, [(b"user.a".to_vec(), b"x\n=y".to_vec())]);
        assert_eq!(time(b"-1.5").unwrap(), (-2, 500_000_000));
    }

    #[test]
    fn broken_records_are_errors() {
        for broken in
            [&b"5 path=a\n"[..], b"99 path=a\n", b"path=a\n", b"9 path a\n", b"0 \n", b"11 path=\0a\n", b"9 size=-\n"]
        {
            assert!(parse(broken).is_err(), "{}", String::from_utf8_lossy(broken));
        }
    }
}
