"""The two programs of a measurement: the one that forwards, on the second CPU, and the generator, on the first."""

import json
import subprocess
import time
from pathlib import Path

from throughput_lib import machine
from throughput_lib.machine import Child, Failed

METHODS = ("dr", "tun")
CASES = (*METHODS, "macswap")
HUGEPAGES = 512
REAL_SERVERS = 4
WEIR_MAC = "02:00:00:00:00:01"
VIP = "10.0.0.100"
_PORT = 80
_HTTP = 9393
_START_SECONDS = 30
# Two EALs at a time, each with memory of its own; the generator's is lent to the memif as it is.
_EAL = ["--no-pci", "--in-memory", "--no-telemetry"]


class Rig:
    """Starts both ends of a memif, one pair for each measurement."""

    def __init__(self, weir: Path, tools: Path, flows: int, folder: Path):
        """`tools` is the folder with the generator and `cpu-distance`."""
        self.weir, self.flows, self.folder = weir, flows, folder
        self.generator, self.cpu_distance = tools / "latency-generator", tools / "cpu-distance"
        machine.reserve_hugepages(HUGEPAGES)

    def flooded(self, case: str, seconds: float) -> dict:
        """What comes back when as many frames as the device takes are sent."""
        return self._run(case, 0, seconds)

    def paced(self, case: str, rate: int, seconds: float) -> dict:
        """Times at a fixed rate."""
        return self._run(case, rate, seconds)

    def _run(self, case: str, rate: int, seconds: float) -> dict:
        before = self._distance()
        answer = self._run_both(case, rate, seconds)
        return answer | {"distance_ns": max(before, self._distance())}

    def _distance(self) -> float:
        """Nanoseconds from one end's CPU to the other's and back, which on a virtual machine changes."""
        done = subprocess.run([self.cpu_distance, "0", "1"], capture_output=True, text=True, timeout=30)
        try:
            return float(done.stdout)
        except ValueError:
            raise Failed(f"cpu-distance said nothing of use: {done.stderr[-500:]}") from None

    def _run_both(self, case: str, rate: int, seconds: float) -> dict:
        socket = self.folder / "memif.sock"
        forwarder = self._forwarder(case, socket)
        try:
            self._await_socket(forwarder, socket)
            command = [
                self.generator, "--lcores", "0@0", *_EAL,
                "--vdev", f"net_memif0,role=client,socket={socket},socket-abstract=no,rsize=10,zero-copy=yes", "--single-file-segments", "--",
                "--device", "net_memif0", "--rate", rate, "--seconds", seconds, "--flows", self.flows, "--port", _PORT,
            ]
            began, before = time.monotonic_ns(), forwarder.cpu()
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=seconds + 60)
            try:
                answer = json.loads(done.stdout.splitlines()[-1])
            except (ValueError, IndexError):
                raise Failed(f"the generator said nothing of use:\n{(done.stdout + done.stderr)[-2000:]}") from None
            if "error" in answer:
                raise Failed(f"{case}: {answer['error']}\n{forwarder.last_words()}")
            forwarder.check()
            passed = time.monotonic_ns() - began
            # The forwarding thread polls without rest: it is the one with the most CPU time.
            answer["forwarder_cpu"] = max(spent - before.get(thread, 0) for thread, spent in forwarder.cpu().items()) / passed
            return answer
        finally:
            forwarder.stop()
            socket.unlink(missing_ok=True)

    def _forwarder(self, case: str, socket: Path) -> Child:
        device = f"net_memif0,role=server,socket={socket},socket-abstract=no,rsize=10"
        eal = [*_EAL, "--vdev", device]
        if case == "macswap":
            command = ["dpdk-testpmd", "--lcores", "0@0,1@1", *eal, "--", "--forward-mode=macswap", "--auto-start"]
            command += ["--port-topology=loop", "--burst=64", "--total-num-mbufs=65536", "--mbuf-size=2176"]
        else:
            file = self.folder / "weir.toml"
            file.write_text(self._config(case))
            command = [self.weir, "--lcores", "0@0,1@1", *eal, "--", "-c", file, "--log-level", "warn"]
        return Child(command, self.folder / f"{case}.log")

    def _config(self, case: str) -> str:
        lines = [
            f'[control]\nsocket = "{self.folder}/weir.sock"\n',
            f'[http]\nlisten = "127.0.0.1:{_HTTP}"\n',
            f'[[port]]\nname = "bench"\ndevice = "net_memif0"\nmac = "{WEIR_MAC}"\naddresses = ["10.0.0.1/24"]\n',
            '[[route]]\ndestination = "0.0.0.0/0"\ngateway = "10.0.0.254"\n',
            '[[neighbor]]\naddress = "10.0.0.254"\nmac = "02:00:00:00:00:fe"\n',
        ]
        servers = [f"10.0.0.{11 + i}" for i in range(REAL_SERVERS)]
        for i, server in enumerate(servers):
            lines.append(f'[[neighbor]]\naddress = "{server}"\nmac = "02:00:00:00:01:{i:02x}"\n')
        lines.append(f'[[virtual_server]]\nname = "bench"\naddress = "{VIP}"\nport = {_PORT}')
        lines.append(f'protocol = "udp"\nforwarding = "{case}"\nscheduler = "rr"\n')
        lines += [f'  [[virtual_server.real_server]]\n  address = "{server}"\n' for server in servers]
        return "\n".join(lines)

    @staticmethod
    def _await_socket(forwarder: Child, socket: Path) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not socket.exists():
            forwarder.check()
            if time.monotonic() > deadline:
                raise Failed(f"{forwarder.name} offers no memif:\n{forwarder.last_words()}")
            time.sleep(0.05)
        # It polls a moment after the device is there.
        time.sleep(0.5)
