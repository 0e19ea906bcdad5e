"""Who listens to a director's VRRP advertisements, and when they came: the kernel's time stamps of what is on the wire."""

import contextlib
import signal
import struct
import subprocess

import lab

VIRTUAL_ROUTER = 77
ADDRESS = "10.10.0.110"
# Short, so that a pause of control of a tenth of a second shows.
INTERVAL = 0.05


def instance(interval=INTERVAL):
    """An instance of VRRP on the lab's outer port, for the file."""
    return f"""
[[vrrp]]
name = "vi"
port = "outer"
virtual_router_id = {VIRTUAL_ROUTER}
version = 3
priority = 200
advertisement_interval = {interval}
addresses = ["{ADDRESS}"]
"""


class Heard:
    """The advertisements of a stretch of time."""

    def __init__(self, times, interval):
        self.times, self.interval = times, interval

    def gaps(self):
        """Seconds from one to the next."""
        return [late - early for early, late in zip(self.times, self.times[1:])]

    def late(self):
        """How many came more than half an interval late."""
        return sum(gap > 1.5 * self.interval for gap in self.gaps())

    def backups_take_over(self):
        """How often a backup with the same priority would have become master (RFC 9568 section 6.1)."""
        down = 3 * self.interval + (256 - 200) / 256 * self.interval
        return sum(gap > down for gap in self.gaps())

    def __str__(self):
        gaps = sorted(self.gaps())
        if not gaps:
            return "none heard"
        share = lambda part: gaps[min(int(len(gaps) * part), len(gaps) - 1)] * 1e3
        return (f"{len(self.times)} each {self.interval * 1e3:.0f} ms; from one to the next half within {share(0.5):.1f} ms, "
                f"99 % within {share(0.99):.1f} ms, longest {gaps[-1] * 1e3:.1f} ms; "
                f"{self.late()} over half an interval late, {self.backups_take_over()} that a backup would take for a failure")


def times(path):
    """When each frame of a pcap file came, in seconds (https://www.ietf.org/archive/id/draft-gharris-opsawg-pcap-01.html)."""
    data = path.read_bytes()
    magic, at, found = struct.unpack_from("<I", data)[0], 24, []
    parts = {0xA1B2C3D4: 1e6, 0xA1B23C4D: 1e9}[magic]
    while at + 16 <= len(data):
        seconds, fraction, captured, _ = struct.unpack_from("<IIII", data, at)
        found.append(seconds + fraction / parts)
        at += 16 + captured
    return found


@contextlib.contextmanager
def listening(interval=INTERVAL, node="client", interface="outer"):
    """Listens in a node during the block; what it yields is filled in after it."""
    path = lab.RUN / f"adverts-{node}.pcap"
    command = ["tcpdump", "-i", interface, "--immediate-mode", "-U", "-s", "64", "-Z", "root", "-w", str(path), "ip", "proto", "112"]
    process = subprocess.Popen(lab.inside(node, *command), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    heard = Heard([], interval)
    try:
        line = process.stderr.readline()
        while line and "listening on" not in line:
            line = process.stderr.readline()
        assert line, "tcpdump did not start"
        yield heard
        lab.finish_writing(process)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        process.stderr.close()
    heard.times += times(path)
