//! `weirctl import`: a file of keepalived's, or what `ipvsadm -S` prints, as a file of weir's.
//!
//! `lexer` and `blocks` read keepalived's language, `map` and its rooms make weir's tables of it, `write` prints them. weir's own parser
//! looks at what was made: a table that it would refuse is left out, with its sentence.

mod blocks;
mod checks;
mod ends;
mod glob;
mod global;
mod hmac;
mod ipvsadm;
mod letters;
mod lexer;
mod map;
mod ports;
mod programs;
mod real;
mod servers;
mod source;
#[cfg(test)]
mod tests;
mod track;
mod vrrp;
mod who;
mod words;
mod write;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use weir_config::FILE_BYTES_MAX;
use weir_config::report::{Problem, Severity};

use crate::cli::Import;
use crate::ipvsadm::names::Local;
use crate::{FAILED, commands, patiently};
use blocks::Node;
use ends::End;
use lexer::BYTES_MAX;
use map::{Group, Map};
use source::{Fate, Note, Source};
use write::Item;

/// Bytes that weir's parser looks at in all: again each time that something was left out. Those of a large file take seconds.
const PARSED_MAX: usize = 256 << 20;
/// Lines of one kind that are named, and refusals that stay.
const LINES_TOLD: usize = 8;

/// An interface with its device, and addresses.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    interface: String,
    device: String,
    addresses: Vec<(std::net::IpAddr, u8)>,
}

/// `eth0=0000:03:00.0[,192.0.2.2/24]...`
///
/// # Errors
/// What is wrong with it.
pub(crate) fn device(text: &str) -> Result<Device, String> {
    let form = "write such as eth0=0000:03:00.0 or eth0=0000:03:00.0,192.0.2.2/24";
    let (interface, rest) = text.split_once('=').ok_or(form)?;
    let mut parts = rest.split(',');
    let device = parts.next().unwrap_or_default();
    if interface.is_empty() || device.is_empty() {
        return Err(form.to_owned());
    }
    let addresses = parts.map(|part| match map::network(part) {
        Some((address, Some(length))) => Ok((address, length)),
        _ => Err(format!("`{part}` is no address with its prefix length, such as 192.0.2.2/24")),
    });
    let addresses = addresses.collect::<Result<_, _>>()?;
    Ok(Device { interface: interface.to_owned(), device: device.to_owned(), addresses })
}

/// What was made.
struct Made {
    /// weir's file.
    text: String,
    /// What is to be known, for stderr.
    report: String,
    /// Whether something is served.
    is_something: bool,
    #[cfg(test)]
    ends: ends::Ends,
}

/// Imports; the file goes to stdout, the report to stderr. Returns the exit status.
pub(crate) fn run(what: &Import) -> u8 {
    let made = match what {
        Import::Keepalived { file, interfaces, config_id } => {
            keepalived(file, interfaces, config_id.as_deref())
        }
        Import::IpvsadmSave { file, interfaces } => {
            read(file).and_then(|bytes| ipvsadm::import(&shown(file), &bytes, interfaces, &Local::new()))
        }
    };
    match made {
        Ok(made) => {
            let _ = write!(io::stderr(), "{}", made.report);
            if !made.is_something {
                return FAILED;
            }
            match commands::print(&made.text) {
                Ok(()) => 0,
                Err(problem) => {
                    let _ = writeln!(io::stderr(), "weirctl: {problem}");
                    FAILED
                }
            }
        }
        Err(problem) => {
            let _ = writeln!(io::stderr(), "weirctl: {problem}");
            FAILED
        }
    }
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

fn shown(file: &Path) -> PathBuf {
    if is_stdin(file) { PathBuf::from("stdin") } else { file.to_owned() }
}

/// A file, or stdin.
fn read(file: &Path) -> Result<Vec<u8>, String> {
    if !is_stdin(file) {
        return patiently(file, || weir_config::read_file(file, BYTES_MAX))
            .map_err(|problem| format!("{} can't be read: {problem}", file.display()));
    }
    let mut bytes = Vec::new();
    let done = patiently(&shown(file), || io::stdin().lock().take(BYTES_MAX + 1).read_to_end(&mut bytes));
    done.map_err(|problem| format!("stdin can't be read: {problem}"))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(format!("stdin holds more than {} MiB", BYTES_MAX >> 20));
    }
    Ok(bytes)
}

