# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen's console: one serial line split into streams, and what its lines say has died.

A line's text says who is to blame; it is the grammar here that keeps a dom0 kernel's
panic from being taken for a fault of the hypervisor.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from harness.hypervisor.console_bodies import linux_bodies, xen_bodies
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
    kernels: bool = False  # True: only where no program can have written the line


def _xen(
    kind: str, line: str, *, blame: Blame | None = Blame.HYPERVISOR, dies: bool = True
) -> _Pattern:
    return _Pattern(kind, blame, re.compile(line), dies)


def _linux(
    kind: str,
    line: str,
    *,
    blame: Blame | None = None,
    dies: bool = True,
    kernels: bool = False,
) -> _Pattern:
    return _Pattern(kind, blame, re.compile(line), dies, kernels)


_PLACE = r"(?P<file>[^\s:]+)(:(?P<line>\d{1,9})(?!\d))?"
_OLD_PLACE = r"line (?P<line>\d{1,9}), file (?P<file>\S+)"  # until 4.4, in a debug build

# Traps 2 (NMI) and 18 (machine check) in the words of every release: "vector = 2 (nmi)" up to 4.12,
# "vec 2, NMI[0000]" since, with FRED "type 2, NMI, vec 2, NMI".
_OUTSIDE = r"FATAL TRAP: (vector = (2|18)\b|(type \d+, [^,]*, )?vec (2|18),)"
# Its name until 4.4, and since.
_DOM0 = r"(Hardware Dom\d+|Domain 0)"

# Texts of xen/arch/{x86,arm}/traps.c, x86/nmi.c, x86_64/traps.c, x86/cpu/mcheck/mce.c, common/
# {spinlock,shutdown,domain}.c, common/ubsan/ubsan.c; the first pattern that matches wins.
XEN: tuple[_Pattern, ...] = (
    _xen("assertion", rf"Assertion '(?P<expression>.*)' failed at {_PLACE}"),
    _xen("assertion", rf"Assertion '(?P<expression>.*)' failed, {_OLD_PLACE}"),
    _xen("bug", rf"Xen BUG at {_PLACE}"),
    _xen("lock check", r"CHECKLOCK FAILURE"),
    _xen("watchdog", r"Watchdog timer detects that CPU\d+ is stuck!"),
    _xen("double fault", r"\*\*\* DOUBLE FAULT \*\*\*|DOUBLE FAULT -- system shutdown"),
    _xen("fatal trap", _OUTSIDE, blame=Blame.MACHINE),
    _xen("fatal trap", r"FATAL (TRAP|PAGE FAULT)|Early fatal page fault|CPU\d+: Unexpected Trap:"),
    _xen(
        "hardware error",
        r"NMI - (PCI system error|I/O ERROR|MEMORY ERROR)|.*reported a hardware error which"
        r"|Uhhuh\. NMI received for unknown reason|Fatal machine check: "
        r"|Unexpected Machine Check Exception",
        blame=Blame.MACHINE,
    ),
    # Also printed of errors that the machine has corrected.
    _xen("hardware error", r"CPU\d+: Machine Check Exception: ", blame=Blame.MACHINE, dies=False),
    _xen("panic", r"Panic on CPU \d+:"),
    _xen("dom0 crash", rf"{_DOM0} (crashed:|shutdown: watchdog)", blame=Blame.DOM0),
    _xen("dom0 crash", rf"{_DOM0} shutdown \(unknown reason", blame=Blame.DOM0),
    _xen("dom0 reboot", rf"{_DOM0} shutdown: rebooting", blame=Blame.DOM0, dies=False),
    _xen(
        "dom0 reboot",
        r"Hardware domain \d+ did unsupported soft reset",
        blame=Blame.DOM0,
        dies=False,
    ),
    _xen("domain crash", r"Domain (\d+) \(vcpu#\d+\) crashed on cpu#\d+", blame=None),
    _xen("domain crash", r"Domain (\d+) reported crashed by domain \d+", blame=None),
    _xen("domain crash", r"d(\d+)v\d+ Triple fault", blame=None),
    _xen("domain watchdog", r"Watchdog timer fired for domain (\d+)", blame=None),
    _xen("domain crash", r"domain_crash(_sync)? called from \S+", blame=Blame.DOMU, dies=False),
    _xen("warning", r"Xen WARN at \S+", dies=False),
    _xen("warning", r"UBSAN: Undefined behaviour in \S+", dies=False),  # from 4.19 on it may panic
    _xen("emulator", r".*SVM Insn len emulation failed", blame=Blame.MACHINE, dies=False),
)

# Die strings of arch/x86/kernel/traps.c and mm/fault.c, arch/arm64/kernel/traps.c: before the error
# code and the number of the oops.
_DIE = (
    r"(Oops|Internal error|general protection fault|invalid opcode|divide error|int3|bounds"
    r"|stack segment|segment not present|invalid TSS|alignment check|double fault)\b"
)

