"""What goes to the host interface of a port, as what, and how much of it."""

import unittest

from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

from batch import ANSWERS, DROPS, accounting_problems
from frames import CLIENT, dr, echo, ether, tcp, udp
from harness import replay
from services import DR_VIP, setup
from topology import C0_ADDRESS, C0_MAC, GATEWAY, GATEWAY_MAC

PUNTED = "weir_punted_packets_total"
PUNT_DROPS = "weir_punt_drops_total"
TO_KERNEL = "weir_host_receive_packets_total"
# What a class may have saved up, and a second's worth.
BURST, SECOND = 128, 1000


def hosted():
    """The usual virtual servers, and a host interface on the clients' port."""
    file = setup()
    file.port_options = {"c0": {"host_interface": "wfh0"}}
    return file


def to_group(mac, packet):
    """A packet to a group."""
    return bytes(ether(destination=mac) / packet)


def samples():
    """`{class: [frame, ...]}` of everything that is the host's."""
    own = IP(src=CLIENT, dst=C0_ADDRESS)
    pieces = fragment(own / ICMP() / Raw(bytes(3000)), 1400)
    own_v6 = IPv6(src="2001:db8::9", dst="2001:db8::1")
    arp = ARP(op=1, hwsrc=GATEWAY_MAC, psrc=GATEWAY, pdst="198.18.0.77")
    return {
        "tcp_syn": [tcp("S", vip=C0_ADDRESS, vport=22), tcp("S", vip="198.18.0.77", vport=179),
                    bytes(ether() / own_v6 / TCP(dport=22))],
        "tcp": [tcp("A", vip=C0_ADDRESS, vport=22), tcp("SA", vip=C0_ADDRESS), tcp("R", vip=C0_ADDRESS)],
        "udp": [udp(vip=C0_ADDRESS, vport=123), udp(vip=C0_ADDRESS, vport=3784, ttl=64),
                bytes(ether(vlan=5) / own / UDP(dport=123))],
        "icmp": [echo(vip=C0_ADDRESS), bytes(ether() / own_v6 / ICMPv6EchoRequest()),
                 bytes(ether() / own / ICMP(type=3, code=3) / IP(src=C0_ADDRESS, dst=CLIENT) / UDP())],
        "fragments": [bytes(ether() / piece) for piece in pieces],
        "routing": [to_group("01:00:5e:00:00:05", IP(src=GATEWAY, dst="224.0.0.5", proto=89, ttl=1) / Raw(bytes(44))),
                    udp(vip=C0_ADDRESS, vport=3784, ttl=255)],
        "neighbor": [to_group("33:33:ff:00:00:01", IPv6(src="fe80::1", dst="ff02::1:ff00:1", hlim=255)
                              / ICMPv6ND_NS(tgt="2001:db8::1"))],
        "group": [to_group("01:00:5e:00:00:fb", IP(src=GATEWAY, dst="224.0.0.251") / UDP(dport=5353)),
                  to_group("ff:ff:ff:ff:ff:ff", IP(src=GATEWAY, dst="255.255.255.255") / UDP(dport=67)),
                  bytes(Ether(src=GATEWAY_MAC, dst="01:80:c2:00:00:0e", type=0x88CC) / Raw(bytes(46)))],
        "arp_request": [bytes(Ether(src=GATEWAY_MAC, dst="ff:ff:ff:ff:ff:ff") / arp)],
        "arp_reply": [bytes(Ether(src=GATEWAY_MAC, dst=C0_MAC) / ARP(
            op=2, hwsrc=GATEWAY_MAC, psrc=GATEWAY, hwdst=C0_MAC, pdst=C0_ADDRESS))],
        "other": [bytes(ether() / IP(src=CLIENT, dst=C0_ADDRESS, proto=47) / Raw(bytes(8))),
                  bytes(Ether(src=GATEWAY_MAC, dst=C0_MAC, type=0x8864) / Raw(bytes(46))),
                  bytes(Ether(src=GATEWAY_MAC, dst=C0_MAC) / Dot1Q(vlan=1) / Dot1Q(vlan=2) / own)],
    }


