# SPDX-License-Identifier: GPL-2.0-or-later
"""What QEMU's emulation does otherwise than Xen: each is shown by a few hypercalls."""

from __future__ import annotations

import json

import pytest

from harness.conformance.bare import Bare
from harness.conformance.emulated import Shown, show
from harness.model.evtchn.qemu import TABLE, Divergence
from harness.results.directory import write_whole
from harness.run.emulation import Emulation


@pytest.fixture(scope="module")
def told() -> list[Shown]:
    """Those that were shown in this run."""
    return []


@pytest.mark.parametrize("divergence", TABLE, ids=lambda each: each.name)
def test_divergence(
    xen: Emulation,
    bare: Bare,
    divergence: Divergence,
    told: list[Shown],
    request: pytest.FixtureRequest,
) -> None:
    shown = show(bare, divergence)
    model = bare.domains.model
    assert divergence.row in {row for _, row in model.differences}, "Xen does the same"
    told.append(shown)
    first, second = shown.lines
    xen.recorder.progress.note(f"{first}\n    {second}")
    file = xen.recorder.directory.path / "divergences.json"
    request.node.user_properties.append(("artifacts", (file.name,)))
    document = [
        {
            "name": each.divergence.name,
            "function": each.divergence.function,
            "says": each.divergence.says,
            "hypercalls": each.lines[1],
        }
        for each in told
    ]
    write_whole(file, json.dumps(document, indent=1) + "\n")
