//! Patterns of host names, as `known_hosts` and `ssh_config` have them.

/// Whether a text fits a pattern of `*` and `?`; letters count alike.
pub(crate) fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on from when what follows the last star does not fit here.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || byte.eq_ignore_ascii_case(&text[t]) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    p = after;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Whether a text fits one of several patterns and none of those with `!` in front.
pub(crate) fn fits_list<'a>(patterns: impl IntoIterator<Item = &'a str>, text: &str) -> bool {
    let mut any = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(negated) if fits(negated, text) => return false,
            Some(_) => {}
            None => any |= fits(pattern, text),
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "a.b"),
            ("*.example.com", "a.example.com"),
            ("a*b*c", "axxbyybzc"),
            ("10.0.?.1", "10.0.7.1"),
            ("HOST", "host"),
            ("[h]:2222", "[h]:2222"),
        ] {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("", "a"), ("?", ""), ("*.example.com", "example.com"), ("a*b", "ab c"), ("host", "hosts")]
        {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_end_soon() {
        let pattern = "*a".repeat(200);
        assert!(!fits(&pattern, &"a".repeat(199)));
        assert!(fits(&pattern, &"a".repeat(200)));
    }

    #[test]
    fn a_negated_pattern_wins() {
        assert!(fits_list(["*.example.com", "!bad.example.com"], "good.example.com"));
        assert!(!fits_list(["*.example.com", "!bad.example.com"], "bad.example.com"));
        assert!(!fits_list(["!bad"], "good"));
    }
}
