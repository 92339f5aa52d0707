//! What a peer can do wrong, or in vain (T01–T07, T17, T37).

use super::*;
use crate::protocol::h2::hpack::HpackError;

/// How many frames of a flood are taken before the connection ends, and how.
fn flood(
    mut server: Connection,
    mut round: impl FnMut(&mut Peer, u32),
) -> (usize, ConnectionFault) {
    let mut peer = Peer::default();
    let mut count = 0;
    for at in 0..3000 {
        peer.bytes.clear();
        round(&mut peer, 2 * at + 1);
        count += frames(&peer.bytes).len();
        if let Err(fault) = told(&mut server, &peer) {
            let sent = flushed(&mut server);
            let last = sent.last().unwrap();
            assert_eq!(
                (last.0, last.3[7]),
                (Kind::GoAway, fault.code().code() as u8)
            );
            return (count, fault);
        }
        server.flush(&mut Vec::new());
    }
    panic!("a flood without end");
}

fn check_flood(round: impl FnMut(&mut Peer, u32)) {
    let (count, fault) = flood(server(), round);
    assert_eq!(fault, ConnectionFault::Flood);
    assert!(count <= 300, "after {count} frames");
}

#[test]
fn t01_rapid_resets_come_to_an_end() {
    let (count, fault) = flood(server(), |peer, stream| {
        peer.get(stream)
            .frame(Kind::ResetStream, 0, stream, &[0, 0, 0, 8]);
    });
    assert_eq!(fault, ConnectionFault::Flood);
    assert!(count <= 3000, "after {count} frames");
}

/// Those who never acknowledge our settings have no more than a large burst in advance.
#[test]
fn t01_streams_too_many_come_to_an_end() {
    let mut server = Connection::server(&settings());
    told(&mut server, &Peer::client()).unwrap();
    let mut peer = Peer::default();
    let taken = (0..10_000).take_while(|at| {
        peer.bytes.clear();
        let taken = told(&mut server, peer.post(2 * at + 1)).is_ok();
        server.flush(&mut Vec::new());
        taken
    });
    assert!(taken.count() < 4500);
}

#[test]
fn t02_we_are_not_made_to_reset() {
    check_flood(|peer, stream| {
        peer.get(stream)
            .frame(Kind::WindowUpdate, 0, stream, &[0; 4]);
    });
    check_flood(|peer, stream| {
        peer.get(stream)
            .frame(Kind::WindowUpdate, 0, stream, &[0x7f, 0xff, 0xff, 0xff]);
    });
    check_flood(|peer, stream| {
        peer.get(stream).data(stream, b"x", false);
    });
    check_flood(|peer, stream| {
        peer.get(stream).frame(Kind::Priority, 0, stream, b"1234");
    });
    check_flood(|peer, stream| {
        peer.head(stream, &[GET, &[("Upper", "1")]].concat(), true);
    });
    check_flood(|peer, stream| {
        peer.head(stream, &[POST, &[("content-length", "1")]].concat(), true);
    });
}

#[test]
fn t06_frames_in_vain_come_to_an_end() {
    for (kind, flags, stream, payload) in [
        (Kind::Ping, 0, 0, &[0; 8][..]),
        (Kind::Ping, frame::ACK, 0, &[0; 8]),
        (Kind::Settings, 0, 0, &[]),
        (Kind::Settings, frame::ACK, 0, &[]),
        (Kind::Settings, 0, 0, &[0, 4, 0, 0, 0, 1]),
        (Kind::Priority, 0, 1, &[0, 0, 0, 0, 1]),
        (Kind::PriorityUpdate, 0, 0, &[0, 0, 0, 1]),
        (Kind::WindowUpdate, 0, 0, &[0, 0, 0, 1]),
        (Kind::WindowUpdate, 0, 1, &[0, 0, 0, 1]),
        (Kind::Data, 0, 1, &[]),
        (Kind::Data, frame::PADDED, 1, &[2, 0, 0]),
        (Kind::Unknown, 0, 1, &[1, 2, 3]),
        (Kind::Unknown, 0, 0, &[]),
    ] {
        let mut server = server();
        told(&mut server, Peer::default().post(1)).unwrap();
        let (count, fault) = flood(server, |peer, _| {
            peer.frame(kind, flags, stream, payload);
        });
        assert_eq!(fault, ConnectionFault::Flood, "{kind:?}");
        assert!(count <= 300, "{kind:?} after {count} frames");
    }
}

#[test]
fn t03_a_header_block_has_an_end() {
    for size in [0, 1, 1000, 16_384] {
        let mut server = server();
        let mut peer = Peer::default();
        let lines = [GET, &[("x-a", "a")]].concat();
        let block = peer.block(&lines);
        peer.frame(Kind::Headers, 0, 1, &block);
        told(&mut server, &peer).unwrap();
        assert!(server.head_pending());
        let (count, fault) = flood(server, |peer, _| {
            peer.frame(Kind::Continuation, 0, 1, &vec![0; size]);
        });
        assert_eq!(fault, ConnectionFault::HeaderBlock);
        assert!(count <= 32 && count * size <= (20 << 10) + size);
    }
}

