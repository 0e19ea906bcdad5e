//! First round of plain frames that go to another virtual server than the one before: to thousands in turn, maybe.
//!
//! Then what a packet needs is in no cache: its virtual server, its record, its real server, that one's counts, its next
//! hop, each of which tells where the next one is. So the frames of a burst take each of these steps together, and ask
//! the processor for what they need in the step to come: the waits are one after the other for a burst, not for a packet.

use arrayvec::ArrayVec;
use zerocopy::FromBytes;

use super::finding::Found;
use super::{Context, Director, Finding, SCATTERED};
use crate::conn::record::ServerId;
use crate::packet::{BURST, Burst, Frame};
use crate::parse::Plain;
use crate::snapshot::Snapshot;
use crate::snapshot::server::{Server, Tally};

impl<F: Frame> Director<F> {
    /// A usual or opening frame is to be looked at in [`Director::read_scattered`]. False: it can't, since which virtual
    /// server it asks for is not told by its destination alone.
    #[inline]
    pub(super) fn put_off(&mut self, plain: &Plain, finding: &mut Finding, context: Context<'_>) -> bool {
        let Plain { ip, tcp, .. } = plain;
        if context.snapshot.has_marks() {
            return false;
        }
        context.snapshot.prefetch_target(ip.destination.get(), tcp.destination.get(), ip.protocol);
        finding.put_off();
        self.further |= SCATTERED;
        true
    }

    /// Looks at the frames that were put off.
    #[inline(never)]
    pub(super) fn read_scattered(
        &mut self,
        burst: &Burst<F>,
        findings: &mut [Finding],
        context: Context<'_>,
    ) {
        let snapshot = context.snapshot;
        let mut scattered = ArrayVec::<Scattered, BURST>::new();
        for (number, finding) in findings.iter().take(burst.len()).enumerate() {
            if matches!(finding.found(), Found::PutOff) {
                scattered.push(Scattered { number: number as u8, server: None });
            }
        }
        for (frame, finding, _) in chosen(burst, findings, &mut scattered) {
            self.read_one(frame, finding, context);
        }
        for (frame, finding, _) in chosen(burst, findings, &mut scattered) {
            if let Found::Opening(lookup) = finding.found()
                && let Ok((plain, _)) = Plain::ref_from_prefix(frame.bytes())
            {
                snapshot.prefetch_opening(lookup.service, plain.ip.source.get());
            }
        }
        for (_, finding, server) in chosen(burst, findings, &mut scattered) {
            match finding.found() {
                Found::Opening(lookup) => snapshot.prefetch_service(lookup.service),
                Found::Usual(key) => {
                    if let Some(record) = self.table.find_in_any_state(key) {
                        *server = Some(record.server());
                        snapshot.prefetch_server(record.server());
                    }
                }
                _ => {}
            }
        }
        for (_, finding, server) in chosen(burst, findings, &mut scattered) {
            if let Found::Opening(lookup) = finding.found() {
                if let Some(service) = snapshot.service(lookup.service) {
                    service.prefetch(self.shared.worker);
                    self.prefetch_template(service, lookup.key.client());
                }
            } else if let Some(tally) = self.tally(*server, snapshot) {
                dpdk::lcore::prefetch(tally);
            }
        }
        let mut has_stale = false;
        for (_, finding, server) in chosen(burst, findings, &mut scattered) {
            if let Found::Opening(lookup) = finding.found() {
                self.table.prefetch_next(lookup.hash);
                if let Some(service) = snapshot.service(lookup.service) {
                    service.prefetch_counts(self.shared.worker);
                }
            } else if let Some(server) = server.and_then(|server| snapshot.get_server(server))
                && let Some(tally) = server.tallies.get(self.shared.worker)
            {
                has_stale |= !self.prefetch_hop(server, tally);
            }
        }
        if has_stale {
            for Scattered { server, .. } in scattered {
                if let Some(server) = server.and_then(|server| snapshot.get_server(server)) {
                    self.settle(server, context);
                }
            }
        }
    }

    /// Asks the processor for a real server's next hop, or for what [`Director::settle`] needs. False: that comes next.
    #[inline]
    pub(super) fn prefetch_hop(&self, server: &Server, tally: &Tally) -> bool {
        let is_present = self.neighbors.prefetch(tally.neighbor.get());
        if !is_present {
            dpdk::lcore::prefetch(&server.bound);
            self.neighbors.prefetch_search(server.hop);
        }
        is_present
    }

    /// Finds a real server's next hop again after static neighbours have changed, unless it has to be asked for.
    #[cold]
    pub(super) fn settle(&mut self, server: &Server, context: Context<'_>) {
        let Some(tally) = server.tallies.get(self.shared.worker) else { return };
        let slot = self.neighbors.settle(tally.neighbor.get(), server.hop, server.bound, context.now);
        if let Some(slot) = slot {
            tally.neighbor.set(slot);
        }
    }

    #[inline]
    pub(super) fn tally<'a>(&self, server: Option<ServerId>, snapshot: &'a Snapshot) -> Option<&'a Tally> {
        Some(snapshot.get_server(server?)?.tallies.get(self.shared.worker)?)
    }

    /// Finds the virtual server of a frame that was put off; the frame is read in any other way if there is none.
    #[inline]
    fn read_one(&mut self, frame: &F, finding: &mut Finding, context: Context<'_>) {
        if let Ok((plain, _)) = Plain::ref_from_prefix(frame.bytes()) {
            let Plain { ip, tcp, .. } = plain;
            let (address, port) = (ip.destination.get(), tcp.destination.get());
            if let Some(target) = context.snapshot.unmarked_target(address, port, ip.protocol)
                && let Some(usual) = self.last_service.set(plain, target)
            {
                if plain.is_steady() {
                    let key = self.table.usual_key(usual, ip.source.get(), tcp.source.get());
                    self.table.usual_records(context.now.seconds).prefetch(key);
                    finding.set_usual(key);
                } else {
                    self.read_fresh(plain, &target, finding);
                }
                return;
            }
        }
        self.read_any(frame, finding.set_other(), context);
    }
}

/// A frame that was put off.
struct Scattered {
    /// In the burst.
    number: u8,
    /// The real server of its connection, once it is known.
    server: Option<ServerId>,
}

/// The frames that were put off, what was found out about them, and their real servers.
#[inline]
fn chosen<'a, F>(
    burst: &'a Burst<F>,
    findings: &'a mut [Finding],
    scattered: &'a mut [Scattered],
) -> impl Iterator<Item = (&'a F, &'a mut Finding, &'a mut Option<ServerId>)> {
    let mut left = findings.iter_mut().enumerate();
    scattered.iter_mut().filter_map(move |Scattered { number, server }| {
        let number = usize::from(*number);
        let (_, finding) = left.find(|(at, _)| *at == number)?;
        Some((burst.get(number)?, finding, server))
    })
}
