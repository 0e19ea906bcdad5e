"""A log that can't be written or is not read, FIFOs for files, signals at the wrong moment, a worker that stands still."""

import contextlib
import fcntl
import os
import pathlib
import signal
import subprocess
import time
import unittest

import health
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
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        text = lab.config()
        with lab.Weir(text, output=writer) as weir:
            os.close(writer)
            # Reports of many lines, each more than the pipe holds.
            weir.file.write_text(text + "\n" + "\n".join(f"nonsense_{number} = 1" for number in range(200)))
            for _ in range(3):
                self.assertEqual(reload(weir).total("weir_config_last_reload_successful"), 0)
            self.assertServes(weir)
            self.assertStops(weir)

    def test_a_pipe_that_is_full_from_the_start_does_not_hold_up_the_start(self):
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, bytes(4096))
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"x")
        os.set_blocking(writer, True)
        with lab.Weir(output=writer) as weir:
            os.close(writer)
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

    def halted_worker(self, weir, number=0):
        """The worker stands still inside the block."""
        workers = sorted(tid for tid, name in ptrace.threads(weir.process.pid).items()
                         if name.startswith(("lcore-worker", "rte-worker")))
        if not workers:
            self.skipTest("one core: the worker is the main thread")
        return ptrace.halted(workers[number])

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

    def test_masters_resign_while_a_worker_that_does_not_send_for_them_stands(self):
        text = lab.config() + ('\n[[vrrp]]\nname = "vi"\nport = "outer"\nvirtual_router_id = 51\n'
                               'version = 3\nadvertisement_interval = 0.1\naddresses = ["10.10.0.200"]\n')
        with lab.Weir(text, environment={"WEIR_LAB_WORKERS": "2"}) as weir:
            def state():
                return weir.metrics().total("weir_vrrp_state", instance="vi")
            lab.wait_for("mastership", lambda: state() == 2, 10)
            with self.halted_worker(weir, 1):
                lab.wait_for("the fault", lambda: state() == 3, 5)
                self.assertEqual(weir.metrics().total("weir_vrrp_priority_zero_sent_total", instance="vi"), 1)
                self.assertIn("one of the workers is down", weir.said())
            lab.wait_for("mastership again", lambda: state() == 2, 10)

    def test_a_control_that_hangs_does_not_hang_the_stop(self):
        with lab.Weir() as weir:
            weir.may_end_with = {1}
            control = next(tid for tid, name in ptrace.threads(weir.process.pid).items() if name == "weir-control")
            with ptrace.halted(control):
                self.assertStops(weir, status=1)
            self.assertIn("stopping takes too long: weir-control hangs", weir.said())

    def test_a_second_sigint_ends_it_at_once(self):
        with lab.Weir() as weir:
            weir.may_end_with = {1}
            with self.halted_worker(weir):
                weir.process.send_signal(signal.SIGINT)
                lab.wait_for("the stop to begin", lambda: "SIGINT: stopping" in weir.said(), 5)
                self.assertStops(weir, status=1, number=signal.SIGINT)
            self.assertIn("SIGINT again", weir.said())

    def test_the_watchdog_of_systemd_is_fed_only_while_it_polls(self):
        with lab.systemd(WATCHDOG_USEC="900000") as (door, environment):
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


