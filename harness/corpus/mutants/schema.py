# SPDX-License-Identifier: GPL-2.0-or-later
"""Many mutants in one Xen: which one is on, a variable in Xen's memory says ("mutant schemata",
Untch, Offutt and Harrold 1993).

    return a > b;    becomes    return (evtchn_mutated(7) ? (a >= b) : (a > b));
    smp_wmb();       becomes    { if ( !evtchn_mutated(8) ) smp_wmb(); }

``evtchn_mutants.on`` is 0 in Xen's data: no mutant is on.  With WATCH in it none is on either, and
Xen notes in ``evtchn_mutants.met`` which places it comes by.  No line moves, but in event.h, by
one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.corpus.mutants.choose import Mutant

VARIABLE = "evtchn_mutants"  # a structure: sign, on, met
SIGN = 0x6D757461  # its first four bytes, little endian
ON_AT = 4  # its second four bytes: the number of the mutant that is on
MET_AT = 8  # a byte for each number: 1 where Xen has come by
WATCH = 0xFFFF_FFFF

HEADER = "xen/include/xen/evtchn_mutants.h"
_HEADER = """\
/* Made by evtchn-harness: which mutant of the event channels is on. */
#ifndef __XEN_EVTCHN_MUTANTS_H__
#define __XEN_EVTCHN_MUTANTS_H__

#include <xen/types.h>

#define EVTCHN_MUTANTS {count}U
#define EVTCHN_MUTANTS_WATCH {watch:#x}U

/* A fault that reads what nobody has set is one, and Xen treats each warning as an error. */
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

extern struct evtchn_mutants {{
    unsigned int sign, on;
    unsigned char met[EVTCHN_MUTANTS + 1];
}} {variable};

static inline bool evtchn_mutated(unsigned int number)
{{
    unsigned int on = *(const volatile unsigned int *)&{variable}.on;

    if ( on == 0 )
        return false;
    if ( on != number && on != EVTCHN_MUTANTS_WATCH )
        return false;
    *(volatile unsigned char *)&{variable}.met[number] = 1;
    return on == number;
}}

#endif
"""
_DEFINITION = """
struct evtchn_mutants {variable} = {{ .sign = {sign:#x} }};
"""
_EVENT_H, _EVENT_C = "xen/include/xen/event.h", "xen/common/event_channel.c"
_INCLUDE_BEFORE = re.compile(rb"^#include <xen/sched\.h>$", re.MULTILINE)
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


def schema(texts: Mapping[str, bytes], mutants: Sequence[Mutant]) -> dict[str, bytes]:
    """Return the texts of the files of a Xen that has all of ``mutants``; the new header is one."""
    made = {
        name: rendered(text, [one for one in mutants if one.file == name])
        for name, text in texts.items()
    }
    count = max((one.number for one in mutants), default=0)
    include = b"#include <xen/evtchn_mutants.h>\n"
    header = made[_EVENT_H]
    found = _INCLUDE_BEFORE.search(header)
    at = found.start() if found else 0
    made[_EVENT_H] = header[:at] + include + header[at:]
    made[_EVENT_C] += _DEFINITION.format(variable=VARIABLE, sign=SIGN).encode()
    made[HEADER] = _HEADER.format(count=count, watch=WATCH, variable=VARIABLE).encode()
    return made


def patch(texts: Mapping[str, bytes], mutants: Sequence[Mutant]) -> str:
    """Return the patch that makes the Xen with all of ``mutants`` of the flavoured tree."""
    parts: list[str] = []
    for name, text in schema(texts, mutants).items():
        before = texts.get(name, b"").decode(errors="surrogateescape").splitlines(True)
        after = text.decode(errors="surrogateescape").splitlines(True)
        old = f"a/{name}" if name in texts else "/dev/null"
        parts += difflib.unified_diff(before, after, old, f"b/{name}")
    return "".join(parts)


@dataclass(frozen=True)
class _Place:
    """The mutants that change the same bytes, and the places inside."""

    start: int
    end: int
    mutants: tuple[Mutant, ...]


def rendered(text: bytes, mutants: Iterable[Mutant]) -> bytes:
    """Return ``text`` with every one of ``mutants`` behind the variable."""
    spans: dict[tuple[int, int], list[Mutant]] = {}
    for one in mutants:
        spans.setdefault((one.fault.start, one.fault.end), []).append(one)
    places = [_Place(*span, tuple(ones)) for span, ones in spans.items()]
    # Outer ones first: of two that begin at one byte, the longer.
    places.sort(key=lambda place: (place.start, -place.end))
    return _rendered(text, 0, len(text), places)


def _rendered(text: bytes, start: int, end: int, places: Sequence[_Place]) -> bytes:
    """Return the bytes ``start`` to ``end`` with ``places``, which are inside, in their order."""
    made, at, rest = b"", start, list(places)
    while rest:
        outer = rest.pop(0)
        inside = []
        while rest and rest[0].end <= outer.end:
            inside.append(rest.pop(0))
        original = _rendered(text, outer.start, outer.end, inside)
        for one in outer.mutants:
            original = _guarded(one, original)
        made += text[at : outer.start] + original
        at = outer.end
    return made + text[at:end]


def _guarded(mutant: Mutant, original: bytes) -> bytes:
    fault = mutant.fault
    call = f"evtchn_mutated({mutant.number})".encode()
    mutated = one_line(fault.mutated).encode()
    if fault.form == "condition":  # of a pointer as well: both sides must be of one type
        return b"(%s ? !!(%s) : !!(%s))" % (call, mutated, original)
    if fault.form == "expression":
        return b"(%s ? (%s) : (%s))" % (call, mutated, original)
    if not mutated:
        return b"{ if ( !%s ) %s }" % (call, original)
    return b"{ if ( %s ) { %s } else { %s } }" % (call, mutated, original)


def one_line(said: str) -> str:
    """Return C code as one line, without comments: so no line of the file moves."""
    return " ".join(_COMMENT.sub(" ", said).split())
