//! Whether weir can do its work: every worker polls, control's threads go on, every port has a link, and it is to go on.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::flags::Flags;
use crate::sources::Sources;
use crate::standing::condition::Condition;
use crate::threads::{Role, Threads};

/// A worker that polls moves its cycle counter with each poll, millions of times a second. One that shares its core
/// may be off it for some tens of milliseconds.
const POLL_DEADLINE: Duration = Duration::from_millis(250);
/// How often it is looked at meanwhile.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// What is missing, a phrase each; empty: weir is ready. Takes up to a quarter of a second if a worker stands still.
pub(super) async fn missing(sources: &Sources, flags: &Flags) -> Vec<String> {
    let lost = flags.threads.that_panicked();
    if !lost.is_empty() {
        return lost.iter().map(|role| format!("{role} has panicked")).collect();
    }
    if flags.is_leaving() {
        return vec!["weir is stopping".to_owned()];
    }
    let threads = &flags.threads;
    let mut missing = Vec::new();
    let before: Vec<_> = (0..sources.workers.len()).map(|number| condition(threads, number)).collect();
    let begun = Instant::now();
    for number in standing_workers(sources).await {
        let what = match sources.stuck.is(Role::Worker(number)) {
            true => "is stuck".to_owned(),
            false => instead(before[number], condition(threads, number), begun.elapsed()),
        };
        missing.push(format!("worker {number} {what}"));
    }
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

fn condition(threads: &Threads, worker: usize) -> Option<Condition> {
    Condition::of(threads.pulse(Role::Worker(worker))?.thread())
}

/// What a worker does that has not polled for so long, by its condition before and after that.
fn instead(before: Option<Condition>, after: Option<Condition>, passed: Duration) -> String {
    match (before, after) {
        (Some(before), Some(after)) if after.wants_cpu() => match after.ran.saturating_sub(before.ran) {
            ran if ran < passed / 2 => "is late: the kernel gives its core to others".to_owned(),
            _ => "runs, but does not come to its next poll".to_owned(),
        },
        (_, Some(after)) => format!("does not poll: it waits in the kernel (state {})", after.state),
        (_, None) => "does not poll".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_waits_for_its_core_is_told_from_one_that_does_not_poll() {
        let at = |millis, state| Some(Condition { ran: Duration::from_millis(millis), state });
        let passed = Duration::from_millis(250);
        assert_eq!(
            instead(at(1000, 'R'), at(1010, 'R'), passed),
            "is late: the kernel gives its core to others"
        );
        assert_eq!(instead(at(1000, 'R'), at(1240, 'R'), passed), "runs, but does not come to its next poll");
        let waits = "does not poll: it waits in the kernel (state D)";
        assert_eq!(instead(at(1000, 'R'), at(1240, 'D'), passed), waits);
        assert_eq!(instead(None, at(0, 'D'), passed), waits);
        assert_eq!(instead(at(0, 'R'), None, passed), "does not poll");
        assert_eq!(instead(None, None, passed), "does not poll");
    }
}
