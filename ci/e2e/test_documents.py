"""Files in docs/ that people copy: weir takes them, and they are what the page says of them."""

import re
import subprocess
import tomllib
import unittest

import lab
from test_weirctl import WEIRCTL

DOCS = lab.ROOT / "docs"
CARDS = {"dr": ["eth0=0000:03:00.0,10.0.0.2/24"], "nat": ["eth0=0000:03:00.0,203.0.113.2/24", "eth1=0000:03:00.1,10.0.0.2/24"]}
# keepalived looks for the interfaces of its file.
KEEPALIVED = "ip link add eth0 type veth peer name eth1; keepalived --config-test --use-file=$0"


def likeness(tables):
    """What a file serves and holds, whatever its names and checks."""
    servers = [{
        **{key: server[key] for key in ("address", "port", "forwarding", "scheduler")},
        "real": [(real["address"], real.get("port"), real["weight"]) for real in server["real_server"]],
    } for server in tables["virtual_server"]]
    instances = [(it["virtual_router_id"], it["version"], it["priority"], it["advertisement_interval"], it["addresses"], it.get("virtual_mac", True))
                 for it in tables["vrrp"]]
    return servers, instances


class TwoDirectors(unittest.TestCase):
    """docs/ha.md and its files."""

    def test_weir_takes_each_without_a_warning_and_the_second_differs_as_the_page_says(self):
        for method, count in (("dr", 2), ("nat", 4)):
            first, second = (DOCS / "ha" / f"{method}-{which}.toml" for which in ("first", "second"))
            for file in (first, second):
                done = subprocess.run([lab.binary(), "--check", "-c", file], capture_output=True, text=True)
                self.assertRegex(done.stdout + done.stderr, rf"^{re.escape(str(file))} is good: [^\n]*\none worker takes [^\n]*\n$")
            pairs = list(zip(first.read_text().splitlines()[1:], second.read_text().splitlines()[1:], strict=True))
            self.assertEqual(sum(one != other for one, other in pairs), count)

    def test_keepalived_takes_its_counterpart_which_says_the_same(self):
        for method, cards in CARDS.items():
            file = DOCS / "ha" / f"{method}-keepalived.conf"
            done = subprocess.run(["unshare", "--net", "bash", "-c", KEEPALIVED, file], capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))
            words = [word for card in cards for word in ("--interface", card)]
            imported = subprocess.run([WEIRCTL, "import", "keepalived", file, *words], capture_output=True, text=True)
            self.assertIn("left out: 0\n", imported.stderr)
            ours = tomllib.loads((DOCS / "ha" / f"{method}-first.toml").read_text())
            self.assertEqual(likeness(tomllib.loads(imported.stdout)), likeness({"virtual_server": ours["virtual_server"], "vrrp": ours["vrrp"]}))


class Links(unittest.TestCase):
    """From page to page."""

    def test_each_link_leads_to_a_page_and_a_heading(self):
        pages = [*DOCS.glob("*.md"), *(lab.ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"))]
        text = {page: re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S) for page in pages}
        anchors = {page: {anchor(heading) for heading in re.findall(r"^#+ (.*)$", body, re.M)} for page, body in text.items()}
        broken = []
        for page, body in text.items():
            for link in re.findall(r"\]\(([^)\s]+)\)", body):
                if re.match(r"\w+:", link):
                    continue
                path, _, fragment = link.partition("#")
                target = (page.parent / path).resolve() if path else page
                if not target.exists() or fragment and target in anchors and fragment not in anchors[target]:
                    broken.append(f"{page.relative_to(lab.ROOT)}: {link}")
        self.assertEqual(broken, [])


def anchor(heading):
    """As a heading is linked to: its letters, digits, hyphens and low lines, blanks as hyphens."""
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
