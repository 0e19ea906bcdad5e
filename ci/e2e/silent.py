"""A file system that nobody answers for: whoever looks for a file in it waits, in state D, until it is gone."""

import contextlib
import os
import pathlib
import subprocess
import tempfile

import lab


class Silent:
    """Mounted inside the block."""

    def __init__(self):
        self.place = pathlib.Path(tempfile.mkdtemp(prefix="silent-", dir=lab.RUN))
        self.device = None

    def __enter__(self):
        # FUSE: the kernel asks whoever holds the device, and that is this test, which does not read.
        self.device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self.device},rootmode=40000,user_id=0,group_id=0,allow_other"
        try:
            subprocess.run(["mount", "--internal-only", "-t", "fuse", "-o", options, "weir-silent", str(self.place)],
                           check=True, capture_output=True, pass_fds=[self.device], text=True)
        except subprocess.CalledProcessError as problem:
            self.__exit__()
            raise AssertionError(f"no FUSE here: {problem.stderr.strip()}") from None
        return self

    def end(self):
        """Whoever waits is told that the file system is gone."""
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
