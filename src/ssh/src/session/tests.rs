//! Sessions on a real sshd.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kiln_core::{Secret, Stream};
use kiln_testkit::{SshAgent, Sshd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn settings() -> SessionSettings {
    SessionSettings {
        handshake_timeout: Duration::from_secs(20),
        keep_alive: Some(Duration::from_secs(2)),
        dead_after: Duration::from_secs(5),
        ..SessionSettings::default()
    }
}

async fn shake_hands(sshd: &Sshd, settings: SessionSettings) -> Result<Session, SshError> {
    let stream = tokio::net::TcpStream::connect(sshd.address()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    Session::handshake(OwnedFd::from(stream.into_std().unwrap()), settings).await
}

fn key(sshd: &Sshd) -> LoginMethod {
    let private = Secret::new(std::fs::read_to_string(sshd.user_key()).unwrap());
    LoginMethod::PrivateKey { private, certificate: None, passphrase: None }
}

async fn connect(sshd: &Sshd) -> Session {
    let session = shake_hands(sshd, settings()).await.unwrap();
    assert_eq!(session.login(&sshd.user(), key(sshd)).await.unwrap(), Login::Done);
    session
}

/// Output, errors and end of what runs in a channel.
async fn collect(channel: &mut Channel) -> (Vec<u8>, Vec<u8>, Ending) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        match channel.next().await.unwrap() {
            ChannelEvent::Output(Stream::Stdout, chunk) => stdout.extend_from_slice(&chunk),
            ChannelEvent::Output(Stream::Stderr, chunk) => stderr.extend_from_slice(&chunk),
            ChannelEvent::OutputEnded => {}
            ChannelEvent::Ended(ending) => return (stdout, stderr, ending),
        }
    }
}

async fn run(session: &Session, line: &str) -> (Vec<u8>, Vec<u8>, Ending) {
    collect(&mut session.exec(ExecRequest::command(line)).await.unwrap()).await
}

