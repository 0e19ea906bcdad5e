"""What weir may do while it runs: docs/rights.md has the table."""

import os
import pathlib
import pwd
import time
import unittest

import health
import lab
from clock import Clock
from test_kept import keeper, keeping
from test_lifecycle_hostile import Hostile, reload
from test_liveness import VRRP, live, thread

# By the kernel's numbers.
DAC_READ_SEARCH, KILL, SETGID, SETUID, SETPCAP, NET_ADMIN, NET_RAW, SYS_PTRACE, SYS_NICE = (
    1 << number for number in (2, 5, 6, 7, 8, 12, 13, 19, 23))
ENDS, STARTS, PORTS = KILL | SYS_PTRACE | DAC_READ_SEARCH, SETUID | SETGID | SETPCAP, NET_ADMIN | NET_RAW
# By thread: net_af_packet's ports are the kernel's as well.
KEPT = {
    "worker": 0,
    "weir-log": 0,
    "weir-systemd": 0,
    "weir-control": DAC_READ_SEARCH,
    "weir-host": NET_ADMIN,
    "weir-vrrp": DAC_READ_SEARCH | PORTS | SYS_NICE,
    "weir-health": STARTS | ENDS | NET_RAW,
    "weir-signals": ENDS,
    "first": ENDS | PORTS,
    "interrupts": PORTS,
}
OWN_USER = pwd.getpwnam("daemon")


def facts(weir):
    """What the kernel says of each thread: by name, the lines of its status."""
    found = {}
    for task in pathlib.Path(f"/proc/{weir.process.pid}/task").iterdir():
        lines = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
        name = lines["Name"].strip()
        if task.name == str(weir.process.pid):
            name = "first"
        elif name.startswith(("lcore-worker", "rte-worker", "dpdk-worker")):
            name = "worker"
        elif name in ("eal-intr-thread", "dpdk-intr"):
            name = "interrupts"
        found[name] = {key: value.strip() for key, value in lines.items()}
    return found


def capabilities(weir):
    """What each thread may do."""
    return {name: int(lines["CapPrm"], 16) for name, lines in facts(weir).items()}


def hosted(text):
    """The lab's file with a host interface, VRRP and a hook."""
    line = f'addresses = ["{lab.DIRECTOR_OUTER}/24"]'
    return text.replace(line, f'{line}\nhost_interface = "weir0"') + VRRP


