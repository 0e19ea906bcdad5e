"""Traffic in pieces: every second packet is one, and so many datagrams are under way at any time."""

import struct
from dataclasses import dataclass
from pathlib import Path

from . import traffic, weir

# Data of a piece: a first one has a UDP header in front.
_STEP = 24
_MORE = 0x2000
_RECORD = struct.Struct("<IIII")
_FRAME_BYTES = traffic.SIZES.start - traffic.FCS_BYTES
_UDP = 17
_BESIDE_MAC = "02:00:00:00:00:02"
_VIP = bytes(int(part) for part in traffic.VIP.split("."))


@dataclass(frozen=True)
class Cut:
    """Datagrams of two pieces, and a whole one before each piece. The last piece of each comes `under_way` datagrams behind its first one,
    and the file begins again as it ends, so from the second pass on as many are under way all the time.
    """

    under_way: int
    queues: int = 1
    kind: str = "udp"
    size: int = traffic.SIZES.start
    is_ipv6: bool = False
    what: str = "udp"

    @property
    def flows(self) -> int:
        """Each datagram is one's own."""
        return 2 * self.under_way

    @property
    def frames(self) -> int:
        return 4 * self.flows

    def make(self, folder: Path) -> list[Path]:
        def frames():
            for flow in range(self.flows):
                yield _frame(flow, 0)
                yield _frame(flow, _MORE)
                yield _frame(flow, 0)
                yield _frame((flow + self.under_way) % self.flows, _STEP // 8)

        return [_write(folder / f"pieces-{self.under_way}.pcap", frames())]


def first_pieces(folder: Path, count: int) -> Path:
    """First pieces of so many datagrams that never become whole, to a socket that nobody serves."""
    return _write(folder / f"first-pieces-{count}.pcap", (_link(_BESIDE_MAC) + _frame(flow, _MORE)[14:] for flow in range(count)))


def case(method: str, cut, places: int, beside: Path | None, capacity: int) -> weir.Case:
    """A start of weir with so many places for packets in pieces. With a second port, on which a file is read once."""
    return _Case(method, cut, 2048, capacity, places=places, beside=beside)


@dataclass(frozen=True)
class _Case(weir.Case):
    places: int = 0
    beside: Path | None = None

    def file(self, folder: Path, http_port: int) -> str:
        # Pieces stay for a day: what is measured is no matter of time.
        more = f"fragments = {self.places}\nipfrag_time = 86_400\n"
        text = super().file(folder, http_port).replace("[connections]\n", f"[connections]\n{more}")
        if self.beside:
            port = '[[port]]\nname = "beside"\ndevice = "net_pcap1"\n'
            port += f'mac = "{_BESIDE_MAC}"\naddresses = ["10.1.0.1/16"]\n'
            text += f"\n{port}"
        return text

    def devices(self) -> list[str]:
        return [f"net_pcap1,rx_pcap={self.beside},tx_pcap=/dev/null"] if self.beside else []


def _write(path: Path, frames) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for frame in frames:
            file.write(_RECORD.pack(0, 0, len(frame), len(frame)) + frame)
    return path


def _frame(flow: int, fragment: int) -> bytes:
    """A datagram of a flow's, whole or one of its pieces. No port stands in a later one. Nobody looks at a checksum of UDP."""
    address, port = traffic.client_of(flow)
    data = b"" if fragment & 0x1FFF else struct.pack(">HHHH", port, traffic.VIP_PORT, 8 if not fragment else 2 * _STEP, 0)
    data = data if not fragment else data.ljust(_STEP, b"\x5a")
    # One client may have several flows, of other ports.
    head = struct.pack(">BBHHHBBHI", 0x45, 0, 20 + len(data), port, fragment, 64, _UDP, 0, address) + _VIP
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack(">H", total ^ 0xFFFF) + head[12:]
    return (_link(traffic.WEIR_MAC) + head + data).ljust(_FRAME_BYTES, b"\0")


def _link(mac: str) -> bytes:
    return bytes.fromhex((mac + traffic.GATEWAY_MAC).replace(":", "")) + b"\x08\x00"
