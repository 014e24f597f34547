//! Who a command runs as: names are looked up in the guest's own files, as docker does it.

use std::io::Read;

use rustix::fs::{CWD, FileType, Mode, OFlags};

use crate::error::SandboxError;

/// A user, ready to be taken on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// Bytes of a file that are read at most.
const LONGEST: u64 = 16 * 1024 * 1024;

/// `NAME|UID[:GROUP|GID]` by `/etc/passwd` and `/etc/group` below this process's root; root if absent.
pub(crate) fn look_up(user: Option<&str>) -> Result<Identity, SandboxError> {
    resolve(user.unwrap_or_default(), &read("/etc/passwd"), &read("/etc/group"))
}

/// The guest decides what is there: a pipe must not hold us up, and a missing file is an empty one.
fn read(path: &str) -> String {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(CWD, path, flags, Mode::empty()) else { return String::new() };
    match rustix::fs::fstat(&file) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {}
        _ => return String::new(),
    }
    let mut bytes = Vec::new();
    _ = std::fs::File::from(file).take(LONGEST).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// The number that to the kernel means "as before" is nobody's: a command would run as root.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
        Some(Account { name, uid: id(uid)?, gid: id(gid)?, home })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [name, _, gid, ref rest @ ..] = fields[..] else { return None };
        Some(Group { name, gid: id(gid)?, members: rest.first().copied().unwrap_or_default() })
    })
}

/// A number that is no name: ids above 2^31 - 1 are refused, as docker does.
fn number(text: &str) -> Option<u32> {
    text.parse::<i32>().ok().and_then(|number| u32::try_from(number).ok())
}

fn resolve(user: &str, passwd: &str, group: &str) -> Result<Identity, SandboxError> {
    let (user, wanted_group) = user.split_once(':').unwrap_or((user, ""));
    let user = if user.is_empty() { "0" } else { user };
    let wanted_uid = number(user);
    let account = accounts(passwd).find(|account| account.name == user || Some(account.uid) == wanted_uid);
    let Some(uid) = account.as_ref().map(|account| account.uid).or(wanted_uid) else {
        return Err(SandboxError::User(format!("the guest's /etc/passwd knows no user `{user}`")));
    };
    let home = account.as_ref().map(|account| account.home).filter(|home| !home.is_empty()).unwrap_or("/").to_owned();
    if !wanted_group.is_empty() {
        let wanted_gid = number(wanted_group);
        let named = groups(group).find(|group| group.name == wanted_group || Some(group.gid) == wanted_gid);
        let Some(gid) = named.map(|group| group.gid).or(wanted_gid) else {
            return Err(SandboxError::User(format!("the guest's /etc/group knows no group `{wanted_group}`")));
        };
        return Ok(Identity { uid, gid, groups: Vec::new(), home });
    }
    let gid = account.as_ref().map_or(0, |account| account.gid);
    let mut supplementary: Vec<u32> = match &account {
        Some(account) => groups(group)
            .filter(|group| group.members.split(',').any(|member| member == account.name))
            .map(|group| group.gid)
            .collect(),
        None => Vec::new(),
    };
    supplementary.dedup();
    Ok(Identity { uid, gid, groups: supplementary, home })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\nbroken\nwww:x:33:33::/var/www:/bin/false\nnohome:x:7:8:::\n1234:x:50:51::/n:\n";
    const GROUP: &str = "root:x:0:\nadm:x:4:root,www\nwww:x:33:\nstaff:x:50:www\nshort:x:60\n";

    fn identity(uid: u32, gid: u32, groups: &[u32], home: &str) -> Identity {
        Identity { uid, gid, groups: groups.to_vec(), home: home.to_owned() }
    }

    #[test]
    fn names_numbers_and_groups() {
        let look = |user: &str| resolve(user, PASSWD, GROUP).unwrap();
        assert_eq!(look(""), identity(0, 0, &[4], "/root"));
        assert_eq!(look("www"), identity(33, 33, &[4, 50], "/var/www"));
        assert_eq!(look("33"), look("www"));
        assert_eq!(look("33:"), look("www"));
        assert_eq!(look("www:adm"), identity(33, 4, &[], "/var/www"));
        assert_eq!(look("www:777"), identity(33, 777, &[], "/var/www"));
        assert_eq!(look(":staff"), identity(0, 50, &[], "/root"));
        assert_eq!(look("7"), identity(7, 8, &[], "/"));
        // A name that looks like a number is one.
        assert_eq!(look("1234"), identity(50, 51, &[], "/n"));
        assert_eq!(look("4321"), identity(4321, 0, &[], "/"));
    }

    #[test]
    fn who_is_not_there() {
        let fail = |user: &str| resolve(user, PASSWD, GROUP).unwrap_err().to_string();
        assert_eq!(fail("nobody"), "the guest's /etc/passwd knows no user `nobody`");
        assert_eq!(fail("www:wheel"), "the guest's /etc/group knows no group `wheel`");
        assert_eq!(fail("-1"), "the guest's /etc/passwd knows no user `-1`");
        assert_eq!(fail("4294967295"), "the guest's /etc/passwd knows no user `4294967295`");
        // To the kernel this number is no change, and so it is root.
        let no_change = "evil:x:4294967295:0::/:\nhalf:x:7:4294967295::/:\n";
        for user in ["evil", "half"] {
            assert!(resolve(user, no_change, "").is_err(), "{user}");
        }
        assert!(resolve("root:evil", "", "evil:x:4294967295:\n").is_err());
        // A guest without the files has numbers only.
        assert_eq!(resolve("5:6", "", "").unwrap(), identity(5, 6, &[], "/"));
    }
}
