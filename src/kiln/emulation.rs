//! Whether this host runs programs of another processor: asked before anything is built.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::AsyncFnOnce;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use kiln_core::{Failure, Platform};
use kiln_engine::{PlanReport, PreparedRun};

/// Refuses a run some of whose builds would start programs that nothing here runs. Only where there is no emulator, `plan`
/// tells which builds start any: what is restored or published needs none.
pub(crate) async fn check(
    run: &PreparedRun,
    scratch: &Path,
    plan: impl AsyncFnOnce() -> PlanReport,
) -> Result<(), Failure> {
    let mut wanted: BTreeMap<String, (Platform, Vec<String>)> = BTreeMap::new();
    for build in &run.builds {
        if let Some(platform) = build.runs_here().await.filter(|platform| !platform.is(&Platform::host())) {
            let (_, builds) = wanted.entry(platform.to_string()).or_insert_with(|| (platform, Vec::new()));
            builds.push(build.name.to_string());
        }
    }
    let mut missing: Vec<NoEmulator> = Vec::new();
    for (platform, builds) in wanted.into_values() {
        let scratch = scratch.to_path_buf();
        let asked = platform.clone();
        if !tokio::task::spawn_blocking(move || runs(&asked, &scratch)).await.unwrap_or(true) {
            missing.extend(builds.into_iter().map(|build| NoEmulator { platform: platform.clone(), build }));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let plan = plan().await;
    let idle: Vec<&str> = plan.builds.iter().filter(|build| !build.runs_steps()).map(|build| &*build.build).collect();
    match missing.into_iter().find(|missing| !idle.contains(&missing.build.as_str())) {
        None => Ok(()),
        Some(missing) => Err(Failure::environment(missing)
            .hint("on Debian and Ubuntu, `apt install qemu-user-static` sets emulators up for all of them")
            .hint("without emulation: build that platform on a machine that runs it (`-only`), or with an engine there (`DOCKER_HOST`)")),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`{build}` is for {platform}, and this host has no emulator for that ({} itself)", Platform::host())]
struct NoEmulator {
    platform: Platform,
    build: String,
}

/// Whether the kernel starts programs for a platform. Where that cannot be tried, it is left to the first step.
fn runs(platform: &Platform, scratch: &Path) -> bool {
    let Some(program) = smallest(&platform.architecture) else { return true };
    let Ok(directory) = tempfile_in(scratch) else { return true };
    let path = directory.join("program");
    let written = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o700).open(&path);
    let tried = written.and_then(|mut file| file.write_all(&program)).and_then(|()| {
        // Another thread that starts a program at this moment may still hold the file open.
        for _ in 0..50 {
            match std::process::Command::new(&path).status() {
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                tried => return tried,
            }
        }
        std::process::Command::new(&path).status()
    });
    let _ = std::fs::remove_dir_all(&directory);
    match tried {
        Ok(status) => status.success(),
        // A directory without the right to execute says nothing of the kernel.
        Err(error) => error.raw_os_error() != Some(rustix::io::Errno::NOEXEC.raw_os_error()),
    }
}

fn tempfile_in(scratch: &Path) -> std::io::Result<std::path::PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let directory = scratch.join(format!("kiln-try-{}", std::process::id()));
    std::fs::DirBuilder::new().mode(0o700).create(&directory)?;
    Ok(directory)
}

/// What a program is made of: whether it has 64 bits, whether its bytes stand big end first, the number of its processor
/// in ELF, flags, and the instructions of `exit(0)`.
struct Machine {
    is_wide: bool,
    is_big: bool,
    number: u16,
    flags: u32,
    code: &'static [u8],
}

fn machine(architecture: &str) -> Option<Machine> {
    let wide = |number, code| Machine { is_wide: true, is_big: false, number, flags: 0, code };
    let narrow = |number, flags, code| Machine { is_wide: false, is_big: false, number, flags, code };
    Some(match architecture {
        // mov eax, 60; xor edi, edi; syscall
        "amd64" => wide(62, &[0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]),
        // mov eax, 1; xor ebx, ebx; int 0x80
        "386" => narrow(3, 0, &[0xb8, 1, 0, 0, 0, 0x31, 0xdb, 0xcd, 0x80]),
        // mov x8, 93; mov x0, 0; svc 0
        "arm64" => wide(183, &[0xa8, 0x0b, 0x80, 0xd2, 0, 0, 0x80, 0xd2, 1, 0, 0, 0xd4]),
        // mov r7, 1; mov r0, 0; svc 0, in version 5 of the EABI
        "arm" => narrow(40, 0x0500_0000, &[1, 0x70, 0xa0, 0xe3, 0, 0, 0xa0, 0xe3, 0, 0, 0, 0xef]),
        // li a7, 93; li a0, 0; ecall
        "riscv64" => wide(243, &[0x93, 0x08, 0xd0, 0x05, 0x13, 0x05, 0, 0, 0x73, 0, 0, 0]),
        // li r0, 1; li r3, 0; sc, in version 2 of the ABI
        "ppc64le" => {
            let code = &[1, 0, 0, 0x38, 0, 0, 0x60, 0x38, 2, 0, 0, 0x44];
            Machine { is_wide: true, is_big: false, number: 21, flags: 2, code }
        }
        // lghi %r2, 0; svc 1
        "s390x" => Machine { is_wide: true, is_big: true, number: 22, flags: 0, code: &[0xa7, 0x29, 0, 0, 0x0a, 1] },
        _ => return None,
    })
}

/// The smallest program of an architecture: it ends well at once. `None` for one that kiln has none for.
fn smallest(architecture: &str) -> Option<Vec<u8>> {
    let machine = machine(architecture)?;
    let (header, segment) = if machine.is_wide { (64, 56) } else { (52, 32) };
    let start: u64 = 0x0001_0000;
    let size = header + segment + machine.code.len() as u64;
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 1 + u8::from(machine.is_wide), 1 + u8::from(machine.is_big), 1];
    bytes.resize(16, 0);
    let mut put = |value: u64, width: usize| match machine.is_big {
        true => bytes.extend(&value.to_be_bytes()[8 - width..]),
        false => bytes.extend(&value.to_le_bytes()[..width]),
    };
    let word = if machine.is_wide { 8 } else { 4 };
    // An executable of this machine, version 1: where it begins, where its segments are told, none of its sections.
    for (value, width) in [(2, 2), (machine.number.into(), 2), (1, 4)] {
        put(value, width);
    }
    for value in [start + header + segment, header, 0] {
        put(value, word);
    }
    put(machine.flags.into(), 4);
    for value in [header, segment, 1, 0, 0, 0] {
        put(value, 2);
    }
    // One segment: the whole file, to be read and run.
    put(1, 4);
    if machine.is_wide {
        put(5, 4);
    }
    for value in [0, start, start, size, size] {
        put(value, word);
    }
    if !machine.is_wide {
        put(5, 4);
    }
    put(0x1_0000, word);
    bytes.extend(machine.code);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_runs_its_own_smallest_program() {
        let directory = tempfile::tempdir().unwrap();
        assert!(smallest(&Platform::host().architecture).is_some());
        assert!(runs(&Platform::host(), directory.path()));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn programs_of_all_emulators_that_are_there_run() {
        let directory = tempfile::tempdir().unwrap();
        for (architecture, emulator) in
            [("arm64", "aarch64"), ("arm", "arm"), ("riscv64", "riscv64"), ("ppc64le", "ppc64le"), ("s390x", "s390x")]
        {
            let emulator = format!("/usr/bin/qemu-{emulator}-static");
            if !Path::new(&emulator).exists() {
                continue;
            }
            let path = directory.path().join(architecture);
            std::fs::write(&path, smallest(architecture).unwrap()).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
            let status = std::process::Command::new(&emulator).arg(&path).status().unwrap();
            assert!(status.success(), "{architecture}: {status}");
        }
    }
}
