//! `auth_hmac` of an instance.

use std::path::Path;

use super::blocks::Node;
use super::map::Map;
use super::source::Plain;
use super::write::{Item, texts};
use crate::patiently;

/// Bytes of a key, and of a file that holds one.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 32..=64;
const FILE_BYTES_MAX: u64 = 4096;
const WINDOW: std::ops::RangeInclusive<f64> = 1.0..=300.0;

impl Map {
    /// Whether there is one that counts: the last.
    pub(super) fn auth_hmac(&mut self, blocks: &[&Node], item: &mut Item) -> bool {
        let Some((block, before)) = blocks.split_last() else { return false };
        for block in before {
            self.leave(block, item, "the instance has another one behind it, and that one is taken");
        }
        self.carry_of(block, item, 0);
        let mut table = Item::new("[vrrp.auth_hmac]", "auth_hmac".to_owned(), Some(block.place));
        let (mut keys, mut active, mut by_time, mut window) = (Vec::<(i64, String)>::new(), None, true, None);
        for node in block.below() {
            match node.word.as_str() {
                "key" => {
                    if let Some((id, value)) = self.key(node, &mut table) {
                        match keys.iter().any(|(other, _)| *other == id) {
                            true => self.leave(
                                node,
                                &mut table,
                                "a key of this id stands before it, and that one is taken",
                            ),
                            false => keys.push((id, value)),
                        }
                    }
                }
                "active_key" => {
                    active = self.number::<i64>(node, &mut table, |id| (1..=255).contains(id)).or(active);
                }
                "mode" => match node.value(0) {
                    Some(mode @ ("enforce" | "permissive" | "receive-only")) => {
                        self.carry_of(node, &mut table, 1);
                        table.set("mode", mode);
                    }
                    _ => self.leave(node, &mut table, "the modes are enforce, permissive and receive-only"),
                },
                "anti_replay" => match node.value(0) {
                    Some(word @ ("time" | "monotonic")) => {
                        self.carry_of(node, &mut table, 1);
                        by_time = word == "time";
                        table.set("anti_replay", word);
                    }
                    _ => self.leave(node, &mut table, "it is time or monotonic"),
                },
                "time_window" => {
                    let secs = self.within(node, &mut table, WINDOW, |it| it.is_finite() && *it > 0.0);
                    window = secs.map(|secs| (node, secs)).or(window);
                }
                _ => self.other(node, &mut table),
            }
        }
        match window {
            Some((_, secs)) if by_time => table.set("time_window", secs),
            Some((node, _)) => {
                self.leave(node, &mut table, "clocks are not compared with anti_replay monotonic")
            }
            None => {}
        }
        let is_there = |active: &i64| keys.iter().any(|(id, _)| id == active);
        let Some(active) = active.filter(is_there) else {
            self.leave(block, item, "it needs keys of 32 to 64 bytes and the active_key among them");
            return false;
        };
        table.set("keys", texts(keys.iter().map(|(id, value)| format!("{id} {value}"))));
        table.set("active_key", active);
        item.below.push(table);
        true
    }

    /// `key ID hex:DIGITS`, `key ID PASSPHRASE`, `key ID file:PATH`: the id and the value. What is said of it does not show it.
    fn key(&mut self, node: &Node, item: &mut Item) -> Option<(i64, String)> {
        let id = node.value(0).and_then(|text| text.parse::<i64>().ok()).filter(|id| (1..=255).contains(id));
        let (Some(id), Some(value)) = (id, node.value(1)) else {
            self.leave(node, item, "a key has an id from 1 to 255 and a value");
            return None;
        };
        let mut value = value.to_owned();
        self.carry_of(node, item, 2);
        if let Some(path) = value.strip_prefix("file:").map(str::to_owned) {
            let read =
                patiently(Path::new(&path), || weir_config::read_file(Path::new(&path), FILE_BYTES_MAX));
            let read = read.ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let Some(text) = read else {
                let text = format!("{} can't be read here: write its key into `keys`", Plain(&path));
                self.leave(node, item, text);
                return None;
            };
            value = text.trim_end_matches(['\r', '\n']).to_owned();
            self.remark(node, item, "its value was read from the file, and stands in weir's file now");
        }
        let bytes = match value.strip_prefix("hex:") {
            Some(digits)
                if digits.bytes().all(|it| it.is_ascii_hexdigit()) && digits.len().is_multiple_of(2) =>
            {
                digits.len() / 2
            }
            Some(_) => 0,
            None => value.len(),
        };
        if !KEY_BYTES.contains(&bytes) {
            self.leave(
                node,
                item,
                "a key is 32 to 64 bytes: text, or pairs of hexadecimal digits behind `hex:`",
            );
            return None;
        }
        // weir has no quotes there: blanks around a passphrase would be lost.
        if value.trim() != value {
            value = value.bytes().fold("hex:".to_owned(), |digits, byte| format!("{digits}{byte:02x}"));
        }
        Some((id, value))
    }
}
