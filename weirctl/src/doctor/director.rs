//! What a running weir says of itself.

use std::collections::HashMap;

use weir_api::director::Device;
use weir_api::virtual_servers::RealServer;

use super::Finding;
use super::facts::{Answers, Facts, PATIENCE, within};
use crate::client::Door;
use crate::screen::time;

/// Fewer connections that do not open say nothing: a client may be gone.
const OPENING_MIN: u32 = 5;
/// Names that are listed at most.
const NAMES_MAX: usize = 3;
/// Losses of one kind: what they are, their count, what helps.
type Kind = (&'static str, fn(&Device) -> u64, &'static str);

/// Frames after which it is to be seen how they are spread.
const FRAMES_MIN: u64 = 10_000;

/// Whether it runs and is ready.
pub(super) fn weir(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "weir";
    let answers = match &facts.answers {
        Ok(answers) => answers,
        Err(problem) if facts.runs() => {
            let pid = facts.process.pid.unwrap_or_default();
            let text = format!("it runs (process {pid}) and does not answer: {problem}");
            return vec![Finding::fail(
                CHECK,
                text,
                "name its socket (--socket, [control] socket); else see its log: journalctl -u weir",
            )];
        }
        Err(problem) => {
            let text = format!("only the machine is looked at: {problem}");
            return vec![Finding::warn(CHECK, text, "systemctl start weir")];
        }
    };
    let status = &answers.status;
    let mut found = Vec::new();
    if status.not_ready.is_empty() {
        found.push(Finding::ok(
            CHECK,
            format!(
                "ready, {} on DPDK {}, for {}",
                status.version,
                status.dpdk_version,
                time(status.uptime_seconds)
            ),
        ));
    } else {
        found.push(Finding::fail(
            CHECK,
            format!("not ready: {}", status.not_ready.join("; ")),
            "journalctl -u weir -n 50",
        ));
    }
    if status.version != env!("CARGO_PKG_VERSION") {
        let text = format!("weir is {}, and this is weirctl {}", status.version, env!("CARGO_PKG_VERSION"));
        found.push(Finding::warn(CHECK, text, "restart weir, or install the weirctl of its version"));
    }
    if let Door::Http(address) = &facts.door {
        let text = format!("asked at {address}, which does not tell what is in force");
        found.push(Finding::warn(CHECK, text, "as root, without --http"));
    }
    found
}

/// Whether its file is good, and in force.
pub(super) fn file(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "file";
    let file = facts.file.display();
    let in_force = facts.answers.as_ref().ok().and_then(|it| it.in_force.as_ref());
    let mut found = Vec::new();
    if let Some(why) = in_force.and_then(|it| it.refused.as_ref()) {
        let why = why.lines().next().unwrap_or_default();
        let text = format!("{file} would be refused now: {why}");
        found.push(Finding::fail(CHECK, text, format!("weir --check -c {file}")));
    } else if in_force.is_none() {
        found.extend(on_disk(facts));
    }
    let Ok(Answers { status, .. }) = &facts.answers else {
        if found.is_empty() {
            found.push(Finding::ok(CHECK, format!("{file} is good")));
        }
        return found;
    };
    if !status.reload_successful {
        let since = time(status.started + status.uptime_seconds - status.reload_at);
        let text = format!("the file of {since} ago was refused; the one before it is in force");
        found.push(Finding::fail(CHECK, text, format!("weir --check -c {file}, then weirctl reload")));
    }
    if in_force.is_some_and(|it| it.is_file_new) {
        let text = format!("{file} was changed after weir has read it");
        found.push(Finding::warn(CHECK, text, "weirctl reload --dry-run, then weirctl reload"));
    }
    if let Some(edits) = in_force.map(|it| it.edits).filter(|edits| *edits > 0) {
        let text = format!("{edits} edit(s) since {file} was read are not in it: a restart loses them");
        found.push(Finding::warn(CHECK, text, format!("weirctl save {file}")));
    }
    if found.is_empty() {
        found.push(Finding::ok(CHECK, format!("{file} is good and in force")));
    }
    found
}

/// The file alone, where no weir says what it thinks of it.
fn on_disk(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "file";
    let file = facts.file.display();
    let path = facts.host.path(&facts.file.to_string_lossy());
    // Whether one that is not accepted is there at all.
    let found = within(PATIENCE, move || Ok(weir_config::load(&path).err().map(|_| path.exists())));
    match found {
        Ok(None) => None,
        Ok(Some(false)) if !facts.runs() => {
            Some(Finding::warn(CHECK, format!("there is no {file}"), "write it, or name another (--file)"))
        }
        Ok(Some(_)) => {
            Some(Finding::fail(CHECK, format!("{file} is not accepted"), format!("weirctl check {file}")))
        }
        Err(why) => {
            let help = format!("stat {file}, which says whether its file system answers");
            Some(Finding::fail(CHECK, format!("{file} can't be read: {why}"), help))
        }
    }
}

