//! HTTP/2 against another implementation (the `h2` crate), over memory, in both roles.
//!
//! What both sides have to agree on: heads, bodies of all sizes through small windows, trailers,
//! resets, and the end in good order.

#[path = "rig/asking.rs"]
mod asking;

use std::collections::HashMap;
use std::sync::LazyLock;

use _engine::protocol::h1::Delivery;
use _engine::protocol::h1::HeadLimits;
use _engine::protocol::h1::Persistence;
use _engine::protocol::h1::ResponseForward;
use _engine::protocol::h1::ResponseHead;
use _engine::protocol::h1::response;
use _engine::protocol::h1::via::Via;
use _engine::protocol::h2::Connection;
use _engine::protocol::h2::ErrorCode;
use _engine::protocol::h2::Event;
use _engine::protocol::h2::Heads;
use _engine::protocol::h2::Settings;
use _engine::protocol::lines::LineBuf;
use asking::ask;
use bytes::Bytes;
use http::HeaderMap;
use http::Request;
use http::Response;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::DuplexStream;

/// What the session does about an event.
type Session<'a> = &'a mut dyn FnMut(&mut Connection, &mut Vec<u8>, &Heads, &Event<'_>);

/// Drives a connection of ours until the other side has gone.
async fn drive(
    mut connection: Connection,
    mut out: Vec<u8>,
    mut socket: DuplexStream,
    session: Session<'_>,
) {
    let mut heads = Heads::new(1);
    let mut input = Vec::new();
    loop {
        connection.flush(&mut out);
        if socket.write_all(&out).await.is_err() {
            return;
        }
        out.clear();
        if connection.is_drained() {
            return;
        }
        if socket.read_buf(&mut input).await.unwrap_or(0) == 0 {
            return;
        }
        let mut at = 0;
        loop {
            let step = connection
                .next(&input[at..], &mut heads)
                .expect("the peer is right");
            at += step.consumed;
            let Some(event) = step.event else {
                break;
            };
            session(&mut connection, &mut out, &heads, &event);
        }
        input.drain(..at);
    }
}

fn run(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, future);
}

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + length) as u8).collect()
}

/// Sends a body as the windows of `h2` allow, and trailers behind it.
async fn send_body(mut stream: h2::SendStream<Bytes>, body: &[u8]) {
    for piece in body.chunks(10_000) {
        stream
            .send_data(Bytes::copy_from_slice(piece), false)
            .unwrap();
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-length", body.len().into());
    stream.send_trailers(trailers).unwrap();
}

async fn receive_body(stream: &mut h2::RecvStream) -> (Vec<u8>, HeaderMap) {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data.unwrap();
        stream.flow_control().release_capacity(data.len()).unwrap();
        body.extend_from_slice(&data);
    }
    (body, stream.trailers().await.unwrap().unwrap_or_default())
}

const LENGTHS: [usize; 9] = [0, 1, 100, 9000, 16_384, 16_385, 65_535, 200_000, 700_000];

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 4096,
    header_count_max: 10,
};

static VIA: LazyLock<Via> = LazyLock::new(|| Via::new("kakehi"));

fn forward() -> ResponseForward<'static> {
    ResponseForward {
        delivery: Delivery::UntilClose,
        persistence: Persistence::Implied,
        date: b"",
        extra: Default::default(),
        protocol: b"",
        via: &VIA,
    }
}

/// Answers with what was sent, and says so in head and trailers.
fn echo(
    bodies: &mut HashMap<u32, (Vec<u8>, bool)>,
) -> impl FnMut(&mut Connection, &mut Vec<u8>, &Heads, &Event<'_>) + '_ {
    move |connection, out, heads, event| match *event {
        Event::Request { stream, ends } => {
            assert!(!ends);
            let (head, text) = (&heads.request, heads.text());
            assert_eq!(head.host(text), b"shop.example");
            let cookie: Vec<&[u8]> = head.values(text, "cookie").collect();
            assert_eq!(cookie, [b"a=1; b=2"]);
            let path = String::from_utf8_lossy(head.path(text)).into_owned();
            let text = format!("HTTP/1.1 200 OK\r\nX-Path: {path}\r\nServer: kakehi\r\n\r\n");
            let mut answer = ResponseHead::default();
            let text = text.as_bytes();
            response::parse(text, &LIMITS, false, None, &mut answer).unwrap();
            connection.send_response(out, stream, text, &answer, &forward(), false);
            bodies.insert(stream, (Vec::new(), false));
        }
        Event::Data { stream, data, .. } => {
            bodies.get_mut(&stream).unwrap().0.extend_from_slice(data);
            connection.consumed(stream, data.len());
        }
        Event::Trailers { stream, .. } => {
            assert!(heads.trailers().to_text().starts_with(b"x-length: "));
            bodies.get_mut(&stream).unwrap().1 = true;
            send_rest(connection, out, stream, bodies);
        }
        Event::Writable { stream, .. } => send_rest(connection, out, stream, bodies),
        Event::Settings | Event::GoAway { .. } => {}
        ref event => panic!("{event:?}"),
    }
}

fn send_rest(
    connection: &mut Connection,
    out: &mut Vec<u8>,
    stream: u32,
    bodies: &mut HashMap<u32, (Vec<u8>, bool)>,
) {
    let (body, _) = bodies.get_mut(&stream).unwrap();
    let sent = connection.send_data(out, stream, body, false);
    body.drain(..sent);
    if body.is_empty() {
        connection.send_trailers(out, stream, LineBuf::one(b"X-Done", b"yes").lines());
    }
}

#[test]
fn our_server_serves_another_client() {
    run(async {
        let (ours, theirs) = tokio::io::duplex(30_000);
        let server = tokio::task::spawn_local(async move {
            let mut bodies = HashMap::new();
            drive(
                Connection::server(&Settings::default()),
                Vec::new(),
                ours,
                &mut echo(&mut bodies),
            )
            .await;
        });
        let (mut client, connection) = h2::client::handshake(theirs).await.unwrap();
        let connection = tokio::task::spawn_local(connection);
        let mut answers = Vec::new();
        for length in LENGTHS {
            let request = Request::post(format!("https://shop.example/{length}"))
                .header("cookie", "a=1")
                .header("cookie", "b=2")
                .header("x-padding", "p".repeat(length.min(20_000)))
                .body(())
                .unwrap();
            client = client.ready().await.unwrap();
            let (answer, stream) = client.send_request(request, false).unwrap();
            send_body(stream, &body(length)).await;
            answers.push((length, answer));
        }
        for (length, answer) in answers {
            let mut response = answer.await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["x-path"], format!("/{length}"));
            let (echoed, trailers) = receive_body(response.body_mut()).await;
            assert!(echoed == body(length), "{length}");
            assert_eq!(trailers["x-done"], "yes");
        }
        drop(client);
        connection.await.unwrap().unwrap();
        server.await.unwrap();
    });
}

