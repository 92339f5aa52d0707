//! Sink and writer together, on real files.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process;
use std::thread;
use std::time::Instant;

use super::writer::Output;
use super::*;

static LOCAL: Endpoint = Endpoint::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9001));

/// A request as good as any.
pub(super) fn record() -> Record<'static> {
    Record {
        time_us: 1_783_168_496_007_999,
        client: SocketAddr::from(([192, 0, 2, 7], 50123)),
        method: b"GET",
        host: b"shop.example.com",
        path: b"/cart?id=1",
        protocol: "HTTP/1.1",
        status: 200,
        bytes_in: 0,
        bytes_out: 1234,
        duration_us: 1500,
        upstream_us: Some(1200),
        generation: 7,
        listener: Some("public-http"),
        frontend: Some("shop-web"),
        cluster: Some("shop"),
        backend: Some("shop-1"),
        backend_address: Some(&LOCAL),
        request_id: b"0123456789abcdef",
        user_agent: Some(b"curl/8"),
        referer: None,
        retries: 0,
        tried: &[],
        fallback_of: None,
        outcome: "ok",
        reason: None,
    }
}

/// A file that is gone when the test is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("kakehi-{}-{name}", process::id())))
    }

    fn open(&self) -> LogSink {
        LogWriter::open(self.0.to_str().unwrap()).unwrap()
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(&self.0)
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn wait_for_lines(&self, count: usize) {
        let deadline = Instant::now() + LONG;
        while self.lines().len() < count {
            assert!(
                Instant::now() < deadline,
                "{} lines of {count}",
                self.lines().len()
            );
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn every_record_arrives_in_order() {
    let scratch = Scratch::new("order");
    let mut sink = scratch.open();
    let mut dropped = 0;
    for generation in 0..1000 {
        dropped += sink.push(&Record {
            generation,
            ..record()
        });
    }
    assert!(sink.pending());
    assert!(sink.close(LONG));
    assert_eq!(dropped, 0);
    let lines = scratch.lines();
    assert_eq!(lines.len(), 1000);
    for (generation, line) in lines.iter().enumerate() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["generation"], generation);
    }
}

#[test]
fn a_flush_hands_over_what_is_there() {
    let scratch = Scratch::new("flush");
    let mut sink = scratch.open();
    assert!(!sink.pending());
    sink.push(&record());
    assert!(sink.pending());
    assert_eq!(sink.flush(), 0);
    assert!(!sink.pending());
    scratch.wait_for_lines(1);
}

#[test]
fn a_writer_that_is_behind_costs_records_not_time() {
    let scratch = Scratch::new("behind");
    let output = Output::open(scratch.0.to_str().unwrap()).unwrap();
    let (mut sink, writer) = LogWriter::connect(output);
    let (mut pushed, mut dropped) = (0, 0);
    while dropped == 0 {
        dropped += sink.push(&record());
        pushed += 1;
    }
    let bytes = CHUNKS_MAX * CHUNK_BYTES;
    assert!(
        pushed * 600 < bytes as u64 * 2,
        "{pushed} records are kept in memory"
    );
    drop(sink);
    writer.run();
    assert_eq!(scratch.lines().len() as u64, pushed - dropped);
}

#[test]
fn a_log_that_was_moved_away_is_opened_anew() {
    let scratch = Scratch::new("moved");
    let moved = Scratch::new("moved.1");
    let mut sink = scratch.open();
    sink.push(&record());
    sink.flush();
    scratch.wait_for_lines(1);
    fs::rename(&scratch.0, &moved.0).unwrap();
    sink.reopen();
    sink.push(&record());
    assert!(sink.close(LONG));
    assert_eq!((scratch.lines().len(), moved.lines().len()), (1, 1));
}

#[test]
fn what_cannot_be_written_is_counted() {
    let mut sink = LogWriter::open("/dev/full").unwrap();
    sink.push(&record());
    sink.push(&record());
    let deadline = Instant::now() + LONG;
    let mut dropped = sink.flush();
    while dropped < 2 {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(1));
        dropped += sink.flush();
    }
    assert_eq!(dropped, 2);
}

#[test]
fn a_log_that_is_off_keeps_nothing() {
    let mut sink = LogWriter::open("off").unwrap();
    assert!(!sink.is_on());
    assert_eq!(sink.push(&record()), 0);
    assert!(!sink.pending());
    assert!(sink.close(Duration::ZERO));
}

#[test]
fn a_target_that_cannot_be_opened_is_refused() {
    for target in ["/", "/nowhere/access.log"] {
        let error = LogWriter::open(target).unwrap_err();
        assert!(
            error.starts_with(&format!("access_log {target:?}: ")),
            "{error}"
        );
    }
}

#[test]
fn a_log_that_is_missing_is_opened_in_time() {
    let place = Scratch::new("later");
    let target = place.0.join("access.log");
    assert!(LogWriter::open(target.to_str().unwrap()).is_err());
    let mut sink = LogWriter::open_in_time(target.to_str().unwrap());
    fs::create_dir(&place.0).unwrap();
    let began = Instant::now();
    while !target.exists() {
        assert!(began.elapsed() < LONG, "it is never opened");
        sink.push(&record());
        sink.flush();
        thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(sink.close(LONG));
    let written = fs::read_to_string(&target).unwrap();
    assert!(written.starts_with('{') && written.ends_with('\n'));
    fs::remove_dir_all(&place.0).unwrap();
}
