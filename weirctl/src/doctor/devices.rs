//! The ports' devices: on the bus, in the kernel, on the wire.

use std::collections::BTreeSet;

use super::Finding;
use super::facts::Facts;
use super::host::list;
use super::plan::Port;

/// What the outer header of ipip adds.
const TUNNEL_BYTES: u64 = 20;
/// What clients send.
const USUAL_MTU: u64 = 1500;
/// Drivers that leave a device to programs.
const FOR_PROGRAMS: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];
/// Drivers beside which DPDK's drives the same device.
const SHARED: [&str; 3] = ["mlx4_core", "mlx5_core", "mana"];

fn driver(facts: &Facts, address: &str) -> Option<String> {
    facts.host.link(&format!("sys/bus/pci/devices/{address}/driver"))
}

/// The kernel's interface below a port, if it has one.
fn interface(facts: &Facts, port: &Port) -> Option<String> {
    facts.process.interface_of(&port.device)
}

/// Whether devices can be confined to the memory that is theirs.
pub(super) fn iommu(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "iommu";
    let addresses: Vec<String> = facts.ports().filter_map(Port::pci).collect();
    let Some(first) = addresses.first() else { return Vec::new() };
    let is_shared = |address: &String| driver(facts, address).is_some_and(|it| SHARED.contains(&it.as_str()));
    let by_uio = addresses.iter().find(|it| driver(facts, it).is_some_and(|it| it.contains("uio")));
    let finding = if addresses.iter().all(is_shared) {
        Finding::ok(CHECK, "not needed: the kernel's drivers take part")
    } else if let Some(address) = by_uio {
        let mend = format!("modprobe vfio-pci && dpdk-devbind.py -b vfio-pci {address}");
        Finding::warn(
            CHECK,
            format!("{address} is driven without an IOMMU: it may write to all memory"),
            mend,
        )
    } else if !facts.host.names("sys/kernel/iommu_groups").is_empty() {
        Finding::ok(CHECK, "works")
    } else if facts.host.text("sys/module/vfio/parameters/enable_unsafe_noiommu_mode").as_deref() == Some("Y")
    {
        Finding::warn(
            CHECK,
            "there is none, and vfio goes on without (enable_unsafe_noiommu_mode): devices may write to all memory",
            switch_on(facts),
        )
    } else {
        let mend = format!(
            "{}; or without one: modprobe uio_pci_generic && dpdk-devbind.py -b uio_pci_generic {first}",
            switch_on(facts)
        );
        Finding::fail(CHECK, "there is none, so vfio-pci takes no device", mend)
    };
    vec![finding]
}

fn switch_on(facts: &Facts) -> String {
    let is_intel = facts.host.text("proc/cpuinfo").unwrap_or_default().contains("GenuineIntel");
    let (name, words) =
        if is_intel { ("VT-d", "intel_iommu=on iommu=pt") } else { ("the IOMMU", "iommu=pt") };
    format!(
        "switch {name} on in the firmware, add {words} to GRUB_CMDLINE_LINUX in /etc/default/grub, update-grub, reboot"
    )
}

/// Whether weir can have the devices.
pub(super) fn binding(facts: &Facts) -> Vec<Finding> {
    facts.ports().map(|port| of_port(facts, port)).collect()
}

