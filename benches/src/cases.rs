//! The packets whose cost is watched: what a director has to be asked, and what must come of it.

use weir_dataplane::address::Addr4;
use weir_dataplane::wire::ethernet::{Arp, MacAddress};
use weir_dataplane::wire::ipv4;
use weir_dataplane::wire::ipv6::IN_IP;
use weir_dataplane::wire::l4::flags::{ACK, SYN};

use crate::Lab;
use crate::frames::{
    CLIENT, End, End6, GATEWAY, VIP, VIP6, arp, client, client6, server, server6, tcp, tcp6, udp, udp6,
    with_fragment, with_ident,
};
use crate::lab::{base, base6, virtual_server, virtual_server4in6, virtual_server6};
use crate::pool::PoolFrame;
use weir_dataplane::packet::{BURST, Frame};
use weir_dataplane::snapshot::virtual_router::{RouterKey, mac};

/// Flows of a case: enough that branch and line patterns do not repeat, few enough for valgrind.
const FLOWS: u32 = 64 * BURST as u32;

/// One kind of traffic.
pub struct Case {
    /// Its name in the list of figures.
    pub name: &'static str,
    /// The director and the frames; connections that the frames need are made.
    pub prepare: fn() -> (Lab, Vec<Vec<u8>>),
    /// How often the frames are sent. Once for those that change what they meet.
    pub passes: usize,
}

/// Every case, in the order of the list of figures.
pub const ALL: [Case; 31] = [
    Case { name: "dr-established", prepare: || established("dr", requests), passes: 4 },
    Case { name: "dr-virtual-mac", prepare: virtual_mac, passes: 4 },
    Case { name: "tun-established", prepare: || established("tun", requests), passes: 4 },
    Case { name: "gue-established", prepare: || tunnelled("gue"), passes: 4 },
    Case { name: "gre-established", prepare: || tunnelled("gre"), passes: 4 },
    Case { name: "tun4in6-established", prepare: over_ipv6, passes: 4 },
    Case { name: "nat-established", prepare: || established("nat", requests), passes: 4 },
    Case { name: "nat-replies", prepare: || established("nat", replies), passes: 4 },
    Case { name: "nat-mixed", prepare: || established("nat", mixed), passes: 4 },
    Case { name: "dr-udp", prepare: datagrams, passes: 4 },
    Case { name: "dr-pieces", prepare: || in_pieces("dr"), passes: 4 },
    Case { name: "nat-pieces", prepare: || in_pieces("nat"), passes: 4 },
    Case { name: "dr-new-rr", prepare: || fresh("dr", "rr", 4), passes: 1 },
    Case { name: "dr-new-wlc-16", prepare: || fresh("dr", "wlc", 16), passes: 1 },
    Case { name: "dr-new-wlc-1000", prepare: || fresh("dr", "wlc", 1000), passes: 1 },
    Case { name: "dr-new-nq-1000", prepare: || fresh("dr", "nq", 1000), passes: 1 },
    Case { name: "dr-new-limits-1000", prepare: || fresh_limited(1000), passes: 1 },
    Case { name: "dr-new-lblc-1000", prepare: || fresh_destinations("lblc", 1000), passes: 1 },
    Case { name: "dr-new-mh", prepare: || fresh("dr", "mh", 4), passes: 1 },
    Case { name: "nat-new-rr", prepare: || fresh("nat", "rr", 4), passes: 1 },
    Case { name: "dr-full-16", prepare: || without_record(16), passes: 4 },
    Case { name: "dr-full-1000", prepare: || without_record(1000), passes: 1 },
    Case { name: "arp-questions", prepare: questions, passes: 1 },
    Case { name: "dr6-established", prepare: || established6("dr", requests6), passes: 4 },
    Case { name: "tun6-established", prepare: || established6("tun", requests6), passes: 4 },
    Case { name: "nat6-established", prepare: || established6("nat", requests6), passes: 4 },
    Case { name: "nat6-replies", prepare: || established6("nat", replies6), passes: 4 },
    Case { name: "dr6-udp", prepare: datagrams6, passes: 4 },
    Case { name: "dr6-new-rr", prepare: || fresh6("dr", "rr"), passes: 1 },
    Case { name: "nat6-new-rr", prepare: || fresh6("nat", "rr"), passes: 1 },
    Case { name: "dr-beside-ipv6", prepare: beside_ipv6, passes: 4 },
];

