"""Who may ask weir's HTTP listener from another machine: the three open pages, TLS, tokens and their roles, bad clients."""

import json
import re
import signal
import subprocess
import time
import unittest

import health
import lab
import silent
import test_weirctl

DIRECTOR = health.MANAGEMENT
READ, WRITE = "read-0123456789abcdef", "write-0123456789abcdef"
A = lab.REAL_SERVERS["A"]

# A connection that is kept: asks with a token, waits for a line on stdin, asks again. Prints each status and the certificate's serial number.
KEPT = """
import http.client, ssl, subprocess, sys
address, authority, token = sys.argv[1:]
made = http.client.HTTPSConnection(address, 9292, timeout=60, context=ssl.create_default_context(cafile=authority))
made.connect()
der = made.sock.getpeercert()["serialNumber"]
first = made.sock
while True:
    made.request("GET", "/api/v1/timeouts", headers={"Authorization": "Bearer " + token})
    answer = made.getresponse()
    answer.read()
    print(answer.status, der, "same" if made.sock is first else "other", flush=True)
    if not sys.stdin.readline():
        break
"""

# Clients that do what they should not, all at once, on the port that speaks TLS; then usual ones, each of which has its time.
BAD_CLIENTS = """
import socket, ssl, sys, time, urllib.request
address, authority = sys.argv[1:]
trust = ssl.create_default_context(cafile=authority)
hello = bytes.fromhex("160301020001")
bad = []
for number in range(100):
    one = socket.create_connection((address, 9292), timeout=20)
    bad.append(one)
    try:
        if number % 5 == 0:
            one.sendall(hello)                                     # A handshake that stops at once,
        elif number % 5 == 1:
            one.sendall(bytes(range(128, 256)) * 100)              # garbage,
        elif number % 5 == 2:
            one.sendall(b"\\x16\\x03\\x01\\xff\\xff" + b"x" * 70000)    # garbage that begins well,
        elif number % 5 == 3:
            one.sendall(b"GET /metrics HTTP/1.1\\r\\n")              # plain HTTP without an end,
    except OSError:
        pass
    # and nothing at all.
for path in ("/live", "/ready", "/metrics", "/live"):
    with urllib.request.urlopen(f"https://{address}:9292{path}", timeout=9, context=trust) as page:
        print(page.status)
# As many handshakes as it makes in two seconds.
ends, made = time.monotonic() + 2, 0
while time.monotonic() < ends:
    with socket.create_connection((address, 9292), timeout=9) as plain:
        trust.wrap_socket(plain, server_hostname=address).close()
        made += 1
print(made > 0)
"""

# Begins a handshake and waits for what becomes of it.
STALLS = """
import socket, sys
made = socket.create_connection((sys.argv[1], 9292), timeout=50)
made.sendall(bytes.fromhex("160301020001"))
try:
    print("closed" if made.recv(1) == b"" else "answered")
except ConnectionResetError:
    print("closed")
"""

# Begins a capture of what does not come, and goes.
CAPTURES = """
import socket, ssl, sys
address, authority, token = sys.argv[1:]
trust = ssl.create_default_context(cafile=authority)
made = trust.wrap_socket(socket.create_connection((address, 9292), timeout=50), server_hostname=address)
made.sendall(f"POST /api/v1/capture?drop=transmit_full&seconds=3000 HTTP/1.1\\r\\nHost: {address}\\r\\n"
             f"Authorization: Bearer {token}\\r\\n\\r\\n".encode())
print(made.recv(200).split(b"\\r\\n")[0].decode())
"""

# A body of 100 MB with a good token: the first line of the answer, or that there was none.
LARGE = """
import socket, ssl, sys
address, authority, token = sys.argv[1:]
trust = ssl.create_default_context(cafile=authority)
made = trust.wrap_socket(socket.create_connection((address, 9292), timeout=20), server_hostname=address)
made.sendall(f"POST /api/v1/edits HTTP/1.1\\r\\nHost: {address}\\r\\nAuthorization: Bearer {token}\\r\\n"
             "Transfer-Encoding: chunked\\r\\n\\r\\n".encode())
try:
    for _ in range(100):
        made.sendall(b"100000\\r\\n" + b" " * 0x100000 + b"\\r\\n")
    made.sendall(b"0\\r\\n\\r\\n")
except OSError:
    pass
try:
    print(made.recv(200).split(b"\\r\\n")[0].decode() or "closed")
except OSError:
    print("closed")
"""


