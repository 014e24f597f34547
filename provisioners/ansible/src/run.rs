//! A playbook that is ready to run, and running it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use kiln_core::lines::LineSink;
use kiln_core::{BuildContext, ExitStatus, Failure, Machine, Provisioner, SshAccess};
use kiln_transport::script::clean_tail;

use crate::configuration::{Configuration, expand};
use crate::error::AnsibleError;
use crate::inventory::{ALIAS, Target};
use crate::native::Control;
use crate::prepare::Config;
use crate::process::Program;
use crate::results::{Results, TaskFailure};
use crate::service::Service;
use crate::workspace::Workspace;
use crate::{AnsibleSettings, arguments, galaxy, inputs, inventory, native, program};

/// A configured `ansible`.
#[derive(Debug)]
pub(crate) struct Playbook {
    pub(crate) config: Config,
    /// `ansible_env_vars`.
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) settings: AnsibleSettings,
}

#[async_trait]
impl Provisioner for Playbook {
    fn title(&self) -> String {
        self.config.playbook_file.clone()
    }

    fn input_files(&self) -> Vec<PathBuf> {
        let config = &self.config;
        let working_dir = std::env::current_dir().unwrap_or_default();
        let configuration = self.configuration(&working_dir);
        let mut more: Vec<PathBuf> = [&config.galaxy_file, &config.inventory_file, &config.inventory_directory]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        // What is installed there by the step itself is named by the file that asks for it.
        if config.galaxy_file.is_none() {
            more.extend(config.roles_path.iter().chain(&config.collections_path).cloned());
        }
        more.extend(configuration.path().map(Path::to_owned));
        for (key, variable) in [("roles_path", "ANSIBLE_ROLES_PATH"), ("library", "ANSIBLE_LIBRARY")] {
            let named = self.variable(variable).map(|value| value.split(':').map(PathBuf::from).collect());
            let paths = named.or_else(|| configuration.paths(key, self.settings.home.as_deref()));
            // What is installed for all users of this host is Ansible's own surroundings.
            more.extend(paths.into_iter().flatten().filter(|path| working_dir.join(path).starts_with(&working_dir)));
        }
        more.extend(config.extra_arguments.iter().filter_map(|argument| {
            let (_, path) =
                argument.split_once('@').filter(|(option, _)| option.is_empty() || option.starts_with('-'))?;
            Some(PathBuf::from(path))
        }));
        let command = config.command.as_deref().unwrap_or(program::PLAYBOOK);
        if let Some(found) = program::find(command, &self.search_path()) {
            more.push(program::version_file(&found));
        }
        inputs::of(Path::new(&config.playbook_file), more, &working_dir)
    }

    fn path_arguments(&self) -> &'static [&'static str] {
        &["playbook_file", "galaxy_file", "inventory_file", "inventory_directory"]
    }

    async fn provision(&self, machine: &dyn Machine, context: &BuildContext) -> Result<(), Failure> {
        let command = self.config.command.as_deref().unwrap_or(program::PLAYBOOK);
        let path = program::find(command, &self.search_path()).ok_or_else(|| {
            Failure::environment(AnsibleError::Missing(command.to_owned()))
                .hint("install Ansible, for example `pip install ansible-core`, or name its program with `command`")
        })?;
        let workspace = Workspace::create(&context.scratch)?;
        let access = machine.communicator().ssh_access();
        let access = context.unless_cancelled(access).await?;
        let access = access.map_err(|source| Failure::build(AnsibleError::Access(source)))?;
        // Ansible's own connection needs another program to type a password; the communicator does not.
        let access = access.filter(|access| access.password.is_none());
        let control = access.as_ref().and_then(|_| Control::open(workspace.path("control")));
        let run = Run { playbook: self, machine, context, access, control, workspace };
        run.all(command, path).await
    }
}

impl Playbook {
    fn variable(&self, name: &str) -> Option<&str> {
        let given = self.environment.iter().rev().find(|(given, _)| given == name).map(|(_, value)| value.as_str());
        given.or_else(|| self.settings.environment.get(name)).filter(|value| !value.is_empty())
    }

