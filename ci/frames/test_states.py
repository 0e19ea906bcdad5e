"""The kernel's state traces through the real binary: where each packet goes, and the connection after it.

`dataplane/testdata/golden/states/SET.jsonl.gz` holds one connection a line. All of a set are played at once, each
with a virtual server and a client of its own, one step after the other; after each step the state and the time left
are read from `/api/v1/connections`, the active and inactive connections from `/metrics`.
"""

import collections
import gzip
import json
import time
import unittest

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.sctp import (SCTP, SCTPChunkAbort, SCTPChunkCookieAck, SCTPChunkCookieEcho, SCTPChunkData,
                               SCTPChunkError, SCTPChunkHeartbeatReq, SCTPChunkInit, SCTPChunkInitAck, SCTPChunkSACK,
                               SCTPChunkShutdown, SCTPChunkShutdownAck, SCTPChunkShutdownComplete)

import golden
from director import ROOT
from frames import ether
from harness import Live
from topology import OWN_MAC, RealServer, Setup, VirtualServer, rip, server_mac

DIRECTORY = ROOT / "dataplane" / "testdata" / "golden" / "states"
SETS = tuple(sorted(path.name.removesuffix(".jsonl.gz") for path in DIRECTORY.glob("*.jsonl.gz")))
SERVER_PORT = 8080
VIP_PORT = 80
CLIENT_PORT = 40000
ICMP = 1
# The kernel's seconds are cut and its timers start at whole ticks; weir's clock is read once a turn.
EXPIRES_WITHIN = 2
SETTLE_SECONDS = 1.0
# Times that a set is played when a slow machine has let connections end before they could be looked at.
TRIES = 5

CHUNKS = {
    "INIT": lambda: SCTPChunkInit(init_tag=1, a_rwnd=65535, n_out_streams=1, n_in_streams=1),
    "INIT_ACK": lambda: SCTPChunkInitAck(init_tag=1, a_rwnd=65535, n_out_streams=1, n_in_streams=1),
    "DATA": lambda: SCTPChunkData(data=b"data", beginning=1, ending=1),
    "SACK": SCTPChunkSACK, "ABORT": SCTPChunkAbort, "ERROR": SCTPChunkError,
    "HEARTBEAT": SCTPChunkHeartbeatReq, "COOKIE_ECHO": lambda: SCTPChunkCookieEcho(cookie=b"cook"),
    "COOKIE_ACK": SCTPChunkCookieAck, "SHUTDOWN": SCTPChunkShutdown, "SHUTDOWN_ACK": SCTPChunkShutdownAck,
    "SHUTDOWN_COMPLETE": SCTPChunkShutdownComplete,
}

# Where weir knowingly lets a frame go elsewhere than the kernel: (name, what the step must be like, the kernel's ports,
# weir's ports, why). Each must really happen.
DEVIATIONS = (
    ("stray packets of NAT servers", lambda step: step["from"] == "server" and step["state"] is None, ["c0"], [],
     "a stray packet of a NAT server is dropped: forwarded as it is, it would show the client the server's own "
     "address"),
    ("SCTP packets of no association", lambda step: step["pkt"] == "DATA" and step["state"] is None, [], ["c0"],
     "weir speaks no SCTP itself: a packet of no association is answered with protocol unreachable, which ends the "
     "sender's association as an ABORT does"),
)

# How often each deviation was seen.
SEEN = collections.Counter()

# {set: Counter}, filled while the tests run.
OUTCOMES = collections.defaultdict(collections.Counter)

LIVE = None


def setUpModule():
    global LIVE
    LIVE = Live()


def tearDownModule():
    LIVE.close()


