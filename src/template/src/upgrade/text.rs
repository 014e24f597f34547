//! A string of legacy JSON as an expression of HCL2.
//!
//! Strings of HCL2 are rendered as Go templates too, after their interpolations. So only those actions are rewritten that
//! HCL2 does not have (`user`, `env`, ...); the others stay as they are and mean the same.

use std::ops::Range;

use kiln_gotemplate::action_ranges;

use super::action::{self, Expression, Token};
use super::names::is_identifier;

/// Where a string stands, which decides what it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A variable's default: constant but for `env`.
    Default,
    /// A local.
    Local,
    /// A source: no machine runs yet.
    Source,
    /// A provisioner or post-processor.
    Step,
}

/// A user variable, as HCL2 calls it.
#[derive(Debug, Clone)]
pub(super) struct Variable {
    /// `var.x` or `local.x`.
    pub(super) code: String,
    /// Its default, where that is a plain text.
    pub(super) default: Option<String>,
    /// Whether its value still holds Go template actions.
    pub(super) has_actions: bool,
}

/// Finds user variables.
pub(super) trait Lookup {
    /// The variable of a name of the JSON template. Undeclared ones are declared by being used.
    fn user(&mut self, name: &str) -> Variable;

    /// A variable that holds a variable of the environment, for places where `env` cannot be called.
    fn environment(&mut self, name: &str) -> Variable;
}

/// A piece of an HCL2 string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(String),
    /// An expression.
    Code(String),
}

/// A converted string.
#[derive(Debug, Clone, Default)]
pub(super) struct Converted {
    pub(super) pieces: Vec<Piece>,
    /// Whether Go template actions are left, here or in the variables used.
    pub(super) has_actions: bool,
    /// What may not be the same, with its bytes in the string.
    pub(super) notes: Vec<(Range<usize>, String)>,
    /// The default of the one variable that the string is.
    pub(super) default: Option<String>,
}

impl Converted {
    fn push(&mut self, text: &str) {
        if let Some(Piece::Literal(last)) = self.pieces.last_mut() {
            last.push_str(text);
        } else if !text.is_empty() {
            self.pieces.push(Piece::Literal(text.to_owned()));
        }
    }

    /// The expression: bare where it is one piece of code.
    pub(super) fn expression(&self) -> String {
        expression(&self.pieces)
    }

    /// The text, where nothing in it is code.
    pub(super) fn literal(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }
}

/// Pieces as an expression: bare where they are one piece of code.
pub(super) fn expression(pieces: &[Piece]) -> String {
    match pieces {
        [Piece::Code(code)] => code.clone(),
        pieces => quoted(pieces),
    }
}

/// Pieces as a quoted template.
pub(super) fn quoted(pieces: &[Piece]) -> String {
    let mut text = String::from("\"");
    for (index, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Literal(literal) => escape(literal, index + 1 < pieces.len(), &mut text),
            Piece::Code(code) => {
                text.push_str("${");
                text.push_str(code);
                text.push('}');
            }
        }
    }
    text.push('"');
    text
}

/// A text as an HCL2 literal.
pub(super) fn literal(text: &str) -> String {
    quoted(&[Piece::Literal(text.to_owned())])
}

fn escape(literal: &str, is_before_code: bool, text: &mut String) {
    for (position, character) in literal.char_indices() {
        let behind = &literal[position + character.len_utf8()..];
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '$' | '%' if behind.starts_with('{') => {
                text.push(character);
                text.push(character);
            }
            // Two of them before a brace would be an escape.
            '$' | '%' if behind.starts_with(&format!("{character}{{")) => {
                text.push_str(&format!("${{\"{character}\"}}"));
            }
            '$' if behind.is_empty() && is_before_code => text.push_str("${\"$\"}"),
            other if other.is_control() => text.push_str(&format!("\\u{:04x}", u32::from(other))),
            other => text.push(other),
        }
    }
}

/// Converts a string.
pub(super) fn convert(text: &str, place: Place, lookup: &mut dyn Lookup) -> Converted {
    let ranges = action_ranges(text);
    let mut conversion = Conversion { text, ranges: &ranges, place, lookup, converted: Converted::default(), depth: 0 };
    conversion.actions(0..ranges.len(), 0..text.len());
    conversion.converted
}

/// Functions that HCL2 strings do not have.
const REWRITTEN: [&str; 8] =
    ["user", "env", "build", "template_dir", "vault", "consul_key", "aws_secretsmanager", "aws_secretsmanager_raw"];

