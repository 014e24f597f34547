//! What is wrong with the arguments, each at its place.

mod ami;
mod devices;
pub(crate) mod run;

use kiln_core::{Decoded, Diagnostic, Diagnostics};
use kiln_ssh::SshOptions;

use crate::config::Config;

/// Collects what is found.
pub(crate) struct Check<'a> {
    pub(crate) decoded: &'a Decoded,
    pub(crate) config: &'a Config,
    pub(crate) found: Diagnostics,
}

impl Check<'_> {
    pub(crate) fn new<'a>(decoded: &'a Decoded, config: &'a Config) -> Check<'a> {
        Check { decoded, config, found: Diagnostics::new() }
    }

    /// Looks at everything; the options of SSH are `None` where they are wrong themselves.
    pub(crate) fn all(&mut self, ssh: Option<&SshOptions>) {
        self.access();
        self.ami();
        self.devices("launch_block_device_mappings", &self.config.launch_block_device_mappings);
        self.devices("ami_block_device_mappings", &self.config.ami_block_device_mappings);
        self.run();
        if let Some(ssh) = ssh {
            self.reach(ssh);
        }
        self.tags();
    }

    fn access(&mut self) {
        let (has_id, has_key) = (self.is_given("access_key"), self.is_given("secret_key"));
        if has_id != has_key {
            let (given, missing) = if has_id { ("access_key", "secret_key") } else { ("secret_key", "access_key") };
            self.error(given, format!("`{given}` is set, and `{missing}` is not"));
        }
        if self.decoded.is_set("vault_aws_engine") {
            self.error("vault_aws_engine", "kiln does not have `vault_aws_engine`").help = Some(
                "get credentials from Vault first (`vault read aws/creds/ROLE`) and pass them as variables".into(),
            );
        }
        if self.decoded.is_set("assume_role")
            && !self.decoded.is_unknown("assume_role")
            && self.config.assume_role.as_ref().is_none_or(|role| role.role_arn.is_empty())
        {
            self.error("assume_role", "`assume_role` needs `role_arn`");
        }
        for (path, value) in [
            ("aws_polling.delay_seconds", self.config.aws_polling.delay_seconds),
            ("aws_polling.max_attempts", self.config.aws_polling.max_attempts),
            ("max_retries", self.config.max_retries),
        ] {
            if value.is_some_and(|value| value < 0) {
                self.error(path, format!("`{path}` is below zero"));
            }
        }
    }

    /// Tags that EC2 would refuse when everything else is done.
    fn tags(&mut self) {
        let kinds = ["tags", "run_tags", "run_volume_tags", "snapshot_tags", "spot_tags", "fleet_tags"];
        for kind in kinds {
            let entries = self.decoded.values().get(kind).and_then(|value| value.as_object()).cloned();
            for (key, value) in entries.unwrap_or_default() {
                self.tag(&format!("{kind}.{key}"), &key, value.as_str().unwrap_or_default());
            }
            let single = &kind[..kind.len() - 1];
            let blocks = self.decoded.values().get(single).and_then(|value| value.as_array()).cloned();
            for (index, block) in blocks.unwrap_or_default().iter().enumerate() {
                let text = |name: &str| block.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
                let key = [text("key"), text("name")].into_iter().find(|key| !key.is_empty()).unwrap_or_default();
                let path = format!("{single}[{index}]");
                if key.is_empty() && !self.decoded.is_unknown(&path) {
                    self.error(&path, format!("a `{single}` block needs `key` and `value`"));
                } else {
                    self.tag(&path, &key, &text("value"));
                }
            }
        }
    }

    fn tag(&mut self, path: &str, key: &str, value: &str) {
        // What is rendered later may become shorter or longer.
        let is_final = |text: &str| !text.contains("{{");
        if key.to_ascii_lowercase().starts_with("aws:") {
            self.error(path, "keys of tags that begin with `aws:` are AWS's own");
        }
        if is_final(key) && key.chars().count() > 128 {
            self.error(path, "the key of a tag has more than 128 characters");
        }
        if is_final(value) && value.chars().count() > 256 {
            self.error(path, format!("the value of the tag `{key}` has more than 256 characters"));
        }
        if self.decoded.is_sensitive(path) || self.decoded.is_sensitive(&format!("{path}.value")) {
            self.warn(path, "a sensitive value becomes a tag, which everybody may read who may describe the AMI");
        }
    }

    /// Whether it is set to something, or will be.
    fn is_given(&self, name: &str) -> bool {
        let is_empty = self.decoded.values().get(name).is_some_and(|value| match value {
            serde_json::Value::String(text) => text.is_empty(),
            serde_json::Value::Array(items) => items.is_empty(),
            serde_json::Value::Object(entries) => entries.is_empty(),
            _ => false,
        });
        self.decoded.is_set(name) && (!is_empty || self.decoded.is_unknown(name))
    }

    /// At most one of two arguments.
    fn not_both(&mut self, one: &str, other: &str) {
        if self.is_given(one) && self.is_given(other) {
            let place = self.decoded.span(one);
            let diagnostic = Diagnostic::error(
                "amazon-source",
                self.decoded.span(other),
                format!("either `{one}` or `{other}`, not both"),
            );
            self.found.push(diagnostic.also(place, "set here too"));
        }
    }

    fn error(&mut self, path: &str, title: impl Into<String>) -> &mut Diagnostic {
        self.push(Diagnostic::error("amazon-source", self.decoded.span(path), title))
    }

    fn warn(&mut self, path: &str, title: impl Into<String>) -> &mut Diagnostic {
        self.push(Diagnostic::warning("amazon-source", self.decoded.span(path), title))
    }

    fn push(&mut self, diagnostic: Diagnostic) -> &mut Diagnostic {
        let index = self.found.items.len();
        self.found.push(diagnostic);
        &mut self.found.items[index]
    }
}

/// `eu-central-1`, `us-gov-west-1`.
pub(crate) fn looks_like_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let is_word = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    let Some((last, words)) = parts.split_last() else { return false };
    words.len() >= 2 && words.iter().all(is_word) && !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit())
}
