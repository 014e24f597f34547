//! The filter over a guest's system calls: what docker lets a container do, and no_new_privs stays off so that `sudo` and `su`
//! work in provisioners.
//!
//! A number that the table does not know answers ENOSYS, as an older kernel would, so that a libc falls back; what is known and
//! refused answers EPERM. The program is one binary search over runs of numbers; the kernel finds out by itself which calls
//! are always allowed and does not run it for them.

mod program;
mod table;

use std::io;

use crate::capabilities::Capabilities;
use program::Table;
use rustix::thread::CapabilitySet;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allow,
    /// Not run; this is what the caller sees. 0 is success.
    Answer(u16),
    /// It depends on an argument.
    Test(&'static Test),
}

/// A look at the lower half of one argument; the upper half means nothing in the calls that are looked at.
#[derive(Debug, PartialEq, Eq)]
struct Test {
    argument: u32,
    mask: u32,
    values: &'static [u32],
    matching: Plain,
    otherwise: Plain,
}

/// A verdict that needs no further look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plain {
    Allow,
    Answer(u16),
}

const EPERM: u16 = libc::EPERM as u16;
const ENOSYS: u16 = libc::ENOSYS as u16;

/// Calls that no guest may make: they reach what name spaces do not divide, or were the way out too often.
const NEVER: &[&str] = &[
    "_sysctl",
    "add_key",
    "afs_syscall",
    "create_module",
    "get_kernel_syms",
    "getpmsg",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "keyctl",
    "kexec_file_load",
    "kexec_load",
    "map_shadow_stack",
    "move_pages",
    "migrate_pages",
    "nfsservctl",
    "pivot_root",
    "putpmsg",
    "query_module",
    "request_key",
    "security",
    "swapoff",
    "swapon",
    "sysfs",
    "tuxcall",
    "uselib",
    "userfaultfd",
    "ustat",
    "vm86",
    "vm86old",
    "vserver",
];

