//! Names that HCL2 takes, made of names that legacy JSON takes.

use std::collections::BTreeSet;

/// Whether a text is an identifier of HCL2.
pub(super) fn is_identifier(name: &str) -> bool {
    let is_start = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(is_start) && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

/// An identifier as near to a name as can be.
pub(super) fn identifier(name: &str) -> String {
    let part = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    let made: String = name.chars().map(part).collect();
    if is_identifier(&made) { made } else { format!("_{made}") }
}

/// Names that are given away.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// The identifier for a name, or the next free one: `x`, `x_2`, `x_3`.
    pub(super) fn take(&mut self, wanted: &str) -> String {
        let first = identifier(wanted);
        let mut name = first.clone();
        let mut count = 1;
        while !self.0.insert(name.clone()) {
            count += 1;
            name = format!("{first}_{count}");
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_stay_and_all_else_comes_near() {
        for name in ["a", "a-b_1", "_x"] {
            assert_eq!(identifier(name), name);
        }
        let rows = [("1a", "_1a"), ("a.b c", "a_b_c"), ("", "_"), ("é", "_"), ("-a", "_-a")];
        for (name, made) in rows {
            assert_eq!(identifier(name), made);
        }
    }

    #[test]
    fn names_stay_apart() {
        let mut names = Names::default();
        assert_eq!([names.take("a.b"), names.take("a_b"), names.take("a b")], ["a_b", "a_b_2", "a_b_3"]);
    }
}
