//! Schedulers: which real server gets a new connection.
//!
//! Place in the path: `schedule`, after the connection table had no record and no persistence template
//! holds. The fourteen methods pick as the kernel's IPVS picks, packet for packet, with one worker.
//!
//! A scheduler has two halves:
//! * [`Scheduler`], built by control from the list of real servers each time that list changes, and
//!   immutable from then on: the hash tables, the greatest common divisor of the weights.
//! * [`State`], the little that a pick changes: a pointer into the list, a random generator, the memory
//!   of lblc and lblcr. Each worker has its own, of relaxed atomic cells: the worker is the only writer,
//!   control may read. Control takes the state over into the next version of the list with
//!   [`State::carry_over`], by the kernel's rules.
//!
//! With several workers every worker runs its own round (rr, wrr; they start evenly spread over one), its own
//! random sequence (twos) and its own memory (lblc, lblcr). The methods that look at connections (lc, wlc, sed, nq, ovf, twos, lblc,
//! lblcr) see the sum over all workers through [`Servers`]; sh, dh, mh and fo keep no state at all.
//!
//! Invariants:
//! 1. `pick` does not allocate, lock, log or panic. Its work is bounded by the length of the list, except
//!    for the fallback of `mh`, bounded by the size of its table.
//! 2. Lists run in the kernel's order: index 0 is the head, the real server that was added last.
//! 3. The list given to `pick` is of the version the scheduler was built from.

mod destination_map;
mod failover;
mod hash;
mod least_connection;
mod locality;
mod maglev;
mod peek;
mod replica_sets;
mod round_robin;
mod service;
mod state;
mod two_choices;
pub mod untracked;

#[cfg(test)]
mod director_model;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod vectors;

use std::net::IpAddr;

use weir_config::model::Scheduler as Kind;

pub use least_connection::{Load, Measure};
pub(crate) use least_connection::{has_plenty, least};
pub(crate) use locality::Places;
pub use peek::{Peeked, Why};
pub use service::{
    BuildError, MAGLEV_TABLE_SIZES, MaglevKeys, Options, ServerDescription, ServiceDescription,
};
pub use state::State;

use hash::{DestinationHash, SourceHash};
use locality::Locality;
use maglev::Maglev;
use round_robin::Wrr;

/// What a scheduler may ask of the real servers of one virtual server, in list order: index 0 is the head,
/// the server added last.
///
/// Indices are below [`Servers::len`]. Answers may change between two calls, since other workers count too.
pub trait Servers {
    /// Number of real servers.
    fn len(&self) -> usize;
    /// The present weight, 0 to 65,535; 0: quiesced.
    fn weight(&self, index: usize) -> u32;
    /// Whether the upper threshold was reached and the lower one not yet passed again.
    fn overloaded(&self, index: usize) -> bool;
    /// Active connections, summed over all workers.
    fn active(&self, index: usize) -> u32;
    /// Inactive connections, summed over all workers.
    fn inactive(&self, index: usize) -> u32;

    /// Both of them.
    #[inline]
    fn connections(&self, index: usize) -> (u32, u32) {
        (self.active(index), self.inactive(index))
    }

    /// The usable server with the least load; of equals the first.
    #[inline]
    fn least(&self, measure: Measure) -> Option<usize>
    where
        Self: Sized,
    {
        least(self, 0..self.len(), measure).map(|(index, _)| index)
    }

    /// Whether some server has less than half as many active connections as its weight is, usable or not.
    fn some_have_plenty(&self) -> bool
    where
        Self: Sized,
    {
        (0..self.len()).any(|index| has_plenty(self, index))
    }

    /// Whether there is no real server.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a new connection may go there by the rule all methods share: weight and no overload.
    #[inline]
    fn usable(&self, index: usize) -> bool {
        self.weight(index) > 0 && !self.overloaded(index)
    }
}

/// The facts about a packet that schedulers use. For a packet quoted by an ICMP error, source and
/// destination are swapped by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PickKey {
    /// The client's address; sh and mh hash it.
    pub source: IpAddr,
    /// The address the client talks to: the VIP, or any address behind a mark. dh hashes it, lblc and
    /// lblcr remember it.
    pub destination: IpAddr,
    /// The client's port for TCP, UDP and SCTP, else 0.
    pub source_port: u16,
    /// Seconds of a clock that never goes back; its zero has no meaning.
    pub now_secs: u32,
}

/// A scheduling method made ready for one list of real servers.
#[derive(Debug)]
pub struct Scheduler(Method);

