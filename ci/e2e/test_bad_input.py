"""Bad files, bad arguments and missing devices: one clear message, the right exit status, nothing started half-way."""

import os
import re
import signal
import subprocess
import unittest

import lab

FAILED = 1
BAD_USAGE = 2


class Refusal(unittest.TestCase):
    """Helpers."""

    def setUp(self):
        self.files = lab.files_of_dpdk()

    def assertRefused(self, ended, status, *words):
        """The exit status, the words in the output, and no trace of a panic."""
        self.assertEqual(ended.status, status, ended.output)
        for word in words:
            self.assertIn(word, ended.output)
        self.assertNotIn("panicked", ended.output)
        self.assertEqual(lab.files_of_dpdk() - self.files, set())


class BadFile(Refusal):
    """The file."""

    def refused(self, text, *words):
        """A weir with this file ends with status 2 and these words."""
        ended = lab.ends(text)
        self.assertRefused(ended, BAD_USAGE, *words)
        return ended.output

    def position(self, text, part):
        """`line:column` of a part of the file, counted from 1."""
        start = text.index(part)
        line = text.count("\n", 0, start) + 1
        return f"{line}:{start - text.rfind(chr(10), 0, start)}"

    def test_a_wrong_value_is_shown_with_line_and_column(self):
        text = lab.config().replace('"10.10.0.100"', '"10.10.0.300"')
        self.refused(text, "10.10.0.300", ".toml:" + self.position(text, '"10.10.0.300"'))

    def test_an_unknown_key_is_shown_with_line_and_column(self):
        text = lab.config().replace("scheduler =", "sheduler =", 1)
        self.refused(text, "sheduler", ".toml:" + self.position(text, "sheduler"))

    def test_an_unknown_scheduler_is_shown_with_line_and_column(self):
        text = lab.config().replace('"wrr"', '"wrrr"', 1)
        self.refused(text, "wrrr", ".toml:" + self.position(text, '"wrrr"'))

    def test_broken_toml_is_shown_with_its_line(self):
        text = lab.config().replace("[http]", "[http", 1)
        line = self.position(text, "[http").split(":")[0]
        self.refused(text, f".toml:{line}:")

    def test_all_problems_are_shown_at_once(self):
        text = lab.config().replace('"10.10.0.100"', '"10.10.0.300"').replace("weight = 2", "weight = -2", 1)
        self.refused(text + '\n[[route]]\ndestination = "0.0.0.0/33"\ngateway = "10.20.0.1"\n',
                     "10.10.0.300", "-2", "0.0.0.0/33")

    def test_dr_to_another_port_is_refused(self):
        text = lab.config().replace('address = "10.20.0.11"\n  port = 80', 'address = "10.20.0.11"\n  port = 8081', 1)
        self.refused(text, "8081")

    def test_a_port_name_that_does_not_exist_is_refused(self):
        text = lab.config() + ('\n[[vrrp]]\nname = "vi_1"\nport = "lan"\nvirtual_router_id = 51\n'
                               'addresses = ["10.10.0.100"]\n')
        self.refused(text, '"lan"', ".toml:" + self.position(text, '"lan"'))

    def test_a_missing_file_is_named(self):
        self.assertRefused(lab.ends(own=["-c", "/nonexistent/weir.toml"]), BAD_USAGE, "/nonexistent/weir.toml")

    def test_a_directory_for_a_file_is_refused(self):
        self.assertRefused(lab.ends(own=["-c", "/tmp"]), BAD_USAGE, "/tmp")

    def test_a_file_that_is_not_text_is_refused(self):
        path = lab.RUN / "noise.toml"
        path.write_bytes(bytes(range(256)))
        self.assertRefused(lab.ends(own=["-c", str(path)]), BAD_USAGE, "noise.toml")


