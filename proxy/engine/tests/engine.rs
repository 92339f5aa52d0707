//! The engine as its control side uses it: real sockets, no Python. What HTTP means in detail is
//! tested end to end by `tests/e2e`; here it is the transaction: staged, swapped, drained.

mod support;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use _engine::thread::EngineThread;
use support::{
    EMPTY, LISTENER, Proxy, SETTINGS, backend, cluster, connect, frontend, ops, start_backend,
};

/// One request on a kept-alive connection; head and body of the answer.
fn get(stream: &mut TcpStream) -> (String, String) {
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        let count = stream.read(&mut bytes).unwrap();
        assert!(
            count > 0,
            "closed after {:?}",
            String::from_utf8_lossy(&answer)
        );
        answer.extend_from_slice(&bytes[..count]);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .unwrap();
        if body.len() == length.parse::<usize>().unwrap() {
            return (head.to_owned(), body.to_owned());
        }
    }
}

#[test]
fn a_commit_moves_a_kept_alive_client_and_its_revert_moves_it_back() {
    let (blue, green) = (start_backend("blue"), start_backend("green"));
    let mut proxy = Proxy::start(blue);
    let before = proxy.engine.ledger.digest;
    let mut client = connect(proxy.address);
    let (head, body) = get(&mut client);
    assert_eq!(body, "blue");
    assert!(head.contains("Kakehi-Generation: 1"), "{head}");

    let puts = [
        cluster("green"),
        backend("green/1", green),
        frontend("green"),
    ];
    proxy
        .change(&ops(&puts, &[("backend", "blue/1"), ("cluster", "blue")]))
        .unwrap();
    let (head, body) = get(&mut client);
    assert_eq!(body, "green", "the very next request of an open connection");
    assert!(head.contains("Kakehi-Generation: 2"), "{head}");

    let puts = [cluster("blue"), backend("blue/1", blue), frontend("blue")];
    proxy
        .change(&ops(&puts, &[("backend", "green/1"), ("cluster", "green")]))
        .unwrap();
    assert_eq!(get(&mut client).1, "blue");
    assert_eq!(
        proxy.engine.ledger.digest, before,
        "the same content is the same state"
    );
}

