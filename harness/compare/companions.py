# SPDX-License-Identifier: GPL-2.0-or-later
"""Companion fixes: whoever backports one of them to an old branch needs the others as well.

``images/xen/companions.yaml`` lists them, each with a regular expression that a tree with the
fix matches.  A commit id would not do: a backport has another one, and a package has none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from harness.config import bounded_yaml
from harness.hypervisor.flavour import SHELF
from harness.verdict import HarnessError

TABLE = SHELF / "companions.yaml"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Fix(_Model):
    """A commit of Xen, and how to recognize a tree that has it."""

    commit: str
    what: str
    file: str
    has: str  # regular expression that matches the text of ``file`` in such a tree


class Need(_Model):
    """A tree that has ``fix`` needs ``needs``, too."""

    fix: str
    needs: str
    why: str


class Table(_Model):
    """The content of companions.yaml."""

    fixes: tuple[Fix, ...]
    needs: tuple[Need, ...]


@dataclass(frozen=True)
class MissingCompanion:
    """A tree has ``fix``, but not the companion that this one needs."""

    fix: Fix
    companion: Fix
    why: str


def read_table(path: Path = TABLE) -> Table:
    """Return the table in ``path``; HarnessError, not ConfigError, if it is wrong: it is ours."""
    try:
        read = Table.model_validate(bounded_yaml.read(path))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise HarnessError(str(error).splitlines()[0], where=str(path)) from error
    known = {fix.commit for fix in read.fixes}
    for need in read.needs:
        if unknown := {need.fix, need.needs} - known:
            raise HarnessError(f"no fix {unknown.pop()} in the table", where=str(path))
    return read


def missing_companions(tree: Path, known: Table) -> list[MissingCompanion]:
    """Return the companions that the Xen in ``tree`` lacks."""
    fixes = {fix.commit: fix for fix in known.fixes}
    there = {name for name, fix in fixes.items() if _has(tree, fix)}
    return [
        MissingCompanion(fixes[need.fix], fixes[need.needs], need.why)
        for need in known.needs
        if need.fix in there and need.needs not in there
    ]


def _has(tree: Path, fix: Fix) -> bool:
    try:
        text = (tree / fix.file).read_text(errors="replace")
    except OSError:
        return False
    return re.search(fix.has, text) is not None
