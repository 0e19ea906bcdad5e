"""What the virtual machine boots: a stock Debian kernel, and an initramfs made of this machine's own files.

The kernel's package is downloaded and unpacked into a cache folder, not installed. The initramfs has busybox, python3,
dpdk-devbind.py with lspci, weir, scripts/real-server with what it needs, the drivers of DPDK that its devices need, and every library that these load.
"""

import gzip
import hashlib
import os
import pathlib
import re
import shutil
import subprocess

import lab

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", lab.ROOT / "target")) / "vm"

KERNEL_PACKAGE = "linux-image-amd64"
MODULES = ("virtio_pci", "virtio_console", "virtio_net", "e1000", "e1000e", "vmxnet3", "vfio_iommu_type1", "vfio-pci",
           "uio_pci_generic", "ipip", "sit", "ip6_tunnel", "fou", "ip_gre", "ip6_gre")
# Of DPDK's plugins those for the devices here; the others would only make each start slower.
PLUGINS = ("bus_pci", "bus_vdev", "mempool_ring", "net_virtio", "net_e1000", "net_vmxnet3")
PROGRAMS = ("/usr/bin/python3", "/usr/bin/lspci", "/usr/bin/dpdk-devbind.py", "/usr/bin/bash", "/usr/bin/ip")
# Parts of python3's library that dpdk-devbind.py and the agent have no use for.
LEFT_OUT = shutil.ignore_patterns("__pycache__", "test", "tests", "idlelib", "lib2to3", "ensurepip", "tkinter", "turtledemo",
                                  "config-*", "pydoc_data", "asyncio", "distutils", "unittest")
REAL_SERVER = lab.ROOT / "scripts" / "real-server"
COMMAND_SECONDS = 300


def kernel():
    """The kernel's folder in the cache (`boot`, `lib/modules` under it) and its version; downloaded if need be."""
    found = command("apt-cache", "depends", KERNEL_PACKAGE)
    package = re.search(r"Depends: (linux-image-[0-9]\S+)", found)
    if not package:
        raise RuntimeError(f"apt knows no {KERNEL_PACKAGE}; run: apt-get update")
    version = package[1].removeprefix("linux-image-")
    folder = CACHE / package[1]
    if not folder.exists():
        made = folder.with_suffix(".new")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        command("apt-get", "download", "--quiet", "-o", "APT::Sandbox::User=root", package[1], cwd=made)
        (archive,) = made.glob("*.deb")
        command("dpkg", "-x", str(archive), str(made))
        archive.unlink()
        made.rename(folder)
    return folder, version


def initramfs(folder, version):
    """Path of an initramfs for this kernel and the weir under test; made anew when any of its files changed."""
    files = wanted_files()
    state = hashlib.sha256(version.encode())
    for path in sorted([*files, *map(str, (HERE / "guest").iterdir()), str(REAL_SERVER), __file__, lab.binary()]):
        about = os.stat(path)
        state.update(f"{path} {about.st_size} {about.st_mtime_ns}\n".encode())
    image = CACHE / f"initramfs-{state.hexdigest()[:16]}.gz"
    if not image.exists():
        for old in CACHE.glob("initramfs-*"):
            old.unlink()
        root = CACHE / "root"
        shutil.rmtree(root, ignore_errors=True)
        fill(root, files, folder, version)
        pack(root, image)
        shutil.rmtree(root)
    return image


def wanted_files():
    """Programs, DPDK's plugins, and every library that they load."""
    plugins = sorted(pathlib.Path("/usr/lib").glob("*/dpdk/pmds-*"))
    if len(plugins) != 1:
        raise RuntimeError(f"one folder of DPDK's plugins is needed, there are {len(plugins)}: {plugins}")
    drivers = [str(path) for name in PLUGINS for path in plugins[0].glob(f"librte_{name}.so*")]
    modules = [str(path) for path in pathlib.Path("/usr/lib/python3.11/lib-dynload").glob("*.so")]
    loaded = set()
    for program in [*PROGRAMS, lab.binary(), *drivers, *modules]:
        said = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
        loaded.update(re.findall(r"(/\S+) \(0x", said))
    return sorted({*PROGRAMS, *drivers, *loaded})


def fill(root, files, folder, version):
    """Lays out the guest's file system."""
    # As Debian has it: /bin and the like are those of /usr.
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in ("proc", "sys", "dev", "run", "tmp", "root", "etc", "var"):
        (root / name).mkdir()
    (root / "var/run").symlink_to("../run")
    for path in files:
        copy_linked(pathlib.Path(path), root)
    library = pathlib.Path(os.path.realpath("/usr/bin/python3")).name
    shutil.copytree(f"/usr/lib/{library}", root / "usr/lib" / library, ignore=LEFT_OUT)
    command("strip", "--strip-debug", "-o", str(root / "usr/sbin/weir"), lab.binary())
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in command("/bin/busybox", "--list").split():
        for place in (root / "usr/bin", root / "usr/sbin"):
            if (place / applet).exists():
                break
        else:
            (root / "usr/bin" / applet).symlink_to("busybox")
    for script in (HERE / "guest/init", HERE / "guest/agent", REAL_SERVER):
        shutil.copy(script, root / script.name)
    copy_modules(root, folder, version)


def copy_linked(path, root):
    """A file with the symbolic links that lead to it: the loader must not take one library for two."""
    path = path.parent.resolve() / path.name
    target = root / path.relative_to("/")
    if os.path.lexists(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, target, follow_symlinks=False)
    if path.is_symlink():
        copy_linked(path.parent / path.readlink(), root)


def copy_modules(root, folder, version):
    """The kernel modules with what they depend on, and the index that modprobe reads."""
    source = folder / "lib/modules" / version
    if not (source / "modules.dep").exists():
        command("depmod", "-b", str(folder), version)
    target = root / "usr/lib/modules" / version
    for module in MODULES:
        said = command("modprobe", "-d", str(folder), "-S", version, "--show-depends", module)
        for path in re.findall(r"^insmod (\S+)", said, re.MULTILINE):
            copy = target / pathlib.Path(path).relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    # What lspci's libkmod wants to see, though no module here is built in.
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        shutil.copy(source / name, target / name)
    command("depmod", "-b", str(root / "usr"), version)


def pack(root, image):
    """Makes the archive. Hardly compressed: the guest's processor is slow, and memory is there."""
    # With the root itself: EAL takes no plugin from below a folder that everybody may write to.
    root.chmod(0o755)
    names = "\0".join([".", *sorted(str(path.relative_to(root)) for path in root.rglob("*"))]).encode()
    packed = subprocess.run(["cpio", "--null", "--create", "--format=newc", "--quiet", "--owner=0:0"], input=names, cwd=root,
                            capture_output=True, check=True, timeout=COMMAND_SECONDS).stdout
    new = image.with_suffix(".new")
    with gzip.open(new, "wb", compresslevel=1) as out:
        out.write(packed)
    new.rename(image)


def command(*words, **options):
    """Runs a command and returns what it printed; a failure is an exception that shows what it said."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: status {done.returncode}: {done.stderr.strip()}")
    return done.stdout
