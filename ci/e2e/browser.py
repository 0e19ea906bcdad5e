#!/usr/bin/python3
"""A headless Chromium for the end-to-end tests, driven by chromedriver's HTTP protocol (WebDriver).

As a program it runs where the page can be reached, in a namespace, and does what it reads: a line of JSON for each step, `[method, arguments]`,
answered by a line of JSON. `Remote` starts it there and speaks to it.
"""

import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars"]
PORT = 9515
# What a busy machine may take.
SECONDS = 60.0


class Browser:
    """One window. As a context manager it is gone after the block, with all that it wrote."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="browser-")
        self.driver = subprocess.Popen(["chromedriver", f"--port={PORT}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       start_new_session=True, env={**os.environ, "HOME": self.folder, "TMPDIR": self.folder})
        self.session = ""

    def __enter__(self):
        wanted = {"goog:chromeOptions": {"args": [*FLAGS, f"--user-data-dir={self.folder}/data"]},
                  "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        self._until("chromedriver listens", lambda: self._send("GET", "/status")["ready"])
        self.session = "/session/" + self._send("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        return self

    def __exit__(self, *_):
        try:
            self._send("DELETE", self.session)
        except OSError:
            pass
        self.driver.terminate()
        self.driver.wait(SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def _send(method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=SECONDS) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as problem:
            raise RuntimeError(json.load(problem)["value"]["message"]) from None

    @staticmethod
    def _until(what, condition):
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                value = condition()
            except urllib.error.URLError:
                value = None
            if value:
                return value
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what}: not within {SECONDS:.0f} s")
            time.sleep(0.02)

    def size(self, width, height, dark=False):
        """The window's inner size, and whether the system is set to dark."""
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.devtools("Emulation.setEmulatedMedia",
                      features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def devtools(self, command, **parameters):
        """One command of the DevTools protocol."""
        return self._send("POST", f"{self.session}/goog/cdp/execute", {"cmd": command, "params": parameters})

    def key(self, key):
        """Presses a key, as DevTools describes it, where the focus is."""
        for kind in ("keyDown", "keyUp"):
            self.devtools("Input.dispatchKeyEvent", type=kind, **key)

    def open(self, url):
        """Goes to a page, and returns when it is loaded."""
        self._send("POST", f"{self.session}/url", {"url": url})

    def run(self, script):
        """The value that a script returns in the page."""
        return self._send("POST", f"{self.session}/execute/sync", {"script": script, "args": []})

    def until(self, script):
        """The first true value of a script."""
        return self._until(script, lambda: self.run(script))

    def logs(self):
        """What stands in the console, and the addresses that pages asked for, since it was last looked."""
        console = [entry["message"] for entry in self._send("POST", f"{self.session}/se/log", {"type": "browser"})]
        console = [message for message in console if not message.startswith("chrome:")]
        events = self._send("POST", f"{self.session}/se/log", {"type": "performance"})
        events = [json.loads(entry["message"])["message"] for entry in events]
        asked = [it["params"] for it in events if it["method"] == "Network.requestWillBeSent"]
        # The browser's own first window is none.
        asked = [it["request"]["url"] for it in asked if not it["documentURL"].startswith("chrome:")]
        return {"console": console, "asked": asked}

    def picture(self, path):
        """What is seen, as PNG."""
        pathlib.Path(path).write_bytes(base64.b64decode(self._send("GET", f"{self.session}/screenshot")))


class Remote:
    """A browser in a namespace: its methods, called from here. `command` is the command line that runs a command there."""

    def __init__(self, command):
        self.process = subprocess.Popen([*command, sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(2 * SECONDS)
        self.process.stdout.close()

    def __getattr__(self, method):
        def call(*arguments):
            self.process.stdin.write(json.dumps([method, arguments]) + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline())
            if "problem" in answer:
                raise AssertionError(answer["problem"])
            return answer["value"]
        return call


def main():
    """Does what it reads until there is no more."""
    with Browser() as browser:
        for line in sys.stdin:
            method, arguments = json.loads(line)
            try:
                answer = {"value": getattr(browser, method)(*arguments)}
            except (RuntimeError, OSError) as problem:
                answer = {"problem": f"{method} {arguments}: {problem}"}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
