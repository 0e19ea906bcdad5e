"""A NAT real server that two virtual servers have: a client that uses one port for both is answered as the kernel does
it, from the VIP that it asked last."""

import json
import unittest

from scapy.layers.inet import IP
from scapy.layers.l2 import Ether

from frames import CLIENT, ether, tcp, udp
from harness import Live
from topology import R0_MAC, Setup, rip, server_mac, service

VIPS = ("192.0.2.3", "192.0.2.4")
CPORT = 40000


def both(protocol, port, server_port):
    """Two virtual servers with the same real server."""
    return Setup(services=[service("nat", address=vip, protocol=protocol, port=port, server_port=server_port)
                           for vip in VIPS])


class SharedServers(unittest.TestCase):
    """See the module."""

    @classmethod
    def setUpClass(cls):
        cls.live = Live()
        cls.addClassCleanup(cls.live.close)

    def ask(self, frame):
        """The client's packet goes to the real server."""
        self.assertEqual([port for port, _ in self.live.exchange("c0", frame)], ["r0"])

    def answer(self, make, *what):
        """The address from which a packet of the real server's reaches the client."""
        head = ether(server_mac(1), R0_MAC)
        port = 8080 if make is tcp else 5353
        sent = self.live.exchange("r0", make(*what, cip=rip(1), cport=port, vip=CLIENT, vport=CPORT, head=head))
        self.assertEqual([port for port, _ in sent], ["c0"])
        return Ether(sent[0][1])[IP].src

    def states(self):
        """State of the connection of each VIP."""
        connections = json.loads(self.live.director.get("/api/v1/connections")[1])["connections"]
        return {connection["virtual_server"].split("-")[1]: connection["state"] for connection in connections}

    def test_the_answer_to_a_syn_is_the_new_connections_and_revives_no_dead_one(self):
        for end in ("FIN", "RST"):
            with self.subTest(end=end):
                self.live.start(both("tcp", 80, 8080))
                first, second = VIPS
                self.ask(tcp("S", vip=first, cport=CPORT))
                self.assertEqual(self.answer(tcp, "SA"), first)
                self.ask(tcp("A", vip=first, cport=CPORT))
                if end == "FIN":
                    self.ask(tcp("FA", vip=first, cport=CPORT))
                    self.assertEqual(self.answer(tcp, "FA"), first)
                    self.ask(tcp("A", vip=first, cport=CPORT))
                else:
                    self.ask(tcp("R", vip=first, cport=CPORT))
                dead = self.states()[first]
                self.ask(tcp("S", vip=second, cport=CPORT))
                self.assertEqual(self.answer(tcp, "SA"), second)
                self.ask(tcp("A", vip=second, cport=CPORT))
                self.assertEqual(self.answer(tcp, "PA", b"data"), second)
                self.assertEqual(self.states(), {first: dead, second: "ESTABLISHED"})

    def test_the_connection_that_began_last_is_answered_whatever_the_order_of_the_vips(self):
        for vips in (VIPS, VIPS[::-1]):
            with self.subTest(vips=vips):
                self.live.start(both("udp", 53, 5353))
                first, second = vips
                # As in the kernel, what counts is which connection began last.
                for asked, answered in ((first, first), (second, second), (second, second), (first, second)):
                    self.ask(udp(vip=asked, cport=CPORT))
                    self.assertEqual(self.answer(udp, b"answer"), answered)


if __name__ == "__main__":
    unittest.main()
