"""Many frames in one run of weir, each with the verdict it must get.

A batch is replayed over `net_pcap`. Afterwards every frame that left must be one that a frame of the batch was to
cause, byte for byte, and the counters must say of every frame what the batch said: forwarded, answered with what,
dropped for which reason. Nothing is left over on either side.
"""

import collections
import dataclasses
import time

from scapy.layers.l2 import Ether

from frames import is_own_announcement, is_own_arp_request, untagged
from harness import is_listener_report, replay

# Metrics that say how frames ended.
FORWARDED = "weir_forwarded_packets_total"
ANSWERS = "weir_answers_total"
DROPS = "weir_drops_total"
ABSORBED = "weir_absorbed_packets_total"
PUNTED = "weir_punted_packets_total"
WAITING = "weir_neighbor_waiting_packets"
PIECES_WAITING = "weir_fragments_waiting_packets"
RECEIVED = "weir_port_receive_packets_total"


# Problems of one batch that are shown in full.
SHOWN = 12


@dataclasses.dataclass
class Item:
    """One frame in and its verdict."""
    name: str
    port: str
    frame: bytes
    verdict: str
    out_port: str = ""
    out: bytes = b""
    ident: bool = True
    padding: bytes = b""


class Batch:
    """Collects frames, runs them, checks them."""

    def __init__(self):
        self.items = []

    def drop(self, reason, name, frame, port="c0"):
        """This frame must be dropped for `reason`."""
        self.items.append(Item(name, port, frame, "drop " + reason))

    def forward(self, name, frame, out, port="c0", out_port="r0", ident=True, padding=b""):
        """This frame must leave as `out`; `ident` False: whatever the IP ident. It may carry the given padding."""
        self.items.append(Item(name, port, frame, "forward", out_port, out, ident, padding))

    def answer(self, kind, name, frame, out, port="c0", ident=False, padding=b""):
        """This frame must be answered with `out`, on the port it came in by; the answer's ident is free unless said."""
        self.items.append(Item(name, port, frame, "answer " + kind, port, out, ident, padding))

    def absorb(self, name, frame, port="c0"):
        """This frame must be taken in without an answer."""
        self.items.append(Item(name, port, frame, "absorb"))

    def run(self, test, setup, workers=1):
        """Replays the batch and fails `test` with everything that is not as it must be."""
        frames = collections.defaultdict(list)
        for item in self.items:
            frames[item.port].append(item.frame)
        result = replay(setup, frames, workers=workers)
        problems = self.counter_problems(result.metrics) + self.output_problems(result)
        if result.exit_status != 0:
            problems.append(f"exit status {result.exit_status}")
        if problems:
            more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
            warnings = [line for line in result.log.splitlines() if "ERROR" in line or "panicked" in line]
            test.fail("\n  ".join(["", *problems[:SHOWN], *more, *warnings]))
        return result

    def output_problems(self, result):
        """Frames that are missing, and frames nobody asked for."""
        problems = []
        def is_own(frame):
            frame = untagged(frame)
            return is_own_arp_request(frame) or is_own_announcement(frame) or is_listener_report(frame[12:])
        left = {port: [frame for frame in out if not is_own(frame)] for port, out in result.out.items()}
        for item in self.items:
            if not item.out:
                continue
            match = next((frame for frame in left[item.out_port] if same(item, frame)), None)
            if match is None:
                problems.append(f"{item.name}: {shown(item.frame)}\n      did not leave {item.out_port} as\n"
                                f"      {shown(item.out)}")
            else:
                left[item.out_port].remove(match)
        for port, rest in left.items():
            problems += [f"unexpected on {port}: {shown(frame)}" for frame in rest]
        return problems

    def counter_problems(self, metrics):
        """Counters that don't say what the batch says."""
        wanted = collections.Counter(item.verdict for item in self.items)
        got = collections.Counter(verdicts(metrics))
        problems = []
        for verdict in sorted(set(wanted) | set(got)):
            if wanted[verdict] != got[verdict]:
                names = [item.name for item in self.items if item.verdict == verdict]
                problems.append(f"{verdict}: {got[verdict]} counted, {wanted[verdict]} expected ({', '.join(names)})")
        return problems + accounting_problems(metrics)


def verdicts(metrics):
    """`{verdict: frames}` from the counters."""
    found = {"drop " + reason: int(count) for reason, count in metrics.by(DROPS, "reason").items()}
    found.update({"answer " + kind: int(count) for kind, count in metrics.by(ANSWERS, "kind").items()})
    if metrics.total(FORWARDED):
        found["forward"] = int(metrics.total(FORWARDED))
    if metrics.total(ABSORBED):
        found["absorb"] = int(metrics.total(ABSORBED))
    return found


def accounting_problems(metrics):
    """Every frame received must have ended in exactly one way, or wait for its next hop's answer or its first piece."""
    ended = sum(metrics.total(name) for name in (FORWARDED, ANSWERS, DROPS, ABSORBED, PUNTED, WAITING,
                                                     PIECES_WAITING))
    received = metrics.total(RECEIVED)
    if ended != received:
        return [f"{received:.0f} frames received but {ended:.0f} accounted for"]
    return []


def unaccounted(director):
    """`accounting_problems` of a director that runs. A scrape is no snapshot: what stops waiting between the reading of
    two counters is in both or in neither. What stays wrong is wrong.
    """
    deadline = time.monotonic() + 10
    while (problems := accounting_problems(director.metrics())) and time.monotonic() < deadline:
        time.sleep(0.05)
    return problems


def same(item, frame):
    """Whether `frame` is what the item was to cause."""
    if item.padding and frame.endswith(item.padding) and len(frame) == len(item.out) + len(item.padding):
        frame = frame[:len(item.out)]
    if item.ident:
        return frame == item.out
    return without_ident(frame) == without_ident(item.out)


def without_ident(frame):
    """An IPv4 frame with the ident and the header checksum blanked."""
    at = 18 if frame[12:14] == b"\x81\x00" else 14
    if frame[at - 2:at] != b"\x08\x00":
        return frame
    return frame[:at + 4] + b"\0\0" + frame[at + 6:at + 10] + b"\0\0" + frame[at + 12:]


def shown(frame):
    """A frame for a message."""
    return f"{Ether(frame).summary()} [{len(frame)}] {frame.hex()}"
