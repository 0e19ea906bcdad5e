//! How far several workers stray from the picks of one.
//!
//! The virtual server is the real one: snapshot, scheduler, a state for each worker, counters that workers sum. Only the
//! packets are left out. A flow is a pick and a connection counted in at the worker it comes to, and later counted out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use weir_config::model::Protocol;
use weir_dataplane::conn::record::ServerId;
use weir_dataplane::conn::state::tcp::ESTABLISHED;
use weir_dataplane::sched::{Options, PickKey};
use weir_dataplane::snapshot::Snapshot;
use weir_dataplane::snapshot::registry::{Progress, Registry};
use weir_dataplane::snapshot::service::Service;

use crate::frames::{OWN, VIP, client};
use crate::lab::{base, read};

/// To which worker each flow comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As RSS spreads them: as good as random.
    Rss,
    /// To each worker in turn.
    Turns,
    /// 64 to one worker, then 64 to the next.
    Bursts,
    /// One for each worker at the same instant: all pick before any of them is counted.
    AtOnce,
}

impl Order {
    /// Every order.
    pub const ALL: [Order; 4] = [Order::Rss, Order::Turns, Order::Bursts, Order::AtOnce];

    /// In a heading.
    pub fn name(self) -> &'static str {
        match self {
            Order::Rss => "as RSS",
            Order::Turns => "in turn",
            Order::Bursts => "64 each",
            Order::AtOnce => "at once",
        }
    }

    fn worker(self, flow: usize, workers: usize) -> usize {
        match self {
            Order::Rss => scramble(flow as u64) as usize % workers,
            Order::Turns | Order::AtOnce => flow % workers,
            Order::Bursts => flow / 64 % workers,
        }
    }
}

/// One virtual server under load.
#[derive(Debug, Clone, Copy)]
pub struct Load<'a> {
    /// As in the file.
    pub scheduler: &'a str,
    /// Of the real servers, in the order of the file.
    pub weights: &'a [u16],
    /// Upper threshold of each; 0: none.
    pub threshold: u32,
    /// Flows, one after another.
    pub flows: usize,
    /// A flow ends when about so many others have begun after it; 0: none ends.
    pub open: usize,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Strayed {
    /// Most picks of a real server more or less than with one worker, at any moment.
    pub picks: u32,
    /// Most open connections of a real server more or less than with one worker, at any moment.
    pub open: u32,
    /// At the end: the largest difference between a real server's share of all picks and what its weight asks for.
    pub share: f64,
    /// Most connections that a real server had beyond its upper threshold.
    pub excess: u32,
}

impl Load<'_> {
    /// Gives all flows to one worker and to `workers` workers and compares.
    pub fn compare(&self, workers: usize, order: Order) -> Strayed {
        let [mut one, mut many] = [1, workers].map(|workers| Run::new(self, workers));
        let mut strayed = Strayed::default();
        let width = if order == Order::AtOnce { workers } else { 1 };
        for first in (0..self.flows).step_by(width) {
            let flows = first..(first + width).min(self.flows);
            flows.clone().for_each(|flow| one.pass(flow..flow + 1, Order::Turns));
            many.pass(flows, order);
            strayed.picks = strayed.picks.max(most(&one.picks, &many.picks));
            strayed.open = strayed.open.max(most(&one.open, &many.open));
            let beyond = |&open: &u32| open.saturating_sub(self.threshold);
            let excess = many.open.iter().map(beyond).max().filter(|_| self.threshold != 0);
            strayed.excess = strayed.excess.max(excess.unwrap_or(0));
        }
        strayed.share = self.share_error(&many.picks);
        strayed
    }

    /// Gives the flows to workers that run at the same time, each on a thread of its own.
    pub fn race(&self, workers: usize) -> Strayed {
        let site = Site::new(self, workers);
        let picks: Vec<AtomicU32> = self.weights.iter().map(|_| AtomicU32::new(0)).collect();
        let excess = AtomicU32::new(0);
        let start = std::sync::Barrier::new(workers);
        std::thread::scope(|scope| {
            for worker in 0..workers {
                let (site, picks, excess, start) = (&site, &picks, &excess, &start);
                scope.spawn(move || {
                    start.wait();
                    for flow in (worker..self.flows).step_by(workers) {
                        let Some(server) = site.pick(worker, flow) else { continue };
                        site.bind(worker, server);
                        picks[server].fetch_add(1, Relaxed);
                        if self.threshold != 0 {
                            let total = site.snapshot.server(site.servers[server]).live.total();
                            excess.fetch_max(total.saturating_sub(self.threshold), Relaxed);
                        }
                    }
                });
            }
        });
        let picks: Vec<u32> = picks.into_iter().map(AtomicU32::into_inner).collect();
        Strayed { share: self.share_error(&picks), excess: excess.into_inner(), ..Strayed::default() }
    }

    fn share_error(&self, picks: &[u32]) -> f64 {
        // rr and lc give all the same.
        let ignores_weights = matches!(self.scheduler, "rr" | "lc");
        let shares: Vec<f64> = self
            .weights
            .iter()
            .map(|&weight| if ignores_weights { 1.0 } else { f64::from(weight) })
            .collect();
        let all: f64 = picks.iter().map(|&count| f64::from(count)).sum();
        let whole: f64 = shares.iter().sum();
        let error = |(&count, share): (&u32, &f64)| (f64::from(count) / all - share / whole).abs();
        picks.iter().zip(&shares).map(error).fold(0.0, f64::max)
    }

    /// How many flows later a flow ends.
    fn lifetime(&self, flow: usize) -> usize {
        match self.open {
            0 => usize::MAX,
            open => 1 + scramble(!(flow as u64)) as usize % (2 * open),
        }
    }
}

