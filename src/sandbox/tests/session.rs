//! Guests that run: commands, users, terminals, mounts, and that nothing stays behind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use kiln_sandbox::{BindMount, Device, Exec, ExitStatus, Network, RootFs, SandboxError, ScriptFile, Session, Tmpfs};
use support::{Root, can_run, helper, output, shell};

async fn start(root: &Root) -> Session {
    Session::start(root.spec(), &helper()).await.unwrap()
}

/// A shell line that may fail; its output.
async fn line(session: &Session, line: &str) -> (String, ExitStatus) {
    output(session, |out| Exec::new(["/bin/sh", "-c", line], out)).await
}

#[tokio::test]
async fn a_command_runs_and_its_changes_stay() {
    if !can_run() {
        return;
    }
    let root = Root::new();
    let session = start(&root).await;
    assert_eq!(shell(&session, "echo hello; echo world >&2; pwd; hostname").await, "hello\nworld\n/\nkiln\n");
    let (text, status) = line(&session, "echo changed > /etc/new; exit 7").await;
    assert_eq!((text.as_str(), status), ("", ExitStatus::Exited(7)));
    assert_eq!(line(&session, "kill -9 $$").await.1, ExitStatus::Signalled(9));
    session.stop().await.unwrap();
    // Mount points, files of the run and their directories do not show.
    assert_eq!(root.changes(), ["etc", "etc/new"]);
    assert_eq!(root.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_second_session_goes_on_where_the_first_ended() {
    if !can_run() {
        return;
    }
    let root = Root::new();
    for count in 1..=3 {
        let session = start(&root).await;
        shell(&session, "echo line >> /root/log").await;
        assert_eq!(shell(&session, "wc -l < /root/log").await, format!("{count}\n"));
        session.stop().await.unwrap();
    }
}

/// Sessions with mount points of their own place are made beforehand but for their root.
#[tokio::test]
async fn a_guest_that_was_made_beforehand_is_like_any_other() {
    if !can_run() {
        return;
    }
    let root = Root::new();
    let mut spec = root.spec();
    spec.stubs = Some(root.directory.path().join("stubs"));
    spec.secrets_directory = Some("/run/secrets".to_owned());
    for hostname in ["one", "one", "two", "two", "one"] {
        spec.hostname = hostname.to_owned();
        let session = Session::start(spec.clone(), &helper()).await.unwrap();
        let told =
            shell(&session, "hostname; cat /etc/hostname; ls -A /dev/shm /run/secrets; ps -o pid= | wc -l").await;
        assert_eq!(told.split_whitespace().collect::<Vec<_>>()[..2], [hostname; 2]);
        assert_eq!(
            shell(&session, "echo x | tee /dev/shm/left /run/secrets/left; cat /proc/1/comm").await,
            "x\nkiln-init\n"
        );
        assert_eq!(shell(&session, "mount | grep -c ' on /dev/shm '").await, "1\n");
        shell(&session, "echo line >> /root/log; sleep 1000 >/dev/null 2>&1 &").await;
        assert!(!told.contains("left"), "{told}");
        session.stop().await.unwrap();
        // The next one is on its way now; it has to be there for this to test anything.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(fs::read_to_string(root.upper("root/log")).unwrap(), "line\n".repeat(5));
    assert_eq!(root.changes(), ["root", "root/log"]);
    assert_eq!(root.leftovers(), ["stubs"]);
    // What is mounted from the host is as it is when the session starts.
    let volume = root.directory.path().join("volume");
    for content in ["old", "new"] {
        _ = fs::remove_dir_all(&volume);
        fs::create_dir(&volume).unwrap();
        fs::write(volume.join("file"), content).unwrap();
        let mut spec = spec.clone();
        spec.stubs = Some(root.directory.path().join("other-stubs"));
        spec.mounts = vec![BindMount { source: volume.clone(), target: "/volume".to_owned(), read_only: true }];
        let session = Session::start(spec, &helper()).await.unwrap();
        assert_eq!(shell(&session, "cat /volume/file").await, content);
        session.stop().await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // A root that cannot be mounted is told as ever.
    spec.root = RootFs::Overlay { lowers: vec!["/not/there".into()], upper: root.upper(""), work: root.base("x") };
    let error = Session::start(spec, &helper()).await.unwrap_err();
    assert!(matches!(error, SandboxError::System { .. }), "{error:?}");
}

#[tokio::test]
async fn input_output_and_messages_are_apart() {
    if !can_run() {
        return;
    }
    let root = Root::new();
    let session = start(&root).await;
    let (input_reader, mut input) = std::io::pipe().unwrap();
    let (mut errors, errors_writer) = std::io::pipe().unwrap();
    let writing = std::thread::spawn(move || input.write_all(&vec![b'x'; 1 << 20]).unwrap());
    let (text, status) = output(&session, |out| Exec {
        stdin: Some(input_reader.into()),
        stderr: Some(errors_writer.into()),
        ..Exec::new(["sh", "-c", "wc -c; echo trouble >&2"], out)
    })
    .await;
    writing.join().unwrap();
    let mut trouble = String::new();
    errors.read_to_string(&mut trouble).unwrap();
    assert_eq!((text.as_str(), trouble.as_str(), status), ("1048576\n", "trouble\n", ExitStatus::Exited(0)));
    // Without input there is the end of it at once.
    assert_eq!(shell(&session, "cat").await, "");
    session.stop().await.unwrap();
}

#[tokio::test]
async fn scripts_are_stored_run_and_removed() {
    if !can_run() {
        return;
    }
    let root = Root::new();
    let session = start(&root).await;
    let run = async |script: &str, file: ScriptFile| {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let bytes = script.as_bytes().to_vec();
        let writing = std::thread::spawn(move || _ = writer.write_all(&bytes));
        let (mut read, out) = std::io::pipe().unwrap();
        let argv = [file.path.clone()];
        let exec = Exec { stdin: Some(reader.into()), script: Some(file), ..Exec::new(argv, out.into()) };
        let mut running = session.exec(exec).await?;
        let status = running.wait().await?;
        writing.join().unwrap();
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        Ok::<_, SandboxError>((text, status))
    };
    let file = |path: &str, stays: bool| ScriptFile { path: path.to_owned(), size: None, stays };
    let ok = |text: &str| (text.to_owned(), ExitStatus::Exited(0));
    let told = run("#!/bin/sh -e\necho \"$0\"; cat; ls -l \"$0\" | cut -c1-10", file("/tmp/one", false)).await.unwrap();
    assert_eq!(told, ok("/tmp/one\n-rwxr-xr-x\n"));
    // Without an interpreter, as shells do it; longer than a pipe holds.
    let long = format!("# {}\necho long\nexit 3\n", "x".repeat(300_000));
    let told = run(&long, file("/tmp/two", true)).await.unwrap();
    assert_eq!(told, ("long\n".to_owned(), ExitStatus::Exited(3)));
    assert_eq!(shell(&session, "cd /tmp; ls one two 2>/dev/null; true").await, "two\n");
    // Nothing runs that was not stored as it is.
    let missing = run("#!/bin/sh\ntouch /ran\n", file("/nowhere/three", false)).await.unwrap_err();
    assert!(matches!(&missing, SandboxError::Script { path, .. } if path == "/nowhere/three"), "{missing:?}");
    let cut = ScriptFile { size: Some(100), ..file("/tmp/four", false) };
    let cut = run("#!/bin/sh\ntouch /ran\n", cut).await.unwrap_err();
    assert!(matches!(cut, SandboxError::Script { .. }), "{cut:?}");
    assert_eq!(shell(&session, "ls /ran /tmp/four 2>/dev/null; true").await, "");
    session.stop().await.unwrap();
}

#[tokio::test]
async fn commands_side_by_side() {
    if !can_run() {
        return;
    }
    let root = Root::new();
    let session = start(&root).await;
    let begin = Instant::now();
    let all = (0..4).map(|_| shell(&session, "sleep 0.5; echo done"));
    let mut texts = Vec::new();
    for text in all.collect::<Vec<_>>() {
        texts.push(text);
    }
    let (one, two) = {
        let mut texts = texts.into_iter();
        tokio::join!(texts.next().unwrap(), texts.next().unwrap())
    };
    assert_eq!(one + &two, "done\ndone\n");
    assert!(begin.elapsed() < Duration::from_millis(950), "{:?}", begin.elapsed());
    session.stop().await.unwrap();
}

#[tokio::test]
async fn users_and_environment_are_as_docker_has_them() {
    if !can_run() {
        return;
    }
    let root = Root::new();
    let mut spec = root.spec();
    spec.environment = vec![("FROM_IMAGE".to_owned(), "1".to_owned()), ("BOTH".to_owned(), "image".to_owned())];
    let session = Session::start(spec, &helper()).await.unwrap();
    let environment = |user: &str, more: &[(&str, &str)]| {
        let user = (!user.is_empty()).then(|| user.to_owned());
        let environment = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        move |out: OwnedFd| Exec { user, environment, ..Exec::new(["env"], out) }
    };
    let (text, _) = output(&session, environment("", &[("BOTH", "command")])).await;
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(text, format!("PATH={path}\nHOSTNAME=kiln\nFROM_IMAGE=1\nBOTH=command\nHOME=/root\n"));
    let (text, _) = output(&session, environment("tester", &[])).await;
    assert!(text.contains("HOME=/home/tester\n"), "{text}");
    let (text, _) = output(&session, environment("1234", &[("HOME", "/given")])).await;
    assert!(text.contains("HOME=/given\n") && !text.contains("HOME=/\n"), "{text}");

    let who = |user: &'static str| {
        let line = "id -u; id -g; id -G; touch /home/tester/mine 2>/dev/null && echo may write; echo x > /dev/stderr";
        move |out: OwnedFd| Exec { user: Some(user.to_owned()), ..Exec::new(["sh", "-c", line], out) }
    };
    assert_eq!(output(&session, who("tester")).await.0, "1000\n1000\n1000 50\nmay write\nx\n");
    assert_eq!(output(&session, who("tester:root")).await.0, "1000\n0\n0\nmay write\nx\n");
    assert_eq!(output(&session, who("77:88")).await.0, "77\n88\n88\nx\n");
    let refused = session.exec(Exec { user: Some("nobody".to_owned()), ..Exec::silent(["true"]) }).await.unwrap_err();
    assert_eq!(refused.to_string(), "the guest's /etc/passwd knows no user `nobody`");
    session.stop().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_run_says_why() {
    if !can_run() {
        return;
    }
    let root = Root::new();
    fs::write(root.base("etc/plain"), "text").unwrap();
    symlink("nowhere", root.base("bin/dangling")).unwrap();
    let session = start(&root).await;
    let why = async |argv: &[&str], directory: Option<&str>| {
        let directory = directory.map(str::to_owned);
        let error = session.exec(Exec { directory, ..Exec::silent(argv.iter().copied()) }).await.unwrap_err();
        (error.to_string(), error.errno())
    };
    let cannot = |program: &str| format!("cannot run `{program}` in the guest");
    assert_eq!(why(&["nothing"], None).await, (cannot("nothing"), Some(libc::ENOENT)));
    assert_eq!(why(&["dangling"], None).await, (cannot("dangling"), Some(libc::ENOENT)));
    assert_eq!(why(&["/etc/plain"], None).await, (cannot("/etc/plain"), Some(libc::EACCES)));
    assert_eq!(why(&["/etc"], None).await, (cannot("/etc"), Some(libc::EACCES)));
    assert_eq!(why(&[], None).await, (cannot(""), Some(libc::ENOENT)));
    let missing = "cannot enter the directory `/missing` in the guest".to_owned();
    assert_eq!(why(&["true"], Some("/missing")).await, (missing, Some(libc::ENOENT)));
    // Commands go on to work.
    let (text, _) =
        output(&session, |out| Exec { directory: Some("/etc".to_owned()), ..Exec::new(["pwd"], out) }).await;
    assert_eq!(text, "/etc\n");
    session.stop().await.unwrap();
}

#[tokio::test]
async fn long_scripts_and_many_variables() {
    if !can_run() {
        return;
    }
    let root = Root::new();
    let session = start(&root).await;
    let script = format!("echo {} | wc -c", "x".repeat(100_000));
    assert_eq!(shell(&session, &script).await, "100001\n");
    let environment = (0..2000).map(|number| (format!("V{number}"), "y".repeat(500))).collect();
    let (text, _) =
        output(&session, |out| Exec { environment, ..Exec::new(["sh", "-c", "env | grep -c ^V"], out) }).await;
    assert_eq!(text, "2000\n");
    let far = vec!["echo".to_owned(), "x".repeat(4 << 20)];
    let error = session.exec(Exec::silent(far)).await.unwrap_err();
    assert_eq!(error.errno(), Some(libc::E2BIG));
    session.stop().await.unwrap();
}

#[tokio::test]
async fn terminals() {
    if !can_run() {
        return;
    }
    let root = Root::new();
    let session = start(&root).await;
    let argv = ["sh", "-c", "tty; stty size; echo $TERM; read word; stty size; echo got $word; test -t 2 && exit 3"];
    let exec = Exec { terminal: Some((100, 30)), ..Exec::silent(argv) };
    let mut running = session.exec(exec).await.unwrap();
    let terminal = fs::File::from(running.take_terminal().unwrap());
    let mut shown = terminal.try_clone().unwrap();
    let mut typed = terminal;
    let reading = std::thread::spawn(move || {
        let mut text = Vec::new();
        // The end of a terminal is an error on Linux.
        _ = shown.read_to_end(&mut text);
        String::from_utf8(text).unwrap()
    });
    running.resize(120, 40).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    typed.write_all(b"word\n").unwrap();
    assert_eq!(running.wait().await.unwrap(), ExitStatus::Exited(3));
    drop((running, typed));
    let text = reading.join().unwrap().replace("\r\n", "\n");
    assert!(text.starts_with("/dev/pts/0\n"), "{text}");
    assert!(text.contains("xterm\nword\n40 120\ngot word\n"), "{text}");
    session.stop().await.unwrap();
}

#[tokio::test]
async fn a_dropped_command_ends_with_all_that_it_started() {
    if !can_run() {
        return;
    }
    let root = Root::new();
    let session = start(&root).await;
    let count = "ps | grep -c '[s]leep 777' || true";
    let many = "(setsid sleep 777 &) ; (sleep 777 &); sh -c '(setsid sh -c \"sleep 777 & sleep 777\" &)'; sleep 777";
    let running = session.exec(Exec::silent(["sh", "-c", many])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before: u32 = shell(&session, count).await.trim().parse().unwrap();
    assert!(before >= 5, "{before}");
    drop(running);
    wait_for(&session, count, "0\n").await;

    let mut running = session.exec(Exec::silent(["sh", "-c", many])).await.unwrap();
    running.kill().await.unwrap();
    assert_eq!(running.wait().await.unwrap(), ExitStatus::Signalled(libc::SIGKILL));
    wait_for(&session, count, "0\n").await;

    // A command that ends by itself leaves its daemons alone: later commands may want them.
    let mut running = session.exec(Exec::silent(["sh", "-c", "setsid sleep 777 &"])).await.unwrap();
    assert_eq!(running.wait().await.unwrap(), ExitStatus::Exited(0));
    drop(running);
    wait_for(&session, count, "1\n").await;
    session.stop().await.unwrap();
}

async fn wait_for(session: &Session, line: &str, wanted: &str) {
    let begin = Instant::now();
    loop {
        let text = shell(session, line).await;
        if text == wanted {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "{text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn signals_reach_the_command() {
    if !can_run() {
        return;
    }
    let root = Root::new();
    let session = start(&root).await;
    let script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut running = session.exec(Exec::new(["sh", "-c", script], writer.into())).await.unwrap();
    let mut ready = [0; 6];
    reader.read_exact(&mut ready).unwrap();
    running.signal(libc::SIGTERM).await.unwrap();
    assert_eq!(running.wait().await.unwrap(), ExitStatus::Exited(9));
    running.signal(libc::SIGTERM).await.unwrap();
    session.stop().await.unwrap();
}

#[tokio::test]
async fn devices_and_files_of_the_run() {
    if !can_run() {
        return;
    }
    let root = Root::new();
    let mut spec = root.spec();
    spec.hostname = "worker".to_owned();
    spec.extra_hosts = vec![("10.1.2.3".to_owned(), "db database".to_owned())];
    let session = Session::start(spec, &helper()).await.unwrap();
    assert_eq!(shell(&session, "cat /etc/hostname").await, "worker\n");
    let hosts = shell(&session, "cat /etc/hosts").await;
    assert!(hosts.contains("10.1.2.3 db database\n") && hosts.contains(" worker\n"), "{hosts}");
    let ours = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(shell(&session, "cat /etc/resolv.conf").await, ours);
    // Writing there changes nobody's files.
    shell(&session, "echo changed > /etc/resolv.conf; echo changed > /etc/hosts").await;
    assert_eq!(fs::read_to_string("/etc/resolv.conf").unwrap_or_default(), ours);
    let devices = shell(&session, "ls /dev | grep -v core | tr '\\n' ' '").await;
    assert_eq!(devices, "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ");
    // A guest's devices are its own: the host's keep their mode.
    let mode = fs::metadata("/dev/null").unwrap().permissions();
    shell(&session, "chmod 604 /dev/null; test $(stat -c %a /dev/null) = 604; ! chmod 600 /proc/keys").await;
    assert_eq!(fs::metadata("/dev/null").unwrap().permissions(), mode);
    shell(&session, "echo x > /dev/null; head -c 3 /dev/zero; head -c 3 /dev/urandom > /dev/null; touch /dev/shm/x")
        .await;
    session.stop().await.unwrap();
    assert_eq!(root.changes(), Vec::<String>::new());
}

#[tokio::test]
async fn privileged_guests_and_further_devices() {
    if !can_run() {
        return;
    }
    let root = Root::new();
    let session = start(&root).await;
    // A node that a guest makes is one by name only: not even a harmless one can be opened.
    let (text, status) =
        line(&session, "mknod /root/null c 1 3 && mknod /dev/null2 c 1 3 && echo made; : > /root/null").await;
    assert!(text.starts_with("made\n") && status != ExitStatus::Exited(0), "{text}");
    assert_ne!(line(&session, ": > /dev/null2").await.1, ExitStatus::Exited(0));
    assert_ne!(line(&session, "mount -t tmpfs none /tmp").await.1, ExitStatus::Exited(0));
    assert_ne!(line(&session, "echo 1 > /proc/sys/vm/drop_caches").await.1, ExitStatus::Exited(0));
    session.stop().await.unwrap();

    let mut spec = root.spec();
    spec.devices = vec![Device { source: "/dev/null".into(), target: "/dev/extra/nothing".to_owned() }];
    let session = Session::start(spec, &helper()).await.unwrap();
    shell(&session, "echo x > /dev/extra/nothing; test -c /dev/extra/nothing").await;
    session.stop().await.unwrap();

    let mut spec = root.spec();
    spec.privileged = true;
    let session = Session::start(spec, &helper()).await.unwrap();
    shell(&session, "mount -t tmpfs none /tmp && umount /tmp && test -w /proc/sys/vm/drop_caches").await;
    let (held, all) =
        (shell(&session, "grep CapEff /proc/self/status").await, fs::read_to_string("/proc/self/status").unwrap());
    assert!(all.contains(held.trim()), "{held}");
    session.stop().await.unwrap();
    assert_eq!(root.changes(), ["root", "root/null"]);
}

#[tokio::test]
async fn no_network_but_a_loopback() {
    if !can_run() {
        return;
    }
    let root = Root::new();
    let mut spec = root.spec();
    spec.network = Network::None;
    let session = Session::start(spec, &helper()).await.unwrap();
    assert_eq!(shell(&session, "ls /sys/class/net").await, "lo\n");
    assert!(shell(&session, "ip addr show lo").await.contains("127.0.0.1"));
    session.stop().await.unwrap();
}

#[tokio::test]
async fn volumes_and_directories_in_memory() {
    if !can_run() {
        return;
    }
    let root = Root::new();
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("file"), "of the host").unwrap();
    let mut spec = root.spec();
    let mount =
        |target: &str, read_only| BindMount { source: host.path().to_owned(), target: target.to_owned(), read_only };
    spec.mounts = vec![mount("/data/inner/ro", true), mount("/data", false)];
    let source = host.path().join("file");
    spec.mounts.push(BindMount { source, target: "/opt/one".to_owned(), read_only: true });
    spec.tmpfs = vec![
        Tmpfs { target: "/scratch".to_owned(), options: "size=1m,mode=0700".to_owned() },
        Tmpfs { target: "/scratch2".to_owned(), options: "exec".to_owned() },
    ];
    spec.secrets_directory = Some("/run/kiln/secrets".to_owned());
    let session = Session::start(spec, &helper()).await.unwrap();
    assert_eq!(shell(&session, "cat /data/file /opt/one").await, "of the hostof the host");
    shell(&session, "echo written > /data/new; ! echo x > /data/inner/ro/x; ! echo x > /opt/one").await;
    shell(&session, "mount | grep -q 'on /scratch type tmpfs' && test $(stat -c %a /scratch) = 700").await;
    shell(&session, "cp /bin/busybox /scratch2/ && /scratch2/busybox true").await;
    assert_ne!(line(&session, "cp /bin/busybox /scratch/ && /scratch/busybox true").await.1, ExitStatus::Exited(0));
    shell(&session, "echo secret > /run/kiln/secrets/token").await;
    session.stop().await.unwrap();
    assert_eq!(fs::read_to_string(host.path().join("new")).unwrap(), "written\n");
    assert_eq!(root.changes(), Vec::<String>::new());

    let mut spec = root.spec();
    spec.mounts = vec![mount("/a/../..", false)];
    let error = Session::start(spec, &helper()).await.unwrap_err();
    assert_eq!(error.to_string(), "`/a/../..` is no place for a mount");
}

/// Where links of an image lead is looked up in the image.
#[tokio::test]
async fn links_of_an_image_lead_nowhere_else() {
    if !can_run() {
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    for system in ["proc", "sys", "dev"] {
        let root = Root::new();
        symlink(outside.path(), root.base(system)).unwrap();
        let error = Session::start(root.spec(), &helper()).await.unwrap_err();
        assert_eq!(error.errno(), Some(libc::ELOOP), "{error}");
        assert_eq!(root.leftovers(), Vec::<String>::new());
    }
    let root = Root::new();
    symlink("../run/resolve/stub.conf", root.base("etc/resolv.conf")).unwrap();
    symlink(outside.path().join("hosts"), root.base("etc/hosts")).unwrap();
    let session = start(&root).await;
    let ours = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(shell(&session, "cat /run/resolve/stub.conf").await, ours);
    assert!(shell(&session, "cat /etc/hosts").await.contains("kiln"));
    session.stop().await.unwrap();
    // What had to be made in the root itself is gone again; a directory that it was in is there unchanged.
    assert_eq!(root.changes(), ["tmp"]);
    let times = |path: std::path::PathBuf| fs::metadata(path).unwrap().modified().unwrap();
    assert_eq!(times(root.upper("tmp")), times(root.base("tmp")));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn files_go_in_and_out() {
    if !can_run() {
        return;
    }
    let root = Root::new();
    let session = start(&root).await;
    shell(&session, "mkdir -p /data/sub; echo old > /data/file; ln -s /data /link; mkfifo /data/pipe").await;
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_uid(1000);
    header.set_gid(1000);
    header.set_mtime(1_000_000_000);
    header.set_mode(0o4755);
    header.set_size(4);
    archive.append_data(&mut header, "link/file", &b"new\n"[..]).unwrap();
    archive.append_data(&mut header, "fresh/directory/file", &b"new\n"[..]).unwrap();
    header.set_mode(0o750);
    header.set_size(0);
    header.set_entry_type(tar::EntryType::Directory);
    archive.append_data(&mut header, "data/sub", &b""[..]).unwrap();
    let bytes = archive.into_inner().unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(&bytes));
    assert_eq!(session.unpack(reader.into(), "/").await.unwrap(), 3);
    writing.join().unwrap().unwrap();
    let found =
        shell(&session, "stat -c '%n %a %u %g %Y' /data/file /data/sub /fresh/directory/file; cat /data/file").await;
    let (file, directory) = ("4755 1000 1000 1000000000", "750 1000 1000 1000000000");
    assert_eq!(found, format!("/data/file {file}\n/data/sub {directory}\n/fresh/directory/file {file}\nnew\n"));

    let info = session.stat("/link/sub", false).await.unwrap().unwrap();
    assert!(info.is_directory() && info.uid == 1000 && info.path == "/link/sub");
    assert_eq!(session.stat("/link", false).await.unwrap().unwrap().link.as_deref(), Some("/data"));
    assert_eq!(session.stat("/link", true).await.unwrap().unwrap().path, "/data");
    assert_eq!(session.stat("/nothing", true).await.unwrap(), None);
    assert_eq!(session.stat("/data/file/below", true).await.unwrap(), None);

    let (mut reader, writer) = std::io::pipe().unwrap();
    let reading = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let names = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
        names.collect::<Vec<_>>()
    });
    assert_eq!(session.pack("/data", writer.into()).await.unwrap(), 4);
    assert_eq!(reading.join().unwrap(), ["data", "data/file", "data/pipe", "data/sub"]);
    let (_, writer) = std::io::pipe().unwrap();
    let error = session.pack("/missing", writer.into()).await.unwrap_err();
    assert!(matches!(&error, SandboxError::NotFound(path) if path == "/missing"), "{error}");
    let (reader, _) = std::io::pipe().unwrap();
    let error = session.unpack(reader.into(), "/missing").await.unwrap_err();
    assert!(matches!(error, SandboxError::NotFound(_)), "{error}");
    session.stop().await.unwrap();
}

#[tokio::test]
async fn a_guest_that_will_not_end_is_ended() {
    if !can_run() {
        return;
    }
    let root = Root::new();
    let session = start(&root).await;
    let stubborn =
        "trap '' TERM INT HUP; (trap '' TERM; setsid sleep 999 &); echo x > /root/x; while :; do sleep 1; done";
    let mut running = session.exec(Exec::silent(["sh", "-c", stubborn])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begin = Instant::now();
    session.stop().await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert!(running.wait().await.is_err());
    assert_eq!(root.changes(), ["root", "root/x"]);
}

#[tokio::test]
async fn process_one_cannot_be_killed_from_inside() {
    if !can_run() {
        return;
    }
    let root = Root::new();
    let session = start(&root).await;
    shell(&session, "kill -9 1; kill -15 1; kill -19 1; kill -2 1; true").await;
    assert_eq!(shell(&session, "echo alive").await, "alive\n");
    // All but process 1, the command and its keeper too.
    assert_eq!(line(&session, "kill -9 -1; sleep 5").await.1, ExitStatus::Signalled(9));
    assert_eq!(shell(&session, "echo alive").await, "alive\n");
    session.stop().await.unwrap();
}
