"""The lab itself: runs of it that were killed, and two at a time."""

import contextlib
import pathlib
import signal
import subprocess
import sys
import unittest

import lab

# Stands up a lab, says so, and keeps it until its input ends.
HOLDER = "import lab, sys\nwith lab.standing():\n    print('up', flush=True)\n    sys.stdin.read()\n"


class Capture(unittest.TestCase):
    """What passes an interface of the lab, recorded."""

    def test_a_capture_ends_while_frames_go_on_passing(self):
        with contextlib.ExitStack() as after, lab.capture("client", "lo") as path:
            # What pings say before the capture stands would be of frames that it has not seen.
            pings = lab.start("client", "ping", "-n", "-i", "0.02", lab.CLIENT)
            after.callback(pings.communicate)
            after.callback(pings.kill)
            for _ in range(3):
                pings.stdout.readline()
        self.assertGreater(path.stat().st_size, 24)


class Lab(unittest.TestCase):
    """A lab beside the one of this run."""

    name = f"{lab.NAME}-beside"

    def setUp(self):
        self.addCleanup(lab.LOCK.with_name(f"{self.name}.lock").unlink)
        self.addCleanup(self.script, "down")

    def script(self, action):
        """Runs scripts/lab for that lab."""
        return subprocess.run([str(lab.ROOT / "scripts" / "lab"), action], env={**lab.os.environ, "WEIR_LAB": self.name},
                              capture_output=True, text=True, check=False)

    def holder(self):
        """A process that stands the lab up."""
        process = subprocess.Popen([sys.executable, "-c", HOLDER], cwd=pathlib.Path(__file__).parent, text=True,
                                   env={**lab.os.environ, "WEIR_LAB": self.name, "PYTHONDONTWRITEBYTECODE": "1"},
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for stream in (process.stdin, process.stdout, process.stderr):
            self.addCleanup(stream.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    @staticmethod
    def release(process):
        """Lets it end; its exit status and what else it said."""
        process.stdin.close()
        return process.wait(lab.STOP_SECONDS), process.stderr.read()

    def namespaces(self):
        """The network namespaces under its name."""
        return sorted(path.name for path in lab.NAMESPACES.glob(f"{self.name}-*"))

    def assertUp(self, process):
        """It says that the lab is up."""
        said = process.stdout.readline()
        self.assertEqual(said, "up\n", said or process.stderr.read())

    def test_what_a_killed_run_left_is_cleared_away(self):
        killed = self.holder()
        self.assertUp(killed)
        subprocess.run(["ip", "netns", "add", f"{self.name}-vw"], check=True)
        orphan = subprocess.Popen(["ip", "netns", "exec", f"{self.name}-vw", "sleep", "600"])
        self.addCleanup(orphan.kill)
        killed.kill()
        killed.wait()
        self.assertIn(f"{self.name}-director", self.namespaces())
        after = self.holder()
        self.assertUp(after)
        self.assertEqual(orphan.wait(5), -signal.SIGKILL)
        self.assertNotIn(f"{self.name}-vw", self.namespaces())
        self.assertEqual(self.release(after), (0, ""))
        self.assertEqual(self.namespaces(), [])

    def test_a_second_run_waits_for_the_end_of_the_first(self):
        first = self.holder()
        self.assertUp(first)
        second = self.holder()
        self.assertEqual(second.stderr.readline(), f"another run has the lab '{self.name}'; waiting for its end\n")
        self.assertEqual(self.release(first), (0, ""))
        self.assertUp(second)
        self.assertEqual(self.script("status").returncode, 0)
        self.assertEqual(self.release(second), (0, ""))
