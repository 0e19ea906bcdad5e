"""The machine: what it is, its hugepages, and processes with the CPU time of their threads."""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
HUGEPAGE_BYTES = 2 << 20
_HUGEPAGES = REPOSITORY / "scripts" / "hugepages"
_POOL = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
_PR_SET_PDEATHSIG = 1

# Programs run one at a time, so they can share it. Hugepage files are unlinked as soon as they are open, whatever
# ends the program.
FILE_PREFIX = "weir-throughput"
EAL_OPTIONS = ["--no-pci", "--file-prefix", FILE_PREFIX, "--huge-unlink"]
EAL_RUN = Path("/var/run/dpdk")

HEADROOM_BYTES = 128
_MBUF_BYTES = 128
_POOL_OBJECT_BYTES = 64


class Failed(Exception):
    """Something could not be measured; the text says why."""


def free_port() -> int:
    """One of this machine's that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def mbuf_footprint(data_bytes: int) -> int:
    """Bytes of memory that one mbuf with `data_bytes` of room, headroom aside, takes in a pool."""
    whole = _POOL_OBJECT_BYTES + _MBUF_BYTES + HEADROOM_BYTES + data_bytes
    return -(-whole // 64) * 64


def hugepages_obtainable() -> int:
    """Pages of 2 MiB that could be had now: the free ones and what free memory would make."""
    free = int((_POOL / "free_hugepages").read_text())
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            # Some memory is left for everything else.
            return free + max(0, int(line.split()[1]) // 2048 - 512)
    return free


def reserve_hugepages(pages: int) -> None:
    """Until `release_hugepages`. What an earlier run left behind when it was killed is given back first."""
    done = subprocess.run([_HUGEPAGES, "reserve", str(pages), "--for", "throughput"], stderr=subprocess.PIPE)
    if done.returncode:
        raise Failed(done.stderr.decode().strip())


def release_hugepages() -> None:
    subprocess.run([_HUGEPAGES, "release", "--for", "throughput"], check=False)


def clean_up() -> None:
    """Leaves nothing behind: no process, no hugepage, no runtime folder of EAL."""
    Child.stop_all()
    release_hugepages()
    shutil.rmtree(EAL_RUN / FILE_PREFIX, ignore_errors=True)


def describe(weir: Path | None) -> dict:
    """What a figure depends on and a reader wants to know."""
    info = {"date": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "kernel": os.uname().release, "cpus": os.cpu_count()}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = (part.strip() for part in line.partition(":"))
        if name in ("model name", "cpu family", "model", "cpu MHz", "cache size") and name not in info:
            info[name] = value
        if name == "flags" and "hypervisor" not in info:
            info["hypervisor"] = "hypervisor" in value.split()
    level3 = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
    info["level 3 cache"] = level3.read_text().strip() if level3.exists() else "unknown"
    info["memory MiB"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    info["hugepage KiB"] = HUGEPAGE_BYTES >> 10
    info["dpdk"] = _output("pkg-config", "--modversion", "libdpdk") or "unknown"
    info["revision"] = _output("git", "-C", REPOSITORY, "describe", "--always", "--dirty") or "unknown"
    info["weir"] = _output(weir, "--", "--version") if weir else None
    return info


def _output(*command) -> str:
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode().strip() if done.returncode == 0 else ""


@dataclass(frozen=True)
class Sample:
    """What was counted up to a moment. Times in nanoseconds; `cpu` by thread id."""

    wall: int
    cpu: dict[int, int]
    received: int
    counters: dict


@dataclass(frozen=True)
class Window:
    """The difference of two samples."""

    seconds: float
    cpu_seconds: float
    packets: int

    @classmethod
    def between(cls, first: Sample, last: Sample, workers: int) -> "Window":
        # The forwarding threads poll without rest: they are those with the most CPU time.
        spent = sorted((last.cpu[tid] - first.cpu[tid] for tid in last.cpu if tid in first.cpu), reverse=True)
        cpu_seconds = sum(spent[:workers]) / workers / 1e9
        seconds = (last.wall - first.wall) / 1e9
        if cpu_seconds < 0.1 * seconds:
            raise Failed(f"no thread polled: the busiest had the CPU {cpu_seconds:.2f} s of {seconds:.2f} s")
        return cls(seconds, cpu_seconds, last.received - first.received)


class Child:
    """A process of ours. It dies with us, and `stop` waits for it."""

    running: set["Child"] = set()

    def __init__(self, command: list, log: Path):
        self.name = Path(command[0]).name
        self.log = log
        environment = {k: v for k, v in os.environ.items() if k not in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR")}
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                preexec_fn=_die_with_parent,
                start_new_session=True,
            )
        Child.running.add(self)

    def check(self) -> None:
        """Raises when the process has ended."""
        status = self.process.poll()
        if status is not None:
            Child.running.discard(self)
            how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
            raise Failed(f"{self.name} ended by itself ({how}); its last words:\n{self.last_words()}")

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join("    " + line for line in lines[-8:])

    def cpu(self) -> dict[int, int]:
        """Nanoseconds each thread has had a CPU for, time that a hypervisor took away not included."""
        times = {}
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                times[int(task.name)] = int((task / "schedstat").read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue  # the thread ended meanwhile
        return times

    def memory(self) -> int:
        """Bytes in hugepages and in anonymous memory."""
        fields = {}
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            fields[name] = value.split()
        return sum(int(fields[name][0]) << 10 for name in ("HugetlbPages", "RssAnon"))

    def stop(self) -> int:
        """Asks with SIGTERM, insists after ten seconds. The exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        Child.running.discard(self)
        return self.process.returncode

    @classmethod
    def stop_all(cls) -> None:
        for child in list(cls.running):
            child.process.kill()
            child.process.wait()
            cls.running.discard(child)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Telemetry:
    """DPDK's telemetry socket (version 2): one JSON answer per request."""

    def __init__(self):
        self.path = str(EAL_RUN / FILE_PREFIX / "dpdk_telemetry.v2")
        self.socket: socket.socket | None = None
        self.room = 16384

    def connect(self) -> bool:
        """Whether the process answers yet."""
        attempt = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        attempt.settimeout(5)
        try:
            attempt.connect(self.path)
            self.room = json.loads(attempt.recv(1024))["max_output_len"]
        except (OSError, ValueError):
            attempt.close()
            return False
        self.socket = attempt
        return True

    def ask(self, request: str) -> dict:
        assert self.socket is not None, "connected"
        try:
            self.socket.send(request.encode())
            answer = json.loads(self.socket.recv(self.room))
        except (OSError, ValueError) as error:
            raise Failed(f"DPDK's telemetry did not answer {request}: {error!r}") from error
        return answer.get(request.split(",")[0]) or {}

    def close(self) -> None:
        if self.socket:
            self.socket.close()
