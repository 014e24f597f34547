//! One writer over all compressions.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use bzip2::write::BzEncoder;
use flate2::write::{DeflateEncoder, GzEncoder};
use liblzma::write::XzEncoder;
use lz4_flex::frame::FrameEncoder;

use super::format::Compression;

type Sink = BufWriter<File>;

/// Compresses what is written to it into a file.
pub(super) enum Encoder {
    Plain(Sink),
    Gzip(GzEncoder<Sink>),
    Bgzf(BgzfEncoder<Sink>),
    Lz4(Box<FrameEncoder<Sink>>),
    Xz(XzEncoder<Sink>),
    Bzip2(BzEncoder<Sink>),
}

impl Encoder {
    /// `level` is from 1 to 9; LZ4 has none.
    pub(super) fn new(compression: Compression, level: u32, file: File) -> Encoder {
        let sink = BufWriter::with_capacity(256 * 1024, file);
        match compression {
            Compression::None => Encoder::Plain(sink),
            // Neither name nor time in the header: the same file gives the same bytes.
            Compression::Gzip => Encoder::Gzip(GzEncoder::new(sink, flate2::Compression::new(level))),
            Compression::Bgzf => Encoder::Bgzf(BgzfEncoder::new(sink, level)),
            Compression::Lz4 => Encoder::Lz4(Box::new(FrameEncoder::new(sink))),
            Compression::Xz => Encoder::Xz(XzEncoder::new(sink, level)),
            Compression::Bzip2 => Encoder::Bzip2(BzEncoder::new(sink, bzip2::Compression::new(level))),
        }
    }

    /// Writes what is left, and the end of the form.
    pub(super) fn finish(self) -> io::Result<()> {
        let mut sink = match self {
            Encoder::Plain(sink) => sink,
            Encoder::Gzip(encoder) => encoder.finish()?,
            Encoder::Bgzf(encoder) => encoder.finish()?,
            Encoder::Lz4(encoder) => encoder.finish().map_err(io::Error::other)?,
            Encoder::Xz(encoder) => encoder.finish()?,
            Encoder::Bzip2(encoder) => encoder.finish()?,
        };
        sink.flush()
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Encoder::Plain(writer) => writer,
            Encoder::Gzip(writer) => writer,
            Encoder::Bgzf(writer) => writer,
            Encoder::Lz4(writer) => writer,
            Encoder::Xz(writer) => writer,
            Encoder::Bzip2(writer) => writer,
        }
    }
}

impl Write for Encoder {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.writer().write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer().flush()
    }
}

/// BGZF (SAM specification, section 4.1): gzip members of at most 64 KiB, each with its size in an extra field, and an
/// empty one at the end.
pub(super) struct BgzfEncoder<W: Write> {
    sink: W,
    level: u32,
    block: Vec<u8>,
}

/// Bytes in a block before compression; stored as they are they still fit into one member.
const BGZF_BLOCK: usize = 0xff00;

/// The member that says "the end", from the specification.
const BGZF_END: [u8; 28] =
    [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 6, 0, b'B', b'C', 2, 0, 0x1b, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The member's header up to the size.
const BGZF_HEADER: [u8; 16] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 6, 0, b'B', b'C', 2, 0];

/// Header with size, then CRC and length.
const BGZF_AROUND: usize = BGZF_HEADER.len() + 2 + 8;

impl<W: Write> BgzfEncoder<W> {
    fn new(sink: W, level: u32) -> BgzfEncoder<W> {
        BgzfEncoder { sink, level, block: Vec::with_capacity(BGZF_BLOCK) }
    }

    fn write_block(&mut self) -> io::Result<()> {
        let mut deflated = self.deflate(self.level)?;
        if deflated.len() + BGZF_AROUND > usize::from(u16::MAX) + 1 {
            deflated = self.deflate(0)?;
        }
        let size = u16::try_from(deflated.len() + BGZF_AROUND - 1).map_err(io::Error::other)?;
        let mut crc = flate2::Crc::new();
        crc.update(&self.block);
        self.sink.write_all(&BGZF_HEADER)?;
        self.sink.write_all(&size.to_le_bytes())?;
        self.sink.write_all(&deflated)?;
        self.sink.write_all(&crc.sum().to_le_bytes())?;
        self.sink.write_all(&crc.amount().to_le_bytes())?;
        self.block.clear();
        Ok(())
    }

    fn deflate(&self, level: u32) -> io::Result<Vec<u8>> {
        let mut encoder = DeflateEncoder::new(Vec::new(), flate2::Compression::new(level));
        encoder.write_all(&self.block)?;
        encoder.finish()
    }

    fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() {
            self.write_block()?;
        }
        self.sink.write_all(&BGZF_END)?;
        Ok(self.sink)
    }
}

impl<W: Write> Write for BgzfEncoder<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = buffer.len().min(BGZF_BLOCK - self.block.len());
        self.block.extend_from_slice(&buffer[..count]);
        if self.block.len() == BGZF_BLOCK {
            self.write_block()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_noise_and_of_zeros_are_gzip_with_right_sizes() {
        // A generator is enough noise to be larger compressed than plain.
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let mut content: Vec<u8> = (0..BGZF_BLOCK * 2 + 7).map(|_| noise()).collect();
        content.extend(std::iter::repeat_n(0, BGZF_BLOCK));
        let mut encoder = BgzfEncoder::new(Vec::new(), 6);
        encoder.write_all(&content).unwrap();
        let bytes = encoder.finish().unwrap();

        let mut decoded = Vec::new();
        io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(bytes.as_slice()), &mut decoded).unwrap();
        assert!(decoded == content);
        let (mut start, mut members) = (0, 0);
        while start < bytes.len() {
            assert_eq!(bytes[start..start + 16], BGZF_HEADER);
            start += usize::from(u16::from_le_bytes([bytes[start + 16], bytes[start + 17]])) + 1;
            members += 1;
        }
        assert_eq!((start, members), (bytes.len(), 5));
        assert!(bytes.ends_with(&BGZF_END));
    }
}
