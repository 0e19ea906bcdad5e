//! As `fresh`, of IPv6: a plain SYN of a client's to a virtual server that just schedules.
//!
//! It decides nothing either: what is not as usual takes the common way, which does the same.

use std::net::Ipv6Addr;

use weir_config::model::{Forwarding, Protocol};
use zerocopy::FromBytes;

use super::request::direction_by;
use super::{Context, Director, Pass};
use crate::address::Addr4;
use crate::classify::Lookup;
use crate::conn::record::Record;
use crate::conn::state::{self, State};
use crate::packet::{Frame, Wire};
use crate::parse::plain6::Plain6;
use crate::sched::PickKey;
use crate::snapshot::helped::FTP_DATA;

impl<F: Frame> Director<F> {
    /// Third round of a plain SYN of IPv6. Gives the frame back, with nothing done, if it has to take the common way.
    #[inline(never)]
    pub(super) fn open_fresh6<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        lookup: Lookup,
        pass: &mut Pass<'_, W>,
    ) -> Result<(), F> {
        let Context { snapshot, now, .. } = pass.context;
        let Some(service) = snapshot.service(lookup.service).filter(|service| service.is_simple) else {
            return Err(frame);
        };
        let Ok((plain, _)) = Plain6::ref_from_prefix(frame.bytes()) else { return Err(frame) };
        if plain.tcp.source.get() == FTP_DATA || !self.has_one_place || self.may_be_displaced6(plain, now) {
            return Err(frame);
        }
        // It is the client's until the next one takes a number, or for as long as a record names it.
        let client = self.table.clients.take_from(lookup.hash as usize, plain.source());
        if client == Addr4::STRANGER6 {
            return Err(frame);
        }
        let key = lookup.key.with_client(client);
        let Some(slot) = self.table.vacancy(self.table.hash(key.hash_input()), key) else {
            return Err(frame);
        };
        let pick_key = PickKey {
            source: Ipv6Addr::from(plain.ip.source).into(),
            destination: Ipv6Addr::from(plain.ip.destination).into(),
            source_port: plain.tcp.source.get(),
            now_secs: now.seconds,
        };
        let flags = plain.tcp.flags;
        let Some(candidate) = service.pick_candidate(snapshot, self.shared.worker, &pick_key) else {
            self.refuse_fresh(frame, pass);
            self.table.clients.settle();
            return Ok(());
        };
        let (id, direction) = (candidate.id, direction_by(candidate.forwarding));
        let state = state::next(Protocol::Tcp, direction, flags, State::NONE, snapshot.switches.secure_tcp);
        self.table.fill6(slot, Record::new(key, id, state, now.seconds, false));
        let server = snapshot.server(id);
        server.bind(self.shared.worker, Protocol::Tcp, state);
        let tally = &server.tallies[self.shared.worker];
        if server.forwarding == Forwarding::Nat {
            tally.opened.count();
        }
        match self.express6(pass.context).make_first_ready(&mut frame, server, tally) {
            Some(exit) => {
                self.shared.counters.forwarded.add(1);
                pass.wire.transmit(exit.port(), frame);
            }
            None => self.forward_fresh(frame, server, pass),
        }
        Ok(())
    }
}
