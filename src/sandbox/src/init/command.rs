//! From a fork of ours to the guest's program.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::Guest;
use super::user::{self, Identity};
use crate::error::{SandboxError, Trying};
use crate::protocol::{ExecRequest, ScriptFile};
use crate::sys;

/// What a shell finds programs in, where nobody says otherwise; docker's.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The three files of a command.
pub(super) struct Files {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    /// All three are a terminal.
    pub(super) terminal: bool,
}

impl Files {
    /// Those that came with the request; `/dev/null` of the helper's file system where none came.
    pub(super) fn new(request: &ExecRequest, guest: &Guest, given: Vec<OwnedFd>) -> Result<Files, SandboxError> {
        let mut given = given.into_iter();
        let mut take = |there: bool| there.then(|| given.next()).flatten();
        let null = || guest.null.try_clone().trying("open /dev/null");
        let stdin = take(request.files.stdin).map_or_else(null, Ok)?;
        let stdout = take(request.files.stdout).map_or_else(null, Ok)?;
        let stderr = match take(request.files.stderr) {
            Some(stderr) => stderr,
            None => stdout.try_clone().trying("share an output")?,
        };
        Ok(Files { stdin, stdout, stderr, terminal: false })
    }

    /// A terminal.
    pub(super) fn terminal(terminal: OwnedFd) -> Result<Files, SandboxError> {
        let clone = || terminal.try_clone().trying("use the terminal");
        Ok(Files { stdin: clone()?, stdout: clone()?, stderr: terminal, terminal: true })
    }
}

/// Becomes the command; returns only why that failed. `report` stays open until the program runs.
pub(super) fn become_command(
    request: &ExecRequest,
    guest: &Guest,
    files: Files,
    report: BorrowedFd<'_>,
) -> SandboxError {
    sys::reset_signals();
    let dressed = arrange(files, report).and_then(|()| dress(request, guest)).and_then(|program| {
        request.script.as_ref().map_or(Ok(()), store)?;
        Ok(program)
    });
    match dressed {
        Ok(program) => program.execute(request.script.is_some()),
        Err(error) => error,
    }
}

/// Puts files 0 to 2 in place and closes all others but the way to report, which goes when the program runs.
fn arrange(files: Files, report: BorrowedFd<'_>) -> Result<(), SandboxError> {
    rustix::process::setsid().trying("start a session")?;
    if files.terminal {
        rustix::process::ioctl_tiocsctty(&files.stdin).trying("take the terminal")?;
    }
    rustix::stdio::dup2_stdin(&files.stdin).trying("take the input")?;
    rustix::stdio::dup2_stdout(&files.stdout).trying("take the output")?;
    rustix::stdio::dup2_stderr(&files.stderr).trying("take the output")?;
    drop(files);
    // From here on a path like /proc/self/fd/7 leads nowhere: nothing of ours is open but what the command may have.
    sys::close_all_but(report).trying("close files")
}

/// Takes on user, capabilities, filter, directory; finds the program.
fn dress(request: &ExecRequest, guest: &Guest) -> Result<Program, SandboxError> {
    let identity = user::look_up(request.user.as_deref())?;
    let environment = environment(request, guest, &identity);
    own_outputs(&identity);
    let mask = Mode::from_raw_mode(0o022);
    rustix::process::umask(mask);
    if let Some(filter) = &guest.filter {
        filter.install().trying("install the filter of system calls")?;
    }
    if let Some(capabilities) = guest.capabilities {
        capabilities.bound().trying("drop capabilities")?;
    }
    // As root first: a directory of somebody else may still be entered, as with docker.
    enter_directory(request.directory.as_deref().unwrap_or("/"))?;
    take_on(&identity, guest).trying("change the user")?;
    if let Some(capabilities) = guest.capabilities {
        capabilities.hold().trying("drop capabilities")?;
    }
    Program::find(&request.argv, environment)
}

/// Writes the script that is the command's input, with the command's rights; from then on the input is empty.
fn store(script: &ScriptFile) -> Result<(), SandboxError> {
    let write = || -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = rustix::fs::open(script.path.as_str(), flags, Mode::from_raw_mode(0o700))?;
        let mut input = std::fs::File::from(rustix::io::dup(rustix::stdio::stdin())?);
        let mut file = std::fs::File::from(file);
        let size = io::copy(&mut input, &mut file)?;
        if script.size.is_some_and(|wanted| wanted != size) {
            _ = std::fs::remove_file(&script.path);
            return Err(io::Error::other("it did not come whole"));
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o755))?;
        drop((input, file));
        rustix::stdio::dup2_stdin(&open_null()?)?;
        Ok(())
    };
    write().map_err(|source| SandboxError::Script { path: script.path.clone(), source })
}

