# SPDX-License-Identifier: GPL-2.0-or-later
"""What of a Xen tree its toolstack is made of, and the files that configure would write."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from harness import cache
from harness.hypervisor import source as sources
from harness.hypervisor.source import Source
from harness.verdict import LabError

OLDEST = (4, 12)  # the first release that is known to build

# What the libraries and daemons below are compiled from, in all trees since OLDEST.  Of xen/ that
# is little: a change of the hypervisor alone must not be another toolstack.
PARTS = (
    "Config.mk",
    "config",
    "tools/Rules.mk",
    "tools/config.h.in",
    "tools/console",
    "tools/cross-install",
    "tools/helpers",
    "tools/include",
    "tools/libacpi",
    "tools/libs",
    "tools/libxc",
    "tools/libxl",
    "tools/xenstore",
    "tools/xenstored",
    "tools/xl",
    "version.sh",
    "xen/Makefile",
    "xen/arch/x86/include/asm",
    "xen/arch/x86/lib/cpu-policy",
    "xen/common/decompress.h",
    "xen/common/libelf",
    "xen/common/lz4",
    "xen/common/unlz4.c",
    "xen/include/acpi",
    "xen/include/asm-x86",
    "xen/include/public",
    "xen/include/xen/byteorder",
    "xen/include/xen/decompress.h",
    "xen/include/xen/elfstructs.h",
    "xen/include/xen/lib",
    "xen/include/xen/libelf.h",
    "xen/include/xen/lz4.h",
    "xen/include/xen/unaligned.h",
    "xen/lib/x86",
    "xen/tools/gen-cpuid.py",
    "xen/xsm/flask/policy",
)

# Below dom0's /run/harness, where a run's payload is: nothing of dom0's own is replaced.
HOME = "/run/harness/toolstack"
BIN = f"{HOME}/bin"
LIB = f"{HOME}/lib"
# The distribution's: hvmloader and the device model of HVM guests.
FIRMWARE = "/usr/lib/xen/boot"
DEVICE_MODEL = "/usr/lib/xen/bin/qemu-system-i386"

_FOLDERS = {
    "prefix": "/usr",
    "exec_prefix": "/usr",
    "bindir": BIN,
    "sbindir": BIN,
    "libdir": LIB,
    "libexecdir": "/usr/lib",
    "datarootdir": "/usr/share",
    "mandir": "/usr/share/man",
    "docdir": "/usr/share/doc/xen",
    "includedir": "/usr/include",
    "localstatedir": "/var",
    "sysconfdir": "/etc",
    "LIBEXEC": HOME,
    "LIBEXEC_BIN": BIN,
    "LIBEXEC_LIB": LIB,
    "LIBEXEC_INC": f"{HOME}/include",
    "SHAREDIR": "/usr/share",
    "XENFIRMWAREDIR": FIRMWARE,
    "XEN_RUN_DIR": "/run/xen",
    "XEN_LOG_DIR": "/var/log/xen",
    "XEN_LIB_DIR": "/var/lib/xen",
    "XEN_LIB_STORED": "/var/lib/xenstored",
    "XEN_RUN_STORED": "/run/xenstored",
    "XEN_LOCK_DIR": "/run/lock",
    "XEN_PAGING_DIR": "/var/lib/xen/xenpaging",
    "XEN_DUMP_DIR": "/var/lib/xen/dump",
    "XEN_CONFIG_DIR": "/etc/xen",
    "XEN_SCRIPT_DIR": "/etc/xen/scripts",
    "CONFIG_DIR": "/etc",
    "CONFIG_LEAF_DIR": "default",
    "INITD_DIR": "/etc/init.d",
    "DEBUG_DIR": "/usr/lib/debug",
    "PACKAGE_TARNAME": "xen",
}
# Of what configure would ask, the answers that are not "no" or empty.
_TOOLS = {
    "AWK": "awk",
    "BASH": "/bin/bash",
    "BISON": "bison",
    "FLEX": "flex",
    "PERL": "perl",
    "PTHREAD_CFLAGS": "-pthread",
    "PTHREAD_LDFLAGS": "-pthread",
    "PTYFUNCS_LIBS": "-lutil",
    "YAJL_LIBS": "-lyajl",
    "rpath": "y",  # every program and library looks for the others in LIB
}
# Whoever is not named here is off: OCaml, Go, QEMU, firmware, systemd, netlink, ...
_OFF = (
    "CONFIG_RUMP blktap2 golang ipxe libfsimage libnl monitors ninepfs ocamltools ovmf pvshim "
    "pygrub qemu_traditional qemu_xen rombios seabios systemd werror xsmpolicy"
)
_HAVE = (
    "DECL_FDT_FIRST_SUBNODE DECL_FDT_NEXT_SUBNODE DECL_FDT_PROPERTY_U32 FDT_FIRST_SUBNODE "
    "FDT_NEXT_SUBNODE INTTYPES_H LIBFDT LIBYAJL LIBZ MEMORY_H PIPE2 STDINT_H STDIO_H STDLIB_H "
    "STRINGS_H STRING_H SYS_EVENTFD_H SYS_STAT_H SYS_TYPES_H UNISTD_H UTMP_H YAJL_YAJL_VERSION_H"
)
_QUOTED = (
    "LIBEXEC_BIN XENFIRMWAREDIR XEN_CONFIG_DIR XEN_DUMP_DIR XEN_LIB_DIR XEN_LOCK_DIR XEN_LOG_DIR "
    "XEN_RUN_DIR XEN_RUN_STORED XEN_SCRIPT_DIR"
)
_DEFINES = {
    **{f"HAVE_{name}": "1" for name in _HAVE.split()},
    **{name: f'"{_FOLDERS[name]}"' for name in _QUOTED.split()},
    "ENABLE_PARTIAL_DEVICE_TREE": "1",
    "INCLUDE_ENDIAN_H": "<endian.h>",
    "INCLUDE_LIBUTIL_H": "<pty.h>",
    "QEMU_XEN_PATH": f'"{DEVICE_MODEL}"',
    "SEABIOS_PATH": '"/usr/share/seabios/bios-256k.bin"',  # where the distribution has it
    "STDC_HEADERS": "1",
    "STUBDOM_QMP_PROXY_PATH": f'"{BIN}/vchan-socket-proxy"',
}


def has_tools(tree: Path) -> bool:
    """Say whether ``tree`` has its toolstack's sources: a copy of xen/ alone has not."""
    return (tree / "tools" / "config.h.in").is_file()


