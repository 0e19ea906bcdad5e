"""A flood at the director's own address, beside a BGP session, a login and virtual servers."""

import re
import subprocess
import sys
import time
import unittest

import adverts
import lab
from test_host import config, service

# Nothing of BGP may be missed for longer than this.
HOLD_SECONDS = 6
FLOOD_SECONDS = 9
ADVERT_SECONDS = 0.2
ECHO_PORT = 2222
ECHO = """
import socket
with socket.create_server(("%s", %d)) as door:
    while True:
        line, _ = door.accept()
        while data := line.recv(4096):
            line.sendall(data)
"""
# One line a tenth of a second; prints how many came back and the longest time one took.
TYPIST = """
import socket, sys, time
line = socket.create_connection(("%s", %d), 3)
line.settimeout(5)
worst, echoed, deadline = 0, 0, time.monotonic() + float(sys.argv[1])
while time.monotonic() < deadline:
    started = time.monotonic()
    line.sendall(b"x" * 32)
    got = b""
    while len(got) < 32:
        got += line.recv(4096)
    worst, echoed = max(worst, time.monotonic() - started), echoed + 1
    time.sleep(0.1)
print(echoed, worst)
"""


def bird_config(number, own, peer):
    """A router that speaks BGP with one peer and announces the network of VIPs if it is the first."""
    return f"""
router id {own};
log stderr {{ warning, error, fatal }};
protocol device {{ }}
protocol static {{ ipv4; route 192.0.2.0/24 blackhole; disabled {"no" if number == 1 else "yes"}; }}
protocol bgp peer {{
    local {own} as 6500{number};
    neighbor {peer} as 6500{3 - number};
    hold time {HOLD_SECONDS};
    connect retry time 2;
    ipv4 {{ import all; export all; }};
}}
"""


def up_since(told):
    """The second of the day in which bird's session came up. Bird works it out anew each time, so it may differ by a millisecond."""
    hours, minutes, seconds = re.search(r"peer +BGP +\S+ +up +(\S+)", told).group(1).split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


