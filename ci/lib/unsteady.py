"""A test that fails is run once more at the end of its run, when the others are over.

One that passes then is unsteady: it is named with what failed, counted, and does not fail the run. More than ALLOWED
failed tests are no accident: none of them is run again. What failed or was unsteady is also written to the file that
$WEIR_VERDICTS names, so that who runs many steps can show it last.
"""

import os
import unittest

ALLOWED = 2
# Of an error's text: its end says what was wrong.
LINES = 25


def names(result):
    """The ids of the tests that failed, each once. A subtest fails its test."""
    return list(dict.fromkeys(getattr(test, "test_case", test).id() for test, _ in result.failures + result.errors))


def again(result, find, run):
    """Runs what failed once more; the ids of those that pass now.

    `find(ids)` gives fresh tests, `run(suite)` their result. What could not even be prepared has no test of that id and
    stays failed.
    """
    ids = names(result)
    if not 0 < len(ids) <= ALLOWED:
        return []
    tests = [test for test in find(ids) if test.id() in ids]
    if not tests:
        return []
    second = run(unittest.TestSuite(tests))
    bad = set(names(second)) | {test.id() for test, _ in second.skipped}
    # Where a class could not be prepared, its tests never began.
    begun = second.testsRun
    return [test.id() for test in tests if test.id() not in bad] if begun == len(tests) else []


def tell(result, passed_again):
    """Says what failed and what was unsteady, here and in $WEIR_VERDICTS."""
    texts = {}
    for test, text in result.failures + result.errors:
        texts.setdefault(getattr(test, "test_case", test).id(), text)
    lines = []
    for name, text in texts.items():
        lines.append(f"{'unsteady (failed, then passed)' if name in passed_again else 'FAILED'}: {name}")
        lines += [f"    {line}" for line in text.strip().splitlines()[-LINES:]]
    if not lines:
        return
    print("\n".join(lines), flush=True)
    if os.environ.get("WEIR_VERDICTS"):
        with open(os.environ["WEIR_VERDICTS"], "a", encoding="utf-8") as out:
            out.write("\n".join(lines) + "\n")
