//! Who is connected to the HTTP door, and who gives way when it is full.
//!
//! A full door never turns a newcomer away: it closes a connection of the peer that has the most, the one that has
//! moved no byte for the longest. So idle connections, and clients that ask for large pages and do not read them,
//! take room from themselves and from nobody else, and `/live` is answered whatever the others do. The bytes of pages
//! that wait to be read are shared out the same way.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, Semaphore, watch};

use super::door::Who;

/// Pages that are made for one peer at a time, half of those that are made at all.
const PAGES_PER_PEER: usize = 2;

/// All connections of the door.
#[derive(Debug)]
pub(super) struct Room {
    guests: Mutex<Vec<Arc<Guest>>>,
    connections_max: usize,
    held_bytes_max: usize,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) peer: Arc<Peer>,
    /// When it last moved a byte.
    moved: Mutex<Instant>,
    /// Its request is being answered: that it moves nothing meanwhile is not its fault.
    is_served: AtomicBool,
    /// Bytes of the page that it reads.
    held_bytes: AtomicUsize,
    /// Rung when it has to go.
    leave: Notify,
    /// Whether it may become older than others.
    stays: watch::Sender<bool>,
}

/// A process, a host, or a network that one host may have to itself.
#[derive(Debug)]
pub(super) struct Peer {
    /// Who it is.
    pub(super) who: Who,
    /// Pages that may be made for it now.
    pub(super) pages: Arc<Semaphore>,
}

impl Room {
    /// For so many connections, which hold so many bytes of pages together.
    pub(super) fn new(connections_max: usize, held_bytes_max: usize) -> Self {
        Self { guests: Mutex::default(), connections_max, held_bytes_max }
    }

    /// Lets a connection in. If there is no room, another one is told to leave.
    pub(super) fn enter(&self, who: impl Into<Who>, now: Instant) -> Arc<Guest> {
        let who = match who.into() {
            Who::Host(address) => Who::Host(network(address)),
            process => process,
        };
        let mut guests = self.guests();
        if guests.len() >= self.connections_max
            && let Some(place) = most_dispensable(&guests, |_| 1)
        {
            guests.swap_remove(place).leave.notify_one();
        }
        let known = guests.iter().find(|guest| guest.peer.who == who);
        let peer = known.map_or_else(
            || Arc::new(Peer { who, pages: Arc::new(Semaphore::new(PAGES_PER_PEER)) }),
            |guest| guest.peer.clone(),
        );
        let guest = Arc::new(Guest {
            peer,
            moved: Mutex::new(now),
            is_served: AtomicBool::new(false),
            held_bytes: AtomicUsize::new(0),
            leave: Notify::new(),
            stays: watch::channel(false).0,
        });
        guests.push(guest.clone());
        guest
    }

    /// The connection has ended.
    pub(super) fn left(&self, gone: &Arc<Guest>) {
        self.guests().retain(|guest| !Arc::ptr_eq(guest, gone));
    }

    /// A page of so many bytes is there for this connection. If all pages take too much, others' readers leave.
    pub(super) fn hold(&self, reader: &Guest, bytes: usize) {
        reader.held_bytes.store(bytes, Relaxed);
        let mut guests = self.guests();
        loop {
            let held = |guest: &Guest| guest.held_bytes.load(Relaxed);
            if guests.iter().map(|guest| held(guest)).sum::<usize>() <= self.held_bytes_max {
                return;
            }
            let others = |guest: &Guest| if std::ptr::eq(guest, reader) { 0 } else { held(guest) };
            let Some(place) = most_dispensable(&guests, others) else { return };
            guests.swap_remove(place).leave.notify_one();
        }
    }

    /// How many are connected.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.guests().len()
    }

    fn guests(&self) -> MutexGuard<'_, Vec<Arc<Guest>>> {
        // Nothing panics while it is held, and a list of connections is whole at any moment.
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of the connection that gives way: of the peer that takes most of what `takes` measures, one that is not
/// waiting for weir before one that is, and the longest at rest first. `None` if nobody takes anything.
fn most_dispensable(guests: &[Arc<Guest>], takes: impl Fn(&Guest) -> usize) -> Option<usize> {
    let of_peer = |peer: &Arc<Peer>| -> usize {
        guests.iter().filter(|guest| Arc::ptr_eq(&guest.peer, peer)).map(|guest| takes(guest)).sum()
    };
    let largest = guests.iter().max_by_key(|guest| of_peer(&guest.peer))?.peer.clone();
    let theirs = guests.iter().enumerate().filter(|(_, guest)| Arc::ptr_eq(&guest.peer, &largest));
    let candidates = theirs.filter(|(_, guest)| takes(guest) > 0);
    let order = |guest: &Guest| (guest.is_served.load(Relaxed), guest.moved_at());
    candidates.min_by_key(|(_, guest)| order(guest)).map(|(place, _)| place)
}

