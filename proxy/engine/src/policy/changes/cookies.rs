//! Attributes of cookies that backends set: Secure, HttpOnly, SameSite, Domain, Path (RFC 6265 §4.1).
//!
//! Rule: a line is read as browsers read it (RFC 6265 §5.2): split at semicolons, names in any case, spaces around
//! them. What is not asked for stays as it is, and in its place. Called by `session/exchange` for the answers of
//! backends; lines that the configuration itself sets are left alone.

use crate::protocol::h1::response::ResponseHead;
use crate::protocol::lines::LineBuf;
use crate::state::entity::{ANY_COOKIE, CookieChange, DROP, SameSite, SetCookie};

/// A cookie of this beginning has no domain and the path `/`, or browsers refuse it.
const HOST_PREFIX: &[u8] = b"__host-";

/// What is done with which cookies.
#[derive(Debug)]
pub struct Cookies(SetCookie);

impl Cookies {
    /// What is asked for, if anything is.
    pub(in crate::policy) fn of(said: SetCookie) -> Option<Self> {
        said.values().any(Option::is_some).then_some(Self(said))
    }

    /// Puts lines in the place of those by which a head sets cookies.
    pub fn change(&self, head: &mut ResponseHead, bytes: &[u8], out: &mut LineBuf) {
        let mut is_any = false;
        for value in head.values(bytes, "set-cookie") {
            is_any = true;
            out.push_with(b"Set-Cookie", |out| self.write(value, out));
        }
        if is_any {
            head.drop_fields(bytes, b"set-cookie");
        }
    }

    /// Writes what a line says, changed.
    fn write(&self, value: &[u8], out: &mut Vec<u8>) {
        let name = name_of(value);
        let Some(change) = self.change_of(name) else {
            return out.extend_from_slice(value);
        };
        let mut attributes = value.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        out.extend_from_slice(attributes.next().unwrap_or_default());
        let is_bound = name
            .get(..HOST_PREFIX.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(HOST_PREFIX));
        let (mut is_secure, mut is_http_only) = (false, false);
        for attribute in attributes {
            let (key, said) = halves(attribute);
            let is = |name: &[u8]| key.eq_ignore_ascii_case(name);
            is_secure |= is(b"secure");
            is_http_only |= is(b"httponly");
            if is(b"samesite") && change.same_site.is_some() {
                continue;
            }
            match &change.domain {
                Some(domain) if is(b"domain") && !is_bound => {
                    if &**domain != DROP {
                        append(out, &[key, b"=", domain.as_bytes()]);
                    }
                    continue;
                }
                _ => {}
            }
            let path = said.filter(|_| is(b"path") && !is_bound);
            match path.and_then(|path| moved(path, change)) {
                Some([begin, rest]) => append(out, &[key, b"=", begin, rest]),
                None => append(out, &[attribute]),
            }
        }
        if change.secure && !is_secure {
            append(out, &[b"Secure"]);
        }
        if change.http_only && !is_http_only {
            append(out, &[b"HttpOnly"]);
        }
        if let Some(same_site) = change.same_site {
            append(out, &[b"SameSite=", word(same_site)]);
        }
    }

    fn change_of(&self, name: &[u8]) -> Option<&CookieChange> {
        let named = std::str::from_utf8(name).ok();
        let named = named.and_then(|name| self.0.get(name));
        named.or_else(|| self.0.get(ANY_COOKIE))?.as_ref()
    }
}

/// The name of the cookie that a line sets; what has no `=` has none.
fn name_of(value: &[u8]) -> &[u8] {
    let pair = value.split(|&byte| byte == b';').next();
    match halves(pair.unwrap_or_default()) {
        (name, Some(_)) => name,
        (_, None) => b"",
    }
}

/// What stands before the first `=`, and behind it if there is one.
fn halves(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut halves = text.splitn(2, |&byte| byte == b'=');
    let name = halves.next().unwrap_or_default().trim_ascii();
    (name, halves.next().map(<[u8]>::trim_ascii))
}

