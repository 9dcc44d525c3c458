# SPDX-License-Identifier: GPL-2.0-or-later
"""Read YAML that others wrote: its size, its aliases and its values have limits."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from harness import bounded

LARGEST_FILE = 256 << 10  # bytes; PyYAML takes some seconds for them
_VALUES = 100_000  # in a file, with every alias written out


def read(path: Path) -> Any:
    """Return what the YAML file ``path`` says; OSError, ValueError or YAMLError if it is none."""
    return value(node(bounded.text(path, LARGEST_FILE)))


def node(written: str) -> yaml.Node | None:
    """Return the node of the YAML text ``written``, None if it is empty; YAMLError, ValueError.

    Its aliases, written out, must not make more than 100,000 values.
    """
    try:
        root = yaml.compose(written, Loader=yaml.SafeLoader)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if root is not None and _values(root) > _VALUES:
        raise ValueError(f"more than {_VALUES:,} values, with its aliases written out")
    return root


def value(root: yaml.Node | None) -> Any:
    """Return what ``root`` says; YAMLError, or ValueError for a value that YAML cannot have."""
    if root is None:
        return None
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(root)
    except (yaml.YAMLError, ValueError):
        raise
    except Exception as error:  # PyYAML's own: KeyError for `!!bool x`, OverflowError for year 1
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(f"an impossible value ({type(error).__name__}: {reason})") from None
    finally:
        loader.dispose()


def _values(root: yaml.Node) -> float:
    """Return how many values ``root`` has with aliases written out.

    A node that contains itself counts as often as it is written: who reads it says so.
    """
    counted: dict[int, float] = {}
    left: list[tuple[yaml.Node, bool]] = [(root, False)]
    while left:
        node, below_done = left.pop()
        if below_done:
            total = 1 + sum(counted.get(id(each), 1) for each in _below(node))
            counted[id(node)] = min(total, math.inf)
        elif id(node) not in counted:
            counted[id(node)] = 1  # until those below are counted
            left.append((node, True))
            left.extend((each, False) for each in _below(node))
    return counted[id(root)]


def _below(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if isinstance(node, yaml.MappingNode):
        return [each for pair in node.value for each in pair]
    return []
