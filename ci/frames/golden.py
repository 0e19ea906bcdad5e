"""Golden frame traces: what a running kernel's IPVS sent for each frame it was given.

`golden/MODE.jsonl.gz` holds one case a line: `{mode, case, doc, setup, events}` and the mtu of both sides; events are
`{dir: in|out, if: c0|r0, comment, hex}`, `{dir: cmd, comment}` and `{dir: conns}`. `steps` groups them, and
`differences` compares what weir sent with what the kernel sent, leaving out what is not fixed from run to run.
"""

import dataclasses
import gzip
import ipaddress
import json
import pathlib
import re

from scapy.layers.l2 import Ether
from scapy.utils import checksum

from harness import is_arp

DIRECTORY = pathlib.Path(__file__).resolve().parent / "golden"
ETHERNET = 14
IPV4 = b"\x08\x00"
IPV6 = b"\x86\xdd"
# How the IPv6 addresses of virtual servers begin.
VIPS6 = bytes.fromhex("20010db8f00d")
# Where a fragment header of IPv6 begins.
FRAGMENT6 = ETHERNET + 40
UDP = 17
# IPv4 and IPv6 in IP, and GRE.
TUNNELS = (4, 41, 47)
GUE_PORT = 6080
DONT_FRAGMENT = 0x40
# The real servers' ports for the virtual servers', as the NAT recordings have them.
NAT_PORTS = {80: 8080, 53: 5353}


@dataclasses.dataclass
class Step:
    """One frame in and the kernel's frames out, or commands to carry out before the next frame."""
    commands: list = dataclasses.field(default_factory=list)
    port: str = ""
    frame: bytes = b""
    comment: str = ""
    out: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Case:
    """One recorded scenario."""
    mode: str
    name: str
    doc: str
    setup: list
    mtu: dict
    steps: list
    counts: dict
    forwarding: str = ""

    def adapt(self, setup):
        """Gives every real server the forwarding method of a case made from another one's recording."""
        for service in setup.services if self.forwarding else ():
            for server in service.servers:
                server.forwarding = self.forwarding
                server.options = {key: value for key, value in server.options.items() if "tunnel" not in key}
                if self.forwarding == "nat":
                    server.port = NAT_PORTS.get(server.port, server.port)
        return setup


    def marked_addresses(self, services):
        """The destinations of clients' packets that netfilter must have marked: those of no other service."""
        others = {service.address for service in services}
        frames = [step.frame for step in self.steps if step.port == "c0"]
        found = {_dotted(frame[30:34].hex()) for frame in frames if frame[12:14] == IPV4}
        six = [ipaddress.IPv6Address(frame[38:54]) for frame in frames if frame[12:14] == IPV6]
        found |= {str(address) for address in six if not address.is_multicast}
        return sorted(found - others)


def load(mode):
    """All cases of one mode."""
    with gzip.open(DIRECTORY / f"{mode}.jsonl.gz", "rt") as lines:
        return [_case(json.loads(line)) for line in lines]


def _case(record):
    mtu = {"c0": record["mtu_client_side"], "r0": record["mtu_server_side"]}
    return Case(record["mode"], record["case"], record["doc"], record["setup"] + sctp_commands(record), mtu,
                _steps(record["events"], record["mode"]), counts(record["ip_vs_end"]))


def sctp_commands(record):
    """The commands that made a case's SCTP service: the recordings leave them out, the kernel's table has it."""
    if any("--sctp-service" in command for command in record["setup"]):
        return []
    commands = []
    for protocol, vip, vport, server, port in counts(record["ip_vs_end"]):
        if protocol == "sctp":
            vip, server = _bracketed(vip), _bracketed(server)
            service = f"--sctp-service {vip}:{vport}"
            commands.append(f"ipvsadm -A {service} -s rr")
            commands.append(f"ipvsadm -a {service} -r {server}:{port} {_method(record['mode'])}")
    return commands


def _bracketed(address):
    return f"[{address}]" if ":" in address else address


