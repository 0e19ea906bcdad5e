"""Good frames of odd shapes: tags, padding, options, TTLs, sizes. What leaves is checked byte for byte."""

import struct
import unittest

from scapy.layers.inet import IPOption_NOP, IPOption_Router_Alert, UDP
from scapy.layers.l2 import Ether

from batch import Batch, accounting_problems
from frames import ETHERNET, dr, ether, icmp_error, nat_reply, nat_request, tcp, tun, udp
from harness import Live, replay
from services import DR_VIP, NAT_UDP_PORT, NAT_VIP, TUN_VIP, setup
from topology import OWN_MAC, R0_ADDRESS, Setup, rip, server_mac, service


def client(number):
    """A client of its own for every frame of a batch, so that one frame can't be taken for another."""
    return f"203.0.113.{number}"


def tun_udp(frame):
    return tun(frame)


def nat_udp(frame):
    return nat_request(frame, port=NAT_UDP_PORT)


# (name, VIP, what comes out for TCP, what for UDP)
METHODS = (("DR", DR_VIP, dr, dr), ("TUN", TUN_VIP, tun, tun_udp), ("NAT", NAT_VIP, nat_request, nat_udp))


class Forwarding(unittest.TestCase):
    """Batches of frames that must get through, or be answered."""

    def test_a_vlan_tag_is_kept_with_its_priority(self):
        batch = Batch()
        for number, (name, vip, for_tcp, for_udp) in enumerate(METHODS):
            for vlan, priority in ((1, 0), (5, 7), (4094, 3), (0, 5)):
                head = ether(vlan=vlan, priority=priority)
                one = tcp("S", cip=client(number), cport=30000 + vlan, vip=vip, head=head)
                other = udp(cip=client(number), cport=30000 + vlan, vip=vip, head=head)
                batch.forward(f"{name} TCP tag {vlan} priority {priority}", one, for_tcp(one))
                batch.forward(f"{name} UDP tag {vlan} priority {priority}", other, for_udp(other))
        batch.run(self, setup())

    def test_ethernet_padding_is_no_part_of_the_packet(self):
        batch = Batch()
        for number, (name, vip, for_tcp, for_udp) in enumerate(METHODS):
            for size in (60, 64, 200):
                self.add_padded(batch, name, udp(b"", cip=client(10 + number), cport=size, vip=vip), for_udp, size)
            self.add_padded(batch, name, tcp("S", cip=client(20 + number), vip=vip), for_tcp, 60)
        batch.run(self, setup())

    def add_padded(self, batch, method, frame, out, size):
        """Outside a tunnel what Ethernet pads may travel along, as it came; inside it would become part of the packet."""
        padding = b"\xa5" * (size - len(frame))
        allowed = b"" if method == "TUN" else padding[:60 - len(frame)]
        batch.forward(f"{method} padded to {size}", frame + padding, out(frame), padding=allowed)

    def test_no_frame_leaves_longer_than_the_mtu_allows(self):
        frames = [tcp("S", cip=client(24 + number), vip=vip) for number, (_, vip, _, _) in enumerate(METHODS)]
        result = replay(setup(mtu={"c0": 1500, "r0": 1400}), {"c0": [frame + bytes(3000) for frame in frames]})
        self.assertEqual(accounting_problems(result.metrics), [])
        self.assertLessEqual(max(map(len, result.out["r0"])), 1400 + ETHERNET)

    def test_ipv4_options_travel_along(self):
        batch = Batch()
        padding = [IPOption_NOP()] * 3
        for number, (name, vip, for_tcp, _) in enumerate(METHODS):
            for count, options in enumerate(([IPOption_Router_Alert()], padding, [IPOption_NOP()] * 40)):
                frame = tcp("S", b"data", cip=client(30 + number), cport=2000 + count, vip=vip, ip_options=options)
                batch.forward(f"{name} options {count}", frame, for_tcp(frame))
        batch.run(self, setup())

    def test_the_ttl_goes_down_by_one_and_its_end_is_told_to_the_client(self):
        batch = Batch()
        for number, (name, vip, for_tcp, for_udp) in enumerate(METHODS):
            for ttl in (255, 128, 2):
                frame = udp(cip=client(40 + number), cport=ttl, vip=vip, ttl=ttl)
                batch.forward(f"{name} TTL {ttl}", frame, for_udp(frame))
            for ttl in (1, 0):
                frame = tcp("S", cip=client(50 + number), cport=1000 + ttl, vip=vip, ttl=ttl)
                batch.answer("time_exceeded", f"{name} TTL {ttl}", frame, icmp_error(frame, 11, 0))
        batch.run(self, setup())

    def test_a_tunnel_copies_dscp_and_ecn_but_not_ce(self):
        batch = Batch()
        for tos in (0x00, 0x01, 0x02, 0x03, 0xB8, 0xB9, 0xBA, 0xBB, 0xFF):
            frame = udp(cip=client(60), cport=3000 + tos, vip=TUN_VIP, tos=tos)
            batch.forward(f"TOS {tos:#04x}", frame, tun(frame))
        without_df = udp(cip=client(61), vip=TUN_VIP, flags=0, id=0x4321)
        batch.forward("without DF", without_df, tun(without_df), ident=False)
        batch.run(self, setup())

    def test_what_exceeds_the_mtu_is_told_to_the_client_with_the_room_there_is(self):
        batch = Batch()
        mtu = 1400
        for number, (name, vip, for_tcp, for_udp) in enumerate(METHODS):
            room = mtu - 20 if vip == TUN_VIP else mtu
            for size in (room, room - 1):
                frame = udp(b"x" * (size - 28), cip=client(70 + number), cport=size, vip=vip)
                batch.forward(f"{name} {size} bytes", frame, for_udp(frame))
            for size in (room + 1, 1500):
                frame = udp(b"x" * (size - 28), cip=client(80 + number), cport=size, vip=vip)
                batch.answer("fragmentation_needed", f"{name} {size} bytes", frame, self.too_big(frame, room))
            frame = tcp("A", b"x" * 1460, cip=client(90 + number), vip=vip)
            opening = tcp("S", cip=client(90 + number), vip=vip)
            batch.forward(f"{name} SYN", opening, for_tcp(opening))
            batch.answer("fragmentation_needed", f"{name} full segment", frame, self.too_big(frame, room))
        batch.run(self, setup(mtu={"c0": 1500, "r0": mtu}))

    def too_big(self, frame, room):
        """Fragmentation needed: packets of `room` bytes would fit."""
        return icmp_error(frame, 3, 4, mtu=room, after_hop=True)

    def test_a_jumbo_frame_leaves_whole(self):
        batch = Batch()
        for number, (name, vip, for_tcp, for_udp) in enumerate(METHODS):
            for size in (1473, 4000, 8900):
                payload = bytes(i * 7 & 0xFF for i in range(size))
                frame = udp(payload, cip=client(100 + number), cport=size, vip=vip)
                batch.forward(f"{name} {size} bytes", frame, for_udp(frame))
        # In one buffer each, and in up to five.
        for room in (9100, 2048):
            batch.run(self, setup(memory={"mbuf_data_bytes": room}, mtu={"c0": 9000, "r0": 9000}))

    def test_a_frame_of_many_buffers_that_does_not_fit_is_told_of_as_any(self):
        batch = Batch()
        for number, (name, vip, _, _) in enumerate(METHODS):
            for size in (700, 2000, 8000):
                frame = udp(b"x" * size, cip=client(103 + number), cport=size, vip=vip)
                error = self.too_big(frame, 580 if vip == TUN_VIP else 600)
                batch.answer("fragmentation_needed", f"{name} {size} bytes", frame, error)
        batch.run(self, setup(memory={"mbuf_data_bytes": 640}, mtu={"c0": 600, "r0": 600}))

    def test_nat_mends_checksums_of_every_value(self):
        batch = Batch()
        for number in range(300):
            # The sixteen bits run through values around every carry.
            word = (number * 0x0155 + 0xFF00) & 0xFFFF
            frame = udp(struct.pack("!H", word), cip=client(110), cport=5000 + number, vip=NAT_VIP, id=number)
            batch.forward(f"UDP word {word:#06x}", frame, nat_udp(frame))
        zero = udp(b"no checksum", cip=client(111), vip=NAT_VIP, datagram={"chksum": 0})
        # The kernel makes one, since it has to go over the datagram anyway where it can't update.
        summed = udp(b"no checksum", cip=client(111), vip=NAT_VIP)
        batch.forward("UDP without a checksum", zero, nat_udp(summed))
        frame = self.becomes_zero()
        out = nat_udp(frame)
        self.assertEqual(out[ETHERNET + 26:ETHERNET + 28], b"\xff\xff")
        batch.forward("a UDP checksum that comes out as 0", frame, out)
        batch.run(self, setup())

    def becomes_zero(self):
        """A datagram whose checksum after NAT is 0, which is sent as 0xffff (RFC 768)."""
        probe = udp(b"\0\0", cip=client(112), vip=NAT_VIP)
        sum_after = UDP(nat_udp(probe)[ETHERNET + 20:]).chksum
        frame = udp(struct.pack("!H", sum_after), cip=client(112), vip=NAT_VIP)
        return frame

    def test_nat_leaves_wrong_checksums_wrong(self):
        frame = tcp("S", cip=client(113), vip=NAT_VIP)
        right = nat_request(frame)
        at = ETHERNET + 36
        batch = Batch()
        for error in (1, 0x0100, 0x7FFF):
            given = int.from_bytes(frame[at:at + 2], "big")
            broken = frame[:at] + struct.pack("!H", add(given, error)) + frame[at + 2:]
            expected = int.from_bytes(right[at:at + 2], "big")
            out = right[:at] + struct.pack("!H", add(expected, error)) + right[at + 2:]
            batch.forward(f"off by {error}", broken, out)
        batch.run(self, setup())


