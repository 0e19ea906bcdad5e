//! The secret of the hash, and how it is drawn.
//!
//! A product is as regular as what goes into it: it lays ports, or addresses, that follow each other at even steps round
//! the table. With most multipliers the steps come to lie between each other; with one of ten they come back to nearly the same
//! place after a few, and then a client's ports, or a network's clients, crowd few lines until those are full. A better
//! hash would cost every packet some instructions. So the multiplier is chosen instead, once: [`HashKey::draw`] throws keys away
//! until one spreads what clients look like. That leaves some fifty bits of a secret.

use super::Table;
use super::lines::{PROBES, SLOTS};

/// The secret of the hash.
#[derive(Clone, Copy)]
pub struct HashKey {
    pub(super) xor: u64,
    pub(super) multiply: u64,
}

impl HashKey {
    /// From 16 bytes of randomness, whatever they are.
    pub fn new(random: [u64; 2]) -> Self {
        Self { xor: random[0], multiply: random[1] | 1 }
    }

    /// The two numbers that it is made of, for the next process.
    pub fn parts(self) -> [u64; 2] {
        [self.xor, self.multiply]
    }

    /// One that spreads clients well. `random` gives 8 bytes of randomness at a time.
    ///
    /// # Errors
    /// Those of `random`.
    pub fn draw<E>(mut random: impl FnMut() -> Result<u64, E>) -> Result<Self, E> {
        let mut key = Self::new([random()?, random()?]);
        // One of ten does. That none of so many does happens to nobody, and it would only be as good as any.
        for _ in 0..DRAWS_MAX {
            if key.is_even_everywhere() && key.spreads_samples() {
                break;
            }
            key = Self::new([random()?, random()?]);
        }
        Ok(key)
    }

    /// The hash of what [`super::Key::hash_input`] gives.
    #[inline]
    pub fn hash(&self, input: u64) -> u64 {
        fold(input ^ self.xor, self.multiply)
    }

    /// Whether inputs at steps of each power of two never come back too near, in a table of any size.
    ///
    /// Steps of a fraction of the table come back nearest after as many steps as the denominators of its continued fraction
    /// say, and the nearer the larger the next term is. A line and the next 15 overflow when 64 inputs of a table that is as
    /// full as it may be meet in them: no term may be near 256 for that. Two thirds of it bar steps of two and three at a time, too.
    fn is_even_everywhere(&self) -> bool {
        (0..u64::BITS).all(|bit| {
            // Inputs that are there at all: a field's, or with the port those of the address as well.
            let end = if bit < PORT_BIT { PORT_BIT } else { u64::BITS };
            let inputs = 1u64 << (end - bit).min(INPUTS_BITS);
            is_even(self.multiply << bit, inputs / CROWD)
        })
    }

    /// Whether samples find room in tables that they fill as far as those may be filled. They are what the terms of a fraction
    /// don't tell about: steps in two fields at a time, and addresses so far apart that the product's upper half moves, too.
    /// Half a chain has to do for them, for the sake of those that are no sample but are like one.
    fn spreads_samples(&self) -> bool {
        let steps = (8..=16).map(|bit| Sample { low: (ADDRESS_BIT + bit, 16), high: PORT_BIT });
        let both = (4..=12).map(|bits| Sample { low: (PORT_BIT, bits), high: ADDRESS_BIT });
        let tails = [4, 8, 16].map(|bits| Sample { low: (0, bits), high: PORT_BIT });
        let mut lines = Vec::new();
        steps.chain(both).chain(tails).all(|sample| {
            SAMPLE_BITS.into_iter().all(|bits| {
                let inputs = 1u64 << bits;
                lines.clear();
                lines.resize(sample_lines(inputs as usize), 0);
                (0..inputs).all(|number| self.takes(&mut lines, sample.input(number)))
            })
        })
    }

