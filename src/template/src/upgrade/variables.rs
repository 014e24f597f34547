//! The user variables of a legacy template as variables and locals.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use kiln_core::{Diagnostic, Diagnostics, Span};
use kiln_gotemplate::action_ranges;

use super::action::{Token, tokens};
use super::names::Names;
use super::text::{Converted, Lookup, Place, Variable, convert, literal};
use crate::legacy::json::{self, JsonObject, JsonValue, canonical_number};

/// A user variable of the template.
#[derive(Debug)]
struct Declared {
    /// Its name in HCL2.
    name: String,
    /// Its default; `None` where a value must be given.
    text: Option<String>,
    /// Where the default stands.
    span: Span,
    is_sensitive: bool,
    /// Whether its default is computed, which takes a local.
    is_local: bool,
    /// Whether it was only used.
    is_undeclared: bool,
}

/// All user variables, and the ones that the conversion adds.
#[derive(Debug, Default)]
pub(super) struct Variables {
    declared: IndexMap<String, Declared>,
    /// Variables of the environment by the name of the variable that holds each.
    environment: BTreeMap<String, String>,
    names: Names,
    locals: Names,
    /// Whether a value holds actions, where that is known.
    has_actions: BTreeMap<String, bool>,
    in_progress: BTreeSet<String>,
    /// Where the text that is being converted stands, for variables that are not declared.
    pub(super) at: Option<Span>,
    /// Names that are used and not declared, each with a place.
    pub(super) undeclared: Vec<(String, Option<Span>)>,
}

impl Variables {
    /// Reads `variables` and `sensitive-variables`.
    pub(super) fn read(root: &JsonObject, diagnostics: &mut Diagnostics) -> Variables {
        let mut variables = Variables::default();
        let sensitive: BTreeSet<&str> = match root.get("sensitive-variables").map(|member| &member.node.value) {
            Some(JsonValue::Array(items)) => items
                .iter()
                .filter_map(|item| match &item.value {
                    JsonValue::String(name) => Some(name.as_str()),
                    _ => None,
                })
                .collect(),
            _ => BTreeSet::new(),
        };
        if let Some(JsonValue::Object(members)) = root.get("variables").map(|member| &member.node.value) {
            for (name, member) in members {
                let text = match &member.node.value {
                    JsonValue::Null => None,
                    JsonValue::String(text) => Some(text.clone()),
                    JsonValue::Number(digits) => Some(canonical_number(digits)),
                    JsonValue::Bool(value) => Some(value.to_string()),
                    other => {
                        let title = format!("the variable `{name}` is {}, and must be a text", other.type_name());
                        diagnostics.push(Diagnostic::error("wrong-type", member.node.span, title));
                        continue;
                    }
                };
                let is_sensitive = sensitive.contains(name.as_str());
                // Messages quote its line.
                diagnostics.secrets.extend(text.clone().filter(|_| is_sensitive));
                variables.declare(name, text, member.node.span, is_sensitive, false);
                if variables.declared.last().is_some_and(|(_, made)| made.name != *name) {
                    let made = variables.declared.last().map_or("", |(_, made)| made.name.as_str());
                    let title = format!("the variable `{name}` is called `{made}` now");
                    let help = format!("HCL2 takes letters, digits, `_` and `-`; set it with `-var {made}=...`");
                    diagnostics.push(Diagnostic::warning("upgraded", member.name_span, title).help(help));
                }
            }
        }
        for name in sensitive {
            if let Some(declared) = variables.declared.get_mut(name) {
                declared.is_sensitive = true;
            } else if let Some(member) = root.get("sensitive-variables") {
                variables.declare(name, Some(String::new()), member.node.span, true, true);
            }
        }
        variables
    }

    fn declare(&mut self, name: &str, text: Option<String>, span: Span, is_sensitive: bool, is_undeclared: bool) {
        let made = self.names.take(name);
        let is_local = text.as_deref().is_some_and(needs_local);
        if is_local {
            self.locals.take(&made);
        }
        let declared = Declared { name: made, text, span, is_sensitive, is_local, is_undeclared };
        self.declared.insert(name.to_owned(), declared);
    }

