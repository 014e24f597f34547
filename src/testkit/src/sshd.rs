//! A private OpenSSH server on loopback, for what has to be held against a real one.

#![expect(clippy::expect_used, reason = "a test cannot go on without its server")]

use std::fs;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::processes::{Process, signal};

/// The variable that all processes of a server's sessions bear, so that they are found and ended with it.
const MARK: &str = "KILN_TEST_SSHD";

/// `crypt(3)` of [`Sshd::PASSWORD`].
const PASSWORD_HASH: &str =
    "$6$kilntest$nzRv.udw0T0voxQneNYMpprS2VPz.ji/30IZkGWAcyB541bvbfPn4rSQ9aBur/6bjoO.UTvxADRBsmo8mlea91";

/// How long a server may take to listen.
const STARTING: Duration = Duration::from_secs(20);

/// What a server is started with.
#[derive(Debug, Clone, Default)]
pub struct SshdBuilder {
    options: Vec<String>,
    host_key_kinds: Vec<String>,
    passwords: bool,
}

impl SshdBuilder {
    /// One more line of `sshd_config`. It goes before the defaults, so that it wins over them; a `Match` block goes last.
    #[must_use]
    pub fn option(mut self, line: &str) -> SshdBuilder {
        self.options.push(line.to_owned());
        self
    }

    /// A host key of this kind, as `ssh-keygen -t` names it: `ed25519` where none is asked for, `rsa`, `ecdsa`.
    #[must_use]
    pub fn host_key(mut self, kind: &str) -> SshdBuilder {
        self.host_key_kinds.push(kind.to_owned());
        self
    }

    /// Logins by [`Sshd::PASSWORD`] too, as `root` and as the ordinary user [`Sshd::ORDINARY_USER`]. They exist in a mount
    /// name space of the server's own, which needs root: elsewhere such a test is skipped.
    #[must_use]
    pub fn passwords(mut self) -> SshdBuilder {
        self.passwords = true;
        self
    }

    /// Starts it; `None` where this host has no sshd, which is said (and fails with `KILN_TEST_REQUIRE`).
    ///
    /// # Panics
    /// When the server does not come up.
    pub fn start(self) -> Option<Sshd> {
        let Some(program) = sshd_program() else {
            skip("sshd");
            return None;
        };
        if self.passwords && !rustix::process::geteuid().is_root() {
            skip("root, for logins by password");
            return None;
        }
        Some(Sshd::launch(program, &self))
    }
}

/// A private sshd: keys and configuration in a directory of its own, on a loopback port of its own, run by the present user and
/// letting that user in with [`Sshd::user_key`]. Sessions have an empty home. Dropping it ends it and whatever its sessions started.
#[derive(Debug)]
pub struct Sshd {
    program: PathBuf,
    directory: TempDir,
    port: u16,
    daemon: Option<Child>,
    host_key_kinds: Vec<String>,
    passwords: bool,
}

impl Sshd {
    /// The password of all users of a server with [`SshdBuilder::passwords`].
    pub const PASSWORD: &'static str = "correct horse battery";

    /// The ordinary user of a server with [`SshdBuilder::passwords`]; uid and gid 7777.
    pub const ORDINARY_USER: &'static str = "kilnuser";

    /// A server with the defaults.
    pub fn start() -> Option<Sshd> {
        Sshd::builder().start()
    }

    /// A server with options.
    pub fn builder() -> SshdBuilder {
        SshdBuilder::default()
    }

    fn launch(program: PathBuf, builder: &SshdBuilder) -> Sshd {
        let mut kinds = builder.host_key_kinds.clone();
        if kinds.is_empty() {
            kinds.push("ed25519".to_owned());
        }
        let directory =
            tempfile::Builder::new().prefix("kiln-sshd-").tempdir().expect("a temporary directory can be made");
        let passwords = builder.passwords;
        let mut sshd = Sshd { program, directory, port: 0, daemon: None, host_key_kinds: kinds, passwords };
        fs::create_dir(sshd.file("home")).expect("a home can be made");
        sshd.new_host_keys();
        generate_key("ed25519", &sshd.user_key(), "user@kiln-test");
        let public = sshd.user_key().with_extension("pub");
        fs::copy(public, sshd.file("authorized_keys")).expect("the user's key can be copied");
        if passwords {
            sshd.write_accounts();
        }
        // Another process may take the port between our asking and sshd's binding.
        for _ in 0..5 {
            sshd.port = free_port();
            sshd.write_configuration(&builder.options);
            if sshd.try_run() {
                return sshd;
            }
        }
        panic!("sshd does not start:\n{}", sshd.log());
    }