fn of_port(facts: &Facts, port: &Port) -> Finding {
    const CHECK: &str = "binding";
    let name = &port.name;
    let Some(address) = port.pci() else { return of_virtual(facts, port) };
    if !facts.host.has(&format!("sys/bus/pci/devices/{address}")) {
        let text = format!("port {name}: there is no PCI device {address}");
        return Finding::fail(
            CHECK,
            text,
            "lspci -D | grep -i ethernet, and write the right one as device of the port",
        );
    }
    let bind = format!("modprobe vfio-pci && dpdk-devbind.py -b vfio-pci {address}");
    match driver(facts, &address) {
        Some(driver) if FOR_PROGRAMS.contains(&driver.as_str()) => {
            Finding::ok(CHECK, format!("port {name}: {address} is bound to {driver}"))
        }
        Some(driver) if SHARED.contains(&driver.as_str()) => {
            Finding::ok(CHECK, format!("port {name}: {address} stays with {driver}, which DPDK shares"))
        }
        Some(driver) => {
            let of_kernel = facts.host.names(&format!("sys/bus/pci/devices/{address}/net"));
            let used = of_kernel.iter().find(|it| has_routes(facts, it));
            let way_in = used.map_or_else(String::new, |it| {
                format!(" (as {it}, which this machine is reached by: look that you have another way in)")
            });
            let text = format!("port {name}: {address} is the kernel's, by {driver}{way_in}");
            Finding::fail(CHECK, text, bind)
        }
        None => Finding::fail(CHECK, format!("port {name}: {address} has no driver"), bind),
    }
}

/// A device that EAL makes.
fn of_virtual(facts: &Facts, port: &Port) -> Finding {
    const CHECK: &str = "binding";
    let (name, device) = (&port.name, &port.device);
    let Some(interface) = interface(facts, port) else {
        return Finding::ok(CHECK, format!("port {name}: {device} needs none"));
    };
    if !facts.host.has(&format!("sys/class/net/{interface}")) {
        let text = format!("port {name}: there is no interface {interface} for {device}");
        return Finding::fail(CHECK, text, "ip link, and write the right one behind iface= of --vdev");
    }
    if has_routes(facts, &interface) {
        let text = format!("port {name}: the kernel has addresses on {interface}, so both answer there");
        return Finding::warn(CHECK, text, format!("ip address flush dev {interface}"));
    }
    Finding::ok(CHECK, format!("port {name}: {device} on {interface}"))
}

/// Whether the kernel has routes by this interface, which follow from its addresses.
fn has_routes(facts: &Facts, interface: &str) -> bool {
    let routes = facts.host.text("proc/net/route").unwrap_or_default();
    routes.lines().skip(1).any(|line| line.split_whitespace().next() == Some(interface))
}

/// Devices against the cores of workers.
pub(super) fn node(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for port in facts.ports() {
        let Some(address) = port.pci() else { continue };
        let Some(node) = facts.host.number(&format!("sys/bus/pci/devices/{address}/numa_node")) else {
            continue;
        };
        let Ok(node) = u32::try_from(node) else { continue };
        let away: BTreeSet<usize> = facts
            .process
            .workers
            .iter()
            .flat_map(|worker| worker.cpus.iter().copied())
            .filter(|cpu| facts.host.node_of(*cpu).is_some_and(|it| it != node))
            .collect();
        let name = &port.name;
        found.push(if away.is_empty() {
            Finding::ok("node", format!("port {name}: node {node}, as its workers"))
        } else {
            let text = format!(
                "port {name} is on NUMA node {node}, and cores {} of its workers are not",
                list(&away)
            );
            let there = facts.host.cpus(&format!("sys/devices/system/node/node{node}/cpulist"));
            Finding::warn("node", text, format!("start weir with -l and cores out of {}", list(&there)))
        });
    }
    found
}

/// Links.
pub(super) fn link(facts: &Facts) -> Vec<Finding> {
    if let Ok(answers) = &facts.answers {
        let of_port = |port: &weir_api::director::Port<'_>| match port.link_up {
            Some(false) => Finding::fail(
                "link",
                format!("port {}: down", port.port),
                "look at the cable, and at the switch's port",
            ),
            Some(true) => Finding::ok("link", format!("port {}: up", port.port)),
            None => Finding::ok("link", format!("port {}: its device does not say", port.port)),
        };
        return answers.ports[1].ports.iter().map(of_port).collect();
    }
    let with_interface = facts.ports().filter_map(|port| Some((port, interface(facts, port)?)));
    let finding = |(port, interface): (&Port, String)| {
        let state = facts.host.text(&format!("sys/class/net/{interface}/operstate"))?;
        let text = format!("port {}: {interface} is {state}", port.name);
        Some(match state.as_str() {
            "down" | "lowerlayerdown" => Finding::fail("link", text, format!("ip link set {interface} up")),
            _ => Finding::ok("link", text),
        })
    };
    with_interface.filter_map(finding).collect()
}

