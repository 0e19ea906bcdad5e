"""`persistence_engine = "sip"`: calls keep their real server by Call-ID, by every method and over both families."""

import json
import unittest

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from harness import Live
from topology import GATEWAY_MAC, OWN_MAC, RealServer, Setup, VirtualServer, rip, rip6, server_mac, with_ipv6

METHODS = ("dr", "tun", "nat")
SERVERS = {4: [rip(1), rip(2)], 6: [rip6(1), rip6(2)]}
VIPS = {(4, "dr"): "192.0.2.1", (4, "tun"): "192.0.2.2", (4, "nat"): "192.0.2.3",
        (6, "dr"): "2001:db8:f00d::1", (6, "tun"): "2001:db8:f00d::2", (6, "nat"): "2001:db8:f00d::3"}
CLIENTS = {4: ["203.0.113.50", "198.51.100.7"], 6: ["2001:db8:c::50", "2001:db8:d::7"]}
SIP, INSIDE = 5060, 5070
MACS = [server_mac(1), server_mac(2)]
# A virtual server whose datagrams are not scheduled one by one.
FLOWS = "192.0.2.4"


def setup():
    """Two real servers behind each VIP, where each message is looked at; and one with connections, of IPv4 by NAT."""
    usual = {"persistence_timeout": 100, "persistence_engine": "sip", "persistence_netmask": 0}
    def virtual(vip, family, method, **options):
        port = INSIDE if method == "nat" and options.get("one_packet") else INSIDE + 1 if method == "nat" else SIP
        servers = [RealServer(server, port, forwarding=method) for server in SERVERS[family]]
        return VirtualServer(vip, SIP, protocol="udp", servers=servers, options={**usual, **options})
    services = [virtual(vip, *of, one_packet=True) for of, vip in VIPS.items()]
    return with_ipv6(Setup(services=[*services, virtual(FLOWS, 4, "nat")]))


def message(call, first="INVITE sip:bob@example.com SIP/2.0", header="Call-ID: {}", end="\r\n"):
    """A message of this call."""
    lines = [first, "Via: SIP/2.0/UDP 203.0.113.50:5060;branch=z9hG4bK74b43", "Max-Forwards: 70",
             "From: Alice <sip:alice@example.com>;tag=9fxced76sl", "To: Bob <sip:bob@example.com>",
             header.format(call), "CSeq: 1 INVITE", "Content-Length: 0", "", ""]
    return end.join(lines).encode()


def datagram(source, destination, links, said):
    """Between (address, port)s."""
    family = IPv6 if ":" in source[0] else IP
    return bytes(Ether(src=links[0], dst=links[1]) / family(src=source[0], dst=destination[0])
                 / UDP(sport=source[1], dport=destination[1]) / Raw(said))


