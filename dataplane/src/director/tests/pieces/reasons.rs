//! What becomes of pieces that are not sent on, and what a flood of them does to others.

use super::*;

fn lab(method: &str) -> Lab {
    Lab::new(&file(method, &[11], 1500), 1)
}

#[test]
fn every_piece_that_is_not_sent_on_has_its_reason() {
    for is_v6 in [false, true] {
        let mut lab = lab("nat");
        let flow = request(is_v6, 4_000);
        let whole = datagram(&flow, 1_592, 1);
        let at = |ident: u16, start: usize, end: usize| piece(&flow, ident, &whole, (start, end));
        let dropped = |lab: &mut Lab, reason: DropReason, frame: Vec<u8>| {
            let before = lab.dropped(reason);
            assert_eq!(lab.send(frame), Vec::<Vec<u8>>::new());
            assert_eq!(lab.dropped(reason), before + 1, "{reason:?} {is_v6}");
        };
        assert_eq!(lab.send(at(1, 0, 400)).len(), 1);
        assert_eq!(lab.send(at(1, 400, 800)).len(), 1);
        dropped(&mut lab, DropReason::FragmentDuplicate, at(1, 400, 800));
        dropped(&mut lab, DropReason::FragmentOverlap, at(1, 792, 1_200));
        dropped(&mut lab, DropReason::FragmentOverlap, at(1, 1_200, 1_600));
        // A first piece that came again begins anew.
        assert_eq!(lab.send(at(1, 0, 400)).len(), 1);
        assert_eq!(lab.send(at(1, 400, 1_600)).len(), 1);
        let raw = |protocol, data: &[u8], place| raw_piece(&flow, (protocol, 9), data, place);
        dropped(&mut lab, DropReason::FragmentBad, raw(17, &[1; 15], (400, true)));
        dropped(&mut lab, DropReason::FragmentBad, raw(17, &[1; 100], (65_488, false)));
        dropped(&mut lab, DropReason::FragmentTiny, raw(6, &whole[..16], (0, true)));
        dropped(&mut lab, DropReason::FragmentTiny, raw(6, &[1; 16], (8, false)));
        // To a port that nobody serves: nobody's, and so are the others.
        let mut stray = whole.clone();
        stray[2..4].copy_from_slice(&[0, 99]);
        dropped(&mut lab, DropReason::Fragment, raw(17, &stray[..400], (0, true)));
        dropped(&mut lab, DropReason::Fragment, raw(17, &stray[400..800], (400, true)));
        // SCTP whose port changes.
        let sctp = [&[0x0f, 0xa0, 0, 53, 0, 0, 0, 0, 1, 2, 3, 4, 1, 0, 0, 20][..], &[0; 16]].concat();
        dropped(&mut lab, DropReason::FragmentChecksum, raw_piece(&flow, (132, 11), &sctp, (0, true)));
        // As the first, so the others.
        dropped(&mut lab, DropReason::FragmentChecksum, raw_piece(&flow, (132, 11), &[0; 16], (32, false)));
        // UDP without checksum stays without, which IPv6 does not have.
        let mut bare = whole.clone();
        bare[6..8].fill(0);
        match is_v6 {
            true => dropped(
                &mut lab,
                DropReason::FragmentChecksum,
                raw_piece(&flow, (17, 12), &bare[..400], (0, true)),
            ),
            false => {
                let sent = lab.send(raw_piece(&flow, (17, 12), &bare[..400], (0, true)));
                assert_eq!(sent[0][40..42], [0, 0]);
            }
        }
        // One that waits in vain.
        assert!(lab.send(at(13, 400, 800)).is_empty());
        assert_eq!(lab.directors[0].held.waiting(), 1);
        lab.pass_millis(29_000);
        assert_eq!(lab.directors[0].held.waiting(), 1);
        lab.pass_millis(if is_v6 { 32_000 } else { 2_000 });
        assert_eq!((lab.directors[0].held.waiting(), lab.dropped(DropReason::FragmentNoFirst)), (0, 1));
    }
}

