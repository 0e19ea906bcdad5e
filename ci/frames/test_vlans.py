"""VLANs of a device as ports of their own: what each answers and forwards, and that nothing crosses from one to another by its tags."""

import socket
import struct
import unittest

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from batch import DROPS, RECEIVED, Batch
from frames import arp, arp_answer, dr, ether, forwarded, relinked, rewritten, tcp, udp
from harness import Live
from services import DR_VIP, every_method
from topology import C0_MAC, GATEWAY_MAC, R0_MAC, RealServer, Setup, VirtualServer, server_mac, with_ipv6

VIPS = {"dr": "10.100.0.100", "tun": "10.100.0.101", "nat": "10.100.0.102"}
LATE_VIP, HELD_VIP, VIP6 = "10.100.0.103", "10.100.0.110", "fd00:100::100"
SERVER, LATE_SERVER, SERVER6 = "10.200.0.11", "10.200.0.12", "fd00:200::11"
SERVER_PORT = {"dr": 80, "tun": 80, "nat": 8080}
CLIENT, CLIENT6 = "10.100.0.50", "fd00:100::50"
OWN = {100: "10.100.0.2", 200: "10.200.0.2"}
OWN6 = {100: "fd00:100::2", 200: "fd00:200::2"}
VIRTUAL_MAC = "00:00:5e:00:01:33"
MANY = range(1000, 1100)


def tagged(frame, *tags, ether_type=0x8100):
    """`frame` behind these tags, the outer one first."""
    return frame[:12] + b"".join(struct.pack("!HH", ether_type, tag) for tag in tags) + frame[12:]


def to_server(method, frame, server=SERVER, mac=server_mac(1)):
    """What the real server gets for a client's frame, tags aside."""
    inner = forwarded(frame)
    packet = {
        "dr": inner,
        "tun": bytes(IP(src=OWN[200], dst=server, ttl=inner[8], proto=4, id=0, flags="DF") / Raw(inner)),
        "nat": rewritten(frame, dst=server, dport=SERVER_PORT["nat"]),
    }[method]
    return relinked(frame, R0_MAC, mac, packet)


def tcp6():
    """A client's SYN over IPv6."""
    packet = ether() / IPv6(src=CLIENT6, dst=VIP6, hlim=61) / TCP(sport=40000, dport=80, seq=1000)
    return bytes(packet)


def dr6(frame):
    """What the real server gets of it."""
    packet = Ether(frame)
    packet.src, packet.dst = R0_MAC, server_mac(1)
    packet[IPv6].hlim -= 1
    return bytes(packet)


def solicitation(target):
    """A neighbour's question on the clients' side."""
    low = socket.inet_pton(socket.AF_INET6, target)[13:]
    group, link = f"ff02::1:ff{low[0]:02x}:{low[1]:02x}{low[2]:02x}", "33:33:ff:" + low.hex(":")
    packet = Ether(src=GATEWAY_MAC, dst=link) / IPv6(src=CLIENT6, dst=group, hlim=255) / ICMPv6ND_NS(tgt=target)
    return bytes(packet / ICMPv6NDOptSrcLLAddr(lladdr=GATEWAY_MAC))


def advertisement(target):
    """The director's answer."""
    packet = Ether(src=C0_MAC, dst=GATEWAY_MAC) / IPv6(src=target, dst=CLIENT6, hlim=255)
    packet /= ICMPv6ND_NA(tgt=target, R=0, S=1, O=1)
    return bytes(packet / ICMPv6NDOptDstLLAddr(lladdr=C0_MAC))


def is_datagram(frame):
    """What the kernel sends."""
    packet = Ether(frame)
    return UDP in packet and packet[UDP].dport == 9


def setup(**keywords):
    """Clients on VLAN 100 of one device, real servers on VLAN 200 of the other; and the usual network without tags."""
    services = every_method()
    for method, vip in VIPS.items():
        services.append(VirtualServer(vip, 80, servers=[RealServer(SERVER, SERVER_PORT[method], forwarding=method)]))
    for vip, server in ((LATE_VIP, LATE_SERVER), (HELD_VIP, SERVER), (VIP6, SERVER6)):
        services.append(VirtualServer(vip, 80, servers=[RealServer(server, 80)]))
    made = with_ipv6(Setup(services=services, **keywords))
    made.vlans = [
        {"name": "clients", "device": "c0", "vlan": 100, "addresses": [OWN[100] + "/24", OWN6[100] + "/64"]},
        {"name": "servers", "device": "r0", "vlan": 200, "addresses": [OWN[200] + "/24", OWN6[200] + "/64"]},
        {"name": "others", "device": "r0", "vlan": 100, "addresses": ["10.150.0.2/24"]}]
    made.neighbors.update({SERVER: server_mac(1), SERVER6: server_mac(1), CLIENT: GATEWAY_MAC})
    return made


