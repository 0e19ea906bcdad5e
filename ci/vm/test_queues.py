"""Two workers on devices with two queues: which worker gets the two directions of a NAT connection."""

import json
import unittest

import lab
from machine import Guest, Nic, director
from weir import Weir

SCALING = [Nic("virtio-net-pci", "outer", 1, queues=2, rss=True), Nic("virtio-net-pci", "inner", 2, queues=2, rss=True)]
STEERED = [Nic("virtio-net-pci", "outer", 3, queues=2), Nic("virtio-net-pci", "inner", 4, queues=2)]
# Receives on its first queue alone.
SINGLE = Nic("e1000e", "inner", 5)
CONVENTIONAL = Nic("e1000", "inner", 6)
CONNECTIONS = 240
ENDED = ("TIME_WAIT", "CLOSE")
CLIENTS = ("10.10.0.10", "10.10.0.61", "10.10.0.62", "10.10.0.63")
TWO_WORKERS = "0,1,2"
COSTS = "WARN NAT replies may come to another worker than their requests, which costs some speed: "
ALIKE = "requests and NAT replies come to the same worker, by the client's address and port"

guest = None


def setUpModule():
    """One machine has them all; the client has more addresses than one."""
    global guest
    guest = Guest([*SCALING, *STEERED, SINGLE, CONVENTIONAL]).start()
    guest.hugepages(192, 192)
    guest.bind("vfio-pci", *guest.nics)
    for address in CLIENTS[1:]:
        lab.run("client", "ip", "address", "add", f"{address}/24", "dev", "outer", check=True)


def tearDownModule():
    """Switches it off."""
    if guest:
        guest.end()
    for address in CLIENTS[1:]:
        lab.run("client", "ip", "address", "delete", f"{address}/24", "dev", "outer")


def forwarded(weir, client):
    """Packets that each worker has forwarded, once each connection of this client has been closed by both sides."""
    def is_over():
        listed = json.loads(weir.get(f"/api/v1/connections?client={client}")["text"])["connections"]
        return all(connection["state"] in ENDED for connection in listed)

    lab.wait_for(f"the end of the connections of {client}", is_over, 10)
    return [worker["forwarded"] for worker in weir.workers()]


def in_one_port(text):
    """The file with both networks on the outer port."""
    ports, servers = text.split("[[port]]\nname = \"inner\"")
    outer, inner = '"10.10.0.2/24"', '"10.20.0.2/24"'
    return ports.replace(outer, f"{outer}, {inner}") + servers[servers.index("[[virtual_server]]"):]


class Nat(unittest.TestCase):
    """240 connections from four addresses, one after another; all are answered, whichever worker has what."""

    method = "two workers"

    def ask(self, weir):
        """How many connections the first worker alone, the second alone, and both forwarded packets of."""
        seen = {(True, False): 0, (False, True): 0, (True, True): 0}
        before = forwarded(weir, CLIENTS[0])
        for number in range(CONNECTIONS):
            client = CLIENTS[number % len(CLIENTS)]
            done = lab.get(f"http://{lab.VIPS['nat']}/", "--interface", client)
            self.assertEqual(done.returncode, 0, f"connection {number + 1}: {done.stderr}")
            self.assertEqual(done.stdout.split()[1], client)
            after = forwarded(weir, client)
            # The last ACK of the connection before may be late; each direction has four packets at least.
            seen[after[0] - before[0] >= 3, after[1] - before[1] >= 3] += 1
            before = after
        first, second, both = seen.values()
        print(f"connections with packets on the first worker {first}, on the second {second}, on both {both}")
        return first, second, both

    def test_with_rss_both_directions_of_a_connection_have_one_worker(self):
        with Weir(guest, *SCALING, lcores=TWO_WORKERS) as weir:
            first, second, both = self.ask(weir)
            self.assertEqual(weir.complaints(), [])
            self.assertEqual(weir.said().count(ALIKE), 1)
            self.assertEqual(sorted(worker["connections"] for worker in weir.workers()), sorted([first, second]))
        self.assertEqual(both, 0)
        self.assertGreater(min(first, second), CONNECTIONS // 4)

    def test_with_rss_and_one_port_for_all_too(self):
        director("ip", "link", "set", "inner", "master", "br-outer")
        self.addCleanup(director, "ip", "link", "set", "inner", "master", "br-inner")
        with Weir(guest, SCALING[0], None, lcores=TWO_WORKERS, change=in_one_port) as weir:
            first, second, both = self.ask(weir)
            self.assertEqual(weir.complaints(), [])
            self.assertRegex(weir.said(), "requests and NAT replies come to the same worker, by the client's (address and )?port")
        self.assertEqual(both, 0)
        self.assertGreater(min(first, second), CONNECTIONS // 4)

    def test_without_rss_every_request_is_answered_and_the_log_says_why(self):
        with Weir(guest, *STEERED, lcores=TWO_WORKERS) as weir:
            self.ask(weir)
            lacks = [f'WARN it has no receive side scaling port="{nic.lan}" device="{guest.addresses[nic]}"' for nic in STEERED]
            self.assertEqual(weir.complaints(),
                             [*lacks, COSTS + "port outer has no receive side scaling by TCP and UDP ports"])

    def test_replies_that_all_come_to_one_worker_are_found(self):
        with Weir(guest, SCALING[0], SINGLE, lcores=TWO_WORKERS) as weir:
            first, second, both = self.ask(weir)
            self.assertIn(COSTS + "port inner has no receive side scaling by TCP and UDP ports", weir.complaints())
        # The first worker has all replies, and the requests of its own connections.
        self.assertEqual(second, 0)
        self.assertGreater(min(first, both), CONNECTIONS // 4)

    def test_a_device_whose_driver_promises_too_many_queues_has_one_worker(self):
        with Weir(guest, SCALING[0], CONVENTIONAL, lcores=TWO_WORKERS) as weir:
            self.assertEqual(weir.complaints(),
                             ['WARN the device has 1 transmit queues, so 1 of 2 worker lcores are used port="inner"'])
            for vip in lab.VIPS.values():
                lab.answers(vip, 12)

    def test_more_workers_than_queues_are_said_and_left_out(self):
        with Weir(guest, *SCALING, lcores="0-3") as weir:
            self.assertEqual(len(weir.workers()), 2)
            self.assertEqual(weir.complaints(),
                             ['WARN the device has 2 transmit queues, so 2 of 3 worker lcores are used port="outer"'])
            self.assertIn(ALIKE, weir.said())
            lab.answers(lab.VIPS["nat"], 6)
