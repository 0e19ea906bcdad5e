//! Many threads on a small table.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread;

use super::*;

const THREADS: usize = 8;

fn seed(thread: usize, round: usize) {
    RANDOM.set((thread as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (round as u64) << 32 | 1);
    YIELDS.set([3, 10, 40, 0][round % 4]);
}

/// Where all threads meet. Unlike the standard library's barrier it lets nobody wait for a thread that failed.
#[derive(Default)]
struct Meeting {
    arrivals: AtomicUsize,
    has_failed: AtomicBool,
}

impl Meeting {
    fn wait(&self) {
        let turn = self.arrivals.fetch_add(1, SeqCst) / THREADS;
        while self.arrivals.load(SeqCst) < (turn + 1) * THREADS {
            assert!(!self.has_failed.load(SeqCst), "another thread failed");
            thread::yield_now();
        }
    }
}

/// Ends the meeting if its thread fails.
struct Member<'a>(&'a Meeting);

impl Drop for Member<'_> {
    fn drop(&mut self) {
        self.0.has_failed.fetch_or(thread::panicking(), SeqCst);
    }
}

/// Runs `body` on all threads at once.
fn on_all_threads(round: usize, body: impl Fn(usize, &Meeting) + Sync) {
    let meeting = Meeting::default();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (meeting, body) = (&meeting, &body);
            scope.spawn(move || {
                let _member = Member(meeting);
                seed(thread, round);
                meeting.wait();
                body(thread, meeting);
            });
        }
    });
}

