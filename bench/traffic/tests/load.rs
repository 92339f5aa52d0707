//! The generator against real servers: what it tells is what they did.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kakehi_traffic::load::{self, Pace, Plan};
use kakehi_traffic::tally::{End, Tally};
use support::{OK, say, say_last, serve};

mod support;

fn plan(address: SocketAddrV4, pace: Pace, measured_ms: u64) -> Plan {
    Plan {
        address,
        request: b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        pace,
        warm_up: Duration::from_millis(100),
        measured: Duration::from_millis(measured_ms),
        timeout: Duration::from_millis(2000),
        connections: 512,
        fresh: false,
    }
}

/// A server that answers nothing for `STALL`, once, a second after its first request.
fn stalling() -> SocketAddrV4 {
    let first = std::sync::OnceLock::new();
    serve(move |stream| {
        let begins = *first.get_or_init(Instant::now) + Duration::from_millis(1000);
        let now = Instant::now();
        if now >= begins && now < begins + STALL {
            thread::sleep(begins + STALL - now);
        }
        say(stream, OK)
    })
}

const STALL: Duration = Duration::from_millis(400);

fn run(plan: &Plan) -> Tally {
    load::run(plan).unwrap()
}

#[test]
fn a_stall_is_in_the_percentiles_of_all_whom_it_kept_waiting() {
    let open = run(&plan(stalling(), Pace::Rate(1000.0), 3000));
    assert_eq!(open.count(End::Answered(200)), 3000);
    // Of 3,000 who came, 400 found a server that did not answer, the first of them for all of 400 ms.
    assert!(open.served().percentile(99.9) >= STALL * 9 / 10);
    assert!(open.served().percentile(95.0) >= STALL / 3);
    assert!(open.served().percentile(50.0) < STALL / 4);
}

#[test]
fn a_closed_loop_hides_the_same_stall() {
    let closed = run(&plan(stalling(), Pace::InFlight(1), 3000));
    // Only the one who was there saw it, and nobody came meanwhile.
    assert!(closed.served().most() >= STALL * 9 / 10);
    assert!(
        closed.served().count() > 1000,
        "{}",
        closed.served().count()
    );
    assert!(closed.served().percentile(99.9) < STALL / 4);
}

#[test]
fn who_waits_for_a_connection_waits_from_the_moment_it_was_due() {
    let address = serve(|stream| {
        thread::sleep(Duration::from_millis(50));
        say(stream, OK)
    });
    // Two connections carry 40 a second; 80 come.
    let mut plan = plan(address, Pace::Rate(80.0), 1000);
    plan.connections = 2;
    let tally = run(&plan);
    assert_eq!(tally.stay().count(), 80);
    assert_eq!(tally.connects, 2);
    assert!(tally.served().most() >= Duration::from_millis(700));
    let told = tally.to_json(plan.measured);
    assert!(told["served_service_us"]["p50"].as_f64().unwrap() < 150e3);
    let slices = told["in_flight"]["slices"].as_array().unwrap();
    assert!((9..=10).contains(&slices.len()), "{}", slices.len());
    assert!(slices[slices.len() - 1].as_f64().unwrap() > 20.0);
}

#[test]
fn littles_law_holds_for_what_is_measured() {
    let address = serve(|stream| {
        thread::sleep(Duration::from_millis(30));
        say(stream, OK)
    });
    let plan = plan(address, Pace::Rate(300.0), 2000);
    let tally = run(&plan);
    let mean = tally.in_flight_mean();
    let law = 300.0 * tally.stay().mean().as_secs_f64();
    assert!(
        (mean / law - 1.0).abs() < 0.1,
        "{mean} in flight, {law} by rate and latency"
    );
}

#[test]
fn every_end_has_its_name() {
    let asked = AtomicUsize::new(0);
    let address = serve(
        move |stream| match asked.fetch_add(1, Ordering::Relaxed) % 5 {
            0 => say(stream, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"),
            1 => say_last(stream, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
            2 => say(stream, "hello\r\n\r\n"),
            3 => {
                thread::sleep(Duration::from_secs(60));
                false
            }
            _ => say_last(stream, "HTTP/1.1 200 OK\r\n\r\nuntil the end"),
        },
    );
    let mut plan = plan(address, Pace::Rate(50.0), 1000);
    (plan.warm_up, plan.timeout) = (Duration::ZERO, Duration::from_millis(1000));
    let tally = run(&plan);
    assert_eq!(tally.stay().count(), 50);
    for end in [
        End::Answered(503),
        End::Cut,
        End::Malformed,
        End::Timeout,
        End::Answered(200),
    ] {
        assert_eq!(tally.count(end), 10, "{end:?}");
    }
    let refusal = tally.refused().most();
    assert!(refusal < Duration::from_millis(900), "{refusal:?}");
}

#[test]
fn nobody_who_listens_is_told_as_that() {
    let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = gone.local_addr().unwrap().port();
    drop(gone);
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let tally = run(&plan(address, Pace::Rate(100.0), 500));
    assert_eq!(tally.count(End::NotConnected), 50);
}

#[test]
fn who_waits_too_long_leaves_whether_it_was_sent_or_not() {
    let address = serve(|_| {
        thread::sleep(Duration::from_secs(60));
        false
    });
    let mut plan = plan(address, Pace::Rate(20.0), 1000);
    (plan.connections, plan.timeout) = (1, Duration::from_millis(300));
    let tally = run(&plan);
    assert_eq!(tally.count(End::Timeout), 20);
    // One was carried, and its connection given up; then the next.
    assert!(tally.connects > 10, "{}", tally.connects);
    let waited = tally.stay().most();
    assert!(waited < Duration::from_millis(600), "{waited:?}");
}

#[test]
fn a_connection_for_each_request_if_that_is_wanted() {
    let mut plan = plan(serve(|stream| say(stream, OK)), Pace::Rate(100.0), 500);
    plan.fresh = true;
    let tally = run(&plan);
    assert_eq!(tally.count(End::Answered(200)), 50);
    assert!(tally.connects >= 50);
    plan.fresh = false;
    assert!(run(&plan).connects < 20);
}
