use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;

use crate::conn::record::ServiceId;

use super::*;

const THREADS: usize = 8;

thread_local! {
    /// One in so many pauses lets another thread run; 0: none does.
    static YIELDS: Cell<u64> = const { Cell::new(0) };
    static RANDOM: Cell<u64> = const { Cell::new(0x9e37_79b9_7f4a_7c15) };
}

/// Stands between the steps of the operations: few cores then still see many interleavings.
pub(super) fn pause() {
    let one_in = YIELDS.get();
    if one_in != 0 && random(one_in) == 0 {
        thread::yield_now();
    }
}

/// Below `bound`.
fn random(bound: u64) -> u64 {
    let mut state = RANDOM.get();
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    RANDOM.set(state);
    (state >> 11) % bound
}

fn seed(thread: usize, round: usize) {
    RANDOM.set((thread as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (round as u64) << 32 | 1);
    YIELDS.set([3, 10, 40, 0][round % 4]);
}

fn table(capacity: usize, key: HashKey) -> Templates {
    Templates::new(Slab::heap(Templates::lines_for(capacity)).unwrap(), key)
}

fn spread() -> HashKey {
    HashKey::new([0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9])
}

/// Sends all keys of one virtual server and port home to one bucket.
fn crowded() -> HashKey {
    HashKey::new([0, 1])
}

fn key(client: u32) -> TemplateKey {
    TemplateKey::new(client, 32, ServiceId(0), 80)
}

/// No slot is pending, no count is left, and time empties the table.
fn assert_comes_to_rest(templates: &Templates, now: u32) {
    for bucket in 0..templates.buckets() {
        for index in 0..SLOTS {
            let word = Word(templates.value(Slot { bucket, index }).load(SeqCst));
            assert!(word.is_free() || word.is_live(), "{word:?} at {bucket}/{index}");
        }
    }
    assert!(templates.iter().all(|template| template.connections() == 0));
    let present = templates.iter().count();
    let far = now + LIFETIME_SECS_MAX;
    assert_eq!(templates.sweep(0..templates.buckets(), far, |_| Some(300)), present);
    assert_eq!(templates.iter().count(), 0);
}

/// A template as IPVS keeps it: with a timer that fires.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Timed {
    server: u32,
    connections: u32,
    assured: bool,
    timeout: u32,
    fires: u32,
}

impl Timed {
    fn new(server: u32, lifetime: u32, now: u32) -> Self {
        Self { server, connections: 0, assured: false, timeout: lifetime, fires: now + lifetime }
    }
}

#[derive(Default)]
struct Model(HashMap<u32, Timed>);

impl Model {
    /// Lets all timers fire that fire before `now`.
    fn advance(&mut self, now: u32) {
        self.0.retain(|_, timed| {
            while timed.fires < now {
                if timed.connections == 0 {
                    return false;
                }
                timed.timeout = 60;
                timed.fires += 60;
            }
            true
        });
    }

    fn use_by(&mut self, client: u32, server: u32, now: u32) -> Option<&mut Timed> {
        let timed = self.0.get_mut(&client).filter(|timed| timed.server == server)?;
        timed.fires = now + timed.timeout;
        Some(timed)
    }

    fn agrees_with(&self, templates: &Templates, lifetime: u32, now: u32) {
        let mut alive = 0;
        for template in templates.iter() {
            let Some(left) = template.expires_in(lifetime, now) else { continue };
            alive += 1;
            let timed = self.0[&template.key().client()];
            assert_eq!(template.server().0, timed.server);
            assert_eq!(template.connections(), timed.connections);
            assert_eq!(template.is_assured(), timed.assured);
            assert_eq!(left, timed.fires - now);
        }
        assert_eq!(alive, self.0.len());
        let counts = templates.count(50, now, |_| Some(lifetime));
        for server in 0..50u32 {
            let expected = self.0.values().filter(|timed| timed.server == server).count();
            assert_eq!(counts[server as usize] as usize, expected);
        }
    }
}

