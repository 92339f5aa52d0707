//! What the two roles have in common: a run through a connection, and what is asked of it.

use _engine::protocol::h2::Connection;
use _engine::protocol::h2::ConnectionFault;
use _engine::protocol::h2::Event;
use _engine::protocol::h2::FRAME_BYTES_MAX;
use _engine::protocol::h2::FRAME_HEAD_BYTES;
use _engine::protocol::h2::Heads;
use _engine::protocol::h2::PREFACE;

/// What the session does about an event, and what it makes of the head.
pub(super) type Session = fn(&mut Connection, &mut Vec<u8>, &Heads, &Event<'_>) -> u64;

/// Events in words, the bytes of each stream's bodies joined.
pub(super) type Told = Vec<(String, Vec<u8>)>;

/// Gives all of `input` in pieces of at most `piece` bytes.
pub(super) fn run(
    mut connection: Connection,
    input: &[u8],
    piece: usize,
    session: Session,
) -> (Told, Option<ConnectionFault>) {
    let mut heads = Heads::new(1);
    let mut out = Vec::new();
    let mut told = Told::new();
    let (mut at, mut there) = (0, 0);
    let fault = loop {
        let step = match connection.next(&input[at..there], &mut heads) {
            Ok(step) => step,
            Err(fault) => break Some(fault),
        };
        assert!(step.consumed <= there - at);
        at += step.consumed;
        let Some(event) = step.event else {
            assert!(there - at < FRAME_BYTES_MAX + FRAME_HEAD_BYTES);
            if there == input.len() {
                break None;
            }
            there = input.len().min(there + piece);
            continue;
        };
        let head = session(&mut connection, &mut out, &heads, &event);
        tell(&mut told, &event, head);
    };
    if fault.is_some() {
        assert_eq!(connection.next(b"", &mut heads).err(), fault);
    }
    assert!(connection.stream_count() <= 100);
    connection.flush(&mut out);
    check_frames(&out);
    (told, fault)
}

/// Runs all of the input at once, and checks that in pieces it comes to the same.
///
/// A head is told only if what comes behind it in the same read does not end or contradict it at once: so
/// where a stream is reset, pieces that are shorter than the head of a frame are compared with each other.
pub(super) fn run_all_ways(
    connection: impl Fn() -> Connection,
    input: &[u8],
    session: Session,
) -> (Told, Option<ConnectionFault>) {
    let in_pieces = |piece| run(connection(), input, piece, session);
    let (whole, short) = (in_pieces(input.len()), in_pieces(FRAME_HEAD_BYTES - 1));
    let step = (input.len() / 64).max(1);
    assert_eq!(in_pieces(3), short, "other events in shorter pieces");
    let is_reset = |(told, _): &(Told, _)| {
        let mut words = told.iter().map(|(words, _)| words);
        words.any(|words| words.starts_with("Reset "))
    };
    let depends = [&whole, &short].into_iter().any(is_reset) || has_reset(input);
    for (piece, pieces) in [(FRAME_HEAD_BYTES - 1, short), (step, in_pieces(step))] {
        assert!(
            depends || pieces == whole,
            "other events in pieces of {piece}: {pieces:?}, not {whole:?}"
        );
    }
    whole
}

/// Whether the peer resets a stream, as far as its frames can be told apart.
fn has_reset(input: &[u8]) -> bool {
    let mut rest = input.strip_prefix(PREFACE).unwrap_or(input);
    while let Some((head, after)) = rest.split_at_checked(FRAME_HEAD_BYTES) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if head[3] == 3 {
            return true;
        }
        rest = after.get(length..).unwrap_or_default();
    }
    false
}

fn tell(told: &mut Told, event: &Event<'_>, head: u64) {
    let Event::Data {
        stream, data, ends, ..
    } = event
    else {
        told.push((format!("{event:?} {head}"), Vec::new()));
        return;
    };
    let open = format!("{stream} data");
    if told.last().is_none_or(|(words, _)| *words != open) {
        told.push((open.clone(), Vec::new()));
    }
    if let Some((words, bytes)) = told.last_mut() {
        bytes.extend_from_slice(data);
        if *ends {
            words.push_str(" ends");
        }
    }
}

/// What was sent is a row of whole frames that a peer with default settings takes: how many.
pub(super) fn check_frames(mut sent: &[u8]) -> usize {
    let mut count = 0;
    sent = sent.strip_prefix(PREFACE).unwrap_or(sent);
    let mut block = None;
    while !sent.is_empty() {
        let (head, rest) = sent.split_at(FRAME_HEAD_BYTES);
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        assert!(length <= FRAME_BYTES_MAX && stream < 1 << 31);
        let is_block = head[3] == 1 || head[3] == 9;
        assert_eq!(block.is_some(), head[3] == 9, "a block that is cut in two");
        block = (is_block && head[4] & 4 == 0).then_some(stream);
        sent = &rest[length..];
        count += 1;
    }
    assert_eq!(block, None);
    count
}
