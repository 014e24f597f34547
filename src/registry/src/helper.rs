//! Docker's credential helpers: `docker-credential-NAME get`, the server on standard input, JSON on standard output.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use kiln_core::Secret;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::credentials::{CredentialError, Credentials};
use crate::reference::DOCKER_HUB;

/// How long a helper may take; one that asks for a passphrase without a terminal would wait for ever.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// How much of a helper's output is read, in bytes.
const LONGEST_OUTPUT: u64 = 256 * 1024;

/// The user that stands for "this is an identity token".
const TOKEN_USER: &str = "<token>";

/// Docker Hub's key in every helper's store.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// Which helper is asked for what.
pub(crate) struct Call<'a> {
    /// `pass`.
    pub(crate) name: &'a str,
    /// The file that names it, for errors.
    pub(crate) named_in: &'a str,
    /// The registry's host in its normal form.
    pub(crate) registry: &'a str,
}

/// The program behind a helper's name.
pub(crate) fn program(name: &str) -> String {
    format!("docker-credential-{name}")
}

/// Asks a helper; `None` where it has nothing for this registry. It gets the given environment and no other.
pub(crate) async fn get(
    call: &Call<'_>,
    environment: &BTreeMap<String, String>,
    timeout: Duration,
) -> Result<Option<Credentials>, CredentialError> {
    let program = program(call.name);
    let search = environment.get("PATH").map_or("", String::as_str);
    let Some(path) = find_program(&program, search).await else {
        return Err(CredentialError::HelperMissing {
            program,
            named_in: call.named_in.to_owned(),
            registry: call.registry.to_owned(),
        });
    };
    let server = if call.registry == DOCKER_HUB { DOCKER_HUB_KEY } else { call.registry };
    let child = Command::new(path)
        .arg("get")
        .env_clear()
        .envs(environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let talked = match child {
        Ok(child) => tokio::time::timeout(timeout, talk(child, server)).await,
        Err(error) => Ok(Err(error)),
    };
    match talked {
        Err(_) => Err(CredentialError::HelperTimeout {
            program,
            registry: call.registry.to_owned(),
            seconds: timeout.as_secs(),
        }),
        Ok(Err(source)) => Err(CredentialError::HelperRun { program, registry: call.registry.to_owned(), source }),
        Ok(Ok(answer)) => read_answer(&answer).map_err(|message| CredentialError::HelperFailed {
            program,
            registry: call.registry.to_owned(),
            message,
        }),
    }
}

struct Answer {
    is_success: bool,
    status: String,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

async fn talk(mut child: Child, server: &str) -> std::io::Result<Answer> {
    if let Some(mut stdin) = child.stdin.take() {
        // A helper may answer without reading; that is no failure.
        match stdin.write_all(server.as_bytes()).await {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let out = child.stdout.take();
    let err = child.stderr.take();
    let read_out = async {
        match out {
            Some(pipe) => pipe.take(LONGEST_OUTPUT).read_to_end(&mut stdout).await,
            None => Ok(0),
        }
    };
    let read_err = async {
        match err {
            Some(pipe) => pipe.take(LONGEST_OUTPUT).read_to_end(&mut stderr).await,
            None => Ok(0),
        }
    };
    tokio::try_join!(read_out, read_err)?;
    let status = child.wait().await?;
    Ok(Answer { is_success: status.success(), status: status.to_string(), stdout, stderr })
}

/// The credentials, or one line that says why there are none. Nothing of a successful answer gets into that line.
fn read_answer(answer: &Answer) -> Result<Option<Credentials>, String> {
    if !answer.is_success {
        let first = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().next().unwrap_or("").trim().to_owned();
        // The protocol has helpers write their errors to standard output.
        let words = [first(&answer.stdout), first(&answer.stderr)].into_iter().find(|line| !line.is_empty());
        return match words {
            // `credentials not found in native keychain`, in all of docker's own helpers.
            Some(line) if line.to_lowercase().contains("credentials not found") => Ok(None),
            Some(line) => Err(line),
            None => Err(answer.status.clone()),
        };
    }
    let root: Value = serde_json::from_slice(&answer.stdout).map_err(|_| "its answer is not JSON".to_owned())?;
    let text = |name: &str| root.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    let (username, secret) = (text("Username"), Secret::new(text("Secret")));
    if secret.expose().is_empty() {
        return Ok(None);
    }
    Ok(Some(if username == TOKEN_USER {
        Credentials { identity_token: Some(secret), ..Credentials::default() }
    } else {
        Credentials { username, password: secret, identity_token: None }
    }))
}

/// Looks in the directories of the given PATH; our own process may have another.
async fn find_program(program: &str, search: &str) -> Option<PathBuf> {
    for directory in search.split(':').filter(|directory| !directory.is_empty()) {
        let path = Path::new(directory).join(program);
        if tokio::fs::metadata(&path).await.is_ok_and(|metadata| metadata.is_file()) {
            return Some(path);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_helper_that_hangs_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        crate::credentials::tests::write_helper(directory.path(), "slow", "exec sleep 600");
        let path = format!("{}:/usr/bin:/bin", directory.path().display());
        let environment = BTreeMap::from([("PATH".to_owned(), path)]);
        let call = Call { name: "slow", named_in: "config.json", registry: "registry.example.org" };
        let error = get(&call, &environment, Duration::from_millis(100)).await.unwrap_err();
        assert!(matches!(error, CredentialError::HelperTimeout { .. }), "{error}");
    }
}