/// Each operation is (what, client, server, seconds that pass before it). Returns how often the table was full.
fn compare_with_a_model(hash_key: HashKey, operations: &[(u8, u8, u8, u8)]) -> usize {
    let lifetime = 100;
    let templates = table(14, hash_key);
    let mut model = Model::default();
    let (mut now, mut full) = (u32::MAX / 1_000, 0);
    for &(what, client, server, seconds) in operations {
        now += u32::from(seconds) % 40;
        model.advance(now);
        let (client, id) = (u32::from(client) % 48, u32::from(server) % 5 + 1);
        let server = ServerId(id);
        let found = templates.find(key(client), lifetime, now);
        let modelled = model.0.get(&client).copied();
        assert_eq!(
            found.map(|found| (found.server.0, found.is_assured)),
            modelled.map(|timed| (timed.server, timed.assured)),
            "{client} at {now}"
        );
        match what % 8 {
            0 | 1 => match templates.bind(key(client), server, lifetime, now) {
                Ok(bound) => {
                    assert_eq!(bound.is_new, modelled.is_none());
                    let timed = model.0.entry(client).or_insert(Timed::new(id, lifetime, now));
                    assert_eq!(bound.server.0, timed.server);
                }
                Err(Full) => {
                    full += 1;
                    assert!(modelled.is_none());
                    assert!(templates.iter().count() >= SLOTS * WINDOW);
                }
            },
            2 => {
                let slot = found.map_or(Slot { bucket: 0, index: 0 }, |found| found.slot);
                let attached = templates.attach(slot, key(client), server, lifetime, now);
                let timed = model.use_by(client, id, now);
                assert_eq!(attached, timed.is_some());
                timed.into_iter().for_each(|timed| timed.connections += 1);
            }
            3 => {
                let timed =
                    model.0.get_mut(&client).filter(|timed| timed.server == id && timed.connections != 0);
                assert_eq!(templates.detach(key(client), server, lifetime, now), timed.is_some());
                timed.into_iter().for_each(|timed| timed.connections -= 1);
            }
            4 => {
                let timed = model.0.get_mut(&client).filter(|timed| timed.server == id && !timed.assured);
                // An unswept template that is over may be marked; it is as good as gone.
                assert!(templates.assure(key(client), server) || timed.is_none());
                timed.into_iter().for_each(|timed| timed.assured = true);
            }
            5 => {
                let Some(found) = found else { continue };
                let to = ServerId(id + 10);
                assert_eq!(templates.rebind(found.slot, key(client), found.server, to, now), Some(to));
                assert_eq!(templates.rebind(found.slot, key(client), found.server, server, now), Some(to));
                model.0.insert(client, Timed::new(to.0, lifetime, now));
            }
            6 => {
                let Some(found) = found else { continue };
                assert_eq!(
                    templates.touch(found.slot, key(client), server, lifetime, now),
                    model.use_by(client, id, now).is_some()
                );
            }
            _ => {
                let first = usize::from(seconds);
                templates.sweep(first..first + 2, now, |_| Some(lifetime));
            }
        }
        model.agrees_with(&templates, lifetime, now);
    }
    full
}

#[test]
fn any_operations_agree_with_a_map_and_eager_timers() {
    bolero::check!().with_type::<Vec<(u8, u8, u8, u8)>>().for_each(|operations| {
        compare_with_a_model(spread(), operations);
        compare_with_a_model(crowded(), operations);
    });
}

#[test]
fn long_random_histories_agree_with_a_map_and_eager_timers() {
    let mut full = 0;
    for _ in 0..60 {
        let operations: Vec<_> = (0..3_000)
            .map(|_| {
                let seconds = if random(4) == 0 { random(256) as u8 } else { 0 };
                (random(256) as u8, random(256) as u8, random(256) as u8, seconds)
            })
            .collect();
        full += compare_with_a_model(spread(), &operations);
        full += compare_with_a_model(crowded(), &operations);
    }
    assert_ne!(full, 0, "a full window is part of the histories");
}

#[test]
fn the_longest_netmask_still_keeps_virtual_servers_and_ports_apart() {
    let templates = table(64, spread());
    let keys: Vec<_> = (0..4u16)
        .flat_map(|service| [0, 80].map(|port| TemplateKey::new(7, 0, ServiceId(service), port)))
        .collect();
    for (key, server) in keys.iter().zip(1..) {
        assert!(templates.bind(*key, ServerId(server), 300, 5).unwrap().is_new);
    }
    for (key, server) in keys.iter().zip(1..) {
        assert_eq!(templates.find(*key, 300, 5).map(|found| found.server), Some(ServerId(server)));
    }
}

