//! An engine that is driven by hand: bytes in at one side, and at the other what has come of them.
//!
//! Rule: everything is real but the loop's thread: the sockets are the kernel's, on loopback, where what was sent is
//! there at once. So a conversation goes the same way each time, and after each step the engine has done all
//! that there was to do. Shared by `tests/adapters.rs` and by the fuzz targets of the adapters.

#![allow(dead_code, reason = "each program uses its own part of it")]

pub mod asking;
pub mod multiplexed;

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use _engine::protocol::h1::request::{self, RequestHead};
use _engine::protocol::h1::response::{self, ResponseHead};
use _engine::protocol::h1::{
    Chunk, ChunkLimits, ChunkedDecoder, HeadLimits, RequestBody, ResponseBody,
};
use _engine::runtime::epoll::Epoll;
use _engine::runtime::socket;
use _engine::session::{Command, Engine, Served};
use _engine::state::entity::{Entity, Kind};
use _engine::state::ledger::Ledger;
use _engine::telemetry::counters::Metrics;
use _engine::tls::policy::Tls;

/// Turns after which an engine goes round and round.
const TURNS_MAX: usize = 10_000;

/// For what the engine has written itself.
const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 1 << 20,
    header_count_max: 300,
};

/// What is spoken with the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    Http1,
    Http2,
}

/// The engine, a listener of it, and the socket of its one backend.
pub struct Rig {
    engine: Engine<Epoll>,
    door: SocketAddr,
    backend: TcpListener,
}

impl Rig {
    /// Clients may speak either version.
    pub fn new(spoken: Spoken) -> Self {
        Self::asking(spoken, "", "")
    }

    /// The same, whose frontend and settings have more keys, each with a comma behind it.
    pub fn asking(spoken: Spoken, keys: &str, settings: &str) -> Self {
        let (door, backend) = (listen(), listen());
        let (address, target) = (door.local_addr().unwrap(), backend.local_addr().unwrap());
        let ops = entities(address, target, spoken, keys, settings);
        let sockets = HashMap::from([("web".to_owned(), OwnedFd::from(door))]);
        Self::of(ops.as_bytes(), sockets, &HashMap::new(), address, backend)
    }

    /// An engine with these entities, whose clients come by one of its listeners.
    pub fn of(
        ops: &[u8],
        sockets: HashMap<String, OwnedFd>,
        materials: &HashMap<String, Option<Vec<u8>>>,
        door: SocketAddr,
        backend: TcpListener,
    ) -> Self {
        let tls = Tls::default();
        let served = Served {
            certificates: tls.certificates.clone(),
            challenges: tls.challenges.clone(),
        };
        let wake = socket::wake_descriptor().unwrap();
        let waker = socket::duplicate(wake.as_raw_fd()).unwrap();
        let (commands, inbox) = mpsc::channel();
        let metrics = Metrics::create(0).unwrap();
        let epoll = Epoll::new().unwrap();
        let engine = Engine::new(epoll, wake, inbox, metrics, served, 1).unwrap();
        let mut ledger = Ledger::new(tls);
        ledger.serving = true;
        ledger.stage(1, 0, ops, materials).unwrap();
        let base = (0, ledger.digest);
        ledger.prepare(1, base, "c0ffee", 1, sockets).unwrap();
        let staged = ledger.take_staged(1).unwrap();
        let (answer, _committed) = mpsc::channel();
        let (started, _serving) = mpsc::channel();
        commands
            .send(Command::Serve(HashMap::new(), started))
            .unwrap();
        commands
            .send(Command::Commit(Box::new(staged), answer))
            .unwrap();
        socket::wake(waker.as_raw_fd());
        let mut rig = Self {
            engine,
            door,
            backend,
        };
        rig.settle();
        rig
    }

    /// A connection of a client.
    pub fn client(&mut self) -> Peer {
        let peer = Peer::new(TcpStream::connect(self.door).unwrap());
        self.settle();
        peer
    }

    /// The next connection to the backend, if the engine has made one.
    pub fn backend(&mut self) -> Option<Peer> {
        self.settle();
        self.accepted()
    }

