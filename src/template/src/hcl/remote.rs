//! Modules from git repositories: `git::URL//DIRECTORY?ref=REF`. Each commit is checked out once, into a directory of its own in
//! the cache, and stays as it was committed; what a branch or a tag means is asked each time.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kiln_core::ProcessEnvironment;
use kiln_core::origin::OTHER_REPOSITORY_VARIABLES;
use sha2::{Digest, Sha256};

use super::ambient::{told_by, without_credentials};

/// What a source from a repository begins with.
pub(crate) const PREFIX: &str = "git::";

/// How long one call of `git` may take: repositories may be large.
const PATIENCE: Duration = Duration::from_secs(600);

/// A directory in a repository at a ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remote {
    pub(crate) url: String,
    /// Below the repository's root; empty for that.
    pub(crate) directory: PathBuf,
    /// A commit, a tag or a branch.
    pub(crate) reference: String,
}

/// Why there is no such directory here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RemoteError {
    #[error("a module from git needs a ref: a commit, a tag or a branch")]
    NoRef,
    #[error("`{0}` has no address of a repository")]
    NoUrl(String),
    #[error("`{0}` leads out of the repository")]
    Outside(String),
    #[error("`{0}` is no ref")]
    Ref(String),
    #[error("{url} has no branch, tag or commit `{reference}`")]
    UnknownRef { url: String, reference: String },
    #[error("the repository at {commit} has no directory `{directory}`")]
    NoDirectory { commit: String, directory: String },
    #[error("there is no place to keep modules from git in")]
    NoCache,
    #[error("`git {command}` of {url} fails: {message}")]
    Git { command: String, url: String, message: String },
    #[error("cannot keep the module in {}: {message}", .path.display())]
    Io { path: PathBuf, message: String },
}

impl Remote {
    /// Reads a source that begins with [`PREFIX`].
    pub(crate) fn parse(source: &str) -> Result<Remote, RemoteError> {
        let text = source.strip_prefix(PREFIX).unwrap_or(source);
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let reference = query.split('&').find_map(|part| part.strip_prefix("ref=")).unwrap_or_default();
        // Behind `scheme://`, the next `//` ends the repository.
        let start = address.find("://").map_or(0, |scheme| scheme + 3);
        let end = address[start..].find("//").map_or(address.len(), |end| start + end);
        let (url, directory) = (&address[..end], address[end..].trim_matches('/'));
        if url.len() <= start || url.starts_with('-') {
            return Err(RemoteError::NoUrl(text.to_owned()));
        }
        if reference.is_empty() {
            return Err(RemoteError::NoRef);
        }
        if reference.starts_with('-')
            || reference.contains(|letter: char| letter.is_whitespace() || ":^~?*[\\".contains(letter))
        {
            return Err(RemoteError::Ref(reference.to_owned()));
        }
        let directory = Path::new(directory);
        if directory.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(RemoteError::Outside(directory.display().to_string()));
        }
        Ok(Remote { url: url.to_owned(), directory: directory.to_owned(), reference: reference.to_owned() })
    }

    /// The directory, fetched where it is not here yet, and the root of its repository.
    pub(crate) fn fetch(
        &self,
        cache: Option<&Path>,
        environment: &ProcessEnvironment,
    ) -> Result<(PathBuf, PathBuf), RemoteError> {
        let cache = cache.ok_or(RemoteError::NoCache)?;
        let digest = Sha256::digest(self.url.as_bytes());
        let name: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let all = cache.join(name);
        let git = Git { url: &self.url, environment };
        let commit = match is_commit(&self.reference) {
            true => self.reference.clone(),
            false => git.commit_of(&self.reference)?,
        };
        let root = all.join(&commit);
        if !root.is_dir() {
            git.check_out(&commit, &self.reference, &all, &root)?;
        }
        let failed = |error: std::io::Error| RemoteError::Io { path: root.clone(), message: error.to_string() };
        let root = root.canonicalize().map_err(failed)?;
        let directory = self.directory.display().to_string();
        match root.join(&self.directory).canonicalize() {
            // A link may lead anywhere.
            Ok(found) if !found.starts_with(&root) => Err(RemoteError::Outside(directory)),
            Ok(found) if found.is_dir() => Ok((found, root)),
            _ => Err(RemoteError::NoDirectory { commit: commit[..12].to_owned(), directory }),
        }
    }
}

/// A whole name of a commit, by SHA-1 or SHA-256.
fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

struct Git<'a> {
    url: &'a str,
    environment: &'a ProcessEnvironment,
}

