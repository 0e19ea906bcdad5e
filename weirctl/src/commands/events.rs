//! `weirctl events`: what changes, a line each, as long as one looks. Weir is asked every second; what comes and goes in between is not
//! seen.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weir_api::director::{Ports, Status};
use weir_api::{health, vrrp};

use super::{Asked, print};
use crate::weir::Problem;

const INTERVAL: Duration = Duration::from_secs(1);

/// Prints until interrupted, or until `count` events were printed.
pub(super) fn run(asked: &mut Asked, count: Option<u64>) -> Result<(), Problem> {
    let mut before = Facts::ask(asked)?;
    let mut left = count.unwrap_or(u64::MAX);
    let mut is_lost = false;
    while left > 0 {
        sleep(INTERVAL);
        let events = match Facts::ask(asked) {
            Ok(now) => {
                let mut events =
                    if is_lost { vec![("weir".to_owned(), "answers again".to_owned())] } else { Vec::new() };
                events.extend(now.since(&before));
                (before, is_lost) = (now, false);
                events
            }
            // A weir that is started anew is worth waiting for.
            Err(Problem::Failed(problem)) if !is_lost => {
                is_lost = true;
                vec![("weir".to_owned(), problem)]
            }
            Err(Problem::Failed(_)) => Vec::new(),
            Err(problem) => return Err(problem),
        };
        for (subject, text) in events.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            left -= 1;
            print(&line(&subject, &text, SystemTime::now(), asked.is_json))?;
        }
    }
    Ok(())
}

/// What can be told of a director, by what it is told of.
#[derive(Debug, Default, PartialEq, Eq)]
struct Facts(BTreeMap<String, String>);

impl Facts {
    fn ask(asked: &mut Asked) -> Result<Self, Problem> {
        let status = asked.client.get("/api/v1/status")?;
        let ports = asked.client.get("/api/v1/ports")?;
        let health = asked.client.get("/api/v1/health")?;
        let vrrp = asked.client.get("/api/v1/vrrp")?;
        Ok(Self::of(&status, &ports, &health, &vrrp))
    }

    fn of(
        status: &Status<'static>,
        ports: &Ports<'static>,
        health: &health::Listing<'static>,
        vrrp: &vrrp::Listing<'static>,
    ) -> Self {
        let mut facts = BTreeMap::new();
        let mut fact = |subject: String, text: String| {
            facts.insert(subject, text);
        };
        let ready = match status.not_ready.as_slice() {
            [] => "ready".to_owned(),
            missing => format!("not ready: {}", missing.join("; ")),
        };
        fact("weir".to_owned(), ready);
        fact("configuration".to_owned(), format!("number {} is in force", status.generation));
        if !status.reload_successful {
            fact("file".to_owned(), "refused; weir's log says why".to_owned());
        }
        for it in &ports.ports {
            let link = match it.link_up {
                Some(true) => "link up",
                Some(false) => "link down",
                None => "link unknown",
            };
            fact(format!("port {}", it.port), link.to_owned());
        }
        for it in &health.virtual_servers {
            let quorum = if it.quorum { "quorum" } else { "no quorum" };
            let sorry = if it.sorry_server { ", the sorry server serves" } else { "" };
            fact(format!("virtual server {}", it.name), format!("{quorum}{sorry}"));
            for real in &it.real_servers {
                let state = if real.up { "up" } else { "down" };
                let reason =
                    if real.reason.is_empty() { String::new() } else { format!(": {}", real.reason) };
                let subject = format!("real server {} {}", it.name, real.real_server);
                fact(subject, format!("{state}, weight {}{reason}", real.weight));
            }
        }
        for it in &vrrp.instances {
            let fault = it.fault.as_ref().map(|fault| format!(": {fault}")).unwrap_or_default();
            fact(format!("VRRP {}", it.instance), format!("{}, priority {}{fault}", it.state, it.priority));
        }
        Self(facts)
    }

