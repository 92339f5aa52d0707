//! What the tests of the engine share: a proxy of one listener, driven by transactions, and backends.

#![allow(dead_code, reason = "each test program uses its own part of it")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use _engine::state::digest::Digest;
use _engine::state::entity::{Entity, Kind};
use _engine::state::ops::Refused;
use _engine::thread::EngineThread;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use sha2::{Digest as _, Sha256};

pub const SETTINGS: &str = r#"{"kind":"settings","name":"settings","value":{"access_log":"off","admin":null,"drain_timeout":300,"error_pages":{},"generation_header":true,"max_buffered_bytes":1073741824,"max_connections":100,"max_requests":100,"workers":"auto"}}"#;
pub const CLUSTER: &str = r#"{"kind":"cluster","name":"NAME","value":{"keep_alive_connections":8,"limits":{"head_bytes":65536,"header_count":256},"load_balancing":"round_robin","protocol":"http","proxy_protocol":null,"retries":2,"timeouts":{"connect":1000,"keep_alive":50000,"response_body":5000,"response_head":5000,"tunnel":60000},"tls":null}}"#;
pub const LISTENER: &str = r#"{"kind":"listener","name":"web","value":{"address":"ADDRESS","error_pages":{},"h2c":false,"limits":{"body_bytes":null,"connections":50,"head_bytes":4096,"header_count":50},"merge_slashes":true,"protocol":"http","proxy_protocol":[],"timeouts":{"keep_alive":5000,"request_body":5000,"request_head":5000,"response_write":5000},"tls":null,"trusted_proxies":[],"underscores_in_headers":true}}"#;

pub fn cluster(name: &str) -> String {
    CLUSTER.replace("NAME", name)
}

