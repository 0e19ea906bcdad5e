//! `virtual_server`

use std::net::{IpAddr, Ipv4Addr};

use weir_config::model::Scheduler;

use super::blocks::Node;
use super::checks::Timing;
use super::map::Map;
use super::real::tunnel;
use super::source::{Fate, Plain};
use super::who::Who;
use super::write::Item;

const FLAGS: [&str; 7] = ["flag-1", "flag-2", "flag-3", "sh-port", "sh-fallback", "mh-port", "mh-fallback"];

/// Virtual and real servers with their checks: a group of some lines is each of its addresses with all real servers.
pub(super) const TABLES_MAX: usize = 250_000;

/// What real servers have of their virtual server.
#[derive(Clone, Default)]
pub(super) struct Shared {
    pub(super) port: u16,
    pub(super) is_mark: bool,
    /// Virtual servers of one block differ in their ports.
    pub(super) has_several_ports: bool,
    pub(super) tunnel: Vec<(&'static str, toml_edit::Value)>,
    pub(super) forwarding: &'static str,
    pub(super) timing: Timing,
    pub(super) host: Option<String>,
}

impl Map {
    pub(super) fn virtual_server(&mut self, block: &Node) {
        let told = block.told();
        let mut item = Item::new("[[virtual_server]]", told.clone(), Some(block.place));
        let family = block
            .below()
            .iter()
            .find(|node| node.word == "ip_family")
            .map(|node| node.value(0) == Some("inet6"));
        let mut who = self.who(block, family, &mut item);
        if who.is_empty() {
            self.refuse(item, "it says no address, mark or group that is known".to_owned());
            return;
        }
        self.carry(block);
        let mut shared = Shared { forwarding: "nat", ..Shared::default() };
        let port_of = |who: &Who| match who {
            Who::Address(_, port) => *port,
            Who::Mark(..) => 0,
        };
        shared.port = port_of(&who[0]);
        shared.is_mark = matches!(who[0], Who::Mark(..));
        shared.has_several_ports = who.iter().any(|other| port_of(other) != shared.port);
        let protocol = self.words_of_server(block, &mut item, &mut shared);
        let mut servers = self.real_servers(block, &shared, &mut item);
        hoist_checks(&mut item, &mut servers);
        self.sorry_server(block, &shared, &mut item);
        item.below.extend(servers);
        let each = item.tables();
        let room = TABLES_MAX.saturating_sub(self.made) / each;
        if let Some(beyond) = who.get(room) {
            let text = format!("{}: virtual servers from {beyond} on are left out", too_many());
            if room == 0 {
                item.below.clear();
                self.refuse(item, text);
                return;
            }
            self.leave(block, &mut item, text);
            who.truncate(room);
        }
        self.made += each * who.len();
        let others = &who[1..];
        let like = (!others.is_empty()).then(|| item.without_remarks());
        self.serve(who[0], &protocol, item);
        if let Some(like) = like {
            others.iter().for_each(|who| self.serve(*who, &protocol, like.clone()));
        }
    }

    /// Leaves out a virtual server.
    fn refuse(&mut self, mut item: Item, why: String) {
        if let Some(place) = item.place {
            self.note(place, Fate::LeftOut, format!("`{}`: {why}", Plain(&item.told)));
        }
        item.refused = Some(why);
        self.tables.servers.push(item);
    }

    /// As many as there is room for.
    fn real_servers(&mut self, block: &Node, shared: &Shared, item: &mut Item) -> Vec<Item> {
        let (mut servers, mut made) = (Vec::new(), self.made + 1);
        for node in block.below().iter().filter(|node| node.word == "real_server") {
            if made >= TABLES_MAX {
                self.leave(node, item, format!("{}: this one and those behind it are left out", too_many()));
                break;
            }
            let server = self.real_server(node, shared, item);
            made += server.as_ref().map_or(0, Item::tables);
            servers.extend(server);
        }
        servers
    }

