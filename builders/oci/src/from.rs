//! `from`: what a machine starts as.

use std::path::PathBuf;
use std::time::Duration;

use kiln_core::suggest;
use serde_json::Value;

/// How old a bootstrapped base may grow: the archive it came from goes on.
const DEFAULT_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a machine starts as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum From {
    /// An image by its reference: of a registry, or of kiln's store where `pull` says so.
    Reference(String),
    /// An image by its id, the digest of its config: of kiln's store, or else of the Docker engine. What other builds leave.
    Id(String),
    /// An image of kiln's store by its name.
    Local(String),
    /// An image in an OCI layout, a directory or a tar file.
    OciLayout { path: PathBuf, name: Option<String> },
    /// What `docker save` writes.
    DockerArchive { path: PathBuf, name: Option<String> },
    /// An image of the Docker engine.
    DockerDaemon(String),
    /// A root file system as a tar file, compressed or not.
    Tar(PathBuf),
    /// A root file system as a directory.
    Directory(PathBuf),
    /// Debian or a relative of it, from its archive.
    Mmdebstrap(Mmdebstrap),
    /// A static busybox and the links to it. `None`: the one of this host.
    Busybox(Option<PathBuf>),
    /// Nothing.
    Scratch,
}

/// Arguments of mmdebstrap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mmdebstrap {
    pub(crate) suite: String,
    pub(crate) variant: String,
    pub(crate) mirror: Option<String>,
    pub(crate) packages: Vec<String>,
    pub(crate) components: Vec<String>,
    pub(crate) architecture: Option<String>,
    pub(crate) keyring: Option<String>,
    pub(crate) max_age: Duration,
}

/// What is wrong, and where below `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FromError {
    /// `.mmdebstrap.suite`; empty for the whole.
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

/// The kinds, by their names in an object.
const KINDS: [&str; 9] =
    ["oci_layout", "docker_archive", "docker_daemon", "tar", "directory", "local", "mmdebstrap", "busybox", "registry"];

/// What to write instead of a reference with a transport in front, as other tools have them (containers-transports(5)).
fn transport(text: &str) -> Option<String> {
    if let Some(reference) = text.strip_prefix("docker://") {
        return Some(format!("write `from = \"{reference}\"`"));
    }
    let (transport, rest) = text.split_once(':')?;
    let (kind, path) = match transport {
        "docker-daemon" => return Some(format!("write `from = {{ docker_daemon = \"{rest}\" }}`")),
        "docker-archive" => ("docker_archive", rest),
        "oci" | "oci-archive" if rest.starts_with(['.', '/']) => ("oci_layout", rest),
        _ => return None,
    };
    Some(match path.split_once(':') {
        Some((path, name)) => format!("write `from = {{ {kind} = \"{path}\", name = \"{name}\" }}`"),
        None => format!("write `from = {{ {kind} = \"{path}\" }}`"),
    })
}

/// Arguments of `mmdebstrap`.
const MMDEBSTRAP: [&str; 8] =
    ["suite", "variant", "mirror", "packages", "components", "architecture", "keyring", "max_age"];

fn wrong(path: impl Into<String>, message: impl Into<String>) -> FromError {
    FromError { path: path.into(), message: message.into(), help: None }
}

impl From {
    /// Reads the value of `from`.
    pub(crate) fn parse(value: &Value) -> Result<From, FromError> {
        match value {
            Value::String(text) => From::reference(text, ""),
            Value::Object(entries) => {
                let kinds: Vec<&str> = KINDS.into_iter().filter(|kind| entries.contains_key(*kind)).collect();
                if let Some(unknown) = entries.keys().find(|name| !KINDS.contains(&name.as_str()) && *name != "name") {
                    return Err(unknown_name(unknown, &KINDS, ""));
                }
                let [kind] = kinds.as_slice() else {
                    let known = suggest::enumerate(KINDS);
                    return Err(wrong("", format!("`from` takes exactly one of {known}")));
                };
                let name = match entries.get("name") {
                    None | Some(Value::Null) => None,
                    Some(Value::String(name)) if matches!(*kind, "oci_layout" | "docker_archive") => Some(name.clone()),
                    Some(_) => {
                        return Err(wrong(
                            ".name",
                            "`name` is the name of an image in an `oci_layout` or a `docker_archive`",
                        ));
                    }
                };
                From::of_kind(kind, &entries[*kind], name)
            }
            _ => Err(wrong("", "`from` is an image's reference, or an object such as `{ tar = \"rootfs.tar\" }`")),
        }
    }

