"""A mark groups addresses and ports: curl through them to nginx on the real servers."""

import signal
import unittest

import lab

HEAD = lab.config().partition("[[virtual_server]]")[0]
ROUND = "CBAABACBA"
SECOND_CLIENT = "10.10.0.11"
MEGABYTE = 1_000_000


def virtual_server(method, what, port=None):
    """The lab's three real servers behind one virtual server."""
    text = f'[[virtual_server]]\nname = "{method}"\nscheduler = "wrr"\nforwarding = "{method}"\n{what}\n'
    for address, weight in ((11, 4), (12, 3), (13, 2)):
        text += f'[[virtual_server.real_server]]\naddress = "10.20.0.{address}"\nweight = {weight}\n'
        text += f"port = {port}\n" if port else ""
    return text


def marked(method, addresses, ports, more="", port=None):
    """A file with one virtual server, a mark of these addresses and ports."""
    return f"{HEAD}[[mark]]\nmark = 7\naddresses = {list(addresses)}\nports = {ports}\n".replace("'", '"') + virtual_server(
        method, f"mark = 7\n{more}", port)


def picks(places, *options):
    """The real server of one request to each place."""
    names = ""
    for place in places:
        done = lab.get(f"http://{place}/", *options)
        if done.returncode != 0:
            raise AssertionError(f"{place}: {done.stderr.strip()}")
        names += done.stdout.split()[0]
    return names


class Marks(unittest.TestCase):
    """Two addresses and two ports behind one mark."""

    GROUPS = (("dr", ("10.10.0.100", "10.10.0.101")), ("nat", ("10.10.0.102", "10.10.0.103")))

    @staticmethod
    def places(addresses):
        """Every address with every port."""
        return [f"{address}:{port}" for address in addresses for port in (80, 8080)]

    def test_requests_to_all_addresses_and_ports_take_one_round(self):
        for method, addresses in self.GROUPS:
            with self.subTest(method), lab.Weir(marked(method, addresses, [80, 8080])):
                self.assertEqual(picks((self.places(addresses) * 5)[:18]), ROUND * 2)

    def test_with_persistence_a_client_has_one_real_server_in_all_of_them(self):
        lab.run("client", "ip", "address", "add", f"{SECOND_CLIENT}/24", "dev", "outer", check=True)
        self.addCleanup(lab.run, "client", "ip", "address", "del", f"{SECOND_CLIENT}/24", "dev", "outer")
        for method, addresses in self.GROUPS:
            text = marked(method, addresses, ["80", "8000-8999"], "persistence_timeout = 60")
            with self.subTest(method), lab.Weir(text) as weir:
                places = self.places(addresses) * 3
                first = picks(places)
                second = picks(places, "--interface", SECOND_CLIENT)
                metrics = weir.metrics()
                self.assertEqual((first, second), ("C" * len(places), "B" * len(places)))
                self.assertEqual(metrics.total("weir_virtual_server_connections_total", virtual_server=method), 24)

    def test_nat_translates_every_port_of_a_mark_to_the_servers_own(self):
        text = marked("nat", ("10.10.0.102",), ["81", "9000-9999"], port=8080)
        with lab.Weir(text):
            self.assertEqual(picks([f"10.10.0.102:{port}" for port in (81, 9000, 9999, 9123, 81, 9500, 9501, 9502, 9503)]),
                             ROUND)
            done = lab.get("http://10.10.0.102:80/")
        self.assertEqual(done.returncode, 7, f"port 80 has no mark, so it is refused: {done.stderr}")

    def test_a_network_is_served_where_proxy_arp_answers_for_it(self):
        text = marked("nat", ("10.10.0.112/28",), [80]).replace(
            'addresses = ["10.10.0.2/24"]', 'addresses = ["10.10.0.2/24"]\nproxy_arp = ["10.10.0.112/28"]')
        with lab.Weir(text):
            self.assertEqual(picks([f"10.10.0.{host}" for host in range(112, 121)]), ROUND)

    def test_a_download_goes_on_while_its_address_gets_a_mark(self):
        for name in lab.REAL_SERVERS:
            (lab.RUN / name / "files" / "slow").write_bytes(b"x" * MEGABYTE)
        for method, vip in (("dr", "10.10.0.100"), ("nat", "10.10.0.102")):
            addressed = HEAD + virtual_server(method, f'address = "{vip}"\nport = 80')
            regrouped = marked("nat", (vip,), [80]).replace('name = "nat"', 'name = "mark"').replace(
                'forwarding = "nat"', f'forwarding = "{method}"') + addressed.partition(HEAD)[2]
            with self.subTest(method), lab.Weir(addressed) as weir:
                download = lab.start("client", "curl", "-sS", "--fail", "--max-time", "30", "--limit-rate", "250k",
                                     "-o", "/dev/null", "-w", "%{size_download}", f"http://{vip}/files/slow")
                lab.wait_for("the download's connection",
                             lambda: weir.metrics().total("weir_connections") == 1, 5)
                weir.file.write_text(regrouped)
                weir.process.send_signal(signal.SIGHUP)
                lab.wait_for("reload", lambda: weir.metrics().total(
                    "weir_virtual_server_connections_total", virtual_server="mark") is not None, 5)
                self.assertEqual(picks([vip] * 9), ROUND, "new connections are the mark's")
                said, _ = download.communicate(timeout=40)
                self.assertEqual((download.returncode, said), (0, str(MEGABYTE)))
