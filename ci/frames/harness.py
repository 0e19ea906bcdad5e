"""The two ways in which the tests hand frames to weir and take frames from it.

* `replay`: one shot over `net_pcap`. Every port reads a file and writes a file, so nothing is lost and nothing
  depends on time. Ports are not in step with each other.
* `Live`: `net_af_packet` on veth pairs with raw sockets on the far ends, for tests that must react to an answer or
  need an order across ports.

Frames are bytes without frame check sequence, as on the wire. They are built and taken apart by scapy only.
"""

import contextlib
import dataclasses
import pathlib
import select
import socket
import struct
import tempfile
import time

from scapy.utils import RawPcapReader, RawPcapWriter

import evidence
from director import Director, Metrics
from netns import Namespace
from topology import OWN_ADDRESS, OWN_MAC, PORTS

REPLAY_SECONDS = 120.0
QUIET_SECONDS = 0.05
# A worker that has no processor for a while answers late, and is not dead for that.
ANSWER_SECONDS = 30.0
# Frames of one run of weir that are kept in memory for a test that fails.
TAPE_MAX = 20_000
SO_RCVBUFFORCE = 33
ETH_P_ALL = 0x0003
ETHERTYPE_IPV6 = b"\x86\xdd"
ICMPV6 = 58
ETHERTYPE_ARP = b"\x08\x06"
ETHERTYPE_VLAN = 0x8100
SOL_PACKET = 263
PACKET_AUXDATA = 8
PACKET_IGNORE_OUTGOING = 23
TP_STATUS_VLAN_VALID = 1 << 4
TP_STATUS_VLAN_TPID_VALID = 1 << 6

# The host that asks after the director's own address to learn that everything sent before has been worked off.
PROBE_MAC = bytes.fromhex("0200000000fd")
PROBE_ADDRESS = {"c0": "198.18.0.253", "r0": "10.99.0.253"}


@dataclasses.dataclass
class Replayed:
    """What became of a replay."""
    out: dict
    metrics: Metrics
    exit_status: int
    log: str
    sent: dict

    def ip_frames(self, port):
        """Frames that left by `port`, the director's own ARP left out."""
        return [frame for frame in self.out[port] if not is_arp(frame)]


def is_arp(frame):
    """An ARP frame, or one of IPv6's neighbour discovery or a report of multicast listener discovery, tagged or not."""
    at = 16 if frame[12:14] == ETHERTYPE_VLAN.to_bytes(2, "big") else 12
    return frame[at:at + 2] == ETHERTYPE_ARP or is_discovery(frame[at:]) or is_listener_report(frame[at:])


def is_discovery(packet):
    """From the type of an Ethernet frame on: a neighbour solicitation or advertisement."""
    return packet[:2] == ETHERTYPE_IPV6 and packet[8] == ICMPV6 and packet[42] in (135, 136)


def is_listener_report(packet):
    """From the type of an Ethernet frame on: a report of multicast listener discovery, or that a group is heard no more."""
    return packet[:2] == ETHERTYPE_IPV6 and packet[8] == 0 and packet[42] == ICMPV6 and packet[50] in (131, 132, 143)