/// Sends all frames of a case, `passes` times. Returns how many there were.
pub fn run(lab: &mut Lab, frames: &[Vec<u8>], passes: usize) -> u64 {
    let mut count = 0;
    for burst in std::iter::repeat_n(frames, passes).flat_map(|frames| frames.chunks(BURST)) {
        lab.load(burst);
        measured(lab);
        count += burst.len() as u64;
    }
    count
}

/// What valgrind counts: one burst through the director, and nothing else.
#[inline(never)]
pub fn measured(lab: &mut Lab) {
    lab.process(0);
}

fn lab(forwarding: &str, protocol: &str, scheduler: &str, servers: u16) -> Lab {
    let keys = format!("protocol = \"{protocol}\"\nscheduler = \"{scheduler}\"");
    let file = base(16_384, "") + &virtual_server(80, &keys, forwarding, servers, true);
    Lab::new(&file, 1)
}

/// A director that knows [`FLOWS`] established connections to four real servers, and frames of them.
fn established(forwarding: &str, frames: fn(&[PoolFrame]) -> Vec<Vec<u8>>) -> (Lab, Vec<Vec<u8>>) {
    establish(lab(forwarding, "tcp", "rr", 4), frames)
}

/// As `tun-established`, in another tunnel.
fn tunnelled(tunnel: &str) -> (Lab, Vec<Vec<u8>>) {
    let server = virtual_server(80, "protocol = \"tcp\"\nscheduler = \"rr\"", "tun", 4, true);
    let weight = "weight = 1000\n";
    let file = base(16_384, "") + &server.replace(weight, &format!("{weight}tunnel = \"{tunnel}\"\n"));
    establish(Lab::new(&file, 1), requests)
}

/// As `tun-established`, to real servers of IPv6.
fn over_ipv6() -> (Lab, Vec<Vec<u8>>) {
    let file = base6(16_384) + &virtual_server4in6("protocol = \"tcp\"\nscheduler = \"rr\"");
    establish(Lab::new(&file, 1), requests)
}

fn establish(mut lab: Lab, frames: fn(&[PoolFrame]) -> Vec<Vec<u8>>) -> (Lab, Vec<Vec<u8>>) {
    let segments = |flags| (0..FLOWS).map(|flow| tcp(client(flow), (VIP, 80), flags)).collect::<Vec<_>>();
    lab.send(0, &segments(SYN));
    let mut frames_of_all = Vec::new();
    for burst in segments(ACK).chunks(BURST) {
        lab.load(burst);
        lab.process(0);
        frames_of_all.extend(frames(&lab.wire.sent));
    }
    (lab, frames_of_all)
}

/// As `dr-established`, through a virtual router that the director is master of.
fn virtual_mac() -> (Lab, Vec<Vec<u8>>) {
    const ROUTER: u8 = 51;
    let file =
        base(16_384, "") + &virtual_server(80, "protocol = \"tcp\"\nscheduler = \"rr\"", "dr", 4, true);
    let router = format!(
        "[[vrrp]]\nname = \"vi\"\nport = \"lan\"\nvirtual_router_id = {ROUTER}\naddresses = [\"10.0.0.100\"]\n"
    );
    let mut lab = Lab::new(&(file + &router), 1);
    let key = RouterKey { port: 0, is_ipv6: false, id: ROUTER };
    lab.snapshot.set_masters(&[key].into_iter().collect());
    lab.pass_millis(1);
    let (lab, mut frames) = establish(lab, requests);
    for frame in &mut frames {
        frame[..6].copy_from_slice(&mac(ROUTER).0);
    }
    (lab, frames)
}

/// The clients' next segments.
fn requests(sent: &[PoolFrame]) -> Vec<Vec<u8>> {
    // What was forwarded tells the clients; what they are sent to is known.
    sent.iter().map(|frame| tcp(client_of(frame), (VIP, 80), ACK)).collect()
}

/// The real servers' answers to what was forwarded to them.
fn replies(sent: &[PoolFrame]) -> Vec<Vec<u8>> {
    let reply = |frame: &PoolFrame| {
        let octet = frame.bytes()[33];
        tcp((server(octet), 8_080), client_of(frame), ACK)
    };
    sent.iter().map(reply).collect()
}

/// Both in turn.
fn mixed(sent: &[PoolFrame]) -> Vec<Vec<u8>> {
    requests(sent).into_iter().zip(replies(sent)).flat_map(|(request, reply)| [request, reply]).collect()
}

