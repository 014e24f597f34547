//! Packs a directory as a layer and tells its digests and what that took: `pack DIRECTORY [COMPRESSION [OUTPUT]]`.

use std::error::Error;
use std::fs::File;
use std::io::{Write, sink};
use std::time::Instant;

use kiln_image::{Compression, LayerWriter, PackOptions, pack};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("pack DIRECTORY [COMPRESSION [OUTPUT]]")?;
    let compression: Compression = arguments.next().as_deref().unwrap_or("gzip").parse()?;
    let output: Box<dyn Write> = match arguments.next() {
        Some(path) => Box::new(File::create(path)?),
        None => Box::new(sink()),
    };
    let options = PackOptions { uppers: vec![directory.into()], ..PackOptions::default() };
    let start = Instant::now();
    let mut writer = LayerWriter::new(output, compression);
    let packed = pack(&options, &mut writer)?;
    let (_, digests) = writer.finish()?;
    let took = start.elapsed();
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{} entries, {} bytes of files, {} bytes of tar",
        packed.entries, packed.bytes, digests.uncompressed
    )?;
    writeln!(out, "{} bytes of {compression} in {} ms", digests.size, took.as_millis())?;
    writeln!(out, "digest {}\ndiff id {}", digests.digest, digests.diff_id)?;
    Ok(())
}
