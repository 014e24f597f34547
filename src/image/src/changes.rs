//! `changes`: Dockerfile instructions for a finished image, as far as a commit takes them.

mod apply;
mod words;

use kiln_core::suggest;

use crate::config::RunConfig;

/// Instructions that a commit takes (Engine API, `POST /commit`), and STOPSIGNAL, which goes another way there.
pub const INSTRUCTIONS: [&str; 11] = [
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Instructions of Dockerfiles that make no sense on a finished container.
const BUILD_ONLY: [&str; 7] = ["ADD", "ARG", "COPY", "FROM", "MAINTAINER", "RUN", "SHELL"];

/// What the instructions ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that go to the engine, one each.
    pub instructions: Vec<String>,
    /// The last `ENTRYPOINT` was `[]`. The engine takes that for "as the container has it", which is kiln's keep-alive
    /// shell; so it is not sent, and the config says it instead.
    pub resets_entrypoint: bool,
    /// Some other `ENTRYPOINT` is there.
    pub sets_entrypoint: bool,
    /// Some `CMD` is there.
    pub sets_command: bool,
    /// The last `STOPSIGNAL`. A commit refuses the instruction, and takes the value.
    pub stop_signal: Option<String>,
    /// All of them as they were written: the item's index, the instruction, the value.
    all: Vec<(usize, String, String)>,
}

/// What is wrong with one instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeError {
    /// What is wrong.
    pub message: String,
    /// The way out, if there is one.
    pub help: Option<String>,
}

impl Changes {
    /// Reads the list; mistakes come with the item's index. What is right is taken all the same.
    pub fn parse(items: &[String]) -> (Changes, Vec<(usize, ChangeError)>) {
        let mut changes = Changes::default();
        let mut errors = Vec::new();
        for (index, item) in items.iter().enumerate() {
            for line in logical_lines(item) {
                if let Err(error) = changes.add(index, &line) {
                    errors.push((index, error));
                }
            }
        }
        (changes, errors)
    }

    fn add(&mut self, index: usize, line: &str) -> Result<(), ChangeError> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let instruction = word.to_ascii_uppercase();
        let rest = rest.trim();
        if !INSTRUCTIONS.contains(&instruction.as_str()) {
            return Err(unknown(word, &instruction));
        }
        if rest.is_empty() {
            return Err(ChangeError { message: format!("`{instruction}` needs a value"), help: None });
        }
        self.all.push((index, instruction.clone(), rest.to_owned()));
        if matches!(instruction.as_str(), "CMD" | "ENTRYPOINT") {
            let words = exec_form(&instruction, rest)?;
            let is_reset = words.is_some_and(|words| words.is_empty());
            if instruction == "CMD" {
                self.sets_command = true;
            } else {
                // The last one counts.
                self.instructions.retain(|earlier| !earlier.starts_with("ENTRYPOINT "));
                self.resets_entrypoint = is_reset;
                self.sets_entrypoint = !is_reset;
                if is_reset {
                    return Ok(());
                }
            }
        }
        if instruction == "STOPSIGNAL" {
            self.stop_signal = Some(rest.to_owned());
            return Ok(());
        }
        self.instructions.push(format!("{instruction} {rest}"));
        Ok(())
    }
}

impl Changes {
    /// Changes a config as the instructions say, in their order; variables are those of the image (`ENV PATH=$PATH:/opt/bin`).
    ///
    /// # Errors
    /// The first instruction whose value is malformed, with its item's index. Those before it are applied.
    pub fn apply(&self, config: &mut RunConfig) -> Result<(), (usize, ChangeError)> {
        let apply = |(index, instruction, value): &(usize, String, String)| {
            apply::apply(instruction, value, config).map_err(|error| (*index, error))
        };
        self.all.iter().try_for_each(apply)
    }

    /// What [`Changes::apply`] would say, for all instructions: as far as it can be told without the image.
    pub fn check(&self) -> Vec<(usize, ChangeError)> {
        let mut config = RunConfig::default();
        let mut check = |(index, instruction, value): &(usize, String, String)| {
            Some((*index, apply::apply(instruction, value, &mut config).err()?))
        };
        self.all.iter().filter_map(&mut check).collect()
    }
}

/// The words of the exec form; `None` for the shell form.
fn exec_form(instruction: &str, value: &str) -> Result<Option<Vec<String>>, ChangeError> {
    if !(value.starts_with('[') && value.ends_with(']')) {
        return Ok(None);
    }
    match serde_json::from_str(value) {
        Ok(words) => Ok(Some(words)),
        // Docker would silently run it through a shell, which then looks for a program called `[`.
        Err(error) => Err(ChangeError {
            message: format!("`{instruction} {value}` looks like a list and is no JSON list of strings: {error}"),
            help: Some(format!("write {instruction} [\"program\", \"argument\"], with double quotes")),
        }),
    }
}

fn unknown(word: &str, instruction: &str) -> ChangeError {
    let known = suggest::enumerate(INSTRUCTIONS);
    if BUILD_ONLY.contains(&instruction) {
        return ChangeError {
            message: format!("`{instruction}` cannot be applied to a finished container"),
            help: Some(format!("a commit takes {known}; use a provisioner, or a `build` block with a Dockerfile")),
        };
    }
    let help = match suggest::nearest(instruction, INSTRUCTIONS) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("a commit takes {known}"),
    };
    ChangeError { message: format!("`{word}` is no Dockerfile instruction"), help: Some(help) }
}

