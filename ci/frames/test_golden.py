"""Every golden frame case, replayed through weir: same commands, same frames in, the kernel's frames out."""

import copy
import fnmatch
import time
import unittest

import golden
import ipvsadm
import pieces
import siblings
import topology
from harness import Live, replay
from topology import service_name

# Modes whose traces are replayed. A mode is added here with its file under golden/.
MODES = ("dr4", "dr6", "nat4", "nat6", "tun4-ipip", "tun4-gue", "tun4-gue-csum", "tun4-gue-remcsum", "tun4-gre", "tun4-gre-csum",
         "tun4in6", "tun6-ip6ip6", "tun6-gue", "tun6-gre", "tun6in4")
# Modes that have IPv6 at either end.
OVER_IPV6 = ("dr6", "nat6", "tun4in6", "tun6-ip6ip6", "tun6-gue", "tun6-gre", "tun6in4")

NO_ROUTER = ("weir is no router: an ICMP error that no NAT connection explains goes by the server's own gateway, as "
             "all of a DR or TUN server's packets do")

NO_SCTP_HOST = ("weir speaks no SCTP itself: a packet of no association is answered with protocol unreachable, which "
                "ends the sender's association as the host's ABORT does (RFC 9260 section 10)")
ONE_PACKET_REPLY = ("the answer of a one-packet NAT server leaves with the VIP as its source; the kernel lets it out "
                    "with the server's own address, which no client takes for an answer")

NOT_REMEMBERED = ("the kernel passes on its old MTU first and remembers the new one; weir passes on the new one, for the "
                  "client to remember")

TOLD = ("the kernel takes no notice of errors about tunnels that have IPv6 at either end, so that packets that are too big on the "
        "way vanish; weir tells the client (RFC 2473 section 8.4, RFC 4213 section 3.4)")
ROUTED = ("the recorded kernel routes the servers' IPv6 answers and so sees both halves of the connection, which ends in TIME_WAIT; "
          "weir sees the client's half, as both do over IPv4: FIN_WAIT, and every later pick is one ahead")

# Where weir knowingly does something else: (mode pattern, case) -> {comment of the frame concerned: why}.
# Everything else in such a case must still be as recorded, and the frames named must really differ.
EXPECTED_DEVIATIONS = {
    ("*4*", "other_port"): {
        "GRE to the VIP": "a protocol that nobody serves is answered with protocol unreachable (RFC 1122 section "
                          "3.2.2.1); the recorded kernel had its GRE module loaded and said port unreachable"},
    # Its real servers have no IPv4 address to send errors from: all come from the VIP.
    ("tun4in6", "icmp_from_server_side"): {},
    ("[dt]*4*", "icmp_from_server_side"): {
        "real server address to client: ICMP port about the TCP connection": NO_ROUTER,
        "real server address to client: ICMP host about the TCP connection": NO_ROUTER,
        "real server address to client: ICMP frag about the TCP connection": NO_ROUTER,
        "real server address to client: ICMP ttl about the TCP connection": NO_ROUTER,
        "real server to client: port unreachable about the UDP query": NO_ROUTER,
        "router on the server side to client: too big about the TCP connection": NO_ROUTER},
    ("*4*", "ip_options_ext"): {
        "SYN with record route": "weir leaves IP options as they came and does not write itself into a record of the "
                                 "route"},
    ("*[46]*", "sctp_init"): {"DATA, no association": NO_SCTP_HOST},
    ("*6*", "other_port"): {
        "GRE to the VIP": "a protocol that nobody serves is answered with a parameter problem (RFC 8200 section 4); the "
                          "recorded kernel had its GRE module loaded and said port unreachable"},
    ("tun6*", "tcp_rst"): {
        "counts": "the recorded kernel routes the servers' IPv6 answers and so sees a server's RST, which closes the connection; weir "
                  "does not, as both do over IPv4"},
    ("dr6", "conn_reuse"): dict.fromkeys((
        "SYN", "ACK", "FIN", "RST", *(f"conn_reuse_mode={mode}: {what}" for mode in (0, 1) for what in (
            "SYN again after FIN/FIN", "SYN on a live connection", "SYN after RST", "SYN retransmitted"))), ROUTED),
    ("tun4-g*", "tunnel_icmp_outer"): {
        "router to director: frag mtu 1400 about the outer packet (160 bytes quoted)": NOT_REMEMBERED,
        "1400-byte packet with DF after the frag-needed for the tunnel": NOT_REMEMBERED},
    ("tun*6*", "tunnel_icmp_outer"): {
        f"router to director: {what} about the outer packet (160 bytes quoted)": TOLD
        for what in ("frag mtu 1400", "port", "host", "ttl")},
    ("nat[46]", "ops_udp"): {"answer of server 1": ONE_PACKET_REPLY, "answer of server 2": ONE_PACKET_REPLY},
    ("nat[46]", "server_initiated"): {
        "ACK from the service port, no connection": "a stray packet of a NAT server is dropped: forwarded as it is, "
                                                    "it would show the client the server's own address",
        "SYN of its own to the outside": "weir is no router: connections that real servers open need another gateway"},
}

# What is not served yet: (mode pattern, case) -> the feature it waits for. A case that passes must leave the list.
NOT_SERVED_YET = {}

# Where what arrives is compared, rather than the frames that carry it: the kernel puts packets together, cuts them anew to pieces as large
# as the largest, and sends them with the last one; weir sends each piece on as it comes.
IN_PIECES = {"udp_fragments"}

LIVE = None


def setUpModule():
    global LIVE
    LIVE = Live()


def tearDownModule():
    LIVE.close()


def listed(table, case):
    """The entry of a table for this case, or None."""
    for (pattern, name), entry in table.items():
        if name == case.name and fnmatch.fnmatch(case.mode, pattern):
            return entry
    return None


