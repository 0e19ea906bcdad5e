mod concurrent;

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use crate::conn::record::ServiceId;

use super::*;
use crate::address::Addr4;

/// Most is tested with keys of one word; what may differ, with those of three as well.
type Templates = Ledger<TemplateKey, 2>;

/// A key that stands for a number, of one virtual server and port.
pub(super) trait Numbered: Key + Send + Sync {
    fn of(client: u32) -> Self;
    fn number(self) -> u32;
}

impl Numbered for TemplateKey {
    fn of(client: u32) -> Self {
        key(client)
    }
    fn number(self) -> u32 {
        self.client().bits()
    }
}

/// Every word of it says which it is, so one that is made of two others is none.
impl Numbered for TemplateKey6 {
    fn of(client: u32) -> Self {
        let half = u128::from(client);
        let bits = 0x2001_0db8 << 96 | half << 64 | half;
        Self::new(bits.into(), 128, ServiceId((client % 4) as u16), 80)
    }
    fn number(self) -> u32 {
        let IpAddr::V6(address) = self.address() else { panic!("another family's") };
        let number = address.to_bits() as u32;
        assert_eq!(self, Self::of(number));
        number
    }
}

thread_local! {
    /// One in so many pauses lets another thread run; 0: none does.
    static YIELDS: Cell<u64> = const { Cell::new(0) };
    static RANDOM: Cell<u64> = const { Cell::new(0x9e37_79b9_7f4a_7c15) };
    /// After so many pauses this thread ends in the middle of what it does; 0: it does not.
    static FUSE: Cell<u32> = const { Cell::new(0) };
}

/// Does something up to its `pauses`th pause, if it has so many. Returns whether it got to its end.
pub(super) fn cut_short(pauses: u32, deed: impl FnOnce()) -> bool {
    FUSE.set(pauses);
    let is_done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(deed)).is_ok();
    FUSE.set(0);
    is_done
}

