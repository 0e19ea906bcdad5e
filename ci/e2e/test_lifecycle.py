"""Start, stop, reload and sudden death."""

import os
import pathlib
import signal
import time
import unittest

import lab


class Lifecycle(unittest.TestCase):
    """Each test starts weir for itself."""

    def setUp(self):
        self.processes = lab.processes("director")
        self.files = lab.files_of_dpdk()

    def assertNothingIsLeft(self, weir):
        """No process and no hugepage file of weir's is there any more."""
        self.assertFalse(pathlib.Path(f"/proc/{weir.process.pid}").exists())
        self.assertEqual(lab.processes("director") - self.processes, set())
        self.assertEqual(lab.files_of_dpdk() - self.files, set())

    def assertStopsCleanly(self, number):
        """Status 0, nothing left, and a second start right after serves."""
        with lab.Weir() as weir:
            lab.answers(lab.VIPS["nat"], 1)
            started = time.monotonic()
            status = weir.stop(number)
            took = time.monotonic() - started
        self.assertEqual(status, 0, weir.said())
        self.assertLess(took, 5.0)
        self.assertNothingIsLeft(weir)
        with lab.Weir():
            lab.answers(lab.VIPS["nat"], 3)

    def test_sigterm_ends_it_with_status_0_and_leaves_nothing(self):
        self.assertStopsCleanly(signal.SIGTERM)

    def test_sigint_ends_it_with_status_0_and_leaves_nothing(self):
        self.assertStopsCleanly(signal.SIGINT)

    def test_after_sigkill_it_starts_and_serves_again(self):
        with lab.Weir() as weir:
            lab.answers(lab.VIPS["dr"], 1)
            self.assertEqual(weir.stop(signal.SIGKILL), -signal.SIGKILL)
        self.assertNothingIsLeft(weir)
        with lab.Weir() as weir:
            lab.answers(lab.VIPS["dr"], 3)
            self.assertEqual(weir.stop(), 0)
        self.assertNothingIsLeft(weir)

    def test_sigterm_under_load_still_ends_it_with_status_0(self):
        load = None
        with lab.Weir() as weir:
            load = lab.subprocess.Popen(
                lab.inside("client", "wrk", "-t1", "-c8", "-d4s", f"http://{lab.VIPS['nat']}/"),
                stdout=lab.subprocess.DEVNULL, stderr=lab.subprocess.DEVNULL)
            self.addCleanup(load.wait)
            time.sleep(1)
            self.assertEqual(weir.stop(), 0)
        load.terminate()

    def test_a_second_weir_is_refused_and_the_first_goes_on(self):
        with lab.Weir() as first:
            ended = lab.ends()
            self.assertEqual(ended.status, 1, ended.output)
            self.assertIn("127.0.0.1:9292", ended.output)
            lab.answers(lab.VIPS["dr"], 3)
            self.assertIsNone(first.process.poll())

    def test_systemd_hears_ready_when_it_is(self):
        with lab.systemd() as (door, environment), lab.Weir(environment=environment):
            self.assertIn(b"READY=1", door.recv(4096))


def cores(process):
    """Where the threads of a process may run: lists of cores by name. The main thread has the program's."""
    found = {}
    for task in pathlib.Path(f"/proc/{process}/task").iterdir():
        lines = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
        found[lines["Name"].strip()] = lines["Cpus_allowed_list"].strip()
    return found


class Cores(unittest.TestCase):
    """Where control's threads run."""

    def test_control_is_pinned_to_its_core_and_floats_with_one_lcore_alone(self):
        if os.cpu_count() < 2:
            self.skipTest("one core")
        text = lab.config() + ('[[vrrp]]\nname = "vi"\nport = "outer"\nvirtual_router_id = 51\naddresses = ["10.10.0.200"]\n'
                               '[[vrrp.track]]\nfile = "/nowhere"\n')
        everywhere = next(iter(cores("self").values()))
        for lcores, expected in (("0,1", "0"), ("0", everywhere)):
            environment = {"WEIR_LAB_LCORES": lcores}
            with self.subTest(lcores), lab.Weir(text, environment=environment) as weir:
                lab.wait_for("all threads", lambda: "weir-tracked" in cores(weir.process.pid), 10)
                program = pathlib.Path(f"/proc/{weir.process.pid}/comm").read_text().strip()
                own = {name: where for name, where in cores(weir.process.pid).items()
                       if name.startswith("weir-") and name != program}
                self.assertLessEqual({"weir-control", "weir-health", "weir-vrrp", "weir-signals", "weir-log", "weir-systemd",
                                      "weir-tracked"}, set(own))
                self.assertEqual(own, dict.fromkeys(own, expected))


class Reload(unittest.TestCase):
    """SIGHUP."""

    def reloaded(self, weir, text):
        """Writes the file and sends SIGHUP; the metrics once the reload has been noted."""
        before = weir.metrics().total("weir_config_last_reload_timestamp_seconds")
        # The timestamp may have whole seconds only.
        time.sleep(1.1)
        weir.file.write_text(text)
        weir.process.send_signal(signal.SIGHUP)
        lab.wait_for("reload", lambda: weir.metrics().total("weir_config_last_reload_timestamp_seconds") != before
                     or weir.metrics().total("weir_config_last_reload_successful") == 0, 5)
        return weir.metrics()

    def test_a_changed_file_is_served_from_then_on(self):
        text = lab.config()
        with lab.Weir(text) as weir:
            lab.answers(lab.VIPS["dr"], 3)
            quiesced = text.replace("weight = 4", "weight = 0").replace("weight = 3", "weight = 0")
            self.assertEqual(self.reloaded(weir, quiesced).total("weir_config_last_reload_successful"), 1)
            self.assertEqual({name for name, _ in lab.answers(lab.VIPS["dr"], 6)}, {"C"})

    def test_a_bad_file_changes_nothing_and_is_said(self):
        text = lab.config()
        with lab.Weir(text) as weir:
            metrics = self.reloaded(weir, text.replace('scheduler = "wrr"', 'scheduler = "best"'))
            self.assertEqual(metrics.total("weir_config_last_reload_successful"), 0)
            self.assertIn("best", weir.said())
            self.assertEqual("".join(name for name, _ in lab.answers(lab.VIPS["dr"], 9)), "CBAABACBA")
