//! What the model says about files that load.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // helpers of tests, as in tests themselves

use std::time::Duration;

use weir_config::model::health::{
    BodyDigest, DnsRecord, Exchange, Expected, Health, HttpMethod, OnFail, Probe, ServiceHealth, SorryMode,
    TextMatch,
};
use weir_config::model::{
    Config, Forwarding, Identity, MacAddress, Protocol, Scheduler, Schedulers, SctpTimeouts, SyncKernel,
    TcpTimeouts, Tunnel, Vlan, VrrpAuthentication, VrrpTracked,
};

fn load(name: &str) -> Config {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/ok").join(name);
    weir_config::load(&path).unwrap_or_else(|report| panic!("{report}")).config
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let config = load("minimal.toml");
    assert_eq!(config.control.socket.to_str(), Some("/run/weir/weir.sock"));
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:9292");
    assert_eq!((config.memory.mbufs, config.memory.mbuf_data_bytes), (0, 2048));
    let connections = &config.connections;
    assert_eq!(connections.capacity, 1_048_576);
    assert!(!connections.sloppy_tcp && !connections.sloppy_sctp);
    assert!(!connections.expire_nodest_conn && !connections.expire_quiescent_template);
    assert_eq!(connections.conn_reuse_mode, 1);
    assert!(!connections.nat_icmp_send && connections.pmtu_disc);
    assert!(!connections.schedule_icmp && !connections.secure_tcp);
    assert_eq!(connections.timeouts.tcp, TcpTimeouts::default());
    assert_eq!(connections.timeouts.udp, 300);
    assert_eq!(connections.timeouts.sctp, SctpTimeouts::default());
    assert_eq!(config.schedulers, Schedulers::default());
    let schedulers = &config.schedulers;
    assert_eq!((schedulers.mh_table_size, schedulers.mh_seed), (4093, 0));
    assert_eq!((schedulers.lblc_expiration, schedulers.lblcr_expiration), (86_400, 86_400));
    assert!(config.marks.is_empty());
    let port = &config.ports[0];
    assert_eq!((port.name.as_str(), port.device.as_str()), ("lan", "0000:03:00.0"));
    assert_eq!((port.mac, port.mtu, port.rx_queues), (None, 1500, 0));
    assert!(port.addresses.is_empty() && port.proxy_arp.is_empty());
    assert!(config.routes.is_empty() && config.neighbors.is_empty());
    assert!(config.virtual_servers.is_empty() && config.vrrp.is_empty());
}

#[test]
fn the_example_of_the_design_says_what_it_shows() {
    let config = load("design_example.toml");
    assert_eq!(config.ports[0].mac, Some(MacAddress([2, 0, 0, 0, 0, 1])));
    assert_eq!(config.ports[0].addresses.len(), 2);
    assert_eq!(config.routes[0].gateway.to_string(), "10.0.0.254");
    assert_eq!((config.routes[0].port, config.neighbors[0].port), (0, 0));
    let web = &config.virtual_servers[0];
    assert_eq!((web.name.as_str(), web.port, web.protocol), ("web", 80, Protocol::Tcp));
    assert_eq!((web.scheduler, web.persistence, web.one_packet), (Scheduler::Wlc, None, false));
    assert_eq!(web.mark, None);
    let identity = Identity::Address { address: web.address, port: 80, protocol: Protocol::Tcp };
    assert_eq!(web.identity(), identity);
    let real_server = &web.real_servers[0];
    assert_eq!(real_server.forwarding, Forwarding::Dr);
    assert_eq!(real_server.tunnel, Tunnel::Ipip);
    assert_eq!(real_server.health_checks[0].probe.name(), "http");
    assert_eq!((real_server.on_fail, &web.health), (OnFail::Remove, &ServiceHealth::default()));
    let vrrp = &config.vrrp[0];
    assert_eq!((vrrp.port, vrrp.virtual_router_id, vrrp.version, vrrp.priority), (0, 51, 2, 150));
    assert_eq!(vrrp.authentication, Some(VrrpAuthentication::Pass("...".into())));
}

