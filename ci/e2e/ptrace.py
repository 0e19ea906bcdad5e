"""Stops one thread of a process from outside, and lets it go on.

A signal would stop the whole process. A thread that traces another has to reap it when it dies, or the process never ends;
so a thread of its own does both.
"""

import contextlib
import ctypes
import os
import pathlib
import threading
import time

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
ALL_THREADS = 0x40000000  # __WALL

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def _ptrace(request, thread):
    if _libc.ptrace(request, thread, None, None) != 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x} of {thread}")


def threads(process):
    """The threads of a process: names by id."""
    tasks = pathlib.Path(f"/proc/{process}/task").iterdir()
    return {int(task.name): (task / "comm").read_text().strip() for task in tasks}


@contextlib.contextmanager
def halted(thread, seconds=10):
    """The thread with this id does not run inside the block. It may die there."""
    stands, release, problems = threading.Event(), threading.Event(), []

    def hold():
        try:
            _ptrace(PTRACE_SEIZE, thread)
            _ptrace(PTRACE_INTERRUPT, thread)
            os.waitpid(thread, ALL_THREADS)
            stands.set()
            while not release.is_set():
                if os.waitpid(thread, ALL_THREADS | os.WNOHANG)[0]:
                    return
                time.sleep(0.01)
            _ptrace(PTRACE_DETACH, thread)
        except OSError as problem:
            problems.append(problem)
        finally:
            stands.set()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        if not stands.wait(seconds):
            raise AssertionError(f"thread {thread} did not stop within {seconds} s")
        if problems:
            raise problems[0]
        yield
    finally:
        release.set()
        holder.join()
