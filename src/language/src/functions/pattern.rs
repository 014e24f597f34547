//! Regular expressions as RE2 reads them, which is what templates are written for, in the words of this engine.

/// How often a part may be repeated at most.
const MOST_REPETITIONS: u32 = 1000;

/// What may stand in `[[:...:]]`.
const CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// The same pattern for this engine. RE2's classes `\d`, `\s`, `\w`, `\b` know ASCII only; those of this engine know all
/// of Unicode unless told.
///
/// # Errors
/// What RE2 refuses and this engine would take in another meaning.
pub(super) fn translated(pattern: &str) -> Result<String, String> {
    let pattern = unquoted(pattern);
    let mut reader = Reader {
        rest: &pattern,
        output: String::with_capacity(pattern.len()),
        inside_brackets: false,
        repeated: false,
    };
    while let Some(character) = reader.rest.chars().next() {
        reader.step(character)?;
    }
    Ok(reader.output)
}

/// Writes RE2's `\Q...\E` as escaped characters, which this engine lacks.
fn unquoted(pattern: &str) -> String {
    let mut output = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(start) = rest.find(r"\Q") {
        let escaped = rest[..start].bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
        output.push_str(&rest[..start]);
        rest = &rest[start + 2..];
        if escaped {
            output.push_str(r"\Q");
            continue;
        }
        let (literal, after) = rest.split_once(r"\E").unwrap_or((rest, ""));
        output.push_str(&regex::escape(literal));
        rest = after;
    }
    output + rest
}

struct Reader<'p> {
    rest: &'p str,
    output: String,
    inside_brackets: bool,
    /// Whether what was read last is a sign of repetition.
    repeated: bool,
}

