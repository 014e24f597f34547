//! A small registry in this process that does as it is told: it keeps blobs and manifests in memory, writes down what it is
//! asked, and a rule may answer in its place or break a connection.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use kiln_image::Digest;

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub(super) struct Request {
    pub(super) method: String,
    /// With its query.
    pub(super) path: String,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn query(&self, name: &str) -> Vec<String> {
        let query = self.path.split_once('?').map_or("", |(_, query)| query);
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect()
    }

    pub(super) fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.path.contains(part)
    }
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

pub(super) fn answer(status: u16) -> Answer {
    Answer { status, ..Answer::default() }
}

impl Answer {
    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Answer {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn body(mut self, body: impl Into<Vec<u8>>) -> Answer {
        self.body = body.into();
        self
    }
}

/// What a rule makes of a request whose head has come.
pub(super) enum Rule {
    /// The registry answers.
    Pass,
    /// This is the answer; the body is not waited for.
    Say(Answer),
    /// Hang up after so much of the request's body.
    CutRequest(usize),
    /// Do it, and hang up without an answer.
    Lose,
    /// Hang up after so much of the answer's body.
    CutAnswer(usize),
    /// Say nothing.
    Hang,
    /// This answer, with a body that never ends: so many bytes at a time, with such pauses.
    Flood(Answer, usize, Duration),
}

type Rules = Box<dyn FnMut(&Request) -> Rule + Send>;

/// How logins go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Auth {
    #[default]
    Open,
    /// `user` with `password`.
    Basic,
    /// Tokens from `/token`, for `user` with `password`; nobody else may push.
    Token,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) blobs: BTreeMap<(String, String), Vec<u8>>,
    /// Repository and name (tag or digest) to media type and bytes.
    pub(super) manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    uploads: BTreeMap<String, Vec<u8>>,
    pub(super) log: Vec<Request>,
    /// What was written, by its digest or name, in this order.
    pub(super) stored: Vec<String>,
    rules: Option<Rules>,
    pub(super) auth: Auth,
    /// Tokens that are valid, with what they allow.
    pub(super) tokens: BTreeMap<String, Vec<String>>,
    /// Actions that no token gets.
    pub(super) withheld: Vec<&'static str>,
    /// Without these abilities.
    pub(super) no_range: bool,
    pub(super) no_mount: bool,
    pub(super) no_tag_delete: bool,
    pub(super) no_delete: bool,
    pub(super) no_paging: bool,
    counter: usize,
}

