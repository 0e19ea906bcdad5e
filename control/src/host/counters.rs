//! What passes a host interface. Written by the host's thread alone.

use weir_dataplane::stats::Counter;

/// Why a frame did not pass a host interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostDrop {
    /// To the host, whose interface was set down.
    InterfaceDown,
    /// To the host, and the kernel did not take it.
    Refused,
    /// From the host, with too many waiting for the worker.
    InjectFull,
}

impl HostDrop {
    /// Every one, in the order of the counters.
    pub(crate) const ALL: [HostDrop; 3] = [HostDrop::InterfaceDown, HostDrop::Refused, HostDrop::InjectFull];

    /// The label in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            HostDrop::InterfaceDown => "interface_down",
            HostDrop::Refused => "refused",
            HostDrop::InjectFull => "inject_full",
        }
    }

    /// One sentence for the docs.
    #[cfg(test)]
    pub(crate) fn help(self) -> &'static str {
        match self {
            HostDrop::InterfaceDown => "To the host, whose interface is down.",
            HostDrop::Refused => "To the host, whose kernel did not take the frame.",
            HostDrop::InjectFull => "From the host, with too many frames waiting for the worker already.",
        }
    }
}

/// Of one host interface.
#[derive(Debug, Default)]
pub(crate) struct HostCounters {
    /// Frames that the kernel received.
    pub(crate) receive_packets: Counter,
    /// Their bytes, FCS aside.
    pub(crate) receive_bytes: Counter,
    /// Frames that the kernel sent.
    pub(crate) transmit_packets: Counter,
    /// Their bytes, FCS aside.
    pub(crate) transmit_bytes: Counter,
    drops: [Counter; HostDrop::ALL.len()],
}

impl HostCounters {
    /// Counts one lost frame.
    pub(crate) fn dropped(&self, reason: HostDrop) {
        self.drops[reason as usize].add(1);
    }

    /// Frames lost for `reason`.
    pub(crate) fn drops(&self, reason: HostDrop) -> u64 {
        self.drops[reason as usize].get()
    }
}
