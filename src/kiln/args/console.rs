//! `kiln console`.

use std::path::PathBuf;

use clap::Args;

use super::{ConfigType, IgnoredArgs, TemplateArgs, assignment};

#[derive(Debug, Args)]
pub(crate) struct ConsoleArgs {
    /// Template: a file or a directory; without one there are functions only, and legacy JSON's variables
    #[arg(value_name = "TEMPLATE")]
    pub(crate) template: Option<PathBuf>,
    /// Set a variable
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    var: Vec<(String, String)>,
    /// Read variables from a file (HCL or JSON)
    #[arg(long, value_name = "FILE")]
    var_file: Vec<PathBuf>,
    /// Packer's option; the console evaluates in no build
    #[arg(long, hide = true, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Packer's option; the console evaluates in no build
    #[arg(long, hide = true, value_name = "NAMES", value_delimiter = ',')]
    except: Vec<String>,
    /// The language: of the template, or without one of what is typed (json unless told)
    #[arg(long, value_enum, value_name = "TYPE")]
    pub(crate) config_type: Option<ConfigType>,
    #[command(flatten)]
    ignored: IgnoredArgs,
}

impl ConsoleArgs {
    /// As other commands have them. `template` stands where none was given.
    pub(crate) fn template_arguments(&self, template: &str) -> TemplateArgs {
        TemplateArgs {
            template: self.template.clone().unwrap_or_else(|| PathBuf::from(template)),
            var: self.var.clone(),
            var_file: self.var_file.clone(),
            // Whatever they would leave out, names keep their values.
            only: Vec::new(),
            except: Vec::new(),
            no_deps: false,
            config_type: self.config_type,
        }
    }
}
