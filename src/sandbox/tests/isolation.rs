//! Isolations: what is found out about them, guests in each, what they cannot do, and the work on their files. Most runs go
//! through the helper's command line, as root and as users without rights.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "tests")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use kiln_image::unpack::{TreeFormat, UnpackOptions};
use kiln_sandbox::{Chosen, Isolation, Task, Worker};
use support::{Root, can, can_run};

/// Who runs a guest, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Ns,
    /// Root, mapped to itself.
    RootUserns,
    /// A user with ranges of ids.
    Ranges,
    /// A user without.
    Single,
    Chroot,
}

/// Has ranges; made by the first test that needs it.
const USER: &str = "kiln-tester";
/// Is nobody and has nothing.
const STRANGER: u32 = 54_321;

impl Way {
    fn isolation(self) -> &'static str {
        match self {
            Way::Ns => "ns",
            Way::RootUserns | Way::Ranges => "userns",
            Way::Single => "single",
            Way::Chroot => "chroot",
        }
    }

    /// A command as that user.
    fn command(self, program: &Path) -> Command {
        let user = match self {
            Way::Ns | Way::RootUserns | Way::Chroot => return Command::new(program),
            Way::Ranges => USER.to_owned(),
            Way::Single => STRANGER.to_string(),
        };
        let mut command = Command::new("setpriv");
        let groups = if self == Way::Ranges { "--init-groups" } else { "--clear-groups" };
        command.args(["--reuid", &user, "--regid", &user, groups, "--"]).arg(program);
        command
    }

    fn owner(self) -> u32 {
        match self {
            Way::Ns | Way::RootUserns | Way::Chroot => 0,
            Way::Ranges => number("-u"),
            Way::Single => STRANGER,
        }
    }
}

fn number(which: &str) -> u32 {
    let output = Command::new("id").args([which, USER]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn has_user() -> bool {
    // Tests run side by side; one of them makes it.
    static MADE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    let made = *MADE.get_or_init(|| {
        let known = Command::new("id").arg(USER).output().is_ok_and(|output| output.status.success());
        known || Command::new("useradd").args(["--no-create-home", USER]).status().is_ok_and(|status| status.success())
    });
    let listed = fs::read_to_string("/etc/subuid").is_ok_and(|text| text.contains(USER));
    let programs = Path::new("/usr/bin/newuidmap").exists();
    can("a user with ranges in /etc/subuid, and newuidmap", made && listed && programs)
}

/// A base, a store, and the helper where every user can reach them.
struct Place {
    root: Root,
    way: Way,
}

impl Place {
    /// `None`: it cannot be tested here, which was said.
    fn new(way: Way) -> Option<Place> {
        if !can_run() || (way == Way::Ranges && !has_user()) {
            return None;
        }
        let root = Root::new();
        let place = Place { root, way };
        // A link where that can be: a copy that is just written may still be open in a child that another test forks, and then
        // it cannot be run.
        let built = env!("CARGO_BIN_EXE_kiln-sandbox-helper");
        fs::hard_link(built, place.helper()).or_else(|_| fs::copy(built, place.helper()).map(drop)).unwrap();
        fs::create_dir(place.store()).unwrap();
        let owner = Some(way.owner());
        std::os::unix::fs::chown(place.store(), owner, owner).unwrap();
        if way.owner() != 0 {
            let spec = format!("{0}:{0}", way.owner());
            let base = place.root.base("");
            assert!(Command::new("chown").args(["-R", &spec]).arg(base).status().unwrap().success());
        }
        Some(place)
    }

    fn helper(&self) -> PathBuf {
        self.root.directory.path().join("helper")
    }

    fn store(&self) -> PathBuf {
        self.root.directory.path().join("store")
    }

    /// The command that runs a shell script in a guest.
    fn shell(&self, script: &str) -> Command {
        let mut command = self.way.command(&self.helper());
        command.arg("run").arg(self.store()).arg(self.way.isolation()).arg(self.root.base(""));
        command.args(["/bin/sh", "-c", script]).stdin(Stdio::null());
        command
    }

    /// What a script prints, with its messages; it must succeed.
    fn run(&self, script: &str) -> String {
        let output = self.shell(&format!("exec 2>&1; {script}")).output().unwrap();
        assert!(output.status.success(), "{:?}: {script}: {}", self.way, text_of(&output));
        text_of(&output)
    }

    fn probe(&self, wanted: Option<&str>) -> Result<Chosen, String> {
        let output = self.way.command(&self.helper()).arg("probe").arg(self.store()).args(wanted).output().unwrap();
        match output.status.success() {
            true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
            false => Err(text_of(&output)),
        }
    }

    fn work(&self, task: &str, input: Stdio) -> Output {
        let mut command = self.way.command(&self.helper());
        command.arg("work").arg(self.store()).arg(self.way.isolation()).arg(task).stdin(input);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{:?}: {task}: {}", self.way, text_of(&output));
        output
    }

    fn in_store(&self, path: &str) -> PathBuf {
        self.store().join(path)
    }
}

fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Without what was remembered of a probe.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !(name.starts_with(".probe-") && name.ends_with(".json")));
    names.sort();
    names
}

