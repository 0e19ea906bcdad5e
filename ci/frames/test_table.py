"""A connection table that is full: flows go on being forwarded, the same way each time, and are counted."""

import socket
import unittest

from batch import FORWARDED, accounting_problems
from frames import ETHERNET, mac, tcp, with_header_checksum
from harness import replay
from topology import Setup, server_mac, service

CAPACITY = 1024
FLOWS = 5000
SERVERS = 3


def flows(flags):
    """One segment of each flow; the flow's number is in the client's address."""
    model = tcp(flags)
    for number in range(FLOWS):
        client = socket.inet_aton(f"198.19.{number >> 8}.{number & 255}")
        packet = model[ETHERNET:ETHERNET + 12] + client + model[ETHERNET + 16:]
        yield model[:ETHERNET] + with_header_checksum(packet)


def servers_by_client(frames):
    """`{client's address: MAC of the real server}`; a client that went to two is an error."""
    found = {}
    for frame in frames:
        client = socket.inet_ntoa(frame[26:30])
        if found.setdefault(client, frame[:6]) != frame[:6]:
            raise AssertionError(f"{client} went to two real servers")
    return found


class FullTable(unittest.TestCase):
    """More flows than records."""

    def test_every_flow_is_forwarded_and_stays_with_its_server(self):
        setup = Setup(services=[service("dr", SERVERS)], connections={"capacity": CAPACITY})
        result = replay(setup, {"c0": [*flows("S"), *flows("A"), *flows("PA")]})
        self.assertEqual(result.exit_status, 0, result.log[-2000:])
        self.assertEqual(accounting_problems(result.metrics), [])
        self.assertEqual(result.metrics.total(FORWARDED), 3 * FLOWS)
        self.assertEqual(len(servers_by_client(result.ip_frames("r0"))), FLOWS)
        self.assertLessEqual(result.metrics.total("weir_connections"), CAPACITY)
        self.assertGreater(result.metrics.total("weir_connections"), CAPACITY * 0.9)
        self.assertGreaterEqual(result.metrics.total("weir_untracked_packets_total"), 3 * (FLOWS - CAPACITY))

    def test_flows_without_a_record_are_spread_over_the_servers(self):
        setup = Setup(services=[service("dr", SERVERS)], connections={"capacity": CAPACITY})
        result = replay(setup, {"c0": list(flows("S"))})
        picked = list(servers_by_client(result.ip_frames("r0")).values())
        for number in range(1, SERVERS + 1):
            share = picked.count(mac(server_mac(number))) / FLOWS
            self.assertAlmostEqual(share, 1 / SERVERS, delta=0.1)
