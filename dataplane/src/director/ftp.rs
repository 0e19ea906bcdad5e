//! FTP through NAT: control connections are heard, and the data connections that they announce go to their real server.
//!
//! A control connection's record is on no short way, and its real server says that it has a helper, so that all its packets come by here
//! (`translate_helped`, `hear_server`). A data connection is like any other from its first packet on, but for its port, which stays. Until then it
//! is expected (`conn/extra.rs`): by the client's address alone, at the address and port that the client was told, or from the real server to
//! the port that the client has told.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;

use arrayvec::{ArrayString, ArrayVec};
use weir_config::model::{Forwarding, Protocol};

use super::{Context, Director, Message, Pass, Passed};
use crate::address::Addr4;
use crate::classify::Lookup;
use crate::conn::extra::{Announced, Control, Ends, Expected, Extras, Refused, mapped};
use crate::conn::record::{Key, Record};
use crate::conn::state::{self, Direction, State, tcp};
use crate::conn::table::View;
use crate::director::request::Course;
use crate::ftp::{self, Command, LINE_MAX, Reply, TEXT_MAX};
use crate::packet::{Frame, Wire};
use crate::parse::Packet;
use crate::parse::v6::Ends6;
use crate::reply::is_intact;
use crate::rewrite::segment::{self, Segment};
use crate::rewrite::{self, nat6};
use crate::snapshot::helped::{FTP_DATA, PORT_MIN};
use crate::snapshot::server::Server;
use crate::snapshot::{self, Snapshot};
use crate::stats::{DropReason, Helped, WorkerCounters};
use crate::wire::ipv4;
use crate::wire::l4::flags;

/// Lines of a segment that are read at most.
const LINES_MAX: usize = 32;
/// Lines of a segment that are changed at most.
const CHANGES_MAX: usize = 4;
/// Connections that clients may announce to a worker in a second: a flood of them leaves room for those of others.
pub(super) const ACTIVE_PER_SECOND: u32 = 500;

/// Places of a segment that are to hold other bytes.
type Changes = ArrayVec<(Range<usize>, ArrayString<TEXT_MAX>), CHANGES_MAX>;

/// Where a control connection's packet goes between.
#[derive(Clone, Copy)]
struct Between<'a> {
    ends: Ends,
    server: &'a Server,
    snapshot: &'a Snapshot,
    now: u32,
}

impl<F: Frame> Director<F> {
    /// NAT of a client's packet to a real server with a helper.
    #[cold]
    pub(super) fn translate_helped(
        &mut self,
        frame: &mut F,
        packet: &Packet,
        server: &Server,
        context: Context<'_>,
    ) -> Result<(), DropReason> {
        if packet.protocol == ipv4::TCP && packet.destination_port == server.helper_port {
            let client = self.client_of(packet.source);
            let ends = Ends {
                client,
                client_port: packet.source_port,
                vip: packet.destination,
                port: server.helper_port,
            };
            let (snapshot, now) = (context.snapshot, context.now.seconds);
            self.hear_client(frame, packet, Between { ends, server, snapshot, now }, context)?;
        }
        let port = server.port_for(packet.destination_port);
        match &server.far {
            None => rewrite::to_server(frame.bytes_mut(), packet, server.address, port),
            Some(far) => nat6::to_server(frame.bytes_mut(), packet, far.address, port),
        }
    }

    /// A client's segment of a control connection: what it asks for is noted, and what it acknowledges is what the server has sent.
    fn hear_client(
        &mut self,
        frame: &mut F,
        packet: &Packet,
        between: Between<'_>,
        context: Context<'_>,
    ) -> Result<(), DropReason> {
        let extras = &self.shared.extras;
        if packet.flags & flags::SYN != 0 {
            // Anybody can send one of a connection that goes on. What is over was forgotten with its record.
            extras.forget_silent(between.ends, between.now);
            return Ok(());
        }
        let segment = Segment::read(frame.bytes(), packet).ok_or(DropReason::Truncated)?;
        let is_read = may_be_read(frame, packet, segment);
        let bytes = frame.bytes_mut();
        let limit = &mut self.announced_limit;
        let counters = &self.shared.counters;
        let heard = extras.with(between.ends, (is_read, between.now), |control| {
            if control.stream.is_shifted() {
                segment::change_acknowledged(bytes, packet, |number| control.stream.meant_by(number));
            }
            if !is_read {
                return;
            }
            let carried = segment.carried(bytes, packet);
            let fresh = control.hear_on(segment.sequence, carried.len());
            let mut has_announced = false;
            for (at, line, ends_here) in ftp::lines(carried).take(LINES_MAX) {
                if let Some(command) = whole_command(line, ends_here, counters) {
                    match command {
                        Command::Passive if at >= fresh => control.ask(),
                        Command::Passive => {}
                        Command::Malformed => counters.helped(Helped::Malformed),
                        // One that was noted already is expected, whether or not the server has heard of it.
                        Command::Active(..) if at < fresh => {}
                        Command::Active(address, port) => {
                            // No client says it twice before it was answered.
                            let may_announce = !std::mem::replace(&mut has_announced, true);
                            let result = may_be_active(between.ends, address, port)
                                .and_then(|()| match may_announce && limit.take(context.now) {
                                    true => Ok(()),
                                    false => Err(Helped::Limited),
                                })
                                .and_then(|()| expect(extras, control, active(between, port), between));
                            counters.helped(result.map_or_else(|why| why, |()| Helped::Active));
                        }
                    }
                }
            }
        });
        if is_read && heard == Ok(None) {
            counters.helped(Helped::Full);
        }
        heard.map(|_| ()).map_err(|_| DropReason::HelperBusy)
    }

