"""Packets in pieces: cutting them, and what a receiver makes of the pieces that reach it, inside of tunnels or not.

A receiver puts together what it can (RFC 791, RFC 8200): pieces that repeat others are passed over, and one that overlaps others ends its packet,
as in Linux. Nothing here uses weir's own reading.
"""

import dataclasses

import golden
from frames import with_header_checksum

IPV6_FRAGMENT = 44
# IPv4 and IPv6 in IP, and GRE.
TUNNELS = (4, 41)
GRE = 47


@dataclasses.dataclass(frozen=True)
class Whole:
    """A packet as it arrives: over which link, between whom, and what is in it."""
    link: bytes
    ends: bytes
    limit: int
    protocol: int
    payload: bytes

    def __str__(self):
        return (f"{len(self.payload)} bytes of protocol {self.protocol}, limit {self.limit}, {self.ends.hex()} to "
                f"{self.link[:6].hex()}: {self.payload[:24].hex()}...")


class Receiver:
    """Takes frames; `whole` is what they hold once it is all there."""

    def __init__(self):
        self.whole = []
        self.parts = {}

    def take(self, frame):
        """A frame with IPv4 or IPv6 in it to a single host; any other is passed over."""
        if not frame[0] & 1 and frame[12:14] in (golden.IPV4, golden.IPV6):
            self._packet(frame[:12], frame[golden.ETHERNET:])

    def _packet(self, link, packet):
        if packet[0] >> 4 == 4:
            length = (packet[0] & 15) * 4
            control = int.from_bytes(packet[6:8], "big")
            data = packet[length:int.from_bytes(packet[2:4], "big")]
            place = ((control & 0x1FFF) * 8, bool(control & 0x2000))
            self._piece(link, (packet[12:20], packet[8], packet[9]), packet[4:6], place, data)
            return
        data = packet[40:40 + int.from_bytes(packet[4:6], "big")]
        if packet[6] != IPV6_FRAGMENT:
            self._whole(link, (packet[8:40], packet[7], packet[6]), data)
            return
        control = int.from_bytes(data[2:4], "big")
        self._piece(link, (packet[8:40], packet[7], data[0]), data[4:8], (control & ~7, bool(control & 1)), data[8:])

    def _piece(self, link, head, ident, place, data):
        start, more = place
        if start == 0 and not more:
            self._whole(link, head, data)
            return
        key = (head[0], head[2], ident)
        parts = self.parts.setdefault(key, {})
        if parts is None:
            return
        end = start + len(data)
        known = next((at + len(part) for at, (part, follow) in parts.items() if not follow), None)
        covered = [(at, at + len(part)) for at, (part, _) in sorted(parts.items())]
        runs = []
        for at, to in covered:
            if runs and runs[-1][1] == at:
                runs[-1] = (runs[-1][0], to)
            else:
                runs.append((at, to))
        is_beyond = known is not None and (end > known or not more and end != known)
        if is_beyond or not more and any(to > end for _, to in covered):
            self.parts[key] = None
        elif any(at <= start and end <= to for at, to in runs):
            pass
        elif any(start < to and at < end for at, to in covered):
            self.parts[key] = None
        else:
            parts[start] = (data, more)
            ordered = [parts[at] for at in sorted(parts)]
            joined = b"".join(part for part, _ in ordered)
            if 0 in parts and not ordered[-1][1] and max(at + len(part) for at, (part, _) in parts.items()) == len(joined):
                del self.parts[key]
                self._whole(link, head, joined)

    def _whole(self, link, head, data):
        ends, limit, protocol = head
        if protocol in TUNNELS:
            self._packet(link, data)
        elif protocol == GRE and len(data) > 8:
            self._packet(link, data[8 if data[0] & 0x80 else 4:])
        elif protocol == golden.UDP and int.from_bytes(data[2:4], "big") == golden.GUE_PORT:
            self._packet(link, data[12 + (data[8] & 0x1F) * 4:])
        else:
            self.whole.append(Whole(link, ends, limit, protocol, data))


def differences(port, expected, got):
    """Sentences about what arrives of the frames that weir sent out of a port and of those of the kernel; none if it is the same, in the
    same order.
    """
    problems = []
    ends = [Receiver(), Receiver()]
    for receiver, frames in zip(ends, (expected, got)):
        for frame in frames:
            receiver.take(frame)
    wanted, seen = (receiver.whole for receiver in ends)
    for index in range(max(len(wanted), len(seen))):
        if wanted[index:index + 1] != seen[index:index + 1]:
            pair = [str(whole[index]) if index < len(whole) else "nothing" for whole in (wanted, seen)]
            problems.append(f"{port}, packet {index}: expected {pair[0]}\n      got {pair[1]}")
    return problems


def cut(frame, ident, size):
    """An untagged frame without IP options or extension headers in pieces of at most `size` bytes of data, a multiple of eight."""
    link, packet = frame[:golden.ETHERNET], frame[golden.ETHERNET:]
    is_v4 = packet[0] >> 4 == 4
    data = packet[20:int.from_bytes(packet[2:4], "big")] if is_v4 else packet[40:]
    return [link + one_piece(packet, ident, data[at:at + size], (at, at + size < len(data)))
            for at in range(0, len(data), size)]


def one_piece(packet, ident, data, place):
    """The piece at this place, with the headers of `packet` and this data."""
    start, more = place
    if packet[0] >> 4 == 4:
        control = (start // 8 | 0x2000 * more).to_bytes(2, "big")
        head = packet[:2] + (20 + len(data)).to_bytes(2, "big") + ident.to_bytes(2, "big") + control + packet[8:20]
        return with_header_checksum(head + data)
    control = (start | more).to_bytes(2, "big")
    head = packet[:4] + (8 + len(data)).to_bytes(2, "big") + bytes([IPV6_FRAGMENT]) + packet[7:40]
    return head + packet[6:7] + b"\0" + control + ident.to_bytes(4, "big") + data
