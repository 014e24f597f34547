#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use indexmap::IndexMap;
use kiln_core::config::{Attribute, Body, Node, Value};
use kiln_core::{DataOutputs, DataSource, DataSourceKind, Diagnostics, SourceId, Span};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::HttpKind;
use crate::DataSettings;

const SPAN: Span = Span { source: SourceId(0), start: 0, end: 0 };

/// A server that gives one answer a connection, in order, and keeps what it was asked.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn new(answers: Vec<String>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 65536];
                let length = stream.read(&mut request).await.unwrap();
                seen.lock().unwrap().push(String::from_utf8_lossy(&request[..length]).into_owned());
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        Server { address, requests }
    }

    fn asked(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn node(value: Value) -> Node {
    Node::new(value, SPAN)
}

fn text(text: &str) -> Node {
    node(Value::String(text.to_owned()))
}

fn map(entries: &[(&str, &str)]) -> Node {
    let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), text(value)));
    node(Value::Map(entries.collect::<IndexMap<_, _>>()))
}

fn prepare(arguments: Vec<(&str, Node)>) -> Result<Arc<dyn DataSource>, Vec<String>> {
    let mut body = Body::empty(SPAN, false);
    for (name, node) in arguments {
        body.attributes.insert(name.to_owned(), Attribute { name_span: SPAN, node });
    }
    let kind = HttpKind::new(DataSettings { environment: BTreeMap::new() });
    let mut diagnostics = Diagnostics::new();
    let decoded = kind.schema().decode(&body, &mut diagnostics);
    let source = kind.prepare(&decoded, &mut diagnostics);
    let titles = || diagnostics.items.iter().map(|item| item.title.clone()).collect();
    source.filter(|_| diagnostics.is_empty()).ok_or_else(titles)
}

async fn read(arguments: Vec<(&str, Node)>) -> Result<DataOutputs, String> {
    prepare(arguments).map_err(|titles| titles.join("; "))?.read().await.map_err(|failure| failure.chain())
}

#[tokio::test]
async fn the_answer_is_text_with_headers() {
    let headers = "content-type: text/plain\r\nx-a: 1\r\nX-A: 2\r\n";
    let server = Server::new(vec![answer("200 OK", headers, "1.2.3\n")]).await;
    let outputs = read(vec![
        ("url", text(&format!("{}/release?x=1", server.address))),
        ("method", text("POST")),
        ("request_body", text("question")),
        ("request_headers", map(&[("X-Token", "t"), ("User-Agent", "mine")])),
    ])
    .await
    .unwrap();
    assert_eq!(outputs["body"], "1.2.3\n");
    assert_eq!(outputs["url"], format!("{}/release?x=1", server.address));
    assert_eq!(outputs["request_headers"]["Content-Type"], "text/plain");
    assert_eq!(outputs["request_headers"]["X-A"], "1, 2");
    let request = server.asked().remove(0).to_lowercase();
    assert!(request.starts_with("post /release?x=1 http/1.1\r\n"), "{request}");
    assert!(request.contains("x-token: t\r\n") && request.contains("user-agent: mine\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\nquestion"), "{request}");
}

#[tokio::test]
async fn redirections_are_followed_without_headers_for_other_hosts() {
    let target = Server::new(vec![answer("200 OK", "", "there")]).await;
    let location = format!("Location: {}/b\r\n", target.address);
    let server =
        Server::new(vec![answer("301 Moved", "Location: /a\r\n", ""), answer("302 Found", &location, "")]).await;
    let outputs =
        read(vec![("url", text(&server.address)), ("request_headers", map(&[("X-Token", "secret")]))]).await.unwrap();
    assert_eq!(outputs["body"], "there");
    assert_eq!(outputs["url"], server.address);
    let asked = server.asked();
    assert!(asked[1].starts_with("GET /a ") && asked[1].contains("secret"), "{asked:?}");
    assert!(!target.asked()[0].contains("secret"));
}

