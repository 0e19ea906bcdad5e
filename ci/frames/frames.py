"""Frames for the tests, built by scapy, and what a director must make of them.

Builders return bytes. The functions that say what must come out (`dr`, `tun`, `nat_request`, ...) work on bytes and
recompute every checksum in full with scapy, so an incremental update that goes wrong shows.
"""

import socket

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw
from scapy.utils import checksum

from topology import C0_MAC, GATEWAY_MAC, OWN_ADDRESS, OWN_MAC, R0_ADDRESS, VIP, rip, server_mac

CLIENT = "203.0.113.50"
ETHERNET = 14
IP_HEADER = 20
VLAN = 4
BROADCAST = "ff:ff:ff:ff:ff:ff"


def mac(text):
    """The six bytes of a MAC."""
    return bytes.fromhex(text.replace(":", ""))


def ether(source=GATEWAY_MAC, destination=C0_MAC, vlan=None, priority=0):
    """An Ethernet header, from the gateway to the director unless said otherwise."""
    head = Ether(src=source, dst=destination)
    return head / Dot1Q(vlan=vlan, prio=priority) if vlan is not None else head


def tcp(flags="S", payload=b"", cip=CLIENT, cport=40000, vip=VIP, vport=80, head=None, seq=1000, ack=0, options=None,
        segment=None, ip_options=None, **ip):
    """A client's TCP segment; `segment` are more fields of the TCP header, `ip` of the IP header."""
    packet = head if head is not None else ether()
    packet /= IP(**{"src": cip, "dst": vip, "flags": "DF", "options": ip_options or [], **ip})
    packet /= TCP(sport=cport, dport=vport, flags=flags, seq=seq, ack=ack, options=options or [], **(segment or {}))
    return bytes(packet / Raw(payload) if payload else packet)


def udp(payload=b"hello", cip=CLIENT, cport=40001, vip=VIP, vport=53, head=None, datagram=None, **ip):
    """A client's UDP datagram; `datagram` are more fields of the UDP header, `ip` of the IP header."""
    packet = (head if head is not None else ether()) / IP(**{"src": cip, "dst": vip, "flags": "DF", **ip})
    packet /= UDP(sport=cport, dport=vport, **(datagram or {}))
    return bytes(packet / Raw(payload) if payload else packet)


def echo(payload=b"ping", cip=CLIENT, vip=VIP, head=None, message=None, **ip):
    """An echo request."""
    packet = (head if head is not None else ether()) / IP(**{"src": cip, "dst": vip, **ip})
    packet /= ICMP(**{"type": 8, "code": 0, "id": 0x77, "seq": 5, **(message or {})})
    return bytes(packet / Raw(payload) if payload else packet)


def echo_reply(request):
    """The director's answer to `request`: swapped addresses, TTL 64, no DF, same message."""
    packet = Ether(request)
    payload = bytes(packet[ICMP].payload)
    reply = ether_answer(packet) / IP(src=packet[IP].dst, dst=packet[IP].src, ttl=64, tos=packet[IP].tos, id=0)
    return bytes(reply / ICMP(type=0, code=0, id=packet[ICMP].id, seq=packet[ICMP].seq) / Raw(payload))


def ether_answer(packet):
    """The link header of an answer that goes back the way `packet` came, tag included."""
    head = Ether(src=packet.dst, dst=packet.src)
    if Dot1Q in packet:
        head /= Dot1Q(vlan=packet[Dot1Q].vlan, prio=packet[Dot1Q].prio)
    return head


def icmp_error(given, kind, code, mtu=0, source=None, after_hop=False):
    """The director's ICMP error about the frame `given`: quotes as much as fits in 576 bytes, TOS 0xc0, no DF.

    `after_hop`: the quote shows the packet with its TTL already lowered, as Linux quotes what is too big.
    """
    packet = Ether(given)
    quote = (forwarded(given) if after_hop else ip_packet(given))[:576 - 28]
    error = ether_answer(packet) / IP(src=source or packet[IP].dst, dst=packet[IP].src, ttl=64, tos=0xC0, id=0)
    return bytes(error / ICMP(type=kind, code=code, nexthopmtu=mtu) / Raw(quote))


def tcp_reset(given):
    """The RST that answers the segment `given` (RFC 9293 section 3.10.7.1)."""
    packet = Ether(given)
    segment = packet[TCP]
    length = packet[IP].len - packet[IP].ihl * 4 - segment.dataofs * 4
    answer = ether_answer(packet) / IP(src=packet[IP].dst, dst=packet[IP].src, ttl=64, flags="DF", id=0)
    if "A" in segment.flags:
        reset = TCP(flags="R", seq=segment.ack, ack=0)
    else:
        length += ("S" in segment.flags) + ("F" in segment.flags)
        reset = TCP(flags="RA", seq=0, ack=(segment.seq + length) & 0xFFFFFFFF)
    reset.sport, reset.dport, reset.window = segment.dport, segment.sport, 0
    return bytes(answer / reset)


