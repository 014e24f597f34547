//! One rendering: the engine's tree is checked and marked, so that whatever fails knows its action, and run.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gotmpl::parse::{ActionNode, CommandNode, DefineNode, Expr, ListNode, Node, Number, Parser, PipeNode, Pos};
use gotmpl::{Template, TemplateError, Value};
use kiln_core::suggest;

use crate::actions::{self, Action};
use crate::data::{field_paths, fields};
use crate::functions::{self, CallError, Environment, FUNCTIONS, Failure};
use crate::{Data, MissingField, RenderError, Rendered, Scope};

/// Functions of the engine itself.
const BUILT_IN: [&str; 19] = [
    "and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or", "print", "printf",
    "println", "slice", "urlquery",
];

/// Names that no template can write, so that the calls inserted into its tree cannot collide with its own.
const AT: &str = "@at";
const FIELD: &str = "@field";
const ROOT: &str = "@root";

/// How many missing fields of one text are told: each is looked up in the text again, and nobody reads thousands.
pub(crate) const MOST_MISSING: usize = 100;

/// What one rendering gave.
pub(crate) struct Outcome {
    pub(crate) rendered: Rendered,
    pub(crate) missing_fields: Vec<MissingField>,
}

/// What the functions leave behind while the engine runs.
#[derive(Default)]
struct State {
    /// The action that runs.
    action: Option<Range<usize>>,
    failure: Option<Failure>,
    unknown: bool,
    missing_fields: Vec<MissingField>,
}

type Shared = Arc<Mutex<State>>;

fn lock(state: &Shared) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A text that could be read.
pub(crate) struct Program {
    pub(crate) tree: ListNode,
    pub(crate) defines: Vec<DefineNode>,
    pub(crate) actions: Vec<Action>,
}

/// Reads a text: its actions are closed, and its functions exist. The tree has the calls that rendering needs.
fn read(text: &str, is_marked: bool) -> Result<Program, RenderError> {
    let actions = actions::check(text)?;
    let (plain, plain_defines) =
        Parser::new(text, "{{", "}}").and_then(Parser::parse).map_err(|error| syntax_error(text, &actions, error))?;
    let mut marker = Marker { text, actions: &actions, error: None };
    let original = (!is_marked).then(|| (plain.clone(), plain_defines.clone()));
    let tree = marker.list(plain);
    let defines: Vec<DefineNode> =
        plain_defines.into_iter().map(|define| DefineNode { body: marker.list(define.body), ..define }).collect();
    if let Some(error) = marker.error {
        return Err(error);
    }
    let (tree, defines) = original.unwrap_or((tree, defines));
    Ok(Program { tree, defines, actions })
}

/// Reads a text, as it is written.
pub(crate) fn parse(text: &str) -> Result<Program, RenderError> {
    read(text, false)
}

/// Renders once.
pub(crate) fn run(text: &str, scope: &Scope<'_>, data: &BTreeMap<String, Data>) -> Result<Outcome, RenderError> {
    let Program { tree, defines, actions: found } = read(text, true)?;
    let state = Shared::default();
    let mut template = prepared(scope, data, &found, &state).add_parse_tree(ROOT, tree);
    for define in defines {
        template = template.add_parse_tree(&define.name, define.body);
    }
    let result = template.execute_template_to_string(ROOT, &fields(data));
    let mut state = std::mem::take(&mut *lock(&state));
    if state.unknown && state.failure.as_ref().is_none_or(|failure| failure.name.is_none()) {
        // The machine's value was replaced by an empty text; what that breaks further on is no mistake, but an unknown
        // name is.
        return Ok(Outcome { rendered: Rendered::Unknown, missing_fields: state.missing_fields });
    }
    match result {
        Ok(text) => Ok(Outcome { rendered: Rendered::Text(text), missing_fields: state.missing_fields }),
        Err(error) => Err(match state.failure.take() {
            Some(failure) => located(text, failure, state.action),
            None => RenderError::new(engine_message(&error), state.action),
        }),
    }
}

