//! OpenSSH's certificates: a key that an authority has signed. `ssh-key` checks the signature; the rest is read here, as it
//! refuses certificates without an end.

use ssh_key::{PublicKey, Signature};

use crate::hostkey::HostKey;

/// The suffix of the names of certified keys.
pub(crate) const SUFFIX: &str = "-cert-v01@openssh.com";

/// The type of a host's certificate.
const HOST: u32 = 2;

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// What is certified.
    pub(crate) key: HostKey,
    /// Who certifies it.
    pub(crate) authority: HostKey,
    kind: u32,
    principals: Vec<String>,
    valid_after: u64,
    valid_before: u64,
    critical_options: Vec<String>,
    signed: Vec<u8>,
    signature: Vec<u8>,
}

impl Certificate {
    /// Reads the binary form; nothing is checked but the form.
    pub(crate) fn read(shown: &HostKey) -> Option<Certificate> {
        let mut reader = Reader(&shown.blob);
        let name = reader.text()?;
        let plain_name = plain_name(&name)?;
        let _nonce = reader.string()?;
        let mut blob = string(plain_name.as_bytes());
        for _ in 0..key_fields(&plain_name)? {
            blob.extend(string(reader.string()?));
        }
        let key = HostKey::from_blob(blob)?;
        let _serial = reader.number64()?;
        let kind = reader.number32()?;
        let _id = reader.string()?;
        let principals = Reader(reader.string()?).texts()?;
        let (valid_after, valid_before) = (reader.number64()?, reader.number64()?);
        let options = Reader(reader.string()?).texts()?;
        let (_extensions, _reserved) = (reader.string()?, reader.string()?);
        let authority = HostKey::from_blob(reader.string()?)?;
        let signed = shown.blob[..shown.blob.len() - reader.0.len()].to_vec();
        let signature = reader.string()?.to_vec();
        // Names and values take turns.
        let critical_options = options.into_iter().step_by(2).collect();
        reader.0.is_empty().then_some(Certificate {
            key,
            authority,
            kind,
            principals,
            valid_after,
            valid_before,
            critical_options,
            signed,
            signature,
        })
    }

    /// Whether its authority has signed it, for this host, for this time (seconds since the epoch).
    pub(crate) fn check_host(&self, host: &str, now: u64) -> Result<(), String> {
        if self.kind != HOST {
            return Err("it is a user's certificate, not a host's".to_owned());
        }
        if !self.principals.iter().any(|principal| crate::pattern::fits(principal, host)) {
            return Err(format!("it is for {}, not for {host}", self.principals.join(", ")));
        }
        if let Some(name) = self.critical_options.first() {
            return Err(format!("it demands `{name}`, which kiln does not know"));
        }
        if now < self.valid_after || now >= self.valid_before {
            return Err("it is not valid today".to_owned());
        }
        if self.is_signed() { Ok(()) } else { Err("its signature is wrong".to_owned()) }
    }

    fn is_signed(&self) -> bool {
        use signature::Verifier;
        // Authorities sign with SHA-2; SHA-1 proves nothing any more.
        let is_strong = Reader(&self.signature).text().is_some_and(|name| name != "ssh-rsa" && name != "ssh-dss");
        let authority = PublicKey::from_bytes(&self.authority.blob);
        let signature = Signature::try_from(self.signature.as_slice());
        match (authority, signature) {
            (Ok(authority), Ok(signature)) => {
                is_strong && authority.key_data().verify(&self.signed, &signature).is_ok()
            }
            _ => false,
        }
    }
}

/// `ssh-ed25519` of `ssh-ed25519-cert-v01@openssh.com`.
fn plain_name(name: &str) -> Option<String> {
    let plain = name.strip_suffix(SUFFIX)?;
    Some(if plain.starts_with("sk-") { format!("{plain}@openssh.com") } else { plain.to_owned() })
}

/// Of how many strings a key consists.
fn key_fields(name: &str) -> Option<usize> {
    Some(match name {
        "ssh-ed25519" => 1,
        "ssh-rsa" | "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384" | "ecdsa-sha2-nistp521" => 2,
        "sk-ssh-ed25519@openssh.com" => 2,
        "sk-ecdsa-sha2-nistp256@openssh.com" => 3,
        _ => return None,
    })
}

/// SSH's form of a string.
fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), bytes].concat()
}

/// Reads SSH's binary forms.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*bytes))
    }

    fn number64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*bytes))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number32()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.string()?.to_vec()).ok()
    }

    /// All the strings that are left; what is no text in them is shown as well as may be.
    fn texts(&mut self) -> Option<Vec<String>> {
        let mut texts = Vec::new();
        while !self.0.is_empty() {
            texts.push(String::from_utf8_lossy(self.string()?).into_owned());
        }
        Some(texts)
    }
}
