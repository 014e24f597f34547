//! Ways to a machine: bastions, proxies, configurations; tunnels; other programs.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::communicator::Connector;

/// A machine behind a bastion, and options that lead there.
fn behind(machine: &Sshd, bastion: &Sshd, more: Json) -> Json {
    let mut json = with(
        machine,
        json!({
            "ssh_bastion_host": bastion.host(),
            "ssh_bastion_port": bastion.port(),
            "ssh_bastion_username": bastion.user(),
            "ssh_bastion_host_key": [bastion.host_key()],
            "ssh_bastion_private_key_file": bastion.user_key(),
        }),
    );
    for (name, value) in more.as_object().unwrap() {
        json[name] = value.clone();
    }
    json
}

#[tokio::test]
async fn a_bastion_is_gone_through_and_its_key_checked() {
    let (Some(machine), Some(bastion)) = (Sshd::start(), Sshd::start()) else { return };
    works(&behind(&machine, &bastion, json!({}))).await;
    assert!(bastion.log().contains("Accepted publickey"));

    let failure = fails(&behind(&machine, &bastion, json!({ "ssh_bastion_host_key": [machine.host_key()] }))).await;
    assert!(failure.chain().contains(&bastion.host_fingerprint()), "{}", failure.chain());

    let mut unknown = behind(&machine, &bastion, json!({ "ssh_bastion_username": "no-such-user" }));
    let hints = fails(&unknown).await.hints;
    assert_eq!(hints, ["check what the bastion is told: `ssh_bastion_username`, its key or its password"]);
    unknown["ssh_bastion_username"] = json!(bastion.user());
    unknown["ssh_username"] = json!("no-such-user");
    assert_eq!(fails(&unknown).await.hints, ["check `ssh_username`, the key or the password"]);

    // A machine that is not there is told as such, not as a bastion that is not.
    let json = behind(&machine, &bastion, json!({ "ssh_port": 1, "ssh_timeout": "2s" }));
    let text = fails(&json).await.chain();
    assert!(text.starts_with("cannot log in to 127.0.0.1:1 within 2.0s: 127.0.0.1:1: "), "{text}");
}

#[tokio::test]
async fn bastions_in_a_row_share_the_machines_key() {
    let (Some(machine), Some(one), Some(two)) = (Sshd::start(), Sshd::start(), Sshd::start()) else { return };
    let public = std::fs::read_to_string(machine.user_key().with_extension("pub")).unwrap();
    one.authorize(&public);
    two.authorize(&public);
    let hosts = format!("{}@127.0.0.1:{},127.0.0.1:{}", one.user(), one.port(), two.port());
    works(&with(
        &machine,
        json!({
            "ssh_bastion_host": hosts,
            "ssh_bastion_host_key": [one.host_key(), two.host_key()],
        }),
    ))
    .await;
    assert!(one.log().contains("Accepted publickey"));
    assert!(two.log().contains("Accepted publickey"));
}

/// A proxy that does what its head says: reads it, answers, and copies.
async fn http_proxy() -> (u16, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = tokio::spawn(async move {
        while let Ok((mut incoming, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(incoming.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            assert!(head.contains("Proxy-Authorization: Basic bWU6cHc=\r\n"), "{head}");
            let target = head.split(' ').nth(1).unwrap().to_owned();
            let mut onward = TcpStream::connect(target).await.unwrap();
            incoming.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut incoming, &mut onward).await });
        }
    });
    (port, serve)
}

#[tokio::test]
async fn an_http_proxy() {
    let Some(sshd) = Sshd::start() else { return };
    let (port, serve) = http_proxy().await;
    works(&with(
        &sshd,
        json!({
            "ssh_proxy_type": "http", "ssh_proxy_host": "127.0.0.1", "ssh_proxy_port": port,
            "ssh_proxy_username": "me", "ssh_proxy_password": "pw",
        }),
    ))
    .await;
    serve.abort();
}

#[tokio::test]
async fn a_socks_proxy() {
    let Some(sshd) = Sshd::start() else { return };
    // OpenSSH's own is one.
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let mut client = sshd.client();
    client.args(["-N", "-D", &format!("127.0.0.1:{port}")]);
    let mut proxy = client.spawn().unwrap();
    works(&with(&sshd, json!({ "ssh_proxy_host": "127.0.0.1", "ssh_proxy_port": port }))).await;
    proxy.kill().unwrap();
    proxy.wait().unwrap();
}

