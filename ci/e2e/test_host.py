"""The director's own traffic through its host interfaces, beside the virtual servers."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import unittest

import lab

TAPS = {"outer": "weir0", "inner": "weir1"}
ADDRESSES = {"outer": lab.DIRECTOR_OUTER, "inner": lab.DIRECTOR_INNER}
ADDED = "10.10.0.77"


def config(taps=None):
    """The lab's file with a host interface on each port."""
    text = lab.config()
    for port, tap in (TAPS if taps is None else taps).items():
        line = f'addresses = ["{ADDRESSES[port]}/24"]'
        assert line in text, text
        text = text.replace(line, f'{line}\nhost_interface = "{tap}"')
    return text


@contextlib.contextmanager
def service(node, *command):
    """A server in a node for the length of the block."""
    process = subprocess.Popen(lab.inside(node, *command), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


def addresses(tap):
    """The IPv4 addresses of a tap, none if it is not there."""
    shown = lab.run("director", "ip", "-j", "-4", "address", "show", "dev", tap)
    links = json.loads(shown.stdout) if shown.returncode == 0 else []
    return [entry["local"] for link in links for entry in link.get("addr_info", [])]


def exists(tap):
    """Whether the director has an interface of this name."""
    return lab.run("director", "ip", "link", "show", "dev", tap).returncode == 0


class Host(unittest.TestCase):
    """One weir for all of these: none of them changes it for another."""

    @classmethod
    def setUpClass(cls):
        cls.weir = lab.Weir(config()).__enter__()
        cls.addClassCleanup(cls.weir.__exit__, None, None, None)

    def assertPings(self, node, address, *options):
        """Three pings of three are answered."""
        done = lab.run(node, "ping", "-n", "-c", "3", "-i", "0.2", "-W", "2", *options, address)
        self.assertIn(" 0% packet loss", done.stdout, done.stdout + done.stderr)

    def test_a_tap_has_the_mac_mtu_and_addresses_of_its_port(self):
        for port, tap in TAPS.items():
            shown = json.loads(lab.run("director", "ip", "-j", "address", "show", "dev", tap, check=True).stdout)[0]
            self.assertEqual(shown["address"], lab.mac_of("director", port))
            self.assertEqual(shown["mtu"], 1500)
            self.assertIn("LOWER_UP", shown["flags"])
            self.assertEqual(addresses(tap), [ADDRESSES[port]])
        route = lab.run("director", "ip", "route", "get", lab.CLIENT, check=True).stdout
        self.assertIn("dev weir0 ", route)

    def test_the_director_answers_ping_and_pings(self):
        self.assertPings("client", lab.DIRECTOR_OUTER)
        self.assertPings("A", lab.DIRECTOR_INNER)
        self.assertPings("director", lab.CLIENT)
        self.assertPings("director", lab.REAL_SERVERS["B"])

    def test_full_frames_pass_both_ways(self):
        self.assertPings("client", lab.DIRECTOR_OUTER, "-s", "1472", "-M", "do")
        self.assertPings("director", lab.REAL_SERVERS["A"], "-s", "1472", "-M", "do")

    def test_a_vip_is_answered_by_weir_and_not_by_the_kernel(self):
        before = self.weir.metrics().total("weir_answers_total", kind="echo")
        self.assertPings("client", lab.VIPS["dr"])
        self.assertEqual(self.weir.metrics().total("weir_answers_total", kind="echo"), before + 3)

    def test_arp_for_the_director_is_answered_once(self):
        done = lab.run("client", "arping", "-i", "outer", "-c", "3", lab.DIRECTOR_OUTER)
        answers = [line for line in done.stdout.splitlines() if "index=" in line]
        self.assertEqual(len(answers), 3, done.stdout)
        self.assertEqual(set(lab.MAC.findall("\n".join(answers))), {lab.mac_of("director", "outer")})

    def test_a_server_on_the_director_is_reached_and_gives_a_megabyte_whole(self):
        files = lab.RUN / "host-files"
        files.mkdir(exist_ok=True)
        body = os.urandom(1 << 20)
        (files / "megabyte").write_bytes(body)
        with service("director", sys.executable, "-m", "http.server", "--bind", lab.DIRECTOR_OUTER,
                     "--directory", str(files), "2280"):
            url = f"http://{lab.DIRECTOR_OUTER}:2280/megabyte"
            lab.wait_for("the server", lambda: lab.get(url, "-o", "/dev/null").returncode == 0, 5)
            done = subprocess.run(lab.inside("client", "curl", "--silent", "--fail", "--max-time", "10", url),
                                  capture_output=True)
        self.assertEqual(done.stdout, body)

    def test_bulk_tcp_both_ways(self):
        with service("director", "iperf3", "-s", "-B", lab.DIRECTOR_OUTER, "--one-off"):
            lab.wait_for("iperf3", lambda: "LISTEN" in lab.run("director", "ss", "-Hltn", "sport = :5201").stdout, 5)
            command = ["iperf3", "-c", lab.DIRECTOR_OUTER, "-J", "-t", "2", "--bidir"]
            end = json.loads(lab.run("client", *command, check=True).stdout)["end"]
        rates = [end[key]["bits_per_second"] / 1e6 for key in ("sum_received", "sum_received_bidir_reverse")]
        print("to and from the director: {:.0f} and {:.0f} Mbit/s".format(*rates))
        self.assertGreater(min(rates), 1)

    def test_the_director_fetches_from_a_real_server(self):
        done = lab.run("director", "curl", "--silent", "--max-time", "5", f"http://{lab.REAL_SERVERS['C']}/")
        self.assertEqual(done.stdout.split(), ["C", lab.DIRECTOR_INNER])

    def test_an_address_of_the_operators_own_works(self):
        lab.run("director", "ip", "address", "add", f"{ADDED}/24", "dev", "weir0", check=True)
        self.addCleanup(lab.run, "director", "ip", "address", "del", f"{ADDED}/24", "dev", "weir0")
        self.assertPings("client", ADDED)

    def test_virtual_servers_are_served_beside(self):
        for vip in lab.VIPS.values():
            self.assertEqual({client for _, client in lab.answers(vip, 9)}, {lab.CLIENT})

    def test_what_nobody_listens_to_is_refused_by_the_kernel(self):
        before = self.weir.metrics().total("weir_answers_total", kind="tcp_reset")
        done = lab.get(f"http://{lab.DIRECTOR_OUTER}:81/")
        self.assertEqual(done.returncode, 7, done.stderr)
        self.assertEqual(self.weir.metrics().total("weir_answers_total", kind="tcp_reset"), before)


class HostLifecycle(unittest.TestCase):
    """Each test starts weir for itself."""

    def reloaded(self, weir, text):
        """Has weir read another file; whether it took it."""
        stamp = "weir_config_last_reload_timestamp_seconds"
        before = weir.metrics().total(stamp)
        weir.file.write_text(text)
        weir.process.send_signal(signal.SIGHUP)
        lab.wait_for("reload", lambda: weir.metrics().total(stamp) != before, 5)
        return weir.metrics().total("weir_config_last_reload_successful") == 1

    def test_a_tap_goes_with_the_process(self):
        for number in (signal.SIGTERM, signal.SIGKILL):
            with lab.Weir(config()) as weir:
                self.assertTrue(exists("weir0") and exists("weir1"))
                weir.stop(number)
            lab.wait_for("no taps", lambda: not exists("weir0") and not exists("weir1"), 2)

    def test_a_reload_changes_addresses_and_leaves_the_operators(self):
        text = config()
        with lab.Weir(text) as weir:
            lab.run("director", "ip", "address", "add", f"{ADDED}/24", "dev", "weir0", check=True)
            changed = text.replace(f'"{lab.DIRECTOR_OUTER}/24"', '"10.10.0.3/24", "10.10.0.4/24"')
            self.assertTrue(self.reloaded(weir, changed))
            expected = {"10.10.0.3", "10.10.0.4", ADDED}
            lab.wait_for("addresses", lambda: set(addresses("weir0")) == expected, 3)
            for address in sorted(expected):
                done = lab.run("client", "ping", "-n", "-c", "1", "-W", "2", address)
                self.assertEqual(done.returncode, 0, done.stdout)
            self.assertEqual(addresses("weir1"), [lab.DIRECTOR_INNER])
            self.assertFalse(self.reloaded(weir, changed.replace("weir1", "weir2")))
            self.assertIn("host_interface", weir.said())
            self.assertFalse(exists("weir2"))

    def test_a_tap_that_is_removed_is_said_and_virtual_servers_go_on(self):
        with lab.Weir(config()) as weir:
            lab.run("director", "ip", "link", "del", "weir0", check=True)
            lab.wait_for("the log", lambda: "host interface is gone" in weir.said(), 3)
            lab.answers(lab.VIPS["nat"], 9)
            busy = host_seconds(weir.process.pid)
            time.sleep(0.5)
            self.assertLess(host_seconds(weir.process.pid) - busy, 0.25, "the host's thread does not spin")

    def test_a_name_that_is_taken_ends_the_start(self):
        ended = lab.ends(config({"outer": "inner"}))
        self.assertEqual(ended.status, 1, ended.output)
        self.assertIn("there is a network interface inner already", ended.output)

    def test_without_the_device_or_the_permission_it_says_what_is_missing(self):
        cases = {
            "modprobe tun": ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev/net && exec "$@"', "sh"],
            "CAP_NET_ADMIN": ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"],
        }
        # Devices that need no permission themselves.
        text = config().replace("net_af_packet", "net_null")
        for message, prefix in cases.items():
            weir = lab.Weir(text, ["--vdev", "net_null0", "--vdev", "net_null1"])
            weir.command = prefix + weir.command
            weir.launch()
            try:
                status = weir.process.wait(lab.START_SECONDS)
            finally:
                weir.discard()
            self.assertEqual(status, 1, weir.said())
            self.assertIn(message, weir.said())


def host_seconds(pid):
    """Processor seconds of the threads of a process called weir-host."""
    ticks = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/stat", encoding="ascii") as stat:
            name, fields = stat.read().rsplit(")", 1)
        if name.endswith("weir-host"):
            ticks += sum(int(field) for field in fields.split()[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")
