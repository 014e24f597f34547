//! What builds send to registries: which names, in which order, whether it is there already, and whether somebody agreed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_core::{
    Artifact, BuildContext, Diagnostic, Diagnostics, Failure, FailureClass, PostProcessor, Published, Span,
};

use crate::build::{BuildRun, Stopped, wrap};
use crate::error::{BuildError, EngineError};
use crate::guard::supervise;
use crate::policy::Decision;
use crate::prepare::{PreparedBuild, PreparedPostProcessor};

/// A post-processor that sends the image to registries, with what is known beforehand of the names.
struct Push<'a> {
    step: &'a PreparedPostProcessor,
    /// In full, each once, with the place of the post-processor that gives it.
    names: Vec<(String, Span)>,
    /// Whether these are all of them.
    is_complete: bool,
}

impl Push<'_> {
    fn is_at_place(&self, failure: Failure) -> Failure {
        let component = &self.step.spec.component;
        let stage =
            |source| BuildError::PostProcessor { kind: component.kind.clone(), place: self.step.place.clone(), source };
        wrap(failure, stage).at(component.span)
    }

    /// Those of its names that a published image lacks, with what they are to mean.
    fn missing(&self, published: &Published) -> BTreeMap<String, String> {
        let is_own = |name: &String| self.names.iter().any(|(own, _)| own == name);
        published.missing.clone().into_iter().filter(|(name, _)| is_own(name)).collect()
    }

    fn names(&self) -> Vec<String> {
        self.names.iter().map(|(name, _)| name.clone()).collect()
    }
}

fn pushes_of(chain: &[PreparedPostProcessor]) -> Vec<Push<'_>> {
    let mut pushes = Vec::new();
    let mut names: Vec<(String, Span)> = Vec::new();
    let mut is_complete = true;
    for step in chain {
        let ready = &step.component.ready;
        if ready.pushes() && !step.is_left_out {
            pushes.push(Push { step, names: names.clone(), is_complete });
        }
        for name in ready.names() {
            if !names.iter().any(|(known, _)| *known == name) {
                names.push((name, step.spec.component.span));
            }
        }
        is_complete &= !step.component.needs_facts();
    }
    pushes
}

fn pushes(build: &PreparedBuild) -> Vec<Push<'_>> {
    build.chains.iter().flat_map(|chain| pushes_of(chain)).collect()
}

/// In which order the chains of a build run: as they stand, but those that push nothing but `latest` come last, so that it
/// never means something that is not there under its own name.
pub(crate) fn order(chains: &[Vec<PreparedPostProcessor>]) -> Vec<usize> {
    let pushes_latest_alone = |chain: &[PreparedPostProcessor]| {
        let pushes = pushes_of(chain);
        let mut names = pushes.iter().flat_map(|push| &push.names).peekable();
        pushes.iter().all(|push| push.is_complete)
            && names.peek().is_some()
            && names.all(|(name, _)| name.ends_with(":latest"))
    };
    let mut order: Vec<usize> = (0..chains.len()).collect();
    order.sort_by_key(|index| pushes_latest_alone(&chains[*index]));
    order
}

/// Two builds that would push one name: which of them it means in the end would be a matter of chance.
pub(crate) fn refuse_same_names(builds: &[Option<PreparedBuild>], diagnostics: &mut Diagnostics) {
    type Place<'a> = (&'a str, Span);
    let mut first: BTreeMap<String, Place<'_>> = BTreeMap::new();
    let mut clashes: Vec<(Place<'_>, Place<'_>, Vec<String>)> = Vec::new();
    for build in builds.iter().flatten() {
        let own = build.own_pushes().into_iter().map(|name| (name, build.source_span));
        for (name, span) in own.chain(pushes(build).iter().flat_map(|push| push.names.iter().cloned())) {
            let here = (&*build.name, span);
            let there = *first.entry(name.clone()).or_insert(here);
            if there.0 == here.0 {
                continue;
            }
            match clashes.iter_mut().find(|(one, other, _)| (*one, *other) == (there, here)) {
                Some((.., names)) if names.contains(&name) => {}
                Some((.., names)) => names.push(name),
                None => clashes.push((there, here, vec![name])),
            }
        }
    }
    for (there, here, names) in clashes {
        let names = kiln_core::suggest::enumerate(names.iter().map(String::as_str));
        let title = format!("two builds would push {names}: `{}` and `{}`", there.0, here.0);
        let diagnostic = Diagnostic::error("same-name", here.1, title).label(format!("named here for `{}`", here.0));
        let diagnostic = match there.1 == here.1 {
            true => diagnostic.help(
                "put what tells the builds apart into the name, e.g. `${source.name}`, in legacy JSON `{{build_name}}`",
            ),
            false => diagnostic
                .also(there.1, format!("and here for `{}`", there.0))
                .help("give one of them another name, or let `only` say which build has it"),
        };
        diagnostics.push(diagnostic);
    }
}

