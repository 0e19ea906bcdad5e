//! The blocks of a pcapng file (draft-ietf-opsawg-pcapng): a section header, an interface for each port, a packet for each
//! frame, and statistics at the end. Numbers are little-endian; options follow a block's fixed part, each filled up to 32 bits.

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const STATISTICS: u32 = 5;
const ETHERNET: u16 = 1;

const COMMENT: u16 = 1;
const SHB_APPLICATION: u16 = 4;
const IF_NAME: u16 = 2;
const IF_DESCRIPTION: u16 = 3;
const IF_TIME_RESOLUTION: u16 = 9;
const IF_FILTER: u16 = 11;
const PACKET_FLAGS: u16 = 2;
const STATISTICS_DROPPED: u16 = 5;
const STATISTICS_DELIVERED: u16 = 8;
const END_OF_OPTIONS: u16 = 0;

/// 10 to the power of minus this many seconds: nanoseconds.
const TIME_RESOLUTION: u8 = 9;
/// `if_filter`: what follows is text.
const FILTER_IS_TEXT: u8 = 0;

/// Which way a frame goes; a dropped one goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    In,
    Out,
    Nowhere,
}

/// What goes around a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet<'a> {
    /// In the order of [`interface`].
    pub(crate) interface: u32,
    /// Nanoseconds since 1970.
    pub(crate) nanos: u64,
    /// Length of the whole frame.
    pub(crate) whole: usize,
    pub(crate) direction: Direction,
    pub(crate) comment: &'a str,
}

/// Begins a file that `application` writes.
pub(crate) fn section(to: &mut Vec<u8>, application: &str) {
    block(to, SECTION_HEADER, |to| {
        to.extend(BYTE_ORDER.to_le_bytes());
        // Version 1.0, and a length that is not known yet.
        to.extend(1u16.to_le_bytes());
        to.extend(0u16.to_le_bytes());
        to.extend(u64::MAX.to_le_bytes());
        option(to, SHB_APPLICATION, application.as_bytes());
    });
}

/// The next interface. Of each frame `snap_len` bytes are kept at most.
pub(crate) fn interface(to: &mut Vec<u8>, name: &str, description: &str, snap_len: usize, filter: &str) {
    block(to, INTERFACE, |to| {
        to.extend(ETHERNET.to_le_bytes());
        to.extend(0u16.to_le_bytes());
        to.extend((snap_len as u32).to_le_bytes());
        option(to, IF_NAME, name.as_bytes());
        option(to, IF_DESCRIPTION, description.as_bytes());
        option(to, IF_TIME_RESOLUTION, &[TIME_RESOLUTION]);
        if !filter.is_empty() {
            option(to, IF_FILTER, &[&[FILTER_IS_TEXT], filter.as_bytes()].concat());
        }
    });
}

/// A frame.
pub(crate) fn packet(to: &mut Vec<u8>, packet: &Packet<'_>, bytes: &[u8]) {
    block(to, PACKET, |to| {
        to.extend(packet.interface.to_le_bytes());
        time(to, packet.nanos);
        to.extend((bytes.len() as u32).to_le_bytes());
        to.extend((packet.whole as u32).to_le_bytes());
        to.extend(bytes);
        fill_up(to);
        let direction = match packet.direction {
            Direction::In => 1,
            Direction::Out => 2,
            Direction::Nowhere => 0u32,
        };
        option(to, PACKET_FLAGS, &direction.to_le_bytes());
        option(to, COMMENT, packet.comment.as_bytes());
    });
}

/// How it went at an interface: frames in the file, and frames lost.
pub(crate) fn statistics(
    to: &mut Vec<u8>,
    interface: u32,
    nanos: u64,
    (delivered, lost): (u64, u64),
    comment: &str,
) {
    block(to, STATISTICS, |to| {
        to.extend(interface.to_le_bytes());
        time(to, nanos);
        option(to, STATISTICS_DROPPED, &lost.to_le_bytes());
        option(to, STATISTICS_DELIVERED, &delivered.to_le_bytes());
        option(to, COMMENT, comment.as_bytes());
    });
}

/// A block: its type and length, what `body` writes, the end of its options, its length again.
fn block(to: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let begin = to.len();
    to.extend(kind.to_le_bytes());
    to.extend([0; 4]);
    body(to);
    option(to, END_OF_OPTIONS, &[]);
    let len = (to.len() - begin + 4) as u32;
    to[begin + 4..begin + 8].copy_from_slice(&len.to_le_bytes());
    to.extend(len.to_le_bytes());
}

/// The higher half comes first.
fn time(to: &mut Vec<u8>, nanos: u64) {
    to.extend(((nanos >> 32) as u32).to_le_bytes());
    to.extend((nanos as u32).to_le_bytes());
}

fn option(to: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    to.extend(code.to_le_bytes());
    to.extend((value.len() as u16).to_le_bytes());
    to.extend(value);
    fill_up(to);
}

/// Blocks begin where 32 bits do, so the whole may be filled up.
fn fill_up(to: &mut Vec<u8>) {
    to.resize(to.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_as_long_as_it_says_at_both_ends() {
        let mut file = Vec::new();
        section(&mut file, "weir");
        interface(&mut file, "lan", "port lan of weir", 64, "protocol=tcp");
        for len in 0..9 {
            let it = Packet {
                interface: 0,
                nanos: 1 << 40,
                whole: 99,
                direction: Direction::In,
                comment: "worker 0",
            };
            packet(&mut file, &it, &vec![7; len]);
        }
        statistics(&mut file, 0, 1 << 40, (9, 1), "the count is reached");
        let mut kinds = Vec::new();
        let mut rest = &file[..];
        while !rest.is_empty() {
            let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
            let len = word(4) as usize;
            assert_eq!((len.is_multiple_of(4), word(len - 4) as usize), (true, len));
            kinds.push(word(0));
            rest = &rest[len..];
        }
        assert_eq!(kinds, [vec![SECTION_HEADER, INTERFACE], vec![PACKET; 9], vec![STATISTICS]].concat());
    }
}
