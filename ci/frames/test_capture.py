"""Captures: what comes in, goes out and is dropped, as scapy and tshark find it in the file."""

import contextlib
import http.client
import json
import logging
import pathlib
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest

from scapy.layers.l2 import Ether
from scapy.utils import RawPcapNgReader

from frames import arp, dr, ether, is_own_arp_request, nat_reply, nat_request, tcp, tun, udp
from harness import Live
from services import DR_VIP, NAT_VIP, TUN_VIP, setup
from topology import R0_ADDRESS, R0_MAC, rip, server_mac, service

PATH = "/api/v1/capture"
CAPTURED = "weir_captured_frames_total"
LOST = "weir_capture_lost_frames_total"
STATISTICS = 5
IF_DROP, COMMENT = 5, 1
# It takes a comment for broken that does not end with a line.
logging.getLogger("scapy.runtime").setLevel(logging.ERROR)


def ask(director, method, path):
    """An answer of the control socket, of which only the head is read."""
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    connection.sock.connect(str(director.workdir / "weir.sock"))
    connection.request(method, path)
    return connection, connection.getresponse()


class Recording:
    """A capture that is on. Every frame that weir receives after it began is in it."""

    def __init__(self, director, query=""):
        self.director = director
        self.connection, self.answer = ask(director, "POST", f"{PATH}?{query}")
        if self.answer.status != 200:
            raise AssertionError(f"{self.answer.status}: {self.answer.read().decode()}")
        self.bytes = b""
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        with contextlib.suppress(http.client.IncompleteRead):
            while piece := self.answer.read1(1 << 20):
                self.bytes += piece

    def end(self):
        """Has weir end it."""
        status = ask(self.director, "DELETE", PATH)[1].status
        return status, self.wait()

    def wait(self):
        """What is in it when it has ended."""
        self.thread.join(60)
        if self.thread.is_alive():
            raise AssertionError(f"the capture does not end\n{self.director.explain()}")
        return File(self.bytes)


