"""What could end weir and must not: the clock is set, it is stopped, its rings and buffers are full; and what ends it, for lack of
memory, and ends no connection. docs/dying.md has the table of all that was tried.
"""

import contextlib
import ctypes
import datetime
import os
import pathlib
import re
import resource
import signal
import subprocess
import tempfile
import time
import unittest

import lab
import ptrace
from clock import Clock
from test_kept import COUNT, Steady, active, is_whole, keeper, keeping
from test_lifecycle_hostile import Hostile
from test_liveness import VRRP, live, thread

DAY = 86_400
MNT_DETACH = 2


class Dying(Hostile):
    """Each starts a weir of its own."""

    def assertAllAnswer(self, steady, addresses):
        """Each connection does, from the real server of before."""
        self.assertEqual(steady.again(), {"answered": COUNT * len(addresses), "failed": []})

    def assertLivesOn(self, weir, steady, addresses):
        """Connections go on, new ones come, and VRRP is the master."""
        self.assertAllAnswer(steady, addresses)
        lab.wait_for("life", lambda: live(weir) == "live\n", 5)
        lab.wait_for("mastership", lambda: weir.metrics().total("weir_vrrp_state", instance="vi") == 2, 10)
        self.assertServes(weir)

    def drops(self, weir, reason):
        """How many frames were dropped for this."""
        return weir.metrics().total("weir_drops_total", reason=reason) or 0

    def flood(self, kind, address):
        """More packets than anybody takes."""
        program = str(lab.ROOT / "ci/e2e/flood_packets.py")
        lab.run("client", "/usr/bin/python3", program, kind, "outer", lab.mac_of("director", "outer"), address, check=True)


class TimeOfDay(Dying):
    """The time of day."""

    def test_a_clock_that_is_set_forward_and_back_changes_nothing(self):
        clock = Clock()
        addresses = list(lab.VIPS.values())
        with lab.Weir(lab.config() + VRRP, environment=clock.environment) as weir, \
                Steady(*addresses) as steady:
            self.assertLivesOn(weir, steady, addresses)
            for number, days in enumerate((400, -400, 0), 1):
                clock.step(days * DAY)
                # What it says now shows that it believes the clock.
                weir.process.send_signal(signal.SIGUSR1)
                lab.wait_for("a line", lambda number=number: weir.said().count("SIGUSR1 means nothing") == number, 5)
                line = next(it for it in reversed(weir.said().splitlines()) if "SIGUSR1" in it)
                expected = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)).strftime("%Y-%m")
                self.assertIn(expected, line)
                time.sleep(0.5)
                self.assertLivesOn(weir, steady, addresses)
            metrics = weir.metrics()
            self.assertEqual(metrics.total("weir_vrrp_priority_zero_sent_total", instance="vi"), 0)
            self.assertEqual(sum(active(weir).values()), COUNT * len(addresses))
            self.assertNotRegex(weir.said(), "is stuck|is late")


class Stopped(Dying):
    """The whole process."""

    SECONDS = 5.0

    def test_a_weir_that_was_stopped_for_five_seconds_goes_on(self):
        addresses = list(lab.VIPS.values())
        with lab.Weir(lab.config() + VRRP) as weir, Steady(*addresses) as steady:
            self.assertLivesOn(weir, steady, addresses)
            weir.process.send_signal(signal.SIGSTOP)
            time.sleep(self.SECONDS)
            weir.process.send_signal(signal.SIGCONT)
            self.assertLivesOn(weir, steady, addresses)
            self.assertEqual(sum(active(weir).values()), COUNT * len(addresses))
            self.assertStops(weir)


class Full(Dying):
    """Rings and buffers."""

    def test_a_host_interface_that_takes_nothing_holds_up_no_virtual_server(self):
        line = f'addresses = ["{lab.DIRECTOR_OUTER}/24"]'
        with lab.Weir(lab.config().replace(line, f'{line}\nhost_interface = "weir0"')) as weir:
            with ptrace.halted(thread(weir, "weir-host")):
                self.flood("ping", lab.DIRECTOR_OUTER)
                self.assertGreater(self.drops(weir, "punt_full") + self.drops(weir, "punt_rate_limited"), 0)
                lab.answers(lab.VIPS["nat"], 2)
            lab.wait_for("life", lambda: live(weir) == "live\n", 5)
            lab.wait_for("an answer to ping", lambda: lab.run("client", "ping", "-c1", "-W1", lab.DIRECTOR_OUTER).returncode == 0, 10)
            self.assertServes(weir)

    def test_the_smallest_pool_is_larger_than_what_waits(self):
        # Real servers that answer no ARP keep as many packets as may wait.
        silent = "".join(f'\n  [[virtual_server.real_server]]\n  address = "10.20.0.{number}"\n' for number in range(100, 116))
        text = lab.config() + "\n[memory]\nmbufs = 1024\n" + (
            '\n[[virtual_server]]\nname = "silent"\naddress = "10.10.0.150"\nport = 80\nprotocol = "tcp"\nforwarding = "dr"\n'
            f'scheduler = "rr"\n{silent}')
        with lab.Weir(text) as weir:
            self.flood("syn", "10.10.0.150")
            metrics = weir.metrics()
            self.assertGreater(metrics.total("weir_drops_total", reason="neighbor_queue_full"), 0)
            self.assertServes(weir)
            lab.wait_for("their end", lambda: self.drops(weir, "neighbor_failed") > 0, 10)
            self.assertServes(weir)


