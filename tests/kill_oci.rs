//! Machines without a daemon, when things go wrong: killed, interrupted, a full disk, a damaged store, builds and collectors
//! side by side. Nothing is left, nothing half-made is used, and the next build goes on where the last one was.

use std::fs::File;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value as Json;

use crate::support::{World, available};

/// Where a small disk is mounted.
const DISK: &str = "small-disk";

/// Kills and interrupts of each kind of machine.
const TIMES: usize = 4;

fn is_there() -> bool {
    let found = ["/bin/busybox", "/usr/bin/busybox"].iter().any(|path| Path::new(path).exists());
    available("a static busybox", found)
}

fn is_root() -> bool {
    available("root", rustix::process::geteuid().is_root())
}

/// Steps that leave processes behind, remove what others made, and take a while.
const TEMPLATE: &str = r#"source "oci" "w" {
  from = { busybox = true }
  tags = ["w:1"]
  #more
}

build {
  sources = ["source.oci.w"]

  provisioner "shell" {
    inline = ["echo one > /one; head -c 3000000 /dev/urandom > /blob; (setsid sleep 4000.MARK > /dev/null 2>&1 &)"]
  }

  provisioner "file" {
    source      = "big"
    destination = "/big"
  }

  provisioner "shell" {
    inline = ["rm /one; mkdir -p /d/e; for i in $(seq 100); do echo $i > /d/e/$i; done; sleep 0.2"]
  }

  provisioner "shell" {
    inline = ["(trap '' TERM INT HUP; sleep 4000.MARK > /dev/null 2>&1 &); cat /d/e/* > /sum; sleep 0.1"]
  }
}
"#;

/// What the last step leaves, looked at in the kept state.
const LOOK: &str = "cmp /big /big && wc -c < /big && test ! -e /one && wc -l < /sum && wc -c < /blob";
const SEEN: &str = "2000000\n100\n3000000\n";

struct Place {
    world: World,
    mark: String,
}

impl Place {
    fn new(template: &str, more: &str) -> Place {
        let mut world = World::new();
        let mark: String =
            world.path().file_name().unwrap().to_string_lossy().bytes().map(|byte| byte.to_string()).collect();
        // Helpers get the path and nothing else: so all of them are known again.
        let path = format!("{}:/nowhere/{mark}", std::env::var("PATH").unwrap());
        world.env("PATH", &path);
        world.write("a.pkr.hcl", &template.replace("MARK", &mark).replace("#more", more));
        world.write("big", &"x".repeat(2_000_000));
        Place { world, mark }
    }

    /// Starts `kiln build -json`; its events go to a file.
    fn start(&self) -> Child {
        let events = File::create(self.world.path().join("events")).unwrap();
        let errors = File::create(self.world.path().join("errors")).unwrap();
        self.world.command(&["build", "-json", "a.pkr.hcl"]).stdout(events).stderr(errors).spawn().unwrap()
    }

