//! Where uploads and downloads land: rsync's rule of the trailing slash, once for all transports.

use std::path::{Path, PathBuf};

/// The base name of a path of this host; `upload` for one that has none (`/`, `..`).
pub fn base_name(path: &Path) -> String {
    // `dir/.` and `dir/..` name other directories than they spell.
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    name.or_else(|| path.canonicalize().ok()?.file_name().map(|name| name.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "upload".to_owned())
}

/// Joins a machine's directory and a name.
pub fn join(directory: &str, name: &str) -> String {
    format!("{}/{name}", directory.trim_end_matches('/'))
}

/// Where a downloaded directory's content goes: `to` itself when `from` ends with a slash, else `to/BASENAME`. A base
/// name that would lead elsewhere (`..`) counts as none.
pub fn downloaded_directory(from: &str, to: &Path) -> PathBuf {
    let name = from.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if from.ends_with('/') || matches!(name, "" | "." | "..") { to.to_path_buf() } else { to.join(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailing_slash_means_the_content() {
        let to = Path::new("out");
        assert_eq!(downloaded_directory("/srv/app", to), Path::new("out/app"));
        assert_eq!(downloaded_directory("/srv/app/", to), Path::new("out"));
        assert_eq!(downloaded_directory("/srv/..", to), Path::new("out"));
        assert_eq!(join("/srv/", "x"), "/srv/x");
        assert_eq!(join("/", "x"), "/x");
    }
}
