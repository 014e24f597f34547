//! The arguments of a component: which become attributes, which blocks, which comments.

use kiln_core::{Diagnostic, FieldType, Schema};

use super::text::Place;
use super::variables::comment;
use super::{Upgrade, block, json_text, kinds, literal, names};
use crate::legacy::json::{JsonObject, JsonValue, Member};

impl Upgrade<'_> {
    /// Lines of a body. `skip` are those that the caller writes itself; `parent` is the block around them.
    pub(super) fn body(
        &mut self,
        members: &JsonObject,
        schema: Option<&'static Schema>,
        parent: Option<&str>,
        skip: &[&str],
        place: Place,
    ) -> String {
        let mut text = String::new();
        for (name, member) in members {
            if skip.contains(&name.as_str()) {
                continue;
            }
            let lines = self.argument(name, member, schema, parent, place);
            text.push_str(&self.take_comments());
            text.push_str(&lines);
        }
        text.push_str(&self.take_comments());
        text
    }

    fn argument(
        &mut self,
        name: &str,
        member: &Member,
        schema: Option<&'static Schema>,
        parent: Option<&str>,
        place: Place,
    ) -> String {
        if name.starts_with('_') && schema.is_none_or(|schema| schema.field(name).is_none()) {
            return comment(&format!("{name}: {}", json_text(&member.node)));
        }
        if !names::is_identifier(name) {
            let title = format!("HCL2 has no arguments called `{name}`; this one is a comment now");
            self.note(Diagnostic::warning("upgraded", member.name_span, title));
            return comment(&format!("{name} = {}", json_text(&member.node)));
        }
        match schema {
            Some(schema) => match schema.field(name).map(|field| field.kind) {
                Some(FieldType::Block(inner)) => self.blocks(name, member, Some(inner), true, place),
                Some(FieldType::Blocks(inner)) => self.blocks(name, member, Some(inner), false, place),
                Some(FieldType::NamedBlocks(inner)) => match &member.node.value {
                    JsonValue::Object(named) => {
                        let block = |(label, member): (&String, &Member)| {
                            self.blocks(&format!("{name} {}", literal(label)), member, Some(inner), true, place)
                        };
                        named.iter().map(block).collect()
                    }
                    _ => self.blocks(name, member, Some(inner), false, place),
                },
                Some(kind) => format!("{name} = {}\n", self.typed(&member.node, kind, place)),
                None => format!("{name} = {}\n", self.any(&member.node, place)),
            },
            None => self.guessed(name, member, parent, place),
        }
    }

    /// An argument of a kind that kiln does not have: lists of objects are blocks, objects are blocks or maps.
    fn guessed(&mut self, name: &str, member: &Member, parent: Option<&str>, place: Place) -> String {
        let is_block = match &member.node.value {
            JsonValue::Object(_) => kinds::is_block(parent, name),
            JsonValue::Array(items) => {
                !items.is_empty() && items.iter().all(|item| matches!(item.value, JsonValue::Object(_)))
            }
            _ => false,
        };
        if is_block {
            return self.blocks(name, member, None, false, place);
        }
        // A text that stands for something else.
        if let (JsonValue::String(_), Some(kind)) = (&member.node.value, kinds::argument_type(name)) {
            return format!("{name} = {}\n", self.typed(&member.node, kind, place));
        }
        format!("{name} = {}\n", self.any(&member.node, place))
    }

    fn blocks(
        &mut self,
        name: &str,
        member: &Member,
        schema: Option<&'static Schema>,
        is_one: bool,
        place: Place,
    ) -> String {
        let items = match &member.node.value {
            JsonValue::Array(items) => items.as_slice(),
            _ => std::slice::from_ref(&member.node),
        };
        if is_one && items.len() > 1 {
            let title = format!("`{name}` may stand only once, and this is a list");
            self.note(Diagnostic::warning("upgraded", member.node.span, title));
        }
        let mut text = String::new();
        for item in items {
            match &item.value {
                JsonValue::Object(members) => {
                    let body = self.body(members, schema, Some(name), &[], place);
                    text.push_str(&block(name, &body));
                }
                // Absent.
                JsonValue::Null => {}
                _ => {
                    let title = format!("`{name}` must be an object, and this is {}", item.value.type_name());
                    self.note(Diagnostic::warning("upgraded", item.span, title));
                    text.push_str(&comment(&format!("{name} {}", json_text(item))));
                }
            }
        }
        text
    }
}
