"""Health checks: dead servers leave rotation in time and come back; what follows from that; who tells whom."""

import contextlib
import json
import signal
import subprocess
import threading
import time
import unittest

import health
import lab
import test_host
from lateness import Lateness

INTERVAL, TIMEOUT, FALL = 0.4, 0.3, 2
# The promise of the documentation, and what curl and a busy machine take to notice.
OUT_WITHIN = FALL * INTERVAL + TIMEOUT
NOTICED_WITHIN = 0.5
# Verdict to snapshot in force, on a machine that does much else, in seconds.
IN_FORCE_WITHIN = 0.1
ALL = set(lab.REAL_SERVERS.values())
# Of the shell: standard input, output (once more while that of `ls` is in its place) and error, and the script.
FILES = "0110112"
A, B, C = (lab.REAL_SERVERS[name] for name in "ABC")


def checked(check, service="nat", more="", text=None):
    """The lab's file, or this one, with a health check for one virtual server, without the weights."""
    text = text or lab.config()
    for weight in (4, 3, 2):
        text = text.replace(f"weight = {weight}", "weight = 1")
    before, after = text.split(f'name = "{service}"')
    table = f"\n  [virtual_server.health_check]\n  {check}\n"
    times = f"interval = {INTERVAL}\n  timeout = {TIMEOUT}\n  fall = {FALL}\n  jitter = 0\n  warmup = 0"
    head, servers = after.split("\n\n", 1)
    return f'{before}name = "{service}"{head}\n{more}\n{table}  {times}\n\n{servers}'


class Traffic:
    """A client that asks a virtual server all the time; remembers when it was answered by whom, or how it was not.

    It waits for `patience` seconds. A kernel repeats a SYN that was lost after one.
    """

    def __init__(self, vip, patience=1):
        self.vip, self.patience, self.seen, self.ends = vip, patience, [], False

    def __enter__(self):
        self.thread = threading.Thread(target=self._ask)
        self.thread.start()
        return self

    def _ask(self):
        while not self.ends:
            begun = time.monotonic()
            done = lab.run("client", "curl", "--silent", "--show-error", "--fail", "--max-time", str(self.patience),
                           f"http://{self.vip}/")
            self.seen.append((begun, done.stdout.split()[0] if done.returncode == 0 else done.stderr.strip()))

    def __exit__(self, *_):
        self.ends = True
        self.thread.join()

    def since(self, moment):
        """Who answered requests that began after it."""
        return [who for begun, who in self.seen if begun > moment]