/// A template with all functions.
fn prepared(scope: &Scope<'_>, data: &BTreeMap<String, Data>, found: &[Action], state: &Shared) -> Template {
    let environment = Arc::new(Environment::new(scope));
    let mut template = Template::new("");
    for function in &FUNCTIONS {
        let (environment, state) = (Arc::clone(&environment), Arc::clone(state));
        template = template.func(function.name, move |arguments| {
            functions::call(function, &environment, arguments).or_else(|error| {
                let mut state = lock(&state);
                match error {
                    CallError::Unknown => {
                        state.unknown = true;
                        Ok(Value::String("".into()))
                    }
                    CallError::Failed(failure) => {
                        state.failure = Some(failure);
                        Err(TemplateError::Exec(String::new()))
                    }
                }
            })
        });
    }
    let ranges: Vec<Range<usize>> = found.iter().map(|action| action.range.clone()).collect();
    let marked = Arc::clone(state);
    template = template.func(AT, move |arguments| {
        let offset = arguments.first().and_then(Value::as_int).and_then(|offset| usize::try_from(offset).ok());
        lock(&marked).action = offset.and_then(|offset| enclosing(&ranges, offset));
        Ok(Value::Nil)
    });
    let (known, state) = (field_paths(data), Arc::clone(state));
    template.func(FIELD, move |arguments| {
        let [path, value] = arguments else { return Ok(Value::Nil) };
        if matches!(value, Value::Nil) {
            if lock(&state).missing_fields.len() >= MOST_MISSING {
                return Ok(value.clone());
            }
            let path = path.as_str().unwrap_or_default().to_owned();
            let suggestion = suggest::nearest(&path, known.iter().map(String::as_str)).map(str::to_owned);
            let mut state = lock(&state);
            let range = state.action.clone();
            state.missing_fields.push(MissingField { path, range, suggestion });
        }
        Ok(value.clone())
    })
}

/// The range that holds an offset; `ranges` are in the text's order.
pub(crate) fn enclosing(ranges: &[Range<usize>], offset: usize) -> Option<Range<usize>> {
    let next = ranges.partition_point(|range| range.end <= offset);
    ranges.get(next).filter(|range| range.contains(&offset)).cloned()
}

/// Checks function names, and inserts calls that note which action runs and which printed fields are missing.
struct Marker<'a> {
    text: &'a str,
    actions: &'a [Action],
    error: Option<RenderError>,
}

impl Marker<'_> {
    fn list(&mut self, list: ListNode) -> ListNode {
        let mut nodes = Vec::with_capacity(list.nodes.len() * 2);
        for node in list.nodes {
            let position = match &node {
                Node::Action(action) => Some(action.pipe.pos),
                Node::If(branch) | Node::Range(branch) | Node::With(branch) => Some(branch.pipe.pos),
                Node::Template(call) => Some(call.pos),
                _ => None,
            };
            if let Some(position) = position {
                nodes.push(mark(position));
            }
            nodes.push(self.node(node));
        }
        ListNode { nodes, ..list }
    }

    fn node(&mut self, node: Node) -> Node {
        match node {
            Node::List(list) => Node::List(self.list(list)),
            Node::Action(mut action) => {
                self.pipe(&action.pipe);
                watch_field(&mut action.pipe);
                Node::Action(action)
            }
            Node::If(branch) => Node::If(self.branch(branch)),
            Node::Range(branch) => Node::Range(self.branch(branch)),
            Node::With(branch) => Node::With(self.branch(branch)),
            Node::Template(call) => {
                if let Some(pipe) = &call.pipe {
                    self.pipe(pipe);
                }
                Node::Template(call)
            }
            Node::Define(define) => Node::Define(DefineNode { body: self.list(define.body), ..define }),
            other => other,
        }
    }

    fn branch(&mut self, branch: gotmpl::parse::BranchNode) -> gotmpl::parse::BranchNode {
        self.pipe(&branch.pipe);
        gotmpl::parse::BranchNode {
            pos: branch.pos,
            pipe: branch.pipe,
            body: self.list(branch.body),
            else_body: branch.else_body.map(|body| self.list(body)),
        }
    }

    fn pipe(&mut self, pipe: &PipeNode) {
        for command in &pipe.commands {
            for argument in &command.args {
                self.expression(argument);
            }
        }
    }

    fn expression(&mut self, expression: &Expr) {
        match expression {
            Expr::Pipe(_, pipe) => self.pipe(pipe),
            Expr::Chain(_, inner, _) => self.expression(inner),
            Expr::Identifier(position, name) => self.name(*position, name),
            _ => {}
        }
    }

    fn name(&mut self, position: Pos, name: &str) {
        let known = || FUNCTIONS.iter().map(|function| function.name).chain(BUILT_IN);
        if self.error.is_some() || known().any(|known| known == name) {
            return;
        }
        let written = position.offset..position.offset + name.len();
        let range = if self.text.get(written.clone()) == Some(name) {
            Some(written)
        } else {
            self.actions.iter().map(|action| &action.range).find(|range| range.contains(&position.offset)).cloned()
        };
        self.error = Some(RenderError {
            message: format!("there is no template function `{name}`"),
            range,
            suggestion: suggest::nearest(name, known()).map(str::to_owned),
        });
    }
}

