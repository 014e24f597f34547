//! The edits that fixers make of one component.

use std::sync::LazyLock;

use kiln_core::Span;
use regex::{NoExpand, Regex};

use super::table::Wins;
use super::{Fixing, member};
use crate::legacy::json::{JsonNode, JsonObject, JsonValue, Member};

/// Gives an argument another name. Where the new name is set too, one of the two values is left out, which is told.
pub(super) fn rename(fixing: &mut Fixing<'_>, object: &mut JsonObject, from: &str, to: &str, wins: Wins) {
    let Some(old) = object.shift_remove(from) else { return };
    let span = old.span();
    let text = match (object.get(to), wins) {
        (None, _) => format!("`{from}` is now `{to}`"),
        (Some(_), Wins::Old) => format!("`{from}` is now `{to}`, in place of the `{to}` that was set too"),
        (Some(_), Wins::New | Wins::NewWhateverTheOld) => format!("`{from}` is left out: `{to}` is set too"),
    };
    if wins == Wins::Old || !object.contains_key(to) {
        object.insert(to.to_owned(), old);
    }
    fixing.changed(span, text);
}

/// Takes an argument away.
pub(super) fn remove(fixing: &mut Fixing<'_>, object: &mut JsonObject, name: &str) {
    if let Some(old) = object.shift_remove(name) {
        fixing.changed(old.span(), format!("`{name}` is left out: it has no meaning any more"));
    }
}

/// Gives a component another type.
pub(super) fn kind(fixing: &mut Fixing<'_>, component: &mut JsonObject, to: &str) {
    let Some(kind) = component.get_mut("type") else { return };
    if let JsonValue::String(from) = std::mem::replace(&mut kind.node.value, JsonValue::String(to.to_owned())) {
        fixing.changed(kind.node.span, format!("the type `{from}` is now `{to}`"));
    }
}

/// The text of an argument that is one.
fn text<'a>(object: &'a JsonObject, name: &str) -> Option<(&'a str, Span)> {
    match object.get(name).map(|member| (&member.node.value, member.span())) {
        Some((JsonValue::String(text), span)) => Some((text, span)),
        _ => None,
    }
}

/// `iso_md5` as the pair of arguments that [`checksum`] joins.
pub(super) fn iso_md5(fixing: &mut Fixing<'_>, builder: &mut JsonObject) {
    if text(builder, "iso_md5").is_none() {
        return;
    }
    if let Some(old) = builder.get("iso_md5") {
        let kind = member(JsonValue::String("md5".to_owned()), old.node.span);
        builder.insert("iso_checksum_type".to_owned(), kind);
    }
    rename(fixing, builder, "iso_md5", "iso_checksum", Wins::Old);
}

/// In the names that images and snapshots are given.
pub(super) fn create_time(fixing: &mut Fixing<'_>, builder: &mut JsonObject) {
    #[expect(clippy::unwrap_used, reason = "the pattern is constant and used by the tests")]
    static OLD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\{\{\s*\.CreateTime\s*\}\}").unwrap());
    for name in ["ami_name", "bundle_prefix", "snapshot_name"] {
        if let Some(argument) = builder.get_mut(name) {
            replace(fixing, &mut argument.node, &OLD, "{{timestamp}}", "`{{.CreateTime}}` is now `{{timestamp}}`");
        }
    }
}

/// In texts, and in maps of texts.
pub(super) fn clean_names(fixing: &mut Fixing<'_>, builder: &mut JsonObject) {
    #[expect(clippy::unwrap_used, reason = "the pattern is constant and used by the tests")]
    static OLD: LazyLock<Regex> = LazyLock::new(|| Regex::new("clean_(image|ami)_name").unwrap());
    let (new, said) = ("clean_resource_name", "the function is now `clean_resource_name`");
    for argument in builder.values_mut() {
        if let JsonValue::Object(entries) = &mut argument.node.value {
            for entry in entries.values_mut() {
                replace(fixing, &mut entry.node, &OLD, new, said);
            }
        } else {
            replace(fixing, &mut argument.node, &OLD, new, said);
        }
    }
}

