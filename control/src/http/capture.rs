//! `/api/v1/capture`: frames as a pcapng file, as long as the capture goes on. Frames hold what clients send, so only who may change
//! weir may have them, whence POST.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::Response;
use http_body_util::BodyExt as _;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Frame;
use ipnet::IpNet;
use weir_dataplane::capture::SNAP_LEN_MAX;
use weir_dataplane::capture::filter::{Filter, Kind, VALUES_MAX};
use weir_dataplane::stats::DropReason;

use super::query::{NoKeys, pairs, pairs_once};
use super::{HttpState, Visit, plain, respond};
use crate::capture::{Client, Session, Wanted};

const PCAPNG: HeaderValue = HeaderValue::from_static("application/x-pcapng");
/// Pieces that wait to be sent.
const PIECES_AHEAD: usize = 2;
/// Bytes of a frame that are kept unless the query says how many: all headers.
const SNAP_LEN: usize = 256;
/// A capture that is forgotten ends after so many seconds...
const SECONDS: u64 = 60;
/// ... and takes so many bytes.
const BYTES: u64 = 100 << 20;
const SECONDS_MAX: u64 = 3_600;
/// No less than one long frame.
const BYTES_MIN: u64 = 64 << 10;
const KEYS: &str = "the query may hold in=yes, out=yes, drop=REASON or drop=any, port, protocol, address, l4_port, snaplen, \
                    count, bytes and seconds";
/// Keys that may be there several times.
const SEVERAL: [&str; 4] = ["drop", "protocol", "address", "l4_port"];
/// Protocols that have a name here.
const PROTOCOLS: [(&str, Kind); 10] = [
    ("arp", Kind::Arp),
    ("icmp", Kind::Ip(1)),
    ("ipip", Kind::Ip(4)),
    ("tcp", Kind::Ip(6)),
    ("udp", Kind::Ip(17)),
    ("gre", Kind::Ip(47)),
    ("icmpv6", Kind::Ip(58)),
    ("ospf", Kind::Ip(89)),
    ("vrrp", Kind::Ip(112)),
    ("sctp", Kind::Ip(132)),
];

