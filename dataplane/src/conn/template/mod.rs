//! Persistence templates: what ties a network of clients to a real server.
//!
//! One table for all workers: the NIC spreads the connections of a client over the workers, and all of them have to
//! reach the same real server. It is asked only when a connection to a persistent virtual server is scheduled and
//! when such a connection ends, and it has no locks: any thread may call anything at any time, and a thread that
//! stops in the middle stops nobody else.
//!
//! Templates of IPv6 are in a [`Ledger`] of their own, whose keys hold the whole network: numbers of IPv6 clients are a worker's own.
//!
//! # Layout
//! Two cache lines are a bucket: a header and seven slots of 16 bytes, key and value (see `word.rs`). For IPv6 they are four, and
//! slots of 32 bytes, with keys of three words. A template lies
//! in the bucket its hash names, its home, or in one of the three buckets behind it. The header of a bucket
//! says how far the templates that are at home there reach; in a table that is not more than half full it is hardly
//! ever further than home. A template never moves.
//!
//! # Why it is right
//! *A value word means one template.* Every change of a template is a compare-and-swap of its value word. The key is
//! written only while the slot is pending, which begins and ends with a change of the value. So who reads value, key
//! and the same value again has read a pair, and who then swaps that value has changed that template and no other
//! that came into the slot meanwhile. This needs values that do not come back: the last use only grows while a
//! template lives, the free slot keeps it, and the next template begins later (`Word::claimed`). Time is the
//! version of the slot. For that not to run ahead, no template is removed in the second it was last used in.
//!
//! *A key has one template.* Who inserts reads the home's header, looks for the key, fills a free slot as pending,
//! and then swaps the header for one that names the slot. With that the template is there: everybody who reads a
//! header first completes what it names (pending to live), so the next header is written only after that, and a
//! search sees all insertions that its header knows of. If another insertion with the same home came in between, the
//! swap fails and the search is repeated; it finds the winner's template if it was for the same key. Then the pending
//! slot is given back, unseen: pending slots count for nobody until a header names them. A header names slot and last
//! use, so that it can't complete a later claim of the slot.
//!
//! *Removing* a template takes one swap, of its value for a free one. Nothing has to be moved or marked, because a
//! search always goes through the whole reach. The sweep does it, and who looks for a slot near a home where none is free:
//! dead templates hold no room.
//!
//! *Orderings.* Values and headers change by read-modify-write only, with acquire and release: who reads a value sees
//! the key that was written before it was settled, and who reads a key, or a word of one, that is newer than his value sees it
//! (release store, acquire load) and finds another value when he reads that again.
//!
//! # In which order to call
//! 1. [`Ledger::find`]. If it finds a real server that is still there (and not quiesced, with
//!    `expire_quiescent_template`): that is the one.
//! 2. Found, but not usable: schedule, then [`Ledger::rebind`]. Nothing found: schedule, then [`Ledger::bind`].
//!    Both answer with the real server that is in force, which may be another worker's choice.
//! 3. When the record of the connection is in the table: [`Ledger::attach`]. If that fails, the template has just
//!    changed: begin again, once; then go without.
//! 4. When a connection that was attached is established, [`Ledger::assure`]; when it ends, [`Ledger::detach`].
//!
//! All the time, [`Templates::sweep`]. It also has to give up the templates of former epochs: connections that hang on
//! them can't be counted out any more. A real server's number is in use as long as a template names it
//! ([`Templates::names`]).

mod adopt;
mod foretell;
mod key;
mod word;

#[cfg(test)]
mod tests;

use std::marker::PhantomData;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, Ordering};

use dpdk::memory::{Line, Slab};
use hashbrown::HashSet;

pub use self::adopt::{Loose, begins_network};
pub use self::key::{Key, Owner, TemplateKey, TemplateKey6};
use self::word::Word;
pub use self::word::{CONNECTIONS_MAX, LIFETIME_SECS_MAX, Listed, STEP_SECS, Template};
use super::record::ServerId;
use super::table::HashKey;