/// Which one it is stands first, and not in a gap of the largest, which is another cache line than the others use.
#[derive(Debug)]
#[repr(u8)]
enum Method {
    Rr,
    Wrr(Wrr),
    Lc,
    Wlc,
    Sed,
    Nq,
    Fo,
    Ovf,
    Sh(SourceHash),
    Dh(DestinationHash),
    Mh(Maglev),
    Lblc(Locality),
    Lblcr(Locality),
    Twos,
}

impl Scheduler {
    /// Builds the immutable half for `service`. Control calls this for each new version of the list; it
    /// allocates, and for mh it fills the whole table.
    ///
    /// # Errors
    /// mh only: a table size that is not one of [`MAGLEV_TABLE_SIZES`], or more servers than it holds.
    pub fn build(service: &ServiceDescription) -> Result<Self, BuildError> {
        let servers = &service.servers;
        let options = &service.options;
        Ok(Self(match service.scheduler {
            Kind::Rr => Method::Rr,
            Kind::Wrr => Method::Wrr(Wrr::build(servers)),
            Kind::Lc => Method::Lc,
            Kind::Wlc => Method::Wlc,
            Kind::Sed => Method::Sed,
            Kind::Nq => Method::Nq,
            Kind::Fo => Method::Fo,
            Kind::Ovf => Method::Ovf,
            Kind::Sh => Method::Sh(SourceHash::build(servers, service.flags)),
            Kind::Dh => Method::Dh(DestinationHash::build(servers)),
            Kind::Mh => Method::Mh(Maglev::build(servers, service.flags, options)?),
            Kind::Lblc => Method::Lblc(Locality::build(servers, options.lblc_expiration_secs)),
            Kind::Lblcr => Method::Lblcr(Locality::build(servers, options.lblcr_expiration_secs)),
            Kind::Twos => Method::Twos,
        }))
    }

    /// Picks the real server of a new connection: its index in `servers`, or `None` when the connection
    /// has to be refused.
    ///
    /// `servers` is the list this scheduler was built from, `state` the calling worker's own.
    pub fn pick(&self, state: &State, servers: &impl Servers, key: &PickKey) -> Option<usize> {
        match &self.0 {
            Method::Rr => round_robin::rr(state, servers),
            Method::Wrr(wrr) => wrr.pick(state, servers),
            Method::Lc => servers.least(Measure::Connections),
            Method::Wlc => servers.least(Measure::Weighted),
            Method::Sed => servers.least(Measure::Expected),
            Method::Nq => servers.least(Measure::ExpectedOrIdle),
            Method::Fo => failover::fo(servers),
            Method::Ovf => failover::ovf(servers),
            Method::Sh(table) => table.pick(servers, key),
            Method::Dh(table) => table.pick(servers, key),
            Method::Mh(table) => table.pick(servers, key),
            Method::Lblc(locality) => locality.pick_single(state, servers, key),
            Method::Lblcr(locality) => locality.pick_replicated(state, servers, key),
            Method::Twos => two_choices::twos(state, servers),
        }
    }

    /// The real server that a client's flows have for good, by its index, where the scheduler is one that other directors pick alike
    /// with: a flow that is without a record here may have one there.
    #[inline]
    pub(crate) fn owner(&self, source: IpAddr, source_port: u16) -> Option<usize> {
        match &self.0 {
            Method::Mh(table) => table.owner(source, source_port),
            _ => None,
        }
    }

    /// Whether picks depend on how many connections real servers have.
    #[inline]
    pub(crate) fn looks_at_connections(&self) -> bool {
        use Method::{Dh, Fo, Lblc, Lblcr, Lc, Mh, Nq, Ovf, Rr, Sed, Sh, Twos, Wlc, Wrr};
        match self.0 {
            Lc | Wlc | Sed | Nq | Ovf | Lblc(_) | Lblcr(_) | Twos => true,
            Rr | Wrr(_) | Fo | Sh(_) | Dh(_) | Mh(_) => false,
        }
    }

    /// Whether [`Scheduler::expire`] has anything to do.
    pub(crate) fn forgets(&self) -> bool {
        matches!(self.0, Method::Lblc(_) | Method::Lblcr(_))
    }

    /// Forgets destinations that lblc and lblcr have not seen for long; nothing for the other methods.
    ///
    /// The worker calls it at least once a minute with the clock of [`PickKey::now_secs`]. The work of one
    /// call is bounded.
    pub fn expire(&self, state: &State, now_secs: u32) {
        if let Method::Lblc(locality) | Method::Lblcr(locality) = &self.0 {
            locality.expire(state, now_secs);
        }
    }
}

/// Maps an even 64-bit number to an even number in `0..range` (0 if `range` is 0).
fn scale(random: u64, range: u64) -> u64 {
    // The product's upper half is below `range`, so it fits.
    ((u128::from(random) * u128::from(range)) >> 64) as u64
}

/// Greatest common divisor; that of 0 and a number is the number.
fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