#[tokio::test]
async fn commands_tell_their_output_and_their_end() {
    let Some(sshd) = Sshd::start() else { return };
    let session = connect(&sshd).await;
    assert_eq!(session.host_key().to_openssh(), sshd.host_key());
    for code in [0, 3, 255] {
        let (stdout, stderr, ending) = run(&session, &format!("echo out; echo err >&2; exit {code}")).await;
        assert_eq!((stdout.as_slice(), stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
        assert!(matches!(ending, Ending::Exited(status) if status == code), "{ending:?}");
    }
    let (_, _, ending) = run(&session, "kill -9 $$").await;
    assert!(matches!(&ending, Ending::Signalled(name) if name == "KILL"), "{ending:?}");
    session.close().await;
    assert!(session.closed().is_some());
    assert!(session.exec(ExecRequest::command("true")).await.is_err());
}

#[tokio::test]
async fn input_goes_both_ways_at_once_and_ends() {
    let Some(sshd) = Sshd::start() else { return };
    let session = connect(&sshd).await;
    let mut channel = session.exec(ExecRequest::command("cat")).await.unwrap();
    let input = channel.input().unwrap();
    const PIECES: usize = 200;
    let feed = tokio::spawn(async move {
        for piece in 0..PIECES {
            input.send(Bytes::from(vec![piece as u8; 100_000])).await.unwrap();
        }
        input.finish().await.unwrap();
    });
    let (stdout, _, ending) = collect(&mut channel).await;
    feed.await.unwrap();
    assert!(matches!(ending, Ending::Exited(0)));
    assert_eq!(stdout.len(), PIECES * 100_000);
    assert!(stdout.chunks(100_000).enumerate().all(|(piece, chunk)| chunk.iter().all(|byte| *byte == piece as u8)));
}

#[tokio::test]
async fn a_flood_of_errors_does_not_stop_input() {
    let Some(sshd) = Sshd::start() else { return };
    let session = connect(&sshd).await;
    let line = "head -c 20000000 /dev/zero >&2; wc -c";
    let mut channel = session.exec(ExecRequest::command(line)).await.unwrap();
    let input = channel.input().unwrap();
    let feed = tokio::spawn(async move {
        for _ in 0..80 {
            input.send(Bytes::from(vec![b'x'; 250_000])).await.unwrap();
        }
        input.finish().await.unwrap();
    });
    let (stdout, stderr, _) = collect(&mut channel).await;
    feed.await.unwrap();
    assert_eq!(stderr.len(), 20_000_000);
    assert_eq!(String::from_utf8(stdout).unwrap().trim(), "20000000");
}

#[tokio::test]
async fn a_channel_that_nobody_reads_does_not_stop_the_others() {
    let Some(sshd) = Sshd::start() else { return };
    let session = connect(&sshd).await;
    let mut flood = session.exec(ExecRequest::command("head -c 50000000 /dev/zero")).await.unwrap();
    assert!(matches!(flood.next().await, Some(ChannelEvent::Output(..))));
    for _ in 0..5 {
        assert!(matches!(run(&session, "head -c 5000000 /dev/zero | wc -c").await.2, Ending::Exited(0)));
    }
    let mut commands = Vec::new();
    for index in 0..8 {
        let session = session.clone();
        commands.push(tokio::spawn(async move { run(&session, &format!("sleep 0.2; echo {index}")).await.0 }));
    }
    for (index, command) in commands.into_iter().enumerate() {
        assert_eq!(command.await.unwrap(), format!("{index}\n").into_bytes());
    }
    let (rest, _, ending) = collect(&mut flood).await;
    assert!(rest.len() > 40_000_000, "{}", rest.len());
    assert!(matches!(ending, Ending::Exited(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_short_commands_run_at_once() {
    let Some(sshd) = Sshd::start() else { return };
    let session = connect(&sshd).await;
    let commands = (0..8).map(|index| {
        let session = session.clone();
        tokio::spawn(async move {
            for round in 0..40 {
                let (stdout, _, ending) = run(&session, &format!("echo {index}.{round}")).await;
                assert!(matches!(ending, Ending::Exited(0)), "{index}.{round}: {ending:?}");
                assert_eq!(stdout, format!("{index}.{round}\n").into_bytes());
            }
        })
    });
    for command in commands.collect::<Vec<_>>() {
        command.await.unwrap();
    }
}

#[tokio::test]
async fn what_one_channel_takes_from_the_socket_for_another_one_is_not_forgotten() {
    let Some(sshd) = Sshd::start() else { return };
    // Nothing else wakes the session's thread, which reads for a spare channel too.
    let session = shake_hands(&sshd, SessionSettings { keep_alive: None, ..settings() }).await.unwrap();
    assert_eq!(session.login(&sshd.user(), key(&sshd)).await.unwrap(), Login::Done);
    let mut channel = session.exec(ExecRequest::command("while read line; do echo $line; done")).await.unwrap();
    let input = channel.input().unwrap();
    for number in 0..20_000 {
        input.send(Bytes::from_static(b"x\n")).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(20), channel.next()).await;
        assert!(matches!(answer, Ok(Some(ChannelEvent::Output(..)))), "line {number} stays away: {answer:?}");
    }
}

#[tokio::test]
async fn keys_are_renewed_under_way() {
    let Some(sshd) = Sshd::builder().option("RekeyLimit 1M").start() else { return };
    let session = connect(&sshd).await;
    let mut channel = session.exec(ExecRequest::command("cat")).await.unwrap();
    let input = channel.input().unwrap();
    let feed = tokio::spawn(async move {
        for _ in 0..100 {
            input.send(Bytes::from(vec![7; 300_000])).await.unwrap();
        }
        input.finish().await.unwrap();
    });
    let (stdout, _, ending) = collect(&mut channel).await;
    feed.await.unwrap();
    assert!(matches!(ending, Ending::Exited(0)), "{ending:?}");
    assert_eq!(stdout.len(), 30_000_000);
    assert!(stdout.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn a_lost_connection_is_no_success_and_what_came_before_is_told() {
    let Some(sshd) = Sshd::start() else { return };
    let session = connect(&sshd).await;
    let mut channel = session.exec(ExecRequest::command("echo before; sleep 60")).await.unwrap();
    assert!(matches!(channel.next().await, Some(ChannelEvent::Output(Stream::Stdout, chunk)) if chunk == "before\n"));
    let cut_at = Instant::now();
    sshd.cut();
    let (_, _, ending) = collect(&mut channel).await;
    assert!(matches!(&ending, Ending::Failed(SshError::Lost(_))), "{ending:?}");
    assert!(cut_at.elapsed() < Duration::from_secs(2));
    assert!(matches!(session.closed(), Some(SshError::Lost(_))));
    assert!(matches!(session.exec(ExecRequest::command("true")).await, Err(SshError::Lost(_))));
}

#[tokio::test]
async fn a_frozen_peer_is_noticed() {
    let Some(sshd) = Sshd::start() else { return };
    let session = connect(&sshd).await;
    // Silent for longer than the limit, but alive.
    let mut channel = session.exec(ExecRequest::command("sleep 7; echo done; sleep 60")).await.unwrap();
    assert!(matches!(channel.next().await, Some(ChannelEvent::Output(Stream::Stdout, chunk)) if chunk == "done\n"));
    sshd.freeze();
    let frozen_at = Instant::now();
    let (_, _, ending) = collect(&mut channel).await;
    assert!(matches!(&ending, Ending::Failed(SshError::Silent(_))), "{ending:?}");
    assert!((4..9).contains(&frozen_at.elapsed().as_secs()), "{:?}", frozen_at.elapsed());
    sshd.thaw();
}

#[tokio::test]
async fn an_idle_session_answers_and_sees_the_end() {
    let option = ["ClientAliveInterval 1", "ClientAliveCountMax 2"];
    let Some(sshd) = Sshd::builder().option(option[0]).option(option[1]).start() else { return };
    let session = connect(&sshd).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(session.closed().is_none(), "{:?}", session.closed());
    assert!(matches!(run(&session, "exit 4").await.2, Ending::Exited(4)));
    sshd.cut();
    for _ in 0..200 {
        if session.closed().is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the end was not seen");
}

#[tokio::test]
async fn one_channel_at_a_time_is_enough() {
    let Some(sshd) = Sshd::builder().option("MaxSessions 1").start() else { return };
    let session = connect(&sshd).await;
    for code in 0..5 {
        assert!(matches!(run(&session, &format!("exit {code}")).await.2, Ending::Exited(status) if status == code));
    }
    let mut first = session.exec(ExecRequest::command("sleep 1; echo first")).await.unwrap();
    let (_, _, ending) = run(&session, "true").await;
    assert!(matches!(&ending, Ending::Failed(SshError::Refused { .. })), "{ending:?}");
    assert_eq!(collect(&mut first).await.0, b"first\n");
    assert!(matches!(run(&session, "exit 7").await.2, Ending::Exited(7)));
}

#[tokio::test]
async fn logins_are_refused_with_what_is_offered() {
    let Some(sshd) = Sshd::start() else { return };
    let session = shake_hands(&sshd, settings()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("other");
    kiln_testkit::generate_key("ed25519", &other, "other");
    let private = Secret::new(std::fs::read_to_string(&other).unwrap());
    let method = LoginMethod::PrivateKey { private, certificate: None, passphrase: None };
    let Login::Refused(offered) = session.login(&sshd.user(), method).await.unwrap() else { panic!() };
    assert!(offered.contains(&"publickey".to_owned()), "{offered:?}");
    let broken = LoginMethod::PrivateKey { private: Secret::new("nonsense"), certificate: None, passphrase: None };
    let error = session.login(&sshd.user(), broken).await.unwrap_err();
    assert!(matches!(&error, SshError::Unusable { .. }), "{error}");
    assert_eq!(session.login(&sshd.user(), key(&sshd)).await.unwrap(), Login::Done);
}

#[tokio::test]
async fn what_is_no_ssh_server_is_told_in_time() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let short = SessionSettings { handshake_timeout: Duration::from_millis(300), ..settings() };
    let error = Session::handshake(ours.into(), short).await.unwrap_err();
    assert!(matches!(error, SshError::HandshakeTimeout(_)), "{error}");
    drop(theirs);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(theirs);
    let error = Session::handshake(ours.into(), settings()).await.unwrap_err();
    assert!(matches!(error, SshError::Handshake(_)), "{error}");
}

#[tokio::test]
async fn streams_go_through_the_peer() {
    let Some(sshd) = Sshd::start() else { return };
    let session = connect(&sshd).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let echo = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        stream.write_all(text.to_uppercase().as_bytes()).await.unwrap();
    });
    let mut stream = session.open_direct("127.0.0.1", port).await.unwrap();
    stream.write_all(b"through").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "THROUGH");
    echo.await.unwrap();
    let error = session.open_direct("127.0.0.1", port).await.unwrap_err();
    assert!(matches!(&error, SshError::Refused { .. }), "{error}");
    // The other way round.
    let mut listener = session.listen("127.0.0.1", 0).await.unwrap();
    let mut outside = tokio::net::TcpStream::connect(("127.0.0.1", listener.port())).await.unwrap();
    let mut inside = listener.accept().await.unwrap();
    inside.write_all(b"hello").await.unwrap();
    let mut word = [0; 5];
    outside.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"hello");
}

#[tokio::test]
async fn an_answer_after_a_half_close_is_not_lost() {
    let Some(sshd) = Sshd::start() else { return };
    let session = connect(&sshd).await;
    let mut listener = session.listen("127.0.0.1", 0).await.unwrap();
    let port = listener.port();
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let serve = tokio::spawn(async move {
        loop {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut asked = Vec::new();
            stream.read_to_end(&mut asked).await.unwrap();
            stream.write_all(&vec![b'a'; 100_000]).await.unwrap();
        }
    });
    let forward = tokio::spawn(async move {
        while let Some(mut stream) = listener.accept().await {
            let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
            tokio::io::copy_bidirectional(&mut stream, &mut socket).await.unwrap();
        }
    });
    for number in 0..50 {
        let mut asker = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        asker.write_all(b"what?").await.unwrap();
        asker.shutdown().await.unwrap();
        let mut answer = Vec::new();
        asker.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.len(), 100_000, "answer {number}");
    }
    serve.abort();
    forward.abort();
}

/// An agent that reads slowly and answers with as many bytes as it is told, then closes.
fn dull_agent(socket: &std::path::Path) {
    use std::io::{Read, Write};
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::sleep(Duration::from_millis(300));
            let mut asked = Vec::new();
            stream.read_to_end(&mut asked).unwrap();
            stream.write_all(&asked.len().to_string().into_bytes()).unwrap();
        }
    });
}