    /// A server's segment of a control connection to a client, which gets it from `vip`: the numbers that the client knows, and of its
    /// addresses the virtual server's. Returns what is known of the packet afterwards. `mtu` is that of its way.
    #[cold]
    pub(super) fn hear_server(
        &mut self,
        frame: &mut F,
        packet: &Packet,
        (server, vip, client, mtu): (&Server, Addr4, Ipv6Addr, u16),
        context: Context<'_>,
    ) -> Result<Packet, DropReason> {
        let ends = Ends { client, client_port: packet.destination_port, vip, port: server.helper_port };
        let between = Between { ends, server, snapshot: context.snapshot, now: context.now.seconds };
        let segment = Segment::read(frame.bytes(), packet).ok_or(DropReason::Truncated)?;
        let is_read = may_be_read(frame, packet, segment);
        let carried = segment.carried(frame.bytes(), packet);
        let room = usize::from(mtu.saturating_sub(packet.total_len));
        let (extras, counters) = (&self.shared.extras, &self.shared.counters);
        let mut changes = Changes::new();
        let heard = extras.with(ends, (is_read, between.now), |control| {
            let added = control.stream.added_at(segment.sequence);
            if is_read {
                let mut hearing = Hearing { extras, control, between, counters, room, changes: &mut changes };
                hearing.again(segment.sequence, carried);
                hearing.anew(segment.sequence, carried);
            }
            added
        });
        let heard = heard.map_err(|_| DropReason::HelperBusy)?;
        if is_read && heard.is_none() {
            counters.helped(Helped::Full);
        }
        let added = heard.unwrap_or(0);
        let mut changed = cut_to_fit(frame, packet, (segment, room), &mut changes)?;
        for (place, text) in changes.into_iter().rev() {
            let place = place.start + segment.payload..place.end + segment.payload;
            changed = segment::replace(frame, &changed, place, text.as_bytes())?;
            counters.helped(Helped::Rewritten);
        }
        if added != 0 {
            segment::add_to_sequence(frame.bytes_mut(), &changed, added);
        }
        Ok(changed)
    }

