# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds that cannot behave differently have the same content, whatever their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import cache
from harness.arch import Arch
from harness.hypervisor.build import build
from harness.hypervisor.loaded_sections import digest_loaded
from harness.hypervisor.source import from_dir

from .tree import make_tree


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    return make_tree(tmp_path / "xen-tree")


def of(tree: Path) -> tuple[str, str]:
    """Return the content of what ``tree`` builds, and its build id."""
    made = build(from_dir(tree), "rwlock", Arch.X86_64)
    return digest_loaded(made.syms, made.build_id, made.source.digest), made.build_id


def change(tree: Path, old: str, new: str) -> None:
    file = tree / "xen/main.c"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def test_a_remark_changes_nothing_that_runs(tree: Path) -> None:
    # What Xen does with its changeset: the name of the source is in the image.
    scm = """\
const char changeset[] = CHANGESET;
const unsigned short for_efi[] = u"" CHANGESET;
"""
    makefile = tree / "xen/Makefile"
    makefile.write_text(
        makefile.read_text().replace(
            "$(CC) $(CFLAGS)", "$(CC) -DCHANGESET='\"$(shell cat ../.scmversion)\"' $(CFLAGS)"
        )
    )
    main = tree / "xen/main.c"
    main.write_text(main.read_text() + scm)
    before, id_before = of(tree)
    change(tree, scm, scm + "/* a remark */\n")
    after, id_after = of(tree)
    assert after == before
    assert id_after != id_before  # Xen would tell them apart
    change(tree, "*lock += 8192;", "*lock += 8193;")
    assert of(tree)[0] != before


def test_a_constant_counts(tree: Path) -> None:
    before, _ = of(tree)
    change(tree, "static int counter;", "static int counter = 3;")
    assert of(tree)[0] != before
