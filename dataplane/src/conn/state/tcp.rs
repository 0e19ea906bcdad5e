//! States of TCP, by the kernel's names and numbers, and what moves a connection from one to the next.

#![allow(missing_docs)]

use super::{COLUMNS, EVENTS, State, Transitions, event};
use crate::wire::l4::flags;

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

/// Whether a segment with these flags may open a connection: a SYN, or with `sloppy_tcp` any but RST.
#[inline]
pub fn opens(segment: u8, is_sloppy: bool) -> bool {
    segment & flags::RST == 0 && (segment & flags::SYN != 0 || is_sloppy)
}

type Row = [u8; COUNT];

const ES: u8 = ESTABLISHED.0;
const SS: u8 = SYN_SENT.0;
const SR: u8 = SYN_RECV.0;
const FW: u8 = FIN_WAIT.0;
const TW: u8 = TIME_WAIT.0;
const CL: u8 = CLOSE.0;
const CW: u8 = CLOSE_WAIT.0;
const LA: u8 = LAST_ACK.0;
const LI: u8 = LISTEN.0;
const SA: u8 = SYNACK.0;

/// By direction, then by what counts of the flags: SYN, FIN, ACK, RST. The kernel's `tcp_states`.
#[rustfmt::skip]
const NORMAL: [[Row; 4]; 3] = [
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

/// Against floods of SYNs: only the real server's own ACK establishes. The kernel's `tcp_states_dos`.
#[rustfmt::skip]
const SECURE: [[Row; 4]; 3] = [
    [ // input
    //   NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
        [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SA], // SYN
        [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, SA], // FIN
        [ES, ES, SS, SR, FW, TW, CL, CW, CL, LI, SA], // ACK
        [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL], // RST
    ],
    [ // output
        [SS, ES, SS, SA, SS, SS, SS, SS, SS, LI, SA],
        [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
        [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
        [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
    ],
    [ // input only
        [SA, ES, ES, SR, SA, SA, SA, SA, SA, SA, SA],
        [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
        [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
        [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
    ],
];

/// The normal table or, `is_secure`, the one of `secure_tcp`, by direction, [`event`] of the flags, and state.
///
/// Of the flags the first of RST, SYN, FIN, ACK counts; a segment with none of them closes the connection. So does any
/// from a state that there is not.
pub(super) const fn transitions(is_secure: bool) -> Transitions {
    let rows = if is_secure { SECURE } else { NORMAL };
    let mut table = [[[CL; COLUMNS]; EVENTS]; 4];
    let mut direction = 0;
    while direction < rows.len() {
        let mut segment = 0;
        while segment < 32 {
            if let Some(row) = row(segment) {
                let mut state = 0;
                while state < COUNT {
                    table[direction][event(segment)][state] = rows[direction][row][state];
                    state += 1;
                }
            }
            segment += 1;
        }
        direction += 1;
    }
    table
}

/// Which row of a table counts for these flags.
const fn row(segment: u8) -> Option<usize> {
    if segment & flags::RST != 0 {
        Some(3)
    } else if segment & flags::SYN != 0 {
        Some(0)
    } else if segment & flags::FIN != 0 {
        Some(1)
    } else if segment & flags::ACK != 0 {
        Some(2)
    } else {
        None
    }
}