pub fn backend(name: &str, address: SocketAddr) -> String {
    format!(r#"{{"kind":"backend","name":"{name}","value":{{"address":"{address}","weight":1}}}}"#)
}

pub fn frontend(cluster: &str) -> String {
    format!(
        r#"{{"kind":"frontend","name":"all","value":{{"client_certificate":null,"cluster":"{cluster}","early_data":false,"headers":{{}},"hostname":"*","hsts":null,"listeners":["web"],"methods":[],"passthrough":false,"path":{{"prefix":"/"}},"query":{{}},"redirect":null,"upgrades":["websocket"]}}}}"#
    )
}

/// The operations, each value in its canonical form: as the reconciler would send them.
pub fn ops(puts: &[String], removes: &[(&str, &str)]) -> Vec<u8> {
    let puts: Vec<String> = puts.iter().map(|put| canonical(put)).collect();
    let removes: Vec<String> = removes
        .iter()
        .map(|(kind, name)| format!(r#"{{"kind":"{kind}","name":"{name}"}}"#))
        .collect();
    format!(
        r#"{{"puts":[{}],"removes":[{}]}}"#,
        puts.join(","),
        removes.join(",")
    )
    .into_bytes()
}

fn canonical(put: &str) -> String {
    let put: serde_json::Value = serde_json::from_str(put).unwrap();
    let (kind, name) = (put["kind"].as_str().unwrap(), &put["name"]);
    let written = put["value"].to_string();
    let value = match Entity::from_json(Kind::parse(kind).unwrap(), &written) {
        Ok(entity) => String::from_utf8(entity.canonical()).unwrap(),
        Err(_) => written,
    };
    format!(r#"{{"kind":"{kind}","name":{name},"value":{value}}}"#)
}

/// Serves each connection, the first is 0, by a thread of its own, for as long as the test runs.
pub fn serve(handle: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let handle = Arc::new(handle);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let (handle, stream) = (Arc::clone(&handle), stream.unwrap());
            std::thread::spawn(move || handle(number, stream));
        }
    });
    address
}

/// Answers whatever comes in one piece by `body`, until the stream ends.
pub fn answer_all(mut stream: impl Read + Write, body: &str) {
    let length = body.len();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
    let mut bytes = [0; 4096];
    while let Ok(1..) = stream.read(&mut bytes) {
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// A backend that answers every request with its own name.
pub fn start_backend(name: &'static str) -> SocketAddr {
    serve(move |_, stream| answer_all(stream, name))
}

pub struct Proxy {
    pub engine: EngineThread,
    pub address: SocketAddr,
    pub socket: TcpListener,
    generation: u64,
    /// What comes beside the operations.
    pub materials: HashMap<String, Option<Vec<u8>>>,
}

impl Proxy {
    pub fn start(blue: SocketAddr) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let mut engine = EngineThread::start(0, None).unwrap();
        engine.serve(&EMPTY).unwrap();
        let mut proxy = Self {
            engine,
            address,
            socket,
            generation: 0,
            materials: HashMap::new(),
        };
        let listener = LISTENER.replace("ADDRESS", &address.to_string());
        let puts = [
            SETTINGS.into(),
            listener,
            cluster("blue"),
            backend("blue/1", blue),
            frontend("blue"),
        ];
        proxy.change(&ops(&puts, &[])).unwrap();
        proxy
    }

    pub fn change(&mut self, ops: &[u8]) -> Result<Digest, String> {
        let sockets = HashMap::from([("web".to_owned(), self.socket.as_raw_fd())]);
        let base = (self.generation, self.engine.ledger.digest);
        let next = self.generation + 1;
        let first = self.generation == 0;
        let sockets = if first { &sockets } else { &EMPTY };
        let say =
            |refusal: Refused| format!("{} {}: {}", refusal.kind, refusal.name, refusal.reason);
        self.engine
            .stage(next, 0, ops, &self.materials)
            .map_err(say)?;
        let prepared = self
            .engine
            .prepare(next, base, "c0ffee", 1, sockets)
            .map_err(say)?;
        let committed = self.engine.commit(next).map_err(|refusal| refusal.reason)?;
        assert_eq!(prepared, committed, "the loop must hold what was promised");
        assert_eq!(
            self.engine.begin_audit().wait().unwrap().unwrap().digest,
            committed,
            "and it must be what its entities add up to"
        );
        self.engine.release().unwrap();
        self.generation = next;
        Ok(committed)
    }
}

pub static EMPTY: std::sync::LazyLock<HashMap<String, i32>> =
    std::sync::LazyLock::new(HashMap::new);

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream
}

/// A chain and a key in PEM, and the leaf as a client sees it.
pub struct Pair {
    pub chain: Vec<u8>,
    pub key: Vec<u8>,
    pub leaf: Vec<u8>,
    pub hostnames: Vec<String>,
}

pub fn make(hostnames: &[&str], rsa: bool) -> Pair {
    let algorithm = if rsa {
        &PKCS_RSA_SHA256
    } else {
        &PKCS_ECDSA_P256_SHA256
    };
    let key = KeyPair::generate_for(algorithm).unwrap();
    let names: Vec<String> = hostnames.iter().map(ToString::to_string).collect();
    let certificate = CertificateParams::new(names.clone())
        .unwrap()
        .self_signed(&key)
        .unwrap();
    Pair {
        chain: certificate.pem().into_bytes(),
        key: key.serialize_pem().into_bytes(),
        leaf: certificate.der().to_vec(),
        hostnames: names,
    }
}

pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

pub fn certificate(proxy: &mut Proxy, name: &str, pair: &Pair) -> String {
    let (chain, key) = (hex(&pair.chain), hex(&pair.key));
    proxy
        .materials
        .insert(chain.clone(), Some(pair.chain.clone()));
    proxy.materials.insert(key.clone(), Some(pair.key.clone()));
    let mut hostnames = pair.hostnames.clone();
    hostnames.sort();
    format!(
        r#"{{"kind":"certificate","name":"{name}","value":{{"acme":null,"certificate":{{"path":"a.crt","sha256":"{chain}"}},"hostnames":{hostnames:?},"ocsp":null,"private_key":{{"path":"a.key","sha256":"{key}"}}}}}}"#
    )
    .replace(", ", ",")
}

pub fn https(address: SocketAddr, default: &str, profile: &str) -> String {
    LISTENER
        .replace("ADDRESS", &address.to_string())
        .replace(r#""protocol":"http""#, r#""protocol":"https""#)
        .replace(
            r#""tls":null"#,
            &format!(r#""tls":{{"client_auth":"required","client_ca":null,"client_crl":null,"default_certificate":{default},"profile":"{profile}"}}"#),
        )
}

/// A proxy whose listener speaks TLS, with one certificate for `shop.test` and `*.shop.test`.
pub fn start_secure(profile: &str) -> (Proxy, Pair) {
    let mut proxy = Proxy::start(start_backend("blue"));
    let pair = make(&["shop.test", "*.shop.test"], false);
    let puts = [
        certificate(&mut proxy, "shop", &pair),
        https(proxy.address, "null", profile),
    ];
    proxy.change(&ops(&puts, &[])).unwrap();
    (proxy, pair)
}
