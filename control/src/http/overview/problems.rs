//! What is wrong, in sentences. None holds a figure that changes all the time: a page reads new ones aloud.

use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use weir_api::overview::Problem;
use weir_health::judge::ServiceListing;

use super::shot::{Speeds, State};
use crate::metrics::reading::Reading;
use crate::reload_status::unix_seconds;

/// Sentences of an answer: nobody reads more.
const LISTED_MAX: usize = 100;
/// A connection table that is fuller than this many hundredths is about to be full.
const FULL_PERCENT: u64 = 90;
/// Days that are left to renew a certificate.
const CERTIFICATE_DAYS: f64 = 14.0;

/// Those that are listed, and how many more there are.
#[derive(Default)]
struct List {
    severe: Vec<Problem>,
    others: Vec<Problem>,
    more: usize,
}

impl List {
    fn add(&mut self, severe: bool, virtual_server: Option<&str>, text: impl FnOnce() -> String) {
        let list = if severe { &mut self.severe } else { &mut self.others };
        if list.len() < LISTED_MAX {
            let virtual_server = virtual_server.map(ToOwned::to_owned);
            list.push(Problem { severe, virtual_server, text: text() });
        } else {
            self.more += 1;
        }
    }

    fn end(mut self) -> (Vec<Problem>, usize) {
        let mut all = self.severe;
        all.append(&mut self.others);
        let more = self.more + all.len().saturating_sub(LISTED_MAX);
        all.truncate(LISTED_MAX);
        (all, more)
    }
}

/// The worst first, and how many more there are.
pub(super) fn list(
    reading: &Reading,
    states: &[State],
    not_ready: &[String],
    speeds: Option<&Speeds>,
    now: SystemTime,
) -> (Vec<Problem>, usize) {
    let mut list = List::default();
    for phrase in not_ready {
        list.add(true, None, || format!("weir is not ready: {phrase}."));
    }
    for instance in reading.vrrp.instances.iter().filter(|instance| instance.state == "fault") {
        let why = instance.fault_sentence.as_deref().unwrap_or("it is not known why");
        list.add(true, None, || format!("VRRP instance {} is in fault: {why}.", instance.instance));
    }
    tables(&mut list, reading, speeds);
    ports(&mut list, reading, speeds);
    process(&mut list, reading, now);
    for state in states {
        if let Some(service) = state.health.map(|number| &reading.health.services[number]) {
            virtual_server(&mut list, service);
        }
    }
    list.end()
}

fn tables(list: &mut List, reading: &Reading, speeds: Option<&Speeds>) {
    for (number, worker) in reading.workers.iter().enumerate() {
        let is_full = worker.capacity > 0 && worker.connections * 100 >= worker.capacity * FULL_PERCENT;
        if is_full {
            list.add(true, None, || {
                format!("The connection table of worker {number} is over {FULL_PERCENT} % full.")
            });
        }
    }
    if speeds.is_some_and(|speeds| speeds.untracked > 0.0) {
        list.add(true, None, || {
            "Packets are forwarded without a connection record: there is no room for more.".to_owned()
        });
    }
}

fn ports(list: &mut List, reading: &Reading, speeds: Option<&Speeds>) {
    let Some(speeds) = speeds else { return };
    for (port, flow) in reading.ports.iter().zip(&speeds.ports).filter(|(_, flow)| flow.lost > 0.0) {
        list.add(true, None, || match flow.receive_packets > 0.0 {
            true => format!("Port {} loses frames.", port.name),
            false => format!("Port {} loses frames and receives none.", port.name),
        });
    }
}

/// The process and its surroundings.
fn process(list: &mut List, reading: &Reading, now: SystemTime) {
    if !reading.reload_successful {
        list.add(false, None, || {
            "The file could not be loaded. The configuration before it stays in force; the log says why."
                .to_owned()
        });
    }
    if let Some(kept) = reading.kept.as_ref().filter(|kept| !kept.is_kept.load(Relaxed)) {
        list.add(false, None, || format!("{} is away: connections would end with this process.", kept.by));
    }
    let (ends, is_exposed) = reading.http_certificate;
    let days = ends.map(|ends| (ends as f64 - unix_seconds(now)) / 86_400.0);
    match days {
        Some(days) if days <= 0.0 => {
            list.add(true, None, || "The certificate of the HTTP listener has expired.".to_owned());
        }
        Some(days) if days <= CERTIFICATE_DAYS => {
            list.add(false, None, || {
                format!("The certificate of the HTTP listener expires within {:.0} days.", days.ceil())
            });
        }
        _ => {}
    }
    if is_exposed {
        list.add(false, None, || "Others can read or write the key of the HTTP listener.".to_owned());
    }
}

fn virtual_server(list: &mut List, service: &ServiceListing) {
    let name = service.name.as_str();
    if !service.has_quorum {
        let instead = if service.has_sorry_server { " Its sorry server serves." } else { "" };
        let (weight, needed) = (service.weight, service.quorum.weight);
        list.add(true, Some(name), || match weight {
            0 => format!("Virtual server {name} is down: none of its real servers is up.{instead}"),
            _ => format!(
                "Virtual server {name} is down: it needs real servers of weight {needed}, and {weight} is up.{instead}"
            ),
        });
    }
    for server in service.servers.iter().filter(|server| !server.is_up) {
        list.add(false, Some(name), || {
            format!("Real server {} of {name} is down: {}.", server.server, server.reason)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_come_first_and_what_nobody_would_read_is_counted() {
        let mut list = List::default();
        for number in 0..LISTED_MAX + 7 {
            list.add(false, Some("web"), || format!("small {number}"));
        }
        list.add(true, None, || "large".to_owned());
        let (all, more) = list.end();
        assert_eq!((all.len(), all[0].text.as_str(), all[1].text.as_str()), (LISTED_MAX, "large", "small 0"));
        assert_eq!(more, 8);
        assert_eq!((all[0].virtual_server.as_deref(), all[1].virtual_server.as_deref()), (None, Some("web")));
    }
}
