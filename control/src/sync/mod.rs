//! `[sync]`: connections that other directors have, so that they go on when their packets come here.
//!
//! ```text
//!  socket.rs -> weir-sync (datagrams) -> take.rs -> templates, or what waits for its first packet (dataplane/src/foretold.rs)
//! ```
//! A thread of its own listens, so that a flood of datagrams takes its time and nobody else's. What comes in is believed as the kernel
//! believes it: who can send to the group on that interface can tell of connections. All that it can do is have packets go to a real
//! server that the file names for their virtual server, and take up room up to a bound.

mod figures;
mod socket;
mod take;

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use socket2::Socket;
use tracing::{error, info, warn};
use weir_config::model::{self, Config};

pub(crate) use self::figures::{Figures, Kind, Reason};
pub(crate) use self::take::Taker;
use crate::rights;

/// How long a thread that listens does not hear that it is to end, and how often it looks whether its interface is still the same.
const PAUSE: Duration = Duration::from_millis(250);
/// From one attempt to listen to the next.
const RETRY: Duration = Duration::from_secs(1);
/// The largest datagram.
const DATAGRAM_MAX: usize = 1 << 16;
/// What waits for its first packet is looked through so many times as slowly as control ticks.
const SWEEP_TICKS: usize = 64;

/// See the module.
pub(crate) struct Sync {
    taker: Arc<Taker>,
    settings: Option<model::Sync>,
    /// Tells the thread that listens to end.
    listening: Option<Arc<AtomicBool>>,
    /// Where the sweep goes on.
    turn: usize,
}

impl Sync {
    /// With nobody to listen to.
    pub(crate) fn new(taker: Arc<Taker>) -> Self {
        Self { taker, settings: None, listening: None, turn: 0 }
    }

    /// Listens from now on as this file says. To be called on a thread that runs where the one is to run that listens.
    pub(crate) fn follow(&mut self, file: &Config) {
        if self.settings == file.sync {
            return;
        }
        self.settings.clone_from(&file.sync);
        self.end();
        let Some(settings) = self.settings.clone() else { return };
        let is_over = Arc::new(AtomicBool::new(false));
        self.listening = Some(is_over.clone());
        let taker = self.taker.clone();
        let run = move || run(&settings, &taker, &is_over);
        if let Err(problem) = thread::Builder::new().name("weir-sync".to_owned()).spawn(run) {
            // It is tried again when the file is read next.
            self.settings = None;
            error!("nobody listens to other directors ([sync]), for lack of a thread: {problem}");
        }
    }

    /// Lets go of some connections whose time is over and whose packets never came.
    pub(crate) fn sweep(&mut self) {
        let foretold = self.taker.foretold();
        let parts = foretold.parts().div_ceil(SWEEP_TICKS);
        self.turn = foretold.sweep(self.turn, parts, self.taker.seconds());
    }

    /// Listens no more.
    pub(crate) fn end(&mut self) {
        if let Some(is_over) = self.listening.take() {
            is_over.store(true, Relaxed);
        }
    }
}

/// Listens until it is told to end, and tries again where it can't.
fn run(settings: &model::Sync, taker: &Taker, is_over: &AtomicBool) {
    rights::keep_or_say(rights::NONE, "weir-sync");
    let model::Sync { interface, group, port, id, .. } = settings;
    let mut said = String::new();
    while !is_over.load(Relaxed) {
        let why = match socket::open(settings) {
            Ok((socket, index)) => {
                info!(%interface, %group, port, id, "what other directors tell of connections is heard");
                said.clear();
                taker.figures().while_listening(|| listen(&socket, (settings, index), taker, is_over))
            }
            Err(problem) => Some(problem.to_string()),
        };
        if let Some(why) = why.filter(|why| *why != said) {
            warn!(%interface, %group, port, "what other directors tell of connections is not heard: {why}");
            said = why;
        }
        if !is_over.load(Relaxed) {
            thread::sleep(RETRY);
        }
    }
}

/// Listens as long as it can. Returns why it can't any more; `None`: it was told to end.
fn listen(
    socket: &Socket,
    (settings, index): (&model::Sync, u32),
    taker: &Taker,
    is_over: &AtomicBool,
) -> Option<String> {
    let mut datagram = vec![0; DATAGRAM_MAX];
    while !is_over.load(Relaxed) {
        match socket::receive(socket, &mut datagram) {
            Ok(length) => taker.take(datagram.get(..length).unwrap_or_default(), settings.id),
            Err(problem) if problem.kind() == ErrorKind::Interrupted => {}
            Err(problem) if matches!(problem.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if socket::index_of(socket, &settings.interface).ok() != Some(index) {
                    return Some("the interface has gone".to_owned());
                }
            }
            Err(problem) => return Some(problem.to_string()),
        }
    }
    None
}
