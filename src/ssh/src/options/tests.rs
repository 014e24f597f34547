//! Options as templates write them. What Packer 1.6.6 says of the same is told in the names.

use kiln_core::{Diagnostics, PrepareContext, Schema};
use kiln_testkit::{Arguments, prepare_context, titles};
use serde_json::{Value as Json, json};

use super::*;
use crate::keys::generate;

const SCHEMA: Schema = Schema { kind: "null", title: "a `null` source", doc: "", fields: FIELDS, example: "" };

fn read_in(json: &Json, process: &SshProcess, context: &PrepareContext) -> (Option<SshOptions>, Diagnostics) {
    let (decoded, mut diagnostics) = Arguments::new(json.clone()).decode(&SCHEMA);
    let options = SshOptions::read(&decoded, process, context, &mut diagnostics);
    assert_eq!(options.is_none(), diagnostics.has_errors(), "{diagnostics:?}");
    (options, diagnostics)
}

/// Options of a host, a user and these.
fn read(more: Json) -> (Option<SshOptions>, Diagnostics) {
    let mut json = json!({ "ssh_host": "web", "ssh_username": "root" });
    for (name, value) in more.as_object().unwrap() {
        json[name] = value.clone();
    }
    read_in(&json, &SshProcess::default(), &prepare_context())
}

fn good(more: Json) -> SshOptions {
    let (options, diagnostics) = read(more);
    assert_eq!(titles(&diagnostics), [""; 0]);
    options.unwrap()
}

fn told(more: Json) -> Vec<String> {
    titles(&read(more).1).into_iter().map(str::to_owned).collect()
}

#[test]
fn defaults_are_packers_but_for_what_is_listed() {
    let options = good(json!({}));
    assert_eq!((options.reach, options.port(), options.pty), (Reach::Ssh, 22, false));
    assert_eq!(options.patience, Patience { timeout: Some(Duration::from_secs(300)), attempts: Some(10) });
    assert_eq!(options.keep_alive, Some(Duration::from_secs(5)));
    assert_eq!((options.read_write_timeout, options.pause_before_connecting), (None, Duration::ZERO));
    // Packer: forwarded; `scp`; RSA.
    assert_eq!(options.lends_agent, None);
    assert_eq!((options.file_transfer, options.temporary_key_kind), (FileTransfer::Tar, KeyKind::Ed25519));
    assert!(options.login.is_empty());
}

#[test]
fn timeout_and_attempts_have_defaults_only_together() {
    let patience = |more| good(more).patience;
    assert_eq!(
        patience(json!({ "ssh_timeout": "1m" })),
        Patience { timeout: Some(Duration::from_secs(60)), attempts: None }
    );
    assert_eq!(patience(json!({ "ssh_handshake_attempts": 3 })), Patience { timeout: None, attempts: Some(3) });
    let both = json!({ "ssh_timeout": "0s", "ssh_handshake_attempts": 0 });
    assert_eq!(patience(both), Patience { timeout: Some(TIMEOUT), attempts: Some(10) });
    let (options, diagnostics) = read(json!({ "ssh_wait_timeout": "1m" }));
    assert_eq!(options.unwrap().patience.timeout, Some(Duration::from_secs(60)));
    assert_eq!(titles(&diagnostics).len(), 1, "it is out of date");
}

const TIMEOUT: Duration = Duration::from_secs(300);

#[test]
fn keep_alive_is_off_below_zero() {
    assert_eq!(good(json!({ "ssh_keep_alive_interval": "-1s" })).keep_alive, None);
    assert_eq!(good(json!({ "ssh_keep_alive_interval": "30s" })).keep_alive, Some(Duration::from_secs(30)));
    assert_eq!(
        told(json!({ "ssh_keep_alive_interval": "30" })),
        ["`ssh_keep_alive_interval`: `30` has no unit; write for example `30s`"]
    );
}

#[test]
fn communicators_that_are_not_there_are_told() {
    assert_eq!(good(json!({ "communicator": "none" })).reach, Reach::None);
    assert_eq!(good(json!({ "communicator": "" })).reach, Reach::Ssh);
    assert_eq!(told(json!({ "communicator": "shs" })), ["there is no communicator `shs`"]);

    let json = json!({ "communicator": "winrm", "winrm_username": "a", "winrm_port": 5986, "winrm_use_ssl": true });
    let (options, diagnostics) = read_in(&json, &SshProcess::default(), &prepare_context());
    assert!(options.is_none());
    assert_eq!(titles(&diagnostics), ["kiln does not have the communicator `winrm`"]);
    // The rest of a template can be checked all the same.
    let checked = PrepareContext { will_run: false, ..prepare_context() };
    let (options, diagnostics) = read_in(&json, &SshProcess::default(), &checked);
    assert!(options.is_some() && !diagnostics.has_errors());
}

