//! Projects in directories of their own.

use std::path::Path;

use crate::{Because, Found, Offer, ReadOptions, Tool, read};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Folder {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Folder(directory)
    }

    fn options(&self) -> ReadOptions {
        ReadOptions { project_name: Some("shop".to_owned()), ..ReadOptions::new(self.0.path()) }
    }

    fn read(&self) -> Found {
        read(&self.options())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

#[track_caller]
fn good(found: Found) -> Found {
    assert!(found.diagnostics.is_empty(), "{:?}", found.diagnostics);
    found
}

fn images(found: &Found) -> Vec<String> {
    let services = found.projects.iter().flat_map(|project| &project.services);
    let image = |image: &crate::Placed| image.text.clone();
    services
        .map(|service| format!("{}={}", service.name, service.image.as_ref().map(image).unwrap_or_default()))
        .collect()
}

fn titles(found: &Found) -> Vec<&str> {
    found.diagnostics.items.iter().map(|item| item.title.as_str()).collect()
}

#[test]
fn overrides_anchors_and_variables() {
    let folder = Folder::new(&[
        (".env", "TAG=1.2\nREGISTRY=ignored.example.org\n"),
        (
            "docker-compose.yml",
            "x-base: &base\n  image: ${REGISTRY}/group/worker:${TAG:-latest}\nservices:\n  worker:\n    <<: *base\n    volumes: [home:/opt/app/, './x:/x', /anonymous]\n  other: {<<: *base, image: debian}\nvolumes:\n  home:\n",
        ),
        (
            "docker-compose.override.yml",
            "services:\n  worker:\n    platform: linux/arm64\n    volumes:\n      - {type: volume, source: data, target: /data}\n  other: !reset null\nvolumes:\n  data: {name: the-data}\n",
        ),
    ]);
    let mut options = folder.options();
    options.environment.insert("REGISTRY".to_owned(), "registry.example.org".to_owned());
    let found = good(read(&options));
    let [project] = found.projects.as_slice() else { panic!("{:?}", found.projects) };
    assert_eq!(images(&found), ["worker=registry.example.org/group/worker:1.2"]);
    let worker = &project.services[0];
    assert_eq!(worker.platform.as_ref().unwrap().text, "linux/arm64");
    let mounts: Vec<_> = worker.mounts.iter().map(|mount| (mount.volume.as_str(), mount.target.as_str())).collect();
    assert_eq!(mounts, [("home", "/opt/app"), ("data", "/data")]);
    assert_eq!(project.volumes["home"], "shop_home");
    assert_eq!(project.volumes["data"], "the-data");
    let span = worker.image.as_ref().unwrap().span;
    assert_eq!(found.sources.text(span), "${REGISTRY}/group/worker:${TAG:-latest}");
    assert_eq!(found.sources.line_column(span), (2, 10));
}

#[test]
fn which_files_are_read() {
    let one = |name: &str| format!("services: {{a: {{image: {name}}}}}\n");
    let folder = Folder::new(&[
        ("compose.yaml", &one("main")),
        ("docker-compose.yml", &one("old")),
        ("compose.override.yml", &one("over")),
        ("ci/test.yml", &one("test")),
    ]);
    assert_eq!(images(&good(folder.read())), ["a=over"]);
    let mut options = folder.options();
    options.environment.insert("COMPOSE_FILE".to_owned(), "docker-compose.yml".to_owned());
    assert_eq!(images(&good(read(&options))), ["a=old"]);
    options.files = vec![folder.path().join("docker-compose.yml"), folder.path().join("ci/test.yml")];
    let found = good(read(&options));
    assert_eq!((images(&found), found.projects[0].files.len()), (vec!["a=test".to_owned()], 2));
    let nothing = Folder::new(&[]).read();
    assert!(nothing.projects.is_empty() && nothing.diagnostics.is_empty());
}

#[test]
fn services_extend_and_files_include_each_other() {
    let folder = Folder::new(&[
        (
            "compose.yaml",
            "name: ${NAME:-named}\ninclude:\n  - more/compose.yaml\nservices:\n  a:\n    extends: b\n  b:\n    extends: {file: more/base.yaml, service: base}\n    platform: linux/amd64\n",
        ),
        ("more/compose.yaml", "services: {c: {image: included, build: ctx}}\n"),
        ("more/base.yaml", "services:\n  base: {image: base, build: {context: ctx}}\n"),
        ("more/ctx/Dockerfile", "FROM group/one\n"),
    ]);
    let found = good(read(&ReadOptions { project_name: None, ..folder.options() }));
    let project = &found.projects[0];
    assert_eq!((project.name.as_str(), images(&found).join(" ").as_str()), ("named", "c=included a=base b=base"));
    for service in &project.services {
        assert_eq!(service.bases[0].image, "group/one", "{}", service.name);
    }
}

#[test]
fn profiles_are_on_where_the_environment_says_so() {
    let text = "services:\n  a: {image: x}\n  b: {image: x, profiles: [tools, debug]}\n";
    let off = |files: &[(&str, &str)]| {
        let found = good(Folder::new(files).read());
        found.projects[0].services.iter().map(|service| service.is_off).collect::<Vec<_>>()
    };
    assert_eq!(off(&[("compose.yaml", text)]), [false, true]);
    for profiles in ["debug", "other, tools", "*"] {
        let env = format!("COMPOSE_PROFILES={profiles}\n");
        assert_eq!(off(&[("compose.yaml", text), (".env", &env)]), [false, false], "{profiles}");
    }
}

#[test]
fn mistakes_are_told_at_their_place() {
    let folder = Folder::new(&[(
        "compose.yaml",
        "services:\n  a: {image: 'x:${TAG:?which one}', extends: nobody}\n  b: {image: '$UNSET/x:${'}\n  c: {image: 'y$UNSET'}\ninclude:\n  - https://example.org/x.yaml\n  - {path: compose.yaml, env_file: x}\n",
    )]);
    let found = folder.read();
    let mut found_titles = titles(&found);
    found_titles.sort_unstable();
    assert_eq!(
        found_titles,
        [
            "a `}` is missing",
            "files include each other in a ring",
            "kiln does not read `env_file` of an `include`",
            "kiln does not read an `include` from elsewhere",
            "the variable `TAG` is required and has no value: which one",
            "the variable `UNSET` is not set; it counts as empty",
            "there is no service `nobody` to extend",
        ]
    );
    assert_eq!(titles(&Folder::new(&[("compose.yaml", "services: [\n")]).read()).len(), 1);
    assert_eq!(
        titles(&Folder::new(&[("compose.yaml", "volumes: {}\n")]).read()),
        ["there is no `services` with a service in it"]
    );
    let ring = Folder::new(&[("compose.yaml", "services: {a: {extends: b}, b: {extends: a}}\n")]);
    assert!(titles(&ring.read())[0].contains("extends itself"));
}

#[test]
fn ddevs_additions() {
    let folder = Folder::new(&[
        (".ddev/config.yaml", "name: my-Site.x\nwebimage: group/web:1\n"),
        (".ddev/config.local.yaml", "webimage: group/web:2\n"),
        (".ddev/.env", "TAG=7\n"),
        (
            ".ddev/docker-compose.worker.yaml",
            "services:\n  worker:\n    container_name: ddev-${DDEV_SITENAME}-worker\n    image: group/worker:${TAG}\n    volumes: [keys:/var/keys]\n  queue:\n    image: group/queue:3-${DDEV_SITENAME}-built\n    build: {context: queue, args: {BASE_IMAGE: 'group/queue:3'}}\nvolumes: {keys: {}}\n",
        ),
        (".ddev/docker-compose.override.yaml", "services: {worker: {platform: linux/amd64}}\n"),
        (".ddev/docker-compose.a.yml", "services: {worker: {platform: linux/arm64}}\n"),
        (".ddev/queue/Dockerfile", "ARG BASE_IMAGE\nFROM $BASE_IMAGE\n"),
    ]);
    let found = good(folder.read());
    let project = &found.projects[0];
    assert_eq!((project.tool, project.label.as_str()), (Tool::Ddev, "ddev-my-sitex"));
    assert_eq!(project.volumes["keys"], "ddev-my-sitex_keys");
    let offer = |build: &str, name: &str| Offer { build: build.into(), names: vec![format!("docker.io/group/{name}")] };
    let offers = [offer("worker", "worker:7"), offer("queue", "queue:3"), offer("web", "web:2")];
    let matches = project.matches(&offers);
    let used: Vec<_> = matches
        .used
        .iter()
        .map(|used| (project.services[used.service].name.as_str(), used.build.as_str(), used.is_base))
        .collect();
    assert_eq!(used, [("worker", "worker", false), ("queue", "queue", true), ("web", "web", true)]);
    assert_eq!(project.services[0].platform.as_ref().unwrap().text, "linux/amd64");
}

#[test]
fn spellings_of_one_name_are_one_and_near_misses_are_told() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let folder = Folder::new(&[(
        "compose.yaml",
        &format!(
            "services:\n  a: {{image: group/app}}\n  b: {{image: 'index.docker.io/group/app:latest'}}\n  c: {{image: 'group/app:1'}}\n  d: {{image: 'group/app@{digest}'}}\n  e: {{image: group/application}}\n  f: {{image: 'group/app', build: {{dockerfile_inline: 'FROM debian'}}}}\n"
        ),
    )]);
    let found = good(folder.read());
    let offers = [Offer { build: "x".to_owned(), names: vec!["docker.io/group/app:latest".to_owned()] }];
    let matches = found.projects[0].matches(&offers);
    assert_eq!(matches.used.iter().map(|used| used.service).collect::<Vec<_>>(), [0, 1]);
    let near: Vec<_> = matches.near.iter().map(|near| (near.service, near.because)).collect();
    assert_eq!(near, [(2, Because::OtherTag), (3, Because::Pinned), (5, Because::BuiltThere)]);
}
