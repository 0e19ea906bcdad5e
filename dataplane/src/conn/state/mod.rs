//! States of connections, as IPVS follows them, and how long each lasts.
//!
//! A pure function of (direction, event, state); the clock is the caller's. The tables are those of the kernel's
//! `ip_vs_proto_tcp` and `ip_vs_proto_sctp`, written one row an event in [`tcp`] and [`sctp`] so that they can be read
//! beside it. What a packet meets is one table made of them all at compile time, so that its protocol, direction and
//! flags cost an index and no branch.

#[cfg(test)]
mod golden;
pub mod sctp;
pub mod tcp;

use weir_config::model::{Protocol, Timeouts};

use crate::wire::l4::flags;
use crate::wire::sctp::Event;

/// Which way a packet goes, as far as its state table is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Client to real server; replies pass through weir too (NAT).
    Input,
    /// Real server to client.
    Output,
    /// Client to real server; replies never pass (DR, TUN).
    InputOnly,
}

/// A state in four bits; what it means depends on the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State(pub(crate) u8);

impl State {
    /// Where every connection starts, whatever its protocol.
    pub const NONE: State = State(0);

    /// The state that has this number in the kernel, if the protocol has one. UDP's only one has any.
    pub fn of_number(protocol: Protocol, number: u16) -> Option<Self> {
        let state = State(u8::try_from(number).ok()?);
        match protocol {
            Protocol::Udp => Some(UDP),
            _ => (usize::from(state.0) < names(protocol).len()).then_some(state),
        }
    }
}

/// The one state of UDP.
pub const UDP: State = State::NONE;

/// States that a table has room for: as many as four bits can tell apart.
const COLUMNS: usize = 16;
/// Events that a table has room for: as many as four flags can tell apart.
const EVENTS: usize = 16;

/// Next states of one protocol by direction, [`event`], and state. The fourth direction pads and is never met.
type Transitions = [[[u8; COLUMNS]; EVENTS]; 4];

/// Next states by `secure_tcp`, protocol, direction, event and state, in the order that [`next`] indexes by.
static TABLE: Table = Table::new();

/// Aligned so that the rows of four events share a cache line.
#[repr(align(64))]
struct Table([u8; TABLE_LEN]);

const TABLE_LEN: usize = 2 * 4 * 4 * EVENTS * COLUMNS;

impl Table {
    const fn new() -> Self {
        // UDP has one state, so what is not set below is right for it.
        let mut table = Table([0; TABLE_LEN]);
        table.set(false, Protocol::Tcp, &tcp::transitions(false));
        table.set(true, Protocol::Tcp, &tcp::transitions(true));
        table.set(false, Protocol::Sctp, &sctp::transitions());
        table.set(true, Protocol::Sctp, &sctp::transitions());
        table
    }

    const fn set(&mut self, is_secure: bool, protocol: Protocol, transitions: &Transitions) {
        let base = base(is_secure, protocol);
        let mut at = 0;
        while at < 4 * EVENTS * COLUMNS {
            self.0[base + at] = transitions[at >> 8][(at >> 4) % EVENTS][at % COLUMNS];
            at += 1;
        }
    }
}

/// Where a protocol's part of [`TABLE`] begins.
#[inline]
const fn base(is_secure: bool, protocol: Protocol) -> usize {
    (is_secure as usize) << 12 | (protocol as usize & 3) << 10
}

/// The bits of a packet's flags that its state depends on, brought together: TCP's FIN, SYN, RST and ACK or the number
/// of an SCTP [`Event`], which uses the same bits.
#[inline]
const fn event(packet: u8) -> usize {
    const _: () = assert!(flags::FIN | flags::SYN | flags::RST == 7 && flags::ACK == 0x10);
    (packet as usize & 7) | (packet as usize >> 1 & 8)
}

/// The state after a packet. `packet` is what [`crate::parse::Packet::flags`] says about it: TCP's flags, the number
/// of an SCTP [`Event`], anything for UDP. `is_secure`: by the table of `secure_tcp`.
#[inline]
pub fn next(protocol: Protocol, direction: Direction, packet: u8, state: State, is_secure: bool) -> State {
    let row = base(is_secure, protocol) | (direction as usize) << 8 | event(packet) << 4;
    State(TABLE.0[row | usize::from(state.0 & 15)])
}

/// The state after a TCP segment with these flags.
///
/// Of the flags the first of RST, SYN, FIN, ACK counts; a segment with none of them closes the connection.
#[inline]
pub fn tcp_next(direction: Direction, segment: u8, state: State) -> State {
    next(Protocol::Tcp, direction, segment, state, false)
}

