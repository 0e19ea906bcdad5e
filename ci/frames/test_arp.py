"""ARP dialogues: who is answered, who is believed, and what happens to packets that wait for an answer."""

import time
import unittest

from scapy.layers.inet import IP
from scapy.layers.l2 import ARP, Ether

from batch import DROPS, Batch, unaccounted
from frames import (BROADCAST, announces, arp, arp_answer, dr, ether, icmp_error, is_own_arp_request, mac, nat_reply,
                    nat_request, tcp, udp)
from harness import Live, replay
from services import DR_VIP, NAT_VIP, TUN_VIP, setup
from topology import (C0_ADDRESS, C0_MAC, GATEWAY, GATEWAY_MAC, OWN_MAC, R0_ADDRESS, R0_MAC, Setup, rip, server_mac,
                      service, static_neighbors)

# Offset in the frame and size of ARP's fields.
ARP_FIELDS = {"hwtype": (14, 2), "ptype": (16, 2), "hwlen": (18, 1), "plen": (19, 1), "op": (20, 2)}
# A host of the clients' side that is nobody's next hop.
STRANGER = "198.18.0.77"
EVIL = "02:00:00:00:66:66"
CONFLICTS = "weir_arp_conflicts_total"


def without(*addresses):
    """The static neighbours but for these."""
    return {address: link for address, link in static_neighbors().items() if address not in addresses}


def is_request_for(frame, address):
    """The director asks for `address`."""
    return is_own_arp_request(frame) and Ether(frame)[ARP].pdst == address and not announces(frame, address)


def from_neighbour(client):
    """A datagram to the NAT VIP from a client that is a neighbour of the director's."""
    return udp(cip=client, vip=NAT_VIP, datagram={"chksum": 0})


def answer_to(client):
    """The real server's answer to it."""
    return udp(cip=rip(1), cport=5353, vip=client, vport=40001, head=Ether(src=server_mac(1), dst=R0_MAC),
               datagram={"chksum": 0})


def server_answers(number, port="r0"):
    """Real server `number` tells the director its MAC."""
    return arp(op=2, sender=server_mac(number), sender_ip=rip(number), target=OWN_MAC[port], target_ip=R0_ADDRESS,
               link_destination=OWN_MAC[port])


