//! The prober against real sockets: who fails, who hangs, who comes back, and what is kept.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

use super::*;
use crate::runtime::socket::Endpoint;
use crate::upstream::health::tests::file;
use crate::upstream::health::{BackendKey, Health, HealthTable, Watched};

/// A backend that answers with a status, which may change; 0: not at all.
struct Answering {
    address: SocketAddr,
    status: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
}

impl Answering {
    fn begin(status: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let status = Arc::new(AtomicUsize::new(status));
        let asked = Arc::<AtomicUsize>::default();
        let (told, counted) = (status.clone(), asked.clone());
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                counted.fetch_add(1, SeqCst);
                let _ = stream.read(&mut [0; 1024]);
                match told.load(SeqCst) {
                    0 => silent.push(stream),
                    status => {
                        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
                        let _ = stream.write_all(answer.as_bytes());
                    }
                }
            }
        });
        Self {
            address,
            status,
            asked,
        }
    }
}

struct Host {
    prober: ProberThread,
    table: HealthTable,
    file: CommonFile,
}

impl Host {
    fn begin(name: &str) -> Self {
        let file = file(name);
        let table = HealthTable::default();
        table.share(HealthWords::of(&file).unwrap());
        Self {
            prober: Self::prober(&file),
            table,
            file,
        }
    }

    fn prober(file: &CommonFile) -> ProberThread {
        let prober = ProberThread::start().unwrap();
        prober.send(Order::Share(HealthWords::of(file).unwrap()));
        prober
    }

