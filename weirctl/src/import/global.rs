//! `global_defs`, and what else concerns all: sync groups, tracked files, static addresses and routes.

use super::blocks::Node;
use super::map::{Map, TrackedFile, network};
use super::source::{Fate, Plain};
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
                if let Some(number) = self.number::<f64>(node, head, |it| (0.0..=86_400.0).contains(it)) {
                    self.global.garp.push((key, number));
                }
                continue;
            }
            match word {
                "vrrp_version" => self.global.version = self.number(node, head, |it| (2..=3).contains(it)),
                "vrrp_startup_delay" => {
                    self.global.startup_delay = self.number(node, head, |it| (0.0..=1000.0).contains(it));
                }
                "vrrp_min_garp" => {
                    if self.switch(node) {
                        let one = [
                            ("garp_master_repeat", 1.0),
                            ("garp_master_delay", 0.0),
                            ("garp_lower_prio_repeat", 1.0),
                        ];
                        self.global.garp.extend(one);
                    }
                }
                "v3_checksum_as_v2" => self.global.v3_checksum_as_v2 = self.switch(node),
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

    /// `lvs_timeouts TCP TCPFIN UDP`, or pairs of a word and a number.
    fn timeouts(&mut self, node: &Node, head: &mut Item) {
        let words: Vec<&str> = node.values.iter().map(|value| value.text.as_str()).collect();
        let named = |name: &str| words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1));
        let of = |name: &str, at: usize| {
            let text = if words.iter().any(|word| word.starts_with(|it: char| it.is_ascii_alphabetic())) {
                named(name)
            } else {
                words.get(at)
            };
            text.and_then(|text| text.parse::<i64>().ok()).filter(|secs| (1..=864_000).contains(secs))
        };
        let mut item = Item::new("[connections.timeouts]", node.told(), Some(node.place));
        for (key, name, at) in
            [("tcp_established", "tcp", 0), ("tcp_fin_wait", "tcpfin", 1), ("udp", "udp", 2)]
        {
            if let Some(secs) = of(name, at) {
                item.set(key, secs);
            }
        }
        if item.keys.is_empty() {
            self.leave(node, head, "three numbers of seconds are needed");
        } else {
            self.carry(node);
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
                    Some(group) => item.set("script_group", group),
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
        let name = self.name("sync", block.value(0).unwrap_or("group"));
        self.carry(block);
        let mut item = Item::new("[[vrrp_sync_group]]", block.told(), Some(block.place));
        item.set("name", name.as_str());
        // Each member tracks what the group does.
        let mut tracks = Item::new("", String::new(), None);
        for node in block.below() {
            match node.word.as_str() {
                "group" => {
                    self.carry(node);
                    for member in node.below() {
                        self.carry(member);
                        let words =
                            std::iter::once(&member.word).chain(member.values.iter().map(|it| &it.text));
                        for word in words {
                            self.sync.insert(word.clone(), name.clone());
                        }
                    }
                    for member in &node.values {
                        self.sync.insert(member.text.clone(), name.clone());
                    }
                }
                "track_interface" => self.track_interface(node, None, &mut tracks),
                "track_file" => self.track_files(node, &mut tracks),
                "track_script" | "track_process" => {
                    let watched = self.track_watched(node, &mut tracks);
                    tracks.below.extend(watched);
                }
                _ if self.hook(node, &mut item) => {}
                _ => self.other(node, head),
            }
        }
        head.remarks.list.append(&mut tracks.remarks.list);
        self.sync_tracks.insert(name, tracks.below);
        if item.keys.len() > 1 {
            self.tables.sync.push(item);
        }
    }

    /// `vrrp_track_file NAME { file PATH; weight N }`
    pub(super) fn track_file(&mut self, block: &Node, head: &mut Item) {
        if self.files.contains_key(block.value(0).unwrap_or_default()) {
            self.leave(block, head, "a file of this name stands before it, and that one is taken");
            return;
        }
        let mut file = TrackedFile { weight: Some(1), ..TrackedFile::default() };
        self.carry(block);
        for node in block.below() {
            match node.word.as_str() {
                "file" => {
                    self.carry(node);
                    file.path = node.value(0).unwrap_or_default().to_owned();
                }
                "weight" => {
                    let weight = self.number::<i64>(node, head, |it| (-254..=254).contains(it));
                    file.weight = weight.map(|it| it.clamp(-253, 253)).or(file.weight);
                    file.is_reverse = node.value(1) == Some("reverse");
                }
                "init_file" => {
                    self.leave(node, head, "weir makes no file; one that is not there counts as 0")
                }
                _ => self.other(node, head),
            }
        }
        self.files.insert(block.value(0).unwrap_or_default().to_owned(), file);
    }

    pub(super) fn static_addresses(&mut self, block: &Node, head: &mut Item) {
        self.carry(block);
        for node in block.below() {
            let device = device_of(node);
            match (network(&node.word), device) {
                (Some((address, length)), Some(device)) if !is_of_host(device) => {
                    self.carry(node);
                    let most = if address.is_ipv4() { 32 } else { 128 };
                    self.ports.own(device, address, Some(length.unwrap_or(most)), None);
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

/// What stands behind `dev`.
pub(super) fn device_of(node: &Node) -> Option<&str> {
    let at = node.values.iter().position(|value| value.text == "dev")?;
    node.value(at + 1)
}

/// Interfaces that are no cards.
pub(super) fn is_of_host(interface: &str) -> bool {
    interface == "lo" || interface.starts_with("dummy")
}
