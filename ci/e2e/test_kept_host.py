"""Host interfaces outlive weir: addresses, routes and connections of the director's own go on."""

import contextlib
import fcntl
import json
import os
import pathlib
import signal
import socket
import struct
import sys
import tempfile
import threading
import unittest

import lab
import test_host
import test_kept

OTHER = "10.10.0.3"
ROUTE = "192.0.2.0/24"
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 2, 0x1000


def hosting(place, taps=None, address=lab.DIRECTOR_OUTER):
    """The lab's file with `keep` and host interfaces."""
    text = test_kept.keeping(place, "capacity = 4096")
    for port, tap in ({"outer": "weir0"} if taps is None else taps).items():
        line = f'addresses = ["{test_host.ADDRESSES[port]}/24"]'
        assert line in text, text
        text = text.replace(line, f'{line}\nhost_interface = "{tap}"')
    return text.replace(f'["{lab.DIRECTOR_OUTER}/24"]', f'["{address}/24"]')


def index(tap):
    """The kernel's number of an interface: another one once it was made anew."""
    return lab.run("director", "cat", f"/sys/class/net/{tap}/ifindex").stdout.strip()


def routes():
    """The director's routes to the test's network."""
    return lab.run("director", "ip", "route", "show", ROUTE).stdout


def operate():
    """What an operator adds to the tap."""
    lab.run("director", "ip", "address", "add", f"{test_host.ADDED}/24", "dev", "weir0", check=True)
    lab.run("director", "ip", "route", "add", ROUTE, "via", lab.CLIENT, "dev", "weir0", check=True)


@contextlib.contextmanager
def liar(files):
    """A keeper that has these files for whoever asks for host interfaces; yields its socket."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="liar-", dir=lab.RUN))
    door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    door.bind(str(folder / "keeper.sock"))
    door.listen(16)
    held = list(files)

    def answer():
        while True:
            try:
                peer, _ = door.accept()
            except OSError:
                return
            with peer:
                request, given, _, _ = socket.recv_fds(peer, 512, 32)
                for file in given:
                    os.close(file)
                word, name = request.decode().split(" ", 1)
                if word != "take":
                    while held and name.endswith("host interfaces"):
                        os.close(held.pop())
                    peer.send(b"ok")
                elif name.endswith("host interfaces") and held:
                    socket.send_fds(peer, [b"ok"], held)
                else:
                    peer.send(b"none")

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield folder / "keeper.sock"
    finally:
        door.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        door.close()


def make_tap(name):
    """A tap in the director, and its file here."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    with open(lab.NAMESPACES / f"{lab.NAME}-director", "rb") as there:
        setns(there.fileno())
    try:
        tap = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
        return tap
    finally:
        setns(own)
        os.close(own)


