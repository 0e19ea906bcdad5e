"""iperf3 through each method over both families: long streams to the real server and, by NAT, back."""

import contextlib
import json
import unittest

import lab
import test_ipv6

PORT = 5201
BYTES = 8 << 20
A, A6 = lab.REAL_SERVERS["A"], test_ipv6.SERVERS["A"]
DIRECTOR6 = "fd20::2"
# What A sends from its own IPv6 address goes back through the director, all else by its router.
TABLE = "66"
VIPS6 = {"dr": "fd10::100", "tun": "fd10::101", "nat": "fd10::102"}


def config():
    """A weir file with a virtual server for each method and family, all with A alone."""
    text = '[http]\nlisten = "127.0.0.1:9292"\n[connections]\ncapacity = 65_536\n'
    ports = {"outer": f'"{lab.DIRECTOR_OUTER}/24", "fd10::2/64"', "inner": f'"{lab.DIRECTOR_INNER}/24", "{DIRECTOR6}/64"'}
    for number, (port, addresses) in enumerate(ports.items()):
        text += f'[[port]]\nname = "{port}"\ndevice = "net_af_packet{number}"\naddresses = [{addresses}]\n'
    for suffix, vips, server in (("4", lab.VIPS, A), ("6", VIPS6, A6)):
        for method, vip in vips.items():
            text += (f'[[virtual_server]]\nname = "{method}{suffix}"\naddress = "{vip}"\nport = {PORT}\nforwarding = "{method}"\n'
                     f'[[virtual_server.real_server]]\naddress = "{server}"\nport = {PORT}\n')
    return text


@contextlib.contextmanager
def network():
    """IPv6 in the client and in A."""
    with contextlib.ExitStack() as undo:
        for node in ("client", "A"):
            test_ipv6.switch(node, 0)
            # The addresses and routes go with it.
            undo.callback(test_ipv6.switch, node, 1)
        test_ipv6.address("client", "outer", f"{test_ipv6.CLIENT}/64")
        test_ipv6.address("client", "inner", f"{test_ipv6.ROUTER}/64")
        test_ipv6.address("A", "eth0", f"{A6}/64")
        for method in ("dr", "tun"):
            test_ipv6.address("A", "lo", f"{VIPS6[method]}/128")
        lab.run("A", "ip", "-6", "route", "add", "default", "via", test_ipv6.ROUTER, check=True)
        lab.run("A", "ip", "-6", "route", "add", "default", "via", DIRECTOR6, "table", TABLE, check=True)
        lab.run("A", "ip", "-6", "rule", "add", "from", A6, "lookup", TABLE, check=True)
        undo.callback(lab.run, "A", "ip", "-6", "rule", "del", "from", A6, "lookup", TABLE)
        yield


@contextlib.contextmanager
def server():
    """iperf3 in A, for one stream. One that served several could still be busy with the one before."""
    process = lab.start("A", "iperf3", "-s", "-1", "-p", str(PORT))
    try:
        listens = lambda: "LISTEN" in lab.run("A", "ss", "-Hltn", f"sport = :{PORT}").stdout
        lab.wait_for("iperf3", listens, lab.BUSY_SECONDS)
        yield
    finally:
        process.terminate()
        process.communicate()


class Streams(unittest.TestCase):
    def stream(self, vip, *options):
        """A stream ends well at both ends."""
        with server():
            done = lab.run("client", "iperf3", "-c", vip, "-p", str(PORT), "-J", "-n", str(BYTES), *options)
        self.assertEqual(done.returncode, 0, f"{vip} {options}: {done.stdout}{done.stderr}")
        end = json.loads(done.stdout)["end"]
        self.assertGreaterEqual(end["sum_sent"]["bytes"], BYTES)
        # The rest lies in the receiver's socket at that moment.
        self.assertGreater(end["sum_received"]["bytes"], BYTES / 4)

    def streams(self, workers):
        """One stream up through each virtual server and one down, each with a control connection of its own."""
        with network(), lab.Weir(config(), environment={"WEIR_LAB_WORKERS": str(workers)}) as weir:
            for suffix, vips in (("4", lab.VIPS), ("6", VIPS6)):
                for method, vip in vips.items():
                    with self.subTest(method=method, vip=vip):
                        self.stream(vip)
                        self.stream(vip, "-R")
                        opened = weir.metrics().total("weir_virtual_server_connections_total", virtual_server=method + suffix)
                        self.assertEqual(opened, 4)
            metrics = weir.metrics()
            shares = [metrics.total("weir_connections", worker=str(worker)) for worker in range(workers)]
            self.assertEqual(sum(shares), 4 * 6)
            self.assertGreater(min(shares), 0, "a worker had no connection, so nothing was shown")

    def test_one_worker_carries_streams_of_both_families_by_each_method(self):
        self.streams(1)

    def test_two_workers_carry_streams_of_both_families_by_each_method(self):
        self.streams(2)


if __name__ == "__main__":
    unittest.main()
