"""Golden cases for a forwarding method, made from the same cases recorded with another one.

What a director decides (which packets it answers, which server it picks, what it drops) does not depend on the method;
only the shape of what goes to the real server does. So a case that was recorded with a GRE or GUE tunnel also says what
DR, IPIP and, for the client's half of a conversation, NAT must do: the packet inside the recorded tunnel is put into
the other method's shape. Cases about sizes and about tunnels themselves are left out.
"""

import dataclasses

import golden
from frames import IP_HEADER, relinked, rewritten, with_header_checksum
from topology import OWN_MAC

SOURCES = ("tun4-gre", "tun4-gre-csum", "tun4-gue", "tun4-gue-csum")
TARGETS = {"dr4": "dr", "tun4-ipip": "tun", "nat4": "nat"}
GRE = 47
LEFT_OUT = {"too_big_df", "too_big_tunnel_mtu1500", "tunnel_icmp_outer"}
# For NAT: a wrong checksum can not be recomputed, options are not copied, errors, fragments and states differ.
LEFT_OUT_FOR_NAT = {"tcp_bad_checksum", "icmp_from_client_side", "udp_fragments", "conn_reuse", "schedule_icmp",
                    "ip_options_ext"}


def load(target):
    """The cases that were not recorded for `target` but for one of the sources."""
    have = {case.name for case in golden.load(target)} | LEFT_OUT
    if target == "nat4":
        have |= LEFT_OUT_FOR_NAT
    cases = []
    for source in SOURCES:
        for case in golden.load(source):
            if case.name not in have:
                have.add(case.name)
                cases.append(reshaped(case, target))
    return cases


def reshaped(case, target):
    """`case` as `target` must play it."""
    method = TARGETS[target]
    # Of what is in pieces the tunnel stays: what arrives is compared, in whatever tunnel.
    reshape = (lambda step, frame, method: frame) if case.name == "udp_fragments" else reshaped_frame
    steps = [dataclasses.replace(step, out=[(port, reshape(step, frame, method)) for port, frame in step.out])
             for step in case.steps if method != "nat" or step.port != "r0"]
    counts = {} if method == "nat" else case.counts
    return dataclasses.replace(case, mode=target, forwarding=method, steps=steps, counts=counts,
                               doc=f"{case.doc} (from {case.mode})")


def reshaped_frame(step, frame, method):
    """A recorded frame in the shape of `method`; what is no tunnel frame stays."""
    inner = inside(frame)
    if inner is None:
        return frame
    outer = frame[golden.ETHERNET:golden.ETHERNET + IP_HEADER]
    if method == "tun":
        length = (IP_HEADER + len(inner)).to_bytes(2, "big")
        inner = with_header_checksum(outer[:2] + length + outer[4:9] + b"\x04" + outer[10:]) + inner
    elif method == "nat":
        server = ".".join(map(str, outer[16:20]))
        inner = rewritten(step.frame, dst=server, dport=server_port(inner))
    return relinked(step.frame, OWN_MAC["r0"], frame[:6].hex(":"), inner)


def inside(frame):
    """The packet in a GRE or GUE frame, or None."""
    if frame[12:14] != golden.IPV4:
        return None
    payload = frame[golden.ETHERNET + golden.header_length(frame):]
    if frame[23] == GRE and frame[:6].startswith(bytes.fromhex("0200000002")):
        return payload[8 if payload[0] & 0x80 else 4:]
    if frame[23] == golden.UDP and int.from_bytes(payload[2:4], "big") == golden.GUE_PORT:
        return payload[12 + (payload[8] & 0x1F) * 4:]
    return None


def server_port(packet):
    """The real server's port for a client's packet."""
    at = (packet[0] & 15) * 4
    port = int.from_bytes(packet[at + 2:at + 4], "big")
    return golden.NAT_PORTS.get(port, port)
