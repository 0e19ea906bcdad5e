#!/usr/bin/python3
"""What runs in the nodes for `test_fragments.py`, until its stdin is closed.

    parted.py echo PORT ADDRESS...   sends every datagram back from where it came to
    parted.py ask PORT ADDRESS...    says for which addresses the longest datagram came back
    parted.py part                   stands between a LAN and the director, with two cables to it
"""

import contextlib
import os
import select
import socket
import sys

# With the UDP header and that of IPv4 the longest packet.
LONGEST = 65507
TRIES, SECONDS = 8, 2.0
SO_RCVBUFFORCE = 33
ROOM = 16 << 20
ETH_P_ALL, OUTGOING = 3, 4


def socket_at(address, port):
    """Of UDP, with room for several datagrams in pieces."""
    door = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    door.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
    door.bind((address, port))
    return door


def echo(port, *addresses):
    """The real server."""
    # What is of NAT has an address of its own, and a port.
    doors = [socket_at(*((address.split("/")[0], int(address.split("/")[1])) if "/" in address else (address, int(port))))
             for address in addresses]
    print("ready", flush=True)
    while True:
        for door in select.select([*doors, sys.stdin], [], [])[0]:
            if door is sys.stdin:
                return
            # A tunnel's MTU is learnt by the first answer.
            with contextlib.suppress(OSError):
                data, peer = door.recvfrom(1 << 16)
                door.sendto(data, peer)


def ask(port, *addresses):
    """The client: one datagram after the other."""
    for address in addresses:
        door = socket_at("::" if ":" in address else "0.0.0.0", 0)
        door.settimeout(SECONDS)
        door.connect((address, int(port)))
        data = os.urandom(LONGEST if door.family == socket.AF_INET else LONGEST - 20)
        for number in range(1, TRIES + 1):
            # The first one through a tunnel learns the MTU (EMSGSIZE).
            with contextlib.suppress(OSError):
                door.send(data)
                if door.recv(1 << 16) == data:
                    print(address, number, flush=True)
                    break


def part():
    """What comes from the LAN goes to the second cable if it is an odd piece."""
    ends = {}
    for name in ("relay", "to-director", "second"):
        ends[name] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        ends[name].setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        ends[name].bind((name, 0))
    names = {end.fileno(): name for name, end in ends.items()}
    print("ready", flush=True)
    while True:
        for ready in select.select([*names, sys.stdin.fileno()], [], [])[0]:
            if ready not in names:
                return
            frame, where = ends[names[ready]].recvfrom(1 << 16)
            if where[2] != OUTGOING:
                to = "relay" if names[ready] != "relay" else "second" if is_odd_piece(frame) else "to-director"
                ends[to].send(frame)


def is_odd_piece(frame):
    """Whether its place, in units of eight bytes, is odd: pieces are of an odd number of units, so every second one is."""
    if frame[12:14] == b"\x08\x00":
        return frame[21] & 1 == 1
    return frame[12:14] == b"\x86\xdd" and frame[20] == 44 and frame[57] & 8 == 8


if __name__ == "__main__":
    {"echo": echo, "ask": ask, "part": part}[sys.argv[1]](*sys.argv[2:])
