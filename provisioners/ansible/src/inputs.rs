//! Which files of this host a playbook's result depends on.
//!
//! What Ansible itself finds beside a playbook is known: roles, variables, plug-ins, files, templates. What a playbook
//! names beyond that is looked for in its text: every word that is the name of a file or directory there counts. That may
//! be one too many, which costs a step that would not have had to run; what is computed while the playbook runs is not seen.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::path::{Component, Path, PathBuf};

/// Directories beside a playbook that Ansible reads by itself.
const BESIDE: [&str; 26] = [
    "action_plugins",
    "become_plugins",
    "cache_plugins",
    "callback_plugins",
    "cliconf_plugins",
    "collections",
    "connection_plugins",
    "defaults",
    "files",
    "filter_plugins",
    "group_vars",
    "handlers",
    "host_vars",
    "httpapi_plugins",
    "inventory_plugins",
    "library",
    "lookup_plugins",
    "meta",
    "module_utils",
    "roles",
    "strategy_plugins",
    "tasks",
    "templates",
    "test_plugins",
    "vars",
    "vars_plugins",
];

/// Files longer than this are not searched for names.
const LONGEST_TEXT: u64 = 1024 * 1024;

/// How many files are searched for names at most.
const MOST_FILES: usize = 5000;

/// Finds what a playbook needs: itself, what lies beside it, what its text names. `more` is known to matter too. Paths below
/// `working_dir` come relative to it. Blocking.
pub(crate) fn of(playbook: &Path, more: impl IntoIterator<Item = PathBuf>, working_dir: &Path) -> Vec<PathBuf> {
    let absolute = |path: &Path| normal(&working_dir.join(path));
    let playbook = absolute(playbook);
    let directory = playbook.parent().unwrap_or(working_dir).to_owned();
    let mut search = Search { directory, working_dir: working_dir.to_owned(), ..Search::default() };
    search.add(playbook);
    for name in BESIDE {
        search.add_existing(search.directory.join(name));
    }
    for path in more {
        search.add_existing(absolute(&path));
    }
    search.follow();
    let mut found: Vec<PathBuf> = Vec::new();
    for path in search.found {
        // Sorted: a directory comes before what is in it.
        if found.last().is_none_or(|last| !path.starts_with(last)) {
            found.push(path);
        }
    }
    let shortened = found.iter().map(|path| path.strip_prefix(working_dir).unwrap_or(path));
    shortened.map(Path::to_owned).collect()
}

#[derive(Default)]
struct Search {
    /// Where the playbook lies.
    directory: PathBuf,
    working_dir: PathBuf,
    found: BTreeSet<PathBuf>,
    texts: VecDeque<PathBuf>,
    known: HashSet<PathBuf>,
    searched: usize,
}

impl Search {
    fn add_existing(&mut self, path: PathBuf) {
        if path.exists() {
            self.add(path);
        }
    }

    fn add(&mut self, path: PathBuf) {
        if self.found.insert(path.clone()) {
            self.texts.push_back(path);
        }
    }

    fn is_covered(&self, path: &Path) -> bool {
        path.ancestors().any(|ancestor| self.found.contains(ancestor))
    }

    /// Searches all that was found for names of more.
    fn follow(&mut self) {
        while let Some(path) = self.texts.pop_front() {
            if path.is_dir() {
                for entry in std::fs::read_dir(&path).into_iter().flatten().flatten() {
                    // What a link leads to is not part of the tree.
                    if entry.file_type().is_ok_and(|kind| kind.is_dir() || (kind.is_file() && is_text(&entry.path()))) {
                        self.texts.push_back(entry.path());
                    }
                }
                continue;
            }
            let is_short = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= LONGEST_TEXT);
            if !is_short || self.searched == MOST_FILES || !is_text(&path) {
                continue;
            }
            self.searched += 1;
            if let Ok(text) = std::fs::read_to_string(&path) {
                let base = path.parent().unwrap_or(&self.directory).to_owned();
                self.search(&text, &base);
            }
        }
    }

    fn search(&mut self, text: &str, base: &Path) {
        let text = text.replace("{{ playbook_dir }}/", "").replace("{{playbook_dir}}/", "");
        let is_end = |character: char| character.is_whitespace() || "\"'`=,;()[]{}<>|".contains(character);
        let mut previous = "";
        for word in text.split(is_end).filter(|word| !word.is_empty()) {
            let word = word.trim_end_matches(':');
            // What is fetched from the machine is written there.
            let is_target = std::mem::replace(&mut previous, word) == "dest";
            let is_name = !is_target && !word.is_empty() && !word.starts_with(['/', '-', '#']) && !word.contains("//");
            if !is_name {
                continue;
            }
            for base in [base, &self.directory.clone()] {
                let path = normal(&base.join(word));
                if !self.known.insert(path.clone()) || self.is_covered(&path) {
                    continue;
                }
                // A directory that everything lies in says nothing.
                let holds_all = self.directory.starts_with(&path) || self.working_dir.starts_with(&path);
                if !holds_all && path.exists() {
                    self.add(path);
                }
            }
        }
    }
}

/// Whether a file may name others: YAML, or what has no ending, as files of variables may.
fn is_text(path: &Path) -> bool {
    path.extension().is_none_or(|extension| extension == "yml" || extension == "yaml" || extension == "json")
}

/// A path without `.` and `..`, by its text alone.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        directory
    }

    fn found(directory: &tempfile::TempDir, playbook: &str, more: &[&str]) -> Vec<String> {
        let more = more.iter().map(PathBuf::from);
        of(Path::new(playbook), more, directory.path()).iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn what_lies_beside_a_playbook_and_what_it_names_counts() {
        let directory = tree(&[
            (
                "ansible/play.yml",
                "- hosts: all\n  vars_files:\n    - ../shared/common.yml\n    - \"vars/{{ os }}.yml\"\n  roles: [web]\n  \
                 tasks:\n    - import_tasks: more.yml\n    - copy: src=motd dest=/etc/motd\n    - script: ../bin/setup.sh -x\n    - fetch: { src: /x, dest: fetched.txt }\n",
            ),
            ("ansible/more.yml", "- debug: msg=\"{{ lookup('file', 'banner.txt') }}\"\n"),
            ("ansible/roles/web/tasks/main.yml", "- template: src=../../../outside/site.conf.j2 dest=/etc/site\n"),
            ("ansible/vars/debian.yml", "a: 1\n"),
            ("ansible/motd", "hello\n"),
            ("ansible/banner.txt", "hello\n"),
            ("ansible/unrelated.txt", ""),
            ("ansible/fetched.txt", ""),
            ("shared/common.yml", "deep: \"{{ playbook_dir }}/deep.yml\"\n"),
            ("ansible/deep.yml", ""),
            ("bin/setup.sh", ""),
            ("outside/site.conf.j2", ""),
            ("template.pkr.hcl", ""),
        ]);
        assert_eq!(
            found(&directory, "ansible/play.yml", &["extra.yml", "template.pkr.hcl"]),
            [
                "ansible/banner.txt",
                "ansible/deep.yml",
                "ansible/more.yml",
                "ansible/motd",
                "ansible/play.yml",
                "ansible/roles",
                "ansible/vars",
                "bin/setup.sh",
                "shared/common.yml",
                "template.pkr.hcl",
            ]
        );
    }

    #[test]
    fn what_holds_everything_does_not_count() {
        let directory = tree(&[("play.yml", "- copy: src=./ dest=/x\n- x: ..\n- y: sub/..\n- z: .\n"), ("other", "")]);
        assert_eq!(found(&directory, "play.yml", &[]), ["play.yml"]);
    }
}