class Weir(lab.Weir):
    """One that listens where other machines reach it."""

    def __init__(self, keys="", scheme="http", trust=(), text=None):
        http = f'[http]\nlisten = "{DIRECTOR}:9292"\n{keys}\n'
        text = re.sub(r"\[http\]\nlisten = .*\n", http, text or lab.config())
        super().__init__("")
        self.socket = self.folder / "weir.sock"
        self.text = f'[control]\nsocket = "{self.socket}"\n{text}'
        self.file.write_text(self.text)
        self.base, self.trust = f"{scheme}://{DIRECTOR}:9292", trust

    def http(self, path, *options):
        return lab.run("A", "curl", "--silent", "--max-time", "20", *self.trust, *options, self.base + path, timeout=60)

    def ask(self, path, *options, token=None):
        """Status, answer, and the challenge if there is one, as another machine gets them."""
        return self.whole(path, *options, token=token)[:3]

    def whole(self, path, *options, token=None):
        """The same, and the kind of the answer."""
        bearer = [] if token is None else ["-H", f"Authorization: Bearer {token}"]
        done = self.http(path, *bearer, *options, "-w", "\n%{content_type}\n%header{www-authenticate}\n%{http_code}")
        answer, kind, challenge, status = done.stdout.rsplit("\n", 3)
        return int(status), answer, challenge, kind.partition(";")[0]

    def edit(self, weight):
        """An edit at the control socket."""
        done = lab.run("director", "curl", "--silent", "--max-time", "20", "--unix-socket", str(self.socket), "-d", weigh(weight),
                       "http://weir/api/v1/edits")
        return json.loads(done.stdout)


def weigh(weight):
    """The body that gives a real server a weight."""
    return json.dumps({"edits": [{"op": "set_real_server", "virtual_server": {"name": "dr"},
                                  "real_server": {"address": A, "port": 80}, "keys": {"weight": weight}}]})


class Base(unittest.TestCase):
    """An authority, and what it takes to be known."""

    @classmethod
    def setUpClass(cls):
        cls.place = lab.RUN / "http-access"
        cls.place.mkdir(exist_ok=True)
        cls.new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        subprocess.run([*cls.new, "-subj", "/CN=weir test", "-keyout", cls.place / "ca.key", "-out", cls.place / "ca.pem"],
                       check=True, capture_output=True)
        cls.trust = ("--cacert", str(cls.place / "ca.pem"))
        leg = health.management()
        leg.__enter__()
        cls.addClassCleanup(leg.__exit__, None, None, None)
        # Other machines may remember the MAC of the one before.
        for node in lab.REAL_SERVERS:
            lab.run(node, "ip", "neigh", "flush", "to", DIRECTOR, check=True)

    def weir(self, *arguments, **more):
        """One that runs until the test ends."""
        weir = Weir(*arguments, **more)
        made = weir.__enter__()
        self.addCleanup(made.__exit__, None, None, None)
        return weir

    def certify(self, name="server"):
        """A certificate of the director's address, with a serial number of its own."""
        subprocess.run([*self.new, "-subj", "/CN=director", "-addext", f"subjectAltName=IP:{DIRECTOR}",
                        "-addext", "basicConstraints=critical,CA:FALSE", "-CA", self.place / "ca.pem", "-CAkey", self.place / "ca.key",
                        "-keyout", self.place / f"{name}.key", "-out", self.place / f"{name}.pem"], check=True, capture_output=True)

    def tokens(self, text=f"# who may look\nread {READ}\nwrite {WRITE}\n", mode=0o600):
        """The file of tokens."""
        file = self.place / "tokens"
        file.write_text(text)
        file.chmod(mode)
        return file

    def keys(self):
        """Keys of [http], with files that are good."""
        self.certify()
        return (f'tls_certificate = "{self.place}/server.pem"\ntls_key = "{self.place}/server.key"\n'
                f'token_file = "{self.tokens()}"')

    def secure(self, text=None):
        """One with TLS and tokens."""
        return self.weir(self.keys(), "https", self.trust, text)


