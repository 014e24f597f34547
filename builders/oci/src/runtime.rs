//! How the sandbox is made: the source's arguments, and the flags of `docker run` as far as a sandbox knows them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_docker::models::{HostConfig, Mount, MountType};
use kiln_docker::run_command::{self, RunCommand, values};
use kiln_sandbox::{BindMount, Device, Network, Tmpfs};

use crate::config::Config;

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuntimeError {
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

/// The sandbox, without its root.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Runtime {
    pub(crate) mounts: Vec<BindMount>,
    pub(crate) tmpfs: Vec<Tmpfs>,
    pub(crate) devices: Vec<Device>,
    pub(crate) capabilities_add: Vec<String>,
    pub(crate) capabilities_drop: Vec<String>,
    pub(crate) is_privileged: bool,
    pub(crate) is_unfiltered: bool,
    pub(crate) network: Network,
    pub(crate) hostname: Option<String>,
    pub(crate) extra_hosts: Vec<(String, String)>,
    /// `-e`: part of the image, as with a commit.
    pub(crate) environment: Vec<(String, String)>,
    /// `--label`: part of the image, as with a commit.
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) user: Option<String>,
    pub(crate) directory: Option<String>,
    /// Where the template names the mounts, and the devices.
    pub(crate) mount_places: Vec<String>,
    pub(crate) device_places: Vec<String>,
    /// Words of `run_command` that mean nothing here.
    pub(crate) unheeded: Vec<Unheeded>,
}

/// What `docker run` knows and a sandbox does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unheeded {
    /// A flag, by its names.
    Flag(&'static [&'static str]),
    /// The command, of so many words.
    Command(usize),
}

impl Unheeded {
    /// The word that it begins at.
    pub(crate) fn index(&self, words: &[String]) -> Option<usize> {
        match self {
            Unheeded::Flag(names) => words.iter().position(|word| {
                let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
                names.contains(&name)
            }),
            Unheeded::Command(length) => words.len().checked_sub(*length),
        }
    }
}

impl std::fmt::Display for Unheeded {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unheeded::Flag(names) => {
                write!(formatter, "`{}` has no effect without the Docker engine", names.first().unwrap_or(&""))
            }
            Unheeded::Command(_) => {
                formatter.write_str("the command in `run_command` is not run: a sandbox needs none to keep it alive")
            }
        }
    }
}

impl Runtime {
    /// Reads them; the flags' single values win over the arguments, as behind them on a `docker run`.
    pub(crate) fn new(config: &Config, run: Option<RunCommand>, home: Option<&Path>) -> Result<Runtime, RuntimeError> {
        let at = |path: String| move |message: String| RuntimeError { path, message, help: None };
        let mut runtime = Runtime {
            capabilities_add: config.cap_add.clone(),
            capabilities_drop: config.cap_drop.clone(),
            is_privileged: config.privileged,
            ..Runtime::default()
        };
        for (source, target) in &config.volumes {
            let mut host = HostConfig::default();
            run_command::volume(&mut host, &format!("{source}:{target}"), home)
                .map_err(at(format!("volumes.{source}")))?;
            runtime.binds(host.binds.unwrap_or_default(), &format!("volumes.{source}"))?;
        }
        for (index, text) in config.tmpfs.iter().enumerate() {
            let (target, options) = values::tmpfs(text).map_err(at(format!("tmpfs[{index}]")))?;
            runtime.tmpfs.push(Tmpfs { target, options });
        }
        for (index, text) in config.device.iter().enumerate() {
            let device = values::device(text).map_err(at(format!("device[{index}]")))?;
            runtime.device(device.path_on_host, device.path_in_container, &format!("device[{index}]"))?;
        }
        if config.network.as_deref() == Some("none") {
            runtime.network = Network::None;
        }
        if let Some(run) = run {
            runtime.run_command(run)?;
        }
        Ok(runtime)
    }