/// A server; it ends with the process.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) address: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(super) fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server { address: listener.local_addr().unwrap().to_string(), state: Arc::default() };
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = serving.clone();
                std::thread::spawn(move || server.serve(&stream));
            }
        });
        server
    }

    pub(super) fn with_auth(auth: Auth) -> Server {
        let server = Server::start();
        server.state().auth = auth;
        server
    }

    /// Has what another has.
    pub(super) fn fill(&self, other: &Server) {
        let blobs = other.state().blobs.clone();
        let manifests = other.state().manifests.clone();
        let mut state = self.state();
        state.blobs = blobs;
        state.manifests = manifests;
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Asked about each request before the registry is.
    pub(super) fn rule(&self, rule: impl FnMut(&Request) -> Rule + Send + 'static) {
        self.state().rules = Some(Box::new(rule));
    }

    /// Breaks the first `times` requests that match.
    pub(super) fn fault(&self, times: usize, method: &'static str, part: &'static str, fault: fn() -> Rule) {
        let mut left = times;
        self.rule(move |request| {
            if left > 0 && request.is(method, part) {
                left -= 1;
                return fault();
            }
            Rule::Pass
        });
    }

    /// `METHOD path` of each request, without pings; digests are cut.
    pub(super) fn asked(&self) -> Vec<String> {
        let state = self.state();
        let requests = state.log.iter().filter(|request| request.path != "/v2/");
        requests.map(|request| format!("{} {}", request.method, request.path)).collect()
    }

    pub(super) fn count(&self, method: &str, part: &str) -> usize {
        self.state().log.iter().filter(|request| request.is(method, part)).count()
    }

    pub(super) fn forget(&self) {
        self.state().log.clear();
        self.state().stored.clear();
    }

    fn serve(&self, stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let mut request = read_head(&mut reader)?;
            let rule = {
                let mut state = self.state();
                let rule = match state.rules.take() {
                    Some(mut rules) => {
                        let rule = rules(&request);
                        state.rules = Some(rules);
                        rule
                    }
                    None => Rule::Pass,
                };
                state.log.push(request.clone());
                rule
            };
            match rule {
                Rule::Hang => std::thread::sleep(Duration::from_secs(3600)),
                Rule::Flood(answer, size, pause) => {
                    flood(stream, &answer, size, pause);
                    return None;
                }
                Rule::CutRequest(length) => {
                    // Of a shorter body all: nobody would send more.
                    let whole = request.header("content-length").and_then(|length| length.parse().ok());
                    let length = whole.unwrap_or(u64::MAX).min(length as u64);
                    let _ = reader.by_ref().take(length).read_to_end(&mut Vec::new());
                    return None;
                }
                Rule::Say(answer) => {
                    let answer = answer.with("connection", "close");
                    send(stream, &request, &answer, None)?;
                    // What is still coming is taken, so that the answer is not lost to a reset.
                    stream.shutdown(std::net::Shutdown::Write).ok()?;
                    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
                    let _ = std::io::copy(&mut reader, &mut std::io::sink());
                    return None;
                }
                Rule::Pass | Rule::Lose | Rule::CutAnswer(_) => {}
            }
            request.body = read_body(&mut reader, &request)?;
            if let Some(last) = self.state().log.iter_mut().rev().find(|last| last.path == request.path) {
                last.body.clone_from(&request.body);
            }
            let answer = self.state().answer(&request, &self.address);
            match rule {
                Rule::Lose => return None,
                Rule::CutAnswer(length) => {
                    send(stream, &request, &answer, Some(length))?;
                    return None;
                }
                _ => send(stream, &request, &answer, None)?,
            }
        }
    }
}

fn read_head(reader: &mut impl BufRead) -> Option<Request> {
    // The first byte of TLS, which is not spoken here.
    if reader.fill_buf().ok()?.first() == Some(&0x16) {
        return None;
    }
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let mut request = Request { method: words.next()?.into(), path: words.next()?.into(), ..Request::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => return Some(request),
        }
    }
}

fn read_body(reader: &mut impl BufRead, request: &Request) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if let Some(length) = request.header("content-length") {
        let length: u64 = length.parse().ok()?;
        reader.take(length).read_to_end(&mut body).ok()?;
        return (body.len() as u64 == length).then_some(body);
    }
    if request.header("transfer-encoding").is_some() {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let length = u64::from_str_radix(line.trim(), 16).ok()?;
            let before = body.len();
            reader.by_ref().take(length).read_to_end(&mut body).ok()?;
            if (body.len() - before) as u64 != length {
                return None;
            }
            reader.read_line(&mut line).ok()?;
            if length == 0 {
                break;
            }
        }
    }
    Some(body)
}