impl Git<'_> {
    /// What a tag or a branch means now; of both, the tag.
    fn commit_of(&self, reference: &str) -> Result<String, RemoteError> {
        let told = self.run(None, &["ls-remote", "--", self.url, reference, &format!("{reference}^{{}}")])?;
        let commit_of = |name: &str| {
            let mut lines = told.lines().filter_map(|line| line.split_once('\t'));
            lines.find(|(_, known)| *known == name).map(|(commit, _)| commit.to_owned())
        };
        // `^{}` is the commit that a tag with a message stands for.
        let names = [
            format!("refs/tags/{reference}^{{}}"),
            format!("refs/tags/{reference}"),
            format!("refs/heads/{reference}"),
        ];
        let found = names.iter().find_map(|name| commit_of(name)).or_else(|| commit_of(reference));
        let unknown =
            || RemoteError::UnknownRef { url: without_credentials(self.url), reference: reference.to_owned() };
        found.filter(|commit| is_commit(commit)).ok_or_else(unknown)
    }

    /// Checks out a commit beside its place and moves it there, so that it is there as a whole or not at all.
    fn check_out(&self, commit: &str, reference: &str, all: &Path, root: &Path) -> Result<(), RemoteError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: std::io::Error| RemoteError::Io { path, message: error.to_string() }
        };
        // What lies here is run later: nobody else may write to it.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(all).map_err(failed(all))?;
        let unborn = tempfile::Builder::new().prefix(".new-").tempdir_in(all).map_err(failed(all))?;
        let work = unborn.path().join("tree");
        std::fs::create_dir(&work).map_err(failed(&work))?;
        self.run(Some(&work), &["init", "--quiet"])?;
        self.run(Some(&work), &["remote", "add", "origin", "--", self.url])?;
        if self.run(Some(&work), &["fetch", "--quiet", "--depth=1", "origin", commit]).is_err() {
            // Not every server hands out single commits.
            self.run(Some(&work), &["fetch", "--quiet", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*"])?;
        }
        let checked_out =
            self.run(Some(&work), &["-c", "advice.detachedHead=false", "checkout", "--quiet", commit, "--"]);
        checked_out.map_err(|_| RemoteError::UnknownRef {
            url: without_credentials(self.url),
            reference: reference.to_owned(),
        })?;
        match std::fs::rename(&work, root) {
            // Another run was faster.
            Err(_) if root.is_dir() => Ok(()),
            moved => moved.map_err(failed(root)),
        }
    }

    fn run(&self, directory: Option<&Path>, arguments: &[&str]) -> Result<String, RemoteError> {
        let verb = arguments.iter().find(|word| !word.starts_with('-') && !word.contains('=')).copied();
        let failed = |message: String| RemoteError::Git {
            command: verb.unwrap_or_default().to_owned(),
            url: without_credentials(self.url),
            message,
        };
        let mut command = Command::new("git");
        command
            .args(["--no-pager", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"])
            .args(arguments)
            .current_dir(directory.unwrap_or(Path::new("/")))
            .env_clear()
            .envs(self.environment.iter().filter(|(name, _)| !OTHER_REPOSITORY_VARIABLES.contains(name)))
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let (code, stdout, stderr) = told_by(&mut command, Instant::now() + PATIENCE).map_err(failed)?;
        if code == Some(0) {
            return Ok(stdout);
        }
        let fatal = stderr.lines().find_map(|line| line.strip_prefix("fatal: "));
        Err(failed(fatal.or_else(|| stderr.lines().next()).unwrap_or("it says nothing").to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(source: &str) -> Result<(String, String, String), RemoteError> {
        let remote = Remote::parse(source)?;
        Ok((remote.url, remote.directory.display().to_string(), remote.reference))
    }

    #[test]
    fn addresses_are_read() {
        for (source, url, directory, reference) in [
            (
                "git::https://example.org/a.git//images/worker?ref=v1",
                "https://example.org/a.git",
                "images/worker",
                "v1",
            ),
            ("git::ssh://git@example.org/a?ref=main", "ssh://git@example.org/a", "", "main"),
            ("git::git@example.org:a/b.git//x/?ref=feature/x", "git@example.org:a/b.git", "x", "feature/x"),
            ("git::file:///srv/a?depth=1&ref=0123", "file:///srv/a", "", "0123"),
        ] {
            let expected = (url.to_owned(), directory.to_owned(), reference.to_owned());
            assert_eq!(parsed(source), Ok(expected), "{source}");
        }
        assert_eq!(parsed("git::https://example.org/a"), Err(RemoteError::NoRef));
        assert_eq!(parsed("git::?ref=a"), Err(RemoteError::NoUrl("?ref=a".to_owned())));
        assert_eq!(parsed("git::--upload-pack=x?ref=a"), Err(RemoteError::NoUrl("--upload-pack=x?ref=a".to_owned())));
        assert_eq!(parsed("git::https://x/a//../b?ref=a"), Err(RemoteError::Outside("../b".to_owned())));
        assert_eq!(parsed("git::https://x/a?ref=--help"), Err(RemoteError::Ref("--help".to_owned())));
        assert_eq!(parsed("git::https://x/a?ref=a:b"), Err(RemoteError::Ref("a:b".to_owned())));
    }
}
