//! Machines that OpenSSH reaches: Ansible's own `ssh` connection does it, with the host keys that kiln verified.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use kiln_core::SshAccess;
use kiln_transport::script::quote;

/// The longest control path that OpenSSH takes: it adds a name of its own while it makes the socket.
const LONGEST_CONTROL_PATH: usize = 104;

/// What Ansible and OpenSSH add to the control directory's path.
const CONTROL_NAME: usize = 1 + 10 + 17;

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

/// Where the sockets of shared connections lie, if that can be in the build's own directory: one that outlives the build
/// would lead to whatever machine has the address next.
pub(crate) fn control_directory(directory: PathBuf) -> Option<PathBuf> {
    (directory.as_os_str().len() + CONTROL_NAME <= LONGEST_CONTROL_PATH).then_some(directory)
}

/// Ends the shared connections that lie there.
pub(crate) async fn end_shared(directory: &Path) {
    let Ok(mut entries) = tokio::fs::read_dir(directory).await else { return };
    while let Ok(Some(entry)) = entries.next_entry().await {
        let control = format!("ControlPath={}", entry.path().display());
        let mut ssh = tokio::process::Command::new("ssh");
        ssh.args(["-o", &control, "-O", "exit", "kiln"]);
        // Gone already is fine.
        let _ = ssh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
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
    fn the_templates_own_arguments_stay() {
        let mut arguments = ["-v", "--ssh-common-args", "-o A=b", "--ssh-common-args=-C"].map(str::to_owned);
        assert!(merge_common(&mut arguments, "OURS"));
        assert_eq!(arguments, ["-v", "--ssh-common-args", "OURS -o A=b", "--ssh-common-args=OURS -C"]);
        assert!(!merge_common(&mut ["-v".to_owned()], "OURS"));
    }
}
