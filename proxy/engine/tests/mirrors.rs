//! Requests that go to a mirror as well: it gets what the backend gets, and the client never notices it.

mod rig;
mod support;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::time::Duration;

use _engine::protocol::h2::{Connection, Event, Heads, Settings};
use _engine::protocol::lines::LineBuf;
use rig::asking::ask;
use rig::{Answered, Asked, Peer, Rig, answers, listen, requests};
use support::{
    LISTENER, Proxy, SETTINGS, backend, cluster, connect, frontend, ops, serve, start_backend,
};

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: shop\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An engine whose only frontend has a mirror.
struct Shadowed {
    rig: Rig,
    shadow: TcpListener,
}

impl Shadowed {
    fn new(spoken: &str, share: u8) -> Self {
        Self::beside("http", spoken, share)
    }

    /// What the backend speaks, and what the mirror does.
    fn beside(backends: &str, spoken: &str, share: u8) -> Self {
        let (door, behind, shadow) = (listen(), listen(), listen());
        let address = door.local_addr().unwrap();
        let mirror = format!(r#""mirror":{{"cluster":"shadow","share":{share}}},"passthrough""#);
        let speaking = |cluster: String, spoken: &str| {
            cluster.replace(r#""protocol":"http""#, &format!(r#""protocol":"{spoken}""#))
        };
        let puts = [
            SETTINGS.into(),
            LISTENER
                .replace("ADDRESS", &address.to_string())
                .replace(r#""h2c":false"#, r#""h2c":true"#),
            speaking(cluster("blue"), backends),
            speaking(cluster("shadow"), spoken),
            backend("blue/1", behind.local_addr().unwrap()),
            backend("shadow/1", shadow.local_addr().unwrap()),
            frontend("blue").replace(r#""passthrough""#, &mirror),
        ];
        let sockets = HashMap::from([("web".to_owned(), OwnedFd::from(door))]);
        let materials = HashMap::new();
        let rig = Rig::of(&ops(&puts, &[]), sockets, &materials, address, behind);
        Self { rig, shadow }
    }

    /// The next connection to the mirror.
    fn shadow(&mut self) -> Option<Peer> {
        self.rig.settle();
        let (stream, _) = self.shadow.accept().ok()?;
        Some(Peer::new(stream))
    }

    /// Nothing is left once everybody has gone, late connections to the mirror too.
    fn check_empty(mut self) {
        while let Some(late) = self.shadow() {
            drop(late);
        }
        self.rig.check_empty();
    }
}

fn asked(line: &str, body: &[u8]) -> Vec<Asked> {
    let (line, body) = (line.to_owned(), body.to_vec());
    vec![Asked { line, body }]
}

fn ok() -> Answered {
    Answered::Whole {
        interim: vec![],
        status: 200,
        body: b"ok".to_vec(),
        trailers: vec![],
    }
}

#[test]
fn a_mirror_gets_what_the_backend_gets_and_its_answer_is_thrown_away() {
    let length = b"POST /a HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nab".as_slice();
    let chunked =
        b"POST /a HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n";
    for (head, rest) in [
        (length, b"cde".as_slice()),
        (chunked, b"3\r\ncde\r\n0\r\n\r\n"),
    ] {
        for piece in [usize::MAX, 1] {
            let mut all = Shadowed::new("http", 100);
            let mut client = all.rig.client();
            all.rig.say(&mut client, head, piece);
            all.rig.say(&mut client, rest, piece);
            let mut behind = all.rig.backend().unwrap();
            let mut shadow = all.shadow().unwrap();
            let expected = asked("POST /a HTTP/1.1", b"abcde");
            assert_eq!(requests(&mut behind), expected);
            assert_eq!(requests(&mut shadow), expected);
            // Whatever it says, and however often, the client has heard nothing.
            all.rig.say(
                &mut shadow,
                b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno",
                1,
            );
            assert_eq!(answers(&mut client, false), []);
            all.rig.say(&mut behind, OK, usize::MAX);
            assert_eq!(answers(&mut client, false), [ok()]);
            // The next one goes by the same connections.
            all.rig.say(&mut client, GET, usize::MAX);
            assert_eq!(requests(&mut behind).len(), 2);
            assert_eq!(requests(&mut shadow).len(), 2);
            all.rig.say(&mut behind, OK, usize::MAX);
            assert_eq!(answers(&mut client, false), [ok(), ok()]);
            drop((client, behind, shadow));
            all.check_empty();
        }
    }
}

/// What a mirror of HTTP/2 is told, as lines.
fn told(
    peer: &mut Peer,
    connection: &mut Connection,
    heads: &mut Heads,
    at: &mut usize,
) -> Vec<String> {
    peer.hear();
    let mut told = Vec::new();
    loop {
        let step = connection.next(&peer.got[*at..], heads).unwrap();
        *at += step.consumed;
        match step.event {
            Some(Event::Request { ends, .. }) => {
                let path = heads.request.path(heads.text()).escape_ascii();
                told.push(format!("{path} {ends}"));
            }
            Some(Event::Data { data, ends, .. }) => {
                told.push(format!("{} {ends}", data.escape_ascii()));
            }
            Some(Event::Trailers { .. }) => {
                told.push(format!(
                    "trailers {}",
                    heads.trailers().to_text().escape_ascii()
                ));
            }
            Some(_) => {}
            None => return told,
        }
    }
}

#[test]
fn a_mirror_of_http_2_gets_bodies_and_trailers_of_either_version() {
    for of_http_2 in [false, true] {
        let mut all = Shadowed::new("h2", 100);
        let mut client = all.rig.client();
        let mut asking = Connection::client(&Settings::default());
        let mut out = Vec::new();
        if of_http_2 {
            let head = b"POST /a HTTP/1.1\r\nHost: shop\r\n\r\n";
            ask(&mut asking, &mut out, head, "http", 0, false).unwrap();
            asking.send_data(&mut out, 1, b"abcde", false);
            asking.send_trailers(&mut out, 1, LineBuf::one(b"x-sum", b"5").lines());
        } else {
            out.extend_from_slice(
                b"POST /a HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n\
                  5\r\nabcde\r\n0\r\nx-sum: 5\r\n\r\n",
            );
        }
        all.rig.say(&mut client, &out, usize::MAX);
        let mut behind = all.rig.backend().unwrap();
        assert_eq!(requests(&mut behind), asked("POST /a HTTP/1.1", b"abcde"));
        // The mirror has yet to say what it takes: all of the body waits for it, and nothing else does.
        all.rig.say(&mut behind, OK, usize::MAX);
        assert!(client.hear().ends_with(b"ok"));
        let mut shadow = all.shadow().unwrap();
        let (mut serving, mut heads) = (Connection::server(&Settings::default()), Heads::new(7));
        let mut said = Vec::new();
        serving.flush(&mut said);
        all.rig.say(&mut shadow, &said, usize::MAX);
        let mut at = 0;
        assert_eq!(
            told(&mut shadow, &mut serving, &mut heads, &mut at),
            ["/a false", "abcde false", "trailers x-sum: 5\\r\\n"]
        );
        drop((client, behind, shadow));
        all.check_empty();
    }
}

#[test]
fn a_mirror_of_http_1_gets_what_a_backend_of_http_2_gets() {
    let mut all = Shadowed::beside("h2", "http", 100);
    let mut client = all.rig.client();
    let head = b"POST /a HTTP/1.1\r\nHost: shop\r\nX-Own: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    all.rig.say(&mut client, head, usize::MAX);
    all.rig
        .say(&mut client, b"5\r\nabcde\r\n0\r\n\r\n", usize::MAX);
    let mut shadow = all.shadow().unwrap();
    let mut behind = all.rig.backend().unwrap();
    let (mut serving, mut heads) = (Connection::server(&Settings::default()), Heads::new(7));
    let mut said = Vec::new();
    serving.flush(&mut said);
    all.rig.say(&mut behind, &said, usize::MAX);
    let mut at = 0;
    let told = told(&mut behind, &mut serving, &mut heads, &mut at);
    assert_eq!(told, ["/a false", "abcde true"]);
    assert_eq!(requests(&mut shadow), asked("POST /a HTTP/1.1", b"abcde"));
    let text = String::from_utf8_lossy(&shadow.got).into_owned();
    assert!(text.contains("\r\nX-Own: 1\r\n"), "{text}");
    drop((client, behind, shadow));
    all.check_empty();
}

#[test]
fn who_mirrors_to_somebody_who_does_not_read_waits_for_nobody() {
    let mut all = Shadowed::new("http", 100);
    let mut client = all.rig.client();
    let body = vec![b'x'; 16 << 20];
    let head = format!(
        "POST /a HTTP/1.1\r\nHost: shop\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    all.rig.say(&mut client, head.as_bytes(), usize::MAX);
    let mut behind = all.rig.backend().unwrap();
    let mut shadow = all.shadow().unwrap();
    for part in body.chunks(64 * 1024) {
        all.rig.say(&mut client, part, usize::MAX);
        behind.hear();
    }
    assert_eq!(requests(&mut behind), asked("POST /a HTTP/1.1", &body));
    all.rig.say(&mut behind, OK, usize::MAX);
    assert_eq!(answers(&mut client, false), [ok()]);
    // It has been dropped long ago, and what waited for it too.
    for _ in 0..100 {
        shadow.hear();
        all.rig.settle();
    }
    assert!(shadow.ended && shadow.got.len() < body.len());
    drop((client, behind, shadow));
    all.check_empty();
}

#[test]
fn a_mirror_that_fails_in_any_way_is_not_noticed() {
    for said in [
        b"".as_slice(),
        b"HTTP/1.1 200",
        b"no HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\nuntil the end",
    ] {
        for is_before in [true, false] {
            let mut all = Shadowed::new("http", 100);
            let mut client = all.rig.client();
            all.rig.say(&mut client, GET, usize::MAX);
            let mut behind = all.rig.backend().unwrap();
            let mut shadow = all.shadow().unwrap();
            if !is_before {
                all.rig.say(&mut behind, OK, usize::MAX);
            }
            all.rig.say(&mut shadow, said, usize::MAX);
            shadow.end();
            drop(shadow);
            all.rig.settle();
            if is_before {
                all.rig.say(&mut behind, OK, usize::MAX);
            }
            assert_eq!(answers(&mut client, false), [ok()]);
            drop((client, behind));
            all.check_empty();
        }
    }
    // Nobody is there at all.
    let mut all = Shadowed::new("http", 100);
    all.shadow = listen();
    let mut client = all.rig.client();
    all.rig.say(&mut client, GET, usize::MAX);
    let mut behind = all.rig.backend().unwrap();
    all.rig.say(&mut behind, OK, usize::MAX);
    assert_eq!(answers(&mut client, false), [ok()]);
    drop((client, behind));
    all.check_empty();
}

#[test]
fn who_leaves_in_the_middle_of_a_body_takes_the_mirror_along() {
    let mut all = Shadowed::new("http", 100);
    let mut client = all.rig.client();
    let half = b"POST /a HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nab";
    all.rig.say(&mut client, half, usize::MAX);
    let mut shadow = all.shadow().unwrap();
    assert!(!shadow.hear().is_empty() && !shadow.ended);
    drop(client);
    all.rig.settle();
    shadow.hear();
    assert!(shadow.ended, "the rest of it will never come");
    // One that is whole goes on, whoever reads its answer.
    let mut client = all.rig.client();
    all.rig.say(&mut client, GET, usize::MAX);
    drop(client);
    let mut other = all.shadow().unwrap();
    assert_eq!(requests(&mut other), asked("GET /a HTTP/1.1", b""));
    assert!(!other.ended);
    all.rig.say(&mut other, OK, usize::MAX);
    drop((shadow, other));
    all.check_empty();
}

/// A commit removes it while it hangs; the drain is over after 300 ms.
#[test]
fn a_mirror_that_is_removed_is_left() {
    let (told, ended) = mpsc::channel();
    let hanging = serve(move |_, mut stream| {
        let mut bytes = [0; 1024];
        while let Ok(1..) = stream.read(&mut bytes) {}
        let _ = told.send(());
    });
    let mut proxy = Proxy::start(start_backend("blue"));
    let mirrored = r#""mirror":{"cluster":"shadow"},"passthrough""#;
    let puts = [
        cluster("shadow"),
        backend("shadow/1", hanging),
        frontend("blue").replace(r#""passthrough""#, mirrored),
    ];
    proxy.change(&ops(&puts, &[])).unwrap();
    let used = proxy.change(&ops(&[], &[("backend", "shadow/1"), ("cluster", "shadow")]));
    assert!(used.unwrap_err().contains("others refer to it"));
    let mut client = connect(proxy.address);
    client.write_all(GET).unwrap();
    let count = client.read(&mut [0; 1024]).unwrap();
    assert!(count > 0);
    assert!(ended.try_recv().is_err(), "it hangs");
    let removed = [("backend", "shadow/1"), ("cluster", "shadow")];
    proxy.change(&ops(&[frontend("blue")], &removed)).unwrap();
    ended.recv_timeout(Duration::from_secs(5)).unwrap();
    client.write_all(GET).unwrap();
    assert!(client.read(&mut [0; 1024]).unwrap() > 0);
}

#[test]
fn a_mirror_gets_its_share() {
    let mut all = Shadowed::new("http", 10);
    let mut client = all.rig.client();
    let (mut behind, mut shadow) = (None, None);
    for _ in 0..1000 {
        all.rig.say(&mut client, GET, usize::MAX);
        if behind.is_none() {
            behind = all.rig.backend();
        }
        all.rig.say(behind.as_mut().unwrap(), OK, usize::MAX);
        if shadow.is_none() {
            shadow = all.shadow();
        }
        if let Some(shadow) = &mut shadow
            && !shadow.hear().is_empty()
        {
            all.rig.say(shadow, OK, usize::MAX);
        }
    }
    let mirrored = requests(shadow.as_mut().unwrap()).len();
    assert!((60..140).contains(&mirrored), "{mirrored} of 1000");
    drop((client, behind, shadow));
    all.check_empty();
}
