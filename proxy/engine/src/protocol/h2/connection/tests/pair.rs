//! Both roles against each other, in memory, and any bytes at all.

use proptest::prelude::*;

use super::*;
use crate::protocol::h1::RequestBody;

/// What one side has still to send, and has received, for a stream.
#[derive(Clone, Debug, Default)]
struct Flow {
    to_send: Vec<u8>,
    received: Vec<u8>,
    ended: bool,
}

struct Side {
    connection: Connection,
    heads: Heads,
    /// What the other side has sent.
    input: Vec<u8>,
    out: Vec<u8>,
}

impl Side {
    fn new(connection: Connection) -> Self {
        Self {
            connection,
            heads: Heads::default(),
            input: Vec::new(),
            out: Vec::new(),
        }
    }
}

/// A deterministic source of sizes.
struct Sizes(u64);

impl Sizes {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % bound.max(1)
    }
}

struct Run {
    client: Side,
    server: Side,
    /// By tag: the request's body and the response's.
    flows: Vec<[Flow; 2]>,
    sizes: Sizes,
}

impl Run {
    fn new(seed: u64, windows: [u32; 2], bodies: &[[usize; 2]]) -> Self {
        let of = |window| Settings {
            stream_window: window,
            connection_window: 2 * window,
            ..Settings::default()
        };
        let body = |length: usize, tag: usize| Flow {
            to_send: (0..length).map(|at| (at * 7 + tag) as u8).collect(),
            ..Flow::default()
        };
        let flows = bodies.iter().enumerate();
        Self {
            client: Side::new(Connection::client(&of(windows[0]))),
            server: Side::new(Connection::server(&of(windows[1]))),
            flows: flows
                .map(|(tag, lengths)| lengths.map(|length| body(length, tag)))
                .collect(),
            sizes: Sizes(seed),
        }
    }

    fn open_all(&mut self) {
        for tag in 0..self.flows.len() {
            let length = self.flows[tag][0].to_send.len();
            let text = format!(
                "POST /{tag} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\nX-Tag: {tag}\r\n\r\n"
            );
            let Side {
                connection, out, ..
            } = &mut self.client;
            let text = text.as_bytes();
            let stream = super::ask(connection, out, text, "http", tag as u64, false);
            self.send(true, stream.unwrap(), tag);
        }
    }

    /// Sends a part of what is left.
    fn send(&mut self, is_client: bool, stream: u32, tag: usize) {
        let side = if is_client {
            &mut self.client
        } else {
            &mut self.server
        };
        let flow = &mut self.flows[tag][usize::from(!is_client)];
        let sent = side
            .connection
            .send_data(&mut side.out, stream, &flow.to_send, true);
        assert!(sent <= flow.to_send.len());
        flow.to_send.drain(..sent);
    }

    /// Moves some bytes, and has them read.
    fn turn(&mut self, to_client: bool) {
        let (from, to) = if to_client {
            (&mut self.server, &mut self.client)
        } else {
            (&mut self.client, &mut self.server)
        };
        from.connection.flush(&mut from.out);
        let length = (self.sizes.below(40_000) + 1).min(from.out.len());
        to.input.extend(from.out.drain(..length));
        let input = std::mem::take(&mut to.input);
        let mut at = 0;
        loop {
            let side = if to_client {
                &mut self.client
            } else {
                &mut self.server
            };
            let step = side.connection.next(&input[at..], &mut side.heads).unwrap();
            at += step.consumed;
            let Some(event) = step.event else {
                side.input = input[at..].to_vec();
                return;
            };
            self.handle(to_client, event);
        }
    }

