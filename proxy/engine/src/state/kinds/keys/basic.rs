//! Users and their passwords; part of frontend and policy.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::edits::{Of, is_ours};
use crate::policy::guards::passwords::Book;
use crate::state::entity::{Content, Material, check};
use crate::state::kinds::language::language;

language! {
    /// Users, without whom nobody gets in.
    pub struct BasicAuth {
        /// In which backends are told the user.
        pub header: Option<Box<str>> = None,
        /// What browsers call it.
        pub realm: String,
        /// Names, and hashes of passwords.
        pub users: Users,
    }
}

/// A file of users, and what it says. It is read when what names it is staged, and kept with that: those for whom
/// it counts are made anew by other changes as well, which bring no file.
#[derive(Clone, Debug)]
pub struct Users {
    /// The file.
    pub file: Material,
    /// None within of a file that is lost.
    book: OnceLock<Option<Arc<Book>>>,
}

impl Users {
    /// Reads the file.
    pub fn read<'a>(
        &self,
        read: impl FnOnce(&Material) -> Result<Content<'a>, String>,
    ) -> Result<(), String> {
        if self.book.get().is_none() {
            let path = &self.file.path;
            let book = read(&self.file)?.map(Book::parse).transpose();
            let book = book.map_err(|reason| format!("basic_auth.users: {path}: {reason}"))?;
            self.book.get_or_init(|| book.map(Arc::new));
        }
        Ok(())
    }

    /// What it says, if it has been read; within, if it is not lost.
    #[must_use]
    pub fn book(&self) -> Option<Option<Arc<Book>>> {
        self.book.get().cloned()
    }
}

impl PartialEq for Users {
    fn eq(&self, other: &Self) -> bool {
        self.file == other.file
    }
}

impl Eq for Users {}

impl Serialize for Users {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.file.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Users {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let file = Material::deserialize(deserializer)?;
        let book = OnceLock::new();
        Ok(Self { file, book })
    }
}

impl BasicAuth {
    /// Checks what becomes part of a line, and the hash of the file.
    pub fn check(&self) -> Result<(), String> {
        check::realm(&self.realm)?;
        let is_sayable = |name: &str| {
            check::is_token(name)
                && !is_ours(name, Of::Requests)
                && !name.eq_ignore_ascii_case("authorization")
        };
        if let Some(name) = self.header.as_deref().filter(|name| !is_sayable(name)) {
            return Err(format!("header: {name:?} cannot be said of a user"));
        }
        check::material(&self.users.file)
    }
}
