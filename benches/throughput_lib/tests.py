"""Tests of the harness itself, with scapy as the judge of the traffic files.

Run as `/usr/bin/python3 benches/throughput_lib/tests.py`.
"""

import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scapy.all import IP, TCP, UDP, Ether, IPv6, rdpcap  # noqa: E402

from throughput_lib import plan, plot, report, traffic, weir  # noqa: E402
from throughput_lib.machine import Failed, Sample, Window  # noqa: E402

FLOWS = 300


class Files(unittest.TestCase):
    def frames(self, kind: str, size: int, flows: int = FLOWS):
        with tempfile.TemporaryDirectory() as folder:
            described = traffic.Traffic(kind, size, flows)
            path, = described.make(Path(folder))
            self.assertEqual(path.stat().st_size, described.file_bytes())
            return rdpcap(str(path))

    def test_frames_are_as_long_as_asked_and_their_checksums_right(self):
        for kind in traffic.KINDS:
            for size in (traffic.size_least(kind), 79, 512, 1500, 1518):
                for frame in self.frames(kind, size, 50):
                    self.assertEqual(len(frame), size - 4)
                    self.assertEqual(frame.dst, traffic.WEIR_MAC)
                    again = Ether(bytes(frame))
                    l4 = UDP if kind.startswith("udp") else TCP
                    if IPv6 in frame:
                        del again[l4].chksum
                        self.assertEqual(frame[l4].chksum, Ether(bytes(again))[l4].chksum)
                        self.assertEqual(frame[IPv6].plen, len(frame) - 54)
                        continue
                    del again[IP].chksum, again[l4].chksum
                    again = Ether(bytes(again))
                    self.assertEqual(frame[IP].chksum, again[IP].chksum)
                    self.assertEqual(frame[l4].chksum, again[l4].chksum)
                    self.assertEqual(frame[IP].len, len(frame[IP]) - (6 if size == 64 and l4 is TCP else 0))

    def test_flows_are_distinct_clients_of_the_vip(self):
        four, six = (IP, "100.", "198.18.0.1"), (IPv6, "2001:db8:64::", "2001:db8::100")
        for kind, l4, flags in (("ack", TCP, "A"), ("syn", TCP, "S"), ("udp", UDP, None)):
            for suffix, (ip, prefix, vip) in (("", four), ("6", six)):
                frames = self.frames(kind + suffix, 78)
                clients = {(frame[ip].src, frame[l4].sport) for frame in frames}
                self.assertEqual(len(clients), FLOWS)
                self.assertTrue(all(address.startswith(prefix) for address, _ in clients))
                self.assertEqual({(frame[ip].dst, frame[l4].dport) for frame in frames}, {(vip, 80)})
                if flags:
                    self.assertEqual({str(frame[TCP].flags) for frame in frames}, {flags})

    def test_mixed_files_hold_one_reply_for_each_request_far_from_it(self):
        for kind, ip, server in (("mixed", IP, "10.0.0.11"), ("mixed6", IPv6, "2001:db8::1:0")):
            frames = self.frames(kind, 78)
            requests, replies = frames[::2], frames[1::2]
            asked = [(frame[ip].src, frame[TCP].sport) for frame in requests]
            answered = [(frame[ip].dst, frame[TCP].dport) for frame in replies]
            self.assertEqual({(frame[ip].src, frame[TCP].sport) for frame in replies}, {(server, 8080)})
            self.assertEqual(sorted(asked), sorted(answered))
            self.assertEqual(asked, answered[FLOWS // 2 :] + answered[: FLOWS // 2])

    def test_pieces_of_a_file_fit_together(self):
        flows = (1 << 22) // (16 + 1514) + 100
        frames = self.frames("udp", 1518, flows)
        self.assertEqual(len({(frame[IP].src, frame[UDP].sport) for frame in frames}), flows)

    def test_queues_share_the_flows(self):
        with tempfile.TemporaryDirectory() as folder:
            clients = []
            for path in traffic.Traffic("mixed", 64, 101, queues=2).make(Path(folder)):
                frames = rdpcap(str(path))
                asked = {(frame[IP].src, frame[TCP].sport) for frame in frames[::2]}
                self.assertEqual(asked, {(frame[IP].dst, frame[TCP].dport) for frame in frames[1::2]})
                clients.append(asked)
        self.assertEqual([len(share) for share in clients], [50, 51])
        self.assertEqual(len(clients[0] | clients[1]), 101)

    def test_the_mapping_of_flows_is_a_bijection(self):
        flows = range(0, 1 << 37, (1 << 37) // 200_000)
        self.assertEqual(len({traffic.flow_bits(flow) for flow in flows}), len(flows))

    def test_a_file_is_made_once_and_again_when_cut_short(self):
        with tempfile.TemporaryDirectory() as folder:
            described = traffic.Traffic("ack", 64, 10)
            path, = described.make(Path(folder))
            written, content = path.stat().st_mtime_ns, path.read_bytes()
            self.assertEqual(described.make(Path(folder))[0].stat().st_mtime_ns, written)
            path.write_bytes(content[:-1])
            self.assertEqual(described.make(Path(folder))[0].read_bytes(), content)


def metrics(received: int, connections: int, dropped: int = 0, sent: int | None = None, untracked: int = 0) -> Sample:
    sent = received - dropped if sent is None else sent
    text = f"""# HELP weir_connections Records
weir_port_receive_packets_total{{port="bench"}} {received}
weir_port_transmit_packets_total{{port="bench"}} {sent}
weir_virtual_server_packets_total{{virtual_server="bench",direction="in"}} {received - dropped}
weir_virtual_server_packets_total{{virtual_server="bench",direction="out"}} 0
weir_drops_total{{reason="no_route"}} {dropped}
weir_untracked_packets_total {untracked}
weir_answers_total{{kind="arp"}} 0
weir_connections{{worker="0"}} {connections}
"""
    return Sample(received, {1: received}, received, weir.parse_metrics(text))


class Verdicts(unittest.TestCase):
    def subject(self) -> weir.Weir:
        subject = object.__new__(weir.Weir)
        subject.case = weir.Case("dr", traffic.Traffic("ack", 64, 1000), 2048, 1 << 20)
        return subject

    def test_a_whole_job_is_believed(self):
        self.subject().verify(metrics(10**6, 1000), metrics(3 * 10**6, 1000))
        self.subject().verify_new(metrics(10**6, 10**6), metrics(3 * 10**6, 3 * 10**6))

    def test_what_was_not_done_is_said(self):
        first = metrics(10**6, 1000)
        for last, word in (
            (metrics(3 * 10**6, 1000, dropped=1), 'dropped 1 of 2,000,000 frames (reason="no_route")'),
            (metrics(3 * 10**6, 999), "999 connections for 1,000 flows"),
            (metrics(3 * 10**6, 1000, sent=2 * 10**6), "sent 1,000,000"),
            (metrics(3 * 10**6, 1000, untracked=5), "without a record 5"),
        ):
            with self.assertRaises(Failed) as refusal:
                self.subject().verify(first, last)
            self.assertIn(word, str(refusal.exception))
        with self.assertRaises(Failed):
            self.subject().verify_new(metrics(10**6, 10**6), metrics(3 * 10**6, 2 * 10**6))

    def test_a_metric_that_is_missing_is_not_zero(self):
        last = metrics(3 * 10**6, 1000)
        del last.counters["weir_drops_total"]
        with self.assertRaises(Failed):
            self.subject().verify(metrics(10**6, 1000), last)

    def test_time_is_that_of_the_busiest_thread(self):
        first = Sample(0, {1: 0, 2: 5, 3: 0}, 100, {})
        last = Sample(2 * 10**9, {1: 10**8, 2: 5 + 10**9, 3: 10**7, 4: 9 * 10**9}, 600, {})
        self.assertEqual(Window.between(first, last, 1), Window(2.0, 1.0, 500))


def run(mpps: float) -> dict:
    return {"mpps": mpps, "mpps_wall": mpps / 2, "seconds": 2.0, "cpu_seconds": 1.0, "tsc_hertz": 2e9}


class Reports(unittest.TestCase):
    POINT = {
        "kind": "ack", "size": 64, "flows": 1000, "mbuf_data_bytes": 2048, "workers": 1, "capacity": 1024, "failed": {},
        "results": {
            "io": [run(40), run(50), run(40)],
            "5tswap": [run(30), run(40), run(20)],
            "dr": [run(15), run(10), run(16)],
        },
    }  # fmt: skip

    def test_medians_spread_and_the_ratios_of_the_turns(self):
        f = report.figures(self.POINT, "dr")
        self.assertEqual((f["mpps"], f["wall"], f["cpu"]), (15, 7.5, 0.5))
        self.assertAlmostEqual(f["spread"], 6 / 15)
        self.assertAlmostEqual(f["ratio"], 0.5)
        self.assertAlmostEqual(f["over"], 1000 / 15 - 25)
        self.assertAlmostEqual(f["cycles"], 2 * 1000 / 15)

    def test_a_change_within_the_spread_is_none(self):
        described = {"model name": "x", "revision": "a", "date": "b"}
        before = {"machine": described, "points": [self.POINT]}
        for rates, verdict in (([15, 10, 17], None), ([60, 60, 60], "faster"), ([5, 5, 5], "slower")):
            point = self.POINT | {"results": {"dr": [run(rate) for rate in rates]}}
            line = list(report.comparison(before, {"machine": described, "points": [point]}))[-1]
            for word in ("faster", "slower"):
                self.assertEqual(word in line, word == verdict, line)

    def test_the_plot_needs_two_numbers_of_flows(self):
        machine = {"model name": "<x>", "cpus": 2, "level 3 cache": "1M", "memory MiB": 1}
        result = {"machine": machine, "settings": {}, "points": [self.POINT]}
        self.assertIsNone(plot.svg(result))
        result["points"] = [self.POINT, self.POINT | {"flows": 10}]
        picture = plot.svg(result)
        self.assertIn("&lt;x&gt;", picture)
        self.assertEqual(picture.count("<polyline"), 4)  # three rates, one ratio


class Plans(unittest.TestCase):
    def test_a_star_around_a_million_flows(self):
        kinds, flows, cases = ["ack", "mixed", "syn"], [1, 10**6, 10**7], ["io", "dr", "nat"]
        points = plan.points(kinds, [64, 512], flows, cases, 640, None, 1, product=False)
        self.assertEqual(
            [(p.traffic.kind, p.traffic.size, p.traffic.flows) for p in points],
            [("ack", 64, 1), ("ack", 64, 10**6), ("ack", 64, 10**7), ("ack", 512, 10**6), ("mixed", 64, 10**6),
             ("syn", 64, 10**7)],
        )  # fmt: skip
        self.assertEqual(points[4].programs, ["io", "nat"])
        self.assertEqual([p.capacity for p in points[:3]], [1 << 20, 1 << 20, 1 << 24])


if __name__ == "__main__":
    unittest.main()
