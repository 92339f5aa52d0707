//! The policy: what frontends and listeners have done with requests and answers, by a name.
//!
//! Whatever stands in one may stand in a frontend too. What holds for whom is found out in
//! [`crate::state::merging`], when a change is prepared.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::keys::bandwidth::Bandwidth;
use super::keys::basic::BasicAuth;
use super::keys::bounds::{RequestLimits, RequestTimeouts};
use super::keys::client_certificate::ClientCertificate;
use super::keys::compression::Compression;
use super::keys::concurrency::Concurrency;
use super::keys::cors::Cors;
use super::keys::edits::{HeaderEdits, Of};
use super::keys::forward_auth::ForwardAuth;
use super::keys::jwt::Jwt;
use super::keys::rate::RateLimits;
use super::keys::set_cookie::{self, SetCookie};
use super::language::{defaulted, language};
use super::registry::{Compiling, Kind, Needs, Swap, Value, material};
use crate::policy::merged::{Levels, Merged};
use crate::state::entity::check::{error_page, networks, within};
use crate::state::entity::{Content, ErrorPage, Material};
use crate::state::entry::Entry;
use crate::state::tables::Tables;

defaulted! {
    /// What is done with requests and answers.
    pub struct Policy {
        /// Networks of the clients that alone may ask.
        pub allow: Option<Vec<Box<str>>> = None,
        /// How fast answers leave.
        pub bandwidth: Option<Bandwidth> = None,
        /// Users who may ask.
        pub basic_auth: Option<BasicAuth> = None,
        /// What a client has to have shown of itself.
        pub client_certificate: Option<ClientCertificate> = None,
        /// Which answers are compressed.
        pub compression: Inherited<Compression> = Inherited::Inherit,
        /// How many requests may be in flight.
        pub concurrency: Option<Concurrency> = None,
        /// Which pages of other origins may ask.
        pub cors: Inherited<Cors> = Inherited::Inherit,
        /// Networks of clients that may not ask.
        pub deny: Option<Vec<Box<str>>> = None,
        /// Pages by status; none is the built-in one.
        pub error_pages: BTreeMap<String, Option<ErrorPage>> = BTreeMap::new(),
        /// Who is asked whether a request may pass.
        pub forward_auth: Option<ForwardAuth> = None,
        /// What clients are told of TLS in responses over it.
        pub hsts: Inherited<Hsts> = Inherited::Inherit,
        /// Statuses of backends in whose place our own pages are sent.
        pub intercept: Inherited<Vec<u16>> = Inherited::Inherit,
        /// Whose tokens let requests pass.
        pub jwt: Option<Jwt> = None,
        /// Bounds of requests.
        pub limits: RequestLimits = RequestLimits::default(),
        /// What nearer ones say of who may ask, and how much, replaces this where a listener names it.
        pub overridable: bool = false,
        /// How often who may ask.
        pub rate_limit: Option<RateLimits> = None,
        /// What is done with the fields of requests to backends.
        pub request_headers: HeaderEdits = HeaderEdits::default(),
        /// What is done with the fields of responses to clients.
        pub response_headers: HeaderEdits = HeaderEdits::default(),
        /// What is done with cookies that backends set, by their names.
        pub set_cookie: SetCookie = SetCookie::new(),
        /// How long each step may take.
        pub timeouts: RequestTimeouts = RequestTimeouts::default(),
    }
}

impl Policy {
    /// Reads the files that are kept with what names them.
    pub fn read_files<'a>(
        &self,
        read: impl Fn(&Material) -> Result<Content<'a>, String>,
    ) -> Result<(), String> {
        if let Some(basic) = &self.basic_auth {
            basic.users.read(&read)?;
        }
        self.jwt.as_ref().map_or(Ok(()), |jwt| jwt.keys.read(&read))
    }
}

/// A word that may be left to others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Inherited<T> {
    /// It is left to them.
    #[default]
    Inherit,
    /// There is none, whatever they say.
    Off,
    /// This one.
    Is(T),
}

