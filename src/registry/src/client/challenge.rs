//! What a registry asks for before it answers: `WWW-Authenticate`.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use url::Url;

/// How to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// Not at all.
    Open,
    /// User and password with each request.
    Basic,
    /// A token from a realm with each request. The scope of the challenge is not looked at: some registries ask for less than
    /// they want.
    Bearer {
        /// Who gives tokens.
        realm: Url,
        /// As whom the realm knows the registry.
        service: Option<String>,
    },
}

impl Challenge {
    /// What the headers ask for; a token where there is a choice.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Challenge> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<Challenge> = values.flat_map(parse).collect();
        let bearer = challenges.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        bearer.or(challenges.first()).cloned()
    }
}

/// One header may hold several challenges. Source: RFC 9110, 11.6.1.
fn parse(text: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = text.trim_start_matches([' ', ',']);
    while !rest.is_empty() {
        let end = rest.find([' ', '=', ',']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        match after.trim_start().strip_prefix('=') {
            Some(value) => {
                let (value, after) = parameter(value.trim_start());
                if let Some((_, parameters)) = found.last_mut() {
                    parameters.push((word.to_ascii_lowercase(), value));
                }
                rest = after;
            }
            None => {
                found.push((word.to_ascii_lowercase(), Vec::new()));
                rest = after;
            }
        }
        rest = rest.trim_start_matches([' ', ',']);
    }
    found.into_iter().filter_map(|(scheme, parameters)| challenge(&scheme, &parameters)).collect()
}

/// A value, quoted or not, and what follows it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[index + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    (value, "")
}

fn challenge(scheme: &str, parameters: &[(String, String)]) -> Option<Challenge> {
    let get = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => {
            let realm = Url::parse(&get("realm")?).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
            Some(Challenge::Bearer { realm, service: get("service").filter(|service| !service.is_empty()) })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        Challenge::of(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: Url::parse(realm).unwrap(), service: service.map(Into::into) })
    }

    #[test]
    fn reads_what_registries_send() {
        let gitlab = r#"Bearer realm="https://gitlab.com/jwt/auth",service="container_registry",scope="repository:a/b:pull,push",error="invalid_token""#;
        assert_eq!(of(&[gitlab]), bearer("https://gitlab.com/jwt/auth", Some("container_registry")));
        assert_eq!(of(&[r#"Basic realm="Registry Realm""#]), Some(Challenge::Basic));
        let zuul = r#"bearer realm="http://127.0.0.1:1/auth/token",scope="read""#;
        assert_eq!(of(&[zuul]), bearer("http://127.0.0.1:1/auth/token", None));
        let spaced = r#"Bearer realm = "https://r/t", service=plain"#;
        assert_eq!(of(&[spaced]), bearer("https://r/t", Some("plain")));
    }

    #[test]
    fn a_token_goes_before_a_password() {
        let both = r#"Basic realm="a, \"b\" Bearer", Bearer realm="https://r/t""#;
        assert_eq!(of(&[both]), bearer("https://r/t", None));
        assert_eq!(of(&["Basic", r#"Bearer realm="https://r/t""#]), bearer("https://r/t", None));
    }

    #[test]
    fn what_makes_no_sense_is_nothing() {
        for wrong in
            ["", "Negotiate", "Bearer", r#"Bearer realm="file:///etc/passwd""#, r#"Bearer realm=""#, "=,=\"", "a=b"]
        {
            assert_eq!(of(&[wrong]), None, "{wrong}");
        }
    }
}
