//! Where the files come from that a Dockerfile copies.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use kiln_core::{BuildContext, Failure};

/// A build's context, as the template names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A directory of this host, or a tar file: only a look at it tells.
    Path(PathBuf),
    /// A repository, a ref in it, and a directory of that.
    Git(Checkout),
}

/// A clean checkout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkout {
    pub(crate) url: String,
    pub(crate) reference: Option<String>,
    pub(crate) directory: Option<String>,
}

impl Origin {
    /// Reads the argument; a path is relative to `base`.
    pub(crate) fn parse(text: &str, base: &Path) -> Origin {
        if let Some(rest) = text.strip_prefix("git::") {
            return Origin::Git(go_getter(rest, base));
        }
        let (url, fragment) = text.split_once('#').map_or((text, None), |(url, fragment)| (url, Some(fragment)));
        let is_remote = url.contains("://") || url.starts_with("git@");
        if is_remote && (url.ends_with(".git") || fragment.is_some() || url.starts_with("git@")) {
            let (reference, directory) =
                fragment.unwrap_or_default().split_once(':').unwrap_or((fragment.unwrap_or_default(), ""));
            let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            return Origin::Git(Checkout {
                url: url.to_owned(),
                reference: given(reference),
                directory: given(directory.trim_matches('/')),
            });
        }
        Origin::Path(tidy(&base.join(text)))
    }

    /// The directory that holds it, made in the scratch space where it is none.
    pub(crate) async fn open(
        &self,
        environment: &BTreeMap<String, String>,
        context: &BuildContext,
    ) -> Result<PathBuf, Failure> {
        match self {
            Origin::Path(path) => {
                let missing = |error| {
                    Failure::build(format!("cannot read the context {}: {error}", path.display()))
                        .hint("`context` is relative to the template")
                };
                if tokio::fs::metadata(path).await.map_err(missing)?.is_dir() {
                    return Ok(path.clone());
                }
                context.events.message(format!("unpacking the context {}", path.display()));
                unpack(path.clone(), context.scratch.join("context")).await
            }
            Origin::Git(checkout) => {
                if let Some(password) = checkout.password() {
                    context.redactor.add(&password);
                }
                context.events.message(format!("checking out {}", checkout.title()));
                let root = context.scratch.join("checkout");
                let work = checkout.make(&root, environment);
                context.unless_cancelled(work).await??;
                let Some(directory) = &checkout.directory else { return Ok(root) };
                let directory = crate::git::inside(&root, directory)
                    .ok_or_else(|| Failure::build(format!("{} has no directory `{directory}`", checkout.title())))?;
                Ok(directory)
            }
        }
    }

    /// What tells this context from others, for BuildKit's comparison with what it has.
    pub(crate) fn key(&self) -> String {
        match self {
            Origin::Path(path) => {
                let path = path.canonicalize().unwrap_or_else(|_| path.clone());
                path.display().to_string()
            }
            Origin::Git(checkout) => format!("{} {}", checkout.url, checkout.directory.as_deref().unwrap_or_default()),
        }
    }
}

/// A path as people write it: without `.` in it.
pub(crate) fn tidy(path: &Path) -> PathBuf {
    let tidy: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
    if tidy.as_os_str().is_empty() { ".".into() } else { tidy }
}

/// `URL?ref=REF` with `//DIRECTORY` in it. A path is relative to `base`.
fn go_getter(text: &str, base: &Path) -> Checkout {
    let (address, query) = text.split_once('?').unwrap_or((text, ""));
    let reference = query.split('&').find_map(|pair| pair.strip_prefix("ref=")).map(str::to_owned);
    let after_scheme = address.find("://").map_or(0, |index| index + 3);
    let (url, directory) = match address[after_scheme..].find("//") {
        Some(index) => {
            let (url, directory) = address.split_at(after_scheme + index);
            (url, Some(directory.trim_matches('/').to_owned()).filter(|directory| !directory.is_empty()))
        }
        None => (address, None),
    };
    Checkout { url: located(url, base), reference: reference.filter(|text| !text.is_empty()), directory }
}

/// The address of a repository for a program that is started elsewhere.
fn located(url: &str, base: &Path) -> String {
    let path = base.join(url);
    let is_path = url.starts_with('.') || (!url.contains("://") && path.is_dir());
    if !is_path {
        return url.to_owned();
    }
    std::path::absolute(tidy(&path)).unwrap_or(path).display().to_string()
}

async fn unpack(archive: PathBuf, to: PathBuf) -> Result<PathBuf, Failure> {
    tokio::task::spawn_blocking(move || {
        let failed =
            |error: std::io::Error| Failure::build(format!("cannot unpack the context {}: {error}", archive.display()));
        let file = std::fs::File::open(&archive).map_err(failed)?;
        std::fs::create_dir_all(&to).map_err(failed)?;
        crate::archive::unpack(file, &to).map_err(failed)?;
        Ok(to)
    })
    .await
    .map_err(Failure::build)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_told_apart() {
        let git = |url: &str, reference: Option<&str>, directory: Option<&str>| {
            Origin::Git(Checkout {
                url: url.to_owned(),
                reference: reference.map(str::to_owned),
                directory: directory.map(str::to_owned),
            })
        };
        for (text, expected) in [
            (".", Origin::Path("/t".into())),
            ("./a/./b", Origin::Path("/t/a/b".into())),
            ("/abs", Origin::Path("/abs".into())),
            ("a#b", Origin::Path("/t/a#b".into())),
            ("git::https://h/r.git?ref=v1", git("https://h/r.git", Some("v1"), None)),
            ("git::https://h/r.git//sub/dir?ref=v1", git("https://h/r.git", Some("v1"), Some("sub/dir"))),
            ("git::/srv/repo", git("/srv/repo", None, None)),
            ("git::./repo//sub?ref=v1", git("/t/repo", Some("v1"), Some("sub"))),
            ("git::../repo", git("/t/../repo", None, None)),
            ("git::git@h:r.git", git("git@h:r.git", None, None)),
            ("https://h/r.git#main:docker", git("https://h/r.git", Some("main"), Some("docker"))),
            ("git@h:r.git", git("git@h:r.git", None, None)),
        ] {
            assert_eq!(Origin::parse(text, Path::new("/t")), expected, "{text}");
        }
        assert_eq!(Origin::parse(".", Path::new("")), Origin::Path(".".into()));
    }
}