def add(one, other):
    """Sum of two 16-bit words in one's complement."""
    total = one + other
    return (total & 0xFFFF) + (total >> 16)


class NatReplies(unittest.TestCase):
    """Real servers' packets on their way to the client, in order across two ports."""

    @classmethod
    def setUpClass(cls):
        cls.live = Live()
        cls.live.start(setup(mtu={"c0": 1400, "r0": 1500}))

    @classmethod
    def tearDownClass(cls):
        cls.live.close()

    def head(self, vlan=None):
        return ether(server_mac(1), OWN_MAC["r0"], vlan)

    def answer(self, payload, cport, head=None, **ip):
        """A datagram of real server 1 to the client."""
        head = head or self.head()
        return udp(payload, cip=rip(1), cport=NAT_UDP_PORT, vip=client(120), vport=cport, head=head, **ip)

    def open(self, cport):
        """The client's query of the flow."""
        frame = udp(cip=client(120), cport=cport, vip=NAT_VIP)
        self.assertEqual(self.live.exchange("c0", frame), [("r0", nat_udp(frame))])

    def test_a_reply_leaves_with_the_vip_as_source_whatever_its_length(self):
        self.open(6000)
        for size in (0, 1, 2, 3, 17, 100, 1001, 1372):
            frame = self.answer(bytes(i & 255 for i in range(size)), 6000)
            self.assertEqual(self.live.exchange("r0", frame), [("c0", nat_reply(frame, NAT_VIP, 53))], f"{size} bytes")

    def test_padding_of_a_reply_is_no_part_of_it(self):
        self.open(6001)
        frame = self.answer(b"", 6001)
        padding = b"\xa5" * (60 - len(frame))
        ((port, out),) = self.live.exchange("r0", frame + padding)
        self.assertEqual(port, "c0")
        self.assertIn(out, (nat_reply(frame, NAT_VIP, 53), nat_reply(frame, NAT_VIP, 53) + padding))

    def test_a_reply_with_ttl_1_is_answered_to_the_real_server(self):
        self.open(6002)
        frame = self.answer(b"late", 6002, ttl=1)
        out = self.live.exchange("r0", frame)
        self.assertEqual([port for port, _ in out], ["r0"])
        expected = icmp_error(frame, 11, 0, source=R0_ADDRESS)
        self.assertEqual(Ether(out[0][1])["ICMP"].type, 11)
        self.assertEqual((out[0][1][:18], out[0][1][20:24], out[0][1][26:]),
                         (expected[:18], expected[20:24], expected[26:]))

    def test_a_reply_that_exceeds_the_client_sides_mtu_is_answered_to_the_real_server(self):
        self.open(6003)
        out = self.live.exchange("r0", self.answer(b"x" * 1472, 6003))
        self.assertEqual([port for port, _ in out], ["r0"])
        error = Ether(out[0][1])
        self.assertEqual((error["ICMP"].type, error["ICMP"].code, error["ICMP"].nexthopmtu), (3, 4, 1400))
        self.assertEqual((error["IP"].src, error["IP"].dst), (R0_ADDRESS, rip(1)))

    def test_replies_without_a_record_are_cut_only_if_they_may_be(self):
        one_packet = service("nat", 1, address=NAT_VIP, protocol="udp", port=53, server_port=NAT_UDP_PORT,
                             options={"one_packet": True})
        live = Live()
        self.addCleanup(live.close)
        live.start(Setup(services=[one_packet], mtu={"c0": 1400, "r0": 1500}))
        ((port, out),) = live.exchange("r0", self.answer(b"x" * 1472, 6007))
        told = Ether(out)
        self.assertEqual((port, told["ICMP"].type, told["ICMP"].code, told["ICMP"].nexthopmtu), ("r0", 3, 4, 1400))
        pieces = live.exchange("r0", self.answer(b"x" * 1472, 6007, flags=0, id=0x4711))
        self.assertEqual([(port, Ether(out)["IP"].id, Ether(out)["IP"].src) for port, out in pieces],
                         [("c0", 0x4711, NAT_VIP)] * 2)
        ((port, out),) = live.exchange("r0", self.answer(b"late", 6007, ttl=1))
        self.assertEqual((port, Ether(out)["ICMP"].type), ("r0", 11))

    def test_a_tagged_reply_keeps_its_tag(self):
        self.open(6004)
        frame = self.answer(b"tagged", 6004, head=self.head(vlan=12))
        self.assertEqual(self.live.exchange("r0", frame), [("c0", nat_reply(frame, NAT_VIP, 53))])

    def test_a_reply_to_another_client_port_is_no_reply(self):
        self.open(6005)
        frame = self.answer(b"who?", 6006)
        for port, out in self.live.exchange("r0", frame):
            self.assertNotIn(b"who?", out, port)