class File:
    """A file of a capture, as others read it."""

    def __init__(self, data):
        self.data = data
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "capture.pcapng"
            path.write_bytes(data)
            with contextlib.closing(RawPcapNgReader(str(path))) as reader:
                packets = list(reader)
            self.frames = [frame for frame, _ in packets]
            self.lengths = [about.wirelen for _, about in packets]
            self.times = [((about.tshigh << 32) + about.tslow) / about.tsresol for _, about in packets]
            fields = ["frame.interface_name", "frame.packet_flags_direction", "frame.comment"]
            done = subprocess.run(["tshark", "-nr", str(path), "-T", "fields", *(f"-e{field}" for field in fields)],
                                  capture_output=True, text=True, timeout=120, check=True)
            self.about = [tuple(line.split("\t")) for line in done.stdout.splitlines()]
            done = subprocess.run(["capinfos", "-cI", str(path)], capture_output=True, text=True, timeout=120, check=True)
            self.infos = done.stdout
        if len(self.about) != len(self.frames):
            raise AssertionError(f"scapy finds {len(self.frames)} frames, tshark {len(self.about)}: {done.stderr}")

    def seen(self):
        """Of each frame the port, in or out or the reason for which it was dropped, and the frame."""
        return [(port, point(direction, comment), frame) for (port, direction, comment), frame in zip(self.about, self.frames)]

    def statistics(self):
        """Of each interface how many frames were lost, and why the capture ended."""
        found, at = [], 0
        while at < len(self.data):
            kind, length = struct.unpack_from("<II", self.data, at)
            if kind == STATISTICS:
                options, rest = {}, self.data[at + 20:at + length - 4]
                while rest:
                    code, size = struct.unpack_from("<HH", rest)
                    options[code] = rest[4:4 + size]
                    rest = rest[4 + (size + 3) // 4 * 4:]
                found.append((struct.unpack("<Q", options[IF_DROP])[0], options[COMMENT].decode()))
            at += length
        return found


def point(direction, comment):
    """Where a frame was seen, by what its flags and comment say."""
    if comment.startswith("dropped: "):
        return comment.removeprefix("dropped: ").split(",")[0]
    return {1: "in", 2: "out"}[int(direction, 0)]


class Captures(unittest.TestCase):
    """One worker, one client, one real server for each method."""

    @classmethod
    def setUpClass(cls):
        cls.live = Live()

    @classmethod
    def tearDownClass(cls):
        cls.live.close()

    def setUp(self):
        self.director = self.live.start(setup())

    def test_frames_are_there_as_they_came_in_and_as_they_went_out(self):
        recording = Recording(self.director, "protocol=tcp&in=yes&out=yes&snaplen=2000")
        began = time.time()
        expected = []
        for vip, made in ((DR_VIP, dr), (TUN_VIP, tun), (NAT_VIP, nat_request)):
            for flags, payload in (("S", b""), ("A", b""), ("PA", b"x" * 1200)):
                frame = tcp(flags, payload, vip=vip)
                out = self.live.exchange("c0", frame)
                self.assertEqual(len(out), 1, f"{vip} {flags}")
                if made is not tun:
                    self.assertEqual(out, [("r0", made(frame))])
                expected += [("c0", "in", frame), ("r0", "out", out[0][1])]
        answer = tcp("SA", cip=rip(1), cport=8080, vip="203.0.113.50", vport=40000,
                     head=Ether(src=server_mac(1), dst=R0_MAC))
        self.assertEqual(self.live.exchange("r0", answer), [("c0", nat_reply(answer, vip=NAT_VIP))])
        expected += [("r0", "in", answer), ("c0", "out", nat_reply(answer, vip=NAT_VIP))]
        status, file = recording.end()
        self.assertEqual(status, 200)
        self.assertEqual(file.seen(), expected)
        self.assertEqual(file.lengths, [len(frame) for _, _, frame in expected])
        self.assertTrue(all(began - 5 < it < time.time() + 5 for it in file.times), file.times)
        self.assertEqual(file.times, sorted(file.times))
        self.assertEqual({comment for _, _, comment in file.about}, {"worker 0"})
        self.assertEqual(file.statistics(), [(0, "it was stopped")] * 3)
        self.assertRegex(file.infos, r"Number of packets: +20\b")
        for name in ("c0", "r0"):
            self.assertIn(f"Name = {name}", file.infos)

    def test_a_filter_takes_what_a_tunnel_carries_and_nothing_else(self):
        wanted, other = tcp(vip=TUN_VIP), udp(cip="203.0.113.51")
        recording = Recording(self.director, "address=203.0.113.50&l4_port=80&out=yes&port=r0")
        out = [frame for _, frame in self.live.exchange_all("c0", [wanted, other, tcp(vip=TUN_VIP, vport=81)])]
        _, file = recording.end()
        self.assertEqual(len(file.frames), 1)
        self.assertIn(file.frames[0], out)
        self.assertEqual(file.frames[0][23], 4, "IP in IP")

    def test_dropped_frames_say_why(self):
        drops = {
            "foreign_mac": tcp(head=ether(destination="02:00:00:00:77:77")),
            "bad_ip_checksum": tcp(chksum=1),
            "foreign_address": udp(vip="192.0.2.77"),
        }
        before = self.director.metrics().by("weir_drops_total", "reason")
        recording = Recording(self.director, "drop=any")
        self.live.exchange_all("c0", [*drops.values(), tcp()])
        _, file = recording.end()
        self.assertEqual(file.seen(), [("c0", reason, frame) for reason, frame in drops.items()])
        after = self.director.metrics().by("weir_drops_total", "reason")
        self.assertEqual({reason: after[reason] - before.get(reason, 0) for reason in drops}, dict.fromkeys(drops, 1))
        recording = Recording(self.director, "drop=foreign_address&drop=stale")
        self.live.exchange_all("c0", drops.values())
        self.assertEqual(recording.end()[1].seen(), [("c0", "foreign_address", drops["foreign_address"])])

    def test_long_frames_are_cut_and_their_length_is_kept(self):
        frame = tcp("A", b"y" * 1400)
        recording = Recording(self.director, "in=yes&protocol=6&snaplen=60")
        self.live.exchange("c0", frame)
        _, file = recording.end()
        self.assertEqual((file.frames, file.lengths), ([frame[:60]], [len(frame)]))

    def test_each_limit_ends_it(self):
        for query, why in (("count=3", "the count is reached"), ("bytes=65536&snaplen=1500", "the size is reached"),
                           ("seconds=1", "the time is over")):
            with self.subTest(query):
                recording = Recording(self.director, f"{query}&protocol=tcp&in=yes")
                sent = 3 if query == "count=3" else 60
                self.live.exchange_all("c0", [tcp("A", b"z" * 1400, cport=number) for number in range(1, sent + 1)])
                if query == "count=3":
                    self.live.exchange("c0", tcp("A"))
                file = recording.wait()
                self.assertEqual({reason for _, reason in file.statistics()}, {why})
                self.assertLessEqual(len(file.data), 65536 + 1000 if "bytes" in query else 1 << 20)
                self.assertEqual(len(file.frames), {"count=3": 3, "seconds=1": 60}.get(query, len(file.frames)))

    def test_one_at_a_time_and_afterwards_nothing_is_copied(self):
        recording = Recording(self.director, "protocol=tcp")
        _, refused = ask(self.director, "POST", PATH)
        self.assertEqual(refused.status, 409)
        self.assertRegex(refused.read().decode(), r"^another capture is on and ends in \d+ s at the latest; `weirctl capture --stop`")
        self.live.exchange("c0", tcp())
        self.assertEqual(len(recording.end()[1].frames), 2)
        copied = self.director.metrics().total(CAPTURED)
        self.assertEqual(copied, 2)
        self.live.exchange_all("c0", [tcp("A"), tcp(chksum=1)])
        self.assertEqual(self.director.metrics().total(CAPTURED), copied)
        _, none = ask(self.director, "DELETE", PATH)
        self.assertEqual((none.status, none.read()), (409, b"no capture is on\n"))
        _, wrong = ask(self.director, "POST", f"{PATH}?drop=no_rout")
        self.assertEqual(wrong.status, 400)
        self.assertEqual(self.director.get(PATH)[0], 404, "frames are for the socket alone")

    def test_a_client_that_does_not_read_costs_copies_and_nothing_else(self):
        self.live.exchange_all("c0", [tcp("S", vip=NAT_VIP), tcp("A", vip=NAT_VIP)])
        connection, answer = ask(self.director, "POST", f"{PATH}?snaplen=1600&in=yes")
        self.assertEqual(answer.status, 200)
        frame = tcp("A", b"s" * 1400, vip=NAT_VIP)
        lost = 0
        for _ in range(40):
            # Answered in turn, and none of them lost.
            got = self.live.exchange_all("c0", [frame] * 200)
            self.assertTrue(got == [("r0", nat_request(frame))] * 200, f"{len(got)} frames, the first {got[:1]}")
            lost = self.director.metrics().total(LOST)
            if lost:
                break
        self.assertGreater(lost, 0)
        self.assertEqual(self.director.get("/live")[0], 200)
        # It goes: the capture ends at once, and another one begins.
        answer.close()
        connection.close()
        deadline = time.monotonic() + 30
        while True:
            connection, answer = ask(self.director, "POST", f"{PATH}?count=1&in=yes&protocol=tcp")
            if answer.status == 200 or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        self.assertEqual(answer.status, 200)
        self.live.exchange("c0", frame)
        self.assertIn(frame[:256], answer.read())

    def test_a_slow_client_is_told_what_was_lost(self):
        self.live.exchange_all("c0", [tcp("S", vip=NAT_VIP), tcp("A", vip=NAT_VIP)])
        connection, answer = ask(self.director, "POST", f"{PATH}?snaplen=1600&in=yes&protocol=tcp&seconds=30")
        frame = tcp("A", b"s" * 1400, vip=NAT_VIP)
        sent = 0
        while not self.director.metrics().total(LOST):
            sent += len(self.live.exchange_all("c0", [frame] * 200))
            self.assertLess(sent, 10_000)
        self.assertEqual(ask(self.director, "DELETE", PATH)[1].status, 200)
        file = File(answer.read())
        connection.close()
        (lost, why), *others = file.statistics()
        self.assertEqual((lost + len(file.frames), why), (sent, "it was stopped"))
        self.assertEqual([lost for lost, _ in others], [0, 0])
        self.assertEqual(lost, self.director.metrics().total(LOST))

    def test_a_reload_does_not_end_it(self):
        recording = Recording(self.director, "protocol=tcp&in=yes&out=yes")
        first, second = tcp(vip=DR_VIP), tcp(vip="192.0.2.9", cport=40009)
        out = self.live.exchange("c0", first)
        more = setup()
        more.services.append(service("dr", address="192.0.2.9"))
        self.live.reload(more)
        out += self.live.exchange("c0", second)
        _, file = recording.end()
        self.assertEqual([frame for _, at, frame in file.seen() if at == "in"], [first, second])
        self.assertEqual([("r0", frame) for _, at, frame in file.seen() if at == "out"], out)

    def test_weir_ends_while_one_is_on(self):
        recording = Recording(self.director, "protocol=tcp&seconds=3600")
        self.live.exchange("c0", tcp())
        self.assertEqual(self.live.stop(), 0)
        recording.thread.join(60)
        self.assertFalse(recording.thread.is_alive())


class Neighbors(unittest.TestCase):
    """What `/api/v1/neighbors` says of next hops."""

    def test_next_hops_are_listed_from_the_question_to_the_answer(self):
        live = Live()
        self.addCleanup(live.close)
        made = setup()
        del made.neighbors[rip(1)]
        director = live.start(made)
        frame = tcp(vip=DR_VIP)
        asked = live.exchange("c0", frame, keep_arp=True)
        self.assertTrue(any(is_own_arp_request(out) and out[38:42] == socket.inet_aton(rip(1)) for _, out in asked), asked)
        self.assertFalse([out for _, out in asked if out[12:14] == b"\x08\x00"], "it waits")
        found = listed(director, rip(1))
        self.assertEqual((found["state"], found["waiting"], found["mac"], found["configured"], found["port"]),
                         ("incomplete", 1, None, True, "r0"))
        self.assertGreaterEqual(found["asked"], 1)
        out = live.exchange("r0", arp(2, server_mac(1), rip(1), R0_MAC, R0_ADDRESS, link_destination=R0_MAC))
        self.assertEqual(out, [("r0", dr(frame))])
        found = listed(director, rip(1))
        self.assertEqual((found["state"], found["waiting"], found["mac"], found["asked"]),
                         ("reachable", 0, server_mac(1), 0))
        self.assertLess(found["age_seconds"], 60)
        self.assertEqual(listed(director, rip(2)), None, "nobody has sent anything there")


def listed(director, address):
    """The next hop of this address, if worker 0 knows it."""
    status, text = director.get("/api/v1/neighbors")
    if status != 200:
        raise AssertionError(f"{status}: {text}")
    page = json.loads(text)
    if page["silent_workers"]:
        raise AssertionError(page)
    return next((it for it in page["neighbors"] if it["address"] == address), None)
