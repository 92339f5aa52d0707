//! Invariant: bytes are refused as a token or are one, of which each part is as it stands in them, and says each thing
//! once; and whatever is done to tokens that our keys have signed, they have signed nothing else. Bytes that are no
//! set of keys are refused with a reason.

use std::sync::LazyLock;

use _engine::policy::guards::jwt::keys::Keys;
use _engine::policy::guards::jwt::token::{Fault, TOKEN_BYTES_MAX, Token, parse};
use _engine::protocol::base64;

use crate::Behaviour;
use crate::Target;

/// The target.
pub const TARGET: Target = Target {
    name: "token",
    check,
    tokens: TOKENS,
};

/// Public keys, whose private ones nobody has kept, and all that they have ever signed.
static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    Keys::parse("ours", include_bytes!("../../corpus/token/keys")).expect("a set of keys")
});
const SIGNED: [&[u8]; 3] = [
    include_bytes!("../../corpus/token/signed_ec"),
    include_bytes!("../../corpus/token/signed_ed"),
    include_bytes!("../../corpus/token/signed_rsa"),
];

/// Checks the invariant.
pub fn check(input: &[u8]) -> Behaviour {
    let keys = match Keys::parse("theirs", input) {
        Ok(_) => "keys".to_owned(),
        Err(reason) => {
            assert!(!reason.is_empty());
            reason
                .split(char::is_numeric)
                .next()
                .unwrap_or_default()
                .to_owned()
        }
    };
    let token = match parse(input) {
        Err(fault) => return Behaviour::of((keys, fault.as_str())),
        Ok(token) => token,
    };
    check_parts(input, &token);
    let key = KEYS.find(token.key.as_deref(), &token.algorithm);
    let is_signed = key.is_some_and(|key| key.has_signed(token.signed, &token.signature));
    if is_signed {
        let is_ours = |ours: &&[u8]| parse(ours).is_ok_and(|it| it.signed == token.signed);
        assert!(SIGNED.iter().any(is_ours), "nobody has signed that");
    }
    let said = ["iss", "sub", "aud", "exp", "nbf"].map(|name| match token.claims.text(name) {
        Ok(text) => text.is_some(),
        Err(fault) => fault == Fault::Twice,
    });
    let times = ["exp", "nbf", "iat"].map(|name| match token.claims.time(name) {
        Ok(Some(time)) => {
            assert!(time.is_finite());
            1
        }
        Ok(None) => 2,
        Err(_) => 3,
    });
    Behaviour::of((key.is_some(), is_signed, said, times))
}

fn check_parts(input: &[u8], token: &Token<'_>) {
    assert!(input.len() <= TOKEN_BYTES_MAX);
    let rest = input
        .strip_prefix(token.signed)
        .expect("it begins with what is signed");
    let signature = rest.strip_prefix(b".").expect("a dot parts it");
    assert_eq!(
        base64::decode_url(signature).as_ref(),
        Some(&token.signature)
    );
    assert_eq!(token.signed.iter().filter(|byte| **byte == b'.').count(), 1);
}

const TOKENS: &[&str] = &[
    ".",
    "=",
    "eyJhbGciOiJub25lIn0",
    "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCIsImtpZCI6ImVkIn0",
    "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImVjIn0",
    "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6InJzYSJ9",
    "eyJhbGciOiJIUzI1NiIsImtpZCI6InJzYSJ9",
    "eyJzdWIiOiJ1In0",
    "e30",
    "bnVsbA",
    "W10",
    "{\"keys\":[",
    "{\"kty\":\"RSA\",",
    "{\"kty\":\"EC\",\"crv\":\"P-256\",",
    "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",",
    "\"alg\":\"ES256\",",
    "\"kid\":\"ed\",",
    "\"use\":\"enc\",",
    "\"x\":\"AAAA\"",
    "\"n\":\"AQAB\",\"e\":\"AQAB\"",
    "}]}",
];
