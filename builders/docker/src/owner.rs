//! Whose uploads are: reads the lists of users and groups of a container.

use futures_util::TryStreamExt;
use kiln_docker::{Engine, EngineError};
use kiln_transport::owner;
use kiln_transport::tar::Owner;

/// Bound on `/etc/passwd` and `/etc/group`, in bytes; larger ones are not read.
const LONGEST_LIST: u64 = 4 * 1024 * 1024;

/// Why a list cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
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

/// The numbers of the image's `USER` in a container.
pub(crate) async fn resolve(
    engine: &dyn Engine,
    container: &str,
    user: &str,
) -> Result<Owner, owner::OwnerError<ListError>> {
    owner::resolve(user, |list| read(engine, container, list)).await
}

async fn read(engine: &dyn Engine, container: &str, list: &'static str) -> Result<String, ListError> {
    let stat = engine.stat_path(container, list).await?;
    let Some(stat) = stat else { return Ok(String::new()) };
    let path = stat.link_target.as_deref().unwrap_or(list);
    let broken = |source| ListError::List { list, source };
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
    async fn the_lists_come_from_the_container() {
        let engine = FakeEngine::new();
        engine.add_file("/etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n");
        engine.add_file("/etc/group", "root:x:0:\nstaff:x:50:app\n");
        let owner = resolve(&engine, "c", "app:staff").await.unwrap();
        assert_eq!((owner.user, owner.group), (1000, 50));
        let error = resolve(&engine, "c", "nobody-here").await.unwrap_err();
        assert!(error.to_string().contains("`nobody-here`, which is not in /etc/passwd"), "{error}");
    }
}
