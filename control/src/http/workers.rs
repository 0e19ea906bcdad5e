//! `/api/v1/workers`: what each worker has done and how long its passes take, as JSON. Cheap however many servers there are.

use weir_api::workers::{Listing, Within, Worker};
use weir_dataplane::director::Shared;
use weir_dataplane::stats::passes::BOUNDS_MICROS;
use weir_dataplane::stats::{Answer, DropReason};

use crate::metrics::reading::{self, WorkerReading};
use crate::sources::Sources;

/// The page.
pub(super) fn render(sources: &Sources) -> Result<Vec<u8>, String> {
    let readings = reading::workers(sources);
    let frequency = sources.cycles_per_second;
    let workers = sources.workers.iter().zip(&readings);
    let workers = workers.map(|(shared, reading)| worker(shared, reading, frequency)).collect();
    serde_json::to_vec(&Listing { cycle_frequency: frequency, workers })
        .map_err(|problem| problem.to_string())
}

fn worker(shared: &Shared, reading: &WorkerReading, frequency: u64) -> Worker {
    let counters = &shared.counters;
    let within = BOUNDS_MICROS.iter().zip(reading.passes_within);
    Worker {
        worker: shared.worker,
        generation: reading.generation,
        connections: reading.connections,
        capacity: reading.capacity,
        busy_cycles: reading.busy_cycles,
        idle_cycles: reading.idle_cycles,
        received: counters.ports.iter().map(|port| port.receive_packets.get()).sum(),
        forwarded: counters.forwarded.get(),
        answered: Answer::ALL.iter().map(|&answer| counters.answers(answer)).sum(),
        dropped: DropReason::ALL.iter().map(|&reason| counters.drops(reason)).sum(),
        passes: reading.passes,
        passes_within: within.map(|(&micros, passes)| Within { micros, passes }).collect(),
        longest_pass_seconds: reading.longest_cycles as f64 / frequency as f64,
    }
}
