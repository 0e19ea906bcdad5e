"""Connections that stay open: a request on each whenever a line comes in on stdin, and a line on stdout about how that went.

    steady.py COUNT ADDRESS [ADDRESS ...]

Lines are JSON. The first has their ports here, and each other one says how many answered, and what went wrong with the others.
"""

import json
import socket
import sys

SECONDS = 30


def request(connection, address):
    """One request and its whole answer."""
    connection.sendall(f"GET / HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = connection.recv(4096)
        if not part:
            raise ConnectionError("closed")
        answer += part
    head, body = answer.split(b"\r\n\r\n", 1)
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    while len(body) < length:
        body += connection.recv(4096)
    return body.split()[0].decode()


def main():
    """See above."""
    count, addresses = int(sys.argv[1]), sys.argv[2:]
    connections = [(address, socket.create_connection((address, 80), SECONDS)) for address in addresses for _ in range(count)]
    print(json.dumps([connection.getsockname()[1] for _, connection in connections]), flush=True)
    servers = [None] * len(connections)
    while True:
        answered, failed = 0, []
        for number, (address, connection) in enumerate(connections):
            try:
                server = request(connection, address)
                if servers[number] not in (None, server):
                    failed.append(f"{address}: {servers[number]} became {server}")
                servers[number] = server
                answered += 1
            except OSError as problem:
                failed.append(f"{address}: {problem}")
        print(json.dumps({"answered": answered, "failed": failed}), flush=True)
        if not sys.stdin.readline():
            return


main()
