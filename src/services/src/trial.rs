//! Tests of what a build sealed, in the words of services: those that a test needs, and what is tested as one of them.

use kiln_core::health::HealthCheck;
use kiln_core::{Decoded, Diagnostic, Diagnostics, Test, TestRun};

use crate::service::{Pull, Service, Wait};

/// Tells what is wrong with a test: services that the source does not have.
pub fn check_test(test: &Test, services: &[Service], decoded: &Decoded, diagnostics: &mut Diagnostics) {
    for (index, name) in test.services.iter().enumerate() {
        let path = format!("services[{index}]");
        if services.iter().all(|service| service.name != *name) && !decoded.is_unknown(&path) {
            let span = decoded.span(&path);
            let names: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
            let diagnostic = Diagnostic::error("test", span, format!("the source has no service `{name}`"));
            diagnostics.push(match names.is_empty() {
                true => diagnostic.help("`service` blocks stand in the source"),
                false => diagnostic.did_you_mean(span, name, names),
            });
        }
    }
}

/// Positions of the services that a test needs, with all that come before them.
pub fn needed(test: &Test, services: &[Service]) -> Vec<usize> {
    let mut needed = Vec::new();
    let mut open: Vec<usize> = services
        .iter()
        .enumerate()
        .filter(|(_, service)| test.services.contains(&service.name))
        .map(|(index, _)| index)
        .collect();
    while let Some(index) = open.pop() {
        if !needed.contains(&index) {
            needed.push(index);
            open.extend(&services[index].after);
        }
    }
    needed.sort_unstable();
    needed
}

/// The services at these positions, as a list of their own. What they come after must be among them.
pub fn chosen(services: &[Service], positions: &[usize]) -> Vec<Service> {
    let position = |index: &usize| positions.iter().position(|other| other == index);
    let own = |index: &usize| {
        let service = services[*index].clone();
        Service { after: service.after.iter().filter_map(position).collect(), ..service }
    };
    positions.iter().map(own).collect()
}

/// What a test starts of this image.
pub fn subject(test: &Test, image: &str) -> Service {
    let (entrypoint, command, health) = match &test.run {
        TestRun::Command(words) => (Some(words.clone()), None, Some(HealthCheck::Off)),
        TestRun::Arguments(words) if words.is_empty() => (None, None, Some(HealthCheck::Off)),
        TestRun::Arguments(words) => (None, Some(words.clone()), Some(HealthCheck::Off)),
        TestRun::Health { check, .. } => (None, None, check.clone().map(HealthCheck::By)),
    };
    Service {
        name: test.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect(),
        image: image.to_owned(),
        pull: Pull::Never,
        command,
        entrypoint,
        environment: test.environment.clone(),
        user: test.user.clone(),
        workdir: test.workdir.clone(),
        tmpfs: test.tmpfs.clone(),
        volumes: Default::default(),
        aliases: Vec::new(),
        ports: Vec::new(),
        health,
        wait: Some(Wait::Healthy),
        wait_timeout: test.timeout,
        after: Vec::new(),
        shm_size: None,
        cap_add: Vec::new(),
        privileged: false,
        span: test.span,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kiln_core::Schema;
    use kiln_testkit::Arguments;
    use serde_json::{Value as Json, json};

    use super::*;

    const SOURCE: Schema =
        Schema { kind: "docker", title: "a source", doc: "", fields: &[crate::SERVICES], example: "" };

    fn services() -> Vec<Service> {
        let blocks = json!({ "service": {
            "mail": { "image": "mail" },
            "db": { "image": "db" },
            "migrate": { "image": "db", "after": ["db"], "wait": "completed" },
        } });
        let (decoded, mut diagnostics) = Arguments::new(blocks).weak().decode(&SOURCE);
        crate::read(&decoded, &mut diagnostics)
    }

    fn test(arguments: Json) -> Arc<Test> {
        let (decoded, mut diagnostics) = Arguments::new(arguments).weak().decode(&kiln_core::trial::TEST);
        Test::read("it works", decoded.span(""), &decoded, &mut diagnostics).unwrap()
    }

    #[test]
    fn a_test_needs_what_its_services_come_after() {
        let services = services();
        let needs = |names: Json| {
            let positions = needed(&test(json!({ "command": ["true"], "services": names })), &services);
            let chosen = chosen(&services, &positions);
            chosen.into_iter().map(|service| (service.name, service.after)).collect::<Vec<_>>()
        };
        let mut names = needs(json!(["migrate"]));
        names.sort();
        assert_eq!(names.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["db", "migrate"]);
        assert_eq!(names[1].1.len(), 1, "what it comes after is found in the new list");
        assert_eq!(needs(json!([])), []);
    }

    #[test]
    fn what_is_tested_in_the_words_of_a_service() {
        let subject = |arguments| subject(&test(arguments), "sha256:1");
        let command = subject(json!({ "command": ["app", "--version"] }));
        assert_eq!((command.name.as_str(), command.image.as_str()), ("it-works", "sha256:1"));
        assert_eq!(command.entrypoint.unwrap(), ["app", "--version"]);
        assert_eq!(command.health, Some(HealthCheck::Off));
        let arguments = subject(json!({ "arguments": ["once"] }));
        assert_eq!((arguments.entrypoint, arguments.command.unwrap()), (None, vec!["once".to_owned()]));
        let healthy = subject(json!({ "health": { "retries": 3 }, "timeout": "3s" }));
        assert_eq!((healthy.health, healthy.wait), (None, Some(Wait::Healthy)));
        assert_eq!(healthy.wait_timeout.as_secs(), 3);
    }
}
