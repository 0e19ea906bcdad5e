//! Numbers of an explanation as names and sentences: plain, short, for who reads them at night.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use weir_api::explain::{Step as Shown, Verdict};
use weir_config::model::{Forwarding, MacAddress, Protocol};
use weir_dataplane::conn::record::{Record, ServerId};
use weir_dataplane::conn::state::name;
use weir_dataplane::director::explain::{
    Barred, Explanation, Flow, Lapse, Outcome, Question, Replier, Segment, Step, Tie, To, Unrecorded,
};
use weir_dataplane::neighbor::AnyHop;
use weir_dataplane::neighbor::outlook::Outlook;
use weir_dataplane::sched::{Load, Measure, Peeked, Why};
use weir_dataplane::snapshot::Snapshot;
use weir_dataplane::snapshot::server::Server;
use weir_dataplane::snapshot::service::Service;
use weir_dataplane::wire::encap::Encap;
use weir_health::judge::ServiceListing;

use crate::sources::Sources;

/// Real servers that are named which were not picked; of more, how many there are.
const OTHERS_MAX: usize = 8;

/// What sentences are made of.
pub(super) struct Words<'a> {
    sources: &'a Sources,
    snapshot: &'a Snapshot,
    question: &'a Question,
    health: Vec<ServiceListing>,
}

impl<'a> Words<'a> {
    pub(super) fn new(sources: &'a Sources, snapshot: &'a Snapshot, question: &'a Question) -> Self {
        Self { sources, snapshot, question, health: sources.health.listing() }
    }

