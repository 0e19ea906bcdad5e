"""The lab and the weir under test, for the end-to-end tests.

The lab itself is built by scripts/lab, which the demo uses too; its addresses are written down here once more, so
that a test says in numbers what it expects. Every process that is started here is ended by its id.
"""

import collections
import contextlib
import fcntl
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "ci" / "lib"))

import evidence  # noqa: E402  (found by way of the line above)

NAME = os.environ.setdefault("WEIR_LAB", "weir-e2e")
RUN = pathlib.Path("/run/weir-lab") / NAME
LOCK = pathlib.Path("/run/lock") / f"{NAME}.lock"
NAMESPACES = pathlib.Path("/run/netns")

CLIENT = "10.10.0.10"
DIRECTOR_OUTER = "10.10.0.2"
DIRECTOR_INNER = "10.20.0.2"
VIPS = {"dr": "10.10.0.100", "tun": "10.10.0.101", "nat": "10.10.0.102"}
REAL_SERVERS = {"A": "10.20.0.11", "B": "10.20.0.12", "C": "10.20.0.13"}
HTTP = "http://127.0.0.1:9292"

# How long a busy machine may take.
START_SECONDS = 120.0
STOP_SECONDS = 60.0
TURN_SECONDS = 900.0
# What a busy machine may take beyond the time in which something is expected. How quick weir is, is measured where it
# matters and not by how long a test waits.
BUSY_SECONDS = 30.0
# tcpdump's answer to SIGUSR1, and how often it is asked.
WRITTEN = re.compile(r"(\d+) packets? captured, (\d+) packets? received by filter")
FINISH_ROUNDS = 300
MAC = re.compile(r"\b[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b")

# Filled in by `run` when hugepages can be had.
hugepages = False


def binary():
    """The weir to test: `$WEIR`, else the release build of this tree."""
    target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))
    return os.environ.get("WEIR", f"{target}/release/weir")


def script(*arguments, check=True):
    """Runs a script of this tree; a failure is an exception that shows what it said."""
    done = subprocess.run([str(ROOT / "scripts" / arguments[0]), *arguments[1:]], capture_output=True, text=True)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)}: status {done.returncode}: {done.stderr.strip()}")
    return done


@contextlib.contextmanager
def turn():
    """Inside the block nobody else uses this lab's names, and nothing is left that a killed run had under them.

    Waits for a run that is under way. The turn ends with this process, however that ends.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with open(LOCK, "w", encoding="ascii") as lock:
        if not _taken(lock):
            print(f"another run has the lab '{NAME}'; waiting for its end", file=sys.stderr, flush=True)
            wait_for(f"the end of the run that holds {LOCK}", lambda: _taken(lock), TURN_SECONDS)
        if NAMESPACES.exists():
            remove([path.name for path in NAMESPACES.glob(f"{NAME}-*")])
        script("lab", "down")
        yield


def _taken(lock):
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def standing():
    """The lab of scripts/lab, up inside the block."""
    with turn():
        try:
            script("lab", "up")
            yield
        finally:
            script("lab", "down", check=False)


def remove(namespaces):
    """Kills every process in these network namespaces and removes those that exist."""
    for name in namespaces:
        wait_for(f"the end of the processes in {name}", lambda name=name: _all_ended(name), STOP_SECONDS)
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _all_ended(namespace):
    """Kills what runs there. Again each time: who is killed second may have started another in the place of the first."""
    pids = _processes(namespace)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return not pids


def _processes(namespace):
    found = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)
    return set(map(int, found.stdout.split()))


def inside(node, *command):
    """The command line that runs a command in a node of the lab."""
    return ["ip", "netns", "exec", f"{NAME}-{node}", *command]


def run(node, *command, timeout=60, check=False, **options):
    """Runs a command in a node; returns it with its output as text."""
    done = subprocess.run(inside(node, *command), capture_output=True, text=True, timeout=timeout, **options)
    if check and done.returncode != 0:
        raise RuntimeError(f"{node}: {' '.join(command)}: status {done.returncode}: {done.stdout}{done.stderr}")
    return done


def start(node, *command):
    """Starts a command in a node and does not wait for it; the process, with its output as text."""
    return subprocess.Popen(inside(node, *command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def get(url, *options):
    """curl in the client; the finished process. No retry: an error is an error."""
    return run("client", "curl", "--silent", "--show-error", "--fail", "--max-time", "10", *options, url)


def answers(vip, count):
    """`count` requests, one connection each: the list of (real server, client address it saw)."""
    pairs = []
    for _ in range(count):
        done = get(f"http://{vip}/")
        if done.returncode != 0:
            raise AssertionError(f"request {len(pairs) + 1} of {count} to {vip}: {done.stderr.strip()}")
        pairs.append(tuple(done.stdout.split()))
    return pairs


def mac_of(node, interface):
    """The MAC of an interface in a node."""
    return run(node, "cat", f"/sys/class/net/{interface}/address", check=True).stdout.strip()


def config():
    """The weir file of the lab, as text for a test to change."""
    return script("lab", "config").stdout


def files_of_dpdk():
    """What DPDK processes leave in the file system: hugepage files, and run-time directories by their prefix."""
    with open("/proc/mounts", encoding="ascii") as mounts:
        places = [line.split()[1] for line in mounts if line.split()[2] == "hugetlbfs"]
    return {str(path) for place in [*places, "/run/dpdk"] for path in pathlib.Path(place).glob("*")}


def processes(node):
    """Ids of the processes in a node."""
    return _processes(f"{NAME}-{node}")


def wait_for(what, condition, seconds):
    """Returns the first true value of `condition()`; an AssertionError names what did not come.

    Expected within so many seconds; on a busy machine it may take some more.
    """
    deadline = time.monotonic() + seconds + BUSY_SECONDS
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:.0f} s, nor {BUSY_SECONDS:.0f} s more")
        time.sleep(0.05)


class Metrics(dict):
    """One scrape: `(name, frozenset of (label, value)) -> number`."""

    _SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([^ ]+)$")
    _LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')

    def __init__(self, text):
        super().__init__()
        for line in text.splitlines():
            found = self._SAMPLE.match(line)
            if found:
                self[found.group(1), frozenset(self._LABEL.findall(found.group(2) or ""))] = float(found.group(3))

    def total(self, name, **labels):
        """Sum over the samples of a metric that carry these labels; None when there is none."""
        wanted = set(labels.items())
        values = [value for (found, have), value in self.items() if found == name and wanted <= have]
        return sum(values) if values else None


class Weir:
    """weir in the director. As a context manager it is ready inside the block and gone after it."""

    def __init__(self, text=None, eal=(), own=None, environment=None, output=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-", dir=RUN))
        evidence.note(self.folder)
        self.file = self.folder / "weir.toml"
        self.file.write_text(config() if text is None else text)
        self.log = self.file.with_suffix(".log")
        memory = [] if hugepages else ["--no-huge", "-m", "512"]
        own = ["-c", str(self.file)] if own is None else own
        self.command = [str(ROOT / "scripts" / "lab"), "weir", *memory, *eal, "--", *own]
        self.environment = {**os.environ, **(environment or {})}
        # Where stdout and stderr go instead of the log.
        self.output = output
        # Statuses that are no fault at the end of the block.
        self.may_end_with = {0, -signal.SIGKILL}
        self.process = None

    def launch(self):
        """Starts the process and does not wait for it."""
        with open(self.log, "ab") as log:
            to = log if self.output is None else self.output
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=to, stderr=to,
                                            env=self.environment, start_new_session=True)
        return self

    def start(self):
        """Starts the process and returns when `/ready` says 200."""
        self.launch()
        wait_for("weir ready", self._ready_or_dead, START_SECONDS)
        return self

    def _ready_or_dead(self):
        if self.process.poll() is not None:
            raise AssertionError(f"weir ended with status {self.process.returncode} at its start:\n{self.said()}")
        return self.http("/ready", "-o", "/dev/null", "-w", "%{http_code}").stdout == "200"

    def http(self, path, *options):
        """curl against weir's own HTTP listener."""
        return run("director", "curl", "--silent", "--max-time", "5", *options, HTTP + path)

    def metrics(self):
        """One scrape of `/metrics`."""
        return Metrics(self.http("/metrics").stdout)

    def said(self):
        """Everything weir wrote to stdout and stderr."""
        return self.log.read_text(errors="replace")

    def stop(self, number=signal.SIGTERM):
        """Sends a signal and returns the exit status (negative: the signal that ended it)."""
        self.process.send_signal(number)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"weir did not stop within {STOP_SECONDS} s of {number.name}") from None

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.discard()
            raise

    def __exit__(self, kind, _value, _trace):
        evidence.ended(self.folder)
        status = self.stop() if self.process.poll() is None else self.process.returncode
        if kind is None and status not in self.may_end_with:
            raise AssertionError(f"weir ended with status {status}:\n{self.said()}")
        if kind is not None:
            print(f"what weir said:\n{self.said()}")

    def discard(self):
        """Ends the process, whatever its state."""
        evidence.ended(self.folder)
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


