//! Edits come to what the file would say, and wrong ones get its sentences.

use serde_json::json;

use super::*;
use crate::model::Protocol;

const BASE: &str = "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/16\"]\n\
    [[mark]]\nmark = 1\naddresses = [\"10.0.9.100\"]\n\
    [[virtual_server]]\nname = \"web\"\naddress = \"10.0.9.1\"\nport = 80\nforwarding = \"nat\"\n\
    [virtual_server.health_check]\ntype = \"http\"\nrequest_header = [\"X-Key: hunter2\"]\n\
    [[virtual_server.real_server]]\naddress = \"10.0.1.1\"\nport = 8080\nweight = 3\n\
    [[virtual_server]]\nname = \"marked\"\nmark = 1\n";

const TRACKED: &str = "[[vrrp]]\nname = \"vi\"\nport = \"lan\"\nvirtual_router_id = 5\naddresses = [\"10.0.9.1\"]\n\
    [[vrrp.track]]\nport = \"lan\"\n[[vrrp.track]]\nvirtual_server = \"web\"\n";

/// A configuration that is edited.
struct Bench {
    config: Config,
    editor: Editor,
    since: Since,
}

impl Bench {
    fn new(text: &str) -> Self {
        let loaded = crate::parse("test", text).unwrap_or_else(|report| panic!("{report}"));
        let editor = Editor::new(loaded.source, &loaded.config);
        Self { config: loaded.config, editor, since: Since::default() }
    }

    fn edit(&mut self, edits: &[Edit]) -> Result<Vec<String>, Refusal> {
        let staged = self.editor.stage(&self.config, edits)?;
        staged.note(&mut self.since);
        let warnings = staged.warnings.clone();
        self.editor.commit(&mut self.config, staged);
        Ok(warnings)
    }

    /// What a file with these tables comes to.
    fn as_file(&self) -> Config {
        let mut text = String::new();
        let mut tables = self.editor.base.tables.clone();
        let servers = self.editor.written.iter().map(|written| Value::Object(written.whole()));
        tables.insert("virtual_server".to_owned(), servers.collect());
        for (key, value) in tables {
            text += &format!("{key} = ");
            crate::source::write(&mut text, &value);
            text.push('\n');
        }
        crate::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config
    }

    fn refused(&mut self, edit: Edit) -> (Kind, String) {
        let (config, written) = (self.config.clone(), self.editor.shown().tables());
        let refusal = self.edit(&[Edit::RemoveVirtualServer(name("marked")), edit]).unwrap_err();
        assert_eq!(refusal.edit, 1);
        assert_eq!((&self.config, self.editor.shown().tables()), (&config, written), "nothing has changed");
        (refusal.kind, refusal.text)
    }
}

fn keys(value: Value) -> Keys {
    match value {
        Value::Object(keys) => keys,
        other => panic!("{other}"),
    }
}

fn name(name: &str) -> Id {
    Id::Name(name.to_owned())
}

fn key(address: &str, port: u16) -> ServerKey {
    (address.parse().unwrap(), port)
}

