"""A network of its own for VRRP: a bridge with two directors, a client and a real server.

    a   weir                       10.30.0.2
    b   another weir, keepalived   10.30.0.3
    c   the client                 10.30.0.10
    s   the real server            10.30.0.11, nginx; the VIP on lo, as direct routing wants it

Every process that is started here is ended by its id.
"""

import ctypes
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import threading
import time

import lab

PREFIX = lab.NAME + "-v"
NODES = {"a": "10.30.0.2", "b": "10.30.0.3", "c": "10.30.0.10", "s": "10.30.0.11"}
VIP = "10.30.0.100"
SWITCH = PREFIX + "w"
START_SECONDS = 30
# net_af_packet maps rings of its own; this much is for mbufs.
EAL = ["--no-huge", "-m", "192", "--no-pci", "--no-shconf", "--no-telemetry"]


def node(name):
    """The network namespace of a node."""
    return f"{PREFIX}{name}"


def ip(*arguments, check=True):
    """Runs ip."""
    return subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True)


def inside(name, *command):
    """The command line that runs a command in a node."""
    return ["ip", "netns", "exec", node(name), *command]


def run(name, *command, timeout=60):
    """Runs a command in a node to its end."""
    return subprocess.run(inside(name, *command), capture_output=True, text=True, timeout=timeout)


