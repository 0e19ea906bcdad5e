//! Who is served: addresses, groups of them, marks.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::blocks::Node;
use super::map::{Group, Map, network};
use super::servers::TABLES_MAX;
use super::source::{Fate, Place};
use super::write::Item;

/// Addresses of a range of a group.
const RANGE_MAX: u32 = 1024;

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

impl Map {
    /// The addresses or marks of a virtual server, one more than there is room for at most.
    /// With the lines that name them.
    pub(super) fn who(&mut self, block: &Node, family: Option<bool>, item: &mut Item) -> Vec<(Who, Place)> {
        match block.value(0) {
            Some("fwmark") => {
                let mark = block.value(1).and_then(|text| text.parse().ok()).filter(|mark| *mark > 0);
                mark.map(|mark| (Who::Mark(mark, family), block.place)).into_iter().collect()
            }
            Some("group") => {
                let name = block.value(1).unwrap_or_default();
                let most = TABLES_MAX.saturating_sub(self.made) + 1;
                self.used_groups.insert(name.to_owned());
                let all: Vec<(Who, Place)> = match self.groups.remove(name) {
                    Some(Group::Lines(lines)) => {
                        let entries = lines
                            .iter()
                            .flat_map(|line| self.entry(line, item).into_iter().map(|who| (who, line.place)));
                        entries.take(most).collect()
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
                if block.values.len() > 2 {
                    self.remark(block, item, "words behind the port mean nothing, in keepalived either");
                }
                text.parse()
                    .ok()
                    .zip(port)
                    .map(|(address, port)| (Who::Address(address, port), block.place))
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
            let family =
                node.value(1).filter(|text| ["inet", "inet6"].contains(text)).map(|text| text == "inet6");
            match mark {
                Some(_) => self.carry_of(node, item, if family.is_some() { 2 } else { 1 }),
                None => self.leave(node, item, "a mark is a number above 0"),
            }
            return mark.map(|mark| Who::Mark(mark, family)).into_iter().collect();
        }
        let port = node.value(0).map_or(Some(0), |text| text.parse::<u16>().ok());
        let Some((addresses, port)) = range(&node.word).zip(port) else {
            self.leave(node, item, format!("this is no address, and no range of at most {RANGE_MAX}"));
            return Vec::new();
        };
        self.carry_of(node, item, 1);
        addresses.into_iter().map(|address| Who::Address(address, port)).collect()
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
                "FILL IN: netfilter's rules that give the mark {mark} are not in the source (`iptables-save -t mangle`, `nft list ruleset`): write its addresses, and `ports` and `protocols`; {address} is made up"
            );
            item.set_remarked("addresses", super::write::texts([address.to_string()]), text.clone());
            self.note(place, Fate::Remark, format!("`fwmark {mark}`: {text}"));
            items.push(item);
        }
        items
    }
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
