//! Whether two tokens of a line stand apart.

use crate::syntax::lexer::{Token, TokenKind};

/// Whether a blank stands between `left` and `right`, which follow each other on a line; `before` is the token before
/// `left`, where there is one.
pub(super) fn is_apart(text: &str, before: Option<Token>, left: Token, right: Token) -> bool {
    use TokenKind::{
        Arrow, Bang, BraceClose, BraceOpen, BracketClose, BracketOpen, Comma, Comment, DirectiveOpen, Dot, Ellipsis,
        HeredocClose, HeredocOpen, Identifier, InterpolationOpen, Literal, Minus, Number, ParenthesisClose,
        ParenthesisOpen, QuoteClose, QuoteOpen, TemplateClose,
    };
    // The keyword of `for x in y`, as far as Packer knows it.
    let is_in = |before: Token| before.kind == Identifier && left.kind == Identifier && &text[left.range()] == "in";
    match (left.kind, right.kind) {
        (_, Comma | Ellipsis | Dot) | (Dot, _) | (Identifier, ParenthesisOpen) => false,
        _ if before.is_some_and(is_in) => true,
        // `${{` would read as something else to people.
        (InterpolationOpen | DirectiveOpen, BraceOpen) | (BraceClose, TemplateClose) => true,
        (QuoteOpen | HeredocOpen | Literal | InterpolationOpen | DirectiveOpen | TemplateClose, _)
        | (_, QuoteClose | HeredocClose | Literal | InterpolationOpen | DirectiveOpen | TemplateClose)
        | (ParenthesisOpen | BracketOpen, _) => false,
        // Packer 1.6.6 wrote `! x`, newer releases do not.
        (Bang, _) => false,
        // Also before what closes: `[1, ]`.
        (Comma, _) => true,
        (_, ParenthesisClose | BracketClose) | (BraceOpen, BraceClose) => false,
        (Identifier | Number | BraceClose | BracketClose | ParenthesisClose, BracketOpen) => false,
        // A sign stays with its number, a difference has blanks. In `${-1}` Packer takes it for a difference.
        (Minus, _) => before.is_some_and(|before| {
            matches!(
                before.kind,
                Identifier
                    | Number
                    | BraceClose
                    | BracketClose
                    | ParenthesisClose
                    | QuoteClose
                    | Arrow
                    | Comment
                    | InterpolationOpen
            )
        }),
        _ => true,
    }
}
