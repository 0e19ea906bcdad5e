//! Whether weir can do its work: every worker polls, control's threads go on, every port has a link.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::sources::Sources;
use crate::threads::Role;

/// A worker that polls moves its cycle counter with each poll, millions of times a second. One that shares its core
/// may be off it for some tens of milliseconds.
const POLL_DEADLINE: Duration = Duration::from_millis(250);
/// How often it is looked at meanwhile.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// What is missing, a phrase each; empty: weir is ready. Takes up to a quarter of a second if a worker stands still.
pub(super) async fn missing(sources: &Sources) -> Vec<String> {
    let mut missing = Vec::new();
    let standing = standing_workers(sources).await;
    missing.extend(standing.iter().map(|number| format!("worker {number} does not poll")));
    let threads = sources.stuck.roles().filter(|role| !matches!(role, Role::Worker(_)));
    missing.extend(threads.map(|role| format!("{role} is stuck")));
    for port in &sources.ports {
        match port.device.link_up() {
            Some(false) => missing.push(format!("port {} has no link", port.name)),
            None if port.device.stats().is_none() => {
                missing.push(format!("port {} does not answer", port.name))
            }
            Some(true) | None => {}
        }
    }
    missing
}

/// The numbers of workers whose cycle counters stand still.
async fn standing_workers(sources: &Sources) -> Vec<usize> {
    let cycles = |number: usize| {
        let counters = &sources.workers[number].counters;
        counters.busy_cycles.get().wrapping_add(counters.idle_cycles.get())
    };
    let before: Vec<u64> = (0..sources.workers.len()).map(cycles).collect();
    let mut standing: Vec<usize> = (0..before.len()).collect();
    let deadline = Instant::now() + POLL_DEADLINE;
    loop {
        standing.retain(|&number| cycles(number) == before[number]);
        if standing.is_empty() || Instant::now() >= deadline {
            return standing;
        }
        sleep(POLL_INTERVAL).await;
    }
}
