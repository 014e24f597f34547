use super::*;

use std::path::Path;

fn sources(files: &[&Path], environment: &[(&str, &str)]) -> CredentialSources {
    CredentialSources {
        files: files.iter().map(|path| path.to_path_buf()).collect(),
        environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..CredentialSources::default()
    }
}

fn config(directory: &Path, text: &str) {
    std::fs::write(directory.join("config.json"), text).unwrap();
}

/// Writes a helper through another process: a file that this process has open for writing cannot be run by a thread that
/// forks at the same moment.
pub(crate) fn write_helper(directory: &Path, name: &str, script: &str) {
    let path = directory.join(program_name(name));
    let status = std::process::Command::new("/bin/sh")
        .arg("-c")
        .arg("printf '#!/bin/sh\\n%s\\n' \"$2\" > \"$1\" && chmod 755 \"$1\"")
        .args([std::ffi::OsStr::new("sh"), path.as_os_str(), std::ffi::OsStr::new(script)])
        .status()
        .unwrap();
    assert!(status.success());
}

fn program_name(name: &str) -> String {
    format!("docker-credential-{name}")
}

fn path_with(directory: &Path) -> String {
    format!("{}:/usr/bin:/bin", directory.display())
}

async fn user(sources: &CredentialSources, registry: &str) -> Option<(String, String)> {
    let found = sources.find(registry).await.unwrap()?;
    Some((found.credentials.username, found.credentials.password.expose().to_owned()))
}

fn pair(user: &str, password: &str) -> Option<(String, String)> {
    Some((user.to_owned(), password.to_owned()))
}

// echo -n a:secret | base64; b, hub and deep likewise.
const AUTHS: &str = r#"{"auths": {
    "registry.example.org": {"auth": "YTpzZWNyZXQ="},
    "registry.example.org/group": {"auth": "YjpzZWNyZXQ"},
    "https://index.docker.io/v1/": {"auth": "aHViOnNlY3JldA=="},
    "http://old.example.org:5000/v2/": {"username": "old", "password": "p:w"},
    "empty.example.org": {},
    "token.example.org": {"auth": "", "identitytoken": "refresh"}
}}"#;

#[tokio::test]
async fn reads_every_form_of_key_in_auths() {
    let directory = tempfile::tempdir().unwrap();
    config(directory.path(), AUTHS);
    let sources = sources(&[directory.path()], &[]);
    assert_eq!(user(&sources, "registry.example.org").await, pair("a", "secret"));
    assert_eq!(user(&sources, "registry.example.org/other/image").await, pair("a", "secret"));
    assert_eq!(user(&sources, "registry.example.org/group/image").await, pair("b", "secret"));
    assert_eq!(user(&sources, "registry.example.org/groups/image").await, pair("a", "secret"));
    assert_eq!(user(&sources, "docker.io").await, pair("hub", "secret"));
    assert_eq!(user(&sources, "docker.io/library/debian").await, pair("hub", "secret"));
    assert_eq!(user(&sources, "old.example.org:5000").await, pair("old", "p:w"));
    assert_eq!(user(&sources, "old.example.org").await, None);
    assert_eq!(user(&sources, "empty.example.org").await, None);
    let found = sources.find("token.example.org").await.unwrap().unwrap();
    assert_eq!(found.credentials.identity_token.unwrap().expose(), "refresh");
    assert_eq!(found.origin, Origin::File(directory.path().join("config.json")));
}

