//! The frontend: a match of requests that leads to a cluster, or to an answer of its own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

use super::keys::bandwidth::Bandwidth;
use super::keys::basic::BasicAuth;
use super::keys::bounds::{RequestLimits, RequestTimeouts};
use super::keys::compression::Compression;
use super::keys::concurrency::Concurrency;
use super::keys::cors::Cors;
use super::keys::edits::HeaderEdits;
use super::keys::forward_auth::ForwardAuth;
use super::keys::jwt::Jwt;
use super::keys::matching::{PathMatch, ValueMatch};
use super::keys::mirror::Mirrors;
use super::keys::rate::RateLimits;
use super::keys::set_cookie::SetCookie;
use super::keys::split::{Shares, SplitBy};
use super::language::language;
use super::places::{Redirect, Respond, Rewrite};
use super::policy::{Hsts, Inherited, Policy};
use super::registry::{Compiling, Kind, Needs, Swap, Value, material};
use crate::policy::merged::ByListener;
use crate::policy::plan::Plan;
use crate::routing::rule::{Rule, Target};
use crate::routing::split::Split;
use crate::routing::table::Table;
use crate::state::alike::Alike;
use crate::state::entity::check::{is_hostname, is_name, is_token, names_of_policies, networks};
use crate::state::entity::{ClientCertificate, ErrorPage, Material};
use crate::state::entry::Entry;
use crate::state::frontend as running;
use crate::state::tables::Tables;

// Defaults, which most frontends have: kept once.
static ANY: LazyLock<Arc<str>> = LazyLock::new(|| "*".into());
static ROOT: LazyLock<Arc<str>> = LazyLock::new(|| "/".into());
static NONE: LazyLock<Arc<[Box<str>]>> = LazyLock::new(|| [].into());
static UPGRADES: LazyLock<Arc<[Box<str>]>> = LazyLock::new(|| ["websocket".into()].into());

language! {
    /// A frontend as it is written: all keys, those that few frontends have beside those of all.
    pub struct FrontendKeys {
        /// See [`Policy::allow`].
        pub allow: Option<Vec<Box<str>>> = None,
        /// See [`Policy::bandwidth`].
        pub bandwidth: Option<Bandwidth> = None,
        /// See [`Policy::basic_auth`].
        pub basic_auth: Option<BasicAuth> = None,
        /// Networks of clients that match, if it is not any.
        pub client_addresses: Option<Vec<Box<str>>> = None,
        /// See [`Policy::client_certificate`].
        pub client_certificate: Option<ClientCertificate> = None,
        /// The cluster that serves what matches; without one it is answered here.
        pub cluster: Option<Box<str>> = None,
        /// See [`Policy::compression`].
        pub compression: Inherited<Compression> = Inherited::Inherit,
        /// See [`Policy::concurrency`].
        pub concurrency: Option<Concurrency> = None,
        /// Cookie name to what its value must be.
        pub cookies: BTreeMap<String, ValueMatch> = BTreeMap::new(),
        /// See [`Policy::cors`].
        pub cors: Inherited<Cors> = Inherited::Inherit,
        /// See [`Policy::deny`].
        pub deny: Option<Vec<Box<str>>> = None,
        /// Requests that are safe may come as early data.
        pub early_data: bool = false,
        /// See [`Policy::error_pages`].
        pub error_pages: BTreeMap<String, Option<ErrorPage>> = BTreeMap::new(),
        /// See [`Policy::forward_auth`].
        pub forward_auth: Option<ForwardAuth> = None,
        /// Header name (lower case) to what one of its values must be.
        pub headers: BTreeMap<String, ValueMatch> = BTreeMap::new(),
        /// `shop.example.com`, `*.example.com` or `*`.
        pub hostname: Arc<str> = ANY.clone(),
        /// The same, if there are several; `hostname` says nothing then.
        pub hostnames: Option<Vec<Arc<str>>> = None,
        /// See [`Policy::hsts`].
        pub hsts: Inherited<Hsts> = Inherited::Inherit,
        /// See [`Policy::intercept`].
        pub intercept: Inherited<Vec<u16>> = Inherited::Inherit,
        /// See [`Policy::jwt`].
        pub jwt: Option<Jwt> = None,
        /// See [`Policy::limits`].
        pub limits: RequestLimits = RequestLimits::default(),
        /// The listeners on which this match exists.
        pub listeners: Arc<[Box<str>]>,
        /// Methods that match; empty is any.
        pub methods: Vec<String> = Vec::new(),
        /// Where a share of the requests goes as well.
        pub mirror: Option<Mirrors> = None,
        /// TLS for this hostname is passed on unread.
        pub passthrough: bool = false,
        /// What the path must be.
        pub path: PathMatch = PathMatch::Prefix(ROOT.clone()),
        /// Whose word counts as well.
        pub policies: Arc<[Box<str>]> = NONE.clone(),
        /// Query parameter name to what its value must be.
        pub query: BTreeMap<String, ValueMatch> = BTreeMap::new(),
        /// See [`Policy::rate_limit`].
        pub rate_limit: Option<RateLimits> = None,
        /// Where requests are sent instead.
        pub redirect: Option<Redirect> = None,
        /// See [`Policy::request_headers`].
        pub request_headers: HeaderEdits = HeaderEdits::default(),
        /// The answer to all requests.
        pub respond: Option<Respond> = None,
        /// See [`Policy::response_headers`].
        pub response_headers: HeaderEdits = HeaderEdits::default(),
        /// Where requests to backends go instead.
        pub rewrite: Option<Rewrite> = None,
        /// See [`Policy::set_cookie`].
        pub set_cookie: SetCookie = SetCookie::new(),
        /// Clusters that serve what matches, with their shares.
        pub split: Shares = Shares::default(),
        /// What shares go by, if requests are not drawn one by one.
        pub split_by: Option<SplitBy> = None,
        /// See [`Policy::timeouts`].
        pub timeouts: RequestTimeouts = RequestTimeouts::default(),
        /// Protocols, in lower case, that may be switched to.
        pub upgrades: Arc<[Box<str>]> = UPGRADES.clone(),
    }
}

