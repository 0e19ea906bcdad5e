//! Metrics: what workers count, summed when somebody asks.
//!
//! [`reading`] adds up the counters of all workers with relaxed loads, so that workers never notice; [`families`] is
//! the table of what becomes of them in Prometheus, and [`format`](mod@format) writes it down. [`Metrics`] is the `Collector` over all.
//!
//! Invariants:
//! 1. Counters never go back while weir runs: a virtual server's totals keep the share of real servers that were
//!    removed since.
//! 2. One metric family at a time is held in memory while a page is written: the million samples of 10,000 virtual
//!    servers with ten real servers each take half a gigabyte in the form that a [`prometheus::Registry`] gathers, and
//!    a fifth of one this way.

pub(crate) mod families;
pub(crate) mod format;
pub(crate) mod process;
pub(crate) mod reading;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use crate::sources::Sources;
use families::FAMILIES;
use format::{Wanted, Without};
use reading::Reading;

/// See the module.
pub(crate) struct Metrics {
    sources: Sources,
    descriptions: Vec<Desc>,
    /// Length of the last page of each kind: the next one is about as long.
    last_len: [AtomicUsize; Wanted::LENGTHS],
}

impl Metrics {
    /// The metrics of a director.
    ///
    /// # Errors
    /// A family of the table that Prometheus does not accept, which a test rules out.
    pub(crate) fn new(sources: Sources) -> prometheus::Result<Self> {
        let descriptions =
            FAMILIES.iter().map(families::Family::describe).collect::<prometheus::Result<_>>()?;
        Ok(Self { sources, descriptions, last_len: Default::default() })
    }

    /// Where the figures come from.
    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// All figures now.
    pub(crate) fn read(&self) -> Reading {
        self.read_without(Without::Nothing)
    }

    /// All figures now but these.
    pub(crate) fn read_without(&self, without: Without) -> Reading {
        Reading::take(&self.sources, without)
    }

    /// The page for Prometheus, in the form that is wanted.
    ///
    /// # Errors
    /// What the encoder says, which has no reason to.
    pub(crate) fn page(&self, wanted: Wanted) -> prometheus::Result<Vec<u8>> {
        let last_len = &self.last_len[wanted.length()];
        let last = last_len.load(Relaxed);
        let page = wanted.page(self.families(wanted), last + last / 16 + 4096)?;
        last_len.store(page.len(), Relaxed);
        Ok(page)
    }

    /// The families that have samples, of one reading, each made when its turn comes.
    fn families(&self, wanted: Wanted) -> impl Iterator<Item = MetricFamily> {
        let reading = self.read_without(wanted.without);
        FAMILIES
            .iter()
            .filter(move |family| !wanted.leaves_out(family))
            .map(move |family| family.collect(&reading))
            .filter(|family| !family.get_metric().is_empty())
    }
}

impl Collector for Metrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.families(Wanted::default()).collect()
    }
}
