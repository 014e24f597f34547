//! Which ids of the host a guest's ids are.
//!
//! Root that needs no user namespace keeps the host's ids. An ordinary user is the guest's root, and its other ids come from
//! `/etc/subuid` and `/etc/subgid`; without those it has that one id only. Root in a user namespace is mapped to itself: a store
//! of root's may not be read by shifted ids.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::spec::{IdKind, IdMap, IdRange};

/// No ranges are to be had, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRanges {
    /// The user has none.
    #[error("{user} has no range in {file}")]
    NotListed {
        /// Name or id.
        user: String,
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
    },
    /// A program is missing.
    #[error("`{0}` is not installed (Debian: uidmap, Fedora: shadow-utils)")]
    NoProgram(&'static str),
    /// /proc/self/uid_map could not be read.
    #[error("the ids of this process are not known: {0}")]
    Unknown(String),
}

/// Where things are looked for; tests point it elsewhere.
struct Places<'a> {
    subuid: &'a Path,
    subgid: &'a Path,
    nsswitch: &'a Path,
    passwd: &'a Path,
    programs: &'a [&'a Path],
}

impl IdMap {
    /// The map of an ordinary user with ranges of its own.
    pub fn of_user(uid: u32, gid: u32) -> Result<IdMap, NoRanges> {
        let places = Places {
            subuid: Path::new("/etc/subuid"),
            subgid: Path::new("/etc/subgid"),
            nsswitch: Path::new("/etc/nsswitch.conf"),
            passwd: Path::new("/etc/passwd"),
            programs: &PROGRAM_FOLDERS.map(Path::new),
        };
        IdMap::of_user_at(uid, gid, &places)
    }

    fn of_user_at(uid: u32, gid: u32, places: &Places<'_>) -> Result<IdMap, NoRanges> {
        find_programs(places.programs)?;
        let name = user_name(uid, places);
        let uids = sub_ranges(uid, name.as_deref(), places, false)?;
        let gids = sub_ranges(uid, name.as_deref(), places, true)?;
        Ok(IdMap { kind: IdKind::Ranges, uids: with_root(uid, &uids), gids: with_root(gid, &gids) })
    }

    /// Every id that this process's own user name space has, mapped to itself: a user name space for root.
    pub fn of_root() -> Result<IdMap, NoRanges> {
        let read = |file: &str| {
            let text = fs::read_to_string(file).map_err(|error| NoRanges::Unknown(error.to_string()))?;
            Ok(text.lines().filter_map(identity_range).collect::<Vec<_>>())
        };
        Ok(IdMap { kind: IdKind::Ranges, uids: read("/proc/self/uid_map")?, gids: read("/proc/self/gid_map")? })
    }

    /// The guest's root is this user, and there is nobody else.
    pub fn single(uid: u32, gid: u32) -> IdMap {
        let range = |id| vec![IdRange { inside: 0, outside: id, count: 1 }];
        IdMap { kind: IdKind::Single, uids: range(uid), gids: range(gid) }
    }

    /// How many users the guest has.
    pub fn size(&self) -> u64 {
        match self.kind {
            IdKind::Identity => 1 << 32,
            _ => self.uids.iter().map(|range| u64::from(range.count)).sum(),
        }
    }

    /// Every id of the guest is the same one of the host.
    pub fn keeps_ids(&self) -> bool {
        self.uids.iter().chain(&self.gids).all(|range| range.inside == range.outside)
    }

    /// What tells stores of different maps apart: the caller, and how it is mapped. Trees that one map wrote look wrong through
    /// another.
    pub(crate) fn store_suffix(&self, caller: u32) -> String {
        match self.kind {
            IdKind::Identity => caller.to_string(),
            IdKind::Ranges if self.keeps_ids() => format!("{caller}-userns"),
            // The range's start belongs to it: an administrator may hand out another one.
            IdKind::Ranges => match self.uids.get(1) {
                Some(range) => format!("{caller}-subuid-{}", range.outside),
                None => format!("{caller}-subuid"),
            },
            IdKind::Single => format!("{caller}-single"),
        }
    }
}

impl fmt::Display for IdMap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            IdKind::Identity => write!(formatter, "the host's ids"),
            IdKind::Ranges if self.keeps_ids() => write!(formatter, "the host's ids"),
            IdKind::Ranges => write!(formatter, "{} ids from /etc/subuid", self.size()),
            IdKind::Single => write!(formatter, "a single id"),
        }
    }
}

