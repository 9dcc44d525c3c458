# SPDX-License-Identifier: GPL-2.0-or-later
"""libvirt's Xen driver, compiled against the libxl of a tree.

The driver is a module that libvirtd loads: a handful of C files of libvirt's source package, and
private symbols of the distribution's libvirt.so.0, which exports them by version.  So the source
must be of the very version that dom0 has.  meson is not asked: it would want everything that
all of libvirt is built from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from harness import command
from harness.arch import NAMES
from harness.toolstack import recipe
from harness.toolstack.sysroot import Sysroot
from harness.toolstack.tree import LIB

DRIVER = "libvirt_driver_libxl.so"

# Where the driver's files include each other from, below src/.
_INCLUDES = "access conf cpu hypervisor libxl locking network rpc security storage_file util"
# What meson would find out, as far as the driver's files and the headers that they include ask.
_CONFIG = """\
#pragma once
#define _GNU_SOURCE 1
#define PACKAGE "libvirt"
#define PACKAGE_VERSION "{version}"
#define VERSION PACKAGE_VERSION
#define WITH_GETEGID 1
#define WITH_GETEUID 1
#define WITH_GETGID 1
#define WITH_GETUID 1
#define WITH_LIBINTL_H 1
#define WITH_LIBXL 1
#define WITH_LIBXLUTIL_H 1
#define WITH_NET_IF_H 1
#define WITH_STRUCT_IFREQ 1
#define WITH_XEN_PVH 1
#define LIBXL_EXECBIN_DIR "/usr/lib/xen/bin"
#define LIBXL_FIRMWARE_DIR "/usr/lib/xen/boot"
"""
_CONFIGMAKE = """\
#pragma once
#define BINDIR "/usr/bin"
#define DATADIR "/usr/share"
#define LIBDIR "/usr/lib"
#define LIBEXECDIR "/usr/lib/libvirt"
#define LOCALEDIR "/usr/share/locale"
#define LOCALSTATEDIR "/var"
#define PKGDATADIR "/usr/share/libvirt"
#define PREFIX "/usr"
#define RUNSTATEDIR "/run"
#define SBINDIR "/usr/sbin"
#define SYSCONFDIR "/etc"
"""
_LINKED = ("xenlight", "xlutil", "xentoollog", "xenstore")
_FROM_DISTRIBUTION = ("glib-2.0", "gobject-2.0", "xml2")

_MAKEFILE = """\
OBJECTS := {objects}

{driver}: $(OBJECTS)
\t{cc} -shared -o $@ $(OBJECTS) {libraries}

%.o: {source}/%.c
\t{cc} {flags} -c -o $@ $<
"""


def prepare(
    source: Path,
    tree: Path,
    release: tuple[int, int],
    sysroot: Sysroot,
    compiler: recipe.Compiler,
) -> Path:
    """Return a folder in ``tree`` in which make builds DRIVER of libvirt's ``source``.

    The libxl of ``tree`` must be built when make runs.  ``release`` is Xen's: it says which of
    libxl's interfaces of the past libvirt may ask for.
    """
    work = tree / "libvirt"
    made = work / "include"
    _write_headers(source, made, sysroot.libvirt)
    sources = source / "src/libxl"
    flags = [
        *("-std=gnu99", "-O1", "-fPIC", "-w"),
        f"-DLIBXL_API_VERSION={'0x041300' if release >= (4, 13) else '0x040500'}",
        *(f"-I{folder}" for folder in _folders(source, made, tree)),
        *_flags(sysroot),
    ]
    text = _MAKEFILE.format(
        objects=" ".join(f"{file.stem}.o" for file in sorted(sources.glob("*.c"))),
        driver=DRIVER,
        cc=" ".join(compiler.cc()),
        source=sources,
        flags=" ".join(flags),
        libraries=" ".join(_libraries(tree)),
    )
    (work / "Makefile").write_text(text)
    return work


def _write_headers(source: Path, folder: Path, version: str) -> None:
    """Write what a build of libvirt generates and the driver includes."""
    major, minor, micro = (int(word) for word in version.split("."))
    for name in ("libvirt", "access"):
        (folder / name).mkdir(parents=True)
    (folder / "meson-config.h").write_text(_CONFIG.format(version=version))
    (folder / "configmake.h").write_text(_CONFIGMAKE)
    number = str(major * 1000000 + minor * 1000 + micro)
    common = (source / "include/libvirt/libvirt-common.h.in").read_text()
    (folder / "libvirt/libvirt-common.h").write_text(
        re.sub(r"@LIBVIRT_VERSION_NUMBER@", number, common)
    )
    generator = source / "src/rpc/gendispatch.pl"
    protocol = source / "src/remote/remote_protocol.x"
    perl = command.which("perl", "perl")
    checks = command.run([perl, generator, "--mode=aclheader", "remote", "REMOTE", protocol])
    for where in ("viraccessapicheck.h", "access/viraccessapicheck.h"):
        (folder / where).write_text(checks)


def _folders(source: Path, made: Path, tree: Path) -> Sequence[Path]:
    libraries = [
        path
        for library in recipe.LIBRARIES
        if (place := recipe.find(tree, library)) is not None
        for path in (place, place / "include")
    ]
    below = [source / "src" / name for name in _INCLUDES.split()]
    xen = [tree / "tools/include", *libraries]
    return [made, source, source / "include", source / "src", *below, *xen]


def _flags(sysroot: Sysroot) -> list[str]:
    places = (f"usr/lib/{NAMES[sysroot.arch].triplet}/pkgconfig", "usr/share/pkgconfig")
    environment = {
        "PKG_CONFIG_LIBDIR": ":".join(str(sysroot.tree / place) for place in places),
        "PKG_CONFIG_SYSROOT_DIR": str(sysroot.tree),
        "PKG_CONFIG_PATH": None,
    }
    words = [command.which("pkg-config", "pkg-config"), "--cflags", "glib-2.0", "libxml-2.0"]
    return command.run(words, env=environment).split()


def _libraries(tree: Path) -> list[str]:
    places = [place for library in recipe.LIBRARIES if (place := recipe.find(tree, library))]
    return [
        "-Wl,--no-undefined,-z,nodelete",
        f"-Wl,-rpath,{LIB}",
        *(f"-Wl,-rpath-link={place}" for place in places),
        *(f"-L{place}" for place in places),
        *(f"-l{name}" for name in _LINKED),
        "-l:libvirt.so.0",
        *(f"-l{name}" for name in _FROM_DISTRIBUTION),
    ]