/// Slots of a bucket: with its header, which takes the place of one, as many as a line has words.
const SLOTS: usize = 7;
/// Buckets, from its home on, that a template can be in.
const WINDOW: usize = 4;
/// The sweep asks the processor for buckets so many ahead.
const SWEEP_AHEAD: usize = 8;

/// Where a template lies. It stays there for life, but it may be gone, so every use is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    bucket: usize,
    index: usize,
}

/// There is no room for a template where it could lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// What [`Ledger::find`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Where it lies.
    pub slot: Slot,
    /// The real server.
    pub server: ServerId,
    /// Whether one of its connections was ever established.
    pub is_assured: bool,
}

/// What [`Ledger::bind`] led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Where the template lies.
    pub slot: Slot,
    /// The real server in force: the caller's, or that of a template that was there first.
    pub server: ServerId,
    /// Whether the template is the caller's.
    pub is_new: bool,
}

/// See the module.
pub struct Templates {
    /// Those of IPv4 clients.
    pub v4: Ledger<TemplateKey, 2>,
    /// Those of IPv6 clients, and those of calls.
    pub v6: Ledger<TemplateKey6, 4>,
}

impl Templates {
    /// Lines of memory that a table for `capacity` templates of IPv4 clients takes: 37 bytes a template, half of them free.
    pub fn lines_for(capacity: usize) -> usize {
        Ledger::<TemplateKey, 2>::lines_for(capacity)
    }

    /// The same of IPv6 clients: 74 bytes a template.
    pub fn lines_for_ipv6(capacity: usize) -> usize {
        Ledger::<TemplateKey6, 4>::lines_for(capacity)
    }

    /// Empty tables in `lines`, zeroed, [`Templates::lines_for`] and [`Templates::lines_for_ipv6`] many.
    pub fn new(lines: Slab<Line>, ipv6_lines: Slab<Line>, key: HashKey) -> Self {
        Self { v4: Ledger::new(lines, key), v6: Ledger::new(ipv6_lines, key) }
    }

    /// The key of a call's template, see [`TemplateKey6::of_call`].
    pub fn call_key(&self, id: &[u8], network: (Ipv6Addr, u8), owner: Owner) -> TemplateKey6 {
        TemplateKey6::of_call(id, network, owner, &self.v6.key)
    }

    /// Buckets of both tables, for [`Templates::sweep`].
    pub fn buckets(&self) -> usize {
        self.v4.buckets() + self.v6.buckets()
    }

    /// As [`Ledger::sweep`], of both tables, one behind the other. `buckets` does not go past the end.
    pub fn sweep(&self, buckets: Range<usize>, now: u32, lifetime: impl Fn(Owner) -> Option<u32>) -> usize {
        let end = self.v4.buckets();
        let (v4, v6) =
            (buckets.start.min(end)..buckets.end.min(end), buckets.start.max(end)..buckets.end.max(end));
        self.v4.sweep(v4, now, |template| lifetime(template.owner()))
            + self.v6.sweep(v6.start - end..v6.end - end, now, |template| lifetime(template.owner()))
    }

    /// Templates by real server, as `ipvsadm -L --persistent-conn` lists them: by [`ServerId::index`], below
    /// `servers`. `lifetime` is as for [`Templates::sweep`]. Reads the whole tables, so it is for control.
    pub fn count(&self, servers: usize, now: u32, lifetime: impl Fn(Owner) -> Option<u32>) -> Vec<u32> {
        let mut counts = vec![0; servers];
        self.v4.count(&mut counts, now, |template| lifetime(template.owner()));
        self.v6.count(&mut counts, now, |template| lifetime(template.owner()));
        counts
    }

    /// Those of `servers` that a template names, over or not. Reads the whole tables, so it is for control; to be asked
    /// when no worker ties clients to them any more.
    pub fn names(&self, servers: &HashSet<ServerId>) -> HashSet<ServerId> {
        let named = self.v4.iter().map(Template::server).chain(self.v6.iter().map(Template::server));
        named.filter(|server| servers.contains(server)).collect()
    }