fn replace(fixing: &mut Fixing<'_>, node: &mut JsonNode, old: &Regex, new: &str, said: &str) {
    let JsonValue::String(text) = &mut node.value else { return };
    if old.is_match(text) {
        *text = old.replace_all(text, NoExpand(new)).into_owned();
        fixing.changed(node.span, said);
    }
}

/// Before there was a mode, additions were attached or else uploaded.
pub(super) fn guest_additions(fixing: &mut Fixing<'_>, builder: &mut JsonObject) {
    let Some(JsonValue::Bool(attach)) = builder.get("guest_additions_attach").map(|member| &member.node.value) else {
        return;
    };
    let mode = if *attach { "attach" } else { "upload" };
    let Some(old) = builder.shift_remove("guest_additions_attach") else { return };
    let mode = member(JsonValue::String(mode.to_owned()), old.node.span);
    builder.insert("guest_additions_mode".to_owned(), mode);
    fixing.changed(old.span(), "`guest_additions_attach` is now `guest_additions_mode`");
}

pub(super) fn vagrant_override(fixing: &mut Fixing<'_>, post_processor: &mut JsonObject) {
    let mut moved = JsonObject::new();
    for provider in ["aws", "digitalocean", "virtualbox", "vmware"] {
        if let Some(arguments) = post_processor.shift_remove(provider) {
            fixing.changed(arguments.span(), format!("`{provider}` stands in `override` now"));
            moved.insert(provider.to_owned(), arguments);
        }
    }
    let Some(first) = moved.values().next() else { return };
    let span = first.span();
    match post_processor.get_mut("override").map(|member| &mut member.node.value) {
        Some(JsonValue::Object(overrides)) => overrides.extend(moved),
        _ => {
            post_processor.insert("override".to_owned(), member(JsonValue::Object(moved), span));
        }
    }
}

pub(super) fn virtualbox_override(fixing: &mut Fixing<'_>, provisioner: &mut JsonObject) {
    let Some(overrides) = provisioner.get_mut("override") else { return };
    let inside = match &mut overrides.node.value {
        JsonValue::Array(items) => match items.as_mut_slice() {
            [JsonNode { value, .. }] => value,
            _ => return,
        },
        value => value,
    };
    let JsonValue::Object(entries) = inside else { return };
    if !entries.contains_key("virtualbox") {
        return;
    }
    rename(fixing, entries, "virtualbox", "virtualbox-iso", Wins::Old);
    let entries = JsonValue::Object(std::mem::take(entries));
    overrides.node.value = entries;
}

pub(super) fn private_ip(fixing: &mut Fixing<'_>, builder: &mut JsonObject) {
    if builder.contains_key("ssh_interface") {
        return;
    }
    let Some(old) = builder.get("ssh_private_ip") else { return };
    let is_private = match &old.node.value {
        JsonValue::Bool(value) => Some(*value),
        JsonValue::String(text) => match text.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
            _ => None,
        },
        _ => None,
    };
    let span = old.span();
    let Some(is_private) = is_private else {
        let help = "write `\"ssh_interface\": \"private_ip\"` or `\"public_ip\"` instead";
        return fixing.left(span, "`ssh_private_ip` is neither true nor false and is left as it is", help);
    };
    let interface = if is_private { "private_ip" } else { "public_ip" };
    builder.shift_remove("ssh_private_ip");
    builder.insert("ssh_interface".to_owned(), member(JsonValue::String(interface.to_owned()), span));
    fixing.changed(span, format!("`ssh_private_ip` is now `ssh_interface`: `{interface}`"));
}

pub(super) fn source_cidrs(fixing: &mut Fixing<'_>, builder: &mut JsonObject) {
    let (from, to) = ("temporary_security_group_source_cidr", "temporary_security_group_source_cidrs");
    if text(builder, from).is_none() {
        return;
    }
    if let Some(old) = builder.get_mut(from) {
        let value = std::mem::replace(&mut old.node.value, JsonValue::Null);
        old.node.value = JsonValue::Array(vec![JsonNode { value, span: old.node.span }]);
    }
    rename(fixing, builder, from, to, Wins::Old);
}

