//! Marks: several addresses and ports as one virtual server, and edits that move traffic between virtual servers.

use super::*;
use crate::wire::l4::icmp;

const OTHER_VIP: Addr4 = VIP.plus(1);
const OTHER_CLIENT: Addr4 = Addr4::new(10, 0, 0, 201);

/// Virtual servers and marks of one file. Every virtual server has the same real servers: last octets and weights.
struct Layout<'a> {
    /// `[[mark]]` tables and the like, before the virtual servers.
    head: &'a str,
    /// What makes each virtual server the one it is.
    servers: &'a [&'a str],
    method: &'a str,
    /// What each real server says besides.
    real: &'a str,
    set: &'a [(u8, u16)],
}

impl Layout<'_> {
    fn text(&self) -> String {
        let Layout { head, servers, method, real, set } = self;
        let mut text = format!(
            "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n\
             [[neighbor]]\naddress = \"10.0.0.200\"\nmac = \"02:00:00:00:00:cc\"\n\
             [[neighbor]]\naddress = \"10.0.0.201\"\nmac = \"02:00:00:00:00:cc\"\n{head}\n"
        );
        for (number, what) in servers.iter().enumerate() {
            text += &format!(
                "[[virtual_server]]\nname = \"vs{number}\"\n{what}\nscheduler = \"rr\"\nforwarding = \"{method}\"\n"
            );
            for (octet, weight) in *set {
                text += &format!(
                    "[[virtual_server.real_server]]\naddress = \"10.0.0.{octet}\"\nweight = {weight}\n{real}\n"
                );
            }
        }
        for octet in 11..15 {
            text += &format!(
                "[[neighbor]]\naddress = \"10.0.0.{octet}\"\nmac = \"02:00:00:00:00:{octet:02x}\"\n"
            );
        }
        text
    }

    fn config(&self) -> Config {
        let text = format!("[connections]\ncapacity = 1024\n{}", self.text());
        weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config
    }
}

const ADDRESS: &str = "address = \"10.0.0.100\"\nport = 80";
const BOTH: &str = "[[mark]]\nmark = 1\naddresses = [\"10.0.0.100\", \"10.0.0.101\"]\n";
const DR: Layout<'_> = Layout { head: "", servers: &[], method: "dr", real: "", set: &[(11, 1), (12, 1)] };

/// The last octet of the MAC of the real server that gets a client's segment.
fn server_of(lab: &mut Lab, client: (Addr4, u16), vip: (Addr4, u16), segment: u8) -> Option<u8> {
    let sent = lab.send(frame(OWN, client, vip, segment));
    sent.iter().find(|frame| frame[..6] != CLIENT_MAC.0).map(|frame| frame[5])
}

#[test]
fn a_mark_takes_turns_over_all_its_addresses_and_ports() {
    let mut lab = Lab::new(&Layout { head: BOTH, servers: &["mark = 1"], ..DR }.config(), 1);
    let picks = [(VIP, 80), (OTHER_VIP, 80), (VIP, 443), (OTHER_VIP, 9)]
        .map(|vip| server_of(&mut lab, (CLIENT, 1000), vip, SYN));
    assert_eq!(picks, [Some(12), Some(11), Some(12), Some(11)]);
    let again = [(VIP, 80), (OTHER_VIP, 80), (VIP, 443), (OTHER_VIP, 9)]
        .map(|vip| server_of(&mut lab, (CLIENT, 1000), vip, ACK));
    assert_eq!(again, picks);
    lab.assert_counts_equal_a_recount();
}

#[test]
fn persistence_holds_over_all_addresses_and_ports_of_a_mark() {
    let mut lab =
        Lab::new(&Layout { head: BOTH, servers: &["mark = 1\npersistence_timeout = 60"], ..DR }.config(), 2);
    for (number, vip) in [(VIP, 80), (OTHER_VIP, 443), (VIP, 8080)].into_iter().enumerate() {
        let sent = lab.send_to(number % 2, frame(OWN, (CLIENT, 1000 + number as u16), vip, SYN));
        assert_eq!(sent[0][5], 12);
    }
    assert_eq!(server_of(&mut lab, (OTHER_CLIENT, 1000), (OTHER_VIP, 80), SYN), Some(11));
    let templates = lab.directors[0].templates.v4.iter().map(|template| template.connections());
    let mut templates: Vec<_> = templates.collect();
    templates.sort_unstable();
    assert_eq!(templates, [1, 3]);
    lab.assert_counts_equal_a_recount();
}

