"""Virtual servers that are a mark: many addresses, ports and protocols behind one list of real servers."""

import unittest

from scapy.layers.inet import IP
from scapy.layers.sctp import SCTP, SCTPChunkInit

from batch import Batch
from frames import (CLIENT, arp, arp_answer, dr, echo, echo_reply, ether, icmp_error, ip_packet, nat_reply, nat_request,
                    relinked, tcp, tcp_reset, tun, udp)
from harness import Live
from test_icmp import error, requoted, told_to_client
from topology import OWN_ADDRESS, OWN_MAC, Setup, rip, server_mac, service

FIRST, SECOND = "192.0.2.41", "192.0.2.42"
OTHER_CLIENT = "203.0.113.150"
NETWORK = "192.0.2.64/26"
WIDE = "172.20.0.0/15"


def marked(*traffic, mark=1, forwarding="dr", servers=2, **keywords):
    """A virtual server with a mark, which `traffic` (contents of `[[mark]]`s) has."""
    return service(forwarding, servers, mark=mark, marked=list(traffic), **keywords)


def setup(*services, **keywords):
    """A setup with these virtual servers."""
    return Setup(services=list(services), **keywords)


def both(**more):
    """What goes into a `[[mark]]` of the two single addresses."""
    return {"addresses": [FIRST, SECOND], **more}


def init(**ip):
    """A client's SCTP INIT."""
    packet = ether() / IP(**{"src": CLIENT, "dst": FIRST, "flags": "DF", **ip}) / SCTP(sport=40002, dport=9899, tag=0)
    return bytes(packet / SCTPChunkInit(init_tag=7, a_rwnd=65536, n_out_streams=1, n_in_streams=1, init_tsn=1))


