"""VRRP: weir and keepalived in one group, both ways; two weirs and what a client notices."""

import json
import re
import signal
import subprocess
import time
import unittest

import lab
import vrrp_lab as net
from lateness import Lateness
from stopped import Stopped
from vrrp_clients import Requests

# name, VRID, keepalived's lines, weir's lines; the virtual addresses end in the VRID.
GROUPS = (
    ("none", 51, "", "version = 2"),
    ("pass", 52, "authentication { auth_type PASS\n auth_pass 1111 }",
     'version = 2\n[vrrp.authentication]\ntype = "pass"\npassword = "1111"'),
    ("ah", 53, "authentication { auth_type AH\n auth_pass secret }",
     'version = 2\n[vrrp.authentication]\ntype = "ah"\npassword = "secret"'),
    ("v3", 54, "version 3\n advert_int 0.3", "version = 3\nadvertisement_interval = 0.3"),
    ("unicast", 56, "unicast_src_ip 10.30.0.3\n unicast_peer { 10.30.0.2 }",
     'version = 2\nunicast_peers = ["10.30.0.3"]'),
    ("v6", 57, "version 3\n advert_int 0.3", "version = 3\nadvertisement_interval = 0.3"),
)


def addresses(name, vrid):
    """The virtual addresses of a group."""
    return [f"fe80::5:{vrid}", f"2001:db8::{vrid}"] if name == "v6" else [f"10.30.0.{vrid}"]


def keepalived(priority, groups=GROUPS, more=""):
    """keepalived's file."""
    text = "global_defs { vrrp_garp_master_repeat 2 }\n"
    for name, vrid, lines, _ in groups:
        vips = "\n ".join(addresses(name, vrid))
        text += (f"vrrp_instance {name} {{ interface eth0\n virtual_router_id {vrid}\n priority {priority}\n"
                 f" advert_int 1\n {lines}\n {more}\n virtual_ipaddress {{ {vips} }}\n}}\n")
    return text


def weir(priority, groups=GROUPS, more=""):
    """weir's instances."""
    text = ""
    for name, vrid, _, lines in groups:
        vips = ", ".join(f'"{address}"' for address in addresses(name, vrid))
        text += (f'[[vrrp]]\nname = "{name}"\nport = "lan"\nvirtual_router_id = {vrid}\npriority = {priority}\n'
                 f"addresses = [{vips}]\n{more}\n{lines}\n")
    return text


NAMES = {name for name, *_ in GROUPS}
BACKUP, MASTER, FAULT = 1, 2, 3


class VrrpCase(unittest.TestCase):
    """The network of vrrp_lab, fresh for each test."""

    def setUp(self):
        net.up()
        self.addCleanup(net.down)

    def assertSoon(self, what, condition, seconds, *logs):
        """The condition holds within so many seconds."""
        begin = time.monotonic()
        try:
            lab.wait_for(what, condition, seconds)
        except AssertionError as late:
            raise AssertionError("\n".join([str(late), *(daemon.log() for daemon in logs)])) from late
        return time.monotonic() - begin