fn send(mut stream: &TcpStream, request: &Request, answer: &Answer, cut: Option<usize>) -> Option<()> {
    let mut head = format!("HTTP/1.1 {} X\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if answer.status != 204 && !answer.headers.iter().any(|(name, _)| name == "content-length") {
        head.push_str(&format!("content-length: {}\r\n", answer.body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    if request.method != "HEAD" {
        stream.write_all(&answer.body[..cut.unwrap_or(answer.body.len()).min(answer.body.len())]).ok()?;
    }
    stream.flush().ok()
}

fn flood(mut stream: &TcpStream, answer: &Answer, size: usize, pause: Duration) -> Option<()> {
    write!(stream, "HTTP/1.1 {} X\r\ntransfer-encoding: chunked\r\n", answer.status).ok()?;
    for (name, value) in &answer.headers {
        write!(stream, "{name}: {value}\r\n").ok()?;
    }
    stream.write_all(b"\r\n").ok()?;
    let chunk = format!("{size:x}\r\n{}\r\n", " ".repeat(size));
    loop {
        stream.write_all(chunk.as_bytes()).ok()?;
        std::thread::sleep(pause);
    }
}

impl State {
    fn answer(&mut self, request: &Request, address: &str) -> Answer {
        if request.path.starts_with("/token") {
            return self.token(request);
        }
        if let Some(refusal) = self.refusal(request, address) {
            return refusal;
        }
        let path = request.path.split('?').next().unwrap_or_default();
        let Some(rest) = path.strip_prefix("/v2/") else { return answer(404) };
        if rest.is_empty() {
            return answer(200);
        }
        for kind in ["/blobs/uploads/", "/blobs/", "/manifests/", "/tags/"] {
            if let Some((name, rest)) = rest.split_once(kind) {
                return match kind {
                    "/blobs/uploads/" => self.upload(request, name, rest),
                    "/blobs/" => self.blob(request, name, rest),
                    "/manifests/" => self.manifest(request, name, rest),
                    _ => self.tags(request, name),
                };
            }
        }
        answer(404)
    }

    fn refusal(&self, request: &Request, address: &str) -> Option<Answer> {
        let login = request.header("authorization").unwrap_or_default();
        match self.auth {
            Auth::Open => None,
            Auth::Basic if login == basic("user", "password") => None,
            Auth::Basic => Some(answer(401).with("www-authenticate", "Basic realm=\"test\"")),
            Auth::Token => {
                let scopes = login.strip_prefix("Bearer ").and_then(|token| self.tokens.get(token));
                let action = match request.method.as_str() {
                    "GET" | "HEAD" => "pull",
                    "DELETE" if request.path.contains("/manifests/") => "delete",
                    _ => "push",
                };
                let name = request.path.trim_start_matches("/v2/");
                let allows = |scope: &String| {
                    let mut parts = scope.splitn(3, ':').skip(1);
                    let (repository, actions) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                    name.is_empty()
                        || (name.starts_with(&format!("{repository}/"))
                            && actions.split(',').any(|given| given == action))
                };
                if scopes.is_some_and(|scopes| name.is_empty() || scopes.iter().any(allows)) {
                    return None;
                }
                // The scope is wrong on purpose: clients must not believe it.
                let challenge = format!(r#"Bearer realm="http://{address}/token",service="test",scope="read""#);
                Some(answer(401).with("www-authenticate", challenge))
            }
        }
    }

    fn token(&mut self, request: &Request) -> Answer {
        if request.method == "POST" {
            return answer(404);
        }
        let user = match request.header("authorization") {
            None => None,
            Some(login) if login == basic("user", "password") => Some("user"),
            Some(_) => return answer(401).body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"access denied"}]}"#),
        };
        if request.query("service") != ["test"] {
            return answer(404);
        }
        let mut granted = Vec::new();
        let mut access = Vec::new();
        for scope in request.query("scope") {
            let parts: Vec<&str> = scope.splitn(3, ':').collect();
            let is_given = |action: &&str| !self.withheld.contains(action) && (user.is_some() || *action == "pull");
            let actions: Vec<&str> = parts[2].split(',').filter(is_given).collect();
            if !actions.is_empty() {
                granted.push(format!("repository:{}:{}", parts[1], actions.join(",")));
                access.push(serde_json::json!({"type": "repository", "name": parts[1], "actions": actions}));
            }
        }
        self.counter += 1;
        let claims = serde_json::json!({"iat": 1000, "exp": 1300, "jti": self.counter, "access": access});
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
        self.tokens.insert(token.clone(), granted);
        answer(200).body(serde_json::json!({"token": token}).to_string())
    }

    fn upload(&mut self, request: &Request, name: &str, id: &str) -> Answer {
        let location = |id: &str| format!("/v2/{name}/blobs/uploads/{id}?_state=a%2Fb%3D");
        match request.method.as_str() {
            "POST" => {
                let mount = request.query("mount").into_iter().next();
                if request.header("content-length") != Some("0") {
                    return answer(411);
                }
                if let Some(digest) = mount {
                    if self.no_mount {
                        return answer(404);
                    }
                    let from = (request.query("from").remove(0), digest.clone());
                    if let Some(blob) = self.blobs.get(&from).cloned() {
                        self.blobs.insert((name.to_owned(), digest), blob);
                        return answer(201);
                    }
                }
                self.counter += 1;
                let id = format!("upload-{}", self.counter);
                self.uploads.insert(id.clone(), Vec::new());
                answer(202).with("location", location(&id))
            }
            "PATCH" => match self.uploads.get_mut(id) {
                Some(upload) => {
                    upload.extend_from_slice(&request.body);
                    answer(202).with("location", location(id))
                }
                None => answer(404),
            },
            "PUT" if request.query("_state") != ["a/b="] => answer(400),
            "PUT" => match self.uploads.remove(id) {
                Some(mut upload) => {
                    upload.extend_from_slice(&request.body);
                    let digest = Digest::of(&upload).to_string();
                    if request.query("digest") != [digest.clone()] {
                        return answer(400)
                            .body(r#"{"errors":[{"code":"DIGEST_INVALID","message":"digest mismatch"}]}"#);
                    }
                    self.stored.push(format!("{name}@{digest}"));
                    self.blobs.insert((name.to_owned(), digest.clone()), upload);
                    answer(201).with("docker-content-digest", digest)
                }
                None => answer(404),
            },
            "DELETE" => {
                self.uploads.remove(id);
                answer(204)
            }
            _ => answer(405),
        }
    }

    fn blob(&mut self, request: &Request, name: &str, digest: &str) -> Answer {
        let Some(blob) = self.blobs.get(&(name.to_owned(), digest.to_owned())) else { return answer(404) };
        let length = blob.len();
        if request.method == "HEAD" {
            return answer(200).with("content-length", length.to_string());
        }
        let start =
            request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        match start {
            Some(start) if !self.no_range => {
                answer(206).with("content-range", format!("bytes {start}-{}/{length}", length - 1)).body(&blob[start..])
            }
            _ => answer(200).body(blob.clone()),
        }
    }

    fn manifest(&mut self, request: &Request, name: &str, reference: &str) -> Answer {
        let key = (name.to_owned(), reference.to_owned());
        match request.method.as_str() {
            "PUT" => {
                let digest = Digest::of(&request.body).to_string();
                let media_type = request.header("content-type").unwrap_or_default().to_owned();
                let value = (media_type, request.body.clone());
                self.stored.push(format!("{name}:{reference} {digest}"));
                self.manifests.insert(key, value.clone());
                self.manifests.insert((name.to_owned(), digest.clone()), value);
                answer(201).with("docker-content-digest", digest)
            }
            "DELETE" if self.no_delete || (self.no_tag_delete && !reference.contains(':')) => answer(405),
            "DELETE" => {
                let Some((_, bytes)) = self.manifests.remove(&key) else { return answer(404) };
                if reference.contains(':') {
                    self.manifests.retain(|(other, _), (_, content)| other != name || *content != bytes);
                }
                answer(202)
            }
            _ => match self.manifests.get(&key) {
                None => answer(404).body(r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#),
                Some((media_type, bytes)) => {
                    let accepted = request.headers.iter().filter(|(name, _)| name == "accept");
                    if !accepted.into_iter().any(|(_, value)| value == media_type) {
                        return answer(404);
                    }
                    let found = answer(200)
                        .with("content-type", media_type)
                        .with("docker-content-digest", Digest::of(bytes).as_str());
                    found.body(bytes.clone()).with("content-length", bytes.len().to_string())
                }
            },
        }
    }

    fn tags(&self, request: &Request, name: &str) -> Answer {
        let count: usize = request.query("n").first().and_then(|count| count.parse().ok()).unwrap_or(usize::MAX);
        if self.no_paging && count < usize::MAX {
            return answer(404);
        }
        let last = request.query("last").into_iter().next().unwrap_or_default();
        let all = self.manifests.keys().filter(|(repository, tag)| repository == name && !tag.contains(':'));
        let after: Vec<&String> = all.map(|(_, tag)| tag).filter(|tag| **tag > last).collect();
        // A page has at most two.
        let page: Vec<&String> = after.iter().take(count.min(if self.no_paging { 99 } else { 2 })).copied().collect();
        let listed = answer(200).body(serde_json::json!({"name": name, "tags": page}).to_string());
        match page.last() {
            Some(last) if page.len() < after.len() => {
                listed.with("link", format!(r#"</v2/{name}/tags/list?last={last}&n={count}>; rel="next""#))
            }
            _ => listed,
        }
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
