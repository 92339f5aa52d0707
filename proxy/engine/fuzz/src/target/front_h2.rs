//! Invariant: whatever a client of HTTP/2 sends, in whatever pieces, what reaches the backend are requests that have
//! one reading, what it gets are whole frames, and nothing is left of it when it has gone.

use super::h2::check_frames;
use super::pieces;
use super::with_rig;
use crate::Behaviour;
use crate::Target;
use crate::rig::Honest;
use crate::rig::Spoken;

/// The target.
pub const TARGET: Target = Target {
    name: "front_h2",
    check,
    tokens: super::h2_server::TARGET.tokens,
};

/// Checks the invariant; the preface and the settings are sent for the input.
pub fn check(input: &[u8]) -> Behaviour {
    let mut all = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    all.extend_from_slice(input);
    let found = run(&all, all.len());
    for piece in pieces(all.len()) {
        run(&all, piece);
    }
    Behaviour::of(found)
}

fn run(input: &[u8], piece: usize) -> (usize, usize, bool) {
    with_rig(Spoken::Http1, |rig| {
        let mut client = rig.client();
        let mut backend = Honest::default();
        for piece in input.chunks(piece.max(1)) {
            rig.say(&mut client, piece, piece.len());
            backend.serve(rig);
            client.hear();
        }
        client.end();
        backend.serve(rig);
        client.hear();
        let frames = check_frames(&client.got);
        ((backend.asked.len(), frames, client.ended), true)
    })
}