class BadArguments(Refusal):
    """The command line."""

    def test_an_unknown_option_of_weirs_is_bad_usage(self):
        self.assertRefused(lab.ends(own=["--frobnicate"]), BAD_USAGE, "--frobnicate")

    def test_an_unknown_log_level_is_bad_usage(self):
        self.assertRefused(lab.ends(own=["-c", str(lab.RUN / "weir.toml"), "--log-level", "loud"]), BAD_USAGE, "loud")

    def test_an_unknown_eal_option_is_bad_usage(self):
        ended = lab.ends(eal=["--no-such-eal-option"])
        self.assertRefused(ended, BAD_USAGE, "no-such-eal-option")
        # EAL's usage would bury it.
        lines = ended.output.strip().splitlines()
        self.assertLess(len(lines), 15, ended.output)
        self.assertIn("EAL does not accept its arguments", lines[-1])

    def test_options_on_the_wrong_side_are_shown_on_the_right_one(self):
        for line, shown in (("-l 0 -c x.toml", "weir -l 0 -- -c x.toml"),
                            ("-- -c x.toml -l 0", "weir -l 0 -- -c x.toml"),
                            ("-l 0 --check -c x.toml", "weir -l 0 -- --check -c x.toml"),
                            ("--check x.toml", "weir --check -c x.toml"),
                            ("--config-test -f x.toml", "weir --check -c x.toml"),
                            ("--check -c", "weir --check -c /etc/weir/weir.toml"),
                            ("-v", "weir -V")):
            with self.subTest(line):
                done = subprocess.run([lab.binary(), *line.split()], capture_output=True, text=True)
                self.assertEqual(done.returncode, BAD_USAGE)
                self.assertIn(shown, done.stderr)
                self.assertNotIn("tip", done.stderr)

    def test_lcores_that_the_machine_does_not_have_are_refused(self):
        ended = lab.ends(eal=["-l", "0,120"])
        self.assertIn(ended.status, (FAILED, BAD_USAGE), ended.output)
        self.assertNotIn("panicked", ended.output)


class MissingDevice(Refusal):
    """Devices and memory."""

    def test_a_device_that_eal_does_not_know_is_named(self):
        text = lab.config().replace('"net_af_packet1"', '"net_af_packet9"')
        self.assertRefused(lab.ends(text), FAILED, "net_af_packet9")

    def test_an_interface_that_does_not_exist_is_named(self):
        text = lab.config().replace('"net_af_packet1"', '"net_af_packet2"')
        ended = lab.ends(text, eal=["--vdev", "net_af_packet2,iface=nosuch0"])
        self.assertRefused(ended, FAILED, "net_af_packet2")

    def test_too_little_memory_is_said(self):
        # More than 4 GB of packet buffers.
        self.assertRefused(lab.ends(lab.config() + "\n[memory]\nmbufs = 20_000_000\n"), FAILED, "memory")


    def test_what_it_says_is_needed_is_enough(self):
        small = ["--no-huge", "-m", "16"]
        ended = lab.ends(eal=small)
        self.assertRefused(ended, FAILED, "not enough memory", "[memory]")
        needed = re.search(r"write -m (\d+) or more", ended.output)
        self.assertIsNotNone(needed, ended.output)
        with lab.Weir(eal=["--no-huge", "-m", needed[1]]):
            lab.answers(lab.VIPS["dr"], 1)


