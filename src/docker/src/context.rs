//! The context of a build from a Dockerfile, as a tar stream without what `.dockerignore` names.

use std::path::{Path, PathBuf};

use kiln_transport::tar::{PackError, Packing, pack};
use tokio::task::JoinHandle;

use crate::engine::BuildRequest;
use crate::error::EngineError;
use crate::ignore::IgnoreRules;

/// What a Dockerfile from outside of the context is called inside.
const OUTSIDE_DOCKERFILE: &str = ".kiln.dockerfile";

/// A context on its way to the engine.
pub(crate) struct Context {
    pub(crate) packing: Packing,
    /// The Dockerfile's path inside.
    pub(crate) dockerfile: String,
}

/// Packs a context. The Dockerfile is read first, so that its absence is told before anything is sent.
pub(crate) async fn pack_context(request: &BuildRequest) -> Result<Context, EngineError> {
    let (dockerfile, context) = (request.dockerfile.clone(), request.context.clone());
    let (compress, found) = (
        request.compress,
        tokio::task::spawn_blocking(move || look(&dockerfile, &context)).await.unwrap_or_else(|error| {
            Err(EngineError::Connection { action: "look at the build's context".to_owned(), source: error.into() })
        })?,
    );
    let Found { context, inside, outside, rules } = found;
    let dockerfile = inside.clone();
    let packing = pack(compress, move |writer| {
        if let Some(content) = &outside {
            writer.bytes(Path::new(&inside), content, 0o644)?;
        }
        writer.tree(&context, Path::new(""), false, &mut |path, is_directory| {
            // The engine itself needs these two, whatever the rules say.
            let is_needed = path == Path::new(&inside) || path == Path::new(".dockerignore");
            is_needed || rules.wants(path, is_directory)
        })
    });
    Ok(Context { packing, dockerfile })
}

struct Found {
    context: PathBuf,
    inside: String,
    outside: Option<Vec<u8>>,
    rules: IgnoreRules,
}

fn look(dockerfile: &Path, context: &Path) -> Result<Found, EngineError> {
    let read = |path: &Path| {
        let path = path.to_path_buf();
        move |source| EngineError::Local { action: "read", path, source }
    };
    let context_root = context.canonicalize().map_err(read(context))?;
    let dockerfile_path = dockerfile.canonicalize().map_err(read(dockerfile))?;
    let inside = dockerfile_path.strip_prefix(&context_root).ok().map(|path| path.display().to_string());
    let outside = match &inside {
        Some(_) => None,
        None => Some(std::fs::read(&dockerfile_path).map_err(read(dockerfile))?),
    };
    // A Dockerfile's own list goes before the context's (as BuildKit has it).
    let own = PathBuf::from(format!("{}.dockerignore", dockerfile_path.display()));
    let list = if own.is_file() { own } else { context_root.join(".dockerignore") };
    let rules = match std::fs::read_to_string(&list) {
        Ok(text) => IgnoreRules::parse(&text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => IgnoreRules::default(),
        Err(source) => return Err(read(&list)(source)),
    };
    let inside = inside.unwrap_or_else(|| OUTSIDE_DOCKERFILE.to_owned());
    Ok(Found { context: context_root, inside, outside, rules })
}

/// The error of the side that failed first: packing, or the call that sent what was packed.
pub(crate) async fn check_outcome(
    outcome: JoinHandle<Result<Vec<PathBuf>, PackError>>,
    sent: Result<(), EngineError>,
) -> Result<(), EngineError> {
    match (outcome.await, sent) {
        (Ok(Err(PackError::Read { path, source })), _) => Err(EngineError::Local { action: "read", path, source }),
        (Ok(Err(error @ PackError::Shrank(_))), _) => {
            Err(EngineError::Connection { action: "send the build's context".to_owned(), source: error.into() })
        }
        (_, sent) => sent,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    async fn names(request: &BuildRequest) -> (Vec<String>, String) {
        let mut context = pack_context(request).await.unwrap();
        let mut archive = Vec::new();
        while let Some(chunk) = context.packing.stream.next().await {
            archive.extend_from_slice(&chunk.unwrap());
        }
        let mut reader = tar::Archive::new(archive.as_slice());
        let names = reader.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
        (names.collect(), context.dockerfile)
    }

    #[tokio::test]
    async fn the_context_is_what_the_rules_leave() {
        let directory = tempfile::tempdir().unwrap();
        let context = directory.path().join("context");
        std::fs::create_dir_all(context.join("docs")).unwrap();
        for file in ["Dockerfile", "app.py", "docs/a.md", "docs/keep.md"] {
            std::fs::write(context.join(file), "x").unwrap();
        }
        std::fs::write(context.join(".dockerignore"), "Dockerfile\ndocs/*\n!docs/keep.md\n").unwrap();
        let mut request = BuildRequest {
            dockerfile: context.join("Dockerfile"),
            context: context.clone(),
            ..BuildRequest::default()
        };
        let (seen, dockerfile) = names(&request).await;
        assert_eq!(seen, [".dockerignore", "Dockerfile", "app.py", "docs", "docs/keep.md"]);
        assert_eq!(dockerfile, "Dockerfile");
        request.dockerfile = directory.path().join("Other");
        std::fs::write(&request.dockerfile, "FROM scratch").unwrap();
        std::fs::write(directory.path().join("Other.dockerignore"), "docs\n").unwrap();
        let (seen, dockerfile) = names(&request).await;
        assert_eq!(seen, [OUTSIDE_DOCKERFILE, ".dockerignore", "Dockerfile", "app.py"]);
        assert_eq!(dockerfile, OUTSIDE_DOCKERFILE);
    }
}
