"""weirctl against a real weir: what it shows, and how it fails."""

import collections
import json
import os
import pathlib
import unittest

import lab

WEIRCTL = os.environ.get("WEIRCTL", str(pathlib.Path(lab.binary()).parent / "weirctl"))
READ_ONLY = ("--http", lab.HTTP.removeprefix("http://"))


def weirctl(*arguments, door=READ_ONLY, stdin=None):
    """weirctl in the director; the finished process."""
    return lab.run("director", WEIRCTL, *door, *arguments, input=stdin)


class Shows(unittest.TestCase):
    """What weirctl shows of a director that has carried some requests."""

    @classmethod
    def setUpClass(cls):
        cls.weir = lab.Weir()
        cls.enterClassContext(cls.weir)
        cls.answers = collections.Counter(name for name, _ in lab.answers(lab.VIPS["nat"], 9))

    def shown(self, *arguments):
        done = weirctl(*arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""), f"{arguments}: {done.stdout}")
        return done.stdout

    def test_status_says_that_weir_is_ready(self):
        lines = self.shown("status").splitlines()
        self.assertEqual(lines[0].split(), ["weir", "ready"])
        self.assertIn("3", next(line for line in lines if line.startswith("virtual servers")).split())
        self.assertEqual(json.loads(self.shown("--json", "status"))["real_servers"], 9)

    def test_every_connection_is_streamed_and_counted(self):
        lines = self.shown("connections", "--virtual-server", "nat").splitlines()[1:]
        picked = collections.Counter(line.split()[6].split(":")[0] for line in lines)
        self.assertEqual(picked, {lab.REAL_SERVERS[name]: count for name, count in self.answers.items()})
        of_one = self.shown("connections", "--json", "--real-server", f"{lab.REAL_SERVERS['A']}:8080",
                            "--client", lab.CLIENT, "--address", f"{lab.VIPS['nat']}:80").splitlines()
        self.assertEqual(len(of_one), self.answers["A"])
        self.assertEqual({json.loads(line)["virtual_server"] for line in of_one}, {"nat"})
        self.assertEqual(len(self.shown("connections", "--limit", "2").splitlines()), 3)
        self.assertEqual(self.shown("connections", "--count", "--virtual-server", "nat").splitlines()[-1].split(),
                         ["all", "9"])
        self.assertEqual(self.shown("connections", "--state", "SYN_SENT").splitlines()[1:], [])

    def test_servers_workers_ports_health_and_counters_are_listed(self):
        listed = self.shown("list").splitlines()
        self.assertEqual(len(listed), 1 + 3 * 4)
        self.assertEqual(len(self.shown("list", "nat").splitlines()), 5)
        self.assertEqual(self.shown("workers").splitlines()[1].split()[0], "0")
        self.assertEqual([line.split()[1] for line in self.shown("ports").splitlines()[1:]], ["up", "up"])
        self.assertEqual(len(self.shown("health").splitlines()), 1 + 3 * 4)
        self.assertIn("forwarded", self.shown("stats"))
        self.assertEqual(self.shown("vrrp"), "no instances of VRRP\n")

    def test_what_can_not_be_done_is_one_sentence(self):
        for arguments, door, sentence in (
                (("list", "no such"), READ_ONLY, "there is no virtual server no such; `weirctl list` shows their names"),
                (("status",), ("--socket", "/nowhere/weir.sock"), "weir can't be asked at /nowhere/weir.sock: there is no such socket"),
                (("status",), ("--http", "127.0.0.1:1"), "weir can't be asked at 127.0.0.1:1: nobody listens there"),
                (("connections", "--client", "x"), READ_ONLY, "client is no address")):
            done = weirctl(*arguments, door=door)
            self.assertEqual((done.returncode, done.stdout.splitlines()[1:]), (1, []), done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertTrue(done.stderr.startswith(f"weirctl: {sentence}"), done.stderr)
        for arguments in ((), ("lsit",), ("connections", "--limit", "x")):
            self.assertEqual(weirctl(*arguments, door=()).returncode, 2)
