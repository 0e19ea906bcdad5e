"""Frames that are cut, wrong or not for weir: each is dropped, for the right reason, and nothing leaves."""

import random
import struct
import unittest

from scapy.layers.inet import IP, IPOption_Router_Alert
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Raw
from scapy.utils import checksum

import pieces
from batch import Batch, accounting_problems
from frames import (ETHERNET, arp, dr, echo, ether, icmp_error, ip_packet, nat_request, tcp, tcp_reset, tun, udp,
                    with_header_checksum)
from harness import is_arp, replay
from services import DR_VIP, NAT_UDP_PORT, NAT_VIP, TUN_VIP, setup
from topology import C0_ADDRESS, C0_MAC, GATEWAY_MAC, OWN_MAC, R0_ADDRESS, rip, server_mac

MUTATED = 10_000
SEED = 20_240_229


def patched(frame, offset, value, mend=True):
    """`frame` with bytes of its IP packet replaced; the IP header checksum mended unless said otherwise."""
    packet = bytearray(frame[ETHERNET:])
    packet[offset:offset + len(value)] = value
    return frame[:ETHERNET] + (with_header_checksum(bytes(packet)) if mend else bytes(packet))


def samples():
    """One good frame of every kind weir reads."""
    return {
        "TCP by DR": tcp("S", options=[("MSS", 1460), ("SAckOK", b""), ("WScale", 7)]),
        "UDP by DR": udp(b"question", vip=DR_VIP),
        "TCP by TUN": tcp("S", vip=TUN_VIP),
        "UDP by NAT": udp(b"question", vip=NAT_VIP),
        "tagged TCP by NAT": tcp("S", vip=NAT_VIP, head=ether(vlan=7)),
        "TCP behind a router alert": tcp("S", ip_options=[IPOption_Router_Alert()]),
        "echo request": echo(b"0123456789abcdef"),
    }


