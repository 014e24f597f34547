//! Data sources: which commands read them, over HTTP and HTTPS, and what is said when that fails.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{World, stable};

/// Answers each request with its path; `/missing` is not there, and `/late` is answered when the server is released.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
    late: Option<Sender<()>>,
}

impl Server {
    fn new() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let (late, released) = channel();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 4096];
                let length = stream.read(&mut request).unwrap();
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                if path.starts_with("/late") {
                    // Nothing is ever sent: it ends with the sender.
                    let _ = released.recv();
                }
                let status = if path.starts_with("/missing") { "404 Not Found" } else { "200 OK" };
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", path.len());
                let _ = stream.write_all(format!("{head}{path}").as_bytes());
                seen.lock().unwrap().push(path);
            }
        });
        Server { address, asked, late: Some(late) }
    }

    fn release(&mut self) {
        self.late = None;
    }

    fn take_asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.sort();
        asked
    }
}

/// Two builds, each with a data source; a third one nobody needs.
fn template(address: &str) -> String {
    let data: String = ["one", "two", "unused"]
        .iter()
        .map(|name| format!("data \"http\" \"{name}\" {{\n  url = \"{address}/{name}\"\n}}\n"))
        .collect();
    let builds: String = ["one", "two"]
        .iter()
        .map(|name| {
            format!(
                "source \"docker\" \"{name}\" {{\n  image   = \"base\"\n  discard = true\n}}\nbuild {{\n  sources = \
                 [\"docker.{name}\"]\n  provisioner \"shell\" {{\n    inline = [local.{name}]\n  }}\n}}\n"
            )
        })
        .collect();
    format!("{data}locals {{\n  one = data.http.one.body\n  two = upper(data.http.two.body)\n}}\n{builds}")
}

