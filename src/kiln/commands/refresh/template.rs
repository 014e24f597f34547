//! The template that makes the images of a project.

use std::path::{Path, PathBuf};

use kiln_core::{Failure, FailureClass};

use crate::args::RefreshArgs;
use crate::settings::Settings;

/// Where it is looked for in the project's directory.
const PLACES: [&str; 5] = [".", "kiln", "images", "packer", ".ddev/kiln"];

/// What files of a template are called. A legacy template may be any `.json`, and is to be named.
const ENDINGS: [&str; 3] = [".pkr.hcl", ".kiln.hcl", ".pkr.json"];

/// The one that was named, or the first that is there.
pub(super) fn find(arguments: &RefreshArgs, settings: &Settings) -> Result<PathBuf, Failure> {
    if let Some(template) = &arguments.template {
        return Ok(template.clone());
    }
    let places = PLACES.map(|place| match place {
        "." => arguments.directory.clone(),
        _ => arguments.directory.join(place),
    });
    let found = places.into_iter().find(|place| has_template(&settings.working_dir.join(place)));
    found.ok_or_else(|| {
        let title = format!("there is no template in {}", arguments.directory.display());
        Failure::new(FailureClass::Usage, title)
            .hint(format!("it is looked for in {}; name another one by `-template`", PLACES.join(", ")))
    })
}

fn has_template(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.into_iter().any(|name| ENDINGS.iter().any(|ending| name.ends_with(ending)))
}
