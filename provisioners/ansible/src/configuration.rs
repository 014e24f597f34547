//! What `ansible.cfg` says of paths. kiln adds its plug-ins to those that the user has; the environment, by which it does
//! that, replaces what stands in the file, so that the file must be read.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The configuration that Ansible takes in a directory.
#[derive(Debug, Default)]
pub(crate) struct Configuration {
    path: Option<PathBuf>,
    values: BTreeMap<(String, String), String>,
}

impl Configuration {
    /// Looks where Ansible looks: `ANSIBLE_CONFIG`, the working directory (unless all may write there), the home, /etc.
    /// One that cannot be read is Ansible's to tell. Blocking.
    pub(crate) fn find(given: Option<&str>, working_dir: &Path, home: Option<&Path>) -> Configuration {
        let given = given.map(|path| {
            let path = expand(path, home);
            if path.is_dir() { path.join("ansible.cfg") } else { path }
        });
        let is_open = std::fs::metadata(working_dir).is_ok_and(|metadata| metadata.permissions().mode() & 0o002 != 0);
        let here = (!is_open).then(|| working_dir.join("ansible.cfg"));
        let own = home.map(|home| home.join(".ansible.cfg"));
        let candidates = [given, here, own, Some(PathBuf::from("/etc/ansible/ansible.cfg"))];
        for path in candidates.into_iter().flatten() {
            if let Ok(text) = std::fs::read_to_string(&path) {
                return Configuration { values: parse(&text), path: Some(path) };
            }
        }
        Configuration::default()
    }

    /// The file.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// A value.
    pub(crate) fn get(&self, section: &str, key: &str) -> Option<&str> {
        self.values.get(&(section.to_owned(), key.to_owned())).map(String::as_str)
    }

    /// A list of directories; those that are relative start where the file lies.
    pub(crate) fn paths(&self, key: &str, home: Option<&Path>) -> Option<Vec<PathBuf>> {
        let directory = self.path.as_deref().and_then(Path::parent).unwrap_or(Path::new("."));
        let value = self.get("defaults", key)?;
        let parts = value.split(':').map(str::trim).filter(|part| !part.is_empty());
        Some(
            parts
                .map(|part| if part.contains("{{") { part.into() } else { directory.join(expand(part, home)) })
                .collect(),
        )
    }
}

/// `~` is the user's home.
pub(crate) fn expand(path: &str, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix('~'), home) {
        (Some(""), Some(home)) => home.to_owned(),
        (Some(rest), Some(home)) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => PathBuf::from(path),
    }
}

fn parse(text: &str) -> BTreeMap<(String, String), String> {
    let mut values = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines() {
        let line = line.split(" ;").next().unwrap_or_default().trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.trim().to_owned();
        } else if let Some((key, value)) = line.split_once(['=', ':']) {
            values.insert((section.clone(), key.trim().to_lowercase()), value.trim().to_owned());
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_found_where_ansible_finds_it() {
        let directory = tempfile::tempdir().unwrap();
        let (home, work) = (directory.path().join("home"), directory.path().join("work"));
        for path in [&home, &work] {
            std::fs::create_dir(path).unwrap();
        }
        std::fs::write(home.join(".ansible.cfg"), "[defaults]\nroles_path = home\n").unwrap();
        let roles = |given: Option<&str>| {
            let configuration = Configuration::find(given, &work, Some(&home));
            configuration.paths("roles_path", Some(&home)).unwrap_or_default()
        };
        assert_eq!(roles(None), [home.join("home")]);
        let text = "# x\n[defaults]\nRoles_Path: roles:~/mine:{{CWD}}/y ; why\n[ssh_connection]\npipelining=True\n";
        std::fs::write(work.join("ansible.cfg"), text).unwrap();
        assert_eq!(roles(None), [work.join("roles"), home.join("mine"), PathBuf::from("{{CWD}}/y")]);
        assert_eq!(roles(Some("~/.ansible.cfg")), [home.join("home")]);
        let configuration = Configuration::find(None, &work, Some(&home));
        assert_eq!(configuration.get("ssh_connection", "pipelining"), Some("True"));
        std::fs::set_permissions(&work, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(roles(None), [home.join("home")], "where all may write, Ansible does not read");
    }
}
