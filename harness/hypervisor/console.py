# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen's console: one serial line split into streams, and what its lines say has died.

A line's text says who is to blame; it is the grammar here that keeps a dom0 kernel's
panic from being taken for a fault of the hypervisor.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from harness.hypervisor.console_lines import LONGEST, Lines


class Blame(StrEnum):
    """Whose fault a console event is."""

    HYPERVISOR = "hypervisor"
    DOM0 = "dom0 kernel"
    DOMU = "domU"
    MACHINE = "machine"


@dataclass(frozen=True)
class Event:
    """What one console line says: ``kind`` (a fixed word), who is to blame, the line's text, and
    where it has them the place in Xen's source and the assertion."""

    kind: str
    blame: Blame
    text: str
    file: str = ""
    line: int | None = None
    expression: str = ""


@dataclass(frozen=True)
class _Pattern:
    kind: str
    blame: Blame | None  # None: the domain whose number is the first group
    line: re.Pattern[str]
    dies: bool = True  # False: something is wrong, but nothing is known to have ended


def _xen(
    kind: str, line: str, *, blame: Blame | None = Blame.HYPERVISOR, dies: bool = True
) -> _Pattern:
    return _Pattern(kind, blame, re.compile(line), dies)


def _linux(kind: str, line: str, *, dies: bool = True) -> _Pattern:
    return _Pattern(kind, None, re.compile(line), dies)


_PLACE = r"(?P<file>[^\s:]+)(:(?P<line>\d{1,9})(?!\d))?"

# Texts of xen/arch/{x86,arm}/traps.c, x86/nmi.c, x86_64/traps.c, common/{spinlock,shutdown,
# domain}.c; the first pattern that matches wins.
XEN: tuple[_Pattern, ...] = (
    _xen("assertion", rf"Assertion '(?P<expression>.*)' failed at {_PLACE}"),
    _xen("bug", rf"Xen BUG at {_PLACE}"),
    _xen("lock check", r"CHECKLOCK FAILURE"),
    _xen("watchdog", r"Watchdog timer detects that CPU\d+ is stuck!"),
    _xen("double fault", r"\*\*\* DOUBLE FAULT \*\*\*|DOUBLE FAULT -- system shutdown"),
    _xen("fatal trap", r"FATAL (TRAP|PAGE FAULT)|Early fatal page fault|CPU\d+: Unexpected Trap:"),
    _xen(
        "hardware error",
        r"NMI - (PCI system error|I/O ERROR|MEMORY ERROR)|.*reported a hardware error which",
        blame=Blame.MACHINE,
    ),
    _xen("panic", r"Panic on CPU \d+:"),
    _xen("dom0 crash", r"Hardware Dom\d+ (crashed|shutdown: watchdog)", blame=Blame.DOM0),
    _xen("dom0 crash", r"Hardware Dom\d+ shutdown \(unknown reason", blame=Blame.DOM0),
    _xen("dom0 reboot", r"Hardware Dom\d+ shutdown: rebooting", blame=Blame.DOM0, dies=False),
    _xen("domain crash", r"Domain (\d+) \(vcpu#\d+\) crashed on cpu#\d+", blame=None),
    _xen("domain crash", r"Domain (\d+) reported crashed by domain \d+", blame=None),
    _xen("domain crash", r"d(\d+)v\d+ Triple fault", blame=None),
    _xen("domain watchdog", r"Watchdog timer fired for domain (\d+)", blame=None),
    _xen("domain crash", r"domain_crash called from \S+", blame=Blame.DOMU, dies=False),
    _xen("warning", r"Xen WARN at \S+", dies=False),
    _xen("emulator", r".*SVM Insn len emulation failed", blame=Blame.MACHINE, dies=False),
)

# Texts of Linux 5.10-6.12: kernel/panic.c, kernel/rcu, kernel/watchdog.c, mm/oom_kill.c, arch/.
LINUX: tuple[_Pattern, ...] = (
    _linux("kernel panic", r"Kernel panic - not syncing"),
    _linux("soft lockup", r"(watchdog: )?BUG: (soft|hard|workqueue) lockup", dies=False),
    _linux("kernel bug", r"kernel BUG at \S+"),
    _linux("oops", r"BUG: (unable to handle|kernel NULL pointer|stack guard page)"),
    _linux("oops", r"Unable to handle kernel .* at virtual address"),
    _linux("oops", r"\S.*: [0-9a-f]{4,16} \[#\d+\]"),  # "Oops: 0002 [#1] PREEMPT SMP"
    _linux("out of memory", r"Out of memory: Killed process"),
    _linux("rcu stall", r"(rcu: )?INFO: rcu_\w+ (self-)?detected (expedited )?stall", dies=False),
    _linux("hung task", r"INFO: task \S+ blocked for more than \d+ seconds", dies=False),
)