class ForcedStop(Hostile):
    """A stop that does not wait: what it names, and what it leaves behind."""

    def endless(self):
        """A program that goes on until it is killed, and the file where its processes' ids stand."""
        place = health.scripts()
        ids, program = place / "ids", place / "endless"
        ids.write_text("")
        ids.chmod(0o666)
        # A child in a session of its own as well.
        program.write_text(f'#!/bin/sh\nsetsid sleep 300 &\necho "$$ $!" >> {ids}\nwait\n')
        program.chmod(0o755)
        self.addCleanup(self.end, ids)
        return program, ids

    def checked(self, command, interval, timeout, keys=""):
        """The lab's file with a program as the check of a virtual server, and more keys of that."""
        check = (f'\n  [virtual_server.health_check]\n  type = "exec"\n  command = {command}\n'
                 f'  interval = {interval}\n  timeout = {timeout}\n  jitter = 0\n  warmup = 0\n  fall = 1\n')
        before, after = lab.config().split('name = "nat"')
        head, servers = after.split("\n\n", 1)
        return f'{before}name = "nat"{head}\n{keys}{check}\n{servers}'

    @contextlib.contextmanager
    def running_checks(self):
        """weir while a check of each of three real servers runs that has no end, and the ids of their processes."""
        program, ids = self.endless()
        with lab.Weir(self.checked(f'["{program}"]', 120, 60)) as weir:
            self.started(ids, 6)
            yield weir, ids

    @contextlib.contextmanager
    def running_hook(self):
        """weir while a hook runs that has no end, and others wait for it; and the ids of its processes."""
        program, ids = self.endless()
        fails = ids.with_name("fails")
        fails.unlink(missing_ok=True)
        with lab.Weir(self.checked(f'["/usr/bin/test", "!", "-e", "{fails}"]', 1, 1, f'notify_down = ["{program}"]\n')) as weir:
            lab.wait_for("checks", lambda: (weir.metrics().total("weir_health_checks_total", result="success") or 0) >= 3, 20)
            fails.write_text("")
            self.addCleanup(fails.unlink)
            self.started(ids, 2)
            yield weir, ids

    def numbers(self, ids):
        """What was written there."""
        return [int(word) for word in ids.read_text().split()]

    def alive(self, ids):
        """Those that are still there and no zombies."""
        found = []
        for number in self.numbers(ids):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                stat = pathlib.Path(f"/proc/{number}/stat").read_text()
                if stat.rsplit(") ", 1)[1].split()[0] != "Z":
                    found.append(number)
        return found

    def end(self, ids):
        for number in self.alive(ids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)

    def started(self, ids, count):
        """Returns when so many processes run."""
        lab.wait_for("the programs to run", lambda: len(self.numbers(ids)) == count, 20)
        self.assertEqual(len(self.alive(ids)), count)

    def assert_second_sigint_ends(self, weir, ids):
        """The programs, too."""
        weir.may_end_with = {1}
        # Else it would end them itself before the second one.
        thread = next(tid for tid, name in ptrace.threads(weir.process.pid).items() if name == "weir-health")
        with ptrace.halted(thread):
            weir.process.send_signal(signal.SIGINT)
            lab.wait_for("the stop to begin", lambda: "SIGINT: stopping" in weir.said(), 5)
            self.assertStops(weir, status=1, number=signal.SIGINT)
        lab.wait_for("the programs' end", lambda: not self.alive(ids), 5)

    def assert_bound_ends(self, weir, ids):
        """The programs, too."""
        weir.may_end_with = {1}
        thread = next(tid for tid, name in ptrace.threads(weir.process.pid).items() if name == "weir-vrrp")
        with ptrace.halted(thread):
            self.assertStops(weir, status=1)
        self.assertIn("stopping takes too long: weir-vrrp hangs", weir.said())
        lab.wait_for("the programs' end", lambda: not self.alive(ids), 5)

    def test_a_second_sigint_ends_checks_that_run(self):
        with self.running_checks() as (weir, ids):
            self.assert_second_sigint_ends(weir, ids)

    def test_a_second_sigint_ends_a_hook_that_runs_and_starts_none_of_those_that_wait(self):
        with self.running_hook() as (weir, ids):
            self.assert_second_sigint_ends(weir, ids)
            self.assertEqual(len(self.numbers(ids)), 2)

    def test_vrrp_that_hangs_is_named_and_checks_end_at_the_bound(self):
        with self.running_checks() as (weir, ids):
            self.assert_bound_ends(weir, ids)

    def test_vrrp_that_hangs_is_named_and_a_hook_ends_at_the_bound(self):
        with self.running_hook() as (weir, ids):
            self.assert_bound_ends(weir, ids)
            self.assertEqual(len(self.numbers(ids)), 2)


class LargeFile(Hostile):
    """A file of 100,000 real servers is read beside everything else."""

    SERVICES, REAL_SERVERS = 1_000, 100

    @classmethod
    def text(cls, weight="1"):
        """The lab's file and many virtual servers more."""
        parts = [lab.config(), '[[route]]\ndestination = "10.0.0.0/8"\ngateway = "10.20.0.1"\n']
        number = 0
        for service in range(cls.SERVICES):
            parts.append(f'[[virtual_server]]\nname = "many{service}"\naddress = "10.30.{service // 256}.{service % 256}"\n'
                         'port = 80\nprotocol = "tcp"\nforwarding = "nat"\n')
            for _ in range(cls.REAL_SERVERS):
                parts.append('[[virtual_server.real_server]]\nport = 80\n'
                             f'address = "10.{40 + number // 65536}.{number // 256 % 256}.{number % 256}"\nweight = {weight}\n')
                number += 1
        return "\n".join(parts)

    def reload_beside(self, weir, text, done):
        """Reloads while `/live` is asked all the time. Returns the longest wait and how long the reload took, in seconds."""
        weir.file.write_text(text)
        # Its first line says that it asks, the end of its input ends it.
        asking = subprocess.Popen(lab.inside("director", "python3", str(lab.ROOT / "ci/e2e/live_gaps.py")),
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            self.assertEqual(asking.stdout.readline(), "asking\n")
            weir.process.send_signal(signal.SIGHUP)
            begin = time.monotonic()
            lab.wait_for(done, lambda: done in weir.said(), 60)
            took = time.monotonic() - begin
        finally:
            longest = asking.communicate(timeout=30)[0]
        return float(longest), took

    def assert_beside(self, longest, took):
        """No wait was a good part of the reload: a busy machine and a debug build make both longer."""
        self.assertLess(longest, max(0.5, took / 4))

    def test_live_answers_while_it_is_read_and_a_stop_does_not_wait(self):
        with lab.Weir() as weir:
            longest, took = self.reload_beside(weir, self.text('"x"'), "not reloaded")
            print(f"a bad file: refused after {took:.2f} s, longest wait for /live {longest:.3f} s")
            self.assert_beside(longest, took)
            longest, took = self.reload_beside(weir, self.text(), "configuration reloaded")
            print(f"a good file: in force after {took:.2f} s, longest wait for /live {longest:.3f} s")
            self.assert_beside(longest, took)
            lab.answers(lab.VIPS["nat"], 2)
            weir.process.send_signal(signal.SIGHUP)
            self.assertStops(weir)


if __name__ == "__main__":
    unittest.main()
