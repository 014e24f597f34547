//! A service on a loopback port that answers as the test says, and keeps what it was asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use kiln_builder_amazon_ebs::cloud::{Access, Cloud, Clouds};
use kiln_core::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{Aws, AwsSettings};

/// What is done with one request.
pub(crate) enum Reply {
    /// Status and body.
    Answer(u16, String),
    /// It is read, and the connection ends.
    Hang,
}

/// EC2's form of an answer.
pub(crate) fn ec2(action: &str, body: &str) -> Reply {
    let xmlns = "http://ec2.amazonaws.com/doc/2016-11-15/";
    Reply::Answer(
        200,
        format!("<{action}Response xmlns=\"{xmlns}\"><requestId>r-1</requestId>{body}</{action}Response>"),
    )
}

/// EC2's form of an error.
pub(crate) fn ec2_error(status: u16, code: &str, message: &str) -> Reply {
    let error = format!("<Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>");
    Reply::Answer(status, format!("<Response>{error}<RequestID>r-2</RequestID></Response>"))
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Request {
    /// The value of a form.
    pub(crate) fn form(&self, name: &str) -> Option<String> {
        self.forms().get(name).cloned()
    }

    pub(crate) fn forms(&self) -> BTreeMap<String, String> {
        let decode =
            |text: &str| percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (decode(name), decode(value)));
        self.body.split('&').filter_map(pair).collect()
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

pub(crate) struct Service {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Service {
    /// Answers these in turn, and the last one again and again.
    pub(crate) async fn start(replies: impl IntoIterator<Item = Reply>) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let replies = Arc::new(Mutex::new(replies.into_iter().collect::<VecDeque<_>>()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&seen), Arc::clone(&replies)));
            }
        });
        Service { url, requests }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The actions of all requests, in turn.
    pub(crate) fn actions(&self) -> Vec<String> {
        self.requests().iter().map(|request| request.form("Action").unwrap_or_default()).collect()
    }

    /// Access with keys, to EC2 here.
    pub(crate) fn access(&self) -> Access {
        Access { endpoint: Some(self.url.clone()), ..keys() }
    }

    /// EC2 here.
    pub(crate) async fn cloud(&self) -> Arc<dyn Cloud> {
        aws(&[]).cloud(&self.access(), None).await.unwrap()
    }
}

/// Keys and a region.
pub(crate) fn keys() -> Access {
    Access {
        access_key: Some(Secret::new("AKIDEXAMPLE")),
        secret_key: Some(Secret::new("secret")),
        region: Some("eu-central-1".to_owned()),
        ..Access::default()
    }
}

/// In surroundings that have no more than this, and neither files nor metadata.
pub(crate) fn aws(environment: &[(&str, &str)]) -> Aws {
    let fixed = [("HOME", "/nonexistent"), ("AWS_EC2_METADATA_DISABLED", "true")];
    let all = fixed.iter().chain(environment).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Aws::new(AwsSettings { environment: all.collect(), prompt: None })
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Vec<Request>>>, replies: Arc<Mutex<VecDeque<Reply>>>) {
    while let Some(request) = read(&mut stream).await {
        seen.lock().unwrap().push(request);
        let reply = {
            let mut replies = replies.lock().unwrap();
            match replies.len() {
                0 => Reply::Hang,
                1 => match &replies[0] {
                    Reply::Answer(status, body) => Reply::Answer(*status, body.clone()),
                    Reply::Hang => Reply::Hang,
                },
                _ => replies.pop_front().unwrap_or(Reply::Hang),
            }
        };
        let Reply::Answer(status, body) = reply else { return };
        let answer =
            format!("HTTP/1.1 {status} X\r\nx-amzn-requestid: r-2\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let request = Request { head: head.to_owned(), body: body.to_owned() };
            let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return Some(request);
            }
        }
        let mut buffer = [0; 8192];
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
    }
}
