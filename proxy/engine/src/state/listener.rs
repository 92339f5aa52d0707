//! One listener as it runs: its socket, its routing table, its connections.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;

use super::entity::{self, cidr::Cidr};
use super::entry::Entry;
use super::frontend::Frontend;
use super::named::HasName;
use crate::policy::merged::Merged;
use crate::protocol::h1::{HeadLimits, Slashes};
use crate::routing::table::Table;
use crate::runtime::driver::Token;
use crate::runtime::socket::duplicate;
use crate::state::kinds::registry::Runs;
use crate::tls::policy::Agreements;

type Frontends = Rc<RefCell<Table<Rc<Frontend>>>>;

/// The routing tables of a listener; shared by the object before and after a change of address.
#[derive(Clone, Default)]
pub struct Routes {
    /// Who answers on it.
    pub frontends: Frontends,
    /// Whose TLS is passed on unread, by the name that clients give.
    pub passthroughs: Frontends,
    /// Those of `frontends` whose requests may come as early data.
    early: Frontends,
}

impl Routes {
    /// The tables that lead to a frontend.
    pub fn of(
        &self,
        frontend: &entity::Frontend,
    ) -> impl Iterator<Item = &RefCell<Table<Rc<Frontend>>>> {
        let table = match frontend.passthrough {
            true => &self.passthroughs,
            false => &self.frontends,
        };
        let early = frontend.early_data.then_some(&self.early);
        [table].into_iter().chain(early).map(Rc::as_ref)
    }

    /// Whether a handshake depends on the name that a client gives.
    #[must_use]
    pub fn depend_on_hello(&self) -> bool {
        !self.passthroughs.borrow().is_empty() || !self.early.borrow().is_empty()
    }

    /// Whether some frontend of that host takes early data.
    #[must_use]
    pub fn may_come_early(&self, host: &[u8]) -> bool {
        self.early.borrow().rank(host).is_some()
    }
}

/// The committed settings of a listener, resolved once.
#[derive(Clone)]
pub struct ListenerSettings {
    /// The entity as committed.
    pub entity: Arc<entity::Listener>,
    /// Limits for the parser.
    pub head_limits: HeadLimits,
    /// How it reads paths.
    pub slashes: Slashes,
    /// What it agrees to in handshakes; `None` in clear text.
    pub tls: Option<Agreements>,
    trusted: Vec<Cidr>,
    introducing: Vec<Cidr>,
    said: Option<(Box<str>, Arc<Merged>)>,
}

impl ListenerSettings {
    /// Resolves an entity that [`super::ops`] has checked.
    #[must_use]
    pub fn new(entity: Arc<entity::Listener>, tls: Option<Agreements>) -> Self {
        let head_limits = HeadLimits {
            head_bytes_max: entity.limits.head_bytes as usize,
            header_count_max: entity.limits.header_count as usize,
        };
        let trusted = entity.trusted_networks().unwrap_or_default();
        let introducing = entity.introducing_networks().unwrap_or_default();
        Self {
            slashes: match entity.merge_slashes {
                true => Slashes::Merge,
                false => Slashes::Keep,
            },
            entity,
            head_limits,
            tls,
            trusted,
            introducing,
            said: None,
        }
    }

    /// What its policies say, and the name of the listener, if they say anything.
    #[inline]
    #[must_use]
    pub fn said(&self) -> Option<(&str, &Merged)> {
        let (name, merged) = self.said.as_ref()?;
        Some((name, merged))
    }

    /// The scheme of what is asked here.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Whether a peer begins by telling us who the client is, in the PROXY protocol.
    #[must_use]
    pub fn introduces(&self, peer: IpAddr) -> bool {
        self.introducing
            .iter()
            .any(|network| network.contains(peer))
    }

    /// Whether a peer's forwarding headers are passed on.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(peer))
    }
}

/// A listener. A change of its address makes a new one which takes the routing table over; any
/// other change replaces the settings within it.
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Its address as committed.
    pub address: SocketAddr,
    /// The socket, handed over by the reconciler; `None` before the worker serves, and once it accepts
    /// no more.
    pub socket: RefCell<Option<OwnedFd>>,
    /// Who answers on it.
    pub routes: Routes,
    /// The entity as committed.
    pub entry: RefCell<Arc<Entry>>,
    /// Connections accepted and not yet closed.
    pub connections: Cell<u32>,
    /// How many are accepted in its next turn at most, in quarters; see `session::front::accept`.
    pub accepts: Cell<u32>,
    /// No new connections; the ones there are end with their current request.
    pub draining: Cell<bool>,
    /// The longest idle and the most recently idle connection, 0 for nobody.
    pub idle: Cell<(Token, Token)>,
    settings: RefCell<Rc<ListenerSettings>>,
}

impl Listener {
    /// A listener that has accepted nothing yet.
    #[must_use]
    pub fn new(
        entry: Arc<Entry>,
        address: SocketAddr,
        settings: ListenerSettings,
        socket: Option<OwnedFd>,
        routes: Routes,
    ) -> Self {
        Self {
            name: entry.name.to_string(),
            address,
            socket: RefCell::new(socket),
            routes,
            entry: RefCell::new(entry),
            connections: Cell::new(0),
            accepts: Cell::new(4),
            draining: Cell::new(false),
            idle: Cell::new((0, 0)),
            settings: RefCell::new(Rc::new(settings)),
        }
    }

    /// The descriptor of the listening socket, while it accepts.
    #[must_use]
    pub fn raw_socket(&self) -> Option<RawFd> {
        self.socket.borrow().as_ref().map(AsRawFd::as_raw_fd)
    }

    /// The committed settings.
    #[must_use]
    pub fn settings(&self) -> Rc<ListenerSettings> {
        self.settings.borrow().clone()
    }

    /// Its socket once more, where what comes is from now on something else: connections that are there end as
    /// they began, by a listener of their own. Without a descriptor to spare they go on as what they are.
    #[must_use]
    pub fn socket_for(&self, protocol: entity::ListenerProtocol) -> Option<OwnedFd> {
        let now = self.settings.borrow().entity.protocol;
        (now.is_bytes() != protocol.is_bytes())
            .then(|| duplicate(self.raw_socket()?).ok())
            .flatten()
    }

    /// Has other policies hold; requests that are in flight are served by those of before.
    pub fn say(&self, merged: Option<Arc<Merged>>) {
        let settings = ListenerSettings {
            said: merged.map(|merged| (self.name.as_str().into(), merged)),
            ..ListenerSettings::clone(&self.settings())
        };
        self.settings.replace(Rc::new(settings));
    }

    /// Replaces the settings; connections see them from their next request on.
    pub fn replace_settings(&self, settings: ListenerSettings, entry: Arc<Entry>) {
        self.entry.replace(entry);
        *self.settings.borrow_mut() = Rc::new(settings);
    }
}

impl HasName for Rc<Listener> {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Runs for Rc<Listener> {
    fn with_entry<R>(&self, read: impl FnOnce(&Entry) -> R) -> R {
        read(&self.entry.borrow())
    }
}
