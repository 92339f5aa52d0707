//! Which answers are compressed; part of frontend and policy.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::protocol::coding::Coding;
use crate::state::entity::check::{is_token, within};
use crate::state::kinds::language::language;

language! {
    /// Which answers are compressed, for clients that take that.
    pub struct Compression {
        /// Codings, the most wanted first.
        pub encodings: Vec<Encoding> = vec![Encoding::Zstd, Encoding::Br, Encoding::Gzip],
        /// Shorter ones stay as they are.
        pub min_bytes: u64 = 1024,
        /// Those too that set cookies, or are private.
        pub private: bool = false,
        /// Their media types; `text/*` is all of text.
        pub types: Vec<Box<str>> = TYPES.clone(),
    }
}

static TYPES: LazyLock<Vec<Box<str>>> = LazyLock::new(|| {
    let types = [
        "application/javascript",
        "application/json",
        "application/manifest+json",
        "application/wasm",
        "application/xml",
        "image/svg+xml",
        "text/*",
    ];
    types.map(Into::into).into()
});

/// The name of a content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Brotli.
    Br,
    /// Gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Encoding {
    /// What it names.
    #[must_use]
    pub fn coding(self) -> Coding {
        match self {
            Self::Br => Coding::Brotli,
            Self::Gzip => Coding::Gzip,
            Self::Zstd => Coding::Zstd,
        }
    }
}

impl Compression {
    /// Checks what is compared with what backends say.
    pub fn check(&self) -> Result<(), String> {
        within("encodings", self.encodings.len(), 1..=Coding::ALL.len())?;
        for (at, encoding) in self.encodings.iter().enumerate() {
            if self.encodings[..at].contains(encoding) {
                return Err("encodings: each once".to_owned());
            }
        }
        within("min_bytes", self.min_bytes, 1..=MIN_BYTES_MAX)?;
        within("types", self.types.len(), 1..=LISTED_MAX)?;
        if !self.types.is_sorted_by(|a, b| a < b) {
            return Err("types: expected texts, sorted, each once".to_owned());
        }
        match self.types.iter().find(|text| !is_media_type(text)) {
            Some(text) => Err(format!("types: {text:?} is no media type")),
            None => Ok(()),
        }
    }
}

/// `type/subtype` or `type/*`, in lower case.
fn is_media_type(text: &str) -> bool {
    let is_name = |text: &str| is_token(text) && !text.bytes().any(|it| it.is_ascii_uppercase());
    text.split_once('/').is_some_and(|(name, rest)| {
        is_name(name)
            && !name.contains('*')
            && is_name(rest)
            && (rest == "*" || !rest.contains('*'))
    })
}

/// Texts in one list.
const LISTED_MAX: usize = 256;
/// More is no text any more.
const MIN_BYTES_MAX: u64 = 1024 * 1024 * 1024;