    /// Every template, in no order, with the first address of its client network; one that is over may still be among them.
    /// Templates that come or go meanwhile may be missed.
    pub fn listed(&self) -> impl Iterator<Item = (IpAddr, Listed)> + '_ {
        self.v4.iter().map(Template::listed).chain(self.v6.iter().map(Template::listed))
    }
}

/// The templates of one family, whose buckets are of so many lines.
pub struct Ledger<K, const LINES: usize> {
    lines: Slab<Line>,
    buckets: usize,
    key: HashKey,
    kind: PhantomData<K>,
}

impl<K: Key, const LINES: usize> Ledger<K, LINES> {
    /// Each slot has a key and a value; see [`SLOTS`].
    const IS_FITTING: () = assert!(K::WORDS + 1 == LINES);

    /// Lines of memory that a table for `capacity` templates takes, half of them free.
    pub fn lines_for(capacity: usize) -> usize {
        (capacity * 2).div_ceil(SLOTS).max(WINDOW) * LINES
    }

    /// An empty table in `lines`, zeroed, [`Ledger::lines_for`] many.
    pub fn new(lines: Slab<Line>, key: HashKey) -> Self {
        let () = Self::IS_FITTING;
        let buckets = lines.len() / LINES;
        assert!(lines.len().is_multiple_of(LINES) && buckets >= WINDOW, "as lines_for says");
        Self { lines, buckets, key, kind: PhantomData }
    }

    /// Buckets of the table, for [`Ledger::sweep`].
    pub fn buckets(&self) -> usize {
        self.buckets
    }

    /// Asks the processor for the bucket where a template of `key` belongs.
    #[inline]
    pub fn prefetch(&self, key: K) {
        self.prefetch_bucket(self.home(key));
    }

    /// Asks for the buckets behind that one in which it may lie, too: none, mostly. To be called when that one has come.
    pub fn prefetch_behind(&self, key: K) {
        let home = self.home(key);
        let header = Header(self.header(home).load(Relaxed));
        (1..=header.reach()).for_each(|distance| self.prefetch_bucket(self.behind(home, distance)));
    }

    /// The template of `key`, unless it is over. `lifetime` is the virtual server's persistence timeout, `now` the
    /// time, both in seconds; all threads have to use the same clock, give or take a minute.
    pub fn find(&self, key: K, lifetime: u32, now: u32) -> Option<Found> {
        let (slot, word) = self.locate(key)?;
        let word = word.aged(lifetime, now)?;
        Some(Found { slot, server: word.server(), is_assured: word.is_assured() })
    }

    /// Ties `key` to `server`, unless it is tied already. `lifetime_of` is as for [`Ledger::sweep`]: the place of another
    /// template that is over is taken. Those of the same virtual server and epoch live for `lifetime`.
    ///
    /// # Errors
    /// [`Full`]: there is no room near the key's home. The connection goes ahead without a template.
    pub fn bind(
        &self,
        key: K,
        server: ServerId,
        lifetime: u32,
        now: u32,
        lifetime_of: impl Fn(Template<K>) -> Option<u32>,
    ) -> Result<Bound, Full> {
        let home = self.home(key);
        // Most that lie nearby are of the same virtual server: theirs is at hand.
        let lifetime_of = |template: Template<K>| match template.key.is_beside(key) {
            true => Some(lifetime),
            false => lifetime_of(template),
        };
        let mut claim = None;
        let bound = loop {
            let header = self.completed(home);
            let found = self.search(home, header, key);
            pause();
            if let Some((slot, word)) = found {
                if let Some(word) = word.aged(lifetime, now) {
                    break Ok(Bound { slot, server: word.server(), is_new: false });
                }
                if self.swap(slot, word, word.replaced(server, now)) {
                    break Ok(Bound { slot, server, is_new: true });
                }
                continue;
            }
            let Some(claimed) = claim.or_else(|| self.claim(home, key, server, now, &lifetime_of)) else {
                break Err(Full);
            };
            claim = Some(claimed);
            pause();
            let next = header.naming(&claimed, self.reach_of(home, header));
            pause();
            let swapped = self.header(home).compare_exchange(header.0, next.0, AcqRel, Relaxed).is_ok();
            pause();
            if swapped {
                self.complete(home, next);
                return Ok(Bound { slot: self.slot(home, claimed.place), server, is_new: true });
            }
        };
        if let Some(claim) = claim {
            // Pending and unnamed, so it is still as this thread left it.
            let slot = self.slot(home, claim.place);
            let was = self.value(slot).swap(claim.free.0, AcqRel);
            debug_assert_eq!(was, claim.word.0);
        }
        bound
    }

