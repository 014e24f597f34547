//! The nearest known name to a misspelt one.

/// The candidate closest to `name`, if it is close enough to be what was meant: at most a third of the longer name
/// differs (counting a swap of neighbours as one change), or one is the other with `-` and `_` exchanged.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let wanted = plain(name);
    candidates
        .into_iter()
        .filter(|candidate| *candidate != name)
        .filter_map(|candidate| {
            let other = plain(candidate);
            let (one, two) = (wanted.chars().count(), other.chars().count());
            let longer = one.max(two);
            // Each character more is a change: no need to look closer.
            (one.abs_diff(two) <= (longer / 3).max(1)).then_some(())?;
            Some((strsim::damerau_levenshtein(&wanted, &other), longer, candidate))
        })
        .filter(|(distance, longer, _)| *distance <= (*longer / 3).max(1) && *distance < *longer)
        .min_by_key(|(distance, _, candidate)| (*distance, *candidate))
        .map(|(_, _, candidate)| candidate)
}

/// `` `a`, `b` and `c` `` for lists in messages; empty for none.
pub fn enumerate<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_misspelt_and_refuses_the_unrelated() {
        let names = ["release", "registry", "docker-tag"];
        assert_eq!(nearest("relase", names), Some("release"));
        assert_eq!(nearest("docker_tag", names), Some("docker-tag"));
        assert_eq!(nearest("banana", names), None);
        assert_eq!(nearest("x", ["y"]), None);
    }

    #[test]
    fn lists_read_as_prose() {
        assert_eq!(enumerate([]), "");
        assert_eq!(enumerate(["a"]), "`a`");
        assert_eq!(enumerate(["a", "b", "c"]), "`a`, `b` and `c`");
    }
}