class Sip(unittest.TestCase):
    """One weir for all; every test has calls of its own."""

    @classmethod
    def setUpClass(cls):
        cls.live = Live()
        cls.live.start(setup())

    @classmethod
    def tearDownClass(cls):
        cls.live.close()

    def ask(self, vip, said, client=0, port=SIP):
        """What becomes of a client's message: the real server's number by its MAC, and what it gets; none if it is dropped."""
        family = 6 if ":" in vip else 4
        source = (CLIENTS[family][client], port)
        out = self.live.exchange("c0", datagram(source, (vip, SIP), (GATEWAY_MAC, OWN_MAC["c0"]), said))
        if not out:
            return None
        [(exit_, sent)] = out
        packet = Ether(sent)
        self.assertEqual(exit_, "r0")
        inner = packet.payload if packet.payload.payload.name not in ("IP", "IPv6") else packet.payload.payload
        self.assertEqual((inner.src, bytes(inner[UDP].payload)[:len(said)]), (source[0], said))
        again = type(inner)(bytes(inner))
        del again[UDP].chksum
        self.assertEqual(type(inner)(bytes(again))[UDP].chksum, inner[UDP].chksum)
        return MACS.index(packet.dst)

    def answer(self, vip, server, said, client=0, port=SIP, inside=INSIDE):
        """What a client gets of a NAT server's message: from where, to where, what."""
        family = 6 if ":" in vip else 4
        frame = datagram((SERVERS[family][server], inside), (CLIENTS[family][client], port), (MACS[server], OWN_MAC["r0"]), said)
        [(exit_, sent)] = self.live.exchange("r0", frame)
        packet = Ether(sent)
        self.assertEqual(exit_, "c0")
        return (packet.payload.src, packet[UDP].sport), (packet.payload.dst, packet[UDP].dport), bytes(packet[UDP].payload)[:len(said)]

    def drops(self):
        """Those for want of a Call-ID."""
        return self.live.director.metrics().by("weir_drops_total", "reason").get("no_call_id", 0)

    def test_a_call_keeps_its_server_over_ports_and_addresses(self):
        for (family, method), vip in VIPS.items():
            with self.subTest(family=family, method=method):
                invite = [self.ask(vip, message(f"{n}@{method}{family}")) for n in range(4)]
                self.assertEqual(sorted(invite), [0, 0, 1, 1])
                for client, port in ((0, SIP), (0, 40000), (1, SIP), (1, 40001)):
                    bye = [self.ask(vip, message(f"{n}@{method}{family}", "BYE sip:bob@example.com SIP/2.0"), client, port) for n in range(4)]
                    self.assertEqual(bye, invite)

    def test_an_exchange_by_nat_comes_from_the_virtual_server(self):
        for family in (4, 6):
            vip = VIPS[family, "nat"]
            invite = message(f"exchange{family}@x")
            server = self.ask(vip, invite, port=40010)
            ok = message(f"exchange{family}@x", "SIP/2.0 200 OK")
            self.assertEqual(self.answer(vip, server, ok, port=40010), ((vip, SIP), (CLIENTS[family][0], 40010), ok))
            ack = message(f"exchange{family}@x", "ACK sip:bob@example.com SIP/2.0")
            self.assertEqual(self.ask(vip, ack, client=1, port=40011), server)

    def test_the_header_is_found_in_every_form(self):
        for method in METHODS:
            vip, call = VIPS[4, method], f"forms@{method}"
            server = self.ask(vip, message(call))
            # Another call, so that the next pick is another one.
            self.ask(vip, message(f"between@{method}"))
            for header in ("i: {}", "I:{}", "CALL-ID:{}", "call-id \t: \t{}", "Call-ID:\r\n {}", "i\r\n\t:{}", "Call-ID: {} \t"):
                for end in ("\r\n", "\n"):
                    self.assertEqual(self.ask(vip, message(call, header=header, end=end)), server, (header, end))

    def test_what_is_of_no_call_is_dropped(self):
        before, vip = self.drops(), VIPS[4, "nat"]
        usual = b"OPTIONS sip:x SIP/2.0\r\n"
        cases = [b"", b"\r\n\r\n", b"\0" * 1400, usual, usual + b"\r\nCall-ID: a@b\r\n", usual + b"Call-ID: a@b", usual + b"Call-ID: \r\n",
                 usual + b"Call-ID: " + b"x" * 1400, message("x" * 256), message("a\0b"), b"Call-ID: a@b\r\n\r\n", usual + b"id: a@b\r\n", b"i:" * 700]
        for case in cases:
            self.assertIsNone(self.ask(vip, case), case)
        self.assertIsNone(self.ask(VIPS[6, "tun"], usual))
        self.assertEqual(self.drops(), before + len(cases) + 1)
        self.assertIsNotNone(self.ask(vip, message("x" * 255)))
        self.assertEqual(self.ask(vip, message("one@x", header="Call-ID: {}\r\ni: two@x")), self.ask(vip, message("one@x"), port=9))

    def test_a_flow_with_a_connection_goes_on_whatever_it_says(self):
        server = self.ask(FLOWS, message("flow@x"), port=41000)
        self.ask(FLOWS, message("other@x"), port=41001)
        self.assertEqual(self.ask(FLOWS, b"\r\n\r\n", port=41000), server)
        self.assertEqual(self.ask(FLOWS, message("flow@x"), client=1, port=41002), server)
        ok = message("flow@x", "SIP/2.0 200 OK")
        got = self.answer(FLOWS, server, ok, port=41000, inside=INSIDE + 1)
        self.assertEqual(got, ((FLOWS, SIP), (CLIENTS[4][0], 41000), ok))

    def test_templates_are_listed_by_their_digest(self):
        self.ask(VIPS[4, "dr"], message("listed@x"))
        status, text = self.live.director.get("/api/v1/connections?templates=yes")
        self.assertEqual(status, 200)
        calls = [it for it in json.loads(text)["connections"] if it.get("persistence_engine") == "sip"]
        self.assertTrue(calls)
        self.assertEqual({it["client"] for it in calls} - {"0.0.0.0", "::"}, set())
        self.assertTrue(all(len(it["persistence_data"]) == 32 for it in calls))
        self.assertNotIn("listed@x", text)


if __name__ == "__main__":
    unittest.main()
