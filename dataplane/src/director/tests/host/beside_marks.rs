//! What stays the host's where virtual servers have its addresses, or a mark covers everything.

use super::super::ipv6::{self, v6};
use super::*;

/// An IPv6 packet to the port with this first header.
fn to_port6(to: MacAddress, ends: (&str, &str), first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = ipv6::packet6(v6(ends.0), v6(ends.1), (first, 64), payload);
    frame[..6].copy_from_slice(&to.0);
    frame
}

#[test]
fn pieces_to_own_addresses_are_the_hosts_to_put_together() {
    const OWN6: &str = "2001:db8::2";
    const VIP6: &str = "2001:db8::100";
    let mut text = format!(
        "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\", \"{OWN6}/64\"]\n\
         [[mark]]\nmark = 1\naddresses = [\"192.0.2.0/24\", \"2001:db8:9::/64\", \"2001:db8:a::/124\"]\n"
    );
    for vip in ["10.0.0.2", "10.0.0.100", OWN6, VIP6] {
        let server = if vip.contains(':') { "2001:db8::11" } else { "10.0.0.11" };
        text += &format!(
            "[[virtual_server]]\nname = \"{vip}\"\naddress = \"{vip}\"\nport = 80\nprotocol = \"udp\"\n\
             forwarding = \"nat\"\n[[virtual_server.real_server]]\naddress = \"{server}\"\n"
        );
    }
    for (family, server) in [("ipv4", "10.0.0.11"), ("ipv6", "2001:db8::11")] {
        text += &format!(
            "[[virtual_server]]\nname = \"{family}\"\nmark = 1\nfamily = \"{family}\"\n\
             [[virtual_server.real_server]]\naddress = \"{server}\"\n"
        );
    }
    let config = weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config;
    let mut hosted = Hosted::with_config(config);
    for (first, later) in [(0, 1), (8, 0)] {
        let piece6 = |to: &str, port: u8| {
            let control = [0, first, later, 0, 0, 0, 7];
            packet6(
                OWN,
                ("2001:db8:7::1", to),
                44,
                &[&[17][..], &control, &[0x30, 0, 0, port, 0, 24, 0, 0]].concat(),
            )
        };
        let piece4 = |to: Addr4, port: u16| {
            let head = [0x30, 0, 0, port as u8, 0, 16, 0, 0];
            let mut piece = packet(OWN, 17, (PEER, to), &head);
            (piece[20], piece[21]) = (later << 5, first / 8);
            with_checksum(piece)
        };
        assert_eq!(hosted.host_gets(&piece4(OWN_ADDRESS, 80)), Some(PuntClass::Fragments));
        assert_eq!(hosted.host_gets(&piece6(OWN6, 80)), Some(PuntClass::Fragments));
        assert_eq!(hosted.host_gets(&piece4(Addr4::new(10, 0, 0, 77), 80)), Some(PuntClass::Fragments));
        assert_eq!(hosted.host_gets(&piece6("2001:db8::77", 80)), Some(PuntClass::Fragments));
        for virtual_servers in [piece4(VIP, 80), piece4(Addr4::new(192, 0, 2, 7), 80), piece6(VIP6, 80)] {
            assert_eq!(hosted.host_gets(&virtual_servers), None);
        }
        for marked in ["2001:db8:9::1", "2001:db8:a::1"] {
            assert_eq!(hosted.host_gets(&piece6(marked, 80)), None, "{marked}");
        }
    }
    assert_eq!(hosted.lab.dropped(DropReason::Fragment), 0);
}

#[test]
fn a_mark_of_everything_leaves_the_host_what_is_of_the_link() {
    let text = "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\", \"2001:db8::2/64\"]\n\
         [[mark]]\nmark = 1\naddresses = [\"0.0.0.0/0\", \"::/0\"]\n\
         [[virtual_server]]\nname = \"four\"\nmark = 1\n\
         [[virtual_server.real_server]]\naddress = \"10.0.0.11\"\n\
         [[virtual_server]]\nname = \"six\"\nmark = 1\nfamily = \"ipv6\"\n\
         [[virtual_server.real_server]]\naddress = \"2001:db8::11\"\n";
    let config = weir_config::parse("test", text).unwrap_or_else(|report| panic!("{report}")).config;
    let mut hosted = Hosted::with_config(config);
    let group = |last| MacAddress([0x33, 0x33, 0, 0, 0, last]);
    // Hop-by-hop options with a router alert, and a listener query.
    let query = [&[58, 0, 5, 2, 0, 0, 1, 0][..], &[130, 0, 0, 0, 0, 0, 0, 0], &[0; 16]].concat();
    let syn = &segment((PEER, 4000), (OWN_ADDRESS, 179), SYN)[34..];
    let mut solicitation = to_port6(group(2), ("fe80::9", "ff02::2"), 58, &[133, 0, 0, 0, 0, 0, 0, 0]);
    solicitation[21] = 255;
    for (class, frame) in [
        (PuntClass::Neighbor, solicitation),
        (PuntClass::Group, to_port6(group(1), ("fe80::9", "ff02::1"), 0, &query)),
        (PuntClass::Routing, to_port6(group(5), ("fe80::9", "ff02::5"), 89, &[0; 24])),
        (PuntClass::TcpSyn, to_port6(OWN, ("fe80::9", "fe80::2"), 6, syn)),
        (PuntClass::TcpSyn, to_port6(OWN, ("2001:db8:7::1", "2001:db8::2"), 6, syn)),
        (PuntClass::TcpSyn, segment((PEER, 4000), (Addr4::new(224, 0, 0, 9), 179), SYN)),
        (PuntClass::TcpSyn, segment((PEER, 4000), (Addr4::new(240, 0, 0, 1), 179), SYN)),
    ] {
        assert_eq!(hosted.host_gets(&frame), Some(class), "{frame:?}");
    }
    assert_eq!(hosted.lab.directors[0].table.len(), 0);
}