struct Conversion<'a> {
    text: &'a str,
    /// All actions of the text.
    ranges: &'a [Range<usize>],
    place: Place,
    lookup: &'a mut dyn Lookup,
    converted: Converted,
    /// How many choices are open around.
    depth: usize,
}

/// How deep choices may be nested to be computed in HCL2: a bound on the stack.
const MAXIMUM_DEPTH: usize = 20;

/// Why an expression cannot be written in HCL2.
struct Stays;

impl Conversion<'_> {
    /// Converts some of the actions, and the text from `bytes.start` to `bytes.end` around them.
    fn actions(&mut self, indices: Range<usize>, bytes: Range<usize>) {
        let mut offset = bytes.start;
        let mut index = indices.start;
        while index < indices.end {
            let range = self.ranges[index].clone();
            self.converted.push(&self.text[offset..range.start]);
            match self.choice(index, indices.end) {
                Some(end) => index = end,
                None => self.action(range),
            }
            offset = self.ranges[index].end;
            index += 1;
        }
        self.converted.push(&self.text[offset..bytes.end]);
    }

    /// What stands between braces and is neither trimmed nor open.
    fn tokens(&self, range: &Range<usize>) -> Option<Vec<(Token, Range<usize>)>> {
        let action = &self.text[range.clone()];
        let is_plain = action.ends_with("}}") && !action.starts_with("{{-") && !action.ends_with("-}}");
        is_plain.then(|| action::tokens(self.text, range.clone()))
    }

    /// An `if` whose condition HCL2 can compute, as a conditional expression. Gives the index of its `end`.
    fn choice(&mut self, start: usize, limit: usize) -> Option<usize> {
        let first = self.tokens(&self.ranges[start])?;
        if self.depth >= MAXIMUM_DEPTH
            || !is_word(first.first(), "if")
            || !first.iter().any(|(token, _)| self.is_rewritten(token))
        {
            return None;
        }
        let (middle, end) = self.parts(start, limit)?;
        let condition = action::parse(&first[1..])?;
        let (then_end, else_start) = middle.map_or((end, None), |middle| (middle, Some(middle)));
        // Nothing is kept of it where the condition cannot be computed.
        let condition = self.condition(&condition).ok()?;
        let then = self.branch(start, then_end);
        let otherwise = else_start.map_or_else(|| "\"\"".to_owned(), |middle| self.branch(middle, end));
        self.converted.pieces.push(Piece::Code(format!("{condition} ? {then} : {otherwise}")));
        Some(end)
    }

    /// The `else` and the `end` of the `if` at an index. `None` where they are more than that (`else if`, trimmed).
    fn parts(&self, start: usize, limit: usize) -> Option<(Option<usize>, usize)> {
        let mut depth = 0;
        let mut middle = None;
        for index in start + 1..limit {
            let tokens = self.tokens(&self.ranges[index]);
            let word = match tokens.as_ref().and_then(|tokens| tokens.first()) {
                Some((Token::Word(word), _)) => word.as_str(),
                // A trimmed one may open or close something.
                None if tokens.is_none() => return None,
                _ => "",
            };
            match word {
                "if" | "range" | "with" | "define" | "block" => depth += 1,
                "end" if depth > 0 => depth -= 1,
                "end" => return Some((middle, index)),
                "else" if depth == 0 => {
                    if tokens.is_some_and(|tokens| tokens.len() > 1) || middle.is_some() {
                        return None;
                    }
                    middle = Some(index);
                }
                _ => {}
            }
        }
        None
    }

    /// What stands between two actions, as an expression.
    fn branch(&mut self, start: usize, end: usize) -> String {
        let around = std::mem::take(&mut self.converted);
        self.depth += 1;
        self.actions(start + 1..end, self.ranges[start].end..self.ranges[end].start);
        self.depth -= 1;
        let inner = std::mem::replace(&mut self.converted, around);
        self.converted.has_actions |= inner.has_actions;
        self.converted.notes.extend(inner.notes.iter().cloned());
        match inner.pieces.as_slice() {
            [Piece::Code(code)] if code.contains(" ? ") => format!("({code})"),
            _ => inner.expression(),
        }
    }

    /// A condition: a text is true unless it is empty.
    fn condition(&mut self, expression: &Expression) -> Result<String, Stays> {
        if let Expression::Call { name, arguments } = expression {
            match (name.as_str(), arguments.as_slice()) {
                ("eq" | "ne", [left, right]) => {
                    let operator = if name == "eq" { "==" } else { "!=" };
                    return Ok(format!("{} {operator} {}", self.code(left, false)?, self.code(right, false)?));
                }
                ("not", [inner]) => return Ok(format!("!({})", self.condition(inner)?)),
                ("and" | "or", [left, right]) => {
                    let operator = if name == "and" { "&&" } else { "||" };
                    return Ok(format!("({}) {operator} ({})", self.condition(left)?, self.condition(right)?));
                }
                _ => {}
            }
        }
        Ok(format!("{} != \"\"", self.code(expression, false)?))
    }

    /// Whether HCL2 strings do not have it, or it means another thing there.
    fn is_rewritten(&self, token: &Token) -> bool {
        match token {
            // Each use of a local has the same value; each use of the action another one.
            Token::Word(word) if word == "uuid" => self.place == Place::Local,
            Token::Word(word) if word == "build" => self.place == Place::Step,
            Token::Word(word) => REWRITTEN.contains(&word.as_str()),
            _ => false,
        }
    }

    fn action(&mut self, range: Range<usize>) {
        let tokens = action::tokens(self.text, range.clone());
        let is_closed = self.text[range.clone()].ends_with("}}");
        if !is_closed || !tokens.iter().any(|(token, _)| self.is_rewritten(token)) {
            self.converted.has_actions = true;
            return self.converted.push(&self.text[range]);
        }
        let Some((expression, code)) = action::parse(&tokens)
            .and_then(|expression| self.code(&expression, true).ok().map(|code| (expression, code)))
        else {
            return self.substitute(&tokens, range);
        };
        if let Expression::Call { name, arguments } = &expression
            && let ("user", [Expression::Text(name)]) = (name.as_str(), arguments.as_slice())
        {
            let variable = self.lookup.user(name);
            self.converted.has_actions |= variable.has_actions;
            self.converted.default = variable.default;
        }
        self.converted.pieces.push(Piece::Code(code));
    }

    /// The expression in HCL2. A variable that still holds actions can stand alone only: functions would see those.
    fn code(&mut self, expression: &Expression, is_alone: bool) -> Result<String, Stays> {
        let (name, arguments) = match expression {
            Expression::Text(text) => return Ok(literal(text)),
            Expression::Number(digits) => return Ok(digits.clone()),
            Expression::Call { name, arguments } => (name.as_str(), arguments.as_slice()),
        };
        match (name, arguments) {
            ("user", [Expression::Text(name)]) => {
                let variable = self.lookup.user(name);
                if variable.has_actions && !is_alone { Err(Stays) } else { Ok(variable.code) }
            }
            ("env", [Expression::Text(name)]) => match self.place {
                Place::Default => Ok(format!("env({})", literal(name))),
                Place::Local => Ok(self.lookup.environment(name).code),
                Place::Source | Place::Step => Err(Stays),
            },
            ("build", [Expression::Text(name)]) if self.place == Place::Step && is_identifier(name) => {
                Ok(format!("build.{name}"))
            }
            ("template_dir", []) if self.place != Place::Default => Ok("abspath(path.root)".to_owned()),
            ("pwd", []) if self.place != Place::Default => Ok("abspath(path.cwd)".to_owned()),
            ("uuid", []) => Ok("uuidv4()".to_owned()),
            ("build_name", []) if self.place == Place::Step => Ok("source.name".to_owned()),
            ("build_type", []) if self.place == Place::Step => Ok("source.type".to_owned()),
            ("isotime", []) => Ok("legacy_isotime(\"2006-01-02T15:04:05Z07:00\")".to_owned()),
            ("isotime", [_]) => self.call("legacy_isotime", arguments),
            ("strftime", [_]) => self.call("legacy_strftime", arguments),
            ("upper" | "lower", [_]) => self.call(name, arguments),
            ("vault", [_, _]) | ("consul_key" | "aws_secretsmanager_raw", [_]) => self.call(name, arguments),
            ("aws_secretsmanager", [_] | [_, _]) => self.call(name, arguments),
            ("replace_all", [old, new, source]) => self.replace(old, new, source),
            ("replace", [old, new, Expression::Number(count), source]) if count.starts_with('-') => {
                self.replace(old, new, source)
            }
            ("split", [source, separator, Expression::Number(index)]) if !index.starts_with('-') => {
                let (source, separator) = (self.code(source, false)?, self.code(separator, false)?);
                Ok(format!("split({separator}, {source})[{index}]"))
            }
            _ => Err(Stays),
        }
    }

    fn call(&mut self, name: &str, arguments: &[Expression]) -> Result<String, Stays> {
        let codes: Result<Vec<String>, Stays> = arguments.iter().map(|argument| self.code(argument, false)).collect();
        Ok(format!("{name}({})", codes?.join(", ")))
    }

    /// Between slashes, HCL2 takes what is to be replaced for a regular expression.
    fn replace(&mut self, old: &Expression, new: &Expression, source: &Expression) -> Result<String, Stays> {
        let Expression::Text(plain) = old else { return Err(Stays) };
        if plain.len() > 1 && plain.starts_with('/') && plain.ends_with('/') {
            return Err(Stays);
        }
        let (new, source) = (self.code(new, false)?, self.code(source, false)?);
        Ok(format!("replace({source}, {}, {new})", literal(plain)))
    }

    /// The action as it is, with the values of variables put into it as texts.
    fn substitute(&mut self, tokens: &[(Token, Range<usize>)], range: Range<usize>) {
        self.converted.has_actions = true;
        let mut offset = range.start;
        let mut index = 0;
        while let Some((token, place)) = tokens.get(index) {
            let found = self.variable(tokens, index);
            let Some((name, variable, used)) = found else {
                if let Token::Word(word) = token
                    && self.is_rewritten(token)
                {
                    self.note(word, place.clone());
                }
                index += 1;
                continue;
            };
            let end = tokens[index + used - 1].1.end;
            if variable.has_actions {
                let title =
                    format!("`{name}` holds template actions itself, which are not rendered inside of another one");
                self.converted.notes.push((place.start..end, title));
            }
            self.converted.push(&self.text[offset..place.start]);
            if variable.default.as_ref().is_some_and(|default| default.contains('`')) {
                self.converted.pieces.push(Piece::Code(format!("jsonencode({})", variable.code)));
            } else {
                self.converted.push("`");
                self.converted.pieces.push(Piece::Code(variable.code));
                self.converted.push("`");
            }
            offset = end;
            index += used;
        }
        self.converted.push(&self.text[offset..range.end]);
    }

    /// The variable that is named at a token: ``user `x` ``, `` `x` | user``, in locals ``env `X` `` too. With the count of
    /// tokens that name it.
    fn variable(&mut self, tokens: &[(Token, Range<usize>)], index: usize) -> Option<(String, Variable, usize)> {
        match (&tokens.get(index)?.0, &tokens.get(index + 1)?.0) {
            (Token::Word(word), Token::Text(Some(name))) if word == "user" => {
                Some((name.clone(), self.lookup.user(name), 2))
            }
            (Token::Word(word), Token::Text(Some(name))) if word == "env" && self.place == Place::Local => {
                Some((name.clone(), self.lookup.environment(name), 2))
            }
            (Token::Text(Some(name)), Token::Pipe) if is_word(tokens.get(index + 2), "user") => {
                Some((name.clone(), self.lookup.user(name), 3))
            }
            _ => None,
        }
    }

    /// Notes a function that HCL2 strings do not have.
    fn note(&mut self, word: &str, place: Range<usize>) {
        let title = match word {
            "build" => return,
            "user" => "the name of the variable is computed, and HCL2 has no `user`: name the variable as `var.NAME`"
                .to_owned(),
            "env" => "HCL2 has `env` in the defaults of variables only: declare a variable with it".to_owned(),
            other => format!("HCL2 strings have no `{other}`: write it as a function of HCL2 in a local"),
        };
        self.converted.notes.push((place, title));
    }
}

