"""Workers that sleep when nothing comes: everything is served as before, and the CPU is free."""

import os
import pathlib
import time
import unittest

import lab

SLEEP = '\n[workers]\nidle = "sleep"\nsleep_max_us = 250\n[connections.timeouts]\ntcp_time_wait = 2\ntcp_fin_wait = 2\n'
SECONDS = 2.0


def cpu_seconds(weir):
    """CPU time of all threads of weir."""
    fields = pathlib.Path(f"/proc/{weir.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Idle(unittest.TestCase):
    """`idle = "sleep"` on a device without interrupts."""

    def test_a_sleeping_worker_serves_and_leaves_its_cpu(self):
        with lab.Weir(lab.config() + SLEEP) as weir:
            for method in lab.VIPS:
                lab.answers(lab.VIPS[method], 10)
            began, before, first = time.monotonic(), cpu_seconds(weir), weir.metrics()
            time.sleep(SECONDS)
            used = (cpu_seconds(weir) - before) / (time.monotonic() - began)
            second = weir.metrics()
            # Timers run on: a connection's end is seen by a sleeping worker too.
            lab.wait_for("closed connections leave the counts",
                         lambda: weir.metrics().total("weir_connections") == 0, 15)
            said = weir.said()
        slept = second.total("weir_worker_sleep_cycles_total") - first.total("weir_worker_sleep_cycles_total")
        share = slept / second.total("weir_worker_cycle_frequency_hertz") / SECONDS
        self.assertGreater(share, 0.5, "the worker was asleep most of the time")
        self.assertLess(used, 0.6, "a polling worker alone uses a CPU")
        self.assertEqual(said.count("idle workers sleep up to 250 microseconds"), 1)

    def test_a_polling_worker_never_sleeps(self):
        with lab.Weir() as weir:
            lab.answers(lab.VIPS["dr"], 3)
            self.assertEqual(weir.metrics().total("weir_worker_sleep_cycles_total"), 0)
