//! The registry of kinds: all that goes over every kind of entity is made here, of one line for each.
//!
//! The rule: what a kind is stands in its own module, as a [`Value`]; ledger, staging, tables and audit know
//! none by name. A new kind is a module and a line at the end of this one.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::routing::regexes::Regexes;
use crate::state::alike::Alike;
use crate::state::entity::check::is_name;
use crate::state::entity::{Content, Material, Materials};
use crate::state::entry::Entry;
use crate::state::kinds::keys::mirror::MIRRORS_MAX;
use crate::state::named::{HasName, Named};
use crate::state::tables::{Applied, Tables};
use crate::telemetry::access_log::LogSink;
use crate::tls::policy::Tls;
use crate::upstream::Cluster;

/// The value of a kind of entity, and all that the engine knows of that kind.
pub trait Value: Serialize + DeserializeOwned {
    /// Everything of it that can fail to compile.
    type Compiled;
    /// What the tables hold of it.
    type Running: Runs;

    /// Whether many have wholly the same, so that it is kept once for all of a change.
    const IS_ALIKE: bool = false;

    /// Whether one leaves the tables before others are put there, and keeps what led from it until then.
    const LEAVES_FIRST: bool = false;

    /// Whether one may have that name.
    fn is_name(name: &str) -> bool {
        is_name(name)
    }

    /// Checks the values.
    fn check(&self) -> Result<(), String>;

    /// Takes what others of the change have as well from them.
    fn share(&mut self, _alike: &mut Alike) {}

    /// What the entity of that name needs to exist.
    fn needs<'a>(&'a self, _name: &'a str) -> Needs<'a> {
        Needs::default()
    }

    /// Makes what requests need of it. Nothing here depends on what is held.
    fn compile(
        &self,
        entry: &Arc<Entry>,
        with: &mut Compiling<'_>,
    ) -> Result<Self::Compiled, String>;

    /// Takes what it wants of the machine before its commit, and `before` has not: what came with the change, or
    /// what can be opened. Nothing else runs by it yet, and it is given back where the change is refused.
    fn provide(
        &self,
        _entry: &Entry,
        _before: Option<&Entry>,
        _with: &mut Providing<'_>,
    ) -> Result<(), String> {
        Ok(())
    }

    /// Puts one into the tables, in the place of one of the same name. Cannot fail.
    fn put(tables: &mut Tables, entry: Arc<Entry>, compiled: Self::Compiled, swap: &mut Swap);

    /// Takes one out of the tables, and out of all that leads to it. Cannot fail.
    fn take(tables: &mut Tables, name: &str, swap: &mut Swap);

    /// The canonical bytes: compact JSON without defaults, keys sorted, UTF-8 unescaped.
    fn canonical(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("maps with string keys and plain values always serialise")
    }
}

/// What the tables hold of an entity.
pub trait Runs: HasName {
    /// Shows the entity as it was committed.
    fn with_entry<R>(&self, read: impl FnOnce(&Entry) -> R) -> R;
}

impl Runs for Arc<Entry> {
    fn with_entry<R>(&self, read: impl FnOnce(&Entry) -> R) -> R {
        read(self)
    }
}

/// Names of one kind.
type Listed<'a> = (Kind, &'a [Box<str>]);

/// Mirrors, and who is asked.
pub(super) const MORE: usize = MIRRORS_MAX + 1;

/// What an entity needs to exist.
#[derive(Clone, Copy, Default)]
pub struct Needs<'a> {
    /// Lists of names.
    pub(super) lists: [Option<Listed<'a>>; 3],
    /// One more.
    pub(super) one: Option<(Kind, &'a str)>,
    /// And others.
    pub(super) more: [Option<(Kind, &'a str)>; MORE],
}

impl<'a> Needs<'a> {
    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = (Kind, &'a str)> {
        let listed = self.lists.into_iter().flatten();
        listed
            .flat_map(|(kind, names)| names.iter().map(move |name| (kind, &**name)))
            .chain(self.one)
            .chain(self.more.into_iter().flatten())
    }
}

/// What values are compiled with.
pub struct Compiling<'a> {
    /// The content of the files that came with the change.
    pub materials: &'a Materials,
    /// How TLS is set up.
    pub tls: &'a Tls,
    /// What the entities of the change have alike.
    pub alike: &'a mut Alike,
    /// What expressions there are.
    pub regexes: &'a mut Regexes,
}

impl<'a> Compiling<'a> {
    /// The content of a file.
    pub fn material(&self, wanted: &Material) -> Result<Content<'a>, String> {
        material(self.materials, wanted)
    }
}

/// What entities want of the machine, before their commit.
pub struct Providing<'a> {
    /// Whether this worker serves. Before it does, it has no socket, and what runs elsewhere already is not
    /// refused for what could be had later.
    pub serving: bool,
    /// Listening sockets by listener, which have come with the change.
    pub sockets: &'a HashMap<String, OwnedFd>,
    /// The access log, once it is opened.
    pub log: Option<LogSink>,
}