/// A frontend as it is held: what frontends have alike is shared, and what few of them have takes a
/// pointer of all others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "FrontendKeys", into = "FrontendKeys")]
pub struct Frontend {
    /// See [`FrontendKeys::cluster`].
    pub cluster: Option<Box<str>>,
    /// See [`FrontendKeys::early_data`].
    pub early_data: bool,
    /// See [`FrontendKeys::hostname`].
    pub hostname: Arc<str>,
    /// See [`FrontendKeys::listeners`].
    pub listeners: Arc<[Box<str>]>,
    /// See [`FrontendKeys::passthrough`].
    pub passthrough: bool,
    /// See [`FrontendKeys::path`].
    pub path: PathMatch,
    /// See [`FrontendKeys::upgrades`].
    pub upgrades: Arc<[Box<str>]>,
    few: Option<Box<Few>>,
}

/// What few frontends have. The keys are those of [`FrontendKeys`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "they are told where they are declared with their defaults"
)]
pub struct Few {
    pub client_addresses: Option<Vec<Box<str>>>,
    pub cookies: BTreeMap<String, ValueMatch>,
    pub headers: BTreeMap<String, ValueMatch>,
    pub hostnames: Option<Vec<Arc<str>>>,
    pub methods: Vec<String>,
    pub mirror: Option<Mirrors>,
    pub policies: Arc<[Box<str>]>,
    pub query: BTreeMap<String, ValueMatch>,
    pub redirect: Option<Redirect>,
    pub respond: Option<Respond>,
    pub rewrite: Option<Rewrite>,
    /// What it says itself of all that policies may say, if it says any of it.
    pub says: Option<Box<Policy>>,
    pub split: Shares,
    pub split_by: Option<SplitBy>,
}

static NONE_OF_THEM: LazyLock<Few> = LazyLock::new(Few::default);

impl From<FrontendKeys> for Frontend {
    fn from(keys: FrontendKeys) -> Self {
        let says = Policy {
            allow: keys.allow,
            bandwidth: keys.bandwidth,
            basic_auth: keys.basic_auth,
            client_certificate: keys.client_certificate,
            compression: keys.compression,
            concurrency: keys.concurrency,
            cors: keys.cors,
            deny: keys.deny,
            error_pages: keys.error_pages,
            forward_auth: keys.forward_auth,
            hsts: keys.hsts,
            intercept: keys.intercept,
            jwt: keys.jwt,
            limits: keys.limits,
            // Nobody is further away.
            overridable: false,
            rate_limit: keys.rate_limit,
            request_headers: keys.request_headers,
            response_headers: keys.response_headers,
            set_cookie: keys.set_cookie,
            timeouts: keys.timeouts,
        };
        let few = Few {
            client_addresses: keys.client_addresses,
            cookies: keys.cookies,
            headers: keys.headers,
            hostnames: keys.hostnames,
            methods: keys.methods,
            mirror: keys.mirror,
            policies: keys.policies,
            query: keys.query,
            redirect: keys.redirect,
            respond: keys.respond,
            rewrite: keys.rewrite,
            says: (says != Policy::default()).then(|| Box::new(says)),
            split: keys.split,
            split_by: keys.split_by,
        };
        Self {
            cluster: keys.cluster,
            early_data: keys.early_data,
            hostname: keys.hostname,
            listeners: keys.listeners,
            passthrough: keys.passthrough,
            path: keys.path,
            upgrades: keys.upgrades,
            few: (few != *NONE_OF_THEM).then(|| Box::new(few)),
        }
    }
}

