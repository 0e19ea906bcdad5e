//! `/api/v1/explain`: what would become of a packet, and why, as JSON.
//!
//! The workers say it, each for itself, between two passes: see `weir_dataplane::director::explain`. Here the question is put to
//! them, their answers are brought together, and numbers become names and sentences ([`words`]).

mod words;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dpdk::port::RssState;
use dpdk::rss::input_ipv4;
use weir_api::explain::{Explanation, Packet, Verdict};
use weir_config::model::Protocol;
use weir_dataplane::director::explain::{self as told, Flow, Question, Segment, Step, To};
use weir_dataplane::snapshot::{Port, Snapshot};

use super::query::pairs_once;
use crate::sources::Sources;

/// How long workers have for an answer. One that polls takes a millisecond.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time between two looks for answers.
const LOOK: Duration = Duration::from_micros(500);
const KEYS: &str = "the query holds protocol (tcp, udp, sctp), source and destination (each ADDRESS:PORT, an IPv6 address in brackets, both of one family), and may hold segment (syn, syn-ack, ack, fin, rst), length (bytes of the IP packet, 20 to 65535), port (the name of the one it comes in on) and worker (a number)";
const SEGMENTS: [(&str, Segment); 5] = [
    ("syn", Segment::Syn),
    ("syn-ack", Segment::SynAck),
    ("ack", Segment::Ack),
    ("fin", Segment::Fin),
    ("rst", Segment::Rst),
];

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    protocol: Protocol,
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
    segment: Option<Segment>,
    length: Option<u16>,
    port: Option<String>,
    worker: Option<usize>,
}

impl Query {
    /// From what stands behind the question mark.
    ///
    /// # Errors
    /// A sentence for the client.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let (mut protocol, mut ends) = (None, [None; 2]);
        let (mut segment, mut length, mut port, mut worker) = (None, None, None, None);
        for (key, value) in pairs_once(query, &[])? {
            match (&*key, &*value) {
                ("protocol", "tcp") => protocol = Some(Protocol::Tcp),
                ("protocol", "udp") => protocol = Some(Protocol::Udp),
                ("protocol", "sctp") => protocol = Some(Protocol::Sctp),
                ("source", end) => ends[0] = Some(parse_end("source", end)?),
                ("destination", end) => ends[1] = Some(parse_end("destination", end)?),
                ("segment", name) => {
                    let known = SEGMENTS.iter().find(|(known, _)| *known == name);
                    segment = Some(known.ok_or_else(|| KEYS.to_owned())?.1);
                }
                ("length", bytes) => {
                    let known = bytes.parse().ok().filter(|bytes| *bytes >= 20);
                    length = Some(known.ok_or_else(|| format!("length is {bytes}, not 20 to 65535"))?);
                }
                ("port", name) if !name.is_empty() => port = Some(name.to_owned()),
                ("worker", number) => {
                    let known = number.parse().map_err(|_| format!("worker is {number}, which is no number"));
                    worker = Some(known?);
                }
                _ => return Err(KEYS.to_owned()),
            }
        }
        match (protocol, ends) {
            (Some(_), [Some((source, _)), Some((destination, _))])
                if source.is_ipv4() != destination.is_ipv4() =>
            {
                Err(format!("{source} and {destination} are of two families: a packet has addresses of one"))
            }
            (Some(protocol), [Some(source), Some(destination)]) => {
                Ok(Self { protocol, source, destination, segment, length, port, worker })
            }
            _ => Err(KEYS.to_owned()),
        }
    }

    /// What is asked of which workers.
    ///
    /// # Errors
    /// A sentence for the client: there is no such port or worker.
    pub(super) fn resolve(&self, sources: &Sources) -> Result<Inquiry, String> {
        let port = match &self.port {
            None => port_towards(self.source.0, &sources.snapshot.load()),
            Some(name) => sources.ports.iter().position(|port| port.name == *name).ok_or_else(|| {
                let names: Vec<_> = sources.ports.iter().map(|port| port.name.as_str()).collect();
                format!("there is no port {name}; there are {}", names.join(", "))
            })?,
        };
        let count = sources.workers.len();
        let workers = match self.worker {
            None => (0..count).collect(),
            Some(number) if number < count => vec![number],
            Some(number) => return Err(format!("there is no worker {number}; there are 0 to {}", count - 1)),
        };
        let header = if self.source.0.is_ipv4() { 20 } else { 40 };
        let least = header
            + match self.protocol {
                Protocol::Tcp => 20,
                Protocol::Udp => 8,
                Protocol::Sctp => 16,
            };
        let question = Question {
            port,
            protocol: self.protocol,
            source: self.source,
            destination: self.destination,
            segment: self.segment.unwrap_or(Segment::Ack),
            total_len: self.length.unwrap_or(least).max(least),
        };
        Ok(Inquiry { question, workers, has_segment: self.segment.is_some() })
    }
}

fn parse_end(key: &str, text: &str) -> Result<(IpAddr, u16), String> {
    let end = text.parse::<SocketAddr>().map_err(|_| {
        format!(
            "{key} is {text}, which is no address with a port, such as 198.51.100.7:40000 or [2001:db8::7]:40000"
        )
    })?;
    Ok((end.ip().to_canonical(), end.port()))
}

