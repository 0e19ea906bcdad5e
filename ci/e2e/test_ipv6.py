"""HTTP over IPv6 by direct routing and tunnels: a real client, real servers that have the VIP on lo, and neighbour discovery on both
sides."""

import contextlib
import hashlib
import json
import unittest

from scapy.all import IP, IPv6, PcapReader

import health
import lab
import test_weirctl

CLIENT = "fd10::10"
ROUTER = "fd20::1"
VIP = "fd10::100"
PLAIN = "fd10::101"
SERVERS = {"A": "fd20::11", "B": "fd20::12", "C": "fd20::13"}
# wrr over the weights 4, 3 and 2, as over IPv4: see test_forwarding.
ROUND = "CBAABACBA"
BODY = bytes(range(256)) * 4096

# Answers each request with its name and the client's address, or with a body.
SERVER = """
import hashlib, http.server, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = bytes(range(256)) * 4096 if self.path == "/down" else f"{sys.argv[1]} {self.client_address[0]}\\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        digest = hashlib.sha256(body).hexdigest().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(digest)))
        self.end_headers()
        self.wfile.write(digest)
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        super().server_bind()
Server(("::", 80), Handler).serve_forever()
"""


def config(servers=tuple(SERVERS.values()), keys=(), mtu=1500):
    """A weir file with the IPv6 virtual server alone; `keys` are lines of each real server, `mtu` is that of the way to them."""
    text = '[http]\nlisten = "127.0.0.1:9292"\n[connections]\ncapacity = 65_536\n'
    ports = {"outer": '"fd10::2/64"', "inner": f'"fd20::2/64", "{lab.DIRECTOR_INNER}/24"'}
    for number, (port, addresses) in enumerate(ports.items()):
        text += f'[[port]]\nname = "{port}"\ndevice = "net_af_packet{number}"\naddresses = [{addresses}]\n'
        text += f"mtu = {mtu}\n" if port == "inner" else ""
    text += f'[[virtual_server]]\nname = "web"\naddress = "{VIP}"\nport = 80\nprotocol = "tcp"\nscheduler = "wrr"\n'
    for weight, address in zip((4, 3, 2), servers):
        text += "\n".join(["[[virtual_server.real_server]]", f'address = "{address}"', "port = 80", f"weight = {weight}", *keys, ""])
    return text


def address(node, device, text):
    """Gives a node an IPv6 address that it uses at once."""
    lab.run(node, "ip", "-6", "address", "add", text, "dev", device, "nodad", check=True)


@contextlib.contextmanager
def network():
    """IPv6 in the nodes of the lab, and a server in each real server."""
    nodes = ["client", *SERVERS]
    servers = []
    try:
        for node in nodes:
            switch(node, 0)
        address("client", "outer", f"{CLIENT}/64")
        address("client", "inner", f"{ROUTER}/64")
        for node, own in SERVERS.items():
            address(node, "eth0", f"{own}/64")
            address(node, "lo", f"{VIP}/128")
            lab.run(node, "ip", "-6", "route", "add", "default", "via", ROUTER, check=True)
            servers.append(lab.start(node, "python3", "-c", SERVER, node))
        for node, own in SERVERS.items():
            lab.wait_for(f"the server of {node}", lambda own=own: get(own).returncode == 0, lab.BUSY_SECONDS)
        yield
    finally:
        for server in servers:
            server.terminate()
            server.communicate()
        for node in nodes:
            # The addresses go with it.
            switch(node, 1)


def switch(node, off):
    """IPv6 off or on in a node."""
    settings = [f"net.ipv6.conf.{kind}.disable_ipv6={off}" for kind in ("all", "default")]
    lab.run(node, "sysctl", "-q", "-w", *settings, check=True)


def get(host, path="/"):
    """curl of an IPv6 address, in the client."""
    return lab.get(f"http://[{host}]{path}", "--globoff")


