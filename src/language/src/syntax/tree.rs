//! The syntax tree: every node knows its place.

use kiln_core::Span;

/// A name at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The name, a label's quotes removed.
    pub text: String,
    /// Its place (with the quotes).
    pub span: Span,
}

/// A file, or what stands between a block's braces.
#[derive(Debug, Clone, PartialEq)]
pub struct Body {
    /// Attributes and blocks in the order written.
    pub items: Vec<Item>,
    /// The whole.
    pub span: Span,
}

impl Body {
    /// Its attributes, in order.
    pub fn attributes(&self) -> impl Iterator<Item = &Attribute> {
        self.items.iter().filter_map(|item| match item {
            Item::Attribute(attribute) => Some(attribute),
            Item::Block(_) => None,
        })
    }

    /// Its blocks, in order.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.items.iter().filter_map(|item| match item {
            Item::Block(block) => Some(block),
            Item::Attribute(_) => None,
        })
    }

    /// The attribute of a name.
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes().find(|attribute| attribute.name.text == name)
    }
}

/// One thing in a body.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// `name = expression`.
    Attribute(Attribute),
    /// `kind "label" { ... }`.
    Block(Block),
}

/// `name = expression`.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribute {
    /// The name.
    pub name: Name,
    /// The value.
    pub value: Expression,
    /// Name to end of value.
    pub span: Span,
}

/// `kind "label" { ... }`.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Its type.
    pub kind: Name,
    /// Its labels.
    pub labels: Vec<Name>,
    /// What it holds.
    pub body: Body,
    /// From the type to the last label: where messages about the block as a whole point.
    pub header: Span,
    /// From the type to the closing brace.
    pub span: Span,
}

/// An expression at its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    /// What it is.
    pub kind: ExpressionKind,
    /// Its place.
    pub span: Span,
}

/// The kinds of expression.
#[derive(Debug, Clone, PartialEq)]
pub enum ExpressionKind {
    /// `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// The digits as written.
    Number(String),
    /// A quoted text without interpolation, escapes resolved and NFC-normalised.
    String(String),
    /// A quoted text or heredoc with interpolations or directives.
    Template(Vec<TemplatePart>),
    /// A name on its own, the root of a reference: `var`, `local`, an iterator, or a type name.
    Variable(String),
    /// `object.name`.
    Attribute {
        /// What it is taken from.
        object: Box<Expression>,
        /// Which.
        name: Name,
    },
    /// `collection[key]`, also the legacy `collection.0`.
    Index {
        /// What it is taken from.
        collection: Box<Expression>,
        /// Which.
        key: Box<Expression>,
    },
    /// `source[*].name[0]`: everything after the star applies to each element. `source.*.name` (attribute splat) takes
    /// attribute steps only; an index after it applies to the whole result and is an outer [`ExpressionKind::Index`].
    Splat {
        /// What is walked over.
        source: Box<Expression>,
        /// What is taken from each element, in order.
        steps: Vec<SplatStep>,
    },
    /// `name(argument, ...)`.
    Call {
        /// The function.
        name: Name,
        /// Its arguments.
        arguments: Vec<Expression>,
        /// Whether the last argument is followed by `...`.
        expand_last: bool,
    },
    /// `-x`, `!x`.
    Unary(UnaryOperator, Box<Expression>),
    /// `a + b - c`: operators that bind equally strongly, from left to right. A list, so that long sums are no deep trees.
    Binary(Box<Expression>, Vec<(BinaryOperator, Expression)>),
    /// `condition ? then : else`.
    Conditional {
        /// The condition.
        condition: Box<Expression>,
        /// The value where it holds.
        then: Box<Expression>,
        /// The value where it does not.
        otherwise: Box<Expression>,
    },
    /// `[a, b]`.
    Tuple(Vec<Expression>),
    /// `{ a = 1 }`; a later key wins over an earlier one. A bare name as key is [`ExpressionKind::String`].
    Object(Vec<(Expression, Expression)>),
    /// `[for k, v in c : x if p]` and `{for k, v in c : k => v... if p}`.
    For(Box<ForExpression>),
    /// `(x)`.
    Parenthesis(Box<Expression>),
}

/// One step behind a splat's star.
#[derive(Debug, Clone, PartialEq)]
pub enum SplatStep {
    /// `.name`.
    Attribute(Name),
    /// `[key]`.
    Index(Expression),
    /// A further star: the steps apply to each element of the element.
    Splat(Vec<SplatStep>),
}

/// `-`, `!`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnaryOperator {
    /// `-`.
    Negate,
    /// `!`.
    Not,
}

/// The operators between two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it all")]
pub enum BinaryOperator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
}

/// A `for` expression.
#[derive(Debug, Clone, PartialEq)]
pub struct ForExpression {
    /// The first of two names: index or key.
    pub key_name: Option<Name>,
    /// The element.
    pub value_name: Name,
    /// What is walked over.
    pub collection: Expression,
    /// The key, for objects.
    pub key: Option<Expression>,
    /// The value.
    pub value: Expression,
    /// Whether values of one key are grouped (`...`).
    pub group: bool,
    /// Elements to keep.
    pub condition: Option<Expression>,
}

/// A piece of a template. Whitespace that `~` takes away is gone already, escapes are resolved, `<<-` is dedented.
#[derive(Debug, Clone, PartialEq)]
pub enum TemplatePart {
    /// Text.
    Literal(String, Span),
    /// `${ ... }`.
    Interpolation(Expression),
    /// `%{ if }`.
    If {
        /// The condition.
        condition: Expression,
        /// What is printed where it holds.
        then: Vec<TemplatePart>,
        /// What is printed where it does not.
        otherwise: Vec<TemplatePart>,
        /// The directive.
        span: Span,
    },
    /// `%{ for }`.
    For {
        /// The first of two names: index or key.
        key_name: Option<Name>,
        /// The element.
        value_name: Name,
        /// What is walked over.
        collection: Expression,
        /// What is printed for each.
        body: Vec<TemplatePart>,
        /// The directive.
        span: Span,
    },
}
