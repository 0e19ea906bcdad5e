"""weirctl against a real weir: what it shows, and how it fails."""

import collections
import json
import os
import pathlib
import re
import signal
import stat
import subprocess
import tempfile
import time
import unittest

import lab

WEIRCTL = os.environ.get("WEIRCTL", str(pathlib.Path(lab.binary()).parent / "weirctl"))
EXPORTER = "prometheus-node-exporter"
READ_ONLY = ("--http", lab.HTTP.removeprefix("http://"))


def weirctl(*arguments, door=READ_ONLY, stdin=None):
    """weirctl in the director; the finished process."""
    return lab.run("director", WEIRCTL, *door, *arguments, input=stdin)


def end(process):
    """Ends a process that a test started."""
    process.terminate()
    process.communicate(timeout=30)


class WeirctlShows(unittest.TestCase):
    """What weirctl shows of a director that has carried some requests."""

    @classmethod
    def setUpClass(cls):
        cls.weir = lab.Weir()
        cls.enterClassContext(cls.weir)
        cls.answers = collections.Counter(name for name, _ in lab.answers(lab.VIPS["nat"], 9))

    def shown(self, *arguments):
        done = weirctl(*arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""), f"{arguments}: {done.stdout}")
        return done.stdout

    def test_status_says_that_weir_is_ready(self):
        lines = self.shown("status").splitlines()
        self.assertEqual(lines[0].split(), ["weir", "ready"])
        self.assertIn("3", next(line for line in lines if line.startswith("virtual servers")).split())
        self.assertEqual(json.loads(self.shown("--json", "status"))["real_servers"], 9)

    def test_every_connection_is_streamed_and_counted(self):
        lines = self.shown("connections", "--virtual-server", "nat").splitlines()[1:]
        picked = collections.Counter(line.split()[6].split(":")[0] for line in lines)
        self.assertEqual(picked, {lab.REAL_SERVERS[name]: count for name, count in self.answers.items()})
        of_one = self.shown("connections", "--json", "--real-server", f"{lab.REAL_SERVERS['A']}:8080",
                            "--client", lab.CLIENT, "--address", f"{lab.VIPS['nat']}:80").splitlines()
        self.assertEqual(len(of_one), self.answers["A"])
        self.assertEqual({json.loads(line)["virtual_server"] for line in of_one}, {"nat"})
        self.assertEqual(len(self.shown("connections", "--limit", "2").splitlines()), 3)
        self.assertEqual(self.shown("connections", "--count", "--virtual-server", "nat").splitlines()[-1].split(),
                         ["all", "9"])
        self.assertEqual(self.shown("connections", "--state", "SYN_SENT").splitlines()[1:], [])

    def test_servers_workers_ports_health_and_counters_are_listed(self):
        listed = self.shown("list").splitlines()
        self.assertEqual(len(listed), 1 + 3 * 4)
        self.assertEqual(len(self.shown("list", "nat").splitlines()), 5)
        self.assertEqual(self.shown("workers").splitlines()[1].split()[0], "0")
        self.assertEqual([line.split()[1] for line in self.shown("ports").splitlines()[1:]], ["up", "up"])
        self.assertEqual(len(self.shown("health").splitlines()), 1 + 3 * 4)
        self.assertIn("forwarded", self.shown("stats"))
        self.assertEqual(self.shown("vrrp"), "no instances of VRRP\n")

    def test_what_can_not_be_done_is_one_sentence(self):
        for arguments, door, sentence in (
                (("list", "no such"), READ_ONLY, "there is no virtual server no such; `weirctl list` shows their names"),
                (("status",), ("--socket", "/nowhere/weir.sock"), "weir can't be asked at /nowhere/weir.sock: there is no such socket"),
                (("status",), ("--http", "127.0.0.1:1"), "weir can't be asked at 127.0.0.1:1: nobody listens there"),
                (("connections", "--client", "x"), READ_ONLY, "client is no address")):
            done = weirctl(*arguments, door=door)
            self.assertEqual((done.returncode, done.stdout.splitlines()[1:]), (1, []), done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertTrue(done.stderr.startswith(f"weirctl: {sentence}"), done.stderr)
        for arguments in ((), ("lsit",), ("connections", "--limit", "x")):
            self.assertEqual(weirctl(*arguments, door=()).returncode, 2)


class WeirctlExplains(unittest.TestCase):
    """What is explained is what then happens, through the program and its worker."""

    @classmethod
    def setUpClass(cls):
        cls.enterClassContext(lab.Weir())

    def explain(self, protocol, source, destination, *options):
        """The one verdict on a packet, and the lines that an operator reads."""
        asked = ("explain", protocol, source, destination, *options)
        done = weirctl("--json", *asked)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        explanation = json.loads(done.stdout)
        self.assertEqual((explanation["silent"], len(explanation["verdicts"])), ([], 1), done.stdout)
        shown = weirctl(*asked)
        self.assertEqual((shown.returncode, shown.stderr), (0, ""), shown.stdout)
        lines = shown.stdout.splitlines()
        verdict = explanation["verdicts"][0]
        self.assertEqual(lines[-1], f"{'decision':<16}{verdict['text']}")
        self.assertTrue(all(line[15] == " " != line[16] for line in lines), shown.stdout)
        return verdict, shown.stdout

    def answer(self, vip, port):
        """The name of the real server that answers a request from this port, which is none that the kernel gives to others."""
        done = lab.run("client", "curl", "-sS", "--max-time", "20", "--local-port", str(port), f"http://{vip}/", check=True)
        return done.stdout.split()[0]

    def test_new_connections_go_where_it_says_and_existing_ones_stay_there(self):
        for base, (method, vip) in zip((21000, 21100, 21200), lab.VIPS.items()):
            for port in range(base, base + 5):
                ends = (f"{lab.CLIENT}:{port}", f"{vip}:80")
                # Asking moves no round on.
                verdict, text = self.explain("tcp", *ends)
                again, _ = self.explain("tcp", *ends)
                self.assertEqual(again, verdict)
                self.assertEqual((verdict["connection"], verdict["virtual_server"]), ("new", method), text)
                self.assertIn(verdict["verdict"], ("forwarded", "waits"), text)
                self.assertRegex(text, r"(?m)^scheduler +wrr picks .*: the next in turn that weighs at least \d+$")
                name = self.answer(vip, port)
                self.assertEqual(verdict["real_server"], lab.REAL_SERVERS[name], text)
                listed = weirctl("--json", "connections", "--client", ends[0], "--address", ends[1]).stdout
                self.assertEqual(json.loads(listed)["real_server"], lab.REAL_SERVERS[name])
                verdict, text = self.explain("tcp", *ends, "--ack")
                self.assertEqual((verdict["verdict"], verdict["connection"], verdict["real_server"]),
                                 ("forwarded", "existing", lab.REAL_SERVERS[name]), text)

    def test_what_is_refused_is_told_by_the_name_of_its_counter(self):
        vip = lab.VIPS["nat"]
        client = f"{lab.CLIENT}:22000"
        for ends, options, verdict, reason in (
                ((client, f"{vip}:81"), (), "answered", "tcp_reset"),
                ((client, f"{vip}:80"), ("--ack",), "answered", "tcp_reset"),
                ((client, f"{vip}:80"), ("--rst",), "dropped", "not_served"),
                ((client, "203.0.113.1:80"), (), "dropped", "foreign_address"),
                ((f"{vip}:22000", f"{vip}:80"), (), "dropped", "own_source"),
                ((f"{lab.REAL_SERVERS['A']}:8080", client), (), "dropped", "stray_reply")):
            told, text = self.explain("tcp", *ends, *options)
            self.assertEqual((told["verdict"], told["reason"]), (verdict, reason), text)
        told, text = self.explain("udp", client, f"{vip}:80")
        self.assertEqual((told["verdict"], told["reason"]), ("answered", "port_unreachable"), text)
        told, text = self.explain("tcp", client, f"{lab.VIPS['tun']}:80", "--length", "1500")
        self.assertEqual((told["verdict"], told["reason"]), ("answered", "fragmentation_needed"), text)
        self.assertIn("1500 bytes are more than the 1480 that the way allows; and DF is set", text)

    def test_a_real_servers_answer_is_explained_as_well(self):
        port = 23000
        name = self.answer(lab.VIPS["nat"], port)
        told, text = self.explain("tcp", f"{lab.REAL_SERVERS[name]}:8080", f"{lab.CLIENT}:{port}")
        self.assertEqual((told["verdict"], told["to"], told["connection"]), ("forwarded", "client", "existing"), text)
        self.assertIn(f"the source becomes {lab.VIPS['nat']}:80", text)

    def test_bad_questions_are_one_sentence(self):
        ends = (f"{lab.CLIENT}:24000", f"{lab.VIPS['nat']}:80")
        for options, sentence in ((("--port", "wan9"), "there is no port wan9; there are outer, inner"),
                                  (("--worker", "7"), "there is no worker 7; there are 0 to 0")):
            done = weirctl("explain", "tcp", *ends, *options)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertIn(sentence, done.stderr)
        for arguments in (("tcp", lab.CLIENT, ends[1]), ("icmp", *ends), ("tcp", *ends, "--syn", "--ack"), ("tcp", ends[0])):
            self.assertEqual(weirctl("explain", *arguments).returncode, 2, arguments)


class WeirctlCaptures(unittest.TestCase):
    """weirctl capture and neighbors on a director with two workers."""

    @classmethod
    def setUpClass(cls):
        cls.socket = lab.RUN / "captures.sock"
        cls.weir = lab.Weir(f'[control]\nsocket = "{cls.socket}"\n\n' + lab.config(),
                            environment={"WEIR_LAB_WORKERS": "2"})
        cls.enterClassContext(cls.weir)

    def setUp(self):
        self.directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.file = self.directory / "frames.pcapng"

    def begin(self, *arguments):
        """A capture into the file that has begun."""
        process = lab.start("director", WEIRCTL, "--socket", str(self.socket), "capture", "-w", str(self.file), *arguments)
        self.addCleanup(lambda: process.poll() is None and end(process))
        lab.wait_for("the capture", lambda: process.poll() is not None or self.file.exists() and self.file.stat().st_size, 60)
        return process

    def ask(self, *arguments):
        return weirctl(*arguments, door=("--socket", str(self.socket)))

    def fields(self, *names, only=""):
        """What tshark finds of each frame."""
        wanted = [word for name in names for word in ("-e", name)]
        done = lab.run("director", "tshark", "-nr", str(self.file), "-Y", only, "-T", "fields", *wanted, check=True)
        return [tuple(line.split("\t")) for line in done.stdout.splitlines()]

    def test_frames_of_both_workers_are_in_the_file_until_ctrl_c(self):
        vip = lab.VIPS["nat"]
        process = self.begin("--protocol", "tcp", "--address", lab.CLIENT)
        self.assertEqual(len(lab.answers(vip, 40)), 40)
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=60)
        self.assertEqual((process.returncode, out), (0, ""), said)
        count, lost = map(int, re.fullmatch(r"(\d+) frames captured, (\d+) lost: it was stopped\n", said).groups())
        frames = self.fields("frame.packet_flags_direction", "frame.comment", "ip.src", "ip.dst", "tcp.flags.syn")
        self.assertEqual((len(frames), lost), (count, 0))
        self.assertEqual({comment for _, comment, *_ in frames}, {"worker 0", "worker 1"})
        # Each connection's first segment: as it came, to the VIP, and as it went, to a real server.
        syns = [(int(way, 0), to) for way, _, source, to, syn in frames if source == lab.CLIENT and syn in ("1", "True")]
        self.assertEqual([to for way, to in syns if way == 1], [vip] * 40)
        went = [to for way, to in syns if way == 2]
        self.assertEqual((len(went), set(went)), (40, set(lab.REAL_SERVERS.values())))
        answers = [(int(way, 0), source) for way, _, source, to, syn in frames if to == lab.CLIENT and syn in ("1", "True")]
        self.assertEqual([source for way, source in answers if way == 2], [vip] * 40)
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)

    def test_a_file_is_kept_and_one_capture_goes_on_until_somebody_stops_it(self):
        process = self.begin("--drop", "any")
        done = self.ask("capture", "-w", str(self.file))
        self.assertEqual((done.returncode, done.stderr), (1, f"weirctl: {self.file} exists; --force writes over it\n"))
        done = self.ask("capture", "-w", str(self.directory / "other"))
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"^weirctl: another capture is on and ends in \d+ s at the latest; .*\n$")
        self.assertFalse((self.directory / "other").exists())
        self.assertEqual(self.ask("capture", "--stop").returncode, 0)
        said = process.communicate(timeout=60)[1]
        self.assertEqual((process.returncode, said.endswith("lost: it was stopped\n")), (0, True), said)
        done = self.ask("capture", "--stop")
        self.assertEqual((done.returncode, done.stderr), (1, "weirctl: no capture is on\n"))
        done = self.ask("capture", "--force", "-w", str(self.file), "--time", "1", "--json")
        self.assertEqual((done.returncode, json.loads(done.stdout)["ended"]), (0, "the time is over"), done.stderr)
        for arguments, words in ((("--drop", "no_rout"), "no frame is dropped for no_rout"), (("--port", "x"), "there is no port x"),
                                 (("--address", "x"), "x is no address")):
            done = self.ask("capture", "-w", str(self.directory / "other"), *arguments)
            self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done.stderr)
            self.assertIn(words, done.stderr)
        for arguments in (("--snaplen", "1"), ("--count", "0"), ("--l4-port", "0")):
            self.assertEqual(self.ask("capture", "-w", str(self.directory / "other"), *arguments).returncode, 2, "bad usage")
        self.assertIn("captures go through weir's socket", weirctl("capture", "-w", str(self.directory / "other")).stderr)

    def test_a_pipe_is_read_as_it_comes_and_ends_it_when_it_closes(self):
        words = [WEIRCTL, "--socket", str(self.socket), "capture", "--in", "--l4-port", "80"]
        pipe = f"{' '.join(words)} | tcpdump -c 3 -nr -"
        process = lab.start("director", "sh", "-c", pipe)
        self.addCleanup(lambda: process.poll() is None and end(process))
        lab.wait_for("the capture", lambda: "in=yes l4_port=80" in self.weir.said(), 60)
        lab.answers(lab.VIPS["dr"], 9)
        out, said = process.communicate(timeout=60)
        self.assertEqual(len(out.splitlines()), 3, said)
        self.assertIn(f"{lab.VIPS['dr']}.80", out)
        # Its place is free again.
        lab.wait_for("the end of the capture", lambda: self.ask("capture", "--count", "1", "--time", "1", "--force", "-w",
                                                                 str(self.file)).returncode == 0, 60)

    def test_next_hops_are_listed_for_each_worker(self):
        lab.answers(lab.VIPS["dr"], 40)
        rows = [line.split() for line in self.ask("neighbors").stdout.splitlines()]
        self.assertEqual(rows[0][:5], ["PORT", "VLAN", "ADDRESS", "MAC", "STATE"])
        found = {(row[2], row[-1]): row for row in rows[1:]}
        for name, address in lab.REAL_SERVERS.items():
            for worker in ("0", "1"):
                row = found[address, worker]
                self.assertEqual((row[3], row[-2]), (lab.mac_of(name, "eth0"), "yes"), row)
                self.assertIn(row[4], ("reachable", "stale", "probing"))
        listed = json.loads(self.ask("--json", "neighbors").stdout)
        self.assertEqual(listed["silent_workers"], [])
        picked = self.ask("neigh", "--address", lab.REAL_SERVERS["A"], "--port", found[lab.REAL_SERVERS["A"], "0"][0]).stdout
        self.assertEqual(len(picked.splitlines()), 3)
        self.assertEqual(self.ask("neighbors", "--state", "failed").stdout, "no neighbors\n")


