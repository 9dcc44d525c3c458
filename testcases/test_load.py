"""Event channels under load: every domain sends while others close and bind the same ports."""

from __future__ import annotations

import pytest

from harness.run.load import Load


def test_load(load: Load, request: pytest.FixtureRequest) -> None:
    """Loopback, dom0 <-> domU and domU <-> domU at once; the model judges all of it."""
    request.node.user_properties.append(("artifacts", load.artifacts))
    load.judge(load.run())
