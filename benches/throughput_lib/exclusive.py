"""One measurement at a time, and an end that leaves nothing behind."""

import fcntl
import signal
import sys

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def alone(program: str):
    """A lock that lasts as long as the process: two at a time would measure each other."""
    lock = open("/run/weir-throughput.lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"{program}: a measurement runs already", file=sys.stderr)
        sys.exit(1)
    return lock


def handle_signals() -> None:
    """Turns signals into an exception, so that every `finally` on the way out is run."""
    for number in SIGNALS:
        signal.signal(number, _end)


def _end(signum, _frame) -> None:
    """Further signals change nothing."""
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    sys.exit(128 + signum)
