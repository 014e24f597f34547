//! The `packer` block: the version a template asks for, and its plug-ins.

use std::cmp::Ordering;

use kiln_core::{Diagnostic, Diagnostics, PACKER_VERSION, Span};
use kiln_language::functions::FunctionContext;
use kiln_language::syntax::Block;

use crate::grammar;

use super::blocks::{check_items, labels};
use super::scope::{constant, constant_text};

/// `required_plugins`: name, source, version constraint.
pub(crate) type RequiredPlugin = (String, String, String);

/// Checks `required_version` of all `packer` blocks; whether the template may be read on.
pub(crate) fn check_version(blocks: &[Block], functions: &FunctionContext, diagnostics: &mut Diagnostics) -> bool {
    let mut fits = true;
    for attribute in blocks.iter().filter_map(|block| block.body.attribute("required_version")) {
        let span = attribute.value.span;
        let Some(text) = constant_text(&attribute.value, functions, "`required_version`", diagnostics) else {
            continue;
        };
        match fits_constraints(PACKER_VERSION, &releases(&text)) {
            Ok(true) => {}
            // Packer refuses here. Pins to older releases guard against surprises of Packer's own; the template is read on.
            Ok(false) if !asks_for_newer(PACKER_VERSION, &text) => diagnostics.push(
                Diagnostic::warning("version-mismatch", span, format!("this template asks for Packer `{text}`"))
                    .label(format!("kiln behaves like Packer {PACKER_VERSION}")),
            ),
            Ok(false) => {
                fits = false;
                diagnostics.push(
                    Diagnostic::error("version-mismatch", span, format!("this template asks for Packer `{text}`"))
                        .label(format!("kiln behaves like Packer {PACKER_VERSION}"))
                        .help("change `required_version` if the template does not need a newer version after all"),
                );
            }
            Err(problem) => diagnostics.push(wrong_constraint(span, &text, problem)),
        }
    }
    fits
}

/// Constraints with releases in the place of pre-releases, of which kiln has none.
fn releases(constraints: &str) -> String {
    let releases = constraints.split(',').map(|one| one.split_once('-').map_or(one, |(release, _)| release));
    releases.collect::<Vec<_>>().join(",")
}

fn wrong_constraint(span: Span, text: &str, problem: ConstraintError) -> Diagnostic {
    Diagnostic::error("wrong-version", span, format!("`{text}` is not a version constraint: {problem}"))
        .help("write for example `>= 1.7.0, < 2.0.0` or `~> 1.9`")
}

/// Checks the shape of all `packer` blocks and returns the plug-ins they ask for.
pub(crate) fn required_plugins(
    blocks: &[Block],
    functions: &FunctionContext,
    diagnostics: &mut Diagnostics,
) -> Vec<RequiredPlugin> {
    let mut plugins = Vec::new();
    for block in blocks {
        check_items(&block.body, &grammar::PACKER, diagnostics);
        for inner in block.body.blocks().filter(|inner| inner.kind.text == "required_plugins") {
            if labels(inner, [], diagnostics).is_some() {
                read_plugins(inner, functions, &mut plugins, diagnostics);
            }
        }
    }
    plugins
}

fn read_plugins(
    block: &Block,
    functions: &FunctionContext,
    plugins: &mut Vec<RequiredPlugin>,
    diagnostics: &mut Diagnostics,
) {
    for inner in block.body.blocks() {
        let name = &inner.kind.text;
        diagnostics.push(
            Diagnostic::error("argument-expected", inner.kind.span, format!("`{name}` must be an argument here"))
                .help(format!("write `{name} = {{ version = \"...\", source = \"...\" }}`, with `=`")),
        );
    }
    for attribute in block.body.attributes() {
        let (name, span) = (&attribute.name.text, attribute.value.span);
        let Some(value) = constant(&attribute.value, functions, "a required plug-in", diagnostics) else { continue };
        let Some(entries) = value.as_entries() else {
            let title = format!("the plug-in `{name}` must be given as an object");
            diagnostics.push(
                Diagnostic::error("wrong-type", span, title)
                    .help(format!("write `{name} = {{ version = \">= 1.0.0\", source = \"github.com/...\" }}`")),
            );
            continue;
        };
        for key in entries.keys().filter(|key| !matches!(key.as_str(), "version" | "source")) {
            let place = super::to_config::literal_entry(Some(&attribute.value), key).map_or(span, |(key, _)| key.span);
            diagnostics.push(
                Diagnostic::error("unknown-argument", place, format!("a required plug-in has no argument `{key}`"))
                    .did_you_mean(place, key, ["version", "source"]),
            );
        }
        let text = |key: &str| entries.get(key).and_then(|value| value.as_str()).map(str::to_owned);
        let (source, version) = (text("source"), text("version"));
        if source.is_none() {
            let title = format!("the plug-in `{name}` needs a `source`, such as \"github.com/hashicorp/docker\"");
            diagnostics.push(Diagnostic::error("missing-argument", span, title));
        }
        if let Some(version) = &version
            && let Err(problem) = fits_constraints("1.0.0", version)
        {
            let written = super::to_config::literal_entry(Some(&attribute.value), "version");
            diagnostics.push(wrong_constraint(written.map_or(span, |(_, value)| value.span), version, problem));
        }
        plugins.push((name.clone(), source.unwrap_or_default(), version.unwrap_or_default()));
    }
}

