//! What a director does between bursts: expire connections, let neighbours age, take in a new snapshot.

use weir_config::model::{MacAddress, Protocol};

use super::ftp::forget_helped;
use super::persist::hangs_on_template;
use super::{Context, Director, Message, Pass, Round};
use crate::classify::{LastService, LastService6};
use crate::clock::Now;
use crate::conn::record::Record;
use crate::conn::table::{OVERLAP, SWEEP_LINES_MAX, Slot, Verdict};
use crate::neighbor::{Ask, Due, Heard, Hop, Hop6, link};
use crate::packet::{Frame, Wire};
use crate::reply::{arp, nd};
use crate::snapshot::Snapshot;
use crate::stats::DropReason;
use crate::wire::ethernet::Vlan;

/// A full round of the sweep over the connection table takes this long, in milliseconds: how late an expired
/// connection may leave the counts.
const SWEEP_ROUND_MS: u64 = 2_000;
/// Connections on templates that one call ends at most; the others wait for the next round.
pub(super) const ENDED_TEMPLATED_MAX: usize = 64;
/// Real servers that one call looks at whose counts were taken over.
const COUNTED_MAX: usize = 256;
/// Messages of other workers that one call takes in at most.
const MESSAGES_MAX: usize = 16;

impl<F: Frame> Director<F> {
    /// Takes in a new snapshot, if it is one, before the first packet meets it: everything is read from it in place, so
    /// this takes no longer for a large one.
    #[inline]
    pub fn adopt(&mut self, snapshot: &Snapshot) {
        if (self.generation, self.edition) != (snapshot.generation, snapshot.edition) {
            self.take_in(snapshot);
        }
    }

    #[cold]
    pub(super) fn take_in(&mut self, snapshot: &Snapshot) {
        (self.generation, self.edition) = (snapshot.generation, snapshot.edition);
        self.has_one_place = self.has_one_place(snapshot);
        self.last_service = LastService::none();
        self.last_servers.clear();
        self.last_service6 = LastService6::none();
        self.last_servers6.clear();
        self.neighbors.set_own(snapshot.ports.iter().map(|port| port.mac));
        self.neighbors6.set_own(snapshot.ports.iter().map(|port| port.mac));
        if self.bindings_generation != snapshot.bindings_generation {
            self.bindings_generation = snapshot.bindings_generation;
            self.neighbors.rebind();
            self.neighbors6.rebind();
        }
        // Until all records are looked at, some may name whatever there was before: no number is given back.
        if !self.is_taking_over {
            self.shared.counters.generation.set(snapshot.generation);
        }
        snapshot.adopted_by(self.shared.worker);
    }

    fn has_one_place(&self, snapshot: &Snapshot) -> bool {
        !snapshot.has_both_hashes && !self.shared.flows_move && !self.shared.foretold.has_any()
    }

