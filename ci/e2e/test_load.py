"""Keep-alive load by wrk through each forwarding method, without a single error."""

import os
import re
import unittest

import lab

REQUESTS = int(os.environ.get("WEIR_E2E_REQUESTS", "20000"))
CONNECTIONS = 32
SECONDS_PER_RUN = 5
RUNS_MAX = 60
# wrk prints these lines only when there is something to say.
ERRORS = re.compile(r"^\s*(Socket errors:.*|Non-2xx or 3xx responses:.*)$", re.M)


class Load(unittest.TestCase):
    """wrk runs for a time, not for a number of requests: it is run until there were enough."""

    def load(self, method):
        """Sends at least REQUESTS requests; fails at the first run with an error."""
        done = 0
        with lab.Weir() as weir:
            for _ in range(RUNS_MAX):
                report = lab.run("client", "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS_PER_RUN}s", "--timeout", "5s",
                                 f"http://{lab.VIPS[method]}/", check=True).stdout
                self.assertEqual(ERRORS.findall(report), [], report)
                done += int(re.search(r"(\d+) requests in", report).group(1))
                if done >= REQUESTS:
                    break
            drops = {dict(labels)["reason"]: value for (name, labels), value in weir.metrics().items()
                     if name == "weir_drops_total" and value}
        self.assertGreaterEqual(done, REQUESTS)
        print(f"{method}: {done} requests, no error; drops: {drops}")

    def test_nat_serves_every_request(self):
        self.load("nat")

    def test_dr_serves_every_request(self):
        self.load("dr")

    def test_tun_serves_every_request(self):
        self.load("tun")
