"""VRRP with trailers: two weirs take over and change keys; what Python's hmac signs is believed, what it forges is not."""

import hashlib
import hmac
import ipaddress
import json
import signal
import time
import unittest

import lab
import vrrp_lab as net

SECRETS = {1: bytes(range(32)), 2: b"a passphrase of more than thirty-two bytes"}
KEYS = {1: f'"1 hex:{SECRETS[1].hex()}"', 2: f'"2 {SECRETS[2].decode()}"'}
# name, VRID, the lines of a and of b; the virtual addresses end in the VRID.
GROUPS = (
    ("group", 61, ("", "")),
    ("unicast", 62, ('unicast_peers = ["10.30.0.3"]', 'unicast_peers = ["10.30.0.2"]')),
    ("v6", 63, ("", "")),
    ("v6unicast", 64, ('unicast_peers = ["2001:db8::3"]', 'unicast_peers = ["2001:db8::2"]')),
)
BACKUP, MASTER = 1, 2
REFUSED = "weir_vrrp_advertisements_refused_total"
SEND = ("import socket, sys\ns = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\ns.bind(('eth0', 0))\n"
        "[s.send(bytes.fromhex(frame)) for frame in sys.argv[1:]]\n")


def instances(side, keys=(1,), active=1):
    """All groups, for a (0) or b (1)."""
    text = ""
    for name, vrid, lines in GROUPS:
        vips = f'"fe80::5:{vrid}", "2001:db8::{vrid}"' if name.startswith("v6") else f'"10.30.0.{vrid}"'
        text += (f'[[vrrp]]\nname = "{name}"\nport = "lan"\nvirtual_router_id = {vrid}\nversion = 3\n'
                 f"priority = {150 - 50 * side}\nadvertisement_interval = 0.2\naddresses = [{vips}]\n{lines[side]}\n"
                 f"[vrrp.auth_hmac]\nkeys = [{', '.join(KEYS[key] for key in keys)}]\nactive_key = {active}\n")
    return text


def checksum(data):
    """RFC 1071."""
    total = sum(int.from_bytes(data[at:at + 2], "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return (~total & 0xffff).to_bytes(2, "big")


def advertisement(secret=SECRETS[2], key=2, seconds=0, signed=True, source=net.NODES["t"]):
    """A frame to the group of IPv4, of the highest priority, with a trailer that is so many seconds old."""
    message = bytes([0x31, 61, 254, 1, 0, 20, 0, 0]) + ipaddress.ip_address("10.30.0.61").packed
    number = int((time.time() - seconds) * 65536) << 16
    trailer = bytes([1, key, 0, 0]) + number.to_bytes(8, "big")
    pseudo = (bytes([4, 3, 61, 0]) + ipaddress.ip_address(source).packed).ljust(20, b"\0")
    value = hmac.new(secret, pseudo + message + trailer + bytes(16), hashlib.sha256).digest()[:16]
    packet = message[:6] + checksum(message) + message[8:] + (trailer + value if signed else b"")
    head = bytes([0x45, 0xc0]) + (20 + len(packet)).to_bytes(2, "big") + bytes([0, 1, 0, 0, 255, 112, 0, 0])
    head += ipaddress.ip_address(source).packed + bytes([224, 0, 0, 18])
    head = head[:10] + checksum(head) + head[12:]
    return (bytes.fromhex("01005e000012" "02000000aa01" "0800") + head + packet).hex()


class VrrpSigned(unittest.TestCase):
    """The network of vrrp_lab."""

    def setUp(self):
        net.up()
        self.addCleanup(net.down)

    def assertSoon(self, what, condition, *logs):
        """The condition holds before long."""
        try:
            lab.wait_for(what, condition, 20)
        except AssertionError as late:
            raise AssertionError("\n".join([str(late), *(daemon.log() for daemon in logs)])) from late

    def counted(self, director, name, **labels):
        """A counter of the group by multicast, 0 while it is absent."""
        return director.metrics().total(name, instance="group", **labels) or 0

    def test_keys_keep_others_out_and_change_under_way(self):
        more = [[f"{net.NODES6[name]}/64", f"fe80::{number}/64"] for number, name in ((2, "a"), (3, "b"))]
        with net.Weir("b", instances(1), 1, more[1]) as second:
            first = net.Weir("a", instances(0), 0, more[0])
            with first:
                are = lambda director, state: set(director.states().values()) == {state}  # noqa: E731
                self.assertSoon("a is master", lambda: are(first, MASTER) and are(second, BACKUP), first, second)
                before = [director.metrics().total("weir_vrrp_became_master_total") for director in (first, second)]
                for keys, active in (((1, 2), 1), ((1, 2), 2), ((2,), 2)):
                    for side, director in enumerate((first, second)):
                        director.file.write_text(net.port(director.name, more[side]) + instances(side, keys, active))
                        director.process.send_signal(signal.SIGHUP)
                        wanted = {"mode": "enforce", "active_key": active}
                        shown = lambda d=director, w=wanted: all(it["auth_hmac"] == w for it in self.instances(d))  # noqa: E731
                        self.assertSoon(f"key {active} of {keys}", shown, director)
                    self.assertHears(second, first)
                after = [director.metrics().total("weir_vrrp_became_master_total") for director in (first, second)]
                self.assertEqual(before, after)
                for director in (first, second):
                    self.assertEqual(director.metrics().total(REFUSED), 0, director.log())
                first.end(signal.SIGKILL)
                self.assertSoon("b has taken over", lambda: are(second, MASTER), second)
            self.assertForgeriesAreRefused(second)

    def instances(self, director):
        """What the API says of them."""
        return json.loads(director.get("/api/v1/vrrp"))["instances"]

    def assertHears(self, director, *logs):
        """Another advertisement is accepted by each instance."""
        had = {it["instance"]: it["advertisements_received"] for it in self.instances(director)}
        more = lambda: all(it["advertisements_received"] > had[it["instance"]] + 1 for it in self.instances(director))  # noqa: E731
        self.assertSoon("advertisements", more, director, *logs)

    def assertForgeriesAreRefused(self, director):
        """Nothing but the key makes a master let go, and that once."""
        send = lambda *frames: net.run("t", "python3", "-c", SEND, *frames)  # noqa: E731
        released = lambda: self.counted(director, "weir_vrrp_released_master_total")  # noqa: E731
        # It may have been master before its peer came up.
        had = released()
        for reason, frame in (("trailer_value", advertisement(secret=SECRETS[1])),
                              ("trailer_key", advertisement(key=9)),
                              ("trailer_stale", advertisement(seconds=3600)),
                              ("trailer_missing", advertisement(signed=False))):
            send(frame)
            self.assertSoon(reason, lambda r=reason: self.counted(director, REFUSED, reason=r) == 1, director)
        self.assertEqual(released(), had, director.log())
        recorded = advertisement()
        send(recorded)
        self.assertSoon("a rival with the key", lambda: released() == had + 1, director)
        send(recorded)
        self.assertSoon("replay", lambda: self.counted(director, REFUSED, reason="trailer_replay") == 1, director)
        self.assertEqual(released(), had + 1, director.log())


if __name__ == "__main__":
    unittest.main()