/// The port that leads to an address, so that packets from there may be expected on it; else the first. Of IPv6 the port with
/// its network, since clients' packets are sent back by none.
fn port_towards(address: IpAddr, snapshot: &Snapshot) -> usize {
    match address {
        IpAddr::V4(address) => snapshot.routes.next_hop(address.into()).map_or(0, |hop| hop.port),
        IpAddr::V6(address) => {
            let has_network = |port: &Port| port.addresses6.iter().any(|net| net.contains(&address));
            snapshot.ports.iter().position(has_network).unwrap_or(0)
        }
    }
}

/// A question to some workers.
pub(super) struct Inquiry {
    question: Question,
    workers: Vec<usize>,
    /// What it does to its connection is the client's say; else what a packet of that flow does next.
    has_segment: bool,
}

/// Keeps inquiries apart: each has its answers before the next one asks.
#[derive(Default)]
pub(crate) struct Asking(Mutex<()>);

impl Inquiry {
    /// The page that answers it. Waits for the workers.
    pub(super) fn render(mut self, sources: &Sources) -> Result<Vec<u8>, String> {
        let _turn = sources.asking.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut snapshot, mut answers) = self.ask_all(sources);
        let is_known = |answer: &told::Explanation| {
            matches!(answer.to, Some(To::Server(_, Flow::Known) | To::Client(_, Flow::Known)))
        };
        if !self.has_segment && self.question.protocol != Protocol::Udp && !answers.iter().any(is_known) {
            // Nothing goes on, so what comes next is the first of something new.
            self.question.segment = Segment::Syn;
            (snapshot, answers) = self.ask_all(sources);
        }
        let silent = self.workers.iter().copied();
        let silent = silent.filter(|worker| answers.iter().all(|answer| answer.worker != *worker)).collect();
        let whose = self.whose(sources, &answers);
        if let Some((worker, _)) = whose {
            answers.retain(|answer| answer.worker == worker);
        }
        let mut groups: Vec<(Vec<usize>, told::Explanation)> = Vec::new();
        for answer in answers {
            let is_alike = |(_, other): &&mut (Vec<usize>, told::Explanation)| {
                (&other.steps, other.to, other.outcome) == (&answer.steps, answer.to, answer.outcome)
            };
            match groups.iter_mut().find(is_alike) {
                Some((workers, _)) => workers.push(answer.worker),
                None => groups.push((vec![answer.worker], answer)),
            }
        }
        let words = words::Words::new(sources, &snapshot, &self.question);
        let verdict = |(workers, answer): &(Vec<usize>, told::Explanation)| {
            let mut verdict = words.verdict(workers.clone(), answer);
            if let Some((worker, why)) = whose {
                let text = format!("{worker}: {}", why.text());
                verdict.steps.insert(0, weir_api::explain::Step { step: "worker".into(), text });
            }
            verdict
        };
        let verdicts: Vec<Verdict<'_>> = groups.iter().map(verdict).collect();
        let explanation = Explanation { packet: self.packet(sources), verdicts, silent };
        serde_json::to_vec(&explanation).map_err(|problem| problem.to_string())
    }

    /// The worker that gets the packet, if that can be known: devices bring a connection's packets to the one that has it, and
    /// some tell how they spread others.
    fn whose(&self, sources: &Sources, answers: &[told::Explanation]) -> Option<(usize, Whose)> {
        if self.workers.len() < 2 {
            return None;
        }
        if let Some(answer) = answers.iter().find(|answer| has_it(answer)) {
            return Some((answer.worker, Whose::Connection));
        }
        let rss = sources.ports.get(self.question.port)?.rss.as_ref()?;
        Some((worker_by(rss, &self.question, self.workers.len())?, Whose::Spread))
    }

    /// Asks until all have answered that are going to, by one configuration.
    fn ask_all(&self, sources: &Sources) -> (Arc<Snapshot>, Vec<told::Explanation>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answers = self.ask_once(sources, deadline);
            let snapshot = sources.snapshot.load_full();
            let is_of_one = answers.iter().all(|answer| answer.generation == snapshot.generation);
            if is_of_one {
                return (snapshot, answers);
            }
            if Instant::now() >= deadline {
                let of_this = |answer: &told::Explanation| answer.generation == snapshot.generation;
                let answers = answers.into_iter().filter(of_this).collect();
                return (snapshot, answers);
            }
        }
    }

    fn ask_once(&self, sources: &Sources, deadline: Instant) -> Vec<told::Explanation> {
        let ask = |&worker: &usize| (worker, sources.workers[worker].questions.ask(self.question));
        let mut asked: Vec<_> = self.workers.iter().map(ask).collect();
        let mut answers = Vec::new();
        while !asked.is_empty() {
            asked.retain(|(worker, number)| match sources.workers[*worker].questions.answer(*number) {
                Some(answer) => {
                    answers.push(answer);
                    false
                }
                None => true,
            });
            if asked.is_empty() || Instant::now() >= deadline {
                break;
            }
            thread::sleep(LOOK);
        }
        answers.sort_by_key(|answer| answer.worker);
        answers
    }

    fn packet<'a>(&self, sources: &'a Sources) -> Packet<'a> {
        let Question { port, protocol, source, destination, segment, total_len } = self.question;
        let name = SEGMENTS.iter().find(|(_, known)| *known == segment).map(|(name, _)| (*name).into());
        Packet {
            protocol: protocol.name().into(),
            source: source.0,
            source_port: source.1,
            destination: destination.0,
            destination_port: destination.1,
            segment: name.filter(|_| protocol != Protocol::Udp),
            length: total_len,
            port: sources.ports.get(port).map_or("", |port| port.name.as_str()).into(),
        }
    }
}

