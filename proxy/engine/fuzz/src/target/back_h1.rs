//! Invariant: whatever a backend of HTTP/1.1 sends, in whatever pieces, its client gets the same response whole, or one
//! that fails; and nothing is left of it when both have gone.

use super::pieces;
use super::with_rig;
use crate::Behaviour;
use crate::Target;
use crate::rig::Answered;
use crate::rig::Spoken;
use crate::rig::answers;
use crate::rig::requests;

/// The target.
pub const TARGET: Target = Target {
    name: "back_h1",
    check,
    tokens: super::h1_response::TARGET.tokens,
};

const REQUESTS: [&[u8]; 3] = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
];

/// Checks the invariant; the input is all that the backend sends, to each of the requests.
pub fn check(input: &[u8]) -> Behaviour {
    let found = REQUESTS.map(|request| {
        let whole = run(request, input, input.len());
        for piece in pieces(input.len()) {
            assert_eq!(run(request, input, piece), whole, "in pieces of {piece}");
        }
        whole.as_ref().map(Answered::status)
    });
    Behaviour::of(found)
}

/// The response, unless it has failed: how, depends on how much of it had been sent on by then.
fn run(request: &[u8], input: &[u8], piece: usize) -> Option<Answered> {
    with_rig(Spoken::Http1, |rig| {
        let mut client = rig.client();
        rig.say(&mut client, request, request.len());
        let mut backend = rig.backend().expect("a connection to the backend");
        assert_eq!(requests(&mut backend).len(), 1);
        rig.say(&mut backend, input, piece);
        backend.end();
        rig.settle();
        let got = answers(&mut client, request.starts_with(b"HEAD"));
        (got.into_iter().next().and_then(Answered::unfailed), true)
    })
}
