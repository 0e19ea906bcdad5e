"""/live, /ready and /metrics."""

import subprocess
import unittest

import lab


# A hundred clients: half of them never finish a request, the others never read the page that they asked for. Then four
# usual ones. Idle ones are closed after ten seconds, so one that had to wait for that is later than its limit.
BAD_CLIENTS = """
import socket, urllib.request
bad = [socket.create_connection(("127.0.0.1", 9292)) for _ in range(100)]
for number, client in enumerate(bad):
    try:
        client.sendall(b"GET /metrics HTTP/1.1\\r\\nHost: localhost\\r\\n" + b"\\r\\n" * (number % 2))
    except OSError:
        pass  # It has given way already.
for path in ("/live", "/ready", "/metrics", "/live"):
    print(urllib.request.urlopen("http://127.0.0.1:9292" + path, timeout=9).status)
"""


class Http(unittest.TestCase):
    """One weir for all of these, which has served nine requests through each method."""

    @classmethod
    def setUpClass(cls):
        cls.weir = lab.Weir().__enter__()
        cls.addClassCleanup(cls.weir.__exit__, None, None, None)
        for vip in lab.VIPS.values():
            lab.answers(vip, 9)

    def test_live_and_ready_say_200(self):
        for path in ("/live", "/ready"):
            with self.subTest(path):
                self.assertEqual(self.weir.http(path, "-o", "/dev/null", "-w", "%{http_code}").stdout, "200")

    def test_an_unknown_page_is_404(self):
        self.assertEqual(self.weir.http("/nothing", "-o", "/dev/null", "-w", "%{http_code}").stdout, "404")

    def test_idle_clients_and_clients_that_do_not_read_keep_nobody_out(self):
        answer = lab.run("director", "python3", "-c", BAD_CLIENTS)
        self.assertEqual(answer.stdout.split(), ["200"] * 4, answer.stderr)

    def test_a_page_is_refused_to_who_asks_by_a_strange_name(self):
        answer = self.weir.http("/metrics", "-H", "Host: rebound.example", "-w", "%{http_code}").stdout
        self.assertEqual(answer, "rebound.example is no name of this director; ask by its address, or write the name "
                                 "into hosts of [http]\n421")

    def test_a_request_without_one_host_is_refused_with_400(self):
        wrong = ("", "Host: localhost\\r\\nHost: localhost\\r\\n", "Host: local host\\r\\n", "Host:\\r\\n", "Host: http://localhost\\r\\n")
        for path in ("/live", "/ready", "/metrics", "/nothing"):
            for host in wrong:
                with self.subTest(path, host=host):
                    self.assertEqual(self.status(f"GET {path} HTTP/1.1\\r\\n{host}Connection: close\\r\\n\\r\\n"), "400")
        # Who asks in the old way need not say.
        self.assertEqual(self.status("GET /live HTTP/1.0\\r\\n\\r\\n"), "200")
        self.assertEqual(self.status("GET /live HTTP/1.1\\r\\nHost: localhost:\\r\\nConnection: close\\r\\n\\r\\n"), "200")

    def status(self, request):
        """The status of the answer to a request that goes out as it is written here."""
        shell = f"exec 3<>/dev/tcp/127.0.0.1/9292; printf '{request}' >&3; head -n 1 <&3"
        return lab.run("director", "bash", "-c", shell, check=True).stdout.split()[1]

    def test_promtool_has_nothing_to_say_about_the_metrics(self):
        page = self.weir.http("/metrics").stdout
        done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))

    def test_metrics_have_the_content_type_that_prometheus_asks_for(self):
        kind = self.weir.http("/metrics", "-o", "/dev/null", "-w", "%{content_type}").stdout
        self.assertRegex(kind, r"^text/plain; *version=0\.0\.4")

    def test_every_metric_of_the_contract_is_there(self):
        names = {name for name, _ in self.weir.metrics()}
        wanted = {
            "weir_build_info", "weir_port_receive_packets_total", "weir_port_receive_bytes_total",
            "weir_port_transmit_packets_total", "weir_port_transmit_bytes_total", "weir_port_receive_missed_total",
            "weir_drops_total", "weir_worker_cycles_total", "weir_connections", "weir_connections_capacity",
            "weir_virtual_server_connections_total", "weir_virtual_server_packets_total",
            "weir_virtual_server_bytes_total", "weir_real_server_connections_total",
            "weir_real_server_active_connections", "weir_real_server_inactive_connections", "weir_real_server_weight",
            "weir_real_server_up", "weir_config_last_reload_successful", "weir_config_last_reload_timestamp_seconds",
        }
        self.assertEqual(wanted - names, set())

    def test_connections_are_counted_by_virtual_and_real_server(self):
        metrics = self.weir.metrics()
        for method, port in (("dr", 80), ("tun", 80), ("nat", 8080)):
            with self.subTest(method):
                self.assertEqual(metrics.total("weir_virtual_server_connections_total", virtual_server=method), 9)
                for (name, address), count in zip(lab.REAL_SERVERS.items(), (4, 3, 2)):
                    self.assertEqual(metrics.total("weir_real_server_connections_total", virtual_server=method,
                                                   real_server=f"{address}:{port}"), count, name)

    def test_only_nat_has_outgoing_packets(self):
        metrics = self.weir.metrics()
        for method in lab.VIPS:
            sent = metrics.total("weir_virtual_server_packets_total", virtual_server=method, direction="out")
            came = metrics.total("weir_virtual_server_packets_total", virtual_server=method, direction="in")
            with self.subTest(method):
                # A request is at least SYN, ACK, the request, FIN and an ACK.
                self.assertGreaterEqual(came, 9 * 5)
                self.assertEqual(sent > 0, method == "nat")

    def test_weights_are_published(self):
        metrics = self.weir.metrics()
        for address, weight in zip(lab.REAL_SERVERS.values(), (4, 3, 2)):
            self.assertEqual(metrics.total("weir_real_server_weight", virtual_server="dr", real_server=f"{address}:80"),
                             weight)

    def test_both_ports_count_what_they_carry(self):
        metrics = self.weir.metrics()
        for port in ("outer", "inner"):
            with self.subTest(port):
                self.assertGreater(metrics.total("weir_port_receive_packets_total", port=port), 0)
                self.assertGreater(metrics.total("weir_port_transmit_packets_total", port=port), 0)