class Vrrp(VrrpCase):
    """States and counters of both."""

    def assertWeir(self, daemon, state, seconds, *logs):
        """Every instance of a weir gets into a state."""
        is_there = lambda: set(daemon.states().values()) == {state}  # noqa: E731
        return self.assertSoon(f"weir in state {state}", is_there, seconds, daemon, *logs)

    def assertKeepalived(self, daemon, state, seconds, *logs):
        """Every instance of keepalived gets into a state."""
        is_there = lambda: {n for n, s in daemon.states().items() if s == state} == NAMES  # noqa: E731
        return self.assertSoon(f"keepalived {state}", is_there, seconds, daemon, *logs)

    def assertRefusesNothing(self, daemon):
        """Everything that was heard was accepted."""
        found = daemon.metrics()
        self.assertEqual(found.total("weir_vrrp_advertisements_refused_total"), 0, found)
        self.assertEqual(found.total("weir_vrrp_address_mismatches_total"), 0)
        for name in NAMES:
            self.assertGreater(found.total("weir_vrrp_advertisements_received_total", instance=name), 0, name)

    def test_keepalived_hands_over_to_weir_and_takes_over_from_it(self):
        with net.Keepalived("b", keepalived(100)) as other:
            self.assertKeepalived(other, "MASTER", 8)
            with net.Weir("a", weir(150)) as director:
                self.assertWeir(director, MASTER, 8, other)
                self.assertKeepalived(other, "BACKUP", 4, director)
                self.assertRefusesNothing(director)
                self.assertEqual(director.metrics().total("weir_vrrp_became_master_total"), len(GROUPS))
                for name, vrid, *_ in GROUPS:
                    if name != "v6":
                        done = net.run("c", "ping", "-c", "1", "-W", "10", f"10.30.0.{vrid}")
                        self.assertIn(" 0% packet loss", done.stdout, name)
                # A clean stop says so: nobody waits for the down interval.
                with Lateness() as late:
                    director.end(signal.SIGTERM)
                    took = self.assertKeepalived(other, "MASTER", 3, director)
                self.assertLess(took, 1.5 + late.allowance)

    def test_weir_takes_over_from_a_keepalived_that_is_killed_and_lets_it_have_it_back(self):
        with net.Weir("a", weir(50)) as director:
            with net.Keepalived("b", keepalived(100)) as other:
                self.assertKeepalived(other, "MASTER", 9, director)
                self.assertWeir(director, BACKUP, 3, other)
                other.end(signal.SIGKILL)
                self.assertWeir(director, MASTER, 5)
            # What the killed one left behind must not answer as well.
            net.ip("-n", net.node("b"), "addr", "flush", "dev", "eth0", "scope", "global")
            with net.Keepalived("b", keepalived(100)) as other:
                self.assertKeepalived(other, "MASTER", 9, director)
                self.assertWeir(director, BACKUP, 3, other)
                with Lateness() as late:
                    director_killed = time.monotonic()
                    other.end(signal.SIGTERM)
                    self.assertWeir(director, MASTER, 3)
                    took = time.monotonic() - director_killed
                self.assertLess(took, 3 + late.allowance)

    def test_what_does_not_fit_is_refused_for_its_reason(self):
        ours = [("vrid", 51, "", "version = 2"), ("password", 52, "", GROUPS[1][3]),
                ("interval", 53, "", "version = 2"), ("version", 54, "", "version = 2"),
                ("ah_key", 55, "", GROUPS[2][3])]
        theirs = [("vrid", 61, "", ""), ("password", 52, "authentication { auth_type PASS\n auth_pass 2222 }", ""),
                  ("interval", 53, "advert_int 2", ""), ("version", 54, "version 3", ""),
                  ("ah_key", 55, "authentication { auth_type AH\n auth_pass other }", "")]
        reasons = {"password": "authentication_data", "interval": "interval", "version": "version",
                   "ah_key": "authentication_data"}
        with net.Keepalived("b", keepalived(200, theirs, "state MASTER")) as other, \
                net.Weir("a", weir(100, ours)) as director:
            self.assertWeir(director, MASTER, 12, other)

            def counted(name, reason):
                total = director.metrics().total("weir_vrrp_advertisements_refused_total",
                                                 instance=name, reason=reason)
                # A keepalived that is master advertises no more once it has heard what it refuses: one is all there is.
                return total is not None and total > 0

            for name, reason in reasons.items():
                self.assertSoon(f"{name}: {reason}", lambda n=name, r=reason: counted(n, r), 8, director, other)
            found = director.metrics()
            self.assertGreater(found.total("weir_drops_total", reason="vrrp_unknown_router"), 0)
            self.assertEqual(found.total("weir_vrrp_advertisements_received_total"), 0)
            self.assertIn("advertisement refused", director.log())

    def test_tracking_moves_the_addresses_and_gives_them_back(self):
        group = [("vi", 51, "version 3\n advert_int 0.2", "version = 3\nadvertisement_interval = 0.2")]
        drain = net.folder() / "drain"
        tracked = f'[[vrrp.track]]\nfile = "{drain}"\nweight = -1\n[[vrrp.track]]\nvirtual_server = "web"\n'
        text = net.virtual_server() + weir(150, group) + tracked
        with net.Keepalived("b", keepalived(100, group)) as other, net.Weir("a", text) as director:
            def held_by(ours, theirs):
                both = (director.states(), other.states())
                return both == ({"vi": ours}, {"vi": theirs})

            self.assertSoon("weir has it", lambda: held_by(MASTER, "BACKUP"), 6, director, other)
            drain.write_text("60\n")
            self.assertSoon("keepalived has it", lambda: held_by(BACKUP, "MASTER"), 4, director, other)
            self.assertEqual(director.metrics().total("weir_vrrp_priority"), 90)
            drain.write_text("0\n")
            self.assertSoon("weir has it back", lambda: held_by(MASTER, "BACKUP"), 4, director, other)
            # The virtual server loses its last usable real server.
            whole = director.file.read_text()
            server = f'address = "{net.NODES["s"]}"\n'
            director.file.write_text(whole.replace(server, server + "weight = 0\n"))
            director.process.send_signal(signal.SIGHUP)
            self.assertSoon("fault", lambda: held_by(FAULT, "MASTER"), 4, director, other)
            self.assertIn("virtual server web is down", director.log())
            director.file.write_text(whole)
            director.process.send_signal(signal.SIGHUP)
            self.assertSoon("recovered", lambda: held_by(MASTER, "BACKUP"), 4, director, other)
            # Its link goes down and comes back.
            net.link("a", "down")
            self.assertSoon("link down", lambda: held_by(FAULT, "MASTER"), 4, director, other)
            net.link("a", "up")
            self.assertSoon("link up", lambda: held_by(MASTER, "BACKUP"), 6, director, other)

    def neighbor6(self, address):
        """The MAC that the client's kernel has for an address."""
        return re.search(r"lladdr (\S+)|$", net.ip("-n", net.node("c"), "-6", "neigh", "show", address).stdout).group(1)

    def assertAt(self, address, mac, *logs):
        """The client reaches the address, and finds it at this MAC."""
        ping = lambda: net.run("c", "ping", "-6", "-n", "-c", "1", "-W", "1", address).returncode == 0  # noqa: E731
        self.assertSoon(f"{address} at {mac}", lambda: ping() and self.neighbor6(address) == mac, 5, *logs)

    def test_a_clients_kernel_finds_ipv6_addresses_at_whoever_is_master(self):
        group = [GROUPS[-1]]
        vip, virtual = addresses(*group[0][:2])[1], "00:00:5e:00:02:39"
        kernel = json.loads(net.ip("-n", net.node("b"), "-j", "link", "show", "eth0").stdout)[0]["address"]
        for node, address in (("c", "2001:db8::c8/64"), ("b", "2001:db8::3/64")):
            net.ip("-n", net.node(node), "addr", "add", address, "dev", "eth0", "nodad")
        with net.Weir("a", weir(150, group)) as director, net.Keepalived("b", keepalived(100, group)) as other:
            self.assertWeir(director, MASTER, 5, other)
            self.assertAt(vip, virtual, director)
            # Another host that wants the address hears that it is taken.
            net.ip("-n", net.node("t"), "addr", "add", f"{vip}/64", "dev", "eth0")
            taken = lambda: "dadfailed" in net.ip("-n", net.node("t"), "-6", "addr", "show", "dev", "eth0").stdout  # noqa: E731
            self.assertSoon("duplicate address detection", taken, 5, director)
            net.ip("-n", net.node("t"), "addr", "del", f"{vip}/64", "dev", "eth0")
            director.end(signal.SIGKILL)
            self.assertAt(vip, kernel, other)
            with net.Weir("a", weir(150, group)) as again:
                self.assertWeir(again, MASTER, 5, other)
                self.assertAt(vip, virtual, again)
                self.assertEqual(again.metrics().total("weir_arp_conflicts_total"), 0)

    def test_two_weirs_take_over_an_ipv6_virtual_server(self):
        group = GROUPS[-1:]
        text = (f'[[virtual_server]]\nname = "web"\naddress = "{net.VIP6}"\nport = 80\nprotocol = "tcp"\n'
                f'[[virtual_server.real_server]]\naddress = "{net.NODES6["s"]}"\n')
        net.ip("-n", net.node("c"), "addr", "add", f"{net.NODES6['c']}/64", "dev", "eth0", "nodad")
        server = net.real_server6()
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        served = lambda: net.run("c", "curl", "-sg", "--max-time", "1", f"http://[{net.VIP6}]/").stdout == "served"  # noqa: E731
        taken = lambda director: director.metrics().total("weir_virtual_server_connections_total")  # noqa: E731

        def director(name, priority):
            return net.Weir(name, text + weir(priority, group), "ab".index(name), [f"{net.NODES6[name]}/64"])
        with director("b", 100) as second:
            with director("a", 200) as first:
                self.assertWeir(first, MASTER, 8, second)
                self.assertWeir(second, BACKUP, 5, first)
                self.assertSoon("service", served, 5, first, second)
                self.assertEqual(self.neighbor6(net.VIP6), "00:00:5e:00:02:39")
                self.assertGreater(taken(first), 0)
                before = taken(second)
                with Lateness() as late:
                    first.end(signal.SIGKILL)
                    took = self.assertSoon("service by the backup", served, 10, second)
                # Three intervals of 300 ms and a skew, and the client's own wait for a lost SYN.
                self.assertLess(took, 4 + late.allowance)
                self.assertGreater(taken(second), before)
            with director("a", 200) as again:
                self.assertWeir(again, MASTER, 8, second)
                self.assertWeir(second, BACKUP, 5, again)
                self.assertSoon("service by the first again", lambda: served() and taken(again) > 0, 10, again, second)
                self.assertEqual(self.neighbor6(net.VIP6), "00:00:5e:00:02:39")

    def test_two_weirs_are_heard_behind_a_switch_that_snoops_mld(self):
        net.ip("-n", net.SWITCH, "link", "set", "br0", "type", "bridge", "mcast_query_interval", "100",
               "mcast_query_response_interval", "50", "mcast_membership_interval", "300", "mcast_querier_interval", "300",
               "mcast_startup_query_interval", "100", "mcast_snooping", "1", "mcast_querier", "1")
        net.ip("-n", net.node("c"), "addr", "add", f"{net.NODES6['c']}/64", "dev", "eth0", "nodad")
        virtual_server = (f'[[virtual_server]]\nname = "web"\naddress = "2001:db8::100"\nport = 80\n'
                          f'[[virtual_server.real_server]]\naddress = "{net.NODES6["s"]}"\n')

        def director(name, priority, more=""):
            return net.Weir(name, more + weir(priority, GROUPS[-1:]), "ab".index(name), [f"{net.NODES6[name]}/64"])

        def reached(address):
            net.ip("-n", net.node("c"), "neigh", "flush", "dev", "eth0")
            return net.run("c", "ping", "-6", "-n", "-c", "1", "-W", "1", address).returncode == 0
        with director("a", 200, virtual_server) as first, director("b", 100) as second:
            self.assertWeir(first, MASTER, 8)
            # Longer than the switch believes anybody without a report.
            time.sleep(4)
            self.assertEqual((first.states(), second.states()), ({"v6": MASTER}, {"v6": BACKUP}))
            groups = subprocess.run(["bridge", "-n", net.SWITCH, "mdb", "show"], capture_output=True, text=True,
                                    check=True).stdout
            for port, group in (("p-a", "ff02::12"), ("p-b", "ff02::12"), ("p-a", "ff02::1:ff00:57"), ("p-a", "ff02::1:ff00:2")):
                self.assertRegex(groups, rf"port {port} grp {group} ")
            for address in (net.NODES6["a"], net.VIP6, "2001:db8::100"):
                self.assertTrue(reached(address), f"{address}\n{groups}\n{first.log()}")
            first.end(signal.SIGKILL)
            self.assertWeir(second, MASTER, 5)
            self.assertSoon("the virtual router's address at the second", lambda: reached(net.VIP6), 5, second)

    def test_two_weirs_advertise_to_each_other_over_ipv6(self):
        link_local = {"a": "fe80::a", "b": "fe80::b"}
        for peers in net.NODES6, link_local:
            def director(name, priority, peers=peers):
                lines = f'version = 3\nadvertisement_interval = 0.2\nunicast_peers = ["{peers["ab".replace(name, "")]}"]'
                return net.Weir(name, weir(priority, [("v6", 57, "", lines)]), "ab".index(name),
                                [f"{net.NODES6[name]}/64", f"{link_local[name]}/64"])
            with self.subTest(peers=peers["a"]), director("b", 100) as second:
                self.assertWeir(second, MASTER, 8)
                with director("a", 200) as first:
                    self.assertWeir(first, MASTER, 8, second)
                    self.assertWeir(second, BACKUP, 5, first)
                    time.sleep(1)
                    self.assertEqual((first.states(), second.states()), ({"v6": MASTER}, {"v6": BACKUP}))
                    first.end(signal.SIGKILL)
                    self.assertWeir(second, MASTER, 5)

    def failover(self, how, limit_ms):
        """Two weirs; `how` takes the master down. Returns what the client noticed."""
        text = net.virtual_server() + weir(0, [("vi", 51, "", "version = 3\nadvertisement_interval = 0.2")])
        text = text.replace('"10.30.0.51"', f'"{net.VIP}"')
        server = net.real_server()
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        with net.Weir("a", text.replace("priority = 0", "priority = 200"), 0) as first, \
                net.Weir("b", text.replace("priority = 0", "priority = 100"), 1) as second:
            self.assertWeir(first, MASTER, 5)
            self.assertWeir(second, BACKUP, 5)
            with Requests() as client, Lateness() as late:
                self.assertSoon("service", client.serves, 5, first, second)
                time.sleep(0.5)
                began = time.monotonic()
                undo = how(first)
                self.assertWeir(second, MASTER, 5, first)
                self.assertSoon("service again", client.serves, 3, first, second)
                time.sleep(0.5)
                requests, failed, gap = client.outage(began)
                if undo:
                    undo()
                    self.assertWeir(first, MASTER, 5)
                    self.assertWeir(second, BACKUP, 5)
                    time.sleep(0.3)
                    self.assertTrue(client.serves())
            print(f"{failed} of {requests} requests failed, {gap:.0f} ms without service")
            self.assertLess(gap, limit_ms + late.allowance * 1000, second.log())

    def test_two_weirs_a_clean_stop_of_the_master(self):
        self.failover(lambda first: first.end(signal.SIGTERM), 600)

    def test_two_weirs_a_master_that_is_killed(self):
        self.failover(lambda first: first.end(signal.SIGKILL), 1500)

    def test_two_weirs_a_master_that_is_cut_off(self):
        def cut(_):
            net.link("a", "down")
            return lambda: net.link("a", "up")
        self.failover(cut, 1500)

    def test_two_weirs_a_master_whose_vrrp_does_not_run(self):
        def stall(first):
            stopped = Stopped(first.thread("weir-vrrp")).__enter__()
            return lambda: stopped.__exit__(None, None, None)
        self.failover(stall, 1500)

    def test_two_weirs_whose_control_does_not_run_serve_and_take_over(self):
        text = net.virtual_server() + weir(0, [("vi", 51, "", "version = 3\nadvertisement_interval = 0.2")])
        text = text.replace('"10.30.0.51"', f'"{net.VIP}"')
        server = net.real_server()
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        with net.Weir("a", text.replace("priority = 0", "priority = 200"), 0) as first, \
                net.Weir("b", text.replace("priority = 0", "priority = 100"), 1) as second, Requests() as client:
            self.assertWeir(first, MASTER, 5)
            self.assertSoon("service", client.serves, 5, first, second)
            with Stopped(first.thread("weir-control")), Stopped(second.thread("weir-control")), Lateness() as late:
                began = time.monotonic()
                time.sleep(1.5)
                requests, failed, gap = client.outage(began)
                print(f"both run on: {failed} of {requests} requests failed, {gap:.0f} ms without service")
                self.assertLess(gap, 300 + late.allowance * 1000)
                began = time.monotonic()
                first.process.kill()
                time.sleep(1.0)
                self.assertSoon("service by the second", client.serves, 3, second)
                requests, failed, gap = client.outage(began)
                print(f"the master is killed: {failed} of {requests} requests failed, {gap:.0f} ms without service")
                self.assertLess(gap, 1500 + late.allowance * 1000)
            self.assertWeir(second, MASTER, 5)