impl From<Frontend> for FrontendKeys {
    fn from(held: Frontend) -> Self {
        let few = held.few.map_or_else(Few::default, |few| *few);
        let says = few.says.map_or_else(Policy::default, |says| *says);
        Self {
            allow: says.allow,
            bandwidth: says.bandwidth,
            basic_auth: says.basic_auth,
            client_certificate: says.client_certificate,
            client_addresses: few.client_addresses,
            cluster: held.cluster,
            compression: says.compression,
            concurrency: says.concurrency,
            cookies: few.cookies,
            cors: says.cors,
            deny: says.deny,
            early_data: held.early_data,
            error_pages: says.error_pages,
            forward_auth: says.forward_auth,
            headers: few.headers,
            hostname: held.hostname,
            hostnames: few.hostnames,
            hsts: says.hsts,
            intercept: says.intercept,
            jwt: says.jwt,
            limits: says.limits,
            listeners: held.listeners,
            methods: few.methods,
            mirror: few.mirror,
            passthrough: held.passthrough,
            path: held.path,
            policies: few.policies,
            query: few.query,
            rate_limit: says.rate_limit,
            redirect: few.redirect,
            request_headers: says.request_headers,
            respond: few.respond,
            response_headers: says.response_headers,
            rewrite: few.rewrite,
            set_cookie: says.set_cookie,
            split: few.split,
            split_by: few.split_by,
            timeouts: says.timeouts,
            upgrades: held.upgrades,
        }
    }
}

impl Frontend {
    /// What few frontends have, if this one has any of it.
    #[inline]
    pub fn few(&self) -> Option<&Few> {
        self.few.as_deref()
    }

    /// The same, with its defaults.
    pub fn rare(&self) -> &Few {
        self.few().unwrap_or(&NONE_OF_THEM)
    }

    /// Every hostname that it has, perhaps `*`.
    pub fn hostnames(&self) -> &[Arc<str>] {
        let several = self.few().and_then(|few| few.hostnames.as_deref());
        several.unwrap_or(std::slice::from_ref(&self.hostname))
    }

    /// The same, to be replaced by what others have alike.
    pub fn hostnames_mut(&mut self) -> impl Iterator<Item = &mut Arc<str>> {
        let more = self.few.iter_mut().filter_map(|few| few.hostnames.as_mut());
        more.flatten().chain([&mut self.hostname])
    }

    /// The policies whose word counts for it.
    pub fn policies(&self) -> &[Box<str>] {
        self.few().map_or(&[], |few| &few.policies)
    }

    /// Whether more counts for it than what its listeners say.
    pub fn says_anything(&self) -> bool {
        self.few().is_some()
    }

    /// Whether a handshake for another protocol is passed on.
    pub fn passes_on(&self, protocol: &[u8]) -> bool {
        self.upgrades
            .iter()
            .any(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(protocol))
    }
}

impl Value for Frontend {
    /// Its match, and what it has done with requests.
    type Compiled = (Rule, Option<Box<Plan>>);
    type Running = Rc<running::Frontend>;