class ArpAnswers(unittest.TestCase):
    """Requests in, answers out."""

    def test_vips_and_own_addresses_are_answered_with_the_ports_mac(self):
        batch = Batch()
        for address in (DR_VIP, TUN_VIP, NAT_VIP, C0_ADDRESS):
            request = arp(target_ip=address)
            batch.answer("arp", f"who has {address}", request, arp_answer(request), port="c0")
        for address in (R0_ADDRESS, NAT_VIP):
            request = arp(sender=server_mac(1), sender_ip=rip(1), target_ip=address)
            batch.answer("arp", f"who has {address}, server side", request, arp_answer(request, "r0"), port="r0")
        unicast = arp(link_destination=C0_MAC, target=C0_MAC)
        batch.answer("arp", "unicast request", unicast, arp_answer(unicast))
        probe = arp(sender_ip="0.0.0.0")
        batch.answer("arp", "probe (RFC 5227)", probe, arp_answer(probe))
        tagged = arp(vlan=31)
        batch.answer("arp", "tagged", tagged, arp_answer(tagged))
        padded = arp()
        batch.answer("arp", "padded", padded + bytes(18), arp_answer(padded), padding=bytes(18))
        batch.run(self, setup())

    def test_nobody_elses_address_is_answered(self):
        batch = Batch()
        for address in (GATEWAY, "198.18.0.77", "192.0.2.99", rip(1), "203.0.113.50", "0.0.0.0", "255.255.255.255",
                        "198.18.0.255"):
            batch.drop("foreign_arp", f"stranger: who has {address}", arp(target_ip=address, sender_ip=STRANGER))
            batch.absorb(f"next hop: who has {address}", arp(target_ip=address))
        batch.run(self, setup())

    def test_a_proxied_prefix_is_answered_and_nothing_beside_it(self):
        batch = Batch()
        for address in ("10.99.0.11", "10.99.0.128", "10.99.0.254"):
            request = arp(target_ip=address)
            batch.answer("arp", f"who has {address}", request, arp_answer(request))
        batch.drop("foreign_arp", "outside the prefix", arp(target_ip="10.99.1.11", sender_ip=STRANGER))
        batch.drop("foreign_arp", "the other port proxies nothing",
                   arp(sender_ip="10.99.0.77", target_ip="10.99.0.128"), port="r0")
        batch.run(self, setup(port_options={"c0": {"proxy_arp": ["10.99.0.0/24"]}}))

    def test_malformed_arp_is_dropped(self):
        batch = Batch()
        for name, fields in {
                "hardware type 6": {"hwtype": 6}, "protocol IPv6": {"ptype": 0x86DD}, "hardware length 8": {"hwlen": 8},
                "protocol length 16": {"plen": 16}, "operation 0": {"op": 0}, "operation 3": {"op": 3},
                "operation 65535": {"op": 65535}, "operation 8 (InARP)": {"op": 8},
        }.items():
            request = bytearray(arp())
            for key, value in fields.items():
                at, size = ARP_FIELDS[key]
                request[at:at + size] = value.to_bytes(size, "big")
            batch.drop("bad_arp", name, bytes(request))
        batch.drop("bad_arp", "sender MAC is broadcast", arp(sender=BROADCAST, link_source=GATEWAY_MAC))
        batch.drop("bad_arp", "sender MAC is multicast", arp(sender="01:00:5e:00:00:01", link_source=GATEWAY_MAC))
        batch.drop("bad_arp", "sender MAC is zero", arp(sender="00:00:00:00:00:00", link_source=GATEWAY_MAC))
        batch.drop("bad_arp", "sender IP is broadcast", arp(sender_ip="255.255.255.255"))
        batch.drop("bad_arp", "sender IP is multicast", arp(sender_ip="224.0.0.5"))
        batch.drop("bad_arp", "sender IP is loopback", arp(sender_ip="127.0.0.1"))
        batch.run(self, setup())

    def test_vips_are_announced_at_start(self):
        result = replay(setup(), {})
        for address in (DR_VIP, TUN_VIP, NAT_VIP):
            found = [frame for frame in result.out["c0"] if announces(frame, address)]
            self.assertGreaterEqual(len(found), 1, f"no gratuitous ARP for {address}")
            for frame in found:
                self.assertEqual(frame[:12], mac(BROADCAST) + mac(C0_MAC))
                self.assertEqual(Ether(frame)[ARP].hwsrc, C0_MAC)

    def test_a_thousand_requests_are_a_thousand_answers(self):
        requests = [arp(sender_ip=f"198.18.0.{1 + i % 250 + 1}") for i in range(1000)]
        result = replay(setup(), {"c0": requests})
        answers = [frame for frame in result.out["c0"] if not is_own_arp_request(frame)]
        self.assertEqual(sorted(answers), sorted(arp_answer(request) for request in requests))


