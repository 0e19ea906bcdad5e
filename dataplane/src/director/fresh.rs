//! The short way of a packet that opens a connection: a plain SYN of a client's to a virtual server that just schedules.
//!
//! As with packets of known connections ([`super::express`]) it decides nothing: it is taken when the table certainly has no
//! record that the packet could belong to, and whatever is not as usual (persistence, marks, a full table) takes the
//! common way of [`super::Director::request`], which would do the same. It is taken in the third round, in the order in
//! which frames came, because each pick depends on those before.

use weir_config::model::{Forwarding, Protocol};
use zerocopy::FromBytes;

use super::request::direction_by;
use super::{Context, Director, Finding, Pass, Passed, Reading};
use crate::classify::Lookup;
use crate::conn::record::{Record, ServerId};
use crate::conn::state::{self, State};
use crate::packet::{Frame, Wire};
use crate::parse::Plain;
use crate::reply;
use crate::sched::PickKey;
use crate::snapshot::helped::FTP_DATA;
use crate::snapshot::server::Server;
use crate::snapshot::{Snapshot, Target};

/// The first packet of a connection that was opened.
pub(super) struct First<F> {
    frame: F,
    server: ServerId,
    /// The connection's state, if its real server's counts are still without it.
    uncounted: Option<State>,
}

impl<F: Frame> Director<F> {
    /// First round of a plain SYN to `target`: what it is looked up by.
    #[inline]
    pub(super) fn read_fresh(&self, plain: &Plain, target: &Target, finding: &mut Finding) {
        let Plain { ip, tcp, .. } = plain;
        let key = target.key(ip.source.get(), tcp.source.get(), tcp.destination.get(), Protocol::Tcp);
        let hash = self.table.hash(key.hash_input());
        self.table.prefetch(hash);
        finding.set_opening(Lookup { hash, key, service: target.service });
    }

    /// First round of a plain SYN. False: it is to be read as any frame.
    #[inline]
    pub(super) fn read_opening(
        &mut self,
        plain: &Plain,
        finding: &mut Finding,
        context: Context<'_>,
    ) -> bool {
        if !self.last_service.is_asked_by(plain) {
            return self.put_off(plain, finding, context);
        }
        let target = self.last_service.target();
        self.read_fresh(plain, &target, finding);
        if context.snapshot.has_persistence
            && let Some(service) = context.snapshot.service(target.service)
        {
            self.prefetch_template(service, plain.ip.source.get());
        }
        true
    }

