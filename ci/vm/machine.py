"""The virtual machine that stands for the director: its devices on the lab's two LANs, and weir in it.

qemu runs in the lab's director namespace. Each of the guest's devices has a tap there, and one bridge for each LAN ties
the taps to the director's leg of scripts/lab. The guest is driven through a virtio port (`guest/agent`).
"""

import contextlib
import dataclasses
import json
import re
import socket
import subprocess

import image
import lab

BOOT_SECONDS = 240.0
COMMAND_SECONDS = 60.0
LANS = ("outer", "inner")

NODE_MIB = 1024
CPUS_OF_NODE = {0: (0, 1), 1: (2, 3)}


@dataclasses.dataclass(frozen=True)
class Nic:
    """A device of the guest."""

    kind: str
    lan: str
    number: int
    queues: int = 1
    rss: bool = False
    node: int | None = None

    @property
    def mac(self):
        """Its address, by which the guest finds it."""
        return f"52:54:00:77:00:{self.number:02x}"

    @property
    def tap(self):
        """The interface in the director's namespace that stands for its cable."""
        return f"nic{self.number}"

    def arguments(self, iommu):
        """qemu's options for it."""
        multi = f",queues={self.queues}" if self.queues > 1 else ""
        backend = f"tap,id=net{self.number},ifname={self.tap},script=no,downscript=no{multi}"
        bus = "pcie.0" if self.node is None else f"root{self.number}"
        device = f"{self.kind},bus={bus},netdev=net{self.number},mac={self.mac},romfile="
        if self.kind == "virtio-net-pci":
            device += ",disable-legacy=on" + (",iommu_platform=on" if iommu else "")
            if self.queues > 1:
                # A vector for each queue's receive and transmit side, one for configuration, one for control.
                device += f",mq=on,vectors={2 * self.queues + 2}" + (",rss=on" if self.rss else "")
        return ["-netdev", backend, "-device", device]


