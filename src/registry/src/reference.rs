//! Image references: `registry.example.org:5000/group/image:tag@sha256:...`.
//!
//! The grammar is that of docker's `distribution/reference`: what `docker pull` takes is taken here, and nothing else.

use std::fmt;

/// Docker Hub, under the name that references use.
pub const DOCKER_HUB: &str = "docker.io";

/// The longest repository that registries take, without the host, in bytes.
const LONGEST_REPOSITORY: usize = 255;

/// The longest tag, in bytes.
const LONGEST_TAG: usize = 128;

/// A parsed reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Host with port; `docker.io` where none is written.
    pub registry: String,
    /// Path; with `library/` in front where docker.io's short form is written.
    pub repository: String,
    /// Tag, where written.
    pub tag: Option<String>,
    /// `sha256:...`, where written.
    pub digest: Option<String>,
}

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing there.
    #[error("an image reference is empty")]
    Empty,
    /// Something like `https://`.
    #[error("`{0}` is an address; an image reference has no `https://` in front")]
    Scheme(String),
    /// The host or its port.
    #[error("`{registry}` in `{reference}` is not a registry's host, such as `registry.example.org:5000`")]
    Registry {
        /// The whole text.
        reference: String,
        /// The part that is wrong.
        registry: String,
    },
    /// Capital letters: the commonest mistake has its own words.
    #[error("`{0}` has capital letters; a repository's name is lower case")]
    Uppercase(String),
    /// The path.
    #[error(
        "`{component}` in `{reference}` is not a repository's name: lower case letters and digits, parted by `.`, `_`, `__` or `-`"
    )]
    Component {
        /// The whole text.
        reference: String,
        /// The part that is wrong.
        component: String,
    },
    /// Too long.
    #[error("the repository in `{0}` is longer than {LONGEST_REPOSITORY} characters")]
    TooLong(String),
    /// An image id, where a name is wanted.
    #[error("`{0}` is an image's id, not its name")]
    Id(String),
    /// The tag.
    #[error(
        "`{0}` is not a tag: letters, digits, `_`, `.` and `-`, at most {LONGEST_TAG}, and neither `.` nor `-` first"
    )]
    Tag(String),
    /// The digest.
    #[error("`{0}` is not a digest such as `sha256:` and 64 hexadecimal digits")]
    Digest(String),
    /// A tag or digest where only a repository may stand.
    #[error("`{0}` names a tag or digest; only the repository may stand here")]
    NotBare(String),
}

impl Reference {
    /// Reads a reference. Tag and digest stay `None` where not written; see [`Reference::tag_or_latest`].
    pub fn parse(text: &str) -> Result<Reference, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.contains("://") {
            return Err(ReferenceError::Scheme(text.to_owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(check_digest(digest)?)),
            None => (text, None),
        };
        // A colon before the last slash belongs to a port.
        let path_start = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[path_start..].split_once(':') {
            Some((last, tag)) => (&rest[..path_start + last.len()], Some(check_tag(tag)?)),
            None => (rest, None),
        };
        let (registry, repository) = split_name(text, name)?;
        Ok(Reference { registry, repository, tag, digest })
    }

    /// Reads a repository: a reference without tag and digest.
    pub fn parse_repository(text: &str) -> Result<Reference, ReferenceError> {
        let reference = Reference::parse(text)?;
        if reference.tag.is_some() || reference.digest.is_some() {
            return Err(ReferenceError::NotBare(text.to_owned()));
        }
        Ok(reference)
    }

    /// The same repository under another tag; checks the tag.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, ReferenceError> {
        Ok(Reference { tag: Some(check_tag(tag)?), digest: None, ..self.clone() })
    }

    /// The tag; `latest` where none is written.
    pub fn tag_or_latest(&self) -> &str {
        self.tag.as_deref().unwrap_or("latest")
    }

    /// Registry and repository in full: `docker.io/library/debian`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Registry, repository and tag in full: `docker.io/library/debian:latest`. Two spellings of one name give one text.
    pub fn in_full(&self) -> String {
        format!("{}:{}", self.name(), self.tag_or_latest())
    }

    /// The same with the registry as [`normalize_registry`] has it: what a push to it moves. Engines keep `reg:443/app` and
    /// `reg/app` apart, the registry does not.
    pub fn pushed_name(&self) -> String {
        format!("{}/{}:{}", normalize_registry(&self.registry), self.repository, self.tag_or_latest())
    }

    /// Registry and repository as people and docker write them: `debian`, `group/image`, `registry.example.org/image`.
    pub fn familiar_name(&self) -> String {
        if self.registry != DOCKER_HUB {
            return self.name();
        }
        match self.repository.strip_prefix("library/") {
            // `library/a/b` is no official image, so its prefix must stay.
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => self.repository.clone(),
        }
    }
}

