"""What passes a host interface besides plain IPv4: jumbo frames, IPv6, VLAN tags; and host interfaces of several workers.

The director and the client have a cable of their own for this, with an MTU of 9000.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
import unittest

import lab
from test_host import config, service

CABLE = "wide"
DIRECTOR, CLIENT = "10.40.0.2", "10.40.0.10"
DIRECTOR_6, CLIENT_6 = "2001:db8:40::2", "2001:db8:40::10"
MTU = 9000
BODY_BYTES = 4 << 20
# VLAN 7 and an EtherType for experiments (IEEE Std 802, local experimental 1).
TAG, CONTENT = b"\x81\x00\x00\x07", b"\x88\xb5"

ECHO_PORT = 7007
ECHO = f"""
import socket, sys
door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); door.bind((sys.argv[1], {ECHO_PORT}))
while True: door.sendto(*door.recvfrom(2048))
"""
# Sends numbers by several flows, a hundred a second each; prints how many came back and how many after a higher one.
NUMBERED = f"""
import select, socket, sys, time
lines = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(int(sys.argv[2]))]
for line in lines:
    line.connect((sys.argv[1], {ECHO_PORT}))
highest, echoed, disorder = {{line: -1 for line in lines}}, 0, 0
begun, number = time.monotonic(), 0
while time.monotonic() < begun + 4:
    if number < 300 and time.monotonic() >= begun + number * 0.01:
        for line in lines:
            line.send(b"%d" % number)
        number += 1
    for line in select.select(lines, [], [], 0.002)[0]:
        came, echoed = int(line.recv(64)), echoed + 1
        disorder += came < highest[line]
        highest[line] = max(highest[line], came)
print(echoed, disorder)
"""
SEND = """
import socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
wire.bind((sys.argv[1], 0))
for _ in range(3):
    wire.send(bytes.fromhex(sys.argv[2]))
"""


def wide_config(addresses=(DIRECTOR + "/24", DIRECTOR_6 + "/64")):
    """The lab's file with the cable's port, whose frames need larger buffers."""
    listed = ", ".join(f'"{address}"' for address in addresses)
    return f"""
[memory]
mbuf_data_bytes = 12_288

{lab.config()}
[[port]]
name = "{CABLE}"
device = "net_af_packet2"
addresses = [{listed}]
mtu = {MTU}
host_interface = "weir2"
"""


def device():
    """EAL's options for the port: its ring must have room for the frames, and be made of blocks that they fill (DPDK reads on without a gap)."""
    return ["--vdev", f"net_af_packet2,iface={CABLE},framesz=12288,framecnt=256,blocksz=12288"]


@contextlib.contextmanager
def cable():
    """Between the director and the client."""
    director, client = f"{lab.NAME}-director", f"{lab.NAME}-client"
    subprocess.run(["ip", "link", "add", CABLE, "mtu", str(MTU), "netns", director, "type", "veth",
                    "peer", "name", CABLE, "mtu", str(MTU), "netns", client], check=True, capture_output=True)
    try:
        for node in ("director", "client"):
            lab.run(node, "ethtool", "-K", CABLE, "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off", check=True)
        lab.run("client", "ip", "address", "add", f"{CLIENT}/24", "dev", CABLE, check=True)
        lab.run("client", "ip", "address", "add", f"{CLIENT_6}/64", "dev", CABLE, "nodad", check=True)
        # The director's end is weir's: its kernel says nothing there.
        lab.run("director", "sysctl", "-qw", f"net.ipv6.conf.{CABLE}.disable_ipv6=1", check=True)
        for node in ("director", "client"):
            lab.run(node, "ip", "link", "set", CABLE, "up", check=True)
        yield
    finally:
        subprocess.run(["ip", "-n", director, "link", "del", CABLE], capture_output=True, check=False)


@contextlib.contextmanager
def ipv6():
    """IPv6 in the director and the client, which the lab has off."""
    def switch(value):
        for node in ("director", "client"):
            for kind in ("all", "default"):
                lab.run(node, "sysctl", "-qw", f"net.ipv6.conf.{kind}.disable_ipv6={value}", check=True)
    switch(0)
    try:
        yield
    finally:
        switch(1)


def fetched(node, url):
    """What curl in a node gets."""
    return subprocess.run(lab.inside(node, "curl", "--silent", "--fail", "--max-time", "20", url), capture_output=True)


