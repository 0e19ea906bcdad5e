"""What is measured: points (traffic files) and the programs that run on each, turn by turn."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import machine, stages, testpmd, weir
from .machine import Failed, Sample, Window
from .traffic import Traffic, size_least

CASES = testpmd.MODES + weir.METHODS
USUAL = tuple(case for case in CASES if case not in weir.TUNNELS)
MBUF_DATA_BYTES = 2048
# weir takes no MTU below 576, so no smaller mbuf either.
MBUF_DATA_BYTES_LEAST = 640
_CONNECTION_BYTES_MOST = 128
_SLACK_BYTES = 256 << 20
_MEMORY_CAPACITIES = (1 << 20, 1 << 23)
# A first pass is sampled this often, and cut into this many parts.
_NEW_INTERVAL_SECONDS = 0.02
_NEW_PARTS = 5
_NEW_SECONDS_LEAST = 0.2


@dataclass(frozen=True)
class Settings:
    """How, not what."""

    runs: int
    seconds: float
    warm_up: float
    lcores: str
    stages: bool
    weir: Path | None
    cache: Path
    folder: Path
    real_servers: int = weir.REAL_SERVERS
    scheduler: str = "rr"

    def case(self, method: str, point: "Point") -> weir.Case:
        """A start of weir for a point."""
        return weir.Case(
            method, point.traffic, point.mbuf_bytes, point.capacity,
            real_servers=self.real_servers, scheduler=self.scheduler,
        )


@dataclass
class Point:
    """One traffic file and what ran on it: runs and shares of CPU time by stage, or the reason why not, by program."""

    traffic: Traffic
    mbuf_bytes: int
    capacity: int
    programs: list[str]
    central: bool
    results: dict[str, list[dict]] = field(default_factory=dict)
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def bytes_needed(self) -> int:
        """Memory in hugepages, for whichever program needs more."""
        frames = self.traffic.frames
        ring = 8 << frames.bit_length()
        mbufs = (frames + testpmd.SPARE_MBUFS) * machine.mbuf_footprint(self.mbuf_bytes)
        return mbufs + ring + self.capacity * _CONNECTION_BYTES_MOST + _SLACK_BYTES

    def pages_needed(self) -> int:
        return -(-self.bytes_needed() // machine.HUGEPAGE_BYTES)

    def as_json(self) -> dict:
        t = self.traffic
        return {
            "kind": t.kind,
            "size": t.size,
            "flows": t.flows,
            "workers": t.queues,
            "mbuf_data_bytes": self.mbuf_bytes,
            "capacity": self.capacity,
            "results": self.results,
            "stages": self.stages,
            "failed": self.failed,
        }


def points(
    kinds: list[str], sizes: list[int], flows: list[int], cases: list[str], mbuf_bytes: int | None,
    capacity: int | None, workers: int, product: bool,
) -> list[Point]:
    """A star by default: all flow counts with the first kind and size, then the other sizes and kinds at 1 M flows."""
    centre = 1_000_000 if 1_000_000 in flows else max(flows)
    if product:
        chosen = [_traffic(k, s, f, workers) for k in kinds for s in sizes for f in flows]
    else:
        chosen = [_traffic(kinds[0], sizes[0], f, workers) for f in flows]
        chosen += [_traffic(kinds[0], s, centre, workers) for s in sizes[1:]]
        # The first pass over a file of SYNs must last: it takes as many as there are.
        is_syn = [(k, k.removesuffix("6") == "syn") for k in kinds[1:]]
        chosen += [_traffic(k, sizes[0], max(flows) if syn else centre, workers) for k, syn in is_syn]
    is_central = [t == _traffic(t.kind, sizes[0], centre, workers) for t in chosen]
    return [_point(t, cases, mbuf_bytes, capacity, central) for t, central in zip(chosen, is_central)]


def _traffic(kind: str, size: int, flows: int, workers: int) -> Traffic:
    """Frames of this size, or as small as they can be."""
    return Traffic(kind, max(size, size_least(kind)), flows, workers)


def _point(
    traffic: Traffic, cases: list[str], mbuf_bytes: int | None, capacity: int | None, central: bool
) -> Point:
    programs = [case for case in cases if traffic.what != "mixed" or case not in ("dr", "tun", *weir.TUNNELS)]
    records = capacity or weir.capacity_for(traffic.flows)
    point = Point(traffic, mbuf_bytes or MBUF_DATA_BYTES, records, programs, central)
    if mbuf_bytes is None and point.pages_needed() > machine.hugepages_obtainable():
        point.mbuf_bytes = max(MBUF_DATA_BYTES_LEAST, -(-(traffic.frame_bytes + 64) // 64) * 64)
    return point


def measure(point: Point, settings: Settings, say: Callable[[str], None]) -> None:
    """Runs every program on the point's file, in turn, as often as asked."""
    obtainable = machine.hugepages_obtainable()
    if point.pages_needed() > obtainable:
        needed, there = (pages * machine.HUGEPAGE_BYTES >> 20 for pages in (point.pages_needed(), obtainable))
        point.failed = dict.fromkeys(point.programs, f"{needed} MiB of hugepages needed, {there} MiB can be had")
        return
    try:
        say("making the traffic file")
        files = point.traffic.make(settings.cache)
        machine.reserve_hugepages(point.pages_needed())
        for turn in range(settings.runs):
            for program in point.programs:
                if program not in point.failed:
                    say(f"{program}, run {turn + 1} of {settings.runs}")
                    _turn(program, point, files, settings)
        if settings.stages and point.central and point.traffic.what != "syn":
            for program in (method for method in weir.METHODS if method in point.results):
                say(f"{program}, by stage")
                try:
                    point.stages[program] = _by_stage(program, point, files, settings)
                except Failed as reason:
                    point.failed[f"{program} by stage"] = str(reason)
    except (Failed, OSError) as reason:
        # No file or no memory: nothing has run.
        point.failed = dict.fromkeys(point.programs, str(reason))
    finally:
        machine.release_hugepages()


