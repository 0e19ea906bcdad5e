//! Packets of IPv6 to virtual servers: read, told whose they are, and passed on.
//!
//! From there on they take the way of any packet: what looks a connection up, opens it, counts it and ends it knows
//! addresses by numbers, which stand for those of IPv6 as well (`address.rs`). A client's number is looked up again right
//! before that, and the number that its record names, of this worker's own table, is its own for as long as the record is
//! there: so the address decides, and nothing else. Where another worker's table is searched, the number is that worker's.
//! An address of ours that is a client as well has a number as that, which means nothing but a client's.
//!
//! Where the addresses themselves are wanted, they are read from the frame again, or taken from [`Director::ends6`]: what is
//! known of a packet of IPv4 is no larger for them.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use weir_config::model::Forwarding;

use super::request::{Course, course, outer};
use super::{Context, Director, Pass, Passed, Reading, Step, foreign, trim_surplus};
use crate::address::Addr4;
use crate::classify::{Class, Lookup};
use crate::clock::Now;
use crate::conn::record::{Key, Record, ServerId};
use crate::conn::table::View;
use crate::limit::Asker;
use crate::packet::{Frame, Wire};
use crate::parse::options6::Refused;
use crate::parse::plain6::words;
use crate::parse::v6::{self, Ends6};
use crate::parse::{Packet, Quoted, Within};
use crate::reply;
use crate::rewrite::far::{Outer6, ipv6_into_tunnel, ipv6_into_tunnel6};
use crate::rewrite::{ipv6_mut, nat6, quoted};
use crate::sched::PickKey;
use crate::sched::untracked::FlowHash;
use crate::snapshot::far::{Far, Way6};
use crate::snapshot::server::Server;
use crate::snapshot::service::Service;
use crate::snapshot::{Ends, Local, Port, Snapshot};
use crate::stats::DropReason;
use crate::wire::ethernet::Vlan;
use crate::wire::icmp6::{ICMPV6, kind};
use crate::wire::ipv4;
use crate::wire::ipv6::{HEADER_LEN, MTU_MIN};

impl<F: Frame> Director<F> {
    /// First round of an IPv6 frame.
    #[inline(never)]
    pub(super) fn read_ipv6(&mut self, frame: &F, reading: &mut Reading, context: Context<'_>) -> Step {
        let Reading { packet, lookup, .. } = reading;
        let Context { snapshot, port: number, .. } = context;
        // What is to no virtual server's address is VRRP's, discovery's or the host's, if it is anybody's.
        let others = Step::Drop(DropReason::EtherType);
        let bytes = frame.bytes();
        let Ok(ends) = v6::ends(bytes, packet.vlan.header_len()) else { return others };
        if !(snapshot.serves_ipv6() && snapshot.is_vip6(ends.destination)) {
            let own = snapshot.number6(ends.destination).and_then(|number| snapshot.local(number));
            return match own {
                Some(_) => self.read_own6(frame, packet, ends, context).unwrap_or(others),
                None => self.read_back6(frame, packet, ends, context).unwrap_or(others),
            };
        }
        let port = &snapshot.ports[number];
        if !is_for6(bytes, port) {
            *packet = Packet { vlan: packet.vlan, ..Packet::default() };
            return Step::Drop(foreign(bytes, port));
        }
        *packet = match v6::parse(bytes, frame.len(), packet.vlan) {
            Ok(packet) => packet,
            Err(reason) => return Step::Drop(reason),
        };
        if ends.source == ends.destination {
            return Step::Drop(DropReason::OwnSource);
        }
        packet.source = self.number6(ends.source);
        packet.destination = number_of_vip6(ends.destination, snapshot);
        self.ends6 = ends;
        match (packet.protocol, packet.flags) {
            (ICMPV6, kind::ECHO_REQUEST..) | (ipv4::VRRP, _) => others,
            (ICMPV6, _) => Step::Ipv6(Class::IcmpError),
            _ => match self.classify6(packet, lookup, snapshot) {
                Some(class) => Step::Ipv6(class),
                None => self.read_back6(frame, packet, ends, context).unwrap_or(others),
            },
        }
    }