class Malformed(unittest.TestCase):
    """Batches of frames that must not get through."""

    def test_a_frame_cut_at_any_length_is_dropped(self):
        batch = Batch()
        for name, frame in samples().items():
            for length in range(1, len(frame)):
                batch.drop("truncated", f"{name} cut at {length}", frame[:length])
        request = arp()
        for length in range(1, len(request)):
            batch.drop("truncated", f"ARP cut at {length}", request[:length])
        batch.run(self, setup())

    def test_a_frame_of_several_buffers_is_answered_cut_and_freed_of_padding(self):
        long = bytes(i * 7 & 0xFF for i in range(4000))
        batch = Batch()
        stray, closed, late = tcp("A", long, cport=1), udp(long, vport=9), udp(long, ttl=1)
        batch.answer("tcp_reset", "segment of no connection", stray, tcp_reset(stray))
        batch.answer("port_unreachable", "datagram to a closed port", closed, icmp_error(closed, 3, 3))
        batch.answer("time_exceeded", "TTL 1", late, icmp_error(late, 11, 0))
        for cport, (vip, out, padding) in enumerate(((DR_VIP, dr, long[:6]), (TUN_VIP, tun, b""))):
            opening = tcp("S", cport=2 + cport, vip=vip)
            batch.forward(f"padding to {vip}", opening + long, out(opening), padding=padding)
        batch.run(self, setup())
        cut, ping = udp(long, flags=0, id=7), echo(long)
        result = replay(setup(), {"c0": [cut, ping]})
        receiver = pieces.Receiver()
        for port, echoed in (("r0", dr(cut)), ("c0", long)):
            frames = [frame for frame in result.out[port] if frame[12:14] == b"\x08\x00"]
            self.assertEqual([len(frame) > ETHERNET + 1500 for frame in frames], [False] * 3, port)
            for frame in frames:
                receiver.take(frame)
            whole = receiver.whole.pop()
            self.assertEqual(receiver.whole, [])
            self.assertTrue(echoed.endswith(whole.payload) or whole.payload.endswith(echoed), port)

    def test_a_wrong_ip_header_is_dropped(self):
        batch = Batch()
        good = tcp("S", b"payload")
        total = len(good) - ETHERNET
        batch.drop("bad_ip_checksum", "checksum", patched(good, 10, b"\x12\x34", mend=False))
        batch.drop("bad_ip_checksum", "checksum 0", patched(good, 10, b"\0\0", mend=False))
        batch.drop("bad_ip_checksum", "one bit of the ident", patched(good, 4, bytes([good[18] ^ 1]), mend=False))
        for version in (0, 5, 6, 15):
            batch.drop("bad_ip_header", f"version {version}", patched(good, 0, bytes([version << 4 | 5])))
        for ihl in range(5):
            head = bytearray(good)
            head[ETHERNET] = 0x40 | ihl
            batch.drop("bad_ip_header", f"IHL {ihl}", bytes(head))
        short = tcp("S")[:ETHERNET + 40]
        batch.drop("bad_ip_header", "IHL beyond the total length", patched(short, 0, b"\x4f\0\0\x28"))
        batch.drop("truncated", "IHL beyond the frame", patched(short, 0, b"\x4f\0\0\x3c", mend=False))
        for length in (0, 19):
            batch.drop("bad_ip_header", f"total length {length}", patched(good, 2, struct.pack("!H", length)))
        for length in (total + 1, total + 500, 0xFFFF):
            batch.drop("truncated", f"total length {length}", patched(good, 2, struct.pack("!H", length)))
        for source in ("0.0.0.0", "127.0.0.1", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255"):
            batch.drop("bad_ip_header", f"from {source}", tcp("S", cip=source))
        batch.run(self, setup())

    def test_a_wrong_transport_header_is_dropped(self):
        batch = Batch()
        good = tcp("S", b"payload", vip=NAT_VIP)
        for offset in range(5):
            batch.drop("bad_l4_header", f"data offset {offset}", tcp("S", b"x", segment={"dataofs": offset}))
        batch.drop("bad_l4_header", "data offset beyond the packet", tcp("S", b"x" * 8, segment={"dataofs": 8}))
        batch.drop("bad_l4_header", "data offset 15 without options", tcp("S", segment={"dataofs": 15}))
        for length in (0, 1, 7):
            batch.drop("bad_l4_header", f"UDP length {length}", udp(b"abc", datagram={"len": length}))
        batch.drop("bad_l4_header", "UDP length beyond the packet", udp(b"abc", datagram={"len": 12}))
        batch.drop("bad_l4_header", "UDP length 65535", udp(b"abc", vip=NAT_VIP, datagram={"len": 65535}))
        for name, frame, sizes in (("TCP", good, (0, 3, 4, 13, 19)), ("UDP", udp(vip=TUN_VIP), (0, 3, 7)),
                                   ("ICMP", echo(b""), (0, 3, 7))):
            for size in sizes:
                packet = ip_packet(frame)[:20 + size]
                packet = with_header_checksum(packet[:2] + struct.pack("!H", 20 + size) + packet[4:])
                batch.drop("truncated", f"{name} of {size} bytes", frame[:ETHERNET] + packet)
                # The same with the rest of the header behind the packet's end, as padding.
                batch.drop("truncated", f"{name} of {size} bytes, padded", frame[:ETHERNET] + packet + bytes(60))
        batch.run(self, setup())

    def test_a_packet_from_one_of_our_own_addresses_is_dropped(self):
        batch = Batch()
        for source in (DR_VIP, NAT_VIP, C0_ADDRESS, R0_ADDRESS):
            batch.drop("own_source", f"SYN from {source}", tcp("S", cip=source))
            batch.drop("own_source", f"echo request from {source}", echo(cip=source))
        batch.drop("own_source", "land", tcp("S", cip=DR_VIP, cport=80))
        batch.run(self, setup())

    def test_a_frame_for_somebody_else_is_dropped(self):
        batch = Batch()
        batch.drop("foreign_mac", "other unicast MAC", tcp("S", head=ether(destination="02:00:00:00:01:99")))
        batch.drop("foreign_mac", "the other port's MAC", tcp("S", head=ether(destination=OWN_MAC["r0"])))
        batch.drop("foreign_mac", "broadcast MAC, unicast IP", tcp("S", head=ether(destination="ff:ff:ff:ff:ff:ff")))
        batch.drop("foreign_mac", "multicast MAC", tcp("S", head=ether(destination="01:00:5e:00:00:01")))
        for address in ("198.18.0.77", "203.0.113.9", rip(1)):
            batch.drop("foreign_address", f"to {address}", tcp("S", vip=address))
            batch.drop("foreign_address", f"echo to {address}", echo(vip=address))
        for address in ("198.18.0.255", "198.18.0.0", "255.255.255.255", "224.0.0.5"):
            batch.drop("foreign_address", f"echo to {address}", echo(vip=address))
        batch.run(self, setup())

    def test_a_frame_from_a_group_mac_is_dropped(self):
        batch = Batch()
        for source in ("01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff"):
            batch.drop("foreign_mac", f"SYN from {source}", tcp("S", head=ether(source=source)))
            # The answer would go back to the whole group.
            batch.drop("foreign_mac", f"stray segment from {source}", tcp("A", cport=40099, head=ether(source=source)))
            batch.drop("foreign_mac", f"echo request from {source}", echo(head=ether(source=source)))
        batch.run(self, setup())

    def test_another_ethertype_or_a_second_tag_is_dropped(self):
        batch = Batch()
        ip = ip_packet(tcp("S"))
        link = Ether(src=GATEWAY_MAC, dst=C0_MAC)
        batch.drop("ether_type", "two 802.1Q tags", bytes(link / Dot1Q(vlan=5) / Dot1Q(vlan=6) / Raw(ip)))
        batch.drop("ether_type", "an 802.1ad tag", bytes(link / Dot1AD(vlan=5) / Raw(ip)))
        batch.drop("ether_type", "both", bytes(link / Dot1AD(vlan=5) / Dot1Q(vlan=6) / Raw(ip)))
        for number in (0x0027, 0x0600, 0x88CC, 0x8847, 0x8864, 0xFFFF):
            batch.drop("ether_type", f"type {number:#06x}", bytes(Ether(src=GATEWAY_MAC, dst=C0_MAC, type=number)) + ip)
        batch.run(self, setup())

    def test_pieces_that_can_not_be_are_dropped(self):
        batch = Batch()
        for vip in (DR_VIP, TUN_VIP, NAT_VIP):
            batch.drop("fragment_bad", "of 71 bytes, with more to come", udp(b"x" * 63, vip=vip, flags="MF", frag=10))
            batch.drop("fragment_bad", "that ends behind the longest packet", udp(b"x" * 64, vip=vip, frag=8185))
            batch.drop("fragment_tiny", "that begins within the TCP header", tcp("A", vip=vip, frag=1, payload=b"x" * 12))
            batch.drop("fragment_tiny", "that ends within the TCP header", pieces.cut(tcp("A", vip=vip), 7, 16)[0])
        batch.drop("fragment", "echo request in pieces", echo(b"x" * 64, flags="MF"))
        batch.run(self, setup())

    def test_ten_thousand_mutated_frames_do_no_harm(self):
        frames = {"c0": list(mutated(client_side_samples(), MUTATED, SEED)),
                  "r0": list(mutated(server_side_samples(), MUTATED // 4, SEED + 1))}
        last = {DR_VIP: dr, TUN_VIP: tun, NAT_VIP: nat_request}
        good = {vip: tcp("S", cip="203.0.113.99", cport=50999, vip=vip) for vip in last}
        frames["c0"] += good.values()
        result = replay(setup(), frames)
        self.assertEqual(result.exit_status, 0, result.log[-2000:])
        self.assertEqual(accounting_problems(result.metrics), [])
        for vip, method in last.items():
            self.assertIn(method(good[vip]), result.out["r0"], f"the good frame after the mutated ones, to {vip}")
        for port, out in result.out.items():
            for frame in out:
                self.assert_well_formed(port, frame)

    def assert_well_formed(self, port, frame):
        """Only what a receiver can read leaves, from the port's own MAC to a host."""
        shown = f"{port}: {frame.hex()}"
        self.assertEqual(frame[6:12].hex(":"), OWN_MAC[port], shown)
        if is_arp(frame):
            return
        link = 18 if frame[12:14] == b"\x81\x00" else ETHERNET
        self.assertEqual(frame[link - 2:link], b"\x08\x00", shown)
        packet = frame[link:]
        header = (packet[0] & 15) * 4
        self.assertEqual(packet[0] >> 4, 4, shown)
        self.assertGreaterEqual(header, 20, shown)
        self.assertLessEqual(int.from_bytes(packet[2:4], "big"), len(packet), shown)
        self.assertEqual(checksum(packet[:header]), 0, shown)
        self.assertGreater(packet[8], 0, shown)
        self.assertEqual(frame[0] & 1, 0, shown)


def client_side_samples():
    """Frames that clients send, of every kind."""
    found = list(samples().values())
    for vip in (DR_VIP, TUN_VIP, NAT_VIP):
        found += [tcp("A", b"data", vip=vip), tcp("FA", vip=vip), tcp("R", vip=vip), udp(b"", vip=vip)]
        quoted = ip_packet(tcp("SA", cip=vip, cport=80, vip="203.0.113.50", vport=40000))
        found.append(echo(b"", vip=vip, message={"type": 3, "code": 4, "id": 0, "seq": 1400})
                     [:ETHERNET + 28] + quoted)
    return found + [arp(), arp(op=2, target=C0_MAC, target_ip=C0_ADDRESS), echo(b"x" * 1400)]


def server_side_samples():
    """Frames that real servers send."""
    head = Ether(src=server_mac(1), dst=OWN_MAC["r0"])
    return [
        tcp("SA", cip=rip(1), cport=8080, vip="203.0.113.50", vport=40000, head=head),
        udp(b"answer", cip=rip(1), cport=NAT_UDP_PORT, vip="203.0.113.50", vport=40001, head=head),
        arp(op=2, sender=server_mac(1), sender_ip=rip(1), target=OWN_MAC["r0"], target_ip=R0_ADDRESS),
        bytes(head / IP(src=rip(1), dst="203.0.113.50") / Raw(b"\x03\x03\0\0\0\0\0\0" + ip_packet(tcp("S")))),
    ]


def mutated(samples_of, count, seed):
    """`count` frames made of the samples by flipping, cutting, growing, and mending the IP checksum half the time."""
    chance = random.Random(seed)
    for _ in range(count):
        frame = bytearray(chance.choice(samples_of))
        for _ in range(chance.randint(1, 6)):
            kind = chance.random()
            if kind < 0.6:
                frame[chance.randrange(12, len(frame))] = chance.randrange(256)
            elif kind < 0.75:
                frame[chance.randrange(12, min(len(frame), 60))] ^= 1 << chance.randrange(8)
            elif kind < 0.85:
                del frame[chance.randint(20, len(frame)):]
            elif kind < 0.95:
                frame += bytes(chance.randrange(256) for _ in range(chance.randint(1, 60)))
            else:
                del frame[chance.randrange(12, 20):][:4]
            while len(frame) < 20:
                frame.append(chance.randrange(256))
        if chance.random() < 0.5 and frame[12:14] == b"\x08\x00" and len(frame) >= ETHERNET + 60:
            frame[ETHERNET:] = with_header_checksum(bytes(frame[ETHERNET:]))
        yield bytes(frame)
