# SPDX-License-Identifier: GPL-2.0-or-later
"""Random programmes of the bare guest, thousands of operations a second, of one vCPU and of both at
once (docs/fuzz.md): ``--duration`` seconds per host, and some for each type of guest."""

from __future__ import annotations

import pytest

from harness.conformance.bare import Bare
from harness.conformance.host import HostDomains
from harness.fuzz.short_hunt import short_hunt
from harness.run.session import Session

_LEAST_SECONDS = 5.0  # for each type: less meets too few windows of a lock


@pytest.mark.xen_only("no programme runs there")
def test_random_programmes(
    xen: Session, host_domains: HostDomains, bare: Bare, request: pytest.FixtureRequest
) -> None:
    asked = xen.plan.duration
    seconds = max(asked / len(host_domains.bare_types), min(asked, _LEAST_SECONDS))

    def artifact(name: str) -> None:
        request.node.user_properties.append(("artifacts", (name,)))

    counts = short_hunt(xen, bare, seconds, artifact)
    assert counts.operations
    xen.recorder.progress.note(
        f"{xen.host.name:12} {bare.type}: {counts.programmes:,} random programmes, "
        f"{counts.operations:,} operations, {counts.concurrent:,} of them concurrent, "
        f"{counts.undecided:,} undecided, {counts.seconds:.0f} s"
    )
