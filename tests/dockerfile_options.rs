//! What a `dockerfile` source lends to its build: agents, archives, hosts, caches. At the BuildKits of several engines.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{Outcome, World, available, docker};

/// Builds the template's only source at an engine, and removes what came out.
fn build_at(world: &World, engine: &str) -> Outcome {
    let output = world.command(&["build", "-json", "t.kiln.hcl"]).env("DOCKER_HOST", engine).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let outcome =
        Outcome { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) };
    for id in docker::built_images(&outcome.stdout) {
        docker::remove_at(engine, &id);
    }
    outcome
}

fn write_template(world: &World, body: &str) {
    let text = format!("source \"dockerfile\" \"app\" {{\n{body}}}\nbuild {{ sources = [\"dockerfile.app\"] }}\n");
    world.write("t.kiln.hcl", &text);
}

/// This system's engine, and the newer one.
fn engines() -> Option<[String; 2]> {
    let newer = docker::another("KILN_TEST_NEW_ENGINE")?;
    docker::is_there().then(|| [format!("unix://{}", docker::socket()), newer])
}

#[track_caller]
fn built_by_all(world: &World) {
    for engine in engines().into_iter().flatten() {
        let outcome = build_at(world, &engine);
        assert_eq!(outcome.code, 0, "{engine}: {}\n{}", outcome.stdout, outcome.stderr);
    }
}

/// An agent with one key, ended with the test.
struct Agent(Child);

impl Agent {
    fn start(directory: &Path, name: &str) -> Agent {
        let (socket, key) = (directory.join(format!("{name}.sock")), directory.join(name));
        let mut agent = Command::new("ssh-agent");
        let child = agent.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&key);
        assert!(keygen.status().unwrap().success());
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(std::time::Instant::now() < until, "no agent at {}", socket.display());
            std::thread::yield_now();
        }
        let mut add = Command::new("ssh-add");
        assert!(add.arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket).status().unwrap().success());
        Agent(child)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn agents_are_lent_to_the_steps_that_ask() {
    if engines().is_none() {
        return;
    }
    let mut world = World::new();
    let _agents = [Agent::start(world.path(), "first-key"), Agent::start(world.path(), "second-key")];
    // Asks for the keys: a message of one byte, 11; the answer has the comments.
    let ask = "perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new($ENV{SSH_AUTH_SOCK}) or die; syswrite $s, \"\\0\\0\\0\\1\\13\"; sysread $s, $a, 4096; print $a'";
    world.write(
        "Dockerfile",
        &format!(
            "FROM debian:bookworm\nRUN --mount=type=ssh {ask} | grep -a first-key\nRUN --mount=type=ssh,id=other {ask} | grep -a second-key\nRUN test -z \"$SSH_AUTH_SOCK\"\n"
        ),
    );
    let second = world.path().join("second-key.sock").display().to_string();
    write_template(&world, &format!("  ssh = [\"default\", \"other={second}\"]\n  no_cache = true\n"));
    let first = world.path().join("first-key.sock").display().to_string();
    world.env("SSH_AUTH_SOCK", &first);
    built_by_all(&world);
}

#[test]
fn archives_are_contexts() {
    if engines().is_none() {
        return;
    }
    let world = World::new();
    world.write(
        "app/Dockerfile",
        "FROM debian:bookworm\nCOPY . /all\nRUN test -x /all/bin/tool && ! test -e /all/left\n",
    );
    world.write("app/bin/tool", "");
    world.write("app/left", "");
    world.write("app/.dockerignore", "left\n");
    for (name, flag) in [("app.tar", "-cf"), ("app.tar.gz", "-czf"), ("app.tar.zst", "--zstd -cf")] {
        let mut tar = Command::new("tar");
        tar.args(["--mode=755", "-C", "app"]).args(flag.split(' ')).args([name, "."]).current_dir(world.path());
        assert!(tar.status().unwrap().success());
        write_template(&world, &format!("  context = \"{name}\"\n"));
        built_by_all(&world);
    }
}

#[test]
fn hosts_are_known_to_steps() {
    if engines().is_none() {
        return;
    }
    let world = World::new();
    let line = |address: &str, name: &str| format!("grep -q '^{address}[[:space:]].*{name}' /etc/hosts");
    let text = format!(
        "FROM debian:bookworm\nRUN {} && {}\n",
        line("192.0.2.7", "db.example.org"),
        line("2001:db8::7", "six.example.org")
    );
    world.write("Dockerfile", &text);
    write_template(&world, "  extra_hosts = [\"db.example.org:192.0.2.7\", \"six.example.org:2001:db8::7\"]\n");
    built_by_all(&world);
}

/// A world whose Dockerfile gives another result each time that it really runs.
fn random_world() -> Option<World> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists());
    available("a static busybox", busybox.is_some()).then_some(())?;
    let world = World::new();
    std::fs::copy(busybox?, world.path().join("busybox")).unwrap();
    world.write("mark", &uuid::Uuid::new_v4().to_string());
    let run = "RUN [\"/busybox\", \"cp\", \"/proc/sys/kernel/random/uuid\", \"/random\"]";
    let show = "RUN [\"/busybox\", \"sh\", \"-c\", \"echo it is $(/busybox cat /random)\"]";
    world.write("Dockerfile", &format!("FROM scratch\nCOPY busybox mark /\n{run}\nARG SHOW\n{show}\n"));
    Some(world)
}

/// What the step drew.
fn drawn(outcome: &Outcome) -> String {
    assert_eq!(outcome.code, 0, "{}\n{}", outcome.stdout, outcome.stderr);
    let said = outcome.stdout.split("\"it is ").nth(1).unwrap_or_else(|| panic!("{}", outcome.stdout));
    said.split('"').next().unwrap().to_owned()
}

#[test]
fn what_one_engine_kept_in_a_registry_another_takes_from_it() {
    // One of the same version: the keys of a far older one are others.
    let Some(newer) = docker::another("KILN_TEST_NEW_ENGINE") else { return };
    let Some(filling) = docker::another("KILN_TEST_CONTAINERD_STORE") else { return };
    let registry = std::env::var("KILN_TEST_PASSWORD_REGISTRY").ok();
    if !available("a registry with passwords (KILN_TEST_PASSWORD_REGISTRY)", registry.is_some()) {
        return;
    }
    let (Some(registry), Some(world)) = (registry, random_world()) else { return };
    let login = format!(
        "  login = true\n  login_server = \"{registry}\"\n  login_username = \"kiln\"\n  login_password = \"htpasswd-password\"\n"
    );
    let cache = format!("type=registry,ref={registry}/group/cache:{}", uuid::Uuid::new_v4());
    write_template(&world, &format!("  cache_to = [\"{cache},mode=max\"]\n  build_args = {{ SHOW = \"1\" }}\n{login}"));
    let first = drawn(&build_at(&world, &filling));
    write_template(&world, &format!("  cache_from = [\"{cache}\"]\n  build_args = {{ SHOW = \"2\" }}\n{login}"));
    assert_eq!(drawn(&build_at(&world, &newer)), first);
}
