"""weir in the guest, between the lab's client and real servers."""

import json
import re
import signal
import time

import lab

START_SECONDS = 60.0
STOP_SECONDS = 30.0
FILE = "/etc/weir.toml"
LOG = "/run/weir.log"
RESULTS = re.compile(r"^\S+Z +(WARN|ERROR) (.*)$", re.MULTILINE)
# What it says of a host that is busy with something else.
BUSY = ("did not run; the machine is too busy or was stopped", "since the kernel gives its core to others",
        "the worker polls again, after", "the thread goes on, after")


class Weir:
    """weir on an outer and an inner device, or on one alone. As a context manager it is ready inside the block and gone after it."""

    def __init__(self, guest, outer, inner, lcores="0,1", change=lambda text: text, eal=()):
        self.guest = guest
        self.nics = (outer, inner) if inner else (outer,)
        self.lcores = lcores
        self.eal = eal
        text = lab.config()
        for name, nic in zip(("net_af_packet0", "net_af_packet1"), self.nics):
            text = text.replace(f'"{name}"', f'"{guest.addresses[nic]}"')
        self.text = change(text)
        self.pid = None
        self.status = None

    def launch(self):
        """Starts the process and does not wait for it."""
        self.guest.plug(*self.nics)
        self.guest.shell(f"mkdir -p {lab.RUN}; rm -f {LOG}")
        self.guest.ask("write", path=FILE, text=self.text)
        devices = [word for nic in self.nics for word in ("-a", self.guest.addresses[nic])]
        command = ["/usr/sbin/weir", "-l", self.lcores, *devices, *self.eal, "--", "-c", FILE]
        self.pid = self.guest.ask("start", command=command, log=LOG)["pid"]
        return self

    def start(self):
        """Starts the process and returns when `/ready` says 200."""
        self.launch()
        deadline = time.monotonic() + START_SECONDS
        while self.get("/ready")["code"] != 200:
            if self.ended(0.1) is not None:
                raise AssertionError(f"weir ended with status {self.status} at its start:\n{self.said()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"weir was not ready within {START_SECONDS} s: {self.get('/ready')}\n{self.said()}")
        return self

    def ended(self, seconds):
        """Its exit status; None while it runs."""
        if self.status is None:
            self.status = self.guest.ask("wait", pid=self.pid, seconds=seconds)["status"]
        return self.status

    def get(self, path):
        """Its own HTTP: `code` (0: nobody answers) and `text`."""
        return self.guest.ask("get", path=path)

    def metrics(self):
        """One scrape of `/metrics`."""
        return lab.Metrics(self.get("/metrics")["text"])

    def workers(self):
        """What `/api/v1/workers` says of each worker."""
        return json.loads(self.get("/api/v1/workers")["text"])["workers"]

    def said(self):
        """Everything it wrote to stdout and stderr."""
        return self.guest.ask("read", path=LOG)["text"]

    def complaints(self):
        """Its warnings and errors, without their times and without those about the host's load."""
        return [f"{level} {text}" for level, text in RESULTS.findall(self.said()) if not any(busy in text for busy in BUSY)]

    def stop(self, number=signal.SIGTERM):
        """Sends a signal and returns the exit status."""
        self.guest.ask("signal", pid=self.pid, number=int(number))
        if self.ended(STOP_SECONDS) is None:
            self.guest.ask("signal", pid=self.pid, number=int(signal.SIGKILL))
            self.ended(STOP_SECONDS)
            raise AssertionError(f"weir did not stop within {STOP_SECONDS} s of {number.name}:\n{self.said()}")
        return self.status

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.discard()
            raise

    def __exit__(self, kind, _value, _trace):
        if kind is not None:
            print(f"what weir said:\n{self.said()}")
            self.discard()
            return
        status = self.stop() if self.ended(0) is None else self.status
        if status != 0:
            raise AssertionError(f"weir ended with status {status}:\n{self.said()}")

    def discard(self):
        """Ends the process, whatever its state."""
        if self.pid is not None and self.ended(0) is None:
            self.guest.ask("signal", pid=self.pid, number=int(signal.SIGKILL))
            self.ended(STOP_SECONDS)
