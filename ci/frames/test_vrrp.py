"""Addresses of virtual routers: what a backup leaves alone, what a master answers, what is too old to be sent."""

import socket
import time
import unittest

from scapy.layers.inet6 import (ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr,
                                ICMPv6NDOptSrcLLAddr, IPv6, in6_chksum)
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vrrp import VRRPv3

from batch import DROPS, Batch
from frames import BROADCAST, arp, arp_answer, dr, echo, ether, tcp, udp
from harness import Live, is_listener_report, replay
from services import DR_VIP, setup
from stopped import Stopped
from topology import C0_MAC, OWN_ADDRESS, R0_MAC, RealServer, Setup, VirtualServer, rip6, server_mac, with_ipv6

VIRTUAL_MAC = "00:00:5e:00:01:33"
VIRTUAL_MAC6 = "00:00:5e:00:02:33"
VIP6 = "2001:db8::1:100"
GROUP6, GROUP6_MAC = "ff02::1:ff01:100", "33:33:ff:01:01:00"
HOST6, HOST6_MAC = "2001:db8::99", "02:00:00:00:01:99"
EVIL = "02:00:00:00:66:66"
ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"
STRANGER = "198.18.0.77"
REFUSED = "weir_vrrp_advertisements_refused_total"
CONFLICTS = "weir_arp_conflicts_total"


def instances(interval, **more):
    """A virtual router of each family on the clients' port."""
    common = {"port": "c0", "virtual_router_id": 51, "version": 3, "advertisement_interval": interval,
              "garp_master_repeat": 0, **more}
    return [{"name": "v4", **common, "addresses": [DR_VIP]},
            {"name": "v6", **common, "addresses": ["fe80::1:100", VIP6]}]


def solicitation(source=HOST6, destination=GROUP6, target=VIP6, mac=HOST6_MAC, link=GROUP6_MAC, options=True, **ip):
    """Who has the address?"""
    packet = Ether(src=mac, dst=link) / IPv6(**{"src": source, "dst": destination, "hlim": 255, **ip})
    packet /= ICMPv6ND_NS(tgt=target)
    return bytes(packet / ICMPv6NDOptSrcLLAddr(lladdr=mac) if options else packet)


def advertisement(to=(HOST6_MAC, HOST6), solicited=1, mac=VIRTUAL_MAC6, source=VIP6, target=VIP6, router=1):
    """The address is here."""
    packet = Ether(src=mac, dst=to[0]) / IPv6(src=source, dst=to[1], hlim=255)
    return bytes(packet / ICMPv6ND_NA(tgt=target, R=router, S=solicited, O=1) / ICMPv6NDOptDstLLAddr(lladdr=mac))


def ping6(destination=VIP6, link=VIRTUAL_MAC6):
    """An echo request."""
    packet = Ether(src=HOST6_MAC, dst=link) / IPv6(src=HOST6, dst=destination, hlim=61, tc=8, fl=77)
    return bytes(packet / ICMPv6EchoRequest(id=7, seq=9, data=b"ping of thirty-one bytes, an odd"[:31]))


def ipv6_virtual_server(**keywords):
    """A setup with a virtual server at the IPv6 address of the virtual router."""
    web = VirtualServer(address=VIP6, servers=[RealServer(rip6(1), 80)])
    return with_ipv6(Setup(services=[web], **keywords))


def tcp6(link=VIRTUAL_MAC6, flags="S", vport=80, destination=VIP6, hlim=61):
    """A client's segment."""
    packet = Ether(src=HOST6_MAC, dst=link) / IPv6(src=HOST6, dst=destination, hlim=hlim, tc=8, fl=77)
    return bytes(packet / TCP(sport=40000, dport=vport, flags=flags, seq=1000))


def dr6(frame):
    """What the real server gets of it."""
    packet = Ether(frame)
    packet.src, packet.dst = R0_MAC, server_mac(1)
    packet[IPv6].hlim -= 1
    return bytes(packet)


