//! What parsing, routing and rewriting a message takes, and all that an engine does for a request and its response,
//! for callgrind: `python -m bench instructions`.
//!
//! Instructions are the same in every run, whoever else computes, so that a few per cent show which no
//! clock would. What is counted is between the entry into [`measured`] and the way out of it; building
//! the table and growing the buffers is not. `--list` tells the stages, and the name of one counts it.

mod corpus;
#[path = "../../tests/rig/mod.rs"]
mod rig;
mod whole;

use std::hint::black_box;

use _engine::protocol::h1::forward::{self, Changed, Forward};
use _engine::protocol::h1::request;
use _engine::protocol::h1::respond::{self, Persistence, ResponseForward};
use _engine::protocol::h1::response;
use _engine::protocol::h1::via::Via;
use _engine::protocol::h1::{Delivery, HeadLimits, RequestHead, ResponseBody, ResponseHead};
use _engine::routing::matcher::{HeaderLookup, Request};
use _engine::routing::table::{Rule, Table};
use whole::Whole;

/// Times that the corpus is gone through.
const ROUNDS: usize = 50;
const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 32 * 1024,
    header_count_max: 100,
};

/// Everything that a stage reads, and the room that it writes to, as the engine has it.
struct Bench {
    requests: Vec<Vec<u8>>,
    heads: Vec<RequestHead>,
    responses: Vec<Vec<u8>>,
    response_heads: Vec<ResponseHead>,
    table: Table<(Rule, usize)>,
    out: Vec<u8>,
    via: Via,
}

/// One thing that is done to every message of the corpus; returns a number that depends on all of it.
type Stage = fn(&mut Bench) -> usize;

const STAGES: [(&str, Stage); 5] = [
    ("parse", parse),
    ("route", route),
    ("rewrite", rewrite),
    ("parse_response", parse_response),
    ("rewrite_response", rewrite_response),
];

/// And whole exchanges, of so many clients at once.
const WHOLE: [(&str, usize); 2] = [("exchange", 1), ("exchange_of_64", 64)];

struct Fields<'a>(&'a RequestHead, &'a [u8]);

impl HeaderLookup for Fields<'_> {
    fn any_value(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.0.values(self.1, name).any(test)
    }

    fn client_address(&self) -> Option<std::net::IpAddr> {
        None
    }
}

fn parse(bench: &mut Bench) -> usize {
    let each = bench.requests.iter().zip(&mut bench.heads);
    each.map(|(bytes, head)| request::parse(black_box(bytes), &LIMITS, head))
        .map(|parsed| parsed.ok().flatten().unwrap_or(0))
        .sum()
}

fn route(bench: &mut Bench) -> usize {
    let each = bench.requests.iter().zip(&bench.heads);
    each.filter_map(|(bytes, head)| {
        let fields = Fields(head, bytes);
        let request = Request {
            host: head.host(bytes),
            path: head.path(bytes),
            query: head.query(bytes),
            method: head.method(bytes),
            headers: &fields,
        };
        bench.table.lookup(black_box(&request)).map(|it| it.1)
    })
    .sum()
}

fn rewrite(bench: &mut Bench) -> usize {
    let each = bench.requests.iter().zip(&bench.heads);
    each.map(|(bytes, head)| {
        let forward = Forward {
            client_ip: b"203.0.113.7",
            client_port: 0,
            listener_port: 443,
            scheme: "https",
            trusted: false,
            client_cert: None,
            early: false,
            request_id: b"00112233445566778899aabbccddeeff",
            upstream_keep_alive: true,
            upgrade: false,
            body: head.body,
            via: &bench.via,
            changed: Changed::default(),
        };
        bench.out.clear();
        forward::write_request(&mut bench.out, bytes, head, black_box(&forward));
        black_box(&bench.out).len()
    })
    .sum()
}

fn parse_response(bench: &mut Bench) -> usize {
    let each = bench.responses.iter().zip(&mut bench.response_heads);
    each.map(|(bytes, head)| response::parse(black_box(bytes), &LIMITS, false, None, head))
        .map(|parsed| parsed.ok().flatten().unwrap_or(0))
        .sum()
}

fn delivery(body: ResponseBody) -> Delivery {
    match body {
        ResponseBody::Length(length) => Delivery::Length(length),
        ResponseBody::Chunked => Delivery::Chunked,
        ResponseBody::UntilClose => Delivery::UntilClose,
        ResponseBody::None => Delivery::NoBody,
    }
}

fn rewrite_response(bench: &mut Bench) -> usize {
    let each = bench.responses.iter().zip(&bench.response_heads);
    each.map(|(bytes, head)| {
        let forward = ResponseForward {
            delivery: delivery(head.body),
            persistence: Persistence::Implied,
            date: b"Sun, 29 Nov 2026 08:00:00 GMT",
            extra: Default::default(),
            protocol: b"",
            via: &bench.via,
        };
        bench.out.clear();
        respond::write_response(&mut bench.out, bytes, head, black_box(&forward));
        black_box(&bench.out).len()
    })
    .sum()
}

/// Callgrind counts what happens within this.
#[inline(never)]
fn measured(stage: Stage, bench: &mut Bench) -> usize {
    (0..ROUNDS).map(|_| stage(bench)).sum()
}

/// Counts a stage, and says by how many messages its instructions are to be divided.
fn count(stage: &str) -> Option<usize> {
    let clients = WHOLE.iter().find(|(name, _)| *name == stage);
    if let Some((_, clients)) = clients {
        return Some(Whole::new(*clients).count(ROUNDS));
    }
    let (name, run) = STAGES.iter().find(|(name, _)| *name == stage)?;
    let mut bench = corpus::bench();
    // Buffers grow, and every stage has what the one before it leaves.
    for (name, stage) in STAGES {
        assert!(stage(&mut bench) > 0, "{name} did nothing");
    }
    black_box(measured(*run, &mut bench));
    let messages = match name.ends_with("response") {
        true => bench.responses.len(),
        false => bench.requests.len(),
    };
    Some(ROUNDS * messages)
}

fn main() {
    let names = STAGES.iter().map(|(name, _)| *name);
    let names = names.chain(WHOLE.iter().map(|(name, _)| *name));
    match std::env::args().nth(1).as_deref() {
        Some("--list") => names.for_each(|name| println!("{name}")),
        stage => println!("{}", stage.and_then(count).expect("one that --list tells")),
    }
}
