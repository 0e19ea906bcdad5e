//! What is explained is what happens: files, histories and packets by chance, each asked about before it is sent.

use weir_config::model::Protocol;

use super::fuzz::chance::Chance;
use super::fuzz::files;
use super::*;
use crate::director::explain::{Explanation, Flow, Outcome, Question, Replier, Segment, Step, To};
use crate::punt::{self, Channel, Punt};
use crate::stats::PuntClass;
use crate::wire::l4::{TCP_LEN, UDP_LEN};
use crate::wire::sctp::{self, chunk};

/// As long as `WEIR_EXPLAIN_PACKETS` does not ask for more.
const PACKETS: usize = 10_000;
const PACKETS_PER_CASE: usize = 250;
const MACS: [MacAddress; 2] = [OWN, MacAddress([2, 0, 0, 0, 0, 2])];

/// Directors that share a file out of some, and where their frames went.
struct Play {
    chance: Chance,
    configs: Vec<Config>,
    registry: Registry,
    snapshot: Snapshot,
    directors: Vec<Director<HeapFrame>>,
    counters: Vec<Arc<WorkerCounters>>,
    templates: Arc<Templates>,
    channel: Option<Channel>,
    now: Now,
    wire: HeapWire,
    /// Packets that reached a real server, and what would answer them.
    recent: Vec<(Question, Question)>,
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let configs: Vec<Config> = files::files(&mut chance).iter().map(|text| files::parsed(text)).collect();
        let workers = 1 + chance.below(2);
        // So few destinations that lblc's memory is soon full, and small enough to be compared as a whole.
        let options = Options { locality_entries: 16, ..Options::default() };
        let mut registry = Registry::new(workers, options);
        let snapshot = registry.snapshot(&configs[0], &MACS, Progress::default()).expect("a valid file");
        // Some tables are full all the time.
        let capacity = chance.of(&[1024, 200, 12]);
        let key = HashKey::new([0x1234_5678_9abc_def1, 0x9e37_79b9_7f4a_7c15]);
        let lines = || Slab::heap(Table::lines_for(capacity)).expect("memory");
        let tables: Vec<Table> = (0..workers).map(|_| Table::new(lines(), capacity, key)).collect();
        let views: Arc<[View]> = tables.iter().map(Table::view).collect();
        let room = chance.of(&[64, 4]);
        let templates = Slab::heap(Templates::lines_for(room)).expect("memory");
        let lines6 = Slab::heap(Templates::lines_for_ipv6(room)).expect("memory");
        let templates = Arc::new(Templates::new(templates, lines6, key));
        let mut shared = Shared::new(workers, MACS.len());
        let flows_move = workers > 1 && chance.once_in(2);
        shared.iter_mut().for_each(|shared| shared.flows_move = flows_move);
        let counters = shared.iter().map(|shared| shared.counters.clone()).collect();
        let mut punts: Vec<Punt> = (0..workers).map(|_| Punt::default()).collect();
        let hosted = Arc::new(punt::Hosted::new([1, 2], 1 << 30));
        let channel = chance.once_in(3).then(|| Channel::connect_host(&mut punts, &hosted));
        let of = |((shared, table), punt)| {
            Director::new(shared, table, views.clone(), templates.clone()).with_punt(punt)
        };
        let directors = shared.into_iter().zip(tables).zip(punts).map(of).collect();
        let mut play = Self {
            chance,
            configs,
            registry,
            snapshot,
            directors,
            counters,
            templates,
            channel,
            now: Now::default(),
            wire: HeapWire::default(),
            recent: Vec::new(),
        };
        play.pass(1);
        play
    }

    /// Time, and upkeep at its end.
    fn pass(&mut self, millis: u64) {
        self.now.millis += millis;
        self.now.seconds = (self.now.millis / 1000) as u32;
        for director in &mut self.directors {
            director.adopt(&self.snapshot);
            director.upkeep(&self.snapshot, self.now, &mut self.wire);
        }
        let mut taken = Vec::new();
        if let Some(channel) = &mut self.channel {
            while channel.pop(&mut taken).is_some() {}
        }
        self.wire.sent.clear();
    }

    fn reload(&mut self) {
        let progress = Progress::of(self.counters.iter().map(|counters| &**counters), Some(&self.templates));
        let file = self.chance.below(self.configs.len());
        self.snapshot = self.registry.snapshot(&self.configs[file], &MACS, progress).expect("a valid file");
        self.pass(1);
    }

    /// Something other than the packets that are asked about.
    fn disturb(&mut self) {
        match self.chance.below(60) {
            0 => self.reload(),
            1..10 => {
                let millis = self.chance.of(&[1, 1, 300, 1_000, 2_500, 6_000, 30_000, 400_000]);
                self.pass(millis);
            }
            10 => {
                // A next hop answers ARP, with a MAC that tells who it is.
                let octet = self.chance.of(&[11, 12, 13, 14, 200]);
                let mut frame = MACS[0].0.to_vec();
                frame.extend_from_slice(&[2, 0, 0, 0, 0, octet, 8, 6]);
                frame.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, octet, 10, 0, 0, octet]);
                frame.extend_from_slice(&MACS[0].0);
                frame.extend_from_slice(&[10, 0, 0, 2]);
                let worker = self.chance.below(self.directors.len());
                self.give(worker, 0, frame);
            }
            11..16 => {
                // Many at once, for tables, thresholds and rounds.
                for _ in 0..self.chance.below(40) {
                    let question = self.question();
                    let worker = self.chance.below(self.directors.len());
                    self.give(worker, question.port, frame_of(&question));
                }
            }
            _ => {}
        }
    }

    fn give(&mut self, worker: usize, port: usize, frame: Vec<u8>) {
        let mut burst = Burst::new();
        burst.push(HeapFrame::new(&frame));
        self.directors[worker].process(&mut burst, port, &self.snapshot, self.now, &mut self.wire);
    }

    /// A packet by chance: most are of flows that were there before.
    fn question(&mut self) -> Question {
        use Segment::{Ack, Fin, Rst, Syn, SynAck};
        let chance = &mut self.chance;
        let segment = chance.of(&[Syn, Syn, Syn, Ack, Ack, Ack, SynAck, Fin, Rst]);
        let total_len = chance.of(&[40, 40, 40, 41, 400, 577, 1_481, 1_500]);
        let port = usize::from(chance.once_in(3));
        if !self.recent.is_empty() && !chance.once_in(3) {
            let (request, reply) = self.recent[chance.below(self.recent.len())];
            let again = if chance.once_in(3) { reply } else { request };
            return Question { port, segment, total_len, ..again };
        }
        let client = match chance.below(8) {
            0 => Addr4::new(198, 51, 100, 7),
            1 => Addr4::new(203, 0, 113, chance.below(4) as u8),
            2 => Addr4::new(10, 0, 0, chance.of(&[2, 11, 100, 255])),
            _ => CLIENT,
        };
        let any = 1000 + chance.below(500) as u16;
        let client = (client, chance.of(&[20, 1000, 1001, 1002, any, any, any]));
        let (octet, service_port, protocol) = chance.of(&[
            (100, 80, Protocol::Tcp),
            (100, 80, Protocol::Tcp),
            (100, 53, Protocol::Udp),
            (100, 5000, Protocol::Sctp),
            (101, 22, Protocol::Tcp),
            (101, 443, Protocol::Tcp),
            (101, 53, Protocol::Udp),
            (102, 80, Protocol::Tcp),
            (102, 443, Protocol::Udp),
            (103, 81, Protocol::Tcp),
            (2, 22, Protocol::Tcp),
            (7, 80, Protocol::Tcp),
        ]);
        let service = (Addr4::new(10, 0, 0, octet), service_port);
        let server =
            (Addr4::new(10, 0, 0, 11 + chance.below(4) as u8), chance.of(&[8080, 8080, 5353, 5001, 53]));
        let (source, destination) = if chance.once_in(8) { (server, client) } else { (client, service) };
        let [source, destination] = [source, destination].map(|(address, port)| (address.into(), port));
        Question { port, protocol, source, destination, segment, total_len }
    }

    /// Asks about a packet, sends it, and compares.
    fn step(&mut self, seen: &mut Seen) {
        self.disturb();
        let question = self.question();
        let worker = self.chance.below(self.directors.len());
        let before = self.state();
        let ask = |play: &mut Self| play.directors[worker].explain(&question, &play.snapshot, play.now);
        let explained = ask(self);
        assert_eq!(ask(self), explained, "asked twice");
        assert_eq!(self.state(), before, "asking about {question:?} changed something");
        let counts = self.counts(worker);
        self.wire.sent.clear();
        self.give(worker, question.port, frame_of(&question));
        let happened = self.counts(worker).since(&counts);
        let expected = self.expected(&explained, &happened);
        assert_eq!(happened, expected, "{question:?} through worker {worker}\n{explained:#?}");
        if let Outcome::Sent { port, mac } = explained.outcome {
            let (way, frame) = self.wire.sent.last().expect("a frame that was sent");
            assert_eq!((*way, &frame.bytes()[..6]), (port, &mac.0[..]), "{question:?}\n{explained:#?}");
        }
        self.remember(&question, &explained);
        seen.note(&explained);
    }

    fn remember(&mut self, question: &Question, explained: &Explanation) {
        if let Some(To::Server(id, _)) = explained.to {
            let server = self.snapshot.server(id);
            if server.far.is_some() {
                return;
            }
            let source = (server.ip(), server.port_for(question.destination.1));
            let reply = Question { source, destination: question.source, ..*question };
            self.recent.push((*question, reply));
            if self.recent.len() > 12 {
                self.recent.remove(0);
            }
        }
    }

    /// Counters that a packet through a worker may move.
    fn counts(&self, worker: usize) -> Counts {
        let (counters, director) = (&self.counters[worker], &self.directors[worker]);
        // One that was edited is counted where it is now.
        let servers = || self.snapshot.servers();
        Counts {
            drops: DropReason::ALL.iter().map(|reason| counters.drops(*reason)).collect(),
            answers: Answer::ALL.iter().map(|answer| counters.answers(*answer)).collect(),
            punted: PuntClass::ALL.iter().map(|class| counters.punted(*class)).collect(),
            requests: servers().map(|server| server.live.workers[worker].in_packets.get()).collect(),
            opened: servers().map(|server| server.live.workers[worker].connections.get()).collect(),
            replies: servers().map(|server| server.live.workers[worker].out_packets.get()).collect(),
            was_sent: counters.forwarded.get(),
            untracked: counters.untracked.get(),
            asked: counters.arp_requests.get() + counters.nd_solicitations.get(),
            waiting: (director.neighbors.waiting() + director.neighbors6.waiting()) as u64,
        }
    }

    /// What an explanation says that the counters do.
    fn expected(&self, explained: &Explanation, happened: &Counts) -> Counts {
        let mut counts = Counts::none_like(happened);
        let of = |id| {
            let live = &self.snapshot.server(id).live;
            self.snapshot.servers().position(|server| Arc::ptr_eq(&server.live, live)).expect("a real server")
        };
        match explained.to {
            Some(To::Server(id, flow)) => {
                counts.requests[of(id)] = 1;
                counts.opened[of(id)] = u64::from(matches!(flow, Flow::New | Flow::OnePacket));
                counts.untracked = u64::from(flow == Flow::Untracked);
            }
            Some(To::Client(Replier::Server(id), _)) => {
                // Told to be too big, or without a route, it does not count; nor does a removed real server's.
                let is_on_its_way = !matches!(explained.outcome, Outcome::Answered(_))
                    && explained.outcome != Outcome::Dropped(DropReason::NoRoute)
                    && explained.outcome != Outcome::Dropped(DropReason::IcmpRateLimited);
                let counts_yet = is_on_its_way && self.snapshot.server(id).is_present;
                counts.replies[of(id)] = u64::from(counts_yet);
            }
            Some(To::Client(Replier::Origin, flow)) => {
                let is_on_its_way = matches!(explained.outcome, Outcome::Sent { .. } | Outcome::Waits { .. })
                    || matches!(
                        explained.outcome,
                        Outcome::Dropped(DropReason::NeighborFailed | DropReason::NeighborQueueFull)
                    );
                counts.untracked = u64::from(is_on_its_way && flow == Flow::Untracked);
            }
            None => {}
        }
        // A packet that is cut is so many packets from there on.
        let is_cut = explained.steps.iter().any(|step| matches!(step, Step::TooBig { is_cut: true, .. }));
        let pieces = |count: u64| if is_cut { count.max(1) } else { 1 };
        match explained.outcome {
            Outcome::Sent { .. } => counts.was_sent = pieces(happened.was_sent),
            Outcome::Waits { asks } => {
                counts.asked = u64::from(asks);
                counts.waiting = pieces(happened.waiting);
                if is_cut {
                    // The first piece may take the last seat.
                    let full = DropReason::NeighborQueueFull as usize;
                    counts.drops[full] = happened.drops[full];
                }
            }
            Outcome::Answered(answer) => counts.answers[answer as usize] = 1,
            Outcome::HandedOver(class) => counts.punted[class as usize] = 1,
            Outcome::Dropped(reason) => {
                counts.drops[reason as usize] = pieces(happened.drops[reason as usize]);
            }
        }
        counts
    }

    /// All that a question could change.
    fn state(&self) -> (Vec<Vec<crate::conn::record::Record>>, String, Vec<Counts>) {
        let tables = self.directors.iter().map(|director| director.table.iter().collect());
        let mut rest = String::new();
        for service in self.snapshot.services() {
            rest += &format!("{:?}\n", service.state);
        }
        let templates: Vec<_> = self.templates.listed().collect();
        rest += &format!("{templates:?}");
        (tables.collect(), rest, (0..self.directors.len()).map(|worker| self.counts(worker)).collect())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Counts {
    drops: Vec<u64>,
    answers: Vec<u64>,
    punted: Vec<u64>,
    requests: Vec<u64>,
    opened: Vec<u64>,
    replies: Vec<u64>,
    was_sent: u64,
    untracked: u64,
    asked: u64,
    waiting: u64,
}

impl Counts {
    fn since(&self, before: &Self) -> Self {
        let less = |now: &[u64], then: &[u64]| {
            now.iter().zip(then).map(|(now, then)| now - then).collect::<Vec<_>>()
        };
        Self {
            drops: less(&self.drops, &before.drops),
            answers: less(&self.answers, &before.answers),
            punted: less(&self.punted, &before.punted),
            requests: less(&self.requests, &before.requests),
            opened: less(&self.opened, &before.opened),
            replies: less(&self.replies, &before.replies),
            was_sent: self.was_sent - before.was_sent,
            untracked: self.untracked - before.untracked,
            asked: self.asked - before.asked,
            waiting: self.waiting.saturating_sub(before.waiting),
        }
    }

    fn none_like(other: &Self) -> Self {
        other.since(other)
    }
}

/// What has been met, so that a property that meets nothing is told.
#[derive(Default)]
struct Seen(HashMap<String, usize>);

impl Seen {
    fn note(&mut self, explained: &Explanation) {
        let mut note = |what: String| *self.0.entry(what).or_default() += 1;
        let first_word = |what: &dyn std::fmt::Debug| {
            let text = format!("{what:?}");
            text.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
        };
        explained.steps.iter().for_each(|step| note(first_word(step)));
        match explained.outcome {
            Outcome::Dropped(reason) => note(format!("Dropped {reason:?}")),
            Outcome::Answered(answer) => note(format!("Answered {answer:?}")),
            outcome => note(first_word(&outcome)),
        }
        match explained.to {
            Some(To::Server(_, flow)) => note(format!("Server {flow:?}")),
            Some(To::Client(_, flow)) => note(format!("Client {flow:?}")),
            None => {}
        }
    }
}

/// The packet as it comes in, made by other code than that which explains it.
fn frame_of(question: &Question) -> Vec<u8> {
    let (number, least) = match question.protocol {
        Protocol::Tcp => (ipv4::TCP, TCP_LEN),
        Protocol::Udp => (ipv4::UDP, UDP_LEN),
        Protocol::Sctp => (ipv4::SCTP, sctp::HEADER_LEN + sctp::CHUNK_LEN),
    };
    let len = usize::from(question.total_len).max(20 + least) - 20;
    let mut frame = MACS[question.port].0.to_vec();
    frame.extend_from_slice(&CLIENT_MAC.0);
    frame.extend_from_slice(&[8, 0]);
    let [source, destination] =
        [question.source.0, question.destination.0].map(|it| Addr4::of(it).expect("of IPv4"));
    let mut header = Ipv4::new(number, source, destination, len, 64);
    header.fragment.set(ipv4::DONT_FRAGMENT);
    header.refresh_checksum();
    frame.extend_from_slice(header.as_bytes());
    let mut l4 = question.source.1.to_be_bytes().to_vec();
    l4.extend_from_slice(&question.destination.1.to_be_bytes());
    match question.protocol {
        Protocol::Tcp => {
            let segment = match question.segment {
                Segment::Syn => SYN,
                Segment::SynAck => SYN | ACK,
                Segment::Ack => ACK,
                Segment::Fin => FIN | ACK,
                Segment::Rst => RST,
            };
            l4.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2, 0x50, segment, 1, 0, 0, 0, 0, 0]);
        }
        Protocol::Udp => {
            l4.extend_from_slice(&(len as u16).to_be_bytes());
            l4.extend_from_slice(&[0, 0]);
        }
        Protocol::Sctp => {
            l4.extend_from_slice(&[0; 8]);
            let kind = match question.segment {
                Segment::Syn => chunk::INIT,
                Segment::SynAck => chunk::INIT_ACK,
                Segment::Ack => chunk::DATA,
                Segment::Fin => chunk::SHUTDOWN,
                Segment::Rst => chunk::ABORT,
            };
            l4.extend_from_slice(&[kind, 0]);
            l4.extend_from_slice(&((len - 12) as u16).to_be_bytes());
        }
    }
    l4.resize(len, 0);
    put_checksum(&mut l4, number, &frame[26..]);
    frame.extend_from_slice(&l4);
    frame.resize(frame.len().max(60), 0);
    frame
}