/// Begins a capture.
pub(super) async fn begin(State(state): State<HttpState>, visit: Visit, uri: Uri) -> Response {
    let query = uri.query().unwrap_or_default();
    let ports: Vec<&str> = state.sources().ports.iter().map(|port| port.name.as_str()).collect();
    let wanted = match parse(query, &ports) {
        Ok(wanted) => wanted,
        Err(problem) => return plain(StatusCode::BAD_REQUEST, format!("{problem}\n")),
    };
    let ends = Instant::now() + wanted.time;
    let place = match state.captures.take(ends) {
        Ok(place) => place,
        Err(other) => {
            let left = other.saturating_duration_since(Instant::now()).as_secs() + 1;
            let text = format!(
                "another capture is on and ends in {left} s at the latest; `weirctl capture --stop` ends it now\n"
            );
            return plain(StatusCode::CONFLICT, text);
        }
    };
    let begun = state.clone();
    let begun = tokio::task::spawn_blocking(move || Session::begin(begun.sources(), wanted, (place, ends)));
    let session = match begun.await.map(|begun| begun.map_err(|problem| problem.to_string())) {
        Ok(Ok(session)) => session,
        Ok(Err(problem)) => return plain(StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")),
        Err(problem) => return plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{problem}\n")),
    };
    let (sender, body) = Channel::<Bytes>::new(PIECES_AHEAD);
    let has_gone = Arc::<AtomicBool>::default();
    let presence = Presence(has_gone.clone());
    let body = body.map_frame(move |frame| {
        // Dropped with the body, whoever drops that.
        let _ = &presence;
        frame
    });
    // It may last longer than connections do.
    let stay = visit.guest.stay();
    drop(tokio::task::spawn_blocking(move || {
        let _stay = stay;
        session.run(state.sources(), &mut Reader { sender, has_gone });
    }));
    respond(StatusCode::OK, PCAPNG, Body::new(body))
}

/// Ends the capture that is on.
pub(super) async fn stop(State(state): State<HttpState>, _: NoKeys) -> Response {
    match state.captures.stop() {
        true => plain(StatusCode::OK, "the capture ends\n"),
        false => plain(StatusCode::CONFLICT, "no capture is on\n"),
    }
}

/// The client, as the capture's thread sees it.
struct Reader {
    sender: Sender<Bytes>,
    has_gone: Arc<AtomicBool>,
}

impl Client for Reader {
    fn offer(&mut self, piece: Vec<u8>) -> Result<(), Vec<u8>> {
        let given_back = self.sender.try_send(Frame::data(piece.into()));
        given_back.map_err(|frame| frame.into_data().map(Vec::from).unwrap_or_default())
    }

    fn has_gone(&self) -> bool {
        self.has_gone.load(Relaxed)
    }
}

/// Tells that it has gone when it goes.
struct Presence(Arc<AtomicBool>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// What a query asks for, of a weir with these ports.
///
/// # Errors
/// A sentence for the client.
fn parse(query: &str, ports: &[&str]) -> Result<Wanted, String> {
    let mut filter = Filter { snap_len: SNAP_LEN, ..Filter::NOTHING };
    let mut has_drops = false;
    let (mut count, mut bytes, mut seconds) = (u64::MAX, BYTES, SECONDS);
    for (key, value) in pairs_once(query, &SEVERAL)? {
        match (&*key, &*value) {
            ("in", "yes") => filter.received = true,
            ("out", "yes") => filter.sent = true,
            ("drop", reason) => {
                filter = filter.with_drops(&reasons(reason)?);
                has_drops = true;
            }
            ("port", name) => {
                let known = ports.iter().position(|port| *port == name);
                let known =
                    known.ok_or_else(|| format!("there is no port {name}; there are {}", ports.join(", ")));
                filter.port = Some(known?);
            }
            ("protocol", name) => add(&mut filter.protocols, &key, protocol(name)?)?,
            ("address", text) => add(&mut filter.networks, &key, network(text)?)?,
            ("l4_port", text) => add(&mut filter.l4_ports, &key, number(&key, text, 1, 65_535)? as u16)?,
            ("snaplen", text) => filter.snap_len = number(&key, text, 14, SNAP_LEN_MAX as u64)? as usize,
            ("count", text) => count = number(&key, text, 1, u64::MAX)?,
            ("bytes", text) => bytes = number(&key, text, BYTES_MIN, u64::MAX)?,
            ("seconds", text) => seconds = number(&key, text, 1, SECONDS_MAX)?,
            _ => return Err(KEYS.to_owned()),
        }
    }
    if !filter.received && !filter.sent && !has_drops {
        filter = Filter { received: true, sent: true, ..filter }.with_drops(DropReason::ALL);
    }
    let text: String = pairs(query).map(|(key, value)| format!(" {key}={value}")).collect();
    let text = if text.is_empty() { "everything".to_owned() } else { text.trim_start().to_owned() };
    let text = text.chars().filter(|it| !it.is_control()).collect();
    Ok(Wanted { filter, count, bytes, time: Duration::from_secs(seconds), text })
}

fn reasons(name: &str) -> Result<Vec<DropReason>, String> {
    if name == "any" {
        return Ok(DropReason::ALL.to_vec());
    }
    match DropReason::ALL.iter().find(|reason| reason.label() == name) {
        Some(reason) => Ok(vec![*reason]),
        None => Err(format!(
            "no frame is dropped for {name}; `weirctl stats --all` lists the reasons, and any is all of them"
        )),
    }
}

fn protocol(name: &str) -> Result<Kind, String> {
    let known = PROTOCOLS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    known.or_else(|| name.parse().ok().map(Kind::Ip)).ok_or_else(|| {
        let names: Vec<_> = PROTOCOLS.iter().map(|(name, _)| *name).collect();
        format!("protocol {name} is neither a number of IP up to 255 nor one of {}", names.join(", "))
    })
}

fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| text.parse())
        .map_err(|_| format!("{text} is no address, nor one with a prefix length"))
}

