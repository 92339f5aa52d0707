//! The relay between real sockets: every byte, in its order, and as late as was asked for.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use kakehi_traffic::relay::Relay;

fn listen() -> (TcpListener, SocketAddrV4) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}

/// A server that says everything back, and ends when its client has.
fn echo() -> SocketAddrV4 {
    let (listener, place) = listen();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut all = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut all, &mut stream);
            });
        }
    });
    place
}

/// A connection through a relay.
fn through(backend: SocketAddrV4, delay: Duration) -> TcpStream {
    // Free again at once.
    let (_, place) = listen();
    let mut relay = Relay::new(place, backend, delay).unwrap();
    thread::spawn(move || relay.run());
    TcpStream::connect(place).unwrap()
}

fn relay(delay: Duration) -> TcpStream {
    through(echo(), delay)
}

/// Sends all while it reads all, then says that it has ended and waits for the other end.
fn round_trip(mut stream: TcpStream, sent: &[u8], pause: Duration) -> Vec<u8> {
    let mut writing = stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            writing.write_all(sent).unwrap();
            writing.shutdown(Shutdown::Write).unwrap();
        });
        thread::sleep(pause);
        let mut came = Vec::new();
        stream.read_to_end(&mut came).unwrap();
        came
    })
}

fn bytes() -> Vec<u8> {
    (0..20_000_000u32)
        .map(|number| (number % 251) as u8)
        .collect()
}

#[test]
fn every_byte_comes_back_and_so_does_the_end() {
    let sent = bytes();
    let came = round_trip(relay(Duration::ZERO), &sent, Duration::ZERO);
    assert!(came == sent, "{} bytes", came.len());
}

#[test]
fn a_reader_that_pauses_loses_nothing() {
    let sent = bytes();
    for delay in [Duration::ZERO, Duration::from_millis(5)] {
        let came = round_trip(relay(delay), &sent, Duration::from_millis(300));
        assert!(came == sent, "{} bytes at {delay:?}", came.len());
    }
}

#[test]
fn what_comes_is_as_late_as_it_shall_be() {
    let delay = Duration::from_millis(40);
    let mut stream = relay(delay);
    let mut answer = [0; 1];
    let mut least = Duration::MAX;
    for _ in 0..5 {
        let asked = Instant::now();
        stream.write_all(b".").unwrap();
        stream.read_exact(&mut answer).unwrap();
        least = least.min(asked.elapsed());
    }
    assert!(least >= delay * 2, "{least:?}");
    assert!(least < delay * 2 + Duration::from_millis(20), "{least:?}");
}

#[test]
fn a_client_that_leaves_ends_the_other_side() {
    let (listener, place) = listen();
    drop(through(place, Duration::ZERO));
    let (mut there, _) = listener.accept().unwrap();
    there
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    assert_eq!(there.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn the_last_bytes_come_together_with_the_end() {
    for delay in [Duration::ZERO, Duration::from_millis(5)] {
        for _ in 0..20 {
            let (listener, place) = listen();
            let mut stream = through(place, delay);
            let (mut there, _) = listener.accept().unwrap();
            there.write_all(b"bye").unwrap();
            drop(there);
            let patience = Some(Duration::from_secs(5));
            stream.set_read_timeout(patience).unwrap();
            let mut came = String::new();
            stream.read_to_string(&mut came).unwrap();
            assert_eq!(came, "bye");
        }
    }
}
