//! What the process's surroundings say: environment, terminal, directories. Libraries do not look; this file does.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use kiln_core::Failure;
use kiln_template::Host;

use crate::args::{Arguments, ColorChoice, DockerAs};
use crate::aws::AwsAccess;

/// The surroundings of one run of the command.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The environment; entries that are not UTF-8 are left out.
    pub(crate) environment: BTreeMap<String, String>,
    /// Where kiln was started.
    pub(crate) working_dir: PathBuf,
    /// The user's home.
    pub(crate) home: Option<PathBuf>,
    /// Where journals live: `KILN_STATE_DIR`, `$XDG_STATE_HOME/kiln`, `~/.local/state/kiln`; without a home
    /// `$TMPDIR/kiln-state-UID`.
    pub(crate) state_dir: PathBuf,
    /// Where the step cache lies: `KILN_CACHE_DIR`, `$XDG_CACHE_HOME/kiln`, `~/.cache/kiln`; without a home
    /// `$TMPDIR/kiln-cache-UID`. Each user and id map has a store of its own in it.
    pub(crate) cache_dir: PathBuf,
    /// `KILN_CACHE_MAX_SIZE`, as it was written.
    pub(crate) cache_max_size: Option<String>,
    /// `KILN_DOCKER_AS`, as it was written.
    pub(crate) docker_as: Option<String>,
    /// Where scratch directories are made: `KILN_TMP_DIR`, `PACKER_TMP_DIR`, `TMPDIR`, `/tmp`.
    pub(crate) scratch_root: PathBuf,
    /// What templates may know of the machine.
    pub(crate) host: Host,
    /// Whether standard error may be coloured.
    pub(crate) color: bool,
    /// Whether standard error is a terminal that bars can be drawn on.
    pub(crate) interactive: bool,
    /// Whether Packer's machine-readable lines are wanted.
    pub(crate) machine_readable: bool,
    /// The way to AWS.
    pub(crate) aws: AwsAccess,
}

impl Settings {
    /// Looks at the process.
    pub(crate) fn from_process(arguments: &Arguments) -> Settings {
        let environment: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        let home = set("HOME").map(PathBuf::from);
        let state_dir = match (set("KILN_STATE_DIR"), set("XDG_STATE_HOME"), &home) {
            (Some(directory), _, _) => PathBuf::from(directory),
            (_, Some(directory), _) => PathBuf::from(directory).join("kiln"),
            (_, _, Some(home)) => home.join(".local/state/kiln"),
            // A home is missing in some containers; the name keeps users apart.
            _ => std::env::temp_dir().join(format!("kiln-state-{}", rustix::process::getuid().as_raw())),
        };
        let cache_dir = match (set("KILN_CACHE_DIR"), set("XDG_CACHE_HOME"), &home) {
            (Some(directory), _, _) => PathBuf::from(directory),
            (_, Some(directory), _) => PathBuf::from(directory).join("kiln"),
            (_, _, Some(home)) => home.join(".cache/kiln"),
            _ => std::env::temp_dir().join(format!("kiln-cache-{}", rustix::process::getuid().as_raw())),
        };
        let scratch_root = ["KILN_TMP_DIR", "PACKER_TMP_DIR"]
            .iter()
            .find_map(|name| set(name))
            .map_or_else(std::env::temp_dir, PathBuf::from);
        let terminal = std::io::stderr().is_terminal();
        let dumb = set("TERM").is_some_and(|term| term == "dumb");
        let refused = set("NO_COLOR").is_some() || set("PACKER_NO_COLOR").is_some();
        let color = match arguments.global.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !dumb && !refused,
        };
        let working_dir = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
        Settings {
            home,
            state_dir,
            cache_dir: working_dir.join(cache_dir),
            cache_max_size: set("KILN_CACHE_MAX_SIZE").cloned(),
            docker_as: set("KILN_DOCKER_AS").cloned(),
            scratch_root,
            working_dir,
            host: Host {
                uid: rustix::process::getuid().as_raw(),
                gid: rustix::process::getgid().as_raw(),
                cpus: std::thread::available_parallelism().map_or(1, usize::from),
            },
            color,
            interactive: terminal && !dumb && set("CI").is_none(),
            machine_readable: arguments.global.machine_readable,
            aws: AwsAccess::new(&environment),
            environment,
        }
    }

    /// The same, with `docker` sources run as the command line says.
    pub(crate) fn with_docker_as(&self, choice: Option<DockerAs>) -> Settings {
        let word = choice.map(|choice| match choice {
            DockerAs::Docker => "docker".to_owned(),
            DockerAs::Oci => "oci".to_owned(),
        });
        Settings { docker_as: word.or_else(|| self.docker_as.clone()), ..self.clone() }
    }

    /// Of a process without environment, home and terminal.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Settings {
        Settings {
            environment: BTreeMap::new(),
            working_dir: PathBuf::from("."),
            home: None,
            state_dir: PathBuf::from("/nowhere"),
            cache_dir: PathBuf::from("/nowhere"),
            cache_max_size: None,
            docker_as: None,
            scratch_root: PathBuf::from("/nowhere"),
            host: Host::default(),
            color: false,
            interactive: false,
            machine_readable: false,
            aws: AwsAccess::new(&BTreeMap::new()),
        }
    }

    /// Refuses a directory for journals that belongs to another user: `kiln cleanup` removes what journals tell it to.
    pub(crate) fn check_state_dir(&self) -> Result<(), Failure> {
        // One that does not exist yet is made later, or that fails with a message of its own.
        let Ok(metadata) = std::fs::metadata(&self.state_dir) else { return Ok(()) };
        let own = rustix::process::getuid().as_raw();
        if !is_foreign(metadata.uid(), own, self.state_dir.starts_with(std::env::temp_dir())) {
            return Ok(());
        }
        Err(Failure::environment(ForeignStateDir(self.state_dir.clone()))
            .hint("set KILN_STATE_DIR to a directory of your own"))
    }
}

/// Root may use what root or, with sudo, the user owns; but in a directory where everybody writes, only its own.
fn is_foreign(owner: u32, own: u32, is_temporary: bool) -> bool {
    owner != own && (own != 0 || is_temporary)
}

#[derive(Debug, thiserror::Error)]
#[error("the directory for cleanup journals, {}, belongs to another user", .0.display())]
struct ForeignStateDir(PathBuf);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_of_someone_else_is_not_obeyed() {
        assert!(!is_foreign(1000, 1000, true));
        assert!(is_foreign(0, 1000, false));
        assert!(is_foreign(1000, 0, true));
        assert!(!is_foreign(1000, 0, false));
    }
}
