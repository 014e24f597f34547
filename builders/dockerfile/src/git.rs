//! Clean checkouts, by the `git` program: its configuration, keys and helpers are the user's.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use kiln_core::Failure;
use tokio::process::Command;

use crate::context::Checkout;

impl Checkout {
    pub(crate) fn title(&self) -> String {
        let url = without_password(&self.url);
        match &self.reference {
            Some(reference) => format!("{url} at {reference}"),
            None => url,
        }
    }

    /// Makes it in a directory that is not there yet, with submodules.
    pub(crate) async fn make(&self, to: &Path) -> Result<(), Failure> {
        tokio::fs::create_dir_all(to).await.map_err(Failure::build)?;
        git(to, &["init", "--quiet"]).await?;
        git(to, &["remote", "add", "origin", "--", &self.url]).await?;
        let wanted = self.reference.as_deref().unwrap_or("HEAD");
        if wanted.starts_with('-') {
            return Err(Failure::build(format!("`{wanted}` is no ref")));
        }
        let shallow = git(to, &["fetch", "--quiet", "--depth=1", "origin", wanted]).await;
        let found = match shallow {
            Ok(()) => "FETCH_HEAD",
            // Short hashes, and servers that hand out no single commits.
            Err(first) => {
                let all = ["fetch", "--quiet", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*"];
                git(to, &all).await.map_err(|_| first)?;
                wanted
            }
        };
        git(to, &["-c", "advice.detachedHead=false", "checkout", "--quiet", found, "--"]).await?;
        if tokio::fs::try_exists(to.join(".gitmodules")).await.unwrap_or(false) {
            git(to, &["submodule", "--quiet", "update", "--init", "--recursive"]).await?;
        }
        Ok(())
    }
}

async fn git(directory: &Path, arguments: &[&str]) -> Result<(), Failure> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(directory)
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| Failure::environment(format!("cannot start `git`, which contexts from git need: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let verb = arguments.iter().find(|word| !word.starts_with('-') && !word.contains('=')).copied().unwrap_or_default();
    Err(Failure::build(format!("`git {verb}` failed: {}", words.trim())))
}

/// A directory of a checkout, where it is there and in there.
pub(crate) fn inside(root: &Path, directory: &str) -> Option<PathBuf> {
    let root = root.canonicalize().ok()?;
    let found = root.join(directory).canonicalize().ok()?;
    (found.starts_with(&root) && found.is_dir()).then_some(found)
}

fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.split_once('@') {
        Some((login, host)) if login.contains(':') => format!("{scheme}://***@{host}"),
        _ => url.to_owned(),
    }
}
