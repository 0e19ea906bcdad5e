"""Tunnels to a real kernel: weir beside the machine, and the machine as the real server that scripts/real-server makes of it."""

import hashlib
import os
import unittest

import lab
import test_ipv6
from machine import Guest, Nic, director

NIC = Nic("virtio-net-pci", "inner", 1)
ADDRESS = "10.20.0.14"
ADDRESS6 = "fd20::14"
VIP = lab.VIPS["tun"]
VIP6 = test_ipv6.VIP
STATE = "/run/real-server"
# busybox's shell would take its own.
IP = "/usr/bin/ip"
MEGABYTE = 1 << 20
# What the script is asked for beside the VIP, the keys of the real server in weir's file, and what the tunnel's headers take.
KINDS = {
    "ipip": ((), {}, 20),
    "gue": (("--tunnel", "gue"), {"tunnel": "gue"}, 32),
    "gue with a checksum, at a port of its own": (
        ("--tunnel", "gue", "--tunnel-port", "6666"), {"tunnel": "gue", "tunnel_port": 6666, "tunnel_checksum": "csum"}, 32),
    "gre": (("--tunnel", "gre"), {"tunnel": "gre"}, 24),
    "gre with a checksum": (
        ("--tunnel", "gre", "--tunnel-device", "checked"), {"tunnel": "gre", "tunnel_checksum": "csum"}, 28),
}
# With IPv6 at either end: virtual address, family outside, and as above; what the headers of the tunnel itself take. IPv6 outside takes
# 40 bytes more.
KINDS6 = {
    **{f"{name} with IPv6 in {over}": (VIP6, over, *kind) for over in ("ipv4", "ipv6") for name, kind in {
        "ip": ((), {}, 0), "gue": (("--tunnel", "gue"), {"tunnel": "gue"}, 12),
        "gue with a checksum": (("--tunnel", "gue"), {"tunnel": "gue", "tunnel_checksum": "csum"}, 12),
        "gre": (("--tunnel", "gre"), {"tunnel": "gre"}, 4)}.items()},
    "gre with a checksum and IPv6 in ipv4": (VIP6, "ipv4", ("--tunnel", "gre", "--tunnel-device", "checked"),
                                             {"tunnel": "gre", "tunnel_checksum": "csum"}, 8),
    "gre with a checksum and IPv6 in ipv6": (VIP6, "ipv6", ("--tunnel", "gre", "--tunnel-device", "checked6"),
                                             {"tunnel": "gre", "tunnel_checksum": "csum"}, 8),
    "ip with IPv4 in ipv6": (VIP, "ipv6", (), {}, 0),
    "gue with IPv4 in ipv6": (VIP, "ipv6", ("--tunnel", "gue"), {"tunnel": "gue"}, 12),
    "gre with IPv4 in ipv6": (VIP, "ipv6", ("--tunnel", "gre"), {"tunnel": "gre"}, 4),
}
OUTSIDE = {"ipv4": (ADDRESS, 20), "ipv6": (ADDRESS6, 40)}
# Names itself, says who asked, and sums up what it is sent. What listens for both families writes addresses as IPv6, in brackets.
PAGE = f"""#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
client=$(echo "$REMOTE_ADDR" | tr -d '[]')
echo "{ADDRESS} ${{client#::ffff:}} $(head -c "${{CONTENT_LENGTH:-0}}" | sha256sum)"
"""

guest = None


def setUpModule():
    """One machine is a real server of each kind, one after the other."""
    global guest
    guest = Guest([NIC], iommu=False, ipv6=True).start()
    # weir keeps the director's leg, so the machine gets a cable of its own to the same LAN.
    director("ip", "link", "set", "inner", "nomaster")
    director("ip", "link", "add", "cable", "type", "veth", "peer", "name", "to-machine", "netns", f"{lab.NAME}-inner")
    director("ethtool", "-K", "cable", "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off")
    director("ip", "link", "set", "cable", "master", "br-inner", "up")
    lab.run("inner", "ip", "link", "set", "to-machine", "master", "bridge", "up", check=True)
    guest.plug(NIC)
    interface = guest.interface_of(NIC)
    guest.shell(f"{IP} link set {interface} up; {IP} address add {ADDRESS}/24 dev {interface}; {IP} route add default via 10.20.0.1;"
                f"{IP} -6 address add {ADDRESS6}/64 dev {interface} nodad; {IP} -6 route add default via {test_ipv6.ROUTER};"
                "mkdir -p /www/cgi-bin")
    guest.ask("write", path="/www/cgi-bin/page", text=PAGE)
    guest.shell("chmod +x /www/cgi-bin/page; busybox httpd -p 80 -h /www; modprobe ip_gre; modprobe ip6_gre;"
                f"{IP} link add checked type gre local {ADDRESS} icsum; {IP} link add checked6 type ip6gre local {ADDRESS6} icsum")


def tearDownModule():
    """Switches it off."""
    if guest:
        lab.run("director", "ip", "link", "delete", "cable")
        guest.end()


def config(keys):
    """The lab's file, in which the TUN virtual server has the machine alone."""
    text = lab.config()
    start, end = text.index('name = "tun"'), text.rindex("[[virtual_server]]")
    head = text[start:end].partition("[[virtual_server.real_server]]")[0]
    lines = "".join(f"\n  {key} = {value if isinstance(value, int) else repr(value)}" for key, value in keys.items())
    return f'{text[:start]}{head}[[virtual_server.real_server]]\n  address = "{ADDRESS}"{lines}\n\n{text[end:]}'


