//! `virtual_server`, `virtual_server_group`, `real_server`

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use weir_config::model::Scheduler;

use super::blocks::Node;
use super::checks::Timing;
use super::map::{Group, Map, network};
use super::source::{Fate, Plain};
use super::write::Item;

const FLAGS: [&str; 7] = ["flag-1", "flag-2", "flag-3", "sh-port", "sh-fallback", "mh-port", "mh-fallback"];
/// Addresses of a range of a group.
const RANGE_MAX: u32 = 1024;

/// Virtual and real servers with their checks: a group of some lines is each of its addresses with all real servers.
pub(super) const TABLES_MAX: usize = 250_000;

/// Who is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Address(IpAddr, u16),
    Mark(u32, Option<bool>),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Address(address, port) => write!(f, "{address} {port}"),
            Who::Mark(mark, _) => write!(f, "fwmark {mark}"),
        }
    }
}

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
        self.hooks(&mut item, &mut servers);
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

    /// The addresses or marks of a virtual server, one more than there is room for at most.
    fn who(&mut self, block: &Node, family: Option<bool>, item: &mut Item) -> Vec<Who> {
        match block.value(0) {
            Some("fwmark") => {
                let mark = block.value(1).and_then(|text| text.parse().ok()).filter(|mark| *mark > 0);
                mark.map(|mark| Who::Mark(mark, family)).into_iter().collect()
            }
            Some("group") => {
                let name = block.value(1).unwrap_or_default();
                let most = TABLES_MAX.saturating_sub(self.made) + 1;
                self.used_groups.insert(name.to_owned());
                let all: Vec<Who> = match self.groups.remove(name) {
                    Some(Group::Lines(lines)) => {
                        lines.iter().flat_map(|line| self.entry(line, item)).take(most).collect()
                    }
                    Some(Group::Read(all)) => all,
                    None => return Vec::new(),
                };
                let who = all.iter().take(most).copied().collect();
                self.groups.insert(name.to_owned(), Group::Read(all));
                who
            }
            Some(text) => {
                let port = block.value(1).map_or(Some(0), |text| text.parse().ok());
                text.parse()
                    .ok()
                    .zip(port)
                    .map(|(address, port)| Who::Address(address, port))
                    .into_iter()
                    .collect()
            }
            None => Vec::new(),
        }
    }

    /// An entry of a group: an address, a range of them, or a mark.
    fn entry(&mut self, node: &Node, item: &mut Item) -> Vec<Who> {
        if node.word == "fwmark" {
            let mark = node.value(0).and_then(|text| text.parse().ok()).filter(|mark| *mark > 0);
            let family = node.value(1).map(|text| text == "inet6");
            if mark.is_none() {
                self.leave(node, item, "a mark is a number above 0");
            }
            return mark.map(|mark| Who::Mark(mark, family)).into_iter().collect();
        }
        let port = node.value(0).map_or(Some(0), |text| text.parse::<u16>().ok());
        let Some((addresses, port)) = range(&node.word).zip(port) else {
            self.leave(node, item, format!("this is no address, and no range of at most {RANGE_MAX}"));
            return Vec::new();
        };
        self.carry(node);
        addresses.into_iter().map(|address| Who::Address(address, port)).collect()
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
                    if self.switch(node) {
                        item.set("on_fail", "quiesce");
                    }
                }
                "alpha" | "omega" => {
                    if self.switch(node) {
                        item.set(if node.word == "alpha" { "alpha" } else { "omega" }, true);
                    }
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

    /// NAT, DR or TUN.
    fn method(&mut self, node: &Node, item: &mut Item) -> Option<&'static str> {
        let method = match node.value(0) {
            Some("NAT") => "nat",
            Some("DR") => "dr",
            Some("TUN") => "tun",
            other => {
                let text = format!(
                    "keepalived does not know `{}` and takes NAT; if something else is meant, write it into `forwarding`",
                    Plain(other.unwrap_or_default())
                );
                self.remark(node, item, text);
                return None;
            }
        };
        self.carry(node);
        Some(method)
    }

    fn real_server(&mut self, block: &Node, shared: &Shared, server: &mut Item) -> Option<Item> {
        let mut item = Item::new("[[virtual_server.real_server]]", block.told(), Some(block.place));
        let Some(address) = block.value(0).and_then(|text| text.parse::<IpAddr>().ok()) else {
            item.refused = Some("no address of a host".to_owned());
            self.note(block.place, Fate::LeftOut, format!("`{}`: no address of a host", block.told()));
            return Some(item);
        };
        self.carry(block);
        item.set("address", address.to_string());
        let port = block.value(1).map(|text| text.parse::<u16>());
        let (mut forwarding, mut outer) = (shared.forwarding, shared.tunnel.clone());
        let is_method = |node: &&Node| matches!(node.word.as_str(), "lb_kind" | "lvs_method");
        for node in block.below().iter().filter(is_method) {
            forwarding = self.method(node, &mut item).unwrap_or(forwarding);
            item.set("forwarding", forwarding);
            outer = tunnel(node);
        }
        if forwarding == "tun" {
            outer.into_iter().for_each(|(key, value)| item.set(key, value));
        }
        let usual = if shared.is_mark { 0 } else { shared.port };
        match port {
            Some(Ok(port))
                if port == 0 || port == usual && !(shared.has_several_ports && forwarding == "nat") => {}
            Some(Ok(port)) if forwarding == "nat" => item.set("port", i64::from(port)),
            Some(Ok(port)) => {
                let text = format!(
                    "{} does not change ports, and keepalived does not either: {port} was left out",
                    forwarding.to_uppercase()
                );
                self.remark(block, &mut item, text);
            }
            Some(Err(_)) => {
                self.remark(block, &mut item, "its port is no number; the virtual server's was taken")
            }
            None => {}
        }
        // Where checks look there, and where they would look here.
        let asked = match port {
            Some(Ok(port)) if port != 0 && (forwarding == "nat" || shared.is_mark) => port,
            _ => shared.port,
        };
        let here = if forwarding == "nat" { asked } else { usual };
        let mut shared = Shared { port: here, ..shared.clone() };
        let mut checks = Vec::new();
        for node in block.below() {
            self.word_of_real_server(node, &mut shared, &mut item, server);
        }
        for node in block.below() {
            self.check(node, &shared, asked, &mut item, &mut checks);
        }
        item.below.extend(checks);
        self.ports.needs(address, None, forwarding != "dr");
        Some(item)
    }

    fn word_of_real_server(&mut self, node: &Node, shared: &mut Shared, item: &mut Item, server: &mut Item) {
        match node.word.as_str() {
            "weight" => {
                if let Some(weight) = self.number::<i64>(node, item, |it| (0..=65_535).contains(it)) {
                    item.set("weight", weight);
                }
            }
            word @ ("uthreshold" | "lthreshold") => {
                if let Some(many) = self.number::<i64>(node, item, |it| (0..=4_294_967_295).contains(it)) {
                    item.set(if word == "uthreshold" { "upper_threshold" } else { "lower_threshold" }, many);
                }
            }
            "inhibit_on_failure" => {
                if self.switch(node) {
                    item.set("on_fail", "quiesce");
                }
            }
            "alpha" => {
                if self.switch(node) {
                    server.set("alpha", true);
                    self.remark(node, item, "it holds for the whole virtual server here");
                }
            }
            "virtualhost" => {
                self.carry(node);
                shared.host = node.value(0).map(str::to_owned);
            }
            word @ ("notify_up" | "notify_down") => {
                if let Some(program) = self.program(node, item) {
                    item.set(if word == "notify_up" { "notify_up" } else { "notify_down" }, program);
                }
            }
            "lb_kind" | "lvs_method" => {}
            word if word.ends_with("_CHECK") || matches!(word, "HTTP_GET" | "SSL_GET") => {}
            _ if self.timing_word(node, &mut shared.timing, item) => {}
            _ => self.other(node, item),
        }
    }

    /// Hooks of real servers become the virtual server's where all have the same.
    fn hooks(&mut self, item: &mut Item, servers: &mut [Item]) {
        for name in ["notify_up", "notify_down"] {
            let of = |server: &Item| {
                server.keys.iter().find(|key| key.name == name).map(|key| key.value.to_string())
            };
            let Some(first) = servers.iter().find_map(of) else { continue };
            let is_of_all = servers.iter().all(|server| of(server).as_ref() == Some(&first));
            for (at, server) in servers.iter_mut().enumerate() {
                let Some(place) = server.keys.iter().position(|key| key.name == name) else { continue };
                let key = server.keys.remove(place);
                if is_of_all && at == 0 {
                    item.set_remarked(
                        name,
                        key.value,
                        "of every real server there; it is told which one (docs/health.md)",
                    );
                } else if !is_of_all {
                    let text = format!(
                        "left out: {name}: hooks are the virtual server's, and are told which real server it is: write one for all"
                    );
                    server.remark(text);
                    if let Some(place) = server.place {
                        let text = format!(
                            "`{name}`: hooks are the virtual server's, and its real servers have different ones"
                        );
                        self.note(place, Fate::LeftOut, text);
                    }
                }
            }
        }
    }

    fn sorry_server(&mut self, block: &Node, shared: &Shared, item: &mut Item) {
        let mut forwarding = shared.forwarding;
        for node in block.below().iter().filter(|node| node.word == "sorry_server_lvs_method") {
            forwarding = self.method(node, item).unwrap_or(forwarding);
        }
        let mut all = block.below().iter().filter(|node| node.word == "sorry_server");
        let Some(node) = all.next() else { return };
        for other in all {
            self.leave(
                other,
                item,
                "a virtual server has one sorry server, and the one that stands before it was taken",
            );
        }
        let Some(address) = node.value(0).and_then(|text| text.parse::<IpAddr>().ok()) else {
            self.leave(node, item, "no address of a host");
            return;
        };
        if address.is_loopback() {
            self.leave(
                node,
                item,
                "a sorry server on the director itself can't be reached from weir: give it a host of its own",
            );
            return;
        }
        let mut sorry = Item::new("[virtual_server.sorry_server]", node.told(), Some(node.place));
        sorry.set("address", address.to_string());
        if forwarding != shared.forwarding {
            sorry.set("forwarding", forwarding);
        }
        let usual = if shared.is_mark { 0 } else { shared.port };
        match node.value(1).and_then(|text| text.parse::<u16>().ok()) {
            Some(port) if port != usual && port != 0 && forwarding == "nat" => {
                sorry.set("port", i64::from(port))
            }
            Some(port) if port != usual && port != 0 => {
                let text =
                    format!("{} does not change ports: {port} was left out", forwarding.to_uppercase());
                self.remark(node, &mut sorry, text);
            }
            _ => {}
        }
        self.carry(node);
        self.ports.needs(address, None, forwarding != "dr");
        item.below.push(sorry);
    }

    /// `[[mark]]` for what netfilter marks there.
    pub(super) fn marks(&mut self) -> Vec<Item> {
        let (mut items, mut last) = (Vec::new(), 0);
        for ((mark, is_ipv6), place) in std::mem::take(&mut self.marks) {
            let mut item = Item::new("[[mark]]", format!("fwmark {mark}"), Some(place));
            item.set("mark", i64::from(mark));
            let made = |back: u32| match is_ipv6 {
                true => {
                    IpAddr::from(std::net::Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | u128::from(back)))
                }
                false => IpAddr::from(Ipv4Addr::from_bits(0xc633_6400 + back)),
            };
            let Some(number) = (last + 1..).find(|back| !self.ports.is_taken(made(*back))) else { continue };
            last = number;
            let address = made(number);
            self.ports.takes(address);
            let text = format!(
                "FILL IN: netfilter's rules that give the mark {mark} are not in keepalived.conf (`iptables-save -t mangle`, `nft list ruleset`): write its addresses, and `ports` and `protocols`; {address} is made up"
            );
            item.set_remarked("addresses", super::write::texts([address.to_string()]), text.clone());
            self.note(place, Fate::Remark, format!("`fwmark {mark}`: {text}"));
            items.push(item);
        }
        items
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

