# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of event channels, as a flavour of a tree has them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.hypervisor.event_channels import FILES, flavoured
from harness.hypervisor.flavour import Flavour
from harness.verdict import ConfigError

TEXT = "#include <xen/event.h>\n\nint toy;\n"
SCHED = "xen/include/xen/sched.h"


def source(tree: Path, *names: str) -> Any:
    """Return a tree whose files ``names`` are TEXT."""
    for name in names:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(TEXT)
    return SimpleNamespace(tree=tree)


def counter(folder: Path, *names: str) -> Flavour:
    """Return a flavour that defines TOY in each of ``names``."""
    patch = folder / "a.patch"
    hunk = "@@ -1,3 +1,4 @@\n #include <xen/event.h>\n+#define TOY\n \n int toy;\n"
    patch.write_text("".join(f"--- a/{name}\n+++ b/{name}\n{hunk}" for name in names))
    return Flavour("counter", (patch,))


def test_a_tree_is_read_with_the_flavours_patches_and_stays_as_it_is(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    found = flavoured(source(tree, *FILES[:2], SCHED), counter(tmp_path, FILES[0], SCHED))
    patched = TEXT.replace("\n", "\n#define TOY\n", 1).encode()
    assert found == {FILES[0]: patched, FILES[1]: TEXT.encode()}
    assert (tree / FILES[0]).read_text() == TEXT


def test_a_tree_without_sources_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no xen/common/event_channel\.c"):
        flavoured(source(tmp_path, SCHED), Flavour("rwlock", ()))


def test_a_patch_that_does_not_fit_is_told(tmp_path: Path) -> None:
    tree = source(tmp_path / "tree", FILES[0])
    (tree.tree / FILES[0]).write_text("int other;\n")
    with pytest.raises(ConfigError, match="does not fit") as told:
        flavoured(tree, counter(tmp_path, FILES[0]))
    assert told.value.where == str(tmp_path / "a.patch")