    /// Third round of a plain SYN. Gives the frame back, with nothing done, if it has to take the common way.
    #[inline]
    pub(super) fn open_fresh<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        lookup: &Lookup,
        pass: &mut Pass<'_, W>,
    ) -> Result<(), F> {
        #[cfg(test)]
        if self.no_express {
            return Err(frame);
        }
        let Context { snapshot, now, .. } = pass.context;
        let Lookup { hash, key, service } = *lookup;
        let Some(service) = snapshot.service(service).filter(|service| service.is_simple) else {
            return Err(frame);
        };
        let Ok((plain, _)) = Plain::ref_from_prefix(frame.bytes()) else { return Err(frame) };
        let is_usual = plain.tcp.source.get() != FTP_DATA
            && self.has_one_place
            && snapshot.is_surely_foreign(plain.ip.source.get());
        if !is_usual {
            return Err(frame);
        }
        let Some(slot) = self.table.vacancy(hash, key) else { return Err(frame) };
        let pick_key = PickKey {
            source: plain.ip.source.get().into(),
            destination: plain.ip.destination.get().into(),
            source_port: plain.tcp.source.get(),
            now_secs: now.seconds,
        };
        let flags = plain.tcp.flags;
        let Some(candidate) = service.pick_candidate(snapshot, self.shared.worker, &pick_key) else {
            self.forward_opened(pass);
            self.refuse_fresh(frame, pass);
            return Ok(());
        };
        // The real server itself is in no cache, maybe, and not needed yet; nor are its counts, if no pick looks at them.
        let id = candidate.id;
        let direction = direction_by(candidate.forwarding);
        let state = state::next(Protocol::Tcp, direction, flags, State::NONE, snapshot.switches.secure_tcp);
        self.table.fill(slot, Record::new(key, id, state, now.seconds, false));
        let tally = &candidate.tallies[self.shared.worker];
        let mut uncounted = None;
        if candidate.has_threshold {
            snapshot.server(id).bind(self.shared.worker, Protocol::Tcp, state);
        } else if service.scheduler.looks_at_connections() {
            match service.ranks {
                Some(_) => snapshot.server(id).bind(self.shared.worker, Protocol::Tcp, state),
                None => tally.count_in(Protocol::Tcp, state),
            }
        } else {
            uncounted = Some(state);
        }
        self.opened.push(First { frame, server: id, uncounted });
        if self.opened.is_full() {
            self.forward_opened(pass);
        }
        Ok(())
    }

    /// Sends the first packets of the connections that were opened to their real servers, and counts in those that are not
    /// yet. Comes before anything else that could meet these connections.
    pub(super) fn forward_opened<W: Wire<Frame = F>>(&mut self, pass: &mut Pass<'_, W>) {
        let snapshot = pass.context.snapshot;
        if snapshot.has_many_servers() {
            self.prefetch_opened(snapshot);
        }
        for First { server, uncounted, .. } in &self.opened {
            if let Some(server) = snapshot.get_server(*server)
                && let Some(tally) = server.tallies.get(self.shared.worker)
            {
                self.prefetch_hop(server, tally);
                if let Some(state) = *uncounted {
                    tally.count_in(Protocol::Tcp, state);
                }
                if server.forwarding == Forwarding::Nat {
                    tally.opened.count();
                }
            }
        }
        for First { mut frame, server, .. } in std::mem::take(&mut self.opened) {
            let server = snapshot.server(server);
            let tally = &server.tallies[self.shared.worker];
            let mut ready = self.express(pass.context).make_ready(&mut frame, server, tally);
            if ready.is_none() {
                // Its next hop was not looked up yet, or not since static neighbours changed.
                self.settle(server, pass.context);
                ready = self.express(pass.context).make_ready(&mut frame, server, tally);
            }
            match ready {
                Some(exit) => {
                    self.shared.counters.forwarded.add(1);
                    pass.wire.transmit(exit.port(), frame);
                }
                None => self.forward_fresh(frame, server, pass),
            }
        }
    }

    /// Asks the processor for the real servers of opened connections, and then for what these count: each in a loop of its
    /// own, since the processor waits for the page of each, and so waits for many at once.
    #[inline]
    fn prefetch_opened(&self, snapshot: &Snapshot) {
        for First { server, .. } in &self.opened {
            snapshot.prefetch_server(*server);
        }
        for First { server, .. } in &self.opened {
            if let Some(tally) = self.tally(Some(*server), snapshot) {
                dpdk::lcore::prefetch_write(tally);
            }
        }
    }

    /// A first packet that can't go on as most do.
    #[cold]
    pub(super) fn forward_fresh<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        server: &Server,
        pass: &mut Pass<'_, W>,
    ) {
        let mut reading = Reading::default();
        self.read_any(&frame, &mut reading, pass.context);
        let passed = self.forward_first(frame, &reading.packet, server, pass);
        self.end_of(passed, pass.wire);
    }

    /// No real server takes the connection.
    #[cold]
    pub(super) fn refuse_fresh<W: Wire<Frame = F>>(&mut self, frame: F, pass: &mut Pass<'_, W>) {
        let mut reading = Reading::default();
        self.read_any(&frame, &mut reading, pass.context);
        let error = reply::Error::PORT_UNREACHABLE;
        let passed = self.answer_error(frame, &reading.packet, error, pass);
        self.end_of(passed, pass.wire);
    }

    fn end_of<W: Wire<Frame = F>>(&mut self, passed: Passed<F>, wire: &mut W) {
        if let Err((frame, reason)) = passed {
            self.drop(frame, reason, wire);
        }
    }
}
