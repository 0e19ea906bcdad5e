"""How weir ends: what it still does when it was told to stop, and what becomes of a panic."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import lab
import ptrace
import test_kept

VRRP = """
[[vrrp]]
name = "vi"
port = "outer"
virtual_router_id = 51
version = 3
advertisement_interval = 0.2
addresses = ["{}"]
"""


def lingering(seconds):
    """The lab's file with `linger`."""
    return f"[control]\nlinger = {seconds}\n\n" + lab.config()


def is_master(weir):
    """Whether VRRP has taken the address."""
    return weir.metrics().total("weir_vrrp_state", instance="vi") == 2


def arp_answers(address):
    """How many of two ARP requests of the client's are answered."""
    done = lab.run("client", "arping", "-i", "outer", "-c", "2", "-w", "0.3", address)
    return len([line for line in done.stdout.splitlines() if "index=" in line])


class Linger(unittest.TestCase):
    """`[control] linger`."""

    def assertEnds(self, weir, begin, least, most, status=0):
        """It ends by itself, so many seconds after `begin`."""
        self.assertEqual(weir.process.wait(most + lab.BUSY_SECONDS), status, weir.said())
        took = time.monotonic() - begin
        self.assertGreaterEqual(took, least, weir.said())
        self.assertLess(took, most, weir.said())

    def test_it_forwards_on_and_says_at_once_that_it_is_not_ready(self):
        with lab.Weir(lingering(3)) as weir:
            begin = time.monotonic()
            weir.process.send_signal(signal.SIGTERM)
            lab.wait_for("/ready to fail", lambda: weir.http("/ready").stdout == "not ready: weir is stopping\n", 1)
            self.assertLess(time.monotonic() - begin, 1)
            self.assertEqual(weir.http("/live").stdout, "live\n")
            # A second one changes nothing.
            weir.process.send_signal(signal.SIGTERM)
            while time.monotonic() - begin < 2.5:
                lab.answers(lab.VIPS["nat"], 1)
                lab.answers(lab.VIPS["dr"], 1)
            self.assertEnds(weir, begin, 3, 6)
            self.assertIn("what still comes is forwarded for 3 s", weir.said())

    def test_sigint_twice_ends_it_at_once(self):
        with lab.Weir(lingering(30)) as weir:
            weir.may_end_with = {1}
            begin = time.monotonic()
            weir.process.send_signal(signal.SIGINT)
            lab.wait_for("the stop to begin", lambda: "is forwarded for 30 s" in weir.said(), 5)
            lab.answers(lab.VIPS["nat"], 1)
            weir.process.send_signal(signal.SIGINT)
            self.assertEnds(weir, begin, 0, 8, status=1)

    def test_vrrp_goes_first_and_what_comes_all_the_same_is_served(self):
        vip = lab.VIPS["dr"]
        with lab.Weir(lingering(4) + VRRP.format(vip)) as weir:
            lab.wait_for("mastership", lambda: is_master(weir), 10)
            lab.answers(vip, 3)
            with lab.capture("client", "outer") as path:
                begin = time.monotonic()
                weir.process.send_signal(signal.SIGTERM)
                lab.wait_for("the last advertisement", lambda: "VRRP: stopped" in weir.said(), 2)
                while time.monotonic() - begin < 3:
                    # It knows the MAC still.
                    lab.answers(vip, 1)
                lab.run("client", "ip", "neigh", "del", vip, "dev", "outer")
                self.assertEqual(arp_answers(vip), 0)
                self.assertEnds(weir, begin, 4, 8)
            shown = subprocess.run(["tcpdump", "-nnv", "-r", str(path), "vrrp"], capture_output=True, text=True, check=True)
            adverts = [line for line in shown.stdout.splitlines() if "Advertisement" in line]
            self.assertIn("prio 0", adverts[-1])
            self.assertNotIn("prio 0", "".join(adverts[:-1]))

    def test_with_vrrp_it_lingers_a_second_and_without_not_at_all(self):
        with lab.Weir(lab.config() + VRRP.format("10.10.0.200")) as weir:
            lab.wait_for("mastership", lambda: is_master(weir), 10)
            self.assertEqual(weir.stop(), 0)
            self.assertIn("what still comes is forwarded for 1 s", weir.said())
        with lab.Weir() as weir:
            self.assertEqual(weir.stop(), 0)
            self.assertNotIn("is forwarded for", weir.said())

    def test_a_control_that_hangs_does_not_hold_up_vrrp_or_the_end(self):
        vip = lab.VIPS["dr"]
        with lab.Weir(lingering(2) + VRRP.format(vip)) as weir:
            weir.may_end_with = {1}
            lab.wait_for("mastership", lambda: is_master(weir), 10)
            # The client knows the MAC.
            lab.answers(vip, 1)
            control = next(tid for tid, name in ptrace.threads(weir.process.pid).items() if name == "weir-control")
            with lab.capture("client", "outer") as path, ptrace.halted(control):
                begin = time.monotonic()
                weir.process.send_signal(signal.SIGTERM)
                while time.monotonic() - begin < 1.5:
                    lab.answers(vip, 1)
                self.assertEnds(weir, begin, 3, 12, status=1)
            shown = subprocess.run(["tcpdump", "-nnv", "-r", str(path), "vrrp"], capture_output=True, text=True, check=True)
            self.assertIn("prio 0", shown.stdout)
            self.assertIn("weir-control hangs", weir.said())