class DirectRouting(unittest.TestCase):
    def test_requests_follow_the_wrr_of_the_kernel_and_arrive_whole_over_ipv6(self):
        with network(), lab.Weir(config()) as weir:
            seen = []
            for _ in range(18):
                done = get(VIP)
                self.assertEqual(done.returncode, 0, done.stderr)
                seen.append(tuple(done.stdout.split()))
            self.assertEqual("".join(name for name, _ in seen), ROUND * 2)
            self.assertEqual({client for _, client in seen}, {CLIENT})
            listed = json.loads(weir.http("/api/v1/connections").stdout)["connections"]
            self.assertEqual({(it["client"], it["address"], it["port"]) for it in listed}, {(CLIENT, VIP, 80)})
            self.assertEqual({it["real_server"] for it in listed}, set(SERVERS.values()))
            for _ in range(3):
                done = lab.run("client", "sh", "-c", f"curl -sSg --max-time 20 'http://[{VIP}]/down' | sha256sum")
                self.assertEqual(done.stdout.split()[0], hashlib.sha256(BODY).hexdigest(), done.stderr)
            self.assertEqual(lab.run("client", "ping", "-6", "-c", "2", "-i", "0.2", VIP).returncode, 0)
            metrics = weir.metrics()
            self.assertEqual(metrics.total("weir_virtual_server_connections_total", virtual_server="web"), 21)
            self.assertGreater(metrics.total("weir_nd_solicitations_total"), 0)

    def test_the_client_is_told_what_fits_the_way_to_the_servers(self):
        path = lab.RUN / "up"
        path.write_bytes(BODY)
        with network(), lab.Weir(config(mtu=1400)) as weir:
            done = lab.get(f"http://[{VIP}]/", "--globoff", "--max-time", "30", "--data-binary", f"@{path}")
            self.assertEqual((done.returncode, done.stdout), (0, hashlib.sha256(BODY).hexdigest()), done.stderr)
            self.assertGreater(weir.metrics().total("weir_answers_total", kind="fragmentation_needed"), 0)


class Tunnels(unittest.TestCase):
    """Each kind of tunnel, to real servers of either family."""

    # The keys of a real server, what the tunnel's own headers take, and the outer protocol.
    KINDS = (((), 0, 41), (('tunnel = "gue"',), 12, 17), (('tunnel = "gue"', 'tunnel_checksum = "csum"'), 12, 17),
             (('tunnel = "gre"',), 4, 47), (('tunnel = "gre"', 'tunnel_checksum = "csum"'), 8, 47))

    def post(self, path):
        """What a real server made of a body that the client sent whole."""
        return lab.get(f"http://[{VIP}]/", "--globoff", "--max-time", "30", "--data-binary", f"@{path}")

    def client_mtu(self):
        """What the client has learned of the way to the VIP."""
        words = lab.run("client", "ip", "-6", "route", "get", VIP, check=True).stdout.split()
        return int(words[words.index("mtu") + 1]) if "mtu" in words else None

    def serve(self, servers, keys, mtu=1500):
        """Requests, an upload of full segments, what came at C, and the MTU that the client knows then."""
        path = lab.RUN / "up"
        path.write_bytes(BODY)
        lab.run("client", "ip", "-6", "route", "flush", "cache", check=True)
        with lab.Weir(config(servers, ('forwarding = "tun"', *keys), mtu)), lab.capture("C", "eth0") as came:
            seen = []
            for _ in range(9):
                done = get(VIP)
                self.assertEqual(done.returncode, 0, done.stderr)
                seen.append(tuple(done.stdout.split()))
            done = self.post(path)
        self.assertEqual(("".join(name for name, _ in seen), {client for _, client in seen}), (ROUND, {CLIENT}))
        self.assertEqual((done.returncode, done.stdout), (0, hashlib.sha256(BODY).hexdigest()), done.stderr)
        return came, self.client_mtu()

    def test_clients_are_served_over_ipv6_and_told_what_fits(self):
        with network():
            for keys, shim, protocol in self.KINDS:
                with self.subTest(keys):
                    came, mtu = self.serve(tuple(SERVERS.values()), keys)
                    outer = [frame[IPv6] for frame in packets(came)
                             if IPv6 in frame and frame[IPv6].src == "fd20::2" and frame[IPv6].nh == protocol]
                    self.assertEqual((mtu, max(packet.plen for packet in outer)), (1460 - shim, 1460))
                    self.assertEqual({packet.dst for packet in outer}, {SERVERS["C"]})

    def test_clients_are_served_over_ipv4_and_told_what_fits(self):
        with network():
            for keys, shim, protocol in self.KINDS:
                with self.subTest(keys):
                    came, mtu = self.serve(tuple(lab.REAL_SERVERS.values()), keys)
                    outer = [frame[IP] for frame in packets(came)
                             if IP in frame and frame[IP].src == lab.DIRECTOR_INNER and frame[IP].proto == protocol]
                    self.assertEqual((mtu, max(packet.len for packet in outer)), (1480 - shim, 1500))
                    self.assertEqual({packet.dst for packet in outer}, {lab.REAL_SERVERS["C"]})

    def test_a_way_of_1280_bytes_cuts_tunnel_packets_and_not_the_transfer(self):
        with network():
            for servers in (SERVERS, lab.REAL_SERVERS):
                with self.subTest(servers):
                    _, mtu = self.serve(tuple(servers.values()), (), 1280)
                    self.assertEqual(mtu, 1280)


def packets(path):
    """Every frame of a capture."""
    with PcapReader(str(path)) as reader:
        return list(reader)