#[test]
fn root_has_all_and_takes_name_spaces() {
    let Some(place) = Place::new(Way::Ns) else { return };
    let chosen = place.probe(None).unwrap();
    assert_eq!((chosen.isolation, chosen.store_suffix.as_str(), &chosen.lacks[..]), (Isolation::Ns, "0", &[][..]));
    let chosen = place.probe(Some("userns")).unwrap();
    assert_eq!((chosen.isolation, chosen.store_suffix.as_str()), (Isolation::Userns, "0-userns"));
    assert!(chosen.id_map.keeps_ids());
    let chosen = place.probe(Some("chroot")).unwrap();
    assert_eq!((chosen.isolation, chosen.store_suffix.as_str()), (Isolation::Chroot, "0-chroot"));
    assert!(chosen.lacks[0].starts_with("no name spaces"), "{:?}", chosen.lacks);
    assert_eq!(names(&place.store()), [""; 0]);
}

#[test]
fn what_was_found_is_remembered_for_its_circumstances() {
    let Some(place) = Place::new(Way::Ns) else { return };
    let remembered = place.in_store(".probe-0.json");
    let first = place.probe(None).unwrap();
    // That it is looked at shows where it says something else.
    let text = fs::read_to_string(&remembered).unwrap();
    fs::write(&remembered, text.replace(r#""lacks":[]"#, r#""lacks":["told"]"#)).unwrap();
    assert_eq!(place.probe(None).unwrap().lacks, ["told"]);
    // Something else was wanted.
    assert_eq!(place.probe(Some("ns")).unwrap(), first);
    // Another caller, what others may write, what is no such file: none of it counts.
    let mut weaker = Command::new("setpriv");
    weaker.args(["--bounding-set", "-wake_alarm"]).arg(place.helper()).arg("probe").arg(place.store());
    let output = weaker.output().unwrap();
    assert_eq!(serde_json::from_slice::<Chosen>(&output.stdout).unwrap(), first, "{}", text_of(&output));
    for hostile in [text.replace(r#""isolation":"ns""#, r#""isolation":"chroot""#), "{".to_owned(), String::new()] {
        fs::write(&remembered, &hostile).unwrap();
        fs::set_permissions(&remembered, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(place.probe(None).unwrap(), first, "{hostile}");
    }
}

#[test]
fn a_user_with_ranges_is_root_in_its_guest() {
    let Some(place) = Place::new(Way::Ranges) else { return };
    let chosen = place.probe(None).unwrap();
    assert_eq!(chosen.isolation, Isolation::Userns);
    assert_eq!(chosen.id_map.uids[0].outside, place.way.owner());
    assert_eq!(chosen.lacks, [""; 0]);
    assert!(chosen.store_suffix.starts_with(&format!("{}-subuid-", place.way.owner())), "{}", chosen.store_suffix);
    assert_eq!(place.probe(Some("ns")).unwrap_err(), "error: isolation `ns` cannot be had here: not root\n");
    // What a killed probe left goes with the next one, though the kernel has closed a part of it.
    let stale = place.in_store(".probe-4194305-0/work/work");
    fs::create_dir_all(&stale).unwrap();
    for part in stale.ancestors().take(3) {
        std::os::unix::fs::chown(part, Some(place.way.owner()), Some(place.way.owner())).unwrap();
    }
    fs::set_permissions(&stale, fs::Permissions::from_mode(0o000)).unwrap();
    let touched = Command::new("touch").args(["-d", "1 hour ago"]).arg(place.in_store(".probe-4194305-0")).status();
    assert!(touched.unwrap().success());
    place.probe(Some("userns")).unwrap();
    assert_eq!(names(&place.store()), [""; 0]);

    let seen = place.run("id -u; touch /new; chown 5:6 /new; ls -ln /new | cut -c 1-30; su tester -c 'id -u; id -G'");
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "-rw-r--r--", "1", "5", "6", "1000", "1000", "50"]);
    let first = chosen.id_map.uids[1].outside;
    let made = fs::metadata(place.in_store("upper/new")).unwrap();
    assert_eq!((made.uid(), made.gid()), (first + 4, chosen.id_map.gids[1].outside + 5));
}

#[test]
fn a_user_without_ranges_has_one_id_and_is_told() {
    let Some(place) = Place::new(Way::Single) else { return };
    fs::create_dir_all(place.root.base("etc/apt/apt.conf.d")).unwrap();
    let chosen = place.probe(None).unwrap();
    assert_eq!((chosen.isolation, chosen.store_suffix.as_str()), (Isolation::Userns, "54321-single"));
    let [lack] = &chosen.lacks[..] else { panic!("{:?}", chosen.lacks) };
    assert!(lack.starts_with("no user ids but one (user 54321 has no range in /etc/subuid)"), "{lack}");

    // Package managers go on where owners cannot be changed, devices not made, users not taken on.
    let seen = place.run(
        "touch /new && chown 5:6 /new && ls -ln /new | cut -c 1-30; mknod /null c 1 3 && ls /null; \
         mkfifo /pipe && ls /pipe; su tester -c 'id -u'",
    );
    let seen: Vec<_> = seen.split_whitespace().collect();
    assert_eq!(seen[..4], ["-rw-r--r--", "1", "0", "0"]);
    assert!(seen.contains(&"/pipe") && seen.last() == Some(&"0"), "{seen:?}");
    assert_eq!(fs::metadata(place.in_store("upper/new")).unwrap().uid(), STRANGER);
    // apt refuses to fetch as a user that it cannot become.
    assert_eq!(place.run("cat /etc/apt/apt.conf.d/*"), "APT::Sandbox::User \"root\";\n");
    assert!(!place.in_store("upper/etc").exists());
}

#[test]
fn guests_are_alike_in_every_name_space() {
    for way in [Way::Ns, Way::RootUserns, Way::Ranges, Way::Single] {
        let Some(place) = Place::new(way) else { continue };
        let seen = place.run("id -u; hostname; echo $PPID; cat /proc/1/comm; grep -E '^(Cap(Eff|Bnd|Amb)|NoNew|Seccomp:)' /proc/self/status");
        let lines: Vec<_> = seen.lines().map(|line| line.replace('\t', " ")).collect();
        // Process 1 is ours, and a command's parent is its keeper.
        assert_eq!(lines[..4], ["0", "kiln", "2", "kiln-init"], "{way:?}");
        let set = "00000000a80425fb";
        let expected = [
            format!("CapEff: {set}"),
            format!("CapBnd: {set}"),
            "CapAmb: 0000000000000000".to_owned(),
            "NoNewPrivs: 0".to_owned(),
            "Seccomp: 2".to_owned(),
        ];
        assert_eq!(lines[4..], expected, "{way:?}");
        place.work(
            &format!(r#"{{"Remove":{{"paths":["{0}/upper","{0}/work"]}}}}"#, place.store().display()),
            Stdio::null(),
        );
        assert_eq!(names(&place.store()), [""; 0], "{way:?}");
    }
}

/// Each line is an attempt, which must fail; it prints its number if it does not.
const ATTEMPTS: &[(&str, &str)] = &[
    ("write a setting of the kernel", "echo x > /proc/sys/kernel/domainname"),
    ("write where the kernel starts a program on a crash", "echo '|/x' > /proc/sys/kernel/core_pattern"),
    ("restart the machine", "echo b > /proc/sysrq-trigger"),
    ("read the kernel's memory", "test -s /proc/kcore || test -s /proc/keys || test -s /proc/timer_list"),
    ("make /proc writable again", "mount -o remount,rw /proc/sys"),
    ("uncover /proc", "umount /proc/kcore"),
    ("mount", "mount -t tmpfs none /tmp"),
    ("write to /sys", "touch /sys/x || echo 1 > /sys/kernel/uevent_helper || echo 0 > /sys/kernel/mm/ksm/run"),
    ("make a name space", "unshare -m true || unshare -U true || unshare -n true"),
    ("use a disk", "mknod /disk b 254 0 && head -c 1 /disk"),
    ("use a device of memory", "mknod /mem c 1 1 && head -c 1 /mem"),
    ("find other than its own files", "ls /proc/self/fd | grep -v -E '^[0-3]$'"),
    ("find files of process 1", "ls /proc/1/fd"),
    ("reach the program of process 1", "test -r /proc/1/exe || head -c 1 /proc/1/exe || ls /proc/1/root/"),
    ("write to the program of process 1", "echo x > /proc/1/exe"),
    ("look into the keeper", "cat /proc/$PPID/environ || cat /proc/$PPID/maps || ls /proc/$PPID/cwd/"),
    ("see processes of the host", "ls -d /proc/[0-9]* | grep -v -E '/[0-9]{1,2}$'"),
    ("see our environment", "grep -q SECRET_OF_THE_CALLER /proc/[0-9]*/environ"),
    ("change the host's name", "hostname other"),
    ("set the clock", "date -s 2001-01-01; date +%Y | grep 2001"),
];

#[test]
fn what_a_guest_cannot_do() {
    for way in [Way::Ns, Way::RootUserns, Way::Ranges, Way::Single] {
        let Some(place) = Place::new(way) else { continue };
        let lines: String = ATTEMPTS
            .iter()
            .map(|(what, attempt)| format!("( {attempt} ) >/dev/null 2>&1 && echo 'it could {what}'\n"))
            .collect();
        let output = place.shell(&format!("{lines} echo done")).env("SECRET_OF_THE_CALLER", "1").output().unwrap();
        assert_eq!(text_of(&output), "done\n", "{way:?}");
    }
}

#[test]
fn a_base_with_links_leads_nowhere() {
    for way in [Way::Ns, Way::Ranges, Way::Chroot] {
        let Some(place) = Place::new(way) else { continue };
        let outside = place.root.directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o777)).unwrap();
        let up = format!("../../../../../../../../../..{}", outside.display());
        fs::remove_dir_all(place.root.base("etc")).unwrap();
        for name in ["dev", "etc", "run"] {
            symlink(&up, place.root.base(name)).unwrap();
        }
        // It may be refused, or be run within its own root.
        let output = place.shell("echo ran").output().unwrap();
        assert!(
            text_of(&output).starts_with("ran") || text_of(&output).contains("error"),
            "{way:?}: {}",
            text_of(&output)
        );
        assert_eq!(names(&outside), [""; 0], "{way:?}");
    }
}

#[test]
fn a_mere_root_directory_is_as_it_was_when_the_session_ends() {
    let Some(place) = Place::new(Way::Chroot) else { return };
    fs::write(place.root.base("etc/hosts"), "127.0.0.1 old\n").unwrap();
    symlink("/nowhere/resolv.conf", place.root.base("etc/resolv.conf")).unwrap();
    let before = listing(&place.root.base(""));
    let seen = place.run(
        "echo x > /dev/null; head -c 4 /dev/zero | wc -c; cat /etc/hosts > /tmp/seen; test -s /etc/resolv.conf; \
         ls -d /run/kiln/secrets; echo secret > /run/kiln/secrets/key; echo y > /etc/hosts; touch /dev/mine; rm /tmp/seen",
    );
    assert_eq!(seen, "4\n/run/kiln/secrets\n");
    let mut after = listing(&place.root.base(""));
    // The guest did change this one.
    let is_tmp = |line: &String| line.starts_with("tmp ");
    after.retain(|line| !is_tmp(line));
    assert_eq!(after, before.into_iter().filter(|line| !is_tmp(line)).collect::<Vec<_>>());
    // What it changes beside ours is kept, with its times.
    place.run("echo new > /etc/motd; mkdir /srv");
    assert_eq!(fs::read_to_string(place.root.base("etc/motd")).unwrap(), "new\n");
    let times = |path: &str| fs::metadata(place.root.base(path)).unwrap().modified().unwrap();
    assert!(times("etc") >= times("etc/motd"));
}

/// Path, inode, mode, link and time of modification of all.
fn listing(root: &Path) -> Vec<String> {
    let format = "%P %i %m %l %T@\\n";
    let output = Command::new("find").arg(root).args(["-printf", format]).output().unwrap();
    let mut lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_mere_root_directory_keeps_root_in_and_refuses_what_it_cannot_do() {
    let Some(place) = Place::new(Way::Chroot) else { return };
    let seen = place.run("chroot /tmp /bin/true; mount -t tmpfs x /tmp; ls / | tr '\\n' ' '");
    assert!(seen.contains("can't change root directory to '/tmp': Operation not permitted"), "{seen}");
    assert!(seen.contains("bin dev etc home root run tmp"), "{seen}");
}

#[test]
fn nothing_runs_on_where_there_is_no_process_name_space() {
    let Some(place) = Place::new(Way::Chroot) else { return };
    // Twice forked, a session of its own, deaf to signals.
    let leave = |mark: &str| format!("(trap '' TERM HUP INT; setsid sleep {mark} & ) ; sleep {mark} & echo ready");
    place.run(&leave("98761"));
    assert_eq!(sleepers("98761"), [""; 0]);

    // Also where the owner has no time to say so.
    let mut owner = place.shell(&format!("{}; sleep 98762", leave("98762"))).stdout(Stdio::piped()).spawn().unwrap();
    use std::io::Read;
    owner.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    assert!(!sleepers("98762").is_empty());
    owner.kill().unwrap();
    owner.wait().unwrap();
    let start = Instant::now();
    while !sleepers("98762").is_empty() || place.root.base("dev").exists() {
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", sleepers("98762"));
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn sleepers(mark: &str) -> Vec<String> {
    let line = |process: &Path| {
        fs::read(process.join("cmdline")).ok().map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
    };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| line(&process.path()))
        .filter(|line| line.contains(&format!("sleep {mark} ")))
        .collect()
}

#[test]
fn files_are_worked_on_as_the_guests_root() {
    for way in [Way::Ns, Way::RootUserns, Way::Ranges, Way::Single] {
        let Some(place) = Place::new(way) else { continue };
        let store = place.store();
        let store = store.display();
        place.work(&format!(r#"{{"Prepare":{{"directories":["{store}/a/b"],"mode":493}}}}"#), Stdio::null());
        let made = fs::metadata(place.in_store("a/b")).unwrap();
        assert_eq!((made.uid(), made.mode() & 0o7777), (way.owner(), 0o755), "{way:?}");

        let tar = place.root.directory.path().join("layer.tar");
        make_layer(&tar);
        let options = r#"{"format":{"overlay":{"user_xattr":true}},"limits":LIMITS,"lowers":[],"devices":"skip","owners":true,"diff_id":null}"#;
        let limits = r#"{"entries":100,"bytes":1000000,"file":1000000,"header":100000,"ratio":2000,"keep_free":0}"#;
        let options = options.replace("LIMITS", limits);
        let task = format!(r#"{{"Unpack":{{"root":"{store}/a/b","options":{options}}}}}"#);
        place.work(&task, fs::File::open(&tar).unwrap().into());
        place.work(&format!(r#"{{"Copy":{{"from":"{store}/a/b","to":"{store}/c"}}}}"#), Stdio::null());
        // Renaming needs rights to the directory itself.
        place.work(&format!(r#"{{"Rename":{{"from":"{store}/c","to":"{store}/a/d"}}}}"#), Stdio::null());
        let shape = |tree: &str| {
            let format = "%P %y %m %U %G %s %n %l %T@\\n";
            let output = Command::new("find").arg(place.in_store(tree)).args(["-printf", format]).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(shape("a/b"), shape("a/d"), "{way:?}");
        assert_eq!(fs::metadata(place.in_store("a/d/file")).unwrap().nlink(), 2);

        let task = format!(
            r#"{{"Pack":{{"uppers":["{store}/a/d"],"lowers":[],"exclude":[],"timestamp":null,"needles":[],"user_xattr":true,"content":false}}}}"#
        );
        let packed = place.work(&task, Stdio::null()).stdout;
        let mut list = Command::new("tar")
            .args(["-tv", "--numeric-owner"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut list.stdin.take().unwrap(), &packed).unwrap();
        let list = text_of(&list.wait_with_output().unwrap());
        // What was set-user-id for somebody else must not become so for root.
        let file = if way == Way::Single { "-rwxr-x--- 0/0" } else { "-rwsr-x--- 7/8" };
        assert!(list.contains(file), "{way:?}: {list}");

        place.work(&format!(r#"{{"Remove":{{"paths":["{store}/a","{store}/gone"]}}}}"#), Stdio::null());
        assert_eq!(names(&place.store()), [""; 0], "{way:?}");
    }
}

#[test]
fn a_worker_goes_on_after_a_failure() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let helper = support::helper();
    let chosen = kiln_sandbox::probe(&helper, folder.path()).choose(Some(Isolation::Userns)).unwrap();
    let worker = Worker::new(&chosen, &helper);
    assert!(!worker.is_in_process());
    let path = |name: &str| folder.path().join(name);
    let prepare = Task::Prepare { directories: vec![path("a/b")], mode: 0o700 };
    worker.run(&prepare, None, None).unwrap();
    let error = worker.run(&Task::Rename { from: path("none"), to: path("c") }, None, None).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot move {} to {}", path("none").display(), path("c").display()));
    let layer = path("a/none.tar");
    fs::write(&layer, "no archive").unwrap();
    let options = UnpackOptions::new(TreeFormat::Overlay { user_xattr: true });
    worker.unpack(fs::File::open(&layer).unwrap(), &path("a/b"), &options).unwrap_err();
    // Several at once, more than are kept.
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (worker, directory) = (worker.clone(), path(&format!("a/{number}")));
            scope.spawn(move || {
                let directories = vec![directory];
                worker.run(&Task::Prepare { directories, mode: 0o700 }, None, None).unwrap();
            });
        }
    });
    worker.remove(&[path("a")]).unwrap();
    assert_eq!(names(folder.path()), [""; 0]);
}

/// A directory that nobody may enter, a file of two names with an owner and set-user-id, a link, a pipe.
fn make_layer(to: &Path) {
    let source = tempfile::tempdir().unwrap();
    let at = |name: &str| source.path().join(name);
    fs::create_dir(at("closed")).unwrap();
    fs::write(at("closed/inside"), "x").unwrap();
    fs::write(at("file"), "content").unwrap();
    std::os::unix::fs::chown(at("file"), Some(7), Some(8)).unwrap();
    fs::set_permissions(at("file"), fs::Permissions::from_mode(0o4750)).unwrap();
    fs::hard_link(at("file"), at("closed/same")).unwrap();
    symlink("/nowhere", at("link")).unwrap();
    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    fs::set_permissions(at("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    assert!(Command::new("tar").arg("-cf").arg(to).arg("-C").arg(source.path()).arg(".").status().unwrap().success());
}

#[test]
fn a_default_container_gets_a_mere_root_directory() {
    let Some(place) = Place::new(Way::Chroot) else { return };
    let image = "debian:bookworm";
    let there =
        Command::new("docker").args(["image", "inspect", image]).output().is_ok_and(|output| output.status.success());
    if !can("a Docker engine with debian:bookworm (scripts/services.sh start)", there) {
        return;
    }
    let volume = format!("{}:/kiln", place.root.directory.path().display());
    let run = |options: &[&str], arguments: &[&str]| {
        let mut command = Command::new("docker");
        command.args(["run", "--rm", "-v", &volume]).args(options).arg(image).arg("/kiln/helper").args(arguments);
        text_of(&command.output().unwrap())
    };
    let chosen: Chosen = serde_json::from_str(&run(&[], &["probe", "/kiln/store"])).unwrap();
    assert_eq!(chosen.isolation, Isolation::Chroot);
    let has = |what: &str| chosen.lacks.iter().any(|lack| lack.contains(what));
    assert!(has("why not `ns`: root without SYS_ADMIN") && has("seccomp=unconfined"), "{:?}", chosen.lacks);
    let seen = run(
        &[],
        &["run", "/kiln/store", "any", "/kiln/base", "/bin/sh", "-c", "id -u; chown 7 /bin/busybox; ls /dev/null"],
    );
    assert_eq!(seen, "0\n/dev/null\n");

    let open = ["--security-opt", "seccomp=unconfined"];
    let chosen: Chosen = serde_json::from_str(&run(&open, &["probe", "/kiln/store"])).unwrap();
    assert_eq!((chosen.isolation, chosen.lacks.len()), (Isolation::Userns, 1), "{:?}", chosen.lacks);
    // The container's own root is an overlay.
    let refused = run(&open, &["probe", "/store", "userns"]);
    assert!(refused.contains("the store is itself on an overlay"), "{refused}");
    let refused = run(&["--user", "1000"], &["probe", "/tmp/store"]);
    assert!(refused.contains("ns: not root") && refused.contains("seccomp=unconfined"), "{refused}");
}