fn number(key: &str, text: &str, least: u64, most: u64) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| match most {
        u64::MAX => format!("{key} is not {least} or more"),
        _ => format!("{key} is not {least} to {most}"),
    })
}

fn add<T>(to: &mut arrayvec::ArrayVec<T, VALUES_MAX>, key: &str, value: T) -> Result<(), String> {
    to.try_push(value).map_err(|_| format!("{key} is there more than {VALUES_MAX} times"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: [&str; 2] = ["lan", "wan"];

    #[test]
    fn what_is_not_asked_for_is_everything_for_a_while() {
        let wanted = parse("", &PORTS).unwrap();
        let everything = Filter { received: true, sent: true, snap_len: 256, ..Filter::NOTHING };
        assert_eq!(wanted.filter, everything.with_drops(DropReason::ALL));
        assert_eq!((wanted.count, wanted.bytes, wanted.time.as_secs()), (u64::MAX, 100 << 20, 60));
        let drops = parse("drop=no_route&drop=stale", &PORTS).unwrap().filter;
        assert_eq!(
            drops,
            Filter { snap_len: 256, ..Filter::NOTHING }.with_drops(&[DropReason::NoRoute, DropReason::Stale])
        );
    }

    #[test]
    fn a_query_is_read_and_kept_for_the_file() {
        let query = "in=yes&port=wan&protocol=tcp&protocol=arp&protocol=47&address=10.0.0.0%2F8&address=2001:db8::1\
                     &l4_port=80&snaplen=64&count=9&bytes=70000&seconds=5";
        let wanted = parse(query, &PORTS).unwrap();
        let filter = Filter {
            received: true,
            port: Some(1),
            protocols: [Kind::Ip(6), Kind::Arp, Kind::Ip(47)].into_iter().collect(),
            networks: ["10.0.0.0/8", "2001:db8::1/128"].iter().map(|it| it.parse().unwrap()).collect(),
            l4_ports: [80].into_iter().collect(),
            snap_len: 64,
            ..Filter::NOTHING
        };
        assert_eq!(wanted.filter, filter);
        assert_eq!((wanted.count, wanted.bytes, wanted.time.as_secs()), (9, 70_000, 5));
        assert!(wanted.text.starts_with("in=yes port=wan protocol=tcp"), "{}", wanted.text);
    }

    #[test]
    fn what_is_wrong_is_said_in_a_sentence() {
        let many = "l4_port=1&".repeat(17);
        for (query, words) in [
            ("drop=no_rout", "no frame is dropped for no_rout"),
            ("port=dmz", "there is no port dmz; there are lan, wan"),
            ("protocol=tpc", "protocol tpc is neither a number of IP up to 255 nor one of arp, icmp"),
            ("protocol=256", "protocol 256"),
            ("address=10.0.0", "10.0.0 is no address"),
            ("l4_port=0", "l4_port is not 1 to 65535"),
            ("snaplen=16385", "snaplen is not 14 to 16384"),
            ("count=0", "count is not 1 or more"),
            ("count=1&count=2", "count is there twice"),
            ("port=lan&l4_port=1&l4_port=2&port=wan", "port is there twice"),
            ("bytes=1", "bytes is not 65536 or more"),
            ("seconds=3601", "seconds is not 1 to 3600"),
            ("in=no", "the query may hold"),
            (many.as_str(), "l4_port is there more than 16 times"),
        ] {
            let said = parse(query, &PORTS).unwrap_err();
            assert!(said.contains(words), "{query}: {said}");
        }
    }
}
