//! A loopback proxy that can drop dead, to show what happens when a registry goes away halfway.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// See the module.
pub(crate) struct DyingProxy {
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    /// Whether it has died.
    pub(crate) dead: Arc<AtomicBool>,
}

impl DyingProxy {
    /// Passes on `bytes` bytes of requests to `upstream`, then cuts every connection and takes no more.
    pub(crate) fn start(upstream: &str, bytes: usize) -> DyingProxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let dead = Arc::new(AtomicBool::new(false));
        let budget = Arc::new(AtomicUsize::new(bytes));
        let upstream = upstream.to_owned();
        let is_dead = Arc::clone(&dead);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if is_dead.load(Ordering::SeqCst) {
                    let _ = client.shutdown(Shutdown::Both);
                    continue;
                }
                let Ok(server) = TcpStream::connect(&upstream) else { continue };
                let (mut back_from, mut back_to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut back_from, &mut back_to));
                let (budget, is_dead) = (Arc::clone(&budget), Arc::clone(&is_dead));
                std::thread::spawn(move || forward(client, server, &budget, &is_dead));
            }
        });
        DyingProxy { address, dead }
    }
}

fn forward(mut client: TcpStream, mut server: TcpStream, budget: &AtomicUsize, is_dead: &AtomicBool) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count) = client.read(&mut buffer) {
        if count == 0 || server.write_all(&buffer[..count]).is_err() {
            break;
        }
        let left = budget.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| Some(left.saturating_sub(count)));
        if left.is_ok_and(|left| left <= count) {
            is_dead.store(true, Ordering::SeqCst);
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}