Ended = collections.namedtuple("Ended", "status output")


def ends(text=None, eal=(), own=None, seconds=START_SECONDS):
    """Runs a weir that is expected to end by itself; its status and everything it said."""
    weir = Weir(text, eal, own).launch()
    try:
        status = weir.process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"weir went on running for {seconds} s:\n{weir.said()}") from None
    finally:
        weir.discard()
    return Ended(status, weir.said())


@contextlib.contextmanager
def systemd(**more):
    """Stands in for systemd: yields the socket that hears of the service's state, and the environment with which to start it."""
    path = RUN / "notify"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.bind(str(path))
        door.settimeout(START_SECONDS)
        yield door, {"NOTIFY_SOCKET": str(path), **more}


def finish_writing(recorder):
    """Returns when tcpdump has written what had come when it was asked. It says how much that is whenever it gets this
    signal, which it does only when it runs; then it goes on with what is waiting. More may come all the while.
    """
    came, said = None, []
    for _ in range(FINISH_ROUNDS):
        recorder.send_signal(signal.SIGUSR1)
        written, received = map(int, WRITTEN.search(recorder.stderr.readline()).groups())
        came = received if came is None else came
        said.append(written)
        # A filter in the program counts what it refuses as received.
        if written >= came or said[-3:] == [written] * 3:
            return
        time.sleep(0.1)
    raise AssertionError(f"tcpdump has written {said[-1]} of {came} packets in {FINISH_ROUNDS} rounds")


@contextlib.contextmanager
def capture(node, interface):
    """Records what passes an interface; yields the path of the pcap file, complete after the block."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="capture-", dir=RUN))
    evidence.note(folder)
    path = folder / f"{node}-{interface}.pcap"
    recorder = subprocess.Popen(inside(node, "tcpdump", "-i", interface, "--immediate-mode", "-U", "-Z", "root", "-w", str(path)),
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        line = recorder.stderr.readline()
        while line and "listening on" not in line:
            line = recorder.stderr.readline()
        assert line, "tcpdump did not start"
        yield path
        finish_writing(recorder)
    finally:
        recorder.send_signal(signal.SIGINT)
        recorder.wait()
        recorder.stderr.close()
        evidence.ended(folder)
