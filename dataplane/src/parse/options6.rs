//! Options in IPv6's extension headers (RFC 8200 section 4.2). The type of each says what who does not know it has to do: pass
//! over it, or drop the packet, and whether its sender is told.
//!
//! Weir knows none but padding, and gives none a meaning. Those for every hop it reads of each packet that it would pass on, as a router does;
//! those for the destination only where it is that. Limits are the kernel's.

use std::net::Ipv6Addr;

use crate::stats::DropReason;

/// Options of a header, padding aside, that are read.
const OPTIONS_MAX: usize = 8;
/// Bytes of padding in a row.
const PADDING_MAX: usize = 7;
const PAD_ONE: u8 = 0;
const PAD_MANY: u8 = 1;
/// A payload of more than 65,535 bytes (RFC 2675), which no frame holds.
const JUMBO: u8 = 0xc2;
/// Where a jumbo payload says how long it is, from its beginning.
const JUMBO_LEN_AT: usize = 2;

/// Codes of a parameter problem (RFC 4443 section 3.4).
const WRONG_FIELD: u8 = 0;
const UNKNOWN_OPTION: u8 = 2;

/// What keeps a packet from going on, and what its sender may be told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Where it stands in the packet.
    pub pointer: u32,
    /// Code of the parameter problem.
    pub code: u8,
    tells: Tells,
}

/// To whom a packet was, of which the sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tells {
    Never,
    OfHosts,
    OfGroups,
}

impl Refused {
    /// Whether the sender of a packet to this address is told.
    pub fn is_told(&self, destination: Ipv6Addr) -> bool {
        match self.tells {
            Tells::Never => false,
            Tells::OfHosts => !destination.is_multicast(),
            Tells::OfGroups => true,
        }
    }
}

/// Reads the options of a header that begins at `at` in its packet. `Ok(None)`: nothing in them keeps the packet.
///
/// # Errors
/// They can't be told apart, or are more than anybody needs.
pub(super) fn read(header: &[u8], at: usize, is_for_hops: bool) -> Result<Option<Refused>, DropReason> {
    const BAD: DropReason = DropReason::ExtensionHeaders;
    let (mut offset, mut padding, mut options) = (2, 0, 0);
    while let Some(&kind) = header.get(offset) {
        if kind == PAD_ONE {
            (offset, padding) = (offset + 1, padding + 1);
        } else {
            let len = 2 + usize::from(*header.get(offset + 1).ok_or(BAD)?);
            let option = header.get(offset..offset + len).ok_or(BAD)?;
            if kind == PAD_MANY {
                padding += len;
                // RFC 4942 section 2.1.9.5: what is no padding may be a channel of somebody's.
                if option[2..].iter().any(|byte| *byte != 0) {
                    return Err(BAD);
                }
            } else {
                (padding, options) = (0, options + 1);
                if options > OPTIONS_MAX {
                    return Err(BAD);
                }
                let refused = refused(kind, option, at + offset, is_for_hops);
                if refused.is_some() {
                    return Ok(refused);
                }
            }
            offset += len;
        }
        if padding > PADDING_MAX {
            return Err(BAD);
        }
    }
    Ok(None)
}

/// Whether an option that begins at `at` keeps its packet.
fn refused(kind: u8, option: &[u8], at: usize, is_for_hops: bool) -> Option<Refused> {
    let keeps = |at: usize, code, tells| Some(Refused { pointer: at as u32, code, tells });
    if kind == JUMBO && is_for_hops {
        // What it says is wrong, whatever it says: a payload that needs it is longer than any frame.
        let says_more = matches!(option, [_, 4, rest @ ..] if rest[..2] != [0, 0]);
        return match option.get(1) {
            Some(4) => keeps(at + if says_more { 0 } else { JUMBO_LEN_AT }, WRONG_FIELD, Tells::OfHosts),
            _ => keeps(at, WRONG_FIELD, Tells::Never),
        };
    }
    match kind >> 6 {
        0 => None,
        1 => keeps(at, UNKNOWN_OPTION, Tells::Never),
        2 => keeps(at, UNKNOWN_OPTION, Tells::OfGroups),
        _ => keeps(at, UNKNOWN_OPTION, Tells::OfHosts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_hops(options: &[u8]) -> Result<Option<Refused>, DropReason> {
        read(&[&[6, 0][..], options].concat(), 40, true)
    }

    /// Where it stands, the code, whether senders to hosts and to groups are told.
    fn told(options: &[u8]) -> Option<(u32, u8, bool, bool)> {
        let refused = read_hops(options).expect("they can be read")?;
        let of = |address: &str| refused.is_told(address.parse().expect("an address"));
        Some((refused.pointer, refused.code, of("2001:db8::1"), of("ff02::1")))
    }

    #[test]
    fn an_option_says_what_becomes_of_a_packet() {
        for kind in 2..=u8::MAX {
            let expected = match kind {
                JUMBO => Some((44, 0, true, false)),
                ..0x40 => None,
                0x40..0x80 => Some((42, 2, false, false)),
                0x80..0xc0 => Some((42, 2, true, true)),
                0xc0.. => Some((42, 2, true, false)),
            };
            assert_eq!(told(&[kind, 4, 0, 0, 9, 9]), expected, "{kind:#x}");
            assert_eq!(
                told(&[0, 5, 0, kind, 4, 0, 0, 9, 9, 1, 0]).map(|told| told.0),
                expected.map(|told| told.0 + 3)
            );
        }
        assert_eq!(told(&[JUMBO, 4, 0, 1, 0, 0]), Some((42, 0, true, false)));
        assert_eq!(told(&[JUMBO, 2, 0, 1, 1, 0]), Some((42, 0, false, false)));
        let of_destination = read(&[6, 0, JUMBO, 4, 0, 0, 9, 9], 40, false).expect("they can be read");
        assert_eq!(of_destination.map(|refused| refused.code), Some(2), "it means nothing there");
    }

    #[test]
    fn options_that_can_not_be_told_apart_are_an_error() {
        let good: [&[u8]; 5] = [
            &[1, 4, 0, 0, 0, 0],
            &[0; 6],
            &[5, 2, 0, 0, 1, 0],
            &[1, 5, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0],
            &[5, 0].repeat(8),
        ];
        for options in good {
            assert_eq!(read_hops(options), Ok(None), "{options:?}");
        }
        let bad: [&[u8]; 7] = [
            &[1, 5, 0, 0, 0, 0],
            &[5, 5, 0, 0, 0, 0],
            &[0, 0, 0, 0, 0, 5],
            &[1, 4, 0, 0, 0, 1],
            &[0; 8],
            &[1, 6, 0, 0, 0, 0, 0, 0],
            &[5, 0].repeat(9),
        ];
        for options in bad {
            assert_eq!(read_hops(options), Err(DropReason::ExtensionHeaders), "{options:?}");
        }
    }
}
