"""Frames that a host is flooded with, for the end-to-end tests."""

import struct

ETH_P_IP = 0x0800
# Of a pcap file: microseconds, Ethernet.
PCAP_HEAD = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)


def pcap_record(frame):
    """A frame in a pcap file."""
    return struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame


def checksum(data):
    """The Internet checksum."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def ip_packet(protocol, source, destination, payload):
    """An IPv4 packet."""
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol, 0, source, destination)
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def with_pseudo_header(protocol, source, destination, segment, at):
    """The segment with its checksum, which stands at offset `at`."""
    pseudo = source + destination + struct.pack("!BBH", 0, protocol, len(segment))
    return segment[:at] + struct.pack("!H", checksum(pseudo + segment)) + segment[at + 2:]


def tcp(source, destination, ports, flags):
    """A bare TCP segment."""
    segment = struct.pack("!HHIIBBHHH", *ports, 12345, 6789, 0x50, flags, 1024, 0, 0)
    return ip_packet(6, source, destination, with_pseudo_header(6, source, destination, segment, 16))


def udp(source, destination, ports):
    """A datagram."""
    segment = struct.pack("!HHHH", *ports, 18, 0) + b"0123456789"
    return ip_packet(17, source, destination, with_pseudo_header(17, source, destination, segment, 6))


def echo(source, destination, number):
    """A ping."""
    message = struct.pack("!BBHHH", 8, 0, 0, number & 0xFFFF, 1) + bytes(24)
    return ip_packet(1, source, destination, message[:2] + struct.pack("!H", checksum(message)) + message[4:])


KINDS = {
    "syn": lambda s, d, n, port: tcp(s, d, (1024 + n, port), 0x02),
    "ack": lambda s, d, n, port: tcp(s, d, (1024 + n, port), 0x10),
    "udp": lambda s, d, n, port: udp(s, d, (1024 + n, port)),
    "icmp": lambda s, d, n, _port: echo(s, d, n),
    # Of a protocol that no host speaks.
    "stray": lambda s, d, _n, _port: ip_packet(253, s, d, bytes(26)),
}