    /// What differs: of what, and how it is now.
    fn since(&self, before: &Self) -> Vec<(String, String)> {
        let changed = self.0.iter().filter(|(subject, text)| before.0.get(*subject) != Some(*text));
        let gone = before.0.keys().filter(|subject| !self.0.contains_key(*subject));
        let changed = changed.map(|(subject, text)| (subject.clone(), text.clone()));
        let gone = gone.map(|subject| {
            // The only thing that is told while it is wrong.
            let text = if subject == "file" { "accepted" } else { "gone" };
            (subject.clone(), text.to_owned())
        });
        changed.chain(gone).collect()
    }
}

fn line(subject: &str, text: &str, at: SystemTime, is_json: bool) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if is_json {
        return format!("{}\n", serde_json::json!({"time": seconds, "subject": subject, "text": text}));
    }
    let (hours, minutes) = (seconds / 3_600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}Z {subject}: {text}\n", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(up: bool, state: &str, successful: bool) -> Facts {
        let status = serde_json::json!({
            "version": "", "dpdk_version": "", "started": 0.0, "uptime_seconds": 0.0, "not_ready": [], "generation": 1,
            "reload_successful": successful, "reload_at": 0.0, "workers": 1, "connections": 0, "capacity": 1,
            "virtual_servers": 1, "real_servers": 1, "real_servers_serving": 1, "real_servers_down": 0,
            "vrrp_instances": 1, "vrrp_masters": 0,
        });
        let health = serde_json::json!({"virtual_servers": [{
            "name": "web", "quorum": up, "quorum_since": 0.0, "weight": 1, "quorum_weight": 1, "hysteresis": 0,
            "sorry_server": false, "real_servers": [{"real_server": "10.0.0.11:80", "up": up, "since": 0.0,
                "reason": if up { "" } else { "a check fails" }, "weight": 1, "configured_weight": 1, "ejections": 0,
                "checks": []}],
        }]});
        let vrrp = serde_json::json!({
            "instances": [{
                "instance": "vi", "sequence": 0, "port": "lan", "virtual_router_id": 51, "version": 3,
                "state": state, "priority": 100, "configured_priority": 100, "addresses": [], "sync_group": null,
                "fault": null, "since_transition_seconds": 0.0, "down_interval_seconds": 3.0, "last_heard": null,
                "advertisements_received": 1, "advertisements_sent": 2, "priority_zero_received": 0,
                "priority_zero_sent": 0, "became_master": 1, "released_master": 1, "unsigned": 0, "address_mismatches": 0,
                "announcements": 0, "defences": 0, "discarded": {},
            }],
            "unclaimed": [], "stalls": 0, "lateness_seconds": 0.0,
        });
        let read = |value| serde_json::from_value(value).unwrap();
        let health: health::Listing<'static> = serde_json::from_value(health).unwrap();
        let vrrp: vrrp::Listing<'static> = serde_json::from_value(vrrp).unwrap();
        Facts::of(&read(status), &Ports { ports: Vec::new() }, &health, &vrrp)
    }

    #[test]
    fn what_changes_is_an_event_and_what_stays_is_none() {
        let (calm, trouble) = (facts(true, "backup", true), facts(false, "master", false));
        assert_eq!(calm.since(&facts(true, "backup", true)), []);
        let told = |events: Vec<(String, String)>| -> Vec<String> {
            events.iter().map(|(subject, text)| format!("{subject}: {text}")).collect()
        };
        assert_eq!(
            told(trouble.since(&calm)),
            [
                "VRRP vi: master, priority 100",
                "file: refused; weir's log says why",
                "real server web 10.0.0.11:80: down, weight 1: a check fails",
                "virtual server web: no quorum",
            ]
        );
        assert!(told(calm.since(&trouble)).contains(&"file: accepted".to_owned()));
        assert!(told(Facts::default().since(&calm)).contains(&"VRRP vi: gone".to_owned()));
    }

    #[test]
    fn an_event_is_a_line() {
        let at = UNIX_EPOCH + Duration::from_secs(86_400 + 3_661);
        assert_eq!(line("weir", "ready", at, false), "01:01:01Z weir: ready\n");
        assert_eq!(
            line("weir", "ready", at, true),
            "{\"subject\":\"weir\",\"text\":\"ready\",\"time\":90061}\n"
        );
    }
}