class Faults(unittest.TestCase):
    """Each fault of a real server, with clients that go on asking."""

    @classmethod
    def setUpClass(cls):
        cls.leg = contextlib.ExitStack()
        cls.leg.enter_context(health.management())
        cls.weir = cls.leg.enter_context(lab.Weir(checked('type = "http"')))

    @classmethod
    def tearDownClass(cls):
        cls.leg.close()

    def assertLeavesAndReturns(self, fault, reason):
        """A leaves in time, nobody meets it from then on, and it comes back."""
        health.wait_until_up(self.weir, "nat", ALL, 10)
        with Traffic(lab.VIPS["nat"]) as traffic, Lateness() as busy:
            with fault("A"):
                took = health.wait_until_up(self.weir, "nat", {B, C}, 10)
                # The listing knows at once, the worker with its next snapshot.
                out = time.monotonic() + IN_FORCE_WITHIN
                self.assertLess(took, OUT_WITHIN + NOTICED_WITHIN + busy.allowance)
                server = health.listing(self.weir, "nat")["real_servers"][0]
                self.assertIn(reason, server["reason"])
                time.sleep(1.5 + busy.allowance)
                healed = time.monotonic()
            back = health.wait_until_up(self.weir, "nat", ALL, 10)
            self.assertLess(back, INTERVAL + TIMEOUT + NOTICED_WITHIN + busy.allowance)
            returned = time.monotonic()
            until = returned + 5 + busy.allowance
            while "A" not in traffic.since(returned) and time.monotonic() < until:
                time.sleep(0.05)
            answers = traffic.since(out)
            late = traffic.since(returned)
        # curl takes some time to begin, and a check that is under way at that moment succeeds at once.
        out += busy.allowance
        during = [who for begun, who in traffic.seen if out < begun < healed - 0.1]
        self.assertGreater(len(during), 2)
        self.assertEqual(set(during), {"B", "C"})
        # A server whose cable has just come back may miss a SYN, which a kernel repeats after a second.
        missed = [who for begun, who in traffic.seen if begun > healed and "(28)" in who]
        self.assertLessEqual(len(missed), 1)
        self.assertLessEqual(set(answers) - set(missed), {"A", "B", "C"})
        self.assertIn("A", late)
        print(f"out after {took:.2f} s, back after {back:.2f} s, {len(answers)} requests answered meanwhile")

    def test_one_that_is_killed_leaves_and_returns(self):
        self.assertLeavesAndReturns(health.killed, "connection refused")

    def test_one_that_accepts_and_never_answers_leaves_and_returns(self):
        self.assertLeavesAndReturns(health.hung, "no complete answer within 0.3 s")

    def test_one_that_answers_500_leaves_and_returns(self):
        self.assertLeavesAndReturns(health.failing, "status 500, expected 200-299")

    def test_one_that_is_cut_off_leaves_and_returns(self):
        self.assertLeavesAndReturns(health.cut_off, "no connection within 0.3 s")

    def test_metrics_and_the_log_say_what_happened(self):
        health.wait_until_up(self.weir, "nat", ALL, 10)
        with health.killed("B"):
            health.wait_until_up(self.weir, "nat", {A, C}, 10)
            metrics = self.weir.metrics()
            labels = {"virtual_server": "nat", "real_server": f"{B}:8080"}
            self.assertEqual(metrics.total("weir_real_server_up", **labels), 0)
            self.assertIsNone(metrics.total("weir_real_server_weight", **labels))
            self.assertGreaterEqual(metrics.total("weir_health_checks_total", result="refused", **labels), FALL)
            self.assertEqual(metrics.total("weir_health_quorum", virtual_server="nat"), 1)
            # What the status page shows, of a second ago at most.
            lab.wait_for("the page's word", lambda: f"Real server {B}:8080 of nat is down" in self.weir.http("/api/v1/overview").stdout, 10)
        health.wait_until_up(self.weir, "nat", ALL, 10)
        said = self.weir.said()
        self.assertIn(f"real server {B}:8080 of nat is down", said)
        self.assertIn(f"http check of {B}:8080: connecting: connection refused (2 failures in a row within", said)
        self.assertIn(f"real server {B}:8080 of nat is up", said)
        promtool = subprocess.run(["promtool", "check", "metrics"], input=self.weir.http("/metrics").stdout,
                                  capture_output=True, text=True, check=False)
        self.assertEqual((promtool.returncode, promtool.stderr), (0, ""))


