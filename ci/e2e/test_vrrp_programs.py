"""Programs, the FIFO, scripts and processes of VRRP: weir beside keepalived, each alone on its virtual routers. Both go through the same
things and are asked what they have told of it."""

import os
import pathlib
import re
import signal
import stat
import subprocess

import lab
import vrrp_lab as net
from test_vrrp import FAULT, MASTER, VrrpCase

# name, priority, sync group, whether the script is tracked, and with which weight.
INSTANCES = (("a", 100, "G", True, None), ("b", 110, "G", False, None), ("c", 120, None, True, -20),
             ("d", 130, None, False, None))
STATES = ("master", "backup", "fault", "stop")
LINE = re.compile(r'(INSTANCE|GROUP) "(\w)" (\w+) (\d+)')


class Site:
    """What the programs of one of the two write, and what its script and its process hang on."""

    def __init__(self, name):
        self.folder = net.folder("weir-programs-")
        self.calls = self.folder / "calls"
        self.bad = self.folder / "bad"
        self.fifo = self.folder / "fifo"
        self.log = self.folder / "log.sh"
        self.check = self.folder / "check.sh"
        self.process = f"weir-t-{name}-{os.getpid()}"[:15]
        # weir's programs are nobody's; what others may write in keepalived runs nothing of.
        self.folder.chmod(0o755)
        self.calls.write_text("")
        self.calls.chmod(0o666)
        os.mkfifo(self.fifo, 0o600)
        for path, text in ((self.log, f"#!/bin/sh\necho \"$@\" >> {self.calls}\n"),
                           (self.check, f"#!/bin/sh\ntest ! -e {self.bad}\n")):
            path.write_text(text)
            path.chmod(0o755)
        # Held open, so that nothing is lost over keepalived's reload.
        self.reader = os.open(self.fifo, os.O_RDWR | os.O_NONBLOCK)
        self.text = ""

    def lines(self):
        """What was read from the FIFO since the last phase."""
        try:
            while data := os.read(self.reader, 65536):
                self.text += data.decode()
        except BlockingIOError:
            pass
        return self.text.splitlines()

    def take(self):
        """The lines and calls of a phase. The lines of each group and other instance are in their order, but for members of the group that
        enter a state together: with keepalived the one leads whose timer was last. Calls run beside each other under keepalived, so
        theirs have no order."""
        lines, calls = self.lines(), self.calls.read_text().splitlines()
        self.text = ""
        self.calls.write_text("")
        units = {}
        for kind, name, state, priority in LINE.findall("\n".join(lines)):
            unit = units.setdefault("G" if name in "abG" else name, [])
            unit.append((kind, name, state, priority))
            if unit[-2:-1] and unit[-2][0] == kind and unit[-2][2] == state:
                unit[-2:] = sorted(unit[-2:])
        return units, sorted(calls)


def keepalived(site, names):
    """keepalived's file."""
    log = lambda *words: f'"{site.log} {" ".join(words)}"'  # noqa: E731
    hooks = lambda *words: "".join(f" notify_{state} {log(state, *words)}\n" for state in STATES) \
        + f" notify {log('any')}\n"  # noqa: E731
    text = (f"global_defs {{ enable_script_security\n script_user root\n vrrp_notify_fifo {site.fifo}\n"
            f" vrrp_garp_master_repeat 1 }}\n"
            f'vrrp_script check {{ script "{site.check}"\n interval 1\n rise 1\n fall 1 }}\n'
            f"vrrp_sync_group G {{ group {{ a\n b }}\n{hooks('G')} }}\n")
    for number, (name, priority, _, is_tracked, weight) in enumerate(INSTANCES):
        if name not in names:
            continue
        track = f"track_script {{ check{f' weight {weight}' if weight else ''} }}\n" if is_tracked else ""
        text += (f"vrrp_instance {name} {{ interface eth0\n version 3\n virtual_router_id {61 + number}\n"
                 f" priority {priority}\n advert_int 0.1\n {track}{hooks(name)}"
                 f" virtual_ipaddress {{ 10.30.0.{161 + number} }}\n}}\n")
    return text


def weir(site, names):
    """weir's."""
    array = lambda *words: "[" + ", ".join(f'"{word}"' for word in words) + "]"  # noqa: E731
    hooks = lambda *words: "".join(f"notify_{state} = {array(site.log, state, *words)}\n" for state in STATES) \
        + f"notify = {array(site.log, 'any')}\n"  # noqa: E731
    text = f'[control]\nvrrp_notify_fifo = "{site.fifo}"\n'
    for number, (name, priority, group, is_tracked, weight) in enumerate(INSTANCES):
        if name not in names:
            continue
        text += (f'[[vrrp]]\nname = "{name}"\nport = "lan"\nversion = 3\nvirtual_router_id = {71 + number}\n'
                 f'priority = {priority}\nadvertisement_interval = 0.1\ngarp_master_repeat = 1\n'
                 f'addresses = ["10.30.0.{171 + number}"]\n{hooks(name)}')
        if group:
            text += f'sync_group = "{group}"\n'
        if is_tracked:
            text += f'[[vrrp.track]]\nscript = ["{site.check}"]\nname = "check"\ninterval = 0.2\n'
            text += f"weight = {weight}\n" if weight else ""
        if name == "c":
            text += f'[[vrrp.track]]\nprocess = "{site.process}"\nweight = 7\n'
    return text + f'[[vrrp_sync_group]]\nname = "G"\n{hooks("G")}'


