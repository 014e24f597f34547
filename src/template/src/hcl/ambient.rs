//! What a template may know of its surroundings: `git.*` of the repository it lies in, `host.*` of the machine that kiln
//! runs on.
//!
//! The facts of `git` are found out by the `git` program, each when it is first asked for. Templates that ask for none do
//! not need the program.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use kiln_core::{Diagnostic, Origin, ProcessEnvironment, Span};
use kiln_language::syntax::Name;
use kiln_language::value::{Type, Value};

use crate::load::Host;

/// How long `git` may take over one fact.
const PATIENCE: Duration = Duration::from_secs(20);

/// How much is kept of what `git` says.
const LONGEST_ANSWER: u64 = 64 * 1024;

/// How many changed files are named.
const CHANGES_SHOWN: usize = 3;

/// Longest slug: what a DNS label takes, and what GitLab cuts at.
const LONGEST_SLUG: usize = 63;

/// The names of `git.*`.
pub const FACTS: [&str; 8] = ["branch", "branch_slug", "commit", "describe", "dirty", "short", "tag", "url"];

/// The repository that holds the template.
#[derive(Debug)]
pub(crate) struct Git {
    directory: PathBuf,
    environment: ProcessEnvironment,
    /// What was found out, in the order of [`FACTS`].
    facts: [OnceLock<Result<Value, GitError>>; FACTS.len()],
    whole: OnceLock<Result<Value, GitError>>,
    /// Why the work tree is not clean, where it is not.
    unclean: OnceLock<Option<String>>,
}

/// Why a fact of `git` cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum GitError {
    #[error("there is no program `git`")]
    NoProgram,
    #[error("`git` cannot be started: {0}")]
    Start(String),
    #[error("`{}` is not in a git repository", .0.display())]
    NoRepository(PathBuf),
    #[error("the repository of `{}` belongs to another user, so git does not read it", .0.display())]
    Foreign(PathBuf),
    #[error("the repository has no commit yet")]
    NoCommit,
    #[error("`git {command}` did not answer within {} seconds", PATIENCE.as_secs())]
    Slow { command: String },
    #[error("`git {command}` fails: {message}")]
    Failed { command: String, message: String },
}

impl GitError {
    fn help(&self) -> &'static str {
        match self {
            GitError::NoProgram | GitError::Start(_) => {
                "install git, or give a value for where there is none: `try(git.short, \"none\")`"
            }
            GitError::Foreign(_) => {
                "allow it with `git config --global --add safe.directory DIRECTORY`, as for every use of git there"
            }
            _ => "a value for where there is none: `try(git.short, \"none\")`",
        }
    }
}

/// An answer of `git`: its exit code and what it printed.
struct Answer {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Git {
    /// Of the repository around a directory. Looks at nothing yet.
    pub(crate) fn new(directory: PathBuf, environment: ProcessEnvironment) -> Git {
        Git { directory, environment, facts: Default::default(), whole: OnceLock::new(), unclean: OnceLock::new() }
    }

    /// `git.name`.
    pub(crate) fn fact(&self, name: &Name) -> Result<&Value, Box<Diagnostic>> {
        let Some(index) = FACTS.iter().position(|fact| *fact == name.text) else {
            let title = format!("`git` has no attribute `{}`", name.text);
            let diagnostic = Diagnostic::error("unknown-attribute", name.span, title);
            return Err(Box::new(diagnostic.did_you_mean(name.span, &name.text, FACTS)));
        };
        self.find(index).map_err(|error| Box::new(problem(&format!("git.{}", name.text), name.span, error)))
    }

    /// `git` as a whole.
    pub(crate) fn whole(&self) -> Option<&Value> {
        self.all().ok()
    }

    /// Why there is no `git`.
    pub(crate) fn why_not(&self, span: Span) -> Option<Diagnostic> {
        self.all().err().map(|error| problem("git", span, error))
    }

