"""Connections outlive weir: it is killed, starts again, and they go on."""

import contextlib
import fcntl
import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import unittest

import lab
import test_ipv6

STEADY = pathlib.Path(__file__).with_name("steady.py")
COUNT = 20


def keeping(place, *more, text=None):
    """The lab's file, or another one, with `keep` and these lines of [connections]."""
    lines = ["[connections]", "keep = true", f'keeper = "{place}"', *more]
    return re.sub(r"(?m)^\[connections\]\n(capacity = .*\n)?", "\n".join(lines) + "\n", text or lab.config())


def lasting(text):
    """The file with persistence, and a scheduler that takes turns."""
    return re.sub(r'(?m)^scheduler = .*\n', 'scheduler = "rr"\npersistence_timeout = 600\n', text)


@contextlib.contextmanager
def keeper(place=None):
    """weir-keeper, somewhere or there: yields its socket and its process."""
    place = place or pathlib.Path(tempfile.mkdtemp(prefix="keeper-", dir=lab.RUN)) / "keeper.sock"
    with subprocess.Popen([pathlib.Path(lab.binary()).with_name("weir-keeper"), "--socket", place], stderr=subprocess.PIPE,
                          text=True) as process:
        try:
            assert "ready" in process.stderr.readline(), "weir-keeper did not start"
            yield place, process
        finally:
            process.kill()


class Store:
    """systemd's store for files: keeps what comes with FDSTORE=1, and starts weir with it."""

    def __init__(self, door):
        self.door = door
        self.files = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # A host interface is there as long as anybody has its file.
        for file in self.files.values():
            os.close(file)

    def listen(self):
        """Takes in what weir has said so far."""
        self.door.setblocking(False)
        while True:
            try:
                text, files, _, _ = socket.recv_fds(self.door, 4096, 4)
            except BlockingIOError:
                return
            facts = dict(line.split("=", 1) for line in text.decode().splitlines())
            if "FDSTOREREMOVE" in facts and facts["FDNAME"] in self.files:
                os.close(self.files.pop(facts["FDNAME"]))
            if "FDSTORE" in facts:
                # Above those that the shell below gives to weir.
                self.files[facts["FDNAME"]] = fcntl.fcntl(files[0], fcntl.F_DUPFD, 50)
                os.close(files[0])

    def launch(self, weir):
        """As weir.start(), with the files as systemd passes them."""
        give = " ".join(f"{number}<&{file} {file}<&-" for number, file in enumerate(self.files.values(), 3))
        names = ":".join(self.files)
        script = f'export LISTEN_PID=$$ LISTEN_FDS={len(self.files)} LISTEN_FDNAMES={names}; exec {give}; exec "$@"'
        with open(weir.log, "ab") as log:
            weir.process = subprocess.Popen(["bash", "-c", script, "bash", *weir.command], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=weir.environment, start_new_session=True,
                                            pass_fds=list(self.files.values()))
        lab.wait_for("weir ready", weir._ready_or_dead, lab.START_SECONDS)