    fn check(&self) -> Result<(), String> {
        self.check_ends()?;
        if let Some(listener) = self.listeners.iter().find(|listener| !is_name(listener)) {
            return Err(format!(
                "listeners: {listener:?} is not the name of a listener"
            ));
        }
        if self.listeners.is_empty() || !self.listeners.is_sorted_by(|a, b| a < b) {
            return Err("listeners: expected at least one, sorted, each once".to_owned());
        }
        self.check_hostnames()?;
        let has_few = || {
            let mut few = self.rare().clone();
            few.hostnames = None;
            few != *NONE_OF_THEM
        };
        let is_more =
            || self.path != PathMatch::Prefix(ROOT.clone()) || self.early_data || has_few();
        if self.passthrough && is_more() {
            return Err("passthrough: nothing but the hostname can be matched".to_owned());
        }
        if !self.upgrades.is_sorted_by(|a, b| a < b)
            || self
                .upgrades
                .iter()
                .any(|name| name.bytes().any(|byte| byte.is_ascii_uppercase()))
        {
            return Err("upgrades: expected names in lower case, sorted, each once".to_owned());
        }
        self.path.check()?;
        self.few().map_or(Ok(()), Few::check)
    }

    fn share(&mut self, alike: &mut Alike) {
        for hostname in self.hostnames_mut() {
            alike.share_text(hostname);
        }
        alike.share_text(self.path.text_mut());
        alike.share_list(&mut self.listeners);
        alike.share_list(&mut self.upgrades);
        if let Some(few) = &mut self.few {
            alike.share_list(&mut few.policies);
        }
    }

    fn needs<'a>(&'a self, _: &'a str) -> Needs<'a> {
        let mut mirrors = self
            .rare()
            .mirror
            .as_ref()
            .map_or(&[][..], Mirrors::each)
            .iter();
        let mut mirror = || {
            mirrors
                .next()
                .map(|mirror| (Kind::Cluster, &*mirror.cluster))
        };
        let says = self.rare().says.as_ref();
        let asked = says.and_then(|says| says.forward_auth.as_ref());
        Needs {
            lists: [
                Some((Kind::Listener, &*self.listeners)),
                Some((Kind::Policy, self.policies())),
                self.few().map(|few| (Kind::Cluster, &*few.split.clusters)),
            ],
            one: self.cluster.as_deref().map(|name| (Kind::Cluster, name)),
            more: [
                mirror(),
                mirror(),
                mirror(),
                mirror(),
                asked.map(|asked| (Kind::Cluster, &*asked.cluster)),
            ],
        }
    }

    fn compile(
        &self,
        entry: &Arc<Entry>,
        with: &mut Compiling<'_>,
    ) -> Result<Self::Compiled, String> {
        let rule = Rule::of(entry.clone(), with.regexes)?;
        let materials = with.materials;
        let read = |wanted: &Material| material(materials, wanted);
        Ok((rule, Plan::of(self, with.regexes, read)?))
    }

    fn put(tables: &mut Tables, entry: Arc<Entry>, (rule, plan): Self::Compiled, _: &mut Swap) {
        let cluster_at = |name: &str| {
            let Some(cluster) = tables.running.clusters.get(name).cloned() else {
                unreachable!("the ledger refuses a frontend whose cluster is not there");
            };
            cluster
        };
        let value = entry.frontend();
        let to = match (&value.cluster, Split::of(&entry.name, value)) {
            (Some(name), _) => running::To::Cluster(cluster_at(name)),
            (None, Some(split)) => {
                let clusters = value.rare().split.clusters.iter();
                let clusters = clusters.map(|name| cluster_at(name)).collect();
                running::To::Split(Rc::new((split, clusters)))
            }
            (None, None) => running::To::Nowhere,
        };
        let mirrors = value.rare().mirror.as_ref().map_or(&[][..], Mirrors::each);
        let mirrors = mirrors.iter().map(|it| running::Mirror {
            cluster: cluster_at(&it.cluster),
            share: it.share,
        });
        let mirrors = mirrors.collect();
        let before = taken(tables, &entry.name);
        let frontend = running::Frontend::new(rule, plan, to, mirrors, before.as_deref());
        insert(tables, Rc::new(frontend));
    }

    fn take(tables: &mut Tables, name: &str, _: &mut Swap) {
        taken(tables, name);
    }
}

impl Frontend {
    /// Has other policies hold for a frontend, which is the same in all else. Requests that have found it
    /// before are served by what held then.
    pub fn say(tables: &mut Tables, name: &str, said: ByListener) {
        let Some(before) = tables.running.frontends.get(name).cloned() else {
            return;
        };
        for table in tables_of(tables, before.entity()) {
            table.borrow_mut().remove(before.rule());
        }
        // In its place: whoever walks over all of them does not meet it again.
        insert(tables, Rc::new(before.saying(said)));
    }
}