class WeirctlChanges(unittest.TestCase):
    """A weir for each, changed through its socket."""

    def setUp(self):
        self.socket = lab.RUN / "changes.sock"
        self.text = f'# Of the test.\n[control]\nsocket = "{self.socket}"   # here\n\n' + lab.config()
        self.weir = lab.Weir(self.text)
        self.enterContext(self.weir)
        self.file = str(self.weir.file)

    def ask(self, *arguments, status=0, stdin=None):
        done = weirctl(*arguments, door=("--socket", str(self.socket)), stdin=stdin)
        self.assertEqual(done.returncode, status, f"{arguments}: {done.stdout}{done.stderr}")
        return done.stdout if status == 0 else done.stderr

    def picks(self, count=9):
        return "".join(sorted(name for name, _ in lab.answers(lab.VIPS["nat"], count)))

    def test_servers_come_change_and_go_under_requests(self):
        vip = "10.10.0.150"
        self.ask("add", "virtual-server", "new", f"address={vip}", "port=80", "scheduler=rr", "forwarding=nat")
        self.ask("add", "real-server", "new", f"{lab.REAL_SERVERS['A']}:8080", "--dry-run")
        self.assertEqual(len(self.ask("list", "new").splitlines()), 2)
        self.ask("add", "real-server", "new", f"{lab.REAL_SERVERS['A']}:8080")
        self.assertEqual([name for name, _ in lab.answers(vip, 3)], ["A"] * 3)
        self.ask("set", "real-server", f"tcp/{vip}:80", lab.REAL_SERVERS["A"], "weight=7")
        self.assertIn(" 7 ", self.ask("list", "new"))
        self.ask("drain", "nat", lab.REAL_SERVERS["A"])
        self.assertEqual(set(self.picks()), {"B", "C"})
        self.assertIn("say which: --weight", self.ask("enable", "nat", lab.REAL_SERVERS["A"], "--file", "/nowhere", status=1))
        self.ask("enable", "nat", lab.REAL_SERVERS["A"], "--file", self.file)
        self.assertEqual(self.picks(), "AAAABBBCC")
        self.ask("remove", "real-server", "nat", lab.REAL_SERVERS["B"])
        self.assertEqual(set(self.picks()), {"A", "C"})
        self.ask("remove", "virtual-server", "new")
        self.assertIn("there is no virtual server new", self.ask("list", "new", status=1))

    def test_what_the_file_would_be_refused_for_is_refused_and_changes_nothing(self):
        before = self.ask("list")
        for arguments, words in (
                (("set", "rs", "nat", lab.REAL_SERVERS["A"], "weight=70000"), "weight"),
                (("set", "rs", "nat", lab.REAL_SERVERS["A"], "wieght=7"), "did you mean `weight`?"),
                (("set", "vs", "nat", "scheduler=best"), "best"),
                (("add", "vs", "nat", "address=10.10.0.151", "port=80"), "nat"),
                (("add", "vs", "new", "address=fe80::1", "port=80"), "link-local address"),
                (("add", "rs", "nat", f"{lab.REAL_SERVERS['A']}:8080"), lab.REAL_SERVERS["A"]),
                (("remove", "vs", "none"), "none"),
                (("remove", "rs", "nat", "10.20.0.99:80"), "10.20.0.99")):
            said = self.ask(*arguments, status=1)
            self.assertTrue(said.startswith("weirctl: ") and len(said.splitlines()) == 1, said)
            self.assertIn(words, said)
        self.assertEqual(self.ask("list"), before)
        self.assertEqual(weirctl("set", "rs", "nat", "x", "weight=1", door=()).returncode, 2)
        self.assertIn("only shows", weirctl("remove", "vs", "nat").stderr)

    def test_changes_are_saved_and_the_rest_of_the_file_stays(self):
        self.assertIn("stays as it is", self.ask("save", self.file))
        self.assertIn("not a regular file", self.ask("save", "/dev/zero", status=1))
        self.ask("set", "rs", "nat", lab.REAL_SERVERS["A"], "weight=9")
        self.ask("remove", "vs", "tun")
        self.ask("add", "vs", "new", "address=10.10.0.150", "port=80", "scheduler=rr")
        shown = self.ask("save", self.file, "--dry-run")
        self.assertEqual(self.weir.file.read_text(), self.text)
        self.ask("save", self.file)
        saved = self.weir.file.read_text()
        self.assertEqual(saved, shown)
        self.assertTrue(saved.startswith(self.text.partition("[[virtual_server]]")[0]))
        self.assertNotIn('"tun"', saved)
        self.assertIn('[[virtual_server]]\nname = "new"\naddress = "10.10.0.150"\nport = 80\nscheduler = "rr"\n', saved)
        self.assertEqual(saved.count("weight = 9"), 1)
        self.assertIn("stays as it is", self.ask("save", self.file))
        self.assertTrue(self.ask("check", self.file).endswith("good\n"))
        before = self.ask("list")
        for keep in ((), ("--keep-edits",)):
            self.assertEqual(self.ask("reload", *keep).splitlines()[0], "nothing has changed")
            self.assertNotIn("dropped", self.ask("reload", *keep), "a file that was saved has the edits")
        self.assertEqual(self.ask("list"), before, "a file that was saved changes nothing")
        self.assertNotIn("has dropped edits", self.weir.said())

    def test_the_file_that_weir_reads_is_the_one_that_is_saved(self):
        marked = b"\xef\xbb\xbf" + self.text.replace("\n", "\r\n").encode()
        self.weir.file.write_bytes(marked)
        self.ask("reload")
        self.ask("drain", "nat", lab.REAL_SERVERS["A"])
        place = self.text.index("weight = 4", self.text.index('name = "nat"'))
        saved = json.loads(self.ask("save", "--json"))
        self.assertEqual(saved, {"file": self.file, "changed": True})
        expected = self.text[:place] + "weight = 0" + self.text[place + len("weight = 4"):]
        self.assertEqual(self.weir.file.read_bytes(), b"\xef\xbb\xbf" + expected.replace("\n", "\r\n").encode())
        # From now on it is the file's, so what is written there holds.
        self.weir.file.write_text(self.text)
        self.assertNotIn("dropped", self.ask("reload", "--keep-edits"))
        self.ask("drain", "nat", lab.REAL_SERVERS["A"])
        self.ask("enable", "nat", lab.REAL_SERVERS["A"])
        self.assertEqual(self.picks(), "AAAABBBCC")
        other = self.weir.file.with_name("other.toml")
        other.write_text(self.text)
        self.assertIn(f"weir reads another file, {self.file}", self.ask("save", str(other)))
        # Beside the listener there is no telling whose file is whose.
        self.assertIn("name a file", weirctl("enable", "nat", lab.REAL_SERVERS["A"]).stderr)

    def test_programs_are_told_as_people_are(self):
        self.assertEqual(json.loads(self.ask("check", self.file, "--json")), {"file": self.file, "good": True, "problems": []})
        bad = self.weir.file.with_name("bad.toml")
        bad.write_text(self.text.replace("capacity = 65_536", "capactiy = 65_536"))
        done = weirctl("check", str(bad), "--json", door=())
        self.assertEqual((done.returncode, json.loads(done.stdout)["good"]), (1, False))
        self.assertIn("capactiy", json.loads(done.stdout)["problems"][0]["text"])
        for arguments in (("list", "no"), ("health", "no"), ("connections", "--virtual-server", "no"),
                          ("connections", "--virtual-server", "no", "--count"), ("neighbors", "--port", "no")):
            for kind in ((), ("--json",)):
                self.assertIn("there is no ", self.ask(*arguments, *kind, status=1), arguments)
        self.assertEqual(self.ask("connections", "--virtual-server", "nat", "--json"), "")
        kept = json.loads(self.ask("neighbors", "--state", "failed", "--json"))
        self.assertEqual(kept, {"neighbors": [], "silent_workers": []})
        full = lab.run("director", "sh", "-c", f"{WEIRCTL} --socket {self.socket} list > /dev/full")
        self.assertEqual((full.returncode, full.stderr.count("No space left")), (1, 1))
        self.assertEqual(weirctl("doctor", door=("--url", "https://192.0.2.1:9292")).returncode, 2)

    def test_a_save_loses_no_secret_and_nothing_that_was_written_meanwhile(self):
        check = ('[virtual_server.health_check]\ntype = "http"\npath = "/status?token=abc" # why\n'
                 'request_header = ["X-Key: hunter2"]\nbasic_auth = "user:secret"\n')
        place = self.text.index("[[virtual_server.real_server]]", self.text.index('name = "nat"'))
        text = self.text[:place] + check + self.text[place:]
        self.weir.file.write_text(text)
        self.ask("reload")
        self.assertIn("stays as it is", self.ask("save", self.file))
        self.ask("set", "rs", "nat", lab.REAL_SERVERS["A"], "weight=9")
        self.ask("save", self.file)
        saved = self.weir.file.read_text()
        self.assertIn(check, saved)
        self.assertEqual(saved.count("weight = 9"), 1)
        more = saved + '\n[[virtual_server]]\nname = "more"\naddress = "10.10.0.151"\nport = 80 # by hand\n'
        self.weir.file.write_text(more)
        self.assertIn("reload it first", self.ask("save", self.file, status=1))
        self.assertEqual(self.weir.file.read_text(), more)
        self.ask("reload")
        self.assertIn("stays as it is", self.ask("save", self.file))

    def test_a_reload_tells_what_it_changes_and_drops(self):
        self.ask("set", "rs", "nat", lab.REAL_SERVERS["A"], "weight=9")
        self.weir.file.write_text(self.text.replace('name = "dr"', 'name = "renamed"'))
        told = self.ask("reload", "--dry-run")
        self.assertIn("weight", told)
        self.assertIn(" 9 ", self.ask("list", "nat"), "that was no reload")
        self.assertIn("renamed", self.ask("reload", "--keep-edits"))
        self.assertIn(" 9 ", self.ask("list", "nat"))
        self.assertIn("dropped", self.ask("reload"))
        self.assertNotIn(" 9 ", self.ask("list", "nat"))
        self.weir.file.write_text(self.text + "[http]\n")
        self.assertIn("duplicate", self.ask("reload", status=1))
        self.assertIn("was refused", self.ask("status"))

    def test_a_terminal_gets_what_fits_and_files_of_proc_are_there(self):
        for width in (80, 200):
            command = f"stty cols {width} rows 40; timeout 3 {WEIRCTL} --socket {self.socket} top --interval 1"
            page = lab.run("director", "script", "-qec", command, "/dev/null").stdout.split("\x1b[H\x1b[2J")[1]
            lines = [re.sub(r"\x1b\[\d+m", "", line).rstrip() for line in page.splitlines()]
            self.assertTrue(lines[0].startswith("weir ") and "ready" in lines[0], page)
            self.assertLessEqual(max(map(len, lines)), width)
            self.assertEqual("OUT BIT/S" in page, width == 200)
        self.assertIn("top needs a terminal", self.ask("top", status=1))
        self.assertEqual(len(self.ask("proc", "ip_vs").splitlines()), 3 + 3 * 4)
        self.assertEqual(len(self.ask("proc", "ip_vs_stats").splitlines()), 6)
        self.picks()
        self.assertEqual(len(self.ask("proc", "ip_vs_conn").splitlines()), 1 + 9)

    def test_events_are_followed(self):
        following = lab.start("director", WEIRCTL, "--socket", str(self.socket), "--json", "events", "--count", "2")
        # It has looked once when it is connected, and compares with that.
        lab.wait_for("the follower", lambda: str(self.socket) in lab.run(
            "director", "ss", "--unix", "--no-header", "state", "connected").stdout, 10)
        time.sleep(1)
        self.ask("drain", "nat", lab.REAL_SERVERS["A"])
        said, _ = following.communicate(timeout=60)
        # Of what changes at once, that comes first which was asked for after the change.
        self.assertEqual({json.loads(line)["subject"] for line in said.splitlines()},
                         {"configuration", f"real server nat {lab.REAL_SERVERS['A']}:8080"})

    def test_node_exporter_reads_what_weirctl_keeps_for_it(self):
        folder = lab.RUN / "proc"
        kept = lab.start("director", WEIRCTL, "--socket", str(self.socket), "proc", "--directory", str(folder), "--interval", "1")
        self.addCleanup(end, kept)
        # It does not start without.
        lab.wait_for("files to read", lambda: (folder / "net" / "ip_vs_stats").exists(), 20)
        self.look_at_node_exporter(folder)

    def test_node_exporter_reads_what_weir_keeps_for_it(self):
        folder = lab.RUN / "proc-of-weir"
        other = folder.with_name("proc-elsewhere")
        key = "[control]\n"
        self.assertFalse(folder.exists())
        # A reload brings it, takes it elsewhere, and away.
        for wanted in (other, folder, None, folder):
            line = f'proc_directory = "{wanted}"\n' if wanted else ""
            self.weir.file.write_text(self.text.replace(key, key + line))
            self.ask("reload")
            for each in (folder, other):
                names = ["ip_vs", "ip_vs_stats"] if each == wanted else []
                lab.wait_for(f"{names} in {each}", lambda: sorted(path.name for path in each.glob("net/*")) == names, 20)
        self.assertEqual((folder / "net" / "ip_vs").stat().st_mode & 0o777, 0o644)
        self.look_at_node_exporter(folder)

    def look_at_node_exporter(self, folder):
        exporter = lab.start("director", EXPORTER, f"--path.procfs={folder}", "--collector.disable-defaults", "--collector.ipvs",
                             "--web.listen-address=127.0.0.1:9100")
        self.addCleanup(end, exporter)
        self.picks()

        def read(name, **labels):
            text = lab.run("director", "curl", "--silent", "http://127.0.0.1:9100/metrics").stdout
            return lab.Metrics(text).total(name, **labels)

        lab.wait_for("all connections", lambda: read("node_ipvs_connections_total") == 9, 20)
        nat = {"local_address": lab.VIPS["nat"], "local_port": "80", "proto": "TCP"}
        self.assertEqual(read("node_ipvs_backend_weight", **nat, remote_address=lab.REAL_SERVERS["A"], remote_port="8080"), 4)
        self.assertEqual(read("node_ipvs_backend_connections_inactive", **nat), 9)
        self.assertEqual(read("node_ipvs_incoming_packets_total"), self.weir.metrics().total(
            "weir_virtual_server_packets_total", direction="in"))
        self.weir.stop()
        lab.wait_for("files that are gone", lambda: not (folder / "net" / "ip_vs").exists(), 20)

    def test_a_proc_directory_that_can_not_be_written_is_said_and_holds_up_nothing(self):
        place = lab.RUN / "no-directory"
        place.write_text("a file")
        self.addCleanup(place.unlink)
        self.weir.file.write_text(self.text.replace("[control]\n", f'[control]\nproc_directory = "{place}"\n'))
        self.ask("reload")
        lab.wait_for("a line in the log", lambda: "the files of [control] proc_directory can't be written" in self.weir.said(), 20)
        self.assertEqual(len(self.picks()), 9)


