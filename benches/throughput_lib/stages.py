"""Where the time goes: perf's samples of the forwarding thread, by the source file that the processor was in.

weir's files are named as the stages of the path are. Code that was inlined counts for the file that it was written
in; code of the standard library for the file that called it; other libraries by their names.
"""

import re
import shutil
import struct
import subprocess
from collections import Counter
from pathlib import Path

from .machine import Failed

_HERTZ = 3000
_PT_LOAD = 1
_SAMPLE = re.compile(r"^\s*([0-9a-f]+) \((.*)\)$")
_MAPPING = re.compile(r"PERF_RECORD_MMAP2? .*?\[0x([0-9a-f]+)\(0x([0-9a-f]+)\) @ (0x[0-9a-f]+|0) .*\]: r-xp (.*)$")
_PLACE = re.compile(r"/(dataplane|control|config|dpdk-bindings)/(?:sys/)?c?src/(.*?)\.(?:rs|c|h):")
_FOREIGN = re.compile(r"/rustc/|/registry/|/toolchains/")


def available() -> bool:
    return shutil.which("perf") is not None and shutil.which("addr2line") is not None


def record(thread: int, binary: Path, seconds: float, folder: Path) -> dict[str, float]:
    """Shares of the thread's CPU time, largest first."""
    data = folder / "perf.data"
    # The CPU's own clock: it counts in virtual machines too, which have no cycle counter.
    command = ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(_HERTZ), "-t", str(thread), "-o", str(data)]
    done = subprocess.run([*command, "--", "sleep", str(seconds)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if done.returncode:
        raise Failed(f"perf could not record: {done.stderr.decode().strip()}")
    script = ["perf", "script", "-i", str(data), "--show-mmap-events", "-F", "ip,dso"]
    lines = subprocess.run(script, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode().splitlines()
    data.unlink()
    return _shares(lines, binary)


def _shares(lines: list[str], binary: Path) -> dict[str, float]:
    counts: Counter[str] = Counter()
    own: Counter[int] = Counter()
    mappings = []
    for line in lines:
        if (found := _MAPPING.search(line)) and found[4] == str(binary):
            mappings.append((int(found[1], 16), int(found[2], 16), int(found[3], 16)))
        elif found := _SAMPLE.match(line):
            if found[2] == str(binary):
                own[int(found[1], 16)] += 1
            else:
                counts[_library(found[2])] += 1
    segments = _segments(binary)
    addresses = {}
    for ip, count in own.items():
        offset = next((ip - start + at for start, length, at in mappings if 0 <= ip - start < length), None)
        address = next((offset + shift for low, high, shift in segments if offset and low <= offset < high), None)
        if address is None:
            counts["weir, unknown"] += count
        else:
            addresses[address] = count
    for address, stage in _stages(binary, list(addresses)).items():
        counts[stage] += addresses[address]
    samples = sum(counts.values())
    if samples < 100:
        raise Failed(f"perf took only {samples} samples")
    return {stage: count / samples for stage, count in counts.most_common()}


def _library(path: str) -> str:
    """librte_net_pcap.so.23.0 -> net_pcap; libc.so.6 -> libc; [kernel.kallsyms] -> kernel."""
    name = Path(path).name.split(".so")[0]
    return "kernel" if name.startswith("[") else name.removeprefix("librte_")


def _segments(binary: Path) -> list[tuple[int, int, int]]:
    """ELF64: from and to in the file, and what to add for the address that the debug information knows."""
    with open(binary, "rb") as file:
        header = file.read(64)
        table, = struct.unpack_from("<Q", header, 32)
        size, count = struct.unpack_from("<HH", header, 54)
        file.seek(table)
        entries = [file.read(size) for _ in range(count)]
    loads = (struct.unpack_from("<IIQQQQ", entry) for entry in entries)
    return [(at, at + length, address - at) for kind, _, at, address, _, length in loads if kind == _PT_LOAD]


def _stages(binary: Path, addresses: list[int]) -> dict[int, str]:
    if not addresses:
        return {}
    asked = "\n".join(f"{address:#x}" for address in addresses)
    done = subprocess.run(["addr2line", "-i", "-a", "-e", binary], input=asked.encode(), stdout=subprocess.PIPE)
    stages: dict[int, str] = {}
    address = None
    for line in done.stdout.decode(errors="replace").splitlines():
        if line.startswith("0x"):
            address = int(line, 16)
            stages[address] = "weir, other"
        elif address is not None and stages[address] == "weir, other" and not _FOREIGN.search(line):
            # Innermost first: the first line of weir's own decides.
            if found := _PLACE.search(line):
                crate, file = found.groups()
                stages[address] = file if crate == "dataplane" else f"{crate}: {file}"
    return stages
