"""Multicast listener discovery: which groups weir says it hears, when, and whom it answers."""

import unittest

from scapy.layers.inet6 import (ICMPv6MLDMultAddrRec, ICMPv6MLQuery, ICMPv6MLQuery2, ICMPv6MLReport, IPv6,
                                IPv6ExtHdrHopByHop, RouterAlert)
from scapy.layers.l2 import Ether

from harness import Live, is_listener_report
from topology import C0_MAC, RealServer, Setup, VirtualServer, rip6, with_ipv6

VIP6 = "2001:db8::1:100"
QUERIER, QUERIER_MAC = "fe80::99", "02:00:00:00:01:99"
LINK_LOCAL = "fe80::ff:fe00:101"
OWN_GROUP, VIP_GROUP, VRRP_GROUP = "ff02::1:ff00:1", "ff02::1:ff01:100", "ff02::12"
GROUPS = {OWN_GROUP, VIP_GROUP, VRRP_GROUP}
REPORTS, QUERIES = "weir_mld_reports_total", "weir_mld_queries_total"
DROPS = "weir_drops_total"


def setup(is_served=True):
    """A virtual server of IPv6, or none, and a backup of a virtual router whose addresses are not reported."""
    services = [VirtualServer(address=VIP6, servers=[RealServer(rip6(1), 80)])] if is_served else []
    made = with_ipv6(Setup(services=services))
    made.vrrp = [{"name": "v6", "port": "c0", "virtual_router_id": 51, "startup_delay": 600,
                  "addresses": ["fe80::1:57", "2001:db8::1:57"]}]
    return made


def query(kind=ICMPv6MLQuery2, options=(RouterAlert(),), delay=200, group="::", **ip):
    """Which groups do you hear?"""
    head = Ether(src=QUERIER_MAC, dst="33:33:00:00:00:01") / IPv6(**{"src": QUERIER, "dst": "ff02::1", "hlim": 1, **ip})
    return bytes(head / IPv6ExtHdrHopByHop(options=list(options)) / kind(mrd=delay, mladdr=group))


class Listener(unittest.TestCase):
    """One weir for all of it."""

    @classmethod
    def setUpClass(cls):
        cls.live = Live()

    @classmethod
    def tearDownClass(cls):
        cls.live.close()

    def reports(self, seconds):
        """Type of the records and groups of each report on the clients' port; 0: of version 1."""
        found = []
        for port, frame in self.live.receive(seconds):
            if port != "c0" or not is_listener_report(frame[12:]):
                continue
            packet = Ether(frame)
            self.assertEqual((packet.src, packet[IPv6].src, packet[IPv6].hlim), (C0_MAC, LINK_LOCAL, 1))
            self.assertTrue(any(isinstance(it, RouterAlert) for it in packet[IPv6ExtHdrHopByHop].options))
            message = packet[IPv6ExtHdrHopByHop].payload
            again = IPv6(bytes(packet[IPv6]))
            del again[type(message)].cksum
            self.assertEqual(bytes(again), bytes(packet[IPv6]), "checksum")
            if ICMPv6MLReport in packet:
                self.assertEqual(packet[IPv6].dst, message.mladdr)
                found.append((0, {message.mladdr}))
            else:
                self.assertEqual((packet.dst, packet[IPv6].dst), ("33:33:00:00:00:16", "ff02::16"))
                # scapy takes what is behind the first record for a part of it.
                records = bytes(message)[8:]
                self.assertEqual(len(records), 20 * message.records_number)
                records = [ICMPv6MLDMultAddrRec(records[at:at + 20]) for at in range(0, len(records), 20)]
                for kind in sorted({record.rtype for record in records}):
                    found.append((kind, {record.dst for record in records if record.rtype == kind}))
        return found

    def test_it_reports_what_it_hears_and_answers_whoever_may_ask(self):
        self.live.start(setup())
        self.live.wait_for("both rounds", lambda metrics: metrics.total(REPORTS) >= 4)
        self.assertEqual(self.reports(0.5), [(4, GROUPS)] * 2)
        self.live.send("c0", query())
        self.assertEqual(self.reports(1), [(2, GROUPS)])
        self.live.send("c0", query(group=VIP_GROUP, dst=VIP_GROUP))
        self.live.send("c0", query(group="ff02::1:ff00:77", dst="ff02::1:ff00:77"))
        self.assertEqual(self.reports(1), [(2, {VIP_GROUP})])
        before = self.live.director.metrics()
        self.live.send("c0", query(hlim=2))
        self.live.send("c0", query(src="2001:db8:18::99"))
        self.live.send("c0", query(options=()))
        wrong = bytearray(query())
        wrong[64] ^= 1
        self.live.send("c0", bytes(wrong))
        self.assertEqual(self.reports(1), [])
        after = self.live.director.metrics()
        self.assertEqual((before.total(QUERIES), after.total(QUERIES)), (3, 3))
        dropped = after.by(DROPS, "reason").get("ether_type", 0) - before.by(DROPS, "reason").get("ether_type", 0)
        self.assertEqual(dropped, 4)
        # The virtual server goes, and its group with it.
        self.live.reload(setup(is_served=False))
        self.live.wait_for("both rounds", lambda metrics: metrics.total(REPORTS) >= after.total(REPORTS) + 4)
        left = GROUPS - {VIP_GROUP}
        self.assertEqual(self.reports(0.2), [(3, {VIP_GROUP}), (4, left)] * 2)
        # Version 1 has a report for each group.
        self.live.send("c0", query(ICMPv6MLQuery))
        self.assertEqual(sorted(map(str, self.reports(1))), sorted(str((0, {group})) for group in left))
        self.assertEqual(self.live.director.metrics().total("weir_mld_unanswered_queries_total"), 0)
