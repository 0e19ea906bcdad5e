//! Over what a director without EAL knows.

use std::time::Duration;

use weir_api::overview::Overview;
use weir_dataplane::stats::DropReason;

use super::shot::Counts;
use super::*;
use crate::metrics::tests::{Director, carry};

fn shot(director: &Director, before: Option<&Counts>) -> Shot {
    Shot::take("lb1", || director.metrics.read(), &[], before)
}

fn ask(shot: &Shot, query: &str) -> Overview<'static> {
    serde_json::from_slice(&render(shot, &Query::parse(query).unwrap()).unwrap()).unwrap()
}

/// So many virtual servers, `v0` and so on, with two real servers each.
fn many(count: usize) -> Director {
    let server = |number: usize| {
        let (high, low) = (2 + number / 250, 1 + number % 250);
        format!(
            "[[virtual_server]]\nname = \"v{number}\"\naddress = \"192.0.{high}.{low}\"\nport = 80\n\
             [[virtual_server.real_server]]\naddress = \"10.0.1.{low}\"\n\
             [[virtual_server.real_server]]\naddress = \"10.0.2.{low}\"\n"
        )
    };
    Director::new(&(0..count).map(server).collect::<String>())
}

#[test]
fn what_happens_in_a_second_follows_from_the_moment_before() {
    let director = Director::usual();
    let counters = &director.workers[0].counters;
    counters.busy_cycles.add(100);
    let first = shot(&director, None);
    let overview = ask(&first, "");
    assert_eq!((overview.workers[0].busy, overview.ports[0].per_second), (None, None));
    assert!(overview.drops.is_empty());
    counters.busy_cycles.add(25);
    counters.idle_cycles.add(75);
    counters.ports[0].receive_packets.add(1_000);
    counters.dropped(DropReason::TooBig);
    std::thread::sleep(Duration::from_millis(20));
    let overview = ask(&shot(&director, Some(&first.counts)), "");
    assert_eq!((overview.workers[0].busy, overview.workers[1].busy), (Some(0.25), None));
    let flow = overview.ports[0].per_second.unwrap();
    assert!(flow.receive_packets > 0.0 && flow.receive_packets <= 50_000.0 && flow.transmit_packets == 0.0);
    let [dropped] = &overview.drops[..] else { panic!("{:?}", overview.drops) };
    assert_eq!((dropped.reason.as_ref(), dropped.total), (DropReason::TooBig.label(), 1));
    assert!(dropped.per_second.unwrap() > 0.0);
}

#[test]
fn figures_are_those_of_the_other_pages() {
    let director = Director::usual();
    carry(&director.server([10, 0, 0, 11]), 0, 10);
    let overview = ask(&shot(&director, None), "unfold=yes");
    let metrics = &director.metrics;
    let theirs = super::super::servers::render(metrics, &super::super::servers::Query::parse("").unwrap());
    let theirs: weir_api::virtual_servers::Listing<'static> =
        serde_json::from_slice(&theirs.unwrap()).unwrap();
    assert_eq!(overview.virtual_servers.len(), theirs.virtual_servers.len());
    for (ours, theirs) in overview.virtual_servers.iter().zip(&theirs.virtual_servers) {
        assert_eq!(
            (&ours.name, &ours.traffic, &ours.carried),
            (&theirs.name, &theirs.traffic, &theirs.carried)
        );
        assert_eq!((ours.active, ours.inactive), (theirs.active, theirs.inactive));
        for (ours, theirs) in ours.real_servers.as_ref().unwrap().iter().zip(&theirs.real_servers) {
            assert_eq!((&ours.real_server, &ours.carried), (&theirs.real_server, &theirs.carried));
            assert_eq!((ours.weight, ours.active), (theirs.weight, theirs.active));
        }
    }
    assert_eq!(
        (overview.director.as_ref(), overview.totals.active, overview.totals.virtual_servers),
        ("lb1", 1, 2)
    );
}

#[test]
fn a_part_is_looked_for_sorted_and_turned_to() {
    let director = many(300);
    carry(&director.server([10, 0, 1, 7]), 0, 10);
    let shot = shot(&director, None);
    let names = |query: &str| -> Vec<String> {
        ask(&shot, query).virtual_servers.into_iter().map(|it| it.name.into_owned()).collect()
    };
    assert_eq!(names("")[..2], ["v0", "v1"]);
    assert_eq!(names("").len(), 50);
    assert_eq!(names("first=290&limit=20"), (290..300).map(|it| format!("v{it}")).collect::<Vec<_>>());
    assert_eq!(names("sort=active&descending=yes&limit=2"), ["v6", "v0"]);
    assert_eq!(names("sort=name&descending=yes&limit=1"), ["v99"]);
    assert_eq!(names("search=V299"), ["v299"]);
    assert_eq!(names("search=192.0.3.50:80"), ["v299"]);
    assert_eq!(names("search=10.0.2.7:"), ["v6", "v256"]);
    assert_eq!(names("search=nobody"), [""; 0]);
    let beyond = ask(&shot, "first=5000&limit=100");
    assert_eq!((beyond.first, beyond.matching, beyond.virtual_servers.len()), (200, 300, 100));
    assert!(beyond.virtual_servers.iter().all(|it| it.real_servers.is_none()));
    let opened = ask(&shot, "open=v3&open=v4");
    let counts = opened.virtual_servers.iter().map(|it| it.real_servers.as_ref().map(Vec::len));
    assert_eq!(counts.take(6).collect::<Vec<_>>(), [None, None, None, Some(2), Some(2), None]);
}

#[test]
fn an_answer_is_bounded_however_many_real_servers_there_are() {
    let mut tables = "[[virtual_server]]\nname = \"v\"\naddress = \"192.0.2.1\"\nport = 80\n".to_owned();
    for number in 0..2_000 {
        let address = format!("10.0.{}.{}", 10 + number / 250, 1 + number % 250);
        tables += &format!("[[virtual_server.real_server]]\naddress = \"{address}\"\nport = 80\n");
    }
    let shot = shot(&Director::new(&tables), None);
    let answer = render(&shot, &Query::parse("unfold=yes").unwrap()).unwrap();
    assert!(answer.len() < 700_000, "{} bytes", answer.len());
    let overview = ask(&shot, "unfold=yes");
    let server = &overview.virtual_servers[0];
    assert_eq!((server.servers, server.real_servers.as_ref().unwrap().len()), (2_000, REAL_SERVERS_MAX));
}
