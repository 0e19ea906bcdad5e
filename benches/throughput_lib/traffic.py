"""Traffic files: pcap files with one frame per flow, or two where replies are mixed in, in a repeatable random order.

Every flow has its own client address in 100.64.0.0/10 and port in 32768..65535. The mapping from a flow's number to
these 37 bits is a bijection, so flows are distinct by construction and nothing has to be remembered while writing. A client of
IPv6 has the same bits behind a prefix.
"""

import hashlib
import ipaddress
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

VIP = "198.18.0.1"
VIP6 = "2001:db8::100"
VIP_PORT = 80
WEIR_MAC = "02:00:00:00:00:01"
GATEWAY_MAC = "02:00:00:00:00:fe"
REAL_SERVER_NAT = "10.0.0.11"
REAL_SERVER_NAT6 = "2001:db8::1:0"
REAL_SERVER_NAT_PORT = 8080

KINDS = {
    "ack": "established ACKs",
    "syn": "SYNs of new flows",
    "udp": "UDP",
    "mixed": "ACKs of both directions of NAT",
    "ack6": "established ACKs over IPv6",
    "syn6": "SYNs of new flows over IPv6",
    "udp6": "UDP over IPv6",
    "mixed6": "ACKs of both directions of NAT over IPv6",
}
FCS_BYTES = 4
SIZES = range(64, 1519)

# Part of a file's key: raise it when what is written changes.
FORMAT = 1

_PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
_RECORD_HEADER_BYTES = 16
_CHUNK_BYTES = 1 << 22

_TCP_SYN = 0x02
_TCP_ACK = 0x10
_CLIENTS = 100 << 24 | 64 << 16
_CLIENTS6 = "2001:db8:64::"
_FLOW_BITS = 37
_FLOW_MASK = (1 << _FLOW_BITS) - 1


