//! Clean checkouts, by the `git` program: its configuration, keys and helpers are the user's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kiln_core::Failure;
use kiln_core::origin::OTHER_REPOSITORY_VARIABLES;
use percent_encoding::percent_decode_str;
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

    /// The password in its address, as it is meant.
    pub(crate) fn password(&self) -> Option<String> {
        Login::of(&self.url).map(|(login, _)| login.password)
    }

    /// Makes it in a directory that is not there yet, with submodules. What git itself keeps there is removed: it differs from
    /// checkout to checkout.
    pub(crate) async fn make(&self, to: &Path, environment: &BTreeMap<String, String>) -> Result<(), Failure> {
        tokio::fs::create_dir_all(to).await.map_err(Failure::build)?;
        let (login, url) = match Login::of(&self.url) {
            Some((login, url)) => (Some(login), url),
            None => (None, self.url.clone()),
        };
        let given = environment.get("GIT_CONFIG_COUNT").and_then(|count| count.parse().ok()).unwrap_or(0);
        let git = Git { directory: to, login, given };
        git.run(&["init", "--quiet"]).await?;
        git.run(&["remote", "add", "origin", "--", &url]).await?;
        let wanted = self.reference.as_deref().unwrap_or("HEAD");
        if wanted.starts_with('-') {
            return Err(Failure::build(format!("`{wanted}` is no ref")));
        }
        let shallow = git.run(&["fetch", "--quiet", "--depth=1", "origin", wanted]).await;
        let found = match shallow {
            Ok(()) => "FETCH_HEAD",
            // Short hashes, and servers that hand out no single commits.
            Err(first) => {
                let all = ["fetch", "--quiet", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*"];
                git.run(&all).await.map_err(|_| first)?;
                wanted
            }
        };
        git.run(&["-c", "advice.detachedHead=false", "checkout", "--quiet", found, "--"]).await?;
        if tokio::fs::try_exists(to.join(".gitmodules")).await.unwrap_or(false) {
            git.run(&["submodule", "--quiet", "update", "--init", "--recursive"]).await?;
        }
        tokio::fs::remove_dir_all(to.join(".git")).await.map_err(Failure::build)
    }
}

/// The program, in a directory.
struct Git<'a> {
    directory: &'a Path,
    login: Option<Login>,
    /// How much configuration the environment gives it already.
    given: u32,
}

impl Git<'_> {
    async fn run(&self, arguments: &[&str]) -> Result<(), Failure> {
        let cannot = |error| Failure::environment(format!("cannot start `git`, which contexts from git need: {error}"));
        let output = self.command(arguments).output().await.map_err(cannot)?;
        if output.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr);
        let verb =
            arguments.iter().find(|word| !word.starts_with('-') && !word.contains('=')).copied().unwrap_or_default();
        Err(Failure::build(format!("`git {verb}` failed: {}", words.trim())))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(self.directory).env("GIT_TERMINAL_PROMPT", "0");
        command.stdin(Stdio::null()).kill_on_drop(true);
        for name in OTHER_REPOSITORY_VARIABLES {
            command.env_remove(name);
        }
        if let Some(login) = &self.login {
            // Everybody of this host may read command lines.
            let given = self.given;
            command.env("GIT_CONFIG_COUNT", (given + 1).to_string());
            command.env(format!("GIT_CONFIG_KEY_{given}"), format!("http.{}.extraHeader", login.server));
            command.env(format!("GIT_CONFIG_VALUE_{given}"), login.header());
        }
        command
    }
}

/// A user and a password that stand in an address.
struct Login {
    /// What they are for: `https://host:port/`.
    server: String,
    user: String,
    password: String,
}

impl Login {
    /// The login in an address of HTTP, and the address without it.
    fn of(url: &str) -> Option<(Login, String)> {
        let (scheme, rest) = url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (login, host) = authority.rsplit_once('@')?;
        let (user, password) = login.split_once(':').filter(|(_, password)| !password.is_empty())?;
        let meant = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let login = Login { server: format!("{scheme}://{host}/"), user: meant(user), password: meant(password) };
        Some((login, format!("{scheme}://{host}{path}")))
    }

    fn header(&self) -> String {
        format!("Authorization: Basic {}", STANDARD.encode(format!("{}:{}", self.user, self.password)))
    }
}

/// A directory of a checkout, where it is there and in there.
pub(crate) fn inside(root: &Path, directory: &str) -> Option<PathBuf> {
    let root = root.canonicalize().ok()?;
    let found = root.join(directory).canonicalize().ok()?;
    (found.starts_with(&root) && found.is_dir()).then_some(found)
}

fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((login, host)) if login.contains(':') => format!("{scheme}://***@{host}{path}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkout(url: &str) -> Checkout {
        Checkout { url: url.to_owned(), reference: None, directory: None }
    }

    #[test]
    fn passwords_of_addresses_are_shown_nowhere() {
        let checkout = checkout("https://ci:pa%40ss@git.example.org:8443/group/app.git");
        assert_eq!(checkout.title(), "https://***@git.example.org:8443/group/app.git");
        assert_eq!(checkout.password().as_deref(), Some("pa@ss"));
        let (login, url) = Login::of(&checkout.url).unwrap();
        assert_eq!(url, "https://git.example.org:8443/group/app.git");
        let git = Git { directory: Path::new("/"), login: Some(login), given: 2 };
        let command = git.command(&["fetch", "origin"]);
        let said: Vec<_> = command.as_std().get_args().collect();
        assert_eq!(said, ["fetch", "origin"]);
        let environment = format!("{:?}", command.as_std().get_envs().collect::<Vec<_>>());
        assert!(environment.contains("\"GIT_CONFIG_COUNT\", Some(\"3\")"), "{environment}");
        assert!(
            environment.contains("\"GIT_CONFIG_KEY_2\", Some(\"http.https://git.example.org:8443/.extraHeader\")"),
            "{environment}"
        );
        assert!(environment.contains("Authorization: Basic Y2k6cGFAc3M="), "{environment}");
    }

    #[test]
    fn addresses_without_a_password_stay_as_they_are() {
        for url in
            ["https://git@host/a.git", "git@host:a.git", "ssh://git:x@host/a", "/srv/a@b:c", "https://host/a@b:c/d"]
        {
            assert!(Login::of(url).is_none(), "{url}");
        }
        assert_eq!(checkout("https://host/a@b:c/d").title(), "https://host/a@b:c/d");
        assert_eq!(checkout("ssh://git:x@host/a").title(), "ssh://***@host/a");
    }
}
