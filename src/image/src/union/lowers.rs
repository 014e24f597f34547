//! The layers below, merged as overlayfs merges them. Looked at only where the walk asks.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use super::{Below, Names, open_directory, open_root};
use crate::error::ImageError;
use crate::pack::{Attributes, Meta, failed, overlay_prefix};

/// Unpacked layers, the top one first.
pub(crate) struct Lowers {
    roots: Vec<OwnedFd>,
    overlay: &'static [u8],
    levels: Vec<Level>,
    space: Vec<u8>,
}

struct Level {
    path: Vec<u8>,
    /// The layers that make up this directory; `None` until somebody asks.
    members: Option<Vec<usize>>,
}

impl Lowers {
    pub(crate) fn open(paths: &[PathBuf], user_xattr: bool) -> Result<Lowers, ImageError> {
        let roots = paths.iter().map(|path| open_root(path)).collect::<Result<_, _>>()?;
        let space = Vec::with_capacity(32 * 1024);
        Ok(Lowers { roots, overlay: overlay_prefix(user_xattr), levels: Vec::new(), space })
    }

    /// The layers that make up the directory of a level; none: there is no directory.
    fn members(&mut self, level: usize) -> Result<Vec<usize>, ImageError> {
        if let Some(members) = &self.levels[level].members {
            return Ok(members.clone());
        }
        let above = match level.checked_sub(1) {
            Some(parent) => self.members(parent)?,
            None => (0..self.roots.len()).collect(),
        };
        let mut members = Vec::new();
        let path = &self.levels[level].path;
        for layer in above {
            let root = self.roots[layer].as_fd();
            match Meta::look(root, path).map_err(failed("read", path))? {
                None => continue,
                Some(meta) if meta.is_directory() => {}
                Some(_) => break,
            }
            members.push(layer);
            if Attributes::read(open_directory(root, path)?, self.overlay).map_err(failed("read", path))?.is_opaque {
                break;
            }
        }
        self.levels[level].members = Some(members.clone());
        Ok(members)
    }

    /// The layers of the present directory.
    fn present(&mut self) -> Result<Vec<usize>, ImageError> {
        match self.levels.len().checked_sub(1) {
            Some(level) => self.members(level),
            None => Ok((0..self.roots.len()).collect()),
        }
    }

    /// What is at a path in the present directory, and in which layer.
    fn find(&mut self, path: &[u8]) -> Result<Option<(usize, Meta)>, ImageError> {
        for layer in self.present()? {
            if let Some(meta) = Meta::look(self.roots[layer].as_fd(), path).map_err(failed("read", path))? {
                return Ok((!meta.is_whiteout()).then_some((layer, meta)));
            }
        }
        Ok(None)
    }
}

impl Below for Lowers {
    fn enter(&mut self, path: &[u8]) {
        self.levels.push(Level { path: path.to_vec(), members: None });
    }

    fn leave(&mut self) {
        self.levels.pop();
    }

    fn has(&mut self, path: &[u8]) -> Result<bool, ImageError> {
        Ok(self.find(path)?.is_some())
    }

    fn directory(&mut self, path: &[u8]) -> Result<Option<(Meta, Attributes)>, ImageError> {
        let Some((layer, meta)) = self.find(path)?.filter(|(_, meta)| meta.is_directory()) else { return Ok(None) };
        let directory = open_directory(self.roots[layer].as_fd(), path)?;
        Ok(Some((meta, Attributes::read(directory, self.overlay).map_err(failed("read", path))?)))
    }

    fn names(&mut self, names: &mut Names) -> Result<(), ImageError> {
        let Some(level) = self.levels.len().checked_sub(1) else { return Ok(()) };
        for layer in self.members(level)? {
            let path = &self.levels[level].path;
            let directory = open_directory(self.roots[layer].as_fd(), path)?;
            names.read(directory.as_fd(), super::BELOW, &mut self.space).map_err(failed("read", path))?;
        }
        Ok(())
    }

    /// An upper has only what was changed.
    fn is_same(&self, _path: &[u8], _meta: &Meta) -> bool {
        false
    }
}
