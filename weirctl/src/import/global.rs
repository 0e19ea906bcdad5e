//! `global_defs`, and what else concerns all: sync groups, tracked files, static addresses and routes.

use toml_edit::Value;

use super::blocks::Node;
use super::map::{Map, SyncGroup, TrackedFile, interface_address, network};
use super::programs::FIRST;
use super::source::{Fate, Plain};
use super::track::Tracking;
use super::write::Item;

/// What the instances' keys are called there, and their names in an instance.
pub(super) const GARP: [(&str, &str); 6] = [
    ("vrrp_garp_master_delay", "garp_master_delay"),
    ("vrrp_garp_master_repeat", "garp_master_repeat"),
    ("vrrp_garp_master_refresh", "garp_master_refresh"),
    ("vrrp_garp_master_refresh_repeat", "garp_master_refresh_repeat"),
    ("vrrp_garp_lower_prio_delay", "garp_lower_prio_delay"),
    ("vrrp_garp_lower_prio_repeat", "garp_lower_prio_repeat"),
];

impl Map {
    /// Remarks go to the head of the file.
    pub(super) fn global_defs(&mut self, block: &Node, head: &mut Item) {
        for node in block.below() {
            let word = node.word.as_str();
            if let Some((_, key)) = GARP.iter().find(|(theirs, _)| *theirs == word) {
                let number = self.garp(node, key, head);
                self.global.garp.extend(number.map(|number| (*key, number)));
                continue;
            }
            match word {
                "vrrp_version" => {
                    let version = self.number(node, head, |it| (2..=3).contains(it));
                    self.global.version = version.or(self.global.version);
                }
                "vrrp_startup_delay" => {
                    let delay = self.number(node, head, |it| (0.0..=1000.0).contains(it));
                    self.global.startup_delay = delay.or(self.global.startup_delay);
                }
                "vrrp_min_garp" => {
                    if self.switch(node, head) {
                        let one = [
                            ("garp_master_repeat", Value::from(1_i64)),
                            ("garp_master_delay", Value::from(0.0)),
                            ("garp_lower_prio_repeat", Value::from(1_i64)),
                        ];
                        self.global.garp.extend(one);
                    }
                }
                "vrrp_strict" => self.global.is_strict = self.switch(node, head),
                "v3_checksum_as_v2" => self.global.v3_checksum_as_v2 = self.switch(node, head),
                "vrrp_garp_interval" | "vrrp_gna_interval" => {
                    let key = if word == "vrrp_garp_interval" { "garp_interval" } else { "gna_interval" };
                    let secs = self.number::<f64>(node, head, |it| (0.0..=60.0).contains(it));
                    self.global.pauses.extend(secs.map(|secs| (key, secs)));
                }
                "vrrp_notify_fifo" | "notify_fifo" => self.fifo(node, head),
                "lvs_timeouts" => self.timeouts(node, head),
                "script_user" => self.script_user(node),
                _ => self.other(node, head),
            }
        }
    }

    /// A number of announcements of gratuitous ARP, or of seconds.
    pub(super) fn garp(&mut self, node: &Node, key: &str, item: &mut Item) -> Option<Value> {
        if key.ends_with("repeat") {
            let least = i64::from(key == "garp_master_refresh_repeat");
            return self.within::<i64>(node, item, least..=60, |it| *it >= 0).map(Value::from);
        }
        let most = if key == "garp_master_refresh" { 86_400.0 } else { 1000.0 };
        self.within(node, item, 0.0..=most, |it: &f64| it.is_finite() && *it >= 0.0).map(Value::from)
    }

    /// `lvs_timeouts TCP TCPFIN UDP`, or pairs of a word and a number. LVS leaves as it is what is 0.
    fn timeouts(&mut self, node: &Node, head: &mut Item) {
        const KEYS: [(&str, &str); 3] =
            [("tcp", "tcp_established"), ("tcpfin", "tcp_fin_wait"), ("udp", "udp")];
        let mut words = node.values.iter().map(|value| value.text.as_str()).peekable();
        let mut item = Item::new("[connections.timeouts]", node.told(), Some(node.place));
        let (mut known, mut unknown) = (0, Vec::new());
        let mut places = KEYS.into_iter();
        while let Some(word) = words.next() {
            let is_name = word.starts_with(|it: char| it.is_ascii_alphabetic());
            let (key, secs) = match is_name {
                true => (KEYS.into_iter().find(|(name, _)| *name == word), words.next().unwrap_or_default()),
                false => (places.next(), word),
            };
            match (key, secs.parse::<i64>()) {
                (Some(_), Ok(0)) => known += 1,
                (Some((_, key)), Ok(secs)) if (1..=864_000).contains(&secs) => {
                    known += 1;
                    item.set(key, secs);
                }
                _ if is_name => unknown.push(format!("`{} {}`", Plain(word), Plain(secs))),
                _ => unknown.push(format!("`{}`", Plain(word))),
            }
        }
        if known == 0 {
            self.leave(node, head, "numbers of seconds up to 864000 are needed, of TCP, TCP's end and UDP");
            return;
        }
        self.carry(node);
        if !unknown.is_empty() {
            let text = format!(
                "{} was left out: these are numbers of seconds up to 864000, of TCP, TCP's end and UDP",
                unknown.join(" and ")
            );
            self.remark(node, head, text);
        }
        if !item.keys.is_empty() {
            self.tables.timeouts = Some(item);
        }
    }

