"""Edits and reloads at the control socket, by curl: what comes into force, what is refused, what bad clients can do."""

import concurrent.futures
import json
import os
import socket
import stat
import time
import unittest

import health
import lab
import silent
import test_health

A, B, C = (lab.REAL_SERVERS[name] for name in "ABC")
NEW_VIP = "10.10.0.150"

# Clients of the socket that do what they should not, all at once; then one as it should be.
BAD_CLIENTS = """
import socket, sys, time
path = sys.argv[1]
def client():
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(20)
    made.connect(path)
    return made
post = b"POST /api/v1/edits HTTP/1.1\\r\\nHost: weir\\r\\n"
bad = []
for number in range(100):
    one = client()
    bad.append(one)
    try:
        if number % 4 == 0:
            one.sendall(post)                                          # Never ends its header.
        elif number % 4 == 1:
            one.sendall(post + b"Content-Length: 1000\\r\\n\\r\\n{")   # Never sends its body.
        elif number % 4 == 2:
            one.sendall(b"\\x00\\xff garbage \\r\\n\\r\\n" * 100)
        else:
            one.sendall(b"GET /metrics HTTP/1.1\\r\\nHost: weir\\r\\n\\r\\n")  # Never reads its page.
    except OSError:
        pass  # It has given way already.
large = client()
try:
    large.sendall(post + b"Transfer-Encoding: chunked\\r\\n\\r\\n")
    chunk = b"100000\\r\\n" + b" " * 0x100000 + b"\\r\\n"
    for _ in range(100):
        large.sendall(chunk)
    large.sendall(b"0\\r\\n\\r\\n")
except OSError:
    pass  # It was told enough.
print(large.recv(200).split(b"\\r\\n")[0].decode() or "closed")
last = client()
last.sendall(b"GET /live HTTP/1.1\\r\\nHost: weir\\r\\nConnection: close\\r\\n\\r\\n")
print(last.recv(200).split(b"\\r\\n")[0].decode())
"""