# Sends a datagram at which a build with the feature panic-on panics, from this port.
DEADLY = """
import socket, sys
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.bind(("", int(sys.argv[2])))
sender.sendto(b"weir, panic", (sys.argv[1], 9))
"""


def panicking():
    """A build that panics at certain frames: `$WEIR_PANICS`, else where ci/test has it."""
    target = os.environ.get("CARGO_TARGET_DIR", str(lab.ROOT / "target"))
    return os.environ.get("WEIR_PANICS", f"{target}/panic-on/weir")


class Panic(unittest.TestCase):
    """A worker panics at a frame."""

    def setUp(self):
        if not os.access(panicking(), os.X_OK):
            self.skipTest("no build with the feature panic-on; ci/test makes one")
        self.crashes = pathlib.Path(tempfile.mkdtemp(prefix="crashes-", dir=lab.RUN))
        self.addCleanup(shutil.rmtree, self.crashes, ignore_errors=True)

    def weir(self, place, more="", where=None):
        """One that panics, keeps connections, and has its notes in the test's folder."""
        where = self.crashes if where is None else where
        text = f'[control]\ncrash_directory = "{where}"\n\n' + test_kept.keeping(place, "capacity = 4096") + more
        weir = lab.Weir(text, environment={"WEIR": panicking()})
        weir.may_end_with = {0, 1}
        return weir

    def kill(self, weir, port=5555):
        """It panics at a frame of the flow from this port of the client's, and ends."""
        lab.run("client", sys.executable, "-c", DEADLY, lab.VIPS["nat"], str(port), check=True)
        self.assertEqual(weir.process.wait(lab.BUSY_SECONDS), 1, weir.said())

    def files(self):
        """Names of the files with frames."""
        return sorted(path.name for path in self.crashes.glob("crash-*.pcapng"))

    def test_it_is_named_and_kept_and_the_flow_is_dropped_after_the_second_time(self):
        addresses = list(lab.VIPS.values())
        count = test_kept.COUNT * len(addresses)
        with test_kept.keeper() as (place, _), self.weir(place) as weir, test_kept.Steady(*addresses) as steady:
            self.kill(weir)
            self.assertIn("worker 0 has panicked: VRRP lets go, and weir ends", weir.said())
            self.assertEqual(len(self.files()), 1)
            shown = subprocess.run(["tcpdump", "-nnA", "-r", str(self.crashes / self.files()[0])], capture_output=True, text=True)
            self.assertIn("weir, panic", shown.stdout)
            self.assertIsNone(json.loads((self.crashes / "crashes.json").read_text())[0]["flow"])
            weir.start()
            self.assertIn("bursts are taken frame by frame", weir.said())
            self.assertEqual(steady.again(), {"answered": count, "failed": []})
            self.kill(weir)
            self.assertRegex(weir.said(), r"the frame that the worker panicked at is of the flow \S+ port 5555 to \S+ port 9")
            weir.start()
            self.assertRegex(weir.said(), "port 5555 to .* this flow is dropped for")
            lab.run("client", sys.executable, "-c", DEADLY, lab.VIPS["nat"], "5555", check=True)
            lab.wait_for("the drop", lambda: weir.metrics().total("weir_drops_total", reason="suspect") == 1, 5)
            self.assertEqual(steady.again(), {"answered": count, "failed": []})
            # Another flow is another one.
            self.kill(weir, 5556)
            weir.start()
            for port in (5555, 5556):
                lab.run("client", sys.executable, "-c", DEADLY, lab.VIPS["nat"], str(port), check=True)
            lab.wait_for("the drops", lambda: weir.metrics().total("weir_drops_total", reason="suspect") == 2, 5)
            self.assertEqual(steady.again(), {"answered": count, "failed": []})
            self.assertEqual(len(self.files()), 3)
            self.assertEqual({path.stat().st_mode & 0o777 for path in self.crashes.iterdir()}, {0o600})

    def test_vrrp_lets_go_also_where_the_worker_sends_for_it(self):
        vip = lab.VIPS["dr"]
        with test_kept.keeper() as (place, _), self.weir(place, VRRP.format(vip)) as weir:
            lab.wait_for("mastership", lambda: is_master(weir), 10)
            with lab.capture("client", "outer") as path:
                begin = time.monotonic()
                self.kill(weir)
                self.assertLess(time.monotonic() - begin, 3)
            shown = subprocess.run(["tcpdump", "-nnv", "-r", str(path), "vrrp"], capture_output=True, text=True, check=True)
            self.assertIn("prio 0", [line for line in shown.stdout.splitlines() if "Advertisement" in line][-1])

    def test_without_a_directory_nothing_is_kept_and_one_that_can_not_be_made_is_said(self):
        place_of_file = self.crashes / "file"
        place_of_file.write_text("")
        with test_kept.keeper() as (place, _), self.weir(place, where="") as weir:
            for _ in range(2):
                self.kill(weir)
                weir.file.write_text(weir.file.read_text().replace('crash_directory = ""',
                                                                   f'crash_directory = "{place_of_file / "folder"}"'))
                weir.start()
            self.assertIn("the panic is not kept in", weir.said())
            self.assertNotIn("this flow is dropped", weir.said())
        self.assertEqual(list(self.crashes.iterdir()), [place_of_file])
