# SPDX-License-Identifier: GPL-2.0-or-later
"""Read a litmus test as herdtools7 writes it ("AArch64 MP ..."), and the lists of answers.

A file has a head, initial values in braces, one column of instructions for each thread, and a
condition on the final state.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.binary.litmus.condition import Formula, condition, number, wide
from harness.binary.litmus.outside import OutsideError

_BYTES = {
    "int": 4, "int8_t": 1, "uint8_t": 1, "int16_t": 2, "uint16_t": 2, "int32_t": 4,
    "uint32_t": 4, "int64_t": 8, "uint64_t": 8,
}  # fmt: skip
_QUANTIFIER = re.compile(r"^\s*(~\s*exists|exists|forall|filter|locations)\b", re.M)
_ITEM = re.compile(
    r"(?:(?P<type>\w+)\s+)?(?:(?P<thread>\d+)\s*:\s*(?P<register>\w+)|(?P<word>\[?\w+\]?))"
    r"\s*(?:\[(?P<count>\d*)\])?\s*(?:=\s*(?P<value>\{[^}]*\}|[^;{}]+))?\s*"
)


@dataclass
class Initial:
    """What registers and memory hold at first."""

    registers: dict[tuple[int, str], int | str] = field(default_factory=dict)  # str: an address
    words: dict[str, list[int]] = field(default_factory=dict)  # by symbol: its elements
    element: dict[str, int] = field(default_factory=dict)  # bytes of one, where it is declared
    width: dict[tuple[int, str], int] = field(default_factory=dict)  # bytes, of declared registers


@dataclass(frozen=True)
class HerdTest:
    """One test."""

    name: str
    threads: tuple[tuple[str, ...], ...]  # lines of assembly
    initial: Initial
    quantifier: str  # "exists", "~exists" or "forall"
    formula: Formula


def read_test(path: Path) -> HerdTest:
    """Read one file; OutsideError if it is written in a way that is not understood."""
    text = re.sub(r"\(\*.*?\*\)", " ", path.read_text(errors="replace"), flags=re.S)
    head, brace, rest = text.partition("{")
    words = head.split()
    if not brace or not words or words[0] != "AArch64":
        raise OutsideError("a file that is no test of AArch64")
    if re.search(r"^\s*variant\s*=", head, re.I | re.M):
        raise OutsideError("a variant of the architecture")
    initial, body = _braced(rest)
    end = _QUANTIFIER.search(body)
    if end is None:
        raise OutsideError("no condition")
    quantifier, formula = _asked(body[end.start() :])
    threads = _threads(body[: end.start()])
    return HerdTest(words[1], threads, _initial(initial), quantifier, formula)


def read_kinds(path: Path) -> Mapping[str, bool]:
    """Return, by the name of each test of a kinds.txt, whether its outcome is observable.

    Lines as "MP+dmb.sys Forbidden"; Required (of a forall) counts as allowed.
    """
    found = {}
    for line in path.read_text(errors="replace").splitlines():
        fields = line.split()
        if len(fields) == 2 and not line.startswith("#"):
            found[fields[0]] = not fields[1].startswith("Forbid")
    return found


def read_expected(path: Path) -> tuple[Formula, ...]:
    """Return the final states that herd's output lists, each as a condition."""
    lines = path.read_text(errors="replace").splitlines()
    start = next((n for n, line in enumerate(lines) if line.startswith("States ")), None)
    if start is None:
        raise OutsideError("an expected output without states")
    if any(line.startswith("Loop ") for line in lines):
        raise OutsideError("a loop that herd itself does not unroll")
    count = int(lines[start].split()[1])
    states = lines[start + 1 : start + 1 + count]
    return tuple(condition(" /\\ ".join(_holding(state)) or "true") for state in states)


def _holding(state: str) -> list[str]:
    """Return the parts of a line as "0:X0=1; [x]=2;"."""
    return [part for part in state.split(";") if part.strip()]


# -- the parts of a file -------------------------------------------------------------------


def _braced(text: str) -> tuple[str, str]:
    depth = 1
    for at, letter in enumerate(text):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if not depth:
            return text[:at], text[at + 1 :]
    raise OutsideError("initial values without an end")


def _threads(body: str) -> tuple[tuple[str, ...], ...]:
    rows = [row.split("|") for row in body.split(";") if row.strip()]
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise OutsideError("columns of different lengths")
    if any(not re.fullmatch(r"\s*P\d+\s*", cell) for cell in rows[0]):
        raise OutsideError("a thread that is more than a column")
    columns = zip(*rows[1:], strict=True) if len(rows) > 1 else [()] * len(rows[0])
    return tuple(tuple(cell.strip() for cell in column if cell.strip()) for column in columns)


def _asked(text: str) -> tuple[str, Formula]:
    text = re.sub(r"locations\s*\[[^\]]*(\[[^\]]*\][^\]]*)*\]", "", text).strip().rstrip(";")
    if not text:
        return "forall", condition("true")
    match = re.match(r"(~\s*exists|exists|forall)\b(.*)", text, re.S)
    if match is None:
        raise OutsideError("a condition that is no exists, ~exists or forall")
    return match[1].replace(" ", ""), condition(match[2])


def _initial(text: str) -> Initial:
    made = Initial()
    for item in text.split(";"):
        if item.strip():
            _add(made, item.strip())
    return made


def _add(made: Initial, item: str) -> None:
    match = _ITEM.fullmatch(item)
    if match is None:
        raise OutsideError("an initial value that is no number and no address")
    size = _BYTES.get(match["type"] or "int")
    if size is None:
        raise OutsideError(f"type {match['type']}")
    value = (match["value"] or "0").strip()
    if match["register"]:
        key = int(match["thread"]), wide(match["register"])
        if match["type"]:
            made.width[key] = size
        made.registers[key] = _value(value)
        return
    symbol = match["word"].strip("[]")
    if match["type"]:
        made.element[symbol] = size
    values = value.strip("{}").split(",") if match["count"] is not None else [value]
    numbers = [_value(one.strip()) for one in values]
    if any(isinstance(one, str) for one in numbers):
        raise OutsideError("an address in memory")
    made.words[symbol] = [one for one in numbers if isinstance(one, int)]


def _value(text: str) -> int | str:
    if re.fullmatch(r"-?(0x[0-9a-fA-F]+|\d+)", text):
        return number(text)
    if re.fullmatch(r"&?[A-Za-z_]\w*", text):
        return text.lstrip("&")
    raise OutsideError("an initial value that is no number and no address")
