//! One worker as the director that it runs, with a clock that only passes move.

use std::sync::Arc;

use anyhow::{Result, ensure};
use dpdk::{Eal, Line, Slab, SocketId};
use weir_benches::frames::OWN;
use weir_benches::lab::{HASH_KEY, read};
use weir_benches::pool::{PoolFrame, PoolWire};
use weir_config::model::Config;
use weir_dataplane::clock::Now;
use weir_dataplane::conn::clients::Clients;
use weir_dataplane::conn::table::{HashKey, Table, View};
use weir_dataplane::conn::template::Templates;
use weir_dataplane::director::{Director, Message, Shared};
use weir_dataplane::packet::{BURST, Burst, Frame};
use weir_dataplane::sched::Options;
use weir_dataplane::snapshot::publish::{Publisher, Reader};
use weir_dataplane::snapshot::registry::{Progress, Registry};
use weir_dataplane::snapshot::virtual_router::RouterKey;
use weir_dataplane::stats::WorkerCounters;

use crate::recorder::Recorder;
use crate::traffic::{Flow, Kind, Segments};

/// Passes in a millisecond of the injected clock: those of a worker that forwards 20 million packets a second.
const PASSES_PER_MILLI: u64 = 300;
/// Octets that are read and written to empty the caches: several times the largest.
const OTHER_OCTETS: usize = 128 << 20;

/// The EtherType of ARP.
const ARP: [u8; 2] = [8, 6];

/// See the module.
pub(crate) struct Rig<'a> {
    recorder: &'a mut Recorder,
    registry: Registry,
    publisher: Publisher,
    reader: Reader,
    director: Director<PoolFrame>,
    pub(crate) counters: Arc<WorkerCounters>,
    templates: Arc<Templates>,
    shared: Shared,
    pub(crate) view: View,
    pub(crate) wire: PoolWire,
    burst: Box<Burst<PoolFrame>>,
    segments: Segments,
    passes: u64,
    /// Milliseconds that were skipped.
    skipped: u64,
    nanos_per_cycle: f64,
    /// ARP frames that were sent.
    pub(crate) arp_sent: u64,
    others: Vec<u8>,
}

impl<'a> Rig<'a> {
    /// With empty tables, and past the announcements of a start.
    pub(crate) fn new(recorder: &'a mut Recorder, eal: Option<&Eal>, file: &str) -> Result<Self> {
        Self::with(recorder, eal, &read(file), Registry::new(1, Options::default()))
    }

    /// As [`Rig::new`], from a registry.
    pub(crate) fn with(
        recorder: &'a mut Recorder,
        eal: Option<&Eal>,
        config: &Config,
        mut registry: Registry,
    ) -> Result<Self> {
        let publisher = Publisher::new(registry.snapshot(config, &[OWN], Progress::default())?);
        let memory = |lines| -> Result<Slab<Line>> {
            Ok(match eal {
                Some(eal) => Slab::hugepages(eal, lines, SocketId::ANY)?,
                None => Slab::heap(lines)?,
            })
        };
        let key = HashKey::new(HASH_KEY);
        let capacity = config.connections.capacity as usize;
        let table = Table::new(memory(Table::lines_beside(capacity, config.templates()))?, capacity, key);
        let table = table.with_clients(memory(Clients::lines_for(config.ipv6_clients()))?);
        let lines6 = memory(Templates::lines_for_ipv6(config.ipv6_templates()))?;
        let lines = memory(Templates::lines_for(config.templates()))?;
        let templates = Arc::new(Templates::new(lines, lines6, key));
        let view = table.view();
        let views: Arc<[View]> = [table.view()].into();
        let shared = Shared::new(1, 1).remove(0);
        let counters = shared.counters.clone();
        let mut rig = Self {
            recorder,
            registry,
            reader: publisher.reader(),
            publisher,
            director: Director::new(shared.clone(), table, views, templates.clone()),
            counters,
            templates,
            shared,
            view,
            wire: PoolWire::default(),
            burst: Box::default(),
            segments: Segments::new(),
            passes: 0,
            skipped: 0,
            arp_sent: 0,
            nanos_per_cycle: 1e9 / dpdk::tsc_hz() as f64,
            others: vec![1; OTHER_OCTETS],
        };
        for _ in 0..20_000 {
            rig.skipped += 1;
            rig.pass();
            rig.wire.recycle();
        }
        Ok(rig)
    }

    /// The next step of the scenario.
    pub(crate) fn step(&mut self, name: &str) {
        self.recorder.step(name);
    }

