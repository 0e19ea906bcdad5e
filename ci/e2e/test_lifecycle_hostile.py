"""A log that can't be written or is not read, FIFOs for files, signals at the wrong moment, a worker that stands still."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import time
import unittest

import lab
import ptrace

STOP_SECONDS = 10.0


def reloads(weir):
    """When weir read its file last, as a number that changes with each time."""
    return weir.metrics().total("weir_config_last_reload_timestamp_seconds")


def reload(weir):
    """SIGHUP, and the metrics when it has been done."""
    before = reloads(weir)
    weir.process.send_signal(signal.SIGHUP)
    lab.wait_for("the end of the reload", lambda: reloads(weir) != before, 15)
    return weir.metrics()


def missing(weir, reason):
    """Lines missing in the log."""
    return weir.metrics().total("weir_log_missing_lines_total", reason=reason)


class Hostile(unittest.TestCase):
    """Helpers."""

    def assertServes(self, weir):
        """It lives and forwards."""
        self.assertEqual(weir.http("/live").stdout, "live\n")
        lab.answers(lab.VIPS["nat"], 2)

    def assertStops(self, weir, status=0, number=signal.SIGTERM):
        """A signal ends it in bounded time, with this status."""
        begin = time.monotonic()
        self.assertEqual(weir.stop(number), status)
        self.assertLess(time.monotonic() - begin, STOP_SECONDS)


class Log(Hostile):
    """Where stderr goes to is somebody else's."""

    @contextlib.contextmanager
    def small_disk(self):
        """A file on a file system of 64 KiB, and the way to fill that and to make room."""
        place = lab.RUN / "small"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], check=True)
        try:
            with open(place / "log", "ab") as log:
                yield log, place / "ballast"
        finally:
            subprocess.run(["umount", "-l", str(place)], check=True)
            place.rmdir()

    def test_a_full_disk_under_the_log_ends_nothing_and_is_said_later(self):
        with self.small_disk() as (log, ballast), lab.Weir(output=log) as weir:
            with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
                while True:
                    file.write(bytes(512))
            for _ in range(200):
                reload(weir)
                if missing(weir, "lost"):
                    break
            self.assertGreater(missing(weir, "lost"), 0)
            self.assertServes(weir)
            ballast.unlink()
            reload(weir)
            self.assertStops(weir)
            text = pathlib.Path(log.name).read_text(errors="replace")
            self.assertRegex(text, r"lines? of the log lost here, which could not be written: No space left")
            self.assertIn("stopped", text)

    def test_a_log_whose_reader_is_gone_ends_nothing(self):
        reader, writer = os.pipe()
        with lab.Weir(output=writer) as weir:
            os.close(writer)
            os.close(reader)
            reload(weir)
            weir.process.send_signal(signal.SIGUSR1)
            lab.wait_for("lost lines counted", lambda: missing(weir, "lost"), 10)
            self.assertServes(weir)
            self.assertStops(weir)

    def test_a_log_that_nobody_reads_holds_nothing_up(self):
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        text = lab.config()
        with lab.Weir(text, output=writer) as weir:
            os.close(writer)
            # A report of many lines, again and again, until the pipe and the queue behind it are full.
            weir.file.write_text(text + "\n" + "\n".join(f"nonsense_{number} = '{'x' * 1800}'" for number in range(200)))
            for _ in range(200):
                self.assertEqual(reload(weir).total("weir_config_last_reload_successful"), 0)
                if missing(weir, "lost"):
                    break
            self.assertGreater(missing(weir, "lost"), 0)
            self.assertServes(weir)
            self.assertStops(weir)

    def test_a_flood_of_claims_is_cut_and_summed_up(self):
        with lab.Weir() as weir:
            mac = lab.mac_of("director", "outer")
            lab.run("client", "python3", str(lab.ROOT / "ci/e2e/flood_claims.py"), "outer", mac, lab.VIPS["dr"], check=True)
            lab.wait_for("the claims counted", lambda: (weir.metrics().total("weir_arp_conflicts_total") or 0) > 1000, 10)
            self.assertServes(weir)
        self.assertIn("another host claims", weir.said())
        self.assertLess(weir.said().count("another host claims"), 600)


