//! Who a client is by the certificate that it has shown, and that was verified.
//!
//! Rule: read once, when its handshake is complete, so that requests compare texts. What cannot be read is nobody,
//! and fails every condition. Made by `session/front/handshake`; asked by `policy`.

use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::subject;
use crate::protocol::base64;

/// A client, by its certificate.
#[derive(Debug, Default)]
pub struct ClientIdentity {
    header: Box<str>,
    subject: Box<str>,
    names: Box<[Name]>,
    fingerprint: Box<str>,
}

/// A name, which is the same as another one only if both are of one kind: what an authority looks at closely
/// in a host's name it may let pass in a URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// What it names.
    pub kind: NameKind,
    /// As it is compared.
    pub text: Box<str>,
}

/// What an alternative name names (RFC 5280 §4.2.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// A host, in lower case.
    Host,
    /// A mailbox, whose host is in lower case.
    Mailbox,
    /// Anything by its URI.
    Uri,
    /// An address of the Internet.
    Address,
}

impl NameKind {
    /// Of a name that stands by itself, by its form.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match text {
            _ if text.parse::<std::net::IpAddr>().is_ok() => Self::Address,
            _ if text.contains([':', '/']) => Self::Uri,
            _ if text.contains('@') => Self::Mailbox,
            _ => Self::Host,
        }
    }
}

impl ClientIdentity {
    /// That of a certificate in DER.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        let mut header = vec![b':'];
        base64::encode(&mut header, certificate);
        header.push(b':');
        let read = Certificate::from_der(certificate).ok();
        Self {
            header: String::from_utf8_lossy(&header).into(),
            subject: read.as_ref().map_or_else(Box::default, |read| {
                subject::text_of(&read.tbs_certificate.subject).into()
            }),
            names: read.map_or_else(Box::default, |read| names_of(&read)),
            fingerprint: hex(&Sha256::digest(certificate)),
        }
    }

    /// The value of `Client-Cert` (RFC 9440 §2.1).
    #[must_use]
    pub fn header(&self) -> &str {
        &self.header
    }

    /// Its subject as RFC 4514 writes it, `CN=alice,O=Shop`; empty if it has none.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Its alternative names: of hosts in lower case, addresses, mailboxes and URIs.
    #[must_use]
    pub fn names(&self) -> &[Name] {
        &self.names
    }

    /// SHA-256 of the whole, in lower-case digits.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

fn names_of(certificate: &Certificate) -> Box<[Name]> {
    let found = certificate.tbs_certificate.get::<SubjectAltName>();
    let Ok(Some((_, SubjectAltName(names)))) = found else {
        return Box::default();
    };
    names.iter().filter_map(read).collect()
}

fn read(name: &GeneralName) -> Option<Name> {
    let (kind, text) = match name {
        GeneralName::DnsName(host) => (NameKind::Host, host.as_str().to_ascii_lowercase().into()),
        GeneralName::Rfc822Name(mailbox) => {
            // Its host has no case.
            let (user, host) = mailbox.as_str().rsplit_once('@')?;
            let text = format!("{user}@{}", host.to_ascii_lowercase());
            (NameKind::Mailbox, text.into())
        }
        GeneralName::UniformResourceIdentifier(uri) => {
            let uri = uri.as_str();
            // It would be one place as it is written, and another one for whoever resolves it.
            if has_dot_segment(uri) {
                return None;
            }
            (NameKind::Uri, uri.into())
        }
        GeneralName::IpAddress(octets) => (NameKind::Address, address(octets.as_bytes())?),
        _ => return None,
    };
    Some(Name { kind, text })
}

/// Whether `.` or `..` is a segment (RFC 3986 §3.3), written in any way.
fn has_dot_segment(uri: &str) -> bool {
    let end = uri.find(['?', '#']).unwrap_or(uri.len());
    let path = uri.get(..end).unwrap_or(uri);
    path.split(['/', '\\']).any(|segment| {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        matches!(plain.as_str(), "." | "..")
    })
}

fn address(octets: &[u8]) -> Option<Box<str>> {
    let v4 = <[u8; 4]>::try_from(octets).map(std::net::IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(octets).map(std::net::IpAddr::from);
    let address = v4.or_else(|_| v6()).ok()?;
    Some(address.to_string().into())
}

fn hex(bytes: &[u8]) -> Box<str> {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // A string takes all that is written into it.
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::{ClientIdentity, NameKind, has_dot_segment};

    #[test]
    fn a_uri_that_leads_elsewhere_names_nothing() {
        for uri in [
            "spiffe://a/b/../c",
            "spiffe://a/./b",
            "a://b/%2E%2e",
            "a://b/.%2e/c",
            "a://b\\..\\c",
        ] {
            assert!(has_dot_segment(uri), "{uri}");
        }
        for uri in ["spiffe://a/b/c", "a://b/..c", "a://b/c?x=/../", "urn:a:..b"] {
            assert!(!has_dot_segment(uri), "{uri}");
        }
    }

    #[test]
    fn a_names_form_tells_what_it_names() {
        for (text, kind) in [
            ("a.test", NameKind::Host),
            ("*.a.test", NameKind::Host),
            ("bob@a.test", NameKind::Mailbox),
            ("10.0.0.1", NameKind::Address),
            ("2001:db8::1", NameKind::Address),
            ("spiffe://a/b/*", NameKind::Uri),
            ("urn:uuid:1", NameKind::Uri),
            ("mailto:bob@a.test", NameKind::Uri),
        ] {
            assert_eq!(NameKind::of(text), kind, "{text}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_nobody() {
        let nobody = ClientIdentity::of(b"not DER");
        assert_eq!(nobody.header(), ":bm90IERFUg==:");
        assert_eq!((nobody.subject(), nobody.names().len()), ("", 0));
    }

    #[test]
    fn a_certificate_tells_its_subject_its_names_and_its_sum() -> Result<(), rcgen::Error> {
        let names = ["Client.Test", "10.0.0.1", "spiffe://shop.test/pay"];
        let mut params = rcgen::CertificateParams::new(vec![names[0].to_owned()])?;
        params
            .subject_alt_names
            .push(rcgen::SanType::IpAddress([10, 0, 0, 1].into()));
        let uri = rcgen::string::Ia5String::try_from(names[2])?;
        params.subject_alt_names.push(rcgen::SanType::URI(uri));
        let mut name = rcgen::DistinguishedName::new();
        name.push(rcgen::DnType::OrganizationName, "Shop, Ltd");
        name.push(rcgen::DnType::CommonName, "alice");
        params.distinguished_name = name;
        let key = rcgen::KeyPair::generate()?;
        let made = params.self_signed(&key)?;
        let identity = ClientIdentity::of(made.der());
        assert_eq!(identity.subject(), r"CN=alice,O=Shop\, Ltd");
        let found = identity.names().iter().map(|name| (name.kind, &*name.text));
        let expected = [
            (NameKind::Host, "client.test"),
            (NameKind::Address, names[1]),
            (NameKind::Uri, names[2]),
        ];
        assert!(found.eq(expected));
        assert_eq!(identity.fingerprint().len(), 64);
        Ok(())
    }
}
