//! HTTP/2 from clients, with clients that others wrote: curl and nghttp2's tools.

mod support;

use std::io::{Read, Write};
use std::process::{Command, Output};

use support::{Proxy, backend, ops, serve, start_secure};

fn curl(proxy: &Proxy, arguments: &[&str]) -> Output {
    let port = proxy.address.port();
    let resolve = format!("shop.test:{port}:127.0.0.1");
    let url = format!("https://shop.test:{port}/");
    Command::new("curl")
        .args([
            "-sk",
            "--http2",
            "--max-time",
            "10",
            "--resolve",
            &resolve,
            &url,
        ])
        .args(arguments)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn curl_is_answered_over_http_2() {
    let (proxy, _) = start_secure("modern");
    let answer = text(&curl(&proxy, &["-i"]));
    assert!(answer.starts_with("HTTP/2 200"), "{answer}");
    assert!(answer.ends_with("blue"), "{answer}");
    assert!(answer.contains("\nkakehi-generation: 2\r"), "{answer}");
    assert_eq!(
        text(&curl(&proxy, &["-I"])).lines().next(),
        Some("HTTP/2 200 ")
    );
}

/// A backend that answers each request by its own bytes.
fn start_mirror() -> std::net::SocketAddr {
    serve(|_, mut stream| {
        let mut got = Vec::new();
        let mut bytes = vec![0; 65536];
        loop {
            let Ok(count @ 1..) = stream.read(&mut bytes) else {
                return;
            };
            got.extend_from_slice(&bytes[..count]);
            let Some(at) = got.windows(4).position(|it| it == b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8_lossy(&got[..at]).to_lowercase();
            let body = at + 4;
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map(|length| length.parse::<usize>().unwrap());
            let chunked = head.contains("transfer-encoding: chunked");
            let end = match length {
                Some(length) => body + length,
                None if chunked => {
                    let Some(at) = got[body..].windows(5).position(|it| it == b"0\r\n\r\n") else {
                        continue;
                    };
                    body + at + 5
                }
                None => body,
            };
            if got.len() < end {
                continue;
            }
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {end}\r\n\r\n").unwrap();
            stream.write_all(&got[..end]).unwrap();
            got.drain(..end);
        }
    })
}

#[test]
fn requests_arrive_as_http_1_1_has_them() {
    let (mut proxy, _) = start_secure("modern");
    proxy
        .change(&ops(&[backend("blue/1", start_mirror())], &[]))
        .unwrap();
    let seen = text(&curl(
        &proxy,
        &["-d", "a=b", "-H", "X-Mine: 1", "-b", "c=d; e=f"],
    ));
    assert!(
        seen.starts_with("POST / HTTP/1.1\r\nHost: shop.test"),
        "{seen}"
    );
    for line in [
        "x-mine: 1",
        "cookie: c=d; e=f",
        "X-Forwarded-Proto: https",
        "Via: 2.0 kakehi",
        "Content-Length: 3",
    ] {
        assert!(seen.contains(line), "{line}: {seen}");
    }
    assert!(seen.ends_with("\r\n\r\na=b"), "{seen}");
}

#[test]
fn bodies_of_any_length_pass_both_ways() {
    let (mut proxy, _) = start_secure("modern");
    proxy
        .change(&ops(&[backend("blue/1", start_mirror())], &[]))
        .unwrap();
    let file = std::env::temp_dir().join(format!("kakehi-h2-body-{}", std::process::id()));
    let body: Vec<u8> = (0..3_000_000)
        .map(|at| b'a' + (at * 31 % 25) as u8)
        .collect();
    std::fs::write(&file, &body).unwrap();
    let name = format!("@{}", file.display());
    let known = curl(&proxy, &["--data-binary", &name]);
    assert!(known.status.success(), "{known:?}");
    assert!(known.stdout.ends_with(&body), "{}", known.stdout.len());
    // Without a length: as a stream, which HTTP/1.1 calls chunked.
    let unknown = curl(&proxy, &["-T", "-", "-X", "POST"]);
    assert!(
        text(&unknown)
            .to_lowercase()
            .contains("transfer-encoding: chunked")
    );
    std::fs::remove_file(file).unwrap();
}

/// More frames in one turn than may wait, which the socket takes all at once.
#[test]
fn streams_go_on_after_a_burst() {
    let (mut proxy, _) = start_secure("modern");
    let body = "x".repeat(40_000);
    let long = serve(move |_, stream| support::answer_all(stream, &body));
    proxy.change(&ops(&[backend("blue/1", long)], &[])).unwrap();
    let port = proxy.address.port();
    let url = format!("https://shop.test:{port}/");
    let there = format!("--connect-to=127.0.0.1:{port}");
    let load = [
        "-n", "4000", "-c", "1", "-m", "90", "-w", "30", "-W", "30", "-T", "8",
    ];
    let output = Command::new("h2load")
        .args(load)
        .args([&there, &url])
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(report.contains("4000 succeeded, 0 failed"), "{report}");
}

#[test]
fn many_streams_share_a_connection() {
    let (proxy, _) = start_secure("modern");
    let port = proxy.address.port();
    let url = format!("https://shop.test:{port}/");
    let there = format!("--connect-to=127.0.0.1:{port}");
    let output = Command::new("h2load")
        .args(["-n", "2000", "-c", "4", "-m", "20", &there, &url])
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        report.contains("2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed"),
        "{report}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