/// Why a packet comes to a worker.
#[derive(Debug, Clone, Copy)]
enum Whose {
    Connection,
    Spread,
}

impl Whose {
    fn text(self) -> &'static str {
        match self {
            Self::Connection => "it has the connection",
            Self::Spread => "the port's device gives it this packet (receive side scaling)",
        }
    }
}

/// The worker to which a device gives a packet. Queues are the workers' in turn.
fn worker_by(rss: &RssState, question: &Question, workers: usize) -> Option<usize> {
    let is_hashed = match question.protocol {
        Protocol::Tcp => rss.types.tcp,
        Protocol::Udp => rss.types.udp,
        Protocol::Sctp => false,
    };
    let (from, to) = (question.source, question.destination);
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (from.0, to.0) else { return None };
    let queue = rss.queue(&input_ipv4([source.to_bits(), destination.to_bits()], [from.1, to.1]));
    queue.filter(|_| is_hashed).map(|queue| usize::from(queue) % workers)
}

/// Whether a worker has the packet's connection in its own table, and it goes on.
fn has_it(answer: &told::Explanation) -> bool {
    let is_known = matches!(answer.to, Some(To::Server(_, Flow::Known)));
    let is_own = |step: &Step| matches!(step, Step::Record { worker, .. } if *worker == answer.worker);
    is_known && answer.steps.iter().any(is_own)
}

#[cfg(test)]
mod tests {
    use dpdk::port::RssTypes;

    use super::*;

    #[test]
    fn the_worker_is_the_one_that_the_device_gives_the_packet_to() {
        // The first example of Microsoft's "Verifying the RSS Hash Calculation", whose hash is 0x51ccc178.
        let key = [
            0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
            0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
            0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
        ];
        let types = RssTypes { ip: true, tcp: true, udp: false };
        let mut rss = RssState { key: key.to_vec(), types, reta: (0..128).collect() };
        let question = |protocol| Question {
            port: 0,
            protocol,
            source: ([66, 9, 149, 187].into(), 2794),
            destination: ([161, 142, 100, 80].into(), 1766),
            segment: Segment::Syn,
            total_len: 40,
        };
        assert_eq!(worker_by(&rss, &question(Protocol::Tcp), 7), Some(0x78 % 7));
        assert_eq!(worker_by(&rss, &question(Protocol::Udp), 7), None, "not hashed by its ports");
        rss.reta.clear();
        assert_eq!(worker_by(&rss, &question(Protocol::Tcp), 7), None, "a device that does not tell");
    }

    #[test]
    fn a_query_is_taken_apart_or_refused_with_a_sentence() {
        let ends = "source=198.51.100.7:40000&destination=192.0.2.1:80";
        let parsed =
            Query::parse(&format!("protocol=tcp&{ends}&segment=syn-ack&length=1500&port=wan&worker=1"));
        let expected = Query {
            protocol: Protocol::Tcp,
            source: ([198, 51, 100, 7].into(), 40_000),
            destination: ([192, 0, 2, 1].into(), 80),
            segment: Some(Segment::SynAck),
            length: Some(1500),
            port: Some("wan".to_owned()),
            worker: Some(1),
        };
        assert_eq!(parsed, Ok(expected));
        assert!(Query::parse(&format!("protocol=udp&{ends}")).is_ok());
        let six = Query::parse("protocol=tcp&source=[2001:db8::7]:40000&destination=[2001:db8::1]:80");
        let expected: IpAddr = "2001:db8::7".parse().unwrap();
        assert_eq!(six.map(|query| query.source), Ok((expected, 40_000)));
        for bad in [
            "",
            "protocol=tcp",
            "protocol=icmp&source=198.51.100.7:1&destination=192.0.2.1:80",
            "protocol=tcp&source=198.51.100.7&destination=192.0.2.1:80",
            "protocol=tcp&source=[::1]:1&destination=192.0.2.1:80",
            "protocol=tcp&source=198.51.100.7:1&destination=192.0.2.1:80&length=19",
            "protocol=tcp&source=198.51.100.7:1&destination=192.0.2.1:80&length=65536",
            "protocol=tcp&source=198.51.100.7:1&destination=192.0.2.1:80&segment=psh",
            "protocol=tcp&source=198.51.100.7:1&destination=192.0.2.1:80&worker=x",
            "protocol=tcp&source=198.51.100.7:1&destination=192.0.2.1:80&mark=1",
        ] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
    }
}
