//! A text of an entity as the key of a table: looked up by bytes, and not copied.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A text that is shared with the entity that it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text(pub(super) Arc<str>);

impl Borrow<[u8]> for Text {
    #[inline]
    fn borrow(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

// As its bytes do it, which is not how texts do it.
impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_bytes().hash(state);
    }
}