/// `tag` and `tags` as one list, each tag once. A text is split at its commas.
pub(super) fn docker_tags(fixing: &mut Fixing<'_>, post_processor: &mut JsonObject) {
    let mut tags: Vec<JsonNode> = Vec::new();
    let mut add = |value: String, span: Span| {
        let value = JsonValue::String(value);
        if tags.iter().all(|tag| tag.value != value) {
            tags.push(JsonNode { value, span });
        }
    };
    let mut lost = Vec::new();
    for name in ["tag", "tags"] {
        let Some(argument) = post_processor.get(name) else { continue };
        let span = argument.node.span;
        match &argument.node.value {
            JsonValue::String(text) => text.split(',').for_each(|tag| add(tag.trim().to_owned(), span)),
            JsonValue::Array(items) => {
                for item in items {
                    match &item.value {
                        JsonValue::String(tag) => add(tag.clone(), item.span),
                        _ => lost.push(item.span),
                    }
                }
            }
            JsonValue::Null => {}
            _ => lost.push(span),
        }
    }
    for span in lost {
        fixing.left(span, "this is no text, and is left out of `tags`", "write a tag in quotes");
    }
    let span = tags.first().map(|tag| tag.span);
    let old = post_processor.shift_remove("tag");
    let was = post_processor.get("tags").map(|member| member.node.value.clone());
    let place = old.as_ref().map(Member::span).or_else(|| post_processor.values().next().map(Member::span));
    let Some(place) = place.or(span) else { return };
    let is_same = matches!((&was, &old), (Some(JsonValue::Array(before)), None) if *before == tags);
    post_processor.insert("tags".to_owned(), member(JsonValue::Array(tags), place));
    if old.is_some() {
        fixing.changed(place, "`tag` is now the list `tags`");
    } else if !is_same {
        fixing.changed(place, "`tags` is a list now");
    }
}

/// Backquotes once had to be written for PowerShell; it does that itself now. Where the environment is no list of texts,
/// Packer leaves the whole component alone.
pub(super) fn powershell_escapes(fixing: &mut Fixing<'_>, provisioner: &mut JsonObject) {
    let is_text = |node: &JsonNode| matches!(node.value, JsonValue::String(_));
    let is_list = |value: &JsonValue| matches!(value, JsonValue::Array(items) if items.iter().all(is_text));
    if provisioner.get("environment_vars").is_some_and(|member| !is_list(&member.node.value)) {
        return;
    }
    let mut unescape = |node: &mut JsonNode, name: &str| {
        let JsonValue::String(text) = &mut node.value else { return };
        let plain = unescaped(text);
        if plain != *text {
            *text = plain;
            fixing.changed(node.span, format!("escapes are gone from `{name}`"));
        }
    };
    for name in ["elevated_user", "elevated_password"] {
        if let Some(argument) = provisioner.get_mut(name) {
            unescape(&mut argument.node, name);
        }
    }
    if let Some(JsonValue::Array(variables)) =
        provisioner.get_mut("environment_vars").map(|member| &mut member.node.value)
    {
        for variable in variables {
            unescape(variable, "environment_vars");
        }
    }
}

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match rest.peek() {
            Some(escaped @ ('$' | '"' | '\'' | '`')) if character == '`' => {
                plain.push(*escaped);
                rest.next();
            }
            _ => plain.push(character),
        }
    }
    plain
}

/// ESXi can compact thin disks only.
pub(super) fn compaction(fixing: &mut Fixing<'_>, builder: &mut JsonObject) {
    let Some(("esx5", span)) = text(builder, "remote_type") else { return };
    let skip = || member(JsonValue::Bool(true), span);
    match builder.get("disk_type_id").map(|member| &member.node.value) {
        None => {
            let kind = member(JsonValue::String("zeroedthick".to_owned()), span);
            builder.insert("disk_type_id".to_owned(), kind);
            fixing.changed(span, "`disk_type_id` is `zeroedthick`, which was the default");
            if !builder.contains_key("skip_compaction") {
                builder.insert("skip_compaction".to_owned(), skip());
                fixing.changed(span, "`skip_compaction` is true: only thin disks can be compacted");
            }
        }
        Some(JsonValue::String(kind)) if kind != "thin" => {
            let is_set = builder.get("skip_compaction").is_some_and(|old| old.node.value == JsonValue::Bool(true));
            if !is_set {
                builder.insert("skip_compaction".to_owned(), skip());
                fixing.changed(span, "`skip_compaction` is true: only thin disks can be compacted");
            }
        }
        Some(_) => {}
    }
}