def vrrp(vrid=51, priority=200, source="198.18.0.250", destination="224.0.0.18", addresses=(DR_VIP,), ttl=255):
    """An advertisement of version 3, each 40 s."""
    link = C0_MAC if destination != "224.0.0.18" else "01:00:5e:00:00:12"
    packet = Ether(src=f"00:00:5e:00:01:{vrid:02x}", dst=link) / IP(src=source, dst=destination, ttl=ttl, proto=112)
    return bytes(packet / VRRPv3(vrid=vrid, priority=priority, adv=4000, addrlist=list(addresses)))


class Junk(unittest.TestCase):
    """Advertisements that no instance has a use for come first, all at once."""

    def test_the_real_one_is_heard_after_any_amount_of_junk(self):
        here, other = OWN_ADDRESS["c0"], "192.0.2.77"
        peers = {"name": "peers", "port": "c0", "virtual_router_id": 52, "version": 3, "advertisement_interval": 40.0,
                 "addresses": [other], "unicast_peers": ["198.18.0.250"], "ttl_min": 255}
        unicast = lambda **more: vrrp(52, destination=here, addresses=(other,), **more)  # noqa: E731
        frames = [vrrp(99)] * 3000 + [unicast(source="198.18.0.251")] * 1000
        # What is refused for other reasons has its own share.
        frames += [vrrp(ttl=254)] * 600 + [unicast(ttl=1)] * 600
        frames += [vrrp(), unicast()]
        heard = lambda metrics: metrics.by("weir_vrrp_advertisements_received_total", "instance")  # noqa: E731
        said = []

        # The worker is through; VRRP's own thread may not be.
        def is_heard(director):
            deadline = time.monotonic() + 60
            while not said or len(heard(said[-1])) < 2 and time.monotonic() < deadline:
                said.append(director.metrics())

        replay(setup(vrrp=instances(40.0) + [peers]), {"c0": frames}, is_heard)
        got = said[-1]
        self.assertEqual(got.by(DROPS, "reason").get("vrrp_unknown_router"), 3000, got.by(DROPS, "reason"))
        self.assertEqual(got.by(DROPS, "reason").get("vrrp_unknown_peer"), 1000)
        self.assertEqual(heard(got), {"v4": 1, "peers": 1})
        refused = {name: got.total(REFUSED, instance=name, reason="ttl") for name in ("v4", "peers")}
        self.assertTrue(all(0 < count <= 600 for count in refused.values()), refused)


class Backup(unittest.TestCase):
    """A director that is not master, and won't be while the test runs."""

    def test_it_answers_nobody_and_drops_frames_to_the_virtual_mac(self):
        batch = Batch()
        to_virtual = lambda: ether(destination=VIRTUAL_MAC)  # noqa: E731
        batch.drop("vrrp_backup", "TCP to the virtual MAC", tcp(head=to_virtual()))
        batch.drop("vrrp_backup", "UDP to the virtual MAC", udp(head=to_virtual()))
        batch.drop("vrrp_backup", "ping to the virtual MAC", echo(head=to_virtual()))
        batch.drop("vrrp_backup", "IPv6 to the virtual MAC", ping6())
        batch.drop("foreign_mac", "the virtual MAC of another VRID", tcp(head=ether(destination="00:00:5e:00:01:34")))
        batch.drop("foreign_address", "TCP to the port's MAC", tcp())
        batch.drop("foreign_address", "ping to the port's MAC", echo())
        batch.drop("foreign_arp", "who has the VIP", arp(sender_ip=STRANGER))
        batch.drop("ether_type", "who has the IPv6 address", solicitation())
        batch.drop("ether_type", "has anybody the IPv6 address", solicitation(source="::", options=False))
        batch.run(self, setup(vrrp=instances(40.0)))


    def test_its_ipv6_virtual_server_is_not_served(self):
        batch = Batch()
        for flags in "SA":
            batch.drop("vrrp_backup", f"{flags} to the virtual MAC", tcp6(flags=flags))
            batch.drop("ether_type", f"{flags} to the port's MAC", tcp6(link=C0_MAC, flags=flags))
        batch.run(self, ipv6_virtual_server(vrrp=instances(40.0)))


