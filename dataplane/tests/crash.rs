//! A worker that panics at a frame: what is left of it, what the other one does, and what becomes of the frame the next time.
//! EAL starts once in a process, so this is one test in a file.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod rig;

use std::time::{Duration, Instant};

use rig::{Crashes, GATEWAY, OWN, Rig, VIP, client, segment};
use weir_dataplane::director::Shared;
use weir_dataplane::stats::DropReason;
use weir_dataplane::suspect::{Caution, Flow};
use weir_dataplane::wire::l4::flags::{ACK, FIN, SYN};

/// A frame of this client's at which this build panics: it is there where frames are read that take no short way.
fn deadly(number: u32) -> Vec<u8> {
    let mut frame = segment(OWN, GATEWAY, client(number), (VIP, 80), ACK | FIN);
    frame.truncate(54);
    frame.extend(b"weir, panic");
    // The length and the checksum of the IP header, of which the other fields stay.
    let len = (frame.len() - 14) as u16;
    let before = u16::from_be_bytes([frame[16], frame[17]]);
    let sum = u32::from(!u16::from_be_bytes([frame[24], frame[25]])) + u32::from(!before) + u32::from(len);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[16..18].copy_from_slice(&len.to_be_bytes());
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

fn syn(number: u32) -> Vec<u8> {
    segment(OWN, GATEWAY, client(number), (VIP, 80), SYN)
}

#[test]
fn the_frame_is_found_out_and_its_flow_dropped_while_others_go_on() {
    let dropped = Flow::of(&deadly(3));
    let hour = Duration::from_secs(3_600);
    let caution = Caution { careful: hour, flows: vec![(dropped, hour)] };
    let crashes = rig::with_cautious_workers(&[11], false, Some(caution), |rig, shared, crashes| {
        is_dropped(rig, shared);
        is_found_out(rig, crashes);
        // The other one forwards until it is told to stop.
        rig.send(1, &[syn(20)]);
        rig.receive(1, 1);
    });
    assert_eq!(crashes, [], "each panics once");
}

/// Of a flow that is known already.
fn is_dropped(rig: &mut Rig, shared: &[Shared]) {
    rig.send(0, &[syn(1), deadly(3), syn(2), deadly(3), syn(4)]);
    rig.receive(0, 3);
    let drops = |shared: &Shared| shared.counters.drops(DropReason::Suspect);
    assert_eq!(shared.iter().map(drops).collect::<Vec<_>>(), [2, 0]);
}

/// One among others.
fn is_found_out(rig: &mut Rig, crashes: &Crashes) {
    rig.send(0, &[syn(5), deadly(6), syn(7)]);
    rig.receive(0, 1);
    let deadline = Instant::now() + Duration::from_secs(20);
    while crashes.lock().unwrap().is_empty() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    let found = std::mem::take(&mut *crashes.lock().unwrap());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].culprit.as_ref(), Some(&deadly(6)));
    assert_eq!(found[0].frames.len(), 1, "the burst was this frame alone");
}
