"""weir on emulated PCI devices, bound with dpdk-devbind.py to vfio-pci behind an IOMMU."""

import hashlib
import os
import time
import unittest

import lab
from machine import Guest, Nic
from weir import Weir

KINDS = ("virtio-net-pci", "e1000", "e1000e", "vmxnet3")
NICS = {(kind, lan): Nic(kind, lan, 1 + number * 2 + (lan == "inner"))
        for number, kind in enumerate(KINDS) for lan in ("outer", "inner")}
HUGEPAGES = 192
MEGABYTE = 1 << 20
# What is asked of each device beyond its defaults: jumbo frames, an address of weir's own, sleeping workers.
MORE = """[memory]
mbuf_data_bytes = 12_288

[workers]
idle = "sleep"

"""
OUTER = 'addresses = ["10.10.0.2/24"]\n'
MORE_OF_PORT = OUTER + 'mtu = 9000\nmac = "02:00:00:00:00:77"\n'
NO_SCALING = ("NAT replies may come to another worker than their requests, which costs some speed: port outer has no receive side "
              "scaling by TCP and UDP ports")

guest = None


def setUpModule():
    """One machine has them all."""
    global guest
    guest = Guest(list(NICS.values())).start()
    guest.hugepages(HUGEPAGES, HUGEPAGES)


def tearDownModule():
    """Switches it off."""
    if guest:
        guest.end()


