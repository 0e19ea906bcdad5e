"""A weir whose time of day can be set, and whose threads can be made to stray: what clock.c does."""

import os
import struct
import subprocess

import lab

SOURCE = lab.ROOT / "ci/e2e/clock.c"


class Clock:
    """For one weir, which has to be started with `environment`."""

    def __init__(self):
        library, self.place = lab.RUN / "clock.so", lab.RUN / "clock"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True)
        self.place.write_bytes(bytes(16))
        self.environment = {"LD_PRELOAD": str(library), "WEIR_CLOCK": str(self.place)}

    def step(self, seconds):
        """So far is it ahead of the kernel's from now on."""
        self._write(0, seconds)

    def stray(self, thread):
        """This thread makes a call that it has no use for when it looks at a clock the next time."""
        self._write(8, thread)

    def has_strayed(self):
        """Whether it has done so."""
        return struct.unpack_from("=q", self.place.read_bytes(), 8)[0] == 0

    def _write(self, at, number):
        with open(self.place, "r+b") as file:
            os.pwrite(file.fileno(), struct.pack("=q", number), at)
