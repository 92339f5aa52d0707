//! Requests that wait to be let pass: who is asked what, what becomes of them, and that nothing is left of it.

mod rig;
mod support;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::time::Duration;

use _engine::protocol::h2::{Connection, ErrorCode, Settings};
use _engine::protocol::lines::LineBuf;
use rig::asking::ask;
use rig::multiplexed::Multiplexed;
use rig::{Answered, Asked, Peer, Rig, answers, listen, requests};
use support::{
    LISTENER, Proxy, SETTINGS, backend, cluster, connect, frontend, ops, serve, start_backend,
};

const POST: &[u8] =
    b"POST /a%2fb?c=d HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\nX-User: root\r\n\
    X_user: root\r\nX-Original-URL: /no\r\nX-Forwarded-Uri: /no\r\nCookie: a=b\r\n\
    If-None-Match: x\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Type: text/plain\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const PASS: &[u8] = b"HTTP/1.1 200 OK\r\nX-User: alice\r\nX-User: bob\r\nX-Other: no\r\n\
    Content-Length: 4\r\n\r\npass";
const REFUSE: &[u8] = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a\"\r\n\
    Transfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n";

/// An engine whose frontend has somebody asked.
struct Asking {
    rig: Rig,
    authoriser: TcpListener,
}

impl Asking {
    fn new() -> Self {
        Self::with("", "", frontend("blue"))
    }

    /// With more that is said about the question, and more keys of the frontend.
    fn with(how: &str, more: &str, frontend: String) -> Self {
        Self::by("http", how, more, frontend)
    }

