//! Gratuitous ARP for VIPs: each is announced, soon, and never many in one call.

use super::*;
use crate::wire::ethernet::Arp;

/// VIPs from 10.1.0.0 on.
const FIRST: Addr4 = Addr4::new(10, 1, 0, 0);
const VIPS: u32 = 1_000;

fn many_vips() -> Config {
    let mut text = "[connections]\ncapacity = 1024\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/8\"]\n"
        .to_owned();
    for number in 0..VIPS {
        let address = FIRST.plus(number);
        text += &format!(
            "[[virtual_server]]\nname = \"s{number}\"\naddress = \"{address}\"\nport = 80\n\
             [[virtual_server.real_server]]\naddress = \"10.0.0.11\"\n"
        );
    }
    weir_config::parse("test", &text).expect("a valid file").config
}

impl Lab {
    /// One call of upkeep: the addresses that it announces.
    fn announced(&mut self) -> Vec<Addr4> {
        self.directors[0].upkeep(&self.snapshot, self.now, &mut self.wire);
        let sent = self.wire.sent.drain(..).map(|(_, frame)| frame.bytes().to_vec());
        let targets = sent.map(|frame| Arp::read_from_prefix(&frame[14..]).expect("ARP").0.target.get());
        targets.collect()
    }
}

/// Milliseconds until every VIP was announced once, with so many calls in each.
fn first_round(calls: usize) -> u64 {
    let mut lab = Lab::new(&many_vips(), 1);
    let begin = lab.now.millis;
    let mut seen = HashSet::new();
    while seen.len() < VIPS as usize {
        for _ in 0..calls {
            let announced = lab.announced();
            assert!(announced.len() <= 4, "{} announcements in one call", announced.len());
            assert!(announced.iter().all(|&address| seen.insert(address)), "one comes twice");
        }
        lab.now.millis += 1;
        assert!(lab.now.millis < begin + 1_000, "only {} were announced", seen.len());
    }
    lab.now.millis - begin
}

#[test]
fn all_are_announced_at_32_a_millisecond_a_few_in_each_call() {
    assert_eq!(first_round(8), 32);
    assert_eq!(first_round(200), 32);
}

#[test]
fn a_worker_with_announcements_left_does_not_rest() {
    let mut lab = Lab::new(&many_vips(), 1);
    while lab.directors[0].is_behind(lab.now) {
        lab.announced();
    }
    lab.now.millis += 1;
    assert!(lab.announced().is_empty());
    assert!(lab.directors[0].is_behind(lab.now));
    // Long calls: what a millisecond had too few of is made up for.
    for _ in 0..3 {
        lab.announced();
        lab.now.millis += 1;
    }
    let mut made_up_for = 0;
    while lab.directors[0].announcer.has_more() {
        made_up_for += lab.announced().len();
    }
    assert!((80..=120).contains(&made_up_for), "{made_up_for}");
}

#[test]
fn each_is_announced_three_times_a_second_apart() {
    let mut lab = Lab::new(&many_vips(), 1);
    let mut times = HashMap::<Addr4, Vec<u64>>::new();
    for _ in 0..5_000 {
        lab.now.millis += 1;
        for _ in 0..8 {
            for address in lab.announced() {
                times.entry(address).or_default().push(lab.now.millis);
            }
        }
    }
    assert_eq!(times.len(), VIPS as usize);
    for times in times.values() {
        assert_eq!(times.len(), 3);
        assert!(times.windows(2).all(|pair| (990..1_100).contains(&(pair[1] - pair[0]))), "{times:?}");
    }
}