#[tokio::test]
async fn all_that_goes_to_an_agent_arrives_and_so_does_its_answer() {
    let Some(sshd) = Sshd::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent");
    dull_agent(&socket);
    let lent = LentAgent { socket, on_refusal: Arc::new(|| panic!("refused")) };
    // Nothing wakes the thread by chance.
    let settings = SessionSettings { lent_agent: Some(lent), keep_alive: None, ..settings() };
    let session = shake_hands(&sshd, settings).await.unwrap();
    assert_eq!(session.login(&sshd.user(), key(&sshd)).await.unwrap(), Login::Done);
    let ask = "import os,socket\n\
               s = socket.socket(socket.AF_UNIX); s.connect(os.environ['SSH_AUTH_SOCK'])\n\
               for _ in range(3000): s.sendall(b'x' * 1000)\n\
               s.shutdown(socket.SHUT_WR); print(s.makefile().read())\n";
    let line = format!("python3 -c \"{ask}\"");
    for _ in 0..3 {
        let ran = tokio::time::timeout(Duration::from_secs(30), run(&session, &line)).await;
        let (stdout, stderr, _) = ran.expect("it ends");
        assert_eq!(String::from_utf8_lossy(&stdout), "3000000\n", "{}", String::from_utf8_lossy(&stderr));
    }
}

