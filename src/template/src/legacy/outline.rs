//! What a template lists, as it is written, for `inspect`. Mistakes are not told here: loading tells them.

use kiln_core::outline::{LegacyOutline, LegacyVariable, Outline};

use super::json::{JsonNode, JsonObject, JsonValue};

/// The outline of a template.
pub(super) fn outline(root: &JsonObject) -> Outline {
    let sensitive: Vec<&str> = items(root, "sensitive-variables").iter().filter_map(text).collect();
    let mut variables: Vec<LegacyVariable> = match root.get("variables").map(|member| &member.node.value) {
        Some(JsonValue::Object(variables)) => variables
            .iter()
            .map(|(name, member)| LegacyVariable {
                name: name.clone(),
                default: text(&member.node).map(str::to_owned),
                sensitive: sensitive.contains(&name.as_str()),
            })
            .collect(),
        _ => Vec::new(),
    };
    variables.sort_by(|left, right| left.name.cmp(&right.name));
    let mut builders: Vec<(String, String)> = items(root, "builders")
        .iter()
        .filter_map(|item| {
            let kind = of(item, "type")?.to_owned();
            let name = of(item, "name").filter(|name| !name.is_empty()).map_or_else(|| kind.clone(), str::to_owned);
            Some((name, kind))
        })
        .collect();
    builders.sort();
    let provisioners = items(root, "provisioners").iter().filter_map(|item| of(item, "type").map(str::to_owned));
    let legacy = LegacyOutline { variables, builders, provisioners: provisioners.collect() };
    Outline { legacy: Some(legacy), ..Outline::default() }
}

fn items<'a>(root: &'a JsonObject, name: &str) -> &'a [JsonNode] {
    match root.get(name).map(|member| &member.node.value) {
        Some(JsonValue::Array(items)) => items,
        _ => &[],
    }
}

/// A member of an object that is a text, or a number, which Packer takes for one.
fn of<'a>(node: &'a JsonNode, name: &str) -> Option<&'a str> {
    let JsonValue::Object(members) = &node.value else { return None };
    text(&members.get(name)?.node)
}

fn text(node: &JsonNode) -> Option<&str> {
    match &node.value {
        JsonValue::String(text) | JsonValue::Number(text) => Some(text),
        _ => None,
    }
}