    /// By what is spoken with who is asked.
    fn by(spoken: &str, how: &str, more: &str, frontend: String) -> Self {
        let (door, behind, authoriser) = (listen(), listen(), listen());
        let address = door.local_addr().unwrap();
        let asked = format!(
            r#""forward_auth":{{"cluster":"sso","copy_headers":["X-User"],"path":"/verify?x=y"{how}}},{more}"passthrough""#
        );
        let puts = [
            SETTINGS.into(),
            LISTENER
                .replace("ADDRESS", &address.to_string())
                .replace(r#""h2c":false"#, r#""h2c":true"#),
            cluster("blue"),
            cluster("sso").replace(r#""protocol":"http""#, &format!(r#""protocol":"{spoken}""#)),
            backend("blue/1", behind.local_addr().unwrap()),
            backend("sso/1", authoriser.local_addr().unwrap()),
            frontend.replace(r#""passthrough""#, &asked),
        ];
        let sockets = HashMap::from([("web".to_owned(), OwnedFd::from(door))]);
        let rig = Rig::of(&ops(&puts, &[]), sockets, &HashMap::new(), address, behind);
        Self { rig, authoriser }
    }

    /// The next connection to who is asked.
    fn authoriser(&mut self) -> Option<Peer> {
        self.rig.settle();
        let (stream, _) = self.authoriser.accept().ok()?;
        Some(Peer::new(stream))
    }

    fn check_empty(mut self) {
        while let Some(late) = self.authoriser() {
            drop(late);
        }
        self.rig.check_empty();
    }
}

fn ok() -> Answered {
    whole(200, b"ok")
}

fn whole(status: u16, body: &[u8]) -> Answered {
    Answered::Whole {
        interim: vec![],
        status,
        body: body.to_vec(),
        trailers: vec![],
    }
}

fn lines(peer: &mut Peer) -> Vec<String> {
    peer.hear();
    let text = String::from_utf8_lossy(&peer.got).into_owned();
    text.lines().map(str::to_owned).collect()
}

fn has(lines: &[String], line: &str) -> bool {
    lines.iter().any(|other| other == line)
}

#[test]
fn a_request_waits_until_it_may_pass_and_loses_nothing() {
    for piece in [usize::MAX, 7, 1] {
        let mut all = Asking::new();
        let mut client = all.rig.client();
        all.rig.say(&mut client, POST, piece);
        all.rig.say(&mut client, b"abc", piece);
        let mut authoriser = all.authoriser().unwrap();
        let asked = lines(&mut authoriser);
        assert_eq!(asked[0], "GET /verify?x=y HTTP/1.1");
        for line in [
            "Host: shop",
            "Cookie: a=b",
            "X-Forwarded-Method: POST",
            "X-Forwarded-Uri: /a%2Fb?c=d",
            "X-Forwarded-Host: shop",
            "X-Original-Method: POST",
            "X-Original-URL: http://shop/a%2Fb?c=d",
        ] {
            assert!(has(&asked, line), "{line} is not in {asked:#?}");
        }
        let text = asked.join("\n").to_lowercase();
        for name in [
            "root",
            "content-",
            "if-none",
            "x-hop",
            "transfer-",
            ": /no",
            "expect",
            "connection",
        ] {
            assert!(!text.contains(name), "{name} is in {text}");
        }
        assert!(all.rig.backend().is_none(), "nobody has let it pass");
        all.rig.say(&mut client, b"de", piece);
        assert!(all.rig.backend().is_none() && answers(&mut client, false).is_empty());
        all.rig.say(&mut authoriser, PASS, piece);
        let mut behind = all.rig.backend().unwrap();
        let got = requests(&mut behind);
        assert_eq!(got.len(), 1);
        assert_eq!(got[0].line, "POST /a%2Fb?c=d HTTP/1.1");
        assert_eq!(got[0].body, b"abcde");
        let sent = lines(&mut behind);
        assert!(has(&sent, "X-User: alice") && has(&sent, "X-User: bob"));
        assert!(has(&sent, "Content-Type: text/plain") && has(&sent, "If-None-Match: x"));
        let text = sent.join("\n").to_lowercase();
        assert!(
            !text.contains("root") && !text.contains("x-other"),
            "{text}"
        );
        all.rig.say(&mut behind, OK, usize::MAX);
        assert_eq!(answers(&mut client, false), [ok()]);
        // Both connections are used again.
        all.rig.say(&mut client, POST, piece);
        all.rig.say(&mut client, b"fghij", piece);
        all.rig.say(&mut authoriser, PASS, piece);
        assert_eq!(requests(&mut behind)[1].body, b"fghij");
        all.rig.say(&mut behind, OK, usize::MAX);
        assert_eq!(answers(&mut client, false), [ok(), ok()]);
        drop((client, behind, authoriser));
        all.check_empty();
    }
}

#[test]
fn a_refusal_reaches_its_client_as_it_is() {
    const REDIRECT: &[u8] =
        b"HTTP/1.1 302 Found\r\nLocation: https://sso/\r\nContent-Length: 0\r\n\
        Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n\r\n";
    for (said, expected, line) in [
        (
            REFUSE,
            whole(401, b"no"),
            "WWW-Authenticate: Basic realm=\"a\"",
        ),
        (REDIRECT, whole(302, b""), "Location: https://sso/"),
        (REDIRECT, whole(302, b""), "Set-Cookie: c=d"),
    ] {
        for piece in [usize::MAX, 1] {
            let mut all = Asking::new();
            let mut client = all.rig.client();
            let mut asked = b"GET /a HTTP/1.1\r\nHost: shop\r\n\r\n".to_vec();
            asked.extend_from_slice(b"GET /b HTTP/1.1\r\nHost: shop\r\n\r\n");
            all.rig.say(&mut client, &asked, piece);
            let mut authoriser = all.authoriser().unwrap();
            all.rig.say(&mut authoriser, said, piece);
            assert_eq!(answers(&mut client, false), std::slice::from_ref(&expected));
            assert!(has(&lines(&mut client), line));
            // The next one is asked about by itself.
            all.rig.say(&mut authoriser, PASS, piece);
            let mut behind = all.rig.backend().unwrap();
            assert_eq!(requests(&mut behind)[0].line, "GET /b HTTP/1.1");
            all.rig.say(&mut behind, OK, usize::MAX);
            assert_eq!(answers(&mut client, false), [expected.clone(), ok()]);
            drop((client, authoriser, behind));
            all.check_empty();
        }
    }
}

#[test]
fn a_refusal_of_a_head_has_no_body_and_one_before_the_body_is_the_last_word() {
    let mut all = Asking::new();
    let mut client = all.rig.client();
    all.rig
        .say(&mut client, b"HEAD / HTTP/1.1\r\nHost: shop\r\n\r\n", 9);
    let mut authoriser = all.authoriser().unwrap();
    all.rig.say(&mut authoriser, REFUSE, usize::MAX);
    assert_eq!(answers(&mut client, true), [whole(401, b"")]);
    assert!(has(&lines(&mut client), "Content-Length: 2"));
    all.rig.say(&mut client, POST, usize::MAX);
    all.rig.say(&mut authoriser, REFUSE, usize::MAX);
    assert!(has(&lines(&mut client), "Connection: close"));
    drop((client, authoriser));
    all.check_empty();
}

#[test]
fn what_is_no_verdict_lets_nobody_pass() {
    let long = [
        b"HTTP/1.1 403 No\r\nContent-Length: 70000\r\n\r\n".as_slice(),
        &[b'x'; 70_000],
    ]
    .concat();
    for said in [
        b"".as_slice(),
        b"HTTP/1.1 200",
        b"no HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
        &long,
    ] {
        let mut all = Asking::new();
        let mut client = all.rig.client();
        all.rig.say(&mut client, POST, usize::MAX);
        let mut authoriser = all.authoriser().unwrap();
        all.rig.say(&mut authoriser, said, usize::MAX);
        authoriser.end();
        drop(authoriser);
        // A repetition on a fresh connection is one of the cluster's retries.
        while let Some(mut again) = all.authoriser() {
            again.end();
        }
        all.rig.settle();
        let status = answers(&mut client, false)[0].status();
        assert_eq!(status, 503, "{}", said.escape_ascii());
        assert!(all.rig.backend().is_none());
        drop(client);
        all.check_empty();
    }
}

#[test]
fn nobody_there_and_nothing_in_time_let_nobody_pass() {
    let mut all = Asking::new();
    all.authoriser = listen();
    let mut client = all.rig.client();
    all.rig.say(&mut client, POST, usize::MAX);
    assert_eq!(answers(&mut client, false)[0].status(), 503);
    assert!(all.rig.backend().is_none());
    drop(client);
    all.check_empty();

    let mut all = Asking::with(r#","timeout":50"#, "", frontend("blue"));
    let mut client = all.rig.client();
    all.rig.say(&mut client, POST, usize::MAX);
    let mut authoriser = all.authoriser().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    all.rig.settle();
    assert_eq!(answers(&mut client, false)[0].status(), 503);
    authoriser.hear();
    assert!(authoriser.ended, "nobody waits for the answer");
    drop((client, authoriser));
    all.check_empty();
}

#[test]
fn nobody_says_who_he_is_behind_his_body() {
    const CHUNKED: &[u8] = b"POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n\
        2\r\nab\r\n0\r\nX-User: root\r\n\r\n";
    let mut all = Asking::new();
    let mut client = all.rig.client();
    all.rig.say(&mut client, CHUNKED, usize::MAX);
    let mut authoriser = all.authoriser().unwrap();
    all.rig.say(&mut authoriser, PASS, usize::MAX);
    let mut behind = all.rig.backend().unwrap();
    assert_eq!(requests(&mut behind)[0].body, b"ab");
    let peer = all.rig.client();
    let mut other = Multiplexed::new(peer, Connection::client(&Settings::default()));
    let head = b"POST / HTTP/1.1\r\nHost: shop\r\n\r\n";
    let (connection, out) = (&mut other.connection, &mut other.out);
    ask(connection, out, head, "http", 0, false).unwrap();
    other.data(1, b"cd", false);
    let (connection, out) = (&mut other.connection, &mut other.out);
    connection.send_trailers(out, 1, LineBuf::one(b"x-user", b"root").lines());
    other.say(&mut all.rig, usize::MAX);
    // By the same connection, which is free.
    all.rig.say(&mut authoriser, PASS, usize::MAX);
    let mut next = all.rig.backend().unwrap();
    assert_eq!(requests(&mut next)[0].body, b"cd");
    for peer in [&mut behind, &mut next] {
        let sent = lines(peer).join("\n");
        assert!(!sent.contains("root"), "{sent}");
    }
    drop((client, other, authoriser, behind, next));
    all.check_empty();
}

#[test]
fn who_is_asked_over_http_2_is_told_the_same() {
    let mut all = Asking::by("h2", "", "", frontend("blue"));
    let mut client = all.rig.client();
    all.rig.say(&mut client, POST, usize::MAX);
    all.rig.say(&mut client, b"abcde", usize::MAX);
    let peer = all.authoriser().unwrap();
    let mut authoriser = Multiplexed::new(peer, Connection::server(&Settings::default()));
    authoriser.say(&mut all.rig, usize::MAX);
    assert_eq!(authoriser.told(), ["1 GET /verify true"]);
    let asked = String::from_utf8(authoriser.lines[&1].clone()).unwrap();
    for line in [
        ":path: /verify?x=y",
        ":authority: shop",
        "cookie: a=b",
        "x-forwarded-method: POST",
        "x-forwarded-uri: /a%2Fb?c=d",
        "x-original-url: http://shop/a%2Fb?c=d",
    ] {
        assert!(
            asked.lines().any(|it| it == line),
            "{line} is not in {asked}"
        );
    }
    assert!(!asked.contains("root") && !asked.contains("/no"), "{asked}");
    authoriser.response(1, &PASS[..PASS.len() - 4], false);
    authoriser.data(1, b"pass", true);
    authoriser.say(&mut all.rig, usize::MAX);
    let mut behind = all.rig.backend().unwrap();
    assert_eq!(requests(&mut behind)[0].body, b"abcde");
    assert!(has(&lines(&mut behind), "X-User: alice"));
    drop((client, authoriser, behind));
    all.check_empty();
}

#[test]
fn who_leaves_meanwhile_takes_the_question_along() {
    let mut all = Asking::new();
    let mut client = all.rig.client();
    all.rig.say(&mut client, POST, usize::MAX);
    let mut authoriser = all.authoriser().unwrap();
    drop(client);
    all.rig.settle();
    authoriser.hear();
    assert!(authoriser.ended, "nobody waits for the answer");
    // A stream that is reset has left, whatever it has asked.
    let peer = all.rig.client();
    let mut client = Multiplexed::new(peer, Connection::client(&Settings::default()));
    let head = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
    let (connection, out) = (&mut client.connection, &mut client.out);
    ask(connection, out, head, "http", 0, true).unwrap();
    client.say(&mut all.rig, usize::MAX);
    let mut other = all.authoriser().unwrap();
    client.connection.reset(1, ErrorCode::Cancel);
    client.connection.flush(&mut client.out);
    client.say(&mut all.rig, usize::MAX);
    other.hear();
    assert!(other.ended, "nobody waits for the answer");
    drop((client, authoriser, other));
    all.check_empty();
}

/// A commit removes whom it asks, or where it has come to, while it waits; the drain is over after 300 ms.
#[test]
fn a_drain_ends_the_waiting() {
    for is_listener in [false, true] {
        let (told, ended) = mpsc::channel();
        let (begun, waits) = mpsc::channel();
        let hanging = serve(move |_, mut stream| {
            let mut bytes = [0; 1024];
            let _ = stream.read(&mut bytes);
            let _ = begun.send(());
            while let Ok(1..) = stream.read(&mut bytes) {}
            let _ = told.send(());
        });
        let mut proxy = Proxy::start(start_backend("blue"));
        let asked = r#""forward_auth":{"cluster":"sso","timeout":30000},"passthrough""#;
        let puts = [
            cluster("sso"),
            backend("sso/1", hanging),
            frontend("blue").replace(r#""passthrough""#, asked),
        ];
        proxy.change(&ops(&puts, &[])).unwrap();
        let used = proxy.change(&ops(&[], &[("backend", "sso/1"), ("cluster", "sso")]));
        assert!(used.unwrap_err().contains("others refer to it"));
        let mut client = connect(proxy.address);
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
            .unwrap();
        waits.recv_timeout(Duration::from_secs(5)).unwrap();
        let change = match is_listener {
            false => {
                let removed = [("backend", "sso/1"), ("cluster", "sso")];
                ops(&[frontend("blue")], &removed)
            }
            true => ops(&[], &[("frontend", "all"), ("listener", "web")]),
        };
        proxy.change(&change).unwrap();
        ended.recv_timeout(Duration::from_secs(5)).unwrap();
        let mut got = [0; 1024];
        let count = client.read(&mut got).unwrap_or(0);
        let expected = if is_listener { "" } else { "HTTP/1.1 503" };
        let got = String::from_utf8_lossy(&got[..count]);
        assert!(
            got.starts_with(expected) && got.is_empty() == is_listener,
            "{got}"
        );
    }
}

#[test]
fn each_stream_of_http_2_waits_for_itself() {
    for piece in [usize::MAX, 1] {
        let mut all = Asking::new();
        let peer = all.rig.client();
        let mut client = Multiplexed::new(peer, Connection::client(&Settings::default()));
        let head = b"POST /a HTTP/1.1\r\nHost: shop\r\nX-User: root\r\n\r\n";
        let (connection, out) = (&mut client.connection, &mut client.out);
        for _ in 0..2 {
            ask(connection, out, head, "http", 0, false).unwrap();
        }
        client.data(1, b"abc", true);
        client.data(3, b"de", false);
        client.say(&mut all.rig, piece);
        let (mut first, mut second) = (all.authoriser().unwrap(), all.authoriser().unwrap());
        all.rig.say(&mut first, PASS, piece);
        let mut behind = all.rig.backend().unwrap();
        let body = b"abc".to_vec();
        let line = "POST /a HTTP/1.1".to_owned();
        assert_eq!(requests(&mut behind), [Asked { line, body }]);
        assert!(has(&lines(&mut behind), "X-User: alice"));
        all.rig.say(&mut second, REFUSE, piece);
        all.rig.say(&mut behind, OK, usize::MAX);
        client.say(&mut all.rig, piece);
        let told = client.told();
        for expected in [
            "3 401 false",
            "3 data no true",
            "1 200 false",
            "1 data ok true",
        ] {
            assert!(
                told.iter().any(|it| it == expected),
                "{expected} is not in {told:?}"
            );
        }
        drop((client, behind, first, second));
        all.check_empty();
    }
}

#[test]
fn what_the_configuration_answers_is_answered_to_who_may_ask() {
    let answers_itself = frontend("blue").replace(
        r#""cluster":"blue""#,
        r#""cluster":null,"respond":{"body":"hello","status":200}"#,
    );
    for (said, expected) in [(PASS, whole(200, b"hello")), (REFUSE, whole(401, b"no"))] {
        let mut all = Asking::with("", "", answers_itself.clone());
        let mut client = all.rig.client();
        all.rig.say(
            &mut client,
            b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n",
            usize::MAX,
        );
        assert!(answers(&mut client, false).is_empty());
        let mut authoriser = all.authoriser().unwrap();
        all.rig.say(&mut authoriser, said, usize::MAX);
        assert_eq!(answers(&mut client, false), [expected]);
        drop((client, authoriser));
        all.check_empty();
    }
}

#[test]
fn a_header_that_is_set_here_goes_before_what_was_said() {
    let more = r#""request_headers":{"set":{"x-user":"nobody"}},"#;
    let mut all = Asking::with("", more, frontend("blue"));
    let mut client = all.rig.client();
    all.rig.say(&mut client, POST, usize::MAX);
    all.rig.say(&mut client, b"abcde", usize::MAX);
    let mut authoriser = all.authoriser().unwrap();
    all.rig.say(&mut authoriser, PASS, usize::MAX);
    let mut behind = all.rig.backend().unwrap();
    let sent = lines(&mut behind);
    assert!(has(&sent, "x-user: nobody") && !has(&sent, "X-User: alice"));
    drop((client, authoriser, behind));
    all.check_empty();
}
