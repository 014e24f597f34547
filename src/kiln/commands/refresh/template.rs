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
    let directory = &arguments.directory;
    let found = places(directory).into_iter().find(|place| has_template(&settings.working_dir.join(place)));
    found.ok_or_else(|| {
        let title = format!("there is no template in {}", arguments.directory.display());
        Failure::new(FailureClass::Usage, title)
            .hint(format!("it is looked for in {}; name another one by `-template`", PLACES.join(", ")))
    })
}

/// The one that is found for an absolute directory when none is named.
pub(super) fn usual(directory: &Path) -> Option<PathBuf> {
    places(directory).into_iter().find(|place| has_template(place))
}

fn places(directory: &Path) -> [PathBuf; 5] {
    PLACES.map(|place| match place {
        "." => directory.to_owned(),
        _ => directory.join(place),
    })
}

fn has_template(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.into_iter().any(|name| ENDINGS.iter().any(|ending| name.ends_with(ending)))
}
