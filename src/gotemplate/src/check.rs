//! Looks at a text that will be rendered later, with data that is not there yet: what is wrong with it whatever the data.

use std::ops::Range;

use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, PipeNode};
use kiln_core::suggest;

use crate::program::{self, MOST_MISSING, Program};
use crate::{MissingField, RenderError};

/// Checks that a text can be rendered at all: its actions are closed, its blocks balance, its functions exist. What comes
/// back are printed fields that are not among `fields` (without the leading dot); none are looked for where it is `None`.
pub fn check(text: &str, fields: Option<&[&str]>) -> Result<Vec<MissingField>, RenderError> {
    if !text.contains("{{") {
        return Ok(Vec::new());
    }
    let Program { tree, defines, actions } = program::parse(text)?;
    let ranges: Vec<Range<usize>> = actions.into_iter().map(|action| action.range).collect();
    let Some(known) = fields else { return Ok(Vec::new()) };
    let mut finder = Finder { text, ranges: &ranges, known, missing: Vec::new() };
    finder.list(&tree);
    // The dot of a named template is what its caller hands over.
    drop(defines);
    Ok(finder.missing)
}

struct Finder<'a> {
    text: &'a str,
    ranges: &'a [Range<usize>],
    known: &'a [&'a str],
    missing: Vec<MissingField>,
}

impl Finder<'_> {
    fn list(&mut self, list: &ListNode) {
        for node in &list.nodes {
            match node {
                Node::List(inner) => self.list(inner),
                Node::Action(action) => self.pipe(&action.pipe),
                // A condition may well ask for a field that is not there.
                Node::If(BranchNode { body, else_body, .. }) => {
                    self.list(body);
                    else_body.iter().for_each(|body| self.list(body));
                }
                // In `range` and `with` the dot is another one.
                _ => {}
            }
        }
    }

    fn pipe(&mut self, pipe: &PipeNode) {
        for CommandNode { args, .. } in &pipe.commands {
            for argument in args {
                match argument {
                    Expr::Pipe(_, inner) => self.pipe(inner),
                    Expr::Field(position, names) => self.field(position.offset, names.first().map(|name| &**name)),
                    _ => {}
                }
            }
        }
    }

    fn field(&mut self, offset: usize, name: Option<&str>) {
        let Some(name) = name.filter(|name| !self.known.contains(name)) else { return };
        let path = format!(".{name}");
        if self.missing.len() >= MOST_MISSING {
            return;
        }
        let action = program::enclosing(self.ranges, offset);
        let written = action.clone().and_then(|action| {
            let inside = self.text.get(action.clone())?;
            let start = action.start + inside.find(&path)?;
            (inside.matches(&path).count() == 1).then(|| start..start + path.len())
        });
        let suggestion = suggest::nearest(name, self.known.iter().copied()).map(|name| format!(".{name}"));
        self.missing.push(MissingField { path, range: written.or(action), suggestion });
    }
}
