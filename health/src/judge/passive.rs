//! Passive health: what clients' connections say of a real server.
//!
//! The data plane counts, for each real server behind NAT, connections opened and answered by SYN-ACK.
//! Over a sliding window a server fails when enough connections were opened and enough of them were not answered, whether
//! they were refused or met silence. An answer needs time, so the window of what was opened ends `GRACE` ago, and that of
//! answers now: who answers within that time is never ejected.
//!
//! A server that fails is out for a while: twice as long each further time, and once less for each such time that it
//! behaved. How many may be out at a time is limited, so that a fault of the network can't empty a virtual server.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use weir_config::model::Identity;
use weir_config::model::health::Passive;

use super::Moment;

/// A SYN may take so long to be answered: a retransmission and the way there and back.
const GRACE: Duration = Duration::from_secs(2);
/// The time out doubles so often at most.
const DOUBLINGS_MAX: u32 = 16;
/// Samples kept: more than a window holds at one each second.
const SAMPLES_MAX: usize = 512;

/// Counters of one real server, all from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The virtual server.
    pub service: Identity,
    /// The real server's address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Connections opened.
    pub opened: u64,
    /// Connections that it answered.
    pub answered: u64,
}

#[derive(Debug, Clone, Copy)]
struct Counts {
    at: Moment,
    opened: u64,
    answered: u64,
}

/// The record of one real server.
#[derive(Debug, Clone, Default)]
pub(super) struct Ejection {
    samples: VecDeque<Counts>,
    /// It is out until then.
    until: Option<Moment>,
    /// Why.
    reason: String,
    /// How often the time out has doubled.
    doublings: u32,
    /// Back in since then, or behaved since.
    good_since: Moment,
    count: u64,
}

impl Ejection {
    /// Whether it was out when it was last looked at.
    pub(super) fn was_out(&self) -> bool {
        self.until.is_some()
    }

    pub(super) fn is_out(&self, now: Moment) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Ends an ejection that is over. Whether it is out now.
    pub(super) fn renew(&mut self, now: Moment) -> bool {
        if self.until.is_some_and(|until| now >= until) {
            self.until = None;
            self.good_since = now;
            // It begins anew: what it did before it was out is paid for.
            self.samples.clear();
        }
        self.until.is_some()
    }

    /// Why it is out, if it is.
    pub(super) fn reason(&self, now: Moment) -> Option<String> {
        let until = self.until.filter(|until| now < *until)?;
        Some(format!("{}; out for {:.0} s", self.reason, (until - now).as_secs_f64()))
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Takes counters in; true if the server is out from now on.
    pub(super) fn observe(
        &mut self,
        now: Moment,
        sample: &Sample,
        passive: &Passive,
        may_eject: bool,
    ) -> bool {
        let counts = Counts { at: now, opened: sample.opened, answered: sample.answered };
        // Counters that went back are those of another server with the same address, or went round.
        if self
            .samples
            .back()
            .is_some_and(|last| last.opened > counts.opened || last.answered > counts.answered)
        {
            self.samples.clear();
        }
        self.samples.push_back(counts);
        while self.samples.len() > SAMPLES_MAX
            || self.samples.get(1).is_some_and(|next| next.at + passive.window + GRACE <= now)
        {
            self.samples.pop_front();
        }
        if self.was_out() {
            return false;
        }
        if self.doublings > 0 && now.saturating_sub(self.good_since) > self.term(passive) {
            self.doublings -= 1;
            self.good_since = now;
        }
        let Some((opened, failed)) = self.failures(now, passive) else { return false };
        let is_bad = opened >= u64::from(passive.connections_min)
            && failed * 100 >= opened * u64::from(passive.failures_percent);
        if !is_bad || !may_eject {
            return false;
        }
        self.reason =
            format!("{failed} of {opened} connections failed within {:.0} s", passive.window.as_secs_f64());
        self.until = Some(now + self.term(passive));
        self.doublings = (self.doublings + 1).min(DOUBLINGS_MAX);
        self.count += 1;
        true
    }

    /// How long it is out the next time.
    fn term(&self, passive: &Passive) -> Duration {
        passive.ejection.saturating_mul(1 << self.doublings).min(passive.ejection_max)
    }

    /// Connections opened and failed in the window; `None`: too early to say.
    fn failures(&self, now: Moment, passive: &Passive) -> Option<(u64, u64)> {
        let at = |moment: Moment| self.samples.iter().rev().find(|counts| counts.at <= moment);
        let newest = self.samples.back()?;
        // Whatever was opened until then had its time to be answered.
        let settled = at(now.checked_sub(GRACE)?)?;
        let first = self.samples.front()?;
        let oldest = now.checked_sub(passive.window + GRACE).and_then(at).unwrap_or(first);
        let opened = settled.opened - oldest.opened;
        // Some of the latest answers are to connections opened since, which counts in the server's favour.
        let answered = newest.answered.saturating_sub(oldest.answered);
        Some((opened, opened.saturating_sub(answered)))
    }
}
