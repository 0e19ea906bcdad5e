//! What the TCP listener counts: requests that it refuses, and handshakes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::keys::Certificate;

/// Why a request is refused to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The listener asks nobody who they are, and other machines reach it.
    NotServed,
    /// The request came without TLS, on a connection that is older than the certificate.
    NoTls,
    /// There is no token in it.
    NoToken,
    /// Its token is none of those of the file.
    WrongToken,
    /// Its token is good for less.
    Role,
}

impl Refusal {
    /// Every one, in the order of the counters.
    pub(crate) const ALL: [Self; 5] =
        [Self::NotServed, Self::NoTls, Self::NoToken, Self::WrongToken, Self::Role];

    /// The label in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::NotServed => "not_served",
            Self::NoTls => "no_tls",
            Self::NoToken => "no_token",
            Self::WrongToken => "wrong_token",
            Self::Role => "role",
        }
    }
}

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// Both sides agree.
    Done,
    /// They do not, or it is no TLS.
    Failed,
    /// It was not done in time.
    Late,
    /// The client speaks plain HTTP.
    Plain,
}

impl Handshake {
    /// Every one, in the order of the counters.
    pub(crate) const ALL: [Self; 4] = [Self::Done, Self::Failed, Self::Late, Self::Plain];

    /// The label in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Late => "late",
            Self::Plain => "plain_http",
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    refusals: [AtomicU64; Refusal::ALL.len()],
    handshakes: [AtomicU64; Handshake::ALL.len()],
    /// When the certificate expires, in seconds since 1970; 0: there is none, or that is not known.
    certificate_ends: AtomicU64,
    has_exposed_key: AtomicBool,
}

impl Tally {
    /// A request is refused.
    pub(super) fn refused(&self, why: Refusal) {
        self.refusals[why as usize].fetch_add(1, Relaxed);
    }

    /// A handshake has ended.
    pub(super) fn shaken(&self, how: Handshake) {
        self.handshakes[how as usize].fetch_add(1, Relaxed);
    }

    /// This certificate is shown.
    pub(crate) fn certify(&self, certificate: Option<&Certificate>) {
        let ends = certificate.and_then(|it| it.ends?.try_into().ok());
        self.certificate_ends.store(ends.unwrap_or(0), Relaxed);
        self.has_exposed_key.store(certificate.is_some_and(|it| it.exposed.is_some()), Relaxed);
    }

    /// When the certificate expires, in seconds since 1970; `None`: there is none, or that is not known.
    pub(crate) fn certificate_ends(&self) -> Option<u64> {
        Some(self.certificate_ends.load(Relaxed)).filter(|ends| *ends > 0)
    }

    /// Whether others can read or write its key.
    pub(crate) fn has_exposed_key(&self) -> bool {
        self.has_exposed_key.load(Relaxed)
    }

    /// How many were refused so far.
    pub(crate) fn refusals(&self, why: Refusal) -> u64 {
        self.refusals[why as usize].load(Relaxed)
    }

    /// How many handshakes ended so.
    pub(crate) fn handshakes(&self, how: Handshake) -> u64 {
        self.handshakes[how as usize].load(Relaxed)
    }
}
