//! What the kernel knows of a thread that makes no turns: whether it runs, waits for a CPU, or waits for something else.

use std::fs;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use rustix::thread::Pid;

/// Of clocks of threads, by the kernel's `posix-timers_types.h`: of one thread, and as the scheduler counts.
const CPU_CLOCK_OF_THREAD: i32 = 4 | 2;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Condition {
    /// How long it has had a CPU since it began.
    pub(crate) ran: Duration,
    /// As ps shows it: `R` runs or waits for a CPU, `S` and `D` wait for something, `T` and `t` are stopped.
    pub(crate) state: char,
}

impl Condition {
    /// Whether it would run if it were given a CPU.
    pub(crate) fn wants_cpu(self) -> bool {
        self.state == 'R'
    }

    /// Of a thread of this process; `None`: it is gone, or there is no `/proc`.
    pub(crate) fn of(thread: Pid) -> Option<Self> {
        let thread = thread.as_raw_nonzero().get();
        let clock = ClockId::from_raw((!thread << 3) | CPU_CLOCK_OF_THREAD);
        let ran = clock_gettime(clock).ok()?.into();
        let stat = fs::read(format!("/proc/self/task/{thread}/stat")).ok()?;
        Some(Self { ran, state: state(&String::from_utf8_lossy(&stat))? })
    }
}

/// The state in a line of `/proc/PID/stat`. It stands behind the name, which may hold anything.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(") ")?.1.chars().next()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Instant;

    use rustix::thread::gettid;

    use super::*;

    #[test]
    fn a_thread_that_sleeps_is_told_from_one_that_runs() {
        let (sender, threads) = channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let (to_busy, busy_is_over) = (sender.clone(), is_over.clone());
        let busy = thread::spawn(move || {
            to_busy.send(("busy", gettid())).unwrap();
            while !busy_is_over.load(Relaxed) {
                std::hint::spin_loop();
            }
        });
        let sleeps = thread::spawn(move || {
            sender.send(("sleeps", gettid())).unwrap();
            thread::park();
        });
        let end = Instant::now() + Duration::from_secs(60);
        for (name, id) in [threads.recv().unwrap(), threads.recv().unwrap()] {
            let begin = Condition::of(id).unwrap();
            loop {
                assert!(Instant::now() < end, "{name}: {:?}", Condition::of(id));
                let now = Condition::of(id).unwrap();
                let has_run = now.ran >= begin.ran + Duration::from_millis(20);
                match name {
                    "busy" if has_run && now.wants_cpu() => break,
                    "sleeps" if now.state == 'S' => break,
                    _ => thread::sleep(Duration::from_millis(1)),
                }
            }
        }
        is_over.store(true, Relaxed);
        sleeps.thread().unpark();
        busy.join().unwrap();
        sleeps.join().unwrap();
    }

    #[test]
    fn the_state_stands_behind_any_name() {
        assert_eq!(state("7 (weir-vrrp) S 1 7 7"), Some('S'));
        assert_eq!(state("7 (a) R (b) D 1"), Some('D'));
        assert_eq!(state(""), None);
    }
}