fn append(out: &mut Vec<u8>, parts: &[&[u8]]) {
    out.extend_from_slice(b"; ");
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// A path with another beginning, if it has one that is meant: element by element, the longest of them.
fn moved<'a>(path: &'a [u8], change: &'a CookieChange) -> Option<[&'a [u8]; 2]> {
    // Of beginnings of one path the longer is the later one.
    change.path.iter().rev().find_map(|(from, to)| {
        let rest = path.strip_prefix(from.trim_end_matches('/').as_bytes())?;
        match (rest, to.trim_end_matches('/')) {
            ([] | b"/", "") => Some([&b"/"[..], &b""[..]]),
            ([] | [b'/', ..], to) => Some([to.as_bytes(), rest]),
            _ => None,
        }
    })
}

fn word(same_site: SameSite) -> &'static [u8] {
    match same_site {
        SameSite::Lax => b"Lax",
        SameSite::None => b"None",
        SameSite::Strict => b"Strict",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn changed(said: &str, value: &str) -> String {
        let cookies = Cookies::of(serde_json::from_str(said).unwrap()).unwrap();
        let mut out = Vec::new();
        cookies.write(value.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn attributes_are_changed_where_they_stand() {
        let all = r#"{"*":{"http_only":true,"same_site":"lax","secure":true}}"#;
        for (value, expected) in [
            ("a=b", "a=b; Secure; HttpOnly; SameSite=Lax"),
            (
                "a=b;secure;X=y; HTTPONLY",
                "a=b; secure; X=y; HTTPONLY; SameSite=Lax",
            ),
            (
                "a=\"b=c\"; SameSite = None; Path=/; samesite",
                "a=\"b=c\"; Path=/; Secure; HttpOnly; SameSite=Lax",
            ),
            ("b", "b; Secure; HttpOnly; SameSite=Lax"),
            ("", "; Secure; HttpOnly; SameSite=Lax"),
        ] {
            assert_eq!(changed(all, value), expected);
        }
    }

    #[test]
    fn a_cookie_has_its_own_word_or_that_for_all() {
        let said = r#"{"*":{"secure":true},"a":{"http_only":true},"b":null}"#;
        for (value, expected) in [
            ("a=1", "a=1; HttpOnly"),
            (" a =1", "a =1; HttpOnly"),
            ("b=1;x", "b=1;x"),
            ("A=1", "A=1; Secure"),
            ("a", "a; Secure"),
        ] {
            assert_eq!(changed(said, value), expected);
        }
    }

    #[test]
    fn domains_and_paths_are_moved() {
        let said = r#"{"*":{"domain":"shop.test","path":{"/app":"/"}}}"#;
        for (value, expected) in [
            (
                "a=b; Domain=app.internal; Path=/app/x",
                "a=b; Domain=shop.test; Path=/x",
            ),
            ("a=b; path=/app", "a=b; path=/"),
            ("a=b; Path=/app/", "a=b; Path=/"),
            ("a=b; Path=/apple", "a=b; Path=/apple"),
            ("a=b; Path", "a=b; Path"),
            ("a=b", "a=b"),
            ("__Host-a=b; Path=/app", "__Host-a=b; Path=/app"),
        ] {
            assert_eq!(changed(said, value), expected);
        }
        let said = r#"{"*":{"domain":"drop","path":{"/":"/static","/x/y":"/z"}}}"#;
        for (value, expected) in [
            ("a=b; Domain=app.internal; Path=/", "a=b; Path=/static/"),
            ("a=b; Path=/x", "a=b; Path=/static/x"),
            ("a=b; Path=/x/y/", "a=b; Path=/z/"),
        ] {
            assert_eq!(changed(said, value), expected);
        }
    }

    proptest! {
        /// Whatever a backend says, its pair stays, and what is asked for is said once.
        #[test]
        fn the_pair_stays_and_a_word_is_said_once(
            value in "[ -~]{0,30}(;[ ]?(SameSite|samesite = x|Path=/a|[ -~]{0,9})){0,5}",
        ) {
            let said = r#"{"*":{"path":{"/":"/x"},"same_site":"strict","secure":true}}"#;
            let made = changed(said, &value);
            prop_assert!(made.starts_with(value.split(';').next().unwrap_or_default().trim()));
            let attributes = made.split(';').skip(1);
            let words = attributes.filter(|it| {
                halves(it.as_bytes()).0.eq_ignore_ascii_case(b"samesite")
            });
            prop_assert_eq!(words.count(), 1);
        }
    }
}
