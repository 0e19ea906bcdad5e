"""weirctl import: what it makes is taken by weir, served, and saved as it was."""

import pathlib
import re
import subprocess
import tempfile
import tomllib
import unittest

import lab
from test_ipvsadm import sessions
from test_weirctl import WEIRCTL

SAMPLES = pathlib.Path("/usr/share/doc/keepalived/samples")
PORTS = ("--interface", "outer=net_af_packet0,198.18.0.1/24", "--interface", "inner=net_af_packet1,10.99.0.1/24")


def imported(kind, text, *options):
    """What `weirctl import` makes of a text."""
    done = subprocess.run([WEIRCTL, "import", kind, "-", *options], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def services(text):
    """Rules by the services that they are of, each with its lines."""
    found = {}
    for line in text.splitlines():
        found.setdefault(tuple(line.split()[1:3]), []).append(line)
    return found


def saved(command):
    """What a kernel's recorded sessions saved, of each service once."""
    found = {}
    for session in sessions():
        for step in session["steps"]:
            if step["cmd"] == command and step["rc"] == 0:
                for service, lines in services(step["stdout"]).items():
                    if not service[1].startswith(("127.", "localhost")):
                        found.setdefault(service, lines)
    return "".join(f"{line}\n" for lines in found.values() for line in lines)


class Import(unittest.TestCase):
    def test_rules_that_a_kernel_saved_are_served_listed_and_saved_as_they_were(self):
        rules = saved("ipvsadm -Sn")
        self.assertGreater(len(services(rules)), 15)
        with tempfile.TemporaryDirectory(dir=lab.RUN) as folder:
            socket = f"{folder}/weir.sock"
            control = f'[control]\nsocket = "{socket}"\n[http]\nlisten = "127.0.0.1:9292"\n[connections]\ncapacity = 65_536\n'
            ipvsadm = pathlib.Path(folder, "ipvsadm")
            ipvsadm.symlink_to(pathlib.Path(WEIRCTL).resolve())
            # Here the kernel keeps its own interfaces.
            made = re.sub(r"host_interface = .*\n", "", imported("ipvsadm-save", rules, *PORTS))
            with lab.Weir(control + made):
                listed, again = (lab.run("director", "env", f"WEIR_SOCKET={socket}", str(ipvsadm), flag) for flag in ("-Ln", "-Sn"))
        self.assertEqual(services(again.stdout), services(rules), again.stderr)
        heads = re.findall(r"^(TCP|UDP|SCTP) +(\S+)", listed.stdout, re.MULTILINE)
        self.assertEqual(sorted(to for _, to in heads), sorted(to for _, to in services(rules)))

    def test_names_of_services_are_their_numbers(self):
        session = next(it for it in sessions() if it["session"] == "defaults")
        texts = [step["stdout"] for step in session["steps"] if step["cmd"] in ("ipvsadm -S", "ipvsadm -Sn")]
        names, numbers = (tomllib.loads(imported("ipvsadm-save", text)) for text in sorted(texts, key=lambda it: ":80 " in it))
        self.assertEqual(names, numbers)

    def test_what_becomes_of_the_packaged_samples_is_checked_as_good(self):
        samples = [it for it in sorted(SAMPLES.iterdir()) if it.name.startswith("keepalived.conf")]
        self.assertGreater(len(samples), 20)
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "weir.toml")
            for sample in samples:
                with self.subTest(sample.name):
                    file.write_text(imported("keepalived", sample.read_text(errors="replace")))
                    done = subprocess.run([lab.binary(), "--check", "-c", str(file)], capture_output=True, text=True)
                    # Programs and users of checks are the machine's.
                    errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("error")]
                    others = [line for line in errors if not re.search(r"can't (be run|run programs)$", line)]
                    self.assertEqual((others, done.returncode == 0), ([], not errors), done.stdout + done.stderr)