fn keepalived(file: &Path, devices: &[Device], node: Option<&str>) -> Result<Made, String> {
    let source = match is_stdin(file) {
        true => lexer::read_text(&shown(file), &read(file)?, node)?,
        false => lexer::read(file, node)?,
    };
    of_source(source, devices)
}

fn of_source(mut source: Source, devices: &[Device]) -> Result<Made, String> {
    let tree = blocks::tree(&mut source)?;
    let mut map = Map::default();
    map.devices(devices);
    let mut head = Item::new("", String::new(), None);
    map.whole(&tree, &mut head);
    ends::said_again(&tree, &mut source.notes);
    let made = finish(source, &tree, map, head);
    // The program is about to end, and large files leave millions of words behind.
    std::mem::forget(tree);
    Ok(made)
}

impl Map {
    /// What the command line says of interfaces.
    fn devices(&mut self, devices: &[Device]) {
        for Device { interface, device, addresses } in devices {
            let place = self.ports.place(interface);
            self.ports.interfaces[place].device = Some(device.clone());
            for (address, length) in addresses {
                self.ports.own(interface, *address, Some(*length));
            }
        }
    }

    /// All blocks: first those that others refer to.
    fn whole(&mut self, tree: &[Node], head: &mut Item) {
        let instances = tree.iter().filter(|node| node.word == "vrrp_instance" && node.values.len() == 1);
        self.instances.extend(instances.filter_map(|node| node.value(0)).map(str::to_owned));
        for node in tree {
            match node.word.as_str() {
                "vrrp_script" => self.vrrp_script(node, head),
                "vrrp_track_process" => self.vrrp_process(node, head),
                "vrrp_track_file" | "track_file" => self.track_file(node, head),
                _ => {}
            }
        }
        for node in tree {
            match node.word.as_str() {
                "global_defs" => {
                    self.carry_of(node, head, 0);
                    self.global_defs(node, head);
                }
                "vrrp_sync_group" => self.sync_group(node, head),
                "static_ipaddress" => self.static_addresses(node, head),
                "static_routes" => self.static_routes(node, head),
                "virtual_server_group" if self.groups.contains_key(node.value(0).unwrap_or_default()) => {
                    let text = "a group of this name stands before it, and that one is taken: give this one a name of its own, or write one group of both";
                    self.leave(node, head, text);
                }
                "virtual_server_group" => {
                    self.carry_of(node, head, 1);
                    let entries = node.below().iter().map(|entry| {
                        // What is below it has no meaning.
                        self.carry(entry);
                        Node::new(entry.word.clone(), entry.values.clone(), entry.place)
                    });
                    let entries: Vec<Node> = entries.collect();
                    let group = Group::Lines(entries);
                    self.groups.insert(node.value(0).unwrap_or_default().to_owned(), group);
                }
                "vrrp_instance" | "virtual_server" => {}
                "vrrp_script" | "vrrp_track_process" | "vrrp_track_file" | "track_file" => {}
                _ => self.other(node, head),
            }
        }
        for node in tree {
            match node.word.as_str() {
                "vrrp_instance" => self.vrrp_instance(node, head),
                "virtual_server" => self.virtual_server(node),
                _ => {}
            }
        }
        self.unwatched(tree, head);
        for node in tree.iter().filter(|node| node.word == "virtual_server_group") {
            if !self.used_groups.contains(node.value(0).unwrap_or_default()) {
                self.leave(
                    node,
                    head,
                    "no virtual server is of this group, so keepalived makes nothing of it",
                );
            }
        }
    }
}

