"""Frames of several buffers through every kind of tunnel and between the families: they leave as those of one buffer do."""

import unittest

from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

import golden
from frames import CLIENT, ether, udp
from harness import replay
from topology import VIP, RealServer, Setup, VirtualServer, rip, rip6, with_ipv6

VIP6, CLIENT6 = "2001:db8::1:100", "2001:db8:77::9"
MTU = 9000
# What encapsulates: with checksums over all of a packet, with ones over some of it, and without.
KINDS = {
    "ipip": {},
    "gre": {"tunnel": "gre"},
    "gre, checksum": {"tunnel": "gre", "tunnel_checksum": "csum"},
    "gue": {"tunnel": "gue"},
    "gue, checksum": {"tunnel": "gue", "tunnel_checksum": "csum"},
    "gue, remote checksum": {"tunnel": "gue", "tunnel_checksum": "remcsum"},
}


def udp6(payload, port):
    """A client's datagram over IPv6."""
    packet = ether() / IPv6(src=CLIENT6, dst=VIP6, hlim=61) / UDP(sport=40000 + len(payload), dport=port)
    return bytes(packet / Raw(payload))


def ways():
    """`(name, the client's datagram, VIP, server, forwarding, options)` of each way through."""
    for client, vip, make in (("IPv4", VIP, None), ("IPv6", VIP6, udp6)):
        for family, server in (("IPv4", rip(1)), ("IPv6", rip6(1))):
            for kind, options in KINDS.items():
                yield f"{client} in {family}, {kind}", make, vip, server, "tun", options
    yield "NAT of IPv6", udp6, VIP6, rip6(1), "nat", {}
    yield "DR of IPv6", udp6, VIP6, rip6(1), "dr", {}


class Chains(unittest.TestCase):
    """Two runs of weir, with buffers for a whole frame each and with shorter ones."""

    def test_they_leave_as_frames_of_one_buffer_do(self):
        services, frames, names = [], [], []
        for number, (name, make, vip, server, forwarding, options) in enumerate(ways()):
            port = 5000 + number
            servers = [RealServer(server, port, forwarding=forwarding, options=options)]
            services.append(VirtualServer(vip, port, protocol="udp", servers=servers))
            for size in (2001, 8000):
                payload = bytes((i * 7 + number) & 0xFF for i in range(size))
                frames.append(make(payload, port) if make else udp(payload, cip=CLIENT, cport=40000 + size, vport=port))
                names.append(f"{name}, {size} bytes")
        seen = []
        for room in (MTU + 100, 2048):
            made = with_ipv6(Setup(services=services, memory={"mbuf_data_bytes": room}, mtu={"c0": MTU, "r0": MTU}))
            result = replay(made, {"c0": frames})
            seen.append(result.ip_frames("r0"))
            self.assertEqual(len(seen[-1]), len(frames), f"{room}: {result.metrics.by('weir_drops_total', 'reason')}")
        for name, given, expected, got in zip(names, frames, *seen):
            with self.subTest(name):
                self.assertIn(given[-100:], got)
                self.assertEqual(golden.difference("r0", given, expected, got), [])


if __name__ == "__main__":
    unittest.main()
