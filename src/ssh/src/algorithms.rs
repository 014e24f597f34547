//! Names of algorithms that libssh2 has.

/// Ciphers, the safe ones first. Those from `aes256-cbc` on are offered only where the template asks for them.
pub(crate) const CIPHERS: &[&str] = &[
    "chacha20-poly1305@openssh.com",
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
    "aes256-cbc",
    "aes192-cbc",
    "aes128-cbc",
    "rijndael-cbc@lysator.liu.se",
    "blowfish-cbc",
    "cast128-cbc",
    "arcfour128",
    "arcfour",
    "3des-cbc",
];

/// Key exchanges. Those with SHA-1 are offered only where the template asks for them.
pub(crate) const KEY_EXCHANGES: &[&str] = &[
    "mlkem768x25519-sha256",
    "mlkem768nistp256-sha256",
    "mlkem1024nistp384-sha384",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group-exchange-sha256",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
    "diffie-hellman-group14-sha256",
    "diffie-hellman-group14-sha1",
    "diffie-hellman-group-exchange-sha1",
    "diffie-hellman-group1-sha1",
];

/// Of a machine's plain keys, in the order of preference, as (kind of the key, algorithms that prove it).
const PLAIN: &[(&str, &[&str])] = &[
    ("ssh-ed25519", &["ssh-ed25519"]),
    ("ecdsa-sha2-nistp256", &["ecdsa-sha2-nistp256"]),
    ("ecdsa-sha2-nistp384", &["ecdsa-sha2-nistp384"]),
    ("ecdsa-sha2-nistp521", &["ecdsa-sha2-nistp521"]),
    ("ssh-rsa", &["rsa-sha2-512", "rsa-sha2-256"]),
];

/// Of certificates.
const CERTIFIED: &[&str] = &[
    "ssh-ed25519-cert-v01@openssh.com",
    "ecdsa-sha2-nistp256-cert-v01@openssh.com",
    "ecdsa-sha2-nistp384-cert-v01@openssh.com",
    "ecdsa-sha2-nistp521-cert-v01@openssh.com",
    "rsa-sha2-512-cert-v01@openssh.com",
    "rsa-sha2-256-cert-v01@openssh.com",
];

/// Ciphers that are offered unless the template says otherwise.
pub(crate) const SAFE_CIPHERS: &[&str] = CIPHERS.split_at(6).0;

/// Key exchanges that are offered unless the template says otherwise.
pub(crate) const SAFE_KEY_EXCHANGES: &[&str] = KEY_EXCHANGES.split_at(12).0;

/// What to ask a machine to prove itself with: first what could be verified. Certificates only where an authority is known,
/// as nothing could be made of them otherwise.
pub(crate) fn host_key_algorithms(known_kinds: &[String], knows_authority: bool) -> Vec<String> {
    let is_known = |kind: &str| known_kinds.iter().any(|known| known == kind);
    let (known, rest): (Vec<_>, Vec<_>) = PLAIN.iter().partition(|(kind, _)| is_known(kind));
    let plain = known.into_iter().chain(rest).flat_map(|(_, algorithms)| algorithms.iter());
    let certified: &[&str] = if knows_authority { CERTIFIED } else { &[] };
    certified.iter().chain(plain).map(|name| (*name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_weak_is_not_offered_by_itself() {
        assert_eq!(SAFE_CIPHERS.last(), Some(&"aes256-ctr"));
        assert!(SAFE_KEY_EXCHANGES.iter().all(|name| !name.ends_with("sha1")));
    }

    #[test]
    fn what_is_known_comes_first() {
        let known = host_key_algorithms(&["ssh-rsa".to_owned()], false);
        assert_eq!(known[..3], ["rsa-sha2-512", "rsa-sha2-256", "ssh-ed25519"]);
        assert_eq!(known.len(), 6);
        assert_eq!(host_key_algorithms(&[], true)[0], "ssh-ed25519-cert-v01@openssh.com");
    }
}
