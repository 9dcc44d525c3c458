# SPDX-License-Identifier: GPL-2.0-or-later
"""dom0's images, made from the distribution's packages and kept in the cache.

The cached images depend only on packages and on the lists under images/.  Our own scripts
under guests/, the keys and the agent reach dom0 as a *payload*: a second cpio archive, appended
to the cached initramfs, which stage 1 copies to /run/harness.
"""

from __future__ import annotations

import fnmatch
import json
import re
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness import apt, cache
from harness.apt.tree import Tree
from harness.arch import NAMES, Arch
from harness.data import GUESTS, IMAGES
from harness.images import cpio, kernel, packagelist, rootfs
from harness.verdict import LabError

DOMU_KERNEL = "/boot/vmlinux"  # path inside dom0
DOMU_INITRAMFS = "/run/harness/domu.cpio"  # path inside dom0

# Arguments that save seconds under emulation and change nothing that is tested.  Xen: do not
# zero all memory at boot (6 s on arm64).  Also allow channels between domUs, which Debian's
# default on arm64 (SILO) forbids.
XEN_ARGUMENTS = "bootscrub=0 xsm=dummy"
# Linux, dom0 and domU: no self-tests of ciphers, no zeroing of every page handed out, ...
LINUX_ARGUMENTS = (
    "cryptomgr.notests=1 init_on_alloc=0 mitigations=off rcupdate.rcu_expedited=1 apparmor=0"
)
# Linux starts with one CPU, and guests/*/init adds the others later: two emulated CPUs spend most
# of a boot waiting for each other.  Not on x86-64: a PV kernel could not add them later, so it
# starts with all, and stage 1 takes the others offline.
ONE_CPU_ARGUMENTS = {Arch.X86_64: "", Arch.ARM64: "maxcpus=1"}

_WHO = ("dom0", "domu")  # folders below images/
_KERNEL = re.compile(r"^linux-image-(unsigned-)?\d")
_SEP = re.compile(r"^.*<feature name='sep'/>.*\n", re.MULTILINE)

_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
sshd:x:100:65534::/run/sshd:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
_GROUP = """\
root:x:0:
tty:x:5:
disk:x:6:
kmem:x:15:
kvm:x:101:
libvirt:x:102:
nogroup:x:65534:
"""
_ETC = {
    "passwd": _PASSWD,
    "group": _GROUP,
    "shadow": "root:*:::::::\nsshd:!:::::::\nnobody:!:::::::\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files\n",
    "hosts": "127.0.0.1 localhost\n127.0.1.1 dom0\n",
    "hostname": "dom0\n",
    "shells": "/bin/sh\n",
    "profile": "export PATH=/usr/sbin:/usr/bin:/sbin:/bin PS1='dom0# '\n",
    "mtab": "",
}
# Where the device model of HVM guests is, in the distribution's releases.
_DEVICE_MODELS = ("/usr/libexec/xen-qemu-system-i386", "/usr/bin/qemu-system-i386")
_CPU_MAP = "/usr/share/libvirt/cpu_map"
_FOLDERS = ("dev", "proc", "sys", "run", "tmp", "root", "mnt", "var/tmp", "var/cache/libvirt")
_VAR = (
    "lib/xen/dump",
    "lib/xenstored",
    "lib/libvirt/libxl",
    "log/libvirt/libxl",
    "log/xen/console",
)


@dataclass(frozen=True)
class Dom0Image:
    """dom0's images for one architecture, in one cache entry; ``digest`` is that of its inputs."""

    arch: Arch
    kernel: Path  # for Xen: an ELF file on x86-64, an Image on arm64
    initramfs: Path  # incomplete: needs a payload, see write_initramfs()
    root: Path  # raw ext4 image, sparse; must never be written to
    domu_kernel: str  # path inside dom0
    domu_initramfs: Path  # incomplete: see domu_initramfs()
    packages: tuple[tuple[str, str], ...]  # name, version
    kernel_version: str  # uname -r
    digest: str


