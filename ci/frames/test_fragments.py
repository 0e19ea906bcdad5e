"""Packets in pieces: by every method, well meant and not, and floods of them, in one run of weir."""

import ipaddress
import random
import unittest

from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw
from scapy.utils import checksum

import pieces
from batch import DROPS, accounting_problems
from frames import dr, echo, ether, nat_request, tcp, tun, udp
from harness import replay
from services import DR_VIP, NAT_UDP_PORT, NAT_VIP, TUN_VIP, setup
from topology import RealServer, Setup, rip, rip6, service, with_ipv6

SEED = 18
DATAGRAMS = 90
FLOOD = 3000
VIPS = (DR_VIP, TUN_VIP, NAT_VIP)


def to_server(frame, vip):
    """What the real server gets of a whole packet."""
    if vip == NAT_VIP:
        return nat_request(frame, port=NAT_UDP_PORT)
    return tun(frame) if vip == TUN_VIP else dr(frame)


def arrived(frames):
    """What a receiver makes of frames, in no order."""
    receiver = pieces.Receiver()
    for frame in frames:
        receiver.take(frame)
    return receiver.whole


def well_meant(chance, datagram, ident):
    """Pieces of a datagram in whatever order, some twice."""
    cut = pieces.cut(datagram, ident, chance.choice((8, 64, 504, 1456)))
    how = chance.randrange(4)
    if how == 1:
        cut.reverse()
    elif how == 2:
        chance.shuffle(cut)
    elif how == 3:
        cut += chance.choices(cut, k=2)
        cut.sort(key=lambda piece: int.from_bytes(piece[20:22], "big") & 0x1FFF)
    return cut


def hostile(chance, datagram, ident):
    """Pieces of a datagram that is not to arrive: one overlaps others, or is missing."""
    cut = pieces.cut(datagram, ident, 160)
    packet = datagram[14:]
    at = chance.randrange(1, len(cut) - 1)
    if chance.randrange(2):
        del cut[at]
    else:
        # In front, so that nothing is whole before it comes.
        start = at * 160 + chance.choice((-8, 8))
        cut.insert(1, datagram[:14] + pieces.one_piece(packet, ident, bytes(160), (start, True)))
    return cut


