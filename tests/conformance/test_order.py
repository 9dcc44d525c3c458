# SPDX-License-Identifier: GPL-2.0-or-later
"""The order of the conformance tests: as few bare guests as possible have to be started."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

_SUITE = Path(__file__).parents[2] / "testcases/conformance"


@pytest.fixture(scope="module")
def suite() -> ModuleType:
    spec = importlib.util.spec_from_file_location("conftest_of_conformance", _SUITE / "conftest.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class _Item:
    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    ends: bool = False

    @property
    def callspec(self) -> SimpleNamespace:
        return SimpleNamespace(params=self.params)

    def get_closest_marker(self, name: str) -> object | None:
        return object() if self.ends and name == "ends_bare" else None


def test_a_type_of_guest_after_the_other_and_last_what_ends_it(suite: ModuleType) -> None:
    def bare(name: str, type_: str, ends: bool = False) -> _Item:
        return _Item(f"{name} {type_}", {"bare_type": type_, "booted": "a"}, ends)

    items = [bare("use", type_) for type_ in ("pvh", "hvm", "pv", "shim")]
    items += [_Item("linux", {"booted": "a"})]
    items += [bare("dying", type_, ends=True) for type_ in ("pvh", "hvm", "pv")]
    items += [bare("random", type_) for type_ in ("pvh", "hvm", "pv")]
    items += [_Item("linux too", {"booted": "a"})]
    assert [item.name for item in suite._few_guests(items)] == [
        *("linux", "linux too"),
        *("use pvh", "random pvh", "dying pvh"),
        *("use hvm", "random hvm", "dying hvm"),
        *("use pv", "random pv", "dying pv"),
        "use shim",
    ]


def test_the_tests_of_a_host_stay_together(suite: ModuleType) -> None:
    items = [
        _Item("1", {"booted": "x", "bare_type": "pvh"}),
        _Item("2", {"booted": "x"}),
        _Item("3", {"booted": "arm", "bare_type": "arm"}),
        _Item("4", {"booted": "arm"}),
    ]
    assert [item.name for item in suite._few_guests(items)] == ["2", "1", "4", "3"]


def test_each_test_that_destroys_the_guest_says_so() -> None:
    for file in _SUITE.glob("test_*.py"):
        tests = re.split(r"\n\n\n", file.read_text())
        for test in tests:
            assert ("host_domains.destroy(" in test) == ("@pytest.mark.ends_bare" in test), file
