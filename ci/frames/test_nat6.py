"""IPv6 by NAT, beyond the kernel's recordings: answers that are too big, errors from the servers' side, strays, pieces, headers in
front of the transport."""

import unittest

from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (HBHOptUnknown, ICMPv6DestUnreach, ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, ICMPv6PacketTooBig,
                                ICMPv6ParamProblem, ICMPv6TimeExceeded, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment,
                                IPv6ExtHdrHopByHop, PadN)
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from batch import DROPS
from harness import Live
from topology import (C0_MAC, GATEWAY_MAC, OWN_ADDRESS6, OWN_MAC, R0_MAC, RealServer, Setup, VirtualServer, rip6, server_mac,
                      with_ipv6)

CLIENT = "2001:db8:c::50"
VIP = "2001:db8:f00d::1"
# In the network of the clients' port.
NEAR_VIP = "2001:db8:18::100"
# A client in that network, whom the director has to ask for.
NEAR_CLIENT = "2001:db8:18::50"
NEAR_MAC = "02:00:00:00:01:50"
ROUTER = "fd99::fa"
ROUTER_MAC = "02:00:00:00:02:fa"


def setup(**connections):
    """NAT to real server 1: TCP and UDP, a one-packet virtual server, and a VIP in the clients' network."""
    def service(port, server_port, address=VIP, **more):
        return VirtualServer(address, port, servers=[RealServer(rip6(1), server_port, forwarding="nat")], **more)
    services = [service(80, 8080), service(53, 5353, protocol="udp"), service(80, 8081, NEAR_VIP),
                service(54, 5454, protocol="udp", options={"one_packet": True})]
    made = with_ipv6(Setup(services=services, connections=connections))
    made.mtu = {"c0": 1400, "r0": 1500}
    return made


def segment(flags="S", cport=51000, vip=VIP, vport=80, payload=b"", headers=(), mac=GATEWAY_MAC, into="c0", cip=CLIENT, **ip):
    """A client's TCP segment."""
    packet = Ether(src=mac, dst=OWN_MAC[into]) / IPv6(**{"src": cip, "dst": vip, **ip})
    for header in headers:
        packet /= header
    return bytes(packet / TCP(sport=cport, dport=vport, flags=flags, seq=1000) / Raw(payload))


def answer(flags="SA", cport=51000, port=8080, payload=b"", cip=CLIENT, **ip):
    """The real server's TCP segment."""
    packet = Ether(src=server_mac(1), dst=R0_MAC) / IPv6(**{"src": rip6(1), "dst": cip, **ip})
    return bytes(packet / TCP(sport=port, dport=cport, flags=flags, seq=5000, ack=1001) / Raw(payload))


def datagram(vport=53, cport=51000, payload=b"query"):
    """A client's UDP datagram."""
    return bytes(Ether(src=GATEWAY_MAC, dst=C0_MAC) / IPv6(src=CLIENT, dst=VIP) / UDP(sport=cport, dport=vport) / Raw(payload))


def translated(frame, link, hops=1, **change):
    """A frame after NAT, with its checksum computed anew by scapy."""
    packet = Ether(frame)
    packet.src, packet.dst = link
    packet[IPv6].hlim -= hops
    for field in ("src", "dst"):
        if field in change:
            setattr(packet[IPv6], field, change[field])
    layer = next(layer for layer in (TCP, UDP, ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6TimeExceeded) if layer in packet)
    transport = packet[layer]
    for field in ("sport", "dport"):
        if field in change:
            setattr(transport, field, change[field])
    if layer in (TCP, UDP):
        del transport.chksum
    else:
        del transport.cksum
    return bytes(packet)


TO_SERVER = (R0_MAC, server_mac(1))
TO_CLIENT = (C0_MAC, GATEWAY_MAC)


def to_server(frame, port=8080):
    """What NAT makes of a client's packet."""
    return translated(frame, TO_SERVER, dst=rip6(1), dport=port)


def to_client(frame, vip=VIP, port=80):
    """What NAT makes of a real server's packet."""
    return translated(frame, TO_CLIENT, src=vip, sport=port)


def error(source, kind, quote, destination=CLIENT, mac=ROUTER_MAC):
    """An ICMPv6 error from the servers' side."""
    return bytes(Ether(src=mac, dst=R0_MAC) / IPv6(src=source, dst=destination) / kind / Raw(quote))


def told(given, quote):
    """Such an error as the client gets it: from the VIP, with another quote."""
    packet = Ether(given)
    kind = next(packet[layer] for layer in (ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6TimeExceeded) if layer in packet)
    kind.remove_payload()
    kind.add_payload(Raw(quote))
    del packet[IPv6].plen
    return translated(bytes(packet), TO_CLIENT, src=VIP)


def requoted(packet, port):
    """The start of a packet to the real server as its client sent it; the transport checksum is left alone."""
    address = bytes(IPv6(dst=VIP))[24:40]
    return packet[:24] + address + packet[40:42] + port.to_bytes(2, "big") + packet[44:]


