//! The communicator on a real sshd.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kiln_core::communicator::{CaptureSink, NullSink};
use kiln_core::{Secret, Stream};
use kiln_testkit::Sshd;

use super::*;
use crate::session::{Login, LoginMethod, SessionSettings};

/// Logs in with the user's key, and looks at no host key.
struct Plain {
    address: std::net::SocketAddr,
    user: String,
    key: PathBuf,
}

#[async_trait]
impl Connector for Plain {
    async fn connect(&self) -> Result<Session, SshError> {
        let stream = tokio::net::TcpStream::connect(self.address).await;
        let stream = stream.map_err(|error| SshError::Lost(error.to_string()))?;
        stream.set_nodelay(true).unwrap();
        let settings = SessionSettings {
            keep_alive: Some(Duration::from_secs(2)),
            dead_after: Duration::from_secs(5),
            ..SessionSettings::default()
        };
        let session = Session::handshake(OwnedFd::from(stream.into_std().unwrap()), settings).await?;
        let private = Secret::new(std::fs::read_to_string(&self.key).unwrap());
        let method = LoginMethod::PrivateKey { private, certificate: None, passphrase: None };
        assert_eq!(session.login(&self.user, method).await?, Login::Done);
        Ok(session)
    }

    async fn access(&self) -> Result<Option<SshAccess>, SshError> {
        Ok(None)
    }
}

fn machine(sshd: &Sshd, habits: Habits) -> SshCommunicator {
    let connector = Plain { address: sshd.address(), user: sshd.user(), key: sshd.user_key() };
    let events = kiln_testkit::context().build().context.events.clone();
    SshCommunicator::new(Arc::new(connector), habits, events)
}

async fn run(machine: &SshCommunicator, command: &Command) -> (ExitStatus, String, String) {
    let mut sink = CaptureSink::default();
    let status = machine.exec(command, &mut sink).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status, text(sink.stdout), text(sink.stderr))
}

