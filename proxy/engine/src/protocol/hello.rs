//! The first message of a TLS client, as far as its server name (RFC 8446 §4.1.2, RFC 6066 §3), for
//! `session/l4/passthrough`, which has to know whose connection it is without taking part in it.
//!
//! Rule: whatever is not understood here is somebody else's to answer: this never refuses anything, it
//! only fails to find a name.

/// Most bytes that are looked at, records' headers included. Hellos with post-quantum key shares have
/// about 2 KiB; one that is longer than this is taken for nameless.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;

const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
const NAME_BYTES_MAX: usize = 255;

/// What the bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// The beginning of a hello.
    Incomplete,
    /// A hello that names this host, in lower case.
    Named(String),
    /// A hello without a name, or no hello at all.
    Nameless,
}

/// Looks at the front of a connection.
#[must_use]
pub fn look(bytes: &[u8]) -> Sight {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        let Some((header, after)) = rest.split_first_chunk::<RECORD_HEADER>() else {
            return incomplete(bytes, starts_record(rest));
        };
        if !starts_record(header) {
            return Sight::Nameless;
        }
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        let part = &after[..length.min(after.len())];
        // Nearly always the first record has all of it, and nothing is copied.
        let joined: &[u8] = if message.is_empty() {
            part
        } else {
            message.extend_from_slice(part);
            &message
        };
        match whole(joined) {
            Whole::Yes(hello) => return name_of(hello),
            Whole::Never => return Sight::Nameless,
            Whole::NotYet if part.len() < length || length == 0 => {
                return incomplete(bytes, length > 0);
            }
            Whole::NotYet => {}
        }
        if message.is_empty() {
            message.extend_from_slice(part);
        }
        rest = &after[length..];
    }
}

/// As far as there are any bytes, whether they are those of a record with handshake messages.
fn starts_record(header: &[u8]) -> bool {
    header.first().is_none_or(|kind| *kind == HANDSHAKE)
        && header.get(1).is_none_or(|major| *major == 3)
}

fn incomplete(bytes: &[u8], plausible: bool) -> Sight {
    if plausible && bytes.len() < HELLO_BYTES_MAX {
        Sight::Incomplete
    } else {
        Sight::Nameless
    }
}

enum Whole<'a> {
    Yes(&'a [u8]),
    NotYet,
    Never,
}

/// The body of a hello, when all of it is there.
fn whole(message: &[u8]) -> Whole<'_> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Whole::Never;
    }
    let Some((header, body)) = message.split_first_chunk::<MESSAGE_HEADER>() else {
        return Whole::NotYet;
    };
    let length = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
    match body.get(..length) {
        Some(hello) => Whole::Yes(hello),
        None if length > HELLO_BYTES_MAX => Whole::Never,
        None => Whole::NotYet,
    }
}

fn name_of(hello: &[u8]) -> Sight {
    find_name(hello).map_or(Sight::Nameless, Sight::Named)
}

/// `None` for a hello without a name, and for what is no hello.
fn find_name(hello: &[u8]) -> Option<String> {
    // Version and random.
    let mut rest = hello.get(2 + 32..)?;
    take_short(&mut rest)?; // session id
    take_long(&mut rest)?; // cipher suites
    take_short(&mut rest)?; // compression methods
    let mut extensions = take_long(&mut rest)?;
    while !extensions.is_empty() {
        let kind = take_u16(&mut extensions)?;
        let mut value = take_long(&mut extensions)?;
        if kind == SERVER_NAME {
            let mut names = take_long(&mut value)?;
            let (kind, after) = names.split_first()?;
            names = after;
            let name = take_long(&mut names)?;
            return (*kind == HOST_NAME).then(|| hostname(name)).flatten();
        }
    }
    None
}

fn hostname(name: &[u8]) -> Option<String> {
    let plain = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(byte));
    plain.then(|| String::from_utf8_lossy(name).to_ascii_lowercase())
}

fn take_u16(rest: &mut &[u8]) -> Option<u16> {
    let (number, after) = rest.split_first_chunk::<2>()?;
    *rest = after;
    Some(u16::from_be_bytes(*number))
}

