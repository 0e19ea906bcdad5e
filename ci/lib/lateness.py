"""How late a busy machine is: what a measured time may exceed its limit by."""

import threading
import time

PAUSE_SECONDS = 0.005
# Something that is measured waits for several processes in turn, each of which may be as late as this one.
TURNS = 10


class Lateness:
    """Measures inside the block how much later than asked for a thread wakes."""

    def __init__(self):
        self.worst = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)

    def _measure(self):
        while not self._over.is_set():
            due = time.monotonic() + PAUSE_SECONDS
            time.sleep(PAUSE_SECONDS)
            self.worst = max(self.worst, time.monotonic() - due)

    @property
    def allowance(self):
        """Seconds to add to a limit: a few hundredths on an idle machine."""
        return TURNS * self.worst

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()