#[test]
fn connections_go_on_when_an_edit_moves_their_traffic_to_another_virtual_server() {
    let addressed = Layout { servers: &[ADDRESS], ..DR };
    let marked = Layout { head: BOTH, servers: &[ADDRESS, "mark = 1"], ..DR };
    let mut lab = Lab::new(&addressed.config(), 1);
    assert_eq!(server_of(&mut lab, (CLIENT, 1000), (VIP, 80), SYN), Some(12));
    lab.reload(&marked.config());
    assert_eq!(server_of(&mut lab, (CLIENT, 1000), (VIP, 80), ACK), Some(12));
    // New ones are the mark's, which begins its own round.
    assert_eq!(server_of(&mut lab, (CLIENT, 1001), (VIP, 80), SYN), Some(12));
    assert_eq!(server_of(&mut lab, (CLIENT, 1002), (VIP, 80), SYN), Some(11));
    lab.reload(&Layout { head: &BOTH.replace("100\"", "102\""), ..marked }.config());
    for (port, server) in [(1000, 12), (1001, 12), (1002, 11)] {
        assert_eq!(server_of(&mut lab, (CLIENT, port), (VIP, 80), ACK), Some(server));
    }
    lab.assert_counts_equal_a_recount();
}

#[test]
fn a_connection_goes_on_when_its_port_or_client_loses_the_mark() {
    let whole = Layout { head: BOTH, servers: &["mark = 1"], ..DR };
    let mut lab = Lab::new(&whole.config(), 1);
    assert_eq!(server_of(&mut lab, (CLIENT, 1000), (VIP, 443), SYN), Some(12));
    for less in ["ports = [80]", "sources = [\"10.0.0.201\"]", "protocols = [\"udp\"]"] {
        lab.reload(&Layout { head: &format!("{BOTH}{less}"), ..whole }.config());
        assert_eq!(server_of(&mut lab, (CLIENT, 1000), (VIP, 443), ACK), Some(12), "{less}");
        assert_eq!(server_of(&mut lab, (CLIENT, 1001), (VIP, 443), SYN), None, "{less}");
    }
    assert_eq!(lab.counters[0].answers(Answer::TcpReset), 3);
    lab.assert_counts_equal_a_recount();
}

#[test]
fn packets_one_after_the_other_have_the_marks_of_their_own_clients() {
    let some = format!("{BOTH}sources = [\"10.0.0.201\"]");
    let layout = Layout { head: &some, servers: &["mark = 1", ADDRESS], set: &[(11, 1)], ..DR };
    let mut lab = Lab::new(&layout.config(), 1);
    for turn in 0..4 {
        let client = if turn % 2 == 0 { CLIENT } else { OTHER_CLIENT };
        assert_eq!(server_of(&mut lab, (client, 1000 + turn), (VIP, 80), SYN), Some(11));
    }
    let counts: Vec<u32> = lab.snapshot.servers().map(|server| server.live.total()).collect();
    assert_eq!(counts, [2, 2]);
}

#[test]
fn a_vip_that_leaves_takes_its_connections_with_it_before_its_number_is_given_away() {
    let one = |vip: &str| format!("[[mark]]\nmark = 1\naddresses = [\"10.0.0.{vip}\"]\n");
    let config = |vip: &str| Layout { head: &one(vip), servers: &["mark = 1"], ..DR }.config();
    let mut lab = Lab::new(&config("100"), 2);
    let number = lab.snapshot.vips.number(VIP);
    lab.send_to(1, frame(OWN, (CLIENT, 1000), (VIP, 80), SYN));
    lab.reload(&config("101"));
    assert_ne!(lab.snapshot.vips.number(OTHER_VIP), number);
    lab.reload(&config("102"));
    assert_ne!(lab.snapshot.vips.number(VIP.plus(2)), number, "not swept yet");
    lab.assert_counts_equal_a_recount();
    // A sweep that has begun before does not count, so it takes one round more.
    lab.sweep();
    lab.sweep();
    lab.assert_counts_equal_a_recount();
    assert_eq!(lab.directors.iter().map(|director| director.table.len()).sum::<usize>(), 0);
    lab.reload(&config("103"));
    assert_eq!(lab.snapshot.vips.number(VIP.plus(3)), number);
    assert_eq!(server_of(&mut lab, (CLIENT, 1000), (VIP.plus(3), 80), ACK), None);
}

