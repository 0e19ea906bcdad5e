"""A part of weir that does not take a new file: all of the former one stays in force, and the log and the metrics say who refused."""

import contextlib
import json
import signal
import unittest

import lab
import ptrace

TAP = "weir0"
NEW, OTHER, NEW_6 = "10.10.0.3", "10.10.0.4", "fd00:10::3"
NETWORKS = ["100.64.0.0/20", "100.65.0.0/20", "100.66.0.0/20", "100.67.0.0/20", "100.68.0.0/20", "100.69.0.0/20", "100.70.0.0/20"]
VRRP = """
[[vrrp]]
name = "vi"
port = "outer"
virtual_router_id = {id}
priority = 255
addresses = ["10.10.0.200"]
"""


def text(changed=False, addresses=None):
    """The lab's file with a host interface and an instance of VRRP; changed: another of each thing that a part sees."""
    own = [f"{lab.DIRECTOR_OUTER}/24"] if addresses is None else addresses
    line = f'addresses = ["{lab.DIRECTOR_OUTER}/24"]'
    lines = f'addresses = {json.dumps(own)}\nhost_interface = "{TAP}"'
    whole = lab.config().replace(line, lines) + VRRP.format(id=52 if changed else 51)
    assert lines in whole, whole
    return whole.replace("weight = 4\n", "weight = 7\n", 1) if changed else whole


def marks(networks):
    """Networks whose addresses each take a number."""
    return f"""
[[mark]]
mark = 5
addresses = {json.dumps(networks)}
ports = [80]
[[virtual_server]]
name = "wide"
mark = 5
forwarding = "dr"
[[virtual_server.real_server]]
address = "10.20.0.11"
"""


def addresses(tap):
    """What the kernel has on a tap."""
    shown = json.loads(lab.run("director", "ip", "-j", "address", "show", "dev", tap, check=True).stdout)
    return {entry["local"] for entry in shown[0]["addr_info"] if entry["scope"] == "global"}


