//! Labels that kiln adds.

use std::collections::BTreeMap;

use kiln_core::BuildContext;

/// The image's labels: those of the template, and kiln's own below them. None of them changes from run to run, so that what
/// did not change keeps its id.
pub(crate) fn labels(
    given: &BTreeMap<String, String>,
    kiln_labels: bool,
    context: &BuildContext,
) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    if kiln_labels {
        labels.insert("kiln.build".to_owned(), context.build.to_string());
        labels.extend(context.options.origin.labels());
    }
    labels.extend(given.clone());
    labels
}
