//! Connection tables that outlive this process: whether there are some, whether they can be taken over, who keeps those of now. Host interfaces
//! do so, too ([`taps`]).
//!
//! `weir_dataplane::kept` says what lies in them and why it may be trusted; here is where they come from and where they go.

mod holder;
mod taps;
mod watch;

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dpdk::kept::{KeptError, KeptMemory, Pages};
use rustix::time::{ClockId, clock_gettime};
use tracing::{info, warn};
use weir_config::model::Config;
use weir_dataplane::conn::table::{HashKey, Table};
use weir_dataplane::conn::template::Templates;
use weir_dataplane::kept::{
    Adopted, BOOK_LINES, Book, Census, Clock, Distribution, Header, Left, Machine, Opened, Refusal,
    Succession, lay_out,
};
use weir_dataplane::snapshot::Snapshot;
use weir_dataplane::snapshot::registry::Standing;

use crate::random::random_u64;
use crate::spread::Steering;
use holder::Holder;
pub(crate) use taps::{TapCounts, Taps};
use watch::Watched;

/// What the process before has left, and who had it.
pub(crate) struct Offer {
    holder: Option<Holder>,
    /// The book and the tables.
    left: Option<[OwnedFd; 2]>,
    /// Why they are not taken over, whatever they are.
    distrust: Option<&'static str>,
    taps: Arc<TapCounts>,
}

/// How large tables are to be.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    /// How many there are.
    pub(crate) workers: usize,
    /// Connections that each can hold.
    pub(crate) capacity: usize,
    /// Lines of each.
    pub(crate) table_lines: usize,
    /// Lines of IPv6 clients of each.
    pub(crate) client_lines: usize,
    /// Lines of all workers' templates, of IPv4 and of IPv6.
    pub(crate) template_lines: [usize; 2],
    /// Of which pages.
    pub(crate) pages: Pages,
}

impl Sizes {
    /// Whether tables with this header have them.
    fn are_of(self, header: &Header) -> bool {
        let Header { workers, capacity, table_lines, client_lines, template_lines, .. } = *header;
        let wanted = [self.workers, self.capacity, self.table_lines, self.client_lines];
        [workers, capacity, table_lines, client_lines] == wanted.map(|size| size as u64)
            && template_lines == self.template_lines.map(|lines| lines as u64)
    }
}

/// The workers' tables, and what goes with them.
pub(crate) struct Made {
    /// By worker.
    pub(crate) tables: Vec<Table>,
    /// Of all of them.
    pub(crate) templates: Templates,
    /// The cycle at which the workers' clocks began.
    pub(crate) epoch: u64,
    /// Connections of the process before may be with other workers than their packets.
    pub(crate) is_scattered: bool,
    /// What those name.
    pub(crate) standing: Standing,
    /// They are looked at while packets flow.
    pub(crate) succession: Option<Arc<Succession>>,
    /// How they are kept.
    pub(crate) kept: Option<Kept>,
    /// What there is to say of it.
    pub(crate) outcome: Option<Outcome>,
}

/// What became of the connections of the process before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// Who keeps them.
    pub(crate) by: &'static str,
    /// How many there were, and what became of them, before the first packet.
    pub(crate) told: Adopted,
    /// What is looked at since.
    pub(crate) succession: Option<Arc<Succession>>,
    /// How long that took, in seconds, with what was before; empty: it goes on.
    pub(crate) whole: Arc<OnceLock<f64>>,
    /// When all of it began.
    pub(crate) begun: Option<Instant>,
    /// In which way; `None`: there was nothing to take over.
    pub(crate) how: Option<&'static str>,
    /// How long it took before the first packet, in seconds.
    pub(crate) seconds: f64,
    /// Why it was not done.
    pub(crate) refused: Option<String>,
    /// Whether somebody keeps those of this process now.
    pub(crate) is_kept: Arc<AtomicBool>,
    /// Host interfaces.
    pub(crate) taps: Arc<TapCounts>,
}

/// The memory of the tables, as it is kept.
pub(crate) struct Kept {
    book: Book,
    /// Open, and so locked, as long as this process lives.
    files: [KeptMemory; 2],
    holder: Holder,
    /// The holder does not have them yet.
    is_new: bool,
    is_kept: Arc<AtomicBool>,
}

/// Why nothing is taken over.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error(transparent)]
    Memory(#[from] KeptError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Distrusted(&'static str),
    #[error("to read what was kept led to a panic")]
    Panic,
}