/// `TUN type gue port N csum`
fn tunnel(node: &Node) -> Vec<(&'static str, toml_edit::Value)> {
    let words: Vec<&str> = node.values.iter().map(|value| value.text.as_str()).collect();
    let behind = |name: &str| words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1));
    let kind = behind("type").filter(|kind| ["gue", "gre"].contains(kind));
    let (Some(&"TUN"), Some(kind)) = (words.first(), kind) else { return Vec::new() };
    let mut keys = vec![("tunnel", (*kind).into())];
    if let Some(port) = behind("port").and_then(|text| text.parse::<i64>().ok()) {
        keys.push(("tunnel_port", port.into()));
    }
    if let Some(sum) = words.iter().find(|word| ["csum", "remcsum"].contains(word)) {
        keys.push(("tunnel_checksum", (*sum).into()));
    }
    keys
}

/// A mask, dotted or as a length.
fn prefix(text: &str) -> Option<i64> {
    if let Ok(mask) = text.parse::<Ipv4Addr>() {
        let bits = mask.to_bits();
        return (bits.leading_ones() == bits.count_ones() && bits != 0).then(|| i64::from(bits.count_ones()));
    }
    text.parse().ok().filter(|length| (1..=128).contains(length))
}

/// `A`, `A/LENGTH`, `A.B.C.D-E`, `A-B`
fn range(text: &str) -> Option<Vec<IpAddr>> {
    if let Some((first, last)) = text.split_once('-') {
        if let Ok(first) = first.parse::<Ipv4Addr>() {
            let last = match last.parse::<Ipv4Addr>() {
                Ok(last) => last.to_bits(),
                Err(_) => first.to_bits() & !0xff | u32::from(last.parse::<u8>().ok()?),
            };
            return many(first.to_bits(), last);
        }
        let first: std::net::Ipv6Addr = first.parse().ok()?;
        let end = u16::from_str_radix(last, 16).ok()?;
        let start = first.segments()[7];
        let base = first.to_bits() & !0xffff;
        let is_few = end >= start && u32::from(end - start) < RANGE_MAX;
        return is_few.then(|| {
            (start..=end).map(|it| std::net::Ipv6Addr::from_bits(base | u128::from(it)).into()).collect()
        });
    }
    match network(text)? {
        (IpAddr::V4(address), Some(length)) if length < 32 => {
            let host = u32::MAX.checked_shr(length.into()).unwrap_or(0);
            many(address.to_bits() & !host, address.to_bits() | host)
        }
        (address, None | Some(32 | 128)) => Some(vec![address]),
        _ => None,
    }
}

fn many(first: u32, last: u32) -> Option<Vec<IpAddr>> {
    let is_few = last.checked_sub(first)? < RANGE_MAX;
    is_few.then(|| (first..=last).map(|bits| Ipv4Addr::from_bits(bits).into()).collect())
}
