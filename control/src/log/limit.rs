//! How much may be logged. Lines of one kind, those from one place in the code, have a limit, and all together have one; what
//! is beyond is left out, counted, and summed up in a line for each kind. What EAL and the drivers say is one kind.
//!
//! The limits leave room for what happens once: a rack of five hundred servers that fails is five hundred lines.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines of one kind at once, and a second.
const KIND: Rate = Rate { burst: 500.0, second: 5.0 };
/// Lines in all at once, and a second.
const TOTAL: Rate = Rate { burst: 2_000.0, second: 20.0 };
/// Between two summaries of one kind.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(10);
/// Characters of the example in a summary.
const EXAMPLE_CHARS: usize = 160;
/// What comes from here is not limited.
const SUMMARY: &str = "weir::log::summary";

struct Rate {
    burst: f64,
    second: f64,
}

/// How many lines are left of a rate.
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn full(rate: &Rate, now: Instant) -> Self {
        Self { left: rate.burst, at: now }
    }

    fn has_one(&mut self, rate: &Rate, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * rate.second).min(rate.burst);
        self.at = now;
        self.left >= 1.0
    }
}

/// Lines from one place in the code.
struct Kind {
    bucket: Bucket,
    left_out: u64,
    /// Since when that is counted.
    since: Instant,
    /// The first of those.
    example: String,
}

/// See the module.
pub(super) struct Limit {
    state: Mutex<State>,
    left_out: AtomicU64,
}

struct State {
    total: Bucket,
    /// By place in the code, which bounds how many there are; without one: EAL and the drivers.
    kinds: HashMap<Option<Identifier>, Kind>,
}

impl Limit {
    pub(super) fn new() -> Self {
        let total = Bucket::full(&TOTAL, Instant::now());
        Self { state: Mutex::new(State { total, kinds: HashMap::new() }), left_out: AtomicU64::new(0) }
    }