impl Outcome {
    /// How many there were, as far as they were looked at, and how many go on.
    pub(crate) fn figures(&self) -> [u64; 2] {
        let Adopted { found, kept, .. } = match &self.succession {
            Some(succession) => succession.adopted().0,
            None => self.told.clone(),
        };
        [found as u64, kept as u64]
    }

    /// Whether all were looked at.
    pub(crate) fn is_whole(&self) -> bool {
        self.succession.as_ref().is_none_or(|succession| succession.adopted().1)
    }

    /// Says when all were looked at, once.
    pub(crate) fn tell_of_end(&self) {
        let (Some(succession), Some(begun)) = (&self.succession, self.begun) else { return };
        if self.whole.get().is_none() && succession.adopted().1 {
            let seconds = *self.whole.get_or_init(|| begun.elapsed().as_secs_f64());
            let [found, adopted] = self.figures();
            info!(found, adopted, seconds, "all connections of the process before are taken over");
        }
    }
}

/// What the process before has left, opened.
struct Former {
    left: Left,
    /// Its connections are looked at while packets flow.
    succession: Option<Arc<Succession>>,
    /// It is of the sizes that are wanted.
    fits: bool,
    files: [KeptMemory; 2],
}

impl Offer {
    /// Asks whoever keeps things, if the file wants it. Host interfaces that the file does not have are given up, and so is all that is with
    /// somebody who is not to keep it any more. Who has no control socket of its own has no name of its own at a keeper either: what is there
    /// is another weir's.
    pub(crate) fn of(config: &Config, has_socket: bool, distrust: Option<&'static str>) -> (Self, Taps) {
        let mut passed = dpdk::files::passed_by_systemd();
        let holder = match config.connections.keep {
            true => Holder::find(config),
            false => None,
        };
        let holder = holder.filter(|holder| has_socket || !holder.knows_by_socket());
        let mut has_given_up = false;
        if !matches!(holder, Some(Holder::Systemd)) && !passed.is_empty() {
            holder::forget_all_in_systemd();
            passed.clear();
            has_given_up = true;
        }
        if has_socket && !matches!(holder, Some(Holder::Keeper(..))) {
            has_given_up |= holder::forget_all_in_keeper(config);
        }
        let left = holder.as_ref().and_then(|holder| holder.left(&mut passed));
        let taps = holder.as_ref().map(|holder| holder.left_taps(passed)).unwrap_or_default();
        let names: Vec<&str> =
            config.ports.iter().filter_map(|port| port.host_interface.as_deref()).collect();
        let taps = Taps::new(holder.clone(), taps, (&names, has_given_up));
        (Self { holder, left, distrust, taps: taps.counts() }, taps)
    }

    /// What devices' keys were drawn from, so that flows come to the workers that have their connections; else something new.
    pub(crate) fn seed(&self) -> Result<[u64; 2]> {
        let before = || {
            let [book, _] = self.left.as_ref().filter(|_| self.distrust.is_none())?;
            let mut file = KeptMemory::adopt(book.try_clone().ok()?).ok()?;
            let (book, ..) = Book::read(file.cut(BOOK_LINES)?, &machine().ok()?).ok()?;
            Some(book.distribution()?.seed)
        };
        before().map_or_else(|| Ok([random_u64()?, random_u64()?]), Ok)
    }

