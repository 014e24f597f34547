//! Files laid over each other, as compose does it.

use crate::yaml::{Merging, Node, Value};

/// Lays `over` over `under`: mappings entry by entry, lists one after the other, all else by the later one.
pub(crate) fn merge(under: Node, over: Node) -> Node {
    match (under.value, over.value, over.merging) {
        (Value::Map(under_entries), Value::Map(over_entries), Merging::Usual) => Node {
            value: Value::Map(merge_entries(under_entries, over_entries)),
            span: over.span,
            merging: over.merging,
        },
        (Value::List(mut items), Value::List(more), Merging::Usual) => {
            items.extend(more);
            Node { value: Value::List(items), span: over.span, merging: over.merging }
        }
        // A key without anything says nothing.
        (under_value, Value::Null, Merging::Usual) => Node { value: under_value, ..over_span(under.span) },
        (_, value, _) => Node { value, span: over.span, merging: Merging::Usual },
    }
}

fn over_span(span: kiln_core::Span) -> Node {
    Node { span, merging: Merging::Usual, value: Value::Null }
}

fn merge_entries(mut under: Vec<(String, Node)>, over: Vec<(String, Node)>) -> Vec<(String, Node)> {
    for (key, node) in over {
        let at = under.iter().position(|(known, _)| *known == key);
        match (at, node.merging) {
            (Some(at), Merging::Reset) => drop(under.remove(at)),
            (None, Merging::Reset) => {}
            (None, _) => under.push((key, node)),
            (Some(at), _) => {
                let (_, before) = under.remove(at);
                let (before, node) = if key == "build" { (long(before), long(node)) } else { (before, node) };
                under.insert(at, (key, merge(before, node)));
            }
        }
    }
    under
}

/// `build: DIRECTORY` in its long form.
fn long(node: Node) -> Node {
    match node.value {
        Value::Text(_) => {
            let span = node.span;
            Node { span, merging: node.merging, value: Value::Map(vec![("context".to_owned(), node)]) }
        }
        _ => node,
    }
}
