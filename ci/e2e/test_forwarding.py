"""HTTP through each forwarding method, between a real client and real nginx servers."""

import collections
import hashlib
import json
import os
import re
import signal
import subprocess
import unittest

from scapy.all import ARP, IP, TCP, UDP, Ether, IPv6, PcapReader

import lab

# wrr over the weights 4, 3 and 2, for real servers added in the order A, B, C, as the kernel's IPVS picks them: it walks
# from the last one added, and its first round starts at the lowest step, because the first add found none.
ROUND = "CBAABACBA"
MEGABYTE = 1_000_000


def sha256(data):
    """Hexadecimal digest."""
    return hashlib.sha256(data).hexdigest()


class Through:
    """What holds for every forwarding method; `method` is set by the classes below."""

    method = None

    @property
    def vip(self):
        """The virtual address of the method's virtual server."""
        return lab.VIPS[self.method]

    def test_eighteen_requests_follow_the_wrr_of_the_kernel(self):
        with lab.Weir():
            picks = "".join(name for name, _ in lab.answers(self.vip, 18))
        self.assertEqual(picks, ROUND * 2)

    def test_real_servers_see_the_address_of_the_client(self):
        with lab.Weir():
            seen = {client for _, client in lab.answers(self.vip, 9)}
        self.assertEqual(seen, {lab.CLIENT})

    def test_a_kept_alive_connection_stays_with_its_real_server(self):
        with lab.Weir():
            done = lab.get(f"http://{self.vip}/", *[f"http://{self.vip}/"] * 19, "-w", "%{num_connects}\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = done.stdout.split("\n")[:-1]
        self.assertEqual([line for line in lines if line.isdigit()], ["1"] + ["0"] * 19)
        self.assertEqual({line for line in lines if not line.isdigit()}, {f"C {lab.CLIENT}"})

    def test_a_megabyte_down_arrives_whole(self):
        body = os.urandom(MEGABYTE)
        for name in lab.REAL_SERVERS:
            (lab.RUN / name / "files" / "down").write_bytes(body)
        with lab.Weir():
            for _ in range(3):
                done = subprocess.run(lab.inside("client", "curl", "-sS", "--fail", "--max-time", "20",
                                                 f"http://{self.vip}/files/down"), capture_output=True)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(sha256(done.stdout), sha256(body))

    def test_a_megabyte_up_arrives_whole(self):
        body = os.urandom(MEGABYTE)
        path = lab.RUN / "up"
        path.write_bytes(body)
        for name in lab.REAL_SERVERS:
            (lab.RUN / name / "files" / "up").unlink(missing_ok=True)
        with lab.Weir():
            for _ in range(3):
                done = lab.get(f"http://{self.vip}/files/up", "--max-time", "20", "--upload-file", str(path))
                self.assertEqual(done.returncode, 0, done.stderr)
        arrived = {name: (lab.RUN / name / "files" / "up") for name in lab.REAL_SERVERS}
        digests = {name: sha256(file.read_bytes()) for name, file in arrived.items() if file.exists()}
        self.assertEqual(digests, dict.fromkeys("ABC", sha256(body)))

    def test_a_refused_connection_is_refused_to_the_client_at_once(self):
        # Nothing listens on port 81 of the real servers.
        with lab.Weir(re.sub(r"\bport = \d+", "port = 81", lab.config())):
            done = lab.get(f"http://{self.vip}:81/")
        self.assertEqual(done.returncode, 7, f"curl: {done.stderr}")
        self.assertRegex(done.stderr, "refused|Couldn't connect")

    def test_fifty_clients_at_once_are_all_served(self):
        command = f"seq 1000 | xargs -P 50 -n 20 sh -c 'for i; do curl -sS --fail --max-time 10 http://{self.vip}/; done' _"
        with lab.Weir():
            done = lab.run("client", "sh", "-c", command, timeout=120)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        served = collections.Counter(line.split()[0] for line in done.stdout.splitlines())
        # 1000 picks in rounds of 9, whatever the order in which the connections came: 111 rounds and one pick more.
        self.assertEqual(served, {"A": 444, "B": 333, "C": 223})


class Dr(Through, unittest.TestCase):
    """Direct routing."""

    method = "dr"

    def test_replies_do_not_pass_the_director(self):
        with lab.Weir(), lab.capture("client", "outer") as outer, lab.capture("client", "inner") as inner:
            lab.answers(self.vip, 3)
        self.assertEqual(sources(outer, self.vip), set())
        self.assertEqual(sources(inner, self.vip), {lab.mac_of(name, "eth0") for name in "ABC"})


    def test_the_frame_gets_a_new_mac_and_loses_a_hop_and_nothing_else(self):
        # What the client sends last may still be under way when the capture at its end is over.
        with lab.Weir(), lab.capture("C", "eth0") as after, lab.capture("client", "outer") as before:
            lab.answers(self.vip, 1)
        sent = [frame for frame in packets(before) if IP in frame and frame[IP].dst == self.vip]
        came = [frame for frame in packets(after) if IP in frame and frame[IP].dst == self.vip]
        self.assertGreater(len(sent), 3)
        self.assertEqual({frame[Ether].src for frame in came}, {lab.mac_of("director", "inner")})
        for frame in sent:
            frame[IP].ttl -= 1
            del frame[IP].chksum
        self.assertEqual([bytes(frame[IP]) for frame in came[:len(sent)]], [bytes(frame[IP]) for frame in sent])


class Tun(Through, unittest.TestCase):
    """IPIP tunnel."""

    method = "tun"

    def test_a_client_with_full_packets_is_told_that_1480_bytes_fit(self):
        path = lab.RUN / "up"
        path.write_bytes(os.urandom(MEGABYTE))
        lab.run("client", "ip", "route", "flush", "cache", check=True)
        with lab.Weir():
            done = lab.get(f"http://{self.vip}/files/up", "--upload-file", str(path))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(" mtu 1480", lab.run("client", "ip", "route", "get", self.vip).stdout)

    def test_replies_do_not_pass_the_director(self):
        with lab.Weir(), lab.capture("client", "outer") as outer, lab.capture("client", "inner") as inner:
            lab.answers(self.vip, 3)
        self.assertEqual(sources(outer, self.vip), set())
        self.assertEqual(sources(inner, self.vip), {lab.mac_of(name, "eth0") for name in "ABC"})

    def test_the_outer_header_names_director_and_real_server(self):
        with lab.Weir(), lab.capture("C", "eth0") as path:
            lab.answers(self.vip, 1)
        outer = {(packet[IP].src, packet[IP].dst) for packet in packets(path) if IP in packet and packet[IP].proto == 4}
        self.assertEqual(outer, {(lab.DIRECTOR_INNER, lab.REAL_SERVERS["C"])})


class OtherTunnels(unittest.TestCase):
    """GUE and GRE, with and without a checksum."""

    # The keys of a real server, the outer protocol, and what IP's and the tunnel's own headers take.
    KINDS = (({"tunnel": "gue"}, 17, 32), ({"tunnel": "gue", "tunnel_checksum": "csum"}, 17, 32),
             ({"tunnel": "gue", "tunnel_checksum": "remcsum"}, 17, 32),
             ({"tunnel": "gre"}, 47, 24), ({"tunnel": "gre", "tunnel_checksum": "csum"}, 47, 28))

    def config(self, keys):
        """The lab's file with these keys at each real server of the TUN virtual server."""
        text = lab.config()
        start, end = text.index('name = "tun"'), text.index('name = "nat"')
        lines = "".join(f'\n  {key} = "{value}"' for key, value in keys.items())
        servers = text[start:end].replace("[[virtual_server.real_server]]", f"[[virtual_server.real_server]]{lines}")
        return text[:start] + servers + text[end:]

    def outer(self, path, protocol):
        """The outer packets of a capture."""
        return [frame[IP] for frame in packets(path)
                if IP in frame and frame[IP].src == lab.DIRECTOR_INNER and frame[IP].proto == protocol]

    def test_clients_are_served_by_the_wrr_of_the_kernel_and_told_what_fits(self):
        path = lab.RUN / "up"
        path.write_bytes(os.urandom(MEGABYTE))
        for keys, protocol, overhead in self.KINDS:
            with self.subTest(keys):
                lab.run("client", "ip", "route", "flush", "cache", check=True)
                with lab.Weir(self.config(keys)), lab.capture("C", "eth0") as came:
                    picks = lab.answers(lab.VIPS["tun"], 9)
                    done = lab.get(f"http://{lab.VIPS['tun']}/files/up", "--upload-file", str(path))
                self.assertEqual(("".join(name for name, _ in picks), {client for _, client in picks}),
                                 (ROUND, {lab.CLIENT}))
                self.assertEqual(done.returncode, 0, done.stderr)
                route = lab.run("client", "ip", "route", "get", lab.VIPS["tun"]).stdout
                self.assertIn(f" mtu {1500 - overhead}", route)
                outer = self.outer(came, protocol)
                self.assertGreater(len(outer), MEGABYTE / 1500)
                self.assertEqual(max(packet.len for packet in outer), 1500)
                self.assertEqual({packet.dst for packet in outer}, {lab.REAL_SERVERS["C"]})
                if protocol == 17:
                    self.check_ports(outer)

    def check_ports(self, outer):
        """Each connection has a source port of its own, and keeps it."""
        self.assertEqual({packet[UDP].dport for packet in outer}, {6080})
        # Behind GUE's four bytes and the client's IP header stands the client's port.
        flows = {(bytes(packet[UDP].payload)[24:26], packet[UDP].sport) for packet in outer}
        self.assertEqual(len(flows), len({client for client, _ in flows}))
        self.assertGreater(len({port for _, port in flows}), 1)

    def test_an_edit_of_the_tunnel_moves_connections_that_are_open(self):
        (gue, _, _), (gre, protocol, _) = self.KINDS[0], self.KINDS[3]
        url = f"http://{lab.VIPS['tun']}/"
        with lab.Weir(self.config(gue)) as weir, lab.capture("C", "eth0") as came:
            command = ["curl", "-sS", "--no-buffer", "--fail", "--rate", "1/s", *[url] * 4, "-w", "%{num_connects}\n"]
            slow = subprocess.Popen(lab.inside("client", *command), stdout=subprocess.PIPE, text=True)
            lines = [slow.stdout.readline()]
            weir.file.write_text(self.config(gre))
            weir.process.send_signal(signal.SIGHUP)
            lines += slow.stdout.readlines()
            self.assertEqual(slow.wait(timeout=60), 0)
        self.assertEqual([line for line in lines if line[0].isdigit()], ["1\n", "0\n", "0\n", "0\n"])
        self.assertEqual({line for line in lines if not line[0].isdigit()}, {f"C {lab.CLIENT}\n"})
        self.assertGreater(len(self.outer(came, protocol)), 3)


class OverIpv6(unittest.TestCase):
    """Real servers of IPv6 behind a virtual server of IPv4, by each tunnel."""

    OWN = "fd20::2"
    SERVERS = {"A": "fd20::11", "B": "fd20::12", "C": "fd20::13"}
    # The keys of a real server, the outer next header, and what all outer headers take.
    KINDS = (({}, 4, 40), ({"tunnel": "gue"}, 17, 52), ({"tunnel": "gue", "tunnel_checksum": "csum"}, 17, 52),
             ({"tunnel": "gre"}, 47, 44), ({"tunnel": "gre", "tunnel_checksum": "csum"}, 47, 48))

    def setUp(self):
        for name, address in self.SERVERS.items():
            self.switch_ipv6(name, 0)
            self.addCleanup(self.switch_ipv6, name, 1)
            lab.run(name, "ip", "address", "add", f"{address}/64", "dev", "eth0", "nodad", check=True)

    def switch_ipv6(self, name, off):
        """Nodes of the lab have no IPv6 otherwise; what is off loses its addresses."""
        words = [f"net.ipv6.conf.{where}.disable_ipv6={off}" for where in ("all", "default", "eth0")]
        lab.run(name, "sysctl", "-qw", *words, check=True)

    def config(self, keys):
        """The lab's file, its TUN virtual server with the IPv6 addresses of the real servers."""
        text = lab.config().replace(f'"{lab.DIRECTOR_INNER}/24"', f'"{lab.DIRECTOR_INNER}/24", "{self.OWN}/64"')
        start, end = text.index('name = "tun"'), text.index('name = "nat"')
        lines = "".join(f'\n  {key} = "{value}"' for key, value in keys.items())
        servers = text[start:end].replace("[[virtual_server.real_server]]", f"[[virtual_server.real_server]]{lines}")
        for name, address in self.SERVERS.items():
            servers = servers.replace(f'"{lab.REAL_SERVERS[name]}"', f'"{address}"')
        return text[:start] + servers + text[end:]

    def test_clients_are_served_and_told_what_fits_and_neighbours_are_found(self):
        path = lab.RUN / "up"
        path.write_bytes(os.urandom(MEGABYTE))
        for keys, protocol, overhead in self.KINDS:
            with self.subTest(keys):
                lab.run("client", "ip", "route", "flush", "cache", check=True)
                with lab.Weir(self.config(keys)), lab.capture("C", "eth0") as came:
                    picks = lab.answers(lab.VIPS["tun"], 9)
                    done = lab.get(f"http://{lab.VIPS['tun']}/files/up", "--upload-file", str(path))
                    listing = lab.run("director", "curl", "-sS", f"{lab.HTTP}/api/v1/neighbors", check=True).stdout
                self.assertEqual(("".join(name for name, _ in picks), {client for _, client in picks}),
                                 (ROUND, {lab.CLIENT}))
                self.assertEqual(done.returncode, 0, done.stderr)
                route = lab.run("client", "ip", "route", "get", lab.VIPS["tun"]).stdout
                self.assertIn(f" mtu {1500 - overhead}", route)
                outer = [frame[IPv6] for frame in packets(came) if IPv6 in frame and frame[IPv6].nh == protocol]
                self.assertGreater(len(outer), MEGABYTE / 1500)
                self.assertEqual(max(packet.plen for packet in outer), 1460)
                self.assertEqual({(packet.src, packet.dst) for packet in outer}, {(self.OWN, self.SERVERS["C"])})
                found = {row["address"]: (row["state"], row["mac"]) 
                         for row in json.loads(listing)["neighbors"] if ":" in row["address"]}
                self.assertEqual(found, {address: ("reachable", lab.mac_of(name, "eth0"))
                                         for name, address in self.SERVERS.items()})


class Nat(Through, unittest.TestCase):
    """Address translation, port 80 to 8080."""

    method = "nat"

    def test_the_client_never_sees_a_real_server(self):
        with lab.Weir(), lab.capture("client", "outer") as outer, lab.capture("client", "inner") as inner:
            lab.answers(self.vip, 9)
        macs = {lab.mac_of(name, "eth0") for name in lab.REAL_SERVERS}
        addresses = set(lab.REAL_SERVERS.values())
        frames = packets(outer)
        self.assertGreater(len([frame for frame in frames if IP in frame and frame[IP].src == self.vip]), 9 * 3)
        for frame in frames:
            self.assertFalse({frame[Ether].src, frame[Ether].dst} & macs, frame.summary())
            if IP in frame:
                self.assertFalse({frame[IP].src, frame[IP].dst} & addresses, frame.summary())
            if ARP in frame:
                self.assertFalse({frame[ARP].psrc, frame[ARP].pdst} & addresses, frame.summary())
            if TCP in frame:
                self.assertNotIn(8080, (frame[TCP].sport, frame[TCP].dport), frame.summary())
        # Nor does a reply slip past the director by the client's other leg.
        self.assertEqual([frame.summary() for frame in packets(inner) if TCP in frame], [])

    def test_the_real_server_listens_on_another_port(self):
        with lab.Weir(), lab.capture("C", "eth0") as path:
            lab.answers(self.vip, 1)
        seen = {(frame[IP].dst, frame[TCP].dport) for frame in packets(path)
                if TCP in frame and frame[IP].src == lab.CLIENT}
        self.assertEqual(seen, {(lab.REAL_SERVERS["C"], 8080)})


def packets(path):
    """Every frame of a capture."""
    with PcapReader(str(path)) as reader:
        return list(reader)


def sources(path, address):
    """The MACs that sent TCP segments from an address.

    Resets are left out: weir itself sends them to clients of a weir that ran before it.
    """
    return {frame[Ether].src for frame in packets(path)
            if TCP in frame and frame[IP].src == address and not frame[TCP].flags.R}


class Mixed(unittest.TestCase):
    """Several forwarding methods side by side."""

    def test_one_virtual_server_may_forward_to_each_real_server_in_its_own_way(self):
        # The virtual address of DR is also on the real servers' lo, so DR and TUN both reach it there.
        text = lab.config()
        start = text.index('name = "dr"')
        end = text.index('name = "tun"')
        block = text[start:end].replace('address = "10.20.0.12"\n  port = 80',
                                        'address = "10.20.0.12"\n  port = 80\n  forwarding = "tun"')
        block = block.replace('address = "10.20.0.13"\n  port = 80',
                              'address = "10.20.0.13"\n  port = 8080\n  forwarding = "nat"')
        with lab.Weir(text[:start] + block + text[end:]):
            picks = lab.answers(lab.VIPS["dr"], 9)
        self.assertEqual("".join(name for name, _ in picks), ROUND)
        self.assertEqual({client for _, client in picks}, {lab.CLIENT})

    def test_virtual_servers_keep_their_own_rounds(self):
        with lab.Weir():
            picks = collections.defaultdict(str)
            for _ in range(9):
                for method, vip in lab.VIPS.items():
                    picks[method] += lab.answers(vip, 1)[0][0]
        self.assertEqual(picks, {method: ROUND for method in lab.VIPS})