/// `{{$@at := @at OFFSET}}`: prints nothing, as all declarations.
fn mark(position: Pos) -> Node {
    let offset = Number::Int(i64::try_from(position.offset).unwrap_or(i64::MAX));
    let args = vec![Expr::Identifier(position, AT.into()), Expr::Number(position, offset)];
    let pipe = PipeNode {
        pos: position,
        decl: vec!["$@at".into()],
        commands: vec![CommandNode { pos: position, args }],
        is_assign: false,
    };
    Node::Action(ActionNode { pos: position, pipe })
}

/// `{{.X}}` and `{{.X | f}}` become `{{@field ".X" .X}}`: only what is printed or piped is watched, a condition may well
/// ask for a field that is not there.
fn watch_field(pipe: &mut PipeNode) {
    let Some(command) = pipe.commands.first_mut() else { return };
    if let [Expr::Field(position, names)] = command.args.as_slice() {
        let (position, path) = (*position, names.iter().fold(String::new(), |path, name| path + "." + name));
        command.args.insert(0, Expr::String(position, path.into()));
        command.args.insert(0, Expr::Identifier(position, FIELD.into()));
    }
}

/// The engine gives line and column; the action around them is what is shown.
fn syntax_error(text: &str, found: &[Action], error: TemplateError) -> RenderError {
    let (TemplateError::Parse { line, col, message, .. } | TemplateError::Lex { line, col, message, .. }) = &error
    else {
        return RenderError::new(engine_message(&error), None);
    };
    let line_start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let column = text[line_start..].chars().take(col.saturating_sub(1)).map(char::len_utf8).sum::<usize>();
    let offset = line_start + column;
    let ranges: Vec<Range<usize>> = found.iter().map(|action| action.range.clone()).collect();
    // The engine may point just behind the action at fault.
    let range = enclosing(&ranges, offset).or_else(|| ranges.into_iter().rev().find(|range| range.end <= offset));
    RenderError::new(message.clone(), range)
}

/// The engine's message without its headings.
fn engine_message(error: &TemplateError) -> String {
    match error {
        TemplateError::Exec(message) => message.clone(),
        TemplateError::UndefinedVariable(name) => format!("the variable `{name}` is not declared in this text"),
        TemplateError::UndefinedTemplate(name) => format!("there is no template `{name}` in this text"),
        other => other.to_string(),
    }
}

/// Places a mistake at its action, or at the unknown name where that is written literally in it.
fn located(text: &str, failure: Failure, action: Option<Range<usize>>) -> RenderError {
    let literal = failure.name.as_ref().zip(action.clone()).and_then(|(name, range)| {
        let inside = text.get(range.clone())?;
        ['`', '"'].iter().find_map(|quote| {
            let literal = format!("{quote}{name}{quote}");
            let start = range.start + inside.find(&literal)? + 1;
            (inside.matches(&literal).count() == 1).then(|| start..start + name.len())
        })
    });
    RenderError { message: failure.message, range: literal.or(action), suggestion: failure.suggestion }
}
