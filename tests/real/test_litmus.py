# SPDX-License-Identifier: GPL-2.0-or-later
"""Litmus tests on a bare guest under QEMU: the outcomes that the debugger can bring about by moving
accesses are those that the Armv8 model allows, all of them and no others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.litmus.machine import Machine, built, running
from tests.real.litmus.shapes import SHAPES, Shape

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("litmus")
    with running(built(SHAPES, folder), folder) as machine:
        yield machine


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_the_machine_shows_what_the_model_allows(
    machine: Machine, shape: Shape, tmp_path: Path
) -> None:
    assert machine.outcomes(shape) == shape.model(tmp_path)
