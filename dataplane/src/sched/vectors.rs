//! Known pick sequences, bucket and slot numbers. Servers are added in the order A, B, C, D.

use std::net::IpAddr;

use weir_config::model::Scheduler as Kind;

use super::director_model::{Director, any_key, description, empty};
use super::hash::{address_key, bucket_hash};
use super::maglev::Maglev;
use super::{PickKey, State};

/// As if the scheduler was set when the servers were there: wrr begins with the heaviest.
fn bound(kind: Kind, weights: &[u32]) -> Director {
    let other = if kind == Kind::Rr { Kind::Lc } else { Kind::Rr };
    let mut director = Director::new(other, weights);
    director.publish(description(kind, weights));
    director
}

#[test]
fn picks_follow_the_kernels_sequences() {
    let mut failed = Vec::new();
    for (kind, weights, tcp, expected) in [
        (Kind::Rr, &[1, 1, 1][..], true, "CBACBACBA"),
        (Kind::Rr, &[1, 0, 1, 1], true, "DCADCADCA"),
        (Kind::Wrr, &[4, 3, 2], true, "ABACBACBAABACBACBA"),
        (Kind::Wrr, &[1, 1, 1], true, "CBACBA"),
        (Kind::Wrr, &[2, 4, 6], true, "CCBCBACCBCBA"),
        (Kind::Wrr, &[5, 1, 1], true, "AAAACBAAAAACBA"),
        (Kind::Wrr, &[3, 0, 2], true, "ACACAACACA"),
        (Kind::Wrr, &[10, 20, 30, 40], true, "DDCDCBDCBADDCDCBDCBA"),
        (Kind::Wrr, &[0, 0], true, "----"),
        (Kind::Lc, &[4, 3, 2], true, "CBACBACBA"),
        (Kind::Wlc, &[1, 1, 1], true, "CBACBA"),
        (Kind::Wlc, &[4, 3, 2], true, "CBAABCABACBAABCABA"),
        (Kind::Wlc, &[4, 3, 2], false, "CBAABCABACBAABCABA"),
        (Kind::Wlc, &[3, 1, 0], true, "BAAABAAA"),
        (Kind::Sed, &[1, 1, 1], true, "CBACBA"),
        (Kind::Sed, &[4, 3, 2], true, "ABCABACBAABCABACBA"),
        (Kind::Sed, &[3, 1, 0], true, "AABAAABAAA"),
        (Kind::Sed, &[1, 1, 1], false, "CCCCCC"),
        (Kind::Sed, &[4, 3, 2], false, "AAAAAA"),
        (Kind::Nq, &[4, 3, 2], true, "CBAABACBAABCABACBA"),
        (Kind::Nq, &[3, 1, 0], true, "BAAAAABAAABA"),
        (Kind::Nq, &[4, 3, 2], false, "CCCCCC"),
        (Kind::Fo, &[2, 3, 3], true, "CCCCCCCC"),
        (Kind::Ovf, &[2, 3, 3], true, "CCCCBBBBAAA--"),
    ] {
        let picks = bound(kind, weights).picks(expected.len(), tcp);
        if picks != expected {
            failed.push(format!("{} {weights:?} tcp {tcp}: {picks}, not {expected}", kind.name()));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn wrr_begins_at_the_lowest_weight_when_servers_came_one_by_one() {
    let expected = "CBAAABABACBAAA";
    assert_eq!(Director::new(Kind::Wrr, &[5, 3, 1]).picks(14, true), expected);
    let mut one_by_one = Director::from_service(empty(Kind::Wrr));
    for server in description(Kind::Wrr, &[5, 3, 1]).servers.iter().rev() {
        one_by_one.add(*server, 0, 0);
    }
    assert_eq!(one_by_one.picks(14, true), expected);
}

#[test]
fn wrr_goes_on_after_an_edit_and_around_an_overload() {
    let mut director = bound(Kind::Wrr, &[4, 3, 2]);
    assert_eq!(director.picks(4, true), "ABAC");
    director.edit(0, 5);
    assert_eq!(director.picks(15, true), "CBACBACCACBACBA");

    let mut director = bound(Kind::Wrr, &[4, 3, 2]);
    assert_eq!(director.picks(4, true), "ABAC");
    director.servers[2].overloaded = true;
    assert_eq!(director.picks(10, true), "BCBBCBCBBC");
}

#[test]
fn rr_goes_on_before_a_deleted_server() {
    let mut director = Director::new(Kind::Rr, &[1, 1, 1, 1]);
    assert_eq!(director.picks(2, true), "DC");
    director.delete(1);
    assert_eq!(director.picks(3, true), "BAD");
    director.delete(0);
    assert_eq!(director.picks(3, true), "BAB");
}

#[test]
fn an_edit_to_the_same_weight_sends_wrr_to_the_head_but_not_rr() {
    for (kind, expected) in [(Kind::Wrr, "CBCBA"), (Kind::Rr, "CBACB")] {
        let mut director = Director::new(kind, &[1, 1, 1]);
        let before = director.picks(2, true);
        director.edit(0, 1);
        assert_eq!(before + &director.picks(3, true), expected);
    }
}

#[test]
fn another_scheduler_starts_fresh() {
    let mut director = Director::new(Kind::Rr, &[1, 1, 1]);
    assert_eq!(director.picks(1, true), "C");
    director.publish(description(Kind::Wrr, &[1, 1, 1]));
    assert_eq!(director.picks(1, true), "C");
}

/// Bucket of sh, sh picks by weights 1,1,1 and 3,2,1, by 1,0,1 plain and with fallback, by 1,1,1 with the
/// port 40000; slot of mh, its picks by 1,1,1 and 3,2,1, by 1,1,1 with the port 40000, and with B quiesced
/// by an edit, plain and with fallback.
const CLIENTS: [(&str, u8, &str, u16, &str); 10] = [
    ("192.0.2.1", 50, "ABAAB", 2891, "CCCCC"),
    ("192.0.2.2", 148, "BA-AA", 746, "BBC-C"),
    ("192.0.2.3", 246, "CCCCB", 998, "BAB-A"),
    ("192.0.2.4", 88, "BA-AC", 3044, "CCCCC"),
    ("192.0.2.5", 185, "AAAAC", 3958, "BBC-A"),
    ("192.0.2.6", 27, "CACCA", 4037, "CBCCC"),
    ("192.0.2.8", 223, "BB-AA", 1122, "CCACC"),
    ("198.51.100.7", 171, "CACCB", 924, "AABAA"),
    ("2001:db8::1", 63, "CACCB", 3457, "BBC-A"),
    ("2001:db8::2", 160, "BA-AA", 1523, "CCBCC"),
];

fn letter(director: &mut Director, fallback: bool, port: bool, client: IpAddr) -> char {
    let mut service = director.service.clone();
    (service.flags.fallback, service.flags.port) = (fallback, port);
    director.publish(service);
    let key = PickKey { source: client, ..any_key() };
    let picked = director.scheduler.pick(&director.state, &director.servers, &key);
    picked.map_or('-', |index| char::from(b'@' + director.service.servers[index].id as u8))
}

#[test]
fn source_hashing_picks_as_the_kernel() {
    let [mut even, mut weighted, mut holed] =
        [[1, 1, 1], [3, 2, 1], [1, 0, 1]].map(|w| Director::new(Kind::Sh, &w));
    for (client, bucket, expected, ..) in CLIENTS {
        let client: IpAddr = client.parse().unwrap();
        assert_eq!(bucket_hash(address_key(client)), bucket, "{client}");
        let picks = [
            letter(&mut even, false, false, client),
            letter(&mut weighted, false, false, client),
            letter(&mut holed, false, false, client),
            letter(&mut holed, true, false, client),
            letter(&mut even, false, true, client),
        ];
        assert_eq!(picks.iter().collect::<String>(), expected, "{client}");
    }
}

#[test]
fn destination_hashing_uses_the_same_buckets_and_no_weights() {
    let director = Director::new(Kind::Dh, &[3, 2, 1]);
    for (address, _, expected, ..) in CLIENTS {
        let key = PickKey { destination: address.parse().unwrap(), ..any_key() };
        let picked = director.scheduler.pick(&director.state, &director.servers, &key).unwrap();
        assert_eq!(picked, usize::from(b'C' - expected.as_bytes()[0]), "{address}");
    }
}

#[test]
fn maglev_hashing_picks_as_the_kernel() {
    let [mut even, mut weighted, mut holed] =
        [[1, 1, 1], [3, 2, 1], [1, 1, 1]].map(|w| Director::new(Kind::Mh, &w));
    holed.edit(1, 0);
    let maglev = Maglev::build(&even.service.servers, even.service.flags, &even.service.options).unwrap();
    for (client, _, _, slot, expected) in CLIENTS {
        let client: IpAddr = client.parse().unwrap();
        assert_eq!(maglev.slot(address_key(client)), u32::from(slot), "{client}");
        let picks = [
            letter(&mut even, false, false, client),
            letter(&mut weighted, false, false, client),
            letter(&mut even, false, true, client),
            letter(&mut holed, false, false, client),
            letter(&mut holed, true, false, client),
        ];
        assert_eq!(picks.iter().collect::<String>(), expected, "{client}");
    }
}

#[test]
fn lblc_keeps_a_destination_through_edits_removal_and_return() {
    let mut director = Director::new(Kind::Lblc, &[4, 4, 4]);
    assert_eq!(director.picks(5, true), "CCCCC");
    // 5 active are more than 4, and A and B have less than half of theirs: crowded.
    assert_eq!(director.picks(1, true), "B");
    assert_eq!(director.picks(1, true), "B");
    director.edit(2, 9);
    assert_eq!(director.picks(1, true), "B");
    let removed = director.service.servers[1];
    director.delete(1);
    assert_eq!(director.picks(1, true), "A");
    director.add(removed, 0, 0);
    assert_eq!(director.picks(1, true), "A");
    assert_eq!(director.state.destinations(), 1);
    director.publish(description(Kind::Wlc, &[4, 4, 4]));
    assert_eq!(director.state.destinations(), 0);
}

#[test]
fn lblcr_spreads_a_crowded_destination_and_shrinks_its_set_after_a_day() {
    let mut director = Director::new(Kind::Lblcr, &[4, 4, 4]);
    let key = |now_secs| PickKey { now_secs, ..any_key() };
    assert_eq!(director.picks(6, true), "CCCCCB");
    // The set is B, C: B with 1 of 4 is the least loaded until it is crowded too.
    assert_eq!(director.picks(4, true), "BBBB");
    assert_eq!(director.picks(1, true), "A");
    for server in &mut director.servers {
        server.active = 0;
    }
    director.servers[1].inactive = 9;
    // A is the newest in the set and wins the tie with C; B, the most loaded, leaves after a day.
    assert_eq!(director.connect(&key(86_401), false), Some(2));
    director.servers[0].inactive = 5;
    director.servers[2].inactive = 5;
    director.servers[1].inactive = 0;
    assert_eq!(director.connect(&key(86_402), false), Some(2), "B is idle, but not in the set any more");
}

#[test]
fn twos_repeats_with_the_same_seed_and_differs_between_workers() {
    let sequence = |worker| {
        let mut director = Director::new(Kind::Twos, &[1, 2, 3]);
        director.state = State::new(&director.service, worker, 2);
        director.picks(40, true)
    };
    assert_eq!(sequence(0), sequence(0));
    assert_ne!(sequence(0), sequence(1));
}