def up():
    """Builds the network."""
    down()
    ip("netns", "add", SWITCH)
    ip("-n", SWITCH, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
    ip("-n", SWITCH, "link", "set", "br0", "up")
    for name, address in NODES.items():
        ip("netns", "add", node(name))
        ip("-n", node(name), "link", "add", "eth0", "type", "veth", "peer", "name", f"p-{name}", "netns", SWITCH)
        ip("-n", SWITCH, "link", "set", f"p-{name}", "master", "br0", "up")
        run(name, "ethtool", "-K", "eth0", "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off")
        ip("-n", node(name), "link", "set", "lo", "up")
        if name in "ab":
            run(name, "sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0")
        ip("-n", node(name), "link", "set", "eth0", "up")
        if name in "cs":
            ip("-n", node(name), "addr", "add", f"{address}/24", "dev", "eth0")


def down():
    """Removes the network, and whatever a former run left of it."""
    for name in [*(node(name) for name in NODES), SWITCH]:
        for pid in ip("netns", "pids", name, check=False).stdout.split():
            os.kill(int(pid), signal.SIGKILL)
        ip("netns", "del", name, check=False)


def link(name, state):
    """Cuts a node off at the bridge, or lets it in again."""
    ip("-n", SWITCH, "link", "set", f"p-{name}", state)


def real_server():
    """nginx in the real server. Returns the process and its directory."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-vrrp-"))
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log stderr;\n"
        "events { worker_connections 4096; }\n"
        "http { access_log off; server { listen 80 backlog=4096; return 200 served; } }\n")
    run("s", "sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2")
    ip("-n", node("s"), "addr", "add", f"{VIP}/32", "dev", "lo")
    command = inside("s", "nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"))
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Daemon:
    """A process in a node, with its log. A context manager; `end` may come earlier."""

    def __init__(self, name, command, prefix):
        self.name = name
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=prefix))
        self.command = command
        self.process = None

    def __enter__(self):
        log = open(self.folder / "log", "w", encoding="utf-8")
        self.process = subprocess.Popen(inside(self.name, *self.command), stdout=log, stderr=subprocess.STDOUT)
        log.close()
        return self

    def __exit__(self, *_):
        self.end(signal.SIGKILL)

    def log(self):
        """What it has said so far."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def end(self, signum=signal.SIGTERM):
        """Sends a signal and waits for the end."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signum)
            self.process.wait(timeout=20)


def port(name):
    """The [http] and [[port]] of a director."""
    return (f'[http]\nlisten = "127.0.0.1:9292"\n[connections]\ncapacity = 65536\n'
            f'[[port]]\nname = "lan"\ndevice = "net_af_packet0"\naddresses = ["{NODES[name]}/24"]\n')


def virtual_server(forwarding="dr"):
    """The virtual server of the VIP."""
    return (f'[[virtual_server]]\nname = "web"\naddress = "{VIP}"\nport = 80\nprotocol = "tcp"\n'
            f'forwarding = "{forwarding}"\nscheduler = "rr"\n'
            f'[[virtual_server.real_server]]\naddress = "{NODES["s"]}"\n')


class Weir(Daemon):
    """weir in a node, ready inside the block."""

    def __init__(self, name, text, core=0):
        super().__init__(name, None, "weir-vrrp-")
        file = self.folder / "weir.toml"
        file.write_text(port(name) + text)
        self.file = file
        self.command = [lab.binary(), "-l", str(core), *EAL, "--vdev", "net_af_packet0,iface=eth0",
                        "--", "-c", str(file)]

    def __enter__(self):
        super().__enter__()
        try:
            lab.wait_for("weir ready", self._is_ready, START_SECONDS)
        except AssertionError as late:
            self.end(signal.SIGKILL)
            raise AssertionError(f"{late}\n{self.log()}") from late
        return self

    def _is_ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"weir ended:\n{self.log()}")
        return "ready" in self.get("/ready").split()

    def get(self, path):
        """A page."""
        return run(self.name, "curl", "--silent", "--max-time", "3", f"http://127.0.0.1:9292{path}").stdout

    def metrics(self):
        """One scrape."""
        return lab.Metrics(self.get("/metrics"))

    def states(self):
        """State numbers by instance."""
        found = self.metrics()
        return {dict(labels)["instance"]: int(value) for (name, labels), value in found.items()
                if name == "weir_vrrp_state"}

    def thread(self, name):
        """The id of one of its threads."""
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            if (task / "comm").read_text().strip() == name:
                return int(task.name)
        raise AssertionError(f"weir has no thread {name}")


class Keepalived(Daemon):
    """keepalived, VRRP alone."""

    def __init__(self, name, text):
        super().__init__(name, None, "weir-keepalived-")
        (self.folder / "conf").write_text(text)
        f = self.folder
        self.command = ["keepalived", "-P", "-n", "-l", "-D", "-f", str(f / "conf"), "-p", str(f / "pid"),
                        "-r", str(f / "vrrp.pid")]

    def __enter__(self):
        ip("-n", node(self.name), "addr", "replace", f"{NODES[self.name]}/24", "dev", "eth0")
        return super().__enter__()

    def states(self):
        """The last state that each instance entered, by name."""
        return dict(re.findall(r"\((\w+)\) Entering (\w+) STATE", self.log()))

    def end(self, signum=signal.SIGTERM):
        """kill -9 has to meet its child as well, which holds the addresses."""
        if signum == signal.SIGKILL:
            for pid in subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True,
                                      text=True, check=False).stdout.split():
                os.kill(int(pid), signal.SIGKILL)
        super().end(signum)


class Stopped:
    """One thread of a process does not run inside the block; the others do. ptrace can stop a single one."""

    SEIZE, INTERRUPT, DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000

    def __init__(self, thread):
        self.thread = thread
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

    def _ptrace(self, request):
        if self.libc.ptrace(request, self.thread, None, None) != 0:
            raise OSError(ctypes.get_errno(), "ptrace")

    def __enter__(self):
        self._ptrace(self.SEIZE)
        self._ptrace(self.INTERRUPT)
        os.waitpid(self.thread, self.WALL)
        return self

    def __exit__(self, *_):
        self._ptrace(self.DETACH)


class Requests:
    """A client that asks the VIP over and over, a new connection each, and notes what failed and when.

    `pause` seconds lie between two requests. An answer counts as service at the moment it is whole.
    """

    SCRIPT = r"""
import socket, sys, time
vip, pause, timeout = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
while True:
    begin = time.monotonic()
    try:
        with socket.create_connection((vip, 80), timeout=timeout) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            good = connection.recv(4096).startswith(b"HTTP/1.1 200")
    except OSError:
        good = False
    print(f"{begin:.6f} {time.monotonic():.6f} {int(good)}", flush=True)
    time.sleep(max(0.0, begin + pause - time.monotonic()))
"""

    def __init__(self, vip=VIP, pause=0.002, timeout=0.05):
        self.command = inside("c", "/usr/bin/python3", "-c", self.SCRIPT, vip, str(pause), str(timeout))
        self.lines = []

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        return self

    def _read(self):
        for line in self.process.stdout:
            begin, end, good = line.split()
            self.lines.append((float(begin), float(end), good == "1"))

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()

    def serves(self):
        """Whether the last request was answered."""
        return bool(self.lines) and self.lines[-1][2]

    def outage(self, since):
        """After a moment: requests, failed ones, and the longest time without an answer, in milliseconds."""
        lines = [line for line in self.lines if line[1] >= since]
        good = [since, *(end for _, end, good in lines if good)]
        gap = max((b - a for a, b in zip(good, good[1:])), default=float("inf"))
        return len(lines), sum(not good for *_, good in lines), gap * 1000
