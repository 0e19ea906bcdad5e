//! SCTP's checksum when NAT changes a port.
//!
//! CRC32c covers the whole packet but no pseudo-header, so addresses do not matter to it and only a change of ports
//! does. It is linear: flipping bits of a packet flips bits of its CRC that depend on nothing but where those bits
//! stand, counted from the end. So the field is updated from the ports and the packet's length alone; what lies
//! behind the header is not read, need not be in one piece, and a wrong checksum stays wrong by as much as it was.

use zerocopy::FromBytes;

use crate::stats::DropReason;
use crate::wire::l4::Ports;
use crate::wire::sctp::Sctp;

/// The Castagnoli polynomial, first coefficient in the last bit, without x^32.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// The polynomial 1 in the same notation.
const ONE: u32 = 1 << 31;

/// x^(8n) for n below 256, modulo the polynomial.
static BYTES: [u32; 256] = powers(8);
/// x^(8 * 256n) for n below 256, modulo the polynomial.
static PAGES: [u32; 256] = powers(8 * 256);

/// Changes the ports of an SCTP packet and brings its checksum up to date.
///
/// `bytes` begins with the SCTP header and may end anywhere behind it; `len` is the length of header and chunks as the
/// IP header has it, without padding of the link.
///
/// A packet sent without checksum (zero, RFC 9653 section 5) stays without, as with UDP.
///
/// # Errors
/// [`DropReason::Truncated`] when the header is not there; nothing was changed then.
pub fn update(bytes: &mut [u8], len: usize, change: impl FnOnce(&mut Ports)) -> Result<(), DropReason> {
    let (header, _) = Sctp::ref_from_prefix(bytes).map_err(|_| DropReason::Truncated)?;
    let has_checksum = header.checksum != 0 || !is_without_checksum(bytes, len);
    let (ports, _) = Ports::mut_from_prefix(bytes).map_err(|_| DropReason::Truncated)?;
    let before = word(ports);
    change(ports);
    let flipped = before ^ word(ports);
    if has_checksum {
        let (header, _) = Sctp::mut_from_prefix(bytes).map_err(|_| DropReason::Truncated)?;
        header.checksum.set(header.checksum.get() ^ flip(flipped, len));
    }
    Ok(())
}

/// Whether a checksum field of zero says that there is none. One of 2^32 packets has zero for its checksum; so one that is not all
/// here is taken for the others.
#[cold]
fn is_without_checksum(bytes: &[u8], len: usize) -> bool {
    bytes.get(..len).is_none_or(|packet| crc32c::crc32c(packet) != 0)
}

/// The first four bytes of the packet, in the order in which a CRC takes in bits.
fn word(ports: &Ports) -> u32 {
    let ([a, b], [c, d]) = (ports.source.to_bytes(), ports.destination.to_bytes());
    u32::from_le_bytes([a, b, c, d])
}

/// What becomes of the CRC of `len` bytes when these bits of the first four flip.
#[inline]
fn flip(bits: u32, len: usize) -> u32 {
    if bits == 0 {
        return 0;
    }
    // The first word times x^32 is its own remainder, and every byte behind it multiplies that by x^8.
    let near = multiply(bits, BYTES[len & 0xff]);
    if len < 256 { near } else { multiply(near, PAGES[len >> 8 & 0xff]) }
}

/// The product of two polynomials over GF(2), modulo the polynomial.
#[inline]
const fn multiply(a: u32, b: u32) -> u32 {
    let (mut a, mut b, mut product) = (a, b, 0);
    while a != 0 {
        // All ones where the coefficient is one: no branch on bits that are as good as random.
        product ^= b & (a >> 31).wrapping_neg();
        b = times_x(b);
        a <<= 1;
    }
    product
}

const fn times_x(a: u32) -> u32 {
    a >> 1 ^ (POLYNOMIAL & (a & 1).wrapping_neg())
}

