//! Bringing playbooks to the machine, and running them there.

use std::path::{Component, Path, PathBuf};

use async_trait::async_trait;
use kiln_core::communicator::{CommunicatorError, NullSink};
use kiln_core::lines::LineSink;
use kiln_core::{BuildContext, Command, Communicator, ExitStatus, Failure, Machine, Payload, Provisioner};
use kiln_transport::script::{clean_tail, hidden, quote};

use crate::prepare::Config;

/// Where files go, as in Packer; a name of its own for each step follows.
const STAGING: &str = "/tmp/packer-provisioner-ansible-local";

/// What runs playbooks.
const COMMAND: &str = "ANSIBLE_FORCE_COLOR=1 PYTHONUNBUFFERED=1 ansible-playbook";

/// What installs roles and collections.
const GALAXY: &str = "ansible-galaxy";

/// What the generated inventory is called.
const INVENTORY: &str = "kiln-inventory";

/// Why playbooks did not come to the machine, or failed there.
#[derive(Debug, thiserror::Error)]
enum LocalError {
    #[error("cannot upload `{path}` to `{to}`")]
    Upload { path: String, to: String, source: CommunicatorError },
    #[error("cannot read `{path}`")]
    Read { path: String, source: std::io::Error },
    #[error("cannot run {what} on the machine")]
    Run { what: String, source: CommunicatorError },
    #[error("{what} {}{}", ended(*status), tail(lines))]
    Failed { what: String, status: ExitStatus, lines: Vec<String> },
}

fn ended(status: ExitStatus) -> String {
    match status {
        ExitStatus::Exited(code) => format!("exited with status {code}"),
        ExitStatus::Signalled(signal) => format!("was killed by signal {signal}"),
    }
}

fn tail(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let lines: String = lines.iter().map(|line| format!("\n    {line}")).collect();
    format!("; the last lines of its output:{lines}")
}

/// A configured `ansible-local`.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) config: Config,
}

#[async_trait]
impl Provisioner for Step {
    fn title(&self) -> String {
        match self.playbooks().as_slice() {
            [] => "playbook".to_owned(),
            [playbook] => (*playbook).to_owned(),
            [first, rest @ ..] => format!("{first} and {} more", rest.len()),
        }
    }

    fn input_files(&self) -> Vec<PathBuf> {
        let config = &self.config;
        let single =
            [&config.playbook_dir, &config.group_vars, &config.host_vars, &config.inventory_file, &config.galaxy_file];
        let lists = [&config.playbook_paths, &config.role_paths, &config.collection_paths];
        let playbooks = self.playbooks().into_iter().map(PathBuf::from);
        let single = single.into_iter().flatten().map(PathBuf::from);
        playbooks.chain(single).chain(lists.into_iter().flatten().map(PathBuf::from)).collect()
    }

    async fn provision(&self, machine: &dyn Machine, context: &BuildContext) -> Result<(), Failure> {
        let run = Run { config: &self.config, staging: self.staging(context), machine, context };
        context.unless_cancelled(run.all(&self.playbooks())).await.flatten()
    }
}

impl Step {
    fn playbooks(&self) -> Vec<&str> {
        self.config.playbook_file.iter().chain(&self.config.playbook_files).map(String::as_str).collect()
    }

    /// The same for the same step: a name that changes would make each image another one.
    fn staging(&self, context: &BuildContext) -> String {
        let default = || {
            let name = format!("{}\n{}", context.build_name, self.playbooks().join("\n"));
            format!("{STAGING}/{}", uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, name.as_bytes()))
        };
        let given = self.config.staging_directory.as_deref().map(|path| match path.trim_end_matches('/') {
            "" => "/".to_owned(),
            path => path.to_owned(),
        });
        given.unwrap_or_else(default)
    }
}

/// One run of the step.
struct Run<'a> {
    config: &'a Config,
    staging: String,
    machine: &'a dyn Machine,
    context: &'a BuildContext,
}

