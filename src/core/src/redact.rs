//! Secrets: a type that does not show them, and the one filter that all output passes.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard};

use aho_corasick::AhoCorasick;
use base64::Engine;
use base64::engine::general_purpose;

/// What stands in a secret's place; Packer's word.
pub const MASK: &str = "<sensitive>";

/// Shorter texts are not masked.
const SHORTEST: usize = 3;

/// Line lengths of `base64` and of `openssl base64`.
const BASE64_COLUMNS: [usize; 2] = [76, 64];

/// Shorter pieces of base64 may stand anywhere by chance.
const LEAST_BASE64: usize = 8;

/// Of larger secrets (whole files) only pieces are known: lines, and lines of base64. All forms of a megabyte would take a
/// gigabyte.
const LARGE: usize = 64 * 1024;

/// Shorter secrets are not looked for in images, where such a text may stand by chance.
pub const LEAST_SCANNED: usize = 8;

/// As much of a longer secret is looked for.
const SCANNED: usize = 512;

/// Longer lines of a large secret are known by pieces of this many bytes.
const PIECE: usize = 4096;

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

/// Replaces known secrets, also in the forms they usually take: base64 (both alphabets, with and without padding, wrapped,
/// and in the middle of something longer, as in `user:password`), hexadecimal, URL-encoded, JSON-escaped, shell-quoted,
/// and line by line where they have several lines.
#[derive(Default)]
pub struct Redactor {
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    needles: BTreeSet<String>,
    /// Bytes of the longest needle.
    longest: usize,
    /// What is looked for in images: the secrets themselves and their encodings, none of their parts.
    scanned: BTreeSet<String>,
    /// Made of all needles when it is first needed; `None` where there is none.
    matcher: OnceLock<Option<AhoCorasick>>,
}

impl Known {
    fn matcher(&self) -> Option<&AhoCorasick> {
        let make = || {
            let needles = self.needles.iter();
            // It fails only for gigabytes of needles.
            (!self.needles.is_empty()).then(|| AhoCorasick::new(needles).ok()).flatten()
        };
        self.matcher.get_or_init(make).as_ref()
    }