#[test]
fn a_window_holds_what_its_slots_hold_and_says_full_then() {
    let templates = table(1_000, crowded());
    let slots = (SLOTS * WINDOW) as u32;
    for client in 0..slots {
        assert!(templates.bind(key(client), ServerId(client + 1), 300, 10).unwrap().is_new);
    }
    assert_eq!(templates.bind(key(slots), ServerId(1), 300, 10), Err(Full));
    assert!(!templates.bind(key(slots - 1), ServerId(1), 300, 10).unwrap().is_new, "what is there is found");
    for client in 0..slots {
        assert_eq!(
            templates.find(key(client), 300, 10).map(|found| found.server),
            Some(ServerId(client + 1))
        );
    }
    // What is over gives its place up to the sweep, and searches become short again.
    assert_eq!(templates.sweep(0..templates.buckets(), 311, |_| Some(300)), slots as usize);
    let home = templates.home(key(0));
    assert_eq!(templates.completed(home).reach(), WINDOW - 1);
    assert!(templates.bind(key(slots), ServerId(1), 300, 311).unwrap().is_new);
    assert_eq!(templates.completed(home).reach(), 0);
}

#[test]
fn a_template_that_is_over_is_replaced_in_its_place() {
    let templates = table(64, spread());
    let first = templates.bind(key(1), ServerId(1), 300, 10).unwrap();
    assert!(templates.assure(key(1), ServerId(1)));
    assert_eq!(templates.find(key(1), 300, 311), None);
    let second = templates.bind(key(1), ServerId(2), 300, 311).unwrap();
    assert_eq!(second, Bound { slot: first.slot, server: ServerId(2), is_new: true });
    assert!(!templates.find(key(1), 300, 311).unwrap().is_assured);
    assert_eq!(templates.iter().count(), 1);
}

#[test]
fn connections_of_the_old_real_server_do_not_hang_on_the_new_one() {
    let templates = table(64, spread());
    let Bound { slot, .. } = templates.bind(key(1), ServerId(1), 300, 10).unwrap();
    assert!(templates.attach(slot, key(1), ServerId(1), 300, 10));
    assert_eq!(templates.rebind(slot, key(1), ServerId(1), ServerId(2), 11), Some(ServerId(2)));
    assert!(!templates.attach(slot, key(1), ServerId(1), 300, 12));
    assert!(templates.attach(slot, key(1), ServerId(2), 300, 12));
    assert!(!templates.detach(key(1), ServerId(1), 300, 13));
    assert_eq!(templates.iter().next().unwrap().connections(), 1);
    assert!(templates.detach(key(1), ServerId(2), 300, 13));
    assert!(!templates.detach(key(1), ServerId(2), 300, 13));
    assert_eq!(templates.rebind(slot, key(2), ServerId(2), ServerId(3), 13), None);
}

#[test]
fn a_sweep_removes_what_the_caller_gives_up_but_not_in_the_second_of_its_use() {
    let templates = table(64, spread());
    let Bound { slot, .. } = templates.bind(key(1), ServerId(1), 300, 10).unwrap();
    assert!(templates.attach(slot, key(1), ServerId(1), 300, 10));
    let give_up = |_| None;
    assert_eq!(templates.sweep(0..templates.buckets(), 10, give_up), 0);
    assert_eq!(templates.sweep(0..templates.buckets(), 11, give_up), 1);
    assert!(!templates.detach(key(1), ServerId(1), 300, 11));
    assert!(!templates.attach(slot, key(1), ServerId(1), 300, 11));
}

#[test]
fn a_table_of_its_capacity_takes_nearly_everything() {
    for capacity in [896, 10_000, 114_688] {
        let templates = table(capacity, spread());
        let taken = (0..capacity as u32)
            .filter(|&client| templates.bind(key(client), ServerId(1), 300, 10).is_ok())
            .count();
        assert_eq!(templates.iter().count(), taken);
        assert!(taken * 10_000 >= capacity * 9_995, "{taken} of {capacity}");
    }
}

/// Runs `body` on all threads at once.
fn on_all_threads(round: usize, body: impl Fn(usize) + Sync) {
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (start, body) = (&start, &body);
            scope.spawn(move || {
                seed(thread, round);
                start.wait();
                body(thread);
            });
        }
    });
}

