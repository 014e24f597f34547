//! Container images as files: digests, OCI layouts, docker archives, layers.
//!
//! Owns: what an image is on disk, how a layer is packed from a tree and unpacked into one, compression. Must not know: any
//! registry, engine, sandbox or template. Everything here blocks; callers run it on threads for that.

pub mod archive;
pub mod changes;
pub mod compress;
pub mod config;
pub mod digest;
pub mod error;
pub mod image;
pub mod index;
pub mod layout;
pub mod media;
pub mod names;
pub mod pack;
pub mod recompress;
pub mod rootfs;
pub mod tree;
pub mod undo;
mod union;
pub mod unpack;

pub use compress::{Compression, LayerDigests, LayerWriter};
pub use config::ImageConfig;
pub use digest::Digest;
pub use error::ImageError;
pub use image::Image;
pub use kiln_core::Platform;
pub use layout::{BlobWriter, Layout};
pub use media::{LayerCompression, ManifestFormat};
pub use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
pub use pack::{PackOptions, PackSettings, Packed, pack, pack_difference};
pub use rootfs::Rootfs;
pub use tree::TreeManifest;
