//! What control and VRRP's thread tell each other, besides [`super::orders`].

use std::net::IpAddr;

use weir_vrrp::discard::Discard;
use weir_vrrp::machine::{Cause, State};
use weir_vrrp::track::Tracked;

/// What control tells the thread: another host on this port claims this address.
pub(super) struct Claim(pub(super) usize, pub(super) IpAddr);

/// What the thread has to say.
#[derive(Debug)]
pub(super) enum Note {
    Transition { instance: String, from: State, to: State, cause: Cause, fault: Option<Tracked> },
    Refused { port: usize, instance: Option<String>, source: Option<IpAddr>, reason: Discard },
    AddressMismatch { instance: String, source: IpAddr },
    Stalled { millis: u128, by_worker: bool },
    NotInRealTime(std::io::Error),
    Unsent { port: usize, why: &'static str },
}
