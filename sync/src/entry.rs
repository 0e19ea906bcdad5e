//! A connection or a template, as one director tells another of it.

use std::net::SocketAddr;

/// See the module. Addresses are of one family but for a real server's behind a tunnel, which version 1 has no room for: it is of the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// IP protocol number; 0 in the template of a mark.
    pub protocol: u8,
    /// The client. Of a template its network, and port 0.
    pub client: SocketAddr,
    /// Whom it talks to. Of a mark's template its address is the mark.
    pub virtual_server: SocketAddr,
    /// Who answers.
    pub real_server: SocketAddr,
    /// What kind of entry it is.
    pub flags: Flags,
    /// The number of its state, whose meaning is the protocol's.
    pub state: u16,
    /// The mark of the virtual server; 0: none, or version 0.
    pub mark: u32,
    /// Seconds that it has left; 0: those of its state.
    pub timeout_secs: u32,
    /// How its segments' numbers were shifted.
    pub sequences: Option<Sequences>,
    /// What its persistence engine knows it by.
    pub engine: Option<Engine<'a>>,
}

/// What kind of entry it is, by the kernel's bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u32);

impl Flags {
    /// Which method the packets are forwarded by.
    pub const FORWARDING: u32 = 7;
    /// NAT, in those bits.
    pub const NAT: u32 = 0;
    /// A tunnel.
    pub const TUNNEL: u32 = 2;
    /// Direct routing.
    pub const DIRECT: u32 = 3;
    /// Replies do not pass.
    pub const NO_OUTPUT: u32 = 0x80;
    /// It counts as inactive.
    pub const INACTIVE: u32 = 0x100;
    /// Its segments' numbers are shifted in one direction or the other.
    pub const SEQUENCES: u32 = 0x600;
    /// It is a template.
    pub const TEMPLATE: u32 = 0x1000;

    /// Whether all of these bits are set.
    pub fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }
}

/// How segments' numbers were shifted, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sequences {
    /// From the client.
    pub input: Sequence,
    /// To the client.
    pub output: Sequence,
}

impl Sequences {
    /// Whether any number is another one than its sender's.
    pub fn shift_anything(&self) -> bool {
        [self.input, self.output].iter().any(|it| it.delta != 0 || it.previous_delta != 0)
    }

    pub(crate) fn words(&self) -> [u32; 6] {
        let Self { input, output } = self;
        [input.first, input.delta, input.previous_delta, output.first, output.delta, output.previous_delta]
    }

    pub(crate) fn of_words([a, b, c, d, e, f]: [u32; 6]) -> Self {
        let of = |[first, delta, previous_delta]: [u32; 3]| Sequence { first, delta, previous_delta };
        Self { input: of([a, b, c]), output: of([d, e, f]) }
    }
}

/// How they were in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sequence {
    /// From this number on...
    pub first: u32,
    /// ... by so much, ...
    pub delta: u32,
    /// ... and by so much before it.
    pub previous_delta: u32,
}

/// What a persistence engine knows a template by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Engine<'a> {
    /// The engine: `sip`.
    pub name: &'a [u8],
    /// Of SIP the Call-ID.
    pub value: &'a [u8],
}
