//! IPv4 (RFC 791).

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum::{Delta, Sum, fold};
use crate::address::{Addr4, Wire4};

/// Length of the header without options, in bytes.
pub const HEADER_LEN: usize = 20;

/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of IPv4 in IP.
pub const IPIP: u8 = 4;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of GRE.
pub const GRE: u8 = 47;
/// Protocol number of the authentication header.
pub const AH: u8 = 51;
/// Protocol number of SCTP.
pub const SCTP: u8 = 132;
/// Protocol number of VRRP.
pub const VRRP: u8 = 112;

/// In `fragment`: don't fragment.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// In `fragment`: more fragments follow.
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// In `fragment`: the offset, in units of 8 bytes.
pub const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Option that ends the list.
pub const OPTION_END: u8 = 0;
/// Option without meaning.
pub const OPTION_NO_OPERATION: u8 = 1;
/// Option: routers that the packet has to pass, among others.
pub const OPTION_LOOSE_SOURCE_ROUTE: u8 = 131;
/// Option: the very routers that the packet has to pass.
pub const OPTION_STRICT_SOURCE_ROUTE: u8 = 137;

/// The fixed part of the header.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ipv4 {
    /// Version 4, header length in units of 4 bytes.
    pub version_ihl: u8,
    /// Differentiated services and ECN.
    pub tos: u8,
    /// Header and payload, in bytes.
    pub total_len: U16,
    /// Identification.
    pub ident: U16,
    /// Flags and fragment offset.
    pub fragment: U16,
    /// Time to live.
    pub ttl: u8,
    /// What follows.
    pub protocol: u8,
    /// Over the header with its options.
    pub checksum: U16,
    /// From whom.
    pub source: Wire4,
    /// To whom.
    pub destination: Wire4,
}
const _: () = assert!(size_of::<Ipv4>() == HEADER_LEN);

impl Ipv4 {
    /// A header without options; the checksum is filled in.
    pub fn new(protocol: u8, source: Addr4, destination: Addr4, payload_len: usize, ttl: u8) -> Self {
        let mut header = Self {
            version_ihl: 0x45,
            tos: 0,
            total_len: U16::new((HEADER_LEN + payload_len) as u16),
            ident: U16::ZERO,
            fragment: U16::ZERO,
            ttl,
            protocol,
            checksum: U16::ZERO,
            source: Wire4::new(source),
            destination: Wire4::new(destination),
        };
        header.refresh_checksum();
        header
    }

    /// Computes the checksum of a header without options.
    #[inline]
    pub fn refresh_checksum(&mut self) {
        self.checksum = U16::ZERO;
        self.checksum = U16::from_bytes((!fold(self.sum())).to_ne_bytes());
    }

    /// Header length with options, in bytes.
    pub fn header_len(&self) -> usize {
        usize::from(self.version_ihl & 0x0f) * 4
    }

    /// Whether the checksum of a header without options is right. In what byte order the words are added makes no
    /// difference to that (RFC 1071 section 2).
    #[inline]
    pub fn plain_checksum_is_right(&self) -> bool {
        // 32-bit words add up like 16-bit ones, and the sum folds to 0xffff if 0xffff divides it; it is never 0, as the
        // version is not. 0xffff * 0x0001_0001_0001_0001 is 2^64 - 1, so minus the latter is the inverse of 0xffff modulo
        // 2^64: products with it are at most as large as the largest quotient for multiples of 0xffff, and for no others.
        const LARGEST: u64 = 0x0001_0001_0001_0001;
        const INVERSE: u64 = LARGEST.wrapping_neg();
        self.sum().wrapping_mul(INVERSE) <= LARGEST
    }

    /// The words of a header without options added up, in the byte order of memory.
    #[inline]
    fn sum(&self) -> u64 {
        let bytes = self.as_bytes();
        let long = |at: usize| u64::from(u32::from_ne_bytes(std::array::from_fn(|n| bytes[at + n])));
        long(0) + long(4) + long(8) + long(12) + long(16)
    }

    /// Takes one from the TTL. The caller has seen that it is above 1.
    #[inline]
    pub fn decrement_ttl(&mut self) {
        self.ttl -= 1;
        // RFC 1141: the checksum goes up by what the TTL goes down, with end-around carry.
        // In what order the bytes are added makes no difference (RFC 1071 section 2), so none are swapped.
        let step = u16::from_ne_bytes([1, 0]);
        let sum = u32::from(u16::from_ne_bytes(self.checksum.to_bytes())) + u32::from(step);
        self.checksum = U16::from_bytes(((sum + u32::from(sum >= 0xffff)) as u16).to_ne_bytes());
    }

    /// Replaces the source address and returns what changed, for the checksums of the layer above.
    #[inline]
    pub fn set_source(&mut self, source: Addr4) -> Delta {
        let delta = Delta::NONE.address(self.source.get(), source);
        self.source = Wire4::new(source);
        self.checksum = delta.apply(self.checksum);
        delta
    }

    /// Replaces the destination address and returns what changed, for the checksums of the layer above.
    #[inline]
    pub fn set_destination(&mut self, destination: Addr4) -> Delta {
        let delta = Delta::NONE.address(self.destination.get(), destination);
        self.destination = Wire4::new(destination);
        self.checksum = delta.apply(self.checksum);
        delta
    }

    /// Whether the packet is a piece of a larger one.
    pub fn is_fragment(&self) -> bool {
        self.fragment.get() & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0
    }

    /// Whether routers must not cut it.
    pub fn dont_fragment(&self) -> bool {
        self.fragment.get() & DONT_FRAGMENT != 0
    }
}

/// Whether the checksum over `header` (options included) is right.
#[inline]
pub fn checksum_is_right(header: &[u8]) -> bool {
    Sum::default().bytes(header).fold() == 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: Addr4 = Addr4::new(10, 0, 0, 1);
    const TO: Addr4 = Addr4::new(192, 0, 2, 1);

    #[test]
    fn ttl_and_checksum_go_down_together() {
        for ttl in 2..=255u8 {
            for protocol in [0u8, 1, 6, 17, 255] {
                let mut header = Ipv4::new(protocol, FROM, TO, 40, ttl);
                header.decrement_ttl();
                assert_eq!(header.ttl, ttl - 1);
                assert!(checksum_is_right(header.as_bytes()));
            }
        }
    }

    #[test]
    fn a_lower_ttl_has_the_checksum_of_a_full_computation_whatever_it_was() {
        for ident in 0..=u16::MAX {
            let mut header = Ipv4::new(UDP, FROM, TO, 40, 64);
            header.ident = U16::new(ident);
            header.refresh_checksum();
            header.decrement_ttl();
            let updated = header.checksum;
            header.refresh_checksum();
            assert_eq!(updated, header.checksum, "identification {ident}");
        }
    }

    #[test]
    fn both_ways_to_check_a_plain_header_agree() {
        bolero::check!().with_type::<([u8; 20], bool)>().for_each(|(bytes, mend)| {
            let mut header = Ipv4::read_from_bytes(bytes).expect("20 bytes");
            if *mend {
                header.refresh_checksum();
            }
            assert_eq!(header.plain_checksum_is_right(), checksum_is_right(header.as_bytes()));
        });
    }

    #[test]
    fn address_changes_keep_the_checksum_right() {
        let mut header = Ipv4::new(TCP, FROM, TO, 40, 64);
        header.set_source(Addr4::new(255, 255, 0, 0));
        header.set_destination(Addr4::UNSPECIFIED);
        assert!(checksum_is_right(header.as_bytes()));
    }
}