/// Whether frames reach all workers.
pub(super) fn rss(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "rss";
    let Ok(answers) = &facts.answers else { return Vec::new() };
    let workers = &answers.workers[1].workers;
    let all: u64 = workers.iter().map(|it| it.received).sum();
    if workers.len() < 2 {
        return vec![Finding::ok(CHECK, "one worker, so nothing is to be spread")];
    }
    if all < FRAMES_MIN {
        return vec![Finding::ok(
            CHECK,
            format!("{all} frames so far are too few to see how they are spread"),
        )];
    }
    let mean = all / workers.len() as u64;
    let idle: Vec<String> =
        workers.iter().filter(|it| it.received < mean / 100).map(|it| it.worker.to_string()).collect();
    let most = workers.iter().map(|it| it.received).max().unwrap_or_default();
    let finding = if !idle.is_empty() {
        let text = format!(
            "nothing comes to worker {} of {}: the device does not spread frames (receive side scaling)",
            idle.join(", "),
            workers.len()
        );
        Finding::warn(
            CHECK,
            text,
            "see weir's log for why; a device with RSS (rss=on for virtio-net-pci of qemu), or fewer lcores behind -l",
        )
    } else if most > 2 * mean {
        let text = format!("one worker of {} gets {} % of all frames", workers.len(), most * 100 / all);
        Finding::warn(
            CHECK,
            text,
            "see in weir's log how frames are spread, and which clients have most (weirctl connections)",
        )
    } else {
        Finding::ok(
            CHECK,
            format!("the fullest of {} workers gets {} % of all frames", workers.len(), most * 100 / all),
        )
    };
    vec![finding]
}

/// What devices lose.
pub(super) fn losses(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "losses";
    let Ok(answers) = &facts.answers else { return Vec::new() };
    let mut found = Vec::new();
    for (before, after) in answers.ports[0].ports.iter().zip(&answers.ports[1].ports) {
        let (Some(old), Some(new)) = (before.device, after.device) else { continue };
        let kinds: [Kind; 4] = [
            (
                "because a receive queue was full",
                |it| it.missed,
                "more workers (-l), or see load: a worker that is kept from its core is slow",
            ),
            (
                "for lack of a packet buffer",
                |it| it.no_buffer,
                "a greater mbufs of [memory]; it takes a restart",
            ),
            (
                "received with errors",
                |it| it.receive_errors,
                "look at the cable, at the switch's counters, and whether its MTU is larger than the port's",
            ),
            (
                "that could not be sent",
                |it| it.transmit_errors,
                "look at the link, and at the device's own counters",
            ),
        ];
        for (what, count, mend) in kinds {
            let (old, new) = (count(&old), count(&new));
            if new > 0 {
                let now = if new > old { format!(", {} of them just now", new - old) } else { String::new() };
                let text = format!("port {}: {new} frames {what}{now}", after.port);
                found.push(Finding::warn(CHECK, text, mend));
            }
        }
    }
    let full = answers.counters.dropped.get("transmit_full").copied().unwrap_or(0);
    if full > 0 {
        let text = format!("{full} packets dropped because a transmit queue was full");
        found.push(Finding::warn(CHECK, text, "a faster link, or fewer receivers on this one"));
    }
    if found.is_empty() {
        found.push(Finding::ok(CHECK, "devices have lost nothing"));
    }
    found
}

/// Room for connections.
pub(super) fn table(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "table";
    let Ok(answers) = &facts.answers else { return Vec::new() };
    let shares = answers.workers[1]
        .workers
        .iter()
        .map(|it| (it.connections * 100 / it.capacity.max(1), it.worker, it.capacity));
    let Some((percent, worker, capacity)) = shares.max() else { return Vec::new() };
    let mend = format!("capacity = {} of [connections], and a restart", capacity * 2);
    let mut found = Vec::new();
    if percent >= 80 {
        found.push(Finding::warn(
            CHECK,
            format!("the table of worker {worker} is {percent} % full"),
            mend.clone(),
        ));
    }
    let (untracked, without) = (answers.counters.untracked, answers.counters.templates_full);
    if untracked > 0 {
        found.push(Finding::warn(
            CHECK,
            format!("{untracked} packets went without a record for lack of room"),
            mend,
        ));
    }
    let without_client = answers.counters.ipv6_clients_full;
    if without_client > 0 {
        let text = format!(
            "{without_client} packets went without a record for lack of room for another IPv6 client"
        );
        found.push(Finding::warn(CHECK, text, "a greater ipv6_clients of [connections], and a restart"));
    }
    if without > 0 {
        let text = format!("{without} connections got no persistence for lack of room");
        found.push(Finding::warn(
            CHECK,
            text,
            "a greater templates or ipv6_templates of [connections], and a restart",
        ));
    }
    if found.is_empty() {
        found.push(Finding::ok(CHECK, format!("the fullest is {percent} % full")));
    }
    found
}

