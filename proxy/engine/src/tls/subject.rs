//! Subjects of certificates as text (RFC 4514), in the form in which they are compared.
//!
//! Rule: one text for one subject, whatever types its strings have: what has a name by that, with its value
//! escaped; anything else by its number, with the value as it is encoded. A configuration is brought into the
//! same form (`schemas/values/subjects.py`). Made once a handshake by `client_identity`.

use std::fmt::Write as _;

use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::{
    BmpString, Ia5StringRef, PrintableStringRef, TeletexStringRef, Utf8StringRef,
};
use x509_cert::der::{Encode as _, Tag, Tagged as _};
use x509_cert::name::Name;

const NAMES: [(&str, &str); 30] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.42", "GN"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.20", "telephoneNumber"),
    ("2.5.4.41", "name"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.45", "x500UniqueIdentifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.65", "pseudonym"),
    ("2.5.4.72", "role"),
    ("2.5.4.97", "organizationIdentifier"),
    ("1.2.840.113549.1.9.2", "unstructuredName"),
    ("1.3.6.1.4.1.311.60.2.1.1", "jurisdictionL"),
    ("1.3.6.1.4.1.311.60.2.1.2", "jurisdictionST"),
    ("1.3.6.1.4.1.311.60.2.1.3", "jurisdictionC"),
];

/// The text of a subject; the last of its levels first.
pub fn text_of(name: &Name) -> String {
    let levels = name.0.iter().rev().map(|level| {
        let mut parts: Vec<String> = level.0.iter().map(part).collect();
        parts.sort();
        parts.join("+")
    });
    levels.collect::<Vec<_>>().join(",")
}

fn part(attribute: &AttributeTypeAndValue) -> String {
    let number = attribute.oid.to_string();
    let known = NAMES.iter().find(|(known, _)| *known == number);
    match known.zip(value_of(attribute)) {
        Some(((_, name), value)) => format!("{name}={}", escaped(&value)),
        None => {
            let mut text = format!("{number}=#");
            for byte in attribute.value.to_der().unwrap_or_default() {
                // A string takes all that is written into it.
                let _ = write!(text, "{byte:02x}");
            }
            text
        }
    }
}

fn value_of(attribute: &AttributeTypeAndValue) -> Option<String> {
    let value = &attribute.value;
    match value.tag() {
        Tag::Utf8String => Some(value.decode_as::<Utf8StringRef<'_>>().ok()?.to_string()),
        Tag::PrintableString => Some(
            value
                .decode_as::<PrintableStringRef<'_>>()
                .ok()?
                .to_string(),
        ),
        Tag::Ia5String => Some(value.decode_as::<Ia5StringRef<'_>>().ok()?.to_string()),
        Tag::TeletexString => Some(value.decode_as::<TeletexStringRef<'_>>().ok()?.to_string()),
        Tag::BmpString => Some(value.decode_as::<BmpString>().ok()?.to_string()),
        _ => None,
    }
}

fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, each) in value.chars().enumerate() {
        match each {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => text.push('\\'),
            ' ' if at == 0 || at == last => text.push('\\'),
            '#' if at == 0 => text.push('\\'),
            '\0'..='\x1f' => {
                let _ = write!(text, "\\{:02x}", u32::from(each));
                continue;
            }
            _ => {}
        }
        text.push(each);
    }
    text
}
