"""ARP and ping: what the director answers, and where its real servers send their replies."""

import time
import unittest

import lab


def answering_macs(node, interface, address):
    """Every MAC that answers an ARP request for an address, by arping."""
    done = lab.run(node, "arping", "-i", interface, "-c", "2", address)
    return set(lab.MAC.findall(done.stdout))


class Neighborhood(unittest.TestCase):
    """One weir for all of these: none of them changes it."""

    @classmethod
    def setUpClass(cls):
        cls.weir = lab.Weir().__enter__()
        cls.addClassCleanup(cls.weir.__exit__, None, None, None)

    def assertPings(self, node, address, *options):
        """Three pings of three are answered."""
        done = lab.run(node, "ping", "-n", "-c", "3", "-i", "0.2", "-W", "2", *options, address)
        self.assertIn(" 0% packet loss", done.stdout, done.stdout + done.stderr)

    def test_each_virtual_address_is_answered_by_exactly_the_director(self):
        director = lab.mac_of("director", "outer")
        for vip in lab.VIPS.values():
            with self.subTest(vip):
                self.assertEqual(answering_macs("client", "outer", vip), {director})

    def test_own_addresses_are_answered_by_exactly_the_director(self):
        self.assertEqual(answering_macs("client", "outer", lab.DIRECTOR_OUTER), {lab.mac_of("director", "outer")})
        self.assertEqual(answering_macs("client", "inner", lab.DIRECTOR_INNER), {lab.mac_of("director", "inner")})

    def test_no_one_answers_for_an_address_that_is_not_served(self):
        self.assertEqual(answering_macs("client", "outer", "10.10.0.77"), set())

    def test_no_real_server_answers_for_a_virtual_address(self):
        macs = {lab.mac_of(name, "eth0") for name in lab.REAL_SERVERS}
        for vip in lab.VIPS.values():
            with self.subTest(vip):
                self.assertFalse(answering_macs("client", "inner", vip) & macs)

    def test_virtual_addresses_answer_ping(self):
        for vip in lab.VIPS.values():
            with self.subTest(vip):
                self.assertPings("client", vip)

    def test_own_addresses_answer_ping(self):
        self.assertPings("client", lab.DIRECTOR_OUTER)
        self.assertPings("A", lab.DIRECTOR_INNER)

    def test_a_large_ping_is_answered_whole(self):
        self.assertPings("client", lab.VIPS["dr"], "-s", "1472", "-M", "do")

    def test_the_director_is_the_gateway_of_nat_real_servers(self):
        for name, address in lab.REAL_SERVERS.items():
            with self.subTest(name):
                route = lab.run(name, "ip", "route", "get", lab.CLIENT, "from", address, check=True).stdout
                self.assertIn(f"via {lab.DIRECTOR_INNER} ", route)
                self.assertPings(name, lab.DIRECTOR_INNER, "-I", address)

    def test_the_client_learns_a_virtual_address_as_the_directors(self):
        lab.run("client", "ip", "neigh", "flush", "dev", "outer")
        lab.answers(lab.VIPS["nat"], 1)
        entry = lab.run("client", "ip", "neigh", "show", lab.VIPS["nat"], "dev", "outer").stdout
        self.assertIn(lab.mac_of("director", "outer"), entry)


class Announcement(unittest.TestCase):
    """What weir says about its addresses unasked."""

    def test_a_start_corrects_a_neighbor_that_remembers_another_mac(self):
        vip = lab.VIPS["dr"]
        lab.run("client", "ip", "neigh", "replace", vip, "lladdr", "02:00:00:00:00:99", "dev", "outer", "nud", "stale",
                check=True)
        with lab.Weir():
            director = lab.mac_of("director", "outer")
            lab.wait_for("gratuitous ARP", lambda: director in lab.run(
                "client", "ip", "neigh", "show", vip, "dev", "outer").stdout, 5)
            lab.answers(vip, 1)

    def test_a_link_that_comes_back_is_said_and_addresses_are_announced_again(self):
        vip, director = lab.VIPS["dr"], lab.mac_of("director", "outer")
        known = lambda: lab.run("client", "ip", "neigh", "show", vip, "dev", "outer").stdout  # noqa: E731
        self.addCleanup(lab.run, "outer", "ip", "link", "set", "to-director", "up")
        with lab.Weir() as weir:
            # All that is announced at the start is over.
            time.sleep(3)
            lab.run("outer", "ip", "link", "set", "to-director", "down", check=True)
            lab.wait_for("the link's end in the log", lambda: weir.said().count(' WARN the link is down port="outer"') == 1, 5)
            lab.run("client", "ip", "neigh", "replace", vip, "lladdr", "02:00:00:00:00:99", "dev", "outer", "nud", "stale",
                    check=True)
            lab.run("outer", "ip", "link", "set", "to-director", "up", check=True)
            lab.wait_for("gratuitous ARP", lambda: director in known(), 5)
            self.assertEqual(weir.said().count(' INFO the link is up port="outer"'), 1)
            lab.answers(vip, 1)
