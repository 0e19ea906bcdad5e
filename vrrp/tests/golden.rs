//! Bytes of the wire, computed apart from this code or captured from keepalived 2.2.7.

#![allow(clippy::unwrap_used, reason = "helpers of tests as well")]

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use common::{hex, settings4};
use weir_vrrp::auth::{Authentication, Sequence, password};
use weir_vrrp::packet::{Advertisement, AuthenticationField, ChecksumForm, Received, Version};
use weir_vrrp::router::Output;
use weir_vrrp::settings::Settings;
use weir_vrrp::time::Micros;

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 200, 1));
const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 18));
const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 200, 17));

fn message(
    version: Version,
    priority: u8,
    authentication: AuthenticationField,
    form: ChecksumForm,
) -> Vec<u8> {
    let advertisement = Advertisement {
        version,
        virtual_router_id: 51,
        priority,
        interval: Duration::from_secs(1),
        addresses: &[VIP],
        authentication,
    };
    advertisement.encode(SOURCE, GROUP, form)
}

#[test]
fn messages_are_the_computed_ones() {
    let none = AuthenticationField::default();
    let pass = Authentication::Pass(password("1111")).field();
    let ah = Authentication::Ah(password("1111")).field();
    let (v2, v3) = (Version::V2, Version::V3);
    let (pseudo, alone) = (ChecksumForm::PseudoHeader, ChecksumForm::MessageOnly);
    for (made, wanted) in [
        (message(v2, 100, none, pseudo), "21336401 0001 f20f c0a8c811 0000000000000000"),
        (message(v2, 100, pass, pseudo), "21336401 0101 8ead c0a8c811 3131313100000000"),
        (message(v2, 0, none, pseudo), "21330001 0001 5610 c0a8c811 0000000000000000"),
        (message(v2, 100, ah, pseudo), "21336401 0201 f00f c0a8c811 0000000000000000"),
        (message(v3, 100, none, alone), "31336401 0064 e1ac c0a8c811"),
        (message(v3, 100, none, pseudo), "31336401 0064 7873 c0a8c811"),
    ] {
        assert_eq!(made, hex(wanted));
    }
}

#[test]
fn an_ipv6_message_is_the_computed_one() {
    let addresses: Vec<IpAddr> = ["fe80::5:1", "2001:db8::1"].map(|a| a.parse().unwrap()).into();
    let advertisement = Advertisement {
        version: Version::V3,
        virtual_router_id: 51,
        priority: 100,
        interval: Duration::from_secs(1),
        addresses: &addresses,
        authentication: AuthenticationField::default(),
    };
    let (source, group) = ("fe80::1".parse().unwrap(), "ff02::12".parse().unwrap());
    let made = advertisement.encode(source, group, ChecksumForm::MessageOnly);
    assert_eq!(made[..8], hex("31336402 0064 3ff6"));
    let received = Received::new(&made, true).unwrap();
    assert!(received.has_right_checksum(Version::V3, source, group));
    assert_eq!(received.addresses().collect::<Vec<_>>(), addresses);
}

#[test]
fn both_checksums_of_version_3_are_right_and_no_other() {
    for form in [ChecksumForm::PseudoHeader, ChecksumForm::MessageOnly] {
        let mut made = message(Version::V3, 100, AuthenticationField::default(), form);
        let is_right = |bytes: &[u8]| {
            Received::new(bytes, false).unwrap().has_right_checksum(Version::V3, SOURCE, GROUP)
        };
        assert!(is_right(&made));
        made[7] ^= 1;
        assert!(!is_right(&made));
    }
}

#[test]
fn the_authentication_header_is_the_computed_one() {
    let message = hex("21336401 0201 f00f c0a8c811 0000000000000000");
    let mut ip: [u8; 20] = hex("45c00040 00010000 ff33 0000 c0a8c801 e0000012").try_into().unwrap();
    let key = password("1111");
    let mut sequence = Sequence::default();
    assert!(sequence.advance());
    let multicast = sequence.sign(&key, &ip, &message, false);
    assert_eq!(multicast[..], hex("70040000 c0a8c801 00000001 801a84b7 9ead8123 a8858e11"));
    let unicast = sequence.sign(&key, &ip, &message, true);
    assert_eq!(unicast[12..], hex("f5d700b3 7e4a6613 1be633b9"));
    // What changes on the way does not change the value.
    ip[1] = 0x10;
    ip[10] = 0x77;
    assert_eq!(Sequence::default().check(&key, &ip, &multicast, &message, false), Ok(()));
}

/// First frames of keepalived 2.2.7 as owner, on an interface with this Ethernet address.
const KEEPALIVED_MAC: [u8; 6] = [0x2a, 0xa6, 0xd2, 0x1f, 0xa4, 0x0c];
const TO_GROUP4: &str = "01005e000012 2aa6d21fa40c 0800";
const V2_NONE: &str =
    "45c00028 00010000 ff7051e8 c0a8c801 e0000012 2133ff01 0001570f c0a8c811 00000000 00000000";