    fn run_command(&mut self, run: RunCommand) -> Result<(), RuntimeError> {
        let path = "run_command";
        let mut config = run.config;
        let host = config.host_config.take().unwrap_or_default();
        for variable in config.env.unwrap_or_default() {
            let (name, value) = variable.split_once('=').unwrap_or((&variable, ""));
            self.environment.push((name.to_owned(), value.to_owned()));
        }
        self.labels.extend(config.labels.unwrap_or_default());
        self.user = config.user;
        self.directory = config.working_dir;
        self.hostname = config.hostname;
        self.unheeded(&host, &run.command);
        self.capabilities_add.extend(host.cap_add.unwrap_or_default());
        self.capabilities_drop.extend(host.cap_drop.unwrap_or_default());
        self.is_privileged = host.privileged.unwrap_or(self.is_privileged);
        self.is_unfiltered = host.security_opt.iter().flatten().any(|option| option == "seccomp=unconfined");
        for entry in host.extra_hosts.unwrap_or_default() {
            if let Some((name, address)) = entry.split_once(':') {
                self.extra_hosts.push((address.to_owned(), name.to_owned()));
            }
        }
        match host.network_mode.as_deref() {
            None | Some("host" | "bridge" | "default") => {}
            Some("none") => self.network = Network::None,
            Some(other) => {
                return Err(RuntimeError {
                    path: path.to_owned(),
                    message: format!("the network `{other}` is the Docker engine's, and this source is built without"),
                    help: Some("take `host` or `none`".to_owned()),
                });
            }
        }
        self.binds(host.binds.unwrap_or_default(), path)?;
        for mount in host.mounts.unwrap_or_default() {
            self.mount(mount, path)?;
        }
        for (target, options) in host.tmpfs.unwrap_or_default() {
            self.tmpfs.push(Tmpfs { target, options });
        }
        for device in host.devices.unwrap_or_default() {
            self.device(device.path_on_host, device.path_in_container, path)?;
        }
        // The map of the flags has no order of its own; a key is made of this.
        self.tmpfs.sort_by(|one, other| one.target.cmp(&other.target));
        Ok(())
    }

    /// Notes what a sandbox does not know.
    fn unheeded(&mut self, host: &HostConfig, command: &[String]) {
        let flags: [(&[&str], bool); 21] = [
            (&["--memory", "-m"], host.memory.is_some()),
            (&["--memory-swap"], host.memory_swap.is_some()),
            (&["--memory-reservation"], host.memory_reservation.is_some()),
            (&["--cpus"], host.nano_cpus.is_some()),
            (&["--cpu-shares", "-c"], host.cpu_shares.is_some()),
            (&["--cpuset-cpus"], host.cpuset_cpus.is_some()),
            (&["--pids-limit"], host.pids_limit.is_some()),
            (&["--ulimit"], host.ulimits.is_some()),
            (&["--dns"], host.dns.is_some()),
            (&["--dns-search"], host.dns_search.is_some()),
            (&["--shm-size"], host.shm_size.is_some()),
            (&["--sysctl"], host.sysctls.is_some()),
            (&["--volumes-from"], host.volumes_from.is_some()),
            (&["--link"], host.links.is_some()),
            (&["--group-add"], host.group_add.is_some()),
            (&["--runtime"], host.runtime.is_some()),
            (&["--read-only"], host.readonly_rootfs == Some(true)),
            (&["--pid"], host.pid_mode.is_some()),
            (&["--ipc"], host.ipc_mode.is_some()),
            (&["--uts"], host.uts_mode.is_some()),
            (&["--userns"], host.userns_mode.is_some()),
        ];
        let set = flags.into_iter().filter_map(|(names, is_set)| is_set.then_some(Unheeded::Flag(names)));
        self.unheeded.extend(set);
        if !command.is_empty() {
            self.unheeded.push(Unheeded::Command(command.len()));
        }
    }