class Master(unittest.TestCase):
    """A director that has become master."""

    @classmethod
    def setUpClass(cls):
        cls.live = Live()

    @classmethod
    def tearDownClass(cls):
        cls.live.close()

    def start(self, made=setup, **more):
        """weir, master of both. A busy machine must not make it let go: an interval that is not short."""
        self.live.start(made(vrrp=instances(0.2, **more)))
        self.wait_for(lambda: self.live.director.metrics().by("weir_vrrp_state", "instance") == {"v4": 2, "v6": 2})
        self.live.drain()

    def wait_for(self, condition):
        """The condition holds, however busy the machine is."""
        deadline = time.monotonic() + 30
        while not condition():
            self.assertLess(time.monotonic(), deadline, self.live.director.log())

    def exchange(self, frame):
        """What weir sends because of a frame."""
        def is_vrrp(out):
            return out[12:14] == b"\x08\0" and out[23] == 112 or out[12:14] == b"\x86\xdd" and out[20] == 112

        def is_announcement(out):
            # Of the other VIPs, after the start.
            arp_of = Ether(out).getlayer(ARP)
            return arp_of is not None and Ether(out).src != VIRTUAL_MAC and arp_of.psrc == arp_of.pdst
        return [(port, out) for port, out in self.live.exchange("c0", frame, keep_arp=True)
                if not is_vrrp(out) and not is_announcement(out) and not is_listener_report(out[12:])]

    def drops(self):
        """Drops by reason."""
        return self.live.director.metrics().by(DROPS, "reason")

    def assertDropped(self, reason, frames):
        """Each of the frames is dropped for this reason and answered with nothing."""
        for name, frame in frames.items():
            before = self.drops().get(reason, 0)
            self.assertEqual(self.exchange(frame), [], name)
            self.assertEqual(self.drops().get(reason, 0), before + 1, name)

    def test_it_serves_at_the_virtual_mac_and_without_accept_nothing_else(self):
        self.start(accept=False)
        request = arp(sender="02:00:00:00:01:77", sender_ip=STRANGER)
        answer = Ether(arp_answer(request))
        answer.src = answer[ARP].hwsrc = VIRTUAL_MAC
        self.assertIn(("c0", bytes(answer)), self.exchange(request))
        for head in (ether(destination=VIRTUAL_MAC), ether(destination=C0_MAC)):
            packet = tcp(head=head)
            self.assertEqual(self.exchange(packet), [("r0", dr(packet))])
        self.assertDropped("not_accepted", {
            "another port": tcp(vport=81, head=ether(destination=VIRTUAL_MAC)),
            "another port, UDP": udp(vport=54, head=ether(destination=VIRTUAL_MAC)),
            "ping": echo(head=ether(destination=VIRTUAL_MAC)), "ping of IPv6": ping6()})
        self.assertEqual(self.exchange(solicitation()), [("c0", advertisement())])

    def test_it_serves_ipv6_at_the_virtual_mac_and_without_accept_nothing_else(self):
        self.start(ipv6_virtual_server, accept=False)
        self.assertEqual(self.exchange(solicitation()), [("c0", advertisement())])
        for flags, link in (("S", VIRTUAL_MAC6), ("A", VIRTUAL_MAC6), ("A", C0_MAC)):
            packet = tcp6(link, flags)
            self.assertEqual(self.exchange(packet), [("r0", dr6(packet))])
        self.assertDropped("not_accepted", {
            "another port": tcp6(vport=81), "the link-local address": tcp6(destination="fe80::1:100"), "ping": ping6()})
        self.assertDropped("foreign_mac", {"the virtual MAC of IPv4": tcp6(link="00:00:5e:00:01:34")})
        error = self.exchange(tcp6(hlim=1))
        self.assertEqual([(port, Ether(frame)[IPv6].src) for port, frame in error], [("c0", "2001:db8:18::1")])

    def test_it_serves_ipv6_at_the_ports_mac_without_a_virtual_one(self):
        self.start(ipv6_virtual_server, virtual_mac=False)
        self.assertEqual(self.exchange(solicitation()), [("c0", advertisement(mac=C0_MAC))])
        packet = tcp6(link=C0_MAC)
        self.assertEqual(self.exchange(packet), [("r0", dr6(packet))])
        self.assertDropped("foreign_mac", {"the virtual MAC": tcp6()})

    def test_it_answers_neighbour_solicitations_and_pings(self):
        self.start()
        self.assertEqual(self.exchange(solicitation()), [("c0", advertisement())])
        link_local = solicitation(destination="ff02::1:ff01:100", target="fe80::1:100")
        self.assertEqual(self.exchange(link_local),
                         [("c0", advertisement(source="fe80::1:100", target="fe80::1:100"))])
        unicast = solicitation(destination=VIP6, link=VIRTUAL_MAC6, options=False)
        self.assertEqual(self.exchange(unicast), [("c0", advertisement())])
        probe = solicitation(source="::", options=False)
        self.assertEqual(self.exchange(probe), [("c0", advertisement((ALL_NODES_MAC, ALL_NODES), solicited=0))])
        request = Ether(ping6())
        reply = Ether(src=VIRTUAL_MAC6, dst=HOST6_MAC) / IPv6(src=VIP6, dst=HOST6, hlim=64, tc=8, fl=77)
        reply /= ICMPv6EchoReply(id=7, seq=9, data=request[ICMPv6EchoRequest].data)
        self.assertEqual(self.exchange(ping6()), [("c0", bytes(reply))])
        answers = self.live.director.metrics().by("weir_answers_total", "kind")
        self.assertEqual((answers["nd"], answers["echo"]), (4, 1))

    def test_solicitations_that_are_not_valid_or_not_for_it_are_not_answered(self):
        self.start()
        wrong = bytearray(solicitation())
        wrong[56] ^= 0x40
        self.assertDropped("bad_nd", {
            "came over a router": solicitation(hlim=254), "checksum": bytes(wrong),
            "probe that tells a MAC": solicitation(source="::"), "from a group": solicitation(source="ff02::5")})
        self.assertDropped("ether_type", {
            "another address": solicitation(destination="ff02::1:ff01:101", target="2001:db8::1:101", link="33:33:ff:01:01:01"),
            "to another MAC": solicitation(destination=VIP6, link=EVIL)})

    def test_a_unicast_peer_of_ipv6_is_where_its_binding_says_whoever_sends_from_its_address(self):
        peer, link = "fe80::b", "02:00:00:00:01:0b"
        made = with_ipv6(Setup())
        made.port_options["c0"]["addresses"].append("fe80::a/64")
        made.neighbors[peer] = link
        made.vrrp = [{"name": "v6", "port": "c0", "virtual_router_id": 51, "advertisement_interval": 0.1,
                      "priority": 200, "unicast_peers": [peer], "addresses": ["fe80::1:100", VIP6]}]
        self.live.start(made)
        self.live.wait_for("master", lambda metrics: metrics.total("weir_vrrp_state", instance="v6") == 2)

        def assert_goes_to_the_peer():
            self.live.drain()
            frames = [frame for _, frame in self.live.receive(0.5) if frame[12:14] == b"\x86\xdd" and frame[20] == 112]
            self.assertEqual({(Ether(frame).dst, Ether(frame)[IPv6].dst) for frame in frames}, {(link, peer)})

        def from_a_stranger(wrong):
            body = bytes([0x31, 51, 100, 2, 0, 10, 0, 0]) + b"".join(
                socket.inet_pton(socket.AF_INET6, address) for address in ("fe80::1:100", VIP6))
            head = IPv6(src=peer, dst="fe80::a", nh=112, hlim=255)
            checksum = in6_chksum(112, head, body) ^ wrong
            return bytes(Ether(src=EVIL, dst=C0_MAC) / head / (body[:6] + checksum.to_bytes(2, "big") + body[8:]))
        assert_goes_to_the_peer()
        for wrong in 1, 0:
            self.live.send("c0", from_a_stranger(wrong))
            assert_goes_to_the_peer()
        found = self.live.director.metrics()
        self.assertEqual(found.by(REFUSED, "reason"), {"checksum": 1})
        self.assertEqual(found.total("weir_vrrp_advertisements_received_total"), 1)

    def test_a_claim_to_its_address_is_a_conflict_and_answered_once_a_second(self):
        self.start()
        claims = [arp(sender=EVIL, sender_ip=DR_VIP, target_ip=DR_VIP),
                  arp(op=2, sender=EVIL, sender_ip=DR_VIP, target=BROADCAST, target_ip=DR_VIP)]
        for claim in claims:
            self.live.send("c0", claim)
        is_defence = lambda frame: (frame[12:14] == b"\x08\x06" and Ether(frame).src == VIRTUAL_MAC  # noqa: E731
                                    and Ether(frame)[ARP].psrc == Ether(frame)[ARP].pdst == DR_VIP)
        self.wait_for(lambda: self.live.director.metrics().total(CONFLICTS) == 2)
        self.wait_for(lambda: self.live.director.metrics().by("weir_vrrp_defences_total", "instance") == {"v4": 1})
        # What it says as a new master looks the same, so only the counter knows how many of them are defences.
        got = self.live.exchange_all("c0", [], keep_arp=True)
        self.assertTrue(any(is_defence(frame) for _, frame in got))
        claim = 'another host claims an address of ours or a bound one port="c0"'
        self.wait_for(lambda: claim in self.live.director.log())
        packet = tcp(head=ether(destination=VIRTUAL_MAC))
        self.assertEqual(self.exchange(packet), [("r0", dr(packet))])

    def test_a_claim_to_its_ipv6_address_is_a_conflict_and_answered(self):
        self.start()
        self.live.send("c0", advertisement((ALL_NODES_MAC, ALL_NODES), 0, mac=EVIL, router=0))
        is_defence = lambda frame: (ICMPv6ND_NA in Ether(frame) and Ether(frame).src == VIRTUAL_MAC6  # noqa: E731
                                    and Ether(frame)[ICMPv6ND_NA].tgt == VIP6)
        got = self.live.receive(30.0, lambda got: any(is_defence(frame) for _, frame in got[-1:]))
        self.assertTrue(is_defence(got[-1][1]))
        self.wait_for(lambda: self.live.director.metrics().by("weir_vrrp_defences_total", "instance") == {"v6": 1})
        metrics = self.live.director.metrics()
        self.assertEqual(metrics.total(CONFLICTS), 1)
        self.assertEqual(metrics.by(DROPS, "reason").get("address_conflict"), 1)

    def test_an_owner_stays_master_whoever_says_he_is_one(self):
        self.start(priority=255)
        for priority, address in ((255, "198.18.0.254"), (255, "198.18.0.3"), (0, "198.18.0.254")):
            self.live.send("c0", vrrp(priority=priority, source=address))
        refused = lambda: self.live.director.metrics().total(REFUSED, instance="v4", reason="owner")  # noqa: E731
        self.wait_for(lambda: refused() == 3)
        metrics = self.live.director.metrics()
        self.assertEqual(metrics.by("weir_vrrp_state", "instance"), {"v4": 2, "v6": 2})
        self.assertEqual(metrics.total("weir_vrrp_released_master_total"), 0)
        # Control has the line from VRRP's thread a moment later.
        self.wait_for(lambda: "we own the addresses" in self.live.director.log())
        packet = tcp(head=ether(destination=VIRTUAL_MAC))
        self.assertEqual(self.exchange(packet), [("r0", dr(packet))])

    def test_what_waited_too_long_for_the_worker_is_not_sent(self):
        self.start()
        self.assertEqual(self.drops().get("stale", 0), 0)
        # With one lcore the main thread is the worker. VRRP's thread goes on, until it sees that nothing is taken.
        # On a busy machine it may not have come to send in that time.
        for _ in range(20):
            with Stopped(self.live.director.process.pid):
                time.sleep(0.5)
            self.live.exchange_all("c0", [])
            if self.drops().get("stale", 0) > 0:
                return
        self.fail(f"nothing was stale\n{self.live.director.explain()}")
