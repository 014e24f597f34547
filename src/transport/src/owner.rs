//! Whose uploads are: an image's `USER` as numbers.

use crate::tar::Owner;

/// Why a user has no number.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError<E: std::error::Error + 'static> {
    /// Not in the machine's list.
    #[error("the image's USER `{user}` names {kind} `{name}`, which is not in {list} of the image")]
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
    /// The list cannot be read.
    #[error(transparent)]
    List(#[from] E),
}

/// The numbers of `USER` (`name`, `name:group`, numbers in place of either; empty: root), as a container's start resolves
/// them: a user's own group where none is written, group 0 for a number without an entry. `read` gives the text of
/// `/etc/passwd` or `/etc/group` on the machine, empty where there is none; it is called only for what is needed.
pub async fn resolve<E, F>(user: &str, read: impl Fn(&'static str) -> F) -> Result<Owner, OwnerError<E>>
where
    E: std::error::Error + 'static,
    F: Future<Output = Result<String, E>>,
{
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
    let users = read("/etc/passwd").await?;
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
            let groups = read("/etc/group").await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(list: &'static str) -> Result<String, std::io::Error> {
        Ok(match list {
            "/etc/passwd" => "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n",
            _ => "root:x:0:\nstaff:x:50:app\n",
        }
        .to_owned())
    }

    #[tokio::test]
    async fn users_become_numbers_as_at_a_containers_start() {
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
            let owner = resolve(user, read).await.unwrap();
            assert_eq!((owner.user, owner.group), expected, "{user}");
        }
        let error = resolve("nobody-here", read).await.unwrap_err();
        assert!(error.to_string().contains("`nobody-here`, which is not in /etc/passwd"), "{error}");
        let error = resolve("app:nobodies", read).await.unwrap_err();
        assert!(error.to_string().contains("the group `nobodies`"), "{error}");
    }
}
