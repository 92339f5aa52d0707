//! The engine's Python face: `proxy._engine`. It alone, with `prober` below, knows PyO3.
//!
//! Every call lets go of the interpreter lock while it works or waits. `_engine.pyi` beside the
//! Python package is the contract, checked against this by stubtest.

mod prober;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::policy::limits::refused::{Meant, Whom};
use crate::policy::plan::Plan;
use crate::policy::preview::{self, Coming, Questions, Unseen};
use crate::protocol::h1::HeadLimits;
use crate::protocol::h1::RequestHead;
use crate::protocol::h1::Slashes;
use crate::protocol::h1::request::parse;
use crate::routing::explain;
use crate::routing::explain::Miss;
use crate::routing::matcher::HeaderLookup;
use crate::routing::matcher::Missed;
use crate::routing::matcher::Request;
use crate::routing::readings;
use crate::routing::regexes::Regexes;
use crate::routing::rule::Rule;
use crate::routing::split::Split;
use crate::routing::witness;
use crate::state::digest::Digest;
use crate::state::entity;
use crate::state::entity::Entity;
use crate::state::entity::Kind;
use crate::state::entity::Material;
use crate::state::entity::expression::weigh_regex;
use crate::state::ops;
use crate::thread::Auditing;
use crate::thread::EngineThread;

/// Of a head that is read for whoever asks.
const READ_BYTES_MAX: usize = 1 << 20;

create_exception!(
    _engine,
    Refused,
    PyException,
    "A change was refused: (kind, name, reason)."
);

fn refused(refusal: ops::Refused) -> PyErr {
    Refused::new_err((refusal.kind, refusal.name, refusal.reason))
}

/// One worker's engine: a pinned thread that serves.
#[pyclass(frozen, module = "proxy._engine")]
struct Engine {
    thread: Mutex<EngineThread>,
    auditing: Mutex<Option<Auditing>>,
}