/// As [`tcp_next`] while `secure_tcp` is in force: a client can't establish a connection by itself where replies pass.
#[inline]
pub fn tcp_next_secure(direction: Direction, segment: u8, state: State) -> State {
    next(Protocol::Tcp, direction, segment, state, true)
}

/// The state after an SCTP packet.
#[inline]
pub fn sctp_next(direction: Direction, event: Event, state: State) -> State {
    next(Protocol::Sctp, direction, event as u8, state, false)
}

/// Whether a packet that belongs to no connection may open one. `packet` is as for [`next`]; `is_sloppy` is
/// `sloppy_tcp` or `sloppy_sctp`, whichever is the protocol's.
#[inline]
pub fn opens(protocol: Protocol, packet: u8, is_sloppy: bool) -> bool {
    match protocol {
        Protocol::Tcp => tcp::opens(packet, is_sloppy),
        Protocol::Udp => true,
        Protocol::Sctp => sctp::opens(packet, is_sloppy),
    }
}

/// Whether a packet is the first of a new connection, which may then be on an old one's record: TCP's SYN whatever else
/// is set, SCTP's INIT.
#[inline]
pub fn is_first(protocol: Protocol, packet: u8) -> bool {
    match protocol {
        Protocol::Tcp => packet & flags::SYN != 0,
        Protocol::Udp => false,
        Protocol::Sctp => packet == Event::Init as u8,
    }
}

/// Whether a connection in this state is over, so that a packet that [`is_first`] is scheduled anew. `reuse_mode` is
/// `conn_reuse_mode`, `direction` that of the client's packets: without sight of replies a FIN from the client may be
/// all that is seen of an end.
#[inline]
pub fn is_over(protocol: Protocol, direction: Direction, state: State, reuse_mode: u8) -> bool {
    if reuse_mode == 0 {
        return false;
    }
    match protocol {
        Protocol::Tcp => match state {
            tcp::TIME_WAIT | tcp::CLOSE => true,
            tcp::FIN_WAIT => reuse_mode & 2 != 0 && direction == Direction::InputOnly,
            _ => false,
        },
        Protocol::Udp => false,
        Protocol::Sctp => state == sctp::CLOSED,
    }
}

/// Whether a connection in this state counts as active on its real server.
#[inline]
pub fn is_active(protocol: Protocol, state: State) -> bool {
    match protocol {
        Protocol::Tcp => matches!(state, tcp::ESTABLISHED | tcp::SYN_SENT | tcp::SYN_RECV | tcp::SYNACK),
        Protocol::Udp => false,
        Protocol::Sctp => state == sctp::ESTABLISHED,
    }
}

/// The state's name as `ipvsadm -Lc` prints it.
pub fn name(protocol: Protocol, state: State) -> &'static str {
    names(protocol).get(usize::from(state.0)).unwrap_or(&"ERR!")
}

/// The names of all states.
pub fn names(protocol: Protocol) -> &'static [&'static str] {
    match protocol {
        Protocol::Tcp => &tcp::NAMES,
        Protocol::Udp => &["UDP"],
        Protocol::Sctp => &sctp::NAMES,
    }
}

/// Seconds a connection stays after its last packet, by protocol and state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifetimes([u32; 64]);

impl Lifetimes {
    /// As the file says.
    pub fn new(timeouts: &Timeouts) -> Self {
        let mut seconds = [timeouts.tcp.none; 64];
        let t = &timeouts.tcp;
        let tcp: [u32; tcp::COUNT] = [
            t.none,
            t.established,
            t.syn_sent,
            t.syn_recv,
            t.fin_wait,
            t.time_wait,
            t.close,
            t.close_wait,
            t.last_ack,
            t.listen,
            t.synack,
        ];
        seconds[..tcp.len()].copy_from_slice(&tcp);
        // As a record's bits have it, of TCP that a helper looks after.
        seconds[48..48 + tcp.len()].copy_from_slice(&tcp);
        seconds[16..32].fill(timeouts.udp);
        let s = &timeouts.sctp;
        let sctp: [u32; sctp::COUNT] = [
            s.none,
            s.init1,
            s.init,
            s.cookie_sent,
            s.cookie_replied,
            s.cookie_wait,
            s.cookie,
            s.cookie_echoed,
            s.established,
            s.shutdown_sent,
            s.shutdown_received,
            s.shutdown_ack_sent,
            s.rejected,
            s.closed,
        ];
        seconds[32..32 + sctp.len()].copy_from_slice(&sctp);
        Self(seconds)
    }