@contextlib.contextmanager
def workdir():
    """A directory for one run, which goes with the test. That of a failed test is kept elsewhere."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="weir-frames-"))
    evidence.note(path)
    try:
        yield path
    finally:
        evidence.ended(path)


def write_pcap(path, frames):
    """A capture file with the given frames."""
    with RawPcapWriter(str(path), linktype=1, sync=False) as writer:
        writer.write_header(None)
        for frame in frames:
            writer.write_packet(frame, sec=0, usec=0)


def write_tape(path, tape):
    """A capture file for each wire and direction of a tape of `(time, wire, frame)`."""
    for name in {wire for _, wire, _ in tape}:
        with RawPcapWriter(str(path / f"{name}.pcap"), linktype=1, sync=False) as writer:
            writer.write_header(None)
            for when, wire, frame in tape:
                if wire == name:
                    writer.write_packet(frame, sec=int(when), usec=int(when % 1 * 1e6))


def read_pcap(path):
    """The frames of a capture file."""
    with contextlib.closing(RawPcapReader(str(path))) as reader:
        return [frame for frame, _ in reader]


def replay(setup, frames, before_stop=None, workers=1):
    """Runs weir over `frames` (`{port: [frame, ...]}`) until each is received and nothing moves any more.

    `before_stop` is called with the Director while weir still runs. With several workers each port has as many queues, which get its
    frames in turn; what goes out has no order then.
    """
    with workdir() as path:
        vdevs = []
        devices = {}
        for index, port in enumerate(PORTS):
            devices[port] = f"net_pcap{index}"
            vdevs.append(devices[port])
            for queue in range(workers):
                write_pcap(path / f"{port}-in{queue}.pcap", frames.get(port, [])[queue::workers])
                vdevs[-1] += f",rx_pcap={path}/{port}-in{queue}.pcap,tx_pcap={path}/{port}-out{queue}.pcap"
        namespace = Namespace()
        director = Director(namespace, path, vdevs, setup.text(devices, path / "weir.sock"), workers=workers)
        try:
            director.start()
            expected = {port: len(frames.get(port, [])) for port in PORTS}
            metrics = wait_until_worked_off(director, expected, setup.names)
            if before_stop:
                before_stop(director)
            status = director.stop()
            out = {port: [frame for queue in range(workers) for frame in read_pcap(path / f"{port}-out{queue}.pcap")]
                   for port in PORTS}
            return Replayed(out, metrics, status, director.log(), frames)
        finally:
            director.kill()
            namespace.remove()


def wait_until_worked_off(director, expected, names):
    """Waits until every port has received its frames and all of them are worked off; returns the last scrape.

    `names` says of each device as which ports, itself and its VLANs, it counts.

    A worker counts the cycles of a poll that found nothing when it begins the next one. So when these go up after
    everything was received, no frame is under way, however late the worker got its processor. What waits for ARP
    still moves counters.
    """
    deadline = time.monotonic() + REPLAY_SECONDS
    last = None
    while True:
        metrics = director.metrics()
        counted = metrics.by("weir_port_receive_packets_total", "port")
        received = {port: sum(counted.get(name, 0) for name in names(port)) for port in expected}
        moving = {key: value for key, value in metrics.items()
                  if "cycles" not in key[0] and key[0].endswith("_total") and key[0].startswith("weir_")}
        idle = metrics.by("weir_worker_cycles_total", "worker", state="idle")
        if received == expected and last is not None and moving == last[0]:
            if all(cycles > last[1].get(worker, 0) for worker, cycles in idle.items()):
                return metrics
        else:
            last = (moving, idle)
        if time.monotonic() > deadline:
            raise AssertionError(f"received {received} instead of {expected}\n{director.explain()}")
        time.sleep(QUIET_SECONDS)


class Live:
    """A namespace with two veth pairs; weir on the near ends, raw sockets on the far ends.

    `start` may be called again and again: every call is a new weir on the same wires.
    """

    def __init__(self):
        self.namespace = Namespace()
        self.sockets = {}
        self.director = None
        self.tape = []
        self._workdir = None
        for port in PORTS:
            self.namespace.add_wire(f"wfd-{port}", f"wfp-{port}")
            with self.namespace.entered():
                wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
                wire.bind((f"wfp-{port}", ETH_P_ALL))
            wire.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
            wire.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
            wire.setblocking(False)
            self.sockets[port] = wire

    def start(self, setup):
        """Starts weir with this setup on fresh wires and forgets whatever was under way."""
        self.stop()
        self._workdir = contextlib.ExitStack()
        path = self._workdir.enter_context(workdir())
        self.tape = []
        evidence.note(path, lambda tape=self.tape: write_tape(path, tape))
        self._devices = {port: f"net_af_packet{index}" for index, port in enumerate(PORTS)}
        vdevs = [f"{device},iface=wfd-{port}" for port, device in self._devices.items()]
        for port in PORTS:
            self.namespace.ip("link", "set", f"wfd-{port}", "mtu", "1500")
        self.drain()
        self.director = Director(self.namespace, path, vdevs, setup.text(self._devices, path / "weir.sock"))
        self.director.start()
        return self.director

    def reload(self, setup):
        """Gives the running weir another file."""
        self.director.reload(setup.text(self._devices, self.director.workdir / "weir.sock"))

    def stop(self):
        """Stops weir, if it runs; returns its exit status."""
        if self.director is None:
            return None
        try:
            return self.director.stop()
        finally:
            self.director.kill()
            self.director = None
            self._workdir.close()

    def close(self):
        """Stops weir and removes the wires."""
        try:
            return self.stop()
        finally:
            for wire in self.sockets.values():
                wire.close()
            self.namespace.remove()

    def send(self, port, frame):
        """One frame into weir's `port`."""
        self._record(f"{port}-in", frame)
        self.sockets[port].send(frame)

    def _record(self, wire, frame):
        if len(self.tape) < TAPE_MAX:
            self.tape.append((time.time(), wire, frame))

    def receive(self, seconds, enough=None):
        """Frames from weir as `(port, frame)`, until `seconds` have passed or `enough(frames)` says so."""
        frames = []
        deadline = time.monotonic() + seconds
        ports = {wire: port for port, wire in self.sockets.items()}
        while True:
            if enough is not None and enough(frames):
                return frames
            left = deadline - time.monotonic()
            if left <= 0:
                return frames
            for wire in select.select(list(ports), [], [], left)[0]:
                frames.append((ports[wire], receive_frame(wire)))
                self._record(f"{ports[wire]}-out", frames[-1][1])

    def wait_for(self, what, condition, seconds=60.0):
        """Returns when `condition(metrics)` holds, however busy the machine is."""
        deadline = time.monotonic() + seconds
        while not condition(self.director.metrics()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {seconds} s\n{self.director.explain()}")
            time.sleep(0.05)

    def drain(self):
        """Throws away what is waiting in the sockets."""
        self.receive(0.02)

    def exchange(self, port, frame, keep_arp=False):
        """Sends one frame and returns everything that weir sends because of it."""
        return self.exchange_all(port, [frame], keep_arp)

    def exchange_all(self, port, frames, keep_arp=False):
        """Sends frames and returns everything that weir sends because of them, on both ports.

        After them a probe is sent, an ARP request for the director's address on the same port. A worker takes frames
        of a port in order and sends what they cause before it takes more, so its answer is the last on this port. What
        they cause on the other port has been handed to the wire with the same turn of the worker's loop or will be, in
        order: the answer to a probe that is sent there now comes behind it. No time has to pass for either.
        """
        for frame in frames:
            self.send(port, frame)
        seen = []
        for probed in [port, *(other for other in PORTS if other != port)]:
            self.send(probed, arp_probe(probed))
            # The answer is the last, so only the newest frames have to be looked at.
            seen += self.receive(ANSWER_SECONDS, lambda got: any(is_probe_answer(probed, *item) for item in got[-2:]))
            if not any(is_probe_answer(probed, *item) for item in seen):
                raise AssertionError(f"no answer to an ARP probe on {probed}\n{self.director.explain()}")
        return [item for item in seen if not any(is_probe_answer(probed, *item) for probed in PORTS)
                and (keep_arp or not is_arp(item[1]))]


def receive_frame(wire):
    """One frame; a tag that the kernel took out is put back."""
    frame, ancillary, _, _ = wire.recvmsg(65536, socket.CMSG_SPACE(20))
    for level, kind, data in ancillary:
        if level == SOL_PACKET and kind == PACKET_AUXDATA:
            status, _, _, _, _, tci, tpid = struct.unpack("=IIIHHHH", data[:20])
            if status & TP_STATUS_VLAN_VALID:
                tpid = tpid if status & TP_STATUS_VLAN_TPID_VALID else ETHERTYPE_VLAN
                frame = frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:]
    return frame


def arp_probe(port):
    """Who has the director's address on this port? Tell the probe host."""
    return (b"\xff" * 6 + PROBE_MAC + ETHERTYPE_ARP + bytes.fromhex("0001080006040001") + PROBE_MAC
            + socket.inet_aton(PROBE_ADDRESS[port]) + bytes(6) + socket.inet_aton(OWN_ADDRESS[port]))


def is_probe_answer(port, seen_on, frame):
    """The director's answer to `arp_probe(port)`."""
    own = bytes.fromhex(OWN_MAC[port].replace(":", ""))
    return (seen_on == port and frame[:6] == PROBE_MAC and frame[12:14] == ETHERTYPE_ARP and frame[20:22] == b"\0\2"
            and frame[22:28] == own)
