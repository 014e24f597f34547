//! What was typed. Packer's spelling (`-var-file=x`, `-force=false`) and the usual one (`--var-file x`) both work.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use kiln_engine::ParallelBuilds;

mod cache;
mod console;
mod fix;
mod fmt;
mod graph;
mod plan;
mod refresh;
mod shell;
mod steps;
mod upgrade;

pub(crate) use cache::{CacheArgs, CacheCommand, ExplainArgs, ListArgs, PruneArgs};
pub(crate) use console::ConsoleArgs;
pub(crate) use fix::FixArgs;
pub(crate) use fmt::FmtArgs;
pub(crate) use graph::{GraphArgs, GraphFormat};
pub(crate) use plan::PlanArgs;
pub(crate) use refresh::RefreshArgs;
pub(crate) use shell::{ShellArgs, Target};
pub(crate) use steps::{DockerAs, StepCacheArgs};
pub(crate) use upgrade::UpgradeArgs;

/// Bakes machine images from one template.
#[derive(Debug, Parser)]
#[command(
    name = "kiln",
    version,
    about = "Bakes machine images: one template in, container images out",
    long_about = "Bakes machine images. Packer templates (HCL2 and legacy JSON) run unchanged.\n\nOptions may be \
                  written with one dash or two. See the guide in docs/ for templates and options.",
    max_term_width = 100
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Options of all commands")]
pub(crate) struct GlobalArgs {
    /// Colours: auto, always or never (Packer's true and false work too)
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto, num_args = 0..=1, require_equals = true,
          default_missing_value = "always", value_name = "WHEN")]
    pub(crate) color: ColorChoice,
    /// Print Packer's machine-readable lines on standard output
    #[arg(long, global = true, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) machine_readable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    Auto,
    #[value(alias = "true")]
    Always,
    #[value(alias = "false")]
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build images from a template
    Build(BuildArgs),
    /// Show what a build would run, what it would restore, and why
    Plan(PlanArgs),
    /// Show which builds are built upon which
    Graph(GraphArgs),
    /// Build the images that a compose or DDEV project uses, and restart its services
    Refresh(RefreshArgs),
    /// Check a template without building
    Validate(ValidateArgs),
    /// Show what a template holds: variables, builds, steps, post-processors
    Inspect(InspectArgs),
    /// Evaluate expressions with a template's variables
    Console(ConsoleArgs),
    /// Bring HCL2 templates into the usual layout
    Fmt(FmtArgs),
    /// Mend what is out of date in a legacy JSON template
    Fix(FixArgs),
    /// Write a legacy JSON template as HCL2
    #[command(alias = "hcl2_upgrade")]
    Upgrade(UpgradeArgs),
    /// Open a shell in a machine as it is after a step
    Shell(ShellArgs),
    /// Show, explain and clear the cache of steps
    Cache(CacheArgs),
    /// Undo what killed runs left behind
    Cleanup(CleanupArgs),
    /// Check what a template requires; nothing is downloaded, everything is built in
    Init(InitArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the version
    Version(VersionArgs),
}

