//! Header fields that are set, added and removed, in requests and in responses.
//!
//! Rule: what is set or removed is left out of a head first, and then our lines are appended, once each. A
//! value that comes to nothing is no line: so nobody gets a field by having set it himself. Which names may
//! be edited at all is checked with the value (`state/kinds/keys/edits`): none that frames a message, or that the
//! proxy itself has to say. Some are for some answers only ([`Reach`]): what is for more of them stands before
//! what is for fewer, so that an answer has a beginning of all that there is.

use std::borrow::Cow;
use std::sync::Arc;

use regex::bytes::Regex;

use super::cors::{self, Cors};
use super::room::Overgrown;
use super::template::{Escape, Template, Values};
use crate::protocol::lines::{Line as Written, LineBuf, Lines};
use crate::state::entity::{self, Answers, Line};

/// What is done with the fields of a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edits {
    /// Names that are left out.
    drops: Box<[Box<str>]>,
    /// How many of them go from an answer, by its reach.
    dropped: [usize; REACHES],
    source: Source,
    cors: Option<Box<Cors>>,
}

/// What its lines are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// The same for every request.
    Constant(Made),
    /// By their names.
    Made(Box<[(Box<str>, Reach, Template)]>),
}

/// Which answers an edit is for; requests have them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Every one.
    All,
    /// Every one but errors that are the proxy's own: nobody is to keep those.
    Kept,
    /// Every one that is no error.
    Success,
}

const REACHES: usize = 3;

impl Reach {
    /// That of the fewest edits which an answer has not.
    #[must_use]
    pub fn of(status: u16, is_own: bool) -> Self {
        match (status < 400, is_own) {
            (true, _) => Self::Success,
            (false, false) => Self::Kept,
            (false, true) => Self::All,
        }
    }

    /// Whose edit of a field it is, if nothing is said of that.
    fn usual(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let says_how_long = name == "expires"
            || name == "surrogate-control"
            || name == "cache-control"
            || name.ends_with("-cache-control");
        match says_how_long {
            true => Self::Kept,
            false => Self::All,
        }
    }

    fn said(name: &str, line: Option<&Line>) -> Self {
        match line.and_then(Line::answers) {
            None => Self::usual(name),
            Some(Answers::All) => Self::All,
            Some(Answers::Success) => Self::Success,
        }
    }
}

/// Lines for the head of an answer: which of them it gets is known when it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    lines: Arc<LineBuf>,
    /// Where those of each reach end.
    ends: [u32; REACHES],
}

impl Made {
    /// Those of an answer.
    #[must_use]
    pub fn at(&self, reach: Reach) -> Lines<'_> {
        let end = self.ends[reach as usize] as usize;
        self.lines.lines().before(end)
    }

    /// The same behind lines that all answers get.
    #[must_use]
    pub fn behind(made: Option<Self>, first: Lines<'_>) -> Self {
        let mut lines = LineBuf::from(first);
        let mut ends = [0; REACHES];
        if let Some(made) = made {
            lines.append(made.lines.lines());
            ends = made.ends;
        }
        let more = u32::try_from(first.size()).unwrap_or_default();
        Self {
            lines: lines.into(),
            ends: ends.map(|end| end.saturating_add(more)),
        }
    }

    /// All of them.
    #[must_use]
    pub fn all(self) -> Arc<LineBuf> {
        self.lines
    }

    /// The same for an answer that is compressed: it has another coding and no ranges, and its tag is as good as that
    /// of what it was where bytes do not count (RFC 9110 §8.8.3.3).
    #[must_use]
    pub fn of_compressed(&self) -> Self {
        let mut all = self.lines.lines();
        if !all.any(|line| is_of_content(line) || strong_tag(line).is_some()) {
            return self.clone();
        }
        let (mut out, mut ends, mut rest) = (LineBuf::default(), [0; REACHES], self.lines.lines());
        while let Some(line) = rest.next() {
            match strong_tag(line) {
                Some(tag) => out.push(b"ETag", &[b"W/", tag].concat()),
                None if is_of_content(line) => {}
                None => out.push(line.name(), line.value()),
            }
            let at = self.lines.lines().size() - rest.size();
            for (end, before) in ends.iter_mut().zip(self.ends) {
                if at <= before as usize {
                    *end = out.lines().size() as u32;
                }
            }
        }
        Self {
            lines: out.into(),
            ends,
        }
    }
}

/// Whether a line says of a body what a coding changes.
fn is_of_content(line: Written<'_>) -> bool {
    let mut names = ["accept-ranges", "content-encoding"].iter();
    names.any(|name| line.is_named(name))
}

/// The tag of a line that says which bytes a body has.
fn strong_tag(line: Written<'_>) -> Option<&[u8]> {
    let is_strong = line.is_named("etag") && !line.value().starts_with(b"W/");
    is_strong.then(|| line.value())
}

/// Writes lines, those for more answers first.
#[derive(Default)]
struct Writing {
    out: LineBuf,
    ends: [u32; REACHES],
}

impl Writing {
    fn append(&mut self, name: &str, reach: Reach, value: &[u8]) {
        append(name, value, &mut self.out);
        self.note(reach);
    }

    /// What is written so far is for answers of a reach, and of those behind it.
    fn note(&mut self, reach: Reach) {
        let end = u32::try_from(self.out.lines().size()).unwrap_or(u32::MAX);
        self.ends[reach as usize..].fill(end);
    }

