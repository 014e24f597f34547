//! Why a step runs: what differs from the last build.

use kiln_core::{Input, PlanRecord};

use super::reason::{Change, ChangeKind, Reason};

/// A step as it is now.
pub(crate) struct Present<'a> {
    pub(crate) index: usize,
    pub(crate) kind: &'a str,
    pub(crate) inputs: &'a [Input],
    /// Inputs of the step after it.
    pub(crate) next: Option<&'a [Input]>,
}

/// What of the base differs; empty where nothing does.
pub(crate) fn base(last: &PlanRecord, now: &[Input]) -> Vec<Change> {
    changes(&last.base, now)
}

/// Why the first step that runs does, where nothing bars it.
pub(crate) fn miss(last: Option<&PlanRecord>, base_now: &[Input], step: &Present<'_>) -> Reason {
    let Some(last) = last else { return Reason::NeverBuilt };
    let changed = base(last, base_now);
    if !changed.is_empty() {
        return Reason::BaseChanged { changes: changed };
    }
    let Some(before) = last.steps.get(step.index) else { return Reason::NeverBuilt };
    let is_same = |inputs: &[Input]| same(inputs, step.inputs);
    if before.kind != step.kind || !is_same(&before.inputs) {
        let was_elsewhere = last.steps.iter().any(|other| other.kind == step.kind && is_same(&other.inputs));
        let is_inserted = step.next.is_some_and(|next| same(next, &before.inputs));
        return match (was_elsewhere, is_inserted || before.kind != step.kind) {
            (true, _) => Reason::Moved,
            (false, true) => Reason::NeverBuilt,
            (false, false) => Reason::Changed { changes: changes(&before.inputs, step.inputs) },
        };
    }
    match (&before.state, &before.not_kept) {
        _ if before.has_failed => Reason::Failed,
        (_, Some(why)) => Reason::NotKept { why: why.clone() },
        (Some(_), None) => Reason::Removed,
        (None, None) => Reason::NeverBuilt,
    }
}

fn same(one: &[Input], other: &[Input]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| one.name == other.name && one.digest == other.digest)
}

fn changes(was: &[Input], now: &[Input]) -> Vec<Change> {
    let find = |inputs: &[Input], name: &str| inputs.iter().find(|input| input.name == name).cloned();
    let change = |name: &str, change, was: Option<String>, now: Option<String>| Change {
        name: name.to_owned(),
        change,
        was,
        now,
    };
    let mut changes = Vec::new();
    for input in now {
        match find(was, &input.name) {
            None => changes.push(change(&input.name, ChangeKind::New, None, input.shown.clone())),
            Some(before) if before.digest != input.digest => {
                changes.push(change(&input.name, ChangeKind::Changed, before.shown, input.shown.clone()));
            }
            Some(_) => {}
        }
    }
    for input in was.iter().filter(|input| find(now, &input.name).is_none()) {
        changes.push(change(&input.name, ChangeKind::Gone, input.shown.clone(), None));
    }
    if changes.is_empty() && !same(was, now) {
        // The same in another order.
        changes.extend(now.first().map(|input| change(&input.name, ChangeKind::Changed, None, None)));
    }
    changes
}
