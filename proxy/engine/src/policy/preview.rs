//! What stages make of a request that has not come, for whoever asks before it does.
//!
//! Rule: nothing is worked out a second time: the plan, the templates and the origins are those that serve, and the
//! head is read as one that comes. What only a connection knows (a certificate, who else is asked) is not there.
//! Called by `python`, for `explain`.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

use super::changes::cors::Cors;
use super::changes::template::{Escape, Template, Values};
use super::facts::Facts;
use super::guards::basic;
use super::guards::vault::Vault;
use super::limits::in_flight::InFlight;
use super::limits::meter::Meter;
use super::limits::refused::Refused;
use super::plan::Plan;
use super::{Answer, Verdict};
use crate::protocol::h1::RequestHead;
use crate::protocol::h1::error::Reject;
use crate::protocol::h1::request;
use crate::protocol::lines::Lines;
use crate::routing::regexes::Regexes;
use crate::state::digest::Digest;
use crate::state::entity::{self, Entity, Frontend, Material, PathMatch};
use crate::state::entry::Entry;
use crate::state::listener::{Listener, ListenerSettings, Routes};
use crate::state::named::Named;

/// A request as it would come, and who would take it.
pub struct Coming<'a> {
    /// The frontend's name, and what it says.
    pub frontend: (&'a str, &'a Frontend),
    /// Those on which it is served; the first is the one that the request comes to.
    pub listeners: Vec<(String, Arc<entity::Listener>)>,
    /// Its head, whole.
    pub head: &'a [u8],
    /// Who sends it; unknown: nobody's address.
    pub client: Option<IpAddr>,
}

/// What would be asked about it.
pub struct Questions<'a> {
    /// Values of header fields, with templates in them.
    pub texts: &'a [String],
    /// Which pages may read the answer.
    pub cors: Option<&'a entity::Cors>,
}

/// What would be made of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// The status and the location by which it is sent to TLS.
    pub to_tls: Option<Sent>,
    /// The same by which its frontend ends it, whatever else it does; without a location where it is answered.
    pub end: Option<Sent>,
    /// The path and the query that a backend gets, where they change.
    pub target: Option<Vec<u8>>,
    /// The same of its host.
    pub host: Option<Vec<u8>>,
    /// What the texts come to, in their order.
    pub values: Vec<Vec<u8>>,
    /// The origin whose pages may read the answer.
    pub origin: Option<Vec<u8>>,
    /// The user whom it names with a password.
    pub user: Option<Vec<u8>>,
}

/// Of a value nobody reads more, and there may be many of them.
const VALUE_BYTES_MAX: usize = 4096;

/// A status, and where to.
pub type Sent = (u16, Option<String>);

/// Why there is nothing to be said.
#[derive(Debug)]
pub enum Unseen {
    /// It is refused before it comes to a frontend.
    Refused(Reject),
    /// It has no end.
    Incomplete,
    /// This cannot be compiled.
    Uncompilable(String),
}

impl Coming<'_> {
    /// Has it looked at as the stages would see it.
    ///
    /// # Errors
    /// Why there is nothing to be said about it.
    pub fn preview(&self, asked: &Questions<'_>) -> Result<Preview, Unseen> {
        let [(came_to, first), ..] = &*self.listeners else {
            return Err(Unseen::Uncompilable("it is on no listener".to_owned()));
        };
        let listener = ListenerSettings::new(first.clone(), None);
        let mut head = RequestHead::default();
        head.slashes = listener.slashes;
        let read = request::parse(self.head, &listener.head_limits, &mut head);
        read.map_err(Unseen::Refused)?.ok_or(Unseen::Incomplete)?;
        let (name, frontend) = self.frontend;
        look(
            frontend,
            asked,
            &Facts {
                head: &head,
                bytes: self.head,
                said: Lines::default(),
                claims: &[],
                listener: &listener,
                listener_name: came_to,
                peer: self.client.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
                is_early: false,
                client: None,
                tls_version: "",
                own_id: b"",
                frontend_name: name,
                frontend_listeners: &frontend.listeners,
                vault: &Vault::default(),
                tokens: &Vault::default(),
                meter: &Meter::default(),
                refused: &Refused::default(),
                in_flight: &InFlight::default(),
                now_ns: 0,
                unix_us: 0,
                listeners: &self.running(),
            },
        )
        .map_err(Unseen::Uncompilable)
    }

    /// The listeners as a worker has them, but that they accept nothing.
    fn running(&self) -> Named<Rc<Listener>> {
        let mut running = Named::default();
        for (name, said) in &self.listeners {
            let Ok(address) = said.socket_addr() else {
                continue;
            };
            let entry = Entry::new(name, Entity::Listener(said.clone()), Digest::default());
            let settings = ListenerSettings::new(said.clone(), None);
            let routes = Routes::default();
            let listener = Listener::new(Arc::new(entry), address, settings, None, routes);
            running.insert(Rc::new(listener));
        }
        running
    }
}

fn look(frontend: &Frontend, asked: &Questions<'_>, facts: &Facts<'_>) -> Result<Preview, String> {
    let mut regexes = Regexes::default();
    // What files say is no part of it.
    let nothing_read = |_: &Material| Ok(Some([].as_slice()));
    let plan = Plan::of(frontend, &mut regexes, nothing_read)?;
    let expression = match &frontend.path {
        PathMatch::Regex(pattern) => Some(regexes.compile_pattern(pattern)?),
        PathMatch::Exact(_) | PathMatch::Prefix(_) | PathMatch::Suffix(_) => None,
    };
    let mut found = Preview::default();
    if let Some(plan) = plan {
        found.to_tls = sent(plan.to_tls(facts));
        found.end = sent(plan.end(facts));
        match plan.changes(facts) {
            Ok(Some(changes)) => (found.target, found.host) = (changes.target, changes.host),
            Ok(None) => {}
            Err(Answer { status, .. }) => found.end = Some((status, None)),
        }
    }
    for text in asked.texts {
        let mut made = Vec::new();
        let values = Values::new(facts, expression.as_ref());
        let template = Template::parse(text, expression.as_deref())?;
        if template.write(&values, Escape::Header, &mut made).is_err() {
            found.end.get_or_insert((431, None));
        }
        let value = made.trim_ascii();
        found
            .values
            .push(value[..value.len().min(VALUE_BYTES_MAX)].to_vec());
    }
    let cors = asked.cors.map(Cors::of);
    found.origin = cors.and_then(|cors| cors.allowed(facts).map(<[u8]>::to_vec));
    found.user = basic::shown(facts).map(|(user, _)| user);
    Ok(found)
}

fn sent(verdict: Verdict) -> Option<Sent> {
    let Verdict::Answer(answer) = verdict else {
        return None;
    };
    let place = answer.lines.lines().values("location").next();
    Some((
        answer.status,
        place.map(|place| String::from_utf8_lossy(place).into_owned()),
    ))
}
