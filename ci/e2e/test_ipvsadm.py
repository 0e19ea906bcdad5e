"""ipvsadm's commands through weir's socket, against sessions that were recorded with a kernel."""

import gzip
import json
import os
import pathlib
import re
import socket
import struct
import unittest

import flood_frames
import lab
from test_weirctl import WEIRCTL

SESSIONS = lab.ROOT / "weirctl" / "testdata" / "ipvsadm" / "kernel.jsonl.gz"
GATEWAY = "02:00:00:00:01:fe"
FILE = """
[control]
socket = "{socket}"

[http]
listen = "127.0.0.1:9292"

[connections]
capacity = 65_536

[[port]]
name = "outer"
device = "net_af_packet0"
addresses = ["198.18.0.1/24"]

[[port]]
name = "inner"
device = "net_af_packet1"
addresses = ["10.99.0.1/24", "fd99::1/64"]

[[route]]
destination = "0.0.0.0/0"
gateway = "198.18.0.254"

[[neighbor]]
address = "198.18.0.254"
mac = "02:00:00:00:01:fe"
""" + "".join(f'[[neighbor]]\naddress = "10.99.0.{n}"\nmac = "02:00:00:00:02:{n + 6:02x}"\n' for n in range(11, 18))

# What weir refuses, by a part of the command, with a part of what it says. Lines of listings about what was not added are not
# looked for.
REFUSED = {
    "-w 65536": "`weight`",
    "--start-daemon master": "synchronises connections by its file",
    "--start-daemon backup": "synchronises connections by its file",
}
# Steps that can't be as recorded, each with the reason.
APART = {
    # There is none to stop, and no device is looked for.
    ("daemon", "--stop-daemon"),
    ("daemon", "--mcast-interface nosuch"),
    # A director is no real server of its own, and serves no address that stays within its host.
    ("save-names", ""),
}


