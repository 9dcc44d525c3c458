# SPDX-License-Identifier: GPL-2.0-or-later
"""The condition of a litmus test: which final states it asks for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from harness.binary.litmus.outside import OutsideError


@dataclass(frozen=True)
class Register:
    """A register of a thread, by its 64-bit name."""

    thread: int
    name: str


@dataclass(frozen=True)
class Word:
    """A word of memory: element ``index`` of the array or variable ``symbol``."""

    symbol: str
    index: int = 0


Place = Register | Word
# Says whether a place holds a number, or the address of a symbol.
Holds = Callable[[Place, int | str], bool]
Formula = Callable[[Holds], bool]

_TOKEN = re.compile(r"\s*(/\\|\\/|!=|[()=~\[\]:]|-?0x[0-9a-fA-F]+|-?\d+|[A-Za-z_][\w.]*|\S)")


def condition(text: str) -> Formula:
    """Read what stands behind exists, ~exists or forall: "1:X0=1 /\\ (x=2 \\/ ~y=0)"."""
    reader = _Reader(_TOKEN.findall(text))
    formula = reader.either()
    if reader.tokens:
        raise OutsideError(f"a condition with {reader.tokens[0]}")
    return formula


def number(text: str) -> int:
    """Read a decimal or hexadecimal number."""
    return int(text, 0) if "x" in text.lower() else int(text)


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens

    def either(self) -> Formula:
        parts = [self.both()]
        while self._take("\\/"):
            parts.append(self.both())
        return lambda holds: any(part(holds) for part in parts)

    def both(self) -> Formula:
        parts = [self.one()]
        while self._take("/\\"):
            parts.append(self.one())
        return lambda holds: all(part(holds) for part in parts)

    def one(self) -> Formula:
        if self._take("~") or self._take("not"):
            inner = self.one()
            return lambda holds: not inner(holds)
        if self._take("("):
            inner = self.either()
            self._expect(")")
            return inner
        if self._take("true"):
            return lambda _: True
        if self._take("false"):
            return lambda _: False
        where = self.place()
        wanted = not self._take("!=")
        if wanted:
            self._expect("=")
        if wanted and isinstance(where, Word) and self._take("{"):
            return self._elements(where.symbol)
        what = self._value()
        return lambda holds: holds(where, what) is wanted

    def _elements(self, symbol: str) -> Formula:
        """What stands behind "x={": the elements of an array."""
        elements = [self._value()]
        while self._take(","):
            elements.append(self._value())
        self._expect("}")
        places = [Word(symbol, index) for index in range(len(elements))]
        return lambda holds: all(map(holds, places, elements))

    def place(self) -> Place:
        if self._take("["):
            found = self.place()
            self._expect("]")
            return found
        name = self._next()
        if name.isdigit():
            self._expect(":")
            return Register(int(name), wide(self._next()))
        if not name.replace("_", "a").isalnum():
            raise OutsideError(f"a condition with {name}")
        if not self._take("["):
            return Word(name)
        index = self._next()
        self._expect("]")
        return Word(name, number(index))

    def _value(self) -> int | str:
        text = self._next()
        if text.lstrip("-")[:1].isdigit():
            if self.tokens[:1] == [":"]:
                raise OutsideError("a label as a value")
            return number(text)
        if not text.isidentifier() or self.tokens[:1] in ([":"], ["["]):
            raise OutsideError("a value that is neither a number nor an address")
        return text

    def _take(self, token: str) -> bool:
        if self.tokens[:1] != [token]:
            return False
        del self.tokens[0]
        return True

    def _expect(self, token: str) -> None:
        if not self._take(token):
            found = self.tokens[0] if self.tokens else "its end"
            raise OutsideError(f"a condition with {found} where {token} should be")

    def _next(self) -> str:
        if not self.tokens:
            raise OutsideError("a condition that ends early")
        return self.tokens.pop(0)


def wide(name: str) -> str:
    """Return the 64-bit name of a general register: "x3" of "W3"."""
    lower = name.lower()
    if not re.fullmatch(r"[wx]\d+", lower):
        raise OutsideError(f"register {name}")
    return f"x{lower[1:]}"