    /// Puts one more input into lines that are known by how much lies in them.
    fn takes(&self, lines: &mut [u8], input: u64) -> bool {
        let home = ((u128::from(self.hash(input)) * lines.len() as u128) >> 64) as usize;
        let free =
            (home..home + PROBES / 2).map(|line| line % lines.len()).find(|&line| lines[line] < SLOTS as u8);
        free.map(|line| lines[line] += 1).is_some()
    }
}

/// The 128-bit product folded to 64 bits: each bit of the result depends on all bits of both.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Inputs that count up in one field, then in another.
#[derive(Clone, Copy)]
struct Sample {
    /// Where the first field begins, and its width.
    low: (u32, u32),
    /// Where the other one begins.
    high: u32,
}

impl Sample {
    fn input(&self, number: u64) -> u64 {
        let (at, width) = self.low;
        // 10.0.0.0 and port 40000, on whatever the fields leave.
        0x0a00_0000_9c40_0000 ^ (number & ((1 << width) - 1)) << at ^ number >> width << self.high
    }
}

/// How many inputs the samples have, as powers of two.
const SAMPLE_BITS: [u32; 3] = [10, 13, 16];
/// Where the client's port begins in an input, behind the destination port.
const PORT_BIT: u32 = 16;
/// Where the client's address begins.
const ADDRESS_BIT: u32 = 32;
/// Records that crowd a chain of lines.
const CROWD: u64 = (PROBES * SLOTS) as u64;
/// Largest table that steps are judged for, as a power of two.
const INPUTS_BITS: u32 = 26;
/// See [`HashKey::is_even_everywhere`].
const TERM_MAX: u64 = 2 * CROWD;
/// Keys that are drawn at most.
const DRAWS_MAX: usize = 10_000;

/// Lines of a table that so many inputs fill as far as any may be filled: beside many persistence templates.
fn sample_lines(inputs: usize) -> usize {
    Table::lines_beside(inputs, inputs)
}

