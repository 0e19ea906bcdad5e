//! The Internet checksum: RFC 1071 sums over bytes, RFC 1624 incremental updates.
//!
//! A checksum field is only ever *updated* on the path, so a wrong one stays wrong by the same amount and is
//! never repaired into a right one.

use zerocopy::byteorder::network_endian::U16;

use crate::address::Addr4;

/// A running ones' complement sum in big-endian terms, not yet folded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// Adds `bytes` as 16-bit big-endian words; an odd last byte is padded with zero (RFC 1071 section 4.1).
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        let mut words = bytes.chunks_exact(4);
        for word in &mut words {
            self.0 += u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
        }
        let rest = words.remainder();
        let mut last = [0u8; 4];
        last[..rest.len()].copy_from_slice(rest);
        self.0 += u64::from(u32::from_be_bytes(last));
        self
    }

    /// Adds what follows `bytes` that were added last: behind an odd number of them its words lie across.
    #[inline]
    pub fn behind(self, bytes: &[u8], rest: Sum) -> Self {
        match bytes.len() % 2 {
            0 => self.word(rest.fold()),
            _ => self.word(rest.fold().swap_bytes()),
        }
    }

    /// Adds one 16-bit word.
    pub fn word(mut self, word: u16) -> Self {
        self.0 += u64::from(word);
        self
    }

    /// Adds an address of a pseudo-header.
    pub fn address(self, address: Addr4) -> Self {
        self.long(address.bits())
    }

    /// Adds one 32-bit word.
    pub fn long(mut self, long: u32) -> Self {
        self.0 += u64::from(long);
        self
    }

    /// The sum folded to 16 bits.
    pub fn fold(self) -> u16 {
        let mut sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        sum as u16
    }

    /// The value of a checksum field over what was summed.
    pub fn finish(self) -> U16 {
        U16::new(!self.fold())
    }
}

/// A sum of less than 2^48 folded to 16 bits: 0 only if it is 0.
#[inline]
pub(super) fn fold(sum: u64) -> u16 {
    debug_assert!(sum < 1 << 48);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The change of a set of header words, to be applied to each checksum that covers them.
///
/// RFC 1624 equation 3: `HC' = ~(~HC + ~m + m')`. Added up in the byte order of memory, which makes no difference
/// (RFC 1071 section 2), so that nothing that came from a header has to be swapped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delta(u64);

impl Delta {
    /// Nothing changed.
    pub const NONE: Delta = Delta(0);

    /// `old` became `new`, 16 bits.
    #[inline]
    pub fn word(self, old: u16, new: u16) -> Self {
        Delta(self.0 + u64::from(!old.to_be()) + u64::from(new.to_be()))
    }

    /// `old` became `new`, 32 bits.
    #[inline]
    pub fn long(self, old: u32, new: u32) -> Self {
        Delta(self.0 + u64::from(!old.to_be()) + u64::from(new.to_be()))
    }

    /// Address `old` became `new`.
    #[inline]
    pub fn address(self, old: Addr4, new: Addr4) -> Self {
        self.long(old.bits(), new.bits())
    }

    /// IPv6 address `old` became `new`.
    #[inline]
    pub fn address6(self, old: &[u8; 16], new: &[u8; 16]) -> Self {
        let (old, new) = (u128::from_be_bytes(*old), u128::from_be_bytes(*new));
        (0..4).fold(self, |delta, at| delta.long((old >> (32 * at)) as u32, (new >> (32 * at)) as u32))
    }

    /// The checksum field after the change.
    #[inline]
    pub fn apply(self, checksum: U16) -> U16 {
        let sum = self.0 + u64::from(!u16::from_ne_bytes(checksum.to_bytes()));
        U16::from_bytes((!fold(sum)).to_ne_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn the_example_of_rfc_1071_sums_to_ddf2() {
        let sum = Sum::default().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.fold(), 0xddf2);
    }

    #[test]
    fn any_bytes_sum_as_the_textbook_loop_does() {
        bolero::check!().for_each(|bytes: &[u8]| {
            assert_eq!(Sum::default().bytes(bytes).finish().get(), reference(bytes));
        });
    }

    #[test]
    fn a_sum_of_two_parts_is_that_of_the_whole() {
        bolero::check!().with_type::<(Vec<u8>, Vec<u8>)>().for_each(|(first, rest)| {
            let in_parts = Sum::default().bytes(first).behind(first, Sum::default().bytes(rest));
            let whole = Sum::default().bytes(&[first.as_slice(), rest].concat());
            assert_eq!(in_parts.fold(), whole.fold());
        });
    }

    #[test]
    fn an_update_equals_a_full_recompute() {
        bolero::check!().with_type::<([u8; 20], u32, u16)>().for_each(|(header, long, word)| {
            let mut header = *header;
            // A sum over nothing but zeros is the one case where RFC 1624 and a recompute differ in the
            // sign of zero; a header that starts with a version never is.
            header[0] = 0x45;
            let before = Sum::default().bytes(&header).finish();
            let old_long = u32::from_be_bytes([header[12], header[13], header[14], header[15]]);
            let old_word = u16::from_be_bytes([header[8], header[9]]);
            header[12..16].copy_from_slice(&long.to_be_bytes());
            header[8..10].copy_from_slice(&word.to_be_bytes());
            let after = Delta::NONE.long(old_long, *long).word(old_word, *word).apply(before);
            assert_eq!(after, Sum::default().bytes(&header).finish());
        });
    }

    /// Words at which carries and the two zeros of ones' complement are met.
    fn edge(choice: u16) -> u16 {
        match choice % 8 {
            0 | 1 => 0,
            2 | 3 => 0xffff,
            4 => 0xfffe,
            5 => 1,
            _ => choice,
        }
    }

    #[test]
    fn an_update_is_wrong_for_nothing_but_zeros() {
        bolero::check!().with_type::<([u16; 4], [u16; 4])>().for_each(|(old, new)| {
            let (old, new) = (old.map(edge), new.map(edge));
            let full = |words: [u16; 4]| words.into_iter().fold(Sum::default(), Sum::word).finish();
            let delta = Delta::NONE.word(old[0], new[0]).word(old[1], new[1]);
            let long = |words: [u16; 4]| u32::from(words[2]) << 16 | u32::from(words[3]);
            let updated = delta.long(long(old), long(new)).apply(full(old));
            match new {
                // Whether there is a checksum of ones already depends on what was there before.
                [0, 0, 0, 0] => assert!(matches!(updated.get(), 0 | 0xffff)),
                _ => assert_eq!(updated, full(new), "{old:x?} became {new:x?}"),
            }
        });
    }

    #[test]
    fn a_wrong_checksum_stays_wrong() {
        let wrong = U16::new(0x1234);
        let changed = Delta::NONE.long(1, 2).apply(wrong);
        let back = Delta::NONE.long(2, 1).apply(changed);
        assert_eq!(back, wrong);
    }
}