class Questions(Refusal):
    """Options that answer and exit, without touching EAL."""

    def check(self, text):
        """What `--check` makes of a file: status, stdout, stderr."""
        path = lab.RUN / "checked.toml"
        path.write_text(text)
        done = subprocess.run([lab.binary(), "--check", "-c", str(path)], capture_output=True, text=True)
        return done.returncode, done.stdout.replace(str(path), "FILE"), done.stderr

    def test_check_says_of_a_good_file_that_it_is_good(self):
        servers = lab.config().count("[[virtual_server]]")
        status, out, err = self.check(lab.config())
        self.assertEqual((status, err), (0, ""))
        self.assertRegex(out, rf"^FILE is good: 2 ports, {servers} virtual servers, \d+ real servers, 0 VRRP instances\n"
                              r"one worker takes \d+ hugepages of 2 MiB, two take \d+\n$")

    def test_warnings_are_shown_and_counted_and_do_not_stop(self):
        empty = '[[virtual_server]]\nname = "empty"\naddress = "192.0.2.1"\nport = 80\n'
        status, out, err = self.check(lab.config() + empty)
        self.assertEqual(status, 0)
        self.assertIn("FILE can be served, with 1 warning: ", out)
        self.assertIn("a virtual server without real servers", err)

    def test_a_check_without_a_way_from_this_machine_is_warned_of(self):
        text = ('[[port]]\nname = "lan"\ndevice = "0000:03:00.0"\naddresses = ["198.18.77.2/24"]\n'
                '[[virtual_server]]\nname = "web"\naddress = "192.0.2.1"\nport = 80\nhealth_check = { type = "tcp" }\n'
                '[[virtual_server.real_server]]\naddress = "198.18.77.11"\n')
        status, out, err = self.check(text)
        self.assertEqual(status, 0)
        self.assertIn("health checks do not reach this real server", err)
        status, out, err = self.check(text.replace("[[virtual_server]]", 'host_interface = "weir0"\n[[virtual_server]]', 1))
        self.assertEqual((status, err), (0, ""))
        self.assertIn("is good", out)

    def test_a_keepalived_conf_is_known_as_one(self):
        status, _, err = self.check("global_defs {\n}\nvirtual_server 10.0.0.1 80 {\n  lb_algo rr\n}\n")
        self.assertEqual(status, BAD_USAGE)
        self.assertIn("this is keepalived's language", err)
        self.assertEqual(err.count("error"), 1)

    def test_a_refused_reload_names_the_keys(self):
        with lab.Weir() as weir:
            weir.file.write_text("[workers]\nsleep_max_us = 50\n" + lab.config())
            weir.process.send_signal(signal.SIGHUP)
            lab.wait_for("refusal", lambda: "not reloaded" in weir.said(), 30)
            self.assertIn("`sleep_max_us` of [workers] (in force: 100", weir.said())

    def test_check_refuses_a_bad_file_without_eal(self):
        path = lab.RUN / "bad.toml"
        path.write_text(lab.config().replace('"wrr"', '"wrrr"', 1))
        ended = lab.ends(own=["-c", str(path), "--check"], eal=["--no-such-eal-option"])
        self.assertRefused(ended, BAD_USAGE, "wrrr")
        self.assertNotIn("EAL:", ended.output)

    def test_check_needs_no_root_and_no_eal_options(self):
        path = lab.pathlib.Path("/tmp") / f"{lab.NAME}-check.toml"
        path.write_text(lab.config())
        self.addCleanup(path.unlink)
        binary = lab.pathlib.Path("/tmp") / f"{lab.NAME}-weir"
        binary.write_bytes(lab.pathlib.Path(lab.binary()).read_bytes())
        binary.chmod(0o755)
        self.addCleanup(binary.unlink)
        done = subprocess.run([str(binary), "--", "-c", str(path), "--check"], user=65534, group=65534, extra_groups=[],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_check_of_a_bad_file_has_its_status_even_if_its_words_can_not_be_written(self):
        path = lab.RUN / "bad.toml"
        path.write_text(lab.config().replace('"wrr"', '"wrrr"', 1))
        with open("/dev/full", "wb") as full:
            done = subprocess.run([lab.binary(), "--", "-c", str(path), "--check"], stdout=full, stderr=full)
        self.assertEqual(done.returncode, BAD_USAGE)

    def test_check_reads_a_pipe(self):
        done = subprocess.run([lab.binary(), "--", "-c", "/dev/stdin", "--check"], input=lab.config(),
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_check_waits_for_who_writes_a_fifo_and_says_so(self):
        fifo = lab.RUN / "fifo.toml"
        os.mkfifo(fifo)
        self.addCleanup(fifo.unlink)
        check = subprocess.Popen([lab.binary(), "--", "-c", str(fifo), "--check"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(check.kill)
        self.assertIn(f"{fifo} and what it names are waited for, for 5 s", check.stderr.readline())
        fifo.write_text(lab.config())
        out, err = check.communicate(timeout=60)
        self.assertEqual(check.returncode, 0, out + err)

    def test_version_names_weir_and_dpdk(self):
        ended = lab.ends(own=["--version"])
        self.assertRefused(ended, 0)
        self.assertRegex(ended.output, re.compile(r"weir \d+\.\d+\.\d+.*DPDK \d+\.\d+", re.S | re.I))
        self.assertNotIn("EAL:", ended.output)

    def test_help_explains_the_command_line(self):
        ended = lab.ends(own=["--help"])
        self.assertRefused(ended, 0, "EAL", "--check", "--log-level", "-c")
