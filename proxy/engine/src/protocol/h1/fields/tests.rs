//! The classification of names.

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
