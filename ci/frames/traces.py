"""Scheduling traces of the kernel's IPVS, and how weir plays them.

`dataplane/testdata/golden/sched/FILE.jsonl.gz` holds one scenario a line: commands that set up one virtual server,
then flows, each with the real server that the kernel picked, with edits, scripted segments and connection counts in
between. Every scenario of a group gets a virtual server of its own in one run of weir (`Place`), and every frame a
number of its own as IP ident, by which it is known again when it leaves.

The kernel's rules for picks, counts and templates are the same for IPv6. So scenarios whose picks do not hash addresses are
played once more with an IPv6 address in place of each IPv4 one (`six`) and the number as flow label.
"""

import copy
import dataclasses
import gzip
import ipaddress
import json
import time

from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

import golden
import ipvsadm
from director import ROOT
from frames import ETHERNET, ether, tcp, udp, with_header_checksum
from harness import replay
from topology import C0_MAC, GATEWAY_MAC, OWN_MAC, Setup, rip, server_mac, with_ipv6

DIRECTORY = ROOT / "dataplane" / "testdata" / "golden" / "sched"
FILES = ("basic", "conns", "conns2", "fwmark", "hashflags", "ops", "persist", "reconfig", "thresholds")
# Files with scenarios that are played with IPv6 addresses too.
FILES6 = ("conns2", "fwmark", "ops", "persist")
IPV6_HEADER = 40
ICMPV6 = 58
IDENTS = 1 << 16
CHUNK = 64
LARGEST = 60
# Counts are right as soon as weir has answered; one that is wrong gets this long before it is told.
COUNT_SECONDS = 1.0
# The recordings took no time, and so must their replay: a connection that ends on a slow machine would leave the counts.
TIMEOUTS = {name: 86_400 for name in (
    "tcp_none", "tcp_established", "tcp_syn_sent", "tcp_syn_recv", "tcp_fin_wait", "tcp_time_wait", "tcp_close",
    "tcp_close_wait", "tcp_last_ack", "tcp_listen", "tcp_synack", "udp")}
PORTS_OF_MARK = 16
ACTIVE = "weir_real_server_active_connections"
INACTIVE = "weir_real_server_inactive_connections"

SERVER_OF_MAC = {bytes.fromhex(server_mac(i).replace(":", "")): rip(i) for i in range(1, 200)}


def six(address, network="2001:db8:4::"):
    """The IPv6 address that stands for an IPv4 one; real servers have one on the port's network."""
    if address.startswith("10.99.0."):
        network = "fd99::"
    return str(ipaddress.IPv6Address(network) + int(ipaddress.IPv4Address(address)))


def goes_in_ipv6(scenario):
    """Whether nothing of it depends on the bits of an address."""
    return scenario["mode"] == "dr" and scenario["scheduler"] not in ("sh", "mh", "dh")


