# SPDX-License-Identifier: GPL-2.0-or-later
"""Read what comes from outside, up to a limit: files, JSON, times and text.

What others wrote may be damaged, without end, or made to harm.  Everything here raises OSError or
ValueError with a reason for people, and nothing else; callers add where it was and what to do.
docs/security.md lists who reads what, and how much of it.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

DOCUMENT = 16 << 20  # bytes of a JSON document or a mail
SECRET = 64 << 10
LINE = 4 << 20  # bytes of a journal's line: a story or a witness is long
DEEPEST = 64  # levels of lists and objects in a JSON document
LARGEST = 1e30  # number in a JSON document: sums and plots of such numbers are still finite
_YEARS = range(1970, 3000)
_PIECE = 1 << 20


class Unfit(OSError):
    """A file that is not read: it is no regular file, or larger than the limit."""

    def __init__(self, path: Path, why: str, number: int = errno.EINVAL) -> None:
        super().__init__(number, why, str(path))


def opened(path: Path, *, follow: bool = True) -> BinaryIO:
    """Open the regular file ``path`` to read bytes; OSError for anything else.

    A FIFO would make us wait for ever, and a device never ends.  Without ``follow`` a symbolic
    link is refused, too.
    """
    try:
        kind = (path.stat() if follow else path.lstat()).st_mode
        _regular(path, kind)
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
        file = os.fdopen(os.open(path, flags), "rb")
    except ValueError as error:  # a zero byte
        raise Unfit(path, f"not a path: {error}") from None
    try:
        _regular(path, os.fstat(file.fileno()).st_mode)  # somebody may have replaced it
    except Unfit:
        file.close()
        raise
    return file


def content(path: Path, limit: int = DOCUMENT) -> bytes:
    """Return the bytes of ``path``; OSError if it has more than ``limit``, or is no file."""
    with opened(path) as file:
        read = bytearray()
        while len(read) <= limit and (piece := file.read(min(_PIECE, limit + 1 - len(read)))):
            read += piece
    if len(read) > limit:
        raise Unfit(path, f"larger than {size(limit)}", errno.EFBIG)
    return bytes(read)


def text(path: Path, limit: int = DOCUMENT) -> str:
    """Return the text of ``path``; errors as of ``content``, and ValueError if it is not UTF-8."""
    return content(path, limit).decode("utf-8")


def lines(
    file: BinaryIO, longest: int = LINE, most: int = 256 << 20
) -> Iterator[tuple[bytes | None, bool]]:
    """Yield (line without its newline, whether it had one); None for a line over ``longest``.

    Ends when more than ``most`` bytes have been read: ``file.tell()`` tells.
    """
    read = 0
    while read <= most and (line := file.readline(longest + 1)):
        read += len(line)
        whole = line.endswith(b"\n")
        if whole or len(line) <= longest:
            yield line.removesuffix(b"\n"), whole
            continue
        while not whole and read <= most and (rest := file.readline(_PIECE)):
            read += len(rest)
            whole = rest.endswith(b"\n")
        yield None, whole


def json_value(document: bytes | str) -> Any:
    """Return the value of a JSON ``document``; ValueError if it is none, or one made to harm.

    NaN and numbers beyond ``LARGEST`` are refused, and more than ``DEEPEST`` levels.  Half of a
    surrogate pair, which nobody could print, becomes U+FFFD.
    """
    written = document if isinstance(document, str) else document.decode("utf-8")
    try:
        value = json.loads(written, parse_constant=_not_json)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    _no_extremes(value)
    return _mended(value) if _may_have_halves(written) else value


def time(written: str) -> datetime:
    """Return the ISO time ``written``, in UTC; ValueError if it is none, or no time of a run."""
    return utc(datetime.fromisoformat(written))


def utc(moment: datetime) -> datetime:
    """Return ``moment`` in UTC, which it is without a zone; ValueError if no run can be then."""
    if moment.year not in _YEARS:
        raise ValueError(f"no time of a run: the year {moment.year}")
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def size(limit: int) -> str:
    """Return a number of bytes for people."""
    return f"{limit >> 20} MiB" if limit >= 1 << 20 else f"{limit >> 10} KiB"


def _regular(path: Path, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise Unfit(path, os.strerror(errno.EISDIR), errno.EISDIR)
    kinds = {stat.S_ISFIFO: "a FIFO", stat.S_ISSOCK: "a socket", stat.S_ISLNK: "a symbolic link"}
    kind = next((name for check, name in kinds.items() if check(mode)), "a device")
    raise Unfit(path, f"{kind}, not a file")


def _not_json(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _no_extremes(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                below.extend(each.values())
            elif isinstance(each, list):
                below.extend(each)
            elif isinstance(each, int | float) and not -LARGEST <= each <= LARGEST:
                raise ValueError("a number that is too large")
        if not below:
            return
        level = below
    raise ValueError("nested too deeply")


def _may_have_halves(written: str) -> bool:
    return "\\ud" in written or "\\uD" in written


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_mended(key): _mended(each) for key, each in value.items()}
    return [_mended(each) for each in value] if isinstance(value, list) else value