class Conflicts(unittest.TestCase):
    """Another host claims what is not its own."""

    @classmethod
    def setUpClass(cls):
        cls.live = Live()

    @classmethod
    def tearDownClass(cls):
        cls.live.close()

    def claims(self, address, port):
        """Every way to claim an address: announcement by request and by reply, reply to us, request for us."""
        own = {"c0": C0_ADDRESS, "r0": R0_ADDRESS}[port]
        return [
            arp(sender=EVIL, sender_ip=address, target_ip=address),
            arp(op=2, sender=EVIL, sender_ip=address, target=BROADCAST, target_ip=address),
            arp(op=2, sender=EVIL, sender_ip=address, target=OWN_MAC[port], target_ip=own,
                link_destination=OWN_MAC[port]),
            arp(sender=EVIL, sender_ip=address, target_ip=own),
        ]

    def conflicts(self):
        """Conflicts counted so far."""
        return self.live.director.metrics().total(CONFLICTS)

    def test_a_claim_to_a_vip_is_counted_and_not_believed(self):
        self.live.start(setup())
        for number, frame in enumerate(self.claims(DR_VIP, "c0"), 1):
            self.live.exchange("c0", frame, keep_arp=True)
            self.assertEqual(self.conflicts(), number, frame.hex())
        packet = tcp("S")
        self.assertEqual(self.live.exchange("c0", packet), [("r0", dr(packet))])
        request = arp(sender="02:00:00:00:01:77", sender_ip="198.18.0.77")
        self.assertIn(("c0", arp_answer(request)), self.live.exchange("c0", request, keep_arp=True))

    def test_a_claim_to_an_own_address_is_counted_and_not_believed(self):
        self.live.start(setup())
        for number, frame in enumerate(self.claims(R0_ADDRESS, "r0"), 1):
            self.live.exchange("r0", frame, keep_arp=True)
            self.assertEqual(self.conflicts(), number, frame.hex())
        packet = udp(vip=TUN_VIP)
        ((port, out),) = self.live.exchange("c0", packet)
        self.assertEqual((port, out[:12], out[26:30]), ("r0", mac(server_mac(1)) + mac(R0_MAC), bytes([10, 99, 0, 1])))

    def test_no_packet_changes_a_static_neighbour(self):
        self.live.start(setup())
        for number, frame in enumerate(self.claims(rip(1), "r0"), 1):
            self.live.exchange("r0", frame, keep_arp=True)
            self.assertEqual(self.conflicts(), number, frame.hex())
            packet = tcp("S", cport=42000 + number)
            self.assertEqual(self.live.exchange("c0", packet), [("r0", dr(packet))], frame.hex())
        for frame in self.claims(GATEWAY, "c0"):
            self.live.exchange("c0", frame, keep_arp=True)
        packet = udp(vport=54)
        ((port, out),) = self.live.exchange("c0", packet)
        self.assertEqual((port, out[:6], out[34:36]), ("c0", mac(GATEWAY_MAC), b"\3\3"))
        self.assertEqual(out[:18] + out[20:24], icmp_error(packet, 3, 3)[:18] + icmp_error(packet, 3, 3)[20:24])

    def test_the_right_owner_is_no_conflict(self):
        self.live.start(setup())
        self.live.exchange("r0", server_answers(1), keep_arp=True)
        self.live.exchange("r0", arp(sender=server_mac(1), sender_ip=rip(1), target_ip=rip(1)), keep_arp=True)
        self.assertEqual(self.conflicts(), 0)


