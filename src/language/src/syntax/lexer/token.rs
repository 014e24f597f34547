//! Tokens: the smallest pieces of a template text.

use std::ops::Range;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A name or keyword.
    Identifier,
    /// Digits, with fraction and exponent.
    Number,
    /// A line's end, `\n` or `\r\n`.
    Newline,
    /// `# ...`, `// ...` (without the line's end) or `/* ... */`.
    Comment,
    /// The opening `"`.
    QuoteOpen,
    /// The closing `"`.
    QuoteClose,
    /// `<<TAG` or `<<-TAG` with the line's end behind it.
    HeredocOpen,
    /// The closing tag with the blanks before it, without the line's end.
    HeredocClose,
    /// Text inside quotes, a heredoc or a template file, escapes as written. Outside of quotes one token holds at most
    /// one line, its end included.
    Literal,
    /// `${` or `${~`.
    InterpolationOpen,
    /// `%{` or `%{~`.
    DirectiveOpen,
    /// The `}` or `~}` that ends an interpolation or directive.
    TemplateClose,
    /// `{`.
    BraceOpen,
    /// `}`.
    BraceClose,
    /// `[`.
    BracketOpen,
    /// `]`.
    BracketClose,
    /// `(`.
    ParenthesisOpen,
    /// `)`.
    ParenthesisClose,
    /// `,`.
    Comma,
    /// `.`.
    Dot,
    /// `...`.
    Ellipsis,
    /// `:`.
    Colon,
    /// `?`.
    Question,
    /// `=`.
    Assign,
    /// `=>`.
    Arrow,
    /// `==`.
    Equal,
    /// `!=`.
    NotEqual,
    /// `<`.
    Less,
    /// `<=`.
    LessOrEqual,
    /// `>`.
    Greater,
    /// `>=`.
    GreaterOrEqual,
    /// `+`.
    Plus,
    /// `-`.
    Minus,
    /// `*`.
    Star,
    /// `/`.
    Slash,
    /// `%`.
    Percent,
    /// `&&`.
    And,
    /// `||`.
    Or,
    /// `!`.
    Bang,
    /// The end of the text.
    End,
}

impl TokenKind {
    /// Whether brackets nest one deeper behind it.
    pub fn opens(self) -> bool {
        use TokenKind::{
            BraceOpen, BracketOpen, DirectiveOpen, HeredocOpen, InterpolationOpen, ParenthesisOpen, QuoteOpen,
        };
        matches!(
            self,
            BraceOpen | BracketOpen | ParenthesisOpen | QuoteOpen | HeredocOpen | InterpolationOpen | DirectiveOpen
        )
    }

    /// Whether brackets nest one less deep behind it.
    pub fn closes(self) -> bool {
        use TokenKind::{BraceClose, BracketClose, HeredocClose, ParenthesisClose, QuoteClose, TemplateClose};
        matches!(self, BraceClose | BracketClose | ParenthesisClose | QuoteClose | HeredocClose | TemplateClose)
    }
}

/// A token at its place. An empty one (but for the end) was put in to mend a mistake that has been reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Its first byte.
    pub start: usize,
    /// One past its last byte.
    pub end: usize,
}

impl Token {
    /// Its bytes.
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }
}