    /// First round of a frame to an own address, at a port without a host interface: answered as a host answers where nothing listens.
    /// `None`: it is for VRRP or discovery, or for nobody.
    #[cold]
    pub(super) fn read_own6(
        &self,
        frame: &impl Frame,
        packet: &mut Packet,
        ends: Ends6,
        Context { snapshot, port: number, .. }: Context<'_>,
    ) -> Option<Step> {
        let port = &snapshot.ports[number];
        // Those of a link are ours on that link alone.
        let is_here =
            !ends.destination.is_unicast_link_local() || snapshot.local6(number, ends.destination).is_some();
        if !is_here || port.has_host || !is_for6(frame.bytes(), port) {
            return None;
        }
        let has_other_reader = |protocol| matches!(protocol, ICMPV6 | ipv4::VRRP);
        let (read, refused) = match v6::parse_all(frame.bytes(), frame.len(), packet.vlan) {
            Ok(read) => read,
            Err(DropReason::Fragment) => return None,
            Err(_) if has_other_reader(v6::first_header(frame.bytes(), packet.vlan.header_len())?) => {
                return None;
            }
            Err(reason) => return Some(Step::Drop(reason)),
        };
        if has_other_reader(read.protocol) {
            return None;
        }
        if refused.is_some() {
            return Some(Step::Drop(DropReason::UnknownOption));
        }
        *packet = read;
        packet.source = self.number6(ends.source);
        packet.destination = number_of_vip6(ends.destination, snapshot);
        Some(Step::Ipv6(Class::Local))
    }

    /// First round of a frame to none of our addresses: a NAT real server's packet to its client, or an error about a client's to
    /// it. `None`: it is neither.
    pub(super) fn read_back6(
        &self,
        frame: &impl Frame,
        packet: &mut Packet,
        ends: Ends6,
        context: Context<'_>,
    ) -> Option<Step> {
        let Context { snapshot, port: number, .. } = context;
        let may_be_back = ends.source != ends.destination
            && snapshot.has_nat6()
            && v6::may_be_source(ends.destination)
            && is_for6(frame.bytes(), &snapshot.ports[number]);
        if !may_be_back {
            return None;
        }
        let (mut read, refused) = match v6::parse_all(frame.bytes(), frame.len(), packet.vlan) {
            Err(DropReason::Fragment) => return Some(Step::Drop(DropReason::Fragment)),
            read => read.ok()?,
        };
        let class = match (read.protocol, read.flags) {
            (ICMPV6, ..kind::ECHO_REQUEST) => Class::IcmpError,
            _ => {
                snapshot.nat_server6(ends.source, read.source_port, read.protocol)?;
                Class::Reply
            }
        };
        if refused.is_some() {
            return Some(Step::Drop(DropReason::UnknownOption));
        }
        read.destination = self.number6(ends.destination);
        *packet = read;
        Some(Step::Ipv6(class))
    }

    /// As [`crate::classify::classify`], of an IPv6 packet to a VIP or an address of a mark. `None`: it is nobody's here.
    pub(super) fn classify6(
        &self,
        packet: &Packet,
        lookup: &mut Lookup,
        snapshot: &Snapshot,
    ) -> Option<Class> {
        let &Packet { source, destination, destination_port, protocol, .. } = packet;
        let ends = Ends { source, destination, destination_port, protocol };
        let Some(found) = self.lookup(&ends, packet.source_port, snapshot) else {
            return snapshot.local(destination).map(|_| Class::Local);
        };
        self.table.prefetch(found.hash);
        *lookup = found;
        Some(Class::Request)
    }

    /// Reads a check of the host's, which goes as a client's packet.
    #[cold]
    pub(super) fn read_probe6(
        &mut self,
        frame: &F,
        packet: &mut Packet,
        snapshot: &Snapshot,
    ) -> Result<(), DropReason> {
        self.ends6 = v6::ends(frame.bytes(), packet.vlan.header_len())?;
        *packet = v6::parse(frame.bytes(), frame.len(), packet.vlan)?;
        packet.source = self.number6(self.ends6.source);
        packet.destination = number_of_vip6(self.ends6.destination, snapshot);
        Ok(())
    }