    fn tell(&self, whole: bool, puts: &[(&str, SocketAddr, &str)], removes: &[&str]) {
        let puts: Vec<_> = puts
            .iter()
            .map(|(name, address, check)| {
                format!(r#"{{"name":"{name}","address":"{address}","check":{check}}}"#)
            })
            .collect();
        let message = format!(
            r#"{{"begins":{whole},"ends":{whole},"puts":[{}],"removes":{removes:?}}}"#,
            puts.join(",")
        );
        let refused = self.prober.tell(message.as_bytes(), &Materials::new());
        assert_eq!(refused, Ok(vec![]));
    }

    fn health(&self, name: &str, address: SocketAddr) -> Option<Health> {
        let watched = Watched::new(BackendKey::of(name, &Endpoint::Tcp(address)));
        self.table.look(&watched).map(|found| found.health)
    }

    fn await_health(&self, name: &str, address: SocketAddr, health: Option<Health>) -> Duration {
        let began = Instant::now();
        while self.health(name, address) != health {
            assert!(began.elapsed() < Duration::from_secs(10), "{health:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
        began.elapsed()
    }
}

const QUICK: &str = r#"{"http":{},"interval":100,"timeout":100}"#;

#[test]
fn a_backend_that_answers_500_is_out_and_comes_back() {
    let host = Host::begin("prober-turns");
    let backend = Answering::begin(200);
    host.tell(true, &[("c/a", backend.address, QUICK)], &[]);
    host.await_health("c/a", backend.address, Some(Health::Healthy));
    backend.status.store(500, SeqCst);
    let out = host.await_health("c/a", backend.address, Some(Health::Unhealthy));
    // Three intervals, and what a busy machine takes.
    assert!(
        out > Duration::from_millis(150) && out < Duration::from_millis(800),
        "{out:?}"
    );
    let rows = host.prober.report(None).unwrap();
    assert_eq!((rows.checked, rows.unusable), (1, 1));
    assert_eq!(rows.rows[0].fault.as_deref(), Some("it answered 500"));
    assert!(rows.rows[0].bad >= 3 && rows.rows[0].good >= 1 && !rows.rows[0].is_usable);
    backend.status.store(200, SeqCst);
    host.await_health("c/a", backend.address, Some(Health::Healthy));
    let turns = host.prober.take_news().turns;
    let said: Vec<_> = turns
        .iter()
        .map(|it| (it.is_healthy, it.reason.as_str()))
        .collect();
    assert_eq!(said, [(true, ""), (false, "it answered 500"), (true, "")]);
    assert!(host.prober.take_news().turns.is_empty());
}

#[test]
fn one_that_does_not_answer_has_its_time_and_no_more() {
    let host = Host::begin("prober-hole");
    let hole = Answering::begin(0);
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let check = r#"{"http":{},"initial":"unchecked","interval":100,"timeout":100}"#;
    host.tell(
        true,
        &[("c/hole", hole.address, check), ("c/closed", closed, check)],
        &[],
    );
    host.await_health("c/hole", hole.address, Some(Health::Unhealthy));
    host.await_health("c/closed", closed, Some(Health::Unhealthy));
    let named = Some(vec![
        "c/hole".to_owned(),
        "c/closed".to_owned(),
        "c/nobody".to_owned(),
    ]);
    let rows = host.prober.report(named).unwrap().rows;
    let faults: Vec<_> = rows
        .iter()
        .map(|row| row.fault.as_deref().unwrap())
        .collect();
    assert_eq!(
        faults,
        ["no answer within 100ms", "it refused the connection"]
    );
    hole.status.store(204, SeqCst);
    host.await_health("c/hole", hole.address, Some(Health::Healthy));
}

#[test]
fn what_is_known_is_kept_by_name_and_address() {
    let mut host = Host::begin("prober-kept");
    let (one, other) = (Answering::begin(500), Answering::begin(200));
    let slow = r#"{"http":{},"interval":3600000,"unhealthy_after":1}"#;
    host.tell(
        true,
        &[("c/a", one.address, slow), ("c/b", other.address, slow)],
        &[],
    );
    host.await_health("c/a", one.address, Some(Health::Unhealthy));
    host.await_health("c/b", other.address, Some(Health::Healthy));
    // A prober that begins finds it there, and forgets who is not on its list.
    host.prober = Host::prober(&host.file);
    host.tell(true, &[("c/a", one.address, slow)], &[]);
    host.await_health("c/b", other.address, None);
    assert_eq!(host.health("c/a", one.address), Some(Health::Unhealthy));
    let row = host
        .prober
        .report(Some(vec!["c/a".to_owned()]))
        .unwrap()
        .rows
        .remove(0);
    assert_eq!(row.health, "unhealthy");
    // One that moves is another one; one that goes is none.
    host.tell(false, &[("c/a", other.address, slow)], &[]);
    host.await_health("c/a", other.address, Some(Health::Healthy));
    assert_eq!(host.health("c/a", one.address), None);
    host.tell(false, &[], &["c/a"]);
    host.await_health("c/a", other.address, None);
}

#[test]
fn another_check_of_the_same_backend_leaves_what_is_known() {
    let host = Host::begin("prober-change");
    let backend = Answering::begin(500);
    let slow = r#"{"http":{},"interval":3600000,"unhealthy_after":1}"#;
    host.tell(true, &[("c/a", backend.address, slow)], &[]);
    host.await_health("c/a", backend.address, Some(Health::Unhealthy));
    let asked = backend.asked.load(SeqCst);
    let patient = r#"{"http":{"status":[500]},"interval":100}"#;
    host.tell(false, &[("c/a", backend.address, patient)], &[]);
    assert_eq!(host.health("c/a", backend.address), Some(Health::Unhealthy));
    host.await_health("c/a", backend.address, Some(Health::Healthy));
    assert!(backend.asked.load(SeqCst) >= asked + 2);
}

#[test]
fn a_connection_that_is_asked_for_is_enough() {
    let host = Host::begin("prober-tcp");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let check = r#"{"initial":"unchecked","interval":100,"tcp":{},"timeout":100}"#;
    host.tell(true, &[("c/a", address, check)], &[]);
    host.await_health("c/a", address, Some(Health::Healthy));
    drop(listener);
    host.await_health("c/a", address, Some(Health::Unhealthy));
}
