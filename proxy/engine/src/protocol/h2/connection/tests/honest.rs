//! What honest peers do at once, and is no abuse: the other side of `abuse`.

use super::*;

const REQUEST: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n";

/// A server that takes a hundred streams.
fn wide_server() -> Connection {
    let mut server = Connection::server(&Settings::default());
    assert_eq!(told(&mut server, &Peer::client()).unwrap(), ["settings"]);
    server.pass_time(1);
    flushed(&mut server);
    server
}

fn update(peer: &mut Peer, stream: u32) {
    peer.frame(Kind::WindowUpdate, 0, stream, &[0, 0, 0, 5]);
}

#[test]
fn a_burst_of_calls_opens_its_windows_before_it_is_answered() {
    let mut server = wide_server();
    let mut out = Vec::new();
    for burst in 0..10 {
        let streams = || (0..100).map(|at| 200 * burst + 2 * at + 1);
        let mut peer = Peer::default();
        for stream in streams() {
            peer.post(stream).data(stream, b"12345", true);
        }
        for stream in streams() {
            update(&mut peer, stream);
            update(&mut peer, 0);
        }
        told(&mut server, &peer).unwrap();
        for stream in streams() {
            super::send_ok(&mut server, &mut out, stream);
            server.send_data(&mut out, stream, b"12345", true);
        }
    }
}

#[test]
fn many_tiny_messages_may_be_acknowledged_after_their_stream_is_gone() {
    let mut server = wide_server();
    let mut peer = Peer::default();
    let mut out = Vec::new();
    told(&mut server, peer.get(1)).unwrap();
    super::send_text(&mut server, &mut out, 1, b"HTTP/1.1 200 OK\r\n\r\n", false);
    for _ in 0..1000 {
        server.send_data(&mut out, 1, b"12345", false);
    }
    peer.bytes.clear();
    peer.frame(Kind::ResetStream, 0, 1, &[0, 0, 0, 8]);
    for _ in 0..1000 {
        update(&mut peer, 1);
        update(&mut peer, 0);
        peer.frame(Kind::Ping, 0, 0, b"12345678");
        server.flush(&mut out);
        assert!(told(&mut server, &peer).is_ok());
        peer.bytes.clear();
    }
}

#[test]
fn a_thousand_calls_may_be_cancelled_while_others_begin() {
    let mut server = wide_server();
    for at in 0..1000 {
        let mut peer = Peer::default();
        peer.get(2 * at + 1);
        if at >= 100 {
            peer.frame(Kind::ResetStream, 0, 2 * (at - 100) + 1, &[0, 0, 0, 8]);
        }
        assert!(told(&mut server, &peer).is_ok(), "at {at}");
    }
}

#[test]
fn a_call_that_was_answered_may_be_given_up() {
    let mut server = wide_server();
    let mut out = Vec::new();
    for at in 0..5000 {
        let stream = 2 * at + 1;
        let mut peer = Peer::default();
        told(&mut server, peer.get(stream)).unwrap();
        super::send_ok(&mut server, &mut out, stream);
        peer.bytes.clear();
        peer.frame(Kind::ResetStream, 0, stream, &[0, 0, 0, 8]);
        assert!(told(&mut server, &peer).is_ok());
        out.clear();
    }
}

#[test]
fn ten_pings_a_second_are_no_flood() {
    let mut server = wide_server();
    let mut peer = Peer::default();
    peer.frame(Kind::Ping, 0, 0, b"12345678");
    for tenth in 0..100_000 {
        server.pass_time(tenth / 10);
        assert!(told(&mut server, &peer).is_ok(), "after {tenth} of them");
        server.flush(&mut Vec::new());
    }
}

#[test]
fn a_thousand_calls_may_be_given_up_before_they_are_sent() {
    let mut server = wide_server();
    let mut peer = Peer::default();
    for stream in (1..2000).step_by(2) {
        peer.get(stream)
            .frame(Kind::ResetStream, 0, stream, &[0, 0, 0, 8]);
    }
    // No work is begun for those.
    assert_eq!(told(&mut server, &peer), Ok(Vec::new()));
    // A frame a read: nobody knows what will follow.
    let mut server = wide_server();
    let piece = FRAME_BYTES_MAX;
    assert!(feed(&mut server, &peer.bytes, piece / 1000).is_ok());
}

#[test]
fn a_client_that_has_not_read_our_settings_may_open_too_many_streams() {
    let mut server = Connection::server(&Settings::default());
    let mut peer = Peer::client();
    for stream in (1..4000).step_by(2) {
        peer.post(stream);
        if stream == 1001 {
            // What has read them tells so at once, and what sends has more in its queue.
            peer.frame(Kind::Settings, frame::ACK, 0, &[]);
        }
    }
    for stream in (1..4000).step_by(2) {
        peer.data(stream, b"12345", true);
        update(&mut peer, stream);
    }
    let told = told(&mut server, &peer).unwrap();
    let requests = told.iter().filter(|it| it.ends_with("request false"));
    assert_eq!(requests.count(), 501, "all of those before it said so");
    let refused = (Kind::ResetStream, vec![0, 0, 0, 7]);
    let sent = flushed(&mut server);
    let refusals = sent
        .into_iter()
        .filter(|it| (it.0, it.3.clone()) == refused);
    assert_eq!(refusals.count(), 1499);
}

