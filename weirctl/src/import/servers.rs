//! `virtual_server`

use std::net::{IpAddr, Ipv4Addr};

use weir_config::model::Scheduler;

use super::blocks::Node;
use super::checks::Timing;
use super::ends::End;
use super::map::Map;
use super::source::{Fate, Place, Plain};
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
    /// Of real servers that do not say theirs.
    pub(super) weight: Option<i64>,
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
        let is_two = matches!(block.value(0), Some("fwmark" | "group"));
        self.carry_of(block, &mut item, if is_two { 2 } else { block.values.len() });
        let mut shared = Shared { forwarding: "nat", ..Shared::default() };
        let port_of = |who: &Who| match who {
            Who::Address(_, port) => *port,
            Who::Mark(..) => 0,
        };
        shared.port = port_of(&who[0].0);
        shared.is_mark = matches!(who[0].0, Who::Mark(..));
        shared.has_several_ports = who.iter().any(|(other, _)| port_of(other) != shared.port);
        let protocol = self.words_of_server(block, &mut item, &mut shared);
        let is_address = |who: &(Who, Place)| matches!(who.0, Who::Address(..));
        let protocol = protocol.unwrap_or_else(|| {
            if who.iter().any(is_address) {
                self.remark(block, &mut item, "no `protocol` is said, and keepalived takes UDP then");
            }
            "udp".to_owned()
        });
        let has_persistence = item.keys.iter().any(|key| key.name == "persistence_timeout");
        if !has_persistence && who.iter().any(|who| matches!(who.0, Who::Address(_, 0))) {
            item.set("persistence_timeout", 360_i64);
            self.remark(
                block,
                &mut item,
                "its port is 0, and keepalived makes it persistent then, for 360 s",
            );
        }
        let mut servers = self.real_servers(block, &shared, &mut item);
        self.quorum(block, &servers, &mut item);
        hoist_checks(&mut item, &mut servers);
        self.sorry_server(block, &shared, &mut item);
        item.below.extend(servers);
        let each = item.tables();
        let room = TABLES_MAX.saturating_sub(self.made) / each;
        if let Some((beyond, _)) = who.get(room) {
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
        for place in item.places() {
            self.note(place, Fate::LeftOut, format!("`{}`: {why}", Plain(&item.told)));
        }
        item.refused = Some(why);
        self.tables.servers.push(item);
    }

    /// As many as there is room for.
    fn real_servers(&mut self, block: &Node, shared: &Shared, item: &mut Item) -> Vec<Item> {
        let (mut servers, mut made) = (Vec::new(), self.made + 1);
        let mut blocks = block.below().iter().filter(|node| node.word == "real_server");
        while let Some(node) = blocks.next() {
            if made >= TABLES_MAX {
                self.leave(node, item, format!("{}: this one and those behind it are left out", too_many()));
                blocks.for_each(|node| node.ends(End::LeftOut));
                break;
            }
            let server = self.real_server(node, shared, item);
            made += server.as_ref().map_or(0, Item::tables);
            servers.extend(server);
        }
        servers
    }

    /// One virtual server of those that a block is.
    fn serve(&mut self, (who, place): (Who, Place), protocol: &str, mut item: Item) {
        if item.place != Some(place) {
            item.also = vec![place];
        }
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

    /// The words of the block that are not real servers. Returns the protocol, if they say it.
    fn words_of_server(&mut self, block: &Node, item: &mut Item, shared: &mut Shared) -> Option<String> {
        let mut protocol = None;
        let (mut scheduler, mut flags) = ("wlc", Vec::<(&str, Place)>::new());
        let (mut is_said, mut hysteresis) = (false, None);
        for node in block.below() {
            match node.word.as_str() {
                "lb_algo" | "lvs_sched" => {
                    scheduler = self.scheduler(node, item).unwrap_or(scheduler);
                    flags.extend(known_flags(node).map(|flag| (flag, node.place)));
                }
                "lb_kind" | "lvs_method" => {
                    is_said = true;
                    if let Some(method) = self.method(node, item) {
                        shared.forwarding = method;
                        shared.tunnel = self.tunnel(node, item);
                    }
                }
                "protocol" => match node.value(0).map(str::to_ascii_lowercase).as_deref() {
                    Some(name @ ("tcp" | "udp" | "sctp")) => {
                        self.carry_of(node, item, 1);
                        protocol = Some(name.to_owned());
                    }
                    _ => self.leave(node, item, "keepalived knows TCP, UDP and SCTP, and ignores this line"),
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
                        self.carry_of(node, item, 1);
                        item.put(node, "persistence_netmask", length);
                    }
                    None => self.leave(node, item, "this is no mask"),
                },
                "persistence_engine" => match node.value(0) {
                    Some("sip") => {
                        self.carry_of(node, item, 1);
                        item.put(node, "persistence_engine", "sip");
                    }
                    _ => self.leave(node, item, "the one engine is sip"),
                },
                // On with any value, as there.
                "ops" => {
                    self.carry_of(node, item, 0);
                    item.put(node, "one_packet", true);
                }
                "inhibit_on_failure" => {
                    let is_on = self.switch(node, item);
                    item.set("on_fail", if is_on { "quiesce" } else { "remove" });
                }
                word @ ("alpha" | "omega") => {
                    self.carry_of(node, item, 0);
                    item.set(if word == "alpha" { "alpha" } else { "omega" }, true);
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
                        hysteresis = Some(node);
                    }
                }
                "weight" => {
                    let weight = self.within::<i64>(node, item, 1..=65_535, |it| *it > 0);
                    shared.weight = weight.or(shared.weight);
                }
                "quorum_up" => self.first_program(node, "quorum_up", item),
                "quorum_down" => self.first_program(node, "quorum_down", item),
                "virtualhost" => {
                    self.carry_of(node, item, 1);
                    shared.host = node.value(0).map(str::to_owned);
                }
                "real_server" | "sorry_server" | "sorry_server_lvs_method" => {}
                word if FLAGS.contains(&word) => {
                    self.carry_of(node, item, 0);
                    flags.extend(FLAGS.into_iter().find(|it| *it == word).map(|flag| (flag, node.place)));
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
            let (flags, places): (Vec<&str>, _) = flags.into_iter().unzip();
            item.set("scheduler_flags", super::write::texts(flags));
            if let Some(key) = item.keys.last_mut() {
                key.places = places;
            }
        }
        if let Some(node) = hysteresis {
            self.hysteresis(node, item);
        }
        protocol
    }

    /// keepalived lowers a quorum that all real servers together have not.
    fn quorum(&mut self, block: &Node, servers: &[Item], item: &mut Item) {
        let of = |item: &Item, name: &str| {
            item.keys.iter().find(|key| key.name == name).and_then(|key| key.value.as_integer())
        };
        let living = servers.iter().filter(|server| server.refused.is_none());
        let whole: i64 = living.map(|server| of(server, "weight").unwrap_or(1)).sum();
        let line = block.below().iter().rfind(|node| node.word == "quorum");
        if let Some(node) =
            line.filter(|_| of(item, "quorum").is_some_and(|quorum| quorum > whole && whole > 0))
        {
            item.set("quorum", whole);
            self.remark(
                node,
                item,
                format!("the weights add up to {whole}, and keepalived lowers it to that"),
            );
            let hysteresis = block.below().iter().rfind(|node| node.word == "hysteresis");
            if let Some(node) = hysteresis.filter(|_| of(item, "hysteresis").is_some()) {
                self.hysteresis(node, item);
            }
        }
    }

    /// The scheduler of this line, if keepalived knows it.
    fn scheduler(&mut self, node: &Node, item: &mut Item) -> Option<&'static str> {
        let known = Scheduler::ALL.map(Scheduler::name);
        let scheduler = known.into_iter().find(|name| Some(*name) == node.value(0));
        if scheduler.is_none() {
            let name = Plain(node.value(0).unwrap_or_default()).to_string();
            self.remark(node, item, format!("keepalived does not know `{name}` and takes wlc"));
        }
        let unknown = node.values.iter().skip(1).find(|it| !FLAGS.contains(&it.text.as_str()));
        match unknown {
            Some(word) => {
                let text = format!("there is no flag `{}`, in keepalived either", Plain(&word.text));
                self.remark(node, item, text);
            }
            None => self.carry(node),
        }
        scheduler
    }

    /// As keepalived corrects it.
    fn hysteresis(&mut self, node: &Node, item: &mut Item) {
        let of = |item: &Item, name: &str| {
            item.keys.iter().find(|key| key.name == name).and_then(|key| key.value.as_integer())
        };
        let quorum = of(item, "quorum").unwrap_or(1);
        if of(item, "hysteresis").is_some_and(|it| it >= quorum) {
            item.set("hysteresis", quorum - 1);
            let text = format!("keepalived has it below the quorum: {} was written", quorum - 1);
            self.remark(node, item, text);
        }
    }
}

