"""What the runs say: medians, spread, ratios; as text and against an earlier result."""

from collections.abc import Iterator
from statistics import median

from .testpmd import MODES
from .traffic import KINDS

REFERENCE = "5tswap"
CEILING = "io"


def label(program: str) -> str:
    method, _, rest = program.partition(" ")
    return f"testpmd {program}" if program in MODES else f"weir {method.upper()} {rest}".rstrip()


def flows_label(flows: int) -> str:
    for unit, name in ((1_000_000, " M"), (1000, " k")):
        if flows >= unit and flows % unit == 0:
            return f"{flows // unit}{name}"
    return f"{flows:,}"


def title(point: dict) -> str:
    flows = "1 flow" if point["flows"] == 1 else f"{flows_label(point['flows'])} flows"
    workers = f", {point['workers']} workers" if point["workers"] > 1 else ""
    mbufs = f"mbufs of {point['mbuf_data_bytes']} bytes"
    return f"{KINDS[point['kind']]}, {flows}, {point['size']}-byte frames, {mbufs}{workers}"


def figures(point: dict, program: str) -> dict | None:
    """Medians over the runs. `spread` is (highest - lowest) / median; `ratio` the median of the turns' ratios."""
    runs = point["results"].get(program)
    if not runs:
        return None
    rates = [run["mpps"] for run in runs]
    middle = median(rates)
    out = {
        "runs": len(runs),
        "mpps": middle,
        "wall": median(run["mpps_wall"] for run in runs),
        "spread": (max(rates) - min(rates)) / middle,
        "ns": 1000 / middle,
        "cpu": median(run["cpu_seconds"] / run["seconds"] for run in runs),
    }
    reference = point["results"].get(REFERENCE)
    if reference:
        # Turn by turn, since what disturbs the machine disturbs neighbours alike.
        out["ratio"] = median(run["mpps"] / other["mpps"] for run, other in zip(runs, reference))
    ceiling = point["results"].get(CEILING)
    if ceiling:
        out["over"] = median(1000 / run["mpps"] - 1000 / other["mpps"] for run, other in zip(runs, ceiling))
    if hertz := max((run["tsc_hertz"] for runs in point["results"].values() for run in runs), default=0):
        out["cycles"] = out["ns"] * hertz / 1e9
    if all("parts" in run for run in runs):
        out["parts"] = [median(run["parts"][i]["mpps"] for run in runs) for i in range(len(runs[0]["parts"]))]
        out["connections"] = [part["connections"] for part in runs[0]["parts"]]
    return out


def machine_lines(result: dict) -> Iterator[str]:
    m, s = result["machine"], result["settings"]
    where = "virtual machine" if m.get("hypervisor") else "bare metal"
    yield (
        f"{m.get('model name')} (family {m.get('cpu family')}, model {m.get('model')}), {m['cpus']} CPUs at "
        f"{m.get('cpu MHz')} MHz, level 3 cache {m['level 3 cache']}, {m['memory MiB']} MiB memory, {where}"
    )
    yield f"Linux {m['kernel']}, DPDK {m['dpdk']}, hugepages of {m['hugepage KiB']} KiB, {m['weir'] or 'no weir'}"
    yield f"revision {m['revision']}, {m['date']}"
    yield (
        f"runs: {s['runs']} of {s['seconds']:g} s after {s['warm_up']:g} s; lcores {s['lcores']}; "
        "Mpps and ns are per second of the forwarding threads' CPU time"
    )


