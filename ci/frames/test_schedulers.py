"""Sequences of picks through the real binary, against those of the kernel's IPVS.

Every scenario of the golden file gets a virtual server of its own, the scenarios of one scheduler are replayed in one
run of weir, and the picks are read from the destination MACs of what leaves.

Not more in one run, since scenarios repeat the same clients and ports: a client that uses one port for dozens of
virtual servers finds no room for more records, and flows without one are not scheduled.
"""

import gzip
import json
import socket
import unittest

import ipvsadm
from director import ROOT
from frames import ETHERNET, tcp, udp, with_header_checksum
from harness import replay
from topology import RealServer, Setup, VirtualServer, rip, server_mac

SCENARIOS = ROOT / "dataplane" / "testdata" / "golden" / "sched" / "basic.jsonl.gz"
SCHEDULERS = ("rr", "wrr", "lc", "wlc", "sh", "dh")
LEAST = 40


def scenarios():
    """Those that direct routing and the schedulers served now can play."""
    with gzip.open(SCENARIOS, "rt") as lines:
        found = [json.loads(line) for line in lines]
    return [scenario for scenario in found
            if scenario["scheduler"] in SCHEDULERS and scenario["mode"] == "dr" and not scenario["sysctl"]]


class Place:
    """A virtual server for scenario `number`.

    `dh` looks at the VIP, so it keeps the recorded one and gets another port; the others look at the client alone
    and get another VIP.
    """

    def __init__(self, number, scenario):
        self.scenario = scenario
        self.name = scenario["scenario"]
        self.flows = scenario["flows"]
        table = ipvsadm.Table()
        for command in scenario["setup"]:
            table.apply(command)
        (recorded,) = table.services.values()
        if scenario["scheduler"] == "dh":
            self.vip, self.port = recorded.address, 10000 + number
        else:
            self.vip, self.port = f"192.0.2.{10 + number}", recorded.port
        servers = [RealServer(server.address, self.port, server.weight, "dr") for server in recorded.servers]
        self.service = VirtualServer(self.vip, self.port, recorded.protocol, recorded.scheduler, servers,
                                     recorded.options)

    def frames(self):
        """One frame a flow, the flow's number as IP ident.

        One frame is built and patched for each flow, since there are tens of thousands; the checksum of the
        transport header is left wrong, which no director looks at.
        """
        make = tcp if self.service.protocol == "tcp" else udp
        model = make(vip=self.vip, vport=self.port)
        for ident, flow in enumerate(self.flows):
            packet = (model[ETHERNET:ETHERNET + 4] + ident.to_bytes(2, "big") + model[ETHERNET + 6:ETHERNET + 12]
                      + socket.inet_aton(flow["cip"]) + model[ETHERNET + 16:ETHERNET + 20]
                      + flow["cport"].to_bytes(2, "big") + model[ETHERNET + 22:])
            yield model[:ETHERNET] + with_header_checksum(packet)


class Schedulers(unittest.TestCase):
    """One test a scheduler, added below; each scenario is a sub-test."""

    def test_there_are_enough_scenarios(self):
        found = scenarios()
        self.assertGreaterEqual(len(found), LEAST)
        self.assertEqual({scenario["scheduler"] for scenario in found}, set(SCHEDULERS))

    def check(self, scheduler):
        mine = [scenario for scenario in scenarios() if scenario["scheduler"] == scheduler]
        places = [Place(number, scenario) for number, scenario in enumerate(mine)]
        frames = [frame for place in places for frame in place.frames()]
        result = replay(Setup(services=[place.service for place in places]), {"c0": frames})
        self.assertEqual(result.exit_status, 0, result.log[-2000:])
        self.assertEqual(result.metrics.total("weir_untracked_packets_total"), 0)
        picks = picks_of(result.ip_frames("r0"))
        for place in places:
            with self.subTest(place.name):
                expected = [flow["picked"] for flow in place.flows]
                got = [picks.pop((place.vip, place.port, ident), None) for ident in range(len(expected))]
                wrong = next((i for i, pair in enumerate(zip(expected, got)) if pair[0] != pair[1]), None)
                if wrong is not None:
                    self.fail(f"flow {wrong} ({place.flows[wrong]}): {got[wrong]}; next the kernel "
                              f"{expected[wrong:wrong + 12]}, weir {got[wrong:wrong + 12]}")
        self.assertEqual(picks, {})


def add_schedulers():
    """One method a scheduler."""
    for scheduler in SCHEDULERS:
        def method(self, scheduler=scheduler):
            self.check(scheduler)
        setattr(Schedulers, f"test_picks_of_{scheduler}_are_the_kernels", method)


def picks_of(frames):
    """`{(vip, port, ident): real server}` from forwarded frames."""
    by_mac = {bytes.fromhex(server_mac(i).replace(":", "")): rip(i) for i in range(1, 200)}
    found = {}
    for frame in frames:
        vip = ".".join(map(str, frame[30:34]))
        port = int.from_bytes(frame[36:38], "big")
        ident = int.from_bytes(frame[18:20], "big")
        if (vip, port, ident) in found:
            raise AssertionError(f"flow {ident} to {vip}:{port} left twice")
        found[vip, port, ident] = by_mac[frame[:6]]
    return found


add_schedulers()
