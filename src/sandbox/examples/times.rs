//! How long guests and commands take to start: `times HELPER BASE COUNT [ISOLATION]`.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "an example")]

use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kiln_sandbox::{Chosen, Exec, HELPER_ARGUMENT, HelperProgram, RootFs, SandboxSpec, Session};

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let helper = HelperProgram { path: PathBuf::from(&arguments[1]), arguments: vec![HELPER_ARGUMENT.to_owned()] };
    let count: usize = arguments[3].parse().unwrap();
    let work = PathBuf::from(format!("/tmp/times-{}", std::process::id()));
    for part in ["upper", "work"] {
        std::fs::create_dir_all(work.join(part)).unwrap();
    }
    let mut first = Vec::new();
    let mut further = Vec::new();
    let mut stop = Vec::new();
    let mut ready = Vec::new();
    for _ in 0..count {
        let lowers = vec![PathBuf::from(&arguments[2])];
        let root = RootFs::Overlay { lowers, upper: work.join("upper"), work: work.join("work") };
        let spec = SandboxSpec::new(Chosen::root(), root);
        let begin = Instant::now();
        let session = Session::start(spec, &helper).await.unwrap();
        ready.push(begin.elapsed());
        echo(&session).await;
        first.push(begin.elapsed());
        for _ in 0..5 {
            let begin = Instant::now();
            echo(&session).await;
            further.push(begin.elapsed());
        }
        let begin = Instant::now();
        session.stop().await.unwrap();
        stop.push(begin.elapsed());
    }
    let mut plain = Vec::new();
    for _ in 0..count {
        let begin = Instant::now();
        std::process::Command::new("/bin/busybox").args(["sh", "-c", "echo x"]).output().unwrap();
        plain.push(begin.elapsed());
    }
    show("plain command", plain);
    show("ready", ready);
    show("start to first command's end", first);
    show("further command", further);
    show("stop", stop);
    std::fs::remove_dir_all(work).unwrap();
}

async fn echo(session: &Session) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut running = session.exec(Exec::new(["/bin/sh", "-c", "echo x"], writer.into())).await.unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    running.wait().await.unwrap();
    assert_eq!(text, "x\n");
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    println!("{what}: best {:?}, median {:?}", times[0], times[times.len() / 2]);
}
