//! Whose the tables are, and how large.

use std::sync::atomic::Ordering::{Relaxed, Release};

use dpdk::memory::Line;

use super::{load_sealed, store_sealed};
use crate::conn::clients::Clients;
use crate::conn::clients::adopt::LAYOUT as CLIENTS_LAYOUT;
use crate::conn::table::{HashKey, Table};
use crate::conn::template::Templates;

/// Lines of the header: two of facts, one that says whether all is there, two for the clock, one for the distribution.
pub(super) const LINES: usize = 6;
const MAGIC: u64 = u64::from_le_bytes(*b"weirkept");
const TABLES_MAGIC: u64 = u64::from_le_bytes(*b"weirtabs");
/// Says what records, the book and this header look like. Goes up by one with every change of these; see ARCHITECTURE.md.
const LAYOUT: u64 = 2;
const READY: u64 = u64::from_le_bytes(*b"complete");
const STATE_LINE: usize = 2;
const CLOCK_LINE: usize = 3;
const DISTRIBUTION_LINE: usize = 5;
/// The counter may have gone ahead of the time since boot by so many milliseconds, beside a hundredth.
const AHEAD_MS_MAX: u64 = 60_000;

/// What was kept is not taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Something else.
    #[error("what was kept is not weir's")]
    NotWeirs,
    /// Another weir's.
    #[error("what was kept has layout {found}, and this weir reads {own}", own = (LAYOUT << 32) + CLIENTS_LAYOUT)]
    Layout {
        /// The number of it.
        found: u64,
    },
    /// The header has other content than was written.
    #[error("the header of what was kept is damaged")]
    Damaged,
    /// Times mean nothing then.
    #[error("what was kept is of another boot")]
    OtherBoot,
    /// It ended too early.
    #[error("the process before had not finished its tables")]
    Unfinished,
    /// Somebody has cut it.
    #[error("what was kept has {found} bytes, and its header says {wanted}")]
    Truncated {
        /// Bytes that there are.
        found: u64,
        /// Bytes that the header says.
        wanted: u64,
    },
    /// They belong to another book.
    #[error("the tables that were kept are not those of their header")]
    OtherTables,
    /// The counter is not the one that it was.
    #[error("the processor's counter has jumped since")]
    Clock,
}

/// The machine, as the header needs to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// The kernel's random number of this boot.
    pub boot: [u64; 2],
    /// The processor's counter now.
    pub cycles: u64,
    /// How often it counts in a second.
    pub hz: u64,
    /// Milliseconds since the boot.
    pub boot_millis: u64,
}

/// What the tables are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The boot that they are of.
    pub boot: [u64; 2],
    /// A random number that is in the tables, too.
    pub session: u64,
    /// How many there are.
    pub workers: u64,
    /// Connections that each can hold.
    pub capacity: u64,
    /// Lines of each.
    pub table_lines: u64,
    /// Lines of IPv6 clients of each.
    pub client_lines: u64,
    /// Lines of all workers' templates, of IPv4 and of IPv6.
    pub template_lines: [u64; 2],
    /// The secret of the hash.
    pub key: [u64; 2],
}

impl Header {
    /// Lines of the tables' memory: one in front, then each worker's, then the templates.
    pub fn lines(&self) -> u64 {
        let tables = self.table_lines.saturating_add(self.client_lines).saturating_mul(self.workers);
        self.template_lines.iter().fold(tables.saturating_add(1), |sum, lines| sum.saturating_add(*lines))
    }

    /// Connections that each table can hold.
    pub(super) fn table_capacity(&self) -> usize {
        usize::try_from(self.capacity).unwrap_or(usize::MAX)
    }

    /// The secret of the hash.
    pub fn hash_key(&self) -> HashKey {
        HashKey::new(self.key)
    }

    /// Writes it, and that all else is still to come.
    pub(super) fn write(&self, lines: &[Line]) {
        lines[STATE_LINE].0[0].store(0, Release);
        let [boot, key] = [self.boot, self.key];
        let first = [
            MAGIC,
            (LAYOUT << 32) + CLIENTS_LAYOUT,
            boot[0],
            boot[1],
            self.session,
            self.workers,
            self.capacity,
        ];
        store_sealed(&lines[0], first);
        let [templates, templates6] = self.template_lines;
        let second =
            [self.table_lines, self.client_lines, key[0], key[1], self.session, templates, templates6];
        store_sealed(&lines[1], second);
    }

    /// All else is there.
    pub(super) fn complete(lines: &[Line]) {
        lines[STATE_LINE].0[0].store(READY, Release);
    }

