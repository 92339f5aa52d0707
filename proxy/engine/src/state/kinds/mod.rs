//! One module for each kind of entity: its value with the defaults, and what the engine insists on.

pub mod backend;
pub mod certificate;
pub mod cluster;
pub mod edits;
pub mod frontend;
pub(in crate::state) mod language;
pub mod listener;
pub mod places;
pub mod settings;