#[test]
fn our_client_is_served_by_another_server() {
    run(async {
        let (ours, theirs) = tokio::io::duplex(30_000);
        let server = tokio::task::spawn_local(async move {
            let mut connection = h2::server::handshake(theirs).await.unwrap();
            while let Some(exchange) = connection.accept().await {
                let (request, mut respond) = exchange.unwrap();
                tokio::task::spawn_local(async move {
                    assert_eq!(request.uri().host(), Some("shop.example"));
                    assert_eq!(request.headers()["x-forwarded-proto"], "https");
                    let mut stream = request.into_body();
                    let (received, _) = receive_body(&mut stream).await;
                    let response = Response::builder().header("x-length", received.len());
                    let stream = respond.send_response(response.body(()).unwrap(), false);
                    send_body(stream.unwrap(), &received).await;
                });
            }
        });
        let mut client = Connection::client(&Settings::default());
        let mut out = Vec::new();
        let mut waiting = HashMap::new();
        for length in LENGTHS {
            let text = format!(
                "POST /{length}?a=b HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-Proto: https\r\n\
                 Content-Length: {length}\r\n\r\n"
            );
            let stream = ask(
                &mut client,
                &mut out,
                text.as_bytes(),
                "https",
                length as u64,
                false,
            );
            let stream = stream.unwrap();
            let mut rest = body(length);
            let sent = client.send_data(&mut out, stream, &rest, true);
            rest.drain(..sent);
            waiting.insert(stream, (rest, Vec::new()));
        }
        let mut done = 0;
        drive(
            client,
            out,
            ours,
            &mut |connection, out, heads, event| match *event {
                Event::Response { tag, .. } => {
                    let (head, text) = (&heads.response, heads.text());
                    assert_eq!(head.status, 200);
                    let length = head.values(text, "X-Length").next().unwrap();
                    assert_eq!(length, tag.to_string().as_bytes());
                }
                Event::Data { stream, data, .. } => {
                    waiting.get_mut(&stream).unwrap().1.extend_from_slice(data);
                    connection.consumed(stream, data.len());
                }
                Event::Trailers { stream, tag } => {
                    assert!(waiting[&stream].1 == body(tag as usize), "{tag}");
                    assert_eq!(
                        heads.trailers().to_text(),
                        format!("x-length: {tag}\r\n").as_bytes()
                    );
                    done += 1;
                    if done == LENGTHS.len() {
                        connection.shut_down();
                    }
                }
                Event::Writable { stream, .. } => {
                    let (rest, _) = waiting.get_mut(&stream).unwrap();
                    let sent = connection.send_data(out, stream, rest, true);
                    rest.drain(..sent);
                }
                Event::Settings | Event::GoAway { .. } => {}
                ref event => panic!("{event:?}"),
            },
        )
        .await;
        assert_eq!(done, LENGTHS.len());
        server.await.unwrap();
    });
}

#[test]
fn another_client_understands_our_resets_and_our_leaving() {
    run(async {
        let (ours, theirs) = tokio::io::duplex(30_000);
        let server = tokio::task::spawn_local(async move {
            let session: Session<'_> = &mut |connection, _, heads, event| {
                if let Event::Request { stream, .. } = *event {
                    let code = match heads.request.path(heads.text()) {
                        b"/cancel" => ErrorCode::Cancel,
                        _ => ErrorCode::RefusedStream,
                    };
                    connection.reset(stream, code);
                    connection.shut_down();
                }
            };
            drive(
                Connection::server(&Settings::default()),
                Vec::new(),
                ours,
                session,
            )
            .await;
        });
        let (client, connection) = h2::client::handshake(theirs).await.unwrap();
        let connection = tokio::task::spawn_local(connection);
        let mut client = client.ready().await.unwrap();
        for (path, reason) in [
            ("cancel", h2::Reason::CANCEL),
            ("x", h2::Reason::REFUSED_STREAM),
        ] {
            let request = Request::get(format!("http://a/{path}")).body(()).unwrap();
            let Ok((answer, _)) = client.send_request(request, true) else {
                // It has heard that we leave.
                assert_eq!(path, "x");
                continue;
            };
            assert_eq!(answer.await.unwrap_err().reason(), Some(reason));
        }
        drop(client);
        connection.await.unwrap().unwrap();
        server.await.unwrap();
    });
}