class Refusals(unittest.TestCase):
    """Each ends with the file taken that was refused, once its cause is gone."""

    def setUp(self):
        weir = lab.Weir(text())
        self.weir = weir.__enter__()
        self.addCleanup(weir.__exit__, None, None, None)
        # None at first: VRRP's thread shows them when it runs.
        lab.wait_for("the master", lambda: [it["state"] for it in self.instances()] == ["master"], 20)

    def instances(self):
        """VRRP's."""
        return json.loads(self.weir.http("/api/v1/vrrp").stdout)["instances"]

    def reload(self, file):
        """SIGHUP with this file; whether it is in force after that."""
        stamp = "weir_config_last_reload_timestamp_seconds"
        before = self.weir.metrics().total(stamp)
        self.weir.file.write_text(file)
        self.weir.process.send_signal(signal.SIGHUP)
        lab.wait_for("the end of the reload", lambda: self.weir.metrics().total(stamp) != before, 30)
        return self.weir.metrics().total("weir_config_last_reload_successful") == 1

    def seen(self):
        """What each part shows."""
        metrics, [instance] = self.weir.metrics(), self.instances()
        servers = json.loads(self.weir.http("/api/v1/virtual_servers").stdout)["virtual_servers"]
        checks = json.loads(self.weir.http("/api/v1/health").stdout)["virtual_servers"]
        return {
            "generation": metrics.total("weir_config_generation"),
            "weights": [[real["weight"] for real in server["real_servers"]] for server in servers],
            "checked": [[real["configured_weight"] for real in server["real_servers"]] for server in checks],
            "vrrp": (instance["virtual_router_id"], instance["state"], instance["became_master"]),
            "addresses": addresses(TAP),
        }

    def refused(self, by, why, file):
        """Reloads once more in vain: nothing changes, and who refused is told."""
        before, said = self.seen(), len(self.weir.said())
        count = self.weir.metrics().total("weir_config_reloads_refused_total", by=by)
        self.assertFalse(self.reload(file))
        self.assertEqual(self.seen(), before)
        self.assertEqual(self.weir.metrics().total("weir_config_reloads_refused_total", by=by), count + 1)
        line = f"not reloaded, the former configuration stays in force: {why}"
        lab.wait_for("the log", lambda: line in self.weir.said()[said:], 10)
        lab.answers(lab.VIPS["nat"], 2)

    def assertTaken(self, file):
        """The same file comes into force as a whole."""
        before = self.seen()
        self.assertTrue(self.reload(file))
        lab.wait_for("every part", lambda: all(value != before[key] for key, value in self.seen().items()), 20)

    @contextlib.contextmanager
    def halted(self, name):
        """A thread of weir's does not run inside the block."""
        thread = next(tid for tid, its in ptrace.threads(self.weir.process.pid).items() if its == name)
        with ptrace.halted(thread):
            yield

    def switch_ipv6(self, kind, is_on):
        """The kernel's own, which the lab has off."""
        lab.run("director", "sysctl", "-qw", f"net.ipv6.conf.{kind}.disable_ipv6={0 if is_on else 1}", check=True)

    def test_an_address_that_the_kernel_refuses(self):
        for kind in ("all", "default"):
            self.switch_ipv6(kind, True)
            self.addCleanup(self.switch_ipv6, kind, False)
        self.switch_ipv6(TAP, False)
        file = text(changed=True, addresses=[f"{lab.DIRECTOR_OUTER}/24", f"{NEW}/24", f"{NEW_6}/64"])
        self.refused("host", f"the host interfaces do not take it: {TAP}: address {NEW_6}/64 is not added: the kernel's IPv6 "
                             f"is off on this interface (set net.ipv6.conf.{TAP}.disable_ipv6 to 0", file)
        self.switch_ipv6(TAP, True)
        self.assertTaken(file)
        self.assertEqual(addresses(TAP), {lab.DIRECTOR_OUTER, NEW, NEW_6})

    def test_an_address_of_the_operators_outlives_a_refusal(self):
        lab.run("director", "ip", "address", "add", f"{NEW}/24", "dev", TAP, check=True)
        self.refused("host", "the host interfaces do not take it",
                     text(addresses=[f"{lab.DIRECTOR_OUTER}/24", f"{NEW}/24", f"{NEW_6}/64"]))
        self.assertEqual(addresses(TAP), {lab.DIRECTOR_OUTER, NEW})

    def test_an_address_of_the_operators_outlives_the_file_that_has_it_too(self):
        own = f"{lab.DIRECTOR_OUTER}/24"
        lab.run("director", "ip", "address", "add", f"{NEW}/24", "dev", TAP, check=True)
        self.assertTrue(self.reload(text(addresses=[own, f"{NEW}/24", f"{OTHER}/24"])))
        lab.wait_for("the addresses", lambda: addresses(TAP) == {lab.DIRECTOR_OUTER, NEW, OTHER}, 20)
        self.assertTrue(self.reload(text()))
        # Weir's own goes last.
        lab.wait_for("the former address to go", lambda: OTHER not in addresses(TAP), 20)
        self.assertEqual(addresses(TAP), {lab.DIRECTOR_OUTER, NEW})

    def test_health_checks_that_hang(self):
        file = text(changed=True, addresses=[f"{lab.DIRECTOR_OUTER}/24", f"{NEW}/24"])
        with self.halted("weir-health"):
            for _ in range(20):
                if not self.reload(text()):
                    break
            self.refused("health", "health checks do not take it: the checker hangs", file)
        self.assertTaken(file)

    def test_vrrp_that_hangs(self):
        file = text(changed=True, addresses=[f"{lab.DIRECTOR_OUTER}/24", f"{NEW}/24"])
        with self.halted("weir-vrrp"):
            lab.wait_for("a refusal", lambda: not self.reload(text()), 20)
            self.refused("vrrp", "VRRP does not take it: its thread has taken no orders for", file)
        self.assertTaken(file)

    def test_addresses_without_numbers(self):
        self.assertTrue(self.reload(text() + marks(NETWORKS)))
        others = [network.replace("100.", "101.") for network in NETWORKS]
        file = text(changed=True, addresses=[f"{lab.DIRECTOR_OUTER}/24", f"{NEW}/24"])
        self.refused("registry", "it can't be served: more than 49152 addresses", file + marks(others))
        self.assertTaken(file)


if __name__ == "__main__":
    unittest.main()
