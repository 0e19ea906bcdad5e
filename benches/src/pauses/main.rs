//! The longest passes of a worker, and what it does in them: a table of millions that fills and ends, persistence, a
//! snapshot of 10,000 virtual servers that changes altogether, VRRP, messages of other workers, next hops by the
//! thousands, scrapes.
//!
//! `benches/pauses` builds this and runs it on huge pages; `pauses [--runs K] [STEP ...]` runs it as it is.
//!
//! # How the floor is taken
//! A longest pass by the clock says more about the machine than about weir: any interrupt, and on a virtual machine the
//! host, adds to whatever pass it meets. So each scenario runs K times with the same frames, the same injected clock and
//! the same keys, from an empty table on. Pass number n does the same in each run, and the least of its K times, its
//! floor, is what it takes by its own work: who disturbs it would have to disturb pass n each time. What is reported are
//! the floors' median, 99.99th percentile and greatest. They leave out what others do to the caches, which the column of
//! the runs as they were (the median of the runs' longest passes) has in it. Only scrapes are not the same in each run,
//! since they go on beside it on another CPU; their floor is of K different moments.
//!
//! A pass is what the worker does from one poll to the next: look for a snapshot, a burst of up to 64 frames, upkeep. The
//! device's part is not in it, nor is making the frames. Before a new snapshot is met the caches are filled with other
//! things, since control has made it on another core.

mod recorder;
mod rig;
mod scenarios;
mod traffic;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use dpdk::Eal;

use recorder::Recorder;
use scenarios::ALL;

/// Longer than this no pass should be, in microseconds.
const LIMIT_MICROS: f32 = 50.0;

/// Times every pass of a worker several times over and prints the longest floors.
#[derive(Parser)]
struct Options {
    /// Runs of each scenario
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Connections of the large table
    #[arg(long, default_value_t = 16_777_216)]
    connections: usize,
    /// Scenarios to run; default: all
    #[arg(value_name = "SCENARIO")]
    chosen: Vec<String>,
}

#[expect(clippy::print_stdout, reason = "the table is what the program is for")]
fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let arguments = ["--no-pci", "--in-memory", "--no-telemetry", "--log-level", "error", "-l", "0"];
    let eal = Eal::init(&arguments.map(str::to_owned)).ok().filter(Eal::has_hugepages);
    let place = if eal.is_some() { "huge pages" } else { "pages of 4 KiB, whose first use is in the times" };
    println!("floors of {} runs, tables in {place}\n", options.runs);
    println!("{}", Recorder::head());
    let mut is_over = false;
    for scenario in ALL {
        if !options.chosen.is_empty() && !options.chosen.iter().any(|name| name == scenario.name) {
            continue;
        }
        let mut recorder = Recorder::new();
        for _ in 0..options.runs {
            recorder.begin();
            (scenario.run)(&mut recorder, eal.as_ref(), options.connections)
                .with_context(|| format!("scenario {}", scenario.name))?;
        }
        println!("{}", scenario.name);
        for row in recorder.rows() {
            println!("{row}");
        }
        is_over |= recorder.longest_micros() > LIMIT_MICROS;
    }
    Ok(if is_over { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