# What Linux panics of, or says, when the machine reports an error of its own: arch/x86/kernel/
# {nmi,cpu/mce/core}.c, drivers/acpi/apei/ghes.c, drivers/edac/edac_mc.c, drivers/watchdog/hpwdt.c.
_FATAL_ERRORS = (
    r"(Fatal [Mm]achine check|Machine check|Fatal (local )?hardware error|Fatal hardware error!"
    r"|Timeout: Not all CPUs entered broadcast exception handler|Some CPUs didn't answer in sync"
    r"|Uncorrected hardware memory error|EDAC |UE row|An NMI occurred|NMI: Not continuing"
    r"|NMI IOCK error|Memory parity|Processor context corrupt|LMCE)"
)
_ERRORS = (
    r"(mce: |EDAC \S+: |\{\d+\})?\[Hardware Error\]: |EDAC \S+: \d+ [CU]E "
    r"|(Uhhuh\. )?NMI(:| received) (PCI system error|IOCK error|memory parity|for unknown reason)"
)

# Texts of Linux 4.9-6.18: kernel/panic.c, kernel/rcu, kernel/watchdog.c, kernel/locking/lockdep.c,
# mm/{oom_kill,page_alloc,slub,kasan/report,kmsan/report}.c, lib/ubsan.c, arch/.
LINUX: tuple[_Pattern, ...] = (
    _linux("kernel panic", rf"Kernel panic - not syncing: {_FATAL_ERRORS}", blame=Blame.MACHINE),
    _linux("kernel panic", r"Kernel panic - not syncing"),
    _linux("hardware error", _ERRORS, blame=Blame.MACHINE, dies=False, kernels=True),
    _linux("soft lockup", r"((NMI )?watchdog: )?BUG: (soft|workqueue) lockup", dies=False),
    _linux(
        "hard lockup", r"((NMI )?watchdog: )?(CPU\d+: )?Watchdog detected hard LOCKUP", dies=False
    ),
    _linux("kernel bug", r"kernel BUG at \S+"),
    _linux("oops", r"BUG: (unable to handle|kernel NULL pointer|(\S+ )?stack guard page)"),
    _linux("oops", r"(traps: )?PANIC: double fault"),
    _linux("oops", r"Unable to handle kernel .* at virtual address"),
    _linux("oops", rf"{_DIE}.*: [0-9a-f]{{1,16}} \[#\d+\]"),  # "Oops: 0002 [#1] PREEMPT SMP"
    _linux("oops", r"\S.*: [0-9a-f]{4,16} \[#\d+\]", kernels=True),
    _linux("kernel bug", r"BUG: (Bad (page|rss-counter)|K(A|M|C)SAN: |KFENCE: )", dies=False),
    _linux("kernel bug", r"BUG \S+ \((Not tainted|Tainted: .*)\): ", dies=False),  # slub
    _linux(
        "kernel bug",
        r"BUG: (scheduling while atomic|sleeping function called|(spin|rw)lock|using \w+\(\) in"
        r"|non-zero pgtables_bytes|workqueue leaked|Dentry )",
        dies=False,
    ),
    _linux(
        "warning",
        r"WARNING: (CPU: \d+ PID: \d+ at \S+|\S+:\d+ at \S+, CPU#\d+: |possible |suspicious "
        r"|bad unlock balance |inconsistent lock state|lock held when |stack recursion)",
        dies=False,
    ),
    _linux("warning", r"\[ (BUG|INFO|WARNING): .+ \]$", dies=False, kernels=True),  # lockdep
    _linux("warning", r"UBSAN: \S+", dies=False, kernels=True),
    _linux("out of memory", r"Out of memory: Kill(ed)? process"),
    _linux("rcu stall", r"(rcu: )?INFO: rcu_\w+ (self-)?detected (expedited )?stall", dies=False),
    _linux("rcu stall", r"rcu: rcu_\w+ kthread (starved|timer wakeup)", dies=False),
    _linux("hung task", r"INFO: task .+:\d+ blocked .*for more than \d+ seconds", dies=False),
)

# What Xen says it panics of when it cannot build dom0 because the machine has too little memory:
# x86/{setup,dom0_build,pv/dom0_build}.c, arm/{domain_build,kernel}.c.
_TOO_SMALL = re.compile(
    r"Not enough RAM for (DOM0|domain 0)|Unable to allocate first memory bank"
    r"|Failed to allocate (requested (dom0|domain)|contiguous) memory"
    r"|Domain 0 allocation is too small for kernel image"
    r"|Dom0 allocation too small for initial P->M table"
    r"|Not enough memory (in the first bank|to relocate)|Not enough space for xenheap"
    r"|Unable to allocate memory for (Dom0 e820 map|relocating the Device-Tree)"
    r"|Unable to find suitable location for (the kernel|dtb)"
)
# And when the machine or its boot loader does not give what the command line asks for: x86/setup.c,
# common/kernel.c, passthrough/{iommu,vtd/iommu}.c, x86/domain.c.
_LACKING = re.compile(
    r"Couldn't enable \S+ and iommu=(required|force)|DMAR hardware malfunction"
    r"|(dom0|Dom0) kernel not specified|Missing kernel boot module for "
    r"|Neither HAP nor Shadow available for PVH|Presently, iommu must be enabled for PVH"
    r"|Bootloader (provided no memory information|didn't honor module alignment)"
)
# What it says it panics of when an NMI or a machine check came that it did not cause.
_FROM_OUTSIDE = re.compile(rf"{_OUTSIDE}|HARDWARE ERROR")


