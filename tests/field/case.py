# SPDX-License-Identifier: GPL-2.0-or-later
"""A case: something from the field as a file, and beside it in words the outcome that is right."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_EXPECTED = ".expected.txt"


@dataclass(frozen=True)
class Case:
    """One case; ``wanted`` is the text of NAME.expected.txt, ``path`` the file NAME.*."""

    name: str
    path: Path
    wanted: str

    @property
    def text(self) -> str:
        """The input as text."""
        return self.path.read_text(encoding="utf-8")


def read(folder: Path) -> list[Case]:
    """Return the cases in ``folder``, by name; AssertionError if one is not whole.

    "as NAME" for an outcome means that of the other case whose name begins so.
    """
    found: dict[str, Case] = {}
    for expected in sorted(folder.glob(f"*{_EXPECTED}")):
        name = expected.name.removesuffix(_EXPECTED)
        inputs = [path for path in folder.glob(f"{name}.*") if path != expected]
        assert len(inputs) == 1, f"{name} needs one input, it has {len(inputs)}"
        wanted = expected.read_text(encoding="utf-8").strip()
        if wanted.startswith("as "):
            wanted = next(
                case.wanted for case in found.values() if case.name.startswith(wanted[3:])
            )
        found[name] = Case(name, inputs[0], wanted)
    assert found, f"no cases in {folder}"
    return list(found.values())