def config6(vip, server, keys):
    """A file with one virtual server and one real server, of whatever families."""
    lines = "".join(f"\n{key} = {value!r}" for key, value in keys.items())
    text = '[http]\nlisten = "127.0.0.1:9292"\n[connections]\ncapacity = 65_536\n'
    for number, (port, addresses) in enumerate({"outer": ("10.10.0.2/24", "fd10::2/64"), "inner": ("10.20.0.2/24", "fd20::2/64")}.items()):
        text += f'[[port]]\nname = "{port}"\ndevice = "net_af_packet{number}"\naddresses = {list(addresses)}\n'
    return (f'{text}[[virtual_server]]\nname = "web"\naddress = "{vip}"\nport = 80\nprotocol = "tcp"\nforwarding = "tun"\n'
            f'[[virtual_server.real_server]]\naddress = "{server}"{lines}\n')


class Tunnels(unittest.TestCase):
    """Each kind that weir makes."""

    method = "a kernel's tunnels"

    def machine(self):
        """Everything that the script may change there."""
        return guest.shell(f"{IP} -4 address; {IP} -4 route show table all; {IP} fou show; cat /proc/sys/net/ipv4/conf/*/rp_filter;"
                           f"{IP} -6 address show dev lo; {IP} -6 tunnel show ip6tnl0; {IP} -br link")

    def test_clients_are_served_and_told_what_fits(self):
        blob = os.urandom(MEGABYTE)
        path = lab.RUN / "up"
        path.write_bytes(blob)
        wanted = f"{ADDRESS} {lab.CLIENT} {hashlib.sha256(blob).hexdigest()}"
        for kind, (options, keys, overhead) in KINDS.items():
            with self.subTest(kind):
                guest.run("/real-server", "tun", "--vip", VIP, "--state-dir", STATE, *options)
                lab.run("client", "ip", "route", "flush", "cache", check=True)
                with lab.Weir(config(keys)):
                    done = lab.get(f"http://{VIP}/cgi-bin/page", "--data-binary", f"@{path}")
                self.assertEqual((done.returncode, done.stdout.split("  ")[0]), (0, wanted), done.stderr)
                self.assertIn(f" mtu {1500 - overhead}", lab.run("client", "ip", "route", "get", VIP).stdout)
                guest.run("/real-server", "tun", "--vip", VIP, "--state-dir", STATE, *options, "--undo")

    def test_clients_are_served_with_ipv6_inside_or_outside_and_told_what_fits(self):
        test_ipv6.switch("client", 0)
        self.addCleanup(test_ipv6.switch, "client", 1)
        test_ipv6.address("client", "outer", f"{test_ipv6.CLIENT}/64")
        test_ipv6.address("client", "inner", f"{test_ipv6.ROUTER}/64")
        blob = os.urandom(MEGABYTE)
        path = lab.RUN / "up"
        path.write_bytes(blob)
        for kind, (vip, over, options, keys, shim) in KINDS6.items():
            with self.subTest(kind):
                guest.run("/real-server", "tun", "--vip", vip, "--over", over, "--state-dir", STATE, *options)
                family, client, host = ("-6", test_ipv6.CLIENT, f"[{vip}]") if vip == VIP6 else ("-4", lab.CLIENT, vip)
                lab.run("client", "ip", family, "route", "flush", "cache", check=True)
                server, outer = OUTSIDE[over]
                with lab.Weir(config6(vip, server, keys)):
                    done = lab.get(f"http://{host}/cgi-bin/page", "--globoff", "--max-time", "60", "--data-binary", f"@{path}")
                wanted = f"{ADDRESS} {client} {hashlib.sha256(blob).hexdigest()}"
                self.assertEqual((done.returncode, done.stdout.split("  ")[0]), (0, wanted), done.stderr)
                self.assertIn(f" mtu {1500 - outer - shim}", lab.run("client", "ip", family, "route", "get", vip).stdout)
                guest.run("/real-server", "tun", "--vip", vip, "--over", over, "--state-dir", STATE, *options, "--undo")

    def test_the_set_up_is_checked_and_taken_back(self):
        for module in ("ipip", "sit", "ip6_tunnel", "fou", "ip_gre", "ip6_gre"):
            guest.run("modprobe", module)
        before = self.machine()
        of_ipv4 = {kind: (VIP, "ipv4", *rest) for kind, rest in KINDS.items()}
        for kind, (vip, over, options, _, _) in {**of_ipv4, **KINDS6}.items():
            with self.subTest(kind):
                command = ("/real-server", "tun", "--vip", vip, "--over", over, "--state-dir", STATE, *options)
                wrong = guest.ask("run", command=[*command, "--check"], seconds=60)
                self.assertEqual(wrong["status"], 1, wrong)
                if "gue" in kind:
                    self.assertIn("the kernel takes no GUE at UDP port", wrong["err"])
                guest.run(*command)
                guest.run(*command)
                guest.run(*command, "--check")
                self.assertNotEqual(self.machine(), before)
                guest.run(*command, "--undo")
                self.assertEqual(self.machine(), before)
