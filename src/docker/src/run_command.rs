//! `run_command`: the flags of `docker run` that say how a container is made, in the Engine API's shapes.

pub mod values;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crate::models::{
    ContainerCreateBody, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount, MountType,
};
use kiln_core::suggest;

/// What a flag of this host may look at.
#[derive(Debug, Clone, Copy)]
pub struct HostScope<'a> {
    /// For `-e NAME`.
    pub environment: &'a BTreeMap<String, String>,
    /// For `~/` in volumes.
    pub home: Option<&'a Path>,
}

/// What is wrong, and in which word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunCommandError {
    /// The word, from 0.
    pub index: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead, where that is known.
    pub help: Option<String>,
}

/// A `docker run` as read.
#[derive(Debug, Clone, Default)]
pub struct RunCommand {
    /// `--name`.
    pub name: Option<String>,
    /// `--platform`.
    pub platform: Option<String>,
    /// The image.
    pub image: String,
    /// `--entrypoint`.
    pub entrypoint: Option<String>,
    /// The words after the image.
    pub command: Vec<String>,
    /// Everything else.
    pub config: ContainerCreateBody,
    /// The words that a commit takes over: into the image's environment and labels, and the command into its history.
    pub kept_words: Vec<usize>,
}

/// Flags that are switches, by all their names.
const SWITCHES: [(&str, &str); 9] = [
    ("d", "detach"),
    ("i", "interactive"),
    ("t", "tty"),
    ("", "privileged"),
    ("", "init"),
    ("", "rm"),
    ("", "read-only"),
    ("", "oom-kill-disable"),
    ("", "no-healthcheck"),
];

/// Flags that take a value.
const VALUES: [(&str, &str); 45] = [
    ("", "entrypoint"),
    ("", "name"),
    ("v", "volume"),
    ("e", "env"),
    ("p", "publish"),
    ("", "network"),
    ("", "net"),
    ("u", "user"),
    ("", "tmpfs"),
    ("", "device"),
    ("", "cap-add"),
    ("", "cap-drop"),
    ("h", "hostname"),
    ("", "domainname"),
    ("w", "workdir"),
    ("m", "memory"),
    ("", "memory-swap"),
    ("", "memory-reservation"),
    ("", "cpus"),
    ("c", "cpu-shares"),
    ("", "cpuset-cpus"),
    ("", "pids-limit"),
    ("", "add-host"),
    ("", "dns"),
    ("", "dns-search"),
    ("l", "label"),
    ("", "ulimit"),
    ("", "shm-size"),
    ("", "security-opt"),
    ("", "platform"),
    ("", "runtime"),
    ("", "log-driver"),
    ("", "log-opt"),
    ("", "mount"),
    ("", "volumes-from"),
    ("", "group-add"),
    ("", "sysctl"),
    ("", "pid"),
    ("", "ipc"),
    ("", "uts"),
    ("", "userns"),
    ("", "cgroupns"),
    ("", "cgroup-parent"),
    ("", "stop-signal"),
    ("", "link"),
];

/// The same as `-d -i -t --entrypoint=/bin/sh -- IMAGE`.
pub fn keep_alive(image: &str) -> RunCommand {
    RunCommand {
        image: image.to_owned(),
        entrypoint: Some("/bin/sh".to_owned()),
        config: ContainerCreateBody { tty: Some(true), open_stdin: Some(true), ..ContainerCreateBody::default() },
        ..RunCommand::default()
    }
}

/// Reads the words after `docker run`.
pub fn parse(words: &[String], scope: HostScope<'_>) -> Result<RunCommand, RunCommandError> {
    let mut parser = Parser { words, next: 0, scope, run: RunCommand::default() };
    parser.run.config.host_config = Some(HostConfig::default());
    parser.flags()?;
    let Some(image) = words.get(parser.next).filter(|image| !image.is_empty()) else {
        return Err(RunCommandError {
            index: words.len().saturating_sub(1),
            message: "`run_command` names no image".to_owned(),
            help: Some("put \"{{.Image}}\" after the flags".to_owned()),
        });
    };
    let mut run = parser.run;
    run.image.clone_from(image);
    run.command = words[parser.next + 1..].to_vec();
    run.kept_words.extend(parser.next + 1..words.len());
    Ok(run)
}

struct Parser<'a> {
    words: &'a [String],
    next: usize,
    scope: HostScope<'a>,
    run: RunCommand,
}