class TwoWorkers(unittest.TestCase):
    """As test_workers, over IPv6; NAT is in test_ipv6_nat."""

    def serves(self, servers, *keys):
        path = lab.RUN / "up"
        path.write_bytes(BODY)
        lab.run("client", "ip", "-6", "route", "flush", "cache", check=True)
        with lab.Weir(config(servers, keys), environment={"WEIR_LAB_WORKERS": "2"}) as weir:
            seen = []
            for _ in range(40):
                done = get(VIP)
                self.assertEqual(done.returncode, 0, done.stderr)
                seen.append(done.stdout.split()[1])
            done = lab.get(f"http://[{VIP}]/", "--globoff", "--max-time", "30", "--data-binary", f"@{path}")
            self.assertEqual((done.returncode, done.stdout), (0, hashlib.sha256(BODY).hexdigest()), done.stderr)
            metrics = weir.metrics()
            self.assertEqual(set(seen), {CLIENT})
            shares = [metrics.total("weir_connections", worker=worker) for worker in ("0", "1")]
            self.assertEqual(sum(shares), 41)
            self.assertGreater(min(shares), 0, "one worker had all connections, so nothing was shown")
            self.assertEqual(metrics.total("weir_untracked_packets_total"), 0)

    def test_two_workers_serve_every_request_by_direct_routing_over_ipv6(self):
        with network():
            self.serves(tuple(SERVERS.values()))

    def test_two_workers_serve_every_request_by_tunnel_over_ipv6(self):
        with network():
            for servers in (SERVERS, lab.REAL_SERVERS):
                with self.subTest(servers):
                    self.serves(tuple(servers.values()), 'forwarding = "tun"')


class Persistence(unittest.TestCase):
    def test_a_clients_network_stays_with_one_server_and_is_listed(self):
        lasting = 'scheduler = "rr"\npersistence_timeout = 60\npersistence_netmask = 64\n'
        with network(), lab.Weir(config().replace('scheduler = "wrr"\n', lasting)) as weir:
            seen = {get(VIP).stdout.split()[0] for _ in range(3)}
            address("client", "outer", "fd10::77/64")
            other = lab.get(f"http://[{VIP}]/", "--globoff", "--interface", "fd10::77").stdout.split()
            self.assertEqual((len(seen), {other[0]}, other[1]), (1, seen, "fd10::77"))
            listed = json.loads(weir.http("/api/v1/connections?templates=yes").stdout)["connections"]
            (template,) = (it for it in listed if it["client_port"] == 0)
            self.assertEqual((template["client"], template["address"], template["port"], template["real_server"]),
                             ("fd10::", VIP, 80, SERVERS[other[0]]))
            self.assertEqual({(it["client"], it["persistent"]) for it in listed if it["client_port"]},
                             {(CLIENT, True), ("fd10::77", True)})


def checked():
    """A weir file with host interfaces: `web` is checked by the way of clients' packets, `plain` at the servers' own addresses."""
    text = config()
    for number in range(2):
        device = f'device = "net_af_packet{number}"\n'
        text = text.replace(device, f'{device}host_interface = "weir{number}"\n')
    times = "interval = 0.5\ntimeout = 2.0\nfall = 2\njitter = 0\nwarmup = 0\n"
    before, after = text.split('scheduler = "wrr"\n')
    both = ""
    for name, vip, via in (("web", VIP, "forwarding"), ("plain", PLAIN, "address")):
        check = f'[virtual_server.health_check]\ntype = "tcp"\nvia = "{via}"\n{times}'
        head = before[before.index("[[virtual_server]]"):].replace('"web"', f'"{name}"').replace(VIP, vip)
        both += f'{head}scheduler = "wrr"\non_fail = "quiesce"\n{check}{after}'
    return before[:before.index("[[virtual_server]]")] + both


class Checks(unittest.TestCase):
    def test_a_server_that_lacks_the_vip_is_quiesced_by_a_check_of_the_vip_alone(self):
        servers = {node: f"[{address}]" for node, address in SERVERS.items()}
        with network(), contextlib.ExitStack() as undo:
            switch("director", 0)
            undo.callback(switch, "director", 1)
            # What comes to the ports is weir's; the kernel has it from the taps.
            off = [f"net.ipv6.conf.{device}.disable_ipv6=1" for device in ("outer", "inner")]
            lab.run("director", "sysctl", "-q", "-w", *off, check=True)
            with lab.Weir(checked()) as weir:
                for name in ("web", "plain"):
                    lab.wait_for(f"{name} checked", lambda name=name: all(
                        server["checks"][0]["verdict"] == "up"
                        for server in health.listing(weir, name)["real_servers"]), 30)
                lab.run("A", "ip", "-6", "address", "del", f"{VIP}/128", "dev", "lo", check=True)
                health.wait_until_up(weir, "web", [servers["B"], servers["C"]], 20)
                seen = {get(VIP).stdout.split()[0] for _ in range(6)}
                self.assertEqual(seen, {"B", "C"})
                self.assertEqual(health.up(weir, "plain"), set(servers.values()))
                address("A", "lo", f"{VIP}/128")
                health.wait_until_up(weir, "web", servers.values(), 20)
                # Nobody's connection is made by a check.
                told = weir.http(f"/api/v1/explain?protocol=tcp&source=[{CLIENT}]:4000&destination=[{VIP}]:80", "--globoff")
                (verdict,) = json.loads(told.stdout)["verdicts"]
                self.assertEqual((verdict["verdict"], verdict["connection"], verdict["virtual_server"]),
                                 ("forwarded", "new", "web"))
                self.assertIn(verdict["real_server"], SERVERS.values())


