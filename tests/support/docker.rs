//! The real Docker engine, looked at through its API with curl: the tests must not trust kiln's own eyes.

use std::process::Command;

use serde_json::Value as Json;

/// The base image that `make test` provides.
pub(crate) const BASE: &str = "debian:bookworm";

/// The engine's socket.
pub(crate) fn socket() -> String {
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    host.trim_start_matches("unix://").to_owned()
}

/// The address of an engine beside the usual one, which a variable has: `make test` starts them.
pub(crate) fn another(variable: &str) -> Option<String> {
    let address = std::env::var(variable).ok().filter(|address| address.starts_with("unix://"));
    super::available(&format!("another engine ({variable})"), address.is_some()).then_some(address).flatten()
}

fn call(method: &str, path: &str) -> Option<String> {
    call_at(&socket(), method, path)
}

fn call_at(socket: &str, method: &str, path: &str) -> Option<String> {
    let arguments = ["--silent", "--fail", "--max-time", "60", "--unix-socket", socket, "-X", method];
    let output = Command::new("curl").args(arguments).arg(format!("http://engine{path}")).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn encoded(text: &str) -> String {
    text.replace('/', "%2F")
        .replace('=', "%3D")
        .replace('"', "%22")
        .replace('{', "%7B")
        .replace('}', "%7D")
        .replace('[', "%5B")
        .replace(']', "%5D")
}

/// Whether the engine answers and has the base image.
pub(crate) fn is_there() -> bool {
    super::available("a Docker engine with the image debian:bookworm", image(BASE).is_some())
}

/// An image's inspection.
pub(crate) fn image(reference: &str) -> Option<Json> {
    serde_json::from_str(&call("GET", &format!("/images/{}/json", encoded(reference)))?).ok()
}

/// The same at the engine of an address.
pub(crate) fn image_at(address: &str, reference: &str) -> Option<Json> {
    let path = format!("/images/{}/json", encoded(reference));
    serde_json::from_str(&call_at(address.trim_start_matches("unix://"), "GET", &path)?).ok()
}

/// Images with a label at the engine of an address: their ids.
pub(crate) fn images_at(address: &str, label: &str) -> Vec<String> {
    let filters = encoded(&format!("{{\"label\":[\"{label}\"]}}"));
    let path = format!("/images/json?filters={filters}");
    ids(&call_at(address.trim_start_matches("unix://"), "GET", &path).unwrap())
}

/// Removes an image, with all its names, at the engine of an address.
pub(crate) fn remove_at(address: &str, reference: &str) {
    call_at(address.trim_start_matches("unix://"), "DELETE", &format!("/images/{}?force=1", encoded(reference)));
}

/// A container's inspection.
pub(crate) fn container(reference: &str) -> Option<Json> {
    serde_json::from_str(&call("GET", &format!("/containers/{reference}/json"))?).ok()
}

/// An image's history.
pub(crate) fn history(reference: &str) -> Json {
    serde_json::from_str(&call("GET", &format!("/images/{}/history", encoded(reference))).unwrap()).unwrap()
}

/// An image's history; `None` where it went meanwhile.
pub(crate) fn try_history(reference: &str) -> Option<Json> {
    serde_json::from_str(&call("GET", &format!("/images/{}/history", encoded(reference)))?).ok()
}

/// All images, also those that others were made from: their ids.
pub(crate) fn all_images() -> Vec<String> {
    ids(&call("GET", "/images/json?all=1").unwrap())
}

/// Containers with a label, running or not: their ids.
pub(crate) fn containers_with(label: &str) -> Vec<String> {
    let filters = encoded(&format!("{{\"label\":[\"{label}\"]}}"));
    ids(&call("GET", &format!("/containers/json?all=1&filters={filters}")).unwrap())
}

/// Images with a label: their ids.
pub(crate) fn images_with(label: &str) -> Vec<String> {
    let filters = encoded(&format!("{{\"label\":[\"{label}\"]}}"));
    ids(&call("GET", &format!("/images/json?filters={filters}")).unwrap())
}

fn ids(text: &str) -> Vec<String> {
    let list: Json = serde_json::from_str(text).unwrap();
    list.as_array().unwrap().iter().map(|item| item["Id"].as_str().unwrap().to_owned()).collect()
}

/// Runs a command in a fresh container of an image: standard output.
pub(crate) fn run_in(image: &str, script: &str) -> String {
    let arguments =
        ["run", "--rm", "--label", "kiln.test", "--network", "none", "--entrypoint", "/bin/sh", image, "-c", script];
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Removes an image and all its names when the test ends.
pub(crate) struct Removed(pub(crate) Vec<String>);

impl Drop for Removed {
    fn drop(&mut self) {
        for reference in &self.0 {
            call("DELETE", &format!("/images/{}?force=1", encoded(reference)));
        }
    }
}

/// The id of the only image artifact that `kiln build -json` told of, removed at the end of the test.
pub(crate) fn built_images(events: &str) -> Vec<String> {
    let mut ids: Vec<String> = events
        .lines()
        .filter_map(|line| serde_json::from_str::<Json>(line).ok())
        .filter(|event| event["event"] == "build-finished")
        .flat_map(|event| event["artifacts"].as_array().cloned().unwrap_or_default())
        .filter_map(|artifact| artifact["id"].as_str().map(str::to_owned))
        .filter(|id| id.starts_with("sha256:"))
        .collect();
    ids.dedup();
    ids
}