    fn reference(text: &str, path: &str) -> Result<From, FromError> {
        if text == "scratch" {
            return Ok(From::Scratch);
        }
        if kiln_image::Digest::parse(text).is_ok() {
            return Ok(From::Id(text.to_owned()));
        }
        if let Some(help) = transport(text) {
            let message = format!("`{text}` is not an image's reference");
            return Err(FromError { help: Some(help), ..wrong(path, message) });
        }
        match kiln_registry::Reference::parse(text) {
            Ok(_) => Ok(From::Reference(text.to_owned())),
            Err(error) => Err(wrong(path, error.to_string())),
        }
    }

    fn of_kind(kind: &str, value: &Value, name: Option<String>) -> Result<From, FromError> {
        let text = || match value {
            Value::String(text) if !text.is_empty() => Ok(text.clone()),
            _ => Err(wrong(format!(".{kind}"), format!("`{kind}` takes a text"))),
        };
        Ok(match kind {
            "registry" => From::reference(&text()?, ".registry")?,
            "local" => From::Local(text()?),
            "oci_layout" => From::OciLayout { path: text()?.into(), name },
            "docker_archive" => From::DockerArchive { path: text()?.into(), name },
            "docker_daemon" => From::DockerDaemon(text()?),
            "tar" => From::Tar(text()?.into()),
            "directory" => From::Directory(text()?.into()),
            "busybox" => match value {
                Value::Bool(true) | Value::Null => From::Busybox(None),
                Value::Object(entries) if entries.is_empty() => From::Busybox(None),
                _ => From::Busybox(Some(
                    text()
                        .map_err(|error| FromError {
                            help: Some("`busybox = true` takes the one of this host".to_owned()),
                            ..error
                        })?
                        .into(),
                )),
            },
            _ => From::Mmdebstrap(Mmdebstrap::parse(value)?),
        })
    }

    /// In a few words, for people.
    pub(crate) fn title(&self) -> String {
        match self {
            From::Reference(text) | From::Local(text) => text.clone(),
            From::Id(id) => format!("image {:.12}", id.trim_start_matches("sha256:")),
            From::OciLayout { path, .. }
            | From::DockerArchive { path, .. }
            | From::Tar(path)
            | From::Directory(path) => path.display().to_string(),
            From::DockerDaemon(image) => format!("{image} of the Docker engine"),
            From::Mmdebstrap(arguments) => format!("{} by mmdebstrap", arguments.suite),
            From::Busybox(_) => "busybox".to_owned(),
            From::Scratch => "scratch".to_owned(),
        }
    }
}

