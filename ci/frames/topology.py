"""The test network, the same for every test, and the weir.toml that describes it.

    c0 side: clients, all behind the gateway 198.18.0.254       r0 side: real server i is 10.99.0.(10+i)
    02:00:00:00:01:fe ---- c0 02:00:00:00:01:01 [director] r0 02:00:00:00:02:01 ---- 02:00:00:00:02:(0x10+i)
                              198.18.0.1/24                   10.99.0.1/24
                              2001:db8:18::1/64               fd99::1/64, real server i has fd99::1i
    default routes by the gateway, 2001:db8:18::fe for IPv6; VIPs are in 192.0.2.0/24

It is the network in which the golden traces of the kernel's IPVS were recorded.
"""

import dataclasses

GATEWAY_MAC = "02:00:00:00:01:fe"
C0_MAC = "02:00:00:00:01:01"
R0_MAC = "02:00:00:00:02:01"
GATEWAY = "198.18.0.254"
C0_ADDRESS = "198.18.0.1"
R0_ADDRESS = "10.99.0.1"
VIP = "192.0.2.1"
PORTS = ("c0", "r0")
OWN_MAC = {"c0": C0_MAC, "r0": R0_MAC}
OWN_ADDRESS = {"c0": C0_ADDRESS, "r0": R0_ADDRESS}
OWN_ADDRESS6 = {"c0": "2001:db8:18::1", "r0": "fd99::1"}
GATEWAY6 = "2001:db8:18::fe"
SERVERS = 10

# Hosts of the server side that are not real servers: a router and a client.
SERVER_SIDE_HOSTS = {"10.99.0.250": "02:00:00:00:02:fa", "10.99.0.99": "02:00:00:00:02:99"}


def rip(number):
    """Address of real server `number`, from 1."""
    return f"10.99.0.{10 + number}"


def rip6(number):
    """IPv6 address of real server `number`, from 1 to 9."""
    return f"fd99::1{number}"


def server_mac(number):
    """MAC of real server `number`, from 1."""
    return f"02:00:00:00:02:{0x10 + number:02x}"


def static_neighbors():
    """Every host's binding, as the golden recordings had them."""
    bindings = {GATEWAY: GATEWAY_MAC, **SERVER_SIDE_HOSTS}
    bindings.update({rip(i): server_mac(i) for i in range(1, SERVERS + 1)})
    return bindings


def with_ipv6(setup):
    """The same network with its IPv6 addresses, and real servers bound to them."""
    for port in PORTS:
        addresses = [f"{OWN_ADDRESS[port]}/24", f"{OWN_ADDRESS6[port]}/64"]
        setup.port_options[port] = {**setup.port_options.get(port, {}), "addresses": addresses}
    setup.neighbors.update({GATEWAY6: GATEWAY_MAC, **{rip6(i): server_mac(i) for i in range(1, 10)}})
    setup.routes.append({"destination": "::/0", "gateway": GATEWAY6})
    return setup


@dataclasses.dataclass
class RealServer:
    """`[[virtual_server.real_server]]`"""
    address: str
    port: int
    weight: int = 1
    forwarding: str = "dr"
    options: dict = dataclasses.field(default_factory=dict)


def service_name(protocol, address, port):
    """The name of a virtual server; that of a mark has no address, and its mark for a port."""
    return f"{protocol}-{address}-{port}" if address else f"mark-{port}"


@dataclasses.dataclass
class VirtualServer:
    """`[[virtual_server]]`; with a mark, `marked` holds what goes into the `[[mark]]`s that give it."""
    address: str = VIP
    port: int = 80
    protocol: str = "tcp"
    scheduler: str = "rr"
    servers: list = dataclasses.field(default_factory=list)
    options: dict = dataclasses.field(default_factory=dict)
    mark: int = 0
    marked: list = dataclasses.field(default_factory=list)
    family: str = "ipv4"

    @property
    def name(self):
        return service_name(self.protocol, self.address, self.mark or self.port)

    @property
    def traffic(self):
        """What of the file says whom it serves."""
        if self.mark:
            return {"mark": self.mark, "family": self.family}
        return {"address": self.address, "port": self.port, "protocol": self.protocol}


def service(forwarding="dr", servers=1, server_port=None, **keywords):
    """A virtual server with real servers 1 to `servers`, all of weight 1; of a mark, they keep the client's port."""
    virtual = VirtualServer(**keywords)
    port = (0 if virtual.mark else virtual.port) if server_port is None else server_port
    virtual.servers = [RealServer(rip(i), port, 1, forwarding) for i in range(1, servers + 1)]
    return virtual


@dataclasses.dataclass
class Setup:
    """Everything a weir.toml says; `text()` is the file."""
    services: list = dataclasses.field(default_factory=list)
    connections: dict = dataclasses.field(default_factory=dict)
    memory: dict = dataclasses.field(default_factory=dict)
    neighbors: dict = dataclasses.field(default_factory=static_neighbors)
    mtu: dict = dataclasses.field(default_factory=lambda: {"c0": 1500, "r0": 1500})
    port_options: dict = dataclasses.field(default_factory=dict)
    vlans: list = dataclasses.field(default_factory=list)
    vrrp: list = dataclasses.field(default_factory=list)
    routes: list = dataclasses.field(default_factory=list)
    sync: dict = dataclasses.field(default_factory=dict)

    def names(self, device):
        """The ports that a device is."""
        return [device, *(vlan["name"] for vlan in self.vlans if vlan["device"] == device)]

    def text(self, devices, socket):
        """The file, for the given DPDK device of each port and path of the control socket."""
        out = [table("control", {"socket": str(socket)}), table("http", {"listen": "127.0.0.1:9292"})]
        if self.memory:
            out.append(table("memory", self.memory))
        out.append(table("connections", {"capacity": 65536, **self.connections}))
        if self.sync:
            out.append(table("sync", self.sync))
        for port in PORTS:
            out.append(table("[port]", {
                "name": port, "device": devices[port], "mac": OWN_MAC[port],
                "addresses": [OWN_ADDRESS[port] + "/24"], "mtu": self.mtu[port], **self.port_options.get(port, {})}))
        out += [table("[port]", {**vlan, "device": devices[vlan["device"]]}) for vlan in self.vlans]
        out.append(table("[route]", {"destination": "0.0.0.0/0", "gateway": GATEWAY}))
        out += [table("[route]", route) for route in self.routes]
        for address, mac in self.neighbors.items():
            out.append(table("[neighbor]", {"address": address, "mac": mac}))
        for virtual in self.services:
            for traffic in virtual.marked:
                out.append(table("[mark]", {"mark": virtual.mark, **traffic}))
        for virtual in self.services:
            out.append(table("[virtual_server]", {
                "name": virtual.name, **virtual.traffic, "scheduler": virtual.scheduler, **virtual.options}))
            for server in virtual.servers:
                port = {"port": server.port} if server.port else {}
                out.append(table("[virtual_server.real_server]", {
                    "address": server.address, **port, "weight": server.weight,
                    "forwarding": server.forwarding, **server.options}))
        out += [table("[vrrp]", instance) for instance in self.vrrp]
        return "\n".join(out)


def table(head, values):
    """One TOML table; nested tables come last, as `[head.key]`."""
    lines = [f"[{head}]"]
    lines += [f"{key} = {toml(value)}" for key, value in values.items() if not isinstance(value, dict)]
    lines += [table(f"{head}.{key}", value) for key, value in values.items() if isinstance(value, dict)]
    return "\n".join(lines) + "\n"


def toml(value):
    """A TOML value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return "[" + ", ".join(toml(item) for item in value) + "]"