    fn made(self) -> Made {
        Made {
            lines: self.out.into(),
            ends: self.ends,
        }
    }
}

impl Edits {
    /// What is asked for, if anything is.
    pub(in crate::policy) fn of(
        edits: &entity::HeaderEdits,
        expression: Option<&Regex>,
    ) -> Result<Option<Self>, String> {
        if *edits == entity::HeaderEdits::default() {
            return Ok(None);
        }
        let set = edits.set.iter().map(|(name, line)| (name, line.as_ref()));
        let removed = edits.remove.iter().map(|name| (name, None));
        let mut drops: Vec<(&str, Reach)> = set
            .chain(removed)
            .map(|(name, line)| (name.as_str(), Reach::said(name, line)))
            .collect();
        drops.sort_by_key(|(_, reach)| *reach);
        let mut made: Vec<(Box<str>, Reach, Template)> = Vec::new();
        for (name, line) in edits.set.iter().chain(&edits.add) {
            let Some(line) = line else { continue };
            let reach = Reach::said(name, Some(line));
            for text in line.texts() {
                let template = Template::parse(text, expression);
                let template = template.map_err(|reason| format!("{name}: {reason}"))?;
                made.push((name.as_str().into(), reach, template));
            }
        }
        made.sort_by_key(|(_, reach, _)| *reach);
        let mut constant = Writing::default();
        let is_constant = made.iter().all(|(name, reach, template)| {
            let text = template.constant();
            constant.append(name, *reach, text.unwrap_or_default().as_bytes());
            text.is_some()
        });
        let dropped = [Reach::All, Reach::Kept, Reach::Success]
            .map(|most| drops.partition_point(|(_, reach)| *reach <= most));
        Ok(Some(Self {
            drops: drops.into_iter().map(|(name, _)| name.into()).collect(),
            dropped,
            source: match is_constant {
                true => Source::Constant(constant.made()),
                false => Source::Made(made.into()),
            },
            cors: None,
        }))
    }

    /// The same, with what is said to pages of other origins, about which nobody else has a word.
    pub(in crate::policy) fn with(
        edits: &entity::HeaderEdits,
        cors: Option<&entity::Cors>,
        expression: Option<&Regex>,
    ) -> Result<Option<Self>, String> {
        let Some(cors) = cors else {
            return Self::of(edits, expression);
        };
        let mut edits = edits.clone();
        let is_theirs = |name: &str| cors::FIELDS.iter().any(|it| it.eq_ignore_ascii_case(name));
        edits.set.retain(|name, _| !is_theirs(name));
        edits.add.retain(|name, _| !is_theirs(name));
        edits.remove.retain(|name| !is_theirs(name));
        edits.remove.extend(cors::FIELDS.map(str::to_owned));
        let edits = Self::of(&edits, expression)?;
        Ok(edits.map(|edits| Self {
            cors: Some(Box::new(Cors::of(cors))),
            ..edits
        }))
    }

    /// What is said to pages of other origins, if anything is.
    pub(in crate::policy) fn cors(&self) -> Option<&Cors> {
        self.cors.as_deref()
    }

    /// Names that are left out of a head; in any case.
    pub fn drops(&self, reach: Reach) -> &[Box<str>] {
        self.drops
            .get(..self.dropped[reach as usize])
            .unwrap_or_default()
    }

    /// Whether a group of the path's expression stands in a value.
    pub(in crate::policy) fn has_captures(&self) -> bool {
        match &self.source {
            Source::Constant(_) => false,
            Source::Made(made) => made.iter().any(|(_, _, template)| template.has_captures()),
        }
    }

    /// The lines that a head gets for a request.
    ///
    /// # Errors
    /// The values of the request need more room than there is.
    pub fn lines(&self, values: &Values<'_>) -> Result<Made, Overgrown> {
        if let (Source::Constant(lines), None) = (&self.source, &self.cors) {
            return Ok(lines.clone());
        }
        let mut writing = Writing {
            out: LineBuf::with_room(128),
            ..Writing::default()
        };
        if let Some(cors) = &self.cors {
            cors.write(values.facts, &mut writing.out);
            writing.note(Reach::All);
        }
        match &self.source {
            Source::Constant(lines) => {
                let cors = writing.out.lines().size() as u32;
                writing.out.append(lines.lines.lines());
                writing.ends = lines.ends.map(|end| end + cors);
            }
            Source::Made(made) => {
                let mut value = Vec::new();
                for (name, reach, template) in made {
                    value.clear();
                    template.write(values, Escape::Header, &mut value)?;
                    writing.append(name, *reach, &value);
                }
            }
        }
        Ok(writing.made())
    }

    /// Leaves fields out of lines that are written already.
    pub fn without<'a>(&self, lines: Cow<'a, LineBuf>, reach: Reach) -> Cow<'a, LineBuf> {
        let drops = self.drops(reach);
        let is_kept = |name: &[u8]| {
            let mut drops = drops.iter();
            !drops.any(|drop| drop.as_bytes().eq_ignore_ascii_case(name))
        };
        let some = lines.lines().passing(is_kept);
        some.map_or(lines, Cow::Owned)
    }
}

fn append(name: &str, value: &[u8], out: &mut LineBuf) {
    let value = value.trim_ascii();
    if !value.is_empty() {
        out.push(name.as_bytes(), value);
    }
}