#[test]
fn a_user_is_needed_unless_a_configuration_may_name_one() {
    let told = |json: Json| {
        let (_, diagnostics) = read_in(&json, &SshProcess::default(), &prepare_context());
        titles(&diagnostics).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(told(json!({})), ["`ssh_username` is missing"]);
    assert_eq!(told(json!({ "communicator": "none" })), [""; 0]);
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(told(json!({ "ssh_config_file": file.path() })), [""; 0]);
}

#[test]
fn key_files_are_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let process = SshProcess { home: Some(directory.path().to_owned()), ..SshProcess::default() };
    let pair = generate(KeyKind::Ed25519, "").unwrap();
    std::fs::write(directory.path().join("id"), pair.private.expose()).unwrap();
    std::fs::write(directory.path().join("id.pub"), &pair.public).unwrap();
    std::fs::write(directory.path().join("junk"), "junk").unwrap();
    let told = |json: Json| {
        let (options, diagnostics) = read_in(&json, &process, &prepare_context());
        let titles = titles(&diagnostics).into_iter().map(str::to_owned).collect::<Vec<_>>();
        (options.and_then(|options| options.login.key), titles)
    };
    let user = |name: &str, file: &str| json!({ "ssh_username": "u", name: file });
    let key = Some(KeySource::File(directory.path().join("id")));
    assert_eq!(told(user("ssh_private_key_file", "~/id")), (key, vec![]));
    for (name, file, why) in [
        ("ssh_private_key_file", "~/none", "cannot read ~/none: No such file or directory (os error 2)"),
        ("ssh_private_key_file", "~/junk", "~/junk: this is not a private key that kiln can read"),
        ("ssh_private_key_file", "~/id.pub", "~/id.pub: this is a public key; the private one is needed"),
        ("ssh_bastion_private_key_file", "~/junk", "~/junk: this is not a private key that kiln can read"),
        ("ssh_known_hosts_file", "~/none", "cannot read ~/none: there is no such file"),
        ("ssh_config_file", "~/none", "cannot read ~/none: there is no such file"),
    ] {
        assert_eq!(told(user(name, file)).1, [format!("`{name}`: {why}")]);
    }
    let certificate = "`ssh_certificate_file`: ~/id.pub: this is not an OpenSSH certificate; one looks like \
                       `ssh-ed25519-cert-v01@openssh.com AAAA...`";
    let json = json!({ "ssh_username": "u", "ssh_private_key_file": "~/id", "ssh_certificate_file": "~/id.pub" });
    assert_eq!(told(json).1, [certificate]);
    let both = json!({ "ssh_username": "u", "ssh_private_key_file": "~/id", "ssh_private_key": pair.private.expose() });
    assert_eq!(told(both).1, ["either `ssh_private_key` or `ssh_private_key_file`, not both"]);
}

#[test]
fn what_is_not_known_yet_is_not_checked() {
    let json = json!({
        "ssh_username": "", "ssh_private_key_file": "", "ssh_host_key": [""], "ssh_local_tunnels": [""], "ssh_bastion_host": "x y",
        "ssh_bastion_password": "",
    });
    let arguments =
        Arguments::new(json).unknown("ssh_username").unknown("ssh_private_key_file").unknown("ssh_host_key[0]");
    let arguments =
        arguments.unknown("ssh_local_tunnels[0]").unknown("ssh_bastion_host").unknown("ssh_bastion_password");
    let (decoded, mut diagnostics) = arguments.decode(&SCHEMA);
    let options = SshOptions::read(&decoded, &SshProcess::default(), &prepare_context(), &mut diagnostics);
    assert_eq!(titles(&diagnostics), [""; 0]);
    assert!(options.is_some());
}

