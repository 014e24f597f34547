//! The names that can stand at a place of a line.

use std::collections::BTreeMap;

use kiln_core::Plan;
use kiln_core::outline::Outline;
use kiln_language::evaluate::Variables;
use kiln_language::functions::function_names;
use kiln_language::value::Value;
use kiln_template::hcl;

/// What may be typed, by what stands before it.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Dotted names and functions, which end in `(`; for legacy JSON functions alone.
    names: Vec<String>,
    /// What may stand in quotes: sources in HCL2, variables in legacy JSON.
    quoted: Vec<String>,
    is_hcl: bool,
}

const COMMANDS: [&str; 3] = ["exit", "help", "variables"];

/// How deep objects are looked into.
const DEPTH: usize = 4;

impl Names {
    /// Functions, values, and sources by name.
    pub(super) fn of_hcl(values: &hcl::Values, outline: &Outline) -> Names {
        let mut names: Vec<String> = function_names().into_iter().map(|name| format!("{name}(")).collect();
        names.extend(["try(", "can(", "convert(", "templatefile(", "templatestring("].map(str::to_owned));
        names.extend(COMMANDS.map(str::to_owned));
        for (root, value) in &values.roots {
            paths(root, value, DEPTH, &mut names);
        }
        // What is not looked at yet, such as the repository.
        let others = values.root_names().into_iter().filter(|root| !values.roots.contains_key(*root));
        names.extend(others.map(|root| format!("{root}.")));
        names.extend(hcl::GIT_FACTS.iter().map(|fact| format!("git.{fact}")));
        let quoted = outline.builds.iter().flat_map(|build| build.sources.iter().map(|name| format!("source.{name}")));
        Names { names, quoted: quoted.collect(), is_hcl: true }.sorted()
    }

    /// Functions and variables.
    pub(super) fn of_legacy(plan: &Plan) -> Names {
        let names = kiln_template::legacy::function_names().into_iter().chain(COMMANDS).map(str::to_owned).collect();
        let empty = BTreeMap::new();
        let values = plan.text_scope.user_variables.as_deref().unwrap_or(&empty);
        Names { names, quoted: values.keys().cloned().collect(), is_hcl: false }.sorted()
    }

    fn sorted(mut self) -> Names {
        for list in [&mut self.names, &mut self.quoted] {
            list.sort();
            list.dedup();
        }
        self
    }

    /// Where the word before the cursor begins, and what it may become.
    pub(super) fn at(&self, before: &str) -> (usize, Vec<&str>) {
        let is_part = |character: char| character.is_alphanumeric() || matches!(character, '_' | '-' | '.');
        let start = before
            .rfind(|character| !is_part(character))
            .map_or(0, |index| index + before[index..].chars().next().map_or(1, char::len_utf8));
        let word = &before[start..];
        let is_quoted = before[..start].ends_with(['"', '`']);
        let is_text = !self.is_hcl && !before[..start].contains("{{") && start > 0;
        if is_text || (word.is_empty() && !is_quoted) {
            return (start, Vec::new());
        }
        let list = if is_quoted { &self.quoted } else { &self.names };
        let fitting = |name: &&str| {
            // One step at a time: `var.` before what is in it. The names of sources are one step.
            let rest = name.strip_prefix(word).filter(|rest| !rest.is_empty());
            rest.is_some_and(|rest| is_quoted || !rest.trim_end_matches('.').contains('.'))
        };
        // `variables` and the like are commands only on a line of their own.
        let is_alone = start == 0;
        let known = list.iter().map(String::as_str).filter(|name| is_alone || is_quoted || !COMMANDS.contains(name));
        (start, known.filter(fitting).collect())
    }
}

/// `root.name` for everything in an object; the object itself with its dot.
fn paths(path: &str, value: &Value, depth: usize, names: &mut Vec<String>) {
    let is_name = |key: &str| {
        !key.is_empty() && key.chars().all(|character| character.is_alphanumeric() || matches!(character, '_' | '-'))
    };
    match value.as_entries().filter(|_| depth > 0 && !value.sensitive) {
        Some(entries) => {
            names.push(format!("{path}."));
            for (key, value) in entries.iter().filter(|(key, _)| is_name(key)) {
                paths(&format!("{path}.{key}"), value, depth - 1, names);
            }
        }
        None => names.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(is_hcl: bool) -> Names {
        let owned = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        let all = ["exit", "upper(", "uuidv4(", "var.", "var.name", "var.net.", "var.net.cidr", "variables"];
        Names { names: owned(&all), quoted: owned(&["source.docker.web", "name"]), is_hcl }
    }

    #[test]
    fn a_word_is_completed_step_by_step() {
        let names = names(true);
        for (before, start, expected) in [
            ("u", 0, vec!["upper(", "uuidv4("]),
            ("upper(va", 6, vec!["var."]),
            ("va", 0, vec!["var.", "variables"]),
            ("[1, var.n", 4, vec!["var.name", "var.net."]),
            ("var.net.", 0, vec!["var.net.cidr"]),
            ("var.net.cidr", 0, vec![]),
            ("\"sour", 1, vec!["source.docker.web"]),
            ("1 + ", 4, vec![]),
            ("", 0, vec![]),
            ("é+var.na", 3, vec!["var.name"]),
        ] {
            assert_eq!(names.at(before), (start, expected), "{before}");
        }
    }

    #[test]
    fn in_a_text_only_what_stands_in_an_action_is_completed() {
        let names = names(false);
        assert_eq!(names.at("some up"), (5, vec![]));
        assert_eq!(names.at("some {{up"), (7, vec!["upper("]));
        assert_eq!(names.at("{{user `na"), (8, vec!["name"]));
        assert_eq!(names.at("ex"), (0, vec!["exit"]));
    }
}
