//! Which files are formatted.

use std::path::{Component, Path, PathBuf};

use super::FmtError;

/// How the names of HCL2 templates and variable files end; in a directory they are taken in this order.
const ENDINGS: [&str; 3] = [".pkr.hcl", ".pkrvars.hcl", ".kiln.hcl"];

/// A file itself, or the files of a directory, with `recursive` also those below it. Names are as typed.
pub(super) fn find(path: &Path, recursive: bool) -> Result<Vec<PathBuf>, FmtError> {
    let metadata = std::fs::metadata(path).map_err(|error| FmtError::Read(path.to_owned(), error))?;
    if metadata.is_dir() {
        let mut found = Vec::new();
        list(path, recursive, &mut found)?;
        return Ok(found);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if ending(&name).is_none() {
        return Err(FmtError::OtherKind(path.to_owned()));
    }
    Ok(vec![path.to_owned()])
}

/// Adds the files of a directory by kind and name, then those of its directories. A link to a directory is not followed: it
/// may lead up again.
fn list(directory: &Path, recursive: bool, found: &mut Vec<PathBuf>) -> Result<(), FmtError> {
    let failed = |error| FmtError::List(directory.to_owned(), error);
    let (mut files, mut below) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if is_passed_over(&name.to_string_lossy()) {
            continue;
        }
        let path = clean(&directory.join(&name));
        if entry.file_type().map_err(failed)?.is_dir() {
            below.push(path);
        } else if let Some(kind) = ending(&name.to_string_lossy())
            && !path.is_dir()
        {
            files.push((kind, path));
        }
    }
    files.sort();
    found.extend(files.into_iter().map(|(_, path)| path));
    if recursive {
        below.sort();
        for directory in below {
            list(&directory, recursive, found)?;
        }
    }
    Ok(())
}

/// The index of its ending among [`ENDINGS`].
fn ending(name: &str) -> Option<usize> {
    ENDINGS.iter().position(|ending| name.ends_with(ending))
}

/// Hidden files, and what editors leave behind: `x~`, `#x#`.
fn is_passed_over(name: &str) -> bool {
    name.starts_with('.') || name.ends_with('~') || (name.starts_with('#') && name.ends_with('#'))
}

/// Without `.` and, where a name stands before it, without `..`.
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(cleaned.components().next_back(), Some(Component::Normal(_))) => {
                cleaned.pop();
            }
            other => cleaned.push(other),
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test is meant to panic")]

    use super::*;

    #[test]
    fn names_are_cleaned_as_far_as_that_can_be_done_without_looking() {
        for (typed, cleaned) in [
            ("./a", "a"),
            ("a/./b", "a/b"),
            ("a/../b", "b"),
            ("../a", "../a"),
            ("../../a", "../../a"),
            ("/a/../b", "/b"),
        ] {
            assert_eq!(clean(Path::new(typed)), Path::new(cleaned));
        }
    }

    #[test]
    fn hidden_files_and_backups_are_passed_over() {
        for name in [".a.pkr.hcl", "a.pkr.hcl~", "#a.pkr.hcl#"] {
            assert!(is_passed_over(name), "{name}");
        }
        assert!(!is_passed_over("#a.pkr.hcl"));
    }
}
