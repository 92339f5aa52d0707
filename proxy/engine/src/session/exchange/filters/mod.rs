//! What is done with an answer between its backend and its client.
//!
//! Rule: `response` has each answer go by here in the same order: `edited` (what policies leave out or put right),
//! `compressing` (for which `lines` says what an answer is), `pacing` (how fast it leaves, and how long all may take).

pub(in crate::session) mod compressing;
pub(in crate::session::exchange) mod edited;
mod lines;
pub(in crate::session) mod pacing;
