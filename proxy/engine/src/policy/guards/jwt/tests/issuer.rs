//! An issuer of tokens: a key of every sort, and what it signs.

use std::sync::LazyLock;

use aws_lc_rs::encoding::{AsBigEndian as _, EcPublicKeyUncompressedBin};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaKeyPair,
};
use serde_json::{Value, json};

use crate::protocol::base64;

pub(super) fn url(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    base64::encode(&mut out, bytes);
    let text = String::from_utf8(out).unwrap();
    text.trim_end_matches('=')
        .replace('+', "-")
        .replace('/', "_")
}

/// The modulus and the exponent of a key of 2048 bits, out of its DER.
pub(super) fn numbers(pair: &RsaKeyPair) -> (&[u8], &[u8]) {
    let der = pair.public_key().as_ref();
    (&der[9..265], &der[267..])
}

pub(super) type Sign = Box<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// A key, as its issuer has it.
pub(super) struct Pair {
    pub(super) algorithm: &'static str,
    pub(super) jwk: Value,
    pub(super) sign: Sign,
}

impl Pair {
    pub(super) fn curve(
        algorithm: &'static str,
        curve: &str,
        of: &'static EcdsaSigningAlgorithm,
    ) -> Self {
        let pair = EcdsaKeyPair::generate(of).unwrap();
        let point: EcPublicKeyUncompressedBin<'_> = pair.public_key().as_be_bytes().unwrap();
        let (x, y) = point.as_ref()[1..].split_at((point.as_ref().len() - 1) / 2);
        Self {
            algorithm,
            jwk: json!({"kty": "EC", "crv": curve, "kid": algorithm, "x": url(x), "y": url(y)}),
            sign: Box::new(move |text| {
                pair.sign(&SystemRandom::new(), text)
                    .unwrap()
                    .as_ref()
                    .to_vec()
            }),
        }
    }

    pub(super) fn edwards() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let x = url(pair.public_key().as_ref());
        Self {
            algorithm: "EdDSA",
            jwk: json!({"kty": "OKP", "crv": "Ed25519", "kid": "EdDSA", "x": x}),
            sign: Box::new(move |text| pair.sign(text).as_ref().to_vec()),
        }
    }

    pub(super) fn rsa(algorithm: &'static str, by: &'static dyn signature::RsaEncoding) -> Self {
        static PAIR: LazyLock<RsaKeyPair> =
            LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
        let (n, e) = numbers(&PAIR);
        let (n, e) = (url(n), url(e));
        Self {
            algorithm,
            jwk: json!({"kty": "RSA", "alg": algorithm, "kid": algorithm, "n": n, "e": e}),
            sign: Box::new(move |text| {
                let mut out = vec![0; PAIR.public_modulus_len()];
                PAIR.sign(by, &SystemRandom::new(), text, &mut out).unwrap();
                out
            }),
        }
    }

    pub(super) fn all() -> Vec<Self> {
        vec![
            Self::curve(
                "ES256",
                "P-256",
                &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            ),
            Self::curve(
                "ES384",
                "P-384",
                &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
            ),
            Self::curve(
                "ES512",
                "P-521",
                &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
            ),
            Self::edwards(),
            Self::rsa("RS256", &signature::RSA_PKCS1_SHA256),
            Self::rsa("RS384", &signature::RSA_PKCS1_SHA384),
            Self::rsa("RS512", &signature::RSA_PKCS1_SHA512),
            Self::rsa("PS256", &signature::RSA_PSS_SHA256),
            Self::rsa("PS384", &signature::RSA_PSS_SHA384),
            Self::rsa("PS512", &signature::RSA_PSS_SHA512),
        ]
    }

    /// A token with this header, and these claims as they are written.
    pub(super) fn token(&self, header: &Value, claims: &str) -> String {
        let signed = format!(
            "{}.{}",
            url(header.to_string().as_bytes()),
            url(claims.as_bytes())
        );
        format!("{signed}.{}", url(&(self.sign)(signed.as_bytes())))
    }

    pub(super) fn usual(&self, claims: &Value) -> String {
        self.token(
            &json!({"alg": self.algorithm, "kid": self.algorithm}),
            &claims.to_string(),
        )
    }
}
