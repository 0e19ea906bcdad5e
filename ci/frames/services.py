"""The virtual servers most tests run against: one VIP per forwarding method, TCP port 80 and UDP port 53 on each."""

from topology import Setup, service

DR_VIP = "192.0.2.1"
TUN_VIP = "192.0.2.2"
NAT_VIP = "192.0.2.3"
NAT_TCP_PORT = 8080
NAT_UDP_PORT = 5353


def every_method(servers=1):
    """`[[virtual_server]]` tables for DR, TUN and NAT."""
    return [
        service("dr", servers, address=DR_VIP),
        service("dr", servers, address=DR_VIP, protocol="udp", port=53),
        service("tun", servers, address=TUN_VIP),
        service("tun", servers, address=TUN_VIP, protocol="udp", port=53),
        service("nat", servers, address=NAT_VIP, server_port=NAT_TCP_PORT),
        service("nat", servers, address=NAT_VIP, protocol="udp", port=53, server_port=NAT_UDP_PORT),
    ]


def setup(**keywords):
    """A setup with every method and the given other parts."""
    return Setup(services=every_method(), **keywords)
