//! Where Ansible's programs lie on this host, and of which version they are.

use std::io::{BufRead as _, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::AnsibleSettings;

/// The program that runs playbooks.
pub(crate) const PLAYBOOK: &str = "ansible-playbook";

/// The program that installs roles and collections.
pub(crate) const GALAXY: &str = "ansible-galaxy";

/// `PATH` as the playbook gets it.
pub(crate) fn search_path(environment: &[(String, String)], settings: &AnsibleSettings) -> String {
    let given = environment.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_str());
    given.or_else(|| settings.environment.get("PATH")).unwrap_or("/usr/local/bin:/usr/bin:/bin").to_owned()
}

/// The program of a name or path.
pub(crate) fn find(command: &str, search: &str) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    if command.contains('/') {
        return Some(PathBuf::from(command)).filter(is_program);
    }
    search.split(':').filter(|part| !part.is_empty()).map(|part| Path::new(part).join(command)).find(is_program)
}

/// A file that says of which version the Ansible of a program is; the program itself where none is found.
pub(crate) fn version_file(program: &Path) -> PathBuf {
    let real = std::fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
    let prefix = |path: &Path| path.parent().and_then(Path::parent).map(Path::to_owned);
    let prefixes = [prefix(&real), prefix(program), interpreter(&real).as_deref().and_then(prefix)];
    prefixes.into_iter().flatten().find_map(|prefix| release_below(&prefix)).unwrap_or(real)
}

/// The interpreter of a script.
fn interpreter(script: &Path) -> Option<PathBuf> {
    let mut line = Vec::new();
    let file = std::fs::File::open(script).ok()?;
    std::io::BufReader::new(file.take(4096)).read_until(b'\n', &mut line).ok()?;
    let line = String::from_utf8(line).ok()?;
    line.strip_prefix("#!")?.split_whitespace().next().map(PathBuf::from)
}

fn release_below(prefix: &Path) -> Option<PathBuf> {
    let mut pythons: Vec<PathBuf> = std::fs::read_dir(prefix.join("lib"))
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3")))
        .collect();
    pythons.sort();
    let places = ["site-packages", "dist-packages"];
    let files = pythons.iter().flat_map(|python| places.map(|place| python.join(place).join("ansible/release.py")));
    files.into_iter().find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_lies_beside_the_program() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("venv/bin/ansible-playbook");
        let release = directory.path().join("venv/lib/python3.11/site-packages/ansible/release.py");
        for path in [&program, &release] {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "#!/usr/bin/python3\n").unwrap();
        }
        let link = directory.path().join("ansible-playbook");
        std::os::unix::fs::symlink(&program, &link).unwrap();
        assert_eq!(version_file(&link), std::fs::canonicalize(release).unwrap());
    }

    #[test]
    fn a_program_without_a_package_stands_for_itself() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("playbook.sh");
        std::fs::write(&program, "#!/nowhere/bin/sh\n").unwrap();
        assert_eq!(version_file(&program), std::fs::canonicalize(&program).unwrap());
        let search = directory.path().display().to_string();
        assert_eq!(find("playbook.sh", &search), None, "it may not be executed");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find("playbook.sh", &search), Some(program));
    }
}
