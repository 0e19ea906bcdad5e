"""Stops one thread of a process."""

import ctypes
import os


class Stopped:
    """One thread of a process does not run inside the block; the others do. ptrace can stop a single one."""

    SEIZE, INTERRUPT, DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000

    def __init__(self, thread):
        self.thread = thread
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

    def _ptrace(self, request):
        if self.libc.ptrace(request, self.thread, None, None) != 0:
            raise OSError(ctypes.get_errno(), "ptrace")

    def __enter__(self):
        self._ptrace(self.SEIZE)
        self._ptrace(self.INTERRUPT)
        os.waitpid(self.thread, self.WALL)
        return self

    def __exit__(self, *_):
        try:
            self._ptrace(self.DETACH)
        except ProcessLookupError:
            # Killed meanwhile; who watches it has to take note of that.
            os.waitpid(self.thread, self.WALL)