/// IPv6 hosts have a network of 64 bits each.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)))
        }
        address => address,
    }
}

impl Guest {
    /// Returns when it has to leave.
    pub(super) async fn told_to_leave(&self) {
        self.leave.notified().await;
    }

    /// It has moved bytes.
    pub(super) fn moves(&self, now: Instant) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn moved_at(&self) -> Instant {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It may become older than others until the value is dropped.
    pub(super) fn stay(self: &Arc<Self>) -> Staying {
        self.stays.send_replace(true);
        Staying(self.clone())
    }

    /// Returns when nothing lets it stay any more.
    pub(super) async fn stays_no_more(&self) {
        let _ = self.stays.subscribe().wait_for(|stays| !stays).await;
    }

    /// Its request is answered from now until the value is dropped.
    pub(super) fn serve(self: &Arc<Self>) -> Serving {
        self.is_served.store(true, Relaxed);
        Serving(self.clone())
    }

    /// Its page has been sent.
    pub(super) fn release(&self) {
        self.held_bytes.store(0, Relaxed);
    }
}

/// See [`Guest::stay`].
pub(super) struct Staying(Arc<Guest>);

impl Drop for Staying {
    fn drop(&mut self) {
        self.0.stays.send_replace(false);
    }
}

/// See [`Guest::serve`].
pub(super) struct Serving(Arc<Guest>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.is_served.store(false, Relaxed);
        self.0.moves(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn has_to_leave(guest: &Guest) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_millis(1), guest.told_to_leave()).await.is_ok()
        })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_peer_with_most_connections_gives_one_up_the_one_longest_at_rest() {
        let (room, start) = (Room::new(4, 1_000), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let supervisor = room.enter(address("10.0.0.1"), at(0));
        let greedy: Vec<_> = (1..4).map(|ms| room.enter(address("10.0.0.2"), at(ms))).collect();
        greedy[0].moves(at(10));
        let newcomer = room.enter(address("10.0.0.3"), at(20));
        assert_eq!(room.len(), 4);
        assert!(has_to_leave(&greedy[1]), "the one that has moved nothing since its second millisecond");
        for stays in [&supervisor, &greedy[0], &greedy[2], &newcomer] {
            assert!(!has_to_leave(stays));
        }
    }

    #[test]
    fn who_waits_for_weir_goes_after_who_lets_weir_wait() {
        let (room, start) = (Room::new(2, 1_000), Instant::now());
        let waits = room.enter(address("::1"), start);
        let serving = waits.serve();
        let idle = room.enter(address("::1"), start + Duration::from_secs(9));
        room.enter(address("::1"), start + Duration::from_secs(10));
        assert!(has_to_leave(&idle) && !has_to_leave(&waits));
        drop(serving);
        room.enter(address("::1"), start + Duration::from_secs(11));
        assert_eq!(room.len(), 2);
    }

    #[test]
    fn pages_that_nobody_reads_make_room_for_one_that_is_read() {
        let (room, start) = (Room::new(9, 1_000), Instant::now());
        let greedy: Vec<_> = (0..3).map(|_| room.enter(address("10.0.0.2"), start)).collect();
        greedy.iter().for_each(|guest| room.hold(guest, 300));
        let scraper = room.enter(address("10.0.0.1"), start);
        room.hold(&scraper, 400);
        assert_eq!(greedy.iter().filter(|guest| has_to_leave(guest)).count(), 1);
        assert!(!has_to_leave(&scraper));
        // A single page larger than all of the room is served nevertheless.
        room.hold(&scraper, 5_000);
        assert!(!has_to_leave(&scraper));
        assert_eq!(room.len(), 1);
    }

    #[test]
    fn who_is_let_stay_is_not_too_old_until_that_is_over() {
        let guest = Room::new(2, 1_000).enter(address("::1"), Instant::now());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let may_go = || {
            runtime.block_on(async {
                tokio::time::timeout(Duration::from_millis(1), guest.stays_no_more()).await.is_ok()
            })
        };
        assert!(may_go());
        let stay = guest.stay();
        assert!(!may_go());
        drop(stay);
        assert!(may_go());
    }

    #[test]
    fn hosts_are_told_apart_by_what_they_can_not_choose() {
        assert_eq!(network(address("2001:db8::1")), network(address("2001:db8::ffff:1")));
        assert_ne!(network(address("2001:db8:0:1::1")), network(address("2001:db8::1")));
        assert_eq!(network(address("::ffff:10.0.0.1")), address("10.0.0.1"));
        assert_eq!(network(address("::1")), address("::1"));
    }
}
