//! All parts as control has them, but for devices: a real registry, a checker and VRRP's thread that do not run, a host's thread
//! that a test plays.

use std::sync::Mutex;
use std::thread::JoinHandle;

use dpdk::Line;
use dpdk::memory::Slab;
use weir_config::model::{MacAddress, Scheduler};
use weir_dataplane::conn::table::HashKey;
use weir_dataplane::conn::template::Templates;
use weir_dataplane::director::Shared;
use weir_dataplane::punt::Punt;
use weir_dataplane::snapshot::Snapshot;
use weir_dataplane::snapshot::publish::Current;
use weir_health::checker::{Checker, Place};

use super::*;
use crate::host::addresses::played::{self, Asked};
use crate::random::random_u64;
use crate::vrrp::port_end::PortEnd;
use crate::vrrp::{self, Vrrp};

/// A file with something of each part; `address` is the port's, `weight` a real server's, `id` the virtual router's.
pub(crate) fn text(address: &str, weight: u16, id: u8) -> String {
    format!(
        "[[port]]\nname = \"lan\"\ndevice = \"net_null0\"\naddresses = [\"{address}/16\"]\n\
         [[virtual_server]]\nname = \"web\"\naddress = \"10.0.9.1\"\nport = 80\n\
         [virtual_server.health_check]\ntype = \"tcp\"\n\
         [[virtual_server.real_server]]\naddress = \"10.0.1.1\"\nweight = {weight}\n\
         [[vrrp]]\nname = \"vi\"\nport = \"lan\"\nvirtual_router_id = {id}\naddresses = [\"10.0.0.100\"]\n"
    )
}

fn config(address: &str, weight: u16, id: u8) -> Config {
    parse(&text(address, weight, id))
}

fn parse(text: &str) -> Config {
    weir_config::parse("test", text).unwrap_or_else(|report| panic!("{report}")).config
}

fn draft(config: Config) -> Draft {
    Draft::new(config, Numbers::new())
}

/// See the module.
pub(crate) struct Bench {
    pub(crate) apply: Apply,
    pub(crate) health: Handle,
    _checker: Checker,
    current: Current,
    _vrrp: Vrrp,
    thread: Option<vrrp::Thread>,
    /// What the host's thread answers.
    answer: Arc<Mutex<Result<(), String>>>,
    host: JoinHandle<Vec<Asked>>,
}

/// What must not change when a draft is refused.
struct Before {
    snapshot: Arc<Snapshot>,
    file: Arc<Config>,
}

impl Bench {
    /// With a file in force.
    pub(crate) fn new(config: Config) -> Self {
        let (checker, health) = Checker::new(&config, 1);
        let (shared, mut punts) = (Shared::new(1, 1), [Punt::default()]);
        let lines: Slab<Line> = Slab::heap(Templates::lines_for(1024)).unwrap();
        let templates = Arc::new(Templates::new(lines, HashKey::draw(random_u64).unwrap()));
        let macs = vec![MacAddress([2, 0, 0, 0, 0, 1])];
        let end = PortEnd {
            name: "lan".to_owned(),
            mac: macs[0],
            receive: Box::new(|_| Ok(false)),
            fence: Arc::default(),
        };
        let fences = vec![end.fence.clone()];
        let file = config.clone();
        let publish = Publish::new(config, &health, macs, fences, (shared.clone(), templates)).unwrap();
        let current = publish.shared();
        let (vrrp, vrrp_control, thread) =
            Vrrp::new(&file, vec![end], &mut punts, &shared, publish.masters());
        thread.ordered().expect("the file's own");
        let answer = Arc::new(Mutex::new(Ok(())));
        let theirs = answer.clone();
        let (host_control, host) = played::host(move || Some(theirs.lock().unwrap().clone()));
        let apply = Apply::new(publish, health.clone(), vrrp_control, Some(host_control));
        Self { apply, health, _checker: checker, current, _vrrp: vrrp, thread: Some(thread), answer, host }
    }

    /// How many orders the checker has room for.
    pub(crate) fn places(&self) -> Vec<Place> {
        std::iter::from_fn(|| self.health.place().ok()).collect()
    }

    fn before(&self) -> Before {
        Before { snapshot: self.current.load_full(), file: self.apply.file() }
    }

    /// Everything is as it was, whoever may have taken part.
    fn assert_unchanged(&self, before: &Before) {
        assert!(Arc::ptr_eq(&before.snapshot, &self.current.load()), "another snapshot is served");
        assert!(Arc::ptr_eq(&before.file, &self.apply.file()), "another file is in force");
        if let Some(thread) = &self.thread {
            assert_eq!(thread.ordered(), None, "VRRP has other instances");
        }
    }

    /// What the host's thread was asked in all.
    fn asked(self) -> Vec<Asked> {
        drop(self.apply);
        self.host.join().unwrap()
    }
}