class OwnFaults(unittest.TestCase):
    """What the director itself lacks is no fault of real servers."""

    def test_without_a_way_of_its_own_the_director_takes_nobody_out(self):
        # No management interface: the director's kernel has no route to the real servers, weir's ports do.
        begun = time.monotonic()
        with lab.Weir(checked('type = "http"')) as weir:
            def errors():
                return weir.metrics().total("weir_health_errors_total")

            lab.wait_for("each server was tried five times", lambda: errors() >= 5 * len(ALL), 30)
            self.assertEqual(health.up(weir, "nat"), ALL)
            self.assertEqual({who for who, _ in lab.answers(lab.VIPS["nat"], 6)}, {"A", "B", "C"})
            check = health.listing(weir, "nat")["real_servers"][0]["checks"][0]
            self.assertEqual((check["last_result"], check["verdict"]), ("error", "untried"), check)
            self.assertEqual(check["last_detail"], "connecting: network is unreachable")
            lines = [line for line in weir.said().splitlines() if "can't be made" in line]
            self.assertIn(len(lines), range(1, 2 + int((time.monotonic() - begun) / 10)), lines)
            # With a way they are judged.
            with health.management():
                lab.wait_for("a first success", lambda: health.listing(weir, "nat")["real_servers"][0]["checks"][0]["verdict"] == "up", 10)
                with health.killed("A"):
                    health.wait_until_up(weir, "nat", {B, C}, 10)

    def test_files_accounts_and_programs_that_are_not_there_are_errors_of_the_file(self):
        hook = health.scripts() / "not-executable"
        hook.write_text("#!/bin/sh\n")
        hook.chmod(0o644)
        check = checked('type = "https"\n  tls_ca = "/nonexistent/ca.pem"',
                        more=f'notify_down = ["{hook}"]\nnotify_up = ["/nonexistent/hook"]\nquorum_up = ["/bin/true"]')
        text = f'[health]\nscript_user = "nobdy"\n{check}'
        file = lab.RUN / "lacking.toml"
        file.write_text(text)
        for own in (["-c", str(file)], ["-c", str(file), "--check"]):
            ended = lab.ends(own=own)
            self.assertEqual(ended.status, 2, ended.output)
            for part in ("no certificates in /nonexistent/ca.pem", "/nonexistent/hook can't be run", "no such file or directory",
                         f"{hook} can't be run", "it is not executable", 'user `nobdy` can\'t run programs', "there is no such user"):
                self.assertIn(part, ended.output)
            self.assertEqual(ended.output.count("can't be run"), 2, ended.output)
        # A reload is refused, and what was in force stays.
        good = checked('type = "tcp"')
        with health.management(), lab.Weir(good) as weir:
            health.wait_until_up(weir, "nat", ALL, 10)
            generation = weir.metrics().total("weir_config_generation")
            weir.file.write_text(text)
            weir.process.send_signal(signal.SIGHUP)
            lab.wait_for("the refusal", lambda: "there is no such user" in weir.said(), 10)
            self.assertEqual(weir.metrics().total("weir_config_generation"), generation)


