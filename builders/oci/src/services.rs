//! Side-cars in sandboxes of their own, all in this host's network: machines of other images beside the machine.

mod check;
mod group;

use std::sync::Arc;

use kiln_core::{BuildContext, Failure, Platform};
use kiln_image::changes::Changes;
use kiln_image::config::RunConfig;
use kiln_services::{Pull, Service};
use tokio::net::TcpStream;

use crate::config::{Config, Layers, Pull as ConfigPull, SecretScan};
use crate::error::OciError;
use crate::from::From;
use crate::launch::OciBuilder;
use crate::machine::OciMachine;
use crate::prepare::Recipe;

pub(crate) use check::check;
pub(crate) use group::Group;

/// Where everything in the host's network is reached.
const LOOPBACK: &str = "127.0.0.1";

/// Bound on finding out whether a port of this host is taken.
const KNOCK: std::time::Duration = std::time::Duration::from_millis(200);

/// The names of services for a list of hosts: address and name.
pub(crate) fn hosts(services: &[Service]) -> Vec<(String, String)> {
    let names = services.iter().flat_map(Service::names);
    names.map(|name| (LOOPBACK.to_owned(), name.to_owned())).collect()
}

/// The arguments of a source that makes a service's machines: it knows the registries and logins of this one.
fn config_of(service: &Service, like: &Config) -> Config {
    let shared = service.shm_size.as_ref().map(|size| format!("/dev/shm:mode=1777,size={size}"));
    let tmpfs = service.tmpfs.iter().map(|(path, options)| match options.as_str() {
        "" => path.clone(),
        options => format!("{path}:{options}"),
    });
    Config {
        from: None,
        image: Some(service.image.clone()),
        pull: match service.pull {
            Pull::Always => ConfigPull::Always,
            Pull::Missing => ConfigPull::Missing,
            Pull::Never => ConfigPull::Never,
        },
        commit: None,
        discard: true,
        export_path: None,
        tags: Vec::new(),
        push: Vec::new(),
        oci_layout: None,
        docker_archive: None,
        load: false,
        changes: Vec::new(),
        layers: Layers::default(),
        secret_scan: SecretScan::Off,
        network: None,
        volumes: service.volumes.clone(),
        tmpfs: tmpfs.chain(shared).collect(),
        device: Vec::new(),
        cap_add: service.cap_add.clone(),
        cap_drop: Vec::new(),
        privileged: service.privileged,
        run_command: Vec::new(),
        exec_user: service.user.clone(),
        pty: false,
        ..like.clone()
    }
}

/// A builder of a service's machines.
pub(crate) fn builder_of(
    service: &Service,
    like: &OciBuilder,
    platform: Platform,
    network: Option<&str>,
    hosts: Vec<(String, String)>,
) -> OciBuilder {
    let is_id = kiln_image::Digest::parse(&service.image).is_ok();
    let from = if is_id { From::Id(service.image.clone()) } else { From::Reference(service.image.clone()) };
    let config = config_of(service, &like.recipe.config);
    let recipe = Recipe {
        config: Config { network: network.map(str::to_owned), ..config },
        from,
        platform,
        changes: Changes::default(),
        compression: like.recipe.compression,
        push: Vec::new(),
        push_spans: Vec::new(),
        is_pushed: false,
        is_docker: false,
        is_tested: false,
    };
    OciBuilder::new(like.settings.clone(), Arc::clone(&like.places), recipe).reaching(hosts)
}

/// The first process of an image, with a service's words in the place of the image's, as Docker puts them together.
pub(crate) fn first_process(service: &Service, image: Option<&RunConfig>) -> Result<Vec<String>, Failure> {
    let of_image = |words: Option<&Option<Vec<String>>>| words.cloned().flatten().unwrap_or_default();
    let given = |words: &Option<Vec<String>>| words.clone().filter(|words| !words.is_empty());
    let command = match (given(&service.command), given(&service.entrypoint)) {
        (Some(command), _) => command,
        // Another entry point has no use for arguments that were meant for the image's.
        (None, Some(_)) => Vec::new(),
        (None, None) => of_image(image.map(|image| &image.cmd)),
    };
    let entrypoint = service.entrypoint.clone();
    let entrypoint = entrypoint.unwrap_or_else(|| of_image(image.map(|image| &image.entrypoint)));
    let words: Vec<String> = entrypoint.into_iter().chain(command).collect();
    if words.is_empty() {
        let text = format!("`{}` has nothing to run: its image has neither ENTRYPOINT nor CMD", service.name);
        return Err(Failure::build(OciError::Base(text)).hint("write `command`"));
    }
    Ok(words)
}

/// Tells of ports that its image says a service listens at, and that somebody has: checks of its health would be answered by
/// that one.
async fn tell_taken_ports(service: &Service, machine: &OciMachine, context: &BuildContext) {
    let exposed = machine.image_config().and_then(|image| image.exposed_ports.as_ref());
    let ports = exposed.into_iter().flatten().filter_map(|(port, _)| {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        number.parse::<u16>().ok().filter(|_| protocol == "tcp")
    });
    for port in ports {
        let knock = tokio::time::timeout(KNOCK, TcpStream::connect((LOOPBACK, port))).await;
        if matches!(knock, Ok(Ok(_))) {
            let name = &service.name;
            let text = format!("port {port} of this host is taken, and the image of service {name} listens there");
            context.events.warn(format!("{text}: services of a sandbox share this host's network"));
        }
    }
}

#[cfg(test)]
mod tests {
    use kiln_core::Schema;
    use kiln_testkit::Arguments;
    use serde_json::{Value as Json, json};

    use super::*;

    const SOURCE: Schema =
        Schema { kind: "oci", title: "a source", doc: "", fields: &[kiln_services::SERVICES], example: "" };

    fn service(arguments: Json) -> Service {
        let blocks = json!({ "service": { "db": arguments } });
        let (decoded, mut diagnostics) = Arguments::new(blocks).weak().decode(&SOURCE);
        kiln_services::read(&decoded, &mut diagnostics).remove(0)
    }

    #[test]
    fn words_of_a_service_and_of_its_image_come_together_as_in_docker() {
        let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        let image = RunConfig { entrypoint: words(&["/entry"]), cmd: words(&["serve"]), ..RunConfig::default() };
        let cases = [
            (json!({}), "/entry serve"),
            (json!({ "command": ["-c", "fsync=off"] }), "/entry -c fsync=off"),
            (json!({ "entrypoint": ["sleep"] }), "sleep"),
            (json!({ "entrypoint": ["sleep"], "command": ["1"] }), "sleep 1"),
            (json!({ "entrypoint": [] }), "serve"),
            (json!({ "entrypoint": [], "command": "exit 1" }), "/bin/sh -c exit 1"),
        ];
        for (arguments, expected) in cases {
            let first = first_process(&service(arguments.clone()), Some(&image)).unwrap();
            assert_eq!(first.join(" "), expected, "{arguments}");
        }
        let failure = first_process(&service(json!({})), None).unwrap_err();
        assert!(failure.to_string().contains("`db` has nothing to run"), "{failure}");
    }

    #[test]
    fn all_names_lead_to_this_host() {
        let names = hosts(&[service(json!({ "aliases": ["database"] }))]);
        let at = |name: &str| (LOOPBACK.to_owned(), name.to_owned());
        assert_eq!(names, [at("db"), at("database")]);
    }
}