    /// What became of each step, as far as the events in the file tell.
    fn steps(&self) -> Vec<&'static str> {
        let text = self.world.read("events");
        let events = text.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
        let step = |event: Json| match event["event"].as_str()? {
            "step-cached" => Some("cached"),
            "step-started" => Some("ran"),
            _ => None,
        };
        events.filter_map(step).collect()
    }

    /// Builds to the end.
    #[track_caller]
    fn build(&self, why: &str) -> Vec<&'static str> {
        let status = self.start().wait().unwrap();
        assert!(status.success(), "{why}: {}", self.world.read("errors"));
        self.steps()
    }

    fn stores(&self) -> Vec<PathBuf> {
        let cache = self.world.path().join(".home/.cache/kiln");
        std::fs::read_dir(cache).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
    }

    /// Files in directories of all stores.
    fn files(&self, directories: &[&str]) -> Vec<PathBuf> {
        let stores = self.stores();
        let all = stores.iter().flat_map(|store| directories.iter().map(|name| store.join(name)));
        all.flat_map(|path| std::fs::read_dir(path).into_iter().flatten()).map(|entry| entry.unwrap().path()).collect()
    }

    /// Processes of this test's builds, but for the upkeep of stores, which goes on behind them.
    fn processes(&self) -> Vec<String> {
        self.with_upkeep().into_iter().filter(|shown| !shown.contains("cache tidy")).collect()
    }

    fn with_upkeep(&self) -> Vec<String> {
        let read = |entry: std::fs::DirEntry| {
            let of = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
            let bears = |text: &[u8]| text.windows(self.mark.len()).any(|part| part == self.mark.as_bytes());
            let line = of("cmdline");
            let is_ours = bears(&line) || bears(&of("environ"));
            let shown = String::from_utf8_lossy(&line).replace('\0', " ");
            (is_ours && !line.is_empty()).then_some(shown)
        };
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| read(entry.ok()?)).collect()
    }

    /// Waits until the last of them has ended.
    #[track_caller]
    fn wait_for_processes(&self, why: &str) {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "{why}: {left:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Mounts of the test's that any process sees, but for a disk of its own.
    fn mounts(&self) -> Vec<String> {
        let own = self.world.path().display().to_string();
        let tables = std::fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path().join("mounts")));
        let lines = tables.filter_map(|path| std::fs::read_to_string(path).ok());
        lines
            .flat_map(|text| {
                text.lines()
                    .filter(|line| line.contains(&own) && !line.contains(DISK))
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// No process, mount, workspace, scratch or journal.
    #[track_caller]
    fn nothing_is_left(&self, why: &str) {
        self.wait_for_processes(why);
        assert_eq!(self.mounts(), Vec::<String>::new(), "{why}");
        assert_eq!(self.files(&["work"]), Vec::<PathBuf>::new(), "{why}");
        assert_eq!(self.world.leftovers(), Vec::<PathBuf>::new(), "{why}");
    }
}

fn signal(child: &Child, signal: Signal) {
    rustix::process::kill_process(Pid::from_child(child), signal).unwrap();
}

/// Ends builds at different moments, and looks at what is there then and after the next one.
fn end_at_any_time(how: Signal, more: &str) {
    let begin = Instant::now();
    Place::new(TEMPLATE, more).build("undisturbed");
    let whole = begin.elapsed();
    for time in 0..TIMES {
        let place = Place::new(TEMPLATE, more);
        let mut child = place.start();
        let delay = whole.mul_f64((time as f64 + 0.5) / TIMES as f64);
        std::thread::sleep(delay);
        signal(&child, how);
        let status = child.wait().unwrap();
        let why = format!("{how:?} {more}, after {delay:?} of {whole:?}: {status}, {}", place.world.read("errors"));
        if how == Signal::KILL {
            place.wait_for_processes(&why);
            place.world.succeed(&["cleanup"]);
        }
        place.nothing_is_left(&why);
        // All that was done before the step that ran last is kept.
        let done = place.steps().len().saturating_sub(1);
        let steps = place.build(&why);
        let cached = steps.iter().take_while(|step| **step == "cached").count();
        assert!(cached >= done && steps[cached..].iter().all(|step| *step == "ran"), "{done} done, {steps:?}; {why}");
        let seen = place.world.succeed(&["shell", "oci.w", "a.pkr.hcl", "-c", LOOK]).stdout;
        assert_eq!(seen, SEEN, "{why}");
        assert_eq!(place.build(&why), ["cached"; 4], "{why}");
        place.nothing_is_left(&why);
        // Half-written files go with the first collection that finds nobody at work.
        let end = Instant::now() + Duration::from_secs(20);
        let drafts = || {
            place.world.succeed(&["cache", "prune"]);
            let blobs = place.files(&["blobs/sha256"]).into_iter();
            let hidden = blobs.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with('.'));
            hidden.chain(place.files(&["tmp", "leases"])).collect::<Vec<_>>()
        };
        while !drafts().is_empty() {
            assert!(Instant::now() < end, "{:?}; {why}", drafts());
        }
    }
}

#[test]
fn killed_at_any_time_nothing_is_left_and_the_next_build_resumes() {
    if is_there() {
        end_at_any_time(Signal::KILL, "");
    }
}

#[test]
fn interrupted_at_any_time_nothing_is_left_and_the_next_build_resumes() {
    if is_there() {
        end_at_any_time(Signal::INT, "");
    }
}