class MarksAlone(unittest.TestCase):
    """One run a test, over captures."""

    def test_addresses_ports_and_protocols_of_a_mark_share_a_round(self):
        batch = Batch()
        opening = [tcp(vip=FIRST), tcp(vip=SECOND, vport=443), udp(vip=FIRST, vport=9), udp(vip=SECOND), init(),
                   tcp(vip=FIRST, vport=65535), udp(vip=FIRST, vport=0)]
        for number, frame in enumerate(opening):
            batch.forward(f"number {number}", frame, dr(frame, 2 - number % 2))
        batch.run(self, setup(marked(both())))

    def test_each_method_sends_marked_packets_its_way(self):
        for method, shape in (("dr", dr), ("tun", tun), ("nat", lambda frame: nat_request(frame, port=None))):
            batch = Batch()
            for vip, vport in ((FIRST, 80), (SECOND, 80), (SECOND, 8443)):
                frame = tcp(vip=vip, vport=vport)
                batch.forward(f"{vip}:{vport}", frame, shape(frame))
            batch.run(self, setup(marked(both(), forwarding=method, servers=1)))

    def test_what_is_not_marked_is_looked_up_by_address_and_port(self):
        services = [marked(both(ports=["80", "8000-8999"], protocols=["tcp"]), servers=1),
                    service("dr", 2, address=FIRST, port=443)]
        services[1].servers = services[1].servers[1:]
        batch = Batch()
        for vport in (80, 8000, 8500, 8999):
            frame = tcp(vip=FIRST, vport=vport)
            batch.forward(f"port {vport}", frame, dr(frame, 1))
        frame = tcp(vip=FIRST, vport=443)
        batch.forward("a virtual server of its own", frame, dr(frame, 2))
        for vport in (79, 81, 7999, 9000):
            frame = tcp(vip=FIRST, vport=vport)
            batch.answer("tcp_reset", f"port {vport}", frame, tcp_reset(frame))
        frame = udp(vip=FIRST, vport=80)
        batch.answer("port_unreachable", "UDP", frame, icmp_error(frame, 3, 3))
        batch.run(self, setup(*services))

    def test_the_first_mark_that_matches_wins_and_marks_win_over_addresses(self):
        services = [marked({"addresses": [FIRST], "sources": [OTHER_CLIENT]}, mark=1, servers=1),
                    marked({"addresses": ["192.0.2.0/25"], "ports": [80]}, mark=2),
                    service("dr", 3, address=FIRST)]
        services[1].servers = services[1].servers[1:]
        services[2].servers = services[2].servers[2:]
        batch = Batch()
        # Turn about, so that no lookup can be kept from the client before.
        for number in range(6):
            cip = (CLIENT, OTHER_CLIENT)[number % 2]
            frame = tcp(cip=cip, cport=41000 + number, vip=FIRST)
            batch.forward(f"{cip} {number}", frame, dr(frame, 2 - number % 2))
        batch.run(self, setup(*services))

    def test_a_mark_that_nobody_serves_leaves_traffic_to_address_and_port(self):
        served = marked({"addresses": [FIRST]}, {"addresses": [SECOND]}, mark=1, servers=2)
        served.servers = served.servers[1:]
        shadow = service("dr", 1, address=FIRST)
        # A [[mark]] before the other's: it gives the address a mark that no virtual server has.
        shadow.marked = [{"mark": 7, "addresses": [FIRST]}]
        batch = Batch()
        for vip, server in ((FIRST, 1), (SECOND, 2)):
            frame = tcp(vip=vip)
            batch.forward(vip, frame, dr(frame, server))
        batch.run(self, setup(shadow, served))

    def test_single_addresses_are_vips_and_networks_are_routed_here(self):
        inside = "192.0.2.70"
        batch = Batch()
        for vip in (FIRST, SECOND):
            batch.answer("arp", f"ARP {vip}", arp(target_ip=vip), arp_answer(arp(target_ip=vip)))
            batch.answer("echo", f"ping {vip}", echo(vip=vip), echo_reply(echo(vip=vip)))
        batch.absorb("ARP in the network", arp(target_ip=inside))
        batch.drop("foreign_address", "ping in the network", echo(vip=inside))
        batch.forward("an address of the network", tcp(vip=inside), dr(tcp(vip=inside)))
        stray = tcp("A", vip=inside, cport=40009)
        batch.answer("tcp_reset", "a stray segment", stray, tcp_reset(stray))
        batch.drop("foreign_address", "beyond the network", tcp(vip="192.0.2.128"))
        batch.run(self, setup(marked(both(), {"addresses": [NETWORK]}, servers=1)))

    def test_proxy_arp_answers_for_a_network(self):
        batch = Batch()
        request = arp(target_ip="198.18.0.70")
        batch.answer("arp", "in proxy_arp", request, arp_answer(request))
        frame = tcp(vip="198.18.0.70")
        batch.forward("and served", frame, dr(frame))
        made = setup(marked({"addresses": ["198.18.0.64/26"]}, servers=1))
        made.port_options["c0"] = {"proxy_arp": ["198.18.0.64/26"]}
        batch.run(self, made)

    def test_a_network_does_not_hold_an_own_address(self):
        own = OWN_ADDRESS["c0"]
        batch = Batch()
        frame = tcp(vip=own)
        batch.answer("tcp_reset", "own address", frame, tcp_reset(frame))
        frame = tcp(vip="198.18.0.2")
        batch.forward("another one", frame, dr(frame))
        batch.run(self, setup(marked({"addresses": ["198.18.0.0/24"]}, servers=1)))

    def test_addresses_of_a_wide_network_are_apart_but_for_chance(self):
        batch = Batch()
        vips = [f"172.{20 + number % 2}.{number}.{255 - number}" for number in range(40)]
        for number, vip in enumerate(vips):
            frame = tcp(vip=vip)
            batch.forward(vip, frame, dr(frame, 2 - number % 2))
        for number, vip in enumerate(vips):
            frame = tcp("A", vip=vip)
            batch.forward(f"{vip} goes on", frame, dr(frame, 2 - number % 2))
        batch.run(self, setup(marked({"addresses": [WIDE]})))

    def test_a_client_keeps_its_server_over_all_ports_and_addresses(self):
        batch = Batch()
        for number, frame in enumerate([tcp(vip=FIRST), tcp(vip=FIRST, vport=443), tcp(vip=SECOND, cport=40100),
                                        udp(vip=SECOND, vport=443), udp(vip=FIRST)]):
            batch.forward(f"client, {number}", frame, dr(frame, 2))
        for number, frame in enumerate([tcp(vip=SECOND, cip=OTHER_CLIENT), udp(vip=FIRST, cip=OTHER_CLIENT)]):
            batch.forward(f"other client, {number}", frame, dr(frame, 1))
        batch.run(self, setup(marked(both(), options={"persistence_timeout": 60})))

    def test_one_packet_is_for_the_udp_of_a_mark(self):
        batch = Batch()
        for number in range(6):
            frame = udp(vip=FIRST, ttl=50 + number)
            batch.forward(f"datagram {number}", frame, dr(frame, 2 - number % 2))
        frame = tcp(vip=FIRST)
        batch.forward("SYN", frame, dr(frame, 2))
        for number in range(3):
            frame = tcp("A", vip=FIRST, ttl=50 + number)
            batch.forward(f"segment {number}", frame, dr(frame, 2))
        result = batch.run(self, setup(marked(both(), options={"one_packet": True})))
        self.assertEqual(result.metrics.total("weir_connections"), 1)

    def test_who_talks_to_itself_is_dropped(self):
        frame = tcp(cip="192.0.2.70", cport=80, vip="192.0.2.70")
        batch = Batch()
        batch.drop("own_source", "same address at both ends", frame)
        batch.run(self, setup(marked({"addresses": [NETWORK]}, servers=1)))

    def test_without_a_real_server_the_address_asked_for_says_so(self):
        batch = Batch()
        for vip in (FIRST, "192.0.2.70"):
            frame = tcp(vip=vip)
            batch.answer("port_unreachable", vip, frame, icmp_error(frame, 3, 3))
        batch.run(self, setup(marked(both(), {"addresses": [NETWORK]}, servers=0)))


