"""Reloads, weights and drains under clients that never pause: not one request fails, and no counter loses anything."""

import http.client
import json
import pathlib
import re
import socket
import subprocess
import time
import unittest

import lab
import lateness
import test_load

CHANGES = 100
# wrk ends by itself: it is told how long to run, and the changes are to be over before.
SECONDS_MAX = 300
CLIENTS = 16
# Virtual servers beside those of the clients, edits of them, and how soon one is to be in force.
MANY = 500
EDITS = 200
IN_FORCE_SECONDS = 0.01
A, B, C = (lab.REAL_SERVERS[name] for name in "ABC")


class Door(http.client.HTTPConnection):
    """HTTP to a control socket. Sockets in the file system belong to no network namespace."""

    def __init__(self, path):
        super().__init__("weir", timeout=60)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

    def ask(self, path, body=None):
        """The answer, which must be yes."""
        try:
            self.request("GET" if body is None else "POST", f"/api/v1/{path}", None if body is None else json.dumps(body))
            answer = self.getresponse()
            text = answer.read()
        finally:
            self.close()
        if answer.status != 200:
            raise AssertionError(f"{path} {body}: {answer.status} {text!r}")
        return json.loads(text)


def other(number):
    """A virtual server that is none of the clients', and another one each time."""
    servers = "".join(f'[[virtual_server.real_server]]\naddress = "{address}"\nport = 8080\nweight = {number % 5 + 1}\n'
                      for address in (A, B, C)[: number % 3 + 1])
    return (f'[[virtual_server]]\nname = "other-{number % 7}"\naddress = "10.10.0.{150 + number % 7}"\nport = {80 + number % 2}\n'
            f'forwarding = "nat"\nscheduler = "{("rr", "wrr", "wlc", "mh")[number % 4]}"\n{servers}')


class Changes(unittest.TestCase):
    """wrk on `nat`, a connection for each request, and on `dr`, where connections last, while everything around them changes."""

    def setUp(self):
        folder = pathlib.Path(lab.RUN)
        self.socket = folder / "live.sock"
        self.text = f'[control]\nsocket = "{self.socket}"\n' + lab.config()
        self.weir = lab.Weir(self.text)
        self.enterContext(self.weir)
        self.door = Door(self.socket)

    def clients(self, method, *options):
        """wrk, until it is told to end; it reports then."""
        wrk = subprocess.Popen(lab.inside("client", "wrk", "-t1", f"-c{CLIENTS}", f"-d{SECONDS_MAX}s", "--timeout", "20s",
                                          *options, f"http://{lab.VIPS[method]}/"),
                               stdout=subprocess.PIPE, text=True)
        self.addCleanup(wrk.stdout.close)
        self.addCleanup(wrk.wait)
        self.addCleanup(wrk.kill)
        return wrk

    def carried(self, name):
        """What a virtual server has carried in all."""
        listed = self.door.ask(f"virtual_servers?name={name}")["virtual_servers"]
        return listed[0]["total"]

    def reload(self, number):
        """The file with two others, one of them another one than before."""
        self.weir.file.write_text(self.text + other(number) + other(number + 3))
        self.door.ask("reload", {})

    def weights(self, number):
        """Weights of the clients' own virtual servers; a drain and its end as well."""
        for name in ("nat", "dr"):
            for place, address in enumerate((A, B, C)):
                port = 8080 if name == "nat" else 80
                weight = 0 if (number + place) % 3 == 0 else number % 9 + 1
                self.door.ask("edits", {"edits": [{"op": "set_real_server", "virtual_server": {"name": name},
                                                   "real_server": {"address": address, "port": port}, "keys": {"weight": weight}}]})

    def test_a_hundred_reloads_and_drains_cost_no_request_and_no_count(self):
        lab.answers(lab.VIPS["tun"], 5)
        load = [self.clients("nat", "-H", "Connection: close"), self.clients("dr")]
        lab.wait_for("load", lambda: min(self.carried(name)["in_packets"] for name in ("nat", "dr")) > 1000, 20)
        # Its last acknowledgements have come by now.
        still = self.carried("tun")
        before = {name: self.carried(name) for name in ("nat", "dr")}
        generation = self.door.ask("status")["generation"]
        begun = time.monotonic()
        for number in range(CHANGES):
            (self.reload if number % 2 == 0 else self.weights)(number)
            for name, last in before.items():
                now = self.carried(name)
                self.assertTrue(all(now[key] >= last[key] for key in last), f"change {number}: {name} had {last} and has {now}")
                before[name] = now
            self.assertEqual(self.carried("tun"), still, f"change {number}")
        for number in range(CHANGES // 2):
            self.reload(number)
        took = time.monotonic() - begun
        for wrk in load:
            wrk.send_signal(2)
        reports = [wrk.communicate(timeout=60)[0] for wrk in load]
        requests = []
        for report in reports:
            self.assertEqual(test_load.ERRORS.findall(report), [], report)
            requests.append(int(re.search(r"(\d+) requests in", report).group(1)))
        # What wrk had begun and not ended when it was told to end comes on top, and nothing else.
        self.assertIn(self.carried("nat")["connections"], range(requests[0], requests[0] + 2 * CLIENTS + 1))
        self.assertIn(self.carried("dr")["connections"], range(CLIENTS, CLIENTS + 2), "connections that last through drains")
        self.assertEqual(self.carried("tun"), still)
        self.assertGreaterEqual(self.door.ask("status")["generation"], generation + CHANGES)
        print(f"{CHANGES} reloads and {3 * CHANGES} weights in {took:.1f} s; {requests} requests, no error")

    def test_edits_among_many_are_in_force_at_once(self):
        many = "".join(f'[[virtual_server]]\nname = "m{n}"\naddress = "10.10.2.{n % 250 + 1}"\nport = {1000 + n}\nforwarding = "nat"\n'
                       f'[[virtual_server.real_server]]\naddress = "{A}"\nport = 8080\n' for n in range(MANY))
        self.weir.file.write_text(self.text + many)
        self.door.ask("reload", {})
        wrk = self.clients("nat")
        lab.wait_for("load", lambda: self.carried("nat")["in_packets"] > 1000, 20)
        generation = lambda: self.door.ask("workers")["workers"][0]["generation"]
        took = []
        with lateness.Lateness() as late:
            for number in range(EDITS):
                before = generation()
                edit = {"op": "set_real_server", "virtual_server": {"name": f"m{number * 37 % MANY}"},
                        "real_server": {"address": A, "port": 8080}, "keys": {"weight": number % 9 + 2}}
                if number % 10 == 0:
                    edit = {"op": "add_real_server", "virtual_server": {"name": f"m{number}"}, "real_server": {"address": B, "port": 8080}}
                begun = time.monotonic()
                self.door.ask("edits", {"edits": [edit]})
                while generation() <= before:
                    pass
                took.append(time.monotonic() - begun)
        wrk.send_signal(2)
        report = wrk.communicate(timeout=60)[0]
        self.assertEqual(test_load.ERRORS.findall(report), [], report)
        half = sorted(took)[EDITS // 2]
        self.assertLess(half, IN_FORCE_SECONDS + late.allowance)
        print(f"{EDITS} edits among {MANY} virtual servers: half in force within {half * 1e3:.1f} ms, all within {max(took) * 1e3:.1f} ms")
