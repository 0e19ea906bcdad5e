//! What VRRP runs and watches: `vrrp_script`, `vrrp_track_process`, the `notify` words and the FIFO.

use std::collections::{HashMap, HashSet};

use super::blocks::Node;
use super::ends::End;
use super::map::{Map, command, quoted};
use super::track::{Tracking, UNWEIGHTED, WEIGHTS};
use super::write::Item;

/// The process that a script looks for by sending it no signal.
fn looked_for(node: &Node) -> Option<String> {
    let words = command(&quoted(node).0)?;
    let is_signal = |word: &String| word.rsplit('/').next() == Some("killall");
    match &words[..] {
        [first, zero, process] if is_signal(first) && zero == "-0" => Some(process.clone()),
        _ => None,
    }
}

/// Of some words keepalived takes the line that stands first.
pub(super) const FIRST: &str = "a line of this word stands before it, and keepalived takes that one";

/// Programs that are told of states.
const HOOKS: [&str; 5] = ["notify_master", "notify_backup", "notify_fault", "notify_stop", "notify"];

/// What `track_script` and `track_process` name.
#[derive(Default)]
pub(super) struct Watched {
    /// By kind of block and name: the table, and the weight that it has by itself.
    by_name: HashMap<(&'static str, String), (Item, Option<i64>)>,
    used: HashSet<(&'static str, String)>,
}

impl Map {
    /// `vrrp_script NAME { script PROGRAM; interval N; ... }`
    pub(super) fn vrrp_script(&mut self, block: &Node, head: &mut Item) {
        let Some(name) = self.new_watched("vrrp_script", block, head) else { return };
        let mut item = Item::new("[[vrrp.track]]", block.told(), Some(block.place));
        let mut weight = None;
        let script = block.below().iter().rfind(|node| node.word == "script");
        let process = script.and_then(looked_for);
        for node in block.below() {
            match node.word.as_str() {
                "script" => self.script(node, &mut item),
                "interval" | "timeout" | "rise" | "fall" | "init_fail" | "user" if process.is_some() => {
                    self.leave(node, &mut item, "a process is looked for twice a second, and by no program");
                }
                word @ ("interval" | "timeout") => {
                    // keepalived takes whole seconds, and one for none.
                    if let Some(secs) = self.within::<i64>(node, &mut item, 1..=86_400, |it| *it >= 0) {
                        item.set(if word == "interval" { "interval" } else { "timeout" }, secs as f64);
                    }
                }
                word @ ("rise" | "fall") => {
                    if let Some(many) = self.number::<i64>(node, &mut item, |it| (1..=1_000_000).contains(it))
                    {
                        item.set(if word == "rise" { "rise" } else { "fall" }, many);
                    }
                }
                "weight" => weight = self.weight(node, &mut item).or(weight),
                "init_fail" => {
                    self.carry_of(node, &mut item, 0);
                    item.set("init_fail", true);
                }
                "user" => self.user_of_script(node, &mut item),
                _ => self.other(node, &mut item),
            }
        }
        if process.is_some() {
            item.keys.retain(|key| key.name == "process");
        } else if !item.keys.iter().any(|key| key.name == "script") {
            self.leave(block, head, "it names no program");
            return;
        } else {
            let name = self.name("script", &name);
            item.set("name", name);
        }
        self.watched.by_name.insert(("vrrp_script", name), (item, weight));
    }

    /// A program; or the process that it looks for.
    fn script(&mut self, node: &Node, item: &mut Item) {
        if let Some(process) = looked_for(node) {
            let text = "weir looks for the process itself, twice a second: programs of weir's may not send signals to what others run";
            self.remark(node, item, text);
            item.set("process", process);
        } else if let Some(program) = self.program(node, item) {
            item.set("script", program);
        }
    }

    fn user_of_script(&mut self, node: &Node, item: &mut Item) {
        let is_root = |name: &str| name == "root" || name.parse::<u32>() == Ok(0);
        match (node.value(0), node.value(1)) {
            (Some(user), group) if !is_root(user) => {
                self.carry_of(node, item, 2);
                item.set("user", user);
                match group {
                    Some(group) if is_root(group) => {
                        self.remark(
                            node,
                            item,
                            "weir runs no programs as the group root: it has the user's own",
                        );
                    }
                    Some(group) => item.set("group", group),
                    None => {}
                }
            }
            _ => self.remark(
                node,
                item,
                "weir runs no programs as root: it runs as the script_user of [health]",
            ),
        }
    }

    /// `vrrp_track_process NAME { process NAME; quorum N; ... }`
    pub(super) fn vrrp_process(&mut self, block: &Node, head: &mut Item) {
        let Some(name) = self.new_watched("vrrp_track_process", block, head) else { return };
        let mut item = Item::new("[[vrrp.track]]", block.told(), Some(block.place));
        let mut weight = None;
        for node in block.below() {
            match node.word.as_str() {
                "weight" if weight.is_some() => self.leave(node, &mut item, FIRST),
                "process" if item.keys.iter().any(|key| key.name == "process") => {
                    self.leave(node, &mut item, FIRST);
                }
                "process" => {
                    let process = node.value(0).and_then(|text| text.rsplit('/').next()).unwrap_or_default();
                    match node.values.len() > 1 {
                        true => self.remark(
                            node,
                            &mut item,
                            "processes are found by their name alone, whatever their arguments",
                        ),
                        false => self.carry(node),
                    }
                    item.set("process", process);
                }
                "quorum" => {
                    if let Some(many) = self.number::<i64>(node, &mut item, |it| (1..=4_194_304).contains(it))
                    {
                        item.set("quorum", many);
                    }
                }
                "weight" => weight = self.weight(node, &mut item).or(weight),
                "delay" | "terminate_delay" | "fork_delay" => {
                    self.leave(node, &mut item, "weir looks twice a second, and waits no longer");
                }
                "quorum_max" | "param_match" | "full_command" => {
                    self.leave(
                        node,
                        &mut item,
                        "processes are counted by their name, and so many have to run at least",
                    );
                }
                _ => self.other(node, &mut item),
            }
        }
        if item.keys.iter().all(|key| key.name != "process") {
            self.leave(block, head, "it names no process");
            return;
        }
        self.watched.by_name.insert(("vrrp_track_process", name), (item, weight));
    }

    /// The name of a block of this kind, if there is none before it.
    fn new_watched(&mut self, kind: &'static str, block: &Node, head: &mut Item) -> Option<String> {
        let name = block.value(0).unwrap_or_default().to_owned();
        if self.watched.by_name.contains_key(&(kind, name.clone())) {
            self.leave(block, head, "one of this name stands before it, and that one is taken");
            return None;
        }
        self.carry_of(block, head, 1);
        Some(name)
    }

    pub(super) fn weight(&mut self, node: &Node, item: &mut Item) -> Option<i64> {
        if node.value(1) == Some("reverse") {
            self.leave(node, item, "one that counts the other way round can't be said");
            return None;
        }
        self.within(node, item, WEIGHTS, |_| true)
    }

    /// `track_script`, `track_process`: a name a line, with a weight or without.
    pub(super) fn track_watched(&mut self, block: &Node, by: &mut Tracking, item: &mut Item) -> Vec<Item> {
        let kind = if block.word == "track_script" { "vrrp_script" } else { "vrrp_track_process" };
        self.carry_of(block, item, 0);
        let mut tracks = Vec::new();
        for node in block.below() {
            let Some((weight, is_reverse)) = self.tracked(node, kind, by, item) else { continue };
            let key = (kind, node.word.clone());
            let Some((track, own)) = self.watched.by_name.get(&key) else {
                self.leave(
                    node,
                    item,
                    format!("no {kind} of this name is there, so keepalived tracks nothing"),
                );
                continue;
            };
            let (mut track, own) = (track.clone(), *own);
            let weight = weight.or(own).filter(|weight| *weight != 0);
            if weight.is_some() && by.is_unweighted && kind == "vrrp_script" {
                self.leave(node, item, UNWEIGHTED);
                continue;
            }
            track.also.push(node.place);
            self.watched.used.insert(key);
            if is_reverse {
                self.leave(node, item, "one that counts the other way round can't be said");
                continue;
            }
            self.carry(node);
            if let Some(weight) = weight {
                track.set("weight", weight);
            }
            tracks.push(track);
        }
        tracks
    }

    /// Whether the word is a program that is told of states.
    pub(super) fn hook(&mut self, node: &Node, item: &mut Item) -> bool {
        let Some(key) = HOOKS.into_iter().find(|hook| *hook == node.word) else { return false };
        self.first_program(node, key, item);
        true
    }

    /// A program of which keepalived takes the one that stands first.
    pub(super) fn first_program(&mut self, node: &Node, key: &'static str, item: &mut Item) {
        if item.keys.iter().any(|there| there.name == key) {
            self.leave(node, item, FIRST);
        } else if let Some(program) = self.program(node, item) {
            item.put(node, key, program);
        }
    }

    /// `vrrp_notify_fifo PATH`, `notify_fifo PATH`
    pub(super) fn fifo(&mut self, node: &Node, head: &mut Item) {
        let Some(path) = node.value(0).filter(|path| path.starts_with('/')) else {
            self.leave(node, head, "a FIFO needs an absolute path");
            return;
        };
        if self.tables.control.is_some() {
            self.leave(node, head, "weir writes one FIFO, and the one that stands before it was taken");
            return;
        }
        let mut item = Item::new("[control]", node.told(), Some(node.place));
        match node.word == "vrrp_notify_fifo" {
            true => self.carry_of(node, &mut item, 1),
            false => self.remark(node, &mut item, "it gets VRRP's lines; virtual servers have hooks"),
        }
        item.set("vrrp_notify_fifo", path);
        self.tables.control = Some(item);
    }

    /// Scripts, processes and files that nobody tracks.
    pub(super) fn unwatched(&mut self, tree: &[Node], head: &mut Item) {
        for node in tree.iter().filter(|node| node.end.get() != End::LeftOut) {
            let name = node.value(0).unwrap_or_default();
            let key = |kind| (kind, name.to_owned());
            let is_idle = match node.word.as_str() {
                "vrrp_script" => !self.watched.used.contains(&key("vrrp_script")),
                "vrrp_track_process" => !self.watched.used.contains(&key("vrrp_track_process")),
                "vrrp_track_file" | "track_file" => !self.files.get(name).is_some_and(|file| file.is_used),
                _ => continue,
            };
            if is_idle {
                self.leave(node, head, "no instance tracks it, so keepalived does nothing with it");
            }
        }
    }
}