    /// Lines left out so far.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out.load(Relaxed)
    }

    /// Whether a line of EAL's or a driver's may be logged.
    pub(super) fn admits_foreign(&self, text: &[u8], now: Instant) -> bool {
        self.admits(None, now, || cut(&String::from_utf8_lossy(text)))
    }

    /// Whether a line may be logged.
    fn admits(&self, kind: Option<Identifier>, now: Instant, example: impl FnOnce() -> String) -> bool {
        let mut state = self.state();
        let State { total, kinds } = &mut *state;
        let kind = kinds.entry(kind).or_insert_with(|| Kind {
            bucket: Bucket::full(&KIND, now),
            left_out: 0,
            since: now,
            example: String::new(),
        });
        if kind.bucket.has_one(&KIND, now) && total.has_one(&TOTAL, now) {
            kind.bucket.left -= 1.0;
            total.left -= 1.0;
            return true;
        }
        if kind.left_out == 0 {
            kind.since = now;
            kind.example = example();
        }
        kind.left_out += 1;
        self.left_out.fetch_add(1, Relaxed);
        false
    }

    /// Logs a summary of each kind of which lines were left out, if it is time to.
    pub(super) fn tell(&self, now: Instant) {
        for (count, time, example) in self.summaries(now) {
            let lines = super::lines(count);
            tracing::warn!(target: SUMMARY, "{lines} left out within {} s, such as: {example}", time.as_secs());
        }
    }

    fn summaries(&self, now: Instant) -> Vec<(u64, Duration, String)> {
        let mut state = self.state();
        let kinds = state.kinds.values_mut().filter(|kind| kind.left_out > 0);
        let due = kinds.filter_map(|kind| {
            let time = now.saturating_duration_since(kind.since);
            (time >= SUMMARY_INTERVAL)
                .then(|| (std::mem::take(&mut kind.left_out), time, std::mem::take(&mut kind.example)))
        });
        due.collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Counts, which are whole whatever happens.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The limit's place in `tracing`.
pub(super) struct Limiter(pub(super) &'static Limit);

impl<S: Subscriber> Layer<S> for Limiter {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let place = event.metadata();
        place.target() == SUMMARY || self.0.admits(Some(place.callsite()), Instant::now(), || example(event))
    }
}

/// The beginning of what the line would have said.
fn example(event: &Event<'_>) -> String {
    cut(&said(event))
}

/// What a line says, without its time and level.
pub(super) fn said(event: &Event<'_>) -> String {
    let mut said = Said::default();
    event.record(&mut said);
    [said.message, said.fields].concat()
}

fn cut(text: &str) -> String {
    text.lines().find(|line| !line.is_empty()).unwrap_or_default().chars().take(EXAMPLE_CHARS).collect()
}

#[derive(Default)]
struct Said {
    message: String,
    fields: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // A String takes all that is written to it.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use tracing::callsite::Callsite;

    use super::*;

    /// Two places in the code.
    fn places() -> [Identifier; 2] {
        struct Place(u8);
        impl Callsite for Place {
            fn set_interest(&self, _: tracing::subscriber::Interest) {}
            fn metadata(&self) -> &tracing::Metadata<'_> {
                unreachable!("nobody asks")
            }
        }
        static PLACES: [Place; 2] = [Place(0), Place(1)];
        assert_ne!(PLACES[0].0, PLACES[1].0);
        [Identifier(&PLACES[0]), Identifier(&PLACES[1])]
    }

    #[test]
    fn a_flood_of_one_kind_is_cut_and_summed_up_and_others_go_on() {
        let (limit, begin) = (Limit::new(), Instant::now());
        let [flood, other] = places();
        // 16,000 lines a second for 20 seconds.
        let mut admitted = 0u64;
        let mut told = Vec::new();
        for tick in 0..20_000u64 {
            let now = begin + Duration::from_millis(tick);
            for line in 0..16 {
                admitted +=
                    u64::from(limit.admits(Some(flood.clone()), now, || format!("line {tick}.{line}")));
            }
            told.extend(limit.summaries(now));
        }
        assert!((500..=600).contains(&admitted), "{admitted}");
        assert_eq!(limit.left_out(), 320_000 - admitted);
        assert!(limit.admits(Some(other), begin + Duration::from_secs(20), || "other".to_owned()));
        assert_eq!(told.len(), 1);
        let (count, time, example) = &told[0];
        assert!(*count > 150_000 && *time >= SUMMARY_INTERVAL, "{told:?}");
        assert_eq!(example, "line 31.4");
        // Quiet again: the rest is told, and then there is nothing more to tell.
        let later = begin + Duration::from_secs(60);
        let [rest] = &limit.summaries(later)[..] else { panic!("one summary") };
        assert_eq!(rest.0 + count, limit.left_out());
        assert!(limit.summaries(later).is_empty() && limit.admits(Some(flood), later, String::new));
    }

    #[test]
    fn what_drivers_say_is_limited_and_so_are_all_together() {
        let (limit, now) = (Limit::new(), Instant::now());
        let admitted = (0..1_000).filter(|_| limit.admits_foreign(b"PMD: bad descriptor\n", now)).count();
        assert_eq!(admitted, KIND.burst as usize);
        let told = limit.summaries(now + SUMMARY_INTERVAL);
        assert_eq!(told, [(500, SUMMARY_INTERVAL, "PMD: bad descriptor".to_owned())]);
        // All that is left in all, by one line of each of many kinds.
        struct Place(u8);
        impl Callsite for Place {
            fn set_interest(&self, _: tracing::subscriber::Interest) {}
            fn metadata(&self) -> &tracing::Metadata<'_> {
                unreachable!("nobody asks")
            }
        }
        let places: &'static [Place] = Vec::leak((0..4_000).map(|_| Place(0)).collect());
        assert!(places.iter().all(|place| place.0 == 0), "each has an address of its own");
        let lines = places.iter().filter(|place| limit.admits(Some(Identifier(*place)), now, String::new));
        assert_eq!(lines.count(), (TOTAL.burst - KIND.burst) as usize);
    }
}
