//! The program is run by a small interpreter here; that the kernel takes it is seen where sandboxes are tested.

use super::*;

const X86_64: u32 = 0xC000_003E;
const I386: u32 = 0x4000_0003;

const DOCKER: Rules = Rules { capabilities: Capabilities::NONE, restrict: true, single_id: false };

fn docker() -> Rules {
    Rules { capabilities: Capabilities::docker_default(), ..DOCKER }
}

/// What the program returns for a call.
fn run(filter: &Filter, architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(architecture.to_le_bytes());
    data.extend(0u64.to_le_bytes());
    arguments.iter().for_each(|argument| data.extend(argument.to_le_bytes()));
    let mut at = 0;
    let mut accumulator = 0;
    loop {
        let step = filter.0[at];
        at += 1;
        let code = u32::from(step.code);
        let jump = |taken: bool| usize::from(if taken { step.jt } else { step.jf });
        match code {
            _ if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                let offset = step.k as usize;
                accumulator = u32::from_le_bytes(data[offset..offset + 4].try_into().unwrap());
            }
            _ if code == libc::BPF_ALU | libc::BPF_AND | libc::BPF_K => accumulator &= step.k,
            _ if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => at += jump(accumulator == step.k),
            _ if code == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => at += jump(accumulator >= step.k),
            _ if code == libc::BPF_JMP | libc::BPF_JA => at += step.k as usize,
            _ if code == libc::BPF_RET | libc::BPF_K => return step.k,
            _ => panic!("an instruction that is not made here: {code:#x}"),
        }
    }
}

fn number(name: &str, architecture: u32) -> u32 {
    let row = table::TABLE.iter().find(|row| row.0 == name).unwrap_or_else(|| panic!("{name} is not in the table"));
    (if architecture == X86_64 { row.1 } else { row.2 }) as u32
}

/// `Ok` is allowed, `Err` the answer.
fn asked(rules: &Rules, architecture: u32, name: &str, arguments: [u64; 6]) -> Result<(), i32> {
    let filter = Filter::new(rules).unwrap();
    match run(&filter, architecture, number(name, architecture), arguments) {
        libc::SECCOMP_RET_ALLOW => Ok(()),
        other => Err((other & 0xFFFF) as i32),
    }
}

