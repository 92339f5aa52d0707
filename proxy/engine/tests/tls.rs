//! TLS termination as clients meet it: rustls on the other side, real sockets, certificates that
//! come and go by transactions.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, RootCertStore,
    ServerConfig, ServerConnection, SignatureScheme, StreamOwned,
};
use support::{
    CLUSTER, Pair, Proxy, answer_all, backend, certificate, connect, hex, https, make, ops, serve,
    start_backend, start_secure,
};

/// Takes any certificate: which one came is what is asserted.
#[derive(Debug)]
struct Anyone(Vec<SignatureScheme>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

const ANY_SCHEME: &[SignatureScheme] = &[
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::RSA_PSS_SHA256,
];

fn config(
    versions: &[&'static rustls::SupportedProtocolVersion],
    schemes: &[SignatureScheme],
) -> ClientConfig {
    ClientConfig::builder_with_protocol_versions(versions)
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(schemes.to_vec())))
        .with_no_client_auth()
}

type Secure = StreamOwned<ClientConnection, TcpStream>;

fn handshake(
    address: SocketAddr,
    host: &str,
    config: ClientConfig,
) -> Result<Secure, std::io::Error> {
    let socket = support::connect(address);
    let host = ServerName::try_from(host.to_owned()).unwrap();
    let tls = ClientConnection::new(Arc::new(config), host).unwrap();
    let mut stream = StreamOwned::new(tls, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

fn shown(stream: &Secure) -> Vec<u8> {
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

fn shown_to(address: SocketAddr, host: &str) -> Vec<u8> {
    shown(&handshake(address, host, config(rustls::ALL_VERSIONS, ANY_SCHEME)).unwrap())
}

fn get(stream: &mut Secure) -> String {
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    while !answer.ends_with("blue") {
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).unwrap();
        assert!(count > 0, "closed after {answer:?}");
        answer.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    answer
}

#[test]
fn requests_travel_over_both_versions() {
    let (proxy, pair) = start_secure("intermediate");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut client =
            handshake(proxy.address, "shop.test", config(&[version], ANY_SCHEME)).unwrap();
        assert_eq!(shown(&client), pair.leaf);
        for _ in 0..3 {
            assert!(get(&mut client).starts_with("HTTP/1.1 200"));
        }
    }
}

#[test]
fn the_modern_profile_takes_tls_1_3_only() {
    let (proxy, _) = start_secure("modern");
    let old = config(&[&rustls::version::TLS12], ANY_SCHEME);
    let refusal = handshake(proxy.address, "shop.test", old).unwrap_err();
    assert!(refusal.to_string().contains("ProtocolVersion"), "{refusal}");
    assert_eq!(
        get(&mut handshake(
            proxy.address,
            "shop.test",
            config(&[&rustls::version::TLS13], ANY_SCHEME)
        )
        .unwrap())
        .lines()
        .next(),
        Some("HTTP/1.1 200 OK")
    );
}

#[test]
fn sni_picks_exact_names_then_wildcards_then_the_default() {
    let (mut proxy, wild) = start_secure("intermediate");
    let exact = make(&["a.shop.test"], false);
    let puts = [certificate(&mut proxy, "exact", &exact)];
    proxy.change(&ops(&puts, &[])).unwrap();
    assert_eq!(shown_to(proxy.address, "a.shop.test"), exact.leaf);
    assert_eq!(shown_to(proxy.address, "b.shop.test"), wild.leaf);
    let any = || config(rustls::ALL_VERSIONS, ANY_SCHEME);
    for stranger in ["a.b.shop.test", "other.test"] {
        let refusal = handshake(proxy.address, stranger, any()).unwrap_err();
        assert!(
            refusal.to_string().contains("AccessDenied")
                || refusal.to_string().contains("UnrecognisedName"),
            "{refusal}"
        );
    }
    let puts = [https(proxy.address, r#""exact""#, "intermediate")];
    proxy.change(&ops(&puts, &[])).unwrap();
    assert_eq!(shown_to(proxy.address, "other.test"), exact.leaf);
}

#[test]
fn a_client_gets_the_kind_of_key_that_it_can_verify() {
    let (mut proxy, ecdsa) = start_secure("intermediate");
    let rsa = make(&["shop.test"], true);
    let puts = [certificate(&mut proxy, "a-rsa", &rsa)];
    proxy.change(&ops(&puts, &[])).unwrap();
    assert_eq!(shown_to(proxy.address, "shop.test"), ecdsa.leaf);
    let only_rsa = config(rustls::ALL_VERSIONS, &[SignatureScheme::RSA_PSS_SHA256]);
    let client = handshake(proxy.address, "shop.test", only_rsa).unwrap();
    assert_eq!(shown(&client), rsa.leaf);
}

#[test]
fn a_rotation_shows_in_the_next_handshake_and_open_connections_live_on() {
    let (mut proxy, before) = start_secure("intermediate");
    let any = || config(rustls::ALL_VERSIONS, ANY_SCHEME);
    let mut open = handshake(proxy.address, "shop.test", any()).unwrap();
    assert_eq!(shown(&open), before.leaf);
    let digest = proxy.engine.ledger.digest;
    let after = make(&["shop.test"], false);
    let puts = [certificate(&mut proxy, "shop", &after)];
    proxy.change(&ops(&puts, &[])).unwrap();
    assert_eq!(shown_to(proxy.address, "shop.test"), after.leaf);
    assert!(handshake(proxy.address, "b.shop.test", any()).is_err());
    get(&mut open);
    let puts = [certificate(&mut proxy, "shop", &before)];
    proxy.change(&ops(&puts, &[])).unwrap();
    assert_eq!(shown_to(proxy.address, "shop.test"), before.leaf);
    assert_eq!(proxy.engine.ledger.digest, digest);
    get(&mut open);
    proxy.change(&ops(&[], &[("certificate", "shop")])).unwrap();
    assert!(handshake(proxy.address, "shop.test", any()).is_err());
    get(&mut open);
}

#[test]
fn what_cannot_be_served_is_refused_and_the_old_certificate_stays() {
    let (mut proxy, pair) = start_secure("intermediate");
    let other = make(&["shop.test"], false);
    let mixed = Pair {
        chain: other.chain.clone(),
        key: pair.key.clone(),
        leaf: Vec::new(),
        hostnames: other.hostnames.clone(),
    };
    let junk = |chain: &[u8], key: &[u8]| Pair {
        chain: chain.to_vec(),
        key: key.to_vec(),
        leaf: Vec::new(),
        hostnames: other.hostnames.clone(),
    };
    let cases = [
        (mixed, "not that of the certificate"),
        (junk(b"junk", &pair.key), "holds no certificate"),
        (junk(&pair.chain, b"junk"), "no PEM private key"),
        (junk(&pair.key, &pair.key), "holds no certificate"),
    ];
    for (broken, reason) in cases {
        let puts = [certificate(&mut proxy, "shop", &broken)];
        let refusal = proxy.change(&ops(&puts, &[])).unwrap_err();
        assert!(refusal.contains(reason), "{refusal}");
        assert_eq!(shown_to(proxy.address, "shop.test"), pair.leaf);
    }
    let puts = [certificate(&mut proxy, "shop", &other)];
    proxy.materials.clear();
    let refusal = proxy.change(&ops(&puts, &[])).unwrap_err();
    assert!(refusal.contains("or was altered there"), "{refusal}");
    let puts = [https(proxy.address, r#""nobody""#, "modern")];
    let refusal = proxy.change(&ops(&puts, &[])).unwrap_err();
    assert!(refusal.contains("which is not there"), "{refusal}");
}

#[test]
fn a_session_is_resumed() {
    let (proxy, _) = start_secure("intermediate");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = config(&[version], ANY_SCHEME);
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut client = handshake(proxy.address, "shop.test", config.clone()).unwrap();
            get(&mut client);
            let kind = client.conn.handshake_kind().unwrap();
            let full = [
                HandshakeKind::Full,
                HandshakeKind::FullWithHelloRetryRequest,
            ];
            assert_eq!(
                full.contains(&kind),
                expected == HandshakeKind::Full,
                "{kind:?}"
            );
        }
    }
}

#[test]
fn bytes_one_at_a_time_are_enough() {
    let (proxy, pair) = start_secure("intermediate");
    let mut socket = support::connect(proxy.address);
    socket.set_nodelay(true).unwrap();
    let host = ServerName::try_from("shop.test").unwrap();
    let config = config(rustls::ALL_VERSIONS, ANY_SCHEME);
    let mut tls = ClientConnection::new(Arc::new(config), host).unwrap();
    tls.writer()
        .write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    while !answer.ends_with("blue") {
        let mut out = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut out).unwrap();
        }
        for byte in out.chunks(1) {
            socket.write_all(byte).unwrap();
        }
        if tls.read_tls(&mut socket).unwrap() == 0 {
            panic!("closed after {answer:?}");
        }
        tls.process_new_packets().unwrap();
        let _ = tls.reader().read_to_string(&mut answer);
    }
    assert_eq!(tls.peer_certificates().unwrap()[0].to_vec(), pair.leaf);
}

/// Bodies far larger than any buffer, in both directions, past a client that reads late.
#[test]
fn large_bodies_arrive_whole() {
    const BYTES: usize = 5_000_000;
    let (mut proxy, _) = start_secure("intermediate");
    let echo = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = echo.local_addr().unwrap();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = echo.accept().unwrap();
        let mut got = Vec::new();
        let mut bytes = vec![0; 65536];
        let body_at = loop {
            let count = stream.read(&mut bytes).unwrap();
            got.extend_from_slice(&bytes[..count]);
            if let Some(at) = got.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
        };
        while got.len() < body_at + BYTES {
            let count = stream.read(&mut bytes).unwrap();
            assert!(count > 0);
            got.extend_from_slice(&bytes[..count]);
        }
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n").unwrap();
        stream.write_all(&got[body_at..]).unwrap();
    });
    proxy
        .change(&ops(&[backend("blue/1", address)], &[]))
        .unwrap();
    let any = config(rustls::ALL_VERSIONS, ANY_SCHEME);
    let mut client = handshake(proxy.address, "shop.test", any).unwrap();
    let body: Vec<u8> = (0..BYTES).map(|at| (at * 31 % 251) as u8).collect();
    write!(
        client,
        "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: {BYTES}\r\n\r\n"
    )
    .unwrap();
    client.write_all(&body).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let mut answer = Vec::new();
    let mut bytes = vec![0; 65536];
    while !answer.ends_with(&body[BYTES - 1000..]) || answer.len() < BYTES {
        let count = client.read(&mut bytes).unwrap();
        assert!(count > 0, "closed after {} bytes", answer.len());
        answer.extend_from_slice(&bytes[..count]);
    }
    assert_eq!(&answer[answer.len() - BYTES..], body);
    served.join().unwrap();
}

