//! What weir says to those who ask which groups of IPv6 it hears.

use std::net::Ipv6Addr;

use super::*;
use crate::wire::checksum::Sum;

const QUERIER: MacAddress = MacAddress([2, 0, 0, 0, 0, 0x99]);
const OWN_GROUP: &str = "ff02::1:ff00:2";
const VIP_GROUP: &str = "ff02::1:ff00:100";
const VRRP_GROUP: &str = "ff02::12";
/// The virtual router's addresses: fe80::5:57 and 2001:db8::57.
const ROUTER_GROUPS: [&str; 2] = ["ff02::1:ff00:57", "ff02::1:ff05:57"];
const ALL: [&str; 3] = [OWN_GROUP, VIP_GROUP, VRRP_GROUP];
const IS_EXCLUDE: u8 = 2;
const TO_INCLUDE: u8 = 3;
const TO_EXCLUDE: u8 = 4;
/// In place of a record's type: what says in version 1 that a group is heard no more.
const DONE: u8 = 132;

fn config(vips: u16) -> Config {
    config_of_router(vips, "57")
}

/// With this address of the virtual router.
fn config_of_router(vips: u16, last: &str) -> Config {
    let mut text = "[connections]\ncapacity = 1024\n[[port]]\nname = \"lan\"\ndevice = \"x\"\n\
                    addresses = [\"10.0.0.2/24\", \"2001:db8::2/64\"]\n\
                    [[vrrp]]\nname = \"vi\"\nport = \"lan\"\nvirtual_router_id = 57\n\
                    addresses = [\"fe80::5:57\", \"2001:db8::LAST\"]\n"
        .replace("LAST", last);
    for number in 0..vips {
        text += &format!(
            "[[virtual_server]]\nname = \"v{number}\"\naddress = \"2001:db8::{:x}\"\nport = 80\n\
             [[virtual_server.real_server]]\naddress = \"2001:db8::11\"\n",
            0x100 + number
        );
    }
    weir_config::parse("test", &text).expect("a valid file").config
}

/// What a report says: the type of its records, and their groups. 0: of version 1.
type Said = (u8, Vec<String>);

/// Reads a report, of which everything else is as it has to be: what it says of each type of records.
fn read(frame: &[u8]) -> Vec<Said> {
    let is_report = frame[12..14] == [0x86, 0xdd] && frame[20] == 0 && frame[62] != 130;
    if !is_report {
        return Vec::new();
    }
    let address = |at: usize| Ipv6Addr::from(*frame[at..].first_chunk::<16>().expect("an address"));
    let message = &frame[62..];
    assert_eq!((&frame[6..12], frame[21]), (&OWN.0[..], 1));
    assert_eq!(frame[54..62], [58, 0, 5, 2, 0, 0, 1, 0]);
    assert_eq!(usize::from(u16::from_be_bytes([frame[18], frame[19]])), frame.len() - 54);
    assert_eq!(address(22).to_string(), "fe80::ff:fe00:1");
    assert_eq!(frame[..6], [&[0x33, 0x33][..], &frame[50..54]].concat());
    let pseudo = Sum::default().bytes(&frame[22..54]).long(message.len() as u32).word(58);
    assert_eq!(pseudo.bytes(message).fold(), 0xffff);
    if message[0] == 131 {
        assert_eq!((message.len(), address(38)), (24, address(70)));
        return vec![(0, vec![address(70).to_string()])];
    }
    if message[0] == DONE {
        assert_eq!((message.len(), address(38).to_string().as_str()), (24, "ff02::2"));
        return vec![(DONE, vec![address(70).to_string()])];
    }
    assert_eq!((message[0], address(38).to_string().as_str()), (143, "ff02::16"));
    assert!(frame.len() <= 1_514);
    assert_eq!(message.len(), 8 + 20 * usize::from(u16::from_be_bytes([message[6], message[7]])));
    let mut said = Vec::<Said>::new();
    for record in message[8..].chunks(20) {
        assert_eq!(record[1..4], [0; 3]);
        let group = Ipv6Addr::from(*record[4..].first_chunk::<16>().expect("a group")).to_string();
        match said.iter_mut().find(|(kind, _)| *kind == record[0]) {
            Some((_, groups)) => groups.push(group),
            None => said.push((record[0], vec![group])),
        }
    }
    said
}

