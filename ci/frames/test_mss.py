"""`clamp_mss`: what SYNs and their answers announce on the way through, by every method and in both families."""

import unittest

from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from frames import ETHERNET, dr, ether, nat_reply, nat_request, tcp, tun
from harness import Live
from services import DR_VIP, NAT_TCP_PORT, NAT_VIP, TUN_VIP
from test_nat6 import VIP as VIP6, answer, segment, to_client, to_server
from topology import OWN_MAC, RealServer, Setup, VirtualServer, rip, rip6, server_mac, service, with_ipv6

CLAMPED = "weir_mss_clamped_total"
OTHERS = [("SAckOK", b""), ("NOP", None), ("WScale", 7)]


def announcing(frame, *announced):
    """`frame` with these options of maximum segments, at an odd place, and all lengths and checksums anew."""
    packet = Ether(frame)
    del packet[TCP].chksum, packet[TCP].dataofs
    packet[TCP].options = [("NOP", None), *[("MSS", value) for value in announced], *OTHERS]
    if IPv6 in packet:
        del packet[IPv6].plen
    else:
        del packet.getlayer("IP").chksum, packet.getlayer("IP").len
    return bytes(packet)


class Clamped(unittest.TestCase):
    """One weir: 1400 bytes pass towards clients, 1500 towards real servers."""

    @classmethod
    def setUpClass(cls):
        auto, number = {"clamp_mss": "auto"}, {"clamp_mss": 1200}
        services = [service("dr", 1, address=DR_VIP, options=number), service("tun", 1, address=TUN_VIP, options=auto),
                    service("nat", 1, address=NAT_VIP, server_port=NAT_TCP_PORT, options=auto),
                    service("nat", 1, address=NAT_VIP, port=81, server_port=NAT_TCP_PORT + 1),
                    VirtualServer(VIP6, 80, servers=[RealServer(rip6(1), 8080, forwarding="nat")], options=auto)]
        made = with_ipv6(Setup(services=services))
        made.mtu = {"c0": 1400, "r0": 1500}
        cls.live = Live()
        cls.live.start(made)

    @classmethod
    def tearDownClass(cls):
        cls.live.close()

    def assert_passes(self, port, frame, out_port, out):
        self.assertEqual(self.live.exchange(port, frame), [(out_port, out)])

    def test_syns_announce_what_fits_and_say_so(self):
        before = self.live.director.metrics().total(CLAMPED)
        # (VIP, what comes out, what is announced, what of it passes)
        cases = ((DR_VIP, dr, 1460, 1200), (DR_VIP, dr, 1199, 1199), (TUN_VIP, tun, 8960, 1440), (TUN_VIP, tun, 1440, 1440),
                 (NAT_VIP, nat_request, 1460, 1360), (NAT_VIP, nat_request, 536, 536))
        for number, (vip, out, announced, passes) in enumerate(cases):
            frame = tcp("S", cport=41000 + number, vip=vip)
            self.assert_passes("c0", announcing(frame, announced), "r0", out(announcing(frame, passes)))
        twice = tcp("S", cport=41010, vip=NAT_VIP)
        self.assert_passes("c0", announcing(twice, 1460, 9000), "r0", nat_request(announcing(twice, 1360, 1360)))
        none = tcp("S", cport=41011, vip=NAT_VIP, options=OTHERS)
        self.assert_passes("c0", none, "r0", nat_request(none))
        self.assertEqual(self.live.director.metrics().total(CLAMPED), before + 4)

    def test_answers_of_nat_servers_announce_what_fits(self):
        head = ether(server_mac(1), OWN_MAC["r0"])
        def answered(vport, port):
            opening = tcp("S", cport=42000, vip=NAT_VIP, vport=vport)
            self.assert_passes("c0", opening, "r0", nat_request(opening, port=port))
            return tcp("SA", cip=rip(1), cport=port, vip="203.0.113.50", vport=42000, head=head, ack=1001)
        reply = answered(80, NAT_TCP_PORT)
        self.assert_passes("r0", announcing(reply, 1460), "c0", nat_reply(announcing(reply, 1360), NAT_VIP))
        reply = announcing(answered(81, NAT_TCP_PORT + 1), 1460)
        self.assert_passes("r0", reply, "c0", nat_reply(reply, NAT_VIP, 81))

    def test_ipv6_leaves_room_for_its_longer_header(self):
        frame = segment(cport=43000)
        self.assert_passes("c0", announcing(frame, 1440), "r0", to_server(announcing(frame, 1340)))
        reply = answer(cport=43000)
        self.assert_passes("r0", announcing(reply, 1440), "c0", to_client(announcing(reply, 1340)))

    def test_options_that_contradict_themselves_pass_as_they_are(self):
        at = ETHERNET + 41
        for number, (offset, value) in enumerate(((1, 3), (1, 0), (1, 40), (0, 0))):
            frame = announcing(tcp("S", cport=44000 + number, vip=DR_VIP), 1460)
            self.assertEqual(frame[at:at + 2], b"\2\4")
            frame = frame[:at + offset] + bytes([value]) + frame[at + offset + 1:]
            self.assert_passes("c0", frame, "r0", dr(frame))


if __name__ == "__main__":
    unittest.main()