    fn search_path(&self) -> String {
        program::search_path(&self.environment, &self.settings)
    }

    fn configuration(&self, working_dir: &Path) -> Configuration {
        Configuration::find(self.variable("ANSIBLE_CONFIG"), working_dir, self.settings.home.as_deref())
    }
}

/// One run of a playbook.
struct Run<'a> {
    playbook: &'a Playbook,
    machine: &'a dyn Machine,
    context: &'a BuildContext,
    /// How OpenSSH reaches the machine; `None` where kiln does.
    access: Option<SshAccess>,
    /// Where OpenSSH's shared connections are.
    control: Option<Control>,
    workspace: Workspace,
}

impl Run<'_> {
    async fn all(&self, command: &str, path: PathBuf) -> Result<(), Failure> {
        let config = &self.playbook.config;
        let service = Service::open(&self.workspace.path("")).map_err(|source| {
            Failure::environment(AnsibleError::Write { path: self.workspace.path("socket"), source })
        })?;
        let mut arguments = arguments::extra(&config.extra_arguments, &self.workspace, self.context)?;
        let environment = self.environment(&service, &mut arguments);
        if let Some(file) = &config.galaxy_file {
            galaxy::install(config, file, &self.playbook.search_path(), &environment, self.context).await?;
        }
        let arguments = self.arguments(arguments)?;
        let program = Program { path, arguments, environment };
        let results = Results::new(self.context.events.clone());
        let mut sink = LineSink::new(self.context.events.clone());
        let ended = program.run(self.context, &mut sink, service.serve(self.machine.communicator(), &results)).await;
        if let Some(control) = &self.control {
            control.end().await;
        }
        self.check(command, ended?, &results, &sink)
    }

    /// All arguments, in Packer's order.
    fn arguments(&self, extra: Vec<String>) -> Result<Vec<String>, Failure> {
        let config = &self.playbook.config;
        let mut arguments = Vec::new();
        for variable in arguments::build_variables(self.context) {
            arguments.extend(["-e".to_owned(), variable]);
        }
        if self.access.is_some() && !config.ansible_ssh_extra_args.is_empty() {
            arguments.push(format!("--ssh-extra-args={}", config.ansible_ssh_extra_args.join(" ")));
        }
        arguments.extend(extra);
        if let Some(key) = self.access.as_ref().and_then(|access| access.identity_file.as_ref()) {
            arguments.extend(["-e".to_owned(), format!("ansible_ssh_private_key_file={}", key.display())]);
        }
        let inventory = match &config.inventory_file {
            Some(file) => file.clone(),
            None => {
                let name = format!("kiln-inventory-{}", uuid::Uuid::new_v4().simple());
                let text = inventory::text(config, &self.target(), self.context)?;
                let path = inventory::write(config, &text, &self.workspace, &name)?;
                if config.keep_inventory_file {
                    self.context.events.message(format!("the inventory is kept: {}", path.display()));
                }
                path
            }
        };
        arguments.extend(["-i".to_owned(), inventory.display().to_string()]);
        let playbook = std::path::absolute(&config.playbook_file).map_err(|source| {
            Failure::build(AnsibleError::Read { path: config.playbook_file.clone().into(), source })
        })?;
        arguments.push(playbook.display().to_string());
        Ok(arguments)
    }

    fn target(&self) -> Target {
        let config = &self.playbook.config;
        match &self.access {
            Some(access) => Target {
                host: access.host.clone(),
                port: access.port,
                user: config.user.clone().unwrap_or_else(|| access.user.clone()),
            },
            None => {
                let facts = self.machine.facts();
                Target::through_kiln(config.user.clone().unwrap_or_else(|| inventory::user_of(facts.get("User"))))
            }
        }
    }

    /// The environment of Ansible, on top of kiln's own. What the template sets wins, but for what keeps the machine
    /// apart from other hosts.
    fn environment(&self, service: &Service, arguments: &mut [String]) -> Vec<(OsString, OsString)> {
        let mut environment = Environment { playbook: self.playbook, set: Vec::new() };
        let working_dir = std::env::current_dir().unwrap_or_default();
        let configuration = self.playbook.configuration(&working_dir);
        let alias = self.playbook.config.host_alias.as_deref().unwrap_or(ALIAS);
        environment.unless_set("PYTHONUNBUFFERED", "1");
        // Compiled plug-ins would be new files in directories that the step's key is made of.
        environment.unless_set("PYTHONDONTWRITEBYTECODE", "1");
        if self.playbook.settings.color && self.playbook.variable("ANSIBLE_NOCOLOR").is_none() {
            environment.unless_set("ANSIBLE_FORCE_COLOR", "1");
        }
        environment.path_first("ANSIBLE_CALLBACK_PLUGINS", &self.workspace.path("callback"), &configuration);
        let config = &self.playbook.config;
        for (name, path) in
            [("ANSIBLE_ROLES_PATH", &config.roles_path), ("ANSIBLE_COLLECTIONS_PATH", &config.collections_path)]
        {
            if let Some(path) = path {
                environment.path_first(name, &working_dir.join(path), &configuration);
            }
        }
        environment.give("ANSIBLE_LOCAL_TEMP", self.workspace.path("tmp"));
        environment.give("KILN_ANSIBLE_SOCKET", service.path());
        environment.give("KILN_ANSIBLE_HOST", alias);
        match &self.access {
            Some(access) => self.reach_by_ssh(&mut environment, access, arguments, &configuration),
            None => {
                environment.path_first(
                    "ANSIBLE_CONNECTION_PLUGINS",
                    &self.workspace.path("connection"),
                    &configuration,
                );
                environment.unless_given("ANSIBLE_TRANSPORT", "kiln");
            }
        }
        environment.finish()
    }

    fn reach_by_ssh(
        &self,
        environment: &mut Environment<'_>,
        access: &SshAccess,
        arguments: &mut [String],
        configuration: &Configuration,
    ) {
        let mut common = native::common_arguments(access);
        let config = &self.playbook.config;
        // Where the template does not choose to log in as another user, `user` is only told to the playbook.
        if config.use_proxy != Some(false) && config.user.as_ref().is_some_and(|user| *user != access.user) {
            common = format!("{common} -o User={}", access.user);
        }
        if !native::merge_common(arguments, &common) {
            let theirs = self.playbook.variable("ANSIBLE_SSH_COMMON_ARGS").unwrap_or_default();
            environment.give("ANSIBLE_SSH_COMMON_ARGS", format!("{common} {theirs}").trim_end());
        }
        // Otherwise Ansible would tell `ssh` not to look at the host's key, before it comes to our options.
        environment.give("ANSIBLE_HOST_KEY_CHECKING", "True");
        let sections = ["ssh_connection", "connection", "defaults"];
        if sections.iter().all(|section| configuration.get(section, "pipelining").is_none()) {
            environment.unless_set("ANSIBLE_PIPELINING", "True");
        }
        environment.give("ANSIBLE_SSH_CONTROL_PATH_DIR", self.workspace.path("control"));
        if let Some(control) = &self.control {
            environment.give("ANSIBLE_SSH_CONTROL_PATH", control.pattern());
        }
    }

    fn check(&self, command: &str, status: ExitStatus, results: &Results, sink: &LineSink) -> Result<(), Failure> {
        let alias = self.playbook.config.host_alias.as_deref().unwrap_or(ALIAS);
        if status.is_success() {
            if let Some(play) = results.idle_play() {
                self.context.events.warn(format!(
                    "no task ran: play `{play}` names no host that there is; the machine is called `{alias}`, and `groups` \
                     says which groups it is in"
                ));
            }
            return Ok(());
        }
        let failures = results.failures();
        let hints = hints(&failures);
        let error = if failures.is_empty() {
            let playbook = self.playbook.config.playbook_file.clone();
            let lines = clean_tail(sink, &self.context.redactor);
            AnsibleError::Playbook { program: command.to_owned(), playbook, status, lines }
        } else {
            AnsibleError::Tasks { failures: failures.into_iter().map(|failure| self.clean(failure)).collect() }
        };
        Err(hints.into_iter().fold(Failure::build(error), Failure::hint))
    }

    fn clean(&self, failure: TaskFailure) -> TaskFailure {
        let redactor = &self.context.redactor;
        TaskFailure {
            play: redactor.redact(&failure.play).into_owned(),
            task: redactor.redact(&failure.task).into_owned(),
            message: redactor.redact(&failure.message).into_owned(),
            ..failure
        }
    }
}