#[test]
fn what_is_explained_is_what_happens_and_asking_changes_nothing() {
    let wanted = std::env::var("WEIR_EXPLAIN_PACKETS").map(|text| text.parse().expect("a number"));
    let packets = wanted.unwrap_or(PACKETS).max(PACKETS);
    let mut seen = Seen::default();
    for case in 0..packets / PACKETS_PER_CASE {
        let mut play = Play::new(0x6578_706c + case as u64);
        for _ in 0..PACKETS_PER_CASE {
            play.step(&mut seen);
        }
    }
    for what in [
        "Asks",
        "Unmarked",
        "FromServer",
        "Local",
        "Foreign",
        "OwnSource",
        "Record",
        "NoRecord",
        "Lapsed",
        "Barred",
        "OnePacket",
        "Unrecorded",
        "Tie",
        "Picked",
        "ByEnds",
        "Forwarded",
        "Returned",
        "TooBig",
        "NextHop",
        "Sent",
        "Waits",
        "HandedOver",
        "Server Known",
        "Server New",
        "Server OnePacket",
        "Server Untracked",
        "Client Known",
        "Client Untracked",
        "Answered TcpReset",
        "Answered PortUnreachable",
        "Answered FragmentationNeeded",
        "Dropped OwnSource",
        "Dropped NotServed",
        "Dropped ForeignAddress",
        "Dropped StrayReply",
        "Dropped RealServerRemoved",
        "Dropped NeighborFailed",
        "Dropped BadIpHeader",
    ] {
        assert!(seen.0.contains_key(what), "no packet met {what}");
    }
}