    /// Tables of these sizes that are kept, with the connections that were left if they can be taken over. `None`: nobody would keep
    /// them.
    pub(crate) fn tables(
        self,
        sizes: Sizes,
        config: &Config,
        (distribution, steering): (Distribution, &Steering),
    ) -> Result<Option<Made>> {
        let Some(holder) = self.holder else { return Ok(None) };
        let (machine, begun) = (machine()?, Instant::now());
        let mut outcome = Outcome { by: holder.name(), taps: self.taps, ..Outcome::default() };
        let former = self.left.map(|files| match self.distrust {
            Some(reason) => Err(Obstacle::Distrusted(reason)),
            // A fault there would come again at each start.
            None => catch_unwind(AssertUnwindSafe(|| Former::open(files, &machine, config, sizes)))
                .unwrap_or(Err(Obstacle::Panic)),
        });
        let former = match former {
            None => None,
            Some(Ok(former)) => Some(former),
            Some(Err(Obstacle::Memory(problem @ KeptError::InUse))) => {
                warn!("{problem}: connections of this one end with it");
                return Ok(None);
            }
            Some(Err(obstacle)) => {
                warn!("no connection is taken over: {obstacle}");
                outcome.refused = Some(obstacle.to_string());
                None
            }
        };
        let before = former.as_ref().map(|former| former.left.book.distribution());
        let told = former.as_ref().map_or_else(Adopted::default, |former| former.left.adopted.clone());
        let made = match former {
            Some(former) if former.fits => {
                outcome.how = Some("in place");
                former.go_on(holder)
            }
            Some(former) => {
                outcome.how = Some("anew");
                former.put_anew(sizes, holder, &machine, steering)?
            }
            None => fresh(sizes, holder, &machine)?,
        };
        outcome.told = Adopted { kept: made.tables.iter().map(Table::len).sum(), ..told };
        outcome.succession = made.succession.clone();
        let is_alone = sizes.workers == 1 || outcome.succession.is_none() && outcome.told.kept == 0;
        let is_scattered = !is_alone && before.is_some_and(|before| !distribution.goes_on(before));
        if is_scattered {
            info!(
                "flows may come to other workers than those that have their connections, which costs some speed"
            );
        }
        let print = if is_scattered { 0 } else { distribution.print };
        made.kept.iter().for_each(|kept| kept.book.spread_by(Distribution { print, ..distribution }));
        outcome.seconds = begun.elapsed().as_secs_f64();
        outcome.begun = Some(begun);
        if let Some(how) = outcome.how {
            let (seconds, Adopted { found, kept, templates, rebuilt }) = (outcome.seconds, &outcome.told);
            let is_whole = outcome.succession.is_none();
            info!(
                found,
                adopted = kept,
                templates,
                how,
                rebuilt,
                is_whole,
                seconds,
                "connections of the process before go on"
            );
        }
        outcome.is_kept = made.kept.as_ref().map(|kept| kept.is_kept.clone()).unwrap_or_default();
        Ok(Some(Made { outcome: Some(outcome), is_scattered, ..made }))
    }
}

impl Former {
    fn open(files: [OwnedFd; 2], machine: &Machine, config: &Config, sizes: Sizes) -> Result<Self, Obstacle> {
        let [book, tables] = files;
        let book = KeptMemory::adopt(book)?;
        book.lock()?;
        let mut files = [book, KeptMemory::adopt(tables)?];
        let opened = Opened::of(&mut files, machine, config)?;
        let fits = sizes.are_of(&opened.header());
        let (left, succession) = if fits { opened.by_and_by(config) } else { (opened.at_once(), None) };
        Ok(Self { left, succession, fits, files })
    }

    /// Takes it over in its place.
    fn go_on(self, holder: Holder) -> Made {
        let Left { book, clock, numbers, tables, templates, .. } = self.left;
        book.go_on(&clock);
        let standing = match self.succession {
            Some(_) => Standing::expected(&numbers, tables.len()),
            None => Standing::of(&tables, &templates, &numbers),
        };
        Made {
            standing,
            succession: self.succession,
            tables,
            templates,
            epoch: clock.epoch,
            is_scattered: false,
            kept: Some(Kept::new(book, self.files, holder, false)),
            outcome: None,
        }
    }

    /// Puts its connections into tables of other sizes.
    fn put_anew(self, sizes: Sizes, holder: Holder, machine: &Machine, steering: &Steering) -> Result<Made> {
        let Left { book, header, clock, numbers, judge, tables, templates, .. } = self.left;
        let census = Census::of(&tables, &templates);
        // Huge pages are not there twice.
        holder.forget();
        drop((tables, templates, book, self.files));
        let Fresh { mut tables, templates, book, files } = Fresh::new(sizes, header.key, &clock, machine)?;
        census.put_into(&mut tables, &templates, &judge, |asked| steering.worker(asked));
        Ok(Made {
            standing: Standing::of(&tables, &templates, &numbers),
            succession: None,
            tables,
            templates,
            epoch: clock.epoch,
            is_scattered: false,
            kept: Some(Kept::new(book, files, holder, true)),
            outcome: None,
        })
    }
}

/// Tables without connections.
fn fresh(sizes: Sizes, holder: Holder, machine: &Machine) -> Result<Made> {
    let key = HashKey::draw(random_u64)?;
    let clock = Clock::new(machine);
    let Fresh { tables, templates, book, files } = Fresh::new(sizes, key.parts(), &clock, machine)?;
    Ok(Made {
        tables,
        templates,
        epoch: clock.epoch,
        is_scattered: false,
        standing: Standing::default(),
        succession: None,
        kept: Some(Kept::new(book, files, holder, true)),
        outcome: None,
    })
}

