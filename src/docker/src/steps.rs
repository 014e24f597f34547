//! Which images a build from a Dockerfile makes, read from what the classic builder tells of its steps.

use serde::{Deserialize, Serialize};

/// How far one build has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerfileSteps {
    /// The images that the steps made, in their order; none that `FROM` names or that came from the engine's cache.
    pub images: Vec<String>,
    /// The image that the step under way starts from, once one is known.
    #[serde(default)]
    pub from: Option<String>,
    /// The step under way, such as `ENV A=1`.
    #[serde(default)]
    pub step: Option<String>,
    /// Whether the step under way makes an image of its own.
    #[serde(default)]
    pub(crate) is_own: bool,
}

impl DockerfileSteps {
    /// Takes the next line; returns whether it told anything new.
    pub fn follow(&mut self, line: &str) -> bool {
        if let Some((_, step)) = line.strip_prefix("Step ").and_then(|rest| rest.split_once(" : ")) {
            self.is_own = !instruction(step).eq_ignore_ascii_case("from");
            self.step = Some(step.trim().to_owned());
            return true;
        }
        let Some(told) = line.trim_start().strip_prefix("---> ").map(str::trim) else { return false };
        if told == "Using cache" {
            self.is_own = false;
        }
        let is_id = told.len() >= 12 && told.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_id {
            self.from = Some(told.to_owned());
            self.step = None;
            self.images.extend(self.is_own.then(|| told.to_owned()));
        }
        is_id
    }

    /// A text that stands in the history of the image that the step under way makes.
    pub fn mark(&self) -> Option<&str> {
        let step = self.step.as_deref().filter(|_| self.is_own)?;
        let instruction = instruction(step);
        // All others are noted with their words as the builder understood them.
        let is_run = instruction.eq_ignore_ascii_case("run");
        Some(if is_run { step[instruction.len()..].trim() } else { instruction })
    }
}

fn instruction(step: &str) -> &str {
    step.split_whitespace().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_from_names_and_the_cache_gives_is_not_of_the_build() {
        let lines = "Step 1/4 : FROM debian:bookworm as first\n ---> 47347890267f\nStep 2/4 : ENV A=1\n ---> Using cache\n \
                     ---> 0123456789ab\nStep 3/4 : COPY a /\n ---> aaaaaaaaaaaa\nStep 4/4 : RUN echo ' ---> x'\n ---> Running in \
                     cccccccccccc\n ---> x";
        let mut steps = DockerfileSteps::default();
        let news = lines.lines().filter(|line| steps.follow(line)).count();
        assert_eq!((news, steps.images.as_slice()), (7, &["aaaaaaaaaaaa".to_owned()][..]));
        assert_eq!((steps.from.as_deref(), steps.mark()), (Some("aaaaaaaaaaaa"), Some("echo ' ---> x'")));
        steps.follow(" ---> bbbbbbbbbbbb");
        assert_eq!((steps.images.len(), steps.mark()), (2, None));
        steps.follow("Step 5/5 : ENV B=$A");
        assert_eq!(steps.mark(), Some("ENV"));
    }
}
