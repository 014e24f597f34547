//! `git.*` in repositories that are not the usual one, and `require_clean`.

use std::path::Path;

use super::extensions_ambient::{ceiling, fixture, git, has_git, locals, repository};
use super::{Fixture, plan};

/// A template of another directory; its locals are the given expressions.
fn at(directory: &Path, expressions: &[&str]) -> Fixture {
    let mut there = fixture(expressions);
    let text = std::fs::read_to_string(there.options.working_dir.join("t.pkr.hcl")).unwrap();
    std::fs::write(directory.join("t.kiln.hcl"), text).unwrap();
    there.options.working_dir = directory.to_owned();
    there.options.template = "t.kiln.hcl".into();
    there
}

#[test]
fn an_empty_repository_has_a_branch_and_nothing_else() {
    if !has_git() {
        return;
    }
    let empty = |expression: &str| {
        let fixture = ceiling(fixture(&[expression]));
        git(&fixture.options.working_dir, &["init", "--quiet", "--initial-branch=main"]);
        fixture
    };
    assert_eq!(locals(&empty("git.branch")), ["\"main\""]);
    for name in ["commit", "short", "describe", "tag", "dirty"] {
        let told = empty(&format!("git.{name}")).report();
        assert!(told.contains(&format!("`git.{name}` cannot be told: the repository has no commit yet")), "{told}");
        assert!(told.contains("--> t.pkr.hcl:2:"), "its place: {told}");
    }
}

#[test]
fn a_commit_without_a_branch_makes_no_text_of_nothing() {
    if !has_git() {
        return;
    }
    let detached = |expression: &str| {
        let fixture = repository(&[expression]);
        git(&fixture.options.working_dir, &["checkout", "--quiet", "--detach"]);
        fixture
    };
    assert_eq!(locals(&detached("coalesce(git.branch_slug, git.tag, git.short) == git.short")), ["true"]);
    insta::assert_snapshot!("null_branch_in_a_text", detached("\"app:${git.branch}\"").report());
    insta::assert_snapshot!("null_branch_as_argument", detached("slug(git.branch)").report());
}

#[test]
fn a_clone_without_history_tells_what_it_has() {
    if !has_git() {
        return;
    }
    let origin = repository(&["1"]);
    let from = origin.options.working_dir.clone();
    git(&from, &["tag", "v1"]);
    std::fs::write(from.join("more"), "more").unwrap();
    git(&from, &["add", "."]);
    git(&from, &["commit", "--quiet", "--message=second"]);
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file://{}", from.display());
    git(directory.path(), &["clone", "--quiet", "--depth=1", &url, "shallow"]);
    let shallow = at(&directory.path().join("shallow"), &["git.describe == git.short", "git.tag == null", "git.url"]);
    assert_eq!(locals(&shallow), ["true", "true", &format!("\"{url}\"")]);
    let whole = at(&from, &["git.describe"]);
    assert!(locals(&whole)[0].starts_with("\"v1-1-g"), "{:?}", locals(&whole));
}

#[test]
fn a_linked_work_tree_and_a_submodule_tell_of_themselves() {
    if !has_git() {
        return;
    }
    let main = repository(&["1"]);
    let main = main.options.working_dir.clone();
    let directory = tempfile::tempdir().unwrap();
    let linked = directory.path().join("linked");
    git(&main, &["worktree", "add", "--quiet", "-b", "side", &linked.display().to_string()]);
    assert_eq!(locals(&at(&linked, &["git.branch", "git.dirty"])), ["\"side\"", "false"]);

    let around = repository(&["1"]);
    let around = around.options.working_dir.clone();
    let url = main.display().to_string();
    git(&around, &["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", &url, "inner"]);
    git(&around, &["commit", "--quiet", "--message=inner"]);
    let inner = at(&around.join("inner"), &["git.commit", "git.url"]);
    let commit = git(&main, &["rev-parse", "HEAD"]);
    assert_eq!(locals(&inner), [format!("\"{commit}\""), format!("\"{url}\"")]);
}

/// A committed repository whose build asks for a clean work tree.
fn strict(condition: &str) -> Fixture {
    let text = format!(
        "source \"docker\" \"x\" {{}}\nbuild {{\n  sources = [\"docker.x\"]\n  require_clean = {condition}\n}}\n"
    );
    let fixture = Fixture::file(&text);
    fixture.write(".gitignore", "ignored\n");
    let path = fixture.options.working_dir.clone();
    git(&path, &["init", "--quiet"]);
    git(&path, &["add", "."]);
    git(&path, &["commit", "--quiet", "--message=first"]);
    fixture
}

/// What speaks against the fixture's build.
fn unclean(fixture: &Fixture) -> Option<String> {
    plan(&fixture.load()).builds[0].unclean.clone().map(|unclean| unclean.why)
}

#[test]
fn a_build_may_ask_for_a_clean_work_tree() {
    if !has_git() {
        return;
    }
    let fixture = strict("true");
    assert_eq!(unclean(&fixture), None);
    fixture.write("ignored", "");
    assert_eq!(unclean(&fixture), None, "what git ignores does not count");
    fixture.write("a new one", "");
    assert_eq!(unclean(&fixture).as_deref(), Some("`a new one` is not tracked"));
    fixture.write(".gitignore", "ignored\n# more\n");
    ["b", "c", "d"].iter().for_each(|name| fixture.write(name, ""));
    let told = "`.gitignore` is changed, `a new one` is not tracked, `b` is not tracked, and 2 more";
    assert_eq!(unclean(&fixture).as_deref(), Some(told));
    let span = plan(&fixture.load()).builds[0].unclean.clone().unwrap().span;
    assert_eq!(fixture.load().sources.line_column(span), (4, 3));

    let free = strict("false");
    free.write("new", "");
    assert_eq!(unclean(&free), None);
    let extensions = plan(&free.load()).extensions.clone();
    assert_eq!(extensions[0].what, "`require_clean` of a `build`");
}

#[test]
fn what_git_cannot_tell_is_not_clean() {
    if !has_git() {
        return;
    }
    let without_program = strict("true").env("PATH", "/nowhere");
    assert_eq!(unclean(&without_program).as_deref(), Some("that cannot be told: there is no program `git`"));
    let fixture = ceiling(strict("true"));
    std::fs::remove_dir_all(fixture.options.working_dir.join(".git")).unwrap();
    assert!(unclean(&fixture).unwrap().ends_with("is not in a git repository"));
    git(&fixture.options.working_dir, &["init", "--quiet"]);
    assert_eq!(unclean(&fixture).as_deref(), Some("that cannot be told: the repository has no commit yet"));
}
