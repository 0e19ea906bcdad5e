//! What instances and sync groups track: the line of each, interfaces and files. Scripts and processes stand in `programs`.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use super::blocks::Node;
use super::global::is_of_host;
use super::map::Map;
use super::source::Plain;
use super::write::Item;

/// What a weight of something tracked may be.
pub(super) const WEIGHTS: RangeInclusive<i64> = -253..=253;

/// Why a tracker of a member of a sync group is left out.
pub(super) const UNWEIGHTED: &str = "keepalived ignores what has a weight in a member of a sync group, unless the group says `sync_group_tracking_weight`";

/// What an instance or a sync group tracks.
#[derive(Default)]
pub(super) struct Tracking {
    /// By kind and name.
    seen: HashSet<(&'static str, String)>,
    /// Weights count for nothing.
    pub(super) is_unweighted: bool,
}

impl Map {
    /// `NAME [weight N [reverse|noreverse]]`, a line each: the weight, and whether it is reversed. `None`: keepalived ignores the line.
    pub(super) fn tracked(
        &mut self,
        node: &Node,
        kind: &'static str,
        by: &mut Tracking,
        item: &mut Item,
    ) -> Option<(Option<i64>, bool)> {
        if by.seen.contains(&(kind, node.word.clone())) {
            self.leave(node, item, "it is tracked already, and keepalived ignores this line");
            return None;
        }
        let words: Vec<&str> = node.values.iter().map(|value| value.text.as_str()).collect();
        let (weight, is_reverse) = match words[..] {
            [] => (None, false),
            ["weight"] => {
                self.leave(node, item, "no weight stands behind `weight`, and keepalived ignores the line");
                return None;
            }
            ["weight", weight, ref behind @ ..] => {
                let weight = weight.parse::<i64>().ok().filter(|weight| (-254..=254).contains(weight));
                if weight.is_none() {
                    self.remark(
                        node,
                        item,
                        "its weight is no number from -253 to 253, and keepalived ignores that",
                    );
                }
                let known = usize::from(matches!(behind.first(), Some(&("reverse" | "noreverse"))));
                if let Some(word) = behind.get(known) {
                    self.remark(node, item, format!("`{}` means nothing here", Plain(word)));
                }
                (
                    weight.map(|weight| self.bounded(node, item, weight, WEIGHTS)),
                    behind.first() == Some(&"reverse"),
                )
            }
            [first, ..] => {
                let text = format!("keepalived does not know `{}` here and ignores the line", Plain(first));
                self.leave(node, item, text);
                return None;
            }
        };
        by.seen.insert((kind, node.word.clone()));
        Some((weight, is_reverse))
    }

    pub(super) fn track_interface(
        &mut self,
        block: &Node,
        interface: Option<&str>,
        by: &mut Tracking,
        item: &mut Item,
    ) {
        self.carry_of(block, item, 0);
        for node in block.below() {
            let name = node.word.as_str();
            let Some((weight, is_reverse)) = self.tracked(node, "interface", by, item) else { continue };
            let mut weight = weight.filter(|weight| *weight != 0);
            if interface == Some(name) {
                match weight {
                    Some(_) => self.leave(
                        node,
                        item,
                        "the link of the own interface counts anyhow, and keepalived ignores the line",
                    ),
                    None => self.carry(node),
                }
                continue;
            }
            if is_reverse {
                self.leave(node, item, "a link that counts when it is down can't be said");
                continue;
            }
            if is_of_host(name) {
                self.leave(node, item, "this interface is none of weir's");
                continue;
            }
            if by.is_unweighted && weight.take().is_some() {
                let text = "in a sync group keepalived ignores its weight: the link down is a fault, unless the group says `sync_group_tracking_weight`";
                self.remark(node, item, text);
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

    pub(super) fn track_files(&mut self, block: &Node, by: &mut Tracking, item: &mut Item) {
        self.carry_of(block, item, 0);
        for node in block.below() {
            let Some((weight, is_reverse)) = self.tracked(node, "file", by, item) else { continue };
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
            let is_said = weight.is_some() || file.has_weight;
            let mut weight = weight.or(file.weight).filter(|weight| *weight != 0);
            if by.is_unweighted && is_said && weight.is_some() {
                self.leave(node, item, UNWEIGHTED);
                continue;
            }
            self.carry(node);
            if by.is_unweighted && weight.take().is_some() {
                let text = "in a sync group keepalived ignores its weight: a number that is not 0 is a fault, unless the group says `sync_group_tracking_weight`";
                self.remark(node, item, text);
            }
            let mut track = Item::new("[[vrrp.track]]", node.told(), Some(node.place));
            track.also.extend(file.place);
            track.set("file", file.path);
            if let Some(weight) = weight {
                track.set("weight", weight);
            }
            item.below.push(track);
        }
    }
}
