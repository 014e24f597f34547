//! Keeping the state of a container as an image, where that pays.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use kiln_core::{BuildContext, Failure, Kept, Key, StateInfo};
use kiln_docker::naming::run_labels;
use kiln_docker::{ImageUndo, undo};

use crate::changes::Changes;
use crate::commit::{self, CommitPlan};
use crate::machine::DockerMachine;
use crate::states::{KEY, KeptImage};

/// What is done sooner is not worth an image, unless the template asks for it.
const WORTH: Duration = Duration::from_secs(10);

/// A commit may take this part of what the step took.
const SHARE: u32 = 5;

/// What a commit takes at least, and how many bytes of changes more a second. Small files are slower, large ones faster.
const COMMIT: Duration = Duration::from_millis(200);
const COMMITTED_PER_SECOND: f64 = 50e6;

/// Engines take 125 layers; some are left for what is built on the image.
const LAYERS: usize = 120;

/// What is known of the machine's states while it lives.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The one it is in, kept or not; before a step none, unless it is to be sealed as it started.
    pub(crate) state: Option<Key>,
    /// What it does now leads to no state that has a key.
    has_left: bool,
    has_had_secrets: bool,
}

impl Progress {
    pub(crate) fn from(state: Option<&KeptImage>) -> Progress {
        let has_had_secrets = state.is_some_and(|state| state.has_had_secrets);
        Progress { state: state.map(|state| state.key.clone()), has_left: false, has_had_secrets }
    }

    pub(crate) fn leave(&mut self) {
        *self = Progress { has_left: true, ..Progress::default() };
    }
}

impl DockerMachine {
    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it is now is told by the base's key.
    pub(crate) fn note_base(&self, base: &Key) {
        let mut progress = self.progress();
        if !progress.has_left && self.is_of_base() {
            progress.state = Some(base.clone());
        }
    }

    pub(crate) async fn keep_state(
        &self,
        key: &Key,
        info: &StateInfo,
        context: &BuildContext,
    ) -> Result<Kept, Failure> {
        let has_had_secrets = {
            let mut progress = self.progress();
            if progress.has_left {
                return Ok(Kept::NotWorth("a step before it failed"));
            }
            progress.state = Some(key.clone());
            progress.has_had_secrets |= info.used_secrets;
            progress.has_had_secrets
        };
        if let Some(reason) = self.obstacle() {
            return Ok(Kept::NotWorth(reason));
        }
        if !info.is_checkpoint
            && let Some(reason) = self.costs_too_much(info, has_had_secrets).await?
        {
            return Ok(Kept::NotWorth(reason));
        }
        let size = self.engine.container_size(&self.plan.started.id).await?;
        let base = self.plan.base.id.clone();
        let state = KeptImage { id: String::new(), key: key.clone(), info: info.clone(), base, size, has_had_secrets };
        let id = self.commit_state(&state, context).await?;
        self.plan.states.add(KeptImage { id, ..state }).await;
        self.trim_states(context).await;
        Ok(Kept::Kept { content: None })
    }

    /// Removes states beyond the size that is allowed. That of the present one is kept whatever comes of this.
    async fn trim_states(&self, context: &BuildContext) {
        let Some(limit) = self.plan.states_size else { return };
        if let Err(failure) = self.plan.states.trim(limit).await {
            context.events.warn(format!("cannot remove old states: {}", failure.chain()));
        }
    }

    /// Whether the container was made from the base itself.
    fn is_of_base(&self) -> bool {
        self.plan.spec.config.image.as_deref() == Some(&self.plan.base.id)
    }

    /// Why an image would not be the machine's state.
    fn obstacle(&self) -> Option<&'static str> {
        let plan = &self.plan;
        if plan.state.is_none() && !self.is_of_base() {
            return Some("`run_command` names an image of its own");
        }
        let binds = plan.spec.config.host_config.as_ref().and_then(|host| host.binds.as_ref());
        let is_named =
            |path: &str| binds.is_some_and(|binds| binds.iter().any(|bind| bind.split(':').nth(1) == Some(path)));
        if plan.started.mounts.iter().any(|(path, kind)| kind == "volume" && !is_named(path)) {
            return Some("the container has a volume of its own, which no image holds");
        }
        None
    }

    /// Why nobody would want to keep it who was not told to.
    async fn costs_too_much(&self, info: &StateInfo, has_had_secrets: bool) -> Result<Option<&'static str>, Failure> {
        let container = &self.plan.started.id;
        if info.took < WORTH {
            return Ok(Some("it took too little time"));
        }
        if has_had_secrets {
            return Ok(Some("a secret was at hand"));
        }
        if self.engine.processes(container).await?.len() > 1 {
            return Ok(Some("a process of its still runs, which no image holds"));
        }
        let size = self.engine.container_size(container).await?;
        if info.took < (COMMIT + Duration::from_secs_f64(size as f64 / COMMITTED_PER_SECOND)) * SHARE {
            return Ok(Some("keeping it would take more than a fifth of the time that it took"));
        }
        Ok((self.layers().await? >= LAYERS).then_some("its image would have too many layers"))
    }

    async fn layers(&self) -> Result<usize, Failure> {
        let Some(state) = &self.plan.state else { return Ok(self.plan.base.layers.len()) };
        let image = self.engine.inspect_image(&state.id).await?;
        Ok(image.map_or(0, |image| image.layers.len()))
    }

    async fn commit_state(&self, state: &KeptImage, context: &BuildContext) -> Result<String, Failure> {
        let store = self.plan.states.store().await?;
        let mut undo = ImageUndo {
            engine: self.engine.address().to_owned(),
            container: Some(self.plan.spec.name.clone()),
            labels: [(KEY.to_owned(), state.key.to_string())].into(),
            ..ImageUndo::default()
        };
        undo.others = self.engine.find_images(&undo.filter()).await?;
        let mut labels: std::collections::HashMap<String, String> = state.labels(&store).into();
        if self.plan.config.kiln_labels {
            // It outlives the run, and whoever starts from it says whose it is then.
            labels.extend(run_labels(context).into_keys().map(|name| (name, String::new())));
        }
        let spec = commit::spec(
            &self.plan.started.id,
            CommitPlan {
                base: &self.plan.base,
                changes: &Changes::default(),
                labels,
                author: None,
                comment: None,
                container_has_user: self.plan.spec.config.user.is_some(),
                container_has_directory: self.plan.spec.config.working_dir.is_some(),
            },
        );
        context.events.message(format!("keeping the state after this step as an image ({})", state.key.short()));
        let entry = context.journal.record(&context.build, undo.entry())?;
        // Not stopped halfway: the engine would go on. What it makes is whole in any case.
        let committed = self.engine.commit(&spec).await;
        let is_settled = match &committed {
            Ok(_) => true,
            Err(_) => undo::remove_images(&*self.engine, &undo).await.is_ok(),
        };
        if is_settled {
            context.journal.strike(entry)?;
        }
        Ok(committed?)
    }
}