class Wide(unittest.TestCase):
    """One weir for all of these."""

    @classmethod
    def setUpClass(cls):
        for context in (ipv6(), cable()):
            context.__enter__()
            cls.addClassCleanup(context.__exit__, None, None, None)
        cls.weir = lab.Weir(wide_config(), device()).__enter__()
        cls.addClassCleanup(cls.weir.__exit__, None, None, None)
        cls.files = lab.RUN / "wide-files"
        cls.files.mkdir(exist_ok=True)
        cls.body = os.urandom(BODY_BYTES)
        (cls.files / "body").write_bytes(cls.body)

    def assertPings(self, node, address, *options):
        """Three pings of three are answered."""
        done = lab.run(node, "ping", "-n", "-c", "3", "-i", "0.2", "-W", "2", *options, address)
        self.assertIn(" 0% packet loss", done.stdout, done.stdout + done.stderr)

    def assertServes(self, node, client, address):
        """A server at an address of a node gives all of a large file."""
        shown = f"[{address}]" if ":" in address else address
        with service(node, sys.executable, "-m", "http.server", "--bind", address, "--directory", str(self.files), "2281"):
            url = f"http://{shown}:2281/body"
            lab.wait_for("the server", lambda: fetched(client, url).returncode == 0, 10)
            self.assertEqual(fetched(client, url).stdout, self.body)

    def test_jumbo_frames_pass_whole_both_ways(self):
        largest = str(MTU - 28)
        with lab.capture("client", CABLE) as path:
            self.assertPings("client", DIRECTOR, "-s", largest, "-M", "do")
            self.assertPings("director", CLIENT, "-s", largest, "-M", "do")
        lengths = lab.run("client", "tshark", "-r", str(path), "-Y", "icmp", "-T", "fields", "-e", "frame.len").stdout.split()
        self.assertEqual(set(lengths), {str(MTU + 14)})
        self.assertEqual(len(lengths), 12)

    def test_tcp_uses_jumbo_frames_both_ways(self):
        self.assertServes("director", "client", DIRECTOR)
        self.assertServes("client", "director", CLIENT)

    def test_ipv6_ping_both_ways(self):
        self.assertPings("client", DIRECTOR_6)
        self.assertPings("director", CLIENT_6)
        self.assertPings("client", DIRECTOR_6, "-s", str(MTU - 48), "-M", "do")

    def test_tcp_over_ipv6_both_ways(self):
        self.assertServes("director", "client", DIRECTOR_6)
        self.assertServes("client", "director", CLIENT_6)
        counted = self.weir.metrics()
        self.assertGreater(counted.total("weir_punted_packets_total", **{"class": "neighbor"}), 0)
        self.assertGreater(counted.total("weir_punted_packets_total", **{"class": "established"}), 0)

    def test_vlan_tags_stay_on_both_ways(self):
        there, here = lab.mac_of("director", "weir2"), lab.mac_of("client", CABLE)
        self.assertTagged("client", CABLE, there, here, "director", "weir2")
        self.assertTagged("director", "weir2", here, there, "client", CABLE)

    def assertTagged(self, node, interface, to, sender, other, arrives):
        """Frames with a tag, put on an interface of one node, come out of that of the other as they are."""
        frame = bytes.fromhex((to + sender).replace(":", "")) + TAG + CONTENT + b"weir" * 15
        with lab.capture(other, arrives) as path:
            lab.run(node, sys.executable, "-c", SEND, interface, frame.hex(), check=True)
            time.sleep(0.3)
        self.assertEqual(path.read_bytes().count(frame), 3)


class WithoutIpv6(unittest.TestCase):
    """The lab's nodes have IPv6 off."""

    def test_an_ipv6_address_says_what_is_off(self):
        text = config().replace(f'"{lab.DIRECTOR_OUTER}/24"', f'"{lab.DIRECTOR_OUTER}/24", "{DIRECTOR_6}/64"')
        ended = lab.ends(text)
        self.assertEqual(ended.status, 1, ended.output)
        self.assertIn(f"address {DIRECTOR_6}/64 is not added: the kernel's IPv6 is off here", ended.output)


class SeveralWorkers(unittest.TestCase):
    """Two workers share the host interfaces: what is for the host comes in on either's queue."""

    FLOWS = 16

    def test_two_workers_share_taps_and_neighbours(self):
        with lab.Weir(config(), environment={"WEIR_LAB_WORKERS": "2"}) as weir:
            for node, address in (("client", lab.DIRECTOR_OUTER), ("A", lab.DIRECTOR_INNER), ("director", lab.CLIENT)):
                done = lab.run(node, "ping", "-n", "-c", "5", "-i", "0.2", "-W", "2", address)
                self.assertIn(" 0% packet loss", done.stdout, done.stdout + done.stderr)
            # What the kernel has asked for, the worker that sends for it knows as well. The other has a cache of its own, and asks once.
            for address in lab.REAL_SERVERS.values():
                lab.run("director", "ping", "-n", "-c", "1", "-W", "2", address, check=True)
            with lab.capture("A", "eth0") as path:
                seen = lab.answers(lab.VIPS["dr"], 24)
            asked = lab.run("A", "tshark", "-r", str(path), "-Y", f"arp.opcode == 1 && eth.src == {lab.mac_of('director', 'inner')}",
                            "-T", "fields", "-e", "arp.dst.proto_ipv4").stdout.split()
            self.assertEqual(len(asked), len(set(asked)), asked)
            shares = [weir.metrics().total("weir_connections", worker=worker) for worker in ("0", "1")]
            self.assertGreater(min(shares), 0, seen)
            with service("director", sys.executable, "-c", ECHO, lab.DIRECTOR_OUTER):
                lab.wait_for("the echo", lambda: f":{ECHO_PORT} " in lab.run("director", "ss", "-Hlun").stdout, 5)
                done = lab.run("client", sys.executable, "-c", NUMBERED, lab.DIRECTOR_OUTER, str(self.FLOWS), check=True)
            echoed, out_of_order = map(int, done.stdout.split())
            metrics = weir.metrics()
            received = [worker["received"] for worker in json.loads(weir.http("/api/v1/workers").stdout)["workers"]]
        self.assertGreater(min(received), 100)
        print(f"{self.FLOWS} flows, {echoed} datagrams echoed, {out_of_order} out of order; received by worker: {received}")
        self.assertGreater(echoed, self.FLOWS * 100)
        self.assertEqual(out_of_order, 0, "a flow has one worker, and one way to the tap and back")
        self.assertEqual(metrics.total("weir_punt_drops_total", **{"class": "established"}), 0)
