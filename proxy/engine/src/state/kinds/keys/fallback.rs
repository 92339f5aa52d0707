//! What becomes of requests that no backend can be asked for; part of a cluster.

use crate::state::entity::check::is_name;
use crate::state::kinds::language::defaulted;
use crate::state::kinds::places::Respond;

defaulted! {
    /// Where they go, or what they are answered.
    pub struct Fallback {
        /// The cluster that serves them.
        pub cluster: Option<Box<str>> = None,
        /// Their answer.
        pub respond: Option<Respond> = None,
    }
}

impl Fallback {
    /// Checks the values.
    pub fn check(&self) -> Result<(), String> {
        match (&self.cluster, &self.respond) {
            (Some(name), None) if !is_name(name) => {
                Err(format!("fallback: {name:?} is not the name of a cluster"))
            }
            (Some(_), None) => Ok(()),
            (None, Some(respond)) => {
                let named = |reason| format!("fallback.respond: {reason}");
                respond.check().map_err(named)
            }
            _ => Err("fallback: expected exactly one of cluster, respond".to_owned()),
        }
    }
}
