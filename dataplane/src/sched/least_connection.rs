//! lc, wlc, sed and nq: the server with the least load, as connections tell it.
//!
//! They keep no state. Ties go to the server earlier in the list.

use weir_config::model::Scheduler as Kind;

use super::Servers;

/// What servers are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// lc: connections, whatever the weight.
    Connections,
    /// wlc, and lblc and lblcr for a server that they have to find: connections for the weight.
    Weighted,
    /// sed: active connections for the weight, the one to come counted in.
    Expected,
    /// nq: none for an idle server, else as sed.
    ExpectedOrIdle,
}

impl Measure {
    /// What picks of a method ask for the least of, if they look at all servers for that.
    pub(crate) fn of(method: Kind) -> Option<Self> {
        match method {
            Kind::Lc => Some(Self::Connections),
            Kind::Wlc | Kind::Lblc | Kind::Lblcr => Some(Self::Weighted),
            Kind::Sed => Some(Self::Expected),
            Kind::Nq => Some(Self::ExpectedOrIdle),
            Kind::Rr | Kind::Wrr | Kind::Fo | Kind::Ovf | Kind::Sh | Kind::Dh | Kind::Mh | Kind::Twos => None,
        }
    }

    /// What a server is compared by; [`Load::INFINITE`] if it is not usable.
    #[inline]
    pub(crate) fn load(self, servers: &impl Servers, index: usize) -> Load {
        if servers.usable(index) { self.of_usable(servers, index) } else { Load::INFINITE }
    }

    #[inline]
    fn of_usable(self, servers: &impl Servers, index: usize) -> Load {
        match self {
            Self::Connections => Load { amount: connections(servers, index), weight: 1 },
            Self::Weighted => weighted(servers, index),
            Self::Expected => {
                Load { amount: u64::from(servers.active(index)) + 1, weight: servers.weight(index) }
            }
            Self::ExpectedOrIdle => {
                let active = u64::from(servers.active(index));
                Load { amount: active + u64::from(active != 0), weight: servers.weight(index) }
            }
        }
    }
}

/// A server's load for a weight: a fraction, without division.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Below 2^41.
    pub amount: u64,
    /// 1 to 65,535; 0 only of a server that is compared though it is not usable.
    pub weight: u32,
}

impl Load {
    /// More than any load of a server with weight.
    pub(crate) const INFINITE: Self = Self { amount: 1, weight: 0 };

    /// Whether it is the larger fraction. No load exceeds that of a server without weight.
    #[inline]
    pub fn exceeds(self, other: Self) -> bool {
        // Below 2^57.
        self.amount * u64::from(other.weight) > other.amount * u64::from(self.weight)
    }

    /// Whether it is the smaller fraction, or with `or_equal` at least no larger one. Every load is below that of a server without weight.
    #[inline]
    pub(crate) fn is_below(self, other: Self, or_equal: bool) -> bool {
        let own = self.amount * u64::from(other.weight);
        own < other.amount * u64::from(self.weight) + u64::from(or_equal)
    }
}

/// A server's load by wlc, lblc, lblcr and twos: an active connection counts as 256 inactive ones.
#[inline]
pub(super) fn weighted(servers: &impl Servers, index: usize) -> Load {
    Load { amount: connections(servers, index), weight: servers.weight(index) }
}

#[inline]
fn connections(servers: &impl Servers, index: usize) -> u64 {
    let (active, inactive) = servers.connections(index);
    (u64::from(active) << 8) + u64::from(inactive)
}

/// The usable one of `candidates` with the least load, and that; of equals the first.
#[inline]
pub(crate) fn least(
    servers: &impl Servers,
    candidates: impl Iterator<Item = usize>,
    measure: Measure,
) -> Option<(usize, Load)> {
    // A loop for each, in which nothing is asked twice.
    match measure {
        Measure::Connections => lightest(servers, candidates, |i| Measure::Connections.of_usable(servers, i)),
        Measure::Weighted => lightest(servers, candidates, |i| Measure::Weighted.of_usable(servers, i)),
        Measure::Expected => lightest(servers, candidates, |i| Measure::Expected.of_usable(servers, i)),
        Measure::ExpectedOrIdle => {
            lightest(servers, candidates, |i| Measure::ExpectedOrIdle.of_usable(servers, i))
        }
    }
}

#[inline]
fn lightest(
    servers: &impl Servers,
    candidates: impl Iterator<Item = usize>,
    load: impl Fn(usize) -> Load,
) -> Option<(usize, Load)> {
    let mut best = (usize::MAX, Load::INFINITE);
    for index in candidates.filter(|&i| servers.usable(i)) {
        let own = load(index);
        if best.1.exceeds(own) {
            best = (index, own);
        }
    }
    (best.1 != Load::INFINITE).then_some(best)
}

/// Whether a server has less than half as many active connections as its weight is: lblc and lblcr look for one.
#[inline]
pub(crate) fn has_plenty(servers: &impl Servers, index: usize) -> bool {
    u64::from(servers.active(index)) * 2 < u64::from(servers.weight(index))
}