/// Memory that nobody has used yet.
struct Fresh {
    tables: Vec<Table>,
    templates: Templates,
    book: Book,
    files: [KeptMemory; 2],
}

impl Fresh {
    fn new(sizes: Sizes, key: [u64; 2], clock: &Clock, machine: &Machine) -> Result<Self> {
        let header = Header {
            boot: machine.boot,
            session: random_u64()?,
            workers: sizes.workers as u64,
            capacity: sizes.capacity as u64,
            table_lines: sizes.table_lines as u64,
            client_lines: sizes.client_lines as u64,
            template_lines: sizes.template_lines.map(|lines| lines as u64),
            key,
        };
        let octets = header.lines() as usize * size_of::<dpdk::Line>();
        let wanted =
            || format!("{} MiB for connection tables ([connections] capacity, templates)", octets >> 20);
        let mut file = memory(octets, sizes.pages).with_context(wanted)?;
        let book_octets = BOOK_LINES * size_of::<dpdk::Line>();
        let mut book_file = KeptMemory::create(holder::NAMES[0], book_octets, Pages::Sparse)
            .context("memory for what connections name")?;
        book_file.lock()?;
        let short = || "the memory that was just made is too small";
        let front = file.cut(1).with_context(short)?;
        let lines = book_file.cut(BOOK_LINES).with_context(short)?;
        let book = Book::begin(lines, &front[0], &header, clock);
        let pieces = lay_out(&header, |lines| file.cut(lines)).with_context(short)?;
        let key = header.hash_key();
        let table = |(lines, clients)| Table::new(lines, sizes.capacity, key).with_clients(clients);
        let (v4, v6) = pieces.templates;
        Ok(Self {
            tables: pieces.tables.into_iter().map(table).collect(),
            templates: Templates::new(v4, v6, key),
            book,
            files: [book_file, file],
        })
    }
}

/// Huge pages if they are wanted and there are any.
fn memory(octets: usize, pages: Pages) -> Result<KeptMemory, KeptError> {
    match KeptMemory::create(holder::NAMES[1], octets, pages) {
        Err(problem) if pages == Pages::Huge => {
            warn!("connection tables are in ordinary pages: {problem}: expect less speed");
            KeptMemory::create(holder::NAMES[1], octets, Pages::Ordinary)
        }
        made => made,
    }
}

impl Kept {
    fn new(book: Book, files: [KeptMemory; 2], holder: Holder, is_new: bool) -> Self {
        Self { book, files, holder, is_new, is_kept: Arc::default() }
    }

    /// Before the first snapshot is in force: from here on the next process can take over.
    /// False: nobody keeps it for that one, or ever will.
    pub(crate) fn begin(&mut self, first: &Snapshot) -> bool {
        self.note(first);
        self.book.complete();
        let files = self.files.each_ref().map(AsFd::as_fd);
        let done = if self.is_new { self.holder.keep(&files) } else { Ok(()) };
        if let Err(problem) = &done {
            warn!("connections end with this process, since nobody keeps them: {problem}");
        }
        self.is_kept.store(done.is_ok(), Relaxed);
        let Holder::Keeper(keeper, taps) = &self.holder else { return done.is_ok() };
        let watched = |files| Watched {
            keeper: keeper.clone(),
            files,
            taps: taps.clone(),
            is_kept: self.is_kept.clone(),
        };
        match files.map(|file| file.try_clone_to_owned()) {
            [Ok(book), Ok(tables)] => watched([book, tables]).begin(),
            _ => warn!(
                "a weir-keeper that begins anew will not be told of connections, for lack of descriptors"
            ),
        }
        true
    }

    /// Before any other snapshot is in force.
    pub(crate) fn note(&mut self, next: &Snapshot) {
        self.book.note(next);
    }
}

fn machine() -> Result<Machine> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(path).with_context(|| path.to_owned())?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let boot = u128::from_str_radix(&digits, 16).with_context(|| format!("{path} has no number"))?;
    let passed = clock_gettime(ClockId::Boottime);
    let passed = Duration::new(passed.tv_sec.unsigned_abs(), passed.tv_nsec as u32);
    Ok(Machine {
        boot: [(boot >> 64) as u64, boot as u64],
        cycles: dpdk::tsc(),
        hz: dpdk::tsc_hz(),
        boot_millis: passed.as_millis() as u64,
    })
}
