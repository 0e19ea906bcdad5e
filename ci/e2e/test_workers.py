"""Two workers with two queues a port: a reply may come in on the queue of a worker that does not have its connection."""

import json
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

    def explained(self, port, more=""):
        """What the workers say of a packet from this port of the client's."""
        ends = f"source={lab.CLIENT}:{port}&destination={lab.VIPS['nat']}:80"
        done = lab.run("director", "curl", "-sS", "--fail", f"{lab.HTTP}/api/v1/explain?protocol=tcp&{ends}{more}", check=True)
        explanation = json.loads(done.stdout)
        self.assertEqual(explanation["silent"], [])
        return explanation["verdicts"]

    def test_each_worker_explains_what_it_would_do_and_both_know_a_connection(self):
        with lab.Weir(environment=TWO):
            for port in range(45000, 45006):
                new = self.explained(port)
                self.assertEqual(sorted(worker for it in new for worker in it["workers"]), [0, 1])
                self.assertEqual({it["connection"] for it in new}, {"new"})
                done = lab.get(f"http://{lab.VIPS['nat']}/", "--local-port", str(port))
                server = lab.REAL_SERVERS[done.stdout.split()[0]]
                self.assertIn(server, {it["real_server"] for it in new})
                # The worker that has it says so; the other one finds it there.
                known = self.explained(port, "&segment=ack")
                known += self.explained(port, "&segment=ack&worker=0") + self.explained(port, "&segment=ack&worker=1")
                self.assertEqual({(it["connection"], it["real_server"]) for it in known}, {("existing", server)})

    def test_dr_serves_every_request(self):
        self.serves("dr")

    def test_tun_serves_every_request(self):
        self.serves("tun")

    def test_nat_serves_every_request(self):
        self.serves("nat")
