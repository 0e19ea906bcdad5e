//! Metrics: what workers count, summed when somebody asks.
//!
//! [`reading`] adds up the counters of all workers with relaxed loads, so that workers never notice; [`families`] is
//! the table of what becomes of them in Prometheus. [`Metrics`] is the `Collector` over both.
//!
//! Invariants:
//! 1. Counters never go back while weir runs: a virtual server's totals keep the share of real servers that were
//!    removed since.
//! 2. One metric family at a time is held in memory while a page is written: the million samples of 10,000 virtual
//!    servers with ten real servers each take half a gigabyte in the form that a [`prometheus::Registry`] gathers, and
//!    a fifth of one this way.

pub(crate) mod families;
pub(crate) mod reading;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, TextEncoder};

use crate::sources::Sources;
use families::FAMILIES;
use reading::Reading;

/// See the module.
pub(crate) struct Metrics {
    sources: Sources,
    descriptions: Vec<Desc>,
    /// Length of the last page: the next one is about as long.
    last_len: AtomicUsize,
}

impl Metrics {
    /// The metrics of a director.
    ///
    /// # Errors
    /// A family of the table that Prometheus does not accept, which a test rules out.
    pub(crate) fn new(sources: Sources) -> prometheus::Result<Self> {
        let descriptions =
            FAMILIES.iter().map(families::Family::describe).collect::<prometheus::Result<_>>()?;
        Ok(Self { sources, descriptions, last_len: AtomicUsize::new(0) })
    }

    /// Where the figures come from.
    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// All figures now.
    pub(crate) fn read(&self) -> Reading {
        Reading::take(&self.sources)
    }

    /// The page for Prometheus, in its text format 0.0.4.
    ///
    /// # Errors
    /// What the encoder says, which has no reason to.
    pub(crate) fn text(&self) -> prometheus::Result<Vec<u8>> {
        let last = self.last_len.load(Relaxed);
        let mut text = Vec::with_capacity(last + last / 16 + 4096);
        for family in self.families() {
            TextEncoder::new().encode(std::slice::from_ref(&family), &mut text)?;
        }
        self.last_len.store(text.len(), Relaxed);
        Ok(text)
    }

    /// The families that have samples, of one reading, each made when its turn comes.
    fn families(&self) -> impl Iterator<Item = MetricFamily> {
        let reading = self.read();
        FAMILIES
            .iter()
            .map(move |family| family.collect(&reading))
            .filter(|family| !family.get_metric().is_empty())
    }
}

impl Collector for Metrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.families().collect()
    }
}
