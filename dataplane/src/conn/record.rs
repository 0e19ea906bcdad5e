//! One IPv4 connection in 16 bytes: two words, so that four of them share a cache line.
//!
//! ```text
//!  key    | client address 32 | client port 16 | VIP 16 |
//!  value  | destination port 16 | protocol 2 | any port 1 | templated 1 | state 4 | last packet 20 | real server 20 |
//! ```
//! Protocol 3 is TCP, too: of a connection that a helper looks after, a control or data connection of FTP through NAT. Such a record is
//! on no short way, and there may be more about it in [`super::extra`].
//!
//! The VIP is a number, see [`VipId`]. As in IPVS, a connection is known by its two ends, whatever virtual server serves
//! them: that one may change by an edit while the connection goes on. Which one took it is what the real server says.
//! The last packet is in seconds of the worker's clock, modulo 2^20 (12 days); the sweep visits each record every few
//! seconds, so an age is never ambiguous as long as timeouts stay within 864,000 seconds (10 days).

use weir_config::model::Protocol;

use super::state::{Lifetimes, State, tcp};
use crate::address::Addr4;

/// Number of a virtual server, 0 to 65,534. Stable for as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ServiceId(pub u16);

impl ServiceId {
    /// No virtual server has this number.
    pub const NONE: Self = Self(u16::MAX);
}

/// Number of an address that clients talk to; see [`crate::snapshot::vips`] for which address has which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct VipId(pub u16);

/// Number of a real server of one virtual server, 1 to [`ServerId::MAX`]. Stable for as long as a record names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u32);

impl ServerId {
    /// The largest number.
    pub const MAX: u32 = (1 << SERVER_BITS) - 1;

    /// As an index.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

const SERVER_BITS: u32 = 20;
const SEEN_BITS: u32 = 20;
const SEEN_SHIFT: u32 = SERVER_BITS;
const SEEN_MASK: u32 = (1 << SEEN_BITS) - 1;
const STATE_SHIFT: u32 = SEEN_SHIFT + SEEN_BITS;
const TEMPLATED: u64 = 1 << 44;
const ANY_PORT: u64 = 1 << 45;
const PROTOCOL_SHIFT: u32 = 46;
const PORT_SHIFT: u32 = 48;
/// How far the clock that wrote a record may be ahead of the one that asks for its age, in seconds: workers read the time
/// once a pass, and a pass may stand still.
const SKEW_SECS: u32 = 60;
/// The longest timeout that the file may ask for.
const LIFETIME_SECS_MAX: u32 = 864_000;
// The rest of the circle is the time within which the sweep has to come by.
const _: () = assert!(LIFETIME_SECS_MAX + SKEW_SECS < SEEN_MASK - 86_400);
const _: () = assert!(STATE_SHIFT == 40 && PROTOCOL_SHIFT == 46, "as Lifetimes::of_bits has it");

/// The bits of `value` that belong to the key.
pub(super) const KEY_MASK: u64 = 0xffff << PORT_SHIFT | 3 << PROTOCOL_SHIFT;

/// Set in the protocol of a TCP connection, which is 0: a helper looks after it.
const HELPED: u64 = 3 << PROTOCOL_SHIFT;
const _: () = assert!(Protocol::Tcp as u64 == 0 && Protocol::Udp as u64 != 3 && Protocol::Sctp as u64 != 3);

/// Those and the state.
const GOING_ON_MASK: u64 = KEY_MASK | 15 << STATE_SHIFT;
/// Those without the port, which replies do not know.
pub(super) const REPLY_GOING_ON_MASK: u64 = GOING_ON_MASK & !(0xffff << PORT_SHIFT);

/// Marks what goes on with a real server's packets; no bit of those masks.
pub(super) const REPLY: u64 = 1;
const _: () = assert!(REPLY & GOING_ON_MASK == 0);
/// Marks [`UsualKey::NONE`]; no bit of a record that is compared with a key.
const NOBODY: u64 = 2;
const _: () = assert!(NOBODY & (REPLY | GOING_ON_MASK | (SEEN_MASK as u64) << SEEN_SHIFT) == 0);

/// What a packet from a client is looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Key {
    pub(super) key: u64,
    pub(super) value: u64,
    any_port: bool,
}

impl Key {
    /// A client's flow to a port of a VIP. `any_port`: replies come from the port that the client talks to, so it can go
    /// into the hash.
    #[inline]
    pub fn new(
        client: Addr4,
        client_port: u16,
        vip: VipId,
        port: u16,
        protocol: Protocol,
        any_port: bool,
    ) -> Self {
        let key = u64::from(client.bits()) << 32 | u64::from(client_port) << 16 | u64::from(vip.0);
        let value = u64::from(port) << PORT_SHIFT | (protocol as u64) << PROTOCOL_SHIFT;
        Self { key, value, any_port }
    }