#[test]
fn addresses_of_a_wide_network_are_served_without_numbers_of_their_own() {
    let wide = "[[mark]]\nmark = 1\naddresses = [\"172.16.0.0/12\"]\n";
    let mut lab = Lab::new(&Layout { head: wide, servers: &["mark = 1"], ..DR }.config(), 1);
    for vip in 0..500 {
        let server = server_of(&mut lab, (CLIENT, 1000), (Addr4::new(172, 16, 0, 0).plus(9 * vip), 80), SYN);
        assert_eq!(server, Some(if vip % 2 == 0 { 12 } else { 11 }));
        if vip % 50 == 49 {
            // One client's port has room for some dozens.
            lab.pass_millis(70_000);
            lab.sweep();
        }
    }
    assert_eq!(lab.counters[0].untracked.get(), 0);
    lab.assert_counts_equal_a_recount();
}

#[test]
fn nat_for_a_mark_answers_with_the_address_and_port_that_was_asked() {
    let net = "[[mark]]\nmark = 1\naddresses = [\"10.0.0.96/28\", \"10.0.0.50\"]\n";
    for (real, extra, port) in [("", "", 0), ("port = 8080", "", 8080), ("", "\npersistence_timeout = 9", 0)]
    {
        let what = format!("mark = 1{extra}");
        let layout = Layout { head: net, servers: &[&what], method: "nat", real, set: &[(11, 1)] };
        let mut lab = Lab::new(&layout.config(), 2);
        for (number, vip) in
            [(VIP, 80), (OTHER_VIP, 80), (Addr4::new(10, 0, 0, 50), 443), (VIP, 8080)].into_iter().enumerate()
        {
            let client_port = 1000 + number as u16;
            let sent = lab.send_to(number % 2, frame(OWN, (CLIENT, client_port), vip, SYN));
            let server_port = if port == 0 { vip.1 } else { port };
            assert_eq!(&sent[0][30..34], [10, 0, 0, 11]);
            assert_eq!(sent[0][36..38], server_port.to_be_bytes());
            for worker in [0, 1] {
                let reply =
                    frame(OWN, (Addr4::new(10, 0, 0, 11), server_port), (CLIENT, client_port), SYN | ACK);
                let back = lab.send_to(worker, reply);
                assert_eq!(back.len(), 1, "{real} {extra} {vip:?}");
                assert_eq!(
                    (&back[0][26..30], &back[0][34..36]),
                    (&vip.0.octets()[..], &vip.1.to_be_bytes()[..])
                );
            }
        }
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn what_a_network_does_not_mark_is_foreign_and_at_a_vip_refused() {
    let some = "[[mark]]\nmark = 1\naddresses = [\"10.0.0.96/28\", \"10.0.0.50\"]\nports = [80]\n";
    let mut lab = Lab::new(&Layout { head: some, servers: &["mark = 1"], ..DR }.config(), 1);
    assert_eq!(server_of(&mut lab, (CLIENT, 1000), (VIP, 81), SYN), None);
    assert_eq!(lab.dropped(DropReason::ForeignAddress), 1);
    assert_eq!(server_of(&mut lab, (CLIENT, 1000), (Addr4::new(10, 0, 0, 50), 81), SYN), None);
    assert_eq!(lab.counters[0].answers(Answer::TcpReset), 1);
}

#[test]
fn replies_to_clients_that_a_mark_holds_are_replies() {
    let all = "[[mark]]\nmark = 1\naddresses = [\"0.0.0.0/0\"]\n";
    let mut text = Layout { head: all, servers: &["mark = 1"], set: &[(13, 1)], ..DR }.text();
    text += "[[virtual_server]]\nname = \"nat\"\naddress = \"10.0.0.100\"\nport = 80\nforwarding = \"nat\"\n\
             [[virtual_server.real_server]]\naddress = \"10.0.0.11\"\nport = 8080\n";
    // The address itself has no mark, so that it is the other one's.
    let text = text.replace(all, &format!("[[mark]]\nmark = 9\naddresses = [\"10.0.0.100\"]\n{all}"));
    let mut lab =
        Lab::new(&weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config, 2);
    assert_eq!(lab.send_to(0, from_client(1000, SYN))[0][5], 11);
    for worker in [0, 1] {
        let back = lab.send_to(worker, from_server(11, 1000, SYN | ACK));
        assert_eq!((&back[0][..6], &back[0][26..30]), (&CLIENT_MAC.0[..], &[10, 0, 0, 100][..]));
    }
    // Of no connection, so it asks for the mark as anybody else.
    assert_eq!(lab.send(from_server(11, 1001, SYN))[0][5], 13);
    lab.assert_counts_equal_a_recount();
}

#[test]
fn connections_are_found_when_their_virtual_server_gets_the_other_kind_of_hash() {
    let layout = |real| Layout { head: BOTH, servers: &["mark = 1"], method: "nat", real, set: &[(11, 1)] };
    let mut lab = Lab::new(&layout("").config(), 2);
    lab.send_to(0, frame(OWN, (CLIENT, 1000), (VIP, 80), SYN));
    // A further real server with a port: replies may come from other ports than clients talk to.
    let mut text = layout("").text();
    text = text.replacen(
        "[[virtual_server.real_server]]",
        "[[virtual_server.real_server]]\naddress = \"10.0.0.12\"\nport = 8080\n[[virtual_server.real_server]]",
        1,
    );
    let text = format!("[connections]\ncapacity = 1024\n{text}");
    lab.reload(&weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config);
    assert_eq!(lab.send_to(0, frame(OWN, (CLIENT, 1000), (VIP, 80), ACK))[0][30..34], [10, 0, 0, 11]);
    for worker in [0, 1] {
        let back = lab.send_to(worker, frame(OWN, (Addr4::new(10, 0, 0, 11), 80), (CLIENT, 1000), ACK));
        assert_eq!(back[0][26..30], VIP.octets());
    }
    assert_eq!(lab.dropped(DropReason::StrayReply), 0);
    lab.assert_counts_equal_a_recount();
}

/// An ICMP error of a router to a VIP, about a packet from it to a client.
fn error_about(vip: (Addr4, u16), client: (Addr4, u16)) -> Vec<u8> {
    let quote = frame(OWN, vip, client, ACK)[14..42].to_vec();
    let mut message = vec![icmp::UNREACHABLE, 1, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&quote);
    let sum = crate::wire::checksum::Sum::default().bytes(&message).finish();
    message[2..4].copy_from_slice(sum.as_bytes());
    let mut frame = OWN.0.to_vec();
    frame.extend_from_slice(&CLIENT_MAC.0);
    frame.extend_from_slice(&[8, 0]);
    frame.extend_from_slice(
        Ipv4::new(ipv4::ICMP, Addr4::new(10, 0, 0, 250), vip.0, message.len(), 64).as_bytes(),
    );
    frame.extend_from_slice(&message);
    frame
}

#[test]
fn an_icmp_error_opens_a_connection_for_three_seconds_if_it_may() {
    let text = Layout { head: BOTH, servers: &["mark = 1"], ..DR }.text();
    for (switch, expected) in [("", None), ("schedule_icmp = true", Some(12))] {
        let text = format!("[connections]\ncapacity = 1024\n{switch}\n{text}");
        let config = weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config;
        let mut lab = Lab::new(&config, 1);
        let error =
            |lab: &mut Lab| lab.send(error_about((VIP, 443), (CLIENT, 1000))).first().map(|frame| frame[5]);
        assert_eq!((error(&mut lab), error(&mut lab)), (expected, expected));
        assert_eq!(lab.directors[0].table.len(), usize::from(expected.is_some()));
        lab.assert_counts_equal_a_recount();
        lab.pass_millis(4_000);
        lab.sweep();
        assert_eq!(lab.directors[0].table.len(), 0);
        assert_eq!(lab.dropped(DropReason::StrayIcmp), if expected.is_none() { 2 } else { 0 });
        lab.assert_counts_equal_a_recount();
    }
}

/// Any sequence of packets, edits of marks and real servers, and time: the counts stay right, a removed real server gets
/// nothing, and what a NAT real server answers comes from the address and port that the client asked.
#[test]
fn counts_equal_a_recount_after_any_history_of_marks() {
    bolero::check!().with_type::<Vec<(u8, u8, u8)>>().for_each(|history| {
        for method in ["dr", "nat"] {
            run_history(method, history);
        }
    });
}

const SETS: [&[(u8, u16)]; 5] =
    [&[(11, 1), (12, 1)], &[(11, 3)], &[(12, 0), (13, 2)], &[], &[(13, 1), (12, 1), (11, 1)]];

/// A file of the history: virtual servers, and what each of its real servers says besides under NAT.
fn layout_of(number: u8) -> (&'static str, &'static [&'static str], &'static str) {
    const HALVES: &str = "[[mark]]\nmark = 2\naddresses = [\"10.0.0.100\"]\nports = [\"80-90\"]\n\
                          [[mark]]\nmark = 1\naddresses = [\"10.0.0.101\"]\nsources = [\"10.0.0.200/31\"]\n";
    const NET: &str = "[[mark]]\nmark = 1\naddresses = [\"10.0.0.96/28\"]\n";
    const PERSISTENT: &str = "mark = 1\npersistence_timeout = 30\npersistence_netmask = 24";
    const WIDER: &str = "mark = 1\npersistence_timeout = 40\npersistence_netmask = 16";
    match number % 8 {
        0 => ("", &[ADDRESS], "port = 8080"),
        1 => (BOTH, &["mark = 1"], ""),
        2 => (BOTH, &["mark = 1", ADDRESS], "port = 8080"),
        3 => (HALVES, &["mark = 1", "mark = 2"], ""),
        4 => (NET, &[PERSISTENT], ""),
        5 => (BOTH, &[WIDER, ADDRESS], ""),
        6 => (HALVES, &[PERSISTENT, "mark = 2", ADDRESS], ""),
        _ => ("", &["address = \"10.0.0.100\"\nport = 0\npersistence_timeout = 30"], ""),
    }
}

fn run_history(method: &str, history: &[(u8, u8, u8)]) {
    let config = |layout: u8, set: u8| {
        let (head, servers, real) = layout_of(layout);
        let real = if method == "nat" { real } else { "" };
        let set = SETS[usize::from(set) % SETS.len()];
        let text = Layout { head, servers, method, real, set }.text();
        let switch =
            if layout.is_multiple_of(2) { "" } else { "expire_nodest_conn = true\nschedule_icmp = true" };
        let text = format!("[connections]\ncapacity = 1024\n{switch}\n{text}");
        (weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config, set)
    };
    let (first, mut present) = config(0, 0);
    let mut lab = Lab::new(&first, 2);
    for &(what, detail, more) in history {
        let segment = [SYN, SYN, ACK, FIN | ACK, RST][usize::from(detail) % 5];
        let worker = usize::from(detail) / 5 % 2;
        // Each client port talks to one address and port: two connections to one socket of a real server can't be told
        // apart by its replies.
        let flow = u16::from(more % 6);
        let vip = [(VIP, 80), (OTHER_VIP, 80), (VIP, 85), (VIP, 443), (OTHER_VIP, 81), (VIP.plus(2), 80)]
            [usize::from(flow)];
        let client = (CLIENT, 1000 + flow);
        match what % 8 {
            0 => {
                let (config, set) = config(detail, more);
                lab.reload(&config);
                present = set;
            }
            1 => lab.pass_millis(u64::from(detail) * 1_000),
            2 => lab.sweep(),
            3 => drop(lab.send_to(worker, error_about(vip, client))),
            _ => {
                let sent = lab.send_to(worker, frame(OWN, client, vip, segment));
                let to_server = sent.iter().find(|frame| frame[..6] != CLIENT_MAC.0);
                if let Some(to_server) = to_server {
                    let is_present = present.iter().any(|(octet, _)| *octet == to_server[5]);
                    assert!(is_present, "sent to a removed real server");
                    if method == "nat" {
                        assert_reply_comes_back(&mut lab, usize::from(detail) / 10 % 2, to_server, vip);
                    }
                }
            }
        }
        lab.assert_counts_equal_a_recount();
        lab.assert_templates_can_end();
    }
    if history.len().is_multiple_of(4) {
        lab.assert_that_all_ends();
    }
}

/// What answers a packet to a NAT real server reaches the client from where it sent to.
fn assert_reply_comes_back(lab: &mut Lab, worker: usize, to_server: &[u8], vip: (Addr4, u16)) {
    let word = |at: usize| u16::from_be_bytes([to_server[at], to_server[at + 1]]);
    let address = |at: usize| Addr4::from(*to_server[at..].first_chunk::<4>().expect("four bytes"));
    let reply = frame(OWN, (address(30), word(36)), (address(26), word(34)), ACK);
    let back = lab.send_to(worker, reply);
    assert_eq!(back.len(), 1);
    assert_eq!((&back[0][26..30], &back[0][34..36]), (&vip.0.octets()[..], &vip.1.to_be_bytes()[..]));
}

#[test]
fn connections_go_on_when_their_address_gets_a_number_of_its_own() {
    let host = Addr4::new(10, 7, 0, 1);
    let wide = "[[mark]]\nmark = 1\naddresses = [\"10.7.0.0/16\"]\n";
    let plain = "address = \"10.7.0.1\"\nport = 80";
    let before = Layout { head: wide, servers: &["mark = 1"], ..DR };
    let named = wide.replace("[\"10.7", "[\"10.7.0.1\", \"10.7");
    let other = wide.replace("10.7", "10.8");
    for after in [
        Layout { servers: &["mark = 1", plain], ..before },
        Layout { head: &named, ..before },
        Layout { head: &other, servers: &["mark = 1", plain], ..before },
    ] {
        let mut lab = Lab::new(&before.config(), 2);
        workers::let_flows_move(&mut lab);
        let server = server_of(&mut lab, (CLIENT, 1000), (host, 80), SYN);
        assert_eq!(server, Some(12));
        lab.reload(&after.config());
        assert!(lab.snapshot.vips.own_number(host).is_some());
        for worker in [0, 0, 1] {
            let sent = lab.send_to(worker, frame(OWN, (CLIENT, 1000), (host, 80), ACK));
            assert_eq!(sent.first().map(|frame| frame[5]), server, "worker {worker}");
        }
        lab.pass_millis(1);
        assert_eq!((lab.directors[0].table.len(), lab.directors[1].table.len()), (1, 0));
        lab.assert_counts_equal_a_recount();
        // When it is over, the next one is as any.
        lab.send(frame(OWN, (CLIENT, 1000), (host, 80), RST));
        assert!(server_of(&mut lab, (CLIENT, 1000), (host, 80), SYN).is_some());
        assert_eq!(lab.directors[0].table.len(), 1);
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn connections_go_on_when_their_address_loses_its_number_to_a_wide_network() {
    let host = Addr4::new(10, 7, 0, 1);
    let head = |addresses: &str| format!("[[mark]]\nmark = 1\naddresses = [{addresses}]\n");
    let wide = head("\"10.7.0.0/16\"");
    for named in ["\"10.7.0.1\", \"10.7.0.0/16\"", "\"10.7.0.0/24\""].map(head) {
        let layout = |head| Layout { head, servers: &["mark = 1"], ..DR }.config();
        let mut lab = Lab::new(&layout(&named), 1);
        let server = server_of(&mut lab, (CLIENT, 1000), (host, 80), SYN);
        assert!(server.is_some());
        let number = lab.snapshot.vips.own_number(host);
        for _ in 0..2 {
            lab.reload(&layout(&wide));
            lab.sweep();
            assert_eq!(lab.snapshot.vips.own_number(host), number);
            assert_eq!(server_of(&mut lab, (CLIENT, 1000), (host, 80), ACK), server);
            assert_eq!(lab.directors[0].table.len(), 1);
        }
        // Where no network holds it, it is nobody's in the end.
        lab.reload(&layout(&wide.replace("10.7", "10.8")));
        lab.sweep();
        assert_eq!((lab.directors[0].table.len(), lab.snapshot.vips.own_number(host)), (0, None));
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn networks_that_move_through_a_wide_one_always_find_numbers() {
    let layout = |place: u32| {
        let net = Addr4::new(172, 16 + (place >> 4) as u8, ((place & 15) << 4) as u8, 0);
        let head = format!("[[mark]]\nmark = 1\naddresses = [\"{}/20\", \"172.16.0.0/12\"]\n", net);
        Layout { head: &head, servers: &["mark = 1"], ..DR }.config()
    };
    let mut lab = Lab::new(&layout(0), 1);
    for place in 1..40 {
        lab.reload(&layout(place));
        lab.sweep();
    }
}

/// A virtual server by NAT at [`VIP`] with real server 11, and a mark that holds its clients and leads to 12; the port of the first.
fn around_clients(server_port: u16, extra: &str) -> Config {
    let text = format!(
        "[connections]\ncapacity = 1024\n{extra}\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n\
         [[route]]\ndestination = \"0.0.0.0/0\"\ngateway = \"10.0.0.200\"\n\
         [[neighbor]]\naddress = \"10.0.0.200\"\nmac = \"02:00:00:00:00:cc\"\n\
         [[neighbor]]\naddress = \"10.0.0.11\"\nmac = \"02:00:00:00:00:11\"\n\
         [[neighbor]]\naddress = \"10.0.0.12\"\nmac = \"02:00:00:00:00:12\"\n\
         [[virtual_server]]\nname = \"nat\"\n{ADDRESS}\nprotocol = \"tcp\"\nforwarding = \"nat\"\n\
         [[virtual_server.real_server]]\naddress = \"10.0.0.11\"\nport = {server_port}\n\
         [[virtual_server]]\nname = \"udp\"\n{ADDRESS}\nprotocol = \"udp\"\nforwarding = \"nat\"\n\
         [[virtual_server.real_server]]\naddress = \"10.0.0.11\"\nport = {server_port}\n\
         [[virtual_server]]\nname = \"marked\"\nmark = 1\n\
         [[virtual_server.real_server]]\naddress = \"10.0.0.12\"\n\
         [[mark]]\nmark = 1\naddresses = [\"10.7.0.0/16\"]\n"
    );
    weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config
}

#[test]
fn an_answer_of_a_nat_real_server_without_a_record_is_no_request_for_the_mark_of_its_client() {
    let (server, client) = ((Addr4::new(10, 0, 0, 11), 8080), (Addr4::new(10, 7, 0, 1), 1000));
    let datagram = || {
        let mut frame = frame(OWN, server, client, 0);
        frame.truncate(34);
        frame[14..34].copy_from_slice(Ipv4::new(ipv4::UDP, server.0, client.0, 8, 64).as_bytes());
        frame.extend([server.1.to_be_bytes(), client.1.to_be_bytes(), [0, 8], [0, 0]].concat());
        frame
    };
    for extra in ["", "nat_icmp_send = true"] {
        let mut lab = Lab::new(&around_clients(8080, extra), 1);
        let answers = [frame(OWN, server, client, SYN | ACK), frame(OWN, server, client, ACK), datagram()];
        for answer in answers {
            let sent = lab.send(answer);
            // The real server is told, or nobody is.
            assert_eq!(sent.len(), usize::from(!extra.is_empty()));
            assert!(sent.iter().all(|frame| frame[23] == ipv4::ICMP && frame[34] == icmp::UNREACHABLE));
        }
        assert!(lab.directors[0].table.is_empty());
        assert_eq!(lab.dropped(DropReason::StrayReply), if extra.is_empty() { 3 } else { 0 });
        // What begins something asks for the mark as anybody's.
        assert_eq!(lab.send(frame(OWN, server, client, SYN))[0][5], 0x12);
        lab.assert_counts_equal_a_recount();
    }
    // Of a flow without a record it goes back.
    let mut lab = Lab::new(&around_clients(8080, ""), 1);
    for port in 2000..2000 + 1024 {
        lab.send(frame(OWN, (CLIENT, port), (VIP, 80), SYN));
    }
    lab.send(frame(OWN, client, (VIP, 80), SYN));
    assert_eq!(lab.counters[0].untracked.get(), 1);
    for segment in [SYN | ACK, ACK] {
        let back = lab.send(frame(OWN, server, client, segment));
        assert_eq!((&back[0][..6], &back[0][26..30]), (&CLIENT_MAC.0[..], &VIP.octets()[..]));
    }
}