class HostInterface(unittest.TestCase):
    """Each test is one run."""

    def run_once(self, file, frames):
        """Everything in by the clients' port; the metrics at the end."""
        result = replay(file, {"c0": frames})
        self.assertEqual(result.exit_status, 0, result.log[-2000:])
        self.assertEqual(accounting_problems(result.metrics), [])
        return result

    def test_the_host_gets_what_is_its_under_the_right_name(self):
        kinds = samples()
        frames = [frame for kind in kinds.values() for frame in kind]
        metrics = self.run_once(hosted(), frames).metrics
        for kind, wanted in kinds.items():
            self.assertEqual(metrics.total(PUNTED, **{"class": kind}), len(wanted), kind)
        self.assertEqual(metrics.total(PUNTED), len(frames))
        self.assertEqual(metrics.total(DROPS), 0)
        self.assertEqual(metrics.total(TO_KERNEL, port="c0"), len(frames))

    def test_without_the_key_none_of_it_is_anybodys(self):
        frames = [frame for kind in samples().values() for frame in kind]
        metrics = self.run_once(setup(), frames).metrics
        self.assertEqual(metrics.total(PUNTED), 0)
        self.assertEqual(metrics.total(DROPS) + metrics.total(ANSWERS) + metrics.total("weir_absorbed_packets_total"),
                         len(frames))

    def test_weir_keeps_what_is_its(self):
        request = tcp("S", vip=DR_VIP)
        frames = [request, echo(vip=DR_VIP), tcp("S", vip=DR_VIP, vport=81),
                  bytes(Ether(src=GATEWAY_MAC, dst="ff:ff:ff:ff:ff:ff")
                        / ARP(op=1, hwsrc=GATEWAY_MAC, psrc=GATEWAY, pdst=C0_ADDRESS)),
                  tcp("S", vip=C0_ADDRESS, head=ether(destination="02:00:00:00:09:09")),
                  tcp("S", vip=C0_ADDRESS, cip=DR_VIP), tcp("S", vip=C0_ADDRESS, chksum=1)]
        result = self.run_once(hosted(), frames)
        self.assertEqual(result.metrics.total(PUNTED), 0)
        self.assertEqual(result.ip_frames("r0"), [dr(request)])
        self.assertEqual({kind: result.metrics.total(ANSWERS, kind=kind) for kind in ("arp", "echo", "tcp_reset")},
                         {"arp": 1, "echo": 1, "tcp_reset": 1})
        self.assertEqual({reason: result.metrics.total(DROPS, reason=reason)
                          for reason in ("foreign_mac", "own_source", "bad_ip_checksum")},
                         {"foreign_mac": 1, "own_source": 1, "bad_ip_checksum": 1})

    def test_a_flood_of_one_kind_meets_its_limit_and_leaves_the_others_alone(self):
        kinds = samples()
        flood = [tcp("S", vip=C0_ADDRESS, vport=179, cport=1024 + n) for n in range(8000)]
        others = [frame for kind in kinds if kind != "tcp_syn" for frame in kinds[kind]]
        metrics = self.run_once(hosted(), flood[:4000] + others + flood[4000:]).metrics
        passed = metrics.total(PUNTED, **{"class": "tcp_syn"})
        self.assertGreaterEqual(passed, BURST)
        self.assertLess(passed, BURST + 3 * SECOND)
        self.assertEqual(metrics.total(PUNT_DROPS, **{"class": "tcp_syn"}), len(flood) - passed)
        self.assertEqual(metrics.total(DROPS, reason="punt_rate_limited"), len(flood) - passed)
        self.assertEqual(metrics.total(PUNTED), passed + len(others))


if __name__ == "__main__":
    unittest.main()