fn take_on(identity: &Identity, guest: &Guest) -> io::Result<()> {
    if guest.single_id {
        return Ok(());
    }
    let gid = Gid::from_raw(identity.gid);
    // The own group is among them, too: else a set-group-id program would leave a group that some file is closed to.
    let mut groups = vec![gid];
    groups.extend(identity.groups.iter().filter(|group| **group != identity.gid).map(|group| Gid::from_raw(*group)));
    rustix::thread::set_thread_groups(&groups)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    let uid = Uid::from_raw(identity.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

/// A user that is not root may open `/dev/stdout` again only if it owns what is behind it.
fn own_outputs(identity: &Identity) {
    if identity.uid == 0 {
        return;
    }
    for file in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let Ok(stat) = rustix::fs::fstat(file) else { continue };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Fifo || rustix::termios::isatty(file) {
            // A pipe of a host user who is nobody in the guest stays whose it is.
            _ = rustix::fs::fchown(file, Some(Uid::from_raw(identity.uid)), None);
        }
    }
}

/// Enters it and makes sure that it is below our root: a directory that a file of another name space leads to is not.
fn enter_directory(directory: &str) -> Result<(), SandboxError> {
    let refused = |source: io::Error| SandboxError::Directory { directory: directory.to_owned(), source };
    rustix::process::chdir(directory).map_err(|error| refused(error.into()))?;
    let now = rustix::process::getcwd(Vec::new()).map_err(|error| refused(error.into()))?;
    if !now.to_bytes().starts_with(b"/") {
        return Err(refused(io::Error::other("it is outside of the guest's root")));
    }
    Ok(())
}

/// Docker's order: the defaults, the image's, the command's; the last one of a name counts.
fn environment(request: &ExecRequest, guest: &Guest, identity: &Identity) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match all.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => all.push((name.to_owned(), value.to_owned())),
    };
    set("PATH", PATH);
    set("HOSTNAME", &guest.hostname);
    if request.terminal.is_some() {
        set("TERM", "xterm");
    }
    for (name, value) in guest.environment.iter().chain(&request.environment) {
        set(name, value);
    }
    if !all.iter().any(|(name, value)| name == "HOME" && !value.is_empty()) {
        all.retain(|(name, _)| name != "HOME");
        all.push(("HOME".to_owned(), identity.home.clone()));
    }
    all
}

struct Program {
    /// As it was given, for messages.
    name: String,
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    fn find(argv: &[String], environment: Vec<(String, String)>) -> Result<Program, SandboxError> {
        let name = argv.first().cloned().unwrap_or_default();
        let refused = |source: io::Error| SandboxError::Program { program: name.clone(), source };
        let text = |text: &[u8]| CString::new(text).map_err(|error| refused(error.into()));
        let path = environment.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.as_str());
        let path = locate(&name, path.unwrap_or_default()).map_err(|error| refused(error.into()))?;
        Ok(Program {
            path: text(&path)?,
            arguments: argv.iter().map(|argument| text(argument.as_bytes())).collect::<Result<_, _>>()?,
            environment: environment
                .iter()
                .map(|(name, value)| text(format!("{name}={value}").as_bytes()))
                .collect::<Result<_, _>>()?,
            name: name.clone(),
        })
    }

    fn execute(self, is_script: bool) -> SandboxError {
        let mut source = sys::execute(&self.path, &self.arguments, &self.environment);
        if is_script && source.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) {
            // A script that names no interpreter: shells run it themselves.
            let mut arguments = vec![c"/bin/sh".to_owned(), self.path];
            arguments.extend(self.arguments.into_iter().skip(1));
            source = sys::execute(c"/bin/sh", &arguments, &self.environment);
        }
        SandboxError::Program { program: self.name, source }
    }
}

/// The program's path: the first in `PATH` that this user may run.
fn locate(name: &str, path: &str) -> Result<Vec<u8>, Errno> {
    if name.is_empty() {
        return Err(Errno::NOENT);
    }
    if name.contains('/') {
        return Ok(name.as_bytes().to_vec());
    }
    let mut found = Err(Errno::NOENT);
    for directory in path.split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        let candidate = format!("{directory}/{name}");
        match may_run(OsStr::from_bytes(candidate.as_bytes())) {
            Ok(()) => return Ok(candidate.into_bytes()),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => found = Err(error),
        }
    }
    found
}

fn may_run(candidate: &OsStr) -> Result<(), Errno> {
    let flags = rustix::fs::AtFlags::EACCESS;
    let stat = rustix::fs::stat(candidate)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::ACCESS);
    }
    rustix::fs::accessat(rustix::fs::CWD, candidate, rustix::fs::Access::EXEC_OK, flags)
}

/// `/dev/null` as this process sees it now.
pub(crate) fn open_null() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}