    /// A client's packet that may be a data connection's, and of none that this worker knows.
    #[cold]
    pub(super) fn take_data<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        lookup: &Lookup,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let Context { snapshot, now, .. } = pass.context;
        // One that the server began is with the worker that its first packet came to.
        match self.course_elsewhere(packet, lookup, pass.context) {
            Some(Course::GoesOn(server)) => return self.forward(frame, packet, server, pass),
            Some(Course::ServerRemoved) => return Err((frame, DropReason::RealServerRemoved)),
            Some(Course::Over) | None => {}
        }
        let Some((expected, server)) = self.passive_data(packet, pass.context) else {
            return self.unasked(frame, packet, pass);
        };
        let is_secure = snapshot.switches.secure_tcp;
        let state = state::next(Protocol::Tcp, Direction::Input, packet.flags, State::NONE, is_secure);
        let record = Record::new(lookup.key, server.id, state, now.seconds, false);
        if !self.open_data(lookup.hash, record, server) {
            return Err((frame, DropReason::HelperNoRoom));
        }
        self.shared.extras.withdraw(expected.announced);
        self.forward_first(frame, packet, server, pass)
    }

    /// The data connection that a client's packet begins, if it is expected, and its real server.
    pub(super) fn passive_data<'a>(
        &self,
        packet: &Packet,
        Context { snapshot, now, .. }: Context<'a>,
    ) -> Option<(Expected, &'a Server)> {
        if !is_first(packet) {
            return None;
        }
        let client = self.client_of(packet.source);
        let announced = Announced::Passive { client, vip: packet.destination, port: packet.destination_port };
        let expected = self.shared.extras.expected(announced, now.seconds)?;
        Some((expected, server_of(expected, snapshot)?))
    }

    /// The data connection that a real server's packet to a client begins, if it is expected, and its real server.
    pub(super) fn active_data<'a>(
        &self,
        packet: &Packet,
        (server, client): (Ipv6Addr, Ipv6Addr),
        Context { snapshot, now, .. }: Context<'a>,
    ) -> Option<(Expected, &'a Server)> {
        if !snapshot.has_helpers() || !is_first(packet) {
            return None;
        }
        let announced = Announced::Active { client, client_port: packet.destination_port, server };
        let expected = self.shared.extras.expected(announced, now.seconds)?;
        let server = server_of(expected, snapshot)?;
        // RFC 959 section 3.2: the port beside that of the control connection. Many have it at 20 wherever that one is.
        let beside =
            server.usual_port_for(server.helper_port).checked_sub(1).filter(|port| *port >= PORT_MIN);
        let is_its = packet.source_port == FTP_DATA || Some(packet.source_port) == beside;
        is_its.then_some((expected, server))
    }

    /// Opens the data connection that a real server's packet to a client begins, if it is expected. Of IPv6 the client is the source of
    /// [`Director::ends6`], and the real server its destination.
    #[cold]
    pub(super) fn open_active(&mut self, packet: &Packet, context: Context<'_>) -> Option<Record> {
        let Context { snapshot, now, .. } = context;
        let ends = match packet.is_of_ipv6() {
            true => (self.ends6.destination, self.ends6.source),
            false => (mapped(packet.source.into()), mapped(packet.destination.into())),
        };
        let (expected, server) = self.active_data(packet, ends, context)?;
        let vip = snapshot.vips.own_number(expected.vip)?;
        let client = match packet.is_of_ipv6() {
            true => self.table.clients.take(self.ends6.source),
            false => packet.destination,
        };
        let (client_port, port) = (packet.destination_port, packet.source_port);
        let key = Key::new(client, client_port, vip, port, Protocol::Tcp, false).helped();
        let is_secure = snapshot.switches.secure_tcp;
        let state = state::next(Protocol::Tcp, Direction::Output, packet.flags, tcp::LISTEN, is_secure);
        let record = Record::new(key, server.id, state, now.seconds, false);
        let hash = self.table.hash(key.hash_input());
        let is_open = self.makes_way((hash, key), (client, client_port), context)
            && self.open_data(hash, record, server);
        self.table.clients.settle();
        if !is_open {
            return None;
        }
        self.shared.extras.withdraw(expected.announced);
        Some(record)
    }

    /// Whether there is no other connection between the same two sockets of the client's and the virtual server's: another real server's
    /// that is over ends with this.
    fn makes_way(&mut self, (hash, key): (u64, Key), client: (Addr4, u16), context: Context<'_>) -> bool {
        let is_over = |record: Record| state::is_over(Protocol::Tcp, Direction::Input, record.state(), 1);
        let own = self.table.find(hash, key);
        let elsewhere = match client.0.is_of_ipv6() {
            true => self.find_elsewhere6(key, client.1),
            false => self.find_in_views(hash, client, |record| record.lookup_key() == key),
        };
        if own.map(|(_, record)| record).into_iter().chain(elsewhere.map(|(_, it)| it)).any(|it| !is_over(it))
        {
            self.shared.counters.helped(Helped::Taken);
            return false;
        }
        if let Some((slot, record)) = own {
            self.end(slot, record, context);
        }
        if let Some((owner, record)) = elsewhere {
            self.shared.tell(owner, Message::Over(record));
        }
        true
    }

    /// Puts in the record of a data connection.
    fn open_data(&mut self, hash: u64, record: Record, server: &Server) -> bool {
        let is_open = self.table.insert(hash, record).is_ok();
        if is_open {
            server.bind(self.shared.worker, Protocol::Tcp, record.state());
            self.shared.counters.helped(Helped::Opened);
        } else {
            self.shared.counters.helped(Helped::Full);
        }
        is_open
    }

    /// A connection that a helper has looked after is over.
    #[cold]
    pub(super) fn forget_helped(&self, record: Record, snapshot: &Snapshot) {
        forget_helped((&self.shared.extras, &self.views[self.shared.worker]), record, snapshot);
    }

    /// The address of a client's packet; of IPv6 that of [`Director::ends6`].
    fn client_of(&self, source: Addr4) -> Ipv6Addr {
        if source.is_of_ipv6() { self.ends6.source } else { mapped(source.into()) }
    }
}

