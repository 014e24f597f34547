//! Builders as sources; provisioners and post-processors as the blocks of one build.

use kiln_core::{Diagnostic, FieldType, Schema};

use super::names::Names;
use super::text::{Piece, Place, convert, expression, literal, quoted};
use super::values::list;
use super::variables::comment;
use super::{Upgrade, block, json_text};
use crate::legacy::json::{JsonNode, JsonObject, JsonValue, Member};

/// A builder, as HCL2 calls it.
#[derive(Debug)]
pub(super) struct Source {
    /// Its name in the JSON template, as written.
    written: String,
    /// The same, rendered, where it could be.
    rendered: Option<String>,
    kind: String,
    label: String,
    /// Its local name, where the label cannot say it.
    local: Option<Vec<Piece>>,
}

impl Source {
    fn is_called(&self, name: &str) -> bool {
        self.written == name || self.rendered.as_deref() == Some(name)
    }

    /// `type.name` as an expression, for `only` and `except`.
    fn full_name(&self) -> String {
        let mut pieces = vec![Piece::Literal(format!("{}.", self.kind))];
        pieces.extend(self.name());
        quoted(&merged(pieces))
    }

    fn name(&self) -> Vec<Piece> {
        self.local.clone().unwrap_or_else(|| vec![Piece::Literal(self.label.clone())])
    }
}

/// Neighbouring literals as one.
fn merged(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut result: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (result.last_mut(), piece) {
            (Some(Piece::Literal(last)), Piece::Literal(text)) => last.push_str(&text),
            (_, piece) => result.push(piece),
        }
    }
    result
}

