"""Translates ipvsadm and sysctl commands, as golden traces record them, into a weir.toml.

Keeps the services in the order of adding and applies one command after the other, as the kernel would. What weir
can't say in its file raises `Untranslatable`.
"""

import shlex

from topology import RealServer, Setup, VirtualServer

SWITCHES = {"-g": "dr", "-i": "tun", "-m": "nat"}
BOOLEAN_SYSCTLS = {"sloppy_tcp", "sloppy_sctp", "expire_nodest_conn", "expire_quiescent_template", "nat_icmp_send",
                   "pmtu_disc", "schedule_icmp", "cache_bypass"}
TUNNEL_CHECKSUMS = {"--tun-nocsum": "none", "--tun-csum": "csum", "--tun-remcsum": "remcsum"}


MARK = "fwmark"


class Untranslatable(Exception):
    """The command has no counterpart in weir.toml."""


class Table:
    """The service table after a number of commands."""

    def __init__(self):
        self.services = {}
        self.connections = {}

    def apply(self, command):
        """Carries out one command: `ipvsadm ...` or `sysctl net.ipv4.vs.NAME=VALUE`."""
        words = shlex.split(command)
        if words[0] == "sysctl":
            self._sysctl(words[1])
        elif words[0] == "ipvsadm":
            self._ipvsadm(_options(words[1:]))
        else:
            raise Untranslatable(command)
        return self

    def setup(self, mtu=None):
        """The file's content for the table as it stands."""
        made = Setup(services=list(self.services.values()), connections=dict(self.connections))
        if mtu:
            made.mtu = mtu
        return made

    def _sysctl(self, assignment):
        name, value = assignment.split("=")
        prefix = "net.ipv4.vs."
        if not name.startswith(prefix):
            raise Untranslatable(assignment)
        name = name[len(prefix):]
        self.connections[name] = value != "0" if name in BOOLEAN_SYSCTLS else int(value)

    def _ipvsadm(self, options):
        if "-Z" in options:
            # Counters are no part of the file.
            return
        key = _service_key(options)
        if "-A" in options:
            self.services[key] = _virtual_server(key)
            _edit_service(self.services[key], options)
        elif "-E" in options:
            _edit_service(self.services[key], options)
        elif "-D" in options:
            del self.services[key]
        elif "-a" in options:
            self.services[key].servers.append(_real_server(self.services[key], options))
        elif "-e" in options:
            servers = self.services[key].servers
            edited = _real_server(self.services[key], options)
            servers[_index(servers, edited)] = edited
        elif "-d" in options:
            servers = self.services[key].servers
            del servers[_index(servers, _real_server(self.services[key], options))]
        else:
            raise Untranslatable(str(options))


def _options(words):
    """`{option: value or True}`; an option's value is the following word unless that is an option too."""
    options = {}
    position = 0
    while position < len(words):
        option = words[position]
        has_value = position + 1 < len(words) and not words[position + 1].startswith("-")
        options[option] = words[position + 1] if has_value else True
        position += 2 if has_value else 1
    return options


def _service_key(options):
    for switch, protocol in (("-t", "tcp"), ("-u", "udp"), ("--sctp-service", "sctp")):
        if switch in options:
            address, port = _address_and_port(options[switch])
            return protocol, address, port
    if "-f" in options:
        return MARK, int(options["-f"]), "ipv6" if "-6" in options else "ipv4"
    raise Untranslatable(str(options))


def _virtual_server(key):
    """Of a mark, without the traffic that has it: netfilter's rules are no commands of ipvsadm's."""
    if key[0] == MARK:
        return VirtualServer(address="", port=0, mark=key[1], family=key[2])
    return VirtualServer(address=key[1], port=key[2], protocol=key[0])


def _address_and_port(text):
    if text.startswith("["):
        address, _, port = text[1:].partition("]")
        return address, int(port.lstrip(":") or 0)
    if text.count(":") > 1:
        return text, 0
    address, _, port = text.partition(":")
    return address, int(port or 0)


def _edit_service(virtual, options):
    virtual.scheduler = options.get("-s", virtual.scheduler)
    virtual.options = {}
    if "-p" in options:
        virtual.options["persistence_timeout"] = 300 if options["-p"] is True else int(options["-p"])
    if "-M" in options:
        virtual.options["persistence_netmask"] = _prefix_length(options["-M"])
    if "-o" in options:
        virtual.options["one_packet"] = True
    if "-b" in options:
        virtual.options["scheduler_flags"] = options["-b"].split(",")


def _prefix_length(mask):
    if "." in mask:
        return sum(bin(int(octet)).count("1") for octet in mask.split("."))
    return int(mask)


def _real_server(virtual, options):
    address, port = _address_and_port(options["-r"])
    forwarding = next((word for switch, word in SWITCHES.items() if switch in options), "dr")
    server = RealServer(address, port or virtual.port, int(options.get("-w", 1)), forwarding)
    if "--tun-type" in options:
        server.options["tunnel"] = options["--tun-type"]
    if "--tun-port" in options:
        server.options["tunnel_port"] = int(options["--tun-port"])
    for switch, word in TUNNEL_CHECKSUMS.items():
        if switch in options:
            server.options["tunnel_checksum"] = word
    if "-x" in options:
        server.options["upper_threshold"] = int(options["-x"])
    if "-y" in options:
        server.options["lower_threshold"] = int(options["-y"])
    return server


def _index(servers, wanted):
    for position, server in enumerate(servers):
        if (server.address, server.port) == (wanted.address, wanted.port):
            return position
    raise Untranslatable(f"no real server {wanted.address}:{wanted.port}")
