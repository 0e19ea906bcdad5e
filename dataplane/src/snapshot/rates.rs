//! The five rates of a virtual or real server, as IPVS estimates them (`ip_vs_est.c`).
//!
//! Control takes a sample of what was carried every [`INTERVAL_MS`]; the estimate goes a quarter of the way from what
//! it was to the rate since the sample before. It is kept in fixed point: connections and packets a second with ten
//! binary digits behind the point, bytes a second with five. So it reads as in `ipvsadm -L --rate`: after load that
//! was steady for some 20 s it is the rate, and after the last packet it halves every five seconds.
//!
//! An estimator belongs to a server for life and goes with it from snapshot to snapshot. One thread samples, any may
//! read.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use super::traffic::Traffic;

/// Time between two samples of one server, in milliseconds.
pub const INTERVAL_MS: u64 = 2_000;
/// Binary digits behind the point of connections and packets a second.
const COUNT_BITS: u32 = 10;
/// Binary digits behind the point of bytes a second.
const BYTE_BITS: u32 = 5;
/// The weight of a new sample is one in two to this power.
const WEIGHT_SHIFT: u32 = 2;

/// What a server carries in a second, rounded as IPVS shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Connections made.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients.
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes to clients.
    pub out_bytes: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Estimator {
    connections: Average,
    in_packets: Average,
    out_packets: Average,
    in_bytes: Average,
    out_bytes: Average,
    /// What listings count from.
    zero: Zero,
}

/// Totals at the moment from which listings count.
#[derive(Debug, Default)]
struct Zero([AtomicU64; 5]);

impl Estimator {
    /// All rates 0, for a server that has carried `so_far`.
    pub fn new(so_far: Traffic) -> Self {
        let estimator = Self::default();
        for (average, total, _) in estimator.averages(so_far) {
            average.last.store(total, Relaxed);
        }
        estimator
    }

    /// From now on [`Estimator::since_zero`] tells what is carried more than `so_far`, and rates begin anew, as by `ipvsadm -Z`.
    pub fn zero(&self, so_far: Traffic) {
        for ((average, total, _), zero) in self.averages(so_far).into_iter().zip(&self.zero.0) {
            zero.store(total, Relaxed);
            average.last.store(total, Relaxed);
            average.value.store(0, Relaxed);
        }
    }

    /// What of `so_far` was carried since counters were set to 0.
    pub fn since_zero(&self, so_far: Traffic) -> Traffic {
        let [connections, in_packets, out_packets, in_bytes, out_bytes] = &self.zero.0;
        let since = |total: u64, zero: &AtomicU64| total.saturating_sub(zero.load(Relaxed));
        Traffic {
            connections: since(so_far.connections, connections),
            in_packets: since(so_far.in_packets, in_packets),
            out_packets: since(so_far.out_packets, out_packets),
            in_bytes: since(so_far.in_bytes, in_bytes),
            out_bytes: since(so_far.out_bytes, out_bytes),
        }
    }

    /// Takes a sample: `so_far` is what the server has carried by now, `elapsed_ms` the time since the sample before,
    /// above 0. With [`INTERVAL_MS`] the result is the kernel's to the last digit; the kernel takes that for granted
    /// also when its timer was late.
    pub fn sample(&self, so_far: Traffic, elapsed_ms: u64) {
        for (average, total, bits) in self.averages(so_far) {
            average.sample(total, bits, elapsed_ms);
        }
    }

    /// The rates as of the last sample.
    pub fn rates(&self) -> Rates {
        Rates {
            connections: self.connections.get(COUNT_BITS),
            in_packets: self.in_packets.get(COUNT_BITS),
            out_packets: self.out_packets.get(COUNT_BITS),
            in_bytes: self.in_bytes.get(BYTE_BITS),
            out_bytes: self.out_bytes.get(BYTE_BITS),
        }
    }

    fn averages(&self, so_far: Traffic) -> [(&Average, u64, u32); 5] {
        [
            (&self.connections, so_far.connections, COUNT_BITS),
            (&self.in_packets, so_far.in_packets, COUNT_BITS),
            (&self.out_packets, so_far.out_packets, COUNT_BITS),
            (&self.in_bytes, so_far.in_bytes, BYTE_BITS),
            (&self.out_bytes, so_far.out_bytes, BYTE_BITS),
        ]
    }
}

