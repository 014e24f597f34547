//! Whose uploads are: the image's `USER` as numbers.

use futures_util::TryStreamExt;
use kiln_docker::{Engine, EngineError};
use kiln_transport::tar::Owner;

/// Bound on `/etc/passwd` and `/etc/group`, in bytes; larger ones are not read.
const LONGEST_LIST: u64 = 4 * 1024 * 1024;

/// Why a user has no number.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OwnerError {
    /// Not in the container's list.
    #[error("the image's USER `{user}` names {kind} `{name}`, which is not in {list} of the container")]
    Unknown {
        /// `USER` as written.
        user: String,
        /// `the user`, `the group`.
        kind: &'static str,
        /// The name.
        name: String,
        /// The file.
        list: &'static str,
    },
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The list is no archive.
    #[error("cannot read {list} of the container")]
    List {
        /// The file.
        list: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The numbers of `USER` (`name`, `name:group`, numbers in place of either; empty: root), as a container's start resolves
/// them: a user's own group where none is written, group 0 for a number without an entry.
pub(crate) async fn resolve(engine: &dyn Engine, container: &str, user: &str) -> Result<Owner, OwnerError> {
    let (name, group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    if matches!(name, "" | "root" | "0") && group.is_none() {
        return Ok(Owner { user: 0, group: 0 });
    }
    if let (Ok(user), Some(Ok(group))) = (name.parse(), group.map(str::parse)) {
        return Ok(Owner { user, group });
    }
    let users = read(engine, container, "/etc/passwd").await?;
    let unknown = |kind, name: &str, list| OwnerError::Unknown { user: user.to_owned(), kind, name: name.into(), list };
    let (number, own_group) = match (entry(&users, name), name.parse::<u64>()) {
        (Some(found), _) => found,
        (None, Ok(number)) => (number, 0),
        (None, Err(_)) => return Err(unknown("the user", name, "/etc/passwd")),
    };
    let group = match group.map(|group| (group, group.parse::<u64>())) {
        None => own_group,
        Some((_, Ok(number))) => number,
        Some((group, Err(_))) => {
            let groups = read(engine, container, "/etc/group").await?;
            entry(&groups, group).ok_or_else(|| unknown("the group", group, "/etc/group"))?.0
        }
    };
    Ok(Owner { user: number, group })
}

/// The third and fourth field of the line whose first field, or third, is the name.
fn entry(list: &str, name: &str) -> Option<(u64, u64)> {
    list.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let number = *fields.get(2)?;
        if fields[0] != name && number != name {
            return None;
        }
        let own_group = fields.get(3).and_then(|group| group.parse().ok()).unwrap_or(0);
        Some((number.parse().ok()?, own_group))
    })
}

async fn read(engine: &dyn Engine, container: &str, list: &'static str) -> Result<String, OwnerError> {
    let stat = engine.stat_path(container, list).await?;
    let Some(stat) = stat else { return Ok(String::new()) };
    let path = stat.link_target.as_deref().unwrap_or(list);
    let broken = |source| OwnerError::List { list, source };
    let mut stream = engine.get_archive(container, path).await?;
    let mut archive = Vec::new();
    while let Some(chunk) = stream.try_next().await.map_err(|error| broken(error.into()))? {
        archive.extend_from_slice(&chunk);
        if archive.len() as u64 > LONGEST_LIST {
            return Err(broken(format!("it is larger than {LONGEST_LIST} bytes").into()));
        }
    }
    first_file(&archive).map_err(|error| broken(error.into()))
}

fn first_file(archive: &[u8]) -> std::io::Result<String> {
    let mut archive = tar::Archive::new(archive);
    let mut bytes = Vec::new();
    if let Some(entry) = archive.entries()?.next() {
        std::io::Read::read_to_end(&mut entry?, &mut bytes)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use kiln_docker::fake::FakeEngine;

    use super::*;

    #[tokio::test]
    async fn users_become_numbers_as_at_a_containers_start() {
        let engine = FakeEngine::new();
        engine.add_file("/etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n");
        engine.add_file("/etc/group", "root:x:0:\nstaff:x:50:app\n");
        for (user, expected) in [
            ("", (0, 0)),
            ("root", (0, 0)),
            ("app", (1000, 1001)),
            ("1000", (1000, 1001)),
            ("4242", (4242, 0)),
            ("4242:17", (4242, 17)),
            ("app:staff", (1000, 50)),
            ("app:7", (1000, 7)),
        ] {
            let owner = resolve(&engine, "c", user).await.unwrap();
            assert_eq!((owner.user, owner.group), expected, "{user}");
        }
        let error = resolve(&engine, "c", "nobody-here").await.unwrap_err();
        assert!(error.to_string().contains("`nobody-here`, which is not in /etc/passwd"), "{error}");
        let error = resolve(&engine, "c", "app:nobodies").await.unwrap_err();
        assert!(error.to_string().contains("the group `nobodies`"), "{error}");
    }
}
