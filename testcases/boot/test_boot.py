# SPDX-License-Identifier: GPL-2.0-or-later
"""The host comes up: no test of Xen beyond what bring-up itself is (``bisect --test boot``)."""

from __future__ import annotations

from harness.run.session import Session


def test_every_domain_answers(xen: Session) -> None:
    for agent in xen.agents.values():
        assert agent.ticks() > 0
