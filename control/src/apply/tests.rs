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
use weir_dataplane::snapshot::registry::Standing;
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
    loaded(text).config
}

fn loaded(text: &str) -> weir_config::Loaded {
    weir_config::parse("test", text).unwrap_or_else(|report| panic!("{report}"))
}

/// With the tables of such a file, which are the same but for single values.
fn draft(config: Config) -> Draft {
    Draft::new(config, editor(&loaded(&text("10.0.0.2", 1, 51))), Numbers::new())
}

fn editor(loaded: &weir_config::Loaded) -> Editor {
    Editor::new(loaded.source.clone(), &loaded.config)
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
    /// With a file in force, whose tables are those of [`text`].
    pub(crate) fn new(config: Config) -> Self {
        Self::with(config, editor(&loaded(&text("10.0.0.2", 1, 51))))
    }

    /// With a file in force, and its tables.
    fn with(config: Config, editor: Editor) -> Self {
        let (checker, health) = Checker::new(&config, 1);
        let (shared, mut punts) = (Shared::new(1, 1), [Punt::default()]);
        let lines: Slab<Line> = Slab::heap(Templates::lines_for(1024)).unwrap();
        let lines6 = Slab::heap(Templates::lines_for_ipv6(0)).unwrap();
        let templates = Arc::new(Templates::new(lines, lines6, HashKey::draw(random_u64).unwrap()));
        let macs = vec![MacAddress([2, 0, 0, 0, 0, 1])];
        let end = PortEnd {
            name: "lan".to_owned(),
            mac: macs[0],
            receive: Box::new(|_| Ok(false)),
            fence: Arc::default(),
        };
        let fences = vec![end.fence.clone()];
        let file = config.clone();
        let workers = (shared.clone(), templates);
        let publish =
            Publish::new(config, &health, macs, fences, workers, (None, &Standing::default())).unwrap();
        let current = publish.shared();
        let (vrrp, vrrp_control, thread) =
            Vrrp::new(&file, vec![end], &mut punts, &shared, (publish.masters(), health.notifier()));
        thread.ordered().expect("the file's own");
        let answer = Arc::new(Mutex::new(Ok(())));
        let theirs = answer.clone();
        let (host_control, host) = played::host(move || Some(theirs.lock().unwrap().clone()));
        let apply = Apply::new((publish, editor), health.clone(), vrrp_control, Some(host_control));
        Self { apply, health, _checker: checker, current, _vrrp: vrrp, thread: Some(thread), answer, host }
    }

    /// How many orders the checker has room for.
    /// Edits that take a moment.
    fn edit(&mut self, edits: &[Edit], is_dry_run: bool) -> Result<Applied, Refusal> {
        match self.apply.edit(edits, is_dry_run, Pace::AtOnce, &Found::default())? {
            Tried::Made(applied) => Ok(applied),
            other => panic!("at once: {other:?}"),
        }
    }

    pub(crate) fn places(&self) -> Vec<Place> {
        std::iter::from_fn(|| self.health.place().ok()).collect()
    }

    /// The same for edits.
    fn edit_places(&self) -> Vec<weir_health::checker::EditPlace> {
        std::iter::from_fn(|| self.health.place_for_edits().ok()).collect()
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
    bench.apply.apply(draft(config("10.0.0.3", 7, 52)), Reload::default()).unwrap();
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
    let refused = bench.apply.apply(draft(config("10.0.0.3", 7, 52)), Reload::default()).unwrap_err();
    assert_eq!(refused, Refused::Health(NotTaken::Hangs));
    assert_eq!(
        refused.to_string(),
        "health checks do not take it: the checker hangs: 16 orders before this one wait for it"
    );
    bench.assert_unchanged(&before);
    drop(all);
    bench.apply.apply(draft(config("10.0.0.3", 7, 52)), Reload::default()).unwrap();
    assert_eq!(bench.asked(), [Asked::Add, Asked::Settle]);
}

#[test]
fn what_vrrp_refuses_changes_nothing() {
    let mut bench = Bench::new(config("10.0.0.2", 1, 51));
    let (places, before) = (bench.places().len(), bench.before());
    bench.thread = None;
    let refused = bench.apply.apply(draft(config("10.0.0.3", 7, 52)), Reload::default()).unwrap_err();
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
    bench.apply.apply(draft(without("10.0.0.2", 2)), Reload::default()).unwrap();
    assert_eq!(bench.asked(), [], "nor another address of the host's");
}

#[test]
fn what_the_host_refuses_changes_nothing() {
    let mut bench = Bench::new(config("10.0.0.2", 1, 51));
    let (places, before) = (bench.places().len(), bench.before());
    *bench.answer.lock().unwrap() = Err("weir0: address 10.0.0.3/16 is not added".to_owned());
    let refused = bench.apply.apply(draft(config("10.0.0.3", 7, 52)), Reload::default()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the host interfaces do not take it: weir0: address 10.0.0.3/16 is not added"
    );
    bench.assert_unchanged(&before);
    assert_eq!(bench.places().len(), places);
    *bench.answer.lock().unwrap() = Ok(());
    bench.apply.apply(draft(config("10.0.0.3", 7, 52)), Reload::default()).unwrap();
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
    let refused = bench.apply.apply(draft(wanted), Reload::default()).unwrap_err();
    assert_eq!(refused.to_string(), "it can't be served: virtual server web: 4096 is not a table size of mh");
    bench.assert_unchanged(&before);
    assert_eq!(bench.places().len(), places);
    bench.apply.apply(draft(config("10.0.0.3", 7, 52)), Reload::default()).unwrap();
    assert_eq!(bench.asked(), [Asked::Add, Asked::Undo, Asked::Add, Asked::Settle]);
}

#[test]
fn what_takes_a_restart_asks_nobody() {
    let mut bench = Bench::new(config("10.0.0.2", 1, 51));
    let before = bench.before();
    let mut wanted = config("10.0.0.3", 7, 52);
    wanted.ports[0].mtu = 1400;
    let refused = bench.apply.apply(draft(wanted), Reload::default()).unwrap_err();
    assert_eq!(refused.by(), RefusedBy::Restart);
    bench.assert_unchanged(&before);
    assert_eq!(bench.asked(), []);
}

fn keys(value: serde_json::Value) -> weir_config::edit::Keys {
    serde_json::from_value(value).unwrap()
}

fn web() -> weir_config::edit::Id {
    weir_config::edit::Id::Name("web".to_owned())
}

fn set_weight(weight: u16) -> Edit {
    Edit::SetRealServer(web(), ([10, 0, 1, 1].into(), 80), keys(serde_json::json!({ "weight": weight })))
}

#[test]
fn an_edit_is_in_force_at_once_and_health_hears_of_it() {
    let mut bench = Bench::new(config("10.0.0.2", 1, 51));
    let (places, before) = (bench.edit_places().len(), bench.before());
    let done = bench.edit(&[set_weight(5)], false).unwrap();
    assert_eq!(done, Applied { applied: 1, warnings: Vec::new() });
    let now = bench.current.load_full();
    assert_eq!(now.generation, before.snapshot.generation + 1);
    assert_eq!(now.servers().map(|server| server.weight).collect::<Vec<_>>(), [5]);
    assert_eq!(bench.apply.file().virtual_servers[0].real_servers[0].weight, 5);
    assert_eq!(bench.edit_places().len(), places - 1, "the checker has an order");
    // All or nothing, and a dry run is nothing.
    let before = bench.before();
    let refusal = bench
        .edit(&[set_weight(6), Edit::RemoveVirtualServer(weir_config::edit::Id::Name("no".into()))], false)
        .unwrap_err();
    assert_eq!((refusal.edit, refusal.kind), (Some(1), Kind::UnknownVirtualServer));
    bench.edit(&[set_weight(6)], true).unwrap();
    bench.assert_unchanged(&before);
    let places = bench.edit_places();
    let refusal = bench.edit(&[set_weight(6)], false).unwrap_err();
    assert_eq!(refusal.kind, Kind::Busy);
    bench.assert_unchanged(&before);
    drop(places);
}

#[test]
fn a_reload_drops_edits_or_keeps_them() {
    let mut bench = Bench::new(config("10.0.0.2", 1, 51));
    let weights = |bench: &Bench| bench.current.load().servers().map(|it| it.weight).collect::<Vec<_>>();
    let loaded = |weight| {
        let loaded = loaded(&text("10.0.0.2", weight, 51));
        let editor = editor(&loaded);
        Draft::new(loaded.config, editor, Numbers::new())
    };
    bench.edit(&[set_weight(5)], false).unwrap();
    let told = bench.apply.apply(loaded(2), Reload { dry_run: true, keep_edits: false }).unwrap();
    assert_eq!((told.dropped_edits, told.changed.real_servers.changed), (1, 1));
    assert_eq!(told.dropped, ["real server 10.0.1.1:80 of tcp 10.0.9.1:80 set: weight = 5"]);
    assert_eq!(weights(&bench), [5]);
    let told = bench.apply.apply(loaded(2), Reload { dry_run: false, keep_edits: true }).unwrap();
    assert_eq!((told.dropped_edits, told.changed.real_servers.changed), (0, 0));
    assert_eq!((weights(&bench), bench.apply.desired().edits()), (vec![5], 1));
    let told = bench.apply.apply(loaded(2), Reload::default()).unwrap();
    assert_eq!((told.dropped_edits, weights(&bench), bench.apply.desired().edits()), (1, vec![2], 0));
}

#[test]
fn edits_that_were_saved_are_the_files_which_has_the_last_word() {
    let weights = |bench: &Bench| {
        let file = bench.apply.file();
        file.virtual_servers[0].real_servers.iter().map(|it| it.weight).collect::<Vec<_>>()
    };
    for keep_edits in [false, true] {
        let mut bench = Bench::new(config("10.0.0.2", 1, 51));
        let add = serde_json::json!({ "address": "10.0.1.7", "port": 80 });
        bench.edit(&[set_weight(5), Edit::AddRealServer(web(), keys(add))], false).unwrap();
        let saved =
            text("10.0.0.2", 5, 51) + "[[virtual_server.real_server]]\naddress = \"10.0.1.7\"\nport = 80\n";
        let saved = weir_config::parse("test", &saved).unwrap();
        let draft = Draft::new(saved.config.clone(), editor(&saved), Numbers::new());
        let told = bench.apply.apply(draft, Reload { dry_run: false, keep_edits }).unwrap();
        assert_eq!((told.dropped, told.changed), (Vec::new(), Default::default()));
        assert_eq!(bench.apply.desired().edits(), 0);
        let next = loaded(&text("10.0.0.2", 3, 51));
        let draft = Draft::new(next.config.clone(), editor(&next), Numbers::new());
        bench.apply.apply(draft, Reload { dry_run: false, keep_edits: true }).unwrap();
        assert_eq!(weights(&bench), [3]);
    }
}

#[test]
fn edits_that_are_kept_and_do_not_fit_are_dropped_alone() {
    let mut bench = Bench::new(config("10.0.0.2", 1, 51));
    let add = |address: [u8; 4]| {
        let address = std::net::IpAddr::from(address).to_string();
        Edit::AddRealServer(web(), keys(serde_json::json!({ "address": address, "port": 80 })))
    };
    // The second is a real server of the next file, and the fourth a VIP of it.
    let edits =
        [add([10, 0, 1, 7]), add([10, 0, 1, 8]), set_weight(5), add([10, 0, 9, 9]), add([10, 0, 1, 9])];
    for edit in &edits {
        bench.edit(std::slice::from_ref(edit), false).unwrap();
    }
    let mut next = text("10.0.0.2", 2, 51);
    let (before, after) = next.split_at(next.find("[[virtual_server.real_server]]").unwrap());
    next = format!("{before}[[virtual_server.real_server]]\naddress = \"10.0.1.8\"\nport = 80\n{after}");
    next += "[[virtual_server]]\nname = \"other\"\naddress = \"10.0.9.9\"\nport = 80\n";
    let loaded = loaded(&next);
    let editor = editor(&loaded);
    let draft = Draft::new(loaded.config, editor, Numbers::new());
    let told = bench.apply.apply(draft, Reload { dry_run: false, keep_edits: true }).unwrap();
    assert_eq!(told.dropped_edits, 2, "{:?}", told.dropped);
    assert!(
        told.dropped[0].contains("10.0.1.8") && told.dropped[0].contains("duplicate"),
        "{:?}",
        told.dropped
    );
    assert!(told.dropped[1].contains("10.0.9.9") && told.dropped[1].contains("VIP"), "{:?}", told.dropped);
    let file = bench.apply.file();
    let web = &file.virtual_servers[0].real_servers;
    let mut weights: Vec<_> = web.iter().map(|real| (real.address.to_string(), real.weight)).collect();
    weights.sort();
    let of = |address: &str, weight| (address.to_owned(), weight);
    assert_eq!(weights, [of("10.0.1.1", 5), of("10.0.1.7", 1), of("10.0.1.8", 1), of("10.0.1.9", 1)]);
    assert_eq!(bench.apply.desired().edits(), 3);
}

/// Virtual servers with ten real servers each.
fn many(count: u32) -> String {
    let mut text =
        "[[port]]\nname = \"lan\"\ndevice = \"net_null0\"\naddresses = [\"10.0.0.2/8\"]\n".to_owned();
    for service in 0..count {
        let vip = std::net::Ipv4Addr::from(0xc000_0200 + service);
        text += &format!(
            "[[virtual_server]]\nname = \"v{service}\"\naddress = \"{vip}\"\nport = 80\nforwarding = \"nat\"\n"
        );
        for server in 0..10 {
            let rip = std::net::Ipv4Addr::from(0x0a01_0000 + service * 10 + server);
            text += &format!("[[virtual_server.real_server]]\naddress = \"{rip}\"\nport = 8080\n");
        }
    }
    text
}

/// Prints how long edits among 10,000 virtual servers take; a release build holds them to the promise.
#[test]
fn edits_among_many_virtual_servers_cost_what_they_are_about() {
    let count = if cfg!(debug_assertions) { 1_000 } else { 10_000 };
    let loaded = loaded(&many(count));
    let editor = editor(&loaded);
    let mut bench = Bench::with(loaded.config, editor);
    let at = |service: u32| weir_config::edit::Id::Name(format!("v{service}"));
    let server = |service: u32, server: u32| {
        (std::net::Ipv4Addr::from(0x0a01_0000 + service * 10 + server).into(), 8080)
    };
    let weight = |number: u32| keys(serde_json::json!({ "weight": number % 7 + 1 }));
    let mut made = |what: &str, edit: &dyn Fn(u32) -> Edit| {
        let mut times = Vec::new();
        for number in 0..60 {
            let edits = [edit(number)];
            let began = std::time::Instant::now();
            bench.edit(&edits, false).unwrap();
            times.push(began.elapsed());
        }
        times.sort();
        println!("{what}: {:?} in the middle, {:?} at most", times[30], times[59]);
        times[30]
    };
    let new =
        |number: u32| keys(serde_json::json!({ "address": format!("172.16.0.{}", number + 1), "port": 80 }));
    let by_address = |number: u32| {
        let address = std::net::IpAddr::from([172, 16, 0, number as u8 + 1]);
        let protocol = weir_config::model::Protocol::Tcp;
        weir_config::edit::Id::Identity(Identity::Address { address, port: 80, protocol })
    };
    let times = [
        made("a weight", &|number| {
            Edit::SetRealServer(at(number * 7), server(number * 7, 3), weight(number))
        }),
        made("a real server goes", &|number| Edit::RemoveRealServer(at(number * 7), server(number * 7, 3))),
        made("a virtual server comes", &|number| Edit::AddVirtualServer(new(number))),
        made("a virtual server goes", &|number| Edit::RemoveVirtualServer(by_address(number))),
    ];
    if !cfg!(debug_assertions) {
        assert!(times.iter().all(|time| time.as_micros() < 1_000), "{times:?}");
    }
    assert_eq!(bench.current.load().services().count(), count as usize);
}