class Fifos(Hostile):
    """Files that would keep a reader for ever."""

    def fifo(self, name):
        """A FIFO that nobody writes to."""
        path = lab.RUN / name
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        self.addCleanup(path.unlink)
        return path

    def test_a_fifo_for_the_file_is_refused_at_reload_and_start(self):
        with lab.Weir() as weir:
            weir.file.unlink()
            os.mkfifo(weir.file)
            self.assertEqual(reload(weir).total("weir_config_last_reload_successful"), 0)
            self.assertIn("it is a FIFO, not a regular file", weir.said())
            self.assertServes(weir)
            self.assertStops(weir)
        ended = lab.ends(own=["-c", str(weir.file)])
        self.assertEqual(ended.status, 2, ended.output)
        self.assertIn("it is a FIFO", ended.output)

    def test_fifos_that_are_tracked_or_hold_weights_hold_nothing_up(self):
        weight, tracked = self.fifo("weight"), self.fifo("tracked")
        text = lab.config().replace('address = "10.20.0.11"\n', f'address = "10.20.0.11"\n  weight_file = "{weight}"\n', 1)
        text += (f'\n[[vrrp]]\nname = "vi"\nport = "outer"\nvirtual_router_id = 51\naddresses = ["10.10.0.200"]\n'
                 f'[[vrrp.track]]\nfile = "{tracked}"\n')
        with lab.Weir(text) as weir:
            lab.wait_for("the weight asked for", lambda: "it is a FIFO" in weir.http("/api/v1/health").stdout, 10)
            self.assertServes(weir)
            self.assertStops(weir)


class Signals(Hostile):
    """At any moment."""

    def test_sigterm_before_control_runs_ends_it_with_status_0(self):
        weir = lab.Weir().launch()
        self.addCleanup(weir.discard)
        lab.wait_for("EAL to begin", lambda: "EAL: Detected" in weir.said(), lab.START_SECONDS)
        self.assertStops(weir)
        self.assertNotIn("ready", weir.said())

    def test_sigint_before_control_runs_ends_it_with_status_0(self):
        weir = lab.Weir().launch()
        self.addCleanup(weir.discard)
        lab.wait_for("EAL to begin", lambda: "EAL: Detected" in weir.said(), lab.START_SECONDS)
        self.assertStops(weir, number=signal.SIGINT)

    def test_sighup_before_control_runs_is_a_reload_and_others_are_ignored(self):
        weir = lab.Weir().launch()
        self.addCleanup(weir.discard)
        lab.wait_for("EAL to begin", lambda: "EAL: Detected" in weir.said(), lab.START_SECONDS)
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGHUP):
            weir.process.send_signal(number)
        lab.wait_for("the reload", lambda: "configuration reloaded" in weir.said(), lab.START_SECONDS)
        self.assertIn("SIGUSR1 means nothing to weir", weir.said())
        lab.wait_for("readiness", lambda: weir.http("/ready").stdout == "ready\n", lab.START_SECONDS)
        self.assertServes(weir)
        self.assertStops(weir)


class StuckWorker(Hostile):
    """A worker whose thread is stopped from outside."""

    @contextlib.contextmanager
    def halted_worker(self, weir):
        """The worker stands still inside the block."""
        names = {int(task.name): (task / "comm").read_text().strip()
                 for task in pathlib.Path(f"/proc/{weir.process.pid}/task").iterdir()}
        worker = next((tid for tid, name in names.items() if name.startswith(("lcore-worker", "rte-worker"))), None)
        if worker is None:
            self.skipTest("one core: the worker is the main thread")
        with ptrace.halted(worker):
            yield

    def live(self, weir):
        """What `/live` answers."""
        return weir.http("/live").stdout

    def test_it_is_noticed_and_named_and_recovers(self):
        with lab.Weir() as weir:
            with self.halted_worker(weir):
                lab.wait_for("/live to fail", lambda: self.live(weir) == "stuck: worker 0\n", 3)
                self.assertRegex(weir.said(), r"the worker is stuck.*worker=0")
                self.assertEqual(weir.metrics().total("weir_worker_stuck", worker="0"), 1)
            lab.wait_for("/live to recover", lambda: self.live(weir) == "live\n", 5)
            self.assertServes(weir)

    def test_the_stop_goes_on_without_it(self):
        with lab.Weir() as weir:
            weir.may_end_with = {1}
            with self.halted_worker(weir):
                self.assertStops(weir, status=1)
            self.assertRegex(weir.said(), r"the worker on lcore \d+ does not end.*worker=0")

    def test_a_second_sigint_ends_it_at_once(self):
        with lab.Weir() as weir:
            weir.may_end_with = {1}
            with self.halted_worker(weir):
                weir.process.send_signal(signal.SIGINT)
                lab.wait_for("the stop to begin", lambda: "SIGINT: stopping" in weir.said(), 5)
                self.assertStops(weir, status=1, number=signal.SIGINT)
            self.assertIn("SIGINT again", weir.said())

    def test_the_watchdog_of_systemd_is_fed_only_while_it_polls(self):
        path = lab.RUN / "watchdog"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
            door.bind(str(path))
            door.settimeout(lab.START_SECONDS)
            environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "900000"}
            with lab.Weir(environment=environment) as weir:
                while b"WATCHDOG=1" not in door.recv(4096):
                    pass
                with self.halted_worker(weir):
                    lab.wait_for("/live to fail", lambda: self.live(weir) != "live\n", 3)
                    door.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            door.recv(4096)
                    door.settimeout(1.5)
                    with self.assertRaises(TimeoutError):
                        door.recv(4096)
                door.settimeout(10)
                self.assertIn(b"WATCHDOG=1", door.recv(4096))


if __name__ == "__main__":
    unittest.main()
