"""A network of its own for VRRP: a bridge with two directors, a client and a real server.

    a   weir                       10.30.0.2
    b   another weir, keepalived   10.30.0.3
    c   the client                 10.30.0.10
    s   the real server            10.30.0.11, nginx; the VIP on lo, as direct routing wants it
    t   another one                10.30.0.12

A director that checks real servers' health has a second interface for that, `mgmt`, with a kernel's address.

Every process that is started here is ended by its id.
"""

import os
import pathlib
import re
import signal
import subprocess
import tempfile

import lab
from lab import evidence

PREFIX = lab.NAME + "-v"
NODES = {"a": "10.30.0.2", "b": "10.30.0.3", "c": "10.30.0.10", "s": "10.30.0.11", "t": "10.30.0.12"}
MANAGEMENT = {"a": "10.30.0.22", "b": "10.30.0.23"}
VIP = "10.30.0.100"
NODES6 = {"a": "2001:db8::2", "b": "2001:db8::3", "c": "2001:db8::c8", "s": "2001:db8::11"}
VIP6 = "2001:db8::57"
SWITCH = PREFIX + "w"
# How long a busy machine may take.
START_SECONDS = 120
# net_af_packet maps rings of its own; this much is for mbufs.
EAL = ["--no-huge", "-m", "192", "--no-pci", "--no-shconf", "--no-telemetry"]


# What was made for the present network.
_folders = []


def folder(prefix="weir-vrrp-"):
    """A directory that goes with the network."""
    _folders.append(pathlib.Path(tempfile.mkdtemp(prefix=prefix)))
    evidence.note(_folders[-1])
    return _folders[-1]


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


def run_in_switch(*command):
    """Runs a command where the bridge is."""
    subprocess.run(["ip", "netns", "exec", SWITCH, *command], check=True, capture_output=True, text=True)


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
        if name in "cst":
            ip("-n", node(name), "addr", "add", f"{address}/24", "dev", "eth0")


def down():
    """Removes the network, and whatever a former run left of it."""
    lab.remove([*(node(name) for name in NODES), SWITCH])
    while _folders:
        evidence.ended(_folders.pop())


def link(name, state):
    """Cuts a node off at the bridge, or lets it in again."""
    ip("-n", SWITCH, "link", "set", f"p-{name}", state)


def management(name):
    """Gives a director its second interface."""
    ip("netns", "exec", node(name), "ip", "link", "add", "mgmt", "type", "veth", "peer", "name", f"m-{name}",
       "netns", SWITCH)
    ip("-n", SWITCH, "link", "set", f"m-{name}", "master", "br0", "up")
    run(name, "ethtool", "-K", "mgmt", "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off")
    ip("-n", node(name), "addr", "add", f"{MANAGEMENT[name]}/24", "dev", "mgmt")
    ip("-n", node(name), "link", "set", "mgmt", "up")


def web_server(name):
    """Starts nginx in a node. Returns its process."""
    place = folder()
    (place / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {place}/pid; error_log stderr;\n"
        "events { worker_connections 4096; }\n"
        "http { access_log off; server { listen 80 backlog=4096; listen [::]:80 backlog=4096; return 200 served; } }\n")
    command = inside(name, "nginx", "-p", str(place), "-c", str(place / "nginx.conf"))
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def real_server(name="s"):
    """A real server, with the VIP as direct routing wants it. Returns nginx's process."""
    run(name, "sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2")
    ip("-n", node(name), "addr", "replace", f"{VIP}/32", "dev", "lo")
    return web_server(name)


def tree(process):
    """The ids of a process and its children."""
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False).stdout
    return [process.pid, *map(int, children.split())]


def signal_all(process, signum):
    """Sends a signal to a process and its children."""
    for pid in tree(process):
        os.kill(pid, signum)


class Daemon:
    """A process in a node, with its log. A context manager; `end` may come earlier."""

    def __init__(self, name, command, prefix):
        self.name = name
        self.folder = folder(prefix)
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
            self.process.wait(timeout=lab.STOP_SECONDS)


def real_server6(name="s"):
    """As `real_server`, with IPv6: what is on lo is found by no neighbour. Returns nginx's process."""
    for address, device in ((f"{NODES6[name]}/64", "eth0"), (f"{VIP6}/128", "lo")):
        ip("-n", node(name), "addr", "add", address, "dev", device, "nodad")
    return web_server(name)


def port(name, more=()):
    """The [http] and [[port]] of a director, with these addresses beside its own."""
    addresses = ", ".join(f'"{address}"' for address in (f"{NODES[name]}/24", *more))
    return (f'[http]\nlisten = "127.0.0.1:9292"\n[connections]\ncapacity = 65536\n'
            f'[[port]]\nname = "lan"\ndevice = "net_af_packet0"\naddresses = [{addresses}]\n')


def virtual_server(forwarding="dr", check="", server="s"):
    """The virtual server of the VIP; `check` are the lines of its health check."""
    check = f"[virtual_server.health_check]\n{check}\n" if check else ""
    return (f'[[virtual_server]]\nname = "web"\naddress = "{VIP}"\nport = 80\nprotocol = "tcp"\n'
            f'forwarding = "{forwarding}"\nscheduler = "rr"\n'
            f'[[virtual_server.real_server]]\naddress = "{NODES[server]}"\n{check}')


class Weir(Daemon):
    """weir in a node, ready inside the block."""

    def __init__(self, name, text, core=0, addresses=()):
        super().__init__(name, None, "weir-vrrp-")
        file = self.folder / "weir.toml"
        file.write_text(port(name, addresses) + text)
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
        # One that was killed has left them, and another process may have its number by now.
        for name in ("pid", "vrrp.pid"):
            (self.folder / name).unlink(missing_ok=True)
        return super().__enter__()

    def states(self):
        """The last state that each instance entered, by name; none, once it has ended."""
        if self.process.poll() is not None:
            return {}
        return dict(re.findall(r"\((\w+)\) Entering (\w+) STATE", self.log()))

    def end(self, signum=signal.SIGTERM):
        """kill -9 has to meet its child as well, which holds the addresses."""
        if signum == signal.SIGKILL:
            for pid in tree(self.process)[1:]:
                os.kill(pid, signal.SIGKILL)
        super().end(signum)
