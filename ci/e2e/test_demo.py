"""scripts/demo, as a newcomer runs it first."""

import os
import re
import subprocess
import unittest

import lab

METHODS = ["dr", "tun", "nat", "dr6", "tun6", "nat6"]
LINE = re.compile(r"^(\w+) +wrr +8 +6 +4 +(\S+) +0$", re.MULTILINE)


class Demo(unittest.TestCase):
    def test_each_method_is_shown_over_both_families_and_nothing_is_left(self):
        name = f"{lab.NAME}-demo"
        environment = {**os.environ, "WEIR": lab.binary(), "WEIR_LAB": name}
        done = subprocess.run([str(lab.ROOT / "scripts" / "demo"), "--no-huge"], env=environment, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        clients = ["10.10.0.10"] * 3 + ["fd10::10"] * 3
        self.assertEqual(LINE.findall(done.stdout), list(zip(METHODS, clients)))
        self.assertEqual(done.stdout.count("as the kernel"), len(METHODS))
        self.assertIn("All as it should be.", done.stdout)
        self.assertEqual(list(lab.NAMESPACES.glob(f"{name}-*")), [])


if __name__ == "__main__":
    unittest.main()
