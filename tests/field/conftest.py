# SPDX-License-Identifier: GPL-2.0-or-later
"""The cases of tests/field: those in its own folder, and those of a folder given by --field."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.field.case import Case, read

_OURS = Path(__file__).with_name("cases")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--field DIR``."""
    parser.addoption(
        "--field", metavar="DIR", type=Path, help="more cases: NAME.* with NAME.expected.txt"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each case."""
    if "case" in metafunc.fixturenames:
        given: Path | None = metafunc.config.getoption("--field")
        cases: list[Case] = [*read(_OURS), *(read(given) if given else [])]
        metafunc.parametrize("case", cases, ids=lambda case: case.name)
