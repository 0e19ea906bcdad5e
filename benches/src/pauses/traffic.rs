//! Frames that are made in place of others: another client, another virtual server.

use weir_benches::frames::{CLIENT, VIP, VIP6, client6, tcp, tcp6};
use weir_dataplane::address::Addr4;
use weir_dataplane::wire::l4::flags::{ACK, SYN};

/// Where the virtual servers' addresses begin.
pub(crate) const VIPS: Addr4 = Addr4::new(198, 18, 0, 0);

/// A TCP flow: whose, and to whom.
#[derive(Clone, Copy)]
pub(crate) struct Flow {
    pub(crate) client: Addr4,
    pub(crate) client_port: u16,
    pub(crate) vip: Addr4,
}

impl Flow {
    /// Flow number `flow` to the one virtual server. The numbers are scattered over 100.64.0.0/10 and 32,768 ports.
    pub(crate) fn of_one(flow: u64) -> Self {
        let scattered = (flow + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
        // Different for different flows: the lower bits are the number's own.
        let bits = (flow & 0x1f_ffff_ffff) ^ (scattered << 25 & 0x1f_fe00_0000);
        Self {
            client: CLIENT.plus((bits >> 15) as u32 & 0x3f_ffff),
            client_port: 0x8000 | bits as u16 & 0x7fff,
            vip: VIP,
        }
    }

    /// As [`Flow::of_one`], the flows' virtual servers taking turns in a scattered order.
    pub(crate) fn of_many(flow: u64, services: u64) -> Self {
        Self { vip: VIPS.plus((flow.wrapping_mul(4_099) % services) as u32), ..Self::of_one(flow) }
    }

    /// One of four connections of client number `flow / 4`.
    pub(crate) fn of_client(flow: u64) -> Self {
        let client = CLIENT.plus(((flow >> 2) as u32).wrapping_mul(0x9e37_79b1) % 0x40_0000);
        Self { client, client_port: 0x8000 | (flow & 3) as u16, vip: VIP }
    }
}

/// Frames to be filled in.
pub(crate) struct Segments {
    syn: Vec<u8>,
    ack: Vec<u8>,
    syn6: Vec<u8>,
    ack6: Vec<u8>,
}

/// What a segment is in its connection.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    First,
    Middle,
    /// The same over IPv6, to its one virtual server.
    First6,
    Middle6,
}

impl Segments {
    pub(crate) fn new() -> Self {
        let of = |flags| tcp((Addr4::UNSPECIFIED, 0), (VIP, 80), flags);
        let of6 = |flags| tcp6(client6(0), (VIP6, 80), flags);
        Self { syn: of(SYN), ack: of(ACK), syn6: of6(SYN), ack6: of6(ACK) }
    }

    /// The frame of this kind, with the ends of a flow.
    pub(crate) fn of(&mut self, kind: Kind, flow: Flow) -> &[u8] {
        let frame = match kind {
            Kind::First => &mut self.syn,
            Kind::Middle => &mut self.ack,
            Kind::First6 => return of_ipv6(&mut self.syn6, flow),
            Kind::Middle6 => return of_ipv6(&mut self.ack6, flow),
        };
        frame[26..30].copy_from_slice(&flow.client.octets());
        frame[30..34].copy_from_slice(&flow.vip.octets());
        frame[34..36].copy_from_slice(&flow.client_port.to_be_bytes());
        frame[24..26].fill(0);
        let sum: u32 = frame[14..34].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    }
}

/// Puts a flow's client into a frame of IPv6: its bits are the last ones of the address. Nobody looks at the checksum.
fn of_ipv6(frame: &mut [u8], flow: Flow) -> &[u8] {
    frame[34..38].copy_from_slice(&flow.client.octets());
    frame[54..56].copy_from_slice(&flow.client_port.to_be_bytes());
    frame
}