/// Names that builds of a run have pushed, each with its build: those that were not known beforehand are seen here.
#[derive(Default)]
pub(crate) struct Claims(Mutex<BTreeMap<String, Arc<str>>>);

impl Claims {
    /// Takes names for a build. None is taken where one belongs to another build.
    fn claim(&self, names: &[String], build: &Arc<str>) -> Result<(), Failure> {
        let mut claims = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            if let Some(other) = claims.get(name).filter(|other| *other != build) {
                let error = EngineError::SameName { name: name.clone(), other: other.to_string() };
                return Err(Failure::build(error).hint("put what tells the builds apart into the name"));
            }
        }
        claims.extend(names.iter().map(|name| (name.clone(), Arc::clone(build))));
        Ok(())
    }
}

/// Whether something is to be settled before the build begins, and can be before those are there that it is built upon.
pub(crate) fn is_known_ahead(build: &PreparedBuild) -> bool {
    let pushes = pushes(build);
    let has_question = |push: &Push<'_>| {
        let ready = &push.step.component.ready;
        ready.asks_before() || ready.question().is_some()
    };
    let is_known = |push: &Push<'_>| push.is_complete && !push.names.is_empty() && !push.step.component.needs_facts();
    pushes.iter().any(has_question) && pushes.iter().all(is_known)
}

/// Whether all that a build would push is there already. Nothing is asked with `-force`, and where no push wants it asked.
///
/// # Errors
/// A registry that does not tell.
pub(crate) async fn published(build: &PreparedBuild, context: &BuildContext) -> Result<Option<Published>, Failure> {
    let pushes = pushes(build);
    let asks = |push: &Push<'_>| push.step.component.ready.asks_before();
    let Some(first) = pushes.iter().find(|push| asks(push)).filter(|_| !context.options.force) else {
        return Ok(None);
    };
    let in_vain = |why: String| {
        let (kind, place) = (&first.step.spec.component.kind, &first.step.place);
        context.events.warn(format!("`{kind}` ({place}) cannot skip this build: {why}"));
    };
    if let Some(other) = pushes.iter().find(|push| !asks(push)) {
        let (kind, place) = (&other.step.spec.component.kind, &other.step.place);
        in_vain(format!("`{kind}` ({place}) pushes whatever is there"));
        return Ok(None);
    }
    if build.pushes_itself() {
        in_vain("its source pushes by itself, whatever is there".to_owned());
        return Ok(None);
    }
    if pushes.iter().any(|push| !push.is_complete || push.names.is_empty()) {
        in_vain("the names that it pushes are known only once the machine runs".to_owned());
        return Ok(None);
    }
    let mut found: Option<Published> = None;
    for push in &pushes {
        let ready = &push.step.component.ready;
        let published = ready.published(&push.names(), context).await.map_err(|failure| push.is_at_place(failure))?;
        let Some(published) = published else { return Ok(None) };
        found = Some(match found {
            None => published,
            Some(first) => first.and(&published),
        });
    }
    Ok(found)
}

/// The first post-processor that asks before it pushes, where nobody is there to answer. A build that may turn out to have
/// nothing to push is not refused for that beforehand.
pub(crate) fn unanswerable(builds: &[PreparedBuild], force: bool) -> Option<Failure> {
    let pushes = builds.iter().flat_map(pushes);
    let mut asking = pushes.filter(|push| {
        let ready = &push.step.component.ready;
        ready.question().is_some() && (force || !ready.asks_before())
    });
    let first = asking.next()?;
    Some(first.is_at_place(nobody_there(&first.names())))
}

/// Why a build does not run that asks for a clean work tree in vain. Where nothing is pushed, nobody minds.
pub(crate) fn unclean(build: &PreparedBuild, no_push: bool) -> Option<Failure> {
    let found = build.spec.unclean.as_ref().filter(|_| !no_push && !build.is_taken())?;
    let error = EngineError::Unclean { build: build.name.to_string(), why: found.why.clone() };
    Some(Failure::environment(error).at(found.span).hint("commit it, or try it with `-no-push`"))
}

fn nobody_there(names: &[String]) -> Failure {
    Failure::new(FailureClass::Usage, EngineError::Unconfirmed { names: listed(names) })
        .hint("`-yes` answers the question, for runs without a terminal")
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "an image".to_owned() } else { names.join(", ") }
}

