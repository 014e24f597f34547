//! What a guest's processes may do as root: the capabilities that docker leaves a container, more or fewer by name.

use std::fmt;
use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use serde::{Deserialize, Serialize};

/// The kernel's names in the order of their numbers, without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(u64);

/// No capability has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no capability is called `{0}`")]
pub struct UnknownCapability(pub String);

impl Capabilities {
    /// None at all.
    pub const NONE: Capabilities = Capabilities(0);

    /// Every one, also those that a later kernel adds.
    pub const ALL: Capabilities = Capabilities(u64::MAX);

    /// The fourteen that docker leaves a container.
    pub fn docker_default() -> Capabilities {
        Capabilities(
            (CapabilitySet::AUDIT_WRITE
                | CapabilitySet::CHOWN
                | CapabilitySet::DAC_OVERRIDE
                | CapabilitySet::FOWNER
                | CapabilitySet::FSETID
                | CapabilitySet::KILL
                | CapabilitySet::MKNOD
                | CapabilitySet::NET_BIND_SERVICE
                | CapabilitySet::NET_RAW
                | CapabilitySet::SETFCAP
                | CapabilitySet::SETGID
                | CapabilitySet::SETPCAP
                | CapabilitySet::SETUID
                | CapabilitySet::SYS_CHROOT)
                .bits(),
        )
    }

    /// By name: `NET_ADMIN`, `CAP_NET_ADMIN` in any case, or `ALL`.
    pub fn named(name: &str) -> Result<Capabilities, UnknownCapability> {
        let upper = name.trim().to_ascii_uppercase();
        let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if plain == "ALL" {
            return Ok(Capabilities::ALL);
        }
        let number = NAMES.iter().position(|known| *known == plain);
        number.map(|number| Capabilities(1 << number)).ok_or_else(|| UnknownCapability(name.to_owned()))
    }

    /// Their names, as [`Capabilities::named`] takes them.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().chain(["ALL"])
    }

    /// Docker's, without those of `drop` and with those of `add`. As with docker, `ALL` is where the set starts, and the names
    /// of the other list are the exceptions from it.
    pub fn adjusted(add: &[String], drop: &[String]) -> Result<Capabilities, UnknownCapability> {
        let named = |names: &[String]| -> Result<(bool, Capabilities), UnknownCapability> {
            let mut all = false;
            let mut set = Capabilities::NONE;
            for name in names {
                match Capabilities::named(name)? {
                    Capabilities::ALL => all = true,
                    one => set = set.union(one),
                }
            }
            Ok((all, set))
        };
        let (add_all, add) = named(add)?;
        let (drop_all, drop) = named(drop)?;
        Ok(match (add_all, drop_all) {
            (true, _) => Capabilities::ALL.without(drop),
            (false, true) => add,
            (false, false) => Capabilities::docker_default().without(drop).union(add),
        })
    }

    /// These and those.
    pub fn union(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 | other.0)
    }

    /// These but for those.
    pub fn without(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & !other.0)
    }

    /// Those that are in both.
    pub fn intersection(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & other.0)
    }

    /// All of `other` are among these.
    pub fn contains(self, other: Capabilities) -> bool {
        self.0 & other.0 == other.0
    }

    /// What this process may use now.
    pub fn effective() -> io::Result<Capabilities> {
        Ok(Capabilities(rustix::thread::capabilities(None)?.effective.bits()))
    }

    /// Cuts this thread's bounding set to these, and what it could hand down otherwise: neither a set-user-id program nor one
    /// with file capabilities gets more. Needs `SETPCAP`, so it comes before the user changes.
    pub fn bound(self) -> io::Result<()> {
        // Fails on kernels before 4.3, which have no ambient set.
        _ = rustix::thread::clear_ambient_capability_set();
        for number in 0..u64::BITS {
            let one = CapabilitySet::from_bits_retain(1 << number);
            if self.contains(Capabilities(one.bits())) {
                continue;
            }
            match rustix::thread::capability_is_in_bounding_set(one) {
                Ok(true) => rustix::thread::remove_capability_from_bounding_set(one)?,
                Ok(false) => {}
                // Past the kernel's last one.
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Cuts what this thread holds to these. Comes after the user was changed: a change away from root drops all of them, and
    /// the change itself needs some.
    pub fn hold(self) -> io::Result<()> {
        let held = Capabilities(rustix::thread::capabilities(None)?.permitted.bits());
        let kept = CapabilitySet::from_bits_retain(self.intersection(held).0);
        let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
        set_capabilities(None, sets)?;
        Ok(())
    }
}

impl From<CapabilitySet> for Capabilities {
    fn from(set: CapabilitySet) -> Capabilities {
        Capabilities(set.bits())
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Capabilities::ALL {
            return formatter.write_str("ALL");
        }
        let held = NAMES.iter().enumerate().filter(|(number, _)| self.0 & (1 << number) != 0);
        formatter.write_str(&held.map(|(_, name)| *name).collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Capabilities({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_are_the_kernels() {
        assert_eq!(Capabilities::named("CHOWN"), Ok(CapabilitySet::CHOWN.into()));
        assert_eq!(Capabilities::named("cap_sys_admin"), Ok(CapabilitySet::SYS_ADMIN.into()));
        assert_eq!(Capabilities::named("CAP_CHECKPOINT_RESTORE"), Ok(CapabilitySet::CHECKPOINT_RESTORE.into()));
        assert_eq!(Capabilities::named("NET_ADMINS").unwrap_err().to_string(), "no capability is called `NET_ADMINS`");
    }

    #[test]
    fn fourteen_by_default() {
        let default = Capabilities::docker_default();
        assert_eq!(
            default.to_string(),
            "CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, \
             MKNOD, AUDIT_WRITE, SETFCAP"
        );
    }

    #[test]
    fn more_and_fewer() {
        let adjusted = |add: &[&str], drop: &[&str]| Capabilities::adjusted(&list(add), &list(drop)).unwrap();
        let default = Capabilities::docker_default();
        assert_eq!(adjusted(&["NET_ADMIN"], &["MKNOD"]).without(default), CapabilitySet::NET_ADMIN.into());
        assert!(!adjusted(&[], &["MKNOD"]).contains(CapabilitySet::MKNOD.into()));
        assert_eq!(adjusted(&["CHOWN"], &["ALL"]).to_string(), "CHOWN");
        assert!(adjusted(&["ALL"], &["SYS_ADMIN"]).contains(CapabilitySet::SYS_TIME.into()));
        assert!(!adjusted(&["ALL"], &["SYS_ADMIN"]).contains(CapabilitySet::SYS_ADMIN.into()));
        assert_eq!(adjusted(&["ALL"], &[]).to_string(), "ALL");
    }
}
