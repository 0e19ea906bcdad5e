"""Other hosts' ICMP errors about weir's connections: brought to the end that must know, in that end's words."""

import socket
import unittest

from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from batch import DROPS
from frames import (CLIENT, ETHERNET, IP_HEADER, dr, ether, forwarded, ip_packet, nat_request, relinked, tcp, tun, udp,
                    with_header_checksum)
from harness import Live
from services import DR_VIP, NAT_UDP_PORT, NAT_VIP, TUN_VIP, setup
from topology import C0_MAC, GATEWAY_MAC, OWN_MAC, R0_ADDRESS, SERVER_SIDE_HOSTS, rip, server_mac

ROUTER = "10.99.0.250"
ERRORS = ((3, 0, 0), (3, 1, 0), (3, 3, 0), (3, 4, 1300), (3, 13, 0), (11, 0, 0))


def error(source, destination, quote, kind=3, code=3, mtu=0, head=None, **ip):
    """An ICMP error of another host."""
    head = head or Ether(src=SERVER_SIDE_HOSTS.get(source, server_mac(1)), dst=OWN_MAC["r0"])
    message = ICMP(type=kind, code=code, nexthopmtu=mtu) if (kind, code) == (3, 4) else ICMP(type=kind, code=code)
    return bytes(head / IP(src=source, dst=destination, id=0x4711, **ip) / message / Raw(quote))


def told_to_client(given, quote, source, mtu=None):
    """`given` on its way to the client: from the VIP, with another quote and maybe another MTU."""
    packet = IP(forwarded(given))
    packet.src = source
    if mtu is not None:
        packet[ICMP].nexthopmtu = mtu
    packet[ICMP].remove_payload()
    packet[ICMP].add_payload(Raw(quote))
    del packet.chksum, packet.len, packet[ICMP].chksum
    return relinked(given, C0_MAC, GATEWAY_MAC, bytes(packet))


def requoted(packet, vip, port):
    """The start of a packet to a NAT server as its client sent it; the transport checksum is left alone."""
    packet = with_header_checksum(packet[:16] + socket.inet_aton(vip) + packet[20:])
    return packet[:IP_HEADER + 2] + port.to_bytes(2, "big") + packet[IP_HEADER + 4:]


