//! `git.*` and `host.*`.

use std::path::Path;
use std::process::Command;

use super::{Fixture, plan};
use crate::Host;

/// Whether `git` is there; a test that needs it is skipped otherwise, unless `KILN_TEST_REQUIRE=1`.
#[allow(clippy::print_stderr)]
pub(super) fn has_git() -> bool {
    let is_there = Command::new("git").arg("--version").output().is_ok();
    if !is_there {
        assert!(std::env::var("KILN_TEST_REQUIRE").as_deref() != Ok("1"), "there is no program `git`");
        eprintln!("SKIPPED: there is no program `git`");
    }
    is_there
}

pub(super) fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    let own = [("GIT_AUTHOR_DATE", "2023-11-14T00:00:00Z"), ("GIT_COMMITTER_DATE", "2023-11-14T00:00:00Z")];
    let output = command
        .args(["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"])
        .args(arguments)
        .current_dir(directory)
        .envs(own)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A template whose locals are the given expressions.
pub(super) fn fixture(expressions: &[&str]) -> Fixture {
    let locals: String = expressions.iter().enumerate().map(|(index, text)| format!("  x{index} = {text}\n")).collect();
    let text = format!(
        "locals {{\n{locals}}}\nsource \"docker\" \"x\" {{}}\nbuild {{\n  sources = [\"source.docker.x\"]\n}}\n"
    );
    Fixture::file(&text)
}

/// A repository with one commit around the template.
pub(super) fn repository(expressions: &[&str]) -> Fixture {
    let fixture = fixture(expressions);
    let path = fixture.options.working_dir.clone();
    git(&path, &["init", "--quiet", "--initial-branch=Feature/One_Two"]);
    git(&path, &["add", "."]);
    git(&path, &["commit", "--quiet", "--message=first"]);
    fixture
}

pub(super) fn locals(fixture: &Fixture) -> Vec<String> {
    plan(&fixture.load()).locals.iter().map(|local| local.value.clone()).collect()
}

/// So that git does not find a repository in which the temporary directory lies.
pub(super) fn ceiling(fixture: Fixture) -> Fixture {
    let above = fixture.options.working_dir.parent().unwrap().to_string_lossy().into_owned();
    fixture.env("GIT_CEILING_DIRECTORIES", &above)
}

#[test]
fn a_branch_is_told() {
    if !has_git() {
        return;
    }
    let fixture = repository(&["git.branch", "git.branch_slug", "git.commit", "git.short", "git.describe"]);
    let commit = git(&fixture.options.working_dir, &["rev-parse", "HEAD"]);
    let short = git(&fixture.options.working_dir, &["rev-parse", "--short", "HEAD"]);
    let expected = ["Feature/One_Two", "feature-one-two", &commit, &short, &short];
    assert_eq!(locals(&fixture), expected.map(|text| format!("\"{text}\"")));
}

#[test]
fn what_is_not_there_is_null() {
    if !has_git() {
        return;
    }
    let fixture = repository(&["git.tag == null", "git.url == null", "git.dirty", "keys(git)"]);
    let values = locals(&fixture);
    assert_eq!(values[..3], ["true", "true", "false"]);
    for name in ["branch", "branch_slug", "commit", "describe", "dirty", "short", "tag", "url"] {
        assert!(values[3].contains(&format!("\"{name}\"")), "{values:?}");
    }
}

#[test]
fn tags_changes_and_remotes_are_told() {
    if !has_git() {
        return;
    }
    let fixture = repository(&["git.tag", "git.describe", "git.dirty", "git.url"]);
    let path = fixture.options.working_dir.clone();
    git(&path, &["tag", "v1.9"]);
    git(&path, &["tag", "v1.10"]);
    git(&path, &["remote", "add", "upstream", "https://user:secret@git.example.org/a/b.git"]);
    // Not tracked, so it changes no commit.
    fixture.write("new", "file");
    assert_eq!(locals(&fixture)[0], "\"v1.10\"");
    assert!(locals(&fixture)[1].starts_with("\"v1."));
    assert_eq!(locals(&fixture)[2..], ["false", "\"https://git.example.org/a/b.git\""]);
    let text = std::fs::read_to_string(path.join("t.pkr.hcl")).unwrap();
    fixture.write("t.pkr.hcl", &format!("{text}# changed\n"));
    let values = locals(&fixture);
    assert!(values[1].ends_with("-dirty\""), "{values:?}");
    assert_eq!(values[2], "true");
}