#[test]
fn real_servers_inherit_and_override() {
    let config = load("mixed_methods.toml");
    let real_servers = &config.virtual_servers[0].real_servers;
    let methods: Vec<_> = real_servers.iter().map(|rs| (rs.forwarding, rs.port, rs.weight)).collect();
    assert_eq!(
        methods,
        [
            (Forwarding::Dr, 80, 1),
            (Forwarding::Tun, 80, 1),
            (Forwarding::Tun, 80, 1),
            (Forwarding::Nat, 8080, 1)
        ]
    );
    let config = load("warnings.toml");
    let checks: Vec<_> =
        config.virtual_servers[0].real_servers.iter().map(|rs| rs.health_checks[0].clone()).collect();
    assert_eq!(checks[0].probe, Probe::Tcp(Exchange::default()));
    let (one, two) = (Duration::from_secs(1), Duration::from_secs(2));
    assert_eq!((checks[0].interval, checks[0].retry_interval, checks[0].warmup), (two, two, two));
    assert_eq!((checks[0].timeouts.whole, checks[0].timeouts.connect), (one, one));
    assert_eq!((checks[0].fall, checks[0].rise, checks[0].jitter_permille), (3, 1, 100));
    let Probe::Http(http) = &checks[1].probe else { panic!("{:?}", checks[1]) };
    assert_eq!(
        (http.method, http.pages[0].path.as_str(), &http.pages[0].status[..]),
        (HttpMethod::Get, "/", &[(200, 299)][..])
    );
    assert_eq!((http.host.as_ref(), http.body_limit), (None, 65_536));
    assert_eq!(checks[1].timeouts.whole, Duration::from_millis(2500));
    assert_eq!((checks[1].fall, checks[1].rise), (2, 4));
}

#[test]
fn switches_take_booleans_and_the_kernels_numbers() {
    let connections = load("mixed_methods.toml").connections;
    assert!(connections.sloppy_tcp && !connections.sloppy_sctp);
    assert!(connections.expire_nodest_conn && connections.expire_quiescent_template);
    assert_eq!(connections.conn_reuse_mode, 3);
    assert!(connections.nat_icmp_send && !connections.pmtu_disc);
    assert_eq!(connections.timeouts.tcp.established, 7200);
    assert_eq!(connections.timeouts.tcp.fin_wait, 30);
    assert_eq!(connections.timeouts.tcp.syn_sent, 120);
    assert_eq!((connections.timeouts.udp, connections.timeouts.sctp.init1), (60, 5));
}

#[test]
fn routes_and_gateways_find_their_port() {
    let config = load("nat_one_address.toml");
    let ports: Vec<_> = config.routes.iter().map(|route| route.port).collect();
    assert_eq!(ports, [0, 1]);
    let dns = &config.virtual_servers[1];
    assert!(dns.scheduler_flags.port && dns.scheduler_flags.fallback);
    assert_eq!(dns.real_servers[1].weight, 2);
    assert_eq!(load("mixed_methods.toml").routes[1].gateway.to_string(), "fe80::1");
}

#[test]
fn vrrp_defaults_follow_the_family() {
    let config = load("vrrp.toml");
    let [v4, v6, owner] = &config.vrrp[..] else { panic!("three instances") };
    assert_eq!((v4.version, v4.priority, v4.virtual_mac), (2, 150, false));
    assert_eq!(v4.advertisement_interval, Duration::from_secs(2));
    assert_eq!(v4.preempt_delay, Duration::from_millis(30_500));
    assert_eq!(v4.authentication, Some(VrrpAuthentication::Ah("eightbyt".into())));
    let addresses: Vec<String> = v4.addresses.iter().map(ToString::to_string).collect();
    assert_eq!((addresses.join(" "), v4.excluded), ("10.0.0.100 10.0.0.101 10.0.0.102 10.0.0.103".into(), 2));
    assert_eq!(
        (v4.source_address, v4.garp.interval),
        (Some([10, 0, 0, 2].into()), Duration::from_millis(100))
    );
    assert_eq!(
        (v6.source_address, v6.garp.interval),
        (Some("fe80::77".parse().unwrap()), Duration::from_millis(10))
    );
    assert_eq!((v6.version, v6.priority, v6.virtual_mac, v6.preempt), (3, 100, true, true));
    assert_eq!(v6.advertisement_interval, Duration::from_millis(70));
    assert_eq!((owner.version, owner.priority), (2, 255));
}