#[tokio::test]
async fn earlier_files_win_and_absent_ones_are_passed_over() {
    let docker = tempfile::tempdir().unwrap();
    let podman = tempfile::tempdir().unwrap();
    config(docker.path(), r#"{"auths": {"one.example.org": {"auth": "YTpzZWNyZXQ="}}}"#);
    let auth = podman.path().join("auth.json");
    std::fs::write(
        &auth,
        r#"{"auths": {"one.example.org": {"auth": "YjpzZWNyZXQ="}, "two.example.org": {"auth": "YjpzZWNyZXQ="}}}"#,
    )
    .unwrap();
    let absent = podman.path().join("absent/auth.json");
    let sources = sources(&[&absent, docker.path(), &auth], &[]);
    assert_eq!(user(&sources, "one.example.org").await, pair("a", "secret"));
    assert_eq!(user(&sources, "two.example.org").await, pair("b", "secret"));
}

#[tokio::test]
async fn a_helper_for_the_registry_is_asked_first_and_the_one_for_all_last() {
    let directory = tempfile::tempdir().unwrap();
    config(
        directory.path(),
        r#"{"auths": {"one.example.org": {"auth": "YTpzZWNyZXQ="}, "two.example.org": {"auth": "YTpzZWNyZXQ="}},
            "credHelpers": {"one.example.org": "one"}, "credsStore": "all"}"#,
    );
    // Answers with what it was asked and given, so that the test sees both.
    let answer = |user: &str| {
        format!(
            r#"test "$1" = get && server=$(cat) && printf '{{"ServerURL":"%s","Username":"{user}","Secret":"%s"}}' "$server" "$server,$KEY""#
        )
    };
    write_helper(directory.path(), "one", &answer("from-one"));
    write_helper(directory.path(), "all", &answer("from-all"));
    let path = path_with(directory.path());
    let sources = sources(&[directory.path()], &[("PATH", &path), ("KEY", "given")]);
    assert_eq!(user(&sources, "one.example.org").await, pair("from-one", "one.example.org,given"));
    assert_eq!(user(&sources, "two.example.org").await, pair("a", "secret"));
    assert_eq!(user(&sources, "docker.io").await, pair("from-all", "https://index.docker.io/v1/,given"));
    let found = sources.find("docker.io").await.unwrap().unwrap();
    assert!(found.origin.to_string().starts_with("docker-credential-all (named in /"), "{}", found.origin);
}