/// x^(step * n) for n below 256.
const fn powers(step: u32) -> [u32; 256] {
    let mut one_step = ONE;
    let mut times = 0;
    while times < step {
        one_step = times_x(one_step);
        times += 1;
    }
    let mut table = [ONE; 256];
    let mut n = 1;
    while n < table.len() {
        table[n] = multiply(table[n - 1], one_step);
        n += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sctp::HEADER_LEN;

    /// The checksum by its definition: over the whole packet, with the field zero.
    fn checksum(packet: &[u8]) -> u32 {
        let mut packet = packet.to_vec();
        packet[8..HEADER_LEN].fill(0);
        crc32c::crc32c(&packet)
    }

    fn field(packet: &[u8]) -> u32 {
        u32::from_le_bytes(packet[8..HEADER_LEN].try_into().expect("4 bytes"))
    }

    fn packet(ports: [u8; 4], chunks: &[u8]) -> Vec<u8> {
        let mut packet = [&ports[..], &[1, 2, 3, 4, 0, 0, 0, 0], chunks].concat();
        let sum = checksum(&packet);
        packet[8..HEADER_LEN].copy_from_slice(&sum.to_le_bytes());
        packet
    }

    fn set_destination(port: u16) -> impl FnOnce(&mut Ports) {
        move |ports| {
            ports.set_destination(port);
        }
    }

    #[test]
    fn a_right_checksum_stays_right_and_a_wrong_one_equally_wrong() {
        bolero::check!().with_type::<([u8; 4], Vec<u8>, u16, u16, u32)>().for_each(
            |(ports, chunks, source, destination, error)| {
                let mut packet = packet(*ports, chunks);
                let wrong = field(&packet) ^ error;
                if wrong == 0 {
                    return;
                }
                packet[8..HEADER_LEN].copy_from_slice(&wrong.to_le_bytes());
                let len = packet.len();
                update(&mut packet, len, |ports| {
                    ports.set_source(*source);
                    ports.set_destination(*destination);
                })
                .expect("the header is there");
                assert_eq!(packet[..4], [source.to_be_bytes(), destination.to_be_bytes()].concat());
                assert_eq!(field(&packet) ^ checksum(&packet), *error);
            },
        );
    }

    #[test]
    fn all_lengths_are_updated_right_from_the_header_alone() {
        let chunks: Vec<u8> = (0..65_503u32).map(|i| ((i * i) >> 5) as u8).collect();
        let lens = (HEADER_LEN..1_600).chain([4_095, 4_096, 9_001, 65_515]);
        for len in lens {
            let mut packet = packet([0x9c, 0x40, 0x0b, 0x59], &chunks[..len - HEADER_LEN]);
            update(&mut packet[..HEADER_LEN], len, set_destination(2_906)).expect("the header is there");
            assert_eq!(field(&packet), checksum(&packet), "{len} bytes");
        }
    }

    #[test]
    fn a_packet_without_checksum_stays_without() {
        let mut bytes = packet([0, 1, 0, 2], &[0, 0, 0, 4]);
        bytes[8..HEADER_LEN].fill(0);
        update(&mut bytes, HEADER_LEN + 4, set_destination(80)).expect("the header is there");
        assert_eq!((field(&bytes), &bytes[2..4]), (0, &[0, 80][..]));
        update(&mut bytes, 9_000, set_destination(81)).expect("the header is there");
        assert_eq!((field(&bytes), &bytes[2..4]), (0, &[0, 81][..]), "the rest lies elsewhere");
    }

    #[test]
    fn a_checksum_that_happens_to_be_zero_is_updated() {
        // The bits that make the checksum zero are found by turning the update around: the last word of a packet can
        // bring about any CRC.
        let mut bytes = packet([0, 1, 0, 2], &[0, 0, 0, 8, 0, 0, 0, 0]);
        bytes[8..HEADER_LEN].fill(0);
        let sum = crc32c::crc32c(&bytes);
        let last =
            (0..32).fold(sum, |word, _| word << 1 ^ if word & ONE != 0 { POLYNOMIAL << 1 | 1 } else { 0 });
        bytes[16..20].copy_from_slice(&last.to_le_bytes());
        assert_eq!(checksum(&bytes), 0);
        update(&mut bytes, 20, set_destination(80)).expect("the header is there");
        assert_ne!(field(&bytes), 0);
        assert_eq!(field(&bytes), checksum(&bytes));
    }

    #[test]
    fn what_is_shorter_than_a_header_is_truncated_and_left_alone() {
        let mut bytes = [7; HEADER_LEN - 1];
        assert_eq!(update(&mut bytes, 16, set_destination(80)), Err(DropReason::Truncated));
        assert_eq!(bytes, [7; HEADER_LEN - 1]);
    }

    #[test]
    fn crc32c_is_the_one_of_rfc_9260() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }
}
