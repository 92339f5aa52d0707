//! Invariant: whatever a client of HTTP/1.1 sends, in whatever pieces, the same requests reach the backend, each of
//! which has one reading; it gets the same answers to them; and nothing is left of it when it has gone.

use super::pieces;
use super::with_rig;
use crate::Behaviour;
use crate::Target;
use crate::rig::Answered;
use crate::rig::Asked;
use crate::rig::Honest;
use crate::rig::Spoken;
use crate::rig::answers;

/// The target.
pub const TARGET: Target = Target {
    name: "front_h1",
    check,
    tokens: super::h1_request::TARGET.tokens,
};

/// Checks the invariant; the input is all that the client sends.
pub fn check(input: &[u8]) -> Behaviour {
    let whole = run(input, input.len());
    for piece in pieces(input.len()) {
        assert_eq!(run(input, piece), whole, "in pieces of {piece}");
    }
    let (asked, statuses) = whole;
    let asked = asked
        .iter()
        .map(|asked| (asked.line.len().min(40), asked.body.len().min(20)));
    Behaviour::of((asked.collect::<Vec<_>>(), statuses))
}

/// What the backend was asked, and the answers to that: what is no request may be told as soon as it is seen, or, if
/// it comes in pieces, never.
fn run(input: &[u8], piece: usize) -> (Vec<Asked>, Vec<u16>) {
    with_rig(Spoken::Http1, |rig| {
        let mut client = rig.client();
        let mut backend = Honest::default();
        for piece in input.chunks(piece.max(1)) {
            rig.say(&mut client, piece, piece.len());
            backend.serve(rig);
        }
        client.end();
        backend.serve(rig);
        let asked = std::mem::take(&mut backend.asked);
        // What comes of HTTP/2 is seen by `front_h2`, and answers to HEAD have no body to be found.
        let is_other = input.starts_with(b"PRI * HTTP/2.0")
            || asked.iter().any(|asked| asked.line.starts_with("HEAD "));
        let got = match is_other {
            true => Vec::new(),
            false => answers(&mut client, false),
        };
        let statuses = got.iter().map(Answered::status);
        let statuses = statuses.take_while(|status| *status == 200).collect();
        ((asked, statuses), true)
    })
}