class VrrpPrograms(VrrpCase):
    """Both from their start to their stop."""

    def assertBoth(self, sites, wanted, daemons):
        """Each has written a line for each of these states, and has called what goes with it."""
        calls = len(wanted) * 2

        def is_there():
            return all(len(LINE.findall("\n".join(site.lines()))) >= len(wanted)
                       and len(site.calls.read_text().splitlines()) >= calls for site in sites)
        try:
            lab.wait_for("lines and calls", is_there, 15)
        except AssertionError as late:
            said = "\n".join(f"{site.lines()}\n{site.calls.read_text()}" for site in sites)
            raise AssertionError("\n".join([str(late), said, *(it.log() for it in daemons)])) from late
        ours, theirs = (site.take() for site in sites)
        self.assertEqual(ours, theirs)
        self.assertEqual({(name, state) for unit in ours[0].values() for _, name, state, _ in unit}, set(wanted))
        return ours

    def test_programs_and_the_fifo_hear_of_weir_what_they_hear_of_keepalived(self):
        sites = ours, theirs = Site("w"), Site("k")
        for site in sites:
            self.addCleanup(os.close, site.reader)
        process = pathlib.Path(ours.folder / ours.process)
        process.symlink_to("/bin/sleep")
        each = lambda state, names="abcG": [(name, state) for name in names]  # noqa: E731
        with net.Keepalived("b", keepalived(theirs, "abcd")) as other, net.Weir("a", weir(ours, "abcd")) as director:
            both = director, other
            self.assertBoth(sites, each("BACKUP", "abcdG") + each("MASTER", "abcdG"), both)
            # The script fails: a fault of the group, and another priority of c.
            for site in sites:
                site.bad.touch()
            self.assertBoth(sites, each("FAULT", "abG"), both)
            self.assertEqual(director.states(), {"a": FAULT, "b": FAULT, "c": MASTER, "d": MASTER})
            found = director.metrics()
            self.assertEqual(found.total("weir_vrrp_priority", instance="c"), 100)
            self.assertEqual(found.total("weir_vrrp_script_up", script="check"), 0)
            self.assertGreater(found.total("weir_vrrp_script_runs_total", script="check", result="failure"), 0)
            self.assertIn("VRRP: script check fails", director.log())
            for site in sites:
                site.bad.unlink()
            self.assertBoth(sites, each("BACKUP", "abG") + each("MASTER", "abG"), both)
            # Processes are weir's alone here: keepalived hears of them from the kernel.
            self.assertEqual(director.metrics().total("weir_vrrp_priority", instance="c"), 120)
            with subprocess.Popen([process, "60"]) as sleep:
                self.assertSoon("the process", lambda: director.metrics().total("weir_vrrp_priority", instance="c") == 127, 5)
                self.assertEqual(director.metrics().total("weir_vrrp_processes", process=ours.process), 1)
                sleep.kill()
            self.assertSoon("its end", lambda: director.metrics().total("weir_vrrp_priority", instance="c") == 120, 5)
            # A reload takes d away, and stops nobody else.
            runs = director.metrics().total("weir_vrrp_script_runs_total", script="check", result="success")
            director.file.write_text(net.port("a") + weir(ours, "abc"))
            (other.folder / "conf").write_text(keepalived(theirs, "abc"))
            for daemon in both:
                daemon.process.send_signal(signal.SIGHUP)
            for site in sites:
                lab.wait_for("the call", lambda site=site: "any INSTANCE d FAULT 130" in site.calls.read_text(), 10)
            self.assertSoon("the reload", lambda: set(director.states()) == set("abc"), 10, *both)
            self.assertEqual(set(director.states().values()), {MASTER})
            gone = ours.take()
            self.assertEqual(gone[1], theirs.take()[1])
            self.assertEqual(gone, ({"d": [("INSTANCE", "d", "FAULT", "130")]}, ["any INSTANCE d FAULT 130"]))
            found = director.metrics()
            self.assertGreaterEqual(found.total("weir_vrrp_script_runs_total", script="check", result="success"), runs)
            self.assertEqual(found.total("weir_vrrp_hooks_total", result="failure"), 0)
            self.assertEqual(found.total("weir_vrrp_fifo_lines_total", result="lost"), 0)
            for daemon in both:
                daemon.process.send_signal(signal.SIGTERM)
            self.assertBoth(sites, each("STOP"), both)
        self.assertTrue(stat.S_ISFIFO(ours.fifo.stat().st_mode))