#[test]
fn every_name_in_the_rules_is_known() {
    let names = WITH.iter().flat_map(|(_, names)| names.iter()).chain(NEVER).chain(PRETENDED);
    for name in names {
        assert!(table::TABLE.iter().any(|row| row.0 == *name), "{name}");
    }
    assert!(table::TABLE.is_sorted_by_key(|row| row.0));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn numbers_are_those_of_libc() {
    for (name, expected) in [
        ("read", libc::SYS_read),
        ("clone3", libc::SYS_clone3),
        ("openat2", libc::SYS_openat2),
        ("mseal", libc::SYS_mseal),
        ("keyctl", libc::SYS_keyctl),
        ("execveat", libc::SYS_execveat),
    ] {
        assert_eq!(i64::from(number(name, X86_64)), expected, "{name}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn each_call_gets_its_verdict_on_both_faces() {
    let rules = docker();
    let filter = Filter::new(&rules).unwrap();
    for row in table::TABLE {
        for (architecture, number) in [(X86_64, row.1), (I386, row.2)] {
            let Ok(number) = u32::try_from(number) else { continue };
            let expected = match verdict(row.0, &rules) {
                Verdict::Allow => libc::SECCOMP_RET_ALLOW,
                Verdict::Answer(errno) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
                Verdict::Test(_) => continue,
            };
            assert_eq!(run(&filter, architecture, number, [0; 6]), expected, "{}", row.0);
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn what_a_container_needs_is_allowed_and_the_ways_out_are_not() {
    let rules = docker();
    for name in ["read", "execve", "openat2", "chown", "mknod", "setuid", "chroot", "ptrace", "statx", "futex", "fork"]
    {
        assert_eq!(asked(&rules, X86_64, name, [0; 6]), Ok(()), "{name}");
    }
    for name in ["mount", "umount2", "unshare", "setns", "bpf", "keyctl", "open_by_handle_at", "init_module", "reboot"]
    {
        assert_eq!(asked(&rules, X86_64, name, [0; 6]), Err(libc::EPERM), "{name}");
        assert_eq!(asked(&rules, I386, name, [0; 6]), Err(libc::EPERM), "{name}");
    }
    assert_eq!(asked(&rules, X86_64, "clone3", [0; 6]), Err(libc::ENOSYS));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn arguments_are_looked_at() {
    let rules = docker();
    let first = |value: u64| [value, 0, 0, 0, 0, 0];
    let thread = (libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_FILES) as u64;
    assert_eq!(asked(&rules, X86_64, "clone", first(thread)), Ok(()));
    assert_eq!(asked(&rules, X86_64, "clone", first(thread | libc::CLONE_NEWUSER as u64)), Err(libc::EPERM));
    assert_eq!(asked(&rules, X86_64, "socket", first(libc::AF_INET6 as u64)), Ok(()));
    assert_eq!(asked(&rules, X86_64, "socket", first(libc::AF_VSOCK as u64)), Err(libc::EAFNOSUPPORT));
    assert_eq!(asked(&rules, X86_64, "personality", first(0x2_0008)), Ok(()));
    assert_eq!(asked(&rules, X86_64, "personality", first(0xffff_ffff)), Ok(()));
    assert_eq!(asked(&rules, X86_64, "personality", first(0x40000)), Err(libc::EPERM));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn what_is_not_known_does_not_exist() {
    let filter = Filter::new(&docker()).unwrap();
    let missing = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    for number in [335, 423, 468, 9999, u32::MAX, 0x4000_0000, 0x4000_0001] {
        assert_eq!(run(&filter, X86_64, number, [0; 6]), missing, "{number}");
    }
    assert_eq!(run(&filter, 0xC000_00B7, 63, [0; 6]), missing);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_capability_opens_its_calls() {
    let add = ["SYS_ADMIN".to_owned()];
    let rules = Rules { capabilities: Capabilities::adjusted(&add, &[]).unwrap(), ..DOCKER };
    let flags = [libc::CLONE_NEWNS as u64, 0, 0, 0, 0, 0];
    assert_eq!(asked(&rules, X86_64, "mount", [0; 6]), Ok(()));
    assert_eq!(asked(&rules, X86_64, "clone", flags), Ok(()));
    assert_eq!(asked(&rules, X86_64, "keyctl", [0; 6]), Err(libc::EPERM));
    assert_eq!(asked(&DOCKER, X86_64, "chroot", [0; 6]), Err(libc::EPERM));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_single_id_pretends() {
    let rules = Rules { single_id: true, ..docker() };
    for name in ["chown", "fchownat", "setuid", "setgroups", "setresgid"] {
        assert_eq!(asked(&rules, X86_64, name, [7; 6]), Err(0), "{name}");
    }
    let mode = |mode: u32| [0, u64::from(mode), 0, 0, 0, 0];
    assert_eq!(asked(&rules, X86_64, "mknod", mode(libc::S_IFCHR | 0o644)), Err(0));
    assert_eq!(asked(&rules, X86_64, "mknod", mode(libc::S_IFIFO | 0o644)), Ok(()));
    let open = Rules { restrict: false, ..rules };
    assert_eq!(asked(&open, X86_64, "chown", [7; 6]), Err(0));
    assert_eq!(asked(&open, X86_64, "mount", [7; 6]), Ok(()));
    assert!(Filter::new(&Rules { single_id: false, ..open }).is_none());
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_program_is_short() {
    let filter = Filter::new(&Rules { single_id: true, ..docker() }).unwrap();
    assert!(filter.0.len() < 1000, "{filter:?}");
}