@dataclass(frozen=True)
class Traffic:
    """What comes in. `size` is the frame's length on the wire, FCS included, as RFC 2544 counts it.

    Each receive queue has a file with its share of the flows, as RSS would deal them out.
    """

    kind: str
    size: int
    flows: int
    queues: int = 1

    @property
    def is_ipv6(self) -> bool:
        return self.kind.endswith("6")

    @property
    def what(self) -> str:
        """The kind, whatever the family."""
        return self.kind.removesuffix("6")

    @property
    def frames(self) -> int:
        return self.flows * 2 if self.what == "mixed" else self.flows

    @property
    def frame_bytes(self) -> int:
        """Length of a frame in the file: without FCS."""
        return self.size - FCS_BYTES

    def share(self, queue: int) -> range:
        """The numbers of the queue's flows."""
        return range(self.flows * queue // self.queues, self.flows * (queue + 1) // self.queues)

    def file_bytes(self, queue: int = 0) -> int:
        frames = len(self.share(queue)) * (self.frames // self.flows)
        return len(_PCAP_HEADER) + frames * (_RECORD_HEADER_BYTES + self.frame_bytes)

    def path(self, folder: Path, queue: int) -> Path:
        text = f"{FORMAT} {self.kind} {self.size} {self.share(queue)} {VIP} {VIP_PORT} {WEIR_MAC} {GATEWAY_MAC}"
        text += f" {REAL_SERVER_NAT} {REAL_SERVER_NAT_PORT}"
        if self.is_ipv6:
            text += f" {VIP6} {REAL_SERVER_NAT6} {_CLIENTS6}"
        key = hashlib.sha256(text.encode()).hexdigest()[:10]
        return folder / f"{self.kind}-{self.size}-{len(self.share(queue))}-{key}.pcap"

    def make(self, folder: Path) -> list[Path]:
        """The files, by queue. Writes what is not there already; a half-written one is never taken for whole."""
        return [self._make(folder, queue) for queue in range(self.queues)]

    def _make(self, folder: Path, queue: int) -> Path:
        path = self.path(folder, queue)
        needed = self.file_bytes(queue)
        if path.exists() and path.stat().st_size == needed:
            return path
        folder.mkdir(parents=True, exist_ok=True)
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        if free < needed:
            raise OSError(f"{path} needs {needed >> 20} MiB, {folder} has {free >> 20} MiB free")
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            with open(partial, "wb", buffering=0) as file:
                file.write(_PCAP_HEADER)
                for chunk in _chunks(self, self.share(queue)):
                    file.write(chunk)
            partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)
        return path


def flow_bits(flow: int) -> int:
    """The flow's 37 bits: 22 of the client's address, 15 of its port. A bijection of 0..2^37."""
    x = (flow * 0x1CE4E5B9BF58476D + 0x133111EB94D049BB) & _FLOW_MASK
    x ^= x >> 18
    x = x * 0xD6E8FEB86659FD93 & _FLOW_MASK
    return x ^ x >> 19


def client_of(flow: int) -> tuple[int, int]:
    """Address and port of the flow's client."""
    x = flow_bits(flow)
    return _CLIENTS | x >> 15, 0x8000 | x & 0x7FFF


def size_least(kind: str) -> int:
    """Of a frame of this kind, FCS included: a TCP segment without payload."""
    return 78 if kind.endswith("6") else SIZES.start


def _address(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _sum(data: bytes) -> int:
    """The one's complement sum before folding (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    return sum(struct.unpack(f">{len(data) // 2}H", data))


@dataclass(frozen=True)
class _Template:
    """A frame in which what is the client's of address and port, and the checksums, are zero, and the sums over the rest."""

    frame: bytes
    ip_sum: int
    l4_sum: int


def _template(traffic: Traffic, reply: bool) -> _Template:
    udp, six = traffic.what == "udp", traffic.is_ipv6
    l4_header_bytes = 8 if udp else 20
    least = (54 if six else 34) + l4_header_bytes
    # A TCP segment of a minimum frame has no payload: Ethernet pads it.
    payload_bytes = 0 if traffic.size == 64 and not udp else traffic.frame_bytes - least
    payload = bytes(0x40 + i % 64 for i in range(payload_bytes))
    ports = (REAL_SERVER_NAT_PORT, 0) if reply else (0, VIP_PORT)
    if udp:
        l4 = struct.pack(">HHHH", *ports, 8 + payload_bytes, 0) + payload
    else:
        flags = _TCP_SYN if traffic.what == "syn" else _TCP_ACK
        acknowledged = 0 if flags == _TCP_SYN else 0x20000001
        l4 = struct.pack(">HHIIBBHHH", *ports, 0x10000001, acknowledged, 5 << 4, flags, 65535, 0, 0) + payload
    protocol = 17 if udp else 6
    if six:
        server, vip, client = (_address(it) for it in (REAL_SERVER_NAT6, VIP6, _CLIENTS6))
    else:
        server, vip, client = _address(REAL_SERVER_NAT), _address(VIP), bytes(4)
    ends = server + client if reply else client + vip
    if six:
        ip = struct.pack(">IHBB", 6 << 28, len(l4), protocol, 64) + ends
    else:
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(l4), 0, 0x4000, 64, protocol, 0) + ends
    ethernet = _mac(WEIR_MAC) + _mac(GATEWAY_MAC) + (b"\x86\xdd" if six else b"\x08\x00")
    frame = (ethernet + ip + l4).ljust(traffic.frame_bytes, b"\0")
    pseudo = ends + struct.pack(">HH", protocol, len(l4))
    return _Template(frame, _sum(ip), _sum(pseudo) + _sum(l4))


def device(files: list[Path]) -> str:
    """EAL's argument for a port with a receive queue per file, which never runs dry."""
    return ",".join(["net_pcap0", *(f"rx_pcap={file}" for file in files), "infinite_rx=1"])


def _chunks(traffic: Traffic, share: range) -> Iterator[bytearray]:
    """A file after its header, in pieces."""
    templates = [_template(traffic, reply=False)]
    if traffic.what == "mixed":
        templates.append(_template(traffic, reply=True))
    header = struct.pack("<IIII", 0, 0, traffic.frame_bytes, traffic.frame_bytes)
    group = b"".join(header + template.frame for template in templates)
    groups_max = max(1, _CHUNK_BYTES // len(group))
    buffer = bytearray(group * min(groups_max, len(share)))
    record_bytes = _RECORD_HEADER_BYTES + traffic.frame_bytes
    for first in range(0, len(share), groups_max):
        count = min(groups_max, len(share) - first)
        for direction, template in enumerate(templates):
            # A reply follows its request half a file later, so that neither finds the other's cache lines warm.
            shift = len(share) // 2 if direction else 0
            flows = (share[(flow + shift) % len(share)] for flow in range(first, first + count))
            start = direction * record_bytes + _RECORD_HEADER_BYTES + 14
            starts = range(start, start + count * len(group), len(group))
            fill = _fill6 if traffic.is_ipv6 else _fill
            fill(buffer, zip(starts, flows), template, traffic.what == "udp", reply=direction == 1)
        yield buffer if count == groups_max else buffer[: count * len(group)]


def _fill(buffer: bytearray, places: Iterator[tuple[int, int]], template: _Template, udp: bool, reply: bool) -> None:
    """Writes client address, port and both checksums into each frame, whose IP header begins at `start`."""
    ip_sum, l4_sum = template.ip_sum, template.l4_sum
    addresses = struct.Struct(">HI").pack_into  # IP checksum and source stand side by side
    word, long = struct.Struct(">H").pack_into, struct.Struct(">I").pack_into
    port_at, checksum_at = (22 if reply else 20), (26 if udp else 36)
    fixed_source = int.from_bytes(_address(REAL_SERVER_NAT), "big")
    zero = 0xFFFF if udp else 0
    for start, flow in places:
        # flow_bits, written out: this loop runs ten million times.
        x = (flow * 0x1CE4E5B9BF58476D + 0x133111EB94D049BB) & 0x1FFFFFFFFF
        x ^= x >> 18
        x = x * 0xD6E8FEB86659FD93 & 0x1FFFFFFFFF
        x ^= x >> 19
        port = 0x8000 | x & 0x7FFF
        client = 0x64400000 | x >> 15
        halves = (client >> 16) + (client & 0xFFFF)
        # One's complement arithmetic is arithmetic modulo 0xffff; UDP sends a computed 0 as 0xffff (RFC 768).
        ip = -(ip_sum + halves) % 0xFFFF
        l4 = -(l4_sum + halves + port) % 0xFFFF or zero
        if reply:
            addresses(buffer, start + 10, ip, fixed_source)
            long(buffer, start + 16, client)
        else:
            addresses(buffer, start + 10, ip, client)
        word(buffer, start + port_at, port)
        word(buffer, start + checksum_at, l4)


def _fill6(buffer: bytearray, places: Iterator[tuple[int, int]], template: _Template, udp: bool, reply: bool) -> None:
    """As `_fill`, of IPv6: the client's bits are the last ones of its address, and the header has no checksum."""
    l4_sum = template.l4_sum
    word, long = struct.Struct(">H").pack_into, struct.Struct(">I").pack_into
    client_at, port_at, checksum_at = (36 if reply else 20), (42 if reply else 40), (46 if udp else 56)
    zero = 0xFFFF if udp else 0
    for start, flow in places:
        client, port = client_of(flow)
        l4 = -(l4_sum + (client >> 16) + (client & 0xFFFF) + port) % 0xFFFF or zero
        long(buffer, start + client_at, client)
        word(buffer, start + port_at, port)
        word(buffer, start + checksum_at, l4)