#[test]
fn killed_without_name_spaces_nothing_is_left_either() {
    if is_there() && is_root() {
        end_at_any_time(Signal::KILL, "isolation = \"chroot\"");
    }
}

/// Starts processes, makes files, writes half of an archive, and waits for ever.
const BOOTSTRAP: &str = "#!/bin/sh
mkdir $(mktemp -d)/root
(trap '' TERM HUP PIPE; sleep 4000.MARK) &
head -c 100000 /dev/urandom
exec sleep 4001.MARK
";

#[test]
fn a_bootstrap_that_is_cut_off_takes_all_along() {
    let template = TEMPLATE.replace("busybox = true", "mmdebstrap = { suite = \"bookworm\" }");
    for how in [Signal::KILL, Signal::INT] {
        let mut place = Place::new(&template, "");
        let program = place.world.write("bin/mmdebstrap", &BOOTSTRAP.replace("MARK", &place.mark));
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}/bin:{}:/{}", place.world.path().display(), std::env::var("PATH").unwrap(), place.mark);
        place.world.env("PATH", &path);
        let mut child = place.start();
        let end = Instant::now() + Duration::from_secs(60);
        while place.processes().iter().filter(|line| line.contains("sleep")).count() < 2 {
            assert!(Instant::now() < end && child.try_wait().unwrap().is_none(), "{}", place.world.read("errors"));
            std::thread::sleep(Duration::from_millis(20));
        }
        signal(&child, how);
        child.wait().unwrap();
        place.wait_for_processes("the bootstrap");
        if how == Signal::KILL {
            place.world.succeed(&["cleanup"]);
        }
        place.nothing_is_left("the bootstrap");
    }
}

/// A file system of so many bytes in memory, unmounted at the end.
struct Memory(PathBuf);

impl Memory {
    fn mount(path: PathBuf, size: u64) -> Memory {
        std::fs::create_dir(&path).unwrap();
        let memory = Memory(path);
        memory.call(&["mount", "-t", "tmpfs", "-o", &format!("size={size},mode=700"), "none"]);
        memory
    }