/// Memory is bounded all the same, and none lives on never acknowledging our settings.
#[test]
fn a_client_that_never_reads_our_settings_may_have_as_many_streams_as_ten() {
    let mut server = Connection::server(&Settings::default());
    let mut peer = Peer::client();
    for stream in (1..4000).step_by(2) {
        peer.get(stream);
    }
    told(&mut server, &peer).unwrap();
    assert_eq!(server.stream_count(), 1024);
    let mut peer = Peer::default();
    peer.frame(Kind::Settings, frame::ACK, 0, &[]);
    told(&mut server, &peer).unwrap();
    let mut out = Vec::new();
    for stream in (1..2049).step_by(2) {
        super::send_ok(&mut server, &mut out, stream);
        server.send_data(&mut out, stream, b"1", true);
    }
    let mut peer = Peer::default();
    for stream in (4001..4401).step_by(2) {
        peer.get(stream);
    }
    // An excess is charged once the allowance is used up.
    let _ = told(&mut server, &peer);
    assert_eq!(
        server.stream_count(),
        100,
        "from then on as many as anybody"
    );
}

#[test]
fn each_late_frame_of_a_stream_may_be_answered_by_a_reset() {
    let mut server = wide_server();
    let mut peer = Peer::default();
    let mut out = Vec::new();
    peer.frame(Kind::Settings, 0, 0, &[0, 4, 0, 16, 0, 0])
        .frame(Kind::WindowUpdate, 0, 0, &[0, 16, 0, 0])
        .get(1);
    told(&mut server, &peer).unwrap();
    super::send_text(&mut server, &mut out, 1, b"HTTP/1.1 200 OK\r\n\r\n", false);
    for _ in 0..100_000 {
        server.send_data(&mut out, 1, b"12345", false);
    }
    peer.bytes.clear();
    for _ in 0..100_001 {
        peer.frame(Kind::ResetStream, 0, 1, &[0, 0, 0, 8]);
    }
    assert!(told(&mut server, &peer).is_ok());
    let endless = (0..1_000_000).take_while(|_| told(&mut server, &peer).is_ok());
    assert!(endless.count() < 2);
}

#[test]
fn a_head_that_is_too_large_costs_its_own_stream() {
    let mut client = client();
    let mut out = Vec::new();
    for _ in 0..2 {
        super::ask(&mut client, &mut out, REQUEST, "http", 0, false);
    }
    let mut peer = Peer::default();
    let long = "~".repeat(60_000);
    let block = peer.block(&[(":status", "200"), ("x-known", "a"), ("x-long", &long)]);
    let mut pieces = block.chunks(FRAME_BYTES_MAX).peekable();
    let mut kind = Kind::Headers;
    while let Some(piece) = pieces.next() {
        let is_last = pieces.peek().is_none();
        let flags = if is_last { frame::END_HEADERS } else { 0 };
        peer.frame(kind, flags, 1, piece);
        kind = Kind::Continuation;
    }
    peer.head(3, &[(":status", "200"), ("x-known", "a")], true);
    assert_eq!(
        told(&mut client, &peer).unwrap(),
        [
            "1 reset protocol_error by head_too_large",
            "3 response true"
        ]
    );
}

/// What is late for a stream that we have reset, in so many pieces.
fn late(connection: &mut Connection, stream: u32, pieces: usize) -> Told {
    let mut peer = Peer::default();
    for _ in 0..pieces {
        peer.data(stream, b"x", false);
    }
    told(connection, &peer)
}

#[test]
fn late_frames_are_no_fault_as_far_as_the_window_had_allowed_them() {
    let mut server = server();
    told(&mut server, Peer::default().post(1)).unwrap();
    server.reset(1, ErrorCode::Cancel);
    assert_eq!(late(&mut server, 1, 100_000), Ok(Vec::new()));
    assert_eq!(
        late(&mut server, 1, 100_000),
        Err(ConnectionFault::Flood),
        "more than anybody could have had on the way"
    );
}

#[test]
fn a_refused_stream_may_have_had_a_body_on_the_way() {
    let mut server = server();
    let mut peer = Peer::default();
    for stream in [1, 3, 5, 7] {
        peer.post(stream);
    }
    told(&mut server, &peer).unwrap();
    assert_eq!(late(&mut server, 7, 50_000), Ok(Vec::new()));
}

#[test]
fn a_backend_may_do_far_more_than_a_stranger() {
    let mut client = client();
    let mut out = Vec::new();
    let mut peer = Peer::default();
    for at in 0..1000 {
        let text = REQUEST;
        let stream = super::ask(&mut client, &mut out, text, "http", 0, false);
        assert_eq!(stream, Some(2 * at + 1));
        out.clear();
        client.reset(2 * at + 1, ErrorCode::Cancel);
    }
    for stream in (1..2000).step_by(2) {
        update(&mut peer, stream);
        update(&mut peer, 0);
        peer.head(stream, &[(":status", "200")], false)
            .data(stream, b"x", false)
            .frame(Kind::ResetStream, 0, stream, &[0, 0, 0, 8]);
    }
    assert_eq!(told(&mut client, &peer), Ok(Vec::new()));
    let mut peer = Peer::default();
    peer.frame(Kind::Priority, 0, 1, &[0; 5]);
    let endless = (0..1_000_000).take_while(|_| told(&mut client, &peer).is_ok());
    assert!(endless.count() < 20_000);
}