/// A query without its checksum right away: `len` is that of the message, `delay` milliseconds.
fn query(len: usize, group: &str, delay: u16) -> Vec<u8> {
    let mut frame = [&[0x33, 0x33, 0, 0, 0, 1][..], &QUERIER.0].concat();
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8 + len as u8, 0, 1]);
    frame.extend("fe80::99".parse::<Ipv6Addr>().expect("an address").octets());
    frame.extend("ff02::1".parse::<Ipv6Addr>().expect("an address").octets());
    frame.extend([58, 0, 5, 2, 0, 0, 1, 0, 130, 0, 0, 0]);
    frame.extend(delay.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(group.parse::<Ipv6Addr>().expect("an address").octets());
    frame.resize(62 + len, 0);
    summed(frame)
}

fn summed(mut frame: Vec<u8>) -> Vec<u8> {
    frame[64..66].fill(0);
    let message = &frame[62..];
    let sum = Sum::default().bytes(&frame[22..54]).long(message.len() as u32).word(58).bytes(message);
    let sum = sum.finish().to_bytes();
    frame[64..66].copy_from_slice(&sum);
    frame
}

impl Lab {
    /// A snapshot of this file and of who is master now, which nobody has met yet.
    fn change(&mut self, config: &Config) {
        let templates = self.directors[0].templates.clone();
        let progress = Progress::of(self.counters.iter().map(|counters| &**counters), Some(&templates));
        self.snapshot = self.registry.snapshot(config, &[OWN], progress).expect("a valid configuration");
        self.snapshot.set_masters(&self.masters);
    }

    /// The reports of so many milliseconds.
    fn reports(&mut self, millis: u64) -> Vec<Said> {
        let mut said = Vec::new();
        for _ in 0..millis {
            self.now.millis += 1;
            self.now.seconds = (self.now.millis / 1000) as u32;
            self.directors[0].adopt(&self.snapshot);
            self.directors[0].upkeep(&self.snapshot, self.now, &mut self.wire);
            said.extend(self.wire.sent.drain(..).flat_map(|(_, frame)| read(frame.bytes())));
        }
        said
    }
}

/// With the groups in order.
fn sorted(said: Vec<Said>) -> Vec<Said> {
    let in_order = |(kind, mut groups): Said| {
        groups.sort_unstable();
        (kind, groups)
    };
    said.into_iter().map(in_order).collect()
}

fn all(kind: u8, more: &[&str]) -> Said {
    let mut groups: Vec<_> = ALL.iter().chain(more).map(|group| group.to_string()).collect();
    groups.sort_unstable();
    (kind, groups)
}

/// One that has said what it hears.
fn settled(vips: u16) -> Lab {
    let mut lab = Lab::new(&config(vips), 1);
    lab.reports(5_000);
    lab
}

#[test]
fn what_is_heard_is_reported_twice_at_the_start_and_when_more_comes() {
    let config = config(1);
    let mut lab = Lab::new(&config, 1);
    assert_eq!(lab.counters[0].mld_reports.get(), 1);
    assert_eq!(sorted(lab.reports(5_000)), [all(TO_EXCLUDE, &[])]);
    lab.change(&config);
    assert!(lab.reports(3_000).is_empty(), "nothing new");
    // A take-over.
    lab.masters = config.vrrp.iter().map(RouterKey::of).collect();
    lab.change(&config);
    assert_eq!(sorted(lab.reports(5)), [all(TO_EXCLUDE, &ROUTER_GROUPS)]);
    assert_eq!(sorted(lab.reports(3_000)), [all(TO_EXCLUDE, &ROUTER_GROUPS)]);
    // A reload.
    lab.change(&self::config(2));
    let more = [&ROUTER_GROUPS[..], &["ff02::1:ff00:101"]].concat();
    assert_eq!(sorted(lab.reports(5)), [all(TO_EXCLUDE, &more)]);
    assert_eq!(lab.counters[0].mld_reports.get(), 5);
}

#[test]
fn queries_are_answered_in_their_own_version_and_in_time() {
    let mut lab = settled(1);
    assert_eq!(lab.send(query(28, "::", 700)), Vec::<Vec<u8>>::new());
    assert_eq!(sorted(lab.reports(701)), [all(IS_EXCLUDE, &[])]);
    lab.send(query(28, VIP_GROUP, 100));
    assert_eq!(lab.reports(101), [(IS_EXCLUDE, vec![VIP_GROUP.to_owned()])]);
    lab.send(query(28, "ff02::1:ff00:77", 100));
    assert!(lab.reports(200).is_empty(), "nobody's group");
    lab.send(query(24, "::", 100));
    let mut old = lab.reports(101);
    old.sort_unstable();
    let mut groups = ALL;
    groups.sort_unstable();
    assert_eq!(old, groups.map(|group| (0, vec![group.to_owned()])));
    let counters = &lab.counters[0];
    assert_eq!((counters.mld_queries.get(), counters.mld_unanswered.get()), (4, 0));
    assert_eq!(counters.absorbed.get(), 4);
    // As long as such a querier is there, what comes is reported in both forms.
    lab.change(&config(2));
    let said = lab.reports(500);
    assert_eq!(said.iter().filter(|(kind, _)| *kind == 0).count(), 4);
    assert_eq!(said.iter().filter(|(kind, _)| *kind == TO_EXCLUDE).count(), 1);
}