#[test]
fn all_who_bind_a_key_at_once_get_one_real_server() {
    const KEYS: u32 = 400;
    for round in 0..40 {
        // Four buckets that fill up: binders also meet claims, reclaimed slots and the end of the window.
        let templates = table(14, spread());
        let now = AtomicU32::new(1_000);
        let servers: Vec<AtomicU32> = (0..KEYS).map(|_| AtomicU32::new(0)).collect();
        let made: Vec<AtomicU32> = (0..KEYS).map(|_| AtomicU32::new(0)).collect();
        let turn = Barrier::new(THREADS);
        on_all_threads(round, |thread| {
            for client in 0..KEYS {
                turn.wait();
                if thread == 0 && client % 8 == 0 {
                    let now = now.fetch_add(1, SeqCst) + 1;
                    templates.sweep(0..templates.buckets(), now, |template| {
                        (template.key().client() + 24 > client).then_some(300)
                    });
                }
                let own = ServerId(client * 100 + thread as u32 + 1);
                let bound = templates.bind(key(client), own, 300, now.load(SeqCst)).unwrap();
                assert_eq!(bound.is_new, bound.server == own);
                made[client as usize].fetch_add(u32::from(bound.is_new), SeqCst);
                let first = servers[client as usize].compare_exchange(0, bound.server.0, SeqCst, SeqCst);
                assert!(first.is_ok() || first == Err(bound.server.0), "two real servers for {client}");
                let found = templates.find(key(client), 300, now.load(SeqCst));
                assert_eq!(found.map(|found| (found.slot, found.server)), Some((bound.slot, bound.server)));
            }
        });
        assert!(made.iter().all(|made| made.load(SeqCst) == 1));
        assert_comes_to_rest(&templates, now.load(SeqCst));
    }
}

#[test]
fn all_who_rebind_a_key_at_once_get_one_real_server() {
    let templates = table(64, spread());
    let Bound { slot, .. } = templates.bind(key(1), ServerId(1), 300, 10).unwrap();
    let servers: Vec<AtomicU32> = (0..2_000).map(|_| AtomicU32::new(0)).collect();
    let turn = Barrier::new(THREADS);
    on_all_threads(0, |thread| {
        let mut from = ServerId(1);
        for (round, server) in servers.iter().enumerate() {
            turn.wait();
            let own = ServerId((round as u32 + 1) * 100 + thread as u32);
            from = templates.rebind(slot, key(1), from, own, 11).unwrap();
            let first = server.compare_exchange(0, from.0, SeqCst, SeqCst);
            assert!(first.is_ok() || first == Err(from.0));
        }
    });
    assert_comes_to_rest(&templates, 11);
}

/// What the threads of a stress share: the table, a clock, and for each key who hangs on it by whose word.
struct Stress {
    templates: Templates,
    now: AtomicU32,
    /// By client: real server in the upper half, connections in the lower.
    witnesses: Vec<AtomicU64>,
    full: AtomicU64,
    bound: AtomicU64,
    shared: AtomicU64,
    swept: AtomicU64,
}

const LIFETIME: u32 = 2;

impl Stress {
    fn new(capacity: usize, clients: usize) -> Arc<Self> {
        Arc::new(Self {
            templates: table(capacity, spread()),
            now: AtomicU32::new(4_194_000),
            witnesses: (0..clients).map(|_| AtomicU64::new(0)).collect(),
            full: AtomicU64::new(0),
            bound: AtomicU64::new(0),
            shared: AtomicU64::new(0),
            swept: AtomicU64::new(0),
        })
    }

    /// The time as a thread has it: it may be a second behind.
    fn now(&self) -> u32 {
        self.now.load(SeqCst) - random(2) as u32
    }

    /// A new connection, as the module says. Returns the real server and whether the connection hangs on a template.
    fn connect(&self, client: u32, own: ServerId) -> Option<ServerId> {
        let now = self.now();
        for _ in 0..3 {
            let (slot, server) = match self.templates.find(key(client), LIFETIME, now) {
                Some(found) => (found.slot, found.server),
                None => match self.templates.bind(key(client), own, LIFETIME, now) {
                    Ok(bound) => {
                        let counter = if bound.is_new { &self.bound } else { &self.shared };
                        counter.fetch_add(1, SeqCst);
                        (bound.slot, bound.server)
                    }
                    Err(Full) => {
                        self.full.fetch_add(1, SeqCst);
                        return None;
                    }
                },
            };
            if self.templates.attach(slot, key(client), server, LIFETIME, now) {
                self.witness(client, server);
                return Some(server);
            }
        }
        None
    }

