//! Which answers are compressed; part of frontend and policy.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::protocol::coding::{Coding, Strength};
use crate::state::entity::check::{is_token, within};
use crate::state::kinds::language::{defaulted, language};

language! {
    /// Which answers are compressed, for clients that take that.
    pub struct Compression {
        /// Codings, the most wanted first.
        pub encodings: Vec<Encoding> = vec![Encoding::Zstd, Encoding::Br, Encoding::Gzip],
        /// How hard each tries.
        pub levels: Levels = Levels::default(),
        /// Shorter ones stay as they are.
        pub min_bytes: u64 = 1024,
        /// Those too that set cookies, or are private.
        pub private: bool = false,
        /// Their media types; `text/*` is all of text.
        pub types: Vec<Box<str>> = TYPES.clone(),
    }
}

defaulted! {
    /// How hard each coding tries.
    pub struct Levels {
        /// Of brotli.
        pub br: u8 = Coding::Brotli.usual().level,
        /// Of gzip.
        pub gzip: u8 = Coding::Gzip.usual().level,
        /// Of Zstandard.
        pub zstd: u8 = Coding::Zstd.usual().level,
    }
}

impl Levels {
    fn of(&self, coding: Coding) -> u8 {
        match coding {
            Coding::Brotli => self.br,
            Coding::Gzip => self.gzip,
            Coding::Zstd => self.zstd,
        }
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
    /// The codings that are asked for, each with its level.
    pub fn strengths(&self) -> impl Iterator<Item = Strength> {
        self.encodings.iter().map(|name| {
            let coding = name.coding();
            let level = self.levels.of(coding);
            Strength { coding, level }
        })
    }

    /// Checks what is compared with what backends say.
    pub fn check(&self) -> Result<(), String> {
        within("encodings", self.encodings.len(), 1..=Coding::ALL.len())?;
        for (at, encoding) in self.encodings.iter().enumerate() {
            if self.encodings[..at].contains(encoding) {
                return Err("encodings: each once".to_owned());
            }
        }
        for coding in Coding::ALL {
            within(coding.as_str(), self.levels.of(coding), coding.levels())?;
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