/// Whether no term of the continued fraction of `step / 2^64` is large, up to denominators of `reach`.
fn is_even(step: u64, reach: u64) -> bool {
    let (mut denominators, mut rests) = ((0u64, 1u64), (1u128 << 64, u128::from(step)));
    while denominators.1 <= reach {
        // Without a rest it comes back to the very place.
        let term = rests.0.checked_div(rests.1).unwrap_or(u128::MAX);
        if term > u128::from(TERM_MAX) {
            return false;
        }
        let term = term as u64;
        denominators = (denominators.1, term * denominators.1 + denominators.0);
        rests = (rests.1, rests.0 % rests.1);
    }
    true
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use dpdk::memory::Slab;
    use weir_config::model::Protocol;

    use super::*;
    use crate::address::Addr4;
    use crate::conn::record::{Key, Record, ServerId, VipId};
    use crate::conn::state::tcp;
    use crate::conn::table::NoRoom;

    const CAPACITY: usize = 4_096;

    /// As good as random, and the same in each run.
    fn random(seed: u64) -> impl FnMut() -> Result<u64, Infallible> {
        let mut state = seed;
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            Ok(mixed ^ mixed >> 31)
        }
    }

    fn drawn(seed: u64) -> HashKey {
        let Ok(key) = HashKey::draw(random(seed));
        key
    }

    fn undrawn(seed: u64) -> HashKey {
        let mut random = random(seed);
        let [Ok(xor), Ok(multiply)] = [random(), random()];
        HashKey::new([xor, multiply])
    }

    /// A client's address and port, and the port it talks to.
    type End = (Addr4, u16, u16);

    /// What clients look like that follow a pattern, by accident or on purpose: as many as a table takes.
    fn patterns() -> Vec<(String, Vec<End>)> {
        let pattern =
            |name: String, end: &dyn Fn(u32) -> End| (name, (0..CAPACITY as u32).map(end).collect());
        let first = Addr4::new(10, 1, 0, 5);
        let mut patterns = vec![
            pattern("ports".into(), &|n| (first, 1_024 + n as u16, 0)),
            pattern("every second port".into(), &|n| (first, 32_768 + 2 * n as u16, 0)),
            pattern("address and port".into(), &|n| (first.plus(n), 1_024 + n as u16, 0)),
            pattern("destination ports".into(), &|n| (first, 40_000, n as u16)),
        ];
        for bit in 0..20 {
            patterns.push(pattern(format!("addresses, steps of 2^{bit}"), &|n| {
                (first.plus(n << bit), 40_000, 0)
            }));
        }
        for bits in 1..12 {
            let both =
                |n: u32, step: u32| (first.plus(n >> bits), 1_024 + ((n % (1 << bits)) << step) as u16, 0);
            patterns.push(pattern(format!("2^{bits} ports of each address"), &|n| both(n, 0)));
            patterns.push(pattern(format!("2^{bits} spread ports of each address"), &|n| both(n, 15 - bits)));
        }
        patterns
    }

    /// How many connections of a pattern find their chain full, beside so many templates.
    fn turned_away(key: HashKey, pattern: &[End], templates: usize) -> usize {
        let lines = Slab::heap(Table::lines_beside(CAPACITY, templates)).expect("there is memory");
        let mut table = Table::new(lines, CAPACITY, key);
        let mut insert = |&(client, port, destination): &End| {
            let key = Key::new(client, port, VipId(0), destination, Protocol::Tcp, true);
            let record = Record::new(key, ServerId(1), tcp::ESTABLISHED, 5, false);
            table.insert(table.hash(key.hash_input()), record)
        };
        pattern.iter().filter(|end| insert(end) == Err(NoRoom::Chain)).count()
    }

    #[test]
    fn no_drawn_key_lets_clients_that_follow_a_pattern_crowd() {
        let patterns = patterns();
        for seed in 0..24 {
            let key = drawn(seed);
            for (name, pattern) in &patterns {
                assert_eq!(turned_away(key, pattern, CAPACITY), 0, "{name}, key {seed}");
            }
        }
    }

    #[test]
    fn some_keys_let_them_and_those_are_not_drawn() {
        let patterns = patterns();
        let crowds = |&seed: &u64| {
            let key = undrawn(seed);
            patterns.iter().any(|(_, pattern)| turned_away(key, pattern, 0) != 0)
        };
        let crowding: Vec<u64> = (0..60).filter(crowds).collect();
        assert!(!crowding.is_empty(), "the patterns tell nothing");
        for seed in crowding {
            let key = undrawn(seed);
            assert!(!(key.is_even_everywhere() && key.spreads_samples()), "key {seed}");
        }
    }

    #[test]
    fn samples_fill_a_table_as_far_as_any_is_filled() {
        for bits in SAMPLE_BITS {
            let inputs = 1 << bits;
            let fullest =
                (0..=inputs).step_by(64).map(|templates| Table::lines_beside(inputs, templates)).min();
            assert_eq!(Some(sample_lines(inputs)), fullest);
        }
    }

    #[test]
    fn steps_that_come_back_are_seen_whatever_the_size_of_the_table() {
        let part = |divisor: u64, off: u64| (u64::MAX / divisor).wrapping_add(off);
        for denominator in [2, 3, 7, 100, 1_000] {
            for off in [1, u64::MAX] {
                assert!(!is_even(part(denominator, off), 1_024), "nearly one of {denominator}");
            }
        }
        // Of the golden section every term is 1.
        assert!(is_even(0x9e37_79b9_7f4a_7c15, 1 << 20));
        // 1 of 100,000 is told from 0 only by the first term, which is large.
        assert!(!is_even(part(100_000, 0), 1));
        assert!(is_even(part(100, 0), 1));
    }

    #[test]
    fn keys_are_drawn_until_one_will_do_and_errors_end_that() {
        let mut calls = 0;
        let mut random = random(7);
        let Ok(_) = HashKey::draw(|| {
            calls += 1;
            random()
        });
        assert!((2..2_000).contains(&calls), "{calls}");
        assert_eq!(HashKey::draw(|| Err("none")).err(), Some("none"));
        // Even no randomness at all comes to an end.
        let Ok(_) = HashKey::draw(|| Ok::<_, Infallible>(0));
    }
}
