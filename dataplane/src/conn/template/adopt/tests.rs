//! What a process that ends at any moment leaves, and what somebody else may have written.

use std::collections::HashMap;
use std::os::fd::AsFd;

use dpdk::{KeptMemory, Pages};

use super::super::tests::{Numbered, cut_short};
use super::super::word::Word;
use super::*;
use crate::conn::record::ServiceId;

const CAPACITY: usize = 40;
const NOW: u32 = 50_000;
const LIFETIME: u32 = 3_600;

/// As any.
fn spread() -> HashKey {
    HashKey::new([0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9])
}

struct Memory(KeptMemory);

impl Memory {
    fn new<K: Key, const LINES: usize>() -> Self {
        let octets = Ledger::<K, LINES>::lines_for(CAPACITY) * 64;
        Self(KeptMemory::create("weir-test", octets, Pages::Ordinary).expect("memory"))
    }

    /// The same memory once more.
    fn lines<K: Key, const LINES: usize>(&self) -> Slab<Line> {
        let file = self.0.as_fd().try_clone_to_owned().expect("a descriptor");
        let mut again = KeptMemory::adopt(file).expect("kept memory");
        again.cut(Ledger::<K, LINES>::lines_for(CAPACITY)).expect("lines")
    }

    fn taken_over<K: Key, const LINES: usize>(&self) -> Ledger<K, LINES> {
        Ledger::adopt(self.lines::<K, LINES>(), spread(), |_| true)
    }
}

/// Real servers by client. Each client has one.
fn content<K: Numbered, const LINES: usize>(ledger: &Ledger<K, LINES>) -> HashMap<u32, u32> {
    let all: Vec<(u32, u32)> = ledger.iter().map(|it| (it.key.number(), it.server().0)).collect();
    let content: HashMap<u32, u32> = all.iter().copied().collect();
    assert_eq!(content.len(), all.len(), "{all:?}");
    for (client, server) in &content {
        let found = ledger.find(K::of(*client), LIFETIME, NOW).expect("each is found");
        assert_eq!(found.server.0, *server);
    }
    content
}

/// One operation. What the content becomes by it, if it is not forbidden, is told beforehand.
fn step<K: Numbered, const LINES: usize>(
    ledger: &Ledger<K, LINES>,
    before: &HashMap<u32, u32>,
    (what, client, server): (u8, u8, u8),
    pauses: u32,
) -> (bool, HashMap<u32, u32>) {
    let (client, server) = (u32::from(client) % 64, ServerId(u32::from(server) % 5 + 1));
    let key = K::of(client);
    let mut after = before.clone();
    let known = before.get(&client).map(|server| ServerId(*server));
    let slot = known.and_then(|_| ledger.find(key, LIFETIME, NOW)).map(|found| found.slot);
    let is_done = match (known.zip(slot), what % 8) {
        (None, _) => {
            after.insert(client, server.0);
            cut_short(pauses, || _ = ledger.bind(key, server, LIFETIME, NOW, |_| Some(LIFETIME)))
        }
        (Some((known, slot)), 0 | 1) => {
            after.insert(client, server.0);
            cut_short(pauses, || _ = ledger.rebind(slot, key, known, server, NOW))
        }
        (Some((known, slot)), 2) => cut_short(pauses, || _ = ledger.attach(slot, key, known, LIFETIME, NOW)),
        (Some((known, _)), 3) => cut_short(pauses, || _ = ledger.detach(key, known, LIFETIME, NOW)),
        _ => {
            after.remove(&client);
            let lifetime = |it: Template<K>| (it.key != key).then_some(LIFETIME);
            cut_short(pauses, || _ = ledger.sweep(0..ledger.buckets(), NOW + 1, lifetime))
        }
    };
    (is_done, after)
}

