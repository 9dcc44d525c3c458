# SPDX-License-Identifier: GPL-2.0-or-later
"""The content-addressed cache, which parallel runs share and anybody may delete.

An entry is a directory ``<cache>/<kind>/<key>``.  It is made under another name beside its place
and then renamed, so it exists whole or not at all.  The key is a digest of all inputs, so an
entry is never updated.  A lock file beside the entry makes a second run wait, instead of making
the same entry again; the kernel releases the lock if its holder dies.

What is in the cache is booted, unpacked and run, often as root.  So it may be shared between the
runs of one user, and root's may be read by everybody; but whatever another user could have put
there is refused, before it is used (``trusted``).
"""

from __future__ import annotations

import contextlib
import errno
import grp
import hashlib
import json
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import platformdirs
from filelock import FileLock

from harness.verdict import HarnessError, LabError

ENVIRONMENT = "EVTCHN_HARNESS_CACHE"
_FULL_BYTES = 1 << 20
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def root() -> Path:
    """Return the cache directory: $EVTCHN_HARNESS_CACHE, else a folder in the user's cache."""
    chosen = os.environ.get(ENVIRONMENT)
    return (
        Path(chosen).absolute()
        if chosen
        else Path(platformdirs.user_cache_dir("xen-evtchn-harness"))
    )


def key(*parts: object) -> str:
    """Return the digest (32 hex digits) of ``parts``: bytes, or any JSON value."""
    digest = hashlib.sha256()
    for part in parts:
        blob = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        digest.update(len(blob).to_bytes(8, "little") + blob)
    return digest.hexdigest()[:32]


def digest_files(paths: Iterable[Path], *, base: Path) -> str:
    """Return the digest of the files ``paths``: names relative to ``base``, modes and contents."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        if path.is_symlink():
            kind, body = "link", os.fsencode(path.readlink())
        else:
            kind, body = str(int(os.access(path, os.X_OK))), path.read_bytes()
        digest.update(os.fsencode(f"{path.relative_to(base)}\0{kind}\0{len(body)}\0") + body)
    return digest.hexdigest()[:32]


def entry(kind: str, name: str, make: Callable[[Path], None]) -> Path:
    """Return the directory of entry ``kind``/``name``; call ``make(directory)`` if it is not there.

    ``make`` gets an empty directory and fills it; when ``make`` returns, the directory becomes the
    entry.  If ``make`` raises, the directory is removed; its OSError (for example because the
    disk is full) becomes a LabError, as does an entry that another user could have changed.
    """
    home = shelf(kind)
    final = home / name
    if _is_there(final):
        with contextlib.suppress(OSError):  # the cache may be read-only
            os.utime(final)
        return final
    try:
        with FileLock(home / f".{name}.lock"):
            if _is_there(final):
                return final
            for stale in home.glob(f".{name}.new-*"):  # we hold the lock: so its maker was killed
                shutil.rmtree(stale, ignore_errors=True)
            work = Path(tempfile.mkdtemp(prefix=f".{name}.new-", dir=home))
            work.chmod(0o755)
            try:
                make(work)
                for path in work.iterdir():  # whatever the umask is
                    if not path.is_symlink():
                        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~_OTHERS_WRITE)
                work.rename(final)
            except HarnessError as error:
                if shutil.disk_usage(home).free >= _FULL_BYTES:
                    raise
                full = errno.ENOSPC  # programs report a full disk in many ways, some not clearly
                raise OSError(full, os.strerror(full), str(home)) from error
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise _cannot_make(kind, home, error) from error
    return final


def examine() -> None:
    """LabError if another user could have put something into the cache; it need not exist yet."""
    home = root()
    _check_way_to(home)
    if os.path.lexists(home):
        trusted(home, may_be_link=True)
        for path in home.iterdir():
            trusted(path)


def shelf(kind: str) -> Path:
    """Return the directory of the entries ``kind``, made if it is not there.

    LabError if it cannot be made, or if another user could have put something there.
    """
    home = root()
    path = home / kind
    try:
        _check_way_to(home)
        _make_directory(path)
        trusted(home, may_be_link=True)
        return trusted(path)
    except OSError as error:
        raise _cannot_make(kind, path, error) from error


def trusted(path: Path, *, may_be_link: bool = False) -> Path:
    """Return ``path``, a file or directory of the cache; LabError unless it is ours alone.

    It must belong to us or to root, nobody else may be able to write it, and it must not be a
    symbolic link (with ``may_be_link`` the link's target is examined as well).  Who checks all
    directories on the way to a file in this manner knows that nobody else put it there.
    """
    about = path.lstat()
    problem = _problem(about)
    if not problem and stat.S_ISLNK(about.st_mode):
        problem = _problem(path.stat()) if may_be_link else "is a symbolic link"
    if problem:
        hint = f"delete it, or set {ENVIRONMENT} to a directory of your own"
        raise LabError(f"not safe to use: it {problem}", where=str(path), hint=hint)
    return path


def _is_there(final: Path) -> bool:
    """Return whether entry ``final`` is there; LabError if it, or a file in it, is not ours."""
    try:
        trusted(final)
        with os.scandir(final) as found:
            for item in found:
                if not item.is_symlink():  # a link in a directory of ours is ours
                    trusted(Path(item.path))
    except FileNotFoundError:  # also if somebody deletes it now
        return False
    return True


def _problem(about: os.stat_result) -> str:
    """Return why what ``about`` describes is not ours alone; "" if it is."""
    if about.st_uid not in (0, os.geteuid()):
        return f"belongs to {_user(about.st_uid)}, and you are {_user(os.geteuid())}"
    if stat.S_ISLNK(about.st_mode):
        return ""  # the mode of a link means nothing
    if about.st_mode & stat.S_IWOTH:
        return "can be written by everybody"
    # Where every user has a group of his own, files are made for that group to write.
    if about.st_mode & stat.S_IWGRP and about.st_gid not in (0, os.getegid()):
        return f"can be written by the group {_group(about.st_gid)}"
    return ""


def _check_way_to(home: Path) -> None:
    """LabError if another user could put another directory in the place of ``home``."""
    for path in dict.fromkeys([*home.parents, *home.resolve().parents]):
        try:
            about = path.lstat()
        except FileNotFoundError:
            continue  # we are going to make it
        is_sticky = stat.S_ISDIR(about.st_mode) and about.st_mode & stat.S_ISVTX
        if not (is_sticky and about.st_uid in (0, os.geteuid())) and (why := _problem(about)):
            raise LabError(
                f"the cache is not safe there: this directory {why}",
                where=str(path),
                hint=f"set {ENVIRONMENT} to a directory that nobody else can replace",
            )


def _make_directory(path: Path) -> None:
    """Make ``path`` and its parents, which others may read and not write, whatever the umask is."""
    if not path.is_dir():
        if not path.parent.exists():
            _make_directory(path.parent)
        path.mkdir(mode=0o755, exist_ok=True)


def _user(number: int) -> str:
    try:
        return f"{pwd.getpwuid(number).pw_name} (user {number})"
    except KeyError:
        return f"user {number}"


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _cannot_make(kind: str, home: Path, error: OSError) -> LabError:
    what = f"cannot make {kind} in the cache: {error.strerror or error}"
    where = Path(str(error.filename or home))
    at_fault = error.errno in (errno.ENOSPC, errno.EDQUOT) or where.is_relative_to(root())
    hint = f"free space or correct the permissions there, or set {ENVIRONMENT} to another directory"
    return LabError(what, where=str(where), hint=hint if at_fault else "")
