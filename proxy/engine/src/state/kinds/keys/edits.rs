//! Header fields that are set, added and removed; part of frontend and policy.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::protocol::h1::FieldId;
use crate::state::entity::check::{is_token, within};
use crate::state::kinds::language::{defaulted, language};

defaulted! {
    /// What is done with the fields of a head.
    pub struct HeaderEdits {
        /// Lines beside those that are there; none switches off what others say.
        pub add: BTreeMap<String, Option<Line>> = BTreeMap::new(),
        /// Names that are left out.
        pub remove: Vec<String> = Vec::new(),
        /// Lines in place of those that are there; none switches off what others say.
        pub set: BTreeMap<String, Option<Line>> = BTreeMap::new(),
    }
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// In every head.
    Text(String),
    /// In some answers.
    Of(AnswerLine),
    /// Several of one name, in every head; only beside what is there.
    Several(Vec<String>),
}

language! {
    /// A line, and which answers have it.
    pub struct AnswerLine {
        /// Those.
        pub answers: Answers,
        /// What it says.
        pub text: String,
    }
}

/// Answers that a line is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answers {
    /// Every one.
    All,
    /// Those that are no errors.
    Success,
}

impl Line {
    /// What it says, line by line.
    #[must_use]
    pub fn texts(&self) -> &[String] {
        match self {
            Self::Text(text) => std::slice::from_ref(text),
            Self::Of(line) => std::slice::from_ref(&line.text),
            Self::Several(texts) => texts,
        }
    }

    /// Which answers have it, if that is said.
    #[must_use]
    pub fn answers(&self) -> Option<Answers> {
        match self {
            Self::Text(_) | Self::Several(_) => None,
            Self::Of(line) => Some(line.answers),
        }
    }
}

/// Whose fields they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Those of requests to backends.
    Requests,
    /// Those of responses to clients.
    Responses,
}

impl HeaderEdits {
    /// Checks the values: what is appended to a head as it is must be a line, and no line of ours.
    pub fn check(&self, of: Of) -> Result<(), String> {
        let names = self.set.keys().chain(self.add.keys()).chain(&self.remove);
        let mut seen = Vec::new();
        for name in names {
            if !is_token(name) {
                return Err(format!("{name:?} is not the name of a header"));
            }
            if is_ours(name, of) {
                return Err(format!("{name} is the proxy's own to say"));
            }
            let lower = name.to_ascii_lowercase();
            if seen.contains(&lower) {
                return Err(format!("{name} is named twice"));
            }
            seen.push(lower);
        }
        if seen.len() > EDITS_MAX {
            return Err(format!("at most {EDITS_MAX} fields may be edited"));
        }
        if !self.remove.is_sorted_by(|a, b| a < b) {
            return Err("remove: expected names, sorted".to_owned());
        }
        let is_control = |char: char| char < ' ' && char != '\t' || char == '\x7f';
        for (name, line) in self.set.iter().chain(&self.add) {
            let Some(line) = line else { continue };
            if of == Of::Requests && line.answers().is_some() {
                return Err(format!("{name}: it is of requests, and not of answers"));
            }
            for text in line.texts() {
                if text.is_empty() || text.len() > VALUE_BYTES_MAX || text.contains(is_control) {
                    return Err(format!("{name}: its text is no value of a header"));
                }
            }
            if let Line::Several(texts) = line {
                within(name, texts.len(), 2..=LINES_MAX)?;
            }
        }
        let several = |line: &Option<Line>| matches!(line, Some(Line::Several(_)));
        if self.set.values().any(several) {
            return Err("set: one line takes the place of those that are there".to_owned());
        }
        Ok(())
    }
}

/// Whether a field frames a message, is about one connection, or is what the proxy says of itself and of
/// its client: also for those who read `_` as `-`, as CGI does (T21).
pub(in crate::state::kinds) fn is_ours(name: &str, of: Of) -> bool {
    let dashed = name.to_ascii_lowercase().replace('_', "-");
    let id = FieldId::of(dashed.as_bytes());
    let is_framing = id.is_hop_by_hop()
        || matches!(
            id,
            FieldId::Trailer
                | FieldId::Via
                | FieldId::Date
                | FieldId::SecWebSocketKey
                | FieldId::SecWebSocketVersion
        )
        || dashed == "sec-websocket-accept";
    is_framing
        || match of {
            Of::Requests => {
                matches!(dashed.as_str(), "client-cert-chain" | "early-data")
                    || (id.is_about_client() && id != FieldId::ForwardedOther)
            }
            Of::Responses => matches!(
                dashed.as_str(),
                "strict-transport-security" | "kakehi-generation"
            ),
        }
}

/// Fields that one frontend may edit, of requests or of responses: each costs a look at every line.
const EDITS_MAX: usize = 32;
/// Lines of one name.
const LINES_MAX: usize = 16;
/// Longest text of one of them.
const VALUE_BYTES_MAX: usize = 4096 * 4;