    fn call(&self, words: &[&str]) {
        let status = Command::new(words[0]).args(&words[1..]).arg(&self.0).status().unwrap();
        assert!(status.success(), "{words:?}");
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A layer that finds no room once made a build wait for ever.
#[test]
fn a_full_disk_ends_a_build_and_tells_why() {
    if !is_there() || !is_root() {
        return;
    }
    // The step fits, its layer does not.
    let mut place = Place::new(&TEMPLATE.replace("3000000", "45000000"), "");
    let memory = Memory::mount(place.world.path().join(DISK), 84_000_000);
    place.world.env("KILN_CACHE_DIR", memory.0.to_str().unwrap()).env("KILN_CACHE_MAX_SIZE", "unlimited");
    let outcome = place.world.run(&["build", "a.pkr.hcl"]);
    assert_eq!(outcome.code, 4, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("No space left on device"), "{}", outcome.stderr);
    place.nothing_is_left(&outcome.stderr);
    memory.call(&["mount", "-o", "remount,size=200000000"]);
    assert_eq!(place.build("with room"), ["cached"; 4]);
    // What may only be read is told as that.
    place.wait_for_processes("before the remount");
    let end = Instant::now() + Duration::from_secs(20);
    while !Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(&memory.0)
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
    {
        assert!(Instant::now() < end, "somebody still writes");
        std::thread::sleep(Duration::from_millis(50));
    }
    let outcome = place.world.run(&["build", "a.pkr.hcl"]);
    assert!(outcome.code == 4 && outcome.stderr.contains("Read-only file system"), "{}", outcome.stderr);
}

#[test]
fn a_collector_takes_nothing_from_builds_that_run() {
    if !is_there() {
        return;
    }
    let template = |name: &str| {
        let second = TEMPLATE.replace("source \"oci\" \"w\"", "source \"oci\" \"v\"").replace("tags = [\"w:1\"]", "");
        let source = second.split("\nbuild {").next().unwrap();
        let both = TEMPLATE.replace("[\"source.oci.w\"]", "[\"source.oci.w\", \"source.oci.v\"]");
        format!("{source}\n{}", both.replace("w:1", name).replace("/sum;", &format!("/sum; echo {name};")))
    };
    let place = Place::new(&template("one:1"), "");
    place.world.write("b.pkr.hcl", &template("two:1").replace("MARK", &place.mark));
    let start = |name: &str| {
        let mut command = place.world.command(&["build", name]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for _ in 0..2 {
        let mut running = ["a.pkr.hcl", "a.pkr.hcl", "b.pkr.hcl"].map(start);
        while running.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
            place.world.succeed(&["cache", "prune", "-all"]);
        }
        for child in running {
            let output = child.wait_with_output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && !told.contains("cannot keep"), "{told}");
        }
    }
    place.nothing_is_left("after the builds");
}

/// Entries that another boot left without a sync, and all kinds of damage, are as if they were not there.
#[test]
fn what_is_damaged_or_was_never_synced_is_made_anew() {
    if !is_there() {
        return;
    }
    let place = Place::new(TEMPLATE, "");
    place.build("first");
    let each = |directory: &str, change: &dyn Fn(&Path)| {
        place.files(&[directory]).iter().for_each(|path| change(path));
    };
    let settle = || {
        let end = Instant::now() + Duration::from_secs(20);
        // Upkeep writes to records and removes what is damaged.
        while !place.with_upkeep().is_empty() {
            assert!(Instant::now() < end);
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let another_boot = |path: &Path| {
        let path = if path.is_dir() { path.join("meta.json") } else { path.to_owned() };
        let mut record: Json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        record["stored"]["boot"] = "another".into();
        // After the last sync.
        record["stored"]["at"] = 9_999_999_999_999_u64.into();
        std::fs::write(path, record.to_string()).unwrap();
    };
    let damages: [(&str, &dyn Fn()); 5] = [
        ("another boot", &|| {
            ["steps", "layers", "sealed", "bases"].iter().for_each(|name| each(name, &another_boot));
        }),
        ("no uppers", &|| each("steps", &|path| std::fs::remove_dir_all(path.join("upper")).unwrap())),
        ("links for states", &|| {
            each("steps", &|path| {
                let aside = place.world.path().join("aside").join(path.file_name().unwrap());
                std::fs::create_dir_all(aside.parent().unwrap()).unwrap();
                std::fs::rename(path, &aside).unwrap();
                symlink(aside, path).unwrap();
            });
        }),
        ("no layers", &|| each("layers", &|path| std::fs::remove_dir_all(path).unwrap())),
        ("cut blobs", &|| {
            each("blobs/sha256", &|path| File::options().write(true).open(path).unwrap().set_len(10).unwrap());
        }),
    ];
    for (what, damage) in damages {
        settle();
        damage();
        // With a sealed image nobody would look at states.
        each("sealed", &|path| std::fs::remove_file(path).unwrap());
        place.build(what);
        let seen = place.world.succeed(&["shell", "oci.w", "a.pkr.hcl", "-c", LOOK]).stdout;
        assert_eq!(seen, SEEN, "{what}");
        assert_eq!(place.build(what), ["cached"; 4], "{what}");
    }
    place.nothing_is_left("after damage");
}

/// What a step leaves running does not see the next one, and a step that takes too long is ended with all it started.
#[test]
fn a_step_ends_with_all_that_it_started() {
    if !is_there() {
        return;
    }
    let template = r#"source "oci" "w" {
  from = { busybox = true }
  #more
}

build {
  sources = ["source.oci.w"]

  provisioner "shell" {
    inline = ["echo try >> /tries; (setsid sh -c 'sleep 1; echo late >> /tries' &) ; test $(wc -l < /tries) -ge 2 || sleep 4000.MARK"]
    timeout     = "400ms"
    max_retries = 1
  }

  provisioner "shell" {
    inline = ["sleep 1.2; cat /tries; ls /proc | grep -c '^[0-9]'"]
  }
}
"#;
    let place = Place::new(template, "");
    let outcome = place.world.succeed(&["build", "a.pkr.hcl"]);
    let told: Vec<&str> = outcome.stderr.lines().filter_map(|line| line.strip_prefix("    oci.w: ")).collect();
    assert_eq!(told[..2], ["try", "try"], "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("late"), "{}", outcome.stderr);
    place.nothing_is_left(&outcome.stderr);
}
