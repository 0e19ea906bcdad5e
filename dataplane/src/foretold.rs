//! Connections that another director has told of: they wait here until a packet of theirs comes, whichever worker gets it.
//!
//! Entries name addresses, and no numbers of a snapshot or of a worker: so they outlast reloads, and mean nothing until they are used. Who
//! uses one looks for its real server among those that there are then. What a peer says can thus lead nowhere that the file does not.
//!
//! Control writes, workers look up what they find nowhere else, and take it into their own tables. Each part has a lock, which a worker
//! only tries, a bounded number of times; control holds it for one entry, or for as long as it takes to look through one part. Memory is taken as
//! entries come, up to a bound.

use std::hash::Hasher;
use std::hint::spin_loop;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;
use weir_config::model::Protocol;

use crate::conn::state::State;

/// Entries of a part, about: to look through it takes some microseconds.
const PART: usize = 512;
/// How often a lock is tried: some 20 microseconds. Control holds it for less, unless it has lost its processor, and then a burst of one
/// part's packets should not wait for it.
const TRIES: usize = 500;

/// What a connection is known by to its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Its protocol.
    pub protocol: Protocol,
    /// Who asks.
    pub client: SocketAddr,
    /// Whom.
    pub server: SocketAddr,
}

/// A connection as it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// What it is known by.
    pub flow: Flow,
    /// Who answers.
    pub real_server: SocketAddr,
    /// Its state.
    pub state: State,
    /// The last second of the workers' clock at which it is one.
    pub until: u32,
}

/// What became of a connection that was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It waits from now on.
    New,
    /// It waited already, and is as it was told last.
    Renewed,
    /// There is no room for it.
    Full,
}

/// Somebody else was at its place for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

type Part = HashTable<Told>;

/// See the module.
pub struct Foretold {
    parts: Box<[Mutex<Part>]>,
    hasher: SipHasher13,
    count: AtomicUsize,
    room: usize,
}

impl Foretold {
    /// With room for so many. `random` keys the hash: whoever opens connections chooses what goes into it.
    pub fn new(room: usize, [first, second]: [u64; 2]) -> Self {
        let parts = room.div_ceil(PART).next_power_of_two();
        Self {
            parts: (0..parts).map(|_| Mutex::default()).collect(),
            hasher: SipHasher13::new_with_keys(first, second),
            count: AtomicUsize::new(0),
            room,
        }
    }

    /// Whether there is any.
    #[inline]
    pub fn has_any(&self) -> bool {
        self.count.load(Relaxed) != 0
    }

    /// How many there are.
    pub fn total(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Has a connection wait. For control, which waits for the lock.
    pub fn put(&self, told: Told, now: u32) -> Put {
        let hash = self.hash(told.flow.protocol, told.flow.client);
        let mut part = self.lock(self.part(hash));
        if let Some(known) = part.find_mut(hash, |it| it.flow == told.flow) {
            *known = told;
            return Put::Renewed;
        }
        if self.is_full(&part) {
            self.let_go(&mut part, now);
        }
        if self.is_full(&part) {
            return Put::Full;
        }
        part.insert_unique(hash, told, |it| self.hash(it.flow.protocol, it.flow.client));
        self.count.fetch_add(1, Relaxed);
        Put::New
    }

    /// The connection of a client's packet.
    ///
    /// # Errors
    /// Nobody knows.
    pub fn find(&self, flow: &Flow, now: u32) -> Result<Option<Told>, Busy> {
        self.look(flow.protocol, flow.client, now, |told| told.flow == *flow)
    }

    /// The connection of a real server's packet to a client.
    ///
    /// # Errors
    /// Nobody knows.
    pub fn find_answered(
        &self,
        protocol: Protocol,
        client: SocketAddr,
        real_server: SocketAddr,
        now: u32,
    ) -> Result<Option<Told>, Busy> {
        let is_its = |told: &Told| {
            told.flow.protocol == protocol && told.flow.client == client && told.real_server == real_server
        };
        self.look(protocol, client, now, is_its)
    }

    /// A packet has moved one along that goes on waiting.
    ///
    /// What was told of it since, or moved by another worker, stays: `before` is what this worker has looked at.
    pub fn renew(&self, before: Told, now: Told) {
        let hash = self.hash(before.flow.protocol, before.flow.client);
        if let Ok(mut part) = self.try_lock(hash)
            && let Some(known) = part.find_mut(hash, |it| *it == before)
        {
            *known = now;
        }
    }

    /// One is in a worker's table now, or over.
    pub fn remove(&self, flow: &Flow) {
        let hash = self.hash(flow.protocol, flow.client);
        if let Ok(mut part) = self.try_lock(hash)
            && let Ok(entry) = part.find_entry(hash, |it| it.flow == *flow)
        {
            entry.remove();
            self.count.fetch_sub(1, Relaxed);
        }
    }

    /// Lets go of those whose time is over in the next `parts` parts from `turn` on. For control. Returns where to go on.
    pub fn sweep(&self, turn: usize, parts: usize, now: u32) -> usize {
        if !self.has_any() {
            return turn;
        }
        for part in (turn..turn + parts.min(self.parts.len())).map(|turn| turn % self.parts.len()) {
            let mut part = self.lock(&self.parts[part]);
            self.let_go(&mut part, now);
            if part.is_empty() && part.capacity() != 0 {
                *part = Part::new();
            }
        }
        (turn + parts) % self.parts.len()
    }

    /// How many parts there are, for [`Foretold::sweep`].
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// All of them, in no order; one that comes or goes meanwhile may be missed. For control.
    pub fn listed(&self) -> impl Iterator<Item = Told> + '_ {
        self.parts.iter().flat_map(|part| {
            // A worker may try the lock: no memory is asked for while it is held.
            let mut held = Vec::with_capacity(2 * PART);
            held.extend(self.lock(part).iter().copied());
            held
        })
    }

