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
    names: Box<[Box<str>]>,
    fingerprint: Box<str>,
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
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// SHA-256 of the whole, in lower-case digits.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

fn names_of(certificate: &Certificate) -> Box<[Box<str>]> {
    let found = certificate.tbs_certificate.get::<SubjectAltName>();
    let Ok(Some((_, SubjectAltName(names)))) = found else {
        return Box::default();
    };
    names.iter().filter_map(text_of).collect()
}

fn text_of(name: &GeneralName) -> Option<Box<str>> {
    match name {
        GeneralName::DnsName(host) => Some(host.as_str().to_ascii_lowercase().into()),
        GeneralName::Rfc822Name(mailbox) => {
            // Its host has no case.
            let (user, host) = mailbox.as_str().rsplit_once('@')?;
            Some(format!("{user}@{}", host.to_ascii_lowercase()).into())
        }
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str().into()),
        GeneralName::IpAddress(octets) => address(octets.as_bytes()),
        _ => None,
    }
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
    use super::ClientIdentity;

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
        let found: Vec<&str> = identity.names().iter().map(AsRef::as_ref).collect();
        assert_eq!(found, ["client.test", names[1], names[2]]);
        assert_eq!(identity.fingerprint().len(), 64);
        Ok(())
    }
}
