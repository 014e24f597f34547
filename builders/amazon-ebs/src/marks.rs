//! By what a run finds its own things again: names, tokens and tags that are chosen before anything is made.

use kiln_core::BuildContext;
use uuid::Uuid;

use crate::cloud::Tags;

/// The marks of one attempt of one build.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    run: String,
    build: String,
    attempt: String,
    is_tagged: bool,
}

impl Marks {
    /// New ones: an attempt never meets what another one left.
    pub(crate) fn new(context: &BuildContext, is_tagged: bool) -> Marks {
        let attempt = Uuid::new_v4().simple().to_string();
        Marks { run: context.run.to_string(), build: context.build.to_string(), attempt, is_tagged }
    }

    /// `kiln-worker-1f3a5b7c9d0e`: for key pairs, security groups, roles. At most 60 characters, as names of roles have at most 64.
    pub(crate) fn name(&self) -> String {
        let is_plain = |character: char| character.is_ascii_alphanumeric() || "_.-".contains(character);
        let plain = self.build.chars().map(|character| if is_plain(character) { character } else { '-' });
        format!("kiln-{}-{}", plain.take(40).collect::<String>(), &self.attempt[..12])
    }

    /// Makes a call safe to repeat. At most 64 characters.
    pub(crate) fn token(&self, what: &str) -> String {
        format!("kiln-{}-{:.24}", self.attempt, what)
    }

    /// What everything bears; nothing where the template does not want it.
    pub(crate) fn tags(&self) -> Tags {
        if !self.is_tagged {
            return Tags::new();
        }
        // EC2 bounds values at 256 characters.
        let build = self.build.chars().take(256).collect();
        Tags::from([("kiln.run".to_owned(), self.run.clone()), ("kiln.build".to_owned(), build)])
    }

    /// These tags with ours.
    pub(crate) fn added_to(&self, tags: &Tags) -> Tags {
        let mut all = tags.clone();
        all.extend(self.tags());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_everywhere() {
        let context = kiln_testkit::context().build_called(&"a/b ü".repeat(20), "x", "amazon-ebs").build();
        let marks = Marks::new(&context, true);
        assert!(marks.name().len() <= 60 && marks.name().is_ascii(), "{}", marks.name());
        assert!(marks.token("copy-ap-southeast-1-and-on-and-on").len() <= 64);
        assert_ne!(marks.name(), Marks::new(&context, true).name());
        assert_eq!(marks.tags()["kiln.run"], *context.run);
        assert!(Marks::new(&context, false).tags().is_empty());
    }
}