    fn handle(&mut self, is_client: bool, event: Event<'_>) {
        match event {
            Event::Request { stream, ends } => {
                assert!(!ends);
                let Side {
                    connection,
                    heads,
                    out,
                    ..
                } = &mut self.server;
                let tag = heads.request.values(heads.text(), "x-tag").next().unwrap();
                let tag: u64 = std::str::from_utf8(tag).unwrap().parse().unwrap();
                let flow = &self.flows[tag as usize];
                let length = flow[0].to_send.len() + flow[0].received.len();
                assert!(
                    matches!(heads.request.body, RequestBody::Length(all) if all >= length as u64)
                );
                connection.set_tag(stream, tag);
                super::send_text(connection, out, stream, b"HTTP/1.1 200 OK\r\n\r\n", false);
                self.send(false, stream, tag as usize);
            }
            Event::Response { ends, .. } => assert!(!ends),
            Event::Data {
                stream,
                tag,
                data,
                ends,
            } => {
                let flow = &mut self.flows[tag as usize][usize::from(is_client)];
                flow.received.extend_from_slice(data);
                assert!(!flow.ended);
                flow.ended = ends;
                let side = if is_client {
                    &mut self.client
                } else {
                    &mut self.server
                };
                side.connection.consumed(stream, data.len());
            }
            Event::Writable { stream, tag } => self.send(is_client, stream, tag as usize),
            Event::Settings => {}
            event => panic!("{event:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn many_streams_arrive_whole(
        seed: u64,
        windows in [60_000u32..200_000, 60_000u32..200_000],
        bodies in proptest::collection::vec([0usize..150_000, 0usize..150_000], 1..20),
    ) {
        let mut run = Run::new(seed, windows, &bodies);
        run.open_all();
        let mut turns = 0;
        while run.flows.iter().flatten().any(|flow| !flow.ended) {
            let to_client = run.sizes.below(2) == 0;
            run.turn(to_client);
            turns += 1;
            prop_assert!(turns < 20_000, "no progress");
        }
        for (tag, (flows, lengths)) in run.flows.iter().zip(&bodies).enumerate() {
            for (flow, &length) in flows.iter().zip(lengths) {
                prop_assert!(flow.to_send.is_empty() && flow.received.len() == length);
                prop_assert!(flow.received.iter().enumerate().all(|(at, &byte)| byte == (at * 7 + tag) as u8));
            }
        }
        prop_assert_eq!(run.client.connection.stream_count(), 0);
        prop_assert_eq!(run.server.connection.stream_count(), 0);
    }
}

/// Frames that are likely to mean something.
fn likely() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![
        Just(Kind::Data),
        Just(Kind::Headers),
        Just(Kind::ResetStream),
        Just(Kind::Settings),
        Just(Kind::Ping),
        Just(Kind::WindowUpdate),
        Just(Kind::Continuation),
        Just(Kind::GoAway),
        Just(Kind::Unknown),
    ];
    let payload = prop_oneof![
        Just(Peer::default().block(GET)),
        Just(Peer::default().block(POST)),
        Just(Peer::default().block(&[(":status", "200")])),
        Just(vec![0, 0, 0, 1]),
        Just(vec![0; 8]),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    let frame = (
        kind,
        prop_oneof![Just(4u8), Just(5), Just(0), any::<u8>()],
        0u32..6,
        payload,
    );
    let frame = frame.prop_map(|(kind, flags, stream, payload)| {
        let mut out = Vec::new();
        frame::write(&mut out, kind, flags, stream, &payload);
        out
    });
    proptest::collection::vec(frame, 0..30).prop_map(|frames| frames.concat())
}

/// DATA in one piece, whatever the pieces were that it came in.
fn joined(told: Told) -> Told {
    let mut all: Vec<String> = Vec::new();
    for event in told? {
        let parts: Vec<&str> = event.splitn(3, ' ').collect();
        if let [stream, "data", rest] = parts[..] {
            if let Some(last) = all.last_mut().filter(|last| {
                last.starts_with(&format!("{stream} data")) && last.ends_with("false")
            }) {
                last.truncate(last.len() - "false".len() - 1);
                last.push_str(rest);
                continue;
            }
        }
        all.push(event);
    }
    Ok(all)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn events_do_not_depend_on_how_bytes_arrive(input in likely(), piece in 1usize..50) {
        let whole = feed(&mut server(), &input, input.len());
        let mut connection = server();
        let pieces = feed(&mut connection, &input, piece);
        prop_assert_eq!(pieces.is_err(), whole.is_err());
        if whole.is_ok() {
            prop_assert_eq!(joined(pieces), joined(whole));
        } else {
            prop_assert_eq!(pieces, whole);
        }
        let mut client = client();
        for _ in 0..3 {
            super::ask(&mut client, &mut Vec::new(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "http", 0, false);
        }
        let _ = feed(&mut client, &input, piece);
    }

    #[test]
    fn t13_random_bytes_do_no_harm(input in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = feed(&mut server(), &input, 7);
        let _ = feed(&mut client(), &input, 7);
        let _ = feed(&mut Connection::server(&settings()), &input, 7);
    }
}
