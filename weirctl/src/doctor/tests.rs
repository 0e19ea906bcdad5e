//! Machines made of a few files, and what is found on them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use weir_api::director::{Counters, Device, Port, Ports, Status};
use weir_api::virtual_servers::Listing;
use weir_api::workers::{self, Worker};

use super::facts::{Answers, InForce};
use super::*;

/// A machine on which all is well: two nodes, a NIC behind vfio, a weir with a worker on core 2.
struct Machine {
    root: PathBuf,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

const NIC: &str = "sys/devices/pci0000:00/0000:00:01.0";
const FILE: &str = "[[port]]\nname = \"lan\"\ndevice = \"0000:00:01.0\"\naddresses = [\"10.0.0.2/24\"]\n\
    [[port]]\nname = \"wan\"\ndevice = \"net_af_packet0\"\naddresses = [\"10.1.0.2/24\"]\n";
const STATUS: &str =
    "Name:\tweir\nCapEff:\t000001ffffffffff\nHugetlbPages:\t  262144 kB\nCpus_allowed_list:\t2\n";

impl Machine {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("weirctl-doctor-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let machine = Self { root };
        let pool = "sys/kernel/mm/hugepages/hugepages-2048kB";
        for (path, text) in [
            ("etc/weir/weir.toml", FILE),
            (&format!("{pool}/nr_hugepages"), "512"),
            (&format!("{pool}/free_hugepages"), "300"),
            ("sys/devices/system/node/node0/cpulist", "0-1"),
            ("sys/devices/system/node/node1/cpulist", "2-3"),
            ("sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages", "256"),
            ("sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages", "100"),
            ("sys/kernel/iommu_groups/1/type", "DMA"),
            (&format!("{NIC}/numa_node"), "1"),
            ("sys/devices/system/cpu/isolated", "2-3"),
            ("sys/devices/system/cpu/nohz_full", "2-3"),
            ("sys/devices/system/cpu/online", "0-3"),
            ("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2-3"),
            ("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "performance"),
            ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"),
            ("sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc acpi_pm"),
            ("proc/cpuinfo", "vendor_id : GenuineIntel\nflags : fpu constant_tsc nonstop_tsc"),
            (
                "proc/interrupts",
                "           CPU0       CPU1       CPU2       CPU3\n 27: 5 0 0 0 PCI-MSI eth0\nLOC: 1 2 3 4 Local\n",
            ),
            ("proc/stat", "cpu  1 1 1 1 1 1 1 1\ncpu2 10 0 10 80 0 0 0 0 0 0\n"),
            ("proc/net/route", "Iface\tDestination\nmgmt\t00000000\n"),
            ("proc/sys/net/ipv4/conf/all/rp_filter", "0"),
            ("proc/sys/net/ipv4/conf/all/forwarding", "0"),
            ("proc/sys/net/ipv4/conf/eth1/rp_filter", "1"),
            ("proc/sys/net/ipv4/conf/eth1/forwarding", "0"),
            ("sys/class/net/eth1/mtu", "1500"),
            ("sys/class/net/eth1/operstate", "up"),
            ("proc/70/comm", "chronyd"),
            ("proc/77/comm", "weir"),
            (
                "proc/77/cmdline",
                "weir\0-l\x000,2\0--vdev\0net_af_packet0,iface=eth1\0--\0-c\0/etc/weir/weir.toml\0",
            ),
            ("proc/77/status", STATUS),
            ("proc/77/environ", "GLIBC_TUNABLES=glibc.malloc.hugetlb=1\0"),
            (
                "proc/77/limits",
                "Max open files            65536                65536                files\nMax locked memory         unlimited            unlimited            bytes\n",
            ),
            ("proc/77/task/77/comm", "weir"),
            ("proc/77/task/78/comm", "tokio-rt-worker"),
            ("proc/77/task/79/comm", "rte-worker-2"),
            ("proc/77/task/79/status", STATUS),
            ("proc/77/task/79/schedstat", "1000 5 1"),
        ] {
            machine.write(path, text);
        }
        fs::create_dir_all(machine.root.join("sys/bus/pci/devices")).unwrap();
        fs::create_dir_all(machine.root.join("sys/bus/pci/drivers/vfio-pci")).unwrap();
        symlink(machine.root.join(NIC), machine.root.join("sys/bus/pci/devices/0000:00:01.0")).unwrap();
        machine.bind("vfio-pci");
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn remove(&self, path: &str) {
        let path = self.root.join(path);
        let _ = fs::remove_file(&path);
        let _ = fs::remove_dir_all(path);
    }

    fn bind(&self, driver: &str) {
        self.remove(&format!("{NIC}/driver"));
        symlink(Path::new("/sys/bus/pci/drivers").join(driver), self.root.join(NIC).join("driver")).unwrap();
    }

    /// Without a weir: its unit is what says how it is going to run.
    fn without_weir(&self) {
        self.remove("proc/77");
        let unit = "[Service]\nType=notify\nExecStart=/usr/local/sbin/weir -l 0,2 --vdev=net_af_packet0,iface=eth1 -- -c /etc/weir/weir.toml\n\
            LimitMEMLOCK=infinity\nRestartPreventExitStatus=2\n";
        self.write("etc/systemd/system/weir.service", unit);
    }

    /// What is known of it; nobody answers.
    fn facts(&self) -> Facts {
        let (file, root) = ("/etc/weir/weir.toml".into(), self.root.clone());
        let door = Door::Socket(root.join("no.sock"));
        Facts::gather(Where { door, file, root, between: Duration::from_millis(1) })
    }

    /// The same, with what a weir that is well says.
    fn answered(&self) -> Facts {
        Facts { answers: Ok(answers()), ..self.facts() }
    }
}

fn answers() -> Answers {
    let device = Device { missed: 0, receive_errors: 0, transmit_errors: 0, no_buffer: 0 };
    let port = Port {
        port: "lan".into(),
        device_name: "net_null0".into(),
        vlan: None,
        link_up: Some(true),
        receive_packets: 1,
        receive_bytes: 1,
        transmit_packets: 1,
        transmit_bytes: 1,
        device: Some(device),
    };
    let worker = |worker| Worker {
        worker,
        generation: 1,
        connections: 10,
        capacity: 1_000,
        busy_cycles: 1,
        idle_cycles: 1,
        received: 50_000,
        forwarded: 1,
        answered: 0,
        dropped: 0,
        passes: 1,
        passes_within: Vec::new(),
        longest_pass_seconds: 0.000_03,
    };
    let counters = Counters {
        forwarded: 1,
        absorbed: 0,
        untracked: 0,
        ipv6_clients_full: 0,
        templates_full: 0,
        waiting: 0,
        arp_requests: 1,
        nd_solicitations: 0,
        arp_conflicts: 0,
        dropped: [].into(),
        answered: [].into(),
    };
    let status = Status {
        version: env!("CARGO_PKG_VERSION").into(),
        dpdk_version: "22.11.11".into(),
        started: 4e9,
        uptime_seconds: 100.0,
        not_ready: Vec::new(),
        generation: 1,
        reload_successful: true,
        reload_at: 4e9,
        workers: 1,
        connections: 10,
        capacity: 1_000,
        virtual_servers: 1,
        real_servers: 1,
        real_servers_serving: 1,
        real_servers_down: 0,
        vrrp_instances: 0,
        vrrp_masters: 0,
        kept: None,
        http_certificate_ends: Some(4e9 + 1e8),
        http_key_exposed: false,
    };
    let mut model =
        crate::ipvsadm::tests::after(&["-A -t 192.0.2.1:80", "-a -t 192.0.2.1:80 -r 10.99.0.11:80 -i"]);
    model.services[0].name = "web".into();
    let ports = || Ports { ports: vec![port.clone()] };
    let workers = || workers::Listing { cycle_frequency: 1, workers: vec![worker(0)] };
    Answers {
        status,
        counters,
        servers: Listing { virtual_servers: model.services },
        opening: Default::default(),
        ports: [ports(), ports()],
        workers: [workers(), workers()],
        in_force: None,
    }
}

/// All that is found, but what is well.
fn faults(facts: Facts) -> Vec<Finding> {
    let found = run(&CHECKS, Arc::new(facts), Duration::from_secs(60));
    found.into_iter().filter(|it| it.status != Level::Ok).collect()
}

fn shown(found: &[Finding]) -> String {
    report(found, false, &Screen::plain(None)).0
}

/// Looks whether exactly this is found: a check, its status, words of the text and of the mend.
fn assert_found(facts: Facts, check: &str, status: Level, words: &[&str]) {
    let found = faults(facts);
    let (mine, others): (Vec<_>, Vec<_>) = found.iter().partition(|it| it.check == check);
    // That nobody answers is known.
    let others: Vec<_> = others.into_iter().filter(|it| it.check != "weir").collect();
    assert!(others.is_empty(), "{}", shown(&found));
    let [one] = mine.as_slice() else { panic!("{check}: {}", shown(&found)) };
    assert_eq!(one.status, status, "{}", shown(&found));
    let line = shown(std::slice::from_ref(one));
    assert_eq!(line.lines().count(), 1);
    assert!(line.contains("; mend: "), "{line}");
    for word in words {
        assert!(line.contains(word), "{word}: {line}");
    }
}

#[test]
fn a_machine_that_is_well_has_a_line_for_each_check() {
    let machine = Machine::new("well");
    let facts = machine.answered();
    let found = run(&CHECKS, Arc::new(facts), Duration::from_secs(60));
    assert!(found.iter().all(|it| it.status == Level::Ok), "{}", shown(&found));
    let checks: std::collections::BTreeSet<_> = found.iter().map(|it| it.check).collect();
    // Only tunnels, a large configuration and a log in a file are not there.
    assert_eq!(checks.len(), CHECKS.len() - 3, "{}", shown(&found));
    let (text, fails) = report(&found, true, &Screen::plain(None));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((json["status"].as_str(), fails), (Some("ok"), false));
    assert_eq!(json["checks"].as_array().unwrap().len(), found.len());
}

#[test]
fn a_machine_without_weir_is_looked_at_by_its_unit() {
    let machine = Machine::new("planned");
    machine.without_weir();
    let found = faults(machine.facts());
    assert_eq!(found.len(), 1, "{}", shown(&found));
    assert_eq!((found[0].check, found[0].status), ("weir", Level::Warn));
    assert!(found[0].text.contains("only the machine is looked at"), "{}", shown(&found));
    machine.write("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "20");
    assert_found(machine.facts(), "hugepages", Level::Fail, &["40 of 1024 MiB", "vm.nr_hugepages="]);
    machine.write("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0");
    assert_found(
        machine.facts(),
        "hugepages",
        Level::Fail,
        &["no huge pages are reserved", "vm.nr_hugepages=512"],
    );
    machine.write("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "512");
    machine.write("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "300");
    machine.write(
        "etc/systemd/system/weir.service",
        "[Service]\nExecStart=weir --vdev net_af_packet0,iface=eth1 -l 0,2\n",
    );
    assert_found(machine.facts(), "limits", Level::Warn, &["LimitMEMLOCK=infinity"]);
}

#[test]
fn a_weir_that_does_not_answer_fails() {
    let machine = Machine::new("silent");
    let found = faults(machine.facts());
    assert_eq!((found.len(), found[0].check, found[0].status), (1, "weir", Level::Fail), "{}", shown(&found));
    assert!(found[0].text.contains("it runs (process 77) and does not answer"));
}

#[test]
fn devices_that_weir_can_not_have_are_found() {
    let machine = Machine::new("devices");
    machine.bind("e1000e");
    machine.write(&format!("{NIC}/net/mgmt/mtu"), "1500");
    assert_found(
        machine.answered(),
        "binding",
        Level::Fail,
        &["by e1000e", "as mgmt", "dpdk-devbind.py -b vfio-pci 0000:00:01.0"],
    );
    machine.bind("uio_pci_generic");
    assert_found(machine.answered(), "iommu", Level::Warn, &["without an IOMMU", "-b vfio-pci"]);
    machine.bind("vfio-pci");
    machine.remove("sys/kernel/iommu_groups");
    assert_found(machine.answered(), "iommu", Level::Fail, &["intel_iommu=on", "uio_pci_generic"]);
    machine.write("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y");
    assert_found(machine.answered(), "iommu", Level::Warn, &["enable_unsafe_noiommu_mode"]);
    machine.bind("mlx5_core");
    assert_eq!(faults(machine.answered()), []);
    machine.remove("sys/bus/pci/devices/0000:00:01.0");
    assert!(shown(&faults(machine.answered())).contains("there is no PCI device 0000:00:01.0"));
}

#[test]
fn interfaces_below_ports_are_weirs_alone() {
    let machine = Machine::new("interfaces");
    machine.write("proc/net/route", "Iface\tDestination\neth1\t0000010A\n");
    assert_found(
        machine.answered(),
        "binding",
        Level::Warn,
        &["addresses on eth1", "ip address flush dev eth1"],
    );
    machine.write("proc/net/route", "Iface\tDestination\n");
    machine.write("sys/class/net/eth1/mtu", "1400");
    assert_found(machine.answered(), "mtu", Level::Fail, &["ip link set eth1 mtu 1500"]);
    machine.write("sys/class/net/eth1/mtu", "1500");
    machine.write("proc/sys/net/ipv4/conf/eth1/rp_filter", "0");
    assert_eq!(faults(machine.answered()), []);
    machine.write("proc/sys/net/ipv4/conf/eth1/forwarding", "1");
    assert_found(machine.answered(), "kernel", Level::Warn, &["conf.eth1.forwarding=0"]);
    machine.write("proc/sys/net/ipv4/conf/eth1/forwarding", "0");
    machine.write("etc/weir/weir.toml", &(FILE.to_owned() + "host_interface = \"weir1\"\n"));
    assert_found(machine.answered(), "kernel", Level::Warn, &["conf.eth1.rp_filter=1"]);
    machine.write("etc/weir/weir.toml", FILE);
    machine.remove("sys/class/net/eth1");
    assert!(shown(&faults(machine.answered())).contains("there is no interface eth1"));
}

#[test]
fn cores_that_others_use_are_found() {
    let machine = Machine::new("cores");
    machine.write("sys/devices/system/cpu/nohz_full", "(null)");
    assert_found(
        machine.answered(),
        "isolation",
        Level::Warn,
        &["the kernel's tick", "isolcpus=2 nohz_full=2 rcu_nocbs=2"],
    );
    machine.write("sys/devices/system/cpu/nohz_full", "2-3");
    machine.write("sys/devices/system/cpu/isolated", "3");
    assert_found(
        machine.answered(),
        "isolation",
        Level::Warn,
        &["core 2 of workers may be given to other programs"],
    );
    machine.write("sys/fs/cgroup/cpuset.cpus.isolated", "2");
    assert_eq!(faults(machine.answered()), []);
    machine.write("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "1-2");
    assert_found(machine.answered(), "siblings", Level::Warn, &["/sys/devices/system/cpu/cpu1/online"]);
    machine.write("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2-3");
    machine.write("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "powersave");
    assert_found(
        machine.answered(),
        "governor",
        Level::Warn,
        &["cpupower -c 2 frequency-set -g performance"],
    );
    machine.write("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "performance");
    machine.write(&format!("{NIC}/numa_node"), "0");
    machine.write("sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "1");
    assert_found(machine.answered(), "node", Level::Warn, &["NUMA node 0", "cores 2", "cores out of 0-1"]);
    machine.remove("sys/devices/system/node/node0/hugepages");
    assert!(shown(&faults(machine.answered())).contains("echo 512 > /sys/devices/system/node/node0"));
}

#[test]
fn what_grows_between_two_looks_is_found() {
    let machine = Machine::new("grows");
    let waits = |nanos: u64| {
        let mut facts = machine.answered();
        facts.looks[1].waited = vec![Some(nanos)];
        facts.looks[1].at = facts.looks[0].at.map(|it| it + Duration::from_secs(1));
        facts
    };
    assert_eq!(faults(waits(5_000_000)), []);
    machine.write(
        "proc/90/task/90/stat",
        "90 (a hog) x) R 1 1 1 0 -1 0 0 0 0 0 9 9 0 0 20 0 1 0 5 1 1 1 1 1 1 1 1 0 0 0 0 0 0 0 17 2 0 0 0",
    );
    assert_found(
        waits(50_000_000),
        "load",
        Level::Warn,
        &["worker 0 has waited 4.9 %", "core 2", "a hog) x"],
    );
    assert_found(waits(500_000_000), "load", Level::Fail, &["49.9 %"]);
    let mut facts = machine.answered();
    facts.looks[1].stolen.insert(2, (10, 200));
    assert_found(facts, "load", Level::Warn, &["the hypervisor has given core 2 to others for 10 %"]);
    let mut facts = machine.answered();
    facts.looks[1].interrupts.insert(("27 eth0".to_owned(), 2), 17);
    assert_found(
        facts,
        "interrupts",
        Level::Warn,
        &["interrupt 27 (eth0)", "17 times", "echo 0-1,3 > /proc/irq/27/smp_affinity_list"],
    );
}

#[test]
fn clocks_that_are_not_steady_are_found() {
    let machine = Machine::new("clocks");
    machine.write("sys/devices/system/clocksource/clocksource0/available_clocksource", "hpet acpi_pm");
    machine.write("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet");
    assert_found(machine.answered(), "clock", Level::Warn, &["unstable and uses hpet"]);
    machine.write("sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet");
    machine.write("proc/cpuinfo", "vendor_id : GenuineIntel\nflags : fpu constant_tsc");
    assert_found(machine.answered(), "clock", Level::Warn, &["does not say nonstop_tsc"]);
    machine.write("proc/cpuinfo", "flags : constant_tsc nonstop_tsc");
    machine.remove("proc/70");
    assert_found(machine.answered(), "time", Level::Warn, &["apt-get install chrony"]);
    machine.write("run/systemd/timesync/synchronized", "");
    assert_eq!(faults(machine.answered()), []);
}

#[test]
fn limits_and_room_for_the_log_are_looked_at() {
    let machine = Machine::new("limits");
    let locked = "Max open files            1024                 4096                 files\nMax locked memory         8388608              8388608              bytes\n";
    machine.write("proc/77/limits", locked);
    assert_found(machine.answered(), "limits", Level::Warn, &["LimitNOFILE=65536"]);
    machine.write("proc/77/status", &STATUS.replace("000001ffffffffff", "0000000000001000"));
    let found = faults(machine.answered());
    assert!(shown(&found).contains("LimitMEMLOCK=infinity") && found.len() == 2, "{}", shown(&found));
    // As root it could, when it mattered.
    let of_root = format!("{}Uid:\t0\t0\t0\t0\n", STATUS.replace("000001ffffffffff", "0000000000001000"));
    machine.write("proc/77/status", &of_root);
    assert_eq!(faults(machine.answered()).len(), 1);
    machine.write("proc/77/status", STATUS);
    machine.write("proc/77/limits", "");
    machine.write("var/log/weir.log", "");
    fs::create_dir_all(machine.root.join("proc/77/fd")).unwrap();
    symlink("/var/log/weir.log", machine.root.join("proc/77/fd/2")).unwrap();
    let found = run(&CHECKS, Arc::new(machine.answered()), Duration::from_secs(60));
    let log = found.iter().find(|it| it.check == "log").unwrap();
    assert!(log.text.starts_with("the disk of /var/log/weir.log has "), "{}", log.text);
    // How full it is depends on who runs this.
    machine.remove("proc/77/fd");
    let mut facts = machine.answered();
    facts.answers.as_mut().unwrap().status.virtual_servers = 5_000;
    machine.write("proc/77/environ", "A=b\0");
    assert_found(facts, "heap", Level::Warn, &["GLIBC_TUNABLES=glibc.malloc.hugetlb=1"]);
}

#[test]
fn a_file_that_is_not_in_force_is_found() {
    let machine = Machine::new("file");
    let with = |change: &dyn Fn(&mut Facts)| {
        let mut facts = machine.answered();
        change(&mut facts);
        facts
    };
    let status = |facts: &mut Facts, change: &dyn Fn(&mut Status<'static>)| {
        change(&mut facts.answers.as_mut().unwrap().status)
    };
    assert_found(
        with(&|facts| status(facts, &|it| it.reload_successful = false)),
        "file",
        Level::Fail,
        &["was refused", "weir --check -c /etc/weir/weir.toml"],
    );
    let in_force = |is_file_new, edits, refused: Option<&str>| {
        let tables = serde_json::json!({ "port": [{ "name": "lan", "device": "0000:00:01.0" }] });
        let it = InForce {
            tables: serde_json::from_value(tables).unwrap(),
            refused: refused.map(str::to_owned),
            is_file_new,
            edits,
        };
        with(&|facts| facts.answers.as_mut().unwrap().in_force = Some(it.clone()))
    };
    assert_eq!(faults(in_force(false, 0, None)), []);
    assert_found(in_force(true, 0, None), "file", Level::Warn, &["was changed after", "weirctl reload"]);
    let save = "weirctl save /etc/weir/weir.toml";
    assert_found(in_force(false, 2, None), "file", Level::Warn, &["2 edit(s)", save]);
    let why = "would be refused now: `mtu`";
    assert_found(
        in_force(false, 0, Some("`mtu` can't change")),
        "file",
        Level::Fail,
        &[why, "weir --check -c"],
    );
    machine.write("etc/weir/weir.toml", "[[prot]]\n");
    let found = faults(machine.answered());
    assert!(shown(&found).contains("weirctl check /etc/weir/weir.toml"), "{}", shown(&found));
}

/// A fault of a running weir: what is changed in its answers, the check, its status, and words.
type Case = (fn(&mut Answers), &'static str, Level, &'static [&'static str]);

#[test]
fn what_weir_says_is_understood() {
    let machine = Machine::new("answers");
    let cases: [Case; 18] = [
        (
            |it| it.status.not_ready = vec!["port lan has no link".to_owned()],
            "weir",
            Level::Fail,
            &["not ready: port lan has no link"],
        ),
        (|it| it.status.version = "9.9".into(), "weir", Level::Warn, &["weir is 9.9"]),
        (|it| it.ports[1].ports[0].link_up = Some(false), "link", Level::Fail, &["port lan: down", "cable"]),
        (
            |it| it.ports[1].ports[0].device.as_mut().unwrap().missed = 9,
            "losses",
            Level::Warn,
            &["9 frames because a receive queue was full, 9 of them just now"],
        ),
        (
            |it| it.ports.iter_mut().for_each(|it| it.ports[0].device.as_mut().unwrap().no_buffer = 3),
            "losses",
            Level::Warn,
            &["3 frames for lack of a packet buffer; mend: a greater mbufs"],
        ),
        (
            |it| _ = it.counters.dropped.insert("transmit_full".to_owned(), 5),
            "losses",
            Level::Warn,
            &["5 packets dropped"],
        ),
        (
            |it| it.workers[1].workers[0].connections = 850,
            "table",
            Level::Warn,
            &["85 % full", "capacity = 2000"],
        ),
        (|it| it.counters.untracked = 3, "table", Level::Warn, &["without a record"]),
        (|it| it.counters.ipv6_clients_full = 3, "table", Level::Warn, &["IPv6 client", "ipv6_clients of"]),
        (|it| it.counters.templates_full = 3, "table", Level::Warn, &["ipv6_templates of [connections]"]),
        (
            |it| it.servers.virtual_servers[0].real_servers[0].weight = 0,
            "servers",
            Level::Fail,
            &["nobody to serve: web", "weirctl health web"],
        ),
        (
            |it| {
                it.servers.virtual_servers[0].real_servers[0].active = 6;
                it.opening.insert(("web".to_owned(), "10.99.0.11:80".parse().unwrap()), 6);
            },
            "opening",
            Level::Warn,
            &["6 connections of web with 10.99.0.11:80 do not open", "weir-real-server tun --vip"],
        ),
        (|it| it.status.real_servers_down = 1, "servers", Level::Warn, &["1 of 1 real servers are down"]),
        (
            |it| _ = it.counters.dropped.insert("neighbor_failed".to_owned(), 5),
            "neighbors",
            Level::Warn,
            &["did not answer ARP"],
        ),
        (
            |it| _ = it.counters.dropped.insert("no_route".to_owned(), 5),
            "neighbors",
            Level::Warn,
            &["a [[route]]"],
        ),
        (|it| it.counters.arp_conflicts = 2, "arp", Level::Fail, &["arp_ignore=1", "arp_announce=2"]),
        (|it| it.workers[1].workers[0].longest_pass_seconds = 0.004, "load", Level::Warn, &["4.0 ms"]),
        (
            |it| {
                let second = Worker { worker: 1, received: 0, ..it.workers[1].workers[0].clone() };
                it.workers[1].workers.push(second);
            },
            "rss",
            Level::Warn,
            &["nothing comes to worker 1 of 2"],
        ),
    ];
    for (change, check, status, words) in cases {
        let mut facts = machine.answered();
        change(facts.answers.as_mut().unwrap());
        // That weir is not well is one of the faults here.
        if check == "weir" {
            let found = faults(facts);
            assert_eq!(
                (found.len(), found[0].check, found[0].status),
                (1, check, status),
                "{}",
                shown(&found)
            );
            assert!(words.iter().all(|word| found[0].text.contains(word)), "{}", shown(&found));
        } else {
            assert_found(facts, check, status, words);
        }
    }
}

#[test]
fn tunnels_need_room() {
    let machine = Machine::new("tunnels");
    let tunnelled = FILE.to_owned()
        + "[[virtual_server]]\nname = \"t\"\naddress = \"10.0.9.1\"\nport = 80\nforwarding = \"tun\"\n\
           [[virtual_server.real_server]]\naddress = \"10.0.0.11\"\n";
    machine.write("etc/weir/weir.toml", &tunnelled);
    assert_eq!(faults(machine.answered()), [], "none was too long");
    let mut facts = machine.answered();
    facts.answers.as_mut().unwrap().counters.answered.insert("fragmentation_needed".to_owned(), 4);
    assert_found(facts, "tunnels", Level::Warn, &["4 packets were too long", "mtu = 1520", "advmss 1440"]);
    machine.without_weir();
    assert_found(machine.facts(), "tunnels", Level::Warn, &["they leave 1480 bytes"]);
}

#[test]
fn a_check_that_hangs_holds_up_nobody() {
    let machine = Machine::new("hangs");
    let checks: [(&'static str, Check); 3] = [
        ("slow", |_| {
            loop {
                thread::park()
            }
        }),
        ("broken", |_| panic!("a fault")),
        ("quick", |_| vec![Finding::ok("quick", "done")]),
    ];
    let found = run(&checks, Arc::new(machine.facts()), Duration::from_millis(300));
    let names: Vec<_> = found.iter().map(|it| (it.check, it.status)).collect();
    assert_eq!(names, [("slow", Level::Warn), ("broken", Level::Warn), ("quick", Level::Ok)]);
    assert!(!report(&found, false, &Screen::plain(None)).1, "a warning is no failure");
}
