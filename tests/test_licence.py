# SPDX-License-Identifier: GPL-2.0-or-later
"""Every source file says its licence in an SPDX line at its head."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LICENCE = "SPDX-License-Identifier: GPL-2.0-or-later"
XEN = "SPDX-License-Identifier: GPL-2.0-only"  # what derives from Xen's source

_COMMENTS = {
    **dict.fromkeys((".c", ".h", ".S", ".lds"), f"/* {LICENCE} */"),
    **dict.fromkeys((".py", ".sh", ".toml", ".yaml", ".yml"), f"# {LICENCE}"),
    **dict.fromkeys(("Makefile", "init", "stage1", "run"), f"# {LICENCE}"),
    ".j2": f"{{# {LICENCE} -#}}",  # nothing of it reaches what is rendered
}
_DATA = frozenset({"entry.yaml"})  # a few words, no source


def files() -> list[Path]:
    """Return the committed files of this project that have something in them."""
    words = ["git", "-C", str(ROOT), "ls-files", "-z"]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    found = (ROOT / name for name in listed.split("\0") if name)
    return [path for path in found if path.is_file() and path.stat().st_size]


def comment(path: Path) -> str | None:
    """Return the line that ``path`` has to have at its head; None if it needs none."""
    if path.name in _DATA:
        return None
    return _COMMENTS.get(path.suffix or path.name)


def has(path: Path, line: str) -> bool:
    """Say whether ``line`` is the first of ``path``, or the second after a ``#!``."""
    first, _, rest = path.read_text().partition("\n")
    return line == (rest.partition("\n")[0] if first.startswith("#!") else first)


@pytest.fixture(scope="module")
def ours() -> list[Path]:
    try:
        return files()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")


def test_every_source_file_has_its_line(ours: list[Path]) -> None:
    lacking = [path for path in ours if (line := comment(path)) and not has(path, line)]
    assert [str(path.relative_to(ROOT)) for path in lacking] == []


def test_every_patch_to_xen_says_so_before_its_first_hunk(ours: list[Path]) -> None:
    patches = [path for path in ours if path.suffix == ".patch"]
    assert patches
    for path in patches:
        assert XEN in path.read_text().partition("\ndiff --git ")[0].splitlines(), path