class Flood(unittest.TestCase):
    """The client is BGP's peer, whose login it is, and who floods."""

    def bird(self, node, number, own, peer):
        """Starts a router; returns a function that asks it."""
        path = lab.RUN / f"bird-{node}"
        path.with_suffix(".conf").write_text(bird_config(number, own, peer))
        self.enterContext(service(node, "bird", "-f", "-c", f"{path}.conf", "-s", f"{path}.ctl", "-P", f"{path}.pid"))
        return lambda: lab.run(node, "birdc", "-s", f"{path}.ctl", "show", "protocols", "all", "peer").stdout

    def flood(self, **options):
        """Starts the flood at the director."""
        arguments = {"interface": "outer", "mac": lab.mac_of("director", "outer"), "address": lab.DIRECTOR_OUTER,
                     "source": "10.10.0", "seconds": FLOOD_SECONDS, **options}
        words = [word for key, value in arguments.items() for word in (f"--{key}", str(value))]
        return subprocess.Popen(lab.inside("client", str(lab.ROOT / "ci/e2e/flood"), *words),
                                stdout=subprocess.PIPE, text=True)

    @staticmethod
    def cost(weir, looks=8):
        """Busy cycles of the worker for each frame it received, and frames a second: of so many looks the best of each.

        Whoever takes the worker's core while it is busy only makes it more."""
        def counted():
            metrics = weir.metrics()
            return (time.monotonic(), metrics.total("weir_worker_cycles_total", state="busy"),
                    metrics.total("weir_port_receive_packets_total"))

        costs, rates = [], []
        last = counted()
        for _ in range(looks):
            time.sleep(0.25)
            now = counted()
            seconds, cycles, frames = (new - old for new, old in zip(now, last))
            last = now
            if frames:
                costs.append(cycles / frames)
                rates.append(frames / seconds)
        return min(costs), max(rates)

    def test_sessions_and_virtual_servers_stay_up(self):
        with lab.Weir(config() + adverts.instance(ADVERT_SECONDS)) as weir:
            asks = [self.bird("director", 1, lab.DIRECTOR_OUTER, lab.CLIENT),
                    self.bird("client", 2, lab.CLIENT, lab.DIRECTOR_OUTER)]
            lab.wait_for("BGP", lambda: all("Established" in ask() for ask in asks), 20)
            since = [up_since(ask()) for ask in asks]
            lab.wait_for("the route", lambda: re.search(r"Routes: +1 imported", asks[1]()), 5)
            self.enterContext(service("director", sys.executable, "-c", ECHO % (lab.DIRECTOR_OUTER, ECHO_PORT)))
            lab.wait_for("the login", lambda: lab.run(
                "director", "ss", "-Hltn", f"sport = :{ECHO_PORT}").stdout, 5)
            typist = subprocess.Popen(
                lab.inside("client", sys.executable, "-c", TYPIST % (lab.DIRECTOR_OUTER, ECHO_PORT),
                           str(FLOOD_SECONDS - 1)), stdout=subprocess.PIPE, text=True)
            lab.wait_for("a line typed", lambda: lab.run(
                "director", "ss", "-Htn", "state", "established", f"sport = :{ECHO_PORT}").stdout, 5)
            lab.wait_for("master", lambda: weir.metrics().total("weir_vrrp_state") == 2, 5)
            flood = self.flood()
            requests = 0
            with adverts.listening(ADVERT_SECONDS) as heard:
                time.sleep(1)
                cost, rate = self.cost(weir)
                while flood.poll() is None:
                    lab.answers(lab.VIPS["nat"], 1)
                    lab.answers(lab.VIPS["dr"], 1)
                    requests += 2
            frames = int(flood.communicate()[0])
            echoed, worst = typist.communicate()[0].split()
            metrics = weir.metrics()
            for ask, started in zip(asks, since):
                self.assertIn("Established", ask())
                apart = abs(up_since(ask()) - started)
                self.assertLess(min(apart, 86_400 - apart), 1, "it was never down")
        self.assertEqual(typist.returncode, 0)
        refused = metrics.total("weir_drops_total", reason="punt_rate_limited")
        self.assertEqual(metrics.total("weir_punt_drops_total", **{"class": "established"}), 0)
        print(f"{frames} frames in {FLOOD_SECONDS} s, {refused:.0f} over the limits; {cost:.0f} cycles each at {rate:.0f}/s; "
              f"{echoed} lines echoed, {float(worst) * 1000:.0f} ms at most; {requests} requests")
        print(f"advertisements: {heard}")
        self.assertGreater(len(heard.times), (FLOOD_SECONDS - 2) / ADVERT_SECONDS)
        self.assertEqual(heard.backups_take_over(), 0, "VRRP is not starved")
        # Five kinds of at most 2,000 a second, and what they may have saved up.
        passed = sum(metrics.total("weir_punted_packets_total", **{"class": kind})
                     for kind in ("tcp_syn", "tcp", "icmp", "udp", "other"))
        self.assertLess(passed, (FLOOD_SECONDS + 3) * 7_000 + 5 * 128)
        self.assertGreater(refused, frames / 10, "too slow a flood shows nothing")
        self.assertGreater(int(echoed), FLOOD_SECONDS * 3)
        self.assertLess(float(worst), 3)
        self.assertGreater(requests, 0)

    def test_a_refused_frame_costs_the_worker_little_more_than_any_other_drop(self):
        costs = {}
        for name, text, kinds in (("limited", config(), "stray"), ("dropped", lab.config(), "syn")):
            with lab.Weir(text) as weir:
                # Without a host interface: to an address that weir does not know.
                address = lab.DIRECTOR_OUTER if name == "limited" else "10.10.0.55"
                flood = self.flood(seconds=4, kinds=kinds, address=address)
                time.sleep(1)
                costs[name], rate = self.cost(weir)
                flood.wait()
                flood.stdout.close()
            self.assertGreater(rate, 4_000, "too slow a flood shows nothing")
        print("cycles for each frame: {limited:.0f} over the limit, {dropped:.0f} dropped as foreign".format(**costs))
        # A hash of its session and a limit more; the rest is what receiving it costs.
        self.assertLess(costs["limited"], costs["dropped"] * 4)
