"""FTP by NAT: control connections and their data connections, frame by frame, over both families, and of those who mean ill."""

import collections
import unittest

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from harness import Live
from topology import (C0_MAC, GATEWAY_MAC, OWN_MAC, R0_MAC, RealServer, Setup, VirtualServer, rip, rip6, server_mac, service,
                      with_ipv6)

EVENTS = "weir_ftp_total"
CLIENTS = {4: "203.0.113.50", 6: "2001:db8:c::50"}
VIPS = {4: "192.0.2.1", 6: "2001:db8:f00d::1"}
SERVERS = {4: rip(1), 6: rip6(1)}
CONTROL = 2121
# The server's numbers pass zero with its first reply.
FIRST = 2**32 - 30


def setup():
    """FTP at both VIPs, and a web server at a port that FTP's server may announce."""
    services = [VirtualServer(VIPS[family], 21, servers=[RealServer(SERVERS[family], CONTROL, forwarding="nat")]) for family in VIPS]
    return with_ipv6(Setup(services=[*services, service("nat", 1, address=VIPS[4], port=50080, server_port=80)]))


def frame(source, destination, links, data=b"", flags="PA", seq=1000, ack=FIRST + 1, options=()):
    """A segment between (address, port)s."""
    family = IPv6 if ":" in source[0] else IP
    tcp = TCP(sport=source[1], dport=destination[1], flags=flags, seq=seq % 2**32, ack=ack % 2**32, options=list(options))
    return bytes(Ether(src=links[0], dst=links[1]) / family(src=source[0], dst=destination[0]) / tcp / Raw(data))


def read(out):
    """A frame as (addresses and ports, numbers, flags, data), its checksum looked at."""
    packet = Ether(out)
    layer = IPv6 if IPv6 in packet else IP
    ip, tcp = packet[layer], packet[TCP]
    # An Ethernet frame may be padded.
    length = (ip.plen - tcp.dataofs * 4) if layer is IPv6 else (ip.len - ip.ihl * 4 - tcp.dataofs * 4)
    data = bytes(tcp.payload)[:length]
    again = layer(src=ip.src, dst=ip.dst) / TCP(bytes(tcp)[:tcp.dataofs * 4 + length])
    del again[TCP].chksum
    assert layer(bytes(again))[TCP].chksum == tcp.chksum, "the checksum"
    return (ip.src, tcp.sport, ip.dst, tcp.dport), (tcp.seq, tcp.ack), str(tcp.flags), data, tcp.options