#[test]
fn what_nobody_refuses_changes_every_part() {
    let mut bench = Bench::new(config("10.0.0.2", 1, 51));
    let (places, before) = (bench.places().len(), bench.before());
    bench.apply.apply(draft(config("10.0.0.3", 7, 52))).unwrap();
    let now = bench.current.load_full();
    assert_eq!(now.generation, before.snapshot.generation + 1);
    assert_eq!(now.servers().map(|server| server.weight).collect::<Vec<_>>(), [7]);
    assert_eq!(bench.places().len(), places - 1, "the checker has an order");
    let ids = bench.thread.as_ref().unwrap().ordered().unwrap();
    assert_eq!(ids.iter().map(|it| it.settings.virtual_router_id).collect::<Vec<_>>(), [52]);
    assert_eq!(*bench.apply.file(), config("10.0.0.3", 7, 52));
    assert_eq!(bench.asked(), [Asked::Add, Asked::Settle]);
}

#[test]
fn what_health_refuses_changes_nothing() {
    let mut bench = Bench::new(config("10.0.0.2", 1, 51));
    let (all, before) = (bench.places(), bench.before());
    let refused = bench.apply.apply(draft(config("10.0.0.3", 7, 52))).unwrap_err();
    assert_eq!(refused, Refused::Health(NotTaken::Hangs));
    assert_eq!(
        refused.to_string(),
        "health checks do not take it: the checker hangs: 16 orders before this one wait for it"
    );
    bench.assert_unchanged(&before);
    drop(all);
    bench.apply.apply(draft(config("10.0.0.3", 7, 52))).unwrap();
    assert_eq!(bench.asked(), [Asked::Add, Asked::Settle]);
}

#[test]
fn what_vrrp_refuses_changes_nothing() {
    let mut bench = Bench::new(config("10.0.0.2", 1, 51));
    let (places, before) = (bench.places().len(), bench.before());
    bench.thread = None;
    let refused = bench.apply.apply(draft(config("10.0.0.3", 7, 52))).unwrap_err();
    assert_eq!(refused, Refused::Vrrp(VrrpRefusal::Ended));
    bench.assert_unchanged(&before);
    assert_eq!(bench.places().len(), places);
    assert_eq!(bench.asked(), []);
}

#[test]
fn a_file_without_vrrp_needs_no_thread_of_vrrps() {
    let without = |address, weight| {
        let text = text(address, weight, 51);
        parse(text.split("[[vrrp]]").next().unwrap())
    };
    let mut bench = Bench::new(without("10.0.0.2", 1));
    bench.thread = None;
    bench.apply.apply(draft(without("10.0.0.2", 2))).unwrap();
    assert_eq!(bench.asked(), [], "nor another address of the host's");
}

#[test]
fn what_the_host_refuses_changes_nothing() {
    let mut bench = Bench::new(config("10.0.0.2", 1, 51));
    let (places, before) = (bench.places().len(), bench.before());
    *bench.answer.lock().unwrap() = Err("weir0: address 10.0.0.3/16 is not added".to_owned());
    let refused = bench.apply.apply(draft(config("10.0.0.3", 7, 52))).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the host interfaces do not take it: weir0: address 10.0.0.3/16 is not added"
    );
    bench.assert_unchanged(&before);
    assert_eq!(bench.places().len(), places);
    *bench.answer.lock().unwrap() = Ok(());
    bench.apply.apply(draft(config("10.0.0.3", 7, 52))).unwrap();
    assert_eq!(bench.asked(), [Asked::Add, Asked::Undo, Asked::Add, Asked::Settle]);
}

#[test]
fn what_the_registry_refuses_changes_nothing() {
    let mut bench = Bench::new(config("10.0.0.2", 1, 51));
    let (places, before) = (bench.places().len(), bench.before());
    let mut wanted = config("10.0.0.3", 7, 52);
    wanted.virtual_servers[0].scheduler = Scheduler::Mh;
    // No file says so.
    wanted.schedulers.mh_table_size = 4096;
    let refused = bench.apply.apply(draft(wanted)).unwrap_err();
    assert_eq!(refused.to_string(), "it can't be served: virtual server web: 4096 is not a table size of mh");
    bench.assert_unchanged(&before);
    assert_eq!(bench.places().len(), places);
    bench.apply.apply(draft(config("10.0.0.3", 7, 52))).unwrap();
    assert_eq!(bench.asked(), [Asked::Add, Asked::Undo, Asked::Add, Asked::Settle]);
}

#[test]
fn what_takes_a_restart_asks_nobody() {
    let mut bench = Bench::new(config("10.0.0.2", 1, 51));
    let before = bench.before();
    let mut wanted = config("10.0.0.3", 7, 52);
    wanted.ports[0].mtu = 1400;
    let refused = bench.apply.apply(draft(wanted)).unwrap_err();
    assert_eq!(refused.by(), RefusedBy::Restart);
    bench.assert_unchanged(&before);
    assert_eq!(bench.asked(), []);
}
