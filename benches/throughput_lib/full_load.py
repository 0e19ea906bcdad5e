"""One weir with one worker at full load (net_pcap, infinite_rx): its file, its traffic, and what happens in a stretch of time."""

import http.client
import ipaddress
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from throughput_lib import machine

FLOWS = 65_536
SERVERS_PER_SERVICE = 10
NEIGHBORS = 1_000
WEIR_MAC = "02:00:00:00:00:01"
GATEWAY_MAC = "02:00:00:00:00:fe"
VIPS = int(ipaddress.ip_address("198.18.0.0"))
SERVERS = int(ipaddress.ip_address("10.0.16.0"))
FAR_SERVERS = int(ipaddress.ip_address("10.1.0.0"))
START_SECONDS = 120


def address(number):
    return str(ipaddress.ip_address(number))


def file(folder, port, services, variant, more="", neighbors=NEIGHBORS):
    """weir.toml; the two variants differ in every virtual server, real server and neighbour. Without neighbours the real servers are
    behind tunnels and a gateway.
    """
    method = "" if neighbors else 'forwarding = "tun"\n'
    first = SERVERS if neighbors else FAR_SERVERS
    lines = [
        f'[control]\nsocket = "{folder}/weir.sock"',
        f'[http]\nlisten = "127.0.0.1:{port}"',
        f"[memory]\nmbufs = {FLOWS + 16_384}",
        "[connections]\nsloppy_tcp = true\n" + more,
        f'[[port]]\nname = "bench"\ndevice = "net_pcap0"\nmac = "{WEIR_MAC}"\naddresses = ["10.0.0.1/16"]',
        '[[route]]\ndestination = "0.0.0.0/0"\ngateway = "10.0.0.254"',
        f'[[neighbor]]\naddress = "10.0.0.254"\nmac = "{GATEWAY_MAC}"',
    ]
    for n in range(neighbors):
        lines.append(f'[[neighbor]]\naddress = "{address(SERVERS + n)}"\nmac = "02:00:00:{variant:02x}:{n >> 8:02x}:{n & 255:02x}"')
    for s in range(services):
        lines.append(f'[[virtual_server]]\nname = "s{s}"\naddress = "{address(VIPS + s)}"\nport = 80\nscheduler = "wrr"\n{method}')
        for r in range(SERVERS_PER_SERVICE + variant):
            server = address(first + (s * 7 + r) % NEIGHBORS)
            lines.append(f'[[virtual_server.real_server]]\naddress = "{server}"\nweight = {1 + variant + r % 3}')
    return "\n".join(lines) + "\n"


def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    return ~(total % 0xFFFF) & 0xFFFF


def write_traffic(path, busy):
    """One ACK of each flow, each of the first `busy` virtual servers in turn."""
    ethernet = bytes.fromhex((WEIR_MAC + GATEWAY_MAC).replace(":", "")) + b"\x08\x00"
    record = struct.pack("<IIII", 0, 0, 60, 60)
    with open(path, "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for flow in range(FLOWS):
            ends = (0x64400000 + flow * 61 % 0x3FFFFF, VIPS + flow * 4099 % busy)
            ip = struct.pack(">BBHHHBBHII", 0x45, 0, 40, 0, 0x4000, 64, 6, 0, *ends)
            ip = ip[:10] + struct.pack(">H", checksum(ip)) + ip[12:]
            segment = struct.pack(">HHIIBBHHH", 1024 + flow % 60_000, 80, 1, 1, 5 << 4, 0x10, 65535, 0, 0)
            pseudo = struct.pack(">IIHH", *ends, 6, 20)
            segment = segment[:16] + struct.pack(">H", checksum(pseudo + segment)) + segment[18:]
            out.write(record + (ethernet + ip + segment).ljust(60, b"\0"))


class Weir:
    """The running director."""

    def __init__(self, binary, folder, port, pcap, lcores, more=()):
        self.port = port
        options = ["--lcores", lcores, *machine.EAL_OPTIONS, "--vdev", f"net_pcap0,rx_pcap={pcap},infinite_rx=1", *more]
        command = [binary, *options, "--", "-c", folder / "weir.toml", "--log-level", "warn"]
        self.child = machine.Child(command, folder / "weir.log")
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready():
            self.child.check()
            if time.monotonic() > deadline:
                raise machine.Failed(f"weir is not ready:\n{self.child.last_words()}")
            time.sleep(0.2)
        busiest = self.child.cpu()
        time.sleep(0.5)
        spent = {tid: cpu - busiest.get(tid, cpu) for tid, cpu in self.child.cpu().items()}
        self.worker = max(spent, key=spent.get)

    def go_first(self):
        """On a machine with other work: weir and this harness get their cores whenever they want them, but for what the kernel keeps from
        real-time threads, 50 ms of each second.
        """
        for thread in map(int, os.listdir(f"/proc/{self.child.process.pid}/task")):
            if os.sched_getscheduler(thread) == os.SCHED_OTHER:
                os.sched_setscheduler(thread, os.SCHED_RR, os.sched_param(1))
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))

    def is_ready(self):
        try:
            return self.get("/ready")[0] == 200
        except OSError:
            return False

    def get(self, path, timeout=120):
        door = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            door.request("GET", path)
            answer = door.getresponse()
            return answer.status, answer.read()
        finally:
            door.close()

    def figures(self):
        """What the worker counts, and how long the kernel let it wait for its processor."""
        worker = json.loads(self.get("/api/v1/workers")[1])["workers"][0]
        task = Path(f"/proc/{self.child.process.pid}/task/{self.worker}")
        waited = int((task / "schedstat").read_text().split()[1])
        status = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
        return {**worker, "waited": waited, "switches": int(status["nonvoluntary_ctxt_switches"]), "at": time.monotonic()}

    def reload(self, text, path):
        """Gives it another file; the seconds that control took."""
        path.write_text(text)
        before = self.figures()["generation"]
        begun = time.monotonic()
        self.child.process.send_signal(signal.SIGHUP)
        while self.figures()["generation"] == before:
            if time.monotonic() > begun + 60:
                raise machine.Failed(f"no reload within 60 s:\n{self.child.last_words()}")
            time.sleep(0.02)
        return time.monotonic() - begun


