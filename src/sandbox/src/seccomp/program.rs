//! From verdicts to the kernel's classic BPF: per architecture a binary search over runs of numbers with one verdict.

use super::table::Row;
use super::{ENOSYS, Plain, Test, Verdict};

/// One face of this processor: its native numbers, or those of its 32-bit programs.
pub(super) struct Architecture {
    /// The kernel's AUDIT_ARCH of it.
    pub(super) audit: u32,
    column: fn(&Row) -> i32,
}

impl Architecture {
    pub(super) fn number(&self, row: &Row) -> Option<u32> {
        u32::try_from((self.column)(row)).ok()
    }
}

/// Native first. Empty where the table has no numbers for this processor.
pub(super) const ARCHITECTURES: &[Architecture] = if cfg!(target_arch = "x86_64") {
    &[
        Architecture { audit: 0xC000_003E, column: |row| row.1 },
        Architecture { audit: 0x4000_0003, column: |row| row.2 },
    ]
} else if cfg!(target_arch = "aarch64") {
    &[Architecture { audit: 0xC000_00B7, column: |row| row.3 }]
} else if cfg!(target_arch = "riscv64") {
    &[Architecture { audit: 0xC000_00F3, column: |row| row.3 }]
} else {
    &[]
};

/// Runs of numbers of one architecture: each begins at its number and lasts to the next one's.
pub(super) struct Table {
    audit: u32,
    runs: Vec<(u32, Verdict)>,
}

impl Table {
    /// What is between and after the known numbers answers ENOSYS where `closed`.
    pub(super) fn new(audit: u32, mut numbered: Vec<(u32, Verdict)>, closed: bool) -> Table {
        numbered.sort_by_key(|(number, _)| *number);
        let unknown = if closed { Verdict::Answer(ENOSYS) } else { Verdict::Allow };
        let mut runs: Vec<(u32, Verdict)> = Vec::new();
        let mut push = |number: u32, verdict: Verdict| {
            if runs.last().is_none_or(|(_, last)| *last != verdict) {
                runs.push((number, verdict));
            }
        };
        let mut next = 0;
        for (number, verdict) in numbered {
            if number > next {
                push(next, unknown);
            }
            push(number, verdict);
            next = number + 1;
        }
        push(next, unknown);
        Table { audit, runs }
    }
}

// Offsets in the kernel's `seccomp_data`, and of the half of an argument that holds its low bits.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
const LOW_HALF: u32 = if cfg!(target_endian = "little") { 0 } else { 4 };

type Instruction = libc::sock_filter;

pub(super) fn compile(tables: &[Table]) -> Vec<Instruction> {
    let mut code = vec![load(ARCHITECTURE)];
    for table in tables {
        let mut body = vec![load(NUMBER)];
        body.extend(search(&table.runs));
        code.push(jump(libc::BPF_JEQ, table.audit, 1, 0));
        code.push(skip(body.len()));
        code.extend(body);
    }
    // A program of another kind: none of its numbers is known.
    code.push(answer(Plain::Answer(ENOSYS)));
    code
}

/// Ends in a return on every path.
fn search(runs: &[(u32, Verdict)]) -> Vec<Instruction> {
    if let [(_, verdict)] = runs {
        return judge(*verdict);
    }
    let (low, high) = runs.split_at(runs.len() / 2);
    let below = search(low);
    let above = search(high);
    let mut code = vec![jump(libc::BPF_JGE, high[0].0, 0, 1), skip(below.len())];
    code.extend(below);
    code.extend(above);
    code
}

fn judge(verdict: Verdict) -> Vec<Instruction> {
    match verdict {
        Verdict::Allow => vec![answer(Plain::Allow)],
        Verdict::Answer(errno) => vec![answer(Plain::Answer(errno))],
        Verdict::Test(test) => examine(test),
    }
}

fn examine(test: &Test) -> Vec<Instruction> {
    let mut code = vec![
        load(ARGUMENTS + 8 * test.argument + LOW_HALF),
        instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, test.mask, 0, 0),
    ];
    let count = test.values.len();
    for (index, value) in test.values.iter().enumerate() {
        // To the last instruction, over the other comparisons and the other verdict.
        code.push(jump(libc::BPF_JEQ, *value, (count - index) as u8, 0));
    }
    code.push(answer(test.otherwise));
    code.push(answer(test.matching));
    code
}

fn load(offset: u32) -> Instruction {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

fn jump(comparison: u32, value: u32, when_true: u8, when_false: u8) -> Instruction {
    instruction(libc::BPF_JMP | comparison | libc::BPF_K, value, when_true, when_false)
}

fn skip(count: usize) -> Instruction {
    instruction(libc::BPF_JMP | libc::BPF_JA, count as u32, 0, 0)
}

fn answer(verdict: Plain) -> Instruction {
    let action = match verdict {
        Plain::Allow => libc::SECCOMP_RET_ALLOW,
        Plain::Answer(errno) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
    };
    instruction(libc::BPF_RET | libc::BPF_K, action, 0, 0)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code: code as u16, jt, jf, k }
}
