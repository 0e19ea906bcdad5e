"""A file system that nobody answers for: whoever looks for a file in it waits, in state D, until it is gone."""

import contextlib
import os
import pathlib
import select
import struct
import subprocess
import tempfile
import threading

import lab

# FUSE's: the first request, which asks for a version, and the answer to it.
REQUEST = struct.Struct("=IIQ")
HEADER = struct.Struct("=IiQ")
VERSION = struct.pack("=IIIIHHIIHHI7I", 7, 31, 0, 0, 12, 9, 4096, 1, 1, 0, 0, *[0] * 7)
REQUEST_BYTES_MAX = 1 << 20


class Silent:
    """Mounted inside the block. With `takes` it takes every request, so that a signal no longer ends who waits; else not even the first."""

    def __init__(self, takes=False):
        self.place = pathlib.Path(tempfile.mkdtemp(prefix="silent-", dir=lab.RUN))
        self.takes, self.taker, self.ends = takes, None, None
        self.device = None

    def __enter__(self):
        # FUSE: the kernel asks whoever holds the device, and that is this test, which does not answer.
        self.device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        options = f"fd={self.device},rootmode=40000,user_id=0,group_id=0,allow_other"
        try:
            subprocess.run(["mount", "--internal-only", "-t", "fuse", "-o", options, "weir-silent", str(self.place)],
                           check=True, capture_output=True, pass_fds=[self.device], text=True)
        except subprocess.CalledProcessError as problem:
            self.__exit__()
            raise AssertionError(f"no FUSE here: {problem.stderr.strip()}") from None
        if self.takes:
            self.ends = os.pipe()
            self.taker = threading.Thread(target=self._take)
            self.taker.start()
        return self

    def _take(self):
        """Takes requests and answers the first."""
        unique = None
        while True:
            ready, _, _ = select.select([self.device, self.ends[0]], [], [])
            if self.ends[0] in ready:
                return
            with contextlib.suppress(BlockingIOError, OSError):
                request = os.read(self.device, REQUEST_BYTES_MAX)
                if unique is None:
                    unique = REQUEST.unpack_from(request)[2]
                    os.write(self.device, HEADER.pack(HEADER.size + len(VERSION), 0, unique) + VERSION)

    def end(self):
        """Whoever waits is told that the file system is gone."""
        if self.taker is not None:
            os.write(self.ends[1], b"x")
            self.taker.join()
            self.taker = None
            for end in self.ends:
                os.close(end)
        if self.device is not None:
            os.close(self.device)
            self.device = None

    def __exit__(self, *_):
        self.end()
        subprocess.run(["umount", "--lazy", str(self.place)], check=False, capture_output=True)
        with contextlib.suppress(OSError):
            self.place.rmdir()


def states(process):
    """The states of a process's threads as ps shows them, a text for each name."""
    found = {}
    for task in pathlib.Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(OSError):
            name, state = (task / "comm").read_text().strip(), (task / "stat").read_text().rsplit(") ", 1)[1][0]
            found[name] = found.get(name, "") + state
    return found
