//! When a request is sent again, and how often; part of a cluster.

use serde::{Deserialize, Serialize};

use crate::state::entity::check::{TIMEOUT_MS, is_token, within};
use crate::state::kinds::language::defaulted;

defaulted! {
    /// Further attempts, each at another backend while one is left.
    pub struct Retry {
        /// So many at most.
        pub attempts: u32 = 2,
        /// Longest pause before the second of them, doubled by each that follows.
        pub backoff: u64 = 0,
        /// Bodies up to this size are kept to be sent again.
        pub body_bytes: u32 = 0,
        /// In percent of the requests of the last ten seconds.
        pub budget: Option<u8> = None,
        /// Which may be sent again when something of them has gone out.
        pub methods: Repeated = Repeated::Word(RepeatedWord::Idempotent),
        /// How long one attempt may take until the head of its answer.
        pub per_try: Option<u64> = None,
        /// After what.
        pub when: RetryWhen = RetryWhen::default(),
    }
}

defaulted! {
    /// After what a request is sent again.
    pub struct RetryWhen {
        /// What has become of an attempt.
        pub errors: Vec<Failure> = vec![Failure::Connect, Failure::RefusedStream],
        /// Statuses of gRPC in an answer without messages.
        pub grpc: Vec<GrpcStatus> = Vec::new(),
        /// Statuses of answers.
        pub statuses: Vec<u16> = Vec::new(),
    }
}

/// What may become of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// There is no connection.
    Connect,
    /// The backend has not looked at it.
    RefusedStream,
    /// The connection ends before the head of an answer.
    Reset,
    /// No head in time.
    Timeout,
}

/// A status of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrpcStatus {
    /// 10.
    Aborted,
    /// 1.
    Cancelled,
    /// 4.
    DeadlineExceeded,
    /// 13.
    Internal,
    /// 8.
    ResourceExhausted,
    /// 14.
    Unavailable,
}

impl GrpcStatus {
    /// Its number, as an answer has it.
    #[must_use]
    pub fn number(self) -> &'static [u8] {
        match self {
            Self::Cancelled => b"1",
            Self::DeadlineExceeded => b"4",
            Self::ResourceExhausted => b"8",
            Self::Aborted => b"10",
            Self::Internal => b"13",
            Self::Unavailable => b"14",
        }
    }
}

/// Which methods may be sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Repeated {
    /// By a word.
    Word(RepeatedWord),
    /// These.
    List(Vec<Box<str>>),
}

/// A word for methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RepeatedWord {
    /// Whatever they do.
    All,
    /// Those that do twice what they do once (RFC 9110 §9.2.2).
    Idempotent,
}

impl Repeated {
    /// Whether a request of that method may be.
    #[must_use]
    pub fn has(&self, method: &[u8]) -> bool {
        match self {
            Self::Word(RepeatedWord::All) => true,
            Self::Word(RepeatedWord::Idempotent) => is_idempotent(method),
            Self::List(methods) => methods.iter().any(|one| one.as_bytes() == method),
        }
    }
}

/// Whether a method does twice what it does once.
#[must_use]
#[inline]
pub fn is_idempotent(method: &[u8]) -> bool {
    matches!(
        method,
        b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE" | b"TRACE"
    )
}

impl Retry {
    /// Checks the values.
    pub fn check(&self) -> Result<(), String> {
        within("retry.attempts", self.attempts, 0..=10)?;
        within("retry.backoff", self.backoff, 0..=10_000)?;
        within("retry.body_bytes", self.body_bytes, 0..=1 << 20)?;
        if let Some(share) = self.budget {
            within("retry.budget", u32::from(share), 1..=100)?;
        }
        if let Some(per_try) = self.per_try {
            within("retry.per_try", per_try, TIMEOUT_MS)?;
        }
        if let Repeated::List(methods) = &self.methods {
            within("retry.methods", methods.len(), 1..=16)?;
            if let Some(method) = methods.iter().find(|method| !is_token(method)) {
                return Err(format!("retry.methods: {method:?} is not a method"));
            }
        }
        for &status in &self.when.statuses {
            within("retry.when.statuses", u32::from(status), 400..=599)?;
        }
        Ok(())
    }
}