/// As [`Director::forget_helped`], with all facts there are and the table that the record was in.
pub(super) fn forget_helped((extras, view): (&Extras, &View), record: Record, snapshot: &Snapshot) {
    if let Some(client) = view.client(record)
        && let Some(vip) = snapshot.vips.address(record.vip())
    {
        let (client, client_port) = (mapped(client), record.client_port());
        extras.forget(Ends { client, client_port, vip, port: record.port() });
    }
}

/// Whether a segment does nothing but open a connection.
fn is_first(packet: &Packet) -> bool {
    let deciding = flags::SYN | flags::ACK | flags::RST | flags::FIN;
    packet.protocol == ipv4::TCP && packet.flags & deciding == flags::SYN
}

/// The real server of a data connection, if it is the one still that announced it.
fn server_of(expected: Expected, snapshot: &Snapshot) -> Option<&Server> {
    let server = snapshot.get_server(expected.server)?;
    let is_it = server.is_present
        && server.is_helped()
        && server.forwarding == Forwarding::Nat
        && mapped(server.ip()) == expected.address;
    is_it.then_some(server)
}

/// Cuts off by how much a segment would become longer than its way takes: one that is sent again may hold more than it did, and what
/// was changed in it then has to be so again. The client asks its server for the rest.
fn cut_to_fit<F: Frame>(
    frame: &mut F,
    packet: &Packet,
    (segment, room): (Segment, usize),
    changes: &mut Changes,
) -> Result<Packet, DropReason> {
    let whole = packet.end() - segment.payload;
    let mut end = whole;
    loop {
        let longer = |(place, text): &(Range<usize>, ArrayString<TEXT_MAX>)| {
            text.len() as isize - place.len() as isize
        };
        let over = changes.iter().map(longer).sum::<isize>() - (room + whole - end) as isize;
        if over <= 0 {
            break;
        }
        end = end.saturating_sub(over as usize);
        // No place is changed in part.
        while let Some(start) = changes.last().filter(|(place, _)| place.end > end).map(|it| it.0.start) {
            end = end.min(start);
            changes.pop();
        }
    }
    if end == whole {
        return Ok(*packet);
    }
    let cut = segment::replace(frame, packet, segment.payload + end..segment.payload + whole, &[])?;
    segment::without_fin(frame.bytes_mut(), &cut);
    Ok(cut)
}

/// Whether a segment carries anything, all of it is at hand, and its other end will take it.
fn may_be_read<F: Frame>(frame: &F, packet: &Packet, segment: Segment) -> bool {
    packet.end() > segment.payload && frame.is_contiguous() && is_intact(frame, packet)
}

/// The command that a line is, if it can be read.
fn whole_command(line: &[u8], ends_here: bool, counters: &WorkerCounters) -> Option<Command> {
    if ends_here && line.len() <= LINE_MAX {
        return ftp::command(line);
    }
    let is_one = line.first_chunk::<4>().is_some_and(|verb| {
        [b"PASV", b"EPSV", b"PORT", b"EPRT"].iter().any(|known| verb.eq_ignore_ascii_case(*known))
    });
    if is_one {
        counters.helped(if ends_here { Helped::Long } else { Helped::Split });
    }
    None
}

/// A client announces connections to itself alone, and to none of the ports that are its system's.
fn may_be_active(ends: Ends, address: IpAddr, port: u16) -> Result<(), Helped> {
    if mapped(address) != ends.client {
        return Err(Helped::ForeignAddress);
    }
    if port < PORT_MIN { Err(Helped::LowPort) } else { Ok(()) }
}

fn active(between: Between<'_>, client_port: u16) -> Announced {
    Announced::Active { client: between.ends.client, client_port, server: mapped(between.server.ip()) }
}

/// Expects a data connection that a control connection has announced.
fn expect(
    extras: &Extras,
    control: &mut Control,
    announced: Announced,
    Between { ends, server, now, .. }: Between<'_>,
) -> Result<(), Helped> {
    let expected = Expected::new(announced, (server.id, mapped(server.ip())), ends.vip, now);
    extras.expect(expected, now).map_err(|refused| match refused {
        Refused::Taken => Helped::Taken,
        Refused::Full => Helped::Full,
        Refused::Busy => Helped::Busy,
    })?;
    if let Some(oldest) = control.announce(announced) {
        extras.withdraw(oldest);
    }
    Ok(())
}

