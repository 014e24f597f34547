//! `kiln refresh`.

use std::path::PathBuf;

use clap::Args;

use super::{ConfigType, TemplateArgs, assignment, go_bool};

#[derive(Debug, Args)]
pub(crate) struct RefreshArgs {
    /// Directory of the compose or DDEV project that uses the images
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) directory: PathBuf,
    /// Template that makes the images; else the one in DIR, or in its directory kiln, images, packer or .ddev/kiln
    #[arg(long, value_name = "PATH")]
    pub(crate) template: Option<PathBuf>,
    /// Set a variable
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    pub(crate) var: Vec<(String, String)>,
    /// Read variables from a file (HCL or JSON)
    #[arg(long, value_name = "FILE")]
    pub(crate) var_file: Vec<PathBuf>,
    /// What the template is, whatever its name
    #[arg(long, value_enum, value_name = "TYPE")]
    pub(crate) config_type: Option<ConfigType>,
    /// Compose file, instead of those that compose finds itself
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Vec<PathBuf>,
    /// Compose's name of the project
    #[arg(short, long, value_name = "NAME")]
    pub(crate) project_name: Option<String>,
    /// Pull the images that were published, instead of building them
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) pull: bool,
    /// Start services that do not run, too
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) start: bool,
    /// Give restarted services new anonymous volumes, without what theirs hold (compose)
    #[arg(short = 'V', long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) renew_anon_volumes: bool,
    /// Do nothing, and print the commands that would be run
    #[arg(long, visible_alias = "dry-run", value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) print: bool,
    /// Run every step of the builds, whatever is kept
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) no_cache: bool,
    /// Print one JSON event per line on standard output
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) json: bool,
}

impl RefreshArgs {
    /// What was said of the template, which lies there.
    pub(crate) fn template_args(&self, template: PathBuf) -> TemplateArgs {
        TemplateArgs {
            template,
            var: self.var.clone(),
            var_file: self.var_file.clone(),
            only: Vec::new(),
            except: Vec::new(),
            no_deps: false,
            config_type: self.config_type,
        }
    }
}
