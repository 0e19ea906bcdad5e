//! Workers and control: made, launched, stopped.
//!
//! The process's first thread is EAL's main lcore. With several lcores it waits while the workers run on the others
//! and control runs on threads of its own. With one lcore it is the worker itself. Which cores are control's: [`crate::spawn`].

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dpdk::kept::Pages;
use dpdk::memory::{MemoryError, Slab};
use dpdk::port::StartedPort;
use dpdk::{Eal, EalError, LcoreId, Line, SocketId};
use tracing::{info, warn};
use weir_config::edit::Editor;
use weir_config::model::{Config, MacAddress};
use weir_dataplane::clock::Clock;
use weir_dataplane::conn::clients::Clients;
use weir_dataplane::conn::extra::Extras;
use weir_dataplane::conn::state::Lifetimes;
use weir_dataplane::conn::table::{HashKey, Table, View};
use weir_dataplane::conn::template::Templates;
use weir_dataplane::director::Shared;
use weir_dataplane::foretold::Foretold;
use weir_dataplane::pieces::Pieces;
use weir_dataplane::punt::Punt;
use weir_dataplane::snapshot::registry::Standing;
use weir_dataplane::worker::Worker;
use weir_health::checker::{Checker, Handle};

use crate::announce::{self, Announce};
use crate::apply::Apply;
use crate::carrier::Carrier;
use crate::control::{Control, Doors};
use crate::crash::{Crashes, Lesson};
use crate::flags::{FAILED, Flags};
use crate::health::{ForwardingWays, HealthThread};
use crate::host::Host;
use crate::kept::{Made, Offer, Sizes, Taps};
use crate::memory::{Need, Shortage, Supply};
use crate::ports::Ports;
use crate::publish::Publish;
use crate::random::random_u64;
use crate::rights::{Identity, Rights};
use crate::signals;
use crate::sources::PortSource;
use crate::spawn::{AtEnd, Cores, Spawner, guarded};
use crate::threads::{Pulse, Role};
use crate::vrrp::port_end::PortEnd;
use crate::vrrp::{self, Vrrp};

/// Control connections of FTP that there is room for, of all workers: 2 MiB.
const CONTROLS: usize = 8_192;
/// How long a worker may take to end: its pass, and a burst that is sent.
const WORKER_END: Duration = Duration::from_secs(2);

/// Who runs where.
pub(crate) struct Lcores {
    /// Those besides the first: none where that one is the worker.
    workers: Vec<LcoreId>,
    /// By worker number.
    of_workers: Vec<LcoreId>,
    /// Where control's threads run.
    control: Cores,
}

impl Lcores {
    /// The first lcore is control's and every further one a worker; one alone is the worker.
    pub(crate) fn of(eal: &Eal) -> Self {
        let main = eal.main_lcore();
        let workers = eal.worker_lcores();
        let control = match workers.is_empty() {
            true => Cores::Floating(eal.initial_cpus().into()),
            false => Cores::Own(main.cpu()),
        };
        let of_workers = if workers.is_empty() { vec![main] } else { workers.clone() };
        Self { workers, of_workers, control }
    }

    /// Cores that control's threads may use.
    pub(crate) fn control_cpus(&self) -> &[usize] {
        self.control.all()
    }

    /// How many workers there can be.
    pub(crate) fn workers(&self) -> usize {
        self.of_workers.len()
    }
}

/// Everything that runs, not running yet.
pub(crate) struct Prepared {
    workers: Vec<Worker>,
    control: Control,
    checker: Checker,
    health: Handle,
    host: Option<Host>,
    vrrp: vrrp::Thread,
    announcer: Option<announce::Thread>,
    rights: Rights,
}

