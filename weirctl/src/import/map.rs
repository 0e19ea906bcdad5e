//! From keepalived's blocks to weir's tables. What all rooms share: notes, numbers, and what is known from other blocks.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::blocks::Node;
use super::ends::End;
use super::ports::Ports;
use super::programs::Watched;
use super::source::{Fate, Note, Place, Plain};
use super::who::Who;
use super::words::{self, Absent};
use super::write::Item;

/// Unknown words that are compared with all known ones: a file may be full of them.
const MEANT_MAX: usize = 1000;

/// Programs that do little without root.
const OF_ROOT: [&str; 11] = [
    "ip",
    "ifconfig",
    "iptables",
    "ip6tables",
    "nft",
    "ipvsadm",
    "systemctl",
    "service",
    "sysctl",
    "route",
    "sudo",
];

/// What is made, and how each line ended.
#[derive(Default)]
pub(super) struct Map {
    pub(super) notes: Vec<Note>,
    pub(super) ports: Ports,
    pub(super) global: Global,
    /// Groups of addresses by name.
    pub(super) groups: HashMap<String, Group>,
    /// Those of them that virtual servers name.
    pub(super) used_groups: HashSet<String>,
    /// Names of all instances.
    pub(super) instances: HashSet<String>,
    /// Those that were read.
    pub(super) made_instances: HashSet<String>,
    /// Sync groups by member.
    pub(super) sync: HashMap<String, SyncGroup>,
    /// Names of those that were read.
    pub(super) made_groups: HashSet<String>,
    /// Tracked files by name.
    pub(super) files: HashMap<String, TrackedFile>,
    /// What sync groups track, which each of their members does here.
    pub(super) sync_tracks: HashMap<String, Vec<Item>>,
    pub(super) watched: Watched,
    /// Marks with the family of their virtual servers.
    pub(super) marks: BTreeMap<(u32, bool), Place>,
    /// Names that are taken.
    names: HashSet<String>,
    /// The last number of those that are wanted again.
    numbers: HashMap<String, usize>,
    /// What unknown words were meant for.
    meant: HashMap<String, Option<&'static str>>,
    /// Tables of virtual and real servers, with those below them.
    pub(super) made: usize,
    /// Virtual servers by who they serve, as the source has them.
    pub(super) served: HashMap<String, String>,
    pub(super) tables: Tables,
}

/// The sync group of an instance.
#[derive(Clone)]
pub(super) struct SyncGroup {
    pub(super) name: String,
    /// Weights of what its members track count; keepalived has them ignored where the group does not ask for them.
    pub(super) has_weights: bool,
}

/// `virtual_server_group`
pub(super) enum Group {
    /// No virtual server has named it yet.
    Lines(Vec<Node>),
    /// What its lines say, which is looked at once.
    Read(Vec<(Who, Place)>),
}

/// Tables, in the order in which they are written.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) control: Option<Item>,
    pub(super) timeouts: Option<Item>,
    pub(super) health: Option<Item>,
    pub(super) routes: Vec<Item>,
    pub(super) servers: Vec<Item>,
    pub(super) vrrp: Vec<Item>,
    pub(super) sync: Vec<Item>,
}