#[tokio::test]
async fn a_configuration_names_host_user_key_and_jump() {
    let (Some(machine), Some(bastion)) = (Sshd::start(), Sshd::start()) else { return };
    let config = format!(
        "Host web\n HostName 127.0.0.1\n Port {}\n User {}\n IdentityFile {}\n ProxyJump jump\n\
         Host jump\n HostName 127.0.0.1\n Port {}\n User {}\n IdentityFile {}\n\
         Host *\n UserKnownHostsFile ~/.ssh/hosts\n",
        machine.port(),
        machine.user(),
        machine.user_key().display(),
        bastion.port(),
        bastion.user(),
        bastion.user_key().display(),
    );
    let (_home, process) = home(&[("config", &config), ("hosts", &(machine.known_hosts() + &bastion.known_hosts()))]);
    let json = json!({ "ssh_host": "web", "ssh_config_file": "~/.ssh/config", "ssh_timeout": "20s", "ssh_handshake_attempts": 1 });
    let context = context().build();
    let entered = enter(&json, &process, &context).await;
    let (_walker, arrived) = entered.unwrap_or_else(|failure| panic!("{}", failure.chain()));
    assert_eq!(run(&arrived, "echo works").await, "works\n");
    assert!(bastion.log().contains("Accepted publickey"));
}

#[tokio::test]
async fn a_proxy_command_of_a_configuration() {
    let Some(machine) = Sshd::start() else { return };
    let config = "Host *\n ProxyCommand sh -c 'echo going to %h >&2; exec socat - TCP:%h:%p'\n";
    let (_home, process) = home(&[("config", config)]);
    let context = context().build();
    let json = with(&machine, json!({ "ssh_config_file": "~/.ssh/config" }));
    let entered = enter(&json, &process, &context).await;
    let (_walker, arrived) = entered.unwrap_or_else(|failure| panic!("{}", failure.chain()));
    assert_eq!(run(&arrived, "echo works").await, "works\n");
    assert!(
        context.reporter.messages().contains(&"ProxyCommand: going to 127.0.0.1".to_owned()),
        "{:?}",
        context.reporter.messages()
    );
    let (_home, process) = home(&[("config", "Host *\n ProxyCommand /bin/false\n")]);
    let json = with(&machine, json!({ "ssh_config_file": "~/.ssh/config", "ssh_timeout": "1s" }));
    let failure = enter(&json, &process, &context).await.err().expect("it got in");
    assert!(failure.hints[0].starts_with("the `ProxyCommand` of the SSH configuration"), "{:?}", failure.hints);
}

#[tokio::test]
async fn tunnels_lead_both_ways() {
    let Some(sshd) = Sshd::start() else { return };
    let echo = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let target = echo.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = echo.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    let free = || std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let (local, remote) = (free(), free());
    let json = with(
        &sshd,
        json!({
            "ssh_local_tunnels": [format!("{local}:127.0.0.1:{target}")],
            "ssh_remote_tunnels": [format!("{remote}:127.0.0.1:{target}")],
        }),
    );
    let context = context().build();
    let (walker, arrived) = enter(&json, &SshProcess::default(), &context).await.unwrap();
    assert_eq!(context.reporter.warnings(), [""; 0]);
    for port in [local, remote] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"hello");
    }
    drop((walker, arrived));
    for _ in 0..100 {
        if TcpStream::connect(("127.0.0.1", local)).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the tunnel outlives its machine");
}

/// OpenSSH gets in with what it is told.
async fn openssh(walker: &Arc<Walker>) -> String {
    let access = walker.access().await.unwrap().unwrap();
    let mut command = tokio::process::Command::new("ssh");
    match &access.config_file {
        Some(file) => command.arg("-F").arg(file),
        None => command.args(["-F", "none"]),
    };
    let known_hosts = format!("UserKnownHostsFile={}", access.known_hosts.display());
    command.args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes"]);
    command.args(["-o", "GlobalKnownHostsFile=none", "-o", &known_hosts]);
    command.arg("-i").arg(access.identity_file.unwrap()).arg("-p").arg(access.port.to_string());
    command.arg(format!("{}@{}", access.user, access.host)).arg("echo openssh works").env_remove("SSH_AUTH_SOCK");
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn other_programs_get_in_straight_and_through_a_bastion() {
    let (Some(machine), Some(bastion)) = (Sshd::start(), Sshd::start()) else { return };
    let ciphers = json!({ "ssh_ciphers": ["aes128-ctr"], "ssh_key_exchange_algorithms": ["curve25519-sha256"] });
    for json in [with(&machine, json!({})), with(&machine, ciphers), behind(&machine, &bastion, json!({}))] {
        let context = context().build();
        let (walker, _arrived) = enter(&json, &SshProcess::default(), &context).await.unwrap();
        assert_eq!(openssh(&walker).await, "openssh works\n");
        assert_eq!(openssh(&walker).await, "openssh works\n");
    }
}
