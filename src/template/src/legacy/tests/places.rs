//! Places inside strings, numbers, and texts that are no JSON.

use kiln_core::{Diagnostics, SourceId, Span};

use crate::legacy::json::{Duplicates, JsonValue, canonical_number, inside, parse};

/// Marks the place of each decoded character of the first string in a text.
fn places(literal: &str) -> Vec<(char, String)> {
    let mut diagnostics = Diagnostics::new();
    let text = format!("  {literal} ");
    let node = parse(&text, SourceId(0), Duplicates::Refuse, &mut diagnostics).unwrap();
    let JsonValue::String(decoded) = node.value else { panic!("not a string") };
    decoded
        .char_indices()
        .map(|(position, character)| {
            let span = inside(&text, node.span, position..position + character.len_utf8());
            (character, text[span.range()].to_owned())
        })
        .collect()
}

#[test]
fn a_decoded_character_is_found_at_its_escape() {
    let found = places(r#""aé\n\u00fc\ud83d\ude00\"x""#);
    let expected =
        [('a', "a"), ('é', "é"), ('\n', r"\n"), ('ü', r"\u00fc"), ('😀', r"\ud83d\ude00"), ('"', r#"\""#), ('x', "x")];
    assert_eq!(found, expected.map(|(character, written)| (character, written.to_owned())));
}

#[test]
fn ranges_at_the_ends_and_beyond_stay_in_the_literal() {
    let text = r#""a\tb""#;
    let literal = Span::new(SourceId(0), 0..text.len());
    assert_eq!(inside(text, literal, 0..3).range(), 1..5);
    assert_eq!(inside(text, literal, 3..3).range(), 5..5);
    assert_eq!(inside(text, literal, 1..1).range(), 2..2);
    assert_eq!(inside(text, literal, 2..99).range(), 4..5);
    assert_eq!(inside(text, literal, 50..99).range(), 5..5);
}

#[test]
fn numbers_become_decimal_text() {
    for (written, expected) in [
        ("0", "0"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("22", "22"),
        ("-22", "-22"),
        ("1.50", "1.5"),
        ("1e3", "1000"),
        ("1.25E+1", "12.5"),
        ("125e-2", "1.25"),
        ("5e-3", "0.005"),
        ("-1e-1", "-0.1"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
    ] {
        assert_eq!(canonical_number(written), expected, "{written}");
    }
    assert_eq!(canonical_number("1e99999999999"), "1e99999999999");
}

#[test]
fn deep_nesting_is_refused_not_a_crash() {
    let text = "[".repeat(100_000);
    let mut diagnostics = Diagnostics::new();
    assert!(parse(&text, SourceId(0), Duplicates::Refuse, &mut diagnostics).is_none());
    assert_eq!(diagnostics.items.len(), 1);
}

#[test]
fn texts_cut_anywhere_give_one_error_and_no_panic() {
    let text = r#"{"ä": ["x\n\u00fc", {"b": -1.5e3, "c": [true, null]}], "d": "{{user `é`}}"}"#;
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
        let mut diagnostics = Diagnostics::new();
        assert!(parse(&text[..end], SourceId(0), Duplicates::Refuse, &mut diagnostics).is_none(), "{end}");
        assert_eq!(diagnostics.items.len(), 1, "{end}");
        let mut sources = kiln_core::SourceMap::new();
        sources.add("cut.json", None, &text[..end]);
        assert!(!kiln_core::render::render(&diagnostics.items[0], &sources, false).is_empty());
    }
}
