//! All that an engine does for a request and its response, but what the kernel does: two turns of its loop, with
//! so many clients at once, each of whom has a connection of his own to the backend.

use std::hint::black_box;

use crate::rig::{Peer, Rig, Spoken};

const REQUEST: &[u8] = b"GET /64 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sun, 29 Nov 2026 08:00:00 GMT\r\n\
Content-Type: application/octet-stream\r\nContent-Length: 64\r\nLast-Modified: Sat, 28 Nov 2026 08:00:00 GMT\r\n\
Connection: keep-alive\r\nETag: \"65646a1e-40\"\r\nAccept-Ranges: bytes\r\n\r\n\
0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Rounds in which buffers grow and connections come to be reused.
const WARM_UP: usize = 50;

/// An engine, its clients, and their connections to the backend.
pub struct Whole {
    rig: Rig,
    clients: Vec<Peer>,
    backends: Vec<Peer>,
}

impl Whole {
    /// So many clients, with everything behind them that is made only once.
    pub fn new(clients: usize) -> Self {
        let mut rig = Rig::new(Spoken::Http1);
        let clients = (0..clients).map(|_| rig.client()).collect();
        let mut whole = Self {
            rig,
            clients,
            backends: Vec::new(),
        };
        for _ in 0..WARM_UP {
            whole.round(Rig::settle);
        }
        whole
    }

    /// A request of each client, counted, and how many that are.
    pub fn count(&mut self, rounds: usize) -> usize {
        for _ in 0..rounds {
            self.round(measured);
        }
        rounds * self.clients.len()
    }

    fn round(&mut self, work: fn(&mut Rig)) {
        for client in &mut self.clients {
            client.send(REQUEST);
        }
        work(&mut self.rig);
        while self.backends.len() < self.clients.len() {
            let backend = self.rig.backend();
            self.backends
                .push(backend.expect("each client has a connection to the backend"));
        }
        for backend in &mut self.backends {
            assert!(!backend.hear().is_empty(), "a request has not arrived");
            backend.got.clear();
            backend.send(RESPONSE);
        }
        work(&mut self.rig);
        for client in &mut self.clients {
            assert!(!client.hear().is_empty(), "a response has not arrived");
            client.got.clear();
        }
    }
}

/// Callgrind counts what happens within this.
#[inline(never)]
fn measured(rig: &mut Rig) {
    black_box(rig).turn();
}
