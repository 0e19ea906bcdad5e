"""Real servers of IPv6 behind a tunnel: whom the director asks for, whom it believes, what waits, and the outer header."""

import time
import unittest

from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import (HBHOptUnknown, ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6ND_NA,
                                ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr, ICMPv6PacketTooBig,
                                ICMPv6ParamProblem, ICMPv6TimeExceeded, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment,
                                IPv6ExtHdrHopByHop, PadN, RouterAlert, in6_chksum)
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw
from scapy.utils import checksum

from batch import unaccounted
from frames import CLIENT, ether, forwarded, link_length, mac, tcp, udp
from harness import Live, is_listener_report
from topology import (GATEWAY_MAC, OWN_ADDRESS6, R0_MAC, VIP, RealServer, Setup, VirtualServer, rip6, server_mac,
                      with_ipv6)

OWN = OWN_ADDRESS6["r0"]
SERVER, MAC = rip6(1), server_mac(1)
EVIL = "02:00:00:00:66:66"
ROUTER = "fe80::1"
LINK_LOCAL = "fe80::2"
ROUTER_MAC = "02:00:00:00:02:fe"
CONFLICTS = "weir_arp_conflicts_total"
IPV6 = b"\x86\xdd"
ARP = b"\x08\x06"


def setup(address=SERVER, bound=(), routes=(), **options):
    """One virtual server of IPv4 with one real server of IPv6, which the file does not bind to a MAC."""
    services = [VirtualServer(servers=[RealServer(address, 80, 1, "tun", options)]),
                VirtualServer(port=53, protocol="udp", servers=[RealServer(address, 53, 1, "tun", options)])]
    made = with_ipv6(Setup(services=services, routes=list(routes)))
    made.neighbors = {known: link for known, link in made.neighbors.items() if ":" not in known or known in bound}
    return made


def advertisement(address=SERVER, link=MAC, solicited=1, override=1, vlan=None, **fields):
    """What a neighbour says of itself, to the director."""
    head = ether(link or MAC, R0_MAC, vlan) / IPv6(**{"src": address, "dst": OWN, "hlim": 255, **fields})
    told = head / ICMPv6ND_NA(tgt=address, R=0, S=solicited, O=override)
    return bytes(told / ICMPv6NDOptDstLLAddr(lladdr=link) if link else told)


def solicitation(target=OWN, source=SERVER, link=MAC, vlan=None, **fields):
    """A neighbour asks for `target` by its group."""
    low = bytes(int(part, 16) for part in ("00", "00", "01")) if target == OWN else b"\0\0\0"
    group = f"ff02::1:ff{low[0]:02x}:{low[1]:02x}{low[2]:02x}"
    head = ether(link, "33:33:ff:" + low.hex(":"), vlan) / IPv6(**{"src": source, "dst": group, "hlim": 255, **fields})
    asked = head / ICMPv6ND_NS(tgt=target)
    return bytes(asked if source == "::" else asked / ICMPv6NDOptSrcLLAddr(lladdr=link))


def behind_headers(packet, headers):
    """A packet with extension headers between its IPv6 header and what follows that."""
    rest = packet[IPv6].payload
    packet[IPv6].remove_payload()
    for header in headers:
        packet /= header
    packet = packet / rest if rest else packet
    # Computed anew.
    for layer in (packet[IPv6], *(packet[kind] for kind in (ICMPv6ND_NS,) if kind in packet)):
        for field in ("plen", "cksum", "nh"):
            if field in layer.fields:
                delattr(layer, field)
    return packet


def is_solicitation_for(frame, address):
    """The director asks for `address`."""
    packet = Ether(frame)
    return ICMPv6ND_NS in packet and packet.src == R0_MAC and packet[ICMPv6ND_NS].tgt == address


def tunnel(frame, link=MAC, address=SERVER):
    """What the director makes of a client's frame: IPv4 in IPv6."""
    inner = forwarded(frame)
    outer = IPv6(src=OWN, dst=address, nh=4, hlim=inner[8], plen=len(inner))
    head = bytearray(frame[:link_length(frame)])
    head[:12], head[-2:] = mac(link) + mac(R0_MAC), IPV6
    return bytes(head) + bytes(outer) + inner