    /// What is written there, if this machine can read it.
    pub(super) fn read(lines: &[Line], machine: &Machine) -> Result<Self, Refusal> {
        let word = |line: usize, at: usize| lines[line].0[at].load(Relaxed);
        if word(0, 0) != MAGIC {
            return Err(Refusal::NotWeirs);
        }
        if word(0, 1) != (LAYOUT << 32) + CLIENTS_LAYOUT {
            return Err(Refusal::Layout { found: word(0, 1) });
        }
        let sealed = load_sealed(&lines[0]).zip(load_sealed(&lines[1]));
        let ([_, _, boot0, boot1, session, workers, capacity], rest) = sealed.ok_or(Refusal::Damaged)?;
        let [table_lines, client_lines, xor, multiply, again, template_lines @ ..] = rest;
        if again != session {
            return Err(Refusal::Damaged);
        }
        let (boot, key) = ([boot0, boot1], [xor, multiply]);
        // Whoever wrote it.
        let size = |lines: u64| usize::try_from(lines).ok();
        let is_table = size(table_lines).is_some_and(|lines| lines >= Table::lines_for(0));
        let has_clients = size(client_lines).is_some_and(Clients::takes);
        let [templates, templates6] = template_lines.map(size);
        let has_templates = templates.zip(templates6).is_some_and(|(v4, v6)| Templates::takes([v4, v6]));
        if !is_table || !has_clients || !has_templates {
            return Err(Refusal::Damaged);
        }
        if boot != machine.boot {
            return Err(Refusal::OtherBoot);
        }
        if word(STATE_LINE, 0) != READY {
            return Err(Refusal::Unfinished);
        }
        Ok(Self { boot, session, workers, capacity, table_lines, client_lines, template_lines, key })
    }

    /// Marks the tables as those of this header.
    pub(super) fn mark(&self, line: &Line) {
        store_sealed(line, [TABLES_MAGIC, self.session, self.lines(), 0, 0, 0, 0]);
    }

    /// Whether the tables, of so many octets, are those of this header.
    pub(super) fn check(&self, line: &Line, octets: u64) -> Result<(), Refusal> {
        let wanted = self.lines().saturating_mul(size_of::<Line>() as u64);
        // The size is that of whole pages.
        if octets < wanted || octets - wanted >= 2 << 20 {
            return Err(Refusal::Truncated { found: octets, wanted });
        }
        let words = load_sealed(line).ok_or(Refusal::OtherTables)?;
        if words[..3] != [TABLES_MAGIC, self.session, self.lines()] {
            return Err(Refusal::OtherTables);
        }
        Ok(())
    }
}

/// The workers' clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// The cycle at which it began.
    pub epoch: u64,
    /// Cycles of a second.
    pub hz: u64,
    /// Milliseconds since the boot, when it began.
    pub boot_millis: u64,
}

impl Clock {
    /// One that begins now.
    pub fn new(machine: &Machine) -> Self {
        Self { epoch: machine.cycles, hz: machine.hz, boot_millis: machine.boot_millis }
    }

    /// Writes it. There are two places for it, so that one of them holds whatever happens.
    pub(super) fn write(&self, lines: &[Line]) {
        let last = [0, 1].map(|place| load_sealed(&lines[CLOCK_LINE + place]).map_or(0, |words| words[0]));
        let place = usize::from(last[0] > last[1]);
        let words = [last[0].max(last[1]) + 1, self.epoch, self.hz, self.boot_millis, 0, 0, 0];
        store_sealed(&lines[CLOCK_LINE + place], words);
    }

    /// What was written last.
    pub(super) fn read(lines: &[Line]) -> Result<Self, Refusal> {
        let places = lines[CLOCK_LINE..][..2].iter().filter_map(load_sealed);
        let last = places.max_by_key(|words| words[0]).filter(|words| words[0] != 0);
        let [_, epoch, hz, boot_millis, ..] = last.ok_or(Refusal::Damaged)?;
        Ok(Self { epoch, hz, boot_millis })
    }

    /// The same clock as this process counts it: a process may find another frequency for the same counter.
    pub fn go_on(self, machine: &Machine) -> Result<Self, Refusal> {
        let per_milli = |hz: u64| (hz / 1000).max(1);
        let millis = machine.cycles.wrapping_sub(self.epoch) / per_milli(self.hz);
        let passed = machine.boot_millis.checked_sub(self.boot_millis).ok_or(Refusal::Clock)?;
        // One that stood still, as while the machine slept, is what records were written by all the same.
        if millis > passed + passed / 100 + AHEAD_MS_MAX {
            return Err(Refusal::Clock);
        }
        if self.hz == machine.hz {
            return Ok(self);
        }
        let epoch = machine.cycles.wrapping_sub(millis * per_milli(machine.hz));
        Ok(Self { epoch, hz: machine.hz, boot_millis: machine.boot_millis.saturating_sub(millis) })
    }
}

/// How devices give flows to workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Distribution {
    /// What the devices' keys are drawn from.
    pub seed: [u64; 2],
    /// A print of what they have: their keys, and the workers of their tables. 0: there is none, or some connections are with other
    /// workers than these.
    pub print: u64,
}

impl Distribution {
    /// Whether flows come to the workers that have their connections, if `before` was that of the process before.
    pub fn goes_on(&self, before: Option<Self>) -> bool {
        self.print != 0 && before.is_some_and(|before| before.print == self.print)
    }

    pub(super) fn write(&self, lines: &[Line]) {
        let [seed0, seed1] = self.seed;
        store_sealed(&lines[DISTRIBUTION_LINE], [seed0, seed1, self.print, 1, 0, 0, 0]);
    }

    /// None, too, if the process before was just writing it, or somebody else wrote there.
    pub(super) fn read(lines: &[Line]) -> Option<Self> {
        let [seed0, seed1, print, is_written, ..] = load_sealed(&lines[DISTRIBUTION_LINE])?;
        (is_written == 1).then_some(Self { seed: [seed0, seed1], print })
    }
}