    /// The end of a step.
    pub(crate) fn check(&self) -> Result<()> {
        self.recorder.check()
    }

    /// Puts a frame that is made of these bytes into the next pass's burst.
    pub(crate) fn load(&mut self, bytes: &[u8]) {
        let frame = self.wire.receive(bytes);
        self.burst.push(frame);
    }

    /// As [`Rig::load`], a segment of a flow.
    pub(crate) fn load_flow(&mut self, kind: Kind, flow: Flow) {
        let frame = self.wire.receive(self.segments.of(kind, flow));
        self.burst.push(frame);
    }

    /// A pass with what was loaded.
    pub(crate) fn pass_noted(&mut self) {
        let nanos = self.pass();
        self.recorder.note(nanos);
        self.arp_sent += self.wire.sent.iter().filter(|frame| frame.bytes()[12..14] == ARP).count() as u64;
        self.wire.recycle();
    }

    /// Segments of these flows, burst by burst.
    pub(crate) fn send(&mut self, kind: Kind, flows: impl Iterator<Item = Flow>) {
        let mut flows = flows.peekable();
        while flows.peek().is_some() {
            for flow in flows.by_ref().take(BURST) {
                self.load_flow(kind, flow);
            }
            self.pass_noted();
        }
    }

    /// As [`Rig::send`], with other things in the caches before every burst.
    pub(crate) fn send_cold(&mut self, kind: Kind, flows: impl Iterator<Item = Flow>) {
        let mut flows = flows.peekable();
        while flows.peek().is_some() {
            for flow in flows.by_ref().take(BURST) {
                self.load_flow(kind, flow);
            }
            self.empty_caches();
            for frame in self.burst.iter() {
                std::hint::black_box(frame.bytes().iter().fold(0, |sum, byte| sum ^ byte));
            }
            self.pass_noted();
        }
    }

    /// Lets time go by without a pass.
    pub(crate) fn skip_millis(&mut self, millis: u64) {
        self.skipped += millis;
    }

    /// Leaves a message of another worker's. False: there is no room for it.
    pub(crate) fn tell(&self, message: Message) -> bool {
        self.shared.inboxes[0].push(message).is_ok()
    }

    /// Whether messages wait.
    pub(crate) fn is_told(&self) -> bool {
        !self.shared.inboxes[0].is_empty()
    }

    /// Publishes this file, with these VRRP instances as master. What the caches hold then is other things, as on a core
    /// that does not run control.
    pub(crate) fn publish(
        &mut self,
        config: &Config,
        masters: impl IntoIterator<Item = RouterKey>,
    ) -> Result<()> {
        let progress = Progress::of(std::iter::once(&*self.counters), Some(&self.templates));
        let next = self.registry.snapshot(config, &[OWN], progress)?;
        self.publisher.publish(next);
        self.set_masters(masters)
    }

    /// Makes these VRRP instances master, and no others, as VRRP's thread does.
    pub(crate) fn set_masters(&mut self, masters: impl IntoIterator<Item = RouterKey>) -> Result<()> {
        let is_set = self.publisher.masters().try_set(&masters.into_iter().collect());
        ensure!(is_set, "somebody else publishes");
        self.empty_caches();
        Ok(())
    }

    /// The snapshot in force.
    pub(crate) fn snapshot(&self) -> Arc<weir_dataplane::snapshot::Snapshot> {
        self.publisher.current()
    }

    /// Every frame was passed on: `packets` since the start.
    pub(crate) fn expect_forwarded(&self, packets: u64) -> Result<()> {
        let forwarded = self.counters.forwarded.get();
        ensure!(forwarded == packets, "{forwarded} packets were forwarded, not {packets}");
        Ok(())
    }

    fn empty_caches(&mut self) {
        for line in self.others.chunks_mut(64) {
            line[0] = line[0].wrapping_add(1);
        }
        std::hint::black_box(&self.others);
    }

    /// Nanoseconds of a pass.
    fn pass(&mut self) -> f32 {
        self.passes += 1;
        let millis = self.skipped + self.passes / PASSES_PER_MILLI;
        let now = Now { cycles: self.passes, seconds: (millis / 1000) as u32, millis };
        let begin = dpdk::tsc();
        let snapshot = self.reader.load();
        self.director.adopt(snapshot);
        self.director.process(&mut self.burst, 0, snapshot, now, &mut self.wire);
        self.director.inject(snapshot, now, &mut self.wire);
        self.director.upkeep(snapshot, now, &mut self.wire);
        ((dpdk::tsc() - begin) as f64 * self.nanos_per_cycle) as f32
    }
}
