//! `vrrp_instance`

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use toml_edit::Value;

use super::blocks::Node;
use super::global::{GARP, device_of, is_of_host, placeless};
use super::map::{Map, network};
use super::ports::is_link_local;
use super::source::{Place, Plain};
use super::write::{Item, texts};

/// What a weight of something tracked may be.
pub(super) const WEIGHTS: RangeInclusive<i64> = -253..=253;

/// Bytes of a password that keepalived uses.
const PASSWORD_BYTES: usize = 8;

/// What has to be known as a whole before it can be written.
#[derive(Default)]
struct Draft<'a> {
    interface: Option<&'a str>,
    version: Option<(Option<&'a Node>, i64)>,
    advert: Option<(&'a Node, f64)>,
    nopreempt: Option<&'a Node>,
    no_accept: Option<&'a Node>,
    preempt_delay: Option<(&'a Node, f64)>,
    is_master: bool,
    virtual_mac: bool,
    addresses: Vec<IpAddr>,
    /// The same, to be found.
    has: HashSet<IpAddr>,
    own: Option<(&'a Node, IpAddr)>,
    /// Blocks, which add up.
    authentication: Vec<&'a Node>,
    hmac: Vec<&'a Node>,
    peers: Vec<&'a Node>,
    excluded: Vec<&'a Node>,
    garp: Vec<(&'static str, Value)>,
    v3_checksum_as_v2: bool,
    /// The line that says so.
    v3_checksum: Option<&'a Node>,
}

impl Map {
    pub(super) fn vrrp_instance(&mut self, block: &Node) {
        let told = block.value(0).unwrap_or("instance").to_owned();
        let mut item = Item::new("[[vrrp]]", format!("vrrp_instance {}", Plain(&told)), Some(block.place));
        self.carry_of(block, &mut item, 1);
        let name = self.name("vrrp", &told);
        item.set("name", name);
        let mut draft = Draft { version: self.global.version.map(|it| (None, it)), ..Draft::default() };
        draft.v3_checksum_as_v2 = self.global.v3_checksum_as_v2;
        draft.garp = self.global.garp.clone();
        let interface =
            block.below().iter().rfind(|node| node.word == "interface").and_then(|node| node.value(0));
        draft.interface = interface;
        let port = self.ports.port(interface.unwrap_or("lan"));
        item.set("port", port);
        for node in block.below() {
            self.instance_word(node, &mut draft, &mut item);
        }
        if interface.is_none() {
            self.remark(block, &mut item, "no interface is named; a port of the name lan was made for it");
        }
        if let Some(group) = self.sync.get(&told) {
            item.set("sync_group", group.as_str());
            item.below.extend(self.sync_tracks.get(group).into_iter().flatten().cloned());
        }
        self.finish_instance(draft, &mut item);
        if let Some(delay) = self.global.startup_delay {
            item.set("startup_delay", delay);
        }
        self.tables.vrrp.push(item);
    }

    fn instance_word<'a>(&mut self, node: &'a Node, draft: &mut Draft<'a>, item: &mut Item) {
        if let Some((_, key)) = GARP.iter().find(|(_, key)| *key == node.word) {
            let number = self.garp(node, key, item);
            draft.garp.extend(number.map(|number| (*key, number)));
            return;
        }
        match node.word.as_str() {
            "interface" => self.carry_of(node, item, 1),
            "virtual_router_id" => {
                if let Some(id) = self.number::<i64>(node, item, |it| (1..=255).contains(it)) {
                    item.set("virtual_router_id", id);
                }
            }
            "priority" => {
                if let Some(priority) = self.number::<i64>(node, item, |it| (1..=255).contains(it)) {
                    item.set("priority", priority);
                }
            }
            "state" => {
                self.carry_of(node, item, 1);
                draft.is_master = node.value(0) == Some("MASTER");
            }
            "version" => {
                let version = self.number(node, item, |it| (2..=3).contains(it));
                draft.version = version.map(|it| (Some(node), it)).or(draft.version);
            }
            "advert_int" => {
                let secs = self.number(node, item, |it| (0.01..=255.0).contains(it));
                draft.advert = secs.map(|secs| (node, secs)).or(draft.advert);
            }
            "nopreempt" => {
                if self.switch(node, item) {
                    draft.nopreempt = Some(node);
                }
            }
            "preempt" => {
                self.carry_of(node, item, 0);
                let before = draft.nopreempt.take();
                self.taken_back(before, node, item);
            }
            "preempt_delay" => {
                let secs = self.number(node, item, |it| (0.0..=1000.0).contains(it));
                draft.preempt_delay = secs.map(|secs| (node, secs)).or(draft.preempt_delay);
            }
            "accept" => {
                self.carry_of(node, item, 0);
                let before = draft.no_accept.take();
                self.taken_back(before, node, item);
            }
            "no_accept" => {
                self.carry_of(node, item, 0);
                draft.no_accept = Some(node);
            }
            "use_vmac" => {
                draft.virtual_mac = true;
                match node.value(0) {
                    Some(_) => {
                        self.remark(node, item, "the virtual MAC address needs no interface of a name")
                    }
                    None => self.carry(node),
                }
            }
            "v3_checksum_as_v2" => {
                draft.v3_checksum_as_v2 = self.switch(node, item);
                draft.v3_checksum = Some(node);
            }
            "authentication" => draft.authentication.push(node),
            "auth_hmac" => draft.hmac.push(node),
            "virtual_ipaddress" => self.addresses(node, draft, item),
            "virtual_ipaddress_excluded" => draft.excluded.push(node),
            "unicast_peer" => draft.peers.push(node),
            "unicast_src_ip" | "mcast_src_ip" => match node.value(0).and_then(|text| text.parse().ok()) {
                Some(address) => {
                    if let Some((before, _)) = draft.own.replace((node, address)) {
                        self.taken_back(Some(before), node, item);
                    }
                }
                None => self.leave(node, item, "it names no address"),
            },
            "track_interface" => self.track_interface(node, draft.interface, item),
            "track_script" | "track_process" => {
                let tracks = self.track_watched(node, item);
                item.below.extend(tracks);
            }
            "track_file" => self.track_files(node, item),
            _ if self.hook(node, item) => {}
            _ => self.other(node, item),
        }
    }

    /// A line that a later one makes void.
    fn taken_back(&mut self, before: Option<&Node>, by: &Node, item: &mut Item) {
        if let Some(before) = before {
            let text = format!("line {} says otherwise, and the last one counts", by.place.line);
            self.remark(before, item, text);
        }
    }

    fn addresses(&mut self, block: &Node, draft: &mut Draft<'_>, item: &mut Item) {
        self.carry_of(block, item, 0);
        for node in block.below() {
            let Some((address, length)) = network(&node.word) else {
                self.leave(node, item, "this is no address");
                continue;
            };
            let interface = draft.interface.unwrap_or("lan");
            if let Some(length) = length {
                self.ports.hint(
                    address,
                    length,
                    device_of(node).filter(|it| !is_of_host(it)).unwrap_or(interface),
                );
            }
            if draft.addresses.first().is_some_and(|first| first.is_ipv4() != address.is_ipv4()) {
                let text = "an instance has addresses of one family, in keepalived too: write a second instance for this one";
                self.leave(node, item, text);
                continue;
            }
            self.ports.takes(address);
            if !draft.has.insert(address) {
                self.leave(node, item, "the instance has this address already");
                continue;
            }
            draft.addresses.push(address);
            self.carry(node);
            if let Some(device) = device_of(node).filter(|device| *device != interface) {
                let text =
                    format!("it stands on {} there; here it is served on the instance's port", Plain(device));
                self.remark(node, item, text);
            }
            self.placeless(node, item);
        }
    }

    /// Tells of words behind an address that have no place.
    fn placeless(&mut self, node: &Node, item: &mut Item) {
        if let Some(words) = placeless(node, &["dev"]) {
            let text = format!("{words} has no place: the address is on no interface of the kernel");
            self.remark(node, item, text);
        }
    }

    /// `NAME [weight N] [reverse]`, a line each.
    pub(super) fn tracked(&mut self, node: &Node, item: &mut Item) -> (Option<i64>, bool) {
        let at = node.values.iter().position(|value| value.text == "weight");
        let weight = at.and_then(|at| node.value(at + 1)).and_then(|text| text.parse::<i64>().ok());
        let is_reverse = node.values.iter().any(|value| value.text == "reverse");
        if at.is_some() && weight.is_none() {
            self.remark(node, item, "its weight is no number, and was not taken");
        }
        let weight = weight.map(|weight| self.bounded(node, item, weight, WEIGHTS));
        if let Some(words) = placeless(node, &["weight", "reverse"]) {
            self.remark(node, item, format!("{words} means nothing here"));
        }
        (weight, is_reverse)
    }

    pub(super) fn track_interface(&mut self, block: &Node, interface: Option<&str>, item: &mut Item) {
        self.carry_of(block, item, 0);
        for node in block.below() {
            let name = node.word.as_str();
            let (weight, is_reverse) = self.tracked(node, item);
            let weight = weight.filter(|weight| *weight != 0);
            if is_reverse {
                self.leave(node, item, "a link that counts when it is down can't be said");
                continue;
            }
            if is_of_host(name) {
                self.leave(node, item, "this interface is none of weir's");
                continue;
            }
            if interface == Some(name) && weight.is_none() {
                self.carry(node);
                continue;
            }
            let mut track = Item::new("[[vrrp.track]]", node.told(), Some(node.place));
            match self.ports.has(name) {
                true => self.carry(node),
                false => self.remark(
                    node,
                    &mut track,
                    "only links of weir's own ports can be tracked; a [[port]] was made for it",
                ),
            }
            let port = self.ports.port(name);
            track.set("port", port);
            if let Some(weight) = weight {
                track.set("weight", weight);
            }
            item.below.push(track);
        }
    }

    pub(super) fn track_files(&mut self, block: &Node, item: &mut Item) {
        self.carry_of(block, item, 0);
        for node in block.below() {
            let (weight, is_reverse) = self.tracked(node, item);
            let known = self.files.get_mut(&node.word).map(|file| {
                file.is_used = true;
                file.clone()
            });
            let Some(file) = known else {
                self.leave(node, item, "no track_file of this name tells where it is");
                continue;
            };
            if is_reverse || file.is_reverse {
                self.leave(
                    node,
                    item,
                    "a file that counts the other way round can't be said: give it the opposite weight",
                );
                continue;
            }
            self.carry(node);
            let mut track = Item::new("[[vrrp.track]]", node.told(), Some(node.place));
            track.also.extend(file.place);
            track.set("file", file.path);
            if let Some(weight) = weight.or(file.weight).filter(|weight| *weight != 0) {
                track.set("weight", weight);
            }
            item.below.push(track);
        }
    }

    fn finish_instance(&mut self, draft: Draft<'_>, item: &mut Item) {
        let interface = draft.interface.unwrap_or("lan");
        let (mut addresses, mut has) = (draft.addresses, draft.has);
        let mut excluded = Vec::new();
        for block in &draft.excluded {
            self.carry_of(block, item, 0);
            for node in block.below() {
                match network(&node.word) {
                    Some((address, _))
                        if addresses.first().is_some_and(|first| first.is_ipv4() == address.is_ipv4())
                            && has.insert(address) =>
                    {
                        self.carry(node);
                        self.placeless(node, item);
                        self.ports.takes(address);
                        excluded.push(address.to_string());
                    }
                    _ => self.leave(node, item, "write an instance of its own for it: an instance has addresses of one family, each once"),
                }
            }
        }
        let is_ipv6 = addresses.first().is_some_and(IpAddr::is_ipv6);
        let version = if is_ipv6 { 3 } else { draft.version.map_or(2, |(_, version)| version) };
        item.set("version", version);
        if let Some((Some(node), 2)) = draft.version.filter(|_| is_ipv6) {
            self.remark(node, item, "IPv6 has version 3 alone, in keepalived too");
        }
        if draft.no_accept.is_some() {
            item.set("accept", false);
        }
        if let Some((node, secs)) = draft.advert {
            self.advert(node, secs, version, item);
        }
        self.preemption(draft.nopreempt, draft.preempt_delay, draft.is_master, item);
        match draft.virtual_mac {
            true => item.set("virtual_mac", true),
            false => item.set_remarked(
                "virtual_mac",
                false,
                "as keepalived without use_vmac; weir's default is true",
            ),
        }
        if is_ipv6 && addresses.first().is_some_and(|first| !is_link_local(*first)) {
            let link_local = addresses.iter().position(|it| is_link_local(*it));
            let first = match link_local {
                Some(at) => addresses.remove(at),
                None => {
                    let id = item.keys.iter().find(|key| key.name == "virtual_router_id");
                    let id = id.and_then(|key| key.value.as_integer()).unwrap_or(1);
                    let made = format!("fe80::5:{id:x}");
                    item.remark(format!(
                        "FILL IN: the first address of an IPv6 instance is link-local (RFC 9568); {made} is made up, and every director of the group has to list it"
                    ));
                    made.parse().unwrap_or(addresses[0])
                }
            };
            addresses.insert(0, first);
        }
        item.set("addresses", texts(addresses.iter().map(IpAddr::to_string)));
        if !excluded.is_empty() {
            item.set("excluded_addresses", texts(excluded));
        }
        for (key, secs) in self.global.pauses.clone() {
            if secs > 0.0 {
                item.set(key, secs);
            }
        }
        if draft.v3_checksum_as_v2 && version == 3 && !is_ipv6 {
            item.set("v3_checksum_as_v2", true);
        } else if let Some(node) = draft.v3_checksum {
            self.remark(node, item, "it means something in version 3 of IPv4 alone");
        }
        for (key, number) in draft.garp {
            item.set(key, number);
        }
        if let Some((node, address)) = draft.own {
            self.ports.own(interface, address, None, None);
            match self.ports.is_own(interface, address) && address.is_ipv6() == is_ipv6 {
                true => {
                    self.carry(node);
                    item.set("source_address", address.to_string());
                }
                false => self.leave(
                    node,
                    item,
                    "it is no address of the port: advertisements come from its first one",
                ),
            }
        }
        if let Some(like) = addresses.iter().find(|it| !is_link_local(**it)) {
            self.ports.sends(interface, *like);
        }
        self.peers(&draft.peers, interface, item);
        match self.auth_hmac(&draft.hmac, item) {
            true => {
                let text = "keepalived leaves it away where there is an auth_hmac";
                draft.authentication.iter().for_each(|block| self.leave(block, item, text));
            }
            false => self.authentication(&draft.authentication, version, item),
        }
    }

    fn advert(&mut self, node: &Node, secs: f64, version: i64, item: &mut Item) {
        let made = if version == 2 {
            secs.round().max(1.0)
        } else {
            (secs * 100.0).round().clamp(1.0, 4095.0) / 100.0
        };
        if (made - secs).abs() > 1e-9 {
            let unit = if version == 2 { "whole seconds" } else { "hundredths of a second, up to 40.95 s" };
            self.remark(node, item, format!("version {version} counts {unit}: {made} was written"));
        }
        item.set("advertisement_interval", made);
    }

    fn preemption(
        &mut self,
        nopreempt: Option<&Node>,
        delay: Option<(&Node, f64)>,
        is_master: bool,
        item: &mut Item,
    ) {
        if is_master {
            let text = "keepalived takes it back where the state is MASTER, so it has no effect there either";
            for node in nopreempt.into_iter().chain(delay.map(|(node, _)| node)) {
                self.leave(node, item, text);
            }
            return;
        }
        if nopreempt.is_some() {
            item.set("preempt", false);
        }
        match delay {
            Some((node, _)) if nopreempt.is_some() => {
                self.leave(node, item, "without preemption there is nothing to delay")
            }
            Some((_, secs)) if secs > 0.0 => item.set("preempt_delay", secs),
            _ => {}
        }
    }

    fn peers(&mut self, blocks: &[&Node], interface: &str, item: &mut Item) {
        blocks.iter().for_each(|block| self.carry_of(block, item, 0));
        let mut bounds = Vec::new();
        let (mut peers, mut least, mut most) = (Vec::new(), None, None);
        for node in blocks.iter().flat_map(|block| block.below()) {
            let Ok(address) = node.word.parse::<IpAddr>() else {
                self.leave(node, item, "this is no address");
                continue;
            };
            let behind = |name: &str| {
                let at = node.values.iter().position(|value| value.text == name)?;
                node.value(at + 1)?.parse::<i64>().ok()
            };
            // One bound for all: the widest.
            let (from, to) = (behind("min_ttl").unwrap_or(0), behind("max_ttl").unwrap_or(255));
            least = Some(from.min(least.unwrap_or(255)));
            most = Some(to.max(most.unwrap_or(0)));
            bounds.push((node, from, to));
            self.carry(node);
            if let Some(words) = placeless(node, &["min_ttl", "max_ttl"]) {
                self.remark(node, item, format!("{words} means nothing here"));
            }
            self.ports.needs(address, Some(interface), true);
            peers.push(address.to_string());
        }
        if peers.is_empty() {
            return;
        }
        item.set("unicast_peers", texts(peers));
        for (node, from, to) in bounds {
            if Some(from) != least || Some(to) != most {
                self.remark(node, item, "weir has one range of TTL for all peers, and it is the widest");
            }
        }
        if let Some(least) = least.filter(|least| *least > 0) {
            item.set("ttl_min", least);
        }
        if let Some(most) = most.filter(|most| *most < 255) {
            item.set("ttl_max", most);
        }
    }

    fn authentication(&mut self, blocks: &[&Node], version: i64, item: &mut Item) {
        let Some(block) = blocks.last() else { return };
        if version != 2 {
            let text = "version 3 has no authentication; keepalived leaves it away, too";
            blocks.iter().for_each(|block| self.leave(block, item, text));
            return;
        }
        let mut table = Item::new("[vrrp.authentication]", "authentication".to_owned(), Some(block.place));
        for block in &blocks[..blocks.len() - 1] {
            self.remark(
                block,
                &mut table,
                "the instance has another one behind it, and what that says counts",
            );
        }
        self.carry_of(block, item, 0);
        let (mut kind, mut password) = (None, None);
        let mut said: HashMap<&str, (&Node, Place)> = HashMap::new();
        let nodes = blocks.iter().flat_map(|block| block.below().iter().map(|node| (node, block.place)));
        for (node, around) in nodes {
            // Of those of one block `ends` tells.
            let before =
                said.insert(node.word.as_str(), (node, around)).filter(|(_, other)| *other != around);
            self.taken_back(before.map(|(node, _)| node), node, item);
            match node.word.as_str() {
                "auth_type" => {
                    let said = match node.value(0) {
                        Some("PASS" | "pass") => Some("pass"),
                        Some("AH" | "ah") => Some("ah"),
                        _ => None,
                    };
                    match said {
                        Some(_) => self.carry_of(node, item, 1),
                        None => self.leave(node, item, "the types are PASS and AH"),
                    }
                    kind = said.or(kind);
                }
                "auth_pass" => {
                    let text = node.value(0).unwrap_or_default();
                    let end =
                        (0..=text.len().min(PASSWORD_BYTES)).rev().find(|end| text.is_char_boundary(*end));
                    let cut = &text[..end.unwrap_or(0)];
                    match cut.len() == text.len() {
                        true => self.carry_of(node, &mut table, 1),
                        false => self.remark(
                            node,
                            &mut table,
                            "keepalived uses its first 8 bytes, and those were written",
                        ),
                    }
                    password = Some(cut.to_owned());
                }
                _ => self.other(node, item),
            }
        }
        let password = password.filter(|it| !it.is_empty());
        match kind.zip(password) {
            Some((kind, password)) => {
                table.set("type", kind);
                table.set("password", password);
                item.below.push(table);
            }
            None => self.leave(
                block,
                item,
                "a type and a password are needed; without them there is no authentication",
            ),
        }
    }
}