impl Engine {
    fn lock(&self) -> MutexGuard<'_, EngineThread> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn auditing(&self) -> MutexGuard<'_, Option<Auditing>> {
        self.auditing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (worker, cpu))]
    fn new(py: Python<'_>, worker: u32, cpu: Option<usize>) -> PyResult<Self> {
        let thread = py
            .detach(|| EngineThread::start(worker, cpu))
            .map_err(PyOSError::new_err)?;
        Ok(Self {
            thread: Mutex::new(thread),
            auditing: Mutex::new(None),
        })
    }

    fn metrics_fd(&self) -> i32 {
        self.lock().metrics_fd()
    }

    fn listener_fds(&self) -> HashMap<String, i32> {
        self.lock()
            .listener_fds()
            .map(|(name, fd)| (name.to_owned(), fd))
            .collect()
    }

    fn stage(
        &self,
        py: Python<'_>,
        generation: u64,
        number: u64,
        ops: &[u8],
        materials: HashMap<String, Option<Vec<u8>>>,
    ) -> PyResult<()> {
        py.detach(|| self.lock().stage(generation, number, ops, &materials))
            .map_err(refused)
    }

    fn drop_incoming(&self, py: Python<'_>) {
        py.detach(|| self.lock().ledger.drop_incoming());
    }

    fn serve(&self, py: Python<'_>, sockets: HashMap<String, i32>) -> PyResult<()> {
        py.detach(|| self.lock().serve(&sockets)).map_err(refused)
    }

    #[allow(clippy::too_many_arguments)] // the wire's prepare message, field by field
    fn prepare(
        &self,
        py: Python<'_>,
        generation: u64,
        base_generation: u64,
        base_digest: &str,
        commit: &str,
        chunks: u64,
        sockets: HashMap<String, i32>,
    ) -> PyResult<String> {
        let base = Digest::from_hex(base_digest).ok_or_else(|| {
            Refused::new_err(("state", "", format!("{base_digest:?} is no digest")))
        })?;
        py.detach(|| {
            let base = (base_generation, base);
            self.lock()
                .prepare(generation, base, commit, chunks, &sockets)
        })
        .map(Digest::to_hex)
        .map_err(refused)
    }

    fn commit(&self, py: Python<'_>, generation: u64) -> PyResult<String> {
        py.detach(|| self.lock().commit(generation))
            .map(Digest::to_hex)
            .map_err(refused)
    }

    fn abort(&self, py: Python<'_>, generation: u64) {
        py.detach(|| self.lock().abort(generation));
    }

    fn release(&self, py: Python<'_>, generation: u64) -> PyResult<()> {
        py.detach(|| {
            let mut thread = self.lock();
            if generation == thread.ledger.generation {
                thread.release()
            } else {
                Ok(())
            }
        })
        .map_err(refused)
    }

    fn state(&self) -> (u64, String, String, Option<u64>) {
        let thread = self.lock();
        let ledger = &thread.ledger;
        (
            ledger.generation,
            ledger.commit.clone(),
            ledger.digest.to_hex(),
            ledger.staged_generation(),
        )
    }

    fn begin_audit(&self) {
        let begun = self.lock().begin_audit();
        *self.auditing() = Some(begun);
    }

    fn end_audit(&self) {
        self.lock().interrupt_audit();
    }

    fn audited(&self, py: Python<'_>) -> PyResult<Option<(u64, String, Vec<String>)>> {
        // No lock is held meanwhile.
        let Some(auditing) = self.auditing().take() else {
            return Ok(None);
        };
        let found = py.detach(move || auditing.wait()).map_err(refused)?;
        Ok(found.map(|found| (found.generation, found.digest.to_hex(), found.differing)))
    }

    fn read(
        &self,
        py: Python<'_>,
        position: usize,
    ) -> PyResult<(u64, String, String, Option<usize>)> {
        let part = py.detach(|| self.lock().read(position)).map_err(refused)?;
        Ok((
            part.generation,
            part.digest.to_hex(),
            part.entities,
            part.next,
        ))
    }

    fn overlay(&self, py: Python<'_>, drained: Vec<String>) -> PyResult<()> {
        py.detach(|| self.lock().overlay(drained)).map_err(refused)
    }

    fn limits(
        &self,
        py: Python<'_>,
        limit: Option<String>,
        who: Option<String>,
        begin_anew: bool,
    ) -> PyResult<(Vec<RefusedRow>, Vec<InFlightRow>)> {
        let meant = Meant { limit, who };
        let found = py.detach(|| self.lock().limits(meant, begin_anew));
        let found = found.map_err(refused)?;
        let told = found.refused.into_iter().map(|(refusal, wait_ms)| {
            let Whom { limit, who } = refusal.whom;
            (limit.into(), who.into(), wait_ms, refusal.count)
        });
        let in_flight = found.in_flight.into_iter();
        let in_flight = in_flight.map(|(it, count)| (it.limit.into(), it.who.into(), count));
        Ok((told.collect(), in_flight.collect()))
    }

    fn take_ticket_keys(&self, keys: &[u8]) -> PyResult<()> {
        let tickets = self.lock().tickets.clone();
        tickets.replace(keys).map_err(PyValueError::new_err)
    }

    fn share_rates(&self, file: i32) -> PyResult<()> {
        self.lock().share_rates(file).map_err(PyValueError::new_err)
    }

    fn share_health(&self, file: i32) -> PyResult<()> {
        self.lock()
            .share_health(file)
            .map_err(PyValueError::new_err)
    }

    fn take_challenges(
        &self,
        http: HashMap<String, String>,
        tls: HashMap<String, (Vec<u8>, Vec<u8>)>,
    ) -> PyResult<()> {
        self.lock()
            .take_challenges(http, &tls)
            .map_err(PyValueError::new_err)
    }

    fn reopen_log(&self) {
        self.lock().reopen_log();
    }

    fn shutdown(&self, py: Python<'_>, drain_ms: u64) {
        py.detach(|| self.lock().shutdown(Duration::from_millis(drain_ms)));
    }
}

/// By what, who, for how many milliseconds yet, and how many of its requests were refused.
type RefusedRow = (String, String, u64, u64);
/// By what, who, and how many of its requests are in flight.
type InFlightRow = (String, String, u64);

/// Header fields as the caller has them: names in lower case; and who asks.
struct Fields(Vec<(String, Vec<u8>)>, Option<IpAddr>);

impl HeaderLookup for Fields {
    fn any_value(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.0
            .iter()
            .any(|(found, value)| found == name && test(value))
    }

    fn client_address(&self) -> Option<IpAddr> {
        self.1
    }
}

