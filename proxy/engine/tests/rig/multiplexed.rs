//! A peer that speaks HTTP/2, in either role, and tells what it has heard.

use std::collections::BTreeMap;

use _engine::protocol::h1::via::Via;
use _engine::protocol::h1::{
    Delivery, HeadLimits, Persistence, ResponseForward, ResponseHead, response,
};
use _engine::protocol::h2::{Connection, Event, Heads};

use super::asking::ask;
use super::{Peer, Rig};

/// A connection of HTTP/2 in the other role, which tells what it has heard.
pub struct Multiplexed {
    /// Its socket.
    pub peer: Peer,
    /// What it says next.
    pub connection: Connection,
    heads: Heads,
    /// Frames that have not been sent.
    pub out: Vec<u8>,
    /// What has come of the bodies, by stream.
    pub bodies: BTreeMap<u32, Vec<u8>>,
    /// The lines of heads, by stream.
    pub lines: BTreeMap<u32, Vec<u8>>,
    seen: usize,
}

impl Multiplexed {
    /// That of a socket.
    pub fn new(peer: Peer, connection: Connection) -> Self {
        Self {
            peer,
            connection,
            heads: Heads::new(7),
            out: Vec::new(),
            bodies: BTreeMap::new(),
            lines: BTreeMap::new(),
            seen: 0,
        }
    }

    /// Sends what is to be sent.
    pub fn say(&mut self, rig: &mut Rig, piece: usize) {
        self.connection.flush(&mut self.out);
        let out = std::mem::take(&mut self.out);
        rig.say(&mut self.peer, &out, piece);
    }

    /// What has come, a line for each event.
    pub fn told(&mut self) -> Vec<String> {
        self.peer.hear();
        let mut told = Vec::new();
        loop {
            let rest = &self.peer.got[self.seen..];
            let step = self.connection.next(rest, &mut self.heads).unwrap();
            self.seen += step.consumed;
            let Some(event) = step.event else {
                return told;
            };
            let text = self.heads.text();
            told.push(match event {
                Event::Request { stream, ends } => {
                    let (method, path) = (
                        self.heads.request.method(text),
                        self.heads.request.path(text),
                    );
                    let (method, path) = (method.escape_ascii(), path.escape_ascii());
                    self.lines.insert(stream, text.to_vec());
                    format!("{stream} {method} {path} {ends}")
                }
                Event::Response { stream, ends, .. } => {
                    self.lines.insert(stream, text.to_vec());
                    format!("{stream} {} {ends}", self.heads.response.status)
                }
                Event::Interim { stream, .. } => {
                    format!("{stream} interim {}", self.heads.response.status)
                }
                Event::Data {
                    stream, data, ends, ..
                } => {
                    let line = format!("{stream} data {} {ends}", data.escape_ascii());
                    let length = data.len();
                    let body = self.bodies.entry(stream).or_default();
                    body.extend_from_slice(data);
                    self.connection.consumed(stream, length);
                    line
                }
                Event::Trailers { stream, .. } => {
                    format!(
                        "{stream} trailers {}",
                        self.heads.trailers().to_text().escape_ascii()
                    )
                }
                Event::Reset { stream, code, .. } => format!("{stream} reset {code:?}"),
                Event::Settings | Event::Pong | Event::Writable { .. } => continue,
                other => format!("{other:?}"),
            });
        }
    }

    /// Asks for a path.
    pub fn get(&mut self, path: &str) {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n"));
    }

    /// Asks by a head that is here as HTTP/1.1 would have it.
    pub fn ask(&mut self, text: &str) {
        let (connection, out) = (&mut self.connection, &mut self.out);
        let stream = ask(connection, out, text.as_bytes(), "http", 0, true);
        assert!(stream.is_some());
    }

    /// Begins an answer.
    pub fn response(&mut self, stream: u32, head: &[u8], ends: bool) {
        let limits = HeadLimits {
            head_bytes_max: 4096,
            header_count_max: 20,
        };
        let mut parsed = ResponseHead::default();
        response::parse(head, &limits, false, None, &mut parsed).unwrap();
        let forward = ResponseForward {
            delivery: match parsed.content_length {
                Some(length) => Delivery::Length(length),
                None => Delivery::UntilClose,
            },
            persistence: Persistence::Implied,
            date: b"",
            extra: Default::default(),
            protocol: b"",
            via: &Via::new("kakehi"),
        };
        let (connection, out) = (&mut self.connection, &mut self.out);
        connection.send_response(out, stream, head, &parsed, &forward, ends);
    }

    /// More of a body, all of which must fit.
    pub fn data(&mut self, stream: u32, data: &[u8], ends: bool) {
        let sent = self.connection.send_data(&mut self.out, stream, data, ends);
        assert_eq!(sent, data.len());
    }
}
