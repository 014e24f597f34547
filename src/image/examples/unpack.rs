//! Unpacks a layer into a fresh directory and tells how long it took: `unpack LAYER DIRECTORY`.

#![allow(clippy::print_stdout, reason = "a program for figures")]

use std::time::Instant;

use kiln_image::unpack::{TreeFormat, UnpackOptions, unpack};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(layer), Some(root)) = (arguments.next(), arguments.next()) else {
        return Err("unpack LAYER DIRECTORY".into());
    };
    std::fs::create_dir(&root)?;
    let file = std::fs::File::open(layer)?;
    let start = Instant::now();
    let options = UnpackOptions::new(TreeFormat::Overlay { user_xattr: false });
    let unpacked = unpack(file, root.as_ref(), &options)?;
    println!("{} entries, {} bytes, {:?}, {}", unpacked.entries, unpacked.bytes, start.elapsed(), unpacked.diff_id);
    Ok(())
}
