# SPDX-License-Identifier: GPL-2.0-or-later
"""A directory in which nothing leads outside: paths are resolved as if it were the root.

Packages ship links, and a file may be under a link that came before it: of the same package, or of
another one that is being unpacked at the same time.  The kernel would follow such a link out of
the tree.  So each folder on the way is opened without following links (O_NOFOLLOW) from the one
before; a link is read, and followed by us: an absolute one from the tree's root, and ".." ends at
the root, as in a chroot.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_MOST_LINKS = 40  # on the way to one file, as in Linux (MAXSYMLINKS)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC


class Tree:
    """The directory ``root``, which must exist.  Paths are absolute in it ("/etc/passwd").

    Threads may share it.  Every method raises OSError like the system call that it is named after,
    and ELOOP for links without an end.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def exists(self, path: str) -> bool:
        """Return whether there is anything at ``path``; a link counts, wherever it leads."""
        try:
            with self._at(path) as (folder, name):
                os.stat(name, dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def is_file(self, path: str) -> bool:
        """Return whether ``path``, its links followed, is a regular file."""
        try:
            with self._at(path, follow=True) as (folder, name):
                about = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return stat.S_ISREG(about.st_mode)

    def names(self, path: str) -> list[str]:
        """Return the sorted names in the folder ``path``; none if there is no such folder."""
        try:
            with self._inside(path) as (folder, _), os.scandir(folder) as found:
                return sorted(item.name for item in found)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def folder(self, path: str) -> Path:
        """Return where the folder ``path`` is, its links followed."""
        with self._inside(path) as (_, names):
            return self.root.joinpath(*names)

    def read(self, path: str) -> bytes:
        """Return the content of the regular file ``path``, its links followed."""
        with self._at(path, follow=True) as (folder, name), _opened(name, folder) as file:
            return file.read()

    @contextlib.contextmanager
    def create(self, path: str, mode: int) -> Iterator[BinaryIO]:
        """Make the file ``path``, which must not exist, and its folders; yield it to be written."""
        with self._at(path, make=True) as (folder, name):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE
            with os.fdopen(os.open(name, flags, 0o600, dir_fd=folder), "wb") as out:
                yield out
                out.flush()
                os.fchmod(out.fileno(), mode)

    def write(self, path: str, content: bytes | str, mode: int = 0o644) -> None:
        """Write ``content`` to ``path``; a file or a link that is there is replaced."""
        self.remove(path)
        with self.create(path, mode) as out:
            out.write(content if isinstance(content, bytes) else content.encode())

    def remove(self, path: str) -> None:
        """Remove the file or link ``path`` if it is there."""
        with contextlib.suppress(FileNotFoundError), self._at(path) as (folder, name):
            os.unlink(name, dir_fd=folder)

    def link(self, path: str, target: str) -> None:
        """Make the symbolic link ``path``, which must not exist, and its folders."""
        with self._at(path, make=True) as (folder, name):
            os.symlink(target, name, dir_fd=folder)

    def make_folder(self, path: str) -> None:
        """Make the folder ``path`` and its parents, where they are not there."""
        with self._inside(path, make=True):
            pass

    def copy(self, source: str, path: str) -> None:
        """Make ``path`` a copy of the file ``source``, as a hard link would; nothing if there is no
        such file in the tree."""
        try:
            with self._at(source, follow=True) as (folder, name), _opened(name, folder) as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                with self.create(path, mode) as out:
                    shutil.copyfileobj(file, out)
        except (FileNotFoundError, NotADirectoryError):
            return

    @contextlib.contextmanager
    def _at(
        self, path: str, *, follow: bool = False, make: bool = False
    ) -> Iterator[tuple[int, str]]:
        """Yield the open folder that ``path`` is in, and the name there.

        ``follow``: if ``path`` is a link, that of what it leads to.  ``make``: the folders on the
        way are made.
        """
        for _ in range(_MOST_LINKS):
            parent, _, name = path.rpartition("/")
            with self._inside(parent, make=make) as (folder, names):
                if not (follow and _is_link(name, folder)):
                    yield folder, name
                    return
                target = os.readlink(name, dir_fd=folder)
                path = target if target.startswith("/") else "/".join(["", *names, target])
        raise _endless(path)

    @contextlib.contextmanager
    def _inside(self, path: str, *, make: bool = False) -> Iterator[tuple[int, list[str]]]:
        """Yield the folder ``path``, open, and the names on the way to it, no link among them."""
        folders = [os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
        names: list[str] = []
        todo = path.split("/")[::-1]
        links = 0

        def up() -> None:
            if names:
                names.pop()
                os.close(folders.pop())

        try:
            while todo:
                part = todo.pop()
                if part == "..":
                    up()
                if part in ("", ".", ".."):
                    continue
                target = _enter(part, folders, make=make)
                if target is None:
                    names.append(part)
                    continue
                links += 1
                if links > _MOST_LINKS:
                    raise _endless(path)
                while names and target.startswith("/"):
                    up()
                todo += target.split("/")[::-1]
            yield folders[-1], names
        finally:
            for folder in folders:
                os.close(folder)


def _endless(path: str) -> OSError:
    return OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _enter(name: str, folders: list[int], *, make: bool) -> str | None:
    """Add the folder ``name`` to ``folders``; if it is a link, return its target instead."""
    here = folders[-1]
    try:
        folders.append(os.open(name, _FOLDER, dir_fd=here))
    except FileNotFoundError:
        if not make:
            raise
        with contextlib.suppress(FileExistsError):  # another thread has made it, or a link
            os.mkdir(name, 0o755, dir_fd=here)
        return _enter(name, folders, make=False)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP) or not _is_link(name, here):
            raise
        return os.readlink(name, dir_fd=here)
    return None


def _is_link(name: str, folder: int) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _opened(name: str, folder: int) -> BinaryIO:
    """Open the regular file ``name``; O_NONBLOCK, so that a pipe there would not hold us."""
    handle = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _FILE, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise FileNotFoundError(errno.ENOENT, "not a regular file", name)
    return os.fdopen(handle, "rb")
