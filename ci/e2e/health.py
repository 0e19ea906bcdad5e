"""What the health tests share: the director's own way to the real servers, faults, and what weir says of health.

Health checks come from the host's stack. The lab's director has no kernel address on the LANs that weir serves, so
`management` gives it a second leg in the inner one.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import time

import lab

MANAGEMENT = "10.20.0.3"
TICKS = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def management():
    """An interface of the director's kernel in the inner LAN, with an address."""
    director, inner = f"{lab.NAME}-director", f"{lab.NAME}-inner"
    commands = (
        f"ip link add mgmt netns {director} type veth peer name to-mgmt netns {inner}",
        f"ip netns exec {director} ethtool -K mgmt tx off rx off tso off gso off gro off",
        f"ip netns exec {inner} ethtool -K to-mgmt tx off rx off tso off gso off gro off",
        f"ip -n {inner} link set to-mgmt master bridge up",
        f"ip -n {director} address add {MANAGEMENT}/24 dev mgmt",
        f"ip -n {director} link set mgmt up",
    )
    try:
        for command in commands:
            subprocess.run(command.split(), check=True, capture_output=True)
        yield
    finally:
        subprocess.run(["ip", "-n", director, "link", "del", "mgmt"], capture_output=True, check=False)


def listing(weir, virtual_server):
    """What /api/v1/health says of a virtual server."""
    answer = weir.http(f"/api/v1/health?virtual_server={virtual_server}").stdout
    return json.loads(answer)["virtual_servers"][0]


def up(weir, virtual_server):
    """Addresses of its real servers that are up."""
    return {server["real_server"].rsplit(":", 1)[0]
            for server in listing(weir, virtual_server)["real_servers"] if server["up"]}


def wait_until_up(weir, virtual_server, addresses, seconds):
    """Waits until exactly these are up; how long that took."""
    begun = time.monotonic()
    lab.wait_for(f"{virtual_server}: {sorted(addresses)} up", lambda: up(weir, virtual_server) == set(addresses), seconds)
    return time.monotonic() - begun


def nginx_processes(node):
    """Ids of nginx in a real server, the master first."""
    master = int((lab.RUN / node / "nginx.pid").read_text())
    children = subprocess.run(["pgrep", "-P", str(master)], capture_output=True, text=True, check=False)
    return [master, *map(int, children.stdout.split())]


def start_nginx(node):
    """As scripts/lab starts it."""
    directory = lab.RUN / node
    lab.run(node, "nginx", "-p", str(directory), "-e", str(directory / "error.log"), "-c", str(directory / "nginx.conf"), check=True)


@contextlib.contextmanager
def killed(node):
    """nginx is gone."""
    for process in nginx_processes(node):
        os.kill(process, signal.SIGKILL)
    try:
        yield
    finally:
        start_nginx(node)


@contextlib.contextmanager
def hung(node):
    """The kernel accepts connections and nobody answers."""
    processes = nginx_processes(node)
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


@contextlib.contextmanager
def failing(node):
    """nginx answers 500 to everything."""
    file = lab.RUN / node / "nginx.conf"
    good = file.read_text()
    try:
        file.write_text(good.replace("return 200", "return 500"))
        reload_nginx(node)
        yield
    finally:
        file.write_text(good)
        reload_nginx(node)


def reload_nginx(node):
    """A new configuration; the workers of the old one end."""
    directory = lab.RUN / node
    lab.run(node, "nginx", "-s", "reload", "-p", str(directory), "-e", str(directory / "error.log"),
            "-c", str(directory / "nginx.conf"), check=True)


@contextlib.contextmanager
def cut_off(node):
    """Its cable is out."""
    inner = f"{lab.NAME}-inner"
    subprocess.run(["ip", "-n", inner, "link", "set", f"to-{node}", "down"], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "-n", inner, "link", "set", f"to-{node}", "up"], check=True)


class Server:
    """A process in a node that serves until the end of the block; `port` is waited for if given."""

    def __init__(self, node, *command, port=None):
        self.node, self.command, self.port = node, command, port

    def __enter__(self):
        self.process = subprocess.Popen(lab.inside(self.node, *self.command), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
        if self.port:
            lab.wait_for(f"{self.command[0]} on port {self.port}", self._listens, 10)
        return self

    def _listens(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{' '.join(self.command)}: {self.process.stderr.read()}")
        return f":{self.port} " in lab.run(self.node, "ss", "-Hlntu").stdout

    def end(self):
        """Kills it, with what it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def __exit__(self, *_):
        self.end()
        self.process.stderr.close()


def scripts():
    """A place for programs that weir's scripts' user may run."""
    path = pathlib.Path(lab.RUN / "scripts")
    path.mkdir(exist_ok=True)
    for place in (lab.RUN.parent, lab.RUN, path):
        place.chmod(0o755)
    return path


def threads(process):
    """Processor time of each thread of weir so far, in seconds, by name."""
    spent = {}
    for task in pathlib.Path(f"/proc/{process}/task").iterdir():
        fields = (task / "stat").read_text().rsplit(") ", 1)[1].split()
        name = (task / "comm").read_text().strip()
        spent[name] = spent.get(name, 0) + (int(fields[11]) + int(fields[12])) / TICKS
    return spent