/// What the HTTP listener shows.
pub(super) fn certificate(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "certificate";
    let Ok(answers) = &facts.answers else { return Vec::new() };
    let status = &answers.status;
    let Some(ends) = status.http_certificate_ends else { return Vec::new() };
    let left = ends - (status.started + status.uptime_seconds);
    let mend =
        "put a new one in the place of tls_certificate and tls_key, chmod 600 the key, then weirctl reload";
    vec![match crate::commands::certificate(status) {
        None => Finding::ok(CHECK, format!("of the HTTP listener: good for {}", time(left))),
        Some(wrong) if left <= 0.0 => Finding::fail(CHECK, format!("of the HTTP listener: {wrong}"), mend),
        Some(wrong) => Finding::warn(CHECK, format!("of the HTTP listener: {wrong}"), mend),
    }]
}

/// Who serves.
pub(super) fn servers(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "servers";
    let Ok(answers) = &facts.answers else { return Vec::new() };
    let services = &answers.servers.virtual_servers;
    let empty: Vec<&str> = services
        .iter()
        .filter(|it| it.real_servers.iter().all(|real| real.weight == 0))
        .map(|it| &*it.name)
        .collect();
    let mut found = Vec::new();
    if let Some(first) = empty.first() {
        let text = format!("{} virtual server(s) with nobody to serve: {}", empty.len(), some(&empty));
        found.push(Finding::fail(CHECK, text, format!("weirctl health {first}")));
    }
    let down = answers.status.real_servers_down;
    if down > 0 {
        let text = format!("{down} of {} real servers are down", answers.status.real_servers);
        found.push(Finding::warn(CHECK, text, "weirctl health says why"));
    }
    if found.is_empty() {
        found.push(Finding::ok(
            CHECK,
            format!("{} virtual servers, each with somebody to serve", services.len()),
        ));
    }
    found
}

/// Real servers that nearly no connection opens with. weir sees what clients send: with DR and TUN nothing else tells that a VIP is missing
/// on one of several real servers.
pub(super) fn opening(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "opening";
    let Ok(answers) = &facts.answers else { return Vec::new() };
    let services: HashMap<&str, _> =
        answers.servers.virtual_servers.iter().map(|it| (&*it.name, &it.real_servers)).collect();
    let mut found = Vec::new();
    for ((service, server), &waiting) in answers.opening.iter().filter(|(_, count)| **count >= OPENING_MIN) {
        let is_it =
            |it: &&RealServer<'_>| it.address == server.ip() && (it.port == 0 || it.port == server.port());
        let Some(real) = services.get(&**service).and_then(|all| all.iter().find(is_it)) else { continue };
        // Active are those, too.
        if u64::from(waiting) * 10 < u64::from(real.active) * 9 {
            continue;
        }
        let text = format!(
            "{waiting} connections of {service} with {server} do not open: it does not answer, or not to the client"
        );
        let mend = match &*real.forwarding {
            "nat" => {
                "lead its replies through weir (its default gateway); or it is a flood of SYNs".to_owned()
            }
            method => format!(
                "there: weir-real-server {method} --vip ADDRESS --check (the VIP, rp_filter, who listens); or it is a flood of SYNs"
            ),
        };
        found.push(Finding::warn(CHECK, text, mend));
    }
    found.truncate(NAMES_MAX);
    if found.is_empty() {
        found.push(Finding::ok(CHECK, "connections open with every real server"));
    }
    found
}

fn some(names: &[&str]) -> String {
    let shown = names.iter().take(NAMES_MAX).copied().collect::<Vec<_>>().join(", ");
    if names.len() > NAMES_MAX { format!("{shown} and others") } else { shown }
}

/// Next hops that do not answer.
pub(super) fn neighbors(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "neighbors";
    let Ok(answers) = &facts.answers else { return Vec::new() };
    let dropped = |reason: &str| answers.counters.dropped.get(reason).copied().unwrap_or(0);
    let mut found = Vec::new();
    let silent = dropped("neighbor_failed");
    if silent > 0 {
        let text = format!("{silent} packets dropped because the next hop did not answer ARP");
        found.push(Finding::warn(CHECK, text, "look whether real servers and gateways are up and in the port's network; a health check takes those out that are not"));
    }
    let lost = dropped("no_route");
    if lost > 0 {
        let text = format!("{lost} packets dropped because no [[route]] leads to their destination");
        found.push(Finding::warn(
            CHECK,
            text,
            "a [[route]] with destination = \"0.0.0.0/0\" and the gateway",
        ));
    }
    if found.is_empty() {
        found.push(Finding::ok(CHECK, "next hops have answered ARP"));
    }
    found
}

/// Others who claim what is weir's: real servers that answer ARP for a VIP among them.
pub(super) fn arp(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "arp";
    let Ok(answers) = &facts.answers else { return Vec::new() };
    let claims = answers.counters.arp_conflicts;
    if claims == 0 {
        return vec![Finding::ok(CHECK, "nobody else claims an address of weir's")];
    }
    let text = format!(
        "other hosts have claimed addresses of weir's {claims} times: real servers that answer ARP for a VIP, most likely; weir's log names address and MAC (another host claims)"
    );
    vec![Finding::fail(
        CHECK,
        text,
        "on that host: sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2",
    )]
}
