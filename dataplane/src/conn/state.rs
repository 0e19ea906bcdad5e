//! States of connections, as IPVS follows them, and how long each lasts.
//!
//! A pure function of (direction, event, state); the clock is the caller's. The tables are those of the kernel's
//! `ip_vs_proto_tcp`, written one row an event so that they can be read beside it.

use weir_config::model::{Protocol, Timeouts};

use crate::wire::l4::flags;

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

/// States of TCP, by the kernel's names and numbers.
pub mod tcp {
    #![allow(missing_docs)]
    use super::State;
    pub const NONE: State = State(0);
    pub const ESTABLISHED: State = State(1);
    pub const SYN_SENT: State = State(2);
    pub const SYN_RECV: State = State(3);
    pub const FIN_WAIT: State = State(4);
    pub const TIME_WAIT: State = State(5);
    pub const CLOSE: State = State(6);
    pub const CLOSE_WAIT: State = State(7);
    pub const LAST_ACK: State = State(8);
    pub const LISTEN: State = State(9);
    pub const SYNACK: State = State(10);

    /// Number of states.
    pub const COUNT: usize = 11;
    /// Names as `ipvsadm -Lc` prints them.
    pub const NAMES: [&str; COUNT] = [
        "NONE",
        "ESTABLISHED",
        "SYN_SENT",
        "SYN_RECV",
        "FIN_WAIT",
        "TIME_WAIT",
        "CLOSE",
        "CLOSE_WAIT",
        "LAST_ACK",
        "LISTEN",
        "SYNACK",
    ];
}

/// The one state of UDP.
pub const UDP: State = State(0);

type Row = [u8; tcp::COUNT];

const ES: u8 = 1;
const SS: u8 = 2;
const SR: u8 = 3;
const FW: u8 = 4;
const TW: u8 = 5;
const CL: u8 = 6;
const CW: u8 = 7;
const LA: u8 = 8;
const LI: u8 = 9;

/// By direction, then by event: SYN, FIN, ACK, RST.
#[rustfmt::skip]
const TCP: [[Row; 4]; 3] = [
    [ // input
    //   NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
        [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR], // SYN
        [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW], // FIN
        [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES], // ACK
        [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR], // RST
    ],
    [ // output
        [SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR],
        [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
        [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
        [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
    ],
    [ // input only
        [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
        [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
        [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
        [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
    ],
];

/// The state after a TCP segment with these flags.
///
/// Of the flags the first of RST, SYN, FIN, ACK counts; a segment with none of them closes the connection.
#[inline]
pub fn tcp_next(direction: Direction, segment: u8, state: State) -> State {
    let event = if segment & flags::RST != 0 {
        3
    } else if segment & flags::SYN != 0 {
        0
    } else if segment & flags::FIN != 0 {
        1
    } else if segment & flags::ACK != 0 {
        2
    } else {
        return tcp::CLOSE;
    };
    State(TCP[direction as usize][event][usize::from(state.0).min(tcp::COUNT - 1)])
}

/// Whether a connection in this state counts as active on its real server.
#[inline]
pub fn is_active(protocol: Protocol, state: State) -> bool {
    match protocol {
        Protocol::Tcp => matches!(state, tcp::ESTABLISHED | tcp::SYN_SENT | tcp::SYN_RECV | tcp::SYNACK),
        Protocol::Udp => false,
        Protocol::Sctp => state == SCTP_ESTABLISHED,
    }
}

/// SCTP's only active state.
pub const SCTP_ESTABLISHED: State = State(8);

/// Seconds a connection stays after its last packet, by protocol and state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifetimes([u32; 64]);

impl Lifetimes {
    /// As the file says.
    pub fn new(timeouts: &Timeouts) -> Self {
        let mut seconds = [timeouts.tcp.none; 64];
        let t = &timeouts.tcp;
        let tcp = [
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
        seconds[16..32].fill(timeouts.udp);
        let s = &timeouts.sctp;
        let sctp = [
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::*;

    fn run(direction: Direction, segments: &[u8]) -> State {
        segments.iter().fold(tcp::NONE, |state, &segment| tcp_next(direction, segment, state))
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
    }

    #[test]
    fn rst_counts_before_syn_and_syn_before_fin() {
        use flags::*;
        assert_eq!(tcp_next(Input, RST | SYN | FIN | ACK, tcp::ESTABLISHED), tcp::CLOSE);
        assert_eq!(tcp_next(Input, SYN | FIN, tcp::NONE), tcp::SYN_RECV);
    }

    #[test]
    fn all_states_lead_to_states() {
        for direction in [Input, Output, InputOnly] {
            for segment in 0..=255u8 {
                for state in 0..16 {
                    let next = tcp_next(direction, segment, State(state));
                    assert!(usize::from(next.0) < tcp::COUNT);
                }
            }
        }
    }
}