# Opens some connections and waits for none of them.
KNOCK = """
import socket, sys, time
doors = [socket.socket() for _ in range(18)]
for door in doors:
    door.setblocking(False)
    door.connect_ex((sys.argv[1], 80))
time.sleep(0.2)
"""


class WeirctlDoctor(unittest.TestCase):
    """What is found wrong with the lab's director: as on any machine something is, only what is the lab's own is looked at."""

    def examined(self, socket, *arguments):
        done = lab.run("director", WEIRCTL, "--socket", str(socket), "--json", "doctor", *arguments)
        found = json.loads(done.stdout)
        self.assertEqual(done.returncode, 1 if found["status"] == "fail" else 0, done.stdout + done.stderr)
        for it in found["checks"]:
            self.assertEqual("mend" in it, it["status"] != "ok", it)
        return found["checks"]

    def found(self, checks, name):
        return [(it["status"], it["text"]) for it in checks if it["check"] == name]

    def test_a_running_weir_is_examined_and_faults_are_found(self):
        socket = lab.RUN / "doctor.sock"
        text = f'[control]\nsocket = "{socket}"\n\n' + lab.config()
        with lab.Weir(text) as weir:
            lab.answers(lab.VIPS["nat"], 3)
            checks = self.examined(socket)
            names = {it["check"] for it in checks}
            self.assertLessEqual({"weir", "file", "hugepages", "limits", "binding", "link", "mtu", "tunnels", "kernel", "rss", "losses",
                                  "isolation", "clock", "time", "table", "servers", "neighbors", "arp", "log"}, names)
            self.assertEqual(self.found(checks, "file"), [("ok", f"{weir.file} is good and in force")])
            self.assertEqual(self.found(checks, "link"), [("ok", "port outer: up"), ("ok", "port inner: up")])
            self.assertEqual(self.found(checks, "servers"), [("ok", "3 virtual servers, each with somebody to serve")])
            self.assertEqual([text for _, text in self.found(checks, "binding")],
                             ["port outer: net_af_packet0 on outer", "port inner: net_af_packet1 on inner"])
            self.assertIn(str(weir.log), self.found(checks, "log")[0][1])
            if not lab.hugepages:
                self.assertEqual(self.found(checks, "hugepages")[0][0], "warn")
            plain = lab.run("director", WEIRCTL, "--socket", str(socket), "doctor").stdout.splitlines()
            self.assertEqual({line.split()[1] for line in plain}, names)
            self.assertLessEqual({line.split()[0] for line in plain}, {"ok", "warn", "fail"})

            # A VIP that one of three real servers lacks shows in nothing but SYNs without an answer.
            self.assertEqual([status for status, _ in self.found(checks, "opening")], ["ok"])
            vip = f"{lab.VIPS['dr']}/32"
            lab.run("A", "ip", "address", "delete", vip, "dev", "lo", check=True)
            try:
                lab.run("client", "/usr/bin/python3", "-c", KNOCK, lab.VIPS["dr"], check=True)
                lab.wait_for("connections that do not open", lambda: self.found(self.examined(socket), "opening")[0][0] == "warn", 3)
                ((_, said),) = self.found(self.examined(socket), "opening")
            finally:
                lab.run("A", "ip", "address", "add", vip, "dev", "lo", check=True)
            self.assertRegex(said, rf"^\d+ connections of dr with {lab.REAL_SERVERS['A']}:80 do not open: ")

            # Each with the command that mends it.
            weirctl("drain", "dr", lab.REAL_SERVERS["A"], door=("--socket", str(socket)))
            lab.run("director", "ip", "address", "add", "192.0.2.1/24", "dev", "inner", check=True)
            lab.run("director", "ip", "link", "set", "outer", "mtu", "1400", check=True)
            weir.file.write_text(text + "\n[http]\n")
            try:
                checks = {(it["check"], it["status"], it.get("mend")) for it in self.examined(socket)}
            finally:
                lab.run("director", "ip", "address", "flush", "dev", "inner", check=True)
                lab.run("director", "ip", "link", "set", "outer", "mtu", "1500", check=True)
            self.assertLessEqual({
                ("binding", "warn", "ip address flush dev inner"),
                ("mtu", "fail", "ip link set outer mtu 1500"),
                ("file", "fail", f"weir --check -c {weir.file}"),
            }, checks)
            # Once it is good again.
            weir.file.write_text(text.replace("weight = 2", "weight = 5", 1))
            checks = {(it["check"], it["status"], it.get("mend")) for it in self.examined(socket)}
            self.assertLessEqual({("file", "warn", "weirctl reload --dry-run, then weirctl reload"), ("file", "warn", f"weirctl save {weir.file}")}, checks)

    def test_without_weir_the_machine_is_examined(self):
        file = lab.RUN / "doctor.toml"
        file.write_text(lab.config())
        checks = self.examined("/nowhere/weir.sock", "--file", str(file))
        self.assertEqual(self.found(checks, "weir")[0][0], "warn")
        self.assertEqual(self.found(checks, "file"), [("ok", f"{file} is good")])
        self.assertTrue(self.found(checks, "tunnels") and self.found(checks, "hugepages") and self.found(checks, "clock"))
        self.assertFalse(self.found(checks, "table"))


