//! A command as text. Neither environment nor anything else that may be secret stands on the remote command line, which every
//! user of the machine sees: that line is always the same, and what to run comes on standard input as one line of shell,
//! with the command's own input right behind it. `read` takes exactly that line. The login's shell may be any: it only
//! reads the fixed line.

use kiln_core::Command;

/// What the login's shell is given.
pub(super) const LINE: &str = "exec /bin/sh -c 'IFS= read -r _kiln && eval \"$_kiln\"'";

/// The variable that tells the processes of one command from all others on the machine.
pub(super) const MARK: &str = "KILN_EXEC";

/// Why a command cannot be written down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandError {
    /// There is nothing to run.
    #[error("it has no program")]
    Empty,
    /// A shell has no variable of that name.
    #[error("`{0}` cannot be the name of a variable in a shell, and the environment of SSH commands goes through one")]
    Name(String),
    /// No text in C.
    #[error("a zero byte cannot be passed to a command")]
    Zero,
}

/// One line of shell that does `action`, as the command's user where it has one. It ends with a line feed.
pub(super) fn header(command: &Command, action: &str) -> Result<String, CommandError> {
    let switch = command.user.as_deref().map(switch).unwrap_or_default();
    // Line feeds in values: the shell's own field separators hold one, and nothing is started to get at it.
    let line = format!("{switch}unset _kiln; _kn=${{IFS#??}}; _kn=${{_kn%\"${{_kn#?}}\"}}; {action}\n");
    if line.contains('\0') { Err(CommandError::Zero) } else { Ok(line) }
}

/// Shell that sets the command's environment, and goes to its directory.
pub(super) fn environment(command: &Command, mark: &str) -> Result<String, CommandError> {
    let mut text = format!("export {MARK}={}; ", quote(mark));
    for (name, value) in &command.environment {
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name {
            return Err(CommandError::Name(name.clone()));
        }
        text.push_str(&format!("export {name}={}; ", quote(value)));
    }
    if let Some(directory) = &command.directory {
        let dash = if directory.starts_with('-') { "./" } else { "" };
        text.push_str(&format!("cd {} || exit 126; ", quote(&format!("{dash}{directory}"))));
    }
    Ok(text)
}

/// All of a command: its environment, its directory, and its program in place of the shell.
pub(super) fn whole(command: &Command, mark: &str) -> Result<String, CommandError> {
    header(command, &format!("{}{}", environment(command, mark)?, exec(command)?))
}

/// `exec` with program and arguments.
pub(super) fn exec(command: &Command) -> Result<String, CommandError> {
    if command.argv.is_empty() {
        return Err(CommandError::Empty);
    }
    let words: Vec<String> = command.argv.iter().map(|word| quote(word)).collect();
    Ok(format!("exec {}", words.join(" ")))
}

/// A word of shell. Line feeds come from `_kn`, as the whole has to be one line.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''").replace('\n', "'\"$_kn\"'"))
}

