use std::path::Path;
use std::time::Duration;

use kiln_docker::EngineError;
use kiln_docker::fake::{FakeEngine, PUSHED_DIGEST};
use kiln_registry::EcrRegistry;
use kiln_testkit::Arguments as TestArguments;
use serde_json::{Value, json};

use super::*;
use crate::test_support::{Bench, files_artifact, image_artifact, provider, refused, titles_of};

fn kind(engine: &Arc<FakeEngine>, sources: CredentialSources) -> DockerPushKind {
    DockerPushKind { engine: provider(engine), credentials: sources }
}

/// A post-processor that waits hardly at all before it tries again.
pub(super) fn quick(kind: &DockerPushKind, arguments: TestArguments) -> DockerPush {
    let (decoded, mut diagnostics) = arguments.decode(&SCHEMA);
    let push = kind.prepare_push(&decoded, &kiln_testkit::prepare_context(), &mut diagnostics).unwrap();
    assert!(!diagnostics.has_errors(), "{diagnostics:?}");
    DockerPush { backoff: Backoff { retries: 3, first: Duration::from_millis(1) }, ..push }
}

fn push(engine: &Arc<FakeEngine>, sources: CredentialSources, arguments: Value) -> DockerPush {
    quick(&kind(engine, sources), TestArguments::new(arguments))
}

fn gitlab() -> CredentialSources {
    let environment = [
        ("CI_REGISTRY", "registry.gitlab.com"),
        ("CI_REGISTRY_USER", "gitlab-ci-token"),
        ("CI_REGISTRY_PASSWORD", "job-token-secret"),
    ];
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    CredentialSources { environment, ..CredentialSources::default() }
}

fn nothing() -> CredentialSources {
    CredentialSources::default()
}

fn engine_with(names: &[&str]) -> (Arc<FakeEngine>, kiln_core::Artifact) {
    let engine = Arc::new(FakeEngine::new());
    let id = engine.add_image_with(
        names[0],
        kiln_docker::ImageInfo {
            tags: names[1..].iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        },
    );
    (engine, image_artifact(&id, names))
}

