"""How weir ends: what it still does when it was told to stop."""

import signal
import time
import unittest

import lab
import ptrace

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
            shown = lab.subprocess.run(["tcpdump", "-nnv", "-r", str(path), "vrrp"], capture_output=True, text=True, check=True)
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
            shown = lab.subprocess.run(["tcpdump", "-nnv", "-r", str(path), "vrrp"], capture_output=True, text=True, check=True)
            self.assertIn("prio 0", shown.stdout)
            self.assertIn("weir-control hangs", weir.said())
