//! `dockerfile` sources with `buildkitd`: the BuildKit of an engine with containerd's image store, behind a bridge that
//! speaks plain gRPC. It exports what a BuildKit daemon exports.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{World, available, docker};

/// Each connection becomes one to the engine's `/grpc`.
fn bridge(path: &Path, engine: &str) {
    let listener = UnixListener::bind(path).unwrap();
    let engine = engine.trim_start_matches("unix://").to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let engine = engine.clone();
            std::thread::spawn(move || serve(client, UnixStream::connect(engine).unwrap()));
        }
    });
}

fn serve(mut client: UnixStream, mut server: UnixStream) {
    let upgrade = "POST /grpc HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    server.write_all(upgrade.as_bytes()).unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        server.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(std::net::Shutdown::Write);
    });
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(std::net::Shutdown::Both);
}

#[test]
fn what_a_daemon_built_is_pushed_and_goes_on_in_a_sandbox() {
    let registry = std::env::var("KILN_TEST_REGISTRY").ok();
    let Some(engine) = docker::another("KILN_TEST_CONTAINERD_STORE") else { return };
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists());
    if !available("a registry (KILN_TEST_REGISTRY)", registry.is_some())
        || !available("a static busybox", busybox.is_some())
    {
        return;
    }
    let (Some(registry), Some(busybox), mut world) = (registry, busybox, World::new()) else { return };
    let socket = world.path().join("buildkitd.sock");
    bridge(&socket, &engine);
    world.env("DOCKER_HOST", "unix:///nowhere/docker.sock").env("REGISTRY_PASSWORD", "deploy-token");
    let install = "COPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n";
    world.write("Dockerfile", &format!("FROM scratch\n{install}RUN mkdir /tmp && echo built > /built\n"));
    std::fs::copy(busybox, world.path().join("busybox")).unwrap();
    let template = r#"
variable "password" {
  default   = env("REGISTRY_PASSWORD")
  sensitive = true
}
source "dockerfile" "app" {
  buildkitd = "unix://SOCKET"
}
build {
  sources = ["dockerfile.app"]
  post-processors {
    post-processor "docker-tag" {
      repository = "REGISTRY/group/project/buildkitd"
      tags       = ["1"]
    }
    post-processor "docker-push" {
      login          = true
      login_server   = "REGISTRY"
      login_username = "deployer"
      login_password = var.password
    }
  }
}
source "oci" "child" {
  from = artifact.app.image
}
build {
  sources = ["oci.child"]
  provisioner "shell" {
    inline = ["cat /built"]
  }
}
"#;
    let template =
        template.replace("SOCKET", &socket.display().to_string()).replace("REGISTRY/", &format!("{registry}/"));
    world.write("t.pkr.hcl", &template.replace("\"REGISTRY\"", &format!("\"{registry}\"")));
    let shown = world.succeed(&["build", "t.pkr.hcl"]).stderr;
    assert!(shown.contains("digest: sha256:"), "{shown}");
    assert!(shown.lines().any(|line| line.ends_with("child: built")), "{shown}");
}

/// TLS in front of a socket, ended with the test.
struct TlsFront(Child, u16);

impl TlsFront {
    fn start(certificates: &Path, socket: &Path) -> TlsFront {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/tls_front.py");
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).arg(certificates).arg(socket).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        TlsFront(child, line.trim().parse().unwrap())
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority, and certificates for a server at 127.0.0.1 and for a client.
fn make_certificates(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    let key = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(directory, &format!("{key} -x509 -days 2 -subj /CN=kiln-test-authority -keyout ca.key -out ca.pem"));
    std::fs::write(directory.join("extensions"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    for name in ["server", "client"] {
        openssl(directory, &format!("{key} -subj /CN={name} -keyout {name}.key -out {name}.csr"));
        let sign = "x509 -req -days 2 -CA ca.pem -CAkey ca.key -CAcreateserial -extfile extensions";
        openssl(directory, &format!("{sign} -in {name}.csr -out {name}.pem"));
    }
}

#[test]
fn a_daemon_behind_tls_takes_those_with_a_certificate() {
    let Some(engine) = docker::another("KILN_TEST_CONTAINERD_STORE") else { return };
    let world = World::new();
    let (socket, certificates) = (world.path().join("buildkitd.sock"), world.path().join("tls"));
    bridge(&socket, &engine);
    make_certificates(&certificates);
    make_certificates(&world.path().join("other"));
    let front = TlsFront::start(&certificates, &socket);
    world.write("Dockerfile", "FROM scratch\nCOPY word /word\n");
    world.write("word", "word");
    let build = |files: &str| {
        let address = format!("buildkitd = \"tcp://127.0.0.1:{}\"", front.1);
        let source = format!("source \"dockerfile\" \"app\" {{\n  {address}\n{files}}}\n");
        world.write("t.kiln.hcl", &format!("{source}build {{ sources = [\"dockerfile.app\"] }}\n"));
        world.run(&["build", "t.kiln.hcl"])
    };
    let client = "  buildkitd_cert = \"tls/client.pem\"\n  buildkitd_key = \"tls/client.key\"\n";
    let built = build(&format!("  buildkitd_ca = \"tls/ca.pem\"\n{client}"));
    assert_eq!(built.code, 0, "{}", built.stderr);
    let unknown = build(&format!("  buildkitd_ca = \"other/ca.pem\"\n{client}"));
    assert_ne!(unknown.code, 0);
    assert!(unknown.stderr.contains("invalid peer certificate"), "{}", unknown.stderr);
    let nobody = build("  buildkitd_ca = \"tls/ca.pem\"\n");
    assert_ne!(nobody.code, 0);
    assert!(nobody.stderr.contains("CertificateRequired"), "{}", nobody.stderr);
    let plain = build("");
    assert_ne!(plain.code, 0, "{}", plain.stderr);
}
