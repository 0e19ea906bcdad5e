"""dpdk-testpmd as the yardstick: the same device, file, mbuf size and burst as weir's, but a far simpler job."""

import time
from pathlib import Path

from .machine import EAL_OPTIONS, HEADROOM_BYTES, Child, Failed, Sample, Telemetry
from .traffic import Traffic, device

MODES = ("io", "macswap", "5tswap")
BURST = 64
SPARE_MBUFS = 65_536
_START_SECONDS = 120


class Testpmd:
    """A running testpmd that forwards."""

    def __init__(self, mode: str, traffic: Traffic, files: list[Path], mbuf_bytes: int, lcores: str, folder: Path):
        command = ["dpdk-testpmd", "--lcores", lcores, *EAL_OPTIONS]
        command += ["--vdev", device(files), "--"]
        command += [f"--forward-mode={mode}", "--auto-start", f"--burst={BURST}"]
        command += [f"--{what}={traffic.queues}" for what in ("nb-cores", "rxq", "txq")]
        command += [f"--total-num-mbufs={traffic.frames + SPARE_MBUFS}", f"--mbuf-size={mbuf_bytes + HEADROOM_BYTES}"]
        self.child = Child(command, folder / f"testpmd-{mode}.log")
        self.telemetry = Telemetry()
        self.frames = traffic.frames

    def warm_up(self, seconds: float) -> None:
        """Returns when every frame of the file has come by at least twice and `seconds` have passed since."""
        deadline = time.monotonic() + _START_SECONDS
        while not (self.telemetry.connect() and self._received() > 0):
            self._wait(deadline, "start")
        while self._received() < 2 * self.frames:
            self._wait(deadline, "forward")
        time.sleep(seconds)

    def _wait(self, deadline: float, what: str) -> None:
        self.child.check()
        if time.monotonic() > deadline:
            raise Failed(f"testpmd did not {what} within {_START_SECONDS} s:\n{self.child.last_words()}")
        time.sleep(0.05)

    def _received(self) -> int:
        return self.telemetry.ask("/ethdev/stats,0").get("ipackets", 0)

    def sample(self) -> Sample:
        self.child.check()
        stats = self.telemetry.ask("/ethdev/stats,0")
        wall = time.monotonic_ns()
        return Sample(wall, self.child.cpu(), stats["ipackets"], stats)

    def verify(self, first: Sample, last: Sample) -> None:
        """Raises unless everything received was sent."""
        received = last.received - first.received
        sent = last.counters["opackets"] - first.counters["opackets"]
        # The two counters are read while both move.
        if abs(received - sent) > received // 1000 + 10_000:
            raise Failed(f"testpmd received {received} frames and sent {sent}")

    def stop(self) -> None:
        self.telemetry.close()
        self.child.stop()
