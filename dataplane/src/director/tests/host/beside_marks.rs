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
