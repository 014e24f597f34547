//! Machines that OpenSSH reaches: Ansible's own `ssh` connection does it, with the host keys that kiln verified.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use kiln_core::SshAccess;
use kiln_transport::script::quote;

/// The longest control path that OpenSSH takes: it adds a name of its own while it makes the socket.
const LONGEST_CONTROL_PATH: usize = 104;

/// What comes behind the control directory's path: a digest, and what OpenSSH adds.
const CONTROL_NAME: usize = 1 + 40 + 17;

/// Options for `ssh`, `scp` and `sftp` alike, as Ansible splits them: the machine's key is the one that kiln verified,
/// whatever the user's own files say.
pub(crate) fn common_arguments(access: &SshAccess) -> String {
    let mut options = vec![
        format!("UserKnownHostsFile={}", option_path(&access.known_hosts)),
        "GlobalKnownHostsFile=/dev/null".to_owned(),
        "StrictHostKeyChecking=yes".to_owned(),
    ];
    if access.identity_file.is_some() {
        options.push("IdentitiesOnly=yes".to_owned());
    }
    if let Some(certificate) = &access.certificate_file {
        options.push(format!("CertificateFile={}", option_path(certificate)));
    }
    let mut words: Vec<String> = options.iter().map(|option| format!("-o {}", quote(option))).collect();
    if let Some(config) = &access.config_file {
        words.push(format!("-F {}", quote(&config.display().to_string())));
    }
    words.join(" ")
}

/// A path as the value of an option: blanks end it, and `%` begins a token.
fn option_path(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('%', "%%"))
}

/// Where the sockets of shared connections lie: in the build's own directory. One that outlived the build would lead to
/// whatever machine has the address next.
#[derive(Debug)]
pub(crate) struct Control {
    directory: PathBuf,
    /// The same by a name that is short enough, which is good as long as the directory is held.
    short: PathBuf,
    _held: std::fs::File,
}

impl Control {
    /// In this directory; `None` where it has no name that a socket's address could hold.
    pub(crate) fn open(directory: PathBuf) -> Option<Control> {
        let held = std::fs::File::open(&directory).ok()?;
        let number = std::os::fd::AsRawFd::as_raw_fd(&held);
        let numbered = PathBuf::from(format!("/proc/{}/fd/{number}", std::process::id()));
        let fits = |path: &PathBuf| path.as_os_str().len() + CONTROL_NAME <= LONGEST_CONTROL_PATH;
        let short = [directory.clone(), numbered].into_iter().find(|path| fits(path) && path.is_dir())?;
        Some(Control { directory, short, _held: held })
    }

    /// What Ansible makes the path of a socket from.
    pub(crate) fn pattern(&self) -> String {
        format!("{}/%%C", self.short.display().to_string().replace('%', "%%%%"))
    }

    /// Ends the shared connections.
    pub(crate) async fn end(&self) {
        let Ok(mut entries) = tokio::fs::read_dir(&self.directory).await else { return };
        while let Ok(Some(entry)) = entries.next_entry().await {
            let control = format!("ControlPath={}", option_path(&self.short.join(entry.file_name())));
            let mut ssh = tokio::process::Command::new("ssh");
            ssh.args(["-F", "none", "-o", &control, "-O", "exit", "kiln"]);
            // Gone already is fine.
            let _ = ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
        }
    }
}

/// The same arguments with those that the template gives in `--ssh-common-args`, which would replace ours.
pub(crate) fn merge_common(arguments: &mut [String], common: &str) -> bool {
    const OPTION: &str = "--ssh-common-args";
    let mut is_merged = false;
    let mut follows = false;
    for argument in arguments {
        if follows {
            *argument = format!("{common} {argument}");
            is_merged = true;
        } else if let Some(value) = argument.strip_prefix(OPTION).and_then(|rest| rest.strip_prefix('=')) {
            *argument = format!("{OPTION}={common} {value}");
            is_merged = true;
        }
        follows = argument == OPTION;
    }
    is_merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> SshAccess {
        SshAccess {
            host: "10.0.0.7".into(),
            port: 22,
            user: "admin".into(),
            identity_file: Some("/tmp/key".into()),
            certificate_file: None,
            password: None,
            known_hosts: "/tmp/a b/known%hosts".into(),
            config_file: Some("/tmp/it's/config".into()),
        }
    }

    #[test]
    fn only_the_verified_key_counts() {
        let expected = "-o 'UserKnownHostsFile=\"/tmp/a b/known%%hosts\"' -o 'GlobalKnownHostsFile=/dev/null' \
                        -o 'StrictHostKeyChecking=yes' -o 'IdentitiesOnly=yes' -F '/tmp/it'\\''s/config'";
        assert_eq!(common_arguments(&access()), expected);
    }

    #[test]
    fn sockets_of_shared_connections_have_short_names() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        std::fs::write(deep.join("x"), "").unwrap();
        let control = Control::open(deep).unwrap();
        let pattern = control.pattern();
        assert!(pattern.len() < 40 && pattern.ends_with("/%%C"), "{pattern}");
        assert!(Path::new(pattern.trim_end_matches("%%C")).join("x").is_file());
        let near = Control::open(directory.path().to_owned()).unwrap();
        assert_eq!(near.pattern(), format!("{}/%%C", directory.path().display()));
    }

    #[test]
    fn the_templates_own_arguments_stay() {
        let mut arguments = ["-v", "--ssh-common-args", "-o A=b", "--ssh-common-args=-C"].map(str::to_owned);
        assert!(merge_common(&mut arguments, "OURS"));
        assert_eq!(arguments, ["-v", "--ssh-common-args", "OURS -o A=b", "--ssh-common-args=OURS -C"]);
        assert!(!merge_common(&mut ["-v".to_owned()], "OURS"));
    }
}