impl BuildRun {
    /// What is settled before anything is made or fetched: whether there is nothing to do, as all that it would push is
    /// there; else whether somebody agrees to what it will push.
    pub(crate) async fn already_published(&self) -> Result<Option<Published>, Stopped> {
        loop {
            if let Err(failure) = self.shared.stop.check() {
                return Err(Stopped::new(failure, Decision::CleanUp));
            }
            let context = self.stage_context(self.scope(), Arc::default());
            let work = self.look_and_ask(&context);
            let failure = match supervise(&self.shared.stop, &context.cancel, None, work).await {
                Ok(published) => return Ok(published),
                Err(failure) => failure,
            };
            // Nothing is there that could be left to look at.
            match self.decide(&failure).await {
                Decision::Retry => {}
                Decision::CleanUp | Decision::Leave { .. } => return Err(Stopped::new(failure, Decision::CleanUp)),
            }
        }
    }

    async fn look_and_ask(&self, context: &BuildContext) -> Result<Option<Published>, Failure> {
        let published = published(&self.prepared, context).await?;
        for push in pushes(&self.prepared) {
            let ready = &push.step.component.ready;
            let names = match &published {
                Some(published) => push.missing(published).into_keys().collect(),
                None => push.names(),
            };
            if published.is_none() || !names.is_empty() {
                self.confirm(ready.as_ref(), &names).await.map_err(|failure| push.is_at_place(failure))?;
            }
        }
        Ok(published)
    }

    /// Gives a published image the names that it lacks; those that it has now come back.
    pub(crate) async fn name_published(&self, published: &Published) -> Result<Vec<String>, Stopped> {
        let mut given = Vec::new();
        for push in pushes(&self.prepared) {
            let names = push.missing(published);
            while !names.is_empty() {
                let context = self.stage_context(self.scope(), Arc::default());
                let naming = async {
                    let all: Vec<String> = names.keys().cloned().collect();
                    self.shared.claims.claim(&all, &self.prepared.name)?;
                    push.step.component.ready.name_published(&names, &context).await
                };
                let named = supervise(&self.shared.stop, &context.cancel, None, naming).await;
                let failure = match named {
                    Ok(names) => {
                        given.extend(names);
                        break;
                    }
                    Err(failure) => push.is_at_place(failure),
                };
                match self.decide(&failure).await {
                    Decision::Retry => {}
                    // Nothing was made that could be left.
                    _ => return Err(Stopped::new(failure, Decision::CleanUp)),
                }
            }
        }
        Ok(given)
    }

    /// Takes the names that its builder pushes by itself, of which some were not known before.
    pub(crate) fn claim_own_pushes(&self) -> Result<(), Stopped> {
        let claimed = self.shared.claims.claim(&self.prepared.own_pushes(), &self.prepared.name);
        let Err(failure) = claimed.map_err(|failure| failure.at(self.prepared.source_span)) else { return Ok(()) };
        self.events.error(&failure);
        Err(Stopped::new(failure, Decision::CleanUp))
    }

    /// What is to be settled before a post-processor sends an artifact.
    pub(crate) async fn may_push(
        &self,
        post_processor: &dyn PostProcessor,
        artifact: &Artifact,
    ) -> Result<(), Failure> {
        if !post_processor.pushes() {
            return Ok(());
        }
        let names = post_processor.sends(artifact);
        self.shared.claims.claim(&names, &self.prepared.name)?;
        self.confirm(post_processor, &names).await
    }

    /// Asks about names that were not asked about yet.
    async fn confirm(&self, post_processor: &dyn PostProcessor, names: &[String]) -> Result<(), Failure> {
        let Some(question) = post_processor.question() else { return Ok(()) };
        let confirmed = || self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<String> = {
            let confirmed = confirmed();
            names.iter().filter(|name| !confirmed.contains(name)).cloned().collect()
        };
        if new.is_empty() {
            return Ok(());
        }
        if !self.shared.settings.yes {
            let asked = format!("{question} ({}) [y/N] ", new.join(", "));
            let answer = tokio::select! {
                biased;
                () = self.shared.stop.cancel.cancelled() => return Err(Failure::cancelled()),
                answer = self.shared.prompt.ask(&self.prepared.name, &asked) => answer,
            };
            match answer.as_deref().map(|answer| answer.trim().to_lowercase()).as_deref() {
                Some("y" | "yes") => {}
                Some(_) => return Err(Failure::build(EngineError::Declined { names: listed(&new) })),
                None => return Err(nobody_there(&new)),
            }
        }
        confirmed().extend(new);
        Ok(())
    }
}
