//! Directors that share a configuration, whose every step is checked.

use std::sync::Arc;

use dpdk::Slab;
use hashbrown::HashSet;
use weir_config::model::{Config, MacAddress};

use super::buffer::{Books, Buffer};
use super::case::{Arrival, Case, Step};
use super::files::{lasting_vips, parsed};
use super::grammar::{OWN, OWN_MACS};
use super::judge::judge;
use crate::address::Addr4;
use crate::clock::Now;
use crate::conn::clients::Clients;
use crate::conn::table::{HashKey, Table, View};
use crate::conn::template::Templates;
use crate::director::tests::assert_counts_equal_a_recount;
use crate::director::{Director, Shared};
use crate::packet::Burst;
use crate::punt::{self, Channel, Owner, Punt};
use crate::sched::Options;
use crate::snapshot::Snapshot;
use crate::snapshot::registry::{Progress, Registry};
use crate::snapshot::virtual_router::RouterKey;
use crate::stats::{Answer, DropReason, PuntClass, WorkerCounters};

const PORTS: usize = 2;
const HZ: u64 = 1 << 30;
/// Longer than any next hop is asked for, and than a piece waits for its first one.
const ASKED_MS: u64 = 70_000;

/// See the module.
pub(super) struct Rig {
    /// Those that no file takes away.
    vips: Vec<Addr4>,
    configs: Vec<Config>,
    registry: Registry,
    snapshot: Snapshot,
    masters: HashSet<RouterKey>,
    directors: Vec<Director<Buffer>>,
    counters: Vec<Arc<WorkerCounters>>,
    templates: Arc<Templates>,
    channels: Vec<Channel>,
    books: Books,
    millis: u64,
    skew_ms: u64,
}

impl Rig {
    /// For a case, before its first step.
    pub(super) fn new(case: &Case) -> Self {
        let workers = case.workers;
        let configs: Vec<Config> = case.files.iter().map(|file| parsed(file)).collect();
        let mut registry = Registry::new(workers, Options::default());
        let macs = OWN_MACS.map(MacAddress);
        let mut snapshot = registry.snapshot(&configs[0], &macs, Progress::default()).expect("a valid file");
        snapshot.set_masters(&HashSet::new());
        let capacity = configs[0].connections.capacity as usize;
        let key = HashKey::new([0x1234_5678_9abc_def1, 0x9e37_79b9_7f4a_7c15]);
        let lines = || Slab::heap(Table::lines_for(capacity)).expect("memory");
        // So few that some find no room.
        let clients = || Slab::heap(Clients::lines_for(24)).expect("memory");
        let tables: Vec<Table> =
            (0..workers).map(|_| Table::new(lines(), capacity, key).with_clients(clients())).collect();
        let views: Arc<[View]> = tables.iter().map(Table::view).collect();
        let templates = Slab::heap(Templates::lines_for(64)).expect("memory");
        let lines6 = Slab::heap(Templates::lines_for_ipv6(64)).expect("memory");
        let templates = Arc::new(Templates::new(templates, lines6, key));
        let mut shared = Shared::new(workers, PORTS);
        shared.iter_mut().for_each(|shared| shared.flows_move = case.flows_move);
        let counters = shared.iter().map(|shared| shared.counters.clone()).collect();
        let mut punts: Vec<Punt> = (0..workers).map(|_| Punt::default()).collect();
        let mut channels = Vec::new();
        if case.has_control {
            channels.push(Channel::connect(Owner::Vrrp, &mut punts));
            channels.push(Channel::connect_host(&mut punts, &Arc::new(punt::Hosted::new([1, 2], HZ))));
        }
        let of = |((shared, table), punt)| {
            Director::new(shared, table, views.clone(), templates.clone()).with_punt(punt)
        };
        let directors = shared.into_iter().zip(tables).zip(punts).map(of).collect();
        let mut rig = Self {
            vips: lasting_vips(&case.files),
            configs,
            registry,
            snapshot,
            masters: HashSet::new(),
            directors,
            counters,
            templates,
            channels,
            books: Books::default(),
            millis: 1,
            skew_ms: case.skew_ms,
        };
        rig.pass(1, &mut |_| {});
        rig
    }

    /// Does a step and checks all that must hold. `seen` is shown each frame that goes out.
    pub(super) fn step(&mut self, step: &Step, seen: &mut impl FnMut(&[u8])) {
        match step {
            Step::Burst { worker, port, frames } => self.burst(*worker, *port, frames),
            Step::Reload(file) => self.reload(*file),
            Step::Master(is_master) => {
                let routers = self.configs[0].vrrp.iter().filter(|_| *is_master);
                self.masters = routers.map(RouterKey::of).collect();
                self.snapshot.set_masters(&self.masters);
            }
            Step::Pass(millis) => self.pass(*millis, seen),
            Step::Dry(is_dry) => self.books.is_dry = *is_dry,
        }
        self.look(seen);
        self.check();
    }

    /// After the last step: what waits gets its answer or its end, and then the books are even.
    pub(super) fn finish(&mut self) {
        self.books.is_dry = false;
        for _ in 0..40 {
            self.pass(ASKED_MS / 40, &mut |_| {});
        }
        assert_eq!(self.waiting(), 0, "frames that still wait when nobody is asked any more");
        self.check();
    }

