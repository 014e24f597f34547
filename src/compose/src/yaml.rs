//! YAML to a tree with places. Compose takes scalars for texts mostly, so texts they stay.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use kiln_core::{Diagnostic, SourceId, Span};
use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};

/// How many values a document may have with all its aliases written out.
const MAX_VALUES: usize = 200_000;

/// How deep values may be nested.
const MAX_NESTING: usize = 100;

/// What compose's own tags do when files are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Merging {
    /// It is merged with what was there before.
    #[default]
    Usual,
    /// `!reset`: what was there before goes, and this is not taken either.
    Reset,
    /// `!override`: it takes the place of what was there before.
    Override,
}

/// A value.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) merging: Merging,
    pub(crate) value: Value,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Text(String),
    List(Vec<Node>),
    /// In the order of the text, each key once.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// A mapping's entry.
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        self.entries().iter().find(|(key, _)| key == name).map(|(_, node)| node)
    }

    /// A mapping's entries; none of anything else.
    pub(crate) fn entries(&self) -> &[(String, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// A list's items; none of anything else.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// A text, its variables not replaced yet.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Reads a document; an empty one is null.
pub(crate) fn read(text: &str, source: SourceId) -> Result<Node, Box<Diagnostic>> {
    // The parser counts characters.
    let offsets = text.char_indices().map(|(offset, _)| offset).chain([text.len()]).collect();
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        text,
        source,
        offsets,
        anchors: HashMap::new(),
        count: 0,
        depth: 0,
    };
    let mut document: Option<Node> = None;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            Event::StreamEnd => break,
            _ if document.is_some() => return Err(reader.wrong(span, "a second document begins; compose reads one")),
            event => document = Some(reader.value(event, span)?),
        }
    }
    let empty = Node { span: Span::new(source, 0..0), merging: Merging::Usual, value: Value::Null };
    Ok(document.unwrap_or(empty))
}

struct Reader<'t> {
    events: Parser<'t, StrInput<'t>>,
    text: &'t str,
    source: SourceId,
    offsets: Arc<[usize]>,
    /// Values by the number of their anchor, with how many values they are made of; `None` while they are read.
    anchors: HashMap<usize, Option<(Node, usize)>>,
    count: usize,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Box<Diagnostic>> {
        match self.events.next() {
            Some(Ok((event, span))) => {
                let range = self.offset(span.start.index())..self.offset(span.end.index());
                Ok((event, self.span(range)))
            }
            Some(Err(error)) => {
                let at = self.offset(error.marker().index());
                Err(self.wrong(self.span(at..at), error.info()))
            }
            None => Ok((Event::StreamEnd, self.span(0..0))),
        }
    }

    fn offset(&self, index: usize) -> usize {
        self.offsets.get(index).copied().unwrap_or(self.text.len())
    }

    /// Without the blanks behind it, which the parser may count in.
    fn span(&self, range: std::ops::Range<usize>) -> Span {
        let end = range.end.max(range.start);
        let covered = self.text.get(range.start..end).unwrap_or_default();
        Span::new(self.source, range.start..range.start + covered.trim_end().len())
    }

    fn wrong(&self, span: Span, what: &str) -> Box<Diagnostic> {
        Box::new(Diagnostic::error("compose-syntax", span, what.to_owned()))
    }

    fn value(&mut self, event: Event<'t>, span: Span) -> Result<Node, Box<Diagnostic>> {
        self.count += 1;
        if self.count > MAX_VALUES {
            return Err(self.wrong(span, "there are too many values"));
        }
        let before = self.count;
        let (anchor, merging, value) = match event {
            Event::Alias(anchor) => return self.alias(anchor, span),
            Event::Scalar(text, style, anchor, tag) => {
                let is_null = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if is_null { Value::Null } else { Value::Text(text.into_owned()) };
                (anchor, merging(tag), value)
            }
            Event::SequenceStart(anchor, tag) => {
                self.start(anchor, span)?;
                (anchor, merging(tag), Value::List(self.list()?))
            }
            Event::MappingStart(anchor, tag) => {
                self.start(anchor, span)?;
                (anchor, merging(tag), Value::Map(self.map()?))
            }
            _ => return Err(self.wrong(span, "a value is expected")),
        };
        let node = Node { span, merging, value };
        if anchor > 0 {
            self.anchors.insert(anchor, Some((node.clone(), self.count - before)));
        }
        Ok(node)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<Node, Box<Diagnostic>> {
        match self.anchors.get(&anchor) {
            Some(Some((node, count))) => {
                self.count += count;
                Ok(node.clone())
            }
            Some(None) => Err(self.wrong(span, "a value cannot hold itself")),
            None => Err(self.wrong(span, "there is no such anchor")),
        }
    }

    fn start(&mut self, anchor: usize, span: Span) -> Result<(), Box<Diagnostic>> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(self.wrong(span, "values are nested too deep"));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, None);
        }
        Ok(())
    }

    fn list(&mut self) -> Result<Vec<Node>, Box<Diagnostic>> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => break,
                (event, span) => items.push(self.value(event, span)?),
            }
        }
        self.depth -= 1;
        Ok(items)
    }

    /// `<<` puts in the entries of another mapping, or of several, that are not there themselves.
    fn map(&mut self) -> Result<Vec<(String, Node)>, Box<Diagnostic>> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        let mut merged: Vec<(String, Node)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let Some(key) = self.value(event, span)?.text().map(str::to_owned) else {
                return Err(self.wrong(span, "a key must be a text"));
            };
            let (event, value_span) = self.next()?;
            let node = self.value(event, value_span)?;
            if key == "<<" {
                merged.extend(node.entries().iter().cloned());
                node.items().iter().for_each(|item| merged.extend(item.entries().iter().cloned()));
            } else if entries.iter().any(|(known, _)| *known == key) {
                return Err(self.wrong(span, &format!("`{key}` stands here a second time")));
            } else {
                entries.push((key, node));
            }
        }
        for (key, node) in merged {
            if !entries.iter().any(|(known, _)| *known == key) {
                entries.push((key, node));
            }
        }
        self.depth -= 1;
        Ok(entries)
    }
}

fn merging(tag: Option<Cow<'_, Tag>>) -> Merging {
    match tag.as_deref().map(|tag| (tag.handle.as_str(), tag.suffix.as_str())) {
        Some(("!", "reset")) => Merging::Reset,
        Some(("!", "override")) => Merging::Override,
        _ => Merging::Usual,
    }
}
