//! Paths that BuildKit wants with whatever symbolic links on the way to them lead to.

use std::collections::BTreeSet;
use std::path::Path;

use kiln_docker::ignore::Pattern;

/// Links followed at most on the way to one path.
const MOST_LINKS: usize = 255;

/// The patterns that stand for these paths; `None` where one of them is the directory itself, and so everything.
pub(crate) fn follow(root: &Path, paths: &[String]) -> Option<Vec<Pattern>> {
    let mut found = Followed { root, paths: BTreeSet::new(), patterns: Vec::new(), left: MOST_LINKS };
    for path in paths {
        let pattern = Pattern::parse(path)?;
        match pattern.as_literal() {
            Some(path) => found.resolve(path),
            None => {
                found.resolve_matching(&clean(path));
                found.patterns.push(pattern);
            }
        }
        found.left = MOST_LINKS;
    }
    found.patterns.extend(found.paths.iter().map(|path| Pattern::literal(path)));
    Some(found.patterns)
}

struct Followed<'a> {
    root: &'a Path,
    paths: BTreeSet<String>,
    patterns: Vec<Pattern>,
    left: usize,
}

impl Followed<'_> {
    /// Notes a path, and each link on the way to it with what it leads to.
    fn resolve(&mut self, path: &str) {
        let parts: Vec<&str> = path.split('/').collect();
        for length in 1..=parts.len() {
            let here = parts[..length].join("/");
            let Ok(target) = std::fs::read_link(self.root.join(&here)) else { continue };
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            self.paths.insert(here);
            // An absolute link means the root of the context.
            let target = target.to_string_lossy();
            let base = if target.starts_with('/') { String::new() } else { parts[..length - 1].join("/") };
            let rest = parts[length..].join("/");
            let next = clean(&format!("{base}/{target}/{rest}"));
            if !next.is_empty() && !self.paths.contains(&next) {
                self.resolve(&next);
            }
            return;
        }
        self.paths.insert(path.to_owned());
    }

    /// The links among what matches a pattern.
    fn resolve_matching(&mut self, pattern: &str) {
        let (directory, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
        // With wildcards further up, what they lead to is not looked for.
        if directory.contains(['*', '?', '[', '\\']) {
            return;
        }
        let Some(name) = Pattern::parse(name) else { return };
        if !directory.is_empty() {
            let was_wanted = self.paths.contains(directory);
            self.resolve(directory);
            if !was_wanted {
                self.paths.remove(directory);
            }
        }
        for entry in std::fs::read_dir(self.root.join(directory)).into_iter().flatten().flatten() {
            let found = entry.file_name().to_string_lossy().into_owned();
            if name.matches(&found) && entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                self.left = MOST_LINKS;
                self.resolve(&if directory.is_empty() { found } else { format!("{directory}/{found}") });
            }
        }
    }
}

/// A path without `.`, `..` and empty components; what leads out of the root stays in it.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn wanted(root: &Path, paths: &[&str], path: &str) -> bool {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        follow(root, &paths).is_none_or(|found| found.iter().any(|pattern| pattern.matches_or_holds(path)))
    }

    #[test]
    fn many_links_that_match_are_all_followed() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("bin")).unwrap();
        for number in 0..=MOST_LINKS {
            symlink(format!("../tool{number}"), root.path().join(format!("bin/{number}"))).unwrap();
        }
        let lost = (0..=MOST_LINKS).filter(|number| !wanted(root.path(), &["bin/*"], &format!("tool{number}"))).count();
        assert_eq!(lost, 0);
    }

    #[test]
    fn links_bring_what_they_lead_to() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("real/deep")).unwrap();
        std::fs::write(root.path().join("real/deep/file"), "").unwrap();
        symlink("real", root.path().join("link")).unwrap();
        symlink("/real/deep/file", root.path().join("real/absolute")).unwrap();
        symlink("loop", root.path().join("loop")).unwrap();
        for (paths, path, is_wanted) in [
            (vec!["link/deep"], "link", true),
            (vec!["link/deep"], "real/deep/file", true),
            (vec!["link/deep"], "real/absolute", false),
            (vec!["real/absolute"], "real/deep/file", true),
            (vec!["real/abs*"], "real/deep/file", true),
            (vec!["real/abs*"], "link", false),
            (vec!["loop"], "loop", true),
            (vec!["."], "anything", true),
            (vec!["missing"], "other", false),
            (vec!["real", "real/abs*"], "real/deep/file", true),
            (vec!["real/f*"], "real/deep/file", false),
        ] {
            assert_eq!(wanted(root.path(), &paths, path), is_wanted, "{paths:?} {path}");
        }
    }
}
