//! What every communicator must do. Each transport's tests call [`check`] on a machine that has `/bin/sh`, `cat`, `head`,
//! `ls`, `mkdir`, `stat`, `wc` and `tr`. It panics at the first thing that is not so.
#![allow(clippy::unwrap_used)] // A suite for tests: a failure is a panic.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bytes::Bytes;
use kiln_core::communicator::{CaptureSink, CommunicatorError, Downloaded};
use kiln_core::{Command, Communicator, ExitStatus, OutputSink, Payload, Stdin, Stream};

/// Counts bytes and sums them up, so that large outputs are checked without being kept.
#[derive(Default)]
struct Sum {
    bytes: u64,
    sum: u64,
}

impl OutputSink for Sum {
    fn write(&mut self, _stream: Stream, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        self.sum += chunk.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    }
}

async fn run(communicator: &dyn Communicator, command: &Command) -> (ExitStatus, String, String) {
    let mut sink = CaptureSink::default();
    let status = communicator.exec(command, &mut sink).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status, text(sink.stdout), text(sink.stderr))
}

async fn output(communicator: &dyn Communicator, script: &str) -> String {
    let (status, stdout, stderr) = run(communicator, &Command::shell(script)).await;
    assert!(status.is_success(), "{script}: {status:?}: {stderr}");
    stdout.trim_end().to_owned()
}

/// Runs the suite on a machine; `root` is a directory on it that exists and may be filled. From a machine no set-user-id
/// bit comes along (see [`crate::unpack`]).
pub async fn check(communicator: &dyn Communicator, root: &str) {
    suite(communicator, root, 0o711).await;
}

/// Runs the suite on this host, whose downloads are copies like any other.
pub async fn check_host(communicator: &dyn Communicator, root: &str) {
    suite(communicator, root, 0o4711).await;
}

async fn suite(communicator: &dyn Communicator, root: &str, downloaded_mode: u32) {
    let root = root.trim_end_matches('/');
    commands(communicator, root).await;
    large_streams(communicator).await;
    files(communicator, root).await;
    directories(communicator, root).await;
    downloads(communicator, root, downloaded_mode).await;
    absent(communicator, root).await;
}

async fn commands(communicator: &dyn Communicator, root: &str) {
    for code in [0, 1, 3, 255] {
        let (status, ..) = run(communicator, &Command::shell(format!("exit {code}"))).await;
        assert_eq!(status, ExitStatus::Exited(code));
    }
    let (_, stdout, stderr) = run(communicator, &Command::shell("echo out; echo err >&2")).await;
    assert_eq!((stdout.as_str(), stderr.as_str()), ("out\n", "err\n"), "the two outputs stay apart");
    let mut command =
        Command::new(["/bin/sh", "-c", "printf '%s|%s|%s' \"$1\" \"$ODD\" \"$(pwd)\"", "sh", "a 'b' \"c\" $d"]);
    command.environment = vec![("ODD".into(), "two words\n'quoted' $x `y`".into())];
    command.directory = Some(root.to_owned());
    let (status, stdout, _) = run(communicator, &command).await;
    assert!(status.is_success());
    assert_eq!(
        stdout,
        format!("a 'b' \"c\" $d|two words\n'quoted' $x `y`|{root}"),
        "words and values arrive untouched"
    );
    // Without input a reader sees the end at once, and does not wait for a terminal.
    assert_eq!(output(communicator, "cat | wc -c | tr -d ' '").await, "0");
}

async fn large_streams(communicator: &dyn Communicator) {
    const SIZE: u64 = 5 * 1024 * 1024;
    let mut sum = Sum::default();
    let script = format!("head -c {SIZE} /dev/zero | tr '\\0' 'a'");
    let status = communicator.exec(&Command::shell(script), &mut sum).await.unwrap();
    assert!(status.is_success());
    assert_eq!((sum.bytes, sum.sum), (SIZE, SIZE * u64::from(b'a')));
    let content: Vec<u8> = (0..SIZE).map(|index| (index * 7 % 256) as u8).collect();
    let expected: u64 = content.iter().map(|byte| u64::from(*byte)).sum();
    let mut sum = Sum::default();
    let command = Command { stdin: Stdin::Bytes(Bytes::from(content.clone())), ..Command::new(["cat"]) };
    assert!(communicator.exec(&command, &mut sum).await.unwrap().is_success());
    assert_eq!((sum.bytes, sum.sum), (SIZE, expected), "binary input comes back whole");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &content).unwrap();
    let mut sum = Sum::default();
    let command = Command { stdin: Stdin::File(file.path().to_path_buf()), ..Command::new(["cat"]) };
    assert!(communicator.exec(&command, &mut sum).await.unwrap().is_success());
    assert_eq!((sum.bytes, sum.sum), (SIZE, expected), "a file as input comes whole");
    // A command that does not read its input ends all the same.
    let command = Command { stdin: Stdin::Bytes(Bytes::from(content)), ..Command::shell("exit 4") };
    assert_eq!(run(communicator, &command).await.0, ExitStatus::Exited(4));
}

