//! The static table (RFC 7541, appendix A), by index and by name.

use super::encoder::Policy;

/// The entry at an index from 1 on.
#[inline]
pub(super) fn get(index: usize) -> Option<(&'static [u8], &'static [u8])> {
    ENTRIES.get(index.wrapping_sub(1)).copied()
}

/// The first index of a name in lower case, or 0.
#[inline]
pub(super) fn find_name(name: &[u8]) -> usize {
    let index = usize::from(SLOTS[slot(name)]);
    match ENTRIES.get(index.wrapping_sub(1)) {
        Some((known, _)) if *known == name => index,
        _ => 0,
    }
}

/// The index of a whole field whose name is that of `name_index`, or 0.
#[inline]
pub(super) fn find_value(name_index: usize, value: &[u8]) -> usize {
    let Some((name, _)) = get(name_index) else {
        return 0;
    };
    let mut index = name_index;
    while let Some((other, known)) = get(index) {
        if other != name || known.is_empty() {
            return 0;
        }
        if known == value {
            return index;
        }
        index += 1;
    }
    0
}

/// How a field with the name of this index is to be encoded.
pub(super) fn policy(name_index: usize) -> Policy {
    match name_index {
        // What tells who somebody is (RFC 7541 §7.1.3).
        AUTHORIZATION | COOKIE | PROXY_AUTHORIZATION | SET_COOKIE => Policy::Never,
        // What is another one in each message.
        PATH | AGE | CONTENT_LENGTH..=CONTENT_RANGE | ETAG | EXPIRES => Policy::Once,
        IF_MATCH..=LAST_MODIFIED | LOCATION | RANGE | REFERER | RETRY_AFTER => Policy::Once,
        _ => Policy::Repeated,
    }
}

/// Entries of the table.
pub(super) const LENGTH: usize = ENTRIES.len();

pub(super) const AUTHORITY: usize = 1;
pub(super) const METHOD: usize = 2;
pub(super) const PATH: usize = 4;
pub(super) const SCHEME: usize = 6;
pub(super) const STATUS: usize = 8;
const AGE: usize = 21;
const AUTHORIZATION: usize = 23;
pub(super) const CONTENT_LENGTH: usize = 28;
const CONTENT_RANGE: usize = 30;
const COOKIE: usize = 32;
pub(super) const DATE: usize = 33;
const ETAG: usize = 34;
const EXPIRES: usize = 36;
const IF_MATCH: usize = 39;
const LAST_MODIFIED: usize = 44;
const LOCATION: usize = 46;
const PROXY_AUTHORIZATION: usize = 49;
const RANGE: usize = 50;
const REFERER: usize = 51;
const RETRY_AFTER: usize = 53;
const SET_COOKIE: usize = 55;
pub(super) const VIA: usize = 60;

/// A perfect hash of the names; that it is one is checked when this is compiled.
#[inline]
const fn slot(name: &[u8]) -> usize {
    let length = name.len();
    if length == 0 {
        return 0;
    }
    let sum = length * 41
        + name[0] as usize * 47
        + name[length - 1] as usize * 18
        + name[length / 2] as usize * 10;
    sum & (SLOT_COUNT - 1)
}

const SLOT_COUNT: usize = 128;

static SLOTS: [u8; SLOT_COUNT] = {
    let mut slots = [0; SLOT_COUNT];
    let mut at = ENTRIES.len();
    while at > 0 {
        at -= 1;
        let taken = slots[slot(ENTRIES[at].0)] as usize;
        // Entries of one name are neighbours, and the first one stays.
        assert!(taken == 0 || taken == at + 2, "two names in one slot");
        slots[slot(ENTRIES[at].0)] = at as u8 + 1;
    }
    slots
};

const ENTRIES: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found() {
        for (at, (name, value)) in ENTRIES.iter().enumerate() {
            let first = find_name(name);
            assert!(first > 0 && first <= at + 1);
            assert_eq!(get(first).unwrap().0, *name);
            if !value.is_empty() {
                assert_eq!(find_value(first, value), at + 1);
            }
        }
        assert_eq!((find_name(b"x-a"), find_name(b"")), (0, 0));
        assert_eq!(find_value(METHOD, b"PUT"), 0);
        assert_eq!(find_value(AUTHORITY, b""), 0);
        assert_eq!((get(0), get(62)), (None, None));
    }

    #[test]
    fn indexes_that_have_a_name_are_right() {
        for (index, name) in [
            (AUTHORITY, ":authority"),
            (METHOD, ":method"),
            (PATH, ":path"),
            (SCHEME, ":scheme"),
            (STATUS, ":status"),
            (AGE, "age"),
            (AUTHORIZATION, "authorization"),
            (CONTENT_LENGTH, "content-length"),
            (CONTENT_RANGE, "content-range"),
            (COOKIE, "cookie"),
            (DATE, "date"),
            (ETAG, "etag"),
            (EXPIRES, "expires"),
            (IF_MATCH, "if-match"),
            (LAST_MODIFIED, "last-modified"),
            (LOCATION, "location"),
            (PROXY_AUTHORIZATION, "proxy-authorization"),
            (RANGE, "range"),
            (REFERER, "referer"),
            (RETRY_AFTER, "retry-after"),
            (SET_COOKIE, "set-cookie"),
            (VIA, "via"),
        ] {
            assert_eq!(find_name(name.as_bytes()), index, "{name}");
        }
    }
}