impl Upgrade<'_> {
    /// The sources with their bodies. `rendered` are the builders' names in their order, where they are known.
    pub(super) fn sources(&mut self, root: &JsonObject, rendered: &[String]) -> (Vec<Source>, String) {
        let mut sources = Vec::new();
        let mut text = String::new();
        let mut labels = Names::default();
        for (index, item) in self.items(root, "builders").iter().enumerate() {
            let Some((kind, members)) = self.component(item, "builder") else {
                text.push_str(&(self.take_comments() + "\n"));
                continue;
            };
            let written = match members.get("name").map(|member| &member.node.value) {
                Some(JsonValue::String(name)) if !name.is_empty() => name.clone(),
                _ => kind.clone(),
            };
            let (label, local) = self.label(&written, &kind, members, &mut labels);
            let schema = self.kinds.builder(&kind).map(|kind| kind.schema());
            self.plugins.extend(super::kinds::plugin(&kind));
            let body = self.body(members, schema, None, &["type", "name"], Place::Source);
            text.push_str(&self.annotation(item, "builders", index));
            text.push_str(&block(&format!("source {} {}", literal(&kind), literal(&label)), &body));
            text.push('\n');
            sources.push(Source { written, rendered: rendered.get(index).cloned(), kind, label, local });
        }
        (sources, text)
    }

    /// The label of a source, and its local name where the label cannot say what the builder is called.
    fn label(
        &mut self,
        written: &str,
        kind: &str,
        members: &JsonObject,
        labels: &mut Names,
    ) -> (String, Option<Vec<Piece>>) {
        let without_actions: String = pieces_of(written);
        let wanted = without_actions.trim_matches(['-', '_', '.', ' ']);
        let label = labels.take(if wanted.is_empty() { kind } else { wanted });
        if label == written {
            return (label, None);
        }
        let span = members.get("name").map(|member| member.node.span);
        self.variables.at = span;
        let converted = convert(written, Place::Source, &mut self.variables);
        if let Some(span) = span {
            if converted.has_actions {
                let title = "HCL2 does not render template actions in names of sources";
                self.note(Diagnostic::warning("upgraded", span, title).help("name it by an expression of HCL2"));
            } else if converted.literal().is_none() {
                let title = "the name of this source is an expression now, which kiln takes and Packer does not";
                self.note(Diagnostic::warning("upgraded", span, title));
            }
        }
        (label, Some(converted.pieces))
    }

    /// The build block.
    pub(super) fn build(&mut self, root: &JsonObject, sources: &[Source]) -> String {
        let mut text = String::from("build {\n");
        if let Some(Member { node: JsonNode { value: JsonValue::String(description), .. }, .. }) =
            root.get("description")
        {
            text.push_str(&format!("description = {}\n\n", literal(description)));
        }
        let reference = |source: &Source| literal(&format!("source.{}.{}", source.kind, source.label));
        if sources.iter().all(|source| source.local.is_none()) {
            let names: Vec<String> = sources.iter().map(reference).collect();
            text.push_str(&format!("sources = {}\n", list(&names)));
        } else {
            // Listed ones would come first, whatever their order.
            for (index, source) in sources.iter().enumerate() {
                let name = source.local.as_ref().map(|name| format!("name = {}\n", expression(name)));
                let break_before = if index > 0 { "\n" } else { "" };
                let block = block(&format!("source {}", reference(source)), &name.unwrap_or_default());
                text.push_str(&(break_before.to_owned() + &block));
            }
        }
        for (index, item) in self.items(root, "provisioners").iter().enumerate() {
            let annotation = self.annotation(item, "provisioners", index);
            text.push_str(&format!("\n{annotation}{}", self.provisioner(item, "provisioner", sources)));
        }
        if let Some(member) = root.get("error-cleanup-provisioner").filter(|member| !member.node.value.is_null()) {
            text.push('\n');
            text.push_str(&self.provisioner(&member.node, "error-cleanup-provisioner", sources));
        }
        for (index, item) in self.items(root, "post-processors").iter().enumerate() {
            let annotation = self.annotation(item, "post-processors", index);
            let chain = match &item.value {
                JsonValue::Array(links) => self.chain(links, sources),
                _ => self.post_processor(item, sources),
            };
            if !chain.is_empty() {
                text.push_str(&format!("\n{annotation}{chain}"));
            }
        }
        text.push_str(&self.take_comments());
        text.push_str("}\n");
        text
    }

    fn provisioner(&mut self, item: &JsonNode, what: &str, sources: &[Source]) -> String {
        let Some((kind, members)) = self.component(item, what) else { return self.take_comments() };
        let schema = self.kinds.provisioner(&kind).map(|kind| kind.schema());
        self.plugins.extend(super::kinds::plugin(&kind));
        let mut text = self.applies(members, sources);
        for (name, kind) in [
            ("pause_before", FieldType::Duration),
            ("timeout", FieldType::Duration),
            ("max_retries", FieldType::Integer),
        ] {
            if let Some(member) = members.get(name).filter(|member| !is_absent(&member.node)) {
                let value = self.typed(&member.node, kind, Place::Source);
                text.push_str(&format!("{}{name} = {value}\n", self.take_comments()));
            }
        }
        let skip = ["type", "only", "except", "pause_before", "timeout", "max_retries", "override"];
        text.push_str(&self.body(members, schema, None, &skip, Place::Step));
        text.push_str(&self.overrides(members, schema, sources));
        block(&format!("{what} {}", literal(&kind)), &text)
    }

    fn overrides(&mut self, members: &JsonObject, schema: Option<&'static Schema>, sources: &[Source]) -> String {
        let Some(member) = members.get("override") else { return String::new() };
        let JsonValue::Object(overrides) = &member.node.value else {
            if member.node.value.is_null() {
                return String::new();
            }
            let title = format!("`override` must be an object, and this is {}", member.node.value.type_name());
            self.note(Diagnostic::warning("upgraded", member.node.span, title));
            return self.take_comments() + &comment(&format!("override = {}", json_text(&member.node)));
        };
        let mut text = String::new();
        for (name, member) in overrides {
            let JsonValue::Object(arguments) = &member.node.value else { continue };
            let key = match sources.iter().find(|source| source.is_called(name)) {
                Some(source) => quoted(&source.name()),
                None => {
                    self.unknown_builder(name, member);
                    literal(name)
                }
            };
            let mut entries = String::new();
            for (name, member) in arguments {
                let value = match schema.and_then(|schema| schema.field(name)) {
                    Some(field) => self.typed(&member.node, field.kind, Place::Step),
                    None => self.any(&member.node, Place::Step),
                };
                entries.push_str(&format!("{} = {value}\n", override_key(name)));
            }
            text.push_str(&format!("{}{key} = {{\n{entries}}}\n", self.take_comments()));
        }
        format!("override = {{\n{text}}}\n")
    }

    fn unknown_builder(&mut self, name: &str, member: &Member) {
        let title = format!("no builder is called `{name}`");
        self.note(Diagnostic::warning("upgraded", member.name_span, title));
    }

    /// `only` and `except`, by the full names of the sources. An empty list is no condition.
    fn applies(&mut self, members: &JsonObject, sources: &[Source]) -> String {
        let mut text = String::new();
        for key in ["only", "except"] {
            let Some(member) = members.get(key) else { continue };
            let items = match &member.node.value {
                JsonValue::Array(items) => items.as_slice(),
                JsonValue::Null => continue,
                _ => std::slice::from_ref(&member.node),
            };
            let mut names = Vec::with_capacity(items.len());
            for item in items {
                let JsonValue::String(name) = &item.value else {
                    let title = format!("`{key}` lists names, and this is {}", item.value.type_name());
                    self.note(Diagnostic::warning("upgraded", item.span, title));
                    continue;
                };
                match sources.iter().find(|source| source.is_called(name)) {
                    Some(source) => names.push(source.full_name()),
                    None => {
                        let title = format!("no builder is called `{name}`");
                        self.note(Diagnostic::warning("upgraded", item.span, title));
                        names.push(literal(name));
                    }
                }
            }
            text.push_str(&self.take_comments());
            if !items.is_empty() {
                text.push_str(&format!("{key} = {}\n", list(&names)));
            }
        }
        text
    }

    fn chain(&mut self, links: &[JsonNode], sources: &[Source]) -> String {
        let blocks: Vec<String> = links.iter().map(|link| self.post_processor(link, sources)).collect();
        match blocks.as_slice() {
            [] => String::new(),
            [one] => one.clone(),
            blocks => format!("post-processors {{\n{}}}\n", blocks.join("\n")),
        }
    }

    fn post_processor(&mut self, item: &JsonNode, sources: &[Source]) -> String {
        if let JsonValue::String(kind) = &item.value {
            self.plugins.extend(super::kinds::plugin(kind));
            return block(&format!("post-processor {}", literal(kind)), "");
        }
        let Some((kind, members)) = self.component(item, "post-processor") else { return self.take_comments() };
        let schema = self.kinds.post_processor(&kind).map(|kind| kind.schema());
        self.plugins.extend(super::kinds::plugin(&kind));
        let mut text = String::new();
        if let Some(member) = members.get("name").filter(|member| !is_absent(&member.node)) {
            text.push_str(&format!("name = {}\n", self.plain(&member.node)));
        }
        text.push_str(&self.applies(members, sources));
        if let Some(member) = members.get("keep_input_artifact").filter(|member| !is_absent(&member.node)) {
            let value = self.typed(&member.node, FieldType::Bool, Place::Source);
            text.push_str(&format!("{}keep_input_artifact = {value}\n", self.take_comments()));
        }
        let skip = ["type", "name", "only", "except", "keep_input_artifact"];
        text.push_str(&self.body(members, schema, None, &skip, Place::Step));
        block(&format!("post-processor {}", literal(&kind)), &text)
    }

    /// A text that is never rendered.
    fn plain(&mut self, node: &JsonNode) -> String {
        match &node.value {
            JsonValue::String(text) => literal(text),
            _ => self.any(node, Place::Source),
        }
    }

    /// The type and the members of a component. One that cannot be read is a comment, and told.
    fn component<'b>(&mut self, item: &'b JsonNode, what: &str) -> Option<(String, &'b JsonObject)> {
        if let JsonValue::Object(members) = &item.value
            && let Some(JsonValue::String(kind)) = members.get("type").map(|member| &member.node.value)
        {
            return Some((kind.clone(), members));
        }
        let title = format!("this {what} has no type that can be read, and is a comment now");
        self.note(Diagnostic::warning("upgraded", item.span, title));
        self.comments.push_str(&comment(&format!("{what} {}", json_text(item))));
        None
    }
}

/// A text without its actions.
fn pieces_of(text: &str) -> String {
    let mut rest = String::new();
    let mut offset = 0;
    for range in kiln_gotemplate::action_ranges(text) {
        rest.push_str(&text[offset..range.start]);
        offset = range.end;
    }
    rest.push_str(&text[offset..]);
    rest
}

fn is_absent(node: &JsonNode) -> bool {
    match &node.value {
        JsonValue::Null => true,
        JsonValue::String(text) => text.is_empty(),
        _ => false,
    }
}

fn override_key(name: &str) -> String {
    if super::names::is_identifier(name) && name != "for" { name.to_owned() } else { literal(name) }
}
