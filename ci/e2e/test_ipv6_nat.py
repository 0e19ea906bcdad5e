"""HTTP over IPv6 by NAT: real servers that know nothing of the VIP and have the director for their gateway."""

import contextlib
import hashlib
import json
import unittest

import lab
import test_ipv6
from test_ipv6 import BODY, CLIENT, SERVERS, VIP, get

DIRECTOR = "fd20::2"
PORT = 8080
# wrr over the weights 4, 3 and 2, as over IPv4: see test_forwarding.
ROUND = "CBAABACBA"
# What fits one port; all else takes 1500.
SMALL = 1400

# Answers each request with its name and the client's address, or with a body; and a body with what it is.
SERVER = """
import hashlib, http.server, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        small = f"{sys.argv[1]} {self.client_address[0]}\\n".encode()
        self.answer(bytes(range(256)) * 4096 if self.path == "/down" else small)
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(hashlib.sha256(body).hexdigest().encode())
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        super().server_bind()
Server(("::", int(sys.argv[2])), Handler).serve_forever()
"""


def config(outer_mtu=1500, inner_mtu=1500):
    """A weir file with the IPv6 virtual server alone."""
    text = '[http]\nlisten = "127.0.0.1:9292"\n[connections]\ncapacity = 65_536\n'
    ports = (("outer", "fd10::2/64", outer_mtu), ("inner", f"{DIRECTOR}/64", inner_mtu))
    for number, (port, address, mtu) in enumerate(ports):
        text += f'[[port]]\nname = "{port}"\ndevice = "net_af_packet{number}"\naddresses = ["{address}"]\nmtu = {mtu}\n'
    text += f'[[virtual_server]]\nname = "web"\naddress = "{VIP}"\nport = 80\nscheduler = "wrr"\nforwarding = "nat"\n'
    for weight, address in zip((4, 3, 2), SERVERS.values()):
        text += f'[[virtual_server.real_server]]\naddress = "{address}"\nport = {PORT}\nweight = {weight}\n'
    return text


@contextlib.contextmanager
def network():
    """IPv6 in the nodes of the lab, and a server in each real server, whose gateway is the director."""
    nodes = ["client", *SERVERS]
    servers = []
    try:
        for node in nodes:
            test_ipv6.switch(node, 0)
        test_ipv6.address("client", "outer", f"{CLIENT}/64")
        for node, own in SERVERS.items():
            test_ipv6.address(node, "eth0", f"{own}/64")
            lab.run(node, "ip", "-6", "route", "add", "default", "via", DIRECTOR, check=True)
            servers.append(lab.start(node, "python3", "-c", SERVER, node, str(PORT)))
        for node, own in SERVERS.items():
            lab.wait_for(f"the server of {node}", lambda node=node, own=own: answers(node, own), lab.BUSY_SECONDS)
        yield
    finally:
        for server in servers:
            server.terminate()
            server.communicate()
        for node in nodes:
            # The addresses go with it.
            test_ipv6.switch(node, 1)


def answers(node, own):
    """Whether a real server answers itself."""
    return lab.run(node, "curl", "-sSg", "--max-time", "5", f"http://[{own}]:{PORT}/").returncode == 0


class Nat(unittest.TestCase):
    def requests(self, count):
        """What so many requests got: real server and client, in order."""
        seen = []
        for _ in range(count):
            done = get(VIP)
            self.assertEqual(done.returncode, 0, done.stderr)
            seen.append(tuple(done.stdout.split()))
        self.assertEqual({client for _, client in seen}, {CLIENT})
        return "".join(name for name, _ in seen)

    def download(self):
        """A body to the client, whole."""
        done = lab.run("client", "sh", "-c", f"curl -sSg --max-time 30 'http://[{VIP}]/down' | sha256sum")
        self.assertEqual(done.stdout.split()[0], hashlib.sha256(BODY).hexdigest(), done.stderr)

    def upload(self):
        """A body to a real server, whole."""
        path = lab.RUN / "up"
        path.write_bytes(BODY)
        done = lab.get(f"http://[{VIP}]/", "--globoff", "--max-time", "30", "--data-binary", f"@{path}")
        self.assertEqual((done.returncode, done.stdout), (0, hashlib.sha256(BODY).hexdigest()), done.stderr)

    def test_requests_and_answers_are_translated_over_ipv6(self):
        with network(), lab.Weir(config()) as weir:
            self.assertEqual(self.requests(18), ROUND * 2)
            self.download()
            self.upload()
            listed = json.loads(weir.http("/api/v1/connections").stdout)["connections"]
            self.assertEqual({(it["client"], it["address"], it["port"]) for it in listed}, {(CLIENT, VIP, 80)})
            self.assertEqual({(it["real_server"], it["real_server_port"]) for it in listed},
                             {(own, PORT) for own in SERVERS.values()})
            metrics = weir.metrics()
            self.assertEqual(metrics.total("weir_virtual_server_connections_total", virtual_server="web"), 20)
            out = metrics.total("weir_real_server_packets_total", virtual_server="web", direction="out")
            self.assertGreater(out, 1_000)

    def test_two_workers_serve_every_request_over_ipv6(self):
        with network(), lab.Weir(config(), environment={"WEIR_LAB_WORKERS": "2"}) as weir:
            self.requests(40)
            self.download()
            self.upload()
            metrics = weir.metrics()
            shares = [metrics.total("weir_connections", worker=worker) for worker in ("0", "1")]
            self.assertEqual(sum(shares), 42)
            self.assertGreater(min(shares), 0, "one worker had all connections, so nothing was shown")
            self.assertEqual(weir.said().count("NAT replies may come to another worker"), 1, "said once, not more")

    def test_both_ends_are_told_what_fits(self):
        """A veth device takes nothing that is longer than its MTU, so the way of the small packets is the narrow one."""
        for ports, transfer in (({"outer_mtu": SMALL}, self.download), ({"inner_mtu": SMALL}, self.upload)):
            with self.subTest(ports), network(), lab.Weir(config(**ports)) as weir:
                transfer()
                told = weir.metrics().total("weir_answers_total", kind="fragmentation_needed")
                self.assertGreater(told, 0, "nobody had to be told, so nothing was shown")


if __name__ == "__main__":
    unittest.main()