    /// Does what is due. Called once a poll, also when nothing was received; the work of one call is bounded.
    pub fn upkeep<W: Wire<Frame = F>>(&mut self, snapshot: &Snapshot, now: Now, wire: &mut W) {
        // First what others had to say: it may keep a connection that the sweep would end.
        if !self.shared.inboxes[self.shared.worker].is_empty() {
            self.read_inbox(snapshot, now, wire);
        }
        self.sweep(snapshot, now);
        if self.announcer.has_more() {
            self.announcer.run(wire, snapshot, now);
        }
        if self.buckets_due != 0 {
            self.sweep_templates(snapshot, now);
        }
        if now.millis == self.kept_until {
            return;
        }
        let passed = now.millis.saturating_sub(self.kept_until);
        self.kept_until = now.millis;
        self.has_one_place = self.has_one_place(snapshot);
        for port in &snapshot.ports {
            self.shared.counters.vrrp_fenced.add(port.virtual_macs.watch(now.cycles));
        }
        self.age_neighbors(snapshot, now, wire);
        self.age_neighbors6(snapshot, now, wire);
        if self.held.waiting() > 0 {
            self.look_at_waiting(&mut Pass { context: Context { snapshot, now, port: 0 }, wire });
        }
        self.sweep_pieces(passed, Context { snapshot, now, port: 0 });
        self.forget_destinations(snapshot, now);
        self.answer_questions(snapshot, now);
        if self.shared.worker == 0 {
            self.allow_template_sweep(passed);
            self.announcer.tick(snapshot, now);
            let snapshot_of = (snapshot.generation, snapshot.edition);
            if std::mem::replace(&mut self.reported, snapshot_of) != snapshot_of {
                self.reporter.look(snapshot, now);
            }
        }
        if self.reporter.is_busy() {
            let reports = self.reporter.tick(wire, snapshot, &self.shared.old_queriers, now);
            self.shared.counters.mld_reports.add(reports as u64);
        }
        self.shared.counters.seconds.set(u64::from(now.seconds));
        self.shared.counters.connections.set(self.table.len() as u64);
        self.shared.counters.ipv6_clients.set(self.table.clients.known() as u64);
        self.shared.counters.ipv6_clients_capacity.set(self.table.clients.capacity() as u64);
        let waiting = self.neighbors.waiting() + self.neighbors6.waiting();
        self.shared.counters.waiting.set(waiting as u64);
        self.shared.counters.pieces_waiting.set(self.held.waiting() as u64);
        if let Some(listing) = &mut self.listing
            && listing.go_on(
                (&self.neighbors, |hop| snapshot.binding(hop)),
                (&self.neighbors6, |hop| snapshot.binding6(hop)),
                now,
            )
        {
            self.listing = None;
        }
    }

    /// Whether there is more to do at `now` than the last [`Director::upkeep`] did: messages, announcements, or the sweeps over
    /// old connections and templates.
    #[inline]
    pub fn is_behind(&self, now: Now) -> bool {
        !self.shared.inboxes[self.shared.worker].is_empty()
            || self.announcer.has_more()
            || self.buckets_due != 0
            || now.millis * self.table.lines() as u64 / SWEEP_ROUND_MS > self.swept
    }

    /// Removes connections that are over: as many lines as the time that has passed is worth.
    #[inline]
    fn sweep(&mut self, snapshot: &Snapshot, now: Now) {
        let lines_per_round = self.table.lines() as u64;
        let due = now.millis * lines_per_round / SWEEP_ROUND_MS - self.swept;
        if due == 0 {
            return;
        }
        if self.is_taking_over {
            self.take_over_more(snapshot, now);
            return;
        }
        // A worker that is behind by more than a round is too busy to ever catch up, and need not.
        self.swept += due.saturating_sub(lines_per_round);
        let worker = self.shared.worker;
        let swept = self.shared.counters.swept.get();
        // Since the last round began no snapshot came that has ended a connection or taken its template: only time does.
        let young = (swept >= snapshot.ended_since).then_some((&snapshot.lifetimes, now.seconds));
        let mut templated = std::mem::take(&mut self.ended_templated);
        let mut templated6 = std::mem::take(&mut self.ended_templated6);
        let mut round = self.round;
        let lines = due.min(SWEEP_LINES_MAX as u64) as usize;
        let lines = self.table.sweep(lines, young, |record| {
            let server = snapshot.server(record.server());
            let lifetime = snapshot.lifetimes.of(record.protocol(), record.state());
            let is_orphan = !server.is_present
                && (snapshot.switches.expire_nodest_conn
                    || record.protocol() == Protocol::Udp
                    || snapshot.service(server.service).is_none());
            let is_orphan = is_orphan || snapshot.vips.has_left(record.vip());
            let is_over = is_orphan || record.age(now.seconds) > lifetime;
            let is_templated = record.is_templated() && hangs_on_template(record, snapshot, swept);
            if !is_over {
                let has_lost_template = record.is_templated() && !is_templated;
                return if has_lost_template {
                    Verdict::Update(record.without_template())
                } else {
                    Verdict::Keep
                };
            }
            if is_templated {
                // What hangs on a template that can't be let go of now is looked at again in the next round.
                if templated.len() + templated6.len() == ENDED_TEMPLATED_MAX {
                    round.is_whole = false;
                    return Verdict::Keep;
                }
                // With its record its number may go, too.
                let client = record.client();
                let known = || self.views[worker].clients().address(client);
                match client.is_of_ipv6().then(known).flatten() {
                    Some(client) => templated6.push((record, client)),
                    None => templated.push(record),
                }
            }
            if record.is_helped() {
                forget_helped((&self.shared.extras, &self.views[worker]), record, snapshot);
            }
            server.unbind(worker, record.protocol(), record.state());
            Verdict::End
        });
        let lines = lines as u64;
        self.swept += lines;
        self.detach_all(&templated, snapshot, now);
        templated.clear();
        self.ended_templated = templated;
        if !templated6.is_empty() {
            self.detach_all6(&templated6, snapshot, now);
            templated6.clear();
        }
        self.ended_templated6 = templated6;
        round.is_whole &= !self.table.has_slipped();
        round.lines += lines;
        // The lines where it began once more: a record that a newer one took the place of may have moved into them.
        if round.lines >= lines_per_round + OVERLAP as u64 {
            if round.is_whole {
                self.shared.counters.swept.set(round.generation);
            }
            round = Round { generation: snapshot.generation, lines: 0, is_whole: true };
        }
        self.round = round;
    }