    /// What some workers say.
    pub(super) fn verdict(&self, workers: Vec<usize>, told: &Explanation) -> Verdict<'a> {
        let mut steps = Vec::new();
        let mut service = None;
        for step in &told.steps {
            if let Step::Asks(id) = step {
                service = self.snapshot.service(*id);
            }
            self.step(step, service, &mut steps);
        }
        let (verdict, reason) = match told.outcome {
            Outcome::Sent { .. } => ("forwarded", None),
            Outcome::Waits { .. } => ("waits", None),
            Outcome::Answered(answer) => ("answered", Some(answer.label().into())),
            Outcome::HandedOver(class) => ("handed_over", Some(class.label().into())),
            Outcome::Dropped(reason) => ("dropped", Some(reason.label().into())),
        };
        let (server, flow) = match told.to {
            Some(To::Server(id, flow) | To::Client(Replier::Server(id), flow)) => (Some(id), Some(flow)),
            Some(To::Client(Replier::Origin, flow)) => (None, Some(flow)),
            None => (None, None),
        };
        let is_reply = matches!(told.to, Some(To::Client(..)));
        let server = server.map(|id| self.snapshot.server(id));
        let of_server = server.and_then(|server| self.snapshot.service(server.service));
        let (port, mac) = match told.outcome {
            Outcome::Sent { port, mac } => (Some(self.port(port)), Some(mac_text(mac))),
            _ => (None, None),
        };
        Verdict {
            workers,
            steps,
            verdict: verdict.into(),
            reason,
            connection: flow.map(|flow| flow_word(flow).into()),
            virtual_server: of_server.or(service).map(|service| service.name.as_str().to_owned().into()),
            real_server: server.map(Server::ip),
            real_server_port: server.map(|server| match is_reply {
                true => self.question.source.1,
                false => server.port_for(self.question.destination.1),
            }),
            to: told.to.map(|to| if matches!(to, To::Server(..)) { "real_server" } else { "client" }.into()),
            port: port.map(|port| port.to_owned().into()),
            mac,
            text: self.decision(told),
        }
    }

    /// One sentence.
    fn decision(&self, told: &Explanation) -> String {
        let of = |flow: Flow| match flow {
            Flow::Known => "of a connection that is there",
            Flow::New => "as the first of a new connection",
            Flow::OnePacket => "by itself, without a record (one_packet)",
            Flow::Untracked => "without a record",
        };
        let to = match told.to {
            Some(To::Server(id, flow)) => format!("to real server {}, {}", self.server(id), of(flow)),
            Some(To::Client(_, flow)) => {
                format!("to its client {}, {}", end(self.question.destination), of(flow))
            }
            None => String::new(),
        };
        match told.outcome {
            Outcome::Sent { port, .. } => format!("forwarded {to}, out of port {}", self.port(port)),
            Outcome::Waits { .. } => format!("waits for its next hop's answer, then {to}"),
            Outcome::Answered(answer) => format!("answered: {}", lower(answer.help())),
            Outcome::HandedOver(class) => {
                format!("handed over to {} as {}", class.owner().label(), class.label())
            }
            Outcome::Dropped(reason) => {
                let meant = if to.is_empty() { to } else { format!(" on its way {to}") };
                format!("dropped{meant}: {}: {}", reason.label(), lower(reason.help()))
            }
        }
    }

    fn step(&self, step: &Step, service: Option<&Service>, shown: &mut Vec<Shown<'a>>) {
        let mut say = |step: &'static str, text: String| shown.push(Shown { step: step.into(), text });
        match step {
            Step::Asks(_) => {
                say("virtual server", service.map_or_else(String::new, |service| self.asks(service)));
            }
            Step::Unmarked => say(
                "virtual server",
                "none has this packet's mark, or it has none; a connection that began with one goes on"
                    .to_owned(),
            ),
            Step::MayBeData => say(
                "virtual server",
                "none at this port; the address has FTP, whose data connections come to ports that were announced"
                    .to_owned(),
            ),
            Step::Announced(id) => {
                let server = self.server(*id);
                say("connection", format!("the data connection that a control connection to {server} has announced"));
            }
            Step::FromServer => {
                let from = end(self.question.source);
                say(
                    "source",
                    format!("{from} is a NAT real server: this is taken for an answer to its client"),
                );
            }
            Step::Local => say(
                "destination",
                format!(
                    "{} is an address of weir's, without a virtual server for this",
                    end(self.question.destination)
                ),
            ),
            Step::Foreign => say(
                "destination",
                format!(
                    "{} is no virtual server and no address of weir's, and the source is no NAT real server",
                    end(self.question.destination)
                ),
            ),
            Step::OwnSource => say("source", format!("{} is an address of weir's", self.question.source.0)),
            Step::Record { record, worker, age, lifetime } => {
                say("connection", self.record(*record, *worker, *age, *lifetime));
            }
            Step::Foretold(id) => {
                let server = self.snapshot.server(*id);
                say("connection", format!("another director has told of it, to {}", server.ip()));
            }
            Step::NoRecord => say("connection", "there is none between these two".to_owned()),
            Step::Lapsed(lapse) => say("connection", lapse_text(*lapse).to_owned()),
            Step::Barred(barred) => say("opening", self.barred(*barred)),
            Step::OnePacket => say("opening", "each packet is scheduled by itself (one_packet)".to_owned()),
            Step::Unrecorded(why) => say("room", unrecorded_text(*why).to_owned()),
            Step::Tie(tie) => say("persistence", self.tie(*tie, service)),
            Step::Picked(peeked) => self.picked(peeked, service, shown),
            Step::ByEnds(server) => say(
                "without record",
                match server {
                    Some(id) => format!(
                        "{} by the packet's two ends and the weights, each time the same",
                        self.server(*id)
                    ),
                    None => "no real server has a weight".to_owned(),
                },
            ),
            Step::Forwarded(id) => say("method", self.method(self.snapshot.server(*id))),
            Step::Returned(vip, port) => {
                let vip = end((self.snapshot.ip(*vip), *port));
                say("method", format!("nat: the source becomes {vip}"));
            }
            Step::TooBig { mtu, is_cut } => {
                let length = self.question.total_len;
                let then = match *is_cut {
                    true => "it is cut, inside the tunnel",
                    false if self.question.source.0.is_ipv6() => "no router cuts a packet of IPv6",
                    false => "and DF is set",
                };
                say("size", format!("{length} bytes are more than the {mtu} that the way allows; {then}"));
            }
            Step::NoRoute => say("route", "no route leads there".to_owned()),
            Step::NextHop { hop, outlook } => say("next hop", self.next_hop(*hop, "ARP", *outlook)),
            Step::NextHop6 { hop, outlook } => {
                say("next hop", self.next_hop(*hop, "neighbour discovery", *outlook))
            }
        }
    }

    fn asks(&self, service: &Service) -> String {
        let method = service.method.name();
        let is_persistent = service.persistence.map_or_else(String::new, |it| {
            let by = it.engine.map_or_else(String::new, |engine| format!(" and {}", engine.name()));
            format!(", persistent for {} s by /{}{by}", it.timeout_secs, it.netmask)
        });
        let reached = match (service.mark, service.port) {
            (Some(mark), _) => format!("by mark {mark}"),
            (None, 0) => format!("{} {}, every port", service.protocol.name(), service.address),
            (None, port) => format!("{} {}", service.protocol.name(), end((service.address, port))),
        };
        format!("{}: {reached}, {method}{is_persistent}", service.name)
    }

    fn record(&self, record: Record, worker: usize, age: u32, lifetime: u32) -> String {
        let state = name(record.protocol(), record.state());
        let server = self.snapshot.server(record.server());
        let real = SocketAddr::new(server.ip(), server.port_for(record.port()));
        let of = self.snapshot.service(server.service).map_or("no virtual server any more", |it| &it.name);
        let left = match lifetime.checked_sub(age) {
            Some(left) => format!("{left} s left"),
            None => "none left".to_owned(),
        };
        let tied = if record.is_templated() { ", held by persistence" } else { "" };
        format!(
            "{state} to {real} of {of}, in worker {worker}'s table, last packet {age} s ago, {left}{tied}"
        )
    }

    fn barred(&self, barred: Barred) -> String {
        match (barred, self.question.protocol) {
            (Barred::FtpData, _) => "from port 20, FTP's data port, none is opened".to_owned(),
            (Barred::Segment, protocol) => {
                let segment = segment_word(protocol, self.question.segment);
                let switch = if protocol == Protocol::Sctp { "sloppy_sctp" } else { "sloppy_tcp" };
                format!("{segment} opens none ([connections] {switch})")
            }
        }
    }

    fn tie(&self, tie: Tie, service: Option<&Service>) -> String {
        let prefix = service.and_then(|service| service.persistence).map_or(u8::MAX, |it| it.netmask);
        let network = network(self.question.source.0, prefix);
        match tie {
            Tie::Holds(id) => format!("{network} is tied to {}", self.server(id)),
            Tie::Broken(id) => {
                format!(
                    "{network} was tied to {}, which is removed or quiesced: picked anew",
                    self.server(id)
                )
            }
            Tie::Made => format!("{network} is not tied yet; it is now"),
            Tie::NoRoom => format!("{network} is not tied, and the table of persistence is full"),
            Tie::ByCall => "calls are tied, by Call-ID: this is taken for the first packet of one".to_owned(),
        }
    }

    fn picked(&self, peeked: &Peeked<ServerId>, service: Option<&Service>, shown: &mut Vec<Shown<'a>>) {
        let mut say = |step: &'static str, text: String| shown.push(Shown { step: step.into(), text });
        let method = service.map_or("", |service| service.method.name());
        match peeked.picked {
            Some(id) => {
                say("scheduler", format!("{method} picks {}: {}", self.server(id), reason(&peeked.why)))
            }
            None => say("scheduler", format!("{method} finds none: {}", reason(&peeked.why))),
        }
        let Some(service) = service else { return };
        let is_compared =
            matches!(peeked.why, Why::Least(..) | Why::Fresh(_) | Why::HeaviestWithRoom | Why::Lots);
        let others: Vec<String> = service
            .list
            .iter()
            .filter(|candidate| Some(candidate.id) != peeked.picked)
            .filter_map(|candidate| {
                self.passed_over(self.snapshot.server(candidate.id), service, is_compared)
            })
            .chain(self.left_out(service))
            .collect();
        for text in others.iter().take(OTHERS_MAX) {
            say("  not", text.clone());
        }
        if others.len() > OTHERS_MAX {
            say(
                "  not",
                format!("{} more; `weirctl list {}` shows all", others.len() - OTHERS_MAX, service.name),
            );
        }
    }

    /// Why a real server was not picked that is in the list, if there is anything to say.
    fn passed_over(&self, server: &Server, service: &Service, is_compared: bool) -> Option<String> {
        let name = self.server(server.id);
        let (active, inactive) = (server.live.active(), server.live.inactive());
        if server.weight == 0 {
            let named = SocketAddr::new(server.ip(), server.named_port);
            let is_its = |(down, _): &(SocketAddr, String)| *down == named;
            let why = self.down(service).find(is_its).map_or_else(|| "weight 0".to_owned(), |(_, why)| why);
            return Some(format!("{name}: {why}"));
        }
        if server.is_overloaded() {
            let (count, upper) = (active + inactive, server.upper_threshold);
            return Some(format!("{name}: {count} connections, its upper threshold is {upper}"));
        }
        is_compared.then(|| format!("{name}: {active} active, {inactive} inactive, weight {}", server.weight))
    }

    /// Real servers that health checks hold for down, and that are in no list for that.
    fn left_out(&self, service: &Service) -> impl Iterator<Item = String> {
        let is_listed = |address: SocketAddr| {
            service
                .list
                .iter()
                .map(|candidate| self.snapshot.server(candidate.id))
                .any(|server| address == SocketAddr::new(server.ip(), server.named_port))
        };
        let down = self.down(service).filter(move |(address, _)| !is_listed(*address));
        down.map(|(address, why)| format!("{address}: {why}"))
    }

    /// Real servers that are down, and why.
    fn down(&self, service: &Service) -> impl Iterator<Item = (SocketAddr, String)> {
        let listed = self.health.iter().filter(|listed| listed.name == service.name);
        let down = listed.flat_map(|listed| &listed.servers).filter(|server| !server.is_up);
        down.map(|server| match &*server.reason {
            "" => (server.server, "down".to_owned()),
            reason => (server.server, format!("down: {reason}")),
        })
    }

    fn method(&self, server: &Server) -> String {
        let real = SocketAddr::new(server.ip(), server.port_for(self.question.destination.1));
        match server.forwarding {
            Forwarding::Dr => format!("dr to {real}: only MACs change; up to {} bytes", server.mtu),
            Forwarding::Nat => {
                format!("nat to {real}: the destination becomes that; up to {} bytes", server.mtu)
            }
            Forwarding::Tun => {
                let tunnel = match server.encap {
                    Encap::Ipip => "ipip".to_owned(),
                    Encap::Gue { port, .. } => format!("gue, UDP port {port}"),
                    Encap::Gre { .. } => "gre".to_owned(),
                };
                let source = match &server.far {
                    None => server.tunnel_source.get().into(),
                    Some(far) => far.way.map_or(Ipv6Addr::UNSPECIFIED, |way| way.source).into(),
                };
                let (to, source): (IpAddr, IpAddr) = (server.ip(), source);
                format!(
                    "tun ({tunnel}) to {to}: an outer header from {source}; up to {} bytes inside",
                    server.mtu
                )
            }
        }
    }

    /// `by` is what asks for next hops of its kind.
    fn next_hop(&self, hop: impl AnyHop, by: &str, outlook: Outlook) -> String {
        let known = match outlook {
            Outlook::Bound(mac) => format!("{}, as the file says", mac_text(mac)),
            Outlook::Reachable(mac) => format!("{}, by {by}", mac_text(mac)),
            Outlook::Late(mac) => {
                format!("{}, by {by} a while ago; it is asked again", mac_text(mac))
            }
            Outlook::Ask => "its MAC is not known yet; it is asked for".to_owned(),
            Outlook::Asked => "it was asked for its MAC and has not answered yet".to_owned(),
            Outlook::Failed => format!("it does not answer {by}"),
            Outlook::Crowded => "its MAC is not known, and too many packets wait for it".to_owned(),
        };
        format!("{} by port {}: {known}", hop.ip(), self.port(usize::from(hop.port())))
    }

    /// A real server, as listings name it.
    fn server(&self, id: ServerId) -> SocketAddr {
        let server = self.snapshot.server(id);
        SocketAddr::new(server.ip(), server.port_for(self.question.destination.1))
    }

    fn port(&self, number: usize) -> &'a str {
        self.sources.ports.get(number).map_or("of another configuration", |port| &port.name)
    }
}