    /// The blocks. Notes on what may differ go into `diagnostics`.
    pub(super) fn blocks(&mut self, source: &str, diagnostics: &mut Diagnostics) -> String {
        let mut variables = String::new();
        let mut locals = String::new();
        let mut own_locals = String::new();
        let mut index = 0;
        // Converting one may add others that are not declared.
        while let Some((name, declared)) = self.declared.get_index(index) {
            index += 1;
            let (name, code) = (name.clone(), declared.name.clone());
            let (text, span, is_local) = (declared.text.clone(), declared.span, declared.is_local);
            let (is_sensitive, is_undeclared) = (declared.is_sensitive, declared.is_undeclared);
            let converted = text.as_deref().map(|text| {
                self.at = Some(span);
                convert(text, if is_local { Place::Local } else { Place::Default }, self)
            });
            for (range, title) in converted.iter().flat_map(|converted| converted.notes.clone()) {
                let span = json::inside(source, span, range);
                diagnostics.push(Diagnostic::warning("upgraded", span, title));
            }
            let default =
                converted.as_ref().map(|converted| if is_local { "null".to_owned() } else { converted.expression() });
            if code != name {
                variables.push_str(&comment(&format!("`{name}` in the JSON template")));
            }
            if is_undeclared {
                variables.push_str("# Used without being declared\n");
            }
            variables.push_str(&variable(&code, default, is_sensitive));
            if let Some(converted) = converted.filter(|_| is_local) {
                let value = format!("var.{code} != null ? var.{code} : {}", converted.expression());
                if is_sensitive {
                    own_locals
                        .push_str(&format!("local \"{code}\" {{\nexpression = {value}\nsensitive = true\n}}\n\n"));
                } else {
                    locals.push_str(&format!("{code} = {value}\n"));
                }
            }
        }
        for (name, code) in &self.environment {
            variables.push_str(&variable(code, Some(format!("env({})", literal(name))), false));
        }
        if !locals.is_empty() {
            let why = "# Variables whose defaults are computed: a value that is given for one of them counts.\n";
            variables.push_str(&format!("{why}locals {{\n{locals}}}\n\n"));
        }
        variables + &own_locals
    }

    fn has_actions(&mut self, name: &str) -> bool {
        if let Some(known) = self.has_actions.get(name) {
            return *known;
        }
        let Some(Declared { text: Some(text), is_local, .. }) = self.declared.get(name) else { return false };
        let (text, place) = (text.clone(), if *is_local { Place::Local } else { Place::Default });
        // One that uses itself is a mistake, told when the template is loaded.
        if self.in_progress.len() >= MAXIMUM_CHAIN || !self.in_progress.insert(name.to_owned()) {
            return false;
        }
        let found = convert(&text, place, self).has_actions;
        self.in_progress.remove(name);
        self.has_actions.insert(name.to_owned(), found);
        found
    }
}

/// How many variables may need each other in a row: a bound on the stack.
const MAXIMUM_CHAIN: usize = 64;

impl Lookup for Variables {
    fn user(&mut self, name: &str) -> Variable {
        if !self.declared.contains_key(name) {
            let at = self.at.unwrap_or(Span::new(kiln_core::SourceId(0), 0..0));
            self.declare(name, Some(String::new()), at, false, true);
            self.undeclared.push((name.to_owned(), self.at));
        }
        let has_actions = self.has_actions(name);
        let Some(declared) = self.declared.get(name) else {
            return Variable { code: format!("var.{name}"), default: None, has_actions };
        };
        let root = if declared.is_local { "local" } else { "var" };
        let default = declared.text.clone().filter(|text| !text.contains("{{"));
        Variable { code: format!("{root}.{}", declared.name), default, has_actions }
    }

    fn environment(&mut self, name: &str) -> Variable {
        if !self.environment.contains_key(name) {
            let made = self.names.take(&format!("env_{name}"));
            self.environment.insert(name.to_owned(), made);
        }
        let code = self.environment.get(name).map(|made| format!("var.{made}")).unwrap_or_default();
        Variable { code, default: None, has_actions: false }
    }
}

/// Whether a default is more than a variable's default may be: a constant, or `env`.
fn needs_local(text: &str) -> bool {
    action_ranges(text).into_iter().any(|range| {
        let tokens = tokens(text, range);
        let plain_env = matches!(tokens.as_slice(), [(Token::Word(word), _), (Token::Text(_), _)] if word == "env");
        let is_computed = |token: &Token| match token {
            Token::Word(word) => matches!(
                word.as_str(),
                "user"
                    | "env"
                    | "template_dir"
                    | "uuid"
                    | "vault"
                    | "consul_key"
                    | "aws_secretsmanager"
                    | "aws_secretsmanager_raw"
            ),
            _ => false,
        };
        !plain_env && tokens.iter().any(|(token, _)| is_computed(token))
    })
}

/// The block of a variable.
fn variable(name: &str, default: Option<String>, is_sensitive: bool) -> String {
    let default = default.map(|default| format!("default = {default}\n")).unwrap_or_default();
    let sensitive = if is_sensitive { "sensitive = true\n" } else { "" };
    format!("variable \"{name}\" {{\ntype = string\n{default}{sensitive}}}\n\n")
}

/// A comment of as many lines as the text has.
pub(super) fn comment(text: &str) -> String {
    text.lines().map(|line| format!("# {line}").trim_end().to_owned() + "\n").collect()
}

/// The notes of a converted text, at their places in the template.
pub(super) fn notes(converted: &Converted, literal: Span, source: &str) -> Vec<Diagnostic> {
    let place = |range: &std::ops::Range<usize>| json::inside(source, literal, range.clone());
    converted.notes.iter().map(|(range, title)| Diagnostic::warning("upgraded", place(range), title.as_str())).collect()
}