    fn burst(&mut self, worker: usize, port: usize, frames: &[Arrival]) {
        let now = self.now(worker);
        let received = frames.iter().map(|frame| Buffer::received(&frame.bytes, frame.first));
        let mut burst: Burst<Buffer> = received.collect();
        self.books.received += burst.len() as u64;
        let director = &mut self.directors[worker];
        director.adopt(&self.snapshot);
        director.process(&mut burst, port, &self.snapshot, now, &mut self.books);
        assert!(burst.is_empty(), "{} frames of a burst were left in it", burst.len());
        director.upkeep(&self.snapshot, now, &mut self.books);
    }

    fn reload(&mut self, file: usize) {
        let progress = Progress::of(self.counters.iter().map(|counters| &**counters), Some(&self.templates));
        let macs = OWN_MACS.map(MacAddress);
        self.snapshot = self.registry.snapshot(&self.configs[file], &macs, progress).expect("a valid file");
        self.snapshot.set_masters(&self.masters);
        self.pass(1, &mut |_| {});
    }

    /// Lets time pass, with some calls of upkeep in it.
    fn pass(&mut self, millis: u64, seen: &mut impl FnMut(&[u8])) {
        let calls = millis.clamp(1, 8);
        let start = self.millis;
        for call in 1..=calls {
            self.millis = start + millis * call / calls;
            for worker in 0..self.directors.len() {
                let now = self.now(worker);
                let director = &mut self.directors[worker];
                director.adopt(&self.snapshot);
                director.upkeep(&self.snapshot, now, &mut self.books);
            }
        }
        self.look(seen);
    }

    fn now(&self, worker: usize) -> Now {
        let millis = self.millis + self.skew_ms * worker as u64;
        Now { cycles: 0, seconds: (millis / 1_000) as u32, millis }
    }

    /// Judges what was sent since the last look, and empties the rings to control.
    fn look(&mut self, seen: &mut impl FnMut(&[u8])) {
        for (port, frame) in std::mem::take(&mut self.books.sent) {
            let bytes = frame.whole();
            self.books.announced += u64::from(frame.came().is_none() && is_announcement(&bytes));
            let mtu = usize::from(self.snapshot.ports[port].mtu);
            if let Err(fault) = judge(frame.came(), &bytes, (port, mtu), &self.vips) {
                panic!("{fault}\n  came {:02x?}\n  went out of port {port} {bytes:02x?}", frame.came());
            }
            seen(&bytes);
        }
        let mut taken = Vec::new();
        self.channels.iter_mut().for_each(|channel| while channel.pop(&mut taken).is_some() {});
    }

    fn waiting(&self) -> u64 {
        let of = |director: &Director<Buffer>| {
            director.neighbors.waiting() + director.neighbors6.waiting() + director.held.waiting()
        };
        self.directors.iter().map(|director| of(director) as u64).sum()
    }

    fn count(&self, of: impl Fn(&WorkerCounters) -> u64) -> u64 {
        self.counters.iter().map(|counters| of(counters)).sum()
    }

    /// Every buffer is somewhere, every frame has one end, and connections are counted as they are.
    fn check(&self) {
        let (books, waiting) = (&self.books, self.waiting());
        let taken = books.received + books.allocated;
        let ended = books.transmitted + books.released;
        assert_eq!(taken, ended + waiting, "buffers taken, and those sent, let go of or waiting");

        let answers = self.count(|counters| Answer::ALL.iter().map(|answer| counters.answers(*answer)).sum());
        let sent = self.count(|counters| {
            let sent = [
                &counters.forwarded,
                &counters.arp_requests,
                &counters.nd_solicitations,
                &counters.mld_reports,
            ];
            sent.into_iter().map(|sent| sent.get()).sum()
        });
        let counted = sent + answers + books.announced + books.echo_pieces;
        assert_eq!(books.transmitted, counted, "frames sent, and those counted");

        let drops = self.count(|counters| DropReason::ALL.iter().map(|reason| counters.drops(*reason)).sum());
        let punted = self.count(|counters| PuntClass::ALL.iter().map(|class| counters.punted(*class)).sum());
        let absorbed = self.count(|counters| counters.absorbed.get());
        let counted = drops + punted + absorbed + books.cut;
        // Of a packet that was cut, all pieces may wait; of one for which the pool ran dry none is counted.
        let range = counted..=counted + waiting;
        let is_even = books.was_dry || range.contains(&books.released);
        assert!(is_even, "{} frames let go of, {range:?} counted", books.released);

        let tables = || self.directors.iter().map(|director| &director.table);
        assert_counts_equal_a_recount(tables(), &self.snapshot);
        for table in tables() {
            assert_eq!(table.len(), table.iter().count(), "records of a table");
            let clients =
                table.iter().map(|record| record.client()).filter(|it| table.clients.address(*it).is_some());
            let clients: HashSet<Addr4> = clients.collect();
            assert_eq!(table.clients.known(), clients.len(), "IPv6 clients of a table");
        }
    }
}

/// ARP about a VIP from itself, to everybody, or an advertisement of neighbour discovery.
fn is_announcement(frame: &[u8]) -> bool {
    let l3 = if frame.get(12..14) == Some(&[0x81, 0]) { 18 } else { 14 };
    if frame.get(l3 - 2..l3) == Some(&[0x86, 0xdd]) {
        return frame.get(l3 + 6) == Some(&58) && frame.get(l3 + 40) == Some(&136);
    }
    let is_own = |address: &[u8]| OWN.iter().any(|own| own.octets() == *address);
    let is_about_itself =
        || frame[l3 + 14..l3 + 18] == frame[l3 + 24..l3 + 28] && !is_own(&frame[l3 + 14..l3 + 18]);
    frame.get(l3 - 2..l3) == Some(&[8, 6]) && frame.len() >= l3 + 28 && is_about_itself()
}