fn script(root: &Path, text: &str) -> Script {
    let path = root.join("kiln script's.sh").display().to_string();
    Script { path, content: Stdin::Bytes(Bytes::from(text.to_owned())), stays: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_behind_ssh_conforms() {
    let Some(sshd) = Sshd::start() else { return };
    let root = tempfile::tempdir().unwrap();
    kiln_transport::conformance::check(&machine(&sshd, Habits::default()), &root.path().display().to_string()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_with_sftp_alone_conforms() {
    let Some(sshd) = Sshd::start() else { return };
    let root = tempfile::tempdir().unwrap();
    let habits = Habits { transfer: Transfer::Sftp, ..Habits::default() };
    kiln_transport::conformance::check(&machine(&sshd, habits), &root.path().display().to_string()).await;
}

/// A directory with these of this host's programs and no others.
fn programs(names: &[&str]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in names {
        let found =
            ["/bin", "/usr/bin"].map(|place| Path::new(place).join(name)).into_iter().find(|path| path.exists());
        std::os::unix::fs::symlink(found.unwrap(), directory.path().join(name)).unwrap();
    }
    directory
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_tar_takes_trees_by_sftp() {
    let bin = programs(&["sh", "cat", "chmod", "mkdir", "wc", "stat"]);
    let option = format!("SetEnv PATH={}", bin.path().display());
    let Some(sshd) = Sshd::builder().option(&option).start() else { return };
    let machine = machine(&sshd, Habits::default());
    let (_, stdout, _) = run(&machine, &Command::shell("command -v tar || echo none")).await;
    assert_eq!(stdout, "none\n");
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("tree");
    std::fs::create_dir_all(path.join("sub")).unwrap();
    std::fs::write(path.join("sub/file"), vec![b'x'; 3_000_000]).unwrap();
    std::os::unix::fs::symlink("sub/file", path.join("link")).unwrap();
    let there = root.path().join("there").display().to_string();
    machine.upload(&Payload::Directory { path: path.clone(), contents_only: false }, &there).await.unwrap();
    let back = root.path().join("back");
    assert_eq!(machine.download(&format!("{there}/tree"), &back).await.unwrap(), Downloaded::Directory);
    assert_eq!(std::fs::read(back.join("tree/sub/file")).unwrap(), vec![b'x'; 3_000_000]);
    assert_eq!(std::fs::read_link(back.join("tree/link")).unwrap(), Path::new("sub/file"));
    // Once more over what is there.
    machine.upload(&Payload::Directory { path, contents_only: false }, &there).await.unwrap();
}

#[tokio::test]
async fn a_script_is_stored_run_and_removed_and_its_end_is_told() {
    let Some(sshd) = Sshd::start() else { return };
    let machine = machine(&sshd, Habits::default());
    let root = tempfile::tempdir().unwrap();
    let text = "#!/bin/sh\nstat -c %a \"$0\"; pwd; echo \"$A\"; cat; echo err >&2; exit $CODE\n";
    for code in [0, 3, 125] {
        let mut command = Command { directory: Some("/usr".into()), ..Command::default() };
        command.environment =
            vec![("A".into(), "x\ny".into()), ("CODE".into(), code.to_string()), ("PATH".into(), "/bin".into())];
        let mut sink = CaptureSink::default();
        let ran = machine.run_script(&script(root.path(), text), &command, &mut sink).await.unwrap();
        assert!(matches!(ran, ScriptRun::Ended(ExitStatus::Exited(status)) if status == code), "{ran:?}");
        assert_eq!(String::from_utf8(sink.stdout).unwrap(), "755\n/usr\nx\ny\n");
        assert_eq!(String::from_utf8(sink.stderr).unwrap(), "err\n");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }
    // Without an interpreter, killed, and one that stays.
    let mut sink = CaptureSink::default();
    let stays = Script { stays: true, ..script(root.path(), "echo plain; kill -9 $$\n") };
    let ran = machine.run_script(&stays, &Command::default(), &mut sink).await.unwrap();
    assert!(matches!(ran, ScriptRun::Ended(status) if status.code() == 137), "{ran:?}");
    assert_eq!(String::from_utf8(sink.stdout).unwrap(), "plain\n");
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    let nowhere = Script { path: "/nowhere/at/all".into(), ..stays };
    let ran = machine.run_script(&nowhere, &Command::default(), &mut NullSink).await.unwrap();
    assert!(matches!(&ran, ScriptRun::NotStored(why) if why.contains("/nowhere/at/all")), "{ran:?}");
}

#[tokio::test]
async fn a_script_that_comes_in_part_is_not_run() {
    let Some(sshd) = Sshd::start() else { return };
    let machine = machine(&sshd, Habits::default());
    let root = tempfile::tempdir().unwrap();
    let ran = root.path().join("ran");
    // It says that it is longer than what comes.
    let whole = Source::Bytes(Bytes::from(vec![b'#'; 2000]));
    let shell = format!("{}exec true", super::script::store("/tmp/kiln-test-part.sh", &whole, "started"));
    let header = command::header(&Command::default(), &shell).unwrap();
    let source = Source::Bytes(Bytes::from(format!("touch {}\n", ran.display())));
    let mut sink = CaptureSink::default();
    let status = machine.link.run(machine.request(), "1.".into(), header, source, &mut sink).await.unwrap();
    assert_eq!(status, ExitStatus::Exited(125));
    assert!(sink.stderr.is_empty() && !ran.exists());
    std::fs::remove_file("/tmp/kiln-test-part.sh").unwrap();
}

#[tokio::test]
async fn signals_and_lost_connections_are_told_apart() {
    let Some(sshd) = Sshd::start() else { return };
    let machine = machine(&sshd, Habits::default());
    let (status, ..) = run(&machine, &Command::shell("kill -15 $$")).await;
    assert_eq!(status, ExitStatus::Signalled(15));
    let cut = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        sshd.cut();
    };
    let command = Command::shell("sleep 60");
    let mut sink = NullSink;
    let (ended, ()) = tokio::join!(machine.exec(&command, &mut sink), cut);
    assert!(matches!(ended, Err(CommunicatorError::Disconnected(_))), "{ended:?}");
    // The next one connects again.
    assert_eq!(run(&machine, &Command::shell("echo again")).await.1, "again\n");
    let root = tempfile::tempdir().unwrap();
    let cut = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        sshd.cut();
    };
    let script = script(root.path(), "echo up; sleep 60\n");
    let command = Command::default();
    let (ended, ()) = tokio::join!(machine.run_script(&script, &command, &mut sink), cut);
    assert!(matches!(ended, Ok(ScriptRun::Lost(CommunicatorError::Disconnected(_)))), "{ended:?}");
}

#[tokio::test]
async fn a_machine_that_restarts_is_reached_again() {
    let Some(mut sshd) = Sshd::start() else { return };
    let machine = machine(&sshd, Habits::default());
    assert_eq!(run(&machine, &Command::shell("echo 1")).await.1, "1\n");
    sshd.stop();
    let error = machine.exec(&Command::shell("true"), &mut NullSink).await.unwrap_err();
    assert!(matches!(error, CommunicatorError::Disconnected(_)), "{error:?}");
    sshd.start_again();
    assert_eq!(run(&machine, &Command::shell("echo 2")).await.1, "2\n");
}

#[tokio::test]
async fn a_frozen_machine_is_a_lost_one() {
    let Some(sshd) = Sshd::start() else { return };
    let machine = machine(&sshd, Habits::default());
    assert_eq!(run(&machine, &Command::shell("echo 1")).await.1, "1\n");
    sshd.freeze();
    let since = Instant::now();
    let error = machine.exec(&Command::shell("true"), &mut NullSink).await.unwrap_err();
    assert!(matches!(error, CommunicatorError::Disconnected(_)), "{error:?}");
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert!(why.contains("nothing came from the machine for 5.0s"), "{why}");
    assert!(since.elapsed() < Duration::from_secs(10));
    sshd.thaw();
    assert_eq!(run(&machine, &Command::shell("echo 2")).await.1, "2\n");
}

/// All command lines and environments that are not this process's own, as other users see them.
fn command_lines() -> String {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ") + "\n").collect()
}

#[tokio::test]
async fn secrets_stand_on_no_command_line() {
    let Some(sshd) = Sshd::start() else { return };
    for pty in [false, true] {
        let machine = machine(&sshd, Habits { pty, ..Habits::default() });
        let mut command = Command::shell("echo \"$TOKEN\"; sleep 2");
        // Put together here, so that the name of this test's own process does not hold it.
        let secret = format!("hidden-{}-{pty}", std::process::id());
        command.environment = vec![("TOKEN".into(), secret.clone())];
        struct Look(String, bool);
        impl OutputSink for Look {
            fn write(&mut self, _: Stream, chunk: &[u8]) {
                self.0.push_str(&String::from_utf8_lossy(chunk));
                if self.0.contains('\n') && !self.1 {
                    self.1 = true;
                    let lines = command_lines();
                    assert!(lines.contains("sleep 2") && !lines.contains("hidden-"), "{lines}");
                }
            }
        }
        let mut look = Look(String::new(), false);
        let status = machine.exec(&command, &mut look).await.unwrap();
        assert!(status.is_success(), "{status:?}: {}", look.0);
        assert!(look.1 && look.0.trim_end() == secret, "{:?}", look.0);
    }
}

#[tokio::test]
async fn a_terminal_is_a_terminal_and_a_person_sits_at_it() {
    let Some(sshd) = Sshd::start() else { return };
    let machine = machine(&sshd, Habits { pty: true, ..Habits::default() });
    let (status, stdout, _) = run(&machine, &Command::shell("test -t 0 && test -t 1 && stty size; exit 4")).await;
    assert_eq!((status, stdout.trim_end()), (ExitStatus::Exited(4), "40 80"));
    let with_input = Command { stdin: Stdin::Bytes("x".into()), ..Command::shell("test -t 0 || cat") };
    assert_eq!(run(&machine, &with_input).await.1, "x");
    let (ours, theirs) = tokio::io::duplex(4096);
    let (output, input) = tokio::io::split(theirs);
    let (mut screen, mut keyboard) = tokio::io::split(ours);
    let (resized, size) = tokio::sync::watch::channel((100, 30));
    let terminal = Terminal { input: Box::new(output), output: Box::new(input), size };
    let script = "read line; echo \"<$line> $(stty size)\"; read line; stty size; exit 6";
    let command = Command::shell(script);
    let person = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        keyboard.write_all(b"hello\n").await.unwrap();
        let mut seen = String::new();
        while !seen.contains("30 100") {
            let mut piece = [0; 256];
            let length = screen.read(&mut piece).await.unwrap();
            seen.push_str(&String::from_utf8_lossy(&piece[..length]));
        }
        resized.send((120, 50)).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        keyboard.write_all(b"\n").await.unwrap();
        while !seen.contains("50 120") {
            let mut piece = [0; 256];
            let length = screen.read(&mut piece).await.unwrap();
            seen.push_str(&String::from_utf8_lossy(&piece[..length]));
        }
        seen
    };
    let (status, seen) = tokio::join!(machine.interact(&command, terminal), person);
    assert_eq!(status.unwrap(), ExitStatus::Exited(6));
    assert!(seen.contains("<hello> 30 100"), "{seen}");
}

#[tokio::test]
async fn what_was_dropped_is_ended_and_nothing_else() {
    let Some(sshd) = Sshd::start() else { return };
    let machine = machine(&sshd, Habits::default());
    // No other run of this test has the same.
    let sleep = |seconds: u32| format!("sleep {seconds}.{}", std::process::id());
    let stays = Command::shell(format!("{} & wait; echo never", sleep(61)));
    let mut kept = NullSink;
    let stays = machine.exec(&stays, &mut kept);
    tokio::pin!(stays);
    let goes = Command::shell(format!("trap '' HUP PIPE TERM; (env -i {}); {}", sleep(62), sleep(63)));
    let lives = |seconds| command_lines().lines().any(|line| line.trim_end() == sleep(seconds));
    let both_live = async {
        while !(lives(61) && lives(62)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let mut sink = NullSink;
    tokio::select! {
        _ = &mut stays => panic!("it ended"),
        _ = machine.exec(&goes, &mut sink) => panic!("it ended"),
        () = both_live => {}
    }
    machine.end_dropped().await.unwrap();
    assert!(lives(61) && !lives(62) && !lives(63));
}
