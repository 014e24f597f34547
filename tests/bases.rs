//! What images are made from, and that nothing of it is lost: each kind of `from`, children of children, many layers, several
//! platforms, and configs as the engine writes them.

use std::path::PathBuf;
use std::process::Command;

use kiln_image::Digest;
use serde_json::{Value as Json, json};

use crate::roundtrip::{UPLOAD, machine_view, program, same, template, world};
use crate::support::World;
use crate::support::docker::{self, Removed};

fn change(seed: u64) -> String {
    format!("  provisioner \"shell\" {{ inline = [\"perl /opt/change.pl {seed} 60 known\"] }}\n")
}

/// A registry that takes whatever comes.
fn registry() -> Option<String> {
    let registry = std::env::var("KILN_TEST_ZUUL_REGISTRY").ok();
    crate::support::available("a registry (KILN_TEST_ZUUL_REGISTRY)", registry.is_some()).then_some(registry).flatten()
}

#[test]
fn children_of_every_kind_are_what_their_parents_were() {
    let Some(world) = world() else { return };
    let outputs = "  tags = [\"kiln-test/parent:1\"]\n  oci_layout = \"layout\"\n  docker_archive = \"archive.tar\"\n  \
        load = true\n  commit = true\n  export_path = \"root.tar\"\n";
    let _removed = Removed(vec!["kiln-test/parent:1".to_owned()]);
    world.write(
        "parent.pkr.hcl",
        &template("{ tar = \"base.tar\" }", outputs, &(UPLOAD.to_owned() + &change(80) + &change(81))),
    );
    world.succeed(&["build", "parent.pkr.hcl"]);
    let view = machine_view(&world, "oci.x", "parent.pkr.hcl");
    // What other programs make of it: engines of today keep layouts in their archives.
    program(&world, "docker", &["save", "-o", "saved.tar", "kiln-test/parent:1"]);
    program(
        &world,
        "skopeo",
        &["copy", "--quiet", "docker-archive:archive.tar", "docker-archive:copied.tar:kiln-test/parent:1"],
    );
    program(&world, "tar", &["-C", "layout", "-cf", "layout.tar", "."]);
    modern_archive(&world);
    std::fs::create_dir(world.path().join("root")).unwrap();
    program(&world, "tar", &["-C", "root", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", "root.tar"]);
    let kinds = [
        "{ local = \"kiln-test/parent:1\" }",
        "{ oci_layout = \"layout\" }",
        "{ oci_layout = \"layout.tar\", name = \"kiln-test/parent:1\" }",
        "{ docker_archive = \"archive.tar\" }",
        "{ docker_archive = \"saved.tar\", name = \"kiln-test/parent:1\" }",
        "{ docker_archive = \"copied.tar\" }",
        "{ docker_archive = \"modern.tar\" }",
        "{ docker_daemon = \"kiln-test/parent:1\" }",
        "{ tar = \"root.tar\" }",
        "{ directory = \"root\" }",
    ];
    let mut grandchild = None;
    for (number, from) in kinds.into_iter().enumerate() {
        let name = format!("child{number}.pkr.hcl");
        let tags = format!("  tags = [\"child:{number}\"]\n");
        world.write(&name, &template(from, &tags, "  provisioner \"shell\" { inline = [\"true\"] }\n"));
        world.succeed(&["build", &name]);
        same(&view, &machine_view(&world, "oci.x", &name), from);
        // Children of all of them are alike too, with the same changes.
        let steps = change(82);
        world.write("grandchild.pkr.hcl", &template(&format!("{{ local = \"child:{number}\" }}"), "", &steps));
        world.succeed(&["build", "grandchild.pkr.hcl"]);
        let view = machine_view(&world, "oci.x", "grandchild.pkr.hcl");
        let timeless = without_times(&view);
        same(grandchild.get_or_insert_with(|| timeless.clone()), &timeless, &format!("a child of {from}"));
    }
}

/// Views without times: steps that run again make files anew.
fn without_times(view: &str) -> String {
    let line = |line: &str| {
        let mut words: Vec<&str> = line.split(' ').collect();
        words.remove(3);
        words.join(" ") + "\n"
    };
    view.lines().map(line).collect()
}

/// What `docker save` of version 25 and later writes: a layout, with a list of the images beside it.
fn modern_archive(world: &World) {
    program(world, "cp", &["-r", "layout", "modern"]);
    let blob = |digest: &Json| format!("blobs/{}", digest.as_str().unwrap().replace(':', "/"));
    let read = |path: &str| -> Json {
        serde_json::from_slice(&std::fs::read(world.path().join("modern").join(path)).unwrap()).unwrap()
    };
    let manifest = read(&blob(&read("index.json")["manifests"][0]["digest"]));
    let layers: Vec<String> =
        manifest["layers"].as_array().unwrap().iter().map(|layer| blob(&layer["digest"])).collect();
    let config = blob(&manifest["config"]["digest"]);
    let list = json!([{"Config": config, "RepoTags": ["kiln-test/parent:1"], "Layers": layers}]);
    world.write("modern/manifest.json", &list.to_string());
    program(world, "tar", &["-C", "modern", "-cf", "modern.tar", "."]);
}

/// Each step makes a layer that removes what the one before it made.
#[test]
fn images_of_many_layers_go_to_the_engine_and_come_back() {
    let Some(world) = world() else { return };
    let step = |number: usize| {
        format!(
            "  provisioner \"shell\" {{ inline = [\"rm -rf /many/dir && mkdir -p /many/dir && echo {number} > \
             /many/dir/{number} && mv /many/last /many/was{number} 2>/dev/null || true; echo {number} > /many/last; \
             rm -f /many/was$(({number} - 5))\"] }}\n"
        )
    };
    let steps: String = (1..=112).map(step).collect();
    let source = "  layers = \"per-step\"\n  tags = [\"kiln-test/many:1\"]\n  load = true\n";
    let _removed = Removed(vec!["kiln-test/many:1".to_owned()]);
    world.write("a.pkr.hcl", &template("{ tar = \"base.tar\" }", source, &(UPLOAD.to_owned() + &steps)));
    world.succeed(&["build", "a.pkr.hcl"]);
    let view = machine_view(&world, "oci.x", "a.pkr.hcl");
    let image = docker::image("kiln-test/many:1").unwrap();
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 114);
    same(&view, &docker::run_in("kiln-test/many:1", "perl /opt/look.pl /"), "many layers");
    world.write(
        "b.pkr.hcl",
        &template("{ docker_daemon = \"kiln-test/many:1\" }", "", "  provisioner \"shell\" { inline = [\"true\"] }\n"),
    );
    world.succeed(&["build", "b.pkr.hcl"]);
    same(&view, &machine_view(&world, "oci.x", "b.pkr.hcl"), "many layers, back again");
}

fn read_json(path: PathBuf) -> Json {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Writes a blob of a layout: its digest and size.
fn write_blob(world: &World, layout: &str, value: &Json) -> (String, usize) {
    let bytes = serde_json::to_vec(value).unwrap();
    let digest = Digest::of(&bytes);
    std::fs::write(world.path().join(layout).join("blobs/sha256").join(digest.hex()), &bytes).unwrap();
    (digest.to_string(), bytes.len())
}

fn blob(world: &World, layout: &str, digest: &Json) -> Json {
    read_json(world.path().join(layout).join("blobs").join(digest.as_str().unwrap().replace(':', "/")))
}

/// The only image of a layout: its manifest and its config.
fn image_of(world: &World, layout: &str) -> (Json, Json) {
    let index = read_json(world.path().join(layout).join("index.json"));
    let manifest = blob(world, layout, &index["manifests"][0]["digest"]);
    let config = blob(world, layout, &manifest["config"]["digest"]);
    (manifest, config)
}

/// Changes the config of a layout's only image.
fn edit(world: &World, layout: &str, change: impl FnOnce(&mut Json)) -> Json {
    let path = world.path().join(layout).join("index.json");
    let mut index = read_json(path.clone());
    let (mut manifest, mut config) = image_of(world, layout);
    change(&mut config);
    let (digest, size) = write_blob(world, layout, &config);
    (manifest["config"]["digest"], manifest["config"]["size"]) = (digest.into(), size.into());
    let (digest, size) = write_blob(world, layout, &manifest);
    (index["manifests"][0]["digest"], index["manifests"][0]["size"]) = (digest.into(), size.into());
    std::fs::write(path, serde_json::to_vec(&index).unwrap()).unwrap();
    index["manifests"][0].clone()
}

#[test]
fn the_right_image_of_an_index_is_pulled() {
    let (Some(world), Some(registry)) = (world(), registry()) else { return };
    let repository = format!("{registry}/kiln-test/multi-{}", std::process::id());
    let mut images = Vec::new();
    for architecture in ["amd64", "arm64", "arm"] {
        let source = format!("  oci_layout = \"{architecture}\"\n");
        let step = format!("  provisioner \"shell\" {{ inline = [\"echo {architecture} > /which\"] }}\n");
        world.write("a.pkr.hcl", &template("{ tar = \"base.tar\" }", &source, &(UPLOAD.to_owned() + &step)));
        world.succeed(&["build", "a.pkr.hcl"]);
        let mut image = edit(&world, architecture, |config| {
            config["architecture"] = architecture.into();
            if architecture == "arm" {
                config["variant"] = "v7".into();
            }
        });
        image["platform"] = json!({"os": "linux", "architecture": architecture});
        if architecture == "arm" {
            image["platform"]["variant"] = "v7".into();
        }
        image.as_object_mut().unwrap().remove("annotations");
        images.push(image);
    }
    for architecture in ["arm64", "arm"] {
        program(&world, "cp", &["-r", &format!("{architecture}/blobs"), "amd64/"]);
    }
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": images});
    let (digest, size) = write_blob(&world, "amd64", &index);
    let name = json!({"org.opencontainers.image.ref.name": "multi"});
    let top = json!({"schemaVersion": 2, "manifests": [
        {"mediaType": kind, "digest": digest, "size": size, "annotations": name}
    ]});
    std::fs::write(world.path().join("amd64/index.json"), top.to_string()).unwrap();
    let to = format!("docker://{repository}:1");
    let login = ["--dest-creds", "writer:write-password", "--dest-tls-verify=false"];
    program(&world, "skopeo", &[&["copy", "--quiet", "--all"], login.as_slice(), &["oci:amd64:multi", &to]].concat());
    let platforms = [("", "amd64"), ("linux/amd64", "amd64"), ("linux/arm64", "arm64"), ("linux/arm/v7", "arm")];
    for (platform, architecture) in platforms {
        for from in [format!("\"{repository}:1\""), "{ oci_layout = \"amd64\", name = \"multi\" }".to_owned()] {
            let source = if platform.is_empty() { String::new() } else { format!("  platform = \"{platform}\"\n") };
            let source = format!("{source}  oci_layout = \"out\"\n");
            let step =
                format!("  provisioner \"shell\" {{ inline = [\"grep -qx {architecture} /which || exit 1\"] }}\n");
            let step = step.replace("grep -qx", "test \\\"$(cat /which)\\\" =").replace(" /which ||", " ||");
            // A step would need an emulator for it; the config tells whose image it is.
            let step = if architecture == "amd64" { step } else { String::new() };
            world.write("b.pkr.hcl", &template(&from, &source, &step));
            world.succeed(&["build", "b.pkr.hcl"]);
            let (_, config) = image_of(&world, "out");
            assert_eq!(config["architecture"], architecture, "{from} for {platform}");
            program(&world, "rm", &["-rf", "out"]);
        }
    }
    world.write("b.pkr.hcl", &template(&format!("\"{repository}:1\""), "  platform = \"linux/s390x\"\n", ""));
    let outcome = world.run(&["build", "b.pkr.hcl"]);
    assert!(outcome.code != 0 && outcome.stderr.contains("s390x"), "{}", outcome.stderr);
}

/// What an engine or another tool wrote stays, known or not.
#[test]
fn a_bases_config_is_kept() {
    let Some(world) = world() else { return };
    world.write("a.pkr.hcl", &template("{ tar = \"base.tar\" }", "  oci_layout = \"out\"\n", UPLOAD));
    world.succeed(&["build", "a.pkr.hcl"]);
    let wanted = json!({
        "Hostname": "h", "Domainname": "", "User": "0:0", "AttachStdin": false, "ExposedPorts": {"80/tcp": {}},
        "Env": ["PATH=/usr/bin:/bin", "A=b=c", "EMPTY="], "Cmd": ["a", "b"], "Entrypoint": ["/bin/sh", "-c"],
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 30_000_000_000_i64, "StartInterval": 5, "Retries": 2},
        "ArgsEscaped": true, "Image": "sha256:0", "Volumes": {"/data": {}}, "WorkingDir": "/tmp",
        "OnBuild": ["RUN true"], "Shell": ["/bin/sh", "-ec"], "StopSignal": "SIGINT", "StopTimeout": 7,
        "Labels": {"a": "b", "": "x"}, "Something": {"new": [1, null]},
    });
    edit(&world, "out", |config| {
        config["config"] = wanted.clone();
        config["os.version"] = "1".into();
        config["docker_version"] = "20.10".into();
        config["container_config"] = json!({"Cmd": ["x"]});
        config["moby.buildkit.buildinfo.v1"] = "e30=".into();
    });
    for format in ["oci", "docker"] {
        let source = format!("  format = \"{format}\"\n  oci_layout = \"again-{format}\"\n");
        let step = "  provisioner \"shell\" { inline = [\"echo x > /x\"] }\n";
        world.write("b.pkr.hcl", &template("{ oci_layout = \"out\" }", &source, step));
        world.succeed(&["build", "b.pkr.hcl"]);
        let (manifest, config) = image_of(&world, &format!("again-{format}"));
        assert_eq!(config["config"], wanted, "{format}");
        assert_eq!((&config["os.version"], &config["moby.buildkit.buildinfo.v1"]), (&"1".into(), &"e30=".into()));
        assert_eq!(config["history"].as_array().unwrap().len(), 3);
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 3);
    }
}

