//! What control is told of a worker's next hops: asked for through the desk, told some at a time.
//!
//! The table stays the worker's; control gets copies through a ring that has room for all of them, so neither waits. What
//! changes meanwhile may be missed or be there twice.

use std::net::{IpAddr, Ipv4Addr};

use rtrb::{Consumer, Producer, RingBuffer};

use super::{AnyHop, ENTRIES_MAX, Entry, Hop, Hop6, Neighbors, REACHABLE_MS, State};
use crate::clock::Now;
use crate::wire::ethernet::MacAddress;

/// Next hops told in one go: some 5 microseconds.
const PER_CALL: usize = 256;

/// What is known of a next hop, in the words of RFC 4861 section 7.3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// The file binds it to its MAC.
    Static,
    /// It has answered of late.
    Reachable,
    /// It has answered, and is asked again when it is used.
    Stale,
    /// It has answered, and is being asked again by unicast.
    Probing,
    /// It is being asked for by broadcast; packets wait.
    #[default]
    Incomplete,
    /// It has not answered. Packets for it are dropped until it may be asked for again.
    Failed,
}

impl Standing {
    /// Its word for users.
    pub fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Reachable => "reachable",
            Self::Stale => "stale",
            Self::Probing => "probing",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
        }
    }
}

/// One next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Its address.
    pub address: IpAddr,
    /// Port number.
    pub port: u16,
    /// See [`crate::wire::ethernet::Vlan::network`].
    pub network: u16,
    /// What is known of it.
    pub standing: Standing,
    /// Its MAC, if packets may be sent to one.
    pub mac: Option<MacAddress>,
    /// Milliseconds since its MAC was learned or confirmed.
    pub age_ms: Option<u64>,
    /// Requests since, or since the last answer, that nobody has answered.
    pub asked: u8,
    /// Packets that wait for it.
    pub waiting: u16,
    /// Whether the file names it: a real server, a gateway, or one that it binds to a MAC.
    pub is_named: bool,
}

impl Row {
    const EMPTY: Row = Row {
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        port: u16::MAX,
        network: 0,
        standing: Standing::Incomplete,
        mac: None,
        age_ms: None,
        asked: 0,
        waiting: 0,
        is_named: false,
    };
}

/// The worker's end.
#[derive(Debug)]
pub struct Listing {
    rows: Producer<Row>,
    next: usize,
    /// All next hops of IPv4 have been told; those of IPv6 come behind them.
    is_half_told: bool,
}

/// Control's end. To be kept until the worker has let go of its own: the last one to go frees the memory.
#[derive(Debug)]
pub struct Rows(Consumer<Row>);

/// Both ends.
pub fn listing() -> (Listing, Rows) {
    let (mut producer, mut consumer) = RingBuffer::new(2 * ENTRIES_MAX);
    // Touches every page now, so that the kernel has nothing to do when the worker comes to it.
    while producer.push(Row::EMPTY).is_ok() {}
    while consumer.pop().is_ok() {}
    (Listing { rows: producer, next: 0, is_half_told: false }, Rows(consumer))
}

impl Listing {
    /// Tells the next few, of IPv4 first. Returns whether all have been told. `bound` and `bound6` say what the file binds a
    /// next hop to.
    pub(crate) fn go_on<F>(
        &mut self,
        (neighbors, bound): (&Neighbors<F>, impl Fn(Hop) -> Option<MacAddress>),
        (neighbors6, bound6): (&Neighbors<F, Hop6>, impl Fn(Hop6) -> Option<MacAddress>),
        now: Now,
    ) -> bool {
        if self.is_half_told {
            return self.tell(neighbors6, now, bound6);
        }
        if self.tell(neighbors, now, bound) {
            (self.is_half_told, self.next) = (true, 0);
        }
        false
    }

    fn tell<F, H: AnyHop>(
        &mut self,
        neighbors: &Neighbors<F, H>,
        now: Now,
        bound: impl Fn(H) -> Option<MacAddress>,
    ) -> bool {
        let from = self.next;
        self.next = (from + PER_CALL).min(neighbors.entries.len());
        for slot in from..self.next {
            let entry = &neighbors.entries[slot];
            let Some(list) = neighbors.order.list_of(slot as u32) else { continue };
            let is_present = entry.era == neighbors.era;
            let bound = if is_present { None } else { bound(entry.hop) };
            let mut row = row(entry, now, is_present, bound);
            row.is_named = super::is_of_named(list);
            // There is room for as many as there can be.
            let _ = self.rows.push(row);
        }
        self.next >= neighbors.entries.len()
    }
}