    /// How long `state` lasts without a packet, in seconds.
    #[inline]
    pub fn of(&self, protocol: Protocol, state: State) -> u32 {
        self.0[(protocol as usize & 3) << 4 | usize::from(state.0 & 15)]
    }

    /// That of the state which lasts longest.
    pub fn longest(&self) -> u32 {
        self.0.iter().copied().max().unwrap_or(0)
    }

    /// The same among those of one protocol.
    pub fn longest_of(&self, protocol: Protocol) -> u32 {
        let first = (protocol as usize & 3) << 4;
        self.0.get(first..first + 16).and_then(|states| states.iter().copied().max()).unwrap_or(0)
    }

    /// As [`Lifetimes::of`]: the state is in the lower four of the bits, the protocol in the two above the next two.
    #[inline]
    pub(super) fn of_bits(&self, bits: usize) -> u32 {
        self.0[bits >> 2 & 0x30 | bits & 15]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::*;

    const PROTOCOLS: [(Protocol, usize); 3] =
        [(Protocol::Tcp, tcp::COUNT), (Protocol::Udp, 1), (Protocol::Sctp, sctp::COUNT)];

    fn run(direction: Direction, segments: &[u8]) -> State {
        segments.iter().fold(State::NONE, |state, &segment| tcp_next(direction, segment, state))
    }

    fn run_sctp(packets: &[(Direction, Event)]) -> Vec<&'static str> {
        let states = packets.iter().scan(State::NONE, |state, &(direction, event)| {
            *state = sctp_next(direction, event, *state);
            Some(name(Protocol::Sctp, *state))
        });
        states.collect()
    }

    #[test]
    fn a_client_seen_one_way_goes_from_syn_to_established_to_fin_wait() {
        use flags::*;
        assert_eq!(run(InputOnly, &[SYN]), tcp::SYN_RECV);
        assert_eq!(run(InputOnly, &[SYN, ACK]), tcp::ESTABLISHED);
        assert_eq!(run(InputOnly, &[SYN, ACK, FIN | ACK]), tcp::FIN_WAIT);
        assert_eq!(run(InputOnly, &[SYN, ACK, FIN | ACK, ACK]), tcp::FIN_WAIT);
        assert_eq!(run(InputOnly, &[SYN, RST]), tcp::SYN_RECV);
        assert_eq!(run(InputOnly, &[SYN, ACK, RST]), tcp::CLOSE);
    }

    #[test]
    fn a_segment_without_any_flag_closes() {
        assert_eq!(tcp_next(Input, 0x28, tcp::ESTABLISHED), tcp::CLOSE);
        assert_eq!(tcp_next_secure(Input, 0xe8, tcp::ESTABLISHED), tcp::CLOSE);
    }

    #[test]
    fn rst_counts_before_syn_and_syn_before_fin_and_fin_before_ack() {
        use flags::*;
        for others in 0..=255u8 {
            let of = |segment| tcp_next(Input, segment, tcp::ESTABLISHED);
            assert_eq!(of(others | RST), tcp::CLOSE);
            assert_eq!(of(others & !RST | SYN), tcp::ESTABLISHED);
            assert_eq!(of(others & !(RST | SYN) | FIN), tcp::CLOSE_WAIT);
            assert_eq!(of(others & !(RST | SYN | FIN) | ACK), tcp::ESTABLISHED);
        }
    }

    #[test]
    fn under_secure_tcp_only_the_real_server_establishes() {
        use flags::*;
        let received = tcp_next_secure(Input, SYN, State::NONE);
        assert_eq!(received, tcp::SYN_RECV);
        assert_eq!(tcp_next_secure(Input, ACK, received), tcp::SYN_RECV);
        let answered = tcp_next_secure(Output, SYN | ACK, received);
        assert_eq!(answered, tcp::SYNACK);
        assert_eq!(tcp_next_secure(Input, ACK, answered), tcp::SYNACK);
        assert_eq!(tcp_next_secure(Output, ACK, answered), tcp::ESTABLISHED);
        assert_eq!(tcp_next_secure(InputOnly, SYN, State::NONE), tcp::SYNACK);
    }

