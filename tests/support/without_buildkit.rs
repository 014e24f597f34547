//! A Docker engine without BuildKit: the real one, behind a socket that refuses what BuildKit is asked over.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Listens until the test ends.
pub(crate) struct WithoutBuildkit {
    path: PathBuf,
}

impl WithoutBuildkit {
    /// In front of the engine's socket.
    pub(crate) fn start(directory: &Path, engine: &str) -> WithoutBuildkit {
        let path = directory.join("engine.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let engine = engine.to_owned();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let engine = engine.clone();
                std::thread::spawn(move || serve(client, &engine));
            }
        });
        WithoutBuildkit { path }
    }

    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.path.display())
    }
}

/// A connection for BuildKit is refused at its first line; all others go through.
fn serve(mut client: UnixStream, engine: &str) {
    let mut head = [0; 64];
    let Ok(length @ 1..) = client.read(&mut head) else { return };
    let first = String::from_utf8_lossy(&head[..length]).into_owned();
    if first.starts_with("POST /grpc") || first.starts_with("POST /session") {
        let _ = client.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        return;
    }
    let Ok(mut server) = UnixStream::connect(engine) else { return };
    let (Ok(mut from_client), Ok(mut to_client)) = (client.try_clone(), client.try_clone()) else { return };
    let Ok(mut from_server) = server.try_clone() else { return };
    if server.write_all(&head[..length]).is_err() {
        return;
    }
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(std::net::Shutdown::Both);
    });
    let _ = std::io::copy(&mut from_client, &mut server);
    let _ = server.shutdown(std::net::Shutdown::Write);
}
