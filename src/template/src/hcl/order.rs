//! In which order the nodes of the graph can be evaluated, and circles among them.

use std::collections::BTreeSet;

use kiln_core::{Diagnostic, Diagnostics, Span};

use super::graph::Graph;

/// A node that is referred to, and where.
pub(crate) type Edge = (usize, Span);

/// Nodes, each after those it refers to.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// In the order of their evaluation.
    pub(crate) nodes: Vec<usize>,
    /// Those that can have no value; told already.
    pub(crate) in_circle: BTreeSet<usize>,
}

impl Order {
    /// The order of `targets` and of all they refer to, without those that are done.
    pub(crate) fn of(graph: &Graph, targets: &[usize], is_done: &[bool], diagnostics: &mut Diagnostics) -> Order {
        let marks = is_done.iter().map(|is_done| if *is_done { Mark::Done } else { Mark::New }).collect();
        let mut walk = Walk { graph, marks, path: Vec::new(), order: Order::default(), diagnostics };
        for target in targets {
            walk.from(*target);
        }
        walk.order
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    /// On the path.
    Open,
    Done,
}

/// A step of the path.
struct Step {
    node: usize,
    /// Which of its references comes next.
    next: usize,
    /// The reference that led here.
    by: Option<Span>,
}

/// A walk over the graph, depth first. The path is no recursion: chains may be long.
struct Walk<'a> {
    graph: &'a Graph,
    marks: Vec<Mark>,
    path: Vec<Step>,
    order: Order,
    diagnostics: &'a mut Diagnostics,
}

impl Walk<'_> {
    fn from(&mut self, target: usize) {
        self.enter(target, None);
        while let Some(step) = self.path.last_mut() {
            let node = step.node;
            let edge = self.graph.edges[node].get(step.next).copied();
            step.next += 1;
            match edge {
                Some((to, by)) => self.enter(to, Some(by)),
                None => {
                    self.path.pop();
                    self.marks[node] = Mark::Done;
                    self.order.nodes.push(node);
                }
            }
        }
    }

    fn enter(&mut self, node: usize, by: Option<Span>) {
        match self.marks[node] {
            Mark::New => {
                self.marks[node] = Mark::Open;
                self.path.push(Step { node, next: 0, by });
            }
            Mark::Open => self.report_circle(node, by),
            Mark::Done => {}
        }
    }

    /// The nodes from `first` to the end of the path refer to each other in a circle, closed by the reference at `by`.
    fn report_circle(&mut self, first: usize, by: Option<Span>) {
        let start = self.path.iter().position(|step| step.node == first).unwrap_or_default();
        let members = &self.path[start..];
        // Each circle beyond the first adds to the picture only where it has members of its own.
        let known = self.order.in_circle.len();
        self.order.in_circle.extend(members.iter().map(|step| step.node));
        if self.order.in_circle.len() == known {
            return;
        }
        let names: Vec<String> = members
            .iter()
            .map(|step| step.node)
            .chain([first])
            .map(|node| self.graph.label(&self.graph.nodes[node]))
            .collect();
        // Each member's use of the next one.
        let uses: Vec<Span> = members.iter().skip(1).map(|step| step.by).chain([by]).flatten().collect();
        let Some((place, others)) = uses.split_first() else { return };
        let mut diagnostic = match members.len() {
            1 => Diagnostic::error("cycle", *place, format!("`{}` refers to itself", names[0])),
            _ => Diagnostic::error("cycle", *place, "these values refer to each other in a circle"),
        };
        if members.len() > 1 {
            diagnostic = diagnostic.label(format!("`{}` needs `{}`", names[0], names[1]));
            for (index, span) in others.iter().enumerate() {
                diagnostic = diagnostic.also(*span, format!("`{}` needs `{}`", names[index + 1], names[index + 2]));
            }
            diagnostic = diagnostic.note(names.join(" -> "));
        }
        self.diagnostics.push(diagnostic);
    }
}