class Access(Base):
    """Each from a real server of the lab, which is another machine than the director."""

    def test_other_machines_get_three_pages_and_a_sentence_for_the_rest(self):
        weir = self.weir()
        for path in ("/metrics", "/live", "/ready"):
            self.assertEqual(weir.ask(path)[0], 200, path)
        for path, *options in (("/",), ("/?page=2",), ("/api/v1/status",), ("/api/v1/virtual_servers",), ("/api/v1/desired",),
                               ("/api/v1/edits", "-d", weigh(9)), ("/nothing",), ("/%6detrics",), ("/metrics/",), ("/live/../", "--path-as-is"),
                               ("/api/v1/status", "-H", f"Authorization: Bearer {WRITE}")):
            with self.subTest(path):
                status, answer, _ = weir.ask(path, *options)
                self.assertEqual((status, answer), (
                    403, "other machines are answered only /metrics, /live and /ready here; for the rest write tls_certificate, tls_key "
                         "and token_file into [http] of weir's file, or ask weir's control socket\n"))
        self.assertEqual(weir.ask("/metrics", "-H", "Host: rebound.example")[0], 421)
        self.assertEqual(weir.ask("/metrics", "-d", "x")[0], 405)
        self.assertEqual(weir.metrics().total("weir_http_refused_total", reason="not_served"), 11)
        self.assertEqual(weir.said().count("only /metrics, /live and /ready are answered at this address"), 1)
        # All of it is there for who is on the machine.
        self.assertEqual(weir.edit(9)["applied"], 1)

    def test_a_token_is_good_for_its_role_and_no_other(self):
        weir = self.secure()
        for path in ("/metrics", "/live", "/ready"):
            self.assertEqual(weir.ask(path)[0], 200, path)
        for token, status, challenge in ((None, 401, 'Bearer realm="weir"'), (READ[:-1], 401, 'Bearer realm="weir", error="invalid_token"'),
                                         (READ, 200, ""), (WRITE, 200, "")):
            for path in ("/", "/api/v1/status", "/api/v1/desired"):
                with self.subTest(path, token=token):
                    found, _, said = weir.ask(path, token=token)
                    self.assertEqual((found, said), (status, challenge))
        made = ("-d", weigh(9))
        self.assertEqual(weir.ask("/api/v1/edits", *made)[0], 401)
        status, answer, challenge = weir.ask("/api/v1/edits", *made, token=READ)
        self.assertEqual((status, challenge), (403, 'Bearer realm="weir", error="insufficient_scope"'), answer)
        weights = lambda: json.loads(weir.ask("/api/v1/virtual_servers?name=dr", token=READ)[1])["virtual_servers"][0]["real_servers"]  # noqa: E731
        self.assertEqual([it["weight"] for it in weights()], [4, 3, 2])
        self.assertEqual(weir.ask("/api/v1/edits", *made, token=WRITE)[0], 200)
        self.assertEqual([it["weight"] for it in weights()], [9, 3, 2])
        self.assertEqual(weir.ask("/api/v1/reload", "-d", "{}", token=WRITE)[0], 200)
        self.assertEqual([it["weight"] for it in weights()], [4, 3, 2])
        # A name that leads here is no name of ours with TLS either, and a token does not make it one.
        for host, status in (("rebound.example", 421), (DIRECTOR, 200), ("localhost", 200)):
            self.assertEqual(weir.ask("/", "-H", f"Host: {host}", token=READ)[0], status, host)
        self.assertEqual(weir.ask("/", "-H", "Host:", token=READ)[0], 400)
        self.assertEqual(weir.ask("/", "-H", f"Authorization: Basic {READ}")[0], 401)
        self.assertEqual(weir.ask("/api/v1/edits", token=WRITE)[:2], (405, "this method is not answered here; Allow says which are\n"))
        page = weir.metrics()
        counted = {reason: page.total("weir_http_refused_total", reason=reason) for reason in ("no_token", "wrong_token", "role", "not_served")}
        self.assertEqual(counted, {"no_token": 5, "wrong_token": 3, "role": 1, "not_served": 0})
        self.assertIn(f"a request with a token that is not in token_file of [http] from={A}", weir.said())
        self.assertNotIn(READ[:-1], weir.said())

    def test_tls_is_spoken_in_its_two_good_versions_and_plain_http_gets_a_sentence(self):
        weir = self.secure()
        for version, is_spoken in (("-tls1_2", True), ("-tls1_3", True), ("-tls1_1", False)):
            with self.subTest(version):
                done = lab.run("A", "openssl", "s_client", version, "-brief", "-CAfile", str(self.place / "ca.pem"), "-verify_return_error",
                               "-verify_ip", DIRECTOR, "-connect", f"{DIRECTOR}:9292", input="")
                self.assertEqual((done.returncode == 0, "Verification: OK" in done.stderr), (is_spoken, is_spoken), done.stderr)
        done = lab.run("A", "curl", "--silent", "-w", "%{http_code}", f"http://{DIRECTOR}:9292/metrics")
        self.assertEqual(done.stdout, "this listener speaks TLS: ask https://\n400")
        page = weir.metrics()
        self.assertEqual([page.total("weir_http_handshakes_total", result=it) for it in ("failed", "plain_http")], [1, 1])
        self.assertGreaterEqual(page.total("weir_http_handshakes_total", result="done"), 3)

    def test_a_reload_takes_another_certificate_and_other_tokens_and_closes_nothing(self):
        weir = self.secure()
        kept = subprocess.Popen(lab.inside("A", "python3", "-c", KEPT, DIRECTOR, str(self.place / "ca.pem"), READ),
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(kept.communicate)
        status, first, _ = kept.stdout.readline().split()
        self.assertEqual(status, "200")
        self.certify()
        self.reload(weir, 1)
        self.assertNotEqual(self.serial(), first, "new connections get the new one")
        self.assertEqual(self.next(kept), ["200", first, "same"])
        # Wrong ones: the sentence is at the key, and what was in force stays.
        now, good = self.serial(), (self.place / "server.key").read_bytes()
        self.certify("other")
        for content, said in ((b"nonsense", "no private key in PEM"), ((self.place / "other.key").read_bytes(), "this is not the key of the certificate")):
            (self.place / "server.key").write_bytes(content)
            report = self.reload(weir, 0)
            self.assertIn(said, report)
            self.assertIn("| tls_key = ", report)
        (self.place / "server.key").write_bytes(good)
        for text, mode, said in ((f"read {READ}\n", 0o644, "others may read or write it (its mode is 0644)"),
                                 ("admin x\n", 0o600, "line 1: it does not begin with a role")):
            self.tokens(text, mode)
            self.assertIn(said, self.reload(weir, 0))
        self.assertEqual(self.serial(), now)
        self.assertEqual(self.next(kept), ["200", first, "same"])
        self.tokens(f"read {WRITE}\n")
        self.reload(weir, 1)
        self.assertEqual(self.next(kept), ["401", first, "same"], "a token that is gone is good for nothing from now on")
        self.assertEqual(weir.ask("/", token=WRITE)[0], 200)
        self.assertEqual(weir.ask("/api/v1/edits", "-d", weigh(9), token=WRITE)[0], 403)

    def test_weirctl_shows_and_changes_with_a_token(self):
        weir = self.secure()
        for name, text in (("mine", READ), ("ours", f"write {WRITE}"), ("old", "x" * 20)):
            (self.place / name).write_text(text)
        url = ("--url", weir.base)
        trust = ("--ca", str(self.place / "ca.pem"))
        token = lambda name: (*url, *trust, "--token-file", str(self.place / name))  # noqa: E731
        ask = lambda *arguments: lab.run("A", test_weirctl.WEIRCTL, *arguments)  # noqa: E731
        done = ask(*token("mine"), "list", "dr")
        self.assertEqual((done.returncode, done.stderr, len(done.stdout.splitlines())), (0, "", 5), done.stdout)
        self.assertEqual(ask(*token("ours"), "drain", "dr", A).returncode, 0)
        self.assertEqual(json.loads(weir.ask("/api/v1/virtual_servers?name=dr", token=READ)[1])["virtual_servers"][0]["real_servers"][0]["weight"], 0)
        self.assertIn("10.10.0.100:80 wrr", ask(*token("ours"), "ipvsadm", "-Ln").stdout)
        frames = self.place / "frames.pcapng"
        done = ask(*token("ours"), "capture", "--time", "1", "-w", str(frames))
        self.assertEqual((done.returncode, done.stderr.partition(": ")[2]), (0, "the time is over\n"), done.stderr)
        self.assertTrue(frames.read_bytes().startswith(b"\x0a\x0d\x0d\x0a"))
        # The certificate itself, not its authority; and one that is an authority's by its form.
        subprocess.run([*self.new, "-subj", "/CN=self", "-addext", f"subjectAltName=IP:{DIRECTOR}", "-keyout", self.place / "self.key",
                        "-out", self.place / "self.pem"], check=True, capture_output=True)
        plain = f"http://{DIRECTOR}:9292"
        for arguments, said in (
                ((*token("mine"), "capture", "-w", str(self.place / "none")), "this token has the role read; what changes weir needs one of the role write"),
                ((*token("mine"), "drain", "dr", A), "this token has the role read; what changes weir needs one of the role write"),
                ((*token("old"), "status"), f"weir at {weir.base} does not know this token (--token-file)"),
                ((*url, *trust, "status"), f"weir at {weir.base} wants a token: name a file that holds one (--token-file)"),
                ((*url, *trust, "reload"), f"weir's listener at {weir.base} only shows; "),
                ((*url, "--ca", str(self.place / "self.pem"), "status"),
                 f"weir can't be asked at {weir.base}: its certificate is from an authority that is not trusted: "),
                (("--url", plain, "status"), "this listener speaks TLS: ask https://"),
                (("--url", plain, *trust, "--token-file", str(self.place / "mine"), "status"), f"a token sent to {plain} would be for all to read: "),
                (("--token-file", str(self.place / "mine"), "status"), "--token-file and --ca go with --url"),
                ((*url, "--ca", str(self.place / "none.pem"), "status"), f"{self.place}/none.pem: ")):
            with self.subTest(said):
                done = ask(*arguments)
                self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done.stderr)
                self.assertTrue(done.stderr.startswith(f"weirctl: {said}"), done.stderr)
        for name in ("key", "pem"):
            (self.place / f"server.{name}").write_bytes((self.place / f"self.{name}").read_bytes())
        weir.process.send_signal(signal.SIGHUP)
        lab.wait_for("the reload", lambda: "configuration reloaded" in weir.said(), 20)
        trust = ("--ca", str(self.place / "self.pem"))
        self.assertEqual(ask(*token("mine"), "status").returncode, 0)

    def test_a_certificate_that_ends_soon_and_a_key_that_is_everybodys_are_said(self):
        weir = self.secure()
        key = self.place / "server.key"
        ends = weir.metrics().total("weir_http_certificate_expiry_timestamp_seconds")
        self.assertAlmostEqual(ends, time.time() + 2 * 86_400, delta=600)
        # 48 hours within the second in which it was made.
        said = re.compile(re.escape(f"the certificate {self.place}/server.pem expires in ") + "4[78] h")
        lab.wait_for("the warning", lambda: said.search(weir.said()), 10)
        self.assertNotIn("private key", weir.said())
        key.chmod(0o644)
        self.addCleanup(key.chmod, 0o600)
        weir.process.send_signal(signal.SIGHUP)
        lab.wait_for("the warning", lambda: f"the private key {key} (its mode is 0644): chmod 600 {key}" in weir.said(), 20)
        socket = ("--socket", str(weir.socket))
        self.assertRegex(test_weirctl.weirctl("status", door=socket).stdout,
                         "certificate +it expires in (1 d 23|2 d 0) h; others may read or write its private key\n")
        self.assertRegex(test_weirctl.weirctl("doctor", door=socket).stdout, "warn +certificate +of the HTTP listener: it expires in")

    def test_a_capture_ends_when_its_client_goes_though_there_is_nothing_to_write(self):
        weir = self.secure()
        # Nothing is dropped for this reason here, so nothing is written.
        for _ in range(2):
            client = lab.run("A", "/usr/bin/python3", "-c", CAPTURES, DIRECTOR, str(self.place / "ca.pem"), WRITE)
            self.assertEqual((client.stdout, client.stderr), ("HTTP/1.1 200 OK\n", ""))
            last = lambda: weir.said().rpartition("are being captured")[2]
            lab.wait_for("the end of the capture", lambda: "frames captured" in last(), 10)
            self.assertIn("the client has gone", last())

    def test_files_that_do_not_answer_hold_up_a_reload_and_nobody_else(self):
        # Mounted before, since weir sees what there is when it starts.
        with silent.Silent() as files:
            weir = self.secure()
            weir.file.write_text(weir.text.replace(f'"{self.place}/tokens"', f'"{files.place}/tokens"'))
            weir.process.send_signal(signal.SIGHUP)
            lab.wait_for("the reload under way", lambda: weir.metrics().total("weir_config_reload_seconds") > 0, 10)
            self.assertEqual(weir.ask("/", token=READ)[0], 200)
            self.assertEqual(weir.edit(9)["applied"], 1)
            self.assertEqual(weir.ask("/api/v1/edits", "-d", weigh(8), token=WRITE)[0], 200)
            files.end()
            lab.wait_for("its end", lambda: weir.metrics().total("weir_config_reloads_refused_total", by="file") == 1, 20)
        self.assertEqual(weir.ask("/", token=READ)[0], 200)

    def test_bad_clients_and_floods_keep_nobody_out(self):
        weir = self.secure()
        # Of another host, so that it gives way to nobody.
        stalls = lab.start("B", "python3", "-c", STALLS, DIRECTOR)
        self.addCleanup(stalls.kill)
        bad = subprocess.Popen(lab.inside("A", "python3", "-c", BAD_CLIENTS, DIRECTOR, str(self.place / "ca.pem")),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for weight in range(1, 11):
            self.assertEqual(weir.edit(weight)["applied"], 1)
        out, problems = bad.communicate(timeout=120)
        self.assertEqual(out.split(), ["200"] * 4 + ["True"], problems)
        done = lab.run("A", "python3", "-c", LARGE, DIRECTOR, str(self.place / "ca.pem"), WRITE, timeout=90)
        self.assertIn(done.stdout.strip(), ("HTTP/1.1 413 Payload Too Large", "closed"), done.stderr)
        lab.answers(lab.VIPS["dr"], 3)
        self.assertEqual(weir.ask("/api/v1/status", token=READ)[0], 200)
        out, problems = stalls.communicate(timeout=60)
        self.assertEqual((out, weir.metrics().total("weir_http_handshakes_total", result="late")), ("closed\n", 1), problems)

    def test_what_is_wrong_at_a_start_is_said_at_its_key(self):
        keys = self.keys()
        self.tokens(mode=0o644)
        ended = lab.ends(Weir(keys).text)
        self.assertEqual(ended.status, 2, ended.output)
        self.assertIn("others may read or write it (its mode is 0644): chmod 600", ended.output)
        ended = lab.ends(Weir(keys.replace("server.pem", "none.pem")).text)
        self.assertEqual(ended.status, 2, ended.output)
        self.assertIn(f"no certificates in {self.place}/none.pem", ended.output)
        ended = lab.ends(Weir(keys.replace("server.key", "none.key")).text)
        self.assertEqual(ended.status, 2, ended.output)
        self.assertRegex(ended.output, rf"no key of {self.place}/server.pem in {self.place}/none.key\n(.*\n)+.*\| tls_key = ")
        self.assertNotIn(READ, ended.output)

    def serial(self):
        """Of the certificate that a new connection gets."""
        shown = lab.run("A", "openssl", "s_client", "-connect", f"{DIRECTOR}:9292", input="", check=True).stdout
        found = subprocess.run(["openssl", "x509", "-noout", "-serial"], input=shown, capture_output=True, text=True, check=True)
        return found.stdout.strip().partition("=")[2]

    @staticmethod
    def next(kept):
        """What the client that keeps its connection gets for its next request."""
        kept.stdin.write("\n")
        kept.stdin.flush()
        return kept.stdout.readline().split()

    def reload(self, weir, result):
        """Has weir read its file, waits for the result, and returns what it said meanwhile."""
        before, last = len(weir.said()), weir.metrics().total("weir_config_last_reload_timestamp_seconds")
        weir.process.send_signal(signal.SIGHUP)
        lab.wait_for("the reload", lambda: weir.metrics().total("weir_config_last_reload_timestamp_seconds") != last, 20)
        self.assertEqual(weir.metrics().total("weir_config_last_reload_successful"), result, weir.said()[before:])
        lab.wait_for("the log", lambda: len(weir.said()) > before, 5)
        return weir.said()[before:]
