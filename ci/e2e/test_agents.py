"""What monitoring agents make of `ipvsadm`: each one's way of reading, written down here, against weirctl under that name.

Diamond's collector takes columns of `--list --stats --numeric --exact`; munin's plugins take columns of `-l -n` and `-l -n --rate` behind
`nl`, which puts a number before each line; Nagios checks take `-L -n -t VIP:PORT` by two regular expressions, or count words of
`-Ln`; Ganglia's counts states of `-L -c -n`; scripts take `-ln | wc -l` of 3 for an empty table.
"""

import os
import re
import unittest

import lab
import test_weirctl

A, B, C = (lab.REAL_SERVERS[name] for name in "ABC")
NAT = f"{lab.VIPS['nat']}:80"
REQUESTS = 9

# As the Nagios check of a virtual server reads it.
SERVICE = re.compile(r"(\w+)\s+([0-9.]+):(\w+)\s+(\w+)")
SERVER = re.compile(r"\s->\s([0-9.]+):(\w+)\s+(\w+)\s+(\d+)\s+(\d+)\s+(\d+)")


class Agents(unittest.TestCase):
    """Nine requests by NAT, and a real server of DR without weight."""

    @classmethod
    def setUpClass(cls):
        socket = lab.RUN / "agents.sock"
        cls.enterClassContext(lab.Weir(f'[control]\nsocket = "{socket}"\n' + lab.config()))
        folder = lab.RUN / "agents"
        folder.mkdir(exist_ok=True)
        cls.ipvsadm = folder / "ipvsadm"
        cls.ipvsadm.unlink(missing_ok=True)
        cls.ipvsadm.symlink_to(os.path.abspath(test_weirctl.WEIRCTL))
        cls.environment = {**os.environ, "WEIR_SOCKET": str(socket), "PATH": f"{folder}:{os.environ['PATH']}"}
        lab.answers(lab.VIPS["nat"], REQUESTS)
        cls.shell(f"ipvsadm -e -t {lab.VIPS['dr']}:80 -r {B}:80 -g -w 0")

    @classmethod
    def shell(cls, command, status=0):
        """What a command line prints, as an agent's shell runs it."""
        done = lab.run("director", "bash", "-o", "pipefail", "-c", command, env=cls.environment)
        if done.returncode != status:
            raise AssertionError(f"{command}: status {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def test_diamond_finds_every_figure_of_every_server(self):
        published = {}
        external = None
        # Its last newline is cut off; three lines are the header.
        for line in self.shell("ipvsadm --list --stats --numeric --exact")[:-1].split("\n")[3:]:
            row = line.split()
            if row[0] in ("TCP", "UDP"):
                external, backend = row[1].replace(".", "_"), "total"
            elif row[0] == "->":
                backend = row[1].replace(".", "_")
            else:
                self.fail(f"a line that it leaves out: {line}")
            published[external, backend] = [int(row[column]) for column in range(2, 7)]
        nat = {backend: figures for (of, backend), figures in published.items() if of == NAT.replace(".", "_")}
        self.assertEqual(len(published), 3 + 3 * 3)
        self.assertEqual(nat["total"][0], REQUESTS)
        for column in range(5):
            self.assertEqual(nat["total"][column], sum(figures[column] for backend, figures in nat.items() if backend != "total"))
        # Active and inactive, of the other listing.
        rows = [line.split() for line in self.shell("ipvsadm --list --numeric")[:-1].split("\n")[3:]]
        counts = [(int(row[4]), int(row[5])) for row in rows if row[0] == "->"]
        self.assertEqual(sum(active + inactive for active, inactive in counts), REQUESTS)

    def test_diamond_learns_from_the_status_that_an_option_is_unknown(self):
        self.shell("ipvsadm --list --stats --numeric --exakt 2>/dev/null", status=255)

    def test_munin_finds_its_columns_behind_line_numbers(self):
        counts = {}
        service = None
        for line in self.shell("ipvsadm -l -n | nl").splitlines():
            words = line.split()
            if words[1] in ("TCP", "UDP"):
                service = words[2]
            elif words[1] == "->" and service:
                counts[service, words[2]] = (words[3], int(words[4]), int(words[5]), int(words[6]))
        self.assertEqual(len(counts), 9)
        self.assertEqual(counts[NAT, f"{A}:8080"], ("Masq", 4, 0, 4))
        rates = {}
        for line in self.shell("ipvsadm -l -n --rate | nl").splitlines():
            words = line.split()
            if words[1] in ("TCP", "UDP"):
                rates[words[2]] = [int(words[column]) for column in (3, 6, 7)]
        self.assertEqual(set(rates), {f"{vip}:80" for vip in lab.VIPS.values()})

    def test_nagios_finds_real_servers_without_weight(self):
        def read(service):
            found, nodes = None, []
            for line in self.shell(f"ipvsadm -L -n -t {service}").split("\n"):
                if line[:3] in ("TCP", "UDP"):
                    found = SERVICE.split(line)[1:5]
                elif line[2:4] == "->":
                    parts = SERVER.split(line)
                    if len(parts) > 1:
                        nodes.append(tuple(parts[1:7]))
            return found, nodes

        found, nodes = read(NAT)
        self.assertEqual(found, ["TCP", lab.VIPS["nat"], "80", "wrr"])
        self.assertEqual({(address, port, method, weight) for address, port, method, weight, _, _ in nodes},
                         {(A, "8080", "Masq", "4"), (B, "8080", "Masq", "3"), (C, "8080", "Masq", "2")})
        _, nodes = read(f"{lab.VIPS['dr']}:80")
        self.assertEqual([address for address, _, _, weight, _, _ in nodes if int(weight) == 0], [B])
        self.assertEqual(self.shell("ipvsadm -Ln | grep -c Route").strip(), "3")
        self.assertEqual(self.shell("ipvsadm -Ln | grep -c Tunnel").strip(), "3")
        self.assertEqual(self.shell(f"ipvsadm -L -n | grep -c {A}:8080").strip(), "1")
        # What is not there is no success.
        self.shell(f"ipvsadm -L -n -t {lab.VIPS['nat']}:81 2>/dev/null", status=1)

    def test_ganglia_counts_connections_by_state(self):
        counted = self.shell(f"ipvsadm -L -c -n | grep {lab.VIPS['nat']} | grep -c TIME_WAIT")
        self.assertEqual(int(counted), REQUESTS)

    def test_scripts_find_names_and_the_usual_header(self):
        lines = self.shell("ipvsadm -L").splitlines()
        self.assertTrue(lines[0].startswith("IP Virtual Server version 1.2.1 (size="))
        self.assertEqual(lines[1:3], ["Prot LocalAddress:Port Scheduler Flags", "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn"])
        self.assertIn("http", lines[3].split()[1])
        self.assertEqual(int(self.shell("ipvsadm -ln | wc -l")), 3 + 3 + 9)
        self.assertEqual(self.shell("ipvsadm --save --numeric | grep -c '^-a '").strip(), "9")