#[test]
fn scripts_and_processes_are_tracked() {
    let config = load("vrrp_scripts.toml");
    let [web, mail] = &config.vrrp[..] else { panic!("two instances") };
    let VrrpTracked::Script(site) = &web.track[0].what else { panic!("a script") };
    let whole = (site.name.as_str(), &site.command[..], site.rise, site.fall, site.init_fail);
    assert_eq!(whole, ("site", &["/usr/lib/site/check".to_owned(), "-q".to_owned()][..], 2, 3, true));
    assert_eq!((site.interval, site.timeout), (Duration::from_secs(2), Duration::from_millis(1500)));
    assert_eq!((site.user.as_deref(), site.group.as_deref()), (Some("site"), Some("daemon")));
    let VrrpTracked::Script(load) = &web.track[1].what else { panic!("a script") };
    let usual = (load.name.as_str(), load.rise, load.fall, load.init_fail, web.track[1].weight);
    assert_eq!(usual, ("/usr/lib/site/load", 1, 1, false, Some(-20)));
    assert_eq!((load.interval, load.timeout), (Duration::from_secs(1), Duration::from_secs(1)));
    assert_eq!(mail.track[0].what, web.track[1].what);
    assert_eq!((web.hooks.all().count(), mail.hooks.all().count()), (5, 0));
    assert_eq!(web.hooks.master[..], ["/usr/lib/site/told", "web"]);
    let [group] = &config.vrrp_groups[..] else { panic!("one group") };
    assert_eq!((group.name.as_str(), &group.hooks.any[1..]), ("both", &["-g".to_owned()][..]));
    assert_eq!(config.control.vrrp_notify_fifo, Some("/run/weir/vrrp.fifo".into()));
    assert_eq!(web.track[2].what, VrrpTracked::Process { name: "nginx".into(), quorum: 2 });
}

#[test]
fn other_directors_are_heard_where_the_file_says() {
    let sync = load("sync.toml").sync.expect("a table");
    assert_eq!((sync.kernel, &*sync.interface, sync.id), (SyncKernel::Receive, "eth1", 7));
    assert_eq!((sync.group.to_string(), sync.port), ("ff02::81".to_owned(), 8_848));
    assert_eq!(load("schedulers.toml").sync, None);
}

#[test]
fn schedulers_have_their_options() {
    let schedulers = load("schedulers.toml").schedulers;
    assert_eq!((schedulers.mh_table_size, schedulers.mh_seed), (65_521, 0xfeed_beef_feed_beef));
    assert_eq!((schedulers.lblc_expiration, schedulers.lblcr_expiration), (3_600, 2_678_400));
    let config = load("every_scheduler.toml");
    let served: Vec<_> = config.virtual_servers.iter().map(|server| server.scheduler).collect();
    assert_eq!(served, Scheduler::ALL);
}

#[test]
fn health_is_as_the_file_says() {
    let config = load("health.toml");
    let (script_user, script_group) = ("weir-scripts".to_owned(), "daemon".to_owned());
    assert_eq!(config.health, Health { script_user, script_group, account: None, concurrent_max: 1000 });
    let web = &config.virtual_servers[0];
    let health = &web.health;
    assert!(health.alpha && health.omega);
    assert_eq!((health.quorum.weight, health.quorum.hysteresis), (3, 1));
    let sorry = health.sorry_server.as_ref().unwrap();
    assert_eq!(
        (sorry.address.to_string(), sorry.port, sorry.forwarding),
        ("10.0.0.99".into(), 8080, Forwarding::Nat)
    );
    assert!(sorry.health_checks.is_empty() && health.sorry_mode == SorryMode::Add);
    assert_eq!(health.hooks.up[..], ["/usr/lib/site/notify", "up"]);
    assert!(health.hooks.down.is_empty());
    let passive = health.passive.unwrap();
    assert_eq!((passive.ejection, passive.ejection_max), (Duration::from_secs(60), Duration::from_secs(300)));
    let [first, bare, pinged] = &web.real_servers[..] else { panic!("three real servers") };
    let Probe::Https(https, tls) = &first.health_checks[0].probe else { panic!() };
    let [page, more] = &https.pages[..] else { panic!("two pages") };
    assert_eq!((page.path.as_str(), &page.status[..]), ("/health?full=1", &[(200, 200), (204, 206)][..]));
    assert_eq!((more.path.as_str(), &more.status[..], more.body.len()), ("/more", &[(404, 404)][..], 1));
    assert_eq!(more.headers, page.headers);
    assert_eq!(https.fields[1], ("authorization".into(), "Basic d2VpcjpzZWNyZXQ=".into()));
    assert_eq!(page.headers[1], ("content-type".into(), TextMatch::Regex("^text/".into())));
    assert_eq!(page.body.len(), 2);
    let [BodyDigest::Sha256(sha256), BodyDigest::Md5(md5)] = page.body_digests[..] else { panic!() };
    assert_eq!((sha256[0], md5[0]), (0xe3, 0xd4));
    assert!(tls.verify, "authorities are given to be used");
    assert_eq!(tls.pins, [[0xab; 32]]);
    let identity = tls.identity.as_ref().unwrap();
    assert_eq!(identity.certificate, identity.key, "both may be in one file");
    assert_eq!((first.on_fail, first.agent.as_ref().unwrap().port), (OnFail::Quiesce, 5480));
    assert!(bare.health_checks.is_empty() && bare.on_fail == OnFail::Remove);
    assert_eq!(pinged.health_checks[0].probe, Probe::Ping);
    let dns = &config.virtual_servers[1].real_servers[0].health_checks;
    let exchange = |send: &str, expect: &str| Exchange {
        send: send.into(),
        expect: Some(Expected::Contains(expect.into())),
    };
    assert_eq!(dns[0].probe, Probe::Tcp(exchange("PING\r\n", "PONG")));
    assert_eq!((dns[1].probe.name(), dns[1].port), ("smtp", Some(25)));
    assert_eq!(DnsRecord::Aaaa.number(), 28);
}

