//! `[workers]`

use std::time::Duration;

use super::table::{Table, word};
use crate::model::{Idle, Workers};
use crate::report::Problem;
use crate::schema::{self, OneTable, Tabular};

/// Microseconds: what is longer would keep timers of a millisecond waiting.
const SLEEP_MAX_US: std::ops::RangeInclusive<i64> = 1..=1_000;
/// A device with 1,024 descriptors loses nothing at ten million packets a second in that time.
const SLEEP_MAX_US_DEFAULT: u64 = 100;

pub(crate) fn workers(field: &OneTable<schema::Workers>, table: &mut Table<'_>) -> Workers {
    let mut workers = Workers { idle: Idle::Poll, sleep_max: Duration::from_micros(SLEEP_MAX_US_DEFAULT) };
    let Some((Tabular(written), at)) = table.value(field) else { return workers };
    let mut table = table.inner(at);
    let words = [("poll", Idle::Poll), ("sleep", Idle::Sleep)];
    let synonyms = [("busy", "poll"), ("interrupt", "sleep"), ("interrupts", "sleep"), ("adaptive", "sleep")];
    let idle = table.parsed(&written.idle, |text| word("idle mode", &words, &synonyms, text));
    let polls = written.idle.is_none() || idle.as_ref().is_some_and(|idle| *idle.get_ref() == Idle::Poll);
    workers.idle = table.or(idle, workers.idle).into_inner();
    let micros = table.integer(&written.sleep_max_us, "sleep_max_us", SLEEP_MAX_US, SLEEP_MAX_US_DEFAULT);
    if written.sleep_max_us.is_some() && polls {
        let problem = Problem::warning("`sleep_max_us` has no effect")
            .at(micros.span(), "workers do not sleep")
            .help("write `idle = \"sleep\"` if they may");
        table.report(problem);
    }
    workers.sleep_max = Duration::from_micros(*micros.get_ref());
    workers
}