# What Xen says it panics of when it cannot build dom0 because the machine has too little memory:
# pv/dom0_build.c, arm/domain_build.c.
_TOO_SMALL = re.compile(
    r"Not enough RAM for (DOM0|domain 0)|Unable to allocate first memory bank"
    r"|Failed to allocate requested (dom0|domain) memory"
)

# console_timestamps of Xen, printk.time (and its caller field) of Linux.
_XEN_STAMP = re.compile(r"\[[^\]]*\] ")
_LINUX_STAMP = re.compile(r"\[ *\d+\.\d+\](\[ *[TC]\d+\])? ")


def scan(stream: str, text: str) -> Event | None:
    """Return what line ``text`` of ``stream`` says has died, or None.

    ``stream`` is "xen", "dom0" or a domU's name.
    """
    return _match(stream, text, dies=True)


def explained(event: Event, reason: str) -> Event:
    """Return ``event``, which ends with a colon, with the line that says why, which came after it.

    A machine too small for the dom0 that lab.yaml asks for is no fault of Xen.
    """
    blame = Blame.MACHINE if _TOO_SMALL.match(reason) else event.blame
    return replace(event, text=f"{event.text} {reason}", blame=blame)


def symptom(stream: str, text: str) -> Event | None:
    """Return what ``text`` says is going wrong without proof of a death (a stall, a WARN).

    A hung hypervisor prints nothing: a stall in dom0 may be all that is heard of it.
    """
    return _match(stream, text, dies=False)


def _match(stream: str, text: str, *, dies: bool) -> Event | None:
    patterns, stamp = (XEN, _XEN_STAMP) if stream == "xen" else (LINUX, _LINUX_STAMP)
    head = stamp.match(text)
    body = text[head.end() :] if head else text
    for pattern in patterns:
        found = pattern.line.match(body)
        if found is None:
            continue
        if pattern.dies is not dies:
            return None
        domain = found[1] if pattern.blame is None and stream == "xen" else stream
        blame = pattern.blame or (Blame.DOM0 if domain in ("0", "dom0") else Blame.DOMU)
        named = found.groupdict()
        line = named.get("line")
        return Event(
            pattern.kind,
            blame,
            body.strip(),
            named.get("file") or "",
            int(line) if line else None,
            named.get("expression") or "",
        )
    return None


# Xen's own lines, and those it prints for a domU (a debug build does, loglevel permitting).
_XEN_MARK = re.compile(rb"\(XEN\) |^(?=\(d\d+\) )")


class Splitter:
    """Splits what comes over the serial line into lines of Xen and lines of dom0.

    Xen starts its lines with "(XEN) " wherever dom0's output happens to be; the rest of
    dom0's line follows after Xen's.  What the firmware says before Xen counts as Xen's.

    >>> Splitter().feed(b"(XEN) up\\nlog(XEN) hello\\r\\nin: \\n")
    [('xen', 'up'), ('xen', 'hello'), ('dom0', 'login: ')]
    """

    def __init__(self) -> None:
        self._lines = Lines()
        self._dom0 = b""  # of a dom0 line that Xen broke into
        self._booted = False

    def feed(self, chunk: bytes) -> list[tuple[str, str]]:
        """Take the next bytes; return (stream, line) for every line they complete."""
        return [
            line for raw, ended in self._lines.feed(chunk) for line in self._split(raw, ended=ended)
        ]

    def flush(self) -> list[tuple[str, str]]:
        """Return what is left when the line has ended."""
        rest = self._lines.flush()
        lines = self._split(rest, ended=False) if rest else []
        if self._dom0:
            lines.append(("dom0", _text(self._dom0)))
        self._dom0 = b""
        return lines

    def _split(self, raw: bytes, *, ended: bool) -> list[tuple[str, str]]:
        mark = _XEN_MARK.search(raw)
        if mark:
            before, after = raw[: mark.start()], raw[mark.end() :]
            head = [] if self._booted or not _text(before) else [("xen", _text(before))]
            self._dom0 += before if self._booted else b""
            self._booted = True
            return [*head, *self._too_long(), ("xen", _text(after))]
        if not self._booted:
            return [("xen", _text(raw))]
        self._dom0 += raw
        if not ended:
            return self._too_long()
        line, self._dom0 = self._dom0, b""
        return [("dom0", _text(line))]

    def _too_long(self) -> list[tuple[str, str]]:
        """Return what has come of dom0's line, as a line, if that is too long already."""
        if len(self._dom0) < LONGEST:
            return []
        line, self._dom0 = self._dom0, b""
        return [("dom0", _text(line))]


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace").rstrip("\r")