#[test]
fn ci_names_the_branch_of_a_commit_that_is_checked_out() {
    if !has_git() {
        return;
    }
    let detached = || {
        let fixture = repository(&["git.branch", "git.tag"]);
        git(&fixture.options.working_dir, &["checkout", "--quiet", "--detach"]);
        fixture
    };
    assert_eq!(locals(&detached()), ["null", "null"]);
    assert_eq!(locals(&detached().env("CI_COMMIT_BRANCH", "main"))[0], "\"main\"");
    assert_eq!(locals(&detached().env("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "mend"))[0], "\"mend\"");
    let github = detached().env("GITHUB_REF_NAME", "12/merge").env("GITHUB_HEAD_REF", "mend");
    assert_eq!(locals(&github)[0], "\"mend\"");
    let github = detached().env("GITHUB_REF_NAME", "v2").env("GITHUB_REF_TYPE", "tag").env("GITHUB_HEAD_REF", "");
    assert_eq!(locals(&github), ["null", "\"v2\""]);
    assert_eq!(locals(&detached().env("CI_COMMIT_TAG", "v3")), ["null", "\"v3\""]);
    // What is checked out is known better than what CI says.
    assert_eq!(locals(&repository(&["git.branch"]).env("CI_COMMIT_BRANCH", "main"))[0], "\"Feature/One_Two\"");
}

#[test]
fn what_git_cannot_tell_is_told_where_it_is_asked_for() {
    if !has_git() {
        return;
    }
    let outside = ceiling(fixture(&["git.short"]));
    let directory = outside.options.working_dir.to_string_lossy().into_owned();
    insta::assert_snapshot!("no_repository", outside.report().replace(&directory, "DIRECTORY"));
    let whole = ceiling(fixture(&["keys(git)"])).report().replace(&directory, "DIRECTORY");
    assert!(whole.contains("`git` cannot be told"), "{whole}");
    assert_eq!(locals(&ceiling(fixture(&["try(git.short, \"none\")"]))), ["\"none\""]);
    insta::assert_snapshot!("unknown_git_fact", fixture(&["git.brnach", "gti.branch"]).report());
    let without_program = fixture(&["git.short"]).env("PATH", "/nowhere").report();
    assert!(without_program.contains("there is no program `git`"), "{without_program}");
}

#[test]
fn nobody_asks_git_for_nothing() {
    assert_eq!(locals(&fixture(&["1"]).env("PATH", "/nowhere")), ["1"]);
    // A name that is bound hides it.
    let bound = fixture(&["[for git in [\"x\"] : git][0]", "try(git.short, 0) == 0"]).env("PATH", "/nowhere");
    assert_eq!(locals(&bound), ["\"x\"", "true"]);
}

#[test]
fn the_host_is_told() {
    let mut fixture = fixture(&["\"${host.uid}:${host.gid}\"", "host.cpus", "host.os", "host.arch"]);
    fixture.options.host = Host { uid: 1000, gid: 100, cpus: 8 };
    let values = locals(&fixture);
    assert_eq!(values[..2], ["\"1000:100\"", "8"]);
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    assert_eq!(values[2..], ["\"linux\"", "\"amd64\""]);
}

#[test]
fn however_much_git_says_it_is_heard() {
    if !has_git() {
        return;
    }
    let fixture = fixture(&["git.dirty"]);
    let path = fixture.options.working_dir.clone();
    let files: Vec<_> = (0..1000).map(|index| path.join(format!("{index:0>100}"))).collect();
    files.iter().for_each(|file| std::fs::write(file, "").unwrap());
    git(&path, &["init", "--quiet"]);
    git(&path, &["add", "."]);
    git(&path, &["commit", "--quiet", "--message=first"]);
    files.iter().for_each(|file| std::fs::remove_file(file).unwrap());
    assert_eq!(locals(&fixture), ["true"]);
}

#[test]
fn the_origin_of_a_template_is_what_its_repository_tells() {
    if !has_git() {
        return;
    }
    let fixture = repository(&[]);
    let directory = fixture.options.working_dir.clone();
    let environment = std::env::vars().filter(|(name, _)| name == "PATH").collect::<std::collections::BTreeMap<_, _>>();
    let found = || crate::hcl::origin(&directory, &environment.clone().into());
    let revision = Some(git(&directory, &["rev-parse", "HEAD"]));
    assert_eq!(found(), kiln_core::Origin { revision: revision.clone(), ..Default::default() });
    git(&directory, &["remote", "add", "origin", "https://robot:glpat-1@example.org/a.git"]);
    git(&directory, &["tag", "v1.2.3"]);
    let source = Some("https://example.org/a.git".to_owned());
    assert_eq!(found(), kiln_core::Origin { revision, source, version: Some("v1.2.3".to_owned()) });
    assert_eq!(crate::hcl::origin(Path::new("/"), &environment.into()), kiln_core::Origin::default());
}