def replayed(case):
    """Runs a case on a fresh weir; returns `{comment: [difference]}` and differences of the connection counts."""
    table = ipvsadm.Table()
    for command in case.setup:
        table.apply(command)
    steps = list(case.steps)
    while steps and steps[0].commands:
        for command in steps.pop(0).commands:
            table.apply(command)
    LIVE.start(setup_of(table, case))
    found = {}
    for number, step in enumerate(steps):
        if step.commands:
            for command in step.commands:
                table.apply(command)
            LIVE.reload(setup_of(table, case))
            continue
        problems = golden.differences(step, LIVE.exchange(step.port, step.frame))
        if problems:
            text = f"frame {number}, into {step.port}, {step.comment}: {golden.describe(step.frame)}"
            found.setdefault(step.comment, []).append("\n    ".join([text, *problems]))
    wrong_counts = count_differences(case, LIVE.director.metrics)
    status = LIVE.stop()
    if status != 0:
        found.setdefault("stop", []).append(f"exit status {status}")
    return found, wrong_counts


def replayed_in_pieces(case):
    """As `replayed`, of a case in pieces, and over files: the kernel puts pieces of IPv4 together before AF_PACKET's fanout gives them to
    weir. A worker takes what clients have sent before what real servers have.
    """
    table = ipvsadm.Table()
    for command in [*case.setup, *(command for step in case.steps for command in step.commands)]:
        table.apply(command)
    frames, expected = {"c0": [], "r0": []}, {"c0": [], "r0": []}
    for step in case.steps:
        if step.port:
            frames[step.port].append(step.frame)
            for port, frame in step.out:
                expected[port].append(frame)
    result = replay(setup_of(table, case), frames)
    problems = [text for port, out in expected.items() for text in pieces.differences(port, out, result.out[port])]
    if result.exit_status != 0:
        problems.append(f"exit status {result.exit_status}")
    return {"pieces": problems} if problems else {}, count_differences(case, lambda: result.metrics)


def setup_of(table, case):
    """What the commands so far make of weir.toml."""
    setup = case.adapt(copy.deepcopy(table.setup(case.mtu)))
    for service in setup.services:
        if service.mark:
            service.marked = [{"addresses": case.marked_addresses(setup.services)}]
    return topology.with_ipv6(setup) if case.mode in OVER_IPV6 else setup


def count_differences(case, read):
    """Active and inactive connections per real server in the metrics that `read` gives, against the kernel's at the end of the case."""
    deadline = time.monotonic() + 1.0
    while True:
        metrics = read()
        problems = []
        for (protocol, vip, vport, rip, rport), expected in case.counts.items():
            server = f"[{rip}]:{rport}" if ":" in rip else f"{rip}:{rport}"
            labels = {"virtual_server": service_name(protocol, vip, vport), "real_server": server}
            got = tuple(int(metrics.total(f"weir_real_server_{kind}_connections", **labels))
                        for kind in ("active", "inactive"))
            if got != expected:
                problems.append(f"{labels}: active, inactive {got} instead of {expected}")
        if not problems or time.monotonic() > deadline:
            return problems
        time.sleep(0.05)


class GoldenFrames(unittest.TestCase):
    """One test a case, added below."""

    def check_served(self, case):
        comments = listed(EXPECTED_DEVIATIONS, case) or {}
        found, wrong_counts = (replayed_in_pieces if case.name in IN_PIECES else replayed)(case)
        unexpected = [text for comment, texts in found.items() if comment not in comments for text in texts]
        if "counts" not in comments:
            unexpected += wrong_counts
        elif wrong_counts:
            found["counts"] = wrong_counts
        if unexpected:
            self.fail(f"{case.doc}\n  " + "\n  ".join(unexpected))
        gone = [comment for comment in comments if comment not in found]
        if gone:
            self.fail(f"no deviation any more: {gone}; take it out of EXPECTED_DEVIATIONS")

    def check_not_served(self, case, feature):
        try:
            found, wrong_counts = replayed(case)
        except (ipvsadm.Untranslatable, AssertionError):
            return
        if not found and not wrong_counts:
            self.fail(f"{feature} is served now; take {case.mode} {case.name} out of NOT_SERVED_YET")


def all_cases():
    """Every case of every mode: recorded ones, then those made from a sibling's recording."""
    recorded = [case for mode in MODES for case in golden.load(mode)]
    return recorded + [case for mode in MODES if mode in siblings.TARGETS for case in siblings.load(mode)]


def add_cases():
    """One method a case."""
    for case in all_cases():
        feature = listed(NOT_SERVED_YET, case)
        stem = f"{case.mode}_{case.name}".replace("-", "_")
        if feature:
            def method(self, case=case, feature=feature):
                self.check_not_served(case, feature)
            name = f"test_{stem}_still_waits_for_{feature.replace(' ', '_').replace('-', '_')}"
        else:
            def method(self, case=case):
                self.check_served(case)
            name = f"test_{stem}_goes_as_in_the_kernel"
        setattr(GoldenFrames, name, method)


def report():
    """Lines about what was left out, for the end of a run."""
    cases = all_cases()
    waiting = {}
    for case in cases:
        feature = listed(NOT_SERVED_YET, case)
        if feature:
            waiting.setdefault(feature, []).append(f"{case.mode} {case.name}")
    lines = [f"golden cases: {len(cases)}, not served yet: {sum(map(len, waiting.values()))}"]
    lines += [f"  {feature}: {', '.join(names)}" for feature, names in sorted(waiting.items())]
    for case in cases:
        for comment, reason in (listed(EXPECTED_DEVIATIONS, case) or {}).items():
            lines.append(f"  deviates by intent: {case.mode} {case.name}, {comment}: {reason}")
    return lines


add_cases()
