//! What is not forwarded but answered: ARP, echo, ICMP errors and RSTs of our own, and ICMP errors of others about
//! our connections.

use weir_config::model::{Family, Forwarding};
use zerocopy::FromBytes;

use super::ipv6::give_wide_source;
use super::send::pieces_of;
use super::untracked::Quotes;
use super::{Context, Director, Event, Message, Pass, Passed, trim_surplus};
use crate::address::Addr4;
use crate::classify::Class;
use crate::conn::record::{Key, Record};
use crate::limit::Asker;
use crate::neighbor::{Heard, Hop, Hop6, NextHop};
use crate::packet::{Frame, Wire};
use crate::parse::pieces::{LATER, is_later_piece, is_piece};
use crate::parse::v6::{self, Transport};
use crate::parse::{Packet, Quoted, Within, parse_quoted};
use crate::reply::tunnel6::AboutTunnel;
use crate::reply::{self, arp, mld, nd};
use crate::rewrite::{ipv4_mut, quoted};
use crate::snapshot::server::{Gauge, Server};
use crate::snapshot::{Ends, Snapshot, protocol};
use crate::stats::{Answer, DropReason};
use crate::wire::encap::{Encap, Flow};
use crate::wire::ethernet::Vlan;
use crate::wire::icmp6::{ICMPV6, kind};
use crate::wire::ipv4;
use crate::wire::ipv6::next;
use crate::wire::l4::{Icmp, flags, icmp};
use crate::wire::sctp;

