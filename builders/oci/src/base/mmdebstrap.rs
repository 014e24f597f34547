//! Debian and its relatives from their archives, by `mmdebstrap` of this host.

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::SystemTime;

use kiln_core::{Events, Failure, Key, Stream};
use kiln_image::compress::{Compression, LayerWriter};
use kiln_image::{Digest, Layout, Rootfs};
use kiln_sandbox::{ExitStatus, HelperProgram, Program, ProgramSpec, SandboxError};
use tokio_util::sync::CancellationToken;

use super::archives::copy;
use super::{Bases, base_key, rootfs};
use crate::error::{self, OciError};
use crate::from::Mmdebstrap;
use crate::undo::BootstrapUndo;

/// Lines of a failed bootstrap that its cause is looked for in.
const LAST_LINES: usize = 20;

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
    /// One that is young enough is taken again. `None` where it would have to be made, and nothing must be.
    pub(super) async fn import_mmdebstrap(&self, arguments: &Mmdebstrap) -> Result<Option<Digest>, Failure> {
        let key = self.mmdebstrap_key(arguments);
        let _one_at_a_time = self.place.lock(key.as_str()).await;
        if let Some(entry) = self.known(&key)?
            && SystemTime::now().duration_since(entry.created).unwrap_or_default() <= arguments.max_age
        {
            return Ok(Some(entry.manifest));
        }
        if self.context.options.looks_only {
            return Ok(None);
        }
        self.context.events.message(format!("bootstrapping {} ({})", arguments.suite, arguments.variant));
        self.store().hold().map_err(error::cache)?;
        let temporary = temporary(self.settings.credentials.environment.get("TMPDIR").map(String::as_str));
        let undo = BootstrapUndo::new(self.place, Path::new(&temporary));
        let entry = self.context.journal.record(&self.context.build, undo.entry())?;
        let program = self.program(arguments, undo.directory())?;
        let (helper, directory) = (self.settings.helper.clone(), undo.directory().to_path_buf());
        let (layout, events) = (self.store().layout().clone(), self.context.events.clone());
        let made_by = format!("mmdebstrap {} {}", arguments.variant, arguments.suite);
        let rootfs = rootfs(&self.recipe.platform, Some("bash"), &made_by);
        let cancel = self.context.cancel.clone();
        let manifest = error::blocking(move || {
            // Of other users, whom its files belong to, the program expects that they get there.
            let made = std::fs::DirBuilder::new().mode(0o711).create(&directory);
            made.map_err(error::local("create", &directory))?;
            run(&program, &helper, &layout, &rootfs, &events, &cancel)
        });
        let manifest = manifest.await?;
        let helper = self.settings.helper.clone();
        error::blocking(move || undo.remove(&helper)).await?;
        self.context.journal.strike(entry)?;
        self.note(&key, &manifest, None)?;
        Ok(Some(manifest))
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

    /// The program, with a directory for all that it makes.
    fn program(&self, arguments: &Mmdebstrap, directory: &Path) -> Result<ProgramSpec, Failure> {
        // Not `--quiet`: apt's own words, which tell why a bootstrap failed, would be left out.
        let fixed = ["mmdebstrap", "--format=tar", "--skip=output/dev", "--skip=output/mknod"];
        let mut argv: Vec<String> = fixed.map(str::to_owned).to_vec();
        argv.push(format!("--variant={}", arguments.variant));
        if !arguments.packages.is_empty() {
            argv.push(format!("--include={}", arguments.packages.join(",")));
        }
        if !arguments.components.is_empty() {
            argv.push(format!("--components={}", arguments.components.join(",")));
        }
        let architecture = arguments.architecture.clone().or_else(|| debian_architecture(&self.recipe.platform));
        argv.extend(architecture.map(|architecture| format!("--architectures={architecture}")));
        argv.extend(arguments.keyring.as_ref().map(|keyring| format!("--keyring={keyring}")));
        argv.extend([arguments.suite.clone(), "-".to_owned()]);
        argv.extend(arguments.mirror.clone());
        let given = &self.settings.credentials.environment;
        let passed = VARIABLES.iter().filter_map(|name| given.get_key_value(*name));
        let mut environment: Vec<(String, String)> =
            passed.map(|(name, value)| (name.clone(), value.clone())).collect();
        let place = directory.to_str().ok_or_else(|| {
            let text = format!("TMPDIR is no Unicode text: {}", directory.display());
            Failure::environment(OciError::Base(text))
        })?;
        environment.push(("TMPDIR".to_owned(), place.to_owned()));
        Ok(ProgramSpec { argv, environment })
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
fn temporary(given: Option<&str>) -> String {
    if let Some(given) = given {
        return given.to_owned();
    }
    let room = rustix::fs::statvfs(MEMORY.0);
    let is_roomy = room.is_ok_and(|room| room.f_bavail.saturating_mul(room.f_frsize) >= MEMORY.1);
    if is_roomy { MEMORY.0 } else { "/tmp" }.to_owned()
}

fn run(
    program: &ProgramSpec,
    helper: &HelperProgram,
    layout: &Layout,
    rootfs: &Rootfs,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<Digest, Failure> {
    let pipe = || std::io::pipe().map_err(error::local("open", Path::new("a pipe")));
    let ((stdout, to_stdout), (stderr, to_stderr)) = (pipe()?, pipe()?);
    let running = Program::start(program, helper, to_stdout.into(), to_stderr.into());
    let mut running = running.map_err(|error| match error {
        SandboxError::Program { program, source } => {
            let is_missing = source.kind() == std::io::ErrorKind::NotFound;
            let failure = Failure::environment(OciError::Program { program, source });
            if is_missing { failure.hint("install it: `apt-get install mmdebstrap`") } else { failure }
        }
        other => error::sandbox(other),
    })?;
    let told = events.clone();
    let errors = std::thread::spawn(move || follow(BufReader::new(stderr), &told));
    let blob = layout.blob_writer().map_err(error::image)?;
    let mut writer = LayerWriter::new(blob, Compression::default());
    let mut stream = Stoppable { stream: std::fs::File::from(OwnedFd::from(stdout)), cancel };
    copy(&mut stream, &mut writer).map_err(error::local("write", layout.root()))?;
    if cancel.is_cancelled() {
        return Err(Failure::cancelled());
    }
    let status = running.wait().map_err(error::sandbox)?;
    let lines = errors.join().unwrap_or_default();
    let how = match status {
        ExitStatus::Exited(0) => None,
        ExitStatus::Exited(code) => Some(format!("exit status {code}")),
        ExitStatus::Signalled(signal) => Some(format!("signal {signal}")),
    };
    if let Some(how) = how {
        let text = format!("mmdebstrap failed ({how}): {}", cause(&lines));
        return Err(Failure::build(OciError::Base(text)));
    }
    rootfs.finish(writer, layout, None).map_err(error::image)
}

/// Why a bootstrap failed: the first mistake that the program or apt tells, since those after it follow from it.
fn cause(lines: &[String]) -> String {
    match lines.iter().find_map(|line| line.strip_prefix("E: ")) {
        Some(mistake) => mistake.to_owned(),
        None => lines.join("; "),
    }
}

/// Passes lines on, but for what tells of progress, and gives the last ones.
fn follow(stream: impl BufRead, events: &Events) -> Vec<String> {
    let mut last: Vec<String> = Vec::new();
    for line in stream.lines().map_while(Result::ok) {
        if line.starts_with("I: ") {
            continue;
        }
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

#[cfg(test)]
mod tests {
    use super::cause;

    #[test]
    fn a_failed_bootstrap_has_the_first_mistake_as_its_cause() {
        let told = |lines: &[&str]| cause(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
        let missing = [
            "Reading package lists...",
            "E: Unable to locate package nosuch",
            "E: setup failed: E: apt-get install nosuch failed",
            "E: mmdebstrap failed to run",
        ];
        assert_eq!(told(&missing), "Unable to locate package nosuch");
        assert_eq!(told(&["no perl", "here"]), "no perl; here");
    }
}
