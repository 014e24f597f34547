//! The engine from far: plain TCP, TLS with certificates of both sides, ssh.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::docker::{self, Removed};
use crate::support::{World, available};

/// A server of the test's, ended with it.
struct Server(Child);

impl Server {
    /// Starts a program and waits until it takes connections.
    fn start(program: &str, arguments: &[&str], port: u16) -> Server {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Server(command.spawn().unwrap());
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "{program} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn has(program: &str) -> bool {
    available(program, Path::new(program).is_file())
}

fn prepare(world: &World, kind: &str, port: u16) -> String {
    let directory = world.path().join(kind);
    std::fs::create_dir(&directory).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/remote.sh");
    let port = port.to_string();
    let output = Command::new(script).args([kind, directory.to_str().unwrap(), &port]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    directory.to_str().unwrap().to_owned()
}

/// Upload, a script on standard input, output both ways, download, commit.
fn build_from_far(world: &World, address: &str) {
    world.write("up/file", &"x".repeat(3_000_000));
    world.write(
        "a.json",
        r#"{"builders": [{"type": "docker", "image": "debian:bookworm", "pull": false, "commit": true}],
        "provisioners": [
            {"type": "file", "source": "up", "destination": "/srv"},
            {"type": "shell", "inline": ["cat; wc -c < /srv/up/file > /size; echo to-stderr >&2; echo to-stdout"]},
            {"type": "file", "direction": "download", "source": "/size", "destination": "size"}]}"#,
    );
    let outcome = world.succeed(&["build", "-json", "a.json"]);
    let images = docker::built_images(&outcome.stdout);
    let _removed = Removed(images.clone());
    assert_eq!(images.len(), 1, "{address}: {}", outcome.stdout);
    assert_eq!(world.read("size").trim(), "3000000", "{address}");
    assert!(outcome.stdout.contains("to-stderr") && outcome.stdout.contains("to-stdout"), "{address}");
    assert_eq!(world.leftovers(), Vec::<std::path::PathBuf>::new(), "{address}");
}

#[test]
fn over_tcp() {
    if !docker::is_there() || !has("/usr/bin/socat") {
        return;
    }
    let (mut world, port) = (World::new(), free_port());
    let listen = format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr");
    let socket = format!("UNIX-CONNECT:{}", docker::socket());
    // Each side may close before the other.
    let _server = Server::start("/usr/bin/socat", &["-t", "600", &listen, &socket], port);
    let address = format!("tcp://127.0.0.1:{port}");
    world.env("DOCKER_HOST", &address);
    build_from_far(&world, &address);
}

#[test]
fn over_tls_with_certificates_of_both_sides() {
    if !docker::is_there() || !has("/usr/bin/stunnel") {
        return;
    }
    let (mut world, port) = (World::new(), free_port());
    let directory = prepare(&world, "tls", port);
    let configuration = format!(
        "foreground = yes\npid =\n[engine]\naccept = 127.0.0.1:{port}\nconnect = {}\ncert = {directory}/server.pem\n\
         key = {directory}/server.key\nCAfile = {directory}/ca.pem\nverifyChain = yes\n",
        docker::socket()
    );
    let configuration = world.write("stunnel.conf", &configuration);
    let _server = Server::start("/usr/bin/stunnel", &[configuration.to_str().unwrap()], port);
    let address = format!("tcp://127.0.0.1:{port}");
    world.env("DOCKER_HOST", &address).env("DOCKER_TLS_VERIFY", "1");
    // Without a certificate that the engine trusts there is no way in.
    let certificates = format!("{directory}/none");
    std::fs::create_dir(&certificates).unwrap();
    world.env("DOCKER_CERT_PATH", &certificates);
    world.write(
        "a.json",
        r#"{"builders": [{"type": "docker", "image": "debian:bookworm", "pull": false, "discard": true}]}"#,
    );
    let refused = world.run(&["build", "a.json"]);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(refused.stderr.contains("ca.pem"), "{}", refused.stderr);
    world.env("DOCKER_CERT_PATH", &format!("{directory}/client"));
    build_from_far(&world, &address);
}

#[test]
fn over_ssh_whose_processes_end_with_kiln() {
    if !docker::is_there() || !has("/usr/sbin/sshd") || !has("/usr/bin/ssh") {
        return;
    }
    let (mut world, port) = (World::new(), free_port());
    let directory = prepare(&world, "ssh", port);
    // The server's own, which its package makes at boot.
    std::fs::create_dir_all("/run/sshd").unwrap();
    let _server = Server::start("/usr/sbin/sshd", &["-D", "-f", &format!("{directory}/sshd_config")], port);
    let path = std::env::var("PATH").unwrap();
    world.env("PATH", &format!("{directory}/bin:{path}")).env("DOCKER_HOST", "ssh://far");
    build_from_far(&world, "ssh");
    let mine = || {
        let output = Command::new("pgrep").args(["-f", &format!("{directory}/ssh_config")]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let end = Instant::now() + Duration::from_secs(10);
    while !mine().is_empty() {
        assert!(Instant::now() < end, "ssh goes on: {}", mine());
        std::thread::sleep(Duration::from_millis(50));
    }
    // A host whose key nobody knows is not trusted.
    world.write("ssh/known_hosts", "");
    let refused = world.run(&["build", "a.json"]);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(refused.stderr.contains("Host key verification failed"), "{}", refused.stderr);
}