    /// The protocol.
    #[inline]
    pub fn protocol(&self) -> Protocol {
        protocol(self.value)
    }

    /// Address of the client.
    #[inline]
    pub fn client(&self) -> Addr4 {
        Addr4::from_bits((self.key >> 32) as u32)
    }

    /// The same flow of a client whose number is another one.
    pub fn with_client(self, client: Addr4) -> Self {
        Self { key: self.key & u64::from(u32::MAX) | u64::from(client.bits()) << 32, ..self }
    }

    /// Number of the VIP.
    pub fn vip(&self) -> VipId {
        VipId(self.key as u16)
    }

    /// The same flow to an address whose number is another one.
    pub fn with_vip(self, vip: VipId) -> Self {
        Self { key: self.key & !0xffff | u64::from(vip.0), ..self }
    }

    /// The same flow of TCP, as one that a helper looks after.
    #[inline]
    pub fn helped(self) -> Self {
        debug_assert_eq!(self.protocol(), Protocol::Tcp);
        Self { value: self.value | HELPED, ..self }
    }

    /// Whether a helper looks after it.
    #[inline]
    pub fn is_helped(&self) -> bool {
        self.value & HELPED == HELPED
    }

    /// The same flow of TCP, as one that a helper looks after if none does, and the other way round.
    pub fn helped_otherwise(self) -> Self {
        Self { value: self.value ^ HELPED, ..self }
    }

    /// The same flow, as one with the other kind of hash.
    pub fn hashed_otherwise(self) -> Self {
        Self { any_port: !self.any_port, ..self }
    }

    /// The bits of [`GOING_ON_MASK`] in the record of a connection that goes on as it is with any datagram, or with a
    /// TCP segment from its middle: TCP's is established. Where a helper looks after it no record has these. Never 0.
    pub(super) fn going_on(&self) -> u64 {
        const ESTABLISHED: u64 = (tcp::ESTABLISHED.0 as u64) << STATE_SHIFT;
        const NO_STATE: u64 = 15 << STATE_SHIFT;
        const _: () = assert!(tcp::COUNT <= 15);
        self.value
            | match self.value & HELPED {
                0 => ESTABLISHED,
                HELPED => NO_STATE,
                _ => 0,
            }
    }

    /// What is the same for all clients of this one's virtual server.
    pub fn usual(&self) -> Usual {
        let (vip, hash_tail) = (self.key & 0xffff, self.hash_input() & 0xffff);
        Usual { vip, hash_tail, going_on: self.going_on() }
    }

    /// What [`super::table::Table::hash`] is taken of.
    #[inline]
    pub fn hash_input(&self) -> u64 {
        hash_input(self.key, self.value, self.any_port)
    }
}

/// What is the same in keys and records for the usual packets of all clients of one virtual server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usual {
    vip: u64,
    hash_tail: u64,
    going_on: u64,
}

/// A usual packet's connection: where to look and what to look for. See [`super::table::UsualRecords::find`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsualKey {
    pub(super) home: usize,
    pub(super) key: u64,
    /// What [`GOING_ON_MASK`] leaves of the record's value, and [`REPLY`].
    pub(super) going_on: u64,
}

impl UsualKey {
    /// No connection's: one may be found by it, but none goes on with it.
    pub(crate) const NONE: Self = Self { home: 0, key: 0, going_on: NOBODY };

    /// Whether it is that of a real server's packet, which does not know VIP and port.
    #[inline]
    pub fn is_reply(&self) -> bool {
        self.going_on & REPLY != 0
    }

    /// Whether it may be a connection's.
    #[inline]
    pub fn is_some(&self) -> bool {
        self.going_on != NOBODY
    }
}

impl Usual {
    /// The key of this client's packet, with what its place is told by.
    #[inline]
    pub(super) fn key(&self, client: Addr4, client_port: u16) -> (UsualKey, u64) {
        let client = u64::from(client.bits()) << 32 | u64::from(client_port) << 16;
        let key = UsualKey { home: 0, key: client | self.vip, going_on: self.going_on };
        (key, client | self.hash_tail)
    }

    /// The same for the usual packets of a NAT real server. `any_port` is as for [`reply_hash_input`].
    pub fn of_server(protocol: Protocol, any_port: Option<u16>) -> Self {
        let going_on = Key::new(Addr4::UNSPECIFIED, 0, VipId(0), 0, protocol, false).going_on() | REPLY;
        Self { vip: 0, hash_tail: u64::from(any_port.unwrap_or(0)), going_on }
    }
}

