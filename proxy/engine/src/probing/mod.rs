//! The prober: asks backends whether they are well, once for all workers of a host.
//!
//! A process of its own has one ([`thread`]), which lives on without the daemon and without workers. What it finds is
//! a word for each backend that workers read when they choose (`upstream/health`), and lines for people ([`news`]).
//! Rule: what is said in a check is pure ([`talk`]), and so is what follows from it ([`judging`]); one check has one
//! connection ([`probe`]); when each is due, and nothing else, is up to the loop ([`prober`]).

pub mod judging;
pub mod news;
pub mod probe;
pub mod prober;
pub mod talk;
pub mod target;
pub mod thread;