    fn binds(&mut self, binds: Vec<String>, path: &str) -> Result<(), RuntimeError> {
        for bind in binds {
            let mut parts = bind.splitn(3, ':');
            let (source, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let is_read_only = parts.next().is_some_and(|options| options.split(',').any(|option| option == "ro"));
            self.bind(source, target, is_read_only, path)?;
        }
        Ok(())
    }

    fn bind(&mut self, source: &str, target: &str, read_only: bool, path: &str) -> Result<(), RuntimeError> {
        if !source.starts_with('/') {
            return Err(RuntimeError {
                path: path.to_owned(),
                message: format!("`{source}` names a volume of the Docker engine, and this source is built without"),
                help: Some("name a directory of this host, beginning with `/`, `./` or `~/`".to_owned()),
            });
        }
        self.mount_places.push(path.to_owned());
        self.mounts.push(BindMount { source: PathBuf::from(source), target: target.to_owned(), read_only });
        Ok(())
    }

    fn mount(&mut self, mount: Mount, path: &str) -> Result<(), RuntimeError> {
        let target = mount.target.unwrap_or_default();
        match (mount.typ, mount.source) {
            (Some(MountType::TMPFS), _) => {
                let options = mount.tmpfs_options.unwrap_or_default();
                let size = options.size_bytes.map(|bytes| format!("size={bytes}"));
                let mode = options.mode.map(|mode| format!("mode={mode:o}"));
                let options: Vec<String> = size.into_iter().chain(mode).collect();
                self.tmpfs.push(Tmpfs { target, options: options.join(",") });
            }
            (_, Some(source)) => self.bind(&source, &target, mount.read_only.unwrap_or(false), path)?,
            // An anonymous volume: what is put there is in no image.
            (_, None) => self.tmpfs.push(Tmpfs { target, options: "mode=755".to_owned() }),
        }
        Ok(())
    }

    fn device(&mut self, host: Option<String>, inside: Option<String>, path: &str) -> Result<(), RuntimeError> {
        let (source, target) = (host.unwrap_or_default(), inside.unwrap_or_default());
        if !target.starts_with("/dev/") {
            let message = format!("`{target}` is not below /dev, where a sandbox has its devices");
            return Err(RuntimeError { path: path.to_owned(), message, help: None });
        }
        self.device_places.push(path.to_owned());
        self.devices.push(Device { source: PathBuf::from(source), target });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kiln_docker::run_command::HostScope;

    use super::*;

    fn runtime(config: serde_json::Value, words: &[&str]) -> Result<Runtime, RuntimeError> {
        let config: Config = serde_json::from_value(config).unwrap();
        let environment = BTreeMap::new();
        let scope = HostScope { environment: &environment, home: Some(Path::new("/home/me")) };
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let run = (!words.is_empty()).then(|| run_command::parse(&words, scope).unwrap());
        Runtime::new(&config, run, scope.home)
    }

    #[test]
    fn arguments_and_flags_come_together() {
        let config = serde_json::json!({
            "volumes": {"~/src": "/src:ro", "/var/x": "/x"}, "tmpfs": ["/t:size=1m"], "device": ["/dev/fuse"],
            "network": "host", "cap_add": ["NET_ADMIN"],
        });
        let words = [
            "-e",
            "A=1",
            "--label",
            "l=v",
            "-u",
            "app",
            "-w",
            "/w",
            "--network=none",
            "-v",
            "/data",
            "-m",
            "1g",
            "IMAGE",
            "init",
        ];
        let seen = runtime(config, &words).unwrap();
        let mounts: Vec<(&str, &str, bool)> = seen
            .mounts
            .iter()
            .map(|mount| (mount.source.to_str().unwrap(), mount.target.as_str(), mount.read_only))
            .collect();
        assert_eq!(mounts, [("/home/me/src", "/src", true), ("/var/x", "/x", false)]);
        assert_eq!(seen.tmpfs.iter().map(|tmpfs| tmpfs.target.as_str()).collect::<Vec<_>>(), ["/data", "/t"]);
        assert_eq!(seen.network, Network::None);
        assert_eq!(seen.environment, [("A".to_owned(), "1".to_owned())]);
        assert_eq!((seen.user.as_deref(), seen.directory.as_deref()), (Some("app"), Some("/w")));
        assert_eq!(seen.labels["l"], "v");
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let places: Vec<&str> = seen.unheeded.iter().map(|one| words[one.index(&words).unwrap()].as_str()).collect();
        assert_eq!(places, ["-m", "init"]);
        assert_eq!(seen.mount_places[0], "volumes.~/src");
    }

    #[test]
    fn what_only_the_engine_has_is_refused_with_its_place() {
        let error = runtime(serde_json::json!({"volumes": {"cache": "/c"}}), &[]).unwrap_err();
        assert_eq!((error.path.as_str(), error.help.is_some()), ("volumes.cache", true));
        assert!(
            runtime(serde_json::json!({}), &["--network", "mine", "IMAGE"]).unwrap_err().message.contains("`mine`")
        );
        assert_eq!(runtime(serde_json::json!({"device": ["/dev/a:/x"]}), &[]).unwrap_err().path, "device[0]");
    }
}