    /// Whether [`Ledger::bind`] would find room for a template of `key`, of which there is none now. `lifetime_of` is as
    /// there.
    pub fn has_room(&self, key: K, now: u32, lifetime_of: impl Fn(Template<K>) -> Option<u32>) -> bool {
        let home = self.home(key);
        (0..WINDOW * SLOTS).map(|place| self.slot(home, place)).any(|slot| {
            let word = self.word_at(slot);
            word.is_free() || word.age(now) != 0 && self.seems_over(slot, now, &lifetime_of)
        })
    }

    /// Ties `key` anew when its real server `from` can't be used any more: to `to`, with no connections hanging on
    /// it. Returns the real server in force, another one than `to` if another worker was first; `None` if there is
    /// no template any more: bind.
    pub fn rebind(&self, slot: Slot, key: K, from: ServerId, to: ServerId, now: u32) -> Option<ServerId> {
        loop {
            let word = self.read(slot).filter(|template| template.key == key)?.word;
            if word.server() != from {
                return Some(word.server());
            }
            pause();
            if self.swap(slot, word, word.replaced(to, now)) {
                return Some(to);
            }
        }
    }

    /// Hangs a new connection to `server` on the template: restarts its timer and counts the connection in. Returns
    /// false if there is no such template any more, if it is over, if it ties to another real server by now, or if
    /// [`CONNECTIONS_MAX`] hang on it.
    pub fn attach(&self, slot: Slot, key: K, server: ServerId, lifetime: u32, now: u32) -> bool {
        self.update(slot, key, server, |word| word.aged(lifetime, now)?.used(now).attached())
    }

    /// Restarts the timer for a connection that leaves no record, as in one-packet scheduling. Returns false as
    /// [`Ledger::attach`] does.
    pub fn touch(&self, slot: Slot, key: K, server: ServerId, lifetime: u32, now: u32) -> bool {
        self.update(slot, key, server, |word| Some(word.aged(lifetime, now)?.used(now)))
    }

    /// Counts out a connection to `server` that was attached and is over. Returns false if the template is gone or
    /// ties to another real server by now: then there is nothing to count.
    pub fn detach(&self, key: K, server: ServerId, lifetime: u32, now: u32) -> bool {
        // The step that the template is in ends when it would have ended with the connection.
        let change = |word: Word| word.aged(lifetime, now)?.detached();
        self.locate(key).is_some_and(|(slot, _)| self.update(slot, key, server, change))
    }

    /// Marks the template as assured: a connection to `server` that hangs on it is established, or its UDP was
    /// answered. Returns whether it was not yet.
    pub fn assure(&self, key: K, server: ServerId) -> bool {
        self.locate(key).is_some_and(|(slot, _)| self.update(slot, key, server, Word::assured))
    }

    /// Removes templates that are over from `buckets`, which may go past the end of the table: they count round and
    /// round. Returns how many. `lifetime` says how long a template lives after its last use, the virtual server's
    /// persistence timeout; `None`: it has to go now, whatever hangs on it, but not in the second of its last use.
    ///
    /// Each bucket is to be visited once a day at least; the visits are also what moves templates from step to step.
    pub fn sweep(
        &self,
        buckets: Range<usize>,
        now: u32,
        lifetime: impl Fn(Template<K>) -> Option<u32>,
    ) -> usize {
        let mut removed = 0;
        for bucket in buckets.map(|bucket| bucket % self.buckets) {
            self.prefetch_bucket((bucket + SWEEP_AHEAD) % self.buckets);
            self.forget_insertion(bucket);
            let slots = (0..SLOTS).map(|index| Slot { bucket, index });
            removed += slots.filter(|slot| self.let_age(*slot, now, &lifetime)).count();
        }
        removed
    }

