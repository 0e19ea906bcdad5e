//! Ethernet, one 802.1Q tag, ARP.

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use weir_config::model::MacAddress;

use crate::address::{Addr4, Wire4};

/// Length of an untagged header, in bytes.
pub const HEADER_LEN: usize = 14;
/// Length of one 802.1Q tag, in bytes.
pub const TAG_LEN: usize = 4;
/// The shortest frame that goes on the wire, FCS aside (IEEE 802.3).
pub const FRAME_LEN_MIN: usize = 60;

/// EtherType of IPv4.
pub const TYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const TYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const TYPE_IPV6: u16 = 0x86dd;
/// EtherType of an 802.1Q tag.
pub const TYPE_VLAN: u16 = 0x8100;

/// ff:ff:ff:ff:ff:ff
pub const BROADCAST: MacAddress = MacAddress([0xff; 6]);

/// Addresses and type.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ethernet {
    /// To whom.
    pub destination: [u8; 6],
    /// From whom.
    pub source: [u8; 6],
    /// What follows, or [`TYPE_VLAN`].
    pub ether_type: U16,
}
const _: () = assert!(size_of::<Ethernet>() == HEADER_LEN);

/// A tag's control information and the type of what follows.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Tag {
    /// Priority, drop eligible, VLAN identifier.
    pub control: U16,
    /// What follows.
    pub ether_type: U16,
}
const _: () = assert!(size_of::<Tag>() == TAG_LEN);

/// The 802.1Q tag of a frame, carried from where it came in to where it goes out.
///
/// Only the VLAN identifier says which network a frame is on; priority is kept all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Vlan(u32);

impl Vlan {
    /// No tag.
    pub const NONE: Vlan = Vlan(0);

    /// A tag with this control information.
    pub fn tagged(control: u16) -> Self {
        Vlan(0x1_0000 | u32::from(control))
    }

    /// The control information, if there is a tag.
    pub fn control(self) -> Option<u16> {
        (self.0 != 0).then_some(self.0 as u16)
    }

    /// The network the frame is on, by VLAN identifier. 0: the port's own, without a tag or with one that tells a
    /// priority alone.
    #[inline]
    pub fn network(self) -> u16 {
        self.0 as u16 & 0x0fff
    }

    /// The tag of frames on a network.
    pub fn of_network(network: u16) -> Self {
        if network == 0 { Self::NONE } else { Self::tagged(network) }
    }

    /// Bytes of link header in front of the packet.
    pub fn header_len(self) -> usize {
        if self.0 == 0 { HEADER_LEN } else { HEADER_LEN + TAG_LEN }
    }
}

/// Reads a link header and its tag: the header, the tag, the type of what follows, and what follows. `None`: the frame is too short
/// for them.
#[inline]
pub fn read(bytes: &[u8]) -> Option<(&Ethernet, Vlan, u16, &[u8])> {
    let (link, rest) = Ethernet::ref_from_prefix(bytes).ok()?;
    match link.ether_type.get() {
        TYPE_VLAN => {
            let (tag, rest) = Tag::ref_from_prefix(rest).ok()?;
            Some((link, Vlan::tagged(tag.control.get()), tag.ether_type.get(), rest))
        }
        ether_type => Some((link, Vlan::NONE, ether_type, rest)),
    }
}

/// Writes a link header and returns its length. `bytes` must hold 18 bytes.
pub fn write_header(
    bytes: &mut [u8],
    to: MacAddress,
    from: MacAddress,
    vlan: Vlan,
    ether_type: u16,
) -> usize {
    bytes[0..6].copy_from_slice(&to.0);
    bytes[6..12].copy_from_slice(&from.0);
    match vlan.control() {
        None => {
            bytes[12..14].copy_from_slice(&ether_type.to_be_bytes());
            HEADER_LEN
        }
        Some(control) => {
            bytes[12..14].copy_from_slice(&TYPE_VLAN.to_be_bytes());
            bytes[14..16].copy_from_slice(&control.to_be_bytes());
            bytes[16..18].copy_from_slice(&ether_type.to_be_bytes());
            HEADER_LEN + TAG_LEN
        }
    }
}

/// An ARP packet for IPv4 over Ethernet (RFC 826).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Arp {
    /// 1: Ethernet.
    pub hardware: U16,
    /// [`TYPE_IPV4`].
    pub protocol: U16,
    /// 6.
    pub hardware_len: u8,
    /// 4.
    pub protocol_len: u8,
    /// [`Arp::REQUEST`] or [`Arp::REPLY`].
    pub operation: U16,
    /// Who says this: link address.
    pub sender_mac: [u8; 6],
    /// Who says this: IPv4 address.
    pub sender: Wire4,
    /// Whom it asks or tells: link address, unset in a request.
    pub target_mac: [u8; 6],
    /// Whom it asks or tells: IPv4 address.
    pub target: Wire4,
}
const _: () = assert!(size_of::<Arp>() == Arp::LEN);

impl Arp {
    /// Length in bytes.
    pub const LEN: usize = 28;
    /// `operation` of a request.
    pub const REQUEST: u16 = 1;
    /// `operation` of a reply.
    pub const REPLY: u16 = 2;

    /// A request or reply with the fixed fields filled in.
    pub fn new(operation: u16, sender: (MacAddress, Addr4), target: (MacAddress, Addr4)) -> Self {
        Self {
            hardware: U16::new(1),
            protocol: U16::new(TYPE_IPV4),
            hardware_len: 6,
            protocol_len: 4,
            operation: U16::new(operation),
            sender_mac: sender.0.0,
            sender: Wire4::new(sender.1),
            target_mac: target.0.0,
            target: Wire4::new(target.1),
        }
    }

    /// Whether the fixed fields are those of IPv4 over Ethernet and the sender can be a single host.
    pub fn is_valid(&self) -> bool {
        self.hardware.get() == 1
            && self.protocol.get() == TYPE_IPV4
            && self.hardware_len == 6
            && self.protocol_len == 4
            && matches!(self.operation.get(), Self::REQUEST | Self::REPLY)
            && is_unicast(self.sender_mac)
    }
}

/// Whether `mac` can belong to one station: neither a group address nor all zeros.
pub fn is_unicast(mac: [u8; 6]) -> bool {
    mac[0] & 1 == 0 && mac != [0; 6]
}