/// The client's address and port, and the destination port where replies come from the same one: what both directions
/// of a connection know, so that both find it in the same place.
#[inline]
fn hash_input(key: u64, value: u64, any_port: bool) -> u64 {
    let port = if any_port { value >> PORT_SHIFT } else { 0 };
    key & !0xffff | port
}

#[inline]
fn protocol(value: u64) -> Protocol {
    match value >> PROTOCOL_SHIFT & 3 {
        1 => Protocol::Udp,
        2 => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
}

/// What a reply is looked up by: the client alone (and the real server's port where that is the one the client talks to).
#[inline]
pub fn reply_hash_input(client: Addr4, client_port: u16, any_port: Option<u16>) -> u64 {
    u64::from(client.bits()) << 32 | u64::from(client_port) << 16 | u64::from(any_port.unwrap_or(0))
}

/// A second, as it stands in a record.
#[derive(Clone, Copy)]
pub(super) struct Seen(u64);

impl Seen {
    /// That of the clock.
    #[inline]
    pub(super) fn at(now: u32) -> Self {
        Self(u64::from(now & SEEN_MASK) << SEEN_SHIFT)
    }
}

/// A connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    pub(super) key: u64,
    pub(super) value: u64,
}

impl Record {
    /// No connection, in a place that is taken. It has no real server.
    pub(super) const NOBODY: Self = Self { key: 0, value: 1 << STATE_SHIFT };

    /// A connection that begins at `now` seconds.
    pub fn new(key: Key, server: ServerId, state: State, now: u32, templated: bool) -> Self {
        debug_assert!(server.0 != 0 && server.0 <= ServerId::MAX);
        let mut value = key.value | u64::from(server.0) | u64::from(now & SEEN_MASK) << SEEN_SHIFT;
        value |= u64::from(state.0) << STATE_SHIFT;
        if templated {
            value |= TEMPLATED;
        }
        if key.any_port {
            value |= ANY_PORT;
        }
        Self { key: key.key, value }
    }

    /// Address of the client.
    pub fn client(self) -> Addr4 {
        Addr4::from_bits((self.key >> 32) as u32)
    }

    /// Port of the client.
    pub fn client_port(self) -> u16 {
        (self.key >> 16) as u16
    }

    /// The address that the client talks to.
    #[inline]
    pub fn vip(self) -> VipId {
        VipId(self.key as u16)
    }

    /// The port that the client talks to.
    #[inline]
    pub fn port(self) -> u16 {
        (self.value >> PORT_SHIFT) as u16
    }

    /// The real server.
    #[inline]
    pub fn server(self) -> ServerId {
        ServerId(self.value as u32 & ServerId::MAX)
    }

    /// The state.
    #[inline]
    pub fn state(self) -> State {
        State((self.value >> STATE_SHIFT) as u8 & 15)
    }

    /// The protocol.
    #[inline]
    pub fn protocol(self) -> Protocol {
        protocol(self.value)
    }

    /// Whether a helper looks after it.
    #[inline]
    pub fn is_helped(self) -> bool {
        self.value & HELPED == HELPED
    }

    /// Whether a persistence template holds it.
    pub fn is_templated(self) -> bool {
        self.value & TEMPLATED != 0
    }

    /// The same connection, held by no persistence template.
    pub fn without_template(self) -> Self {
        Self { key: self.key, value: self.value & !TEMPLATED }
    }

    /// Seconds since its last packet, by any thread's clock; 0 when that packet lies ahead, since the worker that wrote it
    /// down has a clock of its own.
    #[inline]
    pub fn age(self, now: u32) -> u32 {
        let age = self.own_age(now);
        if age > SEEN_MASK - SKEW_SECS { 0 } else { age }
    }

    /// The same by the clock of the worker that the record belongs to. It alone writes to its table, and its clock never goes
    /// back, so nothing there lies ahead of it.
    #[inline]
    fn own_age(self, now: u32) -> u32 {
        now.wrapping_sub((self.value >> SEEN_SHIFT) as u32) & SEEN_MASK
    }

    /// Whether its last packet was in another second than `now`, by the clock of the worker that it belongs to.
    #[inline]
    pub(super) fn is_of_another_second(self, now: u32) -> bool {
        self.own_age(now) != 0
    }

    /// Whether its last packet is no longer ago than its state lasts, by the clock of the worker that it belongs to.
    #[inline]
    pub(super) fn is_young(self, lifetimes: &Lifetimes, now: u32) -> bool {
        self.own_age(now) <= lifetimes.of_bits((self.value >> STATE_SHIFT) as usize)
    }

