"""Two workers with two queues a port: a reply may come in on the queue of a worker that does not have its connection."""

import unittest

import lab

TWO = {"WEIR_LAB_WORKERS": "2"}


class TwoWorkers(unittest.TestCase):
    """HTTP through each method while the kernel spreads frames over both queues as it likes."""

    # Stray replies are not counted: a server may still end a connection of the test before.
    def serves(self, method):
        with lab.Weir(environment=TWO) as weir:
            seen = lab.answers(lab.VIPS[method], 60)
            metrics = weir.metrics()
            said = weir.said()
        self.assertEqual({client for _, client in seen}, {lab.CLIENT})
        shares = [metrics.total("weir_connections", worker=worker) for worker in ("0", "1")]
        self.assertEqual(sum(shares), 60)
        self.assertGreater(min(shares), 0, "one worker had all connections, so nothing was shown")
        self.assertEqual(said.count("NAT replies may come to another worker"), 1, "said once, not more")

    def test_dr_serves_every_request(self):
        self.serves("dr")

    def test_tun_serves_every_request(self):
        self.serves("tun")

    def test_nat_serves_every_request(self):
        self.serves("nat")