    /// What of it goes into images; nothing outside of a repository.
    fn origin(&self) -> Origin {
        // Without a commit there is nothing else to tell.
        let Ok(revision) = self.line(&["rev-parse", "--verify", "HEAD"]) else { return Origin::default() };
        let (source, version) = (self.url().ok().flatten(), self.tag().ok().flatten());
        Origin { revision: Some(revision), source, version }
    }

    /// Why the whole work tree is not known to be as its commit has it; `None` where it is. What git ignores does not count,
    /// what it does not know yet does: it may become part of an image.
    pub(crate) fn why_unclean(&self) -> Option<String> {
        let found = || {
            let arguments = ["status", "--porcelain", "--untracked-files=normal", "--ignore-submodules=none"];
            match self.line(&["rev-parse", "--verify", "HEAD"]).and_then(|_| self.line(&arguments)) {
                Ok(changes) => (!changes.is_empty()).then(|| told(&changes)),
                Err(error) => Some(format!("that cannot be told: {error}")),
            }
        };
        self.unclean.get_or_init(found).clone()
    }

    fn all(&self) -> Result<&Value, &GitError> {
        let found = || {
            let facts = FACTS.iter().enumerate().map(|(index, name)| Ok((*name, self.find(index)?.clone())));
            facts.collect::<Result<Vec<_>, &GitError>>().map(Value::object).map_err(GitError::clone)
        };
        self.whole.get_or_init(found).as_ref()
    }

    fn find(&self, index: usize) -> Result<&Value, &GitError> {
        let found = || match FACTS[index] {
            "branch" => self.branch().map(text_or_null),
            "branch_slug" => self.branch().map(|branch| text_or_null(branch.map(|branch| slug(&branch)))),
            "commit" => self.line(&["rev-parse", "--verify", "HEAD"]).map(Value::string),
            "describe" => self.line(&["describe", "--tags", "--always", "--dirty"]).map(Value::string),
            // As `describe` sees it: what git does not track changes no commit. Without a commit nothing can be changed.
            "dirty" => self
                .line(&["rev-parse", "--verify", "HEAD"])
                .and_then(|_| self.line(&["status", "--porcelain", "--untracked-files=no"]))
                .map(|text| Value::bool(!text.is_empty())),
            "short" => self.line(&["rev-parse", "--short", "HEAD"]).map(Value::string),
            "tag" => self.tag().map(text_or_null),
            _ => self.url().map(text_or_null),
        };
        self.facts[index].get_or_init(found).as_ref()
    }

    /// The branch that is checked out; in CI, which checks out commits, the branch it says it builds.
    fn branch(&self) -> Result<Option<String>, GitError> {
        let answer = self.ask(&["symbolic-ref", "--quiet", "--short", "HEAD"])?;
        match answer.code {
            Some(0) => Ok(Some(answer.stdout)),
            Some(1) => Ok(self.branch_of_ci()),
            _ => Err(self.failure(&["symbolic-ref"], &answer)),
        }
    }

    fn branch_of_ci(&self) -> Option<String> {
        let names = ["CI_COMMIT_BRANCH", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "GITHUB_HEAD_REF"];
        let github = (self.variable("GITHUB_REF_TYPE") != Some("tag")).then_some("GITHUB_REF_NAME");
        let others = ["BITBUCKET_BRANCH", "CIRCLE_BRANCH", "BUILDKITE_BRANCH", "BRANCH_NAME"];
        let mut names = names.into_iter().chain(github).chain(others);
        names.find_map(|name| self.variable(name)).map(str::to_owned)
    }

    /// A tag of the commit: the one that CI builds, else the highest version.
    fn tag(&self) -> Result<Option<String>, GitError> {
        let tags = self.line(&["tag", "--points-at", "HEAD", "--sort=-version:refname"])?;
        let github = (self.variable("GITHUB_REF_TYPE") == Some("tag")).then(|| self.variable("GITHUB_REF_NAME"));
        // A clone without tags is usual in CI.
        let of_ci = self.variable("CI_COMMIT_TAG").or_else(|| github.flatten());
        Ok(of_ci.or_else(|| tags.lines().next()).map(str::to_owned))
    }

