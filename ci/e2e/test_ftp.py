"""FTP through NAT: vsftpd on a real server, curl and lftp at the client, passive and active, both families."""

import hashlib
import os
import shutil
import subprocess
import unittest

import lab
import test_ipv6

NAME = "A"
CONTROL = 2121
VIPS = {4: "10.10.0.102", 6: "fd10::102"}
DIRECTORS = {4: "10.20.0.2", 6: "fd20::2"}
SERVERS = {4: "10.20.0.11", 6: "fd20::11"}
BODY = os.urandom(300_000)

VSFTPD = """
listen={v4}
listen_ipv6={v6}
listen_port={port}
background=NO
anonymous_enable=YES
local_enable=NO
write_enable=YES
anon_upload_enable=YES
anon_other_write_enable=YES
anon_umask=022
no_anon_password=YES
anon_root={root}
connect_from_port_20=YES
secure_chroot_dir={empty}
seccomp_sandbox=NO
isolate_network=NO
pasv_promiscuous=NO
xferlog_enable=NO
run_as_launching_user=NO
ftp_username=ftp
"""


def config():
    """A weir file with FTP by NAT in both families, at port 21, to one real server."""
    text = '[http]\nlisten = "127.0.0.1:9292"\n[connections]\ncapacity = 65_536\n'
    for number, (port, net) in enumerate((("outer", "10"), ("inner", "20"))):
        addresses = f'"10.{net}.0.2/24", "fd{net}::2/64"'
        text += f'[[port]]\nname = "{port}"\ndevice = "net_af_packet{number}"\naddresses = [{addresses}]\n'
    for family, vip in VIPS.items():
        text += f'[[virtual_server]]\nname = "ftp{family}"\naddress = "{vip}"\nport = 21\nscheduler = "rr"\nforwarding = "nat"\n'
        text += f'[[virtual_server.real_server]]\naddress = "{SERVERS[family]}"\nport = {CONTROL}\n'
    return text


class Ftp(unittest.TestCase):
    """One weir and one server for all of it."""

    def setUp(self):
        self.files = lab.RUN / "ftp"
        self.addCleanup(shutil.rmtree, self.files, ignore_errors=True)
        (self.files / "root" / "up").mkdir(parents=True)
        (self.files / "empty").mkdir()
        (self.files / "root" / "down").write_bytes(BODY)
        (self.files / "body").write_bytes(BODY)
        (self.files / "root" / "up").chmod(0o777)
        # What lies above is the lab's own.
        for path in (self.files, self.files / "root"):
            path.chmod(0o755)
        for node, device, address in (("client", "outer", "fd10::10/64"), (NAME, "eth0", "fd20::11/64")):
            test_ipv6.switch(node, 0)
            self.addCleanup(test_ipv6.switch, node, 1)
            test_ipv6.address(node, device, address)
        lab.run(NAME, "ip", "-6", "route", "add", "default", "via", DIRECTORS[6], check=True)
        for family in VIPS:
            conf = self.files / f"vsftpd{family}.conf"
            conf.write_text(VSFTPD.format(v4="NO" if family == 6 else "YES", v6="YES" if family == 6 else "NO",
                                          port=CONTROL, root=self.files / "root", empty=self.files / "empty")
                            + (f"listen_address={SERVERS[4]}\n" if family == 4 else f"listen_address6={SERVERS[6]}\n"))
            server = lab.start(NAME, "vsftpd", str(conf))
            self.addCleanup(server.communicate)
            self.addCleanup(server.terminate)
        lab.wait_for("vsftpd", lambda: lab.run(NAME, "ss", "-Hltn").stdout.count(f":{CONTROL}") == 2, lab.BUSY_SECONDS)

    def client(self, *command):
        """Runs a client, which has to do without an error."""
        done = subprocess.run(lab.inside("client", *command), capture_output=True, timeout=30)
        self.assertEqual(done.returncode, 0, f"{command}: {done.stderr.decode()}")
        return done.stdout

    def fetched_and_put(self, family, *options):
        """A file to the client and another one to the server, whole."""
        host = f"[{VIPS[family]}]" if family == 6 else VIPS[family]
        curl = ["curl", "-sSg", "--max-time", "20", *options]
        self.assertEqual(hashlib.sha256(self.client(*curl, f"ftp://{host}/down")).digest(), hashlib.sha256(BODY).digest())
        up = self.files / "root" / "up" / "body"
        up.unlink(missing_ok=True)
        self.client(*curl, "-T", str(self.files / "body"), f"ftp://{host}/up/")
        self.assertEqual(hashlib.sha256(up.read_bytes()).digest(), hashlib.sha256(BODY).digest(), options)

    def test_files_go_both_ways_passive_and_active_over_both_families(self):
        with lab.Weir(config()) as weir:
            self.fetched_and_put(4, "--disable-epsv")
            self.fetched_and_put(4)
            self.fetched_and_put(4, "--disable-eprt", "--ftp-port", "-")
            self.fetched_and_put(4, "--ftp-port", "-")
            self.fetched_and_put(6)
            self.fetched_and_put(6, "--ftp-port", "-")
            for family in VIPS:
                host = f"[{VIPS[family]}]" if family == 6 else VIPS[family]
                # Several transfers in one session: what a 227 has shifted stays so.
                for passive in ("on", "off"):
                    script = (f"set net:max-retries 1; set net:timeout 5; set ftp:passive-mode {passive}; set ftp:prefer-epsv off; "
                              f"open ftp://{host}; ls; cat down; ls; cat down; bye")
                    self.assertEqual(self.client("lftp", "-c", script).count(BODY), 2, (family, passive))
            metrics = weir.metrics()
            found = {event: metrics.total("weir_ftp_total", event=event)
                     for event in ("announced_passive", "announced_active", "rewritten", "opened", "others_address", "unasked_reply")}
            self.assertGreater(found["announced_passive"], 8)
            self.assertGreater(found["announced_active"], 8)
            self.assertGreater(found["rewritten"], 2)
            self.assertEqual(found["opened"], found["announced_passive"] + found["announced_active"])
            self.assertEqual((found["others_address"], found["unasked_reply"]), (0, 0))
