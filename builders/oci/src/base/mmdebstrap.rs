//! Debian and its relatives from their archives, by `mmdebstrap` of this host.

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use kiln_core::{Events, Failure, Key, Stream};
use kiln_image::compress::{Compression, LayerWriter};
use kiln_image::{Digest, Layout, Rootfs};
use tokio_util::sync::CancellationToken;

use super::archives::copy;
use super::{Bases, base_key, rootfs};
use crate::error::{self, OciError};
use crate::from::Mmdebstrap;

/// Lines of a failed bootstrap that are told again with the failure.
const LAST_LINES: usize = 5;

/// Where memory serves as a disk, and the room that a bootstrap there should have, in bytes.
const MEMORY: (&str, u64) = ("/dev/shm", 2 << 30);

/// What passes to the program from kiln's environment.
const VARIABLES: [&str; 9] = [
    "PATH",
    "HOME",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SOURCE_DATE_EPOCH",
];

impl Bases<'_> {
    /// One that is young enough is taken again.
    pub(super) async fn import_mmdebstrap(&self, arguments: &Mmdebstrap) -> Result<Digest, Failure> {
        let key = self.mmdebstrap_key(arguments);
        let _one_at_a_time = self.place.lock(key.as_str()).await;
        if let Some(entry) = self.known(&key)?
            && SystemTime::now().duration_since(entry.created).unwrap_or_default() <= arguments.max_age
        {
            return Ok(entry.manifest);
        }
        self.context.events.message(format!("bootstrapping {} ({})", arguments.suite, arguments.variant));
        self.store().hold().map_err(error::cache)?;
        let mut command = self.command(arguments);
        let (layout, events) = (self.store().layout().clone(), self.context.events.clone());
        let made_by = format!("mmdebstrap {} {}", arguments.variant, arguments.suite);
        let rootfs = rootfs(&self.recipe.platform, Some("bash"), &made_by);
        let cancel = self.context.cancel.clone();
        let manifest = error::blocking(move || run(&mut command, &layout, &rootfs, &events, &cancel)).await?;
        self.note(&key, &manifest, None)?;
        Ok(manifest)
    }

    fn mmdebstrap_key(&self, arguments: &Mmdebstrap) -> Key {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        base_key("mmdebstrap", &self.recipe.platform)
            .with(&arguments.suite)
            .with(&arguments.variant)
            .with(text(&arguments.mirror))
            .with(text(&arguments.architecture))
            .with(text(&arguments.keyring))
            .list(&arguments.packages)
            .list(&arguments.components)
            .key()
    }

    fn command(&self, arguments: &Mmdebstrap) -> Command {
        let mut command = Command::new("mmdebstrap");
        command.args(["--format=tar", "--quiet", "--skip=output/dev", "--skip=output/mknod"]);
        command.arg(format!("--variant={}", arguments.variant));
        if !arguments.packages.is_empty() {
            command.arg(format!("--include={}", arguments.packages.join(",")));
        }
        if !arguments.components.is_empty() {
            command.arg(format!("--components={}", arguments.components.join(",")));
        }
        let architecture = arguments.architecture.clone().or_else(|| debian_architecture(&self.recipe.platform));
        command.args(architecture.map(|architecture| format!("--architectures={architecture}")));
        command.args(arguments.keyring.as_ref().map(|keyring| format!("--keyring={keyring}")));
        command.args([arguments.suite.as_str(), "-"]).args(&arguments.mirror);
        command.env_clear();
        let environment = &self.settings.credentials.environment;
        command.envs(VARIABLES.iter().filter_map(|name| environment.get_key_value(*name)));
        if let Some(directory) = temporary(environment.get("TMPDIR").map(String::as_str)) {
            command.env("TMPDIR", directory);
        }
        command
    }
}

/// A platform that is not this host's, in Debian's words.
fn debian_architecture(platform: &kiln_registry::Platform) -> Option<String> {
    if *platform == kiln_registry::Platform::host() {
        return None;
    }
    let name = match (platform.architecture.as_str(), platform.variant.as_deref()) {
        ("386", _) => "i386",
        ("arm", Some("v5" | "v6")) => "armel",
        ("arm", _) => "armhf",
        ("ppc64le", _) => "ppc64el",
        ("mips64le", _) => "mips64el",
        (same, _) => same,
    };
    Some(name.to_owned())
}

/// A directory to bootstrap in: memory is a third faster than a disk.
fn temporary(given: Option<&str>) -> Option<String> {
    if let Some(given) = given {
        return Some(given.to_owned());
    }
    let room = rustix::fs::statvfs(MEMORY.0).ok()?;
    (room.f_bavail.saturating_mul(room.f_frsize) >= MEMORY.1).then(|| MEMORY.0.to_owned())
}

/// A program that is killed unless it ended by itself.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(
    command: &mut Command,
    layout: &Layout,
    rootfs: &Rootfs,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<Digest, Failure> {
    let failed = |source: std::io::Error| {
        let is_missing = source.kind() == std::io::ErrorKind::NotFound;
        let failure = Failure::environment(OciError::Program { program: "mmdebstrap".to_owned(), source });
        if is_missing { failure.hint("install it: `apt-get install mmdebstrap`") } else { failure }
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running(command.spawn().map_err(failed)?);
    let errors = running.0.stderr.take().map(|stream| {
        let events = events.clone();
        std::thread::spawn(move || follow(BufReader::new(stream), &events))
    });
    let blob = layout.blob_writer().map_err(error::image)?;
    let mut writer = LayerWriter::new(blob, Compression::default());
    if let Some(stream) = running.0.stdout.take() {
        let mut stream = Stoppable { stream: std::fs::File::from(OwnedFd::from(stream)), cancel };
        copy(&mut stream, &mut writer).map_err(error::local("write", layout.root()))?;
    }
    let status = running.0.wait().map_err(failed)?;
    let lines = errors.and_then(|thread| thread.join().ok()).unwrap_or_default();
    if cancel.is_cancelled() {
        return Err(Failure::cancelled());
    }
    if !status.success() {
        let text = format!("mmdebstrap failed ({status}): {}", lines.join("; "));
        return Err(Failure::build(OciError::Base(text)));
    }
    rootfs.finish(writer, layout, None).map_err(error::image)
}

/// Passes lines on and gives the last ones.
fn follow(stream: impl BufRead, events: &Events) -> Vec<String> {
    let mut last: Vec<String> = Vec::new();
    for line in stream.lines().map_while(Result::ok) {
        events.output(Stream::Stderr, line.clone());
        last.push(line);
        if last.len() > LAST_LINES {
            last.remove(0);
        }
    }
    last
}

/// Ends when the user stops the run, also while nothing comes.
struct Stoppable<'a> {
    stream: std::fs::File,
    cancel: &'a CancellationToken,
}

impl std::io::Read for Stoppable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            if self.cancel.is_cancelled() {
                return Ok(0);
            }
            let mut waiting = [rustix::event::PollFd::new(&self.stream, rustix::event::PollFlags::IN)];
            let patience = rustix::event::Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
            match rustix::event::poll(&mut waiting, Some(&patience)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return self.stream.read(buffer),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
