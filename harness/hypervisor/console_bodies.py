# SPDX-License-Identifier: GPL-2.0-or-later
"""A console's line as it comes, and the lines of Xen or Linux that are in it.

On the way to us a line gets company: colours, the stamps of a console server or of syslog, a
prompt that waits at the cursor, a second line because an end of line was lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Body:
    """What one line of Xen or Linux says; ``is_kernels``: only the kernel's log begins like it."""

    text: str
    is_kernels: bool = False


# Colours and cursor positions (ECMA-48), window titles and questions to the terminal, character
# sets (ECMA-35), and what else no text has.
_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[]PX^_][^\x07\x1b]*(\x07|\x1b\\)?|\x1b[ -/]+[0-~]|\x1b."
    r"|[\x00-\x08]"
)
# console_timestamps of Xen in all of its forms.
_XEN_STAMP = re.compile(r"\[[^\]]*\] ")
# printk.time of Linux, with printk's caller field.
_TIME = r"\[ *\d+\.\d+\](\[ *[TC]\d+(@C\d+)?\])? "
_KERNEL_STAMP = re.compile(_TIME)
_DATE = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d([.,]\d+)?(Z|[+-]\d\d:?\d\d)?"
_DAY = r"([A-Z][a-z]{2} )?[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d( \d{4})?"
# Of console servers and terminal programs, and of `ts`.
_HOUR = r"\d\d:\d\d:\d\d([.,]\d+)?"
_FOREIGN_STAMP = re.compile(
    rf"\[?({_DATE}|{_DAY}|(\d\d/\d\d/(\d\d)?\d\d )?{_HOUR}|\d{{10}}\.\d+)\]?:?( +\|)? +"
)
# Of syslog and journald, when they write the kernel's log to the console.
_SYSLOG = re.compile(rf"({_DATE}|{_DAY}|\[ *\d+\.\d+\]) \S+ kernel: ")
_LEVEL = re.compile(r"<\d{1,2}>")  # printk's, on a console that shows it
_WALL = re.compile(r" ?kernel:(?=\S)")  # of syslogd, to everybody who is logged in
_EARLY = re.compile(r"\(early\) ")  # of Linux's console on Xen before hvc0 is there
_LOGIN = re.compile(r"\S+ login: ")
# What may stand before a kernel's line: getty's and a shell's prompt, and words of a program that
# has not ended its line yet; but a program that quotes the kernel's log says "name: " before it.
_PROMPT = re.compile(r"(^|\s)(\S*login: |Password: ?|\S*[#$>%] ?)$")
_QUOTES = re.compile(r"[:=|,;'\"(]\s*$")
_LOOK = 200  # characters
_WHOLE_STAMP = re.compile(r"\[(?=[ \d.]{12,}\]) *\d+\.\d{6}\]")  # printk's "[%5lu.%06lu]"


def xen_bodies(text: str) -> Iterator[Body]:
    """Yield the lines of Xen in ``text``, without time stamps and colours."""
    for piece in _CONTROL.sub("", text).split("\r"):
        stamp = _FOREIGN_STAMP.match(piece)
        piece = piece[stamp.end() :] if stamp else piece
        stamp = _XEN_STAMP.match(piece)
        yield Body(piece[stamp.end() :] if stamp else piece)


def linux_bodies(text: str) -> Iterator[Body]:
    """Yield the lines of Linux in ``text``, without what came with them.

    >>> next(linux_bodies("dom0 login: [   12.5] Kernel panic"))
    Body(text='Kernel panic', is_kernels=True)
    """
    for piece in _CONTROL.sub("", text).split("\r"):
        for line in _kernel_lines(piece):
            yield _bare(line)


def _kernel_lines(text: str) -> Iterator[str]:
    """Cut ``text`` where a kernel's line begins behind a prompt, or behind another such line."""
    cuts = [0]
    for stamp in _KERNEL_STAMP.finditer(text):
        before = text[cuts[-1] : stamp.start()]
        if before.strip() and _may_stand_before(before, stamp[0]):
            cuts.append(stamp.start())
    for begin, end in pairwise([*cuts, len(text)]):
        yield text[begin:end]


def _may_stand_before(words: str, stamp: str) -> bool:
    head, tail = words[:_LOOK], words[-_LOOK:]  # of a line without an end, not all of it each time
    if _PROMPT.search(tail) or _bare(head).is_kernels:
        return True
    return _WHOLE_STAMP.match(stamp) is not None and not _QUOTES.search(tail)


def _bare(text: str) -> Body:
    """Return ``text`` without the stamps at its head, in whatever order they are there."""
    is_kernels = False
    while True:
        for stamp in (_SYSLOG, _KERNEL_STAMP, _LEVEL, _EARLY, _WALL):
            if head := stamp.match(text):
                is_kernels = True
                break
        else:
            head = _FOREIGN_STAMP.match(text) or _LOGIN.match(text)
        if not head:
            return Body(text, is_kernels)
        text = text[head.end() :]
