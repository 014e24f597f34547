use std::collections::BTreeMap;
use std::sync::Mutex;

use indexmap::IndexMap;
use kiln_core::source::SourceId;
use kiln_core::{RunOptions, Span};
use kiln_testkit::context;

use super::*;
use crate::service::Pull;

/// Services whose checks succeed from a try on, and which end at a time.
#[derive(Default)]
struct FakeHost {
    healthy_after: BTreeMap<usize, Duration>,
    ends: BTreeMap<usize, (Duration, i64)>,
    /// Checks that begin at this age or later hang.
    slow_from: Option<Duration>,
    /// How long each check takes.
    takes: Duration,
    began: Mutex<BTreeMap<usize, Instant>>,
    calls: Mutex<Vec<String>>,
}

impl FakeHost {
    fn age(&self, service: usize) -> Duration {
        self.began.lock().unwrap()[&service].elapsed()
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

#[async_trait]
impl ServiceHost for FakeHost {
    async fn start(&self, service: usize, _context: &BuildContext) -> Result<(), Failure> {
        self.began.lock().unwrap().insert(service, Instant::now());
        self.calls.lock().unwrap().push(format!("start {service}"));
        Ok(())
    }

    async fn status(&self, service: usize) -> Result<Status, Failure> {
        Ok(match self.ends.get(&service) {
            Some((after, status)) if self.age(service) >= *after => Status::Ended(*status),
            _ => Status::Running,
        })
    }

    async fn run(&self, service: usize, _command: &[String]) -> Result<(i64, Vec<u8>), Failure> {
        if self.slow_from.is_some_and(|from| self.age(service) >= from) {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        tokio::time::sleep(self.takes).await;
        match self.healthy_after.get(&service) {
            Some(after) if self.age(service) >= *after => {
                self.calls.lock().unwrap().push(format!("healthy {service}"));
                Ok((0, Vec::new()))
            }
            _ => Ok((1, b"first\nnot ready\n\n".to_vec())),
        }
    }

    fn image_health(&self, _service: usize) -> Option<HealthCheck> {
        None
    }

    async fn log(&self, service: usize) -> Result<Vec<u8>, Failure> {
        Ok(format!("line one of {service}\nthe s3cret word\n").into_bytes())
    }
}

fn service(name: &str, wait: Wait) -> Service {
    let health = Health { command: vec!["check".into()], ..Health::default() };
    Service {
        name: name.to_owned(),
        image: "image".to_owned(),
        pull: Pull::default(),
        command: None,
        entrypoint: None,
        environment: BTreeMap::new(),
        user: None,
        workdir: None,
        tmpfs: BTreeMap::new(),
        volumes: IndexMap::new(),
        aliases: Vec::new(),
        ports: Vec::new(),
        health: (wait == Wait::Healthy).then_some(HealthCheck::By(health)),
        wait: Some(wait),
        wait_timeout: Duration::from_secs(120),
        after: Vec::new(),
        shm_size: None,
        cap_add: Vec::new(),
        privileged: false,
        span: Span::new(SourceId(0), 3..7),
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_starts_once_those_before_it_are_ready() {
    let host = FakeHost {
        healthy_after: [(1, Duration::from_secs(5))].into(),
        ends: [(0, (Duration::from_secs(2), 0))].into(),
        ..FakeHost::default()
    };
    let migrate = Service { after: vec![1], ..service("migrate", Wait::Completed) };
    let services = [migrate, service("db", Wait::Healthy), service("mail", Wait::Started)];
    start_all(&host, &services, &context().build()).await.unwrap();
    assert_eq!(host.calls(), ["start 1", "start 2", "healthy 1", "start 0"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_never_healthy_is_named_with_its_check_and_its_log() {
    let logs = tempfile::tempdir().unwrap();
    let options = RunOptions { logs: Some(logs.path().join("logs")), ..RunOptions::default() };
    let context = context().options(options).build();
    context.redactor.add("s3cret");
    let host = FakeHost::default();
    let services = [service("db", Wait::Healthy), service("mail", Wait::Started)];
    let began = Instant::now();
    let failure = start_all(&host, &services, &context).await.unwrap_err();
    let text = "service `db` did not become healthy within 1m 30s: its health check `check` exits with 1: not ready";
    assert_eq!(failure.to_string(), text);
    assert!(failure.span == Some(services[0].span) && failure.hints[0].contains("`interval`"), "{failure:?}");
    assert!((85..=90).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    let shown = context.reporter.output();
    assert!(shown.iter().any(|line| line.contains("db | line one of 0")), "{shown:?}");
    assert!(!shown.iter().any(|line| line.contains("mail | ")), "{shown:?}");
    let mut kept: Vec<_> =
        std::fs::read_dir(logs.path().join("logs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    kept.sort();
    assert_eq!(kept.len(), 2, "the others' logs tell why as well: {kept:?}");
    assert!(kept[0].to_string_lossy().ends_with("-db.log"));
    let text = std::fs::read_to_string(&kept[0]).unwrap();
    assert!(text.starts_with("line one of 0\n") && !text.contains("s3cret"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn waits_are_bounded_however_a_check_hangs() {
    let host = FakeHost { slow_from: Some(Duration::ZERO), ..FakeHost::default() };
    let services = [Service { wait_timeout: Duration::from_secs(7), ..service("db", Wait::Healthy) }];
    let began = Instant::now();
    let failure = start_all(&host, &services, &context().build()).await.unwrap_err();
    assert!(failure.to_string().contains("within 7.0s: its health check `check` did not end"), "{failure}");
    assert!(failure.hints[0].contains("`wait_timeout`"), "{failure:?}");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_check_that_is_cut_short_does_not_hide_what_the_one_before_said() {
    let host = FakeHost { slow_from: Some(Duration::from_secs(5)), ..FakeHost::default() };
    let services = [Service { wait_timeout: Duration::from_secs(7), ..service("db", Wait::Healthy) }];
    let failure = start_all(&host, &services, &context().build()).await.unwrap_err();
    assert!(failure.to_string().contains("`check` exits with 1: not ready"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn the_first_check_is_heard_however_soon_patience_ends() {
    let host = FakeHost { takes: Duration::from_secs(2), ..FakeHost::default() };
    let rest = Health { interval: Duration::from_millis(200), ..Health::default() };
    let health = HealthCheck::of_words(&["check".to_owned()], rest);
    let services = [Service { health, ..service("db", Wait::Healthy) }];
    let failure = start_all(&host, &services, &context().build()).await.unwrap_err();
    assert!(
        failure.to_string().contains("within 600ms: its health check `check` exits with 1: not ready"),
        "{failure}"
    );
}

#[tokio::test(start_paused = true)]
async fn one_that_ends_is_a_failure_unless_it_is_meant_to() {
    let told = async |wait, after, status| {
        let host = FakeHost { ends: [(0, (Duration::from_millis(after), status))].into(), ..FakeHost::default() };
        let services = [Service { wait_timeout: Duration::from_secs(2), ..service("one", wait) }];
        start_all(&host, &services, &context().build()).await.map_err(|failure| failure.to_string())
    };
    assert_eq!(
        told(Wait::Started, 50, 7).await.unwrap_err(),
        "service `one` ended with status 7 as soon as it was started"
    );
    assert_eq!(
        told(Wait::Healthy, 900, 3).await.unwrap_err(),
        "service `one` ended with status 3 before it was healthy"
    );
    assert_eq!(told(Wait::Completed, 900, 3).await.unwrap_err(), "service `one` failed with status 3");
    assert_eq!(told(Wait::Completed, 9000, 0).await.unwrap_err(), "service `one` did not end within 2.0s");
    assert_eq!(told(Wait::Completed, 900, 0).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn health_that_nobody_can_look_at_is_told() {
    let services = [Service { health: None, ..service("db", Wait::Healthy) }];
    let failure = start_all(&FakeHost::default(), &services, &context().build()).await.unwrap_err();
    assert!(failure.to_string().contains("neither the template nor its image"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn stopping_the_build_ends_the_wait() {
    let context = context().build();
    let cancel = context.cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        cancel.cancel();
    });
    let services = [service("db", Wait::Healthy)];
    assert!(start_all(&FakeHost::default(), &services, &context).await.unwrap_err().is_cancelled());
}