/// The client that a forwarded segment comes from; a tunnel's headers are passed over.
fn client_of(frame: &PoolFrame) -> End {
    let bytes = frame.bytes();
    let inner = match bytes[23] {
        _ if bytes[12..14] == [0x86, 0xdd] => 54,
        ipv4::IPIP => 34,
        ipv4::GRE => 38,
        ipv4::UDP => 46,
        _ => 14,
    };
    let ip = &bytes[inner..];
    ([ip[12], ip[13], ip[14], ip[15]].into(), u16::from_be_bytes([ip[20], ip[21]]))
}

fn datagrams() -> (Lab, Vec<Vec<u8>>) {
    let mut lab = lab("dr", "udp", "rr", 4);
    let frames: Vec<_> = (0..FLOWS).map(|flow| udp(client(flow), (VIP, 80), 18)).collect();
    lab.send(0, &frames);
    (lab, frames)
}

/// Datagrams in two pieces: the last one of each comes many first ones later.
fn in_pieces(forwarding: &str) -> (Lab, Vec<Vec<u8>>) {
    const UNDER_WAY: usize = 256;
    const MORE: u16 = 0x2000;
    let mut lab = lab(forwarding, "udp", "rr", 4);
    let whole: Vec<_> =
        (0..FLOWS).map(|flow| with_ident(udp(client(flow), (VIP, 80), 16), flow as u16)).collect();
    lab.send(0, &whole);
    let last = whole.iter().map(|frame| with_fragment(frame.clone(), 24 / 8));
    let first = whole.iter().map(|frame| with_fragment(frame.clone(), MORE));
    let (mut first, mut last) = (first.collect::<Vec<_>>().into_iter(), last.collect::<Vec<_>>().into_iter());
    let mut frames: Vec<_> = first.by_ref().take(UNDER_WAY).collect();
    frames.extend(first.zip(last.by_ref()).flat_map(|(first, last)| [first, last]));
    frames.extend(last);
    (lab, frames)
}

fn fresh(forwarding: &str, scheduler: &str, servers: u16) -> (Lab, Vec<Vec<u8>>) {
    fresh_to(lab(forwarding, "tcp", scheduler, servers), |_| VIP)
}

/// SYNs of connections that are not there yet. A connection of each real server's has been, so that MACs are found.
fn fresh_to(mut lab: Lab, vip: impl Fn(u32) -> Addr4) -> (Lab, Vec<Vec<u8>>) {
    let before = |flow: u32| (CLIENT.plus((flow + 1).wrapping_neg()), 999);
    let first: Vec<_> = (0..FLOWS).map(|flow| tcp(before(flow), (vip(FLOWS + flow), 80), SYN)).collect();
    lab.send(0, &first);
    (lab, (0..FLOWS).map(|flow| tcp(client(flow), (vip(flow), 80), SYN)).collect())
}

/// Segments of flows that have no record, since the table is full of others.
fn without_record(servers: u16) -> (Lab, Vec<Vec<u8>>) {
    let keys = "protocol = \"tcp\"\nscheduler = \"rr\"";
    let file = base(FLOWS as usize, "") + &virtual_server(80, keys, "dr", servers, true);
    let (mut lab, full) = fresh_to(Lab::new(&file, 1), |_| VIP);
    lab.send(0, &full);
    (lab, (0..FLOWS).map(|flow| tcp(client(flow), (VIP, 80), ACK)).collect())
}

/// By wlc, with thresholds that nobody reaches.
fn fresh_limited(servers: u16) -> (Lab, Vec<Vec<u8>>) {
    let its = virtual_server(80, "protocol = \"tcp\"\nscheduler = \"wlc\"", "dr", servers, true);
    let limited = its.replace("weight = 1000\n", "weight = 1000\nupper_threshold = 1000\n");
    fresh_to(Lab::new(&(base(16_384, "") + &limited), 1), |_| VIP)
}

/// To as many addresses of a network, each of which gets a real server of its own.
fn fresh_destinations(scheduler: &str, servers: u16) -> (Lab, Vec<Vec<u8>>) {
    const FIRST: Addr4 = Addr4::new(10, 128, 0, 0);
    let its = virtual_server(80, &format!("scheduler = \"{scheduler}\""), "dr", servers, true);
    let marked = its.replace("address = \"10.0.0.100\"\nport = 80\n", "mark = 1\n");
    // Real servers of a mark have no port of their own.
    let marked = marked.replace("port = 80\nweight", "weight");
    let mark = "[[mark]]\nmark = 1\naddresses = [\"10.128.0.0/16\"]\n";
    fresh_to(Lab::new(&(base(16_384, "") + mark + &marked), 1), |flow| FIRST.plus(flow))
}