fn end((address, port): (IpAddr, u16)) -> SocketAddr {
    SocketAddr::new(address, port)
}

/// The network of clients that an address is in; with a length that there is not, the address alone.
fn network(address: IpAddr, prefix: u8) -> IpNet {
    IpNet::new(address, prefix).map_or(IpNet::from(address), |net| net.trunc())
}

fn mac_text(MacAddress(octets): MacAddress) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

/// A sentence in the middle of one.
fn lower(sentence: &str) -> String {
    let sentence = sentence.trim_end_matches('.');
    let is_word = sentence.chars().nth(1).is_some_and(char::is_lowercase) || sentence.starts_with("A ");
    match sentence.chars().next().filter(|_| is_word) {
        Some(first) => first.to_lowercase().chain(sentence.chars().skip(1)).collect(),
        None => sentence.to_owned(),
    }
}

fn flow_word(flow: Flow) -> &'static str {
    match flow {
        Flow::Known => "existing",
        Flow::New => "new",
        Flow::OnePacket => "one_packet",
        Flow::Untracked => "untracked",
    }
}

fn segment_word(protocol: Protocol, segment: Segment) -> &'static str {
    let is_sctp = protocol == Protocol::Sctp;
    match segment {
        Segment::Syn if is_sctp => "an INIT",
        Segment::SynAck if is_sctp => "an INIT ACK",
        Segment::Ack if is_sctp => "DATA",
        Segment::Fin if is_sctp => "a SHUTDOWN",
        Segment::Rst if is_sctp => "an ABORT",
        Segment::Syn => "a SYN",
        Segment::SynAck => "a SYN with ACK",
        Segment::Ack => "an ACK",
        Segment::Fin => "a FIN",
        Segment::Rst => "a RST",
    }
}