#[tokio::test]
async fn each_name_is_pushed_once_in_order_and_the_digest_is_told() {
    let bench = Bench::new();
    let (engine, artifact) = engine_with(&["r.example.org/a:2", "r.example.org/a:1", "r.example.org/a:2"]);
    let push = push(&engine, nothing(), json!({ "platform": "linux/arm64" }));
    let processed = push.process(&artifact, &bench.context).await.unwrap();
    assert_eq!(engine.calls(), ["push r.example.org/a:2 for linux/arm64", "push r.example.org/a:1 for linux/arm64"]);
    assert_eq!((processed.keep_input, processed.force_keep), (true, false));
    assert_eq!(processed.artifact.image().unwrap().digest.as_deref(), Some(PUSHED_DIGEST));
    assert_eq!(processed.artifact.image().unwrap().tags, artifact.image().unwrap().tags);
    let digest = format!("r.example.org/a:1: digest: {PUSHED_DIGEST}");
    assert!(bench.context.reporter.messages().contains(&digest));
    let json = bench.context.reporter.as_json();
    assert!(json.contains(r#""event":"progress","item":"0a1b2c3d4e5f","action":"pushed""#), "{json}");
}

#[tokio::test]
async fn the_blocks_login_is_used_at_its_own_registry_alone() {
    let bench = Bench::new();
    let (engine, artifact) = engine_with(&["registry.gitlab.com/g/a:1", "r.example.org/a:1"]);
    let arguments = json!({ "login": true, "login_server": "https://r.example.org/", "login_username": "me", "login_password": "hunter22" });
    push(&engine, gitlab(), arguments).process(&artifact, &bench.context).await.unwrap();
    assert_eq!(engine.calls(), ["push registry.gitlab.com/g/a:1 as gitlab-ci-token", "push r.example.org/a:1 as me"]);
    let messages = bench.context.reporter.messages();
    assert!(messages.contains(&"logging in to registry.gitlab.com with CI_REGISTRY_USER".to_owned()), "{messages:?}");
    assert!(messages.contains(&"logging in to r.example.org as me".to_owned()), "{messages:?}");
    let json = bench.context.reporter.as_json();
    assert!(!json.contains("hunter22") && !json.contains("job-token-secret"), "{json}");
    // What is found is a secret from then on, whoever prints it.
    assert_eq!(bench.context.redactor.redact("hunter22 job-token-secret"), "<sensitive> <sensitive>");
}

#[tokio::test]
async fn a_login_without_a_server_is_for_the_one_registry_that_there_is() {
    let arguments = json!({ "login": true, "login_username": "me", "login_password": "hunter22" });
    for (names, calls) in [
        (["r.example.org/a:1", "r.example.org/b:1"], ["push r.example.org/a:1 as me", "push r.example.org/b:1 as me"]),
        (["r.example.org/a:1", "docker.io/g/b:1"], ["push r.example.org/a:1", "push docker.io/g/b:1 as me"]),
    ] {
        let bench = Bench::new();
        let (engine, artifact) = engine_with(&names);
        push(&engine, nothing(), arguments.clone()).process(&artifact, &bench.context).await.unwrap();
        assert_eq!(engine.calls(), calls);
    }
}

#[tokio::test]
async fn dockers_configuration_is_found_for_the_registry() {
    use base64::Engine as _;
    let bench = Bench::new();
    let auth = base64::engine::general_purpose::STANDARD.encode("file-user:secret");
    let config = json!({ "auths": { "r.example.org": { "auth": auth } } });
    bench.write("config.json", config.to_string());
    let sources = CredentialSources { files: vec![bench.path("")], ..CredentialSources::default() };
    let (engine, artifact) = engine_with(&["r.example.org/a:1", "other.example.org/a:1"]);
    push(&engine, sources, json!({})).process(&artifact, &bench.context).await.unwrap();
    assert_eq!(engine.calls(), ["push r.example.org/a:1 as file-user", "push other.example.org/a:1"]);
    let messages = bench.context.reporter.messages();
    assert!(messages.contains(&"no login found for other.example.org; going on without".to_owned()), "{messages:?}");
}

/// AWS, as far as it gives passwords.
struct FakeAws;

#[async_trait]
impl kiln_registry::EcrLogins for FakeAws {
    async fn login(&self, registry: &EcrRegistry, options: &EcrOptions) -> Result<Credentials, Failure> {
        assert_eq!(
            (registry, options.aws_profile.as_deref()),
            (&EcrRegistry::Private { region: "eu-west-1".into() }, Some("ci"))
        );
        Ok(Credentials { username: "AWS".into(), password: Secret::new("aws-password"), identity_token: None })
    }
}

#[tokio::test]
async fn amazons_registry_is_logged_in_to_with_what_aws_gives() {
    let bench = Bench::new();
    let ecr = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a:1";
    let (engine, artifact) = engine_with(&[ecr, "registry.gitlab.com/g/a:1"]);
    let sources = CredentialSources { amazon: kiln_registry::Amazon::new(Arc::new(FakeAws)), ..gitlab() };
    let arguments =
        json!({ "ecr_login": true, "aws_profile": "ci", "login": true, "login_username": "me", "login_password": "x" });
    push(&engine, sources, arguments).process(&artifact, &bench.context).await.unwrap();
    let calls = [format!("push {ecr} as AWS"), "push registry.gitlab.com/g/a:1 as gitlab-ci-token".to_owned()];
    assert_eq!(engine.calls(), calls);
    let message = "logging in to 123456789012.dkr.ecr.eu-west-1.amazonaws.com with AWS".to_owned();
    assert!(bench.context.reporter.messages().contains(&message));
    assert_eq!(bench.context.redactor.redact("aws-password"), "<sensitive>");
}

#[test]
fn a_login_server_that_is_not_amazons_is_told() {
    let aws = CredentialSources { amazon: kiln_registry::Amazon::new(Arc::new(FakeAws)), ..nothing() };
    let kind = kind(&Arc::new(FakeEngine::new()), aws);
    let titles = |server: &str, forced: bool| {
        titles_of(&kind, json!({ "ecr_login": true, "login_server": server, "aws_force_use_public_ecr": forced }))
    };
    assert!(titles("https://123456789012.dkr.ecr.us-east-1.amazonaws.com/", false).is_empty());
    assert_eq!(titles("r.example.org", false), ["`ecr_login` is set, and `r.example.org` is no registry of Amazon's"]);
    assert!(titles("r.example.org", true).is_empty());
    let half = json!({ "ecr_login": true, "aws_access_key": "a" });
    assert_eq!(titles_of(&kind, half), ["`aws_access_key` is set and `aws_secret_key` is not; keys go together"]);
}

#[tokio::test]
async fn a_broken_configuration_is_told_before_anything_is_pushed() {
    let bench = Bench::new();
    bench.write("config.json", "{hunter22");
    let sources = CredentialSources { files: vec![bench.path("config.json")], ..CredentialSources::default() };
    let (engine, artifact) = engine_with(&["r.example.org/a:1"]);
    let failure = push(&engine, sources, json!({})).process(&artifact, &bench.context).await.err().unwrap();
    assert_eq!(failure.class, kiln_core::FailureClass::Environment);
    assert!(failure.chain().contains("config.json is not JSON"), "{}", failure.chain());
    assert!(!failure.chain().contains("hunter22"));
    assert!(engine.calls().is_empty());
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_does_not_pass_is_told() {
    let bench = Bench::new();
    let (engine, artifact) = engine_with(&["r.example.org/a:1"]);
    let unavailable = || refused("received unexpected HTTP status: 503 Service Unavailable");
    engine.fail_next("push", unavailable());
    engine.fail_next("push", EngineError::Connection { action: "push".into(), source: "reset".into() });
    let push = push(&engine, nothing(), json!({}));
    push.process(&artifact, &bench.context).await.unwrap();
    assert_eq!(engine.calls().len(), 3);
    assert!(bench.warnings()[0].contains("503 Service Unavailable; trying again in "), "{:?}", bench.warnings());

    for _ in 0..4 {
        engine.fail_next("push", unavailable());
    }
    let failure = push.process(&artifact, &bench.context).await.err().unwrap();
    assert_eq!(engine.calls().len(), 7);
    assert_eq!(failure.to_string(), "cannot push r.example.org/a:1 after 4 tries");
    assert!(failure.chain().contains("503"), "{}", failure.chain());
}

#[tokio::test]
async fn a_refusal_is_final_and_says_what_usually_lies_behind() {
    let denied = "denied: requested access to the resource is denied";
    for (name, sources, arguments, hint) in [
        ("registry.gitlab.com/g/a:1", gitlab(), json!({}), "only to the registry of its own project"),
        ("r.example.org/a:1", nothing(), json!({}), "run `docker login r.example.org`"),
        ("a:1", nothing(), json!({}), "it goes to Docker Hub"),
        (
            "r.example.org/a:1",
            nothing(),
            json!({ "login": true, "login_server": "docker.io", "login_username": "me", "login_password": "x" }),
            "set `login_server = \"r.example.org\"`",
        ),
        (
            "r.example.org/a:1",
            nothing(),
            json!({ "login": true, "login_server": "r.example.org", "login_username": "me", "login_password": "x" }),
            "`login_username` and `login_password`",
        ),
    ] {
        let bench = Bench::new();
        let (engine, artifact) = engine_with(&[name]);
        engine.fail_next("push", refused(denied));
        let failure = push(&engine, sources, arguments).process(&artifact, &bench.context).await.err().unwrap();
        assert_eq!(engine.calls().len(), 1);
        assert!(failure.chain().contains(denied), "{}", failure.chain());
        assert!(failure.hints.iter().any(|line| line.contains(hint)), "{name}: {:?}", failure.hints);
    }
}

#[tokio::test]
async fn other_failures_have_hints_of_their_own() {
    for (message, hint) in [
        ("Get \"https://r/v2/\": http: server gave HTTP response to HTTPS client", "insecure-registries"),
        (
            "Get \"https://r/v2/\": x509: certificate signed by unknown authority",
            "/etc/docker/certs.d/r.example.org/ca.crt",
        ),
        ("dial tcp: lookup r.example.org: no such host", "the engine at fake://engine"),
    ] {
        let bench = Bench::new();
        let (engine, artifact) = engine_with(&["r.example.org/a:1"]);
        engine.fail_next("push", refused(message));
        let failure = push(&engine, nothing(), json!({})).process(&artifact, &bench.context).await.err().unwrap();
        assert!(failure.hints[0].contains(hint), "{message}: {:?}", failure.hints);
    }
}

#[tokio::test]
async fn waiting_ends_when_the_build_is_stopped() {
    let bench = Bench::new();
    let (engine, artifact) = engine_with(&["r.example.org/a:1"]);
    engine.fail_next("push", refused("connection refused"));
    let slow = Backoff { retries: 3, first: Duration::from_secs(3600) };
    let push = DockerPush { backoff: slow, ..push(&engine, nothing(), json!({})) };
    let cancel = bench.context.cancel.clone();
    let stop = async {
        while engine.calls().is_empty() {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (processed, ()) = tokio::join!(push.process(&artifact, &bench.context), stop);
    assert!(processed.err().unwrap().is_cancelled());
}

#[tokio::test]
async fn only_an_image_with_a_name_can_be_pushed() {
    let bench = Bench::new();
    let engine = Arc::new(FakeEngine::new());
    let push = push(&engine, nothing(), json!({}));
    let failure = push.process(&image_artifact("sha256:1", &[]), &bench.context).await.err().unwrap();
    assert!(failure.to_string().contains("has no name") && failure.hints[0].contains("docker-tag"), "{failure:?}");
    let failure = push.process(&files_artifact(&[Path::new("x")]), &bench.context).await.err().unwrap();
    assert!(failure.to_string().contains("docker-push takes a container image"), "{failure}");
}

#[test]
fn half_a_login_and_one_that_is_off_are_told() {
    let engine = Arc::new(FakeEngine::new());
    let titles = |arguments| titles_of(&kind(&engine, nothing()), arguments);
    assert_eq!(
        titles(json!({ "login": true, "login_username": "me", "login_password": "" })),
        ["`login_username` is set and `login_password` is empty; a login needs both"]
    );
    assert_eq!(
        titles(json!({ "login": true, "login_username": "me" })),
        ["`login_username` is set and `login_password` is not; a login needs both"]
    );
    assert_eq!(
        titles(json!({ "login_password": "hunter22" })),
        ["`login_password` has no effect without `login = true`"]
    );
    assert_eq!(titles(json!({ "ecr_login": true })), ["this kiln is built without AWS, which `ecr_login` asks"]);
    assert_eq!(titles(json!({ "aws_profile": "ci" })), ["`aws_profile` has no effect without `ecr_login = true`"]);
    assert!(titles(json!({ "login": true })).is_empty());
}

/// Where a template is only checked, the variables of the environment that it will be built in need not be there.
#[test]
fn half_a_login_is_a_warning_where_nothing_will_run() {
    let kind = kind(&Arc::new(FakeEngine::new()), nothing());
    let arguments = TestArguments::new(json!({ "login": true, "login_username": "me", "login_password": "" }));
    for will_run in [false, true] {
        let context = PrepareContext { will_run, ..kiln_testkit::prepare_context() };
        let (decoded, mut diagnostics) = arguments.decode(&SCHEMA);
        kind.prepare_push(&decoded, &context, &mut diagnostics).unwrap();
        assert_eq!((diagnostics.items.len(), diagnostics.has_errors()), (1, will_run));
    }
}
