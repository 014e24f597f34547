//! Runs a command in a directory that stays as it is: `run HELPER DIRECTORY COMMAND...`. HELPER is a program whose `main` begins
//! with `kiln_sandbox::helper_main`.

#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::indexing_slicing, reason = "an example")]

use std::os::fd::AsFd;
use std::path::PathBuf;

use kiln_sandbox::{Chosen, Exec, HELPER_ARGUMENT, HelperProgram, RootFs, SandboxSpec, Session};

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let helper = HelperProgram { path: PathBuf::from(&arguments[1]), arguments: vec![HELPER_ARGUMENT.to_owned()] };
    let work = PathBuf::from(format!("/tmp/run-{}", std::process::id()));
    for part in ["upper", "work"] {
        std::fs::create_dir_all(work.join(part)).unwrap();
    }
    let lowers = vec![PathBuf::from(&arguments[2])];
    let root = RootFs::Overlay { lowers, upper: work.join("upper"), work: work.join("work") };
    let session = Session::start(SandboxSpec::new(Chosen::root(), root), &helper).await.unwrap();
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let stdout = std::io::stdout().as_fd().try_clone_to_owned().unwrap();
    let exec = Exec { stdin: Some(stdin), ..Exec::new(arguments[3..].iter().cloned(), stdout) };
    let status = session.exec(exec).await.unwrap().wait().await.unwrap();
    eprintln!("{status:?}");
    session.stop().await.unwrap();
    std::fs::remove_dir_all(work).unwrap();
}
