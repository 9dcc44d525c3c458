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
from harness.run.lock_code import TEST as LOCK_CODE
from harness.verdict import BuildError, ConfigError, Verdict, combine

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
    """Return the exit code for ``run``: SKIP where Xen died while it booted, as no test ran.

    As for ``bisect``, what is wrong in the machine code is not what is searched for.
    """
    if run.verdict is Verdict.PASS:
        return GOOD
    tests = [test for host in run.hosts for test in host.tests if test.name != LOCK_CODE]
    failed = [test.name for test in tests if test.verdict is Verdict.FAIL]
    if any(name != BOOT for name in failed):
        return BAD
    if failed:
        return SKIP
    only_that = run.verdict is Verdict.FAIL and combine(t.verdict for t in tests) is Verdict.PASS
    return GOOD if only_that else STOP
