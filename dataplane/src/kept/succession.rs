//! Taking connections over while packets flow: which memory can be, and who counts its records.
//!
//! A table is looked at as it is used, the rest by and by (`conn/table/adoption.rs`). Whoever begins so knows only what the book says, and
//! not which of its numbers connections have: so all of them are taken for such as some connection has, until all are looked at. That does
//! where the file has every virtual server that the book knows, and where nothing else hangs on connections; else all is looked at first.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, OnceLock};

use crossbeam::utils::CachePadded;
use dpdk::memory::Line;
use hashbrown::{HashMap, HashSet};
use weir_config::model::{Config, Family, Identity};

use super::adopt::{Adopted, Judge, Left, Opened};
use super::book::Numbers;
use crate::conn::record::{Record, ServiceId};
use crate::conn::table::{Heir, Table};
use crate::conn::template::Templates;
use crate::snapshot::Snapshot;
use crate::snapshot::registry::{Resumed, Standing, vips};
use crate::snapshot::server::Live;

/// What all workers' heirs share.
pub struct Succession {
    judge: Judge,
    /// By number, of the first snapshot.
    lives: OnceLock<Box<[Option<Arc<Live>>]>>,
    found: AtomicUsize,
    /// By worker, who alone writes it.
    kept: Box<[CachePadded<AtomicUsize>]>,
    /// Workers that are not done.
    left: AtomicUsize,
}

impl fmt::Debug for Succession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Succession").field(&self.adopted()).finish()
    }
}

impl Succession {
    /// Before a worker runs: `first` is the snapshot that it begins with.
    pub fn begin(&self, first: &Snapshot) {
        let end = first.numbered().map(|server| server.id.index() + 1).max().unwrap_or(0);
        let mut lives = vec![None; end];
        for server in first.numbered() {
            lives[server.id.index()] = Some(server.live.clone());
        }
        let _ = self.lives.set(lives.into());
    }

    /// What there is to say so far, and whether that is all.
    pub fn adopted(&self) -> (Adopted, bool) {
        let is_whole = self.left.load(Acquire) == 0;
        let kept = self.kept.iter().map(|kept| kept.load(Relaxed)).sum();
        (Adopted { found: self.found.load(Relaxed).max(kept), kept, ..Adopted::default() }, is_whole)
    }
}

/// Who takes over one worker's.
struct WorkersHeir {
    shared: Arc<Succession>,
    worker: usize,
    is_done: AtomicBool,
}

impl WorkersHeir {
    fn live(&self, record: Record) -> Option<&Live> {
        self.shared.lives.get()?.get(record.server().index())?.as_deref()
    }

    fn kept(&self) -> &AtomicUsize {
        &self.shared.kept[self.worker]
    }
}

impl Heir for WorkersHeir {
    fn goes_on(&self, record: Record) -> bool {
        self.shared.judge.goes_on(record)
    }

    fn take(&self, record: Record) -> bool {
        let Some(live) = self.live(record).filter(|_| self.goes_on(record)) else { return false };
        live.workers[self.worker].take_over(record.protocol(), record.state());
        self.kept().store(self.kept().load(Relaxed) + 1, Relaxed);
        true
    }

    fn give_up(&self, record: Record) {
        if let Some(live) = self.live(record) {
            live.workers[self.worker].give_up(record.protocol(), record.state());
            self.kept().store(self.kept().load(Relaxed).saturating_sub(1), Relaxed);
        }
    }

    fn end(&self, found: usize) {
        self.is_done.store(true, Relaxed);
        self.shared.found.fetch_add(found, Relaxed);
        self.shared.left.fetch_sub(1, Release);
    }

    fn is_done(&self) -> bool {
        self.is_done.load(Relaxed)
    }
}

impl Opened {
    /// Takes it over while packets flow, if that can be; else all at once, before any.
    pub fn by_and_by(self, config: &Config) -> (Left, Option<Arc<Succession>>) {
        if !numbers_can_wait(&self.numbers, config) || !self.has_connections_alone() {
            return (self.at_once(), None);
        }
        let Self { book, header, clock, numbers, judge, pieces } = self;
        let shared = Arc::new(Succession {
            judge: judge.clone(),
            lives: OnceLock::new(),
            found: AtomicUsize::new(0),
            kept: pieces.tables.iter().map(|_| CachePadded::default()).collect(),
            left: AtomicUsize::new(pieces.tables.len()),
        });
        let (capacity, key) = (header.table_capacity(), header.hash_key());
        let tables = pieces.tables.into_iter().enumerate().map(|(worker, (lines, clients))| {
            let heir = WorkersHeir { shared: shared.clone(), worker, is_done: AtomicBool::new(false) };
            Table::inherit(lines, capacity, key, Arc::new(heir)).with_clients(clients)
        });
        let tables = tables.collect();
        let (v4, v6) = pieces.templates;
        let templates = Templates::new(v4, v6, key);
        let adopted = Adopted::default();
        (Left { book, header, clock, numbers, judge, tables, templates, adopted }, Some(shared))
    }

    /// Whether there is no client of IPv6 and no template. A file without IPv6 and persistence has no lines for them.
    fn has_connections_alone(&self) -> bool {
        let (v4, v6) = &self.pieces.templates;
        let clients = self.pieces.tables.iter().map(|(_, clients)| clients);
        clients.chain([v4, v6]).all(|lines| is_blank(lines))
    }
}

fn is_blank(lines: &[Line]) -> bool {
    lines.iter().all(|line| line.0.iter().fold(0, |bits, word| bits | word.load(Relaxed)) == 0)
}

/// Whether a process may begin with all of these numbers, whichever connections have: each means one thing, the file has all that they
/// mean, and connections have one kind of hash.
fn numbers_can_wait(numbers: &Numbers, config: &Config) -> bool {
    let addresses = vips(config);
    let distinct: HashSet<&IpAddr> = numbers.vips.values().collect();
    if distinct.len() != numbers.vips.len() || !distinct.iter().all(|vip| addresses.contains(*vip)) {
        return false;
    }
    let wanted: HashSet<Identity> = config.virtual_servers.iter().map(|server| server.identity()).collect();
    let mut ids: HashMap<Identity, ServiceId> = HashMap::new();
    let is_one = numbers.servers.values().all(|named| {
        *ids.entry(named.service).or_insert(named.service_id) == named.service_id
            && wanted.contains(&named.service)
    });
    let distinct: HashSet<ServiceId> = ids.values().copied().collect();
    let is_plain = |server: &Identity| match server {
        Identity::Address { address, port, .. } => *port != 0 && Family::of(*address) == Family::V4,
        Identity::Mark { .. } => false,
    };
    is_one && distinct.len() == ids.len() && numbers.ties.is_empty() && wanted.iter().all(is_plain)
}

impl Standing {
    /// All that connections may name that have these numbers, if [`Opened::by_and_by`] goes that way.
    pub fn expected(numbers: &Numbers, workers: usize) -> Self {
        let resumed = numbers.servers.iter().map(|(id, named)| Resumed {
            id: *id,
            named: *named,
            counts: vec![[0; 2]; workers],
        });
        Self {
            vips: numbers.vips.iter().map(|(number, vip)| (*number, *vip)).collect(),
            servers: resumed.collect(),
            ties: Vec::new(),
            hashes: [true, false],
            shares_numbers: false,
        }
    }
}