    /// Does something while control holds every lock.
    #[cfg(test)]
    pub(crate) fn while_held(&self, act: impl FnOnce()) {
        let held: Vec<_> = self.parts.iter().map(|part| self.lock(part)).collect();
        act();
        drop(held);
    }

    fn look(
        &self,
        protocol: Protocol,
        client: SocketAddr,
        now: u32,
        is_it: impl Fn(&Told) -> bool,
    ) -> Result<Option<Told>, Busy> {
        let hash = self.hash(protocol, client);
        let part = self.try_lock(hash)?;
        Ok(part.find(hash, |told| told.until >= now && is_it(told)).copied())
    }

    fn let_go(&self, part: &mut Part, now: u32) {
        let before = part.len();
        part.retain(|told| told.until >= now);
        self.count.fetch_sub(before - part.len(), Relaxed);
    }

    /// A part may have twice its share: those of one client's port lie in the same.
    fn is_full(&self, part: &Part) -> bool {
        self.total() >= self.room || part.len() >= 2 * PART
    }

    fn part(&self, hash: u64) -> &Mutex<Part> {
        // Other bits than the table's.
        &self.parts[(hash >> 32) as usize & (self.parts.len() - 1)]
    }

    fn lock<'a>(&self, part: &'a Mutex<Part>) -> MutexGuard<'a, Part> {
        // Whoever panicked: each entry is whole.
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_lock(&self, hash: u64) -> Result<MutexGuard<'_, Part>, Busy> {
        let part = self.part(hash);
        for _ in 0..TRIES {
            match part.try_lock() {
                Ok(guard) => return Ok(guard),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => spin_loop(),
            }
        }
        Err(Busy)
    }

    /// What both ends' packets know.
    fn hash(&self, protocol: Protocol, client: SocketAddr) -> u64 {
        let mut hasher = self.hasher;
        hasher.write_u8(protocol.number());
        hasher.write_u16(client.port());
        match client {
            SocketAddr::V4(client) => hasher.write_u32(client.ip().to_bits()),
            SocketAddr::V6(client) => hasher.write_u128(client.ip().to_bits()),
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::Ipv4Addr;

    use super::*;
    use crate::conn::state::tcp;

    fn socket(last: u8, port: u16) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::new(192, 0, 2, last).into(), port)
    }

    fn told(client: u16, real: u8, until: u32) -> Told {
        let flow = Flow { protocol: Protocol::Tcp, client: socket(9, client), server: socket(1, 80) };
        Told { flow, real_server: socket(real, 8_080), state: tcp::ESTABLISHED, until }
    }

    #[test]
    fn histories_are_as_those_of_a_map() {
        bolero::check!().with_type::<Vec<(u8, u8, u8, u8)>>().for_each(|steps| {
            let foretold = Foretold::new(64, [3, 5]);
            let mut model: HashMap<u16, Told> = HashMap::new();
            let mut now = 0;
            for &(what, client, real, secs) in steps {
                let client = u16::from(client % 96);
                let it = told(client, real, now + u32::from(secs));
                match what % 5 {
                    0 | 1 => {
                        if !model.contains_key(&client) && model.len() >= 64 {
                            model.retain(|_, it| it.until >= now);
                        }
                        let expected = match model.contains_key(&client) {
                            true => Put::Renewed,
                            false if model.len() >= 64 => Put::Full,
                            false => Put::New,
                        };
                        assert_eq!(foretold.put(it, now), expected);
                        if expected != Put::Full {
                            model.insert(client, it);
                        }
                    }
                    2 => {
                        foretold.remove(&it.flow);
                        model.remove(&client);
                    }
                    3 => now += u32::from(secs % 16),
                    _ => {
                        foretold.sweep(usize::from(real), foretold.parts(), now);
                        model.retain(|_, it| it.until >= now);
                    }
                }
                let known = model.get(&client).filter(|it| it.until >= now);
                assert_eq!(foretold.find(&it.flow, now), Ok(known.copied()));
                let real_server = known.map_or(it.real_server, |known| known.real_server);
                let answered = foretold.find_answered(Protocol::Tcp, it.flow.client, real_server, now);
                assert_eq!(answered, Ok(known.copied()));
                assert_eq!((foretold.total(), foretold.has_any()), (model.len(), !model.is_empty()));
                assert_eq!(foretold.listed().count(), model.len());
            }
        });
    }

    #[test]
    fn a_worker_does_not_wait_and_what_was_left_by_a_panic_is_whole() {
        let foretold = Foretold::new(8, [1, 2]);
        let it = told(7, 2, 100);
        assert_eq!(foretold.put(it, 0), Put::New);
        let held = foretold.lock(&foretold.parts[0]);
        assert_eq!(foretold.find(&it.flow, 0), Err(Busy));
        foretold.remove(&it.flow);
        drop(held);
        std::thread::scope(|scope| {
            let panics = scope.spawn(|| {
                let _held = foretold.lock(&foretold.parts[0]);
                panic!("on purpose");
            });
            assert!(panics.join().is_err());
        });
        assert_eq!(foretold.find(&it.flow, 100), Ok(Some(it)));
        assert_eq!(foretold.find(&it.flow, 101), Ok(None), "its time is over");
        let later = Told { until: 200, ..it };
        foretold.renew(it, later);
        assert_eq!(foretold.find(&it.flow, 101), Ok(Some(later)));
        // Who has looked at what it was before that changes nothing.
        foretold.renew(it, Told { until: 300, ..it });
        assert_eq!(foretold.find(&it.flow, 201), Ok(None));
    }
}
