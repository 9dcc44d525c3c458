# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose fault it is that a domain does not come up, where Xen answers as it should."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TypeVar

from harness.evidence import BringUp, Crash
from harness.run.came_up import CameUp
from harness.verdict import HypervisorError, LabError

Booted = TypeVar("Booted")


@contextmanager
def twice(
    boot: Callable[[], AbstractContextManager[Booted]],
    known: CameUp,
    note: Callable[[str], None],
) -> Iterator[Booted]:
    """Yield what ``boot`` yields; boot a second time if dom0 or a domU does not come up, although
    the same images came up with another Xen on this host.

    HypervisorError if one does not come up in the second boot either.  If they never came up, the
    LabError of the first boot: then nobody knows whether it is Xen's fault.
    """
    with contextlib.ExitStack() as stack:
        try:
            live = stack.enter_context(boot())
        except LabError as first:
            seen = not_up(first)
            elsewhere = known.elsewhere(domus=seen.domain != "dom0") if seen else ""
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
            seen = not_up(second)
            if seen is None:
                raise
            both = replace(seen, tries=2, elsewhere=elsewhere)
            raise HypervisorError(both, story=second.story) from second
        yield live


def not_up(error: LabError) -> BringUp | None:
    """Return which domain did not come up, by ``error``; None if something else has failed (the
    machine is gone, say).  A panic of a domain's kernel is a step in its coming up."""
    match error.evidence:
        case BringUp(domain=domain) as seen if domain:
            return seen
        case Crash(stream=domain, what=what, text=text) if domain != "xen":
            stage = "boot" if domain == "dom0" else "domains"
            reason = f"{what}: {text}"
            return BringUp(stage=stage, domain=domain, step="kernel", reason=reason)
        case _:
            return None
