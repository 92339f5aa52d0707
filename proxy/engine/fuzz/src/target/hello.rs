//! Invariant: bytes are nameless, wait for more, or name a host; and what names one waits at every
//! shorter length, and is not changed by anything behind it.

use _engine::protocol::hello;
use _engine::protocol::hello::HELLO_BYTES_MAX;
use _engine::protocol::hello::Sight;

use crate::Behaviour;
use crate::Target;

/// The target.
pub const TARGET: Target = Target {
    name: "hello",
    check,
    tokens: TOKENS,
};

/// Checks the invariant.
pub fn check(input: &[u8]) -> Behaviour {
    let sight = hello::look(input);
    let behaviour = match &sight {
        Sight::Incomplete => {
            assert!(input.len() < HELLO_BYTES_MAX);
            ("waits", 0)
        }
        Sight::Nameless => ("nameless", 0),
        Sight::Named(name) => {
            assert!((1..=255).contains(&name.len()));
            assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()));
            let complete = (0..=input.len())
                .find(|length| hello::look(&input[..*length]) != Sight::Incomplete)
                .expect("the whole is complete");
            assert_eq!(hello::look(&input[..complete]), sight);
            ("named", complete)
        }
    };
    Behaviour::of(behaviour)
}

const TOKENS: &[&str] = &[
    "\x16\x03\x01",
    "\x16\x03\x03\0\x01",
    "\x01\0\0",
    "\x03\x03",
    "\0\0\0",
    "\0\x09shop.test",
    "\0\x0c\0\0\x09shop.test",
    "\0\0\0\x0e\0\x0c\0\0\x09shop.test",
    "\x01\0",
    "\0\x02\x13\x01",
    "0123456789abcdef0123456789abcdef",
    "\x20",
];