/// What may be done about failures that have a known cause.
fn hints(failures: &[TaskFailure]) -> Vec<String> {
    let mut hints = Vec::new();
    let says = |text: &str| failures.iter().any(|failure| failure.message.contains(text));
    if says("Bad port") {
        hints.push(
            "this machine is not reached by SSH: leave `connection: ssh` out of the play and `ansible_connection` out of \
             its variables"
                .to_owned(),
        );
    }
    let lacks_python = says("python: not found")
        || says("python3: not found")
        || says("No python interpreters found")
        || says("interpreter was not found");
    if lacks_python {
        hints.push("Ansible needs Python on the machine: install it in a step before, for example `apt-get install -y python3`".to_owned());
    }
    hints
}

/// Variables for Ansible.
struct Environment<'a> {
    playbook: &'a Playbook,
    set: Vec<(OsString, OsString)>,
}

impl Environment<'_> {
    fn give(&mut self, name: &str, value: impl Into<OsString>) {
        self.set.push((name.into(), value.into()));
    }

    /// Unless the template or the user's environment sets it.
    fn unless_set(&mut self, name: &str, value: &str) {
        if self.playbook.variable(name).is_none() {
            self.give(name, value);
        }
    }

    /// Unless the template sets it.
    fn unless_given(&mut self, name: &str, value: &str) {
        if !self.playbook.environment.iter().any(|(given, _)| given == name) {
            self.give(name, value);
        }
    }

    /// Puts a directory before those that the environment, `ansible.cfg` or Ansible itself names.
    fn path_first(&mut self, name: &str, first: &Path, configuration: &Configuration) {
        let home = self.playbook.settings.home.as_deref();
        let (keys, usual): (&[&str], &[&str]) = match name {
            "ANSIBLE_CALLBACK_PLUGINS" => {
                (&["callback_plugins"], &["~/.ansible/plugins/callback", "/usr/share/ansible/plugins/callback"])
            }
            "ANSIBLE_CONNECTION_PLUGINS" => {
                (&["connection_plugins"], &["~/.ansible/plugins/connection", "/usr/share/ansible/plugins/connection"])
            }
            "ANSIBLE_ROLES_PATH" => {
                (&["roles_path"], &["~/.ansible/roles", "/usr/share/ansible/roles", "/etc/ansible/roles"])
            }
            _ => (
                &["collections_path", "collections_paths"],
                &["~/.ansible/collections", "/usr/share/ansible/collections"],
            ),
        };
        let mut value = first.as_os_str().to_owned();
        if let Some(given) = self.playbook.variable(name) {
            value.push(":");
            value.push(given);
        } else {
            let configured = keys.iter().find_map(|key| configuration.paths(key, home));
            let rest = configured.unwrap_or_else(|| usual.iter().map(|path| expand(path, home)).collect());
            for path in rest {
                value.push(":");
                value.push(path);
            }
        }
        self.give(name, value);
    }

    /// The template's variables first: those that kiln needs replace them.
    fn finish(self) -> Vec<(OsString, OsString)> {
        let given = self.playbook.environment.iter().map(|(name, value)| (name.into(), value.into()));
        given.chain(self.set).collect()
    }
}