    /// Where the repository comes from: `origin`, or else the first remote.
    fn url(&self) -> Result<Option<String>, GitError> {
        let remotes = self.line(&["remote"])?;
        let remote = remotes.lines().find(|name| *name == "origin").or_else(|| remotes.lines().next());
        let Some(remote) = remote else { return Ok(None) };
        self.line(&["remote", "get-url", "--", remote]).map(|url| Some(without_credentials(&url)))
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).filter(|value| !value.is_empty())
    }

    /// What `git` prints, which must succeed.
    fn line(&self, arguments: &[&str]) -> Result<String, GitError> {
        let answer = self.ask(arguments)?;
        if answer.code == Some(0) { Ok(answer.stdout) } else { Err(self.failure(arguments, &answer)) }
    }

    fn failure(&self, arguments: &[&str], answer: &Answer) -> GitError {
        let said = answer.stderr.as_str();
        if said.contains("not a git repository") {
            return GitError::NoRepository(self.directory.clone());
        }
        if said.contains("dubious ownership") {
            return GitError::Foreign(self.directory.clone());
        }
        let no_commit = [
            "Needed a single revision",
            "unknown revision",
            "malformed object name",
            "valid object name",
            "bad revision",
        ];
        if no_commit.iter().any(|text| said.contains(text)) {
            return GitError::NoCommit;
        }
        let message = said.lines().next().unwrap_or("it says nothing").trim_start_matches("fatal: ").to_owned();
        GitError::Failed { command: arguments.join(" "), message }
    }

    fn ask(&self, arguments: &[&str]) -> Result<Answer, GitError> {
        let answer = answer(&mut self.command(arguments), Instant::now() + PATIENCE)?;
        answer.ok_or_else(|| GitError::Slow { command: arguments.join(" ") })
    }

    /// Asks nobody, pages nothing, fetches nothing, writes nothing and runs no hook.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            .args(["--no-pager", "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"])
            .args(arguments)
            .current_dir(&self.directory)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (OsStr::new(name), OsStr::new(value))))
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// Where a template comes from whose directory is this; nothing outside of a repository, or where git does not answer. Waits for
/// `git`.
pub fn origin(directory: &Path, environment: &ProcessEnvironment) -> Origin {
    if !directory.ancestors().any(|parent| parent.join(".git").exists()) {
        return Origin::default();
    }
    Git::new(directory.to_path_buf(), environment.clone()).origin()
}

/// Starts `git` and waits for what it says; `None` where that takes too long.
fn answer(command: &mut Command, deadline: Instant) -> Result<Option<Answer>, GitError> {
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => GitError::NoProgram,
        _ => GitError::Start(error.to_string()),
    })?;
    let answer = wait(&mut child, deadline);
    if answer.is_none() {
        // It may have ended by now; either way it is reaped.
        let _ = child.kill();
        let _ = child.wait();
    }
    Ok(answer)
}

