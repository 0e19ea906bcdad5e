//! SCTP (RFC 9260): common header, chunk header, and what a packet means to a connection's state.

use zerocopy::byteorder::little_endian;
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of the common header, in bytes.
pub const HEADER_LEN: usize = 12;
/// Length of a chunk's header, in bytes; the smallest length a chunk can have.
pub const CHUNK_LEN: usize = 4;

/// The common header.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Sctp {
    /// Port of the sender.
    pub source: U16,
    /// Port of the receiver.
    pub destination: U16,
    /// The receiver's tag for the association.
    pub verification_tag: U32,
    /// CRC32c over header and chunks with this field zero, last byte first (RFC 9260 appendix A).
    pub checksum: little_endian::U32,
}
const _: () = assert!(size_of::<Sctp>() == HEADER_LEN);

/// The header of a chunk. Chunks begin at multiples of 4 bytes.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Chunk {
    /// See [`chunk`].
    pub kind: u8,
    /// Depends on `kind`.
    pub flags: u8,
    /// Header and value without padding, in bytes.
    pub len: U16,
}
const _: () = assert!(size_of::<Chunk>() == CHUNK_LEN);

/// Types of chunks (RFC 9260 section 3.2).
pub mod chunk {
    #![allow(missing_docs)]
    pub const DATA: u8 = 0;
    pub const INIT: u8 = 1;
    pub const INIT_ACK: u8 = 2;
    pub const SACK: u8 = 3;
    pub const HEARTBEAT: u8 = 4;
    pub const HEARTBEAT_ACK: u8 = 5;
    pub const ABORT: u8 = 6;
    pub const SHUTDOWN: u8 = 7;
    pub const SHUTDOWN_ACK: u8 = 8;
    pub const ERROR: u8 = 9;
    pub const COOKIE_ECHO: u8 = 10;
    pub const COOKIE_ACK: u8 = 11;
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// What a packet means to the state of its connection.
///
/// The numbers have only bits that TCP's FIN, SYN, RST and ACK have too, so one way of indexing serves the state
/// tables of both protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Event {
    /// Also everything that no other event stands for.
    Data = 0x00,
    Init = 0x01,
    InitAck = 0x02,
    CookieEcho = 0x03,
    CookieAck = 0x04,
    Shutdown = 0x05,
    ShutdownAck = 0x06,
    ShutdownComplete = 0x07,
    Error = 0x10,
    Abort = 0x11,
    /// ABORT behind COOKIE ECHO or COOKIE ACK: to a connection the same as [`Event::Abort`], but the packet does not
    /// begin with it, which counts when there is no connection yet.
    AbortBehindCookie = 0x12,
}

/// What the packet with these chunks means: its first chunk counts, except that an ABORT right behind a COOKIE ECHO
/// or COOKIE ACK counts before them. Control chunks are bundled in front of an ABORT (RFC 9260 section 3.3.7).
pub fn event(chunks: &[u8]) -> Event {
    let Ok((first, _)) = Chunk::ref_from_prefix(chunks) else { return Event::Data };
    match first.kind {
        chunk::COOKIE_ECHO if aborts_behind(first, chunks) => Event::AbortBehindCookie,
        chunk::COOKIE_ACK if aborts_behind(first, chunks) => Event::AbortBehindCookie,
        chunk::INIT => Event::Init,
        chunk::INIT_ACK => Event::InitAck,
        chunk::COOKIE_ECHO => Event::CookieEcho,
        chunk::COOKIE_ACK => Event::CookieAck,
        chunk::SHUTDOWN => Event::Shutdown,
        chunk::SHUTDOWN_ACK => Event::ShutdownAck,
        chunk::SHUTDOWN_COMPLETE => Event::ShutdownComplete,
        chunk::ERROR => Event::Error,
        chunk::ABORT => Event::Abort,
        _ => Event::Data,
    }
}

/// Whether an ABORT follows `first`, the chunk that `chunks` begins with.
fn aborts_behind(first: &Chunk, chunks: &[u8]) -> bool {
    let len = usize::from(first.len.get());
    let rest = chunks.get(len.next_multiple_of(4)..).unwrap_or_default();
    len >= CHUNK_LEN && rest.first_chunk::<CHUNK_LEN>().is_some_and(|next| next[0] == chunk::ABORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chunk with `value_len` bytes behind its header, padded.
    fn chunk_of(kind: u8, value_len: usize) -> Vec<u8> {
        let len = CHUNK_LEN + value_len;
        let mut bytes = vec![kind, 0];
        bytes.extend_from_slice(&(len as u16).to_be_bytes());
        bytes.resize(len.next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn the_first_chunk_makes_the_event() {
        let expected = [
            (chunk::DATA, Event::Data),
            (chunk::INIT, Event::Init),
            (chunk::INIT_ACK, Event::InitAck),
            (chunk::SACK, Event::Data),
            (chunk::HEARTBEAT, Event::Data),
            (chunk::HEARTBEAT_ACK, Event::Data),
            (chunk::ABORT, Event::Abort),
            (chunk::SHUTDOWN, Event::Shutdown),
            (chunk::SHUTDOWN_ACK, Event::ShutdownAck),
            (chunk::ERROR, Event::Error),
            (chunk::COOKIE_ECHO, Event::CookieEcho),
            (chunk::COOKIE_ACK, Event::CookieAck),
            (12, Event::Data),
            (13, Event::Data),
            (chunk::SHUTDOWN_COMPLETE, Event::ShutdownComplete),
            (15, Event::Data),
            (0xc1, Event::Data),
        ];
        for (kind, event_expected) in expected {
            let chunks = [chunk_of(kind, 8), chunk_of(chunk::INIT, 16)].concat();
            assert_eq!(event(&chunks), event_expected, "chunk type {kind}");
        }
    }

    #[test]
    fn an_abort_right_behind_a_cookie_chunk_counts_and_behind_others_does_not() {
        for (kind, expected) in [
            (chunk::COOKIE_ECHO, Event::AbortBehindCookie),
            (chunk::COOKIE_ACK, Event::AbortBehindCookie),
            (chunk::DATA, Event::Data),
            (chunk::SHUTDOWN, Event::Shutdown),
        ] {
            for value_len in 0..9 {
                let chunks = [chunk_of(kind, value_len), chunk_of(chunk::ABORT, 0)].concat();
                assert_eq!(event(&chunks), expected, "chunk type {kind} with {value_len} bytes");
            }
        }
        let third =
            [chunk_of(chunk::COOKIE_ECHO, 5), chunk_of(chunk::DATA, 4), chunk_of(chunk::ABORT, 0)].concat();
        assert_eq!(event(&third), Event::CookieEcho);
    }

    #[test]
    fn an_abort_that_is_cut_off_or_not_reached_does_not_count() {
        let whole = [chunk_of(chunk::COOKIE_ACK, 0), chunk_of(chunk::ABORT, 0)].concat();
        assert_eq!(event(&whole), Event::AbortBehindCookie);
        assert_eq!(event(&whole[..7]), Event::CookieAck);
        let mut too_short = whole.clone();
        too_short[3] = 3;
        assert_eq!(event(&too_short), Event::CookieAck);
        let mut too_long = whole;
        too_long[2] = 0xff;
        assert_eq!(event(&too_long), Event::CookieAck);
    }

    #[test]
    fn any_bytes_have_an_event() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let begins_with_abort = bytes.len() >= CHUNK_LEN && bytes[0] == chunk::ABORT;
            assert_eq!(event(bytes) == Event::Abort, begins_with_abort);
        });
    }
}
