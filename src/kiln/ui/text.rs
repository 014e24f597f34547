//! Lines of other programs, made safe for a terminal that we draw on.

use std::iter::Peekable;
use std::str::Chars;

/// The line without what would move the cursor, clear the screen or ring. Colours (`ESC [ ... m`) stay where `color`, and
/// are ended with the line. Tabs stay.
pub(super) fn tame(line: &str, color: bool) -> String {
    if !line.contains(|character: char| character.is_control() && character != '\t') {
        return line.to_owned();
    }
    let mut text = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    let mut is_colored = false;
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                if let Some(style) = escape(&mut characters).filter(|_| color) {
                    text.push_str(&style);
                    is_colored = true;
                }
            }
            '\t' => text.push('\t'),
            other if other.is_control() => {}
            other => text.push(other),
        }
    }
    if is_colored {
        text.push_str("\u{1b}[0m");
    }
    text
}

/// Reads on after an ESC (ECMA-48): the whole sequence is taken; it comes back only where it sets colours.
fn escape(characters: &mut Peekable<Chars<'_>>) -> Option<String> {
    match characters.peek() {
        Some('[') => {
            characters.next();
            let mut sequence = String::from("\u{1b}[");
            while let Some(character) = characters.next_if(|next| matches!(next, ' '..='~')) {
                sequence.push(character);
                if matches!(character, '@'..='~') {
                    return (character == 'm').then_some(sequence);
                }
            }
            None
        }
        // Texts for the terminal (window titles, links): up to BEL or ESC \.
        Some(']' | 'P' | '^' | '_' | 'X') => {
            while let Some(character) = characters.next() {
                if character == '\u{7}' || (character == '\u{1b}' && characters.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
            None
        }
        // Two or three characters: a letter, perhaps after others such as `(`.
        Some(_) => {
            while characters.next_if(|next| matches!(next, ' '..='/')).is_some() {}
            characters.next_if(|next| matches!(next, '0'..='~'));
            None
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_the_cursor_goes_and_colours_stay() {
        let line = "\u{1b}[2J\u{1b}[1;31mred\u{1b}[0m\u{1b}[1A up\u{7}\tx";
        assert_eq!(tame(line, true), "\u{1b}[1;31mred\u{1b}[0m up\tx\u{1b}[0m");
        assert_eq!(tame(line, false), "red up\tx");
    }

    #[test]
    fn sequences_of_other_kinds_are_taken_whole() {
        for (line, expected) in [
            ("\u{1b}]0;title\u{7}a", "a"),
            ("\u{1b}]8;;https://x\u{1b}\\link", "link"),
            ("\u{1b}(Ba", "a"),
            ("\u{1b}7a\u{1b}8", "a"),
            ("a\u{1b}", "a"),
            ("a\u{1b}[12", "a"),
            ("a\u{8}b\rc", "abc"),
            ("ü\u{9b}2Jx", "ü2Jx"),
        ] {
            assert_eq!(tame(line, true), expected, "{line:?}");
        }
    }
}