#[test]
fn edits_come_to_what_the_file_would_say() {
    let mut bench = Bench::new(BASE);
    let dns = Identity::Address { address: [10, 0, 9, 2].into(), port: 53, protocol: Protocol::Udp };
    bench
        .edit(&[
            Edit::AddVirtualServer(keys(json!({"address": "10.0.9.2", "port": 53, "protocol": "udp"}))),
            Edit::AddRealServer(Id::Identity(dns), keys(json!({"address": "10.0.1.7"}))),
            Edit::AddRealServer(name("web"), keys(json!({"address": "10.0.1.2", "port": 8080}))),
            Edit::SetRealServer(name("web"), key("10.0.1.1", 8080), keys(json!({"weight": 0}))),
            Edit::SetVirtualServer(name("web"), keys(json!({"scheduler": "rr", "persistence_timeout": 60}))),
            Edit::SetTimeouts(keys(json!({"udp": 17}))),
        ])
        .unwrap();
    let [web, marked, new] = &bench.config.virtual_servers[..] else { panic!() };
    assert_eq!((web.name.as_str(), marked.name.as_str()), ("web", "marked"));
    assert_eq!((new.name.as_str(), new.real_servers[0].port), ("udp-10.0.9.2:53", 53));
    assert_eq!(web.real_servers.iter().map(|real| real.weight).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(web.real_servers[1].health_checks.len(), 1, "inherited");
    assert_eq!(bench.config.connections.timeouts.udp, 17);
    let mut expected = bench.as_file();
    expected.connections.timeouts.udp = 17;
    assert_eq!(bench.config, expected);
    let shown = Value::Object(bench.editor.shown().tables());
    assert!(!shown.to_string().contains("hunter2"), "{shown}");
    assert_eq!(shown["virtual_server"][0]["left_out"], true);
    assert_eq!(shown["virtual_server"][0].get("health_check"), None, "none with a hole in it");
    assert_eq!(shown["virtual_server"][2]["origin"], "edit");
    assert_eq!(shown["connections"]["timeouts"]["udp"], 17);
    // Null gives a key its default again.
    let weight = keys(json!({"weight": null}));
    bench.edit(&[Edit::SetRealServer(name("web"), key("10.0.1.1", 8080), weight)]).unwrap();
    assert_eq!(bench.config.virtual_servers[0].real_servers[0].weight, 1);
    bench.edit(&[Edit::Clear]).unwrap();
    assert_eq!(bench.config.virtual_servers, []);
    assert!(bench.editor.vips.is_empty() && bench.editor.real_servers.is_empty());
    assert!(bench.editor.names.is_empty() && bench.editor.places.is_empty());
}

#[test]
fn a_real_server_is_warned_of_as_it_is_beside_the_others() {
    let mut bench = Bench::new(BASE);
    let real = |address: &str| keys(json!({"address": address, "port": 8080}));
    bench.edit(&[Edit::AddRealServer(name("web"), real("10.0.1.2"))]).unwrap();
    let mut drain = |address: &str| {
        let zero = keys(json!({"weight": 0}));
        bench.edit(&[Edit::SetRealServer(name("web"), key(address, 8080), zero)]).unwrap()
    };
    assert_eq!(drain("10.0.1.1"), [""; 0]);
    let warnings = drain("10.0.1.2");
    assert!(
        matches!(&warnings[..], [warning] if warning.contains("no real server has a weight")),
        "{warnings:?}"
    );
    // One of unknown weight speaks against it, however many have none.
    let mut other = real("10.0.1.3");
    other.extend(keys(json!({"weight": 0, "weight_file": "/run/weight"})));
    let zero = keys(json!({"weight": 0}));
    let edits = [
        Edit::AddRealServer(name("web"), other),
        Edit::SetRealServer(name("web"), key("10.0.1.2", 8080), zero),
    ];
    assert_eq!(bench.edit(&edits[..1]).unwrap(), [""; 0]);
    assert_eq!(bench.edit(&edits[1..]).unwrap(), [""; 0]);
}

/// A warning of one real server is held against the others, which takes no look at the text of each.
#[test]
fn a_drain_in_a_long_list_reads_no_list() {
    let mut text = BASE.to_owned();
    text += "[[virtual_server]]\nname = \"long\"\naddress = \"10.0.9.3\"\nport = 80\nforwarding = \"nat\"\n";
    for number in 0..5_000 {
        let address = format!("10.0.{}.{}", 100 + number / 250, 1 + number % 250);
        text += &format!("[[virtual_server.real_server]]\naddress = \"{address}\"\n");
    }
    let begin = cpu_time();
    let mut bench = Bench::new(&text);
    let read = cpu_time() - begin;
    let drain = Edit::SetRealServer(name("long"), key("10.0.101.7", 80), keys(json!({"weight": 0})));
    let begin = cpu_time();
    assert_eq!(bench.edit(&[drain]).unwrap(), [""; 0]);
    let drained = cpu_time() - begin;
    assert!(drained * 3 < read, "{drained:?}, and all of it is read in {read:?}");
}

#[test]
fn wrong_edits_get_the_sentence_of_the_file_and_change_nothing() {
    let mut bench = Bench::new(BASE);
    let web = || name("web");
    let real = |value| Edit::AddRealServer(web(), keys(value));
    let service = |value| Edit::AddVirtualServer(keys(value));
    let set = |value| Edit::SetRealServer(web(), key("10.0.1.1", 8080), keys(value));
    for (edit, kind, text) in [
        (
            real(json!({"address": "10.0.1.1", "port": 8080})),
            Kind::Exists,
            "duplicate real server: 10.0.1.1 port 8080 again",
        ),
        (
            service(json!({"address": "10.0.9.1", "port": 80})),
            Kind::Exists,
            "duplicate virtual server: 10.0.9.1 port 80 tcp is served already",
        ),
        (
            service(json!({"address": "10.0.9.7", "port": 80, "name": "web"})),
            Kind::Invalid,
            "duplicate virtual server name `web`: used already (help: give each its own virtual server name)",
        ),
        (
            Edit::RemoveVirtualServer(name("no")),
            Kind::UnknownVirtualServer,
            "unknown virtual server: none is called `no`",
        ),
        (
            Edit::RemoveRealServer(web(), key("10.0.1.9", 80)),
            Kind::UnknownRealServer,
            "unknown real server: `web` has none at 10.0.1.9 port 80",
        ),
        (set(json!({"weight": 70000})), Kind::Invalid, "`weight` is out of range: must be 0 to 65535"),
        (
            set(json!({"weigth": 7})),
            Kind::Invalid,
            "unknown key `weigth`: not a key of [[virtual_server.real_server]] (help: did you mean `weight`?)",
        ),
        (
            set(json!({"weight": "7"})),
            Kind::Invalid,
            "wrong type: expected a whole number, found a string (help: write 7 without the quotes)",
        ),
        (
            set(json!({"address": "10.0.1.2"})),
            Kind::Invalid,
            "10.0.1.1 port 8080 is what this real server is known by: remove it and add another",
        ),
        (
            Edit::SetVirtualServer(web(), keys(json!({"port": 81}))),
            Kind::Invalid,
            "10.0.9.1 port 80 tcp is what this virtual server is known by: remove it and add another",
        ),
        (
            real(json!({"address": "10.0.9.1"})),
            Kind::Invalid,
            "a real server must be another host: this is a VIP",
        ),
        (
            service(json!({"address": "10.0.1.1", "port": 80})),
            Kind::Invalid,
            "a real server must be another host: 10.0.1.1 is a real server's address, and would be a VIP",
        ),
        (
            Edit::SetTimeouts(keys(json!({"udp": 864001}))),
            Kind::Invalid,
            "`udp` is out of range: must be 1 to 864000",
        ),
    ] {
        let (refused, said) = bench.refused(edit);
        assert_eq!(said, text);
        assert_eq!(refused, kind, "{text}");
    }
    let mut tracked = Bench::new(&format!("{BASE}{TRACKED}"));
    for edit in [
        Edit::RemoveVirtualServer(web()),
        Edit::Clear,
        Edit::SetVirtualServer(web(), keys(json!({"name": "other"}))),
    ] {
        let then =
            if matches!(edit, Edit::SetVirtualServer(..)) { "give it another name" } else { "remove it" };
        let text = format!(
            "VRRP tracks the virtual server `web`: [[vrrp.track]] 2 of the [[vrrp]] `vi` names it (help: take that entry out of the \
             file and reload it, with `weirctl reload --keep-edits` so that edits stay; then {then})"
        );
        assert_eq!(tracked.edit(&[edit]).unwrap_err().text, text);
    }
    tracked.edit(&[Edit::SetVirtualServer(web(), keys(json!({"scheduler": "rr"})))]).unwrap();
}

#[test]
fn neighbors_cost_an_edit_nothing_and_none_becomes_a_vip() {
    let mut text = BASE.to_owned();
    for number in 0..1_000 {
        let address = format!("10.0.{}.{}", 20 + number / 250, number % 250 + 1);
        text += &format!("[[neighbor]]\naddress = \"{address}\"\nmac = \"02:00:00:00:00:11\"\n");
    }
    let mut bench = Bench::new(&text);
    let read_behind = |bench: &Bench, address: &str| {
        bench.editor.base.text_for(&keys(json!({"address": address, "port": 80})))
    };
    assert_eq!(read_behind(&bench, "10.0.9.2"), read_behind(&Bench::new(BASE), "10.0.9.2"));
    let new = |address: &str| Edit::AddVirtualServer(keys(json!({"address": address, "port": 80})));
    let (kind, said) = bench.refused(new("10.0.23.7"));
    assert!(kind == Kind::Invalid && said.contains("the neighbor is not another host's address"), "{said}");
    bench.edit(&[new("10.0.9.2")]).unwrap();
    let real = json!({"address": "10.0.23.7", "port": 8080});
    bench.edit(&[Edit::AddRealServer(name("web"), keys(real))]).unwrap();
    assert_eq!(bench.config, bench.as_file());
    assert_eq!(bench.editor.shown().tables()["neighbor"].as_array().map(Vec::len), Some(1_000));
}

#[test]
fn many_edits_of_one_virtual_server_are_one_step() {
    let bench = Bench::new(BASE);
    let add = |last: u8| {
        Edit::AddRealServer(name("web"), keys(json!({"address": format!("10.0.2.{last}"), "port": 80})))
    };
    let edits: Vec<Edit> = (1..=100).map(add).collect();
    let staged = bench.editor.stage(&bench.config, &edits).unwrap();
    let [Step::Put(web)] = &staged.steps[..] else { panic!("{} steps", staged.steps.len()) };
    assert_eq!(web.real_servers.len(), 101);
    let listed: Vec<Value> = (0..1000).map(|port| json!({"address": "10.0.2.1", "port": 1 + port})).collect();
    let set =
        |port: u16| Edit::SetRealServer(name("web"), key("10.0.2.1", 1 + port), keys(json!({"weight": 2})));
    let first = Edit::SetVirtualServer(name("web"), keys(json!({"real_server": listed})));
    let edits: Vec<Edit> = std::iter::once(first.clone()).chain((0..600).map(set)).collect();
    let staged = bench.editor.stage(&bench.config, &edits).unwrap();
    let [Step::Edit(web, edited)] = &staged.steps[..] else { panic!("{} steps", staged.steps.len()) };
    assert_eq!((web.real_servers.len(), edited.len()), (1000, 600));
    assert!(web.real_servers.iter().take(600).all(|real| real.weight == 2));
    // A list that comes back to it over and over has it as often.
    let zero = || Edit::Zero(None);
    let apart = (0..600).flat_map(|port| [set(port), zero()]);
    let edits: Vec<Edit> = std::iter::once(first).chain(apart).collect();
    let refusal = bench.editor.stage(&bench.config, &edits).unwrap_err();
    assert!(refusal.text.contains("several requests"), "{refusal:?}");
    assert!(bench.editor.stage(&bench.config, &edits[..800]).is_ok());
}

/// A list of edits costs much the same for a virtual server of many real servers as for one of few.
#[test]
fn long_lists_of_edits_take_time_in_proportion() {
    const EDITS: u16 = 100;
    let took = |real_servers: u32| {
        let mut text = BASE.replace("name = \"marked\"", "name = \"other\"");
        text +=
            "[[virtual_server]]\nname = \"long\"\naddress = \"10.0.9.3\"\nport = 80\nforwarding = \"nat\"\n";
        for number in 0..real_servers {
            text += &format!(
                "[[virtual_server.real_server]]\naddress = \"10.0.{}.{}\"\n",
                100 + number / 250,
                1 + number % 250
            );
        }
        let mut bench = Bench::new(&text);
        let at = |number: u16| key("10.0.2.1", 1 + number);
        let add = |it| {
            Edit::AddRealServer(
                name("long"),
                keys(json!({"address": "10.0.2.1", "port": 1 + it, "weight": 0})),
            )
        };
        let set = |it| Edit::SetRealServer(name("long"), at(it), keys(json!({"weight": 2})));
        let edits: Vec<Edit> = (0..EDITS)
            .map(add)
            .chain((0..EDITS).map(set))
            .chain((0..EDITS).map(|it| Edit::RemoveRealServer(name("long"), at(it))))
            .collect();
        let begin = cpu_time();
        let staged = bench.editor.stage(&bench.config, &edits).unwrap();
        assert_eq!(staged.steps.len(), 1);
        bench.editor.commit(&mut bench.config, staged);
        let took = cpu_time() - begin;
        assert_eq!(bench.config.virtual_servers[2].real_servers.len(), real_servers as usize);
        took
    };
    let (few, many) = (took(10), took(20_000));
    assert!(many < few * 3 + std::time::Duration::from_secs(2), "{few:?} and {many:?}");
}

/// What this thread has had of a processor: a busy machine makes that no longer.
fn cpu_time() -> std::time::Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// All virtual servers go at once, or many of them.
#[test]
fn those_that_stay_keep_their_places_when_many_go() {
    let mut bench = Bench::new(BASE);
    let add = |number: u32| Edit::AddVirtualServer(keys(json!({"address": "10.0.9.9", "port": 1 + number})));
    bench.edit(&(0..100).map(add).collect::<Vec<_>>()).unwrap();
    let at = |number: u16| Identity::Address {
        address: [10, 0, 9, 9].into(),
        port: 1 + number,
        protocol: Protocol::Tcp,
    };
    let gone = (0..100)
        .filter(|number| number % 3 != 1)
        .map(|number| Edit::RemoveVirtualServer(Id::Identity(at(number))));
    bench.edit(&gone.rev().collect::<Vec<_>>()).unwrap();
    assert_eq!(bench.config.virtual_servers.len(), 2 + 33);
    let expected = bench.as_file();
    assert_eq!(bench.config, expected);
    for (place, server) in bench.config.virtual_servers.iter().enumerate() {
        assert_eq!(bench.editor.places[&server.identity()], place);
    }
    bench.edit(&[Edit::RemoveVirtualServer(Id::Identity(at(1)))]).unwrap();
    assert_eq!(bench.config, bench.as_file());
}

/// An edit answers for what it changes.
#[test]
fn what_an_edit_needs_is_what_it_brings() {
    let exec = |path: &str| json!({"type": "exec", "command": [path]});
    let mut bench = Bench::new(BASE);
    let needs = |bench: &mut Bench, edit: Edit| {
        let staged = bench.editor.stage(&bench.config, &[edit]).unwrap();
        let needs: Vec<Need> = staged.needs.iter().filter_map(|it| it.need.clone()).collect();
        bench.editor.commit(&mut bench.config, staged);
        needs
    };
    let web = |value| Edit::SetVirtualServer(name("web"), keys(value));
    let set = |value| Edit::SetRealServer(name("web"), key("10.0.1.1", 8080), keys(value));
    let program = |path: &str| Need::Program(path.into());
    assert!(needs(&mut bench, web(json!({"health_check": exec("/a")}))).contains(&program("/a")));
    for (edit, expected) in [
        (web(json!({"scheduler": "rr"})), vec![]),
        (set(json!({"weight": 0})), vec![]),
        (Edit::AddRealServer(name("web"), keys(json!({"address": "10.0.1.2"}))), vec![]),
        (set(json!({"health_check": exec("/b")})), vec![program("/b")]),
        (set(json!({"weight": 1})), vec![]),
        (web(json!({"notify_up": ["/c"]})), vec![program("/c")]),
    ] {
        assert_eq!(needs(&mut bench, edit.clone()), expected, "{edit:?}");
    }
}

#[test]
fn a_list_of_real_servers_ends_what_was_known_of_each() {
    let mut bench = Bench::new(BASE);
    let real = keys(json!({"address": "10.0.1.99", "port": 8080}));
    bench.edit(&[Edit::AddRealServer(name("web"), real)]).unwrap();
    let list = keys(json!({"real_server": [{"address": "10.0.1.1", "port": 8080}]}));
    bench.edit(&[Edit::SetVirtualServer(name("web"), list)]).unwrap();
    let mut again = Bench::new(BASE);
    again.edit(&bench.since.edits()).unwrap();
    assert_eq!(again.config, bench.config);
}

#[test]
fn what_was_edited_since_is_made_again_on_another_file() {
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut dice = |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % limit
    };
    let mut made = 0;
    for _ in 0..40 {
        let mut bench = Bench::new(BASE);
        for _ in 0..30 {
            let id =
                [name("web"), name("tcp-10.0.9.2:80"), name("tcp-10.0.9.3:80")][dice(3) as usize].clone();
            let address = format!("10.0.1.{}", 1 + dice(3));
            let server = (address.parse().unwrap(), 80);
            let edit = match dice(9) {
                0 => Edit::AddVirtualServer(keys(
                    json!({"address": format!("10.0.9.{}", 1 + dice(3)), "port": 80, "scheduler": "rr"}),
                )),
                1 => Edit::RemoveVirtualServer(id),
                2 => Edit::SetVirtualServer(id, keys(json!({"persistence_timeout": dice(3)}))),
                3 | 4 => Edit::AddRealServer(id, keys(json!({"address": address, "weight": dice(5)}))),
                5 => Edit::RemoveRealServer(id, server),
                6 if dice(20) == 0 => Edit::Clear,
                7 => Edit::SetVirtualServer(
                    id,
                    keys(json!({"real_server": [{"address": address, "port": 80}]})),
                ),
                _ => Edit::SetRealServer(id, server, keys(json!({"weight": dice(5)}))),
            };
            made += usize::from(bench.edit(&[edit]).is_ok());
        }
        let mut again = Bench::new(BASE);
        let edits = bench.since.edits();
        assert_eq!(bench.since.count(), edits.len());
        again.edit(&edits).unwrap_or_else(|refusal| panic!("{refusal:?} of {edits:?}"));
        let sorted = |bench: &Bench| {
            let mut servers = bench.config.virtual_servers.clone();
            servers.sort_by_key(|server| server.name.clone());
            servers.iter_mut().for_each(|it| it.real_servers.sort_by_key(|real| (real.address, real.port)));
            servers
        };
        assert_eq!(sorted(&again), sorted(&bench));
        assert_eq!(bench.config, bench.as_file());
        for (place, server) in bench.config.virtual_servers.iter().enumerate() {
            assert_eq!(bench.editor.places.get(&server.identity()), Some(&place));
            assert_eq!(bench.editor.names.get(&server.name), Some(&server.identity()));
        }
        assert_eq!(bench.editor.names.len(), bench.config.virtual_servers.len());
    }
    assert!(made > 150, "{made}");
}