    /// Removes the template in a slot if it is over, and moves it from step to step if it is not. Returns whether it was
    /// removed.
    fn let_age(&self, slot: Slot, now: u32, lifetime: &impl Fn(Template<K>) -> Option<u32>) -> bool {
        let Some(template) = self.read(slot) else { return false };
        let word = template.word;
        let aged = lifetime(template).and_then(|lifetime| word.aged(lifetime, now));
        pause();
        // A swap that fails leaves a template that was just used, to be seen the next time.
        match aged {
            Some(aged) if aged != word => {
                self.swap(slot, word, aged);
                false
            }
            None if word.age(now) != 0 => self.swap(slot, word, word.freed()),
            _ => false,
        }
    }

    /// Every template, in no order; one that is over may still be among them. Templates that come or go meanwhile
    /// may be missed.
    pub fn iter(&self) -> impl Iterator<Item = Template<K>> + '_ {
        (0..self.buckets())
            .flat_map(|bucket| (0..SLOTS).map(move |index| Slot { bucket, index }))
            .filter_map(|slot| self.read(slot))
    }

    /// Adds the templates of each real server, by [`ServerId::index`], to those that have a place. `lifetime` is as for
    /// [`Ledger::sweep`].
    fn count(&self, counts: &mut [u32], now: u32, lifetime: impl Fn(Template<K>) -> Option<u32>) {
        for template in self.iter() {
            let is_alive =
                lifetime(template).is_some_and(|lifetime| template.expires_in(lifetime, now).is_some());
            if let Some(count) = counts.get_mut(template.server().index()).filter(|_| is_alive) {
                *count += 1;
            }
        }
    }

    /// The template of `key`, over or not.
    fn locate(&self, key: K) -> Option<(Slot, Word)> {
        let home = self.home(key);
        self.search(home, self.completed(home), key)
    }

    /// The template of `key` among all that is at home in `home`. Most slots need no look at more than their key: that of a
    /// template which a header knows of was written before that header, and stays for as long as the template is there.
    fn search(&self, home: usize, header: Header, key: K) -> Option<(Slot, Word)> {
        (0..=header.reach()).find_map(|distance| {
            let bucket = self.behind(home, distance);
            let lines = self.bucket(bucket)?;
            (0..SLOTS).filter(|&index| key_in::<K, LINES>(lines, index, Relaxed) == key).find_map(|index| {
                let slot = Slot { bucket, index };
                self.read(slot).filter(|template| template.key == key).map(|template| (slot, template.word))
            })
        })
    }

    /// How far what is at home in `home` reaches behind it.
    fn reach_of(&self, home: usize, header: Header) -> usize {
        let is_its = |slot: Slot| self.read(slot).is_some_and(|template| self.home(template.key) == home);
        let has_its = |distance: &usize| {
            let bucket = self.behind(home, *distance);
            (0..SLOTS).any(|index| is_its(Slot { bucket, index }))
        };
        (1..=header.reach()).rev().find(has_its).unwrap_or(0)
    }

    /// Fills a slot near `home`, as pending: in the nearest bucket that has a free one, or one whose template is over.
    fn claim(
        &self,
        home: usize,
        key: K,
        server: ServerId,
        now: u32,
        lifetime_of: &impl Fn(Template<K>) -> Option<u32>,
    ) -> Option<Claim> {
        (0..WINDOW).find_map(|bucket| {
            let mut places = SLOTS * bucket..SLOTS * (bucket + 1);
            let claim = |place| self.claim_place(home, place, key, server, now);
            places.clone().find_map(claim).or_else(|| {
                places.find_map(|place| {
                    let slot = self.slot(home, place);
                    let is_free =
                        self.seems_over(slot, now, lifetime_of) && self.let_age(slot, now, lifetime_of);
                    is_free.then(|| claim(place)).flatten()
                })
            })
        })
    }

    /// Whether the template in a slot is over, at a glance: key and value may be of different moments.
    fn seems_over(&self, slot: Slot, now: u32, lifetime_of: &impl Fn(Template<K>) -> Option<u32>) -> bool {
        let word = self.word_at(slot);
        let key = self.key_at(slot, Relaxed);
        word.is_live()
            && lifetime_of(Template { key, word }).is_none_or(|lifetime| word.is_over(lifetime, now))
    }

    /// Fills a slot as pending, if it is free.
    fn claim_place(&self, home: usize, place: usize, key: K, server: ServerId, now: u32) -> Option<Claim> {
        let slot = self.slot(home, place);
        let free = Word(self.value(slot).load(Relaxed));
        if !free.is_free() {
            return None;
        }
        let word = free.claimed(server, now);
        if !self.swap(slot, free, word) {
            return None;
        }
        pause();
        key.write(|word, value| self.key_word(slot, word).store(value, Release));
        Some(Claim { place, free, word })
    }

    /// The header of a bucket, after what it names is done.
    fn completed(&self, home: usize) -> Header {
        let header = Header(self.header(home).load(Acquire));
        self.complete(home, header);
        header
    }

    /// Makes the template live that a header names, unless that has been done.
    fn complete(&self, home: usize, header: Header) {
        if let Some((place, last)) = header.named() {
            let slot = self.slot(home, place);
            let word = Word(self.value(slot).load(Relaxed));
            if word.is_pending() && word.last() == last {
                pause();
                // If this fails, another thread did the same.
                self.swap(slot, word, word.settled());
            }
        }
    }

    /// Lets a header name nothing, so that the last use in it can't be met again after the seconds wrap.
    fn forget_insertion(&self, bucket: usize) {
        let header = self.completed(bucket);
        if header.named().is_some() {
            // If this fails, there has been a new insertion.
            _ = self.header(bucket).compare_exchange(header.0, header.naming_nothing().0, AcqRel, Relaxed);
        }
    }

    /// What lies in a slot, key and value of the same moment.
    fn read(&self, slot: Slot) -> Option<Template<K>> {
        loop {
            let word = self.word_at(slot);
            if !word.is_live() {
                return None;
            }
            pause();
            let key = self.key_at(slot, Acquire);
            if self.value(slot).load(Relaxed) == word.0 {
                return Some(Template { key, word });
            }
        }
    }

    /// Changes the template of `key` in `slot` if it ties to `server` and `change` has a new value for it.
    fn update(&self, slot: Slot, key: K, server: ServerId, change: impl Fn(Word) -> Option<Word>) -> bool {
        loop {
            let template =
                self.read(slot).filter(|template| template.key == key && template.server() == server);
            let Some(word) = template.map(|template| template.word) else { return false };
            let Some(new) = change(word) else { return false };
            pause();
            // Used in this second before: there is nothing to write.
            if new == word || self.swap(slot, word, new) {
                return true;
            }
        }
    }

    fn swap(&self, slot: Slot, old: Word, new: Word) -> bool {
        self.value(slot).compare_exchange(old.0, new.0, AcqRel, Relaxed).is_ok()
    }

    #[inline]
    fn prefetch_bucket(&self, bucket: usize) {
        let line = LINES * bucket;
        (line..line + LINES).for_each(|line| dpdk::lcore::prefetch_at(&self.lines, line));
    }

    fn home(&self, key: K) -> usize {
        // Its upper bits, scaled, so that any number of buckets will do.
        ((u128::from(key.hash(&self.key)) * self.buckets as u128) >> 64) as usize
    }

    /// The `place`th slot of the window that begins at `home`.
    fn slot(&self, home: usize, place: usize) -> Slot {
        Slot { bucket: self.behind(home, place / SLOTS), index: place % SLOTS }
    }

    /// The bucket `distance` buckets behind `bucket`, round and round.
    fn behind(&self, bucket: usize, distance: usize) -> usize {
        let bucket = bucket + distance;
        if bucket < self.buckets { bucket } else { bucket - self.buckets }
    }

    fn bucket(&self, bucket: usize) -> Option<&[Line; LINES]> {
        self.lines.get(bucket * LINES..)?.first_chunk()
    }

    fn header(&self, bucket: usize) -> &AtomicU64 {
        self.word(bucket, 0)
    }

    fn key_at(&self, slot: Slot, order: Ordering) -> K {
        K::read(|word| self.key_word(slot, word).load(order))
    }

    fn key_word(&self, slot: Slot, word: usize) -> &AtomicU64 {
        self.word(slot.bucket, LINES * (slot.index + 1) + word)
    }

    fn value(&self, slot: Slot) -> &AtomicU64 {
        self.word(slot.bucket, LINES * (slot.index + 1) + K::WORDS)
    }

    fn word_at(&self, slot: Slot) -> Word {
        Word(self.value(slot).load(Acquire))
    }

    fn word(&self, bucket: usize, word: usize) -> &AtomicU64 {
        &self.lines[bucket * LINES + word / 8].0[word % 8]
    }
}