#[test]
fn t07_a_window_opened_byte_by_byte_comes_to_an_end() {
    let mut server = server();
    let mut peer = Peer::default();
    peer.frame(Kind::Settings, 0, 0, &[0, 4, 0, 0, 0, 0]).get(1);
    told(&mut server, &peer).unwrap();
    let mut out = Vec::new();
    super::send_text(&mut server, &mut out, 1, b"HTTP/1.1 200 OK\r\n\r\n", false);
    server.send_data(&mut out, 1, &[0; 1000], true);
    let mut peer = Peer::default();
    peer.frame(Kind::WindowUpdate, 0, 1, &[0, 0, 0, 1]);
    let taken = (0..300).take_while(|_| {
        let told = told(&mut server, &peer);
        server.send_data(&mut out, 1, &[0; 1000], true);
        told.is_ok()
    });
    assert!(taken.count() < 300);
}

#[test]
fn a_stream_of_small_events_may_be_acknowledged_one_by_one() {
    let mut server = server();
    told(&mut server, Peer::default().get(1)).unwrap();
    let mut out = Vec::new();
    super::send_text(&mut server, &mut out, 1, b"HTTP/1.1 200 OK\r\n\r\n", false);
    let mut peer = Peer::default();
    peer.frame(Kind::WindowUpdate, 0, 1, &[0, 0, 0, 50]).frame(
        Kind::WindowUpdate,
        0,
        0,
        &[0, 0, 0, 50],
    );
    for _ in 0..1000 {
        assert_eq!(server.send_data(&mut out, 1, &[0; 50], false), 50);
        told(&mut server, &peer).unwrap();
    }
}

#[test]
fn t06_answers_that_are_not_read_are_bounded() {
    let mut server = server();
    let mut peer = Peer::default();
    peer.frame(Kind::Ping, 0, 0, &[0; 8]);
    let mut fault = Ok(Vec::new());
    for second in 0..2000 {
        // Slowly, so that the budget does not end it.
        server.pass_time(second);
        fault = told(&mut server, &peer);
        if fault.is_err() {
            break;
        }
    }
    assert_eq!(fault, Err(ConnectionFault::Deaf));
    assert!(server.control.len() <= CONTROL_BYTES_MAX + 100);
}

#[test]
fn keep_alive_pings_of_a_day_are_no_flood() {
    let mut server = server();
    let mut peer = Peer::default();
    peer.frame(Kind::Ping, 0, 0, &[0; 8]);
    for round in 0..8640 {
        server.pass_time(round * 10);
        assert!(told(&mut server, &peer).is_ok());
        server.flush(&mut Vec::new());
    }
}

#[test]
fn useful_work_earns_the_budget_back() {
    let mut server = server();
    let mut peer = Peer::default();
    let mut out = Vec::new();
    for round in 0..2000 {
        let stream = 2 * round + 1;
        peer.bytes.clear();
        peer.get(stream).frame(Kind::Ping, 0, 0, &[0; 8]);
        told(&mut server, &peer).unwrap();
        super::send_no_content(&mut server, &mut out, stream);
        out.clear();
    }
}

#[test]
fn a_page_that_is_left_cancels_all_its_streams() {
    let mut server = Connection::server(&Settings::default());
    let mut peer = Peer::client();
    for stream in (1..200).step_by(2) {
        peer.get(stream);
    }
    for stream in (1..200).step_by(2) {
        peer.frame(Kind::ResetStream, 0, stream, &[0, 0, 0, 8]);
    }
    assert_eq!(told(&mut server, &peer).unwrap().len(), 201);
}

#[test]
fn too_many_streams_are_refused() {
    let mut server = server();
    let mut peer = Peer::default();
    for stream in [1, 3, 5, 7] {
        peer.post(stream);
    }
    peer.data(7, b"late", false).head(7, &[("x", "late")], true);
    let told = super::told(&mut server, &peer).unwrap();
    assert_eq!(
        told,
        ["1 request false", "3 request false", "5 request false"]
    );
    assert_eq!(
        flushed(&mut server),
        [(Kind::ResetStream, 0, 7, vec![0, 0, 0, 7])]
    );
    let (count, fault) = flood(super::server(), |peer, stream| {
        peer.post(stream);
    });
    assert_eq!(fault, ConnectionFault::Flood);
    assert!(count <= 3000, "after {count} frames");
}

#[test]
fn t37_late_frames_are_told_from_wrong_ones() {
    let late = |end: fn(&mut Connection, &mut Peer), kind: Kind, payload: &[u8]| {
        let mut server = server();
        let mut peer = Peer::default();
        told(&mut server, peer.post(1)).unwrap();
        peer.bytes.clear();
        end(&mut server, &mut peer);
        peer.frame(kind, frame::END_HEADERS, 1, payload);
        told(&mut server, &peer).err()
    };
    let by_us: fn(&mut Connection, &mut Peer) = |server, _| server.reset(1, ErrorCode::Cancel);
    let by_peer: fn(&mut Connection, &mut Peer) = |_, peer| {
        peer.frame(Kind::ResetStream, 0, 1, &[0, 0, 0, 8]);
    };
    let closed = Some(ConnectionFault::Closed);
    for (kind, payload, wrong) in [
        (Kind::Data, &b"abcd"[..], closed),
        (Kind::Headers, b"", closed),
        (Kind::WindowUpdate, &[0, 0, 0, 1], None),
        (Kind::ResetStream, &[0, 0, 0, 8], None),
        (Kind::Priority, &[0, 0, 0, 0, 1], None),
    ] {
        assert_eq!(late(by_us, kind, payload), None, "{kind:?}");
        assert_eq!(late(by_peer, kind, payload), wrong, "{kind:?}");
    }
}

