//! Connections to backends: taken out of the pool, or made, and given the head of the request.
//!
//! Rule: whether another backend is tried when one cannot be reached is said in `exchange::attempt`.

use std::io;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::protocol::proxy;
use crate::runtime::buffer::ByteQueue;
use crate::runtime::driver::Driver;
use crate::runtime::socket::Endpoint;
use crate::runtime::timer::Deadline;
use crate::session::back::carrier::Carrier;
use crate::session::back::upstream::{Link, Upstream};
use crate::session::engine::Engine;
use crate::session::exchange::Outcome;
use crate::session::front::client::split_left;
use crate::session::ids::{ExchangeId, UpstreamId};
use crate::session::plain::Plain;
use crate::session::queue::Bulk;
use crate::session::transport::Transport;
use crate::state::entity::{self, ProxyProtocol};
use crate::telemetry::names::{Counter, Field, Histogram};
use crate::upstream::{Backend, ClusterSettings};

impl<D: Driver> Engine<D> {
    /// Gives the request of an exchange to a backend: by a connection that is there, or by a new one.
    ///
    /// # Errors
    /// When none can be begun.
    pub(in crate::session) fn reach(
        &mut self,
        exchange: ExchangeId,
        backend: &Rc<Backend>,
    ) -> io::Result<()> {
        if self.exchanges[exchange].is_multiplexed() {
            return self.join_shared(exchange, backend);
        }
        match self.reuse_connection(exchange, backend) {
            true => Ok(()),
            false => self.connect(exchange, backend),
        }
    }

    fn connect(&mut self, exchange: ExchangeId, backend: &Rc<Backend>) -> io::Result<()> {
        let cluster = self.exchanges[exchange].cluster.clone();
        let id = self.open_upstream(&cluster, backend)?;
        self.carry_by_connection(exchange, id);
        // On a loopback or a near network the connect is done already: one wake-up less.
        self.try_connected(id);
        Ok(())
    }

    /// A connection that has just been begun, with the time for it running.
    pub(super) fn open_upstream(
        &mut self,
        cluster: &ClusterSettings,
        backend: &Rc<Backend>,
    ) -> io::Result<UpstreamId> {
        self.metrics.add(Counter::UpstreamConnectsTotal, 1);
        let stream = backend.address.connect()?;
        let stream = match &cluster.tls {
            None => Transport::Plain(Plain::new(stream)),
            Some(config) => {
                let name = server_name(&cluster.entity, backend);
                Transport::connect_tls(stream, config.clone(), name)?
            }
        };
        let id = self.insert_upstream(stream, cluster.tls.clone(), backend)?;
        backend.connected();
        self.metrics.add(Counter::UpstreamConnectionsNow, 1);
        self.await_upstream_for(id, cluster.entity.timeouts.connect);
        Ok(id)
    }

    fn insert_upstream(
        &mut self,
        stream: Transport,
        tls: Option<Arc<ClientConfig>>,
        backend: &Rc<Backend>,
    ) -> io::Result<UpstreamId> {
        let vacant = self.upstreams.vacant();
        let id = vacant.id();
        if let Some(socket) = stream.raw() {
            self.driver.watch_stream(socket, id.token())?;
        }
        vacant.insert(Upstream {
            stream,
            tls,
            backend: backend.clone(),
            link: Link::Connecting,
            reused: false,
            readable: false,
            hangup: false,
            input_waits: false,
            queued: false,
            bulk: Bulk::default(),
            flush_waits: false,
            keep_alive: false,
            shut_when_sent: false,
            input: ByteQueue::default(),
            output: ByteQueue::default(),
            awaits_body: false,
            exchange: None,
            deadline: Deadline::NONE,
            connect_started_us: self.clock.us(),
            pooled_ms: 0,
            unacknowledged: 0,
            shared: None,
        });
        Ok(id)
    }

    /// Gives an exchange a connection of its own.
    pub(super) fn carry_by_connection(&mut self, exchange: ExchangeId, id: UpstreamId) {
        self.upstreams[id].exchange = Some(exchange);
        self.carry(exchange, Carrier::Connection(id));
    }

