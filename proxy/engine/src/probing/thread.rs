//! The prober as the control side sees it: a thread that is given orders, and tells what it finds.
//!
//! Called by `python`, and by tests that need no Python.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::news::{News, Rows, Told as TakenNews};
use super::prober::Prober;
use super::target::{Making, Target, Told};
use crate::runtime::common::CommonFile;
use crate::runtime::socket;
use crate::state::entity::Materials;
use crate::tls::policy::Tls;
use crate::upstream::health::HealthWords;

/// How long the loop may take to answer; a turn takes milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the loop is to do.
pub enum Order {
    /// Write there what is found.
    Share(HealthWords),
    /// A whole list of who is checked begins.
    Begin,
    /// Check this one.
    Put(Box<Target>),
    /// Check this one no more.
    Remove(String),
    /// The whole list has come: check nobody else.
    Close,
    /// Tell of these, or of all who get no requests.
    Report(Option<Vec<String>>, Sender<Rows>),
    /// End.
    End,
}

/// Who is checked from now on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message<'a> {
    /// A whole list begins.
    #[serde(default)]
    begins: bool,
    /// It ends.
    #[serde(default)]
    ends: bool,
    #[serde(borrow)]
    puts: Vec<&'a RawValue>,
    removes: Vec<String>,
}

/// A running prober.
pub struct ProberThread {
    orders: Sender<Order>,
    wake: OwnedFd,
    news: News,
    tls: Tls,
    thread: Option<JoinHandle<()>>,
}

impl ProberThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// A sentence for the operator when the system denies a thread or descriptors.
    pub fn start() -> Result<Self, String> {
        let say = |error: std::io::Error| format!("cannot start the prober: {error}");
        // Refused by a sandbox: then the limit that it set is the one wanted.
        let _ = socket::raise_descriptor_limit();
        let wake = socket::wake_descriptor().map_err(say)?;
        let inside = socket::duplicate(wake.as_raw_fd()).map_err(say)?;
        let news = News::new(socket::wake_descriptor().map_err(say)?);
        let (orders, inbox) = mpsc::channel();
        let mut prober = Prober::new(inbox, inside, news.clone(), seed()).map_err(say)?;
        let thread = std::thread::Builder::new()
            .name("prober".to_owned())
            .spawn(move || {
                // Without its loop it checks nobody: it has to end, so that another one takes its place.
                let outcome =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| prober.run()));
                match outcome {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => eprintln!("prober: its loop failed: {error}"),
                    Err(_) => eprintln!("prober: internal error"),
                }
                std::process::abort();
            })
            .map_err(say)?;
        Ok(Self {
            orders,
            wake,
            news,
            tls: Tls::default(),
            thread: Some(thread),
        })
    }

    /// Has what is found written in this file. The descriptor is copied.
    ///
    /// # Errors
    /// A sentence, when it is no such table, or there is no room for it.
    pub fn share(&self, file: RawFd) -> Result<(), String> {
        let words = CommonFile::of(file).and_then(|file| HealthWords::of(&file));
        let words =
            words.map_err(|error| format!("the table of health cannot be used: {error}"))?;
        self.send(Order::Share(words));
        Ok(())
    }

    /// Takes who is checked, and who is no more. Returns who cannot be, and why.
    ///
    /// # Errors
    /// A sentence, when it is no such message.
    pub fn tell(
        &self,
        message: &[u8],
        materials: &Materials,
    ) -> Result<Vec<(String, String)>, String> {
        let message: Message<'_> =
            serde_json::from_slice(message).map_err(|error| error.to_string())?;
        let (mut making, mut refused) = (Making::default(), Vec::new());
        if message.begins {
            self.send(Order::Begin);
        }
        for name in message.removes {
            self.send(Order::Remove(name));
        }
        for put in message.puts {
            let told: Told = serde_json::from_str(put.get()).map_err(|error| error.to_string())?;
            let name = told.name.clone();
            match making.target(told, &self.tls, materials) {
                Ok(target) => self.send(Order::Put(Box::new(target))),
                Err(reason) => refused.push((name, reason)),
            }
        }
        if message.ends {
            self.send(Order::Close);
        }
        Ok(refused)
    }

    /// What is known of these, or of all who get no requests.
    ///
    /// # Errors
    /// A sentence, when the loop does not answer.
    pub fn report(&self, names: Option<Vec<String>>) -> Result<Rows, String> {
        let (answer, rows) = mpsc::channel();
        self.send(Order::Report(names, answer));
        rows.recv_timeout(ANSWER_TIMEOUT)
            .map_err(|_| "the prober does not answer".to_owned())
    }

    /// Which descriptor can be read when there are news.
    #[must_use]
    pub fn bell(&self) -> RawFd {
        self.news.bell()
    }

    /// Takes the news.
    #[must_use]
    pub fn take_news(&self) -> TakenNews {
        self.news.take()
    }

    /// Ends it.
    pub fn end(&mut self) {
        self.send(Order::End);
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the thread itself.
            let _ = thread.join();
        }
    }

    fn send(&self, order: Order) {
        // A closed channel means that the thread has ended.
        let _ = self.orders.send(order);
        socket::wake(self.wake.as_raw_fd());
    }
}

impl Drop for ProberThread {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end();
        }
    }
}

/// Any will do: it spreads checks.
fn seed() -> u64 {
    ahash::RandomState::new().hash_one(std::process::id())
}

#[cfg(test)]
mod tests;
