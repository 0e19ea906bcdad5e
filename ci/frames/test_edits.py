"""Connections of real servers that are edited, or taken out of the file, while they live."""

import time
import unittest

from scapy.layers.l2 import Ether

from batch import DROPS
from frames import CLIENT, dr, nat_reply, nat_request, tcp
from harness import Live
from topology import R0_MAC, Setup, rip, server_mac, service


def from_server(flags, cport, sport, payload=b""):
    """Real server 1's segment to the client."""
    return tcp(flags, payload, cip=rip(1), cport=sport, vip=CLIENT, vport=cport, head=Ether(src=server_mac(1), dst=R0_MAC))


def setup(method, **connections):
    """One virtual server with real server 1 by this method, or with none."""
    server_port = 8080 if method == "nat" else None
    virtual = service(method or "nat", servers=1 if method else 0, server_port=server_port)
    return Setup(services=[virtual], connections=connections)


class Edits(unittest.TestCase):
    """A reload changes a real server."""

    @classmethod
    def setUpClass(cls):
        cls.live = Live()

    @classmethod
    def tearDownClass(cls):
        cls.live.close()

    def drops(self, reason):
        """Frames dropped for this reason."""
        return self.live.director.metrics().total(DROPS, reason=reason)

    def establish(self, cport=40000):
        """A NAT connection."""
        for port, frame, expected in (
                ("c0", tcp("S", cport=cport), nat_request), ("r0", from_server("SA", cport, 8080), nat_reply),
                ("c0", tcp("A", cport=cport), nat_request)):
            other = "r0" if port == "c0" else "c0"
            self.assertEqual(self.live.exchange(port, frame), [(other, expected(frame))])

    def test_what_a_removed_nat_server_still_sends_reaches_its_client(self):
        """As in the kernel (recorded: dest_deleted)."""
        self.live.start(setup("nat"))
        self.establish()
        self.live.reload(setup(None))
        self.assertEqual(self.live.exchange("c0", tcp("PA", b"x")), [])
        self.assertEqual(self.drops("real_server_removed"), 1)
        data = from_server("PA", 40000, 8080, b"y")
        self.assertEqual(self.live.exchange("r0", data), [("c0", nat_reply(data))])
        self.live.reload(setup("nat"))
        packet = tcp("PA", b"x")
        self.assertEqual(self.live.exchange("c0", packet), [("r0", nat_request(packet))])

    def test_after_expire_nodest_conn_has_ended_the_connection_it_does_not(self):
        self.live.start(setup("nat", expire_nodest_conn=True))
        self.establish()
        self.live.reload(setup(None, expire_nodest_conn=True))
        # The client's next packet, or the sweep, ends it.
        answer = self.live.exchange("c0", tcp("PA", b"x"))
        self.assertTrue(all(port == "c0" for port, _ in answer), answer)
        self.assertEqual(self.live.exchange("r0", from_server("PA", 40000, 8080, b"y")), [])
        self.assertEqual(self.drops("stray_reply"), 1)

    def test_connections_keep_the_method_that_they_began_with(self):
        def nat_at_80(frame):
            return nat_request(frame, port=80)

        dr_setup, nat_setup = setup("dr"), Setup(services=[service("nat")])
        self.live.start(dr_setup)
        for flags in "SA":
            packet = tcp(flags)
            self.assertEqual(self.live.exchange("c0", packet), [("r0", dr(packet))])
        self.live.reload(nat_setup)
        packet = tcp("PA", b"x")
        self.assertEqual(self.live.exchange("c0", packet), [("r0", dr(packet))])
        opening = tcp("S", cport=41000)
        self.assertEqual(self.live.exchange("c0", opening), [("r0", nat_at_80(opening))])
        answer = from_server("SA", 41000, 80)
        self.assertEqual(self.live.exchange("r0", answer), [("c0", nat_reply(answer))])
        self.live.reload(dr_setup)
        for packet, expected in ((tcp("PA", b"x"), dr), (tcp("A", cport=41000), nat_at_80), (tcp("S", cport=42000), dr)):
            self.assertEqual(self.live.exchange("c0", packet), [("r0", expected(packet))])
        self.assert_connections(3)

    def assert_connections(self, count):
        """The real server is listed once, with all its connections."""
        deadline = time.monotonic() + 10
        while True:
            metrics = self.live.director.metrics()
            found = {kind: metrics.by(f"weir_real_server_{kind}_connections", "real_server")
                     for kind in ("active", "inactive")}
            total = sum(sum(values.values()) for values in found.values())
            if total == count or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        self.assertEqual(total, count, found)
        self.assertEqual(list(found["active"]), [f"{rip(1)}:80"])


if __name__ == "__main__":
    unittest.main()
