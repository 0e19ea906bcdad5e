//! The last lines of the log, for who looks at weir and not at its log. The lock is held for a line at a time.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use weir_api::events;

use super::limit::said;
use crate::reload_status::unix_seconds;

/// Lines that are kept: what fits a page that somebody reads.
const LINES_MAX: usize = 200;
/// Characters of a line: a report of a bad file has more.
const LINE_CHARS: usize = 400;

/// See the module.
#[derive(Default)]
pub(super) struct Recent(Mutex<State>);

#[derive(Default)]
struct State {
    /// Number of the newest line; 0: none yet.
    newest: u64,
    lines: VecDeque<events::Event>,
}

impl Recent {
    /// Those of a higher number, the oldest first.
    pub(super) fn after(&self, number: u64) -> Vec<events::Event> {
        self.state().lines.iter().filter(|line| line.number > number).cloned().collect()
    }

    pub(super) fn newest(&self) -> u64 {
        self.state().newest
    }

    fn add(&self, level: Level, text: &str) {
        let at = unix_seconds(SystemTime::now());
        let level = level.as_str().to_lowercase();
        let text = text.trim().chars().take(LINE_CHARS).collect();
        let mut state = self.state();
        state.newest += 1;
        let number = state.newest;
        if state.lines.len() == LINES_MAX {
            state.lines.pop_front();
        }
        state.lines.push_back(events::Event { number, at, level, text });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whole lines, whatever happens.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of those lines in `tracing`.
pub(super) struct Recorder(pub(super) &'static Recent);

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        if level <= Level::INFO {
            self.0.add(level, &said(event));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_numbered_and_cut() {
        let recent = Recent::default();
        assert_eq!((recent.newest(), recent.after(0)), (0, Vec::new()));
        for number in 1..=LINES_MAX + 5 {
            recent.add(Level::WARN, &format!("line {number}\n"));
        }
        recent.add(Level::ERROR, &"x".repeat(LINE_CHARS + 1));
        let all = recent.after(0);
        assert_eq!((all.len(), all[0].number, all[0].text.as_str()), (LINES_MAX, 7, "line 7"));
        let [last] = &recent.after(recent.newest() - 1)[..] else { panic!("one line") };
        assert_eq!((last.number, last.level.as_str(), last.text.len()), (206, "error", LINE_CHARS));
    }
}
