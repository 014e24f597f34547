//! The tar format as archives of images have it: ustar, PAX and GNU headers, sparse files of both. Only reads headers; what
//! they ask for is judged elsewhere.
//!
//! Sources: POSIX.1-2017 "pax", GNU tar manual "Basic Tar Format" and "Storing Sparse Files".

use std::io;

use super::pax::{self, Extension};
use super::stream::Source;
use crate::unpack::Limits;

pub(crate) const BLOCK: usize = 512;
/// A file with more pieces than that is not sparse, it is a bomb.
const MOST_SEGMENTS: usize = 1 << 20;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    Character,
    Block,
    Directory,
    Fifo,
    /// A type flag of no meaning here.
    Other(u8),
}

/// Bytes of a sparse file that are not holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: (i64, u32),
    /// Bytes of data that follow.
    pub(crate) size: u64,
    pub(crate) device: (u64, u64),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: Option<Sparse>,
}

/// Where the data of a sparse file goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sparse {
    pub(crate) segments: Vec<Segment>,
    pub(crate) length: u64,
}

pub(crate) fn malformed(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.into())
}

/// The next entry; `None` at the end of the archive. All data of the one before must have been taken, the padding too.
pub(crate) fn next(source: &mut Source<'_>, limits: &Limits) -> io::Result<Option<Entry>> {
    let mut extension = Extension::default();
    let (mut long_path, mut long_link) = (None, None);
    let mut header = [0u8; BLOCK];
    loop {
        if !source.fill(&mut header)? {
            return Ok(None);
        }
        if header.iter().all(|byte| *byte == 0) {
            // The end is two blocks of zeros, or one and the end of the file.
            if source.fill(&mut header)? && header.iter().any(|byte| *byte != 0) {
                return Err(malformed("a block of zeros stands between its entries"));
            }
            return Ok(None);
        }
        check_sum(&header)?;
        let size = number(&header[124..136])?;
        match header[156] {
            b'x' => extension = pax::parse(&body(source, size, limits)?)?,
            // Of no use for images; git writes a commit's id into one.
            b'g' => drop(body(source, size, limits)?),
            b'L' => long_path = Some(until_nul(body(source, size, limits)?)),
            b'K' => long_link = Some(until_nul(body(source, size, limits)?)),
            _ => return entry(source, &header, extension, long_path, long_link, limits).map(Some),
        }
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

/// Content of an extended header, with its padding taken.
fn body(source: &mut Source<'_>, size: u64, limits: &Limits) -> io::Result<Vec<u8>> {
    if size > limits.header {
        return Err(malformed(format!("an extended header has {size} bytes; {} are allowed", limits.header)));
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
    if !bytes.is_empty() && !source.fill(&mut bytes)? {
        return Err(super::stream::truncated());
    }
    source.skip(padding(size))?;
    Ok(bytes)
}

/// From the end of the data to the next block.
pub(crate) fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn check_sum(header: &[u8; BLOCK]) -> io::Result<()> {
    let wanted = number(&header[148..156])?;
    let byte_at = |index: usize| if (148..156).contains(&index) { b' ' } else { header[index] };
    let unsigned: u64 = (0..BLOCK).map(|index| u64::from(byte_at(index))).sum();
    // Some old writers summed signed bytes.
    let signed: i64 = (0..BLOCK).map(|index| i64::from(byte_at(index).cast_signed())).sum();
    if unsigned == wanted || u64::try_from(signed) == Ok(wanted) {
        return Ok(());
    }
    Err(malformed("a header's checksum is wrong: this is no tar archive, or it is damaged"))
}

/// An unsigned field: octal digits, or GNU's base 256.
fn number(field: &[u8]) -> io::Result<u64> {
    u64::try_from(signed_number(field)?).map_err(|_| malformed("a header holds a negative number"))
}

fn signed_number(field: &[u8]) -> io::Result<i64> {
    let too_large = || malformed("a header holds a number that is too large");
    if field[0] & 0x80 != 0 {
        let is_negative = field[0] & 0x40 != 0;
        let first = if is_negative { i128::from(field[0].cast_signed()) } else { i128::from(field[0] & 0x7f) };
        let value = field[1..].iter().try_fold(first, |value, byte| {
            value.checked_mul(256).map(|value| value + i128::from(*byte)).filter(|value| value.abs() < 1 << 96)
        });
        return value.and_then(|value| i64::try_from(value).ok()).ok_or_else(too_large);
    }
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default().trim_ascii();
    text.iter().try_fold(0i64, |value, byte| match byte {
        b'0'..=b'7' => {
            value.checked_mul(8).and_then(|value| value.checked_add(i64::from(byte - b'0'))).ok_or_else(too_large)
        }
        _ => Err(malformed("a header holds a number that is none")),
    })
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn entry(
    source: &mut Source<'_>,
    header: &[u8; BLOCK],
    extension: Extension,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    limits: &Limits,
) -> io::Result<Entry> {
    let path = extension.path.clone().or(long_path).unwrap_or_else(|| header_path(header));
    let kind = match header[156] {
        // Before there was a flag for directories, a slash said it.
        b'0' | 0 | b'7' if path.ends_with(b"/") => Kind::Directory,
        b'0' | 0 | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::Character,
        b'4' => Kind::Block,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => Kind::Other(other),
    };
    let size = match kind {
        Kind::File | Kind::Other(_) => extension.size.map_or_else(|| number(&header[124..136]), Ok)?,
        // Whatever they say, no data follows them.
        _ => 0,
    };
    let mut entry = Entry {
        path,
        link: extension.link.clone().or(long_link).unwrap_or_else(|| text(&header[157..257]).to_vec()),
        kind,
        mode: u32::try_from(number(&header[100..108])? & 0o7777).unwrap_or_default(),
        uid: extension.uid.map_or_else(|| number(&header[108..116]), Ok)?,
        gid: extension.gid.map_or_else(|| number(&header[116..124]), Ok)?,
        mtime: extension.mtime.map_or_else(|| signed_number(&header[136..148]).map(|seconds| (seconds, 0)), Ok)?,
        size,
        device: match kind {
            Kind::Character | Kind::Block => (number(&header[329..337])?, number(&header[337..345])?),
            _ => (0, 0),
        },
        xattrs: extension.xattrs.clone(),
        sparse: None,
    };
    if header[156] == b'S' {
        entry.sparse = Some(gnu_sparse(source, header)?);
    } else if kind == Kind::File && extension.is_sparse() {
        entry.sparse = Some(pax_sparse(source, &extension, &mut entry.size, limits)?);
    }
    if let Some(sparse) = &entry.sparse {
        check_sparse(sparse, entry.size)?;
    }
    Ok(entry)
}

fn header_path(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = text(&header[..100]);
    let prefix = match &header[257..263] {
        b"ustar\0" if &header[508..512] == b"tar\0" => text(&header[345..476]),
        b"ustar\0" => text(&header[345..500]),
        _ => &[],
    };
    if prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

/// The map of GNU's own format: four pieces in the header, the rest in blocks behind it.
fn gnu_sparse(source: &mut Source<'_>, header: &[u8; BLOCK]) -> io::Result<Sparse> {
    let mut segments = Vec::new();
    add_segments(&mut segments, &header[386..482])?;
    let length = number(&header[483..495])?;
    let mut has_more = header[482] != 0;
    let mut block = [0u8; BLOCK];
    while has_more {
        if !source.fill(&mut block)? {
            return Err(super::stream::truncated());
        }
        add_segments(&mut segments, &block[..504])?;
        has_more = block[504] != 0;
    }
    Ok(Sparse { segments, length })
}

fn add_segments(segments: &mut Vec<Segment>, table: &[u8]) -> io::Result<()> {
    for pair in table.chunks_exact(24).take_while(|pair| pair[0] != 0) {
        push(segments, number(&pair[..12])?, number(&pair[12..])?)?;
    }
    Ok(())
}

fn push(segments: &mut Vec<Segment>, offset: u64, length: u64) -> io::Result<()> {
    if segments.len() == MOST_SEGMENTS {
        return Err(malformed(format!("a sparse file has more than {MOST_SEGMENTS} pieces")));
    }
    segments.push(Segment { offset, length });
    Ok(())
}

/// The map of a PAX archive: in the extended header (0.0 and 0.1), or in front of the data (1.0).
fn pax_sparse(source: &mut Source<'_>, extension: &Extension, size: &mut u64, limits: &Limits) -> io::Result<Sparse> {
    let length = extension.sparse_length.ok_or_else(|| malformed("a sparse file has no length"))?;
    let mut segments = Vec::new();
    if extension.sparse_major == Some(1) {
        let mut taken = 0u64;
        let mut numbers = Decimals { source, taken: &mut taken, most: limits.header.min(*size), block: Vec::new() };
        let count = numbers.next()?;
        for _ in 0..count {
            let (offset, length) = (numbers.next()?, numbers.next()?);
            push(&mut segments, offset, length)?;
        }
        *size -= taken;
    } else {
        for pair in extension.sparse_map.chunks(2) {
            let [offset, length] = pair else { return Err(malformed("a sparse file's map is cut off")) };
            push(&mut segments, *offset, *length)?;
        }
    }
    Ok(Sparse { segments, length })
}

/// Numbers on lines of their own, padded to a block.
struct Decimals<'a, 'scope> {
    source: &'a mut Source<'scope>,
    taken: &'a mut u64,
    most: u64,
    /// What is left of the block, the end first.
    block: Vec<u8>,
}

impl Decimals<'_, '_> {
    fn next(&mut self) -> io::Result<u64> {
        let mut digits = Vec::new();
        loop {
            if self.block.is_empty() {
                if *self.taken + BLOCK as u64 > self.most {
                    return Err(malformed("a sparse file's map is cut off, or too long"));
                }
                let mut block = vec![0; BLOCK];
                if !self.source.fill(&mut block)? {
                    return Err(super::stream::truncated());
                }
                *self.taken += BLOCK as u64;
                block.reverse();
                self.block = block;
            }
            match self.block.pop() {
                Some(b'\n') => return pax::decimal(&digits),
                Some(digit) if digits.len() < 20 => digits.push(digit),
                _ => return Err(malformed("a sparse file's map holds a number that is none")),
            }
        }
    }
}

/// Pieces in order, none over another, all within the file; as much data as they say.
fn check_sparse(sparse: &Sparse, size: u64) -> io::Result<()> {
    let (mut end, mut data) = (0u64, 0u64);
    for segment in &sparse.segments {
        let until = segment.offset.checked_add(segment.length).filter(|until| *until <= sparse.length);
        match until {
            Some(until) if segment.offset >= end => end = until,
            _ => return Err(malformed("the pieces of a sparse file overlap, or lie outside of it")),
        }
        data += segment.length;
    }
    if data == size { Ok(()) } else { Err(malformed("a sparse file has not as much data as its map says")) }
}