/// A backend that speaks TLS as `own` and says over how many connections it was asked.
fn start_secure_backend(own: &Pair, clients: Option<&Pair>) -> SocketAddr {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&own.chain)
        .map(Result::unwrap)
        .collect();
    let key = PrivateKeyDer::from_pem_slice(&own.key).unwrap();
    let builder = ServerConfig::builder();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(known) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from(known.leaf.clone())).unwrap();
            let verifier = WebPkiClientVerifier::builder(roots.into()).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = Arc::new(builder.with_single_cert(chain, key).unwrap());
    serve(move |number, stream| {
        let tls = ServerConnection::new(config.clone()).unwrap();
        answer_all(
            StreamOwned::new(tls, stream),
            &format!("connection {number}"),
        );
    })
}

/// A proxy in clear text whose cluster speaks TLS to `address`.
fn start_with_cluster(address: SocketAddr, tls: &str, files: &[&[u8]]) -> Proxy {
    let mut proxy = Proxy::start(start_backend("blue"));
    for file in files {
        proxy.materials.insert(hex(file), Some(file.to_vec()));
    }
    let puts = [secure_cluster(tls), backend("blue/1", address)];
    proxy.change(&ops(&puts, &[])).unwrap();
    proxy
}

fn secure_cluster(tls: &str) -> String {
    CLUSTER
        .replace("NAME", "blue")
        .replace(r#""tls":null"#, &format!(r#""tls":{tls}"#))
}

/// Status and body.
fn ask(proxy: &Proxy) -> (String, String) {
    let mut socket = connect(proxy.address);
    socket
        .write_all(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].to_owned(), body.to_owned())
}