#[test]
fn all_who_bind_a_key_at_once_get_one_real_server() {
    const KEYS: u32 = 400;
    for round in 0..20 {
        // Four buckets that fill up: binders also meet claims, reclaimed slots and the end of the window.
        let templates: Templates = table(14, spread());
        let now = AtomicU32::new(1_000);
        let servers: Vec<AtomicU32> = (0..KEYS).map(|_| AtomicU32::new(0)).collect();
        let made: Vec<AtomicU32> = (0..KEYS).map(|_| AtomicU32::new(0)).collect();
        on_all_threads(round, |thread, turn| {
            for client in 0..KEYS {
                turn.wait();
                if thread == 0 && client % 8 == 0 {
                    let now = now.fetch_add(1, SeqCst) + 1;
                    templates.sweep(0..templates.buckets(), now, |template| {
                        (template.key().client().bits() + 8 > client).then_some(300)
                    });
                }
                let own = ServerId(client * 100 + thread as u32 + 1);
                let bound = templates.bind(key(client), own, 300, now.load(SeqCst), |_| Some(300)).unwrap();
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
    let templates: Templates = table(64, spread());
    let Bound { slot, .. } = templates.bind(key(1), ServerId(1), 300, 10, |_| Some(300)).unwrap();
    let servers: Vec<AtomicU32> = (0..2_000).map(|_| AtomicU32::new(0)).collect();
    on_all_threads(0, |thread, turn| {
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
struct Stress<K, const LINES: usize> {
    templates: Ledger<K, LINES>,
    now: AtomicU32,
    /// By client: real server in the upper half, connections in the lower.
    witnesses: Vec<AtomicU64>,
    connected: AtomicU64,
    full: AtomicU64,
    bound: AtomicU64,
    shared: AtomicU64,
    swept: AtomicU64,
}

const LIFETIME: u32 = 2;
/// The seconds in the templates wrap soon after.
const START: u32 = (1 << 22) - 100;

impl<K: Numbered, const LINES: usize> Stress<K, LINES> {
    fn new(capacity: usize, clients: usize) -> Self {
        Self {
            templates: table(capacity, spread()),
            now: AtomicU32::new(START),
            witnesses: (0..clients).map(|_| AtomicU64::new(0)).collect(),
            connected: AtomicU64::new(0),
            full: AtomicU64::new(0),
            bound: AtomicU64::new(0),
            shared: AtomicU64::new(0),
            swept: AtomicU64::new(0),
        }
    }

    /// The time as a thread has it: it may be a second behind.
    fn now(&self) -> u32 {
        self.now.load(SeqCst) - random(2) as u32
    }

    /// A new connection, as the module says. Returns the real server and whether the connection hangs on a template.
    fn connect(&self, client: u32, own: ServerId) -> Option<ServerId> {
        let now = self.now();
        for _ in 0..3 {
            let (slot, server) = match self.templates.find(K::of(client), LIFETIME, now) {
                Some(found) => (found.slot, found.server),
                None => match self.templates.bind(K::of(client), own, LIFETIME, now, |_| Some(LIFETIME)) {
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
            if self.templates.attach(slot, K::of(client), server, LIFETIME, now) {
                self.connected.fetch_add(1, SeqCst);
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
            let next = u64::from(server.0) << 32 | (connections + 1);
            match witness.compare_exchange(seen, next, SeqCst, SeqCst) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    fn disconnect(&self, client: u32, server: ServerId) {
        // A template that something hangs on is never lost.
        let found = self.templates.find(K::of(client), LIFETIME, self.now());
        assert_eq!(found.map(|found| found.server), Some(server), "the template of {client} is lost");
        self.witnesses[client as usize].fetch_sub(1, SeqCst);
        assert!(self.templates.detach(K::of(client), server, LIFETIME, self.now()));
    }

    fn run(&self, thread: usize, held_max: usize, operations: usize) {
        let mut held: Vec<(u32, ServerId)> = Vec::new();
        let clients = self.witnesses.len() as u64;
        for operation in 0..operations {
            match random(16) {
                0..=6 if held.len() < held_max => {
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
                    self.templates.assure(K::of(client), server);
                }
                9 if operation % 8 == 0 => _ = self.now.fetch_add(1, SeqCst),
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

/// Lets all threads connect and disconnect `clients` clients, `held_max` connections a thread at the same time.
fn stress<K: Numbered, const LINES: usize>(
    capacity: usize,
    clients: usize,
    held_max: usize,
    operations: usize,
) {
    for round in 0..4 {
        let stress = Stress::<K, LINES>::new(capacity, clients);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            // A listing goes on all the time.
            scope.spawn(|| {
                while !is_over.load(SeqCst) {
                    assert!(stress.templates.iter().all(|t| t.key().number() < clients as u32));
                    thread::yield_now();
                }
            });
            let _over = OnDrop(&is_over);
            on_all_threads(round, |thread, _| stress.run(thread, held_max, operations));
        });
        assert!(stress.witnesses.iter().all(|witness| witness.load(SeqCst) & 0xffff_ffff == 0));
        println!(
            "{} operations: {} connections, {} templates made, {} binds that met another's, {} full, {} swept",
            THREADS * operations,
            stress.connected.load(SeqCst),
            stress.bound.load(SeqCst),
            stress.shared.load(SeqCst),
            stress.full.load(SeqCst),
            stress.swept.load(SeqCst),
        );
        assert!(stress.bound.load(SeqCst) > clients as u64 && stress.swept.load(SeqCst) > clients as u64);
        assert_comes_to_rest(&stress.templates, stress.now.load(SeqCst));
    }
}

/// Raises a flag at the end, also at a bad one.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

fn stress_all<K: Numbered, const LINES: usize>(operations: usize) {
    // 28 slots for 24 clients: every slot in use and used again all the time.
    stress::<K, LINES>(14, 24, 2, operations);
    // More clients than slots: full is a normal answer.
    stress::<K, LINES>(14, 64, 3, operations);
    // Many connections to each, so that templates live long past their time.
    stress::<K, LINES>(14, 20, 12, operations);
    stress::<K, LINES>(400, 300, 4, operations);
}

#[test]
fn templates_with_connections_are_never_lost_nor_doubled_under_stress() {
    stress_all::<TemplateKey, 2>(8_000);
}

#[test]
fn templates_of_ipv6_are_never_lost_nor_doubled_under_stress() {
    stress_all::<TemplateKey6, 4>(8_000);
}

#[test]
#[ignore = "takes minutes: the same with 100 times as many operations"]
fn templates_with_connections_are_never_lost_nor_doubled_under_long_stress() {
    stress_all::<TemplateKey, 2>(800_000);
    stress_all::<TemplateKey6, 4>(800_000);
}