def sessions():
    with gzip.open(SESSIONS, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def send(frames, interface="outer"):
    """Sends frames from the client."""
    program = ("import socket, sys\n"
               "door = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n"
               f"door.bind(({interface!r}, 0))\n"
               "for line in sys.stdin:\n    door.send(bytes.fromhex(line))\n")
    done = lab.run("client", "/usr/bin/python3", "-c", program, input="\n".join(frame.hex() for frame in frames))
    assert done.returncode == 0, done.stderr


def frame(protocol, client, port):
    """What a recorded session sent: one SYN, or one datagram."""
    there = bytes.fromhex(lab.mac_of("director", "outer").replace(":", ""))
    here = bytes.fromhex(GATEWAY.replace(":", ""))
    source, destination = socket.inet_aton(client), socket.inet_aton("192.0.2.1")
    if protocol == "tcp":
        packet = flood_frames.tcp(source, destination, (port, 80), 0x02)
    else:
        packet = flood_frames.udp(source, destination, (port, 53))
    return there + here + struct.pack("!H", flood_frames.ETH_P_IP) + packet


class Ipvsadm(unittest.TestCase):
    """One weir that serves nothing at first."""

    @classmethod
    def setUpClass(cls):
        folder = lab.RUN / "ipvsadm"
        folder.mkdir(exist_ok=True)
        cls.folder = folder
        for name in ("ipvsadm", "ipvsadm-save", "ipvsadm-restore"):
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(pathlib.Path(WEIRCTL).resolve())
        cls.socket = folder / "weir.sock"
        cls.weir = lab.Weir(FILE.format(socket=cls.socket))
        cls.enterClassContext(cls.weir)

    def setUp(self):
        self.ipvsadm("-C")
        self.ipvsadm("--set", "900", "120", "300")
        # A real server that comes back has the connections that it had.
        lab.wait_for("an empty table", lambda: self.weir.metrics().total("weir_connections") == 0, 30)

    def ipvsadm(self, *arguments, stdin=None, name="ipvsadm"):
        environment = {**os.environ, "WEIR_SOCKET": str(self.socket)}
        return lab.run("director", str(self.folder / name), *arguments, input=stdin, env=environment)

    def test_recorded_sessions_are_answered_to_the_letter(self):
        for session in sessions():
            if session.get("sent"):
                continue
            with self.subTest(session["session"]):
                self.setUp()
                self.play(session)

    def test_sessions_with_traffic_list_what_the_kernel_listed(self):
        for session in sessions():
            if not session.get("sent"):
                continue
            with self.subTest(session["session"]):
                self.setUp()
                self.play(session)

    def play(self, session):
        """Carries out a session and compares."""
        name, sent, absent = session["session"], session.get("sent"), set()
        for step in session["steps"]:
            command = step["cmd"].removeprefix("ipvsadm ")
            if sent and command.startswith("-L"):
                send([frame(*one) for one in sent])
                count = len(sent)
                lab.wait_for("the connections", lambda count=count: self.weir.metrics().total("weir_connections") == count, 20)
                sent = None
            if session.get("sent") and command == "-Lcn" and self.is_cleared:
                # Connections of servers that are gone end within seconds; the kernel keeps them for up to 15 minutes.
                continue
            self.is_cleared = command == "-C" or (getattr(self, "is_cleared", False) and command.startswith("-L"))
            done = self.ipvsadm(*command.split(" "), stdin=step.get("stdin"))
            refusal = next((text for part, text in REFUSED.items() if part in command and step["rc"] == 0), None)
            if refusal is not None:
                self.assertEqual(done.returncode, 255, f"{name}: {command}: {done.stdout}")
                self.assertIn(refusal, done.stderr)
                absent.update(re.findall(r"-r (\S+)", command) or ["sync daemon"])
                continue
            if any(session == name and part in command for session, part in APART):
                continue
            expected = "".join(line for line in step["stdout"].splitlines(keepends=True)
                               if not any(what in line for what in absent))
            self.compare(f"{name}: {command}", step, expected, done, bool(session.get("sent")))

    def compare(self, what, step, expected, done, is_counting):
        """The exit status, and everything that was printed."""
        self.assertEqual((done.returncode, done.stderr), (step["rc"], step["stderr"]), what)
        if "-Lcn" in what:
            # In no order, and from another second.
            self.assertEqual(*(sorted(re.sub(r" (0[04]):5\d ", r" \1:5. ", text).splitlines()) for text in (done.stdout, expected)), what)
        elif is_counting and "--stats" in what:
            # The kernel had not brought its counters up to date.
            self.assertEqual(*([line.split()[:2] for line in text.splitlines()] for text in (done.stdout, expected)), what)
        else:
            self.assertEqual(done.stdout, expected, what)

    def test_counters_are_there_at_once_and_begin_anew(self):
        for command in ("-A -t 192.0.2.1:80 -s rr", "-a -t 192.0.2.1:80 -r 10.99.0.11:80 -m"):
            self.assertEqual(self.ipvsadm(*command.split()).returncode, 0, command)
        send([frame("tcp", "198.18.7.1", 20_000 + n) for n in range(3)])
        counted = ["TCP", "192.0.2.1:80", "3", "3", "0", "120", "0"]
        line = lambda: self.ipvsadm("-Ln", "--stats").stdout.splitlines()[3].split()
        lab.wait_for("three connections", lambda: line() == counted, 20)
        self.assertEqual(self.ipvsadm("-Z").returncode, 0)
        self.assertEqual(line(), ["TCP", "192.0.2.1:80", "0", "0", "0", "0", "0"])

    def test_rules_are_saved_and_restored_and_a_bad_one_is_named(self):
        rules = ("-A -t 192.0.2.1:80 -s wrr -p 77 -M 255.255.255.0\n-a -t 192.0.2.1:80 -r 10.99.0.11:80 -m -w 3\n"
                 "-A -u 192.0.2.1:53 -s sh -o -b sh-port\n-a -u 192.0.2.1:53 -r 10.99.0.12:53 -g -w 0\n")
        self.assertEqual(self.ipvsadm("-R", stdin=rules).returncode, 0)
        self.assertEqual(self.ipvsadm("-Sn").stdout, rules)
        done = self.ipvsadm("-R", stdin="-A -t 192.0.2.2:80\n-A -t 192.0.2.1:80\n-A -t 192.0.2.3:80\n")
        self.assertEqual((done.returncode, done.stderr.splitlines()[0]), (0, "Service already exists"))
        self.assertIn("line 2 of the rules", done.stderr)
        self.assertEqual(len(self.ipvsadm("-Sn").stdout.splitlines()), 6)

    def test_saved_rules_take_the_place_of_all_at_once_or_not_at_all(self):
        self.assertEqual(self.ipvsadm("-A", "-t", "192.0.2.9:80").returncode, 0)
        rules = "-A -t 192.0.2.1:80 -s wrr\n-a -t 192.0.2.1:80 -r 10.99.0.11:80 -m -w 3\n"
        bad = self.ipvsadm(name="ipvsadm-restore", stdin=f"# saved\n{rules}-a -t 192.0.2.1:80 -r 10.99.0.11:80 -m\n")
        self.assertEqual((bad.returncode, bad.stderr.splitlines()[0]), (255, "Destination already exists"))
        self.assertIn("line 4 of the rules", bad.stderr)
        self.assertEqual(self.ipvsadm("-n", name="ipvsadm-save").stdout, "-A -t 192.0.2.9:80 -s wlc\n")
        good = self.ipvsadm(name="ipvsadm-restore", stdin=f"# saved\n{rules}")
        self.assertEqual((good.returncode, good.stderr), (0, ""))
        self.assertEqual(self.ipvsadm("-n", name="ipvsadm-save").stdout, rules)

    def test_ipv6_real_servers_of_an_ipv4_virtual_server_are_added_listed_saved_and_restored(self):
        service = "-t 192.0.2.1:80"
        for command in (f"-A {service} -s rr", f"-a {service} -r [fd99::11]:80 -i -w 2",
                        f"-a {service} -r [fd99::12]:80 -i --tun-type gue --tun-port 6081",
                        f"-a {service} -r 10.99.0.11 -i", f"-e {service} -r [fd99::11]:80 -i -w 3"):
            done = self.ipvsadm(*command.split(" "))
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""), command)
        listed = self.ipvsadm("-Ln").stdout.splitlines()
        self.assertEqual(listed[-4:], [
            "TCP  192.0.2.1:80 rr",
            f"  -> {'10.99.0.11:80':<28} Tunnel  1      0          0         ",
            f"  -> {'[fd99::11]:80':<28} Tunnel  3      0          0         ",
            f"  -> {'[fd99::12]:80':<28} Tunnel  1      0          0         "])
        saved = self.ipvsadm("-n", name="ipvsadm-save").stdout
        self.assertEqual(saved, f"-A {service} -s rr\n-a {service} -r 10.99.0.11:80 -i -w 1 --tun-type ipip\n"
                                f"-a {service} -r [fd99::11]:80 -i -w 3 --tun-type ipip\n"
                                f"-a {service} -r [fd99::12]:80 -i -w 1 --tun-type gue --tun-port 6081 --tun-nocsum\n")
        self.assertEqual(self.ipvsadm(*f"-d {service} -r [fd99::11]:80".split(" ")).returncode, 0)
        self.assertNotIn("fd99::11", self.ipvsadm("-Ln").stdout)
        self.assertEqual(self.ipvsadm(name="ipvsadm-restore", stdin=saved).returncode, 0)
        self.assertEqual(self.ipvsadm("-n", name="ipvsadm-save").stdout, saved)
        refused = self.ipvsadm(*f"-a {service} -r [fd99::13]:80 -g".split(" "))
        self.assertEqual(refused.returncode, 2)
        self.assertIn("Different address family is allowed only for tunneling servers", refused.stderr)

    def test_ipv6_virtual_servers_are_added_listed_saved_and_restored(self):
        tcp, udp = "-t [2001:db8::1]:80", "-u [2001:db8::1]:53"
        for command in (f"-A {tcp} -s rr", f"-a {tcp} -r [fd99::11]:8080 -m -w 2", f"-a {tcp} -r [fd99::12]:80 -g",
                        f"-A {udp} -s wlc -o", f"-a {udp} -r [fd99::11]:5353 -m", f"-e {tcp} -r [fd99::11]:8080 -m -w 3"):
            done = self.ipvsadm(*command.split(" "))
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""), command)
        listed = self.ipvsadm("-Ln").stdout.splitlines()
        self.assertEqual(listed[-5:], [
            "TCP  [2001:db8::1]:80 rr",
            f"  -> {'[fd99::11]:8080':<28} Masq    3      0          0         ",
            f"  -> {'[fd99::12]:80':<28} Route   1      0          0         ",
            "UDP  [2001:db8::1]:53 wlc ops",
            f"  -> {'[fd99::11]:5353':<28} Masq    1      0          0         "])
        saved = self.ipvsadm("-n", name="ipvsadm-save").stdout
        self.assertEqual(saved, f"-A {tcp} -s rr\n-a {tcp} -r [fd99::11]:8080 -m -w 3\n-a {tcp} -r [fd99::12]:80 -g -w 1\n"
                                f"-A {udp} -s wlc -o\n-a {udp} -r [fd99::11]:5353 -m -w 1\n")
        self.assertEqual(self.ipvsadm(name="ipvsadm-restore", stdin=saved).returncode, 0)
        self.assertEqual(self.ipvsadm("-n", name="ipvsadm-save").stdout, saved)
        refused = self.ipvsadm(*f"-a {tcp} -r 10.99.0.11:80 -m".split(" "))
        self.assertEqual(refused.returncode, 2)
        self.assertIn("Different address family is allowed only for tunneling servers", refused.stderr)

    def test_what_weir_does_not_serve_is_refused_in_the_words_of_the_file(self):
        for command, words in (("-A -t [fe80::1]:80 -s rr", "link-local address"),
                               ("-A -t 192.0.2.1:80 --pe sip -p 10", "only for UDP")):
            done = self.ipvsadm(*command.split(" "))
            self.assertEqual((done.returncode, done.stdout), (255, ""), command)
            self.assertIn(words, done.stderr)
        self.assertEqual(self.ipvsadm("-Sn").stdout, "")
