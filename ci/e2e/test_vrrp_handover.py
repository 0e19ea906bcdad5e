"""VRRP with clients that ask all the time, and take-overs because real servers fail their health checks."""

import signal
import unittest

import test_vrrp
import vrrp_lab as net
from vrrp_clients import Curls
from vrrp_pair import CHECK, WAYS, Pair

# What a hand-over may cost the clients, in milliseconds, on a machine that does much else: by down interval, skew time or
# the time that checks take to notice.
LIMITS = {"stop": 700, "kill": 1500, "cut": 1500, "hang": 3000}
PREEMPTED = 500
GROUP = [("vi", 51, "version 3\n advert_int 0.2", "version = 3\nadvertisement_interval = 0.2")]
MASTER, BACKUP, FAULT = test_vrrp.MASTER, test_vrrp.BACKUP, test_vrrp.FAULT


def group(priority, track):
    """weir's instance with the VIP and what it tracks."""
    return test_vrrp.weir(priority, GROUP).replace('"10.30.0.51"', f'"{net.VIP}"') + track


def keepalived(priority):
    """keepalived's instance with the VIP."""
    return test_vrrp.keepalived(priority, GROUP).replace("10.30.0.51", net.VIP)


class HandOver(unittest.TestCase):
    """weir and keepalived, both of which serve the VIP."""

    def hand_over(self, *priorities):
        """Every way, there and back."""
        with Pair(*priorities) as pair:
            for way in WAYS:
                there, back = pair.run(way)
                for found, limit in ((there, LIMITS[way]), (back, PREEMPTED)):
                    print(f"{found.name}: {found.ping_ms:.0f} ms without ping, {found.curl_ms:.0f} ms without curl, "
                          f"{found.failed} of {found.asked} requests failed")
                    self.assertLess(max(found.ping_ms, found.curl_ms), limit, found.name)
                    self.assertLess(found.failed, limit / 100 + 3, found.name)

    def test_keepalived_takes_over_from_weir_and_gives_back(self):
        self.hand_over(150, 100)

    def test_weir_takes_over_from_keepalived_and_gives_back(self):
        self.hand_over(100, 150)


class Health(test_vrrp.VrrpCase):
    """Real servers that fail their health checks move the addresses."""

    def setUp(self):
        super().setUp()
        for name in "ab":
            net.management(name)
        self.servers = {}
        for name in "st":
            self.serve(name)

    def serve(self, name):
        """Starts nginx in a real server."""
        self.servers[name] = server = net.real_server(name)
        self.addCleanup(server.wait)
        self.addCleanup(lambda: server.poll() is None and net.signal_all(server, signal.SIGKILL))

    def kill(self, name):
        """nginx is gone."""
        net.signal_all(self.servers[name], signal.SIGKILL)
        self.servers[name].wait()

    def assertHeld(self, what, director, other, ours, theirs):
        """Both get into these states soon."""
        self.assertSoon(what, lambda: (director.states(), other.states()) == ({"vi": ours}, {"vi": theirs}),
                        8, director, other)

    def test_checks_that_fail_are_a_fault_and_keepalived_takes_over(self):
        text = net.virtual_server(check=CHECK) + group(150, '[[vrrp.track]]\nvirtual_server = "web"\n')
        with net.Keepalived("b", keepalived(100)) as other, net.Weir("a", text) as director:
            self.assertHeld("weir has it", director, other, MASTER, "BACKUP")
            self.kill("s")
            self.assertHeld("fault", director, other, FAULT, "MASTER")
            self.assertIn("virtual server web is down", director.log())
            self.serve("s")
            self.assertHeld("recovered", director, other, MASTER, "BACKUP")

    def test_checks_that_fail_lower_the_priority_by_the_weight(self):
        track = '[[vrrp.track]]\nvirtual_server = "web"\nweight = -60\n'
        text = net.virtual_server(check=CHECK) + group(150, track)
        with net.Keepalived("b", keepalived(100)) as other, net.Weir("a", text) as director:
            self.assertHeld("weir has it", director, other, MASTER, "BACKUP")
            net.signal_all(self.servers["s"], signal.SIGSTOP)
            self.assertHeld("lower priority", director, other, BACKUP, "MASTER")
            self.assertEqual(director.metrics().total("weir_vrrp_priority"), 90)
            net.signal_all(self.servers["s"], signal.SIGCONT)
            self.assertHeld("full priority", director, other, MASTER, "BACKUP")
            self.assertEqual(director.metrics().total("weir_vrrp_priority"), 150)

    def test_two_weirs_the_one_that_has_lost_its_quorum_lets_go(self):
        track = '[[vrrp.track]]\nvirtual_server = "web"\n'
        both = net.virtual_server(check=CHECK).replace("scheduler", "quorum = 2\nscheduler") \
            + f'[[virtual_server.real_server]]\naddress = "{net.NODES["t"]}"\n'
        with net.Weir("a", both + group(200, track), 0) as first, \
                net.Weir("b", net.virtual_server(check=CHECK) + group(100, track), 1) as second, Curls() as client:
            self.assertHeld("the first has it", first, second, MASTER, BACKUP)
            self.assertSoon("service", client.serves, 5, first, second)
            # One of its two real servers is left: usable, but not enough.
            self.kill("t")
            self.assertHeld("the second has it", first, second, FAULT, MASTER)
            self.assertSoon("service by the second", client.serves, 5, first, second)
            self.assertEqual(first.metrics().total("weir_health_quorum"), 0)
            self.serve("t")
            self.assertHeld("the first has it back", first, second, MASTER, BACKUP)
            self.assertSoon("service by the first", client.serves, 5, first, second)