#[tokio::test]
async fn a_helper_may_give_an_identity_token_or_nothing() {
    let directory = tempfile::tempdir().unwrap();
    config(directory.path(), r#"{"credHelpers": {"token.example.org": "token", "none.example.org": "none"}}"#);
    write_helper(directory.path(), "token", r#"printf '{"Username":"<token>","Secret":"refresh"}'"#);
    write_helper(directory.path(), "none", "echo credentials not found in native keychain; exit 1");
    let path = path_with(directory.path());
    let sources = sources(&[directory.path()], &[("PATH", &path)]);
    let found = sources.find("token.example.org").await.unwrap().unwrap().credentials;
    assert_eq!((found.username.as_str(), found.identity_token.unwrap().expose()), ("", "refresh"));
    assert_eq!(sources.find("none.example.org").await.unwrap(), None);
}

#[tokio::test]
async fn a_helper_that_fails_or_is_absent_is_named() {
    let directory = tempfile::tempdir().unwrap();
    config(
        directory.path(),
        r#"{"credHelpers": {"a.example.org": "fails", "b.example.org": "absent", "c.example.org": "../x",
            "d.example.org": "silent", "e.example.org": "garbles"}}"#,
    );
    write_helper(directory.path(), "fails", "echo 'pass: store is locked' >&2; exit 2");
    write_helper(directory.path(), "silent", "exit 3");
    write_helper(directory.path(), "garbles", "echo hunter2");
    let path = path_with(directory.path());
    let sources = sources(&[directory.path()], &[("PATH", &path)]);
    for (registry, words) in [
        ("a.example.org", "docker-credential-fails failed for a.example.org: pass: store is locked"),
        ("b.example.org", "docker-credential-absent for b.example.org, which is in no directory of PATH"),
        ("c.example.org", "`credHelpers.\"c.example.org\"` is not the name of a credential helper"),
        ("d.example.org", "exit status: 3"),
        ("e.example.org", "its answer is not JSON"),
    ] {
        let error = sources.find(registry).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn gitlab_variables_hold_for_their_registry_alone() {
    let environment = [
        ("CI_REGISTRY", "registry.gitlab.com:443"),
        ("CI_REGISTRY_USER", "gitlab-ci-token"),
        ("CI_REGISTRY_PASSWORD", "job"),
        ("CI_DEPLOY_USER", "deployer"),
        ("CI_DEPLOY_PASSWORD", "deploy"),
        ("CI_JOB_TOKEN", "token"),
    ];
    let without = |names: &[&str]| {
        let left: Vec<_> = environment.iter().copied().filter(|(name, _)| !names.contains(name)).collect();
        sources(&[], &left)
    };
    let all = without(&[]);
    assert_eq!(user(&all, "registry.gitlab.com").await, pair("gitlab-ci-token", "job"));
    assert_eq!(user(&all, "registry.gitlab.com/group/project").await, pair("gitlab-ci-token", "job"));
    assert_eq!(user(&all, "docker.io").await, None);
    assert_eq!(user(&all, "registry.gitlab.com:5050").await, None);
    assert_eq!(all.find("registry.gitlab.com").await.unwrap().unwrap().origin.to_string(), "CI_REGISTRY_USER");

    let token = without(&["CI_REGISTRY_PASSWORD"]);
    assert_eq!(user(&token, "registry.gitlab.com").await, pair("gitlab-ci-token", "token"));
    assert_eq!(token.find("registry.gitlab.com").await.unwrap().unwrap().origin.to_string(), "CI_JOB_TOKEN");

    let deploy = without(&["CI_REGISTRY_PASSWORD", "CI_JOB_TOKEN"]);
    assert_eq!(user(&deploy, "registry.gitlab.com").await, pair("deployer", "deploy"));
    assert_eq!(user(&without(&["CI_REGISTRY"]), "registry.gitlab.com").await, None);
}

#[tokio::test]
async fn files_come_before_gitlab_and_the_variable_with_a_configuration_before_files() {
    let directory = tempfile::tempdir().unwrap();
    config(directory.path(), r#"{"auths": {"registry.gitlab.com": {"auth": "YTpzZWNyZXQ="}}}"#);
    let gitlab = [("CI_REGISTRY", "registry.gitlab.com"), ("CI_REGISTRY_USER", "u"), ("CI_REGISTRY_PASSWORD", "p")];
    assert_eq!(user(&sources(&[directory.path()], &gitlab), "registry.gitlab.com").await, pair("a", "secret"));
    let text = r#"{"auths": {"registry.gitlab.com": {"auth": "YjpzZWNyZXQ="}}}"#;
    let all = [gitlab.as_slice(), &[("DOCKER_AUTH_CONFIG", text)]].concat();
    assert_eq!(user(&sources(&[directory.path()], &all), "registry.gitlab.com").await, pair("b", "secret"));
}

#[tokio::test]
async fn errors_name_file_and_place_and_never_what_stands_there() {
    let directory = tempfile::tempdir().unwrap();
    for (text, words) in [
        ("{\n  \"auths\": hunter2}", "config.json is not JSON: line 2, column 12"),
        (r#"{"auths": "hunter2"}"#, "`auths` is no object"),
        (r#"{"auths": {"r.example.org": "hunter2"}}"#, "`auths.\"r.example.org\"` is no object"),
        (r#"{"auths": {"r.example.org": {"auth": "hunter2!"}}}"#, "`auths.\"r.example.org\".auth` is not base64"),
        // base64 of `hunter2` without a colon.
        (r#"{"auths": {"r.example.org": {"auth": "aHVudGVyMg=="}}}"#, "does not encode `user:password`"),
        (r#"{"auths": {"r.example.org": {"password": ["hunter2"]}}}"#, "`auths.\"r.example.org\".password` is no text"),
        (r#"["hunter2"]"#, "`the whole text` is no object"),
    ] {
        config(directory.path(), text);
        let error = sources(&[directory.path()], &[]).find("r.example.org").await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(words) || error.to_string().contains(words), "{error}");
        assert!(error.to_string().contains(&directory.path().display().to_string()), "{error}");
        assert!(!shown.contains("hunter2") && !shown.contains("aHVudGVyMg"), "{shown}");
    }
    config(directory.path(), "");
    assert_eq!(sources(&[directory.path()], &[]).find("r.example.org").await.unwrap(), None);
}

#[test]
fn the_usual_places_follow_the_environment() {
    let home = Path::new("/home/a");
    let usual = CredentialSources::usual(BTreeMap::new(), Some(home));
    assert_eq!(usual.files, [Path::new("/home/a/.docker"), Path::new("/home/a/.config/containers/auth.json")]);
    let environment = [("REGISTRY_AUTH_FILE", "/r.json"), ("DOCKER_CONFIG", "/d"), ("XDG_RUNTIME_DIR", "/run/user/1")];
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let usual = CredentialSources::usual(environment, None);
    assert_eq!(usual.files, ["/r.json", "/d", "/run/user/1/containers/auth.json"].map(PathBuf::from));
}