/// How an entry stands now; one of another era as it will at its next use, when it is looked up whether it is `bound`.
fn row<H: AnyHop>(entry: &Entry<H>, now: Now, is_present: bool, bound: Option<MacAddress>) -> Row {
    let known = MacAddress(std::array::from_fn(|n| entry.link[n]));
    let standing = match (entry.state, bound) {
        (_, Some(_)) => Standing::Static,
        (State::Static, None) if is_present => Standing::Static,
        (State::Static, None) => Standing::Stale,
        (State::Reachable, None) if now.millis < entry.good_until => Standing::Reachable,
        (State::Reachable, None) => Standing::Stale,
        (State::Probing, None) => Standing::Probing,
        (State::Asking, None) => Standing::Incomplete,
        (State::Failed, None) => Standing::Failed,
    };
    let has_mac = !matches!(standing, Standing::Incomplete | Standing::Failed);
    // One that was bound before has no time of its answer.
    let is_dated =
        has_mac && standing != Standing::Static && entry.state != State::Static && entry.good_until != 0;
    Row {
        address: entry.hop.ip(),
        port: entry.hop.port(),
        network: entry.hop.network(),
        standing,
        mac: has_mac.then_some(bound.unwrap_or(known)),
        age_ms: is_dated.then(|| (now.millis + REACHABLE_MS).saturating_sub(entry.good_until)),
        asked: if standing == Standing::Static { 0 } else { entry.tries },
        waiting: entry.queue.len(),
        is_named: false,
    }
}

impl Rows {
    /// The next one. `None`: there is none now; whether more may come says [`Rows::may_come`].
    pub fn pop(&mut self) -> Option<Row> {
        self.0.pop().ok()
    }

    /// Whether the worker has not let go of its end.
    pub fn may_come(&self) -> bool {
        !self.0.is_abandoned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Addr4;
    use crate::neighbor::Resolution;

    fn row_of(hop: Hop) -> Row {
        Row { address: hop.ip(), port: hop.port(), network: hop.network(), ..Row::EMPTY }
    }

    fn at(millis: u64) -> Now {
        Now { millis, ..Now::default() }
    }

    fn told(neighbors: &Neighbors<u8>, now: Now, bound: Option<MacAddress>) -> Vec<Row> {
        let (mut listing, mut rows) = listing();
        let none = Neighbors::<u8, Hop6>::with_limit(1);
        while !listing.go_on((neighbors, |_| bound), (&none, |_| None), now) {}
        drop(listing);
        assert!(!rows.may_come());
        std::iter::from_fn(|| rows.pop()).collect()
    }

    #[test]
    fn a_next_hop_is_told_as_it_stands_from_the_question_to_the_end() {
        let mac = MacAddress([2, 0, 0, 0, 0, 1]);
        let hop = Hop::at(Addr4::new(10, 0, 0, 1), 0, 7);
        let mut neighbors = Neighbors::<u8>::new();
        neighbors.set_own([MacAddress([2; 6])].into_iter());
        let (slot, resolution) = neighbors.resolve(0, hop, (false, None), at(1_000));
        assert_eq!(resolution, Resolution::Wait { ask: true });
        neighbors.wait(slot, 1).unwrap();
        let asking = Row { asked: 1, waiting: 1, ..row_of(hop) };
        assert_eq!(told(&neighbors, at(1_200), None), [asking]);
        neighbors.learn(hop, mac, || None, at(2_000), |_| {});
        let answered = Row {
            mac: Some(mac),
            age_ms: Some(500),
            standing: Standing::Reachable,
            asked: 0,
            waiting: 0,
            ..asking
        };
        assert_eq!(told(&neighbors, at(2_500), None), [answered]);
        let later = 2_000 + REACHABLE_MS + 10;
        let stale = Row { age_ms: Some(REACHABLE_MS + 10), standing: Standing::Stale, ..answered };
        assert_eq!(told(&neighbors, at(later), None), [stale]);
        neighbors.resolve(slot, hop, (false, None), at(later));
        neighbors.tick(at(later), |_| None, |_| {});
        assert_eq!(
            told(&neighbors, at(later), None),
            [Row { standing: Standing::Probing, asked: 1, ..stale }]
        );
        for second in 1..=8 {
            neighbors.tick(at(later + second * 1_000), |_| None, |_| {});
        }
        assert_eq!(
            told(&neighbors, at(later + 9_000), None),
            [Row { standing: Standing::Failed, asked: 3, ..row_of(hop) }]
        );
    }

    #[test]
    fn what_the_file_binds_since_is_told_before_it_is_used_again() {
        let (mac, other) = (MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2]));
        let hop = Hop::at(Addr4::new(10, 0, 0, 1), 0, 0);
        let mut neighbors = Neighbors::<u8>::new();
        neighbors.resolve(0, hop, (true, Some(mac)), at(0));
        let bound = Row { mac: Some(mac), standing: Standing::Static, is_named: true, ..row_of(hop) };
        assert_eq!(told(&neighbors, at(5), None), [bound]);
        neighbors.rebind();
        assert_eq!(told(&neighbors, at(5), Some(other)), [Row { mac: Some(other), ..bound }]);
        assert_eq!(told(&neighbors, at(5), None), [Row { standing: Standing::Stale, ..bound }]);
    }

    #[test]
    fn a_full_table_is_told_in_pieces_and_finds_room() {
        let mut neighbors = Neighbors::<u8>::new();
        for number in 0..ENTRIES_MAX as u32 {
            neighbors.resolve(
                0,
                Hop::at(Addr4::from_bits(0x0a00_0000 + number), 0, 0),
                (true, Some(MacAddress([2; 6]))),
                at(0),
            );
        }
        let mut hops: Vec<_> = told(&neighbors, at(0), None).iter().map(|row| row.address).collect();
        hops.sort();
        hops.dedup();
        assert_eq!(hops.len(), ENTRIES_MAX);
    }
}
