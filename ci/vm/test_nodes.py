"""Two NUMA nodes: where packet buffers and tables are, and what is said where that can't be had.

The machine has no IOMMU, and Debian's kernel no vfio-pci without one: devices are bound to uio_pci_generic.
"""

import re
import signal
import unittest

import lab
from machine import CPUS_OF_NODE, Guest, Nic
from weir import Weir

NEAR = Nic("virtio-net-pci", "outer", 1, node=0)
FAR = [Nic("virtio-net-pci", "outer", 2, node=1), Nic("virtio-net-pci", "inner", 3, node=1)]
PLENTY = 192
FEW = 4
# 20,000 mbufs of 2 KiB and a table for 262,144 connections: 24 and 8 hugepages of 2 MiB at least.
POOL_PAGES, TABLE_PAGES = 24, 8
SIZES = "[memory]\nmbufs = 20_000\n\n"

guest = None


def setUpModule():
    """One machine for all."""
    global guest
    guest = Guest([NEAR, *FAR], iommu=False).start()
    guest.bind("uio_pci_generic", *guest.nics)


def tearDownModule():
    """Switches it off."""
    if guest:
        guest.end()


def sized(text):
    """The lab's file with memory of a known size."""
    return SIZES + text.replace("capacity = 65_536", "capacity = 262_144")


def pages_of(weir):
    """Huge pages that the process has mapped on each node, as the kernel lists them."""
    found = dict.fromkeys(CPUS_OF_NODE, 0)
    for line in guest.run("cat", f"/proc/{weir.pid}/numa_maps").splitlines():
        if "kernelpagesize_kB=2048" in line:
            for node, count in re.findall(r"\bN(\d+)=(\d+)", line):
                found[int(node)] += int(count)
    return found


def free_pages():
    """Hugepages that are free on each node."""
    return [int(guest.run("cat", f"/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/free_hugepages"))
            for node in CPUS_OF_NODE]


class Nodes(unittest.TestCase):
    """Devices on node 1, or on both; lcores 0 and 1 are on node 0, 2 and 3 on node 1."""

    method = "two nodes"

    def weir(self, outer, inner, lcores):
        """weir with memory of a known size."""
        return Weir(guest, outer, inner, lcores=lcores, change=sized)

    def assertServes(self):
        """Requests by every method are answered."""
        for vip in lab.VIPS.values():
            lab.answers(vip, 3)

    def test_workers_on_the_ports_node_have_their_memory_there(self):
        guest.hugepages(PLENTY, PLENTY)
        with self.weir(*FAR, "2,3") as weir:
            self.assertServes()
            self.assertEqual(weir.complaints(), [])
            pages = pages_of(weir)
        print(f"hugepages by node: {pages}")
        self.assertGreaterEqual(pages[1], POOL_PAGES + TABLE_PAGES)
        self.assertLess(pages[0], TABLE_PAGES)
        self.assertEqual(free_pages(), [PLENTY, PLENTY])

    def test_workers_on_another_node_are_named_and_their_tables_are_there(self):
        guest.hugepages(PLENTY, PLENTY)
        with self.weir(*FAR, "0,1") as weir:
            self.assertServes()
            self.assertEqual(weir.complaints(), [
                f"WARN port {port} is on NUMA node 1, lcore 1 of its workers is not: each packet crosses nodes; take lcores out of "
                "2-3 for workers (-l)" for port in ("outer", "inner")])
            pages = pages_of(weir)
        print(f"hugepages by node: {pages}")
        self.assertGreaterEqual(pages[1], POOL_PAGES)
        self.assertGreaterEqual(pages[0], TABLE_PAGES)
        self.assertLess(pages[0], POOL_PAGES)

    def test_with_too_few_hugepages_on_the_node_it_works_from_the_other_and_says_so(self):
        # Enough for the driver's rings, not for more.
        guest.hugepages(PLENTY, FEW)
        with self.weir(*FAR, "0,2") as weir:
            self.assertServes()
            self.assertEqual(weir.complaints(), [
                f"WARN packet buffers are not on NUMA node 1, where device {guest.addresses[FAR[0]]} is, for lack of hugepages "
                "there: expect less speed",
                "WARN a connection table is not on NUMA node 1, where its worker is, for lack of hugepages there: expect less speed"])
            pages = pages_of(weir)
        print(f"hugepages by node: {pages}")
        self.assertLessEqual(pages[1], FEW)
        self.assertGreaterEqual(pages[0], POOL_PAGES + TABLE_PAGES)

    def test_a_node_without_any_hugepages_is_named_before_eal_fails(self):
        guest.hugepages(PLENTY, 0)
        lacks = "WARN NUMA node 1 has no free hugepages, and "
        place = "reserve a few in /sys/devices/system/node/node1/hugepages"
        devices = [f"{lacks}device {guest.addresses[nic]} is there, whose driver needs some: {place}" for nic in FAR]
        weir = self.weir(*FAR, "0,1").launch()
        self.assertEqual(weir.ended(30), 1, weir.said())
        *warnings, error = weir.complaints()
        self.assertEqual(warnings, devices)
        self.assertRegex(error, r"^ERROR port outer: EAL has no device")
        weir = self.weir(*FAR, "2,3").launch()
        # The way of DPDK itself to say that it can't go on.
        self.assertEqual(weir.ended(30), -signal.SIGABRT, weir.said())
        self.assertEqual(weir.complaints(), [
            f"{lacks}lcore 2, the first, is there, for which EAL needs some: {place}, or take a first lcore of another node (-l)",
            *devices])

    def test_two_ports_on_two_nodes_have_a_pool_each(self):
        guest.hugepages(PLENTY, PLENTY)
        with self.weir(NEAR, FAR[1], "2,3") as weir:
            self.assertServes()
            self.assertEqual(weir.complaints(), [
                "WARN port outer is on NUMA node 0, lcore 3 of its workers is not: each packet crosses nodes; take lcores out of "
                "0-1 for workers (-l)"])
            pages = pages_of(weir)
        print(f"hugepages by node: {pages}")
        self.assertGreaterEqual(pages[0], POOL_PAGES)
        self.assertGreaterEqual(pages[1], POOL_PAGES + TABLE_PAGES)

    def test_too_few_hugepages_end_with_what_is_needed_and_where_they_are(self):
        guest.hugepages(8, 4)
        weir = self.weir(*FAR, "2,3").launch()
        self.assertEqual(weir.ended(30), 1, weir.said())
        (complaint,) = weir.complaints()
        self.assertRegex(complaint, r"^ERROR .*not enough memory: one worker with this file needs about \d+ MiB for packet buffers")
        # EAL has taken one for itself by then.
        self.assertRegex(complaint, r": \d+ hugepages of 2 MiB, and 11 are free \(8 on node 0, 3 on node 1\)")
