"""Clients of the VIP that ask all the time, and say afterwards how long nobody answered."""

import subprocess
import threading
import time

import vrrp_lab as net


class Client:
    """A program in the client's node. `lines` are (begin, end, whether it was answered) of each of its questions, in
    monotonic seconds, as `parse` makes them from the lines that it prints."""

    def __init__(self, *command, stream="stdout"):
        self.command, self.stream, self.lines = net.inside("c", *command), stream, []

    def parse(self, line):
        """A line's question, or None."""
        raise NotImplementedError

    def __enter__(self):
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, self.stream: subprocess.PIPE}
        self.process = subprocess.Popen(self.command, text=True, **pipes)
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        return self

    def _read(self):
        for line in getattr(self.process, self.stream):
            question = self.parse(line)
            if question:
                self.lines.append(question)

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        getattr(self.process, self.stream).close()

    def serves(self):
        """Whether the last question was answered, and that a moment ago."""
        return bool(self.lines) and self.lines[-1][2] and time.monotonic() - self.lines[-1][1] < 0.2

    def outage(self, since):
        """After a moment: questions, those without an answer, and the longest time without one, in milliseconds."""
        lines = [line for line in self.lines if line[1] >= since]
        good = [since, *(end for _, end, good in lines if good)]
        gap = max((b - a for a, b in zip(good, good[1:])), default=float("inf"))
        return len(lines), sum(not good for *_, good in lines), gap * 1000


class Requests(Client):
    """HTTP, a new connection each. `pause` seconds lie between two requests. An answer counts as service at the moment
    it is whole."""

    SCRIPT = r"""
import socket, sys, time
vip, pause, timeout = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
while True:
    begin = time.monotonic()
    try:
        with socket.create_connection((vip, 80), timeout=timeout) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            good = connection.recv(4096).startswith(b"HTTP/1.1 200")
    except OSError:
        good = False
    print(f"{begin:.6f} {time.monotonic():.6f} {int(good)}", flush=True)
    time.sleep(max(0.0, begin + pause - time.monotonic()))
"""

    def __init__(self, vip=net.VIP, pause=0.002, timeout=0.05):
        super().__init__("/usr/bin/python3", "-c", self.SCRIPT, vip, str(pause), str(timeout))

    def parse(self, line):
        begin, end, good = line.split()
        return float(begin), float(end), good == "1"


class Datagrams(Client):
    """UDP to a server that sends everything back, from one socket, one every millisecond. Only answers are seen."""

    ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("%s", 7777))
while True:
    data, peer = s.recvfrom(64)
    s.sendto(data, peer)
"""
    SCRIPT = """
import socket, threading, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("%s", 7777))
def receive():
    while True:
        try:
            s.recv(64)
        except OSError:
            continue
        print(f"{time.monotonic():.6f}", flush=True)
threading.Thread(target=receive, daemon=True).start()
due = time.monotonic()
while True:
    try:
        s.send(b"x")
    except OSError:
        pass
    due += 0.001
    time.sleep(max(0.0, due - time.monotonic()))
"""

    def __init__(self):
        super().__init__("/usr/bin/python3", "-c", self.SCRIPT % net.VIP)

    def parse(self, line):
        return float(line), float(line), True


class Pings(Client):
    """ping, one every 5 ms. Only answers are seen."""

    def __init__(self, vip=net.VIP):
        super().__init__("stdbuf", "-oL", "ping", "-n", "-i", "0.005", vip)

    def parse(self, line):
        return (time.monotonic(), time.monotonic(), True) if " bytes from " in line else None


class Curls(Client):
    """curl, 100 new connections a second, each with 100 ms."""

    def __init__(self, vip=net.VIP):
        super().__init__("curl", "--silent", "--output", "/dev/null", "--rate", "100/s", "--max-time", "0.1",
                         "--header", "Connection: close", "--write-out", "%{stderr}%{http_code}\\n",
                         f"http://{vip}/[1-1000000]", stream="stderr")

    def parse(self, line):
        return time.monotonic(), time.monotonic(), line.strip() == "200"