/// weir's file, without what weir would refuse.
fn finish(mut source: Source, tree: &[Node], mut map: Map, head: Item) -> Made {
    let mut items = map
        .tables
        .control
        .take()
        .into_iter()
        .chain(map.tables.timeouts.take())
        .chain(map.tables.health.take())
        .collect::<Vec<_>>();
    items.extend(map.ports.finish());
    items.append(&mut map.tables.routes);
    items.extend(map.marks());
    items.append(&mut map.tables.servers);
    items.append(&mut map.tables.vrrp);
    items.append(&mut map.tables.sync);
    source.notes.append(&mut map.notes);
    let named = source.files.first().cloned().unwrap_or_default();
    let mut first: Vec<Rc<str>> = vec![
        format!(
            "Made by weirctl import of {named}. What had to be made up says FILL IN, what is not here says LEFT OUT or left out."
        )
        .into(),
        "Timeouts, weights and checks are written out where keepalived's default is not weir's.".into(),
    ];
    first.extend(head.remarks.list);
    let (mut text, refused) = leave_refused(&first, &mut items, &mut source.notes, PARSED_MAX);
    if !refused.is_empty() {
        let many = refused.len();
        let mut line = String::new();
        write::comment(
            &mut line,
            "",
            &format!("FILL IN: weir refuses {many} things of this file, which `weir --check` names."),
        );
        text.insert_str(0, &line);
    }
    ends::close(&mut source, tree, &items);
    let report = report(&source, &items, &text, &refused);
    let is_something = items.iter().any(is_served);
    #[cfg(test)]
    let ends = std::mem::take(&mut source.ends);
    std::mem::forget((source, map, items));
    Made {
        text,
        report,
        is_something,
        #[cfg(test)]
        ends,
    }
}

/// Leaves out what weir's parser refuses, all that it names at once, and asks it again. Returns the text, and what is still refused:
/// what stands in no table that could be left out, or what is named once so many bytes were parsed.
fn leave_refused(
    first: &[Rc<str>],
    items: &mut [Item],
    notes: &mut Vec<Note>,
    parsed_max: usize,
) -> (String, Vec<String>) {
    let mut parsed = 0;
    loop {
        let (text, places) = write::text(first, items);
        if text.len() as u64 > FILE_BYTES_MAX {
            let (long, most) = (text.len().div_ceil(1 << 20), FILE_BYTES_MAX >> 20);
            let refused = format!(
                "it has {long} MiB, and weir loads none of more than {most} MiB: import a part of the source at a time"
            );
            return (text, vec![refused]);
        }
        let Err(report) = weir_config::parse("weir.toml", &text) else { return (text, Vec::new()) };
        let is_error = |it: &&Problem| it.severity == Severity::Error;
        let errors: Vec<&Problem> = report.problems().iter().filter(is_error).collect();
        parsed += text.len();
        let mut left = 0;
        if parsed <= parsed_max {
            left = errors.iter().filter(|problem| leave(problem, &text, &places, items, notes)).count();
        }
        if left == 0 {
            let refused = errors.iter().map(|problem| problem.sentence()).collect();
            return (text, refused);
        }
    }
}

/// Keys without which a table is still of use.
const SPARED: [&str; 18] = [
    "one_packet",
    "scheduler_flags",
    "persistence_netmask",
    "persistence_engine",
    "upper_threshold",
    "lower_threshold",
    "quorum_up",
    "quorum_down",
    "notify_up",
    "notify_down",
    "helo",
    "expect_body_regex",
    "tls_server_name",
    "notify_master",
    "notify_backup",
    "notify_fault",
    "notify_stop",
    "notify",
];