def setns(namespace):
    """This thread is in another network namespace from now on."""
    import ctypes  # pylint: disable=import-outside-toplevel
    if ctypes.CDLL(None, use_errno=True).setns(namespace, 0x40000000) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class KeptHost(unittest.TestCase):
    """`[connections] keep`, of a file with `host_interface`."""

    def assertPings(self, address=lab.DIRECTOR_OUTER):
        """The director answers the client at once."""
        done = lab.run("client", "ping", "-n", "-c", "2", "-i", "0.1", "-W", "1", address)
        self.assertIn(" 0% packet loss", done.stdout, done.stdout + done.stderr)

    def assertAllAnswer(self, result):
        """On every connection."""
        self.assertEqual(result, {"answered": test_kept.COUNT, "failed": []})

    def test_addresses_routes_and_connections_of_the_host_go_on(self):
        with test_kept.keeper() as (place, process), lab.Weir(hosting(place)) as weir, \
                test_host.service("director", sys.executable, "-m", "http.server", "--protocol", "HTTP/1.1",
                                  "--bind", "0.0.0.0", "80"):
            url = f"http://{lab.DIRECTOR_OUTER}/"
            lab.wait_for("the server", lambda: lab.get(url, "-o", "/dev/null").returncode == 0, 5)
            operate()
            facts = index("weir0"), routes()
            with test_kept.Steady(lab.DIRECTOR_OUTER) as steady:
                self.assertAllAnswer(steady.first)
                self.assertOutlives(weir, steady, signal.SIGKILL, facts)
                # A keeper that begins anew is told within a second.
                process.kill()
                process.wait()
                with test_kept.keeper(place):
                    lab.wait_for("the keeper to be told", lambda: "weir-keeper is there again" in weir.said(), 5)
                    self.assertOutlives(weir, steady, signal.SIGTERM, facts)
                    self.assertEqual(set(test_host.addresses("weir0")), {lab.DIRECTOR_OUTER, test_host.ADDED})
                    lab.answers(lab.VIPS["nat"], 2)

    def assertOutlives(self, weir, steady, end, facts):
        """The host interface does, with its routes and connections."""
        weir.stop(end)
        self.assertEqual((index("weir0"), routes()), facts)
        weir.start()
        self.assertPings()
        self.assertAllAnswer(steady.again())
        self.assertIn("adopted=1", test_kept.said_of(weir, "host interfaces are kept by weir-keeper"))
        kept = json.loads(weir.http("/api/v1/status").stdout)["kept"]
        self.assertEqual((kept["host_interfaces"], kept["host_interfaces_adopted"]), (1, 1))
        self.assertEqual((index("weir0"), routes()), facts)

    def test_the_file_says_which_go_on_and_with_what(self):
        with test_kept.keeper() as (place, _), lab.Weir(hosting(place, test_host.TAPS)) as weir:
            operate()
            numbers = index("weir0"), index("weir1")
            # Another address is as with a reload.
            weir.stop(signal.SIGKILL)
            self.assertEqual((index("weir0"), index("weir1")), numbers)
            weir.file.write_text(hosting(place, test_host.TAPS, address=OTHER))
            weir.start()
            self.assertEqual(set(test_host.addresses("weir0")), {OTHER, test_host.ADDED})
            self.assertPings(OTHER)
            self.assertIn(f"address {lab.DIRECTOR_OUTER}/24 removed", weir.said())
            # One that the file has no more is given up, and one that somebody has removed is made anew.
            weir.stop(signal.SIGKILL)
            lab.run("director", "ip", "link", "del", "weir1", check=True)
            weir.file.write_text(hosting(place, {"outer": "weir9", "inner": "weir1"}))
            weir.start()
            lab.wait_for("the end of weir0", lambda: not test_host.exists("weir0"), 3)
            self.assertNotEqual(index("weir1"), numbers[1])
            for sentence in ("is given up: the file has it no more", "is given up: its interface is gone"):
                self.assertIn(sentence, weir.said())
            self.assertPings()
            weir.stop(signal.SIGKILL)
            weir.file.write_text(hosting(place, {}))
            weir.start()
            lab.wait_for("no taps", lambda: not test_host.exists("weir9") and not test_host.exists("weir1"), 3)

    def test_systemd_keeps_it(self):
        text = "\n".join(line for line in hosting("/nowhere").splitlines() if not line.startswith("keeper = ")) + "\n"
        with lab.systemd() as (door, environment), lab.Weir(text, environment=environment) as weir, \
                test_kept.Store(door) as store:
            store.listen()
            self.assertEqual(sorted(store.files), ["weir-book", "weir-tables", "weir-tap"])
            number = index("weir0")
            for _ in range(2):
                weir.stop(signal.SIGKILL)
                store.launch(weir)
                store.listen()
                self.assertEqual(index("weir0"), number)
                self.assertPings()
            weir.file.write_text(text.replace("weir0", "weir9"))
            weir.stop(signal.SIGKILL)
            self.launch(store, weir)
            lab.wait_for("the end of weir0", lambda: not test_host.exists("weir0"), 3)
            self.assertPings()

    def test_a_changed_file_changes_who_keeps_it(self):
        with lab.systemd() as (door, environment), test_kept.keeper() as (place, _), test_kept.Store(door) as store:
            text = hosting(place)
            others = "\n".join(line for line in text.splitlines() if not line.startswith("keeper = ")) + "\n"
            with lab.Weir(others, environment=environment) as weir:
                store.listen()
                numbers = [index("weir0")]
                # systemd lets go of it, and the keeper has the one that is made then.
                weir.stop(signal.SIGKILL)
                weir.file.write_text(text)
                self.launch(store, weir)
                store.listen()
                self.assertEqual(list(store.files), [])
                numbers.append(index("weir0"))
                self.assertPings()
                weir.stop(signal.SIGKILL)
                self.assertEqual(index("weir0"), numbers[-1])
                # Nobody is to keep it.
                weir.file.write_text(text.replace("keep = true", "keep = false"))
                weir.start()
                numbers.append(index("weir0"))
                self.assertPings()
                weir.stop(signal.SIGKILL)
                lab.wait_for("the end of weir0", lambda: not test_host.exists("weir0"), 3)
                # And the keeper is again.
                weir.file.write_text(text)
                weir.start()
                numbers.append(index("weir0"))
                self.assertEqual(len(set(numbers)), 4)
                # Another keeper can't have it while that one has.
                weir.stop(signal.SIGKILL)
                with test_kept.keeper() as (other, _):
                    weir.file.write_text(hosting(other))
                    weir.launch()
                    weir.may_end_with = {1}
                    self.assertEqual(weir.process.wait(lab.START_SECONDS), 1)
                    self.assertRegex(weir.said(), "weir0.* is taken: .*weir-keeper")

    def launch(self, store, weir):
        """weir starts, and systemd takes in what it is told meanwhile."""
        over = threading.Event()
        listener = threading.Thread(target=self.listen_until, args=(store, over))
        listener.start()
        try:
            store.launch(weir)
        finally:
            over.set()
            listener.join()

    def listen_until(self, store, over):
        """systemd takes in what it is told while weir starts."""
        while not over.wait(0.02):
            store.listen()

    def test_a_keeper_that_lies_is_not_believed(self):
        stranger = make_tap("weir8")
        files = [os.open("/proc/self/status", os.O_RDONLY), os.open("/dev/null", os.O_RDWR), stranger]
        with liar(files) as place, lab.Weir(hosting(place)) as weir:
            said = weir.said()
            self.assertEqual(said.count("is given up: it is no tap"), 2, said)
            self.assertRegex(said, r"given up: the file has it no more.*weir8")
            lab.wait_for("the end of the stranger", lambda: not test_host.exists("weir8"), 3)
            self.assertPings()
        own = make_tap("weir0")
        with liar([own]) as place, lab.Weir(hosting(place)) as weir:
            self.assertIn("host interface goes on", weir.said())
            self.assertPings()