    /// One virtual server of those that a block is.
    fn serve(&mut self, who: Who, protocol: &str, mut item: Item) {
        let mut keys = Item::new("", String::new(), None);
        let wanted = match who {
            Who::Address(address, port) => format!("{protocol}-{address}-{port}"),
            Who::Mark(mark, _) => format!("mark-{mark}"),
        };
        keys.set("name", self.name("server", &wanted));
        match who {
            Who::Address(address, port) => {
                self.ports.takes(address);
                keys.set("address", address.to_string());
                keys.set("port", i64::from(port));
                keys.set("protocol", protocol);
            }
            Who::Mark(mark, family) => {
                let first =
                    item.below.iter().filter(|it| it.head == "[[virtual_server.real_server]]").find_map(
                        |it| {
                            it.keys
                                .iter()
                                .find(|key| key.name == "address")?
                                .value
                                .as_str()?
                                .parse::<IpAddr>()
                                .ok()
                        },
                    );
                let is_ipv6 = family.unwrap_or(first.is_some_and(|address| address.is_ipv6()));
                keys.set("mark", i64::from(mark));
                if is_ipv6 {
                    keys.set("family", "ipv6");
                }
                if let Some(place) = item.place {
                    self.marks.entry((mark, is_ipv6)).or_insert(place);
                }
            }
        }
        keys.keys.append(&mut item.keys);
        item.keys = keys.keys;
        let is_who =
            |key: &&super::write::Key| ["address", "port", "protocol", "mark", "family"].contains(&key.name);
        let words: Vec<String> = item.keys.iter().filter(is_who).map(|key| key.value.to_string()).collect();
        let words = words.join(" ");
        let before = self.served.get(&words);
        match before
            .map(|told| format!("the same virtual server as `{}`, which stands before it", Plain(told)))
        {
            None => {
                self.served.insert(words, item.told.clone());
                self.tables.servers.push(item);
            }
            Some(text) => self.refuse(item, text),
        }
    }

