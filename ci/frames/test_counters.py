"""Counters and rates of virtual and real servers, as IPVS keeps them: what counts, in which direction, with how many bytes."""

import time
import unittest

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from frames import CLIENT, ETHERNET, ip_packet, tcp, udp
from harness import Live
from services import DR_VIP, NAT_TCP_PORT, NAT_VIP, TUN_VIP
from stopped import Stopped
from test_icmp import ROUTER, error
from topology import C0_MAC, GATEWAY_MAC, OWN_MAC, Setup, rip, server_mac, service


def reply(flags="SA", payload=b"", port=NAT_TCP_PORT, cport=40000, **ip):
    """A NAT real server's segment."""
    packet = Ether(src=server_mac(1), dst=OWN_MAC["r0"]) / IP(**{"src": rip(1), "dst": CLIENT, "flags": "DF", **ip})
    return bytes(packet / TCP(sport=port, dport=cport, flags=flags) / Raw(payload))


def size(frame):
    """Bytes of the IP packet in a frame."""
    return len(ip_packet(frame))


class Counters(unittest.TestCase):
    """One weir a test; after each frame the counters of its virtual server and of the real server are compared."""

    def start(self, virtual):
        self.live = Live()
        self.addCleanup(self.live.close)
        self.virtual = virtual
        self.live.start(Setup(services=[virtual]))
        self.connections = 0
        self.packets = {"in": 0, "out": 0}
        self.bytes = {"in": 0, "out": 0}

    def pass_frame(self, port, frame, direction=None, connections=0):
        """Sends a frame, which must count in this direction, or not at all."""
        out = self.live.exchange(port, frame)
        self.connections += connections
        if direction:
            self.packets[direction] += 1
            self.bytes[direction] += size(frame)
        metrics = self.live.director.metrics()
        for kind in ("virtual", "real"):
            found = {
                "connections": metrics.total(f"weir_{kind}_server_connections_total"),
                **{(what, way): metrics.total(f"weir_{kind}_server_{what}_total", direction=way)
                   for what in ("packets", "bytes") for way in ("in", "out")}}
            wanted = {"connections": self.connections,
                      **{("packets", way): count for way, count in self.packets.items()},
                      **{("bytes", way): count for way, count in self.bytes.items()}}
            self.assertEqual(found, wanted, f"{kind} server after {frame.hex()}")
        return out

    def test_dr_and_tun_count_what_comes_in_once_and_unwrapped(self):
        for method, vip in (("dr", DR_VIP), ("tun", TUN_VIP)):
            with self.subTest(method):
                self.start(service(method, address=vip))
                self.pass_frame("c0", tcp("S", vip=vip), "in", 1)
                self.pass_frame("c0", tcp("S", vip=vip), "in")
                # Padded to the least length of a frame, which does not count.
                self.pass_frame("c0", tcp("A", vip=vip).ljust(60, b"\0"), "in")
                self.pass_frame("c0", tcp("PA", b"x" * 900, vip=vip), "in")
                self.pass_frame("c0", tcp("A", vip=vip, ttl=1), "in")
                self.pass_frame("c0", tcp("A", vip=vip, cport=41000))
                self.live.close()

    def test_one_packet_connections_count(self):
        self.start(service("dr", protocol="udp", port=53, options={"one_packet": True}))
        for _ in range(3):
            self.pass_frame("c0", udp(b"x" * 30), "in", 1)

    def test_nat_counts_both_ways(self):
        self.start(service("nat", address=NAT_VIP, server_port=NAT_TCP_PORT))
        (_, to_server), = self.pass_frame("c0", tcp("S", vip=NAT_VIP), "in", 1)
        (_, to_client), = self.pass_frame("r0", reply("SA"), "out")
        self.pass_frame("c0", tcp("A", vip=NAT_VIP), "in")
        self.pass_frame("r0", reply("PA", b"x" * 1400), "out")
        # Not forwarded, so not counted; that is decided before IPVS sees it.
        self.pass_frame("r0", reply("A", ttl=1))
        self.pass_frame("r0", reply("A", cport=41000))
        # Errors count as the packets of the end that they come from.
        self.pass_frame("r0", error(ROUTER, CLIENT, to_server[ETHERNET:]), "out")
        quote = to_client[ETHERNET:]
        self.pass_frame("c0", error(CLIENT, NAT_VIP, quote, head=Ether(src=GATEWAY_MAC, dst=C0_MAC)), "in")

    def test_a_removed_real_server_counts_no_more(self):
        virtual = service("nat", address=NAT_VIP, server_port=NAT_TCP_PORT)
        self.start(virtual)
        self.pass_frame("c0", tcp("S", vip=NAT_VIP), "in", 1)
        self.pass_frame("r0", reply("SA"), "out")
        # Its socket stays known by another virtual server, so the reply still finds its connection.
        other = service("nat", address="192.0.2.9", server_port=NAT_TCP_PORT)
        virtual.servers = []
        self.live.reload(Setup(services=[virtual, other]))
        self.assertEqual(len(self.live.exchange("r0", reply("PA", b"x" * 100))), 1)
        metrics = self.live.director.metrics()
        self.assertEqual(metrics.total("weir_virtual_server_packets_total", direction="out"), 1)


class Rates(unittest.TestCase):
    """A burst of new connections as the estimator sees it."""

    def test_a_burst_is_an_eighth_at_first_and_a_quarter_less_every_two_seconds(self):
        # Fewer than the device's ring holds.
        flows = 400
        live = Live()
        self.addCleanup(live.close)
        setup = Setup(services=[service("dr")])
        live.start(setup)
        # All wait for the worker, which is the main thread, when it goes on, so that they hardly ever fall into two samples.
        frames = [tcp("S", cport=10000 + number) for number in range(flows)]
        with Stopped(live.director.process.pid):
            for frame in frames:
                live.send("c0", frame)
        seen = []
        # Nothing, the peak, which may come in two samples, and three steps down, however late this sees them.
        deadline = time.monotonic() + 60
        while len(seen) < 6 and time.monotonic() < deadline:
            metrics = live.director.metrics()
            rates = (metrics.total("weir_virtual_server_connections_per_second"),
                     metrics.total("weir_real_server_packets_per_second", direction="in"),
                     metrics.total("weir_real_server_bytes_per_second", direction="in"))
            if not seen or seen[-1] != rates:
                seen.append(rates)
            if len(seen) == 2:
                # The estimate belongs to the server, not to the configuration.
                live.reload(setup)
            time.sleep(0.05)
        self.assertEqual(metrics.total("weir_virtual_server_connections_total"), flows)
        self.assertEqual(metrics.total("weir_real_server_packets_per_second", direction="out"), 0)
        peak = max(seen)
        # A burst on the border of two samples peaks a little lower.
        self.assertTrue(flows / 8 * 0.85 <= peak[0] <= flows / 8 * 1.02, seen)
        self.assertEqual(peak[0], peak[1])
        self.assertAlmostEqual(peak[2], peak[0] * 40, delta=40)
        after = [rates[0] for rates in seen[seen.index(peak):]]
        self.assertGreaterEqual(len(after), 3, seen)
        for before, now in zip(after, after[1:]):
            self.assertAlmostEqual(now, before * 0.75, delta=2, msg=seen)