/// Takes the memory of all tables and makes the workers and control.
pub(crate) fn prepare(
    (eal, lcores): (&Eal, &Lcores),
    path: &Path,
    (config, editor): (Config, Editor),
    ports: &mut Ports,
    (offer, taps, lesson): (Offer, Taps, &Lesson),
) -> Result<Prepared> {
    let count = ports.queues.len();
    ports.warn_of_distance(&config, &lcores.of_workers);
    let shortage = ports.shortage(eal, &config);
    let capacity = config.connections.capacity as usize;
    let templates = config.templates();
    let names: Vec<String> = config.ports.iter().map(|port| port.name.clone()).collect();
    let sleep = ports.sleep(&config);
    let (checker, health) = Checker::new(&config, random_u64()?);
    let links = ports.by_number().map(|(port, _)| port.stats_reader());
    let mut punts: Vec<Punt> = (0..count).map(|_| Punt::default()).collect();
    let (host, host_control) = Host::create(&config, &ports.macs, links, &mut punts, taps)?.unzip();
    let ends = port_ends(&config, ports);
    let fences = ends.iter().map(|end| end.fence.clone()).collect();
    let file = config.clone();
    let fragments = config.connections.fragments as usize;
    let table_lines = Table::lines_beside(capacity, templates);
    let client_lines = Clients::lines_for(config.ipv6_clients());
    let pages = if eal.has_hugepages() { Pages::Huge } else { Pages::Ordinary };
    let template_lines =
        [Templates::lines_for(templates), Templates::lines_for_ipv6(config.ipv6_templates())];
    let sizes = Sizes { workers: count, capacity, table_lines, client_lines, template_lines, pages };
    let spread = (ports.distribution(), &ports.steering(&config));
    let made = match offer.tables(sizes, &config, spread).with_context(shortage)? {
        Some(made) => made,
        None => own_tables(eal, (&lcores.of_workers[..count], ports.first_socket()), sizes)
            .with_context(shortage)?,
    };
    let Made { tables, templates, epoch, is_scattered, standing, succession, kept, outcome } = made;
    let mut shared = Shared::new(count, config.ports.len());
    let flows_move = ports.flows_move || is_scattered;
    let pieces = Pieces::new(fragments, [random_u64()?, random_u64()?]).context("[connections] fragments")?;
    let pieces = Arc::new(pieces);
    let goes_on = succession.is_some() || tables.iter().any(|table| !table.is_empty());
    if count > 1 && goes_on {
        // The process before knew which of their flows come to several workers. Those that go on tell within the time of theirs.
        let now = Clock::new(dpdk::tsc_hz(), epoch).at(dpdk::tsc());
        let longest = Lifetimes::new(&file.connections.timeouts).longest();
        shared[0].displaced.suspect_all(now.seconds + longest);
    }
    let extras = Arc::new(Extras::new(CONTROLS, [random_u64()?, random_u64()?]));
    let first_idents = random_u64()?;
    // As many as can go on.
    let foretold = Arc::new(Foretold::new(count * capacity, [random_u64()?, random_u64()?]));
    shared.iter_mut().for_each(|shared| {
        shared.foretold = foretold.clone();
        shared.flows_move = flows_move;
        shared.pieces = pieces.clone();
        shared.extras = extras.clone();
        shared.first_idents = first_idents;
    });
    let views: Arc<[View]> = tables.iter().map(Table::view).collect();
    let templates = Arc::new(templates);
    let workers = (shared.clone(), templates.clone());
    let publish = Publish::new(config, &health, ports.macs.clone(), fences, workers, (kept, &standing))?;
    if let Some(succession) = succession {
        succession.begin(publish.shared().load().as_ref());
    }
    let is_kept = publish.is_kept();
    let told = (publish.masters(), health.notifier());
    let (vrrp, vrrp_control, vrrp_thread) = Vrrp::new(&file, ends, &mut punts, &shared, told);
    let checker = match &host {
        Some(host) => {
            checker.with_ways(&file, Arc::new(ForwardingWays::new(publish.shared(), host.probes())))
        }
        None => checker,
    };
    let vlans = Ports::vlans(&file);
    let mut workers = Vec::with_capacity(count);
    let queues = std::mem::take(&mut ports.queues);
    for (((queues, table), shared), punt) in queues.into_iter().zip(tables).zip(&shared).zip(punts) {
        workers.push(Worker {
            shared: shared.clone(),
            table,
            views: views.clone(),
            templates: templates.clone(),
            reader: publish.reader(),
            punt,
            pool: ports.pool_of(&queues),
            receive: queues.receive,
            transmit: queues.transmit,
            vlans: vlans.clone(),
            sleep,
            epoch,
            caution: lesson.caution.clone(),
        });
    }
    info!(
        workers = count,
        capacity,
        mebibytes = (count * (table_lines + client_lines) * size_of::<Line>()) >> 20,
        "connection tables ready"
    );
    let sources =
        names.into_iter().zip(ports.by_number()).enumerate().map(|(number, (name, (port, index)))| {
            let counters = host.as_ref().and_then(|host| host.counters(number));
            let rss = if count > 1 { port.rss() } else { None };
            let device = Carrier::new(port.stats_reader(), index, number >= file.devices().len());
            let written = &file.ports[number];
            let vlan = written.vlan.map(|vlan| vlan.id);
            let source = PortSource::new(name, device).with_place(written.device.clone(), vlan);
            source.with_host(counters).with_rss(rss)
        });
    let sources = sources.collect();
    let apply = Apply::new((publish, editor), health.clone(), vrrp_control, host_control);
    let config = (path.to_owned(), apply);
    let outcome = outcome.filter(|_| is_kept);
    let (announce, announcer) = Announce::new(&file, (health.quorums(), vrrp.status()), count).unzip();
    let kept = (capacity as u64, outcome);
    let control = Control::new(config, health.clone(), (vrrp, announce), shared, views, sources, kept)?;
    let rights = Rights { has_kernel_ports: ports.by_number().any(|(_, index)| index != 0) };
    Ok(Prepared { workers, control, host, checker, health, vrrp: vrrp_thread, announcer, rights })
}

