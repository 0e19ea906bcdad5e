"""Routes to VIPs that are served: what a router learns by BGP from an unpatched BIRD beside weir, and when it hears no more of them."""

import json
import re
import signal
import time
import unittest

import lab
from lateness import Lateness
from test_host import service
from test_kept import keeper
from test_kept_host import hosting, index

SERVED, SERVED6, TAKEN = "192.0.2.1", "2001:db8:ff::1", "192.0.2.2"
PEERING = {"director": "198.18.0.1", "client": "198.18.0.2"}
NUMBER = "119"
QUORUM_SECONDS, KILLED_SECONDS = 0.1, 1.0

FILE = f"""
[[virtual_server]]
name = "served"
address = "{SERVED}"
port = 80
forwarding = "dr"
scheduler = "mh"
real_server = [{{ address = "{lab.REAL_SERVERS["A"]}" }}]

[[virtual_server]]
name = "served6"
address = "{SERVED6}"
port = 80
forwarding = "tun"
scheduler = "mh"
real_server = [{{ address = "{lab.REAL_SERVERS["A"]}" }}]

[[virtual_server]]
name = "taken"
address = "{TAKEN}"
port = 80
forwarding = "dr"
scheduler = "mh"
real_server = [{{ address = "{lab.REAL_SERVERS["A"]}" }}]

[[announce]]
vips = ["192.0.2.0/24", "2001:db8:ff::/64"]
"""

# As in docs/routed.md.
BESIDE_WEIR = f"""
router id {PEERING["director"]};
protocol device {{ }}
protocol kernel {{ learn; ipv4 {{ import where krt_source = {NUMBER}; export none; }}; }}
protocol kernel {{ learn; ipv6 {{ import where krt_source = {NUMBER}; export none; }}; }}
filter vips {{ if source != RTS_INHERIT then reject; bgp_med = krt_metric; accept; }}
protocol bgp upstream {{
    local {PEERING["director"]} as 65001;
    neighbor {PEERING["client"]} as 65000;
    connect delay time 1;
    connect retry time 1;
    error wait time 1, 2;
    ipv4 {{ import none; export filter vips; }};
    ipv6 {{ import none; export filter vips; next hop self; }};
}}
"""
ROUTER = f"""
router id {PEERING["client"]};
protocol device {{ }}
protocol bgp director {{
    local {PEERING["client"]} as 65000;
    neighbor {PEERING["director"]} as 65001;
    passive;
    error wait time 1, 2;
    ipv4 {{ import all; export none; }};
    ipv6 {{ import all; export none; }};
}}
"""


def announced(*options):
    """Networks of the kernel's routes that have weir's number."""
    found = []
    for family in ("-4", "-6"):
        shown = lab.run("director", "ip", "-j", family, "route", "show", "proto", NUMBER, *options, check=True).stdout
        found += [route["dst"] for route in json.loads(shown or "[]")]
    return sorted(found)


