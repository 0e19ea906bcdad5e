//! Lines on their way to the log. The lock is held for a push or a pop, never while something is written.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lines that wait at most.
const LINES_MAX: usize = 8_192;
/// Bytes that wait at most: one report of a large bad file is some hundred thousand.
const BYTES_MAX: usize = 4 << 20;

/// See the module.
pub(super) struct Queue {
    state: Mutex<State>,
    /// A line came.
    more: Condvar,
    /// A line was written, or given up.
    less: Condvar,
    lost: AtomicU64,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    pushed: u64,
    done: u64,
    /// Lines that found no room, not said yet.
    unsaid: u64,
    /// When the line that is being written was taken.
    writing_since: Option<Instant>,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), more: Condvar::new(), less: Condvar::new(), lost: AtomicU64::new(0) }
    }

    /// Lines lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Another line is lost, by the writer's word.
    pub(super) fn lose(&self) {
        self.lost.fetch_add(1, Relaxed);
    }

    /// Adds a line, or loses it if there is no room.
    pub(super) fn push(&self, line: Vec<u8>) {
        let mut state = self.state();
        if !state.has_room(line.len()) {
            state.unsaid += 1;
            drop(state);
            return self.lose();
        }
        // Before the first line that finds room again, so that a reader sees where the others were.
        if let Some(gap) = state.take_gap() {
            state.add(gap);
        }
        state.add(line);
        drop(state);
        self.more.notify_one();
    }

    /// The next line; `None`: there was none for so long. The one before is done with.
    pub(super) fn next(&self, wait: Duration) -> Option<Vec<u8>> {
        let mut state = self.state();
        if state.writing_since.take().is_some() {
            state.done += 1;
            self.less.notify_all();
        }
        if state.lines.is_empty() && state.unsaid == 0 {
            let waited = self.more.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.lines.is_empty()
            && let Some(gap) = state.take_gap()
        {
            state.add(gap);
        }
        let line = state.lines.pop_front()?;
        state.bytes -= line.len();
        state.writing_since = Some(Instant::now());
        Some(line)
    }

    /// Waits until all that was pushed so far is done with, but no longer than `limit`, and not if a line has been written for
    /// that long already.
    pub(super) fn flush(&self, limit: Duration) {
        let mut state = self.state();
        let (wanted, begin) = (state.pushed, Instant::now());
        while state.done < wanted {
            let since = state.writing_since.map_or(begin, |since| since.min(begin));
            let Some(left) = limit.checked_sub(since.elapsed()) else { return };
            state = self.less.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in here could only be for lack of memory; then the log is the least of it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&self, bytes: usize) -> bool {
        self.lines.len() < LINES_MAX && self.bytes + bytes <= BYTES_MAX
    }

    fn add(&mut self, line: Vec<u8>) {
        self.bytes += line.len();
        self.pushed += 1;
        self.lines.push_back(line);
    }

    fn take_gap(&mut self) -> Option<Vec<u8>> {
        let count = std::mem::take(&mut self.unsaid);
        (count > 0).then(|| {
            super::line("WARN", &format!("{} of the log lost here: nobody read it", super::lines(count)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn a_full_queue_loses_what_comes_and_says_so_in_its_place() {
        let queue = Queue::new();
        for number in 0..LINES_MAX + 3 {
            queue.push(format!("{number}\n").into_bytes());
        }
        assert_eq!(queue.lost(), 3);
        assert_eq!(queue.next(NOW).as_deref(), Some(&b"0\n"[..]));
        queue.push(b"late\n".to_vec());
        assert_eq!(queue.lost(), 3);
        let rest: Vec<String> =
            std::iter::from_fn(|| queue.next(NOW)).map(|line| String::from_utf8(line).unwrap()).collect();
        assert_eq!(rest.len(), LINES_MAX - 1 + 2);
        assert!(rest[rest.len() - 2].contains("WARN 3 lines of the log lost here"), "{rest:?}");
        assert_eq!(rest[rest.len() - 1], "late\n");
    }

    #[test]
    fn bytes_are_limited_and_losses_are_said_without_another_line() {
        let queue = Queue::new();
        queue.push(vec![b'x'; BYTES_MAX - 1]);
        queue.push(b"ab".to_vec());
        assert_eq!(queue.lost(), 1);
        assert_eq!(queue.next(NOW).map(|line| line.len()), Some(BYTES_MAX - 1));
        assert!(String::from_utf8(queue.next(NOW).unwrap()).unwrap().contains("1 line of the log lost here"));
        assert_eq!(queue.next(NOW), None);
    }

    #[test]
    fn flushing_waits_for_the_writer_and_not_for_one_that_is_stuck() {
        let queue = Queue::new();
        queue.push(b"x".to_vec());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let line = queue.next(Duration::from_secs(10));
                std::thread::sleep(Duration::from_millis(20));
                assert!(line.is_some() && queue.next(NOW).is_none());
            });
            queue.flush(Duration::from_secs(60));
        });
        assert_eq!(queue.state().done, 1);
        queue.push(b"y".to_vec());
        assert!(queue.next(NOW).is_some());
        let begin = Instant::now();
        queue.flush(Duration::from_millis(30));
        queue.flush(Duration::from_millis(30));
        assert!(begin.elapsed() >= Duration::from_millis(30) && begin.elapsed() < Duration::from_secs(20));
    }
}