/// The content of a file that came with a change.
pub fn material<'a>(materials: &'a Materials, wanted: &Material) -> Result<Content<'a>, String> {
    materials
        .get(&wanted.sha256)
        .map(Option::as_deref)
        .ok_or_else(|| {
            format!(
                "the content of {} is missing in the state directory, or was altered there",
                wanted.path
            )
        })
}

/// A swap that is under way.
#[derive(Default)]
pub struct Swap {
    /// Listening sockets by listener, for those that are new or have moved.
    pub sockets: HashMap<String, OwnedFd>,
    /// Clusters whose members or settings have changed.
    pub touched: Vec<Rc<Cluster>>,
    /// What is left for the event loop to do.
    pub applied: Applied,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident($held:ty): $value:path = $word:ident in $plural:ident;)*) => {
        /// What an entity is; with its name, its identity. In the order in which a state is built up, so
        /// that each comes behind what it needs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// Every kind, in the order in which a state is built up.
            pub const ALL: [Self; [$(stringify!($kind)),*].len()] = [$(Self::$kind),*];

            /// The word that stands for this kind on the wire and in the digest.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => stringify!($word),)*
                }
            }

            /// The kind that a word stands for.
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|kind| kind.as_str() == word)
            }

            /// See [`Value::IS_ALIKE`].
            pub fn is_alike(self) -> bool {
                match self {
                    $(Self::$kind => <$value as Value>::IS_ALIKE,)*
                }
            }

            /// See [`Value::LEAVES_FIRST`].
            pub fn leaves_first(self) -> bool {
                match self {
                    $(Self::$kind => <$value as Value>::LEAVES_FIRST,)*
                }
            }

            /// Whether an entity of it may have that name.
            pub fn is_name(self, name: &str) -> bool {
                match self {
                    $(Self::$kind => <$value as Value>::is_name(name),)*
                }
            }
        }

        /// One value of the state, of any kind. Those that are large, or that many have alike, are shared.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Entity {
            $($(#[$doc])* $kind($held),)*
        }

        impl Entity {
            /// Reads the JSON value of an entity of `kind`; its values are not checked yet.
            pub fn from_json(kind: Kind, text: &str) -> Result<Self, serde_json::Error> {
                Self::read(kind, text, &mut Alike::default())
            }

            /// Does the same, and takes what others of a change have as well from them.
            pub fn read(
                kind: Kind,
                text: &str,
                alike: &mut Alike,
            ) -> Result<Self, serde_json::Error> {
                Ok(match kind {
                    $(Kind::$kind => {
                        let mut value: $value = serde_json::from_str(text)?;
                        value.share(alike);
                        Self::$kind(value.into())
                    })*
                })
            }

            /// Checks the values.
            pub fn check(&self) -> Result<(), String> {
                match self {
                    $(Self::$kind(value) => value.check(),)*
                }
            }

            /// The kind of this value.
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)*
                }
            }

            /// See [`Value::canonical`].
            pub fn canonical(&self) -> Vec<u8> {
                match self {
                    $(Self::$kind(value) => value.canonical(),)*
                }
            }

            /// See [`Value::needs`].
            pub fn needs<'a>(&'a self, name: &'a str) -> Needs<'a> {
                match self {
                    $(Self::$kind(value) => value.needs(name),)*
                }
            }
        }

        impl Entry {
            $(
                /// The value of an entry of this kind.
                #[must_use]
                pub fn $word(&self) -> &$value {
                    match &self.entity {
                        Entity::$kind(value) => value,
                        _ => unreachable!("only an entry of this kind is asked for it"),
                    }
                }
            )*

            /// See [`Value::provide`].
            pub fn provide(
                &self,
                before: Option<&Self>,
                with: &mut Providing<'_>,
            ) -> Result<(), String> {
                match &self.entity {
                    $(Entity::$kind(value) => value.provide(self, before, with),)*
                }
            }
        }

        /// What is made of an entity before its commit.
        pub enum Compiled {
            $($(#[$doc])* $kind(<$value as Value>::Compiled),)*
        }

        impl Compiled {
            /// See [`Value::compile`].
            pub fn of(
                entry: &Arc<Entry>,
                with: &mut Compiling<'_>,
            ) -> Result<Self, String> {
                Ok(match &entry.entity {
                    $(Entity::$kind(value) => Self::$kind(value.compile(entry, with)?),)*
                })
            }
        }

        /// What is held of each kind.
        #[derive(Default)]
        pub struct Running {
            $($(#[$doc])* pub $plural: Named<<$value as Value>::Running>,)*
        }

        impl Running {
            /// How many entities of a kind there are.
            pub fn count(&self, kind: Kind) -> usize {
                match kind {
                    $(Kind::$kind => self.$plural.len(),)*
                }
            }

            /// How many of a kind have been walked over: see [`Named::walked`].
            pub fn walked(&self, kind: Kind) -> usize {
                match kind {
                    $(Kind::$kind => self.$plural.walked(),)*
                }
            }

            /// Whether one has been.
            pub fn is_walked(&self, kind: Kind, name: &str) -> bool {
                match kind {
                    $(Kind::$kind => self.$plural.is_walked(name),)*
                }
            }

            /// From now on so many of a kind have been walked over.
            pub fn walk_to(&mut self, kind: Kind, position: usize) {
                match kind {
                    $(Kind::$kind => self.$plural.walk_to(position),)*
                }
            }

            /// Makes room for so many of a kind.
            pub fn reserve(&mut self, kind: Kind, count: usize) {
                match kind {
                    $(Kind::$kind => self.$plural.reserve(count),)*
                }
            }

            /// Hands entities of a kind over, `count` from `offset` on: for audits.
            pub fn each(
                &self,
                kind: Kind,
                offset: usize,
                count: usize,
                take: &mut dyn FnMut(&Entry),
            ) {
                match kind {
                    $(Kind::$kind => {
                        let part = self.$plural.part(offset, count);
                        part.iter().for_each(|it| it.with_entry(&mut *take));
                    })*
                }
            }

            /// Looks at one, if it is there.
            pub fn look<R>(
                &self,
                kind: Kind,
                name: &str,
                read: impl FnOnce(&Entry) -> R,
            ) -> Option<R> {
                match kind {
                    $(Kind::$kind => self.$plural.get(name).map(|it| it.with_entry(read)),)*
                }
            }
        }

        impl Tables {
            /// See [`Value::put`].
            pub fn put(
                &mut self,
                entry: Arc<Entry>,
                compiled: Compiled,
                swap: &mut Swap,
            ) {
                match compiled {
                    $(Compiled::$kind(compiled) => <$value>::put(self, entry, compiled, swap),)*
                }
            }

            /// See [`Value::take`].
            pub fn take(&mut self, kind: Kind, name: &str, swap: &mut Swap) {
                match kind {
                    $(Kind::$kind => <$value>::take(self, name, swap),)*
                }
            }
        }
    };
}

kinds! {
    /// The one entity of process-wide settings, always named `settings`.
    Settings(Arc<super::settings::Settings>): super::settings::Settings = settings in settings;
    /// A chain and its key, for some hostnames.
    Certificate(Box<super::certificate::Certificate>): super::certificate::Certificate = certificate in certificates;
    /// What is done with requests and answers, for all that name it.
    Policy(Arc<super::policy::Policy>): super::policy::Policy = policy in policies;
    /// An address on which clients are accepted.
    Listener(Arc<super::listener::Listener>): super::listener::Listener = listener in listeners;
    /// A named set of interchangeable backends.
    Cluster(Arc<super::cluster::Cluster>): super::cluster::Cluster = cluster in clusters;
    /// One address in a cluster, named `CLUSTER/BACKEND`.
    Backend(super::backend::Backend): super::backend::Backend = backend in backends;
    /// A match that leads to a cluster, or to an answer.
    Frontend(Box<super::frontend::Frontend>): super::frontend::Frontend = frontend in frontends;
}