    /// Whoever hangs on a template while others do has to have come to the same real server.
    fn witness(&self, client: u32, server: ServerId) {
        let witness = &self.witnesses[client as usize];
        let mut seen = witness.load(SeqCst);
        loop {
            let (there, connections) = (seen >> 32, seen & 0xffff_ffff);
            assert!(connections == 0 || there == u64::from(server.0), "{client}: {there} and {}", server.0);
            let next = u64::from(server.0) << 32 | connections + 1;
            match witness.compare_exchange(seen, next, SeqCst, SeqCst) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    fn disconnect(&self, client: u32, server: ServerId) {
        // A template that something hangs on is never lost.
        let found = self.templates.find(key(client), LIFETIME, self.now());
        assert_eq!(found.map(|found| found.server), Some(server), "the template of {client} is lost");
        self.witnesses[client as usize].fetch_sub(1, SeqCst);
        assert!(self.templates.detach(key(client), server, LIFETIME, self.now()));
    }

    fn run(&self, thread: usize, operations: usize) {
        let mut held: Vec<(u32, ServerId)> = Vec::new();
        let clients = self.witnesses.len() as u64;
        for operation in 0..operations {
            match random(16) {
                0..=6 if held.len() < 12 => {
                    let client = random(clients) as u32;
                    let own = ServerId((operation % 100_000 * THREADS + thread + 1) as u32);
                    held.extend(self.connect(client, own).map(|server| (client, server)));
                }
                7 => {
                    let bucket = random(self.templates.buckets() as u64) as usize;
                    let now = self.now();
                    // Also without need: templates that nobody hangs on, as drop_entry does.
                    let drop_idle = random(4) == 0;
                    let removed = self.templates.sweep(bucket..bucket + 2, now, |template| {
                        (!drop_idle || template.connections() != 0).then_some(LIFETIME)
                    });
                    self.swept.fetch_add(removed as u64, SeqCst);
                }
                8 if !held.is_empty() => {
                    let (client, server) = held[random(held.len() as u64) as usize];
                    self.templates.assure(key(client), server);
                }
                9 if operation % 64 == 0 => _ = self.now.fetch_add(1, SeqCst),
                _ if !held.is_empty() => {
                    let (client, server) = held.swap_remove(random(held.len() as u64) as usize);
                    self.disconnect(client, server);
                }
                _ => {}
            }
        }
        held.drain(..).for_each(|(client, server)| self.disconnect(client, server));
    }
}

fn stress(capacity: usize, clients: usize, rounds: usize, operations: usize) {
    for round in 0..rounds {
        let stress = Stress::new(capacity, clients);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            // A listing goes on all the time.
            scope.spawn(|| {
                while !is_over.load(SeqCst) {
                    assert!(stress.templates.iter().all(|t| t.key().client() < clients as u32));
                    thread::yield_now();
                }
            });
            on_all_threads(round, |thread| stress.run(thread, operations));
            is_over.store(true, SeqCst);
        });
        assert!(stress.witnesses.iter().all(|witness| witness.load(SeqCst) & 0xffff_ffff == 0));
        println!(
            "{} operations: {} templates made, {} binds that met another's, {} full, {} swept, {} s passed",
            THREADS * operations,
            stress.bound.load(SeqCst),
            stress.shared.load(SeqCst),
            stress.full.load(SeqCst),
            stress.swept.load(SeqCst),
            stress.now.load(SeqCst) - 4_194_000,
        );
        assert_comes_to_rest(&stress.templates, stress.now.load(SeqCst));
    }
}

#[test]
fn templates_with_connections_are_never_lost_nor_doubled_under_stress() {
    // 28 slots: eight threads with twelve connections to 24 clients, every slot in use and reused all the time.
    stress(14, 24, 4, 60_000);
    // More clients than slots: full is a normal answer.
    stress(14, 64, 4, 60_000);
    stress(400, 300, 2, 60_000);
}