/// The key of a slot, in the lines of its bucket.
fn key_in<K: Key, const LINES: usize>(lines: &[Line; LINES], index: usize, order: Ordering) -> K {
    K::read(|word| {
        let word = LINES * (index + 1) + word;
        lines[word / 8].0[word % 8].load(order)
    })
}

/// A pending slot.
#[derive(Clone, Copy)]
struct Claim {
    /// Its number in the window.
    place: usize,
    /// What it was before.
    free: Word,
    /// What it is now.
    word: Word,
}

/// The header of a bucket: `| turn 34 | last use 22 | place 5 | reach 2 | names a slot 1 |`. The turn grows with
/// every change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header(u64);

const NAMES: u64 = 1;
const REACH_SHIFT: u32 = 1;
const PLACE_SHIFT: u32 = 3;
const USE_SHIFT: u32 = 8;
const TURN_SHIFT: u32 = 30;
const _: () = assert!(WINDOW <= 1 << (PLACE_SHIFT - REACH_SHIFT));
const _: () = assert!(SLOTS * WINDOW <= 1 << (USE_SHIFT - PLACE_SHIFT));

impl Header {
    /// The next one, for an insertion into a home that reaches `reach` without it.
    fn naming(self, claim: &Claim, reach: usize) -> Self {
        let reach = reach.max(claim.place / SLOTS) as u64;
        let place = (claim.place as u64) << PLACE_SHIFT;
        self.next_turn(u64::from(claim.word.last()) << USE_SHIFT | place | reach << REACH_SHIFT | NAMES)
    }