def load(file):
    """The scenarios of one file."""
    with gzip.open(DIRECTORY / f"{file}.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


@dataclasses.dataclass
class Step:
    """One thing to do: a frame into `c0` or `r0`, a command (`cmd`), or a look at the counts (`counts`).

    `expected` is the real server that must get the frame, None if it must get to nobody, "client" if it must leave
    towards the client; for counts `{real server: (active, inactive)}`.
    """
    kind: str
    expected: object = None
    frame: bytes = b""
    command: str = ""
    ident: int = -1
    said: str = ""


class Place:
    """A virtual server for one scenario, number `number` of its group.

    `dh` looks at the VIP, so it keeps the recorded one and gets another port; the others look at the client alone
    and get another VIP. Scenarios with a mark keep all their VIPs and get other ports and another mark.
    """

    def __init__(self, number, scenario, is_six=False):
        """Applies the scenario's set-up commands; `number` chooses what keeps it apart from others."""
        self.scenario = scenario
        self.is_six = is_six
        self.name = scenario["scenario"]
        self.table = ipvsadm.Table()
        for command in scenario["setup"]:
            self.table.apply(command)
        (recorded,) = self.table.services.values()
        self.vip, self.port = f"192.0.2.{10 + number}", None
        self.marked_ports = {}
        if recorded.mark:
            self.vip = None
            ports = sorted({flow["vport"] for flow in clients_flows(scenario)})
            self.marked_ports = {port: 10000 + PORTS_OF_MARK * number + index for index, port in enumerate(ports)}
            self.marked = {"addresses": sorted({f"{flow['vip']}/32" for flow in clients_flows(scenario)}),
                           "ports": sorted(self.marked_ports.values())}
            self.mark = 1 + number
        elif scenario["scheduler"] == "dh":
            self.vip, self.port = recorded.address, 10000 + number
        self.protocol = recorded.protocol
        self.forwarding = recorded.servers[0].forwarding if recorded.servers else "dr"
        self.models = {}
        self.first_octet = 20 + number if moves_clients(scenario) else None

    def _client(self, flow):
        if self.first_octet is None:
            return flow["cip"]
        return f"{self.first_octet}.{flow['cip'].partition('.')[2]}"

    def service(self):
        """The virtual server after the commands so far."""
        return in_ipv6(self._service()) if self.is_six else self._service()

    def _service(self):
        (recorded,) = self.table.services.values()
        moved = copy.deepcopy(recorded)
        if moved.mark:
            moved.mark, moved.marked = self.mark, [self.marked]
            return moved
        moved.address = self.vip
        if self.port is not None:
            moved.port = self.port
            moved.servers = [dataclasses.replace(server, port=self.port) for server in moved.servers]
        return moved

    def steps(self):
        """Everything the scenario does, in order."""
        if "ops" in self.scenario:
            return self._scripted()
        found = []
        for flow in self.scenario["flows"]:
            if "cmd" in flow:
                found.append(Step("counts", _counts_of_text(flow["ip_vs"], flow["cmd"]), said=f"before {flow['cmd']}"))
                found.append(Step("cmd", command=flow["cmd"]))
            else:
                found.append(Step("c0", flow["picked"], self._from_client(flow), said=str(flow)))
        found.append(Step("counts", _counts_of_list(self.scenario["counts_after"]), said="at the end"))
        return [step for step in found if step.expected != {}]

    def _scripted(self):
        found = []
        flows = {}
        for op in self.scenario["ops"]:
            if op["op"] == "counts":
                found.append(Step("counts", _counts_of_list(op["counts"]), said=op["label"]))
            elif op["op"] == "syn":
                flows[op["id"]] = op
                found.append(Step("c0", op["picked"], self._from_client(op), said=str(op)))
            elif op["op"] == "client":
                found.append(Step("c0", op["to"], self._from_client(flows[op["id"]], op["tcp"]), said=str(op)))
            else:
                expected = "client" if op["forwarded"] else None
                found.append(Step("r0", expected, self._from_server(flows[op["id"]], op["tcp"]), said=str(op)))
        return found

    def _from_client(self, flow, flags="S"):
        """A client's frame.

        One frame is built and patched for each flow, since there are tens of thousands; the checksum of the
        transport header is left wrong, which no director looks at.
        """
        vip, vport = self.vip or flow["vip"], self._port(flow)
        key = (flow["proto"], vip, vport, flags)
        if self.is_six:
            if key not in self.models:
                self.models[key] = model6(flow["proto"], vip, vport, flags)
            return _patched(self.models[key], 8, six(self._client(flow)), IPV6_HEADER, flow["cport"])
        if key not in self.models:
            build = {"vip": vip, "vport": vport}
            self.models[key] = tcp(flags, **build) if flow["proto"] == "tcp" else udp(**build)
        return _patched(self.models[key], 12, self._client(flow), 20, flow["cport"])

    def _port(self, flow):
        return self.marked_ports.get(flow["vport"], self.port or flow["vport"])

    def _from_server(self, flow, flags):
        server = flow["picked"]
        port = self._port(flow)
        key = (server, port, flags)
        if key not in self.models:
            number = int(server.rsplit(".", 1)[1]) - 10
            head = ether(server_mac(number), OWN_MAC["r0"])
            self.models[key] = tcp(flags, cip=server, cport=port, head=head)
        return _patched(self.models[key], 16, self._client(flow), 22, flow["cport"])


def in_ipv6(virtual):
    """The same virtual server with IPv6 addresses."""
    virtual = copy.deepcopy(virtual)
    if virtual.mark:
        virtual.family = "ipv6"
        nets = [net.split("/")[0] for traffic in virtual.marked for net in traffic["addresses"]]
        virtual.marked = [{**virtual.marked[0], "addresses": [six(net) for net in nets]}]
    else:
        virtual.address = six(virtual.address)
    if "persistence_netmask" in virtual.options:
        virtual.options["persistence_netmask"] += 96
    virtual.servers = [dataclasses.replace(server, address=six(server.address)) for server in virtual.servers]
    return virtual


def model6(protocol, vip, vport, flags):
    """A client's IPv6 frame, whose source and source port are to be written."""
    layer = TCP(dport=vport, flags=flags) if protocol == "tcp" else UDP(dport=vport)
    return bytes(Ether(src=GATEWAY_MAC, dst=C0_MAC) / IPv6(src="2001:db8::", dst=six(vip)) / layer)


def clients_flows(scenario):
    """What clients send that has a VIP."""
    return [flow for flow in scenario.get("ops") or scenario["flows"] if "vip" in flow]


def _patched(model, address_at, address, port_at, port):
    packet = bytearray(model[ETHERNET:])
    octets = ipaddress.ip_address(address).packed
    packet[address_at:address_at + len(octets)] = octets
    packet[port_at:port_at + 2] = port.to_bytes(2, "big")
    return model[:ETHERNET] + bytes(packet)


def _counts_of_list(entries):
    return {entry["rs"].rsplit(":", 1)[0]: (entry["active"], entry["inact"]) for entry in entries}


def _counts_of_text(proc_ip_vs, command):
    """Counts from /proc/net/ip_vs, which was read after the command: a server that is just added or gone is left
    out, since the counts are compared before the command."""
    counts = {key[3]: value for key, value in golden.counts(proc_ip_vs).items()}
    words = command.split()
    if "-a" in words or "-d" in words:
        counts.pop(words[words.index("-r") + 1].rsplit(":", 1)[0], None)
    return counts


class Group:
    """Scenarios that are played in one run of weir."""

    def __init__(self, scenarios, is_six=False):
        self.is_six = is_six
        self.places = [Place(number, scenario, is_six) for number, scenario in enumerate(scenarios)]
        self.connections = {"timeouts": TIMEOUTS}
        for name, value in scenarios[0]["sysctl"].items():
            self.connections[name] = bool(value) if name in ipvsadm.BOOLEAN_SYSCTLS else value
        self.steps = [place.steps() for place in self.places]
        self.wrong = {place.name: [] for place in self.places}
        ident = 0
        for step in (step for steps in self.steps for step in steps if step.frame):
            step.ident = ident
            packet = step.frame[ETHERNET:]
            packet = (packet[:1] + ident.to_bytes(3, "big") + packet[4:] if is_six
                      else with_header_checksum(packet[:4] + ident.to_bytes(2, "big") + packet[6:]))
            step.frame = step.frame[:ETHERNET] + packet
            ident += 1
        if ident > IDENTS:
            raise AssertionError(f"{ident} frames, but only {IDENTS} idents")
        self.left = {}

    def setup(self):
        """The file for the commands so far."""
        made = Setup(services=[place.service() for place in self.places], connections=self.connections)
        if not self.is_six:
            return made
        made = with_ipv6(made)
        made.neighbors.update({six(rip(i)): server_mac(i) for i in range(1, 200)})
        return made

    def is_one_way(self):
        """Whether only clients send and nothing is edited, so that order across ports and time don't matter."""
        return all(step.kind == "c0" or step is steps[-1] for steps in self.steps for step in steps)

    def play(self, live):
        """Plays everything; `live` is called for a `Live` when it takes one. Returns `{scenario: [difference]}`."""
        if self.is_one_way():
            self._play_captures()
        else:
            self._play_live(live())
        for place, steps in zip(self.places, self.steps):
            frames = [step for step in steps if step.frame]
            differing = [step for step in frames if self.left.get(step.ident) != step.expected]
            if differing:
                first = frames.index(differing[0])
                sample = frames[first:first + 12]
                self.wrong[place.name].insert(0, (
                    f"{len(differing)} of {len(frames)} frames differ, first number {first} ({differing[0].said}): "
                    f"the kernel {[step.expected for step in sample]}, "
                    f"weir {[self.left.get(step.ident) for step in sample]}"))
        return self.wrong

    def _play_captures(self):
        frames = [step.frame for steps in self.steps for step in steps if step.frame]

        def look(director):
            for place, steps in zip(self.places, self.steps):
                self._compare_counts(director, place, steps[-1])

        result = replay(self.setup(), {"c0": frames}, before_stop=look)
        if result.exit_status != 0:
            raise AssertionError(f"exit status {result.exit_status}\n{result.log[-2000:]}")
        self._nobody_without_a_record(result.metrics)
        self._note([("r0", frame) for frame in result.ip_frames("r0")])

    def _play_live(self, live):
        director = live.start(self.setup())
        waiting = [list(reversed(steps)) for steps in self.steps]
        while any(waiting):
            for port in ("c0", "r0"):
                frames = [step.frame for steps in waiting for step in _run_of(steps, port)]
                for start in range(0, len(frames), CHUNK):
                    self._note(live.exchange_all(port, frames[start:start + CHUNK]))
            self._look_and_edit(live, director, waiting)
        self._nobody_without_a_record(director.metrics())
        if live.stop() != 0:
            raise AssertionError("weir did not stop cleanly")

    def _look_and_edit(self, live, director, waiting):
        """Counts and commands that are next; commands of all scenarios that wait for one take one reload."""
        for place, steps in zip(self.places, waiting):
            for step in _run_of(steps, "counts"):
                self._compare_counts(director, place, step)
        edits = [(place, steps.pop()) for place, steps in zip(self.places, waiting)
                 if steps and steps[-1].kind == "cmd"]
        for place, step in edits:
            place.table.apply(step.command)
        if edits:
            live.reload(self.setup())

    def _compare_counts(self, director, place, step):
        service = place.service()
        deadline = time.monotonic() + COUNT_SECONDS
        while True:
            metrics = director.metrics()
            got = {}
            for server in service.servers:
                shown = f"[{server.address}]" if self.is_six else server.address
                labels = {"virtual_server": service.name, "real_server": f"{shown}:{server.port}"}
                got[server.address] = tuple(int(metrics.total(name, **labels)) for name in (ACTIVE, INACTIVE))
            if self.is_six:
                got = {address: got.get(six(address)) for address in step.expected}
            differing = {address: (counts, got.get(address)) for address, counts in step.expected.items()
                         if got.get(address) != counts}
            if not differing:
                return
            if time.monotonic() > deadline:
                self.wrong[place.name].append(
                    f"active and inactive {step.said}: " + "; ".join(
                        f"{address} {ours} instead of {kernels}" for address, (kernels, ours) in differing.items()))
                return
            time.sleep(0.02)

    def _note(self, sent):
        for port, frame in sent:
            if self.is_six and frame[12:14] == golden.IPV6 and frame[20] != ICMPV6 and port == "r0":
                ident = int.from_bytes(frame[15:18], "big") & 0xfffff
                where = SERVER_OF_MAC.get(frame[:6], frame[:6].hex())
                self.left[ident] = "left twice" if ident in self.left else where
            if frame[12:14] != golden.IPV4:
                continue
            if port == "c0":
                if frame[23] == 1:
                    continue
                where = "client"
            else:
                where = SERVER_OF_MAC.get(frame[:6], frame[:6].hex())
            at = ETHERNET + golden.header_length(frame) if frame[23] == 4 else ETHERNET
            ident = int.from_bytes(frame[at + 4:at + 6], "big")
            self.left[ident] = "left twice" if ident in self.left else where

    @staticmethod
    def _nobody_without_a_record(metrics):
        untracked = metrics.total("weir_untracked_packets_total")
        if untracked:
            raise AssertionError(f"{untracked:.0f} packets found no room for a record: the group is too large")


def _run_of(steps, kind):
    """Takes the steps of one kind off the end of a reversed list."""
    while steps and steps[-1].kind == kind:
        yield steps.pop()


def hashes_clients(scenario):
    """Whether the scheduler looks at the client, so that its address has to stay."""
    return scenario["scheduler"] in ("sh", "mh")


def clients(scenario):
    """Every client's address and port; none if they get addresses of their own."""
    if moves_clients(scenario):
        return set()
    return {(flow["cip"], flow["cport"]) for flow in scenario["flows"] if "cip" in flow}


def moves_clients(scenario):
    """With NAT, two connections of one client's port to one real server can't be told apart, so scenarios that may
    have other clients get them."""
    return scenario["mode"] == "nat" and not hashes_clients(scenario)


def groups(scenarios, most):
    """Scenarios in lists that one weir can play: the same switches, and at most `most` that share a client's port
    (one with NAT)."""
    made = []
    for scenario in scenarios:
        mine = clients(scenario)
        limit = 1 if scenario["mode"] == "nat" else most
        for group in made:
            sharing = sum(1 for other in group if not mine.isdisjoint(clients(other)))
            frames = sum(len(other.get("ops") or other["flows"]) for other in [*group, scenario])
            if (group[0]["sysctl"], group[0]["mode"]) == (scenario["sysctl"], scenario["mode"]) and (
                    sharing < limit and frames < IDENTS and len(group) < LARGEST):
                group.append(scenario)
                break
        else:
            made.append([scenario])
    return made