def _method(mode):
    """ipvsadm's switches for the forwarding method of a mode: `nat4`, `tun4-ipip`, `tun4-gue-csum`, `tun6in4`."""
    method, *tunnel = mode.split("-")
    switch = {"nat": "-m", "dr": "-g"}.get(method.rstrip("46"), "-i")
    if not tunnel or tunnel[0] in ("ipip", "ip6ip6"):
        return switch
    port = f" --tun-port {GUE_PORT}" if tunnel[0] == "gue" else ""
    return " ".join([switch, "--tun-type", tunnel[0] + port, *(f"--tun-{checksum}" for checksum in tunnel[1:])])


def is_routed_answer(frame, port, mode):
    """A DR or TUN server's IPv6 packet to a client by way of the director. The recorded kernel forwards it as any router does
    (over IPv4 it refuses its own address as a source); weir is no router, and such servers answer by their own gateway.
    """
    is_to_vip = frame[38:44] == VIPS6
    return port == "r0" and frame[12:14] == IPV6 and not is_to_vip and not mode.startswith("nat")


def _steps(events, mode):
    steps = []
    is_routed = False
    for event in events:
        if event["dir"] == "cmd":
            if not steps or not steps[-1].commands:
                steps.append(Step())
            steps[-1].commands.append(event["comment"])
        elif event["dir"] == "in":
            is_routed = is_routed_answer(bytes.fromhex(event["hex"]), event["if"], mode)
            steps.append(Step(port=event["if"], frame=bytes.fromhex(event["hex"]), comment=event["comment"]))
        elif event["dir"] == "out":
            frame = bytes.fromhex(event["hex"])
            if not is_arp(frame) and not is_routed:
                steps[-1].out.append((event["if"], frame))
    return steps


def counts(proc_ip_vs):
    """`{(protocol, vip, port, rip, port): (active, inactive)}` from the text of /proc/net/ip_vs.

    A mark stands as protocol "mark", without a VIP, in the place of the port.
    """
    found = {}
    service = None
    for line in proc_ip_vs.splitlines():
        head = re.match(r"(TCP|UDP|SCTP)\s+([0-9A-F]{8}|\[[0-9a-f:]+\]):([0-9A-F]{4})\s", line)
        mark = re.match(r"FWM\s+([0-9A-F]{8})\s", line)
        server = re.match(r"\s+-> ([0-9A-F]{8}|\[[0-9a-f:]+\]):([0-9A-F]{4})\s+\w+\s+\d+\s+(\d+)\s+(\d+)", line)
        if head:
            service = (head.group(1).lower(), _dotted(head.group(2)), int(head.group(3), 16))
        elif mark:
            service = ("mark", "", int(mark.group(1), 16))
        elif server and service:
            found[(*service, _dotted(server.group(1)), int(server.group(2), 16))] = (
                int(server.group(3)), int(server.group(4)))
        elif not line.startswith(" "):
            service = None
    return found


def _dotted(hexadecimal):
    if hexadecimal.startswith("["):
        return str(ipaddress.IPv6Address(hexadecimal.strip("[]")))
    return ".".join(str(octet) for octet in bytes.fromhex(hexadecimal))


def differences(step, sent):
    """Sentences about every way in which `sent` (`[(port, frame)]`) is not what the kernel sent; none if it is."""
    problems = []
    for port in ("c0", "r0"):
        expected = [frame for out, frame in step.out if out == port]
        got = [frame for out, frame in sent if out == port]
        for index in range(max(len(expected), len(got))):
            if index >= len(got):
                problems.append(f"missing on {port}: {describe(expected[index])}")
            elif index >= len(expected):
                problems.append(f"unexpected on {port}: {describe(got[index])}")
            else:
                problems += difference(port, step.frame, expected[index], got[index])
    idents = {frame[18:20] for port, frame in sent if is_fragment(frame)}
    idents |= {frame[FRAGMENT6 + 4:FRAGMENT6 + 8] for port, frame in sent if is_fragment6(frame)}
    if len(idents) > 1:
        problems.append("the pieces of one packet differ in their ident")
    return problems