def difference(first, last):
    """What happened between two readings."""
    passes = last["passes"] - first["passes"]
    within = [(now["micros"], now["passes"] - before["passes"])
              for before, now in zip(first["passes_within"], last["passes_within"])]
    beyond = {micros: passes - count for micros, count in within}
    longest = next((f"{micros} µs" for micros, count in within if count == passes), f"over {within[-1][0]} µs")
    return {
        "seconds": last["at"] - first["at"],
        "passes": passes,
        "received": last["received"] - first["received"],
        "forwarded": last["forwarded"] - first["forwarded"],
        "lost": sum(last[name] - first[name] for name in ("dropped", "answered")),
        "beyond": beyond,
        "longest": longest,
        "waited_ms": (last["waited"] - first["waited"]) / 1e6,
        "switches": last["switches"] - first["switches"],
    }


def during(weir, seconds, work=None):
    """Lets `work` go on for so long, again and again; what happened meanwhile and what each round of it gave."""
    outcomes = []
    first = weir.figures()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if work is None:
            time.sleep(min(0.5, max(0.0, deadline - time.monotonic())))
        else:
            outcomes.append(work())
    return difference(first, weir.figures()), outcomes


def titles():
    """The lines above those of `row`."""
    print(f"{'':<26}{'s':>6} {'Mpps':>7} {'lost':>6}  {'passes a second longer than':^39}  {'all within':>13} "
          f"{'switches':>9} {'waited':>8}")
    print(f"{'':<26}{'':>6} {'':>7} {'':>6}  {'20 µs':>9} {'50 µs':>9} {'100 µs':>9} {'500 µs':>9}  {'':>13} {'':>9} {'ms':>8}")


def row(name, happened):
    beyond = " ".join(f"{happened['beyond'][micros] / happened['seconds']:9.2f}" for micros in (20, 50, 100, 500))
    print(f"{name:<26}{happened['seconds']:6.1f} {happened['received'] / happened['seconds'] / 1e6:7.2f} {happened['lost']:6d}"
          f"  {beyond}  {happened['longest']:>13} {happened['switches']:9d} {happened['waited_ms']:8.1f}", flush=True)


def lost_anything(stretches):
    """Every frame that came in went out again."""
    return any(it["lost"] or abs(it["received"] - it["forwarded"]) > 64 for it in stretches)


def wait_for_connections(weir, count, seconds):
    """Returns when the worker has so many."""
    deadline = time.monotonic() + seconds
    while weir.figures()["connections"] < count:
        if time.monotonic() > deadline:
            raise machine.Failed("the flows do not become connections")
        time.sleep(0.2)


def main(parser, measure):
    """Runs `measure(chosen, folder)`, which returns its stretches; the exit status."""
    parser.add_argument("--seconds", type=float, default=10.0, help="of each stretch")
    parser.add_argument("--lcores", default="0,1", help="control's and the worker's")
    parser.add_argument("--go-first", action="store_true", help="before all others, on a machine that has other work")
    parser.add_argument("--weir", type=Path, help="the binary; default: built by cargo")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    chosen = parser.parse_args()
    if os.geteuid() != 0:
        print(f"{parser.prog}: hugepages and DPDK need root", file=sys.stderr)
        return 2
    if chosen.weir is None:
        target = Path(os.environ.get("CARGO_TARGET_DIR", machine.REPOSITORY / "target"))
        build = ["cargo", "build", "--release", "--quiet", "--locked", "--bin", "weir", "--bin", "weirctl", "--target-dir", target]
        subprocess.run(build, cwd=machine.REPOSITORY, check=True)
        chosen.weir = target.resolve() / "release" / "weir"
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    folder = Path(tempfile.mkdtemp(prefix="weir-bench-"))
    try:
        stretches = measure(chosen, folder)
    except machine.Failed as problem:
        print(f"{parser.prog}: {problem}", file=sys.stderr)
        return 1
    finally:
        machine.clean_up()
        shutil.rmtree(folder, ignore_errors=True)
    if chosen.json:
        chosen.json.write_text(json.dumps({"machine": machine.describe(chosen.weir), "stretches": stretches}, indent=1))
    if lost_anything(stretches):
        print("packets were lost", file=sys.stderr)
        return 1
    return 0