    #[test]
    fn an_association_seen_both_ways_goes_through_its_handshake_and_shutdown() {
        let seen = run_sctp(&[
            (Input, Event::Init),
            (Output, Event::InitAck),
            (Input, Event::CookieEcho),
            (Output, Event::CookieAck),
            (Input, Event::Data),
            (Input, Event::Shutdown),
            (Output, Event::ShutdownAck),
            (Input, Event::ShutdownComplete),
        ]);
        let expected = [
            "INIT1",
            "C-SENT",
            "C-REPLIED",
            "ESTABLISHED",
            "ESTABLISHED",
            "S-RECEIVED",
            "S-ACK-SENT",
            "CLOSED",
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn an_association_seen_one_way_is_established_by_its_cookie() {
        let seen = run_sctp(&[
            (InputOnly, Event::Init),
            (InputOnly, Event::CookieEcho),
            (InputOnly, Event::Shutdown),
            (InputOnly, Event::ShutdownComplete),
        ]);
        assert_eq!(seen, ["INIT1", "ESTABLISHED", "S-RECEIVED", "CLOSED"]);
    }

    #[test]
    fn an_abort_ends_an_association_wherever_it_stands_in_the_packet() {
        for direction in [Input, Output, InputOnly] {
            for state in 0..COLUMNS as u8 {
                let first = sctp_next(direction, Event::Abort, State(state));
                assert!(matches!(first, sctp::CLOSED | sctp::REJECTED));
                assert_eq!(sctp_next(direction, Event::AbortBehindCookie, State(state)), first);
            }
        }
    }

    #[test]
    fn every_direction_event_and_state_leads_to_a_state() {
        for (protocol, count) in PROTOCOLS {
            for direction in [Input, Output, InputOnly] {
                for (packet, is_secure) in (0..=255).flat_map(|packet| [(packet, false), (packet, true)]) {
                    for state in 0..=255 {
                        let next = next(protocol, direction, packet, State(state), is_secure);
                        assert!(usize::from(next.0) < count);
                    }
                }
            }
        }
    }

    #[test]
    fn any_packets_after_one_that_opens_keep_a_connection_out_of_none() {
        bolero::check!().with_type::<(u8, bool, Vec<(u8, bool)>)>().for_each(|(first, secure, packets)| {
            for protocol in [Protocol::Tcp, Protocol::Sctp] {
                if !opens(protocol, *first, true) {
                    continue;
                }
                let mut state = next(protocol, Input, *first, State::NONE, *secure);
                for &(packet, is_reply) in packets {
                    assert_ne!(state, State::NONE);
                    state = next(protocol, if is_reply { Output } else { Input }, packet, state, *secure);
                }
            }
        });
    }

    #[test]
    fn without_sloppiness_only_syn_and_init_open_and_a_reset_never_does() {
        use flags::*;
        for sloppy in [false, true] {
            assert!(opens(Protocol::Tcp, SYN, sloppy));
            assert!(opens(Protocol::Tcp, SYN | ACK, sloppy));
            assert!(!opens(Protocol::Tcp, SYN | RST, sloppy));
            assert_eq!(opens(Protocol::Tcp, ACK, sloppy), sloppy);
            assert_eq!(opens(Protocol::Tcp, 0, sloppy), sloppy);
            assert!(opens(Protocol::Udp, 0, sloppy));
            assert!(opens(Protocol::Sctp, Event::Init as u8, sloppy));
            assert!(!opens(Protocol::Sctp, Event::Abort as u8, sloppy));
            for event in [Event::Data, Event::InitAck, Event::CookieEcho, Event::AbortBehindCookie] {
                assert_eq!(opens(Protocol::Sctp, event as u8, sloppy), sloppy);
            }
        }
    }

    #[test]
    fn what_is_over_depends_on_the_reuse_mode() {
        for direction in [Input, InputOnly] {
            assert!(!is_over(Protocol::Tcp, direction, tcp::CLOSE, 0));
            assert!(!is_over(Protocol::Sctp, direction, sctp::CLOSED, 0));
            for mode in 1..=3 {
                assert!(is_over(Protocol::Tcp, direction, tcp::CLOSE, mode));
                assert!(is_over(Protocol::Tcp, direction, tcp::TIME_WAIT, mode));
                assert!(!is_over(Protocol::Tcp, direction, tcp::CLOSE_WAIT, mode));
                assert!(!is_over(Protocol::Tcp, direction, tcp::SYN_RECV, mode));
                assert!(is_over(Protocol::Sctp, direction, sctp::CLOSED, mode));
                assert!(!is_over(Protocol::Sctp, direction, sctp::REJECTED, mode));
                let unseen_end = mode & 2 != 0 && direction == InputOnly;
                assert_eq!(is_over(Protocol::Tcp, direction, tcp::FIN_WAIT, mode), unseen_end);
            }
        }
    }
}
