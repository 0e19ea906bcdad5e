"""The status page in a headless Chromium (`browser.py`): what it shows, whom it asks, and what becomes of hostile texts."""

import contextlib
import json
import unittest

import browser
import health
import lab
import test_health

MARKUP = "<img src=x onerror=document.title=1><b>"
# It says markup of one real server and leaves the others alone.
CHECK = f'''type = "exec"
  command = ["/bin/sh", "-c", "echo \\"$0\\"; test $WEIR_ADDRESS != {lab.REAL_SERVERS['B']}", "{MARKUP}"]'''
VRRP = """
[[vrrp]]
name = "vi"
port = "outer"
virtual_router_id = 51
priority = 255
addresses = ["10.10.0.150"]
"""
# Name, state, weight, active, inactive, new connections in all, of each row; and whether rates are those of the answer.
ROWS = """
const name = row => (row.querySelector('.name span span') ?? row.querySelector('th > span')).textContent;
const number = cell => Number(cell.textContent.replaceAll(',', ''));
return [...document.querySelectorAll('#list tbody tr')].map(row => [name(row), row.cells[1].firstChild.textContent,
                                                                   ...[2, 3, 4, 11].map(place => number(row.cells[place]))]);
"""
RATES = """
return shown.virtual_servers.every((server, place) => {
  const cells = document.querySelectorAll('#list tbody')[place].rows[0].cells;
  return cells[5].textContent === short(server.per_second.connections) && cells[7].textContent === short(server.per_second.in_packets)
    && cells[9].textContent === short(server.per_second.in_bytes * 8);
}) && shown.totals.per_second.in_packets > 0;
"""
# All answers hold a name and a reason that are markup.
HOSTILE = """
const honest = fetch;
window.fetch = async (...asked) => {
  const answer = await honest(...asked);
  const it = await answer.json();
  for (const server of it.virtual_servers ?? []) server.name = MARKUP + server.name;
  for (const list of [it.problems, it.events]) for (const one of list ?? []) one.text = MARKUP + one.text;
  if (it.director) it.director = MARKUP;
  return { ok: true, json: async () => it };
};
return ask().then(() => { window.fetch = honest; });
"""


