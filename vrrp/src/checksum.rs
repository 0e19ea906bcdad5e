//! The checksum of IP and VRRP (RFC 1071), and the pseudo-headers that go into it.

use std::net::IpAddr;

/// IP protocol number of VRRP, as it stands in pseudo-headers.
const VRRP: u32 = 112;

/// A ones' complement sum of 16-bit words under way.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum(u64);

impl Sum {
    /// Adds bytes, a zero behind them if their number is odd.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        for pair in bytes.chunks(2) {
            self.0 += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
        }
        self
    }

    /// Adds the pseudo-header of a message of `len` bytes (RFC 8200 section 8.1; for IPv4 as UDP has it).
    pub(crate) fn pseudo_header(self, source: IpAddr, destination: IpAddr, len: usize) -> Self {
        let sum = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.bytes(&source.octets()).bytes(&destination.octets())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.bytes(&source.octets()).bytes(&destination.octets())
            }
            _ => self,
        };
        sum.bytes(&(len as u32).to_be_bytes()).bytes(&VRRP.to_be_bytes())
    }

    /// The checksum to write where zeros stood, or 0 if the right one was among the bytes.
    pub(crate) fn finish(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }
}
