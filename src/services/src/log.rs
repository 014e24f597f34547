//! Logs of services, kept where a build failed.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kiln_core::{BuildContext, Stream};

/// Logs of builds that failed longer ago are removed when another one is kept.
const KEPT: Duration = Duration::from_secs(14 * 24 * 3600);

/// Lines of a log that are shown.
const SHOWN: usize = 30;

/// Keeps a service's log in a file that outlives the build, free of secrets; its path is told, and where `is_shown` its last
/// lines before. Nothing fails because of it.
pub async fn keep_log(service: &str, log: Vec<u8>, is_shown: bool, context: &BuildContext) {
    let text = String::from_utf8_lossy(&log).into_owned();
    let text = context.redactor.redact(&text).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        if is_shown {
            context.events.message(format!("service {service} has written nothing to its log"));
        }
        return;
    }
    for line in &lines[if is_shown { lines.len().saturating_sub(SHOWN) } else { lines.len() }..] {
        context.events.output(Stream::Stderr, format!("{service} | {line}"));
    }
    let Some(directory) = context.options.logs.clone() else { return };
    let path = directory.join(file_name(service, context));
    let (to, content) = (path.clone(), text.clone());
    match tokio::task::spawn_blocking(move || write(&to, &content)).await {
        Ok(Ok(())) => context.events.message(format!("the log of service {service} is in {}", path.display())),
        Ok(Err(error)) => {
            context.events.warn(format!("cannot keep the log of service {service} in {}: {error}", path.display()));
        }
        // It was stopped with the runtime.
        Err(_) => {}
    }
}

/// `4f1c2a3b-docker.worker-db.log`.
fn file_name(service: &str, context: &BuildContext) -> PathBuf {
    let run: String = context.run.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "_.-".contains(character);
    let build = context.build.chars().map(|character| if is_plain(character) { character } else { '-' });
    format!("{run}-{}-{service}.log", build.take(100).collect::<String>()).into()
}

/// Blocking.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    for entry in std::fs::read_dir(directory)?.flatten() {
        let written = entry.metadata().and_then(|metadata| metadata.modified()).unwrap_or_else(|_| SystemTime::now());
        let is_old = SystemTime::now().duration_since(written).is_ok_and(|age| age > KEPT);
        if is_old && entry.path().extension().is_some_and(|extension| extension == "log") {
            std::fs::remove_file(entry.path())?;
        }
    }
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
