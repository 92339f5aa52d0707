//! Which frontend takes a request, and whether another one would for those who read its path otherwise.

use std::net::IpAddr;
use std::rc::Rc;

use crate::policy::asking::Asking;
use crate::protocol::h1::request::RequestHead;
use crate::protocol::lines::Lines;
use crate::routing::matcher::{HeaderLookup, Request};
use crate::routing::readings;
use crate::runtime::driver::Driver;
use crate::session::engine::Engine;
use crate::session::exchange::record::Record;
use crate::session::front::asker::Asker;
use crate::state::frontend::Frontend;
use crate::state::listener::ListenerSettings;
use crate::upstream::Cluster;

/// A parsed head and its sender, for the routing table.
struct Fields<'a> {
    head: &'a RequestHead,
    bytes: &'a [u8],
    /// What is said of it, as lines of its head.
    said: Lines<'a>,
    listener: &'a ListenerSettings,
    peer: IpAddr,
}

impl HeaderLookup for Fields<'_> {
    fn any_value(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let said = self.said.values(name);
        self.head.values(self.bytes, name).chain(said).any(test)
    }

    fn client_address(&self) -> Option<IpAddr> {
        Asking::of(self.head, self.bytes, self.listener, self.peer).client()
    }
}

impl<D: Driver> Engine<D> {
    pub(super) fn route(
        &self,
        asker: Asker,
        listener: &ListenerSettings,
        head: &RequestHead,
        bytes: &[u8],
    ) -> Option<Rc<Frontend>> {
        self.route_to(asker, listener, (head, bytes), head.path(bytes))
    }

    /// Whether a server may read another path in a request than we do, and a frontend that takes that one lets
    /// fewer pass. What a frontend spells that way itself is meant.
    pub(super) fn slips_past(
        &self,
        asker: Asker,
        listener: &ListenerSettings,
        (head, bytes): (&RequestHead, &[u8]),
        frontend: &Frontend,
        record: &Record,
    ) -> bool {
        if head.has_plain_path() {
            return false;
        }
        let path = head.path(bytes);
        if memchr::memchr2(b'%', b';', path).is_none() || frontend.spells_escapes() {
            return false;
        }
        let facts = || self.facts(asker, listener, (head, bytes), Some(frontend), record);
        let is_secure = || facts().is_secure();
        readings::others(path).iter().any(|path| {
            let other = self.route_to(asker, listener, (head, bytes), path);
            other.is_some_and(|other| other.guards_beyond(frontend, listener, is_secure))
        })
    }

    fn route_to(
        &self,
        asker: Asker,
        listener: &ListenerSettings,
        (head, bytes): (&RequestHead, &[u8]),
        path: &[u8],
    ) -> Option<Rc<Frontend>> {
        let frontends = self.client_of(asker).listener.routes.frontends.borrow();
        let fields = self.fields(asker, listener, (head, bytes), Lines::default());
        let request = Request {
            host: head.host(bytes),
            path,
            query: head.query(bytes),
            method: head.method(bytes),
            headers: &fields,
        };
        frontends.lookup(&request).cloned()
    }

    #[inline]
    fn fields<'a>(
        &self,
        asker: Asker,
        listener: &'a ListenerSettings,
        (head, bytes): (&'a RequestHead, &'a [u8]),
        said: Lines<'a>,
    ) -> Fields<'a> {
        Fields {
            head,
            bytes,
            said,
            listener,
            peer: self.client_of(asker).peer.ip(),
        }
    }

    /// Where a request goes of which that is said, if its frontend does not answer it.
    #[inline(always)]
    pub(super) fn cluster_of(
        &self,
        frontend: &Frontend,
        asker: Asker,
        listener: &ListenerSettings,
        (head, bytes, said): (&RequestHead, &[u8], Lines<'_>),
        record: &Record,
    ) -> Option<Rc<Cluster>> {
        if let Some(cluster) = frontend.cluster() {
            return Some(cluster.clone());
        }
        let fields = self.fields(asker, listener, (head, bytes), said);
        frontend.cluster_of(&fields, &record.request_id).cloned()
    }
}