/// The familiar form, which parses back to the same reference.
impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.familiar_name())?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(formatter, "@{digest}")?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        Reference::parse(text)
    }
}

/// A registry's host as [`Reference::registry`] has it, whatever form it was written in: without scheme, path and the
/// port of https, and with Docker Hub's several hosts as `docker.io`. `https://index.docker.io/v1/` gives `docker.io`.
pub fn normalize_registry(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let host = rest.split('/').next().unwrap_or(rest).to_ascii_lowercase();
    let host = match host.strip_suffix(":443") {
        Some(bare) if scheme != "http" => bare.to_owned(),
        _ => host,
    };
    match host.as_str() {
        "" | "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => DOCKER_HUB.to_owned(),
        _ => host,
    }
}

/// Splits a name into host and path by docker's rule: the first part is a host if it has a dot or colon, is `localhost`,
/// or has capital letters (which no path may have).
fn split_name(reference: &str, name: &str) -> Result<(String, String), ReferenceError> {
    if name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        return Err(ReferenceError::Id(name.to_owned()));
    }
    let (registry, path) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => ("", name),
    };
    if !registry.is_empty() && !is_host(registry) {
        return Err(ReferenceError::Registry { reference: reference.to_owned(), registry: registry.to_owned() });
    }
    let registry = match registry {
        "" | "index.docker.io" => DOCKER_HUB,
        other => other,
    };
    if let Some(component) = path.split('/').find(|component| !is_component(component)) {
        if component.bytes().any(|byte| byte.is_ascii_uppercase()) && is_component(&component.to_ascii_lowercase()) {
            return Err(ReferenceError::Uppercase(reference.to_owned()));
        }
        return Err(ReferenceError::Component { reference: reference.to_owned(), component: component.to_owned() });
    }
    if path.len() > LONGEST_REPOSITORY {
        return Err(ReferenceError::TooLong(reference.to_owned()));
    }
    let repository =
        if registry == DOCKER_HUB && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
    Ok((registry.to_owned(), repository))
}

/// A host name or address with an optional port; IPv6 stands in brackets.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match rest.strip_prefix(':') {
                Some(port) => ("v6", Some(port)),
                None if rest.is_empty() => ("v6", None),
                None => return false,
            }
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(is_label)
        && port.is_none_or(|port| {
            !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
        })
}

/// One part of a path: alphanumerics, parted by one `.`, one or two `_`, or any number of `-`.
fn is_component(text: &str) -> bool {
    let mut separator = String::new();
    let mut is_after_word = false;
    for character in text.chars() {
        match character {
            'a'..='z' | '0'..='9' => {
                if !separator.is_empty() && !is_separator(&separator) {
                    return false;
                }
                separator.clear();
                is_after_word = true;
            }
            '.' | '_' | '-' if is_after_word => separator.push(character),
            _ => return false,
        }
    }
    is_after_word && separator.is_empty()
}

fn is_separator(text: &str) -> bool {
    matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-')
}

fn check_tag(text: &str) -> Result<String, ReferenceError> {
    let is_tag = !text.is_empty()
        && text.len() <= LONGEST_TAG
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if is_tag { Ok(text.to_owned()) } else { Err(ReferenceError::Tag(text.to_owned())) }
}