class Nat6(unittest.TestCase):
    """One weir for all; every test has flows of its own."""

    @classmethod
    def setUpClass(cls):
        cls.live = Live()
        cls.live.start(setup())

    @classmethod
    def tearDownClass(cls):
        cls.live.close()

    def assert_dropped(self, reason, port, frame):
        """Nothing leaves for this frame and the reason is counted once."""
        before = self.live.director.metrics().total(DROPS, reason=reason)
        self.assertEqual(self.live.exchange(port, frame), [])
        metrics = self.live.director.metrics()
        self.assertEqual(metrics.total(DROPS, reason=reason), before + 1, metrics.by(DROPS, "reason"))

    def open(self, **what):
        """Opens a flow; returns the packet that the real server got."""
        frame = segment(**what)
        out = to_server(frame)
        self.assertEqual(self.live.exchange("c0", frame), [("r0", out)])
        return out[14:]

    def test_both_directions_are_translated_behind_extension_headers(self):
        for number, headers in enumerate([
                (), (IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(4))]),), (IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(12))]),),
                (IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt())]):
            frame = segment(cport=51100 + number, headers=headers, tc=0x2e, fl=0x12345, payload=b"x" * number)
            self.assertEqual(self.live.exchange("c0", frame), [("r0", to_server(frame))], headers)
            reply = answer(cport=51100 + number, tc=3, fl=77)
            self.assertEqual(self.live.exchange("r0", reply), [("c0", to_client(reply))], headers)

    def test_options_for_every_hop_are_obeyed_both_ways_and_others_left(self):
        def option(header, kind):
            return header(options=[HBHOptUnknown(otype=kind, optdata=b"weir")])
        self.open(cport=51150)
        for kind, told in ((0x1e, None), (0x5e, False), (0x9e, True), (0xde, True)):
            left = segment("A", 51150, headers=(option(IPv6ExtHdrDestOpt, kind),))
            self.assertEqual(self.live.exchange("c0", left), [("r0", to_server(left))], kind)
            asked = segment("A", 51150, headers=(option(IPv6ExtHdrHopByHop, kind),))
            reply = Ether(answer("A", 51150))
            its = reply[TCP].copy()
            reply[IPv6].remove_payload()
            del reply[IPv6].plen, reply[IPv6].nh
            reply = bytes(reply / option(IPv6ExtHdrHopByHop, kind) / its)
            if told is None:
                self.assertEqual(self.live.exchange("c0", asked), [("r0", to_server(asked))])
                self.assertEqual(self.live.exchange("r0", reply), [("c0", to_client(reply))])
            elif not told:
                self.assert_dropped("unknown_option", "c0", asked)
                self.assert_dropped("unknown_option", "r0", reply)
            else:
                for port, frame, sender in (("c0", asked, CLIENT), ("r0", reply, rip6(1))):
                    ((out_port, out),) = self.live.exchange(port, frame)
                    packet = Ether(out)
                    self.assertEqual((out_port, packet[IPv6].src, packet[IPv6].dst), (port, OWN_ADDRESS6[port], sender))
                    problem = packet[ICMPv6ParamProblem]
                    self.assertEqual((problem.code, problem.ptr, bytes(problem.payload)), (2, 42, frame[14:]))

    def test_datagrams_go_both_ways_and_one_packet_answers_too(self):
        for vport, server_port in ((53, 5353), (54, 5454)):
            frame = datagram(vport)
            self.assertEqual(self.live.exchange("c0", frame), [("r0", to_server(frame, server_port))])
            reply = bytes(Ether(src=server_mac(1), dst=R0_MAC) / IPv6(src=rip6(1), dst=CLIENT)
                          / UDP(sport=server_port, dport=51000) / Raw(b"answer"))
            self.assertEqual(self.live.exchange("r0", reply), [("c0", to_client(reply, port=vport))])

    def test_a_real_server_is_told_what_is_too_big_for_the_clients_port(self):
        self.open(cport=51200)
        reply = answer("A", 51200, payload=b"x" * 1341)
        ((port, out),) = self.live.exchange("r0", reply)
        packet = Ether(out)
        self.assertEqual((port, packet.src, packet.dst), ("r0", R0_MAC, server_mac(1)))
        self.assertEqual((packet[IPv6].src, packet[IPv6].dst), (OWN_ADDRESS6["r0"], rip6(1)))
        self.assertEqual(packet[ICMPv6PacketTooBig].mtu, 1400)
        self.assertEqual(bytes(packet[ICMPv6PacketTooBig].payload), reply[14:14 + 1232])
        fits = answer("A", 51200, payload=b"x" * 1340)
        self.assertEqual(self.live.exchange("r0", fits), [("c0", to_client(fits))])

    def test_errors_about_packets_to_the_real_server_reach_the_client_from_the_vip(self):
        packet = self.open(cport=51300, payload=b"x" * 40)
        for source, mac in ((rip6(1), server_mac(1)), (ROUTER, ROUTER_MAC)):
            for kind in (ICMPv6DestUnreach(code=4), ICMPv6DestUnreach(code=1), ICMPv6PacketTooBig(mtu=1300),
                         ICMPv6TimeExceeded()):
                for size in (48, len(packet)):
                    frame = error(source, kind, packet[:size], mac=mac)
                    self.assertEqual(self.live.exchange("r0", frame), [("c0", told(frame, requoted(packet[:size], 80)))],
                                     f"{kind.summary()} from {source}, {size} bytes quoted")
        other = packet[:40] + (51301).to_bytes(2, "big") + packet[42:]
        self.assert_dropped("stray_icmp", "r0", error(ROUTER, ICMPv6DestUnreach(), other))
        self.assert_dropped("stray_icmp", "r0", error(ROUTER, ICMPv6DestUnreach(), packet, destination="2001:db8:c::51"))
        spoilt = bytearray(error(ROUTER, ICMPv6DestUnreach(), packet))
        spoilt[-1] ^= 1
        self.assert_dropped("bad_l4_header", "r0", bytes(spoilt))

    def test_pieces_and_strays_have_their_reasons(self):
        # Its 20 bytes of TCP are no multiple of eight, or would begin within the first piece's.
        for more, reason in ((0, "fragment_tiny"), (1, "fragment_bad")):
            piece = IPv6ExtHdrFragment(id=7, m=more, offset=1 - more)
            self.assert_dropped(reason, "c0", segment(cport=51400, headers=(piece,)))
        self.assert_dropped("stray_reply", "r0", answer("A", 51401))
        # Of no socket that a virtual server has.
        self.assert_dropped("ether_type", "r0", answer("A", 51401, port=9999))

    def test_a_client_on_the_link_is_asked_for_and_its_answers_wait(self):
        frame = segment(cport=51500, vip=NEAR_VIP, cip=NEAR_CLIENT, mac=NEAR_MAC)
        self.assertEqual(self.live.exchange("c0", frame), [("r0", to_server(frame, 8081))])
        reply = answer(cport=51500, port=8081, cip=NEAR_CLIENT)
        (port, asked), = self.live.exchange("r0", reply, keep_arp=True)
        self.assertEqual((port, Ether(asked)[IPv6].dst), ("c0", "ff02::1:ff00:50"))
        heard = self.advertisement()
        out = translated(reply, (C0_MAC, NEAR_MAC), src=NEAR_VIP, sport=80)
        self.assertEqual(self.live.exchange("c0", heard), [("c0", out)])
        self.assertEqual(self.live.exchange("r0", reply), [("c0", out)])

    @staticmethod
    def advertisement():
        """The client's answer to the director's question."""
        head = Ether(src=NEAR_MAC, dst=C0_MAC) / IPv6(src=NEAR_CLIENT, dst=OWN_ADDRESS6["c0"], hlim=255)
        return bytes(head / ICMPv6ND_NA(tgt=NEAR_CLIENT, R=0, S=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr=NEAR_MAC))

    def test_a_client_on_the_servers_side_is_served_as_over_ipv4(self):
        frame = segment(cport=51600, vip=NEAR_VIP, cip=ROUTER, mac=ROUTER_MAC, into="r0")
        self.assertEqual(self.live.exchange("r0", frame), [("r0", to_server(frame, 8081))])

    def test_clients_that_a_mark_holds_are_answered_and_told_as_any(self):
        for number, traffic in enumerate([{"addresses": ["2001:db8:c::/64"]}, {"addresses": ["2001:db8:c::/120"]},
                                          {"addresses": ["2001:db8:c::/120"], "ports": [80]}]):
            beside = setup()
            beside.services.append(VirtualServer("", 0, mark=1, marked=[traffic], family="ipv6",
                                                 servers=[RealServer(rip6(2), 0)]))
            self.live.reload(beside)
            try:
                packet = self.open(cport=51800 + number)
                reply = answer(cport=51800 + number)
                self.assertEqual(self.live.exchange("r0", reply), [("c0", to_client(reply))], traffic)
                frame = error(ROUTER, ICMPv6DestUnreach(code=1), packet)
                self.assertEqual(self.live.exchange("r0", frame), [("c0", told(frame, requoted(packet, 80)))], traffic)
            finally:
                self.live.reload(setup())

    def test_with_nat_icmp_send_a_real_server_is_told_that_nobody_waits(self):
        self.live.reload(setup(nat_icmp_send=True))
        try:
            reply = answer("A", 51700)
            ((port, out),) = self.live.exchange("r0", reply)
            packet = Ether(out)
            self.assertEqual((port, packet[IPv6].src, packet[IPv6].dst), ("r0", OWN_ADDRESS6["r0"], rip6(1)))
            self.assertEqual(packet[ICMPv6DestUnreach].code, 4)
            quote = bytes(packet[ICMPv6DestUnreach].payload)
            self.assertEqual(quote, reply[14:21] + b"\x3f" + reply[22:])
            self.assertEqual(self.live.exchange("r0", answer("R", 51701)), [])
        finally:
            self.live.reload(setup())


if __name__ == "__main__":
    unittest.main()