/// The arguments that a docker source has too, on both.
#[test]
fn changes_are_what_the_engine_makes_of_them() {
    let Some(world) = world() else { return };
    let changes = [
        r#"ENV ONE=1 TWO="two words""#,
        "ENV OLD style value",
        "ENV ONE=again",
        "LABEL a=b \"c d\"='e f'",
        "EXPOSE 80 443/tcp 53/udp",
        "EXPOSE 9000-9002",
        "VOLUME /data /more",
        r#"VOLUME ["/json dir"]"#,
        "USER 1000:1000",
        "WORKDIR /srv",
        "WORKDIR below",
        "STOPSIGNAL SIGQUIT",
        r#"ENTRYPOINT ["/bin/entry", "x"]"#,
        "CMD echo $HOME",
        "HEALTHCHECK --interval=5s --timeout=3s --retries=4 CMD test -e /x",
        "ONBUILD RUN echo on",
        "ONBUILD ENV X=y",
    ];
    let lists: [&[&str]; 4] = [
        &changes,
        &["CMD [\"a\"]", "ENTRYPOINT sh -c x", "HEALTHCHECK NONE", "WORKDIR /a/../b/", "USER app"],
        &["ENTRYPOINT []", "CMD []", "ENV A=$PATH:/x"],
        &["CMD [\"only\"]"],
    ];
    for (number, list) in lists.into_iter().enumerate() {
        let quoted: Vec<String> = list.iter().map(|line| json!(line).to_string().replace("${", "$${")).collect();
        let common = format!("  changes = [{}]\n  pull = false\n", quoted.join(", "));
        let tag = format!("kiln-test/changes:{number}");
        let _removed = Removed(vec![tag.clone()]);
        world.write(
            "a.pkr.hcl",
            &format!(
                "source \"docker\" \"d\" {{\n  image = \"debian:bookworm\"\n  commit = true\n{common}}}\n\
                 source \"oci\" \"o\" {{\n  from = {{ docker_daemon = \"debian:bookworm\" }}\n  oci_layout = \"out\"\n\
                 {}}}\nbuild {{\n  sources = [\"docker.d\", \"oci.o\"]\n  post-processor \"docker-tag\" {{\n    \
                 only = [\"docker.d\"]\n    repository = \"kiln-test/changes\"\n    tags = [\"{number}\"]\n  }}\n}}\n",
                common.replace("  pull = false\n", "")
            ),
        );
        world.succeed(&["build", "a.pkr.hcl"]);
        let engine = saved_config(&world, &tag);
        let (_, own) = image_of(&world, "out");
        assert_eq!(essential(&own["config"]), essential(&engine["config"]), "{list:?}");
        program(&world, "rm", &["-rf", "out"]);
    }
}

/// An image's config as the engine writes it.
fn saved_config(world: &World, image: &str) -> Json {
    program(world, "docker", &["save", "-o", "saved.tar", image]);
    let read = |name: &str| -> Json {
        let output = Command::new("tar").args(["-xOf", "saved.tar", name]).current_dir(world.path()).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    };
    read(read("manifest.json")[0]["Config"].as_str().unwrap())
}

/// What a container is started by; not what only committing leaves, nor kiln's labels.
fn essential(config: &Json) -> Json {
    let mut config = config.clone();
    let fields = config.as_object_mut().unwrap();
    for left in [
        "Hostname",
        "Domainname",
        "Image",
        "AttachStdin",
        "AttachStdout",
        "AttachStderr",
        "Tty",
        "OpenStdin",
        "StdinOnce",
    ] {
        fields.remove(left);
    }
    if let Some(labels) = fields.get_mut("Labels").and_then(Json::as_object_mut) {
        labels.retain(|name, _| !name.starts_with("kiln.") && name != "org.opencontainers.image.revision");
    }
    fields.retain(|_, value| {
        let is_empty =
            value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(|map| map.is_empty());
        !(value.is_null() || is_empty || *value == json!("") || *value == json!(false))
    });
    config
}
