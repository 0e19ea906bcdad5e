//! What was heard, and what became of it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use weir_sync::Refused;

/// What can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A connection.
    Connection,
    /// What ties clients to a real server.
    Template,
}

impl Kind {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Connection, Self::Template];

    /// As metrics name it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Template => "template",
        }
    }
}

/// Why a datagram, or the rest of one, or what a record tells, is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// It can't be read.
    Unreadable(Refused),
    /// Of a protocol, or in a state of its, that there is not.
    Protocol,
    /// To no virtual server of the file.
    VirtualServer,
    /// A template of no real server of the file's that serves now.
    RealServer,
    /// A template of a virtual server that is not persistent, or not by such networks.
    Persistence,
    /// A template that a persistence engine knows.
    Engine,
    /// The numbers of its segments are shifted.
    Sequences,
    /// Its clients are tied to another real server.
    Tied,
    /// There is no room.
    Full,
}

impl Reason {
    const OWN: [Self; 8] = [
        Self::Protocol,
        Self::VirtualServer,
        Self::RealServer,
        Self::Persistence,
        Self::Engine,
        Self::Sequences,
        Self::Tied,
        Self::Full,
    ];
    const COUNT: usize = Refused::ALL.len() + Self::OWN.len();

    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Refused::ALL.into_iter().map(Self::Unreadable).chain(Self::OWN)
    }

    /// As metrics name it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Unreadable(refused) => refused.name(),
            Self::Protocol => "protocol",
            Self::VirtualServer => "unserved",
            Self::RealServer => "real_server",
            Self::Persistence => "persistence",
            Self::Engine => "engine",
            Self::Sequences => "sequences",
            Self::Tied => "tied",
            Self::Full => "full",
        }
    }
}

/// See the module. One thread counts, others read.
#[derive(Debug)]
pub(crate) struct Figures {
    listeners: AtomicU64,
    datagrams: AtomicU64,
    taken: [AtomicU64; Kind::ALL.len()],
    /// In the order of [`Reason::all`].
    refused: [AtomicU64; Reason::COUNT],
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            listeners: AtomicU64::new(0),
            datagrams: AtomicU64::new(0),
            taken: Default::default(),
            refused: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Figures {
    /// Does what it does as one of those who listen: the next one begins before the one before has ended.
    pub(super) fn while_listening<T>(&self, listen: impl FnOnce() -> T) -> T {
        self.listeners.fetch_add(1, Relaxed);
        let done = listen();
        self.listeners.fetch_sub(1, Relaxed);
        done
    }

    pub(super) fn count_datagram(&self) {
        self.datagrams.fetch_add(1, Relaxed);
    }

    pub(super) fn count(&self, outcome: Result<Kind, Reason>) {
        let place = match outcome {
            Ok(kind) => self.taken.get(kind as usize),
            Err(reason) => {
                Reason::all().position(|other| other == reason).and_then(|at| self.refused.get(at))
            }
        };
        if let Some(place) = place {
            place.fetch_add(1, Relaxed);
        }
    }

    /// Whether somebody listens.
    pub(crate) fn is_listening(&self) -> bool {
        self.listeners.load(Relaxed) != 0
    }

    /// Datagrams that came in.
    pub(crate) fn datagrams(&self) -> u64 {
        self.datagrams.load(Relaxed)
    }

    /// What was taken of each kind.
    pub(crate) fn taken(&self) -> Vec<(Kind, u64)> {
        Kind::ALL.into_iter().zip(self.taken.iter().map(|count| count.load(Relaxed))).collect()
    }

    /// What was refused for each reason.
    pub(crate) fn refused(&self) -> Vec<(Reason, u64)> {
        Reason::all().zip(self.refused.iter().map(|count| count.load(Relaxed))).collect()
    }
}
