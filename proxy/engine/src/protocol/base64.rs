//! Bytes as text (RFC 4648 §4), for the header fields that want it.

/// Appends `bytes` in base64, padded.
pub fn encode(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.reserve(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().enumerate().fold(0u32, |bits, (at, &byte)| {
            bits | u32::from(byte) << (16 - 8 * at)
        });
        for at in 0..4 {
            out.push(match at <= group.len() {
                true => DIGITS[(bits >> (18 - 6 * at) & 63) as usize],
                false => b'=',
            });
        }
    }
}

/// The bytes of a text without padding, in the letters that a URL may have (RFC 4648 §5); none if it is no such.
#[must_use]
pub fn decode_url(text: &[u8]) -> Option<Vec<u8>> {
    digits(text, *b"-_")
}

/// The bytes of a text, which may be padded; none if it is no base64.
#[must_use]
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let unpadded = text.strip_suffix(b"=").unwrap_or(text);
    let unpadded = unpadded.strip_suffix(b"=").unwrap_or(unpadded);
    match unpadded.len() < text.len() && text.len() % 4 != 0 {
        true => None,
        false => digits(unpadded, *b"+/"),
    }
}

fn digits(digits: &[u8], [plus, slash]: [u8; 2]) -> Option<Vec<u8>> {
    if digits.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for (at, digit) in group.iter().enumerate() {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                _ if *digit == plus => 62,
                _ if *digit == slash => 63,
                _ => return None,
            };
            bits |= u32::from(value) << (18 - 6 * at);
        }
        let [_, bytes @ ..] = bits.to_be_bytes();
        let (kept, left) = bytes.split_at(group.len() - 1);
        if left.iter().any(|byte| *byte != 0) {
            // Another text would be the same bytes.
            return None;
        }
        out.extend_from_slice(kept);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut text = Vec::new();
            encode(&mut text, &bytes);
            prop_assert_eq!(decode(&text), Some(bytes.clone()));
            let unpadded: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'=').collect();
            prop_assert_eq!(decode(&unpadded), Some(bytes));
        }

        #[test]
        fn one_text_for_the_same_bytes(text in "[A-Za-z0-9+/=_ -]{0,12}") {
            if let Some(bytes) = decode(text.as_bytes()) {
                let mut again = Vec::new();
                encode(&mut again, &bytes);
                let again = String::from_utf8(again).unwrap();
                prop_assert_eq!(text.trim_end_matches('='), again.trim_end_matches('='));
            }
        }
    }

    #[test]
    fn the_examples_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut out = Vec::new();
            encode(&mut out, bytes.as_bytes());
            assert_eq!(out, text.as_bytes());
        }
    }
}
