//! Why a handshake with a backend failed, as one of a few words: for the access log, for counters
//! (which hold numbers alone) and for people. Made where TLS fails, in `session::transport`.

use rustls::{AlertDescription, CertificateError, Error};

/// Declares the faults with their words; their numbers, from 1 on, are public as well.
macro_rules! faults {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)+) => {
        /// What was wrong. The number of each is read in counters, so a new one comes last.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum TlsFault {
            /// The number that says that nothing is wrong.
            None = 0,
            $($(#[$doc])* $variant,)+
        }

        impl TlsFault {
            /// Every fault, by its number less one.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// Its word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    Self::None => "none",
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}

faults! {
    /// No authority that is trusted has issued the certificate.
    UnknownIssuer = "certificate_unknown_issuer",
    /// It is too old.
    Expired = "certificate_expired",
    /// It is too new, or the clock is wrong.
    NotYetValid = "certificate_not_yet_valid",
    /// It is for another name.
    OtherName = "certificate_other_name",
    /// It is not for servers.
    OtherPurpose = "certificate_other_purpose",
    /// It is that of an authority, and not itself among those that are trusted.
    Authority = "certificate_is_authority",
    /// Its key or its signature is of a sort that is not taken.
    Algorithm = "certificate_algorithm",
    /// It is wrong in another way.
    Certificate = "certificate_invalid",
    /// The backend wants a certificate of ours, or another one.
    WantsCertificate = "wants_our_certificate",
    /// No version, cipher suite or group is common to both sides.
    NothingInCommon = "nothing_in_common",
    /// The backend does not speak the protocol that is asked for (ALPN).
    ApplicationProtocol = "no_application_protocol",
    /// The backend does not know the name that it was asked for (SNI).
    UnknownName = "unknown_server_name",
    /// The backend has ended the handshake with another alert.
    Refused = "refused_by_backend",
    /// What came is not TLS.
    NotTls = "not_tls",
    /// The backend broke the protocol.
    Broken = "protocol_broken",
    /// The connection ended within the handshake.
    Closed = "closed",
}

impl TlsFault {
    /// What an error of a handshake means.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::AlertReceived(alert) => Self::of_alert(*alert),
            Error::PeerIncompatible(_) => Self::NothingInCommon,
            Error::NoApplicationProtocol => Self::ApplicationProtocol,
            Error::InvalidMessage(_) => Self::NotTls,
            Error::NoCertificatesPresented => Self::Certificate,
            _ => Self::Broken,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::OtherName
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::OtherPurpose
            }
            CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                Self::Algorithm
            }
            // An authority of the same name and another key.
            CertificateError::BadSignature => Self::UnknownIssuer,
            error if is_of_authority(error) => Self::Authority,
            _ => Self::Certificate,
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA => Self::WantsCertificate,
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity => Self::NothingInCommon,
            AlertDescription::NoApplicationProtocol => Self::ApplicationProtocol,
            AlertDescription::UnrecognisedName => Self::UnknownName,
            _ => Self::Refused,
        }
    }
}

/// Whether a certificate was refused for being that of an authority; it is valid today then, as that is
/// looked at before.
pub(super) fn is_of_authority(error: &CertificateError) -> bool {
    let CertificateError::Other(other) = error else {
        return false;
    };
    let error = other.0.downcast_ref::<webpki::Error>();
    matches!(error, Some(webpki::Error::CaUsedAsEndEntity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words_agree() {
        for (at, fault) in TlsFault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, at + 1);
            let is_word = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            assert!(fault.as_str().bytes().all(is_word), "{fault:?}");
        }
    }

    #[test]
    fn errors_have_their_words() {
        for (error, fault) in [
            (
                Error::InvalidCertificate(CertificateError::Expired),
                TlsFault::Expired,
            ),
            (
                Error::AlertReceived(AlertDescription::UnknownCA),
                TlsFault::WantsCertificate,
            ),
            (Error::NoApplicationProtocol, TlsFault::ApplicationProtocol),
            (Error::DecryptError, TlsFault::Broken),
        ] {
            assert_eq!(TlsFault::of(&error), fault);
        }
    }
}
