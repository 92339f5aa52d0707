//! The classification of names, and the scan for control characters against its definition.

use super::*;

#[test]
fn names_are_known_in_any_case() {
    for (name, id) in [
        ("Accept", FieldId::Other),
        ("CF-Connecting-IP", FieldId::ForwardedOther),
        ("Connection", FieldId::Connection),
        ("Content-Length", FieldId::ContentLength),
        ("Date", FieldId::Date),
        ("Expect", FieldId::Expect),
        ("Forwarded", FieldId::Forwarded),
        ("HTTP2-Settings", FieldId::Http2Settings),
        ("Host", FieldId::Host),
        ("Keep-Alive", FieldId::KeepAlive),
        ("Proxy", FieldId::Proxy),
        ("Proxy-Authenticate", FieldId::ProxyAuthentication),
        ("Proxy-Authentication-Info", FieldId::ProxyAuthentication),
        ("Proxy-Authorization", FieldId::ProxyAuthentication),
        ("Proxy-Connection", FieldId::ProxyConnection),
        ("Sec-WebSocket-Key", FieldId::SecWebSocketKey),
        ("Sec-WebSocket-Version", FieldId::SecWebSocketVersion),
        ("TE", FieldId::Te),
        ("Trailer", FieldId::Trailer),
        ("Transfer-Encoding", FieldId::TransferEncoding),
        ("True-Client-IP", FieldId::ForwardedOther),
        ("Upgrade", FieldId::Upgrade),
        ("Via", FieldId::Via),
        ("X-Client-IP", FieldId::ForwardedOther),
        ("X-Cluster-Client-IP", FieldId::ForwardedOther),
        ("X-Custom", FieldId::Other),
        ("X-Forwarded", FieldId::Other),
        ("X-Forwarded-", FieldId::ForwardedOther),
        ("X-Forwarded-By", FieldId::ForwardedOther),
        ("X-Forwarded-For", FieldId::XForwardedFor),
        ("X-Forwarded-Host", FieldId::XForwardedHost),
        ("X-Forwarded-Port", FieldId::XForwardedPort),
        ("X-Forwarded-Prefix", FieldId::ForwardedOther),
        ("X-Forwarded-Proto", FieldId::XForwardedProto),
        ("X-Forwarded-Scheme", FieldId::ForwardedOther),
        ("X-Forwarded-Server", FieldId::ForwardedOther),
        ("X-Original-Forwarded-For", FieldId::ForwardedOther),
        ("X-Original-Host", FieldId::ForwardedOther),
        ("X-Original-URL", FieldId::ForwardedOther),
        ("X-Real-IP", FieldId::ForwardedOther),
        ("X-Request-Id", FieldId::XRequestId),
        ("X-Rewrite-URL", FieldId::ForwardedOther),
        ("", FieldId::Other),
    ] {
        for spelled in [name.to_owned(), name.to_uppercase(), name.to_lowercase()] {
            assert_eq!(FieldId::of(spelled.as_bytes()), id, "{spelled}");
        }
        assert_eq!(FieldId::of(format!("{name}!").as_bytes()) == id, {
            id == FieldId::Other
                || name.starts_with("X-Forwarded-") && id == FieldId::ForwardedOther
        });
    }
}

#[test]
fn t13_a_control_character_is_found_wherever_it_stands() {
    for length in 0..40 {
        for at in 0..length {
            for byte in 0..=255 {
                let mut buf = vec![b'x'; length];
                buf[at] = byte;
                let is_control = byte != b'\t' && byte.is_ascii_control();
                let expected = if is_control { at } else { length };
                assert_eq!(
                    find_control(&buf, 0),
                    expected,
                    "{byte:#x} at {at} of {length}"
                );
                if at > 0 {
                    // A neighbour that the word trick could borrow from.
                    buf[at - 1] = 0xff;
                    assert_eq!(find_control(&buf, 0), expected);
                }
            }
        }
    }
    assert_eq!(find_control(b"\x7f\x80\x20\t", 1), 4);
}
