//! What workers count: one set of counters per worker, written by that worker alone, summed by whoever reads.
//!
//! Every packet ends as forwarded, answered, punted or dropped with a [`DropReason`]; each of them has a counter here.

mod milestone;
#[cfg(test)]
mod model;
pub mod passes;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam::utils::CachePadded;

pub use self::milestone::Milestone;
use self::passes::PassTimes;

/// What milestones are made of; `model.rs` has something else in its place.
mod sync {
    pub(super) use std::sync::atomic::AtomicU64;
}

/// A counter or gauge with one writer. Readers may see it a moment late, never torn; what they see beside it may be of another
/// moment, see [`Milestone`].
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`. Only the owner calls this: it is a load and a store, not an atomic addition.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// Sets a gauge. Only the owner calls this.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The present value.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! labels {
    ($(#[$outer:meta])* $name:ident { $($variant:ident $label:literal $help:literal,)* }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[doc = $help] $variant,)*
        }

        impl $name {
            /// Every one, in the order of the counters.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The label in metrics.
            pub fn label(self) -> &'static str {
                match self { $($name::$variant => $label,)* }
            }

            /// One sentence for the docs.
            pub fn help(self) -> &'static str {
                match self { $($name::$variant => $help,)* }
            }
        }
    };
}

labels! {
    /// Why a frame was not sent on.
    DropReason {
        Truncated "truncated" "The frame is shorter than its headers say.",
        Stale "stale" "A frame of VRRP that waited too long for the worker: what it says may no longer be true.",
        VrrpUnknownRouter "vrrp_unknown_router" "VRRP with a virtual router id that no instance of its port and family has, or too short to have one.",
        VrrpUnknownPeer "vrrp_unknown_peer" "VRRP to an address of the port, from a host that is not one of the instance's `unicast_peers`.",
        VrrpBackup "vrrp_backup" "The destination MAC is that of a virtual router that another director is master of.",
        NotAccepted "not_accepted" "To an address of VRRP itself, with `accept` off.",
        ForeignMac "foreign_mac" "The destination MAC is neither the port's nor a group that weir listens to, or the source MAC is a group.",
        EtherType "ether_type" "Neither IP nor ARP, more than one 802.1Q tag, or a packet of IPv6 that is nobody's here: to no address of ours, or one that weir does not answer.",
        Vlan "vlan" "On a device whose VLANs are ports of their own: with a tag that none of them has, or about to leave with one.",
        BadIpHeader "bad_ip_header" "The IP version, header length or total length is wrong, or the source can't be a host.",
        BadIpChecksum "bad_ip_checksum" "The IP header checksum is wrong.",
        BadL4Header "bad_l4_header" "The TCP, UDP or ICMP header is wrong, or the checksum of what weir itself would answer.",
        Fragment "fragment" "A piece of a packet that weir would have to put together itself, or that is nobody's here: ICMP and whatever else has no ports, and what is to no virtual server and from no NAT real server.",
        FragmentBad "fragment_bad" "A piece without data, of a length that only a last piece may have, or beyond what a packet can be.",
        FragmentTiny "fragment_tiny" "A first piece that does not hold the headers, or a later one that begins within them (RFC 1858, RFC 3128, RFC 7112).",
        FragmentDuplicate "fragment_duplicate" "A piece that there was already; a first one, within a tenth of a second.",
        FragmentOverlap "fragment_overlap" "A piece that overlaps another one of its packet or contradicts where that ends, and all that follow.",
        FragmentNoFirst "fragment_no_first" "A piece whose first piece did not come in time.",
        FragmentRoomFull "fragment_room_full" "A piece that waited for its first piece for the longest, and made room for a newer one.",
        FragmentRefused "fragment_refused" "A piece whose first piece was answered, with an ICMP error or a RST, in place of being passed on. Where it was dropped, the others are for the same reason.",
        FragmentChecksum "fragment_checksum" "A packet in pieces to or from a NAT real server whose checksum takes all of them: SCTP with another port, or UDP of IPv6 without a checksum.",
        ExtensionHeaders "extension_headers" "More IPv6 extension headers than are walked, or in an order that can't be, or options in them that can't be told apart.",
        UnknownOption "unknown_option" "An option of IPv6 says to drop the packet where it is not known: one for every hop, or one for the destination of a packet that weir would answer itself.",
        SourceRoute "source_route" "IP options with a source route, or that can't be told apart.",
        OwnSource "own_source" "The source is an address of ours.",
        BadArp "bad_arp" "Not a valid ARP packet for IPv4 over Ethernet.",
        BadNd "bad_nd" "Neighbour discovery about an IPv6 address of weir's that is not valid: hop limit, checksum, options or addresses.",
        ForeignArp "foreign_arp" "ARP between other hosts, or a request for an address that is not answered on this port.",
        ForeignAddress "foreign_address" "The destination is no virtual server, no own address, and the source is no NAT real server.",
        NotServed "not_served" "To an own address or VIP, but nothing here answers it.",
        StrayReply "stray_reply" "From a NAT real server, but part of no connection.",
        StrayIcmp "stray_icmp" "An ICMP error about no connection of ours.",
        Unasked "unasked_mtu" "A router's fragmentation needed about a tunnel packet whose client lets its packets be cut (no DF).",
        RealServerRemoved "real_server_removed" "The connection's real server was removed (expire_nodest_conn = false).",
        IcmpRateLimited "icmp_rate_limited" "An ICMP error or RST was due, but too many were sent of late.",
        TtlExceeded "ttl_exceeded" "The TTL ran out and no ICMP error may be sent about this packet.",
        TooBig "too_big" "Larger than the next hop's MTU and no ICMP error may be sent about this packet.",
        LinkLocal "link_local" "From a link-local IPv6 address, or about one, and the real server is on another link or behind a router or tunnel.",
        NoRoute "no_route" "No route to the destination.",
        NeighborFailed "neighbor_failed" "The next hop does not answer ARP or neighbour discovery.",
        NeighborQueueFull "neighbor_queue_full" "Too many packets wait for the next hop's ARP answer already, or this one made room for a newer one: where a share of the waiting room is used up, the oldest of it goes.",
        NeighborTableFull "neighbor_table_full" "No room to remember another next hop.",
        NoBuffer "no_buffer" "No packet buffer, or no room in it, for a header or an answer.",
        LongFrame "long_frame" "The frame lies in more than one packet buffer (it is longer than `mbuf_data_bytes`), and what has to be read, answered or quoted of it does not lie in the first.",
        TransmitFull "transmit_full" "The device's transmit queue was full.",
        PuntRateLimited "punt_rate_limited" "For VRRP or the host, but too many of its kind came of late.",
        PuntFull "punt_full" "For VRRP or the host, which has not taken the former ones yet.",
        Suspect "suspect" "Of a flow at which weir has ended before; it is dropped for ten minutes.",
        HelperBusy "ftp_busy" "Of a control connection of FTP that another worker was at for too long.",
        ForetoldBusy "foretold_busy" "Perhaps of a connection that another director has told of; control was at its place for too long.",
        HelperNoRoom "ftp_no_room" "It begins a data connection of FTP, and there is no room for another connection.",
        NoCallId "no_call_id" "To a virtual server that keeps calls of SIP together (`persistence_engine`), and no Call-ID was found in it.",
        Conflict "address_conflict" "ARP or neighbour discovery in which another host claims a VIP, an own address or a bound neighbour's address.",
    }
}

labels! {
    /// What weir answered by itself.
    Answer {
        Arp "arp" "ARP reply for a VIP, an own address or a proxied prefix.",
        Nd "nd" "Neighbour advertisement for an own IPv6 address or one of VRRP.",
        Echo "echo" "ICMP echo reply for a VIP or an own address.",
        TcpReset "tcp_reset" "TCP segment that belongs to no connection: RST.",
        PortUnreachable "port_unreachable" "No real server, no such virtual server or protocol: ICMP port unreachable.",
        TimeExceeded "time_exceeded" "TTL ran out: ICMP time exceeded.",
        ParameterProblem "parameter_problem" "An option of IPv6 that weir does not know asks to tell the sender: ICMPv6 parameter problem.",
        FragmentationNeeded "fragmentation_needed" "The packet exceeds the MTU and must not be cut: ICMP fragmentation needed, of IPv6 packet too big.",
        TunnelError "tunnel_error" "A router's ICMP error about a tunnel packet, passed on to the client. One that waits for ARP first counts as forwarded.",
    }
}

/// Who gets a punted frame, and who sends one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// VRRP's thread.
    Vrrp,
    /// The thread that serves the host interfaces.
    Host,
}

impl Owner {
    /// Every one, in the order in which a worker serves them.
    pub const ALL: [Owner; 2] = [Owner::Vrrp, Owner::Host];

    /// The label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Owner::Vrrp => "vrrp",
            Owner::Host => "host",
        }
    }
}

labels! {
    /// What was found on control connections of FTP.
    Helped {
        Passive "announced_passive" "A server's 227 or 229: the data connection to its port is expected.",
        Active "announced_active" "A client's PORT or EPRT: the data connection to its port is expected.",
        Rewritten "rewritten" "A 227 that was given the virtual server's address, each time that it was sent.",
        Opened "opened" "A data connection that was expected has begun.",
        ForeignAddress "others_address" "An address in PORT or EPRT that is not the client's, or in 227 one that is not the server's: not touched.",
        LowPort "low_port" "A port below 1024 in any of these: not touched.",
        Taken "taken_port" "A port in 227 or 229 that is another virtual server's, or that another real server has announced to the same client: not touched. Or a server's connection to a client's port while another server has one there: dropped.",
        Unasked "unasked_reply" "A 227 or 229 that no PASV or EPSV has asked for: not touched.",
        Malformed "malformed_line" "A PORT, EPRT, 227 or 229 that can't be read: not touched.",
        Split "split_line" "One of these that does not end in the segment in which it begins: not touched.",
        Long "long_line" "One of these of more than 512 bytes: not touched.",
        NoRoom "no_room_in_segment" "A 227 that would make its segment longer than the MTU, or the fifth one in a segment: not touched.",
        Limited "flood" "A PORT or EPRT beyond the limit in rate of those, or a second one in a segment.",
        Full "full_table" "No room for another data connection, expected or begun, or for another control connection: passed on unread.",
        Busy "busy_table" "A data connection that is not expected since another worker was at its place for too long.",
    }
}

labels! {
    /// What a frame that is handed over to control was taken for. Each has a limit in rate.
    PuntClass {
        VrrpMulticast "vrrp_multicast" "VRRP to the routers' group.",
        VrrpUnicast "vrrp_unicast" "VRRP to an address of the port, from a unicast peer.",
        Established "established" "Of a connection or request that the host itself has sent a packet of.",
        Routing "routing" "OSPF, and BFD that came over no router.",
        ArpReply "arp_reply" "ARP to the port's MAC.",
        Neighbor "neighbor" "IPv6 neighbour and router discovery.",
        ArpRequest "arp_request" "ARP to everybody that weir does not answer.",
        TcpSyn "tcp_syn" "TCP segments that open a connection.",
        Tcp "tcp" "Other TCP segments.",
        Udp "udp" "UDP datagrams.",
        Icmp "icmp" "ICMP for IPv4 and IPv6.",
        Fragments "fragments" "Pieces of packets that were cut.",
        Group "group" "To everybody or to a group of this link.",
        Other "other" "Anything else to the port's MAC.",
    }
}

/// Frames and bytes through one port, as one worker counts them.
#[derive(Debug, Default)]
pub struct PortCounters {
    /// Frames received.
    pub receive_packets: Counter,
    /// Bytes received, FCS aside.
    pub receive_bytes: Counter,
    /// Frames the device took.
    pub transmit_packets: Counter,
    /// Bytes of frames the device took, FCS aside.
    pub transmit_bytes: Counter,
}

/// All that one worker counts, real servers aside. It writes to them with every burst, so none of them shares a line
/// (or the line beside it, which processors fetch along) with anything of another worker or of control.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerCounters {
    /// By port number.
    pub ports: Box<[CachePadded<PortCounters>]>,
    drops: [Counter; DropReason::ALL.len()],
    answers: [Counter; Answer::ALL.len()],
    punted: [Counter; PuntClass::ALL.len()],
    punt_drops: [Counter; PuntClass::ALL.len()],
    injected: [Counter; Owner::ALL.len()],
    /// Packets sent towards a real server or client.
    pub forwarded: Counter,
    /// Frames taken in without an answer: ARP that taught something.
    pub absorbed: Counter,
    /// Cycles of polls that received something.
    pub busy_cycles: Counter,
    /// Cycles of polls that did not.
    pub idle_cycles: Counter,
    /// How long passes took.
    pub pass_times: PassTimes,
    /// Cycles of those in which the CPU slept.
    pub sleep_cycles: Counter,
    /// Gauge: records in the connection table.
    pub connections: Counter,
    /// Gauge: IPv6 clients of those records.
    pub ipv6_clients: Counter,
    /// Gauge: as many as there is certainly room for.
    pub ipv6_clients_capacity: Counter,
    /// Packets of IPv6 clients for whom there was no room.
    pub ipv6_clients_full: Counter,
    /// Packets forwarded without a record because the table was full, or the chain of lines where it would have been.
    pub untracked: Counter,
    /// SYNs in which the largest segment was lowered.
    pub clamped: Counter,
    /// Connections of persistent virtual servers that got no template because the table was full.
    pub templates_full: Counter,
    /// Messages to another worker that were lost because its inbox was full.
    pub messages_lost: Counter,
    /// Connections that another director had told of and that are in the worker's table since a packet of theirs came.
    pub foretold_taken: Counter,
    helped: [Counter; Helped::ALL.len()],
    /// Gauge: packets waiting for a neighbour.
    pub waiting: Counter,
    /// Gauge: pieces of packets waiting for their first piece.
    pub pieces_waiting: Counter,
    /// Packets in pieces that made room for another one while pieces of theirs may still have come, or found no room themselves.
    pub pieces_full: Counter,
    /// Packets in pieces whose time was over with pieces missing, or of which too many parts were missing at a time to tell.
    pub pieces_incomplete: Counter,
    /// ARP requests sent.
    pub arp_requests: Counter,
    /// Neighbour solicitations sent for next hops.
    pub nd_solicitations: Counter,
    /// Reports of multicast listener discovery sent.
    pub mld_reports: Counter,
    /// Queries of it heard.
    pub mld_queries: Counter,
    /// Of those, the ones that got no answer, as there were too many.
    pub mld_unanswered: Counter,
    /// Another host claimed an address of ours or a bound one.
    pub arp_conflicts: Counter,
    /// Masters of VRRP that were fenced, their lease being over.
    pub vrrp_fenced: Counter,
    /// Frames copied for a capture.
    pub captured: Counter,
    /// Frames that a capture wanted and lost, since its ring was full.
    pub capture_lost: Counter,
    /// Gauge: the worker's clock, in seconds.
    pub seconds: Counter,
    /// Gauge: generation of the snapshot in use.
    pub generation: Milestone,
    /// Gauge: no record is left of what was over when this generation came, such as connections to former VIPs.
    pub swept: Milestone,
}

impl WorkerCounters {
    /// All zero, for a director with `ports` ports.
    pub fn new(ports: usize) -> Self {
        Self {
            ports: (0..ports).map(|_| CachePadded::default()).collect(),
            drops: std::array::from_fn(|_| Counter::default()),
            answers: std::array::from_fn(|_| Counter::default()),
            punted: std::array::from_fn(|_| Counter::default()),
            punt_drops: std::array::from_fn(|_| Counter::default()),
            injected: Default::default(),
            forwarded: Counter::default(),
            absorbed: Counter::default(),
            busy_cycles: Counter::default(),
            idle_cycles: Counter::default(),
            pass_times: PassTimes::default(),
            sleep_cycles: Counter::default(),
            connections: Counter::default(),
            untracked: Counter::default(),
            ipv6_clients: Counter::default(),
            ipv6_clients_capacity: Counter::default(),
            ipv6_clients_full: Counter::default(),
            clamped: Counter::default(),
            templates_full: Counter::default(),
            messages_lost: Counter::default(),
            foretold_taken: Counter::default(),
            helped: Default::default(),
            waiting: Counter::default(),
            pieces_waiting: Counter::default(),
            pieces_full: Counter::default(),
            pieces_incomplete: Counter::default(),
            arp_requests: Counter::default(),
            nd_solicitations: Counter::default(),
            mld_reports: Counter::default(),
            mld_queries: Counter::default(),
            mld_unanswered: Counter::default(),
            arp_conflicts: Counter::default(),
            vrrp_fenced: Counter::default(),
            captured: Counter::default(),
            capture_lost: Counter::default(),
            seconds: Counter::default(),
            generation: Milestone::default(),
            swept: Milestone::default(),
        }
    }

    /// Counts one dropped frame.
    #[inline]
    pub fn dropped(&self, reason: DropReason) {
        self.drops[reason as usize].add(1);
    }

    /// Frames dropped for `reason`.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].get()
    }

    /// Counts one answered frame.
    pub fn answer(&self, answer: Answer) {
        self.answers[answer as usize].add(1);
    }

    /// Counts one frame that was handed over to control.
    pub fn punt(&self, class: PuntClass) {
        self.punted[class as usize].add(1);
    }

    /// Frames of this class that were handed over to control.
    pub fn punted(&self, class: PuntClass) -> u64 {
        self.punted[class as usize].get()
    }

    /// Counts one frame that was for control and could not be handed over; [`WorkerCounters::dropped`] says why.
    pub fn punt_dropped(&self, class: PuntClass) {
        self.punt_drops[class as usize].add(1);
    }

    /// Frames of this class that were for control and could not be handed over.
    pub fn punt_drops(&self, class: PuntClass) -> u64 {
        self.punt_drops[class as usize].get()
    }

    /// Counts frames that were sent for `owner`.
    pub fn inject(&self, owner: Owner, count: u64) {
        self.injected[owner as usize].add(count);
    }

    /// Frames that were sent for `owner`.
    pub fn injected(&self, owner: Owner) -> u64 {
        self.injected[owner as usize].get()
    }

    /// Counts what was found on a control connection.
    pub fn helped(&self, what: Helped) {
        self.helped[what as usize].add(1);
    }

    /// How often this was found on control connections.
    pub fn found_by_helpers(&self, what: Helped) -> u64 {
        self.helped[what as usize].get()
    }

    /// Frames answered with `answer`.
    pub fn answers(&self, answer: Answer) -> u64 {
        self.answers[answer as usize].get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn what_a_worker_counts_shares_no_line_with_another() {
        let workers: Vec<_> = (0..4).map(|_| std::sync::Arc::new(WorkerCounters::new(2))).collect();
        let mut owners = std::collections::HashMap::new();
        for (number, counters) in workers.iter().enumerate() {
            let own = std::ptr::from_ref(&**counters) as usize;
            let ports = counters.ports.as_ptr() as usize;
            for (start, len) in
                [(own, size_of::<WorkerCounters>()), (ports, size_of_val::<[_]>(&counters.ports))]
            {
                assert_eq!(start % 128, 0, "counters begin with a pair of lines");
                assert_eq!(len % 128, 0, "and end with one");
                for pair in start / 128..(start + len) / 128 {
                    assert_eq!(*owners.entry(pair).or_insert(number), number);
                }
            }
        }
    }

    #[test]
    fn labels_are_unique_words() {
        let labels: HashSet<_> = DropReason::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), DropReason::ALL.len());
        assert!(labels.iter().all(|label| label.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_'))));
    }

    #[test]
    fn every_drop_reason_is_used_on_the_path() {
        let sources = [
            include_str!("parse.rs"),
            include_str!("parse/v6.rs"),
            include_str!("parse/pieces.rs"),
            include_str!("director/pieces.rs"),
            include_str!("classify.rs"),
            include_str!("director/mod.rs"),
            include_str!("director/answer.rs"),
            include_str!("director/ipv6.rs"),
            include_str!("director/reply.rs"),
            include_str!("director/open.rs"),
            include_str!("director/request.rs"),
            include_str!("director/upkeep.rs"),
            include_str!("director/punt.rs"),
            include_str!("director/ftp.rs"),
            include_str!("director/calls.rs"),
            include_str!("punt/mod.rs"),
            include_str!("snapshot/advertisers.rs"),
            include_str!("neighbor/mod.rs"),
            include_str!("rewrite/mod.rs"),
            include_str!("rewrite/quoted.rs"),
            include_str!("reply/mod.rs"),
            include_str!("reply/arp.rs"),
            include_str!("reply/nd.rs"),
            include_str!("worker.rs"),
        ];
        for reason in DropReason::ALL {
            let name = format!("DropReason::{reason:?}");
            assert!(sources.iter().any(|source| source.contains(&name)), "{name} is never used");
        }
    }
}