class WeirctlInstalls(unittest.TestCase):
    """The commands of docs/weirctl.md, below another root."""

    def test_completions_and_pages_go_where_packages_have_them(self):
        documented = (lab.ROOT / "docs" / "weirctl.md").read_text().split("```\n")
        block = next(block for block in documented if "completions bash" in block)
        with tempfile.TemporaryDirectory() as root:
            commands = block.replace("/usr/", f"{root}/usr/").replace("weirctl completions", f"{WEIRCTL} completions").replace(
                "weirctl man", f"{WEIRCTL} man")
            subprocess.run(["bash", "-euc", commands], check=True)
            share = pathlib.Path(root) / "usr" / "share"
            for place, word in (("zsh/vendor-completions/_weirctl", "#compdef weirctl"), ("fish/vendor_completions.d/weirctl.fish", "complete -c weirctl"),
                                ("man/man1/weirctl.1", ".TH weirctl 1"), ("man/man1/weirctl-connections.1", "real\\-server"),
                                ("man/man1/weirctl-set-virtual-server.1", ".TH weirctl-set-virtual-server 1")):
                self.assertIn(word, (share / place).read_text(), place)
            completion = share / "bash-completion" / "completions" / "weirctl"

            def completed(*words):
                line = " ".join(f"'{word}'" for word in ("weirctl", *words))
                script = (f"source {completion}; COMP_WORDS=({line}); COMP_CWORD={len(words)}; COMP_LINE=\"{' '.join(('weirctl', *words))}\"; "
                          f"COMP_POINT=${{#COMP_LINE}}; _weirctl weirctl '{words[-1]}' '{('weirctl', *words)[-2]}'; echo \"${{COMPREPLY[*]}}\"")
                done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
                return done.stdout.split()

            self.assertEqual(completed("doc"), ["doctor"])
            self.assertLessEqual({"status", "stats", "set", "save"}, set(completed("s")))
            self.assertEqual(completed("connections", "--real"), ["--real-server"])
            self.assertEqual(completed("connections", "--protocol", ""), ["tcp", "udp", "sctp"])
            self.assertIn("virtual-server", completed("add", "v"))
            self.assertEqual(completed("proc", "ip_vs_c"), ["ip_vs_conn"])
