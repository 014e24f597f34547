use std::sync::Arc;
use std::time::Duration;

use kiln_core::Schema;
use kiln_services::{HealthCheck, SERVICES, Service};
use kiln_testkit::{Arguments, TestContext, context};
use serde_json::{Value as Json, json};

use super::group::image_health;
use super::*;
use crate::ImageInfo;
use crate::fake::{ExecReply, FakeEngine};
use crate::models::HealthConfig;

const SOURCE: Schema = Schema { kind: "docker", title: "a source", doc: "", fields: &[SERVICES], example: "" };

fn services(services: Json) -> Vec<Service> {
    let (decoded, mut diagnostics) = Arguments::new(json!({ "service": services })).weak().decode(&SOURCE);
    let services = kiln_services::read(&decoded, &mut diagnostics);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    services
}

async fn group(engine: &Arc<FakeEngine>, wiring: Wiring, services: Vec<Service>, context: &TestContext) -> Group {
    let engine: Arc<dyn Engine> = engine.clone();
    let network = Network::make(&engine, wiring, "", context).await.unwrap();
    let machine = Some("machine-id".to_owned());
    let setting = Setting { engine: Arc::clone(&engine), home: None, network, machine, suffix: String::new() };
    let mut images = Vec::new();
    for service in &services {
        images.push(engine.inspect_image(&service.image).await.unwrap().unwrap());
    }
    Group::new(setting, services, images)
}

#[test]
fn which_network_makes_which_wiring() {
    let own = |is_internal, beside: Option<&str>| Wiring::Own { is_internal, beside: beside.map(str::to_owned) };
    assert_eq!(Wiring::of(None, false), own(false, None));
    assert_eq!(Wiring::of(Some("bridge"), false), own(false, None));
    assert_eq!(Wiring::of(Some("none"), false), own(true, None));
    assert_eq!(Wiring::of(Some("backend"), false), own(false, Some("backend")));
    assert_eq!(Wiring::of(Some("host"), true), Wiring::Host);
    assert_eq!(Wiring::of(Some("container:db"), true), Wiring::Borrowed("container:db".to_owned()));
    assert_eq!(Wiring::of(Some("none"), true), Wiring::Shared { network: Some("none".to_owned()) });
}

#[tokio::test]
async fn a_service_is_made_as_it_is_described_and_goes_with_its_network() {
    let engine = Arc::new(FakeEngine::new());
    let image = engine.add_image("postgres:17");
    let described = services(json!({ "db": {
        "image": "postgres:17", "command": ["-c", "fsync=off"], "env": { "PGDATA": "/data" }, "user": "postgres",
        "tmpfs": ["/data:size=64m"], "aliases": ["database"], "ports": ["55432:5432"], "shm_size": "64m",
        "health_check": { "test": ["CMD", "pg_isready"] },
    } }));
    let context = context().build();
    let group = group(&engine, Wiring::of(None, false), described, &context).await;
    engine.on_exec(ExecReply { status: 2, ..ExecReply::default() });
    group.start(&context).await.unwrap();
    let (info, spec) = engine.containers().remove(0);
    assert_eq!(
        (info.name.as_str(), spec.config.image.as_deref()),
        ("kiln-00000000-docker.worker-db", Some(image.as_str()))
    );
    assert_eq!(info.labels["kiln.service"], "db");
    assert_eq!(
        (info.labels["kiln.run"].as_str(), info.labels["kiln.build"].as_str()),
        (&*context.run, "docker.worker")
    );
    let host = spec.config.host_config.unwrap();
    let network = engine.networks().remove(0);
    assert_eq!((host.network_mode.as_deref(), host.shm_size), (Some(network.id.as_str()), Some(64 << 20)));
    assert_eq!(host.tmpfs.unwrap()["/data"], "size=64m");
    assert_eq!(host.port_bindings.unwrap()["5432/tcp"].as_ref().unwrap()[0].host_ip.as_deref(), Some("127.0.0.1"));
    let endpoints = spec.config.networking_config.unwrap().endpoints_config.unwrap();
    assert_eq!(endpoints[&network.id].aliases.as_deref(), Some(&["db".to_owned(), "database".to_owned()][..]));
    assert_eq!(spec.config.healthcheck.unwrap().test.unwrap(), ["NONE"]);
    assert_eq!(engine.calls().iter().filter(|call| *call == "exec pg_isready").count(), 2);
    // A second try begins anew.
    group.start(&context).await.unwrap();
    assert_eq!((engine.containers().len(), context.journal.open().len()), (1, 2));
    group.remove(&context).await.unwrap();
    group.remove(&context).await.unwrap();
    assert_eq!((engine.containers().len(), engine.networks().len(), context.journal.open().len()), (0, 0, 0));
}

#[tokio::test]
async fn in_the_machines_network_all_are_at_loopback() {
    let engine = Arc::new(FakeEngine::new());
    engine.add_image("postgres:17");
    let described = services(json!({ "db": { "image": "postgres:17", "aliases": ["database"], "wait": "started" } }));
    let context = context().build();
    let group = group(&engine, Wiring::of(Some("none"), true), described.clone(), &context).await;
    group.start(&context).await.unwrap();
    let (_, spec) = engine.containers().remove(0);
    assert_eq!(spec.config.host_config.unwrap().network_mode.as_deref(), Some("container:machine-id"));
    let wiring = Wiring::of(Some("none"), true);
    let network = Network::make(&(engine.clone() as Arc<dyn Engine>), wiring, "", &context).await.unwrap();
    let mut machine = ContainerCreateBody::default();
    network.join_machine(&mut machine, &described);
    let host = machine.host_config.unwrap();
    assert_eq!(host.extra_hosts.unwrap(), ["db:127.0.0.1", "database:127.0.0.1"]);
    assert_eq!((host.network_mode.as_deref(), engine.networks().len()), (Some("none"), 0));
}

#[tokio::test]
async fn what_the_engine_refuses_stays_in_the_journal_until_it_is_removed() {
    let engine = Arc::new(FakeEngine::new());
    engine.add_image("postgres:17");
    let described = services(json!({ "db": { "image": "postgres:17", "ports": ["80"] } }));
    let context = context().build();
    let group = group(&engine, Wiring::of(None, false), described, &context).await;
    let message = "Bind for 127.0.0.1:80 failed: port is already allocated".to_owned();
    engine.fail_next("start_container", EngineError::Refused { action: "start".into(), message, status: Some(500) });
    let failure = group.start(&context).await.unwrap_err();
    assert!(failure.hints.iter().any(|hint| hint.contains("`ports`")), "{failure:?}");
    assert_eq!((engine.containers().len(), context.journal.open().len()), (1, 2));
    group.remove(&context).await.unwrap();
    assert_eq!((engine.containers().len(), context.journal.open().len()), (0, 0));
}

#[test]
fn an_images_own_health_check() {
    let config = HealthConfig {
        test: Some(["CMD-SHELL", "pg_isready"].map(str::to_owned).to_vec()),
        interval: Some(5_000_000_000),
        retries: Some(0),
        ..HealthConfig::default()
    };
    let Some(HealthCheck::By(health)) = image_health(&config) else { panic!("no check") };
    assert_eq!((health.interval, health.retries), (Duration::from_secs(5), 3));
    assert_eq!(health.command, ["/bin/sh", "-c", "pg_isready"]);
    let none = HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() };
    assert_eq!(image_health(&none), Some(HealthCheck::Off));
    assert_eq!(ImageInfo::default().config.healthcheck, None);
}