    /// A user, and a group.
    pub(super) fn script_user(&mut self, node: &Node) {
        let mut item = Item::new("[health]", node.told(), Some(node.place));
        let is_root = |name: &str| name == "root" || name.parse::<u32>() == Ok(0);
        match node.value(0).unwrap_or("root") {
            user if is_root(user) => {
                let text = "weir runs no programs as root: they run as nobody; give them a user of their own";
                self.remark(node, &mut item, text);
            }
            user => {
                self.carry(node);
                item.set("script_user", user);
                match node.value(1) {
                    Some(group) if is_root(group) => {
                        self.remark(
                            node,
                            &mut item,
                            "weir runs no programs as the group root: theirs is nogroup",
                        );
                    }
                    Some(group) => {
                        item.set("script_group", group);
                        self.carry_of(node, &mut item, 2);
                    }
                    None => {
                        let text = "their group is nogroup, where keepalived takes the user's own";
                        self.remark(node, &mut item, text);
                    }
                }
            }
        }
        match &self.tables.health {
            Some(there) if !there.is_like(&item) => {
                let text = format!("`{}`: programs have one user in all", Plain(&node.word));
                self.note(node.place, Fate::LeftOut, text);
            }
            Some(_) => {}
            None => self.tables.health = Some(item),
        }
    }

    pub(super) fn sync_group(&mut self, block: &Node, head: &mut Item) {
        let Some(told) = self.only_name(block, head) else { return };
        if !self.made_groups.insert(told.clone()) {
            self.leave(block, head, "a group of this name stands before it, and keepalived takes that one");
            return;
        }
        let name = self.name("sync", &told);
        self.carry(block);
        let (mut many, mut has_list) = (0, false);
        let weighs =
            |node: &Node| matches!(node.word.as_str(), "sync_group_tracking_weight" | "global_tracking");
        let group = SyncGroup { name: name.clone(), has_weights: block.below().iter().any(weighs) };
        let mut item = Item::new("[[vrrp_sync_group]]", block.told(), Some(block.place));
        item.set("name", name.as_str());
        // Each member tracks what the group does.
        let mut by = Tracking::default();
        let mut tracks = Item::new("", String::new(), None);
        for node in block.below() {
            match node.word.as_str() {
                "group" if has_list => self.leave(node, head, FIRST),
                "group" => {
                    has_list = true;
                    self.carry(node);
                    let mut all =
                        vec![(node, node.values.iter().map(|it| it.text.as_str()).collect::<Vec<_>>())];
                    all.extend(node.below().iter().map(|member| {
                        let words = member.values.iter().map(|it| it.text.as_str());
                        (member, std::iter::once(member.word.as_str()).chain(words).collect())
                    }));
                    for (line, words) in all {
                        many += self.members(line, &words, &group, head);
                    }
                }
                _ if weighs(node) => self.carry_of(node, head, 0),
                "track_interface" => self.track_interface(node, None, &mut by, &mut tracks),
                "track_file" => self.track_files(node, &mut by, &mut tracks),
                "track_script" | "track_process" => {
                    let watched = self.track_watched(node, &mut by, &mut tracks);
                    tracks.below.extend(watched);
                }
                _ if self.hook(node, &mut item) => {}
                _ => self.other(node, head),
            }
        }
        head.remarks.list.append(&mut tracks.remarks.list);
        if many == 0 {
            self.leave(block, head, "no instance is of this group");
            return;
        }
        self.sync_tracks.insert(name, tracks.below);
        if item.keys.len() > 1 {
            self.tables.sync.push(item);
        }
    }

    /// Members of a sync group that a line names. Returns how many are instances.
    fn members(&mut self, line: &Node, words: &[&str], group: &SyncGroup, head: &mut Item) -> usize {
        let mut many = 0;
        for &word in words {
            let text = match self.sync.get(word) {
                _ if !self.instances.contains(word) => "no instance has this name",
                Some(other) if other.name != group.name => {
                    "the instance is in a group that stands before it, and has one"
                }
                _ => {
                    many += 1;
                    self.sync.insert(word.to_owned(), group.clone());
                    continue;
                }
            };
            match words.len() {
                1 => self.leave(line, head, text),
                _ => self.remark(line, head, format!("`{}` was left out: {text}", Plain(word))),
            }
        }
        if !words.is_empty() {
            self.carry(line);
        }
        many
    }