/// Why a text is not a version constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum ConstraintError {
    /// Not numbers between dots.
    #[error("`{0}` is not a version")]
    Malformed(String),
    /// `1.0.0-beta`; Packer refuses those.
    #[error("a pre-release (`{0}`) cannot be asked for")]
    PreRelease(String),
}

/// Whether a version fits constraints such as `>= 1.7, != 1.8.0` (all must hold; `=` is the default operator).
fn fits_constraints(version: &str, constraints: &str) -> Result<bool, ConstraintError> {
    let actual = numbers(version)?;
    let mut fits = true;
    for constraint in constraints.split(',') {
        let constraint = constraint.trim();
        let digits = constraint.find(|c: char| !"=!<>~ ".contains(c)).unwrap_or(constraint.len());
        let (operator, wanted_text) = constraint.split_at(digits);
        let wanted = numbers(wanted_text)?;
        let order = compare(&actual, &wanted);
        fits &= match operator.trim() {
            "" | "=" => order == Ordering::Equal,
            "!=" => order != Ordering::Equal,
            ">" => order == Ordering::Greater,
            ">=" => order != Ordering::Less,
            "<" => order == Ordering::Less,
            "<=" => order != Ordering::Greater,
            // At least this, and the same but for the last number given.
            "~>" => {
                let fixed = wanted.len().saturating_sub(1).max(1);
                order != Ordering::Less && compare(&prefix(&actual, fixed), &prefix(&wanted, fixed)) == Ordering::Equal
            }
            _ => return Err(ConstraintError::Malformed(constraint.to_owned())),
        };
    }
    Ok(fits)
}

/// Whether one of the constraints wants features of a later release: a greater major or minor number at least.
fn asks_for_newer(version: &str, constraints: &str) -> bool {
    let Ok(actual) = numbers(version) else { return false };
    constraints.split(',').map(str::trim).filter(|constraint| !constraint.starts_with(['<', '!'])).any(|constraint| {
        let wanted = numbers(constraint.trim_start_matches(['=', '>', '~', ' ']));
        wanted.is_ok_and(|wanted| compare(&prefix(&wanted, 2), &prefix(&actual, 2)) == Ordering::Greater)
    })
}

fn numbers(version: &str) -> Result<Vec<u64>, ConstraintError> {
    let text = version.trim();
    let text = text.strip_prefix('v').unwrap_or(text);
    let (text, build) = text.split_once('+').unwrap_or((text, ""));
    let _ = build;
    if let Some((numbers, _)) = text.split_once('-')
        && numbers.split('.').all(|number| number.parse::<u64>().is_ok())
    {
        return Err(ConstraintError::PreRelease(version.trim().to_owned()));
    }
    let malformed = |_| ConstraintError::Malformed(version.trim().to_owned());
    text.split('.').map(|number| number.parse::<u64>().map_err(malformed)).collect()
}

fn prefix(version: &[u64], length: usize) -> Vec<u64> {
    version.iter().copied().chain(std::iter::repeat(0)).take(length).collect()
}

/// Missing numbers count as 0.
fn compare(left: &[u64], right: &[u64]) -> Ordering {
    let length = left.len().max(right.len());
    prefix(left, length).cmp(&prefix(right, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_hold_as_documented() {
        let fits = |constraint| fits_constraints("1.16.0", constraint).unwrap();
        assert!(fits(">= 1.7.0") && fits("~> 1.7") && fits("1.16") && fits("= 1.16.0") && fits(">= 1.7, < 2.0.0"));
        assert!(!fits("< 1.9") && !fits("~> 1.7.0") && !fits("!= 1.16.0") && !fits("> 1.16.0"));
        assert!(fits("~> 1"));
    }

    #[test]
    fn only_a_greater_minor_number_is_newer() {
        let newer = |constraint| asks_for_newer("1.16.0", constraint);
        assert!(newer(">= 1.17") && newer("~> 2.0") && newer("= 1.20.1") && newer(">= 1.7, > 1.16, 2"));
        assert!(
            !newer("= 1.16.1") && !newer("~> 1.7.0") && !newer("< 1.9") && !newer("!= 1.20.0") && !newer("= 1.14.3")
        );
    }

    #[test]
    fn nonsense_and_pre_releases_are_refused() {
        assert!(matches!(fits_constraints("1.16.0", ">= one"), Err(ConstraintError::Malformed(_))));
        assert!(matches!(fits_constraints("1.16.0", "=> 1.0"), Err(ConstraintError::Malformed(_))));
        assert!(matches!(fits_constraints("1.16.0", ">= 1.0.0-beta1"), Err(ConstraintError::PreRelease(_))));
    }
}
