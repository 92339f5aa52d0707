//! A part of an entity that few entities have: nothing but a pointer where it is empty.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A collection that is mostly empty. Empty is one thing, however it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rare<T>(Option<Box<T>>);

impl<T: Default + PartialEq> Rare<T> {
    /// It is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// What is there.
    pub fn iter<'a>(&'a self) -> std::iter::Flatten<std::option::IntoIter<&'a T>>
    where
        &'a T: IntoIterator,
    {
        self.0.as_deref().into_iter().flatten()
    }

    /// All of it, if there is any.
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }
}

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Default + PartialEq> From<T> for Rare<T> {
    fn from(all: T) -> Self {
        Self((all != T::default()).then(|| Box::new(all)))
    }
}

impl<'a, T: Default + PartialEq> IntoIterator for &'a Rare<T>
where
    &'a T: IntoIterator,
{
    type Item = <&'a T as IntoIterator>::Item;
    type IntoIter = std::iter::Flatten<std::option::IntoIter<&'a T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Serialize + Default> Serialize for Rare<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(all) => all.serialize(serializer),
            None => T::default().serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de> + Default + PartialEq> Deserialize<'de> for Rare<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}
