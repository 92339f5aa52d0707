//! Whom a handshake trusts: authorities, and certificates that are named themselves.
//!
//! Rule: what `openssl req -x509` makes is an authority and the certificate of a server in one. The
//! usual verification refuses an authority that serves; one that is byte for byte among the trusted
//! ones needs no issuer, so all that is left is its time, which was looked at before, and its name.
//! Called by `policy`, for backends and for clients.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use super::fault::is_of_authority;

/// Trusted certificates: as authorities, and by their hashes.
#[derive(Clone, Debug)]
pub(super) struct Anchors {
    pub(super) roots: Arc<RootCertStore>,
    hashes: Arc<[Hash]>,
}

type Hash = [u8; 32];

impl Anchors {
    /// Those of a file; `field` names it in errors.
    ///
    /// # Errors
    /// A sentence, when it is no PEM, holds none, or one that cannot be an authority.
    pub(super) fn read(bundle: &[u8], field: &str) -> Result<Self, String> {
        let mut certificates = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(bundle) {
            certificates
                .push(certificate.map_err(|_| format!("tls.{field}: the file is not PEM"))?);
        }
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots
                .add(certificate.clone())
                .map_err(|error| format!("tls.{field}: {error}"))?;
        }
        if roots.is_empty() {
            return Err(format!("tls.{field}: the file holds no certificate"));
        }
        Ok(Self::new(roots, &certificates))
    }

    /// Those of the system, as many as can be read.
    pub(super) fn of_system() -> Self {
        let found = rustls_native_certs::load_native_certs().certs;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.iter().cloned());
        Self::new(roots, &found)
    }

    fn new(roots: RootCertStore, certificates: &[CertificateDer<'_>]) -> Self {
        Self {
            roots: Arc::new(roots),
            hashes: certificates.iter().map(|each| hash(each)).collect(),
        }
    }

    /// Whether a certificate that was refused with this error is one of them, and was refused for want
    /// of an issuer alone.
    fn vouch_for(&self, certificate: &CertificateDer<'_>, error: &Error) -> bool {
        let Error::InvalidCertificate(error) = error else {
            return false;
        };
        let lacks_issuer = is_of_authority(error)
            || matches!(
                error,
                CertificateError::UnknownIssuer
                    | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
                    | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
            );
        lacks_issuer && self.hashes.contains(&hash(certificate))
    }
}

fn hash(certificate: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest(&SHA256, certificate).as_ref());
    hash
}

/// Verifies backends.
#[derive(Debug)]
pub(super) struct Backends {
    anchors: Anchors,
    usual: Arc<WebPkiServerVerifier>,
}

impl Backends {
    /// # Errors
    /// A sentence, when the cryptography cannot serve them.
    pub(super) fn new(anchors: Anchors, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let usual =
            WebPkiServerVerifier::builder_with_provider(anchors.roots.clone(), provider).build();
        let usual = usual.map_err(|error| format!("tls.ca: {error}"))?;
        Ok(Self { anchors, usual })
    }
}

impl ServerCertVerifier for Backends {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.usual.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verdict {
            Err(error) if self.anchors.vouch_for(end_entity, &error) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// Verifies clients, where no list of revoked certificates is to be looked at.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) anchors: Anchors,
    pub(super) usual: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for Clients {
    fn offer_client_auth(&self) -> bool {
        self.usual.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.usual.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.usual.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verdict = self
            .usual
            .verify_client_cert(end_entity, intermediates, now);
        match verdict {
            Err(error) if self.anchors.vouch_for(end_entity, &error) => {
                Ok(ClientCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// Takes any backend at its word (`verify: false`): against whoever only listens, TLS still helps. The
/// certificate is not even read, for it proves nothing; so any will do, of any age, form and strength.
#[derive(Debug)]
pub(super) struct Anybody(pub(super) Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.0.signature_verification_algorithms.supported_schemes();
        schemes.extend([
            SignatureScheme::ED448,
            SignatureScheme::ECDSA_SHA1_Legacy,
            SignatureScheme::RSA_PKCS1_SHA1,
        ]);
        schemes
    }
}

/// Takes no backend: whom to believe, or what to show it, is lost.
#[derive(Debug)]
pub(super) struct Nobody(pub(super) Arc<CryptoProvider>);

impl ServerCertVerifier for Nobody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Err(lost())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(lost())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(lost())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn lost() -> Error {
    Error::General("a file of the cluster's tls is lost".to_owned())
}