/// What `global_defs` says for all instances.
#[derive(Default)]
pub(super) struct Global {
    pub(super) version: Option<i64>,
    pub(super) startup_delay: Option<f64>,
    pub(super) garp: Vec<(&'static str, toml_edit::Value)>,
    /// Between announcements.
    pub(super) pauses: Vec<(&'static str, f64)>,
    pub(super) v3_checksum_as_v2: bool,
    /// `vrrp_strict`
    pub(super) is_strict: bool,
}

#[derive(Clone, Default)]
pub(super) struct TrackedFile {
    pub(super) path: String,
    pub(super) weight: Option<i64>,
    /// The source says it.
    pub(super) has_weight: bool,
    pub(super) is_reverse: bool,
    pub(super) place: Option<Place>,
    /// An instance tracks it.
    pub(super) is_used: bool,
}

impl Map {
    pub(super) fn note(&mut self, place: Place, fate: Fate, text: impl Into<String>) {
        self.notes.push(Note { place, fate, text: text.into() });
    }

    /// The line is in the file, or nothing is lost without it.
    pub(super) fn carry(&mut self, node: &Node) {
        node.ends(End::Carried);
    }

    /// The same for a line of so many values; those behind them mean nothing.
    pub(super) fn carry_of(&mut self, node: &Node, item: &mut Item, many: usize) {
        match node.value(many) {
            None => self.carry(node),
            Some(first) => {
                let text = format!(
                    "`{}` and what stands behind it mean nothing, in keepalived either",
                    Plain(first)
                );
                self.remark(node, item, text);
            }
        }
    }

    /// The line is in the file, and something is to be known: there too.
    pub(super) fn remark(&mut self, node: &Node, item: &mut Item, text: impl Into<String>) {
        let text = text.into();
        item.remark(format!("{}: {text}", Plain(&node.word)));
        node.ends(End::Remark);
        self.note(node.place, Fate::Remark, format!("`{}`: {text}", Plain(&node.word)));
    }

    /// The line is not in the file: which is said there.
    pub(super) fn leave(&mut self, node: &Node, item: &mut Item, text: impl Into<String>) {
        let text = text.into();
        item.remark(format!("left out: {}: {text}", Plain(&node.word)));
        node.ends(End::LeftOut);
        self.note(node.place, Fate::LeftOut, format!("`{}`: {text}", Plain(&node.word)));
    }

    /// The name of a block that has one, and nothing else; keepalived skips others.
    pub(super) fn only_name(&mut self, block: &Node, item: &mut Item) -> Option<String> {
        if let [name] = &block.values[..] {
            return Some(name.text.clone());
        }
        self.leave(block, item, "it takes one name, and keepalived skips a block with none or with several");
        None
    }

    /// A word that has no key of weir's, with its block.
    pub(super) fn other(&mut self, node: &Node, item: &mut Item) {
        match words::absent(&node.word) {
            Some(Absent::Nothing) => node.ends_whole(End::Carried),
            Some(Absent::Instead(instead)) => self.leave(node, item, instead),
            None => {
                let lines = if node.block.is_some() { ", with its block" } else { "" };
                let text = match self.meant(&node.word) {
                    Some(meant) if meant == node.word => {
                        format!("this word means nothing in this place{lines}")
                    }
                    Some(meant) => format!(
                        "keepalived does not know this word and ignores it{lines}; was `{meant}` meant?"
                    ),
                    None => format!("keepalived does not know this word and ignores it{lines}"),
                };
                self.leave(node, item, text);
            }
        }
    }

    /// The word that somebody meant.
    fn meant(&mut self, word: &str) -> Option<&'static str> {
        if let Some(meant) = self.meant.get(word) {
            return *meant;
        }
        if self.meant.len() >= MEANT_MAX {
            return None;
        }
        let meant = words::meant(word);
        self.meant.insert(word.to_owned(), meant);
        meant
    }

    /// The first value, read as this; else a remark, and what keepalived has by default.
    pub(super) fn number<T: FromStr>(
        &mut self,
        node: &Node,
        item: &mut Item,
        is_good: impl Fn(&T) -> bool,
    ) -> Option<T> {
        let number = node.value(0).and_then(|text| text.parse().ok()).filter(is_good);
        match number {
            Some(_) => self.carry_of(node, item, 1),
            None => {
                let text = format!(
                    "`{}` is no number that is possible here",
                    Plain(node.value(0).unwrap_or_default())
                );
                self.leave(node, item, text);
            }
        }
        number
    }

    /// The same within bounds of weir's, where keepalived has others.
    pub(super) fn within<T: FromStr + PartialOrd + Copy + Display>(
        &mut self,
        node: &Node,
        item: &mut Item,
        bounds: RangeInclusive<T>,
        is_good: impl Fn(&T) -> bool,
    ) -> Option<T> {
        let number = self.number(node, item, is_good)?;
        Some(self.bounded(node, item, number, bounds))
    }

    /// The nearest number that weir takes.
    pub(super) fn bounded<T: PartialOrd + Copy + Display>(
        &mut self,
        node: &Node,
        item: &mut Item,
        number: T,
        bounds: RangeInclusive<T>,
    ) -> T {
        let (least, most) = (*bounds.start(), *bounds.end());
        if bounds.contains(&number) {
            return number;
        }
        let made = if number < least { least } else { most };
        self.remark(node, item, format!("weir has {least} to {most}, and {made} was written for {number}"));
        made
    }

    /// A switch: on without a value.
    pub(super) fn switch(&mut self, node: &Node, item: &mut Item) -> bool {
        match node.value(0) {
            Some(word @ ("on" | "true" | "yes" | "off" | "false" | "no")) => {
                self.carry_of(node, item, 1);
                matches!(word, "on" | "true" | "yes")
            }
            Some(other) => {
                let text =
                    format!("`{}` is neither on nor off, and keepalived ignores the line", Plain(other));
                self.leave(node, item, text);
                false
            }
            None => {
                self.carry(node);
                true
            }
        }
    }

    /// A name that nothing has yet.
    pub(super) fn name(&mut self, kind: &str, wanted: &str) -> String {
        let letters = wanted.chars().map(|letter| match letter {
            letter if letter.is_ascii_alphanumeric() || "-_.:@".contains(letter) => letter,
            _ => '_',
        });
        let mut name: String = letters.take(56).collect();
        if name.is_empty() {
            name = kind.to_owned();
        }
        let first = name.clone();
        while !self.names.insert(format!("{kind} {name}")) {
            let number = self.numbers.entry(format!("{kind} {first}")).or_insert(1);
            *number += 1;
            name = format!("{first}-{number}");
        }
        name
    }
}

/// `ADDRESS[/LENGTH]` of an interface, as keepalived reads it: a length that is none does not make the address wrong, but the longest
/// takes its place, and the text says so.
pub(super) fn interface_address(text: &str) -> Option<(IpAddr, Option<u8>, Option<String>)> {
    if let Some((address, length)) = network(text) {
        return Some((address, length, None));
    }
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let remark = match length {
        "" => None,
        length => Some(format!(
            "{} is no prefix length of such an address: keepalived goes on with {most}",
            Plain(length)
        )),
    };
    Some((address, Some(most), remark))
}

/// `ADDRESS[/LENGTH]`
pub(super) fn network(text: &str) -> Option<(IpAddr, Option<u8>)> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length.parse().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    length.is_none_or(|length| length <= most).then_some((address, length))
}