/// The template and its variables, alike in all commands that read one.
#[derive(Debug, Clone, Args)]
pub(crate) struct TemplateArgs {
    /// Template: a file, a directory, or - for standard input
    #[arg(value_name = "TEMPLATE", default_value = ".")]
    pub(crate) template: PathBuf,
    /// Set a variable
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    pub(crate) var: Vec<(String, String)>,
    /// Read variables from a file (HCL or JSON)
    #[arg(long, value_name = "FILE")]
    pub(crate) var_file: Vec<PathBuf>,
    /// Build only these (comma-separated; HCL2: globs, or a word for a source, a block or a module; JSON: exact names)
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Build all but these; post-processors of that name, and what follows them in their chain, are left out too
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) except: Vec<String>,
    /// Take what the selected builds are built upon as it was built before, instead of building it
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) no_deps: bool,
    /// What the template is, whatever its name
    #[arg(long, value_enum, value_name = "TYPE")]
    pub(crate) config_type: Option<ConfigType>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConfigType {
    Json,
    Hcl2,
}

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    pub(crate) template: TemplateArgs,
    /// Overwrite what an earlier run left: the manifest, checksum files, tags that look as if they never moved; build what is published already
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) force: bool,
    /// Push nothing, and ask for no logins to push with; all else is built, named and kept
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) no_push: bool,
    /// Push without asking, where a `docker-push` has `confirm`
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) yes: bool,
    /// Go step by step: one build at a time, waiting for Enter before each step
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) debug: bool,
    /// What to do when a build fails
    #[arg(long, value_enum, default_value_t = OnError::Cleanup, value_name = "WHAT")]
    pub(crate) on_error: OnError,
    /// How many builds run at the same time, in all or of one builder (`8,docker=2`); 0 = all
    #[arg(long, default_value = "0", value_name = "COUNT", allow_negative_numbers = true)]
    pub(crate) parallel_builds: ParallelBuilds,
    /// Put the time before each line of output
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) timestamp_ui: bool,
    /// Print one JSON event per line on standard output
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) json: bool,
    /// Warn about variables in variable files that the template does not declare
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) warn_on_undeclared_var: bool,
    #[command(flatten)]
    pub(crate) steps: StepCacheArgs,
    #[command(flatten)]
    pub(crate) ignored: IgnoredArgs,
}

/// Packer's options that have nothing to do here; accepted so that scripts run unchanged.
#[derive(Debug, Clone, Args)]
pub(crate) struct IgnoredArgs {
    #[arg(long, hide = true, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    use_sequential_evaluation: Option<bool>,
    #[arg(long, hide = true, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ignore_prerelease_plugins: Option<bool>,
    #[arg(long, hide = true, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    skip_enforcement: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnError {
    /// Remove the machine and all that belongs to it
    Cleanup,
    /// Leave everything as it is
    Abort,
    /// Ask at the terminal: clean up, abort, or retry the step
    Ask,
    /// As abort, but run the error-cleanup-provisioner
    RunCleanupProvisioner,
}

#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    #[command(flatten)]
    pub(crate) template: TemplateArgs,
    /// Check the syntax alone
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) syntax_only: bool,
    /// Do not warn about undeclared variables in variable files
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) no_warn_undeclared_var: bool,
    /// Accept kinds of builders, provisioners and post-processors that kiln does not have
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) allow_unknown_kinds: bool,
    /// Print the findings as JSON on standard output
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) json: bool,
    /// Read data sources, too; without it their values are unknown
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) evaluate_datasources: bool,
    /// Which builder runs `docker` sources; `KILN_DOCKER_AS` says it for all commands
    #[arg(long, value_enum, value_name = "BUILDER")]
    pub(crate) docker_as: Option<DockerAs>,
    #[command(flatten)]
    ignored: IgnoredArgs,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub(crate) template: TemplateArgs,
    /// Print JSON
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    ignored: IgnoredArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CleanupArgs {
    /// Remove images that earlier builds left in the Docker engine and that have lost their names, too
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) images: bool,
    /// With -images: names of these repositories too, but for the newest and `latest` (comma-separated)
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "images")]
    pub(crate) repositories: Vec<String>,
    /// With -repositories: how many of the newest images keep their names in each
    #[arg(long, value_name = "COUNT", default_value_t = 1, requires = "repositories")]
    pub(crate) keep: usize,
    /// With -images: only what was made so long ago (12h, 30d, 4w); a build that runs needs what it has just made
    #[arg(long, value_name = "AGE", value_parser = crate::amount::age, default_value = "24h", requires = "images")]
    pub(crate) older_than: std::time::Duration,
    /// Show what would be undone, and undo nothing
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    pub(crate) template: TemplateArgs,
    /// Packer's option; there is nothing to upgrade
    #[arg(long, hide = true, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    upgrade: Option<bool>,
    /// Packer's option; there is nothing to install
    #[arg(long, hide = true, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    force: Option<bool>,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// bash, zsh, fish, elvish or powershell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Print JSON
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) json: bool,
}

