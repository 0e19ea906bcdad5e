"""Runs unittest's tests as sentences: one line a test, `ok` or `FAILED`, and why below it."""

import contextlib
import io
import time
import unittest

import bounded
import evidence


def sentence(test):
    """The name of a test, as words: `dr: a megabyte up arrives whole`."""
    subject = getattr(test, "method", None) or type(test).__name__.lower()
    return f"{subject}: {test.id().rsplit('.', 1)[-1].removeprefix('test_').replace('_', ' ')}"


class Result(unittest.TestResult):
    """One line per test; what a failed test printed and why it failed below its line."""

    def __init__(self, out):
        super().__init__()
        self.out = out
        self.passed = 0
        self._printed = io.StringIO()

    def startTest(self, test):
        super().startTest(test)
        bounded.begin()
        self._start = time.monotonic()
        self._good = True
        self._printed = io.StringIO()
        self._redirect = contextlib.redirect_stdout(self._printed)
        self._redirect.__enter__()

    def stopTest(self, test):
        self._redirect.__exit__(None, None, None)
        if self._good:
            self.passed += 1
            self._line("ok", test)
            for line in self._printed.getvalue().splitlines():
                self.out.write(f"       {line}\n")
        evidence.clear()
        super().stopTest(test)
        # For what prepares the next class.
        bounded.begin()

    def stopTestRun(self):
        super().stopTestRun()
        bounded.end()

    def _line(self, verdict, test):
        self.out.write(f"{verdict:6} {sentence(test)} ({time.monotonic() - self._start:.1f} s)\n")
        self.out.flush()

    def _bad(self, test, error):
        self._good = False
        evidence.keep(test.id(), error[1])
        self._line("FAILED", test)
        self.out.write(self._exc_info_to_string(error, test) + self._printed.getvalue() + "\n")

    def addError(self, test, err):
        super().addError(test, err)
        if isinstance(test, unittest.TestCase):
            self._bad(test, err)
        else:
            self.out.write(f"FAILED {test}\n{self._exc_info_to_string(err, test)}\n")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._bad(test, err)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._bad(test, err)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._good = False
        self.out.write(f"skip   {sentence(test)}: {reason}\n")


def selected(suite, names):
    """The tests whose id or sentence holds one of the names; all of them when there are no names."""
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from selected(item, names)
        elif not names or any(name in item.id() or name in sentence(item) for name in names):
            yield item


def count(result):
    """How many passed and how many failed. A subtest that fails fails its test, once."""
    failed = len({getattr(test, "test_case", test).id() for test, _ in result.failures + result.errors})
    return result.passed, failed