/// A server's segment while it is read.
struct Hearing<'a> {
    extras: &'a Extras,
    control: &'a mut Control,
    between: Between<'a>,
    counters: &'a WorkerCounters,
    /// By how much it may become longer.
    room: usize,
    changes: &'a mut Changes,
}

impl Hearing<'_> {
    /// What was changed before is changed as it was then, as far as it is in this segment.
    fn again(&mut self, sequence: u32, carried: &[u8]) {
        let len = carried.len() as i32;
        for shift in self.control.stream.shifts() {
            let [from, to] = [shift.from, shift.to].map(|at| at.wrapping_sub(sequence) as i32);
            if to > 0 && from < len {
                let text = if from >= 0 { shift.text } else { ArrayString::new() };
                let place = from.max(0) as usize..to.min(len) as usize;
                self.room = self.room.saturating_add_signed(place.len() as isize - text.len() as isize);
                let _ = self.changes.try_push((place, text));
            }
        }
    }

    /// Lines that come for the first time.
    fn anew(&mut self, sequence: u32, carried: &[u8]) {
        let Some(from) = self.control.read_on(sequence, carried) else { return };
        let fresh = carried.get(from..).unwrap_or_default();
        for (at, line, ends_here) in ftp::lines(fresh).take(LINES_MAX) {
            let Some(reply) = ftp::reply(line) else { continue };
            let result = if !self.control.take_asked() {
                Err(Helped::Unasked)
            } else if !ends_here {
                Err(Helped::Split)
            } else if line.len() > LINE_MAX {
                Err(Helped::Long)
            } else {
                self.answer(reply, (sequence, from + at))
            };
            self.counters.helped(result.map_or_else(|why| why, |()| Helped::Passive));
        }
    }

    /// A server says where it listens, in a line at this place of a segment with this number.
    fn answer(&mut self, reply: Reply, (sequence, at): (u32, usize)) -> Result<(), Helped> {
        match reply {
            Reply::Malformed => Err(Helped::Malformed),
            Reply::Extended(port) => self.expect_at(port),
            Reply::Passive(address, port, place) => {
                let vip = self.vip4().ok_or(Helped::ForeignAddress)?;
                let is_own = IpAddr::V4(address) == self.between.server.ip();
                // One that was told its director's address says that.
                if !is_own && address != vip {
                    return Err(Helped::ForeignAddress);
                }
                let text = ftp::text(vip, port);
                let change = text.len() as i32 - place.len() as i32;
                if self.changes.is_full() || change > self.room as i32 {
                    return Err(Helped::NoRoom);
                }
                self.expect_at(port)?;
                if is_own {
                    self.room = self.room.saturating_add_signed(-change as isize);
                    let place = at + place.start..at + place.end;
                    let [from, to] = [place.start, place.end].map(|at| sequence.wrapping_add(at as u32));
                    self.control.stream.shift(from, to, text);
                    self.changes.push((place, text));
                }
                Ok(())
            }
        }
    }

    /// Expects the client at a port of the virtual server's address, unless that is another one's.
    fn expect_at(&mut self, port: u16) -> Result<(), Helped> {
        let Between { ends, snapshot, .. } = self.between;
        if port < PORT_MIN {
            return Err(Helped::LowPort);
        }
        let source = Addr4::of(ends.client.to_canonical()).unwrap_or(Addr4::STRANGER6);
        let asked = snapshot::Ends {
            source,
            destination: ends.vip,
            destination_port: port,
            protocol: Protocol::Tcp.number(),
        };
        let target = match snapshot.address6(ends.vip).filter(|_| ends.vip.is_of_ipv6()) {
            Some(vip) => {
                snapshot.target6(&asked, Ends6 { source: ends.client, destination: vip }, Protocol::Tcp)
            }
            None => snapshot.target(&asked, Protocol::Tcp).map(|found| found.target),
        };
        if target.is_some_and(|target| snapshot.service(target.service).is_some()) {
            return Err(Helped::Taken);
        }
        let announced = Announced::Passive { client: ends.client, vip: ends.vip, port };
        expect(self.extras, self.control, announced, self.between)
    }

    /// The virtual server's address, if it is one of IPv4.
    fn vip4(&self) -> Option<std::net::Ipv4Addr> {
        let vip = self.between.ends.vip;
        (!vip.is_of_ipv6()).then(|| vip.into())
    }
}