    /// Where secrets stand in a text, in order; those that overlap count as one.
    fn places(&self, text: &[u8]) -> Vec<Range<usize>> {
        let Some(matcher) = self.matcher().filter(|matcher| matcher.is_match(text)) else { return Vec::new() };
        let mut found: Vec<Range<usize>> = matcher.find_overlapping_iter(text).map(|found| found.range()).collect();
        found.sort_by_key(|place| place.start);
        let mut places: Vec<Range<usize>> = Vec::new();
        for place in found {
            match places.last_mut() {
                Some(last) if place.start < last.end => last.end = last.end.max(place.end),
                _ => places.push(place),
            }
        }
        places
    }
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
        self.known.write().unwrap_or_else(PoisonError::into_inner).scanned.extend(scanned_forms(secret));
        let mut forms = BTreeSet::new();
        if secret.len() > LARGE {
            forms.extend(large_forms(secret));
            return self.know(forms);
        }
        for form in std::iter::once(secret).chain(secret.lines().map(str::trim)) {
            // A single letter, or a brace between the lines of a key, would blot out everything.
            let is_part = form.len() != secret.len();
            if form.is_empty() || (is_part && form.len() < 4) {
                continue;
            }
            forms.insert(form.to_owned());
            forms.extend(encoded_forms(form));
        }
        self.know(forms);
    }

    fn know(&self, forms: BTreeSet<String>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let before = known.needles.len();
        known.needles.extend(forms);
        if known.needles.len() > before {
            known.longest = known.needles.iter().map(String::len).max().unwrap_or(0);
            known.matcher = OnceLock::new();
        }
    }

    /// The text with every known secret replaced by [`MASK`].
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let places = self.known().places(text.as_bytes());
        if places.is_empty() {
            return Cow::Borrowed(text);
        }
        let (mut clean, mut end) = (String::with_capacity(text.len()), 0);
        for place in places {
            clean.push_str(text.get(end..place.start).unwrap_or_default());
            clean.push_str(MASK);
            end = place.end;
        }
        clean.push_str(text.get(end..).unwrap_or_default());
        Cow::Owned(clean)
    }

    /// What to look for in what leaves this host: every secret of at least [`LEAST_SCANNED`] bytes, as it is, in base64 and
    /// URL-encoded. Lines of a longer secret are not among them: the first one of a key is in many files.
    pub fn needles(&self) -> Vec<Vec<u8>> {
        self.known().scanned.iter().map(|form| form.clone().into_bytes()).collect()
    }

    /// Bytes of the longest text that is masked.
    pub fn longest(&self) -> usize {
        self.known().longest
    }

    /// The last place up to `at` where a text can be cut without cutting a secret in two. A secret counts only if the whole
    /// of it is there, so `at` must be at least [`Redactor::longest`] bytes before the end.
    pub fn cut(&self, text: &[u8], at: usize) -> usize {
        let places = self.known().places(text);
        places.into_iter().find(|place| place.start < at && at < place.end).map_or(at, |place| place.start)
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
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

/// The forms of a secret that are looked for in images.
fn scanned_forms(secret: &str) -> Vec<String> {
    let secret = secret.trim();
    if secret.len() < LEAST_SCANNED {
        return Vec::new();
    }
    let start = &secret[..secret.floor_char_boundary(SCANNED)];
    let mut forms = vec![start.to_owned()];
    forms.extend(["", "-._~", "-._~/"].map(|unreserved| percent_encode(start, unreserved)));
    for engine in [&general_purpose::STANDARD, &general_purpose::URL_SAFE] {
        // What stands at a border depends on what comes next, so that only the inner characters are sure.
        for offset in 0..3 {
            let shifted = engine.encode([&[0; 2][..offset], start.as_bytes()].concat());
            let (first, end) = ((offset * 8).div_ceil(6), (offset + start.len()) * 8 / 6);
            forms.extend(shifted.get(first..end).map(str::to_owned));
        }
        // Wrapped: a line that is not the first one, which many keys share.
        let encoded = engine.encode(start);
        for columns in BASE64_COLUMNS.into_iter().filter(|columns| encoded.len() > 2 * columns) {
            forms.extend(encoded.get(columns..2 * columns).map(str::to_owned));
        }
    }
    forms.retain(|form| form.len() >= LEAST_SCANNED);
    forms
}

/// The pieces by which a large secret is known.
fn large_forms(secret: &str) -> Vec<String> {
    let mut forms = Vec::new();
    for mut line in secret.lines().map(str::trim) {
        while !line.is_empty() {
            let (piece, rest) = line.split_at(line.floor_char_boundary(PIECE));
            if piece.len() >= LEAST_BASE64 {
                forms.push(piece.to_owned());
            }
            line = rest;
        }
    }
    let encoded = general_purpose::STANDARD.encode(secret);
    let pieces = encoded.as_bytes().chunks(BASE64_COLUMNS[0]).filter(|piece| piece.len() >= LEAST_BASE64);
    forms.extend(pieces.map(|piece| String::from_utf8_lossy(piece).into_owned()));
    forms
}

fn encoded_forms(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let json = serde_json::Value::String(text.to_owned()).to_string();
    let inner = json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or(&json);
    let percent = |unreserved: &str| percent_encode(text, unreserved);
    let mut forms = vec![
        inner.to_owned(),
        // Go's encoder escapes these three, so a `jsonencode`d secret looks like this.
        inner.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"),
        // Python's encoder leaves no letter outside ASCII, PHP's escapes slashes.
        ascii_json(inner),
        inner.replace('/', "\\/"),
        // Everything; RFC 3986; Python's `quote`; JavaScript's `encodeURIComponent`; forms, where a space is a plus.
        percent(""),
        percent("-._~"),
        percent("-._~/"),
        percent("-._~!'()*"),
        percent("-._~").replace("%20", "+"),
        text.replace('\'', "'\\''"),
        text.replace('\'', "'\"'\"'"),
    ];
    // Short texts encode to something that may stand anywhere by chance.
    if bytes.len() >= 4 {
        let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        forms.push(hexadecimal.to_uppercase());
        forms.push(hexadecimal);
        for engine in [&general_purpose::STANDARD, &general_purpose::URL_SAFE] {
            base64_forms(engine, bytes, &mut forms);
        }
    }
    forms.retain(|form| !form.is_empty());
    forms
}

/// All bytes but letters, digits and `unreserved` as `%XX`.
fn percent_encode(text: &str, unreserved: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || unreserved.as_bytes().contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn base64_forms(engine: &general_purpose::GeneralPurpose, bytes: &[u8], forms: &mut Vec<String>) {
    let encoded = engine.encode(bytes);
    // `echo secret | base64` encodes a line end too.
    let with_line_end = engine.encode([bytes, b"\n"].concat());
    for encoded in [&encoded, &with_line_end] {
        for columns in BASE64_COLUMNS.into_iter().filter(|columns| encoded.len() > *columns) {
            let pieces = encoded.as_bytes().chunks(columns).filter(|piece| piece.len() >= LEAST_BASE64);
            forms.extend(pieces.map(|piece| String::from_utf8_lossy(piece).into_owned()));
        }
    }
    forms.push(encoded.trim_end_matches('=').to_owned());
    forms.push(encoded);
    forms.push(with_line_end);
    // Inside of something longer: the characters that the secret alone decides, for its three ways to lie.
    for offset in 0..3 {
        let shifted = engine.encode([&[0; 2][..offset], bytes].concat());
        let (first, end) = ((offset * 8).div_ceil(6), (offset + bytes.len()) * 8 / 6);
        forms.extend(shifted.get(first..end).filter(|inner| inner.len() >= LEAST_BASE64).map(str::to_owned));
    }
}

fn ascii_json(text: &str) -> String {
    let mut ascii = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() {
            ascii.push(character);
        } else {
            let mut units = [0; 2];
            character.encode_utf16(&mut units).iter().for_each(|unit| ascii.push_str(&format!("\\u{unit:04x}")));
        }
    }
    ascii
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
    fn hides_what_encoders_make_of_it() {
        let redactor = Redactor::new();
        redactor.add("s3cr3t/T0ken ä");
        for (form, clean) in [
            ("733363723374", "733363723374"),
            ("7333637233742f54306b656e20c3a4", MASK),
            ("s3cr3t%2FT0ken+%C3%A4", MASK),
            ("s3cr3t/T0ken%20%C3%A4", MASK),
            ("s3cr3t/T0ken \\u00e4", MASK),
            ("s3cr3t\\/T0ken ä", MASK),
        ] {
            assert_eq!(redactor.redact(form), clean, "{form}");
        }
    }

    #[test]
    fn hides_it_in_base64_of_something_longer() {
        let redactor = Redactor::new();
        redactor.add("s3cr3t-T0ken");
        for user in ["", "u", "us", "use", "user"] {
            let header = general_purpose::STANDARD.encode(format!("{user}:s3cr3t-T0ken:x"));
            let clean = redactor.redact(&header).into_owned();
            let left = clean.replace(MASK, "").len();
            assert!(clean.contains(MASK) && left <= header.len() - 14, "{header} -> {clean}");
        }
    }

    #[test]
    fn hides_base64_that_is_wrapped() {
        let redactor = Redactor::new();
        let secret = "0123456789abcdef".repeat(8);
        redactor.add(&secret);
        let encoded = general_purpose::STANDARD.encode(format!("{secret}\n"));
        for columns in BASE64_COLUMNS {
            for line in encoded.as_bytes().chunks(columns) {
                assert_eq!(redactor.redact(std::str::from_utf8(line).unwrap()), MASK);
            }
        }
    }

    #[test]
    fn nothing_is_left_of_secrets_that_overlap() {
        let redactor = Redactor::new();
        redactor.add("abcdef");
        redactor.add("defghi");
        assert_eq!(redactor.redact("x abcdefghi y"), "x <sensitive> y");
    }

    #[test]
    fn a_cut_goes_before_a_secret() {
        let redactor = Redactor::new();
        redactor.add("secret");
        let text = b"0123secret89";
        assert_eq!([3, 4, 5, 9, 10].map(|at| redactor.cut(text, at)), [3, 4, 4, 4, 10]);
        assert!(redactor.longest() >= "secret".len());
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
    fn what_is_looked_for_in_images_is_the_secret_and_no_part_of_it() {
        let redactor = Redactor::new();
        redactor.add("seven77");
        assert!(redactor.needles().is_empty());
        redactor.add("-----BEGIN KEY-----\nabcdefghij\n-----END KEY-----\n");
        let needles = redactor.needles();
        let finds = |text: &str| needles.iter().any(|needle| is_in(text.as_bytes(), needle));
        assert!(finds("x-----BEGIN KEY-----\nabcdefghij\n-----END KEY-----y"));
        assert!(!finds("-----BEGIN KEY-----\nanother\n-----END KEY-----\n"));
        redactor.add("s3cr3t/T0ken");
        let needles = redactor.needles();
        let finds = |text: &str| needles.iter().any(|needle| is_in(text.as_bytes(), needle));
        for user in ["", "u", "us", "use"] {
            let encoded = general_purpose::STANDARD.encode(format!("{user}:s3cr3t/T0ken:"));
            assert!(finds(&encoded), "{encoded}");
        }
        assert!(finds("https://x/s3cr3t%2FT0ken"));
    }

    fn is_in(text: &[u8], needle: &[u8]) -> bool {
        text.windows(needle.len()).any(|window| window == needle)
    }

    #[test]
    fn a_large_secret_is_known_by_its_pieces() {
        let redactor = Redactor::new();
        let lines: Vec<String> = (0..5000).map(|number| format!("key {number} of many")).collect();
        let long = "ä".repeat(10_000);
        let secret = format!("{}\n{long}\n", lines.join("\n"));
        redactor.add(&secret);
        assert_eq!(redactor.redact("got key 4321 of many!"), "got <sensitive>!");
        assert!(redactor.redact(&long).len() < 100, "its pieces");
        let encoded = general_purpose::STANDARD.encode(&secret);
        assert_eq!(redactor.redact(&encoded[76 * 3..76 * 4]), MASK);
        assert!(redactor.longest() <= PIECE, "output is not held back by more");
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
