//! Gratuitous ARP for VIPs: each is announced, soon, and never many in one call.

use weir_config::model::VirtualServer;

use super::*;
use crate::snapshot::registry::Change;
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
    /// By an edit, after which the file would be this one.
    fn amended(&mut self, config: &Config, change: Change<'_>) {
        let amended = self.registry.amend(self.snapshot.clone(), &[change], config).unwrap();
        self.snapshot = match amended {
            Some(amended) => amended,
            None => self.registry.snapshot(config, &[OWN], Progress::default()).unwrap(),
        };
    }

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

/// A virtual server of another address comes each 300 ms after all came, and the first of those goes again: each that stays is announced
/// three times, about a second apart, and a new one at once.
#[test]
fn those_that_come_later_cut_none_short() {
    let config = many_vips();
    let mut lab = Lab::new(&config, 1);
    let new = |number: u32| {
        let address = FIRST.plus(VIPS + number);
        VirtualServer { address: address.into(), ..config.virtual_servers[0].clone() }
    };
    let mut times = HashMap::<Addr4, Vec<u64>>::new();
    let mut came = HashMap::new();
    let begin = lab.now.millis;
    for milli in 1..7_000 {
        lab.now.millis = begin + milli;
        if milli % 300 == 150 && milli < 3_000 {
            let number = (milli / 300) as u32;
            came.insert(FIRST.plus(VIPS + number), lab.now.millis);
            lab.amended(&config, Change::Put(&new(number)));
        }
        if milli == 800 {
            came.remove(&FIRST.plus(VIPS));
            lab.amended(&config, Change::Remove(new(0).identity()));
        }
        for _ in 0..8 {
            for address in lab.announced() {
                times.entry(address).or_default().push(lab.now.millis);
            }
        }
    }
    assert_eq!(times.remove(&FIRST.plus(VIPS)).map(|times| times.len()), Some(1), "it went");
    assert_eq!(times.len(), VIPS as usize + 9);
    for (address, times) in times {
        assert_eq!(times.len(), 3, "{address:?}: {times:?}");
        assert!(times.windows(2).all(|pair| (990..2_200).contains(&(pair[1] - pair[0]))), "{times:?}");
        if let Some(came) = came.get(&address) {
            assert!(times[0] <= came + 2, "{times:?}");
        }
    }
}

/// As many come and go as it takes: what is kept of those that went is bounded.
#[test]
fn what_comes_and_goes_leaves_no_list_without_end() {
    let config = many_vips();
    let mut lab = Lab::new(&config, 1);
    let address = FIRST.plus(VIPS);
    let new = VirtualServer { address: address.into(), ..config.virtual_servers[0].clone() };
    let mut with = config.clone();
    with.virtual_servers.push(new.clone());
    for _ in 0..3_000 {
        lab.amended(&with, Change::Put(&new));
        lab.amended(&config, Change::Remove(new.identity()));
        assert!(lab.snapshot.announcements.len() <= 3 * VIPS as usize);
    }
    lab.amended(&with, Change::Put(&new));
    let mut seen = HashSet::new();
    for _ in 0..1_000 {
        lab.now.millis += 1;
        for _ in 0..8 {
            seen.extend(lab.announced());
        }
    }
    assert_eq!(seen.len(), VIPS as usize + 1);
}