/// The exit code of a call of `git`, and what it printed on both outputs; why it has none otherwise.
pub(crate) fn told_by(command: &mut Command, deadline: Instant) -> Result<(Option<i32>, String, String), String> {
    match answer(command, deadline) {
        Ok(Some(Answer { code, stdout, stderr })) => Ok((code, stdout, stderr)),
        Ok(None) => Err("it did not answer in time".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The end of a process and what it printed; `None` where that takes too long.
fn wait(child: &mut Child, deadline: Instant) -> Option<Answer> {
    let stdout = child.stdout.take().map(read_apart);
    let stderr = child.stderr.take().map(read_apart);
    let text = |reader: Option<Receiver<String>>| match reader?.recv_timeout(left(deadline)) {
        Ok(text) => Some(text),
        Err(RecvTimeoutError::Disconnected) => Some(String::new()),
        Err(RecvTimeoutError::Timeout) => None,
    };
    let (stdout, stderr) = (text(stdout)?, text(stderr)?);
    loop {
        // Both its outputs are closed, so this takes no time to speak of.
        if let Ok(Some(status)) = child.try_wait() {
            return Some(Answer { code: status.code(), stdout, stderr });
        }
        if left(deadline).is_zero() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Reads on a thread of its own: a full pipe must not stop the process.
fn read_apart(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.by_ref().take(LONGEST_ANSWER).read_to_end(&mut bytes);
        // A pipe closed too early would end the process.
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        // Nobody listens any more where it took too long.
        let _ = sender.send(String::from_utf8_lossy(&bytes).trim_end().to_owned());
    });
    receiver
}

fn problem(what: &str, span: Span, error: &GitError) -> Diagnostic {
    Diagnostic::error("no-git", span, format!("`{what}` cannot be told: {error}")).help(error.help())
}

/// A few lines of `git status --porcelain`, for people.
fn told(changes: &str) -> String {
    let told = changes.lines().take(CHANGES_SHOWN).filter_map(|line| {
        // Two letters for the index and the work tree; the first may be a space.
        let (state, path) = line.trim_start().split_once(' ')?;
        let path = path.trim_start().trim_matches('"');
        Some(if state == "??" { format!("`{path}` is not tracked") } else { format!("`{path}` is changed") })
    });
    let mut told: Vec<String> = told.collect();
    let more = changes.lines().count().saturating_sub(CHANGES_SHOWN);
    told.extend((more > 0).then(|| format!("and {more} more")));
    told.join(", ")
}

fn text_or_null(text: Option<String>) -> Value {
    text.map_or_else(|| Value::null_of(Type::String), Value::string)
}

/// A branch's name as a host name or an image's tag may hold it: what GitLab calls `CI_COMMIT_REF_SLUG`.
fn slug(branch: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_lowercase() || letter.is_ascii_digit() { letter } else { '-' };
    let slug: String = branch.to_lowercase().chars().map(plain).take(LONGEST_SLUG).collect();
    slug.trim_matches('-').to_owned()
}

/// A remote's address without user, password and query of a web address; of others, which need their user, without the
/// password.
pub(crate) fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let is_web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let path = if is_web { path.split(['?', '#']).next().unwrap_or_default() } else { path };
    match user {
        Some(user) if !is_web => {
            let name = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{name}@{host}{path}")
        }
        _ => format!("{scheme}://{host}{path}"),
    }
}

/// `host`.
pub(crate) fn host_value(host: &Host) -> Value {
    Value::object([
        ("arch", Value::string(go_arch(std::env::consts::ARCH))),
        ("cpus", Value::number(host.cpus as u64)),
        ("gid", Value::number(u64::from(host.gid))),
        ("os", Value::string(go_os(std::env::consts::OS))),
        ("uid", Value::number(u64::from(host.uid))),
    ])
}

/// Names of systems as images and Go have them.
fn go_os(os: &str) -> &str {
    if os == "macos" { "darwin" } else { os }
}

/// Names of architectures as images and Go have them.
fn go_arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        _ => arch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_those_of_gitlab() {
        assert_eq!(slug("main"), "main");
        assert_eq!(slug("Feature/ABC-123_x"), "feature-abc-123-x");
        assert_eq!(slug("--a..b--"), "a--b");
        assert_eq!(slug("größe"), "gr--e");
        assert_eq!(slug(&format!("{}-b", "a".repeat(62))), "a".repeat(62));
        assert_eq!(slug(&"a".repeat(100)).len(), 63);
    }

    #[test]
    fn addresses_lose_what_lets_in() {
        for (url, shown) in [
            ("https://user:token@git.example.org/a/b.git", "https://git.example.org/a/b.git"),
            ("https://token@git.example.org:8443/a?private_token=x#y", "https://git.example.org:8443/a"),
            ("HTTPS://a:b@c@git.example.org", "HTTPS://git.example.org"),
            ("https://git.example.org/a@b", "https://git.example.org/a@b"),
            ("ssh://git:secret@git.example.org:22/a", "ssh://git@git.example.org:22/a"),
            ("ssh://git@git.example.org/a", "ssh://git@git.example.org/a"),
            ("git@git.example.org:a/b.git", "git@git.example.org:a/b.git"),
            ("/srv/git/a.git", "/srv/git/a.git"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }
}
