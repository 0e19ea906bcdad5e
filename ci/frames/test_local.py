"""What weir answers itself: ping, RST, ICMP unreachable; and what it must never answer."""

import unittest

from scapy.layers.inet import ICMP, IP
from scapy.layers.sctp import SCTP, SCTPChunkAbort, SCTPChunkCookieAck, SCTPChunkData
from scapy.packet import Raw

from batch import ANSWERS, DROPS, Batch, accounting_problems
from frames import arp, dr, echo, echo_reply, ether, icmp_error, ip_packet, tcp, tcp_reset, udp
from harness import replay
from services import DR_VIP, NAT_TCP_PORT, NAT_VIP, TUN_VIP, setup
from topology import C0_ADDRESS, R0_ADDRESS, R0_MAC, RealServer, Setup, rip, server_mac, service


def client(number):
    """A client of its own for every frame."""
    return f"203.0.113.{number}"


class LocalAnswers(unittest.TestCase):
    """Batches to VIPs and own addresses."""

    def test_ping_is_answered_for_every_vip_and_own_address(self):
        batch = Batch()
        for number, address in enumerate((DR_VIP, TUN_VIP, NAT_VIP, C0_ADDRESS, R0_ADDRESS)):
            frame = echo(cip=client(number + 1), vip=address)
            batch.answer("echo", f"ping {address}", frame, echo_reply(frame))
        for size in (0, 1, 2, 3, 17, 55, 56, 57, 999, 1472):
            frame = echo(bytes(i * 31 & 255 for i in range(size)), cip=client(10), message={"seq": size})
            batch.answer("echo", f"ping of {size} bytes", frame, echo_reply(frame))
        for size in (0, 1, 56, 1472):
            zeros = echo(bytes(size), cip=client(14), message={"id": 0, "seq": 0})
            batch.answer("echo", f"ping of {size} zeros", zeros, echo_reply(zeros))
        tagged = echo(cip=client(11), head=ether(vlan=9, priority=2))
        batch.answer("echo", "tagged ping", tagged, echo_reply(tagged))
        low = echo(cip=client(12), ttl=1)
        batch.answer("echo", "ping with TTL 1", low, echo_reply(low))
        short = echo(b"", cip=client(13))
        padding = b"\xa5" * (60 - len(short))
        batch.answer("echo", "padded ping", short + padding, echo_reply(short), padding=padding)
        batch.run(self, setup())

    def test_a_ping_with_a_wrong_checksum_is_not_answered(self):
        batch = Batch()
        batch.drop("bad_l4_header", "checksum", echo(message={"chksum": 0x1234}))
        batch.run(self, setup())

    def test_a_segment_without_connection_is_reset(self):
        batch = Batch()
        cases = {
            "ACK": tcp("A", cip=client(20), seq=7, ack=0xFFFFFFF0),
            "data": tcp("PA", b"hello", cip=client(21), seq=7, ack=99),
            "FIN": tcp("FA", cip=client(22), seq=7, ack=99),
            "FIN without ACK": tcp("F", cip=client(23), seq=0xFFFFFFFF),
            "SYN to a port without service": tcp("S", cip=client(24), vport=81, seq=1234),
            "SYN with data to a port without service": tcp("S", b"fast", cip=client(25), vport=81, seq=1234),
            "SYN with options to a port without service": tcp("S", cip=client(26), vport=81, options=[("MSS", 1460)]),
            "SYN to an own address": tcp("S", cip=client(27), vip=C0_ADDRESS),
            "no flag": tcp("", cip=client(28), seq=50),
            "tagged": tcp("A", cip=client(29), ack=5, head=ether(vlan=77)),
            "padded": tcp("A", cip=client(30), ack=5) + bytes(6),
        }
        for name, frame in cases.items():
            batch.answer("tcp_reset", name, frame, tcp_reset(frame), ident=True)
        for name, frame in {"RST": tcp("R", cip=client(31)), "RST+ACK": tcp("RA", cip=client(32), ack=1),
                            "SYN+RST": tcp("SR", cip=client(33), vport=81)}.items():
            batch.drop("not_served", name, frame)
        batch.run(self, setup())

    def test_what_nobody_serves_is_unreachable(self):
        batch = Batch()
        for number, (name, frame) in enumerate({
                "UDP to a port without service": udp(cip=client(40), vport=54),
                "an empty datagram": udp(b"", cip=client(41), vport=54),
                "a long datagram": udp(b"x" * 1400, cip=client(42), vport=54),
                "tagged": udp(cip=client(43), vport=54, head=ether(vlan=3)),
                "UDP to an own address": udp(cip=client(44), vip=C0_ADDRESS),
        }.items()):
            batch.answer("port_unreachable", name, frame, icmp_error(frame, 3, 3))
        batch.run(self, setup())

    def test_a_service_without_a_usable_real_server_is_unreachable(self):
        empty = service("dr", 0, address="192.0.2.20")
        quiesced = service("nat", 1, address="192.0.2.21", protocol="udp", port=53)
        quiesced.servers = [RealServer(rip(1), 53, 0, "nat")]
        batch = Batch()
        for name, frame in {"TCP, none": tcp("S", cip=client(50), vip="192.0.2.20"),
                            "UDP, weight 0": udp(cip=client(51), vip="192.0.2.21")}.items():
            batch.answer("port_unreachable", name, frame, icmp_error(frame, 3, 3))
        stray = tcp("A", cip=client(52), vip="192.0.2.20", ack=9)
        batch.answer("tcp_reset", "ACK, none", stray, tcp_reset(stray), ident=True)
        batch.run(self, Setup(services=[empty, quiesced]))

    def test_icmp_is_never_answered_with_an_error(self):
        batch = Batch()
        quote = ip_packet(tcp("SA", cip=DR_VIP, cport=80, vip=client(60), vport=999))
        for kind, code in ((3, 0), (3, 1), (3, 3), (3, 4), (4, 0), (11, 0), (12, 0)):
            frame = bytes(ether() / IP(src=client(60), dst=DR_VIP) / ICMP(type=kind, code=code) / Raw(quote))
            reason = "not_served" if kind == 12 else "stray_icmp"
            batch.drop(reason, f"error {kind}/{code} about no connection", frame)
        for kind in (0, 5, 9, 10, 13, 14, 15, 17, 18, 30, 255):
            frame = bytes(ether() / IP(src=client(61), dst=DR_VIP) / ICMP(type=kind, code=0) / Raw(b"x" * 16))
            batch.drop("not_served", f"ICMP type {kind}", frame)
        batch.run(self, setup())

    def test_nobody_has_the_broadcast_address_of_a_connected_network(self):
        batch = Batch()
        for source in ("198.18.0.255", "10.99.0.255"):
            for name, frame in {
                    "SYN": tcp("S", cip=source), "ACK": tcp("A", cip=source, cport=1), "data": udp(cip=source),
                    "SYN to NAT": tcp("S", cip=source, vip=NAT_VIP), "ping": echo(cip=source),
                    "UDP to a closed port": udp(cip=source, vport=9),
                    "tagged": tcp("S", cip=source, head=ether(vlan=5)),
                    "to an own address": tcp("S", cip=source, vip=C0_ADDRESS)}.items():
                batch.drop("bad_ip_header", f"{name} from {source}", frame)
            batch.drop("bad_arp", f"ARP of {source}", arp(sender_ip=source))
            stray = tcp("SA", cip=rip(1), cport=NAT_TCP_PORT, vip=source, vport=7, head=ether(server_mac(1), R0_MAC))
            batch.drop("stray_reply", f"a real server's packet to {source}", stray, port="r0")
        # Beyond the connected networks nobody knows which one is. The lowest address of a network is a host's, as in Linux.
        for number, source in enumerate(("198.18.1.255", "198.18.0.0")):
            opening = tcp("S", cip=source, cport=2000 + number)
            batch.forward(f"SYN from {source}", opening, dr(opening))
        batch.run(self, setup())

    def test_what_can_be_no_host_opens_no_connection_by_an_error_about_it(self):
        batch = Batch()
        for client in ("224.0.0.1", "255.255.255.255", "0.0.0.0", "127.0.0.1", "198.18.0.255"):
            quote = ip_packet(tcp("SA", cip=DR_VIP, cport=80, vip=client, vport=999))
            frame = bytes(ether() / IP(src="203.0.113.9", dst=DR_VIP) / ICMP(type=3, code=1) / Raw(quote))
            batch.drop("stray_icmp", f"about a packet to {client}", frame)
        batch.run(self, setup(connections={"schedule_icmp": True}))

    def test_what_ends_a_nat_servers_connection_is_not_answered(self):
        association = service("nat", 1, address=NAT_VIP, protocol="sctp", port=80, server_port=NAT_TCP_PORT)
        served = setup(connections={"nat_icmp_send": True})
        served.services.append(association)
        head = ether(server_mac(1), R0_MAC)

        def chunks(*those):
            packet = head / IP(src=rip(1), dst=client(80)) / SCTP(sport=NAT_TCP_PORT, dport=999, tag=7)
            for chunk in those:
                packet = packet / chunk
            return bytes(packet)

        reset = tcp("R", cip=rip(1), cport=NAT_TCP_PORT, vip=client(80), vport=999, head=head)
        batch = Batch()
        batch.drop("stray_reply", "RST", reset, port="r0")
        batch.drop("stray_reply", "ABORT", chunks(SCTPChunkAbort()), port="r0")
        for name, frame in {"SYN+ACK": tcp("SA", cip=rip(1), cport=NAT_TCP_PORT, vip=client(81), vport=1, head=head),
                            "DATA": chunks(SCTPChunkData(data=b"data")),
                            # The kernel looks no further than the first chunk.
                            "ABORT behind another chunk": chunks(SCTPChunkCookieAck(), SCTPChunkAbort())}.items():
            error = icmp_error(frame, 3, 3, source=R0_ADDRESS, after_hop=True)
            batch.answer("port_unreachable", name, frame, error, port="r0")
        batch.run(self, served)

    def test_a_flood_of_strangers_keeps_no_known_connection_from_its_mtu(self):
        junk = [udp(cip=client(72), cport=1024 + i, vport=54, id=i) for i in range(3000)]
        for vip in (DR_VIP, TUN_VIP, NAT_VIP):
            opening = tcp("S", cip=client(73), cport=42000, vip=vip)
            large = [tcp("A", b"x" * 1460, cip=client(73), cport=42000, vip=vip, id=i) for i in range(1500)]
            both = [frame for pair in zip(junk[::2], junk[1::2], large) for frame in pair]
            result = replay(setup(mtu={"c0": 1500, "r0": 1400}), {"c0": [opening, *both]})
            self.assertEqual(result.exit_status, 0, result.log[-2000:])
            self.assertEqual(result.metrics.total(ANSWERS, kind="fragmentation_needed"), len(large), vip)
            self.assertGreater(result.metrics.total(DROPS, reason="icmp_rate_limited"), 0, vip)
            self.assertEqual(accounting_problems(result.metrics), [])

    def test_errors_and_resets_are_limited_and_the_rest_is_counted(self):
        count = 5000
        frames = [udp(cip=client(70), cport=1024 + i, vport=54, id=i) for i in range(count)]
        opened = tcp("S", cip=client(71), cport=41999)
        result = replay(setup(), {"c0": [*frames, opened]})
        self.assertEqual(result.exit_status, 0, result.log[-2000:])
        answered = result.metrics.total(ANSWERS, kind="port_unreachable")
        limited = result.metrics.total(DROPS, reason="icmp_rate_limited")
        self.assertEqual(answered + limited, count)
        self.assertGreater(answered, 0)
        self.assertLess(answered, count / 2)
        errors = result.ip_frames("c0")
        self.assertEqual(len(errors), answered)
        self.assertEqual(result.ip_frames("r0"), [dr(opened)])
        self.assertEqual(accounting_problems(result.metrics), [])
