//! Images of an engine, taken over into a layout of this host.

use std::path::Path;

use kiln_image::{Digest, ImageError, Layout, archive};

use crate::engine::Engine;
use crate::error::EngineError;

/// Why an image could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// The engine does not hand it out.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What it handed out is no image, or the layout cannot be written.
    #[error("cannot take the image {id} over from the engine")]
    Image {
        /// The image.
        id: String,
        /// Why.
        source: ImageError,
    },
    /// The archive held nothing.
    #[error("the engine's archive of {id} is empty")]
    Empty {
        /// The image.
        id: String,
    },
    /// A thread ended early.
    #[error("the thread that took an image over ended early")]
    Worker(#[from] tokio::task::JoinError),
}

/// Brings an image of an engine into a layout, its layers as plain tars, and gives the digest of its manifest. `archive`
/// is a file that is made for it and is gone afterwards.
///
/// # Errors
/// As [`TakeOverError`] says.
pub async fn take_over(
    engine: &dyn Engine,
    id: &str,
    layout: &Layout,
    archive: &Path,
) -> Result<Digest, TakeOverError> {
    let saved = engine.save(&[id.to_owned()], archive).await;
    let imported = match saved {
        Ok(()) => {
            let (layout, path) = (layout.clone(), archive.to_path_buf());
            tokio::task::spawn_blocking(move || {
                let file = std::fs::File::open(&path).map_err(ImageError::io("read", &path))?;
                archive::import_archive(file, &layout)
            })
            .await
            .map_err(TakeOverError::Worker)
        }
        Err(error) => Err(error.into()),
    };
    let _ = tokio::fs::remove_file(archive).await;
    let imported = imported?.map_err(|source| TakeOverError::Image { id: id.to_owned(), source })?;
    let first = imported.into_iter().next().map(|imported| imported.digest);
    first.ok_or_else(|| TakeOverError::Empty { id: id.to_owned() })
}
