# SPDX-License-Identifier: GPL-2.0-or-later
"""Event channels under load: in every domain, threads send while others close and bind ports."""

from __future__ import annotations

import pytest

from harness.run.load import Load


def test_load(load: Load, request: pytest.FixtureRequest) -> None:
    """Channels within each domain, dom0 <-> domU and domU <-> domU; the model judges everything."""
    request.node.user_properties.append(("artifacts", load.artifacts))
    load.judge(load.run())
