# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes to the bytes of a real file, as a bad disk, a careless person or an attacker makes."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

_NUMBER = re.compile(rb"-?\d+(\.\d+)?")
_WORD = re.compile(rb'"[^"\n]{0,80}"')
_NUMBERS = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1", b"0", b"9" * 400, b"9" * 5000,
    b"18446744073709551616", b"1e308", b".inf", b".nan", b"0x", b"1:1:1", b"",
)  # fmt: skip
_WORDS = (
    b"null", b"[]", b"{}", b"true", b'""', b'"\\ud800"', b'"\\u0000"', b'"\x1b[2J"', b'"[/x]"',
    b'"0001-01-01T00:00:00+23:59"', b'"9999-12-31T23:59:59-23:59"', b'"x.y"', b'"../../../etc"',
    b'"/dev/null/x"', b'"-" * 9', b"[" * 3000, b'{"a":' * 3000, b'"' + b"a" * 70_000 + b'"',
)  # fmt: skip
_INSERTED = (
    b"\0", b"\n", b"\r\n", b"\xff\xfe", b"\xed\xa0\x80", b"\x1b]0;x\x07", b"\xe2\x80\xa8",
    b"&a [*a]", b"<<: *a\n", b"!!bool x", b"!!float ''", b"- " * 200, b"\xff\xfa" * 50,
    b"$" * 100, b"#", b"}", b"(XEN) ",
    b"\nerr errno=999999999999999999999\n", b"bytes=99999999999 ",
)  # fmt: skip

Change = Callable[[bytes, random.Random], bytes]


def mutate(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Return the name of a change, and ``data`` changed by it (and sometimes by a second one)."""
    name = rng.choice(list(CHANGES))
    changed = CHANGES[name](data, rng)
    if rng.random() < 0.15:
        changed = CHANGES[rng.choice(list(CHANGES))](changed, rng)
    return name, changed


def _flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 8])):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _remove(data: bytes, rng: random.Random) -> bytes:
    begin, end = _range(data, rng)
    return data[:begin] + data[end:]


def _zero(data: bytes, rng: random.Random) -> bytes:
    begin, end = _range(data, rng)
    return data[:begin] + bytes(end - begin) + data[end:]


def _double(data: bytes, rng: random.Random) -> bytes:
    begin, end = _range(data, rng)
    return data[:end] + data[begin:end] * rng.choice([1, 2, 50]) + data[end:]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(_INSERTED) + data[at:]


def _noise(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice([1, 9, 300])) + data[at:]


def _number(data: bytes, rng: random.Random) -> bytes:
    return _replace(data, rng, _NUMBER, _NUMBERS)


def _word(data: bytes, rng: random.Random) -> bytes:
    return _replace(data, rng, _WORD, _WORDS)


def _swap(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    if len(lines) > 1:
        one, other = rng.sample(range(len(lines)), 2)
        lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def _lose_line(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    if lines:
        del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def _double_line(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    if lines:
        lines.insert(rng.randrange(len(lines)), rng.choice(lines) * rng.choice([1, 3]))
    return b"".join(lines)


def _endless(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice([b"a", b" ", b"[", b"\0", b"\x1b"]) * 200_000 + data[at:]


CHANGES: dict[str, Change] = {
    "bits": _flip,
    "cut off": _cut,
    "bytes lost": _remove,
    "zeros": _zero,
    "bytes doubled": _double,
    "token": _insert,
    "noise": _noise,
    "number": _number,
    "word": _word,
    "lines swapped": _swap,
    "line lost": _lose_line,
    "line doubled": _double_line,
    "endless": _endless,
}


def _range(data: bytes, rng: random.Random) -> tuple[int, int]:
    begin = rng.randrange(len(data) + 1)
    return begin, min(len(data), begin + rng.choice([1, 3, 30, 500]))


def _replace(
    data: bytes, rng: random.Random, wanted: re.Pattern[bytes], by: tuple[bytes, ...]
) -> bytes:
    found = list(wanted.finditer(data))
    if not found:
        return _insert(data, rng)
    chosen = rng.choice(found)
    return data[: chosen.start()] + rng.choice(by) + data[chosen.end() :]
