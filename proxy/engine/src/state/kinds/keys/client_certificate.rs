//! What a client has to have shown of itself; part of frontend and policy.

use serde::{Deserialize, Serialize};

use crate::state::kinds::language::defaulted;
use crate::tls::client_identity::{ClientIdentity, NameKind};

/// What is asked of a client's certificate, which has been verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ClientCertificate {
    /// There is one.
    Any(Required),
    /// It is one of these.
    Of(Conditions),
}

/// The word for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Required {
    /// As it is written.
    Required,
}

defaulted! {
    /// Which certificates are meant; each list that is not empty has to have it.
    pub struct Conditions {
        /// SHA-256 of the certificate.
        pub fingerprints: Vec<Box<str>> = Vec::new(),
        /// Alternative names, of which it has one. `*.` at the beginning, or `/*` at the end: all below.
        pub names: Vec<Box<str>> = Vec::new(),
        /// Subjects.
        pub subjects: Vec<Box<str>> = Vec::new(),
    }
}

impl ClientCertificate {
    /// # Errors
    /// A sentence about conditions that nobody could fulfil.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Of(conditions) if *conditions == Conditions::default() => {
                Err("there is no condition".to_owned())
            }
            Self::Any(_) | Self::Of(_) => Ok(()),
        }
    }

    /// Whether somebody who has shown a certificate may pass.
    #[must_use]
    pub fn admits(&self, client: &ClientIdentity) -> bool {
        match self {
            Self::Any(_) => true,
            Self::Of(conditions) => conditions.admit(client),
        }
    }
}

impl Conditions {
    fn admit(&self, client: &ClientIdentity) -> bool {
        let lists = |list: &[Box<str>], value: &str| {
            list.is_empty() || list.iter().any(|each| **each == *value)
        };
        let named = |wanted: &str| {
            let kind = NameKind::of(wanted);
            let alike = client.names().iter().filter(|name| name.kind == kind);
            alike.into_iter().any(|name| covers(wanted, &name.text))
        };
        lists(&self.fingerprints, client.fingerprint())
            && lists(&self.subjects, client.subject())
            && (self.names.is_empty() || self.names.iter().any(|wanted| named(wanted)))
    }
}

/// Whether a name is the one that is wanted, or below it.
fn covers(wanted: &str, name: &str) -> bool {
    if let Some(parent) = wanted.strip_prefix('*') {
        return name.len() > parent.len() && name.ends_with(parent);
    }
    match wanted.strip_suffix('*') {
        Some(above) => name.len() > above.len() && name.starts_with(above),
        None => name == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_star_is_all_below_and_never_the_place_itself() {
        for (wanted, name, expected) in [
            ("a.test", "a.test", true),
            ("a.test", "b.a.test", false),
            ("*.a.test", "b.a.test", true),
            ("*.a.test", "a.test", false),
            ("*.a.test", ".a.test", false),
            ("*.a.test", "ba.test", false),
            ("spiffe://a/b/*", "spiffe://a/b/c", true),
            ("spiffe://a/b/*", "spiffe://a/b/", false),
            ("spiffe://a/b/*", "spiffe://a/bc", false),
        ] {
            assert_eq!(covers(wanted, name), expected, "{wanted} {name}");
        }
    }
}
