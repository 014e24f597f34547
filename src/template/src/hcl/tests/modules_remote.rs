//! Modules from git repositories.

use std::path::Path;

use super::extensions_ambient::{git, has_git};
use super::*;

/// A repository with a module in `images/worker`, which uses one beside it; and its address.
fn repository() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let worker = "module \"common\" { source = \"../common\" }\nlocals { text = file(\"name.txt\") }\nsource \"docker\" \"app\" { image = local.text }\nbuild { sources = [\"docker.app\"] }\noutput \"name\" { value = local.text }\n";
    write("images/worker/worker.pkr.hcl", worker);
    write("images/worker/name.txt", "first");
    write(
        "images/common/common.pkr.hcl",
        "source \"docker\" \"c\" { image = git.tag }\nbuild { sources = [\"docker.c\"] }\n",
    );
    write("out/out.pkr.hcl", "module \"x\" { source = \"../../elsewhere\" }\n");
    std::os::unix::fs::symlink("/", directory.path().join("link")).unwrap();
    git(directory.path(), &["init", "--quiet", "--initial-branch=main"]);
    git(directory.path(), &["add", "."]);
    git(directory.path(), &["commit", "--quiet", "--message=first"]);
    git(directory.path(), &["tag", "--annotate", "v1", "--message=v1"]);
    let url = format!("file://{}", directory.path().display());
    (directory, url)
}

fn using(source: &str, cache: &Path) -> Fixture {
    let mut fixture = Fixture::file(&format!(
        "module \"worker\" {{ source = \"git::{source}\" }}\nsource \"docker\" \"x\" {{ image = module.worker.name }}\nbuild {{ sources = [\"docker.x\"] }}\n"
    ));
    fixture.options.modules_dir = Some(cache.join("modules"));
    fixture.env("PATH", &std::env::var("PATH").unwrap())
}

/// The image of the template's own source.
fn image(fixture: &Fixture) -> String {
    let loaded = fixture.load();
    body(&loaded, &plan(&loaded).builds[0].source, &Facts::default())
}

#[test]
fn a_commit_is_fetched_once_and_a_branch_is_asked_for_each_time() {
    if !has_git() {
        return;
    }
    let (origin, url) = repository();
    let cache = tempfile::tempdir().unwrap();
    let commit = git(origin.path(), &["rev-parse", "HEAD"]);
    let tagged = using(&format!("{url}//images/worker?ref=v1"), cache.path());
    let names: Vec<String> = plan(&tagged.load()).builds.iter().map(|spec| spec.name.to_string()).collect();
    assert_eq!(names, ["docker.x", "module.worker.docker.app", "module.worker.module.common.docker.c"]);
    assert!(image(&tagged).contains("\"first\""));

    std::fs::write(origin.path().join("images/worker/name.txt"), "second").unwrap();
    git(origin.path(), &["commit", "--quiet", "--all", "--message=second"]);
    let branch = using(&format!("{url}//images/worker?ref=main"), cache.path());
    assert!(image(&branch).contains("\"second\""));
    assert!(image(&tagged).contains("\"first\""), "a tag stays what it is");

    // Without the repository: what is named by its commit is here.
    let moved = tempfile::tempdir().unwrap();
    std::fs::rename(origin.path(), moved.path().join("away")).unwrap();
    let pinned = using(&format!("{url}//images/worker?ref={commit}"), cache.path());
    assert!(image(&pinned).contains("\"first\""));
    let gone = branch.report();
    assert!(gone.contains("`git ls-remote` of file://") && gone.contains("t.pkr.hcl:1:"), "{gone}");
    let left: Vec<_> = walk(&cache.path().join("modules"));
    assert!(left.iter().all(|name| !name.starts_with(".new-")), "{left:?}");
}

/// Names two levels below.
fn walk(directory: &Path) -> Vec<String> {
    let below = |path: &Path| std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap()).collect::<Vec<_>>();
    let all = below(directory).into_iter().flat_map(|entry| below(&entry.path()));
    all.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn what_cannot_be_had_is_told_at_its_place() {
    if !has_git() {
        return;
    }
    let (_origin, url) = repository();
    let cache = tempfile::tempdir().unwrap();
    let told = |source: &str| {
        let report =
            using(source, cache.path()).report().replace(&url, "URL").replace(&url["file://".len()..], "ORIGIN");
        report.replace(&cache.path().canonicalize().unwrap().display().to_string(), "CACHE")
    };
    let all = [
        "URL//images/worker",
        "URL//images/../..?ref=v1",
        "URL//images/nothing?ref=v1",
        "URL//link?ref=v1",
        "URL//images/worker?ref=v9",
        "URL//images/worker?ref=0123456789012345678901234567890123456789",
        "URL/nowhere?ref=v1",
    ];
    let reports: Vec<String> = all.iter().map(|source| told(&source.replace("URL", &url))).collect();
    let commit = without_commits(&told_alone(&reports));
    insta::assert_snapshot!("modules_that_cannot_be_had", commit);
    let out = told(&format!("{url}//out?ref=v1"));
    assert!(out.contains("there is no directory") || out.contains("lies outside of the repository"), "{out}");
    let mut without = using(&format!("{url}?ref=v1"), cache.path());
    without.options.modules_dir = None;
    assert!(without.report().contains("there is no place to keep modules from git in"));
}

/// What is said, without the lines of the text, which hold the repository's place.
fn told_alone(reports: &[String]) -> String {
    let is_said = |line: &&str| line.starts_with("error") || line.trim_start().starts_with('=');
    reports.iter().flat_map(|report| report.lines().filter(is_said)).map(|line| format!("{line}\n")).collect()
}

/// The commit differs from run to run, as the author's name may.
fn without_commits(text: &str) -> String {
    let mut shown = String::new();
    for word in text.split_inclusive(' ') {
        let bare = word.trim();
        let is_commit = bare.len() == 12 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
        shown.push_str(if is_commit { "COMMIT " } else { word });
    }
    shown
}