def dom0_image(arch: Arch, *, codename: str = "", notice: apt.Notice = lambda _: None) -> Dom0Image:
    """Return dom0's images for ``arch``; make them if the cache does not have them.

    ``notice`` gets messages on the progress.  The packages are those of the distribution's release
    ``codename`` (default: the release of this computer).
    """
    lists = {
        who: packagelist.read(IMAGES / who / "packages.txt", NAMES[arch].debian) for who in _WHO
    }
    files = {
        who: apt.fetch(arch, wanted.wanted, codename=codename, notice=notice)
        for who, wanted in lists.items()
    }
    here = Path(__file__).parent
    ours = (
        cache.digest_files(IMAGES.glob("dom*/*.txt"), base=IMAGES),
        cache.digest_files(here.glob("*.py"), base=here),
    )
    what = sorted({(who, deb.name, deb.sha256) for who, debs in files.items() for deb in debs})
    digest = cache.key(arch, what, ours)

    def make(work: Path) -> None:
        _make(arch, lists, files, work, notice)

    entry = cache.entry("dom0", digest, make)
    about = json.loads((entry / "about.json").read_text())
    return Dom0Image(
        arch=arch,
        kernel=entry / "vmlinux",
        initramfs=entry / "initramfs.cpio",
        root=entry / "root.ext4",
        domu_kernel=DOMU_KERNEL,
        domu_initramfs=entry / "domu.cpio",
        packages=tuple((name, version) for name, version in about["packages"]),
        kernel_version=about["kernel"],
        digest=digest,
    )


def kernel_package(arch: Arch) -> Path:
    """Return the path of the package with dom0's kernel."""
    wanted = packagelist.read(IMAGES / "dom0/packages.txt", NAMES[arch].debian)
    return _package(apt.fetch(arch, wanted.wanted))


def domu_initramfs(image: Dom0Image, agent: Path) -> bytes:
    """Return a domU's initramfs: modules, busybox, our init and ``agent``, a static program."""
    ours = {
        "init": cpio.File(GUESTS / "domu/init", 0o755),
        "agent": cpio.File(agent, 0o755),
    }
    return image.domu_initramfs.read_bytes() + cpio.archive(ours)


def write_initramfs(image: Dom0Image, path: Path, payload: Mapping[str, cpio.File]) -> None:
    """Write dom0's initramfs with a run's ``payload`` to ``path``.

    The payload's files appear in dom0's /run/harness, beside our own init and its
    configuration.  It must have ``host_key`` and ``authorized_keys`` for sshd.
    """
    members: dict[str, cpio.Member] = {
        "init": cpio.File(GUESTS / "dom0/stage1", 0o755),
        "payload/init": cpio.File(GUESTS / "dom0/init", 0o755),
        "payload/new-run": cpio.File(GUESTS / "dom0/new-run", 0o755),
        "payload/sshd_config": cpio.File(GUESTS / "dom0/sshd_config"),
        "payload/libvirtd.conf": cpio.File(GUESTS / "dom0/libvirtd.conf"),
    }
    members |= {f"payload/{name}": member for name, member in payload.items()}
    path.write_bytes(image.initramfs.read_bytes() + cpio.archive(members))


def _make(
    arch: Arch,
    lists: Mapping[str, packagelist.PackageList],
    files: Mapping[str, Mapping[apt.Deb, Path]],
    work: Path,
    notice: apt.Notice,
) -> None:
    notice(f"unpacking {len(files['dom0'])} packages for dom0 ({arch})")
    with tempfile.TemporaryDirectory(dir=work) as scratch, ThreadPoolExecutor(1) as beside:
        kernel_taken = beside.submit(
            _kernel, files["dom0"], work
        )  # takes as long as all other packages
        trees = {who: Tree(Path(scratch, who)) for who in _WHO}
        for who, tree in trees.items():
            tree.root.mkdir()
            debs = [path for deb, path in files[who].items() if lists[who].has_package(deb.name)]
            rootfs.unpack(debs, lists[who], tree.root)
        linux = kernel_taken.result()
        (work / "vmlinux").write_bytes(linux.image)
        _write_initramfs(work / "initramfs.cpio", trees["dom0"], linux.modules["dom0"])
        _write_initramfs(work / "domu.cpio", trees["domu"], linux.modules["domu"])
        _finish(trees["dom0"], linux.image)
        notice(f"making dom0's file system ({arch})")
        rootfs.make_ext4(trees["dom0"].root, work / "root.ext4")
    packages = sorted({(deb.name, deb.version) for debs in files.values() for deb in debs})
    about = {"packages": packages, "kernel": linux.version}
    (work / "about.json").write_text(json.dumps(about, indent=1))


