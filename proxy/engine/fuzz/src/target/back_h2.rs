//! Invariant: whatever a backend of HTTP/2 sends, in whatever pieces, its clients get the same responses whole, or ones
//! that fail; what it gets are whole frames; and nothing is left of it when all have gone.

use super::h2::check_frames;
use super::pieces;
use super::with_rig;
use crate::Behaviour;
use crate::Target;
use crate::rig::Answered;
use crate::rig::Spoken;
use crate::rig::answers;

/// The target.
pub const TARGET: Target = Target {
    name: "back_h2",
    check,
    tokens: super::h2_client::TARGET.tokens,
};

/// Those of three clients, on the streams 1, 3 and 5.
const REQUESTS: [&[u8]; 3] = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
];

/// Checks the invariant; the settings are sent for the input.
pub fn check(input: &[u8]) -> Behaviour {
    let mut all = b"\0\0\0\x04\0\0\0\0\0".to_vec();
    all.extend_from_slice(input);
    let whole = run(&all, all.len());
    for piece in pieces(all.len()) {
        let found = run(&all, piece);
        let agrees = whole
            .iter()
            .zip(&found)
            .all(|(one, other)| agree(one, other));
        assert!(agrees, "{found:?} in pieces of {piece}, {whole:?} in one");
    }
    Behaviour::of(whole.map(|one| one.map(|it| it.status())))
}

/// A head waits for what is in the same piece: so a response of nothing else may be over for its client, or have
/// failed for what came behind it.
fn agree(whole: &Option<Answered>, found: &Option<Answered>) -> bool {
    match (whole, found) {
        (None, Some(Answered::Whole { body, .. })) => body.is_empty(),
        _ => whole == found,
    }
}

fn run(input: &[u8], piece: usize) -> [Option<Answered>; 3] {
    with_rig(Spoken::Http2, |rig| {
        let mut clients = REQUESTS.map(|request| {
            let mut client = rig.client();
            rig.say(&mut client, request, request.len());
            client
        });
        let mut backend = rig.backend().expect("a connection to the backend");
        assert!(rig.backend().is_none(), "one for all");
        rig.say(&mut backend, input, piece);
        backend.end();
        rig.settle();
        backend.hear();
        check_frames(&backend.got);
        let mut found = [None, None, None];
        for (number, client) in clients.iter_mut().enumerate() {
            let got = answers(client, REQUESTS[number].starts_with(b"HEAD"));
            found[number] = got.into_iter().next().and_then(Answered::unfailed);
        }
        // A backend that could not be reached is left alone for a moment.
        (found, false)
    })
}