class Sorted(unittest.TestCase):
    """A hundred VLANs and more on one device, and two workers: one run of weir for all."""

    def test_each_vlan_is_a_port_of_its_own_and_a_tag_of_none_is_dropped(self):
        made = setup()
        made.vlans += [{"name": f"many{id}", "device": "c0", "vlan": id, "addresses": [f"10.101.{id - 1000}.2/24"]}
                       for id in MANY]
        batch = Batch()
        self.add_forwarded(batch)
        self.add_double(batch)
        for id in MANY:
            asked = arp(target_ip=f"10.101.{id - 1000}.2", sender_ip=f"10.101.{id - 1000}.9", vlan=id)
            batch.answer("arp", f"asked on VLAN {id}", asked, arp_answer(asked))
            frame = tcp("S", cip=f"10.101.{id - 1000}.9", cport=50000 + id, vip=VIPS["dr"])
            batch.forward(f"from VLAN {id}", tagged(frame, id), tagged(to_server("dr", frame), 200))
        self.add_answered_and_dropped(batch)
        metrics = batch.run(self, made, workers=2).metrics
        received = {port: metrics.total(RECEIVED, port=port) for port in ("clients", "servers", "others", "many1000")}
        self.assertEqual(received, {"clients": 14, "servers": 2, "others": 0, "many1000": 2})
        self.assertGreaterEqual(metrics.total("weir_port_transmit_packets_total", port="many1000"), 1)

    def add_forwarded(self, batch):
        """By every method, of every priority, with and without tags."""
        for number, (method, vip) in enumerate(VIPS.items()):
            for priority in (0, 5):
                frame = tcp("S", cip=CLIENT, cport=40000 + 10 * number + priority, vip=vip)
                name = f"{method}, priority {priority}"
                batch.forward(name, tagged(frame, priority << 13 | 100), tagged(to_server(method, frame), 200))
        frame = tcp6()
        batch.forward("IPv6", tagged(frame, 100), tagged(dr6(frame), 200))
        plain = udp(cport=40050, vip=DR_VIP)
        batch.forward("without a tag", plain, dr(plain))
        batch.forward("from a VLAN to where there is no tag", tagged(plain, 100), dr(plain))
        frame = udp(cport=40051, vip=DR_VIP)
        batch.forward("a priority alone", tagged(frame, 5 << 13), tagged(dr(frame), 5 << 13))
        frame = tcp("S", cip=CLIENT, cport=40052, vip=VIPS["dr"])
        batch.forward("from where there is no tag to a VLAN", frame, tagged(to_server("dr", frame), 200))
        frame = tcp("S", cip=CLIENT, cport=40053, vip=VIPS["dr"])
        batch.forward("the same with a priority", tagged(frame, 5 << 13), tagged(to_server("dr", frame), 5 << 13 | 200))

    def add_double(self, batch):
        """With two tags: the inner one is the network's behind the VLAN, and never leaves alone where there are VLANs."""
        twice = tcp("S", cip=CLIENT, cport=40060, vip=VIPS["dr"])
        batch.forward("two tags", tagged(twice, 100, 7), tagged(to_server("dr", twice), 200, 7))
        batch.drop("vlan", "two tags, to where there is none", tagged(udp(cport=40061, vip=DR_VIP), 100, 200))
        batch.drop("ether_type", "three tags", tagged(twice, 100, 7, 7))
        batch.drop("vlan", "two tags, the outer one nobody's", tagged(twice, 300, 100))
        batch.drop("ether_type", "a tag of 802.1ad", tagged(twice, 100, ether_type=0x88a8))

    def add_answered_and_dropped(self, batch):
        """ARP, neighbour discovery and what is nobody's."""
        for target in (OWN[100], VIPS["dr"]):
            asked = arp(target_ip=target, sender_ip=CLIENT, vlan=100)
            batch.answer("arp", f"asked for {target} on its VLAN", asked, arp_answer(asked))
        batch.drop("foreign_arp", "asked without the tag", arp(target_ip=OWN[100], sender_ip=CLIENT))
        batch.answer("nd", "solicited on its VLAN", tagged(solicitation(OWN6[100]), 100),
                     tagged(advertisement(OWN6[100]), 100))
        syn = tcp("S", cip=CLIENT, cport=40070, vip=VIPS["dr"])
        for tag in (300, 4095, 101):
            batch.drop("vlan", f"tag {tag}", tagged(syn, tag))
        batch.drop("foreign_mac", "to another station", tagged(syn, 200), port="r0")
        batch.drop("truncated", "a tag and nothing else", tagged(syn, 200)[:16], port="r0")