async fn files(communicator: &dyn Communicator, root: &str) {
    let local = tempfile::tempdir().unwrap();
    let path = local.path().join("tool.sh");
    std::fs::write(&path, "#!/bin/sh\necho tool\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o750)).unwrap();
    let file = |mode| Payload::File { path: path.clone(), mode };
    communicator.upload(&file(None), &format!("{root}/missing/parent/renamed")).await.unwrap();
    assert_eq!(output(communicator, &format!("stat -c %a {root}/missing/parent/renamed")).await, "750");
    assert_eq!(output(communicator, &format!("{root}/missing/parent/renamed")).await, "tool");
    communicator.upload(&file(Some(0o600)), &format!("{root}/new/")).await.unwrap();
    assert_eq!(output(communicator, &format!("stat -c %a {root}/new/tool.sh")).await, "600");
    communicator.upload(&file(None), &format!("{root}/new")).await.unwrap();
    assert_eq!(output(communicator, &format!("stat -c %a {root}/new/tool.sh")).await, "750", "an existing directory");
    assert_eq!(output(communicator, &format!("ls {root}/new")).await, "tool.sh");
    let bytes = Payload::Bytes { content: Bytes::from_static(b"\0\xff\n"), mode: 0o640 };
    communicator.upload(&bytes, &format!("{root}/bytes.bin")).await.unwrap();
    assert_eq!(output(communicator, &format!("stat -c '%a %s' {root}/bytes.bin")).await, "640 3");
}

/// A tree with a subdirectory, an executable, an empty directory, a long name and a link.
fn tree(root: &Path) {
    std::fs::create_dir_all(root.join("sub/empty")).unwrap();
    std::fs::write(root.join("sub/run"), "x").unwrap();
    std::fs::set_permissions(root.join("sub/run"), std::fs::Permissions::from_mode(0o711)).unwrap();
    std::fs::set_permissions(root.join("sub"), std::fs::Permissions::from_mode(0o750)).unwrap();
    std::fs::write(root.join("n".repeat(150)), "long").unwrap();
    std::os::unix::fs::symlink("sub/run", root.join("link")).unwrap();
}

async fn directories(communicator: &dyn Communicator, root: &str) {
    let local = tempfile::tempdir().unwrap();
    let path = local.path().join("project");
    std::fs::create_dir(&path).unwrap();
    tree(&path);
    let directory = |contents_only| Payload::Directory { path: path.clone(), contents_only };
    let listing =
        |place: &str| format!("ls {place} && stat -c '%a' {place}/sub/run {place}/sub && ls -d {place}/sub/empty");
    for (contents_only, to, lands_at) in [
        (false, format!("{root}/d1"), format!("{root}/d1/project")),
        (true, format!("{root}/d2"), format!("{root}/d2")),
    ] {
        communicator.upload(&directory(contents_only), &to).await.unwrap();
        let seen = output(communicator, &listing(&lands_at)).await;
        let expected = format!("link\n{}\nsub\n711\n750\n{lands_at}/sub/empty", "n".repeat(150));
        assert_eq!(seen, expected, "contents_only = {contents_only}");
        assert_eq!(output(communicator, &format!("readlink {lands_at}/link")).await, "sub/run");
    }
    // What exists stays beside what comes, with the mode it had.
    output(communicator, &format!("mkdir {root}/d3 && chmod 711 {root}/d3 && echo old > {root}/d3/old")).await;
    communicator.upload(&directory(true), &format!("{root}/d3")).await.unwrap();
    assert_eq!(
        output(communicator, &format!("stat -c %a {root}/d3 && cat {root}/d3/old {root}/d3/link")).await,
        "711\nold\nx"
    );
}

async fn downloads(communicator: &dyn Communicator, root: &str, downloaded_mode: u32) {
    let local = tempfile::tempdir().unwrap();
    let script = format!(
        "mkdir -p {root}/from/sub && cd {root}/from && printf one > a && printf two > sub/b && chmod 700 sub && \
         chmod 4711 sub/b && ln -s sub/b link"
    );
    output(communicator, &script).await;
    let to = local.path().join("deep/er/a.txt");
    assert_eq!(communicator.download(&format!("{root}/from/a"), &to).await.unwrap(), Downloaded::File);
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "one");
    // A link that is asked for by name gives what it leads to.
    let to = local.path().join("through");
    assert_eq!(communicator.download(&format!("{root}/from/link"), &to).await.unwrap(), Downloaded::File);
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "two");
    for (from, place) in [(format!("{root}/from"), "d1/from"), (format!("{root}/from/"), "d2")] {
        let to = local.path().join(&place[..2]);
        assert_eq!(communicator.download(&from, &to).await.unwrap(), Downloaded::Directory);
        let place = local.path().join(place);
        assert_eq!(std::fs::read_to_string(place.join("sub/b")).unwrap(), "two", "{from}");
        let mode = |name: &str| std::fs::metadata(place.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("sub"), mode("sub/b")), (0o700, downloaded_mode), "{from}");
        assert_eq!(std::fs::read_link(place.join("link")).unwrap(), Path::new("sub/b"));
    }
    // Once more over what is there already.
    communicator.download(&format!("{root}/from"), &local.path().join("d1")).await.unwrap();
}

async fn absent(communicator: &dyn Communicator, root: &str) {
    let missing = format!("{root}/nowhere/at/all");
    let local = tempfile::tempdir().unwrap();
    let error = communicator.download(&missing, &local.path().join("x")).await.unwrap_err();
    assert!(matches!(&error, CommunicatorError::NotFound(path) if *path == missing), "{error:?}");
    assert!(!local.path().join("x").exists());
    let path = local.path().join("not-here");
    let error = communicator.upload(&Payload::File { path: path.clone(), mode: None }, root).await.unwrap_err();
    assert!(matches!(&error, CommunicatorError::Local { path: named, .. } if *named == path), "{error:?}");
}