#[tokio::test]
async fn content_is_not_sent_to_another_host() {
    let server = Server::new(vec![answer("307 Temporary", "Location: http://127.0.0.1:9/x\r\n", "")]).await;
    let error = read(vec![("url", text(&server.address)), ("method", text("POST")), ("request_body", text("secret"))])
        .await
        .unwrap_err();
    assert_eq!(error, format!("`{}/` redirects a request with content to another host", server.address));
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_may_not_is_told() {
    let busy = answer("503 Service Unavailable", "Retry-After: 0\r\n", "");
    let server = Server::new(vec![busy.clone(), answer("200 OK", "", "at last")]).await;
    assert_eq!(read(vec![("url", text(&server.address))]).await.unwrap()["body"], "at last");

    let server = Server::new(vec![busy]).await;
    let error = read(vec![("url", text(&server.address)), ("method", text("POST"))]).await.unwrap_err();
    assert_eq!(error, format!("`{}/` answers 503 Service Unavailable", server.address));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn errors_cite_no_secrets() {
    let server = Server::new(vec![answer("404 Not Found", "", "")]).await;
    let address = server.address.replace("http://", "http://user:hunter2@");
    let error = read(vec![("url", text(&format!("{address}/a?token=hunter3#hunter4")))]).await.unwrap_err();
    assert_eq!(error, format!("`{}/a` answers 404 Not Found", server.address));

    let mut secret = text("http://hunter5.invalid/hunter6");
    secret.sensitive = true;
    let error = read(vec![("url", secret), ("method", text("POST"))]).await.unwrap_err();
    assert_eq!(error, "no answer from the server: the connection failed");
}

#[tokio::test]
async fn an_answer_that_is_no_text_or_too_large_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for body in [vec![0xff, 0xfe], vec![b'x'; (16 << 20) + 1]] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            // The reader may hang up early.
            let _ = stream.write_all(&body).await;
        }
    });
    let error = read(vec![("url", text(&address))]).await.unwrap_err();
    assert_eq!(error, format!("the answer of `{address}/` is not UTF-8 text"));
    let error = read(vec![("url", text(&address))]).await.unwrap_err();
    assert_eq!(error, format!("the answer of `{address}/` is larger than 16 MiB"));
}

#[tokio::test]
async fn proxies_and_certificates_come_from_the_environment() {
    let proxy = Server::new(vec![answer("200 OK", "", "by proxy")]).await;
    let environment = BTreeMap::from([("http_proxy".to_owned(), proxy.address.clone())]);
    let client = crate::client::build(&environment).await.unwrap();
    let response = client.get("http://somewhere.invalid/x").send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "by proxy");
    assert!(proxy.asked()[0].starts_with("GET http://somewhere.invalid/x "));

    let empty = tempfile::NamedTempFile::new().unwrap();
    let environment = BTreeMap::from([("SSL_CERT_FILE".to_owned(), empty.path().display().to_string())]);
    let error = crate::client::build(&environment).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read certificates from {}", empty.path().display()));
}

#[test]
fn arguments_are_checked() {
    let titles = |arguments: Vec<(&str, Node)>| prepare(arguments).err().unwrap_or_default();
    assert_eq!(titles(vec![]), ["an `http` data source needs `url`"]);
    assert_eq!(titles(vec![("url", text("example.com"))]), ["`url` is no address: relative URL without a base"]);
    assert_eq!(
        titles(vec![("url", text("ftp://example.com"))]),
        ["`url` must begin with `http://` or `https://`, not with `ftp:`"]
    );
    let url = || ("url", text("http://example.com"));
    assert_eq!(titles(vec![url(), ("method", text("get"))]), ["`method` cannot be `get`"]);
    assert_eq!(
        titles(vec![url(), ("request_headers", map(&[("a b", "x"), ("c", "x\n")]))]),
        ["`a b` is not the name of a header", "the value of the header `c` cannot be sent"]
    );
    assert!(titles(vec![("url", node(Value::Unknown)), ("request_body", node(Value::Unknown))]).is_empty());
}
