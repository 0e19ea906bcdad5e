"""Threads that stand still, those that only wait for their core, and files that never come."""

import pathlib
import signal
import subprocess
import sys
import time
import unittest

import health
import lab
import ptrace
import silent
import test_health
from test_lifecycle_hostile import Hostile

VRRP = ('\n[[vrrp]]\nname = "vi"\nport = "outer"\nvirtual_router_id = 51\n'
        'version = 3\nadvertisement_interval = 0.1\naddresses = ["10.10.0.200"]\n')


def thread(weir, name):
    """The id of weir's thread whose name begins so."""
    found = [tid for tid, comm in ptrace.threads(weir.process.pid).items() if comm.startswith(name)]
    assert found, ptrace.threads(weir.process.pid)
    return found[0]


def live(weir):
    """What `/live` answers."""
    return weir.http("/live").stdout


# What the kernel and weir keep for systemd at most (net.unix.max_dgram_qlen, `control/src/supervisor.rs`), and some more.
WAITING_MAX = 24


class StuckThread(Hostile):
    """A thread of control's that is stopped from outside."""

    def test_each_is_noticed_and_named_and_recovers(self):
        line = f'addresses = ["{lab.DIRECTOR_OUTER}/24"]'
        text = lab.config().replace(line, f'{line}\nhost_interface = "weir0"')
        self.assertIn("weir0", text)
        with lab.Weir(text) as weir:
            for name in ("weir-host", "weir-vrrp", "weir-health"):
                self.assertEqual(weir.metrics().total("weir_thread_stuck", thread=name), 0)
                with ptrace.halted(thread(weir, name)):
                    lab.wait_for(f"/live to fail for {name}", lambda name=name: live(weir) == f"stuck: {name}\n", 6)
                    self.assertEqual(weir.metrics().total("weir_thread_stuck", thread=name), 1)
                    self.assertEqual(weir.metrics().total("weir_thread_stuck"), 1)
                    self.assertIn(f"{name} is stuck", weir.http("/ready").stdout)
                    self.assertRegex(weir.said(), rf"the thread is stuck: .*\(state t\).*thread={name}")
                lab.wait_for("/live to recover", lambda: live(weir) == "live\n", 5)
                self.assertEqual(weir.metrics().total("weir_thread_stuck", thread=name), 0)
                self.assertRegex(weir.said(), rf"the thread goes on, after \d+\.\d s.*thread={name}")
                self.assertEqual(weir.said().count("the thread is stuck"), weir.said().count("the thread goes on"))
            self.assertServes(weir)

    def test_a_checker_that_is_stuck_ends_no_mastership_and_starves_the_watchdog(self):
        with lab.systemd(WATCHDOG_USEC="900000") as (door, environment):
            with lab.Weir(lab.config() + VRRP, environment=environment) as weir:
                def state():
                    return weir.metrics().total("weir_vrrp_state", instance="vi")
                lab.wait_for("mastership", lambda: state() == 2, 10)
                sent = weir.metrics().total("weir_vrrp_advertisements_sent_total", instance="vi")
                with ptrace.halted(thread(weir, "weir-health")):
                    lab.wait_for("/live to fail", lambda: live(weir) == "stuck: weir-health\n", 6)
                    # What was sent before, of which some waits until there is room: fewer than would come in this time.
                    door.settimeout(1.5)
                    with self.assertRaises(TimeoutError):
                        for _ in range(WAITING_MAX):
                            door.recv(4096)
                    self.assertEqual(state(), 2)
                    self.assertGreater(weir.metrics().total("weir_vrrp_advertisements_sent_total", instance="vi"), sent)
                    self.assertEqual(weir.metrics().total("weir_vrrp_priority_zero_sent_total", instance="vi"), 0)
                door.settimeout(10)
                self.assertIn(b"WATCHDOG=1", door.recv(4096))