class Lived(unittest.TestCase):
    """On interfaces of the kernel, which takes tags out of frames: next hops, replies and VRRP on VLANs, one run of weir."""

    def setUp(self):
        self.live = Live()
        self.addCleanup(self.live.close)

    def exchange(self, port, frame, *tags):
        """What weir sends because of a tagged frame, its own and the kernel's news and padding aside."""
        def is_news(out):
            packet = Ether(out)
            asked = packet.getlayer(ARP)
            return (packet.haslayer(IPv6) or packet.haslayer(IP) and packet[IP].proto == 112
                    or asked is not None and asked.psrc == asked.pdst)
        seen = self.live.exchange(port, tagged(frame, *tags), keep_arp=True)
        return [(port, out[:46] if ARP in Ether(out) else out) for port, out in seen if not is_news(out)]

    def test_next_hops_replies_and_virtual_routers_stay_on_their_vlans(self):
        vrrp = {"name": "vi", "port": "clients", "virtual_router_id": 51, "version": 3,
                "advertisement_interval": 0.2, "garp_master_repeat": 0, "addresses": [HELD_VIP]}
        made = setup(vrrp=[vrrp])
        # The kernel has no IPv6 there.
        made.vlans[0].update({"host_interface": "wfh0", "addresses": [OWN[100] + "/24"]})
        director = self.live.start(made)
        with self.subTest("a reply of NAT"):
            syn = tcp("S", cip=CLIENT, vip=VIPS["nat"])
            self.assertEqual(self.exchange("c0", syn, 100), [("r0", tagged(to_server("nat", syn), 200))])
            reply = tcp("SA", cip=SERVER, cport=8080, vip=CLIENT, vport=40000, head=ether(server_mac(1), R0_MAC))
            packet = rewritten(reply, src=VIPS["nat"], sport=80)
            self.assertEqual(self.exchange("r0", reply, 200),
                             [("c0", tagged(relinked(reply, C0_MAC, GATEWAY_MAC, packet), 100))])
        with self.subTest("a next hop"):
            syn = tcp("S", cip=CLIENT, cport=40001, vip=LATE_VIP)
            asked = arp(sender=R0_MAC, sender_ip=OWN[200], target_ip=LATE_SERVER)
            self.assertEqual(self.exchange("c0", syn, 100), [("r0", tagged(asked, 200))])
            mac = server_mac(2)
            told = arp(2, sender=mac, sender_ip=LATE_SERVER, target=R0_MAC, target_ip=OWN[200], link_destination=R0_MAC)
            # Only who says it there is believed.
            self.assertEqual(self.exchange("r0", told, 100), [])
            self.assertEqual(self.exchange("r0", told, 200),
                             [("r0", tagged(to_server("dr", syn, LATE_SERVER, mac), 200))])
        with self.subTest("a virtual router"):
            self.live.wait_for("master", lambda metrics: metrics.by("weir_vrrp_state", "instance") == {"vi": 2})
            def is_advertisement(item):
                return item[1][:22] == tagged(bytes(Ether(src=VIRTUAL_MAC, dst="01:00:5e:00:00:12", type=0x800)), 100)[
                    :18] + b"\x45\xc0\0\x20"
            self.live.drain()
            seen = self.live.receive(20, lambda got: any(is_advertisement(item) for item in got))
            self.assertTrue(any(is_advertisement(item) for item in seen), seen)
            syn = tcp("S", cip=CLIENT, cport=40002, vip=HELD_VIP, head=ether(destination=VIRTUAL_MAC))
            self.assertEqual(self.exchange("c0", syn, 100), [("r0", tagged(to_server("dr", syn), 200))])
            self.assertEqual(self.exchange("c0", syn), [])
            self.assertEqual(director.metrics().by(DROPS, "reason").get("foreign_mac"), 1)
        with self.subTest("the kernel"):
            asked = tagged(arp(sender=C0_MAC, sender_ip=OWN[100], target_ip="10.100.0.77"), 100)
            with self.live.namespace.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
                wire.sendto(b"", ("10.100.0.77", 9))
            seen = self.live.receive(20, lambda got: any(out[:46] == asked for _, out in got))
            self.assertIn(("c0", asked), [(port, out[:46]) for port, out in seen])
            told = arp(2, sender=GATEWAY_MAC, sender_ip="10.100.0.77", target=C0_MAC, target_ip=OWN[100],
                       link_destination=C0_MAC)
            self.live.send("c0", tagged(told, 100))
            links = bytes(Ether(src=C0_MAC, dst=GATEWAY_MAC))[:12]
            seen = self.live.receive(20, lambda got: any(is_datagram(out) for _, out in got))
            self.assertTrue(any(out.startswith(tagged(links, 100)) and is_datagram(out) for _, out in seen), seen)


if __name__ == "__main__":
    unittest.main()
