# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose fault it is that dom0 does not come up, where Xen was found to answer as it should."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TypeVar

from harness.evidence import BringUp
from harness.run import dom0_steps
from harness.run.came_up import CameUp
from harness.verdict import HypervisorError, LabError

Booted = TypeVar("Booted")


@contextmanager
def twice(
    boot: Callable[[], AbstractContextManager[Booted]],
    known: CameUp,
    note: Callable[[str], None],
) -> Iterator[Booted]:
    """Yield what ``boot`` yields; boot a second time if dom0 does not come up, although the same
    images came up with another Xen on this host.

    HypervisorError if it does not come up in the second boot either.  If they never came up, the
    LabError of the first boot: then nobody knows whether it is Xen's fault.
    """
    with contextlib.ExitStack() as stack:
        try:
            live = stack.enter_context(boot())
        except LabError as first:
            elsewhere = known.elsewhere() if dom0_steps.is_dom0s(first) else ""
            if not elsewhere:
                raise
            note(f"{first}; trying once more: with another Xen the same came up ({elsewhere})")
            live = stack.enter_context(_again(boot, elsewhere))
        yield live


@contextmanager
def _again(boot: Callable[[], AbstractContextManager[Booted]], elsewhere: str) -> Iterator[Booted]:
    with contextlib.ExitStack() as stack:
        try:
            live = stack.enter_context(boot())
        except LabError as second:
            if not dom0_steps.is_dom0s(second):
                raise
            seen = replace(_bring_up(second), tries=2, elsewhere=elsewhere)
            raise HypervisorError(seen, story=second.story) from second
        yield live


def _bring_up(error: LabError) -> BringUp:
    """Return the evidence of ``error``; a panic of dom0's kernel is one of its steps."""
    if isinstance(error.evidence, BringUp):
        return error.evidence
    return BringUp(stage="boot", step="kernel", reason=error.what)