def _turn(program: str, point: Point, files: list[Path], settings: Settings) -> None:
    try:
        run = _run(program, point, files, settings)
        point.results.setdefault(program, []).append(run)
    except Failed as reason:
        # What the turns before it said is not to be believed either.
        point.failed[program] = str(reason)
        point.results.pop(program, None)


def _by_stage(program: str, point: Point, files: list[Path], settings: Settings) -> dict[str, float]:
    assert settings.weir is not None, "weir ran"
    case = settings.case(program, point)
    subject = weir.Weir(settings.weir, case, files, settings.lcores, settings.folder)
    try:
        subject.warm_up(settings.warm_up)
        before = subject.child.cpu()
        time.sleep(0.5)
        after = subject.child.cpu()
        busiest = max(after, key=lambda thread: after[thread] - before.get(thread, 0))
        return stages.record(busiest, settings.weir, settings.seconds, settings.folder)
    finally:
        subject.child.stop()


def _run(program: str, point: Point, files: list[Path], settings: Settings) -> dict:
    traffic = point.traffic
    subject: testpmd.Testpmd | weir.Weir
    if program in testpmd.MODES:
        subject = testpmd.Testpmd(program, traffic, files, point.mbuf_bytes, settings.lcores, settings.folder)
    else:
        case = settings.case(program, point)
        subject = weir.Weir(settings.weir, case, files, settings.lcores, settings.folder)
    try:
        if isinstance(subject, weir.Weir) and traffic.what == "syn":
            run = _first_pass(subject)
        else:
            subject.warm_up(settings.warm_up)
            first = subject.sample()
            time.sleep(settings.seconds)
            last = subject.sample()
            subject.verify(first, last)
            run = _rate(first, last, traffic.queues)
    except BaseException:
        subject.child.stop()
        raise
    subject.stop()
    return run


def _rate(first: Sample, last: Sample, workers: int) -> dict:
    window = Window.between(first, last, workers)
    return {
        "packets": window.packets,
        "seconds": window.seconds,
        "cpu_seconds": window.cpu_seconds,
        "mpps": window.packets / window.cpu_seconds / 1e6,
        "mpps_wall": window.packets / window.seconds / 1e6,
        "tsc_hertz": sum(last.counters.get("weir_worker_cycle_frequency_hertz", {}).values()),
    }


def _first_pass(subject: weir.Weir) -> dict:
    """The first time that weir sees a file in which every frame begins a connection."""
    traffic = subject.case.traffic
    frames = traffic.frames
    subject.await_metrics(patience=0.002)
    samples = [subject.sample()]
    while samples[-1].received < frames:
        time.sleep(_NEW_INTERVAL_SECONDS)
        samples.append(subject.sample())
    # Neither the start nor the last sample, when the second pass has begun already.
    inner = [s for s in samples if frames // 50 <= s.received <= frames - frames // 50]
    if len(inner) < _NEW_PARTS + 1 or inner[-1].wall - inner[0].wall < _NEW_SECONDS_LEAST * 1e9:
        raise Failed(f"the first pass over {frames:,} SYNs is too short to measure: take more flows")
    subject.verify_new(inner[0], inner[-1])
    run = _rate(inner[0], inner[-1], traffic.queues)
    step = (len(inner) - 1) / _NEW_PARTS
    cuts = [inner[round(i * step)] for i in range(_NEW_PARTS + 1)]
    run["parts"] = [
        {"connections": last.received, "mpps": _rate(first, last, traffic.queues)["mpps"]}
        for first, last in zip(cuts, cuts[1:])
    ]
    return run


def connection_bytes(settings: Settings) -> list[dict]:
    """Bytes of memory per connection of capacity: the slope between two starts, without persistence and with it, and of IPv6."""
    low, high = _MEMORY_CAPACITIES
    out = []
    try:
        machine.reserve_hugepages(Point(Traffic("ack", 64, 1), MBUF_DATA_BYTES, high, [], False).pages_needed())
        for kind, persistent in (("ack", False), ("ack", True), ("ack6", False)):
            traffic = _traffic(kind, 64, 1, 1)
            used = [_memory_used(capacity, traffic, persistent, settings) for capacity in (low, high)]
            slope = (used[1] - used[0]) / (high - low)
            out.append({
                "capacities": [low, high], "persistent": persistent, "ipv6": traffic.is_ipv6, "bytes": used,
                "bytes_per_connection": slope,
            })
    finally:
        machine.release_hugepages()
    return out


def _memory_used(capacity: int, traffic: Traffic, persistent: bool, settings: Settings) -> int:
    assert settings.weir is not None, "only asked for with weir"
    case = weir.Case("dr", traffic, MBUF_DATA_BYTES, capacity, persistent)
    subject = weir.Weir(settings.weir, case, [], settings.lcores, settings.folder)
    try:
        subject.await_metrics()
        return subject.child.memory()
    finally:
        subject.child.stop()
