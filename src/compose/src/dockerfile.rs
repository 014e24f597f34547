//! What a Dockerfile builds upon: its `FROM` lines, as far as a look at them tells.

use std::collections::BTreeMap;

/// The images of `FROM` lines, with the values of `ARG`s before them: those given, or else their defaults. Stages of the
/// file itself are none.
pub(crate) fn bases(text: &str, arguments: &BTreeMap<String, String>) -> Vec<String> {
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let mut stages: Vec<String> = Vec::new();
    let mut bases = Vec::new();
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    for line in joined.lines() {
        let mut words = line.split_whitespace();
        match words.next().map(str::to_ascii_uppercase).as_deref() {
            // After the first stage they belong to it.
            Some("ARG") if stages.is_empty() && bases.is_empty() => {
                for word in words {
                    let (name, default) = word.split_once('=').unwrap_or((word, ""));
                    let default = default.trim_matches(['"', '\'']).to_owned();
                    values.insert(name.to_owned(), arguments.get(name).cloned().unwrap_or(default));
                }
            }
            Some("FROM") => {
                let mut words = words.filter(|word| !word.starts_with("--"));
                let Some(image) = words.next() else { continue };
                let lookup = |name: &str| values.get(name).cloned();
                let image = crate::interpolate::interpolate(image, &lookup).map(|found| found.text).unwrap_or_default();
                if !image.is_empty() && image != "scratch" && !stages.contains(&image) && !bases.contains(&image) {
                    bases.push(image);
                }
                let is_named = words.next().is_some_and(|word| word.eq_ignore_ascii_case("as"));
                stages.extend(words.next().filter(|_| is_named).map(str::to_owned));
            }
            _ => {}
        }
    }
    bases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_and_not_stages() {
        let text = "# syntax=docker/dockerfile:1\nARG BASE=group/base:1\nARG OTHER\nFROM --platform=linux/amd64 ${BASE} AS one\nARG BASE=x\nRUN true\nfrom $OTHER as two\nFROM one\nFROM scratch\nFROM group/three:${TAG:-3}\n";
        let given = BTreeMap::from([("OTHER".to_owned(), "group/other".to_owned())]);
        assert_eq!(bases(text, &given), ["group/base:1", "group/other", "group/three:3"]);
    }
}