/// Calls that go with a capability: without it the kernel is not even asked.
const WITH: &[(CapabilitySet, &[&str])] = &[
    (
        CapabilitySet::SYS_ADMIN,
        &[
            "bpf",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "lsm_get_self_attr",
            "lsm_list_modules",
            "lsm_set_self_attr",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "open_tree_attr",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    (CapabilitySet::BPF, &["bpf"]),
    (CapabilitySet::DAC_READ_SEARCH, &["open_by_handle_at"]),
    (CapabilitySet::PERFMON, &["perf_event_open"]),
    (CapabilitySet::SYSLOG, &["syslog"]),
    (CapabilitySet::SYS_BOOT, &["reboot"]),
    (CapabilitySet::SYS_CHROOT, &["chroot"]),
    (CapabilitySet::SYS_MODULE, &["delete_module", "finit_module", "init_module"]),
    (CapabilitySet::SYS_NICE, &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    (CapabilitySet::SYS_PACCT, &["acct"]),
    (CapabilitySet::SYS_PTRACE, &["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev"]),
    (CapabilitySet::SYS_RAWIO, &["ioperm", "iopl"]),
    (CapabilitySet::SYS_TIME, &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    (CapabilitySet::SYS_TTY_CONFIG, &["vhangup"]),
];

/// What a guest without real owners is told was done: it has one user id only, and to package managers a refusal is a failure.
const PRETENDED: &[&str] = &[
    "chown",
    "chown32",
    "fchown",
    "fchown32",
    "fchownat",
    "lchown",
    "lchown32",
    "setgid",
    "setgid32",
    "setgroups",
    "setgroups32",
    "setregid",
    "setregid32",
    "setresgid",
    "setresgid32",
    "setresuid",
    "setresuid32",
    "setreuid",
    "setreuid32",
    "setuid",
    "setuid32",
];

/// Every name space flag of `clone`.
const NAME_SPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

static CLONE: Test =
    Test { argument: 0, mask: NAME_SPACES, values: &[0], matching: Plain::Allow, otherwise: Plain::Answer(EPERM) };

/// Linux, its 32-bit face, both without address space randomisation's legacy bit, and the query.
static PERSONALITY: Test = Test {
    argument: 0,
    mask: u32::MAX,
    values: &[0, 0x0008, 0x2_0000, 0x2_0008, u32::MAX],
    matching: Plain::Allow,
    otherwise: Plain::Answer(EPERM),
};

/// Host and guest of a virtual machine talk by AF_VSOCK, past all network name spaces; AF_ALG opens much of the kernel for what
/// every library also does by itself.
static SOCKET: Test = Test {
    argument: 0,
    mask: u32::MAX,
    values: &[libc::AF_VSOCK as u32, libc::AF_ALG as u32],
    matching: Plain::Answer(libc::EAFNOSUPPORT as u16),
    otherwise: Plain::Allow,
};

static MKNOD: Test = device_test(1);
static MKNODAT: Test = device_test(2);

const fn device_test(argument: u32) -> Test {
    let values = &[libc::S_IFCHR, libc::S_IFBLK];
    Test { argument, mask: libc::S_IFMT, values, matching: Plain::Answer(0), otherwise: Plain::Allow }
}

/// What a filter is made for.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// What the guest's root may do.
    pub capabilities: Capabilities,
    /// Refuse what docker refuses. Off for a privileged guest.
    pub restrict: bool,
    /// The guest has a single user id: changes of owners and users are pretended.
    pub single_id: bool,
}

/// A filter, ready to be installed.
#[derive(Clone)]
pub struct Filter(Vec<libc::sock_filter>);

impl Filter {
    /// The filter of these rules; `None` where nothing is to be filtered, or where this processor's numbers are not known.
    pub fn new(rules: &Rules) -> Option<Filter> {
        if !rules.restrict && !rules.single_id {
            return None;
        }
        let tables: Vec<Table> = program::ARCHITECTURES
            .iter()
            .map(|architecture| {
                let numbered =
                    table::TABLE.iter().filter_map(|row| Some((architecture.number(row)?, verdict(row.0, rules))));
                Table::new(architecture.audit, numbered.collect(), rules.restrict)
            })
            .collect();
        (!tables.is_empty()).then(|| Filter(program::compile(&tables)))
    }

    /// Sets the filter for this thread and all that it forks, for good. Needs `CAP_SYS_ADMIN` in its user name space, because
    /// no_new_privs is not set.
    #[allow(unsafe_code, reason = "seccomp(2) has no safe wrapper")]
    pub fn install(&self) -> io::Result<()> {
        let program = libc::sock_fprog { len: self.0.len() as u16, filter: self.0.as_ptr().cast_mut() };
        // Without this flag, kernels before 5.16 slow every filtered process down by turning speculation off.
        let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
        // SAFETY: `program` points at `len` instructions that outlive the call; the kernel copies them.
        let result =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Filter({} instructions)", self.0.len())
    }
}

fn verdict(name: &str, rules: &Rules) -> Verdict {
    if rules.single_id {
        match name {
            "mknod" => return Verdict::Test(&MKNOD),
            "mknodat" => return Verdict::Test(&MKNODAT),
            _ if PRETENDED.contains(&name) => return Verdict::Answer(0),
            _ => {}
        }
    }
    if !rules.restrict {
        return Verdict::Allow;
    }
    if NEVER.contains(&name) {
        return Verdict::Answer(EPERM);
    }
    let mut guarded = false;
    for (capability, names) in WITH {
        if names.contains(&name) {
            if rules.capabilities.contains((*capability).into()) {
                return Verdict::Allow;
            }
            guarded = true;
        }
    }
    match name {
        // Its flags are behind a pointer, where no filter sees them: glibc then takes `clone`.
        "clone3" => Verdict::Answer(ENOSYS),
        _ if guarded => Verdict::Answer(EPERM),
        "clone" if !rules.capabilities.contains(CapabilitySet::SYS_ADMIN.into()) => Verdict::Test(&CLONE),
        "personality" => Verdict::Test(&PERSONALITY),
        "socket" => Verdict::Test(&SOCKET),
        _ => Verdict::Allow,
    }
}

#[cfg(test)]
mod tests;
