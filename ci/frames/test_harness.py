"""The tests' own tools: a checker that can't fail proves nothing, so it is shown that it does."""

import contextlib
import io
import threading
import unittest
from unittest import mock

import bounded
import golden
import ipvsadm
import unsteady
from batch import Batch
from director import Metrics
from frames import dr, echo, echo_reply, nat_request, tcp, tun, udp
from harness import Replayed, read_pcap, workdir, write_pcap
from verdicts import Result


class Tools(unittest.TestCase):
    """No weir is started here."""

    def test_captures_keep_their_frames(self):
        frames = [bytes(60), bytes(range(256)) * 30, b"\x01"]
        with workdir() as path:
            write_pcap(path / "x.pcap", frames)
            self.assertEqual(read_pcap(path / "x.pcap"), frames)

    def test_a_test_that_waits_for_ever_fails_and_the_next_one_runs(self):
        class Waits(unittest.TestCase):
            """Run by the test around it alone."""

            def a_wait(self):
                threading.Event().wait()

            def b_next(self):
                pass

        said = io.StringIO()
        result = Result(said)
        self.addCleanup(bounded.begin)
        with mock.patch("bounded.TEST_SECONDS", 1), mock.patch("evidence.keep"), mock.patch("evidence.clear"):
            unittest.TestSuite([Waits("a_wait"), Waits("b_next")]).run(result)
        self.assertEqual((result.passed, len(result.failures)), (1, 1), said.getvalue())
        self.assertIn("threading.Event().wait()", said.getvalue())
        self.assertIn("takes too long", said.getvalue())

    def test_only_what_fails_twice_fails_and_what_failed_once_is_named(self):
        tries = []

        class Tests(unittest.TestCase):
            """Run by the test around it alone."""

            def fails_once(self):
                tries.append(1)
                self.assertGreater(len(tries), 1, "the first time")

            def fails(self):
                self.fail("each time")

            def passes(self):
                pass

        def run(suite):
            result = Result(io.StringIO())
            suite.run(result)
            return result

        def find(ids):
            return [test for test in map(Tests, ("fails_once", "fails", "passes")) if test.id() in ids]

        said = io.StringIO()
        with mock.patch("evidence.keep"), mock.patch("evidence.clear"), contextlib.redirect_stdout(said), workdir() as path, \
                mock.patch.dict("os.environ", {"WEIR_VERDICTS": str(path / "verdicts")}):
            result = run(unittest.TestSuite(map(Tests, ("fails_once", "fails", "passes"))))
            passed_again = unsteady.again(result, find, run)
            unsteady.tell(result, passed_again)
            written = (path / "verdicts").read_text()
            with mock.patch("unsteady.ALLOWED", 1):
                self.assertEqual(unsteady.again(result, find, run), [])
        self.assertEqual([name.rsplit(".", 1)[-1] for name in passed_again], ["fails_once"])
        self.assertEqual(written, said.getvalue())
        for line in ("unsteady (failed, then passed): ", "the first time", "FAILED: ", "each time"):
            self.assertIn(line, written)

    def test_what_must_come_out_agrees_with_the_kernels_frames(self):
        methods = {"dr4": lambda frame: dr(frame), "tun4-ipip": lambda frame: tun(frame),
                   "nat4": lambda frame: nat_request(frame)}
        for mode, method in methods.items():
            case = next(case for case in golden.load(mode) if case.name == "tcp_session")
            for step in case.steps:
                if step.port == "c0":
                    self.assertEqual([("r0", method(step.frame))], step.out, step.comment)

    def test_an_echo_reply_agrees_with_the_kernels(self):
        (step,) = next(case for case in golden.load("dr4") if case.name == "icmp_echo_vip").steps
        self.assertEqual(golden.fixed_parts(step.out[0][1], step.frame, echo_reply(step.frame)),
                         golden.fixed_parts(step.out[0][1], step.frame, step.out[0][1]))

    def test_every_changed_byte_of_a_forwarded_frame_is_found(self):
        case = next(case for case in golden.load("tun4-ipip") if case.name == "tcp_session")
        step = next(step for step in case.steps if step.out)
        ((port, frame),) = step.out
        self.assertEqual(golden.differences(step, step.out), [])
        for at in range(len(frame)):
            changed = frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1:]
            self.assertNotEqual(golden.differences(step, [(port, changed)]), [], f"byte {at}")
        self.assertNotEqual(golden.differences(step, []), [])
        self.assertNotEqual(golden.differences(step, step.out * 2), [])
        self.assertNotEqual(golden.differences(step, [("c0", frame)]), [])

    def test_commands_become_the_table_the_kernel_would_have(self):
        table = ipvsadm.Table()
        for command in ("ipvsadm -A -t 192.0.2.1:80 -s wrr -p 60 -b sh-port,sh-fallback",
                        "ipvsadm -a -t 192.0.2.1:80 -r 10.99.0.11:80 -i -w 3 --tun-type gue --tun-port 6080 --tun-csum",
                        "ipvsadm -a -t 192.0.2.1:80 -r 10.99.0.12:8080 -m -w 1 -x 5 -y 2",
                        "ipvsadm -e -t 192.0.2.1:80 -r 10.99.0.11:80 -g -w 0",
                        "sysctl net.ipv4.vs.expire_nodest_conn=1", "sysctl net.ipv4.vs.conn_reuse_mode=0"):
            table.apply(command)
        (virtual,) = table.services.values()
        self.assertEqual((virtual.scheduler, virtual.options),
                         ("wrr", {"persistence_timeout": 60, "scheduler_flags": ["sh-port", "sh-fallback"]}))
        first, second = virtual.servers
        self.assertEqual((first.weight, first.forwarding, first.options), (0, "dr", {}))
        self.assertEqual((second.port, second.forwarding, second.options),
                         (8080, "nat", {"upper_threshold": 5, "lower_threshold": 2}))
        self.assertEqual(table.connections, {"expire_nodest_conn": True, "conn_reuse_mode": 0})
        table.apply("ipvsadm -d -t 192.0.2.1:80 -r 10.99.0.11:80")
        self.assertEqual([server.address for server in virtual.servers], ["10.99.0.12"])
        with self.assertRaises(ipvsadm.Untranslatable):
            table.apply("ipvsadm -C")
        table.apply("ipvsadm -A -f 9 -s rr")
        table.apply("ipvsadm -a -f 9 -r 10.99.0.12 -m")
        table.apply("ipvsadm -A -f 8 -6 -s rr")
        _, marked, six = table.services.values()
        self.assertEqual((marked.name, marked.servers[0].port), ("mark-9", 0))
        self.assertEqual((marked.traffic, six.traffic), ({"mark": 9, "family": "ipv4"}, {"mark": 8, "family": "ipv6"}))

    def test_a_batch_finds_what_is_missing_changed_extra_or_miscounted(self):
        frame = udp()
        batch = Batch()
        batch.forward("one", frame, dr(frame))
        counters = [(("weir_forwarded_packets_total", ()), 1.0), (("weir_port_receive_packets_total", ()), 1.0)]
        good = Metrics(counters)

        def problems(out, metrics=good):
            result = Replayed({"c0": [], "r0": out}, metrics, 0, "", {})
            return batch.output_problems(result) + batch.counter_problems(metrics)

        self.assertEqual(problems([dr(frame)]), [])
        self.assertNotEqual(problems([]), [])
        self.assertNotEqual(problems([dr(frame), dr(frame)]), [])
        self.assertNotEqual(problems([dr(frame, 2)]), [])
        self.assertNotEqual(problems([dr(frame)], Metrics(counters[1:])), [])
        dropped_too = Metrics([*counters, (("weir_drops_total", (("reason", "x"),)), 1.0)])
        self.assertNotEqual(problems([dr(frame)], dropped_too), [])

    def test_metrics_are_read_with_their_labels(self):
        metrics = Metrics.parse('# HELP a b\na_total{x="1",y="q\\"z"} 3\na_total{x="2",y=""} 4.5\nb 1e3\n')
        self.assertEqual(metrics.total("a_total"), 7.5)
        self.assertEqual(metrics.total("a_total", x="2"), 4.5)
        self.assertEqual(metrics.by("a_total", "x"), {"1": 3.0, "2": 4.5})
        self.assertEqual(metrics.total("b"), 1000.0)

    def test_a_truncated_or_padded_frame_is_no_surprise_to_the_builders(self):
        frame = tcp("S")
        self.assertEqual(dr(frame + bytes(6)), dr(frame))
        self.assertEqual(len(echo(b"")), 42)