/// The rules of frontends by name and value, where the engine takes all of them.
fn rules_of(frontends: Vec<(String, String)>) -> Result<Vec<Rule>, ops::Refused> {
    let mut rules = Vec::with_capacity(frontends.len());
    for (name, value) in frontends {
        let refuse = |reason: String| ops::Refused {
            kind: "frontend".into(),
            name: name.clone(),
            reason,
        };
        match Entity::from_json(Kind::Frontend, &value) {
            Ok(Entity::Frontend(frontend)) => {
                rules.push(Rule::compile(&name, &frontend).map_err(refuse)?);
                // What it has done with requests is not asked for, but must be there to be done.
                let nothing_read = |_: &Material| Ok(Some([].as_slice()));
                Plan::of(&frontend, &mut Regexes::default(), nothing_read).map_err(refuse)?;
            }
            Ok(_) => return Err(refuse("it is no frontend".into())),
            Err(error) => return Err(refuse(error.to_string())),
        }
    }
    Ok(rules)
}

/// Which of some frontends match a request, the winner first, and what the others are missed by.
#[pyfunction]
#[allow(clippy::too_many_arguments)] // a request, part by part
#[allow(clippy::type_complexity)] // (matching, [(name, what, field)]), as the contract has it
fn rank_frontends(
    py: Python<'_>,
    frontends: Vec<(String, String)>,
    host: &[u8],
    path: &[u8],
    query: Option<&[u8]>,
    method: &[u8],
    headers: Vec<(String, Vec<u8>)>,
    client: Option<IpAddr>,
) -> PyResult<(Vec<String>, Vec<(String, &'static str, String)>)> {
    let rank = || {
        let rules = rules_of(frontends)?;
        let request = Request {
            host,
            path,
            query,
            method,
            headers: &Fields(headers, client),
        };
        Ok(explain::rank(rules, &request))
    };
    let ranking = py.detach(rank).map_err(refused)?;
    let missed = ranking.missed.into_iter().map(|(name, miss)| {
        let (what, field) = match miss {
            Miss::Hostname => ("hostname", String::new()),
            Miss::Path => ("path", String::new()),
            Miss::Condition(Missed::Method) => ("methods", String::new()),
            Miss::Condition(Missed::Header(field)) => ("headers", field.into()),
            Miss::Condition(Missed::Query(field)) => ("query", field.into()),
            Miss::Condition(Missed::Cookie(field)) => ("cookies", field.into()),
            Miss::Condition(Missed::Client) => ("client_addresses", String::new()),
        };
        (name, what, field)
    });
    Ok((ranking.matching, missed.collect()))
}

/// A request, part by part: host, path, query, method, header fields, who asks.
type Asked = (
    Vec<u8>,
    Vec<u8>,
    Option<Vec<u8>>,
    Vec<u8>,
    Vec<(String, Vec<u8>)>,
    Option<IpAddr>,
);

/// The same of several requests: which frontends match each, the winner first.
#[pyfunction]
fn rank_requests(
    py: Python<'_>,
    frontends: Vec<(String, String)>,
    requests: Vec<Asked>,
) -> PyResult<Vec<Vec<String>>> {
    let rank = || {
        let rules = rules_of(frontends)?;
        let each = |(host, path, query, method, headers, client): Asked| {
            let request = Request {
                host: &host,
                path: &path,
                query: query.as_deref(),
                method: &method,
                headers: &Fields(headers, client),
            };
            explain::rank(rules.clone(), &request).matching
        };
        Ok(requests.into_iter().map(each).collect())
    };
    py.detach(rank).map_err(refused)
}

/// How many bytes an expression takes when it is compiled; `ValueError` has the reason why it cannot be.
#[pyfunction]
fn weigh_expression(py: Python<'_>, pattern: &str, ignore_case: bool) -> PyResult<usize> {
    py.detach(|| weigh_regex(pattern, ignore_case))
        .map_err(PyValueError::new_err)
}

/// Texts that tell expressions apart, and whether these are all; see `witness`.
#[pyfunction]
fn witnesses(
    py: Python<'_>,
    musts: Vec<String>,
    others: Vec<String>,
    states: usize,
) -> PyResult<(Vec<String>, bool)> {
    py.detach(|| witness::witnesses(&musts, &others, states))
        .map(|found| (found.texts, found.complete))
        .map_err(PyValueError::new_err)
}

/// The name of the cluster to which a frontend that splits its requests has one go again and again; `None` where
/// each is drawn by itself.
#[pyfunction]
fn share_of(
    frontend: (&str, &str),
    headers: Vec<(String, Vec<u8>)>,
    client: Option<IpAddr>,
) -> PyResult<Option<String>> {
    let (name, value) = frontend;
    let frontend: entity::Frontend =
        serde_json::from_str(value).map_err(|error| PyValueError::new_err(error.to_string()))?;
    let split = Split::of(name, &frontend);
    let place = split.and_then(|split| split.stable(&Fields(headers, client)));
    let clusters = &frontend.rare().split.clusters;
    Ok(place
        .and_then(|place| clusters.get(place))
        .map(|name| name.to_string()))
}

/// What stages would make of a request; see `policy/preview`.
#[pyclass(frozen, get_all, module = "proxy._engine")]
struct Preview {
    to_tls: Option<preview::Sent>,
    end: Option<preview::Sent>,
    target: Option<Vec<u8>>,
    host: Option<Vec<u8>>,
    values: Vec<Vec<u8>>,
    origin: Option<Vec<u8>>,
    user: Option<Vec<u8>>,
}

/// What stages would make of a request at a frontend. `ValueError` has the reason by which it would be refused, and
/// the status.
#[pyfunction]
fn preview_request(
    frontend: (&str, &str),
    listeners: Vec<(String, String)>,
    head: &[u8],
    client: Option<IpAddr>,
    texts: Vec<String>,
    cors: Option<&str>,
) -> PyResult<Preview> {
    let unreadable = |error: serde_json::Error| PyValueError::new_err((error.to_string(), 0));
    let (name, value) = frontend;
    let frontend: entity::Frontend = serde_json::from_str(value).map_err(unreadable)?;
    let read = |(name, value): (String, String)| {
        let listener: entity::Listener = serde_json::from_str(&value)?;
        Ok((name, listener.into()))
    };
    let listeners: Result<Vec<_>, _> = listeners.into_iter().map(read).collect();
    let cors: Option<entity::Cors> = cors
        .map(serde_json::from_str)
        .transpose()
        .map_err(unreadable)?;
    let coming = Coming {
        frontend: (name, &frontend),
        listeners: listeners.map_err(unreadable)?,
        head,
        client,
    };
    let asked = Questions {
        texts: &texts,
        cors: cors.as_ref(),
    };
    let seen = coming.preview(&asked).map_err(|unseen| match unseen {
        Unseen::Refused(reject) => PyValueError::new_err((reject.as_str(), reject.status())),
        Unseen::Incomplete => PyValueError::new_err(("incomplete", 400)),
        Unseen::Uncompilable(reason) => PyValueError::new_err((reason, 0)),
    })?;
    Ok(Preview {
        to_tls: seen.to_tls,
        end: seen.end,
        target: seen.target,
        host: seen.host,
        values: seen.values,
        origin: seen.origin,
        user: seen.user,
    })
}

/// How a request is read: its host, normal path and query. `ValueError` has the reason by which it
/// would be refused, and the status.
#[pyfunction]
#[allow(clippy::type_complexity)] // (host, path, query), as the contract has it
fn read_request(
    py: Python<'_>,
    head: &[u8],
    merge_slashes: bool,
) -> PyResult<(Vec<u8>, Vec<u8>, Option<Vec<u8>>)> {
    let limits = HeadLimits {
        head_bytes_max: READ_BYTES_MAX,
        header_count_max: 1,
    };
    let mut read = RequestHead::default();
    read.slashes = if merge_slashes {
        Slashes::Merge
    } else {
        Slashes::Keep
    };
    match py.detach(|| parse(head, &limits, &mut read)) {
        Ok(Some(_)) => Ok((
            read.host(head).to_vec(),
            read.path(head).to_vec(),
            read.query(head).map(<[u8]>::to_vec),
        )),
        Ok(None) => Err(PyValueError::new_err(("incomplete", 400))),
        Err(reject) => Err(PyValueError::new_err((reject.as_str(), reject.status()))),
    }
}

/// The paths that servers may read in a normal one that we read otherwise; nearly always none.
#[pyfunction]
fn other_readings(path: &[u8]) -> Vec<Vec<u8>> {
    readings::others(path)
}

#[pymodule]
fn _engine(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Engine>()?;
    module.add_class::<prober::Prober>()?;
    module.add_function(wrap_pyfunction!(other_readings, module)?)?;
    module.add_class::<Preview>()?;
    module.add_function(wrap_pyfunction!(preview_request, module)?)?;
    module.add_function(wrap_pyfunction!(rank_frontends, module)?)?;
    module.add_function(wrap_pyfunction!(rank_requests, module)?)?;
    module.add_function(wrap_pyfunction!(read_request, module)?)?;
    module.add_function(wrap_pyfunction!(share_of, module)?)?;
    module.add_function(wrap_pyfunction!(weigh_expression, module)?)?;
    module.add_function(wrap_pyfunction!(witnesses, module)?)?;
    module.add("Refused", module.py().get_type::<Refused>())
}
