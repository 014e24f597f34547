//! The table of faults: every request of every verb breaks in every way, once and for good. A verb's requests are learned from
//! a run in which nothing breaks, so that none is forgotten.

use futures_util::{StreamExt, stream};

use super::server::{Auth, Request, Rule, Server, answer};
use super::*;
use crate::Moves;

/// What is done, against registries that know tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Push,
    /// To a registry that wants its blobs by PATCH.
    PushByPatch,
    PushIndex,
    Mount,
    Pull,
    Resolve,
    Retag,
    Untag,
    /// Where tags cannot be deleted.
    UntagByStandIn,
    Tags,
    Copy,
}

const VERBS: [Verb; 11] = [
    Verb::Push,
    Verb::PushByPatch,
    Verb::PushIndex,
    Verb::Mount,
    Verb::Pull,
    Verb::Resolve,
    Verb::Retag,
    Verb::Untag,
    Verb::UntagByStandIn,
    Verb::Tags,
    Verb::Copy,
];

/// What happens to a request.
type Fault = (&'static str, fn() -> Rule);

const SHORT: usize = 300_000;
const AT_ONCE: usize = 64;

/// Rows of the table: what came of each of them with other clients is in no way obvious.
const FAULTS: [Fault; 10] = [
    ("500", || Rule::Say(answer(500))),
    ("502 with a page", || Rule::Say(answer(502).body("<html>bad gateway</html>"))),
    ("503", || Rule::Say(answer(503).body(r#"{"errors":[{"code":"UNAVAILABLE","message":"try later"}]}"#))),
    ("408", || Rule::Say(answer(408))),
    ("425", || Rule::Say(answer(425))),
    ("429 with a wait", || Rule::Say(answer(429).with("retry-after", "1"))),
    ("hang up", || Rule::CutRequest(0)),
    ("cut amid the body", || Rule::CutRequest(SHORT)),
    ("cut amid the answer", || Rule::CutAnswer(7)),
    ("lost answer", || Rule::Lose),
];

/// What is there before a verb runs; filled once, for filling takes longer than running.
struct Stage {
    from: Place,
    filled: Server,
    image: Digest,
    index: Digest,
}

impl Stage {
    async fn new() -> Stage {
        let (filled, from) = (Server::start(), place());
        let (image, index) = (from.image(&[&vec![1; 700_000]]), from.index(&["amd64", "arm64"]));
        for (digest, name) in [(&image, "old:1"), (&image, "old:2"), (&index, "old:many")] {
            push(&client(), &from, digest, &reference(&filled, name)).await.unwrap();
        }
        Stage { from, filled, image, index }
    }
}

/// A registry in which something is, and a client that has not asked it for anything yet.
struct Scene<'a> {
    verb: Verb,
    server: Server,
    stage: &'a Stage,
    to: Place,
}

impl Scene<'_> {
    fn new(verb: Verb, stage: &Stage) -> Scene<'_> {
        let server = Server::with_auth(Auth::Token);
        server.fill(&stage.filled);
        server.state().no_tag_delete = verb == Verb::UntagByStandIn;
        Scene { verb, server, stage, to: place() }
    }

    /// What breaks, and what the registry is like.
    fn rule(&self, mut breaks: impl FnMut(usize, &Request) -> Option<Rule> + Send + 'static) {
        let (verb, mut number) = (self.verb, 0);
        self.server.rule(move |request| {
            number += 1;
            if let Some(fault) = breaks(number - 1, request) {
                return fault;
            }
            let has_body = request.header("content-length").is_some_and(|length| length != "0");
            match verb == Verb::PushByPatch && has_body && request.is("PUT", "/blobs/uploads/") {
                true => Rule::Say(answer(405)),
                false => Rule::Pass,
            }
        });
    }

    async fn run(&self, options: ClientOptions) -> Result<(), RegistryError> {
        let explicit = vec![login(&self.server, "user", "password")];
        let client = Client::new(ClientOptions { explicit, ..options });
        let at = |name: &str| reference(&self.server, name);
        // One after the other: the requests are then the same in each run.
        let pushes = |mount_from| PushOptions { mount_from, jobs: 1 };
        let push = async |digest: &Digest, name: &str, mount_from| {
            let to = [at(name)];
            client.push(&self.stage.from.layout, digest, &to, &pushes(mount_from), no_progress()).await
        };
        match self.verb {
            Verb::Push | Verb::PushByPatch => {
                let pushed = push(&self.stage.image, "new:1", Vec::new()).await?;
                assert_eq!(pushed.blobs, Moves { moved: 2, mounted: 0, present: 0 });
            }
            Verb::PushIndex => {
                push(&self.stage.index, "new:1", Vec::new()).await?;
            }
            Verb::Mount => {
                push(&self.stage.image, "new:1", vec![at("old")]).await?;
            }
            Verb::Pull => {
                let options = PullOptions { jobs: 1, ..PullOptions::default() };
                let pulled = client.pull(&at("old:1"), &self.to.layout, &options, no_progress()).await?;
                assert_eq!(pulled.manifest, self.stage.image);
            }
            Verb::Resolve => assert_eq!(client.resolve(&at("old:many")).await?.digest, self.stage.index),
            Verb::Retag => assert_eq!(client.retag(&at("old:many"), &["new".to_owned()]).await?, self.stage.index),
            Verb::Untag | Verb::UntagByStandIn => client.untag(&at("old:1")).await?,
            Verb::Tags => assert_eq!(client.tags(&at("old")).await?, ["1", "2", "many"]),
            Verb::Copy => {
                let to = [at("new:1")];
                client.copy(&at("old:many"), &to, &pushes(Vec::new()), no_progress()).await?;
            }
        }
        Ok(())
    }

    /// What must be true after success.
    fn check(&self, what: &str) {
        let state = self.server.state();
        let has = |name: &str, tag: &str, digest: &Digest| {
            let found = state.manifests.get(&(name.to_owned(), tag.to_owned()));
            assert_eq!(found.map(|(_, bytes)| Digest::of(bytes)).as_ref(), Some(digest), "{what}: {name}:{tag}");
        };
        match self.verb {
            Verb::Push | Verb::PushByPatch | Verb::Mount => has("new", "1", &self.stage.image),
            Verb::PushIndex | Verb::Copy => has("new", "1", &self.stage.index),
            Verb::Retag => has("old", "new", &self.stage.index),
            Verb::Pull => assert!(self.to.layout.has(&Digest::of(&vec![1; 700_000])), "{what}"),
            Verb::Resolve | Verb::Tags | Verb::Untag | Verb::UntagByStandIn => {}
        }
        let is_gone = matches!(self.verb, Verb::Untag | Verb::UntagByStandIn);
        assert_eq!(state.manifests.contains_key(&("old".to_owned(), "1".to_owned())), !is_gone, "{what}");
        has("old", "2", &self.stage.image);
        has("old", "many", &self.stage.index);
        let mut stored = state.stored.clone();
        stored.sort();
        let all = stored.len();
        stored.dedup();
        assert_eq!(stored.len(), all, "{what}: something was pushed twice: {:?}", state.stored);
    }

    /// The requests of a run in which nothing breaks.
    async fn requests(verb: Verb, stage: &Stage) -> Vec<Request> {
        let scene = Scene::new(verb, stage);
        scene.rule(|_, _| None);
        scene.run(options(&Notes::default())).await.unwrap();
        scene.check("undisturbed");
        scene.server.state().log.clone()
    }
}

/// Whether a fault can happen to a request at all.
fn can_happen(what: &str, request: &Request) -> bool {
    match what {
        "cut amid the body" => request.body.len() > SHORT,
        "cut amid the answer" => request.method == "GET" && !request.path.ends_with("/v2/"),
        _ => true,
    }
}

#[tokio::test]
async fn every_request_may_break_once() {
    let stage = &Stage::new().await;
    let mut runs = Vec::new();
    for verb in VERBS {
        for (number, request) in Scene::requests(verb, stage).await.into_iter().enumerate() {
            for (what, fault) in FAULTS.into_iter().filter(|(what, _)| can_happen(what, &request)) {
                let what = format!("{verb:?}, {what} at {number}: {} {}", request.method, request.path);
                runs.push(async move {
                    let scene = Scene::new(verb, stage);
                    scene.rule(move |at, _| (at == number).then(fault));
                    if let Err(error) = scene.run(options(&Notes::default())).await {
                        panic!("{what}: {}", shown(error));
                    }
                    scene.check(&what);
                });
            }
        }
    }
    assert!(runs.len() > 400, "{}", runs.len());
    stream::iter(runs).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

/// A token that the registry does not know any more, at each request.
#[tokio::test]
async fn a_token_may_end_at_any_request() {
    let stage = &Stage::new().await;
    let mut runs = Vec::new();
    for verb in VERBS {
        let requests = Scene::requests(verb, stage).await;
        let is_token = |request: &Request| request.path.starts_with("/token");
        for (number, request) in requests.iter().enumerate().skip(1) {
            // A token that is refused as soon as it is there is a refusal.
            if is_token(request) || is_token(&requests[number - 1]) {
                continue;
            }
            let what = format!("{verb:?}, 401 at {number}: {} {}", request.method, request.path);
            runs.push(async move {
                let scene = Scene::new(verb, stage);
                scene.rule(move |at, _| (at == number).then(|| Rule::Say(answer(401))));
                if let Err(error) = scene.run(options(&Notes::default())).await {
                    panic!("{what}: {}", shown(error));
                }
                scene.check(&what);
            });
        }
    }
    stream::iter(runs).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

/// From one request on, nothing works any more.
#[tokio::test]
async fn whatever_never_works_ends_within_its_budget() {
    let stage = &Stage::new().await;
    let faults: [Fault; 4] = [
        FAULTS[2],
        ("hang up", || Rule::CutRequest(0)),
        ("silence", || Rule::Hang),
        ("429 at once", || Rule::Say(answer(429).with("retry-after", "0"))),
    ];
    let mut runs = Vec::new();
    for verb in VERBS {
        for (number, request) in Scene::requests(verb, stage).await.into_iter().enumerate() {
            for (what, fault) in faults {
                let what = format!("{verb:?}, {what} from {number} on: {} {}", request.method, request.path);
                runs.push(ends(what, verb, stage, number, fault));
            }
        }
    }
    stream::iter(runs).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

async fn ends(what: String, verb: Verb, stage: &Stage, number: usize, fault: fn() -> Rule) {
    let scene = Scene::new(verb, stage);
    scene.rule(move |at, _| (at >= number).then(fault));
    let run = scene.run(hasty(options(&Notes::default())));
    // Three budgets: the attempt, its second try elsewhere, a slow machine.
    let ended = tokio::time::timeout(Duration::from_secs(20), run).await;
    let outcome = ended.unwrap_or_else(|_| panic!("{what}: no end"));
    let Err(error) = outcome else { panic!("{what}: success") };
    let is_right = matches!(error, RegistryError::Unavailable { .. } | RegistryError::TooMany { .. });
    assert!(is_right && error.is_environment(), "{what}: {error:?}");
    let asked = scene.server.state().log.len().saturating_sub(number);
    assert!(asked < 16, "{what}: {asked} requests in two seconds");
}
