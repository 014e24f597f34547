//! The helper alone, for this crate's tests: a test program itself starts threads before anything of ours runs. It is also a
//! small command line, by which tests become another user, or are in a container:
//!
//! ```text
//! kiln-sandbox-helper probe STORE [ISOLATION]                       what was chosen, as JSON
//! kiln-sandbox-helper run STORE ISOLATION LOWER PROGRAM [ARG ..]    in STORE/upper on LOWER; chroot: in LOWER itself
//! kiln-sandbox-helper work STORE ISOLATION TASK                     a task as JSON; its input and output are ours
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for tests")]

use std::error::Error;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use kiln_sandbox::{
    Chosen, Exec, ExitStatus, HelperProgram, Isolation, RootFs, SandboxSpec, Session, Task, Worker, probe,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    if let Some(code) = kiln_sandbox::helper_main() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["probe", store, ref wanted @ ..] => show(Path::new(store), wanted.first().copied()),
        ["run", store, isolation, lower, ref argv @ ..] => run(Path::new(store), isolation, Path::new(lower), argv),
        ["work", store, isolation, task] => work(Path::new(store), isolation, task),
        _ => Err("probe, run or work".into()),
    };
    result.unwrap_or_else(|error| {
        eprint!("error: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            eprint!(": {error}");
            cause = error.source();
        }
        eprintln!();
        ExitCode::from(125)
    })
}

fn choose(store: &Path, wanted: Option<&str>) -> Result<Chosen> {
    let wanted = match wanted {
        None | Some("any") => None,
        Some("ns") => Some(Isolation::Ns),
        Some("userns") => Some(Isolation::Userns),
        Some("chroot") => Some(Isolation::Chroot),
        // Also where ranges are to be had.
        Some("single") => {
            let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            let id_map = kiln_sandbox::IdMap::single(uid, gid);
            let store_suffix = format!("{uid}-single");
            return Ok(Chosen { isolation: Isolation::Userns, id_map, lacks: Vec::new(), store_suffix });
        }
        Some(other) => return Err(format!("no isolation `{other}`").into()),
    };
    Ok(probe(&HelperProgram::this_program(), store).choose(wanted)?)
}

fn show(store: &Path, wanted: Option<&str>) -> Result<ExitCode> {
    println!("{}", serde_json::to_string(&choose(store, wanted)?)?);
    Ok(ExitCode::SUCCESS)
}

fn run(store: &Path, isolation: &str, lower: &Path, argv: &[&str]) -> Result<ExitCode> {
    let chosen = choose(store, Some(isolation))?;
    let root = match chosen.isolation {
        Isolation::Chroot => RootFs::Directory(lower.to_owned()),
        _ => {
            let (upper, work) = (store.join("upper"), store.join("work"));
            std::fs::create_dir_all(&upper)?;
            std::fs::create_dir_all(&work)?;
            RootFs::Overlay { lowers: vec![lower.to_owned()], upper, work }
        }
    };
    let mut spec = SandboxSpec::new(chosen, root);
    spec.secrets_directory = Some("/run/kiln/secrets".to_owned());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let status = runtime.block_on(async {
        let session = Session::start(spec, &HelperProgram::this_program()).await?;
        let mut exec = Exec::new(argv.iter().copied(), std::io::stdout().as_fd().try_clone_to_owned()?);
        exec.stdin = Some(std::io::stdin().as_fd().try_clone_to_owned()?);
        exec.stderr = Some(std::io::stderr().as_fd().try_clone_to_owned()?);
        exec.user = std::env::var("GUEST_USER").ok();
        let status = session.exec(exec).await?.wait().await?;
        session.stop().await?;
        Result::Ok(status)
    })?;
    Ok(match status {
        ExitStatus::Exited(status) => ExitCode::from(u8::try_from(status)?),
        ExitStatus::Signalled(signal) => ExitCode::from(128 + u8::try_from(signal)?),
    })
}

fn work(store: &Path, isolation: &str, task: &str) -> Result<ExitCode> {
    let task: Task = serde_json::from_str(task)?;
    let worker = Worker::new(&choose(store, Some(isolation))?, &HelperProgram::this_program());
    let input = std::io::stdin().as_fd().try_clone_to_owned()?;
    let output = std::io::stdout().as_fd().try_clone_to_owned()?;
    let outcome = worker.run(&task, Some(input), Some(output))?;
    eprintln!("{}", serde_json::to_string(&outcome)?);
    Ok(ExitCode::SUCCESS)
}