/// One rate.
#[derive(Debug, Default)]
struct Average {
    /// The total at the last sample.
    last: AtomicU64,
    /// In fixed point; never negative.
    value: AtomicI64,
}

impl Average {
    fn sample(&self, total: u64, bits: u32, elapsed_ms: u64) {
        let passed = total.wrapping_sub(self.last.swap(total, Relaxed));
        let rate = (u128::from(passed) << bits) * 1_000 / u128::from(elapsed_ms.max(1));
        let rate = i64::try_from(rate).unwrap_or(i64::MAX);
        let value = self.value.load(Relaxed);
        // An arithmetic shift, so that the way down ends at 0.
        self.value.store(value + ((rate - value) >> WEIGHT_SHIFT), Relaxed);
    }

    fn get(&self, bits: u32) -> u64 {
        let half = (1 << (bits - 1)) - 1;
        (self.value.load(Relaxed).saturating_add(half) >> bits) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(connections: u64) -> Traffic {
        let (in_packets, out_packets) = (connections * 10, connections * 7);
        Traffic {
            connections,
            in_packets,
            out_packets,
            in_bytes: in_packets * 60,
            out_bytes: out_packets * 1_500,
        }
    }

    /// The arithmetic of the kernel, written down apart: samples of totals, two seconds apart.
    fn kernel(totals: &[u64], scale: u32, half: i64, shown: u32) -> Vec<u64> {
        let (mut last, mut value) = (0, 0);
        let mut rates = Vec::new();
        for &total in totals {
            let rate = ((total - last) << scale) as i64;
            last = total;
            value += (rate - value) >> 2;
            rates.push(((value + half) >> shown) as u64);
        }
        rates
    }

    #[test]
    fn samples_in_time_give_the_kernels_figures() {
        bolero::check!().with_type::<Vec<u16>>().for_each(|steps| {
            let totals: Vec<u64> = steps
                .iter()
                .scan(0, |sum, &step| {
                    *sum += u64::from(step);
                    Some(*sum)
                })
                .collect();
            let estimator = Estimator::default();
            let connections = kernel(&totals, 9, 0x1ff, 10);
            let out_bytes: Vec<u64> = totals.iter().map(|total| total * 10_500).collect();
            let out_bytes = kernel(&out_bytes, 4, 0xf, 5);
            for (at, &total) in totals.iter().enumerate() {
                estimator.sample(carried(total), INTERVAL_MS);
                let rates = estimator.rates();
                assert_eq!((rates.connections, rates.out_bytes), (connections[at], out_bytes[at]));
            }
        });
    }

    #[test]
    fn a_steady_load_is_its_rate_and_silence_is_zero() {
        let estimator = Estimator::default();
        let mut total = 0;
        // 100 connections a second, sampled late by turns.
        for elapsed_ms in [2_000, 2_100, 2_000, 3_500].into_iter().cycle().take(60) {
            total += elapsed_ms / 10;
            estimator.sample(carried(total), elapsed_ms);
        }
        let expected = Rates {
            connections: 100,
            in_packets: 1_000,
            out_packets: 700,
            in_bytes: 60_000,
            out_bytes: 1_050_000,
        };
        assert_eq!(estimator.rates(), expected);
        (0..70).for_each(|_| estimator.sample(carried(total), INTERVAL_MS));
        assert_eq!(estimator.rates(), Rates::default());
    }

    #[test]
    fn what_was_carried_before_is_no_rate() {
        let estimator = Estimator::new(carried(1_000_000));
        estimator.sample(carried(1_000_000), INTERVAL_MS);
        assert_eq!(estimator.rates(), Rates::default());
    }

    #[test]
    fn no_jump_of_a_total_overflows() {
        let estimator = Estimator::default();
        for total in [u64::MAX, 0, u64::MAX, 1] {
            let traffic = Traffic { in_bytes: total, connections: total, ..Traffic::default() };
            estimator.sample(traffic, 1);
            let _ = estimator.rates();
        }
    }
}