impl Mmdebstrap {
    fn parse(value: &Value) -> Result<Mmdebstrap, FromError> {
        let at = |name: &str| format!(".mmdebstrap.{name}");
        let entries = match value {
            Value::Object(entries) => entries.clone(),
            Value::String(suite) => serde_json::Map::from_iter([("suite".to_owned(), Value::String(suite.clone()))]),
            _ => return Err(wrong(".mmdebstrap", "`mmdebstrap` takes an object with `suite` and more")),
        };
        if let Some(name) = entries.keys().find(|name| !MMDEBSTRAP.contains(&name.as_str())) {
            return Err(unknown_name(name, &MMDEBSTRAP, ".mmdebstrap"));
        }
        let text = |name: &str| match entries.get(name) {
            None | Some(Value::Null) => Ok(None),
            // What begins with a dash would be taken for an option.
            Some(Value::String(text)) if !text.is_empty() && !text.starts_with('-') => Ok(Some(text.clone())),
            Some(_) => Err(wrong(at(name), format!("`{name}` takes a text that is not empty"))),
        };
        let texts = |name: &str| match entries.get(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::String(text)) => {
                Ok(text.split([',', ' ']).filter(|word| !word.is_empty()).map(str::to_owned).collect())
            }
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().filter(|item| !item.contains(',')).map(str::to_owned))
                .collect::<Option<Vec<String>>>()
                .ok_or_else(|| wrong(at(name), format!("`{name}` takes a list of texts"))),
            Some(_) => Err(wrong(at(name), format!("`{name}` takes a list of texts"))),
        };
        let max_age = match text("max_age")? {
            None => DEFAULT_AGE,
            Some(age) => kiln_core::duration::parse(&age)
                .map_err(|error| wrong(at("max_age"), format!("`{age}` is no duration: {error}")))?,
        };
        Ok(Mmdebstrap {
            suite: text("suite")?
                .ok_or_else(|| wrong(".mmdebstrap", "`mmdebstrap` needs a `suite`, such as `bookworm`"))?,
            variant: text("variant")?.unwrap_or_else(|| "minbase".to_owned()),
            mirror: text("mirror")?,
            packages: texts("packages")?,
            components: texts("components")?,
            architecture: text("architecture")?,
            keyring: text("keyring")?,
            max_age,
        })
    }
}

fn unknown_name(name: &str, known: &[&str], path: &str) -> FromError {
    let help = match suggest::nearest(name, known.iter().copied()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("known: {}", suggest::enumerate(known.iter().copied())),
    };
    let of = path.strip_prefix('.').unwrap_or("from");
    FromError { path: format!("{path}.{name}"), message: format!("`{of}` has no `{name}`"), help: Some(help) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_kinds() {
        let parse = |value: Value| From::parse(&value).unwrap();
        assert_eq!(parse(json!("debian:12")), From::Reference("debian:12".into()));
        assert_eq!(parse(json!("scratch")), From::Scratch);
        assert_eq!(parse(json!({"busybox": true})), From::Busybox(None));
        assert_eq!(parse(json!({"busybox": "/opt/busybox"})), From::Busybox(Some("/opt/busybox".into())));
        let layout = From::OciLayout { path: "l".into(), name: Some("a:1".into()) };
        assert_eq!(parse(json!({"oci_layout": "l", "name": "a:1"})), layout);
        let From::Mmdebstrap(seen) = parse(json!({"mmdebstrap": {"suite": "sid", "packages": ["a", "b"]}})) else {
            panic!("another kind")
        };
        assert_eq!((seen.variant.as_str(), seen.packages.len(), seen.max_age), ("minbase", 2, DEFAULT_AGE));
    }

    #[test]
    fn mistakes_have_a_place_and_a_way_out() {
        let fails = |value: Value| From::parse(&value).unwrap_err();
        assert!(fails(json!("Debian")).message.contains("capital letters"));
        assert!(fails(json!({})).message.contains("exactly one of"));
        assert!(fails(json!({"tar": "a", "directory": "b"})).message.contains("exactly one of"));
        let seen = fails(json!({"mmdebstrap": {"suit": "sid"}}));
        assert_eq!((seen.path.as_str(), seen.help.as_deref()), (".mmdebstrap.suit", Some("did you mean `suite`?")));
        assert_eq!(fails(json!({"mmdebstrap": {"suite": "--hook"}})).path, ".mmdebstrap.suite");
        assert_eq!(fails(json!({"tar": "a", "name": "x"})).path, ".name");
        assert!(fails(json!({"directoy": "a"})).help.unwrap().contains("directory"));
        for (transport, instead) in [
            ("docker://debian:12", "\"debian:12\""),
            ("docker-daemon:debian:12", "{ docker_daemon = \"debian:12\" }"),
            ("docker-archive:a/b.tar:x:1", "{ docker_archive = \"a/b.tar\", name = \"x:1\" }"),
            ("oci:./images", "{ oci_layout = \"./images\" }"),
        ] {
            assert_eq!(fails(json!(transport)).help, Some(format!("write `from = {instead}`")), "{transport}");
        }
        // Images may have such names.
        assert_eq!(From::parse(&json!("oci:1")).unwrap(), From::Reference("oci:1".into()));
    }
}
