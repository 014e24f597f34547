//! Getting through a proxy: SOCKS version 5 (RFC 1928, 1929) and HTTP's CONNECT.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::options::{ProxyKind, ProxyOptions};

/// Longest head of an HTTP answer.
const LONGEST_HEAD: usize = 16 * 1024;

/// Why a proxy did not connect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("the connection to the proxy broke")]
    Broken(#[from] std::io::Error),
    #[error("this is no SOCKS5 proxy")]
    NotSocks,
    #[error("the proxy wants a login that was not given")]
    NoLogin,
    #[error("the proxy refused the login")]
    Login,
    #[error("the proxy cannot connect: {0}")]
    Refused(String),
    #[error("this is no HTTP proxy")]
    NotHttp,
    #[error("{0} is too long for a SOCKS5 proxy")]
    TooLong(&'static str),
}

/// Asks the proxy at the other end of the stream to go on to a host; afterwards the stream leads there.
pub(crate) async fn connect<S>(stream: &mut S, proxy: &ProxyOptions, host: &str, port: u16) -> Result<(), ProxyError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match proxy.kind {
        ProxyKind::Socks5 => socks5(stream, proxy, host, port).await,
        ProxyKind::Http => http(stream, proxy, host, port).await,
    }
}

async fn socks5<S>(stream: &mut S, proxy: &ProxyOptions, host: &str, port: u16) -> Result<(), ProxyError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let greeting: &[u8] = if proxy.login.is_some() { &[5, 2, 0, 2] } else { &[5, 1, 0] };
    stream.write_all(greeting).await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    match (answer, &proxy.login) {
        ([5, 0], _) => {}
        ([5, 2], Some((user, password))) => {
            let mut request = vec![1];
            short(&mut request, user.as_bytes(), "the proxy's user")?;
            short(&mut request, password.expose().as_bytes(), "the proxy's password")?;
            stream.write_all(&request).await?;
            stream.read_exact(&mut answer).await?;
            if answer[1] != 0 {
                return Err(ProxyError::Login);
            }
        }
        ([5, _], None) => return Err(ProxyError::NoLogin),
        ([5, _], Some(_)) => return Err(ProxyError::Login),
        _ => return Err(ProxyError::NotSocks),
    }
    let mut request = vec![5, 1, 0];
    match host.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(address)) => {
            request.push(1);
            request.extend(address.octets());
        }
        Ok(std::net::IpAddr::V6(address)) => {
            request.push(4);
            request.extend(address.octets());
        }
        Err(_) => {
            request.push(3);
            short(&mut request, host.as_bytes(), "the host's name")?;
        }
    }
    request.extend(port.to_be_bytes());
    stream.write_all(&request).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    if head[0] != 5 {
        return Err(ProxyError::NotSocks);
    }
    if head[1] != 0 {
        return Err(ProxyError::Refused(socks5_reason(head[1])));
    }
    let length = match head[3] {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await?),
        _ => return Err(ProxyError::NotSocks),
    };
    stream.read_exact(&mut vec![0; length + 2]).await?;
    Ok(())
}

/// Appends a text with its length in one byte.
fn short(request: &mut Vec<u8>, text: &[u8], what: &'static str) -> Result<(), ProxyError> {
    request.push(u8::try_from(text.len()).map_err(|_| ProxyError::TooLong(what))?);
    request.extend(text);
    Ok(())
}

fn socks5_reason(code: u8) -> String {
    let reason = match code {
        1 => "general failure",
        2 => "its rules do not allow it",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "command not supported",
        8 => "kind of address not supported",
        other => return format!("code {other}"),
    };
    reason.to_owned()
}

