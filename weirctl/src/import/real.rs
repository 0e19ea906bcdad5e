//! `real_server`, `sorry_server`

use std::net::IpAddr;

use super::blocks::Node;
use super::map::Map;
use super::servers::Shared;
use super::source::{Fate, Plain};
use super::write::Item;

impl Map {
    /// NAT, DR or TUN.
    pub(super) fn method(&mut self, node: &Node, item: &mut Item) -> Option<&'static str> {
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
        match method {
            "tun" => self.carry(node),
            _ => self.carry_of(node, item, 1),
        }
        Some(method)
    }

    /// `TUN type gue port N csum`
    pub(super) fn tunnel(&mut self, node: &Node, item: &mut Item) -> Vec<(&'static str, toml_edit::Value)> {
        let mut words = node.values.iter().map(|value| value.text.as_str());
        if words.next() != Some("TUN") {
            return Vec::new();
        }
        let (mut keys, mut has_type) = (Vec::<(&str, toml_edit::Value)>::new(), false);
        while let Some(word) = words.next() {
            let is_known = match word {
                "type" => match words.next() {
                    Some(kind @ ("gue" | "gre")) => {
                        has_type = true;
                        keys.push(("tunnel", kind.into()));
                        true
                    }
                    kind => kind == Some("ipip"),
                },
                "port" => {
                    let port = words.next().and_then(|text| text.parse::<i64>().ok());
                    keys.extend(port.map(|port| ("tunnel_port", port.into())));
                    port.is_some()
                }
                "csum" | "remcsum" => {
                    keys.push(("tunnel_checksum", word.into()));
                    true
                }
                word => word == "nocsum",
            };
            if !is_known {
                let text = format!("what stands at `{}` is nothing that a tunnel has", Plain(word));
                self.remark(node, item, text);
            }
        }
        if !has_type && !keys.is_empty() {
            self.remark(node, item, "a tunnel without `type` is IPIP, which has no port and no checksum");
            keys.clear();
        }
        keys
    }

    pub(super) fn real_server(&mut self, block: &Node, shared: &Shared, server: &mut Item) -> Option<Item> {
        let mut item = Item::new("[[virtual_server.real_server]]", block.told(), Some(block.place));
        let Some(address) = block.value(0).and_then(|text| text.parse::<IpAddr>().ok()) else {
            let why = "this is no address of a host";
            item.refused = Some(why.to_owned());
            self.note(block.place, Fate::LeftOut, format!("`{}`: {why}", block.told()));
            return Some(item);
        };
        if block.value(1).is_some_and(|text| text.parse::<u16>().is_err()) {
            let why = "its port is none, and keepalived skips it";
            item.refused = Some(why.to_owned());
            self.note(block.place, Fate::LeftOut, format!("`{}`: {why}", block.told()));
            return Some(item);
        }
        self.carry(block);
        if let Some(weight) = shared.weight {
            item.set("weight", weight);
        }
        if block.values.len() > 2 {
            self.remark(block, &mut item, "words behind the port mean nothing, in keepalived either");
        }
        item.set("address", address.to_string());
        let port = block.value(1).and_then(|text| text.parse::<u16>().ok());
        let (mut forwarding, mut outer) = (shared.forwarding, shared.tunnel.clone());
        let is_method = |node: &&Node| matches!(node.word.as_str(), "lb_kind" | "lvs_method");
        for node in block.below().iter().filter(is_method) {
            forwarding = self.method(node, &mut item).unwrap_or(forwarding);
            item.set("forwarding", forwarding);
            outer = self.tunnel(node, &mut item);
        }
        if forwarding == "tun" {
            outer.into_iter().for_each(|(key, value)| item.set(key, value));
        }
        let usual = if shared.is_mark { 0 } else { shared.port };
        // LVS keeps the client's port where the virtual server has none.
        let changes = forwarding == "nat" && (shared.is_mark || shared.port != 0);
        match port {
            Some(port)
                if port == 0 || port == usual && !(shared.has_several_ports && forwarding == "nat") => {}
            Some(port) if changes => item.set("port", i64::from(port)),
            Some(port) if forwarding == "nat" => self.remark(block, &mut item, keeps_port(port)),
            Some(port) => {
                let text = format!(
                    "{} does not change ports, and keepalived does not either: {port} was left out",
                    forwarding.to_uppercase()
                );
                self.remark(block, &mut item, text);
            }
            None => {}
        }
        // Where checks look there, and where they would look here.
        let asked = match port {
            Some(port) if port != 0 && (forwarding == "nat" || shared.is_mark) => port,
            _ => shared.port,
        };
        let here = if changes { asked } else { usual };
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
                if let Some(weight) = self.within::<i64>(node, item, 0..=65_535, |it| *it >= 0) {
                    item.set("weight", weight);
                }
            }
            word @ ("uthreshold" | "lthreshold") => {
                if let Some(many) = self.number::<i64>(node, item, |it| (0..=4_294_967_295).contains(it)) {
                    let key = if word == "uthreshold" { "upper_threshold" } else { "lower_threshold" };
                    item.put(node, key, many);
                }
            }
            "inhibit_on_failure" => {
                let is_on = self.switch(node, item);
                item.set("on_fail", if is_on { "quiesce" } else { "remove" });
            }
            "alpha" => self.alpha(node, item, server),
            "virtualhost" => {
                self.carry_of(node, item, 1);
                shared.host = node.value(0).map(str::to_owned);
            }
            "notify_up" => self.first_program(node, "notify_up", item),
            "notify_down" => self.first_program(node, "notify_down", item),
            "lb_kind" | "lvs_method" => {}
            word if word.ends_with("_CHECK") || matches!(word, "HTTP_GET" | "SSL_GET") => {}
            _ if self.timing_word(node, &mut shared.timing, item) => {}
            _ => self.other(node, item),
        }
    }

    /// Of one real server's checks there; of the whole virtual server here.
    fn alpha(&mut self, node: &Node, item: &mut Item, server: &mut Item) {
        let is_there = server.keys.iter().any(|key| key.name == "alpha" && key.value.as_bool() == Some(true));
        match self.switch(node, item) {
            true => {
                server.set("alpha", true);
                self.remark(node, item, "it holds for the whole virtual server here");
            }
            false if is_there => {
                self.leave(node, item, "the virtual server has it on, and it holds for all of them here");
            }
            false => {}
        }
    }

    pub(super) fn sorry_server(&mut self, block: &Node, shared: &Shared, item: &mut Item) {
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
        let port = node.value(1).map(|text| text.parse::<u16>().ok());
        if port == Some(None) {
            self.remark(node, &mut sorry, "its port is no number; the virtual server's was taken");
        }
        match port.flatten() {
            Some(port) if port != 0 && usual == 0 && !shared.is_mark && forwarding == "nat" => {
                self.remark(node, &mut sorry, keeps_port(port));
            }
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
        self.carry_of(node, &mut sorry, 2);
        self.ports.needs(address, None, forwarding != "dr");
        item.below.push(sorry);
    }
}

fn keeps_port(port: u16) -> String {
    format!(
        "the virtual server has no port, so a connection keeps the one that its client chose, in LVS too: {port} was left out"
    )
}