#[test]
fn a_frontend_that_answers_itself_needs_no_cluster() {
    let blue = start_backend("blue");
    let mut proxy = Proxy::start(blue);
    let mut client = connect(proxy.address);
    assert_eq!(get(&mut client).1, "blue");
    let respond =
        r#""respond":{"body":"here","status":203},"response_headers":{"set":{"X-Path":"{path}"}},"#;
    let answering = frontend("blue")
        .replace(r#""cluster":"blue","#, "")
        .replace(r#""upgrades""#, &format!(r#"{respond}"upgrades""#));
    let nothing = answering.replace(respond, "");
    let refusal = proxy.change(&ops(&[nothing], &[])).unwrap_err();
    assert!(refusal.contains("exactly one of"), "{refusal}");

    let removed = [("backend", "blue/1"), ("cluster", "blue")];
    proxy.change(&ops(&[answering], &removed)).unwrap();
    let (head, body) = get(&mut client);
    assert_eq!(body, "here", "the very next request of an open connection");
    assert!(
        head.starts_with("HTTP/1.1 203") && head.contains("X-Path: /"),
        "{head}"
    );
    let audited = proxy.engine.begin_audit().wait().unwrap().unwrap();
    assert_eq!(audited.digest, proxy.engine.ledger.digest);
    assert_eq!(audited.differing, Vec::<String>::new());

    let puts = [cluster("blue"), backend("blue/1", blue), frontend("blue")];
    proxy.change(&ops(&puts, &[])).unwrap();
    assert_eq!(get(&mut client).1, "blue");
}

#[test]
fn what_is_refused_leaves_no_trace() {
    let mut proxy = Proxy::start(start_backend("blue"));
    let mut client = connect(proxy.address);
    let refusals: [(Vec<u8>, &str); 6] = [
        (ops(&[frontend("nowhere")], &[]), "which is not there"),
        (ops(&[], &[("cluster", "blue")]), "others refer to it"),
        (ops(&[], &[("backend", "blue/2")]), "it is not there"),
        (
            ops(
                &[LISTENER
                    .replace("web", "more")
                    .replace("ADDRESS", "127.0.0.1:1")],
                &[],
            ),
            "no listening socket",
        ),
        (
            ops(
                &[frontend("blue").replace(r#"{"prefix":"/"}"#, r#"{"regex":"("}"#)],
                &[],
            ),
            "",
        ),
        (b"{".to_vec(), "not readable"),
    ];
    for (ops, reason) in refusals {
        let digest = proxy.engine.ledger.digest;
        let refusal = proxy.change(&ops).unwrap_err();
        assert!(refusal.contains(reason), "{refusal}");
        assert_eq!(proxy.engine.ledger.digest, digest);
        assert_eq!(
            proxy.engine.begin_audit().wait().unwrap().unwrap().digest,
            digest
        );
        assert_eq!(get(&mut client).1, "blue");
    }
}

#[test]
fn an_abort_drops_what_was_staged_and_a_repeated_message_changes_nothing() {
    let mut proxy = Proxy::start(start_backend("blue"));
    let base = (1, proxy.engine.ledger.digest);
    let change = ops(&[backend("blue/2", start_backend("second"))], &[]);
    let stage = |engine: &mut EngineThread| {
        engine.stage(2, 0, &change, &HashMap::new()).unwrap();
        engine.prepare(2, base, "c", 1, &EMPTY).unwrap()
    };
    let first = stage(&mut proxy.engine);
    assert_eq!(stage(&mut proxy.engine), first);
    assert_eq!(
        proxy.engine.prepare(2, base, "c", 1, &EMPTY).unwrap(),
        first
    );
    proxy.engine.abort(2);
    assert!(
        proxy.engine.commit(2).is_err(),
        "nothing is staged any more"
    );
    assert_eq!(
        proxy.engine.begin_audit().wait().unwrap().unwrap().digest,
        base.1
    );
    let again = stage(&mut proxy.engine);
    assert_eq!(proxy.engine.commit(2).unwrap(), again);
    assert_eq!(proxy.engine.commit(2).unwrap(), again, "idempotent");
    proxy.engine.abort(2);
    assert_eq!(
        proxy.engine.begin_audit().wait().unwrap().unwrap().digest,
        again,
        "a committed generation cannot be aborted"
    );
}

#[test]
fn a_removed_listener_answers_what_it_has_accepted_and_closes() {
    let mut proxy = Proxy::start(start_backend("blue"));
    let mut client = connect(proxy.address);
    assert_eq!(get(&mut client).1, "blue");
    proxy
        .change(&ops(&[], &[("frontend", "all"), ("listener", "web")]))
        .unwrap();
    // A request that has crossed the commit: by the routes that were, and the last.
    let (head, body) = get(&mut client);
    assert_eq!(body, "blue");
    assert!(head.contains("Connection: close"), "{head}");
    assert_eq!(client.read(&mut [0; 16]).unwrap(), 0);
}

/// Whoever asks at the very moment at which an idle connection ends is not reset.
#[test]
fn an_idle_connection_is_left_in_good_order() {
    for is_removed in [true, false] {
        let mut proxy = Proxy::start(start_backend("blue"));
        let patient = SETTINGS.replace(r#""drain_timeout":300"#, r#""drain_timeout":10000"#);
        proxy.change(&ops(&[patient], &[])).unwrap();
        let mut client = connect(proxy.address);
        assert_eq!(get(&mut client).1, "blue");
        let mut stopping = None;
        if is_removed {
            let removed = [("frontend", "all"), ("listener", "web")];
            proxy.change(&ops(&[], &removed)).unwrap();
        } else {
            let mut engine = proxy.engine;
            stopping = Some(std::thread::spawn(move || {
                engine.shutdown(Duration::from_secs(10));
            }));
        }
        assert_eq!(client.read(&mut [0; 16]).unwrap(), 0);
        for _ in 0..3 {
            client
                .write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
                .unwrap();
            std::thread::sleep(Duration::from_millis(50));
            assert_eq!(client.read(&mut [0; 16]).unwrap(), 0, "no reset");
        }
        drop(client);
        if let Some(stopping) = stopping {
            stopping.join().unwrap();
        }
    }
}

#[test]
fn an_overlay_keeps_new_requests_away_and_is_no_part_of_the_digest() {
    let (first, second) = (start_backend("first"), start_backend("second"));
    let mut proxy = Proxy::start(first);
    let digest = proxy
        .change(&ops(&[backend("blue/2", second)], &[]))
        .unwrap();
    proxy.engine.overlay(vec!["blue/1".into()]).unwrap();
    let mut client = connect(proxy.address);
    for _ in 0..6 {
        assert_eq!(get(&mut client).1, "second");
    }
    assert_eq!(
        proxy.engine.begin_audit().wait().unwrap().unwrap().digest,
        digest
    );
    proxy.engine.overlay(Vec::new()).unwrap();
    let answers: Vec<String> = (0..4).map(|_| get(&mut client).1).collect();
    assert!(answers.contains(&"first".to_owned()), "{answers:?}");
}

#[test]
fn shutdown_ends_the_thread_and_lets_go_of_the_sockets() {
    let mut proxy = Proxy::start(start_backend("blue"));
    let copy: OwnedFd = proxy.socket.try_clone().unwrap().into();
    proxy.engine.shutdown(Duration::from_secs(1));
    drop(copy);
    assert_eq!(proxy.engine.listener_fds().count(), 0);
}

/// The whole of `Proxy::start` in chunks of one entity each.
fn chunks(address: &str) -> Vec<Vec<u8>> {
    let blue = start_backend("blue");
    [
        frontend("blue"),
        backend("blue/1", blue),
        SETTINGS.into(),
        cluster("blue"),
        LISTENER.replace("ADDRESS", address),
    ]
    .map(|put| ops(&[put], &[]))
    .to_vec()
}

fn stage_all(engine: &mut EngineThread, generation: u64, chunks: &[Vec<u8>]) {
    for (number, chunk) in (0..).zip(chunks) {
        engine
            .stage(generation, number, chunk, &HashMap::new())
            .unwrap();
    }
}

#[test]
fn a_change_may_come_in_chunks_in_whatever_order_and_serves_when_told_to() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    let mut engine = EngineThread::start(0, None).unwrap();
    let base = (0, engine.ledger.digest);
    stage_all(&mut engine, 7, &chunks(&address.to_string()));
    let digest = engine.prepare(7, base, "c", 5, &EMPTY).unwrap();
    assert_eq!(engine.commit(7).unwrap(), digest);
    assert_eq!(engine.begin_audit().wait().unwrap().unwrap().digest, digest);

    let mut early = connect(address);
    early
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    early
        .write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
        .unwrap();
    assert!(early.read(&mut [0; 10]).is_err(), "it does not accept yet");
    // What it holds may go on meanwhile, and so may its addresses.
    let moved = ops(&[LISTENER.replace("ADDRESS", "127.0.0.1:9")], &[]);
    let back = ops(&[LISTENER.replace("ADDRESS", &address.to_string())], &[]);
    for (generation, change) in [(8, moved), (9, back)] {
        let base = (generation - 1, engine.ledger.digest);
        engine
            .stage(generation, 0, &change, &HashMap::new())
            .unwrap();
        engine.prepare(generation, base, "c", 1, &EMPTY).unwrap();
        engine.commit(generation).unwrap();
    }
    assert_eq!(engine.ledger.digest, digest);

    // One whose socket cannot be had takes no connections, and keeps nobody from the others.
    engine.serve(&EMPTY).unwrap();
    assert!(early.read(&mut [0; 10]).is_err(), "nobody takes it yet");
    let sockets = HashMap::from([("web".to_owned(), socket.as_raw_fd())]);
    engine.serve(&sockets).unwrap();
    engine.serve(&EMPTY).unwrap();
    early
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let count = early.read(&mut [0; 12]).unwrap();
    assert_eq!(count, 12, "what waited is served");
    assert_eq!(get(&mut connect(address)).1, "blue");
    assert_eq!(engine.listener_fds().count(), 1);
}

#[test]
fn chunks_out_of_turn_make_no_change() {
    let mut engine = EngineThread::start(0, None).unwrap();
    let base = (0, engine.ledger.digest);
    let all = chunks("127.0.0.1:9");
    let none = HashMap::new();
    // Lost, repeated, of another generation, too few.
    assert_eq!(
        engine.stage(1, 1, &all[1], &none).unwrap_err().kind,
        "state"
    );
    stage_all(&mut engine, 1, &all[..2]);
    for (generation, number) in [(1, 1), (1, 3), (2, 2)] {
        let refusal = engine.stage(generation, number, &all[2], &none);
        assert_eq!(refusal.unwrap_err().kind, "state");
    }
    assert_eq!(
        engine.prepare(1, base, "c", 5, &EMPTY).unwrap_err().kind,
        "state"
    );
    // A new stream replaces one that was left half sent; dropped ones do not come back.
    stage_all(&mut engine, 1, &all[..2]);
    stage_all(&mut engine, 1, &all);
    engine.ledger.drop_incoming();
    assert!(engine.prepare(1, base, "c", 5, &EMPTY).is_err());
    stage_all(&mut engine, 1, &all[..3]);
    engine.abort(1);
    assert!(engine.stage(1, 3, &all[3], &none).is_err());
    stage_all(&mut engine, 1, &all);
    engine.prepare(1, base, "c", 5, &EMPTY).unwrap();
    engine.commit(1).unwrap();
}

#[test]
fn what_one_chunk_is_refused_for_the_change_is_refused_for() {
    let mut engine = EngineThread::start(0, None).unwrap();
    let base = (0, engine.ledger.digest);
    let mut all = chunks("127.0.0.1:9");
    all[1] = b"{".to_vec();
    let none = HashMap::new();
    engine.stage(1, 0, &all[0], &none).unwrap();
    let refusal = engine.stage(1, 1, &all[1], &none).unwrap_err();
    // On their way already when the refusal was read.
    assert_eq!(engine.stage(1, 2, &all[2], &none), Err(refusal.clone()));
    assert_eq!(engine.prepare(1, base, "c", 5, &EMPTY), Err(refusal));
    // An entity twice, in two chunks; a removal too.
    let twice = [all[0].clone(), all[0].clone()];
    stage_all(&mut engine, 1, &twice);
    let refusal = engine.prepare(1, base, "c", 2, &EMPTY).unwrap_err();
    assert!(refusal.reason.contains("twice"), "{refusal}");
    let gone = ops(&[], &[("cluster", "blue")]);
    stage_all(&mut engine, 1, &[gone.clone(), gone]);
    let refusal = engine.prepare(1, base, "c", 2, &EMPTY).unwrap_err();
    assert!(refusal.reason.contains("twice"), "{refusal}");
}

/// Whether an entity of that name has a slot in the shared counters.
fn has_slot(proxy: &Proxy, name: &str) -> bool {
    // SAFETY: the descriptor is the engine's, which lives on.
    let shared = unsafe { BorrowedFd::borrow_raw(proxy.engine.metrics_fd()) };
    let file = std::fs::File::from(shared.try_clone_to_owned().unwrap());
    let mut bytes = vec![0; 1 << 20];
    file.read_exact_at(&mut bytes, 0).unwrap();
    // Used, its kind, the length of its name, its turn, its name.
    bytes.windows(4 + name.len()).any(|found| {
        (found[0], found[2] as usize) == (1, name.len())
            && found[1] < 3
            && found[4..] == *name.as_bytes()
    })
}

#[test]
fn counters_come_with_the_first_request() {
    let mut proxy = Proxy::start(start_backend("blue"));
    for name in ["all", "blue", "blue/1"] {
        assert!(!has_slot(&proxy, name), "{name}");
    }
    let mut client = connect(proxy.address);
    assert_eq!(get(&mut client).1, "blue");
    for name in ["all", "blue", "blue/1"] {
        assert!(has_slot(&proxy, name), "{name}");
    }
    // A change goes on counting in the same slots, and what goes away gives its own back.
    let puts = [frontend("blue").replace("websocket", "other")];
    proxy.change(&ops(&puts, &[])).unwrap();
    assert_eq!(get(&mut client).1, "blue");
    assert!(has_slot(&proxy, "all"));
    let green = [cluster("green"), frontend("green")];
    let removes = [("backend", "blue/1"), ("cluster", "blue")];
    proxy.change(&ops(&green, &removes)).unwrap();
    proxy.engine.release().unwrap();
    drop(client);
    let gone = |proxy: &Proxy| !has_slot(proxy, "blue") && !has_slot(proxy, "blue/1");
    for _ in 0..200 {
        if gone(&proxy) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("slots are kept by nobody");
}