const V2_PASS: &str =
    "45c00028 00010000 ff7051e8 c0a8c801 e0000012 2133ff01 0101f3ac c0a8c811 31313131 00000000";
const V2_AH: &str = "45c00040 00010000 ff33520d c0a8c801 e0000012 70040000 c0a8c801 00000001 \
    de592ac4 56840c96 1ade5d21 2133ff01 0201550f c0a8c811 00000000 00000000";
const V3: &str = "45c00020 00010000 ff7051f0 c0a8c801 e0000012 3133ff01 0064dd72 c0a8c811";
const V3_IPV6: &str = "333300000012 2aa6d21fa40c 86dd 6c0a629c 0028 70ff fe8000000000000028a6d2fffe1fa40c \
    ff020000000000000000000000000012 3133ff02 00640724 fe800000000000000000000000050001 \
    20010db8000000000000000000000001";
const ARP: &str =
    "ffffffffffff 2aa6d21fa40c 0806 0001 0800 06 04 0001 2aa6d21fa40c c0a8c811 ffffffffffff c0a8c811";

#[test]
fn frames_are_those_of_keepalived() {
    let owner = || Settings { mac: KEEPALIVED_MAC, ..settings4("a", 1, 255) };
    let with = |authentication| Settings { authentication, ..owner() };
    for (settings, wanted) in [
        (owner(), V2_NONE),
        (with(Authentication::Pass(password("1111"))), V2_PASS),
        (with(Authentication::Ah(password("1111"))), V2_AH),
        (Settings { version: Version::V3, ..owner() }, V3),
    ] {
        let (mut router, mut out) = common::started([settings]);
        assert_eq!(common::advertisements(&out), [hex(&format!("{TO_GROUP4} {wanted}"))]);
        out.clear();
        router.run(Micros(1), &mut out);
        let Output::Announce { frame, .. } = &out[0] else { panic!("{out:?}") };
        assert_eq!(frame[..42], hex(ARP));
        assert_eq!(frame.len(), 60);
    }
}

#[test]
fn ipv6_frames_are_those_of_keepalived_less_the_flow_label() {
    let (mut router, out) = common::started([settings6(255)]);
    let mut wanted = hex(V3_IPV6);
    wanted[15] &= 0xf0;
    wanted[16..18].fill(0);
    assert_eq!(common::advertisements(&out), [wanted]);
    let mut out = Vec::new();
    router.run(Micros(1), &mut out);
    let Output::Announce { frame, .. } = &out[0] else { panic!("{out:?}") };
    // keepalived says the same without the router flag, which RFC 9568 section 6.4.2 asks for.
    let keepalived =
        hex("3333000000012aa6d21fa40c86dd6000000000203afffe800000000000000000000000050001ff02000000000000
        00000000000000018800b8bf20000000fe80000000000000000000000005000102012aa6d21fa40c");
    assert_eq!((frame[58], keepalived[58]), (0xa0, 0x20));
    assert_eq!((&frame[62..], &frame[22..54]), (&keepalived[62..], &keepalived[22..54]));
    assert_eq!(frame[56..58], 0x38bf_u16.to_be_bytes());
}

#[test]
fn what_keepalived_sends_is_accepted() {
    let backup = || settings4("b", 2, 100);
    let with = |authentication| Settings { authentication, ..backup() };
    for (settings, frame) in [
        (backup(), V2_NONE),
        (with(Authentication::Pass(password("1111"))), V2_PASS),
        (with(Authentication::Ah(password("1111"))), V2_AH),
        (Settings { version: Version::V3, ..backup() }, V3),
    ] {
        let (mut router, _) = common::started([settings]);
        let mut out = Vec::new();
        router.receive(0, &hex(&format!("{TO_GROUP4} {frame}")), Micros(5), &mut out);
        assert_eq!(out, []);
        assert_eq!(router.instances()[0].last_heard().unwrap().heard.priority, 255);
    }
    let source = "fe80::2".parse().unwrap();
    let (mut router, _) = common::started([Settings { source, ..settings6(100) }]);
    let mut out = Vec::new();
    router.receive(0, &hex(V3_IPV6), Micros(5), &mut out);
    assert_eq!((out, router.instances()[0].counters().received), (Vec::new(), 1));
}

fn settings6(priority: u8) -> Settings {
    Settings {
        version: Version::V3,
        mac: KEEPALIVED_MAC,
        source: "fe80::28a6:d2ff:fe1f:a40c".parse().unwrap(),
        addresses: ["fe80::5:1", "2001:db8::1"].map(|a| a.parse().unwrap()).into(),
        ..settings4("a", 1, priority)
    }
}