#[tokio::test]
async fn a_peer_that_refuses_an_agent_runs_commands_all_the_same_and_it_is_told_once() {
    let Some(sshd) = Sshd::builder().option("AllowAgentForwarding no").start() else { return };
    let refusals = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = Arc::clone(&refusals);
    let on_refusal = Arc::new(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    });
    let lent = LentAgent { socket: "/nowhere".into(), on_refusal };
    let session = shake_hands(&sshd, SessionSettings { lent_agent: Some(lent), ..settings() }).await.unwrap();
    assert_eq!(session.login(&sshd.user(), key(&sshd)).await.unwrap(), Login::Done);
    for _ in 0..3 {
        assert_eq!(run(&session, "echo on").await.0, b"on\n");
    }
    assert_eq!(refusals.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_dropped_channel_leaves_the_session_usable_and_the_last_handle_ends_it() {
    let Some(sshd) = Sshd::start() else { return };
    let session = connect(&sshd).await;
    for _ in 0..20 {
        let channel = session.exec(ExecRequest::command("cat; yes")).await.unwrap();
        if let Some(input) = {
            let mut channel = channel;
            channel.input()
        } {
            // Its channel is gone, or goes.
            let _ = input.send(Bytes::from(vec![0; 1_000_000])).await;
        }
    }
    assert!(matches!(run(&session, "exit 5").await.2, Ending::Exited(5)));
    drop(session);
    for _ in 0..500 {
        if sshd.connections().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the connection stays");
}

#[tokio::test]
async fn commands_ask_the_agent_that_is_lent_to_them_and_no_other() {
    let Some(sshd) = Sshd::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent");
    let agent = SshAgent::start(&socket, &sshd.user_key());
    let lent = LentAgent { socket, on_refusal: Arc::new(|| panic!("refused")) };
    let here = connect(&sshd).await;
    assert_eq!(run(&here, "echo ${SSH_AUTH_SOCK-none}").await.0, b"none\n");
    let settings = SessionSettings { lent_agent: Some(lent.clone()), ..settings() };
    let session = shake_hands(&sshd, settings).await.unwrap();
    assert_eq!(session.login(&sshd.user(), key(&sshd)).await.unwrap(), Login::Done);
    let public = public(&sshd);
    let blob = public.split(' ').nth(1).unwrap();
    let has_key = |output: &[u8]| String::from_utf8_lossy(output).contains(blob);
    for _ in 0..3 {
        let (stdout, stderr, ending) = run(&session, "ssh-add -L").await;
        assert!(has_key(&stdout), "{ending:?} {}", String::from_utf8_lossy(&stderr));
    }
    // Many programs, at once.
    let line = "for i in 1 2 3 4 5 6 7 8; do ssh-add -L & done; wait";
    let (first, second) = tokio::join!(run(&session, line), run(&session, line));
    for (stdout, ..) in [first, second] {
        assert_eq!(String::from_utf8_lossy(&stdout).matches(blob).count(), 8);
    }
    // Who asks an agent that is gone is told so, and the session goes on.
    drop(agent);
    let (_, _, ending) = run(&session, "ssh-add -L").await;
    assert!(!matches!(ending, Ending::Exited(0)), "{ending:?}");
    assert_eq!(run(&session, "echo on").await.0, b"on\n");
    session.close().await;
}

#[tokio::test]
async fn a_peer_that_was_not_listened_to_is_not_dead() {
    let Some(sshd) = Sshd::start() else { return };
    let quick = || SessionSettings {
        keep_alive: Some(Duration::from_millis(300)),
        dead_after: Duration::from_secs(1),
        ..settings()
    };
    let session = shake_hands(&sshd, quick()).await.unwrap();
    // Whoever judges the host's key takes time.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(session.login(&sshd.user(), key(&sshd)).await.unwrap(), Login::Done);
    // An agent that asks a person first, and then signs something else.
    let session = shake_hands(&sshd, quick()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent");
    slow_agent(&socket, crate::HostKey::from_openssh(&public(&sshd)).unwrap().blob);
    let login = session.login(&sshd.user(), LoginMethod::Agent { socket }).await;
    assert!(matches!(login, Ok(Login::Refused(_))), "{login:?}");
}

fn public(sshd: &Sshd) -> String {
    let path = sshd.user_key();
    let arguments = ["-y", "-f", path.to_str().unwrap()];
    crate::test_support::keygen(path.parent().unwrap(), &arguments).unwrap()
}

/// Has one key, takes its time, and gives a wrong signature.
fn slow_agent(socket: &std::path::Path, blob: Vec<u8>) {
    use std::io::{Read, Write};
    let text = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut length = [0; 4];
        while stream.read_exact(&mut length).is_ok() {
            let mut packet = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut packet).unwrap();
            let answer = if packet[0] == 11 {
                [&[12, 0, 0, 0, 1][..], &text(&blob), &text(b"key")].concat()
            } else {
                std::thread::sleep(Duration::from_millis(1500));
                [&[14][..], &text(&[text(b"ssh-ed25519"), text(&[7; 64])].concat())].concat()
            };
            stream.write_all(&text(&answer)).unwrap();
        }
    });
}

#[tokio::test]
async fn without_signs_of_life_silence_is_bounded_too() {
    let Some(sshd) = Sshd::start() else { return };
    let settings = SessionSettings { keep_alive: None, read_write_timeout: Some(Duration::from_secs(1)), ..settings() };
    let session = shake_hands(&sshd, settings).await.unwrap();
    assert_eq!(session.login(&sshd.user(), key(&sshd)).await.unwrap(), Login::Done);
    let since = Instant::now();
    let (_, _, ending) = run(&session, "sleep 20").await;
    assert!(matches!(ending, Ending::Failed(SshError::Silent(_))), "{ending:?}");
    assert!(since.elapsed() < Duration::from_secs(10));
}