/// The first value, and how many words it is: one that begins with `'` goes on to the word that ends with one.
pub(super) fn quoted(node: &Node) -> (Cow<'_, str>, usize) {
    let first = node.value(0).unwrap_or_default();
    let end = node.values.iter().position(|value| value.text.ends_with('\''));
    match end {
        Some(end) if first.starts_with('\'') && (end > 0 || first.len() > 1) => {
            let words: Vec<&str> = node.values[..=end].iter().map(|value| value.text.as_str()).collect();
            let whole = words.join(" ");
            (whole[1..whole.len() - 1].to_owned().into(), end + 1)
        }
        _ => (first.into(), 1),
    }
}

/// A script as the words that a shell would make of it.
pub(super) fn command(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(letters.next()),
            (letter, Some(open)) if letter == open => quote = None,
            (letter, Some(_)) => word.get_or_insert_default().push(letter),
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (letter, None) if letter.is_whitespace() => words.extend(word.take()),
            (letter, None) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    (quote.is_none() && !words.is_empty()).then_some(words)
}

impl Map {
    /// A program of keepalived's, which is its first value, as weir's array.
    pub(super) fn program(&mut self, node: &Node, item: &mut Item) -> Option<toml_edit::Value> {
        let (text, used) = quoted(node);
        if text.trim().is_empty() {
            self.leave(node, item, "no program");
            return None;
        }
        let text = text.as_ref();
        let is_shell = text.contains(['|', ';', '&', '<', '>', '`', '$', '*', '?']);
        let words = match command(text) {
            Some(_) if is_shell => vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()],
            Some(words) if words[0].starts_with('/') => words,
            Some(words) => std::iter::once("/usr/bin/env".to_owned()).chain(words).collect(),
            None => {
                self.leave(node, item, "a quotation mark within it is not closed");
                return None;
            }
        };
        match words[0].as_str() {
            "/bin/sh" if is_shell => self.remark(node, item, "it needs a shell, and gets /bin/sh"),
            "/usr/bin/env" => self.remark(node, item, "it has no absolute path; /usr/bin/env looks for it"),
            _ => self.carry(node),
        }
        let first = text.split_whitespace().next().and_then(|word| word.rsplit('/').next());
        if first.is_some_and(|name| OF_ROOT.contains(&name)) {
            let text =
                "what it does takes root, and weir's programs have no rights of root: see docs/health.md";
            self.remark(node, item, text);
        }
        if node.values.len() > used {
            let text = "words behind the first were left out, as keepalived leaves them (or takes them for a user): quote a program with its arguments";
            self.remark(node, item, text);
        }
        Some(super::write::texts(words))
    }
}
