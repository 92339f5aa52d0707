//! One module for each kind of entity: its value with the defaults, what the engine insists on, what it
//! needs, what is made of it, and what a change of it does. [`registry`] has all of them.

pub mod backend;
pub mod certificate;
pub mod cluster;
pub mod frontend;
pub mod keys;
pub(in crate::state) mod language;
pub mod listener;
pub mod places;
pub mod policy;
pub mod registry;
pub mod settings;