#[test]
fn a_query_with_a_priority_alone_is_one_on_the_ports_own_network() {
    let mut lab = settled(1);
    let mut tagged = query(28, "::", 100);
    tagged.splice(12..12, [0x81, 0x00, 0xe0, 0x00]);
    lab.send(tagged);
    assert_eq!(sorted(lab.reports(101)), [all(IS_EXCLUDE, &[])]);
}

#[test]
fn an_address_of_a_virtual_router_that_takes_the_place_of_another_is_news() {
    let mut lab = settled(1);
    let files = ["57", "58", "57", "59"].map(|last| config_of_router(1, last));
    lab.masters = files[0].vrrp.iter().map(RouterKey::of).collect();
    for (file, last) in files.iter().zip(["57", "58", "57", "59"]) {
        lab.change(file);
        let group = format!("ff02::1:ff00:{last}");
        let said = lab.reports(5_000);
        assert!(
            said.iter().any(|(kind, groups)| *kind == TO_EXCLUDE && groups.contains(&group)),
            "{last}: {said:?}"
        );
    }
}

#[test]
fn a_query_that_allows_much_time_holds_up_no_urgent_one() {
    for number in 0..20 {
        let mut lab = settled(1);
        // Decides how long the answer is put off.
        lab.now.cycles += number * 2_000_001;
        lab.send(query(28, "::", 10_000));
        lab.reports(3);
        lab.send(query(28, "::", 1_000));
        assert_eq!(sorted(lab.reports(1_300)), [all(IS_EXCLUDE, &[])]);
        assert!(lab.reports(10_000).is_empty(), "both share the answer");
    }
}

#[test]
fn an_old_querier_that_another_worker_has_heard_is_there_for_all() {
    let mut lab = Lab::new(&config(1), 2);
    lab.reports(5_000);
    lab.send_to(1, query(24, "::", 100));
    lab.change(&config(2));
    let said = lab.reports(500);
    assert_eq!(said.iter().filter(|(kind, _)| *kind == 0).count(), 4, "{said:?}");
}

#[test]
fn what_is_no_valid_query_is_dropped() {
    let mut lab = settled(1);
    let right = query(28, "::", 100);
    let with = |at: usize, byte: u8| {
        let mut frame = right.clone();
        frame[at] = byte;
        summed(frame)
    };
    let mut checksum = right.clone();
    checksum[64] ^= 1;
    let cases = [
        ("came over a router", with(21, 2)),
        ("no link-local source", with(22, 0x20)),
        ("no router alert", with(56, 1)),
        ("another router alert", with(59, 1)),
        ("options without an end", with(55, 200)),
        ("a report", with(62, 143)),
        ("between the versions", query(26, "::", 100)),
        ("short", query(20, "::", 100)),
        ("checksum", checksum),
    ];
    for (number, (name, frame)) in (1..).zip(cases) {
        lab.send(frame);
        assert!(lab.reports(200).is_empty(), "{name}");
        assert_eq!(lab.dropped(DropReason::EtherType), number, "{name}");
    }
    assert_eq!(lab.counters[0].mld_queries.get(), 0);
}

#[test]
fn many_groups_are_in_reports_that_fit() {
    let mut lab = settled(1_000);
    lab.send(query(28, "::", 0));
    let said = lab.reports(50);
    let groups: HashSet<_> = said.iter().flat_map(|(_, groups)| groups).collect();
    assert_eq!((groups.len(), said.len() < 30), (1_002, true));
}

#[test]
fn a_flood_of_queries_gets_few_answers() {
    let mut lab = settled(1);
    for number in 0..1_000 {
        lab.send(query(28, &format!("ff02::1:ff01:{number:x}"), 0));
    }
    assert_eq!(lab.counters[0].mld_unanswered.get(), 984);
    let mut answers = 0;
    for _ in 0..1_000 {
        lab.send(query(28, "::", 0));
        answers += lab.reports(1).len();
    }
    assert!((4..=5).contains(&answers), "the one querier that matters is answered all the same: {answers}");
    assert_eq!(lab.counters[0].mld_unanswered.get(), 984);
    assert_eq!(lab.counters[0].mld_queries.get(), 2_000);
}

