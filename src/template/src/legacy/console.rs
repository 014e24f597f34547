//! Texts that somebody types to see what they become.

use std::collections::BTreeMap;

use kiln_core::{Diagnostic, Diagnostics, Plan, SourceId, Span};
use kiln_gotemplate::{Rendered, Scope, render_with_report};

use super::references::references;
use super::text::{render_mistake, sensitive_pieces};

/// What a text with template actions becomes with a template's variables, outside of any build. `source` is the text in the
/// source map. `None` with a diagnostic where it cannot be rendered, or where it uses a variable without a value. What must
/// not be shown of it goes into the secrets of `diagnostics`.
pub fn evaluate(source: SourceId, text: &str, plan: &Plan, diagnostics: &mut Diagnostics) -> Option<String> {
    let place = |range| Span::new(source, range);
    let empty = BTreeMap::new();
    let values = plan.text_scope.user_variables.as_deref().unwrap_or(&empty);
    let before = diagnostics.items.len();
    for used in references(text).into_iter().filter(|used| !values.contains_key(&used.name)) {
        let name = &used.name;
        let span = place(used.range);
        diagnostics.push(if plan.variables.iter().any(|variable| variable.name == *name) {
            let title = format!("the variable `{name}` has no value");
            Diagnostic::error("missing-variable", span, title).help(format!("give it one with `-var {name}=VALUE`"))
        } else {
            let title = format!("no variable is called `{name}`");
            Diagnostic::error("undeclared-variable", span, title).did_you_mean(
                span,
                name,
                values.keys().map(String::as_str),
            )
        });
    }
    if diagnostics.items.len() > before {
        return None;
    }
    let scope = Scope { text: &plan.text_scope, build_name: None, build_type: None, build: None, allow_env: false };
    match render_with_report(text, &scope, &BTreeMap::new()) {
        Ok(report) => {
            let is_sensitive =
                |name: &str| plan.variables.iter().any(|variable| variable.sensitive && variable.name == name);
            diagnostics.secrets.extend(sensitive_pieces(text, &scope, is_sensitive));
            for field in report.missing_fields {
                let span = field.range.map_or(place(0..text.len()), place);
                diagnostics.push(
                    Diagnostic::warning("no-value", span, format!("`{}` has no value here", field.path))
                        .label("becomes `<no value>`"),
                );
            }
            match report.rendered {
                Rendered::Text(rendered) => Some(rendered),
                Rendered::Unknown => {
                    let title = "this is known only while a build runs";
                    diagnostics.push(Diagnostic::error("unknown-value", place(0..text.len()), title));
                    None
                }
            }
        }
        Err(error) => {
            let span = error.range.clone().map_or(place(0..text.len()), place);
            diagnostics.push(render_mistake(&error, span));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kiln_core::plan::VariableSummary;
    use kiln_core::{SourceMap, TextScope};

    use super::*;

    fn plan() -> Plan {
        let user_variables = BTreeMap::from([("name".to_owned(), "worker".to_owned())]);
        let required = VariableSummary {
            name: "later".to_owned(),
            value: "<unknown>".to_owned(),
            shown: "<unknown>".to_owned(),
            description: None,
            sensitive: false,
            required: true,
            unset: true,
        };
        Plan {
            variables: vec![required],
            text_scope: Arc::new(TextScope { user_variables: Some(Arc::new(user_variables)), ..TextScope::default() }),
            ..Plan::default()
        }
    }

    #[test]
    fn what_is_made_of_a_sensitive_variable_is_a_secret() {
        let mut plan = plan();
        plan.variables[0].name = "name".to_owned();
        plan.variables[0].sensitive = true;
        let mut sources = SourceMap::new();
        let text = "x {{user `name` | upper}}{{upper `open`}}";
        let source = sources.add("console", None, text);
        let mut diagnostics = Diagnostics::new();
        assert_eq!(evaluate(source, text, &plan, &mut diagnostics).as_deref(), Some("x WORKEROPEN"));
        assert_eq!(diagnostics.secrets, ["WORKER"]);
    }

    #[test]
    fn a_text_becomes_what_it_would_in_a_template_or_says_why_not() {
        for (text, expected) in [
            ("plain", Ok("plain")),
            ("x {{user `name` | upper}} y", Ok("x WORKER y")),
            ("{{.Vars}}", Ok("<no value>")),
            ("{{user `nmae`}}", Err("no variable is called `nmae`")),
            ("{{user `later`}}", Err("the variable `later` has no value")),
            ("{{build `ID`}}", Err("this is known only while a build runs")),
            ("{{usr `name`}}", Err("there is no template function `usr`")),
        ] {
            let mut sources = SourceMap::new();
            let source = sources.add("console", None, text);
            let mut diagnostics = Diagnostics::new();
            let found = evaluate(source, text, &plan(), &mut diagnostics);
            match expected {
                Ok(expected) => assert_eq!(found.as_deref(), Some(expected), "{diagnostics:?}"),
                Err(title) => assert_eq!((found, diagnostics.items[0].title.as_str()), (None, title), "{text}"),
            }
        }
    }
}
