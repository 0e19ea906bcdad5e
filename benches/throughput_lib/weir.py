"""weir under test: its file for a case, its metrics, and what must hold before a rate is believed."""

import http.client
import re
import time
from dataclasses import dataclass
from pathlib import Path

from . import traffic
from .machine import EAL_OPTIONS, Child, Failed, Sample, free_port
from .testpmd import SPARE_MBUFS

# Kinds of TUN that have a name of their own; "tun" is ipip.
TUNNELS = ("gue", "gre")
METHODS = ("dr", "tun", *TUNNELS, "nat")
FRAME_OVERHEAD_BYTES = 18
REAL_SERVERS = 4
_START_SECONDS = 180
_SAMPLE = re.compile(r'^(\w+)(?:\{(.*)\})? (\S+)$')


def capacity_for(flows: int) -> int:
    """The default of weir's file, or the next power of two that holds the flows."""
    return max(1 << 20, 1 << (flows - 1).bit_length())


def addresses(count: int) -> list[str]:
    """Of so many real servers: from 10.0.0.11 on, or from 10.0.1.0 on if they are many."""
    first = 256 if count > 64 else 11
    return [f"10.0.{i >> 8}.{i & 255}" for i in range(first, first + count)]


def addresses6(count: int) -> list[str]:
    """As `addresses`, of IPv6."""
    return [f"2001:db8::1:{i:x}" for i in range(count)]


@dataclass(frozen=True)
class Case:
    """One start of weir."""

    method: str
    traffic: traffic.Traffic
    mbuf_bytes: int
    capacity: int
    persistent: bool = False
    real_servers: int = REAL_SERVERS
    scheduler: str = "rr"

    def file(self, folder: Path, http_port: int) -> str:
        """weir's configuration. Every next hop has a static binding, so nothing waits for ARP."""
        nat, six = self.method == "nat", self.traffic.is_ipv6
        protocol = "udp" if self.traffic.what == "udp" else "tcp"
        if six:
            servers = [traffic.REAL_SERVER_NAT6] if nat else addresses6(self.real_servers)
        else:
            servers = [traffic.REAL_SERVER_NAT] if nat else addresses(self.real_servers)
        own, gateway, vip = "10.0.0.1/16", "10.0.0.254", traffic.VIP
        if six:
            own, gateway, vip = "2001:db8::1/64", "2001:db8::fe", traffic.VIP6
        lines = [
            f'[control]\nsocket = "{folder}/weir.sock"\n',
            f'[http]\nlisten = "127.0.0.1:{http_port}"\n',
            f"[memory]\nmbufs = {self.traffic.frames + SPARE_MBUFS}\nmbuf_data_bytes = {self.mbuf_bytes}\n",
            f"[connections]\ncapacity = {self.capacity}\nsloppy_tcp = true\n",
            f'[[port]]\nname = "bench"\ndevice = "net_pcap0"\nmac = "{traffic.WEIR_MAC}"',
            f'addresses = ["{own}"]\nmtu = {min(9600, self.mbuf_bytes - FRAME_OVERHEAD_BYTES)}\n',
            f'[[route]]\ndestination = "{"::/0" if six else "0.0.0.0/0"}"\ngateway = "{gateway}"\n',
            f'[[neighbor]]\naddress = "{gateway}"\nmac = "{traffic.GATEWAY_MAC}"\n',
        ]
        for i, server in enumerate(servers):
            lines.append(f'[[neighbor]]\naddress = "{server}"\nmac = "02:00:00:01:{i >> 8:02x}:{i & 255:02x}"\n')
        lines.append(f'[[virtual_server]]\nname = "bench"\naddress = "{vip}"\nport = {traffic.VIP_PORT}')
        forwarding = "tun" if self.method in TUNNELS else self.method
        lines.append(f'protocol = "{protocol}"\nforwarding = "{forwarding}"\nscheduler = "{self.scheduler}"\n')
        if self.persistent:
            lines.append("persistence_timeout = 300\n")
        port = traffic.REAL_SERVER_NAT_PORT if nat else traffic.VIP_PORT
        for server in servers:
            lines.append(f'  [[virtual_server.real_server]]\n  address = "{server}"\n  port = {port}\n')
            if self.method in TUNNELS:
                lines.append(f'  tunnel = "{self.method}"\n')
        return "\n".join(lines)

    def devices(self) -> list[str]:
        """Beside that which frames come in on."""
        return []