class Page(unittest.TestCase):
    """One weir and one browser for all of these. Nine requests have gone through each method, and checks hold B for down in one."""

    @classmethod
    def setUpClass(cls):
        cls.stack = contextlib.ExitStack()
        cls.addClassCleanup(cls.stack.close)
        cls.weir = cls.stack.enter_context(lab.Weir(test_health.checked(CHECK) + VRRP))
        cls.browser = cls.stack.enter_context(browser.Remote(lab.inside("director")))
        for vip in lab.VIPS.values():
            lab.answers(vip, 9)

    def setUp(self):
        if self.weir.process.poll() is not None:
            self.weir.start()
        self.browser.size(1360, 900)
        self.browser.open(f"{lab.HTTP}/")
        self.browser.until("return shown !== null && events.length > 0 && document.querySelectorAll('tr.real').length === 9"
                           " && document.querySelector('.state.down')")

    def expected(self):
        """The rows by the API's other paths."""
        servers = json.loads(self.weir.http("/api/v1/virtual_servers").stdout)["virtual_servers"]
        rows = []
        for server in servers:
            known = health.listing(self.weir, server["name"])["real_servers"]
            words = ["up" if it["up"] else "down" for it in known]
            rows.append([server["name"], "partly up" if "down" in words else "up", sum(it["weight"] for it in server["real_servers"]),
                         server["active"], server["inactive"], server["total"]["connections"]])
            served = {it["real_server"]: [it["weight"], it["active"], it["inactive"], it["total"]["connections"]]
                      for it in server["real_servers"]}
            # What is down is out of service.
            rows += [[it["real_server"], word, *served.get(it["real_server"], [0] * 4)] for it, word in zip(known, words)]
        return rows

    def test_values_are_those_of_the_api_and_change_without_a_reload(self):
        lab.wait_for("the API's values", lambda: self.browser.run(ROWS) == self.expected(), 5)
        before = self.browser.run("window.here = 1; return by('list').tBodies[0].rows[0].cells[11].textContent")
        lab.answers(lab.VIPS["dr"], 9)
        lab.wait_for("the next values", lambda: self.browser.run(ROWS) == self.expected(), 5)
        rows = self.browser.run(ROWS)
        self.assertEqual(rows[0][5], int(before) + 9)
        self.assertEqual([row[1] for row in rows].count("down"), 1)
        # A sample of rates is taken every two seconds.
        self.browser.until(f"return window.here === 1 && {RATES.strip().removeprefix('return ')}")
        words = self.browser.run("return document.body.innerText")
        name = lab.run("director", "hostname").stdout.strip()
        for text in (name, f"Real server {lab.REAL_SERVERS['B']}:8080 of nat is down", "every worker polls: ready", "vi\tmaster"):
            self.assertIn(text, words)

    def test_it_asks_nobody_but_weir_and_breaks_no_policy(self):
        self.browser.run("return ask()")
        seen = self.browser.logs()
        self.assertEqual(seen["console"], [])
        self.assertEqual([url for url in seen["asked"] if not url.startswith(f"{lab.HTTP}/")], [])
        self.assertIn(f"{lab.HTTP}/api/v1/overview?limit=50", seen["asked"])
        # The policy is there: what is written in place is not run.
        with self.assertRaisesRegex(AssertionError, "TrustedScript|Content Security Policy"):
            self.browser.run("const it = document.createElement('script'); it.textContent = 'window.taken = 1'; document.body.append(it);")
        self.assertIsNone(self.browser.run("return window.taken ?? null"))
        self.assertNotEqual(self.browser.logs()["console"], [])

    def test_hostile_names_and_answers_are_shown_as_text(self):
        # What the check of B printed, by itself.
        self.assertIn(MARKUP, self.browser.run("return document.querySelector('.state.down').closest('tr').innerText"))
        self.browser.run(HOSTILE.replace("MARKUP", json.dumps(MARKUP)))
        texts = self.browser.run("return ['director', 'problems', 'list'].map(part => by(part).innerText)")
        self.assertEqual([MARKUP in text for text in texts], [True] * 3, texts)
        self.assertEqual(self.browser.run("return document.querySelectorAll('main img, main b, h1 img').length"), 0)
        self.assertIn("wrong", self.browser.run("return document.title"))

    def test_it_is_as_wide_as_a_telephone_and_works_by_keys(self):
        for width in (1360, 390):
            for dark in (False, True):
                self.browser.size(width, 844, dark)
                self.assertLessEqual(self.browser.run("return document.documentElement.scrollWidth"), width)
        self.browser.run("by('heads').querySelector('button').focus()")
        press = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        for sort, names in (("ascending", ["dr", "nat", "tun"]), ("descending", ["tun", "nat", "dr"])):
            self.browser.key(press)
            self.browser.run("return ask()")
            self.assertEqual(self.browser.run("return document.activeElement.closest('th').getAttribute('aria-sort')"), sort)
            self.assertEqual(self.browser.run("return [...document.querySelectorAll('.name span span:first-child')].map(it => it.textContent)"),
                             names)
        self.browser.run("by('search').value = '10.10.0.102'; by('search').dispatchEvent(new Event('input'))")
        self.browser.until("return document.querySelectorAll('#list tbody').length === 1")
        self.browser.run("document.querySelector('.fold').click()")
        self.browser.until("return document.querySelectorAll('tr.real').length === 0")

    def test_it_says_so_when_weir_does_not_answer_any_more(self):
        self.assertEqual(self.weir.stop(), 0)
        self.browser.until("return document.body.classList.contains('stale')")
        said = self.browser.run("return [by('lost').innerText, by('age').innerText, document.title]")
        self.assertRegex(said[0], r"weir does not answer any more. What is shown here is of \d\d:\d\d:\d\d and may be wrong by now")
        self.assertRegex(said[1], r"No answer for \d+ s")
        self.assertIn("No answer", said[2])
        self.weir.start()
        self.browser.until("return !document.body.classList.contains('stale') && by('lost').hidden")
