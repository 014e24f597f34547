//! After a build: whether a project around the template uses what was built.

use std::path::{Path, PathBuf};

use kiln_compose::{Offer, ReadOptions};
use kiln_engine::PreparedRun;

use super::template;
use crate::settings::Settings;

/// What builds give to their images, by build.
pub(in crate::commands) fn offers(run: &PreparedRun) -> Vec<Offer> {
    let offer =
        |build: &kiln_engine::PreparedBuild| Offer { build: build.name.to_string(), names: build.image_names(false) };
    run.builds.iter().map(offer).collect()
}

/// Which services `kiln refresh` would bring the images of these builds to; `None` where no compose or DDEV project in the
/// template's directory, or in one above it, uses them. What is wrong in such files is not this command's affair.
pub(in crate::commands) fn hint(offers: &[Offer], template: &Path, settings: &Settings) -> Option<String> {
    if offers.iter().all(|offer| offer.names.is_empty()) {
        return None;
    }
    let template = settings.working_dir.join(template).canonicalize().ok()?;
    let beside = if template.is_dir() { template.as_path() } else { template.parent()? };
    let home = settings.home.as_deref().and_then(|home| home.canonicalize().ok());
    for directory in beside.ancestors() {
        let services = services(directory, offers, settings);
        if !services.is_empty() {
            let command = command(directory, &template, settings);
            return Some(format!("`{command}` would restart {} with what was built", services.join(", ")));
        }
        // What lies above a repository, or above the user's files, is another matter.
        if directory.join(".git").exists() || home.as_deref() == Some(directory) {
            break;
        }
    }
    None
}

/// Services of a directory's projects that use an offer, as `NAME (FILE)`.
fn services(directory: &Path, offers: &[Offer], settings: &Settings) -> Vec<String> {
    let options = ReadOptions { environment: settings.environment.clone(), ..ReadOptions::new(directory) };
    let found = kiln_compose::read(&options);
    let mut services = Vec::new();
    for project in &found.projects {
        for used in project.matches(offers).used {
            let file = found.sources.get(used.span.source).map(|file| Path::new(&file.name));
            let file = file.and_then(Path::file_name).unwrap_or_default().to_string_lossy();
            let service = format!("{} ({file})", project.services[used.service].name);
            if !services.contains(&service) {
                services.push(service);
            }
        }
    }
    services
}

/// `kiln refresh` as it would be typed here.
fn command(directory: &Path, template: &Path, settings: &Settings) -> String {
    let here = settings.working_dir.canonicalize().unwrap_or_else(|_| settings.working_dir.clone());
    let mut command = "kiln refresh".to_owned();
    let own = |found: PathBuf| found.canonicalize().is_ok_and(|found| found == template);
    if !template::usual(directory).is_some_and(own) {
        command.push_str(&format!(
            " -template {}",
            super::tools::quoted(&relative(template, &here).display().to_string())
        ));
    }
    if directory != here {
        command.push_str(&format!(" {}", super::tools::quoted(&relative(directory, &here).display().to_string())));
    }
    command
}

/// A path from a directory on, where it lies in that or in one above it.
fn relative(path: &Path, from: &Path) -> PathBuf {
    let above = from.ancestors().position(|above| path.starts_with(above) && above.parent().is_some());
    let Some((up, rest)) = above.and_then(|up| Some((up, path.strip_prefix(from.ancestors().nth(up)?).ok()?))) else {
        return path.to_owned();
    };
    // An empty rest would leave a slash at the end.
    let rest = Some(rest).filter(|rest| !rest.as_os_str().is_empty());
    let whole: PathBuf = std::iter::repeat_n(Path::new(".."), up).chain(rest).collect();
    if whole.as_os_str().is_empty() { PathBuf::from(".") } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_start_here() {
        let shown = |path: &str| relative(Path::new(path), Path::new("/home/a/shop")).display().to_string();
        assert_eq!(shown("/home/a/shop"), ".");
        assert_eq!(shown("/home/a/shop/images"), "images");
        assert_eq!(shown("/home/a"), "..");
        assert_eq!(shown("/home/a/other/x.pkr.hcl"), "../other/x.pkr.hcl");
        assert_eq!(shown("/srv/x"), "/srv/x", "nothing in common");
    }
}