class Rights(Hostile):
    """Of weir as root, and as somebody else."""

    def assertKept(self, weir, without=0, more=()):
        """Each thread may do what it needs, and hands on nothing."""
        expected = {name: kept & ~without for name, kept in (*KEPT.items(), *more)}

        def kept():
            return {name: value for name, value in capabilities(weir).items() if name in expected}
        # The log's looks once in a second.
        deadline = time.monotonic() + 5
        while kept() != expected and time.monotonic() < deadline:
            time.sleep(0.1)
        self.assertEqual(kept(), expected)
        for name, lines in facts(weir).items():
            with self.subTest(thread=name):
                self.assertEqual((lines["CapPrm"], lines["Seccomp"]), (lines["CapEff"], "2"))
                self.assertEqual((int(lines["CapInh"], 16), int(lines["CapAmb"], 16), lines["NoNewPrivs"]), (0, 0, "1"))

    def assertWorks(self, weir, user):
        """It serves, checks, starts programs as somebody else, reloads, and stops."""
        lab.wait_for("life", lambda: live(weir) == "live\n", 5)
        lab.wait_for("mastership", lambda: weir.metrics().total("weir_vrrp_state", instance="vi") == 2, 10)
        place = health.scripts()
        said = lab.wait_for("the program", lambda: (place / "said").read_text(), 10)
        self.assertRegex(said, r"uid=65534\(nobody\) gid=65534\(nogroup\) groups=65534\(nogroup\)")
        self.assertIn("CapEff:\t0000000000000000", said)
        self.assertIn("CapBnd:\t0000000000000000", said)
        self.assertNotIn("without real-time priority", weir.said())
        self.assertEqual({lines["Uid"].split()[1] for lines in facts(weir).values()}, {str(user)})
        weir.file.write_text(weir.file.read_text() + "\n")
        self.assertEqual(reload(weir).total("weir_config_last_reload_successful"), 1)
        self.assertEqual(lab.run("client", "ping", "-c1", "-W2", lab.DIRECTOR_OUTER).returncode, 0)
        self.assertServes(weir)

    def checking(self, text):
        """With a check that says who it is."""
        place = health.scripts()
        said, program = place / "said", place / "who"
        said.write_text("")
        said.chmod(0o666)
        program.write_text(f'#!/bin/sh\n(id; grep ^Cap /proc/self/status) > {said}\n')
        program.chmod(0o755)
        before, after = text.split('name = "nat"')
        head, servers = after.split("\n\n", 1)
        check = f'\n  [virtual_server.health_check]\n  type = "exec"\n  command = ["{program}"]\n  interval = 1\n  timeout = 1\n'
        return f'{before}name = "nat"{head}\n{check}\n{servers}'

    def test_as_root_each_thread_keeps_what_it_needs(self):
        clock = Clock()
        with lab.systemd(**clock.environment) as (_, environment), keeper() as (place, _), \
                lab.Weir(self.checking(hosted(keeping(place))), environment=environment) as weir:
            self.assertKept(weir, more=[("weir-kept", 0)])
            self.assertWorks(weir, 0)
            self.assertRefused(weir, clock)
            self.assertStops(weir)

    def assertRefused(self, weir, clock):
        """What a thread has no use for is refused, counted and said, and it goes on."""
        for number, name in enumerate(("weir-control", "weir-vrrp", "weir-host"), 1):
            clock.stray(thread(weir, name))
            lab.wait_for(f"{name} to stray", clock.has_strayed, 5)
            lab.wait_for("the call to be counted", lambda number=number: weir.metrics().total(
                "weir_refused_system_calls_total") == number, 5)
        self.assertIn("a thread made a system call that it has no use for", weir.said())
        self.assertRegex(weir.said(), r'thread="weir-control" call=161 new=1')
        self.assertEqual(live(weir), "live\n")

    def test_as_another_user_it_does_all_the_same(self):
        with lab.systemd() as (_, environment):
            weir = lab.Weir("", environment=environment)
            own = weir.folder / "own"
            own.mkdir()
            os.chown(own, OWN_USER.pw_uid, OWN_USER.pw_gid)
            weir.file.write_text(f'[control]\nuser = "daemon"\nsocket = "{own}/sock"\n' + self.checking(hosted(lab.config())))
            weir.folder.chmod(0o755)
            lab.RUN.chmod(0o755)
            with weir:
                self.assertKept(weir, without=DAC_READ_SEARCH | SYS_PTRACE)
                self.assertWorks(weir, OWN_USER.pw_uid)
                self.assertEqual((own / "sock").stat().st_uid, OWN_USER.pw_uid)
                self.assertStops(weir)
            self.assertFalse((own / "sock").exists())

    def test_a_user_that_can_not_read_the_file_is_refused_at_the_start(self):
        weir = lab.Weir("[control]\nuser = \"daemon\"\n" + lab.config()).launch()
        self.addCleanup(weir.discard)
        weir.folder.chmod(0o700)
        self.assertEqual(weir.process.wait(lab.START_SECONDS), 1)
        self.assertIn(f"user daemon ([control]) can't read {weir.file}", weir.said())

    def test_a_user_that_there_is_not_is_an_error_of_the_file(self):
        ended = lab.ends("[control]\nuser = \"nobody-of-this-name\"\n" + lab.config())
        self.assertEqual(ended.status, 2, ended.output)
        self.assertIn("weir can't become user", ended.output)


class Secrets(Hostile):
    """Passwords."""

    def test_a_crash_leaves_an_image_of_the_memory_only_if_the_file_says_so(self):
        for key, owner in (("", 0), ("core_dumps = true", OWN_USER.pw_uid)):
            weir = lab.Weir(f'[control]\nuser = "daemon"\n{key}\n' + lab.config())
            weir.folder.chmod(0o755)
            with self.subTest(key), weir:
                # Files of one that leaves none are root's.
                self.assertEqual(os.stat(f"/proc/{weir.process.pid}/environ").st_uid, owner)

    def test_a_file_with_passwords_that_everybody_may_read_is_warned_of(self):
        text = lab.config() + VRRP.replace("version = 3\nadvertisement_interval = 0.1", "version = 2").replace(
            "addresses", 'authentication = { type = "pass", password = "secret" }\naddresses')
        weir = lab.Weir(text)
        self.addCleanup(weir.discard)
        for mode, is_warned in ((0o644, True), (0o640, False)):
            weir.file.chmod(mode)
            done = lab.subprocess.run([lab.binary(), "--", "-c", weir.file, "--check"], capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual("everybody on this machine may read this file" in done.stderr, is_warned, done.stderr)
            self.assertNotIn("secret", done.stderr)


if __name__ == "__main__":
    unittest.main()