async fn http<S>(stream: &mut S, proxy: &ProxyOptions, host: &str, port: u16) -> Result<(), ProxyError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some((user, password)) = &proxy.login {
        let login = STANDARD.encode(format!("{user}:{}", password.expose()));
        request.push_str(&format!("Proxy-Authorization: Basic {login}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    // Byte by byte: what comes after the head is not ours.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
        head.push(stream.read_u8().await?);
        if head.len() > LONGEST_HEAD {
            return Err(ProxyError::NotHttp);
        }
    }
    let head = String::from_utf8_lossy(&head);
    let status = head.lines().next().unwrap_or_default();
    let mut words = status.splitn(3, ' ');
    let (Some(version), Some(code)) = (words.next(), words.next()) else { return Err(ProxyError::NotHttp) };
    if !version.starts_with("HTTP/1.") {
        return Err(ProxyError::NotHttp);
    }
    match (code, &proxy.login) {
        (code, _) if code.len() == 3 && code.starts_with('2') => Ok(()),
        ("407", None) => Err(ProxyError::NoLogin),
        ("407", Some(_)) => Err(ProxyError::Login),
        _ => Err(ProxyError::Refused(format!("{code} {}", words.next().unwrap_or_default()).trim_end().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use kiln_core::Secret;
    use tokio::io::duplex;

    use super::*;

    fn proxy(kind: ProxyKind, login: Option<(&str, &str)>) -> ProxyOptions {
        let login = login.map(|(user, password)| (user.to_owned(), Secret::new(password)));
        ProxyOptions { kind, host: "p".to_owned(), port: 1, login }
    }

    /// What a proxy that answers so was asked, and what came of it.
    async fn ask(proxy: &ProxyOptions, host: &str, answer: &[u8]) -> (Vec<u8>, Result<(), ProxyError>) {
        let (mut here, mut there) = duplex(4096);
        there.write_all(answer).await.unwrap();
        let result = connect(&mut here, proxy, host, 22).await;
        drop(here);
        let mut asked = Vec::new();
        there.read_to_end(&mut asked).await.unwrap();
        (asked, result)
    }

    #[tokio::test]
    async fn socks5_lets_the_proxy_resolve_names() {
        let answer = [&[5, 0][..], &[5, 0, 0, 1, 1, 2, 3, 4, 0, 80]].concat();
        let (asked, result) = ask(&proxy(ProxyKind::Socks5, None), "web", &answer).await;
        result.unwrap();
        assert_eq!(asked, [&[5, 1, 0, 5, 1, 0, 3, 3][..], b"web", &[0, 22]].concat());
    }

    #[tokio::test]
    async fn socks5_logs_in() {
        let answer = [&[5, 2][..], &[1, 0], &[5, 0, 0, 3, 1, b'x', 0, 80]].concat();
        let login = proxy(ProxyKind::Socks5, Some(("me", "pw")));
        let (asked, result) = ask(&login, "10.0.0.1", &answer).await;
        result.unwrap();
        assert_eq!(asked, [&[5, 2, 0, 2, 1, 2][..], b"me", &[2], b"pw", &[5, 1, 0, 1, 10, 0, 0, 1, 0, 22]].concat());
        let (_, result) = ask(&login, "h", &[5, 2, 1, 1]).await;
        assert_eq!(result.unwrap_err().to_string(), "the proxy refused the login");
        let (_, result) = ask(&proxy(ProxyKind::Socks5, None), "h", &[5, 0xff]).await;
        assert_eq!(result.unwrap_err().to_string(), "the proxy wants a login that was not given");
    }

    #[tokio::test]
    async fn socks5_says_why_not() {
        let none = proxy(ProxyKind::Socks5, None);
        let (_, result) = ask(&none, "h", &[5, 0, 5, 5, 0, 1]).await;
        assert_eq!(result.unwrap_err().to_string(), "the proxy cannot connect: connection refused");
        let (_, result) = ask(&none, "h", b"HTTP").await;
        assert_eq!(result.unwrap_err().to_string(), "this is no SOCKS5 proxy");
        let (_, result) = ask(&none, &"h".repeat(300), &[5, 0]).await;
        assert_eq!(result.unwrap_err().to_string(), "the host's name is too long for a SOCKS5 proxy");
    }

    #[tokio::test]
    async fn http_connects_and_leaves_what_follows() {
        let (mut here, mut there) = duplex(4096);
        there.write_all(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nSSH-2.0").await.unwrap();
        connect(&mut here, &proxy(ProxyKind::Http, Some(("me", "pw"))), "::1", 22).await.unwrap();
        let mut rest = [0; 7];
        here.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"SSH-2.0");
        drop(here);
        let mut asked = String::new();
        there.read_to_string(&mut asked).await.unwrap();
        let expected = "CONNECT [::1]:22 HTTP/1.1\r\nHost: [::1]:22\r\nProxy-Authorization: Basic bWU6cHc=\r\n\r\n";
        assert_eq!(asked, expected);
    }

    #[tokio::test]
    async fn http_says_why_not() {
        let none = proxy(ProxyKind::Http, None);
        for (answer, why) in [
            ("HTTP/1.0 403 Forbidden\r\n\r\n", "the proxy cannot connect: 403 Forbidden"),
            ("HTTP/1.1 407 Login\r\n\r\n", "the proxy wants a login that was not given"),
            ("SSH-2.0-x\r\n\r\n", "this is no HTTP proxy"),
        ] {
            assert_eq!(ask(&none, "h", answer.as_bytes()).await.1.unwrap_err().to_string(), why);
        }
    }
}