class MarksOverTime(unittest.TestCase):
    """Answers and edits, over wires."""

    @classmethod
    def setUpClass(cls):
        cls.live = Live()

    @classmethod
    def tearDownClass(cls):
        cls.live.close()

    def reply(self, vport, cport, flags="SA"):
        """A NAT real server's segment."""
        return tcp(flags, cip=rip(1), cport=vport, vip=CLIENT, vport=cport, head=ether(server_mac(1), OWN_MAC["r0"]))

    def assert_through(self, given, out, back, port):
        """A client's segment reaches the real server and the answer comes from where the client sent to."""
        self.assertEqual(self.live.exchange("c0", given), [("r0", out)])
        packet = IP(given[14:])
        answer = self.reply(port, packet.sport)
        self.assertEqual(self.live.exchange("r0", answer), [("c0", nat_reply(answer, *back))])

    def test_nat_answers_come_from_the_address_and_port_that_was_asked(self):
        for server_port in (0, 8080):
            traffic = both(ports=["80", "8000-8100"], protocols=["tcp"]), {"addresses": [NETWORK]}
            self.live.start(setup(marked(*traffic, forwarding="nat", servers=1, server_port=server_port)))
            asked = [(FIRST, 80), (SECOND, 80), (SECOND, 8100), ("192.0.2.64", 25), ("192.0.2.127", 25)]
            for number, (vip, vport) in enumerate(asked):
                with self.subTest(vip=vip, vport=vport, server_port=server_port):
                    frame = tcp(vip=vip, vport=vport, cport=42000 + number)
                    port = server_port or vport
                    self.assert_through(frame, nat_request(frame, port=port), (vip, vport), port)

    def test_errors_about_marked_packets_reach_the_client_from_its_vip(self):
        self.live.start(setup(marked(both(), forwarding="nat", servers=1)))
        for vip, vport in ((FIRST, 80), (SECOND, 8443)):
            frame = tcp(vip=vip, vport=vport, cport=43000)
            ((_, out),) = self.live.exchange("c0", frame)
            quote = out[14:42]
            told = error(rip(1), CLIENT, quote)
            expected = told_to_client(told, requoted(quote, vip, vport), vip)
            self.assertEqual(self.live.exchange("r0", told), [("c0", expected)])

    def test_errors_about_answers_reach_the_server_of_the_marked_connection(self):
        self.live.start(setup(marked(both())))
        for vip, server in ((FIRST, 2), (SECOND, 1)):
            frame = tcp(vip=vip, cport=43001)
            self.assertEqual(self.live.exchange("c0", frame), [("r0", dr(frame, server))])
            answer = ip_packet(tcp("SA", cip=vip, cport=80, vip=CLIENT, vport=43001))
            told = error("203.0.113.1", vip, answer[:28], 3, 1, head=ether())
            self.assertEqual(self.live.exchange("c0", told), [("r0", dr(told, server))])

    def test_connections_go_on_through_edits_of_marks(self):
        addressed = service("dr", 1, address=FIRST)
        self.live.start(setup(addressed))
        frames = [tcp(vip=FIRST, cport=44000 + number) for number in range(3)]

        def goes_on(count, server=1):
            for number in range(count):
                frame = tcp("A", vip=FIRST, cport=44000 + number)
                self.assertEqual(self.live.exchange("c0", frame), [("r0", dr(frame, server))], number)

        self.assertEqual(self.live.exchange("c0", frames[0]), [("r0", dr(frames[0]))])
        self.live.reload(setup(addressed, marked(both(), servers=1)))
        goes_on(1)
        self.assertEqual(self.live.exchange("c0", frames[1]), [("r0", dr(frames[1]))])
        narrow = marked(both(ports=[443]), servers=1)
        self.live.reload(setup(addressed, narrow))
        self.assertEqual(self.live.exchange("c0", frames[2]), [("r0", dr(frames[2]))])
        goes_on(3)
        self.live.reload(setup(addressed))
        # The mark's virtual server is gone, and its connection with it: the client hears nothing as long as the record is there, and
        # of the sweep's passing a RST. The other two were the address's.
        sent = self.live.exchange("c0", tcp("A", vip=FIRST, cport=44001))
        self.assertEqual([frame for port, frame in sent if port == "r0"], [])
        for cport in (44000, 44002):
            frame = tcp("A", vip=FIRST, cport=cport)
            self.assertEqual(self.live.exchange("c0", frame), [("r0", dr(frame))])

    def test_a_removed_mark_leaves_nothing_behind(self):
        both_marks = [marked({"addresses": [FIRST]}, mark=1, servers=1),
                      marked({"addresses": [SECOND]}, mark=2, servers=1)]
        self.live.start(setup(*both_marks))
        for vip in (FIRST, SECOND):
            self.live.exchange("c0", tcp(vip=vip, cport=45000))
        self.live.reload(setup(both_marks[1]))
        frame = tcp("A", vip=FIRST, cport=45000)
        self.assertEqual(self.live.exchange("c0", frame), [])
        metrics = self.live.director.metrics()
        self.assertEqual(metrics.total("weir_drops_total", reason="foreign_address"), 1)
        self.live.wait_for("the connection is swept", lambda metrics: metrics.total("weir_connections") == 1)
        frame = tcp("A", vip=SECOND, cport=45000)
        self.assertEqual(self.live.exchange("c0", frame), [("r0", dr(frame))])

    def test_answers_to_clients_within_a_marked_network_are_answers(self):
        services = [service("nat", 1, address=FIRST, server_port=8080),
                    marked({"addresses": ["203.0.113.0/24"]}, servers=2)]
        services[1].servers = services[1].servers[1:]
        self.live.start(setup(*services))
        frame = tcp(vip=FIRST, cport=46000)
        self.assert_through(frame, nat_request(frame), (FIRST, 80), 8080)
        fresh = self.reply(8080, 46001, "S")
        self.assertEqual(self.live.exchange("r0", fresh),
                         [("r0", relinked(fresh, OWN_MAC["r0"], server_mac(2), dr(fresh, 2)[14:]))])