impl Reader<'_> {
    fn step(&mut self, character: char) -> Result<(), String> {
        if self.inside_brackets {
            return self.in_brackets(character);
        }
        let was_repeated = std::mem::take(&mut self.repeated);
        match character {
            '\\' => return self.escape(),
            '[' => {
                self.inside_brackets = true;
                // A bracket that closes at once is a literal one.
                let starts = ["[^]", "[]", "[^", "["];
                let start = starts.iter().find(|start| self.rest.starts_with(**start)).map_or("[", |start| *start);
                self.output.push_str(&start.replace(']', r"\]"));
                self.skip(start.len());
                if self.rest.starts_with('-') {
                    self.output.push('\\');
                    self.copy(1);
                }
            }
            '(' if self.rest.starts_with("(?") => self.flags()?,
            '*' | '+' | '?' | '{' => {
                let Some(length) = repetition(self.rest)? else {
                    // Braces that do not count repetitions stand for themselves.
                    self.output.push_str(r"\{");
                    self.skip(1);
                    return Ok(());
                };
                if was_repeated {
                    return Err(format!("`{}` repeats a repetition; put parentheses around it", &self.rest[..length]));
                }
                self.repeated = true;
                self.copy(length);
            }
            _ => self.copy(character.len_utf8()),
        }
        Ok(())
    }

    fn in_brackets(&mut self, character: char) -> Result<(), String> {
        match character {
            '\\' => return self.escape(),
            '[' if self.rest.starts_with("[:") && self.rest[2..].contains(":]") => {
                let length = 4 + self.rest[2..].find(":]").unwrap_or_default();
                let name = &self.rest[..length];
                // This engine takes the name of none for a set of letters.
                if !CLASSES.contains(&name[2..length - 2].trim_start_matches('^')) {
                    return Err(format!("there is no class `{name}`"));
                }
                self.copy(length);
            }
            // These have a meaning inside brackets in this engine alone.
            '[' | '&' | '~' => {
                self.output.push('\\');
                self.copy(1);
            }
            // A range up to the dash.
            '-' if self.rest.starts_with("--") => {
                self.output.push_str(r"-\-");
                self.skip(2);
            }
            _ => {
                self.inside_brackets = character != ']';
                self.copy(character.len_utf8());
            }
        }
        Ok(())
    }

    fn escape(&mut self) -> Result<(), String> {
        let next = self.rest[1..].chars().next();
        let mut length = 1 + next.map_or(0, char::len_utf8);
        match next {
            Some('p') if self.rest[2..].starts_with("{^") => {
                self.output.push_str(r"\P{");
                self.skip(4);
                return Ok(());
            }
            // `\p{Greek}` and `\x{41}` have braces of their own.
            Some('p' | 'P' | 'x') if self.rest[2..].starts_with('{') => {
                length = self.rest.find('}').map_or(length, |end| end + 1);
            }
            Some('0'..='7') => return self.octal(),
            Some(letter @ ('u' | 'U')) => {
                return Err(format!("there is no escape `\\{letter}`; write `\\x{{...}}`"));
            }
            // Edges of words in this engine.
            Some(sign @ ('<' | '>')) => {
                self.output.push(sign);
                self.skip(length);
                return Ok(());
            }
            _ => {}
        }
        match perl_class(next, self.inside_brackets) {
            Some(class) => {
                self.output.push_str(class);
                self.skip(length);
            }
            None => self.copy(length),
        }
        Ok(())
    }

    /// `\0`, `\101`: a character by its octal number. A digit alone would be a reference to a group, which there is none of.
    fn octal(&mut self) -> Result<(), String> {
        let count = self.rest[1..].bytes().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
        let digits = &self.rest[1..=count];
        if count == 1 && digits != "0" {
            return Err(format!("`\\{digits}` would refer to a group; that is not possible in a pattern"));
        }
        let code = u32::from_str_radix(digits, 8).unwrap_or_default();
        self.output.push_str(&format!(r"\x{{{code:x}}}"));
        self.skip(1 + count);
        Ok(())
    }

    /// `(?i)`, `(?s:`, `(?P<name>`.
    fn flags(&mut self) -> Result<(), String> {
        let flags = self.rest[2..].chars().take_while(|letter| letter.is_ascii_lowercase() || "-UR".contains(*letter));
        if let Some(flag) = flags.clone().find(|flag| !"imsU-".contains(*flag)) {
            return Err(format!("there is no flag `{flag}`; the flags are `i`, `m`, `s` and `U`"));
        }
        let length = 2 + flags.count();
        self.copy(length);
        Ok(())
    }

    fn copy(&mut self, length: usize) {
        self.output.push_str(&self.rest[..length]);
        self.skip(length);
    }

    fn skip(&mut self, length: usize) {
        self.rest = &self.rest[length..];
    }
}

/// The length of `*`, `+`, `?`, `{2}`, `{2,}` or `{2,3}` at the head of a text, with the `?` behind it that makes it lazy.
fn repetition(text: &str) -> Result<Option<usize>, String> {
    let mut length = 1;
    if let Some(counted) = text.strip_prefix('{') {
        let Some((counts, _)) = counted.split_once('}') else { return Ok(None) };
        let (least, most) = counts.split_once(',').unwrap_or((counts, ""));
        let all_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if least.is_empty() || !all_digits(least) || !all_digits(most) {
            return Ok(None);
        }
        let fits = |digits: &str| digits.is_empty() || digits.parse().is_ok_and(|count: u32| count <= MOST_REPETITIONS);
        if !fits(least) || !fits(most) {
            return Err(format!("`{{{counts}}}` repeats more often than {MOST_REPETITIONS} times"));
        }
        length = counts.len() + 2;
    }
    Ok(Some(length + usize::from(text[length..].starts_with('?'))))
}

fn perl_class(letter: Option<char>, inside_brackets: bool) -> Option<&'static str> {
    Some(match (letter?, inside_brackets) {
        ('d', _) => "[0-9]",
        ('D', _) => "[^0-9]",
        ('s', _) => r"[\t\n\x0C\r ]",
        ('S', _) => r"[^\t\n\x0C\r ]",
        ('w', _) => "[0-9A-Za-z_]",
        ('W', _) => "[^0-9A-Za-z_]",
        ('b', false) => r"(?-u:\b)",
        ('B', false) => r"(?-u:\B)",
        _ => return None,
    })
}