fn check_digest(text: &str) -> Result<String, ReferenceError> {
    let is_digest = text.split_once(':').is_some_and(|(algorithm, hex)| {
        let length = match algorithm {
            "sha256" => 64,
            "sha384" => 96,
            "sha512" => 128,
            _ => return false,
        };
        hex.len() == length && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    });
    if is_digest { Ok(text.to_owned()) } else { Err(ReferenceError::Digest(text.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

    fn parts(text: &str) -> (String, String, Option<String>) {
        let reference = Reference::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        (reference.registry, reference.repository, reference.tag)
    }

    #[test]
    fn splits_as_docker_does() {
        let cases = [
            ("debian", "docker.io", "library/debian", None),
            ("debian:12", "docker.io", "library/debian", Some("12")),
            ("group/image:a", "docker.io", "group/image", Some("a")),
            ("docker.io/debian", "docker.io", "library/debian", None),
            ("index.docker.io/debian", "docker.io", "library/debian", None),
            ("docker.io/library/debian", "docker.io", "library/debian", None),
            ("localhost/image", "localhost", "image", None),
            ("localhost:5000/image:1", "localhost:5000", "image", Some("1")),
            ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000", "a/b/c", None),
            ("[::1]:5000/image", "[::1]:5000", "image", None),
            (
                "registry.gitlab.com/group/project/image:v1.2",
                "registry.gitlab.com",
                "group/project/image",
                Some("v1.2"),
            ),
            ("registry:5000/image", "registry:5000", "image", None),
            ("a/b__c/d.e-f---g", "docker.io", "a/b__c/d.e-f---g", None),
        ];
        for (text, registry, repository, tag) in cases {
            assert_eq!(parts(text), (registry.into(), repository.into(), tag.map(Into::into)), "{text}");
        }
    }

    #[test]
    fn a_digest_may_follow_a_tag() {
        let text = format!("registry.example.org/image:1@{DIGEST}");
        let reference = Reference::parse(&text).unwrap();
        assert_eq!(reference.tag.as_deref(), Some("1"));
        assert_eq!(reference.digest.as_deref(), Some(DIGEST));
        assert_eq!(reference.to_string(), text);
    }

    #[test]
    fn displays_the_familiar_form_which_parses_back() {
        for (text, familiar) in [
            ("docker.io/library/debian:12", "debian:12"),
            ("docker.io/group/image", "group/image"),
            ("docker.io/library/a/b", "library/a/b"),
            ("localhost:5000/library/debian", "localhost:5000/library/debian"),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.to_string(), familiar);
            assert_eq!(Reference::parse(familiar).unwrap(), reference);
        }
    }

    #[test]
    fn refuses_with_the_part_that_is_wrong() {
        for (text, part) in [
            ("", "empty"),
            ("https://registry.example.org/image", "https://"),
            ("group/Image", "capital letters"),
            ("group//image", "repository's name"),
            ("group/image-", "image-"),
            ("group/a___b", "a___b"),
            ("group/a..b", "a..b"),
            ("image:", "is not a tag"),
            ("image:-a", "is not a tag"),
            ("image:a b", "is not a tag"),
            ("image@sha256:12", "is not a digest"),
            ("registry.example.org:port/image", "registry's host"),
            ("registry.example.org:99999/image", "registry's host"),
            ("registry..org/image", "registry's host"),
            ("image/", "repository's name"),
            ("image name", "image name"),
        ] {
            let error = Reference::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(Reference::parse(&"a".repeat(256)).is_err());
        assert!(Reference::parse(&format!("a:{}", "t".repeat(129))).is_err());
        assert!(matches!(Reference::parse(&DIGEST[7..]), Err(ReferenceError::Id(_))));
    }

    #[test]
    fn capital_letters_make_the_first_part_a_host() {
        assert_eq!(parts("Group/image"), ("Group".into(), "image".into(), None));
    }

    #[test]
    fn a_bare_repository_takes_no_tag_and_gets_one() {
        assert!(matches!(Reference::parse_repository("a:1"), Err(ReferenceError::NotBare(_))));
        let repository = Reference::parse_repository("localhost:5000/a").unwrap();
        assert_eq!(repository.tag_or_latest(), "latest");
        assert_eq!(repository.with_tag("v1").unwrap().to_string(), "localhost:5000/a:v1");
        assert!(repository.with_tag("v 1").is_err());
    }

    #[test]
    fn what_a_push_moves_has_one_name() {
        for (text, name) in [
            ("reg.example.org:443/g/app:1", "reg.example.org/g/app:1"),
            ("REG.example.org/g/app", "reg.example.org/g/app:latest"),
            ("registry-1.docker.io/me/app:1", "docker.io/me/app:1"),
            ("app:1", "docker.io/library/app:1"),
            (
                "reg.example.org:5000/app:1@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                "reg.example.org:5000/app:1",
            ),
        ] {
            assert_eq!(Reference::parse(text).unwrap().pushed_name(), name, "{text}");
        }
        assert_eq!(
            Reference::parse("reg.example.org:443/g/app").unwrap().in_full(),
            "reg.example.org:443/g/app:latest"
        );
    }

    #[test]
    fn a_registry_has_one_normal_form() {
        for (text, normal) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("", "docker.io"),
            ("https://registry.gitlab.com", "registry.gitlab.com"),
            ("registry.gitlab.com:443", "registry.gitlab.com"),
            ("http://registry.example.org:443", "registry.example.org:443"),
            ("Registry.Example.org:5000/group", "registry.example.org:5000"),
        ] {
            assert_eq!(normalize_registry(text), normal, "{text}");
        }
    }
}