class Guest:
    """A running virtual machine. As a context manager it is booted inside the block and gone after it."""

    def __init__(self, nics, iommu=True, ipv6=False):
        self.nics = nics
        self.iommu = iommu
        self.ipv6 = ipv6
        self.console = lab.RUN / "console.log"
        self.log = lab.RUN / "qemu.log"
        self.process = None
        self.agent = None
        self.lines = None
        self.addresses = {}

    def command_line(self, folder, version, initramfs):
        """qemu's command line: q35, two NUMA nodes, and a PCI host bridge on each node that a device asks for."""
        line = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-nodefaults", "-no-user-config",
                "-display", "none", "-no-reboot", "-m", str(2 * NODE_MIB), "-smp", "4",
                "-machine", "q35", "-kernel", str(folder / f"boot/vmlinuz-{version}"), "-initrd", str(initramfs),
                "-append", "console=ttyS0 panic=-1 quiet" + ("" if self.ipv6 else " ipv6.disable=1") + (" intel_iommu=on" if self.iommu else ""),
                "-serial", f"file:{self.console}"]
        if self.iommu:
            line += ["-device", "intel-iommu,intremap=on,caching-mode=on,aw-bits=48"]
        for node, cpus in CPUS_OF_NODE.items():
            line += ["-object", f"memory-backend-ram,id=memory{node},size={NODE_MIB}M",
                     "-numa", f"node,nodeid={node},memdev=memory{node},cpus={cpus[0]}-{cpus[-1]}"]
        for node in sorted({nic.node for nic in self.nics} - {None}):
            line += ["-device", f"pxb-pcie,id=bridge{node},bus=pcie.0,bus_nr={64 + 64 * node},numa_node={node}"]
        for nic in self.nics:
            if nic.node is not None:
                line += ["-device", f"pcie-root-port,id=root{nic.number},bus=bridge{nic.node},chassis={nic.number}"]
            line += nic.arguments(self.iommu)
        line += ["-monitor", f"unix:{lab.RUN}/monitor,server=on,wait=off"]
        return [*line, "-device", "virtio-serial-pci,bus=pcie.0", "-chardev", f"socket,id=agent,path={lab.RUN}/agent,server=on,wait=off",
                "-device", "virtserialport,chardev=agent,name=weir.agent"]

    def start(self):
        """Lays the cables, boots, and returns when the agent answers."""
        lay_cables(self.nics)
        folder, version = image.kernel()
        command = self.command_line(folder, version, image.initramfs(folder, version))
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(lab.inside("director", *command), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.agent = socket.socket(socket.AF_UNIX)
        lab.wait_for("qemu", self._reach_agent, 10)
        self.agent.settimeout(BOOT_SECONDS)
        self.lines = self.agent.makefile("r", encoding="utf-8")
        try:
            ready = self.lines.readline()
        except OSError as error:
            raise AssertionError(f"the guest did not boot within {BOOT_SECONDS} s: {error}\n{self.said()}") from None
        if "ready" not in ready:
            raise AssertionError(f"the guest did not boot: {ready!r}\n{self.said()}")
        self.find()
        return self

    def _reach_agent(self):
        if self.process.poll() is not None:
            raise AssertionError(f"qemu ended with status {self.process.returncode}:\n{self.said()}")
        with contextlib.suppress(OSError):
            self.agent.connect(f"{lab.RUN}/agent")
            return True
        return False

    def said(self):
        """What qemu and the guest's kernel wrote."""
        return "".join(path.read_text(errors="replace") for path in (self.log, self.console) if path.exists())

    def ask(self, do, limit=COMMAND_SECONDS, **wanted):
        """One command to the agent; its answer."""
        wanted["do"] = do
        self.agent.settimeout(limit + 20)
        self.agent.sendall(json.dumps(wanted).encode() + b"\n")
        try:
            line = self.lines.readline()
        except OSError:
            raise AssertionError(f"the guest did not answer to {wanted} within {limit + 20} s:\n{self.said()}") from None
        if not line:
            raise AssertionError(f"the guest is gone, at {wanted}:\n{self.said()}")
        answer = json.loads(line)
        if "failed" in answer:
            raise AssertionError(f"{wanted}: {answer['failed']}")
        return answer

    def run(self, *command, seconds=COMMAND_SECONDS):
        """A command in the guest; what it printed. Another status than 0 is an error."""
        done = self.ask("run", seconds, command=command, seconds=seconds)
        if done["status"] != 0:
            raise AssertionError(f"guest: {' '.join(command)}: status {done['status']}: {done['out']}{done['err']}")
        return done["out"]

    def shell(self, text, seconds=COMMAND_SECONDS):
        """A line of shell in the guest."""
        return self.run("sh", "-ec", text, seconds=seconds)

    def find(self):
        """Where each device is on the PCI bus, by the address of the kernel's interface."""
        known = self.shell("for net in /sys/class/net/eth*; do echo $(cat $net/address) $(readlink -f $net/device); done")
        for line in known.splitlines():
            mac, path = line.split()
            for nic in self.nics:
                if nic.mac == mac:
                    self.addresses[nic] = re.findall(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", path)[-1]
        missing = set(self.nics) - set(self.addresses)
        if missing:
            raise AssertionError(f"the guest has no {missing}:\n{known}")

    def bind(self, driver, *nics):
        """Gives devices to a driver, as its user does."""
        self.run("dpdk-devbind.py", "-b", driver, *(self.addresses[nic] for nic in nics))
        for nic in nics:
            bound = self.run("readlink", f"/sys/bus/pci/devices/{self.addresses[nic]}/driver").strip().rpartition("/")[2]
            if bound != driver:
                raise AssertionError(f"{nic} is bound to {bound}, not to {driver}")

    def interface_of(self, nic):
        """The kernel's interface of a device that is bound to the kernel's driver."""
        path = self.shell(f"grep -l {nic.mac} /sys/class/net/*/address")
        return path.split("/")[4]

    def plug(self, *nics):
        """Has these devices on the wire and no others; nobody remembers what was there before."""
        for nic in self.nics:
            director("ip", "link", "set", nic.tap, "up" if nic in nics else "down")
        for node in ("client", *lab.REAL_SERVERS):
            lab.run(node, "ip", "neighbor", "flush", "all")

    def set_link(self, nic, is_up):
        """Puts a device's cable in or takes it out."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(COMMAND_SECONDS)
            monitor.connect(f"{lab.RUN}/monitor")
            monitor.sendall(f"set_link net{nic.number} {'on' if is_up else 'off'}\n".encode())
            # It prompts at the start, and once more when it is done.
            said = b""
            while said.count(b"(qemu) ") < 2:
                piece = monitor.recv(4096)
                if not piece:
                    raise AssertionError(f"qemu's monitor is gone: {said!r}")
                said += piece

    def hugepages(self, *counts):
        """Sets how many hugepages of 2 MiB each node has, from node 0 on."""
        for node, count in enumerate(counts):
            folder = f"/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB"
            got = self.shell(f"echo {count} > {folder}/nr_hugepages; cat {folder}/nr_hugepages").strip()
            if got != str(count):
                raise AssertionError(f"node {node} has {got} hugepages, not {count}")

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.end()
            raise

    def __exit__(self, *_):
        self.end()

    def end(self):
        """Switches the machine off."""
        for stream in (self.lines, self.agent):
            if stream:
                stream.close()
        if self.process:
            self.process.kill()
            self.process.wait()
        remove_cables(self.nics)


def lay_cables(nics):
    """A tap for each device, and a bridge for each LAN that ties them to it."""
    for lan in LANS:
        bridge = f"br-{lan}"
        director("ip", "link", "add", bridge, "type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
        director("ip", "link", "set", lan, "master", bridge)
        director("ip", "link", "set", bridge, "up")
    for nic in nics:
        multi = ["multi_queue"] if nic.queues > 1 else []
        director("ip", "tuntap", "add", "dev", nic.tap, "mode", "tap", *multi)
        director("ethtool", "-K", nic.tap, "tx", "off", "tso", "off", "gso", "off", "gro", "off")
        # Down until it is used: what comes meanwhile would wait in the tap for the device's start.
        director("ip", "link", "set", nic.tap, "master", f"br-{nic.lan}")


def remove_cables(nics):
    """Undoes `lay_cables`, as much of it as there is."""
    for name in [nic.tap for nic in nics] + [f"br-{lan}" for lan in LANS]:
        lab.run("director", "ip", "link", "delete", name)


def director(*command):
    """A command in the director's namespace, beside qemu."""
    return lab.run("director", *command, check=True).stdout