/// Flags behind the name of a scheduler.
fn known_flags(node: &Node) -> impl Iterator<Item = &'static str> {
    node.values.iter().skip(1).filter_map(|value| FLAGS.into_iter().find(|it| *it == value.text))
}

/// Why something is left out at the limit.
pub(super) fn too_many() -> String {
    format!("a file gets at most {TABLES_MAX} virtual and real servers with their checks")
}

/// One check for all real servers, where they have the same.
fn hoist_checks(item: &mut Item, servers: &mut [Item]) {
    fn checks(server: &Item) -> impl Iterator<Item = &Item> {
        server.below.iter().filter(|it| it.told.starts_with("check "))
    }
    let living = || servers.iter().filter(|server| server.refused.is_none());
    let Some(first) = living().next() else { return };
    let many = checks(first).count();
    let is_same = |server: &Item| {
        checks(server).count() == many
            && checks(server).zip(checks(first)).all(|(one, other)| one.is_like(other))
    };
    if many == 0 || !living().all(is_same) {
        return;
    }
    let mut hoisted: Vec<Item> = checks(first).cloned().collect();
    for server in living().skip(1) {
        hoisted.iter_mut().zip(checks(server)).for_each(|(check, other)| check.joins(other));
    }
    for mut check in hoisted {
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
