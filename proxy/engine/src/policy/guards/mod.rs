//! Who may ask: networks, passwords, tokens. Each is a stage that lets a request on or answers it.
//!
//! Called by `policy::merged`, which has all that ask of a frontend.

pub mod access;
pub mod basic;
pub mod jwt;
pub mod passwords;
pub mod vault;
pub mod verdicts;
