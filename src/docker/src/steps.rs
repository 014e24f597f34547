//! Which images a build from a Dockerfile makes, read from what the classic builder tells of its steps.

/// Follows the lines of one build.
#[derive(Debug, Default)]
pub struct DockerfileSteps {
    is_own: bool,
}

impl DockerfileSteps {
    /// Takes the next line; returns the id of an image that a step has just made. Images that `FROM` names or that come
    /// from the engine's cache were there before, so they are not told.
    pub fn made<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        if let Some(step) = line.strip_prefix("Step ") {
            let instruction = step.split_once(" : ").and_then(|(_, text)| text.split_whitespace().next());
            self.is_own = instruction.is_some_and(|word| !word.eq_ignore_ascii_case("from"));
            return None;
        }
        let told = line.trim_start().strip_prefix("---> ")?.trim();
        if told == "Using cache" {
            self.is_own = false;
        }
        let is_id = told.len() >= 12 && told.bytes().all(|byte| byte.is_ascii_hexdigit());
        (self.is_own && is_id).then_some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_from_names_and_the_cache_gives_is_not_of_the_build() {
        let lines = "Step 1/4 : FROM debian:bookworm as first\n ---> 47347890267f\nStep 2/4 : ENV A=1\n ---> Using cache\n \
                     ---> 0123456789ab\nStep 3/4 : COPY a /\n ---> aaaaaaaaaaaa\nStep 4/4 : RUN echo ' ---> x'\n ---> Running in \
                     cccccccccccc\n ---> x\nRemoving intermediate container cccccccccccc\n ---> bbbbbbbbbbbb\nSuccessfully built \
                     bbbbbbbbbbbb";
        let mut steps = DockerfileSteps::default();
        let made: Vec<&str> = lines.lines().filter_map(|line| steps.made(line)).collect();
        assert_eq!(made, ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]);
    }
}
