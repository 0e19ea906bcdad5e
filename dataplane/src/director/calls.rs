//! Calls of SIP: what a virtual server with `persistence_engine = "sip"` gets is kept together by Call-ID, and by the network of the client.
//!
//! A template of a call has the keyed digest of both for a key, so that it takes no more room than another one, however long a Call-ID is. It is
//! looked at when a datagram has no connection: with `one_packet` for each, else for the first one between two sockets. Connections do not hang
//! on it, since no record says which call it is of: it lives as long as its datagrams are scheduled, and the persistence timeout after that.

use std::iter::repeat_n;
use std::net::Ipv6Addr;

use arrayvec::ArrayVec;
use weir_config::model::Protocol;

use super::foretold::service_meant;
use super::persist::{Choice, HeldKey, lifetime_of, owner};
use super::{Context, Director, Pass, Passed};
use crate::address::Addr4;
use crate::classify::Lookup;
use crate::clock::Now;
use crate::conn::extra::mapped;
use crate::conn::record::ServerId;
use crate::conn::template::{Template, TemplateKey6};
use crate::packet::{Frame, Wire};
use crate::parse::Packet;
use crate::sched::untracked::FlowHash;
use crate::sip;
use crate::snapshot::service::{Persistence, Service};
use crate::snapshot::{Origin, Snapshot};
use crate::stats::DropReason;
use crate::wire::ipv4;
use crate::wire::l4::Udp;

/// How far a Call-ID is looked for in a message that lies in several buffers.
const LOOKED_THROUGH: usize = 4_096;

/// What is looked through of such a message.
type Gathered = ArrayVec<u8, LOOKED_THROUGH>;

impl<F: Frame> Director<F> {
    /// As [`Director::take_new`], of a virtual server that keeps calls together. What is of no call is dropped, as in the kernel.
    #[cold]
    #[inline(never)]
    pub(super) fn take_call<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        (lookup, service, persistence): (&Lookup, &Service, Persistence),
        is_moving: bool,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let mut gathered = Gathered::new();
        let Some(id) = call_id(&frame, packet, &mut gathered) else {
            return Err((frame, DropReason::NoCallId));
        };
        self.call = Some(self.call_key(id, packet.source, (service, persistence)));
        let passed = self.take_new(frame, packet, (lookup, service), is_moving, pass);
        self.call = None;
        passed
    }

    /// The real server of the call of the packet under way. Without room for its template all packets of the call go to the same one
    /// nevertheless.
    #[cold]
    pub(super) fn choose_by_call(
        &self,
        packet: &Packet,
        (service, persistence): (&Service, Persistence),
        (snapshot, now): (&Snapshot, Now),
    ) -> Option<Choice> {
        let key = self.call?;
        let by = (&self.templates.v6, key, HeldKey::Call(key));
        let choice = self.choose_by(by, packet, (service, persistence), (snapshot, now))?;
        if choice.template.is_some() {
            return Some(choice);
        }
        let server = service.pick_untracked(FlowHash::of_call(key.network())).unwrap_or(choice.server);
        Some(Choice { server, template: None })
    }

    /// A NAT real server's datagram that belongs to no connection: its call is tied to it, so that what the client answers comes to it,
    /// whoever begins the call, as in the kernel (`ip_vs_new_conn_out`). False: it is of no call, or the call is another one's. Of
    /// IPv6 the client is the source of [`Director::ends6`], and the real server its destination.
    #[cold]
    pub(super) fn learn_call(
        &self,
        frame: &F,
        packet: &Packet,
        origin: Origin,
        Context { snapshot, now, .. }: Context<'_>,
    ) -> bool {
        if !origin.keeps_calls {
            return false;
        }
        let learn = || {
            let mut gathered = Gathered::new();
            let id = call_id(frame, packet, &mut gathered)?;
            let vip6 = snapshot.address6(origin.vip).unwrap_or(Ipv6Addr::UNSPECIFIED);
            let ends = [(packet.destination, self.ends6.source), (origin.vip, vip6)];
            let service = service_meant(ends, origin.port, Protocol::Udp, snapshot)?;
            let persistence = service.persistence.filter(|it| it.engine.is_some())?;
            let key = self.call_key(id, packet.destination, (service, persistence));
            self.tie_call(key, packet, (service, persistence), (snapshot, now))
        };
        learn().is_some()
    }

    /// Ties a call to the real server that a datagram comes from, unless it is already.
    fn tie_call(
        &self,
        key: TemplateKey6,
        packet: &Packet,
        (service, persistence): (&Service, Persistence),
        (snapshot, now): (&Snapshot, Now),
    ) -> Option<()> {
        let (templates, lifetime, now) = (&self.templates.v6, persistence.timeout_secs, now.seconds);
        let sends = |server: ServerId| {
            let server = snapshot.server(server);
            let (port, source_port) = (service.port, packet.source_port);
            server.service == service.id
                && match packet.is_of_ipv6() {
                    true => server.replies_from6(self.ends6.destination, source_port, port),
                    false => server.replies_from(packet.source, source_port, port),
                }
        };
        let found = templates.find(key, lifetime, now);
        if let Some(found) = found
            && sends(found.server)
        {
            templates.touch(found.slot, key, found.server, lifetime, now);
            return Some(());
        }
        let server = service.list.iter().map(|candidate| candidate.id).find(|server| sends(*server))?;
        match found {
            Some(found) => _ = templates.rebind(found.slot, key, found.server, server, now),
            None => {
                let lifetime_of = |it: Template<TemplateKey6>| lifetime_of(it.owner(), snapshot);
                if templates.bind(key, server, lifetime, now, lifetime_of).is_err() {
                    self.shared.counters.templates_full.add(1);
                }
            }
        }
        Some(())
    }

    /// The template of a call of this client's; of IPv6 that is the source of [`Director::ends6`].
    fn call_key(
        &self,
        id: &[u8],
        client: Addr4,
        (service, persistence): (&Service, Persistence),
    ) -> TemplateKey6 {
        let network = match client.is_of_ipv6() {
            true => (self.ends6.source, persistence.netmask),
            false => (mapped(client.into()), 96 + persistence.netmask),
        };
        self.templates.call_key(id, network, owner(service))
    }
}

/// The Call-ID of a packet: in its first buffer, or with what lies in others.
fn call_id<'a>(frame: &'a impl Frame, packet: &Packet, gathered: &'a mut Gathered) -> Option<&'a [u8]> {
    if packet.protocol != ipv4::UDP {
        return None;
    }
    let bytes = frame.bytes();
    let end = usize::from(packet.l3) + usize::from(packet.total_len);
    let at = usize::from(packet.l4) + size_of::<Udp>();
    let message = bytes.get(..end).unwrap_or(bytes).get(at..)?;
    sip::call_id(message).or_else(|| {
        // What the first one has decides if it is all there is.
        let len = end.min(frame.len()).checked_sub(at).filter(|len| *len > message.len())?;
        gathered.extend(repeat_n(0, len.min(LOOKED_THROUGH)));
        frame.copy_to(at, gathered).then_some(())?;
        sip::call_id(gathered)
    })
}