#[test]
fn room_for_templates_follows_from_capacity_and_persistence() {
    let read = |connections: &str, virtual_server: &str| {
        let text = format!(
            "[connections]\ncapacity = 65536\n{connections}\n[[port]]\nname = \"lan\"\ndevice = \"x\"\n\
             addresses = [\"10.0.0.2/24\"]\n\
             [[virtual_server]]\nname = \"web\"\naddress = \"10.0.0.100\"\nport = 80\n{virtual_server}\n"
        );
        weir_config::parse("test", &text).unwrap().config.templates()
    };
    assert_eq!(read("", ""), 1_024);
    assert_eq!(read("", "persistence_timeout = 300"), 16_384);
    assert_eq!(read("templates = 5000", "persistence_timeout = 300"), 5_000);
}

#[test]
fn there_is_room_for_a_first_virtual_server_of_ipv6_unless_the_file_says_none() {
    let read = |connections: &str, address: &str| {
        let text = format!(
            "[connections]\ncapacity = 131072\n{connections}\n[[port]]\nname = \"lan\"\ndevice = \"x\"\n\
             addresses = [\"10.0.0.2/24\", \"2001:db8::2/64\"]\n\
             [[virtual_server]]\nname = \"web\"\naddress = \"{address}\"\nport = 80\n"
        );
        let read = weir_config::parse("test", &text).map_err(|report| report.to_string());
        read.map(|read| (read.config.ipv6_clients(), read.config.ipv6_templates()))
    };
    let (four, six) = ("10.0.0.100", "2001:db8::100");
    assert_eq!(read("", four), Ok((2_048, 2_048)));
    assert_eq!(read("", six), Ok((131_072, 2_048)));
    for address in [four, six] {
        assert_eq!(read("ipv6_clients = 5000\nipv6_templates = 3000", address), Ok((5_000, 3_000)));
    }
    assert_eq!(read("ipv6_clients = 0", four), Ok((0, 0)));
    let refused = read("ipv6_clients = 0", six).unwrap_err();
    assert!(refused.contains("there is no room for IPv6 clients"), "{refused}");
    assert!(
        refused.contains("leave `ipv6_clients` out, or write at least 1024, and restart weir"),
        "{refused}"
    );
    assert!(read("ipv6_clients = 1023", four).is_err());
}

#[test]
fn vlans_come_behind_their_devices() {
    let text = "[[port]]\nname = \"office\"\ndevice = \"b\"\nvlan = 100\naddresses = [\"10.0.100.2/24\"]\n\
                [[port]]\nname = \"a\"\ndevice = \"a\"\n\
                [[port]]\nname = \"guests\"\ndevice = \"a\"\nvlan = 100\nmtu = 1400\n\
                [[port]]\nname = \"b\"\ndevice = \"b\"\n\
                [[route]]\ndestination = \"0.0.0.0/0\"\ngateway = \"10.0.100.254\"\n";
    let config = weir_config::parse("test", text).unwrap_or_else(|report| panic!("{report}")).config;
    let ports: Vec<_> = config.ports.iter().map(|port| (port.name.as_str(), port.vlan)).collect();
    let vlan = |device| Some(Vlan { id: 100, device });
    assert_eq!(ports, [("a", None), ("b", None), ("office", vlan(1)), ("guests", vlan(0))]);
    assert_eq!(config.devices().len(), 2);
    assert_eq!((0..5).map(|port| config.device_of(port)).collect::<Vec<_>>(), [0, 1, 1, 0, 4]);
    assert_eq!(config.routes[0].port, 2);
    assert_eq!(config.ports[3].mtu, 1400);
}

#[test]
fn a_vlan_has_the_mtu_of_its_device_unless_it_says_otherwise() {
    let text = "[[port]]\nname = \"office\"\ndevice = \"a\"\nvlan = 100\n[[port]]\nname = \"a\"\ndevice = \"a\"\nmtu = 9000\n\
                [[port]]\nname = \"guests\"\ndevice = \"a\"\nvlan = 101\nmtu = 1400\n";
    let config = weir_config::parse("test", text).unwrap_or_else(|report| panic!("{report}")).config;
    assert_eq!(config.ports.iter().map(|port| port.mtu).collect::<Vec<_>>(), [9000, 9000, 1400]);
}
