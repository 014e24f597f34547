//! Roles and collections from elsewhere, installed on this host before the playbook runs.

use std::ffi::OsString;
use std::path::Path;

use kiln_core::lines::LineSink;
use kiln_core::{BuildContext, Failure};
use kiln_transport::script::clean_tail;

use crate::error::AnsibleError;
use crate::prepare::Config;
use crate::process::Program;
use crate::program;

/// Runs `ansible-galaxy` for what the file asks for.
pub(crate) async fn install(
    config: &Config,
    file: &Path,
    search: &str,
    environment: &[(OsString, OsString)],
    context: &BuildContext,
) -> Result<(), Failure> {
    let command = config.galaxy_command.as_deref().unwrap_or(program::GALAXY);
    let path = program::find(command, search).ok_or_else(|| {
        Failure::environment(AnsibleError::Missing(command.to_owned()))
            .hint("install Ansible, or name its program with `galaxy_command`")
    })?;
    let text = tokio::fs::read_to_string(file).await;
    let text = text.map_err(|source| Failure::build(AnsibleError::Read { path: file.to_owned(), source }))?;
    for arguments in calls(config, file, &text) {
        context.events.message(format!("{command} {}", arguments.join(" ")));
        let program = Program { path: path.clone(), arguments, environment: environment.to_vec() };
        let mut sink = LineSink::new(context.events.clone());
        let status = program.run(context, &mut sink, std::future::pending()).await?;
        if !status.is_success() {
            let lines = clean_tail(&sink, &context.redactor);
            return Err(Failure::build(AnsibleError::Galaxy { program: command.to_owned(), status, lines }));
        }
    }
    Ok(())
}

/// The calls that a requirements file takes, as Packer makes them: roles, then collections. A file with neither key is a
/// list of roles.
pub(crate) fn calls(config: &Config, file: &Path, text: &str) -> Vec<Vec<String>> {
    let has = |key: &str| text.lines().any(|line| line.starts_with(key));
    let (has_roles, has_collections) = (has("roles:"), has("collections:"));
    let call = |words: &[&str], place: Option<&Path>| {
        let mut arguments: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        arguments.extend(["-r".to_owned(), file.display().to_string()]);
        if config.galaxy_force_install {
            arguments.push("-f".to_owned());
        }
        if config.galaxy_force_with_deps {
            arguments.push("--force-with-deps".to_owned());
        }
        if let Some(place) = place {
            arguments.extend(["-p".to_owned(), place.display().to_string()]);
        }
        arguments
    };
    let mut calls = Vec::new();
    if has_roles || !has_collections {
        calls.push(call(&["install"], config.roles_path.as_deref()));
    }
    if has_collections {
        calls.push(call(&["collection", "install"], config.collections_path.as_deref()));
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_and_collections_are_told_apart() {
        let config = Config {
            roles_path: Some("rp".into()),
            collections_path: Some("cp".into()),
            galaxy_force_install: true,
            ..Config::default()
        };
        let file = Path::new("req.yml");
        let both = calls(&config, file, "roles:\n  - a.b\ncollections:\n  - c.d\n");
        // As packer 1.6.6 called it.
        let roles = ["install", "-r", "req.yml", "-f", "-p", "rp"];
        let collections = ["collection", "install", "-r", "req.yml", "-f", "-p", "cp"];
        assert_eq!(both, [roles.map(str::to_owned).to_vec(), collections.map(str::to_owned).to_vec()]);
        assert_eq!(calls(&config, file, "- src: a.b\n"), [roles.map(str::to_owned).to_vec()]);
        let plain = Config::default();
        assert_eq!(calls(&plain, file, "collections: [c.d]")[0], ["collection", "install", "-r", "req.yml"]);
    }
}
