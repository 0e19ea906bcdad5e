//! What is asked, and what is told: the steps of a packet in their order, with numbers of the snapshot that it met.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use weir_config::model::{MacAddress, Protocol};

use crate::address::Addr4;
use crate::conn::record::{Record, ServerId, ServiceId};
use crate::neighbor::outlook::Outlook;
use crate::neighbor::{Hop, Hop6};
use crate::sched::Peeked;
use crate::stats::{Answer, DropReason, PuntClass};

/// Steps that a packet takes at most, with room to spare.
const STEPS_MAX: usize = 16;

/// A packet that is asked about. It goes to the MAC of the port that it comes in on, may pass routers, and must not be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// Number of that port.
    pub port: usize,
    /// Its protocol.
    pub protocol: Protocol,
    /// From whom: address and port.
    pub source: (IpAddr, u16),
    /// To whom: address, of the same family, and port.
    pub destination: (IpAddr, u16),
    /// What it does to its connection; nothing with UDP.
    pub segment: Segment,
    /// Length of the IP packet in bytes, no less than its headers take.
    pub total_len: u16,
}

/// What a packet does to its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// TCP's SYN, SCTP's INIT.
    Syn,
    /// TCP's SYN and ACK, SCTP's INIT ACK.
    SynAck,
    /// TCP's ACK, SCTP's DATA.
    Ack,
    /// TCP's FIN and ACK, SCTP's SHUTDOWN.
    Fin,
    /// TCP's RST, SCTP's ABORT.
    Rst,
}

/// What would become of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The worker that says so.
    pub worker: usize,
    /// Generation of the snapshot that numbers are of.
    pub generation: u64,
    /// Its edition.
    pub edition: u64,
    /// What leads to it, in order.
    pub steps: ArrayVec<Step, STEPS_MAX>,
    /// Who it is for. `None`: for nobody behind weir. Said also if it does not get there.
    pub to: Option<To>,
    /// The end.
    pub outcome: Outcome,
}

/// Who a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// A real server.
    Server(ServerId, Flow),
    /// The client of a real server.
    Client(Replier, Flow),
}

/// Who answers a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replier {
    /// The real server of a connection.
    Server(ServerId),
    /// One that has no connection, but a virtual server that it is certainly part of.
    Origin,
}

/// What a packet is to the connection table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Of a connection that is there.
    Known,
    /// It opens one.
    New,
    /// It counts as one, and leaves no record (`one_packet`).
    OnePacket,
    /// It has none, for lack of room.
    Untracked,
}

/// How a packet ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It goes out.
    Sent {
        /// Number of the port.
        port: usize,
        /// MAC of its next hop.
        mac: MacAddress,
    },
    /// It waits until its next hop answers.
    Waits {
        /// It is asked for with this packet.
        asks: bool,
    },
    /// weir answers it.
    Answered(Answer),
    /// It is given to VRRP or the host.
    HandedOver(PuntClass),
    /// It is dropped.
    Dropped(DropReason),
}

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It asks for this virtual server.
    Asks(ServiceId),
    /// Its destination is a VIP of marks alone, none of which it has: connections that began when it had one go on.
    Unmarked,
    /// Its destination is a VIP with FTP, where no virtual server is: data connections that were announced come there.
    MayBeData,
    /// It begins a data connection that this real server's control connection has announced.
    Announced(ServerId),
    /// It comes from the socket of a NAT real server, and asks for no virtual server.
    FromServer,
    /// Its destination is an address of weir's, where no virtual server is.
    Local,
    /// Its destination is nobody here.
    Foreign,
    /// Its source is an address of weir's.
    OwnSource,
    /// Its connection is there.
    Record {
        /// As it is.
        record: Record,
        /// Whose table it is in.
        worker: usize,
        /// Seconds since its last packet.
        age: u32,
        /// Seconds that its state lasts without one.
        lifetime: u32,
    },
    /// Another director has told of its connection to this real server.
    Foretold(ServerId),
    /// There is no connection of its.
    NoRecord,
    /// The connection that is there does not go on with it.
    Lapsed(Lapse),
    /// It may open no connection.
    Barred(Barred),
    /// Its connection leaves no record (`one_packet`).
    OnePacket,
    /// Its flow gets no record.
    Unrecorded(Unrecorded),
    /// What persistence says of its client.
    Tie(Tie),
    /// The scheduler picks.
    Picked(Peeked<ServerId>),
    /// A flow without a record goes by its two ends and the weights.
    ByEnds(Option<ServerId>),
    /// It is made ready for this real server.
    Forwarded(ServerId),
    /// It is made ready for its client, as from this address and port.
    Returned(Addr4, u16),
    /// It is larger than its way allows, in bytes.
    TooBig {
        /// What the way allows.
        mtu: u16,
        /// It is cut, inside a tunnel.
        is_cut: bool,
    },
    /// There is no route.
    NoRoute,
    /// Who it is handed to on the wire.
    NextHop {
        /// The neighbour.
        hop: Hop,
        /// What is known of it.
        outlook: Outlook,
    },
    /// The same of IPv6.
    NextHop6 {
        /// Which.
        hop: Hop6,
        /// What is known of it.
        outlook: Outlook,
    },
}

/// Why a connection does not go on with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lapse {
    /// Its time is over; the sweep has not come by yet.
    Expired,
    /// Its real server was removed, and it is not to have another one.
    ServerRemoved,
    /// Its real server was removed, and it is scheduled anew.
    Rescheduled,
    /// The packet begins another one in its place.
    Reused,
}

/// Why a packet opens no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barred {
    /// It comes from FTP's data port.
    FtpData,
    /// It is none that a connection begins with.
    Segment,
}

/// Why a flow gets no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unrecorded {
    /// The table is full.
    TableFull,
    /// There is no room where the record would be.
    ChainFull,
    /// There is no room for another IPv6 client.
    ClientsFull,
    /// There is none in some worker's table, to which the flow may move.
    CrowdedElsewhere,
    /// Some worker's table, to which the flow may move, is full or was a moment ago.
    FullElsewhere,
    /// It may be one of those for which there was no room of late, and goes on.
    TurnedAway,
}

/// What persistence says of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tie {
    /// Its network is tied to this real server.
    Holds(ServerId),
    /// It was tied to this one, which may not go on: removed, or quiesced with `expire_quiescent_template`.
    Broken(ServerId),
    /// It is not tied; the real server that is picked gets it.
    Made,
    /// It is not tied, and there is no room to tie it.
    NoRoom,
    /// Calls are tied, and the question does not say which one it is: it is taken for a new one.
    ByCall,
}

/// What has been told so far.
#[derive(Default)]
pub(super) struct Story {
    pub(super) steps: ArrayVec<Step, STEPS_MAX>,
    pub(super) to: Option<To>,
}

impl Story {
    /// The next step. One that finds no room is left out: `STEPS_MAX` is more than any way has.
    pub(super) fn say(&mut self, step: Step) {
        let is_told = self.steps.try_push(step);
        debug_assert!(is_told.is_ok(), "more than {STEPS_MAX} steps: {:?}", self.steps);
    }
}
