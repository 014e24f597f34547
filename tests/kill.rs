//! Killed at any moment: `kiln cleanup` removes what the run left, from its journal alone.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::support::World;
use crate::support::docker;

/// How many builds are killed.
const KILLS: u64 = 9;

/// What a build is made of, and how long one takes at most before it is killed.
fn template(kind: u64, mark: &str) -> (Json, Duration) {
    let image = |more: Json| {
        let mut builder = json!({ "type": "docker", "image": docker::BASE, "pull": false });
        builder.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        builder
    };
    let import = json!([[{ "type": "docker-import", "repository": "kiln-test/kill", "tag": mark }]]);
    let (builder, post_processors, longest) = match kind {
        // Nothing in the image tells whose it is.
        0 => (image(json!({ "commit": true, "kiln_labels": false })), json!([]), 900),
        1 => (
            json!({ "type": "docker", "build": { "path": "Dockerfile", "pull": false }, "commit": true }),
            json!([]),
            2500,
        ),
        _ => (image(json!({ "export_path": "out/root.tar" })), import, 2500),
    };
    let template = json!({
        "builders": [builder],
        "provisioners": [
            { "type": "file", "source": "big", "destination": "/big" },
            { "type": "shell", "inline": [format!("echo {mark} > /mark; head -c 9000000 /dev/urandom > /blob; sleep 0.2")] },
        ],
        "post-processors": post_processors,
    });
    (template, Duration::from_millis(longest))
}

/// Files below the test's directory, but for those it wrote itself and kiln's empty directories.
fn files(world: &World) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![world.path().to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                found.insert(entry.path());
            }
        }
    }
    found
}

/// Images whose configuration, history or comment holds a text that only this test's builds bear.
fn images_with(text: &str) -> Vec<String> {
    let list = docker::all_images();
    let bears = |id: &String| {
        docker::image(id).is_some_and(|image| image.to_string().contains(text))
            || docker::try_history(id).is_some_and(|history| history.to_string().contains(text))
    };
    list.into_iter().filter(bears).collect()
}

#[test]
fn killed_at_random_then_cleanup_leaves_nothing() {
    if !docker::is_there() {
        return;
    }
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    // A linear congruential generator: any delay will do, as long as a failure says which.
    let mut random = u64::from(seed);
    for kill in 0..KILLS {
        let world = World::new();
        let mark = format!("kill-{seed}-{kill}");
        let (template, longest) = template(kill % 3, &mark);
        world.write("a.json", &template.to_string());
        world.write("big", &"x".repeat(4_000_000));
        world.write(
            "Dockerfile",
            &format!("FROM {}\nENV MARK={mark}\nRUN echo {mark} > /x\nRUN sleep 0.3\n", docker::BASE),
        );
        std::fs::create_dir(world.path().join("out")).unwrap();
        let before = files(&world);
        let mut running = world.start(&["build", "-json", "a.json"]);
        running.wait_for("run-started", |event| event["event"] == "run-started");
        let run = running.run.clone();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let delay = longest.mul_f64((random >> 40) as f64 / f64::from(1 << 24));
        std::thread::sleep(delay);
        running.signal("KILL");
        let (code, _) = running.end();
        let told = world.succeed(&["cleanup"]).stderr;
        if code == 0 {
            // It was quicker; what it made is the user's.
            images_with(&mark).iter().chain(&images_with(&run)).for_each(|id| drop(docker::Removed(vec![id.clone()])));
            continue;
        }
        let what = format!("kind {}, killed after {delay:?}: {told}", kill % 3);
        assert_eq!(docker::containers_with(&format!("kiln.run={run}")), Vec::<String>::new(), "containers: {what}");
        assert!(docker::container(&format!("kiln-{:.8}-docker", run)).is_none(), "unlabelled container: {what}");
        // The engine may still be at the end of a step that it was told to do; nothing may be there after that either.
        let end = Instant::now() + Duration::from_secs(1);
        let mut left = images_with(&mark);
        while left.is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(200));
            left = images_with(&mark);
        }
        left.extend(images_with(&run));
        assert_eq!(left, Vec::<String>::new(), "images: {what}");
        // The store of the step cache stays, and has nothing in it that a build made.
        let store = world.path().join(".home/.cache/kiln/0");
        // A record of what sealing gave may stay: its image, which `images_with` has looked for, is gone, so it counts for nothing.
        let of_builds = ["steps", "sealed", "work", "tmp"];
        let is_of_build = |path: &PathBuf| match path.strip_prefix(&store) {
            Ok(inside) => of_builds.iter().any(|part| inside.starts_with(part)),
            Err(_) => true,
        };
        let new: Vec<PathBuf> = files(&world).difference(&before).filter(|path| is_of_build(path)).cloned().collect();
        assert_eq!(new, Vec::<PathBuf>::new(), "files: {what}");
    }
}
