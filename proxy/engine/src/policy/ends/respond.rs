//! Requests that are answered here: with a body of the configuration, or by closing the connection. Asked of by the
//! plan of a frontend, and by a cluster without a backend that could be asked.

use std::sync::Arc;

use crate::policy::{Answer, Page, Reason, Verdict};
use crate::state::entity;

/// What all requests of a frontend get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Respond {
    /// This.
    With(u16, Option<Page>),
    /// Nothing.
    Close,
    /// The page that it should be is lost.
    Lost,
}

impl Respond {
    /// As it is said; `read` gives the content of files.
    ///
    /// # Errors
    /// When a file did not come.
    pub fn of<'a>(
        respond: &entity::Respond,
        read: impl Fn(&entity::Material) -> Result<entity::Content<'a>, String>,
    ) -> Result<Self, String> {
        if respond.close {
            return Ok(Self::Close);
        }
        let body = match &respond.file {
            Some(file) => match read(file)? {
                Some(content) => content,
                None => return Ok(Self::Lost),
            },
            None => respond.body.as_bytes(),
        };
        // An error that says nothing else has the page of its status.
        let has_page = !body.is_empty() || respond.status < 400;
        let page = has_page.then(|| Page {
            body: Arc::from(body),
            content_type: Arc::from(&*respond.content_type),
        });
        Ok(Self::With(respond.status, page))
    }

    pub(in crate::policy) fn decide(&self) -> Verdict {
        Verdict::Answer(self.answer())
    }

    /// The answer.
    #[must_use]
    pub fn answer(&self) -> Answer {
        match self {
            Self::Close => Answer::new(0, Reason::Closed),
            Self::Lost => Answer::new(503, Reason::ContentMissing),
            Self::With(status, page) => Answer {
                page: page.clone(),
                ..Answer::new(*status, Reason::Responded)
            },
        }
    }
}
