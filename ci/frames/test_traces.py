"""The kernel's scheduling traces through the real binary: who is picked, and the active and inactive connections."""

import collections
import fnmatch
import unittest

import traces
from harness import Live

# Scenarios with the same clients and ports in one run. Not more: a client that uses one port for dozens of virtual
# servers finds no room for more records.
TOGETHER = 12

# Where weir knowingly does something else: (file, pattern of the scenario) -> why. Each must really differ.
DEVIATIONS = {}

# {file: Counter}, filled while the tests run.
OUTCOMES = collections.defaultdict(collections.Counter)

LIVE = None


def setUpModule():
    global LIVE
    LIVE = None


def tearDownModule():
    if LIVE is not None:
        LIVE.close()


def live():
    """The wires, made when the first test needs them."""
    global LIVE
    if LIVE is None:
        LIVE = Live()
    return LIVE


def deviation(file, scenario):
    """The reason why this scenario may differ, or None."""
    for (of_file, pattern), reason in DEVIATIONS.items():
        if of_file == file and fnmatch.fnmatch(scenario, pattern):
            return reason
    return None


class Traces(unittest.TestCase):
    """One test a run of weir, added below; each scenario is a sub-test."""

    def check(self, file, scenarios, is_six=False):
        outcome = OUTCOMES[f"{file} in IPv6" if is_six else file]
        for name, problems in traces.Group(scenarios, is_six).play(live).items():
            reason = deviation(file, name)
            outcome["compared"] += 1
            outcome["differing"] += bool(problems)
            with self.subTest(name):
                if reason and not problems:
                    self.fail(f"{name} does not deviate any more; take it out of DEVIATIONS")
                if problems and not reason:
                    self.fail("\n  ".join([name, *problems[:4]]))

    def test_a_wrong_pick_or_count_is_found(self):
        """A comparison that can't fail proves nothing; once over captures and once on wires."""
        one_way = next(scenario for scenario in traces.load("thresholds") if scenario["scheduler"] == "rr")
        edited = next(scenario for scenario in traces.load("reconfig") if scenario["scheduler"] == "wrr")
        scripted = next(scenario for scenario in traces.load("conns2") if scenario["scheduler"] == "fo")
        self.assertNotEqual(one_way["flows"][5]["picked"], edited["flows"][5]["picked"])
        one_way["flows"][5]["picked"], edited["flows"][5]["picked"] = (
            edited["flows"][5]["picked"], one_way["flows"][5]["picked"])
        one_way["counts_after"][0]["active"] += 1
        edited["counts_after"][0]["inact"] += 1
        next(op for op in scripted["ops"] if op["op"] == "rs")["forwarded"] = False
        scripted["ops"][-1]["counts"][0]["active"] += 1
        for scenario in (one_way, edited, scripted):
            (problems,) = traces.Group([scenario]).play(live).values()
            self.assertEqual(len(problems), 2, problems)
            self.assertIn("frames differ, first number", problems[0])
            self.assertIn("active and inactive", problems[1])

    def test_every_scheduler_has_traces(self):
        found = {scenario["scheduler"] for scenario in traces.load("basic")}
        self.assertEqual(found, set("rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh".split()))


def add_tests():
    """One method a group of scenarios."""
    for file in traces.FILES:
        for number, group in enumerate(traces.groups(traces.load(file), TOGETHER)):
            names = sorted({scenario["scheduler"] for scenario in group})
            stem = "_".join(names) if len(names) < 4 else f"{len(names)}_schedulers"

            def method(self, file=file, group=group):
                self.check(file, group)
            setattr(Traces, f"test_{file}_{number:02}_{stem}_goes_as_in_the_kernel", method)
    for file in traces.FILES6:
        scenarios = [scenario for scenario in traces.load(file) if traces.goes_in_ipv6(scenario)]
        for number, group in enumerate(traces.groups(scenarios, TOGETHER)):
            def method6(self, file=file, group=group):
                self.check(file, group, is_six=True)
            setattr(Traces, f"test_{file}_{number:02}_goes_over_ipv6_as_in_the_kernel", method6)


def report():
    """Lines about what was compared, for the end of a run."""
    lines = []
    for file in traces.FILES:
        for name in (file, f"{file} in IPv6"):
            if OUTCOMES[name]["compared"] or name == file:
                lines.append(f"sched/{name}: {OUTCOMES[name]['compared']} traces compared, "
                             f"{OUTCOMES[name]['differing']} differing")
    lines += [f"  deviates by intent: {file} {pattern}: {reason}" for (file, pattern), reason in DEVIATIONS.items()]
    return lines


add_tests()