def scan(stream: str, text: str) -> Event | None:
    """Return what line ``text`` of ``stream`` says has died, or None.

    ``stream`` is "xen", "dom0" or a domU's name.
    """
    return _match(stream, text, dies=True)


def explained(event: Event, reason: str) -> Event:
    """Return ``event``, which ends with a colon, with the line that says why, which came after it.

    A machine too small for the dom0 that lab.yaml asks for is no fault of Xen, nor is an NMI that
    the machine or its operator sent.  (Xen's own watchdog says that it is stuck before its NMI.)
    """
    outside = any(pattern.match(reason) for pattern in (_TOO_SMALL, _LACKING, _FROM_OUTSIDE))
    blame = Blame.MACHINE if outside else event.blame
    return replace(event, text=f"{event.text} {reason}", blame=blame)


def advice(event: Event) -> str:
    """Return what to do about a crash that Xen is not to blame for, or that says nothing itself."""
    if _TOO_SMALL.search(event.text):
        return "the machine is too small: give dom0 less (dom0_memory_mib in lab.yaml)"
    if _LACKING.search(event.text):
        return "the machine, its firmware or boot.xen_args in lab.yaml lacks what Xen asks for"
    if event.blame is Blame.MACHINE:
        return "it came from outside of Xen: see the machine's own log (SEL, iLO, iDRAC)"
    if event.kind == "reset":
        return "if Xen did not do it: see the machine's own log for its watchdog and its power"
    return ""


def symptom(stream: str, text: str) -> Event | None:
    """Return what ``text`` says is going wrong without proof of a death (a stall, a WARN).

    A hung hypervisor prints nothing: a stall in dom0 may be all that is heard of it.
    """
    return _match(stream, text, dies=False)


def _match(stream: str, text: str, *, dies: bool) -> Event | None:
    """Return the first event that a line in ``text`` reports, of those that die, or do not."""
    is_xen = stream == "xen"
    for body in xen_bodies(text) if is_xen else linux_bodies(text):
        for pattern in XEN if is_xen else LINUX:
            found = pattern.line.match(body.text)
            if found is None or (pattern.kernels and not body.is_kernels):
                continue
            if pattern.dies is dies:
                return _event(pattern, stream, found, body.text)
            break
    return None


def _event(pattern: _Pattern, stream: str, found: re.Match[str], body: str) -> Event:
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


_MARK = b"(XEN) "


def _interleaved(first: bytes, second: bytes) -> set[bytes]:
    """Return every way in which the bytes of both can alternate, each in its own order."""
    if not first or not second:
        return {first + second}
    ahead = {first[:1] + rest for rest in _interleaved(first[1:], second)}
    return ahead | {second[:1] + rest for rest in _interleaved(first, second[1:])}


def _any_of(words: set[bytes]) -> bytes:
    """Return a regular expression for ``words``, none of which begins with another, as a tree."""
    heads = sorted({word[:1] for word in words if word})
    parts = [re.escape(head) + _any_of({w[1:] for w in words if w[:1] == head}) for head in heads]
    return b"(?:" + b"|".join(parts) + b")" if len(parts) > 1 else b"".join(parts)


# Xen's own lines, and those of two CPUs that print at once (console_force_unlock: nobody waits any
# more).
_XEN_MARK = re.compile(_any_of({_MARK} | (_interleaved(_MARK, _MARK) - {_MARK + _MARK})))
# Lines that Xen prints for a domU (a debug build does, loglevel permitting).
_DOMU_MARK = re.compile(rb"(?=\(d\d+\) )")


class Splitter:
    """Splits what comes over the serial line into lines of Xen and lines of dom0.

    Xen starts its lines with "(XEN) " wherever dom0's output happens to be; the rest of
    dom0's line follows after Xen's.  What the firmware says before Xen counts as Xen's; with
    ``up`` Xen has spoken before.

    >>> Splitter().feed(b"(XEN) up\\nlog(XEN) hello\\r\\nin: \\n")
    [('xen', 'up'), ('xen', 'hello'), ('dom0', 'login: ')]
    """

    def __init__(self, *, up: bool = False) -> None:
        self._lines = Lines()
        self._dom0 = b""  # of a dom0 line that Xen broke into
        self._booted = up

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
        mark = _DOMU_MARK.match(raw) or _XEN_MARK.search(raw)
        if mark:
            before, after = raw[: mark.start()], raw[mark.end() :]
            head = [] if self._booted or not _text(before) else [("xen", _text(before))]
            self._dom0 += before if self._booted else b""
            self._booted = True
            # Where an end of line was lost, one line of Xen's follows another.
            again = [("xen", _text(line)) for line in _XEN_MARK.split(after)]
            return [*head, *self._too_long(), *again]
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
