//! The settings: what concerns a worker as a whole. Limits are per worker.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::language::defaulted;
use super::registry::{Compiling, Providing, Swap, Value};
use crate::state::entity::check::{BUFFERED_BYTES, CONNECTIONS_MAX, DURATION_MS_MAX};
use crate::state::entity::check::{error_pages, is_token, socket_addr, within};
use crate::state::entity::{Entity, ErrorPage};
use crate::state::entry::Entry;
use crate::state::tables::Tables;
use crate::telemetry::access_log::LogWriter;
use crate::telemetry::counters::SLOTS_MAX;

defaulted! {
    /// What concerns a worker as a whole. Limits are per worker.
    pub struct Settings {
        /// Whether connections go to the worker on the core that their packets come to.
        pub accept_by_core: bool = false,
        /// `stdout`, `off` or an absolute path.
        pub access_log: String = "stdout".to_owned(),
        /// Where the reconciler serves metrics; nothing to the engine.
        pub admin: Option<String> = None,
        /// How long a connection without a request is kept where it is drained, in milliseconds.
        pub drain_idle_timeout: u64 = 1000,
        /// Most time given to what is drained, in milliseconds.
        pub drain_timeout: u64 = 30_000,
        /// Pages by status for every listener.
        pub error_pages: BTreeMap<String, ErrorPage> = BTreeMap::new(),
        /// Whether responses tell the generation that served them.
        pub generation_header: bool = false,
        /// Bytes that may wait for peers to take them, or for the rest of a message.
        pub max_buffered_bytes: u64 = 1 << 30,
        /// Memory of what compresses answers.
        pub max_compression_bytes: u64 = 64 << 20,
        /// Client connections at one time.
        pub max_connections: u32 = 10_000,
        /// Frontends, clusters and backends that are counted, each by itself.
        pub max_counted_entities: u32 = 1_000_000,
        /// What all expressions may take when they are compiled; the reconciler's affair.
        pub max_expression_bytes: u64 = 256 << 20,
        /// Requests in flight at one time.
        pub max_requests: u32 = 10_000,
        /// How many entities of a kind have metrics of their own; the reconciler's affair.
        pub metrics_entities: u32 = 1_500,
        /// By which name requests are passed on; `None` is a name of the instance's own.
        pub via: Option<String> = None,
        /// How many workers; the reconciler's affair.
        pub workers: Workers = Workers::Auto(Auto::Auto),
    }
}

/// How many workers there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Workers {
    /// As many as the machine suggests.
    Auto(Auto),
    /// This many.
    Count(u32),
}

/// The word `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    /// As many as the machine suggests.
    Auto,
}

impl Value for Settings {
    type Compiled = ();
    type Running = Arc<Entry>;

    fn is_name(name: &str) -> bool {
        name == "settings"
    }

    fn check(&self) -> Result<(), String> {
        let log = self.access_log.as_str();
        if !matches!(log, "stdout" | "off") && (!log.starts_with('/') || log.contains('\0')) {
            return Err(format!(
                "access_log {log:?}: expected stdout, off or an absolute path"
            ));
        }
        if let Some(admin) = &self.admin {
            socket_addr(admin)?;
        }
        error_pages(&self.error_pages)?;
        let idle = self.drain_idle_timeout;
        within("drain_idle_timeout", idle, 0..=DURATION_MS_MAX)?;
        within("drain_timeout", self.drain_timeout, 0..=DURATION_MS_MAX)?;
        within(
            "max_buffered_bytes",
            self.max_buffered_bytes,
            BUFFERED_BYTES,
        )?;
        within(
            "max_compression_bytes",
            self.max_compression_bytes,
            COMPRESSION_BYTES,
        )?;
        within("max_connections", self.max_connections, 1..=CONNECTIONS_MAX)?;
        within(
            "max_counted_entities",
            self.max_counted_entities,
            COUNTED_ENTITIES,
        )?;
        within(
            "max_expression_bytes",
            self.max_expression_bytes,
            EXPRESSION_BYTES,
        )?;
        within(
            "metrics_entities",
            self.metrics_entities,
            0..=METRICS_ENTITIES_MAX,
        )?;
        within("max_requests", self.max_requests, 1..=CONNECTIONS_MAX)?;
        if let Some(via) = self.via.as_deref() {
            if via.len() > VIA_BYTES_MAX || !is_token(via) {
                return Err(format!(
                    "via {via:?}: expected a word of {VIA_BYTES_MAX} characters at most"
                ));
            }
        }
        match self.workers {
            Workers::Auto(_) => Ok(()),
            Workers::Count(count) => within("workers", count, 1..=WORKERS_MAX),
        }
    }

    fn compile(&self, _: &Arc<Entry>, _: &mut Compiling<'_>) -> Result<(), String> {
        Ok(())
    }

    /// Opens the access log where that is another one.
    fn provide(
        &self,
        _: &Entry,
        before: Option<&Entry>,
        with: &mut Providing<'_>,
    ) -> Result<(), String> {
        let target = &self.access_log;
        if before.is_none_or(|before| before.settings().access_log != *target) {
            with.log = Some(match with.serving {
                true => LogWriter::open(target)?,
                false => LogWriter::open_in_time(target),
            });
        }
        Ok(())
    }

    fn put(tables: &mut Tables, entry: Arc<Entry>, (): (), _: &mut Swap) {
        let Entity::Settings(settings) = &entry.entity else {
            return;
        };
        tables.settings.clone_from(settings);
        tables.name_by_settings();
        tables.metrics.set_slots_max(settings.max_counted_entities);
        tables.running.settings.insert(entry);
    }

    fn take(_: &mut Tables, _: &str, _: &mut Swap) {
        // They always exist: a change that removes them is refused.
    }
}

const VIA_BYTES_MAX: usize = 64;
const WORKERS_MAX: u32 = 1024;
const COMPRESSION_BYTES: RangeInclusive<u64> = 0..=1 << 40;
const EXPRESSION_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 40;
const COUNTED_ENTITIES: RangeInclusive<u32> = 1..=SLOTS_MAX;
const METRICS_ENTITIES_MAX: u32 = 1_000_000;