def _package(files: Mapping[apt.Deb, Path]) -> Path:
    # linux-image-amd64 only depends on the package with the kernel: linux-image-6.1.0-...
    found = [path for deb, path in files.items() if _KERNEL.match(deb.name)]
    if len(found) != 1:
        where = str(IMAGES / "dom0/packages.txt")
        raise LabError(f"{len(found)} kernels resolved for dom0", where=where)
    return found[0]


def _kernel(files: Mapping[apt.Deb, Path], scratch: Path) -> kernel.Kernel:
    wanted = {who: _modules(IMAGES / who / "modules.txt") for who in _WHO}
    return kernel.from_package(_package(files), wanted, scratch=scratch)


def _write_initramfs(path: Path, tree: Tree, modules: Iterable[kernel.Module]) -> None:
    members: dict[str, cpio.Member] = {
        name: cpio.Folder() for name in ("dev", "proc", "sys", "root", "run", "tmp")
    }
    members["bin/busybox"] = cpio.File(tree.read("/usr/bin/busybox"), 0o755)
    members["bin/sh"] = cpio.Link("busybox")
    members |= {f"modules/{module.name}.ko": cpio.File(module.body) for module in modules}
    order = "".join(f"{module.name}.ko {module.parameters}\n" for module in modules)
    members["modules/order"] = cpio.File(order.encode())
    path.write_bytes(cpio.archive(members))


def _finish(tree: Tree, linux: bytes) -> None:
    """Do what the packages' maintainer scripts would do, as far as dom0 needs it."""
    for folder in (*_FOLDERS, *(f"var/{name}" for name in _VAR)):
        tree.make_folder(f"/{folder}")
    for name, target in (("/var/run", "/run"), ("/var/lock", "/run/lock")):
        if not tree.exists(name):
            tree.link(name, target)
    for name, text in _ETC.items():
        tree.write(f"/etc/{name}", text)
    for applet in _words(IMAGES / "dom0/applets.txt"):
        if not any(tree.exists(f"/usr/{folder}/{applet}") for folder in ("bin", "sbin")):
            tree.link(f"/usr/bin/{applet}", "busybox")
    for name in fnmatch.filter(tree.names(_CPU_MAP), "x86_*.xml"):
        # Xen hides sep on AMD; libvirt then finds no model at all and refuses to start.
        if name != "x86_features.xml":
            model = f"{_CPU_MAP}/{name}"
            tree.write(model, _SEP.sub("", tree.read(model).decode()))
    _place_device_model(tree)
    tree.write(DOMU_KERNEL, linux)


def _place_device_model(tree: Tree) -> None:
    """Put the device model of HVM guests where libvirt looks for it, beside hvmloader."""
    for xen in fnmatch.filter(tree.names("/usr/lib"), "xen-[0-9]*"):
        if not tree.exists("/usr/lib/xen"):
            tree.link("/usr/lib/xen", xen)  # libvirt of some releases uses a path without a version
        for model in _DEVICE_MODELS:
            if tree.is_file(model):
                tree.link(f"/usr/lib/{xen}/bin/qemu-system-i386", model)
                break
    # It would load every Multiboot kernel by DMA, which QEMU's machines for Xen do not have.
    with_dma = "/usr/share/qemu/multiboot_dma.bin"
    if tree.is_file(with_dma):
        tree.remove(with_dma)
        tree.link(with_dma, "multiboot.bin")


def _modules(path: Path) -> dict[str, str]:
    """Return the parameters of each module in a modules.txt, in its order."""
    words = (line.partition(" ") for _, line in packagelist.lines(path))
    return {name: parameters.strip() for name, _, parameters in words}


def _words(path: Path) -> list[str]:
    return [word for _, line in packagelist.lines(path) for word in line.split()]