class Resolution(unittest.TestCase):
    """Next hops without a static binding."""

    @classmethod
    def setUpClass(cls):
        cls.live = Live()

    @classmethod
    def tearDownClass(cls):
        cls.live.close()

    def start(self, **keywords):
        """One DR service on real server 1, whose MAC is not known."""
        self.live.start(Setup(services=[service("dr")], neighbors=without(rip(1)), **keywords))
        self.live.drain()

    def expect_request(self, address, port="r0", seconds=30.0):
        """Waits for the director's ARP request and returns it."""
        frames = self.live.receive(seconds, lambda got: any(is_request_for(frame, address) for _, frame in got))
        found = [(where, frame) for where, frame in frames if is_request_for(frame, address)]
        self.assertTrue(found, f"no ARP request for {address}; got {frames}")
        self.assertEqual(found[0][0], port)
        return found[0][1]

    def test_a_packet_waits_for_the_answer_and_then_leaves(self):
        self.start()
        packet = tcp("S")
        self.live.send("c0", packet)
        request = Ether(self.expect_request(rip(1)))
        self.assertEqual((request.src, request.dst), (R0_MAC, BROADCAST))
        self.assertEqual((request[ARP].hwsrc, request[ARP].psrc), (R0_MAC, R0_ADDRESS))
        self.assertEqual(request[ARP].hwdst, "00:00:00:00:00:00")
        self.assertEqual(self.live.exchange("r0", server_answers(1)), [("r0", dr(packet))])
        following = tcp("A")
        self.assertEqual(self.live.exchange("c0", following, keep_arp=True), [("r0", dr(following))])

    def test_waiting_packets_leave_in_order(self):
        self.start()
        packets = [tcp("S" if n == 0 else "A", bytes([n]), cport=43000) for n in range(3)]
        for packet in packets:
            self.live.send("c0", packet)
        self.expect_request(rip(1))
        self.live.exchange_all("c0", [])
        self.assertEqual(self.live.exchange("r0", server_answers(1)), [("r0", dr(packet)) for packet in packets])

    def test_a_binding_that_a_reload_adds_lets_waiting_packets_go(self):
        self.start()
        packet = tcp("S")
        self.live.send("c0", packet)
        self.expect_request(rip(1))
        self.live.reload(Setup(services=[service("dr")]))
        out = self.live.receive(30.0, lambda got: ("r0", dr(packet)) in got)
        self.assertIn(("r0", dr(packet)), out)

    def test_a_request_from_the_next_hop_teaches_its_mac(self):
        self.start()
        packet = tcp("S")
        self.live.send("c0", packet)
        self.expect_request(rip(1))
        asks = arp(sender=server_mac(1), sender_ip=rip(1), target_ip=R0_ADDRESS)
        out = self.live.exchange("r0", asks, keep_arp=True)
        self.assertIn(("r0", arp_answer(asks, "r0")), out)
        self.assertIn(("r0", dr(packet)), out)

    def test_a_tagged_packet_asks_and_leaves_on_its_own_vlan(self):
        self.start()
        packet = tcp("S", head=ether(vlan=7))
        self.live.send("c0", packet)
        frames = self.live.receive(30.0, lambda got: any(frame[12:16] == b"\x81\0\0\x07" for _, frame in got))
        request = Ether(next(frame for _, frame in frames if frame[12:16] == b"\x81\0\0\x07"))
        self.assertEqual((request[ARP].op, request[ARP].pdst, request[ARP].hwsrc), (1, rip(1), R0_MAC))
        untagged = arp(op=2, sender=EVIL, sender_ip=rip(1), target=R0_MAC, target_ip=R0_ADDRESS,
                       link_destination=R0_MAC)
        self.assertEqual(self.live.exchange("r0", untagged), [])
        answer = arp(op=2, sender=server_mac(1), sender_ip=rip(1), target=R0_MAC, target_ip=R0_ADDRESS,
                     link_destination=R0_MAC, vlan=7)
        self.assertEqual(self.live.exchange("r0", answer), [("r0", dr(packet))])

    def test_the_gateway_is_resolved_for_answers_and_nat_replies(self):
        self.live.start(setup(neighbors=without(GATEWAY)))
        self.live.drain()
        packet = udp(vip=NAT_VIP)
        self.assertEqual(self.live.exchange("c0", packet), [("r0", nat_request(packet, port=5353))])
        reply = udp(cip=rip(1), cport=5353, vip="203.0.113.50", vport=40001,
                    head=Ether(src=server_mac(1), dst=R0_MAC))
        self.live.send("r0", reply)
        self.expect_request(GATEWAY, "c0")
        answer = arp(op=2, target=C0_MAC, target_ip=C0_ADDRESS, link_destination=C0_MAC)
        self.assertEqual(self.live.exchange("c0", answer), [("c0", nat_reply(reply, NAT_VIP, 53))])

    def test_silent_clients_by_the_thousand_leave_room_for_new_ones_and_for_new_real_servers(self):
        wide = {"c0": {"addresses": [C0_ADDRESS + "/16"]}}
        nat = service("nat", address=NAT_VIP, protocol="udp", port=53, server_port=5353)
        clients = [f"198.18.{100 + n // 250}.{1 + n % 250}" for n in range(2000)]
        asked, answered = [from_neighbour(client) for client in clients], [answer_to(client) for client in clients]
        self.live.start(Setup(services=[nat], port_options=wide))
        for first in range(0, len(clients), 250):
            self.live.exchange_all("c0", asked[first:first + 250])
            self.live.exchange_all("r0", answered[first:first + 250])
        self.live.drain()
        # A client that answers gets what waited for it.
        self.live.exchange("c0", from_neighbour("198.18.7.7"))
        self.live.send("r0", answer_to("198.18.7.7"))
        self.expect_request("198.18.7.7", "c0")
        answer = arp(op=2, sender=EVIL, sender_ip="198.18.7.7", target=C0_MAC, target_ip=C0_ADDRESS,
                     link_destination=C0_MAC)
        out = [Ether(frame) for port, frame in self.live.exchange("c0", answer) if port == "c0"]
        self.assertEqual([(frame.dst, frame[IP].src, frame[IP].dst) for frame in out], [(EVIL, NAT_VIP, "198.18.7.7")])
        # And so does a real server that a reload adds.
        added = service("dr", servers=2)
        added.servers = added.servers[1:]
        self.live.reload(Setup(services=[nat, added], port_options=wide, neighbors=without(rip(2))))
        self.live.drain()
        packet = tcp("S")
        self.live.send("c0", packet)
        self.expect_request(rip(2))
        self.assertEqual(self.live.exchange("r0", server_answers(2)), [("r0", dr(packet, 2))])
        self.assertEqual(unaccounted(self.live.director), [])

    def test_packets_on_tags_that_nobody_has_take_no_seat_from_the_ports_own_network(self):
        # Made before, so that all of them are there within the three seconds that one waits.
        strays = [tcp("S", cport=20000 + tag, head=ether(vlan=tag)) for tag in range(2, 1602)]
        self.start()
        for first in range(0, len(strays), 200):
            self.live.exchange_all("c0", strays[first:first + 200])
        self.live.drain()
        packet = tcp("S")
        self.live.send("c0", packet)
        self.expect_request(rip(1))
        self.assertEqual(self.live.exchange("r0", server_answers(1)), [("r0", dr(packet))])

    def test_a_neighbour_that_never_answers_costs_a_bounded_queue_and_few_requests(self):
        self.start()
        count = 500
        for number in range(count):
            self.live.send("c0", tcp("S", cport=20000 + number))
        seen = self.live.receive(3.0)
        requests = [frame for _, frame in seen if is_request_for(frame, rip(1))]
        self.assertTrue(1 <= len(requests) <= 8, f"{len(requests)} ARP requests in 3 s")
        self.assertEqual([frame for _, frame in seen if not is_own_arp_request(frame) and Ether(frame).type == 0x800
                          and frame[23] == 6], [])
        deadline = time.monotonic() + 60
        while True:
            metrics = self.live.director.metrics()
            dropped = sum(metrics.total(DROPS, reason=f"neighbor_{why}") for why in ("failed", "queue_full"))
            if dropped == count or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        self.assertEqual(dropped, count, metrics.by(DROPS, "reason"))
        self.assertGreater(metrics.total(DROPS, reason="neighbor_queue_full"), count / 2)
        self.assertEqual(unaccounted(self.live.director), [])

    def test_a_neighbour_that_comes_back_is_used_again(self):
        self.start()
        self.live.send("c0", tcp("S", cport=44000))
        self.expect_request(rip(1))
        deadline = time.monotonic() + 60
        while self.live.director.metrics().total(DROPS, reason="neighbor_failed") == 0:
            self.assertLess(time.monotonic(), deadline, "the packet waits for ever")
            time.sleep(0.1)
        packet = tcp("S", cport=44001)
        asked = False
        deadline = time.monotonic() + 60
        while not asked and time.monotonic() < deadline:
            self.live.drain()
            self.live.send("c0", packet)
            asked = any(is_request_for(frame, rip(1)) for _, frame in self.live.receive(0.5))
        self.assertTrue(asked, "no new ARP request after a failure")
        self.live.exchange("r0", server_answers(1))
        again = tcp("S", cport=44002)
        self.assertEqual(self.live.exchange("c0", again), [("r0", dr(again))])

    def test_an_answer_nobody_asked_for_makes_no_neighbour(self):
        self.start()
        self.live.exchange("r0", arp(op=2, sender=EVIL, sender_ip=rip(1), target=R0_MAC, target_ip=R0_ADDRESS,
                                     link_destination=R0_MAC))
        self.live.send("c0", tcp("S", cport=45000))
        self.expect_request(rip(1))
