//! `kiln init`: nothing is downloaded; what a template requires is checked.

use std::io::Write;

use super::load::{self, Wanted};
use crate::args::InitArgs;
use crate::error::{CliError, output_error};
use crate::kinds;
use crate::settings::Settings;
use crate::ui;

/// Plug-ins of Packer whose kinds are built into kiln, and those that it does not have.
const BUILT_IN: &[&str] = &["amazon", "ansible", "docker"];

/// Loads the template (which checks `required_version`) and says which required plug-ins are built in.
pub(crate) fn run(arguments: &InitArgs, settings: &Settings) -> Result<u8, CliError> {
    let wanted = Wanted { allow_unset: true, ..Wanted::default() };
    let loaded = load::load(&arguments.template, wanted, settings)?;
    let redactor = load::redactor(&loaded);
    load::check(&loaded, &redactor, settings)?;
    let mut text = String::new();
    for (name, source, constraint) in loaded.plan.iter().flat_map(|plan| &plan.required_plugins) {
        let plugin = source.rsplit('/').next().unwrap_or(name);
        if BUILT_IN.contains(&plugin) {
            text.push_str(&format!("{name} ({source} {constraint}): built in\n"));
        } else {
            let known = kinds::offline(settings)?.builder_names().join(", ");
            ui::show_text(&format!(
                "warning: {name} ({source}): kiln does not have this plug-in; its builders are: {known}\n"
            ));
        }
    }
    text.push_str("nothing to download: all of kiln's builders, provisioners and post-processors are built in\n");
    std::io::stdout().write_all(text.as_bytes()).map_err(output_error)?;
    Ok(0)
}
