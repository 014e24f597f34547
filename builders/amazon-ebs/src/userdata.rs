//! The user data of the instance: the user's own, with a host key and a dead man's switch beside it where that is possible.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kiln_core::Failure;
use kiln_ssh::KeyPair;

use crate::config::Config;

/// EC2's bound, before base64.
const LONGEST: usize = 16 * 1024;

/// What cloud-init knows parts by.
const KINDS: [(&str, &str); 7] = [
    ("#!", "text/x-shellscript"),
    ("#cloud-config-archive", "text/cloud-config-archive"),
    ("#cloud-config", "text/cloud-config"),
    ("#cloud-boothook", "text/cloud-boothook"),
    ("#include", "text/x-include-url"),
    ("#part-handler", "text/part-handler"),
    ("## template: jinja", "text/jinja2"),
];

/// What goes to the instance.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct UserData {
    /// In base64, as EC2 wants it.
    pub(crate) encoded: Option<String>,
    /// Whether the host key is in it.
    pub(crate) has_host_key: bool,
    /// What could not be added, and why.
    pub(crate) left_out: Option<String>,
}

/// The user's own, decoded where it came in base64.
pub(crate) fn own(config: &Config) -> Result<Option<Vec<u8>>, Failure> {
    let bytes = match (&config.user_data, &config.user_data_file) {
        (Some(text), _) if !text.is_empty() => text.clone().into_bytes(),
        (_, Some(path)) if !path.as_os_str().is_empty() => {
            std::fs::read(path).map_err(|error| Failure::build(format!("cannot read {}: {error}", path.display())))?
        }
        _ => return Ok(None),
    };
    // Packer leaves base64 as it is; nothing that an instance understands looks like it.
    let squeezed: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    Ok(Some(STANDARD.decode(&squeezed).ok().filter(|decoded| !decoded.is_empty()).unwrap_or(bytes)))
}

/// Puts it together. `ends_at` is when the instance is to shut down, in seconds since the epoch.
pub(crate) fn compose(own: Option<&[u8]>, host_key: Option<&KeyPair>, ends_at: Option<u64>) -> UserData {
    let mut parts: Vec<(String, String)> = Vec::new();
    let mut has_host_key = false;
    let text = own.map(std::str::from_utf8);
    let (is_foreign, sets_keys) = match text {
        None => (false, false),
        Some(Ok(text)) => (kind(text).is_none(), text.contains("ssh_keys") || text.contains("ssh_deletekeys")),
        Some(Err(_)) => (true, false),
    };
    if let Some(pair) = host_key.filter(|_| !is_foreign && !sets_keys) {
        parts.push(("text/cloud-config".to_owned(), host_key_config(pair)));
        has_host_key = true;
    }
    if let Some(at) = ends_at.filter(|_| !is_foreign) {
        parts.push(("text/cloud-boothook".to_owned(), switch(at)));
    }
    let left_out = (is_foreign && (host_key.is_some() || ends_at.is_some()))
        .then(|| "the user data is of a kind that nothing can be added to".to_owned());
    if parts.is_empty() {
        return UserData { encoded: own.map(|own| STANDARD.encode(own)), has_host_key: false, left_out };
    }
    if let Some(Ok(text)) = text {
        parts.push((kind(text).unwrap_or("text/plain").to_owned(), text.to_owned()));
    }
    let whole = if parts.len() == 1 { parts.remove(0).1 } else { multipart(&parts) };
    if whole.len() > LONGEST && own.is_some() {
        let left_out = Some("the user data has no room for more: EC2 takes 16 KiB".to_owned());
        return UserData { encoded: own.map(|own| STANDARD.encode(own)), has_host_key: false, left_out };
    }
    UserData { encoded: Some(STANDARD.encode(whole)), has_host_key, left_out }
}

/// What cloud-init takes a text for; `None` for what it does not know.
fn kind(text: &str) -> Option<&'static str> {
    // A message in parts goes in as one.
    if text.trim_start().to_ascii_lowercase().starts_with("content-type: multipart/")
        || text.starts_with("MIME-Version:")
    {
        return Some("multipart/mixed");
    }
    let known = KINDS.iter().find(|(mark, _)| text.starts_with(mark)).map(|(_, kind)| *kind);
    known.or_else(|| text.trim().is_empty().then_some("text/plain"))
}

