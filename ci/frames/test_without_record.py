"""Flows that began while the connection table was full: all that belongs to them goes where their first packet went."""

import unittest

from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.l2 import Ether
from scapy.layers.sctp import (SCTP, SCTPChunkAbort, SCTPChunkCookieEcho, SCTPChunkData, SCTPChunkHeartbeatReq,
                               SCTPChunkInit, SCTPChunkSACK, SCTPChunkShutdown)
from scapy.packet import Raw

from batch import unaccounted
from frames import ETHERNET, ether, tcp
from harness import Live
from services import DR_VIP, NAT_TCP_PORT, NAT_VIP, TUN_VIP
from topology import R0_ADDRESS, R0_MAC, Setup, rip, server_mac, service

CAPACITY = 1024
SERVERS = 4
VIPS = (DR_VIP, NAT_VIP, TUN_VIP)
CLIENT = "198.51.100.1"
PORTS = range(4000, 4012)
ROUTER = "203.0.113.254"
CHUNKS = (SCTPChunkCookieEcho(cookie=b"a" * 8), SCTPChunkData(data=b"abcd"), SCTPChunkSACK(), SCTPChunkHeartbeatReq(),
          SCTPChunkShutdown(), SCTPChunkAbort())


def segment(flags, vip, port):
    """A segment of one of the flows."""
    return tcp(flags, cip=CLIENT, cport=port, vip=vip)


def too_big(head, source, to, quote):
    """Fragmentation needed of a router's, about the packet `quote`."""
    return bytes(head / IP(src=source, dst=to) / ICMP(type=3, code=4, nexthopmtu=1400) / Raw(quote))


class WithoutRecord(unittest.TestCase):
    """A director whose table others have filled."""

    def setUp(self):
        self.live = Live()
        self.addCleanup(self.live.close)

    def fill(self, **connections):
        """Starts a director and fills its table."""
        services = [service("dr", SERVERS, address=DR_VIP), service("tun", SERVERS, address=TUN_VIP),
                    service("nat", SERVERS, address=NAT_VIP, server_port=NAT_TCP_PORT)]
        services += [service("dr", SERVERS, address=DR_VIP, protocol="sctp", port=90),
                     service("nat", SERVERS, address=NAT_VIP, protocol="sctp", port=90, server_port=8090)]
        self.live.start(Setup(services=services, connections={"capacity": CAPACITY, **connections}))
        self.others("S")
        self.wait_for_connections(CAPACITY)

    def others(self, flags):
        """A segment of each connection that fills the table."""
        for at in range(0, CAPACITY, 128):
            self.live.exchange_all("c0", [tcp(flags, cip=f"203.0.{100 + k // 200}.{1 + k % 200}", vip=DR_VIP)
                                          for k in range(at, at + 128)])

    def wait_for_connections(self, number):
        """Returns when there are so many records."""
        self.live.wait_for(f"{number} records", lambda metrics: metrics.total("weir_connections") == number)

    def only(self, port, frame):
        """The one frame that comes of one, and where."""
        out = self.live.exchange(port, frame)
        self.assertEqual(len(out), 1, out)
        return out[0]

    def server(self, frame):
        """The number of the real server that a client's packet goes to."""
        port, out = self.only("c0", frame)
        self.assertEqual(port, "r0", out.hex())
        return next(number for number in range(1, SERVERS + 1) if Ether(out).dst == server_mac(number))

    def servers(self, flags, vip):
        """Those of all flows."""
        return [self.server(segment(flags, vip, port)) for port in PORTS]

    def test_all_segments_reach_one_server(self):
        self.fill()
        for vip in VIPS:
            first = self.servers("S", vip)
            self.assertGreater(len(set(first)), 1)
            for flags in ("A", "PA", "FA", "R", "RA"):
                self.assertEqual(self.servers(flags, vip), first, f"{vip} {flags}")
        self.assertEqual(unaccounted(self.live.director), [])

    def test_associations_can_be_made(self):
        for switches in ({}, {"sloppy_sctp": True}):
            self.fill(**switches)
            for vip in (DR_VIP, NAT_VIP):
                def packet(chunk):
                    head = ether() / IP(src=CLIENT, dst=vip) / SCTP(sport=4000, dport=90, tag=5)
                    return bytes(head / chunk)
                first = self.server(packet(SCTPChunkInit(init_tag=1, n_in_streams=1, n_out_streams=1)))
                for chunk in CHUNKS:
                    self.assertEqual(self.server(packet(chunk)), first, f"{vip} {chunk.summary()}")

    def test_routers_errors_arrive(self):
        self.fill()
        for vip in VIPS:
            for port in PORTS[:3]:
                first = self.server(segment("S", vip, port))
                quote = bytes(IP(src=vip, dst=CLIENT, flags="DF", len=1500) / TCP(sport=80, dport=port, flags="A"))
                error = too_big(ether(), ROUTER, vip, quote[:28])
                self.assertEqual(self.server(error), first, vip)
                if vip == NAT_VIP:
                    self.check_error_to_client(first, port)
                if vip == TUN_VIP:
                    self.check_tunnel_error(first, port)

    def check_error_to_client(self, server, port):
        """A router's error about what went to a NAT real server reaches the client, as being about the VIP."""
        quote = bytes(IP(src=CLIENT, dst=rip(server), flags="DF", len=1500) / TCP(sport=port, dport=NAT_TCP_PORT))
        head = Ether(src=server_mac(server), dst=R0_MAC)
        out, frame = self.only("r0", too_big(head, "10.99.0.250", CLIENT, quote[:28]))
        error = IP(frame[ETHERNET:])
        quoted = IP(bytes(error[ICMP].payload))
        self.assertEqual((out, error.src, error.dst, error[ICMP].nexthopmtu), ("c0", NAT_VIP, CLIENT, 1400))
        self.assertEqual((quoted.dst, bytes(quoted.payload)[2:4]), (NAT_VIP, b"\0\x50"))

    def check_tunnel_error(self, server, port):
        """A router's error about the tunnel packet reaches the client, as being about its own."""
        tunnel = self.only("c0", segment("A", TUN_VIP, port))[1][ETHERNET:]
        head = Ether(src=server_mac(server), dst=R0_MAC)
        out, frame = self.only("r0", too_big(head, "10.99.0.250", R0_ADDRESS, tunnel))
        error = IP(frame[ETHERNET:])
        quoted = IP(bytes(error[ICMP].payload))
        self.assertEqual((out, error.src, error.dst, error[ICMP].nexthopmtu), ("c0", TUN_VIP, CLIENT, 1380))
        self.assertEqual((quoted.src, quoted.dst), (CLIENT, TUN_VIP))

    def test_flows_stay_with_their_servers_when_there_is_room(self):
        for switches in ({}, {"sloppy_tcp": True}):
            self.fill(timeouts={"tcp_close": 1}, **switches)
            first = self.servers("S", DR_VIP)
            self.assertEqual(self.servers("A", DR_VIP), first)
            self.others("A")
            self.others("R")
            self.wait_for_connections(0)
            for _ in range(2):
                self.assertEqual(self.servers("PA", DR_VIP), first, switches)
            self.wait_for_connections(len(PORTS))


if __name__ == "__main__":
    unittest.main()