    /// What stands for the address of a client, which may be one of ours as well.
    pub(super) fn number6(&self, address: Ipv6Addr) -> Addr4 {
        self.table.clients.number(address).unwrap_or(Addr4::STRANGER6)
    }

    /// What a client is among our addresses: that of IPv6 is the one of [`Director::ends6`].
    #[inline]
    pub(super) fn local_client(&self, client: Addr4, snapshot: &Snapshot) -> Option<Local> {
        match client.is_of_ipv6() {
            true => self.local_client6(snapshot),
            false => snapshot.local(client),
        }
    }

    #[cold]
    fn local_client6(&self, snapshot: &Snapshot) -> Option<Local> {
        snapshot.local(snapshot.number6(self.ends6.source)?)
    }

    /// Third round of an IPv6 packet.
    #[inline(never)]
    pub(super) fn take_ipv6<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        (packet, lookup): (&Packet, &Lookup),
        class: Class,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let (mut packet, mut lookup) = (*packet, *lookup);
        self.ends6 = match v6::ends(frame.bytes(), packet.l3()) {
            Ok(ends) => ends,
            Err(reason) => return Err((frame, reason)),
        };
        if class == Class::Reply {
            let ends = self.ends6;
            return self.reply6(frame, &packet, ends, pass);
        }
        let source = self.ends6.source;
        // A packet before it in the burst may have opened its connection, or ended that of another client.
        packet.source = match class {
            Class::Request => self.table.clients.take(source),
            _ => self.number6(source),
        };
        lookup.key = lookup.key.with_client(packet.source);
        lookup.hash = self.table.hash(lookup.key.hash_input());
        self.port6 = pass.context.port;
        let passed = match class {
            Class::Request if self.is_off_link(&packet, &lookup, pass.context) => {
                Err((frame, DropReason::LinkLocal))
            }
            Class::Request => self.request(frame, &packet, &lookup, pass),
            class => self.answer_or_drop(frame, &packet, class, pass),
        };
        self.table.clients.settle();
        passed
    }

    /// Whether a client's packet comes from an address that means something on its link alone, and belongs by its ends to a connection
    /// with a real server that is not there: it may be of another host, on another link, and does nothing to that.
    #[inline]
    fn is_off_link(&self, packet: &Packet, lookup: &Lookup, context: Context<'_>) -> bool {
        self.ends6.source.is_unicast_link_local() && self.has_course_off_link(packet, lookup, context)
    }

    #[cold]
    fn has_course_off_link(&self, packet: &Packet, lookup: &Lookup, context: Context<'_>) -> bool {
        let Context { snapshot, now, port } = context;
        let find = |key: Key| {
            let own = self.table.find(self.table.hash(key.hash_input()), key).map(|(_, record)| record);
            own.or_else(|| self.find_elsewhere6(key, packet.source_port).map(|(_, record)| record))
        };
        let record = self.keys_of(lookup.key, packet.destination, snapshot).find_map(find);
        match record.map(|record| course(packet, record, snapshot, now)) {
            Some(Course::GoesOn(server)) => leaves_its_link(self.ends6.source, server, port),
            _ => false,
        }
    }

    /// Whether the packet under way may be sent to this real server: not from another link, if its source means something there alone.
    pub(super) fn may_reach6(&self, server: ServerId, snapshot: &Snapshot) -> bool {
        let source = self.ends6.source;
        !source.is_unicast_link_local() || !leaves_its_link(source, snapshot.server(server), self.port6)
    }

    /// No real server takes a packet that may open a connection: none has a weight, or it comes from another link than theirs.
    #[cold]
    pub(super) fn refused<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        service: &Service,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let snapshot = pass.context.snapshot;
        let is_out_of_reach =
            |server: ServerId| snapshot.server(server).weight > 0 && !self.may_reach6(server, snapshot);
        let is_of_a_link = packet.is_of_ipv6() && self.ends6.source.is_unicast_link_local();
        if is_of_a_link && service.list.iter().any(|candidate| is_out_of_reach(candidate.id)) {
            return Err((frame, DropReason::LinkLocal));
        }
        self.answer_error(frame, packet, reply::Error::PORT_UNREACHABLE, pass)
    }

    /// Drops a packet that an option keeps from going on, by what `refused` says or else its options for every hop, and tells its
    /// sender if the option asks for that.
    #[cold]
    pub(super) fn refuse<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        vlan: Vlan,
        refused: Option<Refused>,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let Context { snapshot, port, .. } = pass.context;
        let read = v6::parse_all(frame.bytes(), frame.len(), vlan);
        let ends = v6::ends(frame.bytes(), vlan.header_len());
        let (Ok((packet, of_hops)), Ok(ends)) = (read, ends) else {
            return Err((frame, DropReason::UnknownOption));
        };
        let is_own = snapshot.number6(ends.source).is_some_and(|number| snapshot.local(number).is_some());
        if is_own || ends.source == ends.destination {
            return Err((frame, DropReason::OwnSource));
        }
        // What was to a group is answered from an address of the port's.
        let has_source =
            !ends.destination.is_multicast() || snapshot.ports[port].address_towards6(ends.source).is_some();
        match refused.or(of_hops) {
            Some(refused) if has_source && refused.is_told(ends.destination) => {
                let error = reply::Error::parameter_problem(refused.code, refused.pointer);
                self.answer_error(frame, &packet, error, pass)
            }
            _ => Err((frame, DropReason::UnknownOption)),
        }
    }

    /// As [`Director::unasked`].
    #[cold]
    pub(super) fn unasked6<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        if pass.context.snapshot.local(packet.destination).is_some() {
            return self.answer_or_drop(frame, packet, Class::Local, pass);
        }
        match self.reply_to6(packet, pass.context.snapshot) {
            Some(ends) => self.reply6(frame, packet, ends, pass),
            None => self.punt_or_drop(frame, packet, DropReason::EtherType, pass),
        }
    }

    /// Passes a client's packet on to its real server, which is counted already.
    #[inline(never)]
    pub(super) fn forward6<W: Wire<Frame = F>>(
        &mut self,
        asker: Asker,
        mut frame: F,
        packet: &Packet,
        server: &Server,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let Context { snapshot, now, .. } = pass.context;
        if server.exit().is_none() {
            return Err((frame, DropReason::NoRoute));
        }
        let source = v6::ends(frame.bytes(), packet.l3()).map_or(self.ends6.source, |ends| ends.source);
        if leaves_its_link(source, server, pass.context.port) {
            return Err((frame, DropReason::LinkLocal));
        }
        if let Err(reason) = trim_surplus(&mut frame, packet) {
            return Err((frame, reason));
        }
        let header = match ipv6_mut(frame.bytes_mut(), packet.l3()) {
            Ok(header) => header,
            Err(reason) => return Err((frame, reason)),
        };
        if header.hop_limit <= 1 {
            return self.answer_error_to(asker, frame, packet, reply::Error::TIME_EXCEEDED, pass);
        }
        header.hop_limit -= 1;
        let is_too_big = packet.total_len > server.mtu;
        if is_too_big && !is_cut(packet, server) {
            let error = reply::Error::fragmentation_needed(server.mtu.max(MTU_MIN));
            return self.answer_error_to(asker, frame, packet, error, pass);
        }
        if packet.is_syn() {
            self.clamp_request(&mut frame, packet, server, pass.context);
        }
        let (hint, client) = (&server.tallies[self.shared.worker].neighbor, (packet, self.ends6));
        let Some(far) = server.far.as_deref() else {
            let outer = outer(server, snapshot, self.idents.next4());
            if let Err(reason) = ipv6_into_tunnel(&mut frame, client, &outer) {
                return Err((frame, reason));
            }
            let hop = server.hop.on(packet.vlan.network());
            return match is_too_big {
                true => self.send_in_pieces(frame, packet, hint, hop, pass),
                false => self.send_to_server(frame, packet.vlan, (server, hint), hop, pass),
            };
        };
        let Some(way) = far.way else { return Err((frame, DropReason::NoRoute)) };
        let is_narrow = exceeds_all_ways(packet, server) && server.live.is_narrow(now);
        let mtu = snapshot.ports[usize::from(way.hop.port())].mtu.min(MTU_MIN);
        let pieces = (is_too_big || is_narrow && is_cut(packet, server)).then_some(mtu);
        if server.forwarding == Forwarding::Nat
            && !frame.is_contiguous()
            && let Err(reason) = nat6::give_checksum(&mut frame, packet)
        {
            return Err((frame, reason));
        }
        let rewritten = match server.forwarding {
            Forwarding::Dr => Ok(()),
            Forwarding::Nat if server.is_helped() => {
                self.translate_helped(&mut frame, packet, server, pass.context)
            }
            Forwarding::Nat => nat6::to_server(frame.bytes_mut(), packet, far.address, server.port),
            Forwarding::Tun => {
                let outer = Outer6 { encap: server.encap, source: way.source, destination: far.address };
                ipv6_into_tunnel6(&mut frame, client, &outer)
            }
        };
        if let Err(reason) = rewritten {
            return Err((frame, reason));
        }
        self.send_to_far(frame, packet, (hint, way, far.bound), pieces, pass)
    }

    /// Reads a packet of a client's that lies in a tunnel packet which an error quotes.
    #[cold]
    pub(super) fn read_inner6(
        &mut self,
        message: Within<'_>,
        l3: usize,
        snapshot: &Snapshot,
    ) -> Result<Quoted, DropReason> {
        let (mut quoted, ends) = v6::parse_quoted(message, l3)?;
        self.ends6 = ends;
        quoted.source = self.number6(ends.source);
        quoted.destination = number_of_vip6(ends.destination, snapshot);
        Ok(quoted)
    }

    /// As [`Director::may_be_moving`]: devices that spread packets by their ports may find none behind extension headers.
    #[cold]
    pub(super) fn may_be_moving6(&self, packet: &Packet) -> bool {
        self.views.len() > 1 && is_behind_extensions(packet)
    }

    /// A packet opens a connection. If it stands behind extension headers, others of its flow that do not come to other workers for as long
    /// as the connection lives.
    #[cold]
    pub(super) fn note_extended(&self, packet: &Packet, context: Context<'_>) {
        if packet.is_of_ipv6() && !self.shared.flows_move && is_behind_extensions(packet) {
            self.note_displaced(packet, context);
        }
    }

    /// The connection with this key, of the client of [`Director::ends6`], among those of the other workers, with its owner's
    /// number.
    #[cold]
    pub(super) fn find_elsewhere6(&self, key: Key, client_port: u16) -> Option<(usize, Record)> {
        let client = self.ends6.source;
        let mut others = self.views.iter().enumerate().filter(|(worker, _)| *worker != self.shared.worker);
        others.find_map(|(worker, view)| {
            let number = view.clients().number(client)?;
            let key = key.with_client(number);
            let is_its = |record: Record| record.lookup_key() == key;
            let hash = self.table.hash(key.hash_input());
            let record = view.find_reply(hash, number, client_port, is_its)?;
            // Unless the number became another address's meanwhile.
            (view.client(record) == Some(client.into())).then_some((worker, record))
        })
    }

    /// What flows of the client of [`Director::ends6`] are remembered by that were turned away. Its number is each worker's own, and may be
    /// another one's by then.
    #[cold]
    pub(super) fn turned_by6(&self, key: Key) -> u64 {
        self.turned_by_address(self.ends6.source, key.with_client(Addr4::UNSPECIFIED).hash_input())
    }

    /// The same of any client, by what would be the input of the hash of a client without an address.
    pub(super) fn turned_by_address(&self, client: Ipv6Addr, input: u64) -> u64 {
        words(client).into_iter().fold(input, |input, word| self.table.hash(input ^ word).rotate_left(7))
    }

    /// The hash of a flow of the client of [`Director::ends6`] in the table of another worker. `None`: that does not know the client.
    #[cold]
    pub(super) fn hash_elsewhere6(&self, view: &View, key: Key) -> Option<u64> {
        let number = view.clients().number(self.ends6.source)?;
        Some(self.table.hash(key.with_client(number).hash_input()))
    }

    /// As [`super::open::pick_key`], of a packet of the client of [`Director::ends6`].
    #[cold]
    pub(super) fn pick_key6(&self, packet: &Packet, now: Now) -> PickKey {
        PickKey {
            source: self.ends6.source.into(),
            destination: self.ends6.destination.into(),
            source_port: packet.source_port,
            now_secs: now.seconds,
        }
    }

    /// As [`super::persist::pick_by_hash`], likewise.
    #[cold]
    pub(super) fn pick_by_hash6(&self, packet: &Packet, service: &Service) -> Option<ServerId> {
        let Ends6 { source, destination } = self.ends6;
        let owner = service.owner(source.into(), packet.source_port);
        let ends = [(source, packet.source_port), (destination, packet.destination_port)];
        owner.or_else(|| service.pick_untracked(FlowHash::of_ipv6(ends, packet.protocol)))
    }
}

