//! What a device does not do of what the configuration asks for, in sentences.

use std::fmt;

use super::{MacAddress, RssTypes};
use crate::error::Errno;

/// Something the configuration asked for that the device does not do. `Display` is a sentence for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shortcoming {
    /// Fewer receive queues.
    RxQueues {
        /// Queues asked for.
        asked: u16,
        /// Queues there are.
        got: u16,
    },
    /// Fewer transmit queues.
    TxQueues {
        /// Queues asked for.
        asked: u16,
        /// Queues there are.
        got: u16,
    },
    /// Another number of receive descriptors.
    RxDescriptors {
        /// Descriptors asked for.
        asked: u16,
        /// Descriptors there are.
        got: u16,
    },
    /// Another number of transmit descriptors.
    TxDescriptors {
        /// Descriptors asked for.
        asked: u16,
        /// Descriptors there are.
        got: u16,
    },
    /// Another MTU, or one that the device does not know of.
    Mtu {
        /// Octets asked for.
        asked: u16,
        /// Octets to keep to.
        got: u16,
        /// What is in the way.
        reason: MtuLimit,
    },
    /// It may get frames of several mbufs, and does not say that it sends such.
    Chains {
        /// Octets of the largest packet whose frame is in one mbuf.
        longest: u16,
    },
    /// The address stays the device's own; frames for the other one arrive in promiscuous mode only.
    Mac {
        /// Address asked for.
        asked: MacAddress,
        /// What the device answered.
        errno: Errno,
    },
    /// No hash at all: the device spreads frames in its own way, or not.
    Rss,
    /// A hash of less than asked for.
    RssTypes {
        /// Kinds of packets asked for.
        asked: RssTypes,
        /// Kinds of packets hashed.
        got: RssTypes,
    },
    /// Frames for other addresses are not received.
    Promiscuous(Errno),
    /// The device cannot be told to receive every multicast frame.
    AllMulticast {
        /// Whether promiscuous mode, which includes multicast frames, is on instead.
        promiscuous: bool,
        /// What the device answered.
        errno: Errno,
    },
}

/// What limits the MTU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MtuLimit {
    /// The range of the device.
    DeviceRange,
    /// The device puts a frame in one mbuf, and that is too small.
    MbufRoom,
    /// The device refuses to set an MTU. It may receive longer frames than that.
    Refused(Errno),
}

impl fmt::Display for Shortcoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RxQueues { asked, got } => write!(f, "it has {got} receive queues, not {asked}"),
            Self::TxQueues { asked, got } => write!(f, "it has {got} transmit queues, not {asked}"),
            Self::RxDescriptors { asked, got } => {
                write!(f, "its receive queues have {got} descriptors, not {asked}")
            }
            Self::TxDescriptors { asked, got } => {
                write!(f, "its transmit queues have {got} descriptors, not {asked}")
            }
            Self::Mtu { asked, got, reason: MtuLimit::DeviceRange } => {
                write!(f, "its MTU is {got}, as {asked} is out of its range")
            }
            Self::Mtu { asked, got, reason: MtuLimit::MbufRoom } => {
                write!(
                    f,
                    "its MTU is {got}, not {asked}: it puts a frame in one mbuf, which has no room for more"
                )
            }
            Self::Mtu { asked, got, reason: MtuLimit::Refused(errno) } => {
                write!(
                    f,
                    "it cannot be told the MTU {got} (asked for: {asked}), which is kept in software: {errno}"
                )
            }
            Self::Chains { longest } => {
                write!(
                    f,
                    "it does not say that it sends frames of several mbufs: packets of more than {longest} octets may be lost"
                )
            }
            Self::Mac { asked, errno } => {
                write!(f, "it does not take the address {asked}, which is kept in software: {errno}")
            }
            Self::Rss => f.write_str("it has no receive side scaling"),
            Self::RssTypes { asked, got } => write!(f, "its receive side scaling hashes {got}, not {asked}"),
            Self::Promiscuous(errno) => write!(f, "it has no promiscuous mode: {errno}"),
            Self::AllMulticast { promiscuous: true, errno } => {
                write!(f, "it is promiscuous, as it cannot be told to receive every multicast frame: {errno}")
            }
            Self::AllMulticast { promiscuous: false, errno } => {
                write!(f, "it cannot be told to receive every multicast frame: {errno}")
            }
        }
    }
}