class Ftp(unittest.TestCase):
    """One weir for all; every test has clients' ports of its own."""

    @classmethod
    def setUpClass(cls):
        cls.live = Live()
        cls.live.start(setup())

    @classmethod
    def tearDownClass(cls):
        cls.live.close()

    def events(self):
        """What was found so far."""
        return collections.Counter({event: int(count) for event, count in self.live.director.metrics().by(EVENTS, "event").items()})

    def to_server(self, family, port, data=b"", vport=21, **more):
        """A client's segment, and what the real server gets."""
        sent = frame((CLIENTS[family], port), (VIPS[family], vport), (GATEWAY_MAC, OWN_MAC["c0"]), data, **more)
        return [(exit_, read(out)) for exit_, out in self.live.exchange("c0", sent)]

    def to_client(self, family, port, data=b"", sport=CONTROL, **more):
        """The server's segment, and what the client gets."""
        sent = frame((SERVERS[family], sport), (CLIENTS[family], port), (server_mac(1), R0_MAC), data, **more)
        return [(exit_, read(out)) for exit_, out in self.live.exchange("r0", sent)]

    def control(self, family, port):
        """A control connection, whose server has said hello: its next number is FIRST + 13."""
        self.assertEqual(len(self.to_server(family, port, flags="S", seq=999)), 1)
        self.assertEqual(len(self.to_client(family, port, flags="SA", seq=FIRST, ack=1000)), 1)
        self.assertEqual(len(self.to_server(family, port, flags="A")), 1)
        self.assertEqual(len(self.to_client(family, port, b"220 hello.\r\n", seq=FIRST + 1, ack=1000)), 1)

    def reply(self, family, port, command, reply):
        """What the client gets of a reply to a command."""
        self.to_server(family, port, command, ack=FIRST + 13)
        ((exit_, got),) = self.to_client(family, port, reply, seq=FIRST + 13, ack=1000 + len(command))
        self.assertEqual((exit_, got[0][:2]), ("c0", (VIPS[family], 21)))
        return got

    def data_connection(self, family, port, vport):
        """Where a client's SYN to a port of the VIP goes; None: it is reset."""
        ((exit_, got),) = self.to_server(family, port, vport=vport, flags="S", seq=7)
        if exit_ == "c0":
            self.assertEqual(got[2], "RA")
            return None
        return got[0][2:]

    def test_passive_data_reaches_the_server_that_announced_it_over_both_families(self):
        before = self.events()
        self.control(4, 41000)
        reply = b"227 Entering Passive Mode (10,99,0,11,195,80).\r\n"
        changed = b"227 Entering Passive Mode (192,0,2,1,195,80).\r\n"
        got = self.reply(4, 41000, b"PASV\r\n", reply)
        self.assertEqual((got[1][0], got[3]), ((FIRST + 13) % 2**32, changed))
        self.assertEqual(self.reply(4, 41000, b"PASV\r\n", reply), got, "sent again it is changed again")
        shift = len(changed) - len(reply)
        end = FIRST + 13 + len(reply)
        ((_, got),) = self.to_client(4, 41000, b"150 ok\r\n", seq=end, ack=1006)
        self.assertEqual(got[1][0], (end + shift) % 2**32)
        blocks = ("SAck", ((end + shift) % 2**32, (end + shift + 8) % 2**32))
        ((_, got),) = self.to_server(4, 41000, flags="A", seq=1006, ack=end + shift, options=[blocks])
        self.assertEqual((got[1][1], got[4][0]), (end % 2**32, ("SAck", (end % 2**32, (end + 8) % 2**32))))
        self.assertEqual(self.data_connection(4, 41001, 50000), (SERVERS[4], 50000))
        ((exit_, got),) = self.to_client(4, 41001, sport=50000, flags="SA")
        self.assertEqual((exit_, got[0]), ("c0", (VIPS[4], 50000, CLIENTS[4], 41001)))
        self.assertIsNone(self.data_connection(4, 41002, 50000), "one was announced")

        for family in VIPS:
            self.control(family, 41010)
            reply = b"229 Entering Extended Passive Mode (|||50001|)\r\n"
            self.assertEqual(self.reply(family, 41010, b"EPSV\r\n", reply)[3], reply)
            self.assertEqual(self.data_connection(family, 41011, 50001), (SERVERS[family], 50001))
            ((_, got),) = self.to_client(family, 41011, b"data", sport=50001)
            self.assertEqual((got[0], got[3]), ((VIPS[family], 50001, CLIENTS[family], 41011), b"data"))
        after = self.events()
        self.assertEqual({event: after[event] - before[event] for event in after if after[event] != before[event]},
                         {"announced_passive": 3, "rewritten": 2, "opened": 3})

    def test_a_server_connects_to_the_client_that_said_where_over_both_families(self):
        for family, sent, command in ((4, 42080, b"PORT 203,0,113,50,164,96\r\n"), (4, 42081, b"EPRT |1|203.0.113.50|42081|\r\n"),
                                      (6, 42082, b"EPRT |2|2001:db8:c::50|42082|\r\n")):
            port = sent + 10
            self.control(family, port)
            self.assertEqual(self.to_client(family, sent, sport=20, flags="S"), [], "not yet")
            ((_, got),) = self.to_server(family, port, command)
            self.assertEqual(got[3], command)
            ((exit_, got),) = self.to_client(family, sent, sport=20, flags="S")
            self.assertEqual((exit_, got[0]), ("c0", (VIPS[family], 20, CLIENTS[family], sent)))
            ((exit_, got),) = self.to_server(family, sent, vport=20, flags="SA")
            self.assertEqual((exit_, got[0][2:]), ("r0", (SERVERS[family], 20)))

    def test_nothing_is_opened_that_an_end_could_not_open(self):
        for number, (command, event) in enumerate([
                (b"PORT 203,0,113,51,195,80\r\n", "others_address"), (b"PORT 203,0,113,50,0,22\r\n", "low_port"),
                (b"EPRT |1|192.0.2.1|50000|\r\n", "others_address"), (b"PORT 1,2,3\r\n", "malformed_line"),
                (b"PORT 203,0,113,50,195,80", "split_line"), (b"PORT 203,0,113,50,195,80" + b" " * 600 + b"\r\n", "long_line")]):
            with self.subTest(command[:40]):
                self.control(4, 43000 + number)
                before = self.events()
                ((_, got),) = self.to_server(4, 43000 + number, command)
                self.assertEqual(got[3], command)
                after = self.events()
                self.assertEqual((after[event] - before[event], after["announced_active"]), (1, before["announced_active"]))
        for number, (command, reply, event) in enumerate([
                (b"PASV\r\n", b"227 (10,99,0,12,195,90)\r\n", "others_address"), (b"PASV\r\n", b"227 (10,99,0,11,0,22)\r\n", "low_port"),
                (b"NOOP\r\n", b"227 (10,99,0,11,195,90)\r\n", "unasked_reply"), (b"PASV\r\n", b"227 (10,99,0,11,195,160)\r\n", "taken_port"),
                (b"PASV\r\n", b"227 (10,99,0,11,195", "split_line"), (b"PASV\r\n", b"550 227 (10,99,0,11,195,90)\r\n", None)]):
            with self.subTest(reply):
                self.control(4, 43100 + number)
                before = self.events()
                self.assertEqual(self.reply(4, 43100 + number, command, reply)[3], reply)
                after = self.events()
                self.assertEqual({name for name in after if after[name] != before[name]}, {event} - {None})
                self.assertIsNone(self.data_connection(4, 43200 + number, 50010))
        # What is announced to one client is no other's, nor is the port of another virtual server.
        self.control(4, 43300)
        self.reply(4, 43300, b"EPSV\r\n", b"229 ok (|||50020|)\r\n")
        stranger = frame(("203.0.113.51", 43301), (VIPS[4], 50020), (GATEWAY_MAC, C0_MAC), flags="S")
        ((exit_, _),) = self.live.exchange("c0", stranger)
        self.assertEqual(exit_, "c0", "a reset")
        self.assertEqual(self.data_connection(4, 43302, 50080), (SERVERS[4], 80))


if __name__ == "__main__":
    unittest.main()