    /// Tries the first send on a connecting socket: its outcome is the connect's.
    pub(super) fn try_connected(&mut self, id: UpstreamId) {
        if self.upstreams[id].shared.is_some() {
            return self.greet(id);
        }
        let upstream = &mut self.upstreams[id];
        let Some(exchange) = upstream.exchange else {
            return;
        };
        if upstream.tls.is_some() {
            return self.try_begun(id, exchange);
        }
        let preamble = self.preamble_of(exchange);
        let upstream = &mut self.upstreams[id];
        let head = &self.exchanges[exchange].head;
        match upstream
            .stream
            .send(&mut self.tls, &mut self.pool, &preamble, head)
        {
            Ok(sent) => {
                let (preamble_left, left) = split_left(&preamble, head, sent);
                upstream.output.push(&mut self.pool, preamble_left);
                upstream.output.push(&mut self.pool, left);
                self.connected(id);
                self.head_sent(Carrier::Connection(id), exchange);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.connect_failed(exchange, Outcome::ConnectFailed),
        }
    }

    /// What a backend is told before anything else: who the client is, if it wants to know.
    fn preamble_of(&self, exchange: ExchangeId) -> Vec<u8> {
        let exchange = &self.exchanges[exchange];
        let Some(version) = exchange.cluster.entity.proxy_protocol else {
            return Vec::new();
        };
        let (source, destination) = self.ends_of(exchange.asker);
        let mut preamble = Vec::new();
        match version {
            ProxyProtocol::V1 => proxy::write_v1(&mut preamble, source, destination),
            ProxyProtocol::V2 => proxy::write_v2(&mut preamble, source, destination),
        }
        preamble
    }

    /// The same over TLS: the first send is that of the handshake.
    fn try_begun(&mut self, id: UpstreamId, exchange: ExchangeId) {
        let preamble = self.preamble_of(exchange);
        let upstream = &mut self.upstreams[id];
        match upstream
            .stream
            .begin(&mut self.tls, &mut self.pool, &preamble)
        {
            Ok(()) => upstream.link = Link::Securing,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.connect_failed(exchange, Outcome::ConnectFailed),
        }
    }

    /// Bytes of a handshake have come: sends the head when it is complete.
    pub(super) fn try_secured(&mut self, id: UpstreamId) {
        if self.upstreams[id].shared.is_some() {
            return self.greet_secured(id);
        }
        let upstream = &mut self.upstreams[id];
        let Some(exchange) = upstream.exchange else {
            return;
        };
        if upstream.stream.has_just_opened() {
            self.connected(id);
            self.send_head(id, exchange);
        }
    }

    fn connected(&mut self, id: UpstreamId) {
        self.upstreams[id].link = Link::Busy;
        self.count_connected(id);
    }

    pub(super) fn count_connected(&mut self, id: UpstreamId) {
        let upstream = &self.upstreams[id];
        upstream.backend.connect_succeeded();
        if upstream.tls.is_some() {
            let slot = upstream.backend.slot();
            self.metrics.slot_set(slot, Field::TlsFault, 0);
        }
        let waited = self.clock.us() - upstream.connect_started_us;
        self.metrics.observe(Histogram::ConnectDuration, waited);
    }

    /// Sends the head on a connection out of the pool, or on one that has just been secured.
    pub(super) fn send_head(&mut self, id: UpstreamId, exchange: ExchangeId) {
        let head = &self.exchanges[exchange].head;
        let upstream = &mut self.upstreams[id];
        let entry = &self.exchanges[exchange];
        if self.body_at_hand && !entry.request_done() && !entry.has_kept_body() {
            upstream.output.push(&mut self.pool, head);
            upstream.awaits_body = true;
            return self.await_response(Carrier::Connection(id));
        }
        match upstream
            .stream
            .send(&mut self.tls, &mut self.pool, head, &[])
        {
            Ok(sent) => {
                if sent < head.len() {
                    upstream.output.push(&mut self.pool, &head[sent..]);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                upstream.output.push(&mut self.pool, head)
            }
            // The backend closed it while it was pooled; nothing of the request went anywhere.
            Err(_) if upstream.reused => return self.retry_stale(exchange),
            Err(_) => return self.upstream_failed(id),
        }
        self.head_sent(Carrier::Connection(id), exchange);
    }
}

/// Whom a backend has to be.
fn server_name(cluster: &entity::Cluster, backend: &Backend) -> ServerName<'static> {
    let name = cluster.tls.as_ref().and_then(|tls| tls.server_name.clone());
    name.and_then(|name| ServerName::try_from(name).ok())
        .unwrap_or_else(|| match &backend.address {
            Endpoint::Tcp(address) => ServerName::IpAddress(address.ip().into()),
            Endpoint::Unix(_) => nobody(),
        })
}

/// A name that no certificate has (RFC 6761 §6.4). Who has sockets verified gives a `server_name`.
fn nobody() -> ServerName<'static> {
    ServerName::try_from("socket.invalid").unwrap_or_else(|_| Ipv4Addr::UNSPECIFIED.into())
}