fn is_word(token: Option<&(Token, Range<usize>)>, wanted: &str) -> bool {
    matches!(token, Some((Token::Word(word), _)) if word == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake;

    impl Lookup for Fake {
        fn user(&mut self, name: &str) -> Variable {
            Variable {
                code: format!("var.{name}"),
                default: Some("a`b".repeat(usize::from(name == "q"))),
                has_actions: name == "t",
            }
        }

        fn environment(&mut self, name: &str) -> Variable {
            Variable { code: format!("var.env_{name}"), default: None, has_actions: false }
        }
    }

    #[track_caller]
    fn check(place: Place, rows: &[(&str, &str)]) {
        for (text, expected) in rows {
            let converted = convert(text, place, &mut Fake);
            assert_eq!(converted.expression(), *expected, "{text}");
        }
    }

    #[test]
    fn plain_texts_are_escaped() {
        check(
            Place::Step,
            &[
                ("a", r#""a""#),
                ("", r#""""#),
                ("a\"b\\c\n\r\t\u{1}é", r#""a\"b\\c\n\r\t\u0001é""#),
                ("${x} %{y} $x %y $$ %%", r#""$${x} %%{y} $x %y $$ %%""#),
                ("$${x}%%{y}", r#""${"$"}$${x}${"%"}%%{y}""#),
                ("${{user `x`}}", r#""${"$"}${var.x}""#),
                ("%{{user `x`}}", r#""%${var.x}""#),
                ("{ {{", r#""{ {{""#),
                ("{{user `x", r#""{{user `x""#),
            ],
        );
    }

    #[test]
    fn actions_that_hcl2_lacks_are_rewritten_and_the_others_stay() {
        check(
            Place::Step,
            &[
                ("{{user `x`}}", "var.x"),
                ("{{ user \"x\" }}-{{build `ID`}}", r#""${var.x}-${build.ID}""#),
                ("{{user `x` | upper}}", "upper(var.x)"),
                ("{{replace_all `.` `-` (user `x`)}}", r#"replace(var.x, ".", "-")"#),
                ("{{user `x` | replace `.` `-` -1}}", r#"replace(var.x, ".", "-")"#),
                ("{{split (user `x`) `.` 1}}", r#"split(".", var.x)[1]"#),
                ("{{template_dir}}/x", r#""${abspath(path.root)}/x""#),
                (
                    "{{timestamp}} {{isotime \"2006\"}} {{.Path}} {{uuid}}",
                    r#""{{timestamp}} {{isotime \"2006\"}} {{.Path}} {{uuid}}""#,
                ),
                ("{{build_name}}", r#""{{build_name}}""#),
            ],
        );
        check(Place::Source, &[("{{build `ID`}}", r#""{{build `ID`}}""#)]);
        check(Place::Default, &[("{{env `A`}}", r#"env("A")"#), ("x{{env `A`}}", r#""x${env("A")}""#)]);
        check(
            Place::Local,
            &[
                ("{{env `A` | upper}}", "upper(var.env_A)"),
                ("{{uuid}}", "uuidv4()"),
                ("{{vault `a` `b`}}", r#"vault("a", "b")"#),
            ],
        );
    }

    #[test]
    fn choices_become_conditional_expressions() {
        check(
            Place::Local,
            &[
                ("{{if env `A`}}{{env `A`}}{{else}}none{{end}}", r#"var.env_A != "" ? var.env_A : "none""#),
                ("a {{if eq (user `x`) `y`}}b{{end}} c", r#""a ${var.x == "y" ? "b" : ""} c""#),
                (
                    "{{if and (user `x`) (not (ne (user `y`) `1`))}}{{if user `z`}}1{{end}}{{else}}{{timestamp}}{{end}}",
                    r#"(var.x != "") && (!(var.y != "1")) ? (var.z != "" ? "1" : "") : "{{timestamp}}""#,
                ),
            ],
        );
        check(Place::Step, &[("{{if .Vars}}{{.Vars}} {{end}}x", r#""{{if .Vars}}{{.Vars}} {{end}}x""#)]);
    }

    #[test]
    fn what_hcl2_cannot_say_keeps_its_action_around_the_value() {
        check(
            Place::Step,
            &[
                ("{{user `x` | clean_resource_name}}", r#""{{`${var.x}` | clean_resource_name}}""#),
                ("{{if eq (user `t`) `y`}}a{{end}}", r#""{{if eq (`${var.t}`) `y`}}a{{end}}""#),
                ("{{if lt (user `x`) `y`}}a{{end}}", r#""{{if lt (`${var.x}`) `y`}}a{{end}}""#),
                (
                    "{{if user `x`}}a{{else if user `y`}}b{{end}}",
                    r#""{{if `${var.x}`}}a{{else if `${var.y}`}}b{{end}}""#,
                ),
                ("{{if user `x`}}a{{- end}}", r#""{{if `${var.x}`}}a{{- end}}""#),
                ("{{- user `x` -}}", r#""{{- `${var.x}` -}}""#),
                ("{{`x` | user | printf \"%s\"}}", r#""{{`${var.x}` | printf \"%s\"}}""#),
                ("{{replace_all `/a/` `-` (user `x`)}}", r#""{{replace_all `/a/` `-` (`${var.x}`)}}""#),
                ("{{user `q` | clean_resource_name}}", r#""{{${jsonencode(var.q)} | clean_resource_name}}""#),
            ],
        );
    }

    #[test]
    fn what_may_differ_is_noted() {
        for (text, place, count) in [
            ("{{env `A`}}", Place::Step, 1),
            ("{{user (printf `x`)}}", Place::Step, 1),
            ("{{user `t` | upper}}", Place::Step, 1),
            ("{{user `t`}}", Place::Step, 0),
            ("{{vault `a`}}", Place::Step, 1),
        ] {
            assert_eq!(convert(text, place, &mut Fake).notes.len(), count, "{text}");
        }
    }
}
