"""scripts/bind-nic on files that behave as the kernel's."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import unittest

PROGRAM = pathlib.Path(__file__).resolve().parent.parent.parent / "scripts" / "bind-nic"
FIRST, SECOND, NO_IOMMU = "0000:03:00.0", "0000:03:00.1", "0000:04:00.0"


class Sysfs:
    """/sys with three cards; a thread does what the kernel does when somebody writes there."""

    def __init__(self, folder):
        self.root = pathlib.Path(folder)
        self.pci = self.root / "bus/pci"
        self.refuses = set()
        for driver in ("ixgbe", "vfio-pci", "uio_pci_generic"):
            (self.pci / "drivers" / driver).mkdir(parents=True)
            (self.pci / "drivers" / driver / "unbind").touch()
        (self.pci / "drivers_probe").touch()
        for number, card in enumerate((FIRST, SECOND, NO_IOMMU)):
            device = self.pci / "devices" / card
            device.mkdir(parents=True)
            (device / "class").write_text("0x020000\n")
            (device / "driver_override").write_text("(null)\n")
            if card != NO_IOMMU:
                (device / "iommu_group").mkdir()
            self.bind(card, "ixgbe")

    def bind(self, card, driver):
        """The driver has the card; the kernel's own makes an interface of it."""
        device = self.pci / "devices" / card
        (device / "driver").symlink_to(self.pci / "drivers" / driver)
        if driver == "ixgbe":
            name = f"nic{(FIRST, SECOND, NO_IOMMU).index(card)}"
            (device / "net" / name).mkdir(parents=True)
            (self.root / "class/net" / name).mkdir(parents=True)
            (self.root / "class/net" / name / "device").symlink_to(device)

    def unbind(self, card):
        """Nobody has it, and its interface is gone."""
        device = self.pci / "devices" / card
        (device / "driver").unlink()
        for interface in (device / "net").glob("*"):
            shutil.rmtree(self.root / "class/net" / interface.name)
        shutil.rmtree(device / "net", ignore_errors=True)

    def lose(self, card):
        """It is pulled out."""
        shutil.rmtree(self.pci / "devices" / card)

    def driver(self, card):
        """Its driver's name, or None."""
        link = self.pci / "devices" / card / "driver"
        return link.resolve().name if link.exists() else None

    @contextlib.contextmanager
    def alive(self):
        """Does as the kernel does, in the block."""
        ends = threading.Event()

        def kernel():
            while not ends.wait(0.002):
                self.step()

        thread = threading.Thread(target=kernel)
        thread.start()
        try:
            yield
        finally:
            ends.set()
            thread.join()

    def step(self):
        """Does what was written since the last one."""
        for unbind in self.pci.glob("drivers/*/unbind"):
            card = self._taken(unbind)
            if card and self.driver(card) == unbind.parent.name:
                self.unbind(card)
        card = self._taken(self.pci / "drivers_probe")
        if card:
            wanted = (self.pci / "devices" / card / "driver_override").read_text().strip() or "ixgbe"
            if (card, wanted) not in self.refuses:
                self.bind(card, wanted)

    @staticmethod
    def _taken(file):
        text = file.read_text()
        if not text.endswith("\n"):
            return None
        file.write_text("")
        return text.strip()


