"""Network namespaces and veth pairs for one test run.

Every namespace carries the prefix `wf` and this process's id, so two runs on one machine never meet, and everything
made here is removed when the process ends, also on SIGINT and SIGTERM.
"""

import atexit
import contextlib
import ctypes
import itertools
import os
import signal
import subprocess

CLONE_NEWNET = 0x40000000
PREFIX = "wf"

_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()
_alive = []


def ip(*arguments):
    """Runs `ip` with the given arguments; a failure is an exception that shows what ip said."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


class Namespace:
    """A network namespace with its loopback up and IPv6 off, so that the kernel itself never sends a frame."""

    def __init__(self):
        self.name = f"{PREFIX}{os.getpid()}-{next(_numbers)}"
        ip("netns", "add", self.name)
        _alive.append(self)
        self.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments):
        """`ip -n NAME ...`"""
        return ip("-n", self.name, *arguments)

    def run(self, *command):
        """Runs a command inside; a failure is an exception."""
        done = subprocess.run(["ip", "netns", "exec", self.name, *command], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    @contextlib.contextmanager
    def entered(self):
        """The calling thread is inside for the length of the block; sockets opened there stay inside."""
        with open("/proc/thread-self/ns/net", "rb") as home, open(f"/run/netns/{self.name}", "rb") as inside:
            _setns(inside)
            try:
                yield
            finally:
                _setns(home)

    def add_wire(self, near, far):
        """A veth pair, both ends in this namespace and up, offloads off so that frames are what they look like."""
        self.ip("link", "add", near, "type", "veth", "peer", "name", far)
        for device in (near, far):
            subprocess.run(
                ["ip", "netns", "exec", self.name, "ethtool", "-K", device,
                 "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off", "txvlan", "off", "rxvlan", "off"],
                capture_output=True)
            self.ip("link", "set", device, "up")

    def remove(self):
        """Removes the namespace and with it the devices inside."""
        if self in _alive:
            _alive.remove(self)
            subprocess.run(["ip", "netns", "del", self.name], capture_output=True)


def _setns(file):
    if _libc.setns(file.fileno(), CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _remove_all():
    for namespace in list(_alive):
        namespace.remove()


atexit.register(_remove_all)
# As ^C: unittest would take a SystemExit for the failure of one test and go on.
signal.signal(signal.SIGTERM, signal.default_int_handler)