/// Interfaces below ports have to take what the ports may send.
pub(super) fn mtu(facts: &Facts) -> Vec<Finding> {
    let of_port = |port: &Port| {
        let interface = interface(facts, port)?;
        let mtu = facts.host.number(&format!("sys/class/net/{interface}/mtu"))?;
        let (name, wanted) = (&port.name, port.mtu);
        Some(if (mtu.max(0) as u64) < wanted {
            let text = format!(
                "port {name} has an MTU of {wanted}, and {interface} below it one of {mtu}: longer frames are lost"
            );
            Finding::fail("mtu", text, format!("ip link set {interface} mtu {wanted}"))
        } else {
            Finding::ok("mtu", format!("port {name}: {wanted}"))
        })
    };
    facts.ports().filter_map(of_port).collect()
}

/// Packets grow on their way to real servers behind tunnels.
pub(super) fn tunnels(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "tunnels";
    let Ok(plan) = &facts.plan else { return Vec::new() };
    if !plan.has_tunnels {
        return Vec::new();
    }
    let least = plan.ports.iter().map(|port| port.mtu).min().unwrap_or(USUAL_MTU);
    let room = least.saturating_sub(TUNNEL_BYTES);
    if room >= USUAL_MTU {
        return vec![Finding::ok(
            CHECK,
            format!("packets of {USUAL_MTU} bytes fit into the ports' MTU of {least}"),
        )];
    }
    let mend = format!(
        "mtu = {} of the [[port]] and in its whole network; or on each real server: ip route change default via GATEWAY advmss {}",
        USUAL_MTU + TUNNEL_BYTES,
        room.saturating_sub(40)
    );
    let counters = facts.answers.as_ref().ok().map(|it| &it.counters);
    let met = counters.map_or(0, |it| {
        it.answered.get("fragmentation_needed").copied().unwrap_or(0)
            + it.dropped.get("too_big").copied().unwrap_or(0)
    });
    let finding = if met > 0 {
        let text = format!(
            "{met} packets were too long for the tunnels, which leave {room} bytes to them: their clients have to send shorter ones"
        );
        Finding::warn(CHECK, text, mend)
    } else if counters.is_some() {
        Finding::ok(CHECK, format!("they leave {room} bytes to packets, and none was longer"))
    } else {
        let text = format!("they leave {room} bytes to packets, and clients may send {USUAL_MTU}");
        Finding::warn(CHECK, text, mend)
    };
    vec![finding]
}

/// What the kernel does with what it sees on the interfaces below ports.
pub(super) fn kernel(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for port in facts.ports() {
        let Some(interface) = interface(facts, port) else { continue };
        let of = |key: &str| {
            let of = |whose: &str| facts.host.number(&format!("proc/sys/net/ipv4/conf/{whose}/{key}"));
            Some((of("all")?, of(&interface)?))
        };
        let (Some((all, own)), Some((_, forwards))) = (of("rp_filter"), of("forwarding")) else { continue };
        // The kernel takes the greater of the two; only 1 keeps it from all that is not its own.
        let is_strict = all.max(own) == 1;
        let before = found.len();
        if forwards == 1 && !is_strict {
            let text = format!("{interface}: the kernel forwards what weir forwards, once more");
            found.push(Finding::warn(
                "kernel",
                text,
                format!("sysctl -w net.ipv4.conf.{interface}.forwarding=0"),
            ));
        }
        if port.has_host_interface && !is_strict {
            let text = format!(
                "{interface}: the kernel answers there what weir hands to the port's host interface as well (rp_filter)"
            );
            let mend =
                format!("sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.{interface}.rp_filter=1");
            found.push(Finding::warn("kernel", text, mend));
        }
        if found.len() == before {
            found.push(Finding::ok("kernel", format!("{interface} is left to weir")));
        }
    }
    found
}