#[test]
fn a_frame_out_of_place_ends_the_connection() {
    for (kind, flags, stream, payload, fault) in [
        (Kind::Data, 0, 0, &b"a"[..], ConnectionFault::BadScope),
        (Kind::Data, 0, 9, b"a", ConnectionFault::BadStream),
        (
            Kind::Data,
            frame::PADDED,
            1,
            b"\x01",
            ConnectionFault::BadPadding,
        ),
        (
            Kind::Data,
            frame::PADDED,
            1,
            b"",
            ConnectionFault::FrameSize,
        ),
        (Kind::Headers, 4, 0, b"", ConnectionFault::BadScope),
        (Kind::Headers, 4, 2, b"", ConnectionFault::BadStream),
        (
            Kind::Headers,
            4 | frame::PADDED,
            9,
            b"\x05",
            ConnectionFault::BadPadding,
        ),
        (
            Kind::Headers,
            4 | frame::PRIORITY,
            9,
            b"1234",
            ConnectionFault::FrameSize,
        ),
        (
            Kind::Headers,
            4,
            9,
            b"\xff",
            ConnectionFault::Hpack(HpackError::Truncated),
        ),
        (Kind::Priority, 0, 0, b"12345", ConnectionFault::BadScope),
        (Kind::ResetStream, 0, 0, b"1234", ConnectionFault::BadScope),
        (Kind::ResetStream, 0, 9, b"1234", ConnectionFault::BadStream),
        (Kind::ResetStream, 0, 1, b"123", ConnectionFault::FrameSize),
        (Kind::Settings, 0, 1, b"", ConnectionFault::BadScope),
        (Kind::Settings, 0, 0, b"1", ConnectionFault::FrameSize),
        (
            Kind::Settings,
            frame::ACK,
            0,
            b"123456",
            ConnectionFault::FrameSize,
        ),
        (Kind::PushPromise, 4, 1, b"1234", ConnectionFault::Push),
        (Kind::Ping, 0, 1, b"12345678", ConnectionFault::BadScope),
        (Kind::Ping, 0, 0, b"1234567", ConnectionFault::FrameSize),
        (Kind::GoAway, 0, 1, b"12345678", ConnectionFault::BadScope),
        (Kind::GoAway, 0, 0, b"1234567", ConnectionFault::FrameSize),
        (
            Kind::WindowUpdate,
            0,
            0,
            &[0; 4],
            ConnectionFault::WindowUpdate,
        ),
        (
            Kind::WindowUpdate,
            0,
            0,
            &[0x7f, 0xff, 0xff, 0xff],
            ConnectionFault::Window,
        ),
        (
            Kind::WindowUpdate,
            0,
            9,
            &[0, 0, 0, 1],
            ConnectionFault::BadStream,
        ),
        (Kind::WindowUpdate, 0, 1, b"123", ConnectionFault::FrameSize),
        (Kind::Continuation, 4, 1, b"", ConnectionFault::Continuation),
        (
            Kind::Unknown,
            0,
            0,
            &[0; 16_385],
            ConnectionFault::FrameSize,
        ),
    ] {
        let mut server = server();
        let mut peer = Peer::default();
        peer.post(1).frame(kind, flags, stream, payload);
        assert_eq!(
            told(&mut server, &peer).err(),
            Some(fault),
            "{kind:?} {stream}"
        );
        assert_eq!(server.next(b"", &mut Heads::default()).err(), Some(fault));
    }
}

#[test]
fn a_number_is_not_gone_back_to() {
    let mut server = server();
    let mut peer = Peer::default();
    peer.get(5).get(3);
    assert_eq!(
        told(&mut server, &peer).err(),
        Some(ConnectionFault::BadStream)
    );
}

#[test]
fn a_window_is_kept_to() {
    let mut server = server();
    let mut peer = Peer::default();
    peer.post(1);
    for _ in 0..9 {
        peer.data(1, &[0; 16_000], false);
    }
    let reset = "1 reset flow_control_error by h2_stream_window";
    assert_eq!(told(&mut server, &peer).unwrap().last().unwrap(), reset);
    let mut peer = Peer::default();
    peer.post(3).post(5);
    for _ in 0..8 {
        peer.data(3, &[0; 16_000], false)
            .data(5, &[0; 16_384], false);
    }
    peer.post(7).data(7, &[0; 10_000], false);
    assert_eq!(
        told(&mut server, &peer).err(),
        Some(ConnectionFault::Window)
    );
}