class Edits(unittest.TestCase):
    """A weir for each, with a socket of its own."""

    def weir(self, text=None, more=""):
        """A weir with this file."""
        weir = lab.Weir("")
        self.socket = weir.folder / "weir.sock"
        self.text = f'[control]\nsocket = "{self.socket}"\n{text or lab.config()}{more}'
        weir.file.write_text(self.text)
        made = weir.__enter__()
        self.addCleanup(made.__exit__, None, None, None)
        return made

    def ask(self, path, body=None, seconds=20):
        """Status and answer."""
        data = [] if body is None else ["--data-binary", body if isinstance(body, str) else json.dumps(body)]
        done = lab.run("director", "curl", "--silent", "--max-time", str(seconds), "--unix-socket", str(self.socket), *data,
                       "-w", "\n%{http_code}", f"http://weir/api/v1/{path}", timeout=seconds + 30)
        answer, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(answer) if answer else None

    def edit(self, *edits, **more):
        """Edits that are made."""
        status, answer = self.ask("edits", {"edits": list(edits), **more})
        self.assertEqual(status, 200, answer)
        return answer

    def refused(self, *edits):
        """Kind, place and text of a refusal."""
        status, answer = self.ask("edits", {"edits": list(edits)})
        self.assertEqual(status, 422, answer)
        error = answer["error"]
        return error["kind"], error["edit"], error["text"]

    def servers(self, name):
        """Weights by real server, as listed."""
        found = [it for it in self.ask("virtual_servers")[1]["virtual_servers"] if it["name"] == name]
        return {it["real_server"]: it["weight"] for it in found[0]["real_servers"]} if found else None

    @staticmethod
    def real(op, address, port=80, service="dr", **more):
        """An edit of a real server."""
        socket = {"address": address, "port": port}
        if op == "add":
            return {"op": "add_real_server", "virtual_server": {"name": service}, "real_server": {**socket, **more}}
        keys = {"keys": more} if op == "set" else {}
        return {"op": f"{op}_real_server", "virtual_server": {"name": service}, "real_server": socket, **keys}

    def test_servers_come_are_drained_and_go_and_counters_go_on(self):
        weir = self.weir()
        connections = "weir_virtual_server_connections_total"
        self.assertEqual({who for who, _ in lab.answers(lab.VIPS["dr"], 9)}, {"A", "B", "C"})
        self.assertEqual(stat.S_IMODE(os.stat(self.socket).st_mode), 0o600)
        generation = weir.metrics().total("weir_config_generation")
        self.edit(self.real("remove", B), self.real("set", C, weight=0))
        self.assertEqual({who for who, _ in lab.answers(lab.VIPS["dr"], 6)}, {"A"})
        self.assertEqual(self.servers("dr"), {f"{A}:80": 4, f"{C}:80": 0})
        self.assertEqual(weir.metrics().total(connections, virtual_server="dr"), 15)
        # The last one that was added is the first of the list, where an edit that changes nothing sends wrr.
        self.edit(self.real("add", B), self.real("set", C, weight=1), self.real("set", A, weight=1))
        for _ in range(3):
            self.edit(self.real("set", A, weight=1))
            self.assertEqual([who for who, _ in lab.answers(lab.VIPS["dr"], 1)], ["B"])
        self.assertEqual({who for who, _ in lab.answers(lab.VIPS["dr"], 3)}, {"A", "B", "C"})
        self.assertEqual(weir.metrics().total("weir_config_generation"), generation + 5, "one for each request")
        self.edit({"op": "zero", "virtual_server": {"name": "dr"}})
        listed = {it["name"]: it for it in self.ask("virtual_servers")[1]["virtual_servers"]}
        self.assertEqual(listed["dr"]["total"]["connections"], 0)
        self.assertEqual(weir.metrics().total(connections, virtual_server="dr"), 21)

    def test_a_virtual_server_comes_and_goes(self):
        self.weir()
        by_address = {"protocol": "tcp", "address": NEW_VIP, "port": 80}
        server = {"address": NEW_VIP, "port": 80, "forwarding": "nat", "scheduler": "rr"}
        self.edit({"op": "add_virtual_server", "virtual_server": server},
                  {"op": "add_real_server", "virtual_server": by_address, "real_server": {"address": A, "port": 8080}})
        self.assertEqual({who for who, _ in lab.answers(NEW_VIP, 3)}, {"A"})
        name = f"tcp-{NEW_VIP}:80"
        self.assertEqual(self.servers(name), {f"{A}:8080": 1})
        desired = {it["name"]: it for it in self.ask("desired")[1]["virtual_server"]}
        self.assertEqual((desired[name]["origin"], desired["dr"]["origin"]), ("edit", "file"))
        self.edit({"op": "set_virtual_server", "virtual_server": {"name": name}, "keys": {"persistence_timeout": 60}})
        self.edit({"op": "remove_virtual_server", "virtual_server": by_address})
        self.assertNotEqual(lab.get(f"http://{NEW_VIP}/", "--max-time", "1").returncode, 0)
        self.assertEqual(self.refused({"op": "remove_virtual_server", "virtual_server": by_address})[0],
                         "unknown_virtual_server")
        self.edit({"op": "set_timeouts", "udp": 17, "tcp_fin_wait": 0})
        self.assertEqual(self.ask("timeouts")[1], {"tcp_established": 900, "tcp_fin_wait": 120, "udp": 17})
        self.edit({"op": "clear"})
        self.assertEqual(self.ask("virtual_servers")[1]["virtual_servers"], [])

    def test_what_is_refused_says_why_and_nothing_of_the_list_is_done(self):
        self.weir()
        before = (self.ask("desired"), self.servers("dr"))
        good = self.real("set", A, weight=9)
        service = {"op": "add_virtual_server", "virtual_server": {"address": lab.VIPS["dr"], "port": 80}}
        for edit, kind, text in (
                (self.real("add", A), "exists", f"duplicate real server: {A} port 80 again"),
                (service, "exists", f"duplicate virtual server: {lab.VIPS['dr']} port 80 tcp is served already"),
                (self.real("set", A, service="no"), "unknown_virtual_server", "unknown virtual server: none is called `no`"),
                (self.real("remove", "10.20.0.99"), "unknown_real_server",
                 "unknown real server: `dr` has none at 10.20.0.99 port 80"),
                (self.real("set", A, weight=70000), "invalid", "`weight` is out of range: must be 0 to 65535"),
                ({"op": "add_virtual_server", "virtual_server": {"address": "fe80::100", "port": 80}}, "invalid",
                 "link-local address"),
                (self.real("set", A, weigth=1), "invalid", "unknown key `weigth`"),
        ):
            with self.subTest(text):
                found = self.refused(good, edit)
                self.assertEqual(found[:2], (kind, 1))
                self.assertIn(text, found[2])
        for body, status, kind in (("nonsense", 400, "malformed"), ('{"edits": [{"op": "explode"}]}', 400, "malformed"),
                                   ('{"edits": [], "more": 1}', 400, "malformed"), (" " * (5 << 20), 413, "too_large")):
            with self.subTest(body[:20]):
                file = self.socket.with_suffix(".body")
                file.write_text(body)
                found, answer = self.ask("edits", f"@{file}")
                self.assertEqual((found, answer["error"]["kind"]), (status, kind))
        self.assertEqual((self.ask("desired"), self.servers("dr")), before)
        self.edit(good, dry_run=True)
        self.assertEqual((self.ask("desired"), self.servers("dr")), before)
        listener = lab.run("director", "curl", "--silent", "-w", "%{http_code}", "-o", "/dev/null", "-d", "{}",
                           f"{lab.HTTP}/api/v1/edits")
        self.assertEqual(listener.stdout, "404", "the TCP listener only reads")

    def test_many_clients_at_once_are_each_done_whole(self):
        weir = self.weir()
        pair = [self.real("set", A), self.real("set", B)]

        def client(number):
            """Sets two weights to one value, again and again."""
            for round_ in range(10):
                weight = 1 + number * 10 + round_
                edits = [{**edit, "keys": {"weight": weight}} for edit in pair]
                status, answer = self.ask("edits", {"edits": edits}, 60)
                if status != 200:
                    return answer
                listed = self.servers("dr")
                if listed[f"{A}:80"] != listed[f"{B}:80"]:
                    return listed
            return None

        def reloader(_):
            """Reads the file again beside them."""
            answers = [self.ask("reload", {"keep_edits": True}, 60) for _ in range(5)]
            return [answer for status, answer in answers if status != 200 or answer["dropped_edits"]]

        with concurrent.futures.ThreadPoolExecutor(7) as clients:
            reloads = clients.submit(reloader, None)
            self.assertEqual([it for it in clients.map(client, range(6)) if it], [])
            self.assertEqual(reloads.result(), [])
        lab.answers(lab.VIPS["dr"], 3)
        self.assertEqual(weir.metrics().total("weir_config_last_reload_successful"), 1)

    def test_bad_clients_keep_nobody_out(self):
        weir = self.weir()
        done = lab.run("director", "python3", "-c", BAD_CLIENTS, str(self.socket), timeout=90)
        first, _, last = done.stdout.strip().partition("\n")
        self.assertIn(first, ("HTTP/1.1 413 Payload Too Large", "closed"), done.stderr)
        self.assertEqual(last, "HTTP/1.1 200 OK", done.stderr)
        self.edit(self.real("set", A, weight=5))
        lab.answers(lab.VIPS["dr"], 3)
        self.assertEqual(weir.http("/live").stdout, "live\n")

    def test_a_reload_wins_says_what_it_drops_and_what_it_would_do(self):
        weir = self.weir()
        lab.answers(lab.VIPS["dr"], 9)
        self.edit(self.real("set", A, weight=9), self.real("remove", B))
        fewer = self.text.replace("scheduler = \"wrr\"", "scheduler = \"rr\"", 1)
        weir.file.write_text(fewer)
        status, told = self.ask("reload", {"dry_run": True})
        self.assertEqual((status, told["dropped_edits"]), (200, 2), told)
        counts = told["changed"]
        self.assertEqual(counts["virtual_servers"], {"added": 0, "changed": 1, "removed": 0})
        self.assertEqual(counts["real_servers"], {"added": 1, "changed": 1, "removed": 0})
        live = [it for it in self.ask("virtual_servers")[1]["virtual_servers"] if it["name"] == "dr"][0]
        there = [it for it in counts["objects"] if it.get("real_server") == f"{A}:80"]
        self.assertEqual([it["change"] for it in there], ["changed"])
        a_lives = [it["active"] + it["inactive"] for it in live["real_servers"] if it["real_server"] == f"{A}:80"]
        self.assertEqual([it["connections"] for it in there], a_lives)
        self.assertEqual(self.servers("dr"), {f"{A}:80": 9, f"{C}:80": 2}, "a dry run")
        status, told = self.ask("reload", {"keep_edits": True})
        self.assertEqual((status, told["dropped_edits"]), (200, 0), told)
        self.assertEqual(self.servers("dr"), {f"{A}:80": 9, f"{C}:80": 2}, "kept")
        status, told = self.ask("reload", {})
        self.assertEqual((status, told["dropped_edits"]), (200, 2), told)
        self.assertEqual(self.servers("dr"), {f"{A}:80": 4, f"{B}:80": 3, f"{C}:80": 2})
        lab.wait_for("the log", lambda: "the reload has dropped edits: " in weir.said(), 5)
        weir.file.write_text("nonsense")
        status, told = self.ask("reload", {"dry_run": True})
        self.assertEqual((status, told["error"]["kind"]), (422, "invalid"))
        self.assertIn("weir.toml", told["error"]["report"])
        self.assertEqual(weir.metrics().total("weir_config_last_reload_successful"), 1, "a dry run is no reload")
        weir.file.write_text(self.text.replace("capacity = 65_536", "capacity = 32_768"))
        self.assertEqual(self.ask("reload", {})[1]["error"]["kind"], "needs_restart")
        lab.answers(lab.VIPS["dr"], 3)

    def test_checks_of_servers_that_come_begin_and_of_those_that_go_end(self):
        with health.management():
            text = test_health.checked('type = "http"')
            weir = self.weir(text)
            ups = lambda: {it["real_server"]: it["up"] for service in self.ask("health")[1]["virtual_servers"]  # noqa: E731
                           if service["name"] == "nat" for it in service["real_servers"]}
            lab.wait_for("all up", lambda: list(ups().values()) == [True] * 3, 10)
            # Nobody answers there.
            dead = self.real("add", "10.20.0.77", 8080, "nat")
            self.edit(dead)
            lab.wait_for("it is down", lambda: ups().get("10.20.0.77:8080") is False, 20)
            # An edit's weight brings no dead server back.
            self.edit(self.real("set", "10.20.0.77", 8080, "nat", weight=50))
            time.sleep(0.5)
            self.assertNotIn("10.20.0.77", {who for who, _ in lab.answers(lab.VIPS["nat"], 6)})
            self.assertFalse(ups()["10.20.0.77:8080"])
            self.edit(self.real("remove", "10.20.0.77", 8080, "nat"))
            lab.wait_for("it is checked no more", lambda: "10.20.0.77:8080" not in ups(), 10)
            checks = {"virtual_server": "nat", "real_server": "10.20.0.77:8080"}
            self.assertIsNone(weir.metrics().total("weir_health_checks_total", **checks))

    def test_an_address_under_vrrp_can_be_edited(self):
        vrrp = ('\n[[vrrp]]\nname = "vi"\nport = "outer"\nvirtual_router_id = 51\npriority = 255\n'
                f'addresses = ["{NEW_VIP}"]\n')
        self.weir(more=vrrp)
        server = {"name": "under", "address": NEW_VIP, "port": 80, "forwarding": "nat"}
        self.edit({"op": "add_virtual_server", "virtual_server": server},
                  self.real("add", A, 8080, "under"), self.real("add", B, 8080, "under"))
        lab.wait_for("answers", lambda: lab.get(f"http://{NEW_VIP}/").returncode == 0, 20)
        self.edit(self.real("set", A, 8080, "under", weight=0))
        # A worker that waits for its core takes what has come by then with what it knew before.
        lab.wait_for("A has no more", lambda: {who for who, _ in lab.answers(NEW_VIP, 3)} == {"B"}, 5)
        self.edit({"op": "remove_virtual_server", "virtual_server": {"name": "under"}})
        self.assertNotEqual(lab.get(f"http://{NEW_VIP}/", "--max-time", "1").returncode, 0)

    def test_marks_and_long_lists_are_made_beside_control(self):
        vip = "10.10.0.160"
        weir = self.weir(more=f'\n[[mark]]\nmark = 7\naddresses = ["{vip}"]\nports = [80]\n')
        self.edit({"op": "add_virtual_server", "virtual_server": {"mark": 7, "forwarding": "nat"}},
                  {"op": "add_real_server", "virtual_server": {"mark": 7}, "real_server": {"address": A, "port": 8080}})
        self.assertEqual({who for who, _ in lab.answers(vip, 3)}, {"A"})
        self.edit(self.real("add", B, 8080, "mark-7"), self.real("set", A, 8080, "mark-7", weight=0))
        lab.wait_for("A has no more", lambda: {who for who, _ in lab.answers(vip, 3)} == {"B"}, 5)
        before = len(self.ask("virtual_servers")[1]["virtual_servers"])
        new = [{"op": "add_virtual_server", "virtual_server": {"address": f"10.10.0.{number}", "port": 81}}
               for number in range(100, 250)]
        self.assertEqual(self.edit(*new)["applied"], 150)
        self.assertEqual(len(self.ask("virtual_servers")[1]["virtual_servers"]), before + 150)
        kind, place, _ = self.refused(*new[:149], self.real("remove", C, 9), new[149])
        self.assertEqual((kind, place), ("exists", 0))
        self.edit({"op": "remove_virtual_server", "virtual_server": {"mark": 7}})
        self.assertNotEqual(lab.get(f"http://{vip}/", "--max-time", "1").returncode, 0)
        counted = lambda: [weir.metrics().total("weir_edits_total", result=it) for it in ("made", "refused")]  # noqa: E731
        lab.wait_for("counted", lambda: counted() == [4, 1], 5)

    def test_a_client_that_sends_no_more_has_its_answer(self):
        """As `nc -N -U` asks."""
        self.weir()
        body = json.dumps({"edits": [self.real("set", A, weight=7)]})
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(str(self.socket))
            client.sendall(f"POST /api/v1/edits HTTP/1.1\r\nHost: weir\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            client.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: client.recv(4096), b"")).decode()
        self.assertTrue(answer.startswith("HTTP/1.1 200"), answer)
        self.assertIn('"applied":1', answer)
        self.assertEqual(self.servers("dr")[f"{A}:80"], 7)

    def test_one_that_names_what_does_not_come_holds_up_no_verdict_and_no_other(self):
        """A program on a file system that does not answer."""
        link = health.scripts() / "edits-check"
        for name, status in (("good", 0), ("bad", 1)):
            (health.scripts() / name).write_text(f"#!/bin/sh\nexit {status}\n")
            (health.scripts() / name).chmod(0o755)

        def runs(name):
            beside = link.with_name("beside")
            beside.symlink_to(health.scripts() / name)
            beside.rename(link)
        runs("good")
        # Mounted first: weir's name spaces are made of what there is.
        files = silent.Silent()
        self.addCleanup(files.__exit__)
        files.__enter__()
        weir = self.weir(test_health.checked(f'type = "exec"\n  command = ["{link}"]'))
        health.wait_until_up(weir, "nat", test_health.ALL, 20)

        def searched():
            return weir.metrics().total("weir_edit_search_seconds")
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            check = {"type": "exec", "command": [str(files.place / "check")]}
            hangs = {"edits": [self.real("set", A, weight=7), {
                "op": "set_virtual_server", "virtual_server": {"name": "tun"}, "keys": {"health_check": check}}]}
            first = pool.submit(self.ask, "edits", hangs, 60)
            lab.wait_for("the search", lambda: searched() or first.done(), 10)
            self.assertFalse(first.done(), first.done() and first.result())
            self.edit(self.real("set", B, weight=5))
            self.assertFalse(first.done(), "it was made meanwhile")
            runs("bad")
            health.wait_until_up(weir, "nat", set(), 30)
            status, answer = first.result()
            self.assertEqual((status, answer["error"]["kind"]), (503, "busy"))
            self.assertIn(f"nothing was done: the program {files.place}/check", answer["error"]["text"])
            self.assertRegex(weir.said(), rf"an edit has waited for \d+ s.*the program {files.place}/check")
            weights = self.servers("dr")
            self.assertEqual((weights[f"{B}:80"], weights[f"{A}:80"]), (5, 1), "all or nothing")
            # The thread that looks is still there, and there are eight.
            others = [pool.submit(self.ask, "edits", hangs, 60) for _ in range(7)]

            def refused():
                status, answer = self.ask("edits", {"edits": hangs["edits"][1:], "dry_run": True}, 30)
                return status == 503 and "what 8 other requests name" in answer["error"]["text"]
            lab.wait_for("the last place to be taken", refused, 30)
            self.edit(self.real("set", B, weight=6))
            files.end()
            for status, answer in (it.result() for it in others):
                self.assertIn((status, answer["error"]["kind"]), ((422, "invalid"), (503, "busy")), answer)
        lab.wait_for("the end", lambda: searched() == 0, 20)
        self.assertRegex(weir.said(), "what an edit names was looked for to the end, after")
        runs("good")
        health.wait_until_up(weir, "nat", test_health.ALL, 30)
        self.edit({"op": "set_virtual_server", "virtual_server": {"name": "tun"},
                   "keys": {"health_check": {"type": "exec", "command": [str(link)]}}})

    def test_a_socket_that_can_not_be_had_is_said(self):
        weir = self.weir()
        second = lab.ends(self.text.replace("127.0.0.1:9292", "127.0.0.1:9393"))
        self.assertEqual(second.status, 1, second.output)
        self.assertIn(f"no control socket at {self.socket} ([control] socket): another weir has it", second.output)
        missing = lab.ends(self.text.replace("127.0.0.1:9292", "127.0.0.1:9393").replace(str(self.socket), "/nowhere/weir.sock"))
        self.assertEqual(missing.status, 1, missing.output)
        self.assertIn("there is no folder /nowhere: make it, or write another path", missing.output)
        self.assertEqual(self.ask("timeouts")[0], 200)
        # One that could not take its socket away: the next one replaces it.
        weir.process.kill()
        weir.process.wait()
        self.assertTrue(self.socket.exists())
        weir.start()
        self.assertEqual(self.ask("timeouts")[0], 200)
        self.assertEqual(weir.stop(), 0)
        self.assertFalse(self.socket.exists())