class Consequences(unittest.TestCase):
    """What follows from a server being down. Its check looks for a file, so that the service itself goes on."""

    CHECK = 'type = "http"\n  path = "/files/ok"'

    def setUp(self):
        self.leg = contextlib.ExitStack()
        self.addCleanup(self.leg.close)
        self.leg.enter_context(health.management())
        for name in lab.REAL_SERVERS:
            self.put(name)

    def put(self, name):
        """Makes the check succeed."""
        (lab.RUN / name / "files" / "ok").write_text("ok\n")

    def take(self, name):
        """Makes it fail."""
        (lab.RUN / name / "files" / "ok").unlink()

    def start(self, *arguments, **options):
        """A weir that is up and has checked everything."""
        weir = self.leg.enter_context(lab.Weir(*arguments, **options))
        health.wait_until_up(weir, "nat", ALL, 10)
        return weir

    def test_connections_of_a_quiesced_server_go_on(self):
        weir = self.start(checked(self.CHECK, more='on_fail = "quiesce"'))
        asking = """
import socket, sys
def connect():
    peer = socket.create_connection((sys.argv[1], 80), 5)
    return peer, ask(peer)
def ask(peer):
    peer.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    answer = b""
    while not answer.endswith(b"\\n\\n") and b"\\r\\n\\r\\n" not in answer[:-1]:
        answer += peer.recv(4096)
    return answer.split(b"\\r\\n\\r\\n")[1].decode().split()[0]
who = ""
while who != "A":
    kept, who = connect()
print(who, flush=True)
for line in sys.stdin:
    print(ask(kept), flush=True)
"""
        client = subprocess.Popen(lab.inside("client", "/usr/bin/python3", "-c", asking, lab.VIPS["nat"]),
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(client.communicate)
        self.assertEqual(client.stdout.readline(), "A\n")
        self.take("A")
        health.wait_until_up(weir, "nat", {B, C}, 10)
        labels = {"virtual_server": "nat", "real_server": f"{A}:8080"}
        lab.wait_for("weight 0", lambda: weir.metrics().total("weir_real_server_weight", **labels) == 0, 2)
        for _ in range(5):
            client.stdin.write("\n")
            client.stdin.flush()
            self.assertEqual(client.stdout.readline(), "A\n")
            self.assertEqual({who for who, _ in lab.answers(lab.VIPS["nat"], 4)}, {"B", "C"})
        self.assertEqual(weir.metrics().total("weir_real_server_active_connections", **labels), 1)

    def test_the_sorry_server_serves_while_the_quorum_is_lost(self):
        sorry = '[virtual_server.sorry_server]\naddress = "10.20.0.13"\nport = 8080\n'
        more = "quorum = 2\nhysteresis = 1\n" + sorry
        text = checked(self.CHECK, more=more)
        # C is the sorry server only.
        head, servers = text.rsplit("\n\n", 1)
        self.assertIn("10.20.0.13", servers)
        weir = self.leg.enter_context(lab.Weir(head))
        health.wait_until_up(weir, "nat", {A, B}, 10)
        self.take("A")
        health.wait_until_up(weir, "nat", {B}, 10)
        # One of two is enough, with the hysteresis.
        lab.wait_for("A out", lambda: {who for who, _ in lab.answers(lab.VIPS["nat"], 4)} == {"B"}, 2)
        self.take("B")
        health.wait_until_up(weir, "nat", set(), 10)
        lab.wait_for("C in", lambda: {who for who, _ in lab.answers(lab.VIPS["nat"], 2)} == {"C"}, 2)
        self.assertFalse(health.listing(weir, "nat")["quorum"])
        self.put("A")
        health.wait_until_up(weir, "nat", {A}, 10)
        self.assertEqual({who for who, _ in lab.answers(lab.VIPS["nat"], 6)}, {"C"}, "2 + 1 are needed")
        self.assertIn("nat has lost its quorum", weir.said())

    def test_a_reload_keeps_what_is_known(self):
        text = checked(self.CHECK)
        weir = self.start(text)
        self.take("A")
        health.wait_until_up(weir, "nat", {B, C}, 10)
        before = health.listing(weir, "nat")["real_servers"][0]
        weir.file.write_text(text.replace('scheduler = "wrr"', 'scheduler = "rr"'))
        generation = weir.metrics().total("weir_config_generation")
        weir.process.send_signal(signal.SIGHUP)
        lab.wait_for("reload", lambda: weir.metrics().total("weir_config_generation") > generation, 5)
        self.assertNotIn("A", {who for who, _ in lab.answers(lab.VIPS["nat"], 6)})
        after = health.listing(weir, "nat")["real_servers"][0]
        self.assertFalse(after["up"])
        self.assertGreaterEqual(after["since"], before["since"])
        self.assertGreaterEqual(after["checks"][0]["results"]["unexpected"], before["checks"][0]["results"]["unexpected"])
        self.put("A")
        health.wait_until_up(weir, "nat", ALL, 10)

    def test_hooks_are_told_in_order_and_as_nobody(self):
        place = health.scripts()
        told = place / "told"
        told.write_text("")
        told.chmod(0o666)
        files = place / "files"
        files.write_text("")
        files.chmod(0o666)
        hook = place / "hook"
        # Not `$(ls ...)`: the shell may still hold the other end of that pipe when it runs.
        hook.write_text(f'#!/bin/sh\nls /proc/$$/fd > {files}\n'
                        f'echo "$1 $WEIR_VIRTUAL_SERVER $WEIR_EVENT $WEIR_ADDRESS $(id -un) $# $(tr -d "\\n" < {files})" >> {told}\n')
        hook.chmod(0o755)
        hooks = "".join(f'{name} = ["{hook}", "{name} $(id) ; true"]\n'
                        for name in ("notify_up", "notify_down", "quorum_up", "quorum_down"))
        weir = self.start(checked(self.CHECK, more="omega = true\nquorum = 2\n" + hooks))
        self.take("A")
        health.wait_until_up(weir, "nat", {B, C}, 10)
        self.take("B")
        health.wait_until_up(weir, "nat", {C}, 10)
        self.put("A")
        health.wait_until_up(weir, "nat", {A, C}, 10)
        weir.stop()
        lines = [line.replace(" $(id) ; true", "") for line in told.read_text().splitlines()]
        self.assertEqual(lines[:5], [
            f"notify_down nat down {A} nobody 1 {FILES}",
            f"notify_down nat down {B} nobody 1 {FILES}",
            f"quorum_down nat quorum_down  nobody 1 {FILES}",
            f"notify_up nat up {A} nobody 1 {FILES}",
            f"quorum_up nat quorum_up  nobody 1 {FILES}",
        ])
        self.assertEqual(lines[5:], [
            f"notify_down nat down {A} nobody 1 {FILES}",
            f"notify_down nat down {C} nobody 1 {FILES}",
            f"quorum_down nat quorum_down  nobody 1 {FILES}",
        ], "the farewell of omega")

    def test_weights_come_from_a_file_and_an_agent(self):
        place = health.scripts()
        text = checked(self.CHECK, more="[virtual_server.agent]\nport = 5480\ninterval = 0.2")
        text = text.rsplit('address = "10.20.0.12"', 1)
        text = f'{text[0]}address = "10.20.0.12"\n  weight_file = "{place}/weight"{text[1]}'
        text = text.replace("weight = 1", "weight = 100")
        agent = ("/usr/bin/python3", "-c", """
import socketserver
class Agent(socketserver.BaseRequestHandler):
    def handle(self): self.request.sendall(b"up 50%\\n")
socketserver.TCPServer.allow_reuse_address = True
socketserver.TCPServer(("", 5480), Agent).serve_forever()
""")
        self.leg.enter_context(health.Server("A", *agent, port=5480))
        weir = self.start(text)

        def weights():
            return [server["weight"] for server in health.listing(weir, "nat")["real_servers"]]

        # C's agent can't be reached, which says nothing.
        lab.wait_for("weights", lambda: weights() == [50, 100, 100], 5)
        (place / "weight").write_text("drain # for a while\n")
        lab.wait_for("weights", lambda: weights() == [50, 0, 100], 5)
        labels = {"virtual_server": "nat", "real_server": f"{B}:8080"}
        lab.wait_for("weight 0", lambda: weir.metrics().total("weir_real_server_weight", **labels) == 0, 2)
        (place / "weight").write_text("down")
        health.wait_until_up(weir, "nat", {A, C}, 5)
        (place / "weight").unlink()
        health.wait_until_up(weir, "nat", ALL, 5)
        lab.wait_for("weights", lambda: weights() == [50, 100, 100], 5)
        self.assertIn("has weight 50 instead of 100, says the agent at", weir.said())


    def test_an_agent_limits_connections_as_for_haproxy(self):
        told = health.scripts() / "agent"
        told.write_text("up\n")
        agent = ("/usr/bin/python3", "-c", """
import pathlib, socketserver, sys
class Agent(socketserver.BaseRequestHandler):
    def handle(self): self.request.sendall(pathlib.Path(sys.argv[1]).read_bytes())
socketserver.TCPServer.allow_reuse_address = True
socketserver.TCPServer(("", 5480), Agent).serve_forever()
""", str(told))
        self.leg.enter_context(health.Server("A", *agent, port=5480))
        weir = self.start(checked(self.CHECK, more="[virtual_server.agent]\nport = 5480\ninterval = 0.2"))
        self.assertIn("A", {who for who, _ in lab.answers(lab.VIPS["nat"], 6)})
        told.write_text("up maxconn:1\n")
        lab.wait_for("the limit", lambda: f"real server {A}:8080 of nat takes at most 1 connections" in weir.said(), 10)
        # It has more than one already, if only such as are closed. Without a limit it would get every third.
        lab.wait_for("A full", lambda: "A" not in {who for who, _ in lab.answers(lab.VIPS["nat"], 6)}, 10)
        self.assertNotIn("A", {who for who, _ in lab.answers(lab.VIPS["nat"], 9)})
        told.write_text("up\n")
        lab.wait_for("no limit", lambda: "takes as many connections as the file says" in weir.said(), 10)
        lab.wait_for("A again", lambda: "A" in {who for who, _ in lab.answers(lab.VIPS["nat"], 6)}, 10)


class Through(unittest.TestCase):
    """Checks by the way of clients' packets see what a check of the real server's own address can't."""

    @contextlib.contextmanager
    def without(self, node, vip):
        """A real server that lacks a VIP, as one does whose set-up was forgotten."""
        shown = lab.run(node, "ip", "-j", "-4", "address", "show", "to", vip, check=True).stdout
        link = next(link for link in json.loads(shown) if link)
        lab.run(node, "ip", "address", "del", f"{vip}/32", "dev", link["ifname"], check=True)
        try:
            yield
        finally:
            lab.run(node, "ip", "address", "add", f"{vip}/32", "dev", link["ifname"], check=True)

    def test_a_server_that_lacks_the_vip_or_the_tunnel_is_quiesced(self):
        text = test_host.config()
        for service in ("dr", "tun"):
            text = checked('type = "http"\n  via = "forwarding"', service, 'on_fail = "quiesce"', text)
        text = checked('type = "http"', "nat", text=text)
        with lab.Weir(text) as weir, Lateness() as busy:
            for service in ("dr", "tun", "nat"):
                lab.wait_for(f"{service} checked", lambda: all(
                    server["checks"][0]["verdict"] == "up" for server in health.listing(weir, service)["real_servers"]), 15)
            for service, other in (("dr", "tun"), ("tun", "dr")):
                with self.without("A", lab.VIPS[service]):
                    took = health.wait_until_up(weir, service, {B, C}, 10)
                    self.assertLess(took, OUT_WITHIN + NOTICED_WITHIN + busy.allowance)
                    lab.wait_for("A quiesced", lambda: {who for who, _ in lab.answers(lab.VIPS[service], 3)} == {"B", "C"}, 2)
                    self.assertEqual(health.up(weir, other), ALL)
                    self.assertEqual(health.up(weir, "nat"), ALL)
                    print(f"{service}: {health.listing(weir, service)['real_servers'][0]['reason']}")
                health.wait_until_up(weir, service, ALL, 10)
            with health.killed("B"):
                health.wait_until_up(weir, "dr", {A, C}, 10)
                self.assertIn(f"http check of {lab.VIPS['dr']}:80 at {B}: connecting: connection refused",
                              health.listing(weir, "dr")["real_servers"][1]["reason"])
            health.wait_until_up(weir, "dr", ALL, 10)
            # Nothing is left of the checks on the real servers.
            left = lab.run("A", "ss", "-Htn", "state", "established", "src", lab.VIPS["dr"]).stdout
            self.assertLessEqual(len(left.splitlines()), 1, left)


class Passive(unittest.TestCase):
    """Real servers that are judged by what they say to clients."""

    def test_a_server_that_refuses_clients_is_ejected_and_comes_back(self):
        passive = "[virtual_server.passive]\nwindow = 2\nconnections_min = 5\nejection = 4\n"
        text = lab.config()
        for weight in (4, 3, 2):
            text = text.replace(f"weight = {weight}", "weight = 1")
        before, after = text.split('name = "nat"')
        head, servers = after.split("\n\n", 1)
        with lab.Weir(f'{before}name = "nat"{head}\n{passive}\n{servers}') as weir:
            health.wait_until_up(weir, "nat", ALL, 5)
            with Traffic(lab.VIPS["nat"], patience=3) as traffic:
                with health.killed("A"):
                    health.wait_until_up(weir, "nat", {B, C}, 15)
                    out = time.monotonic() + IN_FORCE_WITHIN
                    time.sleep(2)
                    during = traffic.since(out + 0.2)
                    self.assertEqual(set(during), {"B", "C"})
                health.wait_until_up(weir, "nat", ALL, 15)
                time.sleep(1)
                self.assertIn("A", traffic.since(time.monotonic() - 0.9))
            labels = {"virtual_server": "nat", "real_server": f"{A}:8080"}
            metrics = weir.metrics()
            self.assertEqual(metrics.total("weir_health_ejections_total", **labels), 1)
            self.assertGreater(metrics.total("weir_real_server_tcp_answers_total", answer="refused", **labels), 4)
            self.assertIn("connections failed within 2 s; out for 4 s", weir.said())


class Types(unittest.TestCase):
    """Each type of check against a real server of its kind, all in one weir; then each is broken."""

    CHECKS = {
        "tcp": 'type = "tcp"',
        "http": 'type = "http"\nexpect_header = ["Server: nginx"]\nexpect_body_regex = "^A "',
        "https": 'type = "https"\nport = 8443\nhost = "www.example.org"\ntls_ca = "{ca}"\nexpect_body = "secret"',
        "https_other_name": 'type = "https"\nport = 8443\ntls_ca = "{ca}"\ntls_server_name = "other.example.org"',
        "https_unverified": 'type = "https"\nport = 8443',
        "https_unknown_authority": 'type = "https"\nport = 8443\nhost = "www.example.org"\ntls_verify = true',
        "https_expired": 'type = "https"\nport = 8444\nhost = "www.example.org"\ntls_ca = "{ca}"',
        "https_half": 'type = "https"\nport = 8445\nexpect_body = "whole"',
        "https_endless": 'type = "https"\nport = 8446\nexpect_body = "whole"',
        "https_drips": 'type = "https"\nport = 8447\nexpect_body = "whole"',
        "https_hangs": 'type = "https"\nport = 8448\ntls_timeout = 0.2',
        "https_plain": 'type = "https"\nport = 80',
        "udp": 'type = "udp"\nport = 7007\nsend = "hello"\nexpect = "hello"',
        "dns": 'type = "dns"\nport = 5353\nquery = "www.example.org"\nrecord = "A"',
        "dns_unknown_name": 'type = "dns"\nport = 5353\nquery = "nowhere.example.org"\nrecord = "A"',
        "smtp": 'type = "smtp"\nport = 2525',
        "ping": 'type = "ping"',
        "exec": 'type = "exec"\ncommand = ["/usr/bin/curl", "-sf", "-o", "/dev/null", "http://10.20.0.11/"]',
    }
    BROKEN = {"https_other_name": "certificate is for www.example.org, not for", "dns_unknown_name": "NXDOMAIN",
              "https_unknown_authority": "an authority that is not trusted",
              "https_expired": "expired", "https_half": "closed before the answer was complete",
              "https_endless": 'no "whole" in the body', "https_drips": "no complete answer within 0.4 s",
              "https_hangs": "no TLS handshake within 0.2 s", "https_plain": "TLS: "}

    def configuration(self):
        """A virtual server for each check, of real server A."""
        text = lab.config().split("[[virtual_server]]")[0]
        for number, (name, check) in enumerate(self.CHECKS.items()):
            text += f"""
[[virtual_server]]
name = "{name}"
address = "10.10.0.100"
port = {1000 + number}
forwarding = "nat"
alpha = true
[virtual_server.health_check]
{check.format(ca=lab.RUN / "tls" / "ca.pem")}
interval = 0.5
timeout = 0.4
fall = 2
warmup = 0
[[virtual_server.real_server]]
address = "10.20.0.11"
port = 80
"""
        return text

    def certificates(self):
        """An authority, and a certificate of www.example.org."""
        place = lab.RUN / "tls"
        place.mkdir(exist_ok=True)
        new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        subprocess.run([*new, "-subj", "/CN=weir test", "-keyout", place / "ca.key", "-out", place / "ca.pem"],
                       check=True, capture_output=True)
        subprocess.run([*new, "-subj", "/CN=www.example.org", "-addext", "subjectAltName=DNS:www.example.org",
                        "-addext", "basicConstraints=critical,CA:FALSE",
                        "-CA", place / "ca.pem", "-CAkey", place / "ca.key",
                        "-keyout", place / "server.key", "-out", place / "server.pem"], check=True, capture_output=True)
        return place

    def expire(self, place):
        """The same certificate, of a month long ago."""
        (place / "ca.conf").write_text(f"""
[ca]
default_ca = past
[past]
database = {place}/index
new_certs_dir = {place}
serial = {place}/serial
default_md = sha256
policy = any
[any]
commonName = supplied
[names]
subjectAltName = DNS:www.example.org
""")
        (place / "index").write_text("")
        (place / "serial").write_text("01\n")
        subprocess.run(["openssl", "req", "-new", "-key", place / "server.key", "-subj", "/CN=www.example.org", "-out", place / "server.csr"],
                       check=True, capture_output=True)
        subprocess.run(["openssl", "ca", "-batch", "-notext", "-config", place / "ca.conf", "-extensions", "names", "-cert", place / "ca.pem",
                        "-keyfile", place / "ca.key", "-in", place / "server.csr", "-startdate", "20200101000000Z",
                        "-enddate", "20200201000000Z", "-out", place / "expired.pem"], check=True, capture_output=True)

    def tls_nginx(self, place):
        """nginx with TLS on port 8443 of A."""
        (place / "nginx.conf").write_text(f"""
daemon off; user root; worker_processes 1; pid {place}/nginx.pid; error_log {place}/error.log;
events {{}}
http {{
    access_log off; default_type text/plain;
    client_body_temp_path {place}/b; proxy_temp_path {place}/p; fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;
    server {{ listen 8443 ssl; ssl_certificate {place}/server.pem; ssl_certificate_key {place}/server.key; location / {{ return 200 "secret"; }} }}
}}
""")
        return ("nginx", "-p", str(place), "-e", str(place / "error.log"), "-c", str(place / "nginx.conf"))

    def test_each_type_knows_a_good_server_from_a_broken_one(self):
        place = self.certificates()
        self.expire(place)
        odd = """
import itertools, socket, ssl, sys, threading, time
def talk(port, peer):
    certificate = "expired" if port == 8444 else "server"
    try:
        if port == 8448:
            time.sleep(5)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{sys.argv[1]}/{certificate}.pem", f"{sys.argv[1]}/server.key")
        with context.wrap_socket(peer, server_side=True) as line:
            line.recv(4096)
            line.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 100000000\\r\\n\\r\\nhalf")
            for _ in itertools.count() if port in (8446, 8447) else ():
                line.sendall(b"x" * (8192 if port == 8446 else 1))
                time.sleep(0 if port == 8446 else 0.05)
    except OSError:
        pass
    peer.close()
def serve(port):
    with socket.create_server(("", port)) as door:
        while True:
            threading.Thread(target=talk, args=(port, door.accept()[0]), daemon=True).start()
for port in range(8444, 8448):
    threading.Thread(target=serve, args=(port,), daemon=True).start()
serve(8448)
"""
        echo = """
import socket
peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); peer.bind(("", 7007))
while True: peer.sendto(*peer.recvfrom(2048))
"""
        mail = """
import time, aiosmtpd.controller
aiosmtpd.controller.Controller(object(), hostname="0.0.0.0", port=2525).start()
time.sleep(600)
"""
        servers = {
            "https": health.Server("A", *self.tls_nginx(place), port=8443),
            "odd": health.Server("A", "/usr/bin/python3", "-c", odd, str(place), port=8448),
            "udp": health.Server("A", "/usr/bin/python3", "-c", echo, port=7007),
            "dns": health.Server("A", "dnsmasq", "--keep-in-foreground", "--port=5353", "--no-resolv", "--no-hosts", "--conf-file=/dev/null",
                                 "--user=root", "--pid-file=", "--local=/example.org/", "--host-record=www.example.org,192.0.2.1", port=5353),
            "smtp": health.Server("A", "/usr/bin/python3", "-c", mail, port=2525),
        }
        with contextlib.ExitStack() as stack:
            stack.enter_context(health.management())
            running = {name: stack.enter_context(server) for name, server in servers.items()}
            weir = stack.enter_context(lab.Weir(self.configuration()))
            good = {name for name in self.CHECKS if name not in self.BROKEN}

            def state():
                found = json.loads(weir.http("/api/v1/health").stdout)["virtual_servers"]
                return {server["name"]: server["real_servers"][0] for server in found}

            def up():
                return {name for name, server in state().items() if server["up"]}

            lab.wait_for("all good ones up", lambda: good <= up(), 10)
            time.sleep(1.5)
            self.assertEqual(up(), good)
            for name, part in self.BROKEN.items():
                self.assertIn(part, state()[name]["checks"][0]["last_detail"])
            for server in running.values():
                server.end()
            for process in health.nginx_processes("A"):
                health.os.kill(process, signal.SIGKILL)
            lab.wait_for("only ping up", lambda: up() == {"ping"}, 10)
            said = state()
            for name, outcome in (("tcp", "refused"), ("http", "refused"), ("https", "refused"), ("udp", "refused"),
                                  ("dns", "refused"), ("smtp", "refused"), ("exec", "unexpected")):
                self.assertEqual(said[name]["checks"][0]["last_result"], outcome, said[name])
            health.start_nginx("A")
            lab.wait_for("nginx again", lambda: {"tcp", "http", "exec"} <= up(), 10)
            with health.cut_off("A"):
                lab.wait_for("nothing up", lambda: not up(), 10)
                for name, server in state().items():
                    self.assertIn(server["checks"][0]["last_result"], ("timeout", "unreachable"), name)
