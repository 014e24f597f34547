//! A way to an engine's socket by TCP, which may keep an answer to itself.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// See the module. It listens until the test ends.
pub(crate) struct EngineProxy {
    /// `tcp://127.0.0.1:PORT`.
    pub(crate) address: String,
    /// Told when the engine has answered what nobody hears of.
    pub(crate) withheld: Receiver<()>,
}

impl EngineProxy {
    /// In front of a socket (`unix://PATH`). Answers to requests for the path `withhold` stay here.
    pub(crate) fn start(engine: &str, withhold: Option<&'static str>) -> EngineProxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let (sender, withheld) = channel();
        let socket = engine.trim_start_matches("unix://").to_owned();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = UnixStream::connect(&socket) else { continue };
                serve(client, server, withhold, sender.clone());
            }
        });
        EngineProxy { address, withheld }
    }
}

fn serve(mut client: TcpStream, mut server: UnixStream, withhold: Option<&'static str>, sender: Sender<()>) {
    let (mut answers, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let is_withheld = Arc::new(AtomicBool::new(false));
    let keeps = Arc::clone(&is_withheld);
    std::thread::spawn(move || {
        copy(&mut client, &mut server, |piece| {
            let asks = |path| String::from_utf8_lossy(&piece[..piece.len().min(200)]).contains(path);
            is_withheld.fetch_or(withhold.is_some_and(asks), Ordering::SeqCst);
            true
        });
        let _ = server.shutdown(Shutdown::Write);
    });
    std::thread::spawn(move || {
        copy(&mut answers, &mut to_client, |piece| {
            // The last piece of a body without a length.
            if keeps.load(Ordering::SeqCst) && piece.ends_with(b"0\r\n\r\n") {
                let _ = sender.send(());
            }
            !keeps.load(Ordering::SeqCst)
        });
        let _ = to_client.shutdown(Shutdown::Write);
    });
}

/// Passes on the pieces that may pass.
fn copy(from: &mut impl Read, to: &mut impl Write, may_pass: impl Fn(&[u8]) -> bool) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if may_pass(&buffer[..count]) && to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}