pub(super) fn disk_size(fixing: &mut Fixing<'_>, builder: &mut JsonObject) {
    let Some(size) = builder.get_mut("disk_size") else { return };
    let JsonValue::Number(digits) = &size.node.value else { return };
    let Ok(number) = digits.parse::<f64>() else { return };
    // As Go cuts a float to an integer.
    #[expect(clippy::cast_possible_truncation, reason = "fractions of a mebibyte are cut off on purpose")]
    let whole = number as i64;
    let text = format!("{whole}M");
    fixing.changed(size.node.span, format!("`disk_size` is now `{text}`"));
    size.node.value = JsonValue::String(text);
}

pub(super) fn vsphere_lists(fixing: &mut Fixing<'_>, builder: &mut JsonObject) {
    gather(fixing, builder, &["network", "network_card"], "network_adapters");
    gather(fixing, builder, &["disk_size", "disk_thin_provisioned", "disk_eagerly_scrub"], "storage");
}

/// Moves arguments into the first element of a list.
fn gather(fixing: &mut Fixing<'_>, builder: &mut JsonObject, names: &[&str], list: &str) {
    let Some(span) = names.iter().find_map(|name| builder.get(*name)).map(Member::span) else { return };
    let mut others = match builder.get(list).map(|member| &member.node.value) {
        None | Some(JsonValue::Null) => Vec::new(),
        Some(JsonValue::Array(items)) => items.clone(),
        Some(object @ JsonValue::Object(_)) => vec![JsonNode { value: object.clone(), span }],
        Some(_) => {
            let title = format!("`{list}` is no list, and the arguments that belong into it are left as they are");
            return fixing.left(span, title, "put it in `[` and `]`");
        }
    };
    let mut first = JsonObject::new();
    for name in names {
        if let Some(argument) = builder.shift_remove(*name) {
            fixing.changed(argument.span(), format!("`{name}` stands in `{list}` now"));
            first.insert((*name).to_owned(), argument);
        }
    }
    others.insert(0, JsonNode { value: JsonValue::Object(first), span });
    builder.insert(list.to_owned(), member(JsonValue::Array(others), span));
}

/// One argument says where the checksum comes from: `file:URL`, or `TYPE:VALUE`.
pub(super) fn checksum(fixing: &mut Fixing<'_>, builder: &mut JsonObject) {
    let url = builder.shift_remove("iso_checksum_url");
    let kind = builder.shift_remove("iso_checksum_type");
    let Some(place) = url.as_ref().or(kind.as_ref()).map(Member::span) else { return };
    let is_text = |member: &&Member| matches!(&member.node.value, JsonValue::String(text) if !text.is_empty());
    let joined = match (url.as_ref().filter(is_text), kind.as_ref().filter(is_text), text(builder, "iso_checksum")) {
        (Some(url), ..) => Some(format!("file:{}", as_text(url))),
        (None, Some(kind), Some((sum, _))) if !sum.is_empty() => Some(format!("{}:{sum}", as_text(kind))),
        _ => None,
    };
    match joined {
        Some(sum) => {
            fixing.changed(place, format!("`iso_checksum` is now `{sum}`"));
            builder.insert("iso_checksum".to_owned(), member(JsonValue::String(sum), place));
        }
        None => fixing.changed(place, "`iso_checksum_type` and `iso_checksum_url` are left out"),
    }
}

fn as_text(member: &Member) -> &str {
    match &member.node.value {
        JsonValue::String(text) => text,
        _ => "",
    }
}

pub(super) fn exclude_from_latest(fixing: &mut Fixing<'_>, builder: &mut JsonObject) {
    let destination = builder.get_mut("shared_image_destination").map(|member| &mut member.node.value);
    if let Some(JsonValue::Object(destination)) = destination
        && destination.contains_key("exlude_from_latest")
    {
        rename(fixing, destination, "exlude_from_latest", "exclude_from_latest", Wins::Old);
    }
}