class Discovery(unittest.TestCase):
    """A next hop of IPv6 without a static binding."""

    @classmethod
    def setUpClass(cls):
        cls.live = Live()

    @classmethod
    def tearDownClass(cls):
        cls.live.close()

    def start(self, *arguments, **keywords):
        """A fresh weir."""
        self.live.start(setup(*arguments, **keywords))
        self.live.drain()

    def exchange(self, port, frame):
        """As the harness's, with what is of neighbour discovery, too."""
        out = self.live.exchange(port, frame, keep_arp=True)
        return [(port, frame) for port, frame in out if frame[12:14] != ARP and not is_listener_report(frame[12:])]

    def conflicts(self):
        """Conflicts counted so far."""
        return self.live.director.metrics().total(CONFLICTS)

    def expect_solicitation(self, address=SERVER, seconds=30.0):
        """Waits for the director's solicitation and returns it."""
        frames = self.live.receive(seconds, lambda got: any(is_solicitation_for(frame, address) for _, frame in got))
        found = [frame for port, frame in frames if port == "r0" and is_solicitation_for(frame, address)]
        self.assertTrue(found, f"no solicitation for {address}; got {frames}")
        return found[0]

    def learn(self):
        """Lets the director find its real server."""
        packet = tcp("S")
        self.live.send("c0", packet)
        self.expect_solicitation()
        self.assertEqual(self.exchange("r0", advertisement()), [("r0", tunnel(packet))])

    def test_a_packet_waits_for_the_advertisement_and_then_leaves(self):
        self.start()
        packet = tcp("S")
        self.live.send("c0", packet)
        asked = Ether(self.expect_solicitation())
        self.assertEqual((asked.dst, asked[IPv6].src, asked[IPv6].dst), ("33:33:ff:00:00:11", OWN, "ff02::1:ff00:11"))
        self.assertEqual((asked[IPv6].hlim, asked[ICMPv6NDOptSrcLLAddr].lladdr), (255, R0_MAC))
        self.assertEqual(in6_chksum(58, asked[IPv6], bytes(asked[ICMPv6ND_NS])), 0)
        self.assertEqual(self.exchange("r0", advertisement()), [("r0", tunnel(packet))])
        for following in (tcp("A"), udp(), tcp("A", tos=0xBB)):
            self.assertEqual(len(self.exchange("c0", following)), 1)
        self.assertEqual(unaccounted(self.live.director), [])

    def test_what_is_no_advertisement_to_believe_lets_nothing_go(self):
        self.start()
        packet = tcp("S")
        self.live.send("c0", packet)
        self.expect_solicitation()
        wrong_sum = bytearray(advertisement())
        wrong_sum[-1] ^= 1
        for frame in (advertisement(hlim=64), advertisement(link=None), bytes(wrong_sum), advertisement(rip6(2)),
                      advertisement(dst="ff02::1"), advertisement(link="01:00:5e:00:00:01"), advertisement(vlan=7)):
            self.assertEqual([out for _, out in self.exchange("r0", frame) if out[20] == 4], [], frame.hex())
        self.assertEqual(self.exchange("r0", advertisement()), [("r0", tunnel(packet))])

    def test_another_mac_is_taken_only_from_who_may_replace_it(self):
        self.start()
        self.learn()
        self.exchange("r0", advertisement(link=EVIL, solicited=0, override=0))
        packet = tcp("A")
        self.assertIn(("r0", tunnel(packet)), self.exchange("c0", packet))
        # It is asked, by unicast, whether it is still there.
        asked = Ether(self.expect_solicitation())
        self.assertEqual((asked.dst, asked[IPv6].dst), (MAC, SERVER))
        self.exchange("r0", advertisement())
        self.exchange("r0", advertisement(link=server_mac(5), solicited=0))
        packet = tcp("A", seq=2000)
        self.assertIn(("r0", tunnel(packet, server_mac(5))), self.exchange("c0", packet))

    def test_a_solicitation_is_answered_and_teaches_who_asks(self):
        self.start()
        packet = tcp("S")
        self.live.send("c0", packet)
        self.expect_solicitation()
        out = self.exchange("r0", solicitation())
        self.assertIn(("r0", tunnel(packet)), out)
        (answer,) = [Ether(frame) for _, frame in out if ICMPv6ND_NA in Ether(frame)]
        told = answer[ICMPv6ND_NA]
        self.assertEqual((answer.dst, answer.src, answer[IPv6].dst, answer[IPv6].hlim), (MAC, R0_MAC, SERVER, 255))
        self.assertEqual((told.tgt, told.R, told.S, told.O, told[ICMPv6NDOptDstLLAddr].lladdr), (OWN, 0, 1, 1, R0_MAC))
        self.assertEqual(in6_chksum(58, answer[IPv6], bytes(told)), 0)
        self.assertEqual(self.exchange("r0", solicitation("fd99::77")), [], "nobody's address")

    def test_an_echo_request_to_an_own_address_is_answered(self):
        self.start()
        asked = ether(MAC, R0_MAC) / IPv6(src=SERVER, dst=OWN) / ICMPv6EchoRequest(id=7, seq=1, data=b"weir")
        ((port, frame),) = self.exchange("r0", bytes(asked))
        answer = Ether(frame)
        self.assertEqual((port, answer.dst, answer[IPv6].src, answer[IPv6].dst), ("r0", MAC, OWN, SERVER))
        self.assertEqual((answer[ICMPv6EchoReply].id, answer[ICMPv6EchoReply].data), (7, b"weir"))

    def test_what_stands_behind_extension_headers_is_answered_as_without(self):
        self.start()
        chains = ([IPv6ExtHdrHopByHop(options=[RouterAlert()])], [IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(4))])],
                  [IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x1e, optdata=b"weir")])])
        for headers in chains:
            head = ether(MAC, R0_MAC) / IPv6(src=SERVER, dst=OWN)
            ping = ICMPv6EchoRequest(id=7, seq=1, data=b"weir")
            plain, behind = head / ping, behind_headers(head, headers) / ping
            self.assertEqual(self.exchange("r0", bytes(behind)), self.exchange("r0", bytes(plain)))
            asked = Ether(solicitation())
            behind = behind_headers(asked.copy(), headers)
            ((_, answer),) = self.exchange("r0", bytes(behind))
            self.assertEqual(Ether(answer)[ICMPv6ND_NA].tgt, OWN)
        # Discovery that may have come in pieces is ignored (RFC 6980).
        self.assertEqual(self.exchange("r0", bytes(behind_headers(Ether(solicitation()), [IPv6ExtHdrFragment(id=7)]))), [])
        self.assertEqual(self.live.director.metrics().total("weir_drops_total", reason="bad_nd"), 1)

    def test_an_option_of_a_ping_that_says_to_drop_it_is_obeyed(self):
        self.start()
        for header in (IPv6ExtHdrHopByHop, IPv6ExtHdrDestOpt):
            for kind, is_told in ((0x5e, False), (0x9e, True), (0xde, True)):
                chain = [header(options=[HBHOptUnknown(otype=kind, optdata=b"weir")])]
                asked = behind_headers(ether(MAC, R0_MAC) / IPv6(src=SERVER, dst=OWN), chain)
                out = self.exchange("r0", bytes(asked / ICMPv6EchoRequest(id=7, seq=1)))
                if not is_told:
                    self.assertEqual(out, [])
                    continue
                ((_, frame),) = out
                told = Ether(frame)
                self.assertEqual((told[IPv6].dst, told[ICMPv6ParamProblem].code, told[ICMPv6ParamProblem].ptr), (SERVER, 2, 42))
                self.assertEqual(in6_chksum(58, told[IPv6], bytes(told[ICMPv6ParamProblem])), 0)
        self.assertEqual(self.live.director.metrics().total("weir_drops_total", reason="unknown_option"), 2)
        self.assertEqual(unaccounted(self.live.director), [])

    def test_a_solicitation_to_all_nodes_is_answered(self):
        self.start()
        asked = Ether(solicitation(dst="ff02::1"))
        asked.dst = "33:33:00:00:00:01"
        ((_, frame),) = self.exchange("r0", bytes(asked))
        answer = Ether(frame)
        self.assertEqual((answer[ICMPv6ND_NA].tgt, answer[IPv6].dst, answer.dst), (OWN, SERVER, MAC))

    def test_the_address_of_another_port_answers_a_ping_and_none_of_weirs_asks(self):
        self.start()
        def ping(source, target):
            return bytes(ether(MAC, R0_MAC) / IPv6(src=source, dst=target) / ICMPv6EchoRequest(id=7, seq=1))
        ((port, frame),) = self.exchange("r0", ping(SERVER, OWN_ADDRESS6["c0"]))
        answer = Ether(frame)
        self.assertEqual((port, answer.src, answer.dst), ("r0", R0_MAC, MAC))
        self.assertEqual((answer[IPv6].src, answer[IPv6].dst), (OWN_ADDRESS6["c0"], SERVER))
        # Of that link it is found by discovery alone.
        asked = Ether(solicitation(OWN_ADDRESS6["c0"], dst="ff02::1"))
        asked.dst = "33:33:00:00:00:01"
        self.assertEqual(self.exchange("r0", bytes(asked)), [])
        for source in OWN_ADDRESS6.values():
            for target in OWN_ADDRESS6.values():
                self.assertEqual(self.exchange("r0", ping(source, target)), [], (source, target))
        self.assertEqual(self.live.director.metrics().total("weir_drops_total", reason="own_source"), 4)

    def test_nobody_can_claim_what_is_weirs_or_bound(self):
        self.start(bound=(SERVER,))
        claims = [advertisement(OWN, EVIL), solicitation("fd99::77", OWN, EVIL), advertisement(SERVER, EVIL),
                  solicitation(OWN, SERVER, EVIL)]
        for number, frame in enumerate(claims, 1):
            self.exchange("r0", frame)
            self.assertEqual(self.conflicts(), number, frame.hex())
            packet = tcp("S", cport=42000 + number)
            self.assertEqual(self.exchange("c0", packet), [("r0", tunnel(packet))])
        self.exchange("r0", advertisement())
        self.assertEqual(self.conflicts(), len(claims))

    def test_a_tagged_packet_asks_and_leaves_on_its_own_vlan(self):
        self.start()
        packet = tcp("S", head=ether(vlan=7))
        self.live.send("c0", packet)
        asked = Ether(self.expect_solicitation())
        self.assertEqual(asked[Dot1Q].vlan, 7)
        self.assertEqual(self.exchange("r0", advertisement()), [])
        self.assertEqual(self.exchange("r0", advertisement(vlan=7)), [("r0", tunnel(packet))])

    def test_a_link_local_gateway_is_asked_for_and_used(self):
        made = setup("2001:db8:5::5", routes=[{"destination": "2001:db8:5::/48", "gateway": ROUTER}])
        made.port_options["r0"]["addresses"].insert(0, f"{LINK_LOCAL}/64")
        self.live.start(made)
        self.live.drain()
        packet = tcp("S")
        self.live.send("c0", packet)
        asked = Ether(self.expect_solicitation(ROUTER))
        self.assertEqual(asked[IPv6].src, LINK_LOCAL)
        told = advertisement(ROUTER, ROUTER_MAC)
        self.assertEqual(self.exchange("r0", told), [("r0", tunnel(packet, ROUTER_MAC, "2001:db8:5::5"))])

    def test_a_silent_real_server_is_asked_for_three_times(self):
        self.start()
        self.live.send("c0", tcp("S"))
        time.sleep(0.1)
        self.live.wait_for("the packet is dropped", lambda metrics: metrics.total(
            "weir_drops_total", reason="neighbor_failed") == 1)
        asked = [frame for _, frame in self.live.receive(0.2) if is_solicitation_for(frame, SERVER)]
        self.assertEqual(len(asked), 3)
        self.assertEqual(self.live.director.metrics().total("weir_nd_solicitations_total"), 3)

    def test_errors_about_the_outer_packet_are_told_to_the_client(self):
        for options in ({}, {"tunnel": "gue"}, {"tunnel": "gre", "tunnel_checksum": "csum"}):
            with self.subTest(options):
                self.start(bound=(SERVER,), **options)
                self.exchange("c0", tcp("S"))
                packet = tcp("A", bytes(1200))
                ((_, sent),) = self.exchange("c0", packet)
                overhead = len(sent) - len(packet)
                router = ether("02:00:00:00:02:fa", R0_MAC) / IPv6(src="fd99::fa", dst=OWN)
                cases = ((ICMPv6PacketTooBig(mtu=1300), 3, 4, 1300 - overhead),
                         (ICMPv6PacketTooBig(mtu=576), 3, 4, 1280 - overhead),
                         (ICMPv6DestUnreach(code=0), 3, 1, 0), (ICMPv6DestUnreach(code=4), 3, 1, 0),
                         (ICMPv6TimeExceeded(), 3, 1, 0))
                for message, kind, code, mtu in cases:
                    ((port, out),) = self.exchange("r0", bytes(router / message / Raw(sent[14:14 + 200])))
                    error = Ether(out)
                    self.assertEqual((port, error.dst, error[IP].src, error[IP].dst),
                                     ("c0", GATEWAY_MAC, VIP, CLIENT), message)
                    self.assertEqual((error[ICMP].type, error[ICMP].code, error[ICMP].nexthopmtu), (kind, code, mtu))
                    self.assertEqual(bytes(error[ICMP])[8:], forwarded(packet)[:200 - overhead])
                    self.assertEqual(checksum(bytes(error[ICMP])), 0)
                strays = [router / ICMPv6PacketTooBig(mtu=1300, cksum=1) / Raw(sent[14:214]),
                          router / ICMPv6PacketTooBig(mtu=1300) / Raw(sent[14:60]),
                          router / ICMPv6DestUnreach() / Raw(bytes(IPv6(src=OWN, dst=rip6(2))) + sent[54:214]),
                          router / ICMPv6DestUnreach() / Raw(bytes(IPv6(src=rip6(2), dst=SERVER)) + sent[54:214])]
                for stray in strays:
                    self.assertEqual(self.exchange("r0", bytes(stray)), [])
                self.assertEqual(unaccounted(self.live.director), [])

    def test_gue_and_gre_stand_behind_the_outer_header(self):
        for options, length, protocol in (({"tunnel": "gue", "tunnel_port": 6080}, 12, 17),
                                          ({"tunnel": "gue", "tunnel_checksum": "csum"}, 12, 17),
                                          ({"tunnel": "gre"}, 4, 47),
                                          ({"tunnel": "gre", "tunnel_checksum": "csum"}, 8, 47)):
            with self.subTest(options):
                self.start(bound=(SERVER,), **options)
                packet = tcp("S", b"weir")
                ((port, out),) = self.exchange("c0", packet)
                outer = Ether(out)[IPv6]
                self.assertEqual((port, outer.nh, outer.hlim, outer.src, outer.dst), ("r0", protocol, 63, OWN, SERVER))
                self.assertEqual(out[54 + length:], forwarded(packet))
                self.assertEqual(outer.plen, len(out) - 54)
                if protocol == 17 and "tunnel_checksum" in options:
                    self.assertEqual(in6_chksum(17, outer, out[54:]), 0)
                largest = 1500 - 40 - length
                too_big = tcp("A", bytes(largest - 39))
                ((port, error),) = self.exchange("c0", too_big)
                self.assertEqual((port, Ether(error)[ICMP].nexthopmtu), ("c0", largest))
                self.assertEqual(len(self.exchange("c0", tcp("A", bytes(largest - 40)))[0][1]), 1514)


if __name__ == "__main__":
    unittest.main()
