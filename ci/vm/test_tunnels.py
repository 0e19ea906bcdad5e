"""Tunnels to a real kernel: weir beside the machine, and the machine as the real server that scripts/real-server makes of it."""

import hashlib
import os
import unittest

import lab
from machine import Guest, Nic, director

NIC = Nic("virtio-net-pci", "inner", 1)
ADDRESS = "10.20.0.14"
VIP = lab.VIPS["tun"]
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
# Names itself, says who asked, and sums up what it is sent.
PAGE = f"""#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
echo "{ADDRESS} $REMOTE_ADDR $(head -c "${{CONTENT_LENGTH:-0}}" | sha256sum)"
"""

guest = None


def setUpModule():
    """One machine is a real server of each kind, one after the other."""
    global guest
    guest = Guest([NIC], iommu=False).start()
    # weir keeps the director's leg, so the machine gets a cable of its own to the same LAN.
    director("ip", "link", "set", "inner", "nomaster")
    director("ip", "link", "add", "cable", "type", "veth", "peer", "name", "to-machine", "netns", f"{lab.NAME}-inner")
    director("ethtool", "-K", "cable", "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off")
    director("ip", "link", "set", "cable", "master", "br-inner", "up")
    lab.run("inner", "ip", "link", "set", "to-machine", "master", "bridge", "up", check=True)
    guest.plug(NIC)
    interface = guest.interface_of(NIC)
    guest.shell(f"{IP} link set {interface} up; {IP} address add {ADDRESS}/24 dev {interface}; {IP} route add default via 10.20.0.1;"
                "mkdir -p /www/cgi-bin")
    guest.ask("write", path="/www/cgi-bin/page", text=PAGE)
    guest.shell("chmod +x /www/cgi-bin/page; busybox httpd -p 80 -h /www; modprobe ip_gre;"
                f"{IP} link add checked type gre local {ADDRESS} icsum")


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


class Tunnels(unittest.TestCase):
    """Each kind that weir makes."""

    method = "a kernel's tunnels"

    def machine(self):
        """Everything that the script may change there."""
        return guest.shell(f"{IP} -4 address; {IP} -4 route show table all; {IP} fou show; cat /proc/sys/net/ipv4/conf/*/rp_filter")

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

    def test_the_set_up_is_checked_and_taken_back(self):
        for module in ("ipip", "fou", "ip_gre"):
            guest.run("modprobe", module)
        before = self.machine()
        for kind, (options, _, _) in KINDS.items():
            with self.subTest(kind):
                command = ("/real-server", "tun", "--vip", VIP, "--state-dir", STATE, *options)
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
