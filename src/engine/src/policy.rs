//! What the user decides about a run: what to do when a build fails, and how much goes on at a time.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// `-on-error`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnError {
    /// Run the error-cleanup provisioner, remove the machine and what else was made.
    #[default]
    Cleanup,
    /// Leave everything as it is, to be looked at; `kiln cleanup` removes it later.
    Abort,
    /// Ask each time: clean up, abort, or try the failed step again.
    Ask,
    /// As abort, but the error-cleanup provisioner runs.
    RunCleanupProvisioner,
}

impl OnError {
    /// All of them, in the order of the help text.
    pub const ALL: [OnError; 4] = [OnError::Cleanup, OnError::Abort, OnError::Ask, OnError::RunCleanupProvisioner];

    /// As it is written on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            OnError::Cleanup => "cleanup",
            OnError::Abort => "abort",
            OnError::Ask => "ask",
            OnError::RunCleanupProvisioner => "run-cleanup-provisioner",
        }
    }
}

impl fmt::Display for OnError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Not one of [`OnError::ALL`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of `cleanup`, `abort`, `ask` and `run-cleanup-provisioner`")]
pub struct UnknownOnError(String);

impl FromStr for OnError {
    type Err = UnknownOnError;

    fn from_str(text: &str) -> Result<OnError, UnknownOnError> {
        OnError::ALL.into_iter().find(|policy| policy.as_str() == text).ok_or_else(|| UnknownOnError(text.to_owned()))
    }
}

/// `-parallel-builds`: how many builds run at a time, in all and of one kind of builder. 0 is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParallelBuilds {
    /// Of all kinds together.
    pub total: usize,
    /// Of one kind, `docker` for example.
    pub kinds: BTreeMap<String, usize>,
}

impl ParallelBuilds {
    /// Whether one more build of this kind may start beside `running` others, `same` of which are of the kind.
    pub(crate) fn allows(&self, kind: &str, running: usize, same: usize) -> bool {
        let fits = |limit: usize, count: usize| limit == 0 || count < limit;
        fits(self.total, running) && self.kinds.get(kind).is_none_or(|limit| fits(*limit, same))
    }
}

impl From<usize> for ParallelBuilds {
    fn from(total: usize) -> ParallelBuilds {
        ParallelBuilds { total, kinds: BTreeMap::new() }
    }
}

/// Neither a number nor a kind with one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a number nor KIND=NUMBER; write for example 4, or 8,docker=2")]
pub struct NoLimit(String);

impl FromStr for ParallelBuilds {
    type Err = NoLimit;

    /// `4`, `docker=2`, `8,docker=2,oci=4`. A negative number is no limit, as with Packer.
    fn from_str(text: &str) -> Result<ParallelBuilds, NoLimit> {
        let mut limits = ParallelBuilds::default();
        for part in text.split(',').map(str::trim) {
            let (kind, number) = part.split_once('=').map_or((None, part), |(kind, number)| (Some(kind), number));
            let number: i64 = number.trim().parse().map_err(|_| NoLimit(part.to_owned()))?;
            let number = usize::try_from(number).unwrap_or(0);
            match kind.map(str::trim) {
                None => limits.total = number,
                Some("") => return Err(NoLimit(part.to_owned())),
                Some(kind) => {
                    limits.kinds.insert(kind.to_owned(), number);
                }
            }
        }
        Ok(limits)
    }
}

/// What is done about one failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Remove what was made.
    CleanUp,
    /// Leave it.
    Leave {
        /// Whether the error-cleanup provisioner runs all the same.
        run_cleanup_provisioner: bool,
    },
    /// Try the failed stage again.
    Retry,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_for_all_and_for_kinds() {
        let read = |text: &str| text.parse::<ParallelBuilds>();
        assert_eq!(read("4"), Ok(4.into()));
        assert_eq!(read("-1"), Ok(0.into()));
        let both = read("8, docker=2,oci = 4").unwrap();
        assert_eq!((both.total, both.kinds["docker"], both.kinds["oci"]), (8, 2, 4));
        assert!(both.allows("docker", 7, 1) && both.allows("file", 7, 7));
        assert!(!both.allows("docker", 7, 2) && !both.allows("oci", 8, 1));
        for wrong in ["", "many", "docker=", "=2", "docker=x", "2,,3"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
