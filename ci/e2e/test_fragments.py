"""The longest datagrams between kernels, in pieces: there by DR, TUN and NAT over both families, and back; every second piece comes to
another queue of weir's."""

import contextlib
import pathlib
import subprocess
import sys
import unittest

import lab
import parted
import test_streams

PROGRAM = str(pathlib.Path(parted.__file__).resolve())
LANS = ("outer", "inner")
PORT, NAT_PORT = 7, 7007
A, A6 = test_streams.A, test_streams.A6
VIPS = [(method, vip) for vips in (lab.VIPS, test_streams.VIPS6) for method, vip in vips.items()]
PLACES = [*[vip for method, vip in VIPS if method != "nat"], f"{A}/{NAT_PORT}", f"{A6}/{NAT_PORT}"]


@contextlib.contextmanager
def helper(node, *what):
    """`parted.py` in a node."""
    process = subprocess.Popen(lab.inside(node, sys.executable, PROGRAM, *what), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout.readline() != "ready\n":
            raise AssertionError(f"{what[0]} in {node} did not start")
        yield
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def cables():
    """A second cable to the director in each LAN, and who parts the pieces."""
    with contextlib.ExitStack() as undo:
        for lan in LANS:
            space, director = f"{lab.NAME}-{lan}", f"{lab.NAME}-director"
            def ip(*words, space=space):
                subprocess.run(["ip", "-n", space, *words], check=True)
            ip("link", "add", "second", "type", "veth", "peer", "name", f"{lan}2", "netns", director)
            undo.callback(ip, "link", "del", "second")
            ip("link", "add", "relay", "type", "veth", "peer", "name", "to-relay")
            undo.callback(ip, "link", "del", "relay")
            ip("link", "set", "to-relay", "master", "bridge", "up")
            ip("link", "set", "relay", "up")
            ip("link", "set", "second", "up")
            lab.run("director", "ip", "link", "set", f"{lan}2", "up", check=True)
            for node, device in ((lan, "second"), (lan, "relay"), (lan, "to-relay"), ("director", f"{lan}2")):
                lab.run(node, "ethtool", "-K", device, "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off")
            ip("link", "set", "to-director", "nomaster")
            undo.callback(ip, "link", "set", "to-director", "master", "bridge")
            undo.enter_context(helper(lan, "part"))
        yield


def config():
    """A virtual server for each method and family, all with A alone; two queues of each port."""
    text = '[http]\nlisten = "127.0.0.1:9292"\n[connections]\ncapacity = 65_536\n'
    ports = {"outer": f'"{lab.DIRECTOR_OUTER}/24", "fd10::2/64"', "inner": f'"{lab.DIRECTOR_INNER}/24", "{test_streams.DIRECTOR6}/64"'}
    for number, (port, addresses) in enumerate(ports.items()):
        text += f'[[port]]\nname = "{port}"\ndevice = "net_pcap{number}"\nrx_queues = 2\naddresses = [{addresses}]\n'
    for method, vip in VIPS:
        server = A6 if ":" in vip else A
        text += (f'[[virtual_server]]\nname = "{method}-{vip}"\naddress = "{vip}"\nport = {PORT}\nprotocol = "udp"\nforwarding = "{method}"\n'
                 f'[[virtual_server.real_server]]\naddress = "{server}"\nport = {NAT_PORT if method == "nat" else PORT}\n')
    return text


class Fragments(unittest.TestCase):
    def test_the_longest_datagrams_come_back_by_each_method_with_one_worker_and_with_two(self):
        with test_streams.network(), cables(), helper("A", "echo", str(PORT), *PLACES):
            for workers in (1, 2):
                weir = lab.Weir(config())
                lcores = ["-l", "0,1"] if workers == 1 else ["--lcores", "0@0,1@0,2@1"]
                devices = [f"--vdev=net_pcap{number},rx_iface_in={lan},rx_iface_in={lan}2,tx_iface={lan},tx_iface={lan}"
                           for number, lan in enumerate(LANS)]
                weir.command = lab.inside("director", str(lab.binary()), *lcores, "--no-pci", "--no-huge", "-m", "512", *devices,
                                          "--", "-c", str(weir.file))
                with self.subTest(workers=workers), weir:
                    asked = lab.run("client", sys.executable, PROGRAM, "ask", str(PORT), *[vip for _, vip in VIPS],
                                    timeout=parted.TRIES * parted.SECONDS * len(VIPS) + lab.BUSY_SECONDS)
                    came = [line.split()[0] for line in asked.stdout.splitlines()]
                    drops = {key: count for key, count in weir.metrics().items() if key[0] == "weir_drops_total" and count}
                    self.assertEqual(came, [vip for _, vip in VIPS], f"{asked.stdout}{asked.stderr}{drops}")
            for lan in LANS:
                parted_off = int(lab.run(lan, "cat", "/sys/class/net/second/statistics/tx_packets", check=True).stdout)
                self.assertGreater(parted_off, 2 * 2 * 20, f"pieces of {lan} that went another way")


if __name__ == "__main__":
    unittest.main()