fn lapse_text(lapse: Lapse) -> &'static str {
    match lapse {
        Lapse::Expired => "its time is over, so there is none any more",
        Lapse::ServerRemoved => {
            "its real server was removed, and it is not to have another one (expire_nodest_conn)"
        }
        Lapse::Rescheduled => "its real server was removed: it is scheduled anew",
        Lapse::Reused => "this packet begins another one in its place (conn_reuse_mode, expire_nodest_conn)",
    }
}

fn unrecorded_text(why: Unrecorded) -> &'static str {
    match why {
        Unrecorded::TableFull => "the worker's table is full: no record is made",
        Unrecorded::ClientsFull => {
            "there is no room for another IPv6 client (ipv6_clients): no record is made"
        }
        Unrecorded::ChainFull => "this client's port has too many connections: no record is made",
        Unrecorded::CrowdedElsewhere => "a worker that may get its packets has no room: no record is made",
        Unrecorded::FullElsewhere => {
            "the table of a worker that may get its packets is full, or was a moment ago"
        }
        Unrecorded::TurnedAway => {
            "it may be one of the flows for which there was no room of late: it goes where that one went"
        }
    }
}

/// In the scheduler's own words.
fn reason(why: &Why) -> String {
    let load = |load: &Option<Load>| match load {
        Some(Load { amount, weight }) => format!("{amount} for a weight of {weight}"),
        None => "no real server is usable".to_owned(),
    };
    match why {
        Why::Turn => "the next in turn that is usable".to_owned(),
        Why::Pass(weight) => format!("the next in turn that weighs at least {weight}"),
        Why::Least(_, None) | Why::Fresh(None) => load(&None),
        Why::Least(Measure::Connections, it) => {
            let amount = it.map_or(0, |load| load.amount);
            format!("fewest connections ({} active, {} inactive)", amount >> 8, amount & 255)
        }
        Why::Least(Measure::Weighted, it) => {
            format!("least load, {} (an active connection counts 256, an inactive one 1)", load(it))
        }
        Why::Least(Measure::Expected | Measure::ExpectedOrIdle, it) => {
            format!("least load to be expected, {} (active connections and this one)", load(it))
        }
        Why::Heaviest => "the heaviest that is usable".to_owned(),
        Why::HeaviestWithRoom => "the heaviest with no more active connections than its weight".to_owned(),
        Why::Lots => "the less loaded of two that were drawn by weight".to_owned(),
        Why::Slot { slot, of, is_fallback: false } => format!("slot {slot} of {of}"),
        Why::Slot { slot, of, is_fallback: true } => {
            format!("who has slot {slot} of {of} is not usable, and it comes next (fallback)")
        }
        Why::Remembered => "the destination has it already".to_owned(),
        Why::Fresh(it) => format!("the destination has none that may go on; least load, {}", load(it)),
    }
}
