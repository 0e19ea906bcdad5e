"""weir and keepalived in one group, either of which serves the VIP while it is master: weir by its real server, keepalived's host by
an nginx of its own. The ways to make the master let go, and back; clients ask all the time."""

import contextlib
import dataclasses
import signal
import time

import lab
import vrrp_lab as net
from vrrp_clients import Curls, Pings

WAYS = ("stop", "kill", "cut", "hang")
# What the clients notice of what comes after a hand-over counts to the next.
SETTLE_SECONDS = 0.5
WAIT_SECONDS = 12
CHECK = 'type = "http"\ninterval = 0.2\ntimeout = 0.2\nfall = 2\njitter = 0\nwarmup = 0'


@dataclasses.dataclass
class HandOver:
    """What the clients noticed of one: milliseconds without an answer, and curl's failures."""
    name: str
    ping_ms: float
    curl_ms: float
    failed: int
    asked: int


def weir(priority, interval):
    """weir's file."""
    return (net.virtual_server(check=CHECK) +
            f'[[vrrp]]\nname = "vi"\nport = "lan"\nvirtual_router_id = 51\nversion = 3\npriority = {priority}\n'
            f'advertisement_interval = {interval}\naddresses = ["{net.VIP}"]\n'
            f'[[vrrp.track]]\nvirtual_server = "web"\n')


def keepalived(priority, interval):
    """keepalived's file."""
    return ("global_defs { vrrp_garp_master_repeat 2\n enable_script_security\n script_user root }\n"
            'vrrp_script web { script "/usr/bin/curl --silent --fail --max-time 1 --output /dev/null http://127.0.0.1/"\n'
            " interval 1\n timeout 1\n fall 1\n rise 1 }\n"
            f"vrrp_instance vi {{ interface eth0\n virtual_router_id 51\n priority {priority}\n version 3\n"
            f" advert_int {interval}\n track_script {{ web }}\n virtual_ipaddress {{ {net.VIP} }}\n}}\n")


class Pair:
    """The network with both in it and the clients asking. A context manager."""

    def __init__(self, weir_priority, keepalived_priority, interval=0.2):
        self.prefers_weir = weir_priority > keepalived_priority
        self.texts = weir(weir_priority, interval), keepalived(keepalived_priority, interval)
        self.servers = {}

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            net.up()
            stack.callback(net.down)
            net.management("a")
            stack.callback(self._end_servers)
            self.servers = {"s": net.real_server("s"), "b": net.web_server("b")}
            self.keepalived = stack.enter_context(net.Keepalived("b", self.texts[1]))
            self.weir = stack.enter_context(net.Weir("a", self.texts[0]))
            self.wait_for(weir=self.prefers_weir)
            self.pings, self.curls = stack.enter_context(Pings()), stack.enter_context(Curls())
            lab.wait_for("service", lambda: self.pings.serves() and self.curls.serves(), WAIT_SECONDS)
            time.sleep(SETTLE_SECONDS)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self.stack.close()

    def _end_servers(self):
        for server in self.servers.values():
            if server.poll() is None:
                net.signal_all(server, signal.SIGKILL)
            server.wait()

    def wait_for(self, weir):
        """Waits until weir is master, or keepalived, and the other is not."""
        def is_so():
            states = self.weir.states().get("vi"), self.keepalived.states().get("vi")
            return states[0] == 2 and states[1] != "MASTER" if weir else states[0] != 2 and states[1] == "MASTER"
        try:
            lab.wait_for(f"{'weir' if weir else 'keepalived'} master", is_so, WAIT_SECONDS)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.weir.log()}\n{self.keepalived.log()}") from late

    def hand_over(self, name, act, weir):
        """Does something that makes weir (or keepalived) master, and returns what the clients noticed."""
        began = time.monotonic()
        act()
        self.wait_for(weir)
        lab.wait_for(f"service after {name}", lambda: self.pings.serves() and self.curls.serves(), WAIT_SECONDS)
        time.sleep(SETTLE_SECONDS)
        asked, failed, curl_ms = self.curls.outage(began)
        return HandOver(name, self.pings.outage(began)[2], curl_ms, failed, asked)

    # The ways: what takes the addresses from the one that is preferred, and what gives them back.

    def _daemon(self):
        return self.weir if self.prefers_weir else self.keepalived

    def _kill(self):
        self._daemon().end(signal.SIGKILL)
        if not self.prefers_weir:
            # A host that has died does not answer either, as the kernel of this one would.
            net.ip("-n", net.node("b"), "addr", "del", f"{net.VIP}/32", "dev", "eth0", check=False)

    def _fail(self, signum):
        net.signal_all(self.servers["s" if self.prefers_weir else "b"], signum)

    def _ways(self):
        """Name: what it is, what takes away, what gives back."""
        node = "a" if self.prefers_weir else "b"
        restart = lambda: self._daemon().__enter__()  # noqa: E731
        return {
            "stop": ("stops", lambda: self._daemon().end(signal.SIGTERM), restart),
            "kill": ("is killed", self._kill, restart),
            "cut": ("is cut off", lambda: net.link(node, "down"), lambda: net.link(node, "up")),
            "hang": ("has a server that hangs", lambda: self._fail(signal.SIGSTOP), lambda: self._fail(signal.SIGCONT)),
        }

    def run(self, way):
        """One way, there and back."""
        what, take, give = self._ways()[way]
        who = "weir" if self.prefers_weir else "keepalived"
        yield self.hand_over(f"{who} {what}", take, not self.prefers_weir)
        yield self.hand_over(f"{who} preempts after it {what.replace('is ', 'was ')}", give, self.prefers_weir)
