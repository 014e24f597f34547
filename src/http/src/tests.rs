//! Certificates and proxies, against listeners of the tests' own.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;

fn environment(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Answers one request, and gives its first line.
fn one_answer() -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answered = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").unwrap();
        String::from_utf8_lossy(&buffer[..length]).lines().next().unwrap_or_default().to_owned()
    });
    (address, answered)
}

async fn get(options: &Options<'_>, url: &str) -> reqwest::Result<String> {
    options.client().unwrap().build().unwrap().get(url).send().await?.text().await
}

#[tokio::test]
async fn other_hosts_are_asked_through_the_proxy() {
    let (proxy, answered) = one_answer();
    let environment = environment(&[("HTTP_PROXY", "http://127.0.0.1:1"), ("http_proxy", &format!("http://{proxy}"))]);
    assert_eq!(get(&Options::new(&environment), "http://host.invalid/x").await.unwrap(), "ok");
    assert_eq!(answered.join().unwrap(), "GET http://host.invalid/x HTTP/1.1", "lower case goes first");
}

#[tokio::test]
async fn loopback_addresses_never_are() {
    let (address, answered) = one_answer();
    let environment = environment(&[("HTTP_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", "host.invalid")]);
    assert_eq!(get(&Options::new(&environment), &format!("http://{address}/x")).await.unwrap(), "ok");
    assert_eq!(answered.join().unwrap(), "GET /x HTTP/1.1");
}

#[tokio::test]
async fn nor_are_hosts_that_the_caller_or_the_environment_names() {
    let (proxy, answered) = one_answer();
    let environment = environment(&[("HTTP_PROXY", &format!("http://{proxy}")), ("NO_PROXY", "one.invalid")]);
    let options = Options { direct: &["two.invalid"], ..Options::new(&environment) };
    for host in ["one.invalid", "two.invalid"] {
        assert!(get(&options, &format!("http://{host}/")).await.unwrap_err().is_connect(), "{host}");
    }
    get(&options, "http://three.invalid/").await.unwrap();
    assert_eq!(answered.join().unwrap(), "GET http://three.invalid/ HTTP/1.1");
}

#[test]
fn a_file_of_certificates_that_is_none_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let environment = environment(&[("SSL_CERT_FILE", file.path().to_str().unwrap())]);
    let error = Options::new(&environment).client().unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read certificates from {}", file.path().display()));
    // Nothing is read where nothing is checked.
    assert!(Options { is_lax: true, ..Options::new(&environment) }.client().is_ok());
}