/// A vector that is led by its length in one byte.
fn take_short<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first()?;
    let (value, after) = after.split_at_checked(usize::from(*length))?;
    *rest = after;
    Some(value)
}

/// A vector that is led by its length in two bytes.
fn take_long<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_u16(rest)?;
    let (value, after) = rest.split_at_checked(usize::from(length))?;
    *rest = after;
    Some(value)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::client::UnbufferedClientConnection;
    use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
    use rustls::{ClientConfig, RootCertStore};

    use super::*;

    /// The hello of a real client, in one record.
    fn hello(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = name.to_owned().try_into().unwrap();
        let mut client = UnbufferedClientConnection::new(Arc::new(config), name).unwrap();
        let UnbufferedStatus { state, .. } = client.process_tls_records(&mut []);
        let ConnectionState::EncodeTlsData(mut data) = state.unwrap() else {
            panic!("a client begins");
        };
        let mut out = vec![0; 8192];
        let length = data.encode(&mut out).unwrap();
        out.truncate(length);
        out
    }

    /// The same message in records of at most so many bytes.
    fn split(whole: &[u8], size: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for part in whole[RECORD_HEADER..].chunks(size) {
            out.extend_from_slice(&[HANDSHAKE, 3, 1]);
            out.extend_from_slice(&u16::try_from(part.len()).unwrap().to_be_bytes());
            out.extend_from_slice(part);
        }
        out
    }

    #[test]
    fn finds_the_name_of_a_real_client() {
        let whole = hello("Shop.Example.com");
        assert_eq!(look(&whole), Sight::Named("shop.example.com".into()));
        for length in 0..whole.len() {
            assert_eq!(look(&whole[..length]), Sight::Incomplete, "{length}");
        }
        assert_eq!(look(&hello("192.0.2.1")), Sight::Nameless);
    }

    #[test]
    fn records_may_be_cut_anywhere() {
        let whole = hello("shop.test");
        for size in [1, 2, 3, 4, 5, 39, 100, whole.len() - RECORD_HEADER - 1] {
            let cut = split(&whole, size);
            assert_eq!(look(&cut), Sight::Named("shop.test".into()), "{size}");
            for length in (0..cut.len()).step_by(7) {
                assert_eq!(look(&cut[..length]), Sight::Incomplete, "{size} {length}");
            }
        }
    }

    #[test]
    fn other_protocols_are_told_at_once() {
        for bytes in [
            &b"GET / HTTP/1.1"[..],
            b"\x16\x02",
            b"SSH-2.0",
            b"\x80\x2e\x01",
        ] {
            assert_eq!(look(bytes), Sight::Nameless, "{bytes:?}");
        }
        // Another handshake message, an empty record, and one without an end.
        assert_eq!(look(b"\x16\x03\x01\x00\x04\x02"), Sight::Nameless);
        assert_eq!(look(b"\x16\x03\x01\x00\x00"), Sight::Nameless);
        assert_eq!(look(b"\x16\x03\x01\xff\xff\x01\xff"), Sight::Incomplete);
        assert_eq!(
            look(b"\x16\x03\x01\xff\xff\x01\xff\xff\xff"),
            Sight::Nameless
        );
    }

    #[test]
    fn nobody_is_waited_for_without_end() {
        let mut endless = split(&hello("shop.test"), 1);
        endless.truncate(RECORD_HEADER * 4);
        while endless.len() < HELLO_BYTES_MAX {
            assert_ne!(look(&endless), Sight::Named("shop.test".into()));
            endless.extend_from_slice(&[HANDSHAKE, 3, 1, 0, 1, 1]);
        }
        endless.truncate(HELLO_BYTES_MAX);
        assert_eq!(look(&endless), Sight::Nameless);
    }

    proptest! {
        #[test]
        fn anything_may_come(mut bytes in prop::collection::vec(any::<u8>(), 0..600), cut in 0..600_usize) {
            let _ = look(&bytes);
            let whole = hello("shop.test");
            let at = cut % whole.len();
            bytes.truncate(whole.len() - at);
            let mut changed = whole;
            changed[at..at + bytes.len()].copy_from_slice(&bytes);
            let _ = look(&changed);
        }
    }
}