#[test]
fn bastions_are_told_apart_and_inherit() {
    let options = good(json!({
        "ssh_bastion_host": "one, me@two:2200", "ssh_bastion_port": 2222, "ssh_bastion_username": "jump",
        "ssh_bastion_password": "x",
    }));
    let bastion =
        |host: &str, port, user: &str| BastionOptions { host: host.into(), port: Some(port), user: Some(user.into()) };
    assert_eq!(options.bastions, [bastion("one", 2222, "jump"), bastion("two", 2200, "me")]);
    assert_eq!(
        told(json!({ "ssh_bastion_host": "a:b", "ssh_bastion_password": "x" })),
        ["`ssh_bastion_host`: `a:b` is not of the form `[USER@]HOST[:PORT]`"]
    );
    let key = generate(KeyKind::Ed25519, "").unwrap().private;
    let options = good(json!({ "ssh_bastion_host": "b", "ssh_private_key": key.expose() }));
    assert_eq!(options.bastion_login.key, options.login.key);
    let titles = told(json!({ "ssh_bastion_host": "b", "ssh_bastion_password": "x", "ssh_proxy_host": "p" }));
    assert_eq!(titles, ["either `ssh_bastion_host` or `ssh_proxy_host`, not both"]);
    assert_eq!(told(json!({ "ssh_bastion_host": "b" })), ["there is no way to log in to the bastion"]);
}

#[test]
fn proxies_have_kinds() {
    let proxy = |more| good(more).proxy.unwrap();
    let socks = proxy(json!({ "ssh_proxy_host": "p" }));
    assert_eq!((socks.kind, socks.port, socks.login), (ProxyKind::Socks5, 1080, None));
    let http = proxy(
        json!({ "ssh_proxy_host": "p", "ssh_proxy_port": 3128, "ssh_proxy_type": "http", "ssh_proxy_username": "u" }),
    );
    assert_eq!((http.kind, http.port, http.login), (ProxyKind::Http, 3128, Some(("u".to_owned(), Secret::default()))));
}

#[test]
fn wrong_values_are_all_told_at_once() {
    let titles = told(json!({
        "ssh_port": 99999,
        "ssh_local_tunnels": ["x"],
        "ssh_remote_tunnels": ["80:a:b"],
        "ssh_host_key": ["SHA256:short"],
        "ssh_file_transfer_method": "rsync",
        "temporary_key_pair_type": "dsa",
        "ssh_agent_forwarding": true,
        "ssh_disable_agent_forwarding": true,
    }));
    assert_eq!(
        titles,
        [
            "`ssh_file_transfer_method` cannot be `rsync`",
            "`ssh_port`: 99999 is not a port; ports go from 1 to 65535",
            "`ssh_agent_forwarding` and `ssh_disable_agent_forwarding` are both set",
            "`temporary_key_pair_type`: no keys of the kind `dsa` are made; the kinds are `ed25519`, `ecdsa` and `rsa`",
            "`ssh_local_tunnels`: `x` is not of the form `PORT:HOST:HOSTPORT`",
            "`ssh_remote_tunnels`: `b` in `80:a:b` is not a port",
            "`ssh_host_key`: `SHA256:short` is neither a fingerprint (`SHA256:...`) nor a public key (`ssh-ed25519 AAAA...`)",
        ]
    );
}

#[test]
fn algorithms_that_are_not_there_are_left_out_with_a_warning() {
    let (options, diagnostics) = read(json!({ "ssh_ciphers": ["aes128-ctr", "aes128-crt"] }));
    assert_eq!(options.unwrap().ciphers, ["aes128-ctr"]);
    assert_eq!(titles(&diagnostics), ["kiln does not have `aes128-crt`; it is not offered"]);
    let (options, diagnostics) = read(json!({ "ssh_ciphers": ["x"] }));
    assert!(options.is_none());
    assert_eq!(titles(&diagnostics).last(), Some(&"none of `ssh_ciphers` is one that kiln has"));
}

#[test]
fn an_agent_that_does_not_run_is_an_error_where_it_will_be_needed() {
    assert_eq!(
        told(json!({ "ssh_agent_auth": true })),
        ["`ssh_agent_auth` is set, and no agent runs: `SSH_AUTH_SOCK` is not set"]
    );
    let json = json!({ "ssh_username": "u", "ssh_agent_auth": true });
    let checked = PrepareContext { will_run: false, ..prepare_context() };
    assert!(read_in(&json, &SshProcess::default(), &checked).0.unwrap().login.agent);
}

#[test]
fn accepting_any_key_contradicts_knowing_one() {
    let key = generate(KeyKind::Ed25519, "").unwrap().public;
    let titles = told(json!({ "ssh_accept_any_host_key": true, "ssh_host_key": [key] }));
    assert_eq!(titles, ["either `ssh_accept_any_host_key` or `ssh_host_key`, not both"]);
}

#[test]
fn names_of_fields_are_told_apart() {
    let mut names: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}
