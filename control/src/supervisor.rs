//! systemd: when weir is ready, when it stops, and as long as it is well, its watchdog (`WatchdogSec=`).
//!
//! Its socket is somebody else's, who may not read it, so a thread of its own writes to it.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::debug;

use crate::rights;

/// What waits for systemd at most; a watchdog's food that finds no room is not missed.
const WAITING_MAX: usize = 4;
/// How often the watchdog is fed within its time.
const FEEDS: u32 = 3;

/// See the module.
pub(crate) struct Supervisor {
    states: SyncSender<NotifyState<'static>>,
    /// How often it wants to be fed, and when next.
    watchdog: Option<(Duration, Instant)>,
}

impl Supervisor {
    /// Without systemd there is nobody to tell, and it tells nobody.
    ///
    /// # Errors
    /// What the kernel says of a thread more.
    pub(crate) fn start() -> io::Result<Self> {
        let (states, waiting): (_, Receiver<NotifyState<'static>>) = sync_channel(WAITING_MAX);
        thread::Builder::new().name("weir-systemd".to_owned()).spawn(move || {
            rights::keep_or_say(rights::NONE, "weir-systemd");
            for state in waiting {
                if let Err(problem) = sd_notify::notify(&[state]) {
                    debug!("systemd is not told: {problem}");
                }
            }
        })?;
        let watchdog = sd_notify::watchdog_enabled().map(|limit| (limit / FEEDS, Instant::now()));
        Ok(Self { states, watchdog })
    }

    /// Tells it.
    pub(crate) fn tell(&self, state: NotifyState<'static>) {
        if self.states.try_send(state).is_err() {
            debug!("systemd does not take what it is told");
        }
    }

    /// Feeds the watchdog if it is hungry.
    pub(crate) fn feed(&mut self, now: Instant) {
        if let Some((interval, due)) = &mut self.watchdog
            && now >= *due
        {
            *due = now + *interval;
            self.tell(NotifyState::Watchdog);
        }
    }
}