impl<F: Frame> Director<F> {
    /// Everything but requests and replies.
    #[cold]
    pub(super) fn answer_or_drop<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        class: Class,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        if let Some(punted) = self.punted_class(frame.bytes(), packet, class, pass.context) {
            return self.hand_over(frame, punted, pass);
        }
        let is_own_source = self.local_client(packet.source, pass.context.snapshot).is_some();
        match class {
            Class::Echo | Class::IcmpError | Class::Local if is_own_source => {
                Err((frame, DropReason::OwnSource))
            }
            Class::Echo | Class::Local
                if pass
                    .context
                    .snapshot
                    .local(packet.destination)
                    .is_some_and(|local| !local.is_accepted()) =>
            {
                Err((frame, DropReason::NotAccepted))
            }
            Class::Echo => self.answer_echo(frame, packet, pass),
            Class::IcmpError => {
                let passed = self.icmp_error(frame, packet, pass);
                self.punt_stray_error(passed, packet, pass)
            }
            Class::Local => self.answer_local(frame, packet, pass),
            Class::Drop(reason) => Err((frame, reason)),
            Class::Request | Class::Reply => Err((frame, DropReason::NotServed)),
        }
    }

    fn answer_echo<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        packet: &Packet,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        if !quoted::checksum_is_right(&frame, packet) {
            return Err((frame, DropReason::BadL4Header));
        }
        let port = &pass.context.snapshot.ports[pass.context.port];
        let made = trim_surplus(&mut frame, packet)
            .and_then(|()| reply::echo(&mut frame, packet, port.mac, self.echo_idents.next4()));
        match made {
            Ok(()) if packet.total_len > port.mtu => self.send_echo_in_pieces(frame, packet, pass),
            Ok(()) => self.send_answer(frame, Answer::Echo, pass),
            Err(reason) => Err((frame, reason)),
        }
    }

    /// A device may give more than its port may send.
    fn send_echo_in_pieces<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let mtu = usize::from(pass.context.snapshot.ports[pass.context.port].mtu);
        let pieces = match pieces_of(&frame, packet, mtu, pass.wire) {
            Ok(pieces) => pieces,
            Err(reason) => return Err((frame, reason)),
        };
        self.shared.counters.answer(Answer::Echo);
        pieces.into_iter().for_each(|piece| pass.wire.transmit(pass.context.port, piece));
        pass.wire.release(frame);
        Ok(())
    }

    /// To an address of ours where nothing listens: as a host answers.
    #[cold]
    pub(super) fn answer_local<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        packet: &Packet,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        if packet.is_of_ipv6() {
            // Here is its destination, so its options are looked at before what is behind them.
            match v6::transport(frame.bytes(), packet.l3()) {
                Ok(Transport { refused: None, .. }) => {}
                Ok(Transport { refused, .. }) => return self.refuse(frame, packet.vlan, refused, pass),
                Err(reason) => return Err((frame, reason)),
            }
        }
        match packet.protocol {
            // Neither its sum nor its length is known.
            ipv4::TCP | ipv4::UDP if is_piece(frame.bytes(), packet) => Err((frame, DropReason::NotServed)),
            ipv4::TCP if packet.flags & flags::RST != 0 => Err((frame, DropReason::NotServed)),
            // A sum over all octets is for what may be answered.
            ipv4::TCP if !self.resets.has(pass.context.now) => Err((frame, DropReason::IcmpRateLimited)),
            ipv4::UDP
                if !self.icmp_errors.has(Answer::PortUnreachable, Asker::Stranger, pass.context.now) =>
            {
                Err((frame, DropReason::IcmpRateLimited))
            }
            ipv4::TCP | ipv4::UDP if !reply::is_intact(&frame, packet) => {
                Err((frame, DropReason::BadL4Header))
            }
            ipv4::TCP => {
                self.resets.take(pass.context.now);
                let mac = pass.context.snapshot.ports[pass.context.port].mac;
                match reply::reset(&mut frame, packet, mac) {
                    Ok(()) => self.send_answer(frame, Answer::TcpReset, pass),
                    Err(reason) => Err((frame, reason)),
                }
            }
            ipv4::UDP => self.answer_error(frame, packet, reply::Error::PORT_UNREACHABLE, pass),
            ipv4::ICMP | ICMPV6 => Err((frame, DropReason::NotServed)),
            // RFC 8200 section 4.7: there is nothing behind the headers, and so nothing that nobody speaks.
            next::NONE if packet.is_of_ipv6() => Err((frame, DropReason::NotServed)),
            // RFC 9260 section 8.4: an ABORT out of the blue is not answered.
            ipv4::SCTP if packet.flags == sctp::Event::Abort as u8 => Err((frame, DropReason::NotServed)),
            _ => self.answer_error(frame, packet, reply::Error::PROTOCOL_UNREACHABLE, pass),
        }
    }

    /// Answers a stranger's packet with an ICMP error: see [`Director::answer_error_to`].
    #[cold]
    pub(super) fn answer_error<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        error: reply::Error,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        self.answer_error_to(Asker::Stranger, frame, packet, error, pass)
    }

    /// Answers a packet with an ICMP error, unless it may not have one (RFC 1122 section 3.2.2) or too many were sent.
    #[cold]
    pub(super) fn answer_error_to<W: Wire<Frame = F>>(
        &mut self,
        asker: Asker,
        mut frame: F,
        packet: &Packet,
        error: reply::Error,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let answer = match (error.kind, error.code) {
            (icmp::TIME_EXCEEDED, _) => Answer::TimeExceeded,
            (icmp::PARAMETER_PROBLEM, _) => Answer::ParameterProblem,
            (_, icmp::FRAGMENTATION_NEEDED) => Answer::FragmentationNeeded,
            _ => Answer::PortUnreachable,
        };
        // Of ICMP only echo requests are told: the types of either family are others in the other one. Of pieces the first.
        let is_told = match packet.protocol {
            LATER => !is_later_piece(frame.bytes(), packet),
            ipv4::ICMP => packet.flags == icmp::ECHO_REQUEST,
            ICMPV6 => packet.flags == kind::ECHO_REQUEST,
            _ => true,
        };
        if !is_told {
            let reason = match answer {
                Answer::TimeExceeded => DropReason::TtlExceeded,
                Answer::FragmentationNeeded => DropReason::TooBig,
                Answer::ParameterProblem => DropReason::UnknownOption,
                _ => DropReason::NotServed,
            };
            return Err((frame, reason));
        }
        if !self.icmp_errors.take(answer, asker, pass.context.now) {
            return Err((frame, DropReason::IcmpRateLimited));
        }
        let port = &pass.context.snapshot.ports[pass.context.port];
        if packet.is_of_ipv6() {
            return match reply::v6::error(&mut frame, packet, error, port) {
                Ok(()) => self.send_answer(frame, answer, pass),
                Err(reason) => Err((frame, reason)),
            };
        }
        let source = match speaks_for_destination(packet, pass.context.snapshot) {
            true => Some(packet.destination),
            false => port.address_towards(packet.source),
        };
        let Some(source) = source else { return Err((frame, DropReason::NotServed)) };
        match reply::error(&mut frame, packet, error, source, port.mac) {
            Ok(()) => self.send_answer(frame, answer, pass),
            Err(reason) => Err((frame, reason)),
        }
    }

    fn send_answer<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        answer: Answer,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        self.shared.counters.answer(answer);
        pass.wire.answers();
        pass.wire.transmit(pass.context.port, frame);
        Ok(())
    }

    /// An ICMP error of somebody else: to the end that caused it.
    fn icmp_error<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        if !quoted::checksum_is_right(&frame, packet) {
            return Err((frame, DropReason::BadL4Header));
        }
        if packet.is_of_ipv6() {
            return self.icmp_error6(frame, packet, pass);
        }
        let quoted = match parse_quoted(packet.within(frame.bytes()), quoted::quote_offset(packet)) {
            Ok(quoted) => quoted,
            Err(reason) => return Err((frame, reason)),
        };
        // Whoever notices tells the sender (RFC 792). Passed on to anybody else it would have weir look for its own addresses.
        if packet.destination != quoted.source {
            return Err((frame, DropReason::StrayIcmp));
        }
        let snapshot = pass.context.snapshot;
        if let Some(record) = self.find_client(&quoted, snapshot, quoted.source, quoted.destination) {
            return self.error_to_server(frame, packet, &quoted, record, pass);
        }
        if snapshot.local(quoted.source).is_some()
            && let Some(tunnel) = Encap::read(quoted.protocol, packet.within(frame.bytes()).from(quoted.l4))
        {
            return self.tunnel_error(frame, packet, (&quoted, tunnel), pass);
        }
        if let Some(record) = self.find_replier(&quoted, snapshot) {
            let Some(vip) = snapshot.vips.address(record.vip()) else {
                return Err((frame, DropReason::StrayIcmp));
            };
            let server = Some(snapshot.server(record.server()));
            return self.error_to_client(frame, packet, &quoted, (vip, record.port()), server, pass);
        }
        if let Some(origin) = self.origin_of_untracked(&quoted, pass.context) {
            self.shared.counters.untracked.add(1);
            return self.error_to_client(frame, packet, &quoted, origin, None, pass);
        }
        self.error_about_unknown(frame, packet, &quoted, pass)
    }

    /// About a packet from a VIP to a client, of no connection that there is.
    pub(super) fn error_about_unknown<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        quoted: &Quoted,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        // A datagram's flow gets its record with its next one, wherever that goes.
        let opens = pass.context.snapshot.switches.schedule_icmp;
        if !(opens && quoted.protocol == ipv4::UDP)
            && let Some(server) = self.server_of_untracked(packet, quoted, Quotes::Answer, pass.context)
        {
            self.count_untracked(packet, pass.context.now);
            return self.forward_error(frame, packet, quoted, (server, quoted.source_port), pass);
        }
        if opens {
            return self.open_by_error(frame, packet, quoted, pass);
        }
        Err((frame, DropReason::StrayIcmp))
    }

    /// The connection of a quoted packet between a VIP and a client.
    pub(super) fn find_client(
        &self,
        quoted: &Quoted,
        snapshot: &Snapshot,
        vip: Addr4,
        client: Addr4,
    ) -> Option<Record> {
        if quoted.is_later_fragment {
            return None;
        }
        let (port, client_port) = if vip == quoted.source {
            (quoted.source_port, quoted.destination_port)
        } else {
            (quoted.destination_port, quoted.source_port)
        };
        let ends =
            Ends { source: client, destination: vip, destination_port: port, protocol: quoted.protocol };
        let key = self.lookup(&ends, client_port, snapshot)?.key;
        let find = |key: Key| {
            let hash = self.table.hash(key.hash_input());
            let elsewhere = || {
                if client.is_of_ipv6() {
                    return self.find_elsewhere6(key, client_port).map(|(_, record)| record);
                }
                let is_its = |record: Record| record.lookup_key() == key;
                self.views.iter().find_map(|view| view.find_reply(hash, client, client_port, is_its))
            };
            self.table.find(hash, key).map(|(_, record)| record).or_else(elsewhere)
        };
        self.keys_of(key, vip, snapshot).find_map(find)
    }

    /// The connection of a quoted packet from a client to a NAT real server.
    fn find_replier(&self, quoted: &Quoted, snapshot: &Snapshot) -> Option<Record> {
        let (address, port) = (quoted.destination, quoted.destination_port);
        let (client, client_port) = (quoted.source, quoted.source_port);
        let protocol = protocol(quoted.protocol).filter(|_| !quoted.is_later_fragment)?;
        let is_its = |record: Record| {
            let server = snapshot.server(record.server());
            record.protocol() == protocol
                && server.replies_from(address, port, record.port())
                && server.forwarding == Forwarding::Nat
        };
        let find = |hash| {
            let elsewhere =
                || self.views.iter().find_map(|view| view.find_reply(hash, client, client_port, is_its));
            let own = self.table.find_reply(hash, client, client_port, is_its);
            own.map(|(_, record)| record).or_else(elsewhere)
        };
        let [hash, other] =
            self.reply_hashes((address, port, quoted.protocol), (client, client_port), snapshot)?;
        find(hash).or_else(|| snapshot.has_both_hashes.then(|| find(other))?)
    }

    /// From the clients' side, about a packet to the client: to the real server, by its method.
    pub(super) fn error_to_server<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        quoted: &Quoted,
        record: Record,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let server = pass.context.snapshot.server(record.server());
        if !server.is_present {
            return Err((frame, DropReason::RealServerRemoved));
        }
        self.forward_error(frame, packet, quoted, (server, record.port()), pass)
    }

    /// Sends an error about a packet from `port` of a VIP to the real server.
    pub(super) fn forward_error<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        packet: &Packet,
        quoted: &Quoted,
        (server, port): (&Server, u16),
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        if packet.is_of_ipv6()
            && let Err(reason) = give_wide_source(&mut frame, packet, server, pass.context)
        {
            return Err((frame, reason));
        }
        if server.forwarding == Forwarding::Nat {
            let (bytes, port) = (frame.bytes_mut(), server.port_for(port));
            let end = quoted::End::Source;
            let translated = match &server.far {
                Some(far) => quoted::translate6(bytes, packet, quoted, end, (far.address, port)),
                None => quoted::translate(bytes, packet, quoted, end, (server.address, port)),
            };
            if let Err(reason) = translated {
                return Err((frame, reason));
            }
        }
        // Without ports of its own, the message itself takes the common way.
        self.forward(frame, packet, server, pass)
    }

    /// From the servers' side, about a packet to a NAT real server: to the client, from the VIP and its port. Counts for `server`.
    fn error_to_client<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        packet: &Packet,
        quoted: &Quoted,
        own: (Addr4, u16),
        server: Option<&Server>,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let snapshot = pass.context.snapshot;
        let Some(hop) = snapshot.routes.next_hop(packet.destination) else {
            return Err((frame, DropReason::NoRoute));
        };
        if let Err(reason) = trim_surplus(&mut frame, packet) {
            return Err((frame, reason));
        }
        let is_too_big = packet.total_len > snapshot.ports[hop.port].mtu;
        let bytes = frame.bytes_mut();
        let rewritten = quoted::translate(bytes, packet, quoted, quoted::End::Destination, own)
            .and_then(|()| ipv4_mut(bytes, packet.l3()))
            .and_then(|header| match header.ttl {
                0 | 1 => Err(DropReason::TtlExceeded),
                // An error is not answered with another.
                _ if is_too_big && header.dont_fragment() => Err(DropReason::TooBig),
                _ => {
                    header.set_source(own.0);
                    header.decrement_ttl();
                    Ok(())
                }
            });
        if let Err(reason) = rewritten {
            return Err((frame, reason));
        }
        if let Some(server) = server {
            self.count_reply(server, packet);
        }
        let hop = Hop::new(hop, packet.vlan.network());
        if is_too_big {
            return self.send_in_pieces(frame, packet, &Gauge::default(), hop, pass);
        }
        self.send(frame, packet.vlan, &Gauge::default(), hop, pass)
    }

    /// A router's error about a tunnel packet of ours: passed on to the client whose packet was inside, of this family and so far
    /// behind the outer header.
    fn tunnel_error<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        (outer, (encap, family, inner)): (&Quoted, (Encap, Family, usize)),
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        if outer.is_later_fragment {
            // What it quotes lies somewhere in the client's packet.
            return Err((frame, DropReason::StrayIcmp));
        }
        let within = packet.within(frame.bytes());
        let inner = match self.read_inner(within, (family, outer.l4 + inner), pass.context.snapshot) {
            Ok(inner) => inner,
            Err(reason) if encap == Encap::Ipip && family == Family::V4 => return Err((frame, reason)),
            // It may be about something else of the host's that looks like it.
            Err(_) => return Err((frame, DropReason::StrayIcmp)),
        };
        let Ok((head, _)) = Icmp::ref_from_prefix(packet.l4_bytes(frame.bytes())) else {
            return Err((frame, DropReason::Truncated));
        };
        let head = *head;
        let error_of = |server: &Server| {
            let is_its = server.address == outer.destination && server.encap.is_alike(encap);
            let error = reply::Error::about_client(&head, server.encap.header_len() as u16);
            match family {
                _ if !is_its => None,
                Family::V4 => Some(error),
                Family::V6 => error.in_ipv6(),
            }
        };
        self.relay_to_client(frame, packet, &inner, error_of, pass)
    }

    /// As [`Director::tunnel_error`], about a tunnel to a real server of IPv6.
    #[cold]
    pub(super) fn tunnel_error6<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        about: &AboutTunnel,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let now = pass.context.now;
        let within = about.packet.within(frame.bytes());
        let Ok(inner) = self.read_inner(within, (about.family, about.inner), pass.context.snapshot) else {
            return Err((frame, DropReason::StrayIcmp));
        };
        let Context { snapshot, port, .. } = pass.context;
        let flow = self.flow_inside(&inner, about.family);
        let error_of = |server: &Server| {
            let far = server.far.as_ref().filter(|far| far.address == about.server)?;
            let overhead = server.encap.header_len6() as u16;
            if !server.encap.is_alike(about.encap) {
                return None;
            }
            // Routers on the way answer the way's own address, which is on its port. On other ports there are clients.
            let is_on_way = far.way.is_some_and(|way| usize::from(way.hop.port()) == port);
            if is_on_way
                && about.is_of(server.encap, flow)
                && about.is_narrow(overhead, snapshot.ports[port].mtu, &inner)
            {
                server.live.found_narrow(now);
            }
            Some(about.to_client(overhead))
        };
        self.relay_to_client(frame, &about.packet, &inner, error_of, pass)
    }

    /// The flow of the client's packet in a tunnel packet, as [`Director::read_inner`] has read it.
    fn flow_inside(&self, inner: &Quoted, family: Family) -> Flow {
        let ports = u32::from(inner.source_port) << 16 | u32::from(inner.destination_port);
        match family {
            Family::V4 => Flow { source: inner.source, destination: inner.destination, ports },
            Family::V6 => Flow::of_ipv6(self.ends6.source, self.ends6.destination, ports),
        }
    }

    /// Reads the client's packet in a tunnel packet that an error quotes, which is of this family and lies at this offset.
    fn read_inner(
        &mut self,
        message: Within<'_>,
        (family, at): (Family, usize),
        snapshot: &Snapshot,
    ) -> Result<Quoted, DropReason> {
        match family {
            Family::V4 => parse_quoted(message, at),
            Family::V6 => self.read_inner6(message, at, snapshot),
        }
    }

    /// Passes an error about a tunnel packet on to the client whose packet was `inner`. `error_of` says what it means to the client
    /// of a real server; `None`: the tunnel does not lead to that.
    fn relay_to_client<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        packet: &Packet,
        inner: &Quoted,
        error_of: impl FnOnce(&Server) -> Option<reply::Error>,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let snapshot = pass.context.snapshot;
        let (client, vip) = (inner.source, inner.destination);
        let known = self.find_client(inner, snapshot, vip, client);
        let known = known.map(|record| (snapshot.server(record.server()), Asker::Known));
        let untracked = || self.server_of_untracked(packet, inner, Quotes::Request, pass.context);
        let found = known.or_else(|| untracked().map(|server| (server, Asker::Stranger)));
        let Some((server, asker)) = found else { return Err((frame, DropReason::StrayIcmp)) };
        let Some(hop) = self.hop_to_client(client, snapshot) else {
            return Err((frame, DropReason::NoRoute));
        };
        let error = Some(server).filter(|server| server.forwarding == Forwarding::Tun).and_then(error_of);
        let Some(error) = error else { return Err((frame, DropReason::StrayIcmp)) };
        if error.is_too_big() && !inner.dont_fragment {
            // Who lets its packets be cut does not ask how large they may be.
            return Err((frame, DropReason::Unasked));
        }
        // Who has a connection is always told what is too big.
        let answer = if error.is_too_big() { Answer::FragmentationNeeded } else { Answer::TunnelError };
        if !self.icmp_errors.take(answer, asker, pass.context.now) {
            return Err((frame, DropReason::IcmpRateLimited));
        }
        let made = match hop {
            AnyNextHop::V4(_) => reply::relay(&mut frame, packet, inner.l3, error, (vip, client)),
            AnyNextHop::V6(_) => reply::v6::relay(&mut frame, packet, inner.l3, error, self.ends6),
        };
        match (made, hop) {
            (Err(reason), _) => Err((frame, reason)),
            (Ok(()), AnyNextHop::V4(hop)) => {
                let hop = Hop::new(hop, packet.vlan.network());
                self.send_made(frame, packet.vlan, hop, Answer::TunnelError, pass)
            }
            (Ok(()), AnyNextHop::V6(hop)) => {
                let hop = hop.on(packet.vlan.network());
                self.send_made6(frame, packet.vlan, hop, Answer::TunnelError, pass)
            }
        }
    }

    /// The way back to a client: to that of [`Director::ends6`], if it is one of IPv6.
    fn hop_to_client(&self, client: Addr4, snapshot: &Snapshot) -> Option<AnyNextHop> {
        if client.is_of_ipv6() {
            // No tunnel had a packet from a link-local address in it.
            let client = Some(self.ends6.source).filter(|client| !client.is_unicast_link_local());
            return client.and_then(|client| snapshot.routes.next_hop6(client)).map(AnyNextHop::V6);
        }
        snapshot.routes.next_hop(client).map(AnyNextHop::V4)
    }

    /// An ARP packet.
    #[cold]
    pub(super) fn arp<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        vlan: Vlan,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let Context { snapshot, port, .. } = pass.context;
        let outcome = match arp::receive(&mut frame, port, vlan, snapshot) {
            Ok(outcome) => outcome,
            Err(arp::Refused::Drop(reason)) => return Err((frame, reason)),
            Err(arp::Refused::Conflict(conflict)) => return self.conflict(frame, conflict),
        };
        let mut is_known = false;
        let sender =
            outcome.sender.map(|(address, mac)| (Hop::at(address, port as u16, vlan.network()), mac));
        if let Some((hop, mac)) = sender {
            is_known = self.learn(hop, mac, pass);
            self.tell_others(Message::Learned(hop, mac));
        }
        if outcome.is_reply {
            return self.send_answer(frame, Answer::Arp, pass);
        }
        // Who is bound is known without having been asked for.
        is_known |= sender.is_some_and(|(hop, _)| snapshot.binding(hop).is_some());
        // What the host asked for, or what others tell, is its to know as well.
        let frame = match self.host_class(frame.bytes(), pass.context) {
            Some(class) => match self.hand_over(frame, class, pass) {
                Err((frame, _)) if is_known => frame,
                passed => return passed,
            },
            None if !is_known => return Err((frame, DropReason::ForeignArp)),
            None => frame,
        };
        self.shared.counters.absorbed.add(1);
        pass.wire.release(frame);
        Ok(())
    }

    /// Another host claims what it can't have.
    fn conflict(&mut self, frame: F, conflict: arp::Conflict) -> Passed<F> {
        self.shared.counters.arp_conflicts.add(1);
        // When the log can't keep up, the counter still tells.
        let _ = self.shared.events.push(Event::Conflict(conflict));
        Err((frame, DropReason::Conflict))
    }

    /// An IPv6 frame: answered if it is about an address of this director's; what it tells of a next hop is taken in. Given back
    /// if it is not weir's alone.
    #[cold]
    pub(super) fn discovery<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        pass: &mut Pass<'_, W>,
    ) -> Result<Passed<F>, F> {
        let mut frame = frame;
        match nd::receive(&mut frame, pass.context.port, pass.context.snapshot) {
            nd::Outcome::Foreign => match mld::Query::read(frame.bytes()) {
                Some(query) => self.take_query(frame, &query, pass),
                None => Err(frame),
            },
            nd::Outcome::Answer(answer, heard) => {
                if let Some((hop, heard)) = heard {
                    self.take_in_heard(hop, heard, pass);
                }
                Ok(self.send_answer(frame, answer, pass))
            }
            nd::Outcome::Heard(hop, heard) => {
                let is_known = self.take_in_heard(hop, heard, pass);
                // What the host asked for, or what others tell, is its to know as well.
                if !is_known || pass.context.snapshot.ports[pass.context.port].has_host {
                    return Err(frame);
                }
                self.shared.counters.absorbed.add(1);
                pass.wire.release(frame);
                Ok(Ok(()))
            }
            nd::Outcome::TunnelError(about) => match self.tunnel_error6(frame, &about, pass) {
                // It may be about something else of the host's that looks like it.
                Err((frame, DropReason::StrayIcmp))
                    if pass.context.snapshot.ports[pass.context.port].has_host =>
                {
                    Err(frame)
                }
                passed => Ok(passed),
            },
            nd::Outcome::Conflict(conflict) => Ok(self.conflict(frame, conflict)),
            nd::Outcome::Refused(refused, vlan) => Ok(self.refuse(frame, vlan, Some(refused), pass)),
            nd::Outcome::Drop(reason) => Ok(Err((frame, reason))),
        }
    }

    /// Somebody asks which groups are heard.
    fn take_query<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        query: &mld::Query,
        pass: &mut Pass<'_, W>,
    ) -> Result<Passed<F>, F> {
        let Context { snapshot, now, port } = pass.context;
        let counters = &self.shared.counters;
        counters.mld_queries.add(1);
        let is_answered = self.reporter.asked(query, port, &self.shared.old_queriers, now);
        counters.mld_unanswered.add(u64::from(!is_answered));
        // The host has groups of its own.
        if snapshot.ports[port].has_host {
            return Err(frame);
        }
        counters.absorbed.add(1);
        pass.wire.release(frame);
        Ok(Ok(()))
    }

    /// Returns whether the next hop is known.
    fn take_in_heard<W: Wire<Frame = F>>(&mut self, hop: Hop6, heard: Heard, pass: &mut Pass<'_, W>) -> bool {
        let is_known = self.hear(hop, heard, pass);
        self.tell_others(Message::Heard(hop, heard));
        is_known || pass.context.snapshot.binding6(hop).is_some()
    }

    fn tell_others(&self, message: Message) {
        for worker in 0..self.shared.inboxes.len() {
            if worker != self.shared.worker {
                self.shared.tell(worker, message);
            }
        }
    }
}

/// Where an error goes next.
#[derive(Clone, Copy)]
enum AnyNextHop {
    V4(NextHop),
    V6(Hop6),
}

/// Whether weir answers a packet as its destination: an own address, a VIP, an address that has its virtual server by a mark.
pub(super) fn speaks_for_destination(packet: &Packet, snapshot: &Snapshot) -> bool {
    let Packet { source, destination, destination_port, .. } = *packet;
    let is_asked = |protocol| {
        let ends = Ends { source, destination, destination_port, protocol: packet.protocol };
        snapshot.target(&ends, protocol).is_some()
    };
    snapshot.local(destination).is_some() || protocol(packet.protocol).is_some_and(is_asked)
}