/// What VRRP needs of each port.
fn port_ends(config: &Config, ports: &Ports) -> Vec<PortEnd> {
    let ends = config.ports.iter().zip(&ports.macs).zip(ports.by_number());
    let end =
        |((port, mac), (started, _)): ((&weir_config::model::Port, &MacAddress), (&StartedPort, u32))| {
            let filter = started.filter();
            PortEnd {
                name: port.name.clone(),
                mac: *mac,
                receive: Box::new(move |mac| filter.receive_for(mac)),
                fence: Arc::default(),
            }
        };
    ends.map(end).collect()
}

/// A failure of EAL to start, with how much memory weir is going to want if it is that.
pub(crate) fn explain_eal(problem: EalError, config: &Config) -> anyhow::Error {
    let is_memory = matches!(problem, EalError::NoMemory(_) | EalError::PermissionDenied);
    let explained = anyhow::Error::new(problem);
    if !is_memory {
        return explained;
    }
    // How many workers there would be EAL did not get to say.
    explained.context(Shortage { need: Need::of(config, 1, 1), supply: Supply::now(true), workers: 1 })
}

/// Tables that end with this process.
fn own_tables(eal: &Eal, (lcores, of_templates): (&[LcoreId], SocketId), sizes: Sizes) -> Result<Made> {
    let key = HashKey::draw(random_u64)?;
    let table = |lcore: &LcoreId| {
        let memory = |lines| table_memory(eal, lines, lcore.socket());
        let table = Table::new(memory(sizes.table_lines)?, sizes.capacity, key);
        Ok(table.with_clients(memory(sizes.client_lines)?))
    };
    let tables = lcores.iter().map(table).collect::<Result<_>>()?;
    let [v4, v6] = sizes.template_lines.map(|lines| table_memory(eal, lines, of_templates));
    Ok(Made {
        tables,
        templates: Templates::new(v4?, v6?, key),
        epoch: dpdk::tsc(),
        is_scattered: false,
        standing: Standing::default(),
        succession: None,
        kept: None,
        outcome: None,
    })
}

/// Memory for one table: huge pages of the worker's node if there are any.
fn table_memory(eal: &Eal, lines: usize, socket: SocketId) -> Result<Slab<Line>> {
    let wanted = || {
        format!("{} MiB for a connection table ([connections] capacity)", (lines * size_of::<Line>()) >> 20)
    };
    if !eal.has_hugepages() {
        return Slab::heap(lines).with_context(wanted);
    }
    let slab: Result<Slab<Line>, MemoryError> = Slab::hugepages(eal, lines, socket);
    let slab = slab.with_context(wanted)?;
    if !slab.is_local() {
        let node = socket.node().map_or_else(String::new, |node| format!(" {node}"));
        warn!(
            "a connection table is not on NUMA node{node}, where its worker is, for lack of hugepages there: expect less \
             speed"
        );
    }
    Ok(slab)
}

