//! What is wrong with what is said of the AMI.

use std::collections::BTreeSet;

use super::{Check, looks_like_region};

/// Characters of names of AMIs beside letters and digits.
const PUNCTUATION: &str = "()[] ./-'@_";

impl Check<'_> {
    pub(super) fn ami(&mut self) {
        self.name();
        self.regions();
        self.keys();
        self.sharing();
        self.times();
        self.fast_launch();
        if self.config.force_delete_snapshot && !self.config.force_deregister {
            self.warn("force_delete_snapshot", "`force_delete_snapshot` has no effect without `force_deregister`");
        }
        if self.config.deregistration_protection.with_cooldown && !self.config.deregistration_protection.enabled {
            self.error("deregistration_protection", "`with_cooldown` needs `enabled`");
        }
    }

    fn name(&mut self) {
        if self.decoded.is_unknown("ami_name") || !self.decoded.is_set("ami_name") {
            return;
        }
        let name = &self.config.ami_name;
        let count = name.chars().count();
        if !(3..=128).contains(&count) {
            self.error("ami_name", format!("`ami_name` has {count} characters; names of AMIs have 3 to 128"));
        }
        let is_fine = |character: char| character.is_ascii_alphanumeric() || PUNCTUATION.contains(character);
        let wrong: BTreeSet<String> =
            name.chars().filter(|character| !is_fine(*character)).map(|c| format!("`{c}`")).collect();
        if !wrong.is_empty() {
            let wrong = wrong.into_iter().collect::<Vec<_>>().join(", ");
            self.error("ami_name", format!("`ami_name` holds {wrong}, which names of AMIs must not")).help = Some(
                "letters, digits, blanks and `()[]./-'@_` are allowed; `{{ ... | clean_resource_name }}` replaces the rest".into(),
            );
        }
    }

    fn regions(&mut self) {
        let config = self.config;
        if config.skip_save_build_region && config.ami_regions.is_empty() && !self.decoded.is_unknown("ami_regions") {
            self.error("skip_save_build_region", "`skip_save_build_region` without `ami_regions` leaves no AMI");
        }
        if config.skip_region_validation {
            return;
        }
        if let Some(region) = config.region.as_deref().filter(|region| !region.is_empty() && !looks_like_region(region))
        {
            self.error("region", format!("`{region}` is no region; one looks like `eu-central-1`"));
        }
        for (index, region) in config.ami_regions.iter().enumerate() {
            let path = format!("ami_regions[{index}]");
            if !looks_like_region(region) && !self.decoded.is_unknown(&path) {
                self.error(&path, format!("`{region}` is no region; one looks like `eu-central-1`"));
            }
        }
    }

    fn keys(&mut self) {
        let config = self.config;
        let keys = &config.region_kms_key_ids;
        if !keys.is_empty() && !self.decoded.is_unknown("region_kms_key_ids") && !self.decoded.is_unknown("ami_regions")
        {
            for region in keys.keys().filter(|region| !config.ami_regions.contains(region)) {
                // The region of the build may be told from the surroundings.
                if config.region.as_ref() != Some(region) {
                    self.error(
                        &format!("region_kms_key_ids.{region}"),
                        format!("`region_kms_key_ids` names `{region}`, which is not in `ami_regions`"),
                    );
                }
            }
            for (index, region) in config.ami_regions.iter().enumerate() {
                if !keys.contains_key(region) && config.region.as_ref() != Some(region) {
                    self.error(
                        &format!("ami_regions[{index}]"),
                        format!("`ami_regions` names `{region}`, for which `region_kms_key_ids` has no key"),
                    )
                    .help = Some("an empty text is the default key of the region".into());
                }
            }
        }
        let is_key = |key: &String| key.is_empty() || looks_like_key(key);
        if let Some(key) = config.kms_key_id.as_ref().filter(|key| !is_key(key)) {
            self.error(
                "kms_key_id",
                format!("`{key}` is neither an id, nor an alias (`alias/NAME`), nor an ARN of a key"),
            );
        }
        for (region, key) in keys.iter().filter(|(_, key)| !is_key(key)) {
            let path = format!("region_kms_key_ids.{region}");
            self.error(&path, format!("`{key}` is neither an id, nor an alias (`alias/NAME`), nor an ARN of a key"));
        }
        let is_encrypted = config.encrypt_boot == Some(true) || self.decoded.is_unknown("encrypt_boot");
        if !is_encrypted && (self.is_given("kms_key_id") || self.is_given("region_kms_key_ids")) {
            let name = if self.is_given("kms_key_id") { "kms_key_id" } else { "region_kms_key_ids" };
            self.warn(name, format!("`{name}` has no effect without `encrypt_boot = true`"));
        }
    }

    fn sharing(&mut self) {
        let config = self.config;
        if config.encrypt_boot != Some(true) {
            return;
        }
        let has_default = config.region_kms_key_ids.values().any(String::is_empty)
            || (!self.is_given("kms_key_id") && !config.skip_save_build_region);
        for name in ["snapshot_users", "snapshot_groups", "ami_users", "ami_groups"] {
            if has_default && self.is_given(name) && !self.decoded.is_unknown("kms_key_id") {
                self.error(name, format!("`{name}`: nothing that is encrypted with the default key can be shared"))
                    .help =
                    Some("set `kms_key_id`, and `region_kms_key_ids` for copies, to keys that may be shared".into());
            }
        }
    }

    fn times(&mut self) {
        let config = self.config;
        if let Some(text) = config.deprecate_at.as_deref().filter(|text| !text.is_empty())
            && text.parse::<jiff::Timestamp>().is_err()
        {
            self.error("deprecate_at", format!("`{text}` is not a time like `2030-01-31T12:00:00Z`"));
        }
        if let Some(minutes) = config.snapshot_copy_duration_minutes
            && (!(15..=2880).contains(&minutes) || minutes % 15 != 0)
        {
            let title =
                format!("`snapshot_copy_duration_minutes` is {minutes}; it goes from 15 to 2880 in steps of 15");
            self.error("snapshot_copy_duration_minutes", title);
        }
    }

    fn fast_launch(&mut self) {
        let fast = &self.config.fast_launch;
        if let Some(count) = fast.max_parallel_launches.filter(|count| *count < 6) {
            self.error(
                "fast_launch.max_parallel_launches",
                format!("`max_parallel_launches` is {count}; it is at least 6"),
            );
        }
        if fast.template_id.is_some() && fast.template_name.is_some() {
            self.error("fast_launch.template_name", "either `template_id` or `template_name`, not both");
        }
        if fast.template_version.is_some() && fast.template_id.is_none() && fast.template_name.is_none() {
            self.error("fast_launch.template_version", "`template_version` needs `template_id` or `template_name`");
        }
        for (index, template) in fast.region_launch_templates.iter().enumerate() {
            let path = format!("fast_launch.region_launch_templates[{index}]");
            if template.region.is_empty() && !self.decoded.is_unknown(&path) {
                self.error(&path, "`region_launch_templates` needs `region`");
            }
        }
    }
}

/// An id (also of a multi-region key), an alias, or an ARN.
fn looks_like_key(key: &str) -> bool {
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_id =
        |text: &str| text.strip_prefix("mrk-").is_some_and(is_hex) || (text.len() == 36 && text.split('-').all(is_hex));
    key.starts_with("alias/") || (key.starts_with("arn:") && key.contains(":kms:")) || is_id(key)
}