class Device:
    """What holds for each kind of device."""

    kind = None
    # The driver that the kernel has for it.
    kernel_driver = None
    # What is said when two workers are asked for, by port name.
    shortcomings = ()
    # What weir says about all of it then.
    summary = ()

    @property
    def method(self):
        """Stands before the test's name in the list."""
        return self.kind

    @property
    def nics(self):
        """The device on the outer and the one on the inner LAN."""
        return NICS[self.kind, "outer"], NICS[self.kind, "inner"]

    def setUp(self):
        guest.bind("vfio-pci", *self.nics)

    def assertServes(self, count=6):
        """Each method's requests come back, from all real servers."""
        for method, vip in lab.VIPS.items():
            seen = lab.answers(vip, count)
            self.assertEqual({client for _, client in seen}, {lab.CLIENT}, method)
            self.assertEqual({server for server, _ in seen}, set(lab.REAL_SERVERS), method)

    def assertPing(self, node, address):
        """Each of three pings is answered."""
        said = lab.run(node, "ping", "-n", "-c", "3", "-i", "0.3", "-W", "2", address).stdout
        self.assertIn("3 packets transmitted, 3 received", said)

    def test_requests_of_every_method_and_pings_are_answered(self):
        with Weir(guest, *self.nics) as weir:
            self.assertServes()
            for address in (lab.DIRECTOR_OUTER, *lab.VIPS.values()):
                self.assertPing("client", address)
            self.assertPing("A", lab.DIRECTOR_INNER)
            self.assertEqual(weir.complaints(), [])

    def test_a_megabyte_arrives_whole_both_ways(self):
        blob = os.urandom(MEGABYTE)
        source = lab.RUN / "blob"
        source.write_bytes(blob)
        for server in lab.REAL_SERVERS:
            (lab.RUN / server / "files" / "down").write_bytes(blob)
        with Weir(guest, *self.nics) as weir:
            for method, vip in lab.VIPS.items():
                copy = lab.RUN / "copy"
                down = lab.get(f"http://{vip}/files/down", "-o", str(copy))
                self.assertEqual(down.returncode, 0, f"{method}: {down.stderr}")
                self.assertEqual(digest(copy), digest(source), method)
                up = lab.get(f"http://{vip}/files/up-{method}", "-T", str(source))
                self.assertEqual(up.returncode, 0, f"{method}: {up.stderr}")
                (stored,) = [path for server in lab.REAL_SERVERS
                             for path in (lab.RUN / server / "files").glob(f"up-{method}")]
                self.assertEqual(digest(stored), digest(source), method)
                stored.unlink()
            self.assertEqual(weir.complaints(), [])

    def test_it_serves_the_kernel_and_weir_again_after_a_stop(self):
        with Weir(guest, *self.nics):
            self.assertServes(3)
        guest.bind(self.kernel_driver, *self.nics)
        interface = guest.interface_of(self.nics[0])
        guest.shell(f"ip address add {lab.DIRECTOR_OUTER}/24 dev {interface}; ip link set {interface} up")
        try:
            lab.wait_for("a ping by the kernel", lambda: "1 received" in lab.run(
                "client", "ping", "-n", "-c", "1", "-W", "1", lab.DIRECTOR_OUTER).stdout, 20)
        finally:
            guest.shell(f"ip link set {interface} down; ip address flush dev {interface}")
        guest.bind("vfio-pci", *self.nics)
        with Weir(guest, *self.nics):
            self.assertServes(3)

    def test_a_cable_that_comes_late_brings_announcements(self):
        outer, vip = self.nics[0], lab.VIPS["dr"]
        guest.set_link(outer, False)
        self.addCleanup(guest.set_link, outer, True)
        weir = Weir(guest, *self.nics).launch()
        self.addCleanup(weir.discard)
        lab.wait_for("readiness but for the link", lambda: "outer" in weir.get("/ready")["text"] and "link" in weir.get("/ready")["text"], 30)
        # What is announced at the start goes nowhere.
        time.sleep(4)
        lab.run("client", "ip", "neighbor", "replace", vip, "lladdr", "02:00:00:00:00:99", "dev", "outer", "nud", "stale", check=True)
        guest.set_link(outer, True)
        lab.wait_for("gratuitous ARP", lambda: outer.mac in lab.run(
            "client", "ip", "neighbor", "show", vip, "dev", "outer").stdout, 15)
        self.assertEqual(weir.said().count(' INFO the link is up port="outer"'), 1)
        lab.wait_for("weir ready", lambda: weir.get("/ready")["code"] == 200, 10)
        self.assertServes(3)
        self.assertEqual(weir.stop(), 0)

    def test_what_it_lacks_is_said_once_and_not_fatal(self):
        with Weir(guest, *self.nics, lcores="0,1,2", change=lambda text: MORE + text.replace(OUTER, MORE_OF_PORT)) as weir:
            self.assertServes()
            self.assertPing("client", lab.DIRECTOR_OUTER)
            seen = lab.run("client", "ip", "neighbor", "show", lab.DIRECTOR_OUTER).stdout
            self.assertIn("02:00:00:00:00:77", seen)
            addresses = dict(zip(("outer", "inner"), (guest.addresses[nic] for nic in self.nics)))
            expected = [f'WARN {text} port="{port}" device="{address}"'
                        for port, address in addresses.items() for text in self.shortcomings]
            self.assertEqual(sorted(weir.complaints()), sorted([*expected, *(f"WARN {text}" for text in self.summary)]))


def digest(path):
    """Of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Virtio(Device, unittest.TestCase):
    """virtio-net-pci with one pair of queues."""

    kind, kernel_driver = "virtio-net-pci", "virtio-pci"
    summary = ('the device has 1 transmit queues, so 1 of 2 worker lcores are used port="outer"',)


class E1000(Device, unittest.TestCase):
    """Intel 82540EM, conventional PCI. Its driver promises two queues, and the second sends nothing."""

    kind, kernel_driver = "e1000", "e1000"
    summary = ('the device has 1 transmit queues, so 1 of 2 worker lcores are used port="outer"',)


class E1000e(Device, unittest.TestCase):
    """Intel 82574L, PCI Express."""

    kind, kernel_driver = "e1000e", "e1000e"
    shortcomings = ("it has no receive side scaling",)
    summary = (NO_SCALING,)


class Vmxnet3(Device, unittest.TestCase):
    """VMware's paravirtual device."""

    kind, kernel_driver = "vmxnet3", "vmxnet3"
    shortcomings = ("its receive side scaling hashes IP, TCP, not IP, TCP, UDP",)
    summary = (NO_SCALING,)
