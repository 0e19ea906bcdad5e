//! From control to workers: one pointer swap, and the old value freed by control.
//!
//! Two threads swap: control, what it has built, and VRRP's thread, who is master. Each swap is a turn that a lock
//! gives, held for microseconds; VRRP's thread does not wait for it but comes again. Whatever control puts in force has the
//! masters that were told last, however long it took to build.
//!
//! The next snapshot is made of a former one, by what changed since. Whoever still holds the last one, a worker that waits for its core
//! or a reader of all figures, would have that cost a copy: some 20 milliseconds with a hundred thousand real servers. So there are
//! `SPARES` former ones, and whole snapshots come with as many copies.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use arc_swap::{ArcSwap, Cache};
use crossbeam::utils::CachePadded;
use hashbrown::HashSet;

use super::Snapshot;
use super::virtual_router::RouterKey;

/// The pointer to what is in force, on a line of its own: workers read it with every burst, and what control writes
/// beside it would take it out of their caches. A clone is the same pointer.
#[derive(Clone)]
pub struct Current(Arc<CachePadded<ArcSwap<Snapshot>>>);

impl Deref for Current {
    type Target = ArcSwap<Snapshot>;

    #[inline]
    fn deref(&self) -> &ArcSwap<Snapshot> {
        &self.0
    }
}

/// Former snapshots that are kept to make the next ones of.
const SPARES: usize = 2;

/// Control's end.
pub struct Publisher {
    current: Current,
    turn: Arc<Mutex<Turn>>,
}

/// What is touched with a swap.
#[derive(Default)]
struct Turn {
    /// The instances of VRRP that are master.
    masters: HashSet<RouterKey>,
    /// What workers may still hold, and what is kept to make the next ones of; the one that was in force last comes last.
    retired: Vec<Arc<Snapshot>>,
}

/// VRRP's end: says who is master.
#[derive(Clone)]
pub struct Masters {
    current: Current,
    turn: Arc<Mutex<Turn>>,
}

impl Masters {
    /// These instances are master, and no others: each worker sees it at its next burst. False: it is somebody else's
    /// turn, and nothing has changed.
    pub fn try_set(&self, masters: &HashSet<RouterKey>) -> bool {
        let mut turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        turn.masters.clone_from(masters);
        let mut next = Snapshot::clone(&self.current.load());
        next.set_masters(masters);
        let former = self.current.swap(Arc::new(next));
        turn.retired.push(former);
        true
    }
}

impl Publisher {
    /// Starts with `first`, which is a whole one.
    pub fn new(first: Snapshot) -> Self {
        let turn = Turn { retired: spares(&first), ..Turn::default() };
        Self {
            current: Current(Arc::new(CachePadded::new(ArcSwap::from_pointee(first)))),
            turn: Arc::new(Mutex::new(turn)),
        }
    }

    /// A worker's end.
    pub fn reader(&self) -> Reader {
        Reader(Cache::new(self.current.clone()))
    }

    /// For readers that are not workers, such as metrics.
    pub fn shared(&self) -> Current {
        self.current.clone()
    }

    /// What is in force.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// VRRP's end.
    pub fn masters(&self) -> Masters {
        Masters { current: self.current.clone(), turn: self.turn.clone() }
    }

    /// Puts `next` in force: each worker sees it at its next burst.
    pub fn publish(&mut self, next: Snapshot) {
        self.swap(next);
        self.reclaim();
    }

    /// The same of a snapshot that was not made of a former one: none of those can be the next one's base. Copies it, and so takes some
    /// time with a large one.
    pub fn publish_whole(&mut self, next: Snapshot) {
        let spares = spares(&next);
        self.swap(next);
        self.turn().retired.extend(spares);
        self.reclaim();
    }

    fn swap(&mut self, mut next: Snapshot) {
        let mut turn = self.turn();
        next.set_masters(&turn.masters);
        let former = self.current.swap(Arc::new(next));
        turn.retired.push(former);
    }

    /// A snapshot to make the next one of, of this generation or a later one: a former one that nobody holds any more, else a copy of what
    /// is in force. Of the former ones the oldest, which whoever is slow has let go the most surely.
    pub fn base(&mut self, since: u64) -> Snapshot {
        self.reclaim();
        let mut turn = self.turn();
        let is_good = |it: &Arc<Snapshot>| is_spare(it) && it.generation >= since;
        let found = turn.retired.iter().position(is_good).map(|place| turn.retired.remove(place));
        match found.map(Arc::try_unwrap) {
            Some(Ok(former)) => former,
            held => {
                turn.retired.extend(held.and_then(Result::err));
                Snapshot::clone(&self.current.load())
            }
        }
    }