class IcmpErrors(unittest.TestCase):
    """One weir for all; every test has a flow of its own."""

    @classmethod
    def setUpClass(cls):
        cls.live = Live()
        cls.live.start(setup())

    @classmethod
    def tearDownClass(cls):
        cls.live.close()

    def drops(self, reason):
        """Frames dropped for a reason so far."""
        return self.live.director.metrics().total(DROPS, reason=reason)

    def assert_dropped(self, reason, port, frame):
        """Nothing leaves for this frame and the reason is counted once."""
        before = self.drops(reason)
        self.assertEqual(self.live.exchange(port, frame), [])
        self.assertEqual(self.drops(reason), before + 1, self.live.director.metrics().by(DROPS, "reason"))

    def open(self, frame, out):
        """Opens a flow; returns the packet that the real server got."""
        self.assertEqual(self.live.exchange("c0", frame), [("r0", out)])
        return out[ETHERNET:]

    def test_errors_about_packets_to_a_nat_server_reach_the_client_from_the_vip(self):
        seen = {
            80: self.open(*self.pair(tcp("S", cport=51000, vip=NAT_VIP))),
            53: self.open(*self.pair(udp(b"x" * 40, cport=51000, vip=NAT_VIP), port=NAT_UDP_PORT)),
        }
        for port, packet in seen.items():
            for source in (rip(1), ROUTER):
                for size in (IP_HEADER + 8, len(packet)):
                    for kind, code, mtu in ERRORS:
                        frame = error(source, CLIENT, packet[:size], kind, code, mtu)
                        out = told_to_client(frame, requoted(packet[:size], NAT_VIP, port), NAT_VIP)
                        self.assertEqual(self.live.exchange("r0", frame), [("c0", out)],
                                         f"{kind}/{code} about port {port} from {source}, {size} bytes quoted")

    def pair(self, frame, port=8080):
        """A frame and what NAT makes of it."""
        return frame, nat_request(frame, port=port)

    def test_errors_about_a_tunnel_reach_the_client_about_its_own_packet(self):
        opening = tcp("S", cport=51001, vip=TUN_VIP)
        self.open(opening, tun(opening))
        data = tcp("PA", b"x" * 600, cport=51001, vip=TUN_VIP)
        outer = self.open(data, tun(data))
        for kind, code, mtu in ERRORS:
            frame = error(ROUTER, R0_ADDRESS, outer[:160], kind, code, mtu)
            ((port, out),) = self.live.exchange("r0", frame)
            told = Ether(out)
            self.assertEqual((port, told.src, told.dst), ("c0", C0_MAC, GATEWAY_MAC))
            self.assertEqual((told[IP].src, told[IP].dst, told[IP].ttl), (TUN_VIP, CLIENT, 64))
            self.assertEqual((told[ICMP].type, told[ICMP].code), (kind, code))
            self.assertEqual(bytes(told[ICMP].payload), outer[IP_HEADER:160])
            if mtu:
                self.assertEqual(told[ICMP].nexthopmtu, mtu - IP_HEADER)
            sums = told[IP].chksum, told[ICMP].chksum
            del told[IP].chksum, told[ICMP].chksum
            again = Ether(bytes(told))
            self.assertEqual((again[IP].chksum, again[ICMP].chksum), sums)

    def test_a_tunnels_mtu_is_told_less_the_outer_header_where_that_leaves_a_way(self):
        """As IPVS: 88 and less, and the 0 of routers from before RFC 1191, go on as they are."""
        packet = tcp("S", cport=51010, vip=TUN_VIP)
        outer = self.open(packet, tun(packet))
        for mtu, left in ((0, 0), (1, 1), (20, 20), (68, 68), (88, 88), (89, 69), (576, 556), (65535, 65515)):
            ((_, out),) = self.live.exchange("r0", error(ROUTER, R0_ADDRESS, outer, 3, 4, mtu))
            self.assertEqual(Ether(out)[ICMP].nexthopmtu, left, f"the router says {mtu}")

    def test_no_mtu_is_told_to_a_client_that_lets_its_packets_be_cut(self):
        packet = tcp("S", cport=51011, vip=TUN_VIP)
        fragment = ETHERNET + 6
        packet = packet[:ETHERNET] + with_header_checksum(packet[ETHERNET:fragment] + b"\0\0" + packet[fragment + 2:])
        ((_, out),) = self.live.exchange("c0", packet)
        outer = ip_packet(out)
        self.assertFalse(IP(outer).flags.DF)
        self.assert_dropped("unasked_mtu", "r0", error(ROUTER, R0_ADDRESS, outer, 3, 4, 1300))
        told = self.live.exchange("r0", error(ROUTER, R0_ADDRESS, outer, 3, 1))
        self.assertEqual(len(told), 1, "other errors concern it all the same")

    def test_errors_about_answers_reach_dr_and_tun_servers_unchanged(self):
        for vip, method in ((DR_VIP, dr), (TUN_VIP, tun)):
            opening = tcp("S", cport=51002, vip=vip)
            self.open(opening, method(opening))
            answer = ip_packet(tcp("SA", cip=vip, cport=80, vip=CLIENT, vport=51002))
            for kind, code, mtu in ERRORS:
                frame = error("203.0.113.1", vip, answer[:28], kind, code, mtu, ether(), flags="DF")
                self.assertEqual(self.live.exchange("c0", frame), [("r0", method(frame))], f"{vip} {kind}/{code}")

    def test_an_error_with_a_wrong_checksum_is_dropped(self):
        packet = self.open(*self.pair(tcp("S", cport=51003, vip=NAT_VIP)))
        frame = error(rip(1), CLIENT, packet[:28])
        for at in (ETHERNET + IP_HEADER + 2, ETHERNET + IP_HEADER + 8, len(frame) - 1):
            broken = frame[:at] + bytes([frame[at] ^ 0x10]) + frame[at + 1:]
            self.assert_dropped("bad_l4_header", "r0", broken)

    def test_an_error_about_nothing_of_ours_is_dropped(self):
        packet = ip_packet(nat_request(tcp("S", cport=51004, vip=NAT_VIP)))
        self.assert_dropped("stray_icmp", "r0", error(rip(1), CLIENT, packet[:28]))
        other = ip_packet(tcp("S", cip=CLIENT, vip="198.51.100.1"))
        self.assert_dropped("stray_icmp", "r0", error(ROUTER, R0_ADDRESS, other[:28]))

    def test_an_error_whose_quote_ends_too_early_is_dropped(self):
        packet = self.open(*self.pair(tcp("S", cport=51005, vip=NAT_VIP)))
        for size in (0, 1, 10, 19, 20, 23):
            self.assert_dropped("truncated", "r0", error(rip(1), CLIENT, packet[:size]))

    def test_what_lies_behind_an_errors_packet_is_no_quote(self):
        """The frame goes on, and has what would be a good quote; the packet ends before."""
        nat = self.open(*self.pair(tcp("S", cport=51007, vip=NAT_VIP)))
        through = tcp("S", cport=51007, vip=TUN_VIP)
        outer = self.open(through, tun(through))
        answer = ip_packet(tcp("SA", cip=NAT_VIP, cport=80, vip=CLIENT, vport=51007))
        for port, destination, quote, head, needed in (
                ("r0", R0_ADDRESS, outer, None, 2 * IP_HEADER + 4), ("r0", CLIENT, nat, None, IP_HEADER + 4),
                ("c0", NAT_VIP, answer, ether(), IP_HEADER + 4)):
            for inside in {0, 1, IP_HEADER - 1, IP_HEADER, IP_HEADER + 3, needed - IP_HEADER, needed - 1}:
                if inside < needed:
                    whole = error(ROUTER, destination, quote[:inside], 3, 1, 0, head)
                    self.assert_dropped("truncated", port, whole + quote[inside:])
            frame = error(ROUTER, destination, quote[:needed], 3, 1, 0, head)
            padded = self.live.exchange(port, frame + b"\xff" * 100)
            self.assertEqual(padded, self.live.exchange(port, frame))
            self.assertEqual(len(padded), 1)

    def test_an_error_to_a_client_that_exceeds_the_mtu_is_cut_or_dropped(self):
        """The clients' port takes less than the servers'."""
        live = Live()
        self.addCleanup(live.close)
        live.start(setup(mtu={"c0": 600, "r0": 1500}))
        opening = tcp("S", cport=51008, vip=NAT_VIP)
        ((_, out),) = live.exchange("c0", opening)
        quote = out[ETHERNET:] + bytes(i & 255 for i in range(900))
        frame = error(rip(1), CLIENT, quote, 3, 1)
        whole = told_to_client(frame, requoted(quote, NAT_VIP, 80), NAT_VIP)
        pieces = live.exchange("r0", frame)
        self.assertEqual([port for port, _ in pieces], ["c0", "c0"])
        packets = [IP(piece[ETHERNET:]) for _, piece in pieces]
        self.assertTrue(all(len(piece) <= ETHERNET + 600 for _, piece in pieces))
        self.assertEqual([packet.src for packet in packets], [NAT_VIP] * 2)
        self.assertEqual(b"".join(bytes(packet.payload) for packet in packets), whole[ETHERNET + IP_HEADER:])
        self.assertEqual(live.exchange("r0", error(rip(1), CLIENT, quote, 3, 1, flags="DF")), [])
        self.assertEqual(live.director.metrics().total(DROPS, reason="too_big"), 1)

    def test_an_error_at_the_end_of_its_ttl_is_dropped_without_another(self):
        packet = self.open(*self.pair(tcp("S", cport=51006, vip=NAT_VIP)))
        self.assert_dropped("ttl_exceeded", "r0", error(rip(1), CLIENT, packet[:28], ttl=1))