/// Where set-user-id programs are; whatever else a PATH names is no place for them.
const PROGRAM_FOLDERS: [&str; 4] = ["/usr/bin", "/usr/local/bin", "/bin", "/run/wrappers/bin"];

/// `newuidmap` and `newgidmap`: they may write a user's ranges, which the user itself may not.
pub(crate) fn map_programs() -> Result<(PathBuf, PathBuf), NoRanges> {
    find_programs(&PROGRAM_FOLDERS.map(Path::new))
}

fn find_programs(folders: &[&Path]) -> Result<(PathBuf, PathBuf), NoRanges> {
    let find = |name: &'static str| {
        let mut candidates = folders.iter().map(|folder| folder.join(name));
        candidates.find(|path| path.is_file()).ok_or(NoRanges::NoProgram(name))
    };
    Ok((find("newuidmap")?, find("newgidmap")?))
}

/// Ranges in the form that the kernel and `newuidmap` read.
pub(crate) fn lines(ranges: &[IdRange]) -> String {
    ranges.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count)).collect()
}

fn identity_range(line: &str) -> Option<IdRange> {
    let mut fields = line.split_ascii_whitespace();
    let inside = fields.next()?.parse().ok()?;
    let count = fields.nth(1)?.parse().ok()?;
    Some(IdRange { inside, outside: inside, count })
}

fn with_root(id: u32, ranges: &[(u32, u32)]) -> Vec<IdRange> {
    let mut map = vec![IdRange { inside: 0, outside: id, count: 1 }];
    let mut inside = 1;
    for &(outside, count) in ranges {
        // The kernel refuses maps that overlap: a range that is listed twice, or one with the caller's own id in it.
        let end = u64::from(outside) + u64::from(count);
        let overlaps = |other: &IdRange| {
            u64::from(outside) < u64::from(other.outside) + u64::from(other.count) && u64::from(other.outside) < end
        };
        if map.iter().any(overlaps) {
            continue;
        }
        let count = count.min(u32::MAX - inside);
        if count > 0 {
            map.push(IdRange { inside, outside, count });
            inside += count;
        }
    }
    map
}

fn user_name(uid: u32, places: &Places<'_>) -> Option<String> {
    let passwd = fs::read_to_string(places.passwd).ok()?;
    let name_of = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    };
    passwd.lines().find_map(name_of).or_else(|| output_of(Command::new("id").args(["-un", &uid.to_string()])))
}

fn output_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}

/// Ranges of a user: start and count.
fn sub_ranges(uid: u32, name: Option<&str>, places: &Places<'_>, groups: bool) -> Result<Vec<(u32, u32)>, NoRanges> {
    let (path, file) = if groups { (places.subgid, "/etc/subgid") } else { (places.subuid, "/etc/subuid") };
    let found = if asks_elsewhere(places) {
        ranges_from_nss(name.unwrap_or(&uid.to_string()), groups)
    } else {
        // Whoever has no such file has no range in it.
        parse_ranges(&fs::read_to_string(path).unwrap_or_default(), uid, name)
    };
    if found.is_empty() {
        let user = name.map_or_else(|| format!("user {uid}"), |name| format!("user `{name}`"));
        return Err(NoRanges::NotListed { user, file });
    }
    Ok(found)
}

/// `/etc/nsswitch.conf` names another source than files; then files do not count.
fn asks_elsewhere(places: &Places<'_>) -> bool {
    let text = fs::read_to_string(places.nsswitch).unwrap_or_default();
    let source = |line: &str| line.trim().strip_prefix("subid:").map(|rest| rest.trim() != "files");
    text.lines().find_map(source).unwrap_or(false)
}

fn ranges_from_nss(user: &str, groups: bool) -> Vec<(u32, u32)> {
    let mut command = Command::new("getsubids");
    if groups {
        command.arg("-g");
    }
    parse_listed(&output_of(command.arg(user)).unwrap_or_default())
}

/// What `getsubids` prints; each line: `0: user 100000 65536`.
fn parse_listed(text: &str) -> Vec<(u32, u32)> {
    let range = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().rev();
        let count = numbers.next()?.parse().ok()?;
        Some((numbers.next()?.parse().ok()?, count))
    };
    text.lines().filter_map(range).collect()
}

