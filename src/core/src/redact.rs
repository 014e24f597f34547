//! Secrets: a type that does not show them, and the one filter that all output passes.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::RwLock;

use base64::Engine;
use base64::engine::general_purpose;

/// What stands in a secret's place; Packer's word.
pub const MASK: &str = "<sensitive>";

/// Shorter texts are not masked.
const SHORTEST: usize = 3;

/// A text that neither Display nor Debug shows.
#[derive(Clone, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself; only for handing it to the one who needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(MASK)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(MASK)
    }
}

/// Replaces known secrets, also in the forms they usually take: base64 (both alphabets, with and without padding),
/// URL-encoded, JSON-escaped, shell-quoted, and line by line where they have several lines.
#[derive(Default)]
pub struct Redactor {
    // Longest first, so that a secret inside a longer one does not leave the rest of it visible.
    needles: RwLock<Vec<String>>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Redactor")
    }
}

impl Redactor {
    /// Knows no secret yet.
    pub fn new() -> Redactor {
        Redactor::default()
    }

    /// Adds a secret. Texts of one or two characters, `true` and `false` are no secrets: they protect nothing, often come
    /// from a condition on a sensitive value, and masking them would blot out everything else.
    pub fn add(&self, secret: &str) {
        if secret.chars().count() < SHORTEST || matches!(secret, "true" | "false") {
            return;
        }
        let mut forms = BTreeSet::new();
        for form in std::iter::once(secret).chain(secret.lines().map(str::trim)) {
            // A single letter, or a brace between the lines of a key, would blot out everything.
            let is_part = form.len() != secret.len();
            if form.is_empty() || (is_part && form.len() < 4) {
                continue;
            }
            forms.insert(form.to_owned());
            forms.extend(encoded_forms(form));
        }
        let Ok(mut needles) = self.needles.write() else { return };
        for form in forms {
            if !needles.contains(&form) {
                needles.push(form);
            }
        }
        needles.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    }

    /// The text with every known secret replaced by [`MASK`].
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let Ok(needles) = self.needles.read() else { return Cow::Borrowed(text) };
        let mut result = Cow::Borrowed(text);
        for needle in needles.iter() {
            if result.contains(needle.as_str()) {
                result = Cow::Owned(result.replace(needle.as_str(), MASK));
            }
        }
        result
    }

    /// Redacts every text in a JSON value, keys included.
    pub fn redact_json(&self, value: &mut serde_json::Value) {
        match value {
            serde_json::Value::String(text) => {
                if let Cow::Owned(clean) = self.redact(text) {
                    *text = clean;
                }
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(|item| self.redact_json(item)),
            serde_json::Value::Object(entries) => {
                let clean = std::mem::take(entries).into_iter().map(|(key, mut item)| {
                    self.redact_json(&mut item);
                    (self.redact(&key).into_owned(), item)
                });
                *entries = clean.collect();
            }
            _ => {}
        }
    }
}

fn encoded_forms(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let json = serde_json::Value::String(text.to_owned()).to_string();
    let inner = json.trim_matches('"');
    let mut forms = vec![
        inner.to_owned(),
        // Go's encoder escapes these three, so a `jsonencode`d secret looks like this.
        inner.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"),
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string(),
        text.replace('\'', "'\\''"),
        text.replace('\'', "'\"'\"'"),
    ];
    forms.push(forms[2].replace("%2D", "-").replace("%2E", ".").replace("%5F", "_").replace("%7E", "~"));
    // Short texts encode to something that may stand anywhere by chance.
    if bytes.len() >= 4 {
        for engine in [&general_purpose::STANDARD, &general_purpose::URL_SAFE] {
            let encoded = engine.encode(bytes);
            forms.push(encoded.trim_end_matches('=').to_owned());
            forms.push(encoded);
            // `echo secret | base64` encodes a line end too.
            forms.push(engine.encode([bytes, b"\n"].concat()));
        }
    }
    forms.retain(|form| !form.is_empty());
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_the_secret_in_its_usual_forms() {
        let redactor = Redactor::new();
        redactor.add("pa\"ss wörd/1");
        for form in [
            "x pa\"ss wörd/1 y",
            "{\"p\":\"pa\\\"ss wörd/1\"}",
            "cGEic3Mgd8O2cmQvMQ==",
            "cGEic3Mgd8O2cmQvMQo=",
            "pa%22ss%20w%C3%B6rd%2F1",
        ] {
            let clean = redactor.redact(form);
            assert!(clean.contains(MASK), "{form} -> {clean}");
            assert!(!clean.contains("ss w"), "{form} -> {clean}");
        }
    }

    #[test]
    fn hides_every_line_of_a_key() {
        let redactor = Redactor::new();
        redactor.add("-----BEGIN KEY-----\nabcdef\n}\n");
        assert_eq!(redactor.redact("got abcdef }"), "got <sensitive> }");
    }

    #[test]
    fn the_longer_secret_wins() {
        let redactor = Redactor::new();
        redactor.add("secret");
        redactor.add("secret-long");
        assert_eq!(redactor.redact("a secret-long b"), "a <sensitive> b");
    }

    #[test]
    fn what_is_no_secret_blots_out_nothing() {
        let redactor = Redactor::new();
        for text in ["", "a", "bc", "true"] {
            redactor.add(text);
        }
        assert_eq!(redactor.redact("abc is true"), "abc is true");
    }

    #[test]
    fn a_secret_shows_itself_to_nobody() {
        assert_eq!(format!("{0} {0:?}", Secret::new("x")), "<sensitive> <sensitive>");
    }
}