    /// One that nothing was inserted by.
    fn reaching(reach: usize) -> Self {
        Self((reach as u64) << REACH_SHIFT)
    }

    /// The next one, that names nothing.
    fn naming_nothing(self) -> Self {
        self.next_turn((self.reach() as u64) << REACH_SHIFT)
    }

    fn next_turn(self, rest: u64) -> Self {
        Self((self.0 >> TURN_SHIFT).wrapping_add(1) << TURN_SHIFT | rest)
    }

    /// The place in the window that was filled last, and the last use of what was filled in.
    fn named(self) -> Option<(usize, u32)> {
        let place = self.0 as usize >> PLACE_SHIFT & ((1 << (USE_SHIFT - PLACE_SHIFT)) - 1);
        let last = (self.0 >> USE_SHIFT) as u32 & ((1 << (TURN_SHIFT - USE_SHIFT)) - 1);
        (self.0 & NAMES != 0).then_some((place, last))
    }

    /// Buckets behind home that templates of this home are in at most.
    fn reach(self) -> usize {
        self.0 as usize >> REACH_SHIFT & ((1 << (PLACE_SHIFT - REACH_SHIFT)) - 1)
    }
}

/// Where tests let another thread go first.
#[cfg(not(test))]
#[inline(always)]
fn pause() {}
#[cfg(test)]
use tests::pause;
