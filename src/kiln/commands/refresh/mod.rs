//! `kiln refresh`: the images that compose and DDEV projects of a directory use, built anew, and their services restarted.

mod checks;
mod choice;
mod hint;
mod template;
mod tools;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use kiln_compose::{Because, Found, Project, ReadOptions, Used};
use kiln_core::{Failure, FailureClass, Redactor};
use kiln_docker::{BollardEngine, Engine};
use kiln_engine::RunSettings;
use kiln_registry::{CredentialSources, Reference};
use serde_json::json;

use super::load::Wanted;
use super::prepared::{self, Stage};
use super::{build, stores};
use crate::args::{RefreshArgs, StepCacheArgs};
use crate::error::CliError;
use crate::settings::Settings;
use crate::ui::{self, Format};
use choice::Choice;
pub(super) use hint::{hint, offers};
use tools::Restart;

/// Finds, builds or pulls, and restarts.
pub(crate) async fn run(arguments: &RefreshArgs, settings: &Settings) -> Result<u8, CliError> {
    let format = match (arguments.json, settings.machine_readable) {
        (true, _) => Format::Json,
        (_, true) => Format::MachineReadable,
        _ => Format::Human { timestamps: false },
    };
    match refresh(arguments, format, settings).await {
        Err(CliError::Failure(failure)) => {
            ui::show_failure(format, &failure, settings);
            Err(CliError::Reported(failure.class))
        }
        other => other,
    }
}

async fn refresh(arguments: &RefreshArgs, format: Format, settings: &Settings) -> Result<u8, CliError> {
    let found = consumers(arguments, format, settings).await?;
    let template = template::find(arguments, settings)?;
    let template_args = arguments.template_args(template.clone());
    let wanted = Wanted { no_push: true, ..Wanted::default() };
    let mut choice = Choice::default();
    let builds = !arguments.pull && !arguments.print;
    let ready = prepared::ready_with(&template_args, wanted, false, settings, format, |plan, kinds, sources| {
        choice = Choice::make(plan, kinds, sources, &found.projects);
        choice.narrow(plan, builds);
    })
    .await?;
    let session = Session { arguments, format, settings, found: &found, redactor: &ready.redactor };
    session.tell(&choice, &template);
    if choice.used.iter().all(Vec::is_empty) {
        return Ok(0);
    }
    if arguments.print {
        return session.print(&choice).await;
    }
    let stage = Stage::set(format, matches!(format, Format::Human { .. }), &ready.redactor, settings);
    let mut code = 0;
    let mut failed: BTreeSet<String> = BTreeSet::new();
    if arguments.pull {
        session.pull(&choice).await?;
    } else {
        let steps = StepCacheArgs { no_cache: arguments.no_cache, ..StepCacheArgs::default() };
        let cache = prepared::cache_policy(&template_args, &steps, settings, format);
        let run_settings = RunSettings { ..prepared::run_settings(&template_args, cache, settings).await };
        let report = kiln_engine::run(ready.run, run_settings, stage.surroundings(&ready.kinds, &ready.redactor)).await;
        failed.extend(
            report.builds.iter().filter(|build| !build.failures.is_empty()).map(|build| build.name.to_string()),
        );
        code = report.exit_code();
        // Services come after all that the builds said.
        stage.reporter.finish();
        if matches!(format, Format::Human { .. }) {
            ui::show_text(&ready.redactor.redact(&build::closing(&report, stage.screen.width())));
        }
        stores::start_tidying(settings);
        if report.is_interrupted {
            stage.close();
            return Ok(code);
        }
    }
    let restarted = session.restart(&choice, &failed, &stage).await;
    stage.close();
    Ok(if code == 0 { restarted? } else { code })
}

/// The projects of the directory.
async fn consumers(arguments: &RefreshArgs, format: Format, settings: &Settings) -> Result<Found, CliError> {
    let directory = settings.working_dir.join(&arguments.directory);
    if !directory.is_dir() {
        let failure = Failure::new(FailureClass::Usage, format!("{} is no directory", arguments.directory.display()));
        return Err(failure
            .hint("DIR is the project that uses the images; the template is named by `-template`")
            .into());
    }
    let options = ReadOptions {
        // As it was written, for messages.
        directory: arguments.directory.clone(),
        files: arguments.file.clone(),
        project_name: arguments.project_name.clone(),
        environment: settings.environment.clone(),
    };
    let found = tokio::task::spawn_blocking(move || kiln_compose::read(&options)).await;
    let found = found.map_err(|error| Failure::new(FailureClass::Bug, error))?;
    let redactor = Redactor::new();
    ui::show_findings(format, &found.diagnostics, &found.sources, &redactor, settings, "compose files");
    if found.diagnostics.has_errors() {
        return Err(CliError::Reported(FailureClass::Template));
    }
    if found.projects.is_empty() {
        let title = format!("there is neither a compose file nor a DDEV project in {}", arguments.directory.display());
        let hint = "name the directory, or a compose file by `-f`";
        return Err(Failure::new(FailureClass::Usage, title).hint(hint).into());
    }
    Ok(found)
}