    /// Looks at some more of what a process before has left. The sweep begins when that is done.
    #[cold]
    fn take_over_more(&mut self, snapshot: &Snapshot, now: Now) {
        if self.table.adopt_more() {
            return;
        }
        let servers = snapshot.by_number().get(self.counted_servers..).unwrap_or_default();
        servers.iter().take(COUNTED_MAX).for_each(|server| server.was_counted(self.shared.worker));
        self.counted_servers += COUNTED_MAX;
        if servers.len() > COUNTED_MAX {
            return;
        }
        self.is_taking_over = false;
        self.swept = now.millis * self.table.lines() as u64 / SWEEP_ROUND_MS;
        self.round = Round { generation: snapshot.generation, lines: 0, is_whole: true };
        self.shared.counters.generation.set(snapshot.generation);
    }

    /// Lets one virtual server's scheduler forget destinations, another one with each call: so many there are, so many
    /// milliseconds lie between two turns of one, which is short beside the minute of its clock.
    fn forget_destinations(&mut self, snapshot: &Snapshot, now: Now) {
        if let Some(service) = snapshot.forgetful(self.forgetful_turn) {
            service.forget(self.shared.worker, now.seconds);
            self.forgetful_turn = self.forgetful_turn.wrapping_add(1);
        }
    }

    /// Takes in what the other workers had to say, a few messages at a time: each may be about a connection whose line is in
    /// no cache, and may free packets that wait.
    #[cold]
    fn read_inbox<W: Wire<Frame = F>>(&mut self, snapshot: &Snapshot, now: Now, wire: &mut W) {
        for _ in 0..MESSAGES_MAX {
            match self.shared.inboxes[self.shared.worker].pop() {
                Some(Message::Learned(hop, mac)) => {
                    let context = Context { snapshot, now, port: usize::from(hop.port()) };
                    self.learn(hop, mac, &mut Pass { context, wire });
                }
                Some(Message::Heard(hop, heard)) => {
                    let context = Context { snapshot, now, port: usize::from(hop.port()) };
                    self.hear(hop, heard, &mut Pass { context, wire });
                }
                Some(Message::Passed(record, segment, direction)) => {
                    if let Some((slot, present)) = self.find_again(record) {
                        self.follow(slot, present, segment, direction, Context { snapshot, now, port: 0 });
                    }
                }
                Some(Message::Over(record)) => {
                    // One whose state is another one now went on meanwhile.
                    if let Some((slot, present)) =
                        self.find_again(record).filter(|(_, present)| present.state() == record.state())
                    {
                        self.end(slot, present, Context { snapshot, now, port: 0 });
                    }
                }
                None => return,
            }
        }
    }

