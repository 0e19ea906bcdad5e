"""Several devices as one by DPDK's bonding driver: a partner of LACP that scapy plays, on the far ends of two cables."""

import select
import socket
import time
import unittest

from scapy.contrib.lacp import LACP, SlowProtocol
from scapy.layers.l2 import Ether

from director import Director
from frames import arp, arp_answer
from harness import ETH_P_ALL, workdir
from netns import Namespace
from topology import C0_ADDRESS, GATEWAY, Setup

MEMBERS = ("m0", "m1")
SLOW, ARP = b"\x88\x09", b"\x08\x06"
PARTNER = "02:00:00:00:aa:00"
# Of a partner's state: it takes part, is quick, may be one of several; it is in step, and gets and sends frames.
ACTIVE, IN_STEP = 0x07, 0x38
LIMIT_SECONDS = 30


class Bond(unittest.TestCase):
    """Each test is one weir."""

    def start(self, mode, workers):
        """weir with a bond of the near ends of two cables as the clients' port."""
        self.namespace = Namespace()
        self.addCleanup(self.namespace.remove)
        self.wires, vdevs = {}, []
        for number, member in enumerate(MEMBERS):
            self.namespace.add_wire(f"near-{member}", f"far-{member}")
            with self.namespace.entered():
                wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
                wire.bind((f"far-{member}", ETH_P_ALL))
            self.addCleanup(wire.close)
            self.wires[member] = wire
            vdevs.append(f"net_af_packet{number},iface=near-{member}")
        vdevs += [f"net_bonding0,mode={mode},slave=net_af_packet0,slave=net_af_packet1", "net_null0"]
        path = self.enterContext(workdir())
        config = Setup().text({"c0": "net_bonding0", "r0": "net_null0"}, path / "weir.sock")
        director = Director(self.namespace, path, vdevs, config, workers=workers)
        self.addCleanup(director.kill)
        return director.start()

    def seen(self, is_wanted, each=lambda: None):
        """The first frame that comes back and is wanted, with the member that it came by; meanwhile `each` is called."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while time.monotonic() < deadline:
            each()
            for wire in select.select(list(self.wires.values()), [], [], 0.1)[0]:
                frame, (_, _, kind, _, _) = wire.recvfrom(2048)
                member = next(name for name, known in self.wires.items() if known is wire)
                if kind != socket.PACKET_OUTGOING and is_wanted(member, frame):
                    return member, frame
        raise AssertionError("it did not come")

    def test_active_backup_serves_by_its_first_member_and_workers_are_as_many_as_members_have_queues(self):
        director = self.start(mode=1, workers=2)
        asked = arp(target_ip=C0_ADDRESS, sender_ip=GATEWAY)
        for wire in self.wires.values():
            wire.send(asked)
        member, _ = self.seen(lambda member, frame: frame.startswith(arp_answer(asked)))
        self.assertEqual(member, "m0")
        self.assertIn("the device has 1 transmit queues, so 1 of 2 worker lcores are used", director.log())
        self.assertEqual(director.stop(), 0)

    def test_lacp_agrees_with_its_partner_while_nothing_else_is_sent_and_sends_by_both(self):
        director = self.start(mode=4, workers=1)
        told = {}
        due = [0.0]

        def partner():
            """Says what it has heard, on both cables."""
            if time.monotonic() < due[0]:
                return
            due[0] = time.monotonic() + 0.2
            for number, (member, wire) in enumerate(self.wires.items(), 1):
                own = {"actor_system_priority": 1, "actor_system": PARTNER, "actor_key": 1, "actor_port_priority": 1,
                       "actor_port_number": number, "actor_state": ACTIVE | (IN_STEP if member in told else 0)}
                heard = {field.replace("actor", "partner"): getattr(told[member], field)
                         for field in own if member in told}
                head = Ether(src=f"02:00:00:00:aa:0{number}", dst="01:80:c2:00:00:02", type=0x8809)
                wire.send(bytes(head / SlowProtocol(subtype=1) / LACP(**own, **heard)))

        def agrees(member, frame):
            if frame[12:14] == SLOW:
                told[member] = Ether(frame)[LACP]
            return len(told) == 2 and all(lacp.actor_state & IN_STEP == IN_STEP for lacp in told.values())
        self.seen(agrees, partner)
        self.assertEqual({lacp.partner_system for lacp in told.values()}, {PARTNER})
        # Whom it sends to says by which member.
        for number in range(16):
            asked = arp(target_ip=C0_ADDRESS, sender_ip=f"198.18.0.{100 + number}", sender=f"02:00:00:00:bb:{number:02x}")
            self.wires["m1"].send(asked)
        ways = set()

        def comes_by_the_other(member, frame):
            if frame[12:14] == ARP:
                ways.add(member)
            return ways == set(MEMBERS)
        self.seen(comes_by_the_other, partner)
        self.assertEqual(director.stop(), 0)


if __name__ == "__main__":
    unittest.main()