/// Lines with their continuations joined, without comments and blank ones.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with('#') {
            continue;
        }
        match line.strip_suffix('\\') {
            Some(part) => open.push_str(part),
            None => {
                open.push_str(line);
                lines.push(std::mem::take(&mut open));
            }
        }
    }
    lines.push(open);
    lines.into_iter().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(items: &[&str]) -> (Changes, Vec<(usize, ChangeError)>) {
        Changes::parse(&items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn an_empty_entrypoint_is_held_back_and_the_last_one_counts() {
        let (changes, errors) = parse(&["ENTRYPOINT [\"/a\"]", "user app", "entrypoint [ ]", "CMD []"]);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(changes.instructions, ["USER app", "CMD []"]);
        assert!(changes.resets_entrypoint && !changes.sets_entrypoint && changes.sets_command);
        let (changes, _) = parse(&["ENTRYPOINT []", "ENTRYPOINT /bin/run me"]);
        assert_eq!(changes.instructions, ["ENTRYPOINT /bin/run me"]);
        assert!(changes.sets_entrypoint && !changes.resets_entrypoint);
    }

    #[test]
    fn lines_and_continuations_in_one_item() {
        let (changes, errors) = parse(&["# words\nENV A=1 \\\n  B=2\n\nEXPOSE 80"]);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(changes.instructions, ["ENV A=1 B=2", "EXPOSE 80"]);
    }

    #[test]
    fn mistakes_come_with_their_place_and_a_way_out() {
        let (_, errors) = parse(&["USER a", "ENTRYPONT x", "RUN apt-get update", "WORKDIR", "CMD ['a']"]);
        let seen: Vec<(usize, &str)> = errors.iter().map(|(index, error)| (*index, error.message.as_str())).collect();
        assert_eq!(seen[0], (1, "`ENTRYPONT` is no Dockerfile instruction"));
        assert_eq!(errors[0].1.help.as_deref(), Some("did you mean `ENTRYPOINT`?"));
        assert_eq!(seen[1], (2, "`RUN` cannot be applied to a finished container"));
        assert_eq!(seen[2], (3, "`WORKDIR` needs a value"));
        assert!(seen[3].1.contains("no JSON list"), "{seen:?}");
        assert_eq!(seen.len(), 4);
    }

    fn applied(base: &RunConfig, items: &[&str]) -> RunConfig {
        let (changes, errors) = parse(items);
        assert!(errors.is_empty(), "{errors:?}");
        let mut config = base.clone();
        changes.apply(&mut config).unwrap();
        config
    }

    #[test]
    fn instructions_change_the_config_as_in_a_dockerfile() {
        let text = r#"{
            "Env": ["PATH=/usr/bin:/bin", "A=old"], "Cmd": ["bash"], "WorkingDir": "/srv", "Labels": {"a": "1"},
            "ExposedPorts": {"80/tcp": {}}, "Shell": ["/bin/bash", "-c"]
        }"#;
        let base: RunConfig = serde_json::from_str(text).unwrap();
        let config = applied(
            &base,
            &[
                "ENTRYPOINT [\"/run\", \"me\"]",
                "ENV PATH=$PATH:/opt/bin A=\"new one\" B=${A}",
                "ENV OLD form of it",
                "LABEL b='$A' \"c d\"=e",
                "EXPOSE 53/UDP 8000-8002",
                "VOLUME [\"/data\"]",
                "VOLUME /a /b",
                "USER ${OLD:-x}",
                "WORKDIR app/./x/..",
                "STOPSIGNAL SIGQUIT",
                "HEALTHCHECK --interval=1m30s --retries=3 CMD curl -f localhost",
                "ONBUILD RUN true",
            ],
        );
        insta::assert_snapshot!(serde_json::to_string_pretty(&config).unwrap());
    }

    #[test]
    fn commands_in_all_forms() {
        let base =
            RunConfig { cmd: Some(vec!["bash".into()]), entrypoint: Some(vec!["/e".into()]), ..RunConfig::default() };
        let config = applied(&base, &["CMD echo $HOME", "ENTRYPOINT []"]);
        assert_eq!(config.cmd.unwrap(), ["/bin/sh", "-c", "echo $HOME"]);
        assert_eq!(config.entrypoint, None);
        let config = applied(&base, &["HEALTHCHECK NONE", "ENTRYPOINT [\"/x\"]"]);
        assert_eq!(config.cmd.unwrap(), ["bash"], "as Packer has it");
        assert_eq!(config.other["Healthcheck"], serde_json::json!({"Test": ["NONE"]}));
    }

    #[test]
    fn only_directories_from_elsewhere_are_made_plain() {
        let directory = |changes: &[&str]| applied(&RunConfig::default(), changes).working_dir;
        assert_eq!(directory(&["WORKDIR /a/../b/"]), "/a/../b/");
        assert_eq!(directory(&["WORKDIR /a/../b/", "WORKDIR c/../d/"]), "/b/d");
    }

    #[test]
    fn malformed_values_are_told_before_there_is_an_image() {
        let (changes, errors) = parse(&[
            "ENV A",
            "EXPOSE http",
            "LABEL a=b c",
            "HEALTHCHECK --every=5s CMD x",
            "HEALTHCHECK --interval=5 CMD x",
            "HEALTHCHECK curl",
            "STOPSIGNAL 99",
            "ONBUILD FROM x",
            "USER \"x",
            "ENV GOOD=1",
            "EXPOSE 90-80",
        ]);
        assert!(errors.is_empty(), "{errors:?}");
        let told: Vec<String> =
            changes.check().into_iter().map(|(index, error)| format!("{index}: {}", error.message)).collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
