"""A bound on each test: what waits for ever fails by itself, and the tests after it run."""

import signal

TEST_SECONDS = 600
# For what a test that was broken off still does to clean up.
CLEANUP_SECONDS = 60


def _over(_number, _frame):
    # What cleans up may hang as well.
    signal.alarm(CLEANUP_SECONDS)
    raise AssertionError("the test takes too long: the lines above say where it waits")


def begin():
    """A test, or what prepares several, begins. Called again, it begins anew."""
    signal.signal(signal.SIGALRM, _over)
    signal.alarm(TEST_SECONDS)


def end():
    """Nothing more is bounded."""
    signal.alarm(0)