class Fragments(unittest.TestCase):
    """A run with all of it."""

    def test_right_ones_arrive_whole_hostile_ones_do_not_and_a_flood_harms_nobody(self):
        chance = random.Random(SEED)
        frames, meant, harmed = [], [], []
        for number in range(DATAGRAMS):
            vip = VIPS[number % 3]
            payload = bytes(chance.randrange(256) for _ in range(chance.choice((700, 1500, 6000))))
            datagram = udp(payload, vip=vip, cport=42000 + number, flags=0)
            if number % 5 == 4:
                frames.append(hostile(chance, datagram, number))
                harmed.append(42000 + number)
            elif len(payload) > 1500:
                frames.append(pieces.cut(datagram, number, 1456)[::chance.choice((1, -1))])
                meant.append((datagram, vip))
            else:
                frames.append(well_meant(chance, datagram, number))
                meant.append((datagram, vip))
            # Between them a whole packet, and first and later pieces of packets that never become whole.
            frames.append([tcp("S", cport=45000 + number, vip=vip)])
        whole = [frame for run in frames for frame in run if frame[23] == 6]
        sent = []
        flood = [self.stray(chance, number) for number in range(FLOOD)]
        for number, run in enumerate(frames):
            sent += run + flood[number * FLOOD // len(frames):(number + 1) * FLOOD // len(frames)]
        # First pieces that are answered or refused, each with two others, and what has no ports.
        for vip in (DR_VIP, NAT_VIP):
            sent += pieces.cut(udp(bytes(700), vip=vip, cport=41990, ttl=1), 501, 64)[:3]
            sent += pieces.cut(tcp("A", bytes(700), vip=vip, cport=41991), 502, 64)[:3]
            sent += pieces.cut(echo(bytes(700), vip=vip), 503, 64)[2::-1]
        result = replay(setup(), {"c0": sent})
        self.assertEqual(result.exit_status, 0, result.log[-2000:])
        self.assertEqual(accounting_problems(result.metrics), [])
        got = arrived(result.out["r0"])
        for datagram, vip in meant:
            expected, = arrived([to_server(datagram, vip)])
            self.assertIn(expected, got, f"{expected}")
        for frame in whole:
            self.assertTrue(any(frame[34:54] in out for out in result.out["r0"]) or frame[33] == 3)
        self.assertEqual(sum(arrival.protocol == 6 for arrival in got), len(whole))
        ports = {int.from_bytes(arrival.payload[:2], "big") for arrival in got if arrival.protocol == 17}
        self.assertFalse(ports & set(harmed), "hostile ones")
        dropped = result.metrics.by(DROPS, "reason")
        for reason in ("fragment_overlap", "fragment_duplicate", "fragment_room_full"):
            self.assertGreater(dropped.get(reason, 0), 0, reason)
        wanted = {"fragment_refused": 4, "not_served": 6, "fragment": 6}
        self.assertEqual({reason: dropped.get(reason, 0) for reason in wanted}, wanted)
        self.assertEqual(result.metrics.total("weir_answers_total", kind="time_exceeded"), 2)

    def test_the_longest_datagrams_arrive_by_every_method_over_queues_that_part_their_pieces(self):
        # Each with a first piece that comes to one worker, and every other one to the other.
        services = [service(method, address=vip, protocol="udp", port=53, server_port=5353 if method == "nat" else None)
                    for method, vip in (("dr", DR_VIP), ("tun", TUN_VIP), ("nat", NAT_VIP))]
        for number, method in enumerate(("dr", "tun", "nat")):
            six = service(method, address=f"2001:db8:f00d::{number + 1}", protocol="udp", port=53)
            six.servers = [RealServer(rip6(1), 5353 if method == "nat" else 53, 1, method)]
            services.append(six)
        sent, expected = [], []
        for number, virtual in enumerate(services):
            payload = random.Random(number).randbytes(65507 - 20)
            if ":" in virtual.address:
                datagram = bytes(ether() / IPv6(src="2001:db8:c::50", dst=virtual.address)
                                 / UDP(sport=41000 + number, dport=53) / Raw(payload))
                ends = ("2001:db8:c::50", rip6(1) if virtual.servers[0].forwarding == "nat" else virtual.address)
            else:
                datagram = udp(payload, vip=virtual.address, cport=41000 + number, flags=0)
                ends = ("203.0.113.50", rip(1) if virtual.servers[0].forwarding == "nat" else virtual.address)
            sent += pieces.cut(datagram, 77 + number, 1392)
            expected.append((ends, 41000 + number, virtual.servers[0].port, payload))
        result = replay(with_ipv6(Setup(services=services)), {"c0": sent}, workers=2)
        self.assertEqual(result.exit_status, 0, result.log[-2000:])
        self.assertEqual(accounting_problems(result.metrics), [])
        got = {}
        for arrival in arrived(result.out["r0"]):
            ends = [str(ipaddress.ip_address(arrival.ends[at:at + len(arrival.ends) // 2]))
                    for at in (0, len(arrival.ends) // 2)]
            pseudo = arrival.ends + arrival.protocol.to_bytes(2, "big") + arrival.payload[4:6] + arrival.payload
            self.assertEqual(checksum(pseudo), 0, f"{arrival}")
            ports = (int.from_bytes(arrival.payload[at:at + 2], "big") for at in (0, 2))
            got[(tuple(ends), *ports, arrival.payload[8:])] = arrival
        self.assertEqual(set(got) ^ set(expected), set())
        self.assertEqual(result.metrics.total("weir_fragments_waiting_packets"), 0)

    def stray(self, chance, number):
        """A piece of a packet that never becomes whole, from anybody."""
        cip = f"198.51.{chance.randrange(256)}.{chance.randrange(1, 255)}"
        datagram = udp(bytes(64), cip=cip, cport=4000 + number, vip=chance.choice(VIPS), flags=0)
        return pieces.cut(datagram, chance.randrange(65536), 32)[chance.randrange(3)]