/// Runs until something stops it.
pub(crate) fn run(
    (eal, lcores): (&Eal, &Lcores),
    prepared: Prepared,
    doors: Doors,
    (identity, crashes): (&Identity, (Option<&Path>, &Lesson)),
    flags: Flags,
) -> Result<()> {
    let Prepared { workers, control, host, checker, health, vrrp, announcer, rights } = prepared;
    let count = workers.len();
    rights.settle(eal, identity)?;
    // Health checks and hooks may be programs of another user. Only now, for the memory of tables has files, and so has EAL's thread since
    // it was given something.
    if let Err(problem) = dpdk::files::close_on_exec() {
        warn!("programs started by weir will have its files open: {problem}");
    }
    let crashes = Crashes::start(crashes, lcores.control_cpus(), &flags)?;
    let spawner = Spawner::new(flags.clone(), lcores.control.clone(), rights);
    let health = HealthThread::start(checker, health, &spawner)?;
    let stuck = control.stuck();
    let control = move |flags: &Flags, _: &Pulse| control.run(doors, flags, count);
    let control = spawner.spawn(Role::Control, AtEnd::Stop, control)?;
    let host = host.map(|host| {
        let run = move |flags: &Flags, pulse: &Pulse| {
            host.run(flags, pulse);
            Ok(())
        };
        spawner.spawn(Role::Host, AtEnd::Stop, run)
    });
    let host = host.transpose()?;
    // One that fails ends weir, so that no addresses are held by half of it.
    let run = move |flags: &Flags, pulse: &Pulse| {
        vrrp.run(flags, pulse);
        Ok(())
    };
    let vrrp = spawner.spawn(Role::Vrrp, AtEnd::GoOn, run)?;
    let announcer = announcer.map(|announcer| {
        let run = move |flags: &Flags, pulse: &Pulse| announcer.run(flags, pulse, &stuck);
        spawner.spawn(Role::Announce, AtEnd::GoOn, run)
    });
    let announcer = announcer.transpose()?;
    rights.take_first();
    let mut running = Vec::new();
    if lcores.workers.is_empty() {
        for (number, worker) in workers.into_iter().enumerate() {
            guarded(&flags, Role::Worker(number), AtEnd::GoOn, || {
                run_worker(number, worker, &crashes, &flags);
                Ok(())
            });
        }
    } else {
        for ((number, worker), &lcore) in workers.into_iter().enumerate().zip(&lcores.workers) {
            let (theirs, crashes) = (flags.clone(), crashes.clone());
            let work = move || {
                rights.take(Role::Worker(number));
                run_worker(number, worker, &crashes, &theirs);
            };
            let launched = eal.launch(lcore, Box::new(work));
            if let Err(problem) = launched {
                tracing::error!("worker on {lcore}: {problem}");
                flags.fail();
                break;
            }
            running.push(lcore);
        }
    }
    // The threads before the workers, although all end together: a thread's end wakes who waits for it, a worker's has to be looked
    // for, and a thousand looks a second would cost control's CPU 2 % of its time.
    for thread in [Some(control), host, Some(vrrp), announcer].into_iter().flatten() {
        if thread.join().is_err() {
            flags.fail();
        }
    }
    signals::bound(&flags, true);
    end_workers(eal, &running, &flags);
    // Hooks and checks are ended in time, by this thread.
    flags.wishes.waiting_for(Role::Health.to_string());
    health.stop();
    flags.wishes.waiting_for("the notes of a panic");
    crashes.finish();
    if flags.threads.that_panicked().iter().any(|role| matches!(role, Role::Worker(_))) {
        // What it held may be half changed, and EAL's memory with it: nothing is given back.
        signals::end(FAILED);
    }
    flags.wishes.waiting_for("the end of the devices and of EAL");
    if flags.failed.load(SeqCst) {
        bail!("stopped after a failure");
    }
    info!("stopped");
    Ok(())
}

/// Waits for the workers. With one that does not end nothing can be given back, since it may be using it: the process ends.
fn end_workers(eal: &Eal, running: &[LcoreId], flags: &Flags) {
    let deadline = Instant::now() + WORKER_END;
    let mut hang = false;
    for (number, &lcore) in running.iter().enumerate() {
        flags.wishes.waiting_for(format!("worker {number} on lcore {lcore}"));
        if !eal.wait_until(lcore, deadline) {
            tracing::error!(
                worker = number,
                "the worker on lcore {lcore} does not end; weir ends without it"
            );
            hang = true;
        }
    }
    if hang {
        signals::end(FAILED);
    }
}

fn run_worker(number: usize, worker: Worker, crashes: &Crashes, flags: &Flags) {
    let _presence = flags.threads.enter(Role::Worker(number));
    let started = || {
        flags.polling.fetch_add(1, SeqCst);
    };
    worker.run(&flags.stop, started, |crash| crashes.note(number, crash));
}
