"""Exit codes for ``git bisect run``: what it takes for good, for bad, and for "skip this one"."""

from __future__ import annotations

from collections.abc import Sequence

from harness.arch import Arch
from harness.bisect.tally import BOOT
from harness.hypervisor import flavour as flavours
from harness.hypervisor.build import build
from harness.hypervisor.source import Source
from harness.results.store import Run
from harness.verdict import BuildError, ConfigError, Verdict

GOOD = 0
BAD = 1
SKIP = 125  # the revision cannot be tested
STOP = 255  # git stops at 128 and above; the same command goes on: nothing was marked


def unbuildable(source: Source, flavour: str | None, archs: Sequence[Arch]) -> str:
    """Build ``source``; return why it cannot be tested, "" if it can.

    Without ``flavour`` it is built as it stands.  A patch that does not fit is such a reason.
    """
    try:
        for arch in archs:
            build(source, flavour or flavours.as_it_stands(source.tree), arch)
    except (BuildError, ConfigError) as error:
        return str(error)
    return ""


def code(run: Run) -> int:
    """Return the exit code for ``run``: a Xen that died while booting is none to judge by."""
    if run.verdict is Verdict.PASS:
        return GOOD
    failed = [t.name for host in run.hosts for t in host.tests if t.verdict is Verdict.FAIL]
    if any(name != BOOT for name in failed):
        return BAD
    return SKIP if failed else STOP