#[test]
fn a_flood_of_pieces_harms_no_whole_packet_and_ends_with_itself() {
    for is_v6 in [false, true] {
        let mut lab = lab("dr");
        let flow = request(is_v6, 4_000);
        let whole = datagram(&flow, 1_592, 1);
        let syn = |port: u16| match is_v6 {
            true => ipv6::segment6(1, port, SYN),
            false => frame(OWN, (CLIENT, port), (VIP, 53), SYN),
        };
        for ident in 0..6_000u16 {
            let start = if ident % 3 == 0 { 0 } else { 400 };
            lab.send(piece(&flow, ident, &whole, (start, start + 400)));
            if ident % 100 == 0 && !is_v6 {
                assert_eq!(lab.send(syn(1_000 + ident)).len(), 1, "a whole packet");
            }
        }
        let waiting = lab.directors[0].held.waiting();
        assert!(waiting <= crate::pieces::WAITING_MAX);
        assert!(lab.dropped(DropReason::FragmentRoomFull) > 3_000);
        assert!(lab.counters[0].pieces_full.get() > 500, "{}", lab.counters[0].pieces_full.get());
        // In the flood a datagram whose pieces come one after the other arrives.
        let mut receiver = Receiver::default();
        for piece in cut(&flow, 7_000, &whole, 400) {
            receiver.take_frames(&lab.send(piece));
        }
        assert_eq!(receiver.whole, [translated("dr", &flow, &whole)]);
        // And so does one that comes the other way round.
        for piece in cut(&flow, 7_001, &whole, 400).into_iter().rev() {
            receiver.take_frames(&lab.send(piece));
        }
        assert_eq!(receiver.whole.len(), 2);
    }
}

#[test]
fn pieces_of_a_removed_server_and_of_other_vips_go_nowhere() {
    let mut lab = lab("dr");
    let flow = request(false, 4_000);
    let whole = datagram(&flow, 1_592, 1);
    assert_eq!(lab.send(piece(&flow, 1, &whole, (0, 400))).len(), 1);
    lab.reload(&file("dr", &[12], 1500));
    assert!(lab.send(piece(&flow, 1, &whole, (400, 800))).is_empty());
    assert_eq!(lab.dropped(DropReason::RealServerRemoved), 1);
    let elsewhere = Flow { destination: "10.0.0.77".parse().expect("an address"), ..flow };
    assert!(lab.send(piece(&elsewhere, 1, &whole, (400, 800))).is_empty());
    assert_eq!((lab.dropped(DropReason::Fragment), lab.directors[0].held.waiting()), (1, 0));
}

/// A piece of IPv4 whose header asks for a way of its own.
fn source_routed(flow: &Flow, ident: u16, whole: &[u8], place: (usize, usize)) -> Vec<u8> {
    let mut frame = piece(flow, ident, whole, place);
    frame.splice(34..34, [131, 7, 4, 10, 0, 0, 9, 0]);
    frame[14] = 0x47;
    let len = (frame.len() - 14) as u16;
    frame[16..18].copy_from_slice(&len.to_be_bytes());
    frame[24..26].fill(0);
    let sum = Sum::default().bytes(&frame[14..42]).finish();
    frame[24..26].copy_from_slice(sum.as_bytes());
    frame
}

#[test]
fn a_first_piece_that_cannot_be_read_takes_nothing_from_a_packet_that_was() {
    let flow = request(false, 4_000);
    let whole = datagram(&flow, 1_592, 1);
    for workers in [1, 2] {
        let mut lab = Lab::new(&file("nat", &[11], 1500), workers);
        assert_eq!(lab.send(piece(&flow, 1, &whole, (0, 400))).len(), 1);
        assert!(lab.send(source_routed(&flow, 1, &whole, (0, 400))).is_empty());
        assert_eq!(lab.dropped(DropReason::FragmentDuplicate), 1);
        assert_eq!(lab.send(piece(&flow, 1, &whole, (400, 1_600))).len(), 1);
        // One that overlaps ends the packet, read or not.
        assert_eq!(lab.send(piece(&flow, 2, &whole, (0, 400))).len(), 1);
        assert!(lab.send(source_routed(&flow, 2, &whole, (0, 408))).is_empty());
        assert!(lab.send(piece(&flow, 2, &whole, (400, 1_600))).is_empty());
        assert_eq!(lab.dropped(DropReason::FragmentOverlap), 2);
        // Where there was none before, the others go the same way.
        assert!(lab.send(source_routed(&flow, 3, &whole, (0, 400))).is_empty());
        assert!(lab.send(piece(&flow, 3, &whole, (400, 1_600))).is_empty());
        assert_eq!(lab.dropped(DropReason::SourceRoute), 2);
    }
}
