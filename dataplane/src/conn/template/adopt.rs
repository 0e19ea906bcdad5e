//! Templates that another process has left, at whatever moment it ended.
//!
//! What counts are the slots alone. A live one has the key that it should, since keys are written while their slot is pending; one
//! that is pending was there for everybody if its header names it, and for nobody if not. Once that is settled, headers are made
//! anew from where templates lie, and connections are counted anew by [`Templates::tie`]. So a process that ends in the middle of this
//! leaves what this can begin with again.

use std::net::IpAddr;
use std::sync::atomic::Ordering::{Relaxed, Release};

use dpdk::memory::{Line, Slab};
use ipnet::IpNet;

use super::{
    Header, Key, Ledger, Owner, SLOTS, Slot, Template, TemplateKey, TemplateKey6, Templates, WINDOW, pause,
};
use crate::address::Addr4;
use crate::conn::record::ServerId;
use crate::conn::table::HashKey;

/// Templates outside of any table, on their way into another one.
pub struct Loose {
    v4: Vec<Template<TemplateKey>>,
    v6: Vec<Template<TemplateKey6>>,
}

impl Templates {
    /// Whether tables can have so many lines: of IPv4 and of IPv6.
    pub fn takes([lines, ipv6_lines]: [usize; 2]) -> bool {
        Ledger::<TemplateKey, 2>::takes(lines) && Ledger::<TemplateKey6, 4>::takes(ipv6_lines)
    }

    /// Those in these lines that `is_known`: first address of the clients, whose it is, real server. No connection hangs on any.
    pub fn adopt(
        (lines, ipv6_lines): (Slab<Line>, Slab<Line>),
        key: HashKey,
        is_known: impl Fn(IpAddr, Owner, ServerId) -> bool,
    ) -> Self {
        Self {
            v4: Ledger::adopt(lines, key, |it: Template<TemplateKey>| {
                is_known(it.key.address(), it.owner(), it.server())
            }),
            v6: Ledger::adopt(ipv6_lines, key, |it: Template<TemplateKey6>| {
                is_known(it.key.address(), it.owner(), it.server())
            }),
        }
    }

    /// How many there are. Reads the whole tables, so it is for control.
    pub fn total(&self) -> usize {
        self.v4.iter().count() + self.v6.iter().count()
    }

    /// Counts in a connection that hung on the template of its client, of a network of `netmask` bits. False: there is no such one, or
    /// it ties to another real server.
    pub fn tie(
        &self,
        client: IpAddr,
        netmask: u8,
        Owner { service, epoch }: Owner,
        server: ServerId,
    ) -> bool {
        match client {
            IpAddr::V4(client) if netmask <= 32 => {
                self.v4.tie(TemplateKey::new(Addr4::from(client), netmask, service, epoch), server)
            }
            IpAddr::V6(client) if netmask <= 128 => {
                self.v6.tie(TemplateKey6::new(client, netmask, service, epoch), server)
            }
            _ => false,
        }
    }

    /// All of them, with no connections.
    pub fn loose(&self) -> Loose {
        Loose {
            v4: self.v4.iter().map(Template::alone).collect(),
            v6: self.v6.iter().map(Template::alone).collect(),
        }
    }

    /// Puts in those of another table, as far as there is room.
    pub fn take_in(&self, loose: Loose) {
        loose.v4.into_iter().for_each(|template| self.v4.take_in(template));
        loose.v6.into_iter().for_each(|template| self.v6.take_in(template));
    }
}

impl<K> Template<K> {
    fn alone(self) -> Self {
        Self { key: self.key, word: self.word.alone() }
    }
}

/// Whether `address` is the first one of a network of `netmask` bits.
pub fn begins_network(address: IpAddr, netmask: u8) -> bool {
    IpNet::new(address, netmask).is_ok_and(|network| network.network() == address)
}

impl<K: Key, const LINES: usize> Ledger<K, LINES> {
    fn takes(lines: usize) -> bool {
        lines.is_multiple_of(LINES) && lines / LINES >= WINDOW
    }

    fn adopt(lines: Slab<Line>, key: HashKey, is_known: impl Fn(Template<K>) -> bool) -> Self {
        let ledger = Self::new(lines, key);
        (0..ledger.buckets).for_each(|bucket| _ = ledger.completed(bucket));
        for slot in ledger.slots() {
            let stays = ledger.read(slot).is_some_and(|template| {
                template.key.is_sound() && ledger.distance(template.key, slot) < WINDOW && is_known(template)
            });
            let word = ledger.word_at(slot);
            let word = if stays { word.alone() } else { word.freed() };
            pause();
            ledger.value(slot).store(word.0, Relaxed);
        }
        for bucket in 0..ledger.buckets {
            pause();
            ledger.header(bucket).store(0, Relaxed);
        }
        for slot in ledger.slots() {
            if let Some(template) = ledger.read(slot) {
                ledger.reach_out(ledger.home(template.key), ledger.distance(template.key, slot));
            }
        }
        // Nobody has two, whoever has written them.
        for slot in ledger.slots() {
            if let Some(template) = ledger.read(slot)
                && ledger.locate(template.key).is_none_or(|(found, _)| found != slot)
            {
                pause();
                ledger.value(slot).store(template.word.freed().0, Relaxed);
            }
        }
        ledger
    }

    fn tie(&self, key: K, server: ServerId) -> bool {
        self.locate(key).is_some_and(|(slot, _)| self.update(slot, key, server, |word| word.attached()))
    }

    /// For a table that nobody else uses yet, and a key that it does not have.
    fn take_in(&self, Template { key, word }: Template<K>) {
        let home = self.home(key);
        let is_free = |place: &usize| self.word_at(self.slot(home, *place)).is_free();
        let Some(place) = (0..WINDOW * SLOTS).find(is_free) else { return };
        let slot = self.slot(home, place);
        key.write(|word, value| self.key_word(slot, word).store(value, Relaxed));
        self.value(slot).store(word.0, Release);
        self.reach_out(home, place / SLOTS);
    }

    fn slots(&self) -> impl Iterator<Item = Slot> + use<K, LINES> {
        (0..self.buckets).flat_map(|bucket| (0..SLOTS).map(move |index| Slot { bucket, index }))
    }

    /// How far behind its home a key lies in a slot.
    fn distance(&self, key: K, slot: Slot) -> usize {
        (slot.bucket + self.buckets - self.home(key)) % self.buckets
    }

    /// What is at home in `home` reaches so far behind it, at least.
    fn reach_out(&self, home: usize, distance: usize) {
        let reach = Header(self.header(home).load(Relaxed)).reach().max(distance);
        self.header(home).store(Header::reaching(reach).0, Relaxed);
    }
}

#[cfg(test)]
mod tests;