    /// `vrrp_track_file NAME { file PATH; weight N }`
    pub(super) fn track_file(&mut self, block: &Node, head: &mut Item) {
        if self.files.contains_key(block.value(0).unwrap_or_default()) {
            self.leave(block, head, "a file of this name stands before it, and that one is taken");
            return;
        }
        let mut file = TrackedFile { weight: Some(1), place: Some(block.place), ..TrackedFile::default() };
        let mut has_weight = false;
        self.carry_of(block, head, 1);
        for node in block.below() {
            match node.word.as_str() {
                "file" if !file.path.is_empty() => self.leave(node, head, FIRST),
                "weight" if has_weight => self.leave(node, head, FIRST),
                "file" => {
                    self.carry_of(node, head, 1);
                    file.path = node.value(0).unwrap_or_default().to_owned();
                }
                "weight" => {
                    has_weight = true;
                    file.is_reverse = node.value(1) == Some("reverse");
                    file.weight = self.weight(node, head).or(file.weight);
                }
                "init_file" => {
                    self.leave(node, head, "weir makes no file; one that is not there counts as 0")
                }
                _ => self.other(node, head),
            }
        }
        file.has_weight = has_weight;
        self.files.insert(block.value(0).unwrap_or_default().to_owned(), file);
    }

    pub(super) fn static_addresses(&mut self, block: &Node, head: &mut Item) {
        self.carry(block);
        for node in block.below() {
            let device = device_of(node);
            match (interface_address(&node.word), device) {
                (Some((address, length, odd)), Some(device)) if !is_of_host(device) => {
                    self.carry(node);
                    if let Some(text) = odd {
                        self.remark(node, head, text);
                    }
                    if let Some(words) = placeless(node, &["dev"]) {
                        self.remark(node, head, format!("{words} has no place at a port's address"));
                    }
                    let most = if address.is_ipv4() { 32 } else { 128 };
                    self.ports.own(device, address, Some(length.unwrap_or(most)));
                    if !self.ports.is_own(device, address) {
                        self.leave(node, head, "the port has another address of this network already");
                    }
                }
                _ => self.leave(node, head, "no address of an interface that weir could have"),
            }
        }
    }

    /// `DESTINATION via GATEWAY`
    pub(super) fn static_routes(&mut self, block: &Node, head: &mut Item) {
        self.carry(block);
        for node in block.below() {
            let words: Vec<&str> = std::iter::once(node.word.as_str())
                .chain(node.values.iter().map(|it| it.text.as_str()))
                .collect();
            let behind = |name: &[&str]| {
                let at = words.iter().position(|word| name.contains(word))?;
                words.get(at + 1).copied()
            };
            let via = behind(&["via", "gw"]).and_then(|text| text.parse::<std::net::IpAddr>().ok());
            let to = match (words[0], via) {
                ("default", Some(via)) if via.is_ipv4() => network("0.0.0.0/0"),
                ("default", Some(_)) => network("::/0"),
                ("to", _) => words.get(1).and_then(|text| network(text)),
                (first, _) => network(first),
            };
            let others = ["table", "nexthop", "blackhole", "tos", "type"];
            let (Some((to, length)), Some(via)) = (to, via) else {
                self.leave(node, head, "only routes by a gateway (`via`) are carried");
                continue;
            };
            if words.iter().any(|word| others.contains(word)) {
                self.leave(node, head, "weir has one table of routes, each by one gateway");
                continue;
            }
            self.carry(node);
            if let Some(words) = placeless(node, &["dev", "via", "gw", "to"]) {
                let text = format!("{words} has no place: a route of weir's is a destination and a gateway");
                self.remark(node, head, text);
            }
            let length = length.unwrap_or(if to.is_ipv4() { 32 } else { 128 });
            let mut item = Item::new("[[route]]", node.told(), Some(node.place));
            item.set("destination", format!("{to}/{length}"));
            item.set("gateway", via.to_string());
            self.ports.needs(via, device_of(node).filter(|device| !is_of_host(device)), false);
            self.ports.routed(to, length);
            self.tables.routes.push(item);
        }
    }
}

/// Words behind the first that are not these with what stands behind each (or are alone, as `reverse`), for people.
pub(super) fn placeless(node: &Node, known: &[&str]) -> Option<String> {
    const PAIRS: [&str; 12] = [
        "label",
        "brd",
        "broadcast",
        "scope",
        "peer",
        "preferred_lft",
        "metric",
        "src",
        "mtu",
        "proto",
        "window",
        "track_group",
    ];
    let is_first_name = node.word == "to";
    let mut words = node.values.iter().skip(usize::from(is_first_name)).map(|value| value.text.as_str());
    let mut others = Vec::new();
    while let Some(word) = words.next() {
        let is_known = known.contains(&word);
        if !is_known {
            others.push(format!("`{}`", Plain(word)));
        }
        if is_known && word != "reverse" || PAIRS.contains(&word) {
            words.next();
        }
    }
    (!others.is_empty()).then(|| others.join(" and "))
}

/// What stands behind `dev`.
pub(super) fn device_of(node: &Node) -> Option<&str> {
    let at = node.values.iter().position(|value| value.text == "dev")?;
    node.value(at + 1)
}

/// Interfaces that are no cards.
pub(super) fn is_of_host(interface: &str) -> bool {
    interface == "lo" || interface.starts_with("dummy")
}
