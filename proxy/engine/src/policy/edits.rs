//! Header fields that are set, added and removed, in requests and in responses.
//!
//! Rule: what is set or removed is left out of a head first, and then our lines are appended, once each. A
//! value that comes to nothing is no line: so nobody gets a field by having set it himself. Which names may
//! be edited at all is checked with the value (`state/kinds/edits`): none that frames a message, or that the
//! proxy itself has to say.

use std::borrow::Cow;
use std::sync::Arc;

use regex::bytes::Regex;

use super::cors::{self, Cors};
use super::template::{Escape, Template, Values};
use crate::state::entity;

/// What is done with the fields of a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edits {
    /// Names that are left out.
    drops: Box<[Box<str>]>,
    lines: Lines,
    cors: Option<Box<Cors>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Lines {
    /// The same for every request, each with its CRLF.
    Constant(Arc<[u8]>),
    /// By their names.
    Made(Box<[(Box<str>, Template)]>),
}

impl Edits {
    /// What is asked for, if anything is.
    pub(super) fn of(
        edits: &entity::HeaderEdits,
        expression: Option<&Regex>,
    ) -> Result<Option<Self>, String> {
        if *edits == entity::HeaderEdits::default() {
            return Ok(None);
        }
        let mut drops: Vec<Box<str>> = edits.set.keys().map(|name| name.as_str().into()).collect();
        drops.extend(edits.remove.iter().map(|name| name.as_str().into()));
        let mut made = Vec::new();
        for (name, text) in edits.set.iter().chain(&edits.add) {
            let Some(text) = text else { continue };
            let template = Template::parse(text, expression);
            let template = template.map_err(|reason| format!("{name}: {reason}"))?;
            made.push((name.as_str().into(), template));
        }
        let mut constant = Vec::new();
        let is_constant = made.iter().all(|(name, template): &(Box<str>, Template)| {
            let text = template.constant();
            append(name, text.unwrap_or_default().as_bytes(), &mut constant);
            text.is_some()
        });
        Ok(Some(Self {
            drops: drops.into(),
            lines: match is_constant {
                true => Lines::Constant(constant.into()),
                false => Lines::Made(made.into()),
            },
            cors: None,
        }))
    }

    /// The same, with what is said to pages of other origins, about which nobody else has a word.
    pub(super) fn with(
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
    pub(super) fn cors(&self) -> Option<&Cors> {
        self.cors.as_deref()
    }

    /// Names that are left out of a head; in any case.
    pub fn drops(&self) -> &[Box<str>] {
        &self.drops
    }

    /// Whether a group of the path's expression stands in a value.
    pub(super) fn has_captures(&self) -> bool {
        match &self.lines {
            Lines::Constant(_) => false,
            Lines::Made(made) => made.iter().any(|(_, template)| template.has_captures()),
        }
    }

    /// The lines that a head gets for a request, each with its CRLF.
    pub fn lines(&self, values: &Values<'_>) -> Arc<[u8]> {
        if let (Lines::Constant(lines), None) = (&self.lines, &self.cors) {
            return lines.clone();
        }
        let (mut out, mut value) = (Vec::with_capacity(128), Vec::new());
        match &self.lines {
            Lines::Constant(lines) => out.extend_from_slice(lines),
            Lines::Made(made) => {
                for (name, template) in made {
                    value.clear();
                    template.write(values, Escape::Header, &mut value);
                    append(name, &value, &mut out);
                }
            }
        }
        if let Some(cors) = &self.cors {
            cors.write(values.facts, &mut out);
        }
        out.into()
    }

    /// Leaves fields out of lines that are written already.
    pub fn without<'a>(&self, lines: Cow<'a, str>) -> Cow<'a, str> {
        let is_kept = |line: &&str| {
            let name = line.split(':').next().unwrap_or_default();
            !self
                .drops
                .iter()
                .any(|drop| drop.eq_ignore_ascii_case(name))
        };
        match lines.split_inclusive('\n').all(|line| is_kept(&line)) {
            true => lines,
            false => lines.split_inclusive('\n').filter(is_kept).collect(),
        }
    }
}

fn append(name: &str, value: &[u8], out: &mut Vec<u8>) {
    let value = value.trim_ascii();
    if value.is_empty() {
        return;
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