impl Parser<'_> {
    fn flags(&mut self) -> Result<(), RunCommandError> {
        while let Some(word) = self.words.get(self.next) {
            let index = self.next;
            if word == "--" {
                self.next += 1;
                return Ok(());
            }
            if let Some(flag) = word.strip_prefix("--") {
                self.next += 1;
                self.long(index, flag)?;
            } else if let Some(cluster) = word.strip_prefix('-').filter(|cluster| !cluster.is_empty()) {
                self.next += 1;
                self.short(index, cluster)?;
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    fn long(&mut self, index: usize, flag: &str) -> Result<(), RunCommandError> {
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        let failed = |message: String| RunCommandError { index, message: format!("`--{name}`: {message}"), help: None };
        if let Some((_, name)) = SWITCHES.iter().find(|(_, long)| *long == name) {
            let is_on = value.map_or(Ok(true), |value| values::switch(&value)).map_err(failed)?;
            self.switch(name, is_on);
            return Ok(());
        }
        let Some((_, known)) = VALUES.iter().find(|(_, long)| *long == name) else {
            return Err(unknown(index, &format!("--{name}"), name));
        };
        let value = match value {
            Some(value) => value,
            None => self.take(index, &format!("--{name}"))?,
        };
        self.value(known, &value).map_err(failed)
    }

    fn short(&mut self, index: usize, cluster: &str) -> Result<(), RunCommandError> {
        for (at, letter) in cluster.char_indices() {
            let name = letter.to_string();
            if let Some((_, long)) = SWITCHES.iter().find(|(short, _)| *short == name) {
                self.switch(long, true);
                continue;
            }
            let Some((_, long)) = VALUES.iter().find(|(short, _)| *short == name) else {
                return Err(unknown(index, &format!("-{name}"), &name));
            };
            let rest = &cluster[at + letter.len_utf8()..];
            let value = match rest {
                "" => self.take(index, &format!("-{name}"))?,
                rest => rest.strip_prefix('=').unwrap_or(rest).to_owned(),
            };
            return self.value(long, &value).map_err(|message| RunCommandError {
                index,
                message: format!("`-{name}`: {message}"),
                help: None,
            });
        }
        Ok(())
    }

    fn take(&mut self, index: usize, flag: &str) -> Result<String, RunCommandError> {
        let value = self.words.get(self.next).cloned();
        self.next += 1;
        value.ok_or_else(|| RunCommandError { index, message: format!("`{flag}` needs a value"), help: None })
    }

    fn switch(&mut self, name: &str, is_on: bool) {
        let config = &mut self.run.config;
        match name {
            "interactive" => config.open_stdin = Some(is_on),
            "tty" => config.tty = Some(is_on),
            _ => {
                let host = config.host_config.get_or_insert_default();
                match name {
                    "privileged" => host.privileged = Some(is_on),
                    "init" => host.init = Some(is_on),
                    "read-only" => host.readonly_rootfs = Some(is_on),
                    "oom-kill-disable" => host.oom_kill_disable = Some(is_on),
                    // `detach` is how kiln always runs it, `rm` is what it does anyway; health is not looked at.
                    _ => {}
                }
            }
        }
    }

    fn value(&mut self, name: &str, value: &str) -> Result<(), String> {
        if matches!(name, "env" | "label") {
            // The word that was read last, be it the flag's own or the one behind it.
            self.run.kept_words.push(self.next - 1);
        }
        let owned = || Some(value.to_owned());
        let push = |list: &mut Option<Vec<String>>| list.get_or_insert_default().push(value.to_owned());
        match name {
            "entrypoint" => self.run.entrypoint = owned(),
            "name" => self.run.name = owned(),
            "platform" => self.run.platform = owned(),
            "user" => self.run.config.user = owned(),
            "hostname" => self.run.config.hostname = owned(),
            "domainname" => self.run.config.domainname = owned(),
            "workdir" => self.run.config.working_dir = owned(),
            "stop-signal" => self.run.config.stop_signal = owned(),
            "env" => self.environment(value),
            "label" => {
                let (key, text) = value.split_once('=').unwrap_or((value, ""));
                self.run.config.labels.get_or_insert_default().insert(key.to_owned(), text.to_owned());
            }
            "publish" => {
                return Err("ports are not published: provisioners reach the container without them".to_owned());
            }
            _ => {
                let scope = self.scope;
                let host = self.run.config.host_config.get_or_insert_default();
                match name {
                    "volume" => volume(host, value, scope.home)?,
                    "cap-add" => push(&mut host.cap_add),
                    "cap-drop" => push(&mut host.cap_drop),
                    "add-host" => push(&mut host.extra_hosts),
                    "dns" => push(&mut host.dns),
                    "dns-search" => push(&mut host.dns_search),
                    "volumes-from" => push(&mut host.volumes_from),
                    "group-add" => push(&mut host.group_add),
                    "link" => push(&mut host.links),
                    _ => host_value(host, name, value)?,
                }
            }
        }
        Ok(())
    }

    fn environment(&mut self, value: &str) {
        let list = self.run.config.env.get_or_insert_default();
        match (value.contains('='), self.scope.environment.get(value)) {
            (true, _) => list.push(value.to_owned()),
            // As docker: a variable that is not set here is not passed on.
            (false, None) => {}
            (false, Some(text)) => list.push(format!("{value}={text}")),
        }
    }
}

fn host_value(host: &mut HostConfig, name: &str, value: &str) -> Result<(), String> {
    let owned = || Some(value.to_owned());
    match name {
        "network" | "net" => host.network_mode = owned(),
        "runtime" => host.runtime = owned(),
        "pid" => host.pid_mode = owned(),
        "ipc" => host.ipc_mode = owned(),
        "uts" => host.uts_mode = owned(),
        "userns" => host.userns_mode = owned(),
        "cgroup-parent" => host.cgroup_parent = owned(),
        "cpuset-cpus" => host.cpuset_cpus = owned(),
        "cgroupns" => {
            host.cgroupns_mode = Some(match value {
                "host" => HostConfigCgroupnsModeEnum::HOST,
                "private" => HostConfigCgroupnsModeEnum::PRIVATE,
                other => return Err(format!("`{other}` is neither host nor private")),
            });
        }
        "memory" => host.memory = Some(values::bytes(value)?),
        "memory-reservation" => host.memory_reservation = Some(values::bytes(value)?),
        "memory-swap" if value == "-1" => host.memory_swap = Some(-1),
        "memory-swap" => host.memory_swap = Some(values::bytes(value)?),
        "shm-size" => host.shm_size = Some(values::bytes(value)?),
        "cpus" => host.nano_cpus = Some(values::nano_cpus(value)?),
        "cpu-shares" => host.cpu_shares = Some(values::integer(value)?),
        "pids-limit" => host.pids_limit = Some(values::integer(value)?),
        "device" => host.devices.get_or_insert_default().push(values::device(value)?),
        "ulimit" => host.ulimits.get_or_insert_default().push(values::ulimit(value)?),
        "mount" => host.mounts.get_or_insert_default().push(values::mount(value)?),
        "tmpfs" => {
            let (path, options) = values::tmpfs(value)?;
            host.tmpfs.get_or_insert_default().insert(path, options);
        }
        "security-opt" => {
            let is_file =
                value.strip_prefix("seccomp=").is_some_and(|profile| !matches!(profile, "unconfined" | "builtin"));
            if is_file {
                return Err("a seccomp profile from a file is not supported; known: unconfined, builtin".to_owned());
            }
            host.security_opt.get_or_insert_default().push(value.to_owned());
        }
        "sysctl" | "log-opt" => {
            let (key, text) =
                value.split_once('=').ok_or_else(|| format!("`{value}` is not of the form NAME=VALUE"))?;
            let map = if name == "sysctl" { host.sysctls.get_or_insert_default() } else { log_options(host) };
            map.insert(key.to_owned(), text.to_owned());
        }
        "log-driver" => host.log_config.get_or_insert_default().typ = owned(),
        // The tables above hold no other name.
        other => return Err(format!("`{other}` is not supported")),
    }
    Ok(())
}

fn log_options(host: &mut HostConfig) -> &mut HashMap<String, String> {
    let log: &mut HostConfigLogConfig = host.log_config.get_or_insert_default();
    log.config.get_or_insert_default()
}

/// `[SOURCE:]TARGET[:OPTIONS]`. A source with a slash is a path of the engine's host, else the name of a volume.
pub fn volume(host: &mut HostConfig, text: &str, home: Option<&Path>) -> Result<(), String> {
    let Some((source, target)) = text.split_once(':') else {
        if !text.starts_with('/') {
            return Err(format!("`{text}` is no absolute path in the container"));
        }
        // Not in the container's own config: from there a commit would declare it in the image.
        let mount = Mount { typ: Some(MountType::VOLUME), target: Some(text.to_owned()), ..Mount::default() };
        host.mounts.get_or_insert_default().push(mount);
        return Ok(());
    };
    if !target.starts_with('/') {
        return Err(format!("`{target}` is no absolute path in the container"));
    }
    let source = host_path(source, home)?;
    host.binds.get_or_insert_default().push(format!("{source}:{target}"));
    Ok(())
}

/// A bind's source: `~/` is the home, `./` and `../` are below the working directory.
fn host_path(source: &str, home: Option<&Path>) -> Result<String, String> {
    if source.is_empty() {
        return Err("a volume needs a source before the colon".to_owned());
    }
    if source == "~" || source.starts_with("~/") {
        let home = home.ok_or_else(|| format!("`{source}` needs a home directory, and HOME is not set"))?;
        return Ok(home.join(source.trim_start_matches('~').trim_start_matches('/')).display().to_string());
    }
    if source == "." || source == ".." || source.starts_with("./") || source.starts_with("../") {
        let path = std::path::absolute(source).map_err(|error| format!("`{source}`: {error}"))?;
        return Ok(path.display().to_string());
    }
    Ok(source.to_owned())
}

fn unknown(index: usize, written: &str, name: &str) -> RunCommandError {
    let known = SWITCHES.iter().chain(&VALUES).map(|(_, long)| *long);
    let help = match suggest::nearest(name, known) {
        Some(nearest) if name.len() > 1 => Some(format!("did you mean `--{nearest}`?")),
        _ => None,
    };
    RunCommandError {
        index,
        message: format!("`run_command` has the flag `{written}`, which kiln does not know"),
        help,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &[&str]) -> Result<RunCommand, RunCommandError> {
        let environment = BTreeMap::from([("FROM_HOST".to_owned(), "yes".to_owned())]);
        let scope = HostScope { environment: &environment, home: Some(Path::new("/home/me")) };
        parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), scope)
    }

    #[test]
    fn packers_default_is_the_keep_alive_shell() {
        let seen = run(&["-d", "-i", "-t", "--entrypoint=/bin/sh", "--", "IMAGE"]).unwrap();
        let expected = keep_alive("IMAGE");
        assert_eq!((seen.entrypoint, &seen.image, seen.config.tty), (expected.entrypoint, &expected.image, Some(true)));
        assert_eq!(seen.config.open_stdin, Some(true));
    }

    #[test]
    fn flags_in_all_their_spellings() {
        let seen = run(&[
            "-dit",
            "-eA=1",
            "-e",
            "B=2",
            "--env=FROM_HOST",
            "-e",
            "NOT_THERE",
            "-v",
            "~/src:/src:ro",
            "--volume=/anonymous",
            "--net",
            "host",
            "-uapp",
            "--privileged=true",
            "--init",
            "--name",
            "box",
            "--tmpfs",
            "/run:size=1m",
            "-m=64m",
            "--cgroupns=host",
            "--label",
            "a=b",
            "--mount",
            "type=bind,src=/x,dst=/y",
            "IMAGE",
            "sleep",
            "-x",
            "9",
        ])
        .unwrap();
        assert_eq!(seen.config.env.unwrap(), ["A=1", "B=2", "FROM_HOST=yes"]);
        let host = seen.config.host_config.unwrap();
        assert_eq!(host.binds.unwrap(), ["/home/me/src:/src:ro"]);
        assert_eq!(host.mounts.unwrap().len(), 2);
        assert_eq!(host.network_mode.as_deref(), Some("host"));
        assert_eq!((host.privileged, host.init, host.memory), (Some(true), Some(true), Some(64 << 20)));
        assert_eq!(host.tmpfs.unwrap()["/run"], "size=1m");
        assert_eq!(host.cgroupns_mode, Some(HostConfigCgroupnsModeEnum::HOST));
        assert_eq!(seen.config.user.as_deref(), Some("app"));
        assert_eq!(seen.name.as_deref(), Some("box"));
        assert_eq!((seen.image.as_str(), seen.command), ("IMAGE", vec!["sleep".into(), "-x".into(), "9".into()]));
        assert!(seen.config.volumes.is_none());
    }

    #[test]
    fn mistakes_name_the_flag_and_its_word() {
        let error = run(&["-d", "--privilegd", "IMAGE"]).unwrap_err();
        assert_eq!((error.index, error.help.as_deref()), (1, Some("did you mean `--privileged`?")));
        assert!(error.message.contains("`--privilegd`"), "{error:?}");
        assert!(run(&["-dZ", "IMAGE"]).unwrap_err().message.contains("`-Z`"));
        assert_eq!(run(&["-d", "--name"]).unwrap_err().message, "`--name` needs a value");
        assert!(run(&["-d", "-i"]).unwrap_err().message.contains("names no image"));
        assert!(run(&["-m", "lots", "IMAGE"]).unwrap_err().message.starts_with("`-m`: "));
        assert!(run(&["--security-opt", "seccomp=/p.json", "IMAGE"]).is_err());
    }
}