/// Leaves out the key or the table that this is about. Whether there was one.
fn leave(
    problem: &Problem,
    text: &str,
    places: &write::Places,
    items: &mut [Item],
    notes: &mut Vec<Note>,
) -> bool {
    let Some(at) = problem.place.as_ref().map(|place| place.span.start) else { return false };
    let next = places.partition_point(|(range, _)| range.end <= at);
    let Some((_, way)) = places.get(next).filter(|(range, _)| range.contains(&at)) else { return false };
    let Some(item) = Item::at(items, way) else { return false };
    if item.refused.is_some() || item.head == "[[port]]" {
        return false;
    }
    let why = format!("weir refuses it: {}", problem.sentence());
    let line = text[..at].rfind('\n').map_or(text, |end| &text[end + 1..]);
    let name = line.split_once('=').map_or("", |(name, _)| name.trim());
    let key = item.keys.iter().position(|key| key.name == name);
    if let Some(key) = key.filter(|_| SPARED.contains(&name)) {
        let key = item.keys.remove(key);
        item.remark(format!("left out: {name}: {why}"));
        let places = if key.places.is_empty() { item.places().collect() } else { key.places };
        notes.extend(places.into_iter().map(|place| {
            let text = format!("`{}`: `{name}` of it: {why}", item.told);
            Note { place, fate: Fate::LeftOut, text }
        }));
        return true;
    }
    let text = format!("`{}`: {why}", item.told);
    notes.extend(item.places().map(|place| Note { place, fate: Fate::LeftOut, text: text.clone() }));
    item.refused = Some(why);
    true
}

fn is_served(item: &Item) -> bool {
    item.refused.is_none() && matches!(item.head, "[[virtual_server]]" | "[[vrrp]]")
}

/// What stderr gets.
fn report(source: &Source, items: &[Item], text: &str, refused: &[String]) -> String {
    let mut report = String::new();
    let count = |head: &str| items.iter().filter(|item| item.refused.is_none() && item.head == head).count();
    let (servers, instances) = (count("[[virtual_server]]"), count("[[vrrp]]"));
    let real = items.iter().filter(|item| item.refused.is_none()).flat_map(|item| &item.below);
    let real =
        real.filter(|item| item.refused.is_none() && item.head == "[[virtual_server.real_server]]").count();
    let name = source.files.first().map_or("", String::as_str);
    if servers == 0 && instances > 0 {
        let _ = writeln!(
            report,
            "{name} has no virtual servers. weir owns its ports: addresses of VRRP answer ping there, and reach no daemon of this machine, such as nginx or haproxy. Without virtual servers weir is not what moves an address for a daemon: keep keepalived for that."
        );
    }
    if servers == 0 && instances == 0 {
        let _ = writeln!(report, "{name}: nothing that weir serves can be made of it");
    }
    let _ = writeln!(
        report,
        "{name}: {servers} virtual servers, {real} real servers, {instances} instances of VRRP; lines carried: {}, with remarks: {}, left out: {}",
        source.ends.count(End::Carried),
        source.ends.count(End::Remark),
        source.ends.count(End::LeftOut)
    );
    for (fate, title) in [(Fate::Broken, "broken"), (Fate::LeftOut, "left out"), (Fate::Remark, "remarks")] {
        let mut groups: Vec<(&str, Vec<source::Place>)> = Vec::new();
        let mut known: HashMap<&str, usize> = HashMap::new();
        for note in source.notes.iter().filter(|note| note.fate == fate) {
            let at = *known.entry(&note.text).or_insert(groups.len());
            if at == groups.len() {
                groups.push((&note.text, Vec::new()));
            }
            groups[at].1.push(note.place);
        }
        if !groups.is_empty() {
            let _ = writeln!(report, "{title}:");
        }
        for (text, places) in groups {
            let mut told: Vec<String> =
                places.iter().take(LINES_TOLD).map(|place| source.told(*place)).collect();
            if places.len() > LINES_TOLD {
                told.push(format!("{} more", places.len() - LINES_TOLD));
            }
            let _ = writeln!(report, "  {}: {text}", told.join(", "));
        }
    }
    if !refused.is_empty() {
        let _ = writeln!(report, "weir refuses the file as it is:");
    }
    for sentence in refused.iter().take(LINES_TOLD) {
        let _ = writeln!(report, "  {sentence}");
    }
    if refused.len() > LINES_TOLD {
        let _ = writeln!(report, "  {} more, which weir --check names", refused.len() - LINES_TOLD);
    }
    if servers + instances > 0 && text.contains("FILL IN:") {
        let _ =
            writeln!(report, "the file has places to be filled in: look for FILL IN, then run weir --check");
    }
    report
}