    /// Frees what no worker holds any more, here and not on a worker, but for the last ones, which [`Publisher::base`] has a
    /// use for. Returns how many are still held.
    pub fn reclaim(&mut self) -> usize {
        let mut turn = self.turn();
        let (mut kept, mut freed, mut spares, mut held) = (Vec::new(), Vec::new(), 0, 0);
        for snapshot in std::mem::take(&mut turn.retired).into_iter().rev() {
            let is_spare = is_spare(&snapshot) && spares < SPARES;
            spares += usize::from(is_spare);
            held += usize::from(is_held(&snapshot));
            match is_spare || is_held(&snapshot) {
                true => kept.push(snapshot),
                false => freed.push(snapshot),
            }
        }
        kept.reverse();
        turn.retired = kept;
        // Freeing a large one takes its time.
        drop(turn);
        drop(freed);
        held
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        // What it guards is whole between any two lines of ours.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_held(snapshot: &Arc<Snapshot>) -> bool {
    Arc::strong_count(snapshot) > 1
}

/// Whether the next one can be made of it without a copy.
fn is_spare(snapshot: &Arc<Snapshot>) -> bool {
    !is_held(snapshot) && snapshot.is_apart()
}

/// Copies of a whole snapshot.
fn spares(whole: &Snapshot) -> Vec<Arc<Snapshot>> {
    let spare = || {
        let mut spare = whole.clone();
        spare.set_apart();
        Arc::new(spare)
    };
    (0..SPARES).map(|_| spare()).collect()
}

/// A worker's end: one pointer comparison when nothing changed.
pub struct Reader(Cache<Current, Arc<Snapshot>>);

impl Reader {
    /// What is in force, for one burst.
    #[inline]
    pub fn load(&mut self) -> &Arc<Snapshot> {
        self.0.load()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Addr4;
    use crate::sched::Options;
    use crate::snapshot::registry::{Progress, Registry};
    use crate::wire::ethernet::MacAddress;

    const VIP: Addr4 = Addr4::new(10, 0, 0, 100);

    fn snapshot(registry: &mut Registry) -> Snapshot {
        let text = "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n\
                    [[virtual_server]]\nname = \"web\"\naddress = \"10.0.0.100\"\nport = 80\nprotocol = \"tcp\"\n\
                    forwarding = \"dr\"\n[[virtual_server.real_server]]\naddress = \"10.0.0.11\"\n\
                    [[vrrp]]\nname = \"vi\"\nport = \"lan\"\nvirtual_router_id = 51\naddresses = [\"10.0.0.100\"]\n";
        let config = weir_config::parse("test", text).unwrap().config;
        registry.snapshot(&config, &[MacAddress([2, 0, 0, 0, 0, 1])], Progress::default()).unwrap()
    }

    fn routers(ids: &[u8]) -> HashSet<RouterKey> {
        ids.iter().map(|id| RouterKey { port: 0, is_ipv6: false, id: *id }).collect()
    }

    #[test]
    fn masters_change_nothing_but_who_is_master() {
        let mut registry = Registry::new(1, Options::default());
        let publisher = Publisher::new(snapshot(&mut registry));
        let before = publisher.current();
        assert!(before.local(VIP).is_none());
        assert!(publisher.masters().try_set(&routers(&[51, 52])));
        let after = publisher.current();
        assert!(after.local(VIP).is_some() && before.local(VIP).is_none());
        assert_eq!(after.generation, before.generation);
        assert_ne!(after.edition, before.edition);
        let address = |snapshot: &Snapshot| std::ptr::from_ref(snapshot.servers().next().unwrap());
        assert_eq!(address(&after), address(&before), "what is large is shared");
    }

    #[test]
    fn what_control_builds_meanwhile_has_the_masters_that_were_told_last() {
        let mut registry = Registry::new(1, Options::default());
        let mut publisher = Publisher::new(snapshot(&mut registry));
        let masters = publisher.masters();
        let next = snapshot(&mut registry);
        assert!(masters.try_set(&routers(&[51])));
        publisher.publish(next);
        assert!(publisher.current().local(VIP).is_some());
        let next = snapshot(&mut registry);
        assert!(masters.try_set(&routers(&[])));
        publisher.publish(next);
        assert!(publisher.current().local(VIP).is_none());
        assert_eq!(publisher.reclaim(), 0);
    }

    #[test]
    fn vrrps_thread_does_not_wait_for_its_turn() {
        let publisher = Publisher::new(snapshot(&mut Registry::new(1, Options::default())));
        let (masters, turn) = (publisher.masters(), publisher.turn());
        assert!(!masters.try_set(&routers(&[51])));
        drop(turn);
        assert!(masters.try_set(&routers(&[51])));
    }
}
