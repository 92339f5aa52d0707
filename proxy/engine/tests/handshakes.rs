//! Many handshakes at once, turn by turn: they take turns, and nobody else waits for all of them.

mod rig;
mod support;

use std::collections::HashMap;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rig::{Peer, Rig, answers, listen, requests};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use support::{LISTENER, SETTINGS, backend, cluster, frontend, hex, https, make, ops};

/// They would take some 20 ms.
const HANDSHAKES: usize = 200;

/// The first message of a handshake.
fn hello() -> Vec<u8> {
    let config = ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = "shop.test".try_into().unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    tls.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_request_waits_for_a_turn_of_handshakes_and_not_for_all() {
    let (plain, secure, behind) = (listen(), listen(), listen());
    let pair = make(&["shop.test"], false);
    let (chain, key) = (hex(&pair.chain), hex(&pair.key));
    let materials = HashMap::from([
        (chain.clone(), Some(pair.chain)),
        (key.clone(), Some(pair.key)),
    ]);
    let doors = [&plain, &secure].map(|door| door.local_addr().unwrap());
    let certificate = format!(
        r#"{{"kind":"certificate","name":"shop","value":{{"certificate":{{"path":"a.crt","sha256":"{chain}"}},"hostnames":["shop.test"],"private_key":{{"path":"a.key","sha256":"{key}"}}}}}}"#
    );
    let many = |text: String| text.replace(r#""connections":50"#, r#""connections":5000"#);
    let puts = [
        SETTINGS.replace(r#""max_connections":100"#, r#""max_connections":5000"#),
        certificate,
        many(https(doors[1], r#""shop""#, "modern")),
        many(
            LISTENER
                .replace("web", "plain")
                .replace("ADDRESS", &doors[0].to_string()),
        ),
        cluster("blue"),
        backend("blue/1", behind.local_addr().unwrap()),
        frontend("blue").replace(r#"["web"]"#, r#"["plain","web"]"#),
    ];
    let sockets = [("plain", plain), ("web", secure)];
    let sockets = sockets.map(|(name, door)| (name.to_owned(), OwnedFd::from(door)));
    let ops = ops(&puts, &[]);
    let mut rig = Rig::of(&ops, sockets.into(), &materials, doors[0], behind);
    let mut client = rig.client();
    let mut greeters: Vec<Peer> = (0..HANDSHAKES)
        .map(|_| {
            let greeter = Peer::new(TcpStream::connect(doors[1]).unwrap());
            rig.settle();
            greeter
        })
        .collect();

    let hello = hello();
    for greeter in &mut greeters {
        greeter.send(&hello);
    }
    client.send(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
    rig.turn();
    let mut greeted = || {
        let answered = greeters.iter_mut().map(|greeter| greeter.hear());
        answered.filter(|bytes| !bytes.is_empty()).count()
    };
    let first = greeted();
    assert!(first < HANDSHAKES, "all of them in one turn");
    let mut behind = rig.accepted().expect("the request did not wait");
    assert_eq!(requests(&mut behind).len(), 1);
    rig.say(&mut behind, b"HTTP/1.1 204 No Content\r\n\r\n", usize::MAX);
    assert_eq!(answers(&mut client, false)[0].status(), 204);
    assert_eq!(first + greeted(), HANDSHAKES, "each has its turn");
}