/// Puts a frontend into every table that leads to it.
fn insert(tables: &mut Tables, frontend: Rc<running::Frontend>) {
    for table in tables_of(tables, frontend.entity()) {
        table.borrow_mut().insert(frontend.clone());
    }
    tables.running.frontends.insert(frontend);
}

/// Takes a frontend out of every table that leads to it.
fn taken(tables: &mut Tables, name: &str) -> Option<Rc<running::Frontend>> {
    let frontend = tables.running.frontends.swap_remove(name)?;
    for table in tables_of(tables, frontend.entity()) {
        table.borrow_mut().remove(frontend.rule());
    }
    Some(frontend)
}

/// The routing tables that lead to a frontend.
fn tables_of<'a>(
    tables: &'a Tables,
    frontend: &'a Frontend,
) -> impl Iterator<Item = &'a RefCell<Table<Rc<running::Frontend>>>> {
    let listeners = frontend.listeners.iter();
    listeners
        .filter_map(|name| tables.running.listeners.get(name))
        .flat_map(|listener| listener.routes.of(frontend))
}

impl Frontend {
    fn check_hostnames(&self) -> Result<(), String> {
        let names = self.hostnames();
        if let Some(name) = names.iter().find(|name| !is_hostname(name)) {
            return Err(format!(
                "hostname {name:?}: expected shop.example.com, *.example.com or *, in lower case"
            ));
        }
        let is_alone = *self.hostname == *"*" && !names.is_empty();
        if self.rare().hostnames.is_some() && !(is_alone && names.is_sorted_by(|a, b| a < b)) {
            return Err("hostnames: expected names beside no other, sorted, each once".to_owned());
        }
        Ok(())
    }

    /// Checks what becomes of requests in the end: exactly one thing.
    fn check_ends(&self) -> Result<(), String> {
        let few = self.rare();
        let ends = [
            self.cluster.is_some(),
            matches!(few.redirect, Some(Redirect::To(_))),
            few.respond.is_some(),
            !few.split.is_empty(),
        ];
        if ends.into_iter().filter(|end| *end).count() != 1 {
            return Err("expected exactly one of cluster, redirect, respond, split".to_owned());
        }
        if few.split.is_empty() && few.split_by.is_some() {
            return Err("split_by: nothing is split".to_owned());
        }
        let changes_requests = few.rewrite.is_some()
            || few.mirror.is_some()
            || few.says.as_ref().is_some_and(|says| {
                says.timeouts != RequestTimeouts::default()
                    || says.request_headers != HeaderEdits::default()
            });
        match &self.cluster {
            Some(cluster) if !is_name(cluster) => {
                Err(format!("cluster {cluster:?} is not the name of a cluster"))
            }
            None if self.passthrough || (changes_requests && few.split.is_empty()) => {
                Err("nothing is sent to a backend, so that nothing of it is changed".to_owned())
            }
            _ => Ok(()),
        }
    }
}

impl Few {
    fn check(&self) -> Result<(), String> {
        if let Some(method) = self.methods.iter().find(|method| !is_token(method)) {
            return Err(format!("methods: {method:?} is not a method"));
        }
        for (name, wanted) in &self.headers {
            if !is_token(name) || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                return Err(format!(
                    "headers: {name:?} is not a header name in lower case"
                ));
            }
            wanted.check()?;
        }
        if self.query.contains_key("") {
            return Err("query: a parameter needs a name".to_owned());
        }
        self.mirror.as_ref().map_or(Ok(()), Mirrors::check)?;
        self.query.values().try_for_each(ValueMatch::check)?;
        if let Some(name) = self.cookies.keys().find(|name| !is_token(name)) {
            return Err(format!("cookies: {name:?} is not the name of a cookie"));
        }
        self.cookies.values().try_for_each(ValueMatch::check)?;
        networks("client_addresses", self.client_addresses.as_deref())?;
        if !self.split.is_empty() {
            self.split.check(self.split_by.as_ref())?;
        }
        let named = |key: &'static str| move |reason: String| format!("{key}: {reason}");
        self.says.as_ref().map_or(Ok(()), |says| says.check())?;
        names_of_policies(&self.policies)?;
        if let Some(Redirect::To(target)) = &self.redirect {
            target.check().map_err(named("redirect"))?;
        }
        if let Some(respond) = &self.respond {
            respond.check().map_err(named("respond"))?;
        }
        if let Some(rewrite) = &self.rewrite {
            rewrite.check().map_err(named("rewrite"))?;
        }
        Ok(())
    }
}
