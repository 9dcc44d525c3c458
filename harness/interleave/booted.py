# SPDX-License-Identifier: GPL-2.0-or-later
"""The host of an ``interleave`` command: booted, with a journal that is closed in any case."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.run.opened import open_recorder
from harness.run.plan import Plan
from harness.run.session import Session
from harness.run.up import session

TEST = "interleave"  # what fails if the host does not come up


@contextmanager
def booted(plan: Plan) -> Iterator[Session]:
    """Open a run directory and boot the plan's host; when the block ends, write the reports."""
    with open_recorder(plan, TEST) as recorder, session(plan, plan.hosts[0], recorder) as live:
        yield live