fn parse_ranges(text: &str, uid: u32, name: Option<&str>) -> Vec<(u32, u32)> {
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let is_theirs = Some(owner) == name || owner.parse() == Ok(uid);
        let start = fields.next()?.parse().ok()?;
        let count = fields.next()?.parse().ok()?;
        (is_theirs && count > 0).then_some((start, count))
    };
    text.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(inside: u32, outside: u32, count: u32) -> IdRange {
        IdRange { inside, outside, count }
    }

    #[test]
    fn ranges_by_name_or_id() {
        let text = "# a comment\nroot:1:2\njo:100000:65536\n1000:300000:10\njob:5:5\njo:x:1\njo:7:0\n";
        assert_eq!(parse_ranges(text, 1000, Some("jo")), [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(parse_ranges(text, 1001, None), []);
    }

    #[test]
    fn ranges_of_a_directory_service() {
        let text = "0: jo 100000 65536\n1: jo 300000 10\nError fetching ranges\n";
        assert_eq!(parse_listed(text), [(100_000, 65_536), (300_000, 10)]);
        let folder = tempfile::tempdir().unwrap();
        let nsswitch = folder.path().join("nsswitch.conf");
        let places = Places {
            subuid: Path::new("/none"),
            subgid: Path::new("/none"),
            nsswitch: &nsswitch,
            passwd: Path::new("/none"),
            programs: &[],
        };
        for (text, elsewhere) in [("subid: sss\n", true), ("passwd: sss\nsubid: files\n", false), ("", false)] {
            fs::write(&nsswitch, text).unwrap();
            assert_eq!(asks_elsewhere(&places), elsewhere, "{text}");
        }
    }

    #[test]
    fn root_is_the_caller_and_the_rest_follows() {
        let map = with_root(1000, &[(100_000, 65_536), (300_000, 10)]);
        assert_eq!(map, [mapped(0, 1000, 1), mapped(1, 100_000, 65_536), mapped(65_537, 300_000, 10)]);
        assert_eq!(lines(&map), "0 1000 1\n1 100000 65536\n65537 300000 10\n");
    }

    #[test]
    fn a_range_with_the_caller_in_it_and_one_that_is_listed_twice_are_left_out() {
        assert_eq!(with_root(1000, &[(900, 200), (100_000, 5)]), [mapped(0, 1000, 1), mapped(1, 100_000, 5)]);
        let twice = [(100_000, 65_536), (100_000, 65_536), (165_535, 2), (165_536, 2)];
        let expected = [mapped(0, 1000, 1), mapped(1, 100_000, 65_536), mapped(65_537, 165_536, 2)];
        assert_eq!(with_root(1000, &twice), expected);
    }

    #[test]
    fn a_map_that_is_shifted_twice_stays_within_its_own_ids() {
        assert_eq!(identity_range("         0     100000      65536"), Some(mapped(0, 0, 65_536)));
    }

    #[test]
    fn a_user_is_found_in_files() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let subuid = at("subuid", "jo:100000:65536\n");
        let subgid = at("subgid", "jo:200000:65536\n");
        let passwd = at("passwd", "root:x:0:0::/root:/bin/sh\njo:x:1234:1234::/home/jo:/bin/sh\n");
        let nsswitch = at("nsswitch.conf", "passwd: files\nsubid: files\n");
        at("newuidmap", "");
        at("newgidmap", "");
        let programs = [folder.path()];
        let places =
            Places { subuid: &subuid, subgid: &subgid, nsswitch: &nsswitch, passwd: &passwd, programs: &programs };
        let map = IdMap::of_user_at(1234, 100, &places).unwrap();
        assert_eq!(map.kind, IdKind::Ranges);
        assert_eq!(map.uids, [mapped(0, 1234, 1), mapped(1, 100_000, 65_536)]);
        assert_eq!(map.gids, [mapped(0, 100, 1), mapped(1, 200_000, 65_536)]);
        assert_eq!(
            find_programs(&programs).unwrap(),
            (folder.path().join("newuidmap"), folder.path().join("newgidmap"))
        );
        assert_eq!(map.store_suffix(1234), "1234-subuid-100000");
        assert_eq!(map.to_string(), "65537 ids from /etc/subuid");
        fs::write(&subgid, "").unwrap();
        let error = IdMap::of_user_at(1234, 100, &places).unwrap_err();
        assert_eq!(error.to_string(), "user `jo` has no range in /etc/subgid");
    }
}