    /// Where it listens.
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Who may log in with [`Sshd::user_key`]: the present user.
    pub fn user(&self) -> String {
        let output = Command::new("id").arg("-un").output().expect("id can be run");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The private key of the user, an unencrypted ed25519 key in OpenSSH's format, 0600. Its public half lies beside it as `.pub`.
    pub fn user_key(&self) -> PathBuf {
        self.file("user")
    }

    /// The public half of its first host key: `ssh-ed25519 AAAA...`, without a comment.
    pub fn host_key(&self) -> String {
        public_key(&self.host_key_file(&self.host_key_kinds[0]))
    }

    /// The public halves of all its host keys.
    pub fn host_keys(&self) -> Vec<String> {
        self.host_key_kinds.iter().map(|kind| public_key(&self.host_key_file(kind))).collect()
    }

    /// `SHA256:...` of its first host key, as `ssh-keygen -l` tells it.
    pub fn host_fingerprint(&self) -> String {
        fingerprint(&self.host_key_file(&self.host_key_kinds[0]).with_extension("pub"))
    }

    /// Lines for a `known_hosts` file.
    pub fn known_hosts(&self) -> String {
        let line = |key: &String| format!("[{}]:{} {key}\n", self.host(), self.port);
        self.host_keys().iter().map(line).collect()
    }

    /// One more key that may log in, as a line of `authorized_keys`.
    pub fn authorize(&self, line: &str) {
        let path = self.file("authorized_keys");
        let mut text = fs::read_to_string(&path).expect("authorized_keys can be read");
        text.push_str(line.trim_end());
        text.push('\n');
        fs::write(path, text).expect("authorized_keys can be written");
    }

    /// A file of its directory, for keys and sockets of a test.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// OpenSSH's client, set up to reach it, for comparisons: add a command.
    pub fn client(&self) -> Command {
        let known_hosts = self.file("known_hosts");
        fs::write(&known_hosts, self.known_hosts()).expect("known_hosts can be written");
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o"]);
        command.arg(format!("UserKnownHostsFile={}", known_hosts.display()));
        command.arg("-i").arg(self.user_key()).arg("-p").arg(self.port.to_string());
        command.arg(format!("{}@{}", self.user(), self.host()));
        command
    }

    /// The server's own processes, one or two for each connection; none once nobody is connected.
    pub fn connections(&self) -> Vec<u32> {
        let Some(daemon) = &self.daemon else { return Vec::new() };
        let mut pids = Vec::new();
        let processes = Process::all();
        let mut parents = vec![daemon.id()];
        while let Some(parent) = parents.pop() {
            let children =
                processes.iter().filter(|process| process.parent == parent && process.name.starts_with("sshd"));
            for child in children {
                pids.push(child.pid);
                parents.push(child.pid);
            }
        }
        pids
    }

    /// Processes that its sessions started and that live yet.
    pub fn started(&self) -> Vec<u32> {
        let mark = format!("{MARK}={}", self.directory.path().display());
        Process::all().iter().filter(|process| process.has_variable(&mark)).map(|process| process.pid).collect()
    }

    /// Cuts all connections: their processes are killed, the server goes on, and so do commands that ran.
    pub fn cut(&self) {
        self.connections().into_iter().for_each(|pid| signal(pid, Signal::KILL));
    }

    /// Freezes all connections: nothing comes any more, and nothing is closed.
    pub fn freeze(&self) {
        self.connections().into_iter().for_each(|pid| signal(pid, Signal::STOP));
    }

    /// Lets frozen connections go on.
    pub fn thaw(&self) {
        self.connections().into_iter().for_each(|pid| signal(pid, Signal::CONT));
    }

    /// The machine goes down: server, connections and commands are killed. Connecting is refused from now on.
    pub fn stop(&mut self) {
        let connections = self.connections();
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        connections.into_iter().for_each(|pid| signal(pid, Signal::KILL));
        self.started().into_iter().for_each(|pid| signal(pid, Signal::KILL));
    }

    /// The machine comes up again after [`Sshd::stop`], on the same port.
    ///
    /// # Panics
    /// When it does not.
    pub fn start_again(&mut self) {
        assert!(self.daemon.is_none(), "it runs");
        let started = Instant::now();
        while !self.try_run() {
            assert!(started.elapsed() < STARTING, "sshd does not start again:\n{}", self.log());
        }
    }

    /// Makes new host keys, which are shown to those who connect from the next [`Sshd::start_again`] on.
    pub fn new_host_keys(&self) {
        for kind in &self.host_key_kinds {
            let path = self.host_key_file(kind);
            let _ = fs::remove_file(&path);
            generate_key(kind, &path, "host@kiln-test");
        }
    }

    fn host_key_file(&self, kind: &str) -> PathBuf {
        self.file(&format!("host_{kind}"))
    }

    fn write_configuration(&self, options: &[String]) {
        let matched = options.iter().position(|line| line.trim_start().starts_with("Match")).unwrap_or(options.len());
        let (first, last) = options.split_at(matched);
        let directory = self.directory.path().display();
        let mut lines: Vec<String> = first.to_vec();
        lines.push(format!("ListenAddress {}:{}", self.host(), self.port));
        lines.extend(self.host_key_kinds.iter().map(|kind| format!("HostKey {directory}/host_{kind}")));
        lines.push(format!("AuthorizedKeysFile {directory}/authorized_keys"));
        lines.push(format!("PidFile {directory}/pid"));
        // What the shell of the present user reads at its start is not part of a test.
        lines.push(format!("SetEnv {MARK}={directory} HOME={directory}/home"));
        lines.push(format!("UsePAM {}", if self.passwords { "yes" } else { "no" }));
        lines.push(format!("PasswordAuthentication {}", if self.passwords { "yes" } else { "no" }));
        lines.push(format!("KbdInteractiveAuthentication {}", if self.passwords { "yes" } else { "no" }));
        lines.extend(
            [
                "PermitRootLogin yes",
                "StrictModes no",
                "UseDNS no",
                "PrintMotd no",
                "PrintLastLog no",
                "LogLevel VERBOSE",
                "MaxStartups 100",
                "Subsystem sftp internal-sftp",
            ]
            .map(str::to_owned),
        );
        lines.extend(last.iter().cloned());
        fs::write(self.file("config"), lines.join("\n") + "\n").expect("sshd_config can be written");
    }

    /// Accounts for the server's own mount name space: this host's, with other passwords, and one ordinary user.
    fn write_accounts(&self) {
        let user = Sshd::ORDINARY_USER;
        let home = self.file("home");
        std::os::unix::fs::chown(&home, Some(7777), Some(7777)).expect("a home can be given away");
        // Others have to get through to the home.
        fs::set_permissions(self.directory.path(), fs::Permissions::from_mode(0o711)).expect("a mode can be set");
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let passwd = format!("{}{user}:x:7777:7777::{}:/bin/sh\n", read("/etc/passwd"), home.display());
        let others = read("/etc/shadow");
        let others: String =
            others.lines().filter(|line| !line.starts_with("root:")).map(|line| format!("{line}\n")).collect();
        let shadow =
            format!("root:{PASSWORD_HASH}:19000:0:99999:7:::\n{others}{user}:{PASSWORD_HASH}:19000:0:99999:7:::\n");
        let group = format!("{}{user}:x:7777:\n", read("/etc/group"));
        let pam = "auth required pam_unix.so\naccount required pam_permit.so\nsession required pam_permit.so\n";
        for (name, text) in [("passwd", &*passwd), ("shadow", &shadow), ("group", &group), ("pam", pam)] {
            fs::write(self.file(name), text).expect("accounts can be written");
        }
    }

    /// Starts the server; `false` where it ended again instead of listening.
    fn try_run(&mut self) -> bool {
        let log = self.file("log");
        let mut command = if self.passwords {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "/bin/sh", "-ec"]);
            command.arg(
                "d=$1; shift; for f in passwd shadow group; do mount --bind \"$d/$f\" /etc/$f; done
                mount --bind \"$d/pam\" /etc/pam.d/sshd; exec \"$@\"",
            );
            command.arg("sh").arg(self.directory.path()).arg(&self.program);
            command
        } else {
            Command::new(&self.program)
        };
        if rustix::process::geteuid().is_root() {
            // sshd wants it; an init script makes it elsewhere.
            fs::create_dir_all("/run/sshd").expect("/run/sshd can be made");
        }
        command.arg("-D").arg("-f").arg(self.file("config")).arg("-E").arg(&log);
        let mut daemon = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("sshd can be started");
        let started = Instant::now();
        while !shows_banner(self.address()) {
            if daemon.try_wait().expect("sshd can be waited for").is_some() {
                return false;
            }
            assert!(started.elapsed() < STARTING, "sshd does not listen:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        self.daemon = Some(daemon);
        true
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Makes a key pair without a passphrase with OpenSSH's own tool; the public half lies beside it as `.pub`.
///
/// # Panics
/// When `ssh-keygen` fails.
pub fn generate_key(kind: &str, path: &Path, comment: &str) {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-N", "", "-C", comment, "-t", kind, "-f"])
        .arg(path)
        .stdin(Stdio::null())
        .status()
        .expect("ssh-keygen can be run");
    assert!(status.success(), "ssh-keygen -t {kind} failed");
}

/// The public half of a key file, without its comment.
fn public_key(private: &Path) -> String {
    let text = fs::read_to_string(private.with_extension("pub")).expect("a public key can be read");
    text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// `SHA256:...` of a public key's file.
fn fingerprint(public: &Path) -> String {
    let output = Command::new("ssh-keygen").arg("-lf").arg(public).output().expect("ssh-keygen can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().nth(1).expect("ssh-keygen tells a fingerprint").to_owned()
}

fn sshd_program() -> Option<PathBuf> {
    // sshd starts itself anew by its absolute path.
    let directories = ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/sbin"];
    directories.iter().map(|directory| Path::new(directory).join("sshd")).find(|path| path.is_file())
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port can be had");
    listener.local_addr().expect("a listener has an address").port()
}

fn shows_banner(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { return false };
    let mut banner = [0; 4];
    stream.set_read_timeout(Some(Duration::from_secs(5))).is_ok()
        && stream.read_exact(&mut banner).is_ok()
        && &banner == b"SSH-"
}

#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn skip(what: &str) {
    assert!(std::env::var_os("KILN_TEST_REQUIRE").is_none(), "this test needs {what}");
    eprintln!("SKIPPED: this test needs {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs OpenSSH's client and gives what it printed.
    fn run(sshd: &Sshd, command: &str) -> (Option<i32>, String) {
        let output = sshd.client().arg(command).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    }

    #[test]
    fn it_lets_the_user_in_and_comes_back_on_the_same_port() {
        let Some(mut sshd) = Sshd::builder().host_key("ed25519").host_key("ecdsa").start() else { return };
        assert_eq!(run(&sshd, "echo here; exit 3"), (Some(3), "here\n".to_owned()));
        let before = sshd.host_fingerprint();
        assert!(before.starts_with("SHA256:"), "{before}");
        assert_eq!(sshd.host_keys().len(), 2);

        sshd.stop();
        assert_eq!(run(&sshd, "true").0, Some(255));
        sshd.new_host_keys();
        sshd.start_again();
        assert_ne!(sshd.host_fingerprint(), before);
        assert_eq!(run(&sshd, "true"), (Some(0), String::new()));
    }

    #[test]
    fn connections_are_cut_and_what_they_started_is_ended_with_the_server() {
        let Some(mut sshd) = Sshd::start() else { return };
        let mut client = sshd.client().arg("echo up; exec sleep 1000").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = [0; 3];
        client.stdout.take().unwrap().read_exact(&mut line).unwrap();
        assert!(!sshd.connections().is_empty());
        assert_eq!(sshd.started().len(), 1);
        sshd.cut();
        assert_eq!(client.wait().unwrap().code(), Some(255));
        assert_eq!(sshd.started().len(), 1, "the command outlives the connection");
        sshd.stop();
        let stopped = Instant::now();
        while !sshd.started().is_empty() {
            assert!(stopped.elapsed() < Duration::from_secs(5), "still there");
        }
    }

    #[test]
    fn users_with_passwords_are_there_for_the_server_alone() {
        let Some(sshd) = Sshd::builder().passwords().start() else { return };
        let ask = sshd.file("ask");
        fs::write(&ask, format!("#!/bin/sh\necho '{}'\n", Sshd::PASSWORD)).unwrap();
        fs::set_permissions(&ask, fs::Permissions::from_mode(0o755)).unwrap();
        for method in ["password", "keyboard-interactive"] {
            let output = Command::new("ssh")
                .args(["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o"])
                .arg(format!("PreferredAuthentications={method}"))
                .arg("-p")
                .arg(sshd.port().to_string())
                .arg(format!("{}@{}", Sshd::ORDINARY_USER, sshd.host()))
                .arg("id -u; pwd")
                .env("SSH_ASKPASS", &ask)
                .env("SSH_ASKPASS_REQUIRE", "force")
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let expected = format!("7777\n{}\n", sshd.file("home").display());
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{method}: {error}{}", sshd.log());
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        assert!(!passwd.contains(Sshd::ORDINARY_USER));
    }
}
