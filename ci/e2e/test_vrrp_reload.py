"""VRRP while things around it change: reloads, splits that heal, switch ports that are deaf at first."""

import signal
import subprocess
import time

import lab
import test_vrrp
import vrrp_lab as net

BACKUP, MASTER, FAULT = test_vrrp.BACKUP, test_vrrp.MASTER, test_vrrp.FAULT
FAST = "version = 3\nadvertisement_interval = 0.2"
RELOADED = "weir_config_last_reload_timestamp_seconds"
SECRET = "hunter2hunter2"

# Frames with an authentication header that come by, so many, one a line; and the same, again and again.
RECORD = """
import socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind(("eth0", 3))
wire.settimeout(20)
found = []
while len(found) < int(sys.argv[2]):
    frame = wire.recv(2048)
    if frame[12:14] == bytes([8, 0]) and frame[23] == 51:
        found.append(frame.hex())
open(sys.argv[1], "w").write("\\n".join(found))
"""
PLAY = """
import socket, sys, time
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("eth0", 0))
while True:
    for line in open(sys.argv[1]).read().split():
        wire.send(bytes.fromhex(line))
        time.sleep(0.3)
"""


def number(frame):
    """The sequence number of a frame in hexadecimal digits."""
    return int.from_bytes(bytes.fromhex(frame)[42:46], "big")


def instance(name, vrid, priority, more=""):
    """An instance whose address ends in its VRID."""
    return test_vrrp.weir(priority, [(name, vrid, "", FAST)], more)


def switch_port(name, *state):
    """Sets a port of the bridge."""
    net.run_in_switch("bridge", "link", "set", "dev", f"p-{name}", *state)