def seconds_until(condition, limit):
    """How long it takes."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() < begun + limit, f"not within {limit} s"
    return time.monotonic() - begun


class Recipes(unittest.TestCase):
    """What the documents have for BIRD is what BIRD takes."""

    def test_bird_takes_each_file_of_the_documents(self):
        text = (lab.ROOT / "docs" / "routed.md").read_text()
        files = [block for block in text.split("```")[1::2] if "protocol device" in block]
        self.assertEqual(len(files), 2)
        ospf = re.search(r"`(protocol ospf [^`]*)`", text)[1]
        files.append(re.sub(r"protocol bgp .*?^}$", ospf, files[0].replace("bgp_med = krt_metric;", ""), flags=re.DOTALL | re.MULTILINE))
        for number, file in enumerate(files):
            path = lab.RUN / f"bird-documents-{number}.conf"
            path.write_text(file)
            with self.subTest(number):
                done = lab.run("client", "bird", "-p", "-c", str(path))
                self.assertEqual((done.returncode, done.stderr), (0, ""), file)


class Announce(unittest.TestCase):
    """The client is the router; a link besides those of the lab is for the session, which is up before weir."""

    def setUp(self):
        # The lab has none by default, and this link does.
        for node in PEERING:
            lab.run(node, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=0", check=True)
        lab.run("director", "ip", "link", "add", "peering", "type", "veth", "peer", "name", "peering", "netns", f"{lab.NAME}-client", check=True)
        for node in PEERING:
            lab.run(node, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1", check=True)
        self.addCleanup(lab.run, "director", "ip", "link", "delete", "peering")
        for number, (node, address) in enumerate(PEERING.items(), 1):
            lab.run(node, "ip", "address", "add", f"{address}/30", "dev", "peering", check=True)
            lab.run(node, "ip", "address", "add", f"2001:db8:fe::{number}/64", "dev", "peering", "nodad", check=True)
            lab.run(node, "ip", "link", "set", "peering", "up", check=True)

    def bird(self, node, text):
        """Starts a router; returns a function that asks it for its routes."""
        path = lab.RUN / f"bird-announce-{node}"
        path.with_suffix(".conf").write_text(text)
        self.enterContext(service(node, "bird", "-f", "-c", f"{path}.conf", "-s", f"{path}.ctl", "-P", f"{path}.pid"))
        return lambda: lab.run(node, "birdc", "-s", f"{path}.ctl", "show", "route").stdout

    def edit(self, weight):
        """Gives the one real server of the virtual server another weight."""
        edit = {"op": "set_real_server", "virtual_server": {"name": "served"}, "keys": {"weight": weight},
                "real_server": {"address": lab.REAL_SERVERS["A"], "port": 80}}
        done = lab.run("director", "curl", "--silent", "--fail", "--max-time", "20", "--unix-socket", str(self.socket),
                       "--data-binary", json.dumps({"edits": [edit]}), "http://weir/api/v1/edits")
        self.assertEqual(done.returncode, 0, done.stderr)

    def problems(self):
        """What keeps routes from being there, by network."""
        listed = json.loads(self.weir.http("/api/v1/announce").stdout)["routes"]
        return {it["route"]: it["problem"] for it in listed if it["problem"]}

    def test_a_router_learns_what_is_served_and_hears_when_it_is_not(self):
        self.bird("director", BESIDE_WEIR)
        learnt = self.bird("client", ROUTER)
        lab.run("director", "ip", "route", "add", "blackhole", TAKEN, "metric", "100", check=True)
        self.addCleanup(lab.run, "director", "ip", "route", "delete", "blackhole", TAKEN)
        place, _ = self.enterContext(keeper())
        self.weir = lab.Weir("")
        self.socket = self.weir.folder / "weir.sock"
        self.weir.file.write_text(f'[control]\nsocket = "{self.socket}"\n{hosting(place)}{FILE}')
        self.enterContext(self.weir)
        lab.wait_for("the routes", lambda: announced() == [SERVED, SERVED6], 5)
        lab.wait_for("the router", lambda: f"{SERVED}/32" in learnt() and f"{SERVED6}/128" in learnt(), 5)
        self.assertEqual(list(self.problems()), [f"{TAKEN}/32"])
        self.assertIn("not weir's", self.problems()[f"{TAKEN}/32"])
        self.stays_over_a_reload()
        # One is there no more that was another's, and one of weir's was removed by somebody.
        lab.run("director", "ip", "route", "delete", "blackhole", TAKEN, check=True)
        lab.run("director", "ip", "-6", "route", "delete", SERVED6, "proto", NUMBER, check=True)
        lab.wait_for("both", lambda: announced() == [SERVED, TAKEN, SERVED6], 3)
        self.assertEqual(self.problems(), {})
        with Lateness() as busy:
            lost = self.lose_the_quorum()
            self.assertLess(lost, QUORUM_SECONDS + busy.allowance)
        lab.wait_for("the router", lambda: f"{SERVED}/32" not in learnt() and f"{TAKEN}/32" in learnt(), 5)
        self.edit(1)
        lab.wait_for("the route", lambda: SERVED in announced(), 3)
        tap = index("weir0")
        with Lateness() as busy:
            self.weir.process.send_signal(signal.SIGKILL)
            killed = seconds_until(lambda: not announced(), 10)
            self.assertLess(killed, KILLED_SECONDS + busy.allowance)
        lab.wait_for("the router", lambda: "192.0.2." not in learnt() and SERVED6 not in learnt(), 5)
        self.assertEqual((index("weir0"), index("weir-vips")), (tap, ""), "the host interface is kept, the routes' device is not")
        print(f"withdrawn {lost * 1000:.0f} ms after an edit took the quorum, {killed * 1000:.0f} ms after SIGKILL")

    def stays_over_a_reload(self):
        """What the new file has as well is not touched."""
        monitor = lab.start("director", "ip", "monitor", "route")
        try:
            before = self.weir.metrics().total("weir_announce_changes_total")
            self.weir.file.write_text(self.weir.file.read_text().replace("[[announce]]", '[[announce]]\nquorum = "all"'))
            lab.run("director", "curl", "--silent", "--fail", "--unix-socket", str(self.socket), "--data-binary", "{}",
                    "http://weir/api/v1/reload", check=True)
            lab.run("director", "ip", "route", "add", "blackhole", "203.0.113.1", check=True)
            lab.run("director", "ip", "route", "delete", "blackhole", "203.0.113.1", check=True)
            said = [monitor.stdout.readline() for _ in range(2)]
        finally:
            monitor.terminate()
            monitor.communicate()
        self.assertTrue(all("203.0.113.1" in line for line in said), said)
        self.assertEqual(self.weir.metrics().total("weir_announce_changes_total"), before)

    def lose_the_quorum(self):
        """How long after the edit the route is gone."""
        self.edit(0)
        return seconds_until(lambda: announced() == [TAKEN, SERVED6], 10)
