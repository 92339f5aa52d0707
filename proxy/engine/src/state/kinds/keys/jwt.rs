//! Tokens that an issuer has signed; part of frontend and policy.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::edits::{Of, is_ours};
use crate::policy::guards::jwt::keys::Keys;
use crate::state::entity::check::{is_token, material, within};
use crate::state::entity::{Content, Material, check};
use crate::state::kinds::language::language;

language! {
    /// Whose tokens let requests pass, and what they have to say.
    pub struct Jwt {
        /// For whom a token may be meant; empty is anybody.
        pub audiences: Vec<Box<str>>,
        /// Where the authorities are that are trusted when keys are fetched; nothing is read here.
        pub ca: Option<Box<str>> = None,
        /// By claim, what it has to be one of.
        pub claims: BTreeMap<Box<str>, Vec<Box<str>>> = BTreeMap::new(),
        /// The backend gets the token too.
        pub forward_token: bool = true,
        /// Where it stands.
        pub from: TokenIn = TokenIn::Authorization,
        /// By header, the claim that the backend is told in it.
        pub headers: BTreeMap<Box<str>, Box<str>> = BTreeMap::new(),
        /// Who has signed it.
        pub issuer: Box<str>,
        /// By which that is known.
        pub keys: KeySet,
        /// By how many milliseconds clocks may differ.
        pub leeway: u64 = 60_000,
        /// What clients are told that they ask for.
        pub realm: Box<str> = "api".into(),
        /// What it has to allow: all of it.
        pub scopes: Vec<Box<str>> = Vec::new(),
    }
}

/// Where a request has its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenIn {
    /// In `Authorization`, behind the word Bearer.
    Authorization,
    /// In the cookie of this name.
    Cookie(Box<str>),
    /// In the header of this name, in lower case.
    Header(Box<str>),
}

language! {
    /// Where keys are: a file, or what was fetched of a URL, if that has been.
    pub struct KeyPlace {
        /// See [`Material::path`]; empty where nothing has been fetched.
        pub path: String = String::new(),
        /// See [`Material::sha256`].
        pub sha256: Option<String> = None,
        /// Where they are fetched.
        pub url: Option<String> = None,
    }
}

/// A set of keys, read as a file of users is ([`super::basic::Users`]).
#[derive(Clone, Debug)]
pub struct KeySet {
    /// Where they are.
    pub place: KeyPlace,
    /// None within of a file that is lost.
    keys: OnceLock<Option<Arc<Keys>>>,
}

impl KeySet {
    /// Reads the file, if there is one.
    pub fn read<'a>(
        &self,
        read: impl FnOnce(&Material) -> Result<Content<'a>, String>,
    ) -> Result<(), String> {
        let Some(file) = self.file() else {
            return Ok(());
        };
        if self.keys.get().is_none() {
            let keys = read(&file)?.map(|content| Keys::parse(&file.sha256, content));
            let keys = keys.transpose();
            let keys = keys.map_err(|reason| format!("jwt.keys: {}: {reason}", file.path))?;
            self.keys.get_or_init(|| keys.map(Arc::new));
        }
        Ok(())
    }

    /// What it says, if it has been read; within, if there is one that is not lost.
    #[must_use]
    pub fn keys(&self) -> Option<Option<Arc<Keys>>> {
        match self.file() {
            Some(_) => self.keys.get().cloned(),
            None => Some(None),
        }
    }

    /// The file; none where nothing has been fetched.
    #[must_use]
    pub fn file(&self) -> Option<Material> {
        let KeyPlace { path, sha256, .. } = &self.place;
        sha256.as_ref().map(|sha256| Material {
            path: path.clone(),
            sha256: sha256.clone(),
        })
    }
}

impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl Eq for KeySet {}

impl Serialize for KeySet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.place.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for KeySet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let place = KeyPlace::deserialize(deserializer)?;
        let keys = OnceLock::new();
        Ok(Self { place, keys })
    }
}

impl Jwt {
    /// Checks what becomes part of a line, and the hash of the file.
    pub fn check(&self) -> Result<(), String> {
        check::realm(&self.realm)?;
        let texts = [("audiences", &self.audiences), ("scopes", &self.scopes)];
        let claims = self.claims.iter().map(|(claim, texts)| (&**claim, texts));
        for (key, texts) in texts.into_iter().chain(claims) {
            within(key, texts.len(), 0..=TEXTS_MAX)?;
            if !texts.is_sorted_by(|a, b| a < b) {
                return Err(format!("{key}: expected texts, sorted, each once"));
            }
        }
        let is_scope = |byte: u8| matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~');
        if !self
            .scopes
            .iter()
            .all(|it| !it.is_empty() && it.bytes().all(is_scope))
        {
            return Err("scopes: a scope is a word in ASCII".to_owned());
        }
        within("leeway", self.leeway, 0..=LEEWAY_MS_MAX)?;
        within("claims", self.claims.len(), 0..=TEXTS_MAX)?;
        within("headers", self.headers.len(), 0..=HEADERS_MAX)?;
        let mut seen = Vec::new();
        for name in self.headers.keys() {
            let lower = name.to_ascii_lowercase();
            if !is_token(name) || is_ours(name, Of::Requests) || seen.contains(&lower) {
                return Err(format!(
                    "headers: {name:?} cannot be said of a token, or twice"
                ));
            }
            seen.push(lower);
        }
        match &self.from {
            TokenIn::Cookie(name) | TokenIn::Header(name) if !is_token(name) => {
                return Err(format!("from: {name:?} is no name"));
            }
            TokenIn::Cookie(_) if !self.forward_token => {
                return Err("forward_token: a cookie cannot be left out".to_owned());
            }
            _ => {}
        }
        if self
            .token_field()
            .is_some_and(|field| seen.contains(&field.to_owned()))
        {
            return Err("headers: the token itself stands in one of them".to_owned());
        }
        self.keys.file().map_or(Ok(()), |file| material(&file))
    }

    /// The field that the token stands in and nothing else, in lower case.
    #[must_use]
    pub fn token_field(&self) -> Option<&str> {
        match &self.from {
            TokenIn::Authorization => Some("authorization"),
            TokenIn::Header(name) => Some(name),
            TokenIn::Cookie(_) => None,
        }
    }
}

/// Texts in one list.
const TEXTS_MAX: usize = 64;
/// Each costs a look at every line.
const HEADERS_MAX: usize = 32;
const LEEWAY_MS_MAX: u64 = 600_000;
