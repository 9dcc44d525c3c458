# SPDX-License-Identifier: GPL-2.0-or-later
"""Unpack binary packages below a tree, whatever is in them, and without running anything of them.

A package is an ``ar`` archive with two tar archives (deb(5)); dpkg-deb decompresses the one with
the files, and we place them (harness.apt.tree).
"""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from harness import command
from harness.apt.tree import Tree
from harness.verdict import LabError

POOL = "deb"  # the shelf of the cache with the packages, each named by its SHA-256
_IN_POOL = re.compile(r"([0-9a-f]{64})\.deb")


def unpack(deb: Path, tree: Tree, wanted: Callable[[str], bool] = lambda _: True) -> None:
    """Unpack the files of package ``deb`` whose absolute path is ``wanted`` into ``tree``.

    A file that is there already is kept: packages ship the same file with and without /usr in
    front.  Device nodes and the like are left out.  Threads may unpack into one tree.  LabError if
    the package is damaged, or a path in it leads through a file, or through links without an end.
    """
    with files(deb) as package:
        for member in package:
            path = str(PurePosixPath("/", member.name))
            if path != "/" and not member.isdir() and wanted(path):
                try:
                    _place(package, member, tree, path)
                except OSError as error:
                    if error.errno not in (errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG):
                        raise
                    raise _cannot_unpack(path, str(error.strerror), deb) from error
                except ValueError as error:  # a NUL in the name
                    raise _cannot_unpack(path, str(error), deb) from error


def _cannot_unpack(path: str, why: str, deb: Path) -> LabError:
    return LabError(f"{path!r} in this package cannot be unpacked: {why}", where=str(deb))


@contextmanager
def files(deb: Path) -> Iterator[tarfile.TarFile]:
    """Yield the files of package ``deb`` as a tar archive to be read once, from begin to end.

    LabError if the package is damaged, or is not the one that the archive's signed index names.
    """
    check(deb)
    argv = [command.which("dpkg-deb", "dpkg"), "--fsys-tarfile", str(deb)]
    broken = LabError(f"dpkg-deb cannot unpack {deb}", hint="delete the file and run again")
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        try:
            with tarfile.open(fileobj=child.stdout, mode="r|") as package:
                yield package
            while child.stdout.read(1 << 16):  # the padding at the end: else SIGPIPE kills dpkg-deb
                pass
        except (tarfile.TarError, KeyError, EOFError) as error:  # KeyError: a link to nothing
            raise broken from error
    if child.returncode != 0:
        raise broken


def check(deb: Path) -> None:
    """LabError unless the content of ``deb``, a file of the pool, has the SHA-256 of its name.

    The name is that of the archive's signed index.  A file that does not match is deleted, so that
    the next run downloads it.
    """
    name = _IN_POOL.fullmatch(deb.name)
    if name is None:  # not of the pool
        return
    with deb.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != name[1]:
        deb.unlink()
        raise LabError(
            "this package was not what the archive's signed index names: deleted",
            where=str(deb),
            hint="run again to download it, and find out who changes files there",
        )


def _place(package: tarfile.TarFile, member: tarfile.TarInfo, tree: Tree, path: str) -> None:
    if tree.exists(path):
        return
    try:
        _make(package, member, tree, path)
    except FileExistsError:  # another thread, with another package, was faster
        return


def _make(package: tarfile.TarFile, member: tarfile.TarInfo, tree: Tree, path: str) -> None:
    if member.issym():
        tree.link(path, member.linkname)
    elif member.islnk():
        tree.copy(str(PurePosixPath("/", member.linkname)), path)
    elif member.isfile():
        stream = package.extractfile(member)
        assert stream is not None
        with tree.create(path, member.mode & 0o7777 | 0o600) as out:  # we must be able to read it
            shutil.copyfileobj(stream, out)
