//! `vrrp_instance`

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};

use toml_edit::Value;

use super::blocks::Node;
use super::global::{GARP, device_of, is_of_host, placeless};
use super::map::{Map, interface_address, network};
use super::ports::is_link_local;
use super::source::{Place, Plain};
use super::track::Tracking;
use super::write::{Item, texts};

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
    accept: Option<&'a Node>,
    /// The line that says `MASTER`, and whether one says anything.
    master: Option<&'a Node>,
    has_state: bool,
    has_priority: bool,
    /// `vrrp_strict`, `strict_mode`
    is_strict: bool,
    tracking: Tracking,
    virtual_mac: bool,
    addresses: Vec<IpAddr>,
    /// The first that stands on the instance's own interface.
    home: Option<IpAddr>,
    /// All, to be found.
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
    pub(super) fn vrrp_instance(&mut self, block: &Node, head: &mut Item) {
        let Some(told) = self.only_name(block, head) else { return };
        if !self.made_instances.insert(told.clone()) {
            self.leave(
                block,
                head,
                "an instance of this name stands before it, and keepalived takes that one",
            );
            return;
        }
        if !self.has_address(block, head) {
            return;
        }
        let mut item = Item::new("[[vrrp]]", format!("vrrp_instance {}", Plain(&told)), Some(block.place));
        self.carry(block);
        let name = self.name("vrrp", &told);
        item.set("name", name);
        let mut draft = Draft { version: self.global.version.map(|it| (None, it)), ..Draft::default() };
        draft.v3_checksum_as_v2 = self.global.v3_checksum_as_v2;
        draft.is_strict = self.global.is_strict;
        draft.garp = self.global.garp.clone();
        let interface =
            block.below().iter().rfind(|node| node.word == "interface").and_then(|node| node.value(0));
        draft.interface = interface;
        let port = self.ports.port(interface.unwrap_or("lan"));
        item.set("port", port);
        let group = self.sync.get(&told).cloned();
        draft.tracking.is_unweighted = group.as_ref().is_some_and(|group| !group.has_weights);
        for node in block.below() {
            self.instance_word(node, &mut draft, &mut item);
        }
        if interface.is_none() {
            self.remark(block, &mut item, "no interface is named; a port of the name lan was made for it");
        }
        if let Some(group) = group {
            item.set("sync_group", group.name.as_str());
            item.below.extend(self.sync_tracks.get(&group.name).into_iter().flatten().cloned());
        }
        self.finish_instance(draft, &mut item);
        if let Some(delay) = self.global.startup_delay {
            item.set("startup_delay", delay);
        }
        self.tables.vrrp.push(item);
    }

    /// Whether there is something to be taken over; else the instance is left out.
    fn has_address(&mut self, block: &Node, head: &mut Item) -> bool {
        let lists = block.below().iter().filter(|node| node.word == "virtual_ipaddress");
        let wrong: Vec<&Node> = lists.flat_map(Node::below).collect();
        if wrong.iter().any(|node| interface_address(&node.word).is_some()) {
            return true;
        }
        wrong.into_iter().for_each(|node| self.leave(node, head, "this is no address"));
        self.leave(block, head, "it has no virtual address, and weir has no instance without one");
        false
    }

    fn instance_word<'a>(&mut self, node: &'a Node, draft: &mut Draft<'a>, item: &mut Item) {
        if let Some((_, key)) = GARP.iter().find(|(_, key)| *key == node.word) {
            let number = self.garp(node, key, item);
            draft.garp.extend(number.map(|number| (*key, number)));
            return;
        }
        match node.word.as_str() {
            "interface" => match node.value(0) {
                Some(_) => self.carry_of(node, item, 1),
                None => {
                    self.leave(node, item, "it names no interface, and keepalived does not start with that")
                }
            },
            "virtual_router_id" => {
                if let Some(id) = self.number::<i64>(node, item, |it| (1..=255).contains(it)) {
                    item.set("virtual_router_id", id);
                }
            }
            "priority" => {
                draft.has_priority = true;
                if let Some(priority) = self.number::<i64>(node, item, |it| (1..=255).contains(it)) {
                    item.set("priority", priority);
                }
            }
            "state" => {
                self.carry_of(node, item, 1);
                draft.has_state = true;
                draft.master = draft.master.or((node.value(0) == Some("MASTER")).then_some(node));
            }
            "version" => match draft.version {
                Some((Some(before), _)) => {
                    let text =
                        format!("line {} says it before, and keepalived takes that", before.place.line);
                    self.leave(node, item, text);
                }
                _ => {
                    let version = self.number(node, item, |it| (2..=3).contains(it));
                    draft.version = version.map(|it| (Some(node), it)).or(draft.version);
                }
            },
            "advert_int" => {
                let secs = self.number(node, item, |it| (0.01..=255.0).contains(it));
                draft.advert = secs.map(|secs| (node, secs)).or(draft.advert);
            }
            "nopreempt" => {
                self.carry_of(node, item, 0);
                draft.nopreempt = Some(node);
            }
            "strict_mode" => draft.is_strict = self.switch(node, item),
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
                draft.accept = Some(node);
                let before = draft.no_accept.take();
                self.taken_back(before, node, item);
            }
            "no_accept" => {
                self.carry_of(node, item, 0);
                let before = draft.accept.take();
                self.taken_back(before, node, item);
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
            "unicast_src_ip" | "mcast_src_ip" => match node.value(0).and_then(network) {
                Some((address, length)) => {
                    if let Some(length) = length {
                        self.ports.hint(address, length, draft.interface.unwrap_or("lan"));
                    }
                    if let Some((before, _)) = draft.own.replace((node, address)) {
                        self.taken_back(Some(before), node, item);
                    }
                }
                None => self.leave(node, item, "it names no address"),
            },
            "track_interface" => self.track_interface(node, draft.interface, &mut draft.tracking, item),
            "track_script" | "track_process" => {
                let tracks = self.track_watched(node, &mut draft.tracking, item);
                item.below.extend(tracks);
            }
            "track_file" => self.track_files(node, &mut draft.tracking, item),
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
            let Some((address, length, odd)) = interface_address(&node.word) else {
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
            if device_of(node).is_none_or(|device| device == interface) && !is_link_local(address) {
                draft.home = draft.home.or(Some(address));
            }
            self.carry(node);
            if let Some(text) = odd {
                self.remark(node, item, text);
            }
            if let Some(device) = device_of(node).filter(|device| *device != interface) {
                let text = format!(
                    "it stands on {} there; here it is served on the instance's port alone: for clients elsewhere write a [[vrrp]] of that port, with one `sync_group` in both",
                    Plain(device)
                );
                self.remark(node, item, text);
            }
            self.placeless(node, item);
        }
    }

    /// Tells of words behind an address that have no place.
    fn placeless(&mut self, node: &Node, item: &mut Item) {
        if let Some(words) = placeless(node, &["dev"]) {
            let has = if words.contains(" and ") { "have" } else { "has" };
            let text = format!("{words} {has} no place: the address is on no interface of the kernel");
            self.remark(node, item, text);
        }
    }

    fn finish_instance(&mut self, draft: Draft<'_>, item: &mut Item) {
        let interface = draft.interface.unwrap_or("lan");
        let (mut addresses, mut has) = (draft.addresses, draft.has);
        let mut excluded = Vec::new();
        for block in &draft.excluded {
            self.carry_of(block, item, 0);
            for node in block.below() {
                match interface_address(&node.word) {
                    Some((address, _, odd))
                        if addresses.first().is_some_and(|first| first.is_ipv4() == address.is_ipv4())
                            && has.insert(address) =>
                    {
                        self.carry(node);
                        if let Some(text) = odd {
                            self.remark(node, item, text);
                        }
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
        let is_owner = self.priority(draft.master.filter(|_| !draft.has_priority), item);
        let said = (draft.no_accept, draft.accept);
        self.accept(said, draft.is_strict, version == 3 || is_owner, item);
        if let Some((node, secs)) = draft.advert {
            self.advert(node, secs, version, item);
        }
        let is_master = match draft.is_strict {
            true => is_owner,
            false => draft.master.is_some() || is_owner && !draft.has_state,
        };
        self.preemption(draft.nopreempt, draft.preempt_delay, (is_master, is_owner, draft.is_strict), item);
        match draft.virtual_mac {
            true => item.set("virtual_mac", true),
            false => item.set_remarked(
                "virtual_mac",
                false,
                "as keepalived without use_vmac; weir's default is true",
            ),
        }
        if is_ipv6 && addresses.first().is_some_and(|first| !is_link_local(*first)) {
            let first = match addresses.iter().position(|it| is_link_local(*it)) {
                Some(at) => Some(addresses.remove(at)),
                None => self.link_local(item),
            };
            addresses.splice(0..0, first);
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
        if draft.is_strict {
            item.set("garp_lower_prio_repeat", 0_i64);
        }
        if let Some((node, address)) = draft.own {
            self.ports.own(interface, address, None);
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
        if let Some(like) = draft.home.or(addresses.iter().find(|it| !is_link_local(**it)).copied()) {
            self.ports.sends(interface, like);
        }
        self.peers(&draft.peers, interface, draft.is_strict, item);
        match self.auth_hmac(&draft.hmac, item) {
            true => {
                let text = "keepalived leaves it away where there is an auth_hmac";
                draft.authentication.iter().for_each(|block| self.leave(block, item, text));
            }
            false if draft.is_strict => {
                let text = "keepalived leaves it away in strict mode";
                draft.authentication.iter().for_each(|block| self.leave(block, item, text));
            }
            false => self.authentication(&draft.authentication, version, item),
        }
    }

    /// A link-local address that no instance has yet.
    fn link_local(&mut self, item: &mut Item) -> Option<IpAddr> {
        let id = item.keys.iter().find(|key| key.name == "virtual_router_id");
        let id = id.and_then(|key| key.value.as_integer()).unwrap_or(1);
        let id = u16::try_from(id).unwrap_or(1);
        let mut all = (5..=0xff).map(|number| Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, number, id).into());
        let made = all.find(|made: &IpAddr| !self.ports.is_taken(*made))?;
        self.ports.takes(made);
        item.remark(format!(
            "FILL IN: the first address of an IPv6 instance is link-local (RFC 9568); {made} is made up, and every director of the group has to list it"
        ));
        Some(made)
    }

    /// `no_accept` and `accept`: the line of each that counts. `is_kept`: strict mode takes `accept` not back.
    fn accept(
        &mut self,
        said: (Option<&Node>, Option<&Node>),
        is_strict: bool,
        is_kept: bool,
        item: &mut Item,
    ) {
        match said {
            (Some(_), _) => item.set("accept", false),
            (None, Some(_)) if !is_strict || is_kept => {}
            (None, Some(node)) => {
                item.set("accept", false);
                self.leave(node, item, "keepalived takes it back in strict mode of version 2");
            }
            (None, None) if is_strict => {
                let text = "as keepalived in strict mode: virtual servers are served, and nothing else answers at the addresses";
                item.set_remarked("accept", false, text);
            }
            (None, None) => {}
        }
    }

    /// Whether the instance owns its addresses: keepalived takes the highest priority where the file says `MASTER` and none.
    fn priority(&mut self, master_alone: Option<&Node>, item: &mut Item) -> bool {
        if let Some(node) = master_alone {
            item.set("priority", 255_i64);
            let text = "no `priority` is said, and with MASTER keepalived takes 255 then, which was written";
            self.remark(node, item, text);
        }
        let priority = item.keys.iter().find(|key| key.name == "priority");
        priority.is_some_and(|key| key.value.as_integer() == Some(255))
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
        (is_master, is_owner, is_strict): (bool, bool, bool),
        item: &mut Item,
    ) {
        let text = if is_master {
            "keepalived takes it back where the state is MASTER, so it has no effect there either"
        } else {
            "keepalived takes it back where the priority is 255, so it has no effect there either"
        };
        if let Some(node) = nopreempt.filter(|_| is_master || is_owner) {
            self.leave(node, item, text);
        }
        if let Some((node, _)) = delay.filter(|_| is_master) {
            self.leave(node, item, text);
        }
        let (nopreempt, mut delay) =
            (nopreempt.filter(|_| !(is_master || is_owner)), delay.filter(|_| !is_master));
        if let Some((node, _)) = delay.take_if(|_| is_strict) {
            self.leave(node, item, "keepalived takes it back in strict mode");
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

    fn peers(&mut self, blocks: &[&Node], interface: &str, is_strict: bool, item: &mut Item) {
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
        if let Some(block) = blocks.first().filter(|_| peers.is_empty()) {
            self.remark(
                block,
                item,
                "no peer is left in it: advertisements go to the multicast group, in keepalived too",
            );
        } else if let Some(block) = blocks.first().filter(|_| is_strict) {
            self.remark(
                block,
                item,
                "keepalived starts no instance with peers in strict mode; this one is started",
            );
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
                        Some("PASS") => Some("pass"),
                        Some("AH") => Some("ah"),
                        _ => None,
                    };
                    match said {
                        Some(_) => self.carry_of(node, item, 1),
                        None => self.leave(
                            node,
                            item,
                            "keepalived knows PASS and AH, in capitals, and ignores this line",
                        ),
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