    /// The next connection to the backend that is there now.
    pub fn accepted(&mut self) -> Option<Peer> {
        match self.backend.accept() {
            Ok((stream, _)) => Some(Peer::new(stream)),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                None
            }
        }
    }

    /// One turn of the engine's loop; whether there was something to do.
    pub fn turn(&mut self) -> bool {
        self.engine.turn_by_hand().unwrap()
    }

    /// Does all that there is to do.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..TURNS_MAX {
            match self.turn() {
                true => quiet = 0,
                false => quiet += 1,
            }
            if quiet == 2 {
                return;
            }
        }
        panic!("there is always something left to do");
    }

    /// Says something to the engine, in pieces of so many bytes, each of which it has seen to before the next.
    pub fn say(&mut self, peer: &mut Peer, bytes: &[u8], piece: usize) {
        for piece in bytes.chunks(piece.max(1)) {
            peer.send(piece);
            self.settle();
        }
    }

    /// Everybody has left: nothing is kept of them.
    pub fn check_empty(&mut self) {
        self.settle();
        while let Some(late) = self.backend() {
            drop(late);
            self.settle();
        }
        // Streams that were answered early are reset a moment later.
        let until = Instant::now() + Duration::from_secs(1);
        while !self.engine.is_empty() && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
            self.settle();
        }
        assert!(self.engine.is_empty(), "something is left behind");
    }
}

/// The other end of a connection of the engine.
pub struct Peer {
    stream: TcpStream,
    /// All that has come.
    pub got: Vec<u8>,
    /// Nothing more will.
    pub ended: bool,
}

impl Peer {
    /// Takes a connection over.
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            got: Vec::new(),
            ended: false,
        }
    }

    /// Sends all of it, as far as the engine listens.
    pub fn send(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(_) => return,
            }
        }
    }

    /// Sends as much of it as there is room for; returns how much that is.
    pub fn send_some(&mut self, bytes: &[u8]) -> usize {
        self.stream.write(bytes).unwrap_or(0)
    }

    /// Sends no more.
    pub fn end(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Takes what has come, and says what of it is new.
    pub fn hear(&mut self) -> Vec<u8> {
        let before = self.got.len();
        let mut bytes = [0; 65_536];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    self.got.extend_from_slice(&bytes[..count]);
                    continue;
                }
                Err(error) => self.ended |= error.kind() != ErrorKind::WouldBlock,
            }
            return self.got[before..].to_vec();
        }
    }
}

/// What came of a request, as its client sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answered {
    /// A whole response, from whom ever.
    Whole {
        interim: Vec<u16>,
        status: u16,
        body: Vec<u8>,
        trailers: Vec<u8>,
    },
    /// An end before the end of a response.
    Cut,
    /// Nothing yet, or not all.
    Open,
}

impl Answered {
    /// A whole response that may be the backend's: 502 is what a client gets for one that is none.
    pub fn unfailed(self) -> Option<Self> {
        let has_failed = matches!(self.status(), 0 | 502);
        (!has_failed).then_some(self)
    }

    /// The status of a whole response, 0 without one.
    pub fn status(&self) -> u16 {
        match self {
            Self::Whole { status, .. } => *status,
            Self::Cut | Self::Open => 0,
        }
    }
}

/// The responses that a client of HTTP/1.1 has got to its requests, the last of which may not be whole. Whatever is
/// no strict HTTP/1.1 is a fault of the engine.
pub fn answers(peer: &mut Peer, is_head: bool) -> Vec<Answered> {
    peer.hear();
    let mut rest = peer.got.as_slice();
    let mut found = Vec::new();
    while !rest.is_empty() {
        match answer(rest, is_head) {
            Some((one, length)) => {
                let is_switch = one.status() == 101;
                found.push(one);
                rest = &rest[length..];
                // What follows is another protocol.
                if is_switch {
                    return found;
                }
            }
            None if peer.ended => {
                found.push(Answered::Cut);
                return found;
            }
            None => {
                found.push(Answered::Open);
                return found;
            }
        }
    }
    found
}

fn answer(bytes: &[u8], is_head: bool) -> Option<(Answered, usize)> {
    let mut head = ResponseHead::default();
    let (mut at, mut interim) = (0, Vec::new());
    loop {
        let parsed = response::parse(
            &bytes[at..],
            &LIMITS,
            is_head,
            Some(b"websocket"),
            &mut head,
        );
        at += parsed.unwrap_or_else(|fault| panic!("{fault:?} in {}", bytes.escape_ascii()))?;
        if !head.interim {
            break;
        }
        interim.push(head.status);
    }
    let (body, trailers, length) = match head.body {
        ResponseBody::None => (Vec::new(), Vec::new(), 0),
        ResponseBody::Length(length) => {
            let length = usize::try_from(length).unwrap();
            (bytes[at..].get(..length)?.to_vec(), Vec::new(), length)
        }
        ResponseBody::Chunked => dechunk(&bytes[at..])?,
        ResponseBody::UntilClose => panic!("an end that cannot be told from a cut"),
    };
    let whole = Answered::Whole {
        interim,
        status: head.status,
        body,
        trailers,
    };
    Some((whole, at + length))
}

/// A request as the backend has got it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    pub line: String,
    pub body: Vec<u8>,
}

