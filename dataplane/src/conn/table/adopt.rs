//! A table whose lines another process has left, at whatever moment it ended.
//!
//! A slot's value passes through 0 before another key comes in, and is written last (`lines.rs`): so a pair is a connection's
//! at every moment. What a process may leave behind when it ends while records move is one record twice, or a line with a gap. Then,
//! and when somebody else has written into the lines, all records are taken out and put in again.

use std::net::Ipv6Addr;
use std::sync::atomic::Ordering::Relaxed;

use dpdk::memory::{Line, Slab};

use super::lines::{SLOTS, Slot};
use super::{HashKey, NoRoom, OVERLAP, Table, Verdict};
use crate::conn::clients::Clients;
use crate::conn::record::Record;

/// What became of the records that were left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Left {
    /// Records that there were.
    pub found: usize,
    /// Those that are still there.
    pub kept: usize,
    /// Lines were not in order, and all records were put in anew.
    pub rebuilt: bool,
}

impl Table {
    /// The table in `lines`, with its clients in `client_lines`, less what `judge` ends.
    pub fn adopt(
        (lines, client_lines): (Slab<Line>, Slab<Line>),
        capacity: usize,
        key: HashKey,
        mut judge: impl FnMut(Record) -> Verdict,
    ) -> (Self, Left) {
        let clients = Clients::adopt(client_lines, key);
        let mut table = Self { clients, ..Self::new(lines, capacity, key) };
        let found = table.iter().count();
        table.len.set(found);
        let rebuilt = !(0..table.lines()).all(|line| table.is_whole(line));
        if rebuilt {
            table.rebuild();
        }
        // Without clients of IPv6 no record names one.
        if table.clients.known() != 0 {
            let shared = table.shared.clone();
            for record in shared.records() {
                table.clients.hold(record.client());
            }
            table.clients.forget_unheld();
        }
        // Records may move past the end, to where this began.
        let mut lines = table.lines() + OVERLAP;
        while lines > 0 {
            lines -= table.sweep(lines, None, &mut judge).min(lines);
        }
        table.sweep_line = 0;
        table.has_slipped = false;
        let left = Left { found, kept: table.len(), rebuilt };
        (table, left)
    }

    /// Puts in a record of another table. IPv6 has its client's address in `client`.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn take_in(&mut self, record: Record, client: Option<Ipv6Addr>) -> Result<(), NoRoom> {
        let record = match client {
            Some(client) => record.with_client(self.clients.take(client)),
            None => record,
        };
        let (hash, key) = (self.hash(record.hash_input()), record.lookup_key());
        let done = match self.find(hash, key) {
            Some(_) => Ok(()),
            None => self.insert(hash, record).map(drop),
        };
        self.clients.settle();
        done
    }

    /// Whether a line is in order: its slots are taken in order, and each record is found where it lies.
    fn is_whole(&self, line: usize) -> bool {
        let taken = (0..SLOTS).take_while(|&slot| self.shared.value(line, slot) != 0).count();
        (taken..SLOTS).all(|slot| self.shared.value(line, slot) == 0)
            && (0..taken).all(|slot| {
                let record = self.shared.read(line, slot);
                let found = self.find(self.hash(record.hash_input()), record.lookup_key());
                self.has_client(record) && found.is_some_and(|(its, _)| its == Slot { line, slot })
            })
    }

    /// Whether it may be a record, of a client that is known.
    fn has_client(&self, record: Record) -> bool {
        let client = record.client();
        record.is_sound() && (!client.is_of_ipv6() || self.clients.address(client).is_some())
    }

    /// Takes out all records and puts in those that may be some.
    fn rebuild(&mut self) {
        // From behind a line that nobody went past, so that each finds room where it was, or before that.
        let start = (0..self.lines()).find(|line| self.shared.value(*line, SLOTS - 1) == 0).unwrap_or(0);
        let places = (1..=self.lines()).flat_map(|distance| {
            let line = (start + distance) % self.lines();
            (0..SLOTS).map(move |slot| (line, slot))
        });
        let records = places.map(|(line, slot)| self.shared.read(line, slot));
        let records: Vec<Record> = records.filter(|it| it.value != 0 && self.has_client(*it)).collect();
        for line in self.shared.lines.iter() {
            // Values first, as ever.
            line.0.iter().rev().for_each(|word| word.store(0, Relaxed));
        }
        self.len.set(0);
        for record in records {
            let (hash, key) = (self.hash(record.hash_input()), record.lookup_key());
            if self.len() < self.capacity && self.find(hash, key).is_none() {
                self.len.set(self.len() + usize::from(self.shared.insert(hash, record).is_some()));
            }
        }
    }
}

#[cfg(test)]
mod interrupted;
#[cfg(test)]
mod tests;