fn lab6(forwarding: &str, protocol: &str, scheduler: &str) -> Lab {
    let keys = format!("protocol = \"{protocol}\"\nscheduler = \"{scheduler}\"");
    Lab::new(&(base6(16_384) + &virtual_server6(&keys, forwarding)), 1)
}

/// As [`established`], of IPv6.
fn established6(forwarding: &str, frames: fn(&[PoolFrame]) -> Vec<Vec<u8>>) -> (Lab, Vec<Vec<u8>>) {
    let mut lab = lab6(forwarding, "tcp", "rr");
    let segments = |flags| (0..FLOWS).map(|flow| tcp6(client6(flow), (VIP6, 80), flags)).collect::<Vec<_>>();
    lab.send(0, &segments(SYN));
    let mut frames_of_all = Vec::new();
    for burst in segments(ACK).chunks(BURST) {
        lab.load(burst);
        lab.process(0);
        frames_of_all.extend(frames(&lab.wire.sent));
    }
    (lab, frames_of_all)
}

/// As [`requests`], of IPv6.
fn requests6(sent: &[PoolFrame]) -> Vec<Vec<u8>> {
    sent.iter().map(|frame| tcp6(client6_of(frame), (VIP6, 80), ACK)).collect()
}

/// As [`replies`], of IPv6.
fn replies6(sent: &[PoolFrame]) -> Vec<Vec<u8>> {
    let reply = |frame: &PoolFrame| {
        let [.., above, below] = frame.bytes()[..54] else { return Vec::new() };
        tcp6((server6(u16::from_be_bytes([above, below])), 8_080), client6_of(frame), ACK)
    };
    sent.iter().map(reply).collect()
}

/// As [`client_of`], of IPv6.
fn client6_of(frame: &PoolFrame) -> End6 {
    let bytes = frame.bytes();
    let ip = if bytes[20] == IN_IP { &bytes[54..] } else { &bytes[14..] };
    let source = std::array::from_fn::<u8, 16, _>(|n| ip[8 + n]);
    (source.into(), u16::from_be_bytes([ip[40], ip[41]]))
}

fn datagrams6() -> (Lab, Vec<Vec<u8>>) {
    let mut lab = lab6("dr", "udp", "rr");
    let frames: Vec<_> = (0..FLOWS).map(|flow| udp6(client6(flow), (VIP6, 80), 18)).collect();
    lab.send(0, &frames);
    (lab, frames)
}

/// As [`fresh`], of IPv6: each connection is of a client that was not there yet.
fn fresh6(forwarding: &str, scheduler: &str) -> (Lab, Vec<Vec<u8>>) {
    let mut lab = lab6(forwarding, "tcp", scheduler);
    let segments = |flows: std::ops::Range<u32>| {
        flows.map(|flow| tcp6(client6(flow), (VIP6, 80), SYN)).collect::<Vec<_>>()
    };
    lab.send(0, &segments(FLOWS..2 * FLOWS));
    (lab, segments(0..FLOWS))
}

/// As `dr-established`, where there is a virtual server of IPv6 as well.
fn beside_ipv6() -> (Lab, Vec<Vec<u8>>) {
    const KEYS: &str = "protocol = \"tcp\"\nscheduler = \"rr\"";
    let six = virtual_server6(KEYS, "dr").replace("\"service80\"", "\"six\"");
    let file = base6(16_384) + &virtual_server(80, KEYS, "dr", 4, true) + &six;
    establish(Lab::new(&file, 1), requests)
}

fn questions() -> (Lab, Vec<Vec<u8>>) {
    let question = arp(Arp::REQUEST, (GATEWAY, server(254)), (MacAddress([0; 6]), VIP));
    (lab("dr", "tcp", "rr", 4), vec![question; FLOWS as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_of_every_case_is_forwarded_or_answered() {
        for case in &ALL {
            let (mut lab, frames) = (case.prepare)();
            let before = lab.forwarded() + answers(&lab);
            let count = run(&mut lab, &frames, case.passes);
            assert_eq!(lab.forwarded() + answers(&lab) - before, count, "{}", case.name);
            assert!(count >= u64::from(FLOWS), "{}", case.name);
        }
    }

    fn answers(lab: &Lab) -> u64 {
        lab.answered(weir_dataplane::stats::Answer::Arp)
    }
}