/// Becomes another user (`name`, `name:group`, numbers in place of either) and reads the next line as that one: root by
/// `su`, others by `sudo` without a password.
fn switch(user: &str) -> String {
    let (name, group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let is_number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let sudo_name = |text: &str| quote(&if is_number(text) { format!("#{text}") } else { text.to_owned() });
    let inner = "'IFS= read -r _kiln && eval \"$_kiln\"'";
    let sudo_group = group.map(|group| format!(" -g {}", sudo_name(group))).unwrap_or_default();
    let sudo = format!("exec sudo -n -u {}{sudo_group} -- /bin/sh -c {inner}", sudo_name(name));
    let quoted = quote(name);
    let become_it = match group {
        Some(_) => format!("{sudo}; "),
        None => format!(
            "if [ \"$(id -un)\" = {quoted} ] || [ \"$(id -u)\" = {quoted} ]; then :; \
             elif [ \"$(id -u)\" = 0 ]; then exec su -s /bin/sh \"$(id -un {quoted})\" -c {inner}; \
             else {sudo}; fi; "
        ),
    };
    format!("{become_it}IFS= read -r _kiln && eval \"$_kiln\"; exit\n")
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Stdio;

    use super::*;

    /// What the line makes of a command, with `input` behind the header.
    fn run(shell: &str, command: &Command, input: &str) -> (i32, String, String) {
        let header = whole(command, "7.").unwrap();
        let line = LINE.replace("/bin/sh", shell);
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", &line])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(header.as_bytes()).unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    /// The shells of this host.
    fn shells() -> Vec<&'static str> {
        let all = ["/bin/sh", "/bin/bash", "/bin/dash", "/bin/busybox sh", "/bin/ksh", "/bin/zsh"];
        all.into_iter()
            .filter(|shell| std::path::Path::new(shell.split(' ').next().unwrap_or_default()).exists())
            .collect()
    }

    #[test]
    fn words_values_and_input_arrive_untouched() {
        let odd = "two  words\n\n'quoted' $x `y` \\n \\\\ ! \t ü \u{1f600} *\n";
        for shell in shells() {
            let script = "printf '%s|%s|%s|%s|' \"$1\" \"$ODD\" \"$(pwd)\" \"$KILN_EXEC\"; cat";
            let mut command = Command::new(["/bin/sh", "-c", script, "sh", odd]);
            command.environment = vec![("ODD".into(), odd.into()), ("_kiln".into(), "mine".into())];
            command.directory = Some("/usr".into());
            let (status, stdout, stderr) = run(shell, &command, "input\n\\more");
            assert_eq!((status, stderr.as_str()), (0, ""), "{shell}");
            assert_eq!(stdout, format!("{odd}|{odd}|/usr|7.|input\n\\more"), "{shell}");
        }
    }

    #[test]
    fn the_environment_holds_nothing_of_ours_but_the_mark() {
        let (_, stdout, _) = run("/bin/sh", &Command::new(["env"]), "");
        let ours: Vec<&str> =
            stdout.lines().filter(|line| line.starts_with("_k") || line.starts_with("KILN_EXEC")).collect();
        assert_eq!(ours, ["KILN_EXEC=7."]);
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        assert_eq!(exec(&Command::default()), Err(CommandError::Empty));
        let bad = Command { environment: vec![("A-B".into(), "x".into())], ..Command::new(["true"]) };
        assert_eq!(whole(&bad, "7."), Err(CommandError::Name("A-B".into())));
        let zero = Command { environment: vec![("A".into(), "x\0y".into())], ..Command::new(["true"]) };
        assert_eq!(whole(&zero, "7."), Err(CommandError::Zero));
        let away = Command { directory: Some("/nowhere/at/all".into()), ..Command::new(["true"]) };
        let (status, _, stderr) = run("/bin/sh", &away, "");
        assert_eq!(status, 126);
        assert!(stderr.contains("/nowhere/at/all"), "{stderr}");
    }

    #[test]
    fn a_header_that_breaks_off_runs_nothing() {
        let command = Command::new(["echo", "ran"]);
        let whole = whole(&command, "7.").unwrap();
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", LINE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&whole.as_bytes()[..whole.len() - 1]).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.stdout.is_empty() && !output.status.success());
    }

    #[test]
    fn another_user_is_the_own_one_or_is_switched_to() {
        let own = String::from_utf8(std::process::Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        let mut command = Command::new(["sh", "-c", "id -un; echo \"$A\"; cat"]);
        command.environment = vec![("A".into(), "line\nline".into())];
        command.user = Some(own.trim().to_owned());
        let (status, stdout, stderr) = run("/bin/sh", &command, "rest");
        assert_eq!((status, stdout), (0, format!("{own}line\nline\nrest")), "{stderr}");
        if own.trim() == "root" {
            for user in ["daemon", "1"] {
                command.user = Some(user.to_owned());
                let (status, stdout, stderr) = run("/bin/sh", &command, "rest");
                assert_eq!((status, stdout.as_str()), (0, "daemon\nline\nline\nrest"), "{stderr}");
            }
        }
    }
}
