//! A real server on threads, which answers as a test wants.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// Starts a server. `answer` is called when a request has come, and returns whether to go on with the
/// connection.
pub fn serve(answer: impl Fn(&mut TcpStream) -> bool + Send + Sync + 'static) -> SocketAddrV4 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(
                move || {
                    while read_head(&mut stream) && answer(&mut stream) {}
                },
            );
        }
    });
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

fn read_head(stream: &mut TcpStream) -> bool {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !seen.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return false,
            Ok(came) => seen.extend_from_slice(&buffer[..came]),
        }
    }
    true
}

/// Says something; whether the client was there to hear it.
pub fn say(stream: &mut TcpStream, text: &str) -> bool {
    stream.write_all(text.as_bytes()).is_ok()
}

/// Says something and hangs up.
pub fn say_last(stream: &mut TcpStream, text: &str) -> bool {
    say(stream, text);
    false
}

/// A response of two bytes.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