class Weir:
    """A running weir with a worker per receive queue."""

    def __init__(self, binary: Path, case: Case, files: list[Path], lcores: str, folder: Path):
        self.case = case
        self.port = free_port()
        name = f"weir-{case.method}"
        file = folder / f"{name}.toml"
        file.write_text(case.file(folder, self.port))
        command = [binary, "--lcores", lcores, *EAL_OPTIONS]
        # Without files: a device that never receives.
        device = traffic.device(files) if files else "net_pcap0,tx_pcap=/dev/null"
        for each in [device, *case.devices()]:
            command += ["--vdev", each]
        command += ["--", "-c", file, "--log-level", "warn"]
        self.child = Child(command, folder / f"{name}.log")
        self.door: http.client.HTTPConnection | None = None

    def await_metrics(self, patience: float = 0.05) -> None:
        """Returns when metrics are served, which is when the worker polls or a moment before."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            self.child.check()
            self.door = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                self.door.request("GET", "/metrics")
                if self.door.getresponse().read():
                    return
            except (OSError, http.client.HTTPException):
                self.door.close()
            if time.monotonic() > deadline:
                raise Failed(f"weir served no metrics within {_START_SECONDS} s:\n{self.child.last_words()}")
            time.sleep(patience)

    def warm_up(self, seconds: float) -> None:
        """Returns when every frame of the file has come by at least twice and `seconds` have passed since."""
        self.await_metrics()
        deadline = time.monotonic() + _START_SECONDS
        while (sample := self.sample()).received < 2 * self.case.traffic.frames:
            if time.monotonic() > deadline:
                raise Failed(f"weir received {sample.received} frames within {_START_SECONDS} s")
            time.sleep(0.05)
        time.sleep(seconds)

    def sample(self) -> Sample:
        self.child.check()
        assert self.door is not None, "metrics were served before"
        asked = time.monotonic_ns()
        try:
            self.door.request("GET", "/metrics")
            answer = self.door.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            self.child.check()
            raise Failed(f"weir served no metrics: {error!r}") from error
        # The counters were read somewhere in between.
        wall = (asked + time.monotonic_ns()) // 2
        cpu = self.child.cpu()
        if answer.status != 200:
            raise Failed(f"weir answered /metrics with {answer.status}")
        counters = parse_metrics(text)
        return Sample(wall, cpu, int(total(counters, "weir_port_receive_packets_total")), counters)

    def verify(self, first: Sample, last: Sample) -> None:
        """Raises unless weir did its whole job on every frame between the samples."""
        wrong = self._wrong(first, last)
        flows = self.case.traffic.flows
        connections = int(total(last.counters, "weir_connections"))
        if connections != flows:
            wrong.append(f"it holds {connections:,} connections for {flows:,} flows")
        if wrong:
            raise Failed("no rate, since weir did not do its whole job: " + "; ".join(wrong))

    def verify_new(self, first: Sample, last: Sample) -> None:
        """As `verify`, for frames each of which must have made a connection."""
        wrong = self._wrong(first, last)
        made = total(last.counters, "weir_connections") - total(first.counters, "weir_connections")
        received = last.received - first.received
        if not _close(made, received):
            wrong.append(f"{received:,} SYNs made {int(made):,} connections")
        if wrong:
            raise Failed("no rate, since weir did not do its whole job: " + "; ".join(wrong))

    def _wrong(self, first: Sample, last: Sample) -> list[str]:
        received = last.received - first.received
        wrong = []
        total(last.counters, "weir_drops_total")
        for labels, value in last.counters["weir_drops_total"].items():
            dropped = value - first.counters["weir_drops_total"].get(labels, 0)
            if dropped:
                wrong.append(f"it dropped {int(dropped):,} of {received:,} frames ({labels})")
        for name, what in (
            ("weir_untracked_packets_total", "forwarded without a record"),
            ("weir_answers_total", "answered by itself"),
        ):
            count = total(last.counters, name) - total(first.counters, name)
            if count:
                wrong.append(f"it {what} {int(count):,} of {received:,} frames")
        for name, what in (
            ("weir_port_transmit_packets_total", "sent"),
            ("weir_virtual_server_packets_total", "balanced"),
        ):
            count = total(last.counters, name) - total(first.counters, name)
            if not _close(count, received):
                wrong.append(f"it received {received:,} frames and {what} {int(count):,}")
        return wrong

    def stop(self) -> None:
        if self.door:
            self.door.close()
        status = self.child.stop()
        if status != 0:
            raise Failed(f"weir ended with exit status {status}:\n{self.child.last_words()}")


def _close(count: float, received: int) -> bool:
    """Two counters that are read while both move."""
    return abs(count - received) <= received // 1000 + 10_000


def parse_metrics(text: str) -> dict[str, dict[str, float]]:
    """Prometheus text: metric name -> labels as written -> value."""
    metrics: dict[str, dict[str, float]] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if match := _SAMPLE.match(line):
            name, labels, value = match.groups()
            metrics.setdefault(name, {})[labels or ""] = float(value)
    return metrics


def total(counters: dict[str, dict[str, float]], name: str) -> float:
    """The sum over all labels; a metric that is not there is an error, not 0."""
    if name not in counters:
        raise Failed(f"weir's /metrics has no {name}")
    return sum(counters[name].values())
