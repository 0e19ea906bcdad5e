"""Taking over from a kernel's IPVS: what its master told, recorded, is told to weir, and packets of such connections come."""

import gzip
import ipaddress
import json
import pathlib
import socket
import unittest

from scapy.layers.l2 import Ether

from frames import CLIENT, dr, nat_reply, nat_request, tcp
from harness import Live
from topology import R0_MAC, Setup, rip, server_mac, service

RECORDINGS = pathlib.Path(__file__).resolve().parents[2] / "sync" / "testdata"
GROUP = ("224.0.0.81", 8848)
# What is sent to the group there is heard there.
INTERFACE, ADDRESS = "wfd-told", "198.51.100.1"
# Ethernet, IPv4 and UDP before a datagram.
HEADERS = 14 + 20 + 8


def recording(name):
    """What was sent, and the list of the kernel's backup after each datagram."""
    with gzip.open(RECORDINGS / f"{name}.jsonl.gz") as file:
        recorded = json.load(file)
    datagrams = [bytes.fromhex(message)[HEADERS:] for phase in recorded["phases"] for message in phase["messages"]]
    return datagrams, [{tuple(line.split()[:8]) for line in lines}
                       for lines in recorded["backup_with_services"]["after_each_message"]]


def setup(method):
    """The virtual servers of the recordings, of which those by NAT are persistent."""
    options = {"persistence_timeout": 60} if method == "nat" else {}
    web = service(method, servers=1, server_port=80, options=options)
    names = service(method, servers=1, server_port=53, protocol="udp", port=53)
    return Setup(services=[web, names], sync={"kernel": "receive", "interface": INTERFACE, "id": 7})


def line(connection):
    """A connection as `/proc/net/ip_vs_conn` has it, without the time that it has left."""
    def end(name, port):
        return f"{int(ipaddress.ip_address(connection[name])):08X}", f"{connection[port]:04X}"
    return (connection["protocol"].upper(), *end("client", "client_port"), *end("address", "port"),
            *end("real_server", "real_server_port"), connection["state"])


def lasting(lines):
    """Those that do not end within seconds."""
    return {it for it in lines if it[-1] != "CLOSE"}


def ports(lines):
    """Clients' ports of established connections."""
    return sorted(int(it[2], 16) for it in lines if it[-1] == "ESTABLISHED")


def from_server(flags, cport, payload=b""):
    """Real server 1's segment to the client."""
    return tcp(flags, payload, cip=rip(1), cport=80, vip=CLIENT, vport=cport, head=Ether(src=server_mac(1), dst=R0_MAC))


class KernelMaster(unittest.TestCase):
    """A kernel's master tells, and then weir has the address."""

    @classmethod
    def setUpClass(cls):
        cls.live = Live()
        cls.told = 0
        cls.live.namespace.ip("link", "add", INTERFACE, "type", "veth", "peer", "name", "wfp-told")
        cls.live.namespace.ip("address", "add", f"{ADDRESS}/24", "dev", INTERFACE)
        for end in (INTERFACE, "wfp-told"):
            cls.live.namespace.ip("link", "set", end, "up")

    @classmethod
    def tearDownClass(cls):
        cls.live.close()

    def total(self, name, **labels):
        """A figure of weir's."""
        return self.live.director.metrics().total(name, **labels)

    def tell(self, datagram):
        """Returns when weir has taken it."""
        type(self).told += 1
        with self.live.namespace.entered():
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(ADDRESS))
            sender.sendto(datagram, GROUP)
        told = self.told
        self.live.wait_for("the datagram", lambda metrics: metrics.total("weir_sync_datagrams_total") == told)

    def listed(self):
        """What weir lists."""
        status, text = self.live.director.get("/api/v1/connections?templates=yes&limit=1000")
        self.assertEqual(status, 200, text)
        return {line(it) for it in json.loads(text)["connections"]}

    def replay(self, name):
        """Tells what was recorded. Lists are as those of the kernel's backup; returns the last one."""
        for datagram, expected in zip(*recording(name)):
            self.tell(datagram)
            flows = {it[:5] for it in expected}
            self.assertEqual(lasting(it for it in self.listed() if it[:5] in flows), lasting(expected), name)
        return expected

    def test_connections_go_on_where_the_kernel_had_them(self):
        self.live.start(setup("nat"))
        self.live.wait_for("the socket", lambda metrics: metrics.total("weir_sync_listening") == 1)
        # Before it was told, a segment is a stranger's.
        stranger = self.live.exchange("c0", tcp("PA", b"x", cport=40001))
        self.assertEqual([port for port, _ in stranger], ["c0"])
        expected = self.replay("v1-nat-persist")
        self.assertEqual(lasting(self.listed()), lasting(expected), "and no more")
        # The older version of the protocol; and whatever the other one's method was, here it is this file's.
        for name in ("v0-nat", "v1-dr"):
            self.replay(name)
        # Told once more are two that it told of first.
        self.refuse(recording("v1-dr")[0][0])
        first, second, third = ports(self.listed())
        # The client speaks first, or its real server does.
        for cport, order in ((first, "cr"), (second, "rc")):
            for side in order:
                frame = tcp("PA", b"x", cport=cport) if side == "c" else from_server("PA", cport, b"y")
                on = [("r0", nat_request(frame, port=80))] if side == "c" else [("c0", nat_reply(frame))]
                self.assertEqual(self.live.exchange(f"{side}0", frame), on)
        self.live.wait_for("both", lambda metrics: metrics.total("weir_foretold_taken_total") == 2)
        self.live.reload(setup("dr"))
        frame = tcp("PA", b"x", cport=third)
        self.assertEqual(self.live.exchange("c0", frame), [("r0", dr(frame))])

    def refuse(self, right):
        """What can't be right leads to nothing but a figure, and what is right is taken after it."""
        def changed(at, *octets):
            return right[:at] + bytes(octets) + right[at + len(octets):]

        before = self.listed()
        wrong = {
            "short": right[:3], "length": right[:-1], "foreign_id": changed(1, 8), "record": changed(4, 255),
            "record_version": changed(10, 0x10), "protocol": changed(9, 1), "unserved": changed(21, 81)}
        for reason, datagram in wrong.items():
            self.tell(datagram)
            self.assertEqual(self.total("weir_sync_refused_total", reason=reason), 1, reason)
        self.assertEqual({it[:7] for it in self.listed()}, {it[:7] for it in before})
        taken = self.total("weir_sync_taken_total")
        self.tell(right)
        self.assertEqual(self.total("weir_sync_taken_total") - taken, right[4])


if __name__ == "__main__":
    unittest.main()
