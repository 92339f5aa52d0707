//! An engine with connections, for the tests of what no peer can bring about.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;

use crate::runtime::epoll::Epoll;
use crate::runtime::socket::{self, Stream};
use crate::session::engine::Engine;
use crate::session::engine::Served;
use crate::session::ids::ClientId;
use crate::session::plain::Plain;
use crate::session::transport::Transport;
use crate::state::digest::Digest;
use crate::state::entity::{Entity, Kind};
use crate::state::entry::Entry;
use crate::state::listener::{Listener, ListenerSettings, Routes};
use crate::telemetry::counters::Metrics;
use crate::tls::certificates::Certificates;
use crate::tls::challenges::Challenges;

const LISTENER: &str = r#"{"address":"127.0.0.1:1","limits":{"connections":50}}"#;

/// A listener's connections, and the other ends of them.
pub(super) struct Door {
    pub(super) engine: Engine<Epoll>,
    pub(super) listener: Rc<Listener>,
    pub(super) clients: Vec<ClientId>,
    pub(super) peers: Vec<TcpStream>,
}

/// An engine with so many idle connections of one listener.
pub(super) fn engine_with_clients(count: usize) -> Door {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = door.local_addr().unwrap();
    let served = Served {
        certificates: Arc::new(Certificates::default()),
        challenges: Arc::new(Challenges::default()),
    };
    let (_, inbox) = mpsc::channel();
    let metrics = Metrics::create(0).unwrap();
    let wake = socket::wake_descriptor().unwrap();
    let epoll = Epoll::new().unwrap();
    let mut engine = Engine::new(epoll, wake, inbox, metrics, served, 1).unwrap();
    let entity = Entity::from_json(Kind::Listener, LISTENER).unwrap();
    let entry = Arc::new(Entry::new("web", entity, Digest::default()));
    let Entity::Listener(value) = &entry.entity else {
        panic!("a listener");
    };
    let settings = ListenerSettings::new(value.clone(), None);
    let mut clients = Vec::new();
    let mut peers = Vec::new();
    let accepting = OwnedFd::from(door.try_clone().unwrap());
    let listener = Rc::new(Listener::new(
        entry,
        address,
        settings,
        Some(accepting),
        Routes::default(),
    ));
    for _ in 0..count {
        let stream = Transport::Plain(Plain::new(Stream::connect(&address).unwrap()));
        peers.push(door.accept().unwrap().0);
        let made = engine.insert_client(stream, address, listener.clone(), false);
        let id = made.unwrap();
        engine.await_request(id);
        clients.push(id);
    }
    door.set_nonblocking(true).unwrap();
    engine.tables.running.listeners.insert(listener.clone());
    Door {
        engine,
        listener,
        clients,
        peers,
    }
}