impl Run<'_> {
    async fn all(&self, playbooks: &[&str]) -> Result<(), Failure> {
        let result = self.steps(playbooks).await;
        if self.config.clean_staging_directory {
            let cleaned = self.clean().await;
            // A failure of the playbooks is the one to tell.
            return result.and(cleaned);
        }
        result
    }

    async fn steps(&self, playbooks: &[&str]) -> Result<(), Failure> {
        self.context.events.message(format!("uploading to {}", self.staging));
        if let Some(directory) = &self.config.playbook_dir {
            self.upload_content(directory, &self.staging).await?;
        }
        let mut placed = Vec::with_capacity(playbooks.len());
        for playbook in playbooks {
            placed.push(self.place(playbook).await?);
        }
        let inventory = self.inventory().await?;
        self.directories().await?;
        if let Some(file) = &self.config.galaxy_file {
            self.galaxy(file).await?;
        }
        for (playbook, path) in playbooks.iter().zip(&placed) {
            self.run(&format!("playbook `{playbook}`"), &self.command(path, &inventory)).await?;
        }
        Ok(())
    }

    /// Where a playbook lies on the machine; it is brought there unless it came with `playbook_dir`.
    async fn place(&self, playbook: &str) -> Result<String, Failure> {
        if let Some(inner) = self.config.playbook_dir.as_ref().and_then(|directory| below(directory, playbook)) {
            return Ok(self.inside(&inner));
        }
        let is_plain = Path::new(playbook).components().all(|part| matches!(part, Component::Normal(_)));
        // One of several keeps its directories, so that two of one name stay apart.
        let name = if self.config.playbook_file.is_none() && is_plain { playbook.to_owned() } else { base(playbook) };
        let to = self.inside(&name);
        self.upload_file(playbook, &to).await?;
        Ok(to)
    }

    async fn inventory(&self) -> Result<String, Failure> {
        if let Some(file) = &self.config.inventory_file {
            let to = self.inside(&base(file));
            self.upload_file(file, &to).await?;
            return Ok(to);
        }
        let to = self.inside(INVENTORY);
        let content = inventory_text(&self.config.inventory_groups).into();
        self.upload("the inventory", &Payload::Bytes { content, mode: 0o644 }, &to).await?;
        Ok(to)
    }

    async fn directories(&self) -> Result<(), Failure> {
        let config = self.config;
        for (name, path) in [("group_vars", &config.group_vars), ("host_vars", &config.host_vars)] {
            if let Some(path) = path {
                self.upload_content(path, &self.inside(name)).await?;
            }
        }
        let lists = [
            ("roles", &config.role_paths),
            ("collections", &config.collection_paths),
            ("playbooks", &config.playbook_paths),
        ];
        for (place, paths) in lists {
            for path in paths {
                self.upload_content(path, &self.inside(&format!("{place}/{}", base(path)))).await?;
            }
        }
        Ok(())
    }

    async fn galaxy(&self, file: &str) -> Result<(), Failure> {
        let text = tokio::fs::read_to_string(file).await;
        let text = text.map_err(|source| Failure::build(LocalError::Read { path: file.to_owned(), source }))?;
        let on_machine = self.inside(&base(file));
        self.upload_file(file, &on_machine).await?;
        for arguments in self.galaxy_calls(&text, &on_machine) {
            let command = self.config.galaxy_command.as_deref().unwrap_or(GALAXY);
            let line = format!("cd {} && {command} {arguments}", word(&self.staging));
            self.run(&format!("`{command}`"), &line).await?;
        }
        Ok(())
    }

    /// Roles, then collections; a file with neither key is a list of roles.
    fn galaxy_calls(&self, text: &str, file: &str) -> Vec<String> {
        let has = |key: &str| text.lines().any(|line| line.starts_with(key));
        let place = |given: &Option<String>, usual: &str| given.clone().unwrap_or_else(|| self.inside(usual));
        let mut calls = Vec::new();
        if has("roles:") || !has("collections:") {
            let place = place(&self.config.galaxy_roles_path, "roles");
            calls.push(format!("install -r {} -p {}", word(file), word(&place)));
        }
        if has("collections:") {
            let place = place(&self.config.galaxy_collections_path, "galaxy_collections");
            calls.push(format!("collection install -r {} -p {}", word(file), word(&place)));
        }
        calls
    }

    /// The command line of one playbook, as Packer writes it.
    fn command(&self, playbook: &str, inventory: &str) -> String {
        let context = self.context;
        let mut variables =
            format!("packer_build_name={} packer_builder_type={}", word(&context.build_name), context.builder_kind);
        let address = context.facts.build.as_ref().and_then(|facts| facts.get("PackerHTTPAddr"));
        if let Some(address) = address.filter(|address| !address.is_empty() && !address.starts_with("ERR_")) {
            variables.push_str(&format!(" packer_http_addr={address}"));
        }
        if let Some(directory) = &context.secrets {
            variables.push_str(&format!(" kiln_secrets={directory}"));
        }
        let command = self.config.command.as_deref().unwrap_or(COMMAND);
        let extra = self.config.extra_arguments.join(" ");
        format!(
            "cd {} && {command} {} --extra-vars {} {extra} -c local -i {}",
            word(&self.staging),
            word(playbook),
            quote(&variables),
            word(inventory)
        )
    }

    /// Runs a command line in the machine's shell. What is secret in it travels beside it.
    async fn run(&self, what: &str, line: &str) -> Result<(), Failure> {
        let command = match hidden(line, &self.context.redactor) {
            Some((line, variable)) => Command { environment: vec![variable], ..Command::shell(line) },
            None => Command::shell(line),
        };
        let mut sink = LineSink::new(self.context.events.clone());
        let status = self.communicator().exec(&command, &mut sink).await;
        sink.finish();
        let status = status.map_err(|source| Failure::build(LocalError::Run { what: what.to_owned(), source }))?;
        if status.is_success() {
            return Ok(());
        }
        let lines = clean_tail(&sink, &self.context.redactor);
        let what = self.context.redactor.redact(what).into_owned();
        let failure = Failure::build(LocalError::Failed { what, status, lines });
        Err(match status.code() {
            127 => failure.hint("is Ansible installed on the machine? A step before this one may install it"),
            _ => failure,
        })
    }

    async fn clean(&self) -> Result<(), Failure> {
        let command = Command::new(["rm", "-rf", &self.staging]);
        let removed = self.communicator().exec(&command, &mut NullSink).await;
        match removed {
            Ok(status) if status.is_success() => Ok(()),
            Ok(status) => {
                let what = format!("removing {}", self.staging);
                Err(Failure::build(LocalError::Failed { what, status, lines: Vec::new() }))
            }
            Err(source) => Err(Failure::build(LocalError::Run { what: format!("rm of {}", self.staging), source })),
        }
    }

    fn communicator(&self) -> &dyn Communicator {
        self.machine.communicator()
    }

    fn inside(&self, name: &str) -> String {
        format!("{}/{name}", self.staging)
    }

    async fn upload_file(&self, path: &str, to: &str) -> Result<(), Failure> {
        self.upload(&format!("`{path}`"), &Payload::File { path: path.into(), mode: None }, to).await
    }

    async fn upload_content(&self, path: &str, to: &str) -> Result<(), Failure> {
        let payload = Payload::Directory { path: path.into(), contents_only: true };
        self.upload(&format!("`{path}`"), &payload, to).await
    }

    async fn upload(&self, what: &str, payload: &Payload, to: &str) -> Result<(), Failure> {
        let sent = self.communicator().upload(payload, to).await;
        sent.map_err(|source| {
            let (path, to) = (what.trim_matches('`').to_owned(), to.to_owned());
            Failure::build(LocalError::Upload { path, to, source })
        })
    }
}

/// The generated inventory.
fn inventory_text(groups: &[String]) -> String {
    if groups.is_empty() {
        return "127.0.0.1\n".to_owned();
    }
    groups.iter().map(|group| format!("[{group}]\n127.0.0.1\n")).collect()
}

/// The path of a file relative to a directory that it lies in.
fn below(directory: &str, file: &str) -> Option<String> {
    let directory = std::path::absolute(directory).ok()?;
    let file = std::path::absolute(file).ok()?;
    file.strip_prefix(directory).ok().map(|inner| inner.display().to_string())
}

fn base(path: &str) -> String {
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path).to_owned()
}

/// A word for the shell, quoted only where it must be.
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@%+,=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) { text.to_owned() } else { quote(text) }
}