    /// The connection that another worker saw, as it is now.
    fn find_again(&self, record: Record) -> Option<(Slot, Record)> {
        let key = record.lookup_key();
        let found = self.table.find(self.table.hash(key.hash_input()), key);
        found.filter(|(_, present)| present.server() == record.server())
    }

    fn age_neighbors<W: Wire<Frame = F>>(&mut self, snapshot: &Snapshot, now: Now, wire: &mut W) {
        self.drop_spilled(wire);
        let counters = &self.shared.counters;
        self.neighbors.tick(
            now,
            |hop| snapshot.binding(hop),
            |due| match due {
                Due::Ask(Ask { hop, to }) => {
                    let from = (usize::from(hop.port()), Vlan::of_network(hop.network()));
                    if arp::request(wire, snapshot, from, hop.address(), to) {
                        counters.arp_requests.add(1);
                    }
                }
                Due::Send(hop, link, mut frame) => {
                    super::write_link(frame.bytes_mut(), &link);
                    counters.forwarded.add(1);
                    wire.transmit(usize::from(hop.port()), frame);
                }
                Due::Drop(frame) => {
                    counters.dropped(DropReason::NeighborFailed);
                    wire.discard(frame, DropReason::NeighborFailed);
                }
            },
        );
    }

    fn age_neighbors6<W: Wire<Frame = F>>(&mut self, snapshot: &Snapshot, now: Now, wire: &mut W) {
        let counters = &self.shared.counters;
        self.neighbors6.tick(
            now,
            |hop| snapshot.binding6(hop),
            |due| match due {
                Due::Ask(Ask { hop, to }) => {
                    let from = (usize::from(hop.port()), Vlan::of_network(hop.network()));
                    if nd::solicit(wire, snapshot, from, hop.address(), to) {
                        counters.nd_solicitations.add(1);
                    }
                }
                Due::Send(hop, link, mut frame) => {
                    super::write_link(frame.bytes_mut(), &link);
                    counters.forwarded.add(1);
                    wire.transmit(usize::from(hop.port()), frame);
                }
                Due::Drop(frame) => {
                    counters.dropped(DropReason::NeighborFailed);
                    wire.discard(frame, DropReason::NeighborFailed);
                }
            },
        );
    }

    /// Takes in what neighbour discovery said and sends what waited for it. Returns whether the neighbour was known.
    pub(super) fn hear<W: Wire<Frame = F>>(
        &mut self,
        hop: Hop6,
        heard: Heard,
        pass: &mut Pass<'_, W>,
    ) -> bool {
        let Context { snapshot, now, .. } = pass.context;
        let counters = &self.shared.counters;
        let bound = || snapshot.binding6(hop);
        self.neighbors6.hear(hop, heard, bound, now, |link, mut frame| {
            super::write_link(frame.bytes_mut(), link);
            counters.forwarded.add(1);
            pass.wire.transmit(usize::from(hop.port()), frame);
        })
    }

    /// Takes in what ARP said and sends what waited for it. Returns whether the neighbour was known.
    pub(super) fn learn<W: Wire<Frame = F>>(
        &mut self,
        hop: Hop,
        mac: MacAddress,
        pass: &mut Pass<'_, W>,
    ) -> bool {
        let port = usize::from(hop.port());
        let link = link(mac, pass.context.snapshot.ports[port].mac);
        let counters = &self.shared.counters;
        let bound = || pass.context.snapshot.binding(hop);
        self.neighbors.learn(hop, mac, bound, pass.context.now, |mut frame| {
            super::write_link(frame.bytes_mut(), &link);
            counters.forwarded.add(1);
            pass.wire.transmit(port, frame);
        })
    }
}
