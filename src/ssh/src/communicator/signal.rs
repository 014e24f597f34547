//! The names of signals in SSH (RFC 4254, section 6.10) as this host's numbers.

/// The number of a signal; that of `KILL` for one that is not known, as something did end the command.
pub(super) fn number(name: &str) -> i32 {
    match name.split('@').next().unwrap_or(name) {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "ILL" => 4,
        "TRAP" => 5,
        "ABRT" => 6,
        "BUS" => 7,
        "FPE" => 8,
        "USR1" => 10,
        "SEGV" => 11,
        "USR2" => 12,
        "PIPE" => 13,
        "ALRM" => 14,
        "TERM" => 15,
        "XCPU" => 24,
        "XFSZ" => 25,
        "SYS" => 31,
        _ => 9,
    }
}