def load(name):
    """The recorded connections of one set."""
    with gzip.open(DIRECTORY / f"{name}.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


class Connection:
    """One recorded connection, number `number` of its set."""

    def __init__(self, number, record):
        self.record = record
        self.steps = record["steps"]
        self.client = f"198.18.{1 + number // 200}.{1 + number % 200}"
        self.vip = f"192.0.2.{10 + number}"
        self.protocol = record["proto"]
        self.forwarding = record["mode"]
        self.problems = []
        self.deviates = False

    def service(self):
        """A virtual server with one real server."""
        port = SERVER_PORT if self.forwarding == "nat" else VIP_PORT
        server = RealServer(rip(1), port, 1, self.forwarding)
        return VirtualServer(self.vip, VIP_PORT, self.protocol, "rr", [server])

    def frame(self, step):
        """The frame of a step and the port it goes into."""
        if step["from"] == "client":
            head = ether() / IP(src=self.client, dst=self.vip, flags="DF")
            ports = {"sport": CLIENT_PORT, "dport": VIP_PORT}
        else:
            head = ether(server_mac(1), OWN_MAC["r0"]) / IP(src=rip(1), dst=self.client, flags="DF")
            ports = {"sport": self.service().servers[0].port, "dport": CLIENT_PORT}
        if self.protocol == "tcp":
            return bytes(head / TCP(flags=step["pkt"], seq=1000, ack=2000 if "A" in step["pkt"] else 0, **ports))
        if self.protocol == "udp":
            return bytes(head / UDP(**ports) / b"data")
        packet = head / SCTP(tag=1, **ports)
        for chunk in step["pkt"].split("+"):
            packet /= CHUNKS[chunk]()
        return bytes(packet)

    def explain(self, number):
        """The packets up to a step: `C` from the client, `S` from the real server."""
        return " ".join(f"{step['from'][0].upper()}:{step['pkt'] or '-'}" for step in self.steps[:number + 1])

    def differs(self, number, text):
        """Notes a difference after a step."""
        self.problems.append((self.explain(number), text))


def setup_of(connections):
    """The file for a set: the recorded switches and `--set TCP FIN UDP` timeouts."""
    record = connections[0].record
    options = {name: bool(value) for name, value in record["sysctl"].items()}
    for command in record["cmds"]:
        values = map(int, command.removeprefix("--set ").split())
        options["timeouts"] = {name: value for name, value in zip(("tcp_established", "tcp_fin_wait", "udp"), values)
                               if value}
    return Setup(services=[connection.service() for connection in connections], connections=options)


def play(connections):
    """Plays a set on a fresh weir and notes every difference with its connection.

    Connections end by the clock. What differs when steps took longer than connections last says nothing about weir, and
    the set is played again.
    """
    for _ in range(TRIES):
        for connection in connections:
            connection.problems = []
        was_in_time = play_once(connections)
        if was_in_time or not any(connection.problems for connection in connections):
            return


def play_once(connections):
    """Plays a set. Returns whether no connection can have ended but by a packet."""
    director = LIVE.start(setup_of(connections))
    was_in_time = True
    sent, lasts = time.monotonic(), float("inf")
    for number in range(max(len(connection.steps) for connection in connections)):
        playing = [connection for connection in connections if number < len(connection.steps)]
        went = collections.defaultdict(list)
        began = time.monotonic()
        for port, side in (("c0", "client"), ("r0", "server")):
            frames = [connection.frame(connection.steps[number]) for connection in playing
                      if connection.steps[number]["from"] == side]
            if frames:
                note(went, LIVE.exchange_all(port, frames))
        was_in_time &= time.monotonic() - sent < lasts
        for connection in playing:
            compare_out(connection, number, went)
        settle(director, playing, number, began)
        steps = [connection.steps[number] for connection in playing]
        sent, lasts = began, min((step["expires_s"] for step in steps if step["state"]), default=float("inf"))
        was_in_time &= time.monotonic() - sent < lasts
    if LIVE.stop() != 0:
        raise AssertionError("weir did not stop cleanly")
    return was_in_time


def note(went, sent):
    """Files frames by the client they are of: `{client: [port]}`."""
    for port, frame in sent:
        if frame[12:14] == golden.IPV4:
            at = golden.ETHERNET + (12 if port == "r0" else 16)
            went[".".join(map(str, frame[at:at + 4]))].append(port)


def compare_out(connection, number, went):
    """The ports by which frames left at this step."""
    expected, got = connection.steps[number]["out"], went[connection.client]
    step = connection.steps[number]
    for name, concerns, kernels, ours, _ in DEVIATIONS:
        if (expected, got) == (kernels, ours) and concerns(step):
            SEEN[name] += 1
            connection.deviates = True
            return
    if expected != got:
        connection.differs(number, f"left by {got} instead of {expected}")


def settle(director, playing, number, began):
    """Compares what weir shows with what the kernel showed after a step that began then; counters may take a moment."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        differing = differences(director, playing, number, began)
        if not differing or time.monotonic() > deadline:
            for connection, text in differing:
                connection.differs(number, text)
            return
        time.sleep(0.03)


def differences(director, playing, number, began):
    """`[(connection, sentence)]` for those that weir shows otherwise."""
    status, text = director.get("/api/v1/connections?limit=100000")
    if status != 200:
        raise AssertionError(f"/api/v1/connections answered {status} {text}")
    listed = collections.defaultdict(list)
    for entry in json.loads(text)["connections"]:
        listed[entry["client"]].append(entry)
    elapsed = time.monotonic() - began
    counts = counts_by_service(director.metrics())
    found = []
    for connection in playing:
        text = difference(connection, connection.steps[number], elapsed, listed[connection.client], counts)
        if text:
            found.append((connection, text))
    return found


def counts_by_service(metrics):
    """`{virtual server: [active, inactive]}`"""
    found = collections.defaultdict(lambda: [0, 0])
    for (name, labels), value in metrics.items():
        for index, kind in enumerate(("active", "inactive")):
            if name == f"weir_real_server_{kind}_connections":
                found[dict(labels)["virtual_server"]][index] += int(value)
    return found


def counts_wanted(step):
    """The counts of the one connection after a step, if it is there.

    The recorded ones are of the whole real server. A record that the kernel gives up for a new one (a SYN on a closing
    connection) stays counted as inactive until its timer's next tick, in this recording or out of the next one
    (-1); weir gives it up at once.
    """
    return [step["active_delta"], (step["state"] is not None) - step["active_delta"]]


def difference(connection, step, elapsed, entries, counts):
    """A sentence about how weir's connection is not the kernel's so many seconds after the step began, or None."""
    problems = []
    if step["state"] is None:
        if entries:
            problems.append(f"{entries[0]['state']} instead of no connection")
    elif len(entries) != 1:
        problems.append(f"{len(entries)} connections instead of one in {step['state']}")
    else:
        (entry,) = entries
        if entry["state"] != step["state"]:
            problems.append(f"state {entry['state']} instead of {step['state']}")
        least, most = step["expires_s"] - EXPIRES_WITHIN - elapsed, step["expires_s"] + EXPIRES_WITHIN
        if not least <= entry["expires"] <= most:
            problems.append(f"expires in {entry['expires']} instead of {step['expires_s']} s")
    got = counts[connection.service().name]
    wanted = counts_wanted(step)
    if got != wanted:
        problems.append(f"active, inactive {got} instead of {wanted}")
    return "; ".join(problems) or None


class States(unittest.TestCase):
    """One test a set, added below; each connection is a sub-test."""

    def check(self, name):
        connections = [Connection(number, record) for number, record in enumerate(load(name))]
        play(connections)
        outcome = OUTCOMES[name]
        for connection in connections:
            unexpected = [f"{packets}: {text}" for packets, text in connection.problems]
            outcome["compared"] += 1
            outcome["steps"] += len(connection.steps)
            outcome["differing"] += bool(connection.problems)
            outcome["by intent"] += connection.deviates
            outcome["leftovers"] += sum(counts_wanted(step)[1] != step["inact_delta"] for step in connection.steps)
            with self.subTest(connection.explain(len(connection.steps))):
                if unexpected:
                    self.fail("\n  ".join(["", *unexpected[:3]]))

    def test_zz_every_deviation_was_seen(self):
        """Runs last; without every set there is nothing to say."""
        if set(OUTCOMES) != set(SETS):
            self.skipTest("not all sets were played")
        self.assertEqual({name for name, *_ in DEVIATIONS}, set(SEEN))

    def test_a_wrong_state_time_count_or_port_is_found(self):
        """A comparison that can't fail proves nothing."""
        for key, value in (("state", "ESTABLISHED"), ("expires_s", 50), ("active_delta", 0), ("out", ["c0"]),
                           ("state", None)):
            records = load("tcp-nat-timeouts")
            records[0]["steps"] = [{**records[0]["steps"][0], key: value}]
            connections = [Connection(number, record) for number, record in enumerate(records[:1])]
            play(connections)
            self.assertNotEqual(connections[0].problems, [], f"{key} {value}")

    def test_there_are_sets_of_every_protocol(self):
        self.assertEqual({name.split("-")[0] for name in SETS}, {"tcp", "udp", "sctp"})


def add_tests():
    """One method a set."""
    for name in SETS:
        def method(self, name=name):
            self.check(name)
        setattr(States, f"test_{name.replace('-', '_')}_goes_as_in_the_kernel", method)


def report():
    """Lines about what was compared, for the end of a run."""
    lines = []
    for name in SETS:
        outcome = OUTCOMES[name]
        lines.append(f"states/{name}: {outcome['compared']} connections ({outcome['steps']} packets) compared, "
                     f"{outcome['differing']} differing, {outcome['by intent']} by intent, 0 not replayed; after "
                     f"{outcome['leftovers']} packets the kernel's inactive count includes a given-up record")
    return lines + [f"  deviates by intent: {name} ({SEEN[name]} packets): {reason}"
                    for name, _, _, _, reason in DEVIATIONS]


add_tests()
