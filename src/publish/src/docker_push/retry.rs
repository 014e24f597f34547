//! What a push may be tried again after, and when.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use kiln_docker::EngineError;

/// Waits that double, each varied by a quarter up or down so that builds side by side do not come back together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backoff {
    /// How often it is tried again.
    pub(super) retries: u32,
    /// Before the first of these.
    pub(super) first: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { retries: 3, first: Duration::from_secs(1) }
    }
}

impl Backoff {
    /// How long to wait after so many tries (from 1); `None` when it was the last.
    pub(super) fn wait(&self, tries: u32) -> Option<Duration> {
        if tries > self.retries {
            return None;
        }
        // The standard library's only source of chance; it need not be a good one.
        let chance = RandomState::new().build_hasher().finish() % 1000;
        let factor = 0.75 + chance as f64 / 2000.0;
        Some((self.first * 2_u32.saturating_pow(tries - 1)).mul_f64(factor))
    }
}

/// The registry's answer never gets better by itself.
const FINAL: &[&str] = &[
    "denied",
    "unauthorized",
    "authentication required",
    "no basic auth credentials",
    "insufficient_scope",
    "does not exist",
    "server gave http response to https client",
    "x509",
    "certificate",
    "no such host",
    "invalid reference",
];

/// What the engine says when the network or the registry had a bad moment. It passes on a registry's status in words.
const TRANSIENT: &[&str] = &[
    "toomanyrequests",
    "too many requests",
    "status: 429",
    "status: 500",
    "status: 502",
    "status: 503",
    "status: 504",
    "500 internal server error",
    "502 bad gateway",
    "503 service unavailable",
    "504 gateway time",
    "service unavailable",
    "connection refused",
    "connection reset",
    "broken pipe",
    "unexpected eof",
    ": eof",
    "i/o timeout",
    "timeout exceeded",
    "tls handshake timeout",
    "temporary failure",
    "blob upload unknown",
];

/// Whether a push that failed so may succeed if it is tried again.
pub(super) fn is_transient(error: &EngineError) -> bool {
    match error {
        EngineError::Connection { .. } => true,
        EngineError::Refused { message, status, .. } => {
            let message = message.to_lowercase();
            let names = |words: &[&str]| words.iter().any(|word| message.contains(word));
            !names(FINAL) && (names(TRANSIENT) || matches!(status, Some(429 | 502..=504)))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::refused;

    #[test]
    fn waits_double_within_a_quarter_and_end() {
        let backoff = Backoff::default();
        for (tries, seconds) in [(1, 1.0), (2, 2.0), (3, 4.0)] {
            let wait = backoff.wait(tries).unwrap().as_secs_f64();
            assert!((seconds * 0.75..=seconds * 1.25).contains(&wait), "{tries}: {wait}");
        }
        assert_eq!(backoff.wait(4), None);
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for (message, expected) in [
            ("denied: requested access to the resource is denied", false),
            ("unauthorized: authentication required", false),
            ("no basic auth credentials", false),
            ("An image does not exist locally with the tag: a", false),
            ("Get \"https://r:5000/v2/\": http: server gave HTTP response to HTTPS client", false),
            ("Get \"https://r/v2/\": x509: certificate signed by unknown authority", false),
            ("Get \"https://r/v2/\": dial tcp: lookup r: no such host", false),
            ("received unexpected HTTP status: 503 Service Unavailable", true),
            ("received unexpected HTTP status: 500 Internal Server Error", true),
            ("toomanyrequests: You have reached your limit", true),
            ("Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused", true),
            ("write tcp: broken pipe", true),
            ("Put \"https://r/v2/a/blobs/uploads/\": EOF", true),
            ("something new", false),
        ] {
            assert_eq!(is_transient(&refused(message)), expected, "{message}");
        }
        let with_status = |status| EngineError::Refused { action: "push".into(), message: "x".into(), status };
        assert!(is_transient(&with_status(Some(503))));
        assert!(!is_transient(&with_status(Some(404))));
        assert!(is_transient(&EngineError::Connection { action: "push".into(), source: "reset".into() }));
    }
}