#[test]
fn only_the_commands_that_need_values_read_them() {
    let server = Server::new();
    let mut world = World::new();
    world.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    world.write("t.pkr.hcl", &template(&server.address));
    for arguments in [&["validate", "t.pkr.hcl"], &["inspect", "t.pkr.hcl"], &["init", "t.pkr.hcl"]] {
        let outcome = world.run(arguments);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        assert_eq!(server.take_asked(), Vec::<String>::new(), "{arguments:?}");
    }
    let outcome = world.run(&["validate", "-evaluate-datasources", "t.pkr.hcl"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_eq!(server.take_asked(), ["/one", "/two"]);
    // The engine is not there: that is told after the data sources were read.
    let outcome = world.run(&["build", "-only=docker.two", "t.pkr.hcl"]);
    assert_eq!(outcome.code, 4, "{}", outcome.stderr);
    assert_eq!(server.take_asked(), ["/two"]);
}

#[test]
fn a_failed_reading_is_told_at_its_block_without_secrets() {
    let server = Server::new();
    let mut world = World::new();
    world.env("PKR_VAR_token", "hunter2hunter2");
    let template = template(&server.address).replace("/one\"", "/missing?token=${var.token}\"");
    world.write("t.pkr.hcl", &format!("variable \"token\" {{\n  sensitive = true\n}}\n{template}"));
    let outcome = world.run(&["validate", "-evaluate-datasources", "t.pkr.hcl"]);
    assert_eq!(outcome.code, 4);
    assert!(!outcome.stderr.contains("hunter2"), "{}", outcome.stderr);
    let text = stable(&outcome.stderr, &world).replace(&server.address, "http://127.0.0.1:PORT");
    insta::assert_snapshot!(text);
}

/// In words on standard error, but as an event or a line of Packer's where standard output is made of them.
#[test]
fn a_long_wait_is_told() {
    let mut server = Server::new();
    let mut world = World::new();
    world.env("DOCKER_HOST", "unix:///nowhere/docker.sock").env("PKR_VAR_token", "hunter2hunter2");
    let template = template(&server.address).replace("/one\"", "/late?token=${var.token}\"");
    world.write("t.pkr.hcl", &format!("variable \"token\" {{\n  sensitive = true\n}}\n{template}"));
    let start = |arguments: &[&str]| {
        let mut arguments = arguments.to_vec();
        arguments.extend(["-only=docker.one", "t.pkr.hcl"]);
        let mut command = world.command(&arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut validate = start(&["validate", "-json", "-evaluate-datasources"]);
    let mut packers = start(&["-machine-readable", "validate", "-evaluate-datasources"]);
    let mut build = start(&["build", "-json"]);

    let mut words = BufReader::new(validate.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(words.next().as_deref(), Some("waiting for data.http.one"));
    let mut lines = BufReader::new(packers.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.next().unwrap();
    assert!(line.ends_with(",,ui,say,waiting for data.http.one"), "{line}");
    let mut events = BufReader::new(build.stdout.take().unwrap()).lines().map(Result::unwrap);
    let event: serde_json::Value = serde_json::from_str(&events.next().unwrap()).unwrap();
    assert_eq!((&event["event"], &event["text"]), (&"message".into(), &"waiting for data.http.one".into()));

    server.release();
    assert_eq!(words.next(), None);
    let report: serde_json::Value = serde_json::from_reader(validate.stdout.take().unwrap()).unwrap();
    assert_eq!(report["valid"], true);
    assert!(lines.next().unwrap().ends_with(",,ui,say,the template is valid"));
    assert_eq!(lines.next(), None);
    assert!(!events.any(|line| line.contains("waiting for data.")));
    // The engine is not there: the build fails.
    for (child, code) in [(&mut validate, 0), (&mut packers, 0), (&mut build, 4)] {
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
}

/// A server of OpenSSL's, stopped with the test.
struct Tls(Child);

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_certificate_of_ones_own_is_trusted_where_it_is_given() {
    let is_there = Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_ok();
    if !is_there {
        assert!(std::env::var_os("KILN_TEST_REQUIRE").is_none(), "there is no openssl");
        eprintln!("SKIPPED: there is no openssl");
        return;
    }
    let mut world = World::new();
    world.write("release", "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n13");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "ca.pem", "-days", "2"])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .current_dir(world.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // Free a moment ago; a clash shows as a failure to answer.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Command::new("openssl")
        .args(["s_server", "-accept", &format!("127.0.0.1:{port}"), "-key", "key.pem", "-cert", "ca.pem", "-HTTP"])
        .current_dir(world.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _server = Tls(server);
    let start = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(start.elapsed() < Duration::from_secs(20), "openssl does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    let url = format!("https://localhost:{port}/release");
    let data = format!("data \"http\" \"release\" {{\n  url = \"{url}\"\n}}\n");
    let check = "source \"docker\" \"x\" {\n  image   = \"base\"\n  discard = true\n}\nbuild {\n  name    = \
                 \"release-${data.http.release.body}\"\n  sources = [\"docker.x\"]\n}\n";
    world.write("t.pkr.hcl", &format!("{data}{check}"));
    let refused = world.run(&["validate", "-evaluate-datasources", "t.pkr.hcl"]);
    assert_eq!(refused.code, 4);
    assert!(refused.stderr.contains("no answer from"), "{}", refused.stderr);
    world.env("SSL_CERT_FILE", "ca.pem");
    // An unknown name in -only lists the builds: the value is in their name.
    let outcome = world.run(&["validate", "-evaluate-datasources", "-only=release-13.*", "t.pkr.hcl"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
}

/// What follows from a reading that failed is not told besides, and is not the template's fault.
#[test]
fn sources_made_of_what_cannot_be_read_are_no_mistake() {
    let world = World::new();
    world.write(
        "t.pkr.hcl",
        "data \"http\" \"x\" {\n  url = \"http://127.0.0.1:1/x\"\n}\nsource \"docker\" \"a\" {\n  for_each = split(\",\", \
         data.http.x.body)\n  image    = \"debian\"\n  commit   = true\n}\nbuild {\n  sources = [\"docker.a\"]\n}\n",
    );
    for only in ["-only=docker.a", "-only=docker.a-1"] {
        let outcome = world.run(&["build", only, "t.pkr.hcl"]);
        assert_eq!(outcome.code, 4, "{}", outcome.stderr);
        assert!(outcome.stderr.contains("`data.http.x` cannot be read"), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("1 error in the template"), "{}", outcome.stderr);
    }
}
