"""What weir answers itself over IPv6, what it must not answer, and what must not leave its link."""

import unittest

from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import (HBHOptUnknown, ICMPv6DestUnreach, ICMPv6ParamProblem, IPv6, IPv6ExtHdrDestOpt,
                                IPv6ExtHdrHopByHop, PadN)
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from batch import Batch
from frames import tcp as tcp4, udp as udp4
from services import DR_VIP
from topology import (GATEWAY_MAC, OWN_ADDRESS6, OWN_MAC, R0_MAC, RealServer, Setup, VirtualServer, rip6, server_mac, service,
                      with_ipv6)

VIP = "2001:db8:f00d::1"
TUN_VIP = "2001:db8:f00d::2"
LOCAL = "fe80::c"
LOCAL_MAC = "02:00:00:00:02:0c"


def client(number):
    """A client of its own for every frame."""
    return f"2001:db8:c::{number:x}"


def packet(payload, source, headers=(), into="c0", mac=GATEWAY_MAC, vip=VIP, **ip):
    """A packet of IPv6 to the director."""
    made = Ether(src=mac, dst=OWN_MAC[into]) / IPv6(src=source, dst=vip, **ip)
    for header in headers:
        made /= header
    return bytes(made / payload)


def syn(source, vport=80, flags="S", chksum=None, **how):
    """A TCP segment."""
    return packet(TCP(sport=51000, dport=vport, flags=flags, seq=1000, ack=7 if "A" in flags else 0, chksum=chksum), source, **how)


def datagram(source, vport=54, chksum=None, **how):
    """A UDP datagram."""
    return packet(UDP(sport=51000, dport=vport, chksum=chksum) / Raw(b"query"), source, **how)


def back(frame, payload, source=None):
    """An answer to a frame."""
    asked = Ether(frame)
    head = Ether(src=asked.dst, dst=asked.src) / IPv6(src=source or asked[IPv6].dst, dst=asked[IPv6].src, hlim=64)
    return bytes(head / payload)


def reset(frame):
    """The RST that answers a segment."""
    segment = Ether(frame)[TCP]
    ports = {"sport": segment.dport, "dport": segment.sport, "window": 0}
    if "A" in segment.flags:
        return back(frame, TCP(**ports, flags="R", seq=segment.ack))
    return back(frame, TCP(**ports, flags="RA", seq=0, ack=segment.seq + 1))


def error(frame, kind, into="c0"):
    """The ICMPv6 error that answers a frame."""
    return back(frame, kind / Raw(frame[14:]), OWN_ADDRESS6[into])


def option(kind):
    """A header of destination options, all of them of this type."""
    return IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=kind, optdata=b"\0" * 4)])


def on_link(source=LOCAL, **how):
    """A segment from the link of the real servers."""
    return syn(source, into="r0", mac=LOCAL_MAC, **how)


def passed_on(frame):
    """A frame after direct routing to real server 1."""
    sent = Ether(frame)
    sent.src, sent.dst, sent[IPv6].hlim = R0_MAC, server_mac(1), sent[IPv6].hlim - 1
    return bytes(sent)


class Local6(unittest.TestCase):
    """One batch for all: each has a client of its own."""

    def test_what_is_answered_and_what_is_not(self):
        batch = Batch()
        number = iter(range(1, 1000))
        for where, vip in {"VIP": VIP, **OWN_ADDRESS6}.items():
            for name, flags in {"SYN": "S", "ACK": "A"}.items():
                frame = syn(client(next(number)), 81, flags, vip=vip)
                batch.answer("tcp_reset", f"{name}, {where}", frame, reset(frame))
                wrong = syn(client(next(number)), 81, flags, chksum=0x1234, vip=vip)
                batch.drop("bad_l4_header", f"{name} with a wrong checksum, {where}", wrong)
            frame = datagram(client(next(number)), vip=vip)
            batch.answer("port_unreachable", f"UDP, {where}", frame, error(frame, ICMPv6DestUnreach(code=4)))
            for name, chksum in {"a wrong": 0x1234, "no": 0}.items():
                batch.drop("bad_l4_header", f"UDP with {name} checksum, {where}",
                           datagram(client(next(number)), chksum=chksum, vip=vip))
            other = packet(Raw(b"x" * 24), client(next(number)), vip=vip, nh=47)
            batch.answer("port_unreachable", f"GRE, {where}", other, error(other, ICMPv6ParamProblem(code=1, ptr=6)))
            for name, behind in {"TCP": lambda *of, **how: syn(*of, 81, **how), "UDP": datagram}.items():
                frame = behind(client(next(number)), vip=vip, headers=[option(0x9E)])
                told = error(frame, ICMPv6ParamProblem(code=2, ptr=42))
                batch.answer("parameter_problem", f"{name} behind an option, {where}", frame, told)
                frame = behind(client(next(number)), vip=vip, headers=[option(0x5E)])
                batch.drop("unknown_option", f"{name} behind an option that forbids an answer, {where}", frame)
            frame = syn(client(next(number)), 81, vip=vip, headers=[IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)])])
            batch.answer("tcp_reset", f"behind padding, {where}", frame, reset(frame))
            frame = syn(client(next(number)), 81, vip=vip, headers=[IPv6ExtHdrHopByHop(options=[HBHOptUnknown(otype=0x5E)])])
            batch.drop("unknown_option", f"behind an option for every hop, {where}", frame)
            long = bytearray(bytes(syn(client(next(number)), 81, vip=vip)))
            long[18:20] = b"\x0f\xff"
            batch.drop("truncated", f"longer than its frame, {where}", bytes(long))
        # Of IPv4, too.
        batch.drop("bad_l4_header", "SYN of IPv4", tcp4("S", vport=81, segment={"chksum": 0x1234}))
        batch.drop("bad_l4_header", "UDP of IPv4", udp4(vport=54, datagram={"chksum": 0x1234}))
        # For a real server it goes on as it came.
        for name, frame in {"SYN": syn(client(next(number)), chksum=0x1234),
                            "SYN behind an option": syn(client(next(number)), headers=[option(0x9E)])}.items():
            batch.forward(f"{name} to a service", frame, passed_on(frame))
        # What means something on its link alone.
        for flags in ("S", "A"):
            frame = on_link(flags=flags)
            batch.forward(f"{flags} on the real server's link", frame, passed_on(frame), port="r0")
        batch.drop("link_local", "SYN into a tunnel", on_link(vip=TUN_VIP), port="r0")
        for source in (LOCAL, "fe80::d", "febf::1"):
            batch.drop("link_local", f"SYN from {source} on another link", syn(source))
        for source in ("::", "::1", "ff02::1", "::ffff:10.99.0.99"):
            batch.drop("bad_ip_header", f"SYN from {source}", syn(source))
        services = [VirtualServer(VIP, servers=[RealServer(rip6(1), 80)]), service("dr", address=DR_VIP),
                    VirtualServer(TUN_VIP, servers=[RealServer(rip6(1), 80, forwarding="tun")])]
        batch.run(self, with_ipv6(Setup(services=services)))