class Steady:
    """Connections of the client's that stay open."""

    def __init__(self, *addresses):
        self.process = subprocess.Popen(lab.inside("client", sys.executable, str(STEADY), str(COUNT), *addresses),
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ports = json.loads(self.process.stdout.readline())
        self.first = json.loads(self.process.stdout.readline())

    def again(self):
        """One more request on each."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def active(weir):
    """Active connections by real server."""
    name = "weir_real_server_active_connections"
    return {labels: value for (found, labels), value in weir.metrics().items() if found == name}


def resets(path, steady):
    """TCP resets of these connections in a capture. Others may be there: a client that was killed when weir ended has closed its own without
    it, and its real servers go on to ask for a while, into the tests behind that.
    """
    shown = subprocess.run(["tcpdump", "-nn", "-r", str(path), "tcp[tcpflags] & tcp-rst != 0"], capture_output=True, text=True,
                           check=True)
    ports = re.compile(r"\.(\d+) > \S+\.(\d+): ")
    return [line for line in shown.stdout.splitlines() if set(map(int, ports.search(line).groups())) & set(steady.ports)]


def said_of(weir, text):
    """The last line of the log with this text."""
    return next(line for line in reversed(weir.said().splitlines()) if text in line)


def is_whole(weir):
    """Whether all connections of the process before are taken over."""
    said = weir.said().rsplit("go on", 1)[1]
    return "is_whole=true" in said or "are taken over" in said


class Kept(unittest.TestCase):
    """`[connections] keep`."""

    def assertAllAnswer(self, result, count):
        """As many answers, from the same real servers, and nothing else."""
        self.assertEqual(result, {"answered": count, "failed": []})

    def assertTakenOver(self, weir, before):
        """Active connections are these, when all were looked at."""
        lab.wait_for("all connections taken over", lambda: is_whole(weir), 10)
        self.assertEqual(active(weir), before)

    def test_connections_go_on_after_kill_9(self):
        addresses = list(lab.VIPS.values())
        with keeper() as (place, _), lab.Weir(keeping(place)) as weir, Steady(*addresses) as steady:
            self.assertAllAnswer(steady.first, COUNT * len(addresses))
            before = active(weir)
            self.assertEqual(sum(before.values()), COUNT * len(addresses))
            with lab.capture("client", "outer") as path:
                for _ in range(3):
                    weir.stop(signal.SIGKILL)
                    weir.start()
                    self.assertAllAnswer(steady.again(), COUNT * len(addresses))
                    self.assertIn('how="in place"', said_of(weir, "go on"))
                    self.assertTakenOver(weir, before)
                    self.assertAllAnswer(steady.again(), COUNT * len(addresses))
            self.assertEqual(resets(path, steady), [])
            self.assertEqual(active(weir), before)
            weir.stop()
            weir.start()
            self.assertAllAnswer(steady.again(), COUNT * len(addresses))

    def assertReturns(self, weir, place, text, server):
        """`server` asks once more and says who answered: always the same one, through every kind of end."""
        first = server()
        for number, more in enumerate(((), (), ("templates = 3000", "ipv6_templates = 3000"), ())):
            weir.stop(signal.SIGTERM if number else signal.SIGKILL)
            weir.file.write_text(keeping(place, *more, text=lasting(text)))
            weir.start()
            self.assertIn("templates=1 ", said_of(weir, "go on"))
            self.assertEqual([server(), server()], [first, first])

    def test_a_client_returns_to_its_server(self):
        with keeper() as (place, _), lab.Weir(keeping(place, text=lasting(lab.config()))) as weir:
            self.assertReturns(weir, place, lab.config(), lambda: lab.answers(lab.VIPS["dr"], 1)[0][0])

    def test_a_client_of_ipv6_returns_to_its_server(self):
        def server():
            return test_ipv6.get(test_ipv6.VIP).stdout.split()[0]

        text = test_ipv6.config()
        with test_ipv6.network(), keeper() as (place, _), lab.Weir(keeping(place, text=lasting(text))) as weir:
            self.assertReturns(weir, place, text, server)

    def test_another_number_of_workers_finds_them(self):
        addresses = list(lab.VIPS.values())
        with keeper() as (place, _), lab.Weir(keeping(place)) as weir, Steady(*addresses) as steady:
            before = sum(active(weir).values())
            with lab.capture("client", "outer") as path:
                for workers, how in ((2, "anew"), (2, "in place"), (1, "anew")):
                    weir.stop(signal.SIGKILL)
                    weir.environment["WEIR_LAB_WORKERS"] = str(workers)
                    weir.start()
                    self.assertIn(f'how="{how}"', said_of(weir, "go on"))
                    lab.wait_for("all connections taken over", lambda: is_whole(weir), 10)
                    self.assertEqual(sum(active(weir).values()), before)
                    for _ in range(3):
                        self.assertAllAnswer(steady.again(), COUNT * len(addresses))
                    self.assertEqual(sum(active(weir).values()), before)
            self.assertEqual(resets(path, steady), [])

    def test_another_capacity_takes_them_over_one_by_one(self):
        addresses = list(lab.VIPS.values())
        with keeper() as (place, _), lab.Weir(keeping(place)) as weir, Steady(*addresses) as steady:
            before = active(weir)
            weir.stop(signal.SIGKILL)
            weir.file.write_text(keeping(place, "capacity = 4096"))
            weir.start()
            self.assertIn('how="anew"', said_of(weir, "go on"))
            self.assertEqual(active(weir), before)
            self.assertAllAnswer(steady.again(), COUNT * len(addresses))
            weir.stop(signal.SIGKILL)
            weir.start()
            self.assertIn('how="in place"', said_of(weir, "go on"))
            self.assertAllAnswer(steady.again(), COUNT * len(addresses))

    def test_what_is_damaged_is_refused_in_a_sentence(self):
        with keeper() as (place, process), lab.Weir(keeping(place)) as weir:
            for word, sentence in ((0, "is not weir's"), (1, "has layout"), (2, "is damaged"), (5, "is damaged"), (7, "is damaged"),
                                   (8, "is damaged"), (16, "had not finished")):
                with self.subTest(word=word):
                    weir.stop(signal.SIGKILL)
                    # The keeper's book, as somebody else might write into it.
                    book = next(file for file in pathlib.Path(f"/proc/{process.pid}/fd").iterdir()
                                if "weir-book" in os.readlink(file))
                    with open(book, "r+b") as file:
                        file.seek(word * 8)
                        old = struct.unpack("<Q", file.read(8))[0]
                        file.seek(word * 8)
                        file.write(struct.pack("<Q", old ^ 0x10000))
                    weir.start()
                    self.assertIn(sentence, said_of(weir, "no connection is taken over"))
                    lab.answers(lab.VIPS["dr"], 1)

    def test_a_keeper_that_is_started_anew_is_told_again(self):
        addresses = list(lab.VIPS.values())
        with keeper() as (place, process), lab.Weir(keeping(place)) as weir, Steady(*addresses) as steady:
            before = active(weir)
            process.kill()
            process.wait()
            lab.wait_for("an alert", lambda: weir.metrics().total("weir_connections_kept") == 0, 10)
            self.assertAllAnswer(steady.again(), COUNT * len(addresses))
            with keeper(place):
                lab.wait_for("the keeper to be told", lambda: weir.metrics().total("weir_connections_kept") == 1, 60)
                weir.stop(signal.SIGKILL)
                weir.start()
                self.assertTakenOver(weir, before)
                self.assertAllAnswer(steady.again(), COUNT * len(addresses))

    def test_a_weir_that_is_started_before_its_keeper_tells_it_later(self):
        place = pathlib.Path(tempfile.mkdtemp(prefix="keeper-", dir=lab.RUN)) / "keeper.sock"
        with lab.Weir(keeping(place)) as weir, Steady(lab.VIPS["nat"]) as steady:
            self.assertEqual(weir.metrics().total("weir_connections_kept"), 0)
            with keeper(place):
                lab.wait_for("the keeper to be told", lambda: weir.metrics().total("weir_connections_kept") == 1, 60)
                weir.stop(signal.SIGKILL)
                weir.start()
                self.assertAllAnswer(steady.again(), COUNT)

    def test_systemd_keeps_them(self):
        text = re.sub(r"(?m)^keeper = .*\n", "", keeping("/nowhere"))
        addresses = list(lab.VIPS.values())
        with lab.systemd() as (door, environment), lab.Weir(text, environment=environment) as weir, \
                Store(door) as store, Steady(*addresses) as steady:
            store.listen()
            self.assertEqual(sorted(store.files), ["weir-book", "weir-tables"])
            before = active(weir)
            for _ in range(2):
                weir.stop(signal.SIGKILL)
                store.launch(weir)
                store.listen()
                self.assertIn('how="in place"', said_of(weir, "go on"))
                self.assertTakenOver(weir, before)
                self.assertAllAnswer(steady.again(), COUNT * len(addresses))
            self.assertEqual(sorted(store.files), ["weir-book", "weir-tables"])

    def test_without_a_keeper_it_serves_and_says_so(self):
        with lab.Weir(keeping(lab.RUN / "nobody.sock")) as weir:
            self.assertIn("does not answer", weir.said())
            lab.answers(lab.VIPS["dr"], 1)