# Takes a core from everybody who is no program of the same kind.
BUSY = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    pass
"""


class LateWorker(Hostile):
    """A worker whose core the kernel gives to others."""

    # The kernel leaves 5 % of each second to other programs.
    SECONDS, ROUNDS = 0.9, 20

    def test_it_is_late_and_not_stuck(self):
        with lab.Weir(lab.config() + VRRP) as weir:
            status = pathlib.Path(f"/proc/{weir.process.pid}/task/{thread(weir, ('lcore-worker', 'rte-worker'))}/status").read_text()
            core = next(line.split()[1] for line in status.splitlines() if line.startswith("Cpus_allowed_list"))
            if not core.isdigit():
                self.skipTest("one core: the worker is the main thread")

            def state():
                return weir.metrics().total("weir_vrrp_state", instance="vi")
            lab.wait_for("mastership", lambda: state() == 2, 10)
            answers, unready = set(), set()
            for _ in range(self.ROUNDS):
                busy = subprocess.Popen([sys.executable, "-c", BUSY, core, str(self.SECONDS)], stderr=subprocess.PIPE, text=True)
                while busy.poll() is None:
                    answers.add(live(weir))
                    unready.add(weir.http("/ready").stdout)
                if busy.returncode != 0:
                    self.skipTest(f"no real-time programs here: {busy.stderr.read()}")
                busy.stderr.close()
                if weir.metrics().total("weir_worker_late_total", worker="0"):
                    break
            self.assertGreaterEqual(weir.metrics().total("weir_worker_late_total", worker="0"), 1)
            self.assertRegex(weir.said(), r"the worker is late: .* worker=0")
            lab.wait_for("its next poll", lambda: "the worker polls again" in weir.said(), 5)
            self.assertEqual(answers, {"live\n"})
            # The rest of a turn of its own may have been over within the time that it is looked at.
            late = "not ready: worker 0 is late: the kernel gives its core to others\n"
            self.assertIn(late, unready)
            self.assertLessEqual(unready, {"ready\n", late})
            self.assertNotIn("is stuck", weir.said())
            self.assertNotIn("one of the workers is down", weir.said())
            self.assertServes(weir)


class SilentFiles(Hostile):
    """Files on a file system that does not answer."""

    # It is said after 5 s.
    SAID = 15

    def tracking(self, *paths):
        """The lab's file, with an instance that tracks these files."""
        return lab.config() + VRRP + "".join(f'[[vrrp.track]]\nfile = "{path}"\n' for path in paths)

    def hang(self, weir, place):
        """A reload begins that does not end."""
        weir.file.unlink()
        weir.file.symlink_to(place / "weir.toml")
        weir.process.send_signal(signal.SIGHUP)
        lab.wait_for("the reload under way", lambda: weir.metrics().total("weir_config_reload_seconds"), 10)

    def test_a_reload_that_does_not_end_is_said_and_so_is_its_end(self):
        with silent.Silent() as files, lab.Weir() as weir:
            self.assertEqual(weir.metrics().total("weir_config_reload_seconds"), 0)
            self.hang(weir, files.place)
            lab.wait_for("the line", lambda: "a reload has been under way for" in weir.said(), self.SAID)
            self.assertGreater(weir.metrics().total("weir_config_reload_seconds"), 5)
            weir.process.send_signal(signal.SIGHUP)
            lab.wait_for("the next one to wait", lambda: "read once more after the reload" in weir.said(), 5)
            self.assertServes(weir)
            self.assertEqual(weir.said().count("a reload has been under way for"), 1)
            files.end()
            lab.wait_for("its end", lambda: "the reload came to its end, after" in weir.said(), 10)
            lab.wait_for("the end of both", lambda: weir.said().count("not reloaded") == 2, 10)
            lab.wait_for("no reload", lambda: weir.metrics().total("weir_config_reload_seconds") == 0, 10)
            self.assertServes(weir)

    def test_a_start_that_does_not_end_is_said_and_ended_by_sigterm(self):
        with silent.Silent() as files:
            weir = lab.Weir(own=["-c", str(files.place / "weir.toml")]).launch()
            self.addCleanup(weir.discard)
            lab.wait_for("the line", lambda: "the start has waited for" in weir.said(), self.SAID)
            self.assertIn("D", "".join(silent.states(weir.process.pid).values()), "the main thread")
            self.assertStops(weir)
            self.assertIn("stopping takes too long: the start hangs", weir.said())

    def test_a_start_that_waited_goes_on(self):
        with silent.Silent() as files:
            weir = lab.Weir(own=["-c", str(files.place / "weir.toml")]).launch()
            self.addCleanup(weir.discard)
            lab.wait_for("the line", lambda: "the start has waited for" in weir.said(), self.SAID)
            files.end()
            self.assertEqual(weir.process.wait(lab.STOP_SECONDS), 2)
            self.assertRegex(weir.said(), "the start goes on, after")

    def test_a_tracked_file_that_does_not_come_is_said_and_holds_up_no_other(self):
        good = lab.RUN / "tracked"
        good.unlink(missing_ok=True)
        with silent.Silent() as files, lab.Weir(self.tracking(files.place / "a", good)) as weir:
            def state():
                return weir.metrics().total("weir_vrrp_state", instance="vi")
            lab.wait_for("mastership", lambda: state() == 2, 10)
            lab.wait_for("the line", lambda: "a tracked file has been read for" in weir.said(), self.SAID)
            self.assertGreater(weir.metrics().total("weir_vrrp_tracked_file_seconds"), 5)
            good.write_text("1")
            self.addCleanup(good.unlink)
            lab.wait_for("the fault", lambda: state() == 3, 10)
            self.assertServes(weir)
            files.end()
            lab.wait_for("its end", lambda: "the tracked file has come, after" in weir.said(), 10)
            self.assertRegex(weir.said(), rf'the tracked file has come, .*file="{files.place}/a"')
            lab.wait_for("no read", lambda: weir.metrics().total("weir_vrrp_tracked_file_seconds") < 5, 10)

    def test_a_sequence_file_that_is_not_written_is_said_and_so_is_its_end(self):
        # A folder that is there at first, since it is read at the start.
        link = lab.RUN / "numbers"
        link.unlink(missing_ok=True)
        link.symlink_to(lab.RUN)
        self.addCleanup(link.unlink)
        other = lab.RUN / "sequence-other"
        text = lab.config() + VRRP.replace("version = 3\nadvertisement_interval = 0.1", "version = 2").replace("addresses", (
            f'authentication = {{ type = "ah", password = "secret", sequence_file = "{link}/sequence" }}\naddresses'))
        text += text[text.index("\n[[vrrp]]"):].replace('"vi"', '"vj"').replace("= 51", "= 52").replace(".200", ".201").replace(
            f"{link}/sequence", str(other))
        with silent.Silent() as files, lab.Weir(text) as weir:
            def written(path):
                return int(path.read_text().split()[0]) if path.exists() else 0
            lab.wait_for("a number", lambda: written(lab.RUN / "sequence"), 20)
            link.unlink()
            link.symlink_to(files.place)
            lab.wait_for("the line", lambda: "a sequence file has been written for" in weir.said(), self.SAID)
            self.assertRegex(weir.said(), rf'a sequence file has been written for .*file={link}/sequence')
            self.assertGreater(weir.metrics().total("weir_vrrp_sequence_file_seconds"), 5)
            before = written(other)
            lab.wait_for("numbers of another folder", lambda: written(other) > before, 10)
            link.unlink()
            link.symlink_to(lab.RUN)
            before = written(lab.RUN / "sequence")
            files.end()
            lab.wait_for("its end", lambda: "the sequence file is written, after" in weir.said(), 10)
            lab.wait_for("further numbers", lambda: written(lab.RUN / "sequence") > before, 10)
            lab.wait_for("no write", lambda: weir.metrics().total("weir_vrrp_sequence_file_seconds") < 5, 10)
            self.assertServes(weir)

    def test_a_weight_file_that_does_not_come_takes_one_thread_and_changes_no_verdict(self):
        with silent.Silent() as files:
            server = 'address = "10.20.0.11"\n  port = 8080\n'
            text = lab.config()
            self.assertIn(server, text)
            with lab.Weir(text.replace(server, f'{server}  weight_file = "{files.place}/weight"\n')) as weir:
                def errors():
                    return weir.metrics().total("weir_health_errors_total")
                # The first takes 2 s, further ones come each second.
                lab.wait_for("several reads", lambda: errors() >= 4, 15)
                self.assertEqual(silent.states(weir.process.pid)["tokio-rt-worker"].count("D"), 1)
                self.assertRegex(weir.said(), r"weight file .*its file system may not answer")
                self.assertEqual(weir.metrics().total("weir_real_server_up", real_server="10.20.0.11:8080"), 1)
                self.assertServes(weir)

    def runs(self, program):
        """From now on the checks' program is this one."""
        link = health.scripts() / "check"
        beside = link.with_name("beside")
        beside.symlink_to(program)
        beside.rename(link)
        return link

    def script(self, name, line):
        """A program of one line."""
        path = health.scripts() / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)
        return path

    def assert_changes_no_verdict(self, takes):
        """A program on a file system that takes requests or not, and never answers; then one that runs and hangs."""
        good, hangs = self.script("good", "exit 0"), self.script("hangs", "exec sleep 60")
        command = self.runs(good)
        with silent.Silent(takes) as files, lab.Weir(test_health.checked(f'type = "exec"\n  command = ["{command}"]')) as weir:
            def errors():
                return weir.metrics().total("weir_health_errors_total")

            def all_succeed():
                servers = health.listing(weir, "nat")["real_servers"]
                return all(check["last_result"] == "success" for server in servers for check in server["checks"])

            def launchers():
                shown = subprocess.run(["ps", "--ppid", str(weir.process.pid), "-o", "comm="], capture_output=True, text=True, check=False)
                return shown.stdout.split().count("setpriv")
            lab.wait_for("success", all_succeed, 20)
            before = errors()
            self.runs(files.place / "check")
            lab.wait_for("several checks of each server", lambda: errors() >= before + 12, 20)
            self.assertRegex(weir.said(), r"exec check of 10\.20\.0\.1\d:8080 can't be made, so what is known of the server stays: "
                                          r"the program was not started within 0\.3 s: its file system may not answer")
            if takes:
                line = "the program of before was never started and has not ended yet"
                lab.wait_for("the next line", lambda: line in weir.said(), 15)
                self.assertEqual(launchers(), len(lab.REAL_SERVERS))
            self.assertEqual(health.up(weir, "nat"), test_health.ALL)
            self.assertServes(weir)
            self.runs(hangs)
            files.end()
            health.wait_until_up(weir, "nat", set(), 20)
            self.assertIn("no end of the program within 0.3 s", weir.said())
            self.runs(good)
            health.wait_until_up(weir, "nat", test_health.ALL, 20)

    def test_a_program_that_does_not_come_is_no_failure_of_the_server(self):
        self.assert_changes_no_verdict(takes=False)

    def test_nor_is_one_that_can_not_be_killed_and_there_is_no_second_one(self):
        self.assert_changes_no_verdict(takes=True)

    def stops(self, number, status):
        """A signal ends it in bounded time while its threads wait in the kernel and can't run."""
        with silent.Silent() as files, silent.Silent() as others:
            with lab.Weir(self.tracking(others.place / "a", others.place / "b")) as weir:
                weir.may_end_with = {status}
                self.hang(weir, files.place)

                def waits(name):
                    return "D" in silent.states(weir.process.pid).get(name, "")
                lab.wait_for("both to wait", lambda: waits("weir-tracked") and waits("tokio-rt-worker"), 10)
                if number == signal.SIGINT:
                    with ptrace.halted(thread(weir, "weir-vrrp")):
                        weir.process.send_signal(number)
                        lab.wait_for("the stop to begin", lambda: "SIGINT: stopping" in weir.said(), 5)
                        self.assertStops(weir, status, number)
                else:
                    self.assertStops(weir, status, number)
            return weir.said()

    def test_a_stop_does_not_wait_for_them(self):
        self.assertTrue(self.stops(signal.SIGTERM, 0).rstrip().endswith("stopped"))

    def test_nor_does_a_stop_by_force(self):
        self.assertIn("SIGINT again", self.stops(signal.SIGINT, 1))


if __name__ == "__main__":
    unittest.main()
