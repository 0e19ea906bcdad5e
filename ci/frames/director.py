"""A weir process under test: start, readiness, metrics, reload, stop.

Nothing here knows what weir forwards; it only starts the binary as a user would and reads what it publishes.
"""

import atexit
import http.client
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
HTTP_PORT = 9292
# How long a busy machine may take.
START_SECONDS = 120.0
STOP_SECONDS = 60.0
RELOAD_SECONDS = 30.0
HTTP_SECONDS = 20

_SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([^ ]+)$')
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


def binary():
    """The weir to test: `$WEIR`, else the release build of this tree."""
    target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))
    return os.environ.get("WEIR", str(pathlib.Path(target) / "release" / "weir"))


class Metrics(dict):
    """One scrape: `(name, ((label, value), ...)) -> number`."""

    @classmethod
    def parse(cls, text):
        """Reads the Prometheus text format."""
        metrics = cls()
        for line in text.splitlines():
            found = _SAMPLE.match(line)
            if found:
                labels = tuple(sorted(_LABEL.findall(found.group(2) or "")))
                metrics[found.group(1), labels] = float(found.group(3))
        return metrics

    def total(self, metric, **labels):
        """Sum of all samples of a metric that carry the given labels; 0 when there is none."""
        wanted = set(labels.items())
        return sum(value for (found, have), value in self.items() if found == metric and wanted <= set(have))

    def workers_are_up_to_date(self):
        """Whether every worker uses the configuration in force."""
        generations = {value for (found, _), value in self.items() if found == "weir_worker_config_generation"}
        return generations == {self.total("weir_config_generation")}

    def by(self, metric, label, **labels):
        """`{label value: sum}` of a metric's samples that carry the given labels, zeros left out."""
        sums = {}
        wanted = set(labels.items())
        for (found, have), value in self.items():
            if found == metric and value and wanted <= set(have):
                key = dict(have).get(label)
                sums[key] = sums.get(key, 0) + value
        return sums


class Director:
    """weir in a namespace, with a file of its own and the given vdevs."""

    def __init__(self, namespace, workdir, vdevs, config, cpu=None, binary_path=None, workers=1):
        self.namespace = namespace
        self.workdir = pathlib.Path(workdir)
        self.file = self.workdir / "weir.toml"
        self.log_path = self.workdir / "weir.log"
        self.vdevs = vdevs
        self.cpu = os.environ.get("WEIR_CPU", "0") if cpu is None else cpu
        self.binary = binary_path or binary()
        # Several workers, and control, all on one processor: none of these tests asks how quick they are.
        self.lcores = ["-l", self.cpu] if workers == 1 else [
            "--lcores", ",".join(f"{lcore}@{self.cpu}" for lcore in range(workers + 1))]
        self.process = None
        self.file.write_text(config)

    def start(self):
        """Starts weir and returns when `/ready` says 200."""
        command = ["ip", "netns", "exec", self.namespace.name, self.binary, *self.lcores, "--no-pci", "--no-huge",
                   "-m", "256", "--no-shconf", "--no-telemetry"]
        for vdev in self.vdevs:
            command += ["--vdev", vdev]
        command += ["--", "-c", str(self.file)]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        # Also when a signal ends the tests half-way.
        atexit.register(self.kill)
        deadline = time.monotonic() + START_SECONDS
        while True:
            if self.process.poll() is not None:
                raise AssertionError(f"weir ended with {self.process.returncode} at start\n{self.explain()}")
            status, _ = self.get("/ready")
            if status == 200:
                return self
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"weir was not ready within {START_SECONDS} s\n{self.explain()}")
            time.sleep(0.01)

    def get(self, path):
        """HTTP GET; `(status, text)`, status 0 when nothing answers."""
        connection = http.client.HTTPConnection("127.0.0.1", HTTP_PORT, timeout=HTTP_SECONDS)
        try:
            with self.namespace.entered():
                connection.sock = socket.create_connection(("127.0.0.1", HTTP_PORT), timeout=HTTP_SECONDS)
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def metrics(self):
        """Scrapes `/metrics`."""
        status, text = self.get("/metrics")
        if status != 200:
            raise AssertionError(f"/metrics answered {status}\n{self.explain()}")
        return Metrics.parse(text)

    def reload(self, config):
        """Writes a new file, sends SIGHUP and returns when every worker uses it; the reload must succeed.

        A worker that lost its processor in the middle of a poll may finish that poll with what it had.
        """
        stamp = "weir_config_last_reload_timestamp_seconds"
        before = self.metrics().total(stamp)
        if before == int(before):
            # A clock in whole seconds shows a second reload only in the next second.
            time.sleep(max(0.0, before + 1.05 - time.time()))
        self.file.write_text(config)
        self.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + RELOAD_SECONDS
        while True:
            now = self.metrics()
            if now.total(stamp) != before and now.workers_are_up_to_date():
                break
            if time.monotonic() > deadline:
                raise AssertionError(f"no reload within {RELOAD_SECONDS} s of SIGHUP\n{self.explain()}")
            time.sleep(0.005)
        if now.total("weir_config_last_reload_successful") != 1:
            raise AssertionError(f"the reload failed\n{self.explain()}")

    def stop(self):
        """SIGTERM; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_SECONDS)
            atexit.unregister(self.kill)
            return status
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"weir did not stop within {STOP_SECONDS} s of SIGTERM\n{self.explain()}") from None

    def kill(self):
        """Ends the process at once, if it still runs."""
        atexit.unregister(self.kill)
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def log(self):
        """What weir wrote to standard output and standard error so far."""
        return self.log_path.read_text(errors="replace")

    def wait_for_log(self, text, seconds=60.0):
        """Returns when control has come to say this, however busy the machine is."""
        deadline = time.monotonic() + seconds
        while text not in self.log():
            if time.monotonic() > deadline:
                raise AssertionError(f"{text!r} is not in the log within {seconds} s\n{self.explain()}")
            time.sleep(0.01)

    def explain(self):
        """File and log, for a message."""
        return f"--- {self.file}\n{self.file.read_text()}\n--- log\n{self.log()[-4000:]}"