def difference(port, given, expected, got):
    """What is wrong with a frame that left, in sentences."""
    masked = fixed_parts(expected, given, expected), fixed_parts(expected, given, got)
    if masked[0] != masked[1]:
        offsets = [i for i in range(max(map(len, masked))) if masked[0][i:i + 1] != masked[1][i:i + 1]]
        return [f"differs on {port} at byte {offsets[0]} ({len(offsets)} in all)\n"
                f"      expected {describe(expected)}\n      got      {describe(got)}"]
    if got[12:14] == IPV4 and checksum(got[ETHERNET:ETHERNET + header_length(got)]) != 0:
        return [f"wrong IP header checksum on {port}: {describe(got)}"]
    if is_gue(expected) and not is_fragment(got) and not gue_checksum_is_right(got):
        return [f"wrong UDP checksum of a tunnel on {port}: {describe(got)}"]
    return []


def is_gue(frame):
    """A frame of a GUE tunnel."""
    payload = ETHERNET + header_length(frame)
    return protocol(frame) == UDP and int.from_bytes(frame[payload + 2:payload + 4], "big") == GUE_PORT


def is_tunnel_over_ipv6(frame):
    """A frame whose outer header is one of IPv6."""
    return frame[12:14] == IPV6 and (protocol(frame) in TUNNELS or is_gue(frame))


def protocol(frame):
    """What the IP header says that follows; None without one."""
    at = {IPV4: 23, IPV6: 20}.get(frame[12:14])
    return frame[at] if at else None


def gue_checksum_is_right(frame):
    """Of the outer UDP header, over all that it covers; one without is right."""
    datagram = frame[ETHERNET + header_length(frame):]
    ends = frame[26:34] if frame[12:14] == IPV4 else frame[22:54]
    pseudo = ends + bytes([0, UDP]) + len(datagram).to_bytes(2, "big")
    return datagram[6:8] == bytes(2) or checksum(pseudo + datagram) == 0


def fixed_parts(expected, given, frame):
    """`frame` without what changes from run to run: an ident or flow label that the director chose, GUE's source port."""
    frame = bytearray(frame)
    if is_fragment6(expected):
        frame[FRAGMENT6 + 4:FRAGMENT6 + 8] = bytes(4)
    if expected[12:14] == given[12:14] == IPV6 and expected[15:18] != given[15:18] and not is_tunnel_over_ipv6(expected):
        # The label of what the director sent itself; the traffic class has no part in it.
        frame[15] &= 0xF0
        frame[16:18] = bytes(2)
    if len(frame) < ETHERNET + 20:
        return bytes(frame)
    if expected[12:14] == IPV4 and chooses_ident(expected, given):
        frame[18:20] = frame[24:26] = bytes(2)
    payload = ETHERNET + header_length(expected)
    if is_gue(expected):
        frame[payload:payload + 2] = bytes(2)
        if frame[payload + 6:payload + 8] != bytes(2):
            frame[payload + 6:payload + 8] = b"\xff\xff"
    return bytes(frame)


def chooses_ident(expected, given):
    """Whether the kernel made up the ident of this IPv4 packet: it may be fragmented and it is not the input's."""
    return not expected[20] & DONT_FRAGMENT and (given[12:14] != IPV4 or expected[18:20] != given[18:20])


def is_fragment(frame):
    """A piece of an IPv4 packet."""
    return frame[12:14] == IPV4 and int.from_bytes(frame[20:22], "big") & 0x3FFF != 0


def is_fragment6(frame):
    """A piece of an IPv6 packet."""
    return frame[12:14] == IPV6 and frame[20] == 44


def header_length(frame):
    """Of the IP header, without extension headers, in bytes."""
    return 40 if frame[12:14] == IPV6 else (frame[ETHERNET] & 0x0F) * 4


def describe(frame):
    """A frame for a message: summary and bytes."""
    packet = Ether(frame)
    return f"{packet.src}>{packet.dst} {packet.payload.summary()} [{len(frame)}] {frame.hex()}"