class Changes(test_vrrp.VrrpCase):
    """One or two weirs, keepalived, a client with Linux's neighbours."""

    def reload(self, director, text, successful=1):
        """Gives a director another file, and waits until it has judged it."""
        before = director.metrics().total(RELOADED)
        director.file.write_text(net.port(director.name) + text)
        director.process.send_signal(signal.SIGHUP)
        if successful:
            self.assertSoon("reload", lambda: director.metrics().total(RELOADED) != before, 10, director)
        else:
            is_refused = lambda: director.metrics().total("weir_config_last_reload_successful") == 0  # noqa: E731
            self.assertSoon("reload refused", is_refused, 10, director)

    def assertStates(self, what, seconds, *pairs):
        """Each director gets into these states, all at once."""
        self.assertSoon(what, lambda: all(director.states() == states for director, states in pairs), seconds,
                        *(director for director, _ in pairs))

    def test_a_new_name_costs_nothing(self):
        with net.Weir("a", instance("old", 51, 150)) as director, \
                net.Keepalived("b", test_vrrp.keepalived(100, [("old", 51, "version 3\n advert_int 0.2", "")])) as other:
            self.assertStates("master", 8, (director, {"old": MASTER}))
            ping = net.run("c", "ping", "-c", "1", "-W", "1", "10.30.0.51")
            self.assertEqual(ping.returncode, 0, ping.stdout)
            self.reload(director, instance("new", 51, 150))
            # What is shown follows within a moment.
            self.assertStates("renamed", 5, (director, {"new": MASTER}))
            self.assertNotIn("from=\"master\"", director.log())
            ping = net.run("c", "ping", "-c", "1", "-W", "1", "10.30.0.51")
            self.assertEqual(ping.returncode, 0, ping.stdout + director.log())
            self.assertNotIn("MASTER", other.states().values())
            self.assertEqual(director.metrics().total("weir_vrrp_became_master_total", instance="new"), 1)

    def test_a_group_that_a_reload_makes_is_whole_on_one_side(self):
        both = lambda out, inside, more="": instance("out", 51, out, more) + instance("in", 52, inside, more)  # noqa: E731
        with net.Weir("a", both(200, 100), 0) as first, net.Weir("b", both(100, 200), 1) as second:
            self.assertStates("each has one", 8, (first, {"out": MASTER, "in": BACKUP}),
                              (second, {"out": BACKUP, "in": MASTER}))
            group = 'sync_group = "g"'
            self.reload(first, both(200, 100, group))
            self.reload(second, both(100, 200, group))
            whole = lambda: sorted(list(set(d.states().values())) for d in (first, second)) == [[BACKUP], [MASTER]]  # noqa: E731
            self.assertSoon("one has both", whole, 10, first, second)

    def test_an_instance_that_joins_a_master_group_is_held_by_another(self):
        group = 'sync_group = "g"'
        theirs = [("in", 52, "version 3\n advert_int 0.2", "")]
        with net.Keepalived("b", test_vrrp.keepalived(200, theirs)) as other, \
                net.Weir("a", instance("out", 51, 150, group)) as director:
            self.assertSoon("keepalived", lambda: other.states() == {"in": "MASTER"}, 8, other)
            self.assertStates("master", 8, (director, {"out": MASTER}))
            self.reload(director, instance("out", 51, 150, group) + instance("in", 52, 150, group))
            self.assertStates("not at all", 5, (director, {"out": BACKUP, "in": BACKUP}))
            other.end(signal.SIGTERM)
            self.assertStates("together", 5, (director, {"out": MASTER, "in": MASTER}))

    def client_mac(self):
        """The MAC that the client's kernel has for the address."""
        words = net.ip("-n", net.node("c"), "neigh", "show", "10.30.0.51").stdout.split()
        return words[words.index("lladdr") + 1] if "lladdr" in words else None

    def test_after_a_split_a_linux_neighbour_has_the_masters_mac(self):
        text = lambda priority: instance("vi", 51, priority, "virtual_mac = false")  # noqa: E731
        with net.Weir("a", text(200), 0) as first, net.Weir("b", text(100), 1) as second:
            mac = {name: net.run(name, "cat", "/sys/class/net/eth0/address").stdout.strip() for name in "ab"}
            self.assertStates("before", 8, (first, {"vi": MASTER}), (second, {"vi": BACKUP}))
            for phase in (0.0, 0.05, 0.1, 0.15):
                # Both hear the client, and it hears both.
                for name in "ab":
                    switch_port(name, "isolated", "on")
                self.assertStates("split", 8, (first, {"vi": MASTER}), (second, {"vi": MASTER}))
                time.sleep(phase)
                # Of two masters the client may have asked either.
                net.ip("-n", net.node("c"), "neigh", "replace", "10.30.0.51", "lladdr", mac["b"], "dev", "eth0",
                       "nud", "reachable")
                for name in "ab":
                    switch_port(name, "isolated", "off")
                self.assertStates("healed", 5, (first, {"vi": MASTER}), (second, {"vi": BACKUP}))
                began = time.monotonic()
                self.assertSoon(f"{phase}: the client knows", lambda: self.client_mac() == mac["a"], 4, first, second)
                print(f"{phase}: {time.monotonic() - began:.2f} s")
                ping = net.run("c", "ping", "-c", "1", "-W", "1", "10.30.0.51")
                self.assertEqual(ping.returncode, 0, ping.stdout)

    def test_a_port_that_is_deaf_at_first_does_not_take_the_addresses_away(self):
        theirs = [("vi", 51, "version 3\n advert_int 0.2", "")]
        text = instance("vi", 51, 200, "preempt = false\nstartup_delay = 60")
        with net.Keepalived("b", test_vrrp.keepalived(100, theirs)) as other:
            self.assertSoon("keepalived", lambda: other.states() == {"vi": "MASTER"}, 8, other)
            # The bridge's port listens, as spanning tree has it, and forwards nothing.
            switch_port("a", "state", "1")
            with net.Weir("a", text) as director:
                # Three down intervals long.
                time.sleep(2.1)
                self.assertEqual(director.states(), {"vi": BACKUP}, director.log())
                switch_port("a", "state", "3")
                heard = lambda: director.metrics().total("weir_vrrp_advertisements_received_total") > 5  # noqa: E731
                self.assertSoon("heard", heard, 5, director)
                self.assertEqual(director.states(), {"vi": BACKUP})
                self.assertEqual(other.states(), {"vi": "MASTER"})
                # It ended the delay: what falls silent is replaced in the usual time.
                other.end(signal.SIGTERM)
                self.assertStates("replaced", 5, (director, {"vi": MASTER}))

    def test_after_its_link_came_an_instance_listens_for_a_down_interval(self):
        theirs = [("vi", 51, "version 3\n advert_int 1", "")]
        # No `startup_delay`, and a priority with which it would keep the addresses.
        text = test_vrrp.weir(200, [("vi", 51, "", "version = 3\nadvertisement_interval = 1")], "preempt = false")
        with net.Keepalived("b", test_vrrp.keepalived(100, theirs)) as other:
            self.assertSoon("keepalived", lambda: other.states() == {"vi": "MASTER"}, 15, other)
            with net.Weir("a", text) as director:
                counted = lambda name: director.metrics().total(f"weir_vrrp_{name}_total")  # noqa: E731
                self.assertSoon("heard", lambda: counted("advertisements_received") > 1, 15, director)
                net.link("a", "down")
                self.assertStates("link down", 15, (director, {"vi": FAULT}))
                before = counted("advertisements_received")
                net.link("a", "up")
                self.assertSoon("heard again", lambda: counted("advertisements_received") > before + 1, 20, director)
                self.assertEqual((director.states(), counted("became_master")), ({"vi": BACKUP}, 0), director.log())
                self.assertEqual(other.states(), {"vi": "MASTER"})
                # With nobody there it takes the addresses, after three intervals and its skew time.
                net.link("a", "down")
                self.assertStates("link down", 15, (director, {"vi": FAULT}))
                other.end(signal.SIGTERM)
                began = time.monotonic()
                net.link("a", "up")
                self.assertStates("nobody there", 20, (director, {"vi": MASTER}))
                self.assertGreater(time.monotonic() - began, 3.2, director.log())

    def test_passwords_are_in_no_report_and_no_log(self):
        good = test_vrrp.weir(150, [test_vrrp.GROUPS[1]])
        bad = [good.replace('password = "1111"', line) for line in (
            f'password = "{SECRET}"', f'password = {SECRET}', f'pasword = "{SECRET}"', f'password = "{SECRET}', "password = 48151623")]
        with net.Weir("a", good) as director:
            for text in bad:
                self.reload(director, text, successful=0)
                check = net.run("a", lab.binary(), "--check", "-c", str(director.file))
                self.assertNotEqual(check.returncode, 0)
                for said in (check.stdout + check.stderr, director.log()):
                    self.assertNotIn("hunter2", said)
                    self.assertNotIn("48151623", said)
                self.assertIn("***", check.stdout + check.stderr)
            self.assertIn("assword", director.log())

    def test_what_was_recorded_before_a_restart_is_not_believed_after_it(self):
        ah = [("ah", 53, "", 'version = 2\n[vrrp.authentication]\ntype = "ah"\npassword = "secret"')]
        kept = net.folder() / "sequence"
        frames = net.folder() / "frames"
        with net.Weir("a", test_vrrp.weir(200, ah), 0) as first, \
                net.Weir("b", test_vrrp.weir(100, ah) + f'sequence_file = "{kept}"\n', 1) as second:
            self.assertStates("before", 10, (first, {"ah": MASTER}), (second, {"ah": BACKUP}))
            recorded = net.run("c", "python3", "-c", RECORD, str(frames), "3")
            self.assertEqual(recorded.returncode, 0, recorded.stderr)
            last = max(map(number, frames.read_text().split()))
            first.end(signal.SIGKILL)
            self.assertSoon("kept", lambda: kept.exists() and int(kept.read_text().split()[0]) >= last, 5, second)
        player = subprocess.Popen(net.inside("c", "python3", "-c", PLAY, str(frames)))
        self.addCleanup(player.wait)
        self.addCleanup(player.kill)
        with net.Weir("b", test_vrrp.weir(100, ah) + f'sequence_file = "{kept}"\n', 1) as again:
            self.assertStates("master whatever is played", 10, (again, {"ah": MASTER}))
            metrics = again.metrics()
            self.assertEqual(metrics.total("weir_vrrp_advertisements_received_total"), 0)
            self.assertGreater(metrics.total("weir_vrrp_advertisements_refused_total", instance="ah", reason="replay"), 0)
