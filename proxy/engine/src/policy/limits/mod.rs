//! How much and how often: rates, requests in flight, bytes a second, sizes and times.
//!
//! Called by `policy::merged`, and by sessions as bodies pass.

pub mod bandwidth;
pub mod bounds;
mod columns;
pub mod crowd;
pub mod in_flight;
pub mod meter;
mod places;
pub(in crate::policy) mod rate;
pub mod refused;