def table(point: dict) -> Iterator[str]:
    yield title(point)
    yield (
        f"  {'':<16}{'Mpps':>8}{'spread':>9}{'ns':>8}{'cycles':>8}{'over io':>9}{'/ ' + REFERENCE:>10}"
        f"{'wall Mpps':>11}{'CPU':>7}"
    )
    for program in point["results"]:
        f = figures(point, program)
        if f is None:
            continue
        spread = f"{f['spread']:.0%}" if f["runs"] > 1 else ""
        over = f"{f['over']:.1f}" if "over" in f and program != CEILING else ""
        cycles = f"{f['cycles']:.0f}" if "cycles" in f else ""
        ratio = f"{f['ratio']:.2f}" if "ratio" in f else ""
        yield (
            f"  {label(program):<16}{f['mpps']:>8.2f}{spread:>9}{f['ns']:>8.1f}{cycles:>8}{over:>9}{ratio:>10}"
            f"{f['wall']:>11.2f}{f['cpu']:>7.0%}"
        )
        if "parts" in f:
            parts = ", ".join(f"{rate:.1f}" for rate in f["parts"])
            yield f"  {'':<16}of new connections, as the table fills up to {max(f['connections']):,}: {parts} Mpps"
    for program, shares in point.get("stages", {}).items():
        yield from _stages(program, shares, figures(point, program))
    for program, reason in point["failed"].items():
        yield f"  {label(program)}: {reason}"


def _stages(program: str, shares: dict[str, float], whole: dict | None) -> Iterator[str]:
    """Stages of at least a hundredth; ns and cycles are the stage's share of a packet's."""
    if whole is None:
        return
    yield f"  {label(program)} by stage: share, ns, cycles"
    for stage, share in shares.items():
        if share >= 0.01:
            cycles = f"{share * whole['cycles']:>6.0f}" if "cycles" in whole else ""
            yield f"    {stage:<28}{share:>6.1%}{share * whole['ns']:>7.1f}{cycles}"
    rest = sum(share for share in shares.values() if share < 0.01)
    yield f"    {'all others':<28}{rest:>6.1%}{rest * whole['ns']:>7.1f}"


def text(result: dict) -> Iterator[str]:
    yield from machine_lines(result)
    for point in result["points"]:
        yield ""
        yield from table(point)
    if "memory" in result:
        yield ""
        yield memory_line(result["memory"])


def memory_line(memory: list[dict]) -> str:
    parts = (
        f"{m['bytes_per_connection']:.1f} bytes{' with persistence' if m.get('persistent') else ''}"
        f"{' over IPv6' if m.get('ipv6') else ''}"
        f" (from {m['capacities'][0]:,} to {m['capacities'][1]:,})"
        for m in memory
    )
    return "memory per connection of capacity: " + ", ".join(parts)


def _key(point: dict) -> tuple:
    return point["kind"], point["size"], point["flows"], point["mbuf_data_bytes"], point["workers"]


def comparison(earlier: dict, now: dict) -> Iterator[str]:
    """What changed. A change within the runs' own spread, or 3 %, is called none."""
    yield f"against revision {earlier['machine']['revision']}, {earlier['machine']['date']}"
    for name in ("model name", "cpu family", "model", "level 3 cache", "kernel", "dpdk"):
        before, after = earlier["machine"].get(name), now["machine"].get(name)
        if before != after:
            yield f"  not the same machine: {name} was {before}, is {after}"
    known = {_key(point): point for point in earlier["points"]}
    for point in now["points"]:
        old = known.get(_key(point))
        if old is None:
            continue
        yield ""
        yield title(point)
        yield f"  {'':<16}{'Mpps before':>12}{'now':>8}{'change':>9}{'/ ' + REFERENCE:>10}{'now':>7}"
        for program in point["results"]:
            before, after = figures(old, program), figures(point, program)
            if before is None or after is None:
                continue
            change = after["mpps"] / before["mpps"] - 1
            noise = max(before["spread"], after["spread"], 0.03)
            verdict = "" if abs(change) <= noise else "  faster" if change > 0 else "  slower"
            ratios = f"{before['ratio']:>10.2f}{after['ratio']:>7.2f}" if "ratio" in before and "ratio" in after else ""
            yield (
                f"  {label(program):<16}{before['mpps']:>12.2f}{after['mpps']:>8.2f}{change:>+9.1%}{ratios}{verdict}"
            )
    before, after = (result.get("memory") for result in (earlier, now))
    if before and after:
        yield ""
        yield f"before: {memory_line(before)}"
        yield f"now:    {memory_line(after)}"