def digest(source: Source) -> str:
    """Return the digest of what a toolstack of ``source`` is made of."""
    return cache.digest_files(_files(source), base=source.tree)


def copy(source: Source, tree: Path) -> None:
    """Copy what a toolstack of ``source`` is made of to ``tree``."""
    for path in _files(source):
        target = tree / path.relative_to(source.tree)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target, follow_symlinks=False)
        if not target.is_symlink():
            target.chmod(target.stat().st_mode | 0o200)  # the cache's trees are read-only


def configure(tree: Path, programs: Mapping[str, str]) -> None:
    """Write what tools/configure would write into ``tree``, with our answers.

    ``programs`` adds to them (PYTHON, IASL).  configure itself would ask the machine, which has
    none of what a dom0 of another architecture has.
    """
    answers = {**dict.fromkeys(_OFF.split(), "n"), **_FOLDERS, **_TOOLS, **programs}
    for name in ("config/Paths.mk", "config/Tools.mk", "config/Tools-paths.mk"):
        template = tree / f"{name}.in"
        if template.is_file():
            text = re.sub(r"@(\w+)@", lambda m: answers.get(m[1], ""), template.read_text())
            (tree / name).write_text(text)
    text = (tree / "tools/config.h.in").read_text()
    header = re.sub(r"^#undef (\w+)$", _define, text, flags=re.MULTILINE)
    (tree / "tools/config.h").write_text(header)


def _define(found: re.Match[str]) -> str:
    name = found[1]
    return f"#define {name} {_DEFINES[name]}" if name in _DEFINES else f"/* {found[0]} */"


def _files(source: Source) -> list[Path]:
    try:
        return sources.files(source.tree, PARTS)
    except OSError as error:
        raise LabError(
            f"cannot read the source: {error.strerror}", where=str(error.filename or source.tree)
        ) from error
