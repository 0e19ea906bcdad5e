"""A real Prometheus that scrapes weir, with the rules and dashboards of monitoring/."""

import contextlib
import json
import math
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest
import urllib.parse

import health
import lab
import test_health

sys.path.append(str(lab.ROOT / "ci" / "lib"))

import dashboards  # noqa: E402

ADDRESS = "127.0.0.1:9391"
PROMETHEUS = """
global: {scrape_interval: 300ms, scrape_timeout: 300ms, evaluation_interval: 300ms}
rule_files: [%s]
scrape_configs:
  - job_name: weir
    static_configs: [{targets: ["127.0.0.1:9292"]}]
"""
# As Grafana fills them in for all directors and virtual servers.
VARIABLES = {"$job": "weir", "$instance": ".*", "$virtual_server": ".*", "$__rate_interval": "1m"}
VRRP = """
[[vrrp]]
name = "vi"
port = "outer"
virtual_router_id = 51
version = 3
addresses = ["10.10.0.200"]
  [[vrrp.track]]
  script = ["/bin/true"]
  name = "uplink"
  weight = 1
  [[vrrp.track]]
  process = "prometheus"
  weight = 1
"""
# Another router that is master, and one that nobody knows.
ROUTERS = """
import socket, struct, time
door = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112)
door.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
door.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("%s"))
while True:
    for router in (51, 99):
        message = struct.pack("!BBBBHH4s", 0x31, router, 200, 1, 100, 0, socket.inet_aton("10.10.0.200"))
        total = sum(struct.unpack("!6H", message))
        total = (total & 0xFFFF) + (total >> 16)
        door.sendto(message[:6] + struct.pack("!H", ~total & 0xFFFF) + message[8:], ("224.0.0.18", 0))
    time.sleep(0.1)
""" % lab.CLIENT
# Asks for each of the paths on its standard input; the answers, as a list of JSON.
ASK = """
import json, sys, urllib.request
answer = lambda path: json.load(urllib.request.urlopen("http://%s/api/v1/" + path, timeout=20))["data"]
print(json.dumps([answer(path) for path in json.load(sys.stdin)]))
""" % ADDRESS


@contextlib.contextmanager
def running(node, *command, log=subprocess.DEVNULL):
    """A command in a node, for the length of the block."""
    process = subprocess.Popen(lab.inside(node, *command), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


class Monitoring(unittest.TestCase):
    """One Prometheus for all."""

    def ask(self, *paths):
        """What Prometheus answers."""
        done = lab.run("director", "/usr/bin/python3", "-c", ASK, input=json.dumps(paths))
        return json.loads(done.stdout) if done.returncode == 0 else None

    def unanswered(self, queries):
        """Those that have no number yet."""
        answers = self.ask(*(f"query?query={urllib.parse.quote(query, safe='')}" for *_, query in queries))
        if answers is None:
            return queries
        has_number = lambda answer: any(not math.isnan(float(sample["value"][1])) for sample in answer["result"])  # noqa: E731
        return [query for query, answer in zip(queries, answers) if not has_number(answer)]

    def test_every_query_of_every_dashboard_has_an_answer_and_every_rule_can_be_evaluated(self):
        text = test_health.checked('type = "http"') + VRRP
        with tempfile.TemporaryDirectory(prefix="prometheus-", dir=lab.RUN) as folder, health.management(), lab.Weir(text) as weir:
            file, log = pathlib.Path(folder, "prometheus.yml"), pathlib.Path(folder, "log")
            file.write_text(PROMETHEUS % (lab.ROOT / "monitoring" / "alerts.yml"))
            command = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={ADDRESS}"]
            with running("client", "/usr/bin/python3", "-c", ROUTERS), running("client", "ping", "-i", "0.1", lab.VIPS["dr"]), \
                    open(log, "ab") as to, running("director", *command, log=to) as prometheus:
                for vip in lab.VIPS.values():
                    lab.answers(vip, 2)
                left = list(dashboards.queries())
                self.assertGreater(len(left), 80)
                left = [(*where, filled(query)) for *where, query in left]

                def all_answered():
                    self.assertIsNone(prometheus.poll(), log.read_text())
                    left[:] = self.unanswered(left)
                    return not left

                try:
                    lab.wait_for("answers", all_answered, 10)
                except AssertionError:
                    self.fail(f"no data for {left}\n{log.read_text()}")
                targets, rules = self.ask("targets", "rules")
                for target in targets["activeTargets"]:
                    self.assertEqual((target["health"], target["lastError"]), ("up", ""))
                rules = [rule for group in rules["groups"] for rule in group["rules"]]
                self.assertGreater(len(rules), 30)
                self.assertEqual([rule["name"] for rule in rules if rule.get("lastError")], [])
            open_page = weir.http("/metrics", "--compressed", "-H", "Accept: application/openmetrics-text").stdout
            self.assertTrue(open_page.endswith("# EOF\n"), open_page[-200:])


def filled(query):
    """A query with its variables filled in; longer names first."""
    for name in sorted(VARIABLES, key=len, reverse=True):
        query = query.replace(name, VARIABLES[name])
    return query