    /// Whether it goes on as it is with a usual packet in the second `seen`, and had another one in that second.
    #[inline]
    pub(super) fn has_just_gone_on(self, key: UsualKey, seen: Seen) -> bool {
        self.value & (GOING_ON_MASK | u64::from(SEEN_MASK) << SEEN_SHIFT) == key.going_on | seen.0
    }

    /// Whether it goes on as it is with a usual packet.
    #[inline]
    pub(super) fn may_go_on(self, key: UsualKey) -> bool {
        self.value & GOING_ON_MASK == key.going_on
    }

    /// The same connection after a packet.
    #[inline]
    pub fn touched(self, state: State, now: u32) -> Self {
        let keep = !(u64::from(SEEN_MASK) << SEEN_SHIFT | 15 << STATE_SHIFT);
        let value =
            self.value & keep | u64::from(now & SEEN_MASK) << SEEN_SHIFT | u64::from(state.0) << STATE_SHIFT;
        Self { key: self.key, value }
    }

    /// The same connection, of a client that goes by another number.
    pub(super) fn with_client(self, client: Addr4) -> Self {
        Self { key: self.key & u64::from(u32::MAX) | u64::from(client.bits()) << 32, value: self.value }
    }

    /// Whether it may be a record, whoever has written it.
    pub(super) fn is_sound(self) -> bool {
        self.server().0 != 0
    }

    /// Whether it is hashed by its destination port, too.
    pub fn is_of_any_port(self) -> bool {
        self.value & ANY_PORT != 0
    }

    /// What it is looked up by.
    pub fn lookup_key(self) -> Key {
        Key { key: self.key, value: self.value & KEY_MASK, any_port: self.value & ANY_PORT != 0 }
    }

    pub(super) fn hash_input(self) -> u64 {
        hash_input(self.key, self.value, self.value & ANY_PORT != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::tcp;
    use super::*;

    const CLIENT: Addr4 = Addr4::new(10, 0, 0, 1);

    #[test]
    fn fields_do_not_touch_each_other() {
        bolero::check!().with_type::<(u32, u16, u16, u16, u32, u32, u8, bool)>().for_each(
            |&(client, client_port, vip, port, server, now, state, flag)| {
                let server = ServerId(server % ServerId::MAX + 1);
                let state = State(state % 16);
                let client = Addr4::from_bits(client);
                let key = Key::new(client, client_port, VipId(vip), port, Protocol::Udp, flag);
                let record = Record::new(key, server, state, now, flag);
                assert_eq!(record.client(), client);
                assert_eq!(record.client_port(), client_port);
                assert_eq!(record.vip(), VipId(vip));
                assert_eq!(record.port(), port);
                assert_eq!(record.server(), server);
                assert_eq!(record.state(), state);
                assert_eq!(record.protocol(), Protocol::Udp);
                assert_eq!(record.is_templated(), flag);
                let alone = record.without_template();
                assert!(
                    !alone.is_templated()
                        && alone.touched(state, now) == Record::new(key, server, state, now, false)
                );
                assert_eq!(record.age(now.wrapping_add(7)), 7);
                assert_eq!(record.value & KEY_MASK, key.value);
                assert_eq!(record.hash_input(), key.hash_input());
                let touched = record.touched(tcp::CLOSE, now.wrapping_add(5));
                assert_eq!(touched.state(), tcp::CLOSE);
                assert_eq!(touched.age(now.wrapping_add(5)), 0);
                assert_eq!(touched.touched(state, now), record);
            },
        );
    }

    #[test]
    fn a_record_of_a_clock_that_is_ahead_is_new_and_one_as_old_as_can_be_is_that_old() {
        bolero::check!().with_type::<(u32, u32)>().for_each(|&(now, seconds)| {
            let key = Key::new(CLIENT, 2, VipId(3), 80, Protocol::Tcp, false);
            let at = |now| Record::new(key, ServerId(1), tcp::ESTABLISHED, now, false);
            let (ahead, ago) = (seconds % (SKEW_SECS + 1), seconds % (LIFETIME_SECS_MAX + 86_400));
            assert_eq!(at(now.wrapping_add(ahead)).age(now), 0, "{ahead} s ahead of {now}");
            assert_eq!(at(now.wrapping_sub(ago)).age(now), ago, "{ago} s before {now}");
            assert_eq!(at(now.wrapping_sub(ago)).own_age(now), ago);
        });
    }

    #[test]
    fn both_directions_hash_alike() {
        for any_port in [false, true] {
            let key = Key::new(CLIENT, 4000, VipId(7), 80, Protocol::Tcp, any_port);
            assert_eq!(key.hash_input(), reply_hash_input(CLIENT, 4000, any_port.then_some(80)));
        }
    }
}