class BindNic(unittest.TestCase):
    """Each with a machine of its own."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.sysfs = Sysfs(pathlib.Path(folder.name, "sys"))
        self.state = pathlib.Path(folder.name, "state")

    def bind_nic(self, *words, status=0, path=os.environ["PATH"]):
        """What it says."""
        with self.sysfs.alive():
            done = subprocess.run([PROGRAM, *words, "--sysfs", self.sysfs.root, "--state-dir", self.state],
                                  capture_output=True, text=True, env={**os.environ, "PATH": path})
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def drivers(self):
        """Of all cards."""
        return [self.sysfs.driver(card) for card in (FIRST, SECOND, NO_IOMMU)]

    def test_cards_are_taken_and_given_back(self):
        self.bind_nic("bind", "03:00.0", "nic1")
        self.assertEqual(self.drivers(), ["vfio-pci", "vfio-pci", "ixgbe"])
        self.assertIn("taken from ixgbe", self.bind_nic("status"))
        self.assertEqual(self.bind_nic("bind", FIRST), "", "again: nothing to do")
        self.bind_nic("restore")
        self.assertEqual(self.drivers(), ["ixgbe"] * 3)
        self.assertEqual((self.sysfs.pci / "devices" / FIRST / "driver_override").read_text(), "\n")
        self.assertFalse(self.state.exists(), "nothing is left behind")
        self.assertEqual(self.bind_nic("restore"), "", "again: nothing to do")

    def test_one_of_two_is_given_back_and_the_first_driver_counts(self):
        self.bind_nic("bind", FIRST, SECOND)
        self.bind_nic("bind", "--driver", "uio_pci_generic", FIRST)
        self.bind_nic("restore", FIRST)
        self.assertEqual(self.drivers(), ["ixgbe", "vfio-pci", "ixgbe"])
        self.bind_nic("restore")
        self.assertEqual(self.drivers(), ["ixgbe"] * 3)

    def test_an_interface_that_was_taken_goes_on_naming_its_card(self):
        self.bind_nic("bind", "nic0")
        self.assertEqual(self.bind_nic("bind", "nic0"), "", "as at each further start")
        self.bind_nic("restore", "nic0")
        self.assertEqual(self.drivers(), ["ixgbe"] * 3)

    def test_a_card_that_is_gone_keeps_no_other_from_being_given_back(self):
        self.bind_nic("bind", FIRST, SECOND)
        self.sysfs.lose(FIRST)
        self.assertIn("no longer there", self.bind_nic("restore"))
        self.assertEqual(self.sysfs.driver(SECOND), "ixgbe")
        self.assertFalse(self.state.exists())

    def test_the_way_to_the_administrator_is_seen_through_a_bond_and_its_vlan(self):
        tools = self.state.parent / "tools"
        tools.mkdir()
        (tools / "ip").write_text('#!/bin/sh\ncase "$*" in *" bond0.10") echo default via 192.0.2.1 ;; esac\n')
        (tools / "ip").chmod(0o755)
        net = self.sysfs.root / "class/net"
        for upper, lower in (("bond0", "nic0"), ("bond0.10", "bond0")):
            (net / upper).mkdir()
            (net / lower / f"upper_{upper}").symlink_to(net / upper)
        path = f"{tools}:{os.environ['PATH']}"
        self.assertIn("default route", self.bind_nic("bind", FIRST, status=1, path=path))
        self.bind_nic("bind", SECOND, path=path)
        self.bind_nic("bind", "--force", FIRST, path=path)
        self.assertEqual(self.drivers(), ["vfio-pci", "vfio-pci", "ixgbe"])

    def test_what_fails_is_taken_back(self):
        self.sysfs.refuses.add((FIRST, "vfio-pci"))
        self.assertIn("could not be given to vfio-pci", self.bind_nic("bind", FIRST, status=1))
        self.assertEqual(self.drivers(), ["ixgbe"] * 3)

    def test_bad_usage_and_cards_that_there_are_not_change_nothing(self):
        self.assertIn("behind no IOMMU", self.bind_nic("bind", NO_IOMMU, status=1))
        wrong = (["bind", "nic9"], 1), (["bind", "../x"], 1), (["bind", "--driver", "ixgbe", FIRST], 2), (["take"], 2), (["status", FIRST], 2)
        for words, status in wrong:
            with self.subTest(words):
                self.bind_nic(*words, status=status)
        self.assertEqual(self.drivers(), ["ixgbe"] * 3)
        self.assertEqual(self.bind_nic("bind"), "", "no card: nothing to do")


if __name__ == "__main__":
    unittest.main()
