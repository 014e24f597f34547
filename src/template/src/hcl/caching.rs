//! What a template says of restoring instead of running, and the secrets that a step is given.

use kiln_core::{CacheRules, Diagnostic, Secret};
use kiln_language::syntax::Name;
use kiln_language::value::Type;

use super::builds::BuildReader;
use super::dynamic::ExpandedBlock;
use super::steps::Arguments;
use super::uses::SourceUse;
use super::variables::collect_secrets;

/// Arguments of a source that are the template's.
pub(crate) const SOURCE_ARGUMENTS: [&str; 6] = ["for_each", "enabled", "platforms", "cache", "cache_ttl", "depends_on"];

/// The same of what a build adds to a source.
pub(crate) const ADDED_ARGUMENTS: [&str; 7] =
    ["name", "for_each", "enabled", "platforms", "cache", "cache_ttl", "depends_on"];

/// Those that Packer does not have, besides `for_each` and `enabled`: of a source and of a step.
pub(crate) const BEYOND_PACKER: [&str; 4] = ["cache", "cache_ttl", "checkpoint", "secrets"];

impl Arguments<'_> {
    /// `cache` and `cache_ttl`.
    pub(crate) fn cache_rules(&mut self) -> CacheRules {
        let is_off = self.truth("cache") == Some(false);
        let ttl = self.duration("cache_ttl").filter(|ttl| !ttl.is_zero());
        CacheRules { is_off, ttl }
    }

    /// `secrets`: names of files, and what is in them.
    pub(crate) fn secrets(&mut self) -> Vec<(String, Secret)> {
        let Some((attribute, value)) = self.value("secrets", &Type::map(Type::String)) else { return Vec::new() };
        collect_secrets(&value, true, &mut self.diagnostics.secrets);
        let mut secrets = Vec::new();
        for (name, value) in value.as_entries().into_iter().flatten() {
            if !is_file_name(name) {
                let title = format!("`{name}` cannot be the name of a secret: it is that of a file");
                self.diagnostics.push(
                    Diagnostic::error("wrong-name", attribute.value.span, title)
                        .help("letters, digits, `_`, `-` and `.`, and no `.` or `-` first"),
                );
            }
            secrets.push((name.clone(), Secret::new(value.as_str().unwrap_or_default())));
        }
        secrets
    }
}

fn is_file_name(name: &str) -> bool {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !name.is_empty() && name.len() <= 128 && name.chars().all(is_fine) && !name.starts_with(['.', '-'])
}

impl BuildReader<'_, '_> {
    /// What a source, and what the build adds to it, say for all steps.
    pub(crate) fn source_cache(&mut self, used: &SourceUse) -> CacheRules {
        let declaration = &used.instance.declaration;
        let own = (&*declaration.body, used.instance.bindings());
        let added = used.added.as_ref().map(|added| (&*added.body, added.bindings.clone()));
        let mut rules = CacheRules::default();
        for (body, bindings) in [Some(own), added].into_iter().flatten() {
            let (kind, header) = (Name { text: "source".to_owned(), span: declaration.header }, declaration.header);
            let block = ExpandedBlock { kind, labels: Vec::new(), header, body, bindings };
            let found = Arguments::new(&block, &self.shared.values, self.diagnostics).cache_rules();
            rules = CacheRules { is_off: rules.is_off || found.is_off, ttl: found.ttl.or(rules.ttl) };
        }
        rules
    }
}
