# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the test cases: the guests that make the hypercalls."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.agent.client import AgentClient
from harness.run.session import Session
from harness.wanted import dom0_is_enough


@pytest.fixture(params=["dom0", "domu1"])
@dom0_is_enough("dom0")
def guest(request: pytest.FixtureRequest, xen: Session) -> Iterator[AgentClient]:
    """The agent in dom0, then the one in a domU.  It closes its ports when the test has ended."""
    if request.param not in xen.agents:
        pytest.skip(xen.why_no_tools or f"this host has no {request.param}")
    agent = xen.agents[request.param]
    yield agent
    if not xen.lost:
        assert agent.release() == [], "ports that Xen does not report as closed"


@pytest.fixture
def peers(xen: Session) -> Iterator[tuple[AgentClient, AgentClient]]:
    """The agents in dom0 and in a domU.  They close their ports when the test has ended."""
    if "domu1" not in xen.agents:
        pytest.skip(xen.why_no_tools or "this host has no domU")
    pair = xen.agents["dom0"], xen.agents["domu1"]
    yield pair
    for agent in () if xen.lost else pair:
        assert agent.release() == [], f"{agent.name}: ports that Xen does not report as closed"