/// Whether a packet from there would go to its real server by another link than its own, though its source means something there
/// alone (RFC 4291 section 2.5.6): by another port, a router or a tunnel.
pub(super) fn leaves_its_link(source: Ipv6Addr, server: &Server, port: usize) -> bool {
    let is_on_link = |far: &Far| {
        far.way
            .is_some_and(|Way6 { hop, .. }| usize::from(hop.port()) == port && hop.address() == far.address)
    };
    source.is_unicast_link_local()
        && (server.forwarding == Forwarding::Tun || !server.far.as_deref().is_some_and(is_on_link))
}

/// Has an error of a router that has but a link-local address come from weir's own address on that link, where the real server is not on it:
/// the connection needs what the error says, such as a smaller MTU, and the router's address means nothing there. Without an address of
/// weir's that does, the error stays as it is, and on its link.
#[cold]
pub(super) fn give_wide_source<F: Frame>(
    frame: &mut F,
    packet: &Packet,
    server: &Server,
    context: Context<'_>,
) -> Result<(), DropReason> {
    let source = v6::ends(frame.bytes(), packet.l3())?.source;
    if !leaves_its_link(source, server, context.port) {
        return Ok(());
    }
    let addresses = &context.snapshot.ports[context.port].addresses6;
    let wide = addresses.iter().map(Ipv6Net::addr).find(|address| !address.is_unicast_link_local());
    wide.map_or(Ok(()), |wide| quoted::set_source6(frame.bytes_mut(), packet, wide))
}