/// The virtual server and who is behind it.
struct Site {
    snapshot: Snapshot,
    service: Arc<Service>,
    servers: Vec<ServerId>,
}

impl Site {
    fn new(load: &Load<'_>, workers: usize) -> Self {
        let mut file = base(1_024, "");
        file +=
            "[[virtual_server]]\nname = \"web\"\naddress = \"10.0.0.100\"\nport = 80\nforwarding = \"dr\"\n";
        file += &format!("scheduler = \"{}\"\n", load.scheduler);
        for (number, weight) in load.weights.iter().enumerate() {
            file += &format!(
                "[[virtual_server.real_server]]\naddress = \"10.0.0.{}\"\nweight = {weight}\nupper_threshold = {}\n",
                number + 11,
                load.threshold
            );
        }
        let mut registry = Registry::new(workers, Options::default());
        let snapshot =
            registry.snapshot(&read(&file), &[OWN], Progress::default()).expect("a valid configuration");
        let service = snapshot.services().next().expect("one virtual server").clone();
        // The list begins with the real server that was added last.
        let servers = service.list.iter().rev().map(|candidate| candidate.id).collect();
        Self { snapshot, service, servers }
    }

    fn pick(&self, worker: usize, flow: usize) -> Option<usize> {
        let (address, port) = client(flow as u32);
        let key = PickKey { source: address.into(), destination: VIP.into(), source_port: port, now_secs: 0 };
        let picked = self.service.pick(&self.snapshot, worker, &key)?;
        self.servers.iter().position(|&server| server == picked)
    }

    fn bind(&self, worker: usize, server: usize) {
        self.snapshot.server(self.servers[server]).bind(worker, Protocol::Tcp, ESTABLISHED);
    }

    fn unbind(&self, worker: usize, server: usize) {
        self.snapshot.server(self.servers[server]).unbind(worker, Protocol::Tcp, ESTABLISHED);
    }
}

/// A load under way.
struct Run<'a> {
    load: &'a Load<'a>,
    site: Site,
    workers: usize,
    /// By real server.
    picks: Vec<u32>,
    /// By real server.
    open: Vec<u32>,
    /// By flow that ends them: worker and real server.
    ends: Vec<Vec<(usize, usize)>>,
}

impl<'a> Run<'a> {
    fn new(load: &'a Load<'a>, workers: usize) -> Self {
        let zeros = vec![0; load.weights.len()];
        let ends = vec![Vec::new(); load.flows];
        Self { load, site: Site::new(load, workers), workers, picks: zeros.clone(), open: zeros, ends }
    }

    /// Lets flows begin, all of them before any is counted.
    fn pass(&mut self, flows: std::ops::Range<usize>, order: Order) {
        for flow in flows.clone() {
            for (worker, server) in std::mem::take(&mut self.ends[flow]) {
                self.site.unbind(worker, server);
                self.open[server] -= 1;
            }
        }
        let picks: Vec<_> = flows
            .map(|flow| {
                let worker = order.worker(flow, self.workers);
                (flow, worker, self.site.pick(worker, flow))
            })
            .collect();
        for (flow, worker, server) in picks {
            let Some(server) = server else { continue };
            self.site.bind(worker, server);
            self.picks[server] += 1;
            self.open[server] += 1;
            if let Some(ends) = self.ends.get_mut(flow.saturating_add(self.load.lifetime(flow))) {
                ends.push((worker, server));
            }
        }
    }
}

fn most(one: &[u32], many: &[u32]) -> u32 {
    one.iter().zip(many).map(|(one, many)| one.abs_diff(*many)).max().unwrap_or(0)
}

/// Numbers as good as random, the same in each run.
fn scramble(number: u64) -> u64 {
    let mixed = (number ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ mixed >> 29).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33
}