/// The requests that a connection of HTTP/1.1 to the backend has brought whole. Whatever is no strict HTTP/1.1
/// could be read in another way, and is a fault of the engine.
pub fn requests(peer: &mut Peer) -> Vec<Asked> {
    peer.hear();
    let mut rest = peer.got.as_slice();
    let mut found = Vec::new();
    let mut head = RequestHead::default();
    loop {
        let text = named(rest);
        let parsed = request::parse(&text, &LIMITS, &mut head);
        let parsed = parsed.unwrap_or_else(|fault| panic!("{fault:?} in {}", rest.escape_ascii()));
        let Some(length) = parsed else {
            return found;
        };
        let length = length + rest.len() - text.len();
        let (text, after) = rest.split_at(length);
        let (body, length) = match head.body {
            RequestBody::None => (Vec::new(), 0),
            RequestBody::Length(length) => match after.get(..length as usize) {
                Some(body) => (body.to_vec(), body.len()),
                None => return found,
            },
            RequestBody::Chunked => match dechunk(after) {
                Some((body, _, length)) => (body, length),
                None => return found,
            },
        };
        let line = text.split(|byte| *byte == b'\r').next().unwrap();
        found.push(Asked {
            line: String::from_utf8_lossy(line).into_owned(),
            body,
        });
        rest = &after[length..];
    }
}

/// With a host where HTTP/1.0 had none, which we would not take ourselves (RFC 9112 §3.2).
fn named(text: &[u8]) -> Cow<'_, [u8]> {
    const NAMELESS: &[u8] = b"\r\nHost: \r\n";
    let line = text.iter().position(|byte| *byte == b'\r').unwrap_or(0);
    match text[line..].strip_prefix(NAMELESS) {
        Some(rest) => [&text[..line], b"\r\nHost: a\r\n", rest].concat().into(),
        None => text.into(),
    }
}

/// A body in chunks that is there whole: its content, its trailers, and how long all of it is.
fn dechunk(bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>, usize)> {
    let mut decoder = ChunkedDecoder::new(ChunkLimits::of_backend());
    let (mut at, mut body) = (0, Vec::new());
    loop {
        let rest = &bytes[at..];
        match decoder.decode(rest).expect("chunks of our own") {
            Chunk::Data { start, end } => {
                body.extend_from_slice(&rest[start..end]);
                at += end;
            }
            Chunk::NeedMore { .. } => return None,
            Chunk::Done { consumed } => {
                return Some((body, decoder.trailers().to_text(), at + consumed));
            }
        }
    }
}

/// A socket that listens.
pub fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

fn entities(
    door: SocketAddr,
    backend: SocketAddr,
    spoken: Spoken,
    keys: &str,
    settings: &str,
) -> String {
    let protocol = match spoken {
        Spoken::Http1 => "http",
        Spoken::Http2 => "h2",
    };
    let puts = [
        (
            "settings",
            "settings",
            format!(r#"{{{settings}"access_log":"off"}}"#),
        ),
        (
            "listener",
            "web",
            format!(r#"{{"address":"{door}","h2c":true,"protocol":"http"}}"#),
        ),
        (
            "cluster",
            "shop",
            format!(r#"{{"protocol":"{protocol}","retries":0}}"#),
        ),
        (
            "backend",
            "shop/1",
            format!(r#"{{"address":"{backend}","weight":1}}"#),
        ),
        (
            "frontend",
            "all",
            format!(
                r#"{{{keys}"cluster":"shop","hostname":"*","listeners":["web"],"path":{{"prefix":"/"}}}}"#
            ),
        ),
    ];
    let puts = puts.map(|(kind, name, value)| {
        let entity = Entity::from_json(Kind::parse(kind).unwrap(), &value).unwrap();
        let value = String::from_utf8(entity.canonical()).unwrap();
        format!(r#"{{"kind":"{kind}","name":"{name}","value":{value}}}"#)
    });
    format!(r#"{{"puts":[{}],"removes":[]}}"#, puts.join(","))
}

/// A backend of HTTP/1.1 that answers each request by `ok`.
#[derive(Default)]
pub struct Honest {
    connections: Vec<(Peer, usize)>,
    /// All that it was asked, in the order in which it was whole.
    pub asked: Vec<Asked>,
}

impl Honest {
    /// Answers whatever is there, and what comes of that.
    pub fn serve(&mut self, rig: &mut Rig) {
        let mut is_busy = true;
        while is_busy {
            is_busy = false;
            while let Some(peer) = rig.backend() {
                self.connections.push((peer, 0));
            }
            for (peer, answered) in &mut self.connections {
                for asked in requests(peer).split_off(*answered) {
                    let answer = match asked.line.starts_with("HEAD ") {
                        true => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n".as_slice(),
                        false => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                    };
                    peer.send(answer);
                    *answered += 1;
                    self.asked.push(asked);
                    is_busy = true;
                }
            }
            rig.settle();
        }
    }
}
