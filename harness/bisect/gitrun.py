# SPDX-License-Identifier: GPL-2.0-or-later
"""``run --bisect-run``: the exit codes by which ``git bisect run`` marks a revision."""

from __future__ import annotations

from collections.abc import Sequence

from harness.arch import Arch
from harness.bisect.observations import BOOT
from harness.hypervisor import flavour as flavours
from harness.hypervisor.build import build
from harness.hypervisor.recipe import How
from harness.hypervisor.source import Source
from harness.results.store import Run
from harness.verdict import BuildError, ConfigError, Verdict

GOOD = 0
BAD = 1
SKIP = 125  # the revision cannot be tested
STOP = 255  # git stops at 128 and above and marks nothing, so the same command resumes it


def unbuildable(source: Source, flavour: str | None, archs: Sequence[Arch], how: How) -> str:
    """Build ``source``; return why that failed (a patch that does not apply, say), "" if it did
    not.

    Without ``flavour`` it is built as it stands.
    """
    try:
        for arch in archs:
            build(source, flavour or flavours.AS_IT_STANDS, arch, how)
    except (BuildError, ConfigError) as error:
        return str(error)
    return ""


def exit_code(run: Run) -> int:
    """Return the exit code for ``run``: SKIP where Xen died while it booted, as no test ran."""
    if run.verdict is Verdict.PASS:
        return GOOD
    failed = [t.name for host in run.hosts for t in host.tests if t.verdict is Verdict.FAIL]
    if any(name != BOOT for name in failed):
        return BAD
    return SKIP if failed else STOP