/// Whether there are links of IPv6 that do not take the packet in the tunnel to its real server.
pub(super) fn exceeds_all_ways(packet: &Packet, server: &Server) -> bool {
    let len = usize::from(packet.total_len) + server.encap.header_len6();
    server.forwarding == Forwarding::Tun && len > usize::from(MTU_MIN)
}

/// Whether a packet that is too big for the way to its real server gets there all the same: of a tunnel the outer packet is cut,
/// where its sender has nothing to make smaller, since every link of its takes that much (RFC 2473 section 7.1).
pub(super) fn is_cut(packet: &Packet, server: &Server) -> bool {
    server.forwarding == Forwarding::Tun && packet.total_len <= MTU_MIN
}

/// Whether extension headers lie before a packet's transport header.
fn is_behind_extensions(packet: &Packet) -> bool {
    packet.l4() != packet.l3() + HEADER_LEN
}

/// What stands for the address that a client talks to.
pub(super) fn number_of_vip6(address: Ipv6Addr, snapshot: &Snapshot) -> Addr4 {
    snapshot.number6(address).unwrap_or(Addr4::WIDE6)
}

/// As [`super::is_for`], of an IPv6 frame.
#[inline]
pub(super) fn is_for6(bytes: &[u8], port: &Port) -> bool {
    let Some(macs) = bytes.first_chunk::<12>() else { return false };
    macs[6] & 1 == 0 && (macs.starts_with(&port.mac.0) || port.virtual_macs.receives6(macs))
}