fn host_key_config(pair: &KeyPair) -> String {
    let indented: String = pair.private.expose().trim().lines().map(|line| format!("    {line}\n")).collect();
    format!("#cloud-config\nssh_keys:\n  ed25519_private: |\n{indented}  ed25519_public: {}\n", pair.public.trim())
}

/// Runs at every boot, so that a restart does not put it off; so early that logind, which `shutdown +N` would ask, is not there.
fn switch(at: u64) -> String {
    let wait = "nohup sh -c \"sleep $left; shutdown -P now || poweroff -f\" </dev/null >/dev/null 2>&1 &";
    format!("#cloud-boothook\n#!/bin/sh\nleft=$(({at} - $(date +%s)))\n[ \"$left\" -ge 1 ] || left=1\n{wait}\n")
}

fn multipart(parts: &[(String, String)]) -> String {
    const BOUNDARY: &str = "kiln-7c1e58d09b3f";
    let mut whole = format!("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"{BOUNDARY}\"\n\n");
    for (kind, text) in parts {
        // The headers of a message in parts are its own.
        if kind == "multipart/mixed" {
            whole.push_str(&format!("--{BOUNDARY}\n{}\n", text.trim_start()));
        } else {
            whole.push_str(&format!(
                "--{BOUNDARY}\nContent-Type: {kind}; charset=\"utf-8\"\nMIME-Version: 1.0\n\n{text}\n"
            ));
        }
    }
    whole.push_str(&format!("--{BOUNDARY}--\n"));
    whole
}

#[cfg(test)]
mod tests {
    use kiln_ssh::keys::{KeyKind, generate};

    use super::*;

    fn decoded(data: &UserData) -> String {
        String::from_utf8(STANDARD.decode(data.encoded.as_ref().unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn alone_the_host_key_is_a_cloud_config() {
        let pair = generate(KeyKind::Ed25519, "kiln").unwrap();
        let data = compose(None, Some(&pair), None);
        let text = decoded(&data);
        assert!(
            data.has_host_key
                && text.starts_with("#cloud-config\nssh_keys:\n  ed25519_private: |\n    -----BEGIN OPENSSH")
        );
        assert!(text.contains(&format!("  ed25519_public: {}\n", pair.public.trim())), "{text}");
    }

    #[test]
    fn what_the_user_says_goes_along() {
        let pair = generate(KeyKind::Ed25519, "kiln").unwrap();
        let data = compose(Some(b"#!/bin/sh\necho hello\n"), Some(&pair), Some(1_800_000_000));
        let text = decoded(&data);
        assert!(data.has_host_key);
        for part in ["text/cloud-config;", "text/cloud-boothook;", "text/x-shellscript;", "echo hello", "1800000000"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn what_is_not_cloud_inits_is_left_alone() {
        let pair = generate(KeyKind::Ed25519, "kiln").unwrap();
        for own in [b"<powershell>x</powershell>".as_slice(), b"{\"ignition\": {}}", b"\x1f\x8b\x08\x00\xff"] {
            let data = compose(Some(own), Some(&pair), None);
            assert_eq!(STANDARD.decode(data.encoded.as_ref().unwrap()).unwrap(), own);
            assert!(!data.has_host_key && data.left_out.is_some());
        }
        let data = compose(Some(b"#cloud-config\nssh_keys: {}\n"), Some(&pair), None);
        assert!(!data.has_host_key && decoded(&data).starts_with("#cloud-config"));
    }

    #[test]
    fn base64_is_not_encoded_again() {
        let config = |text: &str| Config { user_data: Some(text.to_owned()), ..Config::default() };
        assert_eq!(own(&config("IyEvYmluL3NoCg==")).unwrap().unwrap(), b"#!/bin/sh\n");
        assert_eq!(own(&config("#!/bin/sh\n")).unwrap().unwrap(), b"#!/bin/sh\n");
        assert_eq!(own(&config("")).unwrap(), None);
    }

    #[test]
    fn too_much_leaves_the_users_own() {
        let pair = generate(KeyKind::Ed25519, "kiln").unwrap();
        let own = format!("#!/bin/sh\n{}", "x".repeat(16_200));
        let data = compose(Some(own.as_bytes()), Some(&pair), None);
        assert!(!data.has_host_key && data.left_out.is_some());
    }
}