    /// The words of the block that are not real servers. Returns the protocol.
    fn words_of_server(&mut self, block: &Node, item: &mut Item, shared: &mut Shared) -> String {
        let mut protocol = "tcp".to_owned();
        let (mut scheduler, mut flags) = ("wlc", Vec::<&str>::new());
        let mut is_said = false;
        for node in block.below() {
            match node.word.as_str() {
                "lb_algo" | "lvs_sched" => {
                    let known = Scheduler::ALL.map(Scheduler::name);
                    match known.into_iter().find(|name| Some(*name) == node.value(0)) {
                        Some(name) => {
                            self.carry(node);
                            scheduler = name;
                        }
                        None => {
                            let text = format!(
                                "keepalived does not know `{}` and takes wlc",
                                Plain(node.value(0).unwrap_or_default())
                            );
                            self.remark(node, item, text);
                        }
                    }
                    flags.extend(
                        node.values
                            .iter()
                            .skip(1)
                            .filter_map(|value| FLAGS.into_iter().find(|it| *it == value.text)),
                    );
                }
                "lb_kind" | "lvs_method" => {
                    is_said = true;
                    if let Some(method) = self.method(node, item) {
                        shared.forwarding = method;
                        shared.tunnel = tunnel(node);
                    }
                }
                "protocol" => match node.value(0).map(str::to_ascii_lowercase).as_deref() {
                    Some(name @ ("tcp" | "udp" | "sctp")) => {
                        self.carry(node);
                        protocol = name.to_owned();
                    }
                    _ => self.leave(node, item, "keepalived knows TCP, UDP and SCTP, and takes TCP"),
                },
                "persistence_timeout" => {
                    let secs = match node.value(0) {
                        None => {
                            self.carry(node);
                            Some(360)
                        }
                        Some(_) => self.number::<i64>(node, item, |it| (0..=2_678_400).contains(it)),
                    };
                    if let Some(secs) = secs.filter(|secs| *secs > 0) {
                        item.set("persistence_timeout", secs);
                    }
                }
                "persistence_granularity" => match node.value(0).and_then(prefix) {
                    Some(length) => {
                        self.carry(node);
                        item.set("persistence_netmask", length);
                    }
                    None => self.leave(node, item, "this is no mask"),
                },
                "ops" => {
                    if self.switch(node) {
                        item.set("one_packet", true);
                    }
                }
                "inhibit_on_failure" => {
                    let is_on = self.switch(node);
                    item.set("on_fail", if is_on { "quiesce" } else { "remove" });
                }
                "alpha" | "omega" => {
                    let is_on = self.switch(node);
                    item.set(if node.word == "alpha" { "alpha" } else { "omega" }, is_on);
                }
                "quorum" => {
                    if let Some(quorum) =
                        self.number::<i64>(node, item, |it| (1..=1_000_000_000).contains(it))
                    {
                        item.set("quorum", quorum);
                    }
                }
                "hysteresis" => {
                    if let Some(many) = self.number::<i64>(node, item, |it| (0..=1_000_000_000).contains(it))
                    {
                        item.set("hysteresis", many);
                    }
                }
                word @ ("quorum_up" | "quorum_down") => {
                    if let Some(program) = self.program(node, item) {
                        let key = if word == "quorum_up" { "quorum_up" } else { "quorum_down" };
                        item.set(key, program);
                    }
                }
                "virtualhost" => {
                    self.carry(node);
                    shared.host = node.value(0).map(str::to_owned);
                }
                "real_server" | "sorry_server" | "sorry_server_lvs_method" => {}
                word if FLAGS.contains(&word) => {
                    self.carry(node);
                    flags.extend(FLAGS.into_iter().find(|it| *it == word));
                }
                _ if self.timing_word(node, &mut shared.timing, item) => {}
                _ => self.other(node, item),
            }
        }
        match is_said {
            true => item.set("forwarding", shared.forwarding),
            false => {
                item.set_remarked("forwarding", "nat", "as keepalived without lb_kind; weir's default is dr")
            }
        }
        item.set("scheduler", scheduler);
        if !flags.is_empty() {
            item.set("scheduler_flags", super::write::texts(flags));
        }
        quorum_alone(item);
        protocol
    }
}

/// Why something is left out at the limit.
pub(super) fn too_many() -> String {
    format!("a file gets at most {TABLES_MAX} virtual and real servers with their checks")
}

/// `quorum` and `hysteresis` as keepalived corrects them.
fn quorum_alone(item: &mut Item) {
    let of = |item: &Item, name: &str| {
        item.keys.iter().find(|key| key.name == name).and_then(|key| key.value.as_integer())
    };
    let quorum = of(item, "quorum").unwrap_or(1);
    if of(item, "hysteresis").is_some_and(|it| it >= quorum) {
        let remark = "as keepalived has it where hysteresis is not below quorum";
        item.set_remarked("hysteresis", quorum - 1, remark);
    }
}

/// One check for all real servers, where they have the same.
fn hoist_checks(item: &mut Item, servers: &mut [Item]) {
    let checks = |server: &Item| -> Vec<Item> {
        server.below.iter().filter(|it| it.told.starts_with("check ")).cloned().collect()
    };
    let living = || servers.iter().filter(|server| server.refused.is_none());
    let Some(first) = living().next().map(checks) else { return };
    let is_same = |server: &Item| {
        let others = checks(server);
        others.len() == first.len() && others.iter().zip(&first).all(|(one, other)| one.is_like(other))
    };
    if first.is_empty() || !living().all(is_same) {
        return;
    }
    for mut check in first {
        check.head = if check.head.starts_with("[[") {
            "[[virtual_server.health_check]]"
        } else {
            "[virtual_server.health_check]"
        };
        item.below.push(check);
    }
    for server in servers {
        server.below.retain(|it| !it.told.starts_with("check "));
    }
}

/// A mask, dotted or as a length.
fn prefix(text: &str) -> Option<i64> {
    if let Ok(mask) = text.parse::<Ipv4Addr>() {
        let bits = mask.to_bits();
        return (bits.leading_ones() == bits.count_ones() && bits != 0).then(|| i64::from(bits.count_ones()));
    }
    text.parse().ok().filter(|length| (1..=128).contains(length))
}
