//! Whether two tokens of a line stand apart.

use crate::syntax::lexer::{Token, TokenKind};

/// Whether a blank stands between `left` and `right`, which follow each other on a line; `before` is the token before
/// `left`, where there is one.
pub(super) fn is_apart(text: &str, before: Option<Token>, left: Token, right: Token) -> bool {
    use TokenKind::{
        BraceClose, BraceOpen, BracketClose, BracketOpen, Comma, DirectiveOpen, Dot, Ellipsis, HeredocClose,
        HeredocOpen, Identifier, InterpolationOpen, Literal, Minus, Number, ParenthesisClose, ParenthesisOpen,
        QuoteClose, QuoteOpen, TemplateClose,
    };
    match (left.kind, right.kind) {
        // `${{` would read as something else to people.
        (InterpolationOpen | DirectiveOpen, BraceOpen) | (BraceClose, TemplateClose) => true,
        (QuoteOpen | HeredocOpen | Literal | InterpolationOpen | DirectiveOpen | TemplateClose, _)
        | (_, QuoteClose | HeredocClose | Literal | InterpolationOpen | DirectiveOpen | TemplateClose)
        | (_, Comma | Ellipsis | Dot)
        | (Dot | ParenthesisOpen | BracketOpen, _)
        | (_, ParenthesisClose | BracketClose)
        | (BraceOpen, BraceClose)
        | (Identifier, ParenthesisOpen) => false,
        (Identifier, BracketOpen) => {
            let is_keyword = &text[left.range()] == "in";
            is_keyword && before.is_some_and(|before| before.kind == Identifier)
        }
        (Number | BraceClose | BracketClose | ParenthesisClose, BracketOpen) => false,
        (InterpolationOpen, Minus) => false,
        (Minus, _) if before.is_some_and(|before| before.kind == InterpolationOpen) => true,
        // A sign stays with its number, a difference has blanks.
        (Minus, _) => before.is_some_and(|before| {
            matches!(before.kind, Identifier | Number | BraceClose | BracketClose | ParenthesisClose | QuoteClose)
        }),
        _ => true,
    }
}