#[test]
fn what_is_heard_no_more_is_told_twice() {
    let gone = |group: &str| (TO_INCLUDE, vec![group.to_owned()]);
    let second = "ff02::1:ff00:101";
    let mut lab = settled(2);
    lab.change(&config(1));
    for millis in [5, 3_000] {
        assert_eq!(sorted(lab.reports(millis)), [all(TO_EXCLUDE, &[]), gone(second)]);
    }
    assert!(lab.reports(20_000).is_empty());
    // The last one.
    lab.change(&config(0));
    let others = (TO_EXCLUDE, [VRRP_GROUP, OWN_GROUP].map(str::to_owned).to_vec());
    for millis in [5, 3_000] {
        assert_eq!(sorted(lab.reports(millis)), [others.clone(), gone(VIP_GROUP)]);
    }
    // Somebody else is master now.
    lab.masters = config(1).vrrp.iter().map(RouterKey::of).collect();
    lab.change(&config(1));
    lab.reports(5_000);
    lab.masters.clear();
    lab.change(&config(1));
    let left = (TO_INCLUDE, ROUTER_GROUPS.map(str::to_owned).to_vec());
    for millis in [5, 3_000] {
        assert_eq!(sorted(lab.reports(millis)), [all(TO_EXCLUDE, &[]), left.clone()]);
    }
    // One that comes back meanwhile is heard.
    lab.change(&config(2));
    lab.reports(5_000);
    lab.change(&config(1));
    assert_eq!(sorted(lab.reports(5))[1], gone(second));
    lab.change(&config(2));
    assert!(lab.reports(5_000).iter().all(|(kind, _)| *kind == TO_EXCLUDE));
    // Where there is a querier of version 1, in its form as well.
    lab.send(query(24, "::", 0));
    lab.reports(5_000);
    lab.change(&config(1));
    let said = lab.reports(5_000);
    let told = |kind: u8| said.iter().filter(|said| **said == (kind, vec![second.to_owned()])).count();
    assert_eq!((told(TO_INCLUDE), told(DONE)), (2, 2), "{said:?}");
}

#[test]
fn a_group_that_another_address_has_is_heard_on() {
    let text = |own: &str| {
        format!(
            "[connections]\ncapacity = 1024\n[[port]]\nname = \"lan\"\ndevice = \"x\"\n\
             addresses = [\"2001:db8::2/64\"{own}]\n"
        )
    };
    let config = |own: &str| weir_config::parse("test", &text(own)).expect("a valid file").config;
    let mut lab = Lab::new(&config(", \"2001:db8:1::2/64\", \"2001:db8:1::3/64\""), 1);
    lab.reports(5_000);
    lab.change(&config(""));
    let heard = (TO_EXCLUDE, vec![OWN_GROUP.to_owned()]);
    let left = (TO_INCLUDE, vec!["ff02::1:ff00:3".to_owned()]);
    assert_eq!(lab.reports(5), [heard, left]);
}

#[test]
fn a_link_that_returns_hears_all_of_it_again() {
    for text in ["", "[[virtual_server]]\nname = \"v\"\naddress = \"2001:db8::100\"\nport = 80\n"] {
        let text = "[connections]\ncapacity = 1024\n[[port]]\nname = \"lan\"\ndevice = \"x\"\n\
                    addresses = [\"2001:db8::2/64\"]\n"
            .to_owned()
            + text;
        let config = weir_config::parse("test", &text).expect("a valid file").config;
        let mut lab = Lab::new(&config, 1);
        lab.reports(5_000);
        lab.change(&config);
        assert!(lab.reports(5_000).is_empty());
        for _ in 0..2 {
            lab.registry.announce();
            lab.change(&config);
            assert_eq!(lab.reports(5_000).len(), 2, "{text}");
        }
    }
}

#[test]
fn a_port_of_the_hosts_hears_its_vips_too() {
    let text = "[connections]\ncapacity = 1024\n[[port]]\nname = \"lan\"\ndevice = \"x\"\n\
                addresses = [\"2001:db8::2/64\"]\nhost_interface = \"weir0\"\n\
                [[virtual_server]]\nname = \"v\"\naddress = \"2001:db8::100\"\nport = 80\n";
    let config = weir_config::parse("test", text).expect("a valid file").config;
    let mut lab = Lab::new(&config, 1);
    let groups = [OWN_GROUP, VIP_GROUP].map(str::to_owned).to_vec();
    assert_eq!(lab.reports(5_000), [(TO_EXCLUDE, groups.clone())]);
    lab.send(query(28, "::", 0));
    assert_eq!(lab.reports(5), [(IS_EXCLUDE, groups)]);
    lab.send(query(28, VIP_GROUP, 0));
    assert_eq!(lab.reports(5), [(IS_EXCLUDE, vec![VIP_GROUP.to_owned()])]);
}