class Marks(unittest.TestCase):
    def test_a_mark_of_everything_serves_what_is_routed_here_and_leaves_neighbour_discovery_alone(self):
        text = config().replace(f'address = "{VIP}"\nport = 80\nprotocol = "tcp"\n', 'mark = 1\nfamily = "ipv6"\n')
        with network(), lab.Weir(text + '[[mark]]\nmark = 1\naddresses = ["::/0"]\n') as weir:
            # Nobody answers for an address of a network: it is routed to weir, whose own address the client asks for.
            lab.run("client", "ip", "-6", "route", "add", f"{VIP}/128", "via", "fd10::2", check=True)
            self.assertEqual(lab.run("client", "ping", "-6", "-c", "2", "-i", "0.2", "fd10::2").returncode, 0)
            seen = [get(VIP).stdout.split()[0] for _ in range(9)]
            self.assertEqual("".join(seen), ROUND)
            self.assertGreater(weir.metrics().total("weir_answers_total", kind="nd"), 0)


class AtRunTime(unittest.TestCase):
    """Virtual servers of IPv6 that come while weir runs."""

    def setUp(self):
        self.socket = lab.RUN / "ipv6.sock"
        ports, servers = config().split("[[virtual_server]]", 1)
        # As a site that has served IPv4 alone, in default settings.
        self.text = f'[control]\nsocket = "{self.socket}"\n' + ports.replace("capacity = 65_536\n", "")
        self.servers = f"[[virtual_server]]{servers}"

    def weirctl(self, *arguments):
        return lab.run("director", test_weirctl.WEIRCTL, "--socket", str(self.socket), *arguments)

    def test_the_first_one_is_served_and_listed_and_a_reload_is_taken(self):
        with network(), lab.Weir(self.text) as weir:
            self.assertEqual(weir.metrics().total("weir_ipv6_clients_capacity", worker="0"), 1_048_576 / 64)
            for arguments in (("add", "virtual-server", "web", f"address={VIP}", "port=80", "protocol=tcp", "scheduler=rr",
                               "persistence_timeout=60"),
                              *(("add", "real-server", "web", f"[{server}]:80") for server in SERVERS.values())):
                done = self.weirctl(*arguments)
                self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(len({get(VIP).stdout for _ in range(6)}), 1, "they are persistent")
            listed = json.loads(weir.http("/api/v1/connections?templates=yes").stdout)["connections"]
            self.assertEqual({(it["client"], it["address"], it["persistent"]) for it in listed if it["client_port"]},
                             {(CLIENT, VIP, True)})
            self.assertEqual([it["client"] for it in listed if not it["client_port"]], [CLIENT])
            weir.file.write_text(self.text + self.servers)
            done = self.weirctl("reload")
            self.assertEqual(done.returncode, 0, done.stderr)
            seen = [get(VIP).stdout.split()[0] for _ in range(9)]
            self.assertEqual({name: seen.count(name) for name in SERVERS}, {"A": 4, "B": 3, "C": 2}, seen)
            metrics = weir.metrics()
            self.assertEqual((metrics.total("weir_untracked_packets_total"), metrics.total("weir_ipv6_clients_full_total")), (0, 0))

    def test_none_is_taken_where_the_file_wants_no_room_for_it(self):
        none = self.text.replace("[connections]\n", "[connections]\nipv6_clients = 0\n")
        room = "there is no room for IPv6 clients"
        with lab.Weir(none) as weir:
            done = self.weirctl("add", "virtual-server", "web", f"address={VIP}", "port=80", "protocol=tcp")
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, f"^weirctl: .*{room}.*leave `ipv6_clients` out, or write at least 1024, and restart weir")
            for text, words in ((none + self.servers, room),
                                (self.text + self.servers, "`ipv6_clients` of [connections] (in force: 0) can't change while weir runs")):
                weir.file.write_text(text)
                done = self.weirctl("reload")
                self.assertEqual(done.returncode, 1)
                self.assertIn(words, done.stderr)
            self.assertEqual(json.loads(weir.http("/api/v1/virtual_servers").stdout)["virtual_servers"], [])


if __name__ == "__main__":
    unittest.main()
