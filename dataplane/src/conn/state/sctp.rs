//! States of SCTP, by the kernel's names and numbers, and what moves a connection from one to the next.

#![allow(missing_docs)]

use super::{COLUMNS, EVENTS, State, Transitions, event};
use crate::wire::sctp::Event;

pub const NONE: State = State(0);
pub const INIT1: State = State(1);
pub const INIT: State = State(2);
pub const COOKIE_SENT: State = State(3);
pub const COOKIE_REPLIED: State = State(4);
pub const COOKIE_WAIT: State = State(5);
pub const COOKIE: State = State(6);
pub const COOKIE_ECHOED: State = State(7);
pub const ESTABLISHED: State = State(8);
pub const SHUTDOWN_SENT: State = State(9);
pub const SHUTDOWN_RECEIVED: State = State(10);
pub const SHUTDOWN_ACK_SENT: State = State(11);
pub const REJECTED: State = State(12);
pub const CLOSED: State = State(13);

/// Number of states.
pub const COUNT: usize = 14;
/// Names as `ipvsadm -Lc` prints them.
pub const NAMES: [&str; COUNT] = [
    "NONE",
    "INIT1",
    "INIT",
    "C-SENT",
    "C-REPLIED",
    "C-WAIT",
    "COOKIE",
    "C-ECHOED",
    "ESTABLISHED",
    "S-SENT",
    "S-RECEIVED",
    "S-ACK-SENT",
    "REJECTED",
    "CLOSED",
];

/// Whether a packet that means this [`Event`] may open a connection: one with INIT, or with `sloppy_sctp` any that
/// does not begin with ABORT.
#[inline]
pub fn opens(packet: u8, is_sloppy: bool) -> bool {
    packet == Event::Init as u8 || (is_sloppy && packet != Event::Abort as u8)
}

type Row = [u8; COUNT];

const I1: u8 = INIT1.0;
const IN: u8 = INIT.0;
const CS: u8 = COOKIE_SENT.0;
const CR: u8 = COOKIE_REPLIED.0;
const CW: u8 = COOKIE_WAIT.0;
const CO: u8 = COOKIE.0;
const CE: u8 = COOKIE_ECHOED.0;
const ES: u8 = ESTABLISHED.0;
const SS: u8 = SHUTDOWN_SENT.0;
const SR: u8 = SHUTDOWN_RECEIVED.0;
const SA: u8 = SHUTDOWN_ACK_SENT.0;
const RJ: u8 = REJECTED.0;
const CL: u8 = CLOSED.0;

/// The rows of [`TABLE`] in order.
const ROWS: [Event; 10] = [
    Event::Data,
    Event::Init,
    Event::InitAck,
    Event::CookieEcho,
    Event::CookieAck,
    Event::Shutdown,
    Event::ShutdownAck,
    Event::ShutdownComplete,
    Event::Error,
    Event::Abort,
];

/// By direction, then by event. The kernel's `sctp_states`.
#[rustfmt::skip]
const TABLE: [[Row; ROWS.len()]; 3] = [
    [ // input
    //   NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL
        [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL], // data
        [I1, IN, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, IN, IN], // INIT
        [CW, CW, CW, CS, CR, CO, CO, CE, ES, SS, SR, SA, RJ, CL], // INIT ACK
        [CR, IN, IN, CR, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL], // COOKIE ECHO
        [ES, I1, IN, CS, CR, CW, CO, ES, ES, SS, SR, SA, RJ, CL], // COOKIE ACK
        [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL], // SHUTDOWN
        [CL, IN, IN, CS, CR, CW, CO, CE, ES, CL, SR, CL, RJ, CL], // SHUTDOWN ACK
        [CL, CL, CL, CS, CR, CW, CO, CE, ES, SS, SR, CL, RJ, CL], // SHUTDOWN COMPLETE
        [CL, I1, IN, CS, CR, CW, CO, CL, ES, SS, SR, SA, RJ, CL], // ERROR
        [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL], // ABORT
    ],
    [ // output
        [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        [CW, CW, CW, CW, CW, CW, CW, CW, ES, CW, CW, CW, CW, CW],
        [CS, CS, CS, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        [CE, CE, CE, CE, CE, CE, CE, CE, ES, SS, SR, SA, RJ, CL],
        [ES, ES, ES, ES, ES, ES, ES, ES, ES, SS, SR, SA, RJ, CL],
        [SS, SS, SS, SS, SS, SS, SS, SS, SS, SS, SR, SA, RJ, CL],
        [SA, SA, SA, SA, SA, CW, CO, CE, ES, SA, SA, SA, RJ, CL],
        [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        [CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL],
    ],
    [ // input only
        [ES, I1, IN, CS, CR, ES, CO, CE, ES, SS, SR, SA, RJ, CL],
        [I1, IN, IN, IN, IN, IN, CO, CE, ES, SS, SR, SA, IN, IN],
        [CE, CE, CE, CE, CE, CE, CO, CE, ES, SS, SR, SA, RJ, CL],
        [ES, ES, ES, ES, ES, ES, CO, CE, ES, SS, SR, SA, RJ, CL],
        [ES, I1, IN, ES, ES, CW, ES, ES, ES, SS, SR, SA, RJ, CL],
        [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL],
        [CL, IN, IN, CS, CR, CW, CO, CE, CL, CL, SR, CL, RJ, CL],
        [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, CL, CL, RJ, CL],
        [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL],
    ],
];

/// The table by direction, [`event`], and state. A state that there is not is taken for the last, CLOSED.
pub(super) const fn transitions() -> Transitions {
    let mut table = [[[CL; COLUMNS]; EVENTS]; 4];
    let mut direction = 0;
    while direction < TABLE.len() {
        // Numbers that are no event are data.
        let mut number = 0;
        while number < EVENTS {
            copy(&mut table[direction][number], &TABLE[direction][0]);
            number += 1;
        }
        let mut row = 0;
        while row < ROWS.len() {
            copy(&mut table[direction][event(ROWS[row] as u8)], &TABLE[direction][row]);
            row += 1;
        }
        copy(&mut table[direction][event(Event::AbortBehindCookie as u8)], &TABLE[direction][ROWS.len() - 1]);
        direction += 1;
    }
    table
}

const fn copy(to: &mut [u8; COLUMNS], from: &Row) {
    let mut state = 0;
    while state < COUNT {
        to[state] = from[state];
        state += 1;
    }
}