/// What a refresh goes by.
struct Session<'a> {
    arguments: &'a RefreshArgs,
    format: Format,
    settings: &'a Settings,
    found: &'a Found,
    redactor: &'a Arc<Redactor>,
}

/// A service that uses something, with all that it uses.
struct Concerned<'a> {
    project: &'a Project,
    service: usize,
    uses: Vec<&'a Used>,
}

impl Session<'_> {
    fn engine(&self) -> Result<BollardEngine, Failure> {
        Ok(BollardEngine::connect(None, &self.settings.environment)?)
    }

    fn say(&self, text: &str) {
        ui::show_message(self.format, &self.redactor.redact(text));
    }

    fn warn(&self, text: &str) {
        let text = self.redactor.redact(text);
        match self.format {
            Format::Json => ui::show_event(self.format, "warning", json!({ "text": text })),
            _ => ui::show_message(self.format, &format!("warning: {text}")),
        }
    }

    /// `FILE:LINE` of a place in a compose file.
    fn place(&self, span: kiln_core::Span) -> String {
        let (line, _) = self.found.sources.line_column(span);
        let name = self.found.sources.get(span.source).map_or("", |file| file.name.as_str());
        format!("{name}:{line}")
    }

    /// What was found, and what nearly was.
    fn tell(&self, choice: &Choice, template: &Path) {
        for (project, used) in self.found.projects.iter().zip(&choice.used) {
            for used in used {
                let service = &project.services[used.service].name;
                let (name, place) = (familiar(&used.name), self.place(used.span));
                let how = if used.is_base { "is built upon" } else { "uses" };
                self.say(&format!("{service} ({place}) {how} {name}, which {} makes", used.build));
            }
        }
        for (project, near) in self.found.projects.iter().zip(&choice.near) {
            for near in near {
                let service = &project.services[near.service].name;
                let offered: Vec<String> = near.offered.iter().map(|name| familiar(name)).collect();
                let place = self.place(near.span);
                self.warn(&match near.because {
                    Because::Pinned => {
                        format!("{service} ({place}) is pinned to {}: no local image takes its place", near.written)
                    }
                    Because::OtherTag => format!(
                        "{service} ({place}) uses {}, and the template makes {}; it is left as it is",
                        near.written,
                        offered.join(", ")
                    ),
                    Because::BuiltThere => format!(
                        "{service} ({place}) has a `build` of its own for {}, which the template makes too: whichever was \
                         built last has the name. It is left as it is; without its `build` it uses the template's",
                        near.written
                    ),
                });
            }
        }
        if choice.used.iter().all(Vec::is_empty) {
            let made = if choice.offers.is_empty() { "names no image" } else { "makes other images" };
            self.say(&format!(
                "nothing to refresh: no service in {} uses an image of {}, which {made}",
                self.arguments.directory.display(),
                template.display()
            ));
            for offer in choice.offers.iter().filter(|offer| !offer.names.is_empty()) {
                let names: Vec<String> = offer.names.iter().map(|name| familiar(name)).collect();
                self.say(&format!("  {} makes {}", offer.build, names.join(", ")));
            }
        }
    }

    fn concerned<'c>(&'c self, choice: &'c Choice) -> Vec<Concerned<'c>> {
        let mut all: Vec<Concerned<'c>> = Vec::new();
        for (project, used) in self.found.projects.iter().zip(&choice.used) {
            let mut by_service: BTreeMap<usize, Vec<&Used>> = BTreeMap::new();
            used.iter().for_each(|used| by_service.entry(used.service).or_default().push(used));
            all.extend(by_service.into_iter().map(|(service, uses)| Concerned { project, service, uses }));
        }
        all
    }

    /// Prints what would be run, as data.
    async fn print(&self, choice: &Choice) -> Result<u8, CliError> {
        for project in &self.found.projects {
            let services: Vec<usize> =
                self.concerned(choice).iter().filter(|one| one.project == project).map(|one| one.service).collect();
            if services.is_empty() {
                continue;
            }
            let restart = Restart::of(project, &services, self.arguments);
            let command = restart.shown(tools::found(project.tool, self.settings).await.as_ref());
            let names: Vec<&str> = services.iter().map(|index| project.services[*index].name.as_str()).collect();
            match self.format {
                Format::Human { .. } => ui::show_data(&format!("{command}\n")),
                _ => self.tell_services(project, &names, "printed", Some(&command)),
            }
        }
        Ok(0)
    }

    fn tell_services(&self, project: &Project, services: &[&str], state: &str, command: Option<&str>) {
        if self.format != Format::Json {
            return;
        }
        for service in services {
            let data = json!({ "project": project.name, "service": service, "state": state, "command": command });
            ui::show_event(self.format, "service", data);
        }
    }

    /// Brings the published images here.
    async fn pull(&self, choice: &Choice) -> Result<(), Failure> {
        let engine = self.engine()?;
        let home = self.settings.home.as_deref();
        let mut sources = CredentialSources::usual(self.settings.environment.clone(), home);
        sources.amazon = self.settings.aws.registries();
        let mut seen = BTreeSet::new();
        for one in self.concerned(choice) {
            let platform = one.project.services[one.service].platform.as_ref().map(|platform| platform.text.clone());
            for used in one.uses {
                let name = familiar(&used.name);
                if !seen.insert((name.clone(), platform.clone())) {
                    continue;
                }
                let registry = Reference::parse(&used.name).map(|reference| reference.name()).unwrap_or_default();
                let login = sources.find(&registry).await.map_err(Failure::environment)?;
                self.say(&format!("pulling {name}"));
                let credentials = login.as_ref().map(|found| &found.credentials);
                engine.pull(&name, platform.as_deref(), credentials, &|_| {}).await?;
            }
        }
        Ok(())
    }

    /// Restarts what runs with an older image.
    async fn restart(&self, choice: &Choice, failed: &BTreeSet<String>, stage: &Stage) -> Result<u8, CliError> {
        let engine = self.engine()?;
        let mut stale: Vec<Concerned<'_>> = Vec::new();
        for one in self.concerned(choice) {
            let service = &one.project.services[one.service];
            let name = service.name.as_str();
            if let Some(used) = one.uses.iter().find(|used| failed.contains(&used.build)) {
                self.say(&format!("{name}: left as it is, as {} failed", used.build));
                self.tell_services(one.project, &[name], "left", None);
                continue;
            }
            for text in checks::warnings(&engine, &one, self.arguments).await? {
                self.warn(&format!("{name}: {text}"));
            }
            let containers = checks::containers(&engine, &one).await?;
            let state = checks::state(&engine, &one, &containers).await?;
            if state != checks::State::Same {
                for text in checks::volumes(&engine, &one, &containers, self.arguments, self.settings).await? {
                    self.warn(&format!("{name}: {text}"));
                }
            }
            match state {
                checks::State::Same => {
                    self.say(&format!("{name}: runs with this very image; it is not restarted"));
                    self.tell_services(one.project, &[name], "unchanged", None);
                }
                checks::State::Absent if service.is_off => {
                    self.say(&format!("{name}: does not run, and its profile is not on; it takes the new image then"));
                    self.tell_services(one.project, &[name], "not-running", None);
                }
                checks::State::Absent if !self.arguments.start => {
                    self.say(&format!("{name}: does not run; it takes the new image when it is started"));
                    self.tell_services(one.project, &[name], "not-running", None);
                }
                checks::State::Absent | checks::State::Stale => stale.push(one),
            }
        }
        let mut code = 0;
        for project in &self.found.projects {
            let services: Vec<usize> =
                stale.iter().filter(|one| one.project == project).map(|one| one.service).collect();
            if !services.is_empty() && !self.restart_project(project, &services, stage).await? {
                code = FailureClass::Build.exit_code();
            }
        }
        Ok(code)
    }

    /// Whether it went well; a tool that is not there is no failure.
    async fn restart_project(&self, project: &Project, services: &[usize], stage: &Stage) -> Result<bool, CliError> {
        let restart = Restart::of(project, services, self.arguments);
        let names: Vec<&str> = services.iter().map(|index| project.services[*index].name.as_str()).collect();
        let tool = tools::found(project.tool, self.settings).await;
        let command = restart.shown(tool.as_ref());
        let Some(tool) = tool else {
            let missing = tools::missing(project.tool);
            self.say(&format!("{}: {missing}; to restart: {command}", names.join(", ")));
            self.tell_services(project, &names, "left", Some(&command));
            return Ok(true);
        };
        self.say(&format!("restarting {}: {command}", names.join(", ")));
        match restart.run(&tool, self.settings, stage.cancelled()).await {
            Ok(()) => {
                self.tell_services(project, &names, "restarted", Some(&command));
                for text in restart.advice(self.arguments) {
                    self.say(&text);
                }
                Ok(true)
            }
            Err(failure) if failure.is_cancelled() => Err(CliError::Reported(failure.class)),
            Err(failure) => {
                ui::show_failure(self.format, &failure, self.settings);
                self.tell_services(project, &names, "failed", Some(&command));
                Ok(false)
            }
        }
    }
}

/// A full name as people write it.
fn familiar(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.to_string())
}