fn ends_anywhere<K: Numbered, const LINES: usize>() {
    bolero::check!().with_type::<(Vec<(u8, u8, u8)>, [u8; 4])>().with_iterations(300).for_each(
        |(steps, [pauses, again, client, server])| {
            let memory = Memory::new::<K, LINES>();
            let ledger = Ledger::<K, LINES>::new(memory.lines::<K, LINES>(), spread());
            let mut before = HashMap::new();
            for operation in steps {
                step(&ledger, &before, *operation, 0);
                // Some find no room.
                before = content(&ledger);
            }
            let last = (steps.len() as u8, *client, *server);
            let (is_done, after) = step(&ledger, &before, last, u32::from(*pauses) % 12 + 1);
            // The next one ends while it takes over.
            let was_taken_over =
                cut_short(u32::from(*again) * 2 + 1, || drop(memory.taken_over::<K, LINES>()));
            let next = memory.taken_over::<K, LINES>();
            let found = content(&next);
            let is_full = before.len() < after.len() && found == before;
            assert!(found == after || !is_done && found == before || is_full, "{was_taken_over}: {found:?}");
            assert!(next.iter().all(|template| template.connections() == 0));
            // It works on, and ends with its time.
            for (client, server) in &found {
                assert!(next.tie(K::of(*client), ServerId(*server)));
                assert!(!next.tie(K::of(*client), ServerId(*server + 1)));
                assert!(next.detach(K::of(*client), ServerId(*server), LIFETIME, NOW));
            }
            assert_eq!(next.sweep(0..next.buckets(), NOW + 2 * LIFETIME, |_| Some(LIFETIME)), found.len());
            assert_eq!(next.iter().count(), 0);
        },
    );
}

#[test]
fn a_process_that_ends_at_any_step_leaves_what_it_had_before_it_or_after_it() {
    ends_anywhere::<TemplateKey, 2>();
    ends_anywhere::<TemplateKey6, 4>();
}

fn any_bits<K: Numbered, const LINES: usize>(
    known: impl Fn(Template<K>) -> bool + Copy + std::panic::RefUnwindSafe,
) {
    bolero::check!().with_type::<Vec<(u16, u8, u64)>>().with_iterations(300).for_each(|words| {
        let memory = Memory::new::<K, LINES>();
        let ledger = Ledger::<K, LINES>::new(memory.lines::<K, LINES>(), spread());
        for client in 0..CAPACITY as u32 {
            _ = ledger.bind(K::of(client), ServerId(client % 5 + 1), LIFETIME, NOW, |_| Some(LIFETIME));
        }
        let lines = memory.lines::<K, LINES>();
        for &(place, how, word) in words {
            let at = |place: usize| &lines[place / 8 % lines.len()].0[place % 8];
            let value = match how % 4 {
                // What lies elsewhere, so that keys are there twice; one bit; any word.
                0 => at(usize::from(how) * 31).load(Relaxed),
                1 => at(usize::from(place)).load(Relaxed) ^ 1 << (word % 64),
                _ => word,
            };
            at(usize::from(place)).store(value, Relaxed);
        }
        let first = Ledger::<K, LINES>::adopt(memory.lines::<K, LINES>(), spread(), known);
        let all: Vec<_> = first.iter().collect();
        for template in &all {
            assert!(known(*template) && template.connections() == 0 && template.key.is_sound());
            let (slot, word) = first.locate(template.key).expect("each is found");
            assert_eq!((first.read(slot).map(|it| it.key), word), (Some(template.key), template.word));
        }
        assert!(first.slots().all(|slot| !Word(first.value(slot).load(Relaxed)).is_pending()));
        // Taken over once more it is the same.
        let again = Ledger::<K, LINES>::adopt(memory.lines::<K, LINES>(), spread(), known);
        assert_eq!(again.iter().collect::<Vec<_>>(), all);
        // And into another one.
        let other = Ledger::<K, LINES>::new(
            Slab::heap(Ledger::<K, LINES>::lines_for(4 * CAPACITY)).unwrap(),
            spread(),
        );
        all.iter().for_each(|template| other.take_in(*template));
        assert!(other.iter().all(|it| all.contains(&it)));
        assert!(other.iter().all(|it| other.locate(it.key).is_some_and(|(_, word)| word == it.word)));
        _ = again.bind(K::of(63), ServerId(1), LIFETIME, NOW, |_| Some(LIFETIME));
        for round in 1..4 {
            again.sweep(0..again.buckets(), NOW + round * 1_000, |_| None);
        }
        assert_eq!(again.iter().count(), 0);
    });
}

#[test]
fn any_bits_at_all_are_taken_for_what_they_may_be() {
    any_bits::<TemplateKey, 2>(|it| {
        it.server().0 <= 5 && it.owner() == Owner { service: ServiceId(0), epoch: 80 }
    });
    any_bits::<TemplateKey6, 4>(|it| it.server().0 <= 5 && it.owner().epoch == 80);
}
