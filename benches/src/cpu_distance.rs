//! How long it takes to hand something to another CPU and get it back: `cpu-distance 0 1` prints nanoseconds.
//!
//! Two threads pass a number to and fro over one cache line. Of many stretches the shortest counts, so that other processes do
//! not show. On a virtual machine the answer changes while it runs: two CPUs that share a cache need less than 100 ns; once the
//! host has moved one of them to another part of the processor it may be five times that, and whatever passes between
//! two threads, such as frames over `net_memif`, takes as much longer. `benches/latency` asks before and after each run.
#![allow(clippy::print_stdout, reason = "the result goes there")]

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use dpdk::lcore::run_on_cpus;

/// For how long it is measured.
const TIME: Duration = Duration::from_millis(50);
/// Round trips that are timed together.
const STRETCH: u64 = 200;
/// Ends the other thread.
const END: u64 = u64::MAX;

#[derive(Debug, Parser)]
struct Options {
    /// One CPU
    first: usize,
    /// The other
    second: usize,
}

/// Alone on its line, and on the one beside it.
#[repr(align(128))]
struct Ball(AtomicU64);

impl Ball {
    /// Waits until it is no longer `last`.
    fn await_other_than(&self, last: u64) -> u64 {
        loop {
            match self.0.load(Acquire) {
                number if number == last => std::hint::spin_loop(),
                number => return number,
            }
        }
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    let ball = Ball(AtomicU64::new(0));
    std::thread::scope(|scope| {
        // Both are pinned before either waits for the other.
        run_on_cpus(&[options.second])?;
        scope.spawn(|| give_back(&ball));
        let pinned = run_on_cpus(&[options.first]);
        let shortest = pinned.as_ref().map(|()| shortest_stretch(&ball));
        ball.0.store(END, Release);
        if let Ok(shortest) = shortest {
            println!("{}", shortest.as_nanos() as f64 / STRETCH as f64);
        }
        Ok(pinned?)
    })
}

/// Turns every odd number into the next even one.
fn give_back(ball: &Ball) {
    let mut number = 0;
    loop {
        number = ball.await_other_than(number);
        if number == END {
            return;
        }
        number += 1;
        ball.0.store(number, Release);
    }
}

fn shortest_stretch(ball: &Ball) -> Duration {
    let mut shortest = Duration::MAX;
    let mut number = 0;
    let began = Instant::now();
    while began.elapsed() < TIME {
        let stretch = Instant::now();
        for _ in 0..STRETCH {
            ball.0.store(number + 1, Release);
            number = ball.await_other_than(number + 1);
        }
        shortest = shortest.min(stretch.elapsed());
    }
    shortest
}