#[test]
fn a_backend_is_not_believed_where_what_it_is_known_by_is_lost() {
    let own = make(&["shop.internal"], false);
    let address = start_secure_backend(&own, None);
    let file = format!(r#"{{"path":"a.pem","sha256":"{}"}}"#, hex(&own.chain));
    let known = [(&*file, "null", true), ("null", &*file, false)];
    for (ca, certificate, verify) in known {
        let mut proxy = Proxy::start(start_backend("blue"));
        proxy.materials.insert(hex(&own.chain), None);
        let policy = format!(
            r#"{{"ca":{ca},"certificate":{certificate},"private_key":{certificate},"server_name":"shop.internal","verify":{verify}}}"#
        );
        let puts = [secure_cluster(&policy), backend("blue/1", address)];
        proxy.change(&ops(&puts, &[])).unwrap();
        assert_eq!(ask(&proxy).0, "502");
    }
}

#[test]
fn a_backend_over_tls_must_prove_who_it_is() {
    let own = make(&["shop.internal"], false);
    let stranger = make(&["shop.internal"], false);
    let address = start_secure_backend(&own, None);
    let policy = |ca: &Pair, name: &str, verify: bool| {
        format!(
            r#"{{"ca":{{"path":"ca.pem","sha256":"{}"}},"certificate":null,"private_key":null,"server_name":{name},"verify":{verify}}}"#,
            hex(&ca.chain)
        )
    };
    let files = [own.chain.as_slice(), &stranger.chain];
    let good = policy(&own, r#""shop.internal""#, true);
    let mut proxy = start_with_cluster(address, &good, &files);
    assert_eq!(ask(&proxy), ("200".into(), "connection 0".into()));
    assert_eq!(
        ask(&proxy),
        ("200".into(), "connection 0".into()),
        "the pool serves again"
    );
    let bad = [
        policy(&stranger, r#""shop.internal""#, true),
        policy(&own, r#""other.internal""#, true),
        policy(&own, "null", true),
    ];
    for tls in bad {
        proxy.change(&ops(&[secure_cluster(&tls)], &[])).unwrap();
        assert_eq!(ask(&proxy).0, "502", "{tls}");
    }
    let trusting = policy(&stranger, "null", false);
    proxy
        .change(&ops(&[secure_cluster(&trusting)], &[]))
        .unwrap();
    assert_eq!(ask(&proxy).0, "200");
    let nobody = good.replace(&hex(&own.chain), &hex(b"nobody has this"));
    let refusal = proxy
        .change(&ops(&[secure_cluster(&nobody)], &[]))
        .unwrap_err();
    assert!(refusal.contains("or was altered there"), "{refusal}");
}

#[test]
fn a_backend_that_asks_is_shown_our_certificate() {
    let own = make(&["shop.internal"], false);
    let us = make(&["proxy.internal"], false);
    let address = start_secure_backend(&own, Some(&us));
    let files = [own.chain.as_slice(), &us.chain, &us.key];
    let anonymous = format!(
        r#"{{"ca":{{"path":"ca.pem","sha256":"{}"}},"certificate":null,"private_key":null,"server_name":"shop.internal","verify":true}}"#,
        hex(&own.chain)
    );
    let mut proxy = start_with_cluster(address, &anonymous, &files);
    assert_eq!(ask(&proxy).0, "502");
    let known = anonymous.replace(
        r#""certificate":null,"private_key":null"#,
        &format!(r#""certificate":{{"path":"us.crt","sha256":"{}"}},"private_key":{{"path":"us.key","sha256":"{}"}}"#,
            hex(&us.chain),
            hex(&us.key)
        ),
    );
    proxy.change(&ops(&[secure_cluster(&known)], &[])).unwrap();
    assert_eq!(ask(&proxy).0, "200");
}

#[test]
fn a_client_that_speaks_no_tls_is_told_so() {
    let (proxy, _) = start_secure("intermediate");
    let mut socket = support::connect(proxy.address);
    socket
        .write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    // A fatal alert record (RFC 8446 §6), and the end.
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
}
