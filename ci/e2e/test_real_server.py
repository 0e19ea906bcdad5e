"""scripts/real-server: sets up, checks, says what is wrong, and takes back what it changed."""

import pathlib
import subprocess
import tempfile
import unittest

import lab

SCRIPT = lab.ROOT / "scripts" / "real-server"
VIP = "10.10.0.100"
VIP6 = "fd10::100"
NODE = "spare"
SYSCTLS = pathlib.Path("/proc/sys/net/ipv4/conf")


class RealServer(unittest.TestCase):
    """A machine of its own with one interface, a default route and a tunnel device."""

    def setUp(self):
        name = f"{lab.NAME}-{NODE}"
        subprocess.run(["ip", "netns", "add", name], check=True)
        self.addCleanup(subprocess.run, ["ip", "netns", "delete", name], check=True)
        self.state = tempfile.TemporaryDirectory(prefix="weir-real-server-")
        self.addCleanup(self.state.cleanup)
        for command in ("ip link set lo up", "ip link add eth0 type veth peer name peer0", "ip link set peer0 up",
                        "ip address add 10.20.0.11/24 dev eth0", "ip link set eth0 up",
                        "ip route add default via 10.20.0.1", "ip -6 address add fd20::11/64 dev eth0 nodad",
                        "ip -6 route add default via fd20::1", "ip tuntap add ipip0 mode tun"):
            self.inside(*command.split())
        # As many sites have it: strict everywhere.
        self.write_sysctl("all", "rp_filter", 1)

    def inside(self, *command):
        """Runs a command on the machine and returns what it printed."""
        return lab.run(NODE, *command, check=True).stdout

    def write_sysctl(self, device, name, value):
        """Sets net.ipv4.conf.DEVICE.NAME."""
        self.inside("sh", "-c", f"echo {value} > {SYSCTLS}/{device}/{name}")

    def read_sysctl(self, device, name):
        """Reads net.ipv4.conf.DEVICE.NAME."""
        return int(self.inside("cat", f"{SYSCTLS}/{device}/{name}"))

    def state_of_machine(self):
        """Everything the script may change, as text. Of IPv6 that is lo; elsewhere the kernel sets it up in its own time."""
        return self.inside("sh", "-c", "ip -4 -br address; ip -6 -br address show dev lo; ip -br link; ip -4 route show table all; ip -4 rule;"
                           "ip -6 route show default; ip -6 route show table 9280 2>/dev/null; ip -6 rule;"
                           f"grep . {SYSCTLS}/*/arp_ignore {SYSCTLS}/*/arp_announce {SYSCTLS}/*/rp_filter")

    def real_server(self, *arguments):
        """Runs the script."""
        return lab.run(NODE, str(SCRIPT), *arguments, "--state-dir", f"{self.state.name}/state")

    def assertDone(self, *arguments):
        """The script succeeds without complaint."""
        done = self.real_server(*arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        return done.stdout

    def assertWrong(self, words, *arguments):
        """The script ends with status 1 and says it in these words."""
        done = self.real_server(*arguments)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn(words, done.stderr)

    METHODS = {
        "dr": ("dr", "--vip", VIP),
        "tun": ("tun", "--vip", VIP, "--tunnel-device", "ipip0"),
        "nat": ("nat", "--gateway", "10.20.0.2"),
        "nat by source": ("nat", "--gateway", "10.20.0.2", "--by-source"),
        "dr of IPv6": ("dr", "--vip", VIP6),
        "nat of IPv6": ("nat", "--gateway", "fd20::2"),
        "nat of IPv6 by source": ("nat", "--gateway", "fd20::2", "--by-source"),
        "tun of IPv6": ("tun", "--vip", VIP6, "--tunnel-device", "ipip0"),
        "tun of both families": ("tun", "--vip", VIP6, "--vip", VIP, "--over", "ipv6", "--tunnel-device", "ipip0"),
    }

    def test_undo_restores_the_machine_exactly(self):
        before = self.state_of_machine()
        for name, arguments in self.METHODS.items():
            with self.subTest(name):
                self.assertDone(*arguments)
                self.assertNotEqual(self.state_of_machine(), before)
                self.assertDone(*arguments, "--undo")
                self.assertEqual(self.state_of_machine(), before)

    def rounds(self, count, *arguments):
        """Sets up twice and undoes, so many times, and compares the machine with what it was each time."""
        words = " ".join((str(SCRIPT), *arguments, "--state-dir", f"{self.state.name}/state"))
        shown = f"$(ip -4 -br address show dev lo; ip -4 route show table all; ip -4 rule; grep . {SYSCTLS}/*/arp_*)"
        done = lab.run(NODE, "bash", "-c", f"""
            before="{shown}"
            for ((round = 1; round <= {count}; round++)); do
                {words} >/dev/null && {words} >/dev/null || {{ echo "round $round: no set-up"; exit 1; }}
                {words} --undo || {{ echo "round $round: no undo"; exit 1; }}
                after="{shown}"
                [[ $after == "$before" ]] || {{ echo "round $round: $before became $after"; exit 1; }}
            done
            """)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_two_hundred_rounds_leave_nothing_behind(self):
        self.rounds(110, *self.METHODS["dr"])
        # More addresses behind the one that is looked for: whoever leaves when it is found leaves its writer behind.
        self.rounds(40, *self.METHODS["dr"], "--vip", "10.10.0.101", "--vip", "10.10.0.102")
        self.rounds(25, *self.METHODS["nat"])
        self.rounds(25, *self.METHODS["nat by source"])

    def test_undo_says_what_it_could_not_take_back_and_can_be_run_again(self):
        before = self.state_of_machine()
        self.assertDone("dr", "--vip", VIP)
        # An ip that says it deleted and did not.
        fake = pathlib.Path(self.state.name) / "ip"
        real = self.inside("sh", "-c", "command -v ip").strip()
        fake.write_text(f'#!/bin/sh\ncase "$*" in "address del"*) exit 0 ;; esac\nexec {real} "$@"\n')
        fake.chmod(0o755)
        done = lab.run(NODE, "env", f"PATH={fake.parent}:/usr/sbin:/usr/bin:/sbin:/bin", str(SCRIPT), "dr", "--vip", VIP, "--undo",
                       "--state-dir", f"{self.state.name}/state")
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"{VIP}/32 is still on lo", done.stderr)
        fake.unlink()
        self.assertDone("dr", "--vip", VIP, "--undo")
        self.assertEqual(self.state_of_machine(), before)

    def test_default_routes_of_every_kind_come_back(self):
        self.inside("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "peer1")
        for command in ("ip link set peer1 up", "ip link set eth1 up", "ip address add 10.21.0.11/24 dev eth1"):
            self.inside(*command.split())
        two = "nexthop via 10.20.0.1 dev eth0 weight 1 nexthop via 10.21.0.1 dev eth1 weight 3"
        cases = {
            "none": [],
            "multipath": [f"default proto static {two}"],
            "multipath and metrics": [f"default {two}", "default via 10.20.0.9 dev eth0 metric 100",
                                      f"default metric 200 {two}"],
            "two of one metric": ["default via 10.20.0.1 dev eth0", "default via 10.20.0.9 dev eth0"],
            "the director already, among others": ["default via 10.20.0.2 dev eth0",
                                                   "default via 10.20.0.9 dev eth0 metric 7"],
            "the director by a metric": ["default via 10.20.0.2 dev eth0 metric 7"],
            "with a source": ["default via 10.20.0.1 dev eth0 src 10.20.0.11 metric 5"],
            "onlink": ["default via 10.99.0.1 dev eth0 onlink"],
            "a nexthop object": ["default nhid 5 proto static"],
        }
        self.inside("ip", "nexthop", "add", "id", "5", "via", "10.20.0.1", "dev", "eth0")
        for name, routes in cases.items():
            with self.subTest(name):
                self.inside("ip", "route", "flush", "0/0")
                for route in routes:
                    self.inside("ip", "route", "append", *route.split())
                before = self.inside("ip", "-d", "route", "show")
                self.assertDone(*self.METHODS["nat"])
                self.assertEqual(self.inside("ip", "route", "show", "default").split(),
                                 "default via 10.20.0.2 dev eth0".split())
                self.assertDone(*self.METHODS["nat"], "--undo")
                self.assertEqual(self.inside("ip", "-d", "route", "show"), before)

    def test_a_second_run_changes_nothing(self):
        for name, arguments in self.METHODS.items():
            with self.subTest(name):
                self.assertDone(*arguments)
                once = self.state_of_machine()
                self.assertDone(*arguments)
                self.assertEqual(self.state_of_machine(), once)
                self.assertDone(*arguments, "--undo")

    def test_a_dry_run_changes_nothing(self):
        before = self.state_of_machine()
        for name, arguments in self.METHODS.items():
            with self.subTest(name):
                self.assertNotEqual(self.assertDone(*arguments, "--dry-run"), "")
                self.assertEqual(self.state_of_machine(), before)

    def test_check_before_the_set_up_says_what_is_missing(self):
        self.assertWrong(f"{VIP}/32 is not on lo", *self.METHODS["dr"], "--check")
        self.assertWrong("arp_ignore in force on eth0 is 0", *self.METHODS["dr"], "--check")
        self.assertWrong("ipip0 is down", *self.METHODS["tun"], "--check")
        self.assertWrong("rp_filter in force on ipip0 is 1", *self.METHODS["tun"], "--check")
        self.assertWrong("not by the director 10.20.0.2", *self.METHODS["nat"], "--check")

    def test_arp_is_quiet_before_the_address_is_there(self):
        commands = self.assertDone(*self.METHODS["dr"], "--dry-run").splitlines()
        quiet = [line.endswith("/arp_ignore") or line.endswith("/arp_announce") for line in commands]
        self.assertEqual(quiet, [True, True, False])
        self.assertIn(f"ip address add {VIP}/32 dev lo", commands[2])

    def test_what_two_set_ups_share_stays_until_the_last_is_undone(self):
        self.assertDone("dr", "--vip", VIP)
        self.assertDone("dr", "--vip", "10.10.0.101")
        self.assertDone("dr", "--vip", VIP, "--undo")
        self.assertEqual(self.read_sysctl("all", "arp_ignore"), 1)
        self.assertDone("dr", "--vip", "10.10.0.101", "--check")
        self.assertDone("dr", "--vip", "10.10.0.101", "--undo")
        self.assertEqual(self.read_sysctl("all", "arp_ignore"), 0)

    def test_undo_leaves_what_was_so_before(self):
        self.write_sysctl("all", "arp_ignore", 1)
        self.inside("ip", "address", "add", f"{VIP}/32", "dev", "lo")
        before = self.state_of_machine()
        self.assertDone("dr", "--vip", VIP)
        self.assertDone("dr", "--vip", VIP, "--undo")
        self.assertEqual(self.state_of_machine(), before)

    def test_other_interfaces_keep_the_source_check_they_had(self):
        self.assertDone(*self.METHODS["tun"])
        self.assertEqual(self.read_sysctl("ipip0", "rp_filter") + self.read_sysctl("all", "rp_filter"), 0)
        self.assertEqual(self.read_sysctl("eth0", "rp_filter"), 1)

    def test_loose_source_check_on_a_tunnel_without_address_is_wrong(self):
        self.assertDone(*self.METHODS["tun"])
        self.write_sysctl("ipip0", "rp_filter", 2)
        self.assertWrong("rp_filter in force on ipip0 is 2", *self.METHODS["tun"], "--check")

    def test_a_virtual_address_on_a_lan_interface_is_wrong(self):
        self.inside("ip", "address", "add", f"{VIP}/24", "dev", "eth0")
        self.assertWrong(f"{VIP} is on eth0", *self.METHODS["dr"])

    def test_a_virtual_address_with_a_wide_mask_is_wrong(self):
        self.inside("ip", "address", "add", f"{VIP}/24", "dev", "lo")
        self.assertWrong(f"{VIP} is on lo with /24", *self.METHODS["dr"])

    def test_a_virtual_address_on_a_nat_real_server_is_wrong(self):
        self.inside("ip", "address", "add", f"{VIP}/32", "dev", "lo")
        self.assertWrong(f"{VIP} is on this machine", "nat", "--gateway", "10.20.0.2", "--vip", VIP)

    def test_a_gateway_behind_another_router_is_refused_and_the_default_route_stays(self):
        before = self.state_of_machine()
        self.assertWrong("not in a subnet of this machine", "nat", "--gateway", "10.99.0.1")
        self.assertEqual(self.state_of_machine(), before)

    def test_a_missing_tunnel_device_is_named(self):
        self.assertWrong("no tunnel device 'nosuch0'", "tun", "--vip", VIP, "--tunnel-device", "nosuch0")

    def test_each_tunnel_has_its_modules_and_gue_a_port(self):
        for options, modules, device, port in (
                ((VIP,), ["ipip"], "tunl0", None), ((VIP, "--tunnel", "gre"), ["ip_gre"], "gre0", None),
                ((VIP, "--tunnel", "gue"), ["ipip", "fou"], "tunl0", "-4 6080"),
                ((VIP, "--tunnel", "gue", "--tunnel-port", "07"), ["ipip", "fou"], "tunl0", "-4 7"),
                ((VIP, "--over", "ipv6"), ["ip6_tunnel"], "ip6tnl0", None),
                ((VIP, "--over", "ipv6", "--tunnel", "gre"), ["ip6_gre"], "ip6gre0", None),
                ((VIP6,), ["ip6_tunnel"], "ip6tnl0", None), ((VIP6, "--over", "ipv4"), ["sit"], "sit0", None),
                ((VIP6, "--tunnel", "gre"), ["ip6_gre"], "ip6gre0", None),
                ((VIP6, "--tunnel", "gre", "--over", "ipv4"), ["ip_gre"], "gre0", None),
                ((VIP6, "--tunnel", "gue"), ["ip6_tunnel", "fou"], "ip6tnl0", "-6 6080"),
                ((VIP6, "--tunnel", "gue", "--over", "ipv4"), ["sit", "fou"], "sit0", "-4 6080")):
            with self.subTest(options):
                commands = self.assertDone("tun", "--vip", *options, "--dry-run").splitlines()
                # One that this machine has needs no command.
                self.assertEqual([line.split()[1] for line in commands if line.startswith("modprobe")],
                                 [module for module in modules if not self.has_module(module)])
                self.assertIn(f"ip link set {device} up", commands)
                family, number = port.split() if port else (None, None)
                self.assertEqual([line for line in commands if " fou " in line],
                                 [f"ip {family} fou add port {number} gue"] if port else [])
                # What the device of ip6_tunnel is made for is IPv6.
                self.assertEqual([line for line in commands if line.startswith("ip -6 tunnel")],
                                 ["ip -6 tunnel change ip6tnl0 mode any"] if device == "ip6tnl0" and VIP in options else [])
                length = 32 if VIP in options else 128
                self.assertEqual(commands[-1], f"ip address add {options[0]}/{length} dev lo")
        self.assertWrong("the kernel takes no GUE at UDP port 6080 over ipv4", "tun", "--vip", VIP, "--tunnel", "gue", "--check")
        self.assertWrong("the kernel takes no GUE at UDP port 6080 over ipv6", "tun", "--vip", VIP6, "--tunnel", "gue", "--check")

    def has_module(self, module):
        """Whether the kernel here can do what a module is for."""
        devices = {"ipip": "tunl0", "sit": "sit0", "ip6_tunnel": "ip6tnl0", "ip_gre": "gre0", "ip6_gre": "ip6gre0"}
        probe = f"test -e /sys/class/net/{devices[module]}" if module in devices else "ip fou show"
        return lab.run(NODE, "sh", "-c", probe).returncode == 0

    def test_an_address_of_ipv6_is_one_however_it_is_written(self):
        before = self.state_of_machine()
        for written, shown in (("FD10:0::0100", VIP6), ("fd10:0:0:0:0:0:0:100", VIP6), ("fd10::1:0:0:1", "fd10::1:0:0:1"),
                               ("fd10:0:0:1::", "fd10:0:0:1::"), ("fd10:0:2:0:0:0:3:4", "fd10:0:2::3:4")):
            with self.subTest(written):
                self.assertDone("dr", "--vip", written)
                self.assertIn(f" {shown}/128 ", self.inside("ip", "-6", "-o", "address", "show", "dev", "lo"))
                once = self.state_of_machine()
                self.assertDone("dr", "--vip", shown)
                self.assertEqual(self.state_of_machine(), once)
                self.assertDone("dr", "--vip", shown, "--undo")
                self.assertEqual(self.state_of_machine(), before)

    def test_an_ipv6_address_needs_nothing_of_arp_and_is_wrong_elsewhere_than_on_lo(self):
        self.assertWrong(f"{VIP6}/128 is not on lo", *self.METHODS["dr of IPv6"], "--check")
        self.assertDone(*self.METHODS["dr of IPv6"])
        self.assertEqual(self.read_sysctl("all", "arp_ignore"), 0)
        self.inside("ip", "-6", "address", "add", f"{VIP6}/64", "dev", "eth0", "nodad")
        self.assertWrong(f"{VIP6} is on eth0: this machine answers neighbour discovery for it", *self.METHODS["dr of IPv6"], "--check")
        self.inside("ip", "-6", "address", "del", f"{VIP6}/64", "dev", "eth0")
        self.assertDone(*self.METHODS["dr of IPv6"], "--check")

    def test_a_tunnel_device_without_ipv6_is_wrong_for_an_ipv6_address(self):
        self.assertDone(*self.METHODS["tun of IPv6"])
        self.inside("sysctl", "-qw", "net.ipv6.conf.ipip0.disable_ipv6=1")
        self.assertWrong("IPv6 is off at ipip0", *self.METHODS["tun of IPv6"], "--check")

    def test_by_source_leads_replies_away_and_nothing_else(self):
        self.assertDone(*self.METHODS["nat by source"])
        self.assertIn("via 10.20.0.2 ", self.inside("ip", "route", "get", "198.51.100.1", "from", "10.20.0.11"))
        self.assertIn("via 10.20.0.1 ", self.inside("ip", "route", "get", "198.51.100.1"))
        self.assertNotIn("via", self.inside("ip", "route", "get", "10.20.0.9", "from", "10.20.0.11"))

    def test_by_source_leads_ipv6_replies_away_and_nothing_else(self):
        self.assertDone(*self.METHODS["nat of IPv6 by source"])
        self.assertIn("via fd20::2 ", self.inside("ip", "route", "get", "2001:db8::1", "from", "fd20::11"))
        self.assertIn("via fd20::1 ", self.inside("ip", "route", "get", "2001:db8::1"))
        self.assertNotIn("via", self.inside("ip", "route", "get", "fd20::9", "from", "fd20::11"))

    def test_nat_of_ipv6_goes_before_all_default_routes_and_they_stay(self):
        self.inside("ip", "-6", "route", "add", "default", "via", "fd20::9", "metric", "5")
        routes = self.inside("ip", "-6", "route", "show", "default").splitlines()
        self.assertDone(*self.METHODS["nat of IPv6"])
        self.assertIn("via fd20::2 ", self.inside("ip", "route", "get", "2001:db8::1"))
        self.assertLess(set(routes), set(self.inside("ip", "-6", "route", "show", "default").splitlines()))
        self.inside("ip", "-6", "route", "del", "default", "metric", "1")
        self.assertWrong("leave by fd20::9, not by the director fd20::2", *self.METHODS["nat of IPv6"], "--check")

    def test_nat_of_both_families_is_taken_back_at_once_or_each_by_itself(self):
        before = self.state_of_machine()
        for gateways in ((), ("10.20.0.2", "fd20::2"), ("fd20::2", "10.20.0.2")):
            with self.subTest(gateways):
                self.assertDone(*self.METHODS["nat"])
                self.assertDone(*self.METHODS["nat of IPv6"])
                for options in [("--gateway", gateway) for gateway in gateways] or [()]:
                    self.assertNotEqual(self.state_of_machine(), before)
                    self.assertDone("nat", *options, "--undo")
                self.assertEqual(self.state_of_machine(), before)
        self.assertIn("nothing to undo", self.assertDone("nat", "--undo"))

    def test_bad_usage_has_status_2(self):
        for arguments in ((), ("dr",), ("nat",), ("dr", "--vip", "10.10.0.300"), ("dr", "--vip"),
                          ("nat", "--gateway", "fe80::2"), ("nat", "--gateway", "fd20::g"),
                          ("dr", "--vip", VIP, "--gateway", "10.20.0.2"), ("gue", "--vip", VIP),
                          ("dr", "--vip", VIP, "--check", "--undo"), ("dr", "--vip", VIP, "--tunnel", "gue"),
                          ("nat", "--gateway", "10.20.0.2", "--tunnel-device", "gre0"), ("tun", "--vip", VIP, "--tunnel", "vxlan"),
                          ("tun", "--vip", VIP, "--over", "ipv5"), ("dr", "--vip", VIP6, "--over", "ipv4"),
                          *(("dr", "--vip", bad) for bad in ("::1", "::", "ff02::1", "fe80::1", "127.0.0.1", "224.0.0.1", "0.0.0.0")),
                          *(("dr", "--vip", bad) for bad in ("fd10::g", "fd10:::1", "fd10::1::2", "1:2:3:4:5:6:7", "fd10::1:", "::ffff:10.0.0.1")),
                          ("tun", "--vip", VIP, "--tunnel-port", "6080"), ("tun", "--vip", VIP, "--tunnel", "gre", "--tunnel-port", "1"),
                          *(("tun", "--vip", VIP, "--tunnel", "gue", "--tunnel-port", port) for port in ("0", "65536", "x", "-1"))):
            with self.subTest(arguments):
                done = lab.run(NODE, str(SCRIPT), *arguments)
                self.assertEqual(done.returncode, 2)
                self.assertIn("--help", done.stderr)