def link_length(frame):
    """Of the Ethernet header with its tag."""
    return ETHERNET + VLAN if frame[12:14] == b"\x81\x00" else ETHERNET


def untagged(frame):
    """The frame without its tags."""
    while frame[12:14] == b"\x81\x00":
        frame = frame[:12] + frame[16:]
    return frame


def ip_packet(frame):
    """The IPv4 packet of a frame, Ethernet padding cut off."""
    link = link_length(frame)
    return frame[link:link + int.from_bytes(frame[link + 2:link + 4], "big")]


def with_header_checksum(packet):
    """An IPv4 packet with its header checksum computed anew."""
    length = (packet[0] & 15) * 4
    header = packet[:10] + b"\0\0" + packet[12:length]
    return header[:10] + checksum(header).to_bytes(2, "big") + packet[12:]


def forwarded(frame):
    """The IPv4 packet of `frame` after one hop."""
    packet = ip_packet(frame)
    return with_header_checksum(packet[:8] + bytes([packet[8] - 1]) + packet[9:])


def relinked(frame, source, destination, packet):
    """`packet` in a frame between two MACs; the tag of `frame` stays."""
    return mac(destination) + mac(source) + frame[12:link_length(frame)] + packet


def dr(frame, server=1):
    """Direct routing to real server `server`."""
    return relinked(frame, OWN_MAC["r0"], server_mac(server), forwarded(frame))


def tun(frame, server=1):
    """IP in IP to real server `server`, the outer header as Linux writes it."""
    inner = forwarded(frame)
    tos = inner[1] & ~1 if inner[1] & 3 == 3 else inner[1]
    outer = IP(src=R0_ADDRESS, dst=rip(server), ttl=inner[8], tos=tos, proto=4, id=0, flags=inner[6] >> 5 & 2)
    return relinked(frame, OWN_MAC["r0"], server_mac(server), bytes(outer / Raw(inner)))


def nat_request(frame, server=1, port=8080):
    """A client's packet after NAT to real server `server`."""
    return relinked(frame, OWN_MAC["r0"], server_mac(server), rewritten(frame, dst=rip(server), dport=port))


def nat_reply(frame, vip=VIP, port=80):
    """A real server's packet after NAT, by way of the gateway."""
    return relinked(frame, C0_MAC, GATEWAY_MAC, rewritten(frame, src=vip, sport=port))


def rewritten(frame, src=None, dst=None, sport=None, dport=None):
    """The packet of `frame` one hop on, with other addresses and ports and all checksums computed anew.

    A UDP checksum of 0 stays 0.
    """
    packet = IP(forwarded(frame))
    segment = packet[TCP] if TCP in packet else packet[UDP]
    packet.src, packet.dst = src or packet.src, dst or packet.dst
    segment.sport, segment.dport = sport or segment.sport, dport or segment.dport
    del packet.chksum
    if not (UDP in packet and segment.chksum == 0):
        del segment.chksum
    return bytes(packet)


def arp(op=1, sender=None, sender_ip=None, target="00:00:00:00:00:00", target_ip=VIP, link_source=None,
        link_destination=BROADCAST, vlan=None, **fields):
    """An ARP packet, a request from the gateway for the VIP unless said otherwise."""
    sender = sender or GATEWAY_MAC
    return bytes(ether(link_source or sender, link_destination, vlan) / ARP(
        op=op, hwsrc=sender, psrc="198.18.0.254" if sender_ip is None else sender_ip, hwdst=target, pdst=target_ip,
        **fields))


def arp_answer(request, port="c0"):
    """The director's answer to an ARP request that came in on `port`."""
    packet = Ether(request)
    asked = packet[ARP]
    own = OWN_MAC[port]
    head = Ether(src=own, dst=packet.src)
    if Dot1Q in packet:
        head /= Dot1Q(vlan=packet[Dot1Q].vlan, prio=packet[Dot1Q].prio)
    return bytes(head / ARP(op=2, hwsrc=own, psrc=asked.pdst, hwdst=asked.hwsrc, pdst=asked.psrc))


def is_own_announcement(frame):
    """Whether weir tells all nodes of an IPv6 address of its own, which nobody has asked for."""
    return frame.startswith(b"\x33\x33\0\0\0\1") and frame[12:14] == b"\x86\xdd" and frame[54:55] == b"\x88"


def is_own_arp_request(frame):
    """A request that the director sends by itself: resolution or announcement."""
    link = link_length(frame)
    return (frame[link - 2:link] == b"\x08\x06" and frame[link + 6:link + 8] == b"\0\1"
            and frame[6:12] in {mac(own) for own in OWN_MAC.values()})


def announces(frame, address):
    """A gratuitous ARP request for `address`: sender and target are the same (RFC 5944 section 4.6)."""
    link = link_length(frame)
    wanted = socket.inet_aton(address)
    return is_own_arp_request(frame) and frame[link + 14:link + 18] == wanted == frame[link + 24:link + 28]


def own_address(port):
    """The director's address on a port."""
    return OWN_ADDRESS[port]