impl<T: Serialize> Serialize for Inherited<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Inherit => serializer.serialize_str("inherit"),
            Self::Off => serializer.serialize_none(),
            Self::Is(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Inherited<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Option::<WordOr<T>>::deserialize(deserializer)? {
            None => Self::Off,
            Some(WordOr::Word(Inherit::Inherit)) => Self::Inherit,
            Some(WordOr::Value(value)) => Self::Is(value),
        })
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WordOr<T> {
    Word(Inherit),
    Value(T),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Inherit {
    Inherit,
}

language! {
    /// Strict-Transport-Security (RFC 6797).
    pub struct Hsts {
        /// Hosts below this one are meant, too.
        pub include_subdomains: bool = false,
        /// How long clients remember it.
        pub max_age_days: u32,
        /// Browsers may have it built in.
        pub preload: bool = false,
    }
}

impl Hsts {
    /// What its field says.
    pub fn value(&self) -> String {
        let seconds = u64::from(self.max_age_days) * 24 * 3600;
        let subdomains = if self.include_subdomains {
            "; includeSubDomains"
        } else {
            ""
        };
        let preload = if self.preload { "; preload" } else { "" };
        format!("max-age={seconds}{subdomains}{preload}")
    }
}

/// Statuses in one list.
const INTERCEPTED_MAX: usize = 64;

impl Value for Policy {
    type Compiled = ();
    /// What it says runs with those that name it.
    type Running = Arc<Entry>;

    fn check(&self) -> Result<(), String> {
        networks("allow", self.allow.as_deref())?;
        networks("deny", self.deny.as_deref())?;
        self.timeouts.check()?;
        if let Some(bandwidth) = &self.bandwidth {
            bandwidth
                .check()
                .map_err(|reason| format!("bandwidth: {reason}"))?;
        }
        if let Some(basic) = &self.basic_auth {
            basic
                .check()
                .map_err(|reason| format!("basic_auth: {reason}"))?;
        }
        if let Some(asked) = &self.client_certificate {
            asked
                .check()
                .map_err(|reason| format!("client_certificate: {reason}"))?;
        }
        if let Inherited::Is(compression) = &self.compression {
            compression
                .check()
                .map_err(|reason| format!("compression: {reason}"))?;
        }
        if let Some(limit) = &self.concurrency {
            limit
                .check()
                .map_err(|reason| format!("concurrency: {reason}"))?;
        }
        if let Some(rate) = &self.rate_limit {
            rate.check()
                .map_err(|reason| format!("rate_limit: {reason}"))?;
        }
        if let Inherited::Is(statuses) = &self.intercept {
            within("intercept", statuses.len(), 1..=INTERCEPTED_MAX)?;
            let is_known = |status: &u16| (400..=599).contains(status);
            if !statuses.iter().all(is_known) || !statuses.is_sorted_by(|a, b| a < b) {
                return Err(
                    "intercept: expected statuses from 400 to 599, sorted, each once".into(),
                );
            }
        }
        if let Inherited::Is(cors) = &self.cors {
            cors.check().map_err(|reason| format!("cors: {reason}"))?;
        }
        if let Some(jwt) = &self.jwt {
            jwt.check().map_err(|reason| format!("jwt: {reason}"))?;
        }
        for (status, page) in &self.error_pages {
            error_page(status, page.as_ref())?;
        }
        if let Some(asked) = &self.forward_auth {
            let named = |reason: String| format!("forward_auth: {reason}");
            asked.check().map_err(named)?;
        }
        set_cookie::check(&self.set_cookie)?;
        let edits = &self.request_headers;
        edits
            .check(Of::Requests)
            .map_err(|reason| format!("request_headers: {reason}"))?;
        let edits = &self.response_headers;
        edits
            .check(Of::Responses)
            .map_err(|reason| format!("response_headers: {reason}"))
    }

    fn needs<'a>(&'a self, _: &'a str) -> Needs<'a> {
        let asked = self.forward_auth.as_ref();
        Needs {
            one: asked.map(|asked| (Kind::Cluster, &*asked.cluster)),
            ..Needs::default()
        }
    }

    fn compile(&self, _: &Arc<Entry>, with: &mut Compiling<'_>) -> Result<(), String> {
        let materials = with.materials;
        self.read_files(|wanted| material(materials, wanted))?;
        // It is made with those that name it; what cannot be made of it alone is refused at once.
        let levels = Levels {
            own: Some(self),
            ..Levels::default()
        };
        Merged::of(&levels, None).map(drop)
    }

    fn put(tables: &mut Tables, entry: Arc<Entry>, (): (), _: &mut Swap) {
        tables.running.policies.insert(entry);
    }

    fn take(tables: &mut Tables, name: &str, _: &mut Swap) {
        tables.running.policies.swap_remove(name);
        tables.policy_slots.get_mut().remove(name);
    }
}
