//! What the engine runs, and how it changes: entities, digest, stage, commit, abort.
//!
//! Rule: everything that can fail happens in [`ledger`], on the control thread, aside from traffic;
//! [`tables`] belongs to the engine thread and only ever applies what the ledger has accepted.

pub mod alike;
pub mod audit;
pub mod digest;
pub mod entity;
pub mod entry;
pub mod frontend;
mod held;
pub mod incoming;
pub mod kinds;
pub mod ledger;
pub mod listener;
mod merging;
pub mod named;
pub mod ops;
pub mod reading;
pub mod slot;
pub mod staged;
pub mod tables;