class Ring(Dying):
    """The device's own."""

    @contextlib.contextmanager
    def peer(self, socket):
        """Another weir, at the other end of a shared ring; yields its process."""
        folder = pathlib.Path(tempfile.mkdtemp(prefix="peer-", dir=lab.RUN))
        (folder / "weir.toml").write_text(f'[control]\nsocket = "{folder}/weir.sock"\n'
                                          '[[port]]\nname = "inner"\ndevice = "net_memif0"\naddresses = ["10.20.0.11/24"]\n')
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(lab.inside(
                "inner", lab.binary(), "-l", "0", "--no-pci", "--no-huge", "-m", "256", "--vdev",
                f"net_memif0,role=server,socket={socket},socket-abstract=no", "--", "-c", str(folder / "weir.toml")),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            lab.wait_for("its socket", socket.exists, 10)
            yield process
        finally:
            process.kill()
            process.wait()

    def sent(self, weir):
        """Frames that its device has taken."""
        return weir.metrics().total("weir_port_transmit_packets_total", port="inner")

    def test_a_ring_that_nobody_empties_gets_full_and_holds_up_nothing(self):
        place = lab.RUN / "memif.sock"
        text = lab.config().replace('device = "net_af_packet1"', 'device = "net_memif0"')
        text += "".join(f'\n[[neighbor]]\naddress = "{address}"\nmac = "02:00:00:00:00:0{number}"\n'
                        for number, address in enumerate(lab.REAL_SERVERS.values(), 1))
        eal = ("--vdev", f"net_memif0,role=client,socket={place},socket-abstract=no")
        place.unlink(missing_ok=True)
        # Whose link is up when there is a peer, and which is not ready before.
        with self.peer(place) as peer, lab.Weir(text, eal) as weir:
            peer.send_signal(signal.SIGSTOP)
            self.flood("syn", lab.VIPS["dr"])
            full, sent = self.drops(weir, "transmit_full"), self.sent(weir)
            self.assertGreater(full, 1_000)
            self.assertLess(sent, 5_000)
            self.assertEqual(live(weir), "live\n")
            self.assertEqual(lab.run("client", "arping", "-c1", "-w5", "-I", "outer", lab.VIPS["nat"]).returncode, 0)
            peer.send_signal(signal.SIGCONT)
            lab.wait_for("room", lambda: self.asks(lab.VIPS["dr"]) and self.sent(weir) > sent, 5)
            self.assertEqual(live(weir), "live\n")

    def asks(self, vip):
        """A client sends a SYN, and does not wait for long."""
        return lab.run("client", "curl", "--silent", "--max-time", "0.1", f"http://{vip}/")


class Memory(Dying):
    """A weir that is given no more memory."""

    def test_without_memory_it_ends_at_once_and_the_next_one_goes_on(self):
        addresses = list(lab.VIPS.values())
        with keeper() as (place, _), lab.Weir(keeping(place)) as weir, Steady(*addresses) as steady:
            before = active(weir)
            self.assertEqual(sum(before.values()), COUNT * len(addresses))
            text = weir.file.read_text()
            more = "".join(f'\n[[virtual_server]]\nname = "more{number}"\naddress = "10.10.{number // 250 + 1}.{number % 250 + 1}"\n'
                           'port = 80\nprotocol = "tcp"\nforwarding = "dr"\nscheduler = "mh"\n'
                           '\n  [[virtual_server.real_server]]\n  address = "10.20.0.11"\n' for number in range(6000))
            status = (pathlib.Path(f"/proc/{weir.process.pid}/status")).read_text()
            size = int(re.search(r"VmSize:\s+(\d+) kB", status).group(1)) * 1024
            resource.prlimit(weir.process.pid, resource.RLIMIT_AS, (size + (8 << 20), resource.RLIM_INFINITY))
            weir.file.write_text(text + more)
            weir.process.send_signal(signal.SIGHUP)
            ended = weir.process.wait(30)
            self.assertIn(ended, (1, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS))
            weir.may_end_with = {0, ended}
            weir.file.write_text(text)
            weir.start()
            lab.wait_for("all connections taken over", lambda: is_whole(weir), 10)
            self.assertEqual(active(weir), before)
            self.assertAllAnswer(steady, addresses)


class Files(Dying):
    """A file system that never answers."""

    @contextlib.contextmanager
    def silent_folder(self):
        """One, of which nobody takes the requests."""
        libc = ctypes.CDLL(None, use_errno=True)
        place = pathlib.Path(tempfile.mkdtemp(prefix="silent-", dir=lab.RUN))
        fuse = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0"
        if libc.mount(b"silent", str(place).encode(), b"fuse", 0, options.encode()) != 0:
            raise OSError(ctypes.get_errno(), "mount")
        try:
            yield place
        finally:
            libc.umount2(str(place).encode(), MNT_DETACH)
            os.close(fuse)

    def test_a_place_for_panics_that_does_not_answer_holds_up_no_start(self):
        with self.silent_folder() as place:
            weir = lab.Weir(f'[control]\nuser = "daemon"\ncrash_directory = "{place}"\n' + lab.config())
            weir.folder.chmod(0o755)
            lab.RUN.chmod(0o755)
            begin = time.monotonic()
            with weir:
                self.assertLess(time.monotonic() - begin, 2 + lab.BUSY_SECONDS)
                self.assertIn(f"{place} does not answer within 2 s: whether a worker has panicked before is not known", weir.said())
                self.assertServes(weir)
                self.assertStops(weir)


if __name__ == "__main__":
    unittest.main()
