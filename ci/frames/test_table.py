"""A connection table that is full: flows go on being forwarded, the same way each time, and are counted."""

import socket
import unittest

from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from batch import FORWARDED, accounting_problems
from frames import ETHERNET, mac, tcp, with_header_checksum
from harness import Live, replay
from topology import C0_MAC, GATEWAY_MAC, RealServer, Setup, VirtualServer, rip6, server_mac, service, with_ipv6

VIP6 = "2001:db8:f00d::1"
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


def segment6(flags, number):
    """A segment of a flow of IPv6."""
    packet = Ether(src=GATEWAY_MAC, dst=C0_MAC) / IPv6(src=f"2001:db8:c::{number:x}", dst=VIP6)
    return bytes(packet / TCP(sport=40000, dport=80, flags=flags))


def servers_by_client(frames):
    """`{client's address: MAC of the real server}`; a client that went to two is an error."""
    found = {}
    for frame in frames:
        client = socket.inet_ntoa(frame[26:30])
        if found.setdefault(client, frame[:6]) != frame[:6]:
            raise AssertionError(f"{client} went to two real servers")
    return found


class Changes(unittest.TestCase):
    """Flows without a record keep their real server, whatever becomes of another one."""

    def setUp(self):
        self.live = Live()
        self.addCleanup(self.live.close)

    def setup(self, *weights, **options):
        """Real servers of these weights; options are the first one's."""
        virtual = service("dr", len(weights))
        for server, weight in zip(virtual.servers, weights):
            server.weight = weight
        virtual.servers[0].options = options
        return Setup(services=[virtual], connections={"capacity": CAPACITY, "timeouts": {"tcp_close": 1}})

    def servers(self, flags, numbers):
        """`{flow: number of its real server}`"""
        found = {}
        for at in range(0, len(numbers), 100):
            frames = [tcp(flags, cip=client(number)) for number in numbers[at:at + 100]]
            for port, frame in self.live.exchange_all("c0", frames):
                self.assertEqual(port, "r0", frame.hex())
                found[socket.inet_ntoa(frame[26:30])] = frame[5] & 15
        self.assertEqual(len(found), len(numbers))
        return found

    def test_only_flows_of_a_server_whose_weight_changes_move(self):
        flows = range(CAPACITY + 1200)
        self.live.start(self.setup(1, 1, 1))
        self.servers("S", flows)
        without = flows[CAPACITY:]
        before = self.servers("A", without)
        for weights, is_right in (((1, 1, 0), lambda old, new: old == new != 3 or old == 3 != new),
                                  ((2, 1, 1), lambda old, new: new in (old, 1)),
                                  ((1, 1, 1), lambda old, new: new == old),
                                  ((1, 1), lambda old, new: old == new != 3 or old == 3 != new)):
            self.live.reload(self.setup(*weights))
            after = self.servers("PA", without)
            wrong = [flow for flow in before if not is_right(before[flow], after[flow])]
            self.assertEqual(wrong, [], f"with weights {weights}")
            moved = sum(before[flow] != after[flow] for flow in before)
            self.assertLess(moved, len(before) * 0.4, f"with weights {weights}")

    def test_the_overload_flag_moves_none(self):
        flows = range(CAPACITY + 300)
        self.live.start(self.setup(1, 1, upper_threshold=200, lower_threshold=150))
        before = self.servers("S", flows)
        without = flows[CAPACITY:]
        flagged = self.servers("A", without)
        # Its connections end, and with them the flag.
        ended = [number for number in flows[:CAPACITY] if before[client(number)] == 1]
        for flags in "AR":
            self.servers(flags, ended)
        self.live.wait_for("the connections to end", lambda metrics: metrics.total(
            "weir_connections") <= CAPACITY - len(ended))
        self.assertEqual(self.servers("PA", without), flagged)


def client(number):
    """The client of a flow."""
    return f"198.19.{number >> 8}.{number & 255}"


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

    def test_clients_of_ipv6_without_room_are_counted_as_such_and_stay_with_their_server(self):
        virtual = VirtualServer(VIP6, servers=[RealServer(rip6(number), 80) for number in range(1, SERVERS + 1)])
        setup = with_ipv6(Setup(services=[virtual], connections={"ipv6_clients": CAPACITY}))
        segments = [segment6(flags, number) for flags in "SA" for number in range(FLOWS)]
        key = "`ipv6_clients` of [connections]"
        result = replay(setup, {"c0": segments}, before_stop=lambda director: director.wait_for_log(key))
        self.assertEqual(result.exit_status, 0, result.log[-2000:])
        self.assertEqual(accounting_problems(result.metrics), [])
        self.assertEqual(result.metrics.total(FORWARDED), 2 * FLOWS)
        found = {}
        for frame in result.ip_frames("r0"):
            self.assertEqual(found.setdefault(frame[22:38], frame[:6]), frame[:6])
        self.assertEqual(len(found), FLOWS)
        self.assertGreaterEqual(result.metrics.total("weir_ipv6_clients_full_total"), 2 * (FLOWS - 4 * CAPACITY))
        self.assertEqual(result.metrics.total("weir_untracked_packets_total"), 0)
        self.assertEqual(result.log.count(key), 1, result.log[-2000:])

    def test_a_persistent_client_keeps_its_server(self):
        persistent = service("dr", SERVERS)
        persistent.options = {"persistence_timeout": 300}
        setup = Setup(services=[persistent], connections={"capacity": CAPACITY, "templates": 65536})
        clients = [client(number) for number in range(2000)]
        opened = [tcp("S", cip=source, cport=cport) for cport in (1000, 2000) for source in clients]
        result = replay(setup, {"c0": opened + [tcp("A", cip=source, cport=2000) for source in clients]})
        self.assertEqual(result.exit_status, 0, result.log[-2000:])
        self.assertEqual(accounting_problems(result.metrics), [])
        self.assertEqual(result.metrics.total("weir_templates_full_total"), 0)
        self.assertGreaterEqual(result.metrics.total("weir_untracked_packets_total"), 6000 - 2 * CAPACITY)
        self.assertEqual(len(servers_by_client(result.ip_frames("r0"))), len(clients))

    def test_flows_without_a_record_are_spread_over_the_servers(self):
        setup = Setup(services=[service("dr", SERVERS)], connections={"capacity": CAPACITY})
        result = replay(setup, {"c0": list(flows("S"))})
        picked = list(servers_by_client(result.ip_frames("r0")).values())
        for number in range(1, SERVERS + 1):
            share = picked.count(mac(server_mac(number))) / FLOWS
            self.assertAlmostEqual(share, 1 / SERVERS, delta=0.1)
