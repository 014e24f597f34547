//! The config of the committed image: the base image's own, changed only where the template says so.

use std::collections::HashMap;

use kiln_docker::engine::CommitSpec;
use kiln_docker::{ImageInfo, models};

use crate::changes::Changes;

/// What a commit is made of, beside the container.
pub(crate) struct CommitPlan<'a> {
    pub(crate) base: &'a ImageInfo,
    pub(crate) changes: &'a Changes,
    /// Labels to add.
    pub(crate) labels: HashMap<String, String>,
    pub(crate) author: Option<String>,
    pub(crate) comment: Option<String>,
    /// The container was made with a user or working directory of its own (`run_command`).
    pub(crate) container_has_user: bool,
    pub(crate) container_has_directory: bool,
}

/// The commit of a container. The engine fills what is absent here from the container, so everything that the container
/// has and the base has not is named: an empty entrypoint list stays empty, absence would become the keep-alive shell.
pub(crate) fn spec(container: &str, plan: CommitPlan<'_>) -> CommitSpec {
    let base = &plan.base.config;
    let mut labels = base.labels.clone().unwrap_or_default();
    labels.extend(plan.labels);
    let entrypoint =
        if plan.changes.resets_entrypoint { Vec::new() } else { plan.base.entrypoint.clone().unwrap_or_default() };
    let or_default = |text: &Option<String>, is_own: bool, default: &str| {
        text.clone().filter(|text| !text.is_empty()).or_else(|| is_own.then(|| default.to_owned()))
    };
    let config = models::ContainerConfig {
        user: or_default(&base.user, plan.container_has_user, "root"),
        working_dir: or_default(&base.working_dir, plan.container_has_directory, "/"),
        env: base.env.clone(),
        cmd: plan.base.command.clone(),
        entrypoint: Some(entrypoint),
        exposed_ports: base.exposed_ports.clone(),
        volumes: base.volumes.clone(),
        healthcheck: base.healthcheck.clone(),
        stop_signal: plan.changes.stop_signal.clone().or_else(|| base.stop_signal.clone()),
        shell: base.shell.clone(),
        labels: Some(labels),
        ..models::ContainerConfig::default()
    };
    let mut instructions = plan.changes.instructions.clone();
    // An ENTRYPOINT instruction takes the base's CMD away unless one follows; Packer puts it back.
    if plan.changes.sets_entrypoint
        && !plan.changes.sets_command
        && let Some(command) = plan.base.command.as_ref().filter(|command| !command.is_empty())
    {
        instructions.push(format!("CMD {}", serde_json::json!(command)));
    }
    CommitSpec {
        container: container.to_owned(),
        author: plan.author,
        comment: plan.comment,
        changes: instructions,
        config,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(base: &ImageInfo, changes: &[&str]) -> CommitSpec {
        let items: Vec<String> = changes.iter().map(|item| (*item).to_owned()).collect();
        let (changes, errors) = Changes::parse(&items);
        assert!(errors.is_empty());
        spec(
            "c",
            CommitPlan {
                base,
                changes: &changes,
                labels: HashMap::new(),
                author: None,
                comment: None,
                container_has_user: false,
                container_has_directory: true,
            },
        )
    }

    #[test]
    fn what_the_base_has_stays_and_what_it_has_not_is_said() {
        let base = ImageInfo { command: Some(vec!["bash".into()]), ..ImageInfo::default() };
        let seen = commit(&base, &[]);
        assert_eq!(seen.config.entrypoint, Some(Vec::new()));
        assert_eq!(seen.config.cmd, Some(vec!["bash".to_owned()]));
        assert_eq!(seen.config.working_dir.as_deref(), Some("/"));
        assert_eq!((seen.config.user, seen.config.tty, seen.config.hostname), (None, None, None));
        let seen = commit(&base, &["ENTRYPOINT [\"/run\"]"]);
        assert_eq!(seen.changes, ["ENTRYPOINT [\"/run\"]", "CMD [\"bash\"]"]);
        let seen = commit(&base, &["ENTRYPOINT [\"/run\"]", "CMD []"]);
        assert_eq!(seen.changes, ["ENTRYPOINT [\"/run\"]", "CMD []"]);
    }
}