/// `name=value`, split at the first `=`.
fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    if name.trim().is_empty() {
        return Err("the name before `=` is empty".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// What Go's `strconv.ParseBool` takes, as Packer's flags do.
fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

/// Reads the arguments. Help and version come back as errors too, as clap has it. `refuses_color` is what the environment
/// says; clap itself knows `NO_COLOR` and `TERM`.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    refuses_color: bool,
) -> Result<Arguments, clap::Error> {
    let words = with_two_dashes(arguments);
    let mut definition = definition().color(color_choice(&words, refuses_color));
    let matches = definition.try_get_matches_from_mut(words)?;
    Arguments::from_arg_matches(&matches).map_err(|error| error.format(&mut definition))
}

/// A mistake in the arguments is shown before they are understood.
fn color_choice(words: &[OsString], refuses_color: bool) -> clap::ColorChoice {
    match words.iter().rev().find_map(|word| word.to_str()?.strip_prefix("--color")) {
        Some("=false" | "=never") => clap::ColorChoice::Never,
        Some("" | "=true" | "=always") => clap::ColorChoice::Always,
        _ if refuses_color => clap::ColorChoice::Never,
        _ => clap::ColorChoice::Auto,
    }
}

/// The whole command line as clap knows it, for completions.
pub(crate) fn definition() -> clap::Command {
    Arguments::command()
}

/// Go's flag package takes long options behind one dash; clap wants two. Whatever looks like a long option gets its
/// second dash, known or not, so that a misspelt one is told with the nearest name. `-` (standard input), short options,
/// values and all behind `--` stay as they are.
fn with_two_dashes(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let takes_value = options_with_values(&Arguments::command());
    let mut result: Vec<OsString> = Vec::new();
    let mut is_value = false;
    let mut options_end = false;
    for argument in arguments {
        let text = argument.to_str().unwrap_or_default();
        options_end |= text == "--" && !is_value;
        let is_long = text.strip_prefix('-').is_some_and(|rest| {
            rest.chars().count() > 1 && rest.starts_with(|first: char| first.is_ascii_alphabetic())
        });
        let name = text.trim_start_matches('-');
        let replacement = match text {
            _ if is_value || options_end => None,
            // Packer itself prints its version for `-v`.
            "-v" if result.len() == 1 => Some(OsString::from("--version")),
            _ if is_long => Some(OsString::from(format!("-{text}"))),
            _ => None,
        };
        is_value = !is_value && text.starts_with('-') && takes_value.iter().any(|known| known == name);
        result.push(replacement.unwrap_or(argument));
    }
    result
}

/// Options whose value may be the next word; that one is no option then (`-var -x=1`).
fn options_with_values(definition: &clap::Command) -> Vec<String> {
    let mut commands = vec![definition];
    let mut seen = 0;
    while let Some(command) = commands.get(seen) {
        seen += 1;
        commands.extend(command.get_subcommands());
    }
    commands
        .into_iter()
        .flat_map(clap::Command::get_arguments)
        .filter(|argument| argument.get_action().takes_values() && !argument.is_require_equals_set())
        .filter_map(|argument| argument.get_long().map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dashes(line: &str) -> String {
        let words = with_two_dashes(line.split(' ').map(OsString::from));
        words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    fn read<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Arguments, clap::Error> {
        parse(words.into_iter().map(OsString::from), false)
    }

    fn build(line: &str) -> BuildArgs {
        match read(line.split(' ')).unwrap().command {
            Command::Build(arguments) => arguments,
            other => panic!("not a build: {other:?}"),
        }
    }

    #[test]
    fn one_dash_becomes_two_where_the_option_exists() {
        assert_eq!(
            dashes("kiln build -var-file=a -var b=-force -force -"),
            "kiln build --var-file=a --var b=-force --force -"
        );
        assert_eq!(dashes("kiln build -var -force x"), "kiln build --var -force x");
        assert_eq!(dashes("kiln -v"), "kiln --version");
        assert_eq!(dashes("kiln build -- -force"), "kiln build -- -force");
        assert_eq!(dashes("kiln build -var -- -force"), "kiln build --var -- --force");
        assert_eq!(dashes("kiln build -parallel-builds -1 -h -V"), "kiln build --parallel-builds -1 -h -V");
    }

    #[test]
    fn packers_spellings_are_understood() {
        let arguments =
            build("kiln build -force=false -on-error=run-cleanup-provisioner -parallel-builds=-1 -only=a,b x.json");
        assert!(!arguments.force);
        assert_eq!(arguments.on_error, OnError::RunCleanupProvisioner);
        assert_eq!(arguments.template.only, ["a", "b"]);
        assert!(build("kiln build -force x.json").force);
    }

    #[test]
    fn truth_is_spelt_as_in_go() {
        for (line, expected) in [("-force=1", true), ("-force=T", true), ("--force=0", false), ("-debug", false)] {
            assert_eq!(build(&format!("kiln build {line} x.json")).force, expected, "{line}");
        }
        assert!(read(["kiln", "build", "-force=maybe", "x.json"]).is_err());
    }

    #[test]
    fn a_misspelt_option_is_told_with_the_nearest() {
        for (line, nearest) in
            [("-prallel-builds=1", "--parallel-builds"), ("-forc", "--force"), ("-varfile=x", "--var-file")]
        {
            let error = read(["kiln", "build", line, "x.json"]).unwrap_err();
            assert!(error.to_string().contains(nearest), "{error}");
        }
    }

    #[test]
    fn names_add_up_and_options_may_follow_the_template() {
        let arguments = build("kiln build x.json -only=a,b -only c -except push -var p=1 -var=q=2");
        assert_eq!(arguments.template.only, ["a", "b", "c"]);
        assert_eq!(arguments.template.except, ["push"]);
        assert_eq!(arguments.template.var.len(), 2);
    }

    #[test]
    fn a_variable_splits_at_the_first_equals_sign() {
        assert_eq!(build("kiln build -var a=b=c x").template.var, [("a".to_owned(), "b=c".to_owned())]);
        assert!(read("kiln build -var ab x".split(' ')).is_err());
    }

    #[test]
    fn machine_readable_may_stand_anywhere() {
        for line in ["kiln -machine-readable build x", "kiln build -machine-readable x"] {
            assert!(read(line.split(' ')).unwrap().global.machine_readable, "{line}");
        }
    }

    #[test]
    fn colour_is_decided_for_mistakes_too() {
        let choice = |word: &str, refuses_color| color_choice(&[OsString::from(word)], refuses_color);
        assert_eq!(choice("--color=false", false), clap::ColorChoice::Never);
        assert_eq!(choice("--color", true), clap::ColorChoice::Always);
        assert_eq!(choice("bild", true), clap::ColorChoice::Never);
        assert_eq!(choice("bild", false), clap::ColorChoice::Auto);
    }

    #[test]
    fn every_switch_may_be_switched_off() {
        let mut seen = 0;
        for command in definition().get_subcommands() {
            let switches = command.get_arguments().filter(|argument| {
                argument.get_value_names().is_some_and(|names| names.iter().any(|name| name == "BOOL"))
                    || matches!(argument.get_action(), clap::ArgAction::SetTrue)
            });
            for long in switches.filter_map(clap::Arg::get_long) {
                // Some commands want to know what to work on; the others take it, too.
                let target = if command.get_positionals().next().is_some() { "x" } else { "" };
                let line = format!("kiln {} -{long}=false {target}", command.get_name());
                assert!(read(line.split_whitespace()).is_ok(), "{line}");
                seen += 1;
            }
        }
        assert!(seen >= 8, "only {seen} switches found");
    }

    #[test]
    fn the_definition_is_sound() {
        definition().debug_assert();
    }
}