/// Stands between the steps of the operations: few cores then still see many interleavings.
pub(super) fn pause() {
    match FUSE.get() {
        0 => {}
        1 => std::panic::resume_unwind(Box::new("the end")),
        left => FUSE.set(left - 1),
    }
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

fn table<K: Key, const LINES: usize>(capacity: usize, key: HashKey) -> Ledger<K, LINES> {
    Ledger::new(Slab::heap(Ledger::<K, LINES>::lines_for(capacity)).unwrap(), key)
}

fn spread() -> HashKey {
    HashKey::new([0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9])
}

/// Sends all keys of one virtual server and port home to one bucket.
fn crowded() -> HashKey {
    HashKey::new([0, 1])
}

fn key(client: u32) -> TemplateKey {
    TemplateKey::new(Addr4::from_bits(client), 32, ServiceId(0), 80)
}

/// No slot is pending, no count is left, and time empties the table.
fn assert_comes_to_rest<K: Key, const LINES: usize>(templates: &Ledger<K, LINES>, now: u32) {
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

    fn of(&mut self, client: u32, server: u32) -> Option<&mut Timed> {
        self.0.get_mut(&client).filter(|timed| timed.server == server)
    }

    fn use_by(&mut self, client: u32, server: u32, now: u32) -> Option<&mut Timed> {
        let timed = self.of(client, server)?;
        timed.fires = now + timed.timeout;
        Some(timed)
    }

    fn agrees_with<K: Numbered, const LINES: usize>(
        &self,
        templates: &Ledger<K, LINES>,
        lifetime: u32,
        now: u32,
    ) {
        let mut alive = 0;
        for template in templates.iter() {
            let Some(left) = template.expires_in(lifetime, now) else { continue };
            alive += 1;
            let timed = self.0[&template.key().number()];
            assert_eq!(template.server().0, timed.server);
            assert_eq!(template.connections(), timed.connections);
            assert_eq!(template.is_assured(), timed.assured);
            assert_eq!(left, timed.fires - now);
        }
        assert_eq!(alive, self.0.len());
        let mut counts = [0; 50];
        templates.count(&mut counts, now, |_| Some(lifetime));
        for server in 0..50u32 {
            let expected = self.0.values().filter(|timed| timed.server == server).count();
            assert_eq!(counts[server as usize] as usize, expected);
        }
    }
}

/// The table and the model side by side.
struct Pair<K, const LINES: usize> {
    templates: Ledger<K, LINES>,
    model: Model,
    now: u32,
    /// How often the table was full.
    full: usize,
}

const TIMEOUT: u32 = 100;

impl<K: Numbered, const LINES: usize> Pair<K, LINES> {
    fn new(hash_key: HashKey) -> Self {
        Self { templates: table(14, hash_key), model: Model::default(), now: 4_294_967, full: 0 }
    }

    /// One operation on both: what, on which client, with which real server, after how many seconds.
    fn apply(&mut self, (what, client, server, seconds): (u8, u8, u8, u8)) {
        self.now += u32::from(seconds) % 40;
        let now = self.now;
        self.model.advance(now);
        let (client, id) = (u32::from(client) % 48, u32::from(server) % 5 + 1);
        let (key, server) = (K::of(client), ServerId(id));
        let found = self.templates.find(key, TIMEOUT, now);
        let modelled = self.model.0.get(&client).map(|timed| (timed.server, timed.assured));
        assert_eq!(found.map(|found| (found.server.0, found.is_assured)), modelled, "{client} at {now}");
        let slot = found.map_or(Slot { bucket: 0, index: 0 }, |found| found.slot);
        match what % 8 {
            0 | 1 => self.bind(client, id),
            2 => {
                let attached = self.templates.attach(slot, key, server, TIMEOUT, now);
                let timed = self.model.use_by(client, id, now);
                assert_eq!(attached, timed.is_some());
                timed.into_iter().for_each(|timed| timed.connections += 1);
            }
            3 => {
                let timed = self.model.of(client, id).filter(|timed| timed.connections != 0);
                assert_eq!(self.templates.detach(key, server, TIMEOUT, now), timed.is_some());
                timed.into_iter().for_each(|timed| timed.connections -= 1);
            }
            4 => {
                let timed = self.model.of(client, id).filter(|timed| !timed.assured);
                // An unswept template that is over may be marked; it is as good as gone.
                assert!(self.templates.assure(key, server) || timed.is_none());
                timed.into_iter().for_each(|timed| timed.assured = true);
            }
            5 => self.rebind(client, found),
            6 => {
                let touched = self.templates.touch(slot, key, server, TIMEOUT, now);
                assert_eq!(touched, self.model.use_by(client, id, now).is_some());
            }
            _ => {
                let first = usize::from(seconds);
                self.templates.sweep(first..first + 2, now, |_| Some(TIMEOUT));
            }
        }
        self.model.agrees_with(&self.templates, TIMEOUT, now);
    }

    fn bind(&mut self, client: u32, id: u32) {
        let is_there = self.model.0.contains_key(&client);
        match self.templates.bind(K::of(client), ServerId(id), TIMEOUT, self.now, |_| Some(TIMEOUT)) {
            Ok(bound) => {
                assert_eq!(bound.is_new, !is_there);
                let timed = self.model.0.entry(client).or_insert(Timed::new(id, TIMEOUT, self.now));
                assert_eq!(bound.server.0, timed.server);
            }
            Err(Full) => {
                self.full += 1;
                assert!(!is_there);
                assert_eq!(self.model.0.len(), SLOTS * WINDOW, "what is over has no room");
            }
        }
    }

    fn rebind(&mut self, client: u32, found: Option<Found>) {
        let Some(Found { slot, server: from, .. }) = found.filter(|found| found.server.0 < 40) else {
            return;
        };
        let to = ServerId(from.0 + 10);
        assert_eq!(self.templates.rebind(slot, K::of(client), from, to, self.now), Some(to));
        assert_eq!(self.templates.rebind(slot, K::of(client), from, ServerId(1), self.now), Some(to));
        self.model.0.insert(client, Timed::new(to.0, TIMEOUT, self.now));
    }
}

#[test]
fn any_operations_agree_with_a_map_and_eager_timers() {
    bolero::check!().with_type::<Vec<(u8, u8, u8, u8)>>().for_each(|operations| {
        for hash_key in [spread(), crowded()] {
            let (mut four, mut six) =
                (Pair::<TemplateKey, 2>::new(hash_key), Pair::<TemplateKey6, 4>::new(hash_key));
            operations.iter().for_each(|&operation| four.apply(operation));
            operations.iter().for_each(|&operation| six.apply(operation));
        }
    });
}

#[test]
fn long_random_histories_agree_with_a_map_and_eager_timers() {
    let full = random_histories::<TemplateKey, 2>() + random_histories::<TemplateKey6, 4>();
    assert_ne!(full, 0, "a full window is part of the histories");
}

fn random_histories<K: Numbered, const LINES: usize>() -> usize {
    let mut full = 0;
    for round in 0..120 {
        let mut pair = Pair::<K, LINES>::new(if round % 2 == 0 { spread() } else { crowded() });
        for _ in 0..3_000 {
            let seconds = if random(16) == 0 { random(256) as u8 } else { 0 };
            pair.apply((random(256) as u8, random(256) as u8, random(256) as u8, seconds));
        }
        full += pair.full;
    }
    full
}

#[test]
fn the_longest_netmask_still_keeps_virtual_servers_and_ports_apart() {
    let templates: Templates = table(64, spread());
    let keys: Vec<_> = (0..4u16)
        .flat_map(|service| {
            [0, 80].map(|port| TemplateKey::new(Addr4::from_bits(7), 0, ServiceId(service), port))
        })
        .collect();
    for (key, server) in keys.iter().zip(1..) {
        assert!(templates.bind(*key, ServerId(server), 300, 5, |_| Some(300)).unwrap().is_new);
    }
    for (key, server) in keys.iter().zip(1..) {
        assert_eq!(templates.find(*key, 300, 5).map(|found| found.server), Some(ServerId(server)));
    }
}

#[test]
fn a_window_holds_what_its_slots_hold_and_says_full_then() {
    let templates: Templates = table(1_000, crowded());
    let slots = (SLOTS * WINDOW) as u32;
    for client in 0..slots {
        assert!(templates.bind(key(client), ServerId(client + 1), 300, 10, |_| Some(300)).unwrap().is_new);
    }
    assert_eq!(templates.bind(key(slots), ServerId(1), 300, 10, |_| Some(300)), Err(Full));
    assert!(
        !templates.bind(key(slots - 1), ServerId(1), 300, 10, |_| Some(300)).unwrap().is_new,
        "what is there is found"
    );
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
    assert!(templates.bind(key(slots), ServerId(1), 300, 311, |_| Some(300)).unwrap().is_new);
    assert_eq!(templates.completed(home).reach(), 0);
}

#[test]
fn templates_that_are_over_have_no_room_though_no_sweep_comes_by() {
    const CLIENTS: u32 = 100_000;
    let templates: Templates = table(10_000, spread());
    // Many times as many clients as there is room for, a tenth of them alive.
    let mut full = 0;
    for client in 0..CLIENTS {
        let now = 10 + client / 200;
        let bound = templates.bind(key(client), ServerId(client % 1_000 + 1), 4, now, |_| Some(4));
        full += u32::from(bound.is_err());
        let found = templates.find(key(client), 4, now);
        assert_eq!(found.is_some(), bound.is_ok());
    }
    assert_eq!(full, 0);
    let now = 10 + CLIENTS / 200;
    let alive = templates.iter().filter(|template| template.expires_in(4, now).is_some());
    assert_eq!(alive.count(), 4 * 200, "none that is alive was taken");
}

#[test]
fn a_slot_is_not_taken_from_a_template_that_something_hangs_on_or_of_this_second() {
    let templates: Templates = table(1_000, crowded());
    let slots = (SLOTS * WINDOW) as u32;
    for client in 0..slots {
        let bound = templates.bind(key(client), ServerId(1), 300, 10, |_| Some(300)).unwrap();
        assert!(templates.attach(bound.slot, key(client), ServerId(1), 300, 10));
    }
    let of_the_next_epoch = TemplateKey::new(key(slots).client(), 32, ServiceId(0), 81);
    let bind = |key, now, lifetime: Option<u32>| {
        templates.bind(key, ServerId(1), 300, now, move |_| lifetime).map(|bound| bound.is_new)
    };
    // Those of a former epoch go whatever hangs on them, but their seconds have to pass.
    assert_eq!(bind(of_the_next_epoch, 10, None), Err(Full));
    assert_eq!(bind(of_the_next_epoch, 311, Some(300)), Err(Full));
    // Those of the same epoch live as long as the new one.
    assert_eq!(bind(key(slots), 371, None), Err(Full));
    assert_eq!(templates.iter().count(), slots as usize);
    assert_eq!(bind(of_the_next_epoch, 371, None), Ok(true));
    assert_eq!(templates.iter().count(), slots as usize);
}

#[test]
fn a_template_that_is_over_is_replaced_in_its_place() {
    let templates: Templates = table(64, spread());
    let first = templates.bind(key(1), ServerId(1), 300, 10, |_| Some(300)).unwrap();
    assert!(templates.assure(key(1), ServerId(1)));
    assert_eq!(templates.find(key(1), 300, 311), None);
    let second = templates.bind(key(1), ServerId(2), 300, 311, |_| Some(300)).unwrap();
    assert_eq!(second, Bound { slot: first.slot, server: ServerId(2), is_new: true });
    assert!(!templates.find(key(1), 300, 311).unwrap().is_assured);
    assert_eq!(templates.iter().count(), 1);
}

#[test]
fn connections_of_the_old_real_server_do_not_hang_on_the_new_one() {
    let templates: Templates = table(64, spread());
    let Bound { slot, .. } = templates.bind(key(1), ServerId(1), 300, 10, |_| Some(300)).unwrap();
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
    let templates: Templates = table(64, spread());
    let Bound { slot, .. } = templates.bind(key(1), ServerId(1), 300, 10, |_| Some(300)).unwrap();
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
        let templates: Templates = table(capacity, spread());
        let taken = (0..capacity as u32)
            .filter(|&client| templates.bind(key(client), ServerId(1), 300, 10, |_| Some(300)).is_ok())
            .count();
        assert_eq!(templates.iter().count(), taken);
        assert!(taken * 10_000 >= capacity * 9_995, "{taken} of {capacity}");
    }
}

#[test]
fn both_families_are_swept_counted_and_listed_together() {
    let lines = |count| Slab::heap(count).unwrap();
    let (v4, v6) = (super::Templates::lines_for(1_000), super::Templates::lines_for_ipv6(200));
    let both = super::Templates::new(lines(v4), lines(v6), spread());
    for client in 0..200 {
        both.v4.bind(TemplateKey::of(client), ServerId(1), 300, 10, |_| Some(300)).unwrap();
        both.v6.bind(TemplateKey6::of(client), ServerId(2), 300, 10, |_| Some(300)).unwrap();
    }
    assert_eq!(both.count(3, 10, |_| Some(300)), [0, 200, 200]);
    assert_eq!(both.count(3, 10, |owner| (owner.service == ServiceId(1)).then_some(300)), [0, 0, 50]);
    let named = both.names(&[2, 3].map(ServerId).into_iter().collect());
    assert_eq!(named, [ServerId(2)].into_iter().collect());
    let listed: Vec<_> = both.listed().collect();
    assert_eq!(listed.iter().filter(|(client, _)| client.is_ipv6()).count(), 200);
    assert!(listed.iter().all(|(client, it)| it.server() == ServerId(1 + u32::from(client.is_ipv6()))));
    // A few buckets at a time, those on both sides of the border among them.
    let removed: usize = (0..both.buckets())
        .step_by(3)
        .map(|at| both.sweep(at..(at + 3).min(both.buckets()), 311, |_| Some(300)))
        .sum();
    assert_eq!((removed, both.listed().count()), (400, 0));
}
